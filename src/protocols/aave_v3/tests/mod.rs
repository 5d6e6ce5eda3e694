//! The adapter on the real contracts.

mod contracts;
mod market;
