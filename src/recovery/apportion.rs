//! Sharing a whole number by weights and caps.
//!
//! Exact: no part above its cap, and the parts sum to the amount, or to all caps where those are less. As proportional
//! as integers allow: what a cap clips goes to the others by their weights (water-filling), and what rounding leaves
//! goes to the largest remainders, ties to the one that stands first.

use alloy::primitives::U256;

use crate::types::math::mul_div_floor;

/// Shares `amount` among as many parts as there are weights. Weights sum to less than 2²⁵⁶; a part of weight 0 gets
/// nothing.
pub(super) fn apportion(amount: U256, weights: &[U256], caps: &[U256]) -> Vec<U256> {
    let mut parts = vec![U256::ZERO; weights.len()];
    let mut open: Vec<usize> = (0..weights.len()).filter(|i| !weights[*i].is_zero()).collect();
    let mut left = amount;
    loop {
        let total = open.iter().fold(U256::ZERO, |sum, i| sum + weights[*i]);
        let quota = |i: usize| mul_div_floor(left, weights[i], total).unwrap_or_default();
        let (clipped, free): (Vec<usize>, Vec<usize>) = open.iter().partition(|i| quota(**i) >= caps[**i]);
        if clipped.is_empty() {
            return round(left, total, weights, &free, parts);
        }
        for i in clipped {
            parts[i] = caps[i];
            left -= caps[i];
        }
        open = free;
    }
}

/// Rounds the quotas of what is left by largest remainders. Every quota is below its cap, so one more still fits.
fn round(left: U256, total: U256, weights: &[U256], open: &[usize], mut parts: Vec<U256>) -> Vec<U256> {
    let mut remainders = Vec::with_capacity(open.len());
    let mut missing = left;
    for &i in open {
        parts[i] = mul_div_floor(left, weights[i], total).unwrap_or_default();
        missing -= parts[i];
        remainders.push((left.mul_mod(weights[i], total), i));
    }
    remainders.sort_by(|(a, i), (b, j)| b.cmp(a).then(i.cmp(j)));
    for (_, i) in remainders {
        if missing.is_zero() {
            break;
        }
        parts[i] += U256::ONE;
        missing -= U256::ONE;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn amounts(numbers: &[u64]) -> Vec<U256> {
        numbers.iter().map(|n| U256::from(*n)).collect()
    }

    #[test]
    fn what_a_cap_clips_goes_to_the_others() {
        let parts = apportion(U256::from(10), &amounts(&[1, 1, 2]), &amounts(&[9, 9, 1]));
        assert_eq!(parts, amounts(&[5, 4, 1]));
        assert_eq!(apportion(U256::from(10), &amounts(&[1, 1]), &amounts(&[2, 3])), amounts(&[2, 3]));
        assert_eq!(apportion(U256::from(10), &[], &[]), amounts(&[]));
        assert_eq!(apportion(U256::from(10), &amounts(&[0, 5]), &amounts(&[9, 20])), amounts(&[0, 10]));
    }

    proptest! {
        #[test]
        fn parts_are_whole_within_caps_and_near_their_quota(
            amount in any::<u64>(), parties in prop::collection::vec((1u64..1_000_000, any::<u64>()), 1..40),
        ) {
            let (weights, caps): (Vec<u64>, Vec<u64>) = parties.into_iter().unzip();
            let (weights, caps) = (amounts(&weights), amounts(&caps));
            let parts = apportion(U256::from(amount), &weights, &caps);
            let sum = |xs: &[U256]| xs.iter().fold(U256::ZERO, |s, x| s + *x);
            prop_assert_eq!(sum(&parts), U256::from(amount).min(sum(&caps)));
            for i in 0..parts.len() {
                prop_assert!(parts[i] <= caps[i]);
                // Proportionality: nobody below its cap has less per weight than another, but for one unit.
                for j in 0..parts.len() {
                    if parts[i] < caps[i] {
                        prop_assert!((parts[i] + U256::ONE) * weights[j] >= parts[j].saturating_sub(U256::ONE) * weights[i]);
                    }
                }
            }
        }
    }
}
