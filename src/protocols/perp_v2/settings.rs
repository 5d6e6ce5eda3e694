//! Which contracts a deployment is made of, and what of them is pinned.

use std::{collections::BTreeMap, str::FromStr};

use serde::Deserialize;

use crate::types::{Address, B256, U256};

/// Contracts whose code or implementation can be pinned, by the config key that names them.
const CONTRACT_KEYS: [&str; 8] = [
    "clearing_house",
    "account_balance",
    "exchange",
    "order_book",
    "vault",
    "insurance_fund",
    "market_registry",
    "clearing_house_config",
];

/// A deployment's contracts, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `ClearingHouse`: what the keeper calls.
    pub clearing_house: Address,
    /// `AccountBalance`.
    pub account_balance: Address,
    /// `Exchange`.
    pub exchange: Address,
    /// `OrderBook`.
    pub order_book: Address,
    /// `Vault`.
    pub vault: Address,
    /// `InsuranceFund`.
    pub insurance_fund: Address,
    /// `MarketRegistry`.
    pub market_registry: Address,
    /// `ClearingHouseConfig`.
    pub clearing_house_config: Address,
    /// The token that profit and loss are settled in.
    pub settlement_token: Address,
    /// Its decimals, at most 18.
    pub settlement_decimals: u8,
    /// The account that takes liquidated positions over: the keeper's own address. With it liquidations are sized to
    /// what its free collateral in the clearing house can carry.
    pub liquidator: Option<Address>,
    /// Hashes of runtime code, by config key.
    pub code_hashes: BTreeMap<&'static str, B256>,
    /// Implementations behind EIP-1967 proxies, by config key.
    pub implementations: BTreeMap<&'static str, Address>,
}

impl Settings {
    /// Every contract with its config key.
    pub(super) fn contracts(&self) -> [(&'static str, Address); 8] {
        let addresses = [
            self.clearing_house,
            self.account_balance,
            self.exchange,
            self.order_book,
            self.vault,
            self.insurance_fund,
            self.market_registry,
            self.clearing_house_config,
        ];
        std::array::from_fn(|i| (CONTRACT_KEYS[i], addresses[i]))
    }

    /// Units of 10⁻¹⁸ in one unit of the settlement token.
    pub(super) fn scale(&self) -> U256 {
        U256::from(10).pow(U256::from(18 - self.settlement_decimals))
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
        key: String,
        /// What it holds.
        value: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A table names a contract that cannot be pinned.
    #[error("{table}.{key} pins no contract of this protocol; known: {known}", known = CONTRACT_KEYS.join(", "))]
    Pin {
        /// The table.
        table: &'static str,
        /// The key in it.
        key: String,
    },
}

/// The settings as written. Text, so that an error can name the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    clearing_house: String,
    account_balance: String,
    exchange: String,
    order_book: String,
    vault: String,
    insurance_fund: String,
    market_registry: String,
    clearing_house_config: String,
    settlement_token: String,
    #[serde(default = "usdc_decimals")]
    settlement_decimals: u8,
    liquidator: Option<String>,
    #[serde(default)]
    code_hashes: BTreeMap<String, String>,
    #[serde(default)]
    implementations: BTreeMap<String, String>,
}

fn usdc_decimals() -> u8 {
    6
}

impl TryFrom<serde_json::Value> for Settings {
    type Error = SettingsError;

