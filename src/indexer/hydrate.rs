//! State that events do not carry: read at a block's hash after its logs, in the rounds that the adapter asks for.
//!
//! What the answers do is part of the block's own delta, so a reorganisation takes it back like everything else.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{CacheStore, IndexError, Indexer, follow::REQUESTS_MAX, trail::net};
use crate::{
    positions::{Book, Delta},
    protocols::{READ_ROUNDS_MAX, Read},
    types::{BlockRef, CallOutcome},
};

impl<S: CacheStore> Indexer<S> {
    /// The block's delta with what its reads add, and the book after it; `after` is the book with the delta alone.
    pub(super) async fn hydrated(
        &self,
        mut after: Book,
        block: &BlockRef,
        delta: Delta,
    ) -> Result<(Delta, Book), IndexError> {
        let cache = |source| IndexError::Cache { block: block.number, source };
        let mut deltas = vec![delta];
        for round in 0..READ_ROUNDS_MAX {
            let reads = self.adapter.reads(&after, block, round);
            if reads.is_empty() {
                let delta = if deltas.len() == 1 { deltas.remove(0) } else { net(&deltas) };
                return Ok((delta, after));
            }
            let answers = self.answers(reads, block).await?;
            let absorbed = self
                .adapter
                .absorb(&after, block, &answers)
                .map_err(|source| IndexError::Apply { block: block.number, source })?;
            after.apply(&absorbed).map_err(cache)?;
            deltas.push(absorbed);
        }
        Err(IndexError::ReadsUnsettled { block: block.number })
    }

    /// Each read with its answer, in order. No answer is an error: it says nothing about the chain.
    async fn answers(&self, reads: Vec<Read>, block: &BlockRef) -> Result<Vec<(Read, CallOutcome)>, IndexError> {
        let rpc = &self.rpc;
        let answered = stream::iter(reads)
            .map(|read| async move { rpc.call(&read.call, None, block.hash).await.map(|outcome| (read, outcome)) })
            .buffered(REQUESTS_MAX);
        Ok(answered.try_collect().await?)
    }
}
