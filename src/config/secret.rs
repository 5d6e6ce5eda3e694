//! Values that may be used but not shown.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// A secret text. Everything that prints it prints `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A URL that may carry credentials anywhere but in its host. Everything that prints it prints scheme and host only.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct SecretUrl(String);

impl SecretUrl {
    /// The URL, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What stands before `://`.
    pub fn scheme(&self) -> Option<&str> {
        self.0.split_once("://").map(|(scheme, _)| scheme)
    }
}

impl From<&str> for SecretUrl {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str("[redacted]") };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, tail) = rest.split_at(end);
        let (host, hidden) = match authority.rsplit_once('@') {
            Some((_, host)) => (host, !tail.is_empty()),
            // An unescaped '/' in a password would otherwise pass for the end of the host.
            None if tail.contains('@') => ("[redacted]", false),
            None => (authority, tail.len() > 1),
        };
        write!(f, "{scheme}://{host}{}", if hidden { "/…" } else { "" })
    }
}

impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_show_scheme_and_host_only() {
        for (url, shown) in [
            ("ws://127.0.0.1:8545", "ws://127.0.0.1:8545"),
            ("https://eth.example.org/v2/KEY", "https://eth.example.org/…"),
            ("https://eth.example.org?key=KEY", "https://eth.example.org/…"),
            ("https://user:KEY@eth.example.org", "https://eth.example.org"),
            ("postgres://user:KEY@db:5432/backstop", "postgres://db:5432/…"),
            ("postgres://user:K/EY@db:5432/backstop", "postgres://[redacted]"),
            ("postgres://user:K@KEY@db:5432/backstop", "postgres://db:5432/…"),
            ("https://eth.example.org/?mail=a@KEY", "https://[redacted]"),
            ("KEY", "[redacted]"),
        ] {
            let secret = SecretUrl::from(url);
            assert_eq!(secret.to_string(), shown);
            assert_eq!(format!("{secret:?}"), format!("\"{shown}\""));
            assert_eq!(serde_json::to_value(&secret).unwrap(), shown);
        }
    }

    #[test]
    fn a_secret_prints_redacted() {
        let secret = Secret::new("KEY".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(secret.expose(), "KEY");
    }
}
