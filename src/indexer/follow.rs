//! Near the tip: block by block, linked by parent hash, back to the fork where the chain reorganised.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{CacheStore, IndexError, Indexer};
use crate::{
    positions::{Book, Delta},
    protocols::Applied,
    types::{Address, BlockRef, Log, LogFilter},
};

/// Requests under way at once: enough to hide the distance to the node, few enough for a shared one.
pub(super) const REQUESTS_MAX: usize = 8;
/// How often one block is read again because its changes ask for more emitters.
const FILTER_ROUNDS_MAX: usize = 8;

/// Where the cache stands to the node's head.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing {
    /// The tip is an ancestor of the head, or the head itself, or there is no tip yet.
    OnBranch,
    /// The head is an ancestor of the tip, or below all that is remembered: nothing to learn from this node now.
    NodeBehind,
    /// The branches part above this block.
    Forked {
        /// The highest block both have.
        ancestor: BlockRef,
    },
    /// The branches part below all that can be taken back.
    TooDeep,
}

impl<S: CacheStore> Indexer<S> {
    pub(super) async fn stand(&self, head: &BlockRef) -> Result<Standing, IndexError> {
        let Some(tip) = self.trail.tip() else { return Ok(Standing::OnBranch) };
        if head.hash == tip.hash || head.parent_hash == tip.hash {
            return Ok(Standing::OnBranch);
        }
        let floor = self.trail.floor().unwrap_or(tip.number);
        let remembered = self.trail.hash_at(head.number);
        if head.number < tip.number && (remembered == Some(head.hash) || head.number < floor) {
            return Ok(Standing::NodeBehind);
        }
        for number in (floor..=tip.number.min(head.number)).rev() {
            let Some(canonical) = self.rpc.block_by_number(number).await? else {
                return Err(IndexError::Unsettled { block: number });
            };
            if self.trail.hash_at(number) == Some(canonical.hash) {
                let forked = number < tip.number;
                return Ok(if forked { Standing::Forked { ancestor: canonical } } else { Standing::OnBranch });
            }
        }
        Ok(Standing::TooDeep)
    }

    /// Takes back the blocks above the fork. Nothing is shown until others stand in their place.
    pub(super) fn step_back_to(&mut self, ancestor: BlockRef) -> Result<(), IndexError> {
        self.snapshots.send_replace(None);
        self.trail.step_back_to(ancestor).map_err(|source| IndexError::Cache { block: ancestor.number, source })?;
        let depth = self.trail.last_fork_depth();
        self.meter.reorged(depth);
        tracing::info!(ancestor = ancestor.number, depth, "chain reorganised, changes taken back");
        Ok(())
    }

    /// Applies the blocks above the tip up to the head, as far as they are linked to it.
    pub(super) async fn follow(&mut self, head: &BlockRef) -> Result<(), IndexError> {
        let mut blocks = self.linked_blocks(self.next_number(), head).await?;
        while !blocks.is_empty() {
            let filter = Arc::new(self.adapter.filter(self.trail.book()));
            let (rpc, wanted) = (self.rpc.clone(), filter.clone());
            let mut logs = stream::iter(blocks.clone())
                .map(move |block| {
                    let (rpc, wanted) = (rpc.clone(), wanted.clone());
                    async move { rpc.logs_of_block(block.hash, &wanted).await.map(|logs| (block, logs)) }
                })
                .buffered(REQUESTS_MAX);
            let mut applied = 0;
            while let Some((block, logs)) = logs.try_next().await? {
                let step = self.step_of(self.trail.book(), &block, logs, &filter).await?;
                let (delta, after) = self.hydrated(step.after, &block, step.delta).await?;
                self.trail.step(block, delta, after);
                applied += 1;
                // An emitter that an answer makes wanted counts from the next block on.
                if step.filter_changed || self.adapter.filter(self.trail.book()) != *filter {
                    break;
                }
            }
            blocks.drain(..applied);
        }
        Ok(())
    }

