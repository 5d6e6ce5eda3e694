//! The journal: everything backstop knows, decided and did, in Postgres. The only place with SQL.
//!
//! One file per group of tables. Every method is one named transaction at repeatable read, under a deadline, repeated a
//! bounded number of times where Postgres says that it lost a race, and it changes nothing when it fails.
//!
//! Invariants, each enforced by the database itself (constraints, or updates guarded by the status they start from): one
//! nonce of a signer belongs to one transaction; an action belongs to at most one transaction, and one of a dry-run plan
//! to none; a subject (unit or market) has at most one open group of actions; a terminal action never moves; at most
//! one attempt of a transaction is included; a segment has at most one open episode; a plan's books balance. Amounts
//! are NUMERIC(78,0) and never rounded. `migrations/README.md` describes every table.
//! Must not: talk to a chain, decide anything, or know a protocol.

mod accounts;
mod actions;
mod ahead;
mod alerts;
mod attempts;
mod cache;
mod decisions;
mod deployments;
mod episodes;
mod error;
mod events;
mod findings;
mod first;
mod history;
mod leases;
mod plans;
mod retention;
mod risk;
mod schema;
mod session;
mod settings;
mod status;
mod transactions;
mod values;

#[cfg(test)]
mod tests;

pub use accounts::{Burden, EpisodeAccount, EpisodeRow, Progress};
pub use actions::{ActionFilter, ActionRow};
pub use ahead::{AheadPlan, Entered, FirstSignature};
pub use alerts::{AlertDecision, AlertRow, AlertSeverity};
pub use attempts::{AttemptKind, BroadcastOutcome, IncludedReceipt, NewAttempt, StoredAttempt};
pub use decisions::KeptPlan;
pub use deployments::DeploymentRow;
pub use error::{ErrorClass, JournalError};
pub use events::{ActionEvent, EventFilter};
pub use findings::{FindingChange, FindingRow};
pub use history::{ActionHistory, AttemptRow, UnitHistory};
pub use leases::{Lease, Tenure};
pub use retention::Forgotten;
pub use settings::{CameBy, SettingsChange};
pub use status::{ActionStatus, TransactionStatus};
pub use transactions::{NewTransaction, Touches, UnsettledTransaction};

use std::sync::Arc;

use sqlx::PgPool;

/// What every method answers.
pub type Result<T> = std::result::Result<T, JournalError>;

/// A handle to the journal: a connection pool. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    pool: PgPool,
    /// What must hold for plans and signed bytes to be written.
    fence: Option<Arc<Lease>>,
}

macro_rules! row_ids {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
        pub struct $name(pub i64);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )*};
}

row_ids! {
    /// Row id of a deployment.
    DeploymentId,
    /// Row id of an episode: one segment's trouble from its first distressed unit until it is calm.
    EpisodeId,
    /// Row id of a plan.
    PlanId,
    /// Row id of an action: one step of a plan.
    ActionId,
    /// Row id of a transaction: one nonce of one signer.
    TransactionId,
    /// Row id of an attempt: one signed form of a transaction.
    AttemptId,
}
