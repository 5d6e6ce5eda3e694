//! The scan against an exact double: a made-up perp venue in big integers, with figures up to 10³⁰ and 64 legs, most of
//! its units within a few token units of a threshold.

mod bent;
pub(crate) mod dice;
mod following;

use std::collections::BTreeSet;

use alloy::primitives::{Address, B256, I256, U256};
use proptest::prelude::*;

use super::{
    Condition, DriverIndex, Drivers, FactorIndex, Factors, Finding, Planes, ScanSettings, Scanner, Slope, Standing,
    Unvalued, Valuation, scan,
};
use crate::{
    positions::{Book, Leg, LegKind, Snapshot, Unit},
    types::{BlockRef, MarketId, SegmentId, UnitKey},
};

const MARKETS: u32 = 64;
const SETTINGS: ScanSettings = ScanSettings { at_risk_health_factor_bps: 12_000 };

#[derive(Clone, Debug)]
struct Market {
    price: I256,
    funding: I256,
    margin_bps: u32,
}

#[derive(Clone, Debug, Default)]
struct FakeVenue {
    markets: Vec<Market>,
    /// Units without a value.
    broken: BTreeSet<Address>,
    no_factors: bool,
}

fn i(x: i128) -> I256 {
    I256::try_from(x).unwrap()
}

/// Correctly rounded, by way of the decimal text.
fn float(x: I256) -> f64 {
    x.to_string().parse().unwrap()
}

impl FakeVenue {
    fn check(&self, unit: &Unit) -> Result<(), Unvalued> {
        if self.broken.contains(&unit.owner) { Err(Unvalued::Missing("price".to_owned())) } else { Ok(()) }
    }

    fn market(&self, leg: &Leg) -> &Market {
        &self.markets[leg.market.0 as usize]
    }

    fn exact(&self, unit: &Unit) -> Standing {
        let mut equity = unit.cash;
        let mut maintenance_margin = U256::ZERO;
        for leg in &unit.legs {
            let market = self.market(leg);
            equity += leg.quantity * (market.price - market.funding) + leg.quote;
            let notional = leg.quantity.unsigned_abs() * market.price.unsigned_abs();
            maintenance_margin += (notional * U256::from(market.margin_bps)).div_ceil(U256::from(10_000));
        }
        let surplus = equity - I256::try_from(maintenance_margin).unwrap();
        Standing { equity, maintenance_margin, surplus, health_factor_wad: None }
    }
}

impl Valuation for FakeVenue {
    fn factors(&self, _: &Snapshot) -> Result<Factors, Unvalued> {
        if self.no_factors {
            return Err(Unvalued::Overflow("factors"));
        }
        let mut factors = Factors::default();
        for (id, market) in self.markets.iter().enumerate() {
            for (side, sign) in [("long", -1), ("short", 1)] {
                factors.names.push(format!("{id} {side}"));
                factors.equity.push(float(market.price - market.funding));
                let haircut = i(10_000 + sign * i128::from(market.margin_bps));
                factors.maintenance.push(float(market.price * haircut - market.funding * i(10_000)) / 10_000.0);
            }
        }
        Ok(factors)
    }

    fn drivers(&self, _: &Snapshot) -> Result<Drivers, Unvalued> {
        let mut drivers = Drivers::default();
        for (id, market) in (0u32..).zip(&self.markets) {
            let price = float(market.price);
            drivers.names.push(id.to_string());
            drivers.prices.push(price);
            for sign in [-1.0, 1.0] {
                let maintenance = price * (1.0 + sign * f64::from(market.margin_bps) / 10_000.0);
                drivers.slopes.push(Some(Slope { driver: DriverIndex(id), equity: price, maintenance }));
            }
        }
        Ok(drivers)
    }

    fn planes(&self, _: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
        self.check(unit)?;
        let constant = float(unit.legs.iter().fold(unit.cash, |sum, leg| sum + leg.quote));
        let holding = |leg: &Leg| {
            let side = u32::from(leg.quantity.is_negative());
            (FactorIndex(2 * leg.market.0 + side), float(leg.quantity))
        };
        let rounding = unit.legs.len() as f64;
        Ok(Planes { constant, holdings: unit.legs.iter().map(holding).collect(), rounding })
    }

