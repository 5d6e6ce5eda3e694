//! Interest to the second, in the contracts' own integers and roundings.
//!
//! `Morpho._accrueInterest`, with r the mean rate since the last update, n the seconds since and all figures × 1e18:
//!
//! ```text
//! growth    = rn + ⌊(rn)² / 2e18⌋ + ⌊⌊(rn)² / 2e18⌋ · rn / 3e18⌋          three terms of e^rn − 1
//! interest  = ⌊borrow assets · growth / 1e18⌋                            added to debt and supply
//! fee       = ⌊interest · fee / 1e18⌋                                    paid in new supply shares, rounded down
//! ```
//!
//! `AdaptiveCurveIrm._borrowRate`, every division truncated toward zero, with u the utilisation:
//!
//! ```text
//! err       = (u − 0.9) / (u > 0.9 ? 0.1 : 0.9)                          in [−1, 1]
//! end       = start · exp(50/year · err · n)      mid: half of that exponent; both within 0.1 % and 200 % a year
//! at target = (start + end + 2 · mid) / 4                                the trapezoidal mean
//! rate      = (c · err + 1) · at target           c = 3 above the target, 0.75 below
//! ```
//!
//! Invariants: every result equals the contract's to the last unit; `None` is where its checked arithmetic reverts.
//! Must not: use floating point.

use super::{
    fixed::{Pool, WAD, mul_div_down, uint128},
    state::Totals,
};
use crate::types::{I256, U256};

const WAD_INT: i128 = 1_000_000_000_000_000_000;
const YEAR_SECONDS: i128 = 365 * 86_400;
/// ConstantsLib of the rate model; the quotients are truncated as the compiler does it.
const CURVE_STEEPNESS: i128 = 4 * WAD_INT;
const ADJUSTMENT_SPEED: i128 = 50 * WAD_INT / YEAR_SECONDS;
const TARGET_UTILISATION: i128 = 9 * WAD_INT / 10;
const INITIAL_RATE_AT_TARGET: i128 = 4 * WAD_INT / 100 / YEAR_SECONDS;
const MIN_RATE_AT_TARGET: i128 = WAD_INT / 1_000 / YEAR_SECONDS;
const MAX_RATE_AT_TARGET: i128 = 2 * WAD_INT / YEAR_SECONDS;
/// ExpLib's bounds: ln 2, ln 1e-18, the exponent above which the result is clipped.
const LN_2: i128 = 693_147_180_559_945_309;
const LN_WEI: i128 = -41_446_531_673_892_822_312;
const EXP_UPPER_BOUND: i128 = 93_859_467_695_000_404_319;
/// What it is clipped to: 57716089161558943949701069502944508345128422502756744429568.
const EXP_UPPER_VALUE: U256 = U256::from_limbs([0, 0, 3_591_645_239_034_022_784, 9]);

/// The totals as an accrual at that second leaves them, at this mean rate since the last update.
pub(super) fn accrued(totals: &Totals, rate_wad: U256, timestamp: u64) -> Option<Totals> {
    let elapsed = timestamp.checked_sub(totals.last_update)?;
    if elapsed == 0 {
        return Some(totals.clone());
    }
    let growth = taylor_compounded(rate_wad, U256::from(elapsed))?;
    let interest = uint128(mul_div_down(totals.borrow_assets, growth, WAD)?)?;
    let mut next = Totals {
        borrow_assets: uint128(totals.borrow_assets.checked_add(interest)?)?,
        supply_assets: uint128(totals.supply_assets.checked_add(interest)?)?,
        last_update: timestamp,
        ..totals.clone()
    };
    if !totals.fee_wad.is_zero() {
        let fee = mul_div_down(interest, totals.fee_wad, WAD)?;
        let shares =
            Pool { assets: next.supply_assets.checked_sub(fee)?, shares: totals.supply_shares }.shares_down(fee)?;
        next.supply_shares = uint128(totals.supply_shares.checked_add(uint128(shares)?)?)?;
    }
    Some(next)
}

