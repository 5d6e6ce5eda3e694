//! The demo.

pub mod anvil;
pub mod postgres;
