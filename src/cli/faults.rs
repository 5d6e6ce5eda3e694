//! `backstop faults`: crises in which everything around the daemon fails, on throw-away chains.

use std::path::PathBuf;

use clap::Args;

use crate::demo::crises::faults::{self, FaultsOptions};

#[derive(Debug, Args)]
pub(super) struct FaultsArgs {
    /// How many runs.
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// The first run's seed; the others follow.
    #[arg(long, default_value_t = 1)]
    first: u64,
    /// How many at once.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Where the report and the daemons' logs go.
    #[arg(long, default_value = "target/faults")]
    folder: PathBuf,
}

pub(super) async fn faults(args: FaultsArgs) -> anyhow::Result<()> {
    let FaultsArgs { runs, first, at_once, folder } = args;
    faults::run(FaultsOptions { runs, first, at_once, folder }).await
}
