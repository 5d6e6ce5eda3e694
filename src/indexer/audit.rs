//! The cache held against the protocol's own views, at the snapshot's block.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::{IndexerMeter, IndexerSettings, follow::REQUESTS_MAX};
use crate::{
    chain::Rpc,
    positions::Snapshot,
    protocols::{Adapter, Probe},
    types::{Bytes, CallOutcome, UnitKey},
};

/// A view that does not say what the cache says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// What was audited.
    pub subject: String,
    /// What the view must return if the cache is right.
    pub expected: Bytes,
    /// What the chain said.
    pub actual: CallOutcome,
}

impl From<(Probe, CallOutcome)> for Mismatch {
    fn from((probe, actual): (Probe, CallOutcome)) -> Self {
        Self { subject: probe.subject, expected: probe.expected, actual }
    }
}

/// What an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditReport {
    /// Views asked.
    pub probes: usize,
    /// Views that contradict the cache, in the order of the probes.
    pub mismatches: Vec<Mismatch>,
    /// Views without an answer: they say nothing about the cache.
    pub unknown: usize,
}

/// Audits snapshots, a few units at a time, all of them in turn.
pub struct Auditor {
    rpc: Rpc,
    adapter: Arc<dyn Adapter>,
    meter: IndexerMeter,
    every_blocks: u64,
    units: usize,
    /// Block of the last audit.
    audited_block: Option<u64>,
    /// Last unit of the last audit; the next one goes on after it.
    audited_unit: Option<UnitKey>,
}

impl Auditor {
    pub(super) fn new(rpc: Rpc, adapter: Arc<dyn Adapter>, settings: &IndexerSettings, meter: IndexerMeter) -> Self {
        let (every_blocks, units) = (settings.audit_every_blocks, settings.audit_units);
        Self { rpc, adapter, meter, every_blocks, units, audited_block: None, audited_unit: None }
    }

    /// Audits the next units in turn, if the last audit is long enough ago.
    pub async fn audit_if_due(&mut self, snapshot: &Snapshot) -> Option<AuditReport> {
        let number = snapshot.block.number;
        let due = match self.audited_block {
            None => true,
            // A chain that went back counts as long ago.
            Some(last) => number < last || number - last >= self.every_blocks,
        };
        if self.every_blocks == 0 || !due {
            return None;
        }
        let units = in_turn(snapshot, self.audited_unit.as_ref(), self.units);
        let report = self.audit(snapshot, &units).await;
        self.audited_block = Some(number);
        self.audited_unit = units.last().cloned();
        Some(report)
    }

    /// Audits these units and the shared records. What differs is asked a second time and counts if it differs again: a
    /// node that takes in a block meanwhile can answer with that block's number or time.
    pub async fn audit(&self, snapshot: &Snapshot, units: &[UnitKey]) -> AuditReport {
        let probes = self.adapter.probes(snapshot, units);
        let mut report = AuditReport { probes: probes.len(), ..AuditReport::default() };
        let mut differing = Vec::new();
        let mut answers = stream::iter(probes)
            .map(|probe| async move {
                let answer = self.rpc.call(&probe.call, None, snapshot.block.hash).await;
                (probe, answer)
            })
            .buffered(REQUESTS_MAX);
        while let Some((probe, answer)) = answers.next().await {
            match answer {
                Ok(actual) => differing.extend(mismatch(probe, actual)),
                Err(error) => {
                    tracing::debug!(subject = probe.subject, %error, "audit probe without an answer");
                    report.unknown += 1;
                }
            }
        }
        for (probe, _) in differing {
            match self.rpc.call(&probe.call, None, snapshot.block.hash).await {
                Ok(actual) => report.mismatches.extend(mismatch(probe, actual).map(Mismatch::from)),
                Err(_) => report.unknown += 1,
            }
        }
        self.meter.audited(&report);
        report
    }
}

/// The probe and what it got, unless that is what it expected.
fn mismatch(probe: Probe, actual: CallOutcome) -> Option<(Probe, CallOutcome)> {
    let agrees = matches!(&actual, CallOutcome::Returned(bytes) if *bytes == probe.expected);
    (!agrees).then_some((probe, actual))
}

/// The next `count` units after the last one looked at, in order, round and round; each at most once.
fn in_turn(snapshot: &Snapshot, after: Option<&UnitKey>, count: usize) -> Vec<UnitKey> {
    let keys = || snapshot.book.units().map(|(key, _)| key);
    let Some(after) = after else { return keys().take(count).cloned().collect() };
    let later = keys().filter(|key| *key > after);
    let earlier = keys().take_while(|key| *key <= after);
    later.chain(earlier).take(count).cloned().collect()
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, B256};

    use super::*;
    use crate::{
        positions::{Book, Unit},
        types::{BlockRef, SegmentId},
    };

    #[test]
    fn units_come_in_turn_each_once() {
        let key = |id: u8| UnitKey::new(vec![id]).unwrap();
        let units = [1, 2, 3, 4].map(|id| (key(id), Unit::new(SegmentId(0), Address::ZERO)));
        let block = BlockRef { number: 1, hash: B256::ZERO, parent_hash: B256::ZERO, timestamp: 0 };
        let snapshot = Snapshot { block, book: Book::restore(units, []) };
        assert_eq!(in_turn(&snapshot, None, 3), [key(1), key(2), key(3)]);
        assert_eq!(in_turn(&snapshot, Some(&key(3)), 3), [key(4), key(1), key(2)]);
        assert_eq!(in_turn(&snapshot, Some(&key(9)), 9), [key(1), key(2), key(3), key(4)]);
        assert_eq!(in_turn(&snapshot, Some(&key(2)), 9), [key(3), key(4), key(1), key(2)]);
    }
}
