//! The parts of a node's answers that are used. Other fields are ignored, so that chains with fields and transaction
//! kinds of their own are read like any other.

use alloy::primitives::{Address, B256, Bloom, Bytes, U64, U128, U256};
use serde::Deserialize;

use super::{Receipt, RpcError, SimulatedCall, method::Method};
use crate::types::{BlockRef, Log};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireBlock {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U256,
    /// Some chains have none.
    #[serde(default)]
    logs_bloom: Option<Bloom>,
}

impl WireBlock {
    pub(super) fn bloom(&self) -> Option<(B256, Bloom)> {
        self.logs_bloom.map(|bloom| (self.hash, bloom))
    }

    pub(super) fn into_ref(self, method: Method) -> Result<BlockRef, RpcError> {
        let timestamp =
            u64::try_from(self.timestamp).map_err(|_| RpcError::malformed(method, "timestamp beyond 64 bits"))?;
        Ok(BlockRef { number: self.number.to(), hash: self.hash, parent_hash: self.parent_hash, timestamp })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireLog {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    transaction_hash: Option<B256>,
    log_index: Option<U64>,
    #[serde(default)]
    removed: bool,
}

impl WireLog {
    /// The log, if it says where on the chain it stands.
    pub(super) fn into_log(self, method: Method) -> Result<Log, RpcError> {
        let (Some(block_number), Some(block_hash), Some(tx_hash), Some(log_index)) =
            (self.block_number, self.block_hash, self.transaction_hash, self.log_index)
        else {
            return Err(RpcError::malformed(method, "a log without its place on the chain"));
        };
        if self.removed {
            return Err(RpcError::malformed(method, "a log that was reorganised away"));
        }
        Ok(Log {
            address: self.address,
            topics: self.topics,
            data: self.data,
            block_number: block_number.to(),
            block_hash,
            tx_hash,
            log_index: log_index.to(),
        })
    }
}

/// Logs in the order of the chain.
pub(super) fn into_sorted_logs(logs: Vec<WireLog>, method: Method) -> Result<Vec<Log>, RpcError> {
    let mut logs: Vec<Log> = logs.into_iter().map(|log| log.into_log(method)).collect::<Result<_, _>>()?;
    logs.sort_unstable_by_key(|log| (log.block_number, log.log_index));
    if logs
        .windows(2)
        .any(|pair| (pair[0].block_number, pair[0].log_index) == (pair[1].block_number, pair[1].log_index))
    {
        return Err(RpcError::malformed(method, "two logs in one place"));
    }
    Ok(logs)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireReceipt {
    transaction_hash: B256,
    block_number: Option<U64>,
    block_hash: Option<B256>,
    status: Option<U64>,
    gas_used: U64,
    effective_gas_price: U128,
    logs: Vec<WireLog>,
}

impl WireReceipt {
    pub(super) fn into_logs(self) -> Vec<WireLog> {
        self.logs
    }

    /// The receipt, or `None` while its transaction has no block.
    pub(super) fn into_receipt(self) -> Result<Option<Receipt>, RpcError> {
        let (Some(number), Some(hash)) = (self.block_number, self.block_hash) else { return Ok(None) };
        let status = self.status.ok_or_else(|| RpcError::malformed(Method::Receipt, "a receipt without a status"))?;
        Ok(Some(Receipt {
            tx_hash: self.transaction_hash,
            block: (number.to(), hash),
            success: status == U64::from(1),
            gas_used: self.gas_used.to(),
            effective_gas_price: self.effective_gas_price.to(),
            logs: into_sorted_logs(self.logs, Method::Receipt)?,
        }))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct WireSimulatedBlock {
    pub(super) calls: Vec<WireSimulatedCall>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireSimulatedCall {
    #[serde(default)]
    return_data: Bytes,
    #[serde(default)]
    logs: Vec<WireLog>,
    gas_used: U64,
    status: U64,
    error: Option<WireSimulateError>,
}

#[derive(Debug, Deserialize)]
struct WireSimulateError {
    message: String,
    data: Option<Bytes>,
}

impl WireSimulatedCall {
    pub(super) fn into_simulated(self) -> Result<SimulatedCall, RpcError> {
        let success = self.status == U64::from(1);
        let (error_data, failure) = match self.error {
            Some(error) => (error.data, Some(super::endpoint::clean_text(&error.message))),
            None => (None, None),
        };
        // Revert data stands in `returnData`, or in the error's data, or in both.
        let output = if self.return_data.is_empty() { error_data.unwrap_or_default() } else { self.return_data };
        let logs = into_sorted_logs(self.logs, Method::Simulate)?;
        Ok(SimulatedCall { success, output, gas_used: self.gas_used.to(), logs, failure: failure.filter(|_| !success) })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireFeeHistory {
    /// One entry a block asked for, and a last one for the block that comes next.
    pub(super) base_fee_per_gas: Vec<U128>,
    #[serde(default)]
    pub(super) reward: Option<Vec<Vec<U128>>>,
}
