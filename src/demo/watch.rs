//! Follows the chain for the demo: every block's logs into the audit, every account into the census.
//!
//! Invariants: blocks are read in order, none is skipped, and each block's parent is the block before it.
//! Must not: send anything.

use anyhow::{Context, Result, ensure};

use super::{
    audit::Audit,
    census::{Census, Count},
    node::Node,
    venue::Venue,
};
use crate::types::BlockRef;

/// The demo's own view of the chain.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    node: &'a Node,
    venue: &'a Venue,
    /// The books as the logs tell them.
    pub(super) audit: Audit,
    /// The accounts as the venue shows them.
    pub(super) census: Census,
    /// How the accounts stood at the last block.
    pub(super) count: Count,
    block: BlockRef,
}

impl<'a> Watch<'a> {
    /// Reads the chain from its first block to the head, without looking at the accounts on the way: nothing of interest
    /// happens before the story begins.
    pub(super) async fn start(node: &'a Node, venue: &'a Venue) -> Result<Self> {
        let genesis = node.block(0).await?.context("the chain has no first block")?;
        let audit = Audit::new(venue.clearinghouse);
        let mut watch = Self { node, venue, audit, census: Census::default(), count: Count::default(), block: genesis };
        let head = node.head().await?.number;
        while watch.block.number < head {
            watch.read_next().await?;
        }
        watch.look().await?;
        Ok(watch)
    }

    /// The last block that was read.
    pub(super) fn block(&self) -> &BlockRef {
        &self.block
    }

    /// Reads and looks at the blocks up to the head; whether there were any.
    pub(super) async fn advance(&mut self) -> Result<bool> {
        let head = self.node.head().await?.number;
        let any = self.block.number < head;
        while self.block.number < head {
            self.read_next().await?;
            self.look().await?;
        }
        Ok(any)
    }

    async fn read_next(&mut self) -> Result<()> {
        let number = self.block.number + 1;
        let next = self.node.block(number).await?.with_context(|| format!("block {number} is missing"))?;
        ensure!(next.parent_hash == self.block.hash, "block {number} does not follow the block that was read before");
        let logs = self.node.logs(next.hash).await?;
        self.audit.block(next.timestamp, &logs).with_context(|| format!("audit block {number}"))?;
        self.block = next;
        Ok(())
    }

    async fn look(&mut self) -> Result<()> {
        let books = self.audit.books();
        self.count =
            self.census.take(self.node, self.venue, &self.block, books).await.context("look at the accounts")?;
        Ok(())
    }
}
