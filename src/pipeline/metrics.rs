//! Figures of scan and plan.

use std::time::Duration;

use prometheus::{
    Counter, CounterVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};

use super::risk::{RiskMeter, RiskMetrics};
use crate::{
    recovery::Wave,
    scanner::{Condition, ScanReport},
    types::DeploymentName,
};

/// What became of a plan; the label's closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Planned {
    Executed,
    DryRun,
    NothingToDo,
    Imbalance,
}

impl Planned {
    const ALL: [Self; 4] = [Self::Executed, Self::DryRun, Self::NothingToDo, Self::Imbalance];

    fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "executed",
            Self::DryRun => "dry_run",
            Self::NothingToDo => "nothing_to_do",
            Self::Imbalance => "imbalance",
        }
    }
}

/// Conditions that are counted; the rest is healthy.
const CONDITIONS: [Condition; 4] =
    [Condition::Bankrupt, Condition::Liquidatable, Condition::Unknown, Condition::AtRisk];

/// What is told of waves; the label's closed set.
const SEVERITY: [&str; 3] = ["provided", "lost", "missed"];

/// The series of all deployments.
#[derive(Clone)]
pub struct PipelineMetrics {
    units: IntGaugeVec,
    conditions: IntGaugeVec,
    raised: IntGaugeVec,
    scan_duration: HistogramVec,
    scanned_block: IntGaugeVec,
    plans: IntCounterVec,
    episodes: IntGaugeVec,
    waves: IntCounterVec,
    severity: CounterVec,
    failures: IntCounterVec,
    risk: RiskMetrics,
}

impl PipelineMetrics {
    /// Registers the series.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            units: gauge("backstop_scanner_units", "Units in the last scan", &["deployment"])?,
            conditions: gauge(
                "backstop_scanner_findings_units",
                "Units of the last scan that are not healthy, by condition",
                &["deployment", "condition"],
            )?,
            raised: gauge("backstop_scanner_raised_units", "Units the last scan's screen raised", &["deployment"])?,
            scan_duration: HistogramVec::new(
                HistogramOpts::new("backstop_scanner_scan_duration_seconds", "Time of one scan")
                    .buckets(prometheus::exponential_buckets(0.0001, 3.0, 12)?),
                &["deployment"],
            )?,
            scanned_block: gauge("backstop_scanner_scanned_block", "Height of the last scan", &["deployment"])?,
            plans: counter(
                "backstop_recovery_plans_total",
                "Plans, by what became of them",
                &["deployment", "outcome"],
            )?,
            episodes: gauge("backstop_recovery_open_episodes", "Segments in trouble", &["deployment"])?,
            waves: counter(
                "backstop_recovery_waves_total",
                "Times that further units fell into distress",
                &["deployment"],
            )?,
            severity: CounterVec::new(
                Opts::new("backstop_recovery_severity_units_total", "Losses of waves and what was provided for them"),
                &["deployment", "what"],
            )?,
            failures: counter(
                "backstop_pipeline_failed_passes_total",
                "Passes of a loop that failed",
                &["deployment", "loop"],
            )?,
            risk: RiskMetrics::new(registry)?,
        };
        registry.register(Box::new(metrics.units.clone()))?;
        registry.register(Box::new(metrics.conditions.clone()))?;
        registry.register(Box::new(metrics.raised.clone()))?;
        registry.register(Box::new(metrics.scan_duration.clone()))?;
        registry.register(Box::new(metrics.scanned_block.clone()))?;
        registry.register(Box::new(metrics.plans.clone()))?;
        registry.register(Box::new(metrics.episodes.clone()))?;
        registry.register(Box::new(metrics.waves.clone()))?;
        registry.register(Box::new(metrics.severity.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }

    /// One deployment's series, all of them present from the start.
    pub fn for_deployment(&self, deployment: &DeploymentName) -> PipelineMeter {
        let name = deployment.as_str();
        PipelineMeter {
            units: self.units.with_label_values(&[name]),
            conditions: CONDITIONS
                .map(|condition| (condition, self.conditions.with_label_values(&[name, condition.as_str()]))),
            raised: self.raised.with_label_values(&[name]),
            scan_duration: self.scan_duration.with_label_values(&[name]),
            scanned_block: self.scanned_block.with_label_values(&[name]),
            plans: Planned::ALL.map(|outcome| self.plans.with_label_values(&[name, outcome.as_str()])),
            episodes: self.episodes.with_label_values(&[name]),
            waves: self.waves.with_label_values(&[name]),
            severity: SEVERITY.map(|what| self.severity.with_label_values(&[name, what])),
            index_failures: self.failures.with_label_values(&[name, "index"]),
            act_failures: self.failures.with_label_values(&[name, "act"]),
            risk_failures: self.failures.with_label_values(&[name, "risk"]),
            risk: self.risk.for_deployment(name),
        }
    }
}

/// One deployment's series.
#[derive(Clone)]
pub struct PipelineMeter {
    units: IntGauge,
    conditions: [(Condition, IntGauge); 4],
    raised: IntGauge,
    scan_duration: Histogram,
    scanned_block: IntGauge,
    plans: [IntCounter; 4],
    episodes: IntGauge,
    waves: IntCounter,
    severity: [Counter; 3],
    pub(super) index_failures: IntCounter,
    pub(super) act_failures: IntCounter,
    pub(super) risk_failures: IntCounter,
    pub(super) risk: RiskMeter,
}

impl PipelineMeter {
    pub(super) fn scanned(&self, report: &ScanReport, took: Duration) {
        self.units.set(gauge_value(report.units));
        self.raised.set(gauge_value(report.raised));
        self.scanned_block.set(i64::try_from(report.block.number).unwrap_or(i64::MAX));
        self.scan_duration.observe(took.as_secs_f64());
        for (condition, gauge) in &self.conditions {
            gauge.set(gauge_value(report.findings.iter().filter(|f| f.condition == *condition).count()));
        }
    }

    pub(super) fn planned(&self, outcome: Planned) {
        self.plans[outcome as usize].inc();
    }

    /// A wave of a cascade. As floating point: a metric books nothing.
    pub(super) fn wave(&self, wave: &Wave) {
        self.waves.inc();
        let amounts = [wave.provided, wave.lost, wave.provided.abs_diff(wave.lost)];
        for (counter, amount) in self.severity.iter().zip(amounts) {
            counter.inc_by(f64::from(amount));
        }
    }

    pub(super) fn open_episodes(&self, count: usize) {
        self.episodes.set(gauge_value(count));
    }
}

fn gauge_value(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
