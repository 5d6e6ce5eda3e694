//! From a plan to transactions on the wire: prove and write down, sign, write down, send. In this order, always.

use std::{ops::Range, time::Duration};

use super::{
    Executor, ExecutorError, InFlight,
    fees::{self, Fees, Gas},
    gate::{Audience, GateError, GateRefusal, Journalled, Request, Signed},
    metrics::Outcome,
    ports::{ChainPort, JournalPort},
    prove::{Candidate, ProofLimits, Proven, prove},
    steps,
};
use crate::{
    alerts::AlertKind,
    chain::{FeeQuote, SendError},
    journal::{ActionId, ActionStatus, BroadcastOutcome, EpisodeId, JournalError, Touches, TransactionId},
    protocols::{BuildError, Disposition, Parties, Refusal},
    recovery::BalancedPlan,
    types::{B256, BlockRef, Call, U256},
};

/// The spending limit's window.
pub(super) const SPEND_WINDOW: Duration = Duration::from_secs(3_600);
/// How often nonces that another deployment took meanwhile are chosen anew.
const NONCE_TRIES: usize = 3;
/// Most transactions written down together before the first of them is sent.
const WRITE_AHEAD_MAX: usize = 32;
/// Broadcasts under way at once.
const BROADCASTS_MAX: usize = 8;

/// A transaction that simulation found good, with the rows of its steps.
#[derive(Clone, Debug)]
struct Ready {
    actions: Vec<ActionId>,
    call: Call,
    touches: Touches,
    gas: Gas,
}

/// A first signature with what it carries and touches.
type First = (Signed, Vec<ActionId>, Touches);
/// What was written down, and what the gate refused with everything behind it.
type Written = (Vec<(Sent, Journalled)>, Option<(GateRefusal, Vec<Ready>)>);

/// What became of a plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Executed {
    /// The episode that the plan was written under, if it was written.
    pub episode: Option<EpisodeId>,
    /// On the wire, or perhaps on the wire: settlement follows them.
    pub sent: Vec<Sent>,
    /// Refused before they were signed.
    pub refused: Vec<Refused>,
    /// Given up for this block without fault of their own; the next plan may take them up.
    pub held_back: Vec<ActionId>,
}

/// A transaction that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its row.
    pub transaction: TransactionId,
    /// Its first attempt's hash.
    pub hash: B256,
    /// Its nonce.
    pub nonce: u64,
    /// What it carries.
    pub actions: Vec<ActionId>,
}

/// Actions that were refused together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub actions: Vec<ActionId>,
    /// Why.
    pub refusal: Refusal,
}

/// What was looked up before it was needed.
#[derive(Clone, Copy, Debug)]
pub(super) struct LaneAhead {
    /// The head at that time.
    pub(super) block: u64,
    /// What gas cost.
    quote: FeeQuote,
    /// The journal's next nonce.
    next: Option<u64>,
    /// What the hour had cost, wei.
    committed_wei: U256,
}

/// Where a signer's lane goes on.
#[derive(Clone, Copy, Debug)]
struct LaneStart {
    /// The next nonce.
    nonce: u64,
    /// What the hour has cost and what is in flight may still cost, wei.
    committed_wei: U256,
}

/// What a broadcast says about the ones after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The next nonce can follow.
    Free,
    /// The next nonce would wait behind this one.
    Held,
}

/// The leading transactions that fit one block together, the first one in any case, and the actions of the rest: what waits
/// in the pool for a later block would execute on prices that nobody planned for. A block has room for a transaction whose
/// gas limit is no more than what those before it leave, and they leave what they do not use (execution specifications,
/// `check_transaction`).
fn fit_block(ready: Vec<Ready>, gas_max: u64) -> (Vec<Ready>, Vec<ActionId>) {
    let mut used = 0u64;
    let (mut fitting, mut beyond) = (Vec::new(), Vec::new());
    for one in ready {
        if fitting.is_empty() || (beyond.is_empty() && used.saturating_add(one.gas.limit) <= gas_max) {
            used = used.saturating_add(one.gas.used);
            fitting.push(one);
        } else {
            beyond.extend(one.actions);
        }
    }
    (fitting, beyond)
}

