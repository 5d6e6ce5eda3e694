//! Whole amounts as decimal text: TOML integers end at 63 bits.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, Visitor},
};

/// An unsigned amount in whole units. Read from a decimal string, where `_` may group digits, or from an integer;
/// written as a decimal string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal<T>(pub T);

impl<T: FromStr> FromStr for Decimal<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.replace('_', "");
        let well_formed = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
        if !well_formed {
            return Err(format!("{text:?} is not a whole amount; write decimal digits in quotes, e.g. \"1_000_000\""));
        }
        digits.parse().map(Self).map_err(|_| format!("{text:?} is too large an amount; write a smaller one"))
    }
}

impl<T: fmt::Display> Serialize for Decimal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de, T: FromStr> Deserialize<'de> for Decimal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Digits<T>(PhantomData<T>);

        impl<T: FromStr> Visitor<'_> for Digits<T> {
            type Value = Decimal<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole amount in decimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
                self.visit_str(&number.to_string())
            }
        }

        deserializer.deserialize_any(Digits(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::U256;

    #[test]
    fn amounts_are_decimal_whole_and_bounded() {
        assert_eq!("1_000".parse::<Decimal<u128>>(), Ok(Decimal(1_000)));
        assert_eq!(U256::MAX.to_string().parse::<Decimal<U256>>(), Ok(Decimal(U256::MAX)));
        for bad in ["", "_", "0x10", "-1", "1.5", "1e18", " 1"] {
            assert!(bad.parse::<Decimal<U256>>().unwrap_err().contains("is not a whole amount"), "{bad}");
        }
        assert!(format!("{}0", U256::MAX).parse::<Decimal<U256>>().unwrap_err().contains("too large"));
    }
}
