//! A journal double that refuses what the database refuses: a nonce twice, a hash twice, a unit with two open groups,
//! a status that cannot follow the one before it.

use std::{collections::BTreeMap, time::Duration};

use super::{super::ports::JournalPort, Shared};
use crate::{
    journal::{
        ActionId, ActionStatus, AttemptId, AttemptKind, BroadcastOutcome, DeploymentId, EpisodeId, IncludedReceipt,
        JournalError, NewAttempt, NewTransaction, PlanId, StoredAttempt, TransactionId, TransactionStatus,
        UnsettledTransaction,
    },
    recovery::{BalancedPlan, Step},
    types::{Address, U256, UnitKey},
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
    plans: i64,
    attempts: i64,
}

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

    fn create(&mut self, new: &NewTransaction, first: &NewAttempt) -> Answer<(TransactionId, AttemptId)> {
        if self.transactions.iter().any(|t| t.signer == new.signer && t.nonce == new.nonce) {
            return conflict("nonce is taken");
        }
        for id in &new.actions {
            let row = &self.actions[id];
            assert!(!row.dry_run, "an action of a dry run was signed");
            if !matches!(row.status, ActionStatus::Planned | ActionStatus::Simulated) {
                return conflict("an action is elsewhere");
            }
        }
        let attempt = self.store(first, None)?;
        let id = TransactionId(self.transactions.len() as i64 + 1);
        for action in &new.actions {
            let row = self.actions.get_mut(action).unwrap();
            (row.status, row.transaction) = (ActionStatus::Signed, Some(id));
        }
        let ids = (id, attempt.id);
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
            attempts: vec![attempt],
        });
        Ok(ids)
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

    fn store(&mut self, attempt: &NewAttempt, kind: Option<AttemptKind>) -> Answer<StoredAttempt> {
        if self.transactions.iter().flat_map(|t| &t.attempts).any(|a| a.hash == attempt.hash) {
            return conflict("hash is taken");
        }
        self.attempts += 1;
        Ok(StoredAttempt {
            id: AttemptId(self.attempts),
            kind,
            hash: attempt.hash,
            raw: attempt.raw.clone(),
            gas_limit: attempt.gas_limit,
            max_fee_per_gas: attempt.max_fee_per_gas,
            max_priority_fee_per_gas: attempt.max_priority_fee_per_gas,
            signed_block: attempt.block,
            broadcast: None,
        })
    }
}

const OPEN: [TransactionStatus; 2] = [TransactionStatus::Signed, TransactionStatus::Sent];

/// The port's methods on the tables. Each is all or nothing.
impl JournalState {
    pub(crate) fn insert_plan(&mut self, plan: &BalancedPlan, dry_run: bool) -> Answer<(PlanId, Vec<ActionId>)> {
        let unit = |step: &Step| step.unit.clone().unwrap();
        let claims = |row: &ActionRow| !row.status.is_terminal() && row.status != ActionStatus::Included;
        let open = |key: &UnitKey| self.actions.values().any(|row| row.unit == *key && claims(row));
        if plan.steps().iter().any(|step| open(&unit(step))) {
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

    pub(crate) fn abandon_unsigned(&mut self, reason: &str) -> u64 {
        let unsigned = [ActionStatus::Planned, ActionStatus::Simulated];
        let mut count = 0;
        for row in self.actions.values_mut().filter(|row| unsigned.contains(&row.status)) {
            (row.status, row.reason) = (ActionStatus::Abandoned, Some(reason.to_owned()));
            count += 1;
        }
        count
    }

    pub(crate) fn next_nonce(&self, signer: Address) -> Option<u64> {
        let own = self.transactions.iter().filter(|t| t.signer == signer);
        own.map(|transaction| transaction.nonce + 1).max()
    }

    pub(crate) fn create_transactions(
        &mut self,
        new: &[(NewTransaction, NewAttempt)],
    ) -> Answer<Vec<(TransactionId, AttemptId)>> {
        let mut after = self.clone();
        let ids = new.iter().map(|(new, first)| after.create(new, first)).collect::<Answer<Vec<_>>>()?;
        *self = after;
        Ok(ids)
    }

    pub(crate) fn add_attempt(
        &mut self,
        id: TransactionId,
        attempt: &NewAttempt,
        kind: AttemptKind,
    ) -> Answer<AttemptId> {
        let attempt = self.store(attempt, Some(kind))?;
        let stored = attempt.id;
        self.transaction(id, &OPEN)?.attempts.push(attempt);
        if kind == AttemptKind::Cancel {
            self.move_actions(id, &[ActionStatus::Signed, ActionStatus::Sent], ActionStatus::Replaced);
        }
        Ok(stored)
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
        self.write(|journal| Ok(journal.abandon_unsigned(reason)))
    }

    async fn next_nonce(&self, _: u64, signer: Address) -> Answer<Option<u64>> {
        self.read(|journal| journal.next_nonce(signer))
    }

    async fn create_transactions(
        &self,
        new: &[(NewTransaction, NewAttempt)],
    ) -> Answer<Vec<(TransactionId, AttemptId)>> {
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
