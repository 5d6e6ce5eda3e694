//! Figures: known ones by hand, and the screen against them.

use proptest::prelude::*;

use super::{
    super::{interest::adaptive_curve_rate, liquidation::incentive_wad, margin::MarketNow, state::Totals},
    fixture::*,
};
use crate::{
    positions::Unit,
    scanner::{Factors, Planes, Unvalued, Valuation, risk::Exposures},
    types::{I256, U256},
};

const WAD: u128 = 1_000_000_000_000_000_000;
const DAY: u64 = 86_400;

#[test]
fn incentives_are_those_of_the_formula() {
    let of = |lltv: u128| incentive_wad(uint(lltv)).unwrap();
    assert_eq!(of(860 * WAD / 1_000), uint(1_043_841_336_116_910_229));
    assert_eq!(of(625 * WAD / 1_000), uint(1_126_760_563_380_281_690));
    assert_eq!(of(WAD / 10), uint(115 * WAD / 100), "never above 15 %");
    assert_eq!(of(0), uint(115 * WAD / 100));
}

fn curve(supply: u128, borrowed: u128, at_target: u128, elapsed: u64) -> u128 {
    let (supply_assets, borrow_assets) = (uint(supply), uint(borrowed));
    let totals = Totals { supply_assets, borrow_assets, last_update: GENESIS, ..Totals::default() };
    adaptive_curve_rate(&totals, uint(at_target), GENESIS + elapsed).unwrap().to()
}

#[test]
fn the_curve_stands_where_it_should_at_known_points() {
    let initial = u128::from(INITIAL_AT_TARGET);
    assert_eq!(curve(100, 90, 0, DAY), initial, "a market the model has not seen is at its initial rate");
    assert_eq!(curve(100, 90, initial, DAY), initial, "at target nothing moves");
    assert_eq!(curve(100, 100, initial, 0), 4 * initial, "four times at full use");
    assert_eq!(curve(100, 0, initial, 0), initial / 4, "a quarter at none");
    assert_eq!(curve(0, 0, initial, 0), initial / 4, "an empty market is unused");
    let year = 365 * DAY;
    let (floor, ceiling) = (WAD / 1_000 / u128::from(year), 2 * WAD / u128::from(year));
    assert_eq!(curve(100, 0, initial, 10 * year), (initial + floor + 2 * floor) / 4 / 4, "bounded below");
    assert_eq!(curve(100, 100, initial, 10 * year), (initial + ceiling + 2 * ceiling) / 4 * 4, "bounded above");
    // exp(50/365) = 1.1468 by two terms of the series and the mean of the trapezoids, over 4 %: 4.28 % times four.
    let after_a_day = curve(100, 100, initial, DAY);
    let expected = initial as f64 * 4.0 * (1.0 + (50.0_f64 / 365.0).exp() + 2.0 * (25.0_f64 / 365.0).exp()) / 4.0;
    assert!((after_a_day as f64 / expected - 1.0).abs() < 1e-3, "{after_a_day} {expected}");
}

#[test]
fn a_position_is_liquidatable_exactly_when_it_owes_more_than_it_may() {
    let mut chain = Chain::opened();
    // Market 1 bears no interest; 80 % of 1,000 is 800, and the virtual share rounds 800 up to 800 exactly.
    chain.block(&[secure(1, 2, 1_000), borrow(1, 2, 800, 800_000_000)]);
    let standing = chain.standing(&key(1, 2));
    assert_eq!((standing.surplus, standing.equity), (int(0), int(200)));
    assert_eq!(standing.maintenance_margin, uint(200));
    chain.block(&[borrow(1, 3, 1, 1)]);
    assert!(chain.standing(&key(1, 2)).surplus.is_negative(), "shares are worth a part of a unit more");
}

#[test]
fn interest_counts_to_the_blocks_second() {
    let mut chain = Chain::opened();
    let borrowed = 900_000_000;
    chain.block(&[secure(0, 2, 2_000_000_000), borrow(0, 2, borrowed, borrowed * 1_000_000)]);
    let debt = |chain: &Chain| {
        let standing = chain.standing(&key(0, 2));
        (I256::try_from(2_000_000_000_u64).unwrap() - standing.equity).unsigned_abs().to::<u128>()
    };
    assert_eq!(debt(&chain), borrowed);
    chain.block_after(365 * DAY, &[]);
    // 4 % a year compounded by three terms: 1.040810; the market is at target, so the rate does not move.
    let rate = f64::from(u32::try_from(debt(&chain)).unwrap()) / borrowed as f64;
    assert!((rate - 0.04_f64.exp()).abs() < 1e-6, "{rate}");
}

#[test]
fn who_owes_nothing_is_not_valued() {
    let mut chain = Chain::opened();
    chain.prices.clear();
    chain.block_after(12, &[secure(0, 2, 1_000)]);
    let standing = chain.standing(&key(0, 2));
    assert_eq!((standing.surplus, standing.equity), (int(0), int(0)));
    assert_eq!(chain.scan().raised, 0);
}

