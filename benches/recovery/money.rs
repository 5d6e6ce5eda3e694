//! Decimals as exact integers: money in 10^-18 USD.

use anyhow::{Context, Result};
use backstop::types::U256;

/// Decimals of a dollar.
pub const DECIMALS: u32 = 18;

/// A decimal (`12.5`, `2e-06`) times 10^decimals, rounded down. Negative numbers are refused.
pub fn scaled(text: &str, decimals: u32) -> Result<U256> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().with_context(|| format!("{text:?} is not a decimal"))?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits: U256 =
        format!("{whole}{fraction}").parse().with_context(|| format!("{text:?} is not a decimal of zero or more"))?;
    let shift = i64::from(decimals) + i64::from(exponent) - i64::try_from(fraction.len())?;
    let power = U256::from(10).pow(U256::from(shift.unsigned_abs()));
    Ok(if shift >= 0 { digits * power } else { digits.checked_div(power).unwrap_or_default() })
}

/// A number of 10^-18, for people.
pub fn usd(amount: U256) -> f64 {
    f64::from(amount) / 1e18
}

/// The other way, for generated figures: to a millionth, rounded down.
pub fn from_usd(amount: f64) -> U256 {
    U256::from((amount * 1e6) as u128) * U256::from(10).pow(U256::from(DECIMALS - 6))
}
