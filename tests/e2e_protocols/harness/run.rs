//! One run from the first block to the report.

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::primitives::{Address, B256};
use anyhow::{Context, Result, ensure};
use backstop::{
    demo::{contracts, postgres::TestDatabase},
    journal::ActionFilter,
    positions::Book,
    protocols::{self, Adapter},
    types::BlockRef,
};
use serde_json::Value;
use tokio::sync::Mutex;

use super::{
    Accounting, Dice, Playground,
    chain::{Chain, Mined},
    daemon::{self, Daemon, Settings},
    folder,
    report::{Report, Sent, Watch},
};

/// Blocks of random actions.
pub(crate) const BLOCKS: u64 = 300;
/// Every so many blocks the cache is held against the chain.
const CHECK_EVERY: u64 = 10;
/// Most blocks after a price step until nobody is liquidatable any more.
const REPAIR_BLOCKS_MAX: u64 = 40;
/// Most blocks until nothing is open any more.
const SETTLE_BLOCKS_MAX: u64 = 200;
/// Most faults of one kind that are printed; all of them are counted.
const FAULTS_SHOWN_MAX: usize = 5;

/// A run keeps a chain, a database and a daemon busy: two at once would measure each other.
pub(super) static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Plays one protocol to the end and writes its report; panics where it is not what it should be. `None` where the
/// protocol's packages are not at hand.
pub(crate) async fn play<P: Playground>() -> Option<Report> {
    let _turn = ONE_AT_A_TIME.lock().await;
    if !contracts::at_hand(P::NAME) {
        return None;
    }
    match Run::<P>::play().await {
        Ok(report) => Some(report),
        Err(error) => panic!("{}: {error:#}", P::NAME),
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

/// The adapter of a playground, for the harness's own use.
pub(super) fn adapter<P: Playground>(playground: &P) -> Result<Arc<dyn Adapter>> {
    let mut settings = playground.protocol().as_object().context("protocol settings are a table")?.clone();
    let word = settings.remove("adapter").context("protocol settings without an adapter")?;
    Ok(protocols::adapter(word.as_str().unwrap_or_default(), Value::Object(settings))?)
}

struct Run<P> {
    chain: Chain,
    playground: P,
    daemon: Daemon,
    adapter: Arc<dyn Adapter>,
    keeper: Address,
    watch: Watch,
    mined: Vec<Mined>,
    began: Instant,
    began_at: u64,
    mismatches: usize,
    /// The cache as it was at the first check.
    first_book: Option<Book>,
    /// Random actions, and how many of them the contracts refused.
    actions: (usize, usize),
    slowest_pass: Duration,
    /// Blocks that the daemon did not act on before the next was due.
    passes_late: u64,
    /// What went wrong besides what is counted, in words.
    faults: Vec<String>,
}

impl<P: Playground> Run<P> {
    async fn play() -> Result<Report> {
        let began = Instant::now();
        let mut dice = Dice::new(7);
        let chain = Chain::start(P::chain()).await?;
        let (key, keeper) = daemon::keeper();
        chain.fund(keeper).await?;
        let deployed = contracts::deploy(P::NAME, &chain.anvil.http_url(), keeper)?;
        let playground = P::deploy(&chain, deployed, keeper, &mut dice).await.context("set the scene")?;
        chain.stop_automine().await?;
        let database = TestDatabase::new().await;
        let adapter = adapter(&playground)?;
        let mut daemon = Daemon::start(&Settings {
            name: P::NAME,
            folder: &folder(P::NAME),
            database_url: database.url(),
            rpc_url: chain.anvil.ws_url(),
            key: &key,
            protocol: playground.protocol(),
            policy: playground.policy(),
            overrides: playground.overrides(),
        })
        .await?;
        let head = chain.head().await?;
        daemon.must_act_on(&head).await?;
        let mut run = Self {
            chain,
            playground,
            daemon,
            adapter,
            keeper,
            watch: Watch::default(),
            mined: Vec::new(),
            began,
            began_at: head.number,
            mismatches: 0,
            first_book: None,
            actions: (0, 0),
            slowest_pass: Duration::ZERO,
            passes_late: 0,
            faults: Vec::new(),
        };
        run.tell("the daemon runs");
        run.note(&head).await?;
        run.random_life(&mut dice).await.context("in the calm")?;
        run.tell("the calm is over");
        run.crash().await.context("in the crash")?;
        run.settle().await.context("after the crash")?;
        run.finish().await
    }

    fn tell(&self, what: &str) {
        println!("{}: {:.1} s: {what}", P::NAME, self.began.elapsed().as_secs_f64());
    }

    /// Makes the next block, looks at it, and lets the daemon act on it.
    async fn block(&mut self, seconds: u64) -> Result<BlockRef> {
        let block = self.chain.mine_after(seconds).await?;
        self.note(&block).await?;
        match self.daemon.acted_on(&block).await? {
            Some(took) => self.slowest_pass = self.slowest_pass.max(took),
            None => self.passes_late += 1,
        }
        Ok(block)
    }

    async fn random_life(&mut self, dice: &mut Dice) -> Result<()> {
        for number in 1..=BLOCKS {
            self.playground.act(&self.chain, dice).await?;
            let before = self.mined.len();
            let block = self.block(P::block_seconds()).await?;
            let actions = self.mined[before..].iter().filter(|transaction| transaction.from != self.keeper);
            for action in actions {
                self.actions.0 += 1;
                self.actions.1 += usize::from(!action.success);
            }
            if number % CHECK_EVERY == 0 {
                self.check(&block).await?;
            }
        }
        Ok(())
    }

    /// Holds the cache against the chain.
    async fn check(&mut self, block: &BlockRef) -> Result<()> {
        let snapshot = self.daemon.cache(block).await?;
        ensure!(snapshot.book.units().next().is_some(), "the cache of block {} is empty", block.number);
        let faults = self.playground.mismatches(&self.chain, self.adapter.as_ref(), &snapshot).await?;
        for fault in faults.iter().take(FAULTS_SHOWN_MAX) {
            println!("{}: block {}: MISMATCH {fault}", P::NAME, block.number);
        }
        self.mismatches += faults.len();
        self.first_book.get_or_insert(snapshot.book);
        Ok(())
    }

    /// A check that cannot fail is none: an old cache must not pass for one of this block.
    async fn prove_check(&mut self, block: &BlockRef) -> Result<()> {
        let mut snapshot = self.daemon.cache(block).await?;
        snapshot.book = self.first_book.clone().context("nothing was checked")?;
        let faults = self.playground.mismatches(&self.chain, self.adapter.as_ref(), &snapshot).await?;
        if faults.is_empty() {
            self.faults.push("the comparison takes an old cache for a new one: it shows nothing".to_owned());
        }
        Ok(())
    }

    /// Looks at a block: what the keeper did in it, and who is liquidatable after it.
    async fn note(&mut self, block: &BlockRef) -> Result<()> {
        let mined = self.chain.mined(block.number).await?;
        let liquidatable = self.playground.liquidatable(&self.chain, block).await?;
        let sent = mined.iter().filter(|transaction| transaction.from == self.keeper).map(|transaction| Sent {
            hash: transaction.hash,
            block: block.number,
            success: transaction.success,
            targets: self.playground.targets(transaction),
        });
        self.watch.block(block.number, liquidatable, sent.collect());
        self.mined.extend(mined);
        Ok(())
    }

    async fn crash(&mut self) -> Result<()> {
        for step in 0.. {
            if !self.playground.crash(&self.chain, step).await? {
                return Ok(());
            }
            let mut block = self.block(P::block_seconds()).await?;
            let struck = self.watch.open();
            for _ in 0..REPAIR_BLOCKS_MAX {
                if self.watch.open() == 0 {
                    break;
                }
                block = self.block(P::block_seconds()).await?;
            }
            self.check(&block).await?;
            let open = self.watch.open();
            self.tell(&format!("block {}: step {step}: {struck} liquidatable, {open} left", block.number));
            if open > 0 {
                self.faults
                    .push(format!("{open} accounts are liquidatable {REPAIR_BLOCKS_MAX} blocks after step {step}"));
            }
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<()> {
        for _ in 0..SETTLE_BLOCKS_MAX {
            let head = self.chain.head().await?;
            let Some(seconds) = self.playground.settled(&self.chain, &head).await? else {
                self.check(&head).await?;
                return self.prove_check(&head).await;
            };
            self.block(seconds).await?;
        }
        self.faults.push(format!("something is still open after {SETTLE_BLOCKS_MAX} blocks"));
        Ok(())
    }

    async fn finish(mut self) -> Result<Report> {
        self.tell("everything is settled");
        let planned = self.planned().await?;
        if let Err(error) = self.daemon.stop().await {
            self.faults.push(format!("{error:#}"));
        }
        let Accounting { liquidated, bad_debt_created, bad_debt_covered, more } =
            self.playground.accounting(&self.chain, self.keeper, &self.mined).await?;
        let wrong = self.watch.wrongly_sent(&planned);
        let mut report = Report {
            accounts: self.playground.accounts(),
            blocks: self.chain.head().await?.number - self.began_at,
            health_mismatches: self.mismatches,
            missed_liquidatable: self.watch.missed.len(),
            wrongly_sent: wrong.len(),
            reverted_sends: self.watch.sent.iter().filter(|sent| !sent.success).count(),
            liquidated,
            bad_debt_created,
            bad_debt_covered,
            more,
        };
        let missed = self.watch.missed.iter().map(|(unit, block)| format!("{unit} was missed at block {block}"));
        for fault in missed.take(FAULTS_SHOWN_MAX).chain(wrong.iter().take(FAULTS_SHOWN_MAX).cloned()) {
            println!("{}: FAULT {fault}", P::NAME);
        }
        self.add_figures(&mut report);
        write(P::NAME, &report)?;
        self.judge(&report)?;
        Ok(report)
    }

    /// The block from which each transaction was planned, by the journal's word.
    async fn planned(&self) -> Result<BTreeMap<B256, u64>> {
        let everything = ActionFilter { limit: u32::MAX >> 1, ..ActionFilter::default() };
        let actions = self.daemon.journal().list_actions(&everything).await?;
        Ok(actions.iter().filter_map(|action| Some((action.tx_hash?, action.planned_block))).collect())
    }

    fn add_figures(&self, report: &mut Report) {
        let figures = [
            ("actions", self.actions.0 as u64),
            ("actions_refused", self.actions.1 as u64),
            ("sent", self.watch.sent.len() as u64),
            ("ever_liquidatable", self.watch.ever() as u64),
            ("pass_ms_max", u64::try_from(self.slowest_pass.as_millis()).unwrap_or(u64::MAX)),
            ("passes_late", self.passes_late),
            ("wall_seconds", self.began.elapsed().as_secs()),
        ];
        report.more.extend(figures.map(|(name, figure)| (name.to_owned(), figure.into())));
    }

    fn judge(&self, report: &Report) -> Result<()> {
        ensure!(report.accounts >= 50 && report.blocks >= BLOCKS, "too small a run: {report:?}");
        ensure!(report.health_mismatches == 0, "{} mismatches", report.health_mismatches);
        ensure!(report.missed_liquidatable == 0, "{} liquidatable accounts were missed", report.missed_liquidatable);
        ensure!(report.wrongly_sent == 0, "{} transactions were sent wrongly", report.wrongly_sent);
        ensure!(self.faults.is_empty(), "{}", self.faults.join("; "));
        let (actions, refused) = self.actions;
        ensure!(actions > 0 && 2 * refused <= actions, "{refused} of {actions} random actions were refused");
        ensure!(self.watch.ever() > 0, "nobody was ever liquidatable: the run shows nothing");
        ensure!(report.liquidated > 0, "nothing was liquidated: the run shows nothing");
        Ok(())
    }
}
