//! A journal double that refuses what the database refuses: a nonce twice, a hash twice, a unit with two open groups,
//! a status that cannot follow the one before it.

use std::{collections::BTreeMap, time::Duration};

use alloy::primitives::keccak256;

use super::{super::ports::JournalPort, Shared};
use crate::{
    journal::{
        ActionId, ActionStatus, AheadPlan, AttemptId, AttemptKind, BroadcastOutcome, DeploymentId, Entered, EpisodeId,
        FirstSignature, IncludedReceipt, JournalError, NewAttempt, NewTransaction, PlanId, StoredAttempt,
        TransactionId, TransactionStatus, UnsettledTransaction,
    },
    recovery::{BalancedPlan, Step},
    types::{Address, SegmentId, U256, UnitKey},
};

/// One action's row.
#[derive(Clone, Debug)]
pub(crate) struct ActionRow {
    pub(crate) unit: UnitKey,
    pub(crate) status: ActionStatus,
    pub(crate) reason: Option<String>,
    pub(crate) transaction: Option<TransactionId>,
    dry_run: bool,
}

/// The tables.
#[derive(Clone, Debug, Default)]
pub(crate) struct JournalState {
    pub(crate) actions: BTreeMap<ActionId, ActionRow>,
    pub(crate) transactions: Vec<UnsettledTransaction>,
    pub(crate) receipts: BTreeMap<TransactionId, IncludedReceipt>,
    /// Written ahead and not entered yet.
    ahead: Option<Ahead>,
    plans: i64,
    transaction_ids: i64,
    attempt_ids: i64,
}

/// What was written ahead.
#[derive(Clone, Debug)]
struct Ahead {
    plan: BalancedPlan,
    first: Vec<(Ids, FirstSignature)>,
}

type Ids = (TransactionId, AttemptId);
type Answer<T> = Result<T, JournalError>;

fn conflict<T>(why: &str) -> Answer<T> {
    Err(JournalError::Conflict(why.to_owned()))
}

impl JournalState {
    fn transaction(&mut self, id: TransactionId, from: &[TransactionStatus]) -> Answer<&mut UnsettledTransaction> {
        match self.transactions.iter_mut().find(|t| t.id == id) {
            Some(transaction) if from.contains(&transaction.status) => Ok(transaction),
            Some(transaction) => conflict(&format!("transaction is {:?}", transaction.status)),
            None => conflict("no such transaction"),
        }
    }

    fn move_actions(&mut self, id: TransactionId, from: &[ActionStatus], to: ActionStatus) {
        let rows = self.actions.values_mut().filter(|row| row.transaction == Some(id));
        rows.filter(|row| from.contains(&row.status)).for_each(|row| row.status = to);
    }

    fn check_nonce(&self, new: &NewTransaction, attempt: &NewAttempt) -> Answer<()> {
        let ahead = self.ahead.iter().flat_map(|ahead| &ahead.first).map(|(_, first)| first);
        let mut nonces = self.transactions.iter().map(|t| (t.signer, t.nonce));
        let mut ahead_nonces = ahead.clone().map(|first| (first.transaction.signer, first.transaction.nonce));
        let taken = |one: (Address, u64)| one == (new.signer, new.nonce);
        if nonces.any(taken) || ahead_nonces.any(taken) {
            return conflict("nonce is taken");
        }
        if ahead.map(|first| first.attempt.hash).any(|hash| hash == attempt.hash) {
            return conflict("hash is taken");
        }
        self.check_hash(attempt)
    }

    fn next_ids(&mut self) -> Ids {
        self.transaction_ids += 1;
        self.attempt_ids += 1;
        (TransactionId(self.transaction_ids), AttemptId(self.attempt_ids))
    }