    fn standing(&self, _: &Snapshot, _: &UnitKey, unit: &Unit) -> Result<Standing, Unvalued> {
        self.check(unit)?;
        Ok(self.exact(unit))
    }
}

/// Magnitudes of every size up to 10³⁰: adversarial for a float is mixing them.
fn magnitude() -> impl Strategy<Value = i128> {
    (0u32..=30, 1i128..1_000).prop_map(|(exponent, lead)| {
        let power = 10i128.pow(exponent);
        (power.saturating_mul(lead) / 7 + lead).clamp(1, 10i128.pow(30))
    })
}

fn signed_magnitude() -> impl Strategy<Value = i128> {
    (magnitude(), any::<bool>()).prop_map(|(m, negative)| if negative { -m } else { m })
}

fn venue() -> impl Strategy<Value = FakeVenue> {
    let market = (magnitude(), -5i128..=5, 1u32..5_000).prop_map(|(price, funding_tenths, margin_bps)| Market {
        price: i(price),
        funding: i(price / 10 * funding_tenths),
        margin_bps,
    });
    prop::collection::vec(market, MARKETS as usize).prop_map(|markets| FakeVenue {
        markets,
        broken: BTreeSet::new(),
        no_factors: false,
    })
}

/// Legs, and which threshold the unit is put how near to.
type Shape = (Vec<(u32, i128, i128)>, u8, i128);

fn shape() -> impl Strategy<Value = Shape> {
    let leg = (0..MARKETS, signed_magnitude(), signed_magnitude());
    (prop::collection::vec(leg, 0..=MARKETS as usize), 0u8..4, -3i128..=3)
}

/// A unit whose cash puts it `offset` from the threshold of one of the conditions, or anywhere.
fn unit(venue: &FakeVenue, id: u8, (legs, threshold, offset): &Shape) -> Unit {
    let mut unit = Unit::new(SegmentId(0), Address::with_last_byte(id));
    for &(market, quantity, quote) in legs {
        unit.set_leg(Leg { market: MarketId(market), kind: LegKind::Perp, quantity: i(quantity), quote: i(quote) });
    }
    let bare = venue.exact(&unit);
    let margin = I256::try_from(bare.maintenance_margin).unwrap();
    unit.cash = i(*offset)
        + match threshold {
            0 => -bare.equity,
            1 => -bare.surplus,
            2 => margin / i(10) * i(12) - bare.equity,
            _ => i(*offset) * margin,
        };
    unit
}

fn snapshot(units: impl IntoIterator<Item = Unit>) -> Snapshot {
    let key = |unit: &Unit| UnitKey::new(unit.owner.to_vec()).unwrap();
    let block = BlockRef { number: 1, hash: B256::ZERO, parent_hash: B256::ZERO, timestamp: 0 };
    Snapshot { block, book: Book::restore(units.into_iter().map(|u| (key(&u), u)), []) }
}

/// What the condition is, from the definitions alone and in other arithmetic than the scanner's.
fn expected(standing: &Standing) -> Condition {
    let margin = I256::try_from(standing.maintenance_margin).unwrap();
    if standing.equity < I256::ZERO {
        Condition::Bankrupt
    } else if standing.surplus < I256::ZERO {
        Condition::Liquidatable
    } else if standing.equity * i(10_000) < margin * i(12_000) {
        Condition::AtRisk
    } else {
        Condition::Healthy
    }
}

