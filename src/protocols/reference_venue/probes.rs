//! Views of the venue that must return exactly what the cache says.
//!
//! Invariants: a probe's expected bytes are the ABI encoding of the view's return value at the snapshot's block; what
//! cannot be valued expects no bytes at all, so that it shows as a mismatch and is never passed over.
//! Must not: call anything.

use std::collections::{BTreeMap, BTreeSet};

use alloy::sol_types::{SolCall, SolValue};

use super::{
    Settings,
    abi::{IClearinghouse, IPriceFeed, IRiskSteward},
    margin::{Account, MarketNow, perps},
    pool,
    state::{self, Bounds, Feed, Market, Moves, Order, Segment},
};
use crate::{
    positions::{Snapshot, Unit},
    protocols::Probe,
    scanner::Unvalued,
    types::{Address, Bytes, Call, I256, MarketId, SegmentId, U256, UnitKey},
};

/// Probes of these units with their orders, and of all shared state.
pub(super) fn probes(settings: &Settings, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
    let accounts = units.iter().filter_map(|key| account(settings, snapshot, key));
    let totals = Totals::of(snapshot);
    accounts
        .chain(orders(settings, snapshot, units))
        .chain(segments(settings, snapshot, &totals))
        .chain(markets(settings, snapshot, &totals))
        .chain(feeds(snapshot))
        .chain(stewardship(settings, snapshot))
        .chain(settings.backstop.into_iter().flat_map(|membership| pool::probes(membership, snapshot, units)))
        .collect()
}

fn probe(subject: String, to: Address, call: impl SolCall, expected: impl Into<Bytes>) -> Probe {
    Probe { subject, call: Call::new(to, call.abi_encode()), expected: expected.into() }
}

/// A key that no event has named is an account of nothing, as the view sees it.
fn account(settings: &Settings, snapshot: &Snapshot, key: &UnitKey) -> Option<Probe> {
    let (segment, owner) = state::parse_unit_key(key)?;
    let nothing = Unit::new(state::segment_id(segment), owner);
    let unit = snapshot.book.unit(key).map_or(&nothing, AsRef::as_ref);
    let expected = Account::of(unit, |id| MarketNow::load(snapshot, id)).map(|account| {
        IClearinghouse::AccountState {
            cash: account.cash,
            equity: account.equity,
            maintenanceMargin: account.maintenance_margin,
            initialMargin: account.initial_margin,
        }
        .abi_encode()
    });
    let call = IClearinghouse::accountStateCall { segment, account: owner };
    Some(probe(
        format!("account {owner} of segment {segment}"),
        settings.clearinghouse,
        call,
        expected.unwrap_or_default(),
    ))
}

fn orders(settings: &Settings, snapshot: &Snapshot, units: &[UnitKey]) -> impl Iterator<Item = Probe> {
    let owners: BTreeSet<Address> = units.iter().filter_map(|key| Some(state::parse_unit_key(key)?.1)).collect();
    state::all::<Order>(&snapshot.book).filter(move |(_, order)| owners.contains(&order.maker)).filter_map(
        |(id, order)| {
            let number: u64 = state::number(id)?;
            let Order { market, maker, is_buy, price, lots } = order;
            let expected = IClearinghouse::OrderState { market, maker, isBuy: is_buy, price, lots }.abi_encode();
            let call = IClearinghouse::orderCall { order: number };
            Some(probe(format!("order {number}"), settings.clearinghouse, call, expected))
        },
    )
}

/// Sums over all units that the venue keeps as well.
#[derive(Default)]
struct Totals {
    /// Σ cash + Σ quote: what backs the accounts of a segment.
    pools: BTreeMap<SegmentId, I256>,
    /// Σ of long lots.
    open_interest: BTreeMap<MarketId, U256>,
}