    fn create(&mut self, (id, attempt): Ids, new: &NewTransaction, first: &NewAttempt) -> Answer<Ids> {
        for id in &new.actions {
            let row = &self.actions[id];
            assert!(!row.dry_run, "an action of a dry run was signed");
            if !matches!(row.status, ActionStatus::Planned | ActionStatus::Simulated) {
                return conflict("an action is elsewhere");
            }
        }
        for action in &new.actions {
            let row = self.actions.get_mut(action).unwrap();
            (row.status, row.transaction) = (ActionStatus::Signed, Some(id));
        }
        self.transactions.push(UnsettledTransaction {
            id,
            plan: PlanId(self.plans),
            episode: EpisodeId(1),
            signer: new.signer,
            nonce: new.nonce,
            to: new.to,
            data: new.data.clone(),
            value: new.value,
            actions: new.actions.clone(),
            touches: new.touches.clone(),
            planned_block: new.planned_block,
            status: TransactionStatus::Signed,
            included: None,
            attempts: vec![stored(attempt, first, None)],
        });
        Ok((id, attempt))
    }

    fn answer(&mut self, id: AttemptId, outcome: &BroadcastOutcome) -> Answer<()> {
        let mut all = self.transactions.iter_mut();
        let Some(transaction) = all.find(|t| t.attempts.iter().any(|a| a.id == id)) else {
            return conflict("no such attempt");
        };
        transaction.attempts.iter_mut().filter(|a| a.id == id).for_each(|a| a.broadcast = Some(outcome.clone()));
        if matches!(outcome, BroadcastOutcome::Rejected(_)) {
            return Ok(());
        }
        if transaction.status == TransactionStatus::Signed {
            transaction.status = TransactionStatus::Sent;
        }
        let transaction = transaction.id;
        self.move_actions(transaction, &[ActionStatus::Signed], ActionStatus::Sent);
        Ok(())
    }

    fn check_hash(&self, attempt: &NewAttempt) -> Answer<()> {
        if self.transactions.iter().flat_map(|t| &t.attempts).any(|a| a.hash == attempt.hash) {
            return conflict("hash is taken");
        }
        Ok(())
    }

    /// Whether the bytes would be found again after a crash.
    pub(crate) fn holds(&self, raw: &[u8]) -> bool {
        let ahead = self.ahead.iter().flat_map(|ahead| &ahead.first).map(|(_, first)| &first.attempt);
        let entered = self.transactions.iter().flat_map(|t| &t.attempts);
        let mut all = entered.map(|a| (&a.raw, a.hash)).chain(ahead.map(|a| (&a.raw, a.hash)));
        all.any(|(held, hash)| **held == *raw && hash == keccak256(raw))
    }

    fn is_open(&self, step: &Step) -> bool {
        let claims = |row: &ActionRow| !row.status.is_terminal() && row.status != ActionStatus::Included;
        self.actions.values().any(|row| Some(&row.unit) == step.unit.as_ref() && claims(row))
    }
}

fn stored(id: AttemptId, attempt: &NewAttempt, kind: Option<AttemptKind>) -> StoredAttempt {
    StoredAttempt {
        id,
        kind,
        hash: attempt.hash,
        raw: attempt.raw.clone(),
        gas_limit: attempt.gas_limit,
        max_fee_per_gas: attempt.max_fee_per_gas,
        max_priority_fee_per_gas: attempt.max_priority_fee_per_gas,
        signed_block: attempt.block,
        broadcast: None,
    }
}

const OPEN: [TransactionStatus; 2] = [TransactionStatus::Signed, TransactionStatus::Sent];

/// The port's methods on the tables. Each is all or nothing.
impl JournalState {
    pub(crate) fn insert_plan(&mut self, plan: &BalancedPlan, dry_run: bool) -> Answer<(PlanId, Vec<ActionId>)> {
        let unit = |step: &Step| step.unit.clone().unwrap();
        if plan.steps().iter().any(|step| self.is_open(step)) {
            return conflict("a unit has an open action");
        }
        self.plans += 1;
        let mut ids = Vec::new();
        for step in plan.steps() {
            let id = ActionId(self.actions.len() as i64 + 1);
            let status = ActionStatus::Planned;
            let row = ActionRow { unit: unit(step), status, reason: None, transaction: None, dry_run };
            self.actions.insert(id, row);
            ids.push(id);
        }
        Ok((PlanId(self.plans), ids))
    }

