//! Adapters: one folder a protocol. An adapter says what to read, what the bytes mean and what bytes to send.
//!
//! Invariants: an adapter is pure and deterministic (the engine does RPC, retries and signing); it refuses logs of a
//! foreign emitter and counts events it does not know; its standings equal the protocol's own views to the last unit.
//! Must not: do I/O, read a clock, or be named anywhere but here and in the registry below.

pub mod reference_venue;

pub use crate::recovery::Effect;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    positions::{Book, Delta, Snapshot},
    recovery::{SegmentCase, Step, Tier},
    scanner::{ScanReport, Valuation},
    types::{Address, B256, BlockRef, Bytes, Call, Log, LogFilter, SegmentId, UnitKey},
};

/// What a deployment is made of, for checks at start and for the gate.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The adapter's config word.
    pub adapter: &'static str,
    /// Contracts that must have code.
    pub contracts: Vec<ContractCheck>,
    /// Roles the keeper needs, each for some tiers.
    pub roles: Vec<RoleCheck>,
    /// Every (contract, selector) this adapter can ever ask to be sent: the gate's allow-list.
    pub allowed_calls: Vec<(Address, [u8; 4])>,
    /// Tiers this protocol has on chain.
    pub tiers: Vec<Tier>,
}

/// A contract that must exist.
#[derive(Clone, Debug)]
pub struct ContractCheck {
    /// The config key that names it.
    pub key: &'static str,
    /// Where it should be.
    pub address: Address,
    /// Hash of its runtime code, where the operator pinned one.
    pub code_hash: Option<B256>,
}

/// A role the keeper must hold.
#[derive(Clone, Debug)]
pub struct RoleCheck {
    /// The role's name.
    pub role: &'static str,
    /// Tiers that need it.
    pub needed_for: Vec<Tier>,
    /// A view that returns a bool word.
    pub call: Call,
    /// How to mend its absence, for people.
    pub mend: String,
}

/// What a block's logs did to the cache.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The change.
    pub delta: Delta,
    /// Logs of our own contracts with an event this adapter does not know.
    pub unknown_events: u64,
}

/// Logs that cannot be applied. The block is not marked as indexed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A log of a contract the deployment does not watch.
    #[error("log {log_index} of transaction {tx_hash} comes from {emitter}, which is no contract of this deployment")]
    ForeignEmitter {
        /// Who emitted it.
        emitter: Address,
        /// Where.
        tx_hash: B256,
        /// Which.
        log_index: u64,
    },
    /// A known event whose data does not decode, or that contradicts the cache.
    #[error("log {log_index} of transaction {tx_hash}: {what}")]
    Malformed {
        /// Where.
        tx_hash: B256,
        /// Which.
        log_index: u64,
        /// What is wrong.
        what: String,
    },
}

/// A view that must return exactly these bytes if the cache is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is audited, for people.
    pub subject: String,
    /// The view.
    pub call: Call,
    /// What it must return at the snapshot's block.
    pub expected: Bytes,
}

/// What a refusal means for the action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Disposition {
    /// Somebody did it already: success without us.
    AlreadyDone,
    /// The state moved on; plan again from the chain.
    NotEligible,
    /// The oracle must move first.
    NeedOracle,
    /// A fund cannot pay; escalate.
    FundShort,
    /// Liquidity or a counterparty is missing now.
    Capacity,
    /// The keeper lacks a role.
    Unauthorized,
    /// We built something wrong.
    Bug,
}

/// A decoded refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it means.
    pub disposition: Disposition,
    /// The error with its arguments, for people.
    pub reason: String,
}

/// Steps that cannot be encoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot build: {0}")]
pub struct BuildError(pub String);

/// One protocol, as the engine sees it.
pub trait Adapter: Valuation + Send + Sync {
    /// What the deployment is made of. `keeper` is the address that sends.
    fn manifest(&self, keeper: Address) -> Manifest;

    /// Contracts whose logs are wanted, given what is known so far.
    fn filter(&self, book: &Book) -> LogFilter;

    /// Turns one block's logs, in order, into a change of the book. Idempotent: it starts from `book` alone.
    fn apply(&self, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError>;

    /// Views to hold these units and the shared records against, at the snapshot's block.
    fn probes(&self, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe>;

    /// One case per segment that has a distressed unit in the report (all segments if `every`), by segment.
    fn cases(&self, snapshot: &Snapshot, report: &ScanReport, every: bool) -> BTreeMap<SegmentId, SegmentCase>;

    /// Encodes steps of one unit (or one parameter change) as one atomic call. `keeper` receives proceeds.
    fn build(&self, steps: &[Step], keeper: Address) -> Result<Call, BuildError>;

    /// What revert data means.
    fn classify(&self, revert: &[u8]) -> Refusal;

    /// What a mined transaction's logs did.
    fn effects(&self, logs: &[Log]) -> Vec<Effect>;

    /// The unit that an operator's word names: a unit key, an address, or `segment/address`. All that match.
    fn find_units(&self, book: &Book, word: &str) -> Vec<UnitKey>;
}

/// An adapter's settings were refused.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No such adapter.
    #[error("protocol.adapter = {0:?} is not an adapter of this build; known: {known}", known = known_adapters().join(", "))]
    UnknownAdapter(String),
    /// Its own settings are wrong.
    #[error("protocol: {0}")]
    Settings(String),
}

/// Config words of the adapters in this build.
pub fn known_adapters() -> Vec<&'static str> {
    vec![reference_venue::NAME]
}

/// The adapter a config word names, with its own settings.
pub fn adapter(word: &str, settings: serde_json::Value) -> Result<Arc<dyn Adapter>, RegistryError> {
    let refused = |error: reference_venue::SettingsError| RegistryError::Settings(error.to_string());
    match word {
        reference_venue::NAME => {
            Ok(Arc::new(reference_venue::ReferenceVenue::new(settings.try_into().map_err(refused)?)))
        }
        _ => Err(RegistryError::UnknownAdapter(word.to_owned())),
    }
}
