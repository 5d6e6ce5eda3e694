//! What the cache's records and units hold of this protocol, and how its units are named.
//!
//! | kind | id | words |
//! |---|---|---|
//! | 1 config | 0 | read from the chain, maintenance margin, initial margin, liquidation penalty (10⁻⁶ each), funding TWAP interval (s), maximum funding rate (10⁻⁶) |
//! | 2 market | market | base token, pool, status, first traded at (Unix s, 0 = never), funding settled at (Unix s, 0 = never), funding growth (X96 · s), epoch of it, √price (X96, 0 = not known), paused at (Unix s), index price when paused, closed price (10⁻¹⁸ each, 0 = not known) |
//! | 3 contract of a market | address | market, whether it is the pool |
//! | 4 market now | market | block, mark price (10⁻¹⁸, 0 = none), whether the growth is known, funding growth at the block's second |
//! | 5 fund | 0 | vault balance (token units), owed profit (10⁻¹⁸), tokens in its own hands, block of these |
//! | 6 maker now | trader | block, whether known, pending funding payment, pending maker fees (10⁻¹⁸) |
//! | 7 collateral | token | ordinal, ratio (10⁻⁶), decimals of feed and token + 1 (0 = not known), price, block of it |
//! | 8 collateral keeper | 0 | address of the `CollateralManager` |
//!
//! A unit is a trader's account across all markets; its key is the trader's twenty bytes. `cash` is its balance of the
//! settlement token in the vault. A perpetual leg holds the taker's position size and open notional in 10⁻¹⁸, a
//! collateral leg (market = the collateral's ordinal) token units. `extra` holds the rest, see
//! [`super::account::Account`].
//!
//! Signed words are two's complement.
//!
//! Invariants: writing a value and reading it gives the same value; words that are no such record are an error, never a
//! default.
//! Must not: know events or calls.

use crate::{
    positions::{Record, RecordKey},
    scanner::Unvalued,
    types::{Address, B256, I256, MarketId, SegmentId, U256, UnitKey},
};

pub(super) use crate::protocols::records::{Records, Stored, address_word, all, find, number, word_address};

/// All traders share the vault and the insurance fund: one segment.
pub(super) const SEGMENT: SegmentId = SegmentId(0);

/// The id of records of which there is one.
pub(super) const ONLY: B256 = B256::ZERO;

/// A record's key.
pub(super) fn key<T: Stored>(id: B256) -> RecordKey {
    RecordKey { kind: T::KIND, id }
}

/// A record that must be there.
pub(super) fn load<T: Stored>(records: &impl Records, id: B256) -> Result<T, Unvalued> {
    find(records, id)?.ok_or_else(|| Unvalued::Missing(format!("{} {id}", T::NAME)))
}

/// The id of a numbered record.
pub(super) fn numbered(market: MarketId) -> B256 {
    B256::from(U256::from(market.0))
}

/// The market of a numbered record's id.
pub(super) fn market_of(id: B256) -> Option<MarketId> {
    number(id).map(MarketId)
}

/// Parameters shared by all markets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Config {
    /// Whether the chain was asked since they last changed.
    pub(super) read: bool,
    /// Maintenance margin, 10⁻⁶ of position value.
    pub(super) mm_ratio: u32,
    /// Initial margin, likewise.
    pub(super) im_ratio: u32,
    /// Liquidation penalty, 10⁻⁶ of liquidated notional.
    pub(super) penalty_ratio: u32,
    /// Over how many seconds funding averages prices.
    pub(super) twap_interval: u32,
    /// Largest premium that funding counts, 10⁻⁶ of the index price.
    pub(super) max_funding_rate: u32,
}

impl Default for Config {
    /// What `ClearingHouseConfig.initialize` of 2.8.4 sets without an event. The chain is asked all the same.
    fn default() -> Self {
        Self {
            read: false,
            mm_ratio: 62_500,
            im_ratio: 100_000,
            penalty_ratio: 25_000,
            twap_interval: 900,
            max_funding_rate: 100_000,
        }
    }
}

impl Stored for Config {
    const KIND: u16 = 1;
    const NAME: &'static str = "config";