    pub(crate) fn write_ahead(&mut self, plan: &BalancedPlan, first: &[FirstSignature]) -> Answer<Option<Vec<Ids>>> {
        if self.ahead.is_some() {
            return conflict("something is still to be entered");
        }
        if plan.steps().iter().any(|step| self.is_open(step)) {
            return Ok(None);
        }
        for (at, one) in first.iter().enumerate() {
            self.check_nonce(&one.transaction, &one.attempt)?;
            assert!(
                first[..at].iter().all(|other| other.transaction.nonce != one.transaction.nonce),
                "one nonce twice"
            );
        }
        let first: Vec<_> = first.iter().map(|one| (self.next_ids(), one.clone())).collect();
        let ids = first.iter().map(|(ids, _)| *ids).collect();
        self.ahead = Some(Ahead { plan: plan.clone(), first });
        Ok(Some(ids))
    }

    /// Whether something is to be entered.
    pub(crate) fn is_ahead(&self) -> bool {
        self.ahead.is_some()
    }

    /// The segment of what was entered, and its actions.
    pub(crate) fn enter_ahead(&mut self) -> Option<(SegmentId, Vec<ActionId>)> {
        let Ahead { plan, first } = self.ahead.take()?;
        let (_, actions) = self.insert_plan(&plan, false).unwrap();
        for (ids, FirstSignature { steps, mut transaction, attempt }) in first {
            transaction.actions = actions[steps].to_vec();
            self.create(ids, &transaction, &attempt).unwrap();
        }
        Some((plan.segment(), actions))
    }

    pub(crate) fn set_action_status(
        &mut self,
        actions: &[ActionId],
        status: ActionStatus,
        reason: Option<&str>,
    ) -> Answer<()> {
        let from: &[ActionStatus] = match status {
            ActionStatus::Simulated => &[ActionStatus::Planned],
            ActionStatus::Rejected | ActionStatus::Abandoned => &[ActionStatus::Planned, ActionStatus::Simulated],
            _ => return conflict("follows a transaction"),
        };
        if actions.iter().any(|id| !from.contains(&self.actions[id].status)) {
            return conflict("an action is elsewhere");
        }
        for id in actions {
            let row = self.actions.get_mut(id).unwrap();
            row.status = status;
            row.reason = reason.map(str::to_owned).or(row.reason.take());
        }
        Ok(())
    }

    /// What is ahead is entered before.
    pub(crate) fn abandon_unsigned(&mut self, reason: &str) -> u64 {
        assert!(self.ahead.is_none(), "what was written ahead is not entered");
        let unsigned = [ActionStatus::Planned, ActionStatus::Simulated];
        let mut count = 0;
        for row in self.actions.values_mut().filter(|row| unsigned.contains(&row.status)) {
            (row.status, row.reason) = (ActionStatus::Abandoned, Some(reason.to_owned()));
            count += 1;
        }
        count
    }

    pub(crate) fn next_nonce(&self, signer: Address) -> Option<u64> {
        let ahead = self.ahead.iter().flat_map(|ahead| &ahead.first).map(|(_, first)| &first.transaction);
        let used = self.transactions.iter().map(|t| (t.signer, t.nonce));
        let used = used.chain(ahead.map(|transaction| (transaction.signer, transaction.nonce)));
        used.filter(|(by, _)| *by == signer).map(|(_, nonce)| nonce + 1).max()
    }

