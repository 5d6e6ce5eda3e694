//! The planes of an account for the scanner's screen: two factors a market, one for what is held and one for what is owed.
//!
//! | factor | equity | maintenance | holding |
//! |---|---|---|---|
//! | held | value of a vToken / 1e18 | the same after the threshold | vTokens |
//! | owed | price · borrow index / 1e36 | the same | −(principal / index) · 1e18 |
//!
//! Markets stand at their sums with interest up to the block, as for the exact standing; an account counts only in the
//! markets it has entered. Values of a vToken are the contract's own integers, so a holding's term differs from the exact
//! one by the last truncation alone, less than one. A debt is truncated in tokens first and in value after that: by less
//! than price / 1e18 + 1. `rounding` adds these up and covers the roundings of the floats as well.
//!
//! Invariants: |exact − plane| ≤ rounding + the error of evaluating the plane in f64.
//! Must not: decide anything.

use super::{
    account::Account,
    margin::{At, MarketNow},
    state::{self, Listing, Numbered, Stored},
};
use crate::{
    positions::{Record, RecordKey, Snapshot, Unit},
    scanner::{DriverIndex, Drivers, FactorIndex, Factors, Planes, Unvalued},
    types::U256,
};

/// 1e18 as a float; exact.
const ONE: f64 = 1e18;
/// Bound on the relative error of every figure given to the screen: eight roundings where four can occur.
const RELATIVE_ERROR: f64 = 8.0 * f64::EPSILON;

/// Factor values at the snapshot's block. A market that cannot be valued has factors of zero: an account in it gets no
/// planes, so nothing is ever multiplied by them.
pub(super) fn factors(snapshot: &Snapshot) -> Factors {
    let listings: Vec<_> = state::all::<Listing>(&snapshot.book).collect();
    let slots = listings.iter().map(|(_, listing)| listing.ordinal as usize + 1).max().unwrap_or(0) * 2;
    let mut factors =
        Factors { names: vec![String::new(); slots], equity: vec![0.0; slots], maintenance: vec![0.0; slots] };
    for (vtoken, listing) in listings {
        let slot = listing.ordinal as usize * 2;
        factors.names[slot] = format!("held in market {}", listing.ordinal);
        factors.names[slot + 1] = format!("owed in market {}", listing.ordinal);
        let market = MarketNow::load(&snapshot.book, vtoken, &snapshot.block);
        if let Ok(values) = market.and_then(|market| Values::of(&market)) {
            factors.equity[slot] = values.held;
            factors.maintenance[slot] = values.weighted;
            factors.equity[slot + 1] = values.owed;
            factors.maintenance[slot + 1] = values.owed;
        }
    }
    factors
}

/// The prices behind [`factors`]: one a market, which moves what is held and what is owed in it alike.
pub(super) fn drivers(snapshot: &Snapshot) -> Drivers {
    let factors = factors(snapshot);
    let count = factors.equity.len() / 2;
    let mut drivers =
        Drivers { names: vec![String::new(); count], prices: vec![0.0; count], slopes: Vec::with_capacity(count * 2) };
    for (vtoken, listing) in state::all::<Listing>(&snapshot.book) {
        let slot = listing.ordinal as usize;
        drivers.names[slot] = listing.ordinal.to_string();
        let market = MarketNow::load(&snapshot.book, vtoken, &snapshot.block);
        drivers.prices[slot] = market.map_or(0.0, |market| f64::from(market.price));
    }
    let driver_of = |slot: usize| u32::try_from(slot / 2).ok().map(DriverIndex);
    drivers.slopes = Drivers::proportional(&factors, driver_of);
    drivers
}

/// A listing says whether an account's balance counts, and a number which market's it is.
pub(super) fn reshapes(key: &RecordKey, before: Option<&Record>, after: Option<&Record>) -> bool {
    let changed = before != after;
    changed && [Listing::KIND, Numbered::KIND].contains(&key.kind)
}

/// An account's planes over [`factors`].
pub(super) fn planes(snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
    let account = Account::of(unit)?;
    let mut planes = Planes::default();
    // Nothing is owed: nothing can happen to it, whatever its collateral is worth.
    if account.debts.is_empty() {
        return Ok(planes);
    }
    let mut magnitude = 0.0;
    for &id in &account.entered {
        let market = MarketNow::load(&snapshot.book, state::vtoken(&snapshot.book, id)?, &snapshot.block)?;
        if !market.listing.listed {
            continue;
        }
        if market.price.is_zero() {
            return Err(Unvalued::Missing(format!("the oracle's price of vToken {}", market.vtoken)));
        }
        let values = Values::of(&market)?;
        let mut push = |offset: u32, holding: f64, value: f64| {
            planes.holdings.push((FactorIndex(id.0 * 2 + offset), holding));
            magnitude += (holding * value).abs();
        };
        let tokens = account.tokens(id);
        if !tokens.is_zero() {
            push(0, f64::from(tokens), values.held.max(values.weighted));
            planes.rounding += 1.0;
        }
        if let Some(debt) = account.debts.get(&id) {
            push(1, -(f64::from(debt.principal) / f64::from(debt.index) * ONE), values.owed);
            planes.rounding += f64::from(market.price) / ONE + 2.0;
        }
    }
    planes.rounding += magnitude * RELATIVE_ERROR;
    Ok(planes)
}

/// A market's factor values.
struct Values {
    held: f64,
    weighted: f64,
    owed: f64,
}

impl Values {
    fn of(market: &MarketNow) -> Result<Self, Unvalued> {
        let (held, weighted) = market.token_values(At::Accrued)?;
        let unscaled = |x: U256| f64::from(x) / ONE;
        let owed = unscaled(market.price) * unscaled(market.accrued.borrow_index);
        Ok(Self { held: unscaled(held), weighted: unscaled(weighted), owed })
    }
}
