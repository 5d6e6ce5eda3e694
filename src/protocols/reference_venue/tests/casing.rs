//! Segments in neutral terms, and the depth that a liquidation may count on.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    super::abi::{IClearinghouse, IRiskSteward},
    fixture::*,
};
use crate::{
    protocols::Adapter,
    recovery::{FundState, MarginBounds, Observation, RestingOrder, SegmentCase},
    scanner::{Condition, Finding, ScanReport, Valuation},
    types::{I256, MarketId, SegmentId, U256, UnitKey},
};

const ONE: SegmentId = SegmentId(1);
const TWO: SegmentId = SegmentId(2);

/// A report of these units as the scanner would classify them, in this order.
fn report(chain: &Chain, units: &[UnitKey]) -> ScanReport {
    let finding = |key: &UnitKey| {
        let unit = chain.snapshot.book.unit(key).unwrap();
        let standing = chain.venue.standing(&chain.snapshot, key, unit).unwrap();
        let condition = match (standing.equity.is_negative(), standing.surplus.is_negative()) {
            (true, _) => Condition::Bankrupt,
            (false, true) => Condition::Liquidatable,
            (false, false) => Condition::AtRisk,
        };
        Finding {
            unit: key.clone(),
            segment: unit.segment,
            condition,
            equity: standing.equity,
            maintenance_margin: standing.maintenance_margin,
            surplus: standing.surplus,
            health_factor_bps: None,
            unknown_reason: None,
        }
    };
    let findings: Vec<Finding> = units.iter().map(finding).collect();
    ScanReport {
        block: chain.snapshot.block,
        raised: findings.len(),
        units: chain.snapshot.book.unit_count(),
        findings,
    }
}

fn every(chain: &Chain) -> BTreeMap<SegmentId, SegmentCase> {
    chain.venue.cases(&chain.snapshot, &report(chain, &[]), true)
}

fn resting(order: u64, maker: UnitKey, price: u128, lots: u128) -> RestingOrder {
    RestingOrder { order, maker, price: uint(price), lots: uint(lots) }
}

/// In segment 1: account 1 long 10 at 1,000 with 450 (liquidatable: needs 500), account 2 likewise with -50 (bankrupt),
/// account 3 short 20 at 1,000 with 9,000, account 4 with cash alone. In segment 2: account 5, healthy.
fn troubled() -> Chain {
    let mut chain = Chain::opened();
    chain.extend(&[
        cash(1, owner(1), 450),
        position(1, owner(1), 10, -10_000),
        cash(1, owner(2), -50),
        position(1, owner(2), 10, -10_000),
        cash(1, owner(3), 9_000),
        position(1, owner(3), -20, 20_000),
        cash(1, owner(4), 100_000),
        cash(2, owner(5), 1),
        of_venue(&IClearinghouse::FundChanged { segment: 1, balance: uint(70) }),
        of_venue(&IClearinghouse::FundFloorSet { segment: 1, floor: uint(30) }),
    ]);
    chain
}

