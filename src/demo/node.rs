//! A line to the node of the demo's and the tests' own: batches of plain JSON-RPC, and transactions of accounts that the node acts for.
//!
//! Apart from the daemon's `chain` on purpose: what checks the daemon must not share its eyes.
//!
//! Invariants: every request has a timeout; results keep the order of what was asked; nonces are counted here alone, so
//! that messages of one sender execute in the order they were given.
//! Must not: know the venue.

use std::{collections::HashMap, time::Duration};

use alloy::{
    consensus::Transaction as _,
    network::TransactionResponse as _,
    primitives::{Address, B256, Bytes, U256},
    rpc::{
        client::RpcClient,
        types::{Block, Filter, Log as RpcLog, TransactionReceipt},
    },
    transports::TransportError,
};
use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::types::{BlockRef, Call, CallOutcome, Log};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const BATCH_REQUESTS_MAX: usize = 100;
/// Gas limits: far above what is used, far below a block's.
const CALL_GAS: u64 = 1_500_000;
const CREATE_GAS: u64 = 10_000_000;
/// Largest fee per gas of a message, of the base fee at the head: enough for two blocks of rising base fee, and less than
/// anybody offers who wants to be early.
const MAX_FEE_PERCENT: u128 = 127;
/// Wei per gas on top of the base fee that comes first: far more than a keeper offers.
const FIRST_TIP_WEI: u128 = 1_000_000_000_000;
const MINE_ROUNDS_MAX: usize = 200;

/// A transaction to be sent for an account, and what it is for.
#[derive(Clone, Debug)]
pub struct Message {
    /// For whom.
    pub from: Address,
    /// Where; `None` creates a contract.
    pub to: Option<Address>,
    /// Calldata or init code.
    pub data: Bytes,
    /// Gas limit.
    pub gas: u64,
    /// For error messages.
    pub what: String,
}

impl Message {
    /// A call.
    pub fn call(from: Address, to: Address, data: Vec<u8>, what: impl Into<String>) -> Self {
        Self { from, to: Some(to), data: data.into(), gas: CALL_GAS, what: what.into() }
    }

    /// A contract creation.
    pub fn create(from: Address, code: Vec<u8>, what: impl Into<String>) -> Self {
        Self { from, to: None, data: code.into(), gas: CREATE_GAS, what: what.into() }
    }

    /// The same with this gas limit.
    pub fn with_gas(self, gas: u64) -> Self {
        Self { gas, ..self }
    }
}

/// A mined transaction of one sender.
#[derive(Clone, Debug)]
pub struct MinedTransaction {
    /// Its hash.
    pub hash: B256,
    /// Its nonce.
    pub nonce: u64,
    /// Whether it succeeded.
    pub success: bool,
    /// Gas it used.
    pub gas_used: u64,
    /// What that gas cost.
    pub fee_wei: U256,
}

/// A connection to the node.
#[derive(Debug)]
pub struct Node {
    client: RpcClient,
    nonces: Mutex<HashMap<Address, u64>>,
}

impl Node {
    /// A connection over HTTP; nothing is sent yet.
    pub fn connect(url: &str) -> Result<Self> {
        let url = url.parse().context("parse the node's URL")?;
        Ok(Self { client: RpcClient::new_http(url), nonces: Mutex::default() })
    }

