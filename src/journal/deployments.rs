//! Deployments: what a name stands for, and which process may act for it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};

use super::{
    DeploymentId, Journal, JournalError, Result,
    actions::deployment_name,
    error::Failure,
    session::{CONNECT_TIMEOUT, in_tx},
    values::{bigint, json, number},
};
use crate::types::DeploymentName;

/// How long the lock's own connection may take to answer before the lock counts as lost.
const LOCK_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// A deployment as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentRow {
    /// Which.
    pub id: DeploymentId,
    /// Its name.
    pub name: DeploymentName,
    /// Its chain.
    pub chain_id: u64,
    /// The config word of its adapter.
    pub adapter: String,
    /// Its settings at the last start, without secrets.
    pub settings: serde_json::Value,
    /// When it was first registered.
    pub created_at: DateTime<Utc>,
    /// When it was last registered.
    pub updated_at: DateTime<Utc>,
}

/// The right to act for a deployment: a session lock on a connection of its own. It ends with the connection, at the
/// latest when the process does.
#[derive(Debug)]
pub struct DeploymentLock {
    connection: PgConnection,
}

impl DeploymentLock {
    /// Whether the lock is still ours. Also false when the database does not answer within 5 s: it may have given the
    /// lock to somebody else.
    pub async fn still_held(&mut self) -> bool {
        let held = sqlx::query_scalar::<_, bool>(
            "-- still_held\n\
             SELECT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND granted)",
        )
        .fetch_one(&mut self.connection);
        matches!(tokio::time::timeout(LOCK_CHECK_TIMEOUT, held).await, Ok(Ok(true)))
    }

    /// Gives the lock up.
    pub async fn release(self) -> Result<()> {
        self.connection.close().await.map_err(lock_error)
    }
}

impl Journal {
    /// Takes the right to act for a deployment of this database; `None` if another connection, of this process or
    /// another, has it.
    pub async fn lock_deployment(&self, name: &DeploymentName) -> Result<Option<DeploymentLock>> {
        let options = self.pool.connect_options();
        let taken = async {
            let mut connection = options.connect().await?;
            // the server must notice within about a minute that this host is gone, or nobody can take over
            sqlx::query(
                "-- lock_deployment\n\
                 SELECT set_config('tcp_keepalives_idle', '20', false), \
                 set_config('tcp_keepalives_interval', '10', false), set_config('tcp_keepalives_count', '4', false), \
                 set_config('idle_session_timeout', '0', false)",
            )
            .execute(&mut connection)
            .await?;
            let taken: bool = sqlx::query_scalar(
                "-- lock_deployment\nSELECT pg_try_advisory_lock(hashtextextended('backstop deployment ' || $1, 0))",
            )
            .bind(name.as_str())
            .fetch_one(&mut connection)
            .await?;
            Ok::<_, sqlx::Error>(taken.then_some(DeploymentLock { connection }))
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, taken).await {
            Ok(result) => result.map_err(lock_error),
            Err(_) => Err(JournalError::Unavailable("lock_deployment: no answer within 5 s".to_owned())),
        }
    }

    /// Writes down a deployment, or finds it. `settings` are kept for people and must hold no secret. Conflict where
    /// the name stands for another chain or adapter: its cache and its history would be mixed with another's.
    pub async fn register_deployment(
        &self,
        name: &DeploymentName,
        chain_id: u64,
        adapter: &str,
        settings: &serde_json::Value,
    ) -> Result<DeploymentId> {
        let settings = json("settings", settings)?;
        let chain = bigint("chain_id", chain_id)?;
        in_tx!(self, "register_deployment", |tx| {
            let id: Option<i64> = sqlx::query_scalar(
                "-- register_deployment\n\
                 INSERT INTO deployments AS d (name, chain_id, adapter, settings) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (name) DO UPDATE SET settings = excluded.settings, updated_at = now() \
                 WHERE d.chain_id = excluded.chain_id AND d.adapter = excluded.adapter \
                 RETURNING id",
            )
            .bind(name.as_str())
            .bind(chain)
            .bind(adapter)
            .bind(&settings)
            .fetch_optional(tx)
            .await?;
            id.map(DeploymentId).ok_or_else(|| {
                let what = format!(
                    "deployment {name} is in the journal with another chain id than {chain_id} or another \
                                    adapter than {adapter}: give the new one another name"
                );
                JournalError::Conflict(what).into()
            })
        })
    }

    /// The deployment of this name.
    pub async fn deployment_by_name(&self, name: &DeploymentName) -> Result<Option<DeploymentRow>> {
        in_tx!(self, "deployment_by_name", |tx| {
            let row = sqlx::query(
                "-- deployment_by_name\n\
                 SELECT id, name, chain_id, adapter, settings, created_at, updated_at FROM deployments WHERE name = $1",
            )
            .bind(name.as_str())
            .fetch_optional(tx)
            .await?;
            let Some(row) = row else { return Ok(None) };
            Ok(Some(DeploymentRow {
                id: DeploymentId(row.try_get("id")?),
                name: deployment_name(row.try_get("name")?)?,
                chain_id: number("chain_id", row.try_get("chain_id")?)?,
                adapter: row.try_get("adapter")?,
                settings: row.try_get("settings")?,
                created_at: row.try_get("created_at")?,
                updated_at: row.try_get("updated_at")?,
            }))
        })
    }
}

fn lock_error(error: sqlx::Error) -> JournalError {
    Failure::of("lock_deployment", error.into()).given_up()
}
