//! Actions: their status until a transaction carries them, and the journal as a list.

use sqlx::{Row, postgres::PgRow};

use super::{
    ActionId, ActionStatus, DeploymentId, Journal, JournalError, PlanId, Result,
    ahead::enter,
    error::TxResult,
    session::in_tx,
    status::tier,
    transactions::action_ids,
    values::{amount, bigint, hash, narrow, number, text, unit_key},
};
use crate::{
    recovery::Tier,
    types::{B256, DeploymentName, SegmentId, U256, UnitKey},
};

/// Which actions to list; what is `None` does not restrict.
#[derive(Clone, Debug, Default)]
pub struct ActionFilter {
    /// Of this deployment.
    pub deployment: Option<DeploymentName>,
    /// Of this unit.
    pub unit: Option<UnitKey>,
    /// Of plans made from this block or a later one.
    pub since_block: Option<u64>,
    /// In this status.
    pub status: Option<ActionStatus>,
    /// At most this many, the newest.
    pub limit: u32,
}

/// An action with its plan and its transaction, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ActionRow {
    /// Which.
    pub id: ActionId,
    /// Its plan.
    pub plan: PlanId,
    /// Whose.
    pub deployment: DeploymentName,
    /// In which segment.
    pub segment: SegmentId,
    /// Its place in the plan, from 0.
    pub step: u32,
    /// Steps of one group go out as one transaction.
    pub group: u32,
    /// Its tier.
    pub tier: Tier,
    /// Whose loss it deals with; `None` for a parameter change.
    pub unit: Option<UnitKey>,
    /// What it was planned to absorb, settlement-token units.
    pub absorbs: U256,
    /// Why this step.
    pub why: String,
    /// What it does, as planned.
    pub action: serde_json::Value,
    /// Whether it was only ever to be looked at.
    pub dry_run: bool,
    /// How far it is.
    pub status: ActionStatus,
    /// Why it is no further.
    pub reason: Option<String>,
    /// The block its plan was made from.
    pub planned_block: u64,
    /// The head at its last change of status, or the block it was mined in.
    pub status_block: u64,
    /// The signer's nonce.
    pub nonce: Option<u64>,
    /// The included attempt, else the latest one.
    pub tx_hash: Option<B256>,
    /// Where it was mined.
    pub tx_block: Option<u64>,
    /// When it was written, by the database's clock.
    pub created_at: chrono::DateTime<chrono::Utc>,
    /// When it last changed, by the database's clock.
    pub updated_at: chrono::DateTime<chrono::Utc>,
}

/// What every listing of actions selects; `t`, `i` and `l` are the transaction, its included and its latest attempt.
pub(super) const ACTION_COLUMNS: &str = "\
    SELECT a.id, a.plan_id, d.name, p.segment_id, a.step_no, a.group_no, a.tier, a.unit_key, a.absorbs, a.why, \
    a.step, a.dry_run, a.status, a.reason, p.block_number, a.status_block, a.transaction_id, t.nonce, \
    COALESCE(i.hash, l.hash) AS tx_hash, i.included_block, a.created_at, a.updated_at \
    FROM actions a \
    JOIN plans p ON p.id = a.plan_id \
    JOIN deployments d ON d.id = a.deployment_id \
    LEFT JOIN transactions t ON t.id = a.transaction_id \
    LEFT JOIN attempts i ON i.transaction_id = t.id AND i.included_hash IS NOT NULL \
    LEFT JOIN LATERAL (SELECT hash FROM attempts WHERE transaction_id = t.id ORDER BY id DESC LIMIT 1) l ON true";

