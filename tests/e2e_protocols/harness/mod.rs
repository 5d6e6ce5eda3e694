//! One end-to-end run on a real protocol's contracts: deploy, let random accounts act, crash prices, ask the chain about
//! every account whether the daemon saw it and did what was due.
//!
//! A protocol's module implements [`Playground`] and has one test that calls [`play`]. The harness
//!
//! 1. starts anvil, which mines every transaction at once, and runs `node tools/protocols/NAME.mjs RPC KEEPER`, whose one
//!    line of JSON goes to [`Playground::deploy`]; the keeper has native currency, everything else it needs (tokens,
//!    approvals, roles) the script or `deploy` gives it;
//! 2. stops automatic mining and starts the daemon as a process with [`Playground::protocol`] and [`Playground::policy`];
//! 3. makes [`BLOCKS`] blocks of random actions ([`Playground::act`], seeded); at every tenth it waits for the daemon and
//!    holds its cache against the protocol's own views, every account ([`Playground::mismatches`]);
//! 4. moves prices step by step ([`Playground::crash`]) and after every block asks the chain about every account
//!    ([`Playground::liquidatable`]); the next block is made once the daemon has acted on the last;
//! 5. goes on until nobody is liquidatable and [`Playground::settled`] says that nothing is open;
//! 6. stops the daemon, writes `target/e2e/NAME.json`, and fails where the report is not what it should be.
//!
//! Invariants: the daemon learns nothing of the harness; what is counted is asked of the chain.

pub(crate) mod chain;
pub(crate) mod daemon;
pub(crate) mod report;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use alloy::primitives::Address;
use anyhow::{Context, Result, ensure};
use backstop::{
    demo::{anvil::AnvilOptions, postgres::TestDatabase},
    positions::Snapshot,
    protocols::{self, Adapter},
    types::{BlockRef, CallOutcome, UnitKey},
};
use serde_json::{Map, Value, json};

use self::{
    chain::{Chain, Mined},
    daemon::{Daemon, Settings},
    report::{Report, Watch},
};

/// Blocks of random actions.
pub(crate) const BLOCKS: u64 = 300;
/// Every so many blocks the cache is held against the chain.
const CHECK_EVERY: u64 = 10;
/// Most blocks after a price step until nobody is liquidatable any more.
const REPAIR_BLOCKS_MAX: u64 = 40;
/// Most blocks until nothing is open any more.
const SETTLE_BLOCKS_MAX: u64 = 200;

/// A seeded source of randomness: SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub(crate) fn roll(&mut self, n: u64) -> u64 {
        self.bits() % n.max(1)
    }

    /// `low..=high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.roll(high - low + 1)
    }

    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.roll(from.len() as u64)).expect("an index")]
    }
}

/// What came of the run, read from the chain's logs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounting {
    /// Liquidations that the keeper carried out.
    pub(crate) liquidated: usize,
    /// Bad debt that was booked, in the protocol's words and units.
    pub(crate) bad_debt_created: String,
    /// Bad debt that was paid.
    pub(crate) bad_debt_covered: String,
    /// Whatever else belongs into the report.
    pub(crate) more: Map<String, Value>,
}

/// One protocol on a local chain.
pub(crate) trait Playground: Sized {
    /// Config word, deploy script, report name.
    const NAME: &'static str;

    /// What kind of chain it needs.
    fn chain() -> AnvilOptions {
        AnvilOptions { block_gas_limit: 300_000_000, states_kept_blocks: 512, ..AnvilOptions::default() }
    }

    /// Sets the scene: at least 50 accounts with money. Every transaction is mined at once.
    async fn deploy(chain: &Chain, deployed: Value, keeper: Address, dice: &mut Dice) -> Result<Self>;

    /// `[deployments.NAME.protocol]`, the adapter's word included.
    fn protocol(&self) -> Value;

    /// `[deployments.NAME.policy]`: such that everything that is due is done.
    fn policy(&self) -> Value {
        json!({ "mode": "mandate", "budget_per_day_max_wei": "1000000000000000000000" })
    }

    /// Changes to the rest of the deployment's configuration.
    fn overrides(&self) -> Value {
        Value::Null
    }

    /// How many accounts may be borrowers or traders.
    fn accounts(&self) -> usize;

    /// Puts random actions of random accounts into the pool. What a contract refuses is no fault.
    async fn act(&mut self, chain: &Chain, dice: &mut Dice) -> Result<()>;

    /// Differences between the cache and the protocol's own views at the cache's block, one line each, over every account
    /// that exists on chain. [`probe_all`] does the part that the adapter's probes cover.
    async fn mismatches(&self, chain: &Chain, adapter: &dyn Adapter, snapshot: &Snapshot) -> Result<Vec<String>>;

    /// Every account that can be liquidated (or otherwise must be acted on) after this block, by the contracts' own word.
    async fn liquidatable(&self, chain: &Chain, at: &BlockRef) -> Result<BTreeSet<UnitKey>>;

