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
    BEAT_EVERY, FAILURES_BEFORE_ALERT, PipelineMeter, PipelineSettings, RETRY_PAUSE, concerns::Concerns,
    episodes::Episodes, guards, metrics::Planned, ports::PipelineJournal, terms::TermsSource, tier_memory::TierMemory,
};
use crate::{
    alerts::AlertKind,
    chain::Rpc,
    executor::{ChainExecutor, Refused, Settled},
    journal::{DeploymentId, FindingChange, JournalError, Tenure},
    ops::{DeploymentHealth, Heartbeat},
    positions::Snapshot,
    protocols::{Adapter, Disposition, Guard},
    recovery::{
        BalancedPlan, Decision, Imbalance, Reservations, SegmentCase, Shortage, ShortageKind, Terms, Waterfall,
        Waterfalls, Waves,
    },
    scanner::{Condition, Finding, ScanReport, Scanner},
    types::{BlockRef, DeploymentName, I256, SegmentId, U256, UnitKey, math},
};

pub(super) struct ActLoop<J> {
    pub(super) rpc: Rpc,
    pub(super) guards: Vec<Guard>,
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) name: DeploymentName,
    pub(super) deployment: DeploymentId,
    pub(super) settings: PipelineSettings,
    pub(super) waterfalls: watch::Receiver<Arc<Waterfalls>>,
    pub(super) adapter: Arc<dyn Adapter>,
    pub(super) journal: J,
    pub(super) tenure: Tenure,
    pub(super) executor: ChainExecutor<J>,
    pub(super) concerns: Concerns,
    pub(super) health: DeploymentHealth,
    pub(super) meter: PipelineMeter,
    pub(super) episodes: Episodes<J>,
    pub(super) tier_memory: TierMemory<J>,
    /// Follows the snapshots.
    pub(super) scanner: Scanner,
    /// Each unit's condition as the journal has it, the healthy ones left out; `None` until read.
    pub(super) conditions: Option<BTreeMap<UnitKey, Condition>>,
    /// Segments about which something was said in an earlier pass.
    pub(super) troubled: BTreeSet<SegmentId>,
    /// Segments whose insurance fund could pay nothing when it was last looked at.
    pub(super) empty_funds: BTreeSet<SegmentId>,
    /// The cascade so far. A restart begins without: a forecast, no book.
    pub(super) waves: Waves,
    /// Shortages that were told, by alert and subject.
    pub(super) shortages: BTreeSet<(AlertKind, String)>,
    /// What the last plan of each segment left undone.
    pub(super) noted: BTreeMap<SegmentId, Vec<String>>,
    /// Whether what an earlier process left in flight was taken up.
    pub(super) recovered: bool,
}

