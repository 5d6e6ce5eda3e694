//! The play from curtain to curtain, and the report on it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alloy::primitives::keccak256;
use anyhow::{Context, Result};

use super::{
    DemoOptions, DemoReport, Signals,
    anvil::{Anvil, AnvilOptions, Mining},
    audit::Tally,
    config::{ADAPTER, DEPLOYMENT, KEY_VARIABLE, Keeper, Settings, adapter_settings, config_text},
    daemon::{Daemon, Launch, free_port},
    display::Display,
    drive::Drive,
    node::{MinedTransaction, Node},
    pool::Pool,
    population::populate,
    postgres::{Durability, ThrowAwayPostgres},
    process::Scratch,
    scenario::{CRASHING_SEGMENT, HEALTHY_SEGMENT, Scenario},
    venue::Venue,
    verify,
    watch::Watch,
};
use crate::{
    journal::{DeploymentId, Journal},
    positions::Book,
    protocols,
    types::{Address, BlockRef, DeploymentName, U256},
};

const BLOCK_SECONDS: u64 = 1;
/// How long the daemon may take to read the last block of a chain that stands still.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Most faults of one kind that the report spells out.
const FAULTS_PER_KIND_MAX: usize = 5;

/// Everything that is started but the daemon; all of it ends when this is dropped.
struct Stage {
    journal: Journal,
    node: Node,
    venue: Venue,
    scenario: Scenario,
    keeper: Keeper,
    anvil: Anvil,
    postgres: ThrowAwayPostgres,
    scratch: Scratch,
    log: PathBuf,
}

/// The demo's end: a block after which nothing happens, and what the daemon's cache held there.
struct Rest {
    block: BlockRef,
    book: Option<Book>,
    /// Why it did not come to rest, if it did not.
    unrest: Vec<String>,
}

/// Plays the whole demo and writes the report.
pub(super) async fn play(options: &DemoOptions, signals: &mut Signals) -> Result<DemoReport> {
    let started = Instant::now();
    let mut display = Display::new();
    let stage = signals.unless_stopped(Stage::raise(options, &mut display)).await?;
    display.phase(&format!("starting the daemon; its log is {}", stage.log.display()));
    let daemon = stage.start_daemon()?;
    let watch = signals.unless_stopped(Watch::start(&stage.node, &stage.venue)).await?;
    let cast = (&stage.node, &stage.venue, &stage.scenario);
    let mut drive = Drive::new(cast, &stage.keeper, daemon, watch, (&mut display, options.kill));
    signals.unless_stopped(drive.until_ready()).await?;
    signals.unless_stopped(drive.fall()).await?;
    let rest = signals.unless_stopped(stage.settle(&mut drive)).await?;
    let mut report = signals.unless_stopped(stage.report(options, &drive, &rest)).await?;
    if !options.stay
        && let Some(fault) = signals.unless_stopped(stop(&mut drive.daemon)).await?
    {
        report.faults.push(fault);
    }
    report.wall_seconds = started.elapsed().as_secs_f64();
    report.write(&options.json_path)?;
    report.figures().write(&options.json_path.with_file_name("demo.jsonl")).context("write the demo's figures")?;
    drive.end_display();
    print(&report, &options.json_path);
    if options.stay {
        stage.node.mine_every(BLOCK_SECONDS).await?;
        println!("{}", stage.directions(&drive.daemon));
        tokio::select! {
            ended = drive.stay() => ended?,
            _ = signals.stopped() => {}
        }
    }
    Ok(report)
}

fn print(report: &DemoReport, path: &Path) {
    println!("\n{}", report.table());
    match report.faults.as_slice() {
        [] => println!("  the books balance, to the last unit"),
        faults => faults.iter().for_each(|fault| println!("  FAULT  {fault}")),
    }
    println!("  report: {}\n", path.display());
}

/// This executable, or the daemon beside it where this is a test.
pub(super) fn executable() -> Result<PathBuf> {
    let current = std::env::current_exe().context("find this executable")?;
    Ok(std::env::var_os("BACKSTOP_DEMO_DAEMON").map_or(current, PathBuf::from))
}

