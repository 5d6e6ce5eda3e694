//! Steps to calls, and what comes back from them.

use alloy::sol_types::{SolCall, SolError};

use super::{
    super::{
        abi::{IAccessControl, IBackstopPool, IClearinghouse, IImplementation, IPriceFeed, IRiskSteward},
        refusal,
    },
    fixture::*,
};
use crate::{
    positions::Book,
    protocols::{Adapter, Disposition, Parties, adapter, known_adapters},
    recovery::{Action, Contribution, Deleveraging, Effect, Fill, Step, Tier},
    types::{Address, B256, Bytes, MarketId, SegmentId, U256, UnitKey},
};

const KEEPER: Address = Address::repeat_byte(0xee);
/// Proceeds go elsewhere than to the sender.
const PARTIES: Parties = Parties { sender: Address::repeat_byte(0xed), proceeds: KEEPER };

fn step(tier: Tier, unit: Option<UnitKey>, action: Action) -> Step {
    Step { tier, unit, action, absorbs: U256::ZERO, why: String::new() }
}

fn close(unit: UnitKey, market: u32, lots: U256) -> Step {
    let fills = vec![Fill { order: 9, maker: key(1, 4), lots, price: uint(990) }];
    step(Tier::Liquidate, Some(unit), Action::Close { market: MarketId(market), fills })
}

fn draw(unit: UnitKey, amount: u128) -> Step {
    step(Tier::InsuranceFund, Some(unit), Action::DrawInsurance { amount: uint(amount) })
}

fn deleverage(unit: UnitKey, winner: UnitKey) -> Step {
    let winners = vec![Deleveraging { unit: winner, lots: uint(3), loss: uint(10), loss_max: uint(11) }];
    step(Tier::AutoDeleverage, Some(unit), Action::Deleverage { market: MarketId(2), winners })
}

fn socialise(unit: UnitKey) -> Step {
    let payers =
        vec![Contribution { unit: key(1, 3), amount: uint(5) }, Contribution { unit: key(1, 4), amount: uint(6) }];
    step(Tier::SocialiseLoss, Some(unit), Action::Socialise { payers })
}

fn margin(market: u32, maintenance_margin_bps: u32) -> Step {
    let (market, initial_margin_bps) = (MarketId(market), 1_200);
    let action = Action::SetMargin { market, maintenance_margin_bps, initial_margin_bps, tipped_max: 0 };
    step(Tier::Recalibrate, None, action)
}

#[test]
fn each_action_is_its_call() {
    let unit = key(1, 2);
    let one = |step: Step| {
        let call = venue().build(&[step], &PARTIES).unwrap();
        assert_eq!((call.to, call.value), (CLEARINGHOUSE, U256::ZERO));
        call.data
    };
    let liquidate = IClearinghouse::liquidateCall::abi_decode(&one(close(unit.clone(), 2, uint(7)))).unwrap();
    assert_eq!((liquidate.market, liquidate.account, liquidate.feeRecipient), (2, owner(2), KEEPER));
    assert_eq!(liquidate.fills, [IClearinghouse::Fill { order: 9, lots: 7 }]);

    let draw = IClearinghouse::drawInsuranceCall::abi_decode(&one(draw(unit.clone(), 40))).unwrap();
    assert_eq!((draw.segment, draw.account, draw.amount), (1, owner(2), uint(40)));

    let call = one(deleverage(unit.clone(), key(1, 3)));
    let deleverage = IClearinghouse::autoDeleverageCall::abi_decode(&call).unwrap();
    assert_eq!((deleverage.market, deleverage.bankrupt), (2, owner(2)));
    assert_eq!(deleverage.winners, [IClearinghouse::Winner { account: owner(3), lots: 3, maxLoss: uint(11) }]);

    let socialise = IClearinghouse::socialiseLossCall::abi_decode(&one(socialise(unit))).unwrap();
    assert_eq!((socialise.segment, socialise.bankrupt), (1, owner(2)));
    let payer = |n, amount| IClearinghouse::Payer { account: owner(n), amount: uint(amount) };
    assert_eq!(socialise.payers, [payer(3, 5), payer(4, 6)]);

    let call = venue().build(&[margin(2, 600)], &PARTIES).unwrap();
    assert_eq!(call.to, STEWARD);
    let moved = IRiskSteward::moveMarginCall::abi_decode(&call.data).unwrap();
    assert_eq!((moved.market, moved.maintenanceMarginBps, moved.initialMarginBps), (2, 600, 1_200));
}

