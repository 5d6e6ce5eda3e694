//! The chain as the harness sees it: anvil, with accounts that it acts for and blocks that it makes.
//!
//! Apart from the daemon's own eyes on purpose. Invariants: time moves by a fixed step a block; state is asked for at a
//! block hash.

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U64, U256};
use anyhow::{Context, Result, ensure};
use backstop::{
    demo::anvil::{Anvil, AnvilOptions, Mining},
    types::{BlockRef, Call, CallOutcome, Log},
};
use serde_json::{Value, json};

/// Seconds between two blocks, as the chain counts them.
pub(crate) const BLOCK_SECONDS: u64 = 12;
/// Gas of a transaction that names none.
const GAS: u64 = 5_000_000;

/// A transaction as it was mined.
#[derive(Clone, Debug)]
pub(crate) struct Mined {
    pub(crate) hash: B256,
    pub(crate) from: Address,
    pub(crate) to: Option<Address>,
    pub(crate) input: Bytes,
    pub(crate) success: bool,
    pub(crate) logs: Vec<Log>,
}

/// See the module.
pub(crate) struct Chain {
    pub(crate) anvil: Anvil,
    http: reqwest::Client,
    url: String,
}

impl Chain {
    /// A chain on which every transaction is mined at once and every account can be acted for.
    pub(crate) async fn start(mut options: AnvilOptions) -> Result<Self> {
        options.mining = Mining::PerTransaction;
        let anvil = Anvil::start(&options).await?;
        anvil.command("anvil_autoImpersonateAccount", json!([true])).await?;
        let url = anvil.http_url();
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?;
        Ok(Self { anvil, http, url })
    }

    /// From now on blocks are made by [`Self::mine`] alone.
    pub(crate) async fn stop_automine(&self) -> Result<()> {
        Ok(self.anvil.set_automine(false).await?)
    }

    /// Makes the next block of what is in the pool.
    pub(crate) async fn mine(&self) -> Result<BlockRef> {
        self.mine_after(BLOCK_SECONDS).await
    }

    /// Makes the next block so many seconds after the last one.
    pub(crate) async fn mine_after(&self, seconds: u64) -> Result<BlockRef> {
        let head = self.head().await?;
        self.anvil.set_next_timestamp(head.timestamp + seconds).await?;
        self.anvil.mine(1).await?;
        self.head().await
    }

    pub(crate) async fn head(&self) -> Result<BlockRef> {
        block_of(&self.anvil.request("eth_getBlockByNumber", json!(["latest", false])).await?)
    }

    pub(crate) async fn block(&self, number: u64) -> Result<BlockRef> {
        block_of(&self.anvil.request("eth_getBlockByNumber", json!([U64::from(number), false])).await?)
    }

    /// Puts a transaction into the pool on behalf of any account; with automine it is mined at once.
    pub(crate) async fn send(&self, from: Address, to: Address, data: impl Into<Bytes>) -> Result<B256> {
        let data: Bytes = data.into();
        let transaction = json!({ "from": from, "to": to, "input": data, "gas": U64::from(GAS) });
        Ok(self.anvil.request("eth_sendTransaction", json!([transaction])).await?)
    }

    /// Sends, mines a block and fails unless it succeeded.
    pub(crate) async fn send_now(&self, from: Address, to: Address, data: impl Into<Bytes>) -> Result<()> {
        let hash = self.send(from, to, data).await?;
        if self.receipt(hash).await?.is_null() {
            self.mine().await?;
        }
        let receipt = self.receipt(hash).await?;
        ensure!(receipt["status"] == json!(U64::from(1)), "{hash} to {to} was not mined with success: {receipt}");
        Ok(())
    }

    pub(crate) async fn receipt(&self, hash: B256) -> Result<Value> {
        Ok(self.anvil.request("eth_getTransactionReceipt", json!([hash])).await?)
    }

    /// Gives an account native currency.
    pub(crate) async fn fund(&self, account: Address) -> Result<()> {
        Ok(self.anvil.set_balance(account, U256::from(10).pow(U256::from(24))).await?)
    }

