//! An audit of the venue, log by log, that shares no code with the daemon.
//!
//! State events (absolute values) rebuild the books. Every event that moves money for a reason (a trade, a liquidation, a
//! draw, …) is then held against what the books did since the reason before: who gained, who lost, to the last unit. So
//! an amount that an event names and the money that moved are two independent measurements of the same thing.
//!
//! Conservation. The shortfall of an account is max(0, −equity). Prices, funding and executions open shortfalls (and
//! prices may close them again): the sum of these changes, measured on the books, is what *arose*. Draws, deleveragings
//! and charges absorb: the sum of the amounts that their events name. What is left is *open*. At all times
//!
//! ```text
//! arisen = insurance fund + deleveraged + socialised + open
//! ```
//!
//! Invariants: deterministic; a rule that fails is recorded, never skipped over; an unknown event is an error.
//! Must not: use the daemon's adapter, cache or journal.

mod books;
mod tally;

use std::collections::{BTreeMap, BTreeSet};

use alloy::sol_types::SolEventInterface;
use anyhow::{Context, Result};

pub(crate) use books::{Account, Books, Holdings, OrderBooks, Worth, signed};
pub use tally::Absorbed;
pub(crate) use tally::Tally;

use self::books::{FundBooks, MarketBooks};
use super::venue::{
    Clearinghouse::{self, ClearinghouseEvents as Event},
    PriceFeed::PriceFeedEvents,
};
use crate::types::{Address, I256, Log, U256, math};

/// Most violations that are kept in words; all are counted.
const VIOLATIONS_KEPT_MAX: usize = 20;

/// Changes since the last reason, each with what stood before.
#[derive(Default)]
struct Moved {
    accounts: BTreeMap<Account, I256>,
    funds: BTreeMap<u16, I256>,
}

/// The running audit.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    books: Books,
    clearinghouse: Address,
    /// Equity of each account after the last reason.
    settled: BTreeMap<Account, I256>,
    settled_funds: BTreeMap<u16, U256>,
    /// Accounts and funds that changed since.
    dirty: BTreeSet<Account>,
    dirty_funds: BTreeSet<u16>,
    tallies: BTreeMap<u16, Tally>,
    violations: u64,
    violations_kept: Vec<String>,
}

impl Audit {
    /// An audit of this clearinghouse from its first log on.
    pub(crate) fn new(clearinghouse: Address) -> Self {
        Self { clearinghouse, ..Self::default() }
    }

    /// The books as of the last block.
    pub(crate) fn books(&self) -> &Books {
        &self.books
    }

    /// What was counted in a segment.
    pub(crate) fn tally(&self, segment: u16) -> Tally {
        self.tallies.get(&segment).cloned().unwrap_or_default()
    }

    /// Rules broken so far, and the first of them in words.
    pub(crate) fn violations(&self) -> (u64, &[String]) {
        (self.violations, &self.violations_kept)
    }

    /// Reads the logs of the next block, in order; logs of other contracts than the clearinghouse and its feeds are
    /// passed over.
    pub(crate) fn block(&mut self, timestamp: u64, logs: &[Log]) -> Result<()> {
        self.books.now = timestamp;
        let funded: Vec<u16> =
            self.books.markets.iter().filter(|(_, m)| !m.funding_rate_x18.is_zero()).map(|(id, _)| *id).collect();
        funded.into_iter().for_each(|market| self.revalue(market));
        for log in logs {
            if log.address == self.clearinghouse {
                let event = Event::decode_raw_log(&log.topics, &log.data)
                    .with_context(|| format!("log {} of {} is no event of the venue", log.log_index, log.tx_hash))?;
                self.event(event);
            } else if self.books.markets.values().any(|m| m.feed == log.address) {
                self.price(log)?;
            }
        }
        if !self.dirty.is_empty() || !self.dirty_funds.is_empty() {
            self.violation("a block ended with changes that no event gave a reason for".to_owned());
            self.take_moves(false);
        }
        Ok(())
    }

