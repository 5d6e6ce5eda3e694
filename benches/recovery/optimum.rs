//! The least highest burden of every market by itself, computed without the policies' code: a bisection over levels of
//! 2^-96, and from the last of them the exact fraction, with a proof that no lower one is enough.

use backstop::types::U256;

use crate::{
    event::{Event, Market},
    round::Choice,
};

const LEVEL_BITS: usize = 96;

/// Lots of each row in the optimum. Panics where the proof fails.
pub fn choice(event: &Event) -> Choice {
    event.rounds.iter().map(|round| round.markets.iter().map(market).collect()).collect()
}

fn market(market: &Market) -> Vec<U256> {
    let caps: Vec<U256> = market.candidates.iter().map(|c| c.lots_max).collect();
    if sum(&caps) <= market.lots {
        return caps;
    }
    let at = |level: U256| -> Vec<U256> {
        let reach = market.rows.iter().map(|row| ((level * row.equity) >> LEVEL_BITS) / market.gap);
        reach.zip(&caps).map(|(lots, cap)| lots.min(*cap)).collect()
    };
    let (mut low, mut high) = (U256::ZERO, U256::ONE);
    while sum(&at(high)) < market.lots {
        (low, high) = (high, high * U256::from(2));
    }
    while low + U256::ONE < high {
        let middle = (low + high) / U256::from(2);
        let enough = sum(&at(middle)) >= market.lots;
        if enough { high = middle } else { low = middle }
    }
    // The optimum is the highest burden that some account reaches with its last lot here: the winner of all pairs.
    let mut lots = at(high);
    let last = |i: usize| (lots[i], market.rows[i].equity);
    let top = (0..lots.len()).filter(|i| !lots[*i].is_zero()).max_by(|a, b| {
        let ((n, e), (m, f)) = (last(*a), last(*b));
        (n * f).cmp(&(m * e))
    });
    let (n, e) = last(top.expect("somebody gives"));
    let at_top: Vec<usize> = (0..lots.len()).filter(|i| lots[*i] * e == n * market.rows[*i].equity).collect();
    let below = sum(&lots) - U256::from(at_top.len());
    assert!(below < market.lots && market.lots <= sum(&lots), "a lower level is enough");
    let spare = (sum(&lots) - market.lots).to::<usize>();
    let mut ties: Vec<usize> = at_top;
    ties.sort_by(|a, b| market.candidates[*b].unit.cmp(&market.candidates[*a].unit));
    ties.into_iter().take(spare).for_each(|i| lots[i] -= U256::ONE);
    lots
}

fn sum(lots: &[U256]) -> U256 {
    lots.iter().fold(U256::ZERO, |sum, lots| sum + *lots)
}
