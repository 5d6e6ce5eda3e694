//! Fixed-point maths as the protocol does it, the rounding in the name.
//!
//! Source: `WadRayMath`, `PercentageMath`, `MathUtils` and `TokenMath` of revision 10. A ray is 10²⁷, a wad 10¹⁸, a
//! percentage is in basis points.
//!
//! Invariants: `None` exactly where the contract reverts: a product beyond 256 bits or a division by zero.
//! Must not: use floating point.

use crate::types::U256;

/// 1 in ray.
pub(super) const RAY: U256 = U256::from_limbs([0x9fd0803ce8000000, 0x33b2e3c, 0, 0]);
/// 1 in wad.
pub(super) const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);
/// 100 % in basis points.
pub(super) const BPS: U256 = U256::from_limbs([10_000, 0, 0, 0]);
const SECONDS_PER_YEAR: U256 = U256::from_limbs([365 * 24 * 3_600, 0, 0, 0]);
const ONE: U256 = U256::ONE;

/// a · b / d down.
pub(super) fn mul_div_floor(a: U256, b: U256, d: U256) -> Option<U256> {
    a.checked_mul(b)?.checked_div(d)
}

/// a · b / d up.
pub(super) fn mul_div_ceil(a: U256, b: U256, d: U256) -> Option<U256> {
    let product = a.checked_mul(b)?;
    let (quotient, rest) = (product.checked_div(d)?, product.checked_rem(d)?);
    Some(if rest.is_zero() { quotient } else { quotient + ONE })
}

/// a · b / d to the nearest, half up.
fn mul_div_half_up(a: U256, b: U256, d: U256) -> Option<U256> {
    a.checked_mul(b)?.checked_add(d >> 1)?.checked_div(d)
}

/// a · b of two rays.
pub(super) fn ray_mul_half_up(a: U256, b: U256) -> Option<U256> {
    mul_div_half_up(a, b, RAY)
}

/// a / b in wad.
pub(super) fn wad_div_half_up(a: U256, b: U256) -> Option<U256> {
    mul_div_half_up(a, WAD, b)
}

/// A share.
pub(super) fn percent_mul_half_up(value: U256, percentage: U256) -> Option<U256> {
    mul_div_half_up(value, percentage, BPS)
}

/// A share, down.
pub(super) fn percent_mul_floor(value: U256, percentage: U256) -> Option<U256> {
    mul_div_floor(value, percentage, BPS)
}

/// What a share is a share of.
pub(super) fn percent_div_half_up(value: U256, percentage: U256) -> Option<U256> {
    mul_div_half_up(value, BPS, percentage)
}

/// What a share is a share of, up.
pub(super) fn percent_div_ceil(value: U256, percentage: U256) -> Option<U256> {
    mul_div_ceil(value, BPS, percentage)
}

/// An aToken balance: down, against its holder.
pub(super) fn supplied_floor(scaled: U256, index: U256) -> Option<U256> {
    mul_div_floor(scaled, index, RAY)
}

/// A debt token balance: up, against its holder.
pub(super) fn owed_ceil(scaled: U256, index: U256) -> Option<U256> {
    mul_div_ceil(scaled, index, RAY)
}

/// The scaled balance of which [`supplied_floor`] makes this balance: the only one, since an index is at least one ray.
pub(super) fn scaled_supply(balance: U256, index: U256) -> Option<U256> {
    let scaled = mul_div_ceil(balance, RAY, index)?;
    (supplied_floor(scaled, index)? == balance).then_some(scaled)
}

/// The scaled balance of which [`owed_ceil`] makes this balance: the only one, since an index is at least one ray.
pub(super) fn scaled_debt(balance: U256, index: U256) -> Option<U256> {
    let scaled = mul_div_floor(balance, RAY, index)?;
    (owed_ceil(scaled, index)? == balance).then_some(scaled)
}

/// Growth of a supply index over some seconds at a yearly rate in ray: linear.
pub(super) fn linear_growth(rate: U256, seconds: u64) -> Option<U256> {
    RAY.checked_add(mul_div_floor(rate, U256::from(seconds), SECONDS_PER_YEAR)?)
}

/// Growth of a debt index likewise: three terms of the exponential series, in the contract's nesting.
pub(super) fn compound_growth(rate: U256, seconds: u64) -> Option<U256> {
    if seconds == 0 {
        return Some(RAY);
    }
    let x = mul_div_floor(rate, U256::from(seconds), SECONDS_PER_YEAR)?;
    let third = ray_mul_half_up(x, x / U256::from(6))?;
    let higher = ray_mul_half_up(x, (x >> 1) + third)?;
    RAY.checked_add(x)?.checked_add(higher)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn u(x: u128) -> U256 {
        U256::from(x)
    }

    #[test]
    fn a_ray_is_ten_to_the_27() {
        assert_eq!(RAY, U256::from(10).pow(u(27)));
        assert_eq!(WAD, U256::from(10).pow(u(18)));
    }

    #[test]
    fn roundings_are_as_named() {
        assert_eq!(percent_mul_half_up(u(1), u(5_000)), Some(u(1)));
        assert_eq!(percent_mul_half_up(u(1), u(4_999)), Some(u(0)));
        assert_eq!(percent_mul_floor(u(1), u(9_999)), Some(u(0)));
        assert_eq!(percent_div_ceil(u(1), u(10_500)), Some(u(1)));
        assert_eq!(percent_div_half_up(u(1), u(10_500)), Some(u(1)));
        assert_eq!(percent_div_half_up(u(1), u(20_001)), Some(u(0)));
        assert_eq!(mul_div_ceil(u(7), u(1), u(2)), Some(u(4)));
        assert_eq!(mul_div_ceil(U256::MAX, u(2), u(2)), None, "the contract reverts, too");
        assert_eq!(mul_div_floor(u(1), u(1), u(0)), None);
    }

    #[test]
    fn nothing_grows_in_no_time_or_at_no_rate() {
        assert_eq!(linear_growth(RAY, 0), Some(RAY));
        assert_eq!(compound_growth(RAY, 0), Some(RAY));
        assert_eq!(compound_growth(u(0), 1_000), Some(RAY));
        assert_eq!(linear_growth(RAY, 365 * 24 * 3_600), Some(RAY + RAY));
        // 1 + 1 + 1/2 + 1/6
        let grown = compound_growth(RAY, 365 * 24 * 3_600).unwrap();
        assert_eq!(grown, u(2_666_666_666_666_666_666_666_666_666));
    }

    proptest! {
        #[test]
        fn a_balance_names_its_scaled_balance(scaled in 0u128..1 << 110, over in 0u128..1 << 90) {
            let index = RAY + u(over);
            let scaled = u(scaled);
            prop_assert_eq!(scaled_supply(supplied_floor(scaled, index).unwrap(), index), Some(scaled));
            prop_assert_eq!(scaled_debt(owed_ceil(scaled, index).unwrap(), index), Some(scaled));
        }
    }
}
