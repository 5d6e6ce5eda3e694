//! What became of actions, move by move: written by the database whenever an action is, never changed, kept by month.
//!
//! Invariants: an event is of the transaction that moved its action; no move waits for a partition, since what has no month of
//! its own has the default one.
//! Must not: write, change or delete a row. Old ones go with their partition (`retention.rs`).

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    ActionId, ActionStatus, DeploymentId, Journal, PlanId, Result, TransactionId,
    actions::deployment_name,
    error::TxResult,
    session::{in_statement, in_tx},
    status::tier,
    values::{number, unit_key},
};
use crate::{
    recovery::Tier,
    types::{DeploymentName, UnitKey},
};

/// One move of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionEvent {
    /// When, by the database's clock.
    pub occurred_at: DateTime<Utc>,
    /// Whose action.
    pub deployment: DeploymentName,
    /// Its plan, which has what it was decided from.
    pub plan: PlanId,
    /// Which action.
    pub action: ActionId,
    /// Its tier.
    pub tier: Tier,
    /// Whose loss it deals with; `None` for a parameter change.
    pub unit: Option<UnitKey>,
    /// Where it stood; `None` for one that was just planned.
    pub before: Option<ActionStatus>,
    /// Where it stands.
    pub status: ActionStatus,
    /// The head at that time, or the block it was mined in.
    pub block: u64,
    /// Why: of its plan, as long as nothing else is known.
    pub why: String,
    /// What carries it.
    pub transaction: Option<TransactionId>,
}

/// Which events to list; what is `None` does not restrict.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventFilter {
    /// Of this deployment.
    pub deployment: Option<DeploymentId>,
    /// From this moment on.
    pub since: Option<DateTime<Utc>>,
    /// Before this moment.
    pub until: Option<DateTime<Utc>>,
    /// At most this many, the newest.
    pub limit: u32,
}

const EVENT_COLUMNS: &str = "\
    SELECT e.occurred_at, d.name, e.plan_id, e.action_id, a.tier, a.unit_key, e.status_before, e.status, e.status_block, \
    COALESCE(e.reason, a.why) AS why, e.transaction_id \
    FROM action_events e JOIN actions a ON a.id = e.action_id JOIN deployments d ON d.id = e.deployment_id";

impl Journal {
    /// What happened, in its order.
    pub async fn action_events(&self, filter: &EventFilter) -> Result<Vec<ActionEvent>> {
        let query = format!(
            "-- action_events\n{EVENT_COLUMNS} \
             WHERE ($1::bigint IS NULL OR e.deployment_id = $1) \
             AND e.occurred_at >= COALESCE($2, '-infinity') AND e.occurred_at < COALESCE($3, 'infinity') \
             ORDER BY e.occurred_at DESC, e.id DESC LIMIT $4"
        );
        in_statement!(self, "action_events", |connection| {
            let rows = sqlx::query(sqlx::AssertSqlSafe(query.as_str()))
                .bind(filter.deployment.map(|deployment| deployment.0))
                .bind(filter.since)
                .bind(filter.until)
                .bind(i64::from(filter.limit))
                .fetch_all(connection)
                .await?;
            rows.iter().rev().map(event).collect()
        })
    }

    /// Makes the partitions of this month and the next, where they are not there; how many it made. A month whose events
    /// went to the default partition stays there.
    pub async fn prepare_months(&self) -> Result<usize> {
        in_tx!(self, "prepare_months", |tx| {
            // Replicas that start together take turns.
            sqlx::query("-- prepare_months\nSELECT pg_advisory_xact_lock('action_events'::regclass::oid::bigint)")
                .execute(&mut *tx)
                .await?;
            // The driver's sessions are at UTC, and so are months.
            let missing: Vec<String> = sqlx::query_scalar(
                "-- prepare_months\n\
                 WITH month AS (SELECT date_trunc('month', now()) + make_interval(months => ahead) AS first \
                 FROM generate_series(0, 1) AS ahead), \
                 partition AS (SELECT first, 'action_events_' || to_char(first, 'YYYY_MM') AS name FROM month) \
                 SELECT format('CREATE TABLE %I PARTITION OF action_events FOR VALUES FROM (%L) TO (%L)', name, \
                 first, first + interval '1 month') FROM partition \
                 WHERE to_regclass(name) IS NULL AND NOT EXISTS (SELECT 1 FROM action_events_default \
                 WHERE occurred_at >= first AND occurred_at < first + interval '1 month')",
            )
            .fetch_all(&mut *tx)
            .await?;
            for create in &missing {
                sqlx::query(sqlx::AssertSqlSafe(create.as_str())).execute(&mut *tx).await?;
            }
            Ok(missing.len())
        })
    }
}

/// The moves of these actions, in their order.
pub(super) async fn events_of(tx: &mut PgConnection, actions: &[i64]) -> TxResult<Vec<ActionEvent>> {
    let query = format!("-- events_of\n{EVENT_COLUMNS} WHERE e.action_id = ANY($1) ORDER BY e.id");
    let rows = sqlx::query(sqlx::AssertSqlSafe(query)).bind(actions).fetch_all(tx).await?;
    rows.iter().map(event).collect()
}

fn event(row: &PgRow) -> TxResult<ActionEvent> {
    Ok(ActionEvent {
        occurred_at: row.try_get("occurred_at")?,
        deployment: deployment_name(row.try_get("name")?)?,
        plan: PlanId(row.try_get("plan_id")?),
        action: ActionId(row.try_get("action_id")?),
        tier: tier(row.try_get("tier")?)?,
        unit: row.try_get::<Option<Vec<u8>>, _>("unit_key")?.map(unit_key).transpose()?,
        before: row.try_get::<Option<&str>, _>("status_before")?.map(str::parse).transpose()?,
        status: row.try_get::<&str, _>("status")?.parse()?,
        block: number("status_block", row.try_get("status_block")?)?,
        why: row.try_get("why")?,
        transaction: row.try_get::<Option<i64>, _>("transaction_id")?.map(TransactionId),
    })
}