    fn price(&mut self, log: &Log) -> Result<()> {
        let event =
            PriceFeedEvents::decode_raw_log(&log.topics, &log.data).context("a log of a feed is no event of it")?;
        let PriceFeedEvents::PricePosted(posted) = event else { return Ok(()) };
        let markets: Vec<u16> =
            self.books.markets.iter().filter(|(_, m)| m.feed == log.address).map(|(id, _)| *id).collect();
        for market in markets {
            self.market(market).price = posted.price;
            self.revalue(market);
        }
        Ok(())
    }

    fn market(&mut self, id: u16) -> &mut MarketBooks {
        self.books.markets.entry(id).or_default()
    }

    /// Settles everybody who holds lots in a market whose price or funding moved.
    fn revalue(&mut self, market: u16) {
        if !self.dirty.is_empty() {
            self.violation(format!("the price of market {market} moved in the middle of something"));
        }
        self.dirty.extend(self.books.holders(market));
        self.take_moves(false);
    }

    /// State events change the books; the others are reasons.
    fn event(&mut self, event: Event) {
        match event {
            Event::CashChanged(e) => {
                self.holdings((e.segment, e.account)).cash = e.cash;
            }
            Event::PositionChanged(e) => {
                let segment = self.market(e.market).segment;
                let positions = &mut self.holdings((segment, e.account)).positions;
                if e.lots.is_zero() && e.quote.is_zero() {
                    positions.remove(&e.market);
                } else {
                    positions.insert(e.market, (e.lots, e.quote));
                }
            }
            Event::FundChanged(e) => {
                self.fund(e.segment).balance = e.balance;
                self.dirty_funds.insert(e.segment);
            }
            Event::FundFloorSet(e) => self.fund(e.segment).floor = e.floor,
            Event::OrderPlaced(e) => {
                let order =
                    OrderBooks { market: e.market, maker: e.maker, is_buy: e.isBuy, price: e.price, lots: e.lots };
                self.books.orders.insert(e.order, order);
            }
            Event::OrderChanged(e) if e.lots == 0 => {
                self.books.orders.remove(&e.order);
            }
            Event::OrderChanged(e) => {
                if let Some(order) = self.books.orders.get_mut(&e.order) {
                    order.lots = e.lots;
                }
            }
            Event::MarketListed(e) => {
                let market = self.market(e.market);
                market.segment = e.config.segment;
                market.feed = e.config.feed;
                market.maintenance_margin_bps = e.config.maintenanceMarginBps;
                market.initial_margin_bps = e.config.initialMarginBps;
            }
            Event::MarginSet(e) => {
                let market = self.market(e.market);
                market.maintenance_margin_bps = e.maintenanceMarginBps;
                market.initial_margin_bps = e.initialMarginBps;
                let segment = market.segment;
                self.tallied(segment).margin_moves += 1;
            }
            Event::FundingSet(e) => {
                let market = self.market(e.market);
                market.funding_index = e.index;
                market.funding_rate_x18 = e.rateX18;
                market.funding_since = e.since;
                self.revalue(e.market);
            }
            Event::SegmentOpened(e) => {
                self.fund(e.segment);
            }
            Event::ClaimChanged(e) => {
                let claims = &mut self.books.claims;
                if e.claim.is_zero() {
                    claims.remove(&(e.segment, e.account));
                } else {
                    claims.insert((e.segment, e.account), e.claim);
                }
            }
            Event::WithdrawalsGated(e) => self.tallied(e.segment).gate_moves += 1,
            Event::SocialisationOpened(_) | Event::RestitutionOpened(_) => {}
            Event::RoleAdminChanged(_) | Event::RoleGranted(_) | Event::RoleRevoked(_) => {}
            reason => self.reason(&reason),
        }
    }

    fn holdings(&mut self, account: Account) -> &mut Holdings {
        self.dirty.insert(account);
        self.books.accounts.entry(account).or_default()
    }

    fn fund(&mut self, segment: u16) -> &mut FundBooks {
        self.books.funds.entry(segment).or_default()
    }

    fn tallied(&mut self, segment: u16) -> &mut Tally {
        self.tallies.entry(segment).or_default()
    }

