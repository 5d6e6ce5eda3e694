//! Alerts: few, by cause, deduplicated, each with its place in the runbook.
//!
//! A stage says that a cause holds ([`AlertSink::raise`]) or no longer holds ([`AlertSink::resolve`]), as often as it
//! likes; who is told, and how often, is decided here.
//!
//! Invariants: raising never blocks and never fails (what does not fit the queue is counted and logged); a channel that
//! is down delays no other channel and no stage; a cause that stays true is told again only when it escalates or after
//! the configured reminder period, also over restarts.
//! Must not: decide anything about money, reach into the journal (the store is a port), or carry secrets in a text.

mod alert;
mod dedup;
mod dispatch;
mod metrics;
mod sink;
mod webhook;

#[cfg(test)]
mod tests;

pub use alert::{Alert, AlertKey, AlertKind, Severity};
pub use dedup::{Decision, DedupStore};
pub use dispatch::{AlertSettings, Alerts, AlertsTask};
pub use metrics::AlertMetrics;
pub use sink::AlertSink;
#[cfg(test)]
pub(crate) use sink::RecordingSink;
pub use webhook::WebhookSettings;
