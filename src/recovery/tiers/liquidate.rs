//! Close against the market; the unit's own margin pays.
//!
//! A liquidatable unit is closed as far as the venue lets, in the market of its largest loss first, until it is healthy.
//!
//! A bankrupt unit is closed first only when the fund can pay for all of its shortfall, slippage included. Otherwise its
//! positions stay: they are what deleveraging works with, since a winner can only be closed against them, and closing
//! them in a crashed market first would make the hole larger and then leave nobody to share it with. What deleveraging
//! could not use is wound down against the market afterwards.

use std::collections::BTreeMap;

use alloy::primitives::{I256, U256};

use super::{TierModule, Violation, Work};
use crate::{
    recovery::{Action, Fill, RestingOrder, Step, Tier, state::Closing},
    types::{
        MarketId, UnitKey,
        math::{negative_part, positive_part},
    },
};

pub(in crate::recovery) struct Liquidate;

impl TierModule for Liquidate {
    fn absorb(&self, work: &mut Work<'_>, unit: &UnitKey) -> Result<(), Violation> {
        let hole = work.state.hole(unit)?;
        if hole.is_zero() {
            return close_all(work, unit, "its own margin pays");
        }
        let fund = work.fund_payable();
        let needed = negative_part(foresee(work, unit)?.equity);
        if needed <= fund {
            return close_all(work, unit, "the insurance fund can pay for all that is short");
        }
        Ok(())
    }
}

/// Closes what is left of a unit that the later tiers have dealt with, as far as they can do no more with it. Does
/// nothing where this deployment does not liquidate, where the unit was not bankrupt, or where it waits.
pub(in crate::recovery) fn wind_down(work: &mut Work<'_>, unit: &UnitKey) -> Result<(), Violation> {
    let account = work.state.account(unit)?;
    let (open, helped) = (!account.positions.is_empty(), !account.external.is_zero());
    let hole = work.state.hole(unit)?;
    if work.wound_down || work.waits || !open || !work.has(Tier::Liquidate) || (hole.is_zero() && !helped) {
        return Ok(());
    }
    let later =
        [Tier::AutoDeleverage, Tier::SharedBackstop, Tier::SocialiseLoss].into_iter().any(|tier| work.has(tier));
    if !hole.is_zero() && later && !work.may_pass_fund(unit) {
        return Ok(());
    }
    work.wound_down = true;
    if hole.is_zero() {
        let end = foresee(work, unit)?;
        let payable = work.has(Tier::SocialiseLoss) && end.flat && work.state.fund_spent();
        if end.equity.is_negative() && !payable {
            work.note(format!("{unit} keeps its other positions: closing them now would open a new shortfall"));
            return Ok(());
        }
    }
    close_all(work, unit, "what deleveraging left is wound down")
}

/// How a unit would end if it were closed as far as there is depth.
struct End {
    equity: I256,
    flat: bool,
}

/// Costs of different markets add up, since each has its own orders; fees are left out, as they never open a hole.
fn foresee(work: &Work<'_>, unit: &UnitKey) -> Result<End, Violation> {
    let account = work.state.account(unit)?;
    let now = work.state.equity(account);
    let mut end = End { equity: now, flat: true };
    for market in account.positions.keys() {
        let lots = work.state.closable_lots(unit, *market)?;
        let fills = take_depth(work, unit, *market, lots)?;
        let taken = fills.iter().fold(U256::ZERO, |sum, fill| sum + fill.lots);
        end.flat &= taken == work.state.lots(unit, *market).unsigned_abs();
        let closing = work.state.quote_close(unit, *market, &fills)?;
        end.equity += closing.equity_after + I256::from_raw(closing.fee) - now;
    }
    Ok(end)
}

fn close_all(work: &mut Work<'_>, unit: &UnitKey, why: &str) -> Result<(), Violation> {
    for market in work.state.markets_by_loss(unit)? {
        let lots = work.state.closable_lots(unit, market)?;
        if lots.is_zero() {
            continue;
        }
        let fills = take_depth(work, unit, market, lots)?;
        let found = fills.iter().fold(U256::ZERO, |sum, fill| sum + fill.lots);
        if found < lots {
            work.note(format!("{unit}: the orders in market {market} take {found} of {lots} lots"));
        }
        if fills.is_empty() {
            continue;
        }
        let Closing { own, .. } = work.state.quote_close(unit, market, &fills)?;
        let allowance = work.allowance(Tier::Liquidate);
        if own > allowance.amount {
            work.note(format!("{unit} is not closed in market {market} at a loss of {own}: {}", allowance.bound));
            continue;
        }
        if !work.reaches(Tier::Liquidate, unit) && work.units_left(Tier::Liquidate) == 0 {
            work.note(format!("{unit} is not closed in market {market}: this plan closes as many accounts as it may"));
            continue;
        }
        work.state.close(unit, market, &fills)?;
        work.push(Step {
            tier: Tier::Liquidate,
            unit: Some(unit.clone()),
            action: Action::Close { market, fills },
            absorbs: own,
            why: format!("{found} lots of market {market} close against resting orders: {why}"),
        });
    }
    Ok(())
}

/// Orders to close up to `lots` against, best price first. Makers that this plan already charged are passed over, since
/// their margin is no longer what the case says; so are makers in flight, and those whom a price better than the mark
/// would take below zero.
fn take_depth(work: &Work<'_>, unit: &UnitKey, market: MarketId, lots: U256) -> Result<Vec<Fill>, Violation> {
    let case = work.state.market(market)?;
    let long = !work.state.lots(unit, market).is_negative();
    let (mut left, mut fills, mut given) = (lots, Vec::new(), BTreeMap::<&UnitKey, U256>::new());
    for order in if long { &case.buys } else { &case.sells } {
        if left.is_zero() {
            break;
        }
        if order.maker == *unit || !usable(work, order) {
            continue;
        }
        let taken = work.state.taken.get(&order.order).copied().unwrap_or_default();
        let mut take = order.lots.saturating_sub(taken).min(left);
        let (better, worse) = if long { (order.price, case.mark_price) } else { (case.mark_price, order.price) };
        let gift = better.saturating_sub(worse);
        if !gift.is_zero() {
            let given = given.entry(&order.maker).or_default();
            let equity = positive_part(work.state.equity(work.state.account(&order.maker)?));
            take = take.min(equity.saturating_sub(*given) / gift);
            *given += take * gift;
        }
        if !take.is_zero() {
            left -= take;
            fills.push(Fill { order: order.order, maker: order.maker.clone(), lots: take, price: order.price });
        }
    }
    Ok(fills)
}

fn usable(work: &Work<'_>, order: &RestingOrder) -> bool {
    let maker = &order.maker;
    work.case.solvent.contains_key(maker) && !work.reserved(maker) && !work.state.charged.contains(maker)
}
