//! Plans and the actions they are made of: written whole, here or ahead, before anything of them is sent.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    ActionId, DeploymentId, EpisodeId, Journal, JournalError, PlanId, Result,
    episodes::open_episode,
    error::TxResult,
    leases::fence,
    session::in_statement,
    status::tier,
    values::{amount, as_json_text, bigint, json, number, numeric, text},
};
use crate::{
    recovery::{Action, BalancedPlan, Decision, Ledger, Step, Tier, TierUse},
    types::{B256, BlockRef, SegmentId, U256},
};

/// A decision of more units than this is too much to write down with every plan.
const DECISION_UNITS_MAX: usize = 20_000;

/// A plan as it is stored.
pub(super) struct PlanContent<'p> {
    pub(super) segment: SegmentId,
    pub(super) block: &'p BlockRef,
    pub(super) steps: &'p [Step],
    pub(super) ledger: &'p Ledger,
    pub(super) notes: &'p [String],
    /// JSON text of the decision, see [`decision_text`].
    pub(super) decision: Option<String>,
    /// Wei, by step; none where no budget is involved.
    pub(super) outlays: &'p [U256],
}

impl<'p> PlanContent<'p> {
    pub(super) fn of(plan: &'p BalancedPlan, decision: Option<String>) -> Self {
        Self {
            segment: plan.segment(),
            block: plan.block(),
            steps: plan.steps(),
            ledger: plan.ledger(),
            notes: plan.notes(),
            decision,
            outlays: plan.outlays(),
        }
    }
}

impl Journal {
    /// Writes a plan and one planned action per step, in order, and answers the actions' ids in that order. It is written
    /// under the segment's open episode; where there is none one opens at the plan's block, for this cause.
    ///
    /// Adjacent steps of one subject (the unit, or the market of a parameter change) form a group, which goes out as
    /// one transaction. Conflict, and nothing written, where a subject already has an open group, or where the ledger does
    /// not balance.
    pub async fn insert_plan(
        &self,
        deployment: DeploymentId,
        plan: &BalancedPlan,
        cause: &str,
        dry_run: bool,
    ) -> Result<(EpisodeId, PlanId, Vec<ActionId>)> {
        let decision = plan.kept_decision();
        let content = PlanContent::of(plan, decision_text(decision.as_deref())?);
        self.insert_plan_content(deployment, &content, cause, dry_run).await
    }

