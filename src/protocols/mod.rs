//! Adapters: one folder a protocol. An adapter says what to read, what the bytes mean and what bytes to send.
//!
//! Invariants: an adapter is pure and deterministic (the engine does RPC, retries and signing); it refuses logs of a
//! foreign emitter and counts events it does not know; its standings equal the protocol's own views to the last unit.
//! Must not: do I/O, read a clock, or be named anywhere but here and in the registry below.

pub mod aave_v3;
#[cfg(test)]
mod fuzz;
pub mod morpho_blue;
pub mod perp_v2;
mod records;
pub mod reference_venue;
pub mod venus;

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    positions::{Book, Delta, RecordKey, Snapshot},
    recovery::{Effect, SegmentCase, Step, Tier},
    scanner::{ScanReport, Valuation},
    types::{Address, B256, BlockRef, Bytes, Call, CallOutcome, Log, LogFilter, SegmentId, UnitKey},
};

/// Most rounds of reads at one block.
pub const READ_ROUNDS_MAX: u32 = 8;

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
    /// What must stay as it is for this adapter's rules to be the contract's. Checked at start and before every plan;
    /// one that no longer holds halts the deployment.
    pub guards: Vec<Guard>,
}

/// A fact about the contracts that this adapter's rules rest on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// What it is, for people: `POOL_REVISION`, `implementation of the pool's proxy`.
    pub what: String,
    /// How to look.
    pub check: GuardCheck,
    /// How to mend a deviation, for people.
    pub mend: String,
}

/// How a guard looks, and what it must see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardCheck {
    /// A view must return exactly this.
    Call {
        /// The view.
        call: Call,
        /// Its return data.
        expected: Bytes,
    },
    /// A storage slot must hold exactly this; EIP-1967 keeps a proxy's implementation in one.
    Storage {
        /// The contract.
        address: Address,
        /// The slot.
        slot: B256,
        /// Its word.
        expected: B256,
    },
    /// The runtime code must have this hash.
    CodeHash {
        /// The contract.
        address: Address,
        /// keccak256 of its code.
        expected: B256,
    },
}

/// State that events do not carry, to be read by a view at one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The record that the answer fills or changes.
    pub record: RecordKey,
    /// The view.
    pub call: Call,
}

/// Who sends, and who receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// The keeper: `msg.sender`.
    pub sender: Address,
    /// Where proceeds go, as far as the protocol lets the sender say so.
    pub proceeds: Address,
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
    /// A view that says whether the keeper holds it.
    pub call: Call,
    /// What it answers if so; `None`: any word but zero.
    pub expected: Option<Bytes>,
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
    /// A view's answer does not decode.
    #[error("the answer to {0}")]
    Answer(String),
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

    /// State to be read at `block`, after its logs were applied to `book`: first (round 0) what must be fresh at every
    /// block, prices for instance, and what logs left open; then, round by round, what earlier answers made wanted. The
    /// engine asks for the next round until nothing is wanted, at most [`READ_ROUNDS_MAX`] rounds. All reads of a block
    /// are pinned to its hash. Must depend on its arguments alone.
    fn reads(&self, book: &Book, block: &BlockRef, round: u32) -> Vec<Read> {
        let _ = (book, block, round);
        Vec::new()
    }

    /// What a round's answers, in the order of its reads, do to the book. A revert is an answer too.
    fn absorb(&self, book: &Book, block: &BlockRef, answers: &[(Read, CallOutcome)]) -> Result<Delta, ApplyError> {
        let _ = (book, block, answers);
        Ok(Delta::default())
    }

    /// Every (contract, selector) that may be asked to be sent, given what is known so far: the gate's allow-list. Grows
    /// only where a configured contract itself announced a further one.
    fn allowed_calls(&self, book: &Book, keeper: Address) -> Vec<(Address, [u8; 4])> {
        let _ = book;
        self.manifest(keeper).allowed_calls
    }

    /// Views to hold these units and the shared records against, at the snapshot's block.
    fn probes(&self, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe>;

    /// One case per segment that has a distressed unit in the report, standing bad debt or an open flow (all segments if
    /// `every`), by segment.
    fn cases(&self, snapshot: &Snapshot, report: &ScanReport, every: bool) -> BTreeMap<SegmentId, SegmentCase>;

    /// Encodes steps of one unit, of one batch, or one parameter change as one atomic call.
    fn build(&self, steps: &[Step], parties: &Parties) -> Result<Call, BuildError>;

    /// What revert data means.
    fn classify(&self, revert: &[u8]) -> Refusal;

    /// What one transaction's logs did. `book` is what is known at the latest block, for what logs alone do not name.
    fn effects(&self, book: &Book, logs: &[Log]) -> Vec<Effect>;

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

/// Makes an adapter of its own settings; the error says which key to mend.
type Open = fn(serde_json::Value) -> Result<Arc<dyn Adapter>, String>;

/// The registry: config word and constructor, one line an adapter.
const REGISTRY: &[(&str, Open)] = &[
    (aave_v3::NAME, aave_v3::open),
    (morpho_blue::NAME, morpho_blue::open),
    (perp_v2::NAME, perp_v2::open),
    (reference_venue::NAME, reference_venue::open),
    (venus::NAME, venus::open),
];

/// Config words of the adapters in this build.
pub fn known_adapters() -> Vec<&'static str> {
    REGISTRY.iter().map(|(word, _)| *word).collect()
}

/// The adapter a config word names, with its own settings.
pub fn adapter(word: &str, settings: serde_json::Value) -> Result<Arc<dyn Adapter>, RegistryError> {
    let entry = REGISTRY.iter().find(|(known, _)| *known == word);
    let (_, open) = entry.ok_or_else(|| RegistryError::UnknownAdapter(word.to_owned()))?;
    open(settings).map_err(RegistryError::Settings)
}
