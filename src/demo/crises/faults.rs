//! The campaign of faults: crises in which processes, the database, the node and the chain itself fail, drawn by a seed.
//!
//! Each run has a Postgres, a chain, a venue, a daemon and in every other run a second daemon of its own. While prices fall
//! one to three faults happen; then everything is healthy again and the daemon must repair all within a bounded number of
//! blocks, with nothing lost, nothing done twice and no transaction left behind.
//!
//! Invariants: which faults, when and how hard is decided by the seed; only processes of the run itself are signalled.
//! Must not: repair anything itself.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::AtomicU32,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use futures_util::{StreamExt, stream};
use serde::Serialize;
use serde_json::json;

use super::{
    super::{
        config::FINALITY_DEPTH_BLOCKS,
        daemon::Daemon,
        dice::Dice,
        postgres::{Durability, Shutdown, ThrowAwayPostgres},
    },
    Arena, Outcome,
    faulty_node::FaultyNode,
    play::Play,
    world::{BTC, Cast, ONE, SOL, TWO, World},
};

/// Longest a run may take.
const RUN_WITHIN: Duration = Duration::from_secs(240);
/// Blocks within which everything is repaired once nothing fails any longer.
const RECOVERED_WITHIN_BLOCKS: u64 = 60;
/// Prices at the end: lower than most before.
const LAST_BTC: u64 = 720;
const LAST_SOL: u64 = 760;
/// How long the daemon is waited for after each block while something may be broken.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a replica may take to start.
const STARTED_WITHIN: Duration = Duration::from_secs(30);
/// Longer than a lease: after this a replica has taken over.
const BEYOND_LEASE: Duration = Duration::from_millis(4_500);

