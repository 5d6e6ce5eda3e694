//! A replica: the real pipeline on a simulated node and journal, under a lease, which can be killed at any of its await
//! points and held still.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use alloy::{rpc::client::RpcClient, signers::local::PrivateKeySigner};
use prometheus::Registry;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, Sleep},
};
use tokio_util::sync::CancellationToken;

use super::{journal::SimJournal, node::Node, script::Script, tally::TallyAdapter, world::World};
use crate::{
    alerts::{Alert, AlertKey, AlertKind, AlertSink, RecordingSink},
    chain::{Rpc, RpcMetrics, RpcSettings},
    executor::{
        Deployment, Executor, ExecutorMetrics, ExecutorSettings, FeeSettings, Gate, GateSettings, Parts, PauseSwitch,
        SettleSettings,
        tests::{CountingSigner, KEY},
    },
    indexer::{Indexer, IndexerMetrics, IndexerSettings},
    journal::{DeploymentId, Tenure},
    ops::{Health, Limits},
    pipeline::{Pipeline, PipelineMetrics, PipelineSettings, PolicySettings},
    protocols::Adapter,
    recovery::{Mode, Policy, Tier, TierSettings, Waterfall, Waterfalls, adl_policy, adl_policy_words},
    scanner::{ScanSettings, risk::RiskSettings, tests::dice::Dice},
    types::{Address, U256},
};

/// How long a lease lasts.
const LEASE: Duration = Duration::from_secs(6);
/// What the keeper is to have at least, wei.
pub(super) const BALANCE_MIN: u64 = 1_000_000_000;
/// Most that may be paid per gas, wei.
pub(super) const FEE_CAP: u128 = 20_000;

pub(super) fn keeper() -> Address {
    KEY.parse::<PrivateKeySigner>().unwrap().address()
}

/// One registry's metrics, which nobody reads here.
#[derive(Clone)]
pub(super) struct Meters {
    rpc: RpcMetrics,
    indexer: IndexerMetrics,
    executor: ExecutorMetrics,
    pipeline: PipelineMetrics,
}

impl Meters {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        Self {
            rpc: RpcMetrics::new(&registry).unwrap(),
            indexer: IndexerMetrics::new(&registry).unwrap(),
            executor: ExecutorMetrics::new(&registry).unwrap(),
            pipeline: PipelineMetrics::new(&registry).unwrap(),
        }
    }
}

/// What replicas have in common.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) script: Arc<Script>,
    pub(super) alerts: Arc<RecordingSink>,
    pub(super) meters: Meters,
    /// The operator's switch, on every replica at once.
    pub(super) switch: PauseSwitch,
}

/// A running process.
pub(super) struct Replica {
    task: JoinHandle<()>,
    strings: Arc<Mutex<Strings>>,
}

/// What the script pulls.
#[derive(Default)]
struct Strings {
    /// Times that it still runs before it dies.
    polls_left: Option<u64>,
    held_until: Option<Instant>,
}

impl Replica {
    /// Starts process number `life` of a replica.
    pub(super) fn start(around: &Surroundings, replica: usize, life: u64) -> Self {
        let strings = Arc::new(Mutex::new(Strings::default()));
        let work = Box::pin(live(around.clone(), replica, life));
        let task = tokio::spawn(Mortal { work: Some(work), strings: Arc::clone(&strings), rest: None });
        Self { task, strings }
    }

    /// Lets it die at its next await points, this many times that it is woken later.
    pub(super) fn kill_after(&self, polls: u64) {
        self.strings.lock().unwrap().polls_left = Some(polls);
    }

    /// It does not run for this long, and does not know.
    pub(super) fn hold(&self, span: Duration) {
        self.strings.lock().unwrap().held_until = Some(Instant::now() + span);
    }

    /// Lets it live and run.
    pub(super) fn spare(&self) {
        *self.strings.lock().unwrap() = Strings::default();
    }

