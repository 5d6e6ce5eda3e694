//! Laws of plans that are made from intents.

use alloy::primitives::{Address, Bytes, I256};
use proptest::prelude::*;

use super::*;
use crate::types::BlockRef;

const TOKEN: Address = Address::repeat_byte(0x70);
const SPENDER: Address = Address::repeat_byte(0x5e);
const SEGMENT: SegmentId = SegmentId(1);

fn block() -> BlockRef {
    BlockRef { number: 9, hash: Default::default(), parent_hash: Default::default(), timestamp: 1_000 }
}

fn unit(id: u8, equity: i64) -> DistressedUnit {
    let equity = I256::try_from(equity).unwrap();
    DistressedUnit {
        unit: key(id.into()),
        cash: equity,
        equity,
        maintenance_margin: U256::ZERO,
        positions: Vec::new(),
        liquidatable_lots: BTreeMap::new(),
    }
}

fn intent(scope: Scope, tier: Tier, absorbs: u64) -> Intent {
    Intent {
        kind: IntentKind::Liquidate,
        scope,
        payload: Bytes::new(),
        tier,
        absorbs: U256::from(absorbs),
        deepens: U256::ZERO,
        implicit: Vec::new(),
        promises: Vec::new(),
        reward: U256::from(50),
        cost: U256::ZERO,
        swapped: U256::from(1_000),
        gas: 100,
        capital: vec![TokenNeed { token: TOKEN, amount: U256::from(10), spender: Some(SPENDER) }],
        bad_debt: false,
        not_before: 0,
        batch: None,
        why: "a test".to_owned(),
    }
}

fn of_unit(id: u8) -> Scope {
    Scope::Unit(key(id.into()))
}

fn case(distressed: Vec<DistressedUnit>, intents: Vec<Intent>, deficits: Vec<Deficit>) -> SegmentCase {
    SegmentCase {
        segment: SEGMENT,
        block: block(),
        fund: FundState::default(),
        markets: BTreeMap::new(),
        distressed,
        solvent: BTreeMap::new(),
        blocked: None,
        measures: Default::default(),
        offered: Some(Offered { asset: None, intents, deficits, shortages: Vec::new() }),
    }
}

/// Gas is worth 2 (100 gas · 20 wei, 10¹⁵ a coin), a swap of 1,000 costs 1: an expense of 3 against a reward of 50.
fn terms(mode: Mode) -> Terms {
    Terms {
        policy: Policy { mode, bad_debt_overrides_profit: false, swap_cost_bps: 10, capital_max: BTreeMap::new() },
        gas_price_wei: U256::from(20),
        native_value: Some(U256::from(1_000_000_000_000_000u64)),
        budget_left_wei: U256::ZERO,
        purse: Purse {
            balances: [(TOKEN, U256::from(1_000))].into(),
            allowances: [((TOKEN, SPENDER), U256::MAX)].into(),
        },
    }
}

fn profit(gain_min: u64) -> Terms {
    terms(Mode::Profit { gain_min: U256::from(gain_min) })
}

/// Plans, and holds against it what the same decision gives once it was written down and read back.
fn planned(case: &SegmentCase, terms: &Terms) -> BalancedPlan {
    let plan = plan_offered(case, &tiers(&ALL), terms, &Reservations::default()).unwrap();
    let (case, terms, adl_policy) = (case.clone(), Some(terms.clone()), String::new());
    let decision = Decision { case, tiers: tiers(&ALL), adl_policy, terms, reservations: Reservations::default() };
    let again: Decision = serde_json::from_str(&serde_json::to_string(&decision).unwrap()).unwrap();
    assert_eq!(again.plan().unwrap(), plan);
    plan
}

#[test]
fn an_action_pays_for_itself_to_the_last_unit_or_is_left() {
    let offers = case(vec![unit(1, 60)], vec![intent(of_unit(1), Tier::Liquidate, 50)], vec![]);
    assert_eq!(profit(0).economics(&offers.offered.as_ref().unwrap().intents[0]).unwrap().expense, U256::from(3));
    assert_eq!(planned(&offers, &profit(47)).steps().len(), 1);
    let left = planned(&offers, &profit(48));
    assert!(left.steps().is_empty() && left.notes()[0].contains("does not pay for itself: brings 50, costs 3"));
}

#[test]
fn bad_debt_overrides_profit_only_where_configured_and_within_the_budget() {
    let mut poor = intent(of_unit(1), Tier::Liquidate, 0);
    (poor.reward, poor.bad_debt) = (U256::ZERO, true);
    let offers = case(vec![unit(1, -5)], vec![poor], vec![]);
    let mut asked = profit(0);
    asked.budget_left_wei = U256::MAX;
    assert!(planned(&offers, &asked).steps().is_empty());
    asked.policy.bad_debt_overrides_profit = true;
    let plan = planned(&offers, &asked);
    assert_eq!((plan.steps().len(), plan.outlays()), (1, [U256::from(3_000)].as_slice()));
    asked.budget_left_wei = U256::from(2_999);
    assert!(planned(&offers, &asked).notes()[0].contains("above what the budget leaves"));
}

