//! The demo: the whole way from logs to balanced books, on one machine, in one command.
//!
//! It starts a throw-away Postgres and a private chain, deploys the reference venue, lets hundreds of accounts trade,
//! starts the daemon as its own process, makes the market fall, and waits until the books balance again. Then it holds
//! the chain, the daemon's cache and the daemon's journal against each other and writes a report.
//!
//! Invariants: the daemon runs as an operator would run it and learns nothing about the demo; every figure in the report
//! is measured on the chain, by code that the daemon does not use; whatever was started is stopped and removed, on
//! success, on failure, on Ctrl-C and on SIGTERM.
//! Must not: be imported by any stage.

pub mod anvil;
mod audit;
mod census;
mod config;
pub mod contracts;
pub mod crises;
pub mod daemon;
mod dice;
mod display;
mod drive;
mod makers;
pub mod node;
mod play;
mod pool;
mod population;
pub mod postgres;
pub mod process;
mod report;
mod scenario;
pub mod speed;
mod venue;
mod verify;
mod watch;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

pub use audit::Absorbed;
pub use report::DemoReport;

/// What to play.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Leave everything running after the report, until Ctrl-C.
    pub stay: bool,
    /// Kill the daemon in the middle of the fall and start it again.
    pub kill: bool,
    /// Where the report is written; the daemon's log goes beside it.
    pub json_path: PathBuf,
    /// Accounts on the venue, at least 300.
    pub accounts: usize,
    /// Which story.
    pub seed: u64,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self { stay: false, kill: false, json_path: "target/demo/report.json".into(), accounts: 340, seed: 1 }
    }
}

/// Plays the demo. Fails if it could not be played to its end, and if what it found is not right; the report is written
/// in the latter case too.
pub async fn run(options: DemoOptions) -> Result<DemoReport> {
    let report = play::play(&options, &mut Signals::listen()?).await?;
    match report.faults.as_slice() {
        [] => Ok(report),
        [first, ..] => bail!("the demo found {} fault(s), the first: {first}", report.faults.len()),
    }
}

/// The two ways in which a person stops the demo.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let interrupt = signal(SignalKind::interrupt()).context("listen for Ctrl-C")?;
        let terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for either.
    async fn stopped(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "Ctrl-C",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }

    /// Does the work unless it is stopped; then the work is dropped, and with it every guard that it holds.
    async fn unless_stopped<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            done = work => done,
            by = self.stopped() => bail!("stopped by {by} before the end"),
        }
    }
}