/// Stops the daemon as an operator would; what is wrong with how it ended, if anything.
async fn stop(daemon: &mut Daemon) -> Result<Option<String>> {
    let status = daemon.stop().await?;
    Ok((!status.success()).then(|| format!("the daemon ended with {status} after SIGTERM")))
}

impl Stage {
    /// Starts Postgres and anvil, deploys the venue and fills it.
    async fn raise(options: &DemoOptions, display: &mut Display) -> Result<Self> {
        let log = options.json_path.with_file_name("daemon.log");
        if let Some(directory) = log.parent() {
            std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        }
        display.phase("starting Postgres and anvil");
        let scratch = Scratch::create("backstop-demo").context("create a directory for the demo")?;
        let postgres = ThrowAwayPostgres::start(Durability::Durable).await.context("start Postgres")?;
        let anvil = Anvil::start(&AnvilOptions { mining: Mining::OnDemand, ..AnvilOptions::default() }).await?;
        let node = Node::connect(&anvil.http_url())?;
        let journal = Journal::connect(postgres.url(), 4).await.context("connect to the journal")?;
        journal.migrate().await.context("migrate the journal")?;

        let scenario = Scenario::new(options.seed, options.accounts);
        let keeper = Keeper::new(options.seed)?;
        let admin = Address::from_slice(&keccak256(format!("demo {} admin", options.seed))[12..]);
        node.adopt(&[admin]).await?;
        node.grant(&[keeper.address]).await?;
        display.phase("deploying the venue");
        let mut venue = Venue::deploy(&node, admin, keeper.address, &scenario).await?;
        let pool = Pool::deploy(&node, &venue, scenario.backstop.capital).await?;
        pool.admit(&node, &mut venue, keeper.address, scenario.backstop.terms).await?;
        let accounts = scenario.traders.len() + scenario.makers.len();
        display.phase(&format!("opening {accounts} accounts in {} markets", scenario.markets.len()));
        populate(&node, &venue, &scenario).await?;
        node.mine_every(BLOCK_SECONDS).await?;
        Ok(Self { journal, node, venue, scenario, keeper, anvil, postgres, scratch, log })
    }

    fn start_daemon(&self) -> Result<Daemon> {
        let ops_port = free_port()?;
        let config = self.scratch.path().join("backstop.toml");
        let text = config_text(&Settings {
            database_url: self.postgres.url(),
            rpc_url: &self.anvil.ws_url(),
            chain_id: AnvilOptions::default().chain_id,
            venue: &self.venue,
            ops_port,
            recovery: None,
        })?;
        std::fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let environment = vec![(KEY_VARIABLE.to_owned(), self.keeper.key.to_string())];
        Daemon::start(Launch { executable: executable()?, config, log: self.log.clone(), ops_port, environment })
    }

    /// Lets the market be calm until all is repaired and every transaction final, then halts the chain.
    async fn settle(&self, drive: &mut Drive<'_>) -> Result<Rest> {
        while drive.blocks_left() > 0 {
            drive.calm().await?;
            if !self.unrest(drive).await?.is_empty() {
                continue;
            }
            let rest = self.halt(drive).await?;
            // The daemon may have begun something in the very last block.
            if rest.unrest.is_empty() {
                return Ok(rest);
            }
            self.node.mine_every(BLOCK_SECONDS).await?;
        }
        self.halt(drive).await
    }

    /// Stops the clock and lets everybody read the last block.
    async fn halt(&self, drive: &mut Drive<'_>) -> Result<Rest> {
        self.node.mine_every(0).await?;
        drive.watch.advance().await?;
        let block = *drive.watch.block();
        let book = self.cache_at(&block).await?;
        let mut unrest = self.unrest(drive).await?;
        if book.is_none() {
            let seconds = CATCH_UP_WITHIN.as_secs();
            unrest.push(format!("the daemon's cache did not reach block {} within {seconds} s", block.number));
        }
        Ok(Rest { block, book, unrest })
    }

