//! A crisis as it is played: block by block, each made when the daemon has done with the one before.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use alloy::sol_types::SolCall;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::{
    super::{
        audit::Tally,
        config::{DEPLOYMENT, Keeper},
        daemon::Daemon,
        node::Message,
        population::place,
        venue::{Clearinghouse, SettlementToken, Venue},
        verify,
        watch::Watch,
    },
    Outcome, Paid,
    world::{ONE, SISTER, TWO, World, owner},
};
use crate::{
    journal::{DeploymentId, EpisodeAccount, EpisodeId, KeptPlan},
    recovery::Tier,
    types::{Address, B256, U256},
};

const READY_WITHIN: Duration = Duration::from_secs(40);
const SCANNED_WITHIN: Duration = Duration::from_secs(40);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Seconds between two blocks.
const BLOCK_SECONDS: u64 = 1;
/// Blocks within which a crisis must be over once nothing new happens.
const CALM_WITHIN_BLOCKS: u64 = 80;

/// See the module.
pub(super) struct Play<'w> {
    pub(super) world: &'w World,
    pub(super) watch: Watch<'w>,
    /// The second venue's, if there is one.
    pub(super) sister: Option<Watch<'w>>,
    pub(super) daemon: Daemon,
    /// A second daemon of the same deployment, which acts when the first does not.
    pub(super) replica: Option<Daemon>,
    prices: BTreeMap<u16, u64>,
    /// Whether the oracle still posts.
    pub(super) frozen: bool,
    /// Whether the daemon was killed and does not run.
    pub(super) down: bool,
    from_block: u64,
}

impl<'w> Play<'w> {
    /// Starts the daemon and waits until it is ready.
    pub(super) async fn begin(world: &'w World) -> Result<Self> {
        let daemon = world.start_daemon()?;
        let watch = Watch::start(&world.node, &world.venue).await?;
        let sister = match &world.sister {
            Some(sister) => Some(Watch::start(&world.node, &sister.venue).await?),
            None => None,
        };
        let from_block = watch.block().number;
        let prices = world.opening.clone();
        let mut play =
            Self { world, watch, sister, daemon, replica: None, prices, frozen: false, down: false, from_block };
        play.until_ready().await?;
        Ok(play)
    }

    /// Waits until the daemon has looked at the head.
    pub(super) async fn until_ready(&mut self) -> Result<()> {
        self.until_scanned(READY_WITHIN).await.context("wait for the daemon")
    }

    /// Posts these prices from the next block on, and makes that block.
    pub(super) async fn prices(&mut self, prices: &[(u16, u64)]) -> Result<()> {
        self.prices.extend(prices.iter().copied());
        self.block().await
    }

    /// Makes a block with fresh prices.
    pub(super) async fn block(&mut self) -> Result<()> {
        if !self.frozen {
            for (venue, _) in self.houses() {
                let posts = venue.post_prices(&self.prices, self.watch.block().timestamp);
                self.world.node.send(&posts).await?;
            }
        }
        self.mine(BLOCK_SECONDS).await
    }

    /// Makes a block in which these come before everything else, and no prices but theirs.
    pub(super) async fn surprise(&mut self, messages: &[Message]) -> Result<Vec<bool>> {
        let hashes = self.world.node.send_first(messages).await?;
        self.mine(BLOCK_SECONDS).await?;
        self.world.node.succeeded(&hashes).await
    }

    /// Makes a block in which these are tried; whether each succeeded.
    pub(super) async fn attempt(&mut self, messages: &[Message]) -> Result<Vec<bool>> {
        let hashes = self.world.node.send(messages).await?;
        self.block().await?;
        self.world.node.succeeded(&hashes).await
    }

    /// The same; all must succeed.
    pub(super) async fn act(&mut self, messages: &[Message]) -> Result<()> {
        for (message, succeeded) in messages.iter().zip(self.attempt(messages).await?) {
            ensure!(succeeded, "{} was refused", message.what);
        }
        Ok(())
    }

    /// Makes a block this long after the last, and waits until the daemon is done with it.
    pub(super) async fn mine(&mut self, seconds: u64) -> Result<()> {
        self.world.set_next_timestamp(self.watch.block().timestamp + seconds).await?;
        self.world.node.mine().await?;
        ensure!(self.watch.advance().await?, "no block came");
        if let Some(sister) = &mut self.sister {
            sister.advance().await?;
        }
        if self.down { Ok(()) } else { self.until_scanned(SCANNED_WITHIN).await }
    }

