//! Looks ahead beside the act loop: measures how prices move, reports what is expected, and warns while there is time.
//!
//! Invariants: nothing that is decided waits for it, and its failures stop nothing; an observation is of a committed block.
//! Must not: act.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use prometheus::{Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{BEAT_EVERY, PipelineMeter, concerns::Concerns, ports::PipelineJournal};
use crate::{
    alerts::AlertKind,
    journal::DeploymentId,
    ops::Heartbeat,
    positions::Snapshot,
    protocols::Adapter,
    scanner::{
        ScanReport,
        risk::{Moves, RiskReport, RiskSettings, Runway, assess},
    },
    types::{DeploymentName, SegmentId},
};

/// How long reports are kept.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// What each segment's insurance fund may spend, settlement-token units.
pub fn fund_means(adapter: &dyn Adapter, snapshot: &Snapshot) -> BTreeMap<SegmentId, f64> {
    let nobody = ScanReport { block: snapshot.block, findings: Vec::new(), units: 0, raised: 0 };
    let cases = adapter.cases(snapshot, &nobody, true);
    cases.into_iter().map(|(segment, case)| (segment, f64::from(case.fund.spendable))).collect()
}

pub(super) struct RiskLoop<J> {
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) name: DeploymentName,
    pub(super) deployment: DeploymentId,
    pub(super) settings: RiskSettings,
    pub(super) adapter: Arc<dyn Adapter>,
    pub(super) journal: J,
    pub(super) concerns: Concerns,
    pub(super) meter: PipelineMeter,
    /// Segments whose fund a small move would exhaust.
    pub(super) short: BTreeMap<SegmentId, f64>,
}

impl<J: PipelineJournal> RiskLoop<J> {
    pub(super) async fn run(
        mut self,
        mut snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut moves = self.take_up().await;
        let mut reported_at = 0;
        loop {
            self.heartbeat.beat();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = snapshots.changed() => changed.context("the index loop is gone")?,
                () = tokio::time::sleep(BEAT_EVERY) => continue,
            }
            let Some(snapshot) = snapshots.borrow_and_update().clone() else { continue };
            let now = snapshot.block.timestamp;
            match self.adapter.drivers(&snapshot) {
                Ok(drivers) => moves.observe(now, &drivers, &self.settings.moves),
                Err(why) => {
                    debug!(deployment = %self.name, block = snapshot.block.number, %why, "no prices to observe");
                    continue;
                }
            };
            if now.abs_diff(reported_at) < self.settings.report_every_seconds {
                continue;
            }
            reported_at = now;
            if let Err(error) = self.report(snapshot, &moves).await {
                self.meter.risk_failures.inc();
                let error = format!("{error:#}");
                warn!(deployment = %self.name, error, "risk is not reported");
            }
        }
    }

    /// What an earlier process measured; measuring begins anew where that cannot be had.
    async fn take_up(&self) -> Moves {
        match self.journal.risk_moves(self.deployment).await {
            Ok(moves) => moves.unwrap_or_default(),
            Err(error) => {
                warn!(deployment = %self.name, %error, "moves of prices are measured anew");
                Moves::default()
            }
        }
    }

    async fn report(&mut self, snapshot: Arc<Snapshot>, moves: &Moves) -> anyhow::Result<()> {
        let started = Instant::now();
        let (adapter, settings, measured) = (Arc::clone(&self.adapter), self.settings.clone(), moves.clone());
        let report = tokio::task::spawn_blocking(move || {
            let funds = fund_means(adapter.as_ref(), &snapshot);
            assess(adapter.as_ref(), &snapshot, &measured, &funds, &settings)
        });
        let report = report.await.context("the report's task")?.context("assess the snapshot")?;
        self.meter.risk.reported(&report, started.elapsed());
        self.tell_runways(&report);
        self.journal.record_risk(self.deployment, (moves, &report), KEPT).await.context("journal it")
    }

    /// Warns of every segment whose fund a small move would exhaust.
    fn tell_runways(&mut self, report: &RiskReport) {
        let near = f64::from(self.settings.runway_bps_min) / 10_000.0;
        let nearest = |(segment, runway): (&SegmentId, &Runway)| {
            let moves = runway.fall.into_iter().chain(runway.rise);
            let nearest = moves.min_by(|a: &f64, b| a.abs().total_cmp(&b.abs()))?;
            (nearest.abs() < near).then_some((*segment, nearest))
        };
        let short: BTreeMap<SegmentId, f64> = report.runways.iter().filter_map(nearest).collect();
        for (segment, by) in &short {
            let fund = report.runways[segment].fund;
            let percent = by * 100.0;
            let detail = format!(
                "a move of all prices by {percent:+.0} % would cost segment {segment} more than its fund's {fund:.0}"
            );
            self.concerns.state(AlertKind::RunwayShort, segment, Some(detail));
        }
        for over in self.short.keys().filter(|segment| !short.contains_key(segment)) {
            self.concerns.state(AlertKind::RunwayShort, over, None);
        }
        self.short = short;
    }
}

