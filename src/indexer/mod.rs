//! Chain and adapter to cache changes.
