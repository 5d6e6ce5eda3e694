//! What a run counts, and the bookkeeping behind it: pure, so that it is tested here.

use std::collections::{BTreeMap, BTreeSet};

use backstop::types::{B256, UnitKey};
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

/// A transaction of the keeper and the units that it acts on.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) hash: B256,
    pub(crate) block: u64,
    pub(crate) success: bool,
    pub(crate) targets: Vec<UnitKey>,
}

/// What the chain said block by block: who is liquidatable, and whom the keeper acted on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watch {
    /// Units liquidatable after each block.
    liquidatable: BTreeMap<u64, BTreeSet<UnitKey>>,
    /// Consecutive blocks on which a unit was liquidatable and not acted on, up to the last block.
    waiting: BTreeMap<UnitKey, u32>,
    /// Everything the keeper sent.
    pub(crate) sent: Vec<Sent>,
    /// Each unit that was missed and the block at which that was certain, once per wait.
    pub(crate) missed: Vec<(UnitKey, u64)>,
}

impl Watch {
    /// Notes a block: who is liquidatable after it, and what the keeper sent in it.
    pub(crate) fn block(&mut self, number: u64, liquidatable: BTreeSet<UnitKey>, sent: Vec<Sent>) {
        let acted_on: BTreeSet<&UnitKey> = sent.iter().flat_map(|transaction| &transaction.targets).collect();
        self.waiting.retain(|unit, _| liquidatable.contains(unit) && !acted_on.contains(unit));
        for unit in liquidatable.iter().filter(|unit| !acted_on.contains(*unit)) {
            let blocks = self.waiting.entry(unit.clone()).or_default();
            *blocks += 1;
            if *blocks == PATIENCE_BLOCKS + 1 {
                self.missed.push((unit.clone(), number));
            }
        }
        self.liquidatable.insert(number, liquidatable);
        self.sent.extend(sent);
    }

    /// How many units are liquidatable after the last block.
    pub(crate) fn open(&self) -> usize {
        self.liquidatable.last_key_value().map_or(0, |(_, units)| units.len())
    }

    /// How many units ever were.
    pub(crate) fn ever(&self) -> usize {
        self.liquidatable.values().flatten().collect::<BTreeSet<_>>().len()
    }

    /// Each transaction against a unit that was healthy, in words. It is right where the unit was liquidatable after the
    /// block before its own, or after the block from which the journal says that it was planned: what was right when it
    /// was sent and came too late is a revert, not a wrong.
    pub(crate) fn wrongly_sent(&self, planned: &BTreeMap<B256, u64>) -> Vec<String> {
        let mut wrong = Vec::new();
        for Sent { hash, block, targets, .. } in &self.sent {
            let planned_at = planned.get(hash).copied();
            let was = |at: Option<u64>, unit: &UnitKey| {
                at.and_then(|number| self.liquidatable.get(&number)).is_some_and(|units| units.contains(unit))
            };
            let healthy = targets.iter().filter(|unit| !was(block.checked_sub(1), unit) && !was(planned_at, unit));
            wrong.extend(healthy.map(|unit| {
                format!(
                    "{hash} in block {block}, planned at {planned_at:?}, was sent against {unit}, which was healthy"
                )
            }));
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(id: u8) -> UnitKey {
        UnitKey::new(vec![id]).unwrap()
    }

    fn units(ids: &[u8]) -> BTreeSet<UnitKey> {
        ids.iter().map(|id| unit(*id)).collect()
    }

    fn sent(hash: u8, block: u64, targets: &[u8]) -> Sent {
        let targets = targets.iter().map(|id| unit(*id)).collect();
        Sent { hash: B256::repeat_byte(hash), block, success: true, targets }
    }

    #[test]
    fn an_account_is_missed_after_two_blocks_without_an_action() {
        let mut watch = Watch::default();
        watch.block(10, units(&[1, 2]), vec![]);
        watch.block(11, units(&[1, 2]), vec![sent(1, 11, &[2])]);
        assert_eq!(watch.missed, vec![]);
        watch.block(12, units(&[1, 2]), vec![]);
        watch.block(13, units(&[1, 2]), vec![]);
        assert_eq!(watch.missed, vec![(unit(1), 12)], "unit 2 was acted on in between, unit 1 is counted once");
        watch.block(14, units(&[]), vec![]);
        for block in 15..=17 {
            watch.block(block, units(&[2]), vec![sent(2, block, &[1])]);
        }
        assert_eq!(
            watch.missed[1..],
            [(unit(2), 17)],
            "a healthy block begins anew; an action on another does not count"
        );
        assert_eq!((watch.open(), watch.ever(), watch.sent.len()), (1, 2, 4));
    }

    #[test]
    fn a_transaction_against_a_healthy_account_is_wrong() {
        let mut watch = Watch::default();
        watch.block(1, units(&[1]), vec![]);
        watch.block(2, units(&[]), vec![sent(1, 2, &[1])]);
        watch.block(3, units(&[]), vec![sent(2, 3, &[1]), sent(3, 3, &[]), sent(4, 3, &[1, 2])]);
        assert_eq!(watch.wrongly_sent(&BTreeMap::new()).len(), 3);
        // planned while it was liquidatable and mined late: right, though it will have reverted
        let planned = BTreeMap::from([(B256::repeat_byte(2), 1), (B256::repeat_byte(4), 1)]);
        let wrong = watch.wrongly_sent(&planned);
        assert!(wrong.len() == 1 && wrong[0].contains(&unit(2).to_string()), "{wrong:?}");
    }
}
