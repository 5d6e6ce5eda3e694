//! Bad debt that stands in a pool, and the auction that pays it out of the risk fund, step by step.
//!
//! | stage, as events tell it | offered | when |
//! |---|---|---|
//! | none, or ended | start | bad debt reaches the least, the fund holds what it would promise, auctions are not paused |
//! | started, no bid | first bid | until it is stale; none if the fund could not pay the winner |
//! | started, no bid, stale | restart | as start |
//! | started, a bid stands | close | once the time for a next bid has passed |
//!
//! A stage that somebody else reached is simply the stage: whoever bid, the close is offered; nobody is outbid, since
//! somebody else's bid pays the bad debt as well as ours.
//!
//! The fund's figure in an auction is its value in USD × 1e18 and is later paid out as that many units of its token, as
//! `Shortfall._startAuction` and `closeAuction` have it; both readings agree only for a token of 18 decimals at one dollar,
//! and the figures here follow the contract.
//! Must not: weigh an offer; the planner does.

use super::{
    abi::IShortfall,
    encode::payload,
    margin::PoolNow,
    rates::scaled,
    state::{self, Auction, Fund, House},
};
use crate::{
    positions::Snapshot,
    recovery::{
        Deficit, FundState, Intent, IntentKind, Promise, PromiseKind, Scope, Shortage, ShortageKind, Tier, TokenNeed,
    },
    types::{Address, Bytes, SegmentId, U256},
};

/// All, in basis points.
const BPS: U256 = U256::from_limbs([10_000, 0, 0, 0]);

/// Gas of a step and of each of the pool's markets in it, measured on the package's contracts and rounded up.
const GAS_STEP: u64 = 300_000;
const GAS_STEP_MARKET: u64 = 150_000;

/// What stands in a pool and what can be done about it.
#[derive(Debug, Default)]
pub(super) struct BadDebt {
    pub(super) deficits: Vec<Deficit>,
    pub(super) intents: Vec<Intent>,
    pub(super) shortages: Vec<Shortage>,
    pub(super) fund: FundState,
}

/// Everything about a pool's bad debt at the snapshot's block, for the block `ahead` of it.
pub(super) fn bad_debt(snapshot: &Snapshot, shortfall: Option<Address>, ahead: &PoolNow, slots: Slots) -> BadDebt {
    let owed = owed(ahead);
    let segment = SegmentId(ahead.pool.number);
    let id = ahead.comptroller.into_word();
    let fund = state::find::<Fund>(&snapshot.book, id).ok().flatten().unwrap_or_default();
    let value = scaled(fund.reserves, fund.price).unwrap_or_default();
    let mut found = BadDebt { fund: FundState { balance: value, spendable: value }, ..BadDebt::default() };
    let auction = state::find::<Auction>(&snapshot.book, id).ok().flatten().filter(|auction| auction.open);
    if owed.is_zero() && auction.is_none() {
        return found;
    }
    if !owed.is_zero() {
        found.deficits.push(Deficit { scope: Scope::Segment(segment), amount: owed });
    }
    let Some((shortfall, house)) = shortfall.zip(House::known(&snapshot.book)) else {
        let detail = format!("bad debt of {owed} stands and there is no auction house: set shortfall if there is one");
        found.shortages.push(stands(segment, detail));
        return found;
    };
    let stage = Stage { ahead, shortfall, house, fund, owed, segment, slot: slots };
    match auction {
        None => stage.start(&mut found, IntentKind::StartAuction),
        Some(auction) if !auction.bidder.is_zero() => stage.close(&auction, &mut found),
        Some(auction) if stage.slot() > auction.started_at.saturating_add(stage.house.first_bid_slots) => {
            stage.start(&mut found, IntentKind::RestartAuction);
        }
        Some(auction) => stage.bid(&auction, &mut found),
    }
    found
}

/// The slot in which a call would execute, as block and as second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    pub(super) number: u64,
    pub(super) timestamp: u64,
}