    /// Holds an event that names a reason against what moved.
    fn reason(&mut self, event: &Event) {
        match event {
            Event::Deposited(e) => self.expect("a deposit", false, &[((e.segment, e.account), signed(e.amount))], &[]),
            Event::Withdrawn(e) => {
                self.expect("a withdrawal", false, &[((e.segment, e.account), -signed(e.amount))], &[])
            }
            Event::FundDeposited(e) => self.expect("a fund deposit", false, &[], &[(e.segment, signed(e.amount))]),
            Event::Traded(e) => self.traded(e),
            Event::Liquidated(e) => self.liquidated(e),
            Event::InsuranceDrawn(e) => self.drawn(e),
            Event::Deleveraged(e) => self.deleveraged(e),
            Event::LossSocialised(e) => self.socialised(e),
            Event::ShortfallCovered(e) => self.covered(e),
            Event::ClaimPaid(e) => self.claim_paid(e),
            other => self.violation(format!("an event without a rule: {other:?}")),
        }
    }

    /// The buyer gains the distance of the price below the mark, the seller loses it.
    fn traded(&mut self, e: &Clearinghouse::Traded) {
        let market = self.market(e.market);
        let (segment, mark) = (market.segment, market.price);
        let gain = I256::unchecked_from(e.lots) * (signed(mark) - signed(e.price));
        self.expect("a trade", false, &[((segment, e.buyer), gain), ((segment, e.seller), -gain)], &[]);
    }

    /// The fee goes from the account to others and to the fund, and what the account keeps is what the event says.
    fn liquidated(&mut self, e: &Clearinghouse::Liquidated) {
        let segment = self.market(e.market).segment;
        let account = (segment, e.account);
        let moved = self.take_moves(false);
        let to_fund = moved.funds.get(&segment).copied().unwrap_or_default();
        let total = moved.accounts.values().chain(moved.funds.values()).fold(I256::ZERO, |sum, delta| sum + *delta);
        let paid = -moved.accounts.get(&account).copied().unwrap_or_default();
        if !total.is_zero() || to_fund.is_negative() || paid > signed(e.fee) {
            self.violation(format!("the fee of liquidating {} does not add up", e.account));
        }
        if self.books.worth(&account).equity != e.equityAfter {
            self.violation(format!("the equity after liquidating {} is not as the event says", e.account));
        }
        // What closing pushed below zero was not the account's to pay: it is a shortfall for the later tiers.
        let loss = math::negative_part(e.realisedPnl) + e.fee;
        let own = loss.saturating_sub(math::negative_part(e.equityAfter));
        let tally = self.tallied(segment);
        tally.liquidated.insert(e.account);
        tally.absorbed.liquidation += own;
        tally.recovery_events += 1;
    }

    fn drawn(&mut self, e: &Clearinghouse::InsuranceDrawn) {
        let account = (e.segment, e.account);
        let amount = signed(e.amount);
        self.expect("a draw", true, &[(account, amount)], &[(e.segment, -amount)]);
        if self.books.worth(&account).equity != -signed(e.shortfallAfter) {
            self.violation(format!("the shortfall of {} after a draw is not as the event says", e.account));
        }
        let tally = self.tallied(e.segment);
        tally.absorbed.insurance_fund += e.amount;
        tally.recovery_events += 1;
    }

    fn deleveraged(&mut self, e: &Clearinghouse::Deleveraged) {
        let segment = self.market(e.market).segment;
        let loss = signed(e.loss);
        let (bankrupt, winner) = ((segment, e.bankrupt), (segment, e.winner));
        self.expect("a deleveraging", true, &[(bankrupt, loss), (winner, -loss)], &[]);
        self.last_resort("a deleveraging", bankrupt, winner);
        let tally = self.tallied(segment);
        tally.deleveraged.insert(e.winner);
        tally.absorbed.auto_deleverage += e.loss;
        *tally.borne.entry(e.winner).or_default() += e.loss;
        tally.recovery_events += 1;
    }

