//! Words that every stage speaks: ids, blocks, logs, calls, checked integer maths.
//!
//! Invariants: everything here is plain data or a pure function; money is [`I256`] or [`U256`] in whole units of the
//! settlement token, and every rounding is named by the function that does it.
//! Must not: know a protocol, do I/O, read a clock, or use floating point.

mod call;
pub mod decimal;
mod id;
pub mod math;
pub mod pairs;

pub use alloy::primitives::{Address, B256, Bytes, I256, U256};
pub use call::{Call, CallOutcome};
pub use id::{DeploymentName, IdError, MarketId, SegmentId, UnitKey};

use serde::{Deserialize, Serialize};

/// A block as a decision pins it: number, identity, ancestry and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockRef {
    /// Height.
    pub number: u64,
    /// Identity; two blocks of one height differ here.
    pub hash: B256,
    /// Identity of the block below; a chain is checked by walking these.
    pub parent_hash: B256,
    /// Unix seconds, as the chain has it.
    pub timestamp: u64,
}

/// A contract's log with its place on the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The emitting contract.
    pub address: Address,
    /// Topic 0 (the event's signature hash) and the indexed arguments.
    pub topics: Vec<B256>,
    /// The other arguments, ABI-encoded.
    pub data: Bytes,
    /// Height of its block.
    pub block_number: u64,
    /// Identity of its block.
    pub block_hash: B256,
    /// The transaction that emitted it.
    pub tx_hash: B256,
    /// Position within the block; logs are applied in this order.
    pub log_index: u64,
}

/// Which logs a deployment wants: any of these emitters.
///
/// The set may grow while the chain is followed (a new market brings a new price feed).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Emitting contracts, sorted and without repeats.
    pub addresses: Vec<Address>,
}

impl LogFilter {
    /// A filter of these emitters, sorted, each once.
    pub fn of(addresses: impl IntoIterator<Item = Address>) -> Self {
        let mut addresses: Vec<Address> = addresses.into_iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        Self { addresses }
    }
}
