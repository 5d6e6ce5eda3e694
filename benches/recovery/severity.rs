//! Provisions for each wave from earlier ones only: ours against an exponentially weighted gap per contract and coin.

use std::collections::BTreeMap;

use backstop::{
    recovery::{Closed, Severity},
    types::MarketId,
};

use crate::{event::WaveMarket, money::usd};

/// Σ |provided − lost| over the waves, and Σ lost; USD.
pub fn ours(waves: &[Vec<WaveMarket>]) -> (f64, f64) {
    let mut severity = Severity::default();
    for wave in waves {
        let closed = wave.iter().map(|m| Closed { market: m.market, notional: m.notional, loss: m.loss });
        severity.observe(&closed.collect::<Vec<_>>());
    }
    let error = severity.error();
    (usd(error.absolute), usd(error.lost))
}

/// The baseline: the gap per contract of a coin, each observation half; nothing for a coin not seen.
pub fn baseline(waves: &[Vec<WaveMarket>]) -> f64 {
    let mut gaps: BTreeMap<MarketId, f64> = BTreeMap::new();
    let mut error = 0.0;
    for wave in waves {
        let provided: f64 = wave.iter().map(|m| m.contracts * gaps.get(&m.market).copied().unwrap_or_default()).sum();
        let lost: f64 = wave.iter().map(|m| usd(m.loss)).sum();
        error += (provided - lost).abs();
        for m in wave {
            gaps.entry(m.market).and_modify(|gap| *gap = (*gap + m.gap) / 2.0).or_insert(m.gap);
        }
    }
    error
}
