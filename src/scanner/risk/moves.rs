//! How prices move, estimated from what was seen: covariance per second and kurtosis, both exponentially weighted.
//!
//! An observation at least `pace_seconds` after the last gives each price's relative move r over dt seconds. With
//! α = 1 − 2^(−dt / half-life): C ← (1 − α) C + α · r rᵀ / dt, divided by the sum of the weights given out so far, so that the
//! first observation counts in full. The kurtosis is the likewise weighted mean of (r / (σ √dt))⁴ over all prices, σ as it
//! was *before* the move and once it rests on [`PRIOR_WEIGHT`] moves, beside a prior ([`KURTOSIS_PRIOR`]) that fades with
//! each further one.
//!
//! Sources: EWMA of RiskMetrics (J.P. Morgan, *Technical Document*, 4th ed. 1996, §5.2).
//!
//! Invariants: prices are told apart by name, so that one that is added or is missing for a while disturbs no other; a
//! covariance is known once both moved together, and is otherwise taken at the worst; no volatility is below the floor.
//! Must not: read a clock.

use serde::{Deserialize, Serialize};

use super::Tail;
use crate::scanner::{DriverIndex, Drivers};

/// Seconds of a day.
pub(super) const DAY: f64 = 86_400.0;
/// Kurtosis before anything was seen: what daily moves of liquid markets show (Student's with six degrees of freedom).
const KURTOSIS_PRIOR: f64 = 6.0;
/// How many observations the prior counts for, and a variance needs before moves are held against it.
const PRIOR_WEIGHT: u32 = 30;
/// More prices than this have no covariances: the matrix would outgrow its use.
const COVARIANCES_MAX: usize = 128;

/// How moves are measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MovesSettings {
    /// After this long an observation counts half.
    pub half_life_seconds: u64,
    /// Least time between two observations.
    pub pace_seconds: u64,
    /// No price is taken to be calmer than this, of itself a day.
    pub volatility_per_day_bps_min: u32,
}

impl Default for MovesSettings {
    fn default() -> Self {
        Self { half_life_seconds: 21_600, pace_seconds: 60, volatility_per_day_bps_min: 100 }
    }
}

/// What was seen so far. It can be stored and taken up again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moves {
    /// Unix seconds of the last observation; 0 before the first.
    pub seen_at: u64,
    /// Observations of at least one move.
    pub observations: u64,
    names: Vec<String>,
    /// At the last observation; 0 where it was missing.
    prices: Vec<f64>,
    /// Weighted sum of squared moves per second, and the weights.
    variances: Vec<Weighted>,
    /// By row, below the diagonal.
    covariances: Vec<Weighted>,
    fourth: Weighted,
}

/// A weighted sum with the weights that went into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Weighted {
    sum: f64,
    weight: f64,
    count: u32,
}

impl Weighted {
    fn take(&mut self, value: f64, alpha: f64) {
        self.sum = (1.0 - alpha) * self.sum + alpha * value;
        self.weight = (1.0 - alpha) * self.weight + alpha;
        self.count = self.count.saturating_add(1);
    }

    fn mean(self) -> Option<f64> {
        (self.weight > 0.0).then(|| self.sum / self.weight)
    }
}

impl Moves {
    /// Takes in the prices of this second, if it is time; whether it was.
    pub fn observe(&mut self, at: u64, drivers: &Drivers, settings: &MovesSettings) -> bool {
        let elapsed = at.saturating_sub(self.seen_at);
        if self.seen_at > 0 && (elapsed == 0 || elapsed < settings.pace_seconds) {
            return false;
        }
        let now = self.places(drivers);
        if self.seen_at > 0 {
            self.learn(&now, elapsed as f64, settings);
        }
        self.prices = now;
        self.seen_at = at;
        true
    }