    pub(crate) fn create_transactions(&mut self, new: &[(NewTransaction, NewAttempt)]) -> Answer<Vec<Ids>> {
        let mut after = self.clone();
        let create = |(new, first): &(NewTransaction, NewAttempt)| {
            after.check_nonce(new, first)?;
            let ids = after.next_ids();
            after.create(ids, new, first)
        };
        let ids = new.iter().map(create).collect::<Answer<Vec<_>>>()?;
        *self = after;
        Ok(ids)
    }

    pub(crate) fn add_attempt(
        &mut self,
        id: TransactionId,
        attempt: &NewAttempt,
        kind: AttemptKind,
    ) -> Answer<AttemptId> {
        self.check_hash(attempt)?;
        let added = AttemptId(self.attempt_ids + 1);
        self.transaction(id, &OPEN)?.attempts.push(stored(added, attempt, Some(kind)));
        self.attempt_ids += 1;
        if kind == AttemptKind::Cancel {
            self.move_actions(id, &[ActionStatus::Signed, ActionStatus::Sent], ActionStatus::Replaced);
        }
        Ok(added)
    }

    pub(crate) fn mark_broadcasts(&mut self, said: &[(AttemptId, BroadcastOutcome)]) -> Answer<()> {
        said.iter().try_for_each(|(id, outcome)| self.answer(*id, outcome))
    }

    pub(crate) fn mark_included(
        &mut self,
        id: TransactionId,
        attempt: AttemptId,
        receipt: &IncludedReceipt,
    ) -> Answer<()> {
        let transaction = self.transaction(id, &OPEN)?;
        (transaction.status, transaction.included) = (TransactionStatus::Included, Some((attempt, receipt.block)));
        let kind = transaction.attempts.iter().find(|a| a.id == attempt).unwrap().kind;
        self.receipts.insert(id, receipt.clone());
        use ActionStatus::{Included, Replaced, Reverted, Sent, Signed};
        match kind {
            Some(AttemptKind::Cancel) => self.move_actions(id, &[Signed, Sent], Replaced),
            _ if receipt.success => self.move_actions(id, &[Signed, Sent, Replaced], Included),
            _ => self.move_actions(id, &[Signed, Sent, Replaced], Reverted),
        }
        Ok(())
    }

    pub(crate) fn mark_reorged(&mut self, id: TransactionId) -> Answer<()> {
        let transaction = self.transaction(id, &[TransactionStatus::Included])?;
        (transaction.status, transaction.included) = (TransactionStatus::Sent, None);
        self.receipts.remove(&id);
        self.move_actions(id, &[ActionStatus::Included], ActionStatus::Sent);
        Ok(())
    }

    pub(crate) fn mark_final(&mut self, id: TransactionId) -> Answer<()> {
        self.transaction(id, &[TransactionStatus::Included])?.status = TransactionStatus::Final;
        self.move_actions(id, &[ActionStatus::Included], ActionStatus::Final);
        self.move_actions(id, &[ActionStatus::Replaced], ActionStatus::Abandoned);
        Ok(())
    }

    pub(crate) fn mark_superseded(&mut self, id: TransactionId) -> Answer<()> {
        self.transaction(id, &OPEN)?.status = TransactionStatus::Superseded;
        let from = [ActionStatus::Signed, ActionStatus::Sent, ActionStatus::Replaced];
        self.move_actions(id, &from, ActionStatus::Superseded);
        Ok(())
    }

    pub(crate) fn unsettled_transactions(&self) -> Vec<UnsettledTransaction> {
        let settled = [TransactionStatus::Final, TransactionStatus::Superseded];
        self.transactions.iter().filter(|t| !settled.contains(&t.status)).cloned().collect()
    }

    pub(crate) fn spent_wei(&self) -> U256 {
        let costs = self.receipts.values();
        costs.map(|r| U256::from(r.gas_used) * U256::from(r.effective_gas_price)).sum()
    }
}

/// The port on the tables.
#[derive(Clone)]
pub(super) struct FakeJournal(pub(super) Shared);

