//! The measures against simulated paths, against published figures and against each other.

use std::collections::BTreeMap;

use alloy::primitives::{Address, B256, I256, U256};
use proptest::prelude::*;

use super::*;
use crate::{
    positions::{Book, Draft, Snapshot, Unit},
    scanner::{
        Condition, DriverIndex, Drivers, FactorIndex, Factors, Planes, Standing, Unvalued, Valuation, tests::dice::Dice,
    },
    types::{BlockRef, SegmentId, UnitKey},
};

/// Student's with a whole number of degrees of freedom, scaled to variance 1: its scale is drawn once.
fn scale(dice: &mut Dice, freedom: Option<u32>) -> f64 {
    let Some(freedom) = freedom else { return 1.0 };
    let chi: f64 = (0..freedom).map(|_| dice.normal().powi(2)).sum();
    (f64::from(freedom - 2) / chi).sqrt()
}

/// Two prices; units that hold so much of each, with so much beside it, at a maintenance margin of 10 %.
struct Desk(Vec<(f64, f64, f64)>);

const PRICES: [f64; 2] = [100.0, 50.0];

impl Desk {
    fn snapshot(&self) -> Snapshot {
        let mut book = Book::default();
        let mut draft = Draft::new(&book);
        for n in 0..self.0.len() {
            let unit = Unit {
                segment: SegmentId(1),
                owner: Address::with_last_byte(u8::try_from(n / 2).unwrap()),
                cash: I256::ZERO,
                legs: vec![],
                extra: vec![U256::from(n)],
            };
            draft.set_unit(UnitKey::new(vec![u8::try_from(n).unwrap()]).unwrap(), Some(unit));
        }
        let delta = draft.finish();
        book.apply(&delta).unwrap();
        let block = BlockRef { number: 7, hash: B256::ZERO, parent_hash: B256::ZERO, timestamp: 1_000 };
        Snapshot { block, book }
    }

    fn exposures(&self) -> Exposures {
        Exposures::of(self, &self.snapshot()).unwrap()
    }
}

impl Valuation for Desk {
    fn factors(&self, _: &Snapshot) -> Result<Factors, Unvalued> {
        // By price: long, short.
        let maintenance = PRICES.iter().flat_map(|price| [price * 0.9, price * 1.1]).collect();
        let equity = PRICES.iter().flat_map(|price| [*price; 2]).collect();
        Ok(Factors { names: vec![String::new(); 4], equity, maintenance })
    }

    fn drivers(&self, snapshot: &Snapshot) -> Result<Drivers, Unvalued> {
        let factors = self.factors(snapshot)?;
        let slopes = Drivers::proportional(&factors, |slot| Some(DriverIndex(u32::try_from(slot / 2).unwrap())));
        Ok(Drivers { names: vec!["1".to_owned(), "2".to_owned()], prices: PRICES.to_vec(), slopes })
    }

    fn planes(&self, _: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
        let (first, second, constant) = self.0[usize::try_from(unit.extra[0]).unwrap()];
        if constant.is_nan() {
            return Err(Unvalued::Missing("price".to_owned()));
        }
        let holding = |price: u32, held: f64| (FactorIndex(2 * price + u32::from(held < 0.0)), held);
        let holdings = [holding(0, first), holding(1, second)].into_iter().filter(|(_, held)| *held != 0.0).collect();
        Ok(Planes { constant, holdings, rounding: 0.0 })
    }

    fn standing(&self, _: &Snapshot, _: &UnitKey, _: &Unit) -> Result<Standing, Unvalued> {
        Err(Unvalued::Missing("all of it".to_owned()))
    }
}

/// Both prices move 2 % in an hour, with this correlation.
fn model(correlation: Option<f64>, tail: Tail) -> Model {
    Model { deviations: vec![0.02 / 60.0; 2], correlations: vec![correlation], tail }
}

const HOUR: u64 = 3_600;

