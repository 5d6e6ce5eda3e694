//! A running cascade as waves: who fell into distress since the last look, what a forecast provides for it before its losses
//! are known, and what it then turned out to lack.
//!
//! Invariants: a unit counts once from its fall until it is well again; the forecast for a wave uses earlier waves only.
//! Must not: book or decide anything: a provision is a forecast, and what a plan absorbs is exact.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::U256;

use super::{Closed, DistressedUnit, ForecastError, SegmentCase, Severity};
use crate::types::{MarketId, SegmentId, UnitKey, math::negative_part};

/// What earlier waves of each segment say.
#[derive(Clone, Debug, Default)]
pub struct Waves {
    segments: BTreeMap<SegmentId, Cascade>,
}

#[derive(Clone, Debug, Default)]
struct Cascade {
    severity: Severity,
    standing: BTreeSet<UnitKey>,
}

/// One wave, settlement-token units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wave {
    /// What the forecast provided for.
    pub provided: U256,
    /// What the units lack beyond their own margin.
    pub lost: U256,
}

impl Waves {
    /// Takes a look at a segment in; the wave of those who fell since the last look, if anybody did. Units of a protocol
    /// that offers its own actions show no positions and make no waves.
    pub fn see(&mut self, case: &SegmentCase) -> Option<Wave> {
        let cascade = self.segments.entry(case.segment).or_default();
        let fell: Vec<&DistressedUnit> =
            case.distressed.iter().filter(|unit| !cascade.standing.contains(&unit.unit)).collect();
        cascade.standing = case.distressed.iter().map(|unit| unit.unit.clone()).collect();
        let wave = closed(case, &fell);
        if wave.is_empty() {
            return None;
        }
        let provided = cascade.severity.provision(wave.iter().map(|closed| (closed.market, closed.notional)));
        let lost = wave.iter().fold(U256::ZERO, |sum, closed| sum.saturating_add(closed.loss));
        cascade.severity.observe(&wave);
        Some(Wave { provided, lost })
    }

    /// Whoever was in distress in segments that are not named is well again.
    pub fn calm_all_but(&mut self, troubled: &BTreeSet<SegmentId>) {
        for (_, cascade) in self.segments.iter_mut().filter(|(segment, _)| !troubled.contains(*segment)) {
            cascade.standing.clear();
        }
    }

    /// How good the provisions for a segment were so far.
    pub fn error(&self, segment: SegmentId) -> ForecastError {
        self.segments.get(&segment).map(|cascade| cascade.severity.error()).unwrap_or_default()
    }
}

/// What is to be closed in each market; a unit's shortfall counts where it lost most, ties to the lower market.
fn closed(case: &SegmentCase, fell: &[&DistressedUnit]) -> Vec<Closed> {
    let mut markets: BTreeMap<MarketId, (U256, U256)> = BTreeMap::new();
    for unit in fell {
        for position in &unit.positions {
            let price = case.markets.get(&position.market).map_or(U256::ZERO, |market| market.mark_price);
            let (notional, _) = markets.entry(position.market).or_default();
            *notional = notional.saturating_add(position.lots.unsigned_abs().saturating_mul(price));
        }
        let worst = unit.positions.iter().min_by_key(|position| (position.pnl, position.market));
        if let Some(worst) = worst {
            let (_, loss) = markets.entry(worst.market).or_default();
            *loss = loss.saturating_add(negative_part(unit.equity));
        }
    }
    markets.into_iter().map(|(market, (notional, loss))| Closed { market, notional, loss }).collect()
}
