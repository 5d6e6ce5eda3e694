//! A reserve's configuration, the one word in which the pool keeps it.
//!
//! Layout as of `DataTypes.ReserveConfigurationMap`. Kept whole, so that bits this adapter does not read survive and the
//! word can be held against `getConfiguration`.
//!
//! Must not: know events.

use crate::types::U256;

/// A field's first bit and width.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    start: usize,
    width: usize,
}

impl Field {
    const fn new(start: usize, width: usize) -> Self {
        Self { start, width }
    }

    /// The largest value, in place 0.
    fn mask(self) -> U256 {
        (U256::ONE << self.width) - U256::ONE
    }
}

/// Loan to value, bps.
pub(super) const LTV: Field = Field::new(0, 16);
/// Liquidation threshold outside e-mode, bps.
pub(super) const LIQUIDATION_THRESHOLD: Field = Field::new(16, 16);
/// Liquidation bonus outside e-mode, bps, 10,000 and more.
pub(super) const LIQUIDATION_BONUS: Field = Field::new(32, 16);
/// Decimals of the underlying token.
pub(super) const DECIMALS: Field = Field::new(48, 8);
/// In use.
pub(super) const ACTIVE: Field = Field::new(56, 1);
/// No new supply or debt.
pub(super) const FROZEN: Field = Field::new(57, 1);
/// May be borrowed outside e-mode.
pub(super) const BORROWING: Field = Field::new(58, 1);
/// Nothing moves, liquidations neither.
pub(super) const PAUSED: Field = Field::new(60, 1);
/// May be borrowed against isolated collateral.
pub(super) const BORROWABLE_IN_ISOLATION: Field = Field::new(61, 1);
/// Must be a borrower's only debt.
pub(super) const SILOED: Field = Field::new(62, 1);
/// May be taken in flash loans.
pub(super) const FLASH_LOANS: Field = Field::new(63, 1);
/// The treasury's share of interest, bps.
pub(super) const RESERVE_FACTOR: Field = Field::new(64, 16);
/// Whole tokens, 0: none.
pub(super) const BORROW_CAP: Field = Field::new(80, 36);
/// Whole tokens, 0: none.
pub(super) const SUPPLY_CAP: Field = Field::new(116, 36);
/// The treasury's share of liquidation bonuses, bps.
pub(super) const PROTOCOL_FEE: Field = Field::new(152, 16);
/// Debt ceiling as isolated collateral, cents; 0: not isolated.
pub(super) const DEBT_CEILING: Field = Field::new(212, 40);

/// The word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Config(pub(super) U256);

impl Config {
    /// A field's value.
    pub(super) fn get(self, field: Field) -> U256 {
        (self.0 >> field.start) & field.mask()
    }

    /// Whether a one-bit field is set.
    pub(super) fn is(self, field: Field) -> bool {
        !self.get(field).is_zero()
    }

    /// The word with a field changed; `None` where the value does not fit, which the pool would have refused.
    pub(super) fn with(self, field: Field, value: U256) -> Option<Self> {
        (value <= field.mask()).then(|| Self((self.0 & !(field.mask() << field.start)) | (value << field.start)))
    }

    /// Units in one whole token; `None` before the word was read, and where the power does not fit.
    pub(super) fn token_unit(self) -> Option<U256> {
        let decimals = self.get(DECIMALS);
        U256::from(10u8).checked_pow(decimals).filter(|_| !decimals.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_changes_alone() {
        let all = [
            LTV,
            LIQUIDATION_THRESHOLD,
            LIQUIDATION_BONUS,
            DECIMALS,
            ACTIVE,
            FROZEN,
            BORROWING,
            PAUSED,
            BORROWABLE_IN_ISOLATION,
            SILOED,
            FLASH_LOANS,
            RESERVE_FACTOR,
            BORROW_CAP,
            SUPPLY_CAP,
            PROTOCOL_FEE,
            DEBT_CEILING,
        ];
        for (at, field) in all.into_iter().enumerate() {
            let full = Config(U256::MAX).with(field, U256::ZERO).unwrap();
            for (other, neighbour) in all.into_iter().enumerate() {
                assert_eq!(full.get(neighbour).is_zero(), other == at, "{field:?} and {neighbour:?}");
            }
            assert_eq!(full.with(field, field.mask()), Some(Config(U256::MAX)));
            assert_eq!(full.with(field, field.mask() + U256::ONE), None);
        }
    }

    /// The mainnet word of a stablecoin listed with 6 decimals, ltv 75 %, threshold 78 %, bonus 4.5 %.
    #[test]
    fn fields_are_where_the_pool_keeps_them() {
        let word = U256::from(7_500u32)
            | U256::from(7_800u32) << 16
            | U256::from(10_450u32) << 32
            | U256::from(6) << 48
            | U256::ONE << 56
            | U256::from(1_000u32) << 152;
        let config = Config(word);
        assert_eq!(config.get(LTV), U256::from(7_500));
        assert_eq!(config.get(LIQUIDATION_THRESHOLD), U256::from(7_800));
        assert_eq!(config.get(LIQUIDATION_BONUS), U256::from(10_450));
        assert_eq!(config.token_unit(), Some(U256::from(1_000_000)));
        assert!(config.is(ACTIVE) && !config.is(PAUSED));
        assert_eq!(config.get(PROTOCOL_FEE), U256::from(1_000));
        assert_eq!(Config::default().token_unit(), None);
    }
}
