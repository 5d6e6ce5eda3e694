//! Plans to transactions.

mod decide;
pub mod fees;
pub mod signer;
