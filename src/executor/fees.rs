//! What a transaction may pay: first quote, replacement, gas limit. Pure.
//!
//! All fees are wei per gas; EIP-1559 naming. Divisions round up, because a node refuses a replacement that is one wei
//! short and accepts one that is a wei too dear.

use crate::chain::FeeQuote;

/// The limits a deployment sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeeSettings {
    /// Most the fee per gas may ever be, replacements included.
    pub fee_cap_wei: u128,
    /// Most gas one transaction may take.
    pub tx_gas_max: u64,
}

/// What a transaction offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Most it pays per gas, base fee included.
    pub max_fee_per_gas: u128,
    /// Most of it that goes to the block's producer.
    pub max_priority_fee_per_gas: u128,
}

/// The cap does not allow what the chain asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{needed_wei} wei per gas are needed, the cap is {cap_wei}")]
pub struct CapReached {
    /// Least that would be accepted.
    pub needed_wei: u128,
    /// The cap.
    pub cap_wei: u128,
}

/// A transaction needs more gas than one may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{needed} gas are needed, {max} are allowed per transaction")]
pub struct TooMuchGas {
    /// With the reserve.
    pub needed: u64,
    /// The limit.
    pub max: u64,
}

/// Gas of a transfer without data.
pub const TRANSFER_GAS: u64 = 21_000;

/// A first offer: twice the base fee (it rises by at most 1/8 a block: good for five full blocks) and the usual tip,
/// cut to the cap. Refused when the cap does not even pay the base fee.
pub fn first(quote: &FeeQuote, cap_wei: u128) -> Result<Fees, CapReached> {
    if cap_wei < quote.base_fee_wei.max(1) {
        return Err(CapReached { needed_wei: quote.base_fee_wei.max(1), cap_wei });
    }
    let wanted = quote.base_fee_wei.saturating_mul(2).saturating_add(quote.priority_fee_wei).max(1);
    let max_fee_per_gas = wanted.min(cap_wei);
    Ok(Fees { max_fee_per_gas, max_priority_fee_per_gas: quote.priority_fee_wei.min(max_fee_per_gas) })
}

/// An offer for the same nonce that nodes accept in place of `previous`: both fees at least 12.5 % higher (geth asks for
/// 10 %) and at least what a first offer would be now. Refused when the cap is below that rise or below the base fee.
pub fn replacement(previous: &Fees, quote: &FeeQuote, cap_wei: u128) -> Result<Fees, CapReached> {
    let raised = raise(previous.max_fee_per_gas);
    let needed_wei = raised.max(quote.base_fee_wei);
    if needed_wei > cap_wei {
        return Err(CapReached { needed_wei, cap_wei });
    }
    let now = first(quote, cap_wei)?;
    let max_fee_per_gas = now.max_fee_per_gas.max(raised);
    let tip = raise(previous.max_priority_fee_per_gas).max(now.max_priority_fee_per_gas);
    Ok(Fees { max_fee_per_gas, max_priority_fee_per_gas: tip.min(max_fee_per_gas) })
}

/// Gas of a call as its simulation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gas {
    /// What it took.
    pub used: u64,
    /// What its transaction may take: see [`gas_limit`].
    pub limit: u64,
}

/// Gas limit for a call that took `simulated` gas: 13/10 of it, since simulation reports gas after refunds and refunds
/// are at most a fifth, and 30,000 for storage that other transactions of the block made dearer.
pub fn gas_limit(simulated: u64, max: u64) -> Result<u64, TooMuchGas> {
    let needed = (u128::from(simulated) * 13).div_ceil(10) + 30_000;
    match u64::try_from(needed) {
        Ok(needed) if needed <= max => Ok(needed),
        _ => Err(TooMuchGas { needed: u64::try_from(needed).unwrap_or(u64::MAX), max }),
    }
}

/// 9/8 of a fee, rounded up and never the same.
fn raise(fee_wei: u128) -> u128 {
    fee_wei.saturating_add(fee_wei.div_ceil(8).max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quote(base_fee_wei: u128, priority_fee_wei: u128) -> FeeQuote {
        FeeQuote { base_fee_wei, priority_fee_wei }
    }

    fn fees(max_fee_per_gas: u128, max_priority_fee_per_gas: u128) -> Fees {
        Fees { max_fee_per_gas, max_priority_fee_per_gas }
    }

    #[test]
    fn a_first_offer_is_twice_the_base_fee_and_the_tip_within_the_cap() {
        assert_eq!(first(&quote(100, 7), 1_000), Ok(fees(207, 7)));
        assert_eq!(first(&quote(100, 7), 150), Ok(fees(150, 7)));
        assert_eq!(first(&quote(100, 900), 100), Ok(fees(100, 100)));
        assert_eq!(first(&quote(100, 7), 99), Err(CapReached { needed_wei: 100, cap_wei: 99 }));
        assert_eq!(first(&quote(0, 0), 10), Ok(fees(1, 0)));
    }

    #[test]
    fn a_replacement_rises_by_an_eighth_or_to_the_quote() {
        assert_eq!(replacement(&fees(800, 8), &quote(10, 1), 10_000), Ok(fees(900, 9)));
        assert_eq!(replacement(&fees(800, 8), &quote(1_000, 50), 10_000), Ok(fees(2_050, 50)));
        assert_eq!(replacement(&fees(800, 8), &quote(600, 1), 950), Ok(fees(950, 9)));
        assert_eq!(replacement(&fees(800, 8), &quote(1, 1), 899), Err(CapReached { needed_wei: 900, cap_wei: 899 }));
        assert_eq!(
            replacement(&fees(800, 8), &quote(2_000, 1), 1_500),
            Err(CapReached { needed_wei: 2_000, cap_wei: 1_500 })
        );
        assert_eq!(replacement(&fees(1, 0), &quote(0, 0), 10), Ok(fees(2, 1)));
    }

    #[test]
    fn gas_has_a_reserve_and_a_limit() {
        assert_eq!(gas_limit(100_000, 1_000_000), Ok(160_000));
        assert_eq!(gas_limit(1, 1_000_000), Ok(30_002));
        assert_eq!(gas_limit(100_001, 160_001), Err(TooMuchGas { needed: 160_002, max: 160_001 }));
        assert_eq!(gas_limit(u64::MAX, u64::MAX), Err(TooMuchGas { needed: u64::MAX, max: u64::MAX }));
    }

    proptest! {
        #[test]
        fn offers_are_payable_ordered_and_within_the_cap(
            base in 0u128..1 << 100, tip in 0u128..1 << 100, cap in 0u128..1 << 101, rounds in 1usize..40
        ) {
            let quote = quote(base, tip);
            let mut last = match first(&quote, cap) {
                Ok(fees) => fees,
                Err(refused) => {
                    prop_assert!(refused.needed_wei > cap);
                    return Ok(());
                }
            };
            for _ in 0..rounds {
                prop_assert!(last.max_fee_per_gas <= cap && last.max_fee_per_gas >= base);
                prop_assert!(last.max_priority_fee_per_gas <= last.max_fee_per_gas);
                match replacement(&last, &quote, cap) {
                    Err(refused) => {
                        prop_assert!(refused.needed_wei > cap);
                        break;
                    }
                    Ok(next) => {
                        prop_assert!(next.max_fee_per_gas * 8 >= last.max_fee_per_gas * 9);
                        prop_assert!(next.max_priority_fee_per_gas * 8 >= last.max_priority_fee_per_gas * 9);
                        prop_assert!(next.max_fee_per_gas > last.max_fee_per_gas);
                        last = next;
                    }
                }
            }
        }
    }
}
