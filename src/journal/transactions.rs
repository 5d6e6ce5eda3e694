//! Transactions: one nonce of one signer, written with its first signed bytes before these can leave.

use std::collections::{BTreeMap, BTreeSet};

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    ActionId, AttemptId, DeploymentId, EpisodeId, Journal, JournalError, NewAttempt, PlanId, Result, StoredAttempt,
    TransactionId, TransactionStatus,
    attempts::{AttemptKind, insert_attempt, stored_attempts},
    error::TxResult,
    session::{in_statement, in_tx},
    values::{address, amount, bigint, from_json, number, text},
};
use crate::recovery::Scope;
use crate::types::{Address, BlockRef, Bytes, MarketId, SegmentId, U256, UnitKey};

/// What a transaction may take while it is under way: other plans leave it alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touches {
    /// The segment it acts in.
    pub segment: SegmentId,
    /// Units touched as victim, winner, payer or maker.
    pub units: BTreeSet<UnitKey>,
    /// Most it draws from the segment's insurance fund, settlement-token units.
    pub fund_draw: U256,
    /// Markets whose parameters it moves.
    pub markets: BTreeSet<MarketId>,
    /// Scopes of its intents.
    #[serde(default)]
    pub scopes: BTreeSet<Scope>,
    /// Tokens of the keeper that it may take, token units.
    #[serde(default)]
    pub capital: BTreeMap<Address, U256>,
}

/// A transaction about to be sent for the first time.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewTransaction {
    /// Whose actions it carries.
    pub deployment: DeploymentId,
    /// The actions: whole groups of one plan, all of them planned or simulated. Not known to what is written ahead.
    #[serde(skip)]
    pub actions: Vec<ActionId>,
    /// The chain it is signed for.
    pub chain_id: u64,
    /// The signer.
    pub signer: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// The contract.
    pub to: Address,
    /// Calldata.
    pub data: Bytes,
    /// Wei sent along.
    pub value: U256,
    /// What it may take.
    pub touches: Touches,
    /// The block it was planned from.
    pub planned_block: u64,
}

/// A transaction that is not settled: it may still be mined, or be taken back by a reorganisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsettledTransaction {
    /// Which.
    pub id: TransactionId,
    /// The plan its actions are of.
    pub plan: PlanId,
    /// The plan's episode.
    pub episode: EpisodeId,
    /// The signer.
    pub signer: Address,
    /// The signer's nonce.
    pub nonce: u64,
    /// The contract.
    pub to: Address,
    /// Calldata.
    pub data: Bytes,
    /// Wei sent along.
    pub value: U256,
    /// The actions it carries, in the plan's order.
    pub actions: Vec<ActionId>,
    /// What it may take.
    pub touches: Touches,
    /// The block it was planned from.
    pub planned_block: u64,
    /// Signed, sent or included.
    pub status: TransactionStatus,
    /// The included attempt and its block, where included.
    pub included: Option<(AttemptId, BlockRef)>,
    /// Every signed form of it, oldest first.
    pub attempts: Vec<StoredAttempt>,
}

impl Journal {
    /// The nonce after the highest that any deployment of the chain has used with this signer; `None` if none has.
    pub async fn next_nonce(&self, chain_id: u64, signer: Address) -> Result<Option<u64>> {
        let chain_id = bigint("chain_id", chain_id)?;
        in_statement!(self, "next_nonce", |tx| {
            let highest: Option<i64> = sqlx::query_scalar(
                "-- next_nonce\n\
                 SELECT max(nonce) FROM signed_nonces WHERE chain_id = $1 AND signer = $2",
            )
            .bind(chain_id)
            .bind(signer.as_slice())
            .fetch_one(tx)
            .await?;
            Ok(highest.map(|nonce| number("nonce", nonce)).transpose()?.map(|nonce| nonce + 1))
        })
    }

    /// Writes another signed form of the transaction before it is broadcast: same nonce, other fee, or a cancel. With a
    /// cancel the actions become replaced. Conflict where the transaction is neither signed nor sent.
    pub async fn add_attempt(
        &self,
        transaction: TransactionId,
        attempt: &NewAttempt,
        kind: AttemptKind,
    ) -> Result<AttemptId> {
        in_tx!(self, "add_attempt", |tx| {
            self.check_fence(tx).await?;
            guard(tx, "add_attempt", transaction, &["signed", "sent"]).await?;
            let id = insert_attempt(tx, transaction, attempt, kind.as_str()).await?;
            if kind == AttemptKind::Cancel {
                move_actions(tx, transaction, &["signed", "sent"], "replaced", None, Some(attempt.block)).await?;
            }
            Ok(id)
        })
    }

