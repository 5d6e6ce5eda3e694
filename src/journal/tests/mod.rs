//! The journal against a real Postgres, a database per test.

use super::*;

/// The daemon runs every method inside spawned tasks.
#[test]
fn futures_can_move_between_threads() {
    fn spawnable<F: Future + Send>(_: impl Fn(&'static Journal, &'static Bundle) -> F) {}
    struct Bundle {
        transaction: NewTransaction,
        attempt: NewAttempt,
        receipt: IncludedReceipt,
        alert: AlertRow,
    }
    spawnable(|journal, b| journal.create_transaction(&b.transaction, &b.attempt));
    spawnable(|journal, b| journal.add_attempt(TransactionId(1), &b.attempt, AttemptKind::Cancel));
    spawnable(|journal, b| journal.mark_included(TransactionId(1), AttemptId(1), &b.receipt));
    spawnable(|journal, b| journal.raise_alert(&b.alert));
    spawnable(|journal, _| journal.unsettled_transactions(DeploymentId(1)));
    spawnable(|journal, _| journal.load_cache(DeploymentId(1)));
}
