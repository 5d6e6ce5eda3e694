//! Interest rate models: the borrow rate of one slot, from a market's sums.
//!
//! | form | words after it | contract |
//! |---|---|---|
//! | 1 one kink | base, multiplier, jump multiplier, kink | `JumpRateModelV2` |
//! | 2 straight | base, multiplier | `WhitePaperInterestRateModel` |
//! | 3 two kinks | base, multiplier, first kink, second base, second multiplier, second kink, jump multiplier (signed) | `TwoKinksInterestRateModel` |
//! | 4 unknown | – | any other: its rate is read at every block |
//!
//! All figures are scaled by 1e18; rates are of one slot. Every division truncates as the contracts' do.
//! Must not: read anything.

use super::state::{Rate, Stored};
use crate::{
    positions::Record,
    scanner::Unvalued,
    types::{I256, U256},
};

/// 1e18: one.
pub(super) const ONE: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

/// How a market's borrow rate follows from its sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RateModel {
    /// A line with one kink.
    OneKink {
        /// Rate at no use.
        base: U256,
        /// Slope below the kink.
        multiplier: U256,
        /// Slope above it.
        jump: U256,
        /// Where the slope changes.
        kink: U256,
    },
    /// A line.
    Straight {
        /// Rate at no use.
        base: U256,
        /// Slope.
        multiplier: U256,
    },
    /// A line with two kinks; what lies beyond a kink counts from there.
    TwoKinks {
        /// Rate at no use.
        base: I256,
        /// Slope below the first kink.
        multiplier: I256,
        /// The first kink.
        kink: I256,
        /// What the second line adds at once.
        second_base: I256,
        /// Slope between the kinks.
        second_multiplier: I256,
        /// The second kink.
        second_kink: I256,
        /// Slope above the second kink.
        jump: I256,
    },
    /// None of these.
    Unknown,
}

impl Stored for RateModel {
    const KIND: u16 = 5;
    const NAME: &'static str = "rate model";

    fn to_record(&self) -> Record {
        let form = |form: u8, words: &[U256]| [&[U256::from(form)], words].concat();
        match *self {
            Self::OneKink { base, multiplier, jump, kink } => form(1, &[base, multiplier, jump, kink]),
            Self::Straight { base, multiplier } => form(2, &[base, multiplier]),
            Self::TwoKinks { base, multiplier, kink, second_base, second_multiplier, second_kink, jump } => {
                let words = [base, multiplier, kink, second_base, second_multiplier, second_kink, jump];
                form(3, &words.map(I256::into_raw))
            }
            Self::Unknown => form(4, &[]),
        }
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let (form, words) = words.split_first()?;
        match (u8::try_from(*form).ok()?, words) {
            (1, &[base, multiplier, jump, kink]) => Some(Self::OneKink { base, multiplier, jump, kink }),
            (2, &[base, multiplier]) => Some(Self::Straight { base, multiplier }),
            (3, words) => {
                let words: [U256; 7] = words.try_into().ok()?;
                let [base, multiplier, kink, second_base, second_multiplier, second_kink, jump] =
                    words.map(I256::from_raw);
                Some(Self::TwoKinks { base, multiplier, kink, second_base, second_multiplier, second_kink, jump })
            }
            (4, []) => Some(Self::Unknown),
            _ => None,
        }
    }
}

/// What a rate depends on, token units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums {
    pub(super) cash: U256,
    pub(super) borrows: U256,
    pub(super) reserves: U256,
    pub(super) bad_debt: U256,
}

impl RateModel {
    /// `getBorrowRate(cash, borrows, reserves, badDebt)`; `read` is the market's own answer, for an unknown form.
    pub(super) fn borrow_rate(&self, sums: &Sums, read: Option<Rate>) -> Result<U256, Unvalued> {
        let rate = match self {
            Self::OneKink { base, multiplier, jump, kink } => {
                one_kink(utilisation(sums), *base, *multiplier, *jump, *kink)
            }
            Self::Straight { base, multiplier } => {
                utilisation(sums).and_then(|used| scaled(used, *multiplier)?.checked_add(*base))
            }
            Self::TwoKinks { .. } => utilisation(sums).and_then(|used| self.two_kinks(used)),
            Self::Unknown => {
                return read
                    .map(|rate| rate.0)
                    .ok_or_else(|| Unvalued::Missing("a rate of a model of unknown form".to_owned()));
            }
        };
        rate.ok_or(Unvalued::Overflow("borrow rate"))
    }

    /// As `TwoKinksInterestRateModel._getBorrowRate`: signed, toward zero, never below zero. The two rates that the
    /// contract keeps ready are formed here each time, by the same divisions.
    fn two_kinks(&self, used: U256) -> Option<U256> {
        let &Self::TwoKinks { base, multiplier, kink, second_base, second_multiplier, second_kink, jump } = self else {
            return None;
        };
        let (one, used) = (I256::try_from(ONE).ok()?, I256::try_from(used).ok()?);
        let part = |slope: I256, along: I256| along.checked_mul(slope)?.checked_div(one);
        let rate = if used < kink {
            part(multiplier, used)?.checked_add(base)?
        } else {
            let first = part(multiplier, kink)?.checked_add(base)?;
            if used < second_kink {
                let second = part(second_multiplier, used.checked_sub(kink)?)?.checked_add(second_base)?;
                first.checked_add(second)?
            } else {
                let second = part(second_multiplier, second_kink.checked_sub(kink)?)?.checked_add(second_base)?;
                first.checked_add(second)?.checked_add(part(jump, used.checked_sub(second_kink)?)?)?
            }
        };
        Some(if rate.is_negative() { U256::ZERO } else { rate.into_raw() })
    }
}