    /// Net outlay of the actions that were signed since, wei: what the budget has paid. An action that came to nothing
    /// after it was signed counts too, since it may yet be mined.
    pub async fn outlay_wei_since(&self, deployment: DeploymentId, since: DateTime<Utc>) -> Result<U256> {
        in_statement!(self, "outlay_wei_since", |tx| {
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
        in_statement!(self, "tier_use", |tx| {
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
        plan: &PlanContent<'_>,
        cause: &str,
        dry_run: bool,
    ) -> Result<(EpisodeId, PlanId, Vec<ActionId>)> {
        let columns = PlanColumns::of(plan, cause, dry_run)?;
        let lease = self.fence_binds()?;
        let inserted =
            in_statement!(self, "insert_plan", |connection| { columns.insert(connection, deployment, lease).await })?;
        if inserted.is_none() {
            self.explain_fence().await?;
        }
        inserted.ok_or_else(|| JournalError::Conflict("insert_plan: the lease was not held".to_owned()))
    }
}

/// A decision as it is kept with a plan; `None` where it is too much.
pub(super) fn decision_text(decision: Option<&Decision>) -> Result<Option<String>> {
    let decision = decision.filter(|decision| is_kept(decision));
    decision.map(|decision| as_json_text("decision", decision)).transpose()
}

/// A plan by column, as it is bound and as it is written ahead.
#[derive(Serialize, Deserialize)]
pub(super) struct PlanColumns {
    segment: i64,
    block_number: i64,
    block_hash: B256,
    cause: String,
    shortfall: BigDecimal,
    absorbed: BigDecimal,
    residual: BigDecimal,
    ledger: serde_json::Value,
    dry_run: bool,
    notes: Vec<String>,
    actions: ActionColumns,
    /// Has a column of its own wherever the plan is written.
    #[serde(skip)]
    pub(super) decision: Option<String>,
}

impl PlanColumns {
    pub(super) fn of(plan: &PlanContent<'_>, cause: &str, dry_run: bool) -> Result<Self> {
        Ok(Self {
            segment: i64::from(plan.segment.0),
            block_number: bigint("block_number", plan.block.number)?,
            block_hash: plan.block.hash,
            cause: text(cause),
            shortfall: numeric(plan.ledger.shortfall),
            absorbed: numeric(absorbed_total(plan.ledger)?),
            residual: numeric(plan.ledger.residual),
            ledger: json("ledger", plan.ledger)?,
            dry_run,
            notes: plan.notes.iter().map(|note| text(note)).collect(),
            actions: ActionColumns::of(plan.segment, plan.steps, plan.outlays)?,
            decision: plan.decision.clone(),
        })
    }

    /// Whether the ledger adds up, as the table wants it.
    pub(super) fn balances(&self) -> bool {
        &self.absorbed + &self.residual == self.shortfall
    }

    /// What the plan claims: the subject of each group.
    pub(super) fn subjects(&self) -> Vec<String> {
        let led = self.actions.subject.iter().zip(&self.actions.leads_group);
        led.filter(|(_, leads)| **leads).map(|(subject, _)| subject.clone()).collect()
    }

    /// Inserts the plan with its actions under the segment's open episode or one that opens, and answers their ids, the
    /// actions' in order; `None` where the lease is not held. One statement, as each costs a round trip.
    pub(super) async fn insert(
        &self,
        connection: &mut PgConnection,
        deployment: DeploymentId,
        (lease, epoch): (Option<&str>, Option<i64>),
    ) -> TxResult<Option<(EpisodeId, PlanId, Vec<ActionId>)>> {
        let actions = &self.actions;
        let rows = sqlx::query(concat!(
            "-- insert_plan\n\
             WITH ",
            fence!("$22", "$23"),
            ", episode AS (",
            open_episode!(" FROM fence"),
            "), plan AS (\
             INSERT INTO plans (deployment_id, episode_id, segment_id, block_number, block_hash, shortfall, \
             absorbed, residual, ledger, dry_run, notes, decision) \
             SELECT $1, id, $2, $3, $4, $6, $7, $8, $9, $10, $11, $24 FROM episode RETURNING id, episode_id\
             ), action AS (\
             INSERT INTO actions (deployment_id, plan_id, dry_run, step_no, group_no, leads_group, subject, \
             unit_key, tier, absorbs, why, step, outlay_wei, status_block) \
             SELECT $1, plan.id, $10, step_no, group_no, leads_group, subject, unit_key, tier, absorbs, why, step, \
             outlay_wei, $3 \
             FROM plan, UNNEST($12::int[], $13::int[], $14::bool[], $15::text[], $16::bytea[], $17::text[], \
             $18::numeric[], $19::text[], $20::jsonb[], $21::numeric[]) \
             AS s (step_no, group_no, leads_group, subject, unit_key, tier, absorbs, why, step, outlay_wei) \
             RETURNING id, step_no) \
             SELECT plan.episode_id, plan.id AS plan_id, action.id FROM plan LEFT JOIN action ON true \
             ORDER BY step_no"
        ))
        .bind(deployment.0)
        .bind(self.segment)
        .bind(self.block_number)
        .bind(self.block_hash.as_slice())
        .bind(&self.cause)
        .bind(&self.shortfall)
        .bind(&self.absorbed)
        .bind(&self.residual)
        .bind(&self.ledger)
        .bind(self.dry_run)
        .bind(&self.notes)
        .bind(&actions.step_no)
        .bind(&actions.group_no)
        .bind(&actions.leads_group)
        .bind(&actions.subject)
        .bind(&actions.unit_key)
        .bind(&actions.tier)
        .bind(&actions.absorbs)
        .bind(&actions.why)
        .bind(&actions.step)
        .bind(&actions.outlay_wei)
        .bind(lease)
        .bind(epoch)
        .bind(&self.decision)
        .fetch_all(connection)
        .await?;
        inserted(&rows)
    }
}

/// Whose ids the rows are: episode, plan, and the actions in their order.
fn inserted(rows: &[PgRow]) -> TxResult<Option<(EpisodeId, PlanId, Vec<ActionId>)>> {
    let Some(first) = rows.first() else { return Ok(None) };
    let actions = rows.iter().map(|row| row.try_get::<Option<i64>, _>("id"));
    let actions: Vec<_> =
        actions.filter_map(|id| id.map(|id| id.map(ActionId)).transpose()).collect::<sqlx::Result<_>>()?;
    Ok(Some((EpisodeId(first.try_get("episode_id")?), PlanId(first.try_get("plan_id")?), actions)))
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
#[derive(Default, Serialize, Deserialize)]
struct ActionColumns {
    step_no: Vec<i32>,
    group_no: Vec<i32>,
    leads_group: Vec<bool>,
    subject: Vec<String>,
    unit_key: Vec<Option<Vec<u8>>>,
    tier: Vec<String>,
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
            columns.tier.push(step.tier.as_str().to_owned());
            columns.absorbs.push(numeric(step.absorbs));
            columns.why.push(text(&step.why));
            columns.step.push(json("step", &step.action)?);
            columns.outlay_wei.push(numeric(outlays.get(index).copied().unwrap_or_default()));
        }
        Ok(columns)
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