#[test]
fn a_mandate_is_bounded_by_its_budget_over_the_whole_plan() {
    let mut costly = intent(of_unit(1), Tier::Liquidate, 1);
    (costly.reward, costly.cost) = (U256::ZERO, U256::from(8));
    let mut second = costly.clone();
    second.scope = of_unit(2);
    let offers = case(vec![unit(1, 60), unit(2, 60)], vec![costly, second], vec![]);
    let mut mandate = terms(Mode::Mandate);
    mandate.budget_left_wei = U256::from(22_000);
    assert_eq!(planned(&offers, &mandate).outlays(), [U256::from(11_000); 2]);
    mandate.budget_left_wei = U256::from(21_999);
    let plan = planned(&offers, &mandate);
    assert_eq!(plan.outlays(), [U256::from(11_000)]);
    assert!(plan.notes()[0].contains("use the budget up"));
    mandate.native_value = None;
    assert!(planned(&offers, &mandate).notes()[0].contains("cannot be valued"));
}

#[test]
fn the_purse_bounds_what_is_taken_and_says_what_is_short() {
    let offers =
        case(vec![unit(1, 60), unit(2, 60)], [1, 2].map(|id| intent(of_unit(id), Tier::Liquidate, 1)).into(), vec![]);
    let mut poor = profit(0);
    poor.purse.balances = [(TOKEN, U256::from(19))].into();
    let plan = planned(&offers, &poor);
    assert_eq!((plan.steps().len(), plan.shortages().len()), (1, 1));
    assert!(plan.shortages().first().unwrap().detail.contains("holds 19 units"));
    let mut unapproved = profit(0);
    unapproved.purse.allowances = [((TOKEN, SPENDER), U256::from(9))].into();
    assert!(planned(&offers, &unapproved).shortages().first().unwrap().detail.contains("approve it"));
    let mut bounded = profit(0);
    bounded.policy.capital_max = [(TOKEN, U256::from(10))].into();
    assert_eq!(planned(&offers, &bounded).steps().len(), 1);
    let in_flight = Reservations { capital: [(TOKEN, U256::from(991))].into(), ..Reservations::default() };
    let reserved = plan_offered(&offers, &tiers(&ALL), &profit(0), &in_flight).unwrap();
    assert!(reserved.steps().is_empty(), "what calls in flight may take is not spent again");
}

#[test]
fn a_reserved_scope_is_left_alone_and_out_of_the_books() {
    let offers = case(vec![unit(1, -7)], vec![intent(of_unit(1), Tier::Liquidate, 0)], vec![]);
    for reserved in [
        Reservations { units: [key(1)].into(), ..Reservations::default() },
        Reservations { scopes: [of_unit(1)].into(), ..Reservations::default() },
    ] {
        let plan = plan_offered(&offers, &tiers(&ALL), &profit(0), &reserved).unwrap();
        assert!(plan.steps().is_empty() && plan.left_alone().contains(&key(1)));
        assert_eq!(plan.ledger().shortfall, U256::ZERO);
    }
}

#[test]
fn a_bonus_beyond_the_units_own_margin_deepens_the_shortfall_and_a_cover_takes_it_off() {
    let mut liquidation = intent(of_unit(1), Tier::Liquidate, 30);
    liquidation.deepens = U256::from(20);
    let mut implicit = intent(of_unit(2), Tier::Liquidate, 0);
    implicit.implicit = vec![Absorption { tier: Tier::SocialiseLoss, amount: U256::from(9) }];
    let mut cover = intent(Scope::Market(MarketId(4)), Tier::InsuranceFund, 100);
    cover.kind = IntentKind::CoverDeficit;
    let deficit = Deficit { scope: Scope::Market(MarketId(4)), amount: U256::from(120) };
    let offers = case(vec![unit(1, 30), unit(2, -9)], vec![cover, liquidation, implicit], vec![deficit]);
    let plan = planned(&offers, &profit(0));
    let tiers_taken: Vec<Tier> = plan.steps().iter().map(|step| step.tier).collect();
    assert_eq!(tiers_taken, [Tier::Liquidate, Tier::Liquidate, Tier::InsuranceFund], "tiers go in their order");
    let ledger = plan.ledger();
    assert_eq!((ledger.shortfall, ledger.residual), (U256::from(30 + 20 + 9 + 120), U256::from(20 + 20)));
    let absorbed = |tier| ledger.absorbed[&tier];
    assert_eq!(absorbed(Tier::Liquidate), U256::from(30));
    assert_eq!(absorbed(Tier::SocialiseLoss), U256::from(9));
    assert_eq!(absorbed(Tier::InsuranceFund), U256::from(100));
}

