//! The adapter as a whole, on logs and answers made by hand.

mod applying;
mod casing;
mod fixture;
mod fuzzing;
mod sending;
mod valuing;
