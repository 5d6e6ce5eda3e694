//! Between Rust's values and the columns': lossless, or an error.

use alloy::primitives::{Address, B256, Bytes, I256, U256};
use bigdecimal::{
    BigDecimal,
    num_bigint::{BigInt, Sign},
};

use super::{JournalError, Result};
use crate::types::{BlockRef, UnitKey};

/// An unsigned amount as NUMERIC(78,0).
pub(super) fn numeric(amount: U256) -> BigDecimal {
    BigDecimal::from(BigInt::from_bytes_be(Sign::Plus, &amount.to_be_bytes::<32>()))
}

/// A signed amount as NUMERIC(78,0).
pub(super) fn numeric_signed(amount: I256) -> BigDecimal {
    let sign = if amount.is_negative() { Sign::Minus } else { Sign::Plus };
    BigDecimal::from(BigInt::from_bytes_be(sign, &amount.unsigned_abs().to_be_bytes::<32>()))
}

/// NUMERIC as an unsigned amount.
pub(super) fn amount(what: &'static str, stored: &BigDecimal) -> Result<U256> {
    match whole(stored) {
        Some((negative, magnitude)) if !negative || magnitude.is_zero() => Ok(magnitude),
        _ => Err(JournalError::corrupt(what, stored)),
    }
}

/// NUMERIC as a signed amount.
pub(super) fn amount_signed(what: &'static str, stored: &BigDecimal) -> Result<I256> {
    whole(stored)
        .and_then(|(negative, magnitude)| {
            let sign = if negative { alloy::primitives::Sign::Negative } else { alloy::primitives::Sign::Positive };
            I256::checked_from_sign_and_abs(sign, magnitude)
        })
        .ok_or_else(|| JournalError::corrupt(what, stored))
}

/// Sign and magnitude of a number without a fraction that fits 256 bits.
fn whole(stored: &BigDecimal) -> Option<(bool, U256)> {
    if !stored.is_integer() {
        return None;
    }
    let (digits, _) = stored.with_scale(0).into_bigint_and_exponent();
    let (sign, bytes) = digits.to_bytes_be();
    Some((sign == Sign::Minus, U256::try_from_be_slice(&bytes)?))
}

/// NUMERIC(39,0) of a gas price, in wei.
pub(super) fn numeric_wei(price: u128) -> BigDecimal {
    numeric(U256::from(price))
}

/// NUMERIC as a gas price, in wei.
pub(super) fn wei(what: &'static str, stored: &BigDecimal) -> Result<u128> {
    amount(what, stored)?.try_into().map_err(|_| JournalError::corrupt(what, stored))
}

/// A height, nonce, chain id or count as BIGINT.
pub(super) fn bigint(what: &'static str, number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| JournalError::corrupt(what, number))
}

/// BIGINT as a height, nonce, chain id or count.
pub(super) fn number(what: &'static str, stored: i64) -> Result<u64> {
    u64::try_from(stored).map_err(|_| JournalError::corrupt(what, stored))
}

/// BIGINT or INTEGER as a narrower id.
pub(super) fn narrow<T: TryFrom<i64>>(what: &'static str, stored: i64) -> Result<T> {
    T::try_from(stored).map_err(|_| JournalError::corrupt(what, stored))
}

/// BYTEA as a hash.
pub(super) fn hash(what: &'static str, stored: &[u8]) -> Result<B256> {
    B256::try_from(stored).map_err(|_| JournalError::corrupt(what, Bytes::copy_from_slice(stored)))
}

/// BYTEA as an address.
pub(super) fn address(what: &'static str, stored: &[u8]) -> Result<Address> {
    Address::try_from(stored).map_err(|_| JournalError::corrupt(what, Bytes::copy_from_slice(stored)))
}

/// BYTEA as a unit key.
pub(super) fn unit_key(stored: Vec<u8>) -> Result<UnitKey> {
    UnitKey::new(stored).map_err(|error| JournalError::corrupt("unit_key", error))
}

/// The four columns of a block.
pub(super) fn block_ref(number_: i64, hash_: &[u8], parent_hash: &[u8], timestamp: i64) -> Result<BlockRef> {
    Ok(BlockRef {
        number: number("block_number", number_)?,
        hash: hash("block_hash", hash_)?,
        parent_hash: hash("parent_hash", parent_hash)?,
        timestamp: number("block_timestamp", timestamp)?,
    })
}

