//! The composition root: configuration to parts, parts to pipelines, pipelines to a process that ends in order.
//!
//! Invariants: deployments share nothing but the process, the journal's pool and the alert queue; one that cannot start
//! or breaks is halted, told, and tried again, and the others never notice; a process none of whose deployments can
//! start ends with one line a fault.
//! Must not: decide anything.

mod lease;
mod ports;
pub mod preflight;
pub mod reload;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    alerts::{Alert, AlertKey, AlertKind, AlertMetrics, AlertSettings, AlertSink, Alerts, Severity, WebhookSettings},
    chain::RpcMetrics,
    config::{self, Config},
    executor::{
        self, Executor, ExecutorMetrics, ExecutorSettings, FeeSettings, Gate, GateSettings, PauseSwitch, SettleSettings,
    },
    indexer::{Indexer, IndexerMetrics, IndexerSettings},
    journal::{CameBy, Forgotten, Journal, Tenure},
    ops::{self, Control, Health, Limits, Metrics, OpsServer, Role},
    pipeline::{Pipeline, PipelineMetrics, PipelineSettings, PolicySettings},
    recovery::{Mode, Policy},
    scanner::ScanSettings,
    types::{Address, DeploymentName, U256},
};

use reload::{ConfigSource, Live};

/// Pause before a halted deployment is tried again.
const RESTART_PAUSE: Duration = Duration::from_secs(10);
/// How long queued alerts may take to go out at the end.
const FAREWELL: Duration = Duration::from_secs(5);
/// How often the journal is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How often the journal makes room and forgets, and the pause between two pieces.
const HOUSE_EVERY: Duration = Duration::from_secs(3_600);
const HOUSE_PAUSE: Duration = Duration::from_secs(1);

/// Connects to the database. The error names the key and the mend.
pub async fn connect_journal(database: &config::Database) -> anyhow::Result<Journal> {
    Journal::connect(database.url.expose(), database.connections_max).await.map_err(|error| {
        anyhow::anyhow!("database.url: {error}; check that Postgres runs there and that user and database exist")
    })
}

/// The same, and refuses a schema that is not this build's.
pub async fn open_journal(database: &config::Database) -> anyhow::Result<Journal> {
    let journal = connect_journal(database).await?;
    journal.check_schema().await.map_err(|error| anyhow::anyhow!("database: {error}"))?;
    Ok(journal)
}

/// Every stage's metrics in one registry.
struct StageMetrics {
    rpc: RpcMetrics,
    indexer: IndexerMetrics,
    executor: ExecutorMetrics,
    pipeline: PipelineMetrics,
}

/// What all deployments of the process share.
struct Shared {
    journal: Journal,
    alerts: Arc<dyn AlertSink>,
    health: Health,
    head_age_max: Duration,
    lease_lasts: Duration,
    metrics: StageMetrics,
    live: Live,
}

/// Runs every enabled deployment until `stop`; `source` is where `config` came from and is read again on request.
pub async fn run(config: Config, source: ConfigSource, stop: CancellationToken) -> anyhow::Result<()> {
    config.enabled_deployments()?;
    let journal = open_journal(&config.database).await?;
    // Before the first event: a month that began in the default partition stays there.
    prepare_months(&journal).await;
    let metrics = Metrics::new()?;
    let registry = metrics.registry();
    let (alerts, alerts_task) = Alerts::start(
        alert_settings(&config.alerts),
        Some(Arc::new(ports::AlertStore::new(journal.clone()))),
        AlertMetrics::new(registry)?,
    )?;
    let health = Health::new(limits(&config.ops));
    let shared = Arc::new(Shared {
        journal,
        alerts: Arc::new(alerts),
        health: health.clone(),
        head_age_max: Duration::from_secs(config.ops.head_age_max_seconds),
        lease_lasts: Duration::from_secs(config.database.lease_seconds),
        metrics: StageMetrics {
            rpc: RpcMetrics::new(registry)?,
            indexer: IndexerMetrics::new(registry)?,
            executor: ExecutorMetrics::new(registry)?,
            pipeline: PipelineMetrics::new(registry)?,
        },
        live: Live::new(source, &config),
    });
    let server = OpsServer::bind(config.ops.listen).await?;
    info!(address = %server.address(), "operators' endpoints listen");
    let mut tasks = JoinSet::new();
    let server_stop = CancellationToken::new();
    tasks.spawn(server.serve(metrics, health, control(&config, &shared), server_stop.clone()));
    let hangups = ops::hangups().context("listen for SIGHUP")?;
    let on_hangup = reload::on_hangup(Arc::clone(&shared), hangups, server_stop.clone());
    tasks.spawn(async move {
        on_hangup.await;
        Ok(())
    });
    let outcome = run_deployments(&config, &shared, &stop).await;
    server_stop.cancel();
    while tasks.join_next().await.is_some() {}
    alerts_task.finish(FAREWELL).await;
    shared.journal.close().await;
    info!("stopped");
    outcome
}

