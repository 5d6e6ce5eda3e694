//! Behaviour of the executor over in-memory doubles of its two ports.

mod behaviour;
pub(crate) mod chain;
mod crashes;
pub(crate) mod journal;
#[cfg(feature = "aws-kms")]
mod kms_signer;
mod remote_signer;
mod sources;
mod venue;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    signers::{SignerSync, local::PrivateKeySigner},
};
use futures_util::future::{BoxFuture, FutureExt};
use prometheus::Registry;
use tokio::time::Instant;

use super::{
    Deployment, Executed, Executor, ExecutorError, ExecutorMetrics, ExecutorSettings, FeeSettings, Gate, GateSettings,
    Parts, PauseSwitch, SettleSettings, Settled,
    ports::JournalPort,
    signer::{SignedBytes, Signer, SignerError},
};
use crate::{
    alerts::{AlertKind, RecordingSink},
    journal::{ActionStatus, DeploymentId, Tenure},
    protocols::Adapter,
    recovery::{
        BalancedPlan, Batch, DistressedUnit, FundState, Intent, IntentKind, Mode, Offered, Policy, Purse, Reservations,
        Scope, SegmentCase, Terms, Tier, TierSettings, plan, plan_offered,
    },
    types::{Address, BlockRef, I256, SegmentId, U256, UnitKey},
};
use chain::{ChainState, FakeChain};
use journal::{FakeJournal, JournalState};
use venue::{VenueAdapter, VenueState};

pub(crate) const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";

/// Kills the process at a given step. Steps are journal writes and broadcasts.
#[derive(Debug, Default)]
struct Fuse {
    /// Steps until it blows; `None`: never.
    left: Option<usize>,
    /// Whether the last step still takes effect, its answer being lost.
    takes_effect: bool,
    /// Nothing answers any more.
    dead: bool,
}

impl Fuse {
    /// Whether the step may take effect.
    fn before(&mut self) -> bool {
        if self.dead {
            return false;
        }
        if self.left == Some(0) {
            self.dead = true;
            return self.takes_effect;
        }
        self.left = self.left.map(|left| left - 1);
        true
    }

    /// Whether its answer arrives.
    fn after(&self) -> bool {
        !self.dead
    }
}

/// Everything outside the executor.
struct World {
    chain: ChainState,
    journal: JournalState,
    fuse: Fuse,
}

type Shared = Arc<Mutex<World>>;
type Subject = Executor<FakeChain, FakeJournal>;

/// Signs, and counts.
pub(crate) struct CountingSigner(pub(crate) PrivateKeySigner, pub(crate) Arc<AtomicUsize>);

impl Signer for CountingSigner {
    fn address(&self) -> Address {
        self.0.address()
    }

    fn sign<'a>(&'a self, transaction: TxEip1559) -> BoxFuture<'a, Result<SignedBytes, SignerError>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        let signature = self.0.sign_hash_sync(&transaction.signature_hash()).unwrap();
        let envelope = TxEnvelope::Eip1559(transaction.into_signed(signature));
        let signed = SignedBytes { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into() };
        async move { Ok(signed) }.boxed()
    }
}

/// A world with what a test turns and looks at.
struct Stage {
    world: Shared,
    gate: GateSettings,
    settings: ExecutorSettings,
    switch: PauseSwitch,
    tenure: Tenure,
    alerts: Arc<RecordingSink>,
    signatures: Arc<AtomicUsize>,
    registry: Registry,
    metrics: ExecutorMetrics,
}