    /// Calls at a block hash, in order, in one round trip.
    pub(crate) async fn calls(&self, from: Option<Address>, calls: &[Call], at: B256) -> Result<Vec<CallOutcome>> {
        let mut outcomes = Vec::with_capacity(calls.len());
        for some in calls.chunks(200) {
            let requests: Vec<Value> = some
                .iter()
                .enumerate()
                .map(|(id, call)| {
                    let mut object = json!({ "to": call.to, "input": call.data, "value": call.value });
                    if let Some(from) = from {
                        object["from"] = json!(from);
                    }
                    json!({ "jsonrpc": "2.0", "id": id, "method": "eth_call", "params": [object, { "blockHash": at }] })
                })
                .collect();
            let mut answers: Vec<Value> = self.http.post(&self.url).json(&requests).send().await?.json().await?;
            answers.sort_by_key(|answer| answer["id"].as_u64());
            ensure!(answers.len() == some.len(), "{} answers to {} calls", answers.len(), some.len());
            for answer in answers {
                outcomes.push(outcome(&answer)?);
            }
        }
        Ok(outcomes)
    }

    /// One call at a block hash that must return.
    pub(crate) async fn view(&self, to: Address, data: impl Into<Bytes>, at: B256) -> Result<Bytes> {
        let [outcome] = <[_; 1]>::try_from(self.calls(None, &[Call::new(to, data)], at).await?)
            .map_err(|_| anyhow::anyhow!("not one answer"))?;
        match outcome {
            CallOutcome::Returned(bytes) => Ok(bytes),
            CallOutcome::Reverted(data) => anyhow::bail!("a view of {to} reverts with {data}"),
        }
    }

    /// The transactions of a block, in order, with their logs.
    pub(crate) async fn mined(&self, number: u64) -> Result<Vec<Mined>> {
        let block: Value = self.anvil.request("eth_getBlockByNumber", json!([U64::from(number), true])).await?;
        let receipts: Vec<Value> = self.anvil.request("eth_getBlockReceipts", json!([U64::from(number)])).await?;
        let transactions = block["transactions"].as_array().context("a block without transactions")?;
        ensure!(transactions.len() == receipts.len(), "block {number} has not one receipt a transaction");
        transactions.iter().zip(&receipts).map(|(transaction, receipt)| mined_of(transaction, receipt)).collect()
    }
}

fn mined_of(transaction: &Value, receipt: &Value) -> Result<Mined> {
    let field = |name: &str| transaction[name].clone();
    let logs = receipt["logs"].as_array().context("a receipt without logs")?;
    Ok(Mined {
        hash: serde_json::from_value(field("hash"))?,
        from: serde_json::from_value(field("from"))?,
        to: serde_json::from_value(field("to"))?,
        input: serde_json::from_value(field("input"))?,
        success: receipt["status"] == json!(U64::from(1)),
        logs: logs.iter().map(log_of).collect::<Result<_>>()?,
    })
}

fn log_of(log: &Value) -> Result<Log> {
    let number = |name: &str| Ok::<u64, serde_json::Error>(serde_json::from_value::<U64>(log[name].clone())?.to());
    Ok(Log {
        address: serde_json::from_value(log["address"].clone())?,
        topics: serde_json::from_value(log["topics"].clone())?,
        data: serde_json::from_value(log["data"].clone())?,
        block_number: number("blockNumber")?,
        block_hash: serde_json::from_value(log["blockHash"].clone())?,
        tx_hash: serde_json::from_value(log["transactionHash"].clone())?,
        log_index: number("logIndex")?,
    })
}

fn block_of(block: &Value) -> Result<BlockRef> {
    let number = |name: &str| Ok::<u64, serde_json::Error>(serde_json::from_value::<U64>(block[name].clone())?.to());
    Ok(BlockRef {
        number: number("number")?,
        hash: serde_json::from_value(block["hash"].clone())?,
        parent_hash: serde_json::from_value(block["parentHash"].clone())?,
        timestamp: number("timestamp")?,
    })
}

/// A failure in the EVM is an outcome; everything else fails the run.
fn outcome(answer: &Value) -> Result<CallOutcome> {
    if let Some(result) = answer.get("result") {
        return Ok(CallOutcome::Returned(serde_json::from_value(result.clone())?));
    }
    let error = &answer["error"];
    let reverted = error["code"] == json!(3) || error["message"].as_str().is_some_and(|m| m.contains("revert"));
    ensure!(reverted, "the node answers {error}");
    Ok(CallOutcome::Reverted(serde_json::from_value(error["data"].clone()).unwrap_or_default()))
}
