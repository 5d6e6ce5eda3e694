//! The conservation ledger: every unit of loss has exactly one payer, or is residual.
//!
//! What counts as loss, for each unit that the plan may touch:
//!
//! * **own margin** (tier liquidate): of each close against the market, the realised loss (price, slippage and funding,
//!   as the venue moves it from the position to cash) plus the fee, less whatever part of it the unit's equity could not
//!   have paid without the help of later tiers earlier in the same plan;
//! * **shortfall**: how far its equity stands below zero at the mark when the plan begins, plus what each close adds to
//!   that (slippage) or takes away (a price better than the mark). Fund, deleveraging and socialised loss pay for it,
//!   and what is left at the end is the residual.
//!
//! So a loss that deleveraging or a draw has paid is never booked as own margin again, and
//! Σ own margin + Σ shortfall = Σ absorbed + residual, to the unit.

use std::collections::BTreeMap;

use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

use super::{Tier, state::Violation};
use crate::types::decimal;

/// How one plan shares the loss, settlement-token units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The loss to be absorbed.
    #[serde(with = "decimal")]
    pub shortfall: U256,
    /// By whom.
    #[serde(with = "decimal::map")]
    pub absorbed: BTreeMap<Tier, U256>,
    /// What nobody could pay for now.
    #[serde(with = "decimal")]
    pub residual: U256,
    /// What the fund pays back of earlier losses. No part of the sum above: those losses were booked when they were borne.
    #[serde(with = "decimal", default)]
    pub returned: U256,
}

/// The books of a plan do not balance; it must not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Imbalance {
    /// The sums differ.
    #[error("absorbed {absorbed} + residual {residual} is not the shortfall {shortfall}")]
    Total {
        /// The loss, as the replay of the steps finds it.
        shortfall: U256,
        /// Sum over the tiers, as the steps claim it.
        absorbed: U256,
        /// See [`Ledger`].
        residual: U256,
    },
    /// A step does not absorb what it says.
    #[error("step {step} says it absorbs {claimed}, but absorbs {actual}")]
    Step {
        /// Its place in the plan, from 0.
        step: usize,
        /// What it says.
        claimed: U256,
        /// What the replay finds.
        actual: U256,
    },
    /// A tier's line is not the sum of its steps.
    #[error("the ledger says tier {tier} absorbs {claimed}, but its steps absorb {actual}")]
    TierTotal {
        /// Which.
        tier: Tier,
        /// What the ledger says.
        claimed: U256,
        /// What its steps say.
        actual: U256,
    },
    /// What is paid back is not the sum of its steps.
    #[error("the ledger says {claimed} is paid back, but its steps pay {actual}")]
    Returned {
        /// What the ledger says.
        claimed: U256,
        /// What its steps say.
        actual: U256,
    },
    /// A step cannot be done on these books.
    #[error("step {step}: {why}")]
    Impossible {
        /// Its place in the plan, from 0.
        step: usize,
        /// Why.
        why: Violation,
    },
    /// No plan can be made of, or held against, this case.
    #[error(transparent)]
    Case(#[from] Violation),
}