#[test]
fn a_case_tells_the_segment_as_it_is() {
    let chain = troubled();
    let report = report(&chain, &[key(1, 2), key(1, 1)]);
    let cases = chain.venue.cases(&chain.snapshot, &report, false);
    assert_eq!(cases.keys().collect::<Vec<_>>(), [&ONE], "the other segment has nobody in distress");
    let case = &cases[&ONE];
    assert_eq!((case.segment, case.block, &case.blocked), (ONE, chain.snapshot.block, &None));
    assert_eq!(case.fund, FundState { balance: uint(70), spendable: uint(40) });
    assert_eq!(case.distressed.iter().map(|d| d.unit.clone()).collect::<Vec<_>>(), [key(1, 2), key(1, 1)]);

    let [bankrupt, mild] = &case.distressed[..] else { panic!("two") };
    assert_eq!((bankrupt.cash, bankrupt.equity, bankrupt.maintenance_margin), (int(-50), int(-50), uint(500)));
    assert_eq!(bankrupt.liquidatable_lots, BTreeMap::from([(MarketId(1), uint(10))]));
    assert_eq!(mild.liquidatable_lots, BTreeMap::from([(MarketId(1), uint(5))]));
    let position = &mild.positions[0];
    assert_eq!(
        (position.market, position.lots, position.quote, position.pnl),
        (MarketId(1), int(10), int(-10_000), int(0))
    );

    assert_eq!(case.solvent.keys().collect::<Vec<_>>(), [&key(1, 3), &key(1, 4)]);
    let winner = &case.solvent[&key(1, 3)];
    assert_eq!((winner.equity, winner.surplus, winner.positions[0].lots), (int(9_000), int(8_000), int(-20)));

    let market = &case.markets[&MarketId(1)];
    assert_eq!((market.mark_price, market.maintenance_margin_bps, market.liquidation_fee_bps), (uint(1_000), 500, 50));
    let surpluses: Vec<I256> = market.holders.values().map(|h| h.surplus).collect();
    assert_eq!(surpluses, [int(-50), int(-550), int(8_000)]);
    assert_eq!(market.margin_bounds, None, "the steward has no bounds for it");
    assert!(case.markets[&MarketId(2)].holders.is_empty());
}

#[test]
fn prices_and_payments_are_told_where_margins_may_move() {
    let mut chain = Chain::opened();
    let bounds = IRiskSteward::Bounds {
        maxStepBps: 2_000,
        minDelaySeconds: 30,
        marginFloorBps: 100,
        marginCeilingBps: 5_000,
        maxFundingStepX18: U256::ZERO,
        maxFundingRateX18: U256::ZERO,
    };
    chain.extend(&[log(STEWARD, &IRiskSteward::BoundsSet { market: 2, bounds })]);
    chain.wait(59);
    let drawn =
        IClearinghouse::InsuranceDrawn { segment: 1, account: owner(2), amount: uint(7), shortfallAfter: U256::ZERO };
    chain.extend(&[price(FEED_B, 51, GENESIS), of_venue(&drawn)]);
    let calm = |chain: &Chain| chain.venue.cases(&chain.snapshot, &report(chain, &[]), false);
    assert!(calm(&chain).is_empty(), "nothing is kept before the pace allows");
    chain.wait(1);
    chain.extend(&[price(FEED_B, 52, GENESIS), price(FEED_A, 9, GENESIS)]);
    let measures = calm(&chain)[&ONE].measures.clone();
    let seen = |at, value| Observation { at, value: uint(value) };
    assert_eq!(measures.prices, [(MarketId(2), vec![seen(GENESIS, 50), seen(GENESIS + 60, 52)])].into());
    assert_eq!((measures.payments, measures.observed), (vec![seen(GENESIS + 59, 7)], true));
}

#[test]
fn claims_and_gate_are_told_and_bring_a_calm_segment_up() {
    let mut chain = Chain::opened();
    let claim =
        |n, claim| of_venue(&IClearinghouse::ClaimChanged { segment: 1, account: owner(n), claim: uint(claim) });
    chain.extend(&[cash(1, owner(3), 9_000), claim(3, 60), claim(4, 40)]);
    let calm = |chain: &Chain| chain.venue.cases(&chain.snapshot, &report(chain, &[]), false);
    assert!(calm(&chain).is_empty(), "the fund has nothing to pay with");
    let fund = |balance| of_venue(&IClearinghouse::FundChanged { segment: 1, balance: uint(balance) });
    chain.extend(&[fund(50)]);
    let measures = calm(&chain)[&ONE].measures.clone();
    assert_eq!(measures.claims, BTreeMap::from([(key(1, 3), uint(60)), (key(1, 4), uint(40))]));
    assert_eq!((measures.round, measures.gate.unwrap().shut_until), (None, 0));

    let opened = IClearinghouse::RestitutionOpened { segment: 1, round: 1, budget: uint(50), base: uint(100) };
    let paid = IClearinghouse::ClaimPaid { segment: 1, account: owner(3), amount: uint(30) };
    chain.extend(&[of_venue(&opened), claim(3, 30), fund(20), of_venue(&paid)]);
    let round = calm(&chain)[&ONE].measures.round.clone().unwrap();
    assert_eq!((round.budget, round.base, round.unpaid), (uint(50), uint(100), uint(20)));
    assert_eq!(round.paid, [key(1, 3)].into());
    chain.extend(&[claim(3, 0), claim(4, 0)]);
    assert!(calm(&chain).is_empty(), "nothing is owed any more");
    let until = chain.snapshot.block.number + 10;
    chain.extend(&[of_venue(&IClearinghouse::WithdrawalsGated { segment: 1, untilBlock: until })]);
    assert_eq!(calm(&chain)[&ONE].measures.gate.unwrap().shut_until, until);
    let overpaid = IClearinghouse::ClaimPaid { segment: 1, account: owner(3), amount: uint(21) };
    assert!(chain.try_extend(&[of_venue(&overpaid)]).is_err(), "more than the round has");
}

