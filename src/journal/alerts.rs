//! Alerts: which are open, so that one cause is told once, also over restarts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Row;

use super::{DeploymentId, Journal, JournalError, Result, session::in_tx, values::text};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertSeverity {
    /// For the record.
    Info,
    /// Somebody should look today.
    Warning,
    /// Somebody must look now.
    Critical,
}

impl AlertSeverity {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }

    fn from_word(word: &str) -> Result<Self> {
        [Self::Info, Self::Warning, Self::Critical]
            .into_iter()
            .find(|severity| severity.as_str() == word)
            .ok_or_else(|| JournalError::corrupt("alert severity", word))
    }
}

/// An alert that is being raised.
#[derive(Clone, Debug)]
pub struct AlertRow {
    /// Whose it is, if anybody's.
    pub deployment: Option<DeploymentId>,
    /// Its cause and subject: alerts of one key are one alert.
    pub key: String,
    /// How bad it is.
    pub severity: AlertSeverity,
    /// One line.
    pub title: String,
    /// The rest.
    pub detail: String,
    /// When.
    pub now: DateTime<Utc>,
    /// An alert that stays open is told again after this long; `None`: never.
    pub repeat_after: Option<Duration>,
}

/// What to do with an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertDecision {
    /// Tell people: it is new, worse than before, or due to be told again.
    Deliver,
    /// It was told already.
    Suppressed,
}

impl Journal {
    /// Raises an alert and answers whether to tell people. The stored severity only rises while the alert is open.
    pub async fn raise_alert(&self, alert: &AlertRow) -> Result<AlertDecision> {
        let key = text(&alert.key);
        in_tx!(self, "raise_alert", |tx| {
            let row = sqlx::query(
                "-- raise_alert\n\
                 INSERT INTO alerts AS a (deployment_id, key, severity, title, detail, opened_at, last_seen_at, \
                 delivered_at) VALUES ($1, $2, $3, $4, $5, $6, $6, $6) \
                 ON CONFLICT (key) WHERE resolved_at IS NULL \
                 DO UPDATE SET seen = a.seen + 1, last_seen_at = GREATEST(a.last_seen_at, excluded.last_seen_at) \
                 RETURNING id, severity, delivered_at, seen",
            )
            .bind(alert.deployment.map(|deployment| deployment.0))
            .bind(&key)
            .bind(alert.severity.as_str())
            .bind(text(&alert.title))
            .bind(text(&alert.detail))
            .bind(alert.now)
            .fetch_one(&mut *tx)
            .await?;
            if row.try_get::<i64, _>("seen")? == 1 {
                return Ok(AlertDecision::Deliver);
            }
            let told = AlertSeverity::from_word(row.try_get("severity")?)?;
            let due = is_due(alert, row.try_get("delivered_at")?);
            if alert.severity <= told && !due {
                return Ok(AlertDecision::Suppressed);
            }
            sqlx::query(
                "-- raise_alert\n\
                 UPDATE alerts SET severity = $2, title = $3, detail = $4, delivered_at = $5 WHERE id = $1",
            )
            .bind(row.try_get::<i64, _>("id")?)
            .bind(alert.severity.max(told).as_str())
            .bind(text(&alert.title))
            .bind(text(&alert.detail))
            .bind(alert.now)
            .execute(&mut *tx)
            .await?;
            Ok(AlertDecision::Deliver)
        })
    }

    /// Closes the open alert of this key and answers whether there was one.
    pub async fn resolve_alert(&self, key: &str, now: DateTime<Utc>) -> Result<bool> {
        let key = text(key);
        in_tx!(self, "resolve_alert", |tx| {
            let done = sqlx::query(
                "-- resolve_alert\nUPDATE alerts SET resolved_at = $2 WHERE key = $1 AND resolved_at IS NULL",
            )
            .bind(&key)
            .bind(now)
            .execute(tx)
            .await?;
            Ok(done.rows_affected() == 1)
        })
    }
}

/// Whether an open alert is to be told again.
fn is_due(alert: &AlertRow, delivered_at: DateTime<Utc>) -> bool {
    let elapsed = alert.now.signed_duration_since(delivered_at).to_std().unwrap_or_default();
    alert.repeat_after.is_some_and(|after| elapsed >= after)
}
