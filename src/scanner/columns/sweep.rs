//! Sweeps over all rows: the full one, and the scenario grid.

use std::collections::BTreeSet;

use super::{
    super::Factors,
    Columns, Handle, Judged, Level,
    grid::{GridSums, GridTable, LANES, ScenarioSum},
    screen::Screen,
    table::FactorTable,
};

/// A unit that is not certainly healthy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Raised {
    /// Its row; the first one if it has several.
    pub handle: Handle,
    /// How bad it may be.
    pub level: Level,
    /// Its planes.
    pub judged: Judged,
}

/// What is said of a unit that cannot be valued.
const UNVALUED: Judged = Judged { equity: f64::NAN, surplus: f64::NAN, error: f64::NAN };

impl Columns {
    /// Every unit that is not certainly healthy at the store's factor values, by row.
    pub fn sweep(&self) -> Vec<Raised> {
        self.sweep_at(&self.table)
    }

    /// The same at other values: see [`FactorTable::with`].
    pub fn sweep_at(&self, table: &FactorTable) -> Vec<Raised> {
        let screen = Screen::new(table, self.watch);
        let (mut raised, mut special) = (Vec::new(), BTreeSet::new());
        for (class, rows) in self.classes.iter().enumerate() {
            rows.sweep(&screen, &mut |row, judged| {
                let handle = Handle::new(class, row);
                match self.special(handle) {
                    Some(unit) => {
                        special.insert(unit.rows[0]);
                    }
                    None => raised.push(Raised { handle, level: screen.level(&judged), judged }),
                }
            });
        }
        let special = special.into_iter().filter_map(|handle| self.raise_special(handle, &screen, table));
        raised.extend(special);
        raised
    }

    fn raise_special(&self, handle: Handle, screen: &Screen<'_>, table: &FactorTable) -> Option<Raised> {
        let judged = self.judge_special(self.special(handle)?, table).unwrap_or(UNVALUED);
        let level = screen.level(&judged);
        (level != Level::Clear).then_some(Raised { handle, level, judged })
    }

    /// One unit at the store's values.
    pub fn judge(&self, handle: Handle) -> Judged {
        self.judge_at(handle, &self.table)
    }

    /// One unit at other values.
    pub fn judge_at(&self, handle: Handle, table: &FactorTable) -> Judged {
        if let Some(special) = self.special(handle) {
            return self.judge_special(special, table).unwrap_or(UNVALUED);
        }
        self.judge_row(handle, table)
    }

    /// One row by itself.
    pub(super) fn judge_row(&self, handle: Handle, table: &FactorTable) -> Judged {
        let [equity, surplus] = self.rows(handle).planes(handle.row(), table.values());
        Judged { equity, surplus, error: self.rows(handle).view(handle.row()).error * table.growth() }
    }

    /// How a unit stands at the store's values.
    pub fn level(&self, handle: Handle) -> Level {
        self.screen().level(&self.judge(handle))
    }

    /// Every unit's row.
    pub fn handles(&self) -> impl Iterator<Item = Handle> {
        self.classes
            .iter()
            .enumerate()
            .flat_map(move |(class, rows)| {
                let free: BTreeSet<u32> = rows.free_rows().iter().copied().collect();
                let taken =
                    (0..rows.len()).filter(move |row| !u32::try_from(*row).is_ok_and(|row| free.contains(&row)));
                taken.map(move |row| Handle::new(class, row))
            })
            .filter(|handle| self.special(*handle).is_none_or(|special| special.rows[0] == *handle))
    }

    /// Values of these scenarios, ready to be run.
    pub fn grid_of(&self, scenarios: &[Factors]) -> GridTable {
        GridTable::new(&self.table, scenarios)
    }

    /// What each scenario does to all units together.
    pub fn grid(&self, table: &GridTable) -> Vec<ScenarioSum> {
        self.grid_with(table, &mut |_, _, _| {})
    }

    /// The same; besides, names every unit that a scenario leaves with equity below zero: (unit, scenario, equity).
    pub fn grid_with(&self, table: &GridTable, bankrupt: &mut dyn FnMut(Handle, usize, f64)) -> Vec<ScenarioSum> {
        let mut sums = GridSums::new(table);
        let scenarios = table.scenarios();
        for (class, rows) in self.classes.iter().enumerate() {
            rows.grid(table, &mut sums, &mut |row, block, equity| {
                for (lane, equity) in equity.iter().enumerate().filter(|(_, equity)| **equity < 0.0) {
                    let scenario = block * LANES + lane;
                    if scenario < scenarios {
                        bankrupt(Handle::new(class, row), scenario, *equity);
                    }
                }
            });
        }
        let mut sums: Vec<ScenarioSum> = (0..scenarios).map(|scenario| sums.scenario(scenario)).collect();
        self.add_special(table, &mut sums, bankrupt);
        sums
    }

    /// Special units, whose rows the grid passes over.
    fn add_special(&self, table: &GridTable, sums: &mut [ScenarioSum], bankrupt: &mut dyn FnMut(Handle, usize, f64)) {
        let units = self.special.iter().filter(|(handle, special)| special.rows[0] == **handle);
        for (handle, special) in units {
            for (scenario, sum) in sums.iter_mut().enumerate() {
                let Some(judged) = self.judge_beyond(special, table.table(scenario)) else { continue };
                sum.liquidatable += u64::from(judged.surplus < judged.error);
                sum.bankrupt += u64::from(judged.equity < judged.error);
                sum.shortfall += (-judged.equity).max(0.0);
                if judged.equity < 0.0 {
                    bankrupt(*handle, scenario, judged.equity);
                }
            }
        }
    }
}
