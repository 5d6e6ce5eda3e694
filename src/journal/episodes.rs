//! Episodes: one segment's trouble, from its first distressed unit until it is calm.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use sqlx::Row;

use super::{
    DeploymentId, EpisodeId, Journal, JournalError, Result,
    session::{in_statement, in_tx},
    status::tier,
    values::{amount, bigint, json, narrow, number, text},
};
use crate::{
    recovery::Tier,
    types::{BlockRef, SegmentId, U256},
};

/// Opens an episode of deployment $1 and segment $2 at height $3 and hash $4 for cause $5, if there is a row to select from,
/// or finds the open one: the
/// empty-handed update makes the insert answer the row that is there.
macro_rules! open_episode {
    ($from:literal) => {
        concat!(
            "INSERT INTO episodes AS e (deployment_id, segment_id, opened_block, opened_hash, why) \
             SELECT $1, $2, $3, $4, $5",
            $from,
            " ON CONFLICT (deployment_id, segment_id) WHERE closed_at IS NULL DO UPDATE SET why = e.why RETURNING id"
        )
    };
}
pub(super) use open_episode;

impl Journal {
    /// Opens an episode for the segment, or finds the open one, whose beginning stays as it is.
    pub async fn open_episode(
        &self,
        deployment: DeploymentId,
        segment: SegmentId,
        block: &BlockRef,
        why: &str,
    ) -> Result<EpisodeId> {
        let block_number = bigint("opened_block", block.number)?;
        let why = text(why);
        in_tx!(self, "open_episode", |tx| {
            let id: i64 = sqlx::query_scalar(concat!("-- open_episode\n", open_episode!("")))
                .bind(deployment.0)
                .bind(i64::from(segment.0))
                .bind(block_number)
                .bind(block.hash.as_slice())
                .bind(&why)
                .fetch_one(tx)
                .await?;
            Ok(EpisodeId(id))
        })
    }

    /// Closes an episode with what is to be said of it. Conflict if it is not open.
    pub async fn close_episode(&self, episode: EpisodeId, block: &BlockRef, summary: &serde_json::Value) -> Result<()> {
        let block_number = bigint("closed_block", block.number)?;
        let summary = json("summary", summary)?;
        in_tx!(self, "close_episode", |tx| {
            let closed = sqlx::query(
                "-- close_episode\n\
                 UPDATE episodes SET closed_block = $2, closed_hash = $3, closed_at = now(), summary = $4 \
                 WHERE id = $1 AND closed_at IS NULL",
            )
            .bind(episode.0)
            .bind(block_number)
            .bind(block.hash.as_slice())
            .bind(&summary)
            .execute(tx)
            .await?;
            if closed.rows_affected() == 1 {
                return Ok(());
            }
            Err(JournalError::Conflict(format!("close_episode: episode {episode} is not open")).into())
        })
    }

    /// The open episodes of a deployment, by segment, each with the height it was opened at.
    pub async fn open_episodes(&self, deployment: DeploymentId) -> Result<Vec<(EpisodeId, SegmentId, u64)>> {
        in_statement!(self, "open_episodes", |tx| {
            let rows = sqlx::query(
                "-- open_episodes\n\
                 SELECT id, segment_id, opened_block FROM episodes WHERE deployment_id = $1 AND closed_at IS NULL \
                 ORDER BY segment_id",
            )
            .bind(deployment.0)
            .fetch_all(tx)
            .await?;
            rows.iter()
                .map(|row| {
                    let segment = SegmentId(narrow("segment_id", row.try_get("segment_id")?)?);
                    let opened = number("opened_block", row.try_get("opened_block")?)?;
                    Ok((EpisodeId(row.try_get("id")?), segment, opened))
                })
                .collect()
        })
    }

    /// What each tier absorbed in an episode, settlement-token units: from the logs of its mined transactions, not from
    /// its plans.
    pub async fn episode_absorbed(&self, episode: EpisodeId) -> Result<BTreeMap<Tier, U256>> {
        in_statement!(self, "episode_absorbed", |tx| {
            let rows = sqlx::query(
                "-- episode_absorbed\n\
                 SELECT e.tier, SUM(e.absorbed) AS absorbed FROM effects e \
                 JOIN transactions t ON t.id = e.transaction_id JOIN plans p ON p.id = t.plan_id \
                 WHERE p.episode_id = $1 GROUP BY e.tier",
            )
            .bind(episode.0)
            .fetch_all(tx)
            .await?;
            rows.iter()
                .map(|row| {
                    let absorbed: BigDecimal = row.try_get("absorbed")?;
                    Ok((tier(row.try_get("tier")?)?, amount("absorbed", &absorbed)?))
                })
                .collect()
        })
    }
}
