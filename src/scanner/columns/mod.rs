//! The columnar position store: every unit's planes as rows of numbers, fed by what changes in the position cache.
//!
//! [`Columns`] is what sweeps read. [`Store`] is the living one: it also knows which row a key is in, and which rows a
//! factor's move could matter to ([`bands`]).
//!
//! Invariants: a unit is in the store exactly once, as one row or, if its shape has several facets, as several; the row
//! says of itself how far it can be from the exact planes; what cannot be valued is raised by every sweep.
//! Must not: know a protocol, decide anything, do I/O.

mod bands;
mod grid;
mod keys;
mod row;
mod screen;
mod special;
mod store;
mod sweep;
mod table;
mod tick;

use std::{collections::BTreeMap, sync::Arc};

pub use grid::ScenarioSum;
pub use screen::{Judged, Level};
pub use store::{Held, Store};
pub use table::FactorTable;
pub use tick::{Tick, Worsened};

use keys::PackedKey;
use row::{Rows, class_for, classes};
use screen::{UNVALUED, Watch};
use special::Special;

use crate::types::{SegmentId, UnitKey};

/// Bits of a handle that name the row within its class.
const ROW_BITS: u32 = 27;

/// Where a unit is: class and row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(u32);

impl Handle {
    fn new(class: usize, row: usize) -> Self {
        let (class, row) = (u32::try_from(class), u32::try_from(row));
        let (class, row) = (class.expect("invariant: few classes"), row.expect("invariant: rows have 27 bits"));
        assert!(row < 1 << ROW_BITS, "a store holds at most {} units of one width", 1u32 << ROW_BITS);
        Self(class << ROW_BITS | row)
    }

    fn class(self) -> usize {
        (self.0 >> ROW_BITS) as usize
    }

    fn row(self) -> usize {
        (self.0 & ((1 << ROW_BITS) - 1)) as usize
    }
}

/// What is known of a row's unit besides its numbers.
#[derive(Clone, Debug, Default, PartialEq)]
struct Meta {
    key: PackedKey,
    segment: u32,
}

/// Rows of every width and whose they are.
#[derive(Debug)]
pub struct Columns {
    classes: Vec<Box<dyn Rows>>,
    metas: Vec<Vec<Meta>>,
    table: FactorTable,
    watch: Watch,
    special: BTreeMap<Handle, Arc<Special>>,
}

impl Columns {
    fn new(table: FactorTable, at_risk_health_factor_bps: u32) -> Self {
        let classes = classes();
        Self {
            metas: vec![Vec::new(); classes.len()],
            classes,
            table,
            watch: Watch::new(at_risk_health_factor_bps),
            special: BTreeMap::new(),
        }
    }

    /// The factor values it is at.
    pub fn table(&self) -> &FactorTable {
        &self.table
    }

    /// A row's unit.
    pub fn key(&self, handle: Handle) -> UnitKey {
        self.meta(handle).key.unit_key()
    }

    /// A row's segment.
    pub fn segment(&self, handle: Handle) -> SegmentId {
        SegmentId(self.meta(handle).segment)
    }

    fn meta(&self, handle: Handle) -> &Meta {
        &self.metas[handle.class()][handle.row()]
    }

    fn meta_mut(&mut self, handle: Handle) -> &mut Meta {
        &mut self.metas[handle.class()][handle.row()]
    }

    fn rows(&self, handle: Handle) -> &dyn Rows {
        self.classes[handle.class()].as_ref()
    }

    fn rows_mut(&mut self, handle: Handle) -> &mut dyn Rows {
        self.classes[handle.class()].as_mut()
    }

    /// A row for so many legs; `None` if no row has room for them.
    fn allocate(&mut self, legs: usize) -> Option<Handle> {
        let class = class_for(legs)?;
        let row = self.classes[class].allocate();
        let metas = &mut self.metas[class];
        if row == metas.len() {
            metas.push(Meta::default());
        }
        Some(Handle::new(class, row))
    }

    fn free(&mut self, handle: Handle) {
        self.rows_mut(handle).free(handle.row());
        *self.meta_mut(handle) = Meta::default();
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        let rows: usize = self.classes.iter().map(|class| class.bytes()).sum();
        let metas: usize = self.metas.iter().map(|metas| metas.capacity() * size_of::<Meta>()).sum();
        rows + metas
    }

    /// Reads once what a full sweep reads, where it lies, and makes nothing of it: what no sweep can be faster than.
    pub fn read(&self) -> u64 {
        self.classes.iter().fold(0, |all, rows| all ^ rows.read())
    }

    /// Bytes that a full sweep reads.
    pub fn swept_bytes(&self) -> usize {
        self.classes.iter().map(|class| class.bytes()).sum()
    }
}
