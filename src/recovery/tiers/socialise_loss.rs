//! The rest of the segment pays what nobody else could, pro rata to equity.
//!
//! Only for a unit without positions, since an open one could still change the loss. Payers are all units of the segment
//! with equity but the unit itself, also those about to be liquidated: a share is a part of the whole equity, and a
//! venue that charges each payer once a round would leave what the others do not pay open until the next round. So it
//! is all or nothing, but for the tier's own limit: while a payer is in use by another transaction, the loss waits.

use alloy::primitives::U256;

use super::{TierModule, Violation, Work, liquidate};
use crate::{
    recovery::{Action, Contribution, Step, Tier, apportion::apportion, state::share_max, tier::Bound},
    types::{UnitKey, math::positive_part},
};

pub(super) struct SocialiseLoss;

impl TierModule for SocialiseLoss {
    fn absorb(&self, work: &mut Work<'_>, unit: &UnitKey) -> Result<(), Violation> {
        liquidate::wind_down(work, unit)?;
        let hole = work.state.hole(unit)?;
        if hole.is_zero() || work.waits || !work.may_pass_fund(unit) {
            return Ok(());
        }
        if !work.state.account(unit)?.positions.is_empty() {
            work.note(format!("{unit}: {hole} cannot be socialised while positions are open that nobody takes"));
            return Ok(());
        }
        if work.depth_needed {
            work.note(format!("{unit}: {hole} is socialised once the other units of this plan have had their makers"));
            return Ok(());
        }
        let allowance = work.allowance(Tier::SocialiseLoss);
        let amount = hole.min(allowance.amount);
        if amount.is_zero() {
            work.stop_at(unit, Tier::SocialiseLoss, allowance.bound);
            return Ok(());
        }
        let payers = payers(work, unit, hole, amount)?;
        let beyond = payers.iter().filter(|payer| !work.reaches(Tier::SocialiseLoss, &payer.unit)).count();
        if beyond > work.units_left(Tier::SocialiseLoss) {
            work.stop_at(unit, Tier::SocialiseLoss, Bound::Units);
            return Ok(());
        }
        if payers.is_empty() {
            work.note(format!(
                "{unit}: {hole} waits to be socialised, the free payers cannot be charged {amount} in all"
            ));
            return Ok(());
        }
        work.state.socialise(unit, &payers)?;
        work.push(Step {
            tier: Tier::SocialiseLoss,
            unit: Some(unit.clone()),
            why: format!("{hole} short, no position left and no fund: {} units pay by their equity", payers.len()),
            action: Action::Socialise { payers },
            absorbs: amount,
        });
        if amount < hole {
            work.stop_at(unit, Tier::SocialiseLoss, allowance.bound);
        }
        Ok(())
    }
}

/// Who pays how much of `amount`; nobody if they cannot be charged all of it.
fn payers(work: &Work<'_>, unit: &UnitKey, hole: U256, amount: U256) -> Result<Vec<Contribution>, Violation> {
    let base = work.state.socialisation_base(unit)?;
    let (mut keys, mut equities, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for (key, account) in &work.state.accounts {
        let equity = work.state.equity(account);
        let share = share_max(hole, equity, base).min(positive_part(equity));
        if key == unit || work.reserved(key) || share.is_zero() {
            continue;
        }
        keys.push(key);
        equities.push(positive_part(equity));
        shares.push(share);
    }
    let amounts = apportion(amount, &equities, &shares);
    let charged = amounts.iter().fold(U256::ZERO, |sum, part| sum + *part);
    if charged < amount {
        return Ok(Vec::new());
    }
    let parts = keys.into_iter().zip(amounts).filter(|(_, amount)| !amount.is_zero());
    Ok(parts.map(|(key, amount)| Contribution { unit: key.clone(), amount }).collect())
}
