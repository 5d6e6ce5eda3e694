//! A contract call and what came of it.

use alloy::primitives::{Address, Bytes, U256};
use serde::{Deserialize, Serialize};

/// A message call: where, what, and how much native currency with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The contract.
    pub to: Address,
    /// Selector and arguments.
    pub data: Bytes,
    /// Wei sent along.
    pub value: U256,
}

impl Call {
    /// A call without value.
    pub fn new(to: Address, data: impl Into<Bytes>) -> Self {
        Self { to, data: data.into(), value: U256::ZERO }
    }
}

/// What the chain answered to an `eth_call`. A transport failure is neither: it says nothing about the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// Return data.
    Returned(Bytes),
    /// Revert data, possibly empty.
    Reverted(Bytes),
}
