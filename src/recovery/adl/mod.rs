//! Deleveraging policies: who of the winners is closed, and how many lots of each.
//!
//! Invariants of every policy: no candidate beyond its `lots_max`, so that nobody pays more than it can; together as many
//! lots as demanded, or all that the candidates have; a deterministic function of the set of candidates, ties by unit
//! key, whatever order they are listed in.
//!
//! | word | takes | optimises | splitting an account |
//! |---|---|---|---|
//! | `min_max` | the largest accounts, each up to the level | the highest burden, then the number of accounts | may hide it |
//! | `water_filling` | everybody with equity, up to one level | the highest burden, and no smaller one needlessly | changes nothing |
//! | `water_filling_profit` | everybody, up to one part of its profit | the largest part of a profit taken | changes nothing |
//! | `leverage_draining` | the most levered, down to one leverage | the highest leverage left behind | changes nothing |
//! | `pro_rata` | everybody by profit | proportionality, as near as lots allow | changes nothing |
//! | `pro_rata_size` | everybody by lots | the same | changes nothing |
//! | `risk_aware` | everybody by profit · leverage² | the same, weighed by what the account risks next | changes nothing |
//! | `queue` | whole accounts, highest profit / equity first | nothing: a ranking | changes its place little |
//! | `queue_index` | whole accounts, highest entry/mark · leverage first | nothing: a ranking | the same |
//! | `queue_profit` | whole accounts, largest profit first | the number of accounts, nearly | hides it |
//!
//! "Changes nothing" is meant but for the lots that rounding moves. Sources: `docs/designs/007-adl-policies.md`.

mod leverage_draining;
mod min_max;
mod pro_rata;
mod queue;
#[cfg(test)]
mod tests;
mod water;

use std::{cmp::Ordering, fmt};

use alloy::primitives::{U256, U512};
pub use leverage_draining::LeverageDraining;
pub use min_max::{MinMax, WaterFilling, WaterFillingProfit};
pub use pro_rata::{ProRata, ProRataSize, RiskAware};
pub use queue::{Queue, QueueIndex, QueueProfit};

use crate::types::UnitKey;

/// A winner that may be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub unit: UnitKey,
    /// Whether it gains when the price falls.
    pub short: bool,
    /// Its position, without sign.
    pub lots: U256,
    /// Lots it may be closed by: its position, or fewer where it could not pay for more.
    pub lots_max: U256,
    /// Unrealised profit of the position, settlement-token units.
    pub profit: U256,
    /// The most it may pay: its profit, or its surplus where that is less.
    pub capacity: U256,
    /// Value of the whole position at the mark.
    pub notional: U256,
    /// Its equity over all markets, as it is now.
    pub equity: U256,
    /// What it has paid for others already in this plan, and its equity no longer contains.
    pub borne: U256,
}

/// The lots that must be closed in one market, and by whom they may be.
#[derive(Clone, Copy, Debug)]
pub struct Demand<'a> {
    /// The winners of the market, in any order.
    pub candidates: &'a [Candidate],
    /// Lots to close.
    pub lots: U256,
    /// What all those lots lose together, settlement-token units: each lot its part.
    pub loss: U256,
    /// The highest burden that the same crisis has already put on somebody: up to there, fewer hands may be preferred.
    pub accepted: Burden,
}

/// The part of its equity that an account pays for others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Burden {
    /// What it pays, settlement-token units.
    pub paid: U256,
    /// Its equity before.
    pub equity: U256,
}

impl Ord for Burden {
    /// Who pays nothing bears nothing, with equity or without.
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.paid.is_zero(), other.paid.is_zero()) {
            (false, false) => {
                let [ours, theirs]: [U512; 2] =
                    [self.paid.widening_mul(other.equity), other.paid.widening_mul(self.equity)];
                ours.cmp(&theirs)
            }
            (ours, theirs) => theirs.cmp(&ours),
        }
    }
}

impl PartialOrd for Burden {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Burden {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Burden {}

/// A rule for choosing. Lots are below 2^64, as a case is limited.
pub trait AdlPolicy: fmt::Debug + Sync {
    /// The config word.
    fn name(&self) -> &'static str;

    /// How many lots of whom, in the order they are charged: pairs of an index into the candidates and lots > 0, each
    /// candidate at most once.
    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)>;
}

/// Policies are what they are called: each name is registered once.
impl PartialEq for dyn AdlPolicy {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn AdlPolicy {}

/// The registry: one line a policy.
const POLICIES: [&dyn AdlPolicy; 10] = [
    &MinMax,
    &WaterFilling,
    &WaterFillingProfit,
    &LeverageDraining,
    &ProRata,
    &ProRataSize,
    &RiskAware,
    &Queue,
    &QueueIndex,
    &QueueProfit,
];

/// The policy a config word names.
pub fn adl_policy(word: &str) -> Option<&'static dyn AdlPolicy> {
    POLICIES.into_iter().find(|policy| policy.name() == word)
}

/// Every policy's config word.
pub fn adl_policy_words() -> impl Iterator<Item = &'static str> {
    POLICIES.into_iter().map(|policy| policy.name())
}

/// What is chosen of each candidate, without those of whom nothing is.
fn chosen(lots: impl IntoIterator<Item = u64>) -> Vec<(usize, U256)> {
    lots.into_iter().enumerate().filter(|(_, lots)| *lots > 0).map(|(index, lots)| (index, U256::from(lots))).collect()
}
