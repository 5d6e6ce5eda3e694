//! One webhook: a signed JSON post with bounded retries.
//!
//! The signature is HMAC-SHA256, under the webhook's secret, over `<timestamp>.<body>`, so that a receiver can refuse
//! forged and replayed posts.

use std::{fmt, time::Duration};

use anyhow::Context;
use chrono::{DateTime, Utc};
use hmac::{Hmac, Mac};
use reqwest::{StatusCode, header, redirect};
use serde::Serialize;
use sha2::Sha256;

use super::{AlertKey, Severity};

const ATTEMPTS_MAX: u32 = 4;
const BACKOFF: Duration = Duration::from_millis(500);

/// Where a webhook is and what it wants. `Debug` keeps URL and secret to itself.
#[derive(Clone)]
pub struct WebhookSettings {
    /// Its name in logs and metrics.
    pub name: String,
    /// Where the JSON goes.
    pub url: String,
    /// Key of the signature; posts are unsigned without.
    pub secret: Option<String>,
    /// Mildest alert posted here.
    pub min_severity: Severity,
    /// Longest attempt.
    pub timeout: Duration,
}

impl fmt::Debug for WebhookSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSettings")
            .field("name", &self.name)
            .field("signed", &self.secret.is_some())
            .field("min_severity", &self.min_severity)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What happened to the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    Raised,
    Resolved,
}

/// The posted JSON.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Payload {
    pub(super) event: Event,
    /// The same for one cause over all its events.
    pub(super) key: String,
    pub(super) kind: &'static str,
    pub(super) severity: Severity,
    pub(super) deployment: Option<String>,
    pub(super) title: &'static str,
    /// Absent when resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    /// Section of `docs/RUNBOOK.md`.
    pub(super) runbook: &'static str,
    pub(super) at: DateTime<Utc>,
}

impl Payload {
    pub(super) fn new(
        event: Event,
        key: &AlertKey,
        severity: Severity,
        detail: Option<&str>,
        at: DateTime<Utc>,
    ) -> Self {
        Self {
            event,
            key: key.to_string(),
            kind: key.kind().as_str(),
            severity,
            deployment: key.deployment().map(ToString::to_string),
            title: key.kind().title(),
            detail: detail.map(ToOwned::to_owned),
            runbook: key.kind().runbook(),
            at,
        }
    }
}

/// Why a post was not taken. Never says the URL.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    /// The receiver did not answer, or said to come back.
    #[error("no acceptance after {ATTEMPTS_MAX} attempts: {0}")]
    Exhausted(String),
    /// The receiver will not take it.
    #[error("refused with status {0}")]
    Refused(StatusCode),
}

/// A webhook ready to post.
pub(super) struct Webhook {
    pub(super) settings: WebhookSettings,
    pub(super) backoff: Duration,
    client: reqwest::Client,
}

impl Webhook {
    pub(super) fn new(settings: WebhookSettings) -> anyhow::Result<Self> {
        // A redirect would carry the payload to a host that nobody configured.
        let client = reqwest::Client::builder()
            .timeout(settings.timeout)
            .redirect(redirect::Policy::none())
            .build()
            .with_context(|| format!("build the HTTP client of webhook {}", settings.name))?;
        Ok(Self { settings, backoff: BACKOFF, client })
    }

    /// Posts, again while the receiver does not answer or says that it cannot now.
    pub(super) async fn post(&self, payload: &Payload) -> Result<(), PostError> {
        let body = serde_json::to_string(payload).expect("invariant: a payload has string keys only");
        let mut last = String::new();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(self.backoff * 2_u32.pow(attempt - 1)).await;
            }
            match self.post_once(&body, Utc::now().timestamp()).await {
                Ok(status) if status.is_success() => return Ok(()),
                Ok(status) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                    last = format!("status {status}");
                }
                Ok(status) => return Err(PostError::Refused(status)),
                Err(error) => last = error.without_url().to_string(),
            }
        }
        Err(PostError::Exhausted(last))
    }

    async fn post_once(&self, body: &str, timestamp: i64) -> Result<StatusCode, reqwest::Error> {
        let mut request = self
            .client
            .post(&self.settings.url)
            .header(header::CONTENT_TYPE, "application/json")
            .header("X-Backstop-Timestamp", timestamp.to_string());
        if let Some(secret) = &self.settings.secret {
            request = request.header("X-Backstop-Signature", signature(secret, timestamp, body));
        }
        Ok(request.body(body.to_owned()).send().await?.status())
    }
}

/// `sha256=` and the hex of HMAC-SHA256 over `<timestamp>.<body>`.
fn signature(secret: &str, timestamp: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("invariant: HMAC takes a key of any length");
    mac.update(format!("{timestamp}.{body}").as_bytes());
    format!("sha256={}", alloy::primitives::hex::encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::vec,
        prelude::*,
        test_runner::{Config, TestRunner},
    };

    use super::*;
    use crate::alerts::{Alert, AlertKind};

    /// A subject, a detail at its longest and what surrounds them, every character of them escaped.
    const BODY_BYTES_MAX: usize = 32 << 10;

    #[test]
    fn signatures_are_hmac_sha256_over_timestamp_and_body() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
        let expected = "sha256=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
        assert_eq!(signature("key", 1_700_000_000, "{\"a\":1}"), expected);
    }

    #[test]
    fn fuzz_any_detail_makes_a_payload_that_is_read_back_and_whose_signature_holds_for_it_alone() {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        let config = Config { failure_persistence: None, ..Config::default() };
        println!("{} payloads", config.cases);
        let said = (any::<String>(), any::<String>(), any::<i64>(), vec(any::<u8>(), 0..100), any::<usize>());
        TestRunner::new(config)
            .run(&said, |(subject, detail, timestamp, secret, place)| {
                let kind = AlertKind::ALL[place % AlertKind::ALL.len()];
                let alert = Alert::new(AlertKey::new(kind, None, &subject), detail.repeat(1 + place % 50));
                let payload = Payload::new(Event::Raised, &alert.key, alert.severity, Some(&alert.detail), at);
                let body = serde_json::to_string(&payload).unwrap();
                prop_assert!(body.len() < BODY_BYTES_MAX, "{} bytes", body.len());
                let read: serde_json::Value = serde_json::from_str(&body).unwrap();
                prop_assert_eq!(read["detail"].as_str(), Some(alert.detail.as_str()));
                let secret = String::from_utf8_lossy(&secret).into_owned();
                let signed = signature(&secret, timestamp, &body);
                let holds = |timestamp: i64, body: &[u8]| {
                    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
                    mac.update(timestamp.to_string().as_bytes());
                    mac.update(b".");
                    mac.update(body);
                    let given = alloy::primitives::hex::decode(&signed["sha256=".len()..]).unwrap();
                    mac.verify_slice(&given).is_ok()
                };
                let mut other = body.clone().into_bytes();
                let length = other.len();
                other[place % length] ^= 1;
                prop_assert!(holds(timestamp, body.as_bytes()));
                prop_assert!(!holds(timestamp, &other) && !holds(timestamp.wrapping_add(1), body.as_bytes()));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn settings_keep_their_secrets() {
        let settings = WebhookSettings {
            name: "oncall".to_owned(),
            url: "https://h/HOOKPATH".to_owned(),
            secret: Some("HOOKSECRET".to_owned()),
            min_severity: Severity::Info,
            timeout: Duration::from_secs(1),
        };
        let shown = format!("{settings:?}");
        assert!(shown.contains("oncall") && !shown.contains("HOOK"), "{shown}");
    }
}
