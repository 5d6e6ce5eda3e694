//! The segment's insurance fund pays what the unit is short, as far as it may.

use alloy::primitives::U256;

use super::{TierModule, Violation, Work};
use crate::{
    recovery::{Action, Step, Tier},
    types::UnitKey,
};

pub(super) struct InsuranceFund;

impl TierModule for InsuranceFund {
    fn absorb(&self, work: &mut Work<'_>, unit: &UnitKey) -> Result<(), Violation> {
        let hole = work.state.hole(unit)?;
        let amount = if work.units_left(Tier::InsuranceFund) > 0 { hole.min(work.fund_payable()) } else { U256::ZERO };
        if amount.is_zero() {
            return Ok(());
        }
        work.state.draw(unit, amount)?;
        work.push(Step {
            tier: Tier::InsuranceFund,
            unit: Some(unit.clone()),
            action: Action::DrawInsurance { amount },
            absorbs: amount,
            why: format!("the unit is {hole} short and its own margin is used up"),
        });
        Ok(())
    }
}