#[test]
fn every_segment_is_told_on_request() {
    let cases = every(&troubled());
    assert_eq!(cases.keys().collect::<Vec<_>>(), [&ONE, &TWO]);
    assert_eq!(cases[&TWO].solvent.len(), 1);
    assert!(cases[&ONE].distressed.is_empty(), "only what the report ranks");
    assert!(!cases[&ONE].solvent.contains_key(&key(1, 1)), "and the distressed are never winners or payers");
}

#[test]
fn a_held_market_without_a_timely_price_blocks_its_segment_alone() {
    let mut chain = troubled();
    chain.wait(MAX_AGE);
    assert_eq!(every(&chain)[&ONE].blocked, None, "as old as allowed");
    chain.wait(1);
    let cases = every(&chain);
    let why = cases[&ONE].blocked.clone().expect("too old");
    assert!(why.starts_with("price of market 1 is of second 1000000"), "{why}");
    assert_eq!(cases[&TWO].blocked, None, "nobody holds lots there");
    chain.extend(&[price(FEED_A, 1_000, chain.snapshot.block.timestamp + 1)]);
    assert!(every(&chain)[&ONE].blocked.is_some(), "ahead of the chain");
    chain.extend(&[price(FEED_A, 1_000, chain.snapshot.block.timestamp)]);
    assert_eq!(every(&chain)[&ONE].blocked, None, "market 2 is stale, but nobody holds it");
}

#[test]
fn margin_bounds_say_from_when_a_move_is_accepted() {
    let mut chain = troubled();
    let bounds = IRiskSteward::Bounds {
        maxStepBps: 2_000,
        minDelaySeconds: 30,
        marginFloorBps: 100,
        marginCeilingBps: 5_000,
        maxFundingStepX18: uint(0),
        maxFundingRateX18: uint(0),
    };
    chain.extend(&[log(STEWARD, &IRiskSteward::BoundsSet { market: 1, bounds })]);
    let expected = |earliest| Some(MarginBounds { step_bps_max: 2_000, floor_bps: 100, ceiling_bps: 5_000, earliest });
    assert_eq!(every(&chain)[&ONE].markets[&MarketId(1)].margin_bounds, expected(0));
    let moved = IRiskSteward::MarginMoved { market: 1, maintenanceMarginBps: 1, initialMarginBps: 2 };
    chain.extend(&[log(STEWARD, &moved)]);
    assert_eq!(every(&chain)[&ONE].markets[&MarketId(1)].margin_bounds, expected(GENESIS + 30));
}