#[test]
fn what_is_missing_is_named() {
    let mut chain = Chain::opened();
    chain.block(&[secure(2, 2, 1_000), borrow(2, 2, 10, 10_000_000), secure(0, 2, 1), borrow(0, 2, 10, 10_000_000)]);
    let why = |chain: &Chain, market| {
        let unit = chain.snapshot.book.unit(&key(market, 2)).unwrap();
        chain.adapter.standing(&chain.snapshot, &key(market, 2), unit).unwrap_err().to_string()
    };
    chain.snapshot.block.timestamp += 1;
    assert_eq!(why(&chain, 2), "missing borrow rate of market 2 at this block");
    let accrual = chain.adapter_apply(&[accrued(0, 1, 0)]);
    chain.snapshot.book.apply(&accrual).unwrap();
    assert_eq!(why(&chain, 0), "missing rate at target of market 0 since its last accrual");
    chain.prices.insert(ORACLE, U256::MAX);
    chain.block_after(12, &[]);
    let unit = chain.snapshot.book.unit(&key(0, 2)).unwrap();
    assert!(chain.adapter.standing(&chain.snapshot, &key(0, 2), unit).is_ok(), "one unit times any price fits");
    chain.block_after(12, &[secure(0, 2, 1)]);
    let unit = chain.snapshot.book.unit(&key(0, 2)).unwrap();
    let overflow = chain.adapter.standing(&chain.snapshot, &key(0, 2), unit);
    assert_eq!(overflow, Err(Unvalued::Overflow("value of collateral")), "the contract reverts, too");
}

/// The plane over these factors, in doubles.
fn evaluate(planes: &Planes, factors: &[f64]) -> f64 {
    planes.holdings.iter().fold(planes.constant, |sum, (index, q)| sum + q * factors[index.0 as usize])
}

fn to_f64(x: I256) -> f64 {
    let magnitude = f64::from(x.unsigned_abs());
    if x.is_negative() { -magnitude } else { magnitude }
}

fn enclosed(exact: I256, planes: &Planes, factors: &[f64]) -> bool {
    let magnitude: f64 = planes.holdings.iter().map(|(index, q)| (q * factors[index.0 as usize]).abs()).sum();
    let floating = 2.0 * 12.0 * f64::EPSILON / 2.0 * magnitude;
    (to_f64(exact) - evaluate(planes, factors)).abs() <= planes.rounding + floating + to_f64(exact).abs() * f64::EPSILON
}

/// A borrower of market 0 among others, at a price, some seconds after it borrowed.
fn borrower(collateral: u128, borrowed: u128, price: U256, elapsed: u64) -> (Chain, Unit, Factors) {
    let mut chain = Chain::opened();
    chain.prices.insert(ORACLE, price);
    let shares = borrowed * 1_000_000 + borrowed % 7_919;
    let rest = borrowed / 3 + 1;
    chain.block(&[
        supply(0, 4, borrowed * 2, borrowed * 2_000_000),
        secure(0, 2, collateral),
        borrow(0, 2, borrowed, shares),
        borrow(0, 3, rest, rest * 1_000_000 + 17),
    ]);
    chain.block_after(elapsed, &[]);
    let unit = chain.snapshot.book.unit(&key(0, 2)).unwrap().as_ref().clone();
    let factors = chain.adapter.factors(&chain.snapshot).unwrap();
    (chain, unit, factors)
}

#[test]
fn a_price_moves_collateral_and_leaves_debt() {
    let prices = [100_u128, 90].map(|percent| U256::from(10_u128.pow(34) * percent));
    let [before, after] = prices.map(|price| borrower(1_000_000, 400_000, price, 0).0);
    let exposures = Exposures::of(&before.adapter, &before.snapshot).unwrap();
    let unit = exposures.units.iter().find(|unit| unit.unit == key(0, 2)).unwrap();
    assert_eq!(exposures.deltas(unit).len(), 1);
    let mut moves = vec![0.0; exposures.drivers.names.len()];
    moves[exposures.drivers.names.iter().position(|name| name == "0").unwrap()] = -0.1;
    let ((surplus, equity), exact) = (exposures.after(unit, &moves), after.standing(&key(0, 2)));
    let near = |said: f64, exact: I256| (said - to_f64(exact)).abs() <= 4.0;
    assert!(near(surplus, exact.surplus) && near(equity, exact.equity), "{surplus}, {equity}: {exact:?}");
}

proptest! {
    #[test]
    fn planes_enclose_the_exact_figures(
        collateral in prop_oneof![1u128..1_000, 1u128..1 << 100],
        borrowed in prop_oneof![1u128..1_000, 1u128..1 << 60],
        price in prop_oneof![Just(U256::ZERO), (1u64..u64::MAX, 0u32..90).prop_map(|(p, shift)| U256::from(p) << shift as usize)],
        elapsed in prop_oneof![Just(0u64), 0..100 * DAY],
    ) {
        let (chain, unit, factors) = borrower(collateral, borrowed, price, elapsed);
        let planes = chain.adapter.planes(&chain.snapshot, &unit).unwrap();
        let standing = chain.standing(&key(0, 2));
        prop_assert!(enclosed(standing.equity, &planes, &factors.equity));
        prop_assert!(enclosed(standing.surplus, &planes, &factors.maintenance));
        let margin = standing.equity - standing.surplus;
        prop_assert_eq!(margin.into_raw(), standing.maintenance_margin);
    }

    #[test]
    fn interest_never_falls_and_no_two_markets_share_it(elapsed in 0u64..1_000 * DAY) {
        let mut chain = Chain::opened();
        chain.block(&[borrow(0, 2, 500_000_000, 500_000_000_000_000), borrow(2, 2, 10, 10_000_000)]);
        chain.block_after(elapsed, &[]);
        let now = MarketNow::load(&settings(), &chain.snapshot, 0).unwrap();
        let later = now.debt_pool_at(chain.snapshot.block.timestamp + 60).unwrap();
        prop_assert!(now.debt_pool().assets >= uint(500_000_000));
        prop_assert!(later.assets >= now.debt_pool().assets);
        prop_assert_eq!(later.shares, now.debt_pool().shares);
    }
}