#[test]
fn an_intent_that_contradicts_the_case_makes_no_plan() {
    let too_much = case(vec![unit(1, 29)], vec![intent(of_unit(1), Tier::Liquidate, 30)], vec![]);
    let over_covered = case(vec![], vec![intent(Scope::Market(MarketId(4)), Tier::InsuranceFund, 1)], vec![]);
    let mut early = intent(of_unit(1), Tier::Liquidate, 29);
    early.deepens = U256::ONE;
    let early = case(vec![unit(1, 30)], vec![early], vec![]);
    for wrong in [too_much, over_covered, early] {
        assert!(plan_offered(&wrong, &tiers(&ALL), &profit(0), &Reservations::default()).is_err());
    }
}

proptest! {
    #[test]
    fn random_offers_conserve_and_a_changed_plan_is_found(
        equities in prop::collection::vec(-1_000i64..1_000, 1..12),
        shares in prop::collection::vec((0u64..1_500, 0u64..500, any::<bool>(), 0u64..80), 12),
        limit in prop::option::of(0u64..2_000),
        budget in 0u64..50_000,
    ) {
        let mut intents = Vec::new();
        let mut distressed = Vec::new();
        for (id, equity) in equities.iter().enumerate() {
            let (bonus, implicit, bad_debt, reward) = shares[id];
            let id = u8::try_from(id).unwrap();
            let own = u64::try_from(*equity).unwrap_or(0);
            let mut offer = intent(of_unit(id), Tier::Liquidate, bonus.min(own));
            offer.deepens = U256::from(bonus - bonus.min(own));
            let hole = U256::from(equity.min(&0).unsigned_abs()) + offer.deepens;
            offer.implicit = vec![Absorption { tier: Tier::SocialiseLoss, amount: U256::from(implicit).min(hole) }];
            (offer.bad_debt, offer.reward) = (bad_debt, U256::from(reward));
            intents.push(offer);
            distressed.push(unit(id, *equity));
        }
        let case = case(distressed, intents, vec![]);
        let mut terms = profit(10);
        terms.policy.bad_debt_overrides_profit = true;
        terms.budget_left_wei = U256::from(budget);
        let mut settings = tiers(&ALL);
        settings[0].absorb_max = limit.map(U256::from);
        let plan = plan_offered(&case, &settings, &terms, &Reservations::default()).unwrap();
        let absorbed = plan.ledger.absorbed.values().fold(U256::ZERO, |sum, amount| sum + *amount);
        prop_assert_eq!(absorbed + plan.ledger.residual, plan.ledger.shortfall);
        prop_assert!(plan.outlays.iter().fold(U256::ZERO, |sum, wei| sum + *wei) <= terms.budget_left_wei);
        prop_assert!(limit.is_none_or(|max| plan.ledger.absorbed.get(&Tier::Liquidate).is_none_or(|a| *a <= U256::from(max))));
        for step in 0..plan.steps.len() {
            let mut wrong = plan.clone();
            wrong.steps[step].absorbs += U256::ONE;
            prop_assert!(wrong.verify(&case).is_err());
            let mut forged = plan.clone();
            if let Action::Intent(intent) = &mut forged.steps[step].action {
                intent.payload = Bytes::from_static(&[1]);
            }
            prop_assert!(forged.verify(&case).is_err());
        }
        let mut residual = plan.clone();
        residual.ledger.residual += U256::ONE;
        prop_assert!(residual.verify(&case).is_err());
    }
}

#[test]
fn a_liquidation_that_feeds_on_the_hole_is_left_to_a_tier_that_does_not() {
    let mut toxic = intent(of_unit(1), Tier::Liquidate, 5);
    toxic.deepens = U256::from(7);
    let cover = intent(of_unit(1), Tier::InsuranceFund, 0);
    let offers = case(vec![unit(1, 5)], vec![toxic.clone(), cover.clone()], vec![]);
    let plan = planned(&offers, &profit(0));
    assert_eq!(plan.steps().iter().map(|s| s.tier).collect::<Vec<_>>(), [Tier::InsuranceFund]);
    assert!(plan.notes().iter().any(|note| note.contains("deepen the shortfall by 7")), "{:?}", plan.notes());
    assert_eq!(plan.ledger().shortfall, U256::ZERO, "and the shortfall does not grow");

    // Nobody else can have it: then it is liquidated before the hole grows by itself.
    let mut dear = cover.clone();
    dear.cost = U256::from(1_000);
    let plan = planned(&case(vec![unit(1, 5)], vec![toxic.clone(), dear], vec![]), &profit(0));
    assert_eq!(plan.steps().iter().map(|s| s.tier).collect::<Vec<_>>(), [Tier::Liquidate]);
    assert_eq!(plan.ledger().residual, U256::from(7));
    // Without bonus out of the hole there is nothing to guard against.
    toxic.deepens = U256::ZERO;
    let plan = planned(&case(vec![unit(1, 5)], vec![toxic, cover], vec![]), &profit(0));
    assert_eq!(plan.steps()[0].tier, Tier::Liquidate);
}
