//! Logs: by block hash at the tip, by range far behind it.

use alloy::primitives::U64;
use futures_util::FutureExt;
use serde_json::{Value, json};

use super::{
    Rpc, RpcError,
    method::Method,
    rpc::Who,
    wire::{WireLog, WireReceipt, into_sorted_logs},
};
use crate::types::{B256, Log, LogFilter};

impl Rpc {
    /// The logs of the block with this hash, in order. A node that does not know the block errs instead of answering
    /// "none"; "none" that the block's own bloom contradicts is looked up in its receipts.
    pub async fn logs_of_block(&self, hash: B256, filter: &LogFilter) -> Result<Vec<Log>, RpcError> {
        // To a node, no address means every address.
        if filter.addresses.is_empty() {
            return Ok(Vec::new());
        }
        let params = json!([{ "blockHash": hash, "address": filter.addresses }]);
        let ask = |who| self.logs_at(who, params.clone(), hash, filter).boxed();
        let logs = self.agreed(Method::Logs, ask, Vec::eq).await?;
        match logs.is_empty() && self.blooms.speak_for(hash, filter) {
            true => self.logs_of_receipts(hash, filter).await,
            false => Ok(logs),
        }
    }

    /// The same from the block's receipts. A node that does not offer them is believed.
    async fn logs_of_receipts(&self, hash: B256, filter: &LogFilter) -> Result<Vec<Log>, RpcError> {
        let receipts: Option<Vec<WireReceipt>> = match self.read(Method::BlockReceipts, json!([hash])).await {
            Err(error) if error.is_answer() && !error.is_unknown_block() => {
                tracing::debug!(%hash, %error, "an empty block may not be empty, and its receipts cannot be had");
                return Ok(Vec::new());
            }
            answer => answer?,
        };
        let receipts = receipts.ok_or_else(|| RpcError::NotFound { what: format!("receipts of block {hash}") })?;
        let logs = receipts.into_iter().flat_map(WireReceipt::into_logs).collect();
        let mut logs = into_sorted_logs(logs, Method::BlockReceipts)?;
        if logs.iter().any(|log| log.block_hash != hash) {
            return Err(RpcError::malformed(Method::BlockReceipts, "receipts of another block"));
        }
        logs.retain(|log| wanted(log, filter));
        if !logs.is_empty() {
            tracing::warn!(%hash, logs = logs.len(), "a node shows no logs of a block that has some");
            self.meter.disagreed();
        }
        Ok(logs)
    }

    async fn logs_at(&self, who: Who, params: Value, hash: B256, filter: &LogFilter) -> Result<Vec<Log>, RpcError> {
        let logs: Vec<WireLog> = self.read_at(who, Method::Logs, params, hash).await?;
        let logs = into_sorted_logs(logs, Method::Logs)?;
        match logs.iter().find(|log| log.block_hash != hash || !wanted(log, filter)) {
            Some(_) => Err(RpcError::malformed(Method::Logs, "a log that was not asked for")),
            None => Ok(logs),
        }
    }

    /// The logs of the canonical blocks `from..=to`, in order. Asked in pieces, and in smaller ones where the node
    /// says that it is too much. A reorganisation meanwhile can mix two branches: check the blocks around it.
    pub async fn logs_in_range(&self, from: u64, to: u64, filter: &LogFilter) -> Result<Vec<Log>, RpcError> {
        if filter.addresses.is_empty() || from > to {
            return Ok(Vec::new());
        }
        // A node that is behind answers a range beyond its head with what it has.
        if self.head().await?.number < to {
            return Err(RpcError::NotFound { what: format!("block {to}") });
        }
        let mut logs = Vec::new();
        // Ranges still to ask for, the next one last.
        let mut ranges = split(from, to, self.settings.log_range_blocks_max);
        ranges.reverse();
        while let Some((first, last)) = ranges.pop() {
            let ask = |who| self.logs_of_range(who, first, last, filter).boxed();
            match self.agreed(Method::Logs, ask, Vec::eq).await {
                Ok(found) => logs.extend(found),
                Err(error) if first < last && error.is_range_too_large() => {
                    let middle = first + (last - first) / 2;
                    ranges.push((middle + 1, last));
                    ranges.push((first, middle));
                    tracing::debug!(first, last, %error, "log range halved");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(logs)
    }

    async fn logs_of_range(&self, who: Who, first: u64, last: u64, filter: &LogFilter) -> Result<Vec<Log>, RpcError> {
        let params =
            json!([{ "fromBlock": U64::from(first), "toBlock": U64::from(last), "address": filter.addresses }]);
        // A range that is too large stays so: halving it is the only retry that helps.
        let answer = self.request_at(self.pick(who, &[]), Method::Logs, &params).await;
        let logs: Vec<WireLog> = match answer {
            Err(error) if !error.is_range_too_large() => self.read_from(who, Method::Logs, params).await?,
            answer => super::rpc::parse(Method::Logs, answer?)?,
        };
        let logs = into_sorted_logs(logs, Method::Logs)?;
        match logs.iter().find(|log| !(first..=last).contains(&log.block_number) || !wanted(log, filter)) {
            Some(_) => Err(RpcError::malformed(Method::Logs, "a log that was not asked for")),
            None => Ok(logs),
        }
    }
}

fn wanted(log: &Log, filter: &LogFilter) -> bool {
    filter.addresses.binary_search(&log.address).is_ok()
}

/// `from..=to` in pieces of at most `blocks_max` blocks, in order.
fn split(from: u64, to: u64, blocks_max: u64) -> Vec<(u64, u64)> {
    let step = blocks_max.max(1);
    let mut pieces = Vec::new();
    let mut first = from;
    while first <= to {
        let last = to.min(first.saturating_add(step - 1));
        pieces.push((first, last));
        match last.checked_add(1) {
            Some(next) => first = next,
            None => break,
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_cover_the_range_once_and_in_order(from in 0u64..10_000, span in 0u64..10_000, step in 0u64..3_000) {
            let pieces = split(from, from + span, step);
            prop_assert_eq!(pieces.first().map(|p| p.0), Some(from));
            prop_assert_eq!(pieces.last().map(|p| p.1), Some(from + span));
            prop_assert!(pieces.iter().all(|(a, b)| a <= b && b - a < step.max(1)));
            prop_assert!(pieces.windows(2).all(|w| w[1].0 == w[0].1 + 1));
        }
    }

    #[test]
    fn the_last_block_of_all_ends_the_range() {
        assert_eq!(split(u64::MAX - 1, u64::MAX, 10), [(u64::MAX - 1, u64::MAX)]);
    }
}
