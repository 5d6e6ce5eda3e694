//! Logs that are written here: what changes what, and what is refused.

use alloy::{
    primitives::{IntoLogData, aliases::I24, aliases::U24},
    sol_types::SolEvent,
};
use proptest::prelude::*;
use serde_json::json;

use super::super::{
    PerpV2, Settings,
    abi::{IAccountBalance, IClearingHouse, IMarketRegistry, IVault},
    account::Account,
    state::{self, Fund, ONLY},
};
use crate::{
    positions::{Book, LegKind},
    protocols::{Adapter, Applied, ApplyError},
    types::{Address, B256, BlockRef, I256, Log, MarketId, U256},
};

const HOUSE: Address = Address::repeat_byte(1);
const BALANCES: Address = Address::repeat_byte(2);
const VAULT: Address = Address::repeat_byte(5);
const FUND: Address = Address::repeat_byte(6);
const REGISTRY: Address = Address::repeat_byte(7);
pub(super) const TOKEN: Address = Address::repeat_byte(9);
pub(super) const BASE: Address = Address::repeat_byte(0xb0);
pub(super) const POOL: Address = Address::repeat_byte(0xb1);
pub(super) const TRADER: Address = Address::repeat_byte(0x7a);
const MARKET: MarketId = MarketId(0);

pub(super) fn adapter() -> PerpV2 {
    let at = |byte: u8| Address::repeat_byte(byte).to_string();
    let settings = json!({
        "clearing_house": at(1), "account_balance": at(2), "exchange": at(3), "order_book": at(4), "vault": at(5),
        "insurance_fund": at(6), "market_registry": at(7), "clearing_house_config": at(8), "settlement_token": at(9),
    });
    PerpV2::new(Settings::try_from(settings).unwrap())
}

pub(super) fn block() -> BlockRef {
    BlockRef { number: 9, hash: B256::ZERO, parent_hash: B256::ZERO, timestamp: 1_000 }
}

fn log(address: Address, event: &(impl SolEvent + IntoLogData)) -> Log {
    let data = event.to_log_data();
    let (topics, data) = (data.topics().to_vec(), data.data);
    let tx_hash = B256::repeat_byte(7);
    Log { address, topics, data, block_number: 9, block_hash: B256::ZERO, tx_hash, log_index: 3 }
}

pub(super) fn listed() -> Log {
    log(REGISTRY, &IMarketRegistry::PoolAdded { baseToken: BASE, feeRatio: U24::from(10_000), pool: POOL })
}

pub(super) fn deposited(trader: Address, amount: u64) -> Log {
    log(VAULT, &IVault::Deposited { collateralToken: TOKEN, trader, amount: U256::from(amount) })
}

fn realised(trader: Address, amount: i64) -> Log {
    log(BALANCES, &IAccountBalance::PnlRealized { trader, amount: I256::try_from(amount).unwrap() })
}

pub(super) fn position(size: i64, open_notional: i64) -> Log {
    let int = |x: i64| I256::try_from(x).unwrap();
    let event = IClearingHouse::PositionChanged {
        trader: TRADER,
        baseToken: BASE,
        exchangedPositionSize: int(size),
        exchangedPositionNotional: I256::ZERO,
        fee: U256::ZERO,
        openNotional: int(open_notional),
        realizedPnl: I256::ZERO,
        sqrtPriceAfterX96: U256::ZERO,
    };
    log(HOUSE, &event)
}

pub(super) fn liquidity(lower: i16, liquidity: i64, base: i64) -> Log {
    let event = IClearingHouse::LiquidityChanged {
        maker: TRADER,
        baseToken: BASE,
        quoteToken: TOKEN,
        lowerTick: I24::try_from(lower).unwrap(),
        upperTick: I24::try_from(600).unwrap(),
        base: I256::try_from(base).unwrap(),
        quote: I256::ZERO,
        liquidity: liquidity.into(),
        quoteFee: U256::ZERO,
    };
    log(HOUSE, &event)
}

pub(super) fn after(logs: &[Log]) -> Result<(Book, Applied), ApplyError> {
    let mut book = Book::default();
    let applied = adapter().apply(&book, &block(), logs)?;
    book.apply(&applied.delta).unwrap();
    Ok((book, applied))
}

fn account(book: &Book) -> Account {
    Account::of(book.unit(&state::unit_key(TRADER)).unwrap()).unwrap()
}

#[test]
fn a_foreign_emitter_is_refused_and_an_unknown_event_is_counted() {
    let mut foreign = deposited(TRADER, 5);
    foreign.address = Address::repeat_byte(0xff);
    let refused = after(&[foreign]).unwrap_err();
    assert!(
        matches!(refused, ApplyError::ForeignEmitter { emitter, log_index: 3, .. } if emitter == Address::repeat_byte(0xff))
    );
    let mut unknown = deposited(TRADER, 5);
    unknown.topics[0] = B256::repeat_byte(0xee);
    let (book, applied) = after(&[unknown]).unwrap();
    assert_eq!((applied.unknown_events, book), (1, Book::default()));
}

