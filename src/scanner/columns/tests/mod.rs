//! The store against exact integers.

mod exact;
mod venue;