fn gate(shut_for: Option<UnitKey>) -> Step {
    step(Tier::GateWithdrawals, None, Action::Gate { segment: SegmentId(1), shut_for })
}

fn restitute() -> Step {
    let claimant = |n, amount| Contribution { unit: key(1, n), amount: uint(amount) };
    step(Tier::Restitute, None, Action::Restitute { claimants: vec![claimant(3, 5), claimant(4, 6)] })
}

#[test]
fn several_steps_of_a_unit_are_one_transaction_in_order() {
    let unit = key(1, 2);
    let steps = [draw(unit.clone(), 40), deleverage(unit.clone(), key(1, 3)), close(unit.clone(), 1, uint(1))];
    let call = venue().build(&steps, &PARTIES).unwrap();
    let multicall = IClearinghouse::multicallCall::abi_decode(&call.data).unwrap();
    let alone: Vec<Bytes> =
        steps.iter().map(|s| venue().build(std::slice::from_ref(s), &PARTIES).unwrap().data).collect();
    assert_eq!(multicall.calls, alone);
}

#[test]
fn every_call_is_on_the_allow_list() {
    let allowed = venue().manifest(KEEPER).allowed_calls;
    let unit = key(1, 2);
    let lists = [
        vec![close(unit.clone(), 1, uint(1))],
        vec![draw(unit.clone(), 1)],
        vec![deleverage(unit.clone(), key(1, 3))],
        vec![socialise(unit.clone())],
        vec![draw(unit.clone(), 1), socialise(unit)],
        vec![margin(1, 600)],
        vec![gate(Some(key(1, 2)))],
        vec![gate(None)],
        vec![restitute()],
    ];
    for steps in lists {
        let call = venue().build(&steps, &PARTIES).unwrap();
        let selector: [u8; 4] = call.data[..4].try_into().unwrap();
        assert!(allowed.contains(&(call.to, selector)), "{steps:?}");
    }
}

#[test]
fn measures_on_a_segment_name_it() {
    let one = |step: Step| venue().build(&[step], &PARTIES).unwrap().data;
    let shut = IClearinghouse::shutWithdrawalsCall::abi_decode(&one(gate(Some(key(1, 2))))).unwrap();
    assert_eq!((shut.segment, shut.bankrupt), (1, owner(2)));
    let open = IClearinghouse::openWithdrawalsCall::abi_decode(&one(gate(None))).unwrap();
    assert_eq!(open.segment, 1);
    let paid = IClearinghouse::payClaimsCall::abi_decode(&one(restitute())).unwrap();
    let payer = |n, amount| IClearinghouse::Payer { account: owner(n), amount: uint(amount) };
    assert_eq!((paid.segment, paid.claimants), (1, vec![payer(3, 5), payer(4, 6)]));
}

#[test]
fn steps_that_are_no_one_call_are_refused() {
    let unit = key(1, 2);
    let no_fills = step(Tier::Liquidate, Some(unit.clone()), Action::Close { market: MarketId(1), fills: vec![] });
    for (steps, named) in [
        (vec![], "no steps"),
        (vec![draw(unit.clone(), 1), draw(key(1, 3), 1)], "in one call"),
        (vec![draw(unit.clone(), 1), margin(1, 600)], "in one call"),
        (vec![margin(1, 600), margin(2, 600)], "goes alone"),
        (vec![margin(65_536, 600)], "market 65536 exceeds 16 bits"),
        (vec![margin(1, 65_536)], "maintenance margin 65536 exceeds 16 bits"),
        (vec![close(unit.clone(), 65_536, uint(1))], "market 65536 exceeds 16 bits"),
        (vec![close(unit.clone(), 1, U256::from(u64::MAX) + uint(1))], "lots exceed 64 bits"),
        (vec![close(key(2, 2), 1, uint(1))], "is not of segment 2"),
        (vec![deleverage(unit.clone(), key(2, 3))], "is not of segment 1"),
        (vec![no_fills], "names nobody"),
        (vec![gate(Some(key(2, 2)))], "is not of segment 1"),
        (vec![restitute(), restitute()], "goes alone"),
        (vec![draw(unit.clone(), 1), restitute()], "in one call"),
        (vec![draw(UnitKey::new(vec![1]).unwrap(), 1)], "no account of this venue"),
        (vec![step(Tier::InsuranceFund, None, Action::DrawInsurance { amount: uint(1) })], "without a unit"),
    ] {
        let error = venue().build(&steps, &PARTIES).expect_err(named).to_string();
        assert!(error.contains(named), "{named}: {error}");
    }
    let mut settings = venue().settings;
    settings.steward = None;
    let without = super::super::ReferenceVenue::new(settings);
    assert!(without.build(&[margin(1, 600)], &PARTIES).is_err());
    assert!(!without.manifest(KEEPER).tiers.contains(&Tier::Recalibrate));
}

