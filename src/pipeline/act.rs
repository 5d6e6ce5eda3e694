//! Settle, scan, plan, execute: one pass per snapshot.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use anyhow::{Context, bail};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Concerns, FAILURES_BEFORE_ALERT, PipelineMeter, PipelineSettings, RETRY_PAUSE, episodes::Episodes, metrics::Planned,
};
use crate::{
    alerts::AlertKind,
    executor::Executor,
    journal::{DeploymentId, DeploymentLock, FindingChange, Journal},
    ops::DeploymentHealth,
    positions::Snapshot,
    protocols::Adapter,
    recovery::{BalancedPlan, Reservations, SegmentCase, Step, plan},
    scanner::{Condition, Finding, ScanReport, scan},
    types::{DeploymentName, SegmentId, UnitKey},
};

/// Longest wait, in blocks, before a unit whose action was refused is planned for again.
const BACK_OFF_BLOCKS_MAX: u64 = 8;

pub(super) struct ActLoop {
    pub(super) name: DeploymentName,
    pub(super) deployment: DeploymentId,
    pub(super) settings: PipelineSettings,
    pub(super) adapter: Arc<dyn Adapter>,
    pub(super) journal: Journal,
    pub(super) lock: DeploymentLock,
    pub(super) executor: Executor,
    pub(super) concerns: Concerns,
    pub(super) health: DeploymentHealth,
    pub(super) meter: PipelineMeter,
    pub(super) episodes: Episodes,
    pub(super) memory: Memory,
}

/// What one pass leaves to the next. Losing it costs a repeated row, never a repeated action.
#[derive(Default)]
pub(super) struct Memory {
    recovered: bool,
    conditions: BTreeMap<UnitKey, (Condition, SegmentId)>,
    dry_plans: BTreeMap<SegmentId, Vec<Step>>,
    back_off: BTreeMap<UnitKey, BackOff>,
}

/// How often in a row a unit's action was refused, and until which block it is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BackOff {
    refusals: u32,
    until_block: u64,
}

impl BackOff {
    /// After one more refusal at this block: 1, 2, 4, 8, 8, … blocks.
    fn after(previous: Option<Self>, block: u64) -> Self {
        let refusals = previous.map_or(0, |b| b.refusals).saturating_add(1);
        let wait = 1u64.checked_shl(refusals - 1).unwrap_or(u64::MAX).min(BACK_OFF_BLOCKS_MAX);
        Self { refusals, until_block: block.saturating_add(wait) }
    }
}

