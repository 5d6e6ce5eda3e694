//! backstop: an off-chain keeper that liquidates in time and, where that was not enough, walks the recovery waterfall
//! until the books of a protocol balance.
//!
//! ```text
//! chain ─logs─▶ indexer ─changes─▶ positions ─snapshot─▶ scanner ─findings─▶ recovery ─plan─▶ executor ─tx─▶ chain
//! ```
//!
//! `types`, `positions`, `scanner` and `recovery` are the pure core: deterministic functions without I/O or clock. The
//! rest is shell. `pipeline` is where stages meet, `run` is where parts are wired. `docs/ARCHITECTURE.md` is the map.

pub mod types;

pub mod positions;

pub mod scanner;

pub mod recovery;

pub mod protocols;

pub mod chain;

pub mod indexer;

pub mod executor;

pub mod journal;

pub mod alerts;

pub mod ops;

pub mod config;

pub mod figures;

pub mod demo;

pub mod pipeline;

pub mod run;

pub mod cli;