    /// These prices in the order of `names`, to which new ones are added.
    fn places(&mut self, drivers: &Drivers) -> Vec<f64> {
        let mut now = vec![0.0; self.names.len()];
        for (name, price) in drivers.names.iter().zip(&drivers.prices) {
            let place = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
                self.names.push(name.clone());
                self.prices.push(0.0);
                self.variances.push(Weighted::default());
                now.push(0.0);
                now.len() - 1
            });
            now[place] = if price.is_finite() && *price > 0.0 { *price } else { 0.0 };
        }
        let covered = self.names.len().min(COVARIANCES_MAX);
        self.covariances.resize(covered * covered.saturating_sub(1) / 2, Weighted::default());
        now
    }

    fn learn(&mut self, now: &[f64], elapsed: f64, settings: &MovesSettings) {
        let alpha = 1.0 - 0.5_f64.powf(elapsed / settings.half_life_seconds.max(1) as f64);
        let moved = |(before, now): (&f64, &f64)| (*before > 0.0 && *now > 0.0).then(|| now / before - 1.0);
        let moves: Vec<Option<f64>> = self.prices.iter().zip(now).map(moved).collect();
        let (mut fourth, mut count) = (0.0, 0.0);
        for (place, moved) in moves.iter().enumerate() {
            let Some(moved) = moved else { continue };
            let before = self.variances[place];
            if let Some(variance) = before.mean().filter(|_| before.count >= PRIOR_WEIGHT) {
                let variance = variance.max(floor(settings));
                fourth += (moved * moved / (variance * elapsed)).powi(2);
                count += 1.0;
            }
            self.variances[place].take(moved * moved / elapsed, alpha);
            let others = moves[..place].iter().enumerate().filter(|_| place < COVARIANCES_MAX);
            for (other, with) in others.filter_map(|(other, with)| Some((other, (*with)?))) {
                self.covariances[below(place, other)].take(moved * with / elapsed, alpha);
            }
        }
        if count > 0.0 {
            self.fourth.take(fourth / count, alpha);
        }
        self.observations += u64::from(moves.iter().any(Option::is_some));
    }

    /// What holds for these prices, in their order.
    pub fn model(&self, drivers: &Drivers, settings: &MovesSettings) -> Model {
        let places: Vec<Option<usize>> =
            drivers.names.iter().map(|name| self.names.iter().position(|known| known == name)).collect();
        let deviation = |place: &Option<usize>| {
            let measured = place.and_then(|place| self.variances[place].mean()).unwrap_or(0.0);
            measured.max(floor(settings)).sqrt()
        };
        let deviations: Vec<f64> = places.iter().map(deviation).collect();
        let mut correlations = Vec::new();
        for (row, place) in places.iter().enumerate() {
            for (column, other) in places.iter().enumerate().take(row) {
                let covariance = place.zip(*other).and_then(|(a, b)| self.covariance(a.max(b), a.min(b)));
                let correlation = covariance.map(|c| (c / (deviations[row] * deviations[column])).clamp(-1.0, 1.0));
                correlations.push(correlation.filter(|c| c.is_finite()));
            }
        }
        let (seen, prior) = (f64::from(self.fourth.count), f64::from(PRIOR_WEIGHT));
        let kurtosis = (seen * self.fourth.mean().unwrap_or(KURTOSIS_PRIOR) + prior * KURTOSIS_PRIOR) / (seen + prior);
        Model { deviations, correlations, tail: Tail::of_kurtosis(kurtosis) }
    }

    fn covariance(&self, high: usize, low: usize) -> Option<f64> {
        if high == low {
            return self.variances[high].mean();
        }
        (high < COVARIANCES_MAX).then(|| self.covariances[below(high, low)].mean()).flatten()
    }
}

/// Place of (row, column), column < row, in a triangle stored by row.
fn below(row: usize, column: usize) -> usize {
    row * (row - 1) / 2 + column
}

/// The least variance per second.
fn floor(settings: &MovesSettings) -> f64 {
    (f64::from(settings.volatility_per_day_bps_min) / 10_000.0).powi(2) / DAY
}

/// How a snapshot's prices are taken to move.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// By price: standard deviation of its relative move over one second.
    pub deviations: Vec<f64>,
    /// By row below the diagonal; `None`: not known.
    pub(super) correlations: Vec<Option<f64>>,
    /// The tail of moves.
    pub tail: Tail,
}

impl Model {
    /// The correlation of two prices; `None` where it is not known.
    pub fn correlation(&self, a: DriverIndex, b: DriverIndex) -> Option<f64> {
        let (high, low) = (a.0.max(b.0) as usize, a.0.min(b.0) as usize);
        if high == low { Some(1.0) } else { self.correlations[below(high, low)] }
    }

    /// Variance per second of Σ delta · move. Two prices whose correlation is not known are taken to move as is worst.
    pub fn variance(&self, deltas: &[(DriverIndex, f64)]) -> f64 {
        let mut variance = 0.0;
        for (place, &(a, delta_a)) in deltas.iter().enumerate() {
            let own = delta_a * self.deviations[a.0 as usize];
            variance += own * own;
            for &(b, delta_b) in &deltas[..place] {
                let other = delta_b * self.deviations[b.0 as usize];
                let product = own * other;
                variance += 2.0 * self.correlation(a, b).map_or(product.abs(), |correlation| correlation * product);
            }
        }
        variance.max(0.0)
    }

    /// How far the others move, in parts of themselves, when `driver` moves by `by`: their regression on it.
    pub fn with_others(&self, driver: DriverIndex, by: f64) -> Vec<f64> {
        let own = self.deviations[driver.0 as usize];
        let along = |(other, deviation): (u32, &f64)| {
            let correlation = self.correlation(driver, DriverIndex(other)).unwrap_or(0.0);
            (by * correlation * deviation / own).max(-1.0)
        };
        (0..).zip(&self.deviations).map(along).collect()
    }
}
