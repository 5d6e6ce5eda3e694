//! Attempts: each signed form of a transaction, what the node said to it, and its receipt.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    AttemptId, Journal, JournalError, Result, TransactionId,
    error::TxResult,
    session::in_tx,
    transactions::{move_actions, move_transaction},
    values::{bigint, block_ref, hash, json, number, numeric, numeric_wei, text, wei},
};
use crate::{
    recovery::Effect,
    types::{B256, BlockRef, Bytes},
};

/// A signed form of a transaction, about to be written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewAttempt {
    /// Its hash.
    pub hash: B256,
    /// The signed bytes, as they are broadcast.
    pub raw: Bytes,
    /// Gas limit.
    pub gas_limit: u64,
    /// Wei per gas at most.
    pub max_fee_per_gas: u128,
    /// Wei per gas on top of the base fee at most.
    pub max_priority_fee_per_gas: u128,
    /// The head when it was signed.
    pub block: u64,
}

/// Why there is a further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptKind {
    /// The same call at another fee.
    Replace,
    /// Nothing, to the signer itself: it frees the nonce.
    Cancel,
}

impl AttemptKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Replace => "replace",
            Self::Cancel => "cancel",
        }
    }
}

/// What the node said to a broadcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BroadcastOutcome {
    /// It took it.
    Accepted,
    /// It had it already.
    Known,
    /// It refused it, with this reason: the bytes did not enter its pool.
    Rejected(String),
    /// It did not answer, or not understandably: the bytes may have left.
    Unknown(String),
}

impl BroadcastOutcome {
    fn columns(&self) -> (&'static str, Option<String>) {
        match self {
            Self::Accepted => ("accepted", None),
            Self::Known => ("known", None),
            Self::Rejected(detail) => ("rejected", Some(text(detail))),
            Self::Unknown(detail) => ("unknown", Some(text(detail))),
        }
    }

    pub(super) fn from_columns(word: Option<&str>, detail: Option<String>) -> Result<Option<Self>> {
        let detail = detail.unwrap_or_default();
        match word {
            None => Ok(None),
            Some("accepted") => Ok(Some(Self::Accepted)),
            Some("known") => Ok(Some(Self::Known)),
            Some("rejected") => Ok(Some(Self::Rejected(detail))),
            Some("unknown") => Ok(Some(Self::Unknown(detail))),
            Some(other) => Err(JournalError::corrupt("broadcast", other)),
        }
    }
}

impl fmt::Display for BroadcastOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.columns() {
            (word, None) => f.write_str(word),
            (word, Some(detail)) => write!(f, "{word}: {detail}"),
        }
    }
}

/// A receipt, with what its logs meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncludedReceipt {
    /// Where it was mined.
    pub block: BlockRef,
    /// The receipt's status.
    pub success: bool,
    /// Gas it used.
    pub gas_used: u64,
    /// Wei paid per gas.
    pub effective_gas_price: u128,
    /// What it did; empty without success.
    pub effects: Vec<Effect>,
    /// Why it failed, where it did and that is known.
    pub revert_reason: Option<String>,
}

/// An attempt as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAttempt {
    /// Which.
    pub id: AttemptId,
    /// `None` for the first of its transaction.
    pub kind: Option<AttemptKind>,
    /// Its hash.
    pub hash: B256,
    /// The signed bytes.
    pub raw: Bytes,
    /// Gas limit.
    pub gas_limit: u64,
    /// Wei per gas at most.
    pub max_fee_per_gas: u128,
    /// Wei per gas on top of the base fee at most.
    pub max_priority_fee_per_gas: u128,
    /// The head when it was signed.
    pub signed_block: u64,
    /// What the node said last; `None`: it was never asked, as far as is known.
    pub broadcast: Option<BroadcastOutcome>,
}

impl Journal {
    /// Writes down what the node said to broadcasts, all of it or nothing. Unless one was rejected, its signed transaction
    /// and signed actions become sent; later statuses stay. Conflict if there is no such attempt.
    pub async fn mark_broadcasts(&self, said: &[(AttemptId, BroadcastOutcome)], block: u64) -> Result<()> {
        in_tx!(self, "mark_broadcasts", |tx| {
            for (attempt, outcome) in said {
                mark_broadcast(tx, *attempt, outcome, block).await?;
            }
            Ok(())
        })
    }

