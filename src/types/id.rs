//! Identifiers: what is compared, stored and printed, each with one textual form.

use std::{fmt, str::FromStr};

use alloy::primitives::Bytes;
use serde::{Deserialize, Serialize};

/// An identifier's text was not of its form.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IdError {
    /// A deployment's name.
    #[error("deployment name {0:?}: 1 to 32 of a-z, 0-9, '_' and '-', beginning with a letter")]
    DeploymentName(String),
    /// A unit's key.
    #[error("unit key {0:?}: 0x and 1 to 64 bytes of hex")]
    UnitKey(String),
}

/// A deployment's name: the config key, the SQL key and the metric label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeploymentName(String);

impl DeploymentName {
    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DeploymentName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        let well_formed = (1..=32).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(allowed);
        if well_formed { Ok(Self(text.to_owned())) } else { Err(IdError::DeploymentName(text.to_owned())) }
    }
}

impl TryFrom<String> for DeploymentName {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<DeploymentName> for String {
    fn from(name: DeploymentName) -> Self {
        name.0
    }
}

impl fmt::Display for DeploymentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whatever the protocol liquidates as one decision. Opaque: only its adapter knows what the bytes mean.
///
/// Ordered bytewise, which is how ties are broken wherever an order must be total.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UnitKey(Bytes);

impl UnitKey {
    /// Longest key, in bytes: a bound on what logs can make the cache hold.
    pub const BYTES_MAX: usize = 64;

    /// A key of 1 to [`Self::BYTES_MAX`] bytes.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, IdError> {
        let bytes = bytes.into();
        if (1..=Self::BYTES_MAX).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(IdError::UnitKey(bytes.to_string()))
        }
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for UnitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for UnitKey {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes: Bytes = text.parse().map_err(|_| IdError::UnitKey(text.to_owned()))?;
        Self::new(bytes)
    }
}

/// The part of a protocol inside which a loss stays unless a later tier says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId(pub u32);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A market (or reserve) of a protocol: what a leg is a holding in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MarketId(pub u32);

impl fmt::Display for MarketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployment_names_are_checked() {
        assert!("venue-1".parse::<DeploymentName>().is_ok());
        for bad in ["", "1venue", "Venue", "a b", &"a".repeat(33)] {
            assert_eq!(bad.parse::<DeploymentName>(), Err(IdError::DeploymentName(bad.to_owned())));
        }
    }

    #[test]
    fn unit_keys_survive_their_text() {
        let key = UnitKey::new(vec![0, 1, 0xfe]).unwrap();
        assert_eq!(key.to_string(), "0x0001fe");
        assert_eq!(key.to_string().parse::<UnitKey>(), Ok(key));
        assert!(UnitKey::new(vec![]).is_err());
        assert!(UnitKey::new(vec![0; 65]).is_err());
        assert!("0xzz".parse::<UnitKey>().is_err());
    }
}
