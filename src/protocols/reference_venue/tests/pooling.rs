//! The backstop pool: from its logs to a case, and from a step to its calls and back.

use alloy::sol_types::{SolCall, SolError};

use super::{
    super::{
        abi::IBackstopPool::{self, Claimed, Drawn},
        pool, refusal, state,
    },
    fixture::*,
};
use crate::{
    positions::Book,
    protocols::{Adapter, Disposition, Parties},
    recovery::{Action, Effect, MemberTerms, PoolRound, Step, Tier},
    types::{Address, Log, U256, UnitKey},
};

const OTHER: Address = Address::repeat_byte(0xb2);

fn of_pool(event: &(impl alloy::sol_types::SolEvent + alloy::primitives::IntoLogData)) -> Log {
    log(POOL, event)
}

fn claimed(member: Address, n: u8, amount: u128) -> Log {
    of_pool(&Claimed { round: 3, member, segment: 1, account: owner(n), amount: uint(amount) })
}

fn changed(asked: u128, unpaid: u64) -> Log {
    of_pool(&IBackstopPool::RoundChanged { round: 3, asked: uint(asked), unpaid })
}

/// A pool of 5,000 in round 3, to which the venue belongs with a cap of 2,000, 10 % of its own and a stake of 300.
fn joined() -> Chain {
    let mut chain = Chain::opened();
    let terms = IBackstopPool::MemberSet {
        member: MEMBER,
        operator: owner(1),
        cap: uint(2_000),
        firstLossBps: 1_000,
        premiumBps: 50,
    };
    let foreign = IBackstopPool::MemberSet { member: OTHER, cap: uint(9), firstLossBps: 9, ..terms.clone() };
    chain.extend(&[
        of_pool(&terms),
        of_pool(&foreign),
        of_pool(&IBackstopPool::StakeChanged { member: MEMBER, stake: uint(300) }),
        of_pool(&IBackstopPool::StakeChanged { member: OTHER, stake: uint(1) }),
        of_pool(&IBackstopPool::PremiumPaid { member: MEMBER, amount: uint(7), coveredUntil: GENESIS + 100 }),
        of_pool(&IBackstopPool::CapitalChanged { capital: uint(5_000) }),
        of_pool(&IBackstopPool::Repaid { member: MEMBER, amount: uint(1), outstanding: uint(400) }),
        of_pool(&IBackstopPool::RoundOpened { round: 3, claimsUntilBlock: 3, drawsUntilBlock: 6 }),
    ]);
    chain
}

#[test]
fn the_case_says_what_is_left_to_claim_and_where_each_claim_stands() {
    let mut chain = joined();
    let case = |chain: &Chain| pool::case(&chain.snapshot, 1).expect("a pool");
    let fresh = case(&chain);
    assert_eq!(fresh.terms, MemberTerms { cap_left: uint(1_600), first_loss_bps: 1_000, stake: uint(300) });
    chain.extend(&[
        claimed(MEMBER, 2, 105),
        claimed(OTHER, 3, 50),
        changed(145, 2),
        claimed(MEMBER, 4, 10),
        changed(154, 3),
    ]);
    let asked = case(&chain);
    // floor(10.5) and 1 of the claims are the member's own, of its stake rounded up.
    assert_eq!(asked.terms, MemberTerms { cap_left: uint(1_600 - 95 - 9), first_loss_bps: 1_000, stake: uint(288) });
    let claims = [(key(1, 2), uint(105)), (key(1, 4), uint(10))].into();
    let round =
        PoolRound { claims_until_block: 3, draws_until_block: 6, asked: uint(154), capital: uint(5_000), claims };
    assert_eq!((asked.round, asked.capital), (Some(round), uint(5_000)));
    let paid = Drawn {
        round: 3,
        member: MEMBER,
        segment: 1,
        account: owner(2),
        amount: uint(105),
        fromStake: uint(11),
        outstanding: uint(494),
    };
    chain.extend(&[
        of_pool(&IBackstopPool::RoundSettled { round: 3, asked: uint(154), capital: uint(5_000) }),
        of_pool(&IBackstopPool::StakeChanged { member: MEMBER, stake: uint(289) }),
        of_pool(&IBackstopPool::CapitalChanged { capital: uint(4_906) }),
        of_pool(&paid),
    ]);
    let after = case(&chain);
    let round = after.round.clone().unwrap();
    assert_eq!((after.capital, round.capital), (uint(4_906), uint(5_000)), "what is shared was fixed");
    assert_eq!((round.claims, &after.paid), ([(key(1, 4), uint(10))].into(), &[key(1, 2)].into()));
    assert_eq!(pool::case(&chain.snapshot, 2).unwrap().round.unwrap().claims, [].into(), "another segment");
    let mut emptied = Chain { venue: chain.venue.clone(), snapshot: chain.snapshot.clone() };
    emptied.extend(&[changed(154, 0)]);
    assert_eq!(case(&emptied).round, None, "a round is over with its last payment");
    for _ in 0..5 {
        chain.wait(1);
    }
    assert_eq!(case(&chain).round, None, "what is mined next comes after the round");
    assert_eq!(case(&chain).paid, [key(1, 2)].into(), "who had its part waits for the next round");
    chain.wait(100);
    assert_eq!(case(&chain).terms.cap_left, U256::ZERO, "the premium has run out");
}

