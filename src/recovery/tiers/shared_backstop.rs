//! A pool that several protocols share pays what the segment's own fund and its winners could not.
//!
//! A claim first, a draw when the pool's round pays: between the two the loss waits, and no later tier has it. Only for a
//! unit without positions, whose hole no price moves, and never in a plan that touches the unit otherwise: the pool asks
//! the chain how deep the hole is, so it must have become as deep as the earlier tiers leave it. What the pool refuses,
//! or cannot pay when it is scarce, the next tier has.

use alloy::primitives::U256;

use super::{TierModule, Violation, Work, liquidate};
use crate::{
    recovery::{
        Action, PoolCase, Step, Tier,
        backstop::{self, PoolClaimState},
        state::{SegmentState, refuse_if},
        tier::Bound,
    },
    types::UnitKey,
};

/// A wait of several blocks for a smaller part of the hole than this is not worth it.
const PART_MIN: U256 = U256::from_limbs([100, 0, 0, 0]);

pub(in crate::recovery) struct SharedBackstop;

impl TierModule for SharedBackstop {
    fn absorb(&self, work: &mut Work<'_>, unit: &UnitKey) -> Result<(), Violation> {
        let Some(pool) = work.case.measures.pool.as_ref() else { return Ok(()) };
        liquidate::wind_down(work, unit)?;
        let hole = work.state.hole(unit)?;
        if hole.is_zero() || work.waits || !work.may_pass_fund(unit) {
            return Ok(());
        }
        let account = work.state.account(unit)?;
        if !account.positions.is_empty() {
            return Ok(());
        }
        if account.touched() {
            work.waits = true;
            work.note(format!("{unit}: the backstop pool is asked once what this plan does is on chain"));
            return Ok(());
        }
        match pool.claim_of(unit, work.case.block.number) {
            PoolClaimState::Due { granted } => draw(work, unit, granted.min(hole)),
            PoolClaimState::Waits { from_block } => {
                work.waits = true;
                work.note(format!("{unit}: its claim on the backstop pool is paid from block {from_block} on"));
                Ok(())
            }
            PoolClaimState::Paid => {
                work.note(format!("{unit}: the backstop pool has paid what this round gives it"));
                Ok(())
            }
            PoolClaimState::Closed { until_block } if pool.is_scarce() => {
                work.note(format!("{unit}: the backstop pool's capital is spoken for until block {until_block}"));
                Ok(())
            }
            PoolClaimState::Closed { until_block } => {
                work.waits = true;
                work.note(format!("{unit}: the backstop pool takes no claims until block {until_block}"));
                Ok(())
            }
            PoolClaimState::Open => claim(work, unit, hole),
        }
    }
}

fn draw(work: &mut Work<'_>, unit: &UnitKey, amount: U256) -> Result<(), Violation> {
    if amount.is_zero() {
        work.note(format!("{unit}: the backstop pool has nothing left for its claim"));
        return Ok(());
    }
    // A draw cannot be split: what the limits do not allow in full waits, or goes to the next tier.
    let allowance = work.allowance(Tier::SharedBackstop);
    if allowance.amount < amount || work.units_left(Tier::SharedBackstop) == 0 {
        let bound = if allowance.amount < amount { allowance.bound } else { Bound::Units };
        work.stop_at(unit, Tier::SharedBackstop, bound);
        return Ok(());
    }
    draw_from_pool(&mut work.state, unit, amount)?;
    let left = work.state.hole(unit)?;
    work.waits |= !left.is_zero();
    work.push(Step {
        tier: Tier::SharedBackstop,
        unit: Some(unit.clone()),
        action: Action::DrawBackstop { amount },
        absorbs: amount,
        why: format!("the pool's round pays its claim, {left} short after it"),
    });
    Ok(())
}