impl Stage {
    /// Units 1, 2, 3 … with these debts.
    fn new(debts: &[u64]) -> Self {
        let debts = debts.iter().enumerate().map(|(i, debt)| (unit(i as u8 + 1), U256::from(*debt))).collect();
        let genesis = VenueState { debts, ..VenueState::default() };
        let world = World { chain: ChainState::new(genesis), journal: JournalState::default(), fuse: Fuse::default() };
        let registry = Registry::new();
        let metrics = ExecutorMetrics::new(&registry).unwrap();
        Self {
            world: Arc::new(Mutex::new(world)),
            gate: GateSettings {
                chain_id: 31_337,
                dry_run: false,
                allowed_calls: VenueAdapter.manifest(Address::ZERO).allowed_calls.into_iter().collect(),
                spend_per_hour_max_wei: U256::from(10).pow(U256::from(18)),
                transactions_per_block_max: 10,
                pause_file: None,
            },
            settings: ExecutorSettings {
                fees: FeeSettings { fee_cap_wei: 100_000, tx_gas_max: 1_000_000 },
                settle: SettleSettings { finality_depth_blocks: 3, replace_after_blocks: 2, cancel_after_blocks: 8 },
                actions_per_block_max: 10,
                block_gas_max: 30_000_000,
                balance_min_wei: U256::from(1_000),
                relay_alone_blocks: 0,
                proceeds: None,
            },
            switch: PauseSwitch::default(),
            tenure: Tenure::begin(Instant::now(), Duration::from_secs(3_600)),
            alerts: Arc::default(),
            signatures: Arc::default(),
            registry,
            metrics,
        }
    }

    /// A fresh process.
    fn executor(&self) -> Subject {
        let signer = CountingSigner(KEY.parse().unwrap(), self.signatures.clone());
        let name = "venue".parse().unwrap();
        let parts = Parts {
            chain: FakeChain(self.world.clone()),
            journal: FakeJournal(self.world.clone()),
            adapter: Arc::new(VenueAdapter),
            gate: Gate::new(Box::new(signer), self.gate.clone(), self.switch.clone(), self.tenure.clone()),
            metrics: self.metrics.for_deployment(&name),
            alerts: self.alerts.clone(),
        };
        Executor::new(parts, Deployment { id: DeploymentId(1), name }, self.settings)
    }

    fn keeper(&self) -> Address {
        KEY.parse::<PrivateKeySigner>().unwrap().address()
    }

    fn head(&self) -> BlockRef {
        self.chain(|chain| chain.head())
    }

    fn chain<T>(&self, body: impl FnOnce(&mut ChainState) -> T) -> T {
        body(&mut self.world.lock().unwrap().chain)
    }

    fn journal<T>(&self, body: impl FnOnce(&mut JournalState) -> T) -> T {
        body(&mut self.world.lock().unwrap().journal)
    }

    /// The core's plan: the insurance fund pays every debt that is not reserved.
    fn plan(&self, reserved: &Reservations) -> BalancedPlan {
        let debts = self.chain(|chain| chain.venue.debts.clone());
        let block = self.head();
        let indebted = debts.into_iter().filter(|(_, debt)| !debt.is_zero());
        let distressed = indebted.map(|(unit, debt)| {
            let equity = -I256::try_from(debt).unwrap();
            DistressedUnit {
                unit,
                cash: equity,
                equity,
                maintenance_margin: U256::ZERO,
                positions: Vec::new(),
                liquidatable_lots: BTreeMap::new(),
            }
        });
        let fund = U256::from(1_000_000);
        let case = SegmentCase {
            segment: SegmentId(1),
            block,
            fund: FundState { balance: fund, spendable: fund },
            markets: BTreeMap::new(),
            distressed: distressed.collect(),
            solvent: BTreeMap::new(),
            blocked: None,
            measures: Default::default(),
            offered: None,
        };
        plan(&case, &[TierSettings::unlimited(Tier::InsuranceFund)], reserved).unwrap()
    }

