//! A snapshot's units as linear forms in the moves of prices: what they are worth now and what each price does to it.
//!
//! With x the prices' relative moves: surplus(x) = surplus + Σ maintenance · x, and the same for equity, exactly as far as
//! the adapter's planes are. Units whose value no price can bring below zero are left out; those without planes are named.
//!
//! Invariants: units stand in the order of their keys; each price stands once a unit, in order.
//! Must not: value a unit otherwise than by its planes.

use std::collections::BTreeMap;

use alloy::primitives::Address;
use serde::Serialize;

use crate::{
    positions::Snapshot,
    scanner::{DriverIndex, Drivers, Factors, Planes, Unvalued, Valuation},
    types::{SegmentId, UnitKey},
};

/// What a relative move of 1 of one price adds to a unit, in settlement-token units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Delta {
    /// The price.
    pub driver: DriverIndex,
    /// To its equity: the value that it holds there, below zero for a debt or a short.
    pub equity: f64,
    /// To its surplus.
    pub maintenance: f64,
}

/// A unit that prices can hurt.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposed {
    /// Which.
    pub unit: UnitKey,
    /// Whose.
    pub owner: Address,
    /// Where its losses stay.
    pub segment: SegmentId,
    /// Settlement-token units, at today's prices.
    pub surplus: f64,
    /// Likewise.
    pub equity: f64,
    first: usize,
    count: u16,
}

/// All of them. See the module.
#[derive(Clone, Debug, Default)]
pub struct Exposures {
    /// In the order of their keys.
    pub units: Vec<Exposed>,
    /// Units without planes, and why: they are only known at each block.
    pub opaque: Vec<(UnitKey, String)>,
    /// The prices.
    pub drivers: Drivers,
    deltas: Vec<Delta>,
}

/// Who holds what of one price.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Concentration {
    /// The price.
    pub driver: String,
    /// Value of all that gains when it rises, settlement-token units.
    pub long: f64,
    /// Value of all that gains when it falls.
    pub short: f64,
    /// Σ of squared shares of owners in both: 1 where one owner holds all.
    pub herfindahl: f64,
    /// Whoever holds most.
    pub largest_owner: Address,
    /// Its share.
    pub largest_share: f64,
}

impl Exposures {
    /// Those of a snapshot.
    pub fn of(valuation: &dyn Valuation, snapshot: &Snapshot) -> Result<Self, Unvalued> {
        let (factors, drivers) = (valuation.factors(snapshot)?, valuation.drivers(snapshot)?);
        let mut all = Self { drivers, ..Self::default() };
        for (key, unit) in snapshot.book.units() {
            match valuation.planes(snapshot, unit) {
                Ok(planes) => all.add(key, (unit.owner, unit.segment), &factors, &planes),
                Err(why) => all.opaque.push((key.clone(), why.to_string())),
            }
        }
        Ok(all)
    }

    fn add(&mut self, key: &UnitKey, (owner, segment): (Address, SegmentId), factors: &Factors, planes: &Planes) {
        let first = self.deltas.len();
        let (mut surplus, mut equity) = (planes.constant, planes.constant);
        for &(factor, quantity) in &planes.holdings {
            let slot = factor.0 as usize;
            equity += quantity * factors.equity[slot];
            surplus += quantity * factors.maintenance[slot];
            let Some(slope) = self.drivers.slopes.get(slot).copied().flatten() else { continue };
            let (of_equity, of_maintenance) = (quantity * slope.equity, quantity * slope.maintenance);
            match self.deltas[first..].iter_mut().find(|delta| delta.driver == slope.driver) {
                Some(delta) => {
                    delta.equity += of_equity;
                    delta.maintenance += of_maintenance;
                }
                None => {
                    let driver = slope.driver;
                    self.deltas.push(Delta { driver, equity: of_equity, maintenance: of_maintenance });
                }
            }
        }
        let deltas = &mut self.deltas[first..];
        let finite = deltas.iter().all(|delta| delta.equity.is_finite() && delta.maintenance.is_finite());
        let count = u16::try_from(deltas.len()).ok().filter(|_| finite && surplus.is_finite() && equity.is_finite());
        let Some(count) = count else {
            self.deltas.truncate(first);
            self.opaque.push((key.clone(), "its planes are no numbers".to_owned()));
            return;
        };
        if count == 0 && surplus >= 0.0 && equity >= 0.0 {
            return;
        }
        deltas.sort_unstable_by_key(|delta| delta.driver);
        self.units.push(Exposed { unit: key.clone(), owner, segment, surplus, equity, first, count });
    }

    /// What prices do to a unit.
    pub fn deltas(&self, unit: &Exposed) -> &[Delta] {
        &self.deltas[unit.first..unit.first + usize::from(unit.count)]
    }

    /// A unit's surplus and equity after these moves, by price.
    pub fn after(&self, unit: &Exposed, moves: &[f64]) -> (f64, f64) {
        self.deltas(unit).iter().fold((unit.surplus, unit.equity), |(surplus, equity), delta| {
            let moved = moves[delta.driver.0 as usize];
            (surplus + delta.maintenance * moved, equity + delta.equity * moved)
        })
    }

    /// Who holds what, by price; prices that nobody holds are left out.
    pub fn concentrations(&self) -> Vec<Concentration> {
        let mut holders: BTreeMap<DriverIndex, BTreeMap<Address, (f64, f64)>> = BTreeMap::new();
        for unit in &self.units {
            for delta in self.deltas(unit) {
                let held = holders.entry(delta.driver).or_default().entry(unit.owner).or_default();
                held.0 += delta.equity.max(0.0);
                held.1 += (-delta.equity).max(0.0);
            }
        }
        let concentration = |(driver, owners): (DriverIndex, BTreeMap<Address, (f64, f64)>)| {
            let (long, short) = owners.values().fold((0.0, 0.0), |sum, held| (sum.0 + held.0, sum.1 + held.1));
            let share = |held: &(f64, f64)| (held.0 + held.1) / (long + short);
            let herfindahl = owners.values().map(|held| share(held).powi(2)).sum();
            let largest = owners.iter().max_by(|a, b| share(a.1).total_cmp(&share(b.1)).then(b.0.cmp(a.0)))?;
            let (largest_owner, largest_share) = (*largest.0, share(largest.1));
            let driver = self.drivers.names[driver.0 as usize].clone();
            (long + short > 0.0).then_some(Concentration {
                driver,
                long,
                short,
                herfindahl,
                largest_owner,
                largest_share,
            })
        };
        holders.into_iter().filter_map(concentration).collect()
    }
}
