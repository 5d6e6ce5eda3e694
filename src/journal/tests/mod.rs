//! The journal against a real Postgres, a database per test.

mod ahead;
mod alerts;
mod cache;
mod episodes;
mod events;
mod leases;
mod plans;
mod retention;
mod risk;
mod schema;
mod transactions;

use crate::{
    demo::postgres::TestDatabase,
    journal::{
        plans::{PlanContent, decision_text},
        *,
    },
    recovery::{Action, Ledger, Step, Tier},
    types::{Address, B256, BlockRef, Bytes, DeploymentName, I256, MarketId, SegmentId, U256, UnitKey},
};

const CHAIN: u64 = 31_337;
const SEGMENT: SegmentId = SegmentId(1);

/// A migrated database with one deployment. Field order: connections go before the database does.
struct Fixture {
    journal: Journal,
    deployment: DeploymentId,
    database: TestDatabase,
}

impl Fixture {
    async fn new() -> Self {
        let database = TestDatabase::new().await;
        let journal = Journal::connect(database.url(), 4).await.unwrap();
        let settings = serde_json::json!({ "clearinghouse": "0x01" });
        let deployment = journal.register_deployment(&name("venue"), CHAIN, "perps", &settings).await.unwrap();
        Self { journal, deployment, database }
    }

    async fn episode(&self) -> EpisodeId {
        self.journal.open_episode(self.deployment, SEGMENT, &block(1), "a unit is bankrupt").await.unwrap()
    }

    async fn try_plan(&self, steps: &[Step], dry_run: bool) -> Result<(PlanId, Vec<ActionId>)> {
        let ledger = ledger_of(steps);
        let content = PlanContent {
            segment: SEGMENT,
            block: &block(10),
            steps,
            ledger: &ledger,
            notes: &[],
            decision: None,
            outlays: &[],
        };
        let inserted = self.journal.insert_plan_content(self.deployment, &content, "a unit is bankrupt", dry_run).await;
        inserted.map(|(_, plan, actions)| (plan, actions))
    }

    async fn plan(&self, steps: &[Step]) -> Vec<ActionId> {
        self.try_plan(steps, false).await.unwrap().1
    }

    fn transaction(&self, actions: &[ActionId], nonce: u64) -> NewTransaction {
        NewTransaction {
            deployment: self.deployment,
            actions: actions.to_vec(),
            chain_id: CHAIN,
            signer: Address::with_last_byte(7),
            nonce,
            to: Address::with_last_byte(8),
            data: Bytes::from_static(&[1, 2, 3, 0]),
            value: U256::from(5),
            touches: Touches {
                segment: SEGMENT,
                units: [unit(1), unit(2)].into(),
                fund_draw: U256::MAX,
                markets: [MarketId(3)].into(),
                scopes: Default::default(),
                capital: Default::default(),
            },
            planned_block: 10,
        }
    }

    /// A plan of one unit, signed with this nonce.
    async fn signed(&self, of: u8, nonce: u64) -> (TransactionId, AttemptId, ActionId) {
        let actions = self.plan(&[step(of, Tier::InsuranceFund, 100)]).await;
        let new = self.transaction(&actions, nonce);
        let (transaction, attempt) = self.journal.create_transaction(&new, &attempt(nonce)).await.unwrap();
        (transaction, attempt, actions[0])
    }

    /// The same, and broadcast.
    async fn sent(&self, of: u8, nonce: u64) -> (TransactionId, AttemptId, ActionId) {
        let signed = self.signed(of, nonce).await;
        self.journal.mark_broadcast(signed.1, &BroadcastOutcome::Accepted, 11).await.unwrap();
        signed
    }

    async fn action(&self, id: ActionId) -> ActionRow {
        let all = self.journal.list_actions(&ActionFilter { limit: 100, ..Default::default() }).await.unwrap();
        all.into_iter().find(|action| action.id == id).unwrap()
    }

    async fn status(&self, id: ActionId) -> ActionStatus {
        self.action(id).await.status
    }

    async fn unsettled(&self) -> Vec<UnsettledTransaction> {
        self.journal.unsettled_transactions(self.deployment).await.unwrap()
    }

