//! A lending market of any size, made from a seed: who the benchmark's units are.
//!
//! 64 factors: 40 collaterals (liquidation threshold 80 %) and 24 debts. Legs a unit: 1 to 8, mean 3. One collateral is as
//! common as all others together half: it is what makes 2 % of all units liquidatable when its price falls by 10 %. How far
//! the average price must fall until a unit is liquidatable is lognormal with a median of 30 %: nobody is liquidatable, and
//! few stand right at the edge, as where liquidators are at work.

use backstop::{
    positions::{Leg, LegKind, Unit},
    scanner::{FactorIndex, Factors, Planes, Shape},
    types::{Address, I256, MarketId, SegmentId, U256, UnitKey},
};

pub const FACTORS: usize = 64;
const COLLATERALS: usize = 40;
/// How much more often than any other the common collateral is drawn.
const COMMON: u64 = 16;
const THRESHOLD: f64 = 0.8;
const SEGMENTS: u64 = 8;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn place(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap_or_default()
    }

    /// Uniform in [0, 1).
    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    fn normal(&mut self) -> f64 {
        let (a, b) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}

/// The factors at the start.
pub fn factors() -> Factors {
    let equity: Vec<f64> = (0..FACTORS).map(|factor| 700.0 + 10.0 * factor as f64).collect();
    let haircut = |(factor, value): (usize, &f64)| if factor < COLLATERALS { value * THRESHOLD } else { *value };
    let maintenance = equity.iter().enumerate().map(haircut).collect();
    Factors { names: Vec::new(), equity, maintenance }
}

/// Moves one factor by a share of itself.
pub fn move_factor(factors: &mut Factors, factor: usize, share: f64) {
    factors.equity[factor] *= 1.0 + share;
    factors.maintenance[factor] *= 1.0 + share;
}

/// Keys in no order.
pub fn key(id: u64) -> UnitKey {
    let mut bytes = [0u8; 24];
    bytes[..8].copy_from_slice(&id.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    bytes[16..].copy_from_slice(&id.to_be_bytes());
    UnitKey::new(bytes.to_vec()).expect("24 bytes are a key")
}

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

/// A unit as the position cache holds it, at these prices.
pub fn unit(factors: &Factors, dice: &mut Dice) -> Unit {
    let count = legs(dice);
    let owner = Address::from_word(U256::from(dice.next()).into());
    let mut unit = Unit::new(SegmentId(u32::try_from(dice.below(SEGMENTS)).unwrap_or_default()), owner);
    let mut pledged = 0.0;
    while unit.legs.len() < count.div_ceil(2) {
        let drawn = usize::try_from(dice.below(COLLATERALS as u64 + COMMON)).unwrap_or_default();
        let factor = drawn.saturating_sub(usize::try_from(COMMON).unwrap_or_default());
        let quantity = (1e3 + 1e6 * dice.uniform()).floor();
        if unit.leg(market(factor), LegKind::Collateral).is_none() {
            pledged += quantity * factors.maintenance[factor];
            unit.set_leg(leg(factor, LegKind::Collateral, quantity));
        }
    }
    let debts = count - unit.legs.len();
    let distance = (0.3 * dice.normal().exp()).min(0.97);
    while unit.legs.len() < count {
        let factor = COLLATERALS + dice.place(FACTORS - COLLATERALS);
        if unit.leg(market(factor), LegKind::Debt).is_none() {
            let owed = pledged * (1.0 - distance) / debts as f64;
            unit.set_leg(leg(factor, LegKind::Debt, (owed / factors.equity[factor]).floor()));
        }
    }
    unit
}

fn market(factor: usize) -> MarketId {
    MarketId(u32::try_from(factor).unwrap_or_default())
}

fn leg(factor: usize, kind: LegKind, quantity: f64) -> Leg {
    let quantity = I256::try_from(quantity as i128).expect("a modest amount");
    Leg { market: market(factor), kind, quantity, quote: I256::ZERO }
}

/// What an adapter would say of the unit.
pub fn shape(unit: &Unit) -> Shape {
    let holding = |leg: &Leg| {
        let magnitude = f64::from(leg.quantity.unsigned_abs());
        (FactorIndex(leg.market.0), if leg.kind == LegKind::Debt { -magnitude } else { magnitude })
    };
    Shape::linear(Planes { constant: 0.0, holdings: unit.legs.iter().map(holding).collect(), rounding: 4.0 })
}
