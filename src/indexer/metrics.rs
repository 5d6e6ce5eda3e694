//! What an operator learns about the cache and its distance to the chain.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::AuditReport;
use crate::types::DeploymentName;

/// Indexer metrics of all deployments.
#[derive(Clone, Debug)]
pub struct IndexerMetrics {
    /// The node's head: does it move?
    head_block: IntGaugeVec,
    /// The block whose state is stored: does it follow?
    indexed_block: IntGaugeVec,
    /// Distance between the two.
    lag_blocks: IntGaugeVec,
    /// Logs applied.
    logs: IntCounterVec,
    /// Logs with an event the adapter does not know: has the protocol been upgraded?
    unknown_events: IntCounterVec,
    /// Passes that ended in an error.
    errors: IntCounterVec,
    /// Reorganisations undone.
    reorgs: IntCounterVec,
    /// How many blocks each took back.
    reorg_depth: HistogramVec,
    /// Times everything was read again: a branch too deep to undo, or a stored cache of another branch.
    resyncs: IntCounterVec,
    /// Views held against the cache: any mismatch means that decisions are made from wrong state.
    audit_probes: IntCounterVec,
}

impl IndexerMetrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["deployment"])?;
            registry.register(Box::new(gauge.clone())).map(|()| gauge)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone())).map(|()| counter)
        };
        let depth = HistogramOpts::new("backstop_indexer_reorg_depth_blocks", "Blocks taken back by a reorganisation.")
            .buckets(vec![1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 64.0]);
        let reorg_depth = HistogramVec::new(depth, &["deployment"])?;
        registry.register(Box::new(reorg_depth.clone()))?;
        let by_deployment = &["deployment"];
        Ok(Self {
            head_block: gauge("backstop_indexer_head_block", "The node's head.")?,
            indexed_block: gauge("backstop_indexer_indexed_block", "The block whose state is stored.")?,
            lag_blocks: gauge("backstop_indexer_lag_blocks", "Blocks between the node's head and the stored state.")?,
            logs: counter("backstop_indexer_logs_total", "Logs applied to the cache.", by_deployment)?,
            unknown_events: counter(
                "backstop_indexer_unknown_events_total",
                "Logs of watched contracts with an event that the adapter does not know.",
                by_deployment,
            )?,
            errors: counter("backstop_indexer_errors_total", "Passes that ended in an error.", by_deployment)?,
            reorgs: counter("backstop_indexer_reorgs_total", "Reorganisations undone.", by_deployment)?,
            reorg_depth,
            resyncs: counter(
                "backstop_indexer_resyncs_total",
                "Times the cache was dropped and read again from the first block.",
                by_deployment,
            )?,
            audit_probes: counter(
                "backstop_indexer_audit_probes_total",
                "Views of the protocol held against the cache, by outcome.",
                &["deployment", "outcome"],
            )?,
        })
    }

    /// One deployment's part, every label set at zero.
    pub fn for_deployment(&self, deployment: &DeploymentName) -> IndexerMeter {
        let name = &[deployment.as_str()];
        let audit = |outcome| self.audit_probes.with_label_values(&[deployment.as_str(), outcome]);
        IndexerMeter {
            head_block: self.head_block.with_label_values(name),
            indexed_block: self.indexed_block.with_label_values(name),
            lag_blocks: self.lag_blocks.with_label_values(name),
            logs: self.logs.with_label_values(name),
            unknown_events: self.unknown_events.with_label_values(name),
            errors: self.errors.with_label_values(name),
            reorgs: self.reorgs.with_label_values(name),
            reorg_depth: self.reorg_depth.with_label_values(name),
            resyncs: self.resyncs.with_label_values(name),
            audit_matches: audit("match"),
            audit_mismatches: audit("mismatch"),
            audit_unknown: audit("unknown"),
        }
    }
}

/// Indexer metrics of one deployment.
#[derive(Clone, Debug)]
pub struct IndexerMeter {
    head_block: IntGauge,
    indexed_block: IntGauge,
    lag_blocks: IntGauge,
    logs: IntCounter,
    unknown_events: IntCounter,
    errors: IntCounter,
    reorgs: IntCounter,
    reorg_depth: Histogram,
    resyncs: IntCounter,
    audit_matches: IntCounter,
    audit_mismatches: IntCounter,
    audit_unknown: IntCounter,
}

impl IndexerMeter {
    pub(super) fn head(&self, number: u64) {
        self.head_block.set(gauge_value(number));
        self.refresh_lag();
    }

    pub(super) fn indexed(&self, number: u64) {
        self.indexed_block.set(gauge_value(number));
        self.refresh_lag();
    }

    fn refresh_lag(&self) {
        self.lag_blocks.set((self.head_block.get() - self.indexed_block.get()).max(0));
    }

    pub(super) fn applied(&self, logs: usize, unknown_events: u64) {
        self.logs.inc_by(logs as u64);
        self.unknown_events.inc_by(unknown_events);
    }

    pub(super) fn failed(&self) {
        self.errors.inc();
    }

    pub(super) fn reorged(&self, depth: u64) {
        self.reorgs.inc();
        self.reorg_depth.observe(depth as f64);
    }

    pub(super) fn resynced(&self) {
        self.resyncs.inc();
    }

    pub(super) fn audited(&self, report: &AuditReport) {
        let (mismatches, unknown) = (report.mismatches.len(), report.unknown);
        self.audit_matches.inc_by((report.probes - mismatches - unknown) as u64);
        self.audit_mismatches.inc_by(mismatches as u64);
        self.audit_unknown.inc_by(unknown as u64);
    }
}

fn gauge_value(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
