//! Which contracts a deployment is made of.

use std::str::FromStr;

use serde::Deserialize;

use crate::types::{Address, B256};

const OBSERVE_EVERY_SECONDS: u64 = 60;

/// A deployment's contracts, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The clearinghouse.
    pub clearinghouse: Address,
    /// The steward through which margins move; without one they are never moved.
    pub steward: Option<Address>,
    /// Hash of the clearinghouse's runtime code, if pinned.
    pub clearinghouse_code_hash: Option<B256>,
    /// Hash of the steward's runtime code, if pinned.
    pub steward_code_hash: Option<B256>,
    /// The backstop pool that the deployment is a member of, if it is.
    pub backstop: Option<Membership>,
    /// Least time between two prices, or payments, that are kept to measure volatility and runway by.
    pub observe_every_seconds: u64,
    /// Price feeds to follow before a market names them: only needed for a feed whose price of the present was posted
    /// before the first market on it was listed.
    pub feeds: Vec<Address>,
}

/// A deployment's place in a shared backstop pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The pool's contract.
    pub pool: Address,
    /// The contract through which the pool sees this deployment's shortfalls.
    pub member: Address,
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
    /// A key makes no sense without another.
    #[error("{key} is set but {without} is not")]
    Without {
        /// The key.
        key: &'static str,
        /// What it needs.
        without: &'static str,
    },
}

/// The settings as written. Text, so that an error can name the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    clearinghouse: String,
    steward: Option<String>,
    clearinghouse_code_hash: Option<String>,
    steward_code_hash: Option<String>,
    backstop_pool: Option<String>,
    backstop_member: Option<String>,
    observe_every_seconds: Option<u64>,
    #[serde(default)]
    feeds: Vec<String>,
}

impl TryFrom<serde_json::Value> for Settings {
    type Error = SettingsError;

    fn try_from(value: serde_json::Value) -> Result<Self, SettingsError> {
        let written: Written =
            serde_json::from_value(value).map_err(|error| SettingsError::Shape(error.to_string()))?;
        let code_hash = |key, text: Option<String>| text.map(|t| parse(key, &t, "a 32-byte hash in hex")).transpose();
        let backstop = match (&written.backstop_pool, &written.backstop_member) {
            (None, None) => None,
            (Some(pool), Some(member)) => {
                Some(Membership { pool: address("backstop_pool", pool)?, member: address("backstop_member", member)? })
            }
            (Some(_), None) => {
                return Err(SettingsError::Without { key: "backstop_pool", without: "backstop_member" });
            }
            (None, Some(_)) => {
                return Err(SettingsError::Without { key: "backstop_member", without: "backstop_pool" });
            }
        };
        let settings = Self {
            backstop,
            observe_every_seconds: written.observe_every_seconds.unwrap_or(OBSERVE_EVERY_SECONDS),
            clearinghouse: address("clearinghouse", &written.clearinghouse)?,
            steward: written.steward.map(|text| address("steward", &text)).transpose()?,
            clearinghouse_code_hash: code_hash("clearinghouse_code_hash", written.clearinghouse_code_hash)?,
            steward_code_hash: code_hash("steward_code_hash", written.steward_code_hash)?,
            feeds: written.feeds.iter().map(|text| address("feeds", text)).collect::<Result<_, _>>()?,
        };
        if settings.observe_every_seconds == 0 {
            let value = "0".to_owned();
            return Err(SettingsError::Value { key: "observe_every_seconds", value, wanted: "a number of seconds" });
        }
        if settings.steward_code_hash.is_some() && settings.steward.is_none() {
            return Err(SettingsError::Without { key: "steward_code_hash", without: "steward" });
        }
        Ok(settings)
    }
}

/// An address that can hold code.
fn address(key: &'static str, text: &str) -> Result<Address, SettingsError> {
    let wanted = "a contract's 20-byte address in hex";
    let address: Address = parse(key, text, wanted)?;
    if address.is_zero() {
        return Err(SettingsError::Value { key, value: text.to_owned(), wanted });
    }
    Ok(address)
}

fn parse<T: FromStr>(key: &'static str, text: &str, wanted: &'static str) -> Result<T, SettingsError> {
    text.parse().map_err(|_| SettingsError::Value { key, value: text.to_owned(), wanted })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CLEARINGHOUSE: &str = "0x1111111111111111111111111111111111111111";

    fn read(value: Value) -> Result<Settings, String> {
        Settings::try_from(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_clearinghouse_is_all_it_takes() {
        let settings = read(json!({ "clearinghouse": CLEARINGHOUSE })).unwrap();
        assert_eq!(settings.clearinghouse, Address::repeat_byte(0x11));
        assert_eq!((settings.steward, settings.feeds, settings.observe_every_seconds), (None, vec![], 60));
    }

    #[test]
    fn every_key_is_read() {
        let hash = format!("0x{}", "ab".repeat(32));
        let settings = read(json!({
            "clearinghouse": CLEARINGHOUSE, "clearinghouse_code_hash": hash,
            "steward": "0x2222222222222222222222222222222222222222", "steward_code_hash": hash,
            "feeds": ["0x3333333333333333333333333333333333333333"],
            "backstop_pool": "0x4444444444444444444444444444444444444444",
            "backstop_member": "0x5555555555555555555555555555555555555555",
        }))
        .unwrap();
        let membership = Membership { pool: Address::repeat_byte(0x44), member: Address::repeat_byte(0x55) };
        assert_eq!(settings.backstop, Some(membership));
        assert_eq!(settings.steward, Some(Address::repeat_byte(0x22)));
        assert_eq!(settings.clearinghouse_code_hash, Some(B256::repeat_byte(0xab)));
        assert_eq!(settings.steward_code_hash, settings.clearinghouse_code_hash);
        assert_eq!(settings.feeds, [Address::repeat_byte(0x33)]);
    }

    #[test]
    fn a_refusal_names_the_key() {
        for (value, named) in [
            (json!({}), "clearinghouse"),
            (json!({ "clearinghouse": CLEARINGHOUSE, "stuard": "0x22" }), "stuard"),
            (json!({ "clearinghouse": "0x1234" }), "clearinghouse = \"0x1234\""),
            (json!({ "clearinghouse": format!("0x{}", "0".repeat(40)) }), "clearinghouse = \"0x00"),
            (json!({ "clearinghouse": CLEARINGHOUSE, "observe_every_seconds": 0 }), "observe_every_seconds = \"0\""),
            (json!({ "clearinghouse": CLEARINGHOUSE, "steward": "me" }), "steward = \"me\""),
            (json!({ "clearinghouse": CLEARINGHOUSE, "feeds": ["x"] }), "feeds = \"x\""),
            (json!({ "clearinghouse": CLEARINGHOUSE, "clearinghouse_code_hash": "0x1" }), "clearinghouse_code_hash"),
            (
                json!({ "clearinghouse": CLEARINGHOUSE, "steward_code_hash": format!("0x{}", "ab".repeat(32)) }),
                "steward_code_hash is set but steward is not",
            ),
            (
                json!({ "clearinghouse": CLEARINGHOUSE, "backstop_pool": CLEARINGHOUSE }),
                "backstop_pool is set but backstop_member is not",
            ),
        ] {
            let error = read(value.clone()).expect_err("refused");
            assert!(error.contains(named), "{value}: {error}");
        }
    }
}
