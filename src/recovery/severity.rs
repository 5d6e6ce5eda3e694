//! How much to provide for a wave of forced closing before its losses are known.
//!
//! What is known then: how much is closed in each market (notional at the mark), and what earlier waves lost beyond
//! bankruptcy. The gap, loss / notional, is estimated per market by credibility (Bühlmann, *Experience rating and
//! credibility*, 1967, with one observation's worth of prior): (n · own + pool) / (n + 1), where own is the market's
//! exponentially weighted gap, each observation half, n how often it was observed, and pool the median of all markets'
//! own gaps. A market never seen gets the pool; one seen often its own. The median, since gaps are heavy-tailed.
//!
//! Invariants: an estimate uses earlier waves only; whatever was observed is held against what would have been provided,
//! and the error is kept. Must not: book anything; a provision is a forecast, and what a plan absorbs is exact.

use std::collections::BTreeMap;

use alloy::primitives::U256;

use crate::types::{
    MarketId,
    math::{mul_div_ceil, mul_div_floor},
};

/// Gaps are in this part of the notional.
const PARTS: U256 = U256::from_limbs([1_000_000_000, 0, 0, 0]);

/// What a wave closed in one market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Where.
    pub market: MarketId,
    /// Value at the mark, settlement-token units.
    pub notional: U256,
    /// What it lost beyond bankruptcy, likewise.
    pub loss: U256,
}

/// How good the provisions were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForecastError {
    /// Waves observed.
    pub waves: u64,
    /// Σ |provided − lost|, settlement-token units.
    pub absolute: U256,
    /// Σ lost.
    pub lost: U256,
}

/// What earlier waves say about gaps.
#[derive(Clone, Debug, Default)]
pub struct Severity {
    markets: BTreeMap<MarketId, Gap>,
    error: ForecastError,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    own: U256,
    observed: u64,
}

impl Severity {
    /// What to provide for a wave that closes these notionals, each rounded up; 0 before anything was observed.
    pub fn provision(&self, notionals: impl IntoIterator<Item = (MarketId, U256)>) -> U256 {
        let pool = self.pool();
        let each = notionals.into_iter().map(|(market, notional)| {
            let gap = self.markets.get(&market).map_or(pool, |gap| credible(*gap, pool));
            mul_div_ceil(notional, gap, PARTS).unwrap_or(U256::MAX)
        });
        each.fold(U256::ZERO, U256::saturating_add)
    }

    /// Learns from a wave once its losses are known. Markets without notional say nothing.
    pub fn observe(&mut self, wave: &[Closed]) {
        let provided = self.provision(wave.iter().map(|closed| (closed.market, closed.notional)));
        let lost = wave.iter().fold(U256::ZERO, |sum, closed| sum.saturating_add(closed.loss));
        self.error.waves += 1;
        self.error.absolute = self.error.absolute.saturating_add(provided.abs_diff(lost));
        self.error.lost = self.error.lost.saturating_add(lost);
        for closed in wave {
            let Some(seen) = mul_div_floor(closed.loss, PARTS, closed.notional) else { continue };
            let gap = self.markets.entry(closed.market).or_insert(Gap { own: seen, observed: 0 });
            gap.own = middle(gap.own, seen);
            gap.observed += 1;
        }
    }

    /// How good the provisions were so far.
    pub fn error(&self) -> ForecastError {
        self.error
    }

    /// The median of the markets' own gaps; 0 without any.
    fn pool(&self) -> U256 {
        let mut gaps: Vec<U256> = self.markets.values().map(|gap| gap.own).collect();
        gaps.sort_unstable();
        let upper = gaps.get(gaps.len() / 2);
        let lower = gaps.get(gaps.len().saturating_sub(1) / 2);
        lower.zip(upper).map_or(U256::ZERO, |(a, b)| middle(*a, *b))
    }
}

/// (n · own + pool) / (n + 1), rounded down.
fn credible(gap: Gap, pool: U256) -> U256 {
    let observed = U256::from(gap.observed);
    let weighed = gap.own.saturating_mul(observed).saturating_add(pool);
    weighed / (observed + U256::ONE)
}

/// Halfway, rounded down.
fn middle(a: U256, b: U256) -> U256 {
    let (low, high) = (a.min(b), a.max(b));
    low + (high - low) / U256::from(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(market: u32, notional: u64, loss: u64) -> Closed {
        Closed { market: MarketId(market), notional: U256::from(notional), loss: U256::from(loss) }
    }

    fn provision(severity: &Severity, market: u32) -> u64 {
        severity.provision([(MarketId(market), U256::from(1_000_000))]).to()
    }

    #[test]
    fn a_market_not_seen_gets_the_pool_and_one_seen_often_its_own_gap() {
        let mut severity = Severity::default();
        assert_eq!(provision(&severity, 1), 0);
        severity.observe(&[closed(1, 1_000_000, 10_000), closed(2, 500_000, 10_000), closed(3, 1_000_000, 90_000)]);
        // Gaps 1 %, 2 %, 9 %: the pool is 2 %, and a market seen once stands halfway to it.
        assert_eq!(provision(&severity, 9), 20_000);
        assert_eq!([1, 2, 3].map(|market| provision(&severity, market)), [15_000, 20_000, 55_000]);
        for _ in 0..30 {
            severity.observe(&[closed(1, 1_000_000, 40_000)]);
        }
        // Own gap 4 %, seen 31 times; the pool is then the median of 4, 2 and 9 %.
        assert_eq!(provision(&severity, 1), 40_000);
        assert!((40_000..42_000).contains(&provision(&severity, 9)));
    }

    #[test]
    fn the_error_is_kept_against_what_was_known_before() {
        let mut severity = Severity::default();
        severity.observe(&[closed(1, 1_000, 10)]);
        severity.observe(&[closed(1, 2_000, 50), closed(2, 1_000, 0)]);
        // Nothing was provided for the first; for the second 1 % of 3,000.
        let error = ForecastError { waves: 2, absolute: U256::from(10 + 20), lost: U256::from(60) };
        assert_eq!(severity.error(), error);
    }

    #[test]
    fn figures_beyond_all_measure_do_not_overflow() {
        let mut severity = Severity::default();
        let wild = [
            Closed { market: MarketId(1), notional: U256::ONE, loss: U256::MAX },
            Closed { market: MarketId(2), notional: U256::ZERO, loss: U256::MAX },
            Closed { market: MarketId(3), notional: U256::MAX, loss: U256::MAX },
        ];
        severity.observe(&wild);
        severity.observe(&wild);
        assert!(severity.provision([(MarketId(1), U256::MAX), (MarketId(3), U256::MAX)]) > U256::ZERO);
    }
}
