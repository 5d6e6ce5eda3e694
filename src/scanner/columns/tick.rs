//! The tick sweep: when factors move, only rows whose safe band was crossed are looked at.
//!
//! A row's budget is what its watched plane has above the error it may have; it is split so that every leg gets the same
//! share of its factor's value. The argument that no crossing is missed is in docs/designs/006-scanner.md, §3.

use super::{
    super::Factors,
    Columns, Handle, Level, Store, Watch,
    bands::{Adverse, Met, Watched},
    row::NO_BAND,
    special::value,
    table::factor,
};
use crate::types::UnitKey;

/// Bands allow for errors as wide as they are when a factor has grown so much since the reference.
pub(super) const GROWTH_ALLOWED: f64 = 16.0;

/// How much of an error a band stays away from zero: the plane's own, and what forming thresholds in f64 adds.
const BAND_ERRORS: f64 = 2.0;

/// A little less than all of the budget, so that rounding its shares cannot make them more than the whole.
const BUDGET: f64 = 1.0 - 1e-9;

/// What a move of factors did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tick {
    /// Rows that were looked at.
    pub looked_at: usize,
    /// Rows that are worse than before, with how bad they may be now.
    pub worsened: Vec<(Handle, Level)>,
    /// Units whose shape is no longer good: a factor left its bounds, or came to life.
    pub stale: Vec<UnitKey>,
    /// Whether every row was looked at, because a factor has moved too far for bands to go on.
    pub rebuilt: bool,
}

/// What a level's band watches.
fn watched(level: Level) -> Option<Watched> {
    match level {
        Level::Clear => Some(Watched::Watch),
        Level::AtRisk => Some(Watched::Surplus),
        Level::Liquidatable => Some(Watched::Equity),
        Level::Bankrupt => None,
    }
}

/// A factor's value on a watched plane.
fn coefficient(watched: Watched, watch: Watch, [equity, surplus]: [f64; 2]) -> f64 {
    match watched {
        Watched::Watch => watch.of(equity, surplus),
        Watched::Surplus => surplus,
        Watched::Equity | Watched::Bounds => equity,
    }
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
                    let [old, new] = [*old, new].map(|value| coefficient(watched, self.columns.watch, value));
                    self.bands.advance(*column, watched, old, new, &mut met);
                }
            }
            self.look_at(&met, &mut tick);
        }
        self.compact_bands();
        tick.stale = std::mem::take(&mut self.stale).into_iter().map(|unit| self.columns.key(unit)).collect();
        tick
    }

    /// Looks at the rows that were met.
    fn look_at(&mut self, met: &[Met], tick: &mut Tick) {
        let mut pending: Vec<Handle> = Vec::with_capacity(met.len());
        for entry in met {
            if entry.watched == Watched::Bounds {
                self.look_at_bounds(entry.handle);
            } else if take_band(&mut self.columns, entry) {
                pending.push(entry.handle);
            }
        }
        self.watched_legs -= pending.len();
        tick.looked_at = pending.len();
        for handle in pending {
            let old = self.columns.rows(handle).view(handle.row()).level;
            let new = self.settle(handle);
            if new > old {
                tick.worsened.push((handle, new));
            }
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
        self.watched_legs = 0;
        for class in 0..self.columns.classes.len() {
            for row in 0..self.columns.classes[class].len() {
                let handle = Handle::new(class, row);
                let view = self.columns.classes[class].view_mut(row);
                *view.error *= grown;
                view.band.fill(NO_BAND);
                let old = *view.level;
                let new = self.settle(handle);
                if new > old {
                    tick.worsened.push((handle, new));
                }
                tick.looked_at += 1;
            }
        }
        let bounded: Vec<Handle> = self.bounds.keys().copied().collect();
        bounded.into_iter().for_each(|unit| self.look_at_bounds(unit));
        tick.rebuilt = true;
    }

    /// Values a row, and bands its legs anew. Returns its level.
    pub(super) fn settle(&mut self, handle: Handle) -> Level {
        let (judged, watch) = (self.columns.judge_row(handle, &self.columns.table), self.columns.watch);
        let level = self.columns.screen().level(&judged);
        let Columns { classes, table, .. } = &mut self.columns;
        let row = classes[handle.class()].view_mut(handle.row());
        let old = std::mem::replace(row.level, level);
        if old == Level::Clear && level > Level::Clear {
            self.hot.push(handle);
        }
        if old != level {
            self.watched_legs -= row.band.iter().filter(|band| **band != NO_BAND).count();
            row.band.fill(NO_BAND);
        }
        let Some(watched) = watched(level) else { return level };
        let allowed = *row.error * self.growth_allowed * BAND_ERRORS;
        let slack = match watched {
            Watched::Watch => watch.of(judged.equity, judged.surplus) - watch.error(allowed),
            Watched::Surplus => judged.surplus - allowed,
            Watched::Equity | Watched::Bounds => judged.equity - allowed,
        };
        let values = table.values();
        let of = |column: u16| coefficient(watched, watch, values[usize::from(column)]);
        let gross: f64 = row.column.iter().zip(&*row.quantity).map(|(column, q)| (q * of(*column)).abs()).sum();
        let share = if slack > 0.0 && gross > 0.0 { slack / gross * BUDGET } else { 0.0 };
        for at in 0..row.quantity.len() {
            let (column, quantity) = (row.column[at], row.quantity[at]);
            if quantity == 0.0 || factor(column).is_none() {
                continue;
            }
            let (now, adverse) = (of(column), Adverse::to(quantity));
            let reach = now.abs() * share;
            let threshold = if adverse == Adverse::Down { now - reach } else { now + reach };
            let Some(band) = self.bands.band((column, watched, adverse), now, threshold) else { continue };
            if row.band[at] != band.word() {
                self.watched_legs += usize::from(row.band[at] == NO_BAND);
                row.band[at] = band.word();
                self.bands.enter(band, handle);
            }
        }
        level
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
        let mut words = Vec::new();
        for bounds in &special.shape.bounds {
            let column = super::table::column(bounds.factor.0 as usize);
            let Some(column) = column else { continue };
            let [now, _] = value(&self.columns.table, bounds.factor);
            let ends = [(Adverse::Down, bounds.low), (Adverse::Up, bounds.high)];
            words.push(ends.map(|(adverse, end)| {
                let band = self.bands.band((column, Watched::Bounds, adverse), now, end);
                let Some(band) = band else { return NO_BAND };
                self.bands.enter(band, unit);
                band.word()
            }));
        }
        self.bounds.insert(unit, words);
    }

    /// A factor with bounds has come near one of them, or is beyond it.
    fn look_at_bounds(&mut self, unit: Handle) {
        if self.bounds.remove(&unit).is_some() {
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

/// Takes the band an entry stands for off its leg; false for an entry that was left behind.
fn take_band(columns: &mut Columns, entry: &Met) -> bool {
    let Met { handle, band, column, watched: plane, adverse } = *entry;
    let rows = columns.classes[handle.class()].as_mut();
    let view = rows.view(handle.row());
    if watched(view.level) != Some(plane) {
        return false;
    }
    let is_it =
        |at: &usize| view.column[*at] == column && view.band[*at] == band && Adverse::to(view.quantity[*at]) == adverse;
    let Some(at) = (0..view.band.len()).find(is_it) else { return false };
    rows.view_mut(handle.row()).band[at] = NO_BAND;
    true
}
