//! Plans to transactions.

mod decide;
pub mod fees;
mod gate;
mod metrics;
pub mod ports;
pub mod signer;
mod steps;
