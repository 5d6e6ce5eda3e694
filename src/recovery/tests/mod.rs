//! Laws of every plan, on random crashes, executed on a second venue that shares no code with the planner.

mod cascade;
mod examples;
mod generator;
mod limiting;
mod measures;
mod offers;
mod pool;
mod steering;
mod tampering;
mod venue;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy::primitives::U256;

use super::*;
use crate::types::{BlockRef, MarketId, SegmentId, UnitKey};
use generator::{Dice, crashed_venue};
use venue::{Venue, key};

const ALL: [Tier; 5] =
    [Tier::Liquidate, Tier::InsuranceFund, Tier::AutoDeleverage, Tier::SocialiseLoss, Tier::Recalibrate];

/// The five, and those that absorb nothing.
const EVERY: [Tier; 8] = Tier::ALL;

impl BalancedPlan {
    /// These steps, whether or not they make sense: for those who only write plans down.
    pub(crate) fn unchecked(segment: SegmentId, block: BlockRef, steps: Vec<Step>, ledger: Ledger) -> Self {
        let (left_alone, shortages) = (BTreeSet::new(), BTreeSet::new());
        let (notes, outlays, decision) = (Vec::new(), Vec::new(), None);
        Self { segment, block, steps, ledger, left_alone, notes, outlays, shortages, decision }
    }

    /// With what there is to tell, and a decision that is no reason for these steps.
    pub(crate) fn keep(&mut self, notes: &[&str]) {
        self.notes = notes.iter().map(|note| (*note).to_owned()).collect();
        self.outlays = vec![U256::MAX; self.steps.len()];
        self.decision = Some(Arc::new(decision_of(1)));
    }
}

fn tiers(which: &[Tier]) -> Vec<TierSettings> {
    which.iter().map(|tier| TierSettings::unlimited(*tier)).collect()
}

/// Any subset of the tiers, now and then with a limit.
fn some_tiers(dice: &mut Dice) -> Vec<TierSettings> {
    let mut chosen = tiers(&EVERY);
    if dice.chance(40) {
        chosen.retain(|_| !dice.chance(25));
    }
    for settings in &mut chosen {
        settings.absorb_max = dice.chance(10).then(|| U256::from(dice.roll(50_000)));
        settings.episode_max = dice.chance(5).then(|| U256::from(dice.roll(50_000)));
        settings.units_max = dice.chance(5).then(|| u32::try_from(dice.roll(8)).unwrap());
        if settings.tier == Tier::Recalibrate && dice.chance(50) {
            let tipped_max = if dice.chance(30) { u32::try_from(dice.roll(5)).unwrap() } else { 0 };
            let calm_seconds = dice.roll(300);
            settings.controller = Some(Controller { tipped_max, calm_seconds, ..Controller::default() });
        }
        if settings.tier == Tier::InsuranceFund && dice.chance(10) {
            settings.floor = U256::from(dice.roll(2_000));
        }
    }
    chosen
}

fn some_reservations(dice: &mut Dice) -> Reservations {
    let mut reserved = Reservations::default();
    if dice.chance(30) {
        reserved.units = (0..24).filter(|_| dice.chance(10)).map(key).collect();
        if dice.chance(30) {
            reserved.fund.insert(SegmentId(1), U256::from(dice.roll(5_000)));
        }
        reserved.markets = (0..3).filter(|_| dice.chance(20)).map(MarketId).collect();
    }
    reserved
}

fn units_of(plan: &BalancedPlan) -> BTreeSet<UnitKey> {
    let mut units: BTreeSet<UnitKey> = plan.steps().iter().filter_map(|s| s.unit.clone()).collect();
    for step in plan.steps() {
        match &step.action {
            Action::Close { fills, .. } => units.extend(fills.iter().map(|f| f.maker.clone())),
            Action::Deleverage { winners, .. } => units.extend(winners.iter().map(|w| w.unit.clone())),
            Action::Socialise { payers: others } | Action::Restitute { claimants: others } => {
                units.extend(others.iter().map(|p| p.unit.clone()));
            }
            Action::Gate { shut_for, .. } => units.extend(shut_for.clone()),
            Action::DrawInsurance { .. }
            | Action::ClaimBackstop { .. }
            | Action::DrawBackstop { .. }
            | Action::SetMargin { .. }
            | Action::Intent(_) => {}
        }
    }
    units
}

