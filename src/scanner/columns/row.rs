//! Rows: a unit's numbers in one place, in classes by how many legs there is room for.
//!
//! Most units have few legs, and most of what is done to a unit (a change, a tick) is done to it alone. So a row is
//! contiguous, one cache line for three legs, and rows of one width stand side by side: a sweep reads them straight through
//! and never guesses where a unit ends.
//!
//! Invariants: a free row is [`Row::FREE`], which every sweep finds healthy; padding legs hold nothing of [`NOTHING`].
//! Must not: know what a row's unit is.

use std::fmt::Debug;

use super::{
    Handle,
    bands::{Bands, Met, Watched},
    grid::{GridSums, GridTable},
    screen::{Judged, Level, Screen},
    table::{FactorTable, NOTHING, Values, factor},
};

/// Places at once from which a sweep reads: one alone would wait for memory at every page's end.
const STREAMS: usize = 8;

/// Rows that all scenarios pass over before the next ones: they stay in the nearest cache.
const GRID_ROWS: usize = 256;

/// How many legs a row has room for, by class.
pub(super) const WIDTHS: [usize; 18] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64, 128, 256];

/// The constant of a row that no factor can make unhealthy: far above any unit, and far from overflowing.
pub(super) const QUIET: f64 = 1e290;

/// No band: the leg is not watched.
pub(super) const NO_BAND: u32 = u32::MAX;

/// One facet of one unit.
#[derive(Clone, Copy, Debug)]
struct Row<const N: usize> {
    constant: f64,
    /// Bound on what separates either plane from the exact one, at the table's reference values.
    error: f64,
    quantity: [f64; N],
    band: [u32; N],
    column: [u16; N],
    level: Level,
    /// One of a special unit's: the grid leaves it to [`super::special`].
    special: bool,
}

impl<const N: usize> Row<N> {
    const FREE: Self = Self {
        constant: QUIET,
        error: 0.0,
        quantity: [0.0; N],
        band: [NO_BAND; N],
        column: [NOTHING; N],
        level: Level::Clear,
        special: false,
    };

    /// Two planes at once: equity and surplus, or what a sweep asks for. `of_constant`: what the constant counts for on each.
    #[inline(always)]
    fn planes(&self, values: &Values, of_constant: [f64; 2]) -> [f64; 2] {
        let mut sum = of_constant.map(|counts| self.constant * counts);
        for leg in 0..N {
            let (quantity, value) = (self.quantity[leg], values[usize::from(self.column[leg])]);
            sum[0] += quantity * value[0];
            sum[1] += quantity * value[1];
        }
        sum
    }

    #[inline(always)]
    fn judge(&self, table: &FactorTable) -> Judged {
        let [equity, surplus] = self.planes(table.values(), [1.0; 2]);
        Judged { equity, surplus, error: self.error * table.growth() }
    }
}

/// A row, whatever its width. Legs beyond a unit's own are padding.
pub(super) struct RowView<'r> {
    pub(super) error: f64,
    pub(super) quantity: &'r [f64],
    pub(super) band: &'r [u32],
    pub(super) column: &'r [u16],
    pub(super) level: Level,
}

/// The same to be changed.
pub(super) struct RowMut<'r> {
    pub(super) constant: &'r mut f64,
    pub(super) error: &'r mut f64,
    pub(super) quantity: &'r mut [f64],
    pub(super) band: &'r mut [u32],
    pub(super) column: &'r mut [u16],
    pub(super) special: &'r mut bool,
}

/// What a look at a row found.
pub(super) struct Looked {
    pub(super) old: Level,
    pub(super) level: Level,
    pub(super) judged: Judged,
    /// Legs that are watched no longer.
    pub(super) let_go: usize,
}

/// How much of an error a band stays away from zero: the plane's own, and what forming thresholds in f64 adds.
const BAND_ERRORS: f64 = 2.0;

/// A little less than all of the budget, so that rounding its shares cannot make them more than the whole.
const BUDGET: f64 = 1.0 - 1e-9;

