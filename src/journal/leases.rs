//! Leases: which replica may act for a deployment, and until when.
//!
//! One row a deployment. Each change of hands raises its epoch by one. A holder is bound twice: by its own clock, which
//! runs out before the row does ([`Tenure`]), and by the row, which is looked at in the very transaction that writes signed
//! bytes ([`Journal::fenced`]). The first spares a signature, the second makes a late one worthless: what is not in the
//! journal is not broadcast.
//!
//! Invariants: an epoch belongs to one holder; a row that has run out is never renewed, only taken anew; between the check
//! and the commit of a fenced write nobody can take the lease over.
//! Must not: use the database's clock for anything but the row.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::PgConnection;
use tokio::time::Instant;

use super::{
    Journal, JournalError, Result,
    error::TxResult,
    session::{in_statement, in_tx},
    values::{bigint, number},
};
use crate::types::DeploymentName;

/// The right to act for a deployment, as it was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// For which.
    pub name: DeploymentName,
    /// Who holds it.
    pub holder: String,
    /// How often it has changed hands.
    pub epoch: u64,
}

/// How long a holder may rely on its lease, by this process's own clock, which goes on while the process is stopped.
/// Clones share it.
#[derive(Clone, Debug)]
pub struct Tenure(Arc<Mutex<Option<Instant>>>);

impl Tenure {
    /// Of a lease that was asked for at `asked` and granted for `lasts`. A tenth of it is given up for clocks that do not
    /// run alike.
    pub fn begin(asked: Instant, lasts: Duration) -> Self {
        Self(Arc::new(Mutex::new(end_of(asked, lasts))))
    }

    /// It was granted again.
    pub fn extend(&self, asked: Instant, lasts: Duration) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // What was ended stays so.
        *until = until.and(end_of(asked, lasts));
    }

    /// It is over.
    pub fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether the holder may act now.
    pub fn holds(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }
}

fn end_of(asked: Instant, lasts: Duration) -> Option<Instant> {
    asked.checked_add(lasts - lasts / 10)
}

/// For a statement on its own, what [`Journal::check_fence`] is for a transaction: `fence` has a row where the lease of the
/// name and the epoch so bound is held, or no name is.
macro_rules! fence {
    ($name:literal, $epoch:literal) => {
        concat!(
            "held AS (SELECT 1 FROM leases WHERE name = ",
            $name,
            "::text AND epoch = ",
            $epoch,
            "::bigint AND expires_at > clock_timestamp() FOR SHARE), fence AS (SELECT 1 WHERE ",
            $name,
            "::text IS NULL OR EXISTS (SELECT 1 FROM held))"
        )
    };
}
pub(super) use fence;

/// How many leases each holder has now.
macro_rules! held {
    () => {
        "held AS (SELECT holder, count(*) AS leases FROM leases WHERE expires_at > clock_timestamp() GROUP BY holder)"
    };
}

/// For how many fifths of a lease's time who asked for it counts as standing by: one ask may go missing.
const STANDBY_FIFTHS: u32 = 2;

impl Journal {
    /// Takes a deployment's lease for this long; `None` while somebody, be it this holder, has it, or while somebody else
    /// stands by for it who holds fewer leases. Whoever asks stands by from then on, for [`STANDBY_FIFTHS`] fifths of that time.
    pub async fn acquire_lease(&self, name: &DeploymentName, holder: &str, lasts: Duration) -> Result<Option<Lease>> {
        let seconds = lasts.as_secs_f64();
        in_tx!(self, "acquire_lease", |tx| {
            sqlx::query(
                "-- acquire_lease\n\
                 INSERT INTO standbys (name, holder, expires_at) \
                 VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3)) \
                 ON CONFLICT (name, holder) DO UPDATE SET expires_at = excluded.expires_at",
            )
            .bind(name.as_str())
            .bind(holder)
            .bind((lasts / 5 * STANDBY_FIFTHS).as_secs_f64())
            .execute(&mut *tx)
            .await?;
            let epoch: Option<i64> = sqlx::query_scalar(concat!(
                "-- acquire_lease\n\
                 WITH ",
                held!(),
                " INSERT INTO leases AS l (name, holder, epoch, expires_at) \
                 SELECT $1, $2, 1, clock_timestamp() + make_interval(secs => $3) WHERE NOT EXISTS (\
                 SELECT 1 FROM standbys s LEFT JOIN held USING (holder) \
                 WHERE s.name = $1 AND s.expires_at > clock_timestamp() \
                 AND COALESCE(held.leases, 0) < (SELECT COALESCE(max(leases), 0) FROM held WHERE holder = $2)) \
                 ON CONFLICT (name) DO UPDATE \
                 SET holder = excluded.holder, epoch = l.epoch + 1, expires_at = excluded.expires_at \
                 WHERE l.expires_at <= clock_timestamp() RETURNING epoch",
            ))
            .bind(name.as_str())
            .bind(holder)
            .bind(seconds)
            .fetch_optional(&mut *tx)
            .await?;
            if epoch.is_some() {
                sqlx::query(
                    "-- acquire_lease\n\
                     DELETE FROM standbys WHERE name = $1 AND (holder = $2 OR expires_at <= clock_timestamp())",
                )
                .bind(name.as_str())
                .bind(holder)
                .execute(tx)
                .await?;
            }
            let epoch = epoch.map(|epoch| number("epoch", epoch)).transpose()?;
            Ok(epoch.map(|epoch| Lease { name: name.clone(), holder: holder.to_owned(), epoch }))
        })
    }