#[test]
fn contracts_of_a_market_are_watched_from_its_listing_on() {
    let (book, _) = after(&[listed()]).unwrap();
    let wanted = adapter().filter(&book).addresses;
    assert!(wanted.contains(&BASE) && wanted.contains(&POOL) && wanted.contains(&HOUSE));
    assert!(!adapter().filter(&Book::default()).addresses.contains(&BASE));
    assert!(matches!(after(&[listed(), listed()]), Err(ApplyError::Malformed { .. })));
    assert!(
        matches!(after(&[position(5, -5)]), Err(ApplyError::Malformed { what, .. }) if what.contains("is not known"))
    );
}

#[test]
fn a_withdrawal_turns_owed_profit_into_balance_rounded_down() {
    let withdrawn = IVault::Withdrawn { collateralToken: TOKEN, trader: TRADER, amount: U256::from(10) };
    let logs = [deposited(TRADER, 1_000), realised(TRADER, -1_000_000_000_001), log(VAULT, &withdrawn)];
    let (book, _) = after(&logs).unwrap();
    assert_eq!(book.unit(&state::unit_key(TRADER)).unwrap().cash, I256::unchecked_from(988));
    assert_eq!(account(&book).owed, I256::ZERO);
}

#[test]
fn settled_bad_debt_moves_to_the_fund() {
    let settled = IVault::BadDebtSettled { trader: TRADER, amount: U256::from(70) };
    let (book, _) = after(&[deposited(TRADER, 30), realised(FUND, 5), log(VAULT, &settled)]).unwrap();
    assert_eq!(book.unit(&state::unit_key(TRADER)).unwrap().cash, I256::unchecked_from(100));
    let fund: Fund = state::load(&book, ONLY).unwrap();
    assert_eq!((fund.balance, fund.owed), (I256::unchecked_from(-70), I256::unchecked_from(5)));
}

#[test]
fn dust_is_forgotten_only_where_no_order_is_left() {
    let leg = |book: &Book| book.unit(&state::unit_key(TRADER)).unwrap().leg(MARKET, LegKind::Perp).cloned();
    let (book, _) = after(&[listed(), position(1_000, -1_000), position(-991, -9)]).unwrap();
    assert_eq!((leg(&book), account(&book).settled.len()), (None, 0));
    let kept = [listed(), liquidity(-600, 50, 40), position(1_000, -1_000), position(-991, -9)];
    let (book, _) = after(&kept).unwrap();
    assert_eq!((leg(&book).map(|leg| leg.quantity), account(&book).settled.len()), (Some(I256::unchecked_from(9)), 1));
    // The event of the removal comes after that of the position.
    let gone = [kept.as_slice(), &[liquidity(-600, -50, -40)]].concat();
    let (book, _) = after(&gone).unwrap();
    assert_eq!((leg(&book), account(&book)), (None, Account::default()));
}

#[test]
fn a_part_of_an_order_takes_its_part_of_the_debts_along() {
    let (book, _) = after(&[listed(), liquidity(-600, 100, 31), liquidity(-600, -50, -12)]).unwrap();
    let order = account(&book).orders[0];
    assert_eq!((order.liquidity, order.base_debt), (50, U256::from(16)), "31 less half of it, rounded down");
    let more = after(&[listed(), liquidity(-600, 100, 31), liquidity(-600, -101, -31)]).unwrap_err();
    assert!(more.to_string().contains("more liquidity removed than there was"));
    assert!(after(&[listed(), liquidity(-600, -1, -1)]).unwrap_err().to_string().contains("no order of"));
}

/// Any log that this deployment can emit, in any order; removals that nothing was added for are refused whole.
fn any_log() -> impl Strategy<Value = Log> {
    let trader = prop_oneof![Just(TRADER), Just(FUND), Just(Address::repeat_byte(0x7b))];
    prop_oneof![
        (trader.clone(), 0..u64::MAX).prop_map(|(trader, amount)| deposited(trader, amount)),
        (trader, any::<i64>()).prop_map(|(trader, amount)| realised(trader, amount)),
        (-1_000..1_000_i64, -1_000..1_000_i64).prop_map(|(size, notional)| position(size, notional)),
        (0..3_i16, -60..200_i64, 0..90_i64).prop_map(|(at, l, base)| liquidity(at * -200 - 200, l, base)),
    ]
}

proptest! {
    #[test]
    fn blocks_are_undone_and_redone_to_the_same_state(blocks in prop::collection::vec(prop::collection::vec(any_log(), 0..8), 1..8)) {
        let (adapter, mut past) = (adapter(), Vec::new());
        let (mut book, _) = after(&[listed()]).unwrap();
        let first = book.clone();
        for logs in &blocks {
            let before = book.clone();
            let Ok(applied) = adapter.apply(&book, &block(), logs) else { continue };
            book.apply(&applied.delta).unwrap();
            past.push((before, logs, applied.delta));
        }
        let last = book.clone();
        for (before, _, delta) in past.iter().rev() {
            book.undo(delta).unwrap();
            prop_assert_eq!(&book, before);
        }
        prop_assert_eq!(&book, &first);
        for (before, logs, delta) in &past {
            prop_assert_eq!(&book, before);
            prop_assert_eq!(&adapter.apply(&book, &block(), logs).unwrap().delta, delta);
            book.apply(delta).unwrap();
        }
        prop_assert_eq!(book, last);
    }
}
