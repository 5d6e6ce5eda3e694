//! Units that planes alone do not describe: tiers of margin, a short option, one that is only known exactly. Whoever follows
//! them over a long walk of the price finds exactly what integers find.

use super::{SETTINGS, dice::Dice, expected, i, snapshot};
use crate::{
    positions::{Snapshot, Unit},
    scanner::{
        Bounds, Condition, Curve, Drivers, Facet, FactorIndex, Factors, Planes, Scanner, Shape, Standing, Unvalued,
        Valuation,
    },
    types::{Address, SegmentId, U256, UnitKey},
};

const UNITS: u8 = 200;
/// Where the short options' planes touch their curve.
const STRIKE: i128 = 1_000_000;

/// One price.
struct Desk {
    price: i128,
}

/// What a unit is: its owner's last byte says which kind, its first extra word how much of it.
fn size(unit: &Unit) -> i128 {
    unit.extra[0].to::<i128>()
}

impl Desk {
    /// Equity and maintenance margin, exactly.
    fn exact(&self, unit: &Unit) -> (i128, i128) {
        let (cash, size, price) = (i128::try_from(unit.cash).unwrap(), size(unit), self.price);
        match unit.owner[19] % 3 {
            // long, a twentieth of the notional, above a million a tenth
            0 => {
                let notional = size * price;
                (cash + notional, (notional / 20).max(notional / 10 - 50_000_000))
            }
            // short of something whose value bends: size · (price − strike)² below cash
            1 => (cash - size * (price - STRIKE).pow(2) / 2, size * 10_000_000_000),
            // falls with the cube of the price
            _ => (cash - size * (price / 1_000).pow(3), size * 100_000_000),
        }
    }
}

impl Valuation for Desk {
    fn factors(&self, _: &Snapshot) -> Result<Factors, Unvalued> {
        let price = self.price as f64;
        let maintenance = vec![price * 0.95, price * 0.9];
        Ok(Factors { names: Vec::new(), equity: vec![price; 2], maintenance })
    }

    fn drivers(&self, _: &Snapshot) -> Result<Drivers, Unvalued> {
        Ok(Drivers::default())
    }

    fn planes(&self, _: &Snapshot, _: &Unit) -> Result<Planes, Unvalued> {
        Err(Unvalued::Missing("planes: shapes are asked for".to_owned()))
    }

    fn shape(&self, _: &Snapshot, unit: &Unit) -> Result<Shape, Unvalued> {
        let (cash, size) = (i128::try_from(unit.cash).unwrap() as f64, size(unit) as f64);
        let price = self.price as f64;
        let planes = |constant, holdings| Planes { constant, holdings, rounding: 2.0 };
        Ok(match unit.owner[19] % 3 {
            0 => {
                let tier = |factor, maintenance_offset| Facet {
                    planes: planes(cash, vec![(FactorIndex(factor), size)]),
                    maintenance_offset,
                    curves: Vec::new(),
                };
                Shape { facets: vec![tier(0, 0.0), tier(1, 50_000_000.0)], bounds: Vec::new() }
            }
            1 => {
                let at = STRIKE as f64;
                let curve = Curve { factor: FactorIndex(0), at, equity: -size, maintenance: -size, remainder: 1.0 };
                let flat =
                    Facet { planes: planes(cash, Vec::new()), maintenance_offset: size * -1e10, curves: vec![curve] };
                Shape { facets: vec![flat], bounds: vec![Bounds::around(FactorIndex(0), price, 0.07)] }
            }
            _ => {
                // healthy at the far end of the bounds, and so within them; else known at this very price alone
                let far = Desk { price: self.price + self.price / 50 };
                let (equity, margin) = far.exact(unit);
                let healthy = 10_000 * equity > 12_000 * margin;
                let (low, high) = if healthy { (0.0, far.price as f64) } else { (price, price) };
                Shape::opaque(vec![Bounds { factor: FactorIndex(0), low, high }])
            }
        })
    }