impl Journal {
    /// Moves actions that no transaction carries: to simulated, rejected or abandoned. The other steps of their groups
    /// move with them, since a group is one call. An action already there stays as it is. Conflict, and nothing moved,
    /// where any of them is not where the move may start, or the status follows a transaction.
    pub async fn set_action_status(
        &self,
        ids: &[ActionId],
        status: ActionStatus,
        reason: Option<&str>,
        block: u64,
    ) -> Result<()> {
        let from = status.settable_from();
        if from.is_empty() {
            return Err(JournalError::Conflict(format!("set_action_status: {status} follows a transaction")));
        }
        let block = bigint("status_block", block)?;
        let reason = reason.map(text);
        in_tx!(self, "set_action_status", |tx| {
            let rows = sqlx::query(
                "-- set_action_status\n\
                 SELECT id, status, (transaction_id IS NOT NULL) AS carried FROM actions \
                 WHERE (plan_id, group_no) IN (SELECT plan_id, group_no FROM actions WHERE id = ANY($1)) \
                 ORDER BY id FOR UPDATE",
            )
            .bind(action_ids(ids))
            .fetch_all(&mut *tx)
            .await?;
            let mut moved = Vec::with_capacity(rows.len());
            let mut found = Vec::with_capacity(rows.len());
            for row in &rows {
                let (id, now): (i64, &str) = (row.try_get("id")?, row.try_get("status")?);
                found.push(ActionId(id));
                if from.contains(&now) {
                    moved.push(id);
                } else if now != status.as_str() || row.try_get("carried")? {
                    let refusal = format!("set_action_status: action {id} is {now}, not to become {status}");
                    return Err(JournalError::Conflict(refusal).into());
                }
            }
            if let Some(missing) = ids.iter().find(|id| !found.contains(id)) {
                return Err(JournalError::Conflict(format!("set_action_status: there is no action {missing}")).into());
            }
            sqlx::query(
                "-- set_action_status\n\
                 UPDATE actions SET status = $2, reason = COALESCE($3, reason), status_block = $4, updated_at = now() \
                 WHERE id = ANY($1)",
            )
            .bind(&moved)
            .bind(status.as_str())
            .bind(&reason)
            .bind(block)
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }

    /// Abandons every action of the deployment that is planned or simulated, and answers how many: for a start, where
    /// whoever planned them is gone and their subjects would stay claimed for ever. What was written ahead is signed, and is
    /// entered first.
    pub async fn abandon_unsigned(&self, deployment: DeploymentId, reason: &str, block: u64) -> Result<u64> {
        let block = bigint("status_block", block)?;
        let reason = text(reason);
        in_tx!(self, "abandon_unsigned", |tx| {
            enter(tx, deployment).await?;
            let done = sqlx::query(
                "-- abandon_unsigned\n\
                 UPDATE actions SET status = 'abandoned', reason = $2, status_block = $3, updated_at = now() \
                 WHERE deployment_id = $1 AND status IN ('planned', 'simulated')",
            )
            .bind(deployment.0)
            .bind(&reason)
            .bind(block)
            .execute(&mut *tx)
            .await?;
            Ok(done.rows_affected())
        })
    }

    /// Actions, newest first.
    pub async fn list_actions(&self, filter: &ActionFilter) -> Result<Vec<ActionRow>> {
        let since_block = filter.since_block.map(|block| bigint("since_block", block)).transpose()?;
        let query = format!(
            "-- list_actions\n{ACTION_COLUMNS} \
             WHERE ($1::text IS NULL OR d.name = $1) AND ($2::bytea IS NULL OR a.unit_key = $2) \
             AND ($3::bigint IS NULL OR p.block_number >= $3) AND ($4::text IS NULL OR a.status = $4) \
             ORDER BY a.id DESC LIMIT $5"
        );
        in_tx!(self, "list_actions", |tx| {
            let rows = sqlx::query(sqlx::AssertSqlSafe(query.as_str()))
                .bind(filter.deployment.as_ref().map(DeploymentName::as_str))
                .bind(filter.unit.as_ref().map(UnitKey::as_bytes))
                .bind(since_block)
                .bind(filter.status.map(ActionStatus::as_str))
                .bind(i64::from(filter.limit))
                .fetch_all(&mut *tx)
                .await?;
            rows.iter().map(action_row).collect()
        })
    }
}

/// A row of [`ACTION_COLUMNS`].
pub(super) fn action_row(row: &PgRow) -> TxResult<ActionRow> {
    let optional = |what, column: Option<i64>| column.map(|stored| number(what, stored)).transpose();
    Ok(ActionRow {
        id: ActionId(row.try_get("id")?),
        plan: PlanId(row.try_get("plan_id")?),
        deployment: deployment_name(row.try_get("name")?)?,
        segment: SegmentId(narrow("segment_id", row.try_get("segment_id")?)?),
        step: narrow("step_no", row.try_get::<i32, _>("step_no")?.into())?,
        group: narrow("group_no", row.try_get::<i32, _>("group_no")?.into())?,
        tier: tier(row.try_get("tier")?)?,
        unit: row.try_get::<Option<Vec<u8>>, _>("unit_key")?.map(unit_key).transpose()?,
        absorbs: amount("absorbs", &row.try_get("absorbs")?)?,
        why: row.try_get("why")?,
        action: row.try_get("step")?,
        dry_run: row.try_get("dry_run")?,
        status: row.try_get::<&str, _>("status")?.parse()?,
        reason: row.try_get("reason")?,
        planned_block: number("block_number", row.try_get("block_number")?)?,
        status_block: number("status_block", row.try_get("status_block")?)?,
        nonce: optional("nonce", row.try_get("nonce")?)?,
        tx_hash: row.try_get::<Option<&[u8]>, _>("tx_hash")?.map(|stored| hash("tx_hash", stored)).transpose()?,
        tx_block: optional("included_block", row.try_get("included_block")?)?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

pub(super) fn deployment_name(stored: &str) -> Result<DeploymentName> {
    stored.parse().map_err(|error| JournalError::corrupt("deployment name", error))
}
