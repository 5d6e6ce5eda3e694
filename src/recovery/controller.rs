//! The controller that moves risk parameters: where they should be, and how far one step may go.
//!
//! Targets come from what was measured up to now: volatility, utilisation, and how long the fund would last. A step
//! towards a target is bounded by a [`Band`]; a step of a margin is bounded once more by a what-if over all holders.
//!
//! Invariants: a step never exceeds the band's largest step, never comes before its delay and never leaves floor and
//! ceiling from inside; nothing moves within the hysteresis; what was tightened is relaxed only after calm; a margin step
//! tips over at most the configured number of healthy accounts.
//! Must not: read a clock or a price itself, or know how a protocol moves a parameter.

use alloy::primitives::{U256, U512};

use serde::{Deserialize, Serialize};

use super::{Holder, Observation};
use crate::types::math::{mul_div_ceil, mul_div_floor, positive_part};

const BPS: U256 = U256::from_limbs([10_000, 0, 0, 0]);

/// Which way makes a parameter safer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tighter {
    /// Margins, rate slopes.
    Up,
    /// Caps.
    Down,
}

/// How one parameter may move. Floor, ceiling and values are in the parameter's own unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    /// Which way is safer.
    pub tighter: Tighter,
    /// Never below.
    pub floor: U256,
    /// Never above.
    pub ceiling: U256,
    /// Largest step, of the present value; rounded down.
    pub step_bps_max: u32,
    /// Shortest time between two steps.
    pub delay_seconds: u64,
    /// A target nearer than this to the present value, of that value, moves nothing.
    pub hysteresis_bps: u32,
    /// How long the target has to lie on the relaxed side before the parameter follows.
    pub calm_seconds: u64,
}

/// What the controller remembers of one parameter. Unix seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The last step, as the chain has it.
    pub moved_at: Option<u64>,
    /// Since when every target has lain on the relaxed side, beyond the hysteresis; `None` while it does not.
    pub calm_since: Option<u64>,
}

/// What to do with a parameter now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// Move it to this value.
    Move(U256),
    /// It is where it should be, but for the hysteresis or a step below one unit.
    Settled,
    /// Not before this time.
    NotBefore(u64),
}

impl Band {
    /// The next step of a parameter from `present` towards `target`, and the trace with what was seen `now`. The caller
    /// sets `moved_at` once a step is mined.
    pub fn adjust(&self, present: U256, target: U256, trace: Trace, now: u64) -> (Adjustment, Trace) {
        let target = target.max(self.floor).min(self.ceiling);
        let distance = present.abs_diff(target);
        let dead = mul_div_floor(present, U256::from(self.hysteresis_bps), BPS).unwrap_or(U256::MAX);
        let outside = present < self.floor || present > self.ceiling;
        let moves = distance > dead || (outside && !distance.is_zero());
        let tightens = (target > present) == (self.tighter == Tighter::Up);
        let calm_since = if moves && !tightens { Some(trace.calm_since.unwrap_or(now)) } else { None };
        let trace = Trace { calm_since, ..trace };
        if !moves {
            return (Adjustment::Settled, trace);
        }
        let after_delay = trace.moved_at.map_or(0, |at| at.saturating_add(self.delay_seconds));
        let after_calm = calm_since.map_or(0, |since| since.saturating_add(self.calm_seconds));
        let earliest = after_delay.max(after_calm);
        if now < earliest {
            return (Adjustment::NotBefore(earliest), trace);
        }
        let step = mul_div_floor(present, U256::from(self.step_bps_max), BPS).unwrap_or(U256::MAX).min(distance);
        let next = if target > present { present + step } else { present - step };
        (if step.is_zero() { Adjustment::Settled } else { Adjustment::Move(next) }, trace)
    }
}