    /// Puts the next step of the crash into the pool; `false` after the last one. The harness mines.
    async fn crash(&mut self, chain: &Chain, step: usize) -> Result<bool>;

    /// The accounts that a transaction of the keeper acts on and that must have been liquidatable for it.
    fn targets(&self, transaction: &Mined) -> Vec<UnitKey>;

    /// Whether nothing is open any more: deficits, auctions. Seconds to the next block otherwise.
    async fn settled(&mut self, chain: &Chain, at: &BlockRef) -> Result<Option<u64>> {
        let _ = (chain, at);
        Ok(None)
    }

    /// What came of it.
    async fn accounting(&self, chain: &Chain, keeper: Address, mined: &[Mined]) -> Result<Accounting>;
}

/// Runs a protocol's deploy script: its JSON.
pub(crate) fn deploy_script(name: &str, rpc_url: &str, keeper: Address) -> Result<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/protocols").join(format!("{name}.mjs"));
    let output = Command::new("node").arg(&script).arg(rpc_url).arg(keeper.to_string()).output();
    let output = output.context("node cannot be started; run tools/setup.sh protocols")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let mend = "run tools/setup.sh protocols if a package or module is missing";
    ensure!(output.status.success(), "{} failed; {mend}:\n{said}", script.display());
    serde_json::from_slice(&output.stdout).with_context(|| format!("{} prints no JSON", script.display()))
}

/// Holds every unit of the cache against the views that the adapter's probes name, and values it.
pub(crate) async fn probe_all(chain: &Chain, adapter: &dyn Adapter, snapshot: &Snapshot) -> Result<Vec<String>> {
    let units: Vec<UnitKey> = snapshot.book.units().map(|(key, _)| key.clone()).collect();
    let probes = adapter.probes(snapshot, &units);
    let calls: Vec<_> = probes.iter().map(|probe| probe.call.clone()).collect();
    let answers = chain.calls(None, &calls, snapshot.block.hash).await?;
    let mut faults = Vec::new();
    for (probe, answer) in probes.into_iter().zip(answers) {
        if answer != CallOutcome::Returned(probe.expected.clone()) {
            faults.push(format!("{}: the cache says {}, the chain {answer:?}", probe.subject, probe.expected));
        }
    }
    for (key, unit) in snapshot.book.units() {
        if let Err(why) = adapter.standing(snapshot, key, unit) {
            faults.push(format!("{key} cannot be valued: {why}"));
        }
    }
    Ok(faults)
}

/// The folder of a run's files.
pub(crate) fn folder(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let target = if target.is_absolute() { target } else { Path::new(env!("CARGO_MANIFEST_DIR")).join(target) };
    target.join("e2e").join(name)
}

/// Plays one protocol to the end and writes its report.
pub(crate) async fn play<P: Playground>() -> Report {
    match Run::<P>::play().await {
        Ok(report) => report,
        Err(error) => panic!("{}: {error:#}", P::NAME),
    }
}

struct Run<P> {
    chain: Chain,
    playground: P,
    daemon: Daemon,
    adapter: std::sync::Arc<dyn Adapter>,
    keeper: Address,
    watch: Watch,
    report: Report,
    mined: Vec<Mined>,
    began_at: u64,
}

impl<P: Playground> Run<P> {
    async fn play() -> Result<Report> {
        let mut dice = Dice::new(7);
        let chain = Chain::start(P::chain()).await?;
        let (key, keeper) = daemon::keeper();
        chain.fund(keeper).await?;
        let deployed = deploy_script(P::NAME, &chain.anvil.http_url(), keeper)?;
        let playground = P::deploy(&chain, deployed, keeper, &mut dice).await.context("set the scene")?;
        chain.stop_automine().await?;
        let database = TestDatabase::new().await;
        let protocol = playground.protocol();
        let mut settings = protocol.as_object().context("protocol settings are a table")?.clone();
        let word = settings.remove("adapter").context("protocol settings without an adapter")?;
        let adapter = protocols::adapter(word.as_str().unwrap_or_default(), Value::Object(settings))?;
        let daemon = Daemon::start(&Settings {
            name: P::NAME,
            folder: &folder(P::NAME),
            database_url: database.url(),
            rpc_url: chain.anvil.ws_url(),
            key: &key,
            protocol,
            policy: playground.policy(),
            overrides: playground.overrides(),
        })
        .await?;
        let began_at = chain.head().await?.number;
        let report = Report { accounts: playground.accounts(), ..Report::default() };
        let watch = Watch::default();
        let mined = Vec::new();
        let mut run = Self { chain, playground, daemon, adapter, keeper, watch, report, mined, began_at };
        run.random_life(&mut dice).await?;
        run.crash().await?;
        run.settle().await?;
        run.finish().await
    }

