//! The adapter on hand-made logs and on the real contracts.
