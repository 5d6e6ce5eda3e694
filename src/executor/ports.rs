//! What the executor asks of the chain and of the journal. The consumer declares its ports, so that crashes between any
//! two steps can be played in memory.
//!
//! Must not: decide anything; the implementations below only forward.

use std::time::Duration;

use chrono::Utc;

use super::gate::Journalled;
use crate::{
    chain::{FeeQuote, Receipt, Rpc, RpcError, SendError, SimulatedCall},
    journal::{
        ActionId, ActionStatus, AheadPlan, AttemptId, AttemptKind, BroadcastOutcome, DeploymentId, Entered, EpisodeId,
        FirstSignature, IncludedReceipt, Journal, JournalError, NewAttempt, NewTransaction, PlanId, TransactionId,
        UnsettledTransaction,
    },
    recovery::BalancedPlan,
    types::{Address, B256, BlockRef, Call, U256},
};

/// The chain, as the executor sees it. A failure says nothing about the chain.
#[expect(async_fn_in_trait, reason = "used with concrete types only: whether a future is Send follows from them")]
pub trait ChainPort: Send + Sync {
    /// What gas costs now.
    async fn fees(&self) -> Result<FeeQuote, RpcError>;

    /// The next nonce of an address after the latest block, pool not counted.
    async fn nonce(&self, address: Address) -> Result<u64, RpcError>;

    /// Native balance, wei.
    async fn balance(&self, address: Address) -> Result<U256, RpcError>;

    /// Runs calls in order in one block on top of `at`, each seeing the earlier ones.
    async fn simulate(&self, from: Address, calls: &[Call], at: &BlockRef) -> Result<Vec<SimulatedCall>, RpcError>;

    /// Sends signed bytes. Takes nothing but what the gate let through and the journal holds, and asks once more whether it may
    /// leave where something had to be waited for.
    async fn send_raw(
        &self,
        transaction: &Journalled,
        may_leave: &(dyn Fn() -> bool + Sync),
    ) -> Result<B256, SendError>;

    /// Hands the same to a relay that shows it to builders alone; `None` where there is none.
    async fn send_private(&self, transaction: &Journalled) -> Option<Result<B256, SendError>>;

    /// The receipt of a transaction that is on the node's chain.
    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError>;

    /// Whether the node has the transaction, pooled or mined.
    async fn transaction_known(&self, hash: B256) -> Result<bool, RpcError>;

    /// The canonical block of a height, `None` above the head.
    async fn block_by_number(&self, number: u64) -> Result<Option<BlockRef>, RpcError>;
}

/// The journal, as the executor sees it. Every method is one transaction: all of it happened or none.
#[expect(async_fn_in_trait, reason = "used with concrete types only: whether a future is Send follows from them")]
pub trait JournalPort: Send + Sync {
    /// Writes a plan and one action per step, under the segment's open episode or one that opens for this cause.
    async fn insert_plan(
        &self,
        deployment: DeploymentId,
        plan: &BalancedPlan,
        cause: &str,
        dry_run: bool,
    ) -> Result<(EpisodeId, PlanId, Vec<ActionId>), JournalError>;

    /// Makes a plan durable with its first signatures, all of them or none; what they are entered as is answered by
    /// [`Self::enter_ahead`]. `None`, and nothing written: a subject of the plan has an open group. A conflict: a nonce is taken.
    async fn write_ahead(
        &self,
        deployment: DeploymentId,
        plan: &AheadPlan<'_>,
        first: &[FirstSignature],
    ) -> Result<Option<Vec<(TransactionId, AttemptId)>>, JournalError>;

    /// Enters what was written ahead where everything else looks for it, if there is anything.
    async fn enter_ahead(&self, deployment: DeploymentId) -> Result<Option<Entered>, JournalError>;

    /// Moves actions that are not signed.
    async fn set_action_status(
        &self,
        actions: &[ActionId],
        status: ActionStatus,
        reason: Option<&str>,
        block: u64,
    ) -> Result<(), JournalError>;

    /// Gives up every action that is planned or simulated and not signed: what a crash leaves behind. How many. What was
    /// written ahead is entered first.
    async fn abandon_unsigned(&self, deployment: DeploymentId, reason: &str, block: u64) -> Result<u64, JournalError>;

    /// One above the highest nonce of this signer in any deployment of the chain.
    async fn next_nonce(&self, chain_id: u64, signer: Address) -> Result<Option<u64>, JournalError>;

    /// Writes transactions, each with its first signed attempt, all of them or none; their actions become signed. A
    /// conflict: a nonce is taken.
    async fn create_transactions(
        &self,
        new: &[(NewTransaction, NewAttempt)],
    ) -> Result<Vec<(TransactionId, AttemptId)>, JournalError>;

    /// Writes another signed attempt.
    async fn add_attempt(
        &self,
        transaction: TransactionId,
        attempt: &NewAttempt,
        kind: AttemptKind,
    ) -> Result<AttemptId, JournalError>;

    /// Writes how broadcasts went.
    async fn mark_broadcasts(&self, said: &[(AttemptId, BroadcastOutcome)], block: u64) -> Result<(), JournalError>;

    /// Writes an attempt's inclusion.
    async fn mark_included(
        &self,
        transaction: TransactionId,
        attempt: AttemptId,
        receipt: &IncludedReceipt,
    ) -> Result<(), JournalError>;

    /// Takes an inclusion back.
    async fn mark_reorged(&self, transaction: TransactionId) -> Result<(), JournalError>;

