//! Amounts as decimal strings in JSON, for `#[serde(with = "crate::types::decimal")]`.
//!
//! The default form of a 256-bit integer is a hex string, which no operator reads; a JSON number loses digits beyond
//! 2^53. Reading is strict: digits only, no sign, no prefix.

use std::fmt;

use alloy::primitives::U256;
use serde::{
    Deserializer, Serializer,
    de::{self, Visitor},
};

/// Writes an amount.
pub fn serialize<S: Serializer>(amount: &U256, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

/// Reads an amount.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
    deserializer.deserialize_str(DigitsVisitor)
}

struct DigitsVisitor;

impl Visitor<'_> for DigitsVisitor {
    type Value = U256;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string of decimal digits below 2^256")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<U256, E> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let parsed = if digits { U256::from_str_radix(text, 10).ok() } else { None };
        parsed.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// One amount in the decimal form, where an attribute on a field cannot reach: inside options and maps.
#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
struct Decimal(#[serde(with = "self")] U256);

/// The same for an optional amount.
pub mod option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Decimal, U256};

    /// Writes an amount or null.
    pub fn serialize<S: Serializer>(amount: &Option<U256>, serializer: S) -> Result<S::Ok, S::Error> {
        amount.map(Decimal).serialize(serializer)
    }

    /// Reads an amount or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<U256>, D::Error> {
        Ok(Option::<Decimal>::deserialize(deserializer)?.map(|d| d.0))
    }
}

/// The same for the values of an ordered map.
pub mod map {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Decimal, U256};

    /// Writes a map of amounts.
    pub fn serialize<K: Serialize + Ord, S: Serializer>(
        map: &BTreeMap<K, U256>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(key, amount)| (key, Decimal(*amount))))
    }

    /// Reads a map of amounts.
    pub fn deserialize<'de, K, D>(deserializer: D) -> Result<BTreeMap<K, U256>, D::Error>
    where
        K: Deserialize<'de> + Ord,
        D: Deserializer<'de>,
    {
        Ok(BTreeMap::<K, Decimal>::deserialize(deserializer)?.into_iter().map(|(key, d)| (key, d.0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Sample {
        #[serde(with = "super")]
        amount: U256,
        #[serde(with = "super::option")]
        limit: Option<U256>,
        #[serde(with = "super::map")]
        by_name: BTreeMap<String, U256>,
    }

    #[test]
    fn amounts_are_decimal_strings_to_the_last_digit() {
        let sample = Sample {
            amount: U256::MAX,
            limit: Some(U256::from(7)),
            by_name: BTreeMap::from([("a".to_owned(), U256::from(10))]),
        };
        let json = serde_json::to_string(&sample).unwrap();
        let max = U256::MAX.to_string();
        assert_eq!(json, format!(r#"{{"amount":"{max}","limit":"7","by_name":{{"a":"10"}}}}"#));
        assert_eq!(serde_json::from_str::<Sample>(&json).unwrap(), sample);
    }

    #[test]
    fn other_forms_are_refused() {
        for bad in [r#""0x10""#, r#""-1""#, r#""""#, "5", &format!(r#""{}0""#, U256::MAX)] {
            let json = format!(r#"{{"amount":{bad},"limit":null,"by_name":{{}}}}"#);
            assert!(serde_json::from_str::<Sample>(&json).is_err(), "{bad} was read");
        }
    }
}
