//! What a mined transaction did, in the words of the waterfall.

use alloy::primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use super::{Scope, Tier};
use crate::types::UnitKey;

/// What a transaction did, for the books. Amounts are settlement-token units, or units of the asset that the effect
/// names; what names an asset is a fact about tokens and books no value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "effect")]
pub enum Effect {
    /// Lots of a unit were closed; its own margin paid `loss`, of which `fee` is the liquidation fee.
    Liquidated {
        /// Whose.
        unit: UnitKey,
        /// Loss that the unit's own margin absorbed, fee included.
        loss: U256,
        /// Liquidation fee.
        fee: U256,
    },
    /// The insurance fund paid.
    InsuranceDrawn {
        /// For whom.
        unit: UnitKey,
        /// How much.
        amount: U256,
    },
    /// A winner paid.
    Deleveraged {
        /// For whom.
        unit: UnitKey,
        /// Who.
        winner: UnitKey,
        /// How much.
        loss: U256,
    },
    /// A shortfall was shown to the shared backstop pool.
    BackstopClaimed {
        /// Whose.
        unit: UnitKey,
        /// How much was claimed.
        amount: U256,
    },
    /// The shared backstop pool paid.
    BackstopDrawn {
        /// For whom.
        unit: UnitKey,
        /// How much.
        amount: U256,
        /// Of it, what came out of the member's own stake.
        from_stake: U256,
    },
    /// A payer paid.
    LossSocialised {
        /// For whom.
        unit: UnitKey,
        /// Who.
        payer: UnitKey,
        /// How much.
        amount: U256,
    },
    /// The fund paid back what a unit had borne for others.
    Restituted {
        /// To whom.
        unit: UnitKey,
        /// How much.
        amount: U256,
    },
    /// Debt of a unit was repaid by the keeper.
    Repaid {
        /// Whose.
        unit: UnitKey,
        /// Of which token.
        asset: Address,
        /// How much, token units.
        amount: U256,
    },
    /// Collateral of a unit went to the keeper.
    Seized {
        /// Whose.
        unit: UnitKey,
        /// Which token.
        asset: Address,
        /// How much, token units.
        amount: U256,
    },
    /// The protocol booked bad debt.
    BadDebt {
        /// The unit that left it, or where it was booked.
        scope: Scope,
        /// Of which token.
        asset: Address,
        /// How much, token units.
        amount: U256,
    },
    /// Booked bad debt was paid.
    Covered {
        /// Where it was booked.
        scope: Scope,
        /// By which tier.
        tier: Tier,
        /// In which token.
        asset: Address,
        /// How much, token units.
        amount: U256,
    },
    /// A flow of several steps moved on.
    Staged {
        /// Whose.
        scope: Scope,
        /// To where, in the protocol's words.
        stage: String,
    },
    /// A parameter moved.
    ParameterSet {
        /// Which and to what.
        what: String,
    },
}

impl Effect {
    /// Whom or what it acted on; `None` for a parameter.
    pub fn scope(&self) -> Option<Scope> {
        match self {
            Self::Liquidated { unit, .. }
            | Self::InsuranceDrawn { unit, .. }
            | Self::Deleveraged { unit, .. }
            | Self::BackstopClaimed { unit, .. }
            | Self::BackstopDrawn { unit, .. }
            | Self::LossSocialised { unit, .. }
            | Self::Restituted { unit, .. }
            | Self::Repaid { unit, .. }
            | Self::Seized { unit, .. } => Some(Scope::Unit(unit.clone())),
            Self::BadDebt { scope, .. } | Self::Covered { scope, .. } | Self::Staged { scope, .. } => {
                Some(scope.clone())
            }
            Self::ParameterSet { .. } => None,
        }
    }

    /// The tier that did it and what it absorbed in settlement-token units.
    pub fn absorbed(&self) -> (Tier, U256) {
        match self {
            Self::Liquidated { loss, .. } => (Tier::Liquidate, *loss),
            Self::InsuranceDrawn { amount, .. } => (Tier::InsuranceFund, *amount),
            Self::Deleveraged { loss, .. } => (Tier::AutoDeleverage, *loss),
            Self::BackstopClaimed { .. } => (Tier::SharedBackstop, U256::ZERO),
            Self::BackstopDrawn { amount, .. } => (Tier::SharedBackstop, *amount),
            Self::LossSocialised { amount, .. } => (Tier::SocialiseLoss, *amount),
            Self::Restituted { .. } => (Tier::Restitute, U256::ZERO),
            Self::Repaid { .. } | Self::Seized { .. } | Self::BadDebt { .. } | Self::Staged { .. } => {
                (Tier::Liquidate, U256::ZERO)
            }
            Self::Covered { tier, .. } => (*tier, U256::ZERO),
            Self::ParameterSet { .. } => (Tier::Recalibrate, U256::ZERO),
        }
    }
}
