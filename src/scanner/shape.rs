//! What an adapter says of units that planes alone do not describe.
//!
//! | what | how it is said | what the screen does |
//! |---|---|---|
//! | tiered margin, capped impact | several [`Facet`]s: the unit is the least of them | a row for each |
//! | a leg that bends (an option, a price impact) | a [`Curve`] on a facet, within [`Bounds`] | the tangent less the most the curve can fall below it |
//! | anything else | no facet at all, [`Bounds`] | judged exactly once, and again when a factor leaves its bounds |
//!
//! Must not: value anything.

use super::{FactorIndex, Planes};

/// A unit's valuation for the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Surplus and equity are the least over these; none: the unit is opaque and judged exactly.
    pub facets: Vec<Facet>,
    /// Where the facets hold, or an opaque unit's last judgement: while every factor named here is within its bounds, and
    /// wherever the others are. The adapter is asked again once one is not.
    pub bounds: Vec<Bounds>,
}

/// One branch of a valuation that is the least of several.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facet {
    /// Its linear part: for a facet with curves, tangent to them at [`Curve::at`].
    pub planes: Planes,
    /// What the maintenance plane's constant is above the equity plane's, settlement-token units: the offset of a margin
    /// tier.
    pub maintenance_offset: f64,
    /// What bends.
    pub curves: Vec<Curve>,
}

/// A leg's second order: `½ · second derivative · (factor − at)²`, on either plane, over the equity value of the factor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    /// Which factor bends the unit. It must have [`Bounds`].
    pub factor: FactorIndex,
    /// The factor's equity value at which the facet's planes are tangent.
    pub at: f64,
    /// Second derivative of equity by the factor's equity value; below zero for who is short an option.
    pub equity: f64,
    /// The same of surplus.
    pub maintenance: f64,
    /// How far the true value can be from this second order within the bounds, settlement-token units; ≥ 0.
    pub remainder: f64,
}

/// The range of one factor's equity value, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Whose value.
    pub factor: FactorIndex,
    /// Lowest.
    pub low: f64,
    /// Highest.
    pub high: f64,
}

impl Bounds {
    /// `value` and this share of it to either side.
    pub fn around(factor: FactorIndex, value: f64, share: f64) -> Self {
        let reach = (value * share).abs();
        Self { factor, low: value - reach, high: value + reach }
    }
}

impl Shape {
    /// A linear unit: one facet without curves, good everywhere.
    pub fn linear(planes: Planes) -> Self {
        Self { facets: vec![Facet { planes, ..Facet::default() }], bounds: Vec::new() }
    }

    /// Its facet, if it is a linear unit.
    pub(super) fn as_linear(&self) -> Option<&Facet> {
        match self.facets.as_slice() {
            [facet] if facet.curves.is_empty() && self.bounds.is_empty() => Some(facet),
            _ => None,
        }
    }

    /// A unit that is judged exactly, once and whenever a factor has left its bounds.
    pub fn opaque(bounds: Vec<Bounds>) -> Self {
        Self { facets: Vec::new(), bounds }
    }

    /// The most that a facet's curves can lower either plane below its tangent within the bounds; NaN without bounds.
    pub(super) fn sag(&self, facet: &Facet) -> f64 {
        let reach = |curve: &Curve| {
            let bounds = self.bounds.iter().find(|bounds| bounds.factor == curve.factor);
            bounds.map_or(f64::NAN, |b| (b.high - curve.at).abs().max((curve.at - b.low).abs()))
        };
        let of = |curve: &Curve| {
            let bend = (-curve.equity).max(-curve.maintenance).max(0.0);
            // four roundings of products that are all of one sign
            (0.5 * bend * reach(curve).powi(2) + curve.remainder) * (1.0 + 4.0 * f64::EPSILON)
        };
        facet.curves.iter().map(of).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_sags_by_its_bend_at_the_further_bound_and_not_at_all_where_it_bends_up() {
        let curve = |equity| Curve { factor: FactorIndex(3), at: 100.0, equity, maintenance: equity, remainder: 0.5 };
        let bounds = vec![Bounds { factor: FactorIndex(3), low: 90.0, high: 104.0 }];
        let shape =
            |curves: Vec<Curve>| Shape { facets: vec![Facet { curves, ..Facet::default() }], bounds: bounds.clone() };
        let short = shape(vec![curve(-2.0)]);
        assert!((short.sag(&short.facets[0]) - 100.5).abs() < 1e-9);
        let long = shape(vec![curve(2.0)]);
        assert!((long.sag(&long.facets[0]) - 0.5).abs() < 1e-9);
        let unbounded = Shape { bounds: Vec::new(), ..short };
        assert!(unbounded.sag(&unbounded.facets[0]).is_nan());
    }
}
