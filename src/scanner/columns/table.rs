//! Factor values as the sweeps read them, and how far they have grown since errors were last measured.
//!
//! A row keeps one number for all that separates its float planes from the exact ones: `error`, a bound at the *reference*
//! values. It is homogeneous of degree one or less in the factors' magnitudes (docs/designs/006-scanner.md, §2), so at any
//! other values `error · growth` is a bound, with growth the largest ratio by which a factor has grown beyond its
//! reference, at least 1.
//!
//! Invariants: every value behind an index is what the adapter said last, or NaN where it said nothing usable; a row's
//! padding points at [`NOTHING`], which is zero for ever.

use super::{
    super::{FactorIndex, Factors},
    screen::Watch,
};

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
/// Columns of a factor: for holdings from zero up, and for those below.
const SIDES: usize = 2;

/// The column of a factor for a holding of this sign: a holding below zero reads the one beside. `None` if the factor has
/// too high an index to be stored.
pub(super) fn column(factor: FactorIndex, quantity: f64) -> Option<u16> {
    let column = usize::try_from(factor.0).ok()?.checked_mul(SIDES)?.checked_add(FIRST)?;
    u16::try_from(column + usize::from(quantity < 0.0)).ok()
}

/// The factor behind a column; `None` for padding and offsets.
pub(super) fn factor(column: u16) -> Option<usize> {
    usize::from(column).checked_sub(FIRST).map(|column| column / SIDES)
}

/// Whether those who read this column lose when the factor rises.
pub(super) fn is_short(column: usize) -> bool {
    column >= FIRST && (column - FIRST) % SIDES == 1
}

/// The value of a factor that is not given.
const UNKNOWN: [f64; 2] = [f64::NAN; 2];

/// Beyond this growth, or shrinking, references are taken anew.
const DRIFT_MAX: f64 = 65_536.0;

/// What a change of values asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Change {
    /// Columns whose value is another one, with the value they had.
    pub(super) moved: Vec<(u16, [f64; 2])>,
    /// Those of them that could not be used before, or cannot be now: what the rows that hold them say of their error means
    /// nothing.
    pub(super) revived: Vec<u16>,
}