#[test]
fn refusals_are_named_with_their_arguments_and_placed() {
    use Disposition::*;
    use IClearinghouse as V;
    use IRiskSteward as S;
    let (a, n) = (owner(1), uint(1));
    fn case(error: impl SolError, disposition: Disposition) -> (Vec<u8>, Disposition) {
        (error.abi_encode(), disposition)
    }
    let cases = [
        case(V::UnknownSegment { segment: 1 }, Bug),
        case(V::UnknownMarket { market: 1 }, Bug),
        case(V::StalePrice { market: 1, updatedAt: 2, maxAgeSeconds: 3 }, NeedOracle),
        case(V::InsufficientMargin { account: a, equity: int(-5), required: n }, Capacity),
        case(V::InsufficientLiquidity { segment: 1, requested: n, available: n }, Capacity),
        case(V::NotLiquidatable { account: a, surplus: int(0) }, NotEligible),
        case(V::LiquidatesTooMuch { account: a, lots: 2, maxLots: 1 }, NotEligible),
        case(V::OrderUnusable { order: 1 }, Capacity),
        case(V::SlippageTooLarge { order: 1, price: n, limit: n }, Capacity),
        case(V::NotBankrupt { account: a, equity: int(0) }, NotEligible),
        case(V::FundShort { segment: 1, requested: n, spendable: n }, FundShort),
        case(V::FundCanPay { segment: 1, spendable: n }, NotEligible),
        case(V::ExceedsShortfall { requested: n, shortfall: n }, NotEligible),
        case(V::NotAWinner { account: a }, Capacity),
        case(V::WinnerBelowZero { account: a, equityAfter: int(-1) }, Capacity),
        case(V::LossAboveLimit { account: a, loss: n, maxLoss: n }, NotEligible),
        case(V::TooManyLots { account: a, lots: 2, available: 1 }, Capacity),
        case(V::PositionsOpen { account: a }, NotEligible),
        case(V::ShareTooLarge { payer: a, amount: n, maxAmount: n }, NotEligible),
        case(V::AlreadyCharged { payer: a, round: 1 }, NotEligible),
        case(V::NotOrderOwner { order: 1 }, Bug),
        case(V::WithdrawalsShut { segment: 1, untilBlock: 9 }, Bug),
        case(V::ZeroAmount {}, Bug),
        case(S::NoBounds { market: 1 }, NotEligible),
        case(S::StepTooLarge { market: 1, from: n, to: n }, NotEligible),
        case(S::TooSoon { market: 1, earliest: 2 }, NotEligible),
        case(S::OutOfRange { market: 1, value: n }, NotEligible),
        case(S::MarginOrder { maintenanceMarginBps: 2, initialMarginBps: 1 }, Bug),
        case(IPriceFeed::BackwardsInTime { updatedAt: 1, last: 2 }, Bug),
        case(IPriceFeed::FromTheFuture { updatedAt: 2, now_: 1 }, Bug),
        case(IPriceFeed::ZeroPrice {}, Bug),
        case(IAccessControl::AccessControlUnauthorizedAccount { account: a, neededRole: B256::ZERO }, Unauthorized),
        case(IAccessControl::AccessControlBadConfirmation {}, Bug),
        case(IImplementation::BadMarketConfig { market: 1 }, Bug),
        case(IImplementation::ReentrancyGuardReentrantCall {}, Bug),
    ];
    let errors_of_the_interfaces = V::IClearinghouseErrors::SELECTORS.len()
        + S::IRiskStewardErrors::SELECTORS.len()
        + IPriceFeed::IPriceFeedErrors::SELECTORS.len();
    assert_eq!(cases.len(), errors_of_the_interfaces + 4, "an error of the interfaces is not in this test");
    let mut reasons: Vec<String> = Vec::new();
    for (data, disposition) in cases {
        let refusal = refusal::classify(&data);
        assert_eq!(refusal.disposition, disposition, "{}", refusal.reason);
        assert!(!refusal.reason.contains(['(', ')']) && !refusal.reason.starts_with("unknown"), "{}", refusal.reason);
        reasons.push(refusal.reason);
    }
    assert_eq!(reasons[2], "StalePrice { market: 1, updatedAt: 2, maxAgeSeconds: 3 }");
    assert_eq!(
        reasons[3],
        "InsufficientMargin { account: 0x0000000000000000000000000000000000000001, equity: -5, required: 1 }"
    );
}

