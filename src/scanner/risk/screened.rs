//! A snapshot's units in the scanner's columns, for shocks without a cascade: many at once, as [`Columns::grid`] takes them.
//!
//! Must not: follow what closing a unit does to prices; see [`super::stress`].
//!
//! [`Columns::grid`]: crate::scanner::columns::Columns::grid

use std::collections::BTreeMap;

use crate::{
    positions::Snapshot,
    scanner::{
        Drivers, Factors, Unvalued, Valuation,
        columns::{Held, Store},
    },
    types::SegmentId,
};

/// Nobody is at risk here: who is liquidatable is asked of each scenario.
const NO_MARGIN_BPS: u32 = 10_000;

/// See the module.
pub(super) struct Screened {
    store: Store,
    factors: Factors,
    drivers: Drivers,
}

impl Screened {
    /// Of all units that have a shape.
    pub(super) fn of(valuation: &dyn Valuation, snapshot: &Snapshot) -> Result<Self, Unvalued> {
        let (factors, drivers) = (valuation.factors(snapshot)?, valuation.drivers(snapshot)?);
        let mut store = Store::with_room_for(snapshot.book.unit_count(), &factors, NO_MARGIN_BPS);
        for (key, unit) in snapshot.book.units() {
            if let Ok(shape) = valuation.shape(snapshot, unit) {
                store.put(Held::of(key, unit), Some(&shape));
            }
        }
        Ok(Self { store, factors, drivers })
    }

    /// As [`super::runways`] without depth.
    pub(super) fn runways(
        &self,
        funds: &BTreeMap<SegmentId, f64>,
        steps: impl IntoIterator<Item = f64>,
    ) -> BTreeMap<SegmentId, f64> {
        let steps: Vec<f64> = steps.into_iter().collect();
        let all = |step: &f64| self.drivers.moved(&self.factors, &vec![*step; self.drivers.names.len()]);
        let columns = self.store.columns();
        let scenarios = columns.grid_of(&steps.iter().map(all).collect::<Vec<_>>());
        let mut bad_debt: Vec<BTreeMap<SegmentId, f64>> = vec![BTreeMap::new(); steps.len()];
        columns.grid(&scenarios, &mut |unit, scenario, equity| {
            *bad_debt[scenario].entry(columns.segment(unit)).or_default() -= equity;
        });
        let mut gone = BTreeMap::new();
        for (step, segments) in steps.into_iter().zip(bad_debt) {
            for (segment, owed) in segments {
                if owed > funds.get(&segment).copied().unwrap_or(0.0) {
                    gone.entry(segment).or_insert(step);
                }
            }
        }
        gone
    }
}
