//! Withdrawals are shut while somebody is short and nobody could pay for it yet, so that those who see it first do not leave
//! the loss to those who see it last; and opened again as soon as nobody is short.
//!
//! It absorbs nothing. What a plan repairs in full needs no gate: both would be mined in the same block.

use alloy::primitives::U256;

use super::{TierModule, Violation, Work};
use crate::{
    recovery::{
        Action, Scope, Step, Tier,
        state::{SegmentState, refuse_if},
    },
    types::UnitKey,
};

pub(in crate::recovery) struct GateWithdrawals;

impl TierModule for GateWithdrawals {
    fn conclude(&self, work: &mut Work<'_>) -> Result<(), Violation> {
        let Some(gate) = work.case.measures.gate else { return Ok(()) };
        if work.reservations.scopes.contains(&Scope::Segment(work.case.segment)) {
            return Ok(());
        }
        let block = work.case.block.number;
        let left_short = left_short(work)?;
        // Shut anew in good time: the half of it that is left is a margin for a transaction that is slow.
        let runs_out = gate.shut_until < block.saturating_add(gate.lasts_blocks / 2);
        let (shut_for, why) = match left_short {
            Some(unit) if runs_out => {
                let why =
                    format!("{unit} is short and nobody could pay for it yet: withdrawals wait until somebody has");
                (Some(unit), why)
            }
            None if gate.is_shut(block) && !somebody_is_short(&work.state)? => {
                (None, "nobody is short any more: withdrawals are open again".to_owned())
            }
            _ => return Ok(()),
        };
        let action = Action::Gate { segment: work.case.segment, shut_for };
        work.push(Step { tier: Tier::GateWithdrawals, unit: None, action, absorbs: U256::ZERO, why });
        Ok(())
    }
}

/// The first unit that this plan leaves short and no transaction in flight deals with.
fn left_short(work: &Work<'_>) -> Result<Option<UnitKey>, Violation> {
    for distressed in work.case.distressed.iter().filter(|d| !work.reserved(&d.unit)) {
        if !work.state.hole(&distressed.unit)?.is_zero() {
            return Ok(Some(distressed.unit.clone()));
        }
    }
    Ok(None)
}

fn somebody_is_short(state: &SegmentState<'_>) -> Result<bool, Violation> {
    let mut holes = state.case.distressed.iter().map(|distressed| state.hole(&distressed.unit));
    holes.try_fold(false, |short, hole| Ok(short || !hole?.is_zero()))
}

/// Refuses what the venue would refuse, and opening while somebody is short.
pub(in crate::recovery) fn apply(state: &SegmentState<'_>, shut_for: Option<&UnitKey>) -> Result<(), Violation> {
    refuse_if(state.case.measures.gate.is_none(), || "the venue has no gate".to_owned())?;
    match shut_for {
        Some(unit) => {
            let solvent = state.hole(unit)?.is_zero();
            refuse_if(solvent, || format!("withdrawals are shut for {unit}, which is not short"))
        }
        None => refuse_if(somebody_is_short(state)?, || "withdrawals are opened while somebody is short".to_owned()),
    }
}
