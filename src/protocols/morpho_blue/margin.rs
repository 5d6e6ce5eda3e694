//! Exact margin maths: what a position is worth and may owe, in the singleton's own integers and roundings.
//!
//! ```text
//! value      = ⌊collateral · price / 1e36⌋
//! max borrow = ⌊value · lltv / 1e18⌋
//! debt       = ⌈shares · (borrow assets + 1) / (borrow shares + 1e6)⌉     totals with interest to the block
//! surplus    = max borrow − debt          below zero exactly where `_isHealthy` says no
//! equity     = value − debt               below zero: bad debt at the oracle's price
//! ```
//!
//! All amounts are loan-token units. Supply backs no debt here, so it counts for nothing; a unit without debt is healthy
//! whatever its collateral is worth, and is not valued.
//!
//! Invariants: a figure is the contract's at the snapshot's block and second, or there is none.
//! Must not: use floating point.

use super::{
    Settings,
    fixed::{Pool, WAD, mul_div_down},
    interest,
    state::{self, Curve, Market, Price, Rate, Totals},
};
use crate::{
    positions::{LegKind, Snapshot, Unit},
    scanner::{Standing, Unvalued},
    types::{I256, U256, math},
};

/// What an oracle's price is scaled by.
pub(super) const PRICE_SCALE: U256 = U256::from_limbs([12_919_594_847_110_692_864, 54_210_108_624_275_221, 0, 0]);

/// A market at a snapshot's block.
#[derive(Clone, Debug)]
pub(super) struct MarketNow {
    /// What it is.
    pub(super) market: Market,
    /// Loan-token units a collateral-token unit, × 1e36.
    pub(super) price: U256,
    /// Its totals with interest to the block's second.
    pub(super) totals: Totals,
    /// Its totals as the chain stores them.
    stored: Totals,
    interest: Interest,
}

/// What interest a market bears.
#[derive(Clone, Copy, Debug)]
enum Interest {
    None,
    /// Of the adaptive curve, from this rate at target.
    Curve(U256),
    /// At the rate that its model answered, true of the block.
    Answered(U256),
}

impl MarketNow {
    /// The market of this number.
    pub(super) fn load(settings: &Settings, snapshot: &Snapshot, number: u32) -> Result<Self, Unvalued> {
        let market: Market = state::load(&snapshot.book, number.into())?;
        if !settings.markets.contain(&market.id) {
            return Err(Unvalued::Missing(format!("market {}: protocol.markets does not name it", market.id)));
        }
        let stored: Totals = state::load(&snapshot.book, number.into())?;
        let interest = Interest::of(settings, snapshot, number, &market, &stored)?;
        let price: Option<Price> = state::find(&snapshot.book, market.oracle.into_word())?;
        let Price(price) = price.ok_or_else(|| Unvalued::Missing(format!("price of oracle {}", market.oracle)))?;
        let totals = interest.accrue(&stored, snapshot.block.timestamp)?;
        Ok(Self { market, price, totals, stored, interest })
    }

    /// What its debt would be at a later second if nobody touched it till then.
    pub(super) fn debt_pool_at(&self, timestamp: u64) -> Result<Pool, Unvalued> {
        Ok(debt_pool(&self.interest.accrue(&self.stored, timestamp)?))
    }

    /// What its debt is.
    pub(super) fn debt_pool(&self) -> Pool {
        debt_pool(&self.totals)
    }

    /// Value of collateral, rounded down.
    pub(super) fn value_down(&self, collateral: U256) -> Result<U256, Unvalued> {
        mul_div_down(collateral, self.price, PRICE_SCALE).ok_or(Unvalued::Overflow("value of collateral"))
    }
}

fn debt_pool(totals: &Totals) -> Pool {
    Pool { assets: totals.borrow_assets, shares: totals.borrow_shares }
}

impl Interest {
    fn of(
        settings: &Settings,
        snapshot: &Snapshot,
        number: u32,
        market: &Market,
        totals: &Totals,
    ) -> Result<Self, Unvalued> {
        if market.irm.is_zero() {
            return Ok(Self::None);
        }
        if settings.adaptive_curve_irm == Some(market.irm) {
            let curve: Curve = state::load(&snapshot.book, number.into())?;
            if curve.of_update != totals.last_update {
                return Err(Unvalued::Missing(format!("rate at target of market {number} since its last accrual")));
            }
            return Ok(Self::Curve(curve.rate_at_target_wad));
        }
        let rate: Rate = state::load(&snapshot.book, number.into())?;
        if rate.at != snapshot.block.timestamp {
            return Err(Unvalued::Missing(format!("borrow rate of market {number} at this block")));
        }
        Ok(Self::Answered(rate.rate_wad))
    }

    fn accrue(self, totals: &Totals, timestamp: u64) -> Result<Totals, Unvalued> {
        let rate = match self {
            Self::None => return Ok(totals.clone()),
            Self::Curve(at_target) => interest::adaptive_curve_rate(totals, at_target, timestamp),
            Self::Answered(rate) => Some(rate),
        };
        rate.and_then(|rate| interest::accrued(totals, rate, timestamp)).ok_or(Unvalued::Overflow("interest"))
    }
}

/// A unit's collateral, token units, and its debt, shares.
pub(super) fn holdings(unit: &Unit) -> (U256, U256) {
    let market = state::market_id(unit.segment.0);
    let held = |kind| unit.leg(market, kind).map_or(U256::ZERO, |leg| leg.quantity.unsigned_abs());
    (held(LegKind::Collateral), held(LegKind::Debt))
}

/// The standing of a unit that owes nothing.
pub(super) const DEBT_FREE: Standing =
    Standing { equity: I256::ZERO, maintenance_margin: U256::ZERO, surplus: I256::ZERO, health_factor_wad: None };

/// A borrower's position, valued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// Collateral-token units.
    pub(super) collateral: U256,
    /// Its part of the market's debt.
    pub(super) borrow_shares: U256,
    /// Value of the collateral, rounded down.
    pub(super) value: U256,
    /// Most it may owe.
    pub(super) max_borrow: U256,
    /// What it owes, rounded up.
    pub(super) debt: U256,
}

impl Position {
    /// Values a unit of this market.
    pub(super) fn of(unit: &Unit, now: &MarketNow) -> Result<Self, Unvalued> {
        let (collateral, borrow_shares) = holdings(unit);
        let value = now.value_down(collateral)?;
        let max_borrow = mul_div_down(value, now.market.lltv_wad, WAD).ok_or(Unvalued::Overflow("most to borrow"))?;
        let debt = now.debt_pool().assets_up(borrow_shares).ok_or(Unvalued::Overflow("debt"))?;
        Ok(Self { collateral, borrow_shares, value, max_borrow, debt })
    }

    /// Value less debt.
    pub(super) fn equity(&self) -> Result<I256, Unvalued> {
        difference(self.value, self.debt).ok_or(Unvalued::Overflow("equity"))
    }

    /// As the scanner wants it. The protocol says no health factor.
    pub(super) fn standing(&self) -> Result<Standing, Unvalued> {
        Ok(Standing {
            equity: self.equity()?,
            // No market has a loan-to-value of 1 or more.
            maintenance_margin: self.value.saturating_sub(self.max_borrow),
            surplus: difference(self.max_borrow, self.debt).ok_or(Unvalued::Overflow("surplus"))?,
            health_factor_wad: None,
        })
    }
}

fn difference(a: U256, b: U256) -> Option<I256> {
    math::signed(a)?.checked_sub(math::signed(b)?)
}
