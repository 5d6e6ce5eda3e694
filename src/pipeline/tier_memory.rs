//! What each segment's tiers took before, read while nothing waits for it.
//!
//! Invariant: what is remembered was read when nothing was in flight, and is forgotten as soon as anything is sent or settled;
//! until then only this process could change it.

use std::collections::BTreeMap;

use super::{episodes::Episodes, ports::PipelineJournal};
use crate::{
    journal::{DeploymentId, EpisodeId, JournalError},
    recovery::{Tier, TierUse},
    types::{SegmentId, U256},
};

pub(super) struct TierMemory<J> {
    deployment: DeploymentId,
    journal: J,
    known: BTreeMap<SegmentId, Known>,
    /// Segments that were asked for, with how far back their cool-downs reached.
    asked: BTreeMap<SegmentId, u64>,
}

struct Known {
    episode: Option<EpisodeId>,
    block: u64,
    cooldown_blocks: u64,
    used: BTreeMap<Tier, TierUse>,
}

impl<J: PipelineJournal> TierMemory<J> {
    pub(super) fn new(deployment: DeploymentId, journal: J) -> Self {
        Self { deployment, journal, known: BTreeMap::new(), asked: BTreeMap::new() }
    }

    /// What the segment's tiers took in this episode, at this block, and when last: from memory where that is the journal's
    /// answer.
    pub(super) async fn of(
        &mut self,
        segment: SegmentId,
        episode: Option<EpisodeId>,
        block: u64,
        cooldown_blocks: u64,
    ) -> Result<BTreeMap<Tier, TierUse>, JournalError> {
        self.asked.insert(segment, cooldown_blocks);
        let known = self.known.get(&segment).filter(|known| {
            (known.episode, known.cooldown_blocks) == (episode, cooldown_blocks) && known.block < block
        });
        match known {
            // Nothing was done since the block it was read at, so nothing was done at this one.
            Some(known) => Ok(known.used.iter().map(|(tier, used)| (*tier, at_later_block(used))).collect()),
            None => self.journal.tier_use(self.deployment, segment, episode, block, cooldown_blocks).await,
        }
    }

    /// Something was sent or settled.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// Reads again what was forgotten. To be called when nothing is in flight; what cannot be read is read when it is asked for.
    pub(super) async fn look_ahead(&mut self, episodes: &Episodes<J>, block: u64) {
        for (segment, cooldown_blocks) in &self.asked {
            if self.known.contains_key(segment) {
                continue;
            }
            let episode = episodes.told(*segment);
            let used = self.journal.tier_use(self.deployment, *segment, episode, block, *cooldown_blocks).await;
            if let Ok(used) = used {
                let known = Known { episode, block, cooldown_blocks: *cooldown_blocks, used };
                self.known.insert(*segment, known);
            }
        }
    }
}

fn at_later_block(used: &TierUse) -> TierUse {
    TierUse { in_block: U256::ZERO, ..*used }
}
