//! Written ahead: a plan and its first signatures, in one short row a nonce, before any of it is sent. They are entered into the
//! other tables once they are on their way.
//!
//! Invariants: a nonce is given out once; of a deployment one plan is ahead at a time; what could not be entered is not written
//! ahead; entering happens once, whoever does it.
//! Must not: be read for anything but entering and the next nonce.

use std::{collections::BTreeSet, ops::Range};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::{PgConnection, Row};

use super::{
    ActionId, AttemptId, DeploymentId, EpisodeId, Journal, JournalError, NewAttempt, NewTransaction, Result,
    TransactionId,
    error::TxResult,
    first::{Entry, fits, insert_transactions},
    leases::fence,
    plans::{PlanColumns, PlanContent, decision_text},
    session::{in_statement, in_tx},
    values::{as_json_text, bigint, parse_json},
};
use crate::recovery::BalancedPlan;

/// A plan that is to be written ahead with its first signatures.
#[derive(Clone, Debug)]
pub struct AheadPlan<'p> {
    /// The plan.
    pub plan: &'p BalancedPlan,
    text: String,
    decision: Option<String>,
    /// What must not be under way already.
    subjects: Vec<String>,
}

impl<'p> AheadPlan<'p> {
    /// Encodes a plan that is carried out for this cause, and makes sure that the tables can hold it.
    pub fn of(plan: &'p BalancedPlan, cause: &str) -> Result<Self> {
        let decision = plan.kept_decision();
        let decision = decision_text(decision.as_deref())?;
        let columns = PlanColumns::of(&PlanContent::of(plan, None), cause, false)?;
        if !columns.balances() {
            return Err(JournalError::Conflict("write_ahead: the plan's books do not balance".to_owned()));
        }
        Ok(Self { plan, text: readable("plan", &columns)?, decision, subjects: columns.subjects() })
    }
}

/// JSON text that is known to read back: what is sent must be entered after.
fn readable<T: Serialize + DeserializeOwned>(what: &'static str, value: &T) -> Result<String> {
    let text = as_json_text(what, value)?;
    parse_json::<T>(what, &text)?;
    Ok(text)
}

/// The first signature for some of a plan's steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FirstSignature {
    /// Which of the plan's steps it carries: whole groups.
    pub steps: Range<usize>,
    /// The transaction; its actions are not known yet.
    pub transaction: NewTransaction,
    /// Its signed bytes.
    pub attempt: NewAttempt,
}

/// What was written ahead, as it stands in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entered {
    /// The episode that the plan belongs to.
    pub episode: EpisodeId,
    /// The actions, by step.
    pub actions: Vec<ActionId>,
}

impl Journal {
    /// Writes a plan ahead with its first signatures, all of them or nothing, and answers the row ids that they will have.
    /// `None`, and nothing written, where one of the plan's subjects has an open group already, or two in this plan. Conflict where a nonce is
    /// taken, something of the deployment is still to be entered, or the lease is not held.
    pub async fn write_ahead(
        &self,
        deployment: DeploymentId,
        plan: &AheadPlan<'_>,
        first: &[FirstSignature],
    ) -> Result<Option<Vec<(TransactionId, AttemptId)>>> {
        let Some(FirstSignature { transaction: NewTransaction { chain_id, signer, .. }, .. }) = first.first() else {
            return Ok(Some(Vec::new()));
        };
        let subjects: BTreeSet<&String> = plan.subjects.iter().collect();
        if subjects.len() < plan.subjects.len() {
            return Ok(None);
        }
        let chain_id = bigint("chain_id", *chain_id)?;
        let (mut nonces, mut contents) = (Vec::with_capacity(first.len()), Vec::with_capacity(first.len()));
        for one in first {
            fits(&one.transaction, &one.attempt)?;
            nonces.push(bigint("nonce", one.transaction.nonce)?);
            contents.push(readable("content", one)?);
        }
        let (lease, epoch) = self.fence_binds()?;
        let written = in_statement!(self, "write_ahead", |connection| {
            let rows = sqlx::query(WRITE_AHEAD)
                .bind(deployment.0)
                .bind(&plan.subjects)
                .bind(chain_id)
                .bind(signer.as_slice())
                .bind(&nonces)
                .bind(&contents)
                .bind(&plan.text)
                .bind(&plan.decision)
                .bind(lease)
                .bind(epoch)
                .fetch_all(connection)
                .await?;
            let ids = rows
                .iter()
                .map(|row| Ok((TransactionId(row.try_get("transaction_id")?), AttemptId(row.try_get("attempt_id")?))));
            ids.collect::<sqlx::Result<Vec<_>>>().map_err(Into::into)
        })?;
        if written.len() == first.len() {
            return Ok(Some(written));
        }
        // All of it or nothing: it was nothing.
        self.explain_fence().await?;
        self.refuse_unentered(deployment).await?;
        Ok(None)
    }

