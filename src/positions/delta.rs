//! Invertible changes, and the editor that makes them.

use std::{collections::BTreeMap, sync::Arc};

use super::{Book, Record, RecordKey, Unit};
use crate::types::UnitKey;

/// One change, with what stood before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A unit came, changed or went.
    Unit {
        /// Which.
        key: UnitKey,
        /// What the cache held, `None` if nothing.
        before: Option<Arc<Unit>>,
        /// What it holds now.
        after: Option<Arc<Unit>>,
    },
    /// A record came, changed or went.
    Record {
        /// Which.
        key: RecordKey,
        /// What the cache held, `None` if nothing.
        before: Option<Arc<Record>>,
        /// What it holds now.
        after: Option<Arc<Record>>,
    },
}

/// The changes of one block, in order, at most one a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The changes; each key stands once.
    pub changes: Vec<Change>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// An editor over a book: reads see its own writes, and [`Draft::finish`] gives the net change.
#[derive(Debug)]
pub struct Draft<'a> {
    base: &'a Book,
    units: BTreeMap<UnitKey, Option<Arc<Unit>>>,
    records: BTreeMap<RecordKey, Option<Arc<Record>>>,
}

impl<'a> Draft<'a> {
    /// Starts from what the book holds.
    pub fn new(base: &'a Book) -> Self {
        Self { base, units: BTreeMap::new(), records: BTreeMap::new() }
    }

    /// The unit as edited so far.
    pub fn unit(&self, key: &UnitKey) -> Option<&Arc<Unit>> {
        match self.units.get(key) {
            Some(edited) => edited.as_ref(),
            None => self.base.unit(key),
        }
    }

    /// The record as edited so far.
    pub fn record(&self, key: &RecordKey) -> Option<&Arc<Record>> {
        match self.records.get(key) {
            Some(edited) => edited.as_ref(),
            None => self.base.record(key),
        }
    }

    /// Puts a unit, or takes it out with `None`.
    pub fn set_unit(&mut self, key: UnitKey, unit: Option<Unit>) {
        self.units.insert(key, unit.map(Arc::new));
    }

    /// Puts a record, or takes it out with `None`.
    pub fn set_record(&mut self, key: RecordKey, record: Option<Record>) {
        self.records.insert(key, record.map(Arc::new));
    }

    /// The net change against the book; keys that ended as they began are left out.
    pub fn finish(self) -> Delta {
        let base = self.base;
        let units = self.units.into_iter().filter_map(|(key, after)| {
            let before = base.unit(&key).cloned();
            (before != after).then_some(Change::Unit { key, before, after })
        });
        let records = self.records.into_iter().filter_map(|(key, after)| {
            let before = base.record(&key).cloned();
            (before != after).then_some(Change::Record { key, before, after })
        });
        Delta { changes: units.chain(records).collect() }
    }
}
