//! Limits of tiers: what they leave waits where they pass by themselves, and goes to the next tier where they do not.
//! The crash is that of the examples: account 1 is 500 short, accounts 2 and 3 win 1,200 and 800.

use super::{
    examples::{absorbed, bid, crashed},
    *,
};

fn limited(venue: &Venue, settings: &[TierSettings], used: &[(Tier, TierUse)]) -> BalancedPlan {
    let used = used.iter().map(|(tier, used)| ((SegmentId(1), *tier), *used)).collect();
    plan(&venue.case(), settings, &Reservations { used, ..Reservations::default() }).unwrap()
}

fn with(tier: Tier, change: impl Fn(&mut TierSettings)) -> Vec<TierSettings> {
    let mut all = tiers(&ALL);
    all.iter_mut().filter(|settings| settings.tier == tier).for_each(change);
    all
}

fn notes(plan: &BalancedPlan, word: &str) -> bool {
    plan.notes().iter().any(|note| note.contains(word))
}

fn u(x: u64) -> U256 {
    U256::from(x)
}

#[test]
fn what_a_blocks_limit_leaves_waits_for_the_next_block() {
    let mut venue = crashed();
    bid(&mut venue, 790, 10);
    let plan = limited(&venue, &with(Tier::AutoDeleverage, |s| s.absorb_max = Some(u(300))), &[]);
    assert_eq!(absorbed(&plan), [(Tier::AutoDeleverage, 300), (Tier::Recalibrate, 0)]);
    assert_eq!(plan.ledger().residual, u(200), "and nobody else is asked for it");
    let plan = limited(&venue, &with(Tier::AutoDeleverage, |s| s.absorb_max = Some(u(299))), &[]);
    assert_eq!(absorbed(&plan)[0], (Tier::AutoDeleverage, 250), "5 lots; a sixth would make it 300");
    assert!(notes(&plan, "absorb_max"), "{:?}", plan.notes());
    let used = TierUse { in_episode: u(300), in_block: u(300), last_block: Some(7) };
    let again =
        limited(&venue, &with(Tier::AutoDeleverage, |s| s.absorb_max = Some(u(300))), &[(Tier::AutoDeleverage, used)]);
    assert!(again.ledger().absorbed.get(&Tier::AutoDeleverage).is_none_or(|x| x.is_zero()), "one block, one limit");
}

#[test]
fn what_an_episodes_limit_leaves_goes_to_the_next_tier() {
    let mut venue = crashed();
    bid(&mut venue, 790, 10);
    let spent = TierUse { in_episode: u(300), in_block: u(0), last_block: Some(3) };
    let settings = with(Tier::AutoDeleverage, |s| s.episode_max = Some(u(300)));
    let plan = limited(&venue, &settings, &[(Tier::AutoDeleverage, spent)]);
    assert_eq!(absorbed(&plan)[..2], [(Tier::Liquidate, 1_500), (Tier::SocialiseLoss, 600)]);
    assert!(notes(&plan, "episode_max"), "{:?}", plan.notes());
}

#[test]
fn a_tier_that_cools_down_lets_the_loss_wait() {
    let mut venue = crashed();
    bid(&mut venue, 790, 10);
    let used = TierUse { in_episode: u(1), in_block: u(0), last_block: Some(5) };
    let plan = limited(&venue, &with(Tier::AutoDeleverage, |s| s.cooldown_blocks = 3), &[(Tier::AutoDeleverage, used)]);
    assert!(plan.steps().is_empty() && plan.ledger().residual == u(500));
    assert!(notes(&plan, "cools down until block 8"), "{:?}", plan.notes());
    let cooled =
        limited(&venue, &with(Tier::AutoDeleverage, |s| s.cooldown_blocks = 2), &[(Tier::AutoDeleverage, used)]);
    assert_eq!(cooled.ledger().residual, U256::ZERO);
}

#[test]
fn the_fund_keeps_its_configured_floor_and_nobody_else_pays_for_that() {
    let mut venue = crashed();
    venue.fund = 400;
    let plan = limited(&venue, &with(Tier::InsuranceFund, |s| s.floor = u(150)), &[]);
    assert_eq!(absorbed(&plan)[0], (Tier::InsuranceFund, 250));
    assert_eq!(plan.ledger().residual, u(250));
    assert!(notes(&plan, "the fund keeps what its floor"), "{:?}", plan.notes());
    let spent = TierUse { in_episode: u(99), in_block: u(0), last_block: Some(1) };
    let settings = with(Tier::InsuranceFund, |s| s.episode_max = Some(u(100)));
    let plan = limited(&venue, &settings, &[(Tier::InsuranceFund, spent)]);
    assert_eq!((absorbed(&plan)[0], plan.ledger().residual), ((Tier::InsuranceFund, 1), u(499)));
}

#[test]
fn one_plan_reaches_no_more_accounts_than_it_may() {
    let mut venue = crashed();
    bid(&mut venue, 790, 10);
    let plan = limited(&venue, &with(Tier::AutoDeleverage, |s| s.units_max = Some(1)), &[]);
    let Action::Deleverage { winners, .. } = &plan.steps()[0].action else { panic!("{:?}", plan.steps()) };
    assert_eq!(winners.len(), 1);
    assert!(!plan.ledger().residual.is_zero() && notes(&plan, "units_max"), "{:?}", plan.notes());
    let chosen = [Tier::Liquidate, Tier::SocialiseLoss];
    let mut settings = tiers(&chosen);
    settings[1].units_max = Some(2);
    let plan = limited(&venue, &settings, &[]);
    assert_eq!(absorbed(&plan), [(Tier::Liquidate, 1_500)], "three payers are needed");
    assert!(notes(&plan, "units_max"), "{:?}", plan.notes());
}

#[test]
fn a_segment_may_have_a_waterfall_of_its_own() {
    let waterfall = |which: &[Tier]| Waterfall { tiers: tiers(which), adl_policy: &ProRata };
    let waterfalls = Waterfalls {
        default: waterfall(&ALL),
        segments: BTreeMap::from([(SegmentId(2), waterfall(&[Tier::Liquidate]))]),
    };
    assert_eq!(waterfalls.of(SegmentId(1)).tiers.len(), ALL.len());
    assert_eq!(waterfalls.of(SegmentId(2)).tiers, tiers(&[Tier::Liquidate]));
    assert!(!waterfalls.of(SegmentId(2)).remembers());
}
