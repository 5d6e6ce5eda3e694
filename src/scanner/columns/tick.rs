//! The tick sweep: when factors move, only rows whose safe band was crossed are looked at.
//!
//! A row's budget is what its watched plane has above the error it may have; it is split so that every leg gets the same
//! share of its factor's value. The argument that no crossing is missed is in docs/designs/006-scanner.md, §3.

use super::{
    super::Factors,
    Columns, Handle, Judged, Level, Store,
    bands::{Met, Watched},
    row::{Looked, NO_BAND},
    special::value,
    store::SIDE_BY_SIDE,
    table::column,
};
use crate::types::UnitKey;

/// Bands allow for errors as wide as they are when a factor has grown so much since the reference.
pub(super) const GROWTH_ALLOWED: f64 = 16.0;

/// Rows that a tick bands anew itself. Where more were met, those who ask who fell are answered first: the rows stay loose
/// until [`Store::catch_up`].
pub(super) const BANDED_AT_ONCE: usize = 4096;

/// What a move of factors did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tick {
    /// Rows that were looked at.
    pub looked_at: usize,
    /// Rows that may be worse than before.
    pub worsened: Vec<Worsened>,
    /// Units whose shape is no longer good: a factor left its bounds, came to life or ceased.
    pub stale: Vec<UnitKey>,
}

/// A row that may be worse than before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worsened {
    /// Which; one of them where a unit has several.
    pub row: Handle,
    /// How bad it may be now.
    pub level: Level,
    /// Its planes now.
    pub judged: Judged,
}

impl Store {
    /// Moves to other factor values.
    pub fn set_factors(&mut self, factors: &Factors) -> Tick {
        let change = self.columns.table.set(factors);
        let mut tick = Tick::default();
        if change.moved.is_empty() {
            return tick;
        }
        if !change.revived.is_empty() {
            self.spoil_holders(&change.revived);
        }
        if self.columns.table.has_drifted() || self.columns.table.growth() > self.growth_allowed {
            self.rebuild(&mut tick);
        } else {
            let mut met = Vec::new();
            for (column, old) in &change.moved {
                let new = self.columns.table.values()[usize::from(*column)];
                for watched in Watched::ALL {
                    let [old, new] = [*old, new].map(|value| watched.of(value));
                    self.bands.advance(*column, watched, old, new, &mut met);
                }
            }
            self.look_at(&met, &mut tick);
        }
        self.compact_bands();
        tick.stale = std::mem::take(&mut self.stale).into_iter().map(|unit| self.columns.key(unit)).collect();
        tick
    }

    /// Looks at the rows that were met, and at the loose ones.
    fn look_at(&mut self, met: &[Met], tick: &mut Tick) {
        let at_once = met.len() + self.loose.len() <= BANDED_AT_ONCE;
        let mut loose = std::mem::take(&mut self.loose);
        for rows in loose.chunks(SIDE_BY_SIDE) {
            self.touch_rows(rows.iter().copied());
            rows.iter().for_each(|row| {
                self.look(*row, None, at_once, tick);
            });
        }
        if at_once {
            loose.clear();
        }
        for met in met.chunks(SIDE_BY_SIDE) {
            self.touch_rows(met.iter().map(|entry| entry.handle));
            for entry in met {
                if entry.watched == Watched::Bounds {
                    self.look_at_bounds(entry.handle);
                } else if self.look(entry.handle, Some(entry), at_once, tick) && !at_once {
                    loose.push(entry.handle);
                }
            }
        }
        self.loose = loose;
    }

    fn touch_rows(&self, rows: impl Iterator<Item = Handle>) {
        let touched = rows.map(|row| self.columns.rows(row).touch(row.row()));
        std::hint::black_box(touched.fold(0, u64::wrapping_add));
    }

    /// False for a row that has left the met band behind.
    fn look(&mut self, row: Handle, met: Option<&Met>, band: bool, tick: &mut Tick) -> bool {
        let Some(looked) = self.judge_anew(row, met) else { return false };
        let Looked { old, level, judged, .. } = looked;
        if band {
            self.band(row, &judged);
        }
        tick.looked_at += 1;
        if level > old {
            tick.worsened.push(Worsened { row, level, judged });
        }
        true
    }

    /// Bands the rows that a large tick left loose.
    pub fn catch_up(&mut self) {
        let mut loose = std::mem::take(&mut self.loose);
        loose.sort_unstable();
        loose.dedup();
        for rows in loose.chunks(SIDE_BY_SIDE) {
            self.touch_rows(rows.iter().copied());
            rows.iter().for_each(|row| self.settle(*row));
        }
    }