impl<J: PipelineJournal> ActLoop<J> {
    pub(super) async fn run(
        mut self,
        mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut failures = 0;
        loop {
            self.heartbeat.beat();
            if !self.tenure.holds() {
                bail!("the deployment's lease is lost; another replica may act for it");
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = snapshots.changed() => changed.context("the index loop is gone")?,
                () = tokio::time::sleep(BEAT_EVERY) => continue,
            }
            let Some(snapshot) = snapshots.borrow_and_update().clone() else { continue };
            match self.act_once(&snapshot).await {
                Ok(()) => {
                    failures = 0;
                    self.tell_failing(None);
                }
                Err(error) if error.is::<Halted>() => return Err(error),
                Err(error) => {
                    failures += 1;
                    self.meter.act_failures.inc();
                    let text = format!("{error:#}");
                    warn!(deployment = %self.name, block = snapshot.block.number, failures, error = text, "pass failed");
                    if failures >= FAILURES_BEFORE_ALERT {
                        self.tell_failing(Some((failures, &error)));
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                    snapshots.mark_changed();
                }
            }
        }
    }

    /// One pass over the newest snapshot. After an error everything durable stands and the pass is made again.
    async fn act_once(&mut self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let head = snapshot.block;
        self.executor.know(snapshot.book.clone());
        let settled = if self.recovered {
            self.executor.settle(&head).await.context("settle what is in flight")?
        } else {
            let settled = self.executor.recover(&head).await.context("take up what was in flight")?;
            self.recovered = true;
            settled
        };
        if !settled.is_empty() {
            self.tier_memory.forget();
        }
        self.tell_settled(&settled);
        let deviations = guards::deviations(&self.rpc, &self.guards, &head).await.context("look at the guards")?;
        if !deviations.is_empty() {
            return Err(Halted(deviations.join("; ")).into());
        }
        let report = self.scan(snapshot);
        let (now, changes) = self.changes(snapshot, &report).await.context("read what was found before")?;
        // Whoever is in distress does not wait for being written down, and is written down whatever becomes of the rest.
        let (journal, deployment) = (self.journal.clone(), self.deployment);
        let recorded = async {
            if changes.is_empty() { Ok(()) } else { journal.record_findings(deployment, &head, &changes).await }
        };
        let (recorded, answered) = tokio::join!(biased; recorded, self.answer(snapshot, &report));
        recorded.context("record findings")?;
        self.conditions = Some(now);
        self.tell_bankrupt(&report);
        answered?;
        self.executor.look_ahead(&head).await;
        if self.executor.is_idle() {
            self.tier_memory.look_ahead(&self.episodes, head.number).await;
        }
        self.health.scanned(head.number);
        Ok(())
    }

    /// Plans and executes what the findings call for, segment by segment.
    async fn answer(&mut self, snapshot: &Snapshot, report: &ScanReport) -> anyhow::Result<()> {
        let head = snapshot.block;
        // a fund that was empty is watched until it is not, also while its segment is calm
        let cases = self.adapter.cases(snapshot, report, !self.empty_funds.is_empty());
        self.tell_funds(&cases);
        let troubled: BTreeSet<SegmentId> =
            cases.values().filter(|case| is_troubled(case)).map(|case| case.segment).collect();
        self.executor.allow(self.adapter.allowed_calls(&snapshot.book, self.executor.keeper()));
        let mut short = BTreeSet::new();
        // What is due in a calm segment is done, and is no trouble that keeps an episode open.
        let is_due = |case: &SegmentCase| case.measures.is_due(head.number, case.fund.spendable);
        for (segment, case) in cases.into_iter().filter(|(id, case)| troubled.contains(id) || is_due(case)) {
            self.tell_wave(&head, &case);
            short.extend(self.repair(&head, case).await.with_context(|| format!("segment {segment}"))?);
        }
        self.tell_shortages(short);
        for calm in self.troubled.difference(&troubled) {
            for kind in [AlertKind::PriceStale, AlertKind::PlanImbalance, AlertKind::ResidualLoss] {
                self.concerns.state(kind, calm, None);
            }
        }
        let busy = self.executor.segments_in_flight();
        self.episodes.close_all_but(&troubled, &busy, &head).await.context("close episodes")?;
        self.waves.calm_all_but(&troubled);
        self.troubled = troubled;
        self.meter.open_episodes(self.episodes.open_count());
        Ok(())
    }

    /// Says who fell since the last pass, what had been provided for it and what it lost.
    fn tell_wave(&mut self, head: &BlockRef, case: &SegmentCase) {
        let Some(wave) = self.waves.see(case) else { return };
        self.meter.wave(&wave);
        let error = self.waves.error(case.segment);
        info!(
            deployment = %self.name, segment = %case.segment, block = head.number, provided = %wave.provided,
            lost = %wave.lost, missed_so_far = %error.absolute, lost_so_far = %error.lost, "a wave of distress"
        );
    }

    fn tell_funds(&mut self, cases: &BTreeMap<SegmentId, SegmentCase>) {
        // Where a protocol has no fund of its own there is none to run low.
        let with_fund = |case: &&SegmentCase| case.offered.is_none() || !case.fund.balance.is_zero();
        for case in cases.values().filter(with_fund) {
            let empty = case.fund.spendable.is_zero();
            let detail =
                format!("the fund of segment {} holds {} and can pay nothing", case.segment, case.fund.balance);
            self.concerns.state(AlertKind::FundLow, case.segment, empty.then_some(detail));
            if empty {
                self.empty_funds.insert(case.segment);
            } else {
                self.empty_funds.remove(&case.segment);
            }
        }
    }

    /// Says what is short now, and that the rest is short no longer.
    fn tell_shortages(&mut self, found: BTreeSet<Shortage>) {
        let mut told = BTreeSet::new();
        for Shortage { kind, subject, detail } in found {
            let kind = match kind {
                ShortageKind::FundBlocks => AlertKind::FundBlocks,
                ShortageKind::DeficitStands => AlertKind::DeficitStands,
                ShortageKind::Capital => AlertKind::CapitalShort,
            };
            self.concerns.state(kind, &subject, Some(detail));
            told.insert((kind, subject));
        }
        for (kind, subject) in self.shortages.difference(&told) {
            self.concerns.state(*kind, subject, None);
        }
        self.shortages = told;
    }

    /// Says that passes fail, and whose fault it is as far as the last error shows; or that they do no longer.
    fn tell_failing(&self, failing: Option<(u32, &anyhow::Error)>) {
        let of_journal = |error: &anyhow::Error| error.chain().any(|cause| cause.is::<JournalError>());
        let detail = |wanted: bool| {
            let (failures, error) = failing.filter(|(_, error)| of_journal(error) == wanted)?;
            Some(format!("{failures} passes failed in a row, the last: {error:#}"))
        };
        self.concerns.state(AlertKind::JournalUnavailable, "", detail(true));
        self.concerns.state(AlertKind::DeploymentHalted, "passes", detail(false));
    }

    fn tell_settled(&self, settled: &[Settled]) {
        for event in settled {
            info!(deployment = %self.name, transaction = %event.transaction, outcome = ?event.outcome, "transaction settled");
        }
    }

    fn scan(&mut self, snapshot: &Snapshot) -> ScanReport {
        let started = Instant::now();
        let report = self.scanner.scan(self.adapter.as_ref(), snapshot);
        self.meter.scanned(&report, started.elapsed());
        debug!(
            deployment = %self.name, block = report.block.number, units = report.units, raised = report.raised,
            findings = report.findings.len(), "scanned"
        );
        report
    }

    /// What each unit is found in now, and the units whose condition changed since the last pass, those that became healthy
    /// included.
    async fn changes(
        &mut self,
        snapshot: &Snapshot,
        report: &ScanReport,
    ) -> anyhow::Result<(BTreeMap<UnitKey, Condition>, Vec<FindingChange>)> {
        if self.conditions.is_none() {
            self.conditions = Some(self.journal.standing_conditions(self.deployment).await?);
        }
        let before = self.conditions.get_or_insert_default();
        let now: BTreeMap<UnitKey, Condition> =
            report.findings.iter().map(|finding| (finding.unit.clone(), finding.condition)).collect();
        let mut changes = Vec::new();
        for (rank, finding) in report.findings.iter().enumerate() {
            if before.get(&finding.unit) != Some(&finding.condition) {
                changes.push(found(finding, u32::try_from(rank).ok()));
            }
        }
        let healed = before.keys().filter(|unit| !now.contains_key(*unit));
        changes.extend(healed.filter_map(|unit| healthy(self.adapter.as_ref(), snapshot, unit)));
        Ok((now, changes))
    }

    fn tell_bankrupt(&self, report: &ScanReport) {
        let bankrupt = report.findings.iter().filter(|finding| finding.condition == Condition::Bankrupt).count();
        let detail = (bankrupt > 0).then(|| format!("{bankrupt} units are bankrupt at block {}", report.block.number));
        self.concerns.state(AlertKind::Shortfall, "", detail);
    }

    /// Plans and executes one segment's recovery; what was found short.
    async fn repair(&mut self, head: &BlockRef, case: SegmentCase) -> anyhow::Result<BTreeSet<Shortage>> {
        let segment = case.segment;
        self.concerns.state(AlertKind::PriceStale, segment, case.blocked.clone());
        let mut short: BTreeSet<Shortage> = case.offered.iter().flat_map(|offered| offered.shortages.clone()).collect();
        let (cause, holes) = (cause(&case), open_holes(&case));
        let plan = match self.plan(head, case).await? {
            Ok(plan) => plan,
            Err(imbalance) => {
                self.meter.planned(Planned::Imbalance);
                let why = imbalance.to_string();
                if self.is_news(segment, std::slice::from_ref(&why)) {
                    self.refuse(head, segment, &cause, holes, std::slice::from_ref(&why)).await?;
                }
                self.concerns.state(AlertKind::PlanImbalance, segment, Some(why));
                return Ok(short);
            }
        };
        short.extend(plan.shortages().iter().cloned());
        let news = self.tell_notes(&plan);
        self.concerns.state(AlertKind::PlanImbalance, segment, None);
        self.concerns.state(AlertKind::ResidualLoss, segment, residual(&plan));
        if plan.steps().is_empty() {
            self.meter.planned(Planned::NothingToDo);
            if news && !plan.ledger().residual.is_zero() {
                self.refuse(head, segment, &cause, plan.ledger().residual, plan.notes()).await?;
            }
            return Ok(short);
        }
        self.tier_memory.forget();
        let executed = self.executor.execute(head, &cause, &plan).await;
        let executed = self.episodes.or_look_again(executed).context("execute the plan")?;
        self.episodes.took(segment, executed.episode, head, &cause);
        info!(
            deployment = %self.name, block = head.number, %segment, steps = plan.steps().len(),
            sent = executed.sent.len(), refused = executed.refused.len(), held_back = executed.held_back.len(),
            "plan executed"
        );
        self.meter.planned(if self.settings.dry_run { Planned::DryRun } else { Planned::Executed });
        let of_fund = |refused: &&Refused| refused.refusal.disposition == Disposition::FundShort;
        short.extend(executed.refused.iter().find(of_fund).map(|refused| Shortage {
            kind: ShortageKind::FundBlocks,
            subject: segment.to_string(),
            detail: format!("segment {segment}: {}", refused.refusal.reason),
        }));
        Ok(short)
    }

    /// Says what a plan leaves undone and why, when that is not what was said last; whether it is not.
    fn tell_notes(&mut self, plan: &BalancedPlan) -> bool {
        let news = self.is_news(plan.segment(), plan.notes());
        for note in plan.notes().iter().filter(|_| news) {
            info!(deployment = %self.name, segment = %plan.segment(), block = plan.block().number, note, "left undone");
        }
        news
    }

    /// Whether these notes are not the ones of last time.
    fn is_news(&mut self, segment: SegmentId, notes: &[String]) -> bool {
        self.noted.insert(segment, notes.to_vec()).unwrap_or_default() != notes
    }

    /// Writes down, as part of the segment's episode, that nothing can be done and why.
    async fn refuse(
        &mut self,
        head: &BlockRef,
        segment: SegmentId,
        cause: &str,
        residual: U256,
        reasons: &[String],
    ) -> anyhow::Result<()> {
        let episode = self.episodes.open(segment, head, cause).await?;
        self.journal.record_refusal(episode, head, residual, reasons).await.context("record a refusal")
    }

    /// The plan of one segment under the waterfall as it is configured now: from what its protocol offers, or composed
    /// from positions.
    async fn plan(&mut self, head: &BlockRef, case: SegmentCase) -> anyhow::Result<Result<BalancedPlan, Imbalance>> {
        let waterfalls = Arc::clone(&self.waterfalls.borrow_and_update());
        let waterfall = waterfalls.of(case.segment);
        let reservations = self.reservations(head, case.segment, waterfall).await?;
        let Some(offered) = &case.offered else {
            return Ok(decision(case, waterfall, None, reservations).decide());
        };
        let source = TermsSource {
            rpc: &self.rpc,
            journal: &self.journal,
            deployment: self.deployment,
            keeper: self.executor.keeper(),
            settings: &self.settings.policy,
        };
        let terms = source.of(&case, offered, head).await?;
        Ok(decision(case, waterfall, Some(terms), reservations).decide())
    }

    /// What the plan must leave alone, and what its tiers' limits are counted against.
    async fn reservations(
        &mut self,
        head: &BlockRef,
        segment: SegmentId,
        waterfall: &Waterfall,
    ) -> anyhow::Result<Reservations> {
        let mut reservations = self.executor.reservations(head);
        if waterfall.remembers() {
            let episode = self.episodes.standing(segment).await?;
            let used = self.tier_memory.of(segment, episode, head.number, waterfall.cooldown_blocks_max()).await;
            let used = used.context("read what the tiers took before")?;
            reservations.used.extend(used.into_iter().map(|(tier, used)| ((segment, tier), used)));
        }
        Ok(reservations)
    }
}

/// All that a plan is made from.
fn decision(case: SegmentCase, waterfall: &Waterfall, terms: Option<Terms>, reservations: Reservations) -> Decision {
    let (tiers, adl_policy) = (waterfall.tiers.clone(), waterfall.adl_policy.name().to_owned());
    Decision { case, tiers, adl_policy, terms, reservations }
}

/// The contracts are not what the adapter was written for: nothing may be decided until somebody looked.
#[derive(Debug, thiserror::Error)]
#[error("the contracts are not what this deployment was configured for: {0}")]
struct Halted(String);

/// Whether a segment has anything to repair.
fn is_troubled(case: &SegmentCase) -> bool {
    let offered = case.offered.as_ref();
    let open = offered.is_some_and(|offered| !offered.intents.is_empty() || !offered.deficits.is_empty());
    !case.distressed.is_empty() || open
}

fn found(finding: &Finding, rank: Option<u32>) -> FindingChange {
    FindingChange {
        unit: finding.unit.clone(),
        segment: finding.segment,
        condition: finding.condition,
        equity: finding.equity,
        maintenance_margin: finding.maintenance_margin,
        surplus: finding.surplus,
        health_factor_bps: finding.health_factor_bps,
        rank,
        reason: finding.unknown_reason.clone(),
    }
}

/// The change of a unit that is no longer among the findings; `None` if it is gone altogether.
fn healthy(adapter: &dyn Adapter, snapshot: &Snapshot, key: &UnitKey) -> Option<FindingChange> {
    let unit = snapshot.book.unit(key)?;
    let standing = adapter.standing(snapshot, key, unit).ok();
    Some(FindingChange {
        unit: key.clone(),
        segment: unit.segment,
        condition: Condition::Healthy,
        equity: standing.map_or(I256::ZERO, |standing| standing.equity),
        maintenance_margin: standing.map_or(U256::ZERO, |standing| standing.maintenance_margin),
        surplus: standing.map_or(I256::ZERO, |standing| standing.surplus),
        health_factor_bps: None,
        rank: None,
        reason: None,
    })
}

/// How far below zero the case's units stand together.
fn open_holes(case: &SegmentCase) -> U256 {
    let holes = case.distressed.iter().map(|unit| math::negative_part(unit.equity));
    holes.fold(U256::ZERO, |sum, hole| sum.saturating_add(hole))
}

fn cause(case: &SegmentCase) -> String {
    if case.distressed.is_empty() && case.offered.is_none() {
        return format!("{} claims, and the fund may pay {}", case.measures.claims.len(), case.fund.spendable);
    }
    let bankrupt = case.distressed.iter().filter(|unit| unit.equity.is_negative()).count();
    format!("{} units liquidatable, {bankrupt} of them bankrupt", case.distressed.len())
}

/// What nobody could pay for in this plan, if anything.
fn residual(plan: &BalancedPlan) -> Option<String> {
    let residual = plan.ledger().residual;
    (!residual.is_zero())
        .then(|| format!("{residual} token units at block {}: {}", plan.block().number, plan.notes().join("; ")))
}