/// The rows of one class.
pub(super) trait Rows: Debug + Send + Sync {
    /// Rows there are, free ones included.
    fn len(&self) -> usize;
    /// A row to be written: a free one if there is one.
    fn allocate(&mut self) -> usize;
    /// Gives a row back.
    fn free(&mut self, row: usize);
    fn view(&self, row: usize) -> RowView<'_>;
    fn view_mut(&mut self, row: usize) -> RowMut<'_>;
    /// Reads both ends of a row, so that it is at hand.
    fn touch(&self, row: usize) -> u64;
    /// Equity, surplus and their error.
    fn judge(&self, row: usize, table: &FactorTable) -> Judged;
    /// Judges a row and keeps its level; what was watched for another level is watched no longer. For a band that was met:
    /// `None` if the row has left that band behind, else the band is taken off.
    fn look(&mut self, row: usize, met: Option<&Met>, table: &FactorTable) -> Option<Looked>;
    /// Bands a row's legs anew; how many legs more are watched. `allowed`: how far errors may grow.
    fn band(&mut self, row: Handle, judged: &Judged, table: &FactorTable, allowed: f64, bands: &mut Bands) -> usize;
    /// Names every row that is not certain to have enough on both planes.
    fn sweep(&self, screen: &Screen, raise: &mut dyn FnMut(usize));
    /// The exclusive or of all that the rows hold.
    fn read(&self) -> u64;
    /// Adds every row up, once a scenario.
    fn grid(&self, table: &GridTable, sums: &mut GridSums, under: &mut dyn FnMut(usize, usize, &[f64]));
    /// Heap bytes of the rows.
    fn bytes(&self) -> usize;
}

#[derive(Debug, Default)]
struct Class<const N: usize> {
    rows: Vec<Row<N>>,
    free: Vec<u32>,
}

/// One empty class a width, narrowest first.
pub(super) fn classes() -> Vec<Box<dyn Rows>> {
    fn of<const N: usize>() -> Box<dyn Rows> {
        Box::new(Class::<N>::default())
    }
    vec![
        of::<0>(),
        of::<1>(),
        of::<2>(),
        of::<3>(),
        of::<4>(),
        of::<5>(),
        of::<6>(),
        of::<7>(),
        of::<8>(),
        of::<10>(),
        of::<12>(),
        of::<16>(),
        of::<24>(),
        of::<32>(),
        of::<48>(),
        of::<64>(),
        of::<128>(),
        of::<256>(),
    ]
}

/// The class with room for so many legs; `None` if there is none.
pub(super) fn class_for(legs: usize) -> Option<usize> {
    WIDTHS.iter().position(|width| *width >= legs)
}

impl<const N: usize> Class<N> {
    /// The rows as places to read from at once: how long each is, them, and what is left over.
    fn streams(&self) -> (usize, [&[Row<N>]; STREAMS], &[Row<N>]) {
        let length = self.rows.len() / STREAMS;
        let streams = std::array::from_fn(|stream| &self.rows[stream * length..][..length]);
        (length, streams, &self.rows[length * STREAMS..])
    }
}

