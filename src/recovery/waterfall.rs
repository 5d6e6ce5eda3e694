//! The walk: every distressed unit, worst first and those without positions last, through the configured tiers in their
//! order; then what concerns the whole segment.
//!
//! Invariants: what one unit used up (fund, depth, winners, payers) is gone for the next; a unit with a transaction in
//! flight is neither subject, winner, payer nor maker; whatever is not done leaves a note. Must not: know what a tier
//! does.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::U256;

use super::{
    Action, AdlPolicy, BalancedPlan, Ledger, Reservations, SegmentCase, Step, Tier, TierSettings,
    state::{SegmentState, Violation},
    tiers::{self, liquidate},
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
            tiers::module(tier.tier).absorb(&mut work, unit)?;
        }
        liquidate::wind_down(&mut work, unit)?;
    }
    for tier in settings {
        tiers::module(tier.tier).conclude(&mut work)?;
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

    /// What the tier may still absorb in this plan; nothing if the deployment does not use it.
    pub(super) fn allowance(&self, tier: Tier) -> U256 {
        let Some(settings) = self.settings.iter().find(|s| s.tier == tier) else { return U256::ZERO };
        let used = self.absorbed.get(&tier).copied().unwrap_or_default();
        settings.absorb_max.map_or(U256::MAX, |max| max.saturating_sub(used))
    }

    /// Whether a loss may go past the fund: only when the fund is known to have nothing left. Notes why not.
    pub(super) fn may_pass_fund(&mut self, unit: &UnitKey) -> bool {
        let why = if self.reservations.fund.contains_key(&self.case.segment) {
            "a draw on the fund is in flight"
        } else if !self.state.spendable.is_zero() {
            "the fund can still pay, and the limit of this plan is reached"
        } else if !self.state.fees.is_zero() {
            "a fee of this plan refills the fund"
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
        let external = |step: &&Step| !matches!(step.action, Action::Close { .. } | Action::SetMargin { .. });
        self.steps.iter().filter(external).filter_map(|step| step.unit.as_ref())
    }

    pub(super) fn push(&mut self, step: Step) {
        *self.absorbed.entry(step.tier).or_default() += step.absorbs;
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
            ledger: Ledger { shortfall, absorbed: self.absorbed, residual },
            left_alone: self.left_alone,
            notes: self.notes,
            outlays: Vec::new(),
            shortages: BTreeSet::new(),
        })
    }
}
