//! A market of three reserves and the means to write its logs.
#![expect(non_snake_case, reason = "fields are named as the contracts name them")]

use alloy::{
    primitives::{IntoLogData, aliases::U40},
    sol_types::{SolEvent, SolValue},
};

use super::super::{
    AaveV3, Settings,
    abi::{IPool, IPoolConfigurator, IScaledToken},
    ray::RAY,
    state,
};
use crate::{
    positions::{Book, Snapshot},
    protocols::{Adapter, Applied, ApplyError},
    types::{Address, B256, BlockRef, CallOutcome, Log, U256, UnitKey},
};

pub(super) const PROVIDER: Address = Address::repeat_byte(0xa0);
pub(super) const POOL: Address = Address::repeat_byte(0xa1);
pub(super) const CONFIGURATOR: Address = Address::repeat_byte(0xa2);
pub(super) const KEEPER: Address = Address::repeat_byte(0xee);
pub(super) const ORACLE: Address = Address::repeat_byte(0xa3);
/// Time of every block here, Unix seconds.
pub(super) const NOW: u64 = 1_700_000_000;
/// Of 18, 6 and 18 decimals.
pub(super) const DECIMALS: [u8; 3] = [18, 6, 18];

pub(super) fn asset(reserve: u8) -> Address {
    Address::with_last_byte(0x10 + reserve)
}

pub(super) fn a_token(reserve: u8) -> Address {
    Address::with_last_byte(0x20 + reserve)
}

pub(super) fn debt_token(reserve: u8) -> Address {
    Address::with_last_byte(0x30 + reserve)
}

pub(super) fn user(n: u8) -> Address {
    Address::repeat_byte(n)
}

pub(super) fn key(n: u8) -> UnitKey {
    state::unit_key(user(n))
}

/// So many whole tokens of a reserve's asset.
pub(super) fn tokens(reserve: u8, whole: u64) -> U256 {
    U256::from(whole) * U256::from(10).pow(U256::from(DECIMALS[usize::from(reserve)]))
}

pub(super) fn market(umbrella: Option<Address>) -> AaveV3 {
    AaveV3::new(Settings {
        addresses_provider: PROVIDER,
        pool: POOL,
        pool_configurator: CONFIGURATOR,
        pool_implementation: None,
        umbrella,
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

pub(super) fn of_pool(event: &(impl SolEvent + IntoLogData)) -> Log {
    log(POOL, event)
}

pub(super) fn of_configurator(event: &(impl SolEvent + IntoLogData)) -> Log {
    log(CONFIGURATOR, event)
}

/// Listed with a threshold of 80 %, a bonus of 5 % and no fee.
pub(super) fn listed(reserve: u8) -> Vec<Log> {
    let init = IPoolConfigurator::ReserveInitialized {
        asset: asset(reserve),
        aToken: a_token(reserve),
        stableDebtToken: Address::ZERO,
        variableDebtToken: debt_token(reserve),
        interestRateStrategyAddress: Address::ZERO,
    };
    let collateral = IPoolConfigurator::CollateralConfigurationChanged {
        asset: asset(reserve),
        ltv: U256::from(7_500),
        liquidationThreshold: U256::from(8_000),
        liquidationBonus: U256::from(10_500),
    };
    let active = IPoolConfigurator::ReserveActive { asset: asset(reserve), active: true };
    vec![of_configurator(&init), of_configurator(&collateral), of_configurator(&active)]
}

/// More of an aToken or a debt token, at an index of one ray.
pub(super) fn minted(token: Address, account: Address, value: U256) -> Log {
    let (caller, balanceIncrease) = (account, U256::ZERO);
    log(token, &IScaledToken::Mint { caller, onBehalfOf: account, value, balanceIncrease, index: RAY })
}

pub(super) fn burnt(token: Address, account: Address, value: U256) -> Log {
    let (target, balanceIncrease) = (account, U256::ZERO);
    log(token, &IScaledToken::Burn { from: account, target, value, balanceIncrease, index: RAY })
}

pub(super) fn flagged(reserve: u8, account: Address, on: bool) -> Log {
    let (reserve, user) = (asset(reserve), account);
    match on {
        true => of_pool(&IPool::ReserveUsedAsCollateralEnabled { reserve, user }),
        false => of_pool(&IPool::ReserveUsedAsCollateralDisabled { reserve, user }),
    }
}

/// Supplies as collateral, with the reserve's liquidity.
pub(super) fn supplied(reserve: u8, account: Address, amount: U256) -> Vec<Log> {
    let event = IPool::Supply { reserve: asset(reserve), user: account, onBehalfOf: account, amount, referralCode: 0 };
    vec![minted(a_token(reserve), account, amount), flagged(reserve, account, true), of_pool(&event)]
}

pub(super) fn borrowed(reserve: u8, account: Address, amount: U256) -> Log {
    minted(debt_token(reserve), account, amount)
}

pub(super) fn grace(reserve: u8, until: u64) -> Log {
    let gracePeriodUntil = U40::from(until);
    of_configurator(&IPoolConfigurator::LiquidationGracePeriodChanged { asset: asset(reserve), gracePeriodUntil })
}

pub(super) fn block() -> BlockRef {
    BlockRef { number: 1, hash: B256::repeat_byte(1), parent_hash: B256::ZERO, timestamp: NOW }
}

pub(super) fn apply(book: &Book, logs: &[Log]) -> Result<Applied, ApplyError> {
    market(None).apply(book, &block(), logs)
}

/// The book after these logs.
pub(super) fn after(mut book: Book, logs: &[Log]) -> Book {
    let applied = apply(&book, logs).unwrap();
    book.apply(&applied.delta).unwrap();
    book
}

/// The three reserves with nothing in them, unread.
pub(super) fn opened() -> Book {
    after(Book::default(), &(0..3).flat_map(listed).collect::<Vec<_>>())
}

/// The book after its reads, with these prices in whole dollars and this UMBRELLA.
pub(super) fn read(mut book: Book, dollars: [u64; 3], umbrella: Address) -> Book {
    for round in 0..4 {
        let reads = market(None).reads(&book, &block(), round);
        let answers: Vec<_> = reads.into_iter().map(|read| answered(&book, read, dollars, umbrella)).collect();
        let delta = market(None).absorb(&book, &block(), &answers).unwrap();
        book.apply(&delta).unwrap();
    }
    book
}

fn answered(
    book: &Book,
    read: crate::protocols::Read,
    dollars: [u64; 3],
    umbrella: Address,
) -> (crate::protocols::Read, CallOutcome) {
    let number = usize::try_from(U256::from_be_bytes(read.record.id.0)).unwrap();
    let word = match read.record.kind {
        1 if read.call.data.as_ref()[4..].starts_with(b"PRICE_ORACLE\0") => ORACLE.abi_encode(),
        1 if read.call.data.as_ref()[4..].starts_with(b"UMBRELLA") => umbrella.abi_encode(),
        1 => Address::ZERO.abi_encode(),
        2 => {
            let word = book.record(&read.record).unwrap()[3];
            (word | (U256::from(DECIMALS[number]) << 48usize)).abi_encode()
        }
        _ => (U256::from(dollars[number]) * U256::from(100_000_000)).abi_encode(),
    };
    (read, CallOutcome::Returned(word.into()))
}

pub(super) fn snapshot(book: Book) -> Snapshot {
    Snapshot { block: block(), book }
}
