//! Seeded choices: the same seed plays the same story on every machine.

use backstop::types::U256;

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    /// The choices of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both possible; `low` must not be above `high`.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = u128::from(high - low) + 1;
        low + u64::try_from(u128::from(self.bits()) % span).expect("below the span")
    }

    /// Whether something happens that happens in so many of 100 cases.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.between(1, 100) <= chance
    }

    /// One of these; panics if there is none.
    pub(crate) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        let last = among.len().checked_sub(1).expect("something to pick from");
        &among[usize::try_from(self.between(0, last as u64)).expect("an index")]
    }

    /// A share of an amount, from `low` to `high` basis points of it, rounded down.
    pub(crate) fn share(&mut self, amount: U256, low: u64, high: u64) -> U256 {
        amount * U256::from(self.between(low, high)) / U256::from(10_000)
    }
}

#[test]
fn a_seed_repeats_and_bounds_hold() {
    let draw = |seed| {
        let mut rng = Rng::new(seed);
        (0..200).map(|_| rng.between(3, 9)).collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
    assert!((3..=9).all(|n| draw(1).contains(&n)) && draw(1).iter().all(|n| (3..=9).contains(n)));
    assert_eq!(Rng::new(1).share(U256::from(1_000), 5_000, 5_000), U256::from(500));
}
