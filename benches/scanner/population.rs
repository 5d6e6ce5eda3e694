//! A lending market of any size, made from a seed: who the benchmark's units are.
//!
//! 64 factors: 40 collaterals (liquidation threshold 80 %) and 24 debts. Legs a unit: 1 to 8, mean 3. The first collateral
//! is held five times as often as any other. How far the average price must fall until a unit is liquidatable is lognormal
//! with a median of 30 %, so that few stand right at the edge, as where liquidators are at work.

use backstop::{
    positions::{Leg, LegKind, Unit},
    scanner::{FactorIndex, Factors, Planes, Shape},
    types::{Address, I256, MarketId, SegmentId, UnitKey},
};

pub(crate) const FACTORS: usize = 64;
pub(crate) const COLLATERALS: usize = 40;
pub(crate) const THRESHOLD: f64 = 0.8;
pub(crate) const AT_RISK_BPS: u32 = 11_000;
pub(crate) const SEGMENTS: u64 = 8;

/// xorshift64*.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Uniform in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// The factors at the start: every price one thousand units a holding, more or less.
pub(crate) fn factors() -> Factors {
    let price = |factor: usize| 700.0 + 10.0 * factor as f64;
    let equity: Vec<f64> = (0..FACTORS).map(price).collect();
    let maintenance = equity.iter().enumerate().map(|(f, v)| if f < COLLATERALS { v * THRESHOLD } else { *v }).collect();
    Factors { names: (0..FACTORS).map(|f| format!("factor {f}")).collect(), equity, maintenance }
}

/// The factors with one of them moved by a share of itself.
pub(crate) fn moved(factors: &Factors, factor: usize, share: f64) -> Factors {
    let mut moved = factors.clone();
    moved.equity[factor] *= 1.0 + share;
    moved.maintenance[factor] *= 1.0 + share;
    moved
}

pub(crate) fn key(id: u64) -> UnitKey {
    let mut bytes = [0u8; 24];
    bytes[..8].copy_from_slice(&id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[16..].copy_from_slice(&id.to_be_bytes());
    UnitKey::new(bytes.to_vec()).expect("24 bytes are a key")
}

/// How many legs: mean 3.
fn legs(dice: &mut Dice) -> usize {
    match dice.below(100) {
        0..15 => 1,
        15..45 => 2,
        45..70 => 3,
        70..85 => 4,
        85..93 => 5,
        93..97 => 6,
        _ => 8,
    }
}

fn collateral(dice: &mut Dice) -> usize {
    let pick = usize::try_from(dice.below(COLLATERALS as u64 + 4)).expect("a small number");
    pick.saturating_sub(4)
}

fn debt(dice: &mut Dice) -> usize {
    COLLATERALS + usize::try_from(dice.below((FACTORS - COLLATERALS) as u64)).expect("a small number")
}

/// A unit as the position cache holds it, at these prices.
pub(crate) fn unit(factors: &Factors, dice: &mut Dice) -> Unit {
    let count = legs(dice);
    let collaterals = count.div_ceil(2);
    let mut unit = Unit::new(segment(dice), Address::from_word(dice.next().into_word()));
    let mut pledged = 0.0;
    for _ in 0..collaterals {
        let (factor, quantity) = (collateral(dice), 1.0 + 1e6 * dice.unit());
        pledged += quantity.floor() * factors.maintenance[factor];
        unit.set_leg(leg(factor, quantity));
    }
    let distance = (0.3 * dice.normal().exp()).min(0.97);
    for _ in collaterals..count {
        let factor = debt(dice);
        let owed = pledged * (1.0 - distance) / (count - collaterals) as f64;
        unit.set_leg(leg(factor, -(owed / factors.equity[factor])));
    }
    unit
}

fn segment(dice: &mut Dice) -> SegmentId {
    SegmentId(u32::try_from(dice.below(SEGMENTS)).expect("few"))
}

fn leg(factor: usize, quantity: f64) -> Leg {
    let kind = if quantity < 0.0 { LegKind::Debt } else { LegKind::Collateral };
    let market = MarketId(u32::try_from(factor).expect("few factors"));
    let quantity = I256::try_from(quantity.abs() as i128).expect("a modest amount");
    Leg { market, kind, quantity, quote: I256::ZERO }
}

/// What an adapter would say of the unit.
pub(crate) fn shape(unit: &Unit) -> Shape {
    let holding = |leg: &Leg| {
        let magnitude = f64::from(leg.quantity.unsigned_abs());
        (FactorIndex(leg.market.0), if leg.kind == LegKind::Debt { -magnitude } else { magnitude })
    };
    Shape::linear(Planes { constant: 0.0, holdings: unit.legs.iter().map(holding).collect(), rounding: 4.0 })
}

trait IntoWord {
    fn into_word(self) -> backstop::types::B256;
}

impl IntoWord for u64 {
    fn into_word(self) -> backstop::types::B256 {
        backstop::types::U256::from(self).into()
    }
}
