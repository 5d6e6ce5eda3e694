//! What may happen to a snapshot's units next: how far each is from liquidation, how likely and how costly that is, and what
//! a shock would do to all of them together.
//!
//! One model throughout: prices move in parts of themselves, linearly in each unit's planes, without drift, with the
//! covariance that was measured ([`Moves`]) and a tail that was measured ([`Tail`]).
//!
//! Invariants: the same snapshot, observations and settings give the same figures; a unit that cannot be followed is
//! counted and named, not left out; what is not known about two prices counts as the worst there is.
//! Must not: decide or book anything: every figure here is an estimate in f64, for people, alerts and the order of a list.

mod exposure;
mod measures;
mod moves;
mod options;
mod report;
mod screened;
mod stress;
mod tail;
#[cfg(test)]
mod tests;

pub use exposure::{Concentration, Delta, Exposed, Exposures};
pub use measures::{AtHorizon, Likelihood, UnitRisk};
pub use moves::{Model, Moves, MovesSettings};
pub use options::EuropeanOption;
pub use report::{GridRow, HorizonTotal, RiskReport, RiskSettings, Runway, Volatility, assess};
pub use stress::{Depth, SegmentStress, Stressed, runways, stress};
pub use tail::Tail;
