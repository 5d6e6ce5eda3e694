//! What is watched, refused, counted and read.

use alloy::{
    primitives::keccak256,
    sol_types::{SolCall, SolEvent},
};
use serde_json::json;

use super::{
    super::{
        Venus,
        abi::{IComptroller, IInherited, IRateModel, IShortfall, IVToken},
        margin::MarketNow,
        rates::{ONE, RateModel},
        state::{self, Auction, House, Listing, Price},
    },
    fixture::*,
};
use crate::{
    protocols::{Adapter, ApplyError, GuardCheck},
    scanner::{Condition, Valuation},
    types::{Address, B256, Bytes, U256},
};

#[test]
fn what_a_configured_pool_announces_is_watched_and_may_be_called_and_nothing_else() {
    let keeper = owner(9);
    let empty = venus();
    let none = crate::positions::Book::default();
    assert_eq!(empty.filter(&none).addresses.len(), 3, "two pools and the auction house");
    let calls = empty.allowed_calls(&none, keeper);
    assert_eq!((calls.len(), &calls), (8, &empty.manifest(keeper).allowed_calls));

    let chain = Chain::opened();
    let watched = chain.venus.filter(&chain.snapshot.book).addresses;
    assert!(VTOKENS.iter().chain([&MODEL, &POOL, &OTHER_POOL, &HOUSE]).all(|contract| watched.contains(contract)));
    assert_eq!(watched.len(), 7);
    let calls = chain.venus.allowed_calls(&chain.snapshot.book, keeper);
    assert_eq!(calls.len(), 8 + 2 * VTOKENS.len());
    assert!(calls.contains(&(VTOKENS[1], IVToken::liquidateBorrowCall::SELECTOR)));

    let stranger = Address::repeat_byte(0xee);
    let announced = log(stranger, &IComptroller::MarketSupported { vToken: stranger });
    let refused = Chain::opened().try_block(&[announced]).unwrap_err();
    assert!(matches!(refused, ApplyError::ForeignEmitter { emitter, .. } if emitter == stranger));
}

#[test]
fn unknown_events_are_counted_and_inherited_ones_are_not() {
    let chain = Chain::opened();
    let mut unknown = log(VTOKENS[0], &IInherited::Initialized { version: 1 });
    let applied = |logs: &[_]| chain.venus.apply(&chain.snapshot.book, &chain.snapshot.block, logs).unwrap();
    assert_eq!(applied(&[unknown.clone()]).unknown_events, 0);
    unknown.topics = vec![keccak256("SomethingNew()")];
    let found = applied(&[unknown]);
    assert_eq!((found.unknown_events, found.delta.is_empty()), (1, true));
}

