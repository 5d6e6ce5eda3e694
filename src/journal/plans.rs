//! Plans and the actions they are made of: written whole before anything is simulated or signed.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::{
    ActionId, DeploymentId, EpisodeId, Journal, JournalError, PlanId, Result,
    error::TxResult,
    session::in_tx,
    status::tier,
    values::{amount, bigint, json, number, numeric, text},
};
use crate::{
    recovery::{Action, BalancedPlan, Decision, Ledger, Step, Tier, TierUse},
    types::{BlockRef, SegmentId, U256},
};

/// A segment of more units than this is too much to write down with every plan.
const DECISION_UNITS_MAX: usize = 20_000;

/// A plan as it is stored.
pub(super) struct PlanContent<'p> {
    pub(super) segment: SegmentId,
    pub(super) block: &'p BlockRef,
    pub(super) steps: &'p [Step],
    pub(super) ledger: &'p Ledger,
    pub(super) notes: &'p [String],
    pub(super) decision: Option<&'p Decision>,
    /// Wei, by step; none where no budget is involved.
    pub(super) outlays: &'p [U256],
}

impl Journal {
    /// Writes a plan and one planned action per step, in order, and answers their ids in that order.
    ///
    /// Adjacent steps of one subject (the unit, or the market of a parameter change) form a group, which goes out as
    /// one transaction. Conflict, and nothing written, where a subject already has an open group, where the episode is
    /// not an open one of this deployment and segment, or where the ledger does not balance.
    pub async fn insert_plan(
        &self,
        deployment: DeploymentId,
        episode: EpisodeId,
        plan: &BalancedPlan,
        dry_run: bool,
    ) -> Result<(PlanId, Vec<ActionId>)> {
        let (block, steps, ledger) = (plan.block(), plan.steps(), plan.ledger());
        let content = PlanContent {
            segment: plan.segment(),
            block,
            steps,
            ledger,
            notes: plan.notes(),
            decision: plan.decision(),
            outlays: plan.outlays(),
        };
        self.insert_plan_content(deployment, episode, &content, dry_run).await
    }

    /// Net outlay of the actions that were signed since, wei: what the budget has paid. An action that came to nothing
    /// after it was signed counts too, since it may yet be mined.
    pub async fn outlay_wei_since(&self, deployment: DeploymentId, since: DateTime<Utc>) -> Result<U256> {
        in_tx!(self, "outlay_wei_since", |tx| {
            let outlay: BigDecimal = sqlx::query_scalar(
                "-- outlay_wei_since\n\
                 SELECT COALESCE(SUM(outlay_wei), 0) FROM actions \
                 WHERE deployment_id = $1 AND outlay_wei > 0 AND transaction_id IS NOT NULL AND created_at >= $2",
            )
            .bind(deployment.0)
            .bind(since)
            .fetch_one(tx)
            .await?;
            Ok(amount("outlay_wei", &outlay)?)
        })
    }

    /// What earlier plans took through each tier of a segment, for limits: plans of the open episode, if one is given,
    /// and of the last `cooldown_blocks` before `block`. Counted is what was signed and not refused by the chain since.
    pub async fn tier_use(
        &self,
        deployment: DeploymentId,
        segment: SegmentId,
        episode: Option<EpisodeId>,
        block: u64,
        cooldown_blocks: u64,
    ) -> Result<BTreeMap<Tier, TierUse>> {
        let (at, since) = (bigint("block", block)?, bigint("block", block.saturating_sub(cooldown_blocks))?);
        in_tx!(self, "tier_use", |tx| {
            let rows = sqlx::query(
                "-- tier_use\n\
                 SELECT a.tier, COALESCE(SUM(a.absorbs) FILTER (WHERE p.episode_id = $3), 0) AS in_episode, \
                 COALESCE(SUM(a.absorbs) FILTER (WHERE p.block_number = $4), 0) AS in_block, \
                 MAX(p.block_number) AS last_block \
                 FROM plans p JOIN actions a ON a.plan_id = p.id \
                 WHERE p.deployment_id = $1 AND p.segment_id = $2 AND (p.episode_id = $3 OR p.block_number >= $5) \
                 AND a.status IN ('signed', 'sent', 'replaced', 'included', 'final') GROUP BY a.tier",
            )
            .bind(deployment.0)
            .bind(i64::from(segment.0))
            .bind(episode.map(|episode| episode.0))
            .bind(at)
            .bind(since)
            .fetch_all(tx)
            .await?;
            rows.iter()
                .map(|row| {
                    let used = TierUse {
                        in_episode: amount("in_episode", &row.try_get("in_episode")?)?,
                        in_block: amount("in_block", &row.try_get("in_block")?)?,
                        last_block: Some(number("last_block", row.try_get("last_block")?)?),
                    };
                    Ok((tier(row.try_get("tier")?)?, used))
                })
                .collect()
        })
    }

