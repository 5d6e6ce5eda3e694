//! Figures against an independent, naive computation in unbounded integers.

use alloy::sol_types::SolCall;
use bigdecimal::{BigDecimal, num_bigint::BigInt};
use proptest::prelude::*;

use super::{
    super::{
        abi::IClearinghouse,
        margin::{Account, MarketNow},
    },
    fixture::*,
};
use crate::{
    protocols::{Adapter, Shock},
    scanner::{Unvalued, Valuation, risk::Exposures},
    types::{I256, MarketId, U256, UnitKey},
};

/// One random market: price, funding rate and index, margins.
#[derive(Clone, Debug)]
struct Terms {
    price: u128,
    rate_x18: i128,
    index: i128,
    maintenance_bps: u16,
    initial_bps: u16,
}

fn terms() -> impl Strategy<Value = Terms> {
    let price = prop_oneof![1u128..1_000, 1u128..1_000_000_000_000, 1u128..u128::from(u64::MAX) << 32];
    let rate = prop_oneof![Just(0i128), -10i128.pow(22)..10i128.pow(22)];
    let index = prop_oneof![Just(0i128), -1_000i128..1_000, -10i128.pow(14)..10i128.pow(14)];
    (price, rate, index, 1u16..5_000, 0u16..5_000).prop_map(|(price, rate_x18, index, maintenance_bps, more)| Terms {
        price,
        rate_x18,
        index,
        maintenance_bps,
        initial_bps: maintenance_bps + more + 1,
    })
}

fn holding() -> impl Strategy<Value = (i128, i128)> {
    let size = prop_oneof![Just(0i128), -50i128..50, -(1i128 << 62)..(1i128 << 62)];
    (size, -(1i128 << 90)..(1i128 << 90)).prop_map(|(lots, quote)| (lots, if lots == 0 { 0 } else { quote }))
}

/// Markets 1 and 2 on these terms, `elapsed` seconds after funding was set, and one account that holds them.
fn chain(terms: &[Terms; 2], elapsed: u64, money: i128, holdings: &[(i128, i128); 2]) -> (Chain, UnitKey) {
    let mut chain = Chain::opened();
    for (market, feed, t) in [(1, FEED_A, &terms[0]), (2, FEED_B, &terms[1])] {
        let margins = IClearinghouse::MarginSet {
            market,
            maintenanceMarginBps: t.maintenance_bps,
            initialMarginBps: t.initial_bps,
        };
        chain.extend(&[
            of_venue(&margins),
            funding(market, t.rate_x18, t.index, GENESIS),
            price(feed, t.price, GENESIS),
        ]);
    }
    chain.extend(&[cash(1, owner(1), money)]);
    for (market, (lots, quote)) in [1, 2].into_iter().zip(holdings) {
        chain.extend(&[position(market, owner(1), *lots, *quote)]);
    }
    chain.wait(elapsed);
    (chain, key(1, 1))
}

/// Equity, maintenance margin and initial margin by the formulas of the venue's interface.
fn naive(terms: &[Terms; 2], elapsed: u64, money: i128, holdings: &[(i128, i128); 2]) -> [BigInt; 3] {
    let (mut equity, mut maintenance, mut initial) = (BigInt::from(money), BigInt::from(0), BigInt::from(0));
    for (t, &(lots, quote)) in terms.iter().zip(holdings) {
        let accrued = BigInt::from(t.rate_x18) * elapsed / BigInt::from(10u64.pow(18));
        let index = BigInt::from(t.index) + accrued;
        equity += (BigInt::from(t.price) - index) * lots + quote;
        let ceil = |bps: u16| (BigInt::from(lots.unsigned_abs()) * t.price * bps + 9_999) / 10_000;
        maintenance += ceil(t.maintenance_bps);
        initial += ceil(t.initial_bps);
    }
    [equity, maintenance, initial]
}

fn big(x: impl ToString) -> BigInt {
    x.to_string().parse().unwrap()
}

