//! Deleveraging policies: who of the winners is closed, and how many lots of each.
//!
//! Invariants of every policy: no candidate beyond its `lots_max`; together as many lots as asked, or all that the
//! candidates have; a deterministic function of the candidates, ties by unit key.

mod pro_rata;
mod queue;

use alloy::primitives::U256;
pub use pro_rata::ProRata;
pub use queue::Queue;

use crate::types::UnitKey;

/// A winner that may be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub unit: UnitKey,
    /// Lots it may be closed by: its position, or fewer where it could not pay for more.
    pub lots_max: U256,
    /// Unrealised profit of the position, settlement-token units.
    pub profit: U256,
    /// The most it may pay: its profit, or its surplus where that is less.
    pub capacity: U256,
    /// Value of the whole position at the mark.
    pub notional: U256,
    /// Its equity over all markets.
    pub equity: U256,
}

/// A rule for choosing.
pub trait AdlPolicy: Sync {
    /// The config word.
    fn name(&self) -> &'static str;

    /// How many lots of whom, in the order they are charged: pairs of an index into `candidates` and lots > 0.
    fn allot(&self, candidates: &[Candidate], lots: U256) -> Vec<(usize, U256)>;
}

/// The registry: one line a policy.
const POLICIES: [&dyn AdlPolicy; 2] = [&ProRata, &Queue];

/// The policy a config word names.
pub fn adl_policy(word: &str) -> Option<&'static dyn AdlPolicy> {
    POLICIES.into_iter().find(|policy| policy.name() == word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(id: u16, (lots_max, profit, notional, equity): (u32, u32, u32, u32)) -> Candidate {
        let [lots_max, profit, notional, equity] = [lots_max, profit, notional, equity].map(U256::from);
        let unit = UnitKey::new(id.to_be_bytes().to_vec()).unwrap();
        Candidate { unit, lots_max, profit, capacity: profit, notional, equity }
    }

    fn figures() -> impl Strategy<Value = (u32, u32, u32, u32)> {
        (1u32..1_000, 1u32..1_000_000, 1u32..1_000_000, 1u32..1_000_000)
    }

    fn lots_of(allotted: &[(usize, U256)], index: usize) -> U256 {
        allotted.iter().filter(|(i, _)| *i == index).fold(U256::ZERO, |sum, (_, lots)| sum + *lots)
    }

    proptest! {
        #[test]
        fn every_policy_allots_what_is_asked_within_the_caps(
            figures in prop::collection::vec(figures(), 0..40), asked in 0u32..20_000,
        ) {
            let candidates: Vec<_> = (0..).zip(figures).map(|(id, f)| candidate(id, f)).collect();
            let available = candidates.iter().fold(U256::ZERO, |sum, c| sum + c.lots_max);
            for policy in POLICIES {
                let allotted = policy.allot(&candidates, U256::from(asked));
                let total = allotted.iter().fold(U256::ZERO, |sum, (_, lots)| sum + *lots);
                prop_assert_eq!(total, available.min(U256::from(asked)), "{}", policy.name());
                for (index, lots) in &allotted {
                    prop_assert!(!lots.is_zero() && *lots <= candidates[*index].lots_max);
                    prop_assert_eq!(lots_of(&allotted, *index), *lots, "each once");
                }
            }
        }

        /// Nobody gains or loses by splitting an account: the halves are closed by what the whole was, within the lots
        /// that rounding moves, and so is everybody else.
        #[test]
        fn pro_rata_does_not_see_how_a_winner_is_split(
            figures in prop::collection::vec(figures(), 1..20), asked in 0u32..5_000,
        ) {
            let whole: Vec<_> = (1..).zip(&figures).map(|(id, f)| {
                candidate(id, (f.0 * 2, f.1 * 2, f.2, f.3))
            }).collect();
            let mut split = whole.clone();
            let half = Candidate { lots_max: whole[0].lots_max / U256::from(2), profit: whole[0].profit / U256::from(2), ..whole[0].clone() };
            split[0] = half.clone();
            split.push(Candidate { unit: UnitKey::new(vec![0xff; 3]).unwrap(), ..half });
            let before = ProRata.allot(&whole, U256::from(asked));
            let after = ProRata.allot(&split, U256::from(asked));
            let halves = lots_of(&after, 0) + lots_of(&after, split.len() - 1);
            prop_assert!(halves.abs_diff(lots_of(&before, 0)) <= U256::from(2));
            for index in 1..whole.len() {
                prop_assert!(lots_of(&after, index).abs_diff(lots_of(&before, index)) <= U256::ONE);
            }
        }
    }

    #[test]
    fn the_queue_takes_the_highest_profit_times_leverage_first() {
        // Scores: 100 · 1000/500 = 200, 50 · 9000/1000 = 450, 100 · 1000/500 = 200.
        let candidates = [
            candidate(3, (5, 100, 1_000, 500)),
            candidate(2, (5, 50, 9_000, 1_000)),
            candidate(1, (5, 100, 1_000, 500)),
        ];
        let lots = |n: u32| U256::from(n);
        assert_eq!(Queue.allot(&candidates, lots(7)), [(1, lots(5)), (2, lots(2))]);
    }

    #[test]
    fn policies_are_found_by_their_words() {
        assert_eq!(adl_policy("pro_rata").map(|p| p.name()), Some("pro_rata"));
        assert_eq!(adl_policy("queue").map(|p| p.name()), Some("queue"));
        assert!(adl_policy("lottery").is_none());
    }
}
