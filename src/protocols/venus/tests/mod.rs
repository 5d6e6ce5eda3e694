//! The adapter as a whole, on logs built by hand.

mod applying;
mod fixture;
mod fuzzing;
mod offering;
mod random;