impl<C: ChainPort, J: JournalPort> Executor<C, J> {
    /// Carries a plan out as far as this block allows, in the segment's open episode or one that opens for this cause. To be
    /// called after [`Executor::settle`] for the same head, with a plan that leaves [`Executor::reservations`] alone. An
    /// error leaves nothing half-done: what was signed is in the journal and settled later, what was not is given up on the
    /// next pass.
    pub async fn execute(
        &mut self,
        head: &BlockRef,
        cause: &str,
        plan: &BalancedPlan,
    ) -> Result<Executed, ExecutorError> {
        let dry_run = self.parts.gate.dry_run();
        let seen = dry_run && self.dry_run_last.get(&plan.segment()).is_some_and(|last| last == plan.steps());
        if plan.steps().is_empty() || seen || self.lane_stuck(head) {
            return Ok(Executed::default());
        }
        if self.unswept {
            self.sweep(head).await?;
        }
        // Of use for one plan: it takes the nonce.
        let ahead =
            self.lane_ahead.take().filter(|ahead| self.is_idle() && head.number <= ahead.block.saturating_add(1));
        let (candidates, unfit) = self.candidates(plan);
        // Whatever fails from here on may leave planned actions behind, an insert whose answer was lost not least.
        self.unswept = true;
        // The plan is written down while it is tried, and the lane looked up: nothing is signed before all three are done.
        let lane = async {
            match ahead {
                _ if dry_run => Ok(None),
                Some(ahead) => self.lane_from(ahead).await.map(Some),
                None => self.lane_from(self.ahead(head).await?).await.map(Some),
            }
        };
        let insert = async {
            // What the node is asked leaves first: it takes longer, and encoding a plan is work.
            tokio::task::yield_now().await;
            self.parts.journal.insert_plan(self.deployment.id, plan, cause, dry_run).await
        };
        let (proven, lane, inserted) = tokio::join!(self.prove(head, plan, candidates), lane, insert);
        let (episode, _, actions) = match inserted {
            Ok(inserted) => inserted,
            Err(JournalError::Conflict(why)) => {
                tracing::warn!(deployment = %self.deployment.name, segment = %plan.segment(), why, "plan overlaps open actions");
                return Ok(Executed::default());
            }
            Err(error) => return Err(error.into()),
        };
        if actions.len() != plan.steps().len() {
            return Err(ExecutorError::Answer(format!("{} actions for {} steps", actions.len(), plan.steps().len())));
        }
        let mut proven = proven?;
        proven.refused.splice(..0, unfit);
        let mut executed = Executed { episode: Some(episode), ..Executed::default() };
        let ready = self.sort_out(head, &actions, proven, &mut executed).await?;
        if !ready.is_empty() {
            match lane? {
                Some(lane) => self.send_all(head, ready, lane, &mut executed).await?,
                None => self.end_dry_run(head, ready).await?,
            }
        }
        self.unswept = false;
        if dry_run {
            self.dry_run_last.insert(plan.segment(), plan.steps().to_vec());
        }
        Ok(executed)
    }