    fn to_record(&self) -> Record {
        let Self { read, mm_ratio, im_ratio, penalty_ratio, twap_interval, max_funding_rate } = *self;
        vec![
            U256::from(read),
            U256::from(mm_ratio),
            U256::from(im_ratio),
            U256::from(penalty_ratio),
            U256::from(twap_interval),
            U256::from(max_funding_rate),
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[read, mm_ratio, im_ratio, penalty_ratio, twap_interval, max_funding_rate] = words else { return None };
        Some(Self {
            read: flag(read)?,
            mm_ratio: mm_ratio.try_into().ok()?,
            im_ratio: im_ratio.try_into().ok()?,
            penalty_ratio: penalty_ratio.try_into().ok()?,
            twap_interval: twap_interval.try_into().ok()?,
            max_funding_rate: max_funding_rate.try_into().ok()?,
        })
    }
}

/// Whether a market trades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Status {
    /// It trades; its price is the mark price.
    #[default]
    Open,
    /// It is frozen at the index price of that time.
    Paused,
    /// It is settled at a final price.
    Closed,
}

impl Status {
    /// The status of the base token's word for it.
    pub(super) fn of(word: u8) -> Option<Self> {
        [Self::Open, Self::Paused, Self::Closed].get(usize::from(word)).copied()
    }
}

/// A market: its parts, its status, and funding as it was last settled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Market {
    /// Its base token, by which the protocol names it.
    pub(super) base: Address,
    /// Its pool.
    pub(super) pool: Address,
    /// Whether it trades.
    pub(super) status: Status,
    /// First trade, Unix seconds; 0 = none yet.
    pub(super) first_traded: u64,
    /// When funding was last settled, Unix seconds; 0 = never.
    pub(super) last_settled: u64,
    /// Time-weighted premium since the epoch began, X96 · seconds.
    pub(super) growth: I256,
    /// Growths of different epochs cannot be compared: one ends where an event's price could not be read exactly.
    pub(super) epoch: u64,
    /// The pool's square root price, X96; 0 = not known yet.
    pub(super) sqrt_price: U256,
    /// Unix seconds.
    pub(super) paused_at: u64,
    /// Index price when paused, 10⁻¹⁸; 0 = not known.
    pub(super) paused_price: U256,
    /// Final price, 10⁻¹⁸; 0 = not known.
    pub(super) closed_price: U256,
}

impl Stored for Market {
    const KIND: u16 = 2;
    const NAME: &'static str = "market";

    fn to_record(&self) -> Record {
        vec![
            address_word(self.base),
            address_word(self.pool),
            U256::from(self.status as u8),
            U256::from(self.first_traded),
            U256::from(self.last_settled),
            self.growth.into_raw(),
            U256::from(self.epoch),
            self.sqrt_price,
            U256::from(self.paused_at),
            self.paused_price,
            self.closed_price,
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[base, pool, status, first_traded, last_settled, growth, epoch, sqrt_price, paused_at, paused, closed] =
            words
        else {
            return None;
        };
        Some(Self {
            base: word_address(base)?,
            pool: word_address(pool)?,
            status: Status::of(status.try_into().ok()?)?,
            first_traded: first_traded.try_into().ok()?,
            last_settled: last_settled.try_into().ok()?,
            growth: I256::from_raw(growth),
            epoch: epoch.try_into().ok()?,
            sqrt_price,
            paused_at: paused_at.try_into().ok()?,
            paused_price: paused,
            closed_price: closed,
        })
    }
}

/// Which market a base token or a pool belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The market.
    pub(super) market: MarketId,
    /// Whether it is the pool; else the base token.
    pub(super) is_pool: bool,
}

impl Stored for Part {
    const KIND: u16 = 3;
    const NAME: &'static str = "contract of a market";

    fn to_record(&self) -> Record {
        vec![U256::from(self.market.0), U256::from(self.is_pool)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[market, is_pool] = words else { return None };
        Some(Self { market: MarketId(market.try_into().ok()?), is_pool: flag(is_pool)? })
    }
}

/// What is read of a market at every block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MarketNow {
    /// At which block.
    pub(super) block: u64,
    /// Mark price, 10⁻¹⁸; 0 where the protocol has none (too young a pool, a feed without a price).
    pub(super) mark: U256,
    /// Growth at the block's second, in the market's epoch; `None` where the protocol cannot say.
    pub(super) growth: Option<I256>,
}

impl Stored for MarketNow {
    const KIND: u16 = 4;
    const NAME: &'static str = "price of market";

