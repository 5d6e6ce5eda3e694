//! The gate and restitution, on the crash of the examples: account 1 is 500 short.

use super::{
    examples::{absorbed, bid, crashed},
    *,
};

const WITH_MEASURES: [Tier; 4] = [Tier::Liquidate, Tier::InsuranceFund, Tier::GateWithdrawals, Tier::Restitute];

fn planned(venue: &Venue, which: &[Tier]) -> BalancedPlan {
    plan(&venue.case(), &tiers(which), &Reservations::default()).unwrap()
}

fn gates(plan: &BalancedPlan) -> Vec<Option<UnitKey>> {
    let gate = |step: &Step| match &step.action {
        Action::Gate { shut_for, .. } => Some(shut_for.clone()),
        _ => None,
    };
    plan.steps().iter().filter_map(gate).collect()
}

#[test]
fn withdrawals_are_shut_for_whoever_stays_short_and_opened_when_nobody_is() {
    let mut venue = crashed();
    venue.gate = Some(false);
    assert_eq!(gates(&planned(&venue, &WITH_MEASURES)), [Some(key(1))]);
    venue.gate = Some(true);
    assert!(gates(&planned(&venue, &WITH_MEASURES)).is_empty(), "it is shut already");
    venue.fund = 10_000;
    bid(&mut venue, 800, 10);
    let repaired = planned(&venue, &WITH_MEASURES);
    assert_eq!((repaired.ledger().residual, gates(&repaired)), (U256::ZERO, vec![None]), "open with the repair");
    venue.gate = None;
    assert!(gates(&planned(&crashed(), &WITH_MEASURES)).is_empty(), "no gate, no step");
}

#[test]
fn what_winners_paid_is_paid_back_pro_rata_when_the_fund_is_full_again() {
    let mut venue = crashed();
    let crash = planned(&venue, &[Tier::InsuranceFund, Tier::AutoDeleverage]);
    assert_eq!(absorbed(&crash), [(Tier::AutoDeleverage, 500)]);
    crash.steps().iter().for_each(|step| venue.execute(step));
    assert_eq!(venue.claims, BTreeMap::from([(2, 300), (3, 200)]));
    assert!(planned(&venue, &WITH_MEASURES).steps().is_empty(), "the fund has nothing");

    (venue.fund, venue.floor) = (150, 49);
    let plan = planned(&venue, &WITH_MEASURES);
    let Action::Restitute { claimants } = &plan.steps()[0].action else { panic!("{:?}", plan.steps()) };
    let paid: Vec<u64> = claimants.iter().map(|c| c.amount.to()).collect();
    assert_eq!(paid, [61, 40], "101 in parts of 300 and 200");
    assert_eq!((plan.ledger().returned, plan.ledger().shortfall), (U256::from(101), U256::ZERO));
    plan.steps().iter().for_each(|step| venue.execute(step));
    venue.fund = 10_000;
    let last = planned(&venue, &WITH_MEASURES);
    last.steps().iter().for_each(|step| venue.execute(step));
    assert_eq!((last.ledger().returned, venue.claims.len()), (U256::from(399), 0));
}

#[test]
fn nothing_is_paid_back_in_a_crisis_or_too_soon_after_one() {
    let mut venue = crashed();
    venue.claims.insert(2, 50);
    venue.fund = 10_000;
    assert!(planned(&venue, &[Tier::Restitute]).steps().is_empty(), "account 1 is short");
    venue.markets.get_mut(&0).unwrap().mark = 1_000;
    assert_eq!(planned(&venue, &[Tier::Restitute]).ledger().returned, U256::from(50));
    let mut settings = tiers(&[Tier::Restitute]);
    settings[0].cooldown_blocks = 5;
    let used = TierUse { last_block: Some(3), ..TierUse::default() };
    let at = |last: u64| {
        let used = [((SegmentId(1), Tier::AutoDeleverage), TierUse { last_block: Some(last), ..used })].into();
        plan(&venue.case(), &settings, &Reservations { used, ..Reservations::default() }).unwrap()
    };
    assert!(at(3).steps().is_empty() && at(3).notes()[0].contains("from block 8 on"), "{:?}", at(3).notes());
    assert_eq!(at(2).ledger().returned, U256::from(50));
    settings[0] = TierSettings { floor: U256::from(9_990), ..TierSettings::unlimited(Tier::Restitute) };
    let kept = plan(&venue.case(), &settings, &Reservations::default()).unwrap();
    assert_eq!(kept.ledger().returned, U256::from(10), "the fund keeps its configured floor");
}

#[test]
fn a_restitution_that_is_off_by_one_unit_is_found() {
    let mut venue = crashed();
    (venue.claims, venue.fund) = (BTreeMap::from([(2, 70), (3, 30)]), 50);
    venue.markets.get_mut(&0).unwrap().mark = 1_000;
    let case = venue.case();
    let honest = planned(&venue, &[Tier::Restitute]);
    assert_eq!(honest.ledger().returned, U256::from(50));
    for change in [|x: U256| x + U256::ONE, |x: U256| x - U256::ONE] {
        let mut forged = honest.clone();
        let Action::Restitute { claimants } = &mut forged.steps[0].action else { panic!() };
        claimants[1].amount = change(claimants[1].amount);
        assert!(forged.verify(&case).is_err());
        let mut forged = honest.clone();
        forged.ledger.returned = change(forged.ledger.returned);
        assert!(matches!(forged.verify(&case), Err(Imbalance::Returned { .. })));
    }
}
