//! Recovery beyond one venue's means, on a real EVM with the committed contracts: two venues on one backstop pool, and the
//! margin controller against the same crash without it. Both print their figures; run with `--nocapture` to see them.
//!
//! Scenes send the calls themselves. What they decide with (allocation, controller) is the library's.

mod pool;
mod recalibration;
mod world;
