//! Exact margin maths: what an account is worth and must keep, in the venue's own integers and roundings.
//!
//! ```text
//! funding index = index + rate · (t − since) / 1e18        the quotient truncated toward zero
//! pnl           = lots · (price − funding index) + quote
//! equity        = cash + Σ pnl
//! margin        = Σ ⌈|lots| · price · bps / 1e4⌉
//! ```
//!
//! Time is the snapshot block's timestamp and the price is the last one whatever its age, as in the venue's views.
//!
//! Invariants: every result equals the venue's view at that block to the last unit, or there is none.
//! Must not: use floating point.

use super::state::{self, Feed, Market};
use crate::{
    positions::{Leg, LegKind, Snapshot, Unit},
    scanner::{Standing, Unvalued},
    types::{I256, MarketId, U256, math},
};

/// 100 % in basis points.
pub(super) const BPS: u64 = 10_000;
/// What a funding rate is scaled by.
const WAD: u64 = 1_000_000_000_000_000_000;

/// A market at a snapshot's block.
#[derive(Clone, Debug)]
pub(super) struct MarketNow {
    /// Its parameters.
    pub(super) market: Market,
    /// Its feed's last price, settlement-token units per lot.
    pub(super) price: U256,
    /// When that was observed, Unix seconds.
    pub(super) updated_at: u64,
    /// The funding index of the block's second.
    pub(super) funding_index: I256,
    /// price − funding index: what one long lot is worth before its quote.
    pub(super) net: I256,
}

impl MarketNow {
    /// The market as it stands at the snapshot's block.
    pub(super) fn load(snapshot: &Snapshot, id: MarketId) -> Result<Self, Unvalued> {
        let market: Market = state::load(&snapshot.book, u64::from(id.0))?;
        Self::of(snapshot, id, market)
    }

    /// Likewise, of a market that was read already.
    pub(super) fn of(snapshot: &Snapshot, id: MarketId, market: Market) -> Result<Self, Unvalued> {
        let feed: Option<Feed> = state::find(&snapshot.book, Feed::id(market.feed))?;
        let feed = feed.filter(|f| !f.price.is_zero());
        let Feed { price, updated_at } = feed.ok_or_else(|| Unvalued::Missing(format!("price of market {id}")))?;
        let funding_index = funding_index(&market, snapshot.block.timestamp)?;
        let net = math::signed(price)
            .and_then(|p| p.checked_sub(funding_index))
            .ok_or(Unvalued::Overflow("price less funding index"))?;
        Ok(Self { market, price, updated_at, funding_index, net })
    }

    /// Whether money may move at this price at that time: neither too old nor ahead of the chain.
    pub(super) fn is_fresh(&self, timestamp: u64) -> bool {
        timestamp.checked_sub(self.updated_at).is_some_and(|age| age <= self.market.max_price_age_seconds)
    }

    /// Unrealised profit of a position: lots · net + quote.
    pub(super) fn pnl(&self, leg: &Leg) -> Result<I256, Unvalued> {
        let value = leg.quantity.checked_mul(self.net).and_then(|v| v.checked_add(leg.quote));
        value.ok_or(Unvalued::Overflow("profit of a position"))
    }

    /// Value of this many lots at the mark.
    pub(super) fn notional(&self, lots: U256) -> Result<U256, Unvalued> {
        lots.checked_mul(self.price).ok_or(Unvalued::Overflow("notional of a position"))
    }
}

/// An account as the venue's `accountState` view gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Settlement tokens credited to it.
    pub(super) cash: I256,
    /// cash + Σ pnl.
    pub(super) equity: I256,
    /// What it must keep.
    pub(super) maintenance_margin: U256,
    /// What it needs to open more.
    pub(super) initial_margin: U256,
}

impl Account {
    /// Values a unit over its markets.
    pub(super) fn of(unit: &Unit, market: impl Fn(MarketId) -> Result<MarketNow, Unvalued>) -> Result<Self, Unvalued> {
        let mut account = Self { cash: unit.cash, equity: unit.cash, ..Self::default() };
        for leg in perps(unit) {
            account.add(leg, &market(leg.market)?)?;
        }
        Ok(account)
    }

    fn add(&mut self, leg: &Leg, now: &MarketNow) -> Result<(), Unvalued> {
        let equity = self.equity.checked_add(now.pnl(leg)?);
        self.equity = equity.ok_or(Unvalued::Overflow("equity"))?;
        let notional = now.notional(leg.quantity.unsigned_abs())?;
        let part = |bps: u16| requirement_ceil(notional, bps);
        let sum = |have: U256, more: Option<U256>| {
            more.and_then(|m| have.checked_add(m)).ok_or(Unvalued::Overflow("margin requirement"))
        };
        self.maintenance_margin = sum(self.maintenance_margin, part(now.market.maintenance_margin_bps))?;
        self.initial_margin = sum(self.initial_margin, part(now.market.initial_margin_bps))?;
        Ok(())
    }

    /// Equity less maintenance margin.
    pub(super) fn surplus(&self) -> Result<I256, Unvalued> {
        let margin = math::signed(self.maintenance_margin);
        margin.and_then(|m| self.equity.checked_sub(m)).ok_or(Unvalued::Overflow("surplus"))
    }

    /// As the scanner wants it.
    pub(super) fn standing(&self) -> Result<Standing, Unvalued> {
        let surplus = self.surplus()?;
        Ok(Standing {
            equity: self.equity,
            maintenance_margin: self.maintenance_margin,
            surplus,
            health_factor_wad: None,
        })
    }

    /// Lots of a position of `size` that a keeper may liquidate now: none of a healthy account; half, rounded up, while
    /// equity covers half of the maintenance margin; all of it below that.
    pub(super) fn liquidatable_lots(&self, size: U256) -> Result<U256, Unvalued> {
        if !self.surplus()?.is_negative() {
            return Ok(U256::ZERO);
        }
        // A surplus below zero keeps equity below the margin, so only a magnitude can fail to double: then it is below.
        let twice = self.equity.checked_mul(I256::unchecked_from(2));
        let mild = twice.zip(math::signed(self.maintenance_margin)).is_some_and(|(twice, margin)| twice >= margin);
        Ok(if mild { size - size / U256::from(2) } else { size })
    }
}

/// A unit's perpetual positions; this venue has no other legs.
pub(super) fn perps(unit: &Unit) -> impl Iterator<Item = &Leg> {
    unit.legs.iter().filter(|leg| leg.kind == LegKind::Perp)
}

/// notional · bps / 1e4, rounded up, against the account.
pub(super) fn requirement_ceil(notional: U256, bps: u16) -> Option<U256> {
    math::mul_div_ceil(notional, U256::from(bps), U256::from(BPS))
}

fn funding_index(market: &Market, timestamp: u64) -> Result<I256, Unvalued> {
    const OVERFLOW: Unvalued = Unvalued::Overflow("funding index");
    let elapsed = timestamp.checked_sub(market.funding_since).ok_or(OVERFLOW)?;
    let elapsed = I256::unchecked_from(elapsed);
    let accrued = math::mul_div_toward_zero(market.funding_rate_x18, elapsed, I256::unchecked_from(WAD));
    accrued.and_then(|a| market.funding_index.checked_add(a)).ok_or(OVERFLOW)
}
