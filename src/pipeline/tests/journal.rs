//! The simulated journal: the executor's tables, the cache, episodes, findings and the lease, each method all or nothing,
//! with answers that can be lost before or after the commit.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::world::{JournalFault, LeaseRow, World};
use crate::{
    executor::ports::JournalPort,
    indexer::CacheStore,
    journal::{
        ActionId, ActionStatus, AheadPlan, AttemptId, AttemptKind, BroadcastOutcome, DeploymentId, Entered, EpisodeId,
        FindingChange, FirstSignature, IncludedReceipt, JournalError, NewAttempt, NewTransaction, PlanId,
        TransactionId, UnsettledTransaction,
    },
    pipeline::ports::PipelineJournal,
    positions::{Book, Change, Delta, Draft},
    recovery::{BalancedPlan, Tier, TierUse},
    scanner::{
        Condition,
        risk::{Moves, RiskReport},
        tests::dice::Dice,
    },
    types::{Address, BlockRef, SegmentId, U256, UnitKey},
};

type Answer<T> = Result<T, JournalError>;

/// One replica's connection.
#[derive(Clone)]
pub(super) struct SimJournal {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) replica: usize,
    /// The epoch that its writes are fenced by.
    pub(super) epoch: u64,
    pub(super) dice: Arc<Mutex<Dice>>,
}

fn down() -> JournalError {
    JournalError::Unavailable("simulated".to_owned())
}

fn enter_ahead(world: &mut World) -> Option<Entered> {
    let (segment, actions) = world.tables.executor.enter_ahead()?;
    Some(Entered { episode: world.tables.open_episode(segment), actions })
}

impl SimJournal {
    fn roll(&self, sides: u64) -> u64 {
        self.dice.lock().unwrap().below(sides)
    }

    async fn transact<T>(&self, name: &str, body: impl FnOnce(&mut World) -> Answer<T>) -> Answer<T> {
        tokio::time::sleep(Duration::from_millis(1 + self.roll(4))).await;
        let (luck, lost) = (self.roll(4), self.roll(2) == 0);
        let answer = {
            let mut world = self.world.lock().unwrap();
            match world.journal_fault {
                Some(JournalFault::Down) => return Err(down()),
                Some(JournalFault::Shaky) if luck == 0 && !lost => return Err(down()),
                fault => {
                    let answer = body(&mut world);
                    if let Err(error) = &answer {
                        world.note(format!("{name} of {}: {error}", self.replica));
                    }
                    if fault.is_some() && luck == 0 { Err(down()) } else { answer }
                }
            }
        };
        tokio::time::sleep(Duration::from_millis(1 + self.roll(4))).await;
        answer
    }

    /// A write that only the holder of the lease may do.
    async fn fenced<T>(&self, name: &str, body: impl FnOnce(&mut World) -> Answer<T>) -> Answer<T> {
        self.transact(name, |world| {
            let held = world.lease.is_some_and(|l| l.epoch == self.epoch && Instant::now() < l.expires_at);
            if held { body(world) } else { Err(JournalError::Conflict("the lease has changed hands".to_owned())) }
        })
        .await
    }

    pub(super) async fn acquire_lease(&self, lasts: Duration) -> Answer<Option<u64>> {
        self.transact("acquire_lease", |world| {
            let now = Instant::now();
            if world.lease.is_some_and(|lease| now < lease.expires_at) {
                return Ok(None);
            }
            let epoch = world.lease.map_or(0, |lease| lease.epoch) + 1;
            world.lease = Some(LeaseRow { holder: self.replica, epoch, expires_at: now + lasts });
            world.note(format!("replica {} holds epoch {epoch}", self.replica));
            Ok(Some(epoch))
        })
        .await
    }

    pub(super) async fn renew_lease(&self, lasts: Duration) -> Answer<bool> {
        self.transact("renew_lease", |world| {
            let now = Instant::now();
            let row = world.lease.as_mut().filter(|lease| lease.epoch == self.epoch && now < lease.expires_at);
            Ok(row.map(|row| row.expires_at = now + lasts).is_some())
        })
        .await
    }
}

