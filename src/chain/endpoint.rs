//! Where a node is, without its secrets ever being printed.

use std::{fmt, str::FromStr};

use reqwest::Url;

/// A node's URL was not usable. The text never repeats the URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL at all, or one without a host.
    #[error("not a URL with a host; expected http://, https://, ws:// or wss://")]
    NotAUrl,
    /// A scheme this client does not speak.
    #[error("scheme {0:?} is not supported; use http, https, ws or wss")]
    Scheme(String),
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One request a round trip; heads are polled.
    Http,
    /// One connection; heads are pushed.
    WebSocket,
}

/// A node's URL. `Debug` and `Display` show scheme, host and port only: keys hide in user info, path and query alike.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// How it is spoken to.
    pub fn transport(&self) -> Transport {
        match self.0.scheme() {
            "ws" | "wss" => Transport::WebSocket,
            _ => Transport::Http,
        }
    }

    /// The whole URL, secrets included, for who speaks to it.
    pub(crate) fn expose(&self) -> &Url {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let url = Url::parse(text.trim()).map_err(|_| EndpointError::NotAUrl)?;
        if !url.has_host() {
            return Err(EndpointError::NotAUrl);
        }
        match url.scheme() {
            "http" | "https" | "ws" | "wss" => Ok(Self(url)),
            other => Err(EndpointError::Scheme(other.to_owned())),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.0.username().is_empty() && self.0.password().is_none() { "" } else { "***@" };
        write!(f, "{}://{user}{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        let tail = !matches!(self.0.path(), "" | "/") || self.0.query().is_some() || self.0.fragment().is_some();
        f.write_str(if tail { "/***" } else { "" })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

/// Text from a node or a transport, fit to be logged and stored: URLs redacted, NUL and other control characters
/// taken out, at most [`TEXT_CHARS_MAX`] characters.
pub(crate) fn clean_text(text: &str) -> String {
    let mut clean = String::new();
    for word in text.split_inclusive(char::is_whitespace) {
        clean.push_str(&redact_word(word));
    }
    clean
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control())
        .take(TEXT_CHARS_MAX)
        .collect()
}

/// Longest text of a foreign error that is kept.
const TEXT_CHARS_MAX: usize = 400;

/// A word without white space, any URL in it redacted up to a closing bracket or quote.
fn redact_word(word: &str) -> String {
    let Some(start) = ["http://", "https://", "ws://", "wss://"].iter().filter_map(|s| word.find(s)).min() else {
        return word.to_owned();
    };
    let (lead, rest) = word.split_at(start);
    let end = rest.find([')', '"', '\'', '>', '`']).unwrap_or(rest.trim_end().len());
    let (url, trail) = rest.split_at(end);
    let shown = url.parse::<Endpoint>().map_or_else(|_| "***".to_owned(), |e| e.to_string());
    format!("{lead}{shown}{trail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_of_a_url_is_printed() {
        let cases = [
            (
                "https://user:hunter2@node.example:8443/v3/hunter2?key=hunter2#hunter2",
                "https://***@node.example:8443/***",
            ),
            ("wss://node.example/hunter2", "wss://node.example/***"),
            ("http://127.0.0.1:8545/", "http://127.0.0.1:8545"),
            ("http://127.0.0.1:8545?k=hunter2", "http://127.0.0.1:8545/***"),
        ];
        for (text, shown) in cases {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), shown);
            assert!(!format!("{endpoint:?}").contains("hunter2"));
        }
    }

    #[test]
    fn unusable_urls_are_refused_without_being_repeated() {
        for (text, error) in [
            ("hunter2", EndpointError::NotAUrl),
            ("http://", EndpointError::NotAUrl),
            ("ftp://hunter2@node.example", EndpointError::Scheme("ftp".to_owned())),
        ] {
            let refused = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(refused, error);
            assert!(!refused.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn foreign_text_loses_urls_control_characters_and_length() {
        let text = "error sending request for url (https://u:hunter2@n.example/hunter2?a=hunter2): refused\0\n\u{7}x";
        let clean = clean_text(text);
        assert_eq!(clean, "error sending request for url (https://***@n.example/***): refused x");
        assert_eq!(clean_text("see ws://n.example/hunter2 now"), "see ws://n.example/*** now");
        assert_eq!(clean_text(&"é".repeat(1000)).chars().count(), TEXT_CHARS_MAX);
    }
}
