//! The fast half of a scan: which units are certainly healthy, decided in f64 with a proven error bound.
//!
//! Invariants: a unit that is called clear is, in exact arithmetic, neither bankrupt nor liquidatable nor at risk;
//! anything that cannot be decided (a sign within the error bound, an overflow, a NaN, a factor that does not exist) is
//! raised. Must not: decide anything but "look at it exactly".
//!
//! # The error bound
//!
//! Let u = 2⁻⁵³ and let a plane be S = c + Σ qₖ·fₖ over n legs, exact. By the contract of [`Planes`] and [`Factors`]
//! every number handed over is the exact one times (1 + δ) with |δ| ≤ 4u. Then each computed term is the exact term
//! times at most (1 + 4u)²(1 + u), since one product is rounded, and n additions multiply every term by at most
//! (1 + u)ⁿ more. With N = n + 10 and γ = N·u / (1 − N·u) (Higham, *Accuracy and Stability of Numerical Algorithms*,
//! lemma 3.1) therefore
//!
//! ```text
//! |Ŝ − S| ≤ γ·A,      A = |c| + Σ |qₖ·fₖ|,      Â ≥ (1 − γ)·A   for its computed value,
//! |Ŝ − S| ≤ γ / (1 − γ) · Â ≤ 2·N·u·Â           as long as N·u ≤ 1/8, far beyond any count of legs.
//! ```
//!
//! The true factor is below 1.01·N·u for any n under 2⁴⁰, so 2·N·u also covers the rounding of the bound itself. Products that underflow add
//! at most 2⁻¹⁰⁷⁴ each, covered by a smallest normal number. What integer rounding in the protocol adds is the adapter's
//! `rounding`.

use super::{Factors, Planes};

/// Unit roundoff of f64.
const UNIT_ROUNDOFF: f64 = f64::EPSILON / 2.0;

/// Roundings of one term apart from the additions: four for each of its two factors, one for their product, one spare.
const ROUNDINGS_PER_TERM: f64 = 10.0;

const BPS: f64 = 10_000.0;

/// A plane's value and the most by which the exact one can differ.
#[derive(Clone, Copy, Debug)]
struct Enclosure {
    value: f64,
    error: f64,
}

/// Whether the unit is certainly healthy: no bankruptcy, no liquidation, and a health factor of at least
/// `at_risk_health_factor_bps`.
///
/// With maintenance margin M = E − S, a health factor of at least T means 10⁴·E ≥ T·M, that is T·S ≥ (T − 10⁴)·E; both
/// sides are taken at the unfavourable end of their enclosures, with room for the four roundings of the comparison.
pub(super) fn is_clear(factors: &Factors, planes: &Planes, at_risk_health_factor_bps: u32) -> bool {
    let equity = enclose(&factors.equity, planes);
    let surplus = enclose(&factors.maintenance, planes);
    let (Some(equity), Some(surplus)) = (equity, surplus) else { return false };

    let solvent = equity.value - equity.error >= 0.0;
    let unliquidatable = surplus.value - surplus.error >= 0.0;
    let threshold_bps = f64::from(at_risk_health_factor_bps);
    let kept = threshold_bps * (surplus.value - surplus.error);
    let needed = (threshold_bps - BPS).max(0.0) * (equity.value + equity.error);
    let slack = 8.0 * UNIT_ROUNDOFF * (kept.abs() + needed.abs());
    let safe = kept - needed - slack >= 0.0;
    solvent && unliquidatable && safe
}

/// The plane over these factors, `None` where it is not a finite number.
fn enclose(factors: &[f64], planes: &Planes) -> Option<Enclosure> {
    let mut value = planes.constant;
    let mut magnitude = planes.constant.abs();
    for &(index, quantity) in &planes.holdings {
        let term = quantity * factors.get(usize::try_from(index.0).ok()?)?;
        value += term;
        magnitude += term.abs();
    }
    // An exact zero has no relative error: a plane of nothing is healthy, not in doubt.
    let floating = if magnitude == 0.0 && planes.holdings.is_empty() {
        0.0
    } else {
        #[expect(clippy::cast_precision_loss, reason = "a count of legs is far below 2^53")]
        let roundings = planes.holdings.len() as f64 + ROUNDINGS_PER_TERM;
        2.0 * roundings * UNIT_ROUNDOFF * magnitude + f64::MIN_POSITIVE
    };
    let error = (floating + planes.rounding) * (1.0 + 4.0 * UNIT_ROUNDOFF);
    let usable = value.is_finite() && error.is_finite() && planes.rounding >= 0.0;
    usable.then_some(Enclosure { value, error })
}