/// Text that Postgres takes: without NUL, which revert reasons may hold.
pub(super) fn text(raw: &str) -> String {
    raw.replace('\0', "")
}

/// A value as JSONB.
pub(super) fn json(what: &'static str, value: &impl serde::Serialize) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(value).map_err(|error| JournalError::corrupt(what, error))?;
    strip_nul(&mut value);
    Ok(value)
}

/// A value as JSON text, to be cast to JSONB: for large ones, which are not worth a tree.
pub(super) fn as_json_text(what: &'static str, value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_string(value).map_err(|error| JournalError::corrupt(what, error))?;
    // An escaped NUL, or an escaped backslash before these very letters.
    if text.contains("\\u0000") { Ok(json(what, value)?.to_string()) } else { Ok(text) }
}

/// JSONB as a value.
pub(super) fn from_json<T: serde::de::DeserializeOwned>(what: &'static str, stored: serde_json::Value) -> Result<T> {
    serde_json::from_value(stored).map_err(|error| JournalError::corrupt(what, error))
}

/// JSON text as a value.
pub(super) fn parse_json<T: serde::de::DeserializeOwned>(what: &'static str, stored: &str) -> Result<T> {
    serde_json::from_str(stored).map_err(|error| JournalError::corrupt(what, error))
}

/// JSONB refuses NUL just as TEXT does.
fn strip_nul(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(string) => {
            if string.contains('\0') {
                *string = text(string);
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(strip_nul),
        serde_json::Value::Object(fields) => {
            // keys come from field names, except in free-form settings and summaries
            if fields.keys().any(|key| key.contains('\0')) {
                *fields = std::mem::take(fields).into_iter().map(|(key, item)| (text(&key), item)).collect();
            }
            fields.values_mut().for_each(strip_nul);
        }
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_ends_of_the_range_survive() {
        for x in [U256::ZERO, U256::from(1), U256::from(10).pow(U256::from(77)), U256::MAX] {
            assert_eq!(amount("x", &numeric(x)).unwrap(), x);
            assert_eq!(numeric(x).to_plain_string(), x.to_string());
        }
        for x in [I256::MIN, I256::MINUS_ONE, I256::ZERO, I256::ONE, I256::MAX] {
            assert_eq!(amount_signed("x", &numeric_signed(x)).unwrap(), x);
            assert_eq!(numeric_signed(x).to_plain_string(), x.to_string());
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let decimal = |text: &str| text.parse::<BigDecimal>().unwrap();
        let beyond = decimal(&U256::MAX.to_string()) + 1;
        assert!(amount("x", &beyond).is_err());
        assert!(amount("x", &decimal("-1")).is_err());
        assert!(amount("x", &decimal("0.5")).is_err());
        assert!(amount_signed("x", &(decimal(&I256::MAX.to_string()) + 1)).is_err());
        assert!(amount_signed("x", &(decimal(&I256::MIN.to_string()) - 1)).is_err());
        assert_eq!(amount("x", &decimal("12000.0")).unwrap(), U256::from(12_000));
        assert_eq!(amount("x", &decimal("12e3")).unwrap(), U256::from(12_000));
        assert!(wei("x", &numeric(U256::from(u128::MAX) + U256::from(1))).is_err());
        assert!(bigint("x", u64::MAX).is_err());
        assert!(number("x", -1).is_err());
    }

    #[test]
    fn nul_goes_everywhere_in_json() {
        let mut value = serde_json::json!({ "a\0": ["b\0", { "c": "\0" }], "d": 1 });
        strip_nul(&mut value);
        assert_eq!(value, serde_json::json!({ "a": ["b", { "c": "" }], "d": 1 }));
    }

    proptest! {
        #[test]
        fn every_amount_survives(bytes in any::<[u8; 32]>()) {
            let (unsigned, signed) = (U256::from_be_bytes(bytes), I256::from_be_bytes(bytes));
            prop_assert_eq!(amount("x", &numeric(unsigned)).unwrap(), unsigned);
            prop_assert_eq!(amount_signed("x", &numeric_signed(signed)).unwrap(), signed);
        }
    }
}
