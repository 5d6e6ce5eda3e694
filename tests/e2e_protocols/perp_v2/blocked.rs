//! The insurance fund has nothing: a bankrupt account cannot be liquidated (CH_IIC). The daemon must say so, and once
//! the owner has paused and closed the market, take the account out of it; what the fund then owes is a deficit that
//! stands until somebody pays it in, and then the fund repays.

use std::time::Duration;

use alloy::{
    primitives::{Address, B256, I256},
    sol_types::SolCall,
};
use anyhow::{Result, ensure};
use backstop::{
    demo::{contracts, postgres::TestDatabase},
    types::{BlockRef, Call, CallOutcome},
};
use serde_json::json;
use sqlx::Connection;

use super::{
    super::harness::{
        ONE_AT_A_TIME, Playground,
        chain::{BLOCK_SECONDS, Chain},
        daemon::{self, Daemon, Settings},
        folder,
    },
    Scene,
    abi::{Base, Fund, House, Token},
    venue::{Venue, tick_of, usdc, wad},
};

/// Blocks within which the daemon must have done what is due.
const PATIENCE_BLOCKS: usize = 30;

struct Blocked {
    chain: Chain,
    venue: Venue,
    daemon: Daemon,
    keeper: Address,
    whale: Address,
    trader: Address,
}

#[tokio::test(flavor = "multi_thread")]
async fn perp_v2_says_that_an_empty_fund_blocks_and_quits_the_market_once_it_is_closed() {
    let _turn = ONE_AT_A_TIME.lock().await;
    if !contracts::at_hand("perp_v2") {
        return;
    }
    if let Err(error) = play().await {
        panic!("{error:#}");
    }
}

async fn play() -> Result<()> {
    let database = TestDatabase::new().await;
    let mut scene = Blocked::new(database.url()).await?;
    scene.bankrupt().await?;
    scene.blocked(database.url()).await?;
    scene.close().await?;
    scene.owed(database.url()).await?;
    scene.daemon.stop().await
}

impl Blocked {
    /// One trader long with all the leverage there is, and a fund without money.
    async fn new(database_url: &str) -> Result<Self> {
        let chain = Chain::start(Scene::chain()).await?;
        let (signer, keeper) = daemon::keeper();
        let mut venue: Venue = serde_json::from_value(contracts::deploy("perp_v2", &chain.anvil.http_url(), keeper)?)?;
        let accounts: Vec<Address> = chain.anvil.request("eth_accounts", json!([])).await?;
        let [whale, maker, trader] = [accounts[1], accounts[2], accounts[3]];
        for (account, dollars) in [(whale, 20_000_000), (maker, 1_000_000), (trader, 1_000), (keeper, 1_000_000)] {
            venue.equip(&chain, account, dollars).await?;
            venue.deposit(&chain, account, dollars).await?;
        }
        // The mark price needs observations of the pool that are old enough.
        chain.mine_after(2_000).await?;
        let tick = tick_of(venue.markets[0].price);
        let added = venue.add(&chain, maker, 0, 1_000_000, (tick - 20_000, tick + 20_000)).await?;
        succeeded(&chain, added, "the maker's order").await?;
        chain.mine_after(2_000).await?;
        let opened = venue.open(&chain, trader, 0, false, 8_000).await?;
        succeeded(&chain, opened, "the trader's position").await?;
        // The exchange's tick limit wants the sales of a fall by a quarter apart.
        venue.set_price(&chain, 0, venue.markets[0].price * 75 / 100).await?;
        for _ in 0..5 {
            let sale = venue.open(&chain, whale, 0, true, 40_000).await?;
            succeeded(&chain, sale, "a sale").await?;
            chain.mine_after(20).await?;
        }
        chain.mine_after(400).await?;
        chain.stop_automine().await?;
        let daemon = Daemon::start(&Settings {
            name: "perp_v2",
            folder: &folder("perp_v2_blocked"),
            database_url,
            rpc_url: chain.anvil.ws_url(),
            key: &signer,
            protocol: venue.protocol(keeper),
            policy: json!({ "mode": "mandate", "budget_per_day_max_wei": "1000000000000000000000" }),
            overrides: json!({ "recovery": { "tiers": [{ "tier": "liquidate" }, { "tier": "insurance_fund" }] } }),
        })
        .await?;
        let mut scene = Self { chain, venue, daemon, keeper, whale, trader };
        let head = scene.chain.head().await?;
        scene.daemon.must_act_on(&head).await?;
        Ok(scene)
    }

    async fn block(&mut self, seconds: u64) -> Result<BlockRef> {
        let block = self.chain.mine_after(seconds).await?;
        self.daemon.must_act_on(&block).await?;
        Ok(block)
    }

