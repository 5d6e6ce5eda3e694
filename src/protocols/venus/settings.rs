//! Which pools a deployment is made of, and what must stay as it is.

use std::{collections::BTreeSet, str::FromStr};

use serde::Deserialize;

use crate::types::{Address, B256};

/// A deployment's contracts, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The pools' comptrollers. A pool's place in this list is its segment: new ones are appended.
    pub comptrollers: Vec<Address>,
    /// The auction house; without one bad debt is only reported.
    pub shortfall: Option<Address>,
    /// Pinned beacons with the proxies that must point to them.
    pub beacons: Vec<Beacon>,
    /// Pinned proxies with an implementation of their own (EIP-1967).
    pub proxies: Vec<Proxy>,
    /// Pinned runtime code.
    pub code_hashes: Vec<PinnedCode>,
}

/// A beacon whose implementation is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beacon {
    /// The beacon.
    pub beacon: Address,
    /// What its `implementation()` must return.
    pub implementation: Address,
    /// Proxies whose EIP-1967 beacon slot must hold the beacon.
    pub proxies: Vec<Address>,
}

/// A proxy whose implementation is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// The proxy.
    pub proxy: Address,
    /// What its EIP-1967 implementation slot must hold.
    pub implementation: Address,
}

/// A contract whose code is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinnedCode {
    /// The contract.
    pub contract: Address,
    /// keccak256 of its runtime code.
    pub code_hash: B256,
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
    /// There is nothing to watch.
    #[error("comptrollers is empty: name at least one pool's comptroller")]
    NoPool,
    /// One contract cannot be two things.
    #[error("{0} stands twice among comptrollers and shortfall")]
    Twice(Address),
}

/// The settings as written. Text, so that an error can name the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    comptrollers: Vec<String>,
    shortfall: Option<String>,
    #[serde(default)]
    beacons: Vec<WrittenBeacon>,
    #[serde(default)]
    proxies: Vec<WrittenProxy>,
    #[serde(default)]
    code_hashes: Vec<WrittenCode>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenBeacon {
    beacon: String,
    implementation: String,
    #[serde(default)]
    proxies: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenProxy {
    proxy: String,
    implementation: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCode {
    contract: String,
    code_hash: String,
}

impl TryFrom<serde_json::Value> for Settings {
    type Error = SettingsError;

    fn try_from(value: serde_json::Value) -> Result<Self, SettingsError> {
        let written: Written =
            serde_json::from_value(value).map_err(|error| SettingsError::Shape(error.to_string()))?;
        let beacon = |b: &WrittenBeacon| {
            Ok(Beacon {
                beacon: address("beacons.beacon", &b.beacon)?,
                implementation: address("beacons.implementation", &b.implementation)?,
                proxies: b.proxies.iter().map(|text| address("beacons.proxies", text)).collect::<Result<_, _>>()?,
            })
        };
        let proxy = |p: &WrittenProxy| {
            Ok(Proxy {
                proxy: address("proxies.proxy", &p.proxy)?,
                implementation: address("proxies.implementation", &p.implementation)?,
            })
        };
        let code = |c: &WrittenCode| {
            Ok(PinnedCode {
                contract: address("code_hashes.contract", &c.contract)?,
                code_hash: parse("code_hashes.code_hash", &c.code_hash, "a 32-byte hash in hex")?,
            })
        };
        let settings = Self {
            comptrollers: written
                .comptrollers
                .iter()
                .map(|text| address("comptrollers", text))
                .collect::<Result<_, _>>()?,
            shortfall: written.shortfall.map(|text| address("shortfall", &text)).transpose()?,
            beacons: written.beacons.iter().map(beacon).collect::<Result<_, _>>()?,
            proxies: written.proxies.iter().map(proxy).collect::<Result<_, _>>()?,
            code_hashes: written.code_hashes.iter().map(code).collect::<Result<_, _>>()?,
        };
        settings.checked()
    }
}

impl Settings {
    fn checked(self) -> Result<Self, SettingsError> {
        if self.comptrollers.is_empty() {
            return Err(SettingsError::NoPool);
        }
        let mut seen = BTreeSet::new();
        let twice = self.comptrollers.iter().chain(&self.shortfall).find(|contract| !seen.insert(**contract));
        match twice {
            Some(contract) => Err(SettingsError::Twice(*contract)),
            None => Ok(self),
        }
    }

    /// The number of a pool: its place in the list.
    pub(super) fn pool_number(&self, comptroller: Address) -> Option<u32> {
        let place = self.comptrollers.iter().position(|known| *known == comptroller)?;
        u32::try_from(place).ok()
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

    const POOL: &str = "0x1111111111111111111111111111111111111111";
    const OTHER: &str = "0x2222222222222222222222222222222222222222";

    fn read(value: Value) -> Result<Settings, String> {
        Settings::try_from(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pool_is_all_it_takes() {
        let settings = read(json!({ "comptrollers": [POOL] })).unwrap();
        assert_eq!(settings, Settings { comptrollers: vec![Address::repeat_byte(0x11)], ..Settings::default() });
        assert_eq!(settings.pool_number(Address::repeat_byte(0x11)), Some(0));
        assert_eq!(settings.pool_number(Address::repeat_byte(0x22)), None);
    }

    #[test]
    fn every_key_is_read() {
        let hash = format!("0x{}", "ab".repeat(32));
        let settings = read(json!({
            "comptrollers": [POOL, OTHER], "shortfall": "0x3333333333333333333333333333333333333333",
            "beacons": [{ "beacon": POOL, "implementation": OTHER, "proxies": [OTHER] }],
            "proxies": [{ "proxy": POOL, "implementation": OTHER }],
            "code_hashes": [{ "contract": OTHER, "code_hash": hash }],
        }))
        .unwrap();
        let (one, two) = (Address::repeat_byte(0x11), Address::repeat_byte(0x22));
        assert_eq!(settings.shortfall, Some(Address::repeat_byte(0x33)));
        assert_eq!(settings.beacons, [Beacon { beacon: one, implementation: two, proxies: vec![two] }]);
        assert_eq!(settings.proxies, [Proxy { proxy: one, implementation: two }]);
        assert_eq!(settings.code_hashes, [PinnedCode { contract: two, code_hash: B256::repeat_byte(0xab) }]);
    }

    #[test]
    fn a_refusal_names_the_key() {
        for (value, named) in [
            (json!({}), "comptrollers"),
            (json!({ "comptrollers": [] }), "comptrollers is empty"),
            (json!({ "comptrollers": ["0x12"] }), "comptrollers = \"0x12\""),
            (json!({ "comptrollers": [POOL, POOL] }), "stands twice"),
            (json!({ "comptrollers": [POOL], "shortfall": POOL }), "stands twice"),
            (json!({ "comptrollers": [POOL], "shortfal": POOL }), "shortfal"),
            (json!({ "comptrollers": [POOL], "shortfall": format!("0x{}", "0".repeat(40)) }), "shortfall = \"0x00"),
            (json!({ "comptrollers": [POOL], "beacons": [{ "beacon": POOL }] }), "implementation"),
            (json!({ "comptrollers": [POOL], "proxies": [{ "proxy": "x", "implementation": POOL }] }), "proxies.proxy"),
            (
                json!({ "comptrollers": [POOL], "code_hashes": [{ "contract": POOL, "code_hash": "0x1" }] }),
                "code_hashes.code_hash",
            ),
        ] {
            let error = read(value.clone()).expect_err("refused");
            assert!(error.contains(named), "{value}: {error}");
        }
    }
}
