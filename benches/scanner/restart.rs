//! A snapshot through a real Postgres and back: what the daemon writes at its checkpoints, what it reads when it starts again,
//! and the time that the same rows take as they are, by COPY, through the same server.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use backstop::{
    demo::postgres::{Durability, ThrowAwayPostgres},
    journal::{DeploymentId, Journal},
    positions::{Book, Draft, Unit},
    types::{B256, BlockRef, UnitKey},
};
use futures_util::TryStreamExt;
use sqlx::{Connection, Executor, PgConnection};

/// Units of one checkpoint.
const CHECKPOINT: usize = 250_000;
const ROWS: &str = "COPY (SELECT * FROM units) TO STDOUT (FORMAT binary)";

/// Times of all units together.
pub struct Restart {
    /// Checkpoints until all of them were in the database.
    pub written: Duration,
    /// From the database to a book, and from that to columns that can be scanned.
    pub ready: Duration,
    /// The same rows out and in again as they are.
    pub copied_out: Duration,
    pub copied_in: Duration,
    pub bytes: usize,
}

pub fn restart(units: &[(UnitKey, Unit)], scannable: impl Fn(&Book)) -> Result<Restart> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let postgres = ThrowAwayPostgres::start(Durability::Durable).await?;
        let journal = Journal::connect(postgres.url(), 2).await?;
        journal.migrate().await?;
        let name = "bench".parse().context("a name")?;
        let deployment = journal.register_deployment(&name, 1, "none", &serde_json::json!({})).await?;
        let written = write(&journal, deployment, units).await?;
        let mut connection = PgConnection::connect(postgres.url()).await?;
        let (copied_out, copied_in, bytes) = copy(&mut connection).await?;
        let started = Instant::now();
        let (_, book) = journal.load_cache(deployment).await?.context("a cache was just written")?;
        scannable(&book);
        let ready = started.elapsed();
        ensure!(book == Book::restore(units.iter().cloned(), []), "what was read is not what was written");
        connection.close().await?;
        journal.close().await;
        Ok(Restart { written, ready, copied_out, copied_in, bytes })
    })
}

/// How long the store took; what the changes are is known by then.
async fn write(journal: &Journal, deployment: DeploymentId, units: &[(UnitKey, Unit)]) -> Result<Duration> {
    let (mut book, mut written) = (Book::default(), Duration::ZERO);
    for (number, part) in (1u64..).zip(units.chunks(CHECKPOINT)) {
        let mut draft = Draft::new(&book);
        part.iter().for_each(|(key, unit)| draft.set_unit(key.clone(), Some(unit.clone())));
        let delta = draft.finish();
        let block = BlockRef { number, hash: B256::ZERO, parent_hash: B256::ZERO, timestamp: number };
        let started = Instant::now();
        journal.commit_cache(deployment, &block, &delta).await?;
        written += started.elapsed();
        book.apply(&delta)?;
    }
    Ok(written)
}

async fn copy(connection: &mut PgConnection) -> Result<(Duration, Duration, usize)> {
    let started = Instant::now();
    let rows: Vec<_> = connection.copy_out_raw(ROWS).await?.try_collect().await?;
    let copied_out = started.elapsed();
    connection.execute("CREATE TABLE copied (LIKE units INCLUDING ALL)").await?;
    let started = Instant::now();
    let mut into = connection.copy_in_raw("COPY copied FROM STDIN (FORMAT binary)").await?;
    for part in &rows {
        into.send(part.as_ref()).await?;
    }
    into.finish().await?;
    Ok((copied_out, started.elapsed(), rows.iter().map(|part| part.len()).sum()))
}