    /// Whether this lease is the one that its holder should give up now, so that deployments are spread: somebody stands by
    /// for it who holds two fewer or more, its deployment has no open episode, and no lease that anybody stands by for is
    /// free. Of several such leases it is the first by name.
    pub async fn should_give_up(&self, lease: &Lease) -> Result<bool> {
        in_statement!(self, "should_give_up", |connection| {
            let first: Option<String> = sqlx::query_scalar(concat!(
                "-- should_give_up\n\
                 WITH ",
                held!(),
                ", standby AS (SELECT * FROM standbys WHERE expires_at > clock_timestamp()) \
                 SELECT min(l.name) FROM leases l JOIN held h USING (holder) \
                 JOIN standby s ON s.name = l.name LEFT JOIN held other ON other.holder = s.holder \
                 WHERE l.holder = $1 AND l.expires_at > clock_timestamp() \
                 AND COALESCE(other.leases, 0) + 2 <= h.leases \
                 AND NOT EXISTS (SELECT 1 FROM episodes e JOIN deployments d ON d.id = e.deployment_id \
                 WHERE d.name = l.name AND e.closed_at IS NULL) \
                 AND NOT EXISTS (SELECT 1 FROM standby JOIN leases free USING (name) \
                 WHERE free.expires_at <= clock_timestamp())",
            ))
            .bind(&lease.holder)
            .fetch_one(connection)
            .await?;
            Ok(first.as_deref() == Some(lease.name.as_str()))
        })
    }

    /// Holds a lease for this much longer, counted from now; false if it has run out or has changed hands.
    pub async fn renew_lease(&self, lease: &Lease, lasts: Duration) -> Result<bool> {
        let (epoch, seconds) = (bigint("epoch", lease.epoch)?, lasts.as_secs_f64());
        in_tx!(self, "renew_lease", |tx| {
            let renewed = sqlx::query(
                "-- renew_lease\n\
                 UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => $3) \
                 WHERE name = $1 AND epoch = $2 AND expires_at > clock_timestamp()",
            )
            .bind(lease.name.as_str())
            .bind(epoch)
            .bind(seconds)
            .execute(tx)
            .await?;
            Ok(renewed.rows_affected() > 0)
        })
    }

    /// Gives a lease up, so that another need not wait until it runs out. Nothing happens if it has changed hands.
    pub async fn release_lease(&self, lease: &Lease) -> Result<()> {
        let epoch = bigint("epoch", lease.epoch)?;
        in_tx!(self, "release_lease", |tx| {
            sqlx::query(
                "-- release_lease\n\
                 UPDATE leases SET expires_at = least(expires_at, clock_timestamp()) WHERE name = $1 AND epoch = $2",
            )
            .bind(lease.name.as_str())
            .bind(epoch)
            .execute(tx)
            .await?;
            Ok(())
        })
    }

    /// The same journal, in which the cache, plans and signed bytes are written only while this lease holds.
    pub fn fenced(&self, lease: &Lease) -> Self {
        Self { pool: self.pool.clone(), fence: Some(Arc::new(lease.clone())) }
    }

    /// The name and the epoch that [`fence!`] is bound to.
    pub(super) fn fence_binds(&self) -> Result<(Option<&str>, Option<i64>)> {
        let Some(lease) = &self.fence else { return Ok((None, None)) };
        Ok((Some(lease.name.as_str()), Some(bigint("epoch", lease.epoch)?)))
    }

    /// Why a fenced statement on its own did nothing, if that is it.
    pub(super) async fn explain_fence(&self) -> Result<()> {
        in_tx!(self, "explain_fence", |tx| { self.check_fence(tx).await })
    }

    /// Conflict where the journal is fenced and its lease has run out or changed hands. Until the transaction ends nobody
    /// else can take the lease.
    pub(super) async fn check_fence(&self, tx: &mut PgConnection) -> TxResult<()> {
        let Some(lease) = &self.fence else { return Ok(()) };
        let held: Option<i32> = sqlx::query_scalar(
            "-- check_fence\n\
             SELECT 1 FROM leases WHERE name = $1 AND epoch = $2 AND expires_at > clock_timestamp() FOR SHARE",
        )
        .bind(lease.name.as_str())
        .bind(bigint("epoch", lease.epoch)?)
        .fetch_optional(tx)
        .await?;
        match held {
            Some(_) => Ok(()),
            None => {
                let Lease { name, holder, epoch } = lease.as_ref();
                let what =
                    format!("the lease of {name} that {holder} held (epoch {epoch}) has run out or changed hands");
                Err(JournalError::Conflict(what).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenure_ends_before_its_lease_and_never_comes_back() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        assert!(Tenure::begin(now, 60 * second).holds());
        let late = Tenure::begin(now.checked_sub(second).unwrap(), second + second / 20);
        assert!(!late.holds(), "the last tenth is given up");
        late.extend(now, 60 * second);
        assert!(late.holds(), "granted again while nobody had ended it");
        late.end();
        late.extend(now, 60 * second);
        assert!(!late.holds());
    }
}
