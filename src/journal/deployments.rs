//! Deployments: what a name stands for.

use chrono::{DateTime, Utc};
use sqlx::Row;

use super::{
    DeploymentId, Journal, JournalError, Result,
    actions::deployment_name,
    session::in_tx,
    values::{bigint, json, number},
};
use crate::types::DeploymentName;

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

impl Journal {
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
