//! Views of the protocol that must return exactly what the cache says.
//!
//! Views give stored figures, so those are compared. What interest adds up to a block is the contracts' only once a call
//! executes, and not every node makes a call at a block in that block's own slot.
//!
//! Invariants: a probe's expected bytes are the ABI encoding of the view's return value at the snapshot's block; what
//! cannot be valued although the contract could expects no bytes at all, so that it shows as a mismatch. An account in a
//! market without a price has no liquidity on chain either and is passed over there.
//! Must not: call anything.

use alloy::sol_types::{SolCall, SolValue};

use super::{
    Settings,
    abi::{IComptroller, IOracle, IShortfall, IVToken},
    account::Account,
    margin::{At, MarketNow, PoolNow, borrow_rate},
    state::{self, Auction, Balances, House, Listing, Pool},
};
use crate::{
    positions::Snapshot,
    protocols::Probe,
    types::{Address, Bytes, Call, MarketId, U256, UnitKey},
};

/// Probes of these units, and of all shared state.
pub(super) fn probes(settings: &Settings, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
    let accounts = units.iter().flat_map(|key| account(snapshot, key));
    accounts.chain(pools(snapshot)).chain(markets(snapshot)).chain(house(settings, snapshot)).collect()
}

fn probe(subject: String, to: Address, call: impl SolCall, expected: impl Into<Bytes>) -> Probe {
    Probe { subject, call: Call::new(to, call.abi_encode()), expected: expected.into() }
}

/// The account's liquidity, and its balances and debt in each market it is in. A key that no event has named is an
/// account of nothing, as the views see it.
fn account(snapshot: &Snapshot, key: &UnitKey) -> Vec<Probe> {
    let Some((comptroller, owner)) = state::parse_unit_key(key) else { return Vec::new() };
    let account = snapshot.book.unit(key).map_or_else(|| Ok(Account::default()), |unit| Account::of(unit));
    let Ok(account) = account else {
        let call = IComptroller::getAccountLiquidityCall { account: owner };
        return vec![probe(format!("account {key}"), comptroller, call, Bytes::new())];
    };
    let legs = account.tokens.keys().chain(account.debts.keys()).chain(&account.entered);
    let mut legs: Vec<MarketId> = legs.copied().collect();
    legs.sort_unstable();
    legs.dedup();
    let mut probes: Vec<Probe> = legs.into_iter().flat_map(|id| leg(snapshot, &account, owner, id)).collect();
    probes.extend(liquidity(snapshot, comptroller, owner, &account));
    probes
}

fn liquidity(snapshot: &Snapshot, comptroller: Address, owner: Address, account: &Account) -> Option<Probe> {
    let pool = PoolNow::around(&snapshot.book, comptroller, account, &snapshot.block);
    if let Ok(pool) = &pool
        && pool.markets.values().any(|market| market.listing.listed && market.price.is_zero())
    {
        return None;
    }
    let sums = pool.and_then(|pool| pool.liquidity(account, |_| At::Stored));
    let expected = sums.map(|sums| {
        let excess = sums.weighted.saturating_sub(sums.borrows);
        (U256::ZERO, excess, sums.shortfall()).abi_encode()
    });
    let call = IComptroller::getAccountLiquidityCall { account: owner };
    Some(probe(format!("liquidity of {owner} in pool {comptroller}"), comptroller, call, expected.unwrap_or_default()))
}

fn leg(snapshot: &Snapshot, account: &Account, owner: Address, id: MarketId) -> Option<Probe> {
    let market =
        state::vtoken(&snapshot.book, id).and_then(|vtoken| MarketNow::load(&snapshot.book, vtoken, &snapshot.block));
    let market = market.ok()?;
    // What the contract says of the rate before the first vToken is no figure of the cache.
    if market.stored.supply.is_zero() {
        return None;
    }
    let debt = account.debts.get(&id).map_or(Ok(U256::ZERO), |debt| market.stored.debt(debt));
    let words = debt.ok().zip(market.stored.exchange_rate());
    let stored = words.map(|(debt, rate)| (U256::ZERO, account.tokens(id), debt, rate).abi_encode());
    let call = IVToken::getAccountSnapshotCall { account: owner };
    let subject = format!("balances of {owner} in vToken {}", market.vtoken);
    Some(probe(subject, market.vtoken, call, stored.unwrap_or_default()))
}

fn pools(snapshot: &Snapshot) -> impl Iterator<Item = Probe> {
    state::all::<Pool>(&snapshot.book).flat_map(|(comptroller, pool)| {
        let of = |what: &str| format!("{what} of pool {comptroller}");
        [
            probe(
                of("close factor"),
                comptroller,
                IComptroller::closeFactorMantissaCall {},
                pool.close_factor.abi_encode(),
            ),
            probe(
                of("liquidation incentive"),
                comptroller,
                IComptroller::liquidationIncentiveMantissaCall {},
                pool.incentive.abi_encode(),
            ),
            probe(
                of("least collateral"),
                comptroller,
                IComptroller::minLiquidatableCollateralCall {},
                pool.collateral_min.abi_encode(),
            ),
            probe(of("loop limit"), comptroller, IComptroller::maxLoopsLimitCall {}, pool.loops_max.abi_encode()),
            probe(of("oracle"), comptroller, IComptroller::oracleCall {}, pool.oracle.abi_encode()),
        ]
    })
}

