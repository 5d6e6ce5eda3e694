//! The cache itself and its snapshots.

use std::sync::Arc;

use imbl::{OrdMap, ordmap::DiffItem};

use super::{Change, Delta, Record, RecordKey, Unit};
use crate::types::{BlockRef, UnitKey};

/// A delta did not fit the book: it was made from another state. The book is unchanged.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BookError {
    /// A unit is not as the change expects.
    #[error("unit {0} is not in the state the change starts from")]
    Unit(UnitKey),
    /// A record is not as the change expects.
    #[error("record {0:?} is not in the state the change starts from")]
    Record(RecordKey),
}

/// Units and records of one deployment. Cloning takes constant time and shares everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Book {
    units: OrdMap<UnitKey, Arc<Unit>>,
    records: OrdMap<RecordKey, Arc<Record>>,
}

impl Book {
    /// A book of these units and records, as restored from a checkpoint.
    pub fn restore(
        units: impl IntoIterator<Item = (UnitKey, Unit)>,
        records: impl IntoIterator<Item = (RecordKey, Record)>,
    ) -> Self {
        Self {
            units: units.into_iter().map(|(k, u)| (k, Arc::new(u))).collect(),
            records: records.into_iter().map(|(k, r)| (k, Arc::new(r))).collect(),
        }
    }

    /// The unit of this key.
    pub fn unit(&self, key: &UnitKey) -> Option<&Arc<Unit>> {
        self.units.get(key)
    }

    /// The record of this key.
    pub fn record(&self, key: &RecordKey) -> Option<&Arc<Record>> {
        self.records.get(key)
    }

    /// All units, by key.
    pub fn units(&self) -> impl Iterator<Item = (&UnitKey, &Arc<Unit>)> {
        self.units.iter()
    }

    /// All records, by key.
    pub fn records(&self) -> impl Iterator<Item = (&RecordKey, &Arc<Record>)> {
        self.records.iter()
    }

    /// The records of one kind, by id.
    pub fn records_of(&self, kind: u16) -> impl Iterator<Item = (&RecordKey, &Arc<Record>)> {
        self.records.range(RecordKey { kind, id: Default::default() }..).take_while(move |(key, _)| key.kind == kind)
    }

    /// How many units there are.
    pub fn unit_count(&self) -> usize {
        self.units.len()
    }

    /// The net change from this book to another one. Parts that both share are not looked at, so that between two snapshots
    /// of one cache it costs what changed.
    pub fn changes_to(&self, other: &Self) -> Delta {
        let units = self.units.diff(&other.units).map(|item| {
            let (key, before, after) = sides(item);
            Change::Unit { key, before, after }
        });
        let records = self.records.diff(&other.records).map(|item| {
            let (key, before, after) = sides(item);
            Change::Record { key, before, after }
        });
        Delta { changes: units.chain(records).collect() }
    }

    /// Moves the book forward by a delta, all of it or none.
    pub fn apply(&mut self, delta: &Delta) -> Result<(), BookError> {
        self.step(delta.changes.iter().map(Directed::forward))
    }

    /// Takes a delta back, all of it or none.
    pub fn undo(&mut self, delta: &Delta) -> Result<(), BookError> {
        self.step(delta.changes.iter().rev().map(Directed::backward))
    }

    fn step<'d>(&mut self, changes: impl Iterator<Item = Directed<'d>>) -> Result<(), BookError> {
        let mut next = self.clone();
        for change in changes {
            match change {
                Directed::Unit { key, from, to } => {
                    if next.units.get(key) != from.as_ref() {
                        return Err(BookError::Unit(key.clone()));
                    }
                    replace(&mut next.units, key, to);
                }
                Directed::Record { key, from, to } => {
                    if next.records.get(key) != from.as_ref() {
                        return Err(BookError::Record(*key));
                    }
                    replace(&mut next.records, key, to);
                }
            }
        }
        *self = next;
        Ok(())
    }
}

