//! What a pass over a snapshot finds.

use std::cmp::Ordering;

use alloy::primitives::{I256, U256};
use serde::{Deserialize, Serialize};

use super::{Scanner, Standing, Unvalued, Valuation};
use crate::{
    positions::Snapshot,
    types::{BlockRef, SegmentId, UnitKey, math},
};

const BPS: U256 = U256::from_limbs([10_000, 0, 0, 0]);

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

impl Condition {
    /// Every condition, worst first.
    pub const ALL: [Self; 5] = [Self::Bankrupt, Self::Liquidatable, Self::Unknown, Self::AtRisk, Self::Healthy];

    /// The word in SQL, metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bankrupt => "bankrupt",
            Self::Liquidatable => "liquidatable",
            Self::Unknown => "unknown",
            Self::AtRisk => "at_risk",
            Self::Healthy => "healthy",
        }
    }
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
    /// equity / maintenance margin in basis points, rounded down; `None` without a maintenance margin or a value, and where
    /// it does not fit.
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
    /// Units that were looked at exactly: raised by the screen, or beyond it.
    pub raised: usize,
}

/// Looks at every unit of the snapshot, once: see [`Scanner`].
pub fn scan(valuation: &dyn Valuation, snapshot: &Snapshot, settings: &ScanSettings) -> ScanReport {
    Scanner::new(*settings).scan(valuation, snapshot)
}

/// The finding of an exact standing, `None` for a healthy unit.
pub(super) fn classify(
    key: &UnitKey,
    segment: SegmentId,
    standing: Result<Standing, Unvalued>,
    settings: &ScanSettings,
) -> Option<Finding> {
    let standing = match standing {
        Ok(standing) => standing,
        Err(why) => return Some(unknown(key, segment, why.to_string())),
    };
    let health_factor_bps = health_factor_bps(&standing);
    let at_risk_below = U256::from(settings.at_risk_health_factor_bps);
    let condition = if standing.equity.is_negative() {
        Condition::Bankrupt
    } else if standing.surplus.is_negative() {
        Condition::Liquidatable
    } else if health_factor_bps.is_some_and(|bps| bps.unsigned_abs() < at_risk_below) {
        Condition::AtRisk
    } else {
        return None;
    };
    Some(Finding {
        unit: key.clone(),
        segment,
        condition,
        equity: standing.equity,
        maintenance_margin: standing.maintenance_margin,
        surplus: standing.surplus,
        health_factor_bps,
        unknown_reason: None,
    })
}

fn unknown(key: &UnitKey, segment: SegmentId, reason: String) -> Finding {
    Finding {
        unit: key.clone(),
        segment,
        condition: Condition::Unknown,
        equity: I256::ZERO,
        maintenance_margin: U256::ZERO,
        surplus: I256::ZERO,
        health_factor_bps: None,
        unknown_reason: Some(reason),
    }
}

/// floor(equity · 10⁴ / maintenance margin), also below zero; `None` without a maintenance margin, or where it would not
/// fit 256 bits and says no more than the equity's sign.
fn health_factor_bps(standing: &Standing) -> Option<I256> {
    let (magnitude, margin) = (standing.equity.unsigned_abs(), standing.maintenance_margin);
    let negative = standing.equity.is_negative();
    // Down is away from zero for a negative equity.
    let quotient =
        if negative { math::mul_div_ceil(magnitude, BPS, margin) } else { math::mul_div_floor(magnitude, BPS, margin) };
    let bps = quotient.and_then(math::signed)?;
    Some(if negative { -bps } else { bps })
}

/// Worst first.
pub(super) fn rank(a: &Finding, b: &Finding) -> Ordering {
    let within = match a.condition {
        Condition::Bankrupt => a.equity.cmp(&b.equity),
        Condition::Liquidatable => a.surplus.cmp(&b.surplus),
        Condition::Unknown | Condition::Healthy => Ordering::Equal,
        Condition::AtRisk => a.health_factor_bps.cmp(&b.health_factor_bps),
    };
    a.condition.cmp(&b.condition).then(within).then_with(|| a.unit.cmp(&b.unit))
}
