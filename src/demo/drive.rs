//! Drives the market block by block: prices, makers, the fall, the calm after it; and the daemon's mishap on request.
//!
//! The chain mines by the clock. In every block the driver posts fresh prices and lets the makers quote; it does nothing
//! that a keeper could want done.
//!
//! Invariants: at most one set of messages is in flight, so that quotes are never doubled; every wait is bounded.
//! Must not: touch an account of a trader, or tell the daemon anything.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    config::Keeper,
    daemon::Daemon,
    display::Display,
    makers::Makers,
    node::Node,
    report::dollars,
    scenario::{CRASHING_SEGMENT, Scenario},
    venue::Venue,
    watch::Watch,
};
use crate::types::{B256, math};

/// Blocks that each step of the fall lasts.
const BLOCKS_PER_STEP: u64 = 4;
/// Blocks after the fall within which everything must be repaired and final.
const REPAIR_BLOCKS_MAX: u64 = 150;
/// Blocks within which the started daemon must be ready.
const READY_BLOCKS_MAX: u64 = 90;
/// From this step on the daemon is killed as soon as a transaction of its is under way.
const KILL_FROM_STEP: usize = 4;
/// At this step it is killed if none has been.
const KILL_BY_STEP: usize = 7;
/// Blocks that pass before it is started again.
const DOWN_BLOCKS: u64 = 3;
const LOOK_EVERY: Duration = Duration::from_millis(40);
const BLOCK_WITHIN: Duration = Duration::from_secs(20);

/// Whether and when the daemon is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    /// Not at all.
    None,
    /// It will be.
    Planned,
    /// It was, at this block, and is down.
    Down(u64),
    /// It was, and runs again.
    Over,
}

/// The driver and all it drives.
pub(super) struct Drive<'a> {
    node: &'a Node,
    venue: &'a Venue,
    scenario: &'a Scenario,
    keeper: &'a Keeper,
    display: &'a mut Display,
    /// The chain as the demo sees it.
    pub(super) watch: Watch<'a>,
    /// The daemon.
    pub(super) daemon: Daemon,
    prices: BTreeMap<u16, u64>,
    in_flight: Vec<B256>,
    mishap: Mishap,
    /// The block at which the fall began.
    pub(super) fall_block: u64,
}

