//! Logs and answers to changes of the book.

use alloy::sol_types::SolEvent;
use proptest::prelude::*;

use super::{
    super::{
        Markets, Settings,
        abi::IMorpho,
        state::{self, Curve, FeeRecipient, Market, Price, Rate, Stored, Totals},
    },
    fixture::*,
};
use crate::{
    positions::{Book, LegKind},
    protocols::{Adapter, ApplyError},
    types::{Address, B256, Log, MarketId, SegmentId, U256},
};

fn totals(chain: &Chain, market: u64) -> Totals {
    state::load(&chain.snapshot.book, market).unwrap()
}

/// Supply shares, debt shares and collateral.
fn held(book: &Book, market: usize, n: u8) -> [u128; 3] {
    let unit = book.unit(&key(market, n)).unwrap();
    [LegKind::Supply, LegKind::Debt, LegKind::Collateral].map(|kind| {
        let leg = unit.leg(MarketId(u32::try_from(market).unwrap()), kind);
        leg.map_or(0, |leg| leg.quantity.unsigned_abs().to())
    })
}

fn refused(chain: &mut Chain, logs: &[Log]) -> String {
    let before = chain.snapshot.book.clone();
    let error = chain.try_block_after(1, logs).expect_err("refused");
    assert_eq!(chain.snapshot.book, before);
    match error {
        ApplyError::Malformed { what, .. } => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn markets_are_numbered_in_the_order_of_their_creation() {
    let mut chain = Chain::opened();
    chain.block_after(7, &[created(3)]);
    let book = &chain.snapshot.book;
    for number in 0..4 {
        let at = u32::try_from(number).unwrap();
        assert_eq!(state::number_of(book, id(number)), Ok(Some(at)));
        assert_eq!(state::load(book, at.into()), Ok(Market::of(id(number), &params(number))));
    }
    assert_eq!(totals(&chain, 3), Totals { last_update: GENESIS + 7, ..Totals::default() });
    assert_eq!(state::number_of(book, B256::ZERO), Ok(None));
}

#[test]
fn positions_and_totals_follow_their_events() {
    let mut chain = Chain::opened();
    chain.block(&[secure(1, 2, 500), borrow(1, 2, 300, 300_000_000), withdraw(1, 1, 100, 100_000_000)]);
    chain.block(&[release(1, 2, 50), repay(1, 2, 100, 100_000_000)]);
    assert_eq!(held(&chain.snapshot.book, 1, 2), [0, 200_000_000, 450]);
    assert_eq!(held(&chain.snapshot.book, 1, 1), [999_999_900_000_000, 0, 0]);
    let unit = chain.snapshot.book.unit(&key(1, 2)).unwrap();
    assert_eq!((unit.segment, unit.owner), (SegmentId(1), owner(2)));
    let Totals { supply_assets, supply_shares, borrow_assets, borrow_shares, .. } = totals(&chain, 1);
    assert_eq!([supply_assets, supply_shares], [uint(999_999_900), uint(999_999_900_000_000)]);
    assert_eq!([borrow_assets, borrow_shares], [uint(200), uint(200_000_000)]);
}

#[test]
fn a_repayment_above_the_markets_debt_takes_it_to_zero() {
    let mut chain = Chain::opened();
    chain.block(&[secure(1, 2, 500), borrow(1, 2, 300, 300_000_000), repay(1, 2, 301, 300_000_000)]);
    assert_eq!(totals(&chain, 1).borrow_assets, U256::ZERO);
    assert_eq!(held(&chain.snapshot.book, 1, 2), [0, 0, 500]);
}

#[test]
fn a_liquidation_takes_debt_collateral_and_what_lenders_lose() {
    let mut chain = Chain::opened();
    chain.block(&[secure(1, 2, 500), borrow(1, 2, 300, 300_000_000), borrow(1, 3, 10, 10_000_000)]);
    chain.block(&[liquidated(1, 2, [201, 200_000_000, 500, 100, 100_000_000])]);
    assert_eq!(held(&chain.snapshot.book, 1, 2), [0, 0, 0]);
    let totals = totals(&chain, 1);
    assert_eq!([totals.borrow_assets, totals.borrow_shares], [uint(9), uint(10_000_000)]);
    assert_eq!(totals.supply_assets, uint(1_000_000_000 - 100));
}

#[test]
fn interest_is_added_and_its_fee_goes_to_the_recipient_of_the_time() {
    let mut chain = Chain::opened();
    let fee_to = |n| log(&IMorpho::SetFeeRecipient { newFeeRecipient: owner(n) });
    chain.block(&[log(&IMorpho::SetFee { id: id(0), newFee: uint(10).pow(uint(17)) }), fee_to(8)]);
    chain.block_after(60, &[accrued(0, 1_000, 99)]);
    chain.block_after(60, &[fee_to(9), accrued(0, 500, 50)]);
    assert_eq!(held(&chain.snapshot.book, 0, 8), [99, 0, 0]);
    assert_eq!(held(&chain.snapshot.book, 0, 9), [50, 0, 0]);
    let totals = totals(&chain, 0);
    assert_eq!(totals.last_update, GENESIS + 120);
    assert_eq!([totals.supply_assets, totals.borrow_assets], [uint(1_000_001_500), uint(1_500)]);
    assert_eq!(totals.supply_shares, uint(1_000_000_000_000_149));
    assert_eq!(totals.fee_wad, uint(10).pow(uint(17)));
    let recipient: Option<FeeRecipient> = state::find(&chain.snapshot.book, B256::ZERO).unwrap();
    assert_eq!(recipient, Some(FeeRecipient(owner(9))));
}

#[test]
fn foreign_logs_are_refused_and_unknown_events_counted() {
    let mut chain = Chain::opened();
    let foreign = Log { address: ORACLE, ..supply(0, 1, 1, 1) };
    let error = chain.try_block_after(1, &[foreign]).unwrap_err();
    assert!(matches!(error, ApplyError::ForeignEmitter { emitter: ORACLE, .. }), "{error:?}");
    let unknown = Log { topics: vec![B256::repeat_byte(9)], ..supply(0, 1, 1, 1) };
    let silent = Log { topics: vec![], ..supply(0, 1, 1, 1) };
    let loan = log(&IMorpho::FlashLoan { caller: owner(1), token: LOAN, assets: uint(5) });
    let applied = chain.adapter.apply(&chain.snapshot.book, &chain.snapshot.block, &[unknown, silent, loan]).unwrap();
    assert_eq!((applied.unknown_events, applied.delta.is_empty()), (2, true));
}

#[test]
fn logs_that_contradict_the_cache_are_refused_whole() {
    let mut chain = Chain::opened();
    chain.block(&[secure(1, 2, 500), borrow(1, 2, 300, 300_000_000)]);
    let mut wrong = created(3);
    wrong.topics[1] = B256::repeat_byte(1);
    let short = Log { data: supply(0, 1, 1, 1).data.slice(..32), ..supply(0, 1, 1, 1) };
    for (logs, named) in [
        (vec![supply(1, 1, 1, 1), supply(3, 1, 1, 1)], "is not known"),
        (vec![created(2)], "created already"),
        (vec![wrong], "not the id"),
        (vec![short], "does not decode"),
        (vec![release(1, 2, 501)], "501 is taken where only 500 is left"),
        (vec![repay(1, 2, 1, 300_000_001)], "300000001 is taken"),
        (vec![withdraw(1, 2, 1, 1)], "1 is taken where only 0 is left"),
        (vec![liquidated(1, 2, [1, 1, 501, 0, 0])], "501 is taken"),
        (
            vec![log(&IMorpho::Supply { id: id(1), caller: LOAN, onBehalf: LOAN, assets: U256::MAX, shares: uint(1) })],
            "256 bits",
        ),
    ] {
        let what = refused(&mut chain, &logs);
        assert!(what.contains(named), "{named}: {what}");
    }
}

#[test]
fn what_is_read_is_what_borrowers_need_and_no_more() {
    let mut chain = Chain::opened();
    let wanted = |chain: &Chain| {
        let reads = chain.adapter.reads(&chain.snapshot.book, &chain.snapshot.block, 0);
        reads.iter().map(|read| (read.record.kind, read.call.to)).collect::<Vec<_>>()
    };
    assert_eq!(wanted(&chain), [], "nobody owes anything");
    chain.block(&[borrow(0, 2, 10, 10_000_000), borrow(1, 2, 10, 10_000_000), borrow(2, 2, 10, 10_000_000)]);
    let (price, rate, curve) = (Price::KIND, Rate::KIND, Curve::KIND);
    assert_eq!(wanted(&chain), [(price, ORACLE), (price, ORACLE_2), (rate, OTHER_IRM)], "one oracle, asked once");
    let before = chain.snapshot.book.clone();
    chain.block_after(12, &[]);
    let rate_of_2: Rate = state::load(&chain.snapshot.book, 2).unwrap();
    assert_eq!(rate_of_2, Rate { rate_wad: chain.other_rate, at: GENESIS + 12 });
    let changed = chain.snapshot.book.records().filter(|(key, record)| before.record(key) != Some(*record)).count();
    assert_eq!(changed, 1, "prices that stayed are no change");
    let applied = chain.adapter.apply(&chain.snapshot.book, &chain.snapshot.block, &[accrued(0, 1, 0)]).unwrap();
    chain.snapshot.book.apply(&applied.delta).unwrap();
    assert_eq!(wanted(&chain)[1], (curve, CURVE_IRM), "an accrual moves the rate at target");
}

#[test]
fn markets_that_are_not_named_are_kept_but_not_asked_about() {
    let named = Settings { markets: Markets::Only([id(1)].into()), ..settings() };
    let mut chain = Chain::new(named);
    chain.block(&[created(0), created(1), borrow(0, 2, 10, 10_000_000), secure(0, 2, 1)]);
    assert_eq!(chain.adapter.reads(&chain.snapshot.book, &chain.snapshot.block, 0), []);
    assert_eq!(held(&chain.snapshot.book, 0, 2), [0, 10_000_000, 1]);
    assert_eq!(chain.scan().findings, [], "nothing is said about them");
}

#[test]
fn an_oracle_that_gives_no_price_stops_its_own_market_only() {
    let mut chain = Chain::opened();
    chain.block(&[secure(0, 2, 5), borrow(0, 2, 10, 10_000_000), secure(2, 3, 5), borrow(2, 3, 10, 10_000_000)]);
    chain.prices.remove(&ORACLE);
    chain.block_after(12, &[]);
    let report = chain.scan();
    let [bankrupt, unknown] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!((bankrupt.unit.clone(), bankrupt.unknown_reason.clone()), (key(2, 3), None));
    assert_eq!(unknown.unit, key(0, 2));
    assert_eq!(unknown.unknown_reason, Some(format!("missing price of oracle {ORACLE}")));
    chain.prices.insert(ORACLE, one());
    chain.block_after(12, &[]);
    assert_eq!(chain.scan().findings.len(), 2);
    assert!(chain.scan().findings.iter().all(|finding| finding.unknown_reason.is_none()));
}

#[test]
fn every_event_of_the_contract_is_known() {
    let signatures = [
        IMorpho::SetOwner::SIGNATURE_HASH,
        IMorpho::EnableIrm::SIGNATURE_HASH,
        IMorpho::EnableLltv::SIGNATURE_HASH,
        IMorpho::FlashLoan::SIGNATURE_HASH,
        IMorpho::SetAuthorization::SIGNATURE_HASH,
        IMorpho::IncrementNonce::SIGNATURE_HASH,
    ];
    assert_eq!(IMorpho::IMorphoEvents::SELECTORS.len(), signatures.len() + 11);
    for signature in signatures {
        assert!(IMorpho::IMorphoEvents::SELECTORS.contains(&signature.0));
    }
}

/// One random event that fits the book: (what, market, account, amount).
fn fitting(book: &Book, (what, market, n, amount): (u8, usize, u8, u32)) -> Log {
    let (n, amount) = (n % 4 + 1, u128::from(amount));
    let [lent, owed, collateral] = match book.unit(&key(market, n)) {
        Some(_) => held(book, market, n),
        None => [0; 3],
    };
    let all: Totals = state::load(book, u64::try_from(market).unwrap()).unwrap();
    let part = |of: u128| of.min(amount * 1_000);
    match what % 8 {
        0 => supply(market, n, amount, amount * 1_000_000),
        1 => borrow(market, n, amount, amount * 1_000_000),
        2 => secure(market, n, amount),
        3 => withdraw(market, n, part(lent).min(all.supply_assets.to()), part(lent)),
        4 => repay(market, n, part(owed) / 1_000_000 + 1, part(owed)),
        5 => release(market, n, part(collateral)),
        6 => accrued(market, amount, amount * 7),
        _ => {
            let (repaid, bad) = (owed / 2, owed - owed / 2);
            let assets: u128 = all.borrow_assets.saturating_sub(uint(repaid / 1_000_000)).to();
            let lost = (bad / 1_000_000).min(assets).min(all.supply_assets.to());
            liquidated(market, n, [repaid / 1_000_000, repaid, collateral, lost, bad])
        }
    }
}

proptest! {
    #[test]
    fn what_blocks_do_is_undone_and_done_again_to_the_same(
        blocks in prop::collection::vec(
            (0u64..1_000_000, prop::collection::vec((any::<u8>(), 0usize..3, any::<u8>(), any::<u32>()), 0..6)), 1..12)
    ) {
        let mut chain = Chain::opened();
        let mut past = Vec::new();
        for (price, edits) in blocks {
            chain.prices.insert(ORACLE, U256::from(price));
            for edit in edits {
                let before = chain.snapshot.book.clone();
                let log = fitting(&before, edit);
                let delta = chain.block_after(3, &[log]);
                past.push((before, delta, chain.snapshot.book.clone()));
            }
        }
        let mut book = chain.snapshot.book.clone();
        for (before, delta, after) in past.iter().rev() {
            prop_assert_eq!(&book, after);
            let (mut whole, mut parts) = (book.clone(), book);
            whole.undo(delta).unwrap();
            prop_assert_eq!(&whole, before);
            for change in delta.changes.iter().rev() {
                parts.undo(&crate::positions::Delta { changes: vec![change.clone()] }).unwrap();
            }
            prop_assert_eq!(&parts, before);
            book = whole;
        }
        for (_, delta, after) in &past {
            book.apply(delta).unwrap();
            prop_assert_eq!(&book, after);
        }
    }
}

#[test]
fn the_zero_address_is_the_recipient_until_somebody_is_named() {
    let mut chain = Chain::opened();
    chain.block(&[accrued(0, 10, 4)]);
    let unit = chain.snapshot.book.unit(&state::unit_key(id(0), Address::ZERO)).unwrap();
    assert_eq!(unit.leg(MarketId(0), LegKind::Supply).unwrap().quantity, int(4));
}
