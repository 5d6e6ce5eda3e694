//! The demo.

pub mod anvil;
