//! The planes of an account for the scanner's screen.
//!
//! With s, d the indexes, P the price, U the units in a token and t a liquidation threshold:
//!
//! | factor | holding | equity | maintenance |
//! |---|---|---|---|
//! | reserve as collateral | scaled | s · P / (1e27 · U) | the same · t / 1e4 |
//! | reserve as debt | − scaled | d · P / (1e27 · U) | the same |
//! | reserve as collateral in a category | scaled | s · P / (1e27 · U) | the same · t of the category / 1e4 |
//!
//! Exact maths loses less than one asset unit and one base unit a balance (down for collateral, up for debt), and less than
//! two base units in the surplus: one of the division by 1e4, one where the health factor's rounding decides. `rounding`
//! is the sum of these.
//!
//! Invariants: each figure is a quotient of integers, rounded once; |exact − plane| ≤ rounding + the error of evaluating
//! the plane in f64.
//! Must not: decide anything.

use super::{
    config,
    margin::{self, ReserveNow},
    ray::{BPS, RAY},
    state::{self, Category, Reserve},
};
use crate::{
    positions::{LegKind, Record, RecordKey, Snapshot, Unit},
    protocols::records::{self, Stored},
    scanner::{DriverIndex, Drivers, FactorIndex, Factors, Planes, Unvalued},
    types::U256,
};

use alloy::primitives::U512;

const OVERFLOW: Unvalued = Unvalued::Overflow("factor");
/// Factors of a reserve outside categories: as collateral, as debt.
const PER_RESERVE: u32 = 2;

/// Factor values at the snapshot's block. A reserve without a price has factors of zero: an account that holds it gets no
/// planes, so nothing is ever multiplied by them.
pub(super) fn factors(snapshot: &Snapshot) -> Result<Factors, Unvalued> {
    let slots = slots(snapshot);
    let mut factors = Factors::default();
    let mut push = |name: String, equity: f64, maintenance: f64| {
        factors.names.push(name);
        factors.equity.push(equity);
        factors.maintenance.push(maintenance);
    };
    for id in 0..slots {
        let values = Values::load(snapshot, id)?;
        let (collateral, debt) = values.as_ref().map_or((0.0, 0.0), |values| (values.supply, values.debt));
        let pledged = values.map_or(Ok(0.0), |values| {
            values.pledged(values.now.reserve.config.get(config::LIQUIDATION_THRESHOLD)).ok_or(OVERFLOW)
        })?;
        push(format!("reserve {id} as collateral"), collateral, pledged);
        push(format!("reserve {id} as debt"), debt, debt);
    }
    for (number, category) in categories(snapshot) {
        for id in state::members(category.collateral) {
            let values = Values::load(snapshot, id)?;
            let equity = values.as_ref().map_or(0.0, |values| values.supply);
            let pledged = values.map_or(Ok(0.0), |values| values.pledged(category.threshold).ok_or(OVERFLOW))?;
            push(format!("reserve {id} as collateral in category {number}"), equity, pledged);
        }
    }
    Ok(factors)
}

/// What is beyond these is for exact arithmetic, which may refuse it where a float would call it healthy. Below them none of
/// the pool's products overflows: scaled balance · index ≤ 2²³⁸, amount · price ≤ 2²⁴⁸, and 128 values of 2¹⁷⁰ · 10⁴ · 10¹⁸ for the
/// health factor < 2²⁵².
const HOLDING_MAX: f64 = (1u128 << 110) as f64;
const FACTOR_MAX: f64 = (1u64 << 60) as f64;
const INDEX_BITS: usize = 128;
const PRICE_BITS: usize = 100;

/// The prices behind [`factors`]: one a reserve, which moves what is supplied and what is owed of it alike.
pub(super) fn drivers(snapshot: &Snapshot) -> Result<Drivers, Unvalued> {
    let slots = slots(snapshot);
    let mut drivers = Drivers::default();
    for id in 0..slots {
        drivers.names.push(id.to_string());
        let now = Values::load(snapshot, id)?.map(|values| values.now);
        drivers.prices.push(now.map_or(0.0, |now| f64::from(now.price)));
    }
    let of_reserves = (0..slots).flat_map(|id| [id; PER_RESERVE as usize]);
    let of_categories = categories(snapshot).flat_map(|(_, category)| state::members(category.collateral));
    let moved_by: Vec<u32> = of_reserves.chain(of_categories).collect();
    let driver_of = |slot: usize| moved_by.get(slot).map(|id| DriverIndex(*id));
    drivers.slopes = Drivers::proportional(&factors(snapshot)?, driver_of);
    Ok(drivers)
}

/// Factors of categories stand after those of all reserves, and which of them a holding reads is the category's to say.
pub(super) fn reshapes(key: &RecordKey, before: Option<&Record>, after: Option<&Record>) -> bool {
    let came_or_went = before.is_some() != after.is_some();
    key.kind == Category::KIND || (key.kind == Reserve::KIND && came_or_went)
}

