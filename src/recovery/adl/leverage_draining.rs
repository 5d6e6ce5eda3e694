//! Leverage-draining: the highest leverage left behind is as small as whole lots allow.
//!
//! k = (lots − L · equity / price)⁺ with Σ k = demand: Campbell, Hey, Moallemi and Nutz (arXiv 2603.15963), the
//! risk-neutral optimum for one market with isolated margin. What is kept is filled like water up to the leverage L, so
//! that the exact integer form is the same search, over what stays instead of what goes. Equity is taken before the loss.

use alloy::primitives::U256;

use super::{AdlPolicy, Demand, chosen, water::Ramps};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct LeverageDraining;

impl AdlPolicy for LeverageDraining {
    fn name(&self) -> &'static str {
        "leverage_draining"
    }

    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)> {
        let most = demand.candidates.iter().map(|c| c.lots_max);
        let kept = most.clone().fold(U256::ZERO, |sum, lots| sum + lots).saturating_sub(demand.lots);
        let kept = Ramps::by_remainder(demand).fill(kept);
        chosen(most.zip(kept).map(|(most, kept)| most.saturating_to::<u64>() - kept))
    }
}