    /// Conflict where something of the deployment is written ahead.
    async fn refuse_unentered(&self, deployment: DeploymentId) -> Result<()> {
        let ahead: Option<i64> = in_statement!(self, "refuse_unentered", |connection| {
            let nonce = sqlx::query_scalar(
                "-- refuse_unentered\n\
                 SELECT min(nonce) FROM signed_nonces WHERE deployment_id = $1 AND content IS NOT NULL",
            );
            Ok(nonce.bind(deployment.0).fetch_one(connection).await?)
        })?;
        match ahead {
            None => Ok(()),
            Some(nonce) => Err(JournalError::Conflict(format!("write_ahead: nonce {nonce} is still to be entered"))),
        }
    }

    /// Enters what was written ahead for a deployment, if there is anything: from then on everything else sees it. Needs no
    /// lease: it is a fact.
    pub async fn enter_ahead(&self, deployment: DeploymentId) -> Result<Option<Entered>> {
        in_tx!(self, "enter_ahead", |tx| { enter(tx, deployment).await })
    }
}

/// Nothing is written where a subject is under way, something is still to be entered, or the lease is not held.
const WRITE_AHEAD: &str = concat!(
    "-- write_ahead\n\
     WITH ",
    fence!("$9", "$10"),
    ", agreed AS (\
     SELECT 1 FROM fence WHERE NOT EXISTS (\
     SELECT 1 FROM actions WHERE deployment_id = $1 AND subject = ANY($2) AND leads_group AND NOT was_included \
     AND status IN ('planned', 'simulated', 'signed', 'sent', 'replaced')) \
     AND NOT EXISTS (SELECT 1 FROM signed_nonces WHERE deployment_id = $1 AND content IS NOT NULL)\
     ), new AS (\
     SELECT * FROM UNNEST($5::bigint[], $6::text[]) WITH ORDINALITY AS n (nonce, content, number)\
     ), written AS (\
     INSERT INTO signed_nonces (deployment_id, chain_id, signer, nonce, content, plan, decision) \
     SELECT $1, $3, $4, nonce, content, CASE WHEN number = 1 THEN $7::text END, CASE WHEN number = 1 THEN $8::text END \
     FROM agreed, new RETURNING nonce, transaction_id, attempt_id\
     ) SELECT transaction_id, attempt_id FROM written JOIN new USING (nonce) ORDER BY number"
);

/// Enters what was written ahead for a deployment, as part of a transaction.
pub(super) async fn enter(tx: &mut PgConnection, deployment: DeploymentId) -> TxResult<Option<Entered>> {
    let rows = sqlx::query(
        "-- enter_ahead\n\
         SELECT transaction_id, attempt_id, written_at, content, plan, decision FROM signed_nonces \
         WHERE deployment_id = $1 AND content IS NOT NULL ORDER BY nonce FOR UPDATE",
    )
    .bind(deployment.0)
    .fetch_all(&mut *tx)
    .await?;
    let Some(leads) = rows.first() else { return Ok(None) };
    let mut plan: PlanColumns = parse_json("plan", leads.try_get("plan")?)?;
    plan.decision = leads.try_get("decision")?;
    let inserted = plan.insert(tx, deployment, (None, None)).await?;
    let (episode, _, actions) =
        inserted.ok_or_else(|| JournalError::Conflict("enter_ahead: the plan was not inserted".to_owned()))?;
    let mut entries = Vec::with_capacity(rows.len());
    for row in &rows {
        let FirstSignature { steps, mut transaction, attempt } = parse_json("content", row.try_get("content")?)?;
        let carried =
            actions.get(steps.clone()).ok_or_else(|| JournalError::corrupt("content", format!("{steps:?}")))?;
        transaction.actions = carried.to_vec();
        let ids = (TransactionId(row.try_get("transaction_id")?), AttemptId(row.try_get("attempt_id")?));
        entries.push(Entry { ahead: Some((ids, row.try_get("written_at")?)), transaction, attempt });
    }
    let entered = insert_transactions(tx, &entries, (None, None)).await?;
    if entered.len() != entries.len() {
        let refusal = format!("enter_ahead: {} of {} transactions were entered", entered.len(), entries.len());
        return Err(JournalError::Conflict(refusal).into());
    }
    sqlx::query(
        "-- enter_ahead\n\
         UPDATE signed_nonces SET content = NULL, plan = NULL, decision = NULL \
         WHERE deployment_id = $1 AND content IS NOT NULL",
    )
    .bind(deployment.0)
    .execute(tx)
    .await?;
    Ok(Some(Entered { episode, actions }))
}
