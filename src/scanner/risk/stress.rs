//! What a shock does to all units together: who becomes liquidatable, what closing them does to prices, who follows, and
//! what is then owed that nobody covers.
//!
//! Closing a unit sells what it holds of each price and buys what it is short of. What all of them sell net moves a price by
//! 1 % a `notional_of_one_percent` (linear: a shallow book is described by a small figure). Whoever became liquidatable stays
//! closed, so the set only grows and the cascade ends at its least fixed point whatever the order.
//!
//! Invariants: deterministic; without depth there is one round; bad debt is counted at the prices at the end.
//! Must not: know why prices move.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Exposures;
use crate::types::SegmentId;

/// No cascade moves a price by more than this part of what the shock left of it.
const IMPACT_MAX: f64 = 0.95;

/// Notional that moves each price by one per cent, settlement-token units, by name; prices not named are not moved.
pub type Depth = BTreeMap<String, f64>;

/// What a shock came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stressed {
    /// How often closing made further units liquidatable, the shock itself included.
    pub rounds: u32,
    /// Each price's relative move at the end, by name; those that stayed are left out.
    pub moves: BTreeMap<String, f64>,
    /// By segment, where something fell.
    pub segments: BTreeMap<SegmentId, SegmentStress>,
}

/// What it did in a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SegmentStress {
    /// Units that are liquidatable, the bankrupt among them.
    pub liquidatable: u64,
    /// Units with less than nothing.
    pub bankrupt: u64,
    /// What they owe beyond what they have, settlement-token units.
    pub bad_debt: f64,
}

impl Stressed {
    /// Over all segments; amounts add up where segments count in one token.
    pub fn total(&self) -> SegmentStress {
        self.segments.values().fold(SegmentStress::default(), |sum, one| SegmentStress {
            liquidatable: sum.liquidatable + one.liquidatable,
            bankrupt: sum.bankrupt + one.bankrupt,
            bad_debt: sum.bad_debt + one.bad_debt,
        })
    }
}

/// Moves each price by its part of itself, in the order of the exposures' prices, and follows what comes of it.
pub fn stress(exposures: &Exposures, shock: &[f64], depth: &Depth) -> Stressed {
    let names = &exposures.drivers.names;
    let depths: Vec<Option<f64>> = names.iter().map(|name| depth.get(name).copied().filter(|d| *d > 0.0)).collect();
    let mut closed = vec![false; exposures.units.len()];
    let mut sold = vec![0.0; names.len()];
    let mut moves = shock.to_vec();
    let mut rounds = 0;
    loop {
        let mut fell = false;
        for (unit, closed) in exposures.units.iter().zip(&mut closed).filter(|(_, closed)| !**closed) {
            if exposures.after(unit, &moves).0 < 0.0 {
                (*closed, fell) = (true, true);
                for delta in exposures.deltas(unit) {
                    let place = delta.driver.0 as usize;
                    sold[place] += delta.equity * (1.0 + moves[place]);
                }
            }
        }
        rounds += u32::from(fell);
        if !fell || depths.iter().all(Option::is_none) {
            break;
        }
        for (place, of_one_percent) in depths.iter().enumerate() {
            let impact = of_one_percent.map_or(0.0, |notional| -sold[place] / notional / 100.0);
            moves[place] = (1.0 + shock[place]) * (1.0 + impact.clamp(-IMPACT_MAX, IMPACT_MAX)) - 1.0;
        }
    }
    let mut segments: BTreeMap<SegmentId, SegmentStress> = BTreeMap::new();
    for (unit, _) in exposures.units.iter().zip(&closed).filter(|(_, closed)| **closed) {
        let segment = segments.entry(unit.segment).or_default();
        let (_, equity) = exposures.after(unit, &moves);
        segment.liquidatable += 1;
        segment.bankrupt += u64::from(equity < 0.0);
        segment.bad_debt += (-equity).max(0.0);
    }
    let moved = names.iter().zip(&moves).filter(|(_, moved)| **moved != 0.0);
    Stressed { rounds, moves: moved.map(|(name, moved)| (name.clone(), *moved)).collect(), segments }
}

/// By segment, the first of these moves of all prices at which its bad debt exceeds its fund, cascades included; segments
/// that stand them all are left out. `steps` in the order of trying.
pub fn runways(
    exposures: &Exposures,
    funds: &BTreeMap<SegmentId, f64>,
    depth: &Depth,
    steps: impl IntoIterator<Item = f64>,
) -> BTreeMap<SegmentId, f64> {
    let mut gone: BTreeMap<SegmentId, f64> = BTreeMap::new();
    for step in steps {
        let stressed = stress(exposures, &vec![step; exposures.drivers.names.len()], depth);
        for (segment, found) in stressed.segments {
            if found.bad_debt > funds.get(&segment).copied().unwrap_or(0.0) {
                gone.entry(segment).or_insert(step);
            }
        }
    }
    gone
}
