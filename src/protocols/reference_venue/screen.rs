//! The planes of a unit for the scanner's screen: two factors a market, one for longs and one for shorts.
//!
//! With F the funding index, μ the maintenance margin and signed lots for holdings:
//!
//! | factor | equity | maintenance |
//! |---|---|---|
//! | long | price − F | price · (1 − μ) − F |
//! | short | price − F | price · (1 + μ) − F |
//!
//! The constant is cash + Σ quote. The exact margin rounds up once a position, so it lies at most one unit a position
//! above the plane. Each figure is formed in integers and turned into a float at the end, with at most two roundings of
//! 2⁻⁵³; `rounding` covers these as well, generously, so that a screen need only bound its own sums and products.
//!
//! Invariants: |exact − plane| ≤ rounding + the error of evaluating the plane in f64.
//! Must not: decide anything.

use std::collections::BTreeMap;

use super::{
    margin::{BPS, MarketNow, perps},
    state::{self, Market},
};
use crate::{
    positions::{Record, RecordKey, Snapshot, Unit},
    protocols::records::Stored,
    scanner::{DriverIndex, Drivers, FactorIndex, Factors, Planes, Slope, Unvalued},
    types::{Address, I256, MarketId, U256, math},
};

/// Bound on the relative error of every figure given to the screen: eight roundings where two can occur.
const RELATIVE_ERROR: f64 = 8.0 * f64::EPSILON;

/// Factor values at the snapshot's block. A market without a price has factors of zero: a unit that holds it gets no
/// planes, so nothing is ever multiplied by them.
pub(super) fn factors(snapshot: &Snapshot) -> Result<Factors, Unvalued> {
    let markets: Vec<(MarketId, Market)> = state::all::<Market>(&snapshot.book)
        .filter_map(|(id, market)| Some((MarketId(state::number(id)?), market)))
        .collect();
    let slots = markets.iter().map(|(_, m)| m.ordinal as usize + 1).max().unwrap_or(0) * 2;
    let mut factors =
        Factors { names: vec![String::new(); slots], equity: vec![0.0; slots], maintenance: vec![0.0; slots] };
    for (id, market) in markets {
        let slot = market.ordinal as usize * 2;
        factors.names[slot] = format!("market {id} long");
        factors.names[slot + 1] = format!("market {id} short");
        match MarketNow::of(snapshot, id, market) {
            Ok(now) => {
                let value = Values::of(&now)?;
                factors.equity[slot..slot + 2].fill(value.equity);
                factors.maintenance[slot] = value.long;
                factors.maintenance[slot + 1] = value.short;
            }
            Err(Unvalued::Missing(_)) => {}
            Err(overflow) => return Err(overflow),
        }
    }
    Ok(factors)
}

/// The prices behind [`factors`]: one a feed, called by the first market that it serves.
pub(super) fn drivers(snapshot: &Snapshot) -> Result<Drivers, Unvalued> {
    let mut drivers = Drivers { slopes: vec![None; factors(snapshot)?.equity.len()], ..Drivers::default() };
    let mut feeds: BTreeMap<Address, DriverIndex> = BTreeMap::new();
    for (id, market) in state::all::<Market>(&snapshot.book) {
        let Some(id) = state::number(id).map(MarketId) else { continue };
        let (feed, slot) = (market.feed, market.ordinal as usize * 2);
        let margin = f64::from(market.maintenance_margin_bps) / BPS as f64;
        let price = match MarketNow::of(snapshot, id, market) {
            Ok(now) => f64::from(now.price),
            Err(Unvalued::Missing(_)) => continue,
            Err(overflow) => return Err(overflow),
        };
        let driver = *feeds.entry(feed).or_insert_with(|| {
            drivers.names.push(id.to_string());
            drivers.prices.push(price);
            DriverIndex(u32::try_from(drivers.prices.len() - 1).unwrap_or(u32::MAX))
        });
        for (slot, haircut) in [(slot, 1.0 - margin), (slot + 1, 1.0 + margin)] {
            drivers.slopes[slot] = Some(Slope { driver, equity: price, maintenance: price * haircut });
        }
    }
    Ok(drivers)
}

/// A market keeps its ordinal for good, and nothing else says which factors a position reads.
pub(super) fn reshapes(key: &RecordKey, before: Option<&Record>, after: Option<&Record>) -> bool {
    let came_or_went = before.is_some() != after.is_some();
    key.kind == Market::KIND && came_or_went
}

/// A unit's planes over [`factors`].
pub(super) fn planes(snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
    let mut constant = unit.cash;
    let mut planes = Planes::default();
    let mut magnitude = 0.0;
    for leg in perps(unit) {
        let now = MarketNow::load(snapshot, leg.market)?;
        constant = constant.checked_add(leg.quote).ok_or(Unvalued::Overflow("cash and quote"))?;
        let values = Values::of(&now)?;
        let short = leg.quantity.is_negative();
        let holding = to_f64(leg.quantity);
        planes.holdings.push((FactorIndex(now.market.ordinal * 2 + u32::from(short)), holding));
        planes.rounding += 1.0;
        magnitude += holding.abs() * values.largest();
    }
    planes.constant = to_f64(constant);
    planes.rounding += (magnitude + planes.constant.abs()) * RELATIVE_ERROR;
    Ok(planes)
}

/// A market's factor values.
struct Values {
    equity: f64,
    long: f64,
    short: f64,
}

impl Values {
    fn of(now: &MarketNow) -> Result<Self, Unvalued> {
        let haircut = math::signed(now.price)
            .and_then(|p| p.checked_mul(I256::unchecked_from(now.market.maintenance_margin_bps)));
        let scaled = now.net.checked_mul(I256::unchecked_from(BPS));
        let planes = scaled.zip(haircut).and_then(|(s, h)| Some((s.checked_sub(h)?, s.checked_add(h)?)));
        let (long, short) = planes.ok_or(Unvalued::Overflow("factor"))?;
        let unscaled = |x: I256| to_f64(x) / BPS as f64;
        Ok(Self { equity: to_f64(now.net), long: unscaled(long), short: unscaled(short) })
    }

    fn largest(&self) -> f64 {
        self.equity.abs().max(self.long.abs()).max(self.short.abs())
    }
}

fn to_f64(x: I256) -> f64 {
    let magnitude = f64::from(U256::from(x.unsigned_abs()));
    if x.is_negative() { -magnitude } else { magnitude }
}
