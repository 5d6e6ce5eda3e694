//! Why a pass stopped.

use crate::{
    chain::{ErrorClass, RpcError},
    positions::BookError,
    protocols::ApplyError,
};

/// A pass that did not reach the head.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The node did not answer.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// The store refused; the cache waits for it.
    #[error("the cache could not be stored or loaded: {0:#}")]
    Store(anyhow::Error),
    /// The node has not reached the stored checkpoint: it is behind, or it is of another chain.
    #[error("the node's head {head} is below the stored checkpoint {checkpoint}: wait for it, or it is another chain")]
    NodeBehind {
        /// The node's head.
        head: u64,
        /// The stored block.
        checkpoint: u64,
    },
    /// The chain changed under a pass; the next one sees what it is now.
    #[error("the chain changed around block {block} while it was read")]
    Unsettled {
        /// Where.
        block: u64,
    },
    /// The adapter refused a block's logs. The block is not indexed.
    #[error("block {block}: {source}")]
    Apply {
        /// Which block.
        block: u64,
        /// Why.
        source: ApplyError,
    },
    /// The adapter made a change from another state than the cache's.
    #[error("block {block}: {source}")]
    Cache {
        /// Which block.
        block: u64,
        /// Why.
        source: BookError,
    },
    /// A block's reads kept asking for more.
    #[error("block {block}: what the adapter wants to read does not settle")]
    ReadsUnsettled {
        /// Which block.
        block: u64,
    },
    /// A block kept asking for more emitters each time it was read again.
    #[error("block {block}: the set of wanted emitters does not settle")]
    FilterUnsettled {
        /// Which block.
        block: u64,
    },
}

impl IndexError {
    /// Whether the next pass may succeed without anybody's help.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Rpc(error) => error.class(),
            Self::Store(_) | Self::NodeBehind { .. } | Self::Unsettled { .. } => ErrorClass::Retry,
            Self::Apply { .. } | Self::Cache { .. } | Self::ReadsUnsettled { .. } | Self::FilterUnsettled { .. } => {
                ErrorClass::Terminal
            }
        }
    }
}