fn one_kink(used: Option<U256>, base: U256, multiplier: U256, jump: U256, kink: U256) -> Option<U256> {
    let used = used?;
    if used <= kink {
        return scaled(used, multiplier)?.checked_add(base);
    }
    scaled(used - kink, jump)?.checked_add(scaled(kink, multiplier)?.checked_add(base)?)
}

/// (borrows + bad debt) / (cash + borrows + bad debt − reserves), × 1e18, rounded down, at most 1e18.
fn utilisation(sums: &Sums) -> Option<U256> {
    let owed = sums.borrows.checked_add(sums.bad_debt)?;
    if owed.is_zero() {
        return Some(U256::ZERO);
    }
    let assets = sums.cash.checked_add(owed)?.checked_sub(sums.reserves)?;
    Some(owed.checked_mul(ONE)?.checked_div(assets)?.min(ONE))
}

/// a · b / 1e18, rounded down, in 256 bits like the contract.
pub(super) fn scaled(a: U256, b: U256) -> Option<U256> {
    Some(a.checked_mul(b)? / ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(cash: u64, borrows: u64, reserves: u64, bad_debt: u64) -> Sums {
        let [cash, borrows, reserves, bad_debt] = [cash, borrows, reserves, bad_debt].map(U256::from);
        Sums { cash, borrows, reserves, bad_debt }
    }

    fn percent(x: u64) -> U256 {
        U256::from(x) * ONE / U256::from(100)
    }

    #[test]
    fn bad_debt_counts_as_used_and_reserves_do_not_lend() {
        assert_eq!(utilisation(&sums(100, 0, 0, 0)), Some(U256::ZERO));
        assert_eq!(utilisation(&sums(50, 50, 0, 0)), Some(percent(50)));
        assert_eq!(utilisation(&sums(50, 25, 0, 25)), Some(percent(50)));
        assert_eq!(utilisation(&sums(60, 50, 10, 0)), Some(percent(50)));
        assert_eq!(utilisation(&sums(0, 50, 10, 0)), Some(ONE), "never above one");
        assert_eq!(utilisation(&sums(0, 50, 50, 0)), None, "the contract divides by zero");
    }

    #[test]
    fn the_kink_itself_is_still_on_the_first_line() {
        let model = RateModel::OneKink {
            base: U256::from(7),
            multiplier: U256::from(1_000),
            jump: U256::from(50_000),
            kink: percent(50),
        };
        let rate = |cash, borrows| model.borrow_rate(&sums(cash, borrows, 0, 0), None).unwrap();
        assert_eq!(rate(50, 50), U256::from(507));
        assert_eq!(rate(40, 60), U256::from(507 + 5_000));
        assert_eq!(RateModel::from_record(&model.to_record()), Some(model.clone()));
    }

    #[test]
    fn a_falling_second_line_never_goes_below_zero() {
        let int = |x: i64| I256::try_from(x).unwrap();
        let kink = |p: u64| I256::try_from(percent(p)).unwrap();
        let model = RateModel::TwoKinks {
            base: int(10),
            multiplier: int(100),
            kink: kink(40),
            second_base: int(0),
            second_multiplier: int(-1_000),
            second_kink: kink(80),
            jump: int(4_000),
        };
        let rate = |cash, borrows| model.borrow_rate(&sums(cash, borrows, 0, 0), None).unwrap();
        assert_eq!(rate(80, 20), U256::from(30));
        assert_eq!(rate(60, 40), U256::from(50), "the first kink is on the second line");
        assert_eq!(rate(40, 60), U256::ZERO, "50 − 200");
        assert_eq!(rate(20, 80), U256::ZERO, "50 − 400");
        assert_eq!(rate(0, 80), U256::from(450), "50 − 400 + 800");
        assert_eq!(RateModel::from_record(&model.to_record()), Some(model.clone()));
    }

    #[test]
    fn an_unknown_form_says_what_was_read_or_nothing() {
        let model = RateModel::Unknown;
        assert_eq!(model.borrow_rate(&sums(1, 1, 0, 0), Some(Rate(U256::from(9)))), Ok(U256::from(9)));
        assert!(model.borrow_rate(&sums(1, 1, 0, 0), None).is_err());
        assert_eq!(RateModel::from_record(&model.to_record()), Some(model));
        let straight = RateModel::Straight { base: U256::from(2), multiplier: U256::from(100) };
        assert_eq!(straight.borrow_rate(&sums(50, 50, 0, 0), None), Ok(U256::from(52)));
        assert_eq!(RateModel::from_record(&straight.to_record()), Some(straight));
        assert_eq!(RateModel::from_record(&[U256::from(9)]), None);
    }
}