/// What to try.
#[derive(Clone, Debug)]
pub struct FaultsOptions {
    /// How many runs.
    pub runs: u64,
    /// The first one's seed; the others follow.
    pub first: u64,
    /// How many at once.
    pub at_once: usize,
    /// Where the report and the daemons' logs go.
    pub folder: PathBuf,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Fault {
    /// SIGKILL, and a new start some blocks later.
    DaemonKilled,
    /// SIGSTOP, and SIGCONT some blocks later, perhaps after its lease has run out.
    DaemonHeld,
    /// The database ends its sessions and starts again.
    PostgresRestarted,
    /// The database crashes and recovers.
    PostgresCrashed,
    /// The node refuses, loses answers, throttles, delays and garbles.
    NodeFaulty,
    /// The latest blocks are replaced by empty ones.
    ChainReorganised,
}

impl Fault {
    const ALL: [Self; 6] = [
        Self::DaemonKilled,
        Self::DaemonHeld,
        Self::PostgresRestarted,
        Self::PostgresCrashed,
        Self::NodeFaulty,
        Self::ChainReorganised,
    ];
}

/// What became of a run.
#[derive(Debug, Serialize)]
struct Run {
    seed: u64,
    replicas: u32,
    faults: Vec<Fault>,
    transactions: usize,
    /// Blocks from the last fault's end until all was repaired, final and closed.
    recovered_in_blocks: Option<u64>,
    /// What is wrong, in words.
    violations: Vec<String>,
}

/// Plays the runs, prints each that fails and a summary, and writes `report.json`. Fails if one of them did.
pub async fn run(options: FaultsOptions) -> Result<()> {
    let folder = std::path::absolute(&options.folder).context("find the folder of the report")?;
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let started = Instant::now();
    let runs: Vec<Run> = stream::iter(options.first..options.first + options.runs)
        .map(|seed| one(folder.clone(), seed))
        .buffered(options.at_once.max(1))
        .inspect(|run| print!("{}", line(run)))
        .collect()
        .await;
    let report = report(&options, &runs);
    let path = folder.join("report.json");
    std::fs::write(&path, serde_json::to_string_pretty(&report)? + "\n").context("write the report")?;
    let violated = runs.iter().filter(|run| !run.violations.is_empty()).count();
    println!("\n  {} runs in {:.0} s: {}", runs.len(), started.elapsed().as_secs_f64(), report["injected"]);
    println!("  blocks to recover: {}; violated: {violated}; report: {}", report["recovery_blocks"], path.display());
    if violated > 0 {
        bail!("{violated} of {} runs were violated; make faults RUNS=1 FIRST=<seed> plays one again", runs.len());
    }
    Ok(())
}

fn line(run: &Run) -> String {
    let verdict = if run.violations.is_empty() { "ok" } else { "VIOLATED" };
    let blocks = run.recovered_in_blocks.map_or("-".to_owned(), |blocks| blocks.to_string());
    let mut text = format!(
        "  seed {:<5} {verdict:<9} {} replicas {:>2} tx, recovered in {blocks} blocks  {:?}\n",
        run.seed, run.replicas, run.transactions, run.faults
    );
    for violation in &run.violations {
        text += &format!("    VIOLATED  {violation}\n");
    }
    text
}

fn report(options: &FaultsOptions, runs: &[Run]) -> serde_json::Value {
    let mut injected: BTreeMap<String, u64> = BTreeMap::new();
    for fault in runs.iter().flat_map(|run| &run.faults) {
        let name = serde_json::to_value(fault).ok().and_then(|name| name.as_str().map(str::to_owned));
        *injected.entry(name.unwrap_or_default()).or_default() += 1;
    }
    let mut blocks: Vec<u64> = runs.iter().filter_map(|run| run.recovered_in_blocks).collect();
    blocks.sort_unstable();
    let percentile = |percent: usize| blocks.get((blocks.len() * percent / 100).min(blocks.len().saturating_sub(1)));
    json!({
        "runs": runs.len(),
        "first_seed": options.first,
        "injected": injected,
        "two_replicas": runs.iter().filter(|run| run.replicas == 2).count(),
        "transactions": runs.iter().map(|run| run.transactions).sum::<usize>(),
        "violated": runs.iter().filter(|run| !run.violations.is_empty()).count(),
        "recovery_blocks": { "p50": percentile(50), "p90": percentile(90), "p99": percentile(99), "max": blocks.last() },
        "each": runs,
    })
}

async fn one(folder: PathBuf, seed: u64) -> Run {
    let mut dice = Dice(seed);
    let mut run = Run {
        seed,
        replicas: 1 + u32::from(seed.is_multiple_of(2)),
        faults: Vec::new(),
        transactions: 0,
        recovered_in_blocks: None,
        violations: Vec::new(),
    };
    // Each kind is some run's first.
    let kinds = Fault::ALL.len() as u64;
    run.faults.push(Fault::ALL[usize::try_from(seed / 2 % kinds).unwrap_or(0)]);
    for _ in 0..dice.below(3) {
        run.faults.push(dice.choose(&Fault::ALL));
    }
    match tokio::time::timeout(RUN_WITHIN, suffer(folder, &mut run, dice)).await {
        Ok(Ok(outcome)) => {
            run.transactions = outcome.transactions;
            run.violations.extend(outcome.faults);
        }
        Ok(Err(error)) => run.violations.push(format!("{error:#}")),
        Err(_) => run.violations.push(format!("not over after {} s", RUN_WITHIN.as_secs())),
    }
    run
}

/// alice and anna are long in segment 1, sue in segment 2; when prices fall by a fifth all three are short.
fn cast(dice: &mut Dice) -> Cast {
    let mut cast = Cast::alice(dice.choose(&[0, 300, 900, 2_000]));
    cast.funds[1] = dice.choose(&[0, 100, 1_000]);
    cast.people.extend([("anna", ONE, 550), ("sue", TWO, 550), ("tom", TWO, 20_000), ("zed", TWO, 50_000)]);
    cast.stages[0].1.extend([(BTC, "anna", "dave", 5), (SOL, "sue", "tom", 5)]);
    cast
}

async fn suffer(folder: PathBuf, run: &mut Run, mut dice: Dice) -> Result<Outcome> {
    let postgres = ThrowAwayPostgres::start(Durability::Durable).await.context("start Postgres")?;
    let arena = Arena { postgres, folder, databases: AtomicU32::new(0) };
    let mut world = World::raise(&arena, &format!("seed-{}", run.seed), cast(&mut dice)).await?;
    world.front = Some(FaultyNode::start(world.anvil.http_url()).await?);
    let mut play = Play::begin(&world).await?;
    if run.replicas == 2 {
        play.replica = Some(standing_by(world.start_replica()?).await?);
    }
    let mut ordeal = Ordeal { play, postgres: arena.postgres, dice };
    ordeal.play.down = true;
    let faults = run.faults.clone();
    for fault in faults {
        ordeal.falling().await?;
        ordeal.befall(fault).await.with_context(|| format!("{fault:?}"))?;
    }
    let Ordeal { mut play, postgres, .. } = ordeal;
    let healed_at = play.watch.block().number;
    play.prices(&[(BTC, LAST_BTC), (SOL, LAST_SOL)]).await?;
    play.down = false;
    play.until_ready().await.context("after the last fault")?;
    // Somebody buys whatever must be closed.
    let bids =
        [play.order("dave", BTC, true, LAST_BTC * 99 / 100, 20), play.order("zed", SOL, true, LAST_SOL * 99 / 100, 20)];
    play.act(&bids).await?;
    while let Some(why) = play.unrest().await? {
        let blocks = play.watch.block().number - healed_at;
        if blocks > RECOVERED_WITHIN_BLOCKS {
            bail!("not recovered after {blocks} blocks: {why}");
        }
        play.block().await?;
    }
    run.recovered_in_blocks = Some(play.watch.block().number - healed_at);
    let outcome = play.end_as(None).await;
    drop(postgres);
    outcome
}

/// A replica that has started: one that finds no database says so and ends, as it should.
async fn standing_by(mut replica: Daemon) -> Result<Daemon> {
    let deadline = Instant::now() + STARTED_WITHIN;
    while replica.readiness().await.is_none() {
        replica.check_alive()?;
        ensure!(Instant::now() < deadline, "the replica does not answer");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(replica)
}

/// A run in the middle of it.
struct Ordeal<'w> {
    play: Play<'w>,
    postgres: ThrowAwayPostgres,
    dice: Dice,
}

impl Ordeal<'_> {
    /// A few blocks of falling prices.
    async fn falling(&mut self) -> Result<()> {
        for _ in 0..=self.dice.below(3) {
            let (btc, sol) = (700 + self.dice.below(250), 750 + self.dice.below(200));
            self.play.prices(&[(BTC, btc), (SOL, sol)]).await?;
            self.wait(PATIENCE).await;
        }
        Ok(())
    }