    /// The chain reorganised and the included attempt is no longer mined: sent again, its effects forgotten. Actions
    /// that had reverted stay so.
    pub async fn mark_reorged(&self, transaction: TransactionId) -> Result<()> {
        in_tx!(self, "mark_reorged", |tx| {
            move_transaction(tx, "mark_reorged", transaction, &["included"], "sent", None).await?;
            sqlx::query("-- mark_reorged\nDELETE FROM effects WHERE transaction_id = $1")
                .bind(transaction.0)
                .execute(&mut *tx)
                .await?;
            sqlx::query(
                "-- mark_reorged\n\
                 UPDATE attempts SET included_block = NULL, included_hash = NULL, included_parent_hash = NULL, \
                 included_timestamp = NULL, included_at = NULL, success = NULL, gas_used = NULL, \
                 effective_gas_price = NULL, revert_reason = NULL \
                 WHERE transaction_id = $1 AND included_hash IS NOT NULL",
            )
            .bind(transaction.0)
            .execute(&mut *tx)
            .await?;
            move_actions(tx, transaction, &["included"], "sent", None, None).await
        })
    }

    /// The included attempt is deeper than the chain reorganises. Included actions become final; those of a
    /// transaction whose cancel was mined become abandoned; reverted ones stay so.
    pub async fn mark_final(&self, transaction: TransactionId) -> Result<()> {
        in_tx!(self, "mark_final", |tx| {
            move_transaction(tx, "mark_final", transaction, &["included"], "final", None).await?;
            move_actions(tx, transaction, &["included"], "final", None, None).await?;
            move_actions(tx, transaction, &["replaced"], "abandoned", Some("cancelled on chain"), None).await
        })
    }

    /// Another transaction used the nonce: none of the attempts can be mined any more.
    pub async fn mark_superseded(&self, transaction: TransactionId, why: &str) -> Result<()> {
        in_tx!(self, "mark_superseded", |tx| {
            move_transaction(tx, "mark_superseded", transaction, &["signed", "sent"], "superseded", Some(why)).await?;
            move_actions(tx, transaction, &["signed", "sent", "replaced"], "superseded", Some(why), None).await
        })
    }

    /// Every transaction of the deployment that is signed, sent or included, by signer and nonce.
    pub async fn unsettled_transactions(&self, deployment: DeploymentId) -> Result<Vec<UnsettledTransaction>> {
        in_tx!(self, "unsettled_transactions", |tx| {
            let rows = sqlx::query(
                "-- unsettled_transactions\n\
                 SELECT t.id, t.plan_id, p.episode_id, t.signer, t.nonce, t.to_address, t.data, t.value, t.touches, \
                 t.planned_block, t.status, \
                 (SELECT array_agg(a.id ORDER BY a.step_no) FROM actions a WHERE a.transaction_id = t.id) AS actions \
                 FROM transactions t JOIN plans p ON p.id = t.plan_id \
                 WHERE t.deployment_id = $1 AND t.status IN ('signed', 'sent', 'included') \
                 ORDER BY t.signer, t.nonce",
            )
            .bind(deployment.0)
            .fetch_all(&mut *tx)
            .await?;
            let ids: Vec<i64> = rows.iter().map(|row| row.try_get("id")).collect::<sqlx::Result<_>>()?;
            let mut attempts = if ids.is_empty() { BTreeMap::new() } else { stored_attempts(tx, &ids).await? };
            rows.iter().map(|row| unsettled(row, &mut attempts)).collect()
        })
    }

    /// Wei that the signer's mined attempts cost since then, by the time they were found mined: gas of all of them,
    /// and the value of those that succeeded.
    pub async fn spent_wei_since(&self, chain_id: u64, signer: Address, since: DateTime<Utc>) -> Result<U256> {
        let chain_id = bigint("chain_id", chain_id)?;
        in_statement!(self, "spent_wei_since", |tx| {
            let spent: BigDecimal = sqlx::query_scalar(
                "-- spent_wei_since\n\
                 SELECT COALESCE(SUM(a.gas_used * a.effective_gas_price \
                 + CASE WHEN a.success AND a.kind <> 'cancel' THEN t.value ELSE 0 END), 0) \
                 FROM attempts a JOIN transactions t ON t.id = a.transaction_id \
                 WHERE t.chain_id = $1 AND t.signer = $2 AND a.included_at >= $3",
            )
            .bind(chain_id)
            .bind(signer.as_slice())
            .bind(since)
            .fetch_one(tx)
            .await?;
            Ok(amount("spent_wei", &spent)?)
        })
    }
}