    /// Runs a statement past the journal's own functions, as a bug of theirs might.
    async fn raw(&self, sql: &str) -> sqlx::Result<u64> {
        let done = sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&self.journal.pool).await?;
        Ok(done.rows_affected())
    }

    async fn count(&self, sql: &str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&self.journal.pool).await.unwrap()
    }

    /// Asserts that the constraint of this name refuses the statement.
    async fn refused_by(&self, constraint: &str, sql: &str) {
        match self.raw(sql).await {
            Err(sqlx::Error::Database(error)) => assert_eq!(error.constraint(), Some(constraint), "{error}"),
            other => panic!("{constraint} did not refuse: {other:?}"),
        }
    }
}

fn name(text: &str) -> DeploymentName {
    text.parse().unwrap()
}

fn unit(id: u8) -> UnitKey {
    UnitKey::new(vec![id, 0, 0xff]).unwrap()
}

fn block(number: u64) -> BlockRef {
    let hash = |number: u64| B256::from(U256::from(number) << 128);
    BlockRef {
        number,
        hash: hash(number),
        parent_hash: hash(number.wrapping_sub(1)),
        timestamp: 1_700_000_000 + number,
    }
}

fn step(of: u8, tier: Tier, absorbs: u64) -> Step {
    let amount = U256::from(absorbs);
    Step { tier, unit: Some(unit(of)), action: Action::DrawInsurance { amount }, absorbs: amount, why: "so".to_owned() }
}

fn ledger_of(steps: &[Step]) -> Ledger {
    let mut ledger = Ledger { residual: U256::from(3), ..Default::default() };
    for step in steps {
        *ledger.absorbed.entry(step.tier).or_default() += step.absorbs;
    }
    ledger.shortfall = ledger.absorbed.values().fold(ledger.residual, |sum, amount| sum + amount);
    ledger
}

fn attempt(seed: u64) -> NewAttempt {
    NewAttempt {
        hash: B256::from(U256::from(seed + 1)),
        raw: Bytes::from(vec![2, seed as u8]),
        gas_limit: 300_000,
        max_fee_per_gas: u128::MAX,
        max_priority_fee_per_gas: 1,
        block: 10,
    }
}

fn receipt(success: bool) -> IncludedReceipt {
    IncludedReceipt {
        block: block(12),
        success,
        gas_used: 21_000,
        effective_gas_price: 10,
        effects: Vec::new(),
        revert_reason: None,
    }
}

#[track_caller]
fn assert_conflict<T: std::fmt::Debug>(result: Result<T>) {
    match result {
        Err(error @ JournalError::Conflict(_)) => assert_eq!(error.class(), ErrorClass::LookAgain),
        other => panic!("not a conflict: {other:?}"),
    }
}

/// The daemon runs these inside spawned tasks.
#[test]
fn futures_can_move_between_threads() {
    fn spawnable<F: Future + Send>(_: impl Fn(&'static Journal, &'static Bundle) -> F) {}
    struct Bundle {
        transactions: Vec<(NewTransaction, NewAttempt)>,
        attempt: NewAttempt,
        receipt: IncludedReceipt,
        alert: AlertRow,
        name: DeploymentName,
    }
    spawnable(|journal, b| journal.create_transactions(&b.transactions));
    spawnable(|journal, _| journal.enter_ahead(DeploymentId(1)));
    spawnable(|journal, b| journal.add_attempt(TransactionId(1), &b.attempt, AttemptKind::Cancel));
    spawnable(|journal, b| journal.mark_included(TransactionId(1), AttemptId(1), &b.receipt));
    spawnable(|journal, b| journal.raise_alert(&b.alert));
    spawnable(|journal, b| journal.acquire_lease(&b.name, "a", std::time::Duration::from_secs(1)));
    spawnable(|journal, _| journal.unsettled_transactions(DeploymentId(1)));
    spawnable(|journal, _| journal.load_cache(DeploymentId(1)));
}

/// One at a time, as most tests want it.
impl Journal {
    async fn create_transaction(
        &self,
        new: &NewTransaction,
        first: &NewAttempt,
    ) -> super::Result<(TransactionId, AttemptId)> {
        let ids = self.create_transactions(&[(new.clone(), first.clone())]).await?;
        Ok(ids[0])
    }

    async fn mark_broadcast(&self, attempt: AttemptId, outcome: &BroadcastOutcome, block: u64) -> super::Result<()> {
        self.mark_broadcasts(&[(attempt, outcome.clone())], block).await
    }
}