#[test]
fn chance_and_loss_are_those_of_simulated_paths() {
    const PATHS: u32 = 6_000;
    const STEPS: u32 = 900;
    // One long of both, near its margin: equity 1,100, surplus 700.
    let desk = Desk(vec![(20.0, 40.0, -2_900.0)]);
    let exposures = desk.exposures();
    let (unit, correlation, horizon) = (&exposures.units[0], 0.5, 4 * HOUR);
    let deltas = exposures.deltas(unit);
    for freedom in [None, Some(5)] {
        let tail = freedom.map_or(Tail::Normal, |freedom| Tail::Student { freedom: f64::from(freedom) });
        let said = Likelihood::of(&exposures, unit, &model(Some(correlation), tail)).at(horizon, &model(None, tail));
        let mut dice = Dice(42);
        let (mut touched, mut lost) = (0u32, 0.0);
        let step = 0.02 * 2.0 / f64::from(STEPS).sqrt();
        for _ in 0..PATHS {
            let scale = scale(&mut dice, freedom) * step;
            let (mut moved, mut touches) = ([0.0; 2], false);
            for _ in 0..STEPS {
                let (a, b) = (dice.normal(), dice.normal());
                moved[0] += scale * a;
                moved[1] += scale * (correlation * a + (1.0 - correlation * correlation).sqrt() * b);
                // Between two steps a path goes 0.5826 of a step's deviation beyond (Broadie, Glasserman, Kou 1997).
                let change = deltas.iter().zip(moved).map(|(delta, moved)| delta.maintenance * moved).sum::<f64>();
                let deviation = deltas[0].maintenance * scale * 3f64.sqrt();
                touches |= unit.surplus + change < 0.5826 * deviation;
            }
            let equity = unit.equity + deltas.iter().zip(moved).map(|(delta, moved)| delta.equity * moved).sum::<f64>();
            touched += u32::from(touches);
            lost += (-equity).max(0.0);
        }
        let (chance, loss) = (f64::from(touched) / f64::from(PATHS), lost / f64::from(PATHS));
        assert!((chance - said.liquidation_chance).abs() < 0.02, "{tail:?}: {chance} is not {said:?}");
        let tolerance = 0.1 * said.expected_bad_debt + 0.02;
        assert!((loss - said.expected_bad_debt).abs() < tolerance, "{tail:?}: {loss} is not {said:?}");
    }
}

#[test]
fn tails_have_their_published_values() {
    let near = |a: f64, b: f64| assert!((a - b).abs() < 5e-5, "{a} is not {b}");
    near(Tail::Normal.beyond(1.96), 0.0250);
    near(Tail::Normal.quantile_beyond(0.25), 0.6745);
    // Bachelier at the money: σ √(T / 2π).
    near(Tail::Normal.excess(0.0), 0.39894);
    near(Tail::Normal.excess(1.0), 0.08332);
    // Student's table, ν = 5: exceeded with 5 % at 2.0150, with 2.5 % at 2.5706; scaled to variance 1.
    let five = Tail::Student { freedom: 5.0 };
    near(five.beyond(2.0150 * 0.6_f64.sqrt()), 0.05);
    near(five.quantile_beyond(0.025), 2.5706 * 0.6_f64.sqrt());
    // E max(T, 0) = ν / (ν − 1) · f(0), f(0) = 0.37961 for ν = 5.
    near(five.excess(0.0), 0.6_f64.sqrt() * 1.25 * 0.37961);
    assert_eq!(Tail::of_kurtosis(2.5), Tail::Normal);
    assert_eq!(Tail::of_kurtosis(9.0), Tail::Student { freedom: 5.0 });
    assert_eq!(Tail::of_kurtosis(f64::INFINITY), Tail::Student { freedom: 4.05 });
}

#[test]
fn volatility_correlation_and_tail_are_found_again() {
    let settings = MovesSettings { half_life_seconds: 600_000, pace_seconds: 60, volatility_per_day_bps_min: 1 };
    for (freedom, expected) in [(None, 30.0..=f64::INFINITY), (Some(6), 4.5..=9.0)] {
        let mut dice = Dice(7);
        let mut drivers = Desk(vec![]).drivers(&Desk(vec![]).snapshot()).unwrap();
        let mut moves = Moves::default();
        for n in 0..20_000u64 {
            let (scale, a, b) = (scale(&mut dice, freedom), dice.normal(), dice.normal());
            drivers.prices[0] *= 1.0 + 0.001 * scale * a;
            drivers.prices[1] *= 1.0 + 0.002 * scale * (0.8 * a + 0.6 * b);
            assert!(moves.observe(1_000 + 60 * n, &drivers, &settings));
            assert!(!moves.observe(1_030 + 60 * n, &drivers, &settings), "too early");
        }
        let model = moves.model(&drivers, &settings);
        for (found, per_minute) in model.deviations.iter().zip([0.001, 0.002]) {
            let found = found * 60f64.sqrt();
            assert!((found / per_minute - 1.0).abs() < 0.05, "{found} is not {per_minute}");
        }
        let correlation = model.correlation(DriverIndex(1), DriverIndex(0)).unwrap();
        assert!((correlation - 0.8).abs() < 0.03, "{correlation}");
        let freedom = if let Tail::Student { freedom } = model.tail { freedom } else { f64::INFINITY };
        assert!(expected.contains(&freedom), "{:?}", model.tail);
        let text = serde_json::to_string(&moves).unwrap();
        let again: Moves = serde_json::from_str(&text).unwrap();
        assert!((again.model(&drivers, &settings).deviations[0] / model.deviations[0] - 1.0).abs() < 1e-12);
    }
}