    /// One request.
    pub async fn request<R: DeserializeOwned + Send + std::fmt::Debug + Sync + Unpin + 'static>(
        &self,
        method: &'static str,
        params: Value,
    ) -> Result<R> {
        let answer = tokio::time::timeout(REQUEST_TIMEOUT, self.client.request::<_, R>(method, params)).await;
        answer.with_context(|| format!("{method} timed out"))?.with_context(|| format!("{method} failed"))
    }

    /// Many requests of one method; answers in the order of `params`. Fails with the first that fails.
    pub async fn batch<R: DeserializeOwned + Send + std::fmt::Debug + Sync + Unpin + 'static>(
        &self,
        method: &'static str,
        params: &[Value],
    ) -> Result<Vec<R>> {
        let mut answers = Vec::with_capacity(params.len());
        for chunk in params.chunks(BATCH_REQUESTS_MAX) {
            let mut batch = self.client.new_batch();
            let waiters = chunk
                .iter()
                .map(|p| batch.add_call::<_, R>(method, p))
                .collect::<Result<Vec<_>, _>>()
                .with_context(|| format!("encode {method}"))?;
            let sent = tokio::time::timeout(REQUEST_TIMEOUT, batch.send()).await;
            sent.with_context(|| format!("a batch of {method} timed out"))?
                .with_context(|| format!("a batch of {method} failed"))?;
            for waiter in waiters {
                answers.push(waiter.await.with_context(|| format!("{method} failed"))?);
            }
        }
        Ok(answers)
    }

    /// The newest block.
    pub async fn head(&self) -> Result<BlockRef> {
        self.block_named(json!("latest")).await?.context("the node has no newest block")
    }

    /// The block of this height, if it exists.
    pub async fn block(&self, number: u64) -> Result<Option<BlockRef>> {
        self.block_named(json!(format!("{number:#x}"))).await
    }

    async fn block_named(&self, name: Value) -> Result<Option<BlockRef>> {
        let block: Option<Block> = self.request("eth_getBlockByNumber", json!([name, false])).await?;
        Ok(block.map(|b| BlockRef {
            number: b.header.number,
            hash: b.header.hash,
            parent_hash: b.header.parent_hash,
            timestamp: b.header.timestamp,
        }))
    }

    /// All logs of one block, in order, whoever emitted them.
    pub async fn logs(&self, block: B256) -> Result<Vec<Log>> {
        let logs: Vec<RpcLog> = self.request("eth_getLogs", json!([Filter::new().at_block_hash(block)])).await?;
        let mut logs = logs.into_iter().map(placed).collect::<Result<Vec<_>>>()?;
        logs.sort_by_key(|log| log.log_index);
        Ok(logs)
    }

    /// Calls a view at one block.
    pub async fn call(&self, call: &Call, block: B256) -> Result<Bytes> {
        let mut outputs = self.calls(std::slice::from_ref(call), block).await?;
        outputs.pop().context("no answer to eth_call")
    }

    /// Calls views at one block, pinned by its hash.
    pub async fn calls(&self, calls: &[Call], block: B256) -> Result<Vec<Bytes>> {
        let at = json!({ "blockHash": block });
        let params: Vec<Value> = calls.iter().map(|c| json!([{ "to": c.to, "data": c.data }, at])).collect();
        self.batch("eth_call", &params).await
    }

    /// Calls as this sender at one block, each on its own: a revert is an answer.
    pub async fn outcomes(&self, from: Address, calls: &[Call], block: B256) -> Result<Vec<CallOutcome>> {
        let at = json!({ "blockHash": block });
        let mut outcomes = Vec::with_capacity(calls.len());
        for chunk in calls.chunks(BATCH_REQUESTS_MAX) {
            let mut batch = self.client.new_batch();
            let waiters = chunk
                .iter()
                .map(|call| {
                    let request = json!({ "from": from, "to": call.to, "data": call.data, "value": call.value });
                    batch.add_call::<_, Bytes>("eth_call", &json!([request, at]))
                })
                .collect::<Result<Vec<_>, _>>()
                .context("encode eth_call")?;
            let sent = tokio::time::timeout(REQUEST_TIMEOUT, batch.send()).await;
            sent.context("a batch of eth_call timed out")?.context("a batch of eth_call failed")?;
            for waiter in waiters {
                outcomes.push(match waiter.await {
                    Ok(output) => CallOutcome::Returned(output),
                    Err(error) => CallOutcome::Reverted(revert_data(&error).context("eth_call failed").context(error)?),
                });
            }
        }
        Ok(outcomes)
    }

    /// Makes the node act for these accounts and gives them native currency for gas.
    pub async fn adopt(&self, accounts: &[Address]) -> Result<()> {
        let names: Vec<Value> = accounts.iter().map(|a| json!([a])).collect();
        self.batch::<Value>("anvil_impersonateAccount", &names).await?;
        self.grant(accounts).await
    }

    /// Gives accounts native currency for gas: 100 of it each.
    pub async fn grant(&self, accounts: &[Address]) -> Result<()> {
        let hundred_ether = U256::from(100) * U256::from(10).pow(U256::from(18));
        let grants: Vec<Value> = accounts.iter().map(|a| json!([a, hundred_ether])).collect();
        self.batch::<Value>("anvil_setBalance", &grants).await.map(drop)
    }

    /// Puts messages into the pool, in order per sender. They offer hardly more than the base fee and no tip, so they
    /// execute after those of anybody who is in a hurry.
    pub async fn send(&self, messages: &[Message]) -> Result<Vec<B256>> {
        self.offer(messages, 0).await
    }

    /// The same with a tip that nobody outbids: they execute before everything else in the pool.
    pub async fn send_first(&self, messages: &[Message]) -> Result<Vec<B256>> {
        self.offer(messages, FIRST_TIP_WEI).await
    }

    async fn offer(&self, messages: &[Message], tip: u128) -> Result<Vec<B256>> {
        let head: Option<Block> = self.request("eth_getBlockByNumber", json!(["latest", false])).await?;
        let base_fee = head.and_then(|block| block.header.base_fee_per_gas).context("the head has no base fee")?;
        let max_fee = u128::from(base_fee) * MAX_FEE_PERCENT / 100 + 1 + tip;
        let mut params = Vec::with_capacity(messages.len());
        let mut nonces = self.nonces.lock().await;
        for message in messages {
            let nonce = match nonces.get(&message.from) {
                Some(nonce) => *nonce,
                None => self.nonce(message.from, "latest").await?,
            };
            nonces.insert(message.from, nonce + 1);
            params.push(json!([{
                "from": message.from,
                "to": message.to,
                "data": message.data,
                "nonce": format!("{nonce:#x}"),
                "gas": format!("{:#x}", message.gas),
                "maxFeePerGas": format!("{max_fee:#x}"),
                "maxPriorityFeePerGas": format!("{tip:#x}"),
            }]));
        }
        self.batch("eth_sendTransaction", &params).await
    }

    /// Asks the chain for every nonce anew: after a reorganisation took transactions away.
    pub async fn forget_nonces(&self) {
        self.nonces.lock().await.clear();
    }

    /// How many transactions an account has sent, in the state named by `tag` (`latest` or `pending`).
    pub async fn nonce(&self, account: Address, tag: &'static str) -> Result<u64> {
        let nonce: U256 = self.request("eth_getTransactionCount", json!([account, tag])).await?;
        nonce.try_into().context("a nonce beyond 64 bits")
    }

    /// Whether a transaction is in a block.
    pub async fn is_mined(&self, hash: B256) -> Result<bool> {
        let receipt: Option<TransactionReceipt> = self.request("eth_getTransactionReceipt", json!([hash])).await?;
        Ok(receipt.is_some())
    }

    /// Whether each mined transaction succeeded, in order.
    pub async fn succeeded(&self, hashes: &[B256]) -> Result<Vec<bool>> {
        let params: Vec<Value> = hashes.iter().map(|hash| json!([hash])).collect();
        let receipts: Vec<Option<TransactionReceipt>> = self.batch("eth_getTransactionReceipt", &params).await?;
        let receipts = receipts.into_iter().collect::<Option<Vec<_>>>().context("a transaction is not mined")?;
        Ok(receipts.iter().map(TransactionReceipt::status).collect())
    }

    /// Sends messages and mines blocks until all are in; fails if one reverts. For set-up, while nothing else mines.
    pub async fn execute(&self, messages: &[Message]) -> Result<Vec<TransactionReceipt>> {
        let hashes = self.send(messages).await?;
        let params: Vec<Value> = hashes.iter().map(|hash| json!([hash])).collect();
        for _ in 0..MINE_ROUNDS_MAX {
            self.mine().await?;
            let receipts: Vec<Option<TransactionReceipt>> = self.batch("eth_getTransactionReceipt", &params).await?;
            let Some(receipts) = receipts.into_iter().collect::<Option<Vec<_>>>() else { continue };
            if let Some(failed) = receipts.iter().position(|r| !r.status()) {
                bail!("{} was refused: {}", messages[failed].what, self.refusal(&messages[failed]).await);
            }
            return Ok(receipts);
        }
        bail!("{} transactions were not mined within {MINE_ROUNDS_MAX} blocks", messages.len())
    }

    /// Why a message is refused, as far as a call after the fact can tell.
    async fn refusal(&self, message: &Message) -> String {
        let call = json!([{ "from": message.from, "to": message.to, "data": message.data }, "latest"]);
        match self.request::<Bytes>("eth_call", call).await {
            Ok(_) => "it would be accepted now".to_owned(),
            Err(error) => format!("{:#}", error),
        }
    }

    /// Mines one block now.
    pub async fn mine(&self) -> Result<()> {
        self.request::<Value>("evm_mine", json!([])).await.map(|_| ())
    }

    /// Lets the node mine a block in this interval from now on, by the clock; 0 stops it.
    pub async fn mine_every(&self, seconds: u64) -> Result<()> {
        self.request::<Value>("evm_setIntervalMining", json!([seconds])).await.map(|_| ())
    }

    /// Every transaction of one sender in a range of blocks, inclusive, in order.
    pub async fn sent_by(&self, sender: Address, from: u64, to: u64) -> Result<Vec<MinedTransaction>> {
        let params: Vec<Value> = (from..=to).map(|n| json!([format!("{n:#x}"), true])).collect();
        let blocks: Vec<Option<Block>> = self.batch("eth_getBlockByNumber", &params).await?;
        let mut found = Vec::new();
        for block in blocks {
            let block = block.context("a block of the demo's own chain is missing")?;
            let all = block.transactions.into_transactions();
            found.extend(all.filter(|tx| tx.from() == sender).map(|tx| (tx.tx_hash(), tx.nonce())));
        }
        let params: Vec<Value> = found.iter().map(|(hash, _)| json!([hash])).collect();
        let receipts: Vec<TransactionReceipt> = self.batch("eth_getTransactionReceipt", &params).await?;
        ensure!(receipts.len() == found.len(), "a mined transaction has no receipt");
        let mined = |((hash, nonce), receipt): ((B256, u64), TransactionReceipt)| MinedTransaction {
            hash,
            nonce,
            success: receipt.status(),
            gas_used: receipt.gas_used,
            fee_wei: U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price),
        };
        Ok(found.into_iter().zip(receipts).map(mined).collect())
    }
}

/// The data of a revert, empty where it came without; `None` for any other error.
fn revert_data(error: &TransportError) -> Option<Bytes> {
    let refusal = error.as_error_resp()?;
    let plain = refusal.message.contains("revert").then(Bytes::new);
    refusal.as_revert_data().or(plain)
}

/// A log with its place; fails for one that is in no block.
pub fn placed(log: RpcLog) -> Result<Log> {
    let (topics, data) = (log.topics().to_vec(), log.data().data.clone());
    Ok(Log {
        address: log.address(),
        topics,
        data,
        block_number: log.block_number.context("a log without a block")?,
        block_hash: log.block_hash.context("a log without a block")?,
        tx_hash: log.transaction_hash.context("a log without a transaction")?,
        log_index: log.log_index.context("a log without a place")?,
    })
}
