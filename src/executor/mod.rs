//! Plans to transactions.
