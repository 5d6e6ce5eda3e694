//! What deleveraging and socialised losses took beyond the fund's means is paid back, pro rata, when the fund is above its
//! floor again: a loss that somebody bore for others is not for ever.
//!
//! Only in calm: while nobody is in distress, and no sooner than the tier's cool-down after the last plan that moved money
//! for a loss (restitution itself is none: a round goes on in the next block), so that the fund is not emptied between two waves of one crisis. Of its limits `absorb_max` bounds what one
//! plan pays, and `floor` is what the fund keeps beside the protocol's own. It absorbs nothing: the ledger books what it
//! pays as returned.

use alloy::primitives::U256;

use super::{TierModule, Violation, Work};
use crate::{
    recovery::{
        Action, Contribution, Round, Scope, Step, Tier,
        apportion::apportion,
        state::{SegmentState, refuse_if},
    },
    types::{UnitKey, math::mul_div_ceil},
};

/// Claimants of one plan: a bound on the gas of one transaction. The rest is paid by the next, in the same round.
const CLAIMANTS_MAX: usize = 100;

pub(in crate::recovery) struct Restitute;

impl TierModule for Restitute {
    fn conclude(&self, work: &mut Work<'_>) -> Result<(), Violation> {
        let (case, reservations) = (work.case, work.reservations);
        let in_flight = reservations.scopes.contains(&Scope::Segment(case.segment))
            || reservations.fund.contains_key(&case.segment);
        if case.measures.claims.is_empty() || !case.distressed.is_empty() || in_flight {
            return Ok(());
        }
        if let Some(until) = work.calm_from(Tier::Restitute) {
            work.note(format!("claims are paid back from block {until} on, if it stays calm until then"));
            return Ok(());
        }
        let budget = work.restitution_payable();
        let round = round(&work.state);
        let (mut keys, mut weights, mut caps) = (Vec::new(), Vec::new(), Vec::new());
        for (unit, claim) in case.measures.claims.iter().filter(|(unit, _)| !work.reserved(unit)) {
            let share = share_max(&round, unit, *claim);
            if !share.is_zero() {
                keys.push(unit);
                weights.push(*claim);
                caps.push(share);
            }
        }
        let amounts = apportion(budget.min(round.unpaid), &weights, &caps);
        let claimants: Vec<Contribution> = keys
            .into_iter()
            .zip(amounts)
            .filter(|(_, amount)| !amount.is_zero())
            .map(|(unit, amount)| Contribution { unit: unit.clone(), amount })
            .take(CLAIMANTS_MAX.min(work.units_left(Tier::Restitute)))
            .collect();
        if claimants.is_empty() {
            return Ok(());
        }
        apply(&mut work.state, &claimants)?;
        let owed = case.measures.claims.values().fold(U256::ZERO, |sum, claim| sum + *claim);
        let why = format!("the fund is above its floor again and owes {owed}: {} are paid their part", claimants.len());
        let action = Action::Restitute { claimants };
        work.push(Step { tier: Tier::Restitute, unit: None, action, absorbs: U256::ZERO, why });
        Ok(())
    }
}

/// The round under way, or the one that the venue would open now.
fn round(state: &SegmentState<'_>) -> Round {
    let measures = &state.case.measures;
    if let Some(round) = measures.round.clone().filter(|round| !round.unpaid.is_zero()) {
        return round;
    }
    let base = measures.claims.values().fold(U256::ZERO, |sum, claim| sum + *claim);
    let budget = state.case.fund.spendable.min(base);
    Round { budget, base, unpaid: budget, paid: Default::default() }
}

/// Most that a claimant may be paid in this round.
fn share_max(round: &Round, unit: &UnitKey, claim: U256) -> U256 {
    if round.paid.contains(unit) {
        return U256::ZERO;
    }
    mul_div_ceil(round.budget, claim, round.base).unwrap_or_default().min(claim)
}

/// Pays in the state, refusing what the venue would refuse.
pub(in crate::recovery) fn apply(state: &mut SegmentState<'_>, claimants: &[Contribution]) -> Result<(), Violation> {
    let mut round = round(state);
    refuse_if(claimants.is_empty(), || "nobody is paid back".to_owned())?;
    refuse_if(!state.case.distressed.is_empty(), || "claims are paid while somebody is in distress".to_owned())?;
    for Contribution { unit, amount } in claimants {
        let claim = state.case.measures.claims.get(unit).copied().unwrap_or_default();
        let share = share_max(&round, unit, claim);
        let fits = !amount.is_zero() && *amount <= share && *amount <= round.unpaid && *amount <= state.spendable;
        refuse_if(!fits, || format!("{unit} is paid {amount} of {share}"))?;
        round.unpaid -= *amount;
        round.paid.insert(unit.clone());
        state.pay_back(unit, *amount);
    }
    Ok(())
}
