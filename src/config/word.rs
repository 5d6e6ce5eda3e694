//! Reading words of closed lists, so that a wrong one is answered with the list.

use std::net::SocketAddr;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, IntoDeserializer, value},
};

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
