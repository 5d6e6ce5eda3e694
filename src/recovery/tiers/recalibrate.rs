//! Margin parameters move with what is measured, or at least after a loss that margin did not cover, so that the same move
//! does not open the same hole.
//!
//! With a controller in the settings, each market's maintenance margin goes a bounded step towards what volatility and the
//! fund's runway ask for, and falls again after calm. Without one it rises, in each market in which a unit needed help, by
//! the largest step. The venue's bounds and a what-if over all holders limit both: unless the settings allow some, nobody
//! with a surplus may be tipped over, and nobody loses more than half of its surplus to a step, or the next tick would.
//! The initial margin moves by as much, so that the distance between the two stays. Holders are taken as this plan leaves them, and with what an earlier market's step already takes from them.

use std::collections::BTreeSet;

use alloy::primitives::{I256, U256};

use super::{TierModule, Violation, Work};
use crate::{
    recovery::{
        Action, Adjustment, Band, Controller, Holder, MarginBounds, MarketCase, Step, Tier, Tighter,
        controller::{harmless_margin_bps, runway_seconds},
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
        match work.controller() {
            Some(controller) => steer(work, &controller),
            None => raise_after_loss(work),
        }
    }
}

/// Every market's margin a step towards what the controller aims at.
fn steer(work: &mut Work<'_>, controller: &Controller) -> Result<(), Violation> {
    let case = work.case;
    let payments = case.measures.payments.as_slice();
    let spent = payments.iter().fold(U256::ZERO, |sum, paid| sum.saturating_add(paid.value));
    let span = payments.first().map_or(0, |first| case.block.timestamp.saturating_sub(first.at));
    let runway = runway_seconds(work.state.spendable, spent, span);
    for (id, market) in &case.markets {
        let (Some(bounds), Some(prices)) = (&market.margin_bounds, case.measures.prices.get(id)) else { continue };
        let present = U256::from(market.maintenance_margin_bps);
        let Some(Adjustment::Move(to)) = controller.adjust(&band(bounds), present, prices, runway) else { continue };
        let to = u32::try_from(to).unwrap_or(u32::MAX);
        let why =
            format!("measured volatility and the fund's runway ask for a margin of {to} basis points in market {id}");
        if let Err(kept) = move_to(work, *id, to, controller.tipped_max, why)? {
            work.note(format!("the margin of market {id} stays: {kept}"));
        }
    }
    Ok(())
}

/// What a venue's bounds mean to the controller; the delay is the venue's own.
fn band(bounds: &MarginBounds) -> Band {
    Band {
        tighter: Tighter::Up,
        floor: U256::from(bounds.floor_bps),
        ceiling: U256::from(bounds.ceiling_bps),
        step_bps_max: bounds.step_bps_max,
        delay_seconds: 0,
        hysteresis_bps: 0,
        calm_seconds: 0,
    }
}

/// The margin of each market in which a unit needed help rises by as much as it may.
fn raise_after_loss(work: &mut Work<'_>) -> Result<(), Violation> {
    let helped: BTreeSet<&UnitKey> = work.helped().collect();
    let positions = work.case.distressed.iter().filter(|d| helped.contains(&d.unit)).flat_map(|d| &d.positions);
    let markets: BTreeSet<MarketId> = positions.map(|p| p.market).collect();
    for market in markets {
        let why = format!("losses in market {market} outran its margin");
        if let Err(kept) = move_to(work, market, u32::MAX, 0, why)? {
            work.note(format!("the margin of market {market} stays: {kept}"));
        }
    }
    Ok(())
}

/// Adds a step towards this maintenance margin, or says why there is none. Margins fall only while nobody is in distress.
fn move_to(
    work: &mut Work<'_>,
    id: MarketId,
    to: u32,
    tipped_max: u32,
    why: String,
) -> Result<Result<(), String>, Violation> {
    let market = work.state.market(id)?;
    let Some(bounds) = &market.margin_bounds else { return Ok(Err("this deployment may not move it".to_owned())) };
    if bounds.earliest > work.case.block.timestamp {
        return Ok(Err(format!("no move is accepted before {}", bounds.earliest)));
    }
    if work.reservations.markets.contains(&id) {
        return Ok(Err("a move is in flight".to_owned()));
    }
    let present = market.maintenance_margin_bps;
    let (maintenance_margin_bps, initial_margin_bps, tells) = if to < present {
        if !work.case.distressed.is_empty() {
            return Ok(Err("somebody is in distress".to_owned()));
        }
        let step = fall_within(market, bounds).min(present - to);
        (present - step, market.initial_margin_bps - step, format!("{step} basis points less"))
    } else {
        let within_bounds = step_within(market, bounds);
        let harmless = harmless_step(&work.state, id, market, within_bounds, tipped_max);
        let step = within_bounds.min(harmless).min(to - present);
        if step == 0 && within_bounds > 0 {
            return Ok(Err("a holder is too near its own margin".to_owned()));
        }
        let tells = match tipped_max {
            0 => format!("{step} basis points more tip nobody over"),
            most => format!("{step} basis points more tip at most {most} over"),
        };
        (present + step, market.initial_margin_bps + step, tells)
    };
    if maintenance_margin_bps == present {
        return Ok(Err("it is at its bound".to_owned()));
    }
    apply(&mut work.state, id, (maintenance_margin_bps, initial_margin_bps), tipped_max)?;
    work.push(Step {
        tier: Tier::Recalibrate,
        unit: None,
        action: Action::SetMargin { market: id, maintenance_margin_bps, initial_margin_bps, tipped_max },
        absorbs: U256::ZERO,
        why: format!("{why}; {tells}"),
    });
    Ok(Ok(()))
}