fn value(chain: &Chain, key: &UnitKey) -> Result<Account, Unvalued> {
    let unit = chain.snapshot.book.unit(key).unwrap();
    Account::of(unit, |id| MarketNow::load(&chain.snapshot, id))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn accounts_are_worth_what_the_interface_says(
        terms in [terms(), terms()], elapsed in 0u64..100_000_000, money in -(1i128 << 100)..(1i128 << 100),
        holdings in [holding(), holding()],
    ) {
        let (chain, key) = chain(&terms, elapsed, money, &holdings);
        let account = value(&chain, &key).unwrap();
        let [equity, maintenance, initial] = naive(&terms, elapsed, money, &holdings);
        prop_assert_eq!(big(account.equity), equity.clone());
        prop_assert_eq!(big(account.maintenance_margin), maintenance.clone());
        prop_assert_eq!(big(account.initial_margin), initial);
        let unit = chain.snapshot.book.unit(&key).unwrap();
        let standing = chain.venue.standing(&chain.snapshot, &key, unit).unwrap();
        prop_assert_eq!(big(standing.surplus), equity.clone() - maintenance.clone());

        // What a keeper may liquidate: 0, half rounded up, all.
        let size = U256::from(7);
        let lots = account.liquidatable_lots(size).unwrap();
        let expected = if equity >= maintenance { 0 } else if equity.clone() * 2 >= maintenance { 4 } else { 7 };
        prop_assert_eq!(lots, U256::from(expected));
    }

    #[test]
    fn planes_stay_within_their_rounding(
        terms in [terms(), terms()], elapsed in 0u64..100_000_000, money in -(1i128 << 100)..(1i128 << 100),
        holdings in [holding(), holding()],
    ) {
        let (chain, key) = chain(&terms, elapsed, money, &holdings);
        let unit = chain.snapshot.book.unit(&key).unwrap();
        let exact = chain.venue.standing(&chain.snapshot, &key, unit).unwrap();
        let factors = chain.venue.factors(&chain.snapshot).unwrap();
        let planes = chain.venue.planes(&chain.snapshot, unit).unwrap();
        prop_assert_eq!(planes.holdings.len(), unit.legs.len());
        for (values, exact) in [(&factors.equity, exact.equity), (&factors.maintenance, exact.surplus)] {
            // The planes' own figures, summed without any rounding.
            let terms = planes.holdings.iter().map(|(k, q)| decimal(*q) * decimal(values[k.0 as usize]));
            let plane = decimal(planes.constant) + terms.sum::<BigDecimal>();
            let distance = (plane - BigDecimal::from(big(exact))).abs();
            prop_assert!(distance <= decimal(planes.rounding), "{distance} off, rounding {}", planes.rounding);
        }
    }
}

/// Exactly this float.
fn decimal(x: f64) -> BigDecimal {
    BigDecimal::try_from(x).unwrap()
}

#[test]
fn small_figures_screen_to_within_one_unit_a_position() {
    let (chain, key) = {
        let mut chain = Chain::opened();
        chain.extend(&[cash(1, owner(1), 300), position(1, owner(1), 3, -2_900), position(2, owner(1), -3, 151)]);
        (chain, key(1, 1))
    };
    let unit = chain.snapshot.book.unit(&key).unwrap();
    let planes = chain.venue.planes(&chain.snapshot, unit).unwrap();
    let factors = chain.venue.factors(&chain.snapshot).unwrap();
    assert!((2.0..2.000_001).contains(&planes.rounding), "{}", planes.rounding);
    assert_eq!(factors.names[..4], ["market 1 long", "market 1 short", "market 2 long", "market 2 short"]);
    assert_eq!(factors.equity[..4], [1_000.0, 1_000.0, 50.0, 50.0]);
    assert_eq!(factors.maintenance[..4], [950.0, 1_050.0, 47.5, 52.5]);
    let account = value(&chain, &key).unwrap();
    assert_eq!((account.equity, account.maintenance_margin), (int(401), uint(150 + 8)));
    assert_eq!(account.initial_margin, uint(300 + 15));
}

#[test]
fn what_no_price_was_seen_for_is_unvalued_and_the_rest_is_not() {
    let mut chain = Chain::empty();
    chain.extend(&[segment_opened(1), listed(1, 1, FEED_A), listed(2, 1, FEED_B), price(FEED_A, 9, GENESIS)]);
    chain.extend(&[cash(1, owner(1), 5), position(1, owner(1), 1, -9), position(2, owner(2), 1, 0)]);
    assert_eq!(value(&chain, &key(1, 1)).unwrap().equity, int(5));
    let missing = Unvalued::Missing("price of market 2".to_owned());
    assert_eq!(value(&chain, &key(1, 2)), Err(missing.clone()));
    assert!(chain.venue.factors(&chain.snapshot).is_ok());
    let unit = chain.snapshot.book.unit(&key(1, 2)).unwrap();
    assert_eq!(chain.venue.planes(&chain.snapshot, unit), Err(missing));
}

#[test]
fn figures_beyond_256_bits_are_an_error_not_a_number() {
    let (chain, key) = {
        let mut chain = Chain::opened();
        let event = IClearinghouse::PositionChanged {
            market: 1,
            account: owner(1),
            lots: crate::types::I256::MAX,
            quote: int(0),
        };
        chain.extend(&[of_venue(&event)]);
        (chain, key(1, 1))
    };
    assert!(matches!(value(&chain, &key), Err(Unvalued::Overflow(_))));
}