impl<const N: usize> Rows for Class<N> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn allocate(&mut self) -> usize {
        if let Some(row) = self.free.pop() {
            return row as usize;
        }
        self.rows.push(Row::FREE);
        self.rows.len() - 1
    }

    fn free(&mut self, row: usize) {
        self.rows[row] = Row::FREE;
        self.free.push(u32::try_from(row).expect("invariant: a handle's row has 27 bits"));
    }

    fn view(&self, row: usize) -> RowView<'_> {
        let Row { error, quantity, band, column, level, .. } = &self.rows[row];
        RowView { error: *error, quantity, band, column, level: *level }
    }

    fn view_mut(&mut self, row: usize) -> RowMut<'_> {
        let Row { constant, error, quantity, band, column, special, .. } = &mut self.rows[row];
        RowMut { constant, error, quantity, band, column, special }
    }

    fn touch(&self, row: usize) -> u64 {
        let row = &self.rows[row];
        row.constant.to_bits() ^ u64::from(row.special)
    }

    fn judge(&self, row: usize, table: &FactorTable) -> Judged {
        self.rows[row].judge(table)
    }

    fn look(&mut self, row: usize, met: Option<&Met>, table: &FactorTable) -> Option<Looked> {
        let row = &mut self.rows[row];
        let mut let_go = 0;
        if let Some(met) = met {
            let stands = Watched::at(row.level) == Some(met.watched);
            let leg = (0..N).find(|leg| row.column[*leg] == met.column && row.band[*leg] == met.band);
            row.band[leg.filter(|_| stands)?] = NO_BAND;
            let_go = 1;
        }
        let judged = row.judge(table);
        let level = judged.level();
        let old = std::mem::replace(&mut row.level, level);
        if old != level {
            let_go += row.band.iter().filter(|band| **band != NO_BAND).count();
            row.band = [NO_BAND; N];
        }
        Some(Looked { old, level, judged, let_go })
    }

    fn band(&mut self, handle: Handle, judged: &Judged, table: &FactorTable, allowed: f64, bands: &mut Bands) -> usize {
        let row = &mut self.rows[handle.row()];
        let Some(watched) = Watched::at(row.level) else { return 0 };
        let slack = watched.of([judged.equity, judged.surplus]) - row.error * allowed * BAND_ERRORS;
        let of = |column: u16| watched.of(table.values()[usize::from(column)]);
        let gross: f64 = row.column.iter().zip(&row.quantity).map(|(column, q)| (q * of(*column)).abs()).sum();
        let share = if slack > 0.0 && gross > 0.0 { slack / gross * BUDGET } else { 0.0 };
        let mut watching = 0;
        for leg in 0..N {
            let (column, quantity) = (row.column[leg], row.quantity[leg]);
            if quantity == 0.0 || factor(column).is_none() {
                continue;
            }
            let now = of(column);
            let reach = now.abs() * share;
            let threshold = if quantity < 0.0 { now + reach } else { now - reach };
            let Some(band) = bands.band(column, watched, now, threshold) else { continue };
            if row.band[leg] != band.word() {
                watching += usize::from(row.band[leg] == NO_BAND);
                row.band[leg] = band.word();
                bands.enter(band, handle);
            }
        }
        watching
    }

    fn sweep(&self, screen: &Screen, raise: &mut dyn FnMut(usize)) {
        let clears = |row: &Row<N>| {
            let planes = row.planes(&screen.values, screen.of_constant);
            // both at once, and no branch between them
            (planes[0] >= row.error * screen.tolerance[0]) & (planes[1] >= row.error * screen.tolerance[1])
        };
        let (length, streams, rest) = self.streams();
        for at in 0..length {
            for (stream, rows) in streams.iter().enumerate() {
                if !clears(&rows[at]) {
                    raise(stream * length + at);
                }
            }
        }
        for (at, row) in rest.iter().enumerate() {
            if !clears(row) {
                raise(length * STREAMS + at);
            }
        }
    }

    fn read(&self) -> u64 {
        let of_row = |row: &Row<N>| {
            let quantities = row.quantity.iter().map(|quantity| quantity.to_bits());
            let legs = row.band.iter().zip(&row.column).map(|(band, column)| u64::from(*band) ^ u64::from(*column));
            quantities.chain(legs).fold(row.constant.to_bits() ^ row.error.to_bits(), |all, word| all ^ word)
        };
        let (length, streams, rest) = self.streams();
        let together = (0..length).flat_map(|at| streams.iter().map(move |rows| &rows[at]));
        together.chain(rest).fold(0, |all, row| all ^ of_row(row))
    }

    fn grid(&self, table: &GridTable, sums: &mut GridSums, under: &mut dyn FnMut(usize, usize, &[f64])) {
        for (number, rows) in self.rows.chunks(GRID_ROWS).enumerate() {
            for block in 0..table.blocks() {
                let (lanes, sums) = (table.block(block), sums.block(block));
                for (at, row) in rows.iter().enumerate().filter(|(_, row)| !row.special) {
                    let legs = row.quantity.iter().copied().zip(row.column.iter().map(|column| usize::from(*column)));
                    if let Some(equity) = lanes.add(row.constant, row.error, legs, sums) {
                        under(number * GRID_ROWS + at, block, &equity);
                    }
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        self.rows.len() * size_of::<Row<N>>() + self.free.len() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_of_three_legs_is_one_cache_line() {
        assert_eq!(size_of::<Row<3>>(), 64);
        for (width, mut class) in WIDTHS.into_iter().zip(classes()) {
            let row = class.allocate();
            assert_eq!(class.view(row).quantity.len(), width);
        }
        assert_eq!((class_for(3), class_for(9), class_for(257)), (Some(3), Some(9), None));
    }

    #[test]
    fn a_row_given_back_is_the_next_one_taken() {
        let mut class = Class::<1>::default();
        for _ in 0..600 {
            class.allocate();
        }
        *class.view_mut(10).constant = 5.0;
        class.free(10);
        assert_eq!(class.rows[10].constant, QUIET);
        assert_eq!((class.allocate(), class.allocate(), class.len()), (10, 600, 601));
    }
}
