//! One plan over a million winners against the time to sort them by score.

use std::{hint::black_box, time::Instant};

use backstop::{
    recovery::{AdlPolicy, Burden, Candidate, Demand},
    types::{U256, UnitKey},
};

use crate::{generate::Dice, money::from_usd};

const WINNERS: usize = 1_000_000;
const TURNS: usize = 5;

/// Least milliseconds of a plan and of the sort, taken in turns.
pub fn million(policy: &dyn AdlPolicy) -> (f64, f64) {
    let mut dice = Dice::new(7);
    let candidates: Vec<Candidate> = (0..WINNERS).map(|id| winner(&mut dice, id)).collect();
    let available = candidates.iter().fold(U256::ZERO, |sum, c| sum + c.lots_max);
    let lots = available / U256::from(3);
    let demand = Demand { candidates: &candidates, lots, loss: lots * from_usd(0.05), accepted: Burden::default() };
    // Profit / equity in millionths: computed before the clock starts.
    let score = |c: &Candidate| c.profit * U256::from(1_000_000) / c.equity;
    let scores: Vec<(U256, u32)> = candidates.iter().map(score).zip(0..).collect();
    let (mut plan, mut sort) = (f64::MAX, f64::MAX);
    for _ in 0..TURNS {
        let start = Instant::now();
        black_box(policy.allot(black_box(&demand)));
        plan = plan.min(start.elapsed().as_secs_f64() * 1e3);
        let mut order = scores.clone();
        let start = Instant::now();
        order.sort_unstable_by(|a, b| b.cmp(a));
        black_box(order);
        sort = sort.min(start.elapsed().as_secs_f64() * 1e3);
    }
    (plan, sort)
}

fn winner(dice: &mut Dice, id: usize) -> Candidate {
    let notional = dice.log_normal(8.0, 2.2);
    let lots = U256::from((notional * 10.0) as u64 + 1);
    let equity = from_usd(notional / dice.log_normal(1.0, 1.1)).max(U256::ONE);
    Candidate {
        unit: UnitKey::new(((id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes().to_vec())
            .expect("eight bytes"),
        short: true,
        lots,
        lots_max: lots,
        profit: from_usd(notional * (0.01 + 0.4 * dice.unit())),
        capacity: equity,
        notional: from_usd(notional),
        equity,
        borne: U256::ZERO,
    }
}