    fn to_record(&self) -> Record {
        let growth = self.growth.unwrap_or_default().into_raw();
        vec![U256::from(self.block), self.mark, U256::from(self.growth.is_some()), growth]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[block, mark, known, growth] = words else { return None };
        let growth = flag(known)?.then(|| I256::from_raw(growth));
        Some(Self { block: block.try_into().ok()?, mark, growth })
    }
}

/// The insurance fund.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fund {
    /// Its balance in the vault, token units; below zero after it took bad debt over.
    pub(super) balance: I256,
    /// Profit owed to it, 10⁻¹⁸.
    pub(super) owed: I256,
    /// Tokens in its own hands.
    pub(super) wallet: U256,
    /// Block at which these were read; 0 = never.
    pub(super) wallet_block: u64,
}

impl Stored for Fund {
    const KIND: u16 = 5;
    const NAME: &'static str = "insurance fund";

    fn to_record(&self) -> Record {
        vec![self.balance.into_raw(), self.owed.into_raw(), self.wallet, U256::from(self.wallet_block)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[balance, owed, wallet, wallet_block] = words else { return None };
        let (balance, owed) = (I256::from_raw(balance), I256::from_raw(owed));
        Some(Self { balance, owed, wallet, wallet_block: wallet_block.try_into().ok()? })
    }
}

/// What only the protocol's own views can say of an account with liquidity in a pool, read at every block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MakerNow {
    /// At which block.
    pub(super) block: u64,
    /// Pending funding payment and pending maker fees, 10⁻¹⁸; `None` where the protocol cannot say.
    pub(super) pending: Option<(I256, U256)>,
}

impl Stored for MakerNow {
    const KIND: u16 = 6;
    const NAME: &'static str = "pending fees and funding of";

    fn to_record(&self) -> Record {
        let (funding, fees) = self.pending.unwrap_or_default();
        vec![U256::from(self.block), U256::from(self.pending.is_some()), funding.into_raw(), fees]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[block, known, funding, fees] = words else { return None };
        let pending = flag(known)?.then(|| (I256::from_raw(funding), fees));
        Some(Self { block: block.try_into().ok()?, pending })
    }
}

/// A collateral token besides the settlement token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Collateral {
    /// Its place in the order of listing.
    pub(super) ordinal: u32,
    /// What counts of its value, 10⁻⁶.
    pub(super) ratio: u32,
    /// Decimals of its price feed.
    pub(super) feed_decimals: Option<u8>,
    /// Its own decimals.
    pub(super) token_decimals: Option<u8>,
    /// Its price in the feed's decimals; 0 = none.
    pub(super) price: U256,
    /// Block of that price.
    pub(super) price_block: u64,
}

impl Stored for Collateral {
    const KIND: u16 = 7;
    const NAME: &'static str = "collateral";

    fn to_record(&self) -> Record {
        let plus_one = |decimals: Option<u8>| decimals.map_or(U256::ZERO, |d| U256::from(u16::from(d) + 1));
        vec![
            U256::from(self.ordinal),
            U256::from(self.ratio),
            plus_one(self.feed_decimals),
            plus_one(self.token_decimals),
            self.price,
            U256::from(self.price_block),
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[ordinal, ratio, feed, token, price, price_block] = words else { return None };
        let less_one = |word: U256| match word.is_zero() {
            true => Some(None),
            false => u8::try_from(word - U256::ONE).ok().map(Some),
        };
        Some(Self {
            ordinal: ordinal.try_into().ok()?,
            ratio: ratio.try_into().ok()?,
            feed_decimals: less_one(feed)?,
            token_decimals: less_one(token)?,
            price,
            price_block: price_block.try_into().ok()?,
        })
    }
}

/// The `CollateralManager` that the vault announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CollateralSource(pub(super) Address);

impl Stored for CollateralSource {
    const KIND: u16 = 8;
    const NAME: &'static str = "collateral keeper";

    fn to_record(&self) -> Record {
        vec![address_word(self.0)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[address] = words else { return None };
        word_address(address).map(Self)
    }
}

/// The key of a trader's account.
pub(super) fn unit_key(trader: Address) -> UnitKey {
    UnitKey::new(trader.to_vec()).expect("invariant: 20 bytes are a unit key")
}

/// The trader of a key, `None` if it is no key of this protocol.
pub(super) fn trader_of(key: &UnitKey) -> Option<Address> {
    Address::try_from(key.as_bytes()).ok()
}

fn flag(word: U256) -> Option<bool> {
    match u8::try_from(word).ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}
