//! What events do not carry: prices, the adaptive curve's rate at target, and rates of other models.
//!
//! Only for markets that the settings name and in which somebody owes something. An oracle is asked at every block; the
//! curve only after an accrual, since nothing else moves its rate at target; another rate model at every block, about the
//! time since the last accrual.
//!
//! Invariants: one round; a view that reverts or answers nonsense leaves its record empty, so that the market's units
//! cannot be valued, and never stops the indexer: anybody may create a market with any oracle.
//! Must not: read anything but the book and the answers.

use std::collections::BTreeSet;

use alloy::sol_types::{SolCall, SolValue};

use super::{
    Settings,
    abi::{IIrm, IOracle, MarketState},
    state::{self, Curve, Market, Price, Rate, Stored, Totals},
};
use crate::{
    positions::{Book, Delta, Draft, RecordKey},
    protocols::{ApplyError, Read},
    types::{Address, B256, BlockRef, Call, CallOutcome, U256},
};

/// What is wanted at this block.
pub(super) fn reads(settings: &Settings, book: &Book, round: u32) -> Vec<Read> {
    if round > 0 {
        return Vec::new();
    }
    let mut oracles = BTreeSet::new();
    let mut wanted = Vec::new();
    for (number, market) in state::all::<Market>(book) {
        let Ok(Some(totals)) = state::find::<Totals>(book, number) else { continue };
        if totals.borrow_shares.is_zero() || !settings.markets.contain(&market.id) {
            continue;
        }
        if oracles.insert(market.oracle) {
            wanted.push(read::<Price>(market.oracle.into_word(), market.oracle, IOracle::priceCall {}));
        }
        wanted.extend(rate_read(settings, book, number, &market, &totals));
    }
    wanted
}

fn rate_read(settings: &Settings, book: &Book, number: B256, market: &Market, totals: &Totals) -> Option<Read> {
    if market.irm.is_zero() {
        return None;
    }
    if settings.adaptive_curve_irm == Some(market.irm) {
        let curve: Option<Curve> = state::find(book, number).ok().flatten();
        let current = curve.is_some_and(|curve| curve.of_update == totals.last_update);
        let call = IIrm::rateAtTargetCall { id: market.id };
        return (!current).then(|| read::<Curve>(number, market.irm, call));
    }
    let call = IIrm::borrowRateViewCall { marketParams: market.params(), market: market_state(totals)? };
    Some(read::<Rate>(number, market.irm, call))
}

/// The totals as views take and give them; `None` if they are none that the chain could hold.
pub(super) fn market_state(totals: &Totals) -> Option<MarketState> {
    Some(MarketState {
        totalSupplyAssets: totals.supply_assets.try_into().ok()?,
        totalSupplyShares: totals.supply_shares.try_into().ok()?,
        totalBorrowAssets: totals.borrow_assets.try_into().ok()?,
        totalBorrowShares: totals.borrow_shares.try_into().ok()?,
        lastUpdate: totals.last_update.into(),
        fee: totals.fee_wad.try_into().ok()?,
    })
}

fn read<T: Stored>(id: B256, to: Address, call: impl SolCall) -> Read {
    Read { record: RecordKey { kind: T::KIND, id }, call: Call::new(to, call.abi_encode()) }
}

/// What the answers do to the book.
pub(super) fn absorb(book: &Book, block: &BlockRef, answers: &[(Read, CallOutcome)]) -> Result<Delta, ApplyError> {
    let mut draft = Draft::new(book);
    for (Read { record, .. }, outcome) in answers {
        let word = match outcome {
            CallOutcome::Returned(data) => U256::abi_decode(data).ok(),
            CallOutcome::Reverted(_) => None,
        };
        let words = match record.kind {
            Price::KIND => word.map(|price| Price(price).to_record()),
            Rate::KIND => word.map(|rate_wad| Rate { rate_wad, at: block.timestamp }.to_record()),
            Curve::KIND => {
                let totals: Totals = state::find(book, record.id)
                    .ok()
                    .flatten()
                    .ok_or_else(|| ApplyError::Answer(format!("{record:?} is of no market")))?;
                word.map(|rate| Curve { rate_at_target_wad: rate, of_update: totals.last_update }.to_record())
            }
            _ => return Err(ApplyError::Answer(format!("{record:?} was not asked for"))),
        };
        draft.set_record(*record, words);
    }
    Ok(draft.finish())
}
