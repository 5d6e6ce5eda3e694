//! placeholder
use thiserror::Error;
/// x
#[derive(Debug, Error)]
#[error("x")]
pub struct SavedError;
