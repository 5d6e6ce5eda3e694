//! The account of an episode: who lost what, for whom, when and why; from the logs of mined transactions, not from plans.

use std::collections::{BTreeMap, BTreeSet};

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    DeploymentId, EpisodeId, Journal, PlanId, Result,
    actions::deployment_name,
    error::TxResult,
    session::in_tx,
    status::tier,
    values::{amount, bigint, hash, narrow, number, numeric, text},
};
use crate::{
    recovery::{Effect, Tier},
    types::{B256, BlockRef, DeploymentName, SegmentId, U256, UnitKey, decimal},
};

/// An episode, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpisodeRow {
    /// Which.
    pub id: EpisodeId,
    /// Whose.
    pub deployment: DeploymentName,
    /// Which segment.
    pub segment: SegmentId,
    /// What began it.
    pub why: String,
    /// Where it began.
    pub opened_block: u64,
    /// When that was written.
    pub opened_at: DateTime<Utc>,
    /// Where it ended; `None` while it is open.
    pub closed_block: Option<u64>,
    /// When that was written.
    pub closed_at: Option<DateTime<Utc>>,
    /// Plans made in it.
    pub plans: u64,
    /// What its last plan left to nobody.
    #[serde(with = "decimal")]
    pub residual: U256,
}

/// A plan of an episode, or a time at which none could be made that does anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// The plan; `None` for a refusal.
    pub plan: Option<PlanId>,
    /// The block it was made from.
    pub block: u64,
    /// The loss to be absorbed.
    #[serde(with = "decimal")]
    pub shortfall: U256,
    /// What its steps absorb.
    #[serde(with = "decimal")]
    pub absorbed: U256,
    /// What nobody could pay for then.
    #[serde(with = "decimal")]
    pub residual: U256,
    /// What was left undone and why.
    pub notes: Vec<String>,
}

/// A part of a loss that somebody bore, or got back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Burden {
    /// Through which tier.
    pub tier: Tier,
    /// Who bore it; `None`: the insurance fund. Of a restitution: who got it.
    pub bearer: Option<UnitKey>,
    /// For whom; `None` for a restitution.
    pub debtor: Option<UnitKey>,
    /// How much, in the segment's unit of account.
    #[serde(with = "decimal")]
    pub amount: U256,
    /// Where it was mined.
    pub block: u64,
    /// In which transaction.
    pub transaction: B256,
    /// Why, in the words of the plan.
    pub why: String,
}

/// The whole of an episode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EpisodeAccount {
    /// Which.
    pub episode: EpisodeRow,
    /// What was decided, in order.
    pub progress: Vec<Progress>,
    /// Who bore what, in the order of the chain.
    pub burdens: Vec<Burden>,
}

impl EpisodeAccount {
    /// What each tier took.
    pub fn by_tier(&self) -> BTreeMap<Tier, U256> {
        let mut sums = BTreeMap::new();
        for burden in &self.burdens {
            let sum: &mut U256 = sums.entry(burden.tier).or_default();
            *sum = sum.saturating_add(burden.amount);
        }
        sums
    }
}

const EPISODE_COLUMNS: &str = "\
    SELECT e.id, d.name, e.segment_id, e.why, e.opened_block, e.opened_at, e.closed_block, e.closed_at, \
    (SELECT COUNT(*) FROM plans p WHERE p.episode_id = e.id) AS plans, \
    COALESCE((SELECT p.residual FROM plans p WHERE p.episode_id = e.id ORDER BY p.id DESC LIMIT 1), 0) AS residual \
    FROM episodes e JOIN deployments d ON d.id = e.deployment_id";

const BURDEN_COLUMNS: &str = "\
    SELECT f.tier, f.effect, i.hash, i.included_block, \
    COALESCE((SELECT a.why FROM actions a WHERE a.transaction_id = t.id AND a.tier = f.tier ORDER BY a.step_no LIMIT 1), \
    '') AS why \
    FROM effects f JOIN transactions t ON t.id = f.transaction_id JOIN plans p ON p.id = t.plan_id \
    JOIN attempts i ON i.transaction_id = t.id AND i.included_hash IS NOT NULL";