    /// The canonical blocks from this height to the head, cut off where they stop being linked to each other.
    async fn linked_blocks(&self, from: u64, head: &BlockRef) -> Result<Vec<BlockRef>, IndexError> {
        let rpc = &self.rpc;
        let fetched: Vec<Option<BlockRef>> = stream::iter(from..head.number)
            .map(|number| rpc.block_by_number(number))
            .buffered(REQUESTS_MAX)
            .try_collect()
            .await?;
        let mut below = self.trail.tip().map(|tip| tip.hash);
        let mut linked = Vec::with_capacity(fetched.len());
        let blocks = fetched.into_iter().flatten().chain((head.number >= from).then_some(*head));
        for block in blocks {
            if below.is_some_and(|hash| hash != block.parent_hash) {
                return if linked.is_empty() { Err(IndexError::Unsettled { block: block.number }) } else { Ok(linked) };
            }
            below = Some(block.hash);
            linked.push(block);
        }
        Ok(linked)
    }

    /// What a block's logs do to this book. Where they make the adapter want more emitters, the block is read again
    /// with those, and again, until its own changes ask for no more. An emitter counts from the log on that made it
    /// wanted, just as it does where that log stands in a block of its own.
    pub(super) async fn step_of(
        &self,
        book: &Book,
        block: &BlockRef,
        mut logs: Vec<Log>,
        filter: &LogFilter,
    ) -> Result<Step, IndexError> {
        let mut read = filter.clone();
        let mut wanted_since = BTreeMap::new();
        for _ in 0..FILTER_ROUNDS_MAX {
            // Most blocks have nothing for us.
            if logs.is_empty() {
                let (delta, after) = (Delta::default(), book.clone());
                return Ok(Step { delta, after, filter_changed: read != *filter });
            }
            let (applied, after, wanted) = self.try_logs(book, block, &logs)?;
            let added: Vec<_> = wanted.addresses.iter().filter(|address| !contains(&read, address)).copied().collect();
            if added.is_empty() {
                self.meter.applied(logs.len(), applied.unknown_events);
                if applied.unknown_events > 0 {
                    tracing::debug!(block = block.number, events = applied.unknown_events, "unknown events");
                }
                return Ok(Step { delta: applied.delta, after, filter_changed: wanted != *filter });
            }
            for address in &added {
                wanted_since.insert(*address, self.log_that_adds(address, book, block, &logs)?);
            }
            read = LogFilter::of(read.addresses.into_iter().chain(added));
            logs = self.rpc.logs_of_block(block.hash, &read).await?;
            logs.retain(|log| wanted_since.get(&log.address).is_none_or(|since| log.log_index > *since));
        }
        Err(IndexError::FilterUnsettled { block: block.number })
    }

    /// What the logs do, the book after them, and which emitters are wanted then.
    fn try_logs(&self, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<(Applied, Book, LogFilter), IndexError> {
        let number = block.number;
        let applied =
            self.adapter.apply(book, block, logs).map_err(|source| IndexError::Apply { block: number, source })?;
        let mut after = book.clone();
        after.apply(&applied.delta).map_err(|source| IndexError::Cache { block: number, source })?;
        let wanted = self.adapter.filter(&after);
        Ok((applied, after, wanted))
    }

    /// Index of the log that makes this emitter wanted; the block's last if only all of them together do.
    fn log_that_adds(&self, emitter: &Address, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<u64, IndexError> {
        for (at, log) in logs.iter().enumerate() {
            let (_, _, wanted) = self.try_logs(book, block, &logs[..=at])?;
            if contains(&wanted, emitter) {
                return Ok(log.log_index);
            }
        }
        Ok(logs.last().map_or(0, |log| log.log_index))
    }
}

fn contains(filter: &LogFilter, address: &Address) -> bool {
    filter.addresses.binary_search(address).is_ok()
}

/// What one block does.
pub(super) struct Step {
    pub(super) delta: Delta,
    /// The book with it.
    pub(super) after: Book,
    /// Whether the blocks above need other logs than this filter gives.
    pub(super) filter_changed: bool,
}
