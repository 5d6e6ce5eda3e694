//! First signatures in the tables: transactions with their signed bytes and the claim on their actions, all in one statement.
//! What was written ahead comes here once it is on its way; the rest of a long plan comes here before it is sent.
//!
//! Invariant: a nonce, a hash and an action are given out once.

use std::collections::{BTreeMap, BTreeSet};

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::{
    ActionId, AttemptId, Journal, JournalError, NewAttempt, NewTransaction, Result, TransactionId,
    error::TxResult,
    leases::fence,
    session::{in_statement, in_tx},
    transactions::action_ids,
    values::{bigint, json, numeric, numeric_wei},
};

impl Journal {
    /// Writes transactions, each with its first signed bytes and the claim on its actions, all of them or nothing, and
    /// answers their ids in order. Conflict where a nonce or a hash is taken, or where an action is not there to be signed
    /// (unknown, already signed or over, of a dry-run plan, of another deployment, of a second plan, in two of these
    /// transactions, or only part of its group).
    pub async fn create_transactions(
        &self,
        new: &[(NewTransaction, NewAttempt)],
    ) -> Result<Vec<(TransactionId, AttemptId)>> {
        let entry = |(transaction, attempt): &(NewTransaction, NewAttempt)| Entry {
            ahead: None,
            transaction: transaction.clone(),
            attempt: attempt.clone(),
        };
        let entries: Vec<Entry> = new.iter().map(entry).collect();
        let lease = self.fence_binds()?;
        let created = in_statement!(self, "create_transactions", |connection| {
            insert_transactions(connection, &entries, lease).await
        })?;
        if created.len() == new.len() {
            return Ok(created);
        }
        // All of it or nothing: it was nothing.
        self.explain_fence().await?;
        in_tx!(self, "explain_create_transactions", |tx| { explain(tx, new).await })
    }
}

/// All of it or nothing; nothing where the lease is not held or [`explain`] has an objection.
const CREATE_TRANSACTIONS: &str = concat!(
    "-- create_transactions\n\
     WITH ",
    fence!("$18", "$19"),
    ", new AS (\
     SELECT deployment_id, chain_id, signer, nonce, to_address, data, value, touches, planned_block, hash, raw, \
     gas_limit, max_fee_per_gas, max_priority_fee_per_gas, signed_block, number, ahead_id IS NULL AS is_fresh, \
     COALESCE(ahead_id, nextval('transactions_id_seq')) AS id, \
     COALESCE(ahead_attempt_id, nextval('attempts_id_seq')) AS attempt_id, COALESCE(written_at, now()) AS written_at \
     FROM UNNEST($1::bigint[], $2::bigint[], $3::bytea[], $4::bigint[], $5::bytea[], $6::bytea[], \
     $7::numeric[], $8::jsonb[], $9::bigint[], $10::bytea[], $11::bytea[], $12::bigint[], $13::numeric[], \
     $14::numeric[], $15::bigint[], $20::bigint[], $21::bigint[], $22::timestamptz[]) WITH ORDINALITY \
     AS n (deployment_id, chain_id, signer, nonce, to_address, data, value, touches, planned_block, hash, \
     raw, gas_limit, max_fee_per_gas, max_priority_fee_per_gas, signed_block, ahead_id, ahead_attempt_id, \
     written_at, number)\
     ), carried AS (\
     SELECT * FROM UNNEST($16::bigint[], $17::bigint[]) AS c (action_id, number)\
     ), locked AS (\
     SELECT id, deployment_id, plan_id, group_no, \
     NOT dry_run AND status IN ('planned', 'simulated') AND transaction_id IS NULL AS free FROM actions \
     WHERE (plan_id, group_no) IN (SELECT plan_id, group_no FROM actions WHERE id = ANY($16)) FOR UPDATE\
     ), planned AS (\
     SELECT number, min(l.plan_id) AS plan_id, count(DISTINCT l.group_no) AS groups, \
     bool_and(free AND l.deployment_id = new.deployment_id) AND min(l.plan_id) = max(l.plan_id) AS good \
     FROM carried c JOIN locked l ON l.id = c.action_id JOIN new USING (number) GROUP BY number\
     ), agreed AS (\
     SELECT 1 FROM fence WHERE (SELECT count(*) FROM locked) = cardinality($16) \
     AND (SELECT count(*) FROM planned WHERE good) = (SELECT count(*) FROM new) \
     AND (SELECT sum(groups) FROM planned) = (SELECT count(DISTINCT (plan_id, group_no)) FROM locked)\
     ), transaction AS (\
     INSERT INTO transactions (id, deployment_id, plan_id, chain_id, signer, nonce, to_address, data, value, touches, \
     planned_block, status, created_at) OVERRIDING SYSTEM VALUE \
     SELECT id, deployment_id, plan_id, chain_id, signer, nonce, to_address, data, value, touches, planned_block, \
     'signed', written_at FROM agreed, new JOIN planned USING (number) RETURNING id\
     ), created AS (\
     SELECT new.* FROM new JOIN transaction USING (id)\
     ), reserved AS (\
     INSERT INTO signed_nonces (chain_id, signer, nonce, deployment_id, transaction_id, attempt_id) \
     SELECT chain_id, signer, nonce, deployment_id, id, attempt_id FROM created WHERE is_fresh\
     ), attempt AS (\
     INSERT INTO attempts (id, transaction_id, kind, hash, raw, gas_limit, max_fee_per_gas, \
     max_priority_fee_per_gas, signed_block, signed_at) OVERRIDING SYSTEM VALUE \
     SELECT attempt_id, id, 'first', hash, raw, gas_limit, max_fee_per_gas, max_priority_fee_per_gas, signed_block, \
     written_at FROM created\
     ), moved AS (\
     UPDATE actions a SET status = 'signed', transaction_id = created.id, status_block = created.signed_block, \
     updated_at = now() \
     FROM carried c JOIN created USING (number) WHERE a.id = c.action_id\
     ) SELECT id, attempt_id FROM created ORDER BY number"
);

