//! Head to cache: one pass per head signal, and the audit of the cache against the chain.

use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Concerns, FAILURES_BEFORE_ALERT, RETRY_PAUSE};
use crate::{
    alerts::AlertKind,
    chain::HeadSignals,
    indexer::{Indexer, Progress},
    ops::DeploymentHealth,
    positions::Snapshot,
    types::{DeploymentName, UnitKey},
};

pub(super) struct IndexLoop {
    pub(super) name: DeploymentName,
    pub(super) indexer: Indexer,
    pub(super) signals: HeadSignals,
    pub(super) concerns: Concerns,
    pub(super) health: DeploymentHealth,
    pub(super) audit_every_blocks: u64,
    pub(super) audit_units: usize,
}

/// Where the rolling audit stands: every unit has its turn.
#[derive(Debug, Default)]
struct Audit {
    last_block: u64,
    next_unit: Option<UnitKey>,
}

impl Audit {
    fn is_due(&self, block: u64, every_blocks: u64) -> bool {
        every_blocks > 0 && block >= self.last_block.saturating_add(every_blocks)
    }

    /// The next `count` units by key, from where the last audit stopped, round and round.
    fn turn(&mut self, snapshot: &Snapshot, count: usize) -> Vec<UnitKey> {
        let from = self.next_unit.take();
        let units = || snapshot.book.units().map(|(key, _)| key);
        let onward = units().filter(|key| from.as_ref().is_none_or(|from| *key >= from));
        let wrapped = units().filter(|key| from.as_ref().is_some_and(|from| *key < from));
        let mut turn: Vec<UnitKey> = onward.chain(wrapped).take(count + 1).cloned().collect();
        if turn.len() > count {
            self.next_unit = turn.pop();
        }
        self.last_block = snapshot.block.number;
        turn
    }
}

impl IndexLoop {
    pub(super) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut failures = 0;
        let mut audit = Audit::default();
        loop {
            match self.indexer.advance().await {
                Ok(progress) => {
                    failures = 0;
                    self.concerns.state(AlertKind::IndexerStuck, "", None);
                    self.report(&progress);
                    self.audit(&mut audit).await;
                }
                Err(error) => {
                    failures += 1;
                    let error = format!("{error:#}");
                    warn!(deployment = %self.name, failures, error, "indexing failed");
                    if failures >= FAILURES_BEFORE_ALERT {
                        let detail = format!("{failures} passes failed in a row, the last: {error}");
                        self.concerns.state(AlertKind::IndexerStuck, "", Some(detail));
                    }
                }
            }
            let pause = async {
                if failures > 0 { tokio::time::sleep(RETRY_PAUSE).await } else { self.signals.next().await }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = pause => {}
            }
        }
    }
}

impl IndexLoop {
    fn report(&self, progress: &Progress) {
        match progress {
            Progress::Unchanged | Progress::Advanced { .. } => {}
            Progress::Reorged { depth_blocks, .. } => {
                warn!(deployment = %self.name, depth_blocks, "chain reorganised; the cache was undone to the fork");
            }
            Progress::Resynced => {
                let detail = "the cache was rebuilt from the start block".to_owned();
                warn!(deployment = %self.name, "{detail}");
                self.concerns.state(AlertKind::ReorgTooDeep, "", Some(detail));
            }
        }
    }

    /// Holds some units of the cache against the chain, when it is their turn. A mismatch rebuilds the cache: a wrong
    /// cache must not decide anything. An RPC failure says nothing.
    async fn audit(&mut self, audit: &mut Audit) {
        let Some(snapshot) = self.indexer.snapshots().borrow().clone() else { return };
        if !audit.is_due(snapshot.block.number, self.audit_every_blocks) {
            return;
        }
        let units = audit.turn(&snapshot, self.audit_units);
        match self.indexer.audit(&snapshot, &units).await {
            Ok(report) if report.mismatches.is_empty() => {
                self.concerns.state(AlertKind::CacheMismatch, "", None);
            }
            Ok(report) => {
                let shown: Vec<String> = report.mismatches.iter().take(3).map(ToString::to_string).collect();
                let detail = format!(
                    "{} of {} probes differ at block {}: {}; the cache is being rebuilt",
                    report.mismatches.len(),
                    report.probes,
                    snapshot.block.number,
                    shown.join("; ")
                );
                warn!(deployment = %self.name, detail, "cache differs from the chain");
                self.concerns.state(AlertKind::CacheMismatch, "", Some(detail));
                if let Err(error) = self.indexer.resync().await {
                    warn!(deployment = %self.name, error = format!("{error:#}"), "resync failed");
                }
            }
            Err(error) => warn!(deployment = %self.name, error = format!("{error:#}"), "audit was not possible"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        positions::{Book, Unit},
        types::{Address, B256, BlockRef, SegmentId},
    };

    fn snapshot(block: u64, units: u8) -> Snapshot {
        let block = BlockRef { number: block, hash: B256::ZERO, parent_hash: B256::ZERO, timestamp: 0 };
        let units = (0..units).map(|i| (UnitKey::new(vec![i]).unwrap(), Unit::new(SegmentId(0), Address::ZERO)));
        Snapshot { block, book: Book::restore(units, []) }
    }

    #[test]
    fn every_unit_has_its_turn_in_the_audit() {
        let mut audit = Audit::default();
        let mut seen = Vec::new();
        for round in 0..4 {
            let turn = audit.turn(&snapshot(round, 5), 2);
            assert_eq!(turn.len(), 2);
            seen.extend(turn.iter().map(|key| key.as_bytes()[0]));
        }
        assert_eq!(seen, [0, 1, 2, 3, 4, 0, 1, 2]);
        assert_eq!(audit.turn(&snapshot(9, 1), 2).len(), 1, "fewer units than a turn holds");
    }

    #[test]
    fn an_audit_is_due_by_blocks_and_can_be_switched_off() {
        let audit = Audit { last_block: 100, next_unit: None };
        assert!(!audit.is_due(109, 10));
        assert!(audit.is_due(110, 10));
        assert!(!audit.is_due(u64::MAX, 0));
    }
}
