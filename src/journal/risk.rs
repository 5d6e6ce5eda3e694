//! What was measured of prices and expected of units. Estimates: nothing here is booked.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use sqlx::Row;

use super::{
    DeploymentId, Journal, Result,
    session::in_tx,
    values::{bigint, from_json, json},
};
use crate::types::BlockRef;

impl Journal {
    /// What was measured before, `None` if nothing was stored.
    pub async fn risk_moves<T: DeserializeOwned + Send>(&self, deployment: DeploymentId) -> Result<Option<T>> {
        in_tx!(self, "risk_moves", |tx| {
            let row = sqlx::query("-- risk_moves\nSELECT moves FROM risk_moves WHERE deployment_id = $1")
                .bind(deployment.0)
                .fetch_optional(tx)
                .await?;
            let stored = row.map(|row| row.try_get("moves")).transpose()?;
            Ok(stored.map(|stored| from_json("moves", stored)).transpose()?)
        })
    }

    /// Writes a report beside what its model was made of, and removes the deployment's reports that are older than `keep`.
    pub async fn record_risk(
        &self,
        deployment: DeploymentId,
        block: &BlockRef,
        (moves, report): (&(impl Serialize + Sync), &(impl Serialize + Sync)),
        keep: Duration,
    ) -> Result<()> {
        let (moves, report) = (json("moves", moves)?, json("report", report)?);
        let number = bigint("block", block.number)?;
        in_tx!(self, "record_risk", |tx| {
            self.check_fence(tx).await?;
            sqlx::query(
                "-- record_risk\n\
                 INSERT INTO risk_moves (deployment_id, moves) VALUES ($1, $2) \
                 ON CONFLICT (deployment_id) DO UPDATE SET moves = excluded.moves, updated_at = now()",
            )
            .bind(deployment.0)
            .bind(&moves)
            .execute(&mut *tx)
            .await?;
            sqlx::query(
                "-- record_risk\n\
                 INSERT INTO risk_reports (deployment_id, block_number, block_hash, report) VALUES ($1, $2, $3, $4)",
            )
            .bind(deployment.0)
            .bind(number)
            .bind(block.hash.as_slice())
            .bind(&report)
            .execute(&mut *tx)
            .await?;
            sqlx::query(
                "-- record_risk\n\
                 DELETE FROM risk_reports \
                 WHERE deployment_id = $1 AND created_at < now() - make_interval(secs => $2)",
            )
            .bind(deployment.0)
            .bind(keep.as_secs_f64())
            .execute(&mut *tx)
            .await?;
            Ok(())
        })
    }
}