/// A unit's planes over [`factors`].
pub(super) fn planes(snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
    let (flags, category) = margin::mode(snapshot, unit)?;
    let mut planes = Planes { rounding: 2.0, ..Planes::default() };
    for leg in &unit.legs {
        let id = leg.market.0;
        let scaled = f64::from(state::magnitude(leg));
        let (factor, holding) = match leg.kind {
            LegKind::Debt => (id * PER_RESERVE + 1, -scaled),
            LegKind::Collateral => match category.as_ref().filter(|category| category.covers(id)) {
                Some(category) => (in_category(snapshot, flags.category, category, id), scaled),
                None => (id * PER_RESERVE, scaled),
            },
            _ => continue,
        };
        if scaled > HOLDING_MAX {
            return Err(OVERFLOW);
        }
        let now = ReserveNow::load(snapshot, id)?;
        planes.holdings.push((FactorIndex(factor), holding));
        planes.rounding += 1.0 + ratio(now.price, now.unit).ok_or(OVERFLOW)?;
    }
    Ok(planes)
}

/// Reserve numbers in use, as a bound.
fn slots(snapshot: &Snapshot) -> u32 {
    let numbers = snapshot.book.records_of(Reserve::KIND);
    numbers.filter_map(|(key, _)| records::number::<u32>(key.id)).max().map_or(0, |last| last + 1)
}

fn categories(snapshot: &Snapshot) -> impl Iterator<Item = (u8, Category)> {
    records::all::<Category>(&snapshot.book).filter_map(|(id, category)| Some((records::number(id)?, category)))
}

/// Where a category's factor of a reserve stands: after all reserves, by category, then reserve.
fn in_category(snapshot: &Snapshot, number: u8, category: &Category, reserve: u32) -> u32 {
    let before = categories(snapshot).take_while(|(other, _)| *other < number);
    let before: usize = before.map(|(_, other)| state::members(other.collateral).count()).sum();
    let below = state::members(category.collateral).take_while(|member| *member < reserve).count();
    slots(snapshot) * PER_RESERVE + u32::try_from(before + below).unwrap_or(u32::MAX)
}

/// A reserve's values of one scaled unit.
struct Values {
    now: ReserveNow,
    supply: f64,
    debt: f64,
}

impl Values {
    /// `None` for a number that is free and for a reserve that cannot be valued.
    fn load(snapshot: &Snapshot, id: u32) -> Result<Option<Self>, Unvalued> {
        let now = match ReserveNow::load(snapshot, id) {
            Ok(now) => now,
            Err(Unvalued::Missing(_)) => return Ok(None),
            Err(overflow) => return Err(overflow),
        };
        let index_bits = now.supply_index.bit_len().max(now.debt_index.bit_len());
        if index_bits > INDEX_BITS || now.price.bit_len() > PRICE_BITS {
            return Err(OVERFLOW);
        }
        let value = |index: U256| quotient([index, now.price, U256::ONE], [RAY, now.unit, U256::ONE]);
        let value = |index: U256| value(index).filter(|value| *value <= FACTOR_MAX).ok_or(OVERFLOW);
        let (supply, debt) = (value(now.supply_index)?, value(now.debt_index)?);
        Ok(Some(Self { now, supply, debt }))
    }

    /// The supply value after a threshold in bps.
    fn pledged(&self, threshold: U256) -> Option<f64> {
        let now = &self.now;
        quotient([now.supply_index, now.price, threshold], [RAY, now.unit, BPS])
    }
}

fn ratio(a: U256, b: U256) -> Option<f64> {
    quotient([a, U256::ONE, U256::ONE], [b, U256::ONE, U256::ONE])
}

/// The quotient of two products: cut to 64 significant bits and more, then rounded once. `None` on a division by zero and
/// where a product does not fit 512 bits less the room for that.
fn quotient(numerator: [U256; 3], denominator: [U256; 3]) -> Option<f64> {
    let product = |[a, b, c]: [U256; 3]| U512::from(a).checked_mul(U512::from(b))?.checked_mul(U512::from(c));
    let (numerator, denominator) = (product(numerator)?, product(denominator)?);
    if numerator.is_zero() {
        return Some(0.0);
    }
    let shift = (denominator.bit_len() + 65).saturating_sub(numerator.bit_len());
    let fits = numerator.bit_len() + shift <= 512;
    let scaled = (numerator << shift).checked_div(denominator).filter(|_| fits)?;
    let shift = i32::try_from(shift).ok()?;
    Some(f64::from(scaled) * 2f64.powi(-shift))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against 128-bit integers divided in one rounding.
        #[test]
        fn a_quotient_is_rounded_once(a in 1u64.., b in 1u64.., d in 1u64..) {
            let exact = u128::from(a) * u128::from(b);
            let found = quotient([U256::from(a), U256::from(b), U256::ONE], [U256::from(d), U256::ONE, U256::ONE]).unwrap();
            // found · d = exact · (1 + δ): compare in integers scaled by 2⁶⁴ where that is exact enough.
            #[expect(clippy::cast_precision_loss, reason = "a relative error of 2^-53 each is what is allowed for")]
            let (exact, divisor) = (exact as f64, d as f64);
            let error = (found - exact / divisor).abs();
            prop_assert!(error <= 4.0 * (f64::EPSILON / 2.0) * found, "{found} is not {exact} / {divisor}");
        }
    }

    #[test]
    fn small_and_large_quotients_are_numbers() {
        assert_eq!(ratio(U256::ONE, U256::from(10).pow(U256::from(18))), Some(1e-18));
        assert_eq!(ratio(U256::ZERO, U256::ONE), Some(0.0));
        assert_eq!(ratio(U256::ONE, U256::ZERO), None);
        assert_eq!(ratio(U256::ONE << 255, U256::ONE), Some(2f64.powi(255)));
    }
}