/// The current factor values.
#[derive(Debug)]
pub struct FactorTable {
    values: Box<Values>,
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
        let mut table =
            Self { values: nothing(), len: FIRST, reference: vec![0.0; FIRST], growth: 1.0, shrinkage: 1.0 };
        table.values[usize::from(OFFSET)] = [0.0, 1.0];
        table.reference[usize::from(OFFSET)] = 1.0;
        table.set(factors);
        table
    }

    /// The same references with other values: a scenario.
    pub fn with(&self, factors: &Factors) -> Self {
        let mut values = nothing();
        values[..self.len].copy_from_slice(self.used());
        let (len, reference) = (self.len, self.reference.clone());
        let mut other = Self { values, len, reference, growth: self.growth, shrinkage: self.shrinkage };
        other.set(factors);
        other
    }

    /// Takes over new values.
    pub(super) fn set(&mut self, factors: &Factors) -> Change {
        let mut change = Change::default();
        let given = factors.equity.len().min(factors.maintenance.len()).min((COLUMNS - FIRST) / SIDES);
        let len = self.len.max(FIRST + given * SIDES);
        self.reference.resize(len, 0.0);
        let known = std::mem::replace(&mut self.len, len);
        let values = &mut self.values;
        for column in FIRST..len {
            let factor = (column - FIRST) / SIDES;
            let new = if factor < given { [factors.equity[factor], factors.maintenance[factor]] } else { UNKNOWN };
            let old = if column < known { values[column] } else { UNKNOWN };
            values[column] = new;
            if new.map(f64::to_bits) == old.map(f64::to_bits) {
                continue;
            }
            let index = u16::try_from(column).expect("invariant: len is at most COLUMNS");
            change.moved.push((index, old));
            if (magnitude(old) == 0.0) != (magnitude(new) == 0.0) {
                self.reference[column] = magnitude(new);
                change.revived.push(index);
            }
        }
        if !change.moved.is_empty() {
            self.measure();
        }
        change
    }

    /// Each factor's least values on the watch plane and on the equity plane, for whoever holds it, while its own two are
    /// within this share of themselves from where they are now.
    pub(super) fn worst_within(&self, share: f64, watch: &Watch) -> Box<Values> {
        let mut worst = nothing();
        for (column, [equity, surplus]) in self.used().iter().copied().enumerate() {
            let toward = if is_short(column) { share } else { -share };
            let least = surplus + toward * surplus.abs();
            // equity counts against a unit on the watch plane, and for it on its own
            let (most, least_equity) = (equity - toward * equity.abs(), equity + toward * equity.abs());
            worst[column] = [watch.of([most, least]), least_equity];
        }
        worst[usize::from(OFFSET)] = [watch.of([0.0, 1.0]), 0.0];
        worst
    }

    /// The values of the columns in use.
    pub(super) fn used(&self) -> &[[f64; 2]] {
        &self.values[..self.len]
    }

    /// The values as they are now.
    pub fn values_now(&self) -> Vec<[f64; 2]> {
        self.used().to_vec()
    }

    /// Whether each value is within this share of itself from what it was then.
    pub fn is_within(&self, share: f64, then: &[[f64; 2]]) -> bool {
        let plane = |now: f64, then: f64| now.to_bits() == then.to_bits() || (now - then).abs() <= share * then.abs();
        let near = |(now, then): (&[f64; 2], &[f64; 2])| plane(now[0], then[0]) && plane(now[1], then[1]);
        self.len == then.len() && self.used().iter().zip(then).all(near)
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

/// A table of zeros, of which only the part that is written takes memory.
fn nothing() -> Box<Values> {
    let values: Box<[[f64; 2]]> = vec![[0.0; 2]; COLUMNS].into_boxed_slice();
    values.try_into().expect("invariant: the slice is COLUMNS long")
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
        assert_eq!(change.moved.len(), 4);
        assert!((table.growth() - 3.0).abs() < 1e-12 && (table.shrinkage() - 5.0).abs() < 1e-12);
        assert!((table.rebase() - 3.0).abs() < 1e-12);
        assert!(table.growth() < 1.0 + 1e-12 && table.shrinkage() < 1.0 + 1e-12);
    }

    #[test]
    fn a_factor_that_comes_to_life_is_named() {
        let mut table = FactorTable::new(&factors(&[0.0, f64::NAN, 1.0]));
        let change = table.set(&factors(&[2.0, 3.0, 1.0, 4.0]));
        let revived = [0, 1, 3]
            .map(|factor| [column(FactorIndex(factor), 1.0), column(FactorIndex(factor), -1.0)].map(Option::unwrap))
            .concat();
        assert_eq!(change.moved.iter().map(|(column, _)| *column).collect::<Vec<_>>(), revived);
        assert_eq!(change.revived, revived);
        assert!(table.growth() < 1.0 + 1e-12);
        let fewer = table.set(&factors(&[2.0]));
        assert_eq!((fewer.moved.len(), fewer.revived.len()), (6, 6), "what can no longer be used is named as well");
        let gone = usize::from(column(FactorIndex(2), 1.0).unwrap());
        assert!(table.values()[gone][0].is_nan(), "a factor that is no longer given is unknown, not zero");
        assert!(table.set(&factors(&[2.0])).moved.is_empty());
    }

    #[test]
    fn a_scenario_leaves_the_table_alone() {
        let table = FactorTable::new(&factors(&[10.0]));
        let doubled = table.with(&factors(&[20.0]));
        assert_eq!((table.values()[2][0], doubled.values()[2][0]), (10.0, 20.0));
        assert!((doubled.growth() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn the_worst_within_a_share_is_lower_for_longs_and_higher_for_shorts() {
        let table = FactorTable::new(&factors(&[100.0, -8.0]));
        // a health factor of 1: the watch plane is 10⁴ surpluses
        let worst = table.worst_within(0.1, &Watch::new(10_000));
        let of = |factor, quantity: f64| worst[usize::from(column(FactorIndex(factor), quantity).unwrap())];
        assert_eq!([of(0, 1.0), of(0, -1.0)], [[450_000.0, 90.0], [550_000.0, 110.0]]);
        assert_eq!([of(1, 1.0), of(1, -1.0)], [[-44_000.0, -8.8], [-36_000.0, -7.2]]);
        let worst = table.worst_within(0.1, &Watch::new(20_000))[usize::from(column(FactorIndex(0), 1.0).unwrap())];
        assert_eq!(worst, [20_000.0 * 45.0 - 10_000.0 * 110.0, 90.0]);
        assert!(table.with(&factors(&[109.0, -8.0])).is_within(0.1, &table.values_now()));
        assert!(!table.with(&factors(&[111.0, -8.0])).is_within(0.1, &table.values_now()));
        assert!(!table.with(&factors(&[f64::NAN, -8.0])).is_within(0.1, &table.values_now()));
    }
}
