//! The living store: keeps rows, the way to them and the bands in step with the position cache.

use std::collections::BTreeSet;

use super::{
    super::{Facet, Factors, Shape},
    Columns, Handle, Level, Meta,
    bands::Bands,
    keys::{KeyIndex, PackedKey, hash_of},
    row::{NO_BAND, QUIET},
    special::{Special, value},
    table::{FactorTable, NOTHING, OFFSET, column},
    tick::BANDED_AT_ONCE,
};
use crate::{
    positions::{Change, Delta, Unit},
    types::{SegmentId, UnitKey},
};

/// Rows fetched side by side before they are looked at one by one: what is done depends on what the row says, and would wait
/// for memory each time.
pub(super) const SIDE_BY_SIDE: usize = 64;

/// Unit roundoff of f64.
const UNIT_ROUNDOFF: f64 = f64::EPSILON / 2.0;
/// Roundings of one term apart from the additions (docs/designs/006-scanner.md, §2).
const ROUNDINGS_PER_TERM: f64 = 10.0;

/// Who a unit is, besides its shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held<'u> {
    /// Its key.
    pub key: &'u UnitKey,
    /// Where its losses stay.
    pub segment: SegmentId,
}

impl<'u> Held<'u> {
    /// Of a unit of the position cache.
    pub fn of(key: &'u UnitKey, unit: &Unit) -> Self {
        Self { key, segment: unit.segment }
    }
}

/// The columnar position store.
#[derive(Debug)]
pub struct Store {
    pub(super) columns: Columns,
    pub(super) keys: KeyIndex,
    pub(super) bands: Bands,
    /// Growth of the factors up to which the bands allow for errors.
    pub(super) growth_allowed: f64,
    /// Rows that were not clear when last looked at, and perhaps some that were; with repeats.
    pub(super) hot: Vec<Handle>,
    /// Special units whose bounds are watched.
    pub(super) bounds: BTreeSet<Handle>,
    /// Units whose adapter must be asked for their shape again.
    pub(super) stale: BTreeSet<Handle>,
    /// Rows that are not watched on all of their legs: every tick looks at them.
    pub(super) loose: Vec<Handle>,
    /// Whether rows that are written are left loose.
    in_bulk: bool,
    /// Legs that are watched by a band.
    pub(super) watched_legs: usize,
}

impl Store {
    /// An empty store with room for so many units, at these factor values. A healthy unit with a health factor below
    /// `at_risk_health_factor_bps` is raised as at risk.
    pub fn with_room_for(units: usize, factors: &Factors, at_risk_health_factor_bps: u32) -> Self {
        Self {
            columns: Columns::new(FactorTable::new(factors), at_risk_health_factor_bps),
            keys: KeyIndex::with_room_for(units),
            bands: Bands::default(),
            growth_allowed: super::tick::GROWTH_ALLOWED,
            hot: Vec::new(),
            bounds: BTreeSet::new(),
            stale: BTreeSet::new(),
            loose: Vec::new(),
            in_bulk: false,
            watched_legs: 0,
        }
    }

    /// What sweeps read.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The row of a unit.
    pub fn find(&self, key: &UnitKey) -> Option<Handle> {
        self.find_hashed(key, hash_of(key.as_bytes()))
    }

    fn find_hashed(&self, key: &UnitKey, hash: u64) -> Option<Handle> {
        self.keys.find(hash, |handle| self.columns.meta(handle).key.as_bytes() == key.as_bytes())
    }

    /// Puts a unit, or what has become of it. `None` for a shape: it cannot be valued and is raised always.
    pub fn put(&mut self, held: Held<'_>, shape: Option<&Shape>) {
        let hash = hash_of(held.key.as_bytes());
        let mut known = self.find_hashed(held.key, hash);
        let linear = shape.and_then(Shape::as_linear);
        if linear.is_none() || known.is_some_and(|handle| self.columns.special(handle).is_some()) {
            self.remove(held.key);
            known = None;
        }
        match linear {
            Some(facet) => self.put_row(held, hash, known, facet),
            None => self.put_special(held, hash, shape.cloned().unwrap_or_default()),
        }
    }

    /// A unit of one linear facet.
    fn put_row(&mut self, held: Held<'_>, hash: u64, known: Option<Handle>, facet: &Facet) {
        let legs = facet.planes.holdings.len() + usize::from(facet.maintenance_offset != 0.0);
        let handle = match known {
            Some(handle) if super::class_for(legs) == Some(handle.class()) => {
                self.columns.meta_mut(handle).segment = held.segment.0;
                handle
            }
            _ => {
                let Some(handle) = self.columns.allocate(legs) else {
                    self.remove(held.key);
                    return self.put_special(held, hash, Shape::default());
                };
                self.name(handle, held, hash, known);
                handle
            }
        };
        self.write(handle, facet, 0.0);
        if self.in_bulk {
            self.leave_loose(handle);
        } else {
            self.settle(handle);
        }
    }