#[test]
fn a_deployment_that_is_no_member_has_no_pool() {
    assert_eq!(pool::case(&Chain::opened().snapshot, 1), None);
    let mut chain = joined();
    let settings = super::super::Settings { backstop: None, ..chain.venue.settings.clone() };
    chain.venue = super::super::ReferenceVenue::new(settings);
    assert!(!chain.venue.manifest(owner(1)).tiers.contains(&Tier::SharedBackstop));
    assert!(!chain.venue.filter(&chain.snapshot.book).addresses.contains(&POOL));
    let shares = IBackstopPool::MemberSet {
        member: MEMBER,
        operator: owner(1),
        cap: uint(1),
        firstLossBps: 10_000,
        premiumBps: 1,
    };
    let mut chain = joined();
    assert!(chain.try_extend(&[of_pool(&shares)]).is_err(), "no member bears all of it");
    assert_eq!(state::find::<pool::Terms>(&chain.snapshot.book, pool::ONLY).unwrap().unwrap().cap, uint(2_000));
}

fn step(action: Action, unit: UnitKey) -> Step {
    Step { tier: Tier::SharedBackstop, unit: Some(unit), action, absorbs: U256::ZERO, why: String::new() }
}

#[test]
fn a_claim_and_a_draw_are_calls_of_the_pool_each_alone() {
    let parties = Parties { sender: owner(8), proceeds: owner(9) };
    let (claim, draw) = (Action::ClaimBackstop { amount: uint(70) }, Action::DrawBackstop { amount: uint(60) });
    let [claim, draw] = [claim, draw].map(|action| step(action, key(1, 2)));
    let called = venue().build(std::slice::from_ref(&claim), &parties).unwrap();
    let call = IBackstopPool::claimCall::abi_decode(&called.data).unwrap();
    assert_eq!((called.to, call.member, call.segment, call.account), (POOL, MEMBER, 1, owner(2)));
    assert_eq!(call.amount, uint(70));
    let drawn = venue().build(std::slice::from_ref(&draw), &parties).unwrap();
    let call = IBackstopPool::drawCall::abi_decode(&drawn.data).unwrap();
    assert_eq!((drawn.to, call.member, call.segment, call.account), (POOL, MEMBER, 1, owner(2)));
    let allowed = venue().manifest(owner(8)).allowed_calls;
    for call in [called, drawn] {
        assert!(allowed.contains(&(call.to, call.data[..4].try_into().unwrap())));
    }
    let both = venue().build(&[claim.clone(), draw], &parties).unwrap_err().to_string();
    assert!(both.contains("called alone"), "{both}");
    let mut settings = venue().settings;
    settings.backstop = None;
    let error = super::super::ReferenceVenue::new(settings).build(&[claim], &parties).unwrap_err().to_string();
    assert!(error.contains("in no backstop pool"), "{error}");
}

#[test]
fn what_the_pool_did_for_others_is_not_ours() {
    let (segment, account, amount) = (1, owner(2), uint(60));
    let drawn = |member| {
        of_pool(&Drawn { round: 3, member, segment, account, amount, fromStake: uint(6), outstanding: uint(54) })
    };
    let logs = [claimed(MEMBER, 2, 70), claimed(OTHER, 2, 71), drawn(OTHER), drawn(MEMBER)];
    let unit = key(1, 2);
    assert_eq!(
        venue().effects(&Book::default(), &logs),
        [
            Effect::BackstopClaimed { unit: unit.clone(), amount: uint(70) },
            Effect::BackstopDrawn { unit, amount, from_stake: uint(6) },
        ]
    );
}

#[test]
fn refusals_of_the_pool_are_read() {
    let closed = IBackstopPool::ClaimsClosed { round: 3, drawsUntilBlock: 9 }.abi_encode();
    let cap = IBackstopPool::ExceedsCap { member: MEMBER, requested: uint(2), capLeft: uint(1) }.abi_encode();
    let stranger = IBackstopPool::NotOperator { member: MEMBER, caller: OTHER }.abi_encode();
    for (data, disposition, named) in [
        (closed, Disposition::NotEligible, "ClaimsClosed"),
        (cap, Disposition::Capacity, "ExceedsCap"),
        (stranger, Disposition::Unauthorized, "NotOperator"),
    ] {
        let refusal = refusal::classify(&data);
        assert_eq!(refusal.disposition, disposition, "{named}");
        assert!(refusal.reason.contains(named), "{}", refusal.reason);
    }
}
