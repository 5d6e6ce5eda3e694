//! Prices and token amounts of the pool, in its own fixed point.
//!
//! A tick t stands for the price 1.0001^t; a square root price is in Q64.96. What a range of liquidity L between the
//! square root prices a < b holds is base = L·2⁹⁶·(b − a) / b / a and quote = L·(b − a) / 2⁹⁶, each division rounded down
//! (`LiquidityAmounts.getAmount0ForLiquidity`, `getAmount1ForLiquidity`).
//!
//! Invariants: every result equals the contracts' to the last unit, or there is none.
//! Must not: use floating point for a result; a float may guess where an exact search begins.

use crate::types::{U256, math::mul_div_floor};

/// Furthest tick from zero, either way (`TickMath.MAX_TICK`).
const TICK_MAX: u32 = 887_272;

/// 2⁹⁶.
pub(super) const Q96: U256 = U256::from_limbs([0, 1 << 32, 0, 0]);

/// 10¹⁸.
pub(super) const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

/// 2¹²⁸ / √1.0001^(2^i), rounded half to even: the factor that bit i of a tick's magnitude contributes.
const BIT_FACTORS_X128: [u128; 20] = [
    0xfffcb933bd6fad37aa2d162d1a594001,
    0xfff97272373d413259a46990580e213a,
    0xfff2e50f5f656932ef12357cf3c7fdcc,
    0xffe5caca7e10e4e61c3624eaa0941cd0,
    0xffcb9843d60f6159c9db58835c926644,
    0xff973b41fa98c081472e6896dfb254c0,
    0xff2ea16466c96a3843ec78b326b52861,
    0xfe5dee046a99a2a811c461f1969c3053,
    0xfcbe86c7900a88aedcffc83b479aa3a4,
    0xf987a7253ac413176f2b074cf7815e54,
    0xf3392b0822b70005940c7a398e4b70f3,
    0xe7159475a2c29b7443b29c7fa6e889d9,
    0xd097f3bdfd2022b8845ad8f792aa5825,
    0xa9f746462d870fdf8a65dc1f90e061e5,
    0x70d869a156d2a1b890bb3df62baf32f7,
    0x31be135f97d08fd981231505542fcfa6,
    0x9aa508b5b7a84e1c677de54f3e99bc9,
    0x5d6af8dedb81196699c329225ee604,
    0x2216e584f5fa1ea926041bedfe98,
    0x48a170391f7dc42444e8fa2,
];

/// √1.0001^tick in Q64.96, as `TickMath.getSqrtRatioAtTick`: Q128.128 products rounded down, the result rounded up.
pub(super) fn sqrt_price_at(tick: i32) -> Option<U256> {
    let magnitude = tick.unsigned_abs();
    if magnitude > TICK_MAX {
        return None;
    }
    let factors = BIT_FACTORS_X128.iter().enumerate().filter(|(bit, _)| magnitude >> bit & 1 == 1);
    let ratio = factors.fold(U256::ONE << 128, |ratio, (_, factor)| (ratio * U256::from(*factor)) >> 128);
    let ratio = if tick > 0 { U256::MAX / ratio } else { ratio };
    Some((ratio + U256::from(u32::MAX)) >> 32)
}

/// The price of a square root price, both X96, rounded down (`PerpMath.formatSqrtPriceX96ToPriceX96`).
pub(super) fn price_x96(sqrt_price: U256) -> Option<U256> {
    mul_div_floor(sqrt_price, sqrt_price, Q96)
}

/// The price of a square root price × 10¹⁸, rounded down twice as the contracts do.
pub(super) fn price_wad(sqrt_price: U256) -> Option<U256> {
    mul_div_floor(price_x96(sqrt_price)?, WAD, Q96)
}

/// The square root price of the one tick whose price × 10¹⁸ is this; `None` where no tick or more than one has it.
///
/// A time-weighted price is the price of a whole tick, so an event that carries the price says which tick it was.
pub(super) fn sqrt_price_of_wad(price: U256) -> Option<U256> {
    let guess = (f64::from(price) / 1e18).ln() / 1.0001_f64.ln();
    if !guess.is_finite() {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a logarithm of at most 2^256 is far inside; the search is exact"
    )]
    let guess = guess.round() as i32;
    let mut found = None;
    for tick in guess - 2..=guess + 2 {
        let sqrt_price = sqrt_price_at(tick);
        if sqrt_price.and_then(price_wad) == Some(price) {
            if found.is_some() {
                return None;
            }
            found = sqrt_price;
        }
    }
    found
}

/// Base tokens that a range holds at this square root price.
pub(super) fn base_in_range(sqrt_price: U256, lower: i32, upper: i32, liquidity: u128) -> Option<U256> {
    let (lower, upper) = (sqrt_price_at(lower)?, sqrt_price_at(upper)?);
    if sqrt_price >= upper {
        return Some(U256::ZERO);
    }
    let from = sqrt_price.max(lower);
    Some(mul_div_floor(U256::from(liquidity) << 96, upper - from, upper)? / from)
}

/// Quote tokens that a range holds at this square root price.
pub(super) fn quote_in_range(sqrt_price: U256, lower: i32, upper: i32, liquidity: u128) -> Option<U256> {
    let (lower, upper) = (sqrt_price_at(lower)?, sqrt_price_at(upper)?);
    if sqrt_price <= lower {
        return Some(U256::ZERO);
    }
    mul_div_floor(U256::from(liquidity), sqrt_price.min(upper) - lower, Q96)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn u(text: &str) -> U256 {
        text.parse().unwrap()
    }

    #[test]
    fn the_ends_and_the_middle_are_those_of_the_pool() {
        assert_eq!(sqrt_price_at(0), Some(Q96));
        assert_eq!(sqrt_price_at(-887_272), Some(u("4295128739")), "MIN_SQRT_RATIO");
        assert_eq!(
            sqrt_price_at(887_272),
            Some(u("1461446703485210103287273052203988822378723970342")),
            "MAX_SQRT_RATIO"
        );
        assert_eq!((sqrt_price_at(887_273), sqrt_price_at(i32::MIN)), (None, None));
    }

    #[test]
    fn a_range_holds_base_below_it_and_quote_above_it() {
        let (below, above) = (sqrt_price_at(-600).unwrap(), sqrt_price_at(600).unwrap());
        let one = 10_u128.pow(18);
        assert_eq!(quote_in_range(below, -200, 200, one), Some(U256::ZERO));
        assert_eq!(base_in_range(above, -200, 200, one), Some(U256::ZERO));
        // symmetric in the middle, up to the rounding of each
        let (base, quote) = (base_in_range(Q96, -200, 200, one).unwrap(), quote_in_range(Q96, -200, 200, one).unwrap());
        assert!(base.abs_diff(quote) <= U256::from(2), "{base} {quote}");
    }

    proptest! {
        #[test]
        fn a_price_that_an_event_carries_names_its_tick(tick in -250_000..250_000_i32) {
            let sqrt_price = sqrt_price_at(tick).unwrap();
            prop_assert_eq!(sqrt_price_of_wad(price_wad(sqrt_price).unwrap()), Some(sqrt_price));
        }

        #[test]
        fn a_price_between_ticks_names_none(tick in -100_000..100_000_i32) {
            let price = price_wad(sqrt_price_at(tick).unwrap()).unwrap() + U256::ONE;
            prop_assert_eq!(sqrt_price_of_wad(price), None);
        }

        #[test]
        fn square_root_prices_rise_with_the_tick(tick in -887_272..887_271_i32) {
            prop_assert!(sqrt_price_at(tick) < sqrt_price_at(tick + 1));
        }
    }
}
