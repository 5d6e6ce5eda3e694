//! The independent check of a plan: its steps are done again, one by one, on the case's own accounts, and the loss is
//! added up from how the accounts moved, not from what the planner thought.
//!
//! Two routes to every equity are compared: the venue's position arithmetic, and the plain difference between the price
//! paid and the mark. A plan that passes balances to the unit, is made of steps that the venue would take in this
//! order, and takes nobody below zero. Must not: change a plan, or believe any of its figures.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{I256, U256};

use super::{
    Action, BalancedPlan, Fill, Imbalance, SegmentCase, Step, Tier,
    state::{Closing, SegmentState, Violation, refuse_if},
    tiers::{gate_withdrawals, recalibrate, restitute, shared_backstop},
};
use crate::types::{MarketId, UnitKey, math::negative_part};

/// Holds a plan against the case it was made from.
pub(super) fn check(case: &SegmentCase, plan: &BalancedPlan) -> Result<(), Imbalance> {
    let touchable = case.distressed.iter().map(|d| &d.unit).filter(|unit| !plan.left_alone.contains(*unit));
    let state = SegmentState::of(case)?;
    let mut replay =
        Replay { state, plan, touchable: touchable.collect(), done: BTreeSet::new(), shortfall: U256::ZERO };
    replay.check_frame()?;
    replay.shortfall = replay.holes()?;
    let mut absorbed: BTreeMap<Tier, U256> = BTreeMap::new();
    for (index, step) in plan.steps.iter().enumerate() {
        let actual = replay.step(index, step).map_err(|why| Imbalance::Impossible { step: index, why })?;
        if actual != step.absorbs {
            return Err(Imbalance::Step { step: index, claimed: step.absorbs, actual });
        }
        *absorbed.entry(step.tier).or_default() += actual;
    }
    let (claimed, actual) = (plan.ledger.returned, replay.state.returned);
    if claimed != actual {
        return Err(Imbalance::Returned { claimed, actual });
    }
    add_up(plan, &absorbed, replay.shortfall, replay.holes()?)
}

/// The ledger against what the replay found.
pub(super) fn add_up(
    plan: &BalancedPlan,
    absorbed: &BTreeMap<Tier, U256>,
    shortfall: U256,
    residual: U256,
) -> Result<(), Imbalance> {
    let ledger = &plan.ledger;
    for tier in ledger.absorbed.keys().chain(absorbed.keys()) {
        let claimed = ledger.absorbed.get(tier).copied().unwrap_or_default();
        let actual = absorbed.get(tier).copied().unwrap_or_default();
        if claimed != actual {
            return Err(Imbalance::TierTotal { tier: *tier, claimed, actual });
        }
    }
    let total = ledger.absorbed.values().fold(U256::ZERO, |sum, amount| sum.saturating_add(*amount));
    let balances = total.checked_add(ledger.residual) == Some(shortfall);
    if balances && ledger.shortfall == shortfall && ledger.residual == residual {
        return Ok(());
    }
    Err(Imbalance::Total { shortfall, absorbed: total, residual: ledger.residual })
}

struct Replay<'a> {
    state: SegmentState<'a>,
    plan: &'a BalancedPlan,
    /// Units whose loss is in the ledger.
    touchable: BTreeSet<&'a UnitKey>,
    /// Units whose steps have begun.
    done: BTreeSet<&'a UnitKey>,
    /// The loss found so far.
    shortfall: U256,
}

impl<'a> Replay<'a> {
    fn check_frame(&self) -> Result<(), Violation> {
        let (case, plan) = (self.state.case, self.plan);
        let same = case.segment == plan.segment && case.block == plan.block;
        refuse_if(!same, || "the plan is of another segment or block".to_owned())?;
        refuse_if(case.blocked.is_some() && !plan.steps.is_empty(), || "the segment is blocked".to_owned())
    }

    /// How far below zero the units of the ledger stand together.
    fn holes(&self) -> Result<U256, Violation> {
        self.touchable.iter().try_fold(U256::ZERO, |sum, unit| Ok(sum + self.state.hole(unit)?))
    }