/// How margins follow what is measured, as configured. What a protocol's own steward allows bounds it further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Controller {
    /// Moves of how many times the volatility the maintenance margin shall cover.
    pub margin_multiple: u32,
    /// Prices in the window over which volatility is measured.
    pub window: u32,
    /// A target nearer than this to the present margin, of that margin, moves nothing.
    pub hysteresis_bps: u32,
    /// How long targets have to lie below the margin before it follows.
    pub calm_seconds: u64,
    /// Below this runway of the fund the target rises, to twice itself at zero.
    pub runway_seconds_min: u64,
    /// Most healthy units that one step may make liquidatable.
    pub tipped_max: u32,
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            margin_multiple: 8,
            window: 6,
            hysteresis_bps: 500,
            calm_seconds: 3_600,
            runway_seconds_min: 3_600,
            tipped_max: 0,
        }
    }
}

impl Controller {
    /// The next step of a maintenance margin from `present`, basis points, given the prices seen up to now, oldest first,
    /// and the fund's runway; `None` where too little was seen. `band` says what the protocol allows. Since when it has
    /// been calm is read off the same prices, so that nothing is remembered between two looks.
    pub fn adjust(
        &self,
        band: &Band,
        present: U256,
        prices: &[Observation],
        runway: Option<u64>,
    ) -> Option<Adjustment> {
        let window = usize::try_from(self.window).ok()?;
        let target = |end: usize, runway: Option<u64>| {
            let seen: Vec<U256> = prices[end.saturating_sub(window)..end].iter().map(|seen| seen.value).collect();
            let measured =
                Measured { volatility_bps: volatility_bps(&seen)?, utilisation_bps: 0, runway_seconds: runway };
            Some(self.rules().margin_target_bps(&measured))
        };
        let now = prices.last()?.at;
        let band = Band { hysteresis_bps: self.hysteresis_bps, calm_seconds: self.calm_seconds, ..*band };
        let mut trace = Trace::default();
        for end in 2..=prices.len() {
            let runway = if end == prices.len() { runway } else { None };
            let (_, seen) = band.adjust(present, target(end, runway)?, trace, prices[end - 1].at);
            trace = seen;
        }
        Some(band.adjust(present, target(prices.len(), runway)?, trace, now).0)
    }

    fn rules(&self) -> Rules {
        Rules {
            margin_multiple: self.margin_multiple,
            runway_seconds_min: self.runway_seconds_min,
            utilisation_optimal_bps: 10_000,
            slope_base: U256::ZERO,
            slope_full: U256::ZERO,
        }
    }
}

/// What was seen over the last window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Root mean square of the price's relative moves from one observation to the next, basis points.
    pub volatility_bps: U256,
    /// Use of what is there (borrowed of lent, open interest of its cap), basis points.
    pub utilisation_bps: u32,
    /// How long the fund lasts at the window's rate of payments; `None` when it paid nothing.
    pub runway_seconds: Option<u64>,
}

/// How targets follow from what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Moves of how many times the volatility the maintenance margin shall cover.
    pub margin_multiple: u32,
    /// Below this runway the margin target rises, to twice itself at zero.
    pub runway_seconds_min: u64,
    /// Utilisation from which the rate slope rises; below 10 000.
    pub utilisation_optimal_bps: u32,
    /// The rate slope up to there.
    pub slope_base: U256,
    /// The rate slope at full utilisation.
    pub slope_full: U256,
}

/// Root mean square of the relative moves between neighbouring prices, basis points, rounded up; each move is rounded
/// down to 10⁻⁴ basis points. `None` with fewer than two prices, a price of zero or one of 2¹²⁸ or more.
pub fn volatility_bps(prices: &[U256]) -> Option<U256> {
    const SCALE: u64 = 10_000;
    if prices.len() < 2 || prices.iter().any(|p| p.is_zero() || p.bit_len() > 128) {
        return None;
    }
    let mut squares = U512::ZERO;
    for pair in prices.windows(2) {
        let moved = mul_div_floor(pair[0].abs_diff(pair[1]), BPS * U256::from(SCALE), pair[0])?;
        squares += moved.widening_mul::<256, 4, 512, 8>(moved);
    }
    let root = (squares / U512::from(prices.len() - 1)).root(2);
    U256::checked_from_limbs_slice(root.as_limbs()).map(|root| root.div_ceil(U256::from(SCALE)))
}

