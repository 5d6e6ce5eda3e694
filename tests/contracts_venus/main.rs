//! The Venus adapter against the protocol's real contracts, without a daemon: its figures against every view, and what it
//! offers against what the contracts accept.
//!
//! Needs the package `@venusprotocol/isolated-pools`; see `tools/protocols/`.

mod actions;
mod figures;
mod offers;
mod world;