/// The law of the order, pair by pair.
fn in_order(a: &Finding, b: &Finding) -> bool {
    if a.condition != b.condition {
        return a.condition < b.condition;
    }
    let by_key = a.unit < b.unit;
    match a.condition {
        Condition::Bankrupt => a.equity < b.equity || (a.equity == b.equity && by_key),
        Condition::Liquidatable => a.surplus < b.surplus || (a.surplus == b.surplus && by_key),
        Condition::AtRisk => {
            a.health_factor_bps < b.health_factor_bps || (a.health_factor_bps == b.health_factor_bps && by_key)
        }
        Condition::Unknown | Condition::Healthy => by_key,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_scan_finds_exactly_what_exact_arithmetic_finds(
        venue in venue(),
        shapes in prop::collection::vec(shape(), 1..24),
        broken in prop::collection::btree_set(0u8..24, 0..4),
        no_factors in prop::bool::weighted(0.1),
    ) {
        let units: Vec<Unit> = (0u8..).zip(&shapes).map(|(id, s)| unit(&venue, id, s)).collect();
        let broken = broken.into_iter().map(Address::with_last_byte).collect();
        let venue = FakeVenue { broken, no_factors, ..venue };
        let snapshot = snapshot(units.clone());
        let report = scan(&venue, &snapshot, &SETTINGS);

        prop_assert_eq!(report.units, units.len());
        prop_assert!(!no_factors || report.raised == units.len());
        let mut found = 0;
        for unit in &units {
            let finding = report.findings.iter().find(|f| f.unit.as_bytes() == unit.owner.as_slice());
            let condition = if venue.broken.contains(&unit.owner) {
                Condition::Unknown
            } else {
                expected(&venue.exact(unit))
            };
            prop_assert_eq!(finding.map_or(Condition::Healthy, |f| f.condition), condition);
            found += usize::from(condition != Condition::Healthy);
        }
        prop_assert_eq!(found, report.findings.len());
        prop_assert!(report.findings.is_sorted_by(in_order));
        prop_assert_eq!(scan(&venue, &snapshot, &SETTINGS).findings, report.findings);
    }
}

fn one_market(price: i128) -> FakeVenue {
    let market = Market { price: i(price), funding: I256::ZERO, margin_bps: 500 };
    FakeVenue { markets: vec![market; MARKETS as usize], ..FakeVenue::default() }
}

fn long(id: u8, cash: i128, lots: i128) -> Unit {
    let mut unit = Unit::new(SegmentId(0), Address::with_last_byte(id));
    unit.cash = i(cash);
    unit.set_leg(Leg { market: MarketId(0), kind: LegKind::Perp, quantity: i(lots), quote: i(-100 * lots) });
    unit
}

#[test]
fn the_screen_clears_what_is_plainly_healthy() {
    let report = scan(&one_market(100), &snapshot((0..50).map(|id| long(id, 1_000, 10))), &SETTINGS);
    assert_eq!((report.units, report.raised, report.findings.len()), (50, 0, 0));
    let empty = Unit::new(SegmentId(0), Address::ZERO);
    assert_eq!(scan(&one_market(100), &snapshot([empty]), &SETTINGS).raised, 0);
}

#[test]
fn a_market_that_comes_with_its_first_holder_is_screened_from_the_next_pass_on() {
    let whole = one_market(100);
    let small = FakeVenue { markets: whole.markets[..1].to_vec(), ..FakeVenue::default() };
    let mut newcomer = long(2, 1_000, 0);
    let leg = Leg { market: MarketId(1), kind: LegKind::Perp, quantity: i(10), quote: i(-1_000) };
    newcomer.set_leg(leg);
    let mut scanner = Scanner::new(SETTINGS);
    assert_eq!(scanner.scan(&small, &snapshot([long(1, 1_000, 10)])).raised, 0);
    let both = snapshot([long(1, 1_000, 10), newcomer]);
    let raised = [scanner.scan(&whole, &both).raised, scanner.scan(&whole, &both).raised];
    assert_eq!((raised[1], scanner.scan(&whole, &both).findings), (0, Vec::new()));
}

#[test]
fn a_unit_without_a_value_is_reported_between_liquidatable_and_at_risk() {
    // Maintenance margin is 50: bankrupt below 0, liquidatable below 50, at risk below 60.
    let units = [long(1, 55, 10), long(2, 1_000, 10), long(3, 49, 10), long(4, -1, 10), long(5, -9, 10)];
    let venue = FakeVenue { broken: BTreeSet::from([Address::with_last_byte(2)]), ..one_market(100) };
    let report = scan(&venue, &snapshot(units), &SETTINGS);
    let order: Vec<_> = report.findings.iter().map(|f| (f.unit.as_bytes()[19], f.condition)).collect();
    use Condition::{AtRisk, Bankrupt, Liquidatable, Unknown};
    assert_eq!(order, [(5, Bankrupt), (4, Bankrupt), (3, Liquidatable), (2, Unknown), (1, AtRisk)]);
    assert_eq!(report.findings[3].unknown_reason.as_deref(), Some("missing price"));
    assert_eq!(report.findings[4].health_factor_bps, Some(i(11_000)));
    assert_eq!(report.findings[0].health_factor_bps, Some(i(-1_800)), "rounded down");
}