/// How long `spendable` lasts when `paid` went out over the last `window_seconds`, rounded down.
pub fn runway_seconds(spendable: U256, paid: U256, window_seconds: u64) -> Option<u64> {
    mul_div_floor(spendable, U256::from(window_seconds), paid).map(|s| u64::try_from(s).unwrap_or(u64::MAX))
}

impl Rules {
    /// The maintenance margin that covers `margin_multiple` times the volatility, more when the fund is running out;
    /// basis points, rounded up.
    pub fn margin_target_bps(&self, seen: &Measured) -> U256 {
        let base = seen.volatility_bps.saturating_mul(U256::from(self.margin_multiple));
        let runway = seen.runway_seconds.unwrap_or(u64::MAX).min(self.runway_seconds_min);
        let missing = U256::from(self.runway_seconds_min - runway);
        let extra = mul_div_ceil(base, missing, U256::from(self.runway_seconds_min)).unwrap_or(U256::ZERO);
        base.saturating_add(extra)
    }

    /// The rate slope: the base up to the optimal utilisation, from there in a straight line to the full one; rounded up.
    pub fn slope_target(&self, seen: &Measured) -> U256 {
        let above = seen.utilisation_bps.min(10_000).saturating_sub(self.utilisation_optimal_bps);
        let range = 10_000u32.saturating_sub(self.utilisation_optimal_bps);
        let rise = self.slope_full.saturating_sub(self.slope_base);
        let extra = mul_div_ceil(rise, U256::from(above), U256::from(range)).unwrap_or(U256::ZERO);
        self.slope_base.saturating_add(extra)
    }

    /// The notional whose loss beyond a margin of `maintenance_margin_bps`, in a move that the margin target would cover,
    /// the fund can pay; rounded down. `None` where the margin covers that move itself, so that no cap is needed.
    pub fn cap_target(&self, seen: &Measured, maintenance_margin_bps: u32, spendable: U256) -> Option<U256> {
        let uncovered = self.margin_target_bps(seen).checked_sub(U256::from(maintenance_margin_bps))?;
        mul_div_floor(spendable, BPS, uncovered)
    }
}

/// How many healthy holders a margin of `to_bps` instead of `from_bps` would make liquidatable. Requirements are
/// ceil(lots · price · bps / 10⁴); one that does not fit counts as tipping.
pub fn tipped_over<'h>(
    holders: impl IntoIterator<Item = &'h Holder>,
    price: U256,
    from_bps: u32,
    to_bps: u32,
) -> usize {
    let tips = |holder: &Holder| {
        let require = |bps: u32| mul_div_ceil(holder.lots.checked_mul(price)?, U256::from(bps), BPS);
        let more = require(to_bps).zip(require(from_bps)).map(|(to, from)| to.saturating_sub(from));
        !holder.surplus.is_negative() && more.is_none_or(|more| more > positive_part(holder.surplus))
    };
    holders.into_iter().filter(|holder| tips(holder)).count()
}

/// The highest margin between `from_bps` and `to_bps` that tips over at most `tipped_max` healthy holders. A lower margin
/// tips nobody and is returned as it is.
pub fn harmless_margin_bps(holders: &[&Holder], price: U256, from_bps: u32, to_bps: u32, tipped_max: usize) -> u32 {
    if to_bps <= from_bps {
        return to_bps;
    }
    let harmless = |bps: u32| tipped_over(holders.iter().copied(), price, from_bps, bps) <= tipped_max;
    // More margin never tips fewer: the largest harmless one is found by halving.
    let (mut low, mut high) = (from_bps, to_bps);
    while low < high {
        let middle = high - (high - low) / 2;
        if harmless(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    low
}

#[cfg(test)]
mod tests;
