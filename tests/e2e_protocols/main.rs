//! The daemon as a process on real protocols' contracts. `harness` says how a protocol's module is written; each module
//! has one test of its protocol's name, which `make e2e PROTOCOL=name` runs alone.

#[allow(dead_code, reason = "the first protocol's module is being written")]
mod harness;
