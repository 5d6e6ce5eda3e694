//! Markets as the planner sees them.

use std::collections::BTreeSet;

use super::{
    super::{Markets, Settings},
    fixture::*,
};
use crate::{
    protocols::Adapter,
    recovery::{
        Absorption, BalancedPlan, Intent, IntentKind, Mode, Policy, PromiseKind, Purse, Reservations, Scope,
        SegmentCase, Terms, Tier, TierSettings, TokenNeed, plan_offered,
    },
    types::{SegmentId, U256},
};

fn only_case(chain: &Chain) -> SegmentCase {
    let cases = chain.adapter.cases(&chain.snapshot, &chain.scan(), false);
    assert_eq!(cases.len(), 1);
    cases.into_values().next().unwrap()
}

fn intents(case: &SegmentCase) -> &[Intent] {
    &case.offered.as_ref().unwrap().intents
}

fn planned(case: &SegmentCase) -> BalancedPlan {
    let tiers = [TierSettings::unlimited(Tier::Liquidate)];
    let terms = Terms {
        policy: Policy {
            mode: Mode::Profit { gain_min: U256::ZERO },
            bad_debt_overrides_profit: true,
            swap_cost_bps: 0,
            capital_max: Default::default(),
        },
        gas_price_wei: U256::ZERO,
        native_value: Some(U256::ONE),
        budget_left_wei: U256::MAX,
        purse: Purse { balances: [(LOAN, U256::MAX)].into(), allowances: [((LOAN, MORPHO), U256::MAX)].into() },
    };
    plan_offered(case, &tiers, &terms, &Reservations::default()).unwrap()
}

/// 1,000,000 owed by account 2 in market 1, where 80 % may be owed, against collateral that is worth this much.
fn covered_by(value: u128) -> Chain {
    let mut chain = Chain::opened();
    chain.block(&[secure(1, 2, value), borrow(1, 2, 1_000_000, 1_000_000_000_000)]);
    chain
}

#[test]
fn a_covered_debt_is_repaid_whole_for_part_of_the_collateral() {
    let case = only_case(&covered_by(1_200_000));
    let [intent] = intents(&case) else { panic!("{case:?}") };
    // Incentive 1 / (1 − 0.3 · 0.2) = 1.0638…
    let seized = 1_063_829;
    assert_eq!(intent.kind, IntentKind::Liquidate);
    assert_eq!(intent.scope, Scope::Unit(key(1, 2)));
    assert_eq!((intent.reward, intent.cost, intent.swapped), (uint(63_829), uint(0), uint(seized)));
    assert_eq!((intent.absorbs, intent.deepens, &intent.implicit[..]), (uint(63_829), uint(0), &[][..]));
    assert!(!intent.bad_debt);
    let need = TokenNeed { token: LOAN, amount: uint(1_000_000 + 257), spender: Some(MORPHO) };
    assert_eq!(intent.capital, [need]);
    let promise = |kind| *intent.promises.iter().find(|promise| promise.kind == kind).map(|p| &p.max).unwrap();
    assert_eq!(promise(PromiseKind::BadDebt), U256::ZERO);
    assert!(promise(PromiseKind::Seized) >= uint(seized));
    let ledger = planned(&case).ledger().clone();
    assert_eq!((ledger.shortfall, ledger.residual), (uint(63_829), uint(0)));
}

#[test]
fn an_uncovered_debt_takes_all_collateral_and_lenders_share_the_rest() {
    let case = only_case(&covered_by(900_000));
    let [intent] = intents(&case) else { panic!("{case:?}") };
    // 94 % of the value, two ceilings above.
    let repaid = 846_001;
    assert_eq!((intent.absorbs, intent.deepens), (uint(0), uint(900_000 - repaid)));
    let shared = uint(1_000_000 - repaid);
    assert_eq!(intent.implicit, [Absorption { tier: Tier::SocialiseLoss, amount: shared }]);
    assert!(intent.bad_debt);
    let ledger = planned(&case).ledger().clone();
    assert_eq!((ledger.shortfall, ledger.residual), (shared, uint(0)));
    assert_eq!(ledger.absorbed[&Tier::SocialiseLoss], shared);
}