/// What may be changed over HTTP, if a token says by whom.
fn control(config: &Config, shared: &Arc<Shared>) -> Option<Control> {
    let token = config.ops.token.as_ref()?;
    let shared = Arc::clone(shared);
    Some(Control::new(token.expose(), move || {
        let shared = Arc::clone(&shared);
        Box::pin(async move { reload::reload(&shared, CameBy::Api).await })
    }))
}

async fn run_deployments(config: &Config, shared: &Arc<Shared>, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut faults = Vec::new();
    let mut passed = Vec::new();
    for (name, deployment) in config.enabled_deployments()? {
        match preflight::check(name, deployment, shared.metrics.rpc.for_deployment(name)).await {
            Ok(ready) => passed.push((name, deployment, Some(ready))),
            Err(found) => {
                faults.extend(found.iter().map(ToString::to_string));
                shared.halted(name, &found);
                passed.push((name, deployment, None));
            }
        }
    }
    if passed.iter().all(|(_, _, ready)| ready.is_none()) {
        bail!(faults.join("\n"));
    }
    let mut tasks = JoinSet::new();
    for (name, _, ready) in passed {
        tasks.spawn(supervise(name.clone(), ready, Arc::clone(shared), stop.clone()));
    }
    let names = config.enabled_deployments()?.into_keys().cloned().collect();
    tasks.spawn(watch_journal(Arc::clone(shared), names, stop.clone()));
    let keep = Duration::from_secs(u64::from(config.database.keep_days) * 86_400);
    tasks.spawn(keep_house(shared.journal.clone(), Some(keep).filter(|keep| !keep.is_zero()), stop.clone()));
    while let Some(ended) = tasks.join_next().await {
        ended.context("a deployment's task")?;
    }
    Ok(())
}

/// Tells health whether the journal answers.
async fn watch_journal(shared: Arc<Shared>, names: Vec<DeploymentName>, stop: CancellationToken) {
    loop {
        if shared.journal.ping().await.is_ok() {
            for name in &names {
                shared.health.deployment(name).journal_ok();
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PING_EVERY) => {}
        }
    }
}