    async fn prove<'p>(
        &self,
        head: &BlockRef,
        plan: &BalancedPlan,
        candidates: Vec<Candidate<'p>>,
    ) -> Result<Proven<'p>, ExecutorError> {
        let limits = ProofLimits {
            transactions_max: self.settings.actions_per_block_max,
            tx_gas_max: self.settings.fees.tx_gas_max,
            fresh: plan.block().hash == head.hash,
        };
        let parts = &self.parts;
        prove(&parts.chain, parts.adapter.as_ref(), &self.book, &parts.gate, head, candidates, limits).await
    }

    /// What can be known of the lane before it is needed.
    pub(super) async fn ahead(&self, head: &BlockRef) -> Result<LaneAhead, ExecutorError> {
        let (chain_id, keeper) = (self.parts.gate.chain_id(), self.parts.gate.address());
        let next = async { Ok(self.parts.journal.next_nonce(chain_id, keeper).await?) };
        let fees = async { Ok(self.parts.chain.fees().await?) };
        let (quote, next, committed_wei) = tokio::try_join!(fees, next, self.committed_wei(None))?;
        Ok(LaneAhead { block: head.number, quote, next, committed_wei })
    }

    /// What gas costs and where the lane goes on, by what the journal said and the chain says now.
    async fn lane_from(&self, ahead: LaneAhead) -> Result<(FeeQuote, LaneStart), ExecutorError> {
        let nonce = self.nonce_from(ahead.next).await?;
        Ok((ahead.quote, LaneStart { nonce, committed_wei: ahead.committed_wei }))
    }

    /// Writes down what the proof refused and what must wait, and answers what is left, as far as it fits the block.
    async fn sort_out(
        &self,
        head: &BlockRef,
        actions: &[ActionId],
        proven: Proven<'_>,
        executed: &mut Executed,
    ) -> Result<Vec<Ready>, ExecutorError> {
        let rows = |range: Range<usize>| actions[range].to_vec();
        let ready = |(candidate, gas): (Candidate<'_>, Gas)| {
            let Candidate { range, call, touches, .. } = candidate;
            Ready { actions: rows(range), call, touches, gas }
        };
        let (ready, beyond) = fit_block(proven.ready.into_iter().map(ready).collect(), self.settings.block_gas_max);
        for (range, refusal) in proven.refused {
            self.reject(head, rows(range), refusal, executed).await?;
        }
        let held_back = proven.held_back.into_iter().flat_map(rows).chain(beyond).collect();
        self.hold_back(head, held_back, "left for the next block", executed).await?;
        Ok(ready)
    }

    async fn end_dry_run(&self, head: &BlockRef, ready: Vec<Ready>) -> Result<(), ExecutorError> {
        for one in ready {
            let reason = format!("dry run: simulation succeeds, gas limit {}", one.gas.limit);
            self.set(head, &one.actions, ActionStatus::Simulated, None).await?;
            self.set(head, &one.actions, ActionStatus::Abandoned, Some(&reason)).await?;
        }
        Ok(())
    }

    /// Encodes the plan's groups, those of one batch together; and the steps that cannot be encoded.
    fn candidates<'p>(&self, plan: &'p BalancedPlan) -> (Vec<Candidate<'p>>, Vec<(Range<usize>, Refusal)>) {
        let (mut candidates, mut unfit) = (Vec::new(), Vec::new());
        let groups = steps::groups(plan.steps());
        for batch in steps::batches(plan.steps(), &groups) {
            let whole = groups[batch.start].start..groups[batch.end - 1].end;
            if batch.len() > 1
                && let Ok(mut joined) = self.candidate(plan, whole)
            {
                let parts = groups[batch].iter().map(|group| self.candidate(plan, group.clone()));
                joined.parts = parts.collect::<Result<_, _>>().unwrap_or_default();
                candidates.push(joined);
                continue;
            }
            for group in &groups[batch] {
                match self.candidate(plan, group.clone()) {
                    Ok(candidate) => candidates.push(candidate),
                    Err(error) => {
                        let refusal = Refusal { disposition: Disposition::Bug, reason: error.to_string() };
                        unfit.push((group.clone(), refusal));
                    }
                }
            }
        }
        (candidates, unfit)
    }

    /// These steps as one transaction.
    fn candidate<'p>(&self, plan: &'p BalancedPlan, range: Range<usize>) -> Result<Candidate<'p>, BuildError> {
        let steps = &plan.steps()[range.clone()];
        let sender = self.parts.gate.address();
        let parties = Parties { sender, proceeds: self.settings.proceeds.unwrap_or(sender) };
        let call = self.parts.adapter.build(steps, &parties)?;
        let touches = steps::touches(plan.segment(), steps);
        Ok(Candidate { range, steps, call, touches, parts: Vec::new() })
    }

    /// Signs and sends in order, until something holds the lane.
    async fn send_all(
        &mut self,
        head: &BlockRef,
        mut ready: Vec<Ready>,
        (quote, start): (FeeQuote, LaneStart),
        executed: &mut Executed,
    ) -> Result<(), ExecutorError> {
        let fees = match fees::first(&quote, self.settings.fees.fee_cap_wei) {
            Ok(fees) => fees,
            Err(capped) => {
                self.raise(AlertKind::FeeCapReached, "", format!("nothing is sent: {capped}"));
                let rest = ready.into_iter().flat_map(|one| one.actions).collect();
                return self.hold_back(head, rest, &capped.to_string(), executed).await;
            }
        };
        let mut start = Some(start);
        while !ready.is_empty() {
            let later = ready.split_off(ready.len().min(WRITE_AHEAD_MAX));
            let start = match start.take() {
                Some(start) => start,
                None => self.lane_start().await?,
            };
            let ready_now = std::mem::replace(&mut ready, later);
            let (journalled, refusal) = self.sign_and_journal(head, ready_now, fees, start).await?;
            let mut reason = refusal.map(|(refusal, unsigned)| {
                let reason = refusal.to_string();
                ready.splice(..0, unsigned);
                reason
            });
            for lane in self.broadcast_all(head, &journalled).await? {
                reason = reason.or(match lane {
                    Ok(Lane::Free) => None,
                    Ok(Lane::Held) => Some("an earlier nonce is held up".to_owned()),
                    Err(refusal) => Some(refusal.to_string()),
                });
            }
            executed.sent.extend(journalled.iter().map(|(sent, _)| sent.clone()));
            if let Some(reason) = reason {
                let rest = ready.into_iter().flat_map(|one| one.actions).collect();
                return self.hold_back(head, rest, &reason, executed).await;
            }
        }
        Ok(())
    }

    /// Signs on the next free nonces, as far as the gate lets, and writes all of it down before anybody can send it. What
    /// the gate refused comes back with what stood behind it. Nonces that another deployment of the same signer took in
    /// between are chosen anew; the signatures for them are forgotten unseen.
    async fn sign_and_journal(
        &mut self,
        head: &BlockRef,
        mut ready: Vec<Ready>,
        fees: Fees,
        mut start: LaneStart,
    ) -> Result<Written, ExecutorError> {
        let mut tries_left = NONCE_TRIES;
        loop {
            tries_left -= 1;
            let (first, refusal) = self.sign_first(head, &ready, fees, start).await?;
            let flights: Vec<InFlight> = first
                .iter()
                .map(|(signed, _, touches)| InFlight {
                    touches: touches.clone(),
                    included_block: None,
                    cost_wei: signed.cost_wei(),
                    planned_block: head.number,
                })
                .collect();
            let carried: Vec<(u64, Vec<ActionId>)> =
                first.iter().map(|(signed, actions, _)| (signed.nonce(), actions.clone())).collect();
            if first.is_empty() {
                return Ok((Vec::new(), refusal.map(|refusal| (refusal, ready))));
            }
            match Signed::journal_first(&self.parts.journal, self.deployment.id, first).await {
                Ok(journalled) => {
                    let unsigned = ready.split_off(journalled.len());
                    let mut written = Vec::with_capacity(journalled.len());
                    for ((journalled, flight), (nonce, actions)) in journalled.into_iter().zip(flights).zip(carried) {
                        let (transaction, hash) = (journalled.transaction(), journalled.hash());
                        self.in_flight.insert(transaction, flight);
                        self.turn_since.insert(transaction, head.number);
                        written.push((Sent { transaction, hash, nonce, actions }, journalled));
                    }
                    self.parts.metrics.unsettled(self.in_flight.len());
                    return Ok((written, refusal.map(|refusal| (refusal, unsigned))));
                }
                Err(JournalError::Conflict(why)) if tries_left > 0 => {
                    tracing::warn!(deployment = %self.deployment.name, why, "a nonce was taken meanwhile");
                    start = self.lane_start().await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Signatures for the leading transactions on consecutive nonces, until the gate refuses.
    async fn sign_first(
        &mut self,
        head: &BlockRef,
        ready: &[Ready],
        fees: Fees,
        LaneStart { mut nonce, mut committed_wei }: LaneStart,
    ) -> Result<(Vec<First>, Option<GateRefusal>), ExecutorError> {
        let mut first = Vec::with_capacity(ready.len());
        for one in ready {
            let (call, gas_limit) = (one.call.clone(), one.gas.limit);
            let request = Request { nonce, call, gas_limit, fees, block: head.number, again: None };
            match self.parts.gate.sign(request, committed_wei).await {
                Ok(signed) => {
                    nonce += 1;
                    committed_wei = committed_wei.saturating_add(signed.cost_wei());
                    first.push((signed, one.actions.clone(), one.touches.clone()));
                }
                Err(GateError::Refused(refusal)) => {
                    self.note_refusal(&refusal);
                    return Ok((first, Some(refusal)));
                }
                Err(GateError::Signer(error)) => return Err(error.into()),
            }
        }
        Ok((first, None))
    }

    /// Sends what is written down, a few at a time and the first ones first, and writes down what the node said.
    async fn broadcast_all(
        &self,
        head: &BlockRef,
        written: &[(Sent, Journalled)],
    ) -> Result<Vec<Result<Lane, GateRefusal>>, ExecutorError> {
        let mut lanes = Vec::with_capacity(written.len());
        let mut said = Vec::with_capacity(written.len());
        for some in written.chunks(BROADCASTS_MAX) {
            let to = self.audience(head, head.number);
            let broadcasts = some.iter().map(|(_, journalled)| self.send(journalled, to));
            for ((_, journalled), answer) in some.iter().zip(futures_util::future::join_all(broadcasts).await) {
                lanes.push(answer.map(|(outcome, lane)| {
                    said.push((journalled.attempt(), outcome));
                    self.parts.metrics.count(Outcome::Sent);
                    lane
                }));
            }
        }
        self.parts.journal.mark_broadcasts(&said, head.number).await?;
        Ok(lanes)
    }

    /// Where the next signatures begin.
    async fn lane_start(&self) -> Result<LaneStart, ExecutorError> {
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

    /// Sends and writes down what the node said. The inner error: the gate is shut.
    pub(super) async fn broadcast(
        &self,
        head: &BlockRef,
        journalled: &Journalled,
        to: Audience,
    ) -> Result<Result<Lane, GateRefusal>, ExecutorError> {
        match self.send(journalled, to).await {
            Ok((outcome, lane)) => {
                self.parts.journal.mark_broadcasts(&[(journalled.attempt(), outcome)], head.number).await?;
                Ok(Ok(lane))
            }
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Who is shown at this head what was planned at that height: builders alone at first, and then everybody, since no
    /// builder may have wanted it.
    pub(super) fn audience(&self, head: &BlockRef, planned_block: u64) -> Audience {
        let age = head.number.saturating_sub(planned_block);
        if age < self.settings.relay_alone_blocks { Audience::Builders } else { Audience::Everybody }
    }

    /// Sends, and says what the node's answer means. The error: the gate is shut.
    async fn send(&self, journalled: &Journalled, to: Audience) -> Result<(BroadcastOutcome, Lane), GateRefusal> {
        let answer = self.parts.gate.broadcast(&self.parts.chain, journalled, to).await;
        let answer = answer.inspect_err(|refusal| self.note_refusal(refusal))?;
        let Err(error) = answer else { return Ok((BroadcastOutcome::Accepted, Lane::Free)) };
        tracing::warn!(
            deployment = %self.deployment.name, transaction = %journalled.transaction(), tx_hash = %journalled.hash(),
            %error, "broadcast was not accepted"
        );
        if let SendError::InsufficientFunds(_) = error {
            self.raise(AlertKind::BalanceLow, "", &error);
        }
        Ok(match error {
            SendError::AlreadyKnown => (BroadcastOutcome::Known, Lane::Free),
            // It may be this very transaction that used the nonce: settlement looks for its receipt.
            SendError::NonceTooLow | SendError::Unknown(_) => {
                (BroadcastOutcome::Unknown(error.to_string()), Lane::Held)
            }
            SendError::Underpriced(_) | SendError::InsufficientFunds(_) | SendError::Rejected(_) => {
                (BroadcastOutcome::Rejected(error.to_string()), Lane::Held)
            }
        })
    }

    /// Whether something in flight is so old that a further nonce would only wait behind it.
    fn lane_stuck(&self, head: &BlockRef) -> bool {
        let patience = self.settings.settle.cancel_after_blocks;
        self.in_flight
            .values()
            .any(|t| t.included_block.is_none() && head.number.saturating_sub(t.planned_block) > patience)
    }

    pub(super) fn note_refusal(&self, refusal: &GateRefusal) {
        tracing::warn!(deployment = %self.deployment.name, %refusal, "the gate refused");
        self.parts.metrics.refused(refusal);
        if let GateRefusal::SpendLimit { .. } = refusal {
            self.raise(AlertKind::SpendLimitReached, "", refusal);
        }
    }

    async fn reject(
        &self,
        head: &BlockRef,
        actions: Vec<ActionId>,
        refusal: Refusal,
        executed: &mut Executed,
    ) -> Result<(), ExecutorError> {
        self.set(head, &actions, ActionStatus::Rejected, Some(&refusal.reason)).await?;
        self.parts.metrics.count(Outcome::Rejected);
        tracing::warn!(
            deployment = %self.deployment.name, ?actions, disposition = ?refusal.disposition, reason = refusal.reason,
            "action refused before it was signed"
        );
        let kind = match refusal.disposition {
            Disposition::Bug => Some(AlertKind::ActionRejectedAsBug),
            Disposition::Unauthorized => Some(AlertKind::RoleMissing),
            Disposition::AlreadyDone
            | Disposition::NotEligible
            | Disposition::NeedOracle
            | Disposition::FundShort
            | Disposition::Capacity => None,
        };
        if let Some(kind) = kind {
            self.raise(kind, "", &refusal.reason);
        }
        executed.refused.push(Refused { actions, refusal });
        Ok(())
    }

    async fn hold_back(
        &self,
        head: &BlockRef,
        actions: Vec<ActionId>,
        reason: &str,
        executed: &mut Executed,
    ) -> Result<(), ExecutorError> {
        if !actions.is_empty() {
            self.set(head, &actions, ActionStatus::Abandoned, Some(&format!("held back: {reason}"))).await?;
            executed.held_back.extend(actions);
        }
        Ok(())
    }

    async fn set(
        &self,
        head: &BlockRef,
        actions: &[ActionId],
        status: ActionStatus,
        reason: Option<&str>,
    ) -> Result<(), ExecutorError> {
        Ok(self.parts.journal.set_action_status(actions, status, reason, head.number).await?)
    }
}
