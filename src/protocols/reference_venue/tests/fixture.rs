//! A venue of two segments and the means to write its logs.

use alloy::{primitives::IntoLogData, sol_types::SolEvent};

use super::super::{
    Membership, ReferenceVenue, Settings,
    abi::{IClearinghouse, IPriceFeed},
    state,
};
use crate::{
    positions::{Book, Delta, Snapshot},
    protocols::{Adapter, ApplyError},
    types::{Address, B256, BlockRef, I256, Log, U256, UnitKey},
};

pub(super) const CLEARINGHOUSE: Address = Address::repeat_byte(0xc1);
pub(super) const STEWARD: Address = Address::repeat_byte(0x57);
pub(super) const POOL: Address = Address::repeat_byte(0xb0);
/// The venue as the pool's member.
pub(super) const MEMBER: Address = Address::repeat_byte(0xb1);
/// Serves markets 1 and 3.
pub(super) const FEED_A: Address = Address::repeat_byte(0xfa);
/// Serves market 2.
pub(super) const FEED_B: Address = Address::repeat_byte(0xfb);
/// Time of the first block, Unix seconds.
pub(super) const GENESIS: u64 = 1_000_000;
pub(super) const MAX_AGE: u64 = 60;

pub(super) fn venue() -> ReferenceVenue {
    ReferenceVenue::new(Settings {
        clearinghouse: CLEARINGHOUSE,
        steward: Some(STEWARD),
        clearinghouse_code_hash: None,
        steward_code_hash: None,
        observe_every_seconds: 60,
        backstop: Some(Membership { pool: POOL, member: MEMBER }),
        feeds: Vec::new(),
    })
}

pub(super) fn log(address: Address, event: &(impl SolEvent + IntoLogData)) -> Log {
    let data = event.to_log_data();
    Log {
        address,
        topics: data.topics().to_vec(),
        data: data.data,
        block_number: 1,
        block_hash: B256::ZERO,
        tx_hash: B256::repeat_byte(0x77),
        log_index: 0,
    }
}

pub(super) fn of_venue(event: &(impl SolEvent + IntoLogData)) -> Log {
    log(CLEARINGHOUSE, event)
}

pub(super) fn cash(segment: u16, account: Address, cash: i128) -> Log {
    of_venue(&IClearinghouse::CashChanged { segment, account, cash: int(cash) })
}

pub(super) fn position(market: u16, account: Address, lots: i128, quote: i128) -> Log {
    of_venue(&IClearinghouse::PositionChanged { market, account, lots: int(lots), quote: int(quote) })
}

pub(super) fn price(feed: Address, price: u128, updated_at: u64) -> Log {
    log(feed, &IPriceFeed::PricePosted { price: U256::from(price), updatedAt: updated_at })
}

pub(super) fn funding(market: u16, rate_x18: i128, index: i128, since: u64) -> Log {
    of_venue(&IClearinghouse::FundingSet { market, rateX18: int(rate_x18), index: int(index), since })
}

pub(super) fn order(order: u64, market: u16, maker: Address, is_buy: bool, price: u128, lots: u64) -> Log {
    of_venue(&IClearinghouse::OrderPlaced { order, market, maker, isBuy: is_buy, price: U256::from(price), lots })
}

/// Slippage of 2 %.
pub(super) fn listed(market: u16, segment: u16, feed: Address) -> Log {
    listed_with_slippage(market, segment, feed, 200)
}

pub(super) fn listed_with_slippage(market: u16, segment: u16, feed: Address, max_slippage_bps: u16) -> Log {
    let config = IClearinghouse::MarketConfig {
        segment,
        feed,
        maxPriceAgeSeconds: MAX_AGE,
        maintenanceMarginBps: 500,
        initialMarginBps: 1_000,
        liquidationFeeBps: 50,
        maxSlippageBps: max_slippage_bps,
    };
    of_venue(&IClearinghouse::MarketListed { market, config })
}

pub(super) fn segment_opened(segment: u16) -> Log {
    of_venue(&IClearinghouse::SegmentOpened { segment })
}

/// Segment 1 with markets 1 and 2, segment 2 with market 3, priced 1,000 (A) and 50 (B) now.
pub(super) fn opening() -> Vec<Log> {
    vec![
        segment_opened(1),
        segment_opened(2),
        listed(1, 1, FEED_A),
        listed(2, 1, FEED_B),
        listed(3, 2, FEED_A),
        price(FEED_A, 1_000, GENESIS),
        price(FEED_B, 50, GENESIS),
    ]
}

pub(super) fn owner(n: u8) -> Address {
    Address::with_last_byte(n)
}

pub(super) fn key(segment: u16, n: u8) -> UnitKey {
    state::unit_key(segment, owner(n))
}

pub(super) fn int(x: i128) -> I256 {
    I256::try_from(x).unwrap()
}

pub(super) fn uint(x: u128) -> U256 {
    U256::from(x)
}

pub(super) fn block(number: u64, timestamp: u64) -> BlockRef {
    BlockRef { number, hash: B256::with_last_byte(1), parent_hash: B256::ZERO, timestamp }
}

/// A cache that follows hand-written blocks.
pub(super) struct Chain {
    pub(super) venue: ReferenceVenue,
    pub(super) snapshot: Snapshot,
}

impl Chain {
    /// The venue as listed, in the block of [`GENESIS`].
    pub(super) fn opened() -> Self {
        let mut chain = Self::empty();
        chain.extend(&opening());
        chain
    }

    pub(super) fn empty() -> Self {
        Self { venue: venue(), snapshot: Snapshot { block: block(1, GENESIS), book: Book::default() } }
    }

    /// Applies logs to the present block.
    pub(super) fn extend(&mut self, logs: &[Log]) -> Delta {
        self.try_extend(logs).expect("logs apply")
    }

    pub(super) fn try_extend(&mut self, logs: &[Log]) -> Result<Delta, ApplyError> {
        let applied = self.venue.apply(&self.snapshot.book, &self.snapshot.block, logs)?;
        self.snapshot.book.apply(&applied.delta).expect("the delta fits its own base");
        Ok(applied.delta)
    }

    /// Time passes.
    pub(super) fn wait(&mut self, seconds: u64) {
        self.snapshot.block.timestamp += seconds;
        self.snapshot.block.number += 1;
    }
}
