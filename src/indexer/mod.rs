//! The indexer: keeps the position cache equal to the chain, block by block.
//!
//! Far behind, logs are read by ranges that a reorganisation can no longer reach; near the tip by block hash, every
//! block linked to the one below by its parent hash. A reorganisation takes changes back to the fork; one deeper than
//! that starts over. What is published is the state at the head; it is stored right after.
//!
//! Invariants: cache and checkpoint are stored in one transaction; a block is indexed only when all its logs were read
//! with the filter that its own changes ask for; the cache is at most one pass ahead of a store that refuses it; a
//! published block that left the chain is taken back before anything else is read; what is shown does not become lower.
//! Must not: know a protocol, value anything, decide anything, or take an error for a fact about the chain.

mod audit;
mod backfill;
mod error;
mod follow;
mod hydrate;
mod metrics;
mod store;
mod trail;

use std::sync::Arc;

use tokio::sync::watch;

pub use audit::{AuditReport, Auditor, Mismatch};
pub use error::IndexError;
pub use metrics::{IndexerMeter, IndexerMetrics};
pub use store::CacheStore;

use crate::{chain::Rpc, positions::Snapshot, protocols::Adapter, types::BlockRef};
use follow::Standing;
use trail::Trail;

/// How one deployment is indexed.
#[derive(Clone, Debug)]
pub struct IndexerSettings {
    /// The first block whose logs count: not later than the deployment's first transaction.
    pub start_block: u64,
    /// Deepest reorganisation that is undone, and the distance to the head that ranges keep; at least 1.
    pub reorg_depth_max: u64,
    /// Blocks read and committed at a time while far behind; at least 1.
    pub backfill_chunk_blocks: u64,
    /// Blocks between two audits; 0 audits never.
    pub audit_every_blocks: u64,
    /// Units an audit looks at.
    pub audit_units: usize,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing: the cache is at the head, or the node is behind the cache.
    Unchanged,
    /// The cache moved forward.
    Advanced {
        /// First block applied.
        from: u64,
        /// Last block applied.
        to: u64,
    },
    /// Blocks were taken back first.
    Reorged {
        /// How many.
        depth: u64,
        /// Where the cache is now.
        to: u64,
    },
    /// A reorganisation went deeper than can be undone; everything was read again.
    Resynced {
        /// Where the cache is now.
        to: u64,
    },
}

/// Follows the chain for one deployment.
pub struct Indexer<S> {
    rpc: Rpc,
    adapter: Arc<dyn Adapter>,
    store: S,
    settings: IndexerSettings,
    meter: IndexerMeter,
    trail: Trail,
    /// The checkpoint in the store.
    committed: Option<BlockRef>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    /// Height of the highest snapshot since the cache was begun.
    shown_max: u64,
}

impl<S: CacheStore> Indexer<S> {
    /// An indexer with an empty cache; [`Self::restore`] comes first.
    pub fn new(rpc: Rpc, adapter: Arc<dyn Adapter>, store: S, settings: IndexerSettings, meter: IndexerMeter) -> Self {
        let snapshots = watch::Sender::new(None);
        let trail = Trail::new(settings.reorg_depth_max);
        Self { rpc, adapter, store, settings, meter, trail, committed: None, snapshots, shown_max: 0 }
    }

    /// The cache at the head after each pass that moved it; `None` before the first one and while everything is read
    /// again.
    pub fn snapshots(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.snapshots.subscribe()
    }

    /// Holds the cache against the chain, apart from the passes.
    pub fn auditor(&self) -> Auditor {
        Auditor::new(self.rpc.clone(), self.adapter.clone(), &self.settings, self.meter.clone())
    }

    /// Takes up the stored cache, if its block is still on the chain; else begins at the first block.
    pub async fn restore(&mut self) -> Result<(), IndexError> {
        let Some((block, book)) = self.store.load().await.map_err(IndexError::Store)? else { return Ok(()) };
        match self.rpc.block_by_number(block.number).await? {
            Some(canonical) if canonical.hash == block.hash => {
                tracing::info!(block = block.number, units = book.unit_count(), "cache restored");
                self.trail.begin(block, book);
                (self.committed, self.shown_max) = (Some(block), block.number);
                self.meter.indexed(block.number);
                Ok(())
            }
            Some(canonical) => {
                tracing::warn!(block = block.number, stored = %block.hash, canonical = %canonical.hash,
                    "stored cache is of another branch, indexing from the first block");
                self.forget().await
            }
            // No block there yet is no proof against the cache.
            None => {
                let head = self.rpc.head().await?.number;
                Err(IndexError::NodeBehind { head, checkpoint: block.number })
            }
        }
    }

