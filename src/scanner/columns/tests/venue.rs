//! A venue in exact integers: what the store's floats are held against.

use alloy::primitives::{Address, I256};

use crate::{
    positions::{Book, Draft, Leg, LegKind, Unit},
    scanner::{FactorIndex, Factors, Planes, Shape},
    types::{MarketId, SegmentId, UnitKey},
};

pub(super) const MARKETS: usize = 64;
/// Health factor below which a unit is at risk.
pub(super) const AT_RISK_BPS: u32 = 12_000;

/// A small deterministic generator (xorshift64*), so that a failure has a seed.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// 1 to 10³⁰, every order of magnitude as likely.
    pub(super) fn magnitude(&mut self) -> i128 {
        let power = 10i128.pow(u32::try_from(self.below(31)).unwrap());
        let lead = i128::from(self.below(1_000)) + 1;
        (power.saturating_mul(lead) / 7 + lead).clamp(1, 10i128.pow(30))
    }
}

pub(super) fn i(x: i128) -> I256 {
    I256::try_from(x).unwrap()
}

/// Correctly rounded: the leading bits of the magnitude, to nearest.
pub(super) fn float(x: I256) -> f64 {
    let magnitude = f64::from(x.unsigned_abs());
    if x.is_negative() { -magnitude } else { magnitude }
}

/// Prices and maintenance margins; two factors a market, for longs and for shorts, as a perpetual venue has them.
pub(super) struct Venue {
    pub(super) prices: Vec<I256>,
    pub(super) margin_bps: Vec<i128>,
}

/// A unit's exact planes, times 10⁴.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exact {
    pub(super) equity: I256,
    pub(super) surplus: I256,
}

impl Exact {
    pub(super) fn watch(&self) -> I256 {
        i(i128::from(AT_RISK_BPS)) * self.surplus - i(i128::from(AT_RISK_BPS) - 10_000) * self.equity
    }
}

impl Venue {
    pub(super) fn new(dice: &mut Dice) -> Self {
        let prices = (0..MARKETS).map(|_| i(dice.magnitude())).collect();
        let margin_bps = (0..MARKETS).map(|_| i128::from(dice.below(5_000)) + 1).collect();
        Self { prices, margin_bps }
    }

    pub(super) fn factors(&self) -> Factors {
        let mut factors = Factors::default();
        for (price, margin) in self.prices.iter().zip(&self.margin_bps) {
            for sign in [-1, 1] {
                factors.equity.push(float(*price));
                factors.maintenance.push(float(*price * i(10_000 + sign * margin)) / 10_000.0);
            }
        }
        factors
    }

    pub(super) fn exact(&self, unit: &Unit) -> Exact {
        let mut exact = Exact { equity: unit.cash * i(10_000), surplus: unit.cash * i(10_000) };
        for leg in &unit.legs {
            let market = leg.market.0 as usize;
            let value = leg.quantity * self.prices[market];
            exact.equity += value * i(10_000);
            exact.surplus += value * i(10_000) - value.abs() * i(self.margin_bps[market]);
        }
        exact
    }

    /// The price of a leg's market, up to a token unit, at which the unit's watch plane, surplus or equity is zero while
    /// everything else stands still.
    pub(super) fn threshold(&self, unit: &Unit, leg: &Leg, plane: u64) -> I256 {
        let market = leg.market.0 as usize;
        let exact = self.exact(unit);
        let side = if leg.quantity.is_negative() { i(1) } else { i(-1) };
        let margin = i(10_000) + side * i(self.margin_bps[market]);
        let t = i(i128::from(AT_RISK_BPS));
        let (value, weight) = match plane {
            0 => (exact.watch(), t * margin - (t - i(10_000)) * i(10_000)),
            1 => (exact.surplus, margin),
            _ => (exact.equity, i(10_000)),
        };
        let slope = leg.quantity * weight;
        if slope.is_zero() { self.prices[market] } else { self.prices[market] - value / slope }
    }
}

pub(super) fn shape(unit: &Unit) -> Shape {
    let holding = |leg: &Leg| {
        let side = u32::from(leg.quantity.is_negative());
        (FactorIndex(2 * leg.market.0 + side), float(leg.quantity))
    };
    let holdings = unit.legs.iter().map(holding).collect();
    Shape::linear(Planes { constant: float(unit.cash), holdings, rounding: 0.0 })
}

pub(super) fn key(id: u64) -> UnitKey {
    UnitKey::new(id.to_be_bytes().to_vec()).unwrap()
}

/// A unit of up to 64 legs whose cash puts it within a few token units of one of its thresholds, or anywhere.
pub(super) fn random_unit(venue: &Venue, dice: &mut Dice) -> Unit {
    let mut unit = Unit::new(SegmentId(0), Address::ZERO);
    let most = if dice.one_in(20) { 64 } else { 6 };
    for _ in 0..dice.below(most) + 1 {
        let quantity = i(dice.magnitude()) * i(if dice.one_in(2) { 1 } else { -1 });
        let market = MarketId(u32::try_from(dice.below(MARKETS as u64)).unwrap());
        unit.set_leg(Leg { market, kind: LegKind::Perp, quantity, quote: I256::ZERO });
    }
    let bare = venue.exact(&unit);
    let margin = (bare.equity - bare.surplus) / i(10_000);
    let offset = i(i128::from(dice.below(7)) - 3);
    let share = i(i128::from(dice.below(2_000)));
    unit.cash = -bare.equity / i(10_000)
        + match dice.below(8) {
            0 => offset,
            1 => margin + offset,
            2 => margin * i(12) / i(10) + offset,
            3 => margin * i(12) / i(10) + margin * share / i(100_000),
            _ => margin * i(12) / i(10) + margin * share / i(100),
        };
    unit
}

/// Changes a few units: some come, some go, some trade.
pub(super) fn trade(book: &Book, venue: &Venue, dice: &mut Dice, units: u64) -> crate::positions::Delta {
    let mut draft = Draft::new(book);
    for _ in 0..dice.below(12) {
        let unit = (!dice.one_in(6)).then(|| random_unit(venue, dice));
        draft.set_unit(key(dice.below(units)), unit);
    }
    draft.finish()
}
