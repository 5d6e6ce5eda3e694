//! `backstop scenarios`: the named crises, each on a real chain of its own.

use std::path::PathBuf;

use clap::Args;

use crate::demo::crises::{self, CrisesOptions};

#[derive(Debug, Args)]
pub(super) struct ScenariosArgs {
    /// Only those whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// How many at once.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// Where figures and the daemons' logs go.
    #[arg(long, default_value = "target/scenarios")]
    folder: PathBuf,
}

pub(super) async fn scenarios(args: ScenariosArgs) -> anyhow::Result<()> {
    crises::run(CrisesOptions { only: args.only, at_once: args.at_once, folder: args.folder }).await
}
