//! The one gate between a decision and the chain: every signature and every broadcast goes through it.
//!
//! It owns the signer; nothing else has one. What it signs is a [`Signed`], which can only be written to the journal; what
//! the journal holds is a [`Journalled`], the only thing that can be broadcast. So no byte leaves that was not let
//! through here and written down first.
//!
//! Invariants: in dry run, while paused and without the lease nothing is signed and nothing is sent; only (contract, selector) pairs of the
//! adapter's manifest and transfers of nothing to ourselves are signed; what cannot be checked counts as refused.
//! Must not: be bypassed. A test reads the sources for other ways to a signer or a send method.

use std::{
    collections::BTreeSet,
    fmt,
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use alloy::{consensus::TxEip1559, primitives::TxKind};

use super::{
    fees::Fees,
    ports::{ChainPort, JournalPort},
    signer::{SignedBytes, Signer, SignerError},
};
use crate::{
    chain::SendError,
    journal::{
        ActionId, AheadPlan, AttemptId, AttemptKind, DeploymentId, FirstSignature, JournalError, NewAttempt,
        NewTransaction, StoredAttempt, Tenure, Touches, TransactionId,
    },
    types::{Address, B256, Bytes, Call, U256},
};

/// What the gate allows.
#[derive(Clone, Debug)]
pub struct GateSettings {
    /// Chain that signatures are valid on.
    pub chain_id: u64,
    /// Nothing is signed or sent.
    pub dry_run: bool,
    /// Every (contract, selector) that may be called.
    pub allowed_calls: BTreeSet<(Address, [u8; 4])>,
    /// Most wei that transactions of one hour may cost, worst case of those in flight included.
    pub spend_per_hour_max_wei: U256,
    /// New transactions per block.
    pub transactions_per_block_max: u32,
    /// While this file exists nothing is signed or sent.
    pub pause_file: Option<PathBuf>,
}

impl GateSettings {
    /// A closed gate: dry run, and nothing is allowed.
    pub fn closed(chain_id: u64) -> Self {
        Self {
            chain_id,
            dry_run: true,
            allowed_calls: BTreeSet::new(),
            spend_per_hour_max_wei: U256::ZERO,
            transactions_per_block_max: 0,
            pause_file: None,
        }
    }
}

/// Pauses a gate from within the process: a lost lock, a failed check, an operator's request. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct PauseSwitch(Arc<Mutex<Option<String>>>);

impl PauseSwitch {
    /// From now on nothing is signed or sent, for this reason.
    pub fn pause(&self, reason: impl Into<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
    }

    /// Takes the pause back. The pause file, if there is one, still holds.
    pub fn resume(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why it is paused, if it is.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Why the gate stayed shut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateRefusal {
    /// Nothing is ever sent in this mode.
    #[error("dry run")]
    DryRun,
    /// Another replica may act now.
    #[error("the lease is lost: another replica may act for the deployment")]
    LeaseLost,
    /// By switch or by file.
    #[error("paused: {0}")]
    Paused(String),
    /// The call is not on the list.
    #[error("call of {selector} on {to} is not on the allow-list")]
    NotAllowed {
        /// The contract.
        to: Address,
        /// Its first four bytes, or fewer.
        selector: Bytes,
    },
    /// The hour's money is spent.
    #[error("{needed_wei} wei more would exceed the hour's limit: {committed_wei} of {max_wei} are committed")]
    SpendLimit {
        /// Worst case of this transaction.
        needed_wei: U256,
        /// Spent, and worst case of what is in flight.
        committed_wei: U256,
        /// The limit.
        max_wei: U256,
    },
    /// The block's number of transactions is used up.
    #[error("{max} transactions were already signed at block {block}")]
    RateLimit {
        /// The block.
        block: u64,
        /// The limit.
        max: u32,
    },
}

impl GateRefusal {
    /// Every metric label.
    pub(super) const REASONS: [&'static str; 6] =
        ["dry_run", "lease_lost", "paused", "not_allowed", "spend_limit", "rate_limit"];

    /// The metric label.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::DryRun => "dry_run",
            Self::LeaseLost => "lease_lost",
            Self::Paused(_) => "paused",
            Self::NotAllowed { .. } => "not_allowed",
            Self::SpendLimit { .. } => "spend_limit",
            Self::RateLimit { .. } => "rate_limit",
        }
    }
}

/// No signature.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// It was not to be.
    #[error("the gate refused: {0}")]
    Refused(#[from] GateRefusal),
    /// The key failed.
    #[error(transparent)]
    Signer(#[from] SignerError),
}

/// Who gets to see a transaction before it is mined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// Those who build blocks, through the relay.
    Builders,
    /// Everybody, through the nodes.
    Everybody,
}

/// What is asked of the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The signer's nonce.
    pub nonce: u64,
    /// What to call.
    pub call: Call,
    /// Gas limit.
    pub gas_limit: u64,
    /// Fees.
    pub fees: Fees,
    /// The head's height.
    pub block: u64,
    /// `None`: the first attempt of a transaction.
    pub again: Option<AttemptKind>,
}

impl Request {
    /// Most wei it can cost.
    pub(super) fn cost_wei(&self) -> U256 {
        cost_wei(self.gas_limit, self.fees.max_fee_per_gas, self.call.value)
    }
}

/// Most wei a transaction can cost.
pub(super) fn cost_wei(gas_limit: u64, max_fee_per_gas: u128, value: U256) -> U256 {
    // 64 + 128 bits: the product fits
    (U256::from(gas_limit) * U256::from(max_fee_per_gas)).saturating_add(value)
}

/// See the module.
pub struct Gate {
    signer: Box<dyn Signer>,
    settings: GateSettings,
    switch: PauseSwitch,
    /// How long this process may act.
    tenure: Tenure,
    /// Latest block a new transaction was signed at, and how many.
    signed_at: (u64, u32),
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("signer", &self.address())
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate around a signer, open for as long as the tenure lasts.
    pub fn new(signer: Box<dyn Signer>, settings: GateSettings, switch: PauseSwitch, tenure: Tenure) -> Self {
        Self { signer, settings, switch, tenure, signed_at: (0, 0) }
    }

    /// The keeper's address.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Chain that signatures are valid on.
    pub fn chain_id(&self) -> u64 {
        self.settings.chain_id
    }

    /// Adds to what may be called.
    pub(super) fn allow(&mut self, calls: impl IntoIterator<Item = (Address, [u8; 4])>) {
        self.settings.allowed_calls.extend(calls);
    }

    /// Whether nothing is ever sent.
    pub fn dry_run(&self) -> bool {
        self.settings.dry_run
    }

    /// Whether anything may leave now.
    pub(super) fn open(&self) -> Result<(), GateRefusal> {
        if self.settings.dry_run {
            return Err(GateRefusal::DryRun);
        }
        if !self.tenure.holds() {
            return Err(GateRefusal::LeaseLost);
        }
        if let Some(reason) = self.switch.reason() {
            return Err(GateRefusal::Paused(reason));
        }
        match self.settings.pause_file.as_ref().map(|path| (path, path.try_exists())) {
            None | Some((_, Ok(false))) => Ok(()),
            Some((path, Ok(true))) => Err(GateRefusal::Paused(format!("{} exists", path.display()))),
            Some((path, Err(error))) => Err(GateRefusal::Paused(format!("{}: {error}", path.display()))),
        }
    }

    /// Whether a call is on the allow-list. Part of signing; asked for earlier so that a dry run shows it.
    pub(super) fn check_call(&self, call: &Call) -> Result<(), GateRefusal> {
        let selector = call.data.get(..4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        match selector {
            Some(selector) if self.settings.allowed_calls.contains(&(call.to, selector)) => Ok(()),
            _ => {
                let shown = call.data.len().min(4);
                Err(GateRefusal::NotAllowed { to: call.to, selector: call.data.slice(..shown) })
            }
        }
    }

    /// Signs, if everything allows it. `committed_wei`: what the hour has cost and what is in flight may still cost,
    /// without this nonce.
    pub(super) async fn sign(&mut self, request: Request, committed_wei: U256) -> Result<Signed, GateError> {
        self.open()?;
        if !self.is_cancel(&request) {
            self.check_call(&request.call)?;
        }
        let (needed_wei, max_wei) = (request.cost_wei(), self.settings.spend_per_hour_max_wei);
        if committed_wei.saturating_add(needed_wei) > max_wei {
            return Err(GateRefusal::SpendLimit { needed_wei, committed_wei, max_wei }.into());
        }
        let signed_here = if self.signed_at.0 == request.block { self.signed_at.1 } else { 0 };
        let max = self.settings.transactions_per_block_max;
        if request.again.is_none() && signed_here >= max {
            return Err(GateRefusal::RateLimit { block: request.block, max }.into());
        }
        let transaction = TxEip1559 {
            chain_id: self.settings.chain_id,
            nonce: request.nonce,
            gas_limit: request.gas_limit,
            max_fee_per_gas: request.fees.max_fee_per_gas,
            max_priority_fee_per_gas: request.fees.max_priority_fee_per_gas,
            to: TxKind::Call(request.call.to),
            value: request.call.value,
            input: request.call.data.clone(),
            ..TxEip1559::default()
        };
        let bytes = self.signer.sign(transaction).await?;
        // A signer may take its time, or the process may have stood still meanwhile.
        self.open()?;
        if request.again.is_none() {
            self.signed_at = (request.block, signed_here + 1);
        }
        Ok(Signed { bytes, request, chain_id: self.settings.chain_id, signer: self.address() })
    }

    /// Sends what the journal holds, if anything may leave now. What a relay will not take, or there is none for, goes to
    /// everybody: privacy is worth less than the block.
    pub(super) async fn broadcast<C: ChainPort>(
        &self,
        chain: &C,
        transaction: &Journalled,
        to: Audience,
    ) -> Result<Result<B256, SendError>, GateRefusal> {
        self.open()?;
        if to == Audience::Builders {
            match chain.send_private(transaction).await {
                Some(taken @ (Ok(_) | Err(SendError::AlreadyKnown))) => return Ok(taken),
                Some(Err(error)) => {
                    tracing::warn!(tx_hash = %transaction.hash(), %error, "the relay did not take it, everybody gets it");
                    // The relay may have taken its time, or the process may have stood still meanwhile.
                    self.open()?;
                }
                None => {}
            }
        }
        Ok(chain.send_raw(transaction, &|| self.open().is_ok()).await)
    }

    fn is_cancel(&self, request: &Request) -> bool {
        let call = &request.call;
        request.again == Some(AttemptKind::Cancel)
            && call.to == self.address()
            && call.value.is_zero()
            && call.data.is_empty()
    }
}

/// The plan that first signatures are for.
#[derive(Clone, Copy)]
pub(super) enum Planned<'p> {
    /// It is written down with them.
    Ahead(&'p AheadPlan<'p>),
    /// It is in the journal, with these actions by step.
    Entered(&'p [ActionId]),
}

/// Signed, not yet written down: cannot be sent.
#[derive(Debug)]
pub(super) struct Signed {
    bytes: SignedBytes,
    request: Request,
    chain_id: u64,
    signer: Address,
}

impl Signed {
    /// Most wei it can cost.
    pub(super) fn cost_wei(&self) -> U256 {
        self.request.cost_wei()
    }

    /// Its nonce.
    pub(super) fn nonce(&self) -> u64 {
        self.request.nonce
    }

    /// Writes first signatures down, each for some steps of a plan: all of them or none. `None`: what the plan is about is
    /// under way already.
    pub(super) async fn journal_first<J: JournalPort>(
        journal: &J,
        deployment: DeploymentId,
        plan: Planned<'_>,
        first: Vec<(Self, Range<usize>, Touches)>,
    ) -> Result<Option<Vec<Journalled>>, JournalError> {
        let (bytes, rows): (Vec<_>, Vec<_>) =
            first.into_iter().map(|(signed, steps, touches)| signed.row(deployment, steps, touches)).unzip();
        let ids = match plan {
            Planned::Ahead(plan) => match journal.write_ahead(deployment, plan, &rows).await? {
                Some(ids) => ids,
                None => return Ok(None),
            },
            Planned::Entered(actions) => {
                let entry = |FirstSignature { steps, transaction, attempt }| {
                    let actions = actions[steps].to_vec();
                    (NewTransaction { actions, ..transaction }, attempt)
                };
                let entries: Vec<_> = rows.into_iter().map(entry).collect();
                journal.create_transactions(&entries).await?
            }
        };
        if ids.len() != bytes.len() {
            return Err(JournalError::Conflict(format!("{} ids for {} transactions", ids.len(), bytes.len())));
        }
        let journalled = |((transaction, attempt), bytes)| Journalled { transaction, attempt, bytes };
        Ok(Some(ids.into_iter().zip(bytes).map(journalled).collect()))
    }

    fn row(self, deployment: DeploymentId, steps: Range<usize>, touches: Touches) -> (SignedBytes, FirstSignature) {
        let attempt = self.attempt();
        let call = self.request.call;
        let transaction = NewTransaction {
            deployment,
            actions: Vec::new(),
            chain_id: self.chain_id,
            signer: self.signer,
            nonce: self.request.nonce,
            to: call.to,
            data: call.data,
            value: call.value,
            touches,
            planned_block: self.request.block,
        };
        (self.bytes, FirstSignature { steps, transaction, attempt })
    }

    /// Writes it down as another attempt of a transaction.
    pub(super) async fn journal_attempt<J: JournalPort>(
        self,
        journal: &J,
        transaction: TransactionId,
        kind: AttemptKind,
    ) -> Result<Journalled, JournalError> {
        let attempt = journal.add_attempt(transaction, &self.attempt(), kind).await?;
        Ok(Journalled { transaction, attempt, bytes: self.bytes })
    }

    fn attempt(&self) -> NewAttempt {
        NewAttempt {
            hash: self.bytes.hash,
            raw: self.bytes.raw.clone(),
            gas_limit: self.request.gas_limit,
            max_fee_per_gas: self.request.fees.max_fee_per_gas,
            max_priority_fee_per_gas: self.request.fees.max_priority_fee_per_gas,
            block: self.request.block,
        }
    }
}

/// Signed bytes that the journal holds: may be sent, as often as needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journalled {
    transaction: TransactionId,
    attempt: AttemptId,
    bytes: SignedBytes,
}

impl Journalled {
    /// An attempt as it was read from the journal.
    pub(super) fn stored(transaction: TransactionId, attempt: &StoredAttempt) -> Self {
        let bytes = SignedBytes { hash: attempt.hash, raw: attempt.raw.clone() };
        Self { transaction, attempt: attempt.id, bytes }
    }

    /// Its row.
    pub fn transaction(&self) -> TransactionId {
        self.transaction
    }

    /// Its attempt's row.
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// Its hash.
    pub fn hash(&self) -> B256 {
        self.bytes.hash
    }

    /// EIP-2718 bytes.
    pub fn raw(&self) -> &Bytes {
        &self.bytes.raw
    }
}