/// Has the journal make room for what comes, and forget what is older than this, a piece at a time.
async fn keep_house(journal: Journal, keep: Option<Duration>, stop: CancellationToken) {
    loop {
        prepare_months(&journal).await;
        let forgotten = match keep {
            Some(keep) => journal.forget(keep).await,
            None => Ok(Forgotten::default()),
        };
        let pause = match forgotten {
            Ok(gone) if gone == Forgotten::default() => HOUSE_EVERY,
            Ok(gone) => {
                debug!(?gone, "forgotten");
                HOUSE_PAUSE
            }
            Err(error) => {
                warn!(%error, "nothing is forgotten");
                HOUSE_EVERY
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn prepare_months(journal: &Journal) {
    if let Err(error) = journal.prepare_months().await {
        warn!(%error, "no partition for this month's or the next one's events; they go to the default one");
    }
}

/// Keeps one deployment running: a pipeline that ends for any reason but shutdown is told and started anew.
async fn supervise(
    name: DeploymentName,
    mut ready: Option<preflight::Ready>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled()
        && let Some(deployment) = shared.live.deployment(&name)
    {
        let checked = match ready.take() {
            Some(ready) => Ok(ready),
            None => preflight::check(&name, &deployment, shared.metrics.rpc.for_deployment(&name)).await,
        };
        match checked {
            Err(faults) => shared.halted(&name, &faults),
            Ok(ready) => {
                if let Err(error) = run_deployment(&name, &deployment, ready, &shared, &stop).await {
                    shared.halted(&name, &[format!("{error:#}")]);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(RESTART_PAUSE) => {}
        }
    }
}

async fn run_deployment(
    name: &DeploymentName,
    deployment: &config::Deployment,
    ready: preflight::Ready,
    shared: &Shared,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let health = shared.health.deployment(name);
    let (journal, lasts) = (&shared.journal, shared.lease_lasts);
    let Some((lease, tenure)) = lease::acquire(journal, name, lasts, &health, stop).await? else {
        return Ok(());
    };
    let (over, stop) = (CancellationToken::new(), stop.child_token());
    let granted = (lease.clone(), tenure.clone());
    let kept = tokio::spawn(lease::keep(journal.clone(), granted, lasts, stop.clone(), over.clone()));
    let ended = act_for(name, deployment, ready, shared, (tenure, journal.fenced(&lease)), &stop).await;
    over.cancel();
    kept.await.context("the task that keeps the lease")?;
    health.role(Role::Unknown);
    // If the journal is away the lease runs out by itself.
    if let Err(error) = journal.release_lease(&lease).await {
        warn!(deployment = %name, %error, "lease not given up");
    }
    ended
}

/// Acts for a deployment while its lease holds. Everything the journal gets goes through the lease's fence.
async fn act_for(
    name: &DeploymentName,
    deployment: &config::Deployment,
    ready: preflight::Ready,
    shared: &Shared,
    (tenure, journal): (Tenure, Journal),
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let settings = deployment.redacted_json();
    let id = journal.register_deployment(name, deployment.chain_id, &deployment.protocol.adapter, &settings).await?;
    let recovery = reload::as_json(&deployment.recovery)?;
    journal.record_recovery_settings(id, CameBy::Start, &recovery).await?;
    let waterfalls = shared.live.waterfalls(name).context("a deployment that is not configured")?;
    let health = shared.health.deployment(name);
    health.halted(None);
    shared.alerts.resolve(&AlertKey::new(AlertKind::DeploymentHalted, Some(name), ""));
    info!(deployment = %name, keeper = %ready.signer.address(), dry_run = deployment.executor.dry_run, "deployment starts");
    let manifest = ready.adapter.manifest(ready.signer.address());
    let gate = GateSettings {
        chain_id: deployment.chain_id,
        dry_run: deployment.executor.dry_run,
        allowed_calls: manifest.allowed_calls.iter().copied().collect::<BTreeSet<_>>(),
        spend_per_hour_max_wei: deployment.executor.spend_per_hour_max_wei.0,
        transactions_per_block_max: u32::try_from(deployment.executor.actions_per_block_max).unwrap_or(u32::MAX),
        pause_file: deployment.executor.pause_file.clone(),
    };
    let parts = executor::Parts {
        chain: ready.rpc.clone(),
        journal: journal.clone(),
        adapter: Arc::clone(&ready.adapter),
        gate: Gate::new(ready.signer, gate, PauseSwitch::default(), tenure.clone()),
        metrics: shared.metrics.executor.for_deployment(name),
        alerts: Arc::clone(&shared.alerts),
    };
    let executor =
        Executor::new(parts, executor::Deployment { id, name: name.clone() }, executor_settings(&deployment.executor));
    let indexer = Indexer::new(
        ready.rpc.clone(),
        Arc::clone(&ready.adapter),
        ports::Cache::new(journal.clone(), id),
        indexer_settings(deployment),
        shared.metrics.indexer.for_deployment(name),
    );
    let pipeline = Pipeline {
        name: name.clone(),
        deployment: id,
        settings: pipeline_settings(deployment, shared.head_age_max),
        waterfalls,
        rpc: ready.rpc,
        adapter: ready.adapter,
        journal,
        tenure,
        indexer,
        executor,
        alerts: Arc::clone(&shared.alerts),
        liveness: shared.health.clone(),
        health: health.clone(),
        meter: shared.metrics.pipeline.for_deployment(name),
        guards: manifest.guards,
    };
    pipeline.run(stop.clone()).await
}

impl Shared {
    /// Says that a deployment does not act, to the log, to `/readyz` and as an alert.
    fn halted(&self, name: &DeploymentName, faults: &[impl ToString]) {
        let reason = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        error!(deployment = %name, reason, "deployment halted");
        self.health.deployment(name).halted(Some(reason.clone()));
        self.alerts.raise(Alert::new(AlertKey::new(AlertKind::DeploymentHalted, Some(name), ""), reason));
    }
}

fn alert_settings(alerts: &config::Alerts) -> AlertSettings {
    let webhook = |webhook: &config::Webhook| WebhookSettings {
        name: webhook.name.clone(),
        url: webhook.url.expose().to_owned(),
        secret: webhook.secret.as_ref().map(|secret| secret.expose().to_owned()),
        min_severity: match webhook.min_severity {
            config::Severity::Info => Severity::Info,
            config::Severity::Warning => Severity::Warning,
            config::Severity::Critical => Severity::Critical,
        },
        timeout: Duration::from_millis(webhook.timeout_ms),
    };
    AlertSettings {
        repeat_after: Duration::from_secs(alerts.repeat_after_seconds),
        webhooks: alerts.webhooks.iter().map(webhook).collect(),
    }
}

fn limits(ops: &config::Ops) -> Limits {
    Limits {
        head_age_max: Duration::from_secs(ops.head_age_max_seconds),
        scan_age_max: Duration::from_secs(ops.scan_age_max_seconds),
        journal_age_max: Duration::from_secs(ops.journal_age_max_seconds),
        lag_blocks_max: ops.lag_blocks_max,
    }
}

fn executor_settings(executor: &config::Executor) -> ExecutorSettings {
    ExecutorSettings {
        fees: FeeSettings { fee_cap_wei: executor.fee_cap_wei.0, tx_gas_max: executor.tx_gas_max },
        settle: SettleSettings {
            finality_depth_blocks: executor.finality_depth_blocks,
            replace_after_blocks: executor.replace_after_blocks,
            cancel_after_blocks: executor.cancel_after_blocks,
        },
        actions_per_block_max: executor.actions_per_block_max,
        block_gas_max: executor.block_gas_max,
        balance_min_wei: executor.balance_min_wei.0,
        relay_alone_blocks: executor.relay_url.as_ref().map_or(0, |_| executor.relay_alone_blocks),
        proceeds: executor.proceeds,
    }
}

fn indexer_settings(deployment: &config::Deployment) -> IndexerSettings {
    IndexerSettings {
        start_block: deployment.start_block,
        reorg_depth_max: deployment.indexer.reorg_depth_max,
        backfill_chunk_blocks: deployment.indexer.backfill_chunk_blocks,
        audit_every_blocks: deployment.indexer.audit_every_blocks,
        audit_units: deployment.indexer.audit_units,
    }
}

fn pipeline_settings(deployment: &config::Deployment, head_age_max: Duration) -> PipelineSettings {
    PipelineSettings {
        scan: ScanSettings { at_risk_health_factor_bps: deployment.scanner.at_risk_health_factor_bps },
        risk: deployment.risk.clone(),
        policy: policy_settings(&deployment.policy),
        dry_run: deployment.executor.dry_run,
        head_age_max,
    }
}

/// A deployment's policy, from the configuration.
pub fn policy_settings(policy: &config::Policy) -> PolicySettings {
    let amounts = |map: &BTreeMap<Address, config::Decimal<U256>>| map.iter().map(|(k, v)| (*k, v.0)).collect();
    PolicySettings {
        policy: Policy {
            mode: match policy.mode {
                config::PolicyMode::Profit => Mode::Profit { gain_min: policy.gain_min.0 },
                config::PolicyMode::Mandate => Mode::Mandate,
            },
            bad_debt_overrides_profit: policy.bad_debt_overrides_profit,
            swap_cost_bps: policy.swap_cost_bps,
            capital_max: amounts(&policy.capital_max),
        },
        native_value: policy.native_value.map(|value| value.0),
        native_value_by_asset: amounts(&policy.native_value_by_asset),
        budget_per_day_max_wei: policy.budget_per_day_max_wei.0,
    }
}