    /// Says whose a new row is, and gives back the one it replaces.
    fn name(&mut self, handle: Handle, held: Held<'_>, hash: u64, replaces: Option<Handle>) {
        match replaces {
            Some(old) => {
                self.keys.replace(hash, old, handle);
                self.release(old);
            }
            None => self.keys.insert(hash, handle),
        }
        *self.columns.meta_mut(handle) = meta(held);
    }

    /// A unit of several rows, of curves, or of nothing but exact judgement.
    fn put_special(&mut self, held: Held<'_>, hash: u64, mut shape: Shape) {
        let mut rows = Vec::new();
        for facet in &shape.facets {
            let legs = facet.planes.holdings.len() + usize::from(facet.maintenance_offset != 0.0);
            rows.extend(self.columns.allocate(legs));
        }
        if rows.len() < shape.facets.len() {
            rows.drain(..).for_each(|row| self.columns.free(row));
            shape = Shape::default();
        }
        if rows.is_empty() {
            rows.extend(self.columns.allocate(0));
        }
        self.name(rows[0], held, hash, None);
        let special = std::sync::Arc::new(Special { shape, rows });
        for (at, row) in special.rows.iter().enumerate() {
            *self.columns.meta_mut(*row) = meta(held);
            self.columns.special.insert(*row, special.clone());
            *self.columns.rows_mut(*row).view_mut(row.row()).special = true;
            match special.shape.facets.get(at) {
                Some(facet) => self.write(*row, facet, special.shape.sag(facet)),
                None => *self.columns.rows_mut(*row).view_mut(row.row()).constant = f64::NAN,
            }
            self.settle(*row);
        }
        self.watch_bounds(special.rows[0]);
    }

    /// Writes a facet's numbers. `sag` is what its curves may lower it by.
    fn write(&mut self, handle: Handle, facet: &Facet, sag: f64) {
        let error = row_error(&self.columns.table, facet, sag);
        let known = self.columns.table.columns();
        let (mut error_or_nothing, mut unwatched) = (error, 0);
        let row = self.columns.rows_mut(handle).view_mut(handle.row());
        *row.constant = facet.planes.constant;
        let offset = (facet.maintenance_offset != 0.0).then_some((OFFSET, facet.maintenance_offset));
        let holdings = facet.planes.holdings.iter().map(|(factor, quantity)| {
            let column = column(*factor, *quantity).filter(|column| usize::from(*column) < known);
            if column.is_none() {
                error_or_nothing = f64::NAN;
            }
            (column.unwrap_or(NOTHING), *quantity)
        });
        let mut legs = offset.into_iter().chain(holdings);
        for at in 0..row.quantity.len() {
            let (column, quantity) = legs.next().unwrap_or((NOTHING, 0.0));
            if row.column[at] != column {
                unwatched += usize::from(std::mem::replace(&mut row.band[at], NO_BAND) != NO_BAND);
            }
            (row.column[at], row.quantity[at]) = (column, quantity);
        }
        drop(legs);
        *row.error = error_or_nothing;
        self.watched_legs -= unwatched;
    }

    /// Takes a unit out; nothing happens if there is none.
    pub fn remove(&mut self, key: &UnitKey) {
        let Some(handle) = self.find(key) else { return };
        self.keys.remove(hash_of(key.as_bytes()), handle);
        self.release(handle);
    }

    /// Gives a unit's rows back.
    fn release(&mut self, handle: Handle) {
        let Some(special) = self.columns.special.get(&handle).cloned() else {
            self.forget_bands(handle);
            self.columns.free(handle);
            self.stale.remove(&handle);
            return;
        };
        for row in &special.rows {
            self.forget_bands(*row);
            self.columns.special.remove(row);
            self.columns.free(*row);
        }
        self.bounds.remove(&handle);
        self.stale.remove(&handle);
    }

    /// Follows a change of the position cache, in either direction. `shape` values a unit; see [`Self::put`].
    pub fn apply(&mut self, delta: &Delta, mut shape: impl FnMut(&UnitKey, &Unit) -> Option<Shape>) {
        // bands can wait where much has changed, as after a large tick
        self.in_bulk = self.loose.len() + delta.changes.len() > BANDED_AT_ONCE;
        // a key stands once in a delta, so the order does not matter
        for changes in delta.changes.chunks(SIDE_BY_SIDE) {
            self.touch(changes);
            for change in changes {
                let Change::Unit { key, after, .. } = change else { continue };
                match after {
                    Some(unit) => {
                        let shape = shape(key, unit);
                        self.put(Held::of(key, unit), shape.as_ref());
                    }
                    None => self.remove(key),
                }
            }
        }
        self.in_bulk = false;
    }

