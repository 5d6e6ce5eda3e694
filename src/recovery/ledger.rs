//! The conservation ledger: every unit of loss has exactly one payer, or is residual.

use std::collections::BTreeMap;

use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

use super::Tier;

/// How one plan shares the loss, settlement-token units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// The loss to be absorbed.
    pub shortfall: U256,
    /// By whom.
    pub absorbed: BTreeMap<Tier, U256>,
    /// What nobody could pay for now.
    pub residual: U256,
}

/// The books of a plan do not balance; it must not be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("absorbed {absorbed} + residual {residual} is not the shortfall {shortfall}")]
pub struct Imbalance {
    /// See [`Ledger`].
    pub shortfall: U256,
    /// Sum over the tiers.
    pub absorbed: U256,
    /// See [`Ledger`].
    pub residual: U256,
}