#[test]
fn a_price_that_comes_late_or_is_missing_disturbs_no_other() {
    let settings = MovesSettings { pace_seconds: 10, ..MovesSettings::default() };
    let drivers = |prices: &[(&str, f64)]| Drivers {
        names: prices.iter().map(|(name, _)| (*name).to_owned()).collect(),
        prices: prices.iter().map(|(_, price)| *price).collect(),
        slopes: vec![],
    };
    let mut moves = Moves::default();
    moves.observe(100, &drivers(&[("b", 10.0)]), &settings);
    moves.observe(200, &drivers(&[("a", 5.0), ("b", 10.1)]), &settings);
    moves.observe(300, &drivers(&[("a", 0.0), ("b", 10.0)]), &settings);
    let last = drivers(&[("a", 5.1), ("b", 10.1), ("c", 1.0)]);
    moves.observe(400, &last, &settings);
    let model = moves.model(&last, &settings);
    let floor = 0.01 / 86_400f64.sqrt();
    assert_eq!([model.deviations[0], model.deviations[2]], [floor; 2], "never seen to move");
    assert!((model.deviations[1] - 0.001).abs() < 1e-4, "a part in a hundred in a hundred seconds: {model:?}");
    assert_eq!(model.correlation(DriverIndex(0), DriverIndex(1)), None);
    assert_eq!(moves.observations, 3);
}

#[test]
fn two_prices_whose_correlation_is_unknown_move_as_is_worst() {
    let variance = |correlation, of: [f64; 2]| {
        model(correlation, Tail::Normal).variance(&[(DriverIndex(0), of[0]), (DriverIndex(1), of[1])])
    };
    for of in [[3.0, 4.0], [3.0, -4.0], [-3.0, -4.0]] {
        let worst = variance(Some(1.0), of).max(variance(Some(-1.0), of));
        assert_eq!(variance(None, of), worst);
    }
}

#[test]
fn who_is_liquidatable_now_comes_first_then_what_is_expected_to_be_lost() {
    let desk = Desk(vec![
        (10.0, 0.0, -880.0),    // 12 % of equity: near
        (10.0, 0.0, -950.0),    // liquidatable
        (100.0, 0.0, -8_700.0), // a little farther, ten times the size
        (10.0, 0.0, -1_020.0),  // bankrupt
        (0.0, 0.0, f64::NAN),   // no planes
        (0.0, 0.0, 50.0),       // nothing can happen to it
        (-10.0, 0.0, 1_500.0),  // short, far
    ]);
    let settings = RiskSettings { watched_max: 4, reaction_seconds: 8 * HOUR, ..RiskSettings::default() };
    let funds = [(SegmentId(1), 500.0)].into();
    let mut moves = Moves::default();
    let mut drivers = desk.drivers(&desk.snapshot()).unwrap();
    for n in 0..40 {
        drivers.prices[0] = if n % 2 == 0 { 100.0 } else { 101.0 };
        moves.observe(1_000 + 60 * n, &drivers, &settings.moves);
    }
    let report = assess(&desk, &desk.snapshot(), &moves, &funds, &settings).unwrap();
    let order: Vec<u8> = report.watched.iter().map(|risk| risk.unit.as_bytes()[0]).collect();
    assert_eq!(order, [3, 1, 2, 0]);
    assert_eq!(report.watched[0].condition, Condition::Bankrupt);
    assert_eq!((report.units, report.opaque_units), (5, 1));
    let near = &report.watched[3];
    assert_eq!(near.surplus.round(), 20.0);
    // 1,000 − 20 / 0.9 a unit of ten.
    assert!((near.liquidation_prices[0].1 - (100.0 - 20.0 / 9.0)).abs() < 1e-9, "{near:?}");
    let far = Exposures::of(&desk, &desk.snapshot()).unwrap();
    let short = UnitRisk::of(&far, far.units.last().unwrap(), &moves.model(&drivers, &settings.moves), 60, &[]);
    assert!((short.liquidation_prices[0].1 - 1_500.0 / 11.0).abs() < 1e-9, "{short:?}");
    // Nobody waits: the median is where the chance is a half.
    let model = moves.model(&drivers, &settings.moves);
    let seconds = near.median_seconds_to_liquidation.unwrap();
    let unit = far.units.iter().find(|unit| unit.unit == near.unit).unwrap();
    let at = Likelihood::of(&far, unit, &model).at(seconds.round() as u64, &model);
    assert!((at.liquidation_chance - 0.5).abs() < 0.01, "{at:?} at {seconds}");
    // At −15 % 30, 100, 200 and 170 are short: just the fund.
    let runway = report.runways[&SegmentId(1)];
    assert_eq!((runway.fall, runway.rise), (Some(-0.16), None));
    assert_eq!(report.concentrations.len(), 1);
    let held = &report.concentrations[0];
    assert_eq!((held.long, held.short), (13_000.0, 1_000.0));
    assert_eq!((held.largest_owner, held.largest_share), (Address::with_last_byte(1), 11_000.0 / 14_000.0));
}