impl JournalPort for SimJournal {
    async fn insert_plan(
        &self,
        _: DeploymentId,
        plan: &BalancedPlan,
        _: &str,
        dry_run: bool,
    ) -> Answer<(EpisodeId, PlanId, Vec<ActionId>)> {
        self.fenced("insert_plan", |world| {
            let (id, actions) = world.tables.executor.insert_plan(plan, dry_run)?;
            Ok((world.tables.open_episode(plan.segment()), id, actions))
        })
        .await
    }

    async fn write_ahead(
        &self,
        _: DeploymentId,
        plan: &AheadPlan<'_>,
        first: &[FirstSignature],
    ) -> Answer<Option<Vec<(TransactionId, AttemptId)>>> {
        self.fenced("write_ahead", |world| world.tables.executor.write_ahead(plan.plan, first)).await
    }

    async fn enter_ahead(&self, _: DeploymentId) -> Answer<Option<Entered>> {
        self.transact("enter_ahead", |world| Ok(enter_ahead(world))).await
    }

    async fn set_action_status(
        &self,
        actions: &[ActionId],
        status: ActionStatus,
        reason: Option<&str>,
        _: u64,
    ) -> Answer<()> {
        let set = |world: &mut World| world.tables.executor.set_action_status(actions, status, reason);
        self.transact("set_action_status", set).await
    }

    async fn abandon_unsigned(&self, _: DeploymentId, reason: &str, _: u64) -> Answer<u64> {
        let abandon = |world: &mut World| {
            enter_ahead(world);
            Ok(world.tables.executor.abandon_unsigned(reason))
        };
        self.transact("abandon_unsigned", abandon).await
    }

    async fn next_nonce(&self, _: u64, signer: Address) -> Answer<Option<u64>> {
        self.transact("next_nonce", |world| Ok(world.tables.executor.next_nonce(signer))).await
    }

    async fn create_transactions(
        &self,
        new: &[(NewTransaction, NewAttempt)],
    ) -> Answer<Vec<(TransactionId, AttemptId)>> {
        self.fenced("create_transactions", |world| world.tables.executor.create_transactions(new)).await
    }

    async fn add_attempt(&self, id: TransactionId, attempt: &NewAttempt, kind: AttemptKind) -> Answer<AttemptId> {
        self.fenced("add_attempt", |world| world.tables.executor.add_attempt(id, attempt, kind)).await
    }

    async fn mark_broadcasts(&self, said: &[(AttemptId, BroadcastOutcome)], _: u64) -> Answer<()> {
        self.transact("mark_broadcasts", |world| world.tables.executor.mark_broadcasts(said)).await
    }

    async fn mark_included(&self, id: TransactionId, attempt: AttemptId, receipt: &IncludedReceipt) -> Answer<()> {
        self.transact("mark_included", |world| world.tables.executor.mark_included(id, attempt, receipt)).await
    }

    async fn mark_reorged(&self, id: TransactionId) -> Answer<()> {
        self.transact("mark_reorged", |world| world.tables.executor.mark_reorged(id)).await
    }

    async fn mark_final(&self, id: TransactionId) -> Answer<()> {
        self.transact("mark_final", |world| world.tables.executor.mark_final(id)).await
    }

    async fn mark_superseded(&self, id: TransactionId, _: &str) -> Answer<()> {
        self.transact("mark_superseded", |world| world.tables.executor.mark_superseded(id)).await
    }

    async fn unsettled_transactions(&self, _: DeploymentId) -> Answer<Vec<UnsettledTransaction>> {
        self.transact("unsettled", |world| Ok(world.tables.executor.unsettled_transactions())).await
    }

    async fn spent_wei_within(&self, _: u64, _: Address, _: Duration) -> Answer<U256> {
        self.transact("spent_wei", |world| Ok(world.tables.executor.spent_wei())).await
    }
}

impl PipelineJournal for SimJournal {
    async fn standing_conditions(&self, _: DeploymentId) -> Answer<BTreeMap<UnitKey, Condition>> {
        self.transact("standing_conditions", |world| Ok(world.tables.conditions.clone())).await
    }