fn markets(snapshot: &Snapshot) -> impl Iterator<Item = Probe> {
    let listed = state::all::<Listing>(&snapshot.book).filter(|(_, listing)| listing.read);
    listed.flat_map(|(vtoken, listing)| {
        let mut probes = listing_probes(vtoken, &listing);
        match MarketNow::load(&snapshot.book, vtoken, &snapshot.block) {
            Ok(market) => probes.extend(sums(snapshot, &market)),
            Err(_) => probes.push(probe(of("all", vtoken), vtoken, IVToken::totalSupplyCall {}, Bytes::new())),
        }
        probes
    })
}

fn of(what: &str, vtoken: Address) -> String {
    format!("{what} of vToken {vtoken}")
}

fn listing_probes(vtoken: Address, listing: &Listing) -> Vec<Probe> {
    vec![
        probe(of("rate model", vtoken), vtoken, IVToken::interestRateModelCall {}, listing.model.abi_encode()),
        probe(
            of("reserve factor", vtoken),
            vtoken,
            IVToken::reserveFactorMantissaCall {},
            listing.reserve_factor.abi_encode(),
        ),
        probe(
            of("protocol's share of a seizure", vtoken),
            vtoken,
            IVToken::protocolSeizeShareMantissaCall {},
            listing.seize_share.abi_encode(),
        ),
        probe(
            of("slots between reserve reductions", vtoken),
            vtoken,
            IVToken::reduceReservesBlockDeltaCall {},
            listing.reduce_every.abi_encode(),
        ),
    ]
}

fn sums(snapshot: &Snapshot, market: &MarketNow) -> Vec<Probe> {
    let Balances { accrued_at, borrow_index, borrows, reserves, supply, bad_debt, cash, reduced_at } = market.stored;
    let vtoken = market.vtoken;
    let word = |what, call: Bytes, word: U256| Probe {
        subject: of(what, vtoken),
        call: Call::new(vtoken, call),
        expected: word.abi_encode().into(),
    };
    let mut probes = vec![
        word("accrual slot", IVToken::accrualBlockNumberCall {}.abi_encode().into(), accrued_at),
        word("borrow index", IVToken::borrowIndexCall {}.abi_encode().into(), borrow_index),
        word("borrows", IVToken::totalBorrowsCall {}.abi_encode().into(), borrows),
        word("reserves", IVToken::totalReservesCall {}.abi_encode().into(), reserves),
        word("supply", IVToken::totalSupplyCall {}.abi_encode().into(), supply),
        word("bad debt", IVToken::badDebtCall {}.abi_encode().into(), bad_debt),
        word("cash", IVToken::getCashCall {}.abi_encode().into(), cash),
        word(
            "slot of the last reserve reduction",
            IVToken::reduceReservesBlockNumberCall {}.abi_encode().into(),
            reduced_at,
        ),
    ];
    let rate = borrow_rate(&snapshot.book, vtoken, &market.listing, &market.stored);
    let expected = rate.map(|rate| rate.abi_encode()).unwrap_or_default();
    probes.push(probe(of("borrow rate", vtoken), vtoken, IVToken::borrowRatePerBlockCall {}, expected));
    if !supply.is_zero() {
        let rate = market.stored.exchange_rate().map(|rate| rate.abi_encode()).unwrap_or_default();
        probes.push(probe(of("exchange rate", vtoken), vtoken, IVToken::exchangeRateStoredCall {}, rate));
    }
    probes.extend(price(snapshot, market));
    probes
}

fn price(snapshot: &Snapshot, market: &MarketNow) -> Option<Probe> {
    let oracle = state::load::<Pool>(&snapshot.book, market.listing.comptroller).ok()?.oracle;
    let known = !market.price.is_zero();
    let call = IOracle::getUnderlyingPriceCall { vToken: market.vtoken };
    known.then(|| probe(of("price", market.vtoken), oracle, call, market.price.abi_encode()))
}

fn house(settings: &Settings, snapshot: &Snapshot) -> Vec<Probe> {
    let Some(house) = settings.shortfall else { return Vec::new() };
    let rules = House::known(&snapshot.book);
    let rules = rules.into_iter().flat_map(|rules| {
        let of = |what: &str| format!("{what} of the auction house");
        [
            probe(of("least bad debt"), house, IShortfall::minimumPoolBadDebtCall {}, rules.bad_debt_min.abi_encode()),
            probe(of("incentive"), house, IShortfall::incentiveBpsCall {}, rules.incentive_bps.abi_encode()),
            probe(
                of("time for a next bid"),
                house,
                IShortfall::nextBidderBlockLimitCall {},
                rules.next_bid_slots.abi_encode(),
            ),
            probe(
                of("time for a first bid"),
                house,
                IShortfall::waitForFirstBidderCall {},
                rules.first_bid_slots.abi_encode(),
            ),
            probe(of("pause"), house, IShortfall::auctionsPausedCall {}, rules.paused.abi_encode()),
        ]
    });
    let auctions = state::all::<Auction>(&snapshot.book).map(|(comptroller, auction)| {
        let status = if auction.open { 1u8 } else { 2 };
        let expected = (
            auction.started_at,
            U256::from(!auction.by_debt),
            U256::from(status),
            auction.fund,
            auction.bidder,
            auction.bid_bps,
            auction.bid_at,
            auction.first_bid_bps,
        );
        let call = IShortfall::auctionsCall { comptroller };
        probe(format!("auction of pool {comptroller}"), house, call, expected.abi_encode())
    });
    rules.chain(auctions).collect()
}