    /// Reads what these changes are about, so that it is at hand when they are made one by one.
    fn touch(&self, changes: &[Change]) {
        let keys =
            || changes.iter().filter_map(|change| if let Change::Unit { key, .. } = change { Some(key) } else { None });
        std::hint::black_box(keys().map(|key| key.as_bytes().first().copied().unwrap_or(0)).fold(0, u8::wrapping_add));
        let hashes: Vec<u64> = keys().map(|key| hash_of(key.as_bytes())).collect();
        let handles: Vec<Handle> = hashes.iter().filter_map(|hash| self.keys.find(*hash, |_| true)).collect();
        let read = |handle: &Handle| {
            self.columns.rows(*handle).touch(handle.row()) ^ u64::from(self.columns.meta(*handle).segment)
        };
        std::hint::black_box(handles.iter().map(read).fold(0, u64::wrapping_add));
    }

    /// What an exact look at a unit found. An opaque one that is healthy is left alone until a factor leaves its bounds.
    pub fn judged_opaque(&mut self, key: &UnitKey, is_healthy: bool) {
        if self.columns.special.is_empty() {
            return;
        }
        let Some(handle) = self.find(key) else { return };
        let opaque = self.columns.special(handle).is_some_and(|special| {
            special.shape.facets.is_empty() && !special.shape.bounds.is_empty() && special.holds(&self.columns.table)
        });
        if opaque && !self.stale.contains(&handle) {
            let constant = if is_healthy { QUIET } else { f64::NAN };
            *self.columns.rows_mut(handle).view_mut(handle.row()).constant = constant;
            self.settle(handle);
        }
    }

    /// Rows that may not be healthy, each unit once, looked at anew: those that have become clear are left out.
    pub fn hot(&mut self) -> Vec<Handle> {
        let mut hot = std::mem::take(&mut self.hot);
        hot.sort_unstable();
        hot.dedup();
        hot.retain(|handle| self.columns.rows(*handle).view(handle.row()).level > Level::Clear);
        hot.retain(|handle| {
            self.settle(*handle);
            self.columns.rows(*handle).view(handle.row()).level > Level::Clear
        });
        self.hot.clone_from(&hot);
        let mut units: Vec<Handle> =
            hot.into_iter().map(|row| self.columns.special(row).map_or(row, |special| special.rows[0])).collect();
        units.dedup();
        units.retain(|unit| self.columns.special(*unit).is_none() || self.columns.level(*unit) > Level::Clear);
        units.sort_unstable();
        units.dedup();
        units
    }

    /// A unit's level as the last tick that looked at it left it.
    #[cfg(test)]
    pub(in crate::scanner) fn level_when_last_looked_at(&self, handle: Handle) -> Level {
        self.columns.rows(handle).view(handle.row()).level
    }

    /// Heap bytes of everything.
    pub fn bytes(&self) -> usize {
        self.columns.bytes() + self.keys.bytes() + self.bands.bytes() + self.hot.capacity() * size_of::<Handle>()
    }
}

fn meta(held: Held<'_>) -> Meta {
    Meta { key: PackedKey::new(held.key), segment: held.segment.0 }
}

/// Bound on what separates a facet's float planes from the exact ones, at the table's reference values
/// (docs/designs/006-scanner.md, §2): rounding, sag and 2·N·u·A with N the roundings of a term and A the sum of magnitudes.
fn row_error(table: &FactorTable, facet: &Facet, sag: f64) -> f64 {
    let planes = &facet.planes;
    let mut magnitude = planes.constant.abs() + facet.maintenance_offset.abs();
    for (factor, quantity) in &planes.holdings {
        let [equity, surplus] = value(table, *factor);
        magnitude += quantity.abs() * equity.abs().max(surplus.abs());
    }
    let floating = if magnitude == 0.0 && planes.holdings.is_empty() {
        0.0
    } else {
        #[expect(clippy::cast_precision_loss, reason = "a count of legs is far below 2^53")]
        let roundings = planes.holdings.len() as f64 + 2.0 + ROUNDINGS_PER_TERM;
        2.0 * roundings * UNIT_ROUNDOFF * magnitude + f64::MIN_POSITIVE
    };
    let error = (floating + planes.rounding + sag) * table.shrinkage() * (1.0 + 8.0 * UNIT_ROUNDOFF);
    if planes.rounding >= 0.0 && sag >= 0.0 { error } else { f64::NAN }
}