    pub(super) async fn insert_plan_content(
        &self,
        deployment: DeploymentId,
        episode: EpisodeId,
        plan: &PlanContent<'_>,
        dry_run: bool,
    ) -> Result<(PlanId, Vec<ActionId>)> {
        let absorbed = absorbed_total(plan.ledger)?;
        let ledger = json("ledger", plan.ledger)?;
        let block_number = bigint("block_number", plan.block.number)?;
        let notes: Vec<_> = plan.notes.iter().map(|note| text(note)).collect();
        let decision = plan.decision.filter(|decision| is_kept(decision));
        let decision = decision.map(|decision| json("decision", decision)).transpose()?;
        let columns = ActionColumns::of(plan.segment, plan.steps, plan.outlays)?;
        in_tx!(self, "insert_plan", |tx| {
            self.check_fence(tx).await?;
            let plan_id: Option<i64> = sqlx::query_scalar(
                "-- insert_plan\n\
                 INSERT INTO plans (deployment_id, episode_id, segment_id, block_number, block_hash, shortfall, \
                 absorbed, residual, ledger, dry_run, notes, decision) \
                 SELECT $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12 FROM episodes \
                 WHERE id = $2 AND deployment_id = $1 AND segment_id = $3 AND closed_at IS NULL \
                 RETURNING id",
            )
            .bind(deployment.0)
            .bind(episode.0)
            .bind(i64::from(plan.segment.0))
            .bind(block_number)
            .bind(plan.block.hash.as_slice())
            .bind(numeric(plan.ledger.shortfall))
            .bind(numeric(absorbed))
            .bind(numeric(plan.ledger.residual))
            .bind(&ledger)
            .bind(dry_run)
            .bind(&notes)
            .bind(&decision)
            .fetch_optional(&mut *tx)
            .await?;
            let plan_id = plan_id.ok_or_else(|| {
                JournalError::Conflict(format!(
                    "insert_plan: episode {episode} is not open for segment {}",
                    plan.segment
                ))
            })?;
            let ids = columns.insert(tx, deployment, PlanId(plan_id), dry_run, block_number).await?;
            Ok((PlanId(plan_id), ids))
        })
    }
}

/// Whether a decision is small enough to be written with every plan.
fn is_kept(decision: &Decision) -> bool {
    let case = &decision.case;
    case.solvent.len() + case.distressed.len() <= DECISION_UNITS_MAX
}

/// Sum over the tiers; a sum that does not fit cannot balance.
fn absorbed_total(ledger: &Ledger) -> Result<U256> {
    ledger
        .absorbed
        .values()
        .try_fold(U256::ZERO, |sum, amount| sum.checked_add(*amount))
        .ok_or_else(|| JournalError::Conflict("insert_plan: the ledger's absorbed amounts overflow".to_owned()))
}