    async fn until_scanned(&mut self, within: Duration) -> Result<()> {
        let (head, deadline) = (self.watch.block().number, Instant::now() + within);
        loop {
            self.daemon.check_alive()?;
            if self.is_done_with(head).await && self.is_stored(head).await {
                return Ok(());
            }
            if Instant::now() > deadline {
                let said = self.daemon.readiness().await.map(|(_, said)| said);
                bail!("the daemon is not done with block {head}: {said:?}");
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether the daemon, or its replica, has done all it can at this height.
    pub(super) async fn is_done_with(&self, block: u64) -> bool {
        for daemon in [Some(&self.daemon), self.replica.as_ref()].into_iter().flatten() {
            let Some((_, said)) = daemon.readiness().await else { continue };
            let scanned = |name: &&str| said["deployments"][*name]["scanned_block"].as_u64();
            if self.deployments().iter().all(|name| scanned(name).is_some_and(|at| at >= block)) {
                return true;
            }
        }
        false
    }

    /// Whether the stored caches are of this height: they are stored soon after they were acted on.
    async fn is_stored(&self, block: u64) -> bool {
        for name in self.deployments() {
            let Ok(deployment) = self.deployment(name).await else { return false };
            let cache = self.world.journal.load_cache(deployment).await;
            if !cache.is_ok_and(|cache| cache.is_some_and(|(at, _)| at.number >= block)) {
                return false;
            }
        }
        true
    }

    /// Looks at the chain anew: after a reorganisation.
    pub(super) async fn look_anew(&mut self) -> Result<()> {
        self.world.node.forget_nonces().await;
        self.watch = Watch::start(&self.world.node, &self.world.venue).await?;
        Ok(())
    }

    /// The venues, each with its keeper.
    fn houses(&self) -> Vec<(&'w Venue, &'w Keeper)> {
        let sister = self.world.sister.as_ref().map(|sister| (&sister.venue, &sister.keeper));
        [(&self.world.venue, &self.world.keeper)].into_iter().chain(sister).collect()
    }

    fn deployments(&self) -> &'static [&'static str] {
        if self.sister.is_some() { &[DEPLOYMENT, SISTER] } else { &[DEPLOYMENT] }
    }

    fn watches(&self) -> impl Iterator<Item = &Watch<'w>> {
        [&self.watch].into_iter().chain(&self.sister)
    }

    /// Whether a transaction of a keeper waits to be mined.
    pub(super) async fn keeper_is_sending(&self) -> Result<bool> {
        for (_, keeper) in self.houses() {
            let mined = self.world.node.nonce(keeper.address, "latest").await?;
            if self.world.node.nonce(keeper.address, "pending").await? > mined {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fails unless the daemon has a transaction on the way: what follows would happen at another time than it should.
    pub(super) async fn must_be_sending(&self) -> Result<()> {
        ensure!(self.keeper_is_sending().await?, "the daemon sends nothing");
        Ok(())
    }

    /// Kills the daemon as a power failure would.
    pub(super) async fn kill(&mut self) -> Result<()> {
        self.daemon.kill().await?;
        self.down = true;
        Ok(())
    }

    /// Starts it again.
    pub(super) async fn restart(&mut self) -> Result<()> {
        self.daemon.restart()?;
        self.down = false;
        self.until_ready().await
    }

    /// Lets the daemon run with other recovery settings, and waits until it has taken them over.
    pub(super) async fn reconfigure(&mut self, recovery: &Value) -> Result<()> {
        let deployment = self.deployment(DEPLOYMENT).await?;
        let before = self.world.journal.recovery_settings_changes(deployment, 1).await?;
        self.world.configure(Some(recovery))?;
        self.daemon.reload()?;
        let deadline = Instant::now() + SCANNED_WITHIN;
        while self.world.journal.recovery_settings_changes(deployment, 1).await? == before {
            ensure!(Instant::now() < deadline, "the daemon does not take its new settings over");
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Lets blocks pass until everything is repaired, final and closed.
    pub(super) async fn until_calm(&mut self) -> Result<()> {
        for _ in 0..CALM_WITHIN_BLOCKS {
            if self.unrest().await?.is_none() {
                return Ok(());
            }
            self.block().await?;
        }
        bail!("not calm after {CALM_WITHIN_BLOCKS} blocks: {}", self.unrest().await?.unwrap_or_default())
    }

    /// What still waits to be done, if anything.
    pub(super) async fn unrest(&self) -> Result<Option<String>> {
        if let Some(count) = self.watches().map(|watch| watch.count).find(|count| !count.is_repaired()) {
            return Ok(Some(format!("{} are liquidatable and {} bankrupt", count.liquidatable, count.bankrupt)));
        }
        let (mut unsettled, mut open) = (0, 0);
        for name in self.deployments() {
            let deployment = self.deployment(name).await?;
            unsettled += self.world.journal.unsettled_transactions(deployment).await?.len();
            open += self.world.journal.open_episodes(deployment).await?.len();
        }
        let sending = self.keeper_is_sending().await?;
        let restless = unsettled > 0 || open > 0 || sending;
        Ok(restless
            .then(|| format!("{unsettled} transactions are not final, {open} episodes open, sending: {sending}")))
    }

    async fn deployment(&self, name: &str) -> Result<DeploymentId> {
        let row = self.world.journal.deployment_by_name(&name.parse()?).await?;
        Ok(row.context("the daemon has not registered its deployment")?.id)
    }

    // ---- what people do

    /// A resting order.
    pub(super) fn order(&self, who: &str, market: u16, is_buy: bool, price: u64, lots: u64) -> Message {
        place(&self.world.venue, owner(who), market, is_buy, price, lots)
    }

    /// Fills the newest resting order.
    pub(super) fn fill_last(&self, who: &str, lots: u64) -> Result<Message> {
        let order = *self.watch.audit.books().orders.keys().last().context("nobody rests an order")?;
        Ok(self.call(
            owner(who),
            &Clearinghouse::fillOrderCall { orderId: order, lots },
            format!("{who} filling an order"),
        ))
    }

    /// A withdrawal.
    pub(super) fn withdraw(&self, who: &str, amount: u64) -> Message {
        let call = Clearinghouse::withdrawCall { segment: ONE, amount: U256::from(amount) };
        self.call(owner(who), &call, format!("{who} withdrawing {amount}"))
    }

    /// Prices of these markets, as the admin posts them.
    pub(super) fn post(&self, prices: &[(u16, u64)]) -> Vec<Message> {
        self.world.venue.post_prices(&prices.iter().copied().collect(), self.watch.block().timestamp)
    }

    /// A call of the admin on the clearinghouse.
    pub(super) fn admin<C: SolCall>(&self, call: &C, what: &str) -> Message {
        self.world.venue.administer(self.world.venue.clearinghouse, call, what)
    }

    /// Money for a segment's insurance fund.
    pub(super) fn refill(&self, segment: u16, amount: u64) -> Vec<Message> {
        let amount = U256::from(amount);
        let venue = &self.world.venue;
        let mint = SettlementToken::mintCall { to: venue.admin, amount };
        let refill = Clearinghouse::depositFundCall { segment, amount };
        vec![venue.administer(venue.token, &mint, "minting"), self.admin(&refill, "refilling the fund")]
    }

    fn call<C: SolCall>(&self, from: Address, call: &C, what: String) -> Message {
        Message::call(from, self.world.venue.clearinghouse, call.abi_encode(), what)
    }

    // ---- the end

    /// Holds chain, audit and journal against each other and against what should have been paid.
    pub(super) async fn end(self, expected: Paid) -> Result<Outcome> {
        self.end_as(Some(expected)).await
    }

    /// The same where nobody knows beforehand who pays.
    pub(super) async fn end_as(mut self, expected: Option<Paid>) -> Result<Outcome> {
        let block = *self.watch.block();
        let tallies: Vec<Tally> =
            self.watches().flat_map(|watch| [ONE, TWO].map(|segment| watch.audit.tally(segment))).collect();
        let mut paid = Paid::default();
        for tally in &tallies {
            paid.insurance_fund += tally.absorbed.insurance_fund;
            paid.auto_deleverage += tally.absorbed.auto_deleverage;
            paid.shared_backstop += tally.absorbed.shared_backstop;
            paid.socialise_loss += tally.absorbed.socialise_loss;
            paid.returned += tally.returned;
        }
        let mut faults = Vec::new();
        if tallies.iter().any(|tally| !tally.conserves() || !tally.shortfall_open.is_zero()) {
            faults.push("losses were not conserved, or one is left to nobody".to_owned());
        }
        let expected = expected.unwrap_or(paid);
        if paid != expected {
            faults.push(format!("paid was {paid:?}, not {expected:?}"));
        }
        faults.extend(self.journal_faults(&tallies).await?);
        let actions = self.world.journal.list_actions(&verify::all_actions()).await?;
        let mut mined = Vec::new();
        let houses = self.houses().into_iter().zip(self.watches()).zip(self.deployments());
        for (((venue, keeper), watch), name) in houses {
            let audit = &watch.audit;
            faults.extend(verify::chain_books(&self.world.node, venue, &block, audit.books()).await?.faults);
            faults.extend(audit.violations().1.iter().cloned());
            let sent = self.world.node.sent_by(keeper.address, 0, block.number).await?;
            let nonce_next = self.world.node.nonce(keeper.address, "latest").await?;
            let own: Vec<_> = actions.iter().filter(|a| a.deployment.as_str() == *name).cloned().collect();
            faults.extend(verify::nothing_twice(&sent, nonce_next, &own));
            mined.extend(sent);
        }
        for daemon in [Some(&mut self.daemon), self.replica.as_mut()].into_iter().flatten() {
            let status = daemon.stop().await?;
            if !status.success() {
                faults.push(format!("the daemon ended with {status} after SIGTERM"));
            }
        }
        Ok(Outcome {
            blocks: block.number - self.from_block,
            expected,
            paid,
            transactions: mined.len(),
            reverted: mined.iter().filter(|tx| !tx.success).count(),
            faults,
        })
    }

    /// The daemon's account of who paid against the chain's: by tier, and by who bore it.
    async fn journal_faults(&self, tallies: &[Tally]) -> Result<Vec<String>> {
        let mut faults = Vec::new();
        let mut accounts: Vec<EpisodeAccount> = Vec::new();
        for episode in self.world.journal.list_episodes(None, false, 1_000).await? {
            faults.extend(self.made_again(episode.id).await?);
            accounts.extend(self.world.journal.episode_account(episode.id).await?);
        }
        let sum = |tier: Tier| {
            accounts.iter().filter_map(|account| account.by_tier().get(&tier).copied()).fold(U256::ZERO, |a, b| a + b)
        };
        let chain = |of: &dyn Fn(&Tally) -> U256| tallies.iter().map(of).fold(U256::ZERO, |a, b| a + b);
        for (tier, on_chain) in [
            (Tier::Liquidate, chain(&|t| t.absorbed.liquidation)),
            (Tier::InsuranceFund, chain(&|t| t.absorbed.insurance_fund)),
            (Tier::AutoDeleverage, chain(&|t| t.absorbed.auto_deleverage)),
            (Tier::SharedBackstop, chain(&|t| t.absorbed.shared_backstop)),
            (Tier::SocialiseLoss, chain(&|t| t.absorbed.socialise_loss)),
            (Tier::Restitute, chain(&|t| t.returned)),
        ] {
            let told = sum(tier);
            if told != on_chain {
                faults.push(format!("the journal's account has {told} of tier {tier}, the chain {on_chain}"));
            }
        }
        let mut told: BTreeMap<Address, U256> = BTreeMap::new();
        let others = [Tier::AutoDeleverage, Tier::SocialiseLoss];
        for burden in accounts.iter().flat_map(|account| &account.burdens).filter(|b| others.contains(&b.tier)) {
            let bearer = burden.bearer.as_ref().context("a burden of nobody")?;
            *told.entry(Address::from_slice(&bearer.as_bytes()[2..])).or_default() += burden.amount;
        }
        let mut borne: BTreeMap<Address, U256> = BTreeMap::new();
        for (who, amount) in tallies.iter().flat_map(|tally| &tally.borne) {
            *borne.entry(*who).or_default() += *amount;
        }
        if told != borne {
            faults.push(format!("the journal says that {told:?} bore the loss, the chain {borne:?}"));
        }
        Ok(faults)
    }

    /// Plans of an episode that come out differently when they are made again from what the journal kept.
    async fn made_again(&self, episode: EpisodeId) -> Result<Vec<String>> {
        let plans = self.world.journal.kept_plans(episode).await?;
        let differs = |kept: &KeptPlan| {
            let again = kept.decision.as_ref().and_then(|decision| decision.plan().ok());
            again.is_none_or(|plan| plan.steps() != kept.steps || *plan.ledger() != kept.ledger)
        };
        let differing = plans.into_iter().filter(differs);
        Ok(differing.map(|kept| format!("plan {} comes out differently when it is made again", kept.id.0)).collect())
    }

    /// What somebody bore for others so far.
    pub(super) fn borne(&self, who: &str) -> U256 {
        let of = |segment| self.watch.audit.tally(segment).borne.get(&owner(who)).copied().unwrap_or_default();
        of(ONE) + of(TWO)
    }

    /// Transactions of the keeper that were mined without success, by hash.
    pub(super) async fn reverted(&self) -> Result<Vec<B256>> {
        let mined = self.world.node.sent_by(self.world.keeper.address, 0, self.watch.block().number).await?;
        Ok(mined.iter().filter(|tx| !tx.success).map(|tx| tx.hash).collect())
    }
}
