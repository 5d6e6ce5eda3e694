//! The tiers of the waterfall, one module each.
//!
//! A tier sees the unit as the earlier tiers left it, adds steps for what it can take, and says in a note what it could
//! not. Must not: take more than its allowance, or what an earlier tier could still absorb.

mod auto_deleverage;
mod insurance_fund;
pub(super) mod liquidate;
pub(super) mod recalibrate;
mod socialise_loss;

use super::{Tier, state::Violation, waterfall::Work};
use crate::types::UnitKey;

/// One tier.
pub(super) trait TierModule: Sync {
    /// Adds the steps by which this tier takes from the unit's loss.
    fn absorb(&self, work: &mut Work<'_>, unit: &UnitKey) -> Result<(), Violation> {
        let _ = (work, unit);
        Ok(())
    }

    /// Adds the steps that concern the whole segment, after all units.
    fn conclude(&self, work: &mut Work<'_>) -> Result<(), Violation> {
        let _ = work;
        Ok(())
    }
}

/// The registry: one line a tier.
pub(super) fn module(tier: Tier) -> &'static dyn TierModule {
    match tier {
        Tier::Liquidate => &liquidate::Liquidate,
        Tier::InsuranceFund => &insurance_fund::InsuranceFund,
        Tier::AutoDeleverage => &auto_deleverage::AutoDeleverage,
        Tier::SocialiseLoss => &socialise_loss::SocialiseLoss,
        Tier::Recalibrate => &recalibrate::Recalibrate,
    }
}
