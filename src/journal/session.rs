//! Connecting, and the two ways in which statements reach the database: a named transaction, and a named statement on its own.

use std::{ops::ControlFlow, str::FromStr, time::Duration};

use sqlx::{
    Connection, Executor, Postgres, Transaction,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    Journal, JournalError, Result,
    error::{Failure, TxResult},
};

/// A connection that takes longer is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A transaction that takes longer is given up.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection that was used less than this ago is taken for alive.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// How often a transaction that lost a race is begun.
const ATTEMPTS_MAX: u32 = 8;
/// Pause before the second attempt; doubled for each further one.
const RACE_PAUSE: Duration = Duration::from_millis(5);

impl Journal {
    /// Connects, with at most `connections_max` connections at once. The first is made now, within 5 s, so that a wrong
    /// URL is an error of this call. The URL's password is in no error.
    pub async fn connect(url: &str, connections_max: u32) -> Result<Self> {
        let options = parse_url(url)?;
        let pool = PgPoolOptions::new()
            .max_connections(connections_max.max(1))
            .acquire_timeout(CONNECT_TIMEOUT)
            // What a question before each transaction would find out, its first statement does: see `begin`. A statement on
            // its own must not find out: whether it took effect would be in doubt.
            .test_before_acquire(false)
            .before_acquire(|connection, meta| {
                Box::pin(async move {
                    if meta.idle_for > IDLE_TRUSTED {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            // Planning our short statements costs as much as running them.
            .after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute("SET plan_cache_mode = force_generic_plan").await?;
                    Ok(())
                })
            })
            .connect_with(options)
            .await
            .map_err(|error| JournalError::Unavailable(format!("connect: {error}")))?;
        Ok(Self { pool, fence: None })
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        in_tx!(self, "ping", |tx| {
            sqlx::query("-- ping\nSELECT 1").execute(tx).await?;
            Ok(())
        })
    }

    /// Closes all connections, waiting for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a transaction for [`in_tx!`]. A connection that broke while nobody used it fails here, where nothing is lost by
    /// taking another; the pool drops it.
    pub(super) async fn begin(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        let mut others = self.pool.size();
        loop {
            match self.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await {
                Err(error) if others > 0 && is_broken(&error) => others -= 1,
                begun => return begun,
            }
        }
    }
}

/// Whether a connection is gone: cut, or ended by the server (SQLSTATE class 57P).
fn is_broken(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(said) => said.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

/// Runs a body in one named transaction at repeatable read, commits, and answers what the body did. Where Postgres
/// reports a lost race, the whole body runs again: it must have no effect but its statements.
///
/// A macro, since a function that takes an async closure over a borrowed connection gives a future that the compiler
/// cannot prove to be `Send`.
macro_rules! in_tx {
    ($journal:expr, $name:literal, |$tx:ident| $body:block) => {{
        let mut race = $crate::journal::session::Race::new($name);
        loop {
            let attempt = async {
                let mut transaction = $journal.begin().await?;
                let $tx: &mut ::sqlx::PgConnection = &mut transaction;
                let done = $crate::journal::session::typed(async { $body }).await?;
                transaction.commit().await?;
                $crate::journal::error::TxResult::Ok(done)
            };
            if let ::std::ops::ControlFlow::Break(answer) = race.judge(attempt).await {
                break answer;
            }
        }
    }};
}
pub(super) use in_tx;

/// Runs a body of one statement, which is its own transaction: one round trip where [`in_tx!`] takes three.
macro_rules! in_statement {
    ($journal:expr, $name:literal, |$connection:ident| $body:block) => {{
        let mut race = $crate::journal::session::Race::new($name);
        loop {
            let attempt = async {
                let mut pooled = $journal.pool.acquire().await?;
                let $connection: &mut ::sqlx::PgConnection = &mut pooled;
                $crate::journal::session::typed(async { $body }).await
            };
            if let ::std::ops::ControlFlow::Break(answer) = race.judge(attempt).await {
                break answer;
            }
        }
    }};
}
pub(super) use in_statement;

/// Tells the compiler what the body of a transaction answers.
pub(super) fn typed<T, F: Future<Output = TxResult<T>>>(body: F) -> F {
    body
}

/// The attempts of one transaction.
pub(super) struct Race {
    name: &'static str,
    attempts: u32,
    pause: Duration,
}

impl Race {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, attempts: 0, pause: RACE_PAUSE }
    }

    /// Runs one attempt under the deadline. Continues, after a pause, where it lost a race and may run again.
    pub(super) async fn judge<T>(&mut self, attempt: impl Future<Output = TxResult<T>>) -> ControlFlow<Result<T>> {
        let name = self.name;
        self.attempts += 1;
        let Ok(outcome) = tokio::time::timeout(TRANSACTION_TIMEOUT, attempt).await else {
            let seconds = TRANSACTION_TIMEOUT.as_secs();
            return ControlFlow::Break(Err(JournalError::Unavailable(format!("{name}: no answer within {seconds} s"))));
        };
        match outcome.map_err(|error| Failure::of(name, error)) {
            Ok(done) => ControlFlow::Break(Ok(done)),
            Err(Failure::Final(error)) => ControlFlow::Break(Err(error)),
            Err(Failure::LostRace(why)) if self.attempts < ATTEMPTS_MAX => {
                tracing::debug!(transaction = name, why, "database transaction lost a race");
                tokio::time::sleep(self.pause).await;
                self.pause *= 2;
                ControlFlow::Continue(())
            }
            Err(Failure::LostRace(why)) => {
                ControlFlow::Break(Err(JournalError::Unavailable(format!("{name}: {why}, {ATTEMPTS_MAX} times"))))
            }
        }
    }
}

/// The driver's settings from a URL. The error does not repeat the URL, which may hold a password.
pub(super) fn parse_url(url: &str) -> Result<PgConnectOptions> {
    PgConnectOptions::from_str(url)
        .map(|options| options.application_name("backstop"))
        .map_err(|error| JournalError::Unavailable(format!("the database URL is not valid: {error}")))
}