/// A transaction for the tables.
pub(super) struct Entry {
    /// The row ids that it was written ahead with, and when; `None` where it was not.
    pub(super) ahead: Option<((TransactionId, AttemptId), DateTime<Utc>)>,
    pub(super) transaction: NewTransaction,
    pub(super) attempt: NewAttempt,
}

/// Inserts transactions with their first attempts and moves their actions to signed, all of it or nothing, and answers the row
/// ids in order.
pub(super) async fn insert_transactions(
    connection: &mut PgConnection,
    entries: &[Entry],
    lease: (Option<&str>, Option<i64>),
) -> TxResult<Vec<(TransactionId, AttemptId)>> {
    Columns::of(entries)?.insert(connection, lease).await
}

/// Whether the tables can hold it.
pub(super) fn fits(transaction: &NewTransaction, attempt: &NewAttempt) -> Result<()> {
    let numbers = [
        ("chain_id", transaction.chain_id),
        ("nonce", transaction.nonce),
        ("planned_block", transaction.planned_block),
        ("gas_limit", attempt.gas_limit),
        ("signed_block", attempt.block),
    ];
    numbers.into_iter().try_for_each(|(what, number)| bigint(what, number).map(drop))
}

/// New transactions by column.
#[derive(Default)]
struct Columns {
    /// Of what was written ahead.
    ahead_id: Vec<Option<i64>>,
    ahead_attempt_id: Vec<Option<i64>>,
    written_at: Vec<Option<DateTime<Utc>>>,
    deployment_id: Vec<i64>,
    chain_id: Vec<i64>,
    signer: Vec<Vec<u8>>,
    nonce: Vec<i64>,
    to_address: Vec<Vec<u8>>,
    data: Vec<Vec<u8>>,
    value: Vec<BigDecimal>,
    touches: Vec<serde_json::Value>,
    planned_block: Vec<i64>,
    hash: Vec<Vec<u8>>,
    raw: Vec<Vec<u8>>,
    gas_limit: Vec<i64>,
    max_fee_per_gas: Vec<BigDecimal>,
    max_priority_fee_per_gas: Vec<BigDecimal>,
    signed_block: Vec<i64>,
    /// Every action, with the number of its transaction.
    actions: Vec<i64>,
    carried_by: Vec<i64>,
}

impl Columns {
    fn of(entries: &[Entry]) -> Result<Self> {
        let mut columns = Self::default();
        for (number, Entry { ahead, transaction, attempt: first }) in (1..).zip(entries) {
            columns.ahead_id.push(ahead.map(|((id, _), _)| id.0));
            columns.ahead_attempt_id.push(ahead.map(|((_, attempt), _)| attempt.0));
            columns.written_at.push(ahead.map(|(_, at)| at));
            columns.deployment_id.push(transaction.deployment.0);
            columns.chain_id.push(bigint("chain_id", transaction.chain_id)?);
            columns.signer.push(transaction.signer.to_vec());
            columns.nonce.push(bigint("nonce", transaction.nonce)?);
            columns.to_address.push(transaction.to.to_vec());
            columns.data.push(transaction.data.to_vec());
            columns.value.push(numeric(transaction.value));
            columns.touches.push(json("touches", &transaction.touches)?);
            columns.planned_block.push(bigint("planned_block", transaction.planned_block)?);
            columns.hash.push(first.hash.to_vec());
            columns.raw.push(first.raw.to_vec());
            columns.gas_limit.push(bigint("gas_limit", first.gas_limit)?);
            columns.max_fee_per_gas.push(numeric_wei(first.max_fee_per_gas));
            columns.max_priority_fee_per_gas.push(numeric_wei(first.max_priority_fee_per_gas));
            columns.signed_block.push(bigint("signed_block", first.block)?);
            columns.actions.extend(action_ids(&transaction.actions));
            columns.carried_by.resize(columns.actions.len(), number);
        }
        Ok(columns)
    }