fn taylor_compounded(rate: U256, seconds: U256) -> Option<U256> {
    let first = rate.checked_mul(seconds)?;
    let second = mul_div_down(first, first, WAD * U256::from(2))?;
    let third = mul_div_down(second, first, WAD * U256::from(3))?;
    first.checked_add(second)?.checked_add(third)
}

/// Mean rate of the adaptive curve since the totals' last update, per second, × 1e18; 0 at target stands for a market that
/// the model has not seen yet.
pub(super) fn adaptive_curve_rate(totals: &Totals, rate_at_target_wad: U256, timestamp: u64) -> Option<U256> {
    let elapsed = I256::unchecked_from(timestamp.checked_sub(totals.last_update)?);
    let utilisation = match totals.supply_assets.is_zero() {
        true => I256::ZERO,
        false => I256::try_from(mul_div_down(totals.borrow_assets, WAD, totals.supply_assets)?).ok()?,
    };
    let target = int(TARGET_UTILISATION);
    let widest = if utilisation > target { int(WAD_INT - TARGET_UTILISATION) } else { target };
    let err = mul_div(utilisation.checked_sub(target)?, int(WAD_INT), widest)?;

    let start = I256::try_from(rate_at_target_wad).ok()?;
    let at_target = if start.is_zero() {
        int(INITIAL_RATE_AT_TARGET)
    } else {
        let adaptation = wad_mul(int(ADJUSTMENT_SPEED), err)?.checked_mul(elapsed)?;
        if adaptation.is_zero() { start } else { mean_at_target(start, adaptation)? }
    };
    let coefficient = if err.is_negative() {
        int(WAD_INT - WAD_INT * WAD_INT / CURVE_STEEPNESS)
    } else {
        int(CURVE_STEEPNESS - WAD_INT)
    };
    let rate = wad_mul(wad_mul(coefficient, err)?.checked_add(int(WAD_INT))?, at_target)?;
    // The contract casts without a check; a rate is never negative.
    Some(rate.into_raw())
}

/// (start + end + 2 · mid) / 4.
fn mean_at_target(start: I256, adaptation: I256) -> Option<I256> {
    let two = I256::unchecked_from(2);
    let end = moved_rate(start, adaptation)?;
    let mid = moved_rate(start, adaptation.checked_div(two)?)?;
    let sum = start.checked_add(end)?.checked_add(two.checked_mul(mid)?)?;
    sum.checked_div(I256::unchecked_from(4))
}

/// The rate at target after this adaptation, within its bounds.
fn moved_rate(start: I256, adaptation: I256) -> Option<I256> {
    let moved = wad_mul(start, exp(adaptation))?;
    Some(moved.min(int(MAX_RATE_AT_TARGET)).max(int(MIN_RATE_AT_TARGET)))
}

/// ExpLib.wExp: x = q · ln 2 + r with q rounded half toward zero, e^r by two terms, times 2^q.
fn exp(x: I256) -> I256 {
    if x < int(LN_WEI) {
        return I256::ZERO;
    }
    if x >= int(EXP_UPPER_BOUND) {
        return I256::from_raw(EXP_UPPER_VALUE);
    }
    // |x| is below 1e20 from here on, so nothing below comes near 256 bits.
    let ln_2 = int(LN_2);
    let half = int(if x.is_negative() { -(LN_2 / 2) } else { LN_2 / 2 });
    let q = (x + half) / ln_2;
    let r = x - q * ln_2;
    let exp_r = int(WAD_INT) + r + r * r / int(WAD_INT) / I256::unchecked_from(2);
    let places = q.unsigned_abs().to::<usize>();
    // e^r is positive, so a shift of the raw word is the arithmetic one.
    let word = exp_r.into_raw();
    I256::from_raw(if q.is_negative() { word >> places } else { word << places })
}

fn wad_mul(x: I256, y: I256) -> Option<I256> {
    mul_div(x, y, int(WAD_INT))
}

/// x · y / d toward zero where the product fits 256 bits, as the rate model's MathLib computes it.
fn mul_div(x: I256, y: I256, d: I256) -> Option<I256> {
    x.checked_mul(y)?.checked_div(d)
}

fn int(x: i128) -> I256 {
    I256::try_from(x).expect("invariant: 128 bits fit 256")
}
