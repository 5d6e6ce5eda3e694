//! `backstop demo`: the whole way of the data on one machine.

use std::path::PathBuf;

use clap::Args;

use crate::demo::{self, DemoOptions};

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Leave everything running at the end, until Ctrl-C.
    #[arg(long)]
    stay: bool,
    /// Kill the daemon in the middle of the crash, and start it again.
    #[arg(long)]
    kill: bool,
    /// Accounts to open.
    #[arg(long, default_value_t = 340)]
    accounts: usize,
    /// Seed of the portfolios.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the report goes.
    #[arg(long, default_value = "target/demo/report.json")]
    report: PathBuf,
}

pub(super) async fn demo(args: DemoArgs) -> anyhow::Result<()> {
    let options = DemoOptions {
        stay: args.stay,
        kill: args.kill,
        json_path: args.report,
        accounts: args.accounts,
        seed: args.seed,
    };
    demo::run(options).await.map(drop)
}