/// The series of all deployments.
#[derive(Clone)]
pub(super) struct RiskMetrics {
    bad_debt: GaugeVec,
    liquidations: GaugeVec,
    runway: GaugeVec,
    volatility: GaugeVec,
    duration: HistogramVec,
    block: IntGaugeVec,
}

impl RiskMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| GaugeVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            bad_debt: gauge(
                "backstop_risk_expected_bad_debt_units",
                "Expected bad debt at a horizon if nobody acts, settlement-token units",
                &["deployment", "horizon_seconds"],
            )?,
            liquidations: gauge(
                "backstop_risk_expected_liquidations",
                "Expected number of units that will have been liquidatable at a horizon",
                &["deployment", "horizon_seconds"],
            )?,
            runway: gauge(
                "backstop_risk_runway_ratio",
                "Smallest move of all prices that would cost a segment more than its fund has; 1: none",
                &["deployment", "direction"],
            )?,
            volatility: gauge(
                "backstop_risk_volatility_per_day_ratio",
                "Largest of the prices' volatilities over a day",
                &["deployment"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new("backstop_risk_report_duration_seconds", "Time of one risk report")
                    .buckets(prometheus::exponential_buckets(0.001, 3.0, 12)?),
                &["deployment"],
            )?,
            block: IntGaugeVec::new(
                Opts::new("backstop_risk_reported_block", "Height of the last risk report"),
                &["deployment"],
            )?,
        };
        registry.register(Box::new(metrics.bad_debt.clone()))?;
        registry.register(Box::new(metrics.liquidations.clone()))?;
        registry.register(Box::new(metrics.runway.clone()))?;
        registry.register(Box::new(metrics.volatility.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.block.clone()))?;
        Ok(metrics)
    }

    pub(super) fn for_deployment(&self, name: &str) -> RiskMeter {
        RiskMeter {
            name: name.to_owned(),
            falls: self.runway.with_label_values(&[name, "fall"]),
            rises: self.runway.with_label_values(&[name, "rise"]),
            volatility: self.volatility.with_label_values(&[name]),
            duration: self.duration.with_label_values(&[name]),
            block: self.block.with_label_values(&[name]),
            horizons: self.clone(),
        }
    }
}

/// One deployment's series.
#[derive(Clone)]
pub(super) struct RiskMeter {
    name: String,
    falls: Gauge,
    rises: Gauge,
    volatility: Gauge,
    duration: Histogram,
    block: IntGauge,
    /// Horizons are the configuration's.
    horizons: RiskMetrics,
}

impl RiskMeter {
    fn reported(&self, report: &RiskReport, took: Duration) {
        for at in &report.horizons {
            let labels = [self.name.as_str(), &at.seconds.to_string()];
            self.horizons.bad_debt.with_label_values(&labels).set(at.bad_debt);
            self.horizons.liquidations.with_label_values(&labels).set(at.liquidations);
        }
        let nearest = |moves: &mut dyn Iterator<Item = f64>| moves.fold(1.0, |least: f64, by| least.min(by.abs()));
        self.falls.set(nearest(&mut report.runways.values().filter_map(|runway| runway.fall)));
        self.rises.set(nearest(&mut report.runways.values().filter_map(|runway| runway.rise)));
        self.volatility.set(report.volatilities.iter().fold(0.0, |most, one| f64::max(most, one.per_day)));
        self.duration.observe(took.as_secs_f64());
        self.block.set(i64::try_from(report.block.number).unwrap_or(i64::MAX));
    }
}
