//! A signer's lane: where its nonces go on, what gas costs, and whether anything can follow what is under way.
//!
//! Must not: sign, send, or keep a counter.

use super::{
    Executor, ExecutorError,
    ports::{ChainPort, JournalPort},
};
use crate::{
    alerts::AlertKind,
    chain::FeeQuote,
    types::{BlockRef, U256},
};

/// What was looked up before it was needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneAhead {
    /// The head at that time.
    pub(super) block: u64,
    /// What gas cost.
    pub(super) quote: FeeQuote,
    /// Where the lane went on.
    pub(super) start: LaneStart,
}

/// Where a signer's lane goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneStart {
    /// The next nonce.
    pub(super) nonce: u64,
    /// What the hour has cost and what is in flight may still cost, wei.
    pub(super) committed_wei: U256,
}

impl<C: ChainPort, J: JournalPort> Executor<C, J> {
    /// Where the lane goes on after this head, as long as nobody else uses the key.
    pub(super) async fn ahead(&self, head: &BlockRef) -> Result<LaneAhead, ExecutorError> {
        let fees = async { Ok(self.parts.chain.fees().await?) };
        let (quote, start) = tokio::try_join!(fees, self.lane_start())?;
        Ok(LaneAhead { block: head.number, quote, start })
    }

    /// Where the next signatures begin.
    pub(super) async fn lane_start(&self) -> Result<LaneStart, ExecutorError> {
        let (chain_id, keeper) = (self.parts.gate.chain_id(), self.parts.gate.address());
        let nonce = async { self.nonce_from(self.parts.journal.next_nonce(chain_id, keeper).await?).await };
        let (nonce, committed_wei) = tokio::try_join!(nonce, self.committed_wei(None))?;
        Ok(LaneStart { nonce, committed_wei })
    }

    /// The nonce after everything the journal holds and everything the chain has. There is no other counter.
    async fn nonce_from(&self, journal: Option<u64>) -> Result<u64, ExecutorError> {
        let chain = self.parts.chain.nonce(self.parts.gate.address()).await?;
        match journal {
            Some(journal) if chain > journal => {
                tracing::error!(deployment = %self.deployment.name, journal, chain, "keeper's key was used by somebody else");
                let detail = format!("the journal's next nonce is {journal}, the chain's is {chain}");
                self.raise(AlertKind::ForeignNonce, "", detail);
                Ok(chain)
            }
            Some(journal) => Ok(journal),
            None => Ok(chain),
        }
    }

    /// Whether something in flight is so old that a further nonce would only wait behind it.
    pub(super) fn lane_stuck(&self, head: &BlockRef) -> bool {
        let patience = self.settings.settle.cancel_after_blocks;
        self.in_flight
            .values()
            .any(|t| t.included_block.is_none() && head.number.saturating_sub(t.planned_block) > patience)
    }
}
