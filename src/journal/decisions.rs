//! Plans with what they were made from, for making them again.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    EpisodeId, Journal, PlanId, Result,
    actions::deployment_name,
    error::TxResult,
    session::in_tx,
    status::tier,
    values::{amount, from_json, narrow, number, parse_json, unit_key},
};
use crate::{
    recovery::{Decision, Ledger, Step},
    types::{DeploymentName, SegmentId},
};

/// A plan as it was written.
#[derive(Clone, Debug)]
pub struct KeptPlan {
    /// Which.
    pub id: PlanId,
    /// Whose.
    pub deployment: DeploymentName,
    /// The segment it repaired.
    pub segment: SegmentId,
    /// The height it was made from.
    pub block: u64,
    /// When it was written.
    pub created_at: DateTime<Utc>,
    /// What it was made from; `None` where that was not kept.
    pub decision: Option<Decision>,
    /// Its steps, in order.
    pub steps: Vec<Step>,
    /// Its ledger.
    pub ledger: Ledger,
    /// What it left undone.
    pub notes: Vec<String>,
}

impl Journal {
    /// The plans of an episode, in the order in which they were made.
    pub async fn kept_plans(&self, episode: EpisodeId) -> Result<Vec<KeptPlan>> {
        in_tx!(self, "kept_plans", |tx| {
            let rows = sqlx::query(
                "-- kept_plans\n\
                 SELECT p.id, d.name, p.segment_id, p.block_number, p.created_at, p.decision, p.ledger, p.notes \
                 FROM plans p JOIN deployments d ON d.id = p.deployment_id WHERE p.episode_id = $1 ORDER BY p.id",
            )
            .bind(episode.0)
            .fetch_all(&mut *tx)
            .await?;
            let mut plans = Vec::with_capacity(rows.len());
            for row in rows {
                let id = PlanId(row.try_get("id")?);
                let steps = steps(tx, id).await?;
                plans.push(kept(&row, id, steps)?);
            }
            Ok(plans)
        })
    }
}

async fn steps(tx: &mut PgConnection, plan: PlanId) -> TxResult<Vec<Step>> {
    let rows = sqlx::query(
        "-- kept_plans\n\
         SELECT tier, unit_key, step, absorbs, why FROM actions WHERE plan_id = $1 ORDER BY step_no",
    )
    .bind(plan.0)
    .fetch_all(tx)
    .await?;
    let step = |row: &PgRow| {
        Ok(Step {
            tier: tier(row.try_get("tier")?)?,
            unit: row.try_get::<Option<Vec<u8>>, _>("unit_key")?.map(unit_key).transpose()?,
            action: from_json("step", row.try_get("step")?)?,
            absorbs: amount("absorbs", &row.try_get("absorbs")?)?,
            why: row.try_get("why")?,
        })
    };
    rows.iter().map(step).collect()
}

fn kept(row: &PgRow, id: PlanId, steps: Vec<Step>) -> TxResult<KeptPlan> {
    let decision: Option<&str> = row.try_get("decision")?;
    Ok(KeptPlan {
        id,
        deployment: deployment_name(row.try_get("name")?)?,
        segment: SegmentId(narrow("segment_id", row.try_get("segment_id")?)?),
        block: number("block_number", row.try_get("block_number")?)?,
        created_at: row.try_get("created_at")?,
        decision: decision.map(|decision| parse_json("decision", decision)).transpose()?,
        steps,
        ledger: from_json("ledger", row.try_get("ledger")?)?,
        notes: row.try_get("notes")?,
    })
}
