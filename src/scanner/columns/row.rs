//! Rows: a unit's numbers in one place, in classes by how many legs there is room for.
//!
//! Most units have few legs, and most of what is done to a unit (a change, a tick) is done to it alone. So a row is
//! contiguous, one cache line for three legs, and rows of one width stand side by side: a sweep reads them straight through
//! and never guesses where a unit ends. Chunks are shared between snapshots and copied when written.
//!
//! Invariants: a free row is [`Row::FREE`], which every sweep finds healthy; padding legs hold nothing of [`NOTHING`].
//! Must not: know what a row's unit is.

use std::{fmt::Debug, sync::Arc};

use super::{
    grid::{GridSums, GridTable},
    screen::{Judged, Level, Screen},
    table::{NOTHING, Values},
};

/// Rows of a chunk: what a write copies while a snapshot holds it.
pub(super) const CHUNK_ROWS: usize = 512;

/// Most chunks that are added at once.
const CHUNKS_AT_ONCE_MAX: usize = 64;

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

    /// Equity and surplus.
    #[inline(always)]
    fn planes(&self, values: &Values) -> [f64; 2] {
        let mut sum = [self.constant; 2];
        for leg in 0..N {
            let (quantity, value) = (self.quantity[leg], values[usize::from(self.column[leg])]);
            sum[0] += quantity * value[0];
            sum[1] += quantity * value[1];
        }
        sum
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
    pub(super) level: &'r mut Level,
    pub(super) special: &'r mut bool,
}

/// The rows of one class.
pub(super) trait Rows: Debug + Send + Sync {
    /// The same rows; neither sees what becomes of the other.
    fn share(&self) -> Box<dyn Rows>;
    /// Rows there are, free ones included.
    fn len(&self) -> usize;
    /// A row to be written: a free one if there is one.
    fn allocate(&mut self) -> usize;
    /// Gives a row back.
    fn free(&mut self, row: usize);
    /// Free rows.
    fn free_rows(&self) -> &[u32];
    fn view(&self, row: usize) -> RowView<'_>;
    fn view_mut(&mut self, row: usize) -> RowMut<'_>;
    /// A row's equity and surplus.
    fn planes(&self, row: usize, values: &Values) -> [f64; 2];
    /// Names every row that is not certainly healthy.
    fn sweep(&self, screen: &Screen<'_>, raise: &mut dyn FnMut(usize, Judged));
    /// Adds every row up, once a scenario.
    fn grid(&self, table: &GridTable, sums: &mut GridSums, under: &mut dyn FnMut(usize, usize, &[f64]));
    /// Heap bytes of the rows.
    fn bytes(&self) -> usize;
}

#[derive(Clone, Debug, Default)]
struct Class<const N: usize> {
    chunks: Vec<Arc<[Row<N>]>>,
    len: usize,
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
    fn row(&self, row: usize) -> &Row<N> {
        &self.chunks[row / CHUNK_ROWS][row % CHUNK_ROWS]
    }

    fn row_mut(&mut self, row: usize) -> &mut Row<N> {
        &mut Arc::make_mut(&mut self.chunks[row / CHUNK_ROWS])[row % CHUNK_ROWS]
    }
}

impl<const N: usize> Rows for Class<N> {
    fn share(&self) -> Box<dyn Rows> {
        Box::new(self.clone())
    }

    fn len(&self) -> usize {
        self.len
    }

    fn allocate(&mut self) -> usize {
        if let Some(row) = self.free.pop() {
            return row as usize;
        }
        if self.len == self.chunks.len() * CHUNK_ROWS {
            // Several at once lie side by side in memory, and a sweep reads on without a stop.
            let more = (self.chunks.len() / 8).clamp(1, CHUNKS_AT_ONCE_MAX);
            self.chunks.extend((0..more).map(|_| Arc::from([Row::FREE; CHUNK_ROWS].as_slice())));
        }
        self.len += 1;
        self.len - 1
    }

    fn free(&mut self, row: usize) {
        *self.row_mut(row) = Row::FREE;
        self.free.push(u32::try_from(row).expect("invariant: a handle's row has 27 bits"));
    }

    fn free_rows(&self) -> &[u32] {
        &self.free
    }

    fn view(&self, row: usize) -> RowView<'_> {
        let Row { error, quantity, band, column, level, .. } = self.row(row);
        RowView { error: *error, quantity, band, column, level: *level }
    }

    fn view_mut(&mut self, row: usize) -> RowMut<'_> {
        let Row { constant, error, quantity, band, column, level, special } = self.row_mut(row);
        RowMut { constant, error, quantity, band, column, level, special }
    }

    fn planes(&self, row: usize, values: &Values) -> [f64; 2] {
        self.row(row).planes(values)
    }

    fn sweep(&self, screen: &Screen<'_>, raise: &mut dyn FnMut(usize, Judged)) {
        for (number, chunk) in self.chunks.iter().enumerate() {
            for (at, row) in chunk.iter().enumerate() {
                let [equity, surplus] = row.planes(screen.values());
                let error = row.error * screen.growth();
                if !screen.is_clear(equity, surplus, error) {
                    raise(number * CHUNK_ROWS + at, Judged { equity, surplus, error });
                }
            }
        }
    }

    fn grid(&self, table: &GridTable, sums: &mut GridSums, under: &mut dyn FnMut(usize, usize, &[f64])) {
        for (number, chunk) in self.chunks.iter().enumerate() {
            // a chunk stays in the nearest cache while all blocks of scenarios pass over it
            for block in 0..table.blocks() {
                let (lanes, sums) = (table.block(block), sums.block(block));
                for (at, row) in chunk.iter().enumerate() {
                    if row.special {
                        continue;
                    }
                    let legs = row.quantity.iter().copied().zip(row.column.iter().map(|column| usize::from(*column)));
                    if let Some(equity) = lanes.add(row.constant, row.error, legs, sums) {
                        under(number * CHUNK_ROWS + at, block, &equity);
                    }
                }
            }
        }
    }

    fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK_ROWS * size_of::<Row<N>>()
            + self.chunks.capacity() * size_of::<usize>()
            + self.free.capacity() * size_of::<u32>()
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
    fn a_shared_chunk_is_copied_when_written_and_not_before() {
        let mut class = Class::<1>::default();
        for _ in 0..600 {
            class.allocate();
        }
        let shared = class.clone();
        *class.view_mut(10).constant = 5.0;
        assert_eq!((class.row(10).constant, shared.row(10).constant), (5.0, QUIET));
        assert!(!Arc::ptr_eq(&class.chunks[0], &shared.chunks[0]));
        assert!(Arc::ptr_eq(&class.chunks[1], &shared.chunks[1]));
        class.free(10);
        assert_eq!((class.allocate(), class.allocate()), (10, 600));
        assert_eq!(shared.len(), 600);
    }
}
