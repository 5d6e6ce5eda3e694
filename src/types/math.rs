//! Checked integer maths with the rounding in the name.
//!
//! Products are taken in 512 bits, so that only a result that does not fit fails. `None` means exactly that: it does not
//! fit, or a division by zero; the caller decides what an unrepresentable amount of money means.

use alloy::primitives::{I256, U256, U512};

/// `a * b / d`, rounded down.
pub fn mul_div_floor(a: U256, b: U256, d: U256) -> Option<U256> {
    if d.is_zero() {
        return None;
    }
    narrow(a.widening_mul::<256, 4, 512, 8>(b) / widen(d))
}

/// `a * b / d`, rounded up.
pub fn mul_div_ceil(a: U256, b: U256, d: U256) -> Option<U256> {
    if d.is_zero() {
        return None;
    }
    narrow(a.widening_mul::<256, 4, 512, 8>(b).div_ceil(widen(d)))
}

/// `a * b / d` of signed numbers, rounded toward zero, as the EVM's signed division does.
pub fn mul_div_toward_zero(a: I256, b: I256, d: I256) -> Option<I256> {
    let magnitude = mul_div_floor(a.unsigned_abs(), b.unsigned_abs(), d.unsigned_abs())?;
    let negative = (a.is_negative() ^ b.is_negative()) ^ d.is_negative();
    signed(magnitude).map(|m| if negative { -m } else { m })
}

/// A magnitude as a signed number, if it fits.
pub fn signed(magnitude: U256) -> Option<I256> {
    I256::try_from(magnitude).ok()
}

/// The part of `x` above zero.
pub fn positive_part(x: I256) -> U256 {
    if x.is_negative() { U256::ZERO } else { x.unsigned_abs() }
}

/// How far `x` is below zero: the shortfall of an equity, 0 when it is not negative.
pub fn negative_part(x: I256) -> U256 {
    if x.is_negative() { x.unsigned_abs() } else { U256::ZERO }
}

fn widen(x: U256) -> U512 {
    U512::from(x)
}

fn narrow(x: U512) -> Option<U256> {
    U256::checked_from_limbs_slice(x.as_limbs())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn u(x: u128) -> U256 {
        U256::from(x)
    }

    #[test]
    fn products_beyond_256_bits_are_divided_not_lost() {
        assert_eq!(mul_div_floor(U256::MAX, U256::MAX, U256::MAX), Some(U256::MAX));
        assert_eq!(mul_div_ceil(U256::MAX, U256::MAX, U256::MAX), Some(U256::MAX));
        assert_eq!(mul_div_floor(U256::MAX, u(2), u(1)), None);
        assert_eq!(mul_div_floor(u(1), u(1), u(0)), None);
    }

    #[test]
    fn signed_division_truncates_toward_zero() {
        let i = |x: i64| I256::try_from(x).unwrap();
        assert_eq!(mul_div_toward_zero(i(-7), i(1), i(2)), Some(i(-3)));
        assert_eq!(mul_div_toward_zero(i(7), i(-1), i(2)), Some(i(-3)));
        assert_eq!(mul_div_toward_zero(i(-7), i(1), i(-2)), Some(i(3)));
    }

    proptest! {
        #[test]
        fn floor_and_ceil_enclose_the_quotient(a in any::<u64>(), b in any::<u64>(), d in 1u64..) {
            let (product, d) = (u128::from(a) * u128::from(b), u128::from(d));
            let floor = mul_div_floor(u(a.into()), u(b.into()), u(d));
            let ceil = mul_div_ceil(u(a.into()), u(b.into()), u(d));
            prop_assert_eq!(floor, Some(u(product / d)));
            prop_assert_eq!(ceil, Some(u(product.div_ceil(d))));
        }
    }
}
