//! Which call is offered when, what it promises, and what is built from it.

use alloy::sol_types::SolCall;

use super::{
    super::{
        abi::{IComptroller, IShortfall, IVToken},
        rates::ONE,
    },
    fixture::*,
};
use crate::{
    protocols::{Adapter, Parties},
    recovery::{Action, Intent, IntentKind, Scope, ShortageKind, Step, Tier},
    types::{Address, Bytes, Log, SegmentId, U256},
};

const COLLATERAL: Address = VTOKENS[0];
const DEBT: Address = VTOKENS[1];

/// Account 0 with so many dollars of collateral in market 0 and of debt in market 1, where account 1 supplied.
fn debtor(collateral: u64, debt: u64) -> Chain {
    let mut chain = Chain::opened();
    let plenty = ONE * uint(10_000);
    let (held, owed) = (ONE * uint(collateral), ONE * uint(debt));
    let mut logs: Vec<Log> = minted(DEBT, owner(1), plenty, plenty).into();
    logs.extend(minted(COLLATERAL, owner(0), held, held));
    logs.extend([entered(COLLATERAL, owner(0)), entered(DEBT, owner(0)), borrowed(DEBT, owner(0), owed, owed, owed)]);
    chain.block(&logs);
    chain
}

fn offers(chain: &Chain) -> Vec<Intent> {
    chain.case().offered.unwrap().intents
}

fn built(chain: &Chain, intent: &Intent) -> Result<(Address, Bytes), String> {
    let step = Step {
        tier: intent.tier,
        unit: intent.scope.unit().cloned(),
        absorbs: intent.absorbs,
        why: intent.why.clone(),
        action: Action::Intent(Box::new(intent.clone())),
    };
    let parties = Parties { sender: owner(9), proceeds: owner(9) };
    chain.venus.build(&[step], &parties).map(|call| (call.to, call.data)).map_err(|error| error.to_string())
}

#[test]
fn a_healthy_account_is_offered_nothing() {
    let chain = debtor(1_000, 700);
    assert!(offers(&chain).is_empty() && chain.case().distressed.is_empty());
}

#[test]
fn above_the_least_collateral_half_a_debt_is_exchanged() {
    let chain = debtor(1_000, 850);
    let offers = offers(&chain);
    let [intent] = offers.as_slice() else { panic!("{offers:?}") };
    let (to, data) = built(&chain, intent).unwrap();
    let call = IVToken::liquidateBorrowCall::abi_decode(&data).unwrap();
    assert_eq!((to, call.borrower, call.vTokenCollateral), (DEBT, owner(0), COLLATERAL));
    // Half of the debt with one more block's interest.
    let half = ONE * uint(425);
    assert!(half < call.repayAmount && call.repayAmount < half + ONE);
    assert_eq!((intent.capital[0].token, intent.capital[0].spender), (token(DEBT), Some(DEBT)));
    assert_eq!(intent.capital[0].amount, call.repayAmount);
    // A bonus of 10 %, half of which the protocol takes; the account has 150 dollars to pay it from.
    assert!(intent.deepens.is_zero() && intent.absorbs > ONE * uint(42) && intent.absorbs < ONE * uint(43));
    assert!(intent.reward > ONE * uint(21) && intent.reward < ONE * uint(22));
    assert!(!intent.bad_debt);
}

#[test]
fn a_bonus_beyond_equity_deepens_the_shortfall() {
    let chain = debtor(1_000, 990);
    let offers = offers(&chain);
    let intent = &offers[0];
    assert_eq!(intent.absorbs, chain.case().distressed[0].equity.into_raw());
    assert!(intent.bad_debt && intent.deepens > ONE * uint(39) && intent.deepens < ONE * uint(41), "{intent:?}");
}

#[test]
fn a_small_account_that_can_pay_is_liquidated_whole_to_the_last_unit() {
    let chain = debtor(100, 85);
    let offers = offers(&chain);
    let [intent] = offers.as_slice() else { panic!("{offers:?}") };
    let (to, data) = built(&chain, intent).unwrap();
    let call = IComptroller::liquidateAccountCall::abi_decode(&data).unwrap();
    assert_eq!((to, call.borrower, call.orders.len()), (POOL, owner(0), 1));
    // 85 dollars with the interest of the block that comes next: two blocks at 85 / 10,000 of 1e-6 each.
    let rate = ONE / uint(1_000_000) * uint(85) / uint(10_000);
    let grown = ONE * uint(85) + rate * uint(2) * uint(85);
    assert_eq!(call.orders[0].repayAmount, grown);
}