/// The largest fall of both margins that the venue accepts, basis points.
fn fall_within(market: &MarketCase, bounds: &MarginBounds) -> u32 {
    let relative = u64::from(market.maintenance_margin_bps) * u64::from(bounds.step_bps_max) / 10_000;
    let room = market.maintenance_margin_bps.saturating_sub(bounds.floor_bps);
    u32::try_from(relative.min(room.into())).unwrap_or(0)
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

/// The largest rise, at most `most`, that makes no more than `tipped_max` holders liquidatable; where nobody may be, one
/// that takes no more than half of any holder's surplus, or the next tick would. A ratio b asks for
/// ceil(notional · b / 10⁴) ≤ r exactly when b ≤ r · 10⁴ / notional.
fn harmless_step(state: &SegmentState<'_>, id: MarketId, market: &MarketCase, most: u32, tipped_max: u32) -> u32 {
    if tipped_max > 0 {
        let held = holders(state, id, market).into_iter().filter_map(|holder| holding(state, id, market, holder));
        let held: Vec<Holder> = held.map(|(lots, surplus)| Holder { lots, surplus: I256::from_raw(surplus) }).collect();
        let (from, tipped_max) = (market.maintenance_margin_bps, usize::try_from(tipped_max).unwrap_or(usize::MAX));
        let held: Vec<&Holder> = held.iter().collect();
        return harmless_margin_bps(&held, market.mark_price, from, from.saturating_add(most), tipped_max) - from;
    }
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

/// Moves the margins in the state to maintenance and initial, refusing what the bounds forbid and what would make more
/// than `tipped_max` holders liquidatable.
pub(in crate::recovery) fn apply(
    state: &mut SegmentState<'_>,
    id: MarketId,
    (maintenance_margin_bps, initial_margin_bps): (u32, u32),
    tipped_max: u32,
) -> Result<(), Violation> {
    let market = state.market(id)?;
    let bounds = market.margin_bounds.as_ref().filter(|b| b.earliest <= state.case.block.timestamp);
    if maintenance_margin_bps < market.maintenance_margin_bps {
        let allowed = bounds.map_or(0, |bounds| fall_within(market, bounds));
        let fall = market.maintenance_margin_bps - maintenance_margin_bps;
        let within = fall <= allowed && initial_margin_bps.saturating_add(fall) == market.initial_margin_bps;
        refuse_if(!within, || format!("the margins of market {id} may fall by {allowed} basis points"))?;
        return refuse_if(!state.case.distressed.is_empty(), || {
            "margins fall while somebody is in distress".to_owned()
        });
    }
    let rise = maintenance_margin_bps - market.maintenance_margin_bps;
    let initial_rise = initial_margin_bps.saturating_sub(market.initial_margin_bps);
    let allowed = bounds.map_or(0, |bounds| step_within(market, bounds));
    let within = rise > 0 && rise <= allowed && rise <= initial_rise && initial_rise <= allowed;
    refuse_if(!within, || format!("the margins of market {id} may rise by {allowed} basis points"))?;
    let (mut raised, mut tipped) = (Vec::new(), 0);
    for holder in holders(state, id, market) {
        let Some((lots, surplus)) = holding(state, id, market, holder) else { continue };
        let more = requirement(market, lots, maintenance_margin_bps)
            - requirement(market, lots, market.maintenance_margin_bps);
        tipped += u32::from(more > surplus);
        raised.push((holder.clone(), more));
    }
    refuse_if(tipped > tipped_max, || {
        format!("the margin of market {id} would tip {tipped} units over, {tipped_max} are allowed")
    })?;
    for (holder, more) in raised {
        *state.raised.entry(holder).or_default() += more;
    }
    Ok(())
}
