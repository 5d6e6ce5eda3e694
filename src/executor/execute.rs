//! From a plan to transactions on the wire: prove, sign, write all of it down, send. In this order, always.

use std::{ops::Range, time::Duration};

use super::{
    Executor, ExecutorError, InFlight,
    fees::{self, Fees, Gas},
    gate::{Audience, GateError, GateRefusal, Journalled, Planned, Request, Signed},
    lane::{LaneAhead, LaneStart},
    metrics::Outcome,
    ports::{ChainPort, JournalPort},
    prove::{Candidate, ProofLimits, Proven, prove},
    steps,
};
use crate::{
    alerts::AlertKind,
    chain::SendError,
    journal::{
        ActionId, ActionStatus, AheadPlan, AttemptId, BroadcastOutcome, Entered, EpisodeId, JournalError, Touches,
        TransactionId,
    },
    protocols::{BuildError, Disposition, Parties, Refusal},
    recovery::BalancedPlan,
    types::{B256, BlockRef, Call},
};

/// The spending limit's window.
pub(super) const SPEND_WINDOW: Duration = Duration::from_secs(3_600);
/// How often nonces that another deployment took meanwhile are chosen anew.
const NONCE_TRIES: usize = 3;
/// Most transactions written down together before the first of them is sent.
const WRITE_AHEAD_MAX: usize = 32;
/// Broadcasts under way at once.
const BROADCASTS_MAX: usize = 8;

/// A transaction that simulation found good.
#[derive(Clone, Debug)]
struct Ready {
    /// The plan's steps that it carries.
    steps: Range<usize>,
    call: Call,
    touches: Touches,
    gas: Gas,
}

/// A first signature with the steps it carries and what it touches.
type First = (Signed, Range<usize>, Touches);

/// What was written down of some transactions.
#[derive(Default)]
struct Written {
    /// What may be sent, with the steps it carries and its nonce.
    journalled: Vec<(Journalled, Range<usize>, u64)>,
    /// What the gate refused, with everything behind it.
    refused: Option<(GateRefusal, Vec<Ready>)>,
}

/// How far the sending of a plan came.
#[derive(Default)]
struct SendOff {
    /// The plan as it is in the journal; `None` where nothing was signed.
    entered: Option<Entered>,
    /// What may be on the wire: row, hash, nonce and steps.
    sent: Vec<(TransactionId, B256, u64, Range<usize>)>,
    /// Steps left for another block, and why.
    left: Option<(Vec<Range<usize>>, String)>,
    /// What was only tried.
    dry: Vec<Ready>,
}

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

/// What a broadcast says about the ones after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The next nonce can follow.
    Free,
    /// The next nonce would wait behind this one.
    Held,
}