    /// The inclusion is final.
    async fn mark_final(&self, transaction: TransactionId) -> Result<(), JournalError>;

    /// Another transaction used the nonce.
    async fn mark_superseded(&self, transaction: TransactionId, why: &str) -> Result<(), JournalError>;

    /// Every transaction that is neither final nor superseded, with its attempts, oldest first.
    async fn unsettled_transactions(&self, deployment: DeploymentId)
    -> Result<Vec<UnsettledTransaction>, JournalError>;

    /// Wei this signer spent on the chain within the last `window`, by the journal.
    async fn spent_wei_within(&self, chain_id: u64, signer: Address, window: Duration) -> Result<U256, JournalError>;
}

impl ChainPort for Rpc {
    async fn fees(&self) -> Result<FeeQuote, RpcError> {
        Rpc::fees(self).await
    }

    async fn nonce(&self, address: Address) -> Result<u64, RpcError> {
        Rpc::nonce(self, address, false).await
    }

    async fn balance(&self, address: Address) -> Result<U256, RpcError> {
        Rpc::balance(self, address).await
    }

    async fn simulate(&self, from: Address, calls: &[Call], at: &BlockRef) -> Result<Vec<SimulatedCall>, RpcError> {
        Rpc::simulate(self, from, calls, at).await
    }

    async fn send_raw(
        &self,
        transaction: &Journalled,
        may_leave: &(dyn Fn() -> bool + Sync),
    ) -> Result<B256, SendError> {
        Rpc::send_raw(self, transaction.raw(), may_leave).await
    }

    async fn send_private(&self, transaction: &Journalled) -> Option<Result<B256, SendError>> {
        Rpc::send_private(self, transaction.raw()).await
    }

    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError> {
        Rpc::receipt(self, hash).await
    }

    async fn transaction_known(&self, hash: B256) -> Result<bool, RpcError> {
        Rpc::transaction_known(self, hash).await
    }

    async fn block_by_number(&self, number: u64) -> Result<Option<BlockRef>, RpcError> {
        Rpc::block_by_number(self, number).await
    }
}

impl JournalPort for Journal {
    async fn insert_plan(
        &self,
        deployment: DeploymentId,
        plan: &BalancedPlan,
        cause: &str,
        dry_run: bool,
    ) -> Result<(EpisodeId, PlanId, Vec<ActionId>), JournalError> {
        Journal::insert_plan(self, deployment, plan, cause, dry_run).await
    }

    async fn write_ahead(
        &self,
        deployment: DeploymentId,
        plan: &AheadPlan<'_>,
        first: &[FirstSignature],
    ) -> Result<Option<Vec<(TransactionId, AttemptId)>>, JournalError> {
        Journal::write_ahead(self, deployment, plan, first).await
    }

    async fn enter_ahead(&self, deployment: DeploymentId) -> Result<Option<Entered>, JournalError> {
        Journal::enter_ahead(self, deployment).await
    }

    async fn set_action_status(
        &self,
        actions: &[ActionId],
        status: ActionStatus,
        reason: Option<&str>,
        block: u64,
    ) -> Result<(), JournalError> {
        Journal::set_action_status(self, actions, status, reason, block).await
    }

    async fn abandon_unsigned(&self, deployment: DeploymentId, reason: &str, block: u64) -> Result<u64, JournalError> {
        Journal::abandon_unsigned(self, deployment, reason, block).await
    }

    async fn next_nonce(&self, chain_id: u64, signer: Address) -> Result<Option<u64>, JournalError> {
        Journal::next_nonce(self, chain_id, signer).await
    }

    async fn create_transactions(
        &self,
        new: &[(NewTransaction, NewAttempt)],
    ) -> Result<Vec<(TransactionId, AttemptId)>, JournalError> {
        Journal::create_transactions(self, new).await
    }

    async fn add_attempt(
        &self,
        transaction: TransactionId,
        attempt: &NewAttempt,
        kind: AttemptKind,
    ) -> Result<AttemptId, JournalError> {
        Journal::add_attempt(self, transaction, attempt, kind).await
    }

    async fn mark_broadcasts(&self, said: &[(AttemptId, BroadcastOutcome)], block: u64) -> Result<(), JournalError> {
        Journal::mark_broadcasts(self, said, block).await
    }

    async fn mark_included(
        &self,
        transaction: TransactionId,
        attempt: AttemptId,
        receipt: &IncludedReceipt,
    ) -> Result<(), JournalError> {
        Journal::mark_included(self, transaction, attempt, receipt).await
    }

    async fn mark_reorged(&self, transaction: TransactionId) -> Result<(), JournalError> {
        Journal::mark_reorged(self, transaction).await
    }

    async fn mark_final(&self, transaction: TransactionId) -> Result<(), JournalError> {
        Journal::mark_final(self, transaction).await
    }

    async fn mark_superseded(&self, transaction: TransactionId, why: &str) -> Result<(), JournalError> {
        Journal::mark_superseded(self, transaction, why).await
    }

    async fn unsettled_transactions(
        &self,
        deployment: DeploymentId,
    ) -> Result<Vec<UnsettledTransaction>, JournalError> {
        Journal::unsettled_transactions(self, deployment).await
    }

    async fn spent_wei_within(&self, chain_id: u64, signer: Address, window: Duration) -> Result<U256, JournalError> {
        Journal::spent_wei_since(self, chain_id, signer, Utc::now() - window).await
    }
}
