//! The solvency scanner: which units of a snapshot are, or soon may be, a loss to the protocol.
//!
//! A fast screen in f64 over two planes per unit, then exact integer maths for what it raises.
//!
//! Invariants: the screen may raise a false alarm and may not miss; a unit that cannot be valued is reported as unknown
//! with raised priority, never dropped, and never shortens the scan; the same snapshot gives the same report.
//! Must not: decide or book money from a float, do I/O, read a clock, or know a protocol.

pub mod columns;
mod follow;
pub mod risk;
mod scan;
mod shape;
#[cfg(test)]
pub(crate) mod tests;
mod valuation;

pub use follow::Scanner;
pub use scan::{Condition, Finding, ScanReport, ScanSettings, scan};
pub use shape::{Bounds, Curve, Facet, Shape};
pub use valuation::{DriverIndex, Drivers, FactorIndex, Factors, Planes, Slope, Standing, Unvalued, Valuation};
