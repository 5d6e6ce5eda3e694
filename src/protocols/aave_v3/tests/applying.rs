//! Logs and reads → book.
#![expect(non_snake_case, reason = "fields are named as the contracts name them")]

use alloy::sol_types::SolValue;
use proptest::prelude::*;

use super::{
    super::{
        abi::{IPool, IPoolAddressesProvider, IPoolConfigurator, IProxy, IScaledToken},
        ray::RAY,
        state::{self, Flags, Price, Registry, Reserve},
    },
    fixture::{
        CONFIGURATOR, KEEPER, NOW, ORACLE, POOL, PROVIDER, a_token, after, apply, asset, block, borrowed, burnt,
        debt_token, flagged, key, listed, log, market, minted, of_configurator, of_pool, opened, read, supplied,
        tokens, user,
    },
};
use crate::{
    positions::{Book, LegKind},
    protocols::{Adapter, ApplyError, records},
    types::{Address, B256, CallOutcome, Log, MarketId, U256},
};

fn reserve(book: &Book, number: u64) -> Reserve {
    records::load(book, number).unwrap()
}

#[test]
fn a_foreign_emitter_is_refused_and_an_unknown_event_counted() {
    let stranger = log(Address::repeat_byte(9), &IProxy::Upgraded { implementation: Address::ZERO });
    assert!(matches!(apply(&opened(), &[stranger]), Err(ApplyError::ForeignEmitter { .. })));
    let unheard = Log {
        topics: vec![B256::repeat_byte(5)],
        ..of_pool(&IPool::MintedToTreasury { reserve: asset(0), amountMinted: U256::ONE })
    };
    let own = log(a_token(0), &IProxy::Upgraded { implementation: Address::ZERO });
    let applied = apply(&opened(), &[unheard, own]).unwrap();
    assert_eq!((applied.unknown_events, applied.delta.is_empty()), (1, true));
    // A receipt speaks of itself before its reserve is listed.
    let mut logs = vec![log(a_token(0), &IProxy::Upgraded { implementation: Address::ZERO })];
    logs.extend(listed(0));
    assert!(apply(&Book::default(), &logs).is_ok());
}

#[test]
fn what_cannot_follow_from_the_cache_is_refused() {
    let book = opened();
    let unknown = IPool::DeficitCreated { user: user(1), debtAsset: Address::repeat_byte(8), amountCreated: U256::ONE };
    for (logs, says) in [
        (vec![burnt(a_token(0), user(1), U256::ONE)], "balance of 0 is less than 1"),
        (vec![of_pool(&unknown)], "no known reserve"),
        (listed(0), "is listed already"),
        (
            vec![of_pool(&IPool::Withdraw { reserve: asset(0), user: user(1), to: user(1), amount: U256::ONE })],
            "liquidity of 0 is less than 1",
        ),
    ] {
        let Err(ApplyError::Malformed { what, .. }) = apply(&book, &logs) else { panic!("refused: {says}") };
        assert!(what.contains(says), "{what}");
    }
}

#[test]
fn a_new_reserve_takes_the_lowest_free_number() {
    let book = opened();
    let dropped = of_configurator(&IPoolConfigurator::ReserveDropped { asset: asset(1) });
    let book = after(book, &[dropped]);
    assert!(!market(None).filter(&book).addresses.contains(&a_token(1)));
    let book = after(book, &listed(7));
    assert_eq!(reserve(&book, 1).asset, asset(7));
    assert_eq!(reserve(&book, 2).asset, asset(2));
    let mut watched = vec![PROVIDER, POOL, CONFIGURATOR];
    watched.extend([0, 2, 7].into_iter().flat_map(|n| [a_token(n), debt_token(n)]));
    watched.sort_unstable();
    assert_eq!(market(None).filter(&book).addresses, watched);
}