    /// Does one step and returns what it absorbed.
    fn step(&mut self, index: usize, step: &'a Step) -> Result<U256, Violation> {
        let right_tier = match step.action {
            Action::Close { .. } => Tier::Liquidate,
            Action::DrawInsurance { .. } => Tier::InsuranceFund,
            Action::Deleverage { .. } => Tier::AutoDeleverage,
            Action::ClaimBackstop { .. } | Action::DrawBackstop { .. } => Tier::SharedBackstop,
            Action::Socialise { .. } => Tier::SocialiseLoss,
            Action::SetMargin { .. } => Tier::Recalibrate,
            Action::Gate { .. } => Tier::GateWithdrawals,
            Action::Restitute { .. } => Tier::Restitute,
            Action::Intent(_) => {
                return Err(Violation::Refused("an intent that the case does not offer".to_owned()));
            }
        };
        refuse_if(step.tier != right_tier, || format!("tier {} does something else", step.tier))?;
        let Some(unit) = &step.unit else { return self.segment_step(step) };
        self.check_subject(index, unit)?;
        let received = self.state.account(unit)?.external;
        match &step.action {
            Action::Close { market, fills } => return self.close(unit, *market, fills),
            Action::DrawInsurance { amount } => self.state.draw(unit, *amount)?,
            Action::Deleverage { market, winners } => self.state.deleverage(unit, *market, winners)?,
            Action::ClaimBackstop { amount } => shared_backstop::claim_on_pool(&mut self.state, unit, *amount)?,
            Action::DrawBackstop { amount } => shared_backstop::draw_from_pool(&mut self.state, unit, *amount)?,
            Action::Socialise { payers } => self.state.socialise(unit, payers)?,
            Action::SetMargin { .. } | Action::Gate { .. } | Action::Restitute { .. } | Action::Intent(_) => {
                refuse_if(true, || "it belongs to no unit".to_owned())?
            }
        }
        Ok(self.state.account(unit)?.external - received)
    }

    fn segment_step(&mut self, step: &Step) -> Result<U256, Violation> {
        match &step.action {
            Action::SetMargin { market, maintenance_margin_bps, initial_margin_bps, tipped_max } => {
                let to = (*maintenance_margin_bps, *initial_margin_bps);
                recalibrate::apply(&mut self.state, *market, to, *tipped_max)?;
            }
            Action::Gate { segment, shut_for } => {
                refuse_if(*segment != self.plan.segment, || format!("the gate of segment {segment}"))?;
                gate_withdrawals::apply(&self.state, shut_for.as_ref())?;
            }
            Action::Restitute { claimants } => restitute::apply(&mut self.state, claimants)?,
            _ => return Err(Violation::Refused("the step names no unit".to_owned())),
        }
        Ok(U256::ZERO)
    }

    /// The unit may be touched, and its steps are adjacent.
    fn check_subject(&mut self, index: usize, unit: &'a UnitKey) -> Result<(), Violation> {
        refuse_if(!self.touchable.contains(unit), || format!("{unit} is not to be touched"))?;
        let previous = index.checked_sub(1).and_then(|i| self.plan.steps[i].unit.as_ref());
        let fresh = self.done.insert(unit);
        refuse_if(!fresh && previous != Some(unit), || format!("the steps of {unit} are not adjacent"))
    }

    fn close(&mut self, unit: &UnitKey, market: MarketId, fills: &[Fill]) -> Result<U256, Violation> {
        let before = self.state.equity(self.state.account(unit)?);
        let long = !self.state.lots(unit, market).is_negative();
        let closing = self.state.close(unit, market, fills)?;
        let after = self.state.equity(self.state.account(unit)?);
        self.check_equity(market, fills, long, before, &closing)?;
        refuse_if(after != closing.equity_after, || format!("{unit} ends at {after}"))?;
        let (hole_before, hole_after) = (negative_part(before), negative_part(after));
        // The hole before is part of the sum already, so this never goes below zero.
        self.shortfall = self.shortfall + closing.own + hole_after - hole_before;
        Ok(closing.own)
    }

    /// Equity moves by what the price differs from the mark, and by the fee, and by nothing else.
    fn check_equity(
        &self,
        market: MarketId,
        fills: &[Fill],
        long: bool,
        before: I256,
        closing: &Closing,
    ) -> Result<(), Violation> {
        let mark = I256::from_raw(self.state.market(market)?.mark_price);
        let gain = fills.iter().fold(I256::ZERO, |sum, fill| {
            let better = I256::from_raw(fill.price) - mark;
            sum + I256::from_raw(fill.lots) * if long { better } else { -better }
        });
        let expected = before + gain - I256::from_raw(closing.fee);
        refuse_if(expected != closing.equity_after, || format!("a close ends at {expected} by price"))
    }
}
