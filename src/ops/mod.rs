//! What operators see of the running process: metrics, health, logs, and how it ends.
//!
//! Invariants: readiness is a pure function of what the stages reported and the time, and says every reason; whatever is
//! not known is not ready; a panic anywhere ends the process, so that whoever supervises it starts a clean one.
//! Must not: read the chain or the journal (stages report to it), or show anything secret: `/metrics`, `/healthz` and
//! `/readyz` need no password. What changes something (`POST /v1/reload`) needs the token.

mod health;
mod logging;
mod metrics;
mod process;
mod server;

pub use health::{Beats, DeploymentHealth, Health, Heartbeat, Limits, Role, readiness};
pub use logging::init_logging;
pub use metrics::Metrics;
pub use process::{end_on_panic, hangups, stop_on_signals};
pub use server::{Control, OpsServer, Reloaded};
