//! Balanced plans to transactions: simulate, sign, write down, send, follow to the end.
//!
//! ```text
//! plan ─▶ steps ─▶ prove ─▶ gate ─▶ journal ─▶ chain        settle: receipts, depth, replacement ─▶ journal
//! ```
//!
//! `execute` takes a plan at a head; `settle` runs on every head before it and looks after everything that was ever
//! signed. There is no state here that a crash could lose: what matters is in the journal before it is on the wire.
//!
//! Invariants: bytes are in the journal before they are sent; an action is carried by one nonce only; a receipt with
//! status 0 is never success; nothing is final before its depth on a canonical block; unknown means look again.
//! Must not: decide about money (the plan did), know a protocol, or reach a signer or a send method but through the gate.

mod decide;
mod execute;
pub mod fees;
mod gate;
#[cfg(feature = "aws-kms")]
mod kms_signer;
mod lane;
mod metrics;
pub mod ports;
mod prove;
mod remote_signer;
mod settle;
pub mod signer;
mod steps;

#[cfg(test)]
pub(crate) mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub use decide::SettleSettings;
pub use execute::{Executed, Refused, Sent};
pub use fees::FeeSettings;
pub use gate::{Gate, GateError, GateRefusal, GateSettings, Journalled, PauseSwitch};
pub use metrics::{DeploymentMetrics, ExecutorMetrics};
pub use settle::{Settled, SettledOutcome};

use crate::{
    alerts::{Alert, AlertKey, AlertKind, AlertSink},
    chain::{Rpc, RpcError},
    journal::{DeploymentId, JournalError, Touches, TransactionId, UnsettledTransaction},
    positions::Book,
    protocols::Adapter,
    recovery::{Reservations, Step},
    types::{Address, BlockRef, DeploymentName, SegmentId, U256},
};
use lane::LaneAhead;
use ports::{ChainPort, JournalPort};
use signer::SignerError;

/// The executor of the daemon, over a journal.
pub type ChainExecutor<J> = Executor<Rpc, J>;

/// Limits of one deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecutorSettings {
    /// What transactions may pay.
    pub fees: FeeSettings,
    /// When they are final, replaced, cancelled.
    pub settle: SettleSettings,
    /// Most transactions of one plan; the rest waits for the next block.
    pub actions_per_block_max: usize,
    /// Most gas of one plan's transactions together: what one block has room for.
    pub block_gas_max: u64,
    /// Native balance below which somebody is told, wei.
    pub balance_min_wei: U256,
    /// Blocks that a transaction is shown to the relay alone, from the one it was planned at on; 0: never.
    pub relay_alone_blocks: u64,
    /// Where proceeds go, as far as the protocol lets the sender say so; `None`: to the keeper.
    pub proceeds: Option<Address>,
}

/// Whose executor it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Its row.
    pub id: DeploymentId,
    /// Its name, for logs, metrics and alerts.
    pub name: DeploymentName,
}

/// What an executor is made of.
pub struct Parts<C, J> {
    /// The chain.
    pub chain: C,
    /// The journal.
    pub journal: J,
    /// The protocol.
    pub adapter: Arc<dyn Adapter>,
    /// The gate, with the signer in it.
    pub gate: Gate,
    /// Metrics.
    pub metrics: DeploymentMetrics,
    /// Where alerts go.
    pub alerts: Arc<dyn AlertSink>,
}

/// The executor could not do its work now. Everything it wrote down stands; the next pass continues from there.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// The journal failed: nothing was sent that is not in it.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The chain could not be asked.
    #[error(transparent)]
    Chain(#[from] RpcError),
    /// The key failed.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// The node answered something that cannot be.
    #[error("the node answered {0}")]
    Answer(String),
}

/// See the module.
pub struct Executor<C, J> {
    parts: Parts<C, J>,
    deployment: Deployment,
    settings: ExecutorSettings,
    /// Not final, by transaction.
    in_flight: BTreeMap<TransactionId, InFlight>,
    /// Nonces seen used without a receipt of ours, with the height of that first look.
    foreign_since: BTreeMap<TransactionId, u64>,
    /// Height since which each pending transaction could have been mined. A restart begins to count anew, so that it
    /// offers the bytes there are before it makes dearer ones.
    turn_since: BTreeMap<TransactionId, u64>,
    /// Whether planned actions may have been left behind by a failure.
    unswept: bool,
    /// Whether `in_flight` is all that the journal has, as long as nothing failed since.
    all_known: bool,
    /// What is known at the latest block, for reading logs.
    book: Book,
    /// Fees and lane, as they were looked up after the last pass, while nothing is in flight.
    lane_ahead: Option<LaneAhead>,
    /// Steps that were run dry last, by segment: equal ones are not written down again.
    dry_run_last: BTreeMap<SegmentId, Vec<Step>>,
}

/// What is remembered of an unsettled transaction between two passes. The journal is the truth.
#[derive(Clone, Debug)]
struct InFlight {
    touches: Touches,
    included_block: Option<u64>,
    cost_wei: U256,
    planned_block: u64,
}

/// What a plan made from the state at `head` must leave alone, from the journal's own list: for plans that are only
/// looked at.
pub fn reservations_of(unsettled: &[UnsettledTransaction], head: &BlockRef) -> Reservations {
    let flights: Vec<InFlight> = unsettled.iter().map(InFlight::of).collect();
    reserved(flights.iter(), head)
}