    /// One pass: brings the cache to the head and publishes it; [`Self::store`] stores it. After an error the next pass takes up
    /// where this one stopped. A head that the preferred node has pushed is not asked for where it is next to the tip.
    pub async fn advance_to(&mut self, pushed: Option<BlockRef>) -> Result<Progress, IndexError> {
        let next = |head: &BlockRef| self.trail.tip().is_some_and(|tip| tip.hash == head.parent_hash);
        let progress = self.pass(pushed.filter(next)).await;
        if progress.is_err() {
            self.meter.failed();
        }
        progress
    }

    async fn pass(&mut self, pushed: Option<BlockRef>) -> Result<Progress, IndexError> {
        // What an earlier pass could not store comes before anything new.
        self.commit().await?;
        let head = self.rpc.head_at(pushed).await?;
        self.meter.head(head.number);
        let standing = self.stand(&head).await?;
        match standing {
            Standing::NodeBehind => {
                tracing::debug!(head = head.number, "node is behind the cache");
                return Ok(Progress::Unchanged);
            }
            Standing::OnBranch => {}
            Standing::Forked { ancestor } => self.step_back_to(ancestor)?,
            Standing::TooDeep => {
                tracing::error!(head = head.number, "reorganisation too deep to undo, indexing from the first block");
                self.forget().await?;
            }
        }
        let next = self.next_number();
        let head = self.backfill(head).await?;
        self.follow(&head).await?;
        self.publish(&head);
        Ok(match (standing, self.trail.tip()) {
            (Standing::Forked { .. }, Some(tip)) => {
                Progress::Reorged { depth: self.trail.last_fork_depth(), to: tip.number }
            }
            (Standing::TooDeep, Some(tip)) => Progress::Resynced { to: tip.number },
            (_, Some(tip)) if tip.number >= next => Progress::Advanced { from: next, to: tip.number },
            _ => Progress::Unchanged,
        })
    }

    /// One pass, stored.
    pub async fn advance(&mut self) -> Result<Progress, IndexError> {
        let progress = self.advance_to(None).await?;
        self.store().await?;
        Ok(progress)
    }

    /// Stores what the latest pass published. Nobody waits for it: what is shown and not stored is read from the chain again,
    /// should we die. The next pass does it first where this was not done.
    pub async fn store(&mut self) -> Result<(), IndexError> {
        let stored = self.commit().await;
        if stored.is_err() {
            self.meter.failed();
        }
        stored
    }

    /// The block to be applied next.
    fn next_number(&self) -> u64 {
        self.trail.tip().map_or(self.settings.start_block, |tip| tip.number + 1)
    }

    /// Stores what changed since the checkpoint. After a reorganisation to a lower block this waits until the chain is
    /// as high again: a checkpoint never moves down, so that a process left behind cannot move it back.
    async fn commit(&mut self) -> Result<(), IndexError> {
        let Some(tip) = self.trail.tip() else { return Ok(()) };
        if self.committed.is_some_and(|block| block == tip || block.number > tip.number) {
            return Ok(());
        }
        self.store.commit(&tip, &self.trail.uncommitted()).await.map_err(IndexError::Store)?;
        self.trail.mark_committed();
        self.committed = Some(tip);
        self.meter.indexed(tip.number);
        Ok(())
    }

    /// Shows the cache to the later stages, if it is at the head and not below what was shown before: a lower branch may be
    /// that of a node which is behind, and what was final on the other one would be done again.
    fn publish(&mut self, head: &BlockRef) {
        let least = head.number.max(self.shown_max);
        let Some(tip) = self.trail.tip().filter(|tip| tip.number >= least) else { return };
        self.shown_max = tip.number;
        self.snapshots.send_if_modified(|current| {
            let moved = current.as_ref().is_none_or(|snapshot| snapshot.block != tip);
            if moved {
                *current = Some(Arc::new(Snapshot { block: tip, book: self.trail.book().clone() }));
            }
            moved
        });
    }

    /// Drops a cache that was found wrong; the next pass reads everything again.
    pub async fn rebuild(&mut self) -> Result<(), IndexError> {
        self.forget().await
    }

    /// Drops the cache, stored first, so that everything is read again from the first block.
    async fn forget(&mut self) -> Result<(), IndexError> {
        self.snapshots.send_replace(None);
        self.store.reset().await.map_err(IndexError::Store)?;
        self.trail = Trail::new(self.settings.reorg_depth_max);
        (self.committed, self.shown_max) = (None, 0);
        self.meter.resynced();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