impl Totals {
    fn of(snapshot: &Snapshot) -> Self {
        let mut totals = Self::default();
        for (_, unit) in snapshot.book.units() {
            let pool = totals.pools.entry(unit.segment).or_default();
            *pool = perps(unit).fold(pool.wrapping_add(unit.cash), |sum, leg| sum.wrapping_add(leg.quote));
            for leg in perps(unit).filter(|leg| leg.quantity.is_positive()) {
                let open = totals.open_interest.entry(leg.market).or_default();
                *open = open.wrapping_add(leg.quantity.unsigned_abs());
            }
        }
        totals
    }
}

/// A pool that sums to less than nothing is encoded as it is: no view can return it, so it shows.
fn segments(settings: &Settings, snapshot: &Snapshot, totals: &Totals) -> impl Iterator<Item = Probe> {
    state::all::<Segment>(&snapshot.book).filter_map(|(id, Segment { fund, floor })| {
        let segment: u16 = state::number(id)?;
        let pool = totals.pools.get(&state::segment_id(segment)).copied().unwrap_or_default();
        let expected = (pool.into_raw(), fund, floor).abi_encode();
        let call = IClearinghouse::segmentFundsCall { segment };
        Some(probe(format!("funds of segment {segment}"), settings.clearinghouse, call, expected))
    })
}

fn markets(settings: &Settings, snapshot: &Snapshot, totals: &Totals) -> impl Iterator<Item = Probe> {
    state::all::<Market>(&snapshot.book).filter_map(|(id, market)| {
        let number: u16 = state::number(id)?;
        let open_interest = totals.open_interest.get(&state::market_id(number)).copied().unwrap_or_default();
        let expected = IClearinghouse::MarketState {
            config: IClearinghouse::MarketConfig {
                segment: market.segment,
                feed: market.feed,
                maxPriceAgeSeconds: market.max_price_age_seconds,
                maintenanceMarginBps: market.maintenance_margin_bps,
                initialMarginBps: market.initial_margin_bps,
                liquidationFeeBps: market.liquidation_fee_bps,
                maxSlippageBps: market.max_slippage_bps,
            },
            fundingIndex: market.funding_index,
            fundingRateX18: market.funding_rate_x18,
            fundingSince: market.funding_since,
            openInterestLots: open_interest,
        };
        let call = IClearinghouse::marketCall { market: number };
        Some(probe(format!("market {number}"), settings.clearinghouse, call, expected.abi_encode()))
    })
}

fn feeds(snapshot: &Snapshot) -> impl Iterator<Item = Probe> {
    state::all::<Feed>(&snapshot.book).map(|(id, feed)| {
        let address = Address::from_word(id);
        let expected = (feed.price, feed.updated_at).abi_encode();
        probe(format!("feed {address}"), address, IPriceFeed::latestCall {}, expected)
    })
}

fn stewardship(settings: &Settings, snapshot: &Snapshot) -> Vec<Probe> {
    let Some(steward) = settings.steward else { return Vec::new() };
    let mut probes = Vec::new();
    for (id, bounds) in state::all::<Bounds>(&snapshot.book) {
        let Some(market) = state::number(id) else { continue };
        let expected = IRiskSteward::Bounds {
            maxStepBps: bounds.max_step_bps,
            minDelaySeconds: bounds.min_delay_seconds,
            marginFloorBps: bounds.margin_floor_bps,
            marginCeilingBps: bounds.margin_ceiling_bps,
            maxFundingStepX18: bounds.max_funding_step_x18,
            maxFundingRateX18: bounds.max_funding_rate_x18,
        };
        let call = IRiskSteward::boundsCall { market };
        probes.push(probe(format!("steward's bounds of market {market}"), steward, call, expected.abi_encode()));
        let moves: Result<Moves, Unvalued> = state::load(&snapshot.book, market.into());
        let Moves { margin_at, funding_at } = moves.unwrap_or_default();
        let call = IRiskSteward::lastMovedAtCall { market };
        let expected = (margin_at, funding_at).abi_encode();
        probes.push(probe(format!("steward's moves of market {market}"), steward, call, expected));
    }
    probes
}
