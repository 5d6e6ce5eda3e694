//! The planes of a unit for the scanner's screen: two factors a market, one for longs and one for shorts, and one a
//! collateral.
//!
//! With P the market's price, G its funding growth, μ the maintenance margin, signed taker sizes for holdings:
//!
//! | factor | equity | maintenance |
//! |---|---|---|
//! | long | P − G / 2⁹⁶ / 86,400 | P · (1 − μ) − G / 2⁹⁶ / 86,400 |
//! | short | P − G / 2⁹⁶ / 86,400 | P · (1 + μ) − G / 2⁹⁶ / 86,400 |
//! | collateral | its price · ratio | the same |
//!
//! in units of the settlement token per 10⁻¹⁸ of size (per token unit of a collateral). The constant is the balance,
//! owed profit, open notionals, and what the growth at each settlement gives back. So planes change only when the
//! account itself acts, and a price, funding and a parameter move factors alone.
//!
//! An account with liquidity in a pool is no linear form in these (its size moves with the pool's price, its pending fees
//! with everybody's trades): it has no planes and is looked at exactly, at every block.
//!
//! The exact figures round at most: toward zero once a value, once a funding payment and once a conversion of owed
//! profit, all in 10⁻¹⁸, down once and up once to the settlement token; `rounding` covers that.
//!
//! Invariants: |exact − plane| ≤ rounding + the error of evaluating the plane in f64; every figure is formed in integers
//! and converted with at most three roundings of 2⁻⁵³.
//! Must not: decide anything.

use super::{
    Settings,
    account::Account,
    funding::PPM,
    margin::Priced,
    reads::needs_views,
    state::{self, Collateral, Config, Market, ONLY},
    ticks::WAD,
};
use crate::{
    positions::{LegKind, Snapshot, Unit},
    scanner::{DriverIndex, Drivers, FactorIndex, Factors, Planes, Slope, Unvalued},
    types::{
        I256, MarketId, U256,
        math::{mul_div_toward_zero, signed},
    },
};

const OVERFLOW: Unvalued = Unvalued::Overflow("factor");

/// 2⁹⁶ · 86,400: what a growth is over a price.
const GROWTH_UNIT: U256 = U256::from_limbs([0, 86_400 << 32, 0, 0]);

/// Factors of a market: long and short; the third slot is a collateral's of that ordinal.
const SLOTS: u32 = 3;

fn long(market: MarketId) -> u32 {
    market.0 * SLOTS
}

fn collateral_slot(ordinal: u32) -> u32 {
    ordinal * SLOTS + 2
}

/// Factor values at the snapshot's block. A market without a price has factors of zero: a unit that holds it gets no
/// planes, so nothing is ever multiplied by them.
pub(super) fn factors(settings: &Settings, snapshot: &Snapshot) -> Result<Factors, Unvalued> {
    let config = state::find::<Config>(&snapshot.book, ONLY)?.unwrap_or_default();
    let markets = snapshot.book.records_of(<Market as state::Stored>::KIND).count();
    let collaterals = snapshot.book.records_of(<Collateral as state::Stored>::KIND).count();
    let slots = markets.max(collaterals) * SLOTS as usize;
    let mut factors =
        Factors { names: vec![String::new(); slots], equity: vec![0.0; slots], maintenance: vec![0.0; slots] };
    for (id, _) in state::all::<Market>(&snapshot.book) {
        let Some(market) = state::market_of(id) else { continue };
        let slot = long(market) as usize;
        factors.names[slot] = format!("mark price of market {market}, long");
        factors.names[slot + 1] = format!("mark price of market {market}, short");
        if let Some(values) = market_values(settings, snapshot, &config, market)? {
            factors.equity[slot..slot + 2].fill(values.equity);
            factors.maintenance[slot] = values.long;
            factors.maintenance[slot + 1] = values.short;
        }
    }
    for (id, collateral) in state::all::<Collateral>(&snapshot.book) {
        let slot = collateral_slot(collateral.ordinal) as usize;
        factors.names[slot] = format!("price of collateral {id}");
        let value = collateral_value(settings, snapshot, &collateral).unwrap_or(0.0);
        (factors.equity[slot], factors.maintenance[slot]) = (value, value);
    }
    Ok(factors)
}