impl Journal {
    /// Episodes, the newest first, at most `limit`; of one deployment, or only the open ones, where that is asked for.
    pub async fn list_episodes(
        &self,
        deployment: Option<&DeploymentName>,
        open_only: bool,
        limit: u32,
    ) -> Result<Vec<EpisodeRow>> {
        let query = format!(
            "-- list_episodes\n{EPISODE_COLUMNS} WHERE ($1::text IS NULL OR d.name = $1) \
             AND (NOT $2 OR e.closed_at IS NULL) ORDER BY e.id DESC LIMIT $3"
        );
        in_tx!(self, "list_episodes", |tx| {
            let rows = sqlx::query(sqlx::AssertSqlSafe(query.as_str()))
                .bind(deployment.map(DeploymentName::as_str))
                .bind(open_only)
                .bind(i64::from(limit))
                .fetch_all(tx)
                .await?;
            rows.iter().map(episode_row).collect()
        })
    }

    /// The whole of an episode; `None` if there is no such.
    pub async fn episode_account(&self, episode: EpisodeId) -> Result<Option<EpisodeAccount>> {
        let query = format!("-- episode_account\n{EPISODE_COLUMNS} WHERE e.id = $1");
        let burdens = format!(
            "-- episode_account\n{BURDEN_COLUMNS} WHERE p.episode_id = $1 ORDER BY i.included_block, t.nonce, f.position"
        );
        in_tx!(self, "episode_account", |tx| {
            let row = sqlx::query(sqlx::AssertSqlSafe(query.as_str())).bind(episode.0).fetch_optional(&mut *tx).await?;
            let Some(row) = row else { return Ok(None) };
            let episode_row = episode_row(&row)?;
            let progress = progress(tx, episode).await?;
            let rows = sqlx::query(sqlx::AssertSqlSafe(burdens.as_str())).bind(episode.0).fetch_all(tx).await?;
            let burdens = rows.iter().map(burden).collect::<TxResult<Vec<_>>>()?;
            let burdens = burdens.into_iter().flatten().collect();
            Ok(Some(EpisodeAccount { episode: episode_row, progress, burdens }))
        })
    }

    /// What is to be said of an episode when it closes: what each tier took, how many bore it, for how many.
    pub async fn episode_summary(&self, episode: EpisodeId) -> Result<serde_json::Value> {
        let account = self.episode_account(episode).await?;
        Ok(account.as_ref().map(summary).unwrap_or_default())
    }

    /// What a unit bore for others or got back, and what others bore for it, the newest first, at most `limit`.
    pub async fn unit_burdens(&self, deployment: DeploymentId, unit: &UnitKey, limit: u32) -> Result<Vec<Burden>> {
        let named = text(&unit.to_string());
        let query = format!(
            "-- unit_burdens\n{BURDEN_COLUMNS} WHERE t.deployment_id = $1 \
             AND $2 IN (f.effect->>'unit', f.effect->>'winner', f.effect->>'payer') \
             ORDER BY i.included_block DESC, t.nonce DESC, f.position DESC LIMIT $3"
        );
        in_tx!(self, "unit_burdens", |tx| {
            let rows = sqlx::query(sqlx::AssertSqlSafe(query.as_str()))
                .bind(deployment.0)
                .bind(&named)
                .bind(i64::from(limit))
                .fetch_all(tx)
                .await?;
            let burdens = rows.iter().map(burden).collect::<TxResult<Vec<_>>>()?;
            Ok(burdens.into_iter().flatten().collect())
        })
    }

