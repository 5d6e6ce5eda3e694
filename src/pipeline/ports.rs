//! What the loops ask of the journal beside what the executor asks of it. The consumer declares its port, so that the
//! whole pipeline can be played over a journal in memory.
//!
//! Must not: decide anything; the implementation below only forwards.

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use serde_json::Value;

use crate::{
    executor::ports::JournalPort,
    journal::{DeploymentId, EpisodeId, FindingChange, Journal, JournalError},
    recovery::{Tier, TierUse},
    scanner::{
        Condition,
        risk::{Moves, RiskReport},
    },
    types::{BlockRef, SegmentId, U256, UnitKey},
};

type Answer<T> = Result<T, JournalError>;

/// The journal, as the loops see it. Every write is one transaction: all of it happened or none.
pub trait PipelineJournal: JournalPort + Clone + 'static {
    /// Each unit's condition as it was found last, the healthy ones left out.
    fn standing_conditions(
        &self,
        deployment: DeploymentId,
    ) -> impl Future<Output = Answer<BTreeMap<UnitKey, Condition>>> + Send;

    /// Writes conditions that changed at a block.
    fn record_findings(
        &self,
        deployment: DeploymentId,
        block: &BlockRef,
        changes: &[FindingChange],
    ) -> impl Future<Output = Answer<()>> + Send;

    /// Writes that nothing can be done at a block, how much stays open, and why.
    fn record_refusal(
        &self,
        episode: EpisodeId,
        block: &BlockRef,
        residual: U256,
        reasons: &[String],
    ) -> impl Future<Output = Answer<()>> + Send;

    /// What a segment's tiers took before: in its episode, at this block, and when last, as far as cool-downs reach.
    fn tier_use(
        &self,
        deployment: DeploymentId,
        segment: SegmentId,
        episode: Option<EpisodeId>,
        block: u64,
        cooldown_blocks: u64,
    ) -> impl Future<Output = Answer<BTreeMap<Tier, TierUse>>> + Send;

    /// Opens a segment's episode, or gives the open one.
    fn open_episode(
        &self,
        deployment: DeploymentId,
        segment: SegmentId,
        block: &BlockRef,
        why: &str,
    ) -> impl Future<Output = Answer<EpisodeId>> + Send;

    /// The open episodes, with their segments.
    fn open_episodes(
        &self,
        deployment: DeploymentId,
    ) -> impl Future<Output = Answer<Vec<(EpisodeId, SegmentId)>>> + Send;

    /// Closes an episode with its account of who paid, and gives that back.
    fn close_episode(&self, episode: EpisodeId, block: &BlockRef) -> impl Future<Output = Answer<Value>> + Send;

    /// Wei laid out for actions within the last `window`, by the journal.
    fn outlay_wei_within(
        &self,
        deployment: DeploymentId,
        window: Duration,
    ) -> impl Future<Output = Answer<U256>> + Send;

    /// How prices moved, as an earlier process measured it.
    fn risk_moves(&self, deployment: DeploymentId) -> impl Future<Output = Answer<Option<Moves>>> + Send;

    /// Writes a risk report and how prices moved; reports older than `keep` go.
    fn record_risk(
        &self,
        deployment: DeploymentId,
        measured: (&Moves, &RiskReport),
        keep: Duration,
    ) -> impl Future<Output = Answer<()>> + Send;
}

impl PipelineJournal for Journal {
    async fn standing_conditions(&self, deployment: DeploymentId) -> Answer<BTreeMap<UnitKey, Condition>> {
        Journal::standing_conditions(self, deployment).await
    }

    async fn record_findings(
        &self,
        deployment: DeploymentId,
        block: &BlockRef,
        changes: &[FindingChange],
    ) -> Answer<()> {
        Journal::record_findings(self, deployment, block, changes).await
    }

    async fn record_refusal(
        &self,
        episode: EpisodeId,
        block: &BlockRef,
        residual: U256,
        reasons: &[String],
    ) -> Answer<()> {
        Journal::record_refusal(self, episode, block, residual, reasons).await
    }

    async fn tier_use(
        &self,
        deployment: DeploymentId,
        segment: SegmentId,
        episode: Option<EpisodeId>,
        block: u64,
        cooldown_blocks: u64,
    ) -> Answer<BTreeMap<Tier, TierUse>> {
        Journal::tier_use(self, deployment, segment, episode, block, cooldown_blocks).await
    }

    async fn open_episode(
        &self,
        deployment: DeploymentId,
        segment: SegmentId,
        block: &BlockRef,
        why: &str,
    ) -> Answer<EpisodeId> {
        Journal::open_episode(self, deployment, segment, block, why).await
    }

    async fn open_episodes(&self, deployment: DeploymentId) -> Answer<Vec<(EpisodeId, SegmentId)>> {
        let open = Journal::open_episodes(self, deployment).await?;
        Ok(open.into_iter().map(|(episode, segment, _)| (episode, segment)).collect())
    }

    async fn close_episode(&self, episode: EpisodeId, block: &BlockRef) -> Answer<Value> {
        let summary = self.episode_summary(episode).await?;
        Journal::close_episode(self, episode, block, &summary).await?;
        Ok(summary)
    }

    async fn outlay_wei_within(&self, deployment: DeploymentId, window: Duration) -> Answer<U256> {
        Journal::outlay_wei_since(self, deployment, Utc::now() - window).await
    }

    async fn risk_moves(&self, deployment: DeploymentId) -> Answer<Option<Moves>> {
        Journal::risk_moves(self, deployment).await
    }

    async fn record_risk(
        &self,
        deployment: DeploymentId,
        (moves, report): (&Moves, &RiskReport),
        keep: Duration,
    ) -> Answer<()> {
        Journal::record_risk(self, deployment, &report.block, (moves, report), keep).await
    }
}
