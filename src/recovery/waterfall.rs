//! The walk: every distressed unit, worst first and those without positions last, through the configured tiers in their
//! order; then what concerns the whole segment.
//!
//! Invariants: what one unit used up (fund, depth, winners, payers) is gone for the next; a unit with a transaction in
//! flight is neither subject, winner, payer nor maker; whatever is not done leaves a note. Must not: know what a tier
//! does.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::U256;

use super::{
    Action, AdlPolicy, BalancedPlan, Controller, Ledger, Reservations, SegmentCase, Step, Tier, TierSettings,
    state::{SegmentState, Violation},
    tier::{Allowance, Bound},
    tiers::liquidate,
};
use crate::types::UnitKey;

/// Makes the plan; its ledger is the planner's own and still has to be checked.
pub(super) fn walk(
    case: &SegmentCase,
    settings: &[TierSettings],
    policy: &dyn AdlPolicy,
    reservations: &Reservations,
) -> Result<BalancedPlan, Violation> {
    let mut work = Work::new(case, settings, policy, reservations)?;
    if let Some(reason) = &case.blocked {
        work.note(format!("nothing can be sent in this segment: {reason}"));
        return work.finish();
    }
    // Units without positions come last: a socialised loss charges every maker, and a charged maker's orders are no longer
    // counted on in this plan.
    let (flat, open): (Vec<_>, Vec<_>) = case.distressed.iter().partition(|unit| unit.positions.is_empty());
    for (index, distressed) in open.iter().chain(&flat).enumerate() {
        let unit = &distressed.unit;
        work.depth_needed = open.iter().skip(index + 1).any(|later| !reservations.units.contains(&later.unit));
        if reservations.units.contains(unit) {
            work.note(format!("{unit} is left alone: a transaction in flight touches it"));
            work.left_alone.insert(unit.clone());
            continue;
        }
        (work.waits, work.wound_down) = (false, false);
        for tier in settings {
            tier.tier.module().absorb(&mut work, unit)?;
        }
        liquidate::wind_down(&mut work, unit)?;
    }
    for tier in settings {
        tier.tier.module().conclude(&mut work)?;
    }
    work.finish()
}

/// A plan being made.
pub(super) struct Work<'a> {
    pub(super) case: &'a SegmentCase,
    pub(super) state: SegmentState<'a>,
    pub(super) policy: &'a dyn AdlPolicy,
    pub(super) reservations: &'a Reservations,
    settings: &'a [TierSettings],
    steps: Vec<Step>,
    absorbed: BTreeMap<Tier, U256>,
    /// Accounts that each tier acts on or makes pay.
    reached: BTreeMap<Tier, BTreeSet<UnitKey>>,
    left_alone: BTreeSet<UnitKey>,
    notes: Vec<String>,
    /// The unit at hand must wait for something that passes by itself: no later tier may take its loss now.
    pub(super) waits: bool,
    /// The unit at hand has been wound down, as far as that goes.
    pub(super) wound_down: bool,
    /// A unit that comes later in this plan has positions to close.
    pub(super) depth_needed: bool,
}

impl<'a> Work<'a> {
    fn new(
        case: &'a SegmentCase,
        settings: &'a [TierSettings],
        policy: &'a dyn AdlPolicy,
        reservations: &'a Reservations,
    ) -> Result<Self, Violation> {
        let mut state = SegmentState::of(case)?;
        state.spendable =
            state.spendable.saturating_sub(reservations.fund.get(&case.segment).copied().unwrap_or_default());
        Ok(Self {
            case,
            state,
            policy,
            reservations,
            settings,
            steps: Vec::new(),
            absorbed: BTreeMap::new(),
            reached: BTreeMap::new(),
            left_alone: BTreeSet::new(),
            notes: Vec::new(),
            waits: false,
            wound_down: false,
            depth_needed: false,
        })
    }

    /// Whether the deployment uses this tier.
    pub(super) fn has(&self, tier: Tier) -> bool {
        self.settings.iter().any(|s| s.tier == tier)
    }