    /// Writes down that no plan could be made that does anything, with what stays open and why.
    pub async fn record_refusal(
        &self,
        episode: EpisodeId,
        block: &BlockRef,
        residual: U256,
        reasons: &[String],
    ) -> Result<()> {
        let at = bigint("block_number", block.number)?;
        let reasons: Vec<_> = reasons.iter().map(|reason| text(reason)).collect();
        in_tx!(self, "record_refusal", |tx| {
            sqlx::query(
                "-- record_refusal\n\
                 INSERT INTO refusals (episode_id, block_number, block_hash, residual, reasons) \
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(episode.0)
            .bind(at)
            .bind(block.hash.as_slice())
            .bind(numeric(residual))
            .bind(&reasons)
            .execute(tx)
            .await?;
            Ok(())
        })
    }
}

fn episode_row(row: &PgRow) -> TxResult<EpisodeRow> {
    let closed_block: Option<i64> = row.try_get("closed_block")?;
    Ok(EpisodeRow {
        id: EpisodeId(row.try_get("id")?),
        deployment: deployment_name(row.try_get("name")?)?,
        segment: SegmentId(narrow("segment_id", row.try_get("segment_id")?)?),
        why: row.try_get("why")?,
        opened_block: number("opened_block", row.try_get("opened_block")?)?,
        opened_at: row.try_get("opened_at")?,
        closed_block: closed_block.map(|block| number("closed_block", block)).transpose()?,
        closed_at: row.try_get("closed_at")?,
        plans: number("plans", row.try_get("plans")?)?,
        residual: amount("residual", &row.try_get("residual")?)?,
    })
}

/// Plans and refusals, in the order they were written.
async fn progress(tx: &mut PgConnection, episode: EpisodeId) -> TxResult<Vec<Progress>> {
    let rows = sqlx::query(
        "-- episode_account\n\
         SELECT id, block_number, shortfall, absorbed, residual, notes, created_at FROM plans WHERE episode_id = $1 \
         UNION ALL \
         SELECT NULL, block_number, residual, 0, residual, reasons, created_at FROM refusals WHERE episode_id = $1 \
         ORDER BY created_at, id",
    )
    .bind(episode.0)
    .fetch_all(tx)
    .await?;
    rows.iter()
        .map(|row| {
            let plan: Option<i64> = row.try_get("id")?;
            let sum = |column: &'static str| -> TxResult<U256> {
                let stored: BigDecimal = row.try_get(column)?;
                Ok(amount(column, &stored)?)
            };
            Ok(Progress {
                plan: plan.map(PlanId),
                block: number("block_number", row.try_get("block_number")?)?,
                shortfall: sum("shortfall")?,
                absorbed: sum("absorbed")?,
                residual: sum("residual")?,
                notes: row.try_get("notes")?,
            })
        })
        .collect()
}

/// What an effect made somebody bear; `None` for one that moved no value of the segment's.
fn burden(row: &PgRow) -> TxResult<Option<Burden>> {
    let stored: serde_json::Value = row.try_get("effect")?;
    let effect: Effect =
        serde_json::from_value(stored).map_err(|error| super::JournalError::corrupt("effect", error))?;
    let (bearer, debtor, amount) = match effect {
        Effect::Liquidated { unit, loss, .. } => (Some(unit.clone()), Some(unit), loss),
        Effect::InsuranceDrawn { unit, amount } => (None, Some(unit), amount),
        Effect::Deleveraged { unit, winner, loss } => (Some(winner), Some(unit), loss),
        Effect::LossSocialised { unit, payer, amount } => (Some(payer), Some(unit), amount),
        Effect::BackstopDrawn { unit, amount, .. } => (None, Some(unit), amount),
        Effect::Restituted { unit, amount } => (Some(unit), None, amount),
        Effect::BackstopClaimed { .. }
        | Effect::Repaid { .. }
        | Effect::Seized { .. }
        | Effect::BadDebt { .. }
        | Effect::Covered { .. }
        | Effect::Staged { .. }
        | Effect::ParameterSet { .. } => return Ok(None),
    };
    Ok(Some(Burden {
        tier: tier(row.try_get("tier")?)?,
        bearer,
        debtor,
        amount,
        block: number("included_block", row.try_get("included_block")?)?,
        transaction: hash("hash", row.try_get("hash")?)?,
        why: row.try_get("why")?,
    }))
}

/// Who bore it, for how many, in how many plans.
fn summary(account: &EpisodeAccount) -> serde_json::Value {
    let by_tier: BTreeMap<&str, String> =
        account.by_tier().iter().map(|(tier, sum)| (tier.as_str(), sum.to_string())).collect();
    let bearers: BTreeSet<&UnitKey> = account.burdens.iter().filter_map(|burden| burden.bearer.as_ref()).collect();
    let debtors: BTreeSet<&UnitKey> = account.burdens.iter().filter_map(|burden| burden.debtor.as_ref()).collect();
    serde_json::json!({
        "absorbed": by_tier,
        "bearers": bearers.len(),
        "debtors": debtors.len(),
        "plans": account.episode.plans,
    })
}
