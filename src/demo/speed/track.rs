//! A chain, a venue full of people who are long by one lot each, a database and the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use alloy::{primitives::keccak256, sol_types::SolEvent};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{
    super::{
        anvil::{Anvil, AnvilOptions, Mining},
        config::{DEPLOYMENT, KEY_VARIABLE, Keeper, Settings, config_text},
        daemon::{Daemon, Launch, free_port},
        node::Node,
        pool::Terms,
        population::{place, populate},
        postgres::{Durability, ThrowAwayPostgres},
        scenario::{BackstopPlan, MarketPlan, Participant, Scenario, SegmentPlan, Stage, Trade},
        venue::{Clearinghouse, Venue},
    },
    SpeedOptions,
};
use crate::{
    journal::Journal,
    types::{Address, BlockRef},
};

const SEGMENT: u16 = 1;
const MARKET: u16 = 1;
/// Token units a lot.
pub(super) const OPENING_PRICE: u64 = 10_000_000;
/// Margin that keeps a position, of its notional.
pub(super) const MAINTENANCE_MARGIN_BPS: u64 = 500;
/// What somebody bids for whatever must be closed.
const BID_PRICE: u64 = 9_300_000;
/// Those who take the other side, each time some people open their positions.
const DEEP_POCKET: u128 = 1 << 50;
const PEOPLE_AT_ONCE: usize = 500;
/// Gas a block holds while people open their positions.
const ROOMY_BLOCK_GAS: u64 = 1_000_000_000;
/// Gas that posting a price may take.
const POST_GAS: u64 = 100_000;
const READY_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Dropped, it is gone.
pub(super) struct Track {
    pub(super) node: Node,
    pub(super) keeper: Keeper,
    pub(super) daemon: Daemon,
    /// The accounts, in the order of their deposits.
    pub(super) people: Vec<Address>,
    pub(super) anvil: Anvil,
    pub(super) head: BlockRef,
    venue: Venue,
    _postgres: ThrowAwayPostgres,
}

impl Track {
    /// Raises everything. The account of each number has the deposit of that number; blocks hold so much gas from then on,
    /// and the daemon runs with these executor settings.
    pub(super) async fn lay(
        options: &SpeedOptions,
        name: &str,
        deposits: &[u128],
        block_gas: u64,
        executor: &Value,
    ) -> Result<Self> {
        let folder = options.folder.join(name);
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let postgres = ThrowAwayPostgres::start(Durability::Durable).await.context("start Postgres")?;
        let journal = Journal::connect(postgres.url(), 1).await.context("connect to the journal")?;
        journal.migrate().await.context("migrate the journal")?;
        journal.close().await;
        let chain =
            AnvilOptions { mining: Mining::OnDemand, block_gas_limit: ROOMY_BLOCK_GAS, ..AnvilOptions::default() };
        let anvil = Anvil::start(&chain).await?;
        let node = Node::connect(&anvil.http_url())?;
        let (keeper, admin) = (Keeper::new(1)?, person(u64::MAX));
        node.adopt(&[admin]).await?;
        node.grant(&[keeper.address]).await?;
        let people: Vec<Address> = (0..deposits.len() as u64).map(person).collect();
        let venue = Venue::deploy(&node, admin, keeper.address, &scenario(&[], &[])).await?;
        // Some at a time: a price is stale before thousands have traded at it.
        for (people, deposits) in people.chunks(PEOPLE_AT_ONCE).zip(deposits.chunks(PEOPLE_AT_ONCE)) {
            populate(&node, &venue, &scenario(people, deposits)).await?;
        }
        let bid = place(&venue, buyer(), MARKET, true, BID_PRICE, deposits.len() as u64);
        node.execute(&[bid]).await?;
        anvil.command("evm_setBlockGasLimit", json!([format!("{block_gas:#x}")])).await?;
        let ops_port = free_port()?;
        let text = config_text(&Settings {
            database_url: postgres.url(),
            rpc_url: &anvil.ws_url(),
            chain_id: chain.chain_id,
            venue: &venue,
            ops_port,
            recovery: None,
        })?;
        let mut config: toml::Table = text.parse().context("read the configuration back")?;
        let own = config["deployments"][DEPLOYMENT]["executor"].as_table_mut().context("no executor settings")?;
        own.extend(toml::Table::try_from(executor).context("the executor's settings")?);
        let path = folder.join("backstop.toml");
        std::fs::write(&path, toml::to_string_pretty(&config)?).context("write the configuration")?;
        let daemon = Daemon::start(Launch {
            executable: options.executable.clone(),
            config: path,
            log: folder.join("daemon.log"),
            ops_port,
            environment: vec![(KEY_VARIABLE.to_owned(), keeper.key.to_string())],
        })?;
        let head = node.head().await?;
        let mut track = Self { node, keeper, daemon, people, anvil, head, venue, _postgres: postgres };
        track.until_scanned().await.context("wait for the daemon")?;
        Ok(track)
    }