#[test]
fn depth_is_ordered_and_inside_the_slippage_limit() {
    let mut chain = troubled();
    chain.extend(&[
        order(1, 1, owner(4), true, 980, 1),
        order(2, 1, owner(4), true, 979, 1), // 2 % below 1,000 is 980
        order(3, 1, owner(4), true, 990, 1),
        order(4, 1, owner(4), true, 980, 2),
        order(5, 1, owner(4), false, 1_021, 1),
        order(6, 1, owner(4), false, 1_020, 1),
        order(7, 1, owner(4), false, 1_000, 1),
        order(8, 1, owner(6), true, 1_000, 1), // nobody the venue knows
        order(9, 1, owner(1), true, 1_000, 1), // in distress itself
        order(10, 2, owner(4), true, 50, 3),
    ]);
    let case = &every(&chain)[&ONE];
    let market = &case.markets[&MarketId(1)];
    let maker = || key(1, 4);
    assert_eq!(market.buys, [resting(3, maker(), 990, 1), resting(1, maker(), 980, 1), resting(4, maker(), 980, 2)]);
    assert_eq!(market.sells, [resting(7, maker(), 1_000, 1), resting(6, maker(), 1_020, 1)]);
    assert_eq!(case.markets[&MarketId(2)].buys, [resting(10, maker(), 50, 3)]);
}

#[test]
fn a_makers_orders_share_what_it_can_take() {
    let mut chain = troubled();
    // At the mark a lot binds 101 with headroom: 1,000 carry 9 lots, and 91 are left for market 2 at 5.05 a lot.
    chain.extend(&[
        cash(1, owner(7), 1_000),
        order(1, 1, owner(7), true, 1_000, 6),
        order(2, 1, owner(7), true, 999, 6),
        order(3, 2, owner(7), true, 50, 100),
    ]);
    let case = &every(&chain)[&ONE];
    let lots = |market: u32| case.markets[&MarketId(market)].buys.iter().map(|o| o.lots).collect::<Vec<_>>();
    assert_eq!(lots(1), [uint(6), uint(3)]);
    assert_eq!(lots(2), [uint(18)]);
}

#[test]
fn a_maker_below_its_initial_margin_may_still_reduce() {
    let mut chain = troubled();
    // Long 10 with 600: maintenance 500, initial 1,000. It may sell what it holds, losing no more than its surplus of 100.
    chain.extend(&[
        cash(1, owner(7), 600),
        position(1, owner(7), 10, -10_000),
        order(1, 1, owner(7), false, 1_000, 4),
        order(2, 1, owner(7), false, 1_001, 20),
        order(3, 1, owner(7), true, 990, 5),
        order(4, 2, owner(7), false, 50, 5),
    ]);
    let case = &every(&chain)[&ONE];
    let market = &case.markets[&MarketId(1)];
    assert_eq!(market.sells, [resting(1, key(1, 7), 1_000, 4), resting(2, key(1, 7), 1_001, 6)]);
    assert!(market.buys.is_empty() && case.markets[&MarketId(2)].sells.is_empty());
    chain.extend(&[of_venue(&IClearinghouse::OrderChanged { order: 1, lots: 0 })]);
    chain.extend(&[of_venue(&IClearinghouse::OrderChanged { order: 2, lots: 0 })]);
    chain.extend(&[order(5, 1, owner(7), false, 985, 20)]);
    let case = &every(&chain)[&ONE];
    assert_eq!(case.markets[&MarketId(1)].sells, [resting(5, key(1, 7), 985, 6)], "15 a lot out of 100");
    chain.extend(&[order(6, 1, owner(7), false, 984, 20)]);
    let case = &every(&chain)[&ONE];
    assert_eq!(
        case.markets[&MarketId(1)].sells,
        [resting(6, key(1, 7), 984, 6)],
        "16 a lot leave 4 of the 100 for the other order"
    );
}

/// The venue's own rules for one maker: trades at a price, and the check after each.
#[derive(Clone, Debug)]
struct Maker {
    cash: i128,
    positions: [(i128, i128); 2],
}

const MARKS: [i128; 2] = [1_000, 50];

impl Maker {
    fn trade(&mut self, market: usize, delta: i128, price: i128) {
        let (mut lots, mut quote) = self.positions[market];
        let mut opened = delta;
        if lots.signum() * delta.signum() < 0 {
            let closed = delta.abs().min(lots.abs());
            let closed_quote = quote * closed / lots.abs();
            let closed_lots = closed * lots.signum();
            self.cash += closed_quote + closed_lots * price;
            lots -= closed_lots;
            quote -= closed_quote;
            opened += closed_lots;
        }
        self.positions[market] = (lots + opened, quote - opened * price);
    }

