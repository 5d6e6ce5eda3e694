//! Many factor vectors at once: a sparse matrix times a matrix, in blocks.
//!
//! A block is eight scenarios side by side. Its table of factor values stays in the nearest cache, a row is read once a
//! block, and every leg is eight products on each plane: what a sweep pays for memory and for finding its way is paid once
//! for eight.
//!
//! Must not: judge anything exactly; its counts are of units that *may* be beyond a threshold.

use super::{
    super::Factors,
    table::{FactorTable, OFFSET},
};

/// Scenarios of a block.
pub(super) const LANES: usize = 8;

/// A factor's values over the scenarios of a block.
#[derive(Clone, Copy, Debug, Default)]
struct Lanes {
    equity: [f64; LANES],
    surplus: [f64; LANES],
}

/// The factor values of one block of scenarios.
#[derive(Clone, Debug)]
pub(super) struct Block {
    columns: Vec<Lanes>,
    /// The largest of its scenarios.
    growth: f64,
}

/// The factor values of all scenarios.
#[derive(Clone, Debug)]
pub struct GridTable {
    blocks: Vec<Block>,
    tables: Vec<FactorTable>,
}

impl GridTable {
    /// A table of these scenarios, against the references of `table`.
    pub(super) fn new(table: &FactorTable, scenarios: &[Factors]) -> Self {
        let tables: Vec<FactorTable> = scenarios.iter().map(|factors| table.with(factors)).collect();
        let columns = tables.iter().map(FactorTable::columns).max().unwrap_or_default();
        let block = |tables: &[FactorTable]| {
            let mut block = Block { columns: vec![Lanes::default(); columns], growth: 1.0 };
            for (lane, table) in tables.iter().enumerate() {
                block.growth = block.growth.max(table.growth());
                for (lanes, [equity, surplus]) in block.columns.iter_mut().zip(table.values()) {
                    (lanes.equity[lane], lanes.surplus[lane]) = (*equity, *surplus);
                }
            }
            // lanes without a scenario stand still
            for lane in tables.len()..LANES {
                block.columns[usize::from(OFFSET)].surplus[lane] = 1.0;
            }
            block
        };
        Self { blocks: tables.chunks(LANES).map(block).collect(), tables }
    }

    /// How many scenarios there are.
    pub fn scenarios(&self) -> usize {
        self.tables.len()
    }

    /// The values of one scenario.
    pub(super) fn table(&self, scenario: usize) -> &FactorTable {
        &self.tables[scenario]
    }

    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    #[inline(always)]
    pub(super) fn block(&self, block: usize) -> &Block {
        &self.blocks[block]
    }
}

impl Block {
    /// Values a row and adds it up; gives its equities if one of them is below zero.
    #[inline(always)]
    pub(super) fn add(
        &self,
        constant: f64,
        error: f64,
        legs: impl Iterator<Item = (f64, usize)>,
        sums: &mut BlockSums,
    ) -> Option<[f64; LANES]> {
        let (mut equity, mut surplus) = ([constant; LANES], [constant; LANES]);
        for (quantity, column) in legs {
            let values = &self.columns[column];
            for lane in 0..LANES {
                equity[lane] += quantity * values.equity[lane];
                surplus[lane] += quantity * values.surplus[lane];
            }
        }
        let error = error * self.growth;
        let mut least = f64::INFINITY;
        for lane in 0..LANES {
            sums.liquidatable[lane] += u64::from(surplus[lane] < error);
            least = least.min(equity[lane]);
        }
        if least >= error {
            return None;
        }
        for lane in 0..LANES {
            sums.bankrupt[lane] += u64::from(equity[lane] < error);
            sums.shortfall[lane] += (-equity[lane]).max(0.0);
        }
        (least < 0.0).then_some(equity)
    }
}

/// What a block's scenarios add up to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BlockSums {
    liquidatable: [u64; LANES],
    bankrupt: [u64; LANES],
    shortfall: [f64; LANES],
}

/// What the scenarios add up to.
#[derive(Clone, Debug)]
pub(super) struct GridSums {
    blocks: Vec<BlockSums>,
}

/// What one scenario does to all units.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct ScenarioSum {
    /// Units that may be liquidatable, bankrupt ones included.
    pub liquidatable: u64,
    /// Units that may be bankrupt.
    pub bankrupt: u64,
    /// Σ of what equities are below zero, settlement-token units.
    pub shortfall: f64,
}

impl GridSums {
    pub(super) fn new(table: &GridTable) -> Self {
        Self { blocks: vec![BlockSums::default(); table.blocks()] }
    }

    #[inline(always)]
    pub(super) fn block(&mut self, block: usize) -> &mut BlockSums {
        &mut self.blocks[block]
    }

    pub(super) fn scenario(&self, scenario: usize) -> ScenarioSum {
        let (block, lane) = (&self.blocks[scenario / LANES], scenario % LANES);
        ScenarioSum {
            liquidatable: block.liquidatable[lane],
            bankrupt: block.bankrupt[lane],
            shortfall: block.shortfall[lane],
        }
    }
}
