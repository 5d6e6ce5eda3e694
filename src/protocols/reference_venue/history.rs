//! What was seen lately: prices of feeds and payments of funds, at a steady pace, for whoever measures volatility and runway.
//!
//! | kind | id | words |
//! |---|---|---|
//! | 13 prices | feed's address | time (Unix s) and price, oldest first |
//! | 14 payments | segment | time (Unix s) and sum paid, oldest first |
//!
//! Invariants: no two entries are nearer to each other than the pace; at most [`ENTRIES_MAX`]; a function of the logs
//! alone, so that every replica measures the same.
//! Must not: measure.

use super::state::Stored;
use crate::{positions::Record, recovery::Observation, types::U256};

/// Most entries that are kept: the longest window.
const ENTRIES_MAX: usize = 64;

/// Entries, oldest first.
type Entries = Vec<Observation>;

/// Prices of a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prices(pub(super) Entries);

/// Payments of a segment's fund.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Payments(pub(super) Entries);

impl Prices {
    /// Takes a price in; whether there was room for it at this pace.
    pub(super) fn see(&mut self, at: u64, price: U256, pace_seconds: u64) -> bool {
        let due = self.0.last().is_none_or(|last| at >= last.at.saturating_add(pace_seconds));
        if due {
            push(&mut self.0, Observation { at, value: price });
        }
        due
    }
}

impl Payments {
    /// Takes a payment in, together with others that are nearer than the pace.
    pub(super) fn see(&mut self, at: u64, amount: U256, pace_seconds: u64) {
        match self.0.last_mut().filter(|last| at < last.at.saturating_add(pace_seconds)) {
            Some(last) => last.value = last.value.saturating_add(amount),
            None => push(&mut self.0, Observation { at, value: amount }),
        }
    }
}

fn push(entries: &mut Entries, entry: Observation) {
    if entries.len() == ENTRIES_MAX {
        entries.remove(0);
    }
    entries.push(entry);
}

fn to_words(entries: &Entries) -> Record {
    entries.iter().flat_map(|entry| [U256::from(entry.at), entry.value]).collect()
}

fn from_words(words: &[U256]) -> Option<Entries> {
    let pairs = words.chunks_exact(2);
    let whole = pairs.remainder().is_empty() && words.len() <= 2 * ENTRIES_MAX;
    let entry = |pair: &[U256]| Some(Observation { at: pair[0].try_into().ok()?, value: pair[1] });
    if whole { pairs.map(entry).collect() } else { None }
}

impl Stored for Prices {
    const KIND: u16 = 13;
    const NAME: &'static str = "prices of feed";

    fn to_record(&self) -> Record {
        to_words(&self.0)
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        from_words(words).map(Self)
    }
}

impl Stored for Payments {
    const KIND: u16 = 14;
    const NAME: &'static str = "payments of segment";

    fn to_record(&self) -> Record {
        to_words(&self.0)
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        from_words(words).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_kept_at_their_pace_and_no_more_than_the_longest_window() {
        let mut prices = Prices::default();
        let kept: Vec<bool> = [100, 101, 159, 160, 500].map(|at| prices.see(at, U256::from(at), 60)).into();
        assert_eq!(kept, [true, false, false, true, true]);
        for n in 0..100 {
            prices.see(1_000 + 60 * n, U256::from(n), 60);
        }
        assert_eq!((prices.0.len(), prices.0[0].value, prices.0[63].value), (64, U256::from(36), U256::from(99)));
        assert_eq!(Prices::from_record(&prices.to_record()), Some(prices));
        assert_eq!(Prices::from_record(&[U256::ONE]), None);
        assert_eq!(Prices::from_record(&[U256::MAX, U256::ONE]), None);
    }

    #[test]
    fn payments_that_are_near_are_added_up() {
        let mut payments = Payments::default();
        for (at, amount) in [(10, 5u64), (12, 6), (80, 1)] {
            payments.see(at, U256::from(amount), 60);
        }
        let sums: Vec<(u64, u64)> = payments.0.iter().map(|seen| (seen.at, seen.value.to())).collect();
        assert_eq!(sums, [(10, 11), (80, 1)]);
    }
}
