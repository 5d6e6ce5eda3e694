//! Logs through the adapter into the book, as the indexer takes them: a venue of 10,000 accounts, blocks of 200 logs.

use std::time::{Duration, Instant};

use alloy::{
    primitives::{IntoLogData, LogData},
    sol,
};
use anyhow::{Context, Result, ensure};
use backstop::{
    positions::Book,
    protocols::{Adapter, adapter},
    types::{Address, B256, BlockRef, I256, Log, U256},
};

use crate::population::Dice;

sol!(
    #[sol(all_derives)]
    IClearinghouse,
    "contracts/artifacts/IClearinghouse.json"
);
sol!(
    #[sol(all_derives)]
    IPriceFeed,
    "contracts/artifacts/IPriceFeed.json"
);

const ACCOUNTS: u64 = 10_000;
const MARKETS: u16 = 8;
const BLOCKS: u64 = 5_000;
const LOGS_PER_BLOCK: u64 = 200;
const SEGMENT: u16 = 1;

/// What was taken in, and how long that took.
pub struct Ingested {
    pub logs: u64,
    pub time: Duration,
}

pub fn ingest() -> Result<Ingested> {
    let clearinghouse = Address::repeat_byte(0xcc);
    let venue = adapter("reference_venue", serde_json::json!({ "clearinghouse": clearinghouse }))?;
    let mut book = Book::default();
    take(venue.as_ref(), &mut book, &block(0), &opening(clearinghouse))?;
    let mut dice = Dice(11);
    let mut order = 0;
    let blocks: Vec<(BlockRef, Vec<Log>)> = (1..=BLOCKS)
        .map(|number| {
            let block = block(number);
            let events = (0..LOGS_PER_BLOCK).map(|_| any_event(clearinghouse, &mut dice, &mut order));
            (block, placed(&block, events.collect()))
        })
        .collect();
    let started = Instant::now();
    for (block, logs) in &blocks {
        take(venue.as_ref(), &mut book, block, logs)?;
    }
    let time = started.elapsed();
    ensure!(book.unit_count() as u64 == ACCOUNTS, "{} accounts were seen", book.unit_count());
    Ok(Ingested { logs: BLOCKS * LOGS_PER_BLOCK, time })
}

/// What the indexer does with a block's logs: the change, the book after it, and a look at the filter.
fn take(venue: &dyn Adapter, book: &mut Book, block: &BlockRef, logs: &[Log]) -> Result<()> {
    let applied = venue.apply(book, block, logs).with_context(|| format!("block {}", block.number))?;
    ensure!(applied.unknown_events == 0, "an event is not known");
    let mut after = book.clone();
    after.apply(&applied.delta)?;
    venue.filter(&after);
    *book = after;
    Ok(())
}

fn block(number: u64) -> BlockRef {
    let hash = |number: u64| B256::from(U256::from(number + 1));
    BlockRef {
        number,
        hash: hash(number),
        parent_hash: hash(number.wrapping_sub(1)),
        timestamp: 1_800_000_000 + number,
    }
}

fn feed(market: u16) -> Address {
    Address::left_padding_from(&(0xf000 + market).to_be_bytes())
}

fn owner(number: u64) -> Address {
    // spread over the key space, as hashes are
    Address::left_padding_from(&Dice(number).next().to_be_bytes())
}

fn opening(clearinghouse: Address) -> Vec<Log> {
    let mut events = vec![(clearinghouse, IClearinghouse::SegmentOpened { segment: SEGMENT }.into_log_data())];
    for market in 1..=MARKETS {
        let config = IClearinghouse::MarketConfig {
            segment: SEGMENT,
            feed: feed(market),
            maxPriceAgeSeconds: 60,
            maintenanceMarginBps: 500,
            initialMarginBps: 1_000,
            liquidationFeeBps: 50,
            maxSlippageBps: 200,
        };
        events.push((clearinghouse, IClearinghouse::MarketListed { market, config }.into_log_data()));
    }
    let cash = I256::ONE;
    let known = |number| IClearinghouse::CashChanged { segment: SEGMENT, account: owner(number), cash }.into_log_data();
    events.extend((0..ACCOUNTS).map(|number| (clearinghouse, known(number))));
    placed(&block(0), events)
}

/// What a trade leaves is most of it: cash and a position, an order changed, now and then a price.
fn any_event(clearinghouse: Address, dice: &mut Dice, order: &mut u64) -> (Address, LogData) {
    let (account, market) = (owner(dice.below(ACCOUNTS)), 1 + dice.below(MARKETS.into()) as u16);
    let lots = 1 + dice.below(100);
    let data = match dice.below(100) {
        0..40 => {
            let cash = I256::try_from(dice.below(1 << 40) as i64 - (1 << 20)).unwrap_or_default();
            IClearinghouse::CashChanged { segment: SEGMENT, account, cash }.into_log_data()
        }
        40..75 => {
            let lots = I256::try_from(lots as i64 - 50).unwrap_or_default();
            let quote = if lots.is_zero() { I256::ZERO } else { -lots * I256::try_from(1_000).unwrap_or_default() };
            IClearinghouse::PositionChanged { market, account, lots, quote }.into_log_data()
        }
        75..85 => {
            *order += 1;
            let (order, price) = (*order, U256::from(1_000 + dice.below(100)));
            IClearinghouse::OrderPlaced { order, market, maker: account, isBuy: lots.is_multiple_of(2), price, lots }
                .into_log_data()
        }
        85..95 if *order > 0 => {
            // the newest orders are filled first, and those that are gone make room
            let filled = *order;
            *order -= 1;
            IClearinghouse::OrderChanged { order: filled, lots: 0 }.into_log_data()
        }
        _ => {
            let (price, at) = (U256::from(900 + dice.below(200)), 1_800_000_000);
            return (feed(market), IPriceFeed::PricePosted { price, updatedAt: at }.into_log_data());
        }
    };
    (clearinghouse, data)
}

fn placed(block: &BlockRef, events: Vec<(Address, LogData)>) -> Vec<Log> {
    let log = |(log_index, (address, data)): (u64, (Address, LogData))| Log {
        address,
        topics: data.topics().to_vec(),
        data: data.data,
        block_number: block.number,
        block_hash: block.hash,
        tx_hash: B256::with_last_byte(1),
        log_index,
    };
    (0..).zip(events).map(log).collect()
}
