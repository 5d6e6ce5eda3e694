//! Which contracts a deployment is made of, and which of its markets are acted on.

use std::{collections::BTreeSet, str::FromStr};

use serde::Deserialize;

use crate::types::{Address, B256};

/// A deployment, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The singleton.
    pub morpho: Address,
    /// Hash of its runtime code, if pinned. Its immutables make it another on every chain.
    pub morpho_code_hash: Option<B256>,
    /// The adaptive-curve rate model, whose interest is computed here. The rate of any other model is asked for at every
    /// block.
    pub adaptive_curve_irm: Option<Address>,
    /// Hash of that model's runtime code, if pinned.
    pub adaptive_curve_irm_code_hash: Option<B256>,
    /// Markets that are priced and acted on.
    pub markets: Markets,
}

/// A choice of markets. Anybody may create one, with a worthless token as collateral and an oracle that says anything;
/// whoever liquidates there pays with good tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Markets {
    /// All, also those still to be created: for a chain on which nobody else creates markets.
    All,
    /// These ids; one may be named before its market is created.
    Only(BTreeSet<B256>),
}

impl Markets {
    /// Whether the market of this id is priced and acted on.
    pub fn contain(&self, id: &B256) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.contains(id),
        }
    }
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
    morpho: String,
    morpho_code_hash: Option<String>,
    adaptive_curve_irm: Option<String>,
    adaptive_curve_irm_code_hash: Option<String>,
    markets: WrittenMarkets,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "markets must be \"all\" or a list of market ids")]
enum WrittenMarkets {
    Word(String),
    Ids(Vec<String>),
}

impl TryFrom<serde_json::Value> for Settings {
    type Error = SettingsError;

    fn try_from(value: serde_json::Value) -> Result<Self, SettingsError> {
        let written: Written =
            serde_json::from_value(value).map_err(|error| SettingsError::Shape(error.to_string()))?;
        let code_hash = |key, text: Option<String>| text.map(|t| parse(key, &t, "a 32-byte hash in hex")).transpose();
        let irm = written.adaptive_curve_irm.map(|text| address("adaptive_curve_irm", &text)).transpose()?;
        let irm_code_hash = code_hash("adaptive_curve_irm_code_hash", written.adaptive_curve_irm_code_hash)?;
        if irm_code_hash.is_some() && irm.is_none() {
            let (key, without) = ("adaptive_curve_irm_code_hash", "adaptive_curve_irm");
            return Err(SettingsError::Without { key, without });
        }
        Ok(Self {
            morpho: address("morpho", &written.morpho)?,
            morpho_code_hash: code_hash("morpho_code_hash", written.morpho_code_hash)?,
            adaptive_curve_irm: irm,
            adaptive_curve_irm_code_hash: irm_code_hash,
            markets: markets(written.markets)?,
        })
    }
}

fn markets(written: WrittenMarkets) -> Result<Markets, SettingsError> {
    const KEY: &str = "markets";
    match written {
        WrittenMarkets::Word(word) if word == "all" => Ok(Markets::All),
        WrittenMarkets::Word(value) => {
            Err(SettingsError::Value { key: KEY, value, wanted: "\"all\" or a list of market ids" })
        }
        WrittenMarkets::Ids(ids) => {
            let ids: Result<_, _> = ids.iter().map(|id| parse(KEY, id, "a 32-byte market id in hex")).collect();
            ids.map(Markets::Only)
        }
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

    const MORPHO: &str = "0x1111111111111111111111111111111111111111";

    fn read(value: Value) -> Result<Settings, String> {
        Settings::try_from(value).map_err(|error| error.to_string())
    }

    #[test]
    fn every_key_is_read() {
        let (hash, id) = (format!("0x{}", "ab".repeat(32)), format!("0x{}", "cd".repeat(32)));
        let settings = read(json!({
            "morpho": MORPHO, "morpho_code_hash": hash,
            "adaptive_curve_irm": "0x2222222222222222222222222222222222222222", "adaptive_curve_irm_code_hash": hash,
            "markets": [id],
        }))
        .unwrap();
        assert_eq!(settings.morpho, Address::repeat_byte(0x11));
        assert_eq!(settings.morpho_code_hash, Some(B256::repeat_byte(0xab)));
        assert_eq!(settings.adaptive_curve_irm, Some(Address::repeat_byte(0x22)));
        assert_eq!(settings.adaptive_curve_irm_code_hash, settings.morpho_code_hash);
        assert!(settings.markets.contain(&B256::repeat_byte(0xcd)));
        assert!(!settings.markets.contain(&B256::repeat_byte(0xab)));
    }

    #[test]
    fn the_singleton_and_a_choice_of_markets_are_all_it_takes() {
        let settings = read(json!({ "morpho": MORPHO, "markets": "all" })).unwrap();
        assert_eq!((settings.adaptive_curve_irm, settings.markets), (None, Markets::All));
    }

    #[test]
    fn a_refusal_names_the_key() {
        let all = |more: Value| {
            let mut value = json!({ "morpho": MORPHO, "markets": "all" });
            value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            value
        };
        for (value, named) in [
            (json!({ "markets": "all" }), "morpho"),
            (json!({ "morpho": MORPHO }), "markets"),
            (all(json!({ "irm": MORPHO })), "irm"),
            (all(json!({ "morpho": "0x1234" })), "morpho = \"0x1234\""),
            (all(json!({ "morpho": format!("0x{}", "0".repeat(40)) })), "morpho = \"0x00"),
            (all(json!({ "morpho_code_hash": "0x1" })), "morpho_code_hash = \"0x1\""),
            (all(json!({ "adaptive_curve_irm": "me" })), "adaptive_curve_irm = \"me\""),
            (
                all(json!({ "adaptive_curve_irm_code_hash": format!("0x{}", "ab".repeat(32)) })),
                "adaptive_curve_irm is not",
            ),
            (all(json!({ "markets": "some" })), "markets = \"some\""),
            (all(json!({ "markets": 7 })), "markets must be"),
            (all(json!({ "markets": ["0x12"] })), "markets = \"0x12\""),
        ] {
            let error = read(value.clone()).expect_err("refused");
            assert!(error.contains(named), "{value}: {error}");
        }
    }
}
