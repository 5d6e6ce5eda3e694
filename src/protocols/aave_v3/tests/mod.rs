//! The adapter on hand-made logs and on the real contracts.

mod applying;
mod casing;
mod contracts;
mod fixture;
mod fuzzing;
mod market;
mod sending;
