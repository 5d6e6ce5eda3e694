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
    recovery::BalancedPlan,
    types::{Address, U256, UnitKey},
};

/// One action's row.
#[derive(Clone, Debug)]
pub(super) struct ActionRow {
    pub(super) unit: UnitKey,
    pub(super) status: ActionStatus,
    pub(super) reason: Option<String>,
    pub(super) transaction: Option<TransactionId>,
    dry_run: bool,
}

/// The tables.
#[derive(Clone, Debug, Default)]
pub(super) struct JournalState {
    pub(super) actions: BTreeMap<ActionId, ActionRow>,
    pub(super) transactions: Vec<UnsettledTransaction>,
    pub(super) receipts: BTreeMap<TransactionId, IncludedReceipt>,
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

const OPEN: [TransactionStatus; 2] = [TransactionStatus::Signed, TransactionStatus::Sent];

impl JournalPort for FakeJournal {
    async fn insert_plan(
        &self,
        _: DeploymentId,
        _: EpisodeId,
        plan: &BalancedPlan,
        dry_run: bool,
    ) -> Answer<(PlanId, Vec<ActionId>)> {
        self.write(|journal| {
            let unit = |step: &crate::recovery::Step| step.unit.clone().unwrap();
            let claims = |row: &ActionRow| !row.status.is_terminal() && row.status != ActionStatus::Included;
            let open = |key: &UnitKey| journal.actions.values().any(|row| row.unit == *key && claims(row));
            if plan.steps().iter().any(|step| open(&unit(step))) {
                return conflict("a unit has an open action");
            }
            journal.plans += 1;
            let mut ids = Vec::new();
            for step in plan.steps() {
                let id = ActionId(journal.actions.len() as i64 + 1);
                let status = ActionStatus::Planned;
                let row = ActionRow { unit: unit(step), status, reason: None, transaction: None, dry_run };
                journal.actions.insert(id, row);
                ids.push(id);
            }
            Ok((PlanId(journal.plans), ids))
        })
    }

    async fn set_action_status(
        &self,
        actions: &[ActionId],
        status: ActionStatus,
        reason: Option<&str>,
        _: u64,
    ) -> Answer<()> {
        let from: &[ActionStatus] = match status {
            ActionStatus::Simulated => &[ActionStatus::Planned],
            ActionStatus::Rejected | ActionStatus::Abandoned => &[ActionStatus::Planned, ActionStatus::Simulated],
            _ => return conflict("follows a transaction"),
        };
        self.write(|journal| {
            if actions.iter().any(|id| !from.contains(&journal.actions[id].status)) {
                return conflict("an action is elsewhere");
            }
            for id in actions {
                let row = journal.actions.get_mut(id).unwrap();
                row.status = status;
                row.reason = reason.map(str::to_owned).or(row.reason.take());
            }
            Ok(())
        })
    }

    async fn abandon_unsigned(&self, _: DeploymentId, reason: &str, _: u64) -> Answer<u64> {
        self.write(|journal| {
            let unsigned = [ActionStatus::Planned, ActionStatus::Simulated];
            let mut count = 0;
            for row in journal.actions.values_mut().filter(|row| unsigned.contains(&row.status)) {
                (row.status, row.reason) = (ActionStatus::Abandoned, Some(reason.to_owned()));
                count += 1;
            }
            Ok(count)
        })
    }

    async fn next_nonce(&self, _: u64, signer: Address) -> Answer<Option<u64>> {
        self.read(|journal| {
            let own = journal.transactions.iter().filter(|t| t.signer == signer);
            own.map(|transaction| transaction.nonce + 1).max()
        })
    }

    async fn create_transactions(
        &self,
        new: &[(NewTransaction, NewAttempt)],
    ) -> Answer<Vec<(TransactionId, AttemptId)>> {
        self.write(|journal| {
            let mut after = journal.clone();
            let ids = new.iter().map(|(new, first)| after.create(new, first)).collect::<Answer<Vec<_>>>()?;
            *journal = after;
            Ok(ids)
        })
    }

    async fn add_attempt(&self, id: TransactionId, attempt: &NewAttempt, kind: AttemptKind) -> Answer<AttemptId> {
        self.write(|journal| {
            let attempt = journal.store(attempt, Some(kind))?;
            let stored = attempt.id;
            journal.transaction(id, &OPEN)?.attempts.push(attempt);
            if kind == AttemptKind::Cancel {
                journal.move_actions(id, &[ActionStatus::Signed, ActionStatus::Sent], ActionStatus::Replaced);
            }
            Ok(stored)
        })
    }

    async fn mark_broadcasts(&self, said: &[(AttemptId, BroadcastOutcome)], _: u64) -> Answer<()> {
        self.write(|journal| said.iter().try_for_each(|(id, outcome)| journal.answer(*id, outcome)))
    }

    async fn mark_included(&self, id: TransactionId, attempt: AttemptId, receipt: &IncludedReceipt) -> Answer<()> {
        self.write(|journal| {
            let transaction = journal.transaction(id, &OPEN)?;
            (transaction.status, transaction.included) = (TransactionStatus::Included, Some((attempt, receipt.block)));
            let kind = transaction.attempts.iter().find(|a| a.id == attempt).unwrap().kind;
            journal.receipts.insert(id, receipt.clone());
            use ActionStatus::{Included, Replaced, Reverted, Sent, Signed};
            match kind {
                Some(AttemptKind::Cancel) => journal.move_actions(id, &[Signed, Sent], Replaced),
                _ if receipt.success => journal.move_actions(id, &[Signed, Sent, Replaced], Included),
                _ => journal.move_actions(id, &[Signed, Sent, Replaced], Reverted),
            }
            Ok(())
        })
    }

    async fn mark_reorged(&self, id: TransactionId) -> Answer<()> {
        self.write(|journal| {
            let transaction = journal.transaction(id, &[TransactionStatus::Included])?;
            (transaction.status, transaction.included) = (TransactionStatus::Sent, None);
            journal.receipts.remove(&id);
            journal.move_actions(id, &[ActionStatus::Included], ActionStatus::Sent);
            Ok(())
        })
    }

    async fn mark_final(&self, id: TransactionId) -> Answer<()> {
        self.write(|journal| {
            journal.transaction(id, &[TransactionStatus::Included])?.status = TransactionStatus::Final;
            journal.move_actions(id, &[ActionStatus::Included], ActionStatus::Final);
            journal.move_actions(id, &[ActionStatus::Replaced], ActionStatus::Abandoned);
            Ok(())
        })
    }

    async fn mark_superseded(&self, id: TransactionId, _: &str) -> Answer<()> {
        self.write(|journal| {
            journal.transaction(id, &OPEN)?.status = TransactionStatus::Superseded;
            let from = [ActionStatus::Signed, ActionStatus::Sent, ActionStatus::Replaced];
            journal.move_actions(id, &from, ActionStatus::Superseded);
            Ok(())
        })
    }

    async fn unsettled_transactions(&self, _: DeploymentId) -> Answer<Vec<UnsettledTransaction>> {
        let settled = [TransactionStatus::Final, TransactionStatus::Superseded];
        self.read(|journal| journal.transactions.iter().filter(|t| !settled.contains(&t.status)).cloned().collect())
    }

    async fn spent_wei_within(&self, _: u64, _: Address, _: Duration) -> Answer<U256> {
        self.read(|journal| {
            let costs = journal.receipts.values();
            costs.map(|r| U256::from(r.gas_used) * U256::from(r.effective_gas_price)).sum()
        })
    }
}