#[test]
fn probes_expect_the_views_exact_bytes() {
    let mut chain = Chain::opened();
    chain.extend(&[
        cash(1, owner(1), 300),
        position(1, owner(1), 3, -2_900),
        cash(1, owner(2), 100),
        position(1, owner(2), -3, 2_900),
        order(4, 2, owner(2), true, 49, 6),
        of_venue(&IClearinghouse::FundChanged { segment: 1, balance: uint(70) }),
    ]);
    let probes = chain.venue.probes(&chain.snapshot, &[key(1, 2), key(2, 9)]);
    let expected = |subject: &str| {
        let found: Vec<_> = probes.iter().filter(|p| p.subject.starts_with(subject)).collect();
        assert_eq!(found.len(), 1, "{subject} in {probes:?}");
        (found[0].call.data.clone(), found[0].expected.clone())
    };
    let (call, account) = expected(&format!("account {}", owner(2)));
    assert_eq!(IClearinghouse::accountStateCall::abi_decode(&call).unwrap().account, owner(2));
    let account = IClearinghouse::accountStateCall::abi_decode_returns(&account).unwrap();
    assert_eq!((account.cash, account.equity, account.maintenanceMargin), (int(100), int(0), uint(150)));
    let (_, nothing) = expected(&format!("account {}", owner(9)));
    assert_eq!(nothing.as_ref(), [0; 128], "an account that no event named");
    let (_, funds) = expected("funds of segment 1");
    let funds = IClearinghouse::segmentFundsCall::abi_decode_returns(&funds).unwrap();
    assert_eq!((funds.pool, funds.fund, funds.fundFloor), (uint(400), uint(70), uint(0)));
    let (_, market) = expected("market 1");
    let market = IClearinghouse::marketCall::abi_decode_returns(&market).unwrap();
    assert_eq!((market.openInterestLots, market.config.maintenanceMarginBps), (uint(3), 500));
    let (_, order) = expected("order 4");
    let order = IClearinghouse::orderCall::abi_decode_returns(&order).unwrap();
    assert_eq!((order.market, order.maker, order.isBuy, order.lots), (2, owner(2), true, 6));
    let (_, latest) = expected(&format!("feed {FEED_B}"));
    assert_eq!(U256::from_be_slice(&latest[..32]), uint(50));
}

#[test]
fn what_a_move_is_said_to_do_is_what_the_shock_does() {
    let mut chain = Chain::opened();
    chain.extend(&[
        price(FEED_A, 1_000_000, GENESIS),
        price(FEED_B, 40_000, GENESIS),
        funding(1, 0, 12_345, GENESIS),
        cash(1, owner(1), 900_000),
        position(1, owner(1), 10, -10_000_000),
        position(2, owner(1), -200, 8_000_000),
    ]);
    let exposures = Exposures::of(&chain.venue, &chain.snapshot).unwrap();
    let place = |name: &str| exposures.drivers.names.iter().position(|known| known == name).unwrap();
    for (first, second) in [(-1_000, 0), (0, 700), (2_500, -300), (-9_000, 10_000)] {
        let shock = |market, change_bps| Shock { market: Some(MarketId(market)), change_bps };
        let shocked = chain.venue.shocked(&chain.snapshot, &[shock(1, first), shock(2, second)]).unwrap();
        let exact = chain.venue.standing(&shocked, &key(1, 1), shocked.book.unit(&key(1, 1)).unwrap()).unwrap();
        let mut moves = vec![0.0; exposures.drivers.names.len()];
        moves[place("1")] = f64::from(first) / 10_000.0;
        moves[place("2")] = f64::from(second) / 10_000.0;
        let (surplus, equity) = exposures.after(&exposures.units[0], &moves);
        let near = |said: f64, exact: I256| (said - exact.to_string().parse::<f64>().unwrap()).abs() <= 2.0;
        assert!(near(surplus, exact.surplus) && near(equity, exact.equity), "{surplus}, {equity}: {exact:?}");
    }
}

#[test]
fn a_shock_moves_feeds_and_leaves_the_cache_alone() {
    let mut chain = Chain::opened();
    chain.extend(&[cash(1, owner(1), 1_000), position(1, owner(1), 10, -10_000)]);
    let shock = |market: Option<u32>, change_bps| Shock { market: market.map(MarketId), change_bps };
    let equity = |shocks: &[Shock]| {
        let shocked = chain.venue.shocked(&chain.snapshot, shocks).unwrap();
        let unit = shocked.book.unit(&key(1, 1)).unwrap();
        chain.venue.standing(&shocked, &key(1, 1), unit).unwrap().equity
    };
    assert_eq!(equity(&[]), int(1_000));
    assert_eq!(equity(&[shock(None, -3_333)]), int(1_000 - 3_340), "666.7 rounds down");
    assert_eq!(equity(&[shock(Some(2), -5_000)]), int(1_000), "another market's feed");
    assert_eq!(equity(&[shock(Some(1), 100), shock(Some(1), 1_000)]), int(2_000), "the last one counts");
    assert!(chain.venue.shocked(&chain.snapshot, &[shock(Some(9), 1)]).unwrap_err().contains("market 9"));
    assert!(chain.venue.shocked(&chain.snapshot, &[shock(None, -10_000)]).is_err());
}