/// Accounts that a tier acts on, or makes pay, in a plan.
fn reached(plan: &BalancedPlan, tier: Tier) -> BTreeSet<&UnitKey> {
    let mut reached = BTreeSet::new();
    for step in plan.steps().iter().filter(|step| step.tier == tier) {
        match &step.action {
            Action::Deleverage { winners, .. } => reached.extend(winners.iter().map(|w| &w.unit)),
            Action::Socialise { payers: others } | Action::Restitute { claimants: others } => {
                reached.extend(others.iter().map(|p| &p.unit));
            }
            _ => reached.extend(&step.unit),
        }
    }
    reached
}

/// Executes the plan on the second venue and holds the outcome against the ledger.
fn execute(venue: &mut Venue, plan: &BalancedPlan, left_alone: &BTreeSet<UnitKey>) {
    venue.absorbed.clear();
    let mut own = U256::ZERO;
    for step in plan.steps() {
        venue.execute(step);
        if step.tier == Tier::Liquidate {
            own += step.absorbs;
        }
    }
    let absorbed = |tier, word| {
        let executed = venue.absorbed.get(word).copied().unwrap_or_default();
        let planned = plan.ledger().absorbed.get(&tier).copied().unwrap_or_default();
        assert_eq!(U256::from(executed.unsigned_abs()), planned, "{word}");
    };
    absorbed(Tier::InsuranceFund, "insurance_fund");
    absorbed(Tier::AutoDeleverage, "auto_deleverage");
    absorbed(Tier::SharedBackstop, "shared_backstop");
    absorbed(Tier::SocialiseLoss, "socialise_loss");
    let returned = venue.absorbed.get("returned").copied().unwrap_or_default();
    assert_eq!(U256::from(returned.unsigned_abs()), plan.ledger().returned, "returned");
    assert_eq!(own, plan.ledger().absorbed.get(&Tier::Liquidate).copied().unwrap_or_default());
    let distressed: BTreeSet<UnitKey> = venue.accounts.keys().map(|a| key(*a)).collect();
    let open = distressed.iter().filter(|unit| !left_alone.contains(*unit));
    let residual: i128 = open.map(|unit| venue.hole(u16::from_be_bytes(unit.as_bytes().try_into().unwrap()))).sum();
    assert_eq!(U256::from(residual.unsigned_abs()), plan.ledger().residual, "residual");
}

/// What random plans came to.
#[derive(Default)]
struct Tally {
    plans: u64,
    steps: u64,
    repaired: u64,
    used: BTreeMap<Tier, u64>,
}

/// Two plans of one crash: the second starts where the first one left the venue.
fn plan_twice(seed: u64, tally: &mut Tally) {
    let mut venue = crashed_venue(seed);
    let mut dice = Dice(!seed);
    let (tiers, reserved) = (some_tiers(&mut dice), some_reservations(&mut dice));
    let policies = adl_policy_words().filter_map(adl_policy).collect::<Vec<_>>();
    let policy = policies[dice.roll(policies.len() as u64) as usize];
    for reserved in [reserved, Reservations::default()] {
        let case = venue.case();
        let plan = plan_with(&case, &tiers, policy, &reserved).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(units_of(&plan).is_disjoint(&reserved.units), "seed {seed}: a unit in flight is touched");
        assert!(plan.steps().iter().all(|s| tiers.iter().any(|t| t.tier == s.tier)), "seed {seed}: an unused tier");
        for settings in &tiers {
            let absorbed = plan.ledger().absorbed.get(&settings.tier).copied().unwrap_or_default();
            let within = [settings.absorb_max, settings.episode_max].into_iter().flatten().all(|max| absorbed <= max);
            assert!(within, "seed {seed}: {} above limit", settings.tier);
            let reached = reached(&plan, settings.tier).len();
            let few = settings.units_max.is_none_or(|max| reached <= max as usize);
            assert!(few, "seed {seed}: {} reaches {reached} accounts", settings.tier);
        }
        for tier in plan.steps().iter().map(|s| s.tier).collect::<BTreeSet<_>>() {
            *tally.used.entry(tier).or_default() += 1;
        }
        tally.plans += 1;
        tally.steps += plan.steps().len() as u64;
        tally.repaired += u64::from(!plan.ledger().shortfall.is_zero() && plan.ledger().residual.is_zero());
        let executed = std::panic::AssertUnwindSafe(|| execute(&mut venue, &plan, &reserved.units));
        assert!(std::panic::catch_unwind(executed).is_ok(), "seed {seed}");
    }
}

/// How many random plans; `make plans` builds this with a million.
fn plans_wanted() -> u64 {
    option_env!("BACKSTOP_PLANS").and_then(|count| count.parse().ok()).unwrap_or(20_000)
}

