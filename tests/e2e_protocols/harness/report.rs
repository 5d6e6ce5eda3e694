//! What a run counts, and the bookkeeping behind it: pure, so that it is tested here.

use std::collections::{BTreeMap, BTreeSet};

use backstop::types::UnitKey;
use serde::Serialize;
use serde_json::{Map, Value};

/// Consecutive blocks on which an account may be liquidatable without being acted on.
pub(crate) const PATIENCE_BLOCKS: u32 = 2;

/// The report of one run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) accounts: usize,
    pub(crate) blocks: u64,
    pub(crate) health_mismatches: usize,
    pub(crate) missed_liquidatable: usize,
    pub(crate) wrongly_sent: usize,
    pub(crate) reverted_sends: usize,
    pub(crate) liquidated: usize,
    pub(crate) bad_debt_created: String,
    pub(crate) bad_debt_covered: String,
    #[serde(flatten)]
    pub(crate) more: Map<String, Value>,
}

/// Who is liquidatable for how long without having been acted on.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    since: BTreeMap<UnitKey, u32>,
    /// Accounts that were missed, each with the block at which that was certain.
    pub(crate) missed: BTreeMap<UnitKey, u64>,
}

impl Watch {
    /// Notes a block: who is liquidatable after it, and on whom the daemon acted in it.
    pub(crate) fn block(&mut self, number: u64, liquidatable: &BTreeSet<UnitKey>, acted_on: &BTreeSet<UnitKey>) {
        self.since.retain(|unit, _| liquidatable.contains(unit) && !acted_on.contains(unit));
        for unit in liquidatable.iter().filter(|unit| !acted_on.contains(*unit)) {
            let blocks = self.since.entry(unit.clone()).or_default();
            *blocks += 1;
            if *blocks > PATIENCE_BLOCKS {
                self.missed.entry(unit.clone()).or_insert(number);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: u8) -> UnitKey {
        UnitKey::new(vec![id]).unwrap()
    }

    #[test]
    fn an_account_is_missed_after_two_blocks_without_an_action() {
        let mut watch = Watch::default();
        let (both, none) = (BTreeSet::from([unit(1), unit(2)]), BTreeSet::new());
        watch.block(10, &both, &none);
        watch.block(11, &both, &BTreeSet::from([unit(2)]));
        assert!(watch.missed.is_empty());
        watch.block(12, &both, &none);
        assert_eq!(watch.missed, BTreeMap::from([(unit(1), 12)]), "unit 2 was acted on in between");
        watch.block(13, &none, &none);
        watch.block(14, &both, &none);
        assert_eq!(watch.missed.len(), 1, "a healthy block begins anew");
    }
}