#[test]
fn closing_into_thin_markets_makes_further_units_liquidatable() {
    // Each holds 1,000 of the first price; surplus 10, 40, 70, 100 at first; a fall of 1 % costs 9.
    let desk = Desk([-890.0, -860.0, -830.0, -800.0].map(|debt| (10.0, 0.0, debt)).into());
    let exposures = desk.exposures();
    let alone = stress(&exposures, &[-0.02, 0.0], &Depth::new());
    assert_eq!((alone.rounds, alone.total().liquidatable), (1, 1));
    // What is sold moves the price by 3.3 %: the second falls at −5.2 %, and so on to the last.
    let thin = stress(&exposures, &[-0.02, 0.0], &[("1".to_owned(), 300.0)].into());
    assert_eq!((thin.rounds, thin.total().liquidatable), (4, 4));
    assert!(thin.moves["1"] < -0.11 && !thin.moves.contains_key("2"), "{thin:?}");
    let deep = stress(&exposures, &[-0.02, 0.0], &[("1".to_owned(), 4_000.0)].into());
    assert_eq!((deep.rounds, deep.total().liquidatable), (1, 1));
    assert!(stress(&exposures, &[0.0, 0.0], &Depth::new()).segments.is_empty());
}

proptest! {
    /// Whatever is held: after any moves a unit is worth what its planes say at the moved factors, and a stress without
    /// depth counts exactly those below zero.
    #[test]
    fn a_moved_unit_is_worth_its_planes(
        units in prop::collection::vec((-50.0..50.0f64, -50.0..50.0f64, -5_000.0..5_000.0f64), 1..40),
        moves in prop::array::uniform2(-0.9..2.0f64),
    ) {
        let desk = Desk(units.clone());
        let exposures = desk.exposures();
        let stressed = stress(&exposures, &moves, &Depth::new());
        let mut expected = SegmentStress::default();
        for (first, second, constant) in units {
            let after = |haircut: f64| constant + [first, second].iter().zip(PRICES).zip(moves).map(|((held, price), moved)| {
                held * price * (1.0 + moved) * (1.0 - haircut * held.signum())
            }).sum::<f64>();
            let (surplus, equity) = (after(0.1), after(0.0));
            expected.liquidatable += u64::from(surplus < 0.0);
            expected.bankrupt += u64::from(equity < 0.0);
            expected.bad_debt += (-equity).max(0.0);
        }
        let total = stressed.total();
        prop_assert_eq!((total.liquidatable, total.bankrupt), (expected.liquidatable, expected.bankrupt));
        prop_assert!((total.bad_debt - expected.bad_debt).abs() < 1e-6);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// All steps at once in columns, or one after the other as a cascade that nothing feeds: the same runways.
    #[test]
    fn both_ways_to_a_runway_agree(
        units in prop::collection::vec((-50i32..50, -50i32..50, 0i32..4_000), 1..40), fund in 0i32..20_000,
    ) {
        let of = |(first, second, beside): (i32, i32, i32)| {
            let debt = f64::from(first) * PRICES[0] + f64::from(second) * PRICES[1];
            // a quarter beside the point, so that no step falls on a rounding
            (f64::from(first), f64::from(second), f64::from(beside) - debt + 0.25)
        };
        let desk = Desk(units.into_iter().map(of).collect());
        let funds = BTreeMap::from([(SegmentId(1), f64::from(fund) + 0.125)]);
        let steps = || (1..=99).map(|percent| -f64::from(percent) / 100.0);
        let together = screened::Screened::of(&desk, &desk.snapshot()).unwrap().runways(&funds, steps());
        prop_assert_eq!(together, runways(&desk.exposures(), &funds, &Depth::new(), steps()));
    }
}
