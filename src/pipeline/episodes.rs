//! Episodes: all of one segment's trouble, from the first plan to the last transaction.

use std::collections::{BTreeMap, BTreeSet};

use tracing::info;

use super::ports::PipelineJournal;
use crate::{
    journal::{DeploymentId, EpisodeId, JournalError},
    types::{BlockRef, SegmentId},
};

/// The open episodes of one deployment, as the journal has them.
pub(super) struct Episodes<J> {
    deployment: DeploymentId,
    journal: J,
    /// `None` until read from the journal.
    open: Option<BTreeMap<SegmentId, EpisodeId>>,
}

impl<J: PipelineJournal> Episodes<J> {
    pub(super) fn new(deployment: DeploymentId, journal: J) -> Self {
        Self { deployment, journal, open: None }
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.as_ref().map_or(0, BTreeMap::len)
    }

    /// The segment's open episode, if it has one.
    pub(super) async fn standing(&mut self, segment: SegmentId) -> Result<Option<EpisodeId>, JournalError> {
        Ok(self.known().await?.get(&segment).copied())
    }

    /// The same as far as it is known.
    pub(super) fn told(&self, segment: SegmentId) -> Option<EpisodeId> {
        self.open.as_ref()?.get(&segment).copied()
    }

    /// The segment's open episode, or a new one.
    pub(super) async fn open(
        &mut self,
        segment: SegmentId,
        block: &BlockRef,
        why: &str,
    ) -> Result<EpisodeId, JournalError> {
        if let Some(episode) = self.known().await?.get(&segment) {
            return Ok(*episode);
        }
        let opened = self.journal.open_episode(self.deployment, segment, block, why).await;
        let episode = self.or_look_again(opened)?;
        self.took(segment, Some(episode), block, why);
        Ok(episode)
    }

    /// Takes note of the episode that something was written under, if anything was.
    pub(super) fn took(&mut self, segment: SegmentId, episode: Option<EpisodeId>, block: &BlockRef, why: &str) {
        let (Some(episode), Some(open)) = (episode, &mut self.open) else { return };
        if open.insert(segment, episode) != Some(episode) {
            info!(%segment, block = block.number, why, "episode opened");
        }
    }

    /// Closes the episodes of segments with neither distressed units nor transactions in flight, each with its account
    /// of who paid.
    pub(super) async fn close_all_but(
        &mut self,
        troubled: &BTreeSet<SegmentId>,
        busy: &BTreeSet<SegmentId>,
        block: &BlockRef,
    ) -> Result<(), JournalError> {
        let over: Vec<(SegmentId, EpisodeId)> = self
            .known()
            .await?
            .iter()
            .filter(|(segment, _)| !troubled.contains(segment) && !busy.contains(segment))
            .map(|(segment, episode)| (*segment, *episode))
            .collect();
        for (segment, episode) in over {
            let closed = self.journal.close_episode(episode, block).await;
            let summary = self.or_look_again(closed)?;
            info!(%segment, block = block.number, %summary, "episode closed");
            self.open.get_or_insert_default().remove(&segment);
        }
        Ok(())
    }

    /// An answer, after whose loss nobody knows which episodes are open: they are read again.
    pub(super) fn or_look_again<T, E>(&mut self, answer: Result<T, E>) -> Result<T, E> {
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    async fn known(&mut self) -> Result<&BTreeMap<SegmentId, EpisodeId>, JournalError> {
        if self.open.is_none() {
            let stored = self.journal.open_episodes(self.deployment).await?;
            self.open = Some(stored.into_iter().map(|(episode, segment)| (segment, episode)).collect());
        }
        Ok(self.open.get_or_insert_default())
    }
}
