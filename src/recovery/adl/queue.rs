//! The queue of most exchanges: the highest profit × leverage is closed first, and wholly, before the next.

use std::cmp::Reverse;

use alloy::primitives::{U256, U512};

use super::{AdlPolicy, Candidate};

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct Queue;

impl AdlPolicy for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn allot(&self, candidates: &[Candidate], lots: U256) -> Vec<(usize, U256)> {
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by_cached_key(|i| (Reverse(score(&candidates[*i])), candidates[*i].unit.clone()));
        let mut left = lots;
        let taken = order.into_iter().map(|i| {
            let take = candidates[i].lots_max.min(left);
            left -= take;
            (i, take)
        });
        taken.filter(|(_, lots)| !lots.is_zero()).collect()
    }
}

/// Profit · notional / equity, rounded down; without equity the highest there is.
fn score(candidate: &Candidate) -> U512 {
    let product: U512 = candidate.profit.widening_mul(candidate.notional);
    product.checked_div(U512::from(candidate.equity)).unwrap_or(U512::MAX)
}
