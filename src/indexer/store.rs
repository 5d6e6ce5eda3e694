//! Where the cache is kept between runs.

use std::future::Future;

use crate::{
    positions::{Book, Delta},
    types::BlockRef,
};

/// A store of one deployment's cache and checkpoint.
pub trait CacheStore: Send + Sync {
    /// The cache as last committed, with the block whose state it is.
    fn load(&self) -> impl Future<Output = anyhow::Result<Option<(BlockRef, Book)>>> + Send;

    /// Applies the net change since the last commit and moves the checkpoint to `block`, in one transaction. The same
    /// commit may come twice, if the first one's answer was lost. `block` is never below the checkpoint.
    fn commit(&self, block: &BlockRef, delta: &Delta) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Forgets cache and checkpoint.
    fn reset(&self) -> impl Future<Output = anyhow::Result<()>> + Send;
}