    fn settings(&self, tier: Tier) -> Option<&'a TierSettings> {
        self.settings.iter().find(|s| s.tier == tier)
    }

    /// What the tier may still absorb in this plan, and by which limit; nothing if the deployment does not use it.
    pub(super) fn allowance(&self, tier: Tier) -> Allowance {
        let Some(settings) = self.settings(tier) else {
            return Allowance { amount: U256::ZERO, bound: Bound::Unlisted };
        };
        let before = self.reservations.used.get(&(self.case.segment, tier)).copied().unwrap_or_default();
        let in_plan = self.absorbed.get(&tier).copied().unwrap_or_default();
        settings.allowance(&before, in_plan, self.case.block.number)
    }

    /// What the fund may pay now: within the tier's limits and above the floor that is configured for it.
    pub(super) fn fund_payable(&self) -> U256 {
        let floor = self.floor(Tier::InsuranceFund);
        let taken = self.case.fund.spendable.saturating_sub(self.state.spendable);
        let above_floor = self.case.fund.balance.saturating_sub(taken).saturating_sub(floor);
        self.allowance(Tier::InsuranceFund).amount.min(self.state.spendable).min(above_floor)
    }

    /// What may be paid back now: within the tier's limits and above the floor that is configured for it.
    pub(super) fn restitution_payable(&self) -> U256 {
        let floor = self.floor(Tier::Restitute);
        let above_floor = self.case.fund.balance.saturating_sub(floor);
        let absorb_max = self.settings(Tier::Restitute).and_then(|settings| settings.absorb_max);
        absorb_max.unwrap_or(U256::MAX).min(self.state.spendable).min(above_floor)
    }

    /// The block from which on it has been calm for as long as the tier's cool-down says, if that is still to come: since
    /// the last plan that moved money in this segment.
    pub(super) fn calm_from(&self, tier: Tier) -> Option<u64> {
        let cooldown = self.settings(tier)?.cooldown_blocks;
        let segment = self.case.segment;
        let paying =
            [Tier::Liquidate, Tier::InsuranceFund, Tier::AutoDeleverage, Tier::SharedBackstop, Tier::SocialiseLoss];
        let used = |tier: Tier| self.reservations.used.get(&(segment, tier))?.last_block;
        let last = paying.into_iter().filter_map(used).max()?;
        Some(last.saturating_add(cooldown)).filter(|until| *until > self.case.block.number)
    }

    /// How margins are steered, if they are.
    pub(super) fn controller(&self) -> Option<Controller> {
        self.settings(Tier::Recalibrate)?.controller
    }

    /// What the fund behind the tier keeps by configuration.
    pub(super) fn floor(&self, tier: Tier) -> U256 {
        self.settings(tier).map_or(U256::ZERO, |settings| settings.floor)
    }

    /// How many more accounts the tier may act on, or make pay, in this plan.
    pub(super) fn units_left(&self, tier: Tier) -> usize {
        let max = self.settings(tier).and_then(|settings| settings.units_max);
        let max = max.map_or(usize::MAX, |max| usize::try_from(max).unwrap_or(usize::MAX));
        max.saturating_sub(self.reached.get(&tier).map_or(0, BTreeSet::len))
    }

    /// Whether the tier already acts on this account in this plan.
    pub(super) fn reaches(&self, tier: Tier, unit: &UnitKey) -> bool {
        self.reached.get(&tier).is_some_and(|units| units.contains(unit))
    }

    /// Lets the unit at hand wait where the tier's limit passes by itself; otherwise a later tier may have the loss.
    pub(super) fn stop_at(&mut self, unit: &UnitKey, tier: Tier, bound: Bound) {
        self.waits |= bound.passes();
        self.note(format!("{unit}: tier {tier} takes no more: {bound}"));
    }

    /// Whether a loss may go past the fund: only when the fund is known to have nothing left. Notes why not.
    pub(super) fn may_pass_fund(&mut self, unit: &UnitKey) -> bool {
        let allowance = self.allowance(Tier::InsuranceFund);
        let why = if self.reservations.fund.contains_key(&self.case.segment) {
            "a draw on the fund is in flight".to_owned()
        } else if !self.state.spendable.is_zero() && allowance.amount.is_zero() {
            format!("the fund can still pay, but of tier insurance_fund {}", allowance.bound)
        } else if !self.state.spendable.is_zero() {
            "the fund keeps what its floor in the configuration says, and no later tier may act while it could pay"
                .to_owned()
        } else if !self.state.fees.is_zero() {
            "a fee of this plan refills the fund".to_owned()
        } else {
            return true;
        };
        if !self.waits {
            self.note(format!("{unit} waits for the fund: {why}"));
        }
        self.waits = true;
        false
    }

    /// Whether the unit must be left alone because a transaction in flight touches it.
    pub(super) fn reserved(&self, unit: &UnitKey) -> bool {
        self.reservations.units.contains(unit)
    }

    /// Units whose loss was paid by a tier behind their own margin, so far.
    pub(super) fn helped(&self) -> impl Iterator<Item = &UnitKey> {
        let external = |step: &&Step| {
            !matches!(step.action, Action::Close { .. } | Action::SetMargin { .. } | Action::ClaimBackstop { .. })
        };
        self.steps.iter().filter(external).filter_map(|step| step.unit.as_ref())
    }

    pub(super) fn push(&mut self, step: Step) {
        *self.absorbed.entry(step.tier).or_default() += step.absorbs;
        let reached = self.reached.entry(step.tier).or_default();
        match &step.action {
            Action::Deleverage { winners, .. } => reached.extend(winners.iter().map(|winner| winner.unit.clone())),
            Action::Socialise { payers: others } | Action::Restitute { claimants: others } => {
                reached.extend(others.iter().map(|other| other.unit.clone()));
            }
            _ => reached.extend(step.unit.clone()),
        }
        self.steps.push(step);
    }

    pub(super) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn finish(self) -> Result<BalancedPlan, Violation> {
        let mut residual = U256::ZERO;
        for distressed in self.case.distressed.iter().filter(|d| !self.left_alone.contains(&d.unit)) {
            residual += self.state.hole(&distressed.unit)?;
        }
        let shortfall = self.absorbed.values().fold(residual, |sum, amount| sum + *amount);
        Ok(BalancedPlan {
            segment: self.case.segment,
            block: self.case.block,
            steps: self.steps,
            ledger: Ledger { shortfall, absorbed: self.absorbed, residual, returned: self.state.returned },
            left_alone: self.left_alone,
            notes: self.notes,
            outlays: Vec::new(),
            shortages: BTreeSet::new(),
            decision: None,
        })
    }
}
