//! What the operator set for a running deployment, and what stood before.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::Row;

use super::{DeploymentId, Journal, Result, session::in_tx, values::json};

/// The part of a deployment's settings that can change while it runs.
const RECOVERY: &str = "recovery";

/// How a change came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameBy {
    /// With the process: the file had changed while it was down.
    Start,
    /// By signal.
    Sighup,
    /// Over HTTP.
    Api,
}

impl CameBy {
    /// The word in SQL and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Sighup => "sighup",
            Self::Api => "api",
        }
    }
}

/// A change, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SettingsChange {
    /// `start`, `sighup` or `api`.
    pub came_by: String,
    /// What stood before; `None` for the first.
    pub before: Option<serde_json::Value>,
    /// What stands since.
    pub after: serde_json::Value,
    /// When it was written, by the database's clock.
    pub changed_at: DateTime<Utc>,
}

impl Journal {
    /// Writes down what the deployment's recovery settings are from now on, unless they are so already; whether it did.
    pub async fn record_recovery_settings(
        &self,
        deployment: DeploymentId,
        came_by: CameBy,
        after: &serde_json::Value,
    ) -> Result<bool> {
        let after = json("after", after)?;
        in_tx!(self, "record_recovery_settings", |tx| {
            let written = sqlx::query(
                "-- record_recovery_settings\n\
                 INSERT INTO settings_changes (deployment_id, what, came_by, before, after) \
                 SELECT $1, $2, $3, latest.after, $4 FROM (SELECT 1) AS one LEFT JOIN LATERAL \
                 (SELECT after FROM settings_changes WHERE deployment_id = $1 AND what = $2 ORDER BY id DESC LIMIT 1) \
                 AS latest ON true WHERE latest.after IS DISTINCT FROM $4",
            )
            .bind(deployment.0)
            .bind(RECOVERY)
            .bind(came_by.as_str())
            .bind(&after)
            .execute(tx)
            .await?;
            Ok(written.rows_affected() == 1)
        })
    }

    /// The changes of a deployment's recovery settings, newest first.
    pub async fn recovery_settings_changes(&self, deployment: DeploymentId, limit: u32) -> Result<Vec<SettingsChange>> {
        in_tx!(self, "recovery_settings_changes", |tx| {
            let rows = sqlx::query(
                "-- recovery_settings_changes\n\
                 SELECT came_by, before, after, changed_at FROM settings_changes \
                 WHERE deployment_id = $1 AND what = $2 ORDER BY id DESC LIMIT $3",
            )
            .bind(deployment.0)
            .bind(RECOVERY)
            .bind(i64::from(limit))
            .fetch_all(tx)
            .await?;
            rows.iter()
                .map(|row| {
                    Ok(SettingsChange {
                        came_by: row.try_get("came_by")?,
                        before: row.try_get("before")?,
                        after: row.try_get("after")?,
                        changed_at: row.try_get("changed_at")?,
                    })
                })
                .collect()
        })
    }
}