    /// Whether it stands still.
    pub(super) fn is_idle(&self) -> bool {
        self.strings.lock().unwrap().held_until.is_some_and(|until| Instant::now() < until)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A process that the script can kill and hold.
struct Mortal {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    strings: Arc<Mutex<Strings>>,
    rest: Option<Pin<Box<Sleep>>>,
}

impl Future for Mortal {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let held_until = {
            let mut strings = self.strings.lock().unwrap();
            match &mut strings.polls_left {
                Some(0) => {
                    drop(strings);
                    self.work = None;
                    return Poll::Ready(());
                }
                Some(left) => *left -= 1,
                None => {}
            }
            strings.held_until.filter(|until| Instant::now() < *until)
        };
        if let Some(until) = held_until {
            let mut rest = Box::pin(tokio::time::sleep_until(until));
            if rest.as_mut().poll(context).is_pending() {
                self.rest = Some(rest);
                return Poll::Pending;
            }
        }
        self.rest = None;
        match &mut self.work {
            Some(work) => work.as_mut().poll(context),
            None => Poll::Ready(()),
        }
    }
}

/// Standing by, acting while the lease holds, and again.
async fn live(around: Surroundings, replica: usize, life: u64) {
    let stream = |name: u64| {
        let seed = around.script.seed ^ (replica as u64) << 40 ^ life << 44 ^ name << 56;
        Arc::new(Mutex::new(Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))))
    };
    let dice = stream(1);
    let connect = |epoch| SimJournal { world: Arc::clone(&around.world), replica, epoch, dice: Arc::clone(&dice) };
    let nodes = (0..around.script.endpoints).map(|index| {
        let node = Node { world: Arc::clone(&around.world), replica, index, dice: stream(2 + index as u64) };
        (format!("http://node{index}.invalid").parse().unwrap(), RpcClient::new(node, true))
    });
    let settings = RpcSettings {
        urls: vec![],
        relay: None,
        chain_id: 1,
        quorum: around.script.quorum,
        timeout: Duration::from_millis(1_500),
        poll_interval: Duration::from_millis(500),
        log_range_blocks_max: 50,
    };
    let rpc = Rpc::over(nodes.collect(), &settings, around.meters.rpc.for_deployment(&"sim".parse().unwrap()));
    loop {
        let asked = Instant::now();
        let epoch = match connect(0).acquire_lease(LEASE).await {
            Ok(Some(epoch)) => epoch,
            Ok(None) => {
                tokio::time::sleep(LEASE / 5).await;
                continue;
            }
            Err(error) => {
                halted(&around, &error);
                tokio::time::sleep(LEASE / 5).await;
                continue;
            }
        };
        let (journal, tenure, over) = (connect(epoch), Tenure::begin(asked, LEASE), CancellationToken::new());
        let acting = async {
            let ended = pipeline(&around, rpc.clone(), journal.clone(), tenure.clone()).run(over.clone()).await;
            if let Err(error) = ended {
                around.world.lock().unwrap().note(format!("replica {replica} ends: {error:#}"));
                halted(&around, &error);
            }
            over.cancel();
        };
        tokio::join!(acting, keep(&journal, &tenure, &over));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// What the composition root says of a deployment that does not act.
fn halted(around: &Surroundings, why: &dyn std::fmt::Display) {
    let key = AlertKey::new(AlertKind::DeploymentHalted, Some(&"sim".parse().unwrap()), "");
    around.alerts.raise(Alert::new(key, format!("{why:#}")));
}

/// Renews the lease until it is lost or not needed.
async fn keep(journal: &SimJournal, tenure: &Tenure, over: &CancellationToken) {
    loop {
        tokio::select! {
            () = over.cancelled() => return,
            () = tokio::time::sleep(LEASE / 5) => {}
        }
        let asked = Instant::now();
        match journal.renew_lease(LEASE).await {
            Ok(true) => tenure.extend(asked, LEASE),
            Ok(false) => return tenure.end(),
            Err(_) => {}
        }
    }
}

fn pipeline(around: &Surroundings, rpc: Rpc, journal: SimJournal, tenure: Tenure) -> Pipeline<SimJournal, SimJournal> {
    let (name, script, meters) = ("sim".parse().unwrap(), &around.script, &around.meters);
    let adapter: Arc<dyn Adapter> = Arc::new(TallyAdapter);
    let indexing = IndexerSettings {
        start_block: 1,
        reorg_depth_max: script.reorg_depth_max,
        backfill_chunk_blocks: 20,
        audit_every_blocks: 5,
        audit_units: 3,
    };
    let indexed = meters.indexer.for_deployment(&name);
    let health = Health::new(Limits {
        head_age_max: Duration::MAX,
        scan_age_max: Duration::MAX,
        journal_age_max: Duration::MAX,
        lag_blocks_max: u64::MAX,
    });
    let word = adl_policy_words().next().unwrap();
    let tiers = [Tier::Liquidate, Tier::InsuranceFund].map(TierSettings::unlimited).to_vec();
    let default = Waterfall { tiers, adl_policy: adl_policy(word).unwrap() };
    Pipeline {
        deployment: DeploymentId(1),
        settings: settings(),
        waterfalls: watch::channel(Arc::new(Waterfalls { default, segments: BTreeMap::new() })).1,
        indexer: Indexer::new(rpc.clone(), Arc::clone(&adapter), journal.clone(), indexing, indexed),
        executor: executor(around, rpc.clone(), journal.clone(), tenure.clone()),
        rpc,
        adapter,
        journal,
        tenure,
        alerts: around.alerts.clone(),
        health: health.deployment(&name),
        liveness: health,
        meter: meters.pipeline.for_deployment(&name),
        guards: vec![],
        name,
    }
}

fn executor(around: &Surroundings, rpc: Rpc, journal: SimJournal, tenure: Tenure) -> Executor<Rpc, SimJournal> {
    let (name, script, meters) = ("sim".parse().unwrap(), &around.script, &around.meters);
    let adapter: Arc<dyn Adapter> = Arc::new(TallyAdapter);
    let signer = CountingSigner(KEY.parse().unwrap(), Arc::default());
    let gate = GateSettings {
        chain_id: 1,
        dry_run: false,
        allowed_calls: adapter.manifest(Address::ZERO).allowed_calls.into_iter().collect(),
        spend_per_hour_max_wei: U256::MAX,
        transactions_per_block_max: 10,
        pause_file: None,
    };
    let parts = Parts {
        chain: rpc,
        journal,
        adapter,
        gate: Gate::new(Box::new(signer), gate, around.switch.clone(), tenure),
        metrics: meters.executor.for_deployment(&name),
        alerts: around.alerts.clone(),
    };
    let settings = ExecutorSettings {
        fees: FeeSettings { fee_cap_wei: FEE_CAP, tx_gas_max: 1_000_000 },
        settle: SettleSettings {
            finality_depth_blocks: script.finality_depth,
            replace_after_blocks: 2,
            cancel_after_blocks: 8,
        },
        actions_per_block_max: 6,
        block_gas_max: 30_000_000,
        balance_min_wei: U256::from(BALANCE_MIN),
        relay_alone_blocks: 0,
        proceeds: None,
    };
    Executor::new(parts, Deployment { id: DeploymentId(1), name }, settings)
}

fn settings() -> PipelineSettings {
    PipelineSettings {
        scan: ScanSettings { at_risk_health_factor_bps: 11_000 },
        risk: RiskSettings { report_every_seconds: u64::MAX, ..RiskSettings::default() },
        policy: PolicySettings {
            policy: Policy {
                mode: Mode::Mandate,
                bad_debt_overrides_profit: true,
                swap_cost_bps: 0,
                capital_max: BTreeMap::new(),
            },
            native_value: None,
            native_value_by_asset: BTreeMap::new(),
            budget_per_day_max_wei: U256::MAX,
        },
        dry_run: false,
        head_age_max: Duration::from_secs(30),
    }
}