    async fn deployment(&self) -> Result<DeploymentId> {
        let name: DeploymentName = DEPLOYMENT.parse().context("the demo's deployment")?;
        let row = self.journal.deployment_by_name(&name).await?;
        Ok(row.context("the daemon has not registered its deployment")?.id)
    }

    /// What still waits to be done, in words.
    async fn unrest(&self, drive: &Drive<'_>) -> Result<Vec<String>> {
        let deployment = self.deployment().await?;
        let count = drive.watch.count;
        let unsettled = self.journal.unsettled_transactions(deployment).await?.len();
        let episodes = self.journal.open_episodes(deployment).await?.len();
        let mut unrest = Vec::new();
        if !count.is_repaired() {
            unrest.push(format!("{} accounts are liquidatable and {} bankrupt", count.liquidatable, count.bankrupt));
        }
        if unsettled > 0 {
            unrest.push(format!("{unsettled} transactions of the journal are not final"));
        }
        if episodes > 0 {
            unrest.push(format!("{episodes} episodes of the journal are open"));
        }
        if drive.keeper_is_sending().await? {
            unrest.push("a transaction of the keeper waits to be mined".to_owned());
        }
        if drive.is_down() {
            unrest.push("the daemon is down".to_owned());
        }
        Ok(unrest)
    }

