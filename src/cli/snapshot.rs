//! `backstop snapshot`: the cache as the daemon keeps it, into a file that `scan` and `stress` take instead of the database:
//! to look at a moment again, or somewhere else. Sends nothing and changes nothing.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::ConfigArgs;
use crate::{
    journal::Journal,
    positions::{Book, Record, RecordKey, Snapshot, Unit},
    run,
    scanner::risk::Moves,
    types::{BlockRef, DeploymentName, UnitKey},
};

#[derive(Debug, Args)]
pub(super) struct SnapshotArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Of which deployment; may be left out where there is one.
    #[arg(long)]
    deployment: Option<DeploymentName>,
    /// Where to; a file that is there already is left alone.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// A deployment's cache at a block, with how its prices were seen to move, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    pub(super) deployment: DeploymentName,
    block: BlockRef,
    units: Vec<(UnitKey, Unit)>,
    records: Vec<(RecordKey, Record)>,
    moves: Moves,
}

impl Saved {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        serde_json::from_reader(BufReader::new(file))
            .with_context(|| format!("{} holds no snapshot; write one with `backstop snapshot --out`", path.display()))
    }

    async fn of(journal: &Journal, deployment: DeploymentName) -> anyhow::Result<Option<Self>> {
        let Some(row) = journal.deployment_by_name(&deployment).await? else { return Ok(None) };
        let Some((block, book)) = journal.load_cache(row.id).await? else { return Ok(None) };
        let units = book.units().map(|(key, unit)| (key.clone(), unit.as_ref().clone())).collect();
        let records = book.records().map(|(key, record)| (*key, record.as_ref().clone())).collect();
        let moves = journal.risk_moves(row.id).await?.unwrap_or_default();
        Ok(Some(Self { deployment, block, units, records, moves }))
    }

    pub(super) fn into_snapshot(self) -> (Snapshot, Moves) {
        (Snapshot { block: self.block, book: Book::restore(self.units, self.records) }, self.moves)
    }
}

pub(super) async fn save(args: &SnapshotArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let deployment = match (&args.deployment, config.deployments.keys().collect::<Vec<_>>().as_slice()) {
        (Some(name), _) => name.clone(),
        (None, [only]) => (*only).clone(),
        (None, several) => bail!("there are {} deployments; name one with --deployment", several.len()),
    };
    let journal = run::open_journal(&config.database).await?;
    let saved = Saved::of(&journal, deployment.clone()).await?;
    let saved = saved.with_context(|| format!("{deployment} has no cache; run the daemon first"))?;
    let file = File::create_new(&args.out).with_context(|| format!("cannot make {}", args.out.display()))?;
    let mut file = BufWriter::new(file);
    serde_json::to_writer(&mut file, &saved).context("write the snapshot")?;
    file.flush().context("write the snapshot")?;
    file.get_ref().sync_all().context("write the snapshot")?;
    println!("{deployment}, block {}: {} units in {}", saved.block.number, saved.units.len(), args.out.display());
    Ok(())
}
