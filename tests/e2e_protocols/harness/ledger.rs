//! Counts what was missed and what was wrongly sent, from what the chain says block by block.
//!
//! Pure: no chain, no clock.

use std::collections::{BTreeMap, BTreeSet};

use backstop::types::{B256, UnitKey};

/// Blocks in a row at whose end a unit may be liquidatable without an action against it.
const PATIENCE_BLOCKS: u64 = 2;

/// A transaction of the keeper and the units it liquidates.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Its hash.
    pub(super) hash: B256,
    /// The block it is in.
    pub(super) block: u64,
    /// Whether it succeeded.
    pub(super) success: bool,
    /// What it liquidates; the error says why it must not have been sent at all.
    pub(super) targets: Result<Vec<UnitKey>, String>,
}

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    /// Units liquidatable at the end of each block.
    liquidatable: BTreeMap<u64, BTreeSet<UnitKey>>,
    /// Blocks in a row that a unit was liquidatable without an action, up to the last block.
    waiting: BTreeMap<UnitKey, u64>,
    sent: Vec<Sent>,
    /// Each unit that waited too long and the block at which it had, once per wait.
    pub(super) missed: Vec<(UnitKey, u64)>,
}

impl Ledger {
    /// A block, in order: what is liquidatable at its end, and the keeper's transactions in it.
    pub(super) fn block(&mut self, number: u64, liquidatable: BTreeSet<UnitKey>, sent: Vec<Sent>) {
        let acted: BTreeSet<&UnitKey> = sent.iter().flat_map(|tx| tx.targets.iter().flatten()).collect();
        let mut waiting = BTreeMap::new();
        for unit in &liquidatable {
            let before = if acted.contains(unit) { 0 } else { self.waiting.get(unit).copied().unwrap_or_default() };
            let now = if acted.contains(unit) { 0 } else { before + 1 };
            if now == PATIENCE_BLOCKS + 1 {
                self.missed.push((unit.clone(), number));
            }
            waiting.insert(unit.clone(), now);
        }
        self.waiting = waiting;
        self.liquidatable.insert(number, liquidatable);
        self.sent.extend(sent);
    }

    /// Units liquidatable at the end of the last block.
    pub(super) fn open(&self) -> usize {
        self.liquidatable.last_key_value().map_or(0, |(_, units)| units.len())
    }

    /// Units that were ever liquidatable.
    pub(super) fn ever(&self) -> usize {
        self.liquidatable.values().flatten().collect::<BTreeSet<_>>().len()
    }

    /// The keeper's transactions.
    pub(super) fn sent(&self) -> &[Sent] {
        &self.sent
    }

    /// Each transaction that should not have been sent, and why. It is right where each of its targets was liquidatable at
    /// the end of the block before its own, or of the block from which the journal says that it was planned.
    pub(super) fn wrongly_sent(&self, planned: &BTreeMap<B256, u64>) -> Vec<String> {
        let mut wrong = Vec::new();
        for tx in &self.sent {
            let looked_at = [tx.block.checked_sub(1), planned.get(&tx.hash).copied()];
            let was = |unit: &UnitKey| {
                let units = looked_at.iter().flatten().filter_map(|block| self.liquidatable.get(block));
                units.into_iter().any(|units| units.contains(unit))
            };
            match &tx.targets {
                Err(why) => wrong.push(format!("{} in block {}: {why}", tx.hash, tx.block)),
                Ok(targets) => wrong.extend(targets.iter().filter(|unit| !was(unit)).map(|unit| {
                    format!(
                        "{} in block {}: {unit} was not liquidatable, planned {:?}",
                        tx.hash, tx.block, looked_at[1]
                    )
                })),
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(n: u8) -> UnitKey {
        UnitKey::new(vec![n]).expect("a key")
    }

    fn units(all: &[u8]) -> BTreeSet<UnitKey> {
        all.iter().map(|n| unit(*n)).collect()
    }

    fn sent(hash: u8, block: u64, targets: &[u8]) -> Sent {
        let targets = Ok(targets.iter().map(|n| unit(*n)).collect());
        Sent { hash: B256::repeat_byte(hash), block, success: true, targets }
    }

    #[test]
    fn who_waits_for_more_than_two_blocks_is_missed_once() {
        let mut ledger = Ledger::default();
        for block in 1..=2 {
            ledger.block(block, units(&[1, 2]), vec![]);
        }
        assert_eq!(ledger.missed, vec![]);
        ledger.block(3, units(&[1]), vec![]);
        ledger.block(4, units(&[1]), vec![]);
        assert_eq!(ledger.missed, vec![(unit(1), 3)]);
        assert_eq!((ledger.open(), ledger.ever()), (1, 2));
    }

    #[test]
    fn an_action_or_a_recovery_begins_the_wait_anew() {
        let mut ledger = Ledger::default();
        for block in 1..=12 {
            // 1 is acted on at every third block and stays liquidatable; 2 recovers at every third
            let acted = if block % 3 == 0 { vec![sent(1, block, &[1])] } else { vec![] };
            let open = if block % 3 == 0 { units(&[1]) } else { units(&[1, 2]) };
            ledger.block(block, open, acted);
        }
        assert_eq!(ledger.missed, vec![]);
        for block in 13..=15 {
            ledger.block(block, units(&[1]), vec![sent(2, block, &[2])]);
        }
        assert_eq!(ledger.missed, vec![(unit(1), 15)], "an action against another does not count");
    }

    #[test]
    fn a_transaction_against_a_healthy_unit_is_wrong() {
        let mut ledger = Ledger::default();
        ledger.block(1, units(&[1]), vec![]);
        ledger.block(2, units(&[]), vec![sent(1, 2, &[1])]);
        ledger.block(3, units(&[]), vec![sent(2, 3, &[1]), sent(3, 3, &[]), sent(4, 3, &[1, 2])]);
        let unplanned = ledger.wrongly_sent(&BTreeMap::new());
        assert_eq!(unplanned.len(), 3, "{unplanned:?}");
        // planned while it was liquidatable and mined late: right, though it will have reverted
        let planned = BTreeMap::from([(B256::repeat_byte(2), 1), (B256::repeat_byte(4), 1)]);
        let wrong = ledger.wrongly_sent(&planned);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains(&unit(2).to_string()));
    }

    #[test]
    fn what_must_not_be_sent_at_all_is_wrong() {
        let mut ledger = Ledger::default();
        ledger.block(1, units(&[]), vec![Sent { targets: Err("an unknown call".into()), ..sent(1, 1, &[]) }]);
        assert_eq!(ledger.wrongly_sent(&BTreeMap::new()).len(), 1);
        assert_eq!(ledger.sent().len(), 1);
    }
}