/// The prices behind [`factors`]: one a market, one a collateral, in the slots of the first and the third factor.
pub(super) fn drivers(settings: &Settings, snapshot: &Snapshot) -> Result<Drivers, Unvalued> {
    let config = state::find::<Config>(&snapshot.book, ONLY)?.unwrap_or_default();
    let factors = factors(settings, snapshot)?;
    let slots = factors.equity.len();
    let mut drivers =
        Drivers { names: vec![String::new(); slots], prices: vec![0.0; slots], slopes: vec![None; slots] };
    let margin = f64::from(config.mm_ratio) / f64::from(PPM);
    for (id, _) in state::all::<Market>(&snapshot.book) {
        let Some(market) = state::market_of(id) else { continue };
        let (slot, driver) = (long(market) as usize, DriverIndex(long(market)));
        drivers.names[slot] = market.to_string();
        let Ok(Priced { price, .. }) = Priced::load(snapshot, market) else { continue };
        drivers.prices[slot] = f64::from(price);
        // A size of one is worth 10⁻¹⁸ of the price, counted in the settlement token.
        let value = f64::from(price) / f64::from(ten_to(18) * settings.scale());
        drivers.slopes[slot] = Some(Slope { driver, equity: value, maintenance: value * (1.0 - margin) });
        drivers.slopes[slot + 1] = Some(Slope { driver, equity: value, maintenance: value * (1.0 + margin) });
    }
    for (_, collateral) in state::all::<Collateral>(&snapshot.book) {
        let slot = collateral_slot(collateral.ordinal) as usize;
        drivers.names[slot] = format!("collateral_{}", collateral.ordinal);
        drivers.prices[slot] = f64::from(collateral.price);
        let (equity, maintenance) = (factors.equity[slot], factors.maintenance[slot]);
        drivers.slopes[slot] =
            Some(Slope { driver: DriverIndex(collateral_slot(collateral.ordinal)), equity, maintenance });
    }
    Ok(drivers)
}

/// A market's factor values.
struct Values {
    equity: f64,
    long: f64,
    short: f64,
}

fn market_values(
    settings: &Settings,
    snapshot: &Snapshot,
    config: &Config,
    market: MarketId,
) -> Result<Option<Values>, Unvalued> {
    let Ok(Priced { price, growth: Some(growth), .. }) = Priced::load(snapshot, market) else { return Ok(None) };
    // All in 10⁻⁶ · 10⁻¹⁸ / (2⁹⁶ · 86,400).
    let scaled = |ratio: U256| signed(price.checked_mul(ratio)?.checked_mul(GROWTH_UNIT)?);
    let funding = growth.checked_mul(I256::from_raw(WAD)).and_then(|g| g.checked_mul(I256::from_raw(PPM)));
    let (funding, margin) = (funding.ok_or(OVERFLOW)?, U256::from(config.mm_ratio).min(PPM));
    let net = |ratio: U256| scaled(ratio).and_then(|p| p.checked_sub(funding)).ok_or(OVERFLOW);
    let unit = f64::from(ten_to(24) * settings.scale() * GROWTH_UNIT);
    let value = |x: I256| to_f64(x) / unit;
    Ok(Some(Values { equity: value(net(PPM)?), long: value(net(PPM - margin)?), short: value(net(PPM + margin)?) }))
}

fn collateral_value(settings: &Settings, snapshot: &Snapshot, collateral: &Collateral) -> Option<f64> {
    let fresh = collateral.price_block == snapshot.block.number;
    let (token, feed) = collateral.token_decimals.zip(collateral.feed_decimals).filter(|_| fresh)?;
    let counted = collateral.price.checked_mul(U256::from(collateral.ratio))?;
    let counted = counted.checked_mul(ten_to(settings.settlement_decimals))?;
    let unit = U256::from(10).checked_pow(U256::from(u32::from(token) + u32::from(feed) + 6))?;
    Some(f64::from(counted) / f64::from(unit))
}

fn ten_to(exponent: u8) -> U256 {
    U256::from(10).pow(U256::from(exponent))
}

/// A unit's planes over [`factors`].
pub(super) fn planes(settings: &Settings, snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
    let account = Account::of(unit)?;
    if needs_views(&snapshot.book, unit, &account)? {
        return Err(Unvalued::Missing("planes of an account whose value is no linear form".to_owned()));
    }
    let scale = I256::from_raw(settings.scale());
    let mut constant = unit.cash.checked_mul(scale).and_then(|c| c.checked_add(account.owed)).ok_or(OVERFLOW)?;
    let mut planes = Planes::default();
    for leg in &unit.legs {
        let slot = if leg.kind == LegKind::Perp {
            let priced = Priced::load(snapshot, leg.market)?;
            priced.growth.ok_or_else(|| Unvalued::Missing(format!("funding growth of market {}", leg.market)))?;
            let settled = account.settled(leg.market).map_or(I256::ZERO, |settled| settled.growth);
            let back = mul_div_toward_zero(leg.quantity, settled, I256::from_raw(GROWTH_UNIT)).ok_or(OVERFLOW)?;
            constant = constant.checked_add(leg.quote).and_then(|c| c.checked_add(back)).ok_or(OVERFLOW)?;
            long(leg.market) + u32::from(leg.quantity.is_negative())
        } else {
            collateral_slot(leg.market.0)
        };
        planes.holdings.push((FactorIndex(slot), to_f64(leg.quantity)));
        planes.rounding += ROUNDING_PER_LEG;
    }
    planes.rounding += 2.0;
    planes.constant = to_f64(constant) / f64::from(settings.scale());
    Ok(planes)
}

/// In units of the settlement token: a few units of 10⁻¹⁸, or a size that the protocol takes for nothing, nine units of
/// 10⁻¹⁸ at any price that occurs.
const ROUNDING_PER_LEG: f64 = 1.0;

fn to_f64(x: I256) -> f64 {
    let magnitude = f64::from(U256::from(x.unsigned_abs()));
    if x.is_negative() { -magnitude } else { magnitude }
}