    /// Looks at every row, against references taken now.
    fn rebuild(&mut self, tick: &mut Tick) {
        let mut grown = 1.0;
        if self.columns.table.has_drifted() {
            grown = self.columns.table.rebase();
            self.growth_allowed = GROWTH_ALLOWED;
        }
        while self.growth_allowed < self.columns.table.growth() {
            self.growth_allowed *= GROWTH_ALLOWED;
        }
        self.bands.clear();
        self.loose.clear();
        self.watched_legs = 0;
        for class in 0..self.columns.classes.len() {
            for row in 0..self.columns.classes[class].len() {
                let handle = Handle::new(class, row);
                let view = self.columns.classes[class].view_mut(row);
                *view.error *= grown;
                view.band.fill(NO_BAND);
                self.look(handle, None, true, tick);
            }
        }
        let bounded: Vec<Handle> = self.bounds.iter().copied().collect();
        bounded.into_iter().for_each(|unit| self.look_at_bounds(unit));
    }

    /// See [`super::row::Rows::look`].
    fn judge_anew(&mut self, row: Handle, met: Option<&Met>) -> Option<Looked> {
        let Columns { classes, table, .. } = &mut self.columns;
        let looked = classes[row.class()].look(row.row(), met, table)?;
        self.watched_legs -= looked.let_go;
        if looked.old == Level::Clear && looked.level > Level::Clear {
            self.hot.push(row);
        }
        Some(looked)
    }

    fn band(&mut self, row: Handle, judged: &Judged) {
        let Columns { classes, table, .. } = &mut self.columns;
        self.watched_legs += classes[row.class()].band(row, judged, table, self.growth_allowed, &mut self.bands);
    }

    /// Values a row, and leaves its bands to [`Self::catch_up`].
    pub(super) fn leave_loose(&mut self, row: Handle) {
        self.judge_anew(row, None);
        self.loose.push(row);
    }

    /// Values a row, and bands its legs anew.
    pub(super) fn settle(&mut self, row: Handle) {
        if let Some(looked) = self.judge_anew(row, None) {
            self.band(row, &looked.judged);
        }
    }

    /// A row is about to go: its legs are watched no longer.
    pub(super) fn forget_bands(&mut self, handle: Handle) {
        let view = self.columns.rows(handle).view(handle.row());
        self.watched_legs -= view.band.iter().filter(|band| **band != NO_BAND).count();
    }

    /// Enters the bounds of a special unit.
    pub(super) fn watch_bounds(&mut self, unit: Handle) {
        let Some(special) = self.columns.special.get(&unit).cloned() else { return };
        if special.shape.bounds.is_empty() {
            return;
        }
        if !special.holds(&self.columns.table) {
            self.spoil(unit);
            return;
        }
        for bounds in &special.shape.bounds {
            let [now, _] = value(&self.columns.table, bounds.factor);
            for (side, end) in [(1.0, bounds.low), (-1.0, bounds.high)] {
                let column = column(bounds.factor, side);
                if let Some(band) = column.and_then(|column| self.bands.band(column, Watched::Bounds, now, end)) {
                    self.bands.enter(band, unit);
                }
            }
        }
        self.bounds.insert(unit);
    }

    /// A factor with bounds has come near one of them, or is beyond it.
    fn look_at_bounds(&mut self, unit: Handle) {
        if self.bounds.remove(&unit) {
            self.watch_bounds(unit);
        }
    }

    /// Forgets what a unit's rows say until its adapter has been asked again: they are raised by every sweep.
    fn spoil(&mut self, unit: Handle) {
        let rows = self.columns.special(unit).map_or_else(|| vec![unit], |special| special.rows.clone());
        for row in &rows {
            *self.columns.rows_mut(*row).view_mut(row.row()).error = f64::NAN;
            self.settle(*row);
        }
        self.stale.insert(rows[0]);
    }

    /// The holders of factors that could not be used when their errors were measured.
    fn spoil_holders(&mut self, columns: &[u16]) {
        let mut holders = Vec::new();
        for (class, rows) in self.columns.classes.iter().enumerate() {
            for row in 0..rows.len() {
                let view = rows.view(row);
                let holds = |(column, quantity): (&u16, &f64)| *quantity != 0.0 && columns.contains(column);
                if view.column.iter().zip(view.quantity).any(holds) {
                    holders.push(Handle::new(class, row));
                }
            }
        }
        holders.into_iter().for_each(|holder| self.spoil(holder));
    }

    /// Drops entries that rows have left behind once they are most of them.
    fn compact_bands(&mut self) {
        if self.bands.entries() > 3 * self.watched_legs + 4 * self.bounds.len() + 65_536 {
            let mut tick = Tick::default();
            self.rebuild(&mut tick);
        }
    }
}