    /// The daemon's cache at this block, once it is there.
    async fn cache_at(&self, block: &BlockRef) -> Result<Option<Book>> {
        let deployment = self.deployment().await?;
        let deadline = Instant::now() + CATCH_UP_WITHIN;
        while Instant::now() < deadline {
            if let Some((at, book)) = self.journal.load_cache(deployment).await?
                && at.hash == block.hash
            {
                return Ok(Some(book));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(None)
    }

    /// Holds everything against the chain at the block of rest.
    async fn report(&self, options: &DemoOptions, drive: &Drive<'_>, rest: &Rest) -> Result<DemoReport> {
        let (audit, census) = (&drive.watch.audit, &drive.watch.census);
        let chain = verify::chain_books(&self.node, &self.venue, &rest.block, audit.books()).await?;
        let cache = match &rest.book {
            Some(book) => {
                let adapter =
                    protocols::adapter(ADAPTER, adapter_settings(&self.venue)).context("the demo's adapter")?;
                verify::cache(adapter.as_ref(), &rest.block, book.clone(), &chain.accounts)?
            }
            None => verify::CacheCheck::default(),
        };
        let mined = self.node.sent_by(self.keeper.address, 0, rest.block.number).await?;
        let nonce_next = self.node.nonce(self.keeper.address, "latest").await?;
        let actions = self.journal.list_actions(&verify::all_actions()).await?;
        let doubles = verify::nothing_twice(&mined, nonce_next, &actions);

        let (hit, healthy) = (audit.tally(CRASHING_SEGMENT), audit.tally(HEALTHY_SEGMENT));
        let (violations, violations_kept) = audit.violations();
        let healthy_fund = audit.books().funds.get(&HEALTHY_SEGMENT).map(|fund| fund.balance).unwrap_or_default();
        let opening_fund = self.scenario.segments.iter().find(|s| s.id == HEALTHY_SEGMENT).map(|s| s.insurance_fund);
        let mut report = DemoReport {
            balanced: chain.faults.is_empty(),
            residual: (hit.shortfall_open + healthy.shortfall_open).to_string(),
            conservation_ok: violations == 0 && hit.conserves() && healthy.conserves(),
            liquidated: hit.liquidated.len() + healthy.liquidated.len(),
            bankrupt: hit.bankrupt.len() + healthy.bankrupt.len(),
            absorbed: hit.absorbed.plus(healthy.absorbed),
            cache_mismatches: cache.mismatches.len() as u64,
            healthy_segment_touched: is_touched(&healthy) || Some(healthy_fund) != opening_fund.map(U256::from),
            blocks_to_repair_max: census.repair_blocks_max,
            wall_seconds: 0.0,
            seed: options.seed,
            accounts: chain.accounts.len(),
            at_risk: census.at_risk.len(),
            breached: census.breached.len(),
            bad_debt: (hit.shortfall_arisen + healthy.shortfall_arisen).to_string(),
            deleveraged: hit.deleveraged.len(),
            payers: hit.payers.len(),
            margin_moves: hit.margin_moves + healthy.margin_moves,
            accounts_compared: cache.compared,
            transactions: mined.len(),
            transactions_reverted: mined.iter().filter(|tx| !tx.success).count(),
            gas_used: mined.iter().map(|tx| tx.gas_used).sum(),
            gas_cost_wei: total_fee(&mined).to_string(),
            killed: drive.was_killed(),
            blocks: rest.block.number - drive.fall_block,
            token_balance: chain.token_balance.to_string(),
            faults: Vec::new(),
        };
        let log_mismatches = census
            .first_mismatch
            .as_ref()
            .map(|first| format!("logs and views of accounts differed {} times, first in {first}", census.mismatches));
        let kinds: [&[String]; 6] =
            [&rest.unrest, &chain.faults, &cache.mismatches, &doubles, violations_kept, log_mismatches.as_slice()];
        report.faults = kinds.iter().flat_map(|kind| kind.iter().take(FAULTS_PER_KIND_MAX).cloned()).collect();
        report.faults.extend(broken_promises(&report, options));
        Ok(report)
    }

    /// Where to look while everything runs.
    fn directions(&self, daemon: &Daemon) -> String {
        let feeds: Vec<String> = self
            .scenario
            .markets
            .iter()
            .map(|market| format!("    feed {:<8}{}", market.symbol, self.venue.feeds[&market.id]))
            .collect();
        format!(
            "everything still runs; Ctrl-C ends it\n\
             \n  node          {}\n  clearinghouse {}\n  steward       {}\n  backstop pool {}\n  token         {}\n  keeper        {}\n{}\n\
             \n  metrics       {}/metrics\n  health        {}/readyz\n  configuration {}\n  log           {}\n\
             \n  psql '{}'\n",
            self.anvil.http_url(),
            self.venue.clearinghouse,
            self.venue.steward,
            self.venue.membership.map(|membership| membership.pool).unwrap_or_default(),
            self.venue.token,
            self.keeper.address,
            feeds.join("\n"),
            daemon.ops_url(),
            daemon.ops_url(),
            daemon.config().display(),
            self.log.display(),
            self.postgres.url(),
        )
    }
}

fn is_touched(tally: &Tally) -> bool {
    tally.recovery_events > 0 || tally.margin_moves > 0 || !tally.bankrupt.is_empty()
}

fn total_fee(mined: &[MinedTransaction]) -> U256 {
    mined.iter().map(|tx| tx.fee_wei).sum()
}

/// What the demo is to show and did not.
fn broken_promises(report: &DemoReport, options: &DemoOptions) -> Vec<String> {
    let absorbed = &report.absorbed;
    let promises = [
        (report.residual == "0", "a residual is left"),
        (report.conservation_ok, "losses were not conserved"),
        (!report.healthy_segment_touched, "the healthy segment was touched"),
        (!absorbed.liquidation.is_zero(), "liquidation absorbed nothing"),
        (!absorbed.insurance_fund.is_zero(), "the insurance fund absorbed nothing"),
        (!absorbed.auto_deleverage.is_zero(), "auto-deleveraging absorbed nothing"),
        (!absorbed.shared_backstop.is_zero(), "the shared backstop absorbed nothing"),
        (!absorbed.socialise_loss.is_zero(), "socialised loss absorbed nothing"),
        (report.margin_moves > 0, "no margin was recalibrated"),
        (report.killed == options.kill, "the daemon was not killed as planned"),
    ];
    promises.into_iter().filter(|(kept, _)| !kept).map(|(_, broken)| broken.to_owned()).collect()
}
