//! The protocol's real contracts on a chain of their own, followed block by block as the indexer does.

use alloy::{
    primitives::{B256, U64},
    sol,
    sol_types::SolCall,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{PerpV2, Settings};
use crate::{
    demo::{
        anvil::{Anvil, AnvilOptions, Mining},
        contracts,
    },
    positions::{Book, Delta, Snapshot},
    protocols::{Adapter, READ_ROUNDS_MAX},
    types::{Address, BlockRef, Bytes, Call, CallOutcome, I256, Log, LogFilter, U256},
};

sol! {
    struct AddLiquidity { address baseToken; uint256 base; uint256 quote; int24 lowerTick; int24 upperTick; uint256 minBase; uint256 minQuote; bool useTakerBalance; uint256 deadline; }
    struct RemoveLiquidity { address baseToken; int24 lowerTick; int24 upperTick; uint128 liquidity; uint256 minBase; uint256 minQuote; uint256 deadline; }
    struct OpenPosition { address baseToken; bool isBaseToQuote; bool isExactInput; uint256 amount; uint256 oppositeAmountBound; uint256 deadline; uint160 sqrtPriceLimitX96; bytes32 referralCode; }
    struct ClosePosition { address baseToken; uint160 sqrtPriceLimitX96; uint256 oppositeAmountBound; uint256 deadline; bytes32 referralCode; }

    /// What users and owners call, and the keeper does not.
    interface IUser {
        function mint(address to, uint256 amount) external;
        function approve(address spender, uint256 amount) external;
        function set(int256 answer) external;
        function deposit(address token, uint256 amount) external;
        function withdraw(address token, uint256 amount) external;
        function liquidateCollateral(address trader, address token, uint256 amount, bool isDenominatedInSettlementToken) external;
        function addLiquidity(AddLiquidity params) external;
        function removeLiquidity(RemoveLiquidity params) external;
        function openPosition(OpenPosition params) external;
        function closePosition(ClosePosition params) external;
        function settleAllFunding(address trader) external;
        function setMaxFundingRate(uint24 rate) external;
        function setLiquidationPenaltyRatio(uint24 ratio) external;
        function pause() external;
        function close(uint256 price) external;
    }
}

/// What the deployment script prints.
#[derive(Debug, Deserialize)]
pub(super) struct Deployment {
    pub(super) owner: Address,
    pub(super) settlement_token: Address,
    pub(super) clearing_house: Address,
    account_balance: Address,
    exchange: Address,
    order_book: Address,
    pub(super) vault: Address,
    pub(super) insurance_fund: Address,
    market_registry: Address,
    pub(super) clearing_house_config: Address,
    pub(super) collateral: Collateral,
    pub(super) markets: Vec<MarketAt>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Collateral {
    pub(super) token: Address,
    pub(super) aggregator: Address,
}

#[derive(Debug, Deserialize)]
pub(super) struct MarketAt {
    pub(super) base: Address,
    pub(super) aggregator: Address,
    pub(super) price: u64,
}

impl Deployment {
    fn settings(&self) -> Settings {
        Settings::try_from(json!({
            "clearing_house": self.clearing_house,
            "account_balance": self.account_balance,
            "exchange": self.exchange,
            "order_book": self.order_book,
            "vault": self.vault,
            "insurance_fund": self.insurance_fund,
            "market_registry": self.market_registry,
            "clearing_house_config": self.clearing_house_config,
            "settlement_token": self.settlement_token,
        }))
        .unwrap()
    }
}

/// A chain with the contracts, and the cache as the adapter makes it.
pub(super) struct Chain {
    pub(super) anvil: Anvil,
    pub(super) at: Deployment,
    pub(super) adapter: PerpV2,
    pub(super) accounts: Vec<Address>,
    pub(super) book: Book,
    pub(super) tip: Option<BlockRef>,
    pub(super) unknown_events: u64,
    /// Every block's logs and deltas, for doing it all again.
    pub(super) past: Vec<(BlockRef, Vec<Log>, Vec<Delta>)>,
}

impl Chain {
    pub(super) async fn deploy(accounts: u16) -> Self {
        let options = AnvilOptions { accounts, mining: Mining::PerTransaction, ..AnvilOptions::default() };
        let anvil = Anvil::start(&options).await.unwrap();
        let url = anvil.http_url();
        let deploy = move || contracts::deploy("perp_v2", &url, Address::ZERO);
        let at = tokio::task::spawn_blocking(deploy).await.unwrap().unwrap();
        let at: Deployment = serde_json::from_value(at).unwrap();
        let accounts = anvil.request("eth_accounts", json!([])).await.unwrap();
        anvil.set_automine(false).await.unwrap();
        let adapter = PerpV2::new(at.settings());
        let (book, past) = (Book::default(), Vec::new());
        Self { anvil, at, adapter, accounts, book, tip: None, unknown_events: 0, past }
    }

    /// Sends a call without waiting for it.
    pub(super) async fn send(&self, from: Address, to: Address, call: impl SolCall) -> B256 {
        self.send_data(from, to, call.abi_encode().into()).await
    }

    pub(super) async fn send_data(&self, from: Address, to: Address, data: Bytes) -> B256 {
        let transaction = json!({ "from": from, "to": to, "data": data, "gas": "0x7a1200" });
        self.anvil.request("eth_sendTransaction", json!([transaction])).await.unwrap()
    }

    /// Mines everything sent, so many seconds after the block before, and follows.
    pub(super) async fn mine(&mut self, seconds: u64) {
        let head: Value = self.anvil.request("eth_getBlockByNumber", json!(["latest", false])).await.unwrap();
        let timestamp: U64 = serde_json::from_value(head["timestamp"].clone()).unwrap();
        self.anvil.set_next_timestamp(timestamp.to::<u64>() + seconds).await.unwrap();
        self.anvil.mine(1).await.unwrap();
        self.follow().await;
    }

    /// Whether a transaction succeeded.
    pub(super) async fn succeeded(&self, hash: B256) -> bool {
        let receipt: Value = self.anvil.request("eth_getTransactionReceipt", json!([hash])).await.unwrap();
        receipt["status"] == "0x1"
    }

    /// The logs of a mined transaction.
    pub(super) async fn logs_of(&self, hash: B256) -> Vec<Log> {
        let receipt: Value = self.anvil.request("eth_getTransactionReceipt", json!([hash])).await.unwrap();
        let logs: Vec<alloy::rpc::types::Log> = serde_json::from_value(receipt["logs"].clone()).unwrap();
        logs.into_iter().map(log_of).collect()
    }

    /// Applies every block above the tip.
    pub(super) async fn follow(&mut self) {
        let head: U64 = self.anvil.request("eth_blockNumber", json!([])).await.unwrap();
        let next = self.tip.map_or(1, |tip| tip.number + 1);
        for number in next..=head.to::<u64>() {
            self.step(number).await;
        }
    }

    async fn step(&mut self, number: u64) {
        let block: Value = self.anvil.request("eth_getBlockByNumber", json!([U64::from(number), false])).await.unwrap();
        let word = |key: &str| serde_json::from_value::<B256>(block[key].clone()).unwrap();
        let timestamp: U64 = serde_json::from_value(block["timestamp"].clone()).unwrap();
        let block = BlockRef { number, hash: word("hash"), parent_hash: word("parentHash"), timestamp: timestamp.to() };
        let (applied, logs) = self.applied(&block).await;
        self.unknown_events += applied.unknown_events;
        let mut deltas = vec![applied.delta];
        self.book.apply(&deltas[0]).unwrap();
        for round in 0..READ_ROUNDS_MAX {
            let reads = self.adapter.reads(&self.book, &block, round);
            if reads.is_empty() {
                break;
            }
            let mut answers = Vec::new();
            for read in reads {
                let outcome = self.call(&read.call, block.hash).await;
                answers.push((read, outcome));
            }
            let delta = self.adapter.absorb(&self.book, &block, &answers).unwrap();
            self.book.apply(&delta).unwrap();
            deltas.push(delta);
        }
        self.tip = Some(block);
        self.past.push((block, logs, deltas));
    }

    /// The block's logs as they are once every emitter that they announce is known.
    async fn applied(&self, block: &BlockRef) -> (crate::protocols::Applied, Vec<Log>) {
        let mut filter = self.adapter.filter(&self.book);
        loop {
            let logs = self.logs(block, &filter).await;
            let mut known = self.adapter.filter(&self.book);
            let mut kept: Vec<Log> = Vec::new();
            let mut after = self.book.clone();
            let mut applied = crate::protocols::Applied::default();
            // An emitter counts from the log on that makes it wanted.
            for log in logs {
                if known.addresses.binary_search(&log.address).is_ok() {
                    kept.push(log);
                    applied = self.adapter.apply(&self.book, block, &kept).unwrap();
                    after = self.book.clone();
                    after.apply(&applied.delta).unwrap();
                    known = self.adapter.filter(&after);
                }
            }
            let wanted = self.adapter.filter(&after);
            if wanted == filter {
                return (applied, kept);
            }
            filter = wanted;
        }
    }

    async fn logs(&self, block: &BlockRef, filter: &LogFilter) -> Vec<Log> {
        let query = json!([{ "blockHash": block.hash, "address": filter.addresses }]);
        let logs: Vec<alloy::rpc::types::Log> = self.anvil.request("eth_getLogs", query).await.unwrap();
        logs.into_iter().map(log_of).collect()
    }

    /// A call at a block.
    pub(super) async fn call(&self, call: &Call, block: B256) -> CallOutcome {
        self.call_from(Address::ZERO, call, block).await
    }

    /// A call of this sender at a block.
    pub(super) async fn call_from(&self, from: Address, call: &Call, block: B256) -> CallOutcome {
        let request = json!([{ "from": from, "to": call.to, "data": call.data }, { "blockHash": block }]);
        match self.anvil.request::<Bytes>("eth_call", request).await {
            Ok(data) => CallOutcome::Returned(data),
            Err(error) => CallOutcome::Reverted(Bytes::from(error.to_string().into_bytes())),
        }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { block: self.tip.unwrap(), book: self.book.clone() }
    }
}

fn log_of(log: alloy::rpc::types::Log) -> Log {
    Log {
        address: log.address(),
        topics: log.topics().to_vec(),
        data: log.data().data.clone(),
        block_number: log.block_number.unwrap(),
        block_hash: log.block_hash.unwrap(),
        tx_hash: log.transaction_hash.unwrap(),
        log_index: log.log_index.unwrap(),
    }
}

pub(super) fn wad(tokens: u64) -> U256 {
    U256::from(tokens) * U256::from(10).pow(U256::from(18))
}

pub(super) fn usdc(tokens: u64) -> U256 {
    U256::from(tokens) * U256::from(1_000_000)
}

pub(super) fn feed_price(tokens: u64) -> I256 {
    I256::try_from(tokens * 100_000_000).unwrap()
}

/// A small deterministic generator (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
