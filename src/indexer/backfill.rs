//! Far behind the head: logs by range, in chunks that a reorganisation no longer reaches.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{CacheStore, IndexError, Indexer, follow::REQUESTS_MAX};
use crate::{
    positions::Delta,
    types::{BlockRef, Log},
};

impl<S: CacheStore> Indexer<S> {
    /// Reads and commits chunks until the head is within reach of block by block. Gives back the head as it is then.
    pub(super) async fn backfill(&mut self, mut head: BlockRef) -> Result<BlockRef, IndexError> {
        let depth = self.settings.reorg_depth_max.max(1);
        let chunk = self.settings.backfill_chunk_blocks.max(1);
        loop {
            let next = self.next_number();
            let Some(last_safe) = head.number.checked_sub(depth).filter(|last| *last >= next) else { return Ok(head) };
            let reached = self.read_chunk(next, last_safe.min(next.saturating_add(chunk - 1))).await?;
            self.commit().await?;
            tracing::info!(from = next, to = reached, head = head.number, "backfilled");
            if reached == last_safe {
                head = self.rpc.head().await?;
                self.meter.head(head.number);
            }
        }
    }

    /// Applies the blocks `from..=to`, or those up to the first that changes which logs are wanted. Gives back the last.
    async fn read_chunk(&mut self, from: u64, to: u64) -> Result<u64, IndexError> {
        let first = self.canonical(from).await?;
        if self.trail.tip().is_some_and(|tip| tip.hash != first.parent_hash) {
            return Err(IndexError::Unsettled { block: from });
        }
        let last = self.canonical(to).await?;
        let filter = self.adapter.filter(self.trail.book());
        let logs = self.rpc.logs_in_range(from, to, &filter).await?;
        let blocks = self.blocks_of(&logs).await?;
        // A block's hash stands for all below it: the same at both ends of the reading, the same chunk.
        if self.canonical(from).await?.hash != first.hash || self.canonical(to).await?.hash != last.hash {
            return Err(IndexError::Unsettled { block: to });
        }

        let mut book = self.trail.book().clone();
        let mut deltas = Vec::new();
        let mut reached = last;
        for (block, logs) in blocks {
            let step = self.step_of(&book, &block, logs, &filter).await?;
            book = step.after;
            deltas.push(step.delta);
            if step.filter_changed {
                reached = block;
                break;
            }
        }
        let (read, book) = self.hydrated(book, &reached, Delta::default()).await?;
        deltas.push(read);
        self.trail.leap(reached, &deltas, book);
        Ok(reached.number)
    }

    /// The logs by block, each block looked up and found to be the one the logs are of.
    async fn blocks_of(&self, logs: &[Log]) -> Result<Vec<(BlockRef, Vec<Log>)>, IndexError> {
        let mut by_number: BTreeMap<u64, Vec<Log>> = BTreeMap::new();
        for log in logs {
            by_number.entry(log.block_number).or_default().push(log.clone());
        }
        stream::iter(by_number)
            .map(|(number, logs)| async move {
                let block = self.canonical(number).await?;
                match logs.iter().any(|log| log.block_hash != block.hash) {
                    true => Err(IndexError::Unsettled { block: number }),
                    false => Ok((block, logs)),
                }
            })
            .buffered(REQUESTS_MAX)
            .try_collect()
            .await
    }

    async fn canonical(&self, number: u64) -> Result<BlockRef, IndexError> {
        self.rpc.block_by_number(number).await?.ok_or(IndexError::Unsettled { block: number })
    }
}
