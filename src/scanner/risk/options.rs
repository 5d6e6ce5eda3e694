//! European options on a forward: value, Greeks, and what the screen keeps of one.
//!
//! F. Black, *The pricing of commodity contracts*, Journal of Financial Economics 3 (1976). With v = σ√T and
//! d₁ = ln(F/K)/v + v/2, d₂ = d₁ − v and discount D = e^(−rT): call = D·(F·N(d₁) − K·N(d₂)), put = call − D·(F − K), delta = D·N(d₁)
//! (a put's is less by D), gamma = D·φ(d₁)/(F·v), vega = D·F·φ(d₁)·√T, and gamma's own slope in F ("speed") is
//! −gamma/F · (d₁/v + 1).
//!
//! Must not: decide anything; the protocol's own value does.

use statrs::distribution::{Continuous, ContinuousCDF, Normal};

use crate::scanner::{Bounds, Curve, Facet, FactorIndex, Planes};

/// One option, per unit of the underlying. Money in settlement-token units, time in years.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EuropeanOption {
    /// A call, or a put.
    pub is_call: bool,
    /// > 0.
    pub strike: f64,
    /// Until it expires, > 0.
    pub years: f64,
    /// Of the forward, per √year, > 0.
    pub volatility: f64,
    /// Continuously compounded, per year.
    pub rate: f64,
}

impl EuropeanOption {
    fn spread(&self) -> f64 {
        self.volatility * self.years.sqrt()
    }

    fn d1(&self, forward: f64) -> f64 {
        (forward / self.strike).ln() / self.spread() + self.spread() / 2.0
    }

    fn discount(&self) -> f64 {
        (-self.rate * self.years).exp()
    }

    /// What it is worth at this forward, > 0.
    pub fn value(&self, forward: f64) -> f64 {
        let (normal, d1) = (Normal::standard(), self.d1(forward));
        let sign = if self.is_call { 1.0 } else { -1.0 };
        let (of_forward, of_strike) = (normal.cdf(sign * d1), normal.cdf(sign * (d1 - self.spread())));
        self.discount() * sign * (forward * of_forward - self.strike * of_strike)
    }

    /// By how much its value rises when the forward does, per unit.
    pub fn delta(&self, forward: f64) -> f64 {
        let call = Normal::standard().cdf(self.d1(forward));
        self.discount() * if self.is_call { call } else { call - 1.0 }
    }

    /// By how much its delta rises when the forward does, per unit.
    pub fn gamma(&self, forward: f64) -> f64 {
        self.discount() * Normal::standard().pdf(self.d1(forward)) / (forward * self.spread())
    }

    /// By how much its value rises when the volatility does, per 1.
    pub fn vega(&self, forward: f64) -> f64 {
        self.discount() * forward * Normal::standard().pdf(self.d1(forward)) * self.years.sqrt()
    }

    /// The most that gamma changes per unit of the forward within this range, 0 < low ≤ high.
    fn speed_max(&self, low: f64, high: f64) -> f64 {
        let (from, to, spread) = (self.d1(low), self.d1(high), self.spread());
        // the density is largest where d₁ is nearest to zero
        let nearest = if from <= 0.0 && to >= 0.0 { 0.0 } else { from.abs().min(to.abs()) };
        let gamma_max = self.discount() * Normal::standard().pdf(nearest) / (low * spread);
        gamma_max / low * (from.abs().max(to.abs()) / spread + 1.0)
    }

