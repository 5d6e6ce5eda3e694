//! One unit's story: how it stood, what was decided about it, and what was sent.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    ActionEvent, ActionRow, DeploymentId, FindingRow, Journal, Result,
    actions::{ACTION_COLUMNS, action_row},
    attempts::{BroadcastOutcome, included_block},
    error::TxResult,
    events::events_of,
    findings::findings_of,
    session::in_tx,
    values::{hash, number, wei},
};
use crate::types::{B256, UnitKey};

/// Everything the journal has on one unit, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnitHistory {
    /// Its changes of condition.
    pub findings: Vec<FindingRow>,
    /// What was decided about it.
    pub actions: Vec<ActionHistory>,
}

/// An action with its moves and every attempt of its transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionHistory {
    /// The action.
    pub action: ActionRow,
    /// Oldest first; those of months that are forgotten are not there.
    pub events: Vec<ActionEvent>,
    /// Oldest first.
    pub attempts: Vec<AttemptRow>,
}

/// An attempt, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptRow {
    /// `first`, `replace` or `cancel`.
    pub kind: String,
    /// Its hash.
    pub hash: B256,
    /// Wei per gas at most.
    pub max_fee_per_gas: u128,
    /// The head when it was signed.
    pub signed_block: u64,
    /// When it was signed, by the database's clock.
    pub signed_at: DateTime<Utc>,
    /// What the node said last, for people.
    pub broadcast: Option<String>,
    /// Where it was mined.
    pub included_block: Option<u64>,
    /// Whether it succeeded there.
    pub success: Option<bool>,
    /// Gas it used there.
    pub gas_used: Option<u64>,
    /// Why it failed there.
    pub revert_reason: Option<String>,
}

impl Journal {
    /// A unit's story: at most `limit` findings and `limit` actions.
    pub async fn unit_history(&self, deployment: DeploymentId, unit: &UnitKey, limit: u32) -> Result<UnitHistory> {
        let query = format!(
            "-- unit_history\n{ACTION_COLUMNS} WHERE a.deployment_id = $1 AND a.unit_key = $2 ORDER BY a.id DESC LIMIT $3"
        );
        in_tx!(self, "unit_history", |tx| {
            let findings = findings_of(tx, deployment, unit, limit).await?;
            let rows = sqlx::query(sqlx::AssertSqlSafe(query.as_str()))
                .bind(deployment.0)
                .bind(unit.as_bytes())
                .bind(i64::from(limit))
                .fetch_all(&mut *tx)
                .await?;
            let carriers: Vec<Option<i64>> =
                rows.iter().map(|row| row.try_get("transaction_id")).collect::<sqlx::Result<_>>()?;
            let attempts = attempt_rows(tx, &carriers.iter().copied().flatten().collect::<Vec<_>>()).await?;
            let ids: Vec<i64> = rows.iter().map(|row| row.try_get("id")).collect::<sqlx::Result<_>>()?;
            let mut events: BTreeMap<i64, Vec<ActionEvent>> = BTreeMap::new();
            for event in events_of(tx, &ids).await? {
                events.entry(event.action.0).or_default().push(event);
            }
            let actions = rows.iter().zip(ids).zip(carriers).map(|((row, id), carrier)| {
                let attempts = carrier.and_then(|id| attempts.get(&id)).cloned().unwrap_or_default();
                let events = events.remove(&id).unwrap_or_default();
                Ok(ActionHistory { action: action_row(row)?, events, attempts })
            });
            Ok(UnitHistory { findings, actions: actions.collect::<TxResult<_>>()? })
        })
    }
}

async fn attempt_rows(tx: &mut PgConnection, transactions: &[i64]) -> TxResult<BTreeMap<i64, Vec<AttemptRow>>> {
    let rows = sqlx::query(
        "-- attempt_rows\n\
         SELECT transaction_id, kind, hash, max_fee_per_gas, signed_block, signed_at, broadcast, broadcast_detail, \
         included_block, included_hash, included_parent_hash, included_timestamp, success, gas_used, revert_reason \
         FROM attempts WHERE transaction_id = ANY($1) ORDER BY id",
    )
    .bind(transactions)
    .fetch_all(tx)
    .await?;
    let mut by_transaction: BTreeMap<i64, Vec<AttemptRow>> = BTreeMap::new();
    for row in &rows {
        by_transaction.entry(row.try_get("transaction_id")?).or_default().push(attempt_row(row)?);
    }
    Ok(by_transaction)
}

fn attempt_row(row: &PgRow) -> TxResult<AttemptRow> {
    let broadcast = BroadcastOutcome::from_columns(row.try_get("broadcast")?, row.try_get("broadcast_detail")?)?;
    let gas_used: Option<i64> = row.try_get("gas_used")?;
    Ok(AttemptRow {
        kind: row.try_get("kind")?,
        hash: hash("hash", row.try_get("hash")?)?,
        max_fee_per_gas: wei("max_fee_per_gas", &row.try_get("max_fee_per_gas")?)?,
        signed_block: number("signed_block", row.try_get("signed_block")?)?,
        signed_at: row.try_get("signed_at")?,
        broadcast: broadcast.map(|outcome| outcome.to_string()),
        included_block: included_block(row)?.map(|block| block.number),
        success: row.try_get("success")?,
        gas_used: gas_used.map(|gas| number("gas_used", gas)).transpose()?,
        revert_reason: row.try_get("revert_reason")?,
    })
}
