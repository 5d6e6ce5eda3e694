//! The position cache: every unit of a deployment and the protocol's shared records, equal to the chain at one block.
//!
//! A change is stored with what stood before it, so that it can be undone when the chain reorganises. The maps are
//! persistent: a [`Snapshot`] is taken in constant time and never changes, while the cache moves on.
//!
//! Invariants: a change whose `before` is not what the cache holds is refused and leaves the cache as it was; applying
//! a delta and undoing it gives back the same cache, and vice versa.
//! Must not: know a protocol, do I/O or read a clock.

mod book;
mod delta;
mod unit;

pub use book::{Book, BookError, Snapshot};
pub use delta::{Change, Delta, Draft};
pub use unit::{Leg, LegKind, Record, RecordKey, Unit};
