//! Reading words of closed lists, so that a wrong one is answered with the list.

use std::net::SocketAddr;

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{DeserializeOwned, Error, IntoDeserializer, value},
};

use crate::recovery::{self, AdlPolicy};

/// One of an enum's words.
pub(super) fn one_of<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<T, D::Error> {
    let word = String::deserialize(deserializer)?;
    let plain: value::StringDeserializer<value::Error> = word.into_deserializer();
    T::deserialize(plain).map_err(D::Error::custom)
}

/// An address and a port.
pub(super) fn socket_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!("{text:?} is not an address and port; write one like \"127.0.0.1:9464\""))
    })
}

/// A deleveraging policy, by the word it is registered under.
pub(super) fn adl_policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'static dyn AdlPolicy, D::Error> {
    let word = String::deserialize(deserializer)?;
    recovery::adl_policy(&word).ok_or_else(|| {
        let words: Vec<_> = recovery::adl_policy_words().map(|word| format!("`{word}`")).collect();
        D::Error::custom(format!("unknown variant `{word}`, expected one of {}", words.join(", ")))
    })
}

/// The same where it may be left out.
pub(super) fn some_adl_policy<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'static dyn AdlPolicy>, D::Error> {
    adl_policy(deserializer).map(Some)
}

/// The same where it may be left out.
pub(super) fn some_adl_policy_word<S: Serializer>(
    policy: &Option<&'static dyn AdlPolicy>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match policy {
        Some(policy) => adl_policy_word(policy, serializer),
        None => serializer.serialize_none(),
    }
}

/// The word of a deleveraging policy.
pub(super) fn adl_policy_word<S: Serializer>(
    policy: &&'static dyn AdlPolicy,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(policy.name())
}
