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

/// A column's values over the scenarios of a block.
#[derive(Clone, Copy, Debug, Default)]
struct Lanes {
    equity: [f64; LANES],
    surplus: [f64; LANES],
}

/// The values of one block of scenarios.
#[derive(Clone, Debug)]
pub(super) struct Block {
    columns: Vec<Lanes>,
    growth: [f64; LANES],
}

/// The factor values of all scenarios.
#[derive(Clone, Debug)]
pub struct GridTable {
    blocks: Vec<Block>,
    scenarios: Vec<Factors>,
}

impl GridTable {
    /// A table of these scenarios, against the references of `table`.
    pub(super) fn new(table: &FactorTable, scenarios: &[Factors]) -> Self {
        let block = |scenarios: &[Factors]| {
            let mut block = Block { columns: vec![Lanes::default(); table.columns()], growth: [1.0; LANES] };
            // lanes without a scenario stand still
            block.columns[usize::from(OFFSET)].surplus = [1.0; LANES];
            for (lane, scenario) in scenarios.iter().enumerate() {
                let here = table.with(scenario);
                block.growth[lane] = here.growth();
                for (lanes, [equity, surplus]) in block.columns.iter_mut().zip(here.used()) {
                    (lanes.equity[lane], lanes.surplus[lane]) = (*equity, *surplus);
                }
            }
            block
        };
        Self { blocks: scenarios.chunks(LANES).map(block).collect(), scenarios: scenarios.to_vec() }
    }

    /// The scenarios.
    pub fn scenarios(&self) -> &[Factors] {
        &self.scenarios
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
    /// Values a row and adds it up; gives its equities if one of them is below zero. As equity is never below surplus, it
    /// is formed only where some scenario leaves too little surplus.
    #[inline(always)]
    pub(super) fn add(
        &self,
        constant: f64,
        error: f64,
        legs: impl Iterator<Item = (f64, usize)> + Clone,
        sums: &mut BlockSums,
    ) -> Option<[f64; LANES]> {
        let mut surplus = [constant; LANES];
        for (quantity, column) in legs.clone() {
            let values = &self.columns[column].surplus;
            for lane in 0..LANES {
                surplus[lane] += quantity * values[lane];
            }
        }
        let errors = self.growth.map(|growth| growth * error);
        if (0..LANES).all(|lane| surplus[lane] >= errors[lane]) {
            return None;
        }
        let mut equity = [constant; LANES];
        for (quantity, column) in legs {
            let values = &self.columns[column].equity;
            for lane in 0..LANES {
                equity[lane] += quantity * values[lane];
            }
        }
        let mut least = 0.0;
        for lane in 0..LANES {
            sums.liquidatable[lane] += 1 - u64::from(surplus[lane] >= errors[lane]);
            sums.bankrupt[lane] += 1 - u64::from(equity[lane] >= errors[lane]);
            sums.shortfall[lane] += (-equity[lane]).max(0.0);
            least = f64::min(least, equity[lane]);
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
