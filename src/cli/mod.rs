//! Commands: what an operator types, and what it prints.
//!
//! Invariants: a command that fails prints what is wrong and the mend, one line a fault, and exits with 1 (2 for a
//! command line that does not parse); what it prints to stdout is the answer, everything else goes to stderr.
//! Must not: be imported, or decide anything.

mod actions;
mod check;
mod demo;
mod episodes;
mod events;
mod faults;
mod plan;
mod replay;
mod scan;
mod scenarios;
mod snapshot;
mod table;
mod why;

use std::{collections::BTreeMap, num::NonZero, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, LogFormat},
    journal::Journal,
    ops, run,
};

/// The last line of defence of a derivative or lending protocol.
#[derive(Debug, Parser)]
#[command(name = "backstop", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch every configured deployment and act; SIGTERM stops it gracefully.
    Run(ConfigArgs),
    /// Check config, database, endpoints, chain id, code and roles, and exit.
    Check(ConfigArgs),
    /// Bring the database's schema up to this build's.
    Migrate(ConfigArgs),
    /// Print the effective configuration, secrets redacted.
    Config(ConfigArgs),
    /// Show what was decided and done, newest first.
    Actions(actions::ActionsArgs),
    /// Show what happened between two moments, move by move.
    Events(events::EventsArgs),
    /// Explain one account: cache, standing, findings, actions, attempts.
    Why(why::WhyArgs),
    /// Show what would be done now, or after a shock, and why; sends nothing.
    Plan(plan::PlanArgs),
    /// Show who may be liquidated next, how likely and how costly that is, and what shocks would do.
    Scan(scan::ScanArgs),
    /// Show what a shock would do to all accounts together, cascades included.
    Stress(scan::StressArgs),
    /// Save the cache of a deployment to a file, which scan and stress take with --snapshot.
    Snapshot(snapshot::SnapshotArgs),
    /// Make the plans of an episode again and hold them against what was written then.
    Replay(replay::ReplayArgs),
    /// Show crises, newest first; of one of them who lost what, for whom and why.
    Episodes(episodes::EpisodesArgs),
    /// Ask a running daemon whether it is healthy; exits with 1 if not.
    Health {
        /// Where its ops server listens.
        #[arg(long, default_value = "http://127.0.0.1:9464/healthz")]
        url: String,
    },
    /// Crash a venue on a throw-away chain and show the repair.
    Demo(demo::DemoArgs),
    /// Play the named crises on throw-away chains and hold each account of who paid against the chain.
    Scenarios(scenarios::ScenariosArgs),
    /// Play crises in which processes, database, node and chain fail, on throw-away chains.
    Faults(faults::FaultsArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// A configuration file; repeat it to lay several over each other, later wins.
    #[arg(long = "config", value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl ConfigArgs {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(&self.files, &environment())?)
    }

    async fn journal(&self) -> anyhow::Result<Journal> {
        run::open_journal(&self.load()?.database).await
    }
}

/// The process's environment; variables that are no Unicode cannot be ours.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// Parses the command line, runs the command and says how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("start the runtime")),
    };
    match runtime.block_on(dispatch(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// A thread a core but one, or as many as `TOKIO_WORKER_THREADS` says: a node's answer passes through several tasks, and passing
/// it to a thread that sleeps takes longer than what is done with it.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if std::env::var_os("TOKIO_WORKER_THREADS").is_none() {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        builder.worker_threads(cores.saturating_sub(1).max(1));
    }
    builder.enable_all().build()
}

fn failed(error: &anyhow::Error) -> ExitCode {
    for line in format!("{error:#}").lines() {
        eprintln!("error: {line}");
    }
    ExitCode::FAILURE
}

async fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(args) => {
            let config = args.load()?;
            ops::init_logging(config.log.format == LogFormat::Json, &config.log.filter)?;
            ops::end_on_panic();
            let stop = CancellationToken::new();
            ops::stop_on_signals(stop.clone())?;
            let source = run::reload::ConfigSource { files: args.files, environment: environment() };
            run::run(config, source, stop).await
        }
        Command::Check(args) => check::check(&args.load()?).await,
        Command::Migrate(args) => {
            let journal = run::connect_journal(&args.load()?.database).await?;
            journal.migrate().await?;
            println!("the database's schema is this build's");
            Ok(())
        }
        Command::Config(args) => {
            print!("{}", args.load()?.redacted_toml());
            Ok(())
        }
        Command::Actions(args) => actions::actions(&args).await,
        Command::Events(args) => events::events(&args).await,
        Command::Why(args) => why::why(&args).await,
        Command::Plan(args) => plan::plan(&args).await,
        Command::Scan(args) => scan::scan_now(&args).await,
        Command::Stress(args) => scan::stress_now(&args).await,
        Command::Snapshot(args) => snapshot::save(&args).await,
        Command::Replay(args) => replay::replay(&args).await,
        Command::Episodes(args) => episodes::episodes(&args).await,
        Command::Health { url } => health(&url).await,
        Command::Demo(args) => demo::demo(args).await,
        Command::Scenarios(args) => scenarios::scenarios(args).await,
        Command::Faults(args) => faults::faults(args).await,
    }
}

async fn health(url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(5)).build()?;
    let response = client.get(url).send().await.map_err(|error| anyhow::anyhow!("{url} does not answer: {error}"))?;
    let (status, body) = (response.status(), response.text().await.unwrap_or_default());
    println!("{body}");
    anyhow::ensure!(status.is_success(), "{url} answers {status}");
    Ok(())
}
