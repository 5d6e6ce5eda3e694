//! A mined transaction's logs → what the books take from it.
//!
//! One `Liquidate` tells what was repaid and seized, what bad debt was left, and, as the same amount, what the market's
//! lenders lost by it at once. Their payer is the market itself: its unit with the zero address. What part of the bonus
//! was the borrower's own cannot be said from logs, since they carry no price.
//!
//! The event names no token. The transfers that follow it do: out of the singleton the collateral, into it the loan
//! token; where a token tells nothing of its transfers the effect's asset is the zero address.
//!
//! Invariants: logs of other contracts have no effect of their own.
//! Must not: read anything but the logs.

use alloy::sol_types::SolEvent;

use super::{
    Settings,
    abi::{IERC20, IMorpho},
    state,
};
use crate::{
    protocols::Effect,
    recovery::Scope,
    types::{Address, Log},
};

/// What these logs of one transaction did, in order.
pub(super) fn effects(settings: &Settings, logs: &[Log]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for (index, log) in logs.iter().enumerate() {
        if log.address != settings.morpho {
            continue;
        }
        if let Ok(event) = IMorpho::Liquidate::decode_raw_log(&log.topics, &log.data) {
            liquidated(&event, &Tokens::of(settings.morpho, &logs[index + 1..]), &mut effects);
        }
    }
    effects
}

fn liquidated(event: &IMorpho::Liquidate, tokens: &Tokens, effects: &mut Vec<Effect>) {
    let unit = state::unit_key(event.id, event.borrower);
    effects.push(Effect::Repaid { unit: unit.clone(), asset: tokens.loan, amount: event.repaidAssets });
    effects.push(Effect::Seized { unit: unit.clone(), asset: tokens.collateral, amount: event.seizedAssets });
    let amount = event.badDebtAssets;
    if !amount.is_zero() {
        effects.push(Effect::BadDebt { scope: Scope::Unit(unit.clone()), asset: tokens.loan, amount });
        let payer = state::unit_key(event.id, Address::ZERO);
        effects.push(Effect::LossSocialised { unit, payer, amount });
    }
}

/// A market's tokens.
struct Tokens {
    loan: Address,
    collateral: Address,
}

impl Tokens {
    /// As the first transfers out of and into the singleton name them.
    fn of(morpho: Address, following: &[Log]) -> Self {
        let first = |ours: fn(&IERC20::Transfer) -> Address| {
            let transfer = |log: &Log| IERC20::Transfer::decode_raw_log(&log.topics, &log.data).ok();
            let found = following.iter().find(|log| transfer(log).is_some_and(|transfer| ours(&transfer) == morpho));
            found.map_or(Address::ZERO, |log| log.address)
        };
        Self { loan: first(|transfer| transfer.to), collateral: first(|transfer| transfer.from) }
    }
}
