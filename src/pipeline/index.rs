//! Head to cache: one pass per head signal, and the audit of the cache against the chain.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{FAILURES_BEFORE_ALERT, PipelineMeter, RETRY_PAUSE, concerns::Concerns};
use crate::{
    alerts::AlertKind,
    chain::HeadSignals,
    indexer::{AuditReport, Auditor, CacheStore, IndexError, Indexer, Progress},
    ops::{DeploymentHealth, Heartbeat},
    positions::Snapshot,
    types::BlockRef,
};

/// How long the storing of a snapshot leaves the database to those who act on it.
const STORE_PAUSE: Duration = Duration::from_millis(25);

pub(super) struct IndexLoop<S> {
    pub(super) heartbeat: Arc<Heartbeat>,
    pub(super) indexer: Indexer<S>,
    pub(super) auditor: Auditor,
    pub(super) signals: HeadSignals,
    pub(super) concerns: Concerns,
    pub(super) health: DeploymentHealth,
    pub(super) meter: PipelineMeter,
    pub(super) head_age_max: Duration,
}

impl<S: CacheStore> IndexLoop<S> {
    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut failures = 0;
        let mut advanced_at = Instant::now();
        let mut signal = None;
        loop {
            self.heartbeat.beat();
            match self.advance(&mut signal).await {
                Ok(progress) => {
                    failures = 0;
                    self.concerns.state(AlertKind::IndexerStuck, "", None);
                    if progress != Progress::Unchanged {
                        advanced_at = Instant::now();
                    }
                    self.audit().await;
                }
                Err(error) => {
                    failures += 1;
                    self.meter.index_failures.inc();
                    warn!(failures, %error, class = ?error.class(), "indexing failed");
                    if failures >= FAILURES_BEFORE_ALERT {
                        let detail = format!("{failures} passes failed in a row, the last: {error}");
                        self.concerns.state(AlertKind::IndexerStuck, "", Some(detail));
                    }
                }
            }
            let age = advanced_at.elapsed();
            let stale = (age > self.head_age_max).then(|| format!("no new block for {} s", age.as_secs()));
            self.concerns.state(AlertKind::HeadStale, "", stale);
            let pause = async {
                if failures > 0 {
                    tokio::time::sleep(RETRY_PAUSE).await;
                } else if signal.is_none() {
                    signal = Some(self.signals.next().await);
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = pause => {}
            }
        }
    }

    /// One pass on a signal, with the next one where it comes early. What the pass published is stored when those who act on it
    /// have had the database for a while to themselves, or the next head is there.
    async fn advance(&mut self, signal: &mut Option<Option<BlockRef>>) -> Result<Progress, IndexError> {
        let progress = self.indexer.advance_to(signal.take().flatten()).await?;
        self.report(&progress);
        if progress != Progress::Unchanged {
            *signal = tokio::time::timeout(STORE_PAUSE, self.signals.next()).await.ok();
        }
        self.indexer.store().await?;
        Ok(progress)
    }

    fn report(&self, progress: &Progress) {
        let to = match *progress {
            Progress::Unchanged => return,
            Progress::Advanced { to, .. } => {
                self.concerns.state(AlertKind::ReorgTooDeep, "", None);
                to
            }
            Progress::Reorged { depth, to } => {
                warn!(depth_blocks = depth, to, "chain reorganised; the cache was undone to the fork");
                to
            }
            Progress::Resynced { to } => {
                let detail = format!("the cache was rebuilt from the start block to block {to}");
                self.concerns.state(AlertKind::ReorgTooDeep, "", Some(detail));
                to
            }
        };
        self.health.head(to);
        self.health.indexed(to);
    }

    /// Holds some units of the cache against the chain, when it is their turn. After a mismatch the cache is rebuilt: a
    /// wrong cache must not decide anything. An RPC failure says nothing either way.
    async fn audit(&mut self) {
        let Some(snapshot) = self.indexer.snapshots().borrow().clone() else { return };
        let Some(report) = self.auditor.audit_if_due(&snapshot).await else { return };
        if report.mismatches.is_empty() {
            if report.unknown < report.probes {
                self.concerns.state(AlertKind::CacheMismatch, "", None);
            }
            return;
        }
        let detail = mismatch(&snapshot, &report);
        warn!(detail, "cache differs from the chain; it is rebuilt");
        self.concerns.state(AlertKind::CacheMismatch, "", Some(detail));
        if let Err(error) = self.indexer.rebuild().await {
            warn!(%error, "the cache cannot be dropped yet");
        }
    }
}

fn mismatch(snapshot: &Arc<Snapshot>, report: &AuditReport) -> String {
    let shown: Vec<&str> = report.mismatches.iter().take(3).map(|mismatch| mismatch.subject.as_str()).collect();
    let (differ, probes, block) = (report.mismatches.len(), report.probes, snapshot.block.number);
    format!("{differ} of {probes} probes differ at block {block}, among them {}", shown.join(", "))
}
