//! Logs: structured, to standard error, for people or for machines.

use std::io::{IsTerminal, stderr};

use anyhow::{Context, anyhow};
use tracing_subscriber::EnvFilter;

/// Starts logging, once a process: one JSON object a line if `json`, else lines for people. Standard output stays free
/// for what commands print.
pub fn init_logging(json: bool, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).context("parse the log filter")?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr);
    let started = if json {
        lines.json().flatten_event(true).try_init()
    } else {
        lines.with_ansi(stderr().is_terminal()).try_init()
    };
    started.map_err(|error| anyhow!("start logging: {error}"))
}
