//! Snapshot → case → plan.

use std::collections::BTreeMap;

use alloy::sol_types::SolCall;

use super::{
    super::{
        abi::{IPool, IPoolConfigurator},
        state,
    },
    fixture::{
        KEEPER, NOW, a_token, after, asset, borrowed, grace, key, market, of_configurator, of_pool, opened, read,
        snapshot, supplied, tokens, user,
    },
};
use crate::{
    positions::Book,
    protocols::Adapter,
    recovery::{
        Intent, IntentKind, Mode, Policy, Purse, Reservations, Scope, SegmentCase, ShortageKind, Terms, Tier,
        TierSettings, plan_offered,
    },
    scanner::{ScanSettings, scan},
    types::{Address, MarketId, U256},
};

/// The case of this book, if there is one.
fn case_of(book: Book, umbrella: Option<Address>) -> Option<SegmentCase> {
    let (adapter, snapshot) = (market(umbrella), snapshot(book));
    let report = scan(&adapter, &snapshot, &ScanSettings { at_risk_health_factor_bps: 11_000 });
    adapter.cases(&snapshot, &report, false).remove(&state::SEGMENT)
}

fn intents(case: &SegmentCase) -> &[Intent] {
    &case.offered.as_ref().unwrap().intents
}

fn call(intent: &Intent) -> IPool::liquidationCallCall {
    IPool::liquidationCallCall::abi_decode(&intent.payload).unwrap()
}

/// Dollars in the base currency.
fn base(dollars: u64) -> U256 {
    U256::from(dollars) * U256::from(100_000_000)
}

/// User 1: 10 ether (2,000 dollars) and 5,000 of reserve 2 (1 dollar) against debts in dollars; somebody supplies more of
/// each, so that it can be paid out.
fn indebted(dollars: [u64; 2]) -> Book {
    let lend = |reserve| supplied(reserve, user(9), tokens(reserve, 1_000_000));
    let mut logs: Vec<_> = (0..3).flat_map(lend).collect();
    logs.extend(supplied(0, user(1), tokens(0, 10)));
    logs.extend(supplied(2, user(1), tokens(2, 5_000)));
    for (reserve, amount) in [1, 2].into_iter().zip(dollars) {
        if amount > 0 {
            logs.push(borrowed(reserve, user(1), tokens(reserve, amount)));
        }
    }
    after(opened(), &logs)
}

#[test]
fn a_healthy_market_has_no_case() {
    assert_eq!(case_of(read(indebted([15_000, 0]), [2_000, 1, 1], KEEPER), None), None);
}

/// 25,000 dollars at 80 % against 20,400: a health factor of 0.98.
#[test]
fn an_account_with_equity_is_offered_by_reward_and_half_at_a_time() {
    let case = case_of(read(indebted([20_400, 0]), [2_000, 1, 1], KEEPER), None).unwrap();
    let unit = &case.distressed[0];
    assert_eq!((unit.unit.clone(), unit.equity.unsigned_abs()), (key(1), base(4_600)));
    let [first, second] = intents(&case) else { panic!("{:?}", intents(&case)) };
    // Half of the debt against ether; what reserve 2 can pay is less.
    assert_eq!((call(first).collateralAsset, call(first).debtAsset), (asset(0), asset(1)));
    assert_eq!((first.absorbs, first.deepens, first.bad_debt), (base(510), U256::ZERO, false));
    assert!(first.reward > second.reward);
    assert_eq!(call(second).collateralAsset, asset(2));
    assert_eq!(first.capital[0].token, asset(1));
    let half = tokens(1, 10_200);
    assert!(call(first).debtToCover > half && call(first).debtToCover < half + half / U256::from(500));
    assert!(first.why.contains("health factor 0.9803"), "{}", first.why);
}

/// 15,000 dollars against 18,000 in two debts.
#[test]
fn an_account_without_equity_is_offered_by_debt_cleared() {
    let case = case_of(read(indebted([12_000, 6_000]), [1_000, 1, 1], KEEPER), None).unwrap();
    let offers = intents(&case);
    assert_eq!(offers.len(), 4);
    assert!(offers.iter().all(|offer| offer.bad_debt && offer.absorbs.is_zero() && !offer.deepens.is_zero()));
    assert_eq!((call(&offers[0]).collateralAsset, call(&offers[0]).debtAsset), (asset(0), asset(1)));
    let cleared = |offer: &Intent| {
        let promise = offer.promises.iter().find(|p| p.kind == crate::recovery::PromiseKind::Repaid).unwrap();
        promise.min
    };
    // 10,000 dollars of ether less the bonus.
    assert!(cleared(&offers[0]) > tokens(1, 9_400) && cleared(&offers[0]) < tokens(1, 9_524));
}

