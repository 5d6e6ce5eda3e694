//! Which contracts a deployment is made of, and what its keeper is.

use std::str::FromStr;

use serde::Deserialize;

use crate::types::{Address, B256};

/// A deployment's contracts, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The market's registry.
    pub addresses_provider: Address,
    /// The pool's proxy.
    pub pool: Address,
    /// The configurator's proxy.
    pub pool_configurator: Address,
    /// What the pool's proxy must point to, if pinned.
    pub pool_implementation: Option<Address>,
    /// The keeper's own address, where it is the market's UMBRELLA: deficits are then covered, else reported.
    pub umbrella: Option<Address>,
}

/// Settings that name no deployment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A key is missing, unknown or of another type.
    #[error("{0}")]
    Shape(String),
    /// A value is not what its key asks for.
    #[error("{key} = {value:?} is not {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// Two keys hold one address.
    #[error("{key} = {value} is also {other}; write the address of each")]
    Same {
        /// The key.
        key: &'static str,
        /// The other.
        other: &'static str,
        /// What both hold.
        value: Address,
    },
}

/// The settings as written. Text, so that an error can name the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    addresses_provider: String,
    pool: String,
    pool_configurator: String,
    pool_implementation: Option<String>,
    umbrella: Option<String>,
}

impl TryFrom<serde_json::Value> for Settings {
    type Error = SettingsError;

    fn try_from(value: serde_json::Value) -> Result<Self, SettingsError> {
        let written: Written =
            serde_json::from_value(value).map_err(|error| SettingsError::Shape(error.to_string()))?;
        let optional = |key, text: Option<String>| text.map(|text| address(key, &text)).transpose();
        let settings = Self {
            addresses_provider: address("addresses_provider", &written.addresses_provider)?,
            pool: address("pool", &written.pool)?,
            pool_configurator: address("pool_configurator", &written.pool_configurator)?,
            pool_implementation: optional("pool_implementation", written.pool_implementation)?,
            umbrella: optional("umbrella", written.umbrella)?,
        };
        let named = [
            ("addresses_provider", settings.addresses_provider),
            ("pool", settings.pool),
            ("pool_configurator", settings.pool_configurator),
        ];
        for (at, (key, value)) in named.iter().enumerate() {
            if let Some((other, _)) = named[..at].iter().find(|(_, earlier)| earlier == value) {
                return Err(SettingsError::Same { key, other, value: *value });
            }
        }
        Ok(settings)
    }
}

impl Settings {
    /// The pool's implementation as an EIP-1967 slot holds it, if pinned.
    pub(super) fn implementation_word(&self) -> Option<B256> {
        self.pool_implementation.map(|address| address.into_word())
    }
}

fn address(key: &'static str, text: &str) -> Result<Address, SettingsError> {
    let wanted = "a 20-byte address in hex other than zero";
    let refused = || SettingsError::Value { key, value: text.to_owned(), wanted };
    let address = Address::from_str(text).map_err(|_| refused())?;
    if address.is_zero() { Err(refused()) } else { Ok(address) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn hex(byte: u8) -> String {
        Address::repeat_byte(byte).to_string()
    }

    fn contracts() -> Value {
        json!({ "addresses_provider": hex(1), "pool": hex(2), "pool_configurator": hex(3) })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut all = contracts();
        all[key] = value;
        all
    }

    fn read(value: Value) -> Result<Settings, String> {
        Settings::try_from(value).map_err(|error| error.to_string())
    }

    #[test]
    fn three_contracts_are_all_it_takes() {
        let settings = read(contracts()).unwrap();
        assert_eq!(settings.pool, Address::repeat_byte(2));
        assert_eq!((settings.pool_implementation, settings.umbrella), (None, None));
    }

    #[test]
    fn every_key_is_read() {
        let mut all = with("umbrella", json!(hex(5)));
        all["pool_implementation"] = json!(hex(4));
        let settings = read(all).unwrap();
        assert_eq!(settings.umbrella, Some(Address::repeat_byte(5)));
        assert_eq!(settings.implementation_word(), Some(Address::repeat_byte(4).into_word()));
        assert_eq!(settings.addresses_provider, Address::repeat_byte(1));
        assert_eq!(settings.pool_configurator, Address::repeat_byte(3));
    }

    #[test]
    fn a_refusal_names_the_key() {
        for (value, named) in [
            (json!({}), "addresses_provider"),
            (with("oracle", json!(hex(9))), "oracle"),
            (with("pool", json!("0x1234")), "pool = \"0x1234\""),
            (with("umbrella", json!(hex(0))), "umbrella = \"0x00"),
            (with("pool_implementation", json!("x")), "pool_implementation = \"x\""),
            (
                with("pool", json!(hex(1))),
                "pool = 0x0101010101010101010101010101010101010101 is also addresses_provider",
            ),
        ] {
            let error = read(value.clone()).expect_err("refused");
            assert!(error.contains(named), "{value}: {error}");
        }
    }
}
