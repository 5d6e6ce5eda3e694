//! Metrics and health.
mod logging;
pub use logging::LogFormat;