/// The last collateral goes, and the rest becomes a deficit.
#[test]
fn the_last_liquidation_foresees_the_deficit() {
    let mut logs = supplied(0, user(9), tokens(0, 1_000));
    logs.extend(supplied(0, user(1), tokens(0, 10)));
    logs.push(borrowed(1, user(1), tokens(1, 12_000)));
    let case = case_of(read(after(opened(), &logs), [1_000, 1, 1], KEEPER), None).unwrap();
    let [only] = intents(&case) else { panic!("one pair") };
    let bad_debt: Vec<_> = only.promises.iter().filter(|p| p.kind == crate::recovery::PromiseKind::BadDebt).collect();
    let [promise] = bad_debt[..] else { panic!("one debt") };
    // 12,000 owed, 9,523.81 repaid.
    assert!(promise.max >= tokens(1, 2_476) && promise.max < tokens(1, 2_600), "{promise:?}");
    assert!(only.why.contains("become a deficit"), "{}", only.why);
    let plan = planned(&case, &[(asset(1), tokens(1, 100_000))]);
    assert_eq!(plan.steps().len(), 1);
    assert_eq!(plan.ledger().residual, base(2_000) + only.deepens);
}

#[test]
fn a_pause_offers_nothing_and_a_grace_period_names_its_end() {
    let book = indebted([20_400, 0]);
    let paused = of_configurator(&IPoolConfigurator::ReservePaused { asset: asset(1), paused: true });
    let case = case_of(read(after(book.clone(), &[paused]), [2_000, 1, 1], KEEPER), None).unwrap();
    assert_eq!((case.distressed.len(), intents(&case).len()), (1, 0));
    let case = case_of(read(after(book, &[grace(0, NOW)]), [2_000, 1, 1], KEEPER), None).unwrap();
    let [first, second] = intents(&case) else { panic!("two pairs") };
    assert_eq!((call(first).collateralAsset, first.not_before), (asset(2), 0), "what can be done now goes first");
    assert_eq!((call(second).collateralAsset, second.not_before), (asset(0), NOW + 1));
}

fn with_deficit() -> Book {
    let created = IPool::DeficitCreated { user: user(1), debtAsset: asset(1), amountCreated: tokens(1, 700) };
    after(indebted([15_000, 0]), &[of_pool(&created)])
}

#[test]
fn a_deficit_is_covered_by_the_umbrella_or_told() {
    let book = read(with_deficit(), [2_000, 1, 1], KEEPER);
    let case = case_of(book, Some(KEEPER)).unwrap();
    let [cover] = intents(&case) else { panic!("one cover") };
    assert_eq!((cover.kind, cover.tier, cover.absorbs), (IntentKind::CoverDeficit, Tier::InsuranceFund, base(700)));
    assert_eq!(cover.scope, Scope::Market(MarketId(1)));
    assert_eq!((cover.capital[0].token, cover.capital[0].amount), (a_token(1), tokens(1, 700)));
    let plan = planned(&case, &[(a_token(1), tokens(1, 700))]);
    assert_eq!((plan.steps().len(), plan.ledger().residual), (1, U256::ZERO));

    let told = |book: Book, umbrella| {
        let case = case_of(book, umbrella).unwrap();
        let offered = case.offered.unwrap();
        assert_eq!((offered.intents.len(), offered.deficits.len(), offered.shortages.len()), (0, 1, 1));
        assert_eq!(offered.shortages[0].kind, ShortageKind::DeficitStands);
        offered.shortages[0].detail.clone()
    };
    let others = read(with_deficit(), [2_000, 1, 1], user(8));
    assert!(told(others.clone(), None).contains("this keeper may not"));
    assert!(told(others, Some(KEEPER)).contains("not protocol.umbrella"));
    let in_debt = after(with_deficit(), &[borrowed(1, KEEPER, U256::ONE)]);
    assert!(told(read(in_debt, [2_000, 1, 1], KEEPER), Some(KEEPER)).contains("owes reserve 1"));
}

/// A plan of the case under mandate with these tokens, each approved to the pool.
fn planned(case: &SegmentCase, held: &[(Address, U256)]) -> crate::recovery::BalancedPlan {
    let balances: BTreeMap<Address, U256> = held.iter().copied().collect();
    let allowances = held.iter().map(|(token, amount)| ((*token, super::fixture::POOL), *amount)).collect();
    let terms = Terms {
        policy: Policy {
            mode: Mode::Mandate,
            bad_debt_overrides_profit: true,
            swap_cost_bps: 0,
            capital_max: BTreeMap::new(),
        },
        gas_price_wei: U256::ONE,
        native_value: Some(base(2_000)),
        budget_left_wei: U256::MAX,
        purse: Purse { balances, allowances },
    };
    let tiers = [Tier::Liquidate, Tier::InsuranceFund].map(|tier| TierSettings { tier, absorb_max: None });
    plan_offered(case, &tiers, &terms, &Reservations::default()).unwrap()
}