#[test]
fn own_margin_pays_the_bonus_as_far_as_it_goes() {
    // Worth more than the debt, but not by the whole bonus.
    let case = only_case(&covered_by(1_030_000));
    let [intent] = intents(&case) else { panic!("{case:?}") };
    let repaid = 1_030_000 * 94 / 100 + 1;
    assert_eq!(intent.absorbs, uint(30_000));
    assert_eq!(intent.deepens, uint(1_000_000 - repaid));
    assert_eq!(intent.implicit[0].amount, intent.deepens);
    assert_eq!(planned(&case).ledger().residual, uint(0));
}

#[test]
fn every_borrower_has_one_intent_worst_first_and_the_books_balance() {
    let mut chain = Chain::opened();
    for n in 2..52_u8 {
        let assets = 1_000_000 + u128::from(n) * 31_337 % 50_000;
        chain.block(&[secure(1, n, 2_000_000), borrow(1, n, assets, assets * 1_000_000)]);
    }
    for price in [60_u128, 53, 40, 0] {
        chain.prices.insert(ORACLE, one() * uint(price) / uint(100));
        chain.block_after(1, &[]);
        let report = chain.scan();
        let case = only_case(&chain);
        let order: Vec<_> = report.findings.iter().map(|finding| Scope::Unit(finding.unit.clone())).collect();
        assert_eq!(intents(&case).iter().map(|intent| intent.scope.clone()).collect::<Vec<_>>(), order);
        assert_eq!((order.len(), order.iter().collect::<BTreeSet<_>>().len()), (50, 50));
        let plan = planned(&case);
        assert_eq!((plan.steps().len(), plan.ledger().residual), (50, uint(0)), "at {price} %");
    }
}

#[test]
fn a_collateral_that_is_lent_needs_no_swap() {
    let mut chain = Chain::opened();
    let same = crate::protocols::morpho_blue::abi::MarketParams { collateralToken: LOAN, ..params(1) };
    let id = alloy::primitives::keccak256(alloy::sol_types::SolValue::abi_encode(&same));
    let mut logs = [
        log(&crate::protocols::morpho_blue::abi::IMorpho::CreateMarket { id, marketParams: same }),
        secure(1, 2, 1_200_000),
        borrow(1, 2, 1_000_000, 1_000_000_000_000),
    ];
    logs[1].topics[1] = id;
    logs[2].topics[1] = id;
    chain.block(&logs);
    let case = only_case(&chain);
    assert_eq!((case.segment, intents(&case)[0].swapped), (SegmentId(3), uint(0)));
}

#[test]
fn markets_without_trouble_are_shown_only_when_asked_for() {
    let chain = Chain::opened();
    assert!(chain.adapter.cases(&chain.snapshot, &chain.scan(), false).is_empty());
    let all = chain.adapter.cases(&chain.snapshot, &chain.scan(), true);
    assert_eq!(all.keys().copied().collect::<Vec<_>>(), [0, 1, 2].map(SegmentId));
    assert!(all.values().all(|case| case.blocked.is_none() && intents(case).is_empty()));
}

#[test]
fn nothing_is_offered_in_a_market_that_is_not_named() {
    let mut chain = covered_by(900_000);
    let report = chain.scan();
    chain.adapter = super::super::MorphoBlue::new(Settings { markets: Markets::Only([id(0)].into()), ..settings() });
    let cases = chain.adapter.cases(&chain.snapshot, &report, false);
    let case = &cases[&SegmentId(1)];
    assert!(intents(case).is_empty() && case.distressed.is_empty());
    assert!(case.blocked.as_ref().unwrap().contains("protocol.markets"));
    assert!(chain.scan().findings.is_empty());
}
