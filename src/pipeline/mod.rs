//! Where the stages meet: loops per deployment and the one channel between them.
//!
//! The index loop keeps the cache at the head and publishes snapshots; the act loop takes the newest snapshot, settles
//! what is in flight, scans, plans and executes. The channel holds one snapshot, the latest: a slow pass skips blocks,
//! it never works on a queue of stale ones. The risk loop looks ahead beside the act loop and touches nothing.
//!
//! Invariants: nothing is planned on a snapshot that is not committed; a pass that fails changes nothing that is not
//! durable, is repeated, and raises an alert after a few in a row; deployments share nothing here.
//! Must not: hold SQL, RPC details, protocol rules or config-file types.

mod act;
mod concerns;
mod episodes;
pub mod guards;
mod index;
mod metrics;
pub mod ports;
mod risk;
mod terms;
#[cfg(test)]
mod tests;
mod tier_memory;

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use metrics::{PipelineMeter, PipelineMetrics};
pub use risk::fund_means;
pub use terms::{PolicySettings, TermsSource};

use crate::{
    alerts::AlertSink,
    chain::Rpc,
    executor::ChainExecutor,
    indexer::{CacheStore, Indexer},
    journal::{DeploymentId, Tenure},
    ops::{DeploymentHealth, Health},
    protocols::{Adapter, Guard},
    recovery::Waterfalls,
    scanner::{ScanSettings, Scanner, risk::RiskSettings},
    types::DeploymentName,
};
use concerns::Concerns;
use ports::PipelineJournal;

/// Consecutive failed passes of a loop before an alert says so.
const FAILURES_BEFORE_ALERT: u32 = 5;
/// Pause after a failed pass: long enough not to spin, short against a block.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How often an idle loop shows that it turns.
const BEAT_EVERY: Duration = Duration::from_secs(30);

/// Longest silence of a loop before the process counts as hung: a long backfill step and a slow database are no hang.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// What the loops need to know.
#[derive(Clone)]
pub struct PipelineSettings {
    /// What the scanner looks for.
    pub scan: ScanSettings,
    /// How far it looks ahead.
    pub risk: RiskSettings,
    /// Which offered actions are done.
    pub policy: PolicySettings,
    /// Plans are made, simulated and journalled, and nothing is sent.
    pub dry_run: bool,
    /// Without a new block for longer than this, somebody is told.
    pub head_age_max: Duration,
}

/// The parts of one deployment, wired.
pub struct Pipeline<S, J> {
    /// Its name.
    pub name: DeploymentName,
    /// Its row in the journal.
    pub deployment: DeploymentId,
    /// What the loops need to know.
    pub settings: PipelineSettings,
    /// The waterfall as it is configured now; looked at anew for every plan.
    pub waterfalls: watch::Receiver<Arc<Waterfalls>>,
    /// Its node.
    pub rpc: Rpc,
    /// Its protocol.
    pub adapter: Arc<dyn Adapter>,
    /// Where everything is written down.
    pub journal: J,
    /// How long this process may act for the deployment.
    pub tenure: Tenure,
    /// Chain to cache.
    pub indexer: Indexer<S>,
    /// Plan to chain.
    pub executor: ChainExecutor<J>,
    /// Who is told.
    pub alerts: Arc<dyn AlertSink>,
    /// Where the loops show that they turn.
    pub liveness: Health,
    /// What `/readyz` says about this deployment.
    pub health: DeploymentHealth,
    /// Figures of scan and plan.
    pub meter: PipelineMeter,
    /// What must hold before anything is planned.
    pub guards: Vec<Guard>,
}

impl<S: CacheStore, J: PipelineJournal> Pipeline<S, J> {
    /// Runs the loops until shutdown, or until one of them cannot go on.
    pub async fn run(mut self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.indexer.restore().await.context("restore the position cache")?;
        let snapshots = self.indexer.snapshots();
        let concerns = Concerns::new(self.name.clone(), self.alerts);
        let heartbeat = |of: &str| Arc::new(self.liveness.task(format!("{}/{of}", self.name), SILENCE_MAX));
        let (index_beats, act_beats, risk_beats) = (heartbeat("index"), heartbeat("act"), heartbeat("risk"));
        let index = index::IndexLoop {
            heartbeat: Arc::clone(&index_beats),
            signals: self.rpc.head_signals().await,
            auditor: self.indexer.auditor(),
            indexer: self.indexer,
            concerns: concerns.clone(),
            health: self.health.clone(),
            meter: self.meter.clone(),
            head_age_max: self.settings.head_age_max,
        };
        let risk = risk::RiskLoop {
            heartbeat: Arc::clone(&risk_beats),
            name: self.name.clone(),
            deployment: self.deployment,
            settings: self.settings.risk.clone(),
            adapter: Arc::clone(&self.adapter),
            journal: self.journal.clone(),
            concerns: concerns.clone(),
            meter: self.meter.clone(),
            short: Default::default(),
        };
        let act = act::ActLoop {
            rpc: self.rpc,
            guards: self.guards,
            heartbeat: Arc::clone(&act_beats),
            episodes: episodes::Episodes::new(self.deployment, self.journal.clone()),
            tier_memory: tier_memory::TierMemory::new(self.deployment, self.journal.clone()),
            name: self.name,
            deployment: self.deployment,
            scanner: Scanner::new(self.settings.scan),
            settings: self.settings,
            waterfalls: self.waterfalls,
            adapter: self.adapter,
            journal: self.journal,
            tenure: self.tenure,
            executor: self.executor,
            concerns,
            health: self.health,
            meter: self.meter,
            conditions: None,
            troubled: Default::default(),
            empty_funds: Default::default(),
            shortages: Default::default(),
            waves: Default::default(),
            noted: Default::default(),
            recovered: false,
        };
        let stop = shutdown.child_token();
        let (index, act, risk) = tokio::join!(
            ending_all(index.run(stop.clone()), &stop),
            ending_all(act.run(snapshots.clone(), stop.clone()), &stop),
            ending_all(risk.run(snapshots.clone(), stop.clone()), &stop)
        );
        for beats in [index_beats, act_beats, risk_beats].into_iter().filter_map(Arc::into_inner) {
            beats.end();
        }
        index.and(act).and(risk)
    }
}

/// Runs one loop, whose end is the others': half a pipeline would be watched by nobody.
async fn ending_all(one: impl Future<Output = anyhow::Result<()>>, stop: &CancellationToken) -> anyhow::Result<()> {
    let ended = one.await;
    stop.cancel();
    ended
}
