//! What is forgotten: what people look at for a while and nothing is decided from.
//!
//! Invariants: what was decided, signed, mined, paid and borne stays for ever; a unit's last finding stays, since what it says
//! still holds; an open alert stays; an action's event that stays has what its plan was made from. Rows go in pieces and
//! events by the month, so that no transaction is long.
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
    /// Partitions of actions' events.
    pub months: u64,
}

impl Journal {
    /// Forgets one piece of each kind that is older than `keep`; all zero once there is nothing more.
    pub async fn forget(&self, keep: Duration) -> Result<Forgotten> {
        let seconds = keep.as_secs_f64();
        let mut gone = in_tx!(self, "forget", |tx| {
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
                 AND e.closed_at < date_trunc('month', now() - make_interval(secs => $1)) ORDER BY p.id LIMIT $2)",
            )
            .bind(seconds)
            .bind(PIECE)
            .execute(&mut *tx)
            .await?;
            Ok(Forgotten {
                findings: findings.rows_affected(),
                alerts: alerts.rows_affected(),
                decisions: decisions.rows_affected(),
                months: 0,
            })
        })?;
        gone.months = self.forget_months(seconds).await?;
        Ok(gone)
    }

    /// Drops the months of which all is older, and empties the default partition once all in it is.
    async fn forget_months(&self, seconds: f64) -> Result<u64> {
        in_tx!(self, "forget_months", |tx| {
            // Whoever moves an action waits behind this.
            sqlx::query("-- forget_months\nSET LOCAL lock_timeout = '250ms'").execute(&mut *tx).await?;
            let old: Vec<String> = sqlx::query_scalar(
                "-- forget_months\n\
                 WITH kept AS (SELECT date_trunc('month', now() - make_interval(secs => $1)) AS first) \
                 SELECT format('DROP TABLE %I', relname) FROM kept, pg_inherits JOIN pg_class c ON c.oid = inhrelid \
                 WHERE inhparent = 'action_events'::regclass AND relname ~ '^action_events_\\d{4}_\\d\\d$' \
                 AND to_date(right(relname, 7), 'YYYY_MM') < first \
                 UNION ALL SELECT 'TRUNCATE action_events_default' FROM kept \
                 WHERE (SELECT max(occurred_at) FROM action_events_default) < first",
            )
            .bind(seconds)
            .fetch_all(&mut *tx)
            .await?;
            for forget in &old {
                sqlx::query(sqlx::AssertSqlSafe(forget.as_str())).execute(&mut *tx).await?;
            }
            Ok(old.len() as u64)
        })
    }
}
