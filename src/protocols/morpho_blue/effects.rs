//! A mined transaction's logs → what the books take from it.
//!
//! One `Liquidate` tells what was repaid and seized, what bad debt was left, and, as the same amount, what the market's
//! lenders lost by it at once. Their payer is the market itself: its unit of the zero address. The event names no token;
//! the book does. What part of the bonus was the borrower's own is not said: that takes the price of the transaction's
//! place in its block.
//!
//! Invariants: logs of other contracts have no effect.
//! Must not: read anything but the book and the logs.

use alloy::sol_types::SolEvent;

use super::{
    Settings,
    abi::IMorpho,
    state::{self, Market},
};
use crate::{
    positions::Book,
    protocols::Effect,
    recovery::Scope,
    types::{Address, Log},
};

/// What these logs of one transaction did, in order. Of a market that the book does not know the tokens are the zero
/// address.
pub(super) fn effects(settings: &Settings, book: &Book, logs: &[Log]) -> Vec<Effect> {
    let ours = logs.iter().filter(|log| log.address == settings.morpho);
    let liquidations = ours.filter_map(|log| IMorpho::Liquidate::decode_raw_log(&log.topics, &log.data).ok());
    liquidations.flat_map(|event| liquidated(book, &event)).collect()
}

fn liquidated(book: &Book, event: &IMorpho::Liquidate) -> Vec<Effect> {
    let number = state::number_of(book, event.id).ok().flatten();
    let market: Option<Market> = number.and_then(|number| state::load(book, number.into()).ok());
    let (loan, collateral) = market.map_or_else(Default::default, |m| (m.loan_token, m.collateral_token));
    let unit = state::unit_key(event.id, event.borrower);
    let mut effects = vec![
        Effect::Repaid { unit: unit.clone(), asset: loan, amount: event.repaidAssets },
        Effect::Seized { unit: unit.clone(), asset: collateral, amount: event.seizedAssets },
    ];
    let amount = event.badDebtAssets;
    if !amount.is_zero() {
        effects.push(Effect::BadDebt { scope: Scope::Unit(unit.clone()), asset: loan, amount });
        let payer = state::unit_key(event.id, Address::ZERO);
        effects.push(Effect::LossSocialised { unit, payer, amount });
    }
    effects
}