    /// Writes down the receipt of an attempt. With success its actions become included (or stay replaced, if the
    /// attempt is a cancel), else reverted; actions that are over stay so. Conflict where the transaction is neither
    /// signed nor sent, or the attempt is not one of it.
    pub async fn mark_included(
        &self,
        transaction: TransactionId,
        attempt: AttemptId,
        receipt: &IncludedReceipt,
    ) -> Result<()> {
        in_tx!(self, "mark_included", |tx| {
            move_transaction(tx, "mark_included", transaction, &["signed", "sent"], "included", None).await?;
            let kind = store_receipt(tx, transaction, attempt, receipt).await?;
            insert_effects(tx, transaction, &receipt.effects).await?;
            let block = Some(receipt.block.number);
            if kind == "cancel" {
                return move_actions(tx, transaction, &["signed", "sent"], "replaced", None, block).await;
            }
            let status = if receipt.success { "included" } else { "reverted" };
            let reason = receipt.revert_reason.as_deref();
            move_actions(tx, transaction, &["signed", "sent", "replaced"], status, reason, block).await
        })
    }
}

async fn mark_broadcast(
    tx: &mut PgConnection,
    attempt: AttemptId,
    outcome: &BroadcastOutcome,
    block: u64,
) -> TxResult<()> {
    let (word, detail) = outcome.columns();
    let transaction: Option<i64> = sqlx::query_scalar(
        "-- mark_broadcast\n\
         UPDATE attempts SET broadcast = $2, broadcast_detail = $3, broadcast_block = $4 WHERE id = $1 \
         RETURNING transaction_id",
    )
    .bind(attempt.0)
    .bind(word)
    .bind(&detail)
    .bind(bigint("broadcast_block", block)?)
    .fetch_optional(&mut *tx)
    .await?;
    let unknown = || JournalError::Conflict(format!("mark_broadcasts: there is no attempt {attempt}"));
    let transaction = TransactionId(transaction.ok_or_else(unknown)?);
    if matches!(outcome, BroadcastOutcome::Rejected(_)) {
        return Ok(());
    }
    sqlx::query(
        "-- mark_broadcast\n\
         UPDATE transactions SET status = 'sent', updated_at = now() WHERE id = $1 AND status = 'signed'",
    )
    .bind(transaction.0)
    .execute(&mut *tx)
    .await?;
    move_actions(tx, transaction, &["signed"], "sent", None, Some(block)).await
}

/// Writes the receipt's columns and answers the attempt's kind.
async fn store_receipt(
    tx: &mut PgConnection,
    transaction: TransactionId,
    attempt: AttemptId,
    receipt: &IncludedReceipt,
) -> TxResult<String> {
    let kind: Option<String> = sqlx::query_scalar(
        "-- store_receipt\n\
         UPDATE attempts SET included_block = $3, included_hash = $4, included_parent_hash = $5, \
         included_timestamp = $6, included_at = now(), success = $7, gas_used = $8, effective_gas_price = $9, \
         revert_reason = $10 \
         WHERE id = $1 AND transaction_id = $2 RETURNING kind",
    )
    .bind(attempt.0)
    .bind(transaction.0)
    .bind(bigint("included_block", receipt.block.number)?)
    .bind(receipt.block.hash.as_slice())
    .bind(receipt.block.parent_hash.as_slice())
    .bind(bigint("included_timestamp", receipt.block.timestamp)?)
    .bind(receipt.success)
    .bind(bigint("gas_used", receipt.gas_used)?)
    .bind(numeric_wei(receipt.effective_gas_price))
    .bind(receipt.revert_reason.as_deref().map(text))
    .fetch_optional(tx)
    .await?;
    kind.ok_or_else(|| {
        JournalError::Conflict(format!("mark_included: attempt {attempt} is not one of transaction {transaction}"))
            .into()
    })
}

