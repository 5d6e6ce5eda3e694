//! The singleton's shared state as the cache's records hold it, and how its units are named.
//!
//! | kind | id | words |
//! |---|---|---|
//! | 1 market | number | id, loan token, collateral token, oracle, rate model, liquidation loan-to-value (× 1e18) |
//! | 2 number | market id | number |
//! | 3 totals | number | supply assets, supply shares, borrow assets, borrow shares, last update (Unix s), fee (× 1e18) |
//! | 4 curve | number | rate at target (per second, × 1e18), the last update it is of (Unix s) |
//! | 5 rate | number | rate (per second, × 1e18), the block's second it was asked for at |
//! | 6 price | oracle | price (× 1e36); gone while the oracle gives none |
//! | 7 fee recipient | 0 | address |
//!
//! A market's number is its place in the order of creation; it names the segment as well, since every market is its own.
//! A unit is a market id and a borrower or lender, 32 and 20 bytes; its legs are collateral in token units and debt and
//! supply in shares.
//!
//! Invariants: as of every typed record ([`Stored`]). Must not: know events or calls.

pub(super) use crate::protocols::records::{Records, Stored, all, find, load, number};

use super::abi::MarketParams;
use crate::{
    positions::Record,
    protocols::records::{address_word, word_address},
    scanner::Unvalued,
    types::{Address, B256, MarketId, SegmentId, U256, UnitKey},
};

/// What a market is. Never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Market {
    /// Its id, the hash of the rest.
    pub(super) id: B256,
    /// What is lent, and what all its amounts are in.
    pub(super) loan_token: Address,
    /// What secures it.
    pub(super) collateral_token: Address,
    /// Where the price comes from.
    pub(super) oracle: Address,
    /// Where the interest comes from; zero: there is none.
    pub(super) irm: Address,
    /// Debt above this part of the collateral's value, × 1e18, is liquidatable.
    pub(super) lltv_wad: U256,
}

impl Market {
    /// As its creation announced it.
    pub(super) fn of(id: B256, params: &MarketParams) -> Self {
        let &MarketParams { loanToken, collateralToken, oracle, irm, lltv } = params;
        Self { id, loan_token: loanToken, collateral_token: collateralToken, oracle, irm, lltv_wad: lltv }
    }

    /// As its calls want it.
    pub(super) fn params(&self) -> MarketParams {
        MarketParams {
            loanToken: self.loan_token,
            collateralToken: self.collateral_token,
            oracle: self.oracle,
            irm: self.irm,
            lltv: self.lltv_wad,
        }
    }
}

impl Stored for Market {
    const KIND: u16 = 1;
    const NAME: &'static str = "market";

    fn to_record(&self) -> Record {
        vec![
            self.id.into(),
            address_word(self.loan_token),
            address_word(self.collateral_token),
            address_word(self.oracle),
            address_word(self.irm),
            self.lltv_wad,
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[id, loan_token, collateral_token, oracle, irm, lltv_wad] = words else { return None };
        Some(Self {
            id: id.into(),
            loan_token: word_address(loan_token)?,
            collateral_token: word_address(collateral_token)?,
            oracle: word_address(oracle)?,
            irm: word_address(irm)?,
            lltv_wad,
        })
    }
}

/// The number of a market id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Number(pub(super) u32);

impl Stored for Number {
    const KIND: u16 = 2;
    const NAME: &'static str = "number of market";

    fn to_record(&self) -> Record {
        vec![U256::from(self.0)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[number] = words else { return None };
        Some(Self(number.try_into().ok()?))
    }
}

/// A market's totals as of its last accrual. Each is below 2¹²⁸ on chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    /// Lent, token units.
    pub(super) supply_assets: U256,
    /// Claims on it.
    pub(super) supply_shares: U256,
    /// Owed, token units.
    pub(super) borrow_assets: U256,
    /// Parts of it.
    pub(super) borrow_shares: U256,
    /// When interest was last added, Unix seconds; of a market without a rate model, when it was created.
    pub(super) last_update: u64,
    /// Part of the interest that goes to the fee recipient, × 1e18.
    pub(super) fee_wad: U256,
}

impl Stored for Totals {
    const KIND: u16 = 3;
    const NAME: &'static str = "totals of market";

    fn to_record(&self) -> Record {
        vec![
            self.supply_assets,
            self.supply_shares,
            self.borrow_assets,
            self.borrow_shares,
            U256::from(self.last_update),
            self.fee_wad,
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[supply_assets, supply_shares, borrow_assets, borrow_shares, last_update, fee_wad] = words else {
            return None;
        };
        let last_update = last_update.try_into().ok()?;
        Some(Self { supply_assets, supply_shares, borrow_assets, borrow_shares, last_update, fee_wad })
    }
}

/// Where the adaptive curve stood when interest was last added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Curve {
    /// Rate at the target utilisation, per second, × 1e18; 0 before the first interaction.
    pub(super) rate_at_target_wad: U256,
    /// [`Totals::last_update`] at that time.
    pub(super) of_update: u64,
}

impl Stored for Curve {
    const KIND: u16 = 4;
    const NAME: &'static str = "rate at target of market";

