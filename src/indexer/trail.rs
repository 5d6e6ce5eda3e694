//! The cache in memory with its way back: the changes of the latest blocks, and the net change since the last commit.
//!
//! Pure: no I/O. Invariants: the blocks of the way back are linked by parent hash and end at the tip; what was committed,
//! changed by [`Trail::uncommitted`], is the book.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use crate::{
    positions::{Book, BookError, Change, Delta, Record, RecordKey, Unit},
    types::{B256, BlockRef, UnitKey},
};

/// The cache and how to get back from it.
#[derive(Debug)]
pub(super) struct Trail {
    tip: Option<BlockRef>,
    book: Book,
    /// The latest blocks with what each did, oldest first, ending at the tip.
    steps: VecDeque<(BlockRef, Delta)>,
    steps_max: usize,
    pending: Pending,
    last_fork_depth: u64,
}

impl Trail {
    /// An empty cache that can go back so many blocks.
    pub(super) fn new(depth_max: u64) -> Self {
        Self {
            tip: None,
            book: Book::default(),
            steps: VecDeque::new(),
            steps_max: usize::try_from(depth_max.max(1)).unwrap_or(usize::MAX),
            pending: Pending::default(),
            last_fork_depth: 0,
        }
    }

    /// Takes up a committed state.
    pub(super) fn begin(&mut self, block: BlockRef, book: Book) {
        self.tip = Some(block);
        self.book = book;
        self.steps.clear();
        self.pending = Pending::default();
    }

    pub(super) fn tip(&self) -> Option<BlockRef> {
        self.tip
    }

    pub(super) fn book(&self) -> &Book {
        &self.book
    }

    /// How many blocks the latest [`Self::step_back_to`] took back.
    pub(super) fn last_fork_depth(&self) -> u64 {
        self.last_fork_depth
    }

    /// Moves to the block on top of the tip, which has this delta and after it this book.
    pub(super) fn step(&mut self, block: BlockRef, delta: Delta, after: Book) {
        self.book = after;
        self.pending.merge(&delta);
        self.tip = Some(block);
        self.steps.push_back((block, delta));
        if self.steps.len() > self.steps_max {
            self.steps.pop_front();
        }
    }

    /// Moves over blocks that are too deep to be taken back, up to `block`, after which there is this book.
    pub(super) fn leap(&mut self, block: BlockRef, deltas: &[Delta], after: Book) {
        self.book = after;
        deltas.iter().for_each(|delta| self.pending.merge(delta));
        self.tip = Some(block);
        self.steps.clear();
    }

    /// The hash of our branch at this height, where the way back reaches it.
    pub(super) fn hash_at(&self, number: u64) -> Option<B256> {
        let tip = self.tip?;
        if number == tip.number {
            return Some(tip.hash);
        }
        let above = number.checked_add(1)?;
        // A block names the one below it: the way back reaches one block further than it has changes.
        let named = |block: &BlockRef| (block.number == above).then_some(block.parent_hash);
        self.steps.iter().find_map(|(block, _)| named(block)).or_else(|| named(&tip).filter(|_| self.steps.is_empty()))
    }

    /// The lowest height that can be gone back to: the tip's own where there is no way back.
    pub(super) fn floor(&self) -> Option<u64> {
        match self.steps.front() {
            Some((oldest, _)) => Some(oldest.number.saturating_sub(1)),
            None => self.tip.map(|tip| tip.number),
        }
    }

    /// Takes changes back until the tip is `ancestor`.
    pub(super) fn step_back_to(&mut self, ancestor: BlockRef) -> Result<(), BookError> {
        self.last_fork_depth = 0;
        while self.tip.is_some_and(|tip| tip.number > ancestor.number) {
            let Some((block, delta)) = self.steps.pop_back() else { break };
            if let Err(error) = self.book.undo(&delta) {
                self.steps.push_back((block, delta));
                return Err(error);
            }
            self.pending.merge(&inverse(&delta));
            self.last_fork_depth += 1;
            self.tip = Some(self.steps.back().map_or(ancestor, |(below, _)| *below));
        }
        Ok(())
    }

    /// The net change since the last commit.
    pub(super) fn uncommitted(&self) -> Delta {
        self.pending.delta()
    }

    /// What is uncommitted now has been committed.
    pub(super) fn mark_committed(&mut self) {
        self.pending = Pending::default();
    }
}

/// Consecutive deltas as one.
pub(super) fn net(deltas: &[Delta]) -> Delta {
    let mut pending = Pending::default();
    deltas.iter().for_each(|delta| pending.merge(delta));
    pending.delta()
}

/// A delta that takes this one back.
fn inverse(delta: &Delta) -> Delta {
    let turn = |change: &Change| match change.clone() {
        Change::Unit { key, before, after } => Change::Unit { key, before: after, after: before },
        Change::Record { key, before, after } => Change::Record { key, before: after, after: before },
    };
    Delta { changes: delta.changes.iter().rev().map(turn).collect() }
}

/// What stood before the first of some changes, and what stands after the last.
type Span<V> = (Option<Arc<V>>, Option<Arc<V>>);

/// Consecutive deltas as one.
#[derive(Debug, Default)]
struct Pending {
    units: BTreeMap<UnitKey, Span<Unit>>,
    records: BTreeMap<RecordKey, Span<Record>>,
}

