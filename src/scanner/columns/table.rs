//! Factor values as the sweeps read them, and how far they have grown since errors were last measured.
//!
//! A row keeps one number for all that separates its float planes from the exact ones: `error`, a bound at the *reference*
//! values. It is homogeneous of degree one or less in the factors' magnitudes (docs/designs/006-scanner.md, §2), so at any
//! other values `error · growth` is a bound, with growth the largest ratio by which a factor has grown beyond its
//! reference, at least 1.
//!
//! Invariants: every value behind an index is what the adapter said last, or NaN where it said nothing usable; a row's
//! padding points at [`NOTHING`], which is zero for ever.

use std::sync::Arc;

use super::super::Factors;

/// Values by column index: equity, maintenance. As long as an index can reach, so that no sweep checks one.
pub(super) type Values = [[f64; 2]; COLUMNS];

/// How many columns an index can name.
const COLUMNS: usize = 1 << 16;

/// The column of padding: zero on both planes.
pub(super) const NOTHING: u16 = 0;
/// The column that carries a facet's maintenance offset: 0 on the equity plane, 1 on the maintenance plane.
pub(super) const OFFSET: u16 = 1;
/// The first column of an adapter's own.
const FIRST: usize = 2;

/// The column of a factor; `None` if it has too high an index to be stored.
pub(super) fn column(factor: usize) -> Option<u16> {
    factor.checked_add(FIRST).and_then(|column| u16::try_from(column).ok())
}

/// The factor behind a column; `None` for padding and offsets.
pub(super) fn factor(column: u16) -> Option<usize> {
    usize::from(column).checked_sub(FIRST)
}

/// Beyond this growth, or shrinking, references are taken anew.
const DRIFT_MAX: f64 = 65_536.0;

/// What a change of values asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Change {
    /// Columns whose value is another one, with the value they had.
    pub(super) moved: Vec<(u16, [f64; 2])>,
    /// Those of them that could not be used before: what the rows that hold them say of their error means nothing.
    pub(super) revived: Vec<u16>,
}

/// The current factor values.
#[derive(Clone, Debug)]
pub struct FactorTable {
    values: Arc<Values>,
    /// How many columns are in use.
    len: usize,
    /// Magnitude of each column when errors were last measured; 0 where it could not be used.
    reference: Vec<f64>,
    growth: f64,
    shrinkage: f64,
}

impl FactorTable {
    /// A table of these values, which are also the reference.
    pub(super) fn new(factors: &Factors) -> Self {
        let values: Box<[[f64; 2]]> = vec![[0.0; 2]; COLUMNS].into_boxed_slice();
        let values: Arc<[[f64; 2]]> = values.into();
        let values: Arc<Values> = values.try_into().expect("invariant: the slice is COLUMNS long");
        let mut table = Self { values, len: FIRST, reference: vec![0.0; FIRST], growth: 1.0, shrinkage: 1.0 };
        Arc::make_mut(&mut table.values)[usize::from(OFFSET)] = [0.0, 1.0];
        table.reference[usize::from(OFFSET)] = 1.0;
        table.set(factors);
        table
    }

    /// The same references with other values: a scenario.
    pub fn with(&self, factors: &Factors) -> Self {
        let mut other = self.clone();
        other.set(factors);
        other
    }

    /// Takes over new values.
    pub(super) fn set(&mut self, factors: &Factors) -> Change {
        let mut change = Change::default();
        let given = factors.equity.len().min(factors.maintenance.len()).min(COLUMNS - FIRST);
        let len = self.len.max(FIRST + given);
        self.reference.resize(len, 0.0);
        let unknown = [f64::NAN; 2];
        for column in FIRST..len {
            let factor = column - FIRST;
            let new = if factor < given { [factors.equity[factor], factors.maintenance[factor]] } else { unknown };
            let old = if column < self.len { self.values[column] } else { unknown };
            if new.map(f64::to_bits) == old.map(f64::to_bits) {
                continue;
            }
            let index = u16::try_from(column).expect("invariant: len is at most COLUMNS");
            change.moved.push((index, old));
            if magnitude(old) == 0.0 && magnitude(new) > 0.0 {
                self.reference[column] = magnitude(new);
                change.revived.push(index);
            }
        }
        if len > self.len || !change.moved.is_empty() {
            let values = Arc::make_mut(&mut self.values);
            for column in FIRST..len {
                let factor = column - FIRST;
                values[column] =
                    if factor < given { [factors.equity[factor], factors.maintenance[factor]] } else { unknown };
            }
            self.len = len;
            self.measure();
        }
        change
    }

