//! Plays a protocol's story and judges it.

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::rpc::types::TransactionReceipt;
use anyhow::{Context, Result, ensure};
use backstop::{
    demo::{daemon::Daemon, node::Message},
    journal::{ActionFilter, ActionRow},
    protocols::{self, Adapter},
    types::{B256, BlockRef},
};
use serde_json::json;
use tokio::sync::Mutex;

use super::{
    Playground, Rng, Stage,
    check::{self, Checked},
    ledger::{Ledger, Sent},
    report::Report,
    stage::missing_contracts,
};

/// A story keeps a chain, a database and a daemon busy: two at once would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The cache is held against the chain at each block whose number this divides.
const CHECK_EVERY_BLOCKS: u64 = 10;
/// Blocks in a row without anything to do after which the story is over.
const QUIET_BLOCKS: u64 = 4;
/// How long the daemon may take for its first pass.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How long a story is.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    /// Which.
    pub(crate) seed: u64,
    /// Accounts that play, at least.
    pub(crate) accounts: usize,
    /// Blocks of random actions.
    pub(crate) calm_blocks: u64,
    /// Blocks of one step of the crash.
    pub(crate) step_blocks: u64,
    /// Blocks after the crash by which everything must be done.
    pub(crate) settle_blocks_max: u64,
    /// How long the daemon may take for one pass before the next block is made all the same.
    pub(crate) patience: Duration,
}

impl Default for Story {
    fn default() -> Self {
        Self {
            seed: 1,
            accounts: 60,
            calm_blocks: 300,
            step_blocks: 6,
            settle_blocks_max: 80,
            patience: Duration::from_secs(5),
        }
    }
}

/// Plays the story, writes the report, and panics if it is not good. Where the protocol's contracts are not at hand it
/// says that nothing was run; under `CI=true` that is a failure.
pub(crate) async fn play<P: Playground>(story: Story) {
    let _turn = ONE_AT_A_TIME.lock().await;
    if let Some(why) = missing_contracts(P::NAME).await {
        let said = format!("{}: THIS TEST DID NOT RUN\n{why}\n", P::NAME);
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{said}");
        // past cargo's capture of what tests print
        std::io::stderr().write_all(said.as_bytes()).expect("stderr");
        return;
    }
    let report = played::<P>(&story).await.unwrap_or_else(|error| panic!("{} could not be played: {error:#}", P::NAME));
    let faults = report.all_faults();
    assert!(faults.is_empty(), "{}: {} fault(s), the first: {}", P::NAME, faults.len(), faults[0]);
}

async fn played<P: Playground>(story: &Story) -> Result<Report> {
    let started = Instant::now();
    let mut rng = Rng::new(story.seed);
    let (stage, deployed) = Stage::raise::<P>(story).await.context("raise the stage")?;
    let playground = P::populate(&stage, deployed, &mut rng).await.context("populate the protocol")?;
    ensure!(playground.accounts() >= story.accounts, "only {} accounts play", playground.accounts());
    println!("{}: populated after {:.1} s", P::NAME, started.elapsed().as_secs_f64());
    let adapter = protocols::adapter(P::NAME, playground.protocol()).context("the adapter")?;
    let mut daemon = stage.start_daemon(&playground)?;
    let head = stage.node.head().await?;
    let ready = stage.passed(&mut daemon, head.number, READY_WITHIN).await?;
    ensure!(ready.is_some(), "no first pass of the daemon in {} s", READY_WITHIN.as_secs());
    let first = head.number;
    let mut run = Run {
        story,
        stage: &stage,
        playground,
        adapter,
        daemon,
        rng,
        head,
        ledger: Ledger::default(),
        checked: Checked::default(),
        slowest_pass: Duration::ZERO,
        passes_not_awaited: 0,
        actions: 0,
        actions_refused: 0,
    };
    run.calm().await.context("in the calm")?;
    println!("{}: calm until block {}, {:.1} s", P::NAME, run.head.number, started.elapsed().as_secs_f64());
    run.crash().await.context("in the crash")?;
    let mut report = run.report(first).await.context("report")?;
    let status = run.daemon.stop().await?;
    if !status.success() {
        report.faults.push(format!("the daemon ended with {status} after SIGTERM"));
    }
    report.further.insert("wall_seconds".to_owned(), started.elapsed().as_secs().into());
    report.write(P::NAME)?;
    report.print(P::NAME);
    Ok(report)
}

/// A story under way.
struct Run<'a, P> {
    story: &'a Story,
    stage: &'a Stage,
    playground: P,
    adapter: Arc<dyn Adapter>,
    daemon: Daemon,
    rng: Rng,
    head: BlockRef,
    ledger: Ledger,
    checked: Checked,
    slowest_pass: Duration,
    passes_not_awaited: u64,
    actions: usize,
    actions_refused: usize,
}