#[test]
fn logs_that_do_not_decode_or_contradict_the_cache_are_refused() {
    let mut short = log(VTOKENS[0], &IVToken::CashSynced { oldInternalCash: U256::ONE, newInternalCash: U256::ONE });
    short.data = Bytes::from(vec![0; 31]);
    let twice = log(POOL, &IComptroller::MarketSupported { vToken: VTOKENS[0] });
    let too_much = transferred(VTOKENS[0], owner(1), owner(2), U256::ONE);
    let unheard_of = log(POOL, &IComptroller::MarketEntered { vToken: owner(7), account: owner(1) });
    let no_auction = IShortfall::BidPlaced {
        comptroller: POOL,
        auctionStartBlockOrTimestamp: U256::ONE,
        bidBps: U256::ONE,
        bidder: owner(1),
    };
    for (logs, why) in [
        (short, "does not decode"),
        (twice, "announced already"),
        (too_much, "holds 0"),
        (unheard_of, "is not known"),
        (log(HOUSE, &no_auction), "not known"),
    ] {
        let error = Chain::opened().try_block(&[logs]).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_pool_whose_place_changed_is_refused_with_the_way_out() {
    let chain = Chain::opened();
    let swapped = json!({ "comptrollers": [OTHER_POOL, POOL], "shortfall": HOUSE });
    let venus = Venus::new(swapped.try_into().unwrap());
    let event = IComptroller::NewCloseFactor { oldCloseFactorMantissa: U256::ONE, newCloseFactorMantissa: U256::ONE };
    let error = venus.apply(&chain.snapshot.book, &chain.snapshot.block, &[log(POOL, &event)]).unwrap_err();
    assert!(error.to_string().contains("old order"), "{error}");
}

#[test]
fn reserves_paid_out_while_interest_accrues_count_once() {
    let mut chain = Chain::opened();
    let vtoken = VTOKENS[0];
    chain.block(&minted(vtoken, owner(0), uint(1_000), uint(1_000)));
    let accrued = |cash, interest, borrows| IVToken::AccrueInterest {
        cashPrior: uint(cash),
        interestAccumulated: uint(interest),
        borrowIndex: ONE,
        totalBorrows: uint(borrows),
    };
    let paid = |amount, left| IVToken::SpreadReservesReduced {
        protocolShareReserve: owner(8),
        reduceAmount: uint(amount),
        newTotalReserves: uint(left),
    };
    let sums = |chain: &Chain| MarketNow::load(&chain.snapshot.book, vtoken, &chain.snapshot.block).unwrap().stored;
    // 10 % of 500 stays: nothing was due.
    chain.block(&[log(vtoken, &accrued(1_000, 500, 500))]);
    assert_eq!((sums(&chain).reserves, sums(&chain).cash), (uint(50), uint(1_000)));
    // Another 20 come in, and 60 of 70 are paid out before the event says that interest accrued.
    chain.block(&[log(vtoken, &paid(60, 10)), log(vtoken, &accrued(1_000, 200, 700))]);
    assert_eq!((sums(&chain).reserves, sums(&chain).cash), (uint(10), uint(940)));
    // Paid out on request, in a block that has accrued already.
    chain.block(&[log(vtoken, &accrued(940, 0, 700)), log(vtoken, &paid(10, 0))]);
    assert_eq!((sums(&chain).reserves, sums(&chain).cash), (U256::ZERO, uint(930)));
}

#[test]
fn a_transfer_to_the_vtoken_itself_is_not_taken_for_a_redemption() {
    let mut chain = Chain::opened();
    let (vtoken, account) = (VTOKENS[0], owner(0));
    chain.block(&minted(vtoken, account, uint(100), uint(100)));
    chain.block(&[transferred(vtoken, account, vtoken, uint(30))]);
    let redeem =
        IVToken::Redeem { redeemer: account, redeemAmount: uint(20), redeemTokens: uint(20), accountBalance: uint(50) };
    chain.block(&[transferred(vtoken, account, vtoken, uint(20)), log(vtoken, &redeem)]);
    let held = |owner| {
        let unit = chain.snapshot.book.unit(&state::unit_key(POOL, owner)).cloned();
        unit.map(|unit| unit.legs[0].quantity.into_raw())
    };
    assert_eq!((held(account), held(vtoken)), (Some(uint(50)), Some(uint(30))));
}

#[test]
fn a_price_that_is_gone_makes_debtors_unknown_and_nobody_else() {
    let mut chain = Chain::opened();
    let vtoken = VTOKENS[0];
    let mut logs = vec![entered(vtoken, owner(0)), entered(vtoken, owner(1))];
    logs.extend(minted(vtoken, owner(0), uint(100), uint(100)));
    logs.extend(minted(vtoken, owner(1), uint(100), uint(100)));
    logs.push(borrowed(vtoken, owner(1), uint(10), uint(10), uint(10)));
    chain.block(&logs);
    chain.prices.remove(&vtoken);
    chain.block(&[]);
    assert_eq!(state::load::<Price>(&chain.snapshot.book, vtoken), Ok(Price(U256::ZERO)));
    let report = chain.report();
    assert_eq!(report.findings.len(), 1);
    assert_eq!((&report.findings[0].unit, report.findings[0].condition), (&key(1), Condition::Unknown));
}

#[test]
fn a_model_is_read_once_and_then_followed_and_a_strange_one_is_asked_at_every_block() {
    let mut chain = Chain::opened();
    let model = |chain: &Chain| state::load::<RateModel>(&chain.snapshot.book, MODEL);
    assert!(matches!(model(&chain), Ok(RateModel::OneKink { .. })));
    let moved = IRateModel::NewInterestParams {
        baseRatePerBlockOrTimestamp: uint(1),
        multiplierPerBlockOrTimestamp: uint(2),
        jumpMultiplierPerBlockOrTimestamp: uint(3),
        kink: uint(4),
    };
    chain.block(&[log(MODEL, &moved)]);
    let [base, multiplier, jump, kink] = [1, 2, 3, 4].map(uint);
    assert_eq!(model(&chain), Ok(RateModel::OneKink { base, multiplier, jump, kink }));

    // The auction house answers every question with a word: that is no form.
    let strange = IVToken::NewMarketInterestRateModel { oldInterestRateModel: MODEL, newInterestRateModel: HOUSE };
    chain.block(&[log(VTOKENS[0], &strange)]);
    assert_eq!(state::load::<RateModel>(&chain.snapshot.book, HOUSE), Ok(RateModel::Unknown));
    let asked = chain.venus.reads(&chain.snapshot.book, &chain.snapshot.block, 2);
    assert!(asked.iter().any(|read| read.call.to == VTOKENS[0]), "{asked:?}");
}

#[test]
fn the_house_s_rules_and_a_pool_s_auction_are_followed() {
    let mut chain = Chain::opened();
    assert_eq!(House::known(&chain.snapshot.book).unwrap().bad_debt_min, ONE * uint(50));
    let changed = IShortfall::MinimumPoolBadDebtUpdated { oldMinimumPoolBadDebt: ONE, newMinimumPoolBadDebt: ONE };
    let started = |comptroller| IShortfall::AuctionStarted {
        comptroller,
        auctionStartBlockOrTimestamp: uint(2),
        auctionType: 0,
        markets: VTOKENS[..2].to_vec(),
        marketsDebt: vec![uint(7), U256::ZERO],
        seizedRiskFund: uint(3),
        startBidBps: uint(99),
    };
    // A pool that is not configured is none of ours.
    chain.block(&[log(HOUSE, &changed), log(HOUSE, &started(POOL)), log(HOUSE, &started(owner(3)))]);
    assert_eq!(House::known(&chain.snapshot.book).unwrap().bad_debt_min, ONE);
    assert_eq!(state::all::<Auction>(&chain.snapshot.book).count(), 1);
    let bid = IShortfall::BidPlaced {
        comptroller: POOL,
        auctionStartBlockOrTimestamp: uint(2),
        bidBps: uint(100),
        bidder: owner(4),
    };
    chain.block(&[log(HOUSE, &bid)]);
    let auction: Auction = state::load(&chain.snapshot.book, POOL).unwrap();
    assert_eq!((auction.bidder, auction.bid_at), (owner(4), uint(chain.snapshot.block.number)));
    chain.block(&[log(
        HOUSE,
        &IShortfall::AuctionRestarted { comptroller: POOL, auctionStartBlockOrTimestamp: uint(2) },
    )]);
    assert!(!state::load::<Auction>(&chain.snapshot.book, POOL).unwrap().open);
}

#[test]
fn pins_become_guards() {
    let (a, b, c) = (Address::repeat_byte(1), Address::repeat_byte(2), Address::repeat_byte(3));
    let settings = json!({
        "comptrollers": [POOL],
        "beacons": [{ "beacon": a, "implementation": b, "proxies": [POOL] }],
        "proxies": [{ "proxy": c, "implementation": b }],
        "code_hashes": [{ "contract": c, "code_hash": B256::repeat_byte(9) }],
    });
    let guards = Venus::new(settings.try_into().unwrap()).manifest(owner(0)).guards;
    let word = |address: Address| address.into_word();
    assert_eq!(guards.len(), 4);
    assert!(
        matches!(&guards[0].check, GuardCheck::Call { call, expected } if call.to == a && expected[..] == word(b)[..])
    );
    assert!(
        matches!(&guards[1].check, GuardCheck::Storage { address, expected, .. } if *address == POOL && *expected == word(a))
    );
    assert!(
        matches!(&guards[2].check, GuardCheck::Storage { address, expected, .. } if *address == c && *expected == word(b))
    );
    assert!(matches!(&guards[3].check, GuardCheck::CodeHash { address, .. } if *address == c));
}

#[test]
fn units_are_found_by_key_owner_and_pool() {
    let mut chain = Chain::opened();
    chain.block(&minted(VTOKENS[0], owner(0), uint(1), uint(1)));
    let found = |word: &str| chain.venus.find_units(&chain.snapshot.book, word);
    let one = vec![key(0)];
    assert_eq!(found(&key(0).to_string()), one);
    assert_eq!(found(&owner(0).to_string()), one);
    assert_eq!(found(&format!("0/{}", owner(0))), one);
    assert!(found(&format!("1/{}", owner(0))).is_empty() && found("nobody").is_empty());
    let unit = chain.snapshot.book.unit(&key(0)).unwrap();
    assert!(chain.venus.standing(&chain.snapshot, &key(0), unit).is_ok());
    assert_eq!(IVToken::Mint::SIGNATURE, "Mint(address,uint256,uint256,uint256)");
    assert!(state::load::<Listing>(&chain.snapshot.book, VTOKENS[0]).unwrap().read);
}