#[test]
fn data_that_is_no_error_of_ours_is_a_bug_and_quoted() {
    for (data, reason) in [
        (vec![], "reverted without data"),
        (vec![0xde, 0xad, 0xbe, 0xef], "unknown error 0xdeadbeef"),
        (vec![1], "unknown error 0x01"),
    ] {
        let refusal = refusal::classify(&data);
        assert_eq!((refusal.disposition, refusal.reason.as_str()), (Disposition::Bug, reason));
    }
    assert!(refusal::classify(&[7; 500]).reason.len() < 200);
    let message = alloy::sol_types::Revert::from("paused").abi_encode();
    assert!(refusal::classify(&message).reason.contains("paused"));
    let overflow = alloy::sol_types::Panic::from(0x11).abi_encode();
    assert!(refusal::classify(&overflow).reason.contains("0x11"));
    // A known selector whose arguments are cut off.
    let cut = IClearinghouse::FundCanPay { segment: 1, spendable: uint(1) }.abi_encode()[..20].to_vec();
    assert_eq!(refusal::classify(&cut).disposition, Disposition::Bug);
}

fn liquidated(realised: i128, fee: u128, equity_after: i128) -> IClearinghouse::Liquidated {
    IClearinghouse::Liquidated {
        market: 1,
        account: owner(2),
        keeper: KEEPER,
        lots: 3,
        realisedPnl: int(realised),
        fee: uint(fee),
        equityAfter: int(equity_after),
    }
}

#[test]
fn a_liquidation_books_what_the_accounts_own_margin_paid() {
    for (realised, fee, equity_after, loss) in [
        (-100, 5, 20, 105), // its margin paid all of it
        (100, 5, 20, 5),    // closed at a profit: the fee alone
        (-100, 0, 0, 100),
        (-100, 0, -30, 70), // 30 of it are a shortfall
        (-100, 0, -300, 0), // it was bankrupt before: its margin paid nothing
        (100, 0, -30, 0),
    ] {
        let logs = [cash(1, owner(2), 0), of_venue(&liquidated(realised, fee, equity_after))];
        let expected = Effect::Liquidated { unit: key(1, 2), loss: uint(loss), fee: uint(fee) };
        assert_eq!(venue().effects(&Book::default(), &logs), [expected], "{realised} {fee} {equity_after}");
    }
}