/// The leading transactions that fit one block together, the first one in any case, and the steps of the rest: what waits
/// in the pool for a later block would execute on prices that nobody planned for. A block has room for a transaction whose
/// gas limit is no more than what those before it leave, and they leave what they do not use (execution specifications,
/// `check_transaction`).
fn fit_block(ready: Vec<Ready>, gas_max: u64) -> (Vec<Ready>, Vec<Range<usize>>) {
    let mut used = 0u64;
    let (mut fitting, mut beyond) = (Vec::new(), Vec::new());
    for one in ready {
        if fitting.is_empty() || (beyond.is_empty() && used.saturating_add(one.gas.limit) <= gas_max) {
            used = used.saturating_add(one.gas.used);
            fitting.push(one);
        } else {
            beyond.push(one.steps);
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
        let lane = async {
            match ahead {
                _ if dry_run => Ok(None),
                Some(ahead) => Ok(Some(ahead)),
                None => self.ahead(head).await.map(Some),
            }
        };
        // The plan is encoded while the node tries it. Nothing is written meanwhile: the node has the machine to itself.
        let encoded = async {
            tokio::task::yield_now().await;
            AheadPlan::of(plan, cause)
        };
        let (proven, lane, encoded) = tokio::join!(self.prove(head, plan, candidates), lane, encoded);
        let (mut proven, encoded) = (proven?, encoded?);
        proven.refused.splice(..0, unfit);
        let ready = std::mem::take(&mut proven.ready).into_iter().map(|(candidate, gas)| {
            let Candidate { range, call, touches, .. } = candidate;
            Ready { steps: range, call, touches, gas }
        });
        let (ready, beyond) = fit_block(ready.collect(), self.settings.block_gas_max);
        proven.held_back.extend(beyond);

        let mut send_off = match lane {
            Ok(None) => SendOff { dry: ready, ..SendOff::default() },
            Ok(Some(lane)) => match self.send_all(head, &encoded, ready, lane).await? {
                Some(send_off) => send_off,
                None => {
                    self.tell_overlap(plan, "a subject has an open group");
                    return Ok(Executed::default());
                }
            },
            // What was refused is written down all the same.
            Err(_) if ready.is_empty() => SendOff::default(),
            Err(error) => return Err(error),
        };
        let Some(entered) = self.entered(send_off.entered.take(), plan, cause).await? else {
            return Ok(Executed::default());
        };
        let executed = self.write_down(head, entered, send_off, proven).await?;
        self.unswept = false;
        if dry_run {
            self.dry_run_last.insert(plan.segment(), plan.steps().to_vec());
        }
        Ok(executed)
    }

    /// Writes down what was not sent, and why.
    async fn write_down(
        &self,
        head: &BlockRef,
        Entered { episode, actions }: Entered,
        SendOff { sent, left, dry, .. }: SendOff,
        Proven { refused, held_back, .. }: Proven<'_>,
    ) -> Result<Executed, ExecutorError> {
        let rows = |steps: Range<usize>| actions[steps].to_vec();
        let sent = sent.into_iter().map(|(transaction, hash, nonce, steps)| {
            let actions = rows(steps);
            Sent { transaction, hash, nonce, actions }
        });
        let mut executed = Executed { episode: Some(episode), sent: sent.collect(), ..Executed::default() };
        for (steps, refusal) in refused {
            self.reject(head, rows(steps), refusal, &mut executed).await?;
        }
        let held_back = held_back.into_iter().flat_map(rows).collect();
        self.hold_back(head, held_back, "left for the next block", &mut executed).await?;
        if let Some((left, reason)) = left {
            self.hold_back(head, left.into_iter().flat_map(rows).collect(), &reason, &mut executed).await?;
        }
        for one in dry {
            let (actions, reason) =
                (rows(one.steps), format!("dry run: simulation succeeds, gas limit {}", one.gas.limit));
            self.set(head, &actions, ActionStatus::Simulated, None).await?;
            self.set(head, &actions, ActionStatus::Abandoned, Some(&reason)).await?;
        }
        Ok(executed)
    }

    /// The plan as it is in the journal, written down now where nothing of it was sent; `None` where it overlaps another.
    async fn entered(
        &self,
        entered: Option<Entered>,
        plan: &BalancedPlan,
        cause: &str,
    ) -> Result<Option<Entered>, ExecutorError> {
        if entered.is_some() {
            return Ok(entered);
        }
        let dry_run = self.parts.gate.dry_run();
        match self.parts.journal.insert_plan(self.deployment.id, plan, cause, dry_run).await {
            Ok((episode, _, actions)) if actions.len() == plan.steps().len() => Ok(Some(Entered { episode, actions })),
            Ok((.., actions)) => {
                Err(ExecutorError::Answer(format!("{} actions for {} steps", actions.len(), plan.steps().len())))
            }
            Err(JournalError::Conflict(why)) => {
                self.tell_overlap(plan, &why);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn tell_overlap(&self, plan: &BalancedPlan, why: &str) {
        tracing::warn!(deployment = %self.deployment.name, segment = %plan.segment(), why, "plan overlaps open actions");
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

    /// Signs and sends in order, until something holds the lane. The plan is written down with the first signatures and entered
    /// once these are on their way; `None` where what it is about is under way already.
    async fn send_all(
        &mut self,
        head: &BlockRef,
        plan: &AheadPlan<'_>,
        mut ready: Vec<Ready>,
        LaneAhead { quote, start, .. }: LaneAhead,
    ) -> Result<Option<SendOff>, ExecutorError> {
        let mut done = SendOff::default();
        let rest = |ready: Vec<Ready>| ready.into_iter().map(|one| one.steps).collect();
        let fees = match fees::first(&quote, self.settings.fees.fee_cap_wei) {
            Ok(fees) => fees,
            Err(capped) => {
                if !ready.is_empty() {
                    self.raise(AlertKind::FeeCapReached, "", format!("nothing is sent: {capped}"));
                    done.left = Some((rest(ready), capped.to_string()));
                }
                return Ok(Some(done));
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
            let planned = done.entered.as_ref().map_or(Planned::Ahead(plan), |plan| Planned::Entered(&plan.actions));
            let Some(written) = self.sign_and_journal(head, planned, ready_now, fees, start).await? else {
                return Ok(None);
            };
            let mut reason = written.refused.map(|(refusal, unsigned)| {
                ready.splice(..0, unsigned);
                refusal.to_string()
            });
            let (lanes, said) = self.broadcast_all(head, &written.journalled).await;
            if done.entered.is_none() && !written.journalled.is_empty() {
                let entered = self.parts.journal.enter_ahead(self.deployment.id).await?;
                let missing = || JournalError::Conflict("somebody else entered what was written ahead".to_owned());
                done.entered = Some(entered.ok_or_else(missing)?);
            }
            self.parts.journal.mark_broadcasts(&said, head.number).await?;
            for lane in lanes {
                reason = reason.or(match lane {
                    Ok(Lane::Free) => None,
                    Ok(Lane::Held) => Some("an earlier nonce is held up".to_owned()),
                    Err(refusal) => Some(refusal.to_string()),
                });
            }
            let sent = |(sent, steps, nonce): (Journalled, _, _)| (sent.transaction(), sent.hash(), nonce, steps);
            done.sent.extend(written.journalled.into_iter().map(sent));
            if let Some(reason) = reason {
                done.left = Some((rest(ready), reason));
                break;
            }
        }
        Ok(Some(done))
    }

    /// Signs on the next free nonces, as far as the gate lets, and writes all of it down before anybody can send it. Nonces
    /// that another deployment of the same signer took in between are chosen anew; the signatures for them are forgotten
    /// unseen. `None` where what the plan is about is under way already.
    async fn sign_and_journal(
        &mut self,
        head: &BlockRef,
        plan: Planned<'_>,
        mut ready: Vec<Ready>,
        fees: Fees,
        mut start: LaneStart,
    ) -> Result<Option<Written>, ExecutorError> {
        let mut tries_left = NONCE_TRIES;
        loop {
            tries_left -= 1;
            let (first, refusal) = self.sign_first(head, &ready, fees, start).await?;
            if first.is_empty() {
                let refused = refusal.map(|refusal| (refusal, ready));
                return Ok(Some(Written { refused, ..Written::default() }));
            }
            let flight = |(signed, steps, touches): &First| {
                let (touches, cost_wei) = (touches.clone(), signed.cost_wei());
                let flight = InFlight { touches, included_block: None, cost_wei, planned_block: head.number };
                (flight, steps.clone(), signed.nonce())
            };
            let flights: Vec<_> = first.iter().map(flight).collect();
            match Signed::journal_first(&self.parts.journal, self.deployment.id, plan, first).await {
                Ok(None) => return Ok(None),
                Ok(Some(signed)) => {
                    let unsigned = ready.split_off(signed.len());
                    let mut journalled = Vec::with_capacity(signed.len());
                    for (one, (flight, steps, nonce)) in signed.into_iter().zip(flights) {
                        self.in_flight.insert(one.transaction(), flight);
                        self.turn_since.insert(one.transaction(), head.number);
                        journalled.push((one, steps, nonce));
                    }
                    self.parts.metrics.unsettled(self.in_flight.len());
                    return Ok(Some(Written { journalled, refused: refusal.map(|refusal| (refusal, unsigned)) }));
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
                    first.push((signed, one.steps.clone(), one.touches.clone()));
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

    /// Sends what is written down, a few at a time and the first ones first, and answers what that means for the lane and
    /// what the node said.
    async fn broadcast_all(
        &self,
        head: &BlockRef,
        written: &[(Journalled, Range<usize>, u64)],
    ) -> (Vec<Result<Lane, GateRefusal>>, Vec<(AttemptId, BroadcastOutcome)>) {
        let mut lanes = Vec::with_capacity(written.len());
        let mut said = Vec::with_capacity(written.len());
        for some in written.chunks(BROADCASTS_MAX) {
            let to = self.audience(head, head.number);
            let broadcasts = some.iter().map(|(journalled, ..)| self.send(journalled, to));
            for ((journalled, ..), answer) in some.iter().zip(futures_util::future::join_all(broadcasts).await) {
                lanes.push(answer.map(|(outcome, lane)| {
                    said.push((journalled.attempt(), outcome));
                    self.parts.metrics.count(Outcome::Sent);
                    lane
                }));
            }
        }
        (lanes, said)
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