/// A change read in one of its two directions.
enum Directed<'d> {
    Unit { key: &'d UnitKey, from: &'d Option<Arc<Unit>>, to: &'d Option<Arc<Unit>> },
    Record { key: &'d RecordKey, from: &'d Option<Arc<Record>>, to: &'d Option<Arc<Record>> },
}

impl<'d> Directed<'d> {
    fn forward(change: &'d Change) -> Self {
        match change {
            Change::Unit { key, before, after } => Self::Unit { key, from: before, to: after },
            Change::Record { key, before, after } => Self::Record { key, from: before, to: after },
        }
    }

    fn backward(change: &'d Change) -> Self {
        match change {
            Change::Unit { key, before, after } => Self::Unit { key, from: after, to: before },
            Change::Record { key, before, after } => Self::Record { key, from: after, to: before },
        }
    }
}

fn replace<K: Ord + Clone, V: Clone>(map: &mut OrdMap<K, V>, key: &K, to: &Option<V>) {
    match to {
        Some(value) => map.insert(key.clone(), value.clone()),
        None => map.remove(key),
    };
}

fn sides<K: Clone, V: Clone>(item: DiffItem<'_, '_, K, V>) -> (K, Option<V>, Option<V>) {
    match item {
        DiffItem::Add(key, after) => (key.clone(), None, Some(after.clone())),
        DiffItem::Update { old: (key, before), new: (_, after) } => {
            (key.clone(), Some(before.clone()), Some(after.clone()))
        }
        DiffItem::Remove(key, before) => (key.clone(), Some(before.clone()), None),
    }
}

/// The cache at one block: what a scan, a plan and an explanation are all made from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The block whose state this is.
    pub block: BlockRef,
    /// Units and records after that block.
    pub book: Book,
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{Address, I256, U256};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        positions::{Draft, Leg, LegKind},
        types::{MarketId, SegmentId},
    };

    /// One random edit: a small key space, so that edits meet.
    fn edit(draft: &mut Draft<'_>, (what, id, value): (bool, u8, i64)) {
        if what {
            let key = UnitKey::new(vec![id % 8]).unwrap();
            let unit = (value % 5 != 0).then(|| {
                let mut unit = Unit::new(SegmentId(0), Address::with_last_byte(id));
                unit.cash = I256::try_from(value).unwrap();
                let quantity = I256::try_from(value / 2).unwrap();
                unit.set_leg(Leg { market: MarketId(1), kind: LegKind::Perp, quantity, quote: I256::ZERO });
                unit
            });
            draft.set_unit(key, unit);
        } else {
            let key = RecordKey::numbered(u16::from(id % 3), u64::from(id % 4));
            draft.set_record(key, (value % 5 != 0).then(|| vec![U256::from(value.unsigned_abs())]));
        }
    }

    proptest! {
        #[test]
        fn undo_takes_back_exactly_what_apply_did(
            blocks in prop::collection::vec(prop::collection::vec(any::<(bool, u8, i64)>(), 0..12), 1..12)
        ) {
            let mut book = Book::default();
            let mut past = Vec::new();
            for edits in blocks {
                let mut draft = Draft::new(&book);
                edits.into_iter().for_each(|e| edit(&mut draft, e));
                let delta = draft.finish();
                let before = book.clone();
                book.apply(&delta).unwrap();
                past.push((before, delta, book.clone()));
            }
            let net = Book::default().changes_to(&book);
            let mut rebuilt = Book::default();
            rebuilt.apply(&net).unwrap();
            prop_assert_eq!(&rebuilt, &book);
            for (before, delta, after) in past.into_iter().rev() {
                prop_assert_eq!(&before.changes_to(&after), &delta);
                prop_assert_eq!(&book, &after);
                book.undo(&delta).unwrap();
                prop_assert_eq!(&book, &before);
            }
            prop_assert_eq!(book, Book::default());
        }
    }

    #[test]
    fn a_delta_of_another_state_is_refused_whole() {
        let mut book = Book::default();
        let mut draft = Draft::new(&book);
        draft.set_record(RecordKey::numbered(1, 1), Some(vec![U256::from(1)]));
        draft.set_unit(UnitKey::new(vec![1]).unwrap(), Some(Unit::new(SegmentId(0), Address::ZERO)));
        let delta = draft.finish();
        book.apply(&delta).unwrap();
        let before = book.clone();
        assert_eq!(book.apply(&delta), Err(BookError::Unit(UnitKey::new(vec![1]).unwrap())));
        assert_eq!(book, before);
    }

    #[test]
    fn records_of_one_kind_are_found_without_their_neighbours() {
        let records = [(1, 7), (2, 0), (2, 9), (3, 1)].map(|(k, i)| (RecordKey::numbered(k, i), vec![]));
        let book = Book::restore([], records);
        let ids: Vec<_> = book.records_of(2).map(|(k, _)| *k).collect();
        assert_eq!(ids, [RecordKey::numbered(2, 0), RecordKey::numbered(2, 9)]);
    }
}