    /// Some blocks while something is broken.
    async fn blocks(&mut self, most: u64) -> Result<()> {
        for _ in 0..self.dice.below(most + 1) {
            self.play.block().await?;
            self.wait(PATIENCE / 4).await;
        }
        Ok(())
    }

    /// Gives the daemon time for the head, but no longer than this.
    async fn wait(&self, within: Duration) {
        let (head, deadline) = (self.play.watch.block().number, Instant::now() + within);
        while Instant::now() < deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(true) = tokio::time::timeout(left, self.play.is_done_with(head)).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn befall(&mut self, fault: Fault) -> Result<()> {
        match fault {
            Fault::DaemonKilled => {
                self.play.daemon.kill().await?;
                self.blocks(3).await?;
                self.play.daemon.restart()
            }
            Fault::DaemonHeld => {
                self.play.daemon.hold()?;
                self.blocks(3).await?;
                if self.dice.below(2) == 0 {
                    tokio::time::sleep(BEYOND_LEASE).await;
                }
                self.blocks(2).await?;
                self.play.daemon.go_on()
            }
            Fault::PostgresRestarted => self.without_postgres(Shutdown::Fast).await,
            Fault::PostgresCrashed => self.without_postgres(Shutdown::Immediate).await,
            Fault::NodeFaulty => {
                let front = self.play.world.front.as_ref().context("nothing stands before the node")?;
                front.be_faulty(Some(Dice(self.dice.next())));
                for _ in 0..2 + self.dice.below(4) {
                    self.play.block().await?;
                    self.wait(PATIENCE).await;
                }
                front.be_faulty(None);
                Ok(())
            }
            Fault::ChainReorganised => {
                // What is final does not come back: that much is the chain's promise.
                let depth = 1 + self.dice.below(FINALITY_DEPTH_BLOCKS - 1);
                self.play.world.anvil.reorg(depth).await?;
                self.play.look_anew().await?;
                self.blocks(2).await
            }
        }
    }

    async fn without_postgres(&mut self, how: Shutdown) -> Result<()> {
        self.postgres.stop(how)?;
        self.blocks(3).await?;
        self.postgres.start_again().await
    }
}