    fn try_from(value: serde_json::Value) -> Result<Self, SettingsError> {
        let written: Written =
            serde_json::from_value(value).map_err(|error| SettingsError::Shape(error.to_string()))?;
        if written.settlement_decimals > 18 {
            return Err(SettingsError::Value {
                key: "settlement_decimals".to_owned(),
                value: written.settlement_decimals.to_string(),
                wanted: "at most 18",
            });
        }
        Ok(Self {
            clearing_house: address("clearing_house", &written.clearing_house)?,
            account_balance: address("account_balance", &written.account_balance)?,
            exchange: address("exchange", &written.exchange)?,
            order_book: address("order_book", &written.order_book)?,
            vault: address("vault", &written.vault)?,
            insurance_fund: address("insurance_fund", &written.insurance_fund)?,
            market_registry: address("market_registry", &written.market_registry)?,
            clearing_house_config: address("clearing_house_config", &written.clearing_house_config)?,
            settlement_token: address("settlement_token", &written.settlement_token)?,
            settlement_decimals: written.settlement_decimals,
            liquidator: written.liquidator.map(|text| address("liquidator", &text)).transpose()?,
            code_hashes: pins("code_hashes", &written.code_hashes, "a 32-byte hash in hex")?,
            implementations: pins("implementations", &written.implementations, "a contract's 20-byte address in hex")?,
        })
    }
}

/// A table of pins by contract.
fn pins<T: FromStr>(
    table: &'static str,
    written: &BTreeMap<String, String>,
    wanted: &'static str,
) -> Result<BTreeMap<&'static str, T>, SettingsError> {
    let pin = |(key, text): (&String, &String)| {
        let known = CONTRACT_KEYS.into_iter().find(|known| known == key);
        let known = known.ok_or_else(|| SettingsError::Pin { table, key: key.clone() })?;
        Ok((known, parse(&format!("{table}.{key}"), text, wanted)?))
    };
    written.iter().map(pin).collect()
}

/// An address that can hold code.
fn address(key: &str, text: &str) -> Result<Address, SettingsError> {
    let wanted = "a 20-byte address in hex, not zero";
    let address: Address = parse(key, text, wanted)?;
    if address.is_zero() {
        return Err(SettingsError::Value { key: key.to_owned(), value: text.to_owned(), wanted });
    }
    Ok(address)
}

fn parse<T: FromStr>(key: &str, text: &str, wanted: &'static str) -> Result<T, SettingsError> {
    text.parse().map_err(|_| SettingsError::Value { key: key.to_owned(), value: text.to_owned(), wanted })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn least() -> Value {
        let mut table = serde_json::Map::new();
        for (i, key) in CONTRACT_KEYS.into_iter().chain(["settlement_token"]).enumerate() {
            table.insert(key.to_owned(), json!(Address::with_last_byte(i as u8 + 1).to_string()));
        }
        Value::Object(table)
    }

    fn with(key: &str, value: Value) -> Value {
        let mut table = least();
        table[key] = value;
        table
    }

    fn read(value: Value) -> Result<Settings, String> {
        Settings::try_from(value).map_err(|error| error.to_string())
    }

    #[test]
    fn the_contracts_are_all_it_takes() {
        let settings = read(least()).unwrap();
        assert_eq!(settings.clearing_house, Address::with_last_byte(1));
        assert_eq!(settings.contracts()[7], ("clearing_house_config", Address::with_last_byte(8)));
        assert_eq!((settings.settlement_decimals, settings.liquidator), (6, None));
        assert_eq!(settings.scale(), U256::from(1_000_000_000_000_u64));
    }

    #[test]
    fn pins_and_the_liquidator_are_read() {
        let mut value = with("liquidator", json!("0x2222222222222222222222222222222222222222"));
        value["code_hashes"] = json!({ "vault": format!("0x{}", "ab".repeat(32)) });
        value["implementations"] = json!({ "exchange": "0x3333333333333333333333333333333333333333" });
        let settings = read(value).unwrap();
        assert_eq!(settings.liquidator, Some(Address::repeat_byte(0x22)));
        assert_eq!(settings.code_hashes, [("vault", B256::repeat_byte(0xab))].into());
        assert_eq!(settings.implementations, [("exchange", Address::repeat_byte(0x33))].into());
    }

    #[test]
    fn a_refusal_names_the_key() {
        for (value, named) in [
            (json!({}), "clearing_house"),
            (with("vualt", json!("0x22")), "vualt"),
            (with("vault", json!("0x1234")), "vault = \"0x1234\""),
            (with("exchange", json!(format!("0x{}", "0".repeat(40)))), "exchange = \"0x00"),
            (with("settlement_decimals", json!(19)), "settlement_decimals = \"19\""),
            (with("liquidator", json!("me")), "liquidator = \"me\""),
            (with("code_hashes", json!({ "pool": "0x1" })), "code_hashes.pool pins no contract"),
            (with("implementations", json!({ "vault": "0x1" })), "implementations.vault = \"0x1\""),
        ] {
            let error = read(value.clone()).expect_err("refused");
            assert!(error.contains(named), "{value}: {error}");
        }
    }
}