/// Everything touched by transactions that are not part of the state at `head`. Should an inclusion be taken back,
/// whatever was planned on it stands behind it in nonce order.
fn reserved<'t>(in_flight: impl Iterator<Item = &'t InFlight>, head: &BlockRef) -> Reservations {
    let outside = |t: &&InFlight| t.included_block.is_none_or(|block| block > head.number);
    steps::reservations(in_flight.filter(outside).map(|t| &t.touches))
}

impl<C: ChainPort, J: JournalPort> Executor<C, J> {
    /// An executor that has yet to [`Executor::recover`].
    pub fn new(parts: Parts<C, J>, deployment: Deployment, settings: ExecutorSettings) -> Self {
        Self {
            parts,
            deployment,
            settings,
            in_flight: BTreeMap::new(),
            foreign_since: BTreeMap::new(),
            turn_since: BTreeMap::new(),
            unswept: true,
            all_known: false,
            book: Book::default(),
            lane_ahead: None,
            dry_run_last: BTreeMap::new(),
        }
    }

    /// Looks up what the next pass would otherwise wait for: what gas costs, where the lane goes on, and whether the keeper can
    /// still pay. To be called after every pass, when nothing waits any more. What it learns holds for the next block, unless
    /// something is in flight by then.
    pub async fn look_ahead(&mut self, head: &BlockRef) {
        self.watch_balance().await;
        self.lane_ahead = None;
        if self.is_idle() && !self.parts.gate.dry_run() {
            self.lane_ahead = self.ahead(head).await.ok();
        }
    }

    /// Whether nothing is signed and not final, for certain.
    pub fn is_idle(&self) -> bool {
        self.all_known && !self.unswept && self.in_flight.is_empty()
    }

    /// What a plan made from the state at `head` must leave alone.
    pub fn reservations(&self, head: &BlockRef) -> Reservations {
        reserved(self.in_flight.values(), head)
    }

    /// The keeper's address.
    pub fn keeper(&self) -> Address {
        self.parts.gate.address()
    }

    /// Takes over what is known at the head, which the next pass is about.
    pub fn know(&mut self, book: Book) {
        self.book = book;
    }

    /// Adds to the calls that the gate lets through: those of contracts that the protocol announced meanwhile.
    pub fn allow(&mut self, calls: impl IntoIterator<Item = (Address, [u8; 4])>) {
        self.parts.gate.allow(calls);
    }

    /// Segments in which something is signed and not final: their episodes are not over.
    pub fn segments_in_flight(&self) -> BTreeSet<SegmentId> {
        self.in_flight.values().map(|transaction| transaction.touches.segment).collect()
    }

    /// Takes over what is in flight from the journal's own list.
    fn remember(&mut self, unsettled: &[UnsettledTransaction]) {
        self.in_flight = unsettled.iter().map(|transaction| (transaction.id, InFlight::of(transaction))).collect();
        self.foreign_since.retain(|id, _| self.in_flight.contains_key(id));
        self.turn_since.retain(|id, _| self.in_flight.contains_key(id));
        self.parts.metrics.unsettled(unsettled.len());
        self.all_known = true;
    }

    /// Gives up actions that were planned but never signed: a crash or a failure left them, and they hold their units.
    async fn sweep(&mut self, head: &BlockRef) -> Result<(), ExecutorError> {
        let reason = "interrupted before it was signed";
        let left = self.parts.journal.abandon_unsigned(self.deployment.id, reason, head.number).await?;
        if left > 0 {
            tracing::warn!(deployment = %self.deployment.name, actions = left, "gave up actions that were never signed");
        }
        (self.unswept, self.all_known) = (false, false);
        Ok(())
    }

    /// Worst case of everything in flight but one, and what the last hour cost, wei.
    async fn committed_wei(&self, except: Option<TransactionId>) -> Result<U256, ExecutorError> {
        let (chain_id, keeper) = (self.parts.gate.chain_id(), self.parts.gate.address());
        let spent = self.parts.journal.spent_wei_within(chain_id, keeper, execute::SPEND_WINDOW).await?;
        let pending = self.in_flight.iter().filter(|(id, t)| t.included_block.is_none() && Some(**id) != except);
        Ok(pending.fold(spent, |sum, (_, t)| sum.saturating_add(t.cost_wei)))
    }

    fn alert_key(&self, kind: AlertKind, subject: impl std::fmt::Display) -> AlertKey {
        AlertKey::new(kind, Some(&self.deployment.name), subject)
    }

    fn raise(&self, kind: AlertKind, subject: impl std::fmt::Display, detail: impl std::fmt::Display) {
        self.parts.alerts.raise(Alert::new(self.alert_key(kind, subject), detail));
    }

    fn resolve(&self, kind: AlertKind, subject: impl std::fmt::Display) {
        self.parts.alerts.resolve(&self.alert_key(kind, subject));
    }
}

impl InFlight {
    fn of(transaction: &UnsettledTransaction) -> Self {
        let costs = transaction.attempts.iter();
        let costs = costs.map(|a| gate::cost_wei(a.gas_limit, a.max_fee_per_gas, transaction.value));
        Self {
            touches: transaction.touches.clone(),
            included_block: transaction.included.map(|(_, block)| block.number),
            cost_wei: costs.max().unwrap_or_default(),
            planned_block: transaction.planned_block,
        }
    }
}