    /// The account is worth less than nothing, and the fund is what keeps anybody from liquidating it.
    async fn bankrupt(&mut self) -> Result<()> {
        let block = self.block(BLOCK_SECONDS).await?;
        let (value, _) = self.venue.standings(&self.chain, &[self.trader], &block).await?[0];
        below_zero(value)?;
        let call = House::liquidateCall {
            trader: self.trader,
            baseToken: self.venue.markets[0].base,
            positionSize: Default::default(),
        };
        let call = Call::new(self.venue.clearing_house, call.abi_encode());
        let answer = self.chain.calls(Some(self.keeper), &[call], block.hash).await?;
        let CallOutcome::Reverted(data) = &answer[0] else { anyhow::bail!("it can be liquidated: {answer:?}") };
        ensure!(String::from_utf8_lossy(data).contains("CH_IIC"), "it is not the fund that blocks: {data}");
        Ok(())
    }

    /// The daemon raises the alert, and sends nothing against the account.
    async fn blocked(&mut self, database_url: &str) -> Result<()> {
        self.wait_for_alert(database_url, "fund_blocks").await?;
        ensure!(self.sent(&House::liquidateCall::SELECTOR).await? == 0, "a liquidation was sent that the fund blocks");
        Ok(())
    }

    /// The owner pauses and closes the market; the daemon takes the account out of it.
    async fn close(&mut self) -> Result<()> {
        let base = self.venue.markets[0].base;
        self.chain.send(self.venue.owner, base, Base::pauseCall {}.abi_encode()).await?;
        self.block(BLOCK_SECONDS).await?;
        ensure!(self.sent(&House::quitMarketCall::SELECTOR).await? == 0, "the market is not closed yet");
        let close = Base::closeCall { price: wad(self.venue.markets[0].price) };
        self.chain.send(self.venue.owner, base, close.abi_encode()).await?;
        for _ in 0..PATIENCE_BLOCKS {
            let block = self.block(BLOCK_SECONDS).await?;
            if self.sent(&House::quitMarketCall::SELECTOR).await? > 0 {
                let (value, requirement) = self.venue.standings(&self.chain, &[self.trader], &block).await?[0];
                ensure!(value.is_zero() && requirement.is_zero(), "after it {value} are left against {requirement}");
                let (_, capacity) = self.venue.fund(&self.chain, &block).await?;
                return below_zero(capacity);
            }
        }
        anyhow::bail!("the daemon did not take the account out of the closed market")
    }

    /// The fund's debt is a deficit that stands; once somebody sends it money it repays the vault.
    async fn owed(&mut self, database_url: &str) -> Result<()> {
        self.wait_for_alert(database_url, "deficit_stands").await?;
        let mint = Token::mintCall { to: self.venue.insurance_fund, amount: usdc(10_000) };
        self.chain.send(self.whale, self.venue.settlement_token, mint.abi_encode()).await?;
        for _ in 0..PATIENCE_BLOCKS {
            let block = self.block(BLOCK_SECONDS).await?;
            let (value, capacity) = self.venue.fund(&self.chain, &block).await?;
            if !value.is_negative() {
                ensure!(self.sent(&Fund::repayCall::SELECTOR).await? == 1, "it was not the daemon who repaid");
                ensure!(capacity.is_positive(), "the fund is worth {capacity}");
                return Ok(());
            }
        }
        anyhow::bail!("the fund was not refilled from what it holds")
    }

    /// How many successful calls with this selector the keeper has sent.
    async fn sent(&self, selector: &[u8; 4]) -> Result<usize> {
        let head = self.chain.head().await?.number;
        let mut count = 0;
        for number in head.saturating_sub(100)..=head {
            let mined = self.chain.mined(number).await?;
            count +=
                mined.iter().filter(|t| t.from == self.keeper && t.success && t.input.starts_with(selector)).count();
        }
        Ok(count)
    }

    async fn wait_for_alert(&mut self, database_url: &str, word: &str) -> Result<()> {
        for _ in 0..PATIENCE_BLOCKS {
            if alerts(database_url).await?.iter().any(|key| key.contains(word)) {
                return Ok(());
            }
            self.block(BLOCK_SECONDS).await?;
        }
        anyhow::bail!("no alert {word}: {:?}", alerts(database_url).await?)
    }
}

/// Keys of the journal's alerts.
async fn alerts(database_url: &str) -> Result<Vec<String>> {
    let mut connection = sqlx::PgConnection::connect(database_url).await?;
    let keys = sqlx::query_scalar("SELECT key FROM alerts ORDER BY opened_at").fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok(keys)
}

/// Waits until it is mined, and names what was refused.
async fn succeeded(chain: &Chain, hash: B256, what: &str) -> Result<()> {
    for _ in 0..200 {
        let receipt = chain.receipt(hash).await?;
        if !receipt.is_null() {
            ensure!(receipt["status"] == "0x1", "{what} was refused: {receipt}");
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("{what} is not mined")
}

fn below_zero(figure: I256) -> Result<()> {
    ensure!(figure.is_negative(), "{figure} is not below zero");
    Ok(())
}