#[test]
fn a_small_account_that_cannot_pay_is_healed() {
    let mut chain = debtor(80, 60);
    chain.prices.insert(COLLATERAL, percent(50));
    chain.block(&[]);
    let offers = offers(&chain);
    let [intent] = offers.as_slice() else { panic!("{offers:?}") };
    assert_eq!((intent.kind, intent.bad_debt), (IntentKind::Heal, true));
    let (to, data) = built(&chain, intent).unwrap();
    assert_eq!((to, IComptroller::healAccountCall::abi_decode(&data).unwrap().user), (POOL, owner(0)));
    // 40 dollars of collateral pay 36.36 of the debt; the account has no equity for the bonus of 3.64.
    let paid = intent.capital[0].amount;
    assert!(paid > ONE * uint(36) && paid < ONE * uint(37));
    assert!(intent.absorbs.is_zero() && intent.deepens > ONE * uint(3) && intent.deepens < ONE * uint(4));
    assert_eq!(intent.promises.len(), 3, "{:?}", intent.promises);
}

#[test]
fn pauses_and_empty_markets_stop_what_they_stop_on_chain() {
    let pause =
        |vtoken, action| log(POOL, &IComptroller::ActionPausedMarket { vToken: vtoken, action, pauseState: true });
    for (vtoken, action) in [(DEBT, 3), (COLLATERAL, 4), (DEBT, 5)] {
        let mut chain = debtor(1_000, 850);
        chain.block(&[pause(vtoken, action)]);
        assert!(offers(&chain).is_empty(), "action {action}");
        assert_eq!(chain.case().distressed.len(), 1, "it stays in the ledger");
    }
    // Minting is paused: nobody minds. Without cash the protocol's part cannot be paid out.
    let mut chain = debtor(1_000, 850);
    chain.block(&[pause(DEBT, 0)]);
    assert_eq!(offers(&chain).len(), 1);
    let synced = IVToken::CashSynced { oldInternalCash: U256::ZERO, newInternalCash: U256::ZERO };
    let lent = IVToken::Borrow {
        borrower: owner(2),
        borrowAmount: U256::ZERO,
        accountBorrows: ONE * uint(1_000),
        totalBorrows: ONE * uint(1_000),
    };
    chain.block(&[log(COLLATERAL, &synced), log(COLLATERAL, &lent)]);
    assert!(offers(&chain).is_empty());
}

#[test]
fn interest_that_no_market_has_stored_is_stored_first() {
    // One dollar below the threshold; much later interest alone has eaten it, but only an accrual will show it.
    let mut chain = debtor(100, 79);
    chain.snapshot.block.number += 3_000_000;
    chain.block(&[]);
    let offers = offers(&chain);
    let [intent] = offers.as_slice() else { panic!("{offers:?}") };
    let (to, data) = built(&chain, intent).unwrap();
    assert!(to == DEBT && IVToken::accrueInterestCall::abi_decode(&data).is_ok(), "{}", intent.why);
    assert!(intent.capital.is_empty() && intent.reward.is_zero());
}

/// Pool 0 with bad debt of so many dollars in market 1 and so many in its part of the risk fund.
fn indebted(bad_debt: u64, fund: u64) -> Chain {
    let mut chain = debtor(1_000, 100);
    chain.fund = ONE * uint(fund);
    let event = IVToken::BadDebtIncreased {
        borrower: owner(2),
        badDebtDelta: U256::ZERO,
        badDebtOld: U256::ZERO,
        badDebtNew: ONE * uint(bad_debt),
    };
    chain.block(&[log(DEBT, &event)]);
    chain
}

fn started(chain: &mut Chain, by_debt: bool, fund: u64, bps: u64) {
    let event = IShortfall::AuctionStarted {
        comptroller: POOL,
        auctionStartBlockOrTimestamp: uint(chain.snapshot.block.number + 1),
        auctionType: u8::from(!by_debt),
        markets: vec![COLLATERAL, DEBT],
        marketsDebt: vec![U256::ZERO, ONE * uint(110)],
        seizedRiskFund: ONE * uint(fund),
        startBidBps: uint(bps),
    };
    chain.block(&[log(HOUSE, &event)]);
}

#[test]
fn an_auction_starts_when_it_can_pay_and_somebody_is_told_when_it_cannot() {
    let chain = indebted(110, 40);
    let case = chain.case();
    let offered = case.offered.unwrap();
    assert_eq!((case.fund.balance, offered.deficits[0].amount), (ONE * uint(40), ONE * uint(110)));
    let [intent] = offered.intents.as_slice() else { panic!("{offered:?}") };
    assert_eq!((intent.kind, intent.tier), (IntentKind::StartAuction, Tier::InsuranceFund));
    assert_eq!(intent.scope, Scope::Segment(SegmentId(0)));
    let (to, data) = built(&chain, intent).unwrap();
    assert_eq!((to, IShortfall::startAuctionCall::abi_decode(&data).unwrap().comptroller), (HOUSE, POOL));
    let mut paused = indebted(110, 40);
    paused.block(&[log(HOUSE, &IShortfall::AuctionsPaused { sender: owner(3) })]);
    for (chain, why) in [(indebted(49, 40), "begin at"), (indebted(110, 0), "refill"), (paused, "resume")] {
        let offered = chain.case().offered.unwrap();
        assert!(offered.intents.is_empty());
        assert_eq!(offered.shortages[0].kind, ShortageKind::DeficitStands);
        assert!(offered.shortages[0].detail.contains(why), "{:?}", offered.shortages);
    }
}

