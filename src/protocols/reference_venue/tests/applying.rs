//! Logs to changes of the book.

use alloy::primitives::IntoLogData;
use proptest::prelude::*;

use super::{
    super::{
        abi::{IAccessControl, IClearinghouse, IRiskSteward},
        state::{self, Bounds, Market, Moves, Order, Segment},
    },
    fixture::*,
};
use crate::{
    positions::{Book, Leg, LegKind},
    protocols::{Adapter, ApplyError},
    types::{Address, B256, Bytes, Log, MarketId, SegmentId, U256},
};

fn malformed(chain: &mut Chain, log: Log) -> String {
    let before = chain.snapshot.book.clone();
    let error = chain.try_extend(&[log]).expect_err("refused");
    assert_eq!(chain.snapshot.book, before);
    match error {
        ApplyError::Malformed { what, .. } => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn accounts_are_as_their_last_events_say() {
    let mut chain = Chain::opened();
    chain.extend(&[cash(1, owner(9), 700), position(2, owner(9), -4, 200), position(1, owner(9), 3, -2_900)]);
    chain.extend(&[cash(1, owner(9), -5)]);
    let unit = chain.snapshot.book.unit(&key(1, 9)).unwrap();
    assert_eq!((unit.segment, unit.owner, unit.cash), (SegmentId(1), owner(9), int(-5)));
    let leg = |market, lots, quote| Leg {
        market: MarketId(market),
        kind: LegKind::Perp,
        quantity: int(lots),
        quote: int(quote),
    };
    assert_eq!(unit.legs, [leg(1, 3, -2_900), leg(2, -4, 200)]);
    chain.extend(&[position(1, owner(9), 0, 0), position(3, owner(9), 1, -1)]);
    assert_eq!(chain.snapshot.book.unit(&key(1, 9)).unwrap().legs, [leg(2, -4, 200)]);
    assert_eq!(chain.snapshot.book.unit(&key(2, 9)).unwrap().legs, [leg(3, 1, -1)], "another segment, another unit");
}

#[test]
fn markets_funds_and_orders_follow_their_events() {
    let mut chain = Chain::opened();
    chain.extend(&[
        of_venue(&IClearinghouse::MarginSet { market: 2, maintenanceMarginBps: 700, initialMarginBps: 1_400 }),
        funding(2, -7, 11, 99),
        of_venue(&IClearinghouse::FundFloorSet { segment: 2, floor: uint(30) }),
        of_venue(&IClearinghouse::FundChanged { segment: 2, balance: uint(40) }),
        order(5, 1, owner(1), true, 990, 8),
        order(6, 1, owner(2), false, 1_010, 9),
        of_venue(&IClearinghouse::OrderChanged { order: 5, lots: 3 }),
        of_venue(&IClearinghouse::OrderChanged { order: 6, lots: 0 }),
    ]);
    let book = &chain.snapshot.book;
    let market: Market = state::load(book, 2).unwrap();
    assert_eq!((market.ordinal, market.segment, market.feed), (1, 1, FEED_B));
    assert_eq!((market.maintenance_margin_bps, market.initial_margin_bps), (700, 1_400));
    assert_eq!((market.funding_rate_x18, market.funding_index, market.funding_since), (int(-7), int(11), 99));
    assert_eq!(state::load(book, 2), Ok(Segment { fund: uint(40), floor: uint(30) }));
    let left = Order { market: 1, maker: owner(1), is_buy: true, price: uint(990), lots: 3 };
    assert_eq!(state::all::<Order>(book).map(|(_, order)| order).collect::<Vec<_>>(), [left]);
}

#[test]
fn the_stewards_moves_carry_their_blocks_time() {
    let mut chain = Chain::opened();
    let bounds = IRiskSteward::Bounds {
        maxStepBps: 2_000,
        minDelaySeconds: 30,
        marginFloorBps: 100,
        marginCeilingBps: 5_000,
        maxFundingStepX18: uint(1),
        maxFundingRateX18: uint(2),
    };
    chain.extend(&[log(STEWARD, &IRiskSteward::BoundsSet { market: 1, bounds })]);
    chain.wait(12);
    let moved = IRiskSteward::MarginMoved { market: 1, maintenanceMarginBps: 1, initialMarginBps: 2 };
    chain.extend(&[log(STEWARD, &moved)]);
    chain.wait(12);
    chain.extend(&[log(STEWARD, &IRiskSteward::FundingMoved { market: 1, rateX18: int(1) })]);
    let book = &chain.snapshot.book;
    assert_eq!(state::load(book, 1), Ok(Moves { margin_at: GENESIS + 12, funding_at: GENESIS + 24 }));
    let bounds: Bounds = state::load(book, 1).unwrap();
    assert_eq!((bounds.max_step_bps, bounds.min_delay_seconds, bounds.margin_ceiling_bps), (2_000, 30, 5_000));
}

#[test]
fn feeds_are_watched_from_the_moment_a_market_names_them() {
    let mut chain = Chain::empty();
    assert_eq!(chain.venue.filter(&chain.snapshot.book).addresses, [STEWARD, POOL, CLEARINGHOUSE]);
    let early = chain.try_extend(&[price(FEED_A, 1, GENESIS)]);
    assert!(matches!(early, Err(ApplyError::ForeignEmitter { emitter: FEED_A, .. })), "{early:?}");
    chain.extend(&[segment_opened(1), listed(1, 1, FEED_A), price(FEED_A, 77, GENESIS), listed(4, 1, FEED_A)]);
    assert_eq!(chain.venue.filter(&chain.snapshot.book).addresses, [STEWARD, POOL, CLEARINGHOUSE, FEED_A]);
    let feed: Option<state::Feed> = state::find(&chain.snapshot.book, state::Feed::id(FEED_A)).unwrap();
    assert_eq!(feed.unwrap().price, uint(77), "a second market on the feed leaves its price alone");
}

#[test]
fn a_feed_may_speak_in_the_block_that_lists_it_before_it_is_listed() {
    let mut chain = Chain::empty();
    chain.extend(&[segment_opened(1), price(FEED_A, 77, GENESIS), listed(1, 1, FEED_A)]);
    let feed: Option<state::Feed> = state::find(&chain.snapshot.book, state::Feed::id(FEED_A)).unwrap();
    assert_eq!(feed.unwrap().price, uint(77));
}

#[test]
fn a_feed_of_the_settings_is_watched_from_the_start() {
    let mut chain = Chain::empty();
    let mut settings = chain.venue.settings.clone();
    settings.feeds.push(FEED_A);
    chain.venue = super::super::ReferenceVenue::new(settings);
    assert!(chain.venue.filter(&chain.snapshot.book).addresses.contains(&FEED_A));
    chain.extend(&[price(FEED_A, 77, GENESIS)]);
    chain.extend(&[segment_opened(1), listed(1, 1, FEED_A)]);
    let feed: Option<state::Feed> = state::find(&chain.snapshot.book, state::Feed::id(FEED_A)).unwrap();
    assert_eq!(feed.unwrap().price, uint(77), "listing leaves the price that was seen");
}

#[test]
fn a_foreign_emitter_is_refused_with_its_place() {
    let mut chain = Chain::opened();
    let stranger = Address::repeat_byte(0x66);
    let mut foreign = cash(1, owner(1), 5);
    foreign.address = stranger;
    foreign.log_index = 4;
    let error = chain.try_extend(&[cash(1, owner(1), 3), foreign.clone()]).expect_err("refused");
    assert_eq!(error, ApplyError::ForeignEmitter { emitter: stranger, tx_hash: foreign.tx_hash, log_index: 4 });
    assert_eq!(chain.snapshot.book.unit_count(), 0);
}

#[test]
fn unknown_events_of_our_own_contracts_are_counted_and_role_changes_are_not() {
    let chain = Chain::opened();
    let mut unknown = cash(1, owner(1), 5);
    unknown.topics[0] = B256::repeat_byte(9);
    let mut anonymous = unknown.clone();
    anonymous.topics.clear();
    let role = IAccessControl::RoleGranted { role: B256::ZERO, account: owner(1), sender: owner(2) }.to_log_data();
    let mut granted = unknown.clone();
    (granted.topics, granted.data) = (role.topics().to_vec(), role.data);
    let mut of_steward = unknown.clone();
    of_steward.address = STEWARD;
    let logs = [unknown, anonymous, granted, of_steward];
    let applied = chain.venue.apply(&chain.snapshot.book, &chain.snapshot.block, &logs).unwrap();
    assert_eq!(applied.unknown_events, 3);
    assert!(applied.delta.is_empty());
}

#[test]
fn an_event_of_another_contract_of_ours_is_unknown_there() {
    let chain = Chain::opened();
    let mut misplaced = price(FEED_A, 3, GENESIS);
    misplaced.address = CLEARINGHOUSE;
    let applied = chain.venue.apply(&chain.snapshot.book, &chain.snapshot.block, &[misplaced]).unwrap();
    assert_eq!((applied.unknown_events, applied.delta.is_empty()), (1, true));
}

#[test]
fn bytes_that_are_no_such_event_are_refused() {
    let mut chain = Chain::opened();
    let mut short = cash(1, owner(1), 5);
    short.data = Bytes::from(short.data[..31].to_vec());
    let mut few_topics = cash(1, owner(1), 5);
    few_topics.topics.pop();
    let mut dirty_segment = cash(1, owner(1), 5);
    dirty_segment.topics[1] = B256::from(U256::from(65_537));
    let mut dirty_bool = order(1, 1, owner(1), true, 5, 5);
    let mut data = dirty_bool.data.to_vec();
    data[31] = 2;
    dirty_bool.data = data.into();
    for log in [short, few_topics, dirty_segment, dirty_bool] {
        let what = malformed(&mut chain, log.clone());
        assert!(what.contains("does not decode"), "{log:?}: {what}");
    }
}

#[test]
fn events_that_contradict_the_cache_are_refused() {
    let mut chain = Chain::opened();
    for (log, named) in [
        (cash(7, owner(1), 5), "segment 7 is not known"),
        (position(7, owner(1), 5, 5), "market 7 is not known"),
        (position(1, owner(1), 0, 5), "keeps a quote"),
        (order(1, 7, owner(1), true, 5, 5), "market 7 is not known"),
        (of_venue(&IClearinghouse::OrderChanged { order: 7, lots: 1 }), "order 7 is not known"),
        (of_venue(&IClearinghouse::OrderChanged { order: 7, lots: 0 }), "order 7 is not known"),
        (of_venue(&IClearinghouse::FundChanged { segment: 7, balance: uint(1) }), "segment 7 is not known"),
        (funding(7, 1, 1, 1), "market 7 is not known"),
        (segment_opened(1), "open already"),
        (listed(1, 1, FEED_A), "listed already"),
        (listed(8, 7, FEED_A), "segment 7 is not known"),
    ] {
        let what = malformed(&mut chain, log);
        assert!(what.contains(named), "{named}: {what}");
    }
}

/// One log that is valid whatever came before, given how many orders there are.
fn valid_log((kind, a, b, x, y): (u8, u8, u8, i64, i64), orders: &mut Vec<u64>) -> Log {
    let (market, segment, owner) = (u16::from(a % 3) + 1, u16::from(a % 2) + 1, owner(b % 6));
    let amount = x.unsigned_abs().into();
    match kind % 9 {
        0 => cash(segment, owner, x.into()),
        1 | 2 => position(market, owner, (x % 4).into(), if x % 4 == 0 { 0 } else { y.into() }),
        3 => price(if a % 2 == 0 { FEED_A } else { FEED_B }, amount, y.unsigned_abs()),
        4 => funding(market, x.into(), y.into(), 5),
        5 => of_venue(&IClearinghouse::FundChanged { segment, balance: uint(amount) }),
        6 => log(STEWARD, &IRiskSteward::FundingMoved { market, rateX18: int(x.into()) }),
        7 => {
            let id = orders.len() as u64 + 1_000 * u64::from(b);
            if orders.contains(&id) {
                return cash(segment, owner, y.into());
            }
            orders.push(id);
            order(id, market, owner, x > 0, amount, y.unsigned_abs().max(1))
        }
        _ => match orders.pop() {
            Some(id) if x % 2 == 0 => {
                orders.push(id);
                of_venue(&IClearinghouse::OrderChanged { order: id, lots: y.unsigned_abs().max(1) })
            }
            Some(id) => of_venue(&IClearinghouse::OrderChanged { order: id, lots: 0 }),
            None => cash(segment, owner, x.into()),
        },
    }
}

proptest! {
    #[test]
    fn blocks_are_undone_and_redone_exactly(
        blocks in prop::collection::vec(prop::collection::vec(any::<(u8, u8, u8, i64, i64)>(), 0..12), 1..10)
    ) {
        let mut chain = Chain::empty();
        let mut past = vec![(Book::default(), chain.extend(&opening()))];
        let mut orders = Vec::new();
        for seeds in blocks {
            chain.wait(1);
            let logs: Vec<Log> = seeds.into_iter().map(|seed| valid_log(seed, &mut orders)).collect();
            let before = chain.snapshot.book.clone();
            let delta = chain.extend(&logs);
            let again = chain.venue.apply(&before, &chain.snapshot.block, &logs).unwrap();
            prop_assert_eq!(&again.delta, &delta, "the same base and logs give the same change");
            past.push((before, delta));
        }
        let last = chain.snapshot.book.clone();
        let mut book = last.clone();
        for (before, delta) in past.iter().rev() {
            book.undo(delta).unwrap();
            prop_assert_eq!(&book, before);
        }
        for (_, delta) in &past {
            book.apply(delta).unwrap();
        }
        prop_assert_eq!(book, last);
    }

    #[test]
    fn one_block_of_all_logs_ends_as_many_blocks_of_one(seeds in prop::collection::vec(any::<(u8, u8, u8, i64, i64)>(), 0..40)) {
        let mut orders = Vec::new();
        let logs: Vec<Log> = seeds.into_iter().map(|seed| valid_log(seed, &mut orders)).collect();
        let (mut whole, mut stepwise) = (Chain::opened(), Chain::opened());
        whole.extend(&logs);
        for log in logs {
            stepwise.extend(&[log]);
        }
        prop_assert_eq!(whole.snapshot.book, stepwise.snapshot.book);
    }
}
