//! Planning a whole round with one policy, as a planner does that sees all its markets: what an account has paid in one
//! market counts in the next, and where a policy may prefer fewer hands, the markets that burden somebody most anyway
//! come first.

use backstop::recovery::{AdlPolicy, Burden, Demand, MinMax, WaterFilling};
use backstop::types::U256;

use crate::event::{Event, Market, Round};

/// Lots of each row, by round and market.
pub type Choice = Vec<Vec<Vec<U256>>>;

/// All rounds. The event is left with what accounts have borne.
pub fn plan(policy: &dyn AdlPolicy, event: &mut Event) -> Choice {
    let looks_ahead = policy.name() == MinMax.name();
    event
        .rounds
        .iter_mut()
        .map(|round| if looks_ahead { look_ahead(policy, round) } else { each(policy, round) })
        .collect()
}

fn each(policy: &dyn AdlPolicy, round: &Round) -> Vec<Vec<U256>> {
    round.markets.iter().map(|market| allot(policy, market, Burden::default())).collect()
}

/// Fills every market by itself first: the highest burden of a known equity in it is what the round costs somebody
/// anyway. Then the markets in descending order of that.
fn look_ahead(policy: &dyn AdlPolicy, round: &mut Round) -> Vec<Vec<U256>> {
    let alone: Vec<Burden> = round
        .markets
        .iter()
        .map(|market| {
            let lots = allot(&WaterFilling, market, Burden::default());
            let known = market.rows.iter().zip(lots).filter(|(row, _)| row.known);
            known.map(|(row, lots)| Burden { paid: lots * market.gap, equity: row.equity }).max().unwrap_or_default()
        })
        .collect();
    let accepted = alone.iter().copied().max().unwrap_or_default();
    let mut order: Vec<usize> = (0..alone.len()).collect();
    order.sort_by(|a, b| alone[*b].cmp(&alone[*a]));
    let mut chosen = vec![Vec::new(); alone.len()];
    let mut paid = vec![U256::ZERO; round.accounts];
    for index in order {
        let market = &mut round.markets[index];
        for (candidate, row) in market.candidates.iter_mut().zip(&market.rows) {
            candidate.borne = paid[row.account];
            candidate.equity = row.equity.saturating_sub(candidate.borne);
        }
        chosen[index] = allot(policy, market, accepted);
        for (row, lots) in market.rows.iter().zip(&chosen[index]) {
            paid[row.account] += *lots * market.gap;
        }
    }
    chosen
}

fn allot(policy: &dyn AdlPolicy, market: &Market, accepted: Burden) -> Vec<U256> {
    let demand = Demand { candidates: &market.candidates, lots: market.lots, loss: market.loss(), accepted };
    let mut lots = vec![U256::ZERO; market.rows.len()];
    for (index, taken) in policy.allot(&demand) {
        lots[index] = taken;
    }
    lots
}