impl ActLoop {
    pub(super) async fn run(
        mut self,
        mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut failures = 0;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = snapshots.changed() => changed.context("the index loop is gone")?,
            }
            let Some(snapshot) = snapshots.borrow_and_update().clone() else { continue };
            if !self.lock.still_held().await {
                bail!("the deployment's lock is lost; another process may act for it");
            }
            match self.act_once(&snapshot).await {
                Ok(()) => {
                    failures = 0;
                    self.concerns.state(AlertKind::JournalUnavailable, "", None);
                }
                Err(error) => {
                    failures += 1;
                    warn!(deployment = %self.name, block = snapshot.block.number, failures, error = format!("{error:#}"), "pass failed");
                    if failures >= FAILURES_BEFORE_ALERT {
                        let detail = format!("{failures} passes failed in a row, the last: {error:#}");
                        self.concerns.state(AlertKind::JournalUnavailable, "", Some(detail));
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                    snapshots.mark_changed();
                }
            }
        }
    }

    /// One pass over the newest snapshot. Any error leaves everything durable as it is; the pass is made again.
    async fn act_once(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let head = snapshot.block;
        if !self.memory.recovered {
            self.executor.recover(&head).await.context("take up what was in flight")?;
            self.memory.recovered = true;
        }
        self.executor.settle(&head).await.context("settle what is in flight")?;
        let report = self.scan(snapshot);
        self.record(&report).await.context("record findings")?;
        let cases = self.adapter.cases(snapshot, &report, false);
        for case in cases.values() {
            self.repair(&head, case).await.with_context(|| format!("segment {}", case.segment))?;
        }
        let troubled: BTreeSet<SegmentId> = cases.keys().copied().collect();
        self.episodes.close_all_but(&troubled, &self.executor.busy_segments(), &head).await.context("close episodes")?;
        self.memory.dry_plans.retain(|segment, _| troubled.contains(segment));
        self.meter.open_episodes(self.episodes.open_count());
        self.health.scanned(&head);
        Ok(())
    }

    fn scan(&self, snapshot: &Snapshot) -> ScanReport {
        let started = Instant::now();
        let report = scan(self.adapter.as_ref(), snapshot, &self.settings.scan);
        self.meter.scanned(&report, started.elapsed());
        debug!(deployment = %self.name, block = report.block.number, units = report.units, raised = report.raised, findings = report.findings.len(), "scanned");
        report
    }

    /// Journals the units whose condition changed since the last pass, those that became healthy included.
    async fn record(&mut self, report: &ScanReport) -> anyhow::Result<()> {
        let now: BTreeMap<UnitKey, (Condition, SegmentId)> =
            report.findings.iter().map(|f| (f.unit.clone(), (f.condition, f.segment))).collect();
        let changed = report
            .findings
            .iter()
            .enumerate()
            .filter(|(_, f)| self.memory.conditions.get(&f.unit).map(|(c, _)| *c) != Some(f.condition))
            .map(|(rank, finding)| FindingChange::of(finding, rank));
        let healed = self.memory.conditions.iter().filter(|(unit, _)| !now.contains_key(*unit));
        let healed = healed.map(|(unit, (_, segment))| FindingChange::healthy(unit.clone(), *segment));
        let changes: Vec<FindingChange> = changed.chain(healed).collect();
        if !changes.is_empty() {
            self.journal.record_findings(self.deployment, &report.block, &changes).await?;
        }
        self.memory.conditions = now;
        let bankrupt = report.findings.iter().filter(|f| f.condition == Condition::Bankrupt).count();
        let shortfall = (bankrupt > 0).then(|| format!("{bankrupt} units are bankrupt at block {}", report.block.number));
        self.concerns.state(AlertKind::Shortfall, "", shortfall);
        Ok(())
    }

    /// Plans and executes one segment's recovery.
    async fn repair(&mut self, head: &BlockRef, case: &SegmentCase) -> anyhow::Result<()> {
        let subject = case.segment;
        self.concerns.state(AlertKind::PriceStale, subject, case.blocked.clone());
        let mut reservations = self.executor.reservations();
        self.hold_back(head, &mut reservations);
        let plan = match plan(case, &self.settings.tiers, &reservations) {
            Ok(plan) => plan,
            Err(imbalance) => {
                self.meter.planned(Planned::Imbalance);
                self.concerns.state(AlertKind::PlanImbalance, subject, Some(imbalance.to_string()));
                return Ok(());
            }
        };
        self.concerns.state(AlertKind::PlanImbalance, subject, None);
        self.tell_residual(&plan);
        let repeated = self.settings.dry_run
            && self.memory.dry_plans.get(&case.segment).is_some_and(|steps| steps == plan.steps());
        if plan.steps().is_empty() || repeated {
            self.meter.planned(Planned::NothingToDo);
            return Ok(());
        }
        let episode = self.episodes.open(case.segment, head, &why(case)).await?;
        let executed = self.executor.execute(head, episode, &plan).await.context("execute the plan")?;
        info!(deployment = %self.name, block = head.number, segment = %case.segment, steps = plan.steps().len(),
            sent = executed.sent.len(), refused = executed.refused.len(), held_back = executed.held_back, "plan executed");
        self.meter.planned(if self.settings.dry_run { Planned::DryRun } else { Planned::Executed });
        if self.settings.dry_run {
            self.memory.dry_plans.insert(case.segment, plan.steps().to_vec());
        }
        Ok(())
    }
}
