//! What surrounds a transaction: simulation, fees, broadcast, receipt.

use std::time::Duration;

use alloy::primitives::{U64, U128};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use serde_json::{Value, json};

use super::{
    FeeQuote, Receipt, Rpc, RpcError, SendError, SimulatedCall,
    method::Method,
    rpc::{call_object, parse},
    wire::{WireFeeHistory, WireReceipt, WireSimulatedBlock, WireSimulatedCall},
};
use crate::types::{Address, B256, BlockRef, Bytes, Call};

/// Blocks whose tips a fee quote looks at.
const FEE_HISTORY_BLOCKS: u64 = 10;

/// Longest wait for the relay: who waits for it could be in the next block by another way.
const RELAY_PATIENCE: Duration = Duration::from_secs(1);

impl Rpc {
    /// Makes the calls in order in one block on top of `at`, one second later, each on the state the earlier ones
    /// left. Nonce, balance for gas and signature are not checked. One result a call, in order.
    pub async fn simulate(&self, from: Address, calls: &[Call], at: &BlockRef) -> Result<Vec<SimulatedCall>, RpcError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let objects: Vec<_> = calls.iter().map(|call| call_object(call, Some(from))).collect();
        // Number and time are stated because nodes differ in what they fill in.
        let overrides = json!({ "number": U64::from(at.number + 1), "time": U64::from(at.timestamp + 1) });
        let block = json!({ "blockOverrides": overrides, "calls": objects });
        let payload = json!({ "blockStateCalls": [block], "validation": false, "traceTransfers": false });
        let params = json!([payload, { "blockHash": at.hash }]);
        let ask = |who| {
            let params = params.clone();
            async move { simulated(self.read_at(who, Method::Simulate, params, at.hash).await?, calls.len()) }.boxed()
        };
        self.agreed(Method::Simulate, ask, |one, other| {
            // Nodes count gas and word failures each in its own way.
            let result = |call: &SimulatedCall| (call.success, call.output.clone(), call.logs.clone());
            one.iter().map(result).eq(other.iter().map(result))
        })
        .await
    }

    /// What gas costs now.
    pub async fn fees(&self) -> Result<FeeQuote, RpcError> {
        let params = json!([U64::from(FEE_HISTORY_BLOCKS), "latest", [50]]);
        let history: WireFeeHistory = self.read(Method::FeeHistory, params).await?;
        let base_fee_wei =
            history.base_fee_per_gas.last().ok_or_else(|| RpcError::malformed(Method::FeeHistory, "no base fee"))?.to();
        let mut tips: Vec<U128> = history.reward.unwrap_or_default().into_iter().flatten().collect();
        tips.sort_unstable();
        let median: u128 = tips.get(tips.len() / 2).map_or(0, |tip| tip.to());
        Ok(FeeQuote { base_fee_wei, priority_fee_wei: median.max(1) })
    }

    /// Hands signed bytes to every node, once to each, and gives back the first acceptance. Sending the same bytes again
    /// later is safe; signing others is not, unless the outcome of these is known. A node whose chain is not known yet is asked
    /// for it first; what may not leave any more by then (`may_leave`) does not.
    pub async fn send_raw(&self, raw: &[u8], may_leave: &(dyn Fn() -> bool + Sync)) -> Result<B256, SendError> {
        let params = json!([Bytes::copy_from_slice(raw)]);
        let preferred = self.pool.preferred();
        let mut outcomes: FuturesUnordered<_> = self
            .pool
            .usable()
            .map(|index| self.send_raw_to(index, &params, may_leave).map(move |outcome| (index, outcome)))
            .collect();
        let mut refusals = Vec::new();
        while let Some((index, outcome)) = outcomes.next().await {
            match outcome {
                Ok(hash) => return Ok(hash),
                Err(refusal) => refusals.push((index != preferred, refusal)),
            }
        }
        // Of refusals the one counts that leaves most open, then the preferred node's.
        refusals.sort_by_key(|(other, refusal)| match refusal {
            SendError::AlreadyKnown => (0, *other),
            SendError::Unknown(_) => (1, *other),
            _ => (2, *other),
        });
        let first = refusals.into_iter().next().map(|(_, refusal)| refusal);
        Err(first.unwrap_or_else(|| SendError::Rejected("no endpoint follows the configured chain".to_owned())))
    }

    async fn send_raw_to(
        &self,
        index: usize,
        params: &Value,
        may_leave: &(dyn Fn() -> bool + Sync),
    ) -> Result<B256, SendError> {
        self.admit(index).await?;
        if !may_leave() {
            return Err(SendError::Rejected("it may not leave any more".to_owned()));
        }
        let answer = self.exchange(index, Method::SendRaw, params).await?;
        // An answer that is no hash still came after the bytes were taken in.
        parse(Method::SendRaw, answer).map_err(SendError::Unknown)
    }

    /// Hands signed bytes to the relay alone, once; `None` where none is configured. It speaks `eth_sendRawTransaction`, as
    /// Flashbots Protect, MEV Blocker and the endpoints of builders do, and keeps from everybody's pool what it takes.
    pub async fn send_private(&self, raw: &[u8]) -> Option<Result<B256, SendError>> {
        let relay = self.relay.as_ref()?;
        let params = json!([Bytes::copy_from_slice(raw)]);
        let answer = self.exchange_with(relay, Method::SendRaw, &params);
        Some(match tokio::time::timeout(RELAY_PATIENCE, answer).await {
            Ok((Ok(answer), _)) => parse(Method::SendRaw, answer).map_err(SendError::Unknown),
            Ok((Err(error), _)) => Err(error.into()),
            Err(_) => Err(SendError::Unknown(RpcError::Timeout { method: Method::SendRaw.as_str() })),
        })
    }

    /// The receipt of a mined transaction, `None` while this node knows of none.
    pub async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError> {
        let receipt: Option<WireReceipt> = self.read(Method::Receipt, json!([hash])).await?;
        let receipt = receipt.map(WireReceipt::into_receipt).transpose()?.flatten();
        match receipt {
            Some(r) if r.tx_hash != hash => Err(RpcError::malformed(Method::Receipt, "another receipt than asked for")),
            receipt => Ok(receipt),
        }
    }

    /// Whether this node has the transaction, waiting or mined.
    pub async fn transaction_known(&self, hash: B256) -> Result<bool, RpcError> {
        let transaction: Option<Value> = self.read(Method::TransactionByHash, json!([hash])).await?;
        Ok(transaction.is_some())
    }
}

/// The results of `calls` calls in one block.
fn simulated(blocks: Vec<WireSimulatedBlock>, calls: usize) -> Result<Vec<SimulatedCall>, RpcError> {
    let [block] = <[_; 1]>::try_from(blocks)
        .map_err(|blocks| RpcError::malformed(Method::Simulate, format!("{} blocks for one", blocks.len())))?;
    if block.calls.len() != calls {
        let message = format!("{} results for {calls} calls", block.calls.len());
        return Err(RpcError::malformed(Method::Simulate, message));
    }
    block.calls.into_iter().map(WireSimulatedCall::into_simulated).collect()
}
