//! Integer pro-rata: every winner by a weight, in whole lots.
//!
//! What a winner's cap clips is shared again among the others, so that the lots demanded are covered as long as anybody
//! has capacity; what rounding leaves goes to the largest remainders. Among proportional rules the caps make it
//! water-filling in Σ weight · φ(lots / weight) for every strictly convex φ (arXiv 2512.01112).

use alloy::primitives::U256;

use super::{AdlPolicy, Candidate, Demand};
use crate::{recovery::apportion::apportion, types::math::mul_div_floor};

/// By unrealised profit: everybody gives up the same part of it.
#[derive(Clone, Copy, Debug)]
pub struct ProRata;

impl AdlPolicy for ProRata {
    fn name(&self) -> &'static str {
        "pro_rata"
    }

    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)> {
        share(demand, |c| c.profit)
    }
}

/// By size: everybody is closed by the same part of its position, as venues do that socialise per contract.
#[derive(Clone, Copy, Debug)]
pub struct ProRataSize;

impl AdlPolicy for ProRataSize {
    fn name(&self) -> &'static str {
        "pro_rata_size"
    }

    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)> {
        share(demand, |c| c.lots)
    }
}

/// By profit · leverage²: the risk-aware rule RAP(g) of arXiv 2512.01112, haircut ∝ λ · g(λ), with g(λ) = λ. Who would
/// be the next to fail gives most.
#[derive(Clone, Copy, Debug)]
pub struct RiskAware;

impl AdlPolicy for RiskAware {
    fn name(&self) -> &'static str {
        "risk_aware"
    }

    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)> {
        share(demand, |c| c.profit.min(PROFIT_MAX) * leverage_centi(c) * leverage_centi(c))
    }
}

/// With leverage up to a thousand a weight stays below 2^232, the sum of 2^24 below 2^256.
const PROFIT_MAX: U256 = U256::from_limbs([0, 0, 0, 1 << 6]);
const LEVERAGE_CENTI_MAX: U256 = U256::from_limbs([100_000, 0, 0, 0]);

/// Notional / equity in hundredths, rounded down, at least one and at most a thousand times.
fn leverage_centi(candidate: &Candidate) -> U256 {
    let exact = mul_div_floor(candidate.notional, U256::from(100), candidate.equity);
    exact.map_or(LEVERAGE_CENTI_MAX, |centi| centi.clamp(U256::ONE, LEVERAGE_CENTI_MAX))
}

fn share(demand: &Demand<'_>, weight: fn(&Candidate) -> U256) -> Vec<(usize, U256)> {
    let candidates = demand.candidates;
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_unstable_by_key(|i| &candidates[*i].unit);
    // Whoever is worth nothing to the rule still gives when the others have nothing left.
    let weights: Vec<_> = order.iter().map(|i| weight(&candidates[*i]).max(U256::ONE)).collect();
    let caps: Vec<_> = order.iter().map(|i| candidates[*i].lots_max).collect();
    let parts = apportion(demand.lots, &weights, &caps);
    order.into_iter().zip(parts).filter(|(_, lots)| !lots.is_zero()).collect()
}
