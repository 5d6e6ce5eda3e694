//! The venue's shared state as the cache's records hold it, and how its units are named.
//!
//! | kind | id | words |
//! |---|---|---|
//! | 1 segment | segment | fund, fund floor |
//! | 2 market | market | ordinal, segment, feed, maximum price age (s), maintenance margin, initial margin, liquidation fee, maximum slippage (bps each), funding index, funding rate (× 1e18), funding since (Unix s) |
//! | 3 feed | address | price, updated at (Unix s); both 0 before the first post that was seen |
//! | 4 order | order | market, maker, is buy, price, lots still open; gone when 0 |
//! | 5 steward's bounds | market | maximum step, minimum delay (s), margin floor, margin ceiling, maximum funding step, maximum funding rate (× 1e18 both) |
//! | 6 steward's moves | market | margin last moved, funding last moved (Unix s); 0 = never |
//! | 7 gate | segment | block before which withdrawals are refused; 0 = open |
//! | 8 claim | segment and owner | amount, number of the round in which it was last paid; gone when 0 is owed |
//! | 9 restitution | segment | number of the round, block it opened at, budget, all claims then, still unpaid |
//!
//! Signed words are two's complement. A unit's key is the segment in two big-endian bytes and the owner's twenty.
//!
//! Invariants: as of every typed record ([`Stored`]). Must not: know events or calls.

pub(super) use crate::protocols::records::{Stored, all, find, load, number};

use crate::{
    positions::Record,
    protocols::records::{address_word, word_address},
    types::{Address, B256, I256, MarketId, SegmentId, U256, UnitKey},
};

/// An isolated group of markets with one insurance fund.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    /// The insurance fund, settlement-token units.
    pub(super) fund: U256,
    /// What the fund never falls below by a draw.
    pub(super) floor: U256,
}

impl Stored for Segment {
    const KIND: u16 = 1;
    const NAME: &'static str = "segment";

    fn to_record(&self) -> Record {
        vec![self.fund, self.floor]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[fund, floor] = words else { return None };
        Some(Self { fund, floor })
    }
}

/// A market's parameters and funding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Market {
    /// Its place in the order of listing: a dense number for the columns of a scan.
    pub(super) ordinal: u32,
    /// The segment it belongs to.
    pub(super) segment: u16,
    /// Where its price comes from.
    pub(super) feed: Address,
    /// A price older than this moves no money.
    pub(super) max_price_age_seconds: u64,
    /// Maintenance margin, of notional.
    pub(super) maintenance_margin_bps: u16,
    /// Initial margin, likewise.
    pub(super) initial_margin_bps: u16,
    /// Liquidation fee, of liquidated notional.
    pub(super) liquidation_fee_bps: u16,
    /// How far from the mark a liquidation may execute.
    pub(super) max_slippage_bps: u16,
    /// Funding index at `funding_since`, settlement-token units per lot.
    pub(super) funding_index: I256,
    /// Settlement-token units per lot and second, × 1e18.
    pub(super) funding_rate_x18: I256,
    /// Unix seconds.
    pub(super) funding_since: u64,
}

impl Stored for Market {
    const KIND: u16 = 2;
    const NAME: &'static str = "market";

    fn to_record(&self) -> Record {
        vec![
            U256::from(self.ordinal),
            U256::from(self.segment),
            address_word(self.feed),
            U256::from(self.max_price_age_seconds),
            U256::from(self.maintenance_margin_bps),
            U256::from(self.initial_margin_bps),
            U256::from(self.liquidation_fee_bps),
            U256::from(self.max_slippage_bps),
            self.funding_index.into_raw(),
            self.funding_rate_x18.into_raw(),
            U256::from(self.funding_since),
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[ordinal, segment, feed, age, maintenance, initial, fee, slippage, index, rate, since] = words else {
            return None;
        };
        Some(Self {
            ordinal: ordinal.try_into().ok()?,
            segment: segment.try_into().ok()?,
            feed: word_address(feed)?,
            max_price_age_seconds: age.try_into().ok()?,
            maintenance_margin_bps: maintenance.try_into().ok()?,
            initial_margin_bps: initial.try_into().ok()?,
            liquidation_fee_bps: fee.try_into().ok()?,
            max_slippage_bps: slippage.try_into().ok()?,
            funding_index: I256::from_raw(index),
            funding_rate_x18: I256::from_raw(rate),
            funding_since: since.try_into().ok()?,
        })
    }
}

/// An oracle feed's last price; one feed may serve several markets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Feed {
    /// Settlement-token units per lot; 0 = none seen yet.
    pub(super) price: U256,
    /// When it was observed, Unix seconds.
    pub(super) updated_at: u64,
}