fn claim(work: &mut Work<'_>, unit: &UnitKey, hole: U256) -> Result<(), Violation> {
    let (allowance, floor) = (work.allowance(Tier::SharedBackstop), work.floor(Tier::SharedBackstop));
    let units_left = work.units_left(Tier::SharedBackstop);
    let Some(pool) = &work.state.pool else { return Ok(()) };
    let (capital, claimable) = (pool.capital.saturating_sub(floor), backstop::claimable(&pool.terms).min(hole));
    let least = hole.div_ceil(PART_MIN);
    if capital < least || claimable < least {
        let what = if capital < least { "capital" } else { "member's cap, stake or premium" };
        work.note(format!("{unit}: the backstop pool is not asked: its {what} is used up"));
        return Ok(());
    }
    // Scarce capital is shared by what is claimed: to claim only what there is would be to ask for less than one's part.
    let above_floor = if floor.is_zero() { U256::MAX } else { capital };
    let amount = claimable.min(above_floor).min(allowance.amount);
    if amount.is_zero() || units_left == 0 {
        let bound = if amount.is_zero() { allowance.bound } else { Bound::Units };
        work.stop_at(unit, Tier::SharedBackstop, bound);
        return Ok(());
    }
    claim_on_pool(&mut work.state, unit, amount)?;
    work.waits = true;
    work.push(Step {
        tier: Tier::SharedBackstop,
        unit: Some(unit.clone()),
        action: Action::ClaimBackstop { amount },
        absorbs: U256::ZERO,
        why: format!("{hole} short, no position left, the fund is spent: the shared pool is asked"),
    });
    Ok(())
}

/// Puts a claim into the pool's round, refusing what its contract would refuse.
pub(in crate::recovery) fn claim_on_pool(
    state: &mut SegmentState<'_>,
    unit: &UnitKey,
    amount: U256,
) -> Result<(), Violation> {
    let hole = asked_for(state, unit)?;
    refuse_if(amount.is_zero() || amount > hole, || format!("claims {amount} for a shortfall of {hole}"))?;
    let (case, block) = (pool_case(state)?, state.case.block.number);
    refuse_if(case.claim_of(unit, block) != PoolClaimState::Open, || format!("{unit} cannot claim now"))?;
    let pool = state.pool.as_mut().ok_or_else(no_pool)?;
    let most = backstop::claimable(&pool.terms);
    refuse_if(amount > most, || format!("claims {amount} where the member may claim {most}"))?;
    backstop::take(&mut pool.terms, amount);
    state.account_mut(unit)?.asked = true;
    Ok(())
}

/// Pays a unit what the round grants it: `amount` must be just that.
pub(in crate::recovery) fn draw_from_pool(
    state: &mut SegmentState<'_>,
    unit: &UnitKey,
    amount: U256,
) -> Result<(), Violation> {
    let hole = asked_for(state, unit)?;
    let granted = match pool_case(state)?.claim_of(unit, state.case.block.number) {
        PoolClaimState::Due { granted } => granted.min(hole),
        _ => U256::ZERO,
    };
    refuse_if(amount.is_zero() || amount != granted, || format!("draws {amount} where the pool pays {granted}"))?;
    state.account_mut(unit)?.receive(amount);
    Ok(())
}

/// The hole of a unit that may be shown to the pool.
fn asked_for(state: &SegmentState<'_>, unit: &UnitKey) -> Result<U256, Violation> {
    let account = state.account(unit)?;
    refuse_if(account.touched(), || format!("{unit} is claimed for in the plan that changes it"))?;
    refuse_if(!account.positions.is_empty(), || format!("{unit} has positions"))?;
    refuse_if(!state.fund_spent(), || "the fund can still pay".to_owned())?;
    state.hole(unit)
}

fn pool_case<'a>(state: &SegmentState<'a>) -> Result<&'a PoolCase, Violation> {
    state.case.measures.pool.as_ref().ok_or_else(no_pool)
}

fn no_pool() -> Violation {
    Violation::Refused("the deployment is in no backstop pool".to_owned())
}