impl<P: Playground> Run<'_, P> {
    async fn calm(&mut self) -> Result<()> {
        for _ in 0..self.story.calm_blocks {
            let messages = self.playground.act(self.stage, &mut self.rng).await.context("act")?;
            let sent = self.block(&messages).await?;
            let params: Vec<_> = sent.iter().map(|hash| json!([hash])).collect();
            let receipts: Vec<Option<TransactionReceipt>> =
                self.stage.node.batch("eth_getTransactionReceipt", &params).await?;
            self.actions += receipts.len();
            self.actions_refused += receipts.iter().filter(|r| r.as_ref().is_none_or(|r| !r.status())).count();
        }
        Ok(())
    }

    /// The crash, and what comes after it until there is nothing left to do.
    async fn crash(&mut self) -> Result<()> {
        for step in 0..self.playground.crash_steps() {
            let messages = self.playground.crash(self.stage, step, &mut self.rng).await.context("crash")?;
            self.block(&messages).await?;
            for _ in 1..self.story.step_blocks {
                self.quiet_block().await?;
            }
            println!("{}: step {step}, block {}, {} liquidatable", P::NAME, self.head.number, self.ledger.open());
        }
        let mut quiet = 0;
        for _ in 0..self.story.settle_blocks_max {
            self.quiet_block().await?;
            let busy = self.ledger.open() > 0
                || self.stage.node.nonce(self.stage.keeper, "pending").await?
                    > self.stage.node.nonce(self.stage.keeper, "latest").await?
                || self.playground.unfinished(self.stage, &self.head).await?.is_some();
            quiet = if busy { 0 } else { quiet + 1 };
            if quiet >= QUIET_BLOCKS {
                break;
            }
        }
        Ok(())
    }

    async fn quiet_block(&mut self) -> Result<()> {
        let messages = self.playground.meanwhile(self.stage, &mut self.rng).await.context("meanwhile")?;
        self.block(&messages).await.map(drop)
    }

    /// Makes one block with these messages, asks the chain about everybody, and lets the daemon have its pass.
    async fn block(&mut self, messages: &[Message]) -> Result<Vec<B256>> {
        let hashes = self.stage.node.send(messages).await.context("send messages")?;
        self.stage.anvil.set_next_timestamp(self.head.timestamp + self.playground.block_seconds()).await?;
        self.stage.node.mine().await?;
        let head = self.stage.node.head().await?;
        ensure!(head.number == self.head.number + 1, "block {} follows {}", head.number, self.head.number);
        self.head = head;
        let sent = self.stage.keeper_transactions(head.number).await.context("read the keeper's transactions")?;
        let sent = sent.iter().map(|tx| Sent {
            hash: tx.hash,
            block: tx.block,
            success: tx.success,
            targets: self.playground.targets(tx).map_err(|error| format!("{error:#}")),
        });
        let sent = sent.collect();
        let liquidatable = self.playground.liquidatable(self.stage, &head).await.context("ask who is liquidatable")?;
        self.ledger.block(head.number, liquidatable, sent);
        match self.stage.passed(&mut self.daemon, head.number, self.story.patience).await? {
            Some(took) => self.slowest_pass = self.slowest_pass.max(took),
            None => self.passes_not_awaited += 1,
        }
        if head.number.is_multiple_of(CHECK_EVERY_BLOCKS) {
            self.check().await.with_context(|| format!("check block {}", head.number))?;
        }
        Ok(hashes)
    }

    async fn check(&mut self) -> Result<()> {
        let book = self.stage.cache_at(&self.head).await?;
        let expected = self.playground.expected(self.stage, &self.head).await.context("ask what is expected")?;
        let checked = check::check(self.stage, self.adapter.as_ref(), &self.head, book, &expected).await?;
        for mismatch in checked.mismatches.iter().take(3) {
            println!("{}: MISMATCH {mismatch}", P::NAME);
        }
        self.checked.add(checked);
        Ok(())
    }

    async fn report(&self, first: u64) -> Result<Report> {
        let filter = ActionFilter { limit: u32::MAX >> 1, ..ActionFilter::default() };
        let actions: Vec<ActionRow> = self.stage.journal.list_actions(&filter).await?;
        let planned: BTreeMap<B256, u64> =
            actions.iter().filter_map(|action| Some((action.tx_hash?, action.planned_block))).collect();
        let missed = &self.ledger.missed;
        let mut report = Report {
            accounts: self.playground.accounts(),
            blocks: self.head.number - first,
            health_mismatches: self.checked.mismatches.clone(),
            missed_liquidatable: missed.iter().map(|(unit, block)| format!("{unit} at block {block}")).collect(),
            wrongly_sent: self.ledger.wrongly_sent(&planned),
            reverted_sends: self.ledger.sent().iter().filter(|tx| !tx.success).count(),
            accounting: self.playground.accounting(self.stage, &self.head).await.context("accounting")?,
            ..Report::default()
        };
        report.faults = self.faults().await?;
        for (name, value) in [
            ("seed", self.story.seed),
            ("calm_blocks", self.story.calm_blocks),
            ("actions", self.actions as u64),
            ("actions_refused", self.actions_refused as u64),
            ("standings_compared", self.checked.accounts as u64),
            ("probes_compared", self.checked.probes as u64),
            ("ever_liquidatable", self.ledger.ever() as u64),
            ("sent", self.ledger.sent().len() as u64),
            ("pass_ms_max", u64::try_from(self.slowest_pass.as_millis()).unwrap_or(u64::MAX)),
            ("passes_not_awaited", self.passes_not_awaited),
        ] {
            report.further.insert(name.to_owned(), value.into());
        }
        Ok(report)
    }

    /// What makes the story worthless, whatever its figures say.
    async fn faults(&self) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        if self.ledger.open() > 0 {
            faults.push(format!("{} accounts are liquidatable at the end", self.ledger.open()));
        }
        if let Some(what) = self.playground.unfinished(self.stage, &self.head).await? {
            faults.push(format!("unfinished at the end: {what}"));
        }
        if self.checked.accounts == 0 || self.checked.probes == 0 {
            faults.push("nothing was compared with the chain".to_owned());
        }
        if self.ledger.ever() == 0 {
            faults.push("nobody was ever liquidatable".to_owned());
        }
        if 2 * self.actions_refused > self.actions || self.actions == 0 {
            faults.push(format!("{} of {} random actions were refused", self.actions_refused, self.actions));
        }
        Ok(faults)
    }
}