    /// Equity, maintenance margin, initial margin.
    fn state(&self) -> (i128, i128, i128) {
        let mut state = (self.cash, 0, 0);
        for (&(lots, quote), mark) in self.positions.iter().zip(MARKS) {
            state.0 += lots * mark + quote;
            state.1 += (lots.abs() * mark * 500 + 9_999) / 10_000;
            state.2 += (lots.abs() * mark * 1_000 + 9_999) / 10_000;
        }
        state
    }

    /// Whether the venue accepts the fill.
    fn fill(&mut self, market: usize, delta: i128, price: i128) -> bool {
        let held = self.positions[market].0;
        let only_reduces = held.signum() * delta.signum() < 0 && delta.abs() <= held.abs();
        let was = self.state();
        self.trade(market, delta, price);
        let now = self.state();
        let not_worse = |was: i128, now: i128| now >= 0 || now >= was;
        now.0 >= now.2 || (only_reduces && not_worse(was.0 - was.1, now.0 - now.1) && not_worse(was.0, now.0))
    }
}

type Seed = (u8, bool, i128, u64, u64, u64);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_venue_accepts_any_part_of_the_depth_in_any_order(
        money in 0i128..20_000,
        holdings in [(-30i128..30), (-300i128..300)],
        seeds in prop::collection::vec((0u8..2, any::<bool>(), -2_000i128..2_000, 1u64..200, any::<u64>(), 0u64..=100), 1..10),
    ) {
        let mut maker = Maker { cash: money, positions: [(0, 0); 2] };
        let mut chain = Chain::empty();
        chain.extend(&[
            segment_opened(1),
            listed_with_slippage(1, 1, FEED_A, 2_000),
            listed_with_slippage(2, 1, FEED_B, 2_000),
            price(FEED_A, 1_000, GENESIS),
            price(FEED_B, 50, GENESIS),
            cash(1, owner(1), money),
        ]);
        for market in [0, 1] {
            let lots = holdings[market];
            // An entry price beside the mark, so that partial closes realise odd amounts.
            let quote = -lots * (MARKS[market] + 3);
            maker.positions[market] = (lots, if lots == 0 { 0 } else { quote });
            chain.extend(&[position(u16::try_from(market).unwrap() + 1, owner(1), lots, maker.positions[market].1)]);
        }
        let mut parts: BTreeMap<u64, Seed> = BTreeMap::new();
        for (id, seed) in (1u64..).zip(seeds) {
            let (market, is_buy, basis_points, lots, ..) = seed;
            let mark = MARKS[usize::from(market)];
            let limit = u128::try_from(mark + mark * basis_points / 10_000).unwrap();
            chain.extend(&[order(id, u16::from(market) + 1, owner(1), is_buy, limit, lots)]);
            parts.insert(id, seed);
        }
        let case = &every(&chain)[&ONE];
        let mut fills = Vec::new();
        for market in [0usize, 1] {
            let case = &case.markets[&MarketId(u32::try_from(market).unwrap() + 1)];
            for (sign, side) in [(1, &case.buys), (-1, &case.sells)] {
                for resting in side {
                    let &(_, _, _, lots, shuffle, percent) = &parts[&resting.order];
                    prop_assert!(resting.lots <= U256::from(lots));
                    let lots: u64 = resting.lots.try_into().unwrap();
                    let price: u64 = resting.price.try_into().unwrap();
                    let first = lots * percent / 100;
                    for (place, lots) in [(shuffle, first), (shuffle.rotate_left(17), lots - first)] {
                        fills.push((place, market, sign * i128::from(lots), i128::from(price)));
                    }
                }
            }
        }
        fills.sort_unstable();
        fills.retain(|fill| fill.2 != 0);
        for skip in 0..=fills.len() {
            let mut maker = maker.clone();
            for (n, &(_, market, delta, price)) in fills.iter().enumerate() {
                if n != skip {
                    prop_assert!(maker.fill(market, delta, price), "fill {n} of {fills:?} without {skip}: {maker:?}");
                }
            }
        }
    }
}
