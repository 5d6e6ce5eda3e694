//! What a mined transaction did, in the words of the waterfall.

use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

use super::Tier;
use crate::types::UnitKey;

/// What a transaction did, for the books. Amounts are settlement-token units.
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
    /// A payer paid.
    LossSocialised {
        /// For whom.
        unit: UnitKey,
        /// Who.
        payer: UnitKey,
        /// How much.
        amount: U256,
    },
    /// A parameter moved.
    ParameterSet {
        /// Which and to what.
        what: String,
    },
}

impl Effect {
    /// The tier that did it and what it absorbed.
    pub fn absorbed(&self) -> (Tier, U256) {
        match self {
            Self::Liquidated { loss, .. } => (Tier::Liquidate, *loss),
            Self::InsuranceDrawn { amount, .. } => (Tier::InsuranceFund, *amount),
            Self::Deleveraged { loss, .. } => (Tier::AutoDeleverage, *loss),
            Self::LossSocialised { amount, .. } => (Tier::SocialiseLoss, *amount),
            Self::ParameterSet { .. } => (Tier::Recalibrate, U256::ZERO),
        }
    }
}