    async fn insert(
        &self,
        connection: &mut PgConnection,
        (lease, epoch): (Option<&str>, Option<i64>),
    ) -> TxResult<Vec<(TransactionId, AttemptId)>> {
        let rows = sqlx::query(CREATE_TRANSACTIONS)
            .bind(&self.deployment_id)
            .bind(&self.chain_id)
            .bind(&self.signer)
            .bind(&self.nonce)
            .bind(&self.to_address)
            .bind(&self.data)
            .bind(&self.value)
            .bind(&self.touches)
            .bind(&self.planned_block)
            .bind(&self.hash)
            .bind(&self.raw)
            .bind(&self.gas_limit)
            .bind(&self.max_fee_per_gas)
            .bind(&self.max_priority_fee_per_gas)
            .bind(&self.signed_block)
            .bind(&self.actions)
            .bind(&self.carried_by)
            .bind(lease)
            .bind(epoch)
            .bind(&self.ahead_id)
            .bind(&self.ahead_attempt_id)
            .bind(&self.written_at)
            .fetch_all(connection)
            .await?;
        rows.iter().map(|row| Ok((TransactionId(row.try_get("id")?), AttemptId(row.try_get("attempt_id")?)))).collect()
    }
}

/// An action that is to be signed, or is of the group of one that is.
struct Signable {
    deployment_id: i64,
    /// Its plan, and its number there.
    group: (i64, i32),
    /// Why it cannot be signed.
    refusal: Option<String>,
}

/// Why these transactions were not created, as far as their actions are the reason.
async fn explain<T>(tx: &mut PgConnection, new: &[(NewTransaction, NewAttempt)]) -> TxResult<T> {
    let wanted: Vec<ActionId> = new.iter().flat_map(|(transaction, _)| transaction.actions.clone()).collect();
    let rows = sqlx::query(
        "-- explain_create_transactions\n\
         SELECT id, deployment_id, plan_id, group_no, dry_run, status, transaction_id FROM actions \
         WHERE (plan_id, group_no) IN (SELECT plan_id, group_no FROM actions WHERE id = ANY($1)) \
         ORDER BY id",
    )
    .bind(action_ids(&wanted))
    .fetch_all(tx)
    .await?;
    let mut signable = BTreeMap::new();
    let mut groups: BTreeMap<(i64, i32), BTreeSet<ActionId>> = BTreeMap::new();
    for row in &rows {
        let id = ActionId(row.try_get("id")?);
        let status: &str = row.try_get("status")?;
        let free =
            matches!(status, "planned" | "simulated") && row.try_get::<Option<i64>, _>("transaction_id")?.is_none();
        let refusal = match row.try_get("dry_run")? {
            true => Some(format!("action {id} is of a dry-run plan")),
            false => (!free).then(|| format!("action {id} is {status}")),
        };
        let group = (row.try_get("plan_id")?, row.try_get("group_no")?);
        groups.entry(group).or_default().insert(id);
        signable.insert(id, Signable { deployment_id: row.try_get("deployment_id")?, group, refusal });
    }
    let mut taken = BTreeSet::new();
    let whole = |group: &(i64, i32)| groups.get(group).into_iter().flatten().copied();
    for (transaction, _) in new {
        check(transaction, &signable, whole, &mut taken)?;
    }
    Err(JournalError::Conflict("create_transactions: somebody else changed an action meanwhile".to_owned()).into())
}

/// Conflict where a transaction's actions may not be signed together.
fn check<I: Iterator<Item = ActionId>>(
    transaction: &NewTransaction,
    signable: &BTreeMap<ActionId, Signable>,
    whole: impl Fn(&(i64, i32)) -> I,
    taken: &mut BTreeSet<ActionId>,
) -> Result<()> {
    let refuse = |why: String| Err(JournalError::Conflict(format!("create_transactions: {why}")));
    let wanted: BTreeSet<ActionId> = transaction.actions.iter().copied().collect();
    let groups: BTreeSet<(i64, i32)> = wanted.iter().filter_map(|id| signable.get(id)).map(|one| one.group).collect();
    let found: BTreeSet<ActionId> = groups.iter().flat_map(whole).collect();
    for id in &found {
        let one = &signable[id];
        if one.deployment_id != transaction.deployment.0 {
            return refuse(format!("action {id} is of another deployment"));
        }
        if let Some(refusal) = &one.refusal {
            return refuse(refusal.clone());
        }
        if !taken.insert(*id) {
            return refuse(format!("action {id} is in two transactions"));
        }
    }
    if found != wanted {
        return refuse(format!("actions {wanted:?} are not whole groups: their groups are {found:?}"));
    }
    let plans: BTreeSet<i64> = groups.into_iter().map(|(plan, _)| plan).collect();
    match plans.len() {
        0 => refuse("no action".to_owned()),
        1 => Ok(()),
        _ => refuse("the actions are of several plans".to_owned()),
    }
}
