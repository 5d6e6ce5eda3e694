//! The unmodified daemon, as a process, on the real contracts of real protocols.
//!
//! One test a protocol; `harness` says how one is written. They need `tools/setup.sh anvil postgres protocols`.

#[allow(dead_code, reason = "what no protocol here uses yet, the next one will")]
mod harness;