    fn standing(&self, _: &Snapshot, _: &UnitKey, unit: &Unit) -> Result<Standing, Unvalued> {
        let (equity, margin) = self.exact(unit);
        let maintenance_margin = U256::from(margin.unsigned_abs());
        Ok(Standing { equity: i(equity), maintenance_margin, surplus: i(equity - margin), health_factor_wad: None })
    }
}

fn unit(id: u8, dice: &mut Dice) -> Unit {
    let mut unit = Unit::new(SegmentId(0), Address::with_last_byte(id));
    let size = i128::from(dice.below(2_000)) + 1;
    unit.extra = vec![U256::from(size.unsigned_abs())];
    let span = i128::from(dice.below(1_000)) + 1;
    unit.cash = match id % 3 {
        0 => i(-size * STRIKE * (700 + span / 5) / 1_000),
        1 => i(size * (STRIKE * span / 2_000).pow(2) / 2),
        _ => i(size * (500 + span).pow(3)),
    };
    unit
}

#[test]
fn bent_units_are_found_as_exactly_as_straight_ones() {
    for seed in 1..=4 {
        let mut dice = Dice(seed);
        let snapshot = snapshot((0..UNITS).map(|id| unit(id, &mut dice)));
        let (mut desk, mut scanner) = (Desk { price: STRIKE }, Scanner::new(SETTINGS));
        let (mut seen, mut looks, mut passes) = ([0; 5], 0, 0);
        for _ in 0..1_500 {
            let step = i128::from(dice.below(2_001)) - 1_000;
            let step = if dice.one_in(30) { step * 200 } else { step };
            desk.price = (desk.price + step).clamp(STRIKE / 3, STRIKE * 2);
            let report = scanner.scan(&desk, &snapshot);
            let mut found =
                report.findings.iter().map(|finding| (&finding.unit, finding.condition)).collect::<Vec<_>>();
            found.sort_unstable();
            let truth = snapshot.book.units().filter_map(|(key, unit)| {
                let standing = desk.standing(&snapshot, key, unit).unwrap();
                let condition = expected(&standing);
                seen[condition as usize] += 1;
                (condition != Condition::Healthy).then_some((key, condition))
            });
            let mut truth: Vec<_> = truth.collect();
            truth.sort_unstable();
            assert!(found == truth, "at a price of {}: {found:?} and not {truth:?}", desk.price);
            looks += report.raised;
            passes += 1;
        }
        assert!([0, 1, 3, 4].into_iter().all(|condition| seen[condition] > 500), "{seen:?}");
        assert!(looks < passes * usize::from(UNITS), "the screen clears nobody");
    }
}

#[test]
fn a_price_that_is_no_number_hides_nobody() {
    struct Lost(Desk);
    impl Valuation for Lost {
        fn factors(&self, snapshot: &Snapshot) -> Result<Factors, Unvalued> {
            let mut factors = self.0.factors(snapshot)?;
            factors.equity[0] = f64::NAN;
            Ok(factors)
        }
        fn drivers(&self, snapshot: &Snapshot) -> Result<Drivers, Unvalued> {
            self.0.drivers(snapshot)
        }
        fn planes(&self, snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
            self.0.planes(snapshot, unit)
        }
        fn shape(&self, snapshot: &Snapshot, unit: &Unit) -> Result<Shape, Unvalued> {
            self.0.shape(snapshot, unit)
        }
        fn standing(&self, snapshot: &Snapshot, key: &UnitKey, unit: &Unit) -> Result<Standing, Unvalued> {
            self.0.standing(snapshot, key, unit)
        }
    }
    let mut dice = Dice(9);
    let snapshot = snapshot((0..UNITS).map(|id| unit(id, &mut dice)));
    let mut scanner = Scanner::new(SETTINGS);
    let first = scanner.scan(&Desk { price: STRIKE }, &snapshot);
    let lost = scanner.scan(&Lost(Desk { price: STRIKE }), &snapshot);
    assert!(lost.findings == first.findings);
    assert_eq!(lost.raised, usize::from(UNITS), "everybody is looked at");
    let again = scanner.scan(&Desk { price: STRIKE }, &snapshot);
    assert!(again.findings == first.findings);
    assert!(again.raised < usize::from(UNITS), "and let go once the price is back");
}
