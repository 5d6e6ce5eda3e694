//! Integer pro-rata: every winner by its unrealised profit, in whole lots.
//!
//! What a winner's cap clips is shared again among the others, so that the lots asked for are covered as long as anybody
//! has capacity.

use alloy::primitives::U256;

use super::{AdlPolicy, Candidate};
use crate::recovery::apportion::apportion;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub struct ProRata;

impl AdlPolicy for ProRata {
    fn name(&self) -> &'static str {
        "pro_rata"
    }

    fn allot(&self, candidates: &[Candidate], lots: U256) -> Vec<(usize, U256)> {
        let mut order: Vec<usize> = (0..candidates.len()).collect();
        order.sort_by(|a, b| candidates[*a].unit.cmp(&candidates[*b].unit));
        let weights: Vec<_> = order.iter().map(|i| candidates[*i].profit).collect();
        let caps: Vec<_> = order.iter().map(|i| candidates[*i].lots_max).collect();
        let parts = apportion(lots, &weights, &caps);
        order.into_iter().zip(parts).filter(|(_, lots)| !lots.is_zero()).collect()
    }
}