impl<'a> Drive<'a> {
    /// A driver at the prices at which everybody opened.
    pub(super) fn new(
        (node, venue, scenario): (&'a Node, &'a Venue, &'a Scenario),
        keeper: &'a Keeper,
        daemon: Daemon,
        watch: Watch<'a>,
        (display, kill): (&'a mut Display, bool),
    ) -> Self {
        let prices = scenario.stages.last().map(|stage| stage.prices.clone()).unwrap_or_default();
        let mishap = if kill { Mishap::Planned } else { Mishap::None };
        let fall_block = watch.block().number;
        Self {
            node,
            venue,
            scenario,
            keeper,
            display,
            watch,
            daemon,
            prices,
            in_flight: Vec::new(),
            mishap,
            fall_block,
        }
    }

    /// Keeps the market quiet until the daemon says that it is ready.
    pub(super) async fn until_ready(&mut self) -> Result<()> {
        for _ in 0..READY_BLOCKS_MAX {
            if self.daemon.is_ready().await {
                return Ok(());
            }
            self.block("before the fall", usize::MIN).await?;
        }
        bail!("the daemon was not ready after {READY_BLOCKS_MAX} blocks: GET {}/readyz says why", self.daemon.ops_url())
    }

    /// The fall, step by step.
    pub(super) async fn fall(&mut self) -> Result<()> {
        self.fall_block = self.watch.block().number;
        for (step, prices) in self.scenario.path.iter().enumerate() {
            self.prices = prices.clone();
            let chapter = format!("step {:>2}/{}", step + 1, self.scenario.path.len());
            for _ in 0..BLOCKS_PER_STEP {
                self.block(&chapter, step).await?;
            }
        }
        Ok(())
    }

    /// One block of calm after the fall.
    pub(super) async fn calm(&mut self) -> Result<()> {
        self.block("repair", KILL_BY_STEP).await
    }

    /// Blocks that the repair may still take.
    pub(super) fn blocks_left(&self) -> u64 {
        let steps = self.scenario.path.len() as u64;
        let end = self.fall_block + steps * BLOCKS_PER_STEP + REPAIR_BLOCKS_MAX;
        end.saturating_sub(self.watch.block().number)
    }

    /// Whether the daemon was killed and runs again.
    pub(super) fn was_killed(&self) -> bool {
        self.mishap == Mishap::Over
    }

    /// Whether the daemon was killed and does not run yet.
    pub(super) fn is_down(&self) -> bool {
        matches!(self.mishap, Mishap::Down(_))
    }

    /// Keeps the market alive until something fails.
    pub(super) async fn stay(&mut self) -> Result<()> {
        loop {
            self.block("stay", usize::MIN).await?;
        }
    }

    /// Leaves the running display.
    pub(super) fn end_display(&mut self) {
        self.display.end_line();
    }

    /// Whether a transaction of the keeper waits to be mined.
    pub(super) async fn keeper_is_sending(&self) -> Result<bool> {
        let mined = self.node.nonce(self.keeper.address, "latest").await?;
        Ok(self.node.nonce(self.keeper.address, "pending").await? > mined)
    }

    /// Lets one more block come, reads it, and answers it with prices and quotes.
    async fn block(&mut self, chapter: &str, step: usize) -> Result<()> {
        let deadline = Instant::now() + BLOCK_WITHIN;
        while !self.watch.advance().await? {
            ensure!(Instant::now() < deadline, "the chain stood still for {} s", BLOCK_WITHIN.as_secs());
            self.mishap(step).await?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.quote().await?;
        let line = self.line();
        self.display.tick(chapter, &line);
        Ok(())
    }

    /// Sends prices and quotes, unless those of the block before are still on their way.
    async fn quote(&mut self) -> Result<()> {
        if let Some(last) = self.in_flight.last()
            && !self.node.is_mined(*last).await?
        {
            return Ok(());
        }
        let makers = Makers::new(self.scenario, self.venue);
        let mut messages = self.venue.post_prices(&self.prices, self.watch.block().timestamp);
        messages.extend(makers.quote(self.watch.audit.books(), &self.prices));
        self.in_flight = self.node.send(&messages).await.context("send prices and quotes")?;
        Ok(())
    }

    /// Kills the daemon at the worst moment, and starts it again later.
    async fn mishap(&mut self, step: usize) -> Result<()> {
        let block = self.watch.block().number;
        match self.mishap {
            Mishap::Planned if step >= KILL_FROM_STEP => {
                if step >= KILL_BY_STEP || self.keeper_is_sending().await? {
                    self.daemon.kill().await?;
                    self.display.phase(&format!("block {block}: the daemon is killed (SIGKILL)"));
                    self.mishap = Mishap::Down(block);
                }
            }
            Mishap::Down(since) if block >= since + DOWN_BLOCKS => {
                self.daemon.restart()?;
                self.display.phase(&format!("block {block}: the daemon is started again"));
                self.mishap = Mishap::Over;
            }
            Mishap::Down(_) => {}
            Mishap::None | Mishap::Planned | Mishap::Over => self.daemon.check_alive()?,
        }
        Ok(())
    }

    fn line(&self) -> String {
        let (tally, count) = (self.watch.audit.tally(CRASHING_SEGMENT), self.watch.count);
        let prices: Vec<String> = self
            .scenario
            .markets
            .iter()
            .map(|market| {
                let price = i128::from(self.prices[&market.id]);
                let change_bps = (price * 10_000) / i128::from(market.opening_price) - 10_000;
                format!("{} {:+.1}%", market.symbol, change_bps as f64 / 100.0)
            })
            .collect();
        let fund = self.watch.audit.books().funds.get(&CRASHING_SEGMENT).map(|f| f.balance).unwrap_or_default();
        let shortfall = math::positive_part(tally.shortfall_arisen);
        format!(
            "block {} · {} · at risk {} liquidatable {} bankrupt {} · bad debt {} = fund {} + adl {} + pool {} + social {} + open {} · fund left {}",
            self.watch.block().number,
            prices.join(" "),
            count.at_risk,
            count.liquidatable,
            count.bankrupt,
            dollars(shortfall),
            dollars(tally.absorbed.insurance_fund),
            dollars(tally.absorbed.auto_deleverage),
            dollars(tally.absorbed.shared_backstop),
            dollars(tally.absorbed.socialise_loss),
            dollars(tally.shortfall_open),
            dollars(fund),
        )
    }
}