impl FakeJournal {
    fn read<T>(&self, answer: impl FnOnce(&mut JournalState) -> T) -> Answer<T> {
        let mut world = self.0.lock().unwrap();
        if world.fuse.dead { Err(JournalError::Unavailable("down".to_owned())) } else { Ok(answer(&mut world.journal)) }
    }

    fn write<T>(&self, body: impl FnOnce(&mut JournalState) -> Answer<T>) -> Answer<T> {
        let mut world = self.0.lock().unwrap();
        let down = || Err(JournalError::Unavailable("down".to_owned()));
        if !world.fuse.before() {
            return down();
        }
        let answer = body(&mut world.journal);
        if world.fuse.after() { answer } else { down() }
    }
}

impl JournalPort for FakeJournal {
    async fn insert_plan(
        &self,
        _: DeploymentId,
        plan: &BalancedPlan,
        _: &str,
        dry_run: bool,
    ) -> Answer<(EpisodeId, PlanId, Vec<ActionId>)> {
        self.write(|journal| {
            let (plan, actions) = journal.insert_plan(plan, dry_run)?;
            Ok((EpisodeId(1), plan, actions))
        })
    }

    async fn write_ahead(
        &self,
        _: DeploymentId,
        plan: &AheadPlan<'_>,
        first: &[FirstSignature],
    ) -> Answer<Option<Vec<Ids>>> {
        self.write(|journal| journal.write_ahead(plan.plan, first))
    }

    async fn enter_ahead(&self, _: DeploymentId) -> Answer<Option<Entered>> {
        self.write(|journal| Ok(journal.enter_ahead().map(|(_, actions)| Entered { episode: EpisodeId(1), actions })))
    }

    async fn set_action_status(
        &self,
        actions: &[ActionId],
        status: ActionStatus,
        reason: Option<&str>,
        _: u64,
    ) -> Answer<()> {
        self.write(|journal| journal.set_action_status(actions, status, reason))
    }

    async fn abandon_unsigned(&self, _: DeploymentId, reason: &str, _: u64) -> Answer<u64> {
        self.write(|journal| {
            journal.enter_ahead();
            Ok(journal.abandon_unsigned(reason))
        })
    }

    async fn next_nonce(&self, _: u64, signer: Address) -> Answer<Option<u64>> {
        self.read(|journal| journal.next_nonce(signer))
    }

    async fn create_transactions(&self, new: &[(NewTransaction, NewAttempt)]) -> Answer<Vec<Ids>> {
        self.write(|journal| journal.create_transactions(new))
    }

    async fn add_attempt(&self, id: TransactionId, attempt: &NewAttempt, kind: AttemptKind) -> Answer<AttemptId> {
        self.write(|journal| journal.add_attempt(id, attempt, kind))
    }

    async fn mark_broadcasts(&self, said: &[(AttemptId, BroadcastOutcome)], _: u64) -> Answer<()> {
        self.write(|journal| journal.mark_broadcasts(said))
    }

    async fn mark_included(&self, id: TransactionId, attempt: AttemptId, receipt: &IncludedReceipt) -> Answer<()> {
        self.write(|journal| journal.mark_included(id, attempt, receipt))
    }

    async fn mark_reorged(&self, id: TransactionId) -> Answer<()> {
        self.write(|journal| journal.mark_reorged(id))
    }

    async fn mark_final(&self, id: TransactionId) -> Answer<()> {
        self.write(|journal| journal.mark_final(id))
    }

    async fn mark_superseded(&self, id: TransactionId, _: &str) -> Answer<()> {
        self.write(|journal| journal.mark_superseded(id))
    }

    async fn unsettled_transactions(&self, _: DeploymentId) -> Answer<Vec<UnsettledTransaction>> {
        self.read(|journal| journal.unsettled_transactions())
    }

    async fn spent_wei_within(&self, _: u64, _: Address, _: Duration) -> Answer<U256> {
        self.read(|journal| journal.spent_wei())
    }
}