    /// The same as intents of one batch.
    fn offered_plan(&self) -> BalancedPlan {
        let debts = self.chain(|chain| chain.venue.debts.clone());
        let offer = |(unit, debt): (UnitKey, U256)| Intent {
            kind: IntentKind::SettleBadDebt,
            scope: Scope::Unit(unit),
            payload: debt.to_be_bytes::<32>().into(),
            tier: Tier::InsuranceFund,
            absorbs: U256::ZERO,
            deepens: U256::ZERO,
            implicit: Vec::new(),
            promises: Vec::new(),
            reward: U256::ZERO,
            cost: U256::ZERO,
            swapped: U256::ZERO,
            gas: 0,
            capital: Vec::new(),
            bad_debt: true,
            not_before: 0,
            batch: Some(Batch { id: 1, len_max: 10 }),
            why: "a test".into(),
        };
        let intents = debts.into_iter().map(offer).collect();
        let case = SegmentCase {
            segment: SegmentId(1),
            block: self.head(),
            fund: FundState::default(),
            markets: BTreeMap::new(),
            distressed: Vec::new(),
            solvent: BTreeMap::new(),
            blocked: None,
            measures: Default::default(),
            offered: Some(Offered { intents, ..Offered::default() }),
        };
        let policy = Policy {
            mode: Mode::Mandate,
            bad_debt_overrides_profit: true,
            swap_cost_bps: 0,
            capital_max: BTreeMap::new(),
        };
        let terms = Terms {
            policy,
            gas_price_wei: U256::ONE,
            native_value: None,
            budget_left_wei: U256::MAX,
            purse: Purse::default(),
        };
        let tiers = [TierSettings::unlimited(Tier::InsuranceFund)];
        plan_offered(&case, &tiers, &terms, &Reservations::default()).unwrap()
    }

    /// What the pipeline does on a head.
    async fn pass(&self, executor: &mut Subject) -> Result<(Vec<Settled>, Executed), ExecutorError> {
        let head = self.head();
        let settled = executor.settle(&head).await?;
        let plan = self.plan(&executor.reservations(&head));
        let executed = executor.execute(&head, "distress", &plan).await?;
        executor.look_ahead(&head).await;
        Ok((settled, executed))
    }

    /// A head, then the next block.
    async fn turn(&self, executor: &mut Subject) -> Result<(Vec<Settled>, Executed), ExecutorError> {
        let done = self.pass(executor).await;
        self.chain(ChainState::mine);
        done
    }

    async fn turns(&self, executor: &mut Subject, count: usize) {
        for _ in 0..count {
            self.turn(executor).await.unwrap();
        }
    }

    fn statuses(&self, id: u8) -> Vec<ActionStatus> {
        let of = |row: &&journal::ActionRow| row.unit == unit(id);
        self.journal(|journal| journal.actions.values().filter(of).map(|row| row.status).collect())
    }

    fn reasons(&self, id: u8) -> Vec<String> {
        let of = |row: &&journal::ActionRow| row.unit == unit(id);
        let reason = |row: &journal::ActionRow| row.reason.clone().unwrap_or_default();
        self.journal(|journal| journal.actions.values().filter(of).map(reason).collect())
    }

    fn debt(&self, id: u8) -> U256 {
        self.chain(|chain| chain.venue.debts[&unit(id)])
    }

    fn sends(&self) -> usize {
        self.chain(|chain| chain.sends.len())
    }

    fn signatures(&self) -> usize {
        self.signatures.load(Ordering::Relaxed)
    }

    fn raised(&self, kind: AlertKind) -> usize {
        self.alerts.raised.lock().unwrap().iter().filter(|alert| alert.key.kind() == kind).count()
    }

    fn metric(&self, series: &str) -> String {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let line = text.lines().find(|line| line.starts_with(series)).unwrap_or_else(|| panic!("no {series}"));
        line.rsplit(' ').next().unwrap().to_owned()
    }

    async fn unsettled(&self) -> usize {
        FakeJournal(self.world.clone()).unsettled_transactions(DeploymentId(1)).await.unwrap().len()
    }
}

fn unit(id: u8) -> UnitKey {
    UnitKey::new(vec![id]).unwrap()
}