/// One half of the campaign, so that two threads share it.
fn random_plans(parity: u64) {
    let mut tally = Tally::default();
    (0..plans_wanted() / 2).filter(|seed| seed % 2 == parity).for_each(|seed| plan_twice(seed, &mut tally));
    let Tally { plans, steps, repaired, used } = tally;
    println!("{plans} random plans, {steps} steps: each conserves exactly; {repaired} repair all of a loss");
    assert!(plans >= plans_wanted() / 2 - 1);
    // The laws above say nothing about plans that do nothing.
    for tier in EVERY {
        let used = used.get(&tier).copied().unwrap_or(0);
        assert!(used >= plans / 100, "{tier} is hardly reached: {used} of {plans}");
    }
    assert!(repaired >= plans / 10, "only {repaired} plans repair all of a loss");
}

#[test]
fn random_plans_balance_and_execute_to_the_unit_on_even_seeds() {
    random_plans(0);
}

#[test]
fn random_plans_balance_and_execute_to_the_unit_on_odd_seeds() {
    random_plans(1);
}

#[test]
fn the_same_case_gives_the_same_plan_whatever_order_it_was_built_in() {
    for seed in 0..200 {
        let case = crashed_venue(seed).case();
        let mut shuffled = case.clone();
        shuffled.solvent = case.solvent.clone().into_iter().rev().collect();
        shuffled.markets = case.markets.clone().into_iter().rev().collect();
        for policy in adl_policy_words().filter_map(adl_policy) {
            let [a, b] = [&case, &shuffled].map(|case| {
                let plan = plan_with(case, &tiers(&ALL), policy, &Reservations::default()).unwrap();
                serde_json::to_vec(&plan).unwrap()
            });
            assert_eq!(a, b, "seed {seed}");
        }
    }
}

#[test]
fn a_decision_that_was_written_down_and_read_back_decides_the_same() {
    let mut narrowed = 0;
    for seed in 0..400 {
        let mut dice = Dice(!seed);
        let words: Vec<&str> = adl_policy_words().collect();
        let used = [((SegmentId(1), Tier::InsuranceFund), TierUse { last_block: Some(3), ..TierUse::default() })];
        let decision = Decision {
            case: crashed_venue(seed).case(),
            tiers: some_tiers(&mut dice),
            adl_policy: words[dice.roll(words.len() as u64) as usize].to_owned(),
            terms: None,
            reservations: Reservations { used: used.into(), ..some_reservations(&mut dice) },
        };
        let text = serde_json::to_string(&decision).unwrap();
        let again: Decision = serde_json::from_str(&text).unwrap();
        assert_eq!(again, decision, "seed {seed}");
        let [first, second] =
            [&decision, &again].map(|decision| serde_json::to_vec(&decision.plan().unwrap()).unwrap());
        assert_eq!(first, second, "seed {seed}");
        let decided = decision.clone().decide().unwrap();
        assert_eq!(serde_json::to_vec(&decided).unwrap(), first, "seed {seed}: nobody who was left out matters");
        let kept = decided.kept_decision().unwrap();
        let again = serde_json::to_vec(&kept.plan().unwrap()).unwrap();
        assert_eq!(again, first, "seed {seed}: what is kept decides the same");
        narrowed += usize::from(*kept != decision);
    }
    assert!(narrowed > 0, "no decision is kept without those who only stand by");
    let unknown = Decision { adl_policy: "none such".to_owned(), ..decision_of(1) };
    assert!(unknown.plan().unwrap_err().to_string().contains("none such"));
}

fn decision_of(seed: u64) -> Decision {
    let (adl_policy, reservations) = (adl_policy_words().next().unwrap().to_owned(), Reservations::default());
    Decision { case: crashed_venue(seed).case(), tiers: tiers(&ALL), adl_policy, terms: None, reservations }
}

#[test]
fn a_blocked_segment_is_not_touched_and_its_loss_is_residual() {
    let (venue, case) = (0..)
        .map(crashed_venue)
        .map(|v| (v.clone(), v.case()))
        .find(|(_, case)| case.distressed.first().is_some_and(|unit| unit.equity.is_negative()))
        .unwrap();
    let blocked = SegmentCase { blocked: Some("price of market 0 is 70 s old".to_owned()), ..case };
    let plan = plan(&blocked, &tiers(&ALL), &Reservations::default()).unwrap();
    let holes: i128 = venue.accounts.keys().map(|a| venue.hole(*a)).sum();
    assert!(plan.steps().is_empty());
    assert_eq!(plan.ledger().residual, U256::from(holes.unsigned_abs()));
    assert!(plan.notes()[0].contains("70 s old"));
}