#[test]
fn a_flag_says_which_leg_a_supply_is() {
    let one = tokens(0, 1);
    let leg = |book: &Book, kind| book.unit(&key(1)).and_then(|unit| unit.leg(MarketId(0), kind).map(state::magnitude));
    let book = after(opened(), &[minted(a_token(0), user(1), one)]);
    assert_eq!((leg(&book, LegKind::Supply), leg(&book, LegKind::Collateral)), (Some(one), None));
    let book = after(book, &[flagged(0, user(1), true)]);
    assert_eq!((leg(&book, LegKind::Supply), leg(&book, LegKind::Collateral)), (None, Some(one)));
    let mode = of_pool(&IPool::UserEModeSet { user: user(1), categoryId: 3 });
    let book = after(book, &[mode, burnt(a_token(0), user(1), one)]);
    let flags = Flags::of(book.unit(&key(1)).unwrap()).unwrap();
    assert_eq!(flags, Flags { category: 3, collateral: U256::ONE }, "flags outlive the balance");
    let none = of_pool(&IPool::UserEModeSet { user: user(1), categoryId: 0 });
    let book = after(book, &[flagged(0, user(1), false), none]);
    assert!(book.unit(&key(1)).is_none(), "an account of nothing is none");
}

#[test]
fn a_balance_is_told_after_interest_and_kept_before_it() {
    // 1.000000001 units each: 7 scaled are 7 asset units supplied, 8 owed.
    let index = RAY + U256::from(10).pow(U256::from(18));
    let mint = |token, value: u64| {
        let (value, balanceIncrease) = (U256::from(value), U256::ZERO);
        log(token, &IScaledToken::Mint { caller: user(1), onBehalfOf: user(1), value, balanceIncrease, index })
    };
    let book = after(opened(), &[mint(a_token(1), 7), mint(debt_token(1), 8)]);
    let unit = book.unit(&key(1)).unwrap();
    assert_eq!((state::supplied(unit, 1), state::owed(unit, 1)), (U256::from(7), U256::from(7)));
    // The whole debt is burnt half a year later; most of what the event tells is interest.
    let index = RAY * U256::from(2);
    let burn = IScaledToken::Burn {
        from: user(1),
        target: user(1),
        value: U256::from(8),
        balanceIncrease: U256::from(6),
        index,
    };
    let book = after(book, &[log(debt_token(1), &burn)]);
    assert_eq!(state::owed(book.unit(&key(1)).unwrap(), 1), U256::ZERO);
    assert_eq!(reserve(&book, 1).scaled_debt, U256::ZERO);
}

#[test]
fn a_liquidation_paid_in_a_tokens_moves_the_collaterals_indexes_in_silence() {
    let rates = |reserve: u8| {
        of_pool(&IPool::ReserveDataUpdated {
            reserve: asset(reserve),
            liquidityRate: RAY / U256::from(10),
            stableBorrowRate: U256::ZERO,
            variableBorrowRate: RAY / U256::from(5),
            liquidityIndex: RAY,
            variableBorrowIndex: RAY,
        })
    };
    let mut book = after(opened(), &[rates(0), rates(1), borrowed(1, user(2), U256::from(9))]);
    let liquidated = of_pool(&IPool::LiquidationCall {
        collateralAsset: asset(0),
        debtAsset: asset(1),
        user: user(2),
        debtToCover: U256::ONE,
        liquidatedCollateralAmount: U256::ONE,
        liquidator: user(3),
        receiveAToken: true,
    });
    let later = crate::types::BlockRef { timestamp: NOW + 365 * 24 * 3_600, ..block() };
    let applied = market(None).apply(&book, &later, &[liquidated]).unwrap();
    book.apply(&applied.delta).unwrap();
    let collateral = reserve(&book, 0);
    assert_eq!(collateral.supply_index, RAY + RAY / U256::from(10));
    assert_eq!((collateral.debt_index, collateral.updated_at), (RAY, later.timestamp), "nobody owes any of it");
    assert_eq!(reserve(&book, 1).updated_at, NOW, "the debt's move is told by its own event");
    assert_eq!(reserve(&book, 1).liquidity, U256::ONE);
}

#[test]
fn the_registry_is_read_first_then_prices_at_every_block() {
    let book = opened();
    let kinds = |book: &Book, round| {
        market(None).reads(book, &block(), round).iter().map(|r| r.record.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&book, 0), [2, 2, 2, 1, 1, 1]);
    let book = read(book, [2_000, 1, 5], KEEPER);
    let registry: Registry = records::find(&book, B256::ZERO).unwrap().unwrap();
    assert_eq!(registry, Registry { oracle: ORACLE, sentinel: Address::ZERO, umbrella: KEEPER });
    assert_eq!(kinds(&book, 0), [5, 5, 5], "prices are asked for anew");
    assert!(kinds(&book, 1).is_empty(), "and once a block");
    // With another oracle every price is.
    let moved = IPoolAddressesProvider::PriceOracleUpdated { oldAddress: ORACLE, newAddress: KEEPER };
    let book = after(book, &[log(PROVIDER, &moved)]);
    assert_eq!(kinds(&book, 0), [1, 1, 1]);
    assert_eq!(book.records_of(5).count(), 0);
}

