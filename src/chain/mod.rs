//! JSON-RPC: everything this process asks of a node, and what it hands to one.
//!
//! Invariants: every request ends within its timeout; an error is never read as a fact about the chain; state is read
//! at a block's hash; a broadcast is made once a call to each node, or to the relay alone, and its outcome may be unknown; where a quorum is
//! configured, state and logs that two nodes tell differently are an error; a URL's secrets are not printed.
//! Must not: know a protocol, decide anything, sign, or touch the database.

mod blooms;
mod endpoint;
mod error;
mod heads;
mod logs;
mod method;
mod metrics;
mod pool;
mod rpc;
mod transact;
mod wire;

use std::time::Duration;

pub(crate) use endpoint::clean_text;
pub use endpoint::{Endpoint, EndpointError, Transport};
pub use error::{ErrorClass, RpcError, SendError};
pub use heads::HeadSignals;
pub use metrics::{RpcMeter, RpcMetrics};
pub use rpc::Rpc;

use crate::types::{B256, Bytes, Log};

/// How a chain's nodes are spoken to.
#[derive(Clone, Debug)]
pub struct RpcSettings {
    /// Where they are; at least one. The first is preferred to begin with.
    pub urls: Vec<Endpoint>,
    /// The chain that each must follow.
    pub chain_id: u64,
    /// How many nodes must say the same of state and logs at a block's hash: 1 or 2.
    pub quorum: u8,
    /// Where bytes can be handed to builders that show them to nobody; nothing else is asked of it.
    pub relay: Option<Endpoint>,
    /// Longest wait for one answer. A read that fails early is asked again within it, so a read takes at most twice this.
    pub timeout: Duration,
    /// How often to look for a new head where none is pushed.
    pub poll_interval: Duration,
    /// Most blocks asked for in one log query; at least 1.
    pub log_range_blocks_max: u64,
}

/// A mined transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which.
    pub tx_hash: B256,
    /// Number and hash of its block, canonical when this was answered.
    pub block: (u64, B256),
    /// Whether it did what it says; a mined transaction without success changed nothing but nonce and balance.
    pub success: bool,
    /// Gas it used.
    pub gas_used: u64,
    /// Wei per gas it paid.
    pub effective_gas_price: u128,
    /// What it emitted, in order.
    pub logs: Vec<Log>,
}

/// One call of a simulated block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimulatedCall {
    /// Whether it returned.
    pub success: bool,
    /// Return data, or revert data.
    pub output: Bytes,
    /// Gas it used, refunds taken off: a limit needs room above this.
    pub gas_used: u64,
    /// What it emitted, in order; block and transaction hashes are the simulation's own.
    pub logs: Vec<Log>,
    /// The node's words for a failure.
    pub failure: Option<String>,
}

/// What gas costs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeQuote {
    /// Base fee of the block after the head, wei per gas.
    pub base_fee_wei: u128,
    /// Median of the median tips of the latest blocks, wei per gas; at least 1.
    pub priority_fee_wei: u128,
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
