//! What is forgotten: what people look at for a while and nothing is decided from.
//!
//! Invariants: what was decided, signed, mined, paid and borne stays for ever; a unit's last finding stays, since what it says
//! still holds; an open alert stays. Rows go in pieces, so that no transaction is long.
//! Must not: touch plans but for what they were made from, or anything of an episode that is open.

use std::time::Duration;

use super::{Journal, Result, session::in_tx};

/// Rows that one statement takes.
const PIECE: i64 = 5_000;

/// What was forgotten, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Findings that a later one of their unit replaced.
    pub findings: u64,
    /// Alerts that were resolved.
    pub alerts: u64,
    /// Plans that no longer carry what they were made from.
    pub decisions: u64,
}

impl Journal {
    /// Forgets one piece of each kind that is older than `keep`; all zero once there is nothing more.
    pub async fn forget(&self, keep: Duration) -> Result<Forgotten> {
        let seconds = keep.as_secs_f64();
        in_tx!(self, "forget", |tx| {
            let findings = sqlx::query(
                "-- forget\n\
                 DELETE FROM findings WHERE id IN (SELECT f.id FROM findings f \
                 WHERE f.recorded_at < now() - make_interval(secs => $1) AND EXISTS (SELECT 1 FROM findings later \
                 WHERE later.deployment_id = f.deployment_id AND later.unit_key = f.unit_key AND later.id > f.id) \
                 ORDER BY f.id LIMIT $2)",
            )
            .bind(seconds)
            .bind(PIECE)
            .execute(&mut *tx)
            .await?;
            let alerts = sqlx::query(
                "-- forget\n\
                 DELETE FROM alerts WHERE id IN (SELECT id FROM alerts \
                 WHERE resolved_at < now() - make_interval(secs => $1) ORDER BY id LIMIT $2)",
            )
            .bind(seconds)
            .bind(PIECE)
            .execute(&mut *tx)
            .await?;
            let decisions = sqlx::query(
                "-- forget\n\
                 UPDATE plans SET decision = NULL WHERE id IN (SELECT p.id FROM plans p \
                 JOIN episodes e ON e.id = p.episode_id WHERE p.decision IS NOT NULL \
                 AND e.closed_at < now() - make_interval(secs => $1) ORDER BY p.id LIMIT $2)",
            )
            .bind(seconds)
            .bind(PIECE)
            .execute(&mut *tx)
            .await?;
            Ok(Forgotten {
                findings: findings.rows_affected(),
                alerts: alerts.rows_affected(),
                decisions: decisions.rows_affected(),
            })
        })
    }
}
