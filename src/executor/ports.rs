//! What the executor asks of the chain and of the journal. The consumer declares its ports, so that crashes between any
//! two steps can be played in memory.
//!
//! Must not: decide anything; the implementations below only forward.

use std::{future::Future, time::Duration};

use chrono::Utc;

use super::gate::Journalled;
use crate::{
    chain::{FeeQuote, Receipt, Rpc, RpcError, SendError, SimulatedCall},
    journal::{
        ActionId, ActionStatus, AttemptId, AttemptKind, BroadcastOutcome, DeploymentId, EpisodeId, IncludedReceipt,
        Journal, JournalError, NewAttempt, NewTransaction, PlanId, TransactionId, UnsettledTransaction,
    },
    recovery::BalancedPlan,
    types::{Address, B256, BlockRef, Call, U256},
};

/// The chain, as the executor sees it. A failure says nothing about the chain.
pub trait ChainPort: Send + Sync {
    /// What gas costs now.
    fn fees(&self) -> impl Future<Output = Result<FeeQuote, RpcError>> + Send;

    /// The next nonce of an address after the latest block, pool not counted.
    fn nonce(&self, address: Address) -> impl Future<Output = Result<u64, RpcError>> + Send;

    /// Native balance, wei.
    fn balance(&self, address: Address) -> impl Future<Output = Result<U256, RpcError>> + Send;

    /// Runs calls in order in one block on top of `at`, each seeing the earlier ones.
    fn simulate(
        &self,
        from: Address,
        calls: &[Call],
        at: &BlockRef,
    ) -> impl Future<Output = Result<Vec<SimulatedCall>, RpcError>> + Send;

    /// Sends signed bytes. Takes nothing but what the gate let through and the journal holds.
    fn send_raw(&self, transaction: &Journalled) -> impl Future<Output = Result<B256, SendError>> + Send;

    /// The receipt of a transaction that is on the node's chain.
    fn receipt(&self, hash: B256) -> impl Future<Output = Result<Option<Receipt>, RpcError>> + Send;

    /// Whether the node has the transaction, pooled or mined.
    fn transaction_known(&self, hash: B256) -> impl Future<Output = Result<bool, RpcError>> + Send;

    /// The canonical block of a height, `None` above the head.
    fn block_by_number(&self, number: u64) -> impl Future<Output = Result<Option<BlockRef>, RpcError>> + Send;
}

/// The journal, as the executor sees it. Every method is one transaction: all of it happened or none.
pub trait JournalPort: Send + Sync {
    /// Writes a plan and one action per step.
    fn insert_plan(
        &self,
        deployment: DeploymentId,
        episode: EpisodeId,
        plan: &BalancedPlan,
        dry_run: bool,
    ) -> impl Future<Output = Result<(PlanId, Vec<ActionId>), JournalError>> + Send;

    /// Moves actions that are not signed.
    fn set_action_status(
        &self,
        actions: &[ActionId],
        status: ActionStatus,
        reason: Option<&str>,
        block: u64,
    ) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Actions that were planned and neither signed nor given up: what a crash leaves behind.
    fn unsigned_actions(
        &self,
        deployment: DeploymentId,
    ) -> impl Future<Output = Result<Vec<ActionId>, JournalError>> + Send;

    /// One above the highest nonce of this signer in any deployment of the chain.
    fn next_nonce(
        &self,
        chain_id: u64,
        signer: Address,
    ) -> impl Future<Output = Result<Option<u64>, JournalError>> + Send;

    /// Writes a transaction with its first signed attempt; its actions become signed. A conflict: the nonce is taken.
    fn create_transaction(
        &self,
        transaction: &NewTransaction,
        first: &NewAttempt,
    ) -> impl Future<Output = Result<(TransactionId, AttemptId), JournalError>> + Send;

    /// Writes another signed attempt.
    fn add_attempt(
        &self,
        transaction: TransactionId,
        attempt: &NewAttempt,
        kind: AttemptKind,
    ) -> impl Future<Output = Result<AttemptId, JournalError>> + Send;

    /// Writes how a broadcast went.
    fn mark_broadcast(
        &self,
        attempt: AttemptId,
        outcome: BroadcastOutcome,
        block: u64,
    ) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Writes an attempt's inclusion.
    fn mark_included(
        &self,
        transaction: TransactionId,
        attempt: AttemptId,
        receipt: &IncludedReceipt,
    ) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Takes an inclusion back.
    fn mark_reorged(&self, transaction: TransactionId) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// The inclusion is final.
    fn mark_final(&self, transaction: TransactionId) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Another transaction used the nonce.
    fn mark_superseded(
        &self,
        transaction: TransactionId,
        why: &str,
    ) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Every transaction that is neither final nor superseded, with its attempts, oldest first.
    fn unsettled_transactions(
        &self,
        deployment: DeploymentId,
    ) -> impl Future<Output = Result<Vec<UnsettledTransaction>, JournalError>> + Send;

    /// Wei this signer spent on the chain within the last `window`, by the journal.
    fn spent_wei_within(
        &self,
        chain_id: u64,
        signer: Address,
        window: Duration,
    ) -> impl Future<Output = Result<U256, JournalError>> + Send;
}