    async fn random_life(&mut self, dice: &mut Dice) -> Result<()> {
        for number in 1..=BLOCKS {
            self.playground.act(&self.chain, dice).await?;
            let block = self.chain.mine().await?;
            if number % CHECK_EVERY == 0 {
                self.check(&block).await?;
            }
            self.note(&block, false).await?;
        }
        Ok(())
    }

    /// Holds the cache against the chain.
    async fn check(&mut self, block: &BlockRef) -> Result<()> {
        let snapshot = self.daemon.cache(block).await?;
        let faults = self.playground.mismatches(&self.chain, self.adapter.as_ref(), &snapshot).await?;
        for fault in faults.iter().take(3) {
            eprintln!("{}: block {}: {fault}", P::NAME, block.number);
        }
        self.report.health_mismatches += faults.len();
        Ok(())
    }

    /// Looks at a block: what the keeper did in it and, on request, who is liquidatable after it. How many are.
    async fn note(&mut self, block: &BlockRef, ask: bool) -> Result<usize> {
        let mined = self.chain.mined(block.number).await?;
        let own: Vec<&Mined> = mined.iter().filter(|transaction| transaction.from == self.keeper).collect();
        let mut acted_on = BTreeSet::new();
        if !own.is_empty() {
            let parent = self.chain.block(block.number - 1).await?;
            let was = self.playground.liquidatable(&self.chain, &parent).await?;
            for transaction in &own {
                self.report.reverted_sends += usize::from(!transaction.success);
                for unit in self.playground.targets(transaction) {
                    if !was.contains(&unit) {
                        eprintln!("{}: {} was sent against {unit}, which was healthy", P::NAME, transaction.hash);
                        self.report.wrongly_sent += 1;
                    }
                    acted_on.insert(unit);
                }
            }
        }
        self.mined.extend(mined);
        if !ask {
            return Ok(0);
        }
        let liquidatable = self.playground.liquidatable(&self.chain, block).await?;
        self.watch.block(block.number, &liquidatable, &acted_on);
        Ok(liquidatable.len())
    }

    async fn crash(&mut self) -> Result<()> {
        for step in 0.. {
            self.daemon.acted_on(&self.chain.head().await?).await?;
            if !self.playground.crash(&self.chain, step).await? {
                return Ok(());
            }
            for round in 0.. {
                let block = self.chain.mine().await?;
                let open = self.note(&block, true).await?;
                self.daemon.acted_on(&block).await?;
                if open == 0 {
                    self.check(&block).await?;
                    break;
                }
                let (blocks, name) = (REPAIR_BLOCKS_MAX, P::NAME);
                ensure!(
                    round < REPAIR_BLOCKS_MAX,
                    "{name}: {open} accounts are liquidatable {blocks} blocks after step {step}"
                );
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        for _ in 0..SETTLE_BLOCKS_MAX {
            let head = self.chain.head().await?;
            self.daemon.acted_on(&head).await?;
            let Some(seconds) = self.playground.settled(&self.chain, &head).await? else { return Ok(()) };
            let block = self.chain.mine_after(seconds).await?;
            self.note(&block, true).await?;
        }
        anyhow::bail!("something is still open after {SETTLE_BLOCKS_MAX} blocks")
    }

    async fn finish(mut self) -> Result<Report> {
        self.daemon.stop().await?;
        let Accounting { liquidated, bad_debt_created, bad_debt_covered, more } =
            self.playground.accounting(&self.chain, self.keeper, &self.mined).await?;
        for (unit, block) in &self.watch.missed {
            eprintln!("{}: {unit} was liquidatable for too long at block {block}", P::NAME);
        }
        self.report.blocks = self.chain.head().await?.number - self.began_at;
        self.report.missed_liquidatable = self.watch.missed.len();
        (self.report.liquidated, self.report.more) = (liquidated, more);
        (self.report.bad_debt_created, self.report.bad_debt_covered) = (bad_debt_created, bad_debt_covered);
        write(P::NAME, &self.report)?;
        let report = &self.report;
        ensure!(report.accounts >= 50 && report.blocks >= BLOCKS, "too small a run: {report:?}");
        ensure!(report.health_mismatches == 0, "{} mismatches", report.health_mismatches);
        ensure!(report.missed_liquidatable == 0, "{} liquidatable accounts were missed", report.missed_liquidatable);
        ensure!(report.wrongly_sent == 0, "{} transactions were sent wrongly", report.wrongly_sent);
        ensure!(report.liquidated > 0, "nothing was liquidated: the run shows nothing");
        Ok(self.report)
    }
}

/// Writes a report where its command says it is.
pub(crate) fn write(name: &str, report: &Report) -> Result<()> {
    let path = folder(name).with_extension("json");
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, serde_json::to_string_pretty(report)? + "\n")?;
    println!("{}\n{}", path.display(), serde_json::to_string(report)?);
    Ok(())
}