impl Feed {
    /// The id of the feed at this address.
    pub(super) fn id(address: Address) -> B256 {
        address.into_word()
    }
}

impl Stored for Feed {
    const KIND: u16 = 3;
    const NAME: &'static str = "feed";

    fn to_record(&self) -> Record {
        vec![self.price, U256::from(self.updated_at)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[price, updated_at] = words else { return None };
        Some(Self { price, updated_at: updated_at.try_into().ok()? })
    }
}

/// A resting order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// In which market.
    pub(super) market: u16,
    /// Whose it is.
    pub(super) maker: Address,
    /// Whether the maker buys.
    pub(super) is_buy: bool,
    /// Settlement-token units per lot.
    pub(super) price: U256,
    /// Still open, > 0.
    pub(super) lots: u64,
}

impl Stored for Order {
    const KIND: u16 = 4;
    const NAME: &'static str = "order";

    fn to_record(&self) -> Record {
        let is_buy = U256::from(self.is_buy);
        vec![U256::from(self.market), address_word(self.maker), is_buy, self.price, U256::from(self.lots)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[market, maker, is_buy, price, lots] = words else { return None };
        Some(Self {
            market: market.try_into().ok()?,
            maker: word_address(maker)?,
            is_buy: match u8::try_from(is_buy).ok()? {
                0 => false,
                1 => true,
                _ => return None,
            },
            price,
            lots: lots.try_into().ok()?,
        })
    }
}

/// How far and how fast the steward lets a market's parameters move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Largest relative step of a margin parameter, of its present value.
    pub(super) max_step_bps: u16,
    /// Between two moves.
    pub(super) min_delay_seconds: u64,
    /// Neither margin goes below.
    pub(super) margin_floor_bps: u16,
    /// Neither margin goes above.
    pub(super) margin_ceiling_bps: u16,
    /// Largest step of the funding rate, × 1e18.
    pub(super) max_funding_step_x18: U256,
    /// Largest magnitude of the funding rate, × 1e18.
    pub(super) max_funding_rate_x18: U256,
}

impl Stored for Bounds {
    const KIND: u16 = 5;
    const NAME: &'static str = "steward's bounds of market";

    fn to_record(&self) -> Record {
        vec![
            U256::from(self.max_step_bps),
            U256::from(self.min_delay_seconds),
            U256::from(self.margin_floor_bps),
            U256::from(self.margin_ceiling_bps),
            self.max_funding_step_x18,
            self.max_funding_rate_x18,
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[step, delay, floor, ceiling, max_funding_step_x18, max_funding_rate_x18] = words else { return None };
        Some(Self {
            max_step_bps: step.try_into().ok()?,
            min_delay_seconds: delay.try_into().ok()?,
            margin_floor_bps: floor.try_into().ok()?,
            margin_ceiling_bps: ceiling.try_into().ok()?,
            max_funding_step_x18,
            max_funding_rate_x18,
        })
    }
}

/// When the steward last moved a market's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Moves {
    /// Unix seconds; 0 = never.
    pub(super) margin_at: u64,
    /// Unix seconds; 0 = never.
    pub(super) funding_at: u64,
}

impl Stored for Moves {
    const KIND: u16 = 6;
    const NAME: &'static str = "steward's moves of market";

    fn to_record(&self) -> Record {
        vec![U256::from(self.margin_at), U256::from(self.funding_at)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[margin_at, funding_at] = words else { return None };
        Some(Self { margin_at: margin_at.try_into().ok()?, funding_at: funding_at.try_into().ok()? })
    }
}

/// The gate before withdrawals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gate {
    /// Withdrawals are refused before this block.
    pub(super) shut_until: u64,
}

impl Stored for Gate {
    const KIND: u16 = 7;
    const NAME: &'static str = "gate of segment";

    fn to_record(&self) -> Record {
        vec![U256::from(self.shut_until)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[shut_until] = words else { return None };
        Some(Self { shut_until: shut_until.try_into().ok()? })
    }
}

/// What the segment owes an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Claim {
    /// Settlement-token units, > 0.
    pub(super) amount: U256,
    /// The last round in which some of it was paid; 0 = never.
    pub(super) paid_in: u64,
}

impl Claim {
    /// The id of an account's claim: its key, right-aligned.
    pub(super) fn id(segment: u16, owner: Address) -> B256 {
        B256::left_padding_from(unit_key(segment, owner).as_bytes())
    }

    /// Segment and owner of an id.
    pub(super) fn holder(id: B256) -> Option<(u16, Address)> {
        parse_unit_key(&UnitKey::new(id[10..].to_vec()).ok()?)
    }
}