async fn insert_effects(tx: &mut PgConnection, transaction: TransactionId, effects: &[Effect]) -> TxResult<()> {
    if effects.is_empty() {
        return Ok(());
    }
    let mut tiers = Vec::with_capacity(effects.len());
    let mut amounts = Vec::with_capacity(effects.len());
    let mut values = Vec::with_capacity(effects.len());
    for effect in effects {
        let (tier, absorbed) = effect.absorbed();
        tiers.push(tier.as_str());
        amounts.push(numeric(absorbed));
        values.push(json("effect", effect)?);
    }
    sqlx::query(
        "-- insert_effects\n\
         INSERT INTO effects (transaction_id, position, tier, absorbed, effect) \
         SELECT $1, e.position - 1, e.tier, e.absorbed, e.effect \
         FROM UNNEST($2::text[], $3::numeric[], $4::jsonb[]) WITH ORDINALITY AS e (tier, absorbed, effect, position)",
    )
    .bind(transaction.0)
    .bind(&tiers)
    .bind(&amounts)
    .bind(&values)
    .execute(tx)
    .await?;
    Ok(())
}

pub(super) async fn insert_attempt(
    tx: &mut PgConnection,
    transaction: TransactionId,
    attempt: &NewAttempt,
    kind: &'static str,
) -> TxResult<AttemptId> {
    let id: i64 = sqlx::query_scalar(
        "-- insert_attempt\n\
         INSERT INTO attempts (transaction_id, kind, hash, raw, gas_limit, max_fee_per_gas, \
         max_priority_fee_per_gas, signed_block) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id",
    )
    .bind(transaction.0)
    .bind(kind)
    .bind(attempt.hash.as_slice())
    .bind(attempt.raw.as_ref())
    .bind(bigint("gas_limit", attempt.gas_limit)?)
    .bind(numeric_wei(attempt.max_fee_per_gas))
    .bind(numeric_wei(attempt.max_priority_fee_per_gas))
    .bind(bigint("signed_block", attempt.block)?)
    .fetch_one(tx)
    .await?;
    Ok(AttemptId(id))
}

/// The attempts of these transactions, oldest first, each with the block it is included in.
pub(super) async fn stored_attempts(
    tx: &mut PgConnection,
    transactions: &[i64],
) -> TxResult<BTreeMap<i64, Vec<(StoredAttempt, Option<BlockRef>)>>> {
    let rows = sqlx::query(
        "-- stored_attempts\n\
         SELECT transaction_id, id, kind, hash, raw, gas_limit, max_fee_per_gas, max_priority_fee_per_gas, \
         signed_block, broadcast, broadcast_detail, included_block, included_hash, included_parent_hash, \
         included_timestamp \
         FROM attempts WHERE transaction_id = ANY($1) ORDER BY id",
    )
    .bind(transactions)
    .fetch_all(tx)
    .await?;
    let mut by_transaction: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    for row in &rows {
        by_transaction.entry(row.try_get("transaction_id")?).or_default().push((stored(row)?, included_block(row)?));
    }
    Ok(by_transaction)
}

fn stored(row: &PgRow) -> TxResult<StoredAttempt> {
    let kind = match row.try_get("kind")? {
        "first" => None,
        "replace" => Some(AttemptKind::Replace),
        "cancel" => Some(AttemptKind::Cancel),
        other => return Err(JournalError::corrupt("attempt kind", other).into()),
    };
    Ok(StoredAttempt {
        id: AttemptId(row.try_get("id")?),
        kind,
        hash: hash("hash", row.try_get("hash")?)?,
        raw: row.try_get::<Vec<u8>, _>("raw")?.into(),
        gas_limit: number("gas_limit", row.try_get("gas_limit")?)?,
        max_fee_per_gas: wei("max_fee_per_gas", &row.try_get("max_fee_per_gas")?)?,
        max_priority_fee_per_gas: wei("max_priority_fee_per_gas", &row.try_get("max_priority_fee_per_gas")?)?,
        signed_block: number("signed_block", row.try_get("signed_block")?)?,
        broadcast: BroadcastOutcome::from_columns(row.try_get("broadcast")?, row.try_get("broadcast_detail")?)?,
    })
}

/// The block an attempt is included in, if it is.
pub(super) fn included_block(row: &PgRow) -> TxResult<Option<BlockRef>> {
    let Some(block) = row.try_get::<Option<i64>, _>("included_block")? else { return Ok(None) };
    let (hash, parent) = (row.try_get("included_hash")?, row.try_get("included_parent_hash")?);
    Ok(Some(block_ref(block, hash, parent, row.try_get("included_timestamp")?)?))
}