impl Pending {
    fn merge(&mut self, delta: &Delta) {
        for change in &delta.changes {
            match change {
                Change::Unit { key, before, after } => extend(&mut self.units, key.clone(), before, after),
                Change::Record { key, before, after } => extend(&mut self.records, *key, before, after),
            }
        }
    }

    fn delta(&self) -> Delta {
        let units = self.units.iter().map(|(key, (before, after))| Change::Unit {
            key: key.clone(),
            before: before.clone(),
            after: after.clone(),
        });
        let records = self.records.iter().map(|(key, (before, after))| Change::Record {
            key: *key,
            before: before.clone(),
            after: after.clone(),
        });
        Delta { changes: units.chain(records).collect() }
    }
}

fn extend<K: Ord + Clone, V: PartialEq>(
    spans: &mut BTreeMap<K, Span<V>>,
    key: K,
    before: &Option<Arc<V>>,
    after: &Option<Arc<V>>,
) {
    let first = spans.remove(&key).map_or_else(|| before.clone(), |(first, _)| first);
    // What ended as it began is no change.
    if first != *after {
        spans.insert(key, (first, after.clone()));
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, I256, U256};
    use proptest::prelude::*;

    use super::*;
    use crate::{positions::Draft, types::SegmentId};

    fn block(number: u64) -> BlockRef {
        let hash = |n: u64| B256::with_last_byte(u8::try_from(n).unwrap());
        BlockRef { number, hash: hash(number), parent_hash: hash(number - 1), timestamp: number }
    }

    /// A change of one unit or record out of a few, so that changes meet.
    fn delta(book: &Book, (what, id, value): (bool, u8, u8)) -> Delta {
        let mut draft = Draft::new(book);
        if what {
            let mut unit = Unit::new(SegmentId(0), Address::ZERO);
            unit.cash = I256::try_from(value).unwrap();
            draft.set_unit(UnitKey::new(vec![id % 3]).unwrap(), (value % 4 != 0).then_some(unit));
        } else {
            let key = RecordKey::numbered(1, u64::from(id % 3));
            draft.set_record(key, (value % 4 != 0).then(|| vec![U256::from(value)]));
        }
        draft.finish()
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Step((bool, u8, u8)),
        Back(u8),
        Commit,
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            6 => any::<(bool, u8, u8)>().prop_map(Deed::Step),
            2 => (1u8..6).prop_map(Deed::Back),
            1 => Just(Deed::Commit),
        ]
    }

    fn after(book: &Book, delta: &Delta) -> Book {
        let mut after = book.clone();
        after.apply(delta).unwrap();
        after
    }

    fn step(trail: &mut Trail, block: BlockRef, delta: Delta) {
        let after = after(trail.book(), &delta);
        trail.step(block, delta, after);
    }

    proptest! {
        #[test]
        fn the_committed_book_and_the_uncommitted_change_make_the_book(deeds in prop::collection::vec(deed(), 1..60)) {
            let mut trail = Trail::new(4);
            trail.begin(block(1), Book::default());
            let mut committed = Book::default();
            let mut past = vec![Book::default()];
            for deed in deeds {
                match deed {
                    Deed::Step(edit) => {
                        let next = block(trail.tip().unwrap().number + 1);
                        let delta = delta(trail.book(), edit);
                        step(&mut trail, next, delta);
                        past.push(trail.book().clone());
                    }
                    Deed::Back(depth) => {
                        let tip = trail.tip().unwrap().number;
                        let to = tip.saturating_sub(u64::from(depth)).max(trail.floor().unwrap());
                        trail.step_back_to(block(to)).unwrap();
                        past.truncate(usize::try_from(to).unwrap());
                        prop_assert_eq!(trail.tip(), Some(block(to)));
                        prop_assert_eq!(trail.last_fork_depth(), tip - to);
                        prop_assert_eq!(trail.book(), past.last().unwrap());
                    }
                    Deed::Commit => {
                        committed.apply(&trail.uncommitted()).unwrap();
                        trail.mark_committed();
                    }
                }
                let mut replay = committed.clone();
                replay.apply(&trail.uncommitted()).unwrap();
                prop_assert_eq!(&replay, trail.book());
            }
        }
    }

    #[test]
    fn the_way_back_is_as_long_as_asked_and_names_one_block_more() {
        let mut trail = Trail::new(2);
        trail.begin(block(1), Book::default());
        assert_eq!((trail.hash_at(1), trail.hash_at(0)), (Some(block(1).hash), Some(block(1).parent_hash)));
        assert_eq!(trail.floor(), Some(1));
        for number in 2..=5 {
            step(&mut trail, block(number), Delta::default());
        }
        assert_eq!(trail.floor(), Some(3));
        assert_eq!(trail.hash_at(3), Some(block(3).hash));
        assert_eq!((trail.hash_at(2), trail.hash_at(6)), (None, None));
    }

    #[test]
    fn a_leap_forgets_the_way_back_but_not_the_change() {
        let mut trail = Trail::new(8);
        trail.begin(block(1), Book::default());
        let first = delta(trail.book(), (true, 0, 1));
        step(&mut trail, block(2), first);
        let second = delta(trail.book(), (false, 0, 1));
        let after = after(trail.book(), &second);
        trail.leap(block(9), &[second], after);
        assert_eq!(trail.floor(), Some(9));
        assert_eq!(trail.uncommitted().changes.len(), 2);
    }
}
