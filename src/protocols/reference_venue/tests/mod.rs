//! The adapter as a whole, on logs built by hand.

mod applying;
mod casing;
mod fixture;
mod fuzzing;
mod pooling;
mod sending;
mod valuing;