    fn measure(&mut self) {
        (self.growth, self.shrinkage) = (1.0, 1.0);
        for (value, reference) in self.values[..self.len].iter().zip(&self.reference) {
            let now = magnitude(*value);
            if now > 0.0 && *reference > 0.0 {
                self.growth = self.growth.max(now / reference);
                self.shrinkage = self.shrinkage.max(reference / now);
            }
        }
        // a quotient is rounded once
        self.growth *= 1.0 + 2.0 * f64::EPSILON;
        self.shrinkage *= 1.0 + 2.0 * f64::EPSILON;
    }

    /// Takes the current values for the reference. Returns what every row's error must be multiplied by.
    pub(super) fn rebase(&mut self) -> f64 {
        let grown = self.growth;
        for (value, reference) in self.values[..self.len].iter().zip(&mut self.reference) {
            let now = magnitude(*value);
            if now > 0.0 {
                *reference = now;
            }
        }
        self.measure();
        grown
    }

    /// Whether references are so old that errors have become needlessly wide.
    pub(super) fn has_drifted(&self) -> bool {
        self.growth > DRIFT_MAX || self.shrinkage > DRIFT_MAX
    }

    /// Values by column.
    pub(super) fn values(&self) -> &Values {
        &self.values
    }

    /// How many columns there are.
    pub(super) fn columns(&self) -> usize {
        self.len
    }

    /// What a row's error is to be multiplied by at these values.
    pub(super) fn growth(&self) -> f64 {
        self.growth
    }

    /// What an error measured at these values is to be multiplied by to be one at the reference.
    pub(super) fn shrinkage(&self) -> f64 {
        self.shrinkage
    }
}

fn magnitude([equity, maintenance]: [f64; 2]) -> f64 {
    let larger = equity.abs().max(maintenance.abs());
    if equity.is_finite() && maintenance.is_finite() { larger } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(values: &[f64]) -> Factors {
        Factors { names: Vec::new(), equity: values.to_vec(), maintenance: values.iter().map(|v| v * 0.5).collect() }
    }

    #[test]
    fn growth_is_the_largest_ratio_to_the_reference_and_shrinkage_the_largest_the_other_way() {
        let mut table = FactorTable::new(&factors(&[10.0, 100.0]));
        assert!(table.growth() < 1.0 + 1e-12);
        let change = table.set(&factors(&[30.0, 20.0]));
        assert_eq!(change.moved.len(), 2);
        assert!((table.growth() - 3.0).abs() < 1e-12 && (table.shrinkage() - 5.0).abs() < 1e-12);
        assert!((table.rebase() - 3.0).abs() < 1e-12);
        assert!(table.growth() < 1.0 + 1e-12 && table.shrinkage() < 1.0 + 1e-12);
    }

    #[test]
    fn a_factor_that_comes_to_life_is_named() {
        let mut table = FactorTable::new(&factors(&[0.0, f64::NAN, 1.0]));
        let change = table.set(&factors(&[2.0, 3.0, 1.0, 4.0]));
        assert_eq!(change.moved.iter().map(|(column, _)| *column).collect::<Vec<_>>(), [2, 3, 5]);
        assert_eq!(change.revived, [2, 3, 5]);
        assert!(table.growth() < 1.0 + 1e-12);
        let fewer = table.set(&factors(&[2.0]));
        assert_eq!(fewer.moved.len(), 3);
        assert!(table.values()[4][0].is_nan(), "a factor that is no longer given is unknown, not zero");
        assert!(table.set(&factors(&[2.0])).moved.is_empty());
    }

    #[test]
    fn a_scenario_leaves_the_table_alone() {
        let table = FactorTable::new(&factors(&[10.0]));
        let doubled = table.with(&factors(&[20.0]));
        assert_eq!((table.values()[2][0], doubled.values()[2][0]), (10.0, 20.0));
        assert!((doubled.growth() - 2.0).abs() < 1e-12);
    }
}