    /// Whose logs the daemon reads.
    pub(super) fn emitters(&self) -> Vec<Address> {
        [self.venue.clearinghouse, self.venue.steward].into_iter().chain(self.venue.feeds.values().copied()).collect()
    }

    /// Puts a price into the pool, to be mined before anything else.
    pub(super) async fn post(&self, price: u64) -> Result<()> {
        let posts = self.venue.post_prices(&BTreeMap::from([(MARKET, price)]), self.head.timestamp);
        let posts: Vec<_> = posts.into_iter().map(|post| post.with_gas(POST_GAS)).collect();
        self.node.send_first(&posts).await.map(drop)
    }

    /// Makes the next block, one second after the last. Its base fee is one gwei whatever came before, so that the story is
    /// not about a fee cap.
    pub(super) async fn mine(&mut self) -> Result<()> {
        self.mine_unseen().await?;
        self.see_head().await
    }

    /// The same, and asks the node for nothing afterwards.
    pub(super) async fn mine_unseen(&self) -> Result<()> {
        self.anvil.command("anvil_setNextBlockBaseFeePerGas", json!(["0x3b9aca00"])).await?;
        self.anvil.set_next_timestamp(self.head.timestamp + 1).await?;
        self.node.mine().await
    }

    /// Takes note of the node's head.
    pub(super) async fn see_head(&mut self) -> Result<()> {
        self.head = self.node.head().await?;
        Ok(())
    }

    /// Waits until the daemon has done all it can at the head.
    pub(super) async fn until_scanned(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.daemon.check_alive()?;
            let said = self.daemon.readiness().await.map(|(_, said)| said).unwrap_or_default();
            if said["deployments"][DEPLOYMENT]["scanned_block"].as_u64() >= Some(self.head.number) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the daemon is not done with block {}: {said}", self.head.number);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whose positions the head's block closed.
    pub(super) async fn liquidated(&self) -> Result<BTreeSet<Address>> {
        let logs = self.node.logs(self.head.hash).await?;
        let liquidated =
            logs.iter().filter(|log| log.topics.first() == Some(&Clearinghouse::Liquidated::SIGNATURE_HASH));
        liquidated
            .map(|log| {
                let event = Clearinghouse::Liquidated::decode_raw_log(&log.topics, &log.data);
                Ok(event.context("decode Liquidated")?.account)
            })
            .collect()
    }
}

fn person(number: u64) -> Address {
    Address::from_slice(&keccak256(format!("speed {number}"))[12..])
}

fn seller() -> Address {
    person(u64::MAX - 1)
}

fn buyer() -> Address {
    person(u64::MAX - 2)
}

fn scenario(people: &[Address], deposits: &[u128]) -> Scenario {
    let participant =
        |(owner, deposit): (&Address, &u128)| Participant { owner: *owner, segment: SEGMENT, deposit: *deposit };
    let prices = BTreeMap::from([(MARKET, OPENING_PRICE)]);
    let trade = |buyer: &Address| Trade { market: MARKET, seller: seller(), buyer: *buyer, lots: 1 };
    Scenario {
        markets: vec![MarketPlan {
            id: MARKET,
            symbol: "BTC",
            segment: SEGMENT,
            opening_price: OPENING_PRICE,
            maintenance_margin_bps: MAINTENANCE_MARGIN_BPS as u16,
            initial_margin_bps: 2 * MAINTENANCE_MARGIN_BPS as u16,
            slippage_max_bps: 200,
            funding_rate_x18: 0,
            depth_bps: 0,
        }],
        segments: vec![SegmentPlan { id: SEGMENT, insurance_fund: 1_000_000 }],
        backstop: BackstopPlan { capital: 0, terms: Terms { cap: 1, first_loss_bps: 0, stake: 0, premium: 0 } },
        traders: people.iter().zip(deposits).map(participant).collect(),
        makers: [seller(), buyer()].iter().zip(&[DEEP_POCKET, DEEP_POCKET]).map(participant).collect(),
        stages: vec![Stage { prices, trades: people.iter().map(trade).collect() }],
        path: vec![],
    }
}
