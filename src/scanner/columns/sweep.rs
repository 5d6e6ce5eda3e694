//! Sweeps over all rows: the full one, and the scenario grid.

use super::{
    super::Factors,
    Columns, Handle, Judged, Level, UNVALUED,
    grid::{GridSums, GridTable, LANES, ScenarioSum},
    screen::Screen,
    table::FactorTable,
};

/// A sweep allows for errors as wide as they are when its factors have moved on as far as it was told: twice what they
/// are now, so that the share must be below 1.
const GROWTH_WITHIN: f64 = 2.0;

impl Columns {
    /// Every unit that may be at risk, or worse, while no factor is further than this share of itself, below 1, from where it
    /// is now. Each unit stands once; those that no row describes always do.
    pub fn sweep(&self, share: f64) -> Vec<Handle> {
        let growth = self.table.growth() * GROWTH_WITHIN;
        let screen = Screen {
            values: self.table.worst_within(share, &self.watch),
            of_constant: self.watch.of_constant(),
            tolerance: self.watch.tolerance().map(|errors| errors * growth),
        };
        let mut raised = Vec::new();
        for (class, rows) in self.classes.iter().enumerate() {
            rows.sweep(&screen, &mut |row| raised.push(Handle::new(class, row)));
        }
        if !self.special.is_empty() {
            raised.retain(|handle| self.special(*handle).is_none());
            raised.extend(self.special.iter().filter(|(row, unit)| unit.rows[0] == **row).map(|(row, _)| *row));
        }
        raised
    }

    /// Whether a unit may be at risk, or worse, at the store's values.
    pub fn may_be_at_risk(&self, handle: Handle) -> bool {
        let Judged { equity, surplus, error } = self.judge(handle);
        let [of_watch, of_equity] = self.watch.tolerance();
        let clear = self.watch.of([equity, surplus]) >= of_watch * error && equity >= of_equity * error;
        !clear
    }

    /// One unit at the store's values.
    pub fn judge(&self, handle: Handle) -> Judged {
        match self.special(handle) {
            Some(special) if !special.shape.facets.is_empty() => {
                self.judge_special(special, &self.table).unwrap_or(UNVALUED)
            }
            _ => self.judge_row(handle, &self.table),
        }
    }

    /// One row by itself.
    pub(super) fn judge_row(&self, handle: Handle, table: &FactorTable) -> Judged {
        self.rows(handle).judge(handle.row(), table)
    }

    /// How a unit stands at the store's values.
    pub fn level(&self, handle: Handle) -> Level {
        self.judge(handle).level()
    }

    /// Values of these scenarios, ready to be run.
    pub fn grid_of(&self, scenarios: &[Factors]) -> GridTable {
        GridTable::new(&self.table, scenarios)
    }

    /// What each scenario does to all units together; names every unit that one leaves with equity below zero: (unit,
    /// scenario, equity).
    pub fn grid(&self, table: &GridTable, bankrupt: &mut dyn FnMut(Handle, usize, f64)) -> Vec<ScenarioSum> {
        let mut sums = GridSums::new(table);
        let scenarios = table.scenarios().len();
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
        if self.special.is_empty() {
            return;
        }
        for (scenario, (sum, factors)) in sums.iter_mut().zip(table.scenarios()).enumerate() {
            let at = self.table.with(factors);
            for (handle, special) in self.special.iter().filter(|(handle, special)| special.rows[0] == **handle) {
                let Some(judged) = self.judge_beyond(special, &at) else { continue };
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
