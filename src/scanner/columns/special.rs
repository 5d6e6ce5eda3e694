//! Units that one row does not describe: several facets, curves, or nothing but exact judgement.
//!
//! Their rows are conservative: every facet is a row, a curve is its tangent with the most it can sag within its bounds as
//! error. Where a sweep raises one it is looked at here, with its curves as they are, before anybody pays for exact maths.

use super::{
    super::{Facet, FactorIndex, Shape},
    Columns, Handle, Judged,
    table::{FactorTable, column},
};

/// A unit of more than one row, or of none that says it all.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Special {
    pub(super) shape: Shape,
    /// A row for each facet, the first one being the unit's; for an opaque unit one that is quiet or never clear.
    pub(super) rows: Vec<Handle>,
}

/// A factor's two values in this table; nothing usable where it has none.
pub(super) fn value(table: &FactorTable, factor: FactorIndex) -> [f64; 2] {
    let column = column(factor, 1.0).filter(|column| usize::from(*column) < table.columns());
    column.map_or([f64::NAN; 2], |column| table.values()[usize::from(column)])
}

impl Special {
    /// Whether every factor with bounds is within them. One that is no number is not.
    pub(super) fn holds(&self, table: &FactorTable) -> bool {
        self.shape.bounds.iter().all(|bounds| {
            let [equity, _] = value(table, bounds.factor);
            bounds.low <= equity && equity <= bounds.high
        })
    }
}

/// The lesser of two; no number if one of them is none, which [`f64::min`] would pass over.
fn lesser(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

/// A facet at these values. `linear_error` bounds its linear part.
fn facet_at(facet: &Facet, table: &FactorTable, linear_error: f64) -> Judged {
    let mut sum = [facet.planes.constant, facet.planes.constant + facet.maintenance_offset];
    for (factor, quantity) in &facet.planes.holdings {
        let [equity, surplus] = value(table, *factor);
        sum[0] += quantity * equity;
        sum[1] += quantity * surplus;
    }
    let mut error = linear_error.max(0.0);
    for curve in &facet.curves {
        let [equity, _] = value(table, curve.factor);
        let distance = equity - curve.at;
        sum[0] += 0.5 * distance * distance * curve.equity;
        sum[1] += 0.5 * distance * distance * curve.maintenance;
        // A difference of rounded values, squared: its error is relative to the values, not to the difference.
        let bend = curve.equity.abs().max(curve.maintenance.abs());
        error += curve.remainder + 16.0 * f64::EPSILON * bend * distance.abs() * (equity.abs() + curve.at.abs());
    }
    Judged { equity: sum[0], surplus: sum[1], error }
}

impl Columns {
    /// The special unit this row is of, if it is of one.
    pub(super) fn special(&self, handle: Handle) -> Option<&Special> {
        if self.special.is_empty() { None } else { self.special.get(&handle).map(AsRef::as_ref) }
    }

    /// A special unit's figures at the values of `table`, with its curves, the least over its facets; `None` for an opaque
    /// unit and outside its bounds.
    pub(super) fn judge_special(&self, special: &Special, table: &FactorTable) -> Option<Judged> {
        if special.holds(table) { self.judge_beyond(special, table) } else { None }
    }

    /// The same with its curves carried on beyond their bounds: for scenarios, which nobody acts on.
    pub(super) fn judge_beyond(&self, special: &Special, table: &FactorTable) -> Option<Judged> {
        let mut judged: Option<Judged> = None;
        for (facet, row) in special.shape.facets.iter().zip(&special.rows) {
            // the row's error allows for the whole sag, which is not left open here
            let error = self.rows(*row).view(row.row()).error * table.growth() - special.shape.sag(facet);
            let here = facet_at(facet, table, error);
            judged = Some(judged.map_or(here, |least| Judged {
                equity: lesser(least.equity, here.equity),
                surplus: lesser(least.surplus, here.surplus),
                error: -lesser(-least.error, -here.error),
            }));
        }
        judged
    }
}
