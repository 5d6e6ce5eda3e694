//! Least burden: the highest part of its equity that anybody pays is as small as whole lots allow.

use alloy::primitives::U256;

use super::{AdlPolicy, Burden, Candidate, Demand, chosen, water::Ramps};

/// Everybody with equity pays up to one level: min z with Σ min(lots_max, ⌊z · equity / loss of a lot⌋) ≥ demand, and
/// of the lots at exactly z as many as are needed, by unit key.
///
/// Optimises the whole profile of burdens: none can be lowered without raising one that is as high (leximin).
#[derive(Clone, Copy, Debug)]
pub struct WaterFilling;

impl AdlPolicy for WaterFilling {
    fn name(&self) -> &'static str {
        "water_filling"
    }

    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)> {
        chosen(by_burden(demand).fill(demand.lots))
    }
}

/// The same with the profit for the equity: collateral is left out of account.
#[derive(Clone, Copy, Debug)]
pub struct WaterFillingProfit;

impl AdlPolicy for WaterFillingProfit {
    fn name(&self) -> &'static str {
        "water_filling_profit"
    }

    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)> {
        chosen(Ramps::by_loss(demand, |_| U256::ZERO, |c| c.profit).fill(demand.lots))
    }
}

/// The same highest burden as [`WaterFilling`], from as few accounts as can bear it.
///
/// The level is the market's own optimum, or the burden that the same crisis has put on somebody anyway, as far as that
/// is light ([`LIGHT_BPS`]): an account that is spared entirely is worth more than one that pays a little less than the
/// worst off. Given the level the number of accounts is least: the largest go first. Who splits an account is chosen
/// later; the halves are still below the level.
#[derive(Clone, Copy, Debug)]
pub struct MinMax;

/// The highest burden, of 10⁴, that is put on somebody only to spare others: beyond it a market whose own optimum is
/// lower keeps to that.
pub(super) const LIGHT_BPS: U256 = U256::from_limbs([200, 0, 0, 0]);

const BPS: U256 = U256::from_limbs([10_000, 0, 0, 0]);

impl AdlPolicy for MinMax {
    fn name(&self) -> &'static str {
        "min_max"
    }

    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)> {
        let ramps = by_burden(demand);
        let even = ramps.fill(demand.lots);
        let light = demand.accepted.min(Burden { paid: LIGHT_BPS, equity: BPS });
        let level = ramps.highest(&even).max(ramps.level(light));
        let bearable: Vec<u64> = ramps.up_to(level).into_iter().zip(even).map(|(most, even)| most.max(even)).collect();
        chosen(largest(demand.candidates, &bearable, demand.lots))
    }
}

/// Ramps whose levels are burdens.
fn by_burden<'a>(demand: &Demand<'a>) -> Ramps<'a> {
    Ramps::by_loss(demand, |c| c.borne, |c| c.equity.saturating_add(c.borne))
}

/// Takes whole amounts, the largest first, ties by key, until there are enough lots; of the last only what is missing.
fn largest(candidates: &[Candidate], amounts: &[u64], lots: U256) -> Vec<u64> {
    let mut taken = vec![0; amounts.len()];
    let mut order = Vec::with_capacity(amounts.len());
    order.extend(amounts.iter().copied().zip(0..).filter(|(amount, _)| *amount > 0));
    let (mut rest, mut left) = (&mut order[..], lots);
    while !rest.is_empty() {
        let middle = rest.len() / 2;
        rest.select_nth_unstable_by(middle, |(a, i), (b, j)| {
            b.cmp(a).then_with(|| candidates[*i].unit.cmp(&candidates[*j].unit))
        });
        let before = rest[..middle].iter().fold(U256::ZERO, |sum, (amount, _)| sum + U256::from(*amount));
        if before >= left {
            rest = &mut rest[..middle];
            continue;
        }
        for (amount, i) in &rest[..=middle] {
            taken[*i] = left.saturating_to::<u64>().min(*amount);
            left -= U256::from(taken[*i]);
        }
        rest = &mut rest[middle + 1..];
    }
    taken
}