/// The steps of a plan, by column.
#[derive(Default)]
struct ActionColumns {
    step_no: Vec<i32>,
    group_no: Vec<i32>,
    leads_group: Vec<bool>,
    subject: Vec<String>,
    unit_key: Vec<Option<Vec<u8>>>,
    tier: Vec<&'static str>,
    absorbs: Vec<BigDecimal>,
    why: Vec<String>,
    step: Vec<serde_json::Value>,
    outlay_wei: Vec<BigDecimal>,
}

impl ActionColumns {
    fn of(segment: SegmentId, steps: &[Step], outlays: &[U256]) -> Result<Self> {
        let mut columns = Self::default();
        let mut group_no = -1;
        for (index, step) in steps.iter().enumerate() {
            let subject = subject_of(segment, step);
            let leads = columns.subject.last() != Some(&subject);
            if leads {
                group_no += 1;
            }
            columns.step_no.push(i32::try_from(index).map_err(|_| JournalError::corrupt("step_no", index))?);
            columns.group_no.push(group_no);
            columns.leads_group.push(leads);
            columns.subject.push(subject);
            columns.unit_key.push(step.unit.as_ref().map(|unit| unit.as_bytes().to_vec()));
            columns.tier.push(step.tier.as_str());
            columns.absorbs.push(numeric(step.absorbs));
            columns.why.push(text(&step.why));
            columns.step.push(json("step", &step.action)?);
            columns.outlay_wei.push(numeric(outlays.get(index).copied().unwrap_or_default()));
        }
        Ok(columns)
    }

    /// Writes the actions and answers their ids, in the order of the steps.
    async fn insert(
        &self,
        tx: &mut PgConnection,
        deployment: DeploymentId,
        plan: PlanId,
        dry_run: bool,
        block_number: i64,
    ) -> TxResult<Vec<ActionId>> {
        let rows = sqlx::query(
            "-- insert_plan\n\
             INSERT INTO actions (deployment_id, plan_id, dry_run, step_no, group_no, leads_group, subject, \
             unit_key, tier, absorbs, why, step, outlay_wei, status_block) \
             SELECT $1, $2, $3, step_no, group_no, leads_group, subject, unit_key, tier, absorbs, why, step, outlay_wei, \
             $4 \
             FROM UNNEST($5::int[], $6::int[], $7::bool[], $8::text[], $9::bytea[], $10::text[], $11::numeric[], \
             $12::text[], $13::jsonb[], $14::numeric[]) \
             AS s (step_no, group_no, leads_group, subject, unit_key, tier, absorbs, why, step, outlay_wei) \
             RETURNING id, step_no",
        )
        .bind(deployment.0)
        .bind(plan.0)
        .bind(dry_run)
        .bind(block_number)
        .bind(&self.step_no)
        .bind(&self.group_no)
        .bind(&self.leads_group)
        .bind(&self.subject)
        .bind(&self.unit_key)
        .bind(&self.tier)
        .bind(&self.absorbs)
        .bind(&self.why)
        .bind(&self.step)
        .bind(&self.outlay_wei)
        .fetch_all(&mut *tx)
        .await?;
        let mut ids = Vec::with_capacity(rows.len());
        for row in rows {
            ids.push((row.try_get::<i32, _>("step_no")?, ActionId(row.try_get("id")?)));
        }
        ids.sort_unstable();
        Ok(ids.into_iter().map(|(_, id)| id).collect())
    }
}

/// What a step must not be doubled for.
fn subject_of(segment: SegmentId, step: &Step) -> String {
    match (&step.unit, &step.action) {
        (_, Action::Intent(intent)) => intent.scope.to_string(),
        (Some(unit), _) => format!("unit:{unit}"),
        (None, Action::SetMargin { market, .. } | Action::Close { market, .. } | Action::Deleverage { market, .. }) => {
            format!("market:{market}")
        }
        (None, Action::Gate { .. } | Action::Restitute { .. }) => format!("segment:{segment}"),
        (
            None,
            Action::DrawInsurance { .. }
            | Action::ClaimBackstop { .. }
            | Action::DrawBackstop { .. }
            | Action::Socialise { .. },
        ) => "deployment".to_owned(),
    }
}