/// Locks the transaction's row and refuses a status that is not one of these.
pub(super) async fn guard(
    tx: &mut PgConnection,
    caller: &'static str,
    transaction: TransactionId,
    allowed: &[&'static str],
) -> TxResult<()> {
    let status: Option<String> =
        sqlx::query_scalar("-- guard\nSELECT status FROM transactions WHERE id = $1 FOR UPDATE")
            .bind(transaction.0)
            .fetch_optional(tx)
            .await?;
    match status {
        Some(status) if allowed.contains(&status.as_str()) => Ok(()),
        Some(status) => Err(JournalError::Conflict(format!("{caller}: transaction {transaction} is {status}")).into()),
        None => Err(JournalError::Conflict(format!("{caller}: there is no transaction {transaction}")).into()),
    }
}

/// Moves the transaction, if it is where it may be moved from. The new reason replaces an older one only if given.
pub(super) async fn move_transaction(
    tx: &mut PgConnection,
    caller: &'static str,
    transaction: TransactionId,
    from: &[&'static str],
    to: &'static str,
    reason: Option<&str>,
) -> TxResult<()> {
    guard(tx, caller, transaction, from).await?;
    sqlx::query(
        "-- move_transaction\n\
         UPDATE transactions SET status = $2, reason = COALESCE($3, reason), updated_at = now() WHERE id = $1",
    )
    .bind(transaction.0)
    .bind(to)
    .bind(reason.map(text))
    .execute(tx)
    .await?;
    Ok(())
}

/// Moves those of the transaction's actions that stand in one of these statuses.
pub(super) async fn move_actions(
    tx: &mut PgConnection,
    transaction: TransactionId,
    from: &[&'static str],
    to: &'static str,
    reason: Option<&str>,
    block: Option<u64>,
) -> TxResult<()> {
    sqlx::query(
        "-- move_actions\n\
         UPDATE actions SET status = $3, reason = COALESCE($4, reason), status_block = COALESCE($5, status_block), \
         was_included = was_included OR $3 = 'included', updated_at = now() \
         WHERE transaction_id = $1 AND status = ANY($2)",
    )
    .bind(transaction.0)
    .bind(from)
    .bind(to)
    .bind(reason.map(text))
    .bind(block.map(|block| bigint("block", block)).transpose()?)
    .execute(tx)
    .await?;
    Ok(())
}

fn unsettled(
    row: &PgRow,
    attempts: &mut BTreeMap<i64, Vec<(StoredAttempt, Option<BlockRef>)>>,
) -> TxResult<UnsettledTransaction> {
    let id: i64 = row.try_get("id")?;
    let attempts = attempts.remove(&id).unwrap_or_default();
    Ok(UnsettledTransaction {
        id: TransactionId(id),
        plan: PlanId(row.try_get("plan_id")?),
        episode: EpisodeId(row.try_get("episode_id")?),
        signer: address("signer", row.try_get("signer")?)?,
        nonce: number("nonce", row.try_get("nonce")?)?,
        to: address("to_address", row.try_get("to_address")?)?,
        data: row.try_get::<Vec<u8>, _>("data")?.into(),
        value: amount("value", &row.try_get("value")?)?,
        actions: row.try_get::<Option<Vec<i64>>, _>("actions")?.unwrap_or_default().into_iter().map(ActionId).collect(),
        touches: from_json("touches", row.try_get("touches")?)?,
        planned_block: number("planned_block", row.try_get("planned_block")?)?,
        status: row.try_get::<&str, _>("status")?.parse()?,
        included: attempts.iter().find_map(|(attempt, block)| block.map(|block| (attempt.id, block))),
        attempts: attempts.into_iter().map(|(attempt, _)| attempt).collect(),
    })
}

/// Ids as a bind.
pub(super) fn action_ids(ids: &[ActionId]) -> Vec<i64> {
    ids.iter().map(|id| id.0).collect()
}
