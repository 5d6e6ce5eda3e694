//! The queue of most exchanges: whoever scores highest is closed first, and wholly, before the next.
//!
//! Optimises nothing: a ranking by which the most successful pay all. Here for venues whose rules promise it.

use alloy::primitives::{U256, U512};

use super::{AdlPolicy, Candidate, Demand};

/// By profit % · leverage, as Binance, Bybit and BitMEX rank winners: (profit / notional) · (notional / equity).
#[derive(Clone, Copy, Debug)]
pub struct Queue;

impl AdlPolicy for Queue {
    fn name(&self) -> &'static str {
        "queue"
    }

    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)> {
        in_turn(demand, |c| ratio(U512::from(c.profit), c.equity))
    }
}

/// By price ratio · leverage, as Hyperliquid ranks winners. Its documents give mark/entry; for a short that would call
/// the least profitable first, so the ratio is read as entry/mark there.
#[derive(Clone, Copy, Debug)]
pub struct QueueIndex;

impl AdlPolicy for QueueIndex {
    fn name(&self) -> &'static str {
        "queue_index"
    }

    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)> {
        in_turn(demand, |c| {
            if c.short {
                // entry / mark · notional / equity, where entry · lots = notional + profit.
                ratio(U512::from(c.notional.saturating_add(c.profit)), c.equity)
            } else {
                // mark / entry · notional / equity, where entry · lots = notional − profit.
                let entry = c.notional.saturating_sub(c.profit);
                let square: U512 = c.notional.widening_mul(c.notional);
                ratio(square.checked_div(U512::from(entry)).unwrap_or(U512::MAX), c.equity)
            }
        })
    }
}

/// By profit alone.
#[derive(Clone, Copy, Debug)]
pub struct QueueProfit;

impl AdlPolicy for QueueProfit {
    fn name(&self) -> &'static str {
        "queue_profit"
    }

    fn allot(&self, demand: &Demand<'_>) -> Vec<(usize, U256)> {
        in_turn(demand, |c| U512::from(c.profit))
    }
}

/// Takes whole candidates by descending score, ties by key, until there are enough lots.
fn in_turn(demand: &Demand<'_>, score: fn(&Candidate) -> U512) -> Vec<(usize, U256)> {
    let candidates = demand.candidates;
    let mut order: Vec<(U512, usize)> = candidates.iter().map(score).zip(0..).collect();
    order.sort_unstable_by(|(a, i), (b, j)| b.cmp(a).then_with(|| candidates[*i].unit.cmp(&candidates[*j].unit)));
    let mut left = demand.lots;
    let taken = order.into_iter().map(|(_, i)| {
        let take = candidates[i].lots_max.min(left);
        left -= take;
        (i, take)
    });
    taken.filter(|(_, lots)| !lots.is_zero()).collect()
}

/// A ratio in 2^-64, rounded down; of nothing to divide by the highest there is.
fn ratio(amount: U512, of: U256) -> U512 {
    amount.saturating_shl(64).checked_div(U512::from(of)).unwrap_or(U512::MAX)
}
