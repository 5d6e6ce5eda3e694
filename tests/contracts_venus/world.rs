//! The contracts on a chain of their own, with the real indexer following them.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use alloy::{
    json_abi::JsonAbi,
    primitives::{Address, B256, Bytes, U64, U256},
    sol_types::SolCall,
};
use backstop::{
    chain::{Rpc, RpcMetrics, RpcSettings},
    demo::anvil::{Anvil, AnvilOptions, Mining},
    indexer::{Auditor, CacheStore, Indexer, IndexerMetrics, IndexerSettings},
    positions::{Book, Delta, Snapshot},
    protocols::{self, Adapter},
    types::{BlockRef, Call, CallOutcome, I256, UnitKey},
};
use prometheus::Registry;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::abi::{Comptroller, Token, VToken};

/// Blocks between two audits; they are asked for here, never by the clock.
const AUDIT_EVERY_BLOCKS: u64 = 1;
/// Accounts that act.
pub(crate) const ACTORS: usize = 60;

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Market {
    pub(crate) vtoken: Address,
    pub(crate) underlying: Address,
    pub(crate) model: Address,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Places {
    pub(crate) owner: Address,
    pub(crate) oracle: Address,
    pub(crate) shortfall: Address,
    pub(crate) risk_fund: Address,
    pub(crate) tokens: BTreeMap<String, Address>,
    pub(crate) pools: Vec<Pool>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pool {
    pub(crate) comptroller: Address,
    pub(crate) markets: BTreeMap<String, Market>,
}

/// A cache kept nowhere.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Option<(BlockRef, Book)>>>);

impl CacheStore for Memory {
    async fn load(&self) -> anyhow::Result<Option<(BlockRef, Book)>> {
        Ok(self.0.lock().expect("no panic while it is held").clone())
    }

    async fn commit(&self, block: &BlockRef, delta: &Delta) -> anyhow::Result<()> {
        let mut kept = self.0.lock().expect("no panic while it is held");
        let mut book = kept.take().map(|(_, book)| book).unwrap_or_default();
        book.apply(delta)?;
        *kept = Some((*block, book));
        Ok(())
    }

    async fn reset(&self) -> anyhow::Result<()> {
        *self.0.lock().expect("no panic while it is held") = None;
        Ok(())
    }
}

pub(crate) struct World {
    pub(crate) anvil: Anvil,
    pub(crate) rpc: Rpc,
    pub(crate) adapter: Arc<dyn Adapter>,
    pub(crate) places: Places,
    pub(crate) actors: Vec<Address>,
    pub(crate) keeper: Address,
    indexer: Indexer<Memory>,
    auditor: Auditor,
    snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
}

impl World {
    /// The contracts as deployed, every actor with tokens and approvals, nothing supplied yet. `clock`: `blocks`, or
    /// `seconds` for the second pool.
    pub(crate) async fn new(clock: &str) -> Self {
        let options = AnvilOptions {
            mining: Mining::PerTransaction,
            accounts: u16::try_from(ACTORS + 2).expect("a few"),
            block_gas_limit: 300_000_000,
            code_size_unlimited: true,
            states_kept_blocks: 10_000,
            ..AnvilOptions::default()
        };
        let anvil = Anvil::start(&options).await.expect("anvil starts");
        let accounts: Vec<Address> = anvil.request("eth_accounts", json!([])).await.expect("accounts");
        let places = deploy(&anvil, accounts[1], clock);
        let settings = json!({
            "comptrollers": places.pools.iter().map(|pool| pool.comptroller).collect::<Vec<_>>(),
            "shortfall": places.shortfall,
        });
        let adapter = protocols::adapter("venus", settings).expect("the adapter");
        let registry = Registry::new();
        let deployment = "venus".parse().expect("a name");
        let settings = RpcSettings {
            urls: vec![anvil.http_url().parse().expect("a URL")],
            relay: None,
            chain_id: 31337,
            quorum: 1,
            timeout: Duration::from_secs(20),
            poll_interval: Duration::from_millis(100),
            log_range_blocks_max: 1_000,
        };
        let meter = RpcMetrics::new(&registry).expect("metrics").for_deployment(&deployment);
        let rpc = Rpc::connect(&settings, meter).await.expect("a connection");
        let meter = IndexerMetrics::new(&registry).expect("metrics").for_deployment(&deployment);
        let settings = IndexerSettings {
            start_block: 0,
            reorg_depth_max: 32,
            backfill_chunk_blocks: 50,
            audit_every_blocks: AUDIT_EVERY_BLOCKS,
            audit_units: usize::MAX,
        };
        let indexer = Indexer::new(rpc.clone(), adapter.clone(), Memory::default(), settings, meter);
        let (auditor, snapshots) = (indexer.auditor(), indexer.snapshots());
        let (keeper, actors) = (accounts[1], accounts[2..].to_vec());
        let world = Self { anvil, rpc, adapter, places, actors, keeper, indexer, auditor, snapshots };
        world.fund().await;
        world
    }

    /// Tokens and approvals for everybody.
    async fn fund(&self) {
        self.anvil.set_automine(false).await.expect("on demand");
        let max = U256::MAX;
        for account in self.actors.iter().chain([&self.keeper]) {
            for token in self.places.tokens.values() {
                let amount = U256::from(10u64).pow(U256::from(26u64));
                self.send(*account, *token, &Token::faucetCall { amount }).await;
                let spender = self.places.shortfall;
                self.send(*account, *token, &Token::approveCall { spender, amount: max }).await;
            }
            for (_, market) in self.markets() {
                let call = Token::approveCall { spender: market.vtoken, amount: max };
                self.send(*account, market.underlying, &call).await;
            }
            self.anvil.mine(1).await.expect("mined");
        }
    }

    /// Every market with its pool.
    pub(crate) fn markets(&self) -> impl Iterator<Item = (&Pool, &Market)> {
        self.places.pools.iter().flat_map(|pool| pool.markets.values().map(move |market| (pool, market)))
    }

    /// Puts a transaction into the pool. One that reverts is mined without effect.
    pub(crate) async fn send(&self, from: Address, to: Address, call: &impl SolCall) -> B256 {
        let data = Bytes::from(call.abi_encode());
        let transaction = json!([{ "from": from, "to": to, "input": data, "gas": U64::from(5_000_000) }]);
        self.anvil.request("eth_sendTransaction", transaction).await.expect("the node takes it")
    }

    /// Sends one in a block of its own. Whether it succeeded.
    pub(crate) async fn send_now(&self, from: Address, to: Address, call: &impl SolCall) -> bool {
        let hash = self.send(from, to, call).await;
        self.anvil.mine(1).await.expect("mined");
        self.rpc.receipt(hash).await.expect("an answer").expect("mined").success
    }

    /// A view at the head; what does not return is a fault of the test.
    pub(crate) async fn view<C: SolCall>(&self, to: Address, call: &C) -> C::Return {
        self.try_view(to, call).await.unwrap_or_else(|| panic!("{} of {to} reverts", C::SIGNATURE))
    }

    /// A view at the head, `None` if it reverts.
    pub(crate) async fn try_view<C: SolCall>(&self, to: Address, call: &C) -> Option<C::Return> {
        let head = self.rpc.head().await.expect("a head");
        match self.rpc.call(&Call::new(to, call.abi_encode()), None, head.hash).await.expect("an answer") {
            CallOutcome::Returned(data) => Some(C::abi_decode_returns(&data).expect("its return value")),
            CallOutcome::Reverted(_) => None,
        }
    }

    /// How many events of each kind the vTokens emitted so far.
    pub(crate) async fn events(&self) -> BTreeMap<String, usize> {
        let package = "tools/protocols/packages/@venusprotocol/isolated-pools/artifacts/contracts";
        let artifact = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(package).join("VToken.sol/VToken.json");
        let artifact: Value = serde_json::from_slice(&std::fs::read(artifact).expect("an artifact")).expect("JSON");
        let abi: JsonAbi = serde_json::from_value(artifact["abi"].clone()).expect("an ABI");
        let names: BTreeMap<B256, String> = abi.events().map(|e| (e.selector(), e.name.clone())).collect();
        let vtokens: Vec<Address> = self.markets().map(|(_, market)| market.vtoken).collect();
        let filter = json!([{ "fromBlock": "0x0", "toBlock": "latest", "address": vtokens }]);
        let logs: Vec<Value> = self.anvil.request("eth_getLogs", filter).await.expect("logs");
        let mut counts = BTreeMap::new();
        for log in logs {
            let topic: B256 = serde_json::from_value(log["topics"][0].clone()).expect("a topic");
            *counts.entry(names.get(&topic).cloned().unwrap_or_default()).or_insert(0) += 1;
        }
        counts
    }

    /// The cache at the head.
    pub(crate) async fn follow(&mut self) -> Arc<Snapshot> {
        self.indexer.advance().await.expect("the indexer follows");
        self.snapshots.borrow_and_update().clone().expect("a snapshot")
    }

    /// Holds every account and all shared state against the chain: views as they are, and each account's surplus against
    /// the comptroller's own sums once every market has stored its interest in the block that comes next. How many
    /// accounts that were.
    pub(crate) async fn audit(&mut self, snapshot: &Snapshot) -> usize {
        let units: Vec<UnitKey> = snapshot.book.units().map(|(key, _)| key.clone()).collect();
        let report = self.auditor.audit(snapshot, &units).await;
        let block = snapshot.block.number;
        assert_eq!(report.unknown, 0, "views without an answer at block {block}");
        let first = report.mismatches.first();
        assert!(first.is_none(), "{} of {} probes at block {block}: {first:?}", report.mismatches.len(), report.probes);
        let BlockRef { number, timestamp, .. } = snapshot.block;
        let next = BlockRef { number: number + 1, timestamp: timestamp + 1, ..snapshot.block };
        let ahead = Snapshot { block: next, book: snapshot.book.clone() };
        let accruals =
            self.markets().map(|(_, market)| Call::new(market.vtoken, VToken::accrueInterestCall {}.abi_encode()));
        let mut calls: Vec<Call> = accruals.collect();
        let first = calls.len();
        for (_, unit) in snapshot.book.units() {
            let pool = self.places.pools[unit.segment.0 as usize].comptroller;
            let call = Comptroller::getAccountLiquidityCall { account: unit.owner };
            calls.push(Call::new(pool, call.abi_encode()));
        }
        let answers = self.rpc.simulate(self.keeper, &calls, &snapshot.block).await.expect("a simulation");
        for ((key, unit), answer) in ahead.book.units().zip(&answers[first..]) {
            let sums = Comptroller::getAccountLiquidityCall::abi_decode_returns(&answer.output).expect("three words");
            let signed = |x: U256| I256::try_from(x).expect("a sum of dollars");
            let surplus = self.adapter.standing(&ahead, key, unit).expect("a standing").surplus;
            assert_eq!(surplus, signed(sums.liquidity) - signed(sums.shortfall), "{key} after block {number}");
        }
        units.len()
    }
}

/// Runs the deploy script.
fn deploy(anvil: &Anvil, keeper: Address, clock: &str) -> Places {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools/protocols/venus.mjs");
    let output = Command::new("node").arg(&script).args([&anvil.http_url(), &keeper.to_string(), clock]).output();
    let output = output.expect("node runs: see tools/setup.sh protocols");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{} failed; mend: tools/setup.sh protocols\n{said}", script.display());
    serde_json::from_slice(&output.stdout).expect("addresses as JSON")
}