#[test]
fn an_oracle_that_refuses_is_a_known_absence_a_registry_that_does_is_an_error() {
    let book = read(opened(), [2_000, 1, 5], KEEPER);
    let reverted = |round| {
        let reads = market(None).reads(&book, &block(), round);
        reads.into_iter().map(|read| (read, CallOutcome::Reverted(Default::default()))).collect::<Vec<_>>()
    };
    let delta = market(None).absorb(&book, &block(), &reverted(0)).unwrap();
    let mut unpriced = book.clone();
    unpriced.apply(&delta).unwrap();
    assert_eq!(records::load::<Price>(&unpriced, 1).unwrap(), Price(None));
    assert!(market(None).reads(&unpriced, &block(), 1).is_empty(), "it is not asked again in this block");
    let reads = market(None).reads(&opened(), &block(), 0);
    let answers: Vec<_> =
        reads.into_iter().map(|read| (read, CallOutcome::Returned(U256::ZERO.abi_encode().into()))).collect();
    let error = market(None).absorb(&opened(), &block(), &answers).unwrap_err();
    assert!(error.to_string().contains("getConfiguration"), "{error}");
}

/// A random event that the book allows.
fn event(book: &Book, (what, account, other, reserve, amount): (u8, u8, u8, u8, u64)) -> Vec<Log> {
    let (account, other, reserve) = (user(account % 5 + 1), user(other % 5 + 1), reserve % 3);
    let unit = book.unit(&state::unit_key(account));
    let held = unit.map_or(U256::ZERO, |unit| state::supplied(unit, reserve.into()));
    let owed = unit.map_or(U256::ZERO, |unit| state::owed(unit, reserve.into()));
    let amount = U256::from(amount) + U256::ONE;
    match what % 8 {
        0 | 1 => supplied(reserve, account, amount),
        2 => vec![borrowed(reserve, account, amount)],
        3 if !held.is_zero() => vec![burnt(a_token(reserve), account, amount.min(held))],
        4 if !owed.is_zero() => vec![burnt(debt_token(reserve), account, amount.min(owed))],
        5 if !held.is_zero() => {
            let transfer =
                IScaledToken::BalanceTransfer { from: account, to: other, value: amount.min(held), index: RAY };
            vec![log(a_token(reserve), &transfer)]
        }
        6 => vec![of_pool(&IPool::UserEModeSet { user: account, categoryId: (amount % U256::from(3)).to() })],
        _ => vec![flagged(reserve, account, amount.bit(0))],
    }
}

proptest! {
    #[test]
    fn blocks_are_taken_back_and_made_again(
        blocks in prop::collection::vec(prop::collection::vec(any::<(u8, u8, u8, u8, u64)>(), 0..6), 1..20)
    ) {
        let mut book = opened();
        let mut past = Vec::new();
        for events in blocks {
            let before = book.clone();
            let mut logs = Vec::new();
            for one in events {
                let more = event(&book, one);
                book = after(book, &more);
                logs.extend(more);
            }
            // One event at a time or all at once is the same.
            let delta = apply(&before, &logs).unwrap().delta;
            let mut at_once = before.clone();
            at_once.apply(&delta).unwrap();
            prop_assert_eq!(&at_once, &book);
            past.push((before, delta));
        }
        for number in 0..3u32 {
            let sum = |of: fn(&crate::positions::Unit, u32) -> U256| {
                book.units().fold(U256::ZERO, |sum, (_, unit)| sum + of(unit, number))
            };
            let reserve = reserve(&book, number.into());
            prop_assert_eq!((sum(state::supplied), sum(state::owed)), (reserve.scaled_supply, reserve.scaled_debt));
        }
        let last = book.clone();
        for (before, delta) in past.iter().rev() {
            book.undo(delta).unwrap();
            prop_assert_eq!(&book, before);
        }
        for (_, delta) in &past {
            book.apply(delta).unwrap();
        }
        prop_assert_eq!(book, last);
    }
}