#[test]
fn an_auction_that_could_never_be_closed_is_not_started() {
    let mut chain = indebted(110, 40);
    // The fund's token at a dollar and a cent: 40 tokens are put up as 40.4.
    chain.fund_price = percent(101);
    chain.block(&[]);
    let offered = chain.case().offered.unwrap();
    assert!(offered.intents.is_empty());
    assert_eq!(offered.shortages[0].kind, ShortageKind::FundBlocks);
    // A fund far above the debt can pay all the same.
    chain.fund = ONE * uint(400);
    chain.block(&[]);
    assert_eq!(offers(&chain)[0].kind, IntentKind::StartAuction);
}

#[test]
fn the_first_bid_pays_part_of_the_debt_for_the_whole_fund_or_the_whole_debt_for_part_of_it() {
    let mut chain = indebted(110, 40);
    started(&mut chain, true, 40, 3_305);
    let bid = offers(&chain).remove(0);
    assert_eq!(bid.kind, IntentKind::Bid);
    let paid = ONE * uint(110) * uint(3_305) / uint(10_000);
    assert_eq!((bid.capital[0].amount, bid.capital[0].spender), (paid, Some(HOUSE)));
    assert_eq!((bid.reward, bid.cost), (ONE * uint(40) - paid, U256::ZERO));
    let call = IShortfall::placeBidCall::abi_decode(&built(&chain, &bid).unwrap().1).unwrap();
    assert_eq!((call.bidBps, call.auctionStartBlockOrTimestamp), (uint(3_305), uint(chain.snapshot.block.number)));

    let mut chain = indebted(110, 500);
    started(&mut chain, false, 121, 10_000);
    let bid = offers(&chain).remove(0);
    assert_eq!((bid.capital[0].amount, bid.reward), (ONE * uint(110), ONE * uint(11)));

    // What the fund does not hold any more it cannot pay out.
    let mut chain = indebted(110, 40);
    started(&mut chain, true, 41, 3_305);
    let offered = chain.case().offered.unwrap();
    assert!(offered.intents.is_empty());
    assert_eq!(offered.shortages[0].kind, ShortageKind::FundBlocks);
}

#[test]
fn nobody_is_outbid_and_the_close_waits_its_time() {
    let mut chain = indebted(110, 40);
    started(&mut chain, true, 40, 3_305);
    let bid = IShortfall::BidPlaced {
        comptroller: POOL,
        auctionStartBlockOrTimestamp: uint(chain.snapshot.block.number),
        bidBps: uint(4_000),
        bidder: owner(7),
    };
    chain.block(&[log(HOUSE, &bid)]);
    let at = chain.snapshot.block.number;
    while chain.snapshot.block.number < at + 8 {
        assert!(offers(&chain).is_empty(), "{} blocks after the bid", chain.snapshot.block.number - at);
        chain.block(&[]);
    }
    // The call executes in the block after this one, nine blocks after the bid.
    let close = offers(&chain).remove(0);
    assert_eq!((close.kind, close.absorbs), (IntentKind::CloseAuction, ONE * uint(44)));
    assert!(close.reward.is_zero() && close.capital.is_empty());
}

#[test]
fn an_auction_without_a_bid_is_restarted_once_it_is_stale() {
    let mut chain = indebted(110, 40);
    started(&mut chain, true, 40, 3_305);
    let at = chain.snapshot.block.number;
    while chain.snapshot.block.number < at + 40 {
        assert_eq!(offers(&chain)[0].kind, IntentKind::Bid);
        chain.block(&[]);
    }
    assert_eq!(offers(&chain)[0].kind, IntentKind::RestartAuction);
}

#[test]
fn a_call_about_somebody_else_is_not_built() {
    let chain = debtor(1_000, 850);
    let intent = offers(&chain).remove(0);
    let refused = |scope, payload: &[u8]| {
        let mut altered = intent.clone();
        (altered.scope, altered.payload) = (scope, Bytes::copy_from_slice(payload));
        built(&chain, &altered).unwrap_err()
    };
    let unit = |n| Scope::Unit(key(n));
    assert!(refused(unit(1), &intent.payload).contains("not about"));
    assert!(refused(Scope::Segment(SegmentId(0)), &intent.payload).contains("no keeper makes"));
    assert!(refused(unit(0), &intent.payload[..10]).contains("without a call"));
    let heal = IComptroller::healAccountCall { user: owner(0) }.abi_encode();
    let elsewhere = [OTHER_POOL.as_slice(), &heal].concat();
    assert!(refused(unit(0), &elsewhere).contains("not about"));
    let start = IShortfall::startAuctionCall { comptroller: POOL }.abi_encode();
    let other_house = [POOL.as_slice(), &start].concat();
    assert!(refused(Scope::Segment(SegmentId(0)), &other_house).contains("not about"));
    let wrong_pool = [HOUSE.as_slice(), &start].concat();
    assert!(refused(Scope::Segment(SegmentId(1)), &wrong_pool).contains("not about"));
}
