//! What a keeper may do to a segment as a whole, beside what concerns one unit: shut its gate, pay back its claims.
//!
//! A protocol that offers none of it leaves [`Measures`] at its default.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

use super::PoolCase;
use crate::types::{MarketId, UnitKey};

/// See the module. Amounts are settlement-token units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// The gate before withdrawals; `None` where there is none.
    pub gate: Option<Gate>,
    /// What the fund owes those who paid for others beyond its means, by unit, none of them 0.
    pub claims: BTreeMap<UnitKey, U256>,
    /// The round of restitution that is under way.
    pub round: Option<Round>,
    /// The shared backstop pool behind the segment; `None` where the deployment is in none.
    pub pool: Option<PoolCase>,
    /// Prices seen lately in each market, in its own terms, at a steady pace, oldest first.
    pub prices: BTreeMap<MarketId, Vec<Observation>>,
    /// What the fund paid lately, oldest first.
    pub payments: Vec<Observation>,
    /// Whether this block brought a new one of the prices.
    pub observed: bool,
}

impl Measures {
    /// Whether there is something to do here although nobody is in distress: the fund may pay `spendable`.
    pub fn is_due(&self, block: u64, spendable: U256) -> bool {
        let shut = self.gate.is_some_and(|gate| gate.is_shut(block));
        shut || self.observed || (!self.claims.is_empty() && !spendable.is_zero())
    }
}

/// A figure and when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// The block's time, Unix seconds.
    pub at: u64,
    /// The figure.
    pub value: U256,
}

/// A gate that shuts withdrawals for a number of blocks and then opens by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Withdrawals are refused before this block; 0: not shut.
    pub shut_until: u64,
    /// How many blocks one shutting lasts.
    pub lasts_blocks: u64,
}

impl Gate {
    /// Whether the block after this one still refuses withdrawals.
    pub fn is_shut(self, block: u64) -> bool {
        block.saturating_add(1) < self.shut_until
    }
}

/// A round in which each claimant is paid once, at most ceil(budget · claim / base).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// What the round pays in all.
    pub budget: U256,
    /// All claims when it opened.
    pub base: U256,
    /// What it may still pay.
    pub unpaid: U256,
    /// Who was paid in it.
    pub paid: BTreeSet<UnitKey>,
}