    /// What the screen keeps of so many of them (below zero: written) while the forward, which is a factor's equity value,
    /// stays within `share` of itself, 0 ≤ share < 1: the tangent, the curve, and Taylor's bound on what both leave out, the
    /// third derivative's largest magnitude times the cube of the reach by six. The facet is to be added to the unit's own.
    pub fn facet(&self, factor: FactorIndex, quantity: f64, forward: f64, share: f64) -> (Facet, Bounds) {
        let bounds = Bounds::around(factor, forward, share);
        let (delta, gamma) = (quantity * self.delta(forward), quantity * self.gamma(forward));
        let reach = forward * share;
        let remainder = quantity.abs() * self.speed_max(bounds.low, bounds.high) * reach.powi(3) / 6.0;
        let constant = quantity * self.value(forward) - delta * forward;
        let planes = Planes { constant, holdings: vec![(factor, delta)], rounding: 0.0 };
        let curve = Curve { factor, at: forward, equity: gamma, maintenance: gamma, remainder };
        (Facet { planes, maintenance_offset: 0.0, curves: vec![curve] }, bounds)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn option(is_call: bool, strike: f64, years: f64, volatility: f64, rate: f64) -> EuropeanOption {
        EuropeanOption { is_call, strike, years, volatility, rate }
    }

    #[test]
    fn values_are_the_published_ones() {
        // E. G. Haug, The Complete Guide to Option Pricing Formulas, Black-76: both are worth 1.7011
        for is_call in [true, false] {
            let value = option(is_call, 19.0, 0.75, 0.28, 0.10).value(19.0);
            assert!((value - 1.7011).abs() < 1e-4, "{value}");
        }
        // J. C. Hull, Options, Futures and Other Derivatives, a put on a futures contract: 1.12
        let value = option(false, 20.0, 4.0 / 12.0, 0.25, 0.09).value(20.0);
        assert!((value - 1.12).abs() < 5e-3, "{value}");
    }

    #[test]
    fn the_value_is_the_mean_of_simulated_payments() {
        let option = option(true, 105.0, 0.5, 0.6, 0.02);
        let mut dice = crate::scanner::tests::dice::Dice(76);
        let runs = 400_000;
        let (spread, mut sum) = (option.spread(), 0.0);
        for _ in 0..runs {
            let end = 100.0 * (spread * dice.normal() - spread * spread / 2.0).exp();
            sum += (end - option.strike).max(0.0);
        }
        let mean = option.discount() * sum / f64::from(runs);
        assert!((mean / option.value(100.0) - 1.0).abs() < 0.01, "{mean} and {}", option.value(100.0));
    }

    fn options() -> impl Strategy<Value = (EuropeanOption, f64)> {
        (any::<bool>(), 0.2..5.0f64, 0.02..2.0f64, 0.1..2.0f64, 0.0..0.1f64).prop_map(
            |(is_call, moneyness, years, volatility, rate)| {
                (option(is_call, 1_000.0 * moneyness, years, volatility, rate), 1_000.0)
            },
        )
    }

    proptest! {
        #[test]
        fn greeks_are_finite_differences((option, forward) in options()) {
            let step = forward * 1e-4;
            let around = [forward - step, forward, forward + step].map(|at| option.value(at));
            let delta = (around[2] - around[0]) / (2.0 * step);
            prop_assert!((delta - option.delta(forward)).abs() < 1e-4, "{delta}");
            let gamma = (option.delta(forward + step) - option.delta(forward - step)) / (2.0 * step);
            prop_assert!((gamma - option.gamma(forward)).abs() <= 1e-3 * option.gamma(forward) + 1e-9, "{gamma}");
            let more = EuropeanOption { volatility: option.volatility + 1e-5, ..option };
            let vega = (more.value(forward) - option.value(forward)) / 1e-5;
            prop_assert!((vega - option.vega(forward)).abs() <= 1e-2 * option.vega(forward) + 1e-2, "{vega}");
        }

        #[test]
        fn tangent_and_curve_are_as_near_as_they_say(
            (option, forward) in options(), quantity in -1e3..1e3f64, share in 0.0..0.3f64, moved in -1.0..1.0f64,
        ) {
            let (facet, bounds) = option.facet(FactorIndex(0), quantity, forward, share);
            let now = forward * (1.0 + share * moved);
            prop_assert!(bounds.low <= now && now <= bounds.high);
            let [curve] = facet.curves[..] else { panic!("one curve") };
            let kept = facet.planes.constant + facet.planes.holdings[0].1 * now + 0.5 * curve.equity * (now - curve.at).powi(2);
            let exact = quantity * option.value(now);
            prop_assert!((kept - exact).abs() <= curve.remainder + 1e-6 * quantity.abs(), "{kept}, {exact}, {curve:?}");
        }
    }
}