/// Value of the bad debt in all markets, USD × 1e18, each market rounded down.
fn owed(pool: &PoolNow) -> U256 {
    let values = pool.markets.values().map(|market| market.value(market.stored.bad_debt).unwrap_or_default());
    values.fold(U256::ZERO, U256::saturating_add)
}

fn stands(segment: SegmentId, detail: String) -> Shortage {
    Shortage { kind: ShortageKind::DeficitStands, subject: format!("segment {segment}"), detail }
}

struct Stage<'a> {
    ahead: &'a PoolNow,
    shortfall: Address,
    house: House,
    fund: Fund,
    owed: U256,
    segment: SegmentId,
    slot: Slots,
}

impl Stage<'_> {
    fn slot(&self) -> U256 {
        U256::from(if self.house.time_based { self.slot.timestamp } else { self.slot.number })
    }

    /// A start or a restart.
    fn start(&self, found: &mut BadDebt, kind: IntentKind) {
        let (owed, least) = (self.owed, self.house.bad_debt_min);
        let unpriced = self.ahead.markets.values().find(|market| market.price.is_zero());
        let obstacle = if self.house.paused {
            Some("auctions are paused: resume them".to_owned())
        } else if owed < least {
            Some(format!("auctions begin at {least}: lower minimumPoolBadDebt, or pay it otherwise"))
        } else if found.fund.spendable.is_zero() {
            Some("the risk fund holds nothing for this pool: refill it".to_owned())
        } else {
            unpriced.map(|market| format!("the oracle has no price of vToken {}", market.vtoken))
        };
        if let Some(obstacle) = obstacle {
            found.shortages.push(stands(self.segment, format!("bad debt of {owed} stands: {obstacle}")));
            return;
        }
        if let Some(promised) = self.promised(found.fund.spendable).filter(|promised| *promised > self.fund.reserves) {
            found.shortages.push(self.blocked(format!("an auction would promise {promised}")));
            return;
        }
        let comptroller = self.ahead.comptroller;
        let (data, why) = match kind {
            IntentKind::RestartAuction => (
                payload(self.shortfall, &IShortfall::restartAuctionCall { comptroller }),
                "nobody bid in time, so the auction is started again at today's prices".to_owned(),
            ),
            _ => (
                payload(self.shortfall, &IShortfall::startAuctionCall { comptroller }),
                format!(
                    "bad debt of {owed} reaches the least of {least} and the risk fund holds {}",
                    found.fund.balance
                ),
            ),
        };
        let mut intent = self.intent(kind, data, why);
        // A restart ends the old auction as well.
        intent.promises = vec![Promise { kind: PromiseKind::Staged, asset: None, min: U256::ONE, max: U256::from(2) }];
        found.intents.push(intent);
    }

    /// What an auction that starts now puts up of the fund: all of its value, or the bad debt with the incentive.
    fn promised(&self, value: U256) -> Option<U256> {
        let incentive = self.owed.checked_mul(self.house.incentive_bps)? / BPS;
        Some(self.owed.checked_add(incentive)?.min(value))
    }

    /// The fund's token is worth more than a dollar, or the fund has shrunk.
    fn blocked(&self, promise: String) -> Shortage {
        let Fund { asset, reserves, .. } = &self.fund;
        Shortage {
            kind: ShortageKind::FundBlocks,
            subject: format!("segment {}", self.segment),
            detail: format!(
                "{promise} units of {asset} and the risk fund holds {reserves}: its close would be refused, refill the fund"
            ),
        }
    }

    /// The first bid, at the bound: it pays the most that the incentive leaves room for.
    fn bid(&self, auction: &Auction, found: &mut BadDebt) {
        let bps = auction.first_bid_bps.max(U256::ONE);
        let won = if auction.by_debt { auction.fund } else { part(auction.fund, bps) };
        if won > self.fund.reserves {
            found.shortages.push(self.blocked(format!("the auction promises {won}")));
            return;
        }
        let mut capital = Vec::new();
        let mut paid_value = U256::ZERO;
        for (vtoken, debt) in auction.debts.iter().filter(|(_, debt)| !debt.is_zero()) {
            let Some(market) = self.ahead.markets.values().find(|market| market.vtoken == *vtoken) else { return };
            let amount = if auction.by_debt { part(*debt, bps) } else { *debt };
            paid_value = paid_value.saturating_add(market.value(amount).unwrap_or(U256::MAX));
            if !amount.is_zero() {
                capital.push(TokenNeed { token: market.listing.underlying, amount, spender: Some(self.shortfall) });
            }
        }
        let won_value = scaled(won, self.fund.price).unwrap_or_default();
        let call = IShortfall::placeBidCall {
            comptroller: self.ahead.comptroller,
            bidBps: bps,
            auctionStartBlockOrTimestamp: auction.started_at,
        };
        let why = format!("the auction has no bid: {paid_value} of bad debt is paid for {won_value} of the risk fund");
        let mut intent = self.intent(IntentKind::Bid, payload(self.shortfall, &call), why);
        intent.capital = capital;
        intent.reward = won_value.saturating_sub(paid_value);
        intent.cost = paid_value.saturating_sub(won_value);
        intent.swapped = won_value;
        intent.promises = vec![staged()];
        found.intents.push(intent);
    }

    /// The end of an auction with a bid.
    fn close(&self, auction: &Auction, found: &mut BadDebt) {
        if self.slot() <= auction.bid_at.saturating_add(self.house.next_bid_slots) {
            return;
        }
        let won = if auction.by_debt { auction.fund } else { part(auction.fund, auction.bid_bps) };
        if won > self.fund.reserves {
            found.shortages.push(self.blocked(format!("the auction owes its bidder {won}")));
            return;
        }
        let comptroller = self.ahead.comptroller;
        let mut recovered = U256::ZERO;
        let mut promises = vec![staged()];
        for (vtoken, debt) in auction.debts.iter().filter(|(_, debt)| !debt.is_zero()) {
            let Some(market) = self.ahead.markets.values().find(|market| market.vtoken == *vtoken) else { return };
            let amount = if auction.by_debt { part(*debt, auction.bid_bps) } else { *debt };
            recovered = recovered.saturating_add(market.value(amount).unwrap_or_default());
            let asset = Some(market.listing.underlying);
            promises.push(Promise { kind: PromiseKind::Covered, asset, min: amount, max: amount });
        }
        let why = format!("the bid of {} stood long enough: {recovered} of bad debt is paid", auction.bidder);
        let data = payload(self.shortfall, &IShortfall::closeAuctionCall { comptroller });
        let mut intent = self.intent(IntentKind::CloseAuction, data, why);
        intent.absorbs = recovered.min(self.owed);
        intent.promises = promises;
        found.intents.push(intent);
    }

    fn intent(&self, kind: IntentKind, payload: Bytes, why: String) -> Intent {
        let markets = self.ahead.markets.len() as u64;
        Intent {
            kind,
            scope: Scope::Segment(self.segment),
            payload,
            tier: Tier::InsuranceFund,
            absorbs: U256::ZERO,
            deepens: U256::ZERO,
            implicit: Vec::new(),
            promises: Vec::new(),
            reward: U256::ZERO,
            cost: U256::ZERO,
            swapped: U256::ZERO,
            gas: GAS_STEP + GAS_STEP_MARKET * markets,
            capital: Vec::new(),
            bad_debt: true,
            not_before: 0,
            batch: None,
            why,
        }
    }
}

/// So many basis points of an amount, rounded down, as the contract takes them.
fn part(amount: U256, bps: U256) -> U256 {
    amount.checked_mul(bps).map_or(U256::MAX, |product| product / BPS)
}

fn staged() -> Promise {
    Promise { kind: PromiseKind::Staged, asset: None, min: U256::ONE, max: U256::ONE }
}
