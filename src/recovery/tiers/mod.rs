//! The tiers of the waterfall, one module each.
//!
//! A tier sees the unit as the earlier tiers left it, adds steps for what it can take, and says in a note what it could
//! not. Must not: take more than its allowance, or what an earlier tier could still absorb.

mod auto_deleverage;
pub(super) mod gate_withdrawals;
mod insurance_fund;
pub(super) mod liquidate;
pub(super) mod recalibrate;
pub(super) mod restitute;
pub(super) mod shared_backstop;
mod socialise_loss;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{state::Violation, waterfall::Work};
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

/// Makes [`Tier`], its words and its modules of one line a tier.
macro_rules! registry {
    ($($(#[doc = $doc:literal])* $tier:ident = $word:literal => $module:expr;)*) => {
        /// The tiers of the waterfall, in their usual order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Tier {
            $($(#[doc = $doc])* #[serde(rename = $word)] $tier,)*
        }

        impl Tier {
            /// Every tier, in the usual order.
            pub const ALL: [Self; [$($word),*].len()] = [$(Self::$tier),*];

            /// The word in config, SQL, metrics and reports.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$tier => $word,)*
                }
            }

            /// What it does.
            pub(super) fn module(self) -> &'static dyn TierModule {
                match self {
                    $(Self::$tier => &$module,)*
                }
            }
        }
    };
}

// The registry: one line a tier.
registry! {
    /// Close the unit's positions against the market; its own margin pays.
    Liquidate = "liquidate" => liquidate::Liquidate;
    /// The segment's insurance fund pays the shortfall.
    InsuranceFund = "insurance_fund" => insurance_fund::InsuranceFund;
    /// Winners are closed at the bankruptcy price.
    AutoDeleverage = "auto_deleverage" => auto_deleverage::AutoDeleverage;
    /// A pool that several protocols share pays, once it has seen the shortfall.
    SharedBackstop = "shared_backstop" => shared_backstop::SharedBackstop;
    /// The rest of the segment pays, pro rata.
    SocialiseLoss = "socialise_loss" => socialise_loss::SocialiseLoss;
    /// Withdrawals wait while somebody is short.
    GateWithdrawals = "gate_withdrawals" => gate_withdrawals::GateWithdrawals;
    /// The fund pays back what was taken from others beyond its means.
    Restitute = "restitute" => restitute::Restitute;
    /// Margin parameters move, so that it does not happen again tomorrow.
    Recalibrate = "recalibrate" => recalibrate::Recalibrate;
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
