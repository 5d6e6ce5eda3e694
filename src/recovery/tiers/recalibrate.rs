//! Margin parameters move after a loss that margin did not cover, so that the same move does not open the same hole.
//!
//! For each market in which a unit needed help, the maintenance margin rises by the largest step that the venue's bounds
//! and a what-if over all holders allow: nobody with a surplus may be tipped over, and nobody loses more than half of
//! its surplus to it, or the next tick would. The initial margin rises by as much, so that the distance between the two
//! stays. Holders are taken as this plan leaves them, and with what an earlier market's step already takes from them.

use std::collections::BTreeSet;

use alloy::primitives::{I256, U256};

use super::{TierModule, Violation, Work};
use crate::{
    recovery::{
        Action, MarginBounds, MarketCase, Step, Tier,
        state::{BPS, SegmentState, refuse_if, requirement},
    },
    types::{
        MarketId, UnitKey,
        math::{mul_div_floor, positive_part},
    },
};

pub(in crate::recovery) struct Recalibrate;

impl TierModule for Recalibrate {
    fn conclude(&self, work: &mut Work<'_>) -> Result<(), Violation> {
        let helped: BTreeSet<&UnitKey> = work.helped().collect();
        let positions = work.case.distressed.iter().filter(|d| helped.contains(&d.unit)).flat_map(|d| &d.positions);
        let markets: BTreeSet<MarketId> = positions.map(|p| p.market).collect();
        for market in markets {
            if let Err(why) = raise(work, market)? {
                work.note(format!("the margin of market {market} stays: {why}"));
            }
        }
        Ok(())
    }
}

/// Adds the step, or says why there is none.
fn raise(work: &mut Work<'_>, id: MarketId) -> Result<Result<(), String>, Violation> {
    let market = work.state.market(id)?;
    let Some(bounds) = &market.margin_bounds else { return Ok(Err("this deployment may not move it".to_owned())) };
    if bounds.earliest > work.case.block.timestamp {
        return Ok(Err(format!("no move is accepted before {}", bounds.earliest)));
    }
    if work.reservations.markets.contains(&id) {
        return Ok(Err("a move is in flight".to_owned()));
    }
    let within_bounds = step_within(market, bounds);
    let harmless = harmless_step(&work.state, id, market);
    let step = within_bounds.min(harmless);
    if step == 0 {
        let why = if within_bounds == 0 { "it is at its bound" } else { "a holder is too near its own margin" };
        return Ok(Err(why.to_owned()));
    }
    let maintenance_margin_bps = market.maintenance_margin_bps + step;
    let initial_margin_bps = market.initial_margin_bps + step;
    apply(&mut work.state, id, maintenance_margin_bps, initial_margin_bps)?;
    work.push(Step {
        tier: Tier::Recalibrate,
        unit: None,
        action: Action::SetMargin { market: id, maintenance_margin_bps, initial_margin_bps },
        absorbs: U256::ZERO,
        why: format!("losses in market {id} outran its margin; {step} basis points more tip nobody over"),
    });
    Ok(Ok(()))
}

/// The largest rise of both margins that the venue accepts, basis points.
fn step_within(market: &MarketCase, bounds: &MarginBounds) -> u32 {
    let relative = |present: u32| u64::from(present) * u64::from(bounds.step_bps_max) / 10_000;
    let room = bounds.ceiling_bps.saturating_sub(market.initial_margin_bps);
    let step = relative(market.maintenance_margin_bps).min(relative(market.initial_margin_bps)).min(room.into());
    let above_floor =
        market.maintenance_margin_bps.saturating_add(u32::try_from(step).unwrap_or(0)) >= bounds.floor_bps;
    if above_floor { u32::try_from(step).unwrap_or(0) } else { 0 }
}

/// The largest rise that takes no more than half of any holder's surplus, basis points. A ratio b asks for
/// ceil(notional · b / 10⁴) ≤ r exactly when b ≤ r · 10⁴ / notional.
fn harmless_step(state: &SegmentState<'_>, id: MarketId, market: &MarketCase) -> u32 {
    let mut largest = u32::MAX;
    for holder in holders(state, id, market) {
        let Some((lots, surplus)) = holding(state, id, market, holder) else { continue };
        let notional = lots * market.mark_price;
        let affordable = requirement(market, lots, market.maintenance_margin_bps) + surplus / U256::from(2);
        let Some(ratio) = mul_div_floor(affordable, BPS, notional) else { continue };
        let ratio = u32::try_from(ratio).unwrap_or(u32::MAX);
        largest = largest.min(ratio.saturating_sub(market.maintenance_margin_bps));
    }
    largest
}

/// Who holds a position: those of the case, and makers that this plan gave one.
fn holders<'s>(state: &'s SegmentState<'_>, id: MarketId, market: &'s MarketCase) -> BTreeSet<&'s UnitKey> {
    let makers = state.makers.iter().filter(|maker| !state.lots(maker, id).is_zero());
    market.holders.keys().chain(makers).collect()
}

/// Lots and surplus of a holder with a surplus, as this plan leaves it.
fn holding(state: &SegmentState<'_>, id: MarketId, market: &MarketCase, holder: &UnitKey) -> Option<(U256, U256)> {
    let (lots, surplus) = match state.accounts.get(holder) {
        Some(account) => (state.lots(holder, id).unsigned_abs(), state.surplus(account)),
        None => market.holders.get(holder).map(|h| (h.lots, h.surplus))?,
    };
    let raised = state.raised.get(holder).copied().unwrap_or_default();
    let surplus = surplus - I256::from_raw(raised);
    (!lots.is_zero() && !surplus.is_negative()).then(|| (lots, positive_part(surplus)))
}

/// Moves the margins in the state, refusing what the bounds or a holder's surplus forbid.
pub(in crate::recovery) fn apply(
    state: &mut SegmentState<'_>,
    id: MarketId,
    maintenance_margin_bps: u32,
    initial_margin_bps: u32,
) -> Result<(), Violation> {
    let market = state.market(id)?;
    let rise = maintenance_margin_bps.saturating_sub(market.maintenance_margin_bps);
    let initial_rise = initial_margin_bps.saturating_sub(market.initial_margin_bps);
    let bounds = market.margin_bounds.as_ref().filter(|b| b.earliest <= state.case.block.timestamp);
    let allowed = bounds.map_or(0, |bounds| step_within(market, bounds));
    let within = rise > 0 && rise <= allowed && rise <= initial_rise && initial_rise <= allowed;
    refuse_if(!within, || format!("the margins of market {id} may rise by {allowed} basis points"))?;
    let mut raised = Vec::new();
    for holder in holders(state, id, market) {
        let Some((lots, surplus)) = holding(state, id, market, holder) else { continue };
        let more = requirement(market, lots, maintenance_margin_bps)
            - requirement(market, lots, market.maintenance_margin_bps);
        refuse_if(more > surplus, || format!("the margin of market {id} would tip {holder} over"))?;
        raised.push((holder.clone(), more));
    }
    for (holder, more) in raised {
        *state.raised.entry(holder).or_default() += more;
    }
    Ok(())
}