    async fn record_findings(&self, _: DeploymentId, _: &BlockRef, changes: &[FindingChange]) -> Answer<()> {
        self.transact("record_findings", |world| {
            for change in changes {
                match change.condition {
                    Condition::Healthy => world.tables.conditions.remove(&change.unit),
                    condition => world.tables.conditions.insert(change.unit.clone(), condition),
                };
            }
            Ok(())
        })
        .await
    }

    async fn record_refusal(&self, _: EpisodeId, _: &BlockRef, _: U256, _: &[String]) -> Answer<()> {
        self.transact("record_refusal", |_| Ok(())).await
    }

    async fn tier_use(
        &self,
        _: DeploymentId,
        _: SegmentId,
        _: Option<EpisodeId>,
        _: u64,
        _: u64,
    ) -> Answer<BTreeMap<Tier, TierUse>> {
        self.transact("tier_use", |_| Ok(BTreeMap::new())).await
    }

    async fn open_episode(&self, _: DeploymentId, segment: SegmentId, _: &BlockRef, _: &str) -> Answer<EpisodeId> {
        self.transact("open_episode", |world| Ok(world.tables.open_episode(segment))).await
    }

    async fn open_episodes(&self, _: DeploymentId) -> Answer<Vec<(EpisodeId, SegmentId)>> {
        self.transact("open_episodes", |world| {
            let open = world.tables.episodes.iter().filter(|(_, (open, _))| *open);
            Ok(open.map(|(id, (_, segment))| (*id, *segment)).collect())
        })
        .await
    }

    async fn close_episode(&self, episode: EpisodeId, _: &BlockRef) -> Answer<Value> {
        self.transact("close_episode", |world| {
            let row = world.tables.episodes.get_mut(&episode).unwrap();
            if !std::mem::replace(&mut row.0, false) {
                return Err(JournalError::Conflict("the episode is closed".to_owned()));
            }
            Ok(Value::Null)
        })
        .await
    }

    async fn outlay_wei_within(&self, _: DeploymentId, _: Duration) -> Answer<U256> {
        self.transact("outlay_wei", |_| Ok(U256::ZERO)).await
    }

    async fn risk_moves(&self, _: DeploymentId) -> Answer<Option<Moves>> {
        Ok(None)
    }

    async fn record_risk(&self, _: DeploymentId, _: (&Moves, &RiskReport), _: Duration) -> Answer<()> {
        Ok(())
    }
}

impl CacheStore for SimJournal {
    async fn load(&self) -> anyhow::Result<Option<(BlockRef, Book)>> {
        Ok(self.transact("load", |world| Ok(world.tables.cache.clone())).await?)
    }

    async fn commit(&self, block: &BlockRef, delta: &Delta) -> anyhow::Result<()> {
        let commit = |world: &mut World| {
            let stored = world.tables.cache.clone();
            let (at, mut book) = stored.map_or((None, Book::default()), |(at, book)| (Some(at), book));
            if at.is_some_and(|at| at.number > block.number) {
                return Err(JournalError::Conflict("the checkpoint goes down".to_owned()));
            }
            // As the database does: what stood there before is not asked for.
            let mut draft = Draft::new(&book);
            for change in delta.changes.iter().cloned() {
                match change {
                    Change::Unit { key, after, .. } => draft.set_unit(key, after.map(Arc::unwrap_or_clone)),
                    Change::Record { key, after, .. } => draft.set_record(key, after.map(Arc::unwrap_or_clone)),
                }
            }
            let upserted = draft.finish();
            book.apply(&upserted).unwrap();
            world.note_cache(block, &book);
            world.tables.cache = Some((*block, book));
            Ok(())
        };
        Ok(self.fenced("commit", commit).await?)
    }

    async fn reset(&self) -> anyhow::Result<()> {
        let reset = |world: &mut World| {
            world.tables.cache = None;
            world.note("cache forgotten");
            Ok(())
        };
        Ok(self.fenced("reset", reset).await?)
    }
}
