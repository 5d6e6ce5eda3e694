//! The risk of one unit, and the order in which people should look.
//!
//! With s its surplus, e its equity, σ_s and σ_e the standard deviations of their changes over √(one second):
//!
//! | figure | formula |
//! |---|---|
//! | distance to liquidation | s / (σ_s √day), in standard deviations of a day |
//! | chance to be liquidatable within T | min(1, 2 · P(Z > s / (σ_s √T))): first passage, by reflection |
//! | median time to liquidation | (s / (σ_s · z))², z exceeded with a chance of a quarter; the mean is infinite |
//! | expected bad debt at T | σ_e √T · E max(Z − e / (σ_e √T), 0): Bachelier's put on equity struck at zero |
//! | liquidation price | price · (1 − s / δ), δ what a move of 1 adds to the surplus, the other prices staying |
//!
//! Sources: Bachelier, *Théorie de la spéculation* (1900); Karatzas and Shreve, *Brownian Motion and Stochastic Calculus*, 2.6
//! (reflection, hitting times). The distribution of Z is [`Tail`]'s.
//!
//! Invariants: who is liquidatable now has a chance of 1 and a time of 0.
//! Must not: take a drift into account: over these horizons it is noise.

use std::cmp::Ordering;

use serde::Serialize;

use super::{Delta, Exposed, Exposures, Model, moves::DAY};
use crate::{
    scanner::{Condition, DriverIndex},
    types::{SegmentId, UnitKey},
};

/// A unit's risk. Amounts in settlement-token units.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UnitRisk {
    /// Which.
    pub unit: UnitKey,
    /// Where its losses stay.
    pub segment: SegmentId,
    /// By its planes; what is booked is looked at exactly.
    pub condition: Condition,
    /// Likewise.
    pub surplus: f64,
    /// Likewise.
    pub equity: f64,
    /// What a relative move of 1 of each price adds to its equity: its delta; its gamma is zero on planes.
    pub deltas: Vec<(String, f64)>,
    /// See the module; `None` for a unit that no price moves.
    pub distance_deviations_per_day: Option<f64>,
    /// Likewise.
    pub median_seconds_to_liquidation: Option<f64>,
    /// By price, where the unit becomes liquidatable when that price moves alone; prices that cannot do it are left out.
    pub liquidation_prices: Vec<(String, f64)>,
    /// At the reaction time.
    pub at_reaction: AtHorizon,
    /// At each horizon.
    pub at_horizons: Vec<AtHorizon>,
}

/// What may have happened to a unit when this much time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct AtHorizon {
    /// The time.
    pub seconds: u64,
    /// Chance that it has been liquidatable in between.
    pub liquidation_chance: f64,
    /// Expected bad debt then, if nobody does anything.
    pub expected_bad_debt: f64,
}

/// A unit's standard deviations over √(one second).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Likelihood {
    surplus: f64,
    equity: f64,
    of_surplus: f64,
    of_equity: f64,
}

impl Likelihood {
    /// Of a unit.
    pub fn of(exposures: &Exposures, unit: &Exposed, model: &Model) -> Self {
        let deltas = exposures.deltas(unit);
        let maintenance: Vec<(DriverIndex, f64)> = deltas.iter().map(|d| (d.driver, d.maintenance)).collect();
        let equity: Vec<(DriverIndex, f64)> = deltas.iter().map(|d| (d.driver, d.equity)).collect();
        Self {
            surplus: unit.surplus,
            equity: unit.equity,
            of_surplus: model.variance(&maintenance).sqrt(),
            of_equity: model.variance(&equity).sqrt(),
        }
    }

    /// See the module.
    pub fn at(&self, seconds: u64, model: &Model) -> AtHorizon {
        let root = (seconds as f64).sqrt();
        let liquidation_chance = if self.surplus < 0.0 {
            1.0
        } else if self.of_surplus * root > 0.0 {
            (2.0 * model.tail.beyond(self.surplus / (self.of_surplus * root))).min(1.0)
        } else {
            0.0
        };
        let spread = self.of_equity * root;
        let expected_bad_debt =
            if spread > 0.0 { spread * model.tail.excess(self.equity / spread) } else { (-self.equity).max(0.0) };
        AtHorizon { seconds, liquidation_chance, expected_bad_debt }
    }

    fn distance(&self) -> Option<f64> {
        (self.of_surplus > 0.0).then(|| self.surplus / (self.of_surplus * DAY.sqrt()))
    }

    fn median_seconds(&self, model: &Model) -> Option<f64> {
        if self.surplus < 0.0 {
            return Some(0.0);
        }
        let quarter = model.tail.quantile_beyond(0.25);
        (self.of_surplus > 0.0).then(|| (self.surplus / (self.of_surplus * quarter)).powi(2))
    }

    fn condition(&self) -> Condition {
        if self.equity < 0.0 {
            Condition::Bankrupt
        } else if self.surplus < 0.0 {
            Condition::Liquidatable
        } else {
            Condition::Healthy
        }
    }
}

impl UnitRisk {
    /// Everything about one unit.
    pub fn of(exposures: &Exposures, unit: &Exposed, model: &Model, reaction: u64, horizons: &[u64]) -> Self {
        let likelihood = Likelihood::of(exposures, unit, model);
        let deltas = exposures.deltas(unit);
        let name = |driver: DriverIndex| exposures.drivers.names[driver.0 as usize].clone();
        let liquidation_price = |delta: &Delta| {
            let price = exposures.drivers.prices[delta.driver.0 as usize] * (1.0 - unit.surplus / delta.maintenance);
            (price.is_finite() && price > 0.0).then(|| (name(delta.driver), price))
        };
        Self {
            unit: unit.unit.clone(),
            segment: unit.segment,
            condition: likelihood.condition(),
            surplus: unit.surplus,
            equity: unit.equity,
            deltas: deltas.iter().map(|delta| (name(delta.driver), delta.equity)).collect(),
            distance_deviations_per_day: likelihood.distance(),
            median_seconds_to_liquidation: likelihood.median_seconds(model),
            liquidation_prices: deltas.iter().filter_map(liquidation_price).collect(),
            at_reaction: likelihood.at(reaction, model),
            at_horizons: horizons.iter().map(|seconds| likelihood.at(*seconds, model)).collect(),
        }
    }
}

/// A unit's place in the list of those to look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank {
    condition: Condition,
    expected_bad_debt: f64,
    liquidation_chance: f64,
}

impl Rank {
    pub(super) fn of(likelihood: &Likelihood, reaction: u64, model: &Model) -> Self {
        let at = likelihood.at(reaction, model);
        Self {
            condition: likelihood.condition(),
            expected_bad_debt: at.expected_bad_debt,
            liquidation_chance: at.liquidation_chance,
        }
    }

    /// Who comes first: liquidatable now before all others, then by what the protocol stands to lose within the
    /// reaction time, then by the chance of a liquidation.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let now = |rank: &Self| rank.condition == Condition::Healthy;
        now(self)
            .cmp(&now(other))
            .then(other.expected_bad_debt.total_cmp(&self.expected_bad_debt))
            .then(other.liquidation_chance.total_cmp(&self.liquidation_chance))
    }
}

/// How far a price moves in a day, one standard deviation.
pub(super) fn per_day(deviation: f64) -> f64 {
    deviation * DAY.sqrt()
}
