//! The daemon as a process on real protocols' contracts. `harness` says how a protocol's module is written; each module
//! has one test of its protocol's name, which `make e2e PROTOCOL=name` runs alone.

mod aave_v3;
mod harness;
mod morpho_blue;
mod morpho_blue_scenes;
mod perp_v2;
mod venus;