#[test]
fn effects_are_booked_in_order_and_each_once() {
    let logs = [
        of_venue(&IClearinghouse::FundChanged { segment: 1, balance: uint(0) }),
        cash(1, owner(2), -60),
        of_venue(&IClearinghouse::InsuranceDrawn {
            segment: 1,
            account: owner(2),
            amount: uint(40),
            shortfallAfter: uint(60),
        }),
        position(1, owner(2), 0, 0),
        of_venue(&IClearinghouse::Deleveraged {
            market: 1,
            bankrupt: owner(2),
            winner: owner(3),
            lots: 4,
            loss: uint(50),
        }),
        of_venue(&IClearinghouse::LossSocialised { segment: 1, bankrupt: owner(2), payer: owner(4), amount: uint(10) }),
        of_venue(&IClearinghouse::ClaimPaid { segment: 1, account: owner(4), amount: uint(3) }),
        of_venue(&IClearinghouse::WithdrawalsGated { segment: 1, untilBlock: 51 }),
        log(STEWARD, &IRiskSteward::MarginMoved { market: 1, maintenanceMarginBps: 600, initialMarginBps: 1_200 }),
        of_venue(&IClearinghouse::MarginSet { market: 1, maintenanceMarginBps: 600, initialMarginBps: 1_200 }),
    ];
    let effects = venue().effects(&Book::default(), &logs);
    assert_eq!(
        effects,
        [
            Effect::InsuranceDrawn { unit: key(1, 2), amount: uint(40) },
            Effect::Deleveraged { unit: key(1, 2), winner: key(1, 3), loss: uint(50) },
            Effect::LossSocialised { unit: key(1, 2), payer: key(1, 4), amount: uint(10) },
            Effect::Restituted { unit: key(1, 4), amount: uint(3) },
            Effect::ParameterSet { what: "segment 1: withdrawals are shut until block 51".to_owned() },
            Effect::ParameterSet { what: "market 1: maintenance margin 600 bps, initial margin 1200 bps".to_owned() },
        ]
    );
    assert_eq!(effects.iter().fold(U256::ZERO, |sum, e| sum + e.absorbed().1), uint(100));
}

#[test]
fn other_contracts_logs_have_no_effect() {
    let mut foreign = of_venue(&liquidated(-100, 0, 0));
    foreign.address = STEWARD;
    assert_eq!(venue().effects(&Book::default(), &[cash(1, owner(2), 0), foreign]), []);
}

#[test]
fn units_are_found_by_every_word_an_operator_has_for_them() {
    let mut chain = Chain::opened();
    chain.extend(&[cash(1, owner(1), 5), cash(2, owner(1), 5), cash(1, owner(2), 5)]);
    let find = |word: &str| chain.venue.find_units(&chain.snapshot.book, word);
    assert_eq!(find(&owner(1).to_string()), [key(1, 1), key(2, 1)]);
    assert_eq!(find(&format!("2/{}", owner(1))), [key(2, 1)]);
    assert_eq!(find(&key(1, 2).to_string()), [key(1, 2)]);
    for nobody in [owner(9).to_string(), format!("2/{}", owner(2)), key(2, 2).to_string(), "x".into(), "1/x".into()] {
        assert_eq!(find(&nobody), [], "{nobody}");
    }
}

#[test]
fn the_registry_builds_it_by_its_word() {
    let word = super::super::NAME;
    assert!(known_adapters().contains(&word));
    let built = adapter(word, serde_json::json!({ "clearinghouse": CLEARINGHOUSE })).unwrap();
    assert_eq!(built.manifest(KEEPER).adapter, word);
    let refused = adapter(word, serde_json::json!({ "clearing_house": CLEARINGHOUSE })).err().unwrap().to_string();
    assert!(refused.starts_with("protocol: ") && refused.contains("clearing_house"), "{refused}");
    let unknown = adapter("nobody", serde_json::json!({})).err().unwrap().to_string();
    assert!(unknown.contains(word), "{unknown}");
}

#[test]
fn roles_name_their_holder_and_their_mend() {
    let mut roles = venue().manifest(KEEPER).roles;
    let operator = roles.pop().unwrap();
    let call = IBackstopPool::isOperatorCall::abi_decode(&operator.call.data).unwrap();
    assert_eq!((operator.call.to, call.member, call.account), (POOL, MEMBER, KEEPER));
    assert!(operator.mend.contains(&KEEPER.to_string()) && operator.mend.contains("setMember"), "{}", operator.mend);
    let asked: Vec<_> = roles
        .iter()
        .map(|role| {
            let call = IAccessControl::hasRoleCall::abi_decode(&role.call.data).unwrap();
            assert!(role.mend.contains(&call.account.to_string()) && role.mend.contains("grantRole"), "{}", role.mend);
            (role.role, role.call.to, call.account)
        })
        .collect();
    assert_eq!(
        asked,
        [
            ("KEEPER_ROLE", CLEARINGHOUSE, KEEPER),
            ("MOVER_ROLE", STEWARD, KEEPER),
            ("STEWARD_ROLE", CLEARINGHOUSE, STEWARD),
        ]
    );
}