    fn socialised(&mut self, e: &Clearinghouse::LossSocialised) {
        let amount = signed(e.amount);
        let (bankrupt, payer) = ((e.segment, e.bankrupt), (e.segment, e.payer));
        self.expect("a charge", true, &[(bankrupt, amount), (payer, -amount)], &[]);
        self.last_resort("a charge", bankrupt, payer);
        let tally = self.tallied(e.segment);
        tally.payers.insert(e.payer);
        tally.absorbed.socialise_loss += e.amount;
        *tally.borne.entry(e.payer).or_default() += e.amount;
        tally.recovery_events += 1;
    }

    /// Money from outside for a shortfall.
    fn covered(&mut self, e: &Clearinghouse::ShortfallCovered) {
        let account = (e.segment, e.account);
        self.expect("a cover", true, &[(account, signed(e.amount))], &[]);
        if self.books.worth(&account).equity != -signed(e.shortfallAfter) {
            self.violation(format!("the shortfall of {} after a cover is not as the event says", e.account));
        }
        let tally = self.tallied(e.segment);
        tally.absorbed.shared_backstop += e.amount;
        tally.recovery_events += 1;
    }

    /// A claim falls by what the fund pays: what the account gets is what it was owed less what it is still owed.
    fn claim_paid(&mut self, e: &Clearinghouse::ClaimPaid) {
        let account = (e.segment, e.account);
        self.expect("a restitution", false, &[(account, signed(e.amount))], &[(e.segment, -signed(e.amount))]);
        let tally = self.tallied(e.segment);
        tally.returned += e.amount;
        tally.claimants.insert(e.account);
    }

    /// Others pay only once the fund is spent, never more than the hole, and never below zero themselves.
    fn last_resort(&mut self, what: &str, bankrupt: Account, payer: Account) {
        if !self.books.spendable(bankrupt.0).is_zero() {
            self.violation(format!("{what} of {} while the fund could pay", payer.1));
        }
        if self.books.worth(&bankrupt).equity.is_positive() {
            self.violation(format!("{what} took more than the shortfall of {}", bankrupt.1));
        }
        if self.books.worth(&payer).equity.is_negative() {
            self.violation(format!("{what} took {} below zero", payer.1));
        }
    }

    /// Exactly these accounts and funds moved, by exactly so much.
    fn expect(&mut self, what: &str, recovery: bool, accounts: &[(Account, I256)], funds: &[(u16, I256)]) {
        let moved = self.take_moves(recovery);
        let nonzero = |(_, delta): &&(Account, I256)| !delta.is_zero();
        let mut expected: BTreeMap<Account, I256> = BTreeMap::new();
        for (account, delta) in accounts.iter().filter(nonzero) {
            *expected.entry(*account).or_default() += *delta;
        }
        if moved.accounts != expected || moved.funds != funds.iter().copied().collect() {
            self.violation(format!("{what} moved {:?} {:?}, not {accounts:?} {funds:?}", moved.accounts, moved.funds));
        }
    }

    /// What moved since the last reason (nothing that is zero); books every change of a shortfall.
    fn take_moves(&mut self, recovery: bool) -> Moved {
        let mut moved = Moved::default();
        for account in std::mem::take(&mut self.dirty) {
            let now = self.books.worth(&account).equity;
            let was = self.settled.insert(account, now).unwrap_or_default();
            if now == was {
                continue;
            }
            moved.accounts.insert(account, now - was);
            let opened = signed(math::negative_part(now)) - signed(math::negative_part(was));
            let tally = self.tallied(account.0);
            tally.shortfall_open = (signed(tally.shortfall_open) + opened).unsigned_abs();
            if !recovery {
                tally.shortfall_arisen += opened;
            }
            if now.is_negative() {
                tally.bankrupt.insert(account.1);
            }
        }
        for segment in std::mem::take(&mut self.dirty_funds) {
            let now = self.books.funds.get(&segment).map_or(U256::ZERO, |fund| fund.balance);
            let was = self.settled_funds.insert(segment, now).unwrap_or_default();
            if now != was {
                moved.funds.insert(segment, signed(now) - signed(was));
            }
        }
        moved
    }

    fn violation(&mut self, what: String) {
        self.violations += 1;
        if self.violations_kept.len() < VIOLATIONS_KEPT_MAX {
            self.violations_kept.push(what);
        }
    }
}

#[cfg(test)]
mod tests;
