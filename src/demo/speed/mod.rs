//! How fast the daemon is on a chain of its own: from a breached price to bytes on the wire, and through a crowd that falls at
//! once. The daemon is a process as an operator runs it; Postgres writes through.
//!
//! Invariants: what is measured is seen at the node, not told by the daemon.
//! Must not: change what the daemon does beyond its configuration.

mod crowd;
mod reaction;
mod track;

use std::path::PathBuf;

pub use crowd::{Crowd, WORST, crowd};
pub use reaction::{Reactions, reactions};

/// With what, and where.
#[derive(Clone, Debug)]
pub struct SpeedOptions {
    /// The daemon's executable.
    pub executable: PathBuf,
    /// Where configurations and logs go.
    pub folder: PathBuf,
}
