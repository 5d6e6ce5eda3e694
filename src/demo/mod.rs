//! The demo.

pub mod postgres;
