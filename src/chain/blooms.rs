//! The log blooms of blocks that were read lately: what a node's own headers say about logs that it does not show.
//!
//! A bloom never says no to an emitter that logged (Ethereum yellow paper, 4.3.1), so an empty answer that it contradicts is
//! either a false alarm or a node that has the block and not yet its logs.
//!
//! Invariants: at most [`KEPT`]; a block without a known bloom raises no doubt.
//! Must not: decide what is true.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use alloy::primitives::{Bloom, BloomInput};

use crate::types::{B256, LogFilter};

/// Blocks between reading a header and reading its logs, with room.
const KEPT: usize = 1_024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Blooms(Mutex<VecDeque<(B256, Bloom)>>);

impl Blooms {
    pub(super) fn remember(&self, block: B256, bloom: Bloom) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.iter().rev().any(|(known, _)| *known == block) {
            return;
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((block, bloom));
    }

    /// Whether one of the emitters may have logged in this block.
    pub(super) fn speak_for(&self, block: B256, filter: &LogFilter) -> bool {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bloom = kept.iter().rev().find(|(known, _)| *known == block).map(|(_, bloom)| bloom);
        bloom.is_some_and(|bloom| {
            filter.addresses.iter().any(|emitter| bloom.contains_input(BloomInput::Raw(emitter.as_slice())))
        })
    }
}
