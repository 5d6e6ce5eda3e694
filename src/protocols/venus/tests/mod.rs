//! The adapter as a whole, on logs built by hand.