    fn to_record(&self) -> Record {
        vec![self.rate_at_target_wad, U256::from(self.of_update)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[rate_at_target_wad, of_update] = words else { return None };
        Some(Self { rate_at_target_wad, of_update: of_update.try_into().ok()? })
    }
}

/// What a rate model that is not computed here said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Mean rate since the last update, per second, × 1e18.
    pub(super) rate_wad: U256,
    /// The block's second it is true of.
    pub(super) at: u64,
}

impl Stored for Rate {
    const KIND: u16 = 5;
    const NAME: &'static str = "borrow rate of market";

    fn to_record(&self) -> Record {
        vec![self.rate_wad, U256::from(self.at)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[rate_wad, at] = words else { return None };
        Some(Self { rate_wad, at: at.try_into().ok()? })
    }
}

/// What an oracle said at the block: loan-token units a collateral-token unit, × 1e36.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Price(pub(super) U256);

impl Stored for Price {
    const KIND: u16 = 6;
    const NAME: &'static str = "price of oracle";

    fn to_record(&self) -> Record {
        vec![self.0]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[price] = words else { return None };
        Some(Self(price))
    }
}

/// Who gets the fee's part of interest; the zero address until somebody is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FeeRecipient(pub(super) Address);

impl Stored for FeeRecipient {
    const KIND: u16 = 7;
    const NAME: &'static str = "fee recipient";

    fn to_record(&self) -> Record {
        vec![address_word(self.0)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[address] = words else { return None };
        Some(Self(word_address(address)?))
    }
}

/// The market's number, `None` for a market that was never created.
pub(super) fn number_of(records: &impl Records, id: B256) -> Result<Option<u32>, Unvalued> {
    Ok(find::<Number>(records, id)?.map(|Number(number)| number))
}

/// Who gets the fee's part of interest.
pub(super) fn fee_recipient(records: &impl Records) -> Result<Address, Unvalued> {
    let FeeRecipient(address) = find(records, B256::ZERO)?.unwrap_or_default();
    Ok(address)
}

/// The key of an account in the market of this id.
pub(super) fn unit_key(id: B256, owner: Address) -> UnitKey {
    let bytes = [id.as_slice(), owner.as_slice()].concat();
    UnitKey::new(bytes).expect("invariant: 52 bytes are a unit key")
}

/// Market id and owner of a key, `None` if it is no key of this protocol.
pub(super) fn parse_unit_key(key: &UnitKey) -> Option<(B256, Address)> {
    let (id, owner) = key.as_bytes().split_first_chunk::<32>()?;
    Some((B256::from(id), Address::try_from(owner).ok()?))
}

/// The engine's name of a market as a place where losses stay.
pub(super) fn segment_id(number: u32) -> SegmentId {
    SegmentId(number)
}

/// The engine's name of a market as what a leg is a holding in.
pub(super) fn market_id(number: u32) -> MarketId {
    MarketId(number)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn survives<T: Stored + PartialEq + Debug>(value: T) {
        let words = value.to_record();
        assert_eq!(T::from_record(&words), Some(value));
        assert_eq!(T::from_record(&words[1..]), None, "a word short");
    }

    #[test]
    fn records_survive_their_words_and_refuse_other_lengths() {
        let address = Address::repeat_byte;
        let market = Market {
            id: B256::repeat_byte(1),
            loan_token: address(2),
            collateral_token: address(3),
            oracle: address(4),
            irm: address(5),
            lltv_wad: U256::from(6),
        };
        assert_eq!(Market::of(market.id, &market.params()), market);
        survives(market);
        survives(Number(u32::MAX));
        survives(Totals {
            supply_assets: U256::from(1),
            supply_shares: U256::from(2),
            borrow_assets: U256::from(3),
            borrow_shares: U256::from(4),
            last_update: u64::MAX,
            fee_wad: U256::from(6),
        });
        survives(Curve { rate_at_target_wad: U256::MAX, of_update: u64::MAX });
        survives(Rate { rate_wad: U256::MAX, at: 7 });
        survives(Price(U256::MAX));
        survives(FeeRecipient(address(9)));
    }

    #[test]
    fn words_out_of_range_are_no_record() {
        assert_eq!(Number::from_record(&[U256::from(u64::MAX)]), None);
        assert_eq!(Curve::from_record(&[U256::ZERO, U256::MAX]), None);
        assert_eq!(FeeRecipient::from_record(&[U256::MAX]), None);
    }

    #[test]
    fn unit_keys_name_market_and_owner() {
        let (id, owner) = (B256::repeat_byte(7), Address::repeat_byte(9));
        let key = unit_key(id, owner);
        assert_eq!(key.as_bytes().len(), 52);
        assert_eq!(parse_unit_key(&key), Some((id, owner)));
        for bytes in [51, 53] {
            assert_eq!(parse_unit_key(&UnitKey::new(vec![1; bytes]).unwrap()), None);
        }
    }
}
