//! A mined transaction's logs → what the books take from it: facts about tokens, each on the account or reserve it names.
//!
//! Invariants: logs of other contracts have no effect; a cover of a reserve that the book does not know has none either.
//! Must not: value anything.

use alloy::sol_types::SolEventInterface;

use super::{
    Settings,
    abi::IPool::IPoolEvents as PoolEvent,
    state::{self, Token},
};
use crate::{
    positions::Book,
    protocols::records,
    recovery::{Effect, Scope, Tier},
    types::{Log, MarketId},
};

/// What these logs of one transaction did, in order.
pub(super) fn effects(settings: &Settings, book: &Book, logs: &[Log]) -> Vec<Effect> {
    let ours = logs.iter().filter(|log| log.address == settings.pool);
    let events = ours.filter_map(|log| PoolEvent::decode_raw_log(&log.topics, &log.data).ok());
    events.flat_map(|event| of_event(book, &event)).collect()
}

fn of_event(book: &Book, event: &PoolEvent) -> Vec<Effect> {
    match event {
        PoolEvent::LiquidationCall(e) => {
            let unit = state::unit_key(e.user);
            vec![
                Effect::Repaid { unit: unit.clone(), asset: e.debtAsset, amount: e.debtToCover },
                Effect::Seized { unit, asset: e.collateralAsset, amount: e.liquidatedCollateralAmount },
            ]
        }
        PoolEvent::DeficitCreated(e) => vec![Effect::BadDebt {
            scope: Scope::Unit(state::unit_key(e.user)),
            asset: e.debtAsset,
            amount: e.amountCreated,
        }],
        PoolEvent::DeficitCovered(e) => {
            let token: Option<Token> = records::find(book, e.reserve.into_word()).ok().flatten();
            let scope = token.map(|token| Scope::Market(MarketId(token.reserve)));
            let covered =
                |scope| Effect::Covered { scope, tier: Tier::InsuranceFund, asset: e.reserve, amount: e.amountCovered };
            scope.map(covered).into_iter().collect()
        }
        _ => Vec::new(),
    }
}