impl Stored for Claim {
    const KIND: u16 = 8;
    const NAME: &'static str = "claim";

    fn to_record(&self) -> Record {
        vec![self.amount, U256::from(self.paid_in)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[amount, paid_in] = words else { return None };
        Some(Self { amount, paid_in: paid_in.try_into().ok()? })
    }
}

/// The last round of restitution.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Restitution {
    /// Which, from 1.
    pub(super) number: u64,
    /// The block it was opened in.
    pub(super) opened_at: u64,
    /// What it pays in all.
    pub(super) budget: U256,
    /// All claims when it opened.
    pub(super) base: U256,
    /// What it may still pay.
    pub(super) unpaid: U256,
}

impl Stored for Restitution {
    const KIND: u16 = 9;
    const NAME: &'static str = "restitution of segment";

    fn to_record(&self) -> Record {
        vec![U256::from(self.number), U256::from(self.opened_at), self.budget, self.base, self.unpaid]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[number, opened_at, budget, base, unpaid] = words else { return None };
        Some(Self { number: number.try_into().ok()?, opened_at: opened_at.try_into().ok()?, budget, base, unpaid })
    }
}

/// The key of an owner's account in a segment.
pub(super) fn unit_key(segment: u16, owner: Address) -> UnitKey {
    let mut bytes = segment.to_be_bytes().to_vec();
    bytes.extend_from_slice(owner.as_slice());
    UnitKey::new(bytes).expect("invariant: 22 bytes are a unit key")
}

/// Segment and owner of a key, `None` if it is no key of this venue.
pub(super) fn parse_unit_key(key: &UnitKey) -> Option<(u16, Address)> {
    let (segment, owner) = key.as_bytes().split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*segment), Address::try_from(owner).ok()?))
}

/// The engine's name of a segment.
pub(super) fn segment_id(segment: u16) -> SegmentId {
    SegmentId(u32::from(segment))
}

/// The engine's name of a market.
pub(super) fn market_id(market: u16) -> MarketId {
    MarketId(u32::from(market))
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
        let address = Address::repeat_byte(0xab);
        survives(Segment { fund: U256::MAX, floor: U256::from(1) });
        survives(Market {
            ordinal: 3,
            segment: u16::MAX,
            feed: address,
            max_price_age_seconds: u64::MAX,
            maintenance_margin_bps: 500,
            initial_margin_bps: 1000,
            liquidation_fee_bps: 50,
            max_slippage_bps: 100,
            funding_index: I256::MIN,
            funding_rate_x18: I256::MINUS_ONE,
            funding_since: 7,
        });
        survives(Feed { price: U256::from(9), updated_at: 8 });
        survives(Order { market: 1, maker: address, is_buy: true, price: U256::from(5), lots: u64::MAX });
        survives(Bounds {
            max_step_bps: 1,
            min_delay_seconds: 2,
            margin_floor_bps: 3,
            margin_ceiling_bps: 4,
            max_funding_step_x18: U256::MAX,
            max_funding_rate_x18: U256::from(6),
        });
        survives(Moves { margin_at: 1, funding_at: u64::MAX });
        survives(Gate { shut_until: u64::MAX });
        survives(Claim { amount: U256::MAX, paid_in: 3 });
        let (budget, base, unpaid) = (U256::from(5), U256::MAX, U256::from(2));
        survives(Restitution { number: 4, opened_at: u64::MAX, budget, base, unpaid });
    }

    #[test]
    fn words_out_of_range_are_no_record() {
        let order = Order { market: 1, maker: Address::ZERO, is_buy: true, price: U256::from(5), lots: 2 };
        for (word, bad) in [(0, U256::from(65_536)), (1, U256::MAX), (2, U256::from(2)), (4, U256::MAX)] {
            let mut words = order.to_record();
            words[word] = bad;
            assert_eq!(Order::from_record(&words), None, "word {word}");
        }
    }

    #[test]
    fn unit_keys_name_segment_and_owner() {
        let owner = Address::repeat_byte(7);
        let key = unit_key(0x0102, owner);
        assert_eq!(&key.as_bytes()[..3], [1, 2, 7]);
        assert_eq!(parse_unit_key(&key), Some((0x0102, owner)));
        assert_eq!(Claim::holder(Claim::id(0x0102, owner)), Some((0x0102, owner)));
        assert_eq!(parse_unit_key(&UnitKey::new(vec![1; 21]).unwrap()), None);
        assert_eq!(parse_unit_key(&UnitKey::new(vec![1; 23]).unwrap()), None);
    }
}
