//! The planes of a unit for the scanner's screen: two factors a market, the value of a collateral-token unit and of a
//! share of debt.
//!
//! | factor | equity | maintenance |
//! |---|---|---|
//! | collateral | price / 1e36 | price · lltv / 1e54 |
//! | debt | − (borrow assets + 1) / (borrow shares + 1e6) | the same |
//!
//! The constant is zero. The exact figures round down twice and up once, each time by less than one token unit, so they
//! lie less than three units from the plane. Each factor is formed in integers and divided at the end: a conversion, a
//! scale and a division make at most three roundings of 2⁻⁵³.
//!
//! A market that cannot be valued has factors that are no numbers, so its borrowers are always raised. A unit that owes
//! nothing, or whose market is not acted on, has empty planes: there is nothing to look for.
//!
//! Invariants: |exact − plane| ≤ rounding + the error of evaluating the plane in f64.
//! Must not: decide anything.

use super::{
    Settings,
    margin::{MarketNow, holdings},
    settings::Markets,
    state::{self, Market},
};
use crate::{
    positions::{Record, RecordKey, Snapshot, Unit},
    protocols::records::Stored,
    scanner::{DriverIndex, Drivers, FactorIndex, Factors, Planes, Unvalued},
    types::U256,
};

/// Three floors or ceilings of less than one token unit.
const ROUNDING: f64 = 3.0;

/// Factor values at the snapshot's block.
pub(super) fn factors(settings: &Settings, snapshot: &Snapshot) -> Factors {
    let mut factors = Factors::default();
    for (id, market) in state::all::<Market>(&snapshot.book) {
        let Some(number) = state::number::<u32>(id) else { continue };
        let slots = (number as usize + 1) * 2;
        if factors.equity.len() < slots {
            factors.names.resize(slots, String::new());
            factors.equity.resize(slots, f64::NAN);
            factors.maintenance.resize(slots, f64::NAN);
        }
        let [collateral, debt] = [slots - 2, slots - 1];
        factors.names[collateral] = format!("collateral of market {}", market.id);
        factors.names[debt] = format!("debt share of market {}", market.id);
        let now = MarketNow::load(settings, snapshot, number);
        if let Some(values) = now.ok().and_then(|now| Values::of(&now)) {
            factors.equity[collateral] = values.price;
            factors.maintenance[collateral] = values.haircut_price;
            factors.equity[debt] = -values.share;
            factors.maintenance[debt] = -values.share;
        }
    }
    factors
}

/// The prices behind [`factors`]: one a market, of its collateral in its loan token. Debt counts in the latter: no price
/// moves it.
pub(super) fn drivers(settings: &Settings, snapshot: &Snapshot) -> Drivers {
    let factors = factors(settings, snapshot);
    let count = factors.equity.len() / 2;
    let mut drivers = Drivers { names: vec![String::new(); count], prices: vec![0.0; count], slopes: Vec::new() };
    for (number, price) in drivers.prices.iter_mut().enumerate() {
        drivers.names[number] = number.to_string();
        let value = factors.equity[number * 2];
        *price = if value.is_finite() { value } else { 0.0 };
    }
    let of_collateral = |slot: usize| u32::try_from(slot / 2).ok().filter(|_| slot.is_multiple_of(2)).map(DriverIndex);
    drivers.slopes = Drivers::proportional(&factors, of_collateral);
    drivers
}

/// A market's terms never change once it is there, and nothing else says what a holding reads.
pub(super) fn reshapes(key: &RecordKey, before: Option<&Record>, after: Option<&Record>) -> bool {
    let came_or_went = before.is_some() != after.is_some();
    key.kind == Market::KIND && came_or_went
}

/// A unit's planes over [`factors`].
pub(super) fn planes(settings: &Settings, snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
    let (collateral, borrow_shares) = holdings(unit);
    let number = unit.segment.0;
    if borrow_shares.is_zero() || !is_acted_on(settings, snapshot, number)? {
        return Ok(Planes::default());
    }
    let slot = number.checked_mul(2).ok_or(Unvalued::Overflow("factor index"))?;
    let holdings = vec![(FactorIndex(slot), f64::from(collateral)), (FactorIndex(slot + 1), f64::from(borrow_shares))];
    Ok(Planes { constant: 0.0, holdings, rounding: ROUNDING })
}

fn is_acted_on(settings: &Settings, snapshot: &Snapshot, number: u32) -> Result<bool, Unvalued> {
    match &settings.markets {
        Markets::All => Ok(true),
        Markets::Only(ids) => Ok(ids.contains(&state::load::<Market>(&snapshot.book, number.into())?.id)),
    }
}

/// A market's factor values.
struct Values {
    price: f64,
    haircut_price: f64,
    share: f64,
}

impl Values {
    fn of(now: &MarketNow) -> Option<Self> {
        let pool = now.debt_pool();
        let haircut: U256 = now.price.checked_mul(now.market.lltv_wad)?;
        Some(Self {
            price: f64::from(now.price) / 1e36,
            haircut_price: f64::from(haircut) / 1e54,
            share: f64::from(pool.virtual_assets()?) / f64::from(pool.virtual_shares()?),
        })
    }
}
