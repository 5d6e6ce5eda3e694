//! Intents → call, and what comes back.

use alloy::sol_types::{Panic, PanicKind, Revert, SolCall, SolError};

use super::{
    super::{
        abi::{IErrors, IPool, ITokenErrors},
        refusal::classify,
    },
    fixture::{KEEPER, POOL, asset, key, log, market, of_pool, opened, user},
};
use crate::{
    protocols::{Adapter, Disposition, Parties},
    recovery::{Action, Effect, Intent, IntentKind, Scope, Step, Tier},
    types::{Address, Bytes, Call, MarketId, U256},
};

const PARTIES: Parties = Parties { sender: KEEPER, proceeds: KEEPER };

fn step(kind: IntentKind, scope: Scope, payload: Bytes) -> Step {
    let intent = Intent {
        kind,
        scope: scope.clone(),
        payload,
        tier: Tier::Liquidate,
        absorbs: U256::ZERO,
        deepens: U256::ZERO,
        implicit: Vec::new(),
        promises: Vec::new(),
        reward: U256::ZERO,
        cost: U256::ZERO,
        swapped: U256::ZERO,
        gas: 1,
        capital: Vec::new(),
        bad_debt: false,
        not_before: 0,
        batch: None,
        why: "a test".to_owned(),
    };
    let (tier, unit) = (intent.tier, scope.unit().cloned());
    Step { tier, unit, absorbs: U256::ZERO, why: "a test".to_owned(), action: Action::Intent(Box::new(intent)) }
}

fn liquidation(of: u8, borrower: u8, receive_a_token: bool) -> (Step, Bytes) {
    let call = IPool::liquidationCallCall {
        collateralAsset: asset(0),
        debtAsset: asset(1),
        borrower: user(borrower),
        debtToCover: U256::from(5),
        receiveAToken: receive_a_token,
    };
    let payload: Bytes = call.abi_encode().into();
    (step(IntentKind::Liquidate, Scope::Unit(key(of)), payload.clone()), payload)
}

#[test]
fn one_intent_goes_as_it_is_and_several_through_multicall() {
    let adapter = market(Some(KEEPER));
    let (first, payload) = liquidation(1, 1, false);
    assert_eq!(adapter.build(std::slice::from_ref(&first), &PARTIES), Ok(Call::new(POOL, payload.clone())));
    let cover: Bytes =
        IPool::eliminateReserveDeficitCall { asset: asset(1), amount: U256::from(9) }.abi_encode().into();
    let second = step(IntentKind::CoverDeficit, Scope::Market(MarketId(1)), cover.clone());
    let built = adapter.build(&[first, second], &PARTIES).unwrap();
    assert_eq!(IPool::multicallCall::abi_decode(&built.data).unwrap().calls, [payload, cover]);
    let allowed = adapter.manifest(KEEPER).allowed_calls;
    let selector = <[u8; 4]>::try_from(&built.data[..4]).unwrap();
    assert!(allowed.contains(&(built.to, selector)) && allowed.len() == 3);
}

#[test]
fn a_payload_that_is_not_its_intents_is_refused() {
    let adapter = market(None);
    let (wrong_unit, payload) = liquidation(1, 2, false);
    let (in_a_tokens, _) = liquidation(1, 1, true);
    let other_kind = step(IntentKind::CoverDeficit, Scope::Market(MarketId(0)), payload);
    for refused in [vec![], vec![wrong_unit], vec![in_a_tokens], vec![other_kind]] {
        assert!(adapter.build(&refused, &PARTIES).is_err(), "{refused:?}");
    }
}

#[test]
fn effects_are_facts_about_tokens() {
    let liquidated = IPool::LiquidationCall {
        collateralAsset: asset(0),
        debtAsset: asset(1),
        user: user(1),
        debtToCover: U256::from(3),
        liquidatedCollateralAmount: U256::from(4),
        liquidator: KEEPER,
        receiveAToken: false,
    };
    let created = IPool::DeficitCreated { user: user(1), debtAsset: asset(2), amountCreated: U256::from(5) };
    let covered = IPool::DeficitCovered { reserve: asset(2), caller: KEEPER, amountCovered: U256::from(6) };
    let foreign = log(Address::repeat_byte(7), &created);
    let logs = [of_pool(&liquidated), of_pool(&created), of_pool(&covered), foreign];
    let effects = market(None).effects(&opened(), &logs);
    let expected = [
        Effect::Repaid { unit: key(1), asset: asset(1), amount: U256::from(3) },
        Effect::Seized { unit: key(1), asset: asset(0), amount: U256::from(4) },
        Effect::BadDebt { scope: Scope::Unit(key(1)), asset: asset(2), amount: U256::from(5) },
        Effect::Covered {
            scope: Scope::Market(MarketId(2)),
            tier: Tier::InsuranceFund,
            asset: asset(2),
            amount: U256::from(6),
        },
    ];
    assert_eq!(effects, expected);
}

#[test]
fn a_refusal_says_what_it_means() {
    use Disposition::{AlreadyDone, Bug, Capacity, FundShort, NeedOracle, NotEligible, Unauthorized};
    let words = |reason: &str| Revert { reason: reason.to_owned() }.abi_encode();
    let balance = ITokenErrors::ERC20InsufficientBalance { sender: KEEPER, balance: U256::ZERO, needed: U256::ONE };
    for (data, disposition, named) in [
        (IErrors::HealthFactorNotBelowThreshold {}.abi_encode(), NotEligible, "HealthFactorNotBelowThreshold"),
        (IErrors::MustNotLeaveDust {}.abi_encode(), NotEligible, "MustNotLeaveDust"),
        (IErrors::LiquidationGraceSentinelCheckFailed {}.abi_encode(), NotEligible, "Grace"),
        (IErrors::PriceOracleSentinelCheckFailed {}.abi_encode(), NeedOracle, "Sentinel"),
        (IErrors::ReserveNotInDeficit {}.abi_encode(), AlreadyDone, "ReserveNotInDeficit"),
        (IErrors::NotEnoughAvailableUserBalance {}.abi_encode(), FundShort, "NotEnough"),
        (IErrors::CallerNotUmbrella {}.abi_encode(), Unauthorized, "CallerNotUmbrella"),
        (IErrors::SelfLiquidation {}.abi_encode(), Unauthorized, "SelfLiquidation"),
        (IErrors::CallerNotPoolAdmin {}.abi_encode(), Bug, "CallerNotPoolAdmin"),
        (balance.abi_encode(), Capacity, "ERC20InsufficientBalance"),
        (words("ERC20: transfer amount exceeds balance"), Capacity, "exceeds balance"),
        (words("GPv2: failed transferFrom"), Capacity, "GPv2"),
        (words("something else"), Bug, "something else"),
        (Panic::from(PanicKind::UnderOverflow).abi_encode(), Capacity, "cannot pay"),
        (Panic::from(PanicKind::DivisionByZero).abi_encode(), Bug, "division"),
        (vec![], Bug, "without data"),
        (vec![1, 2, 3, 4, 5], Bug, "0x0102030405"),
    ] {
        let refusal = classify(&data);
        assert_eq!(refusal.disposition, disposition, "{refusal:?}");
        assert!(refusal.reason.contains(named), "{refusal:?}");
    }
}

#[test]
fn guards_pin_the_revision_and_what_the_operator_pinned() {
    let what = |adapter: &super::super::AaveV3| {
        adapter.manifest(KEEPER).guards.into_iter().map(|g| g.what).collect::<Vec<_>>()
    };
    assert_eq!(what(&market(None)).len(), 3);
    assert_eq!(what(&market(None))[0], "POOL_REVISION");
    let manifest = market(Some(KEEPER)).manifest(KEEPER);
    assert_eq!((manifest.roles.len(), manifest.tiers.len()), (1, 2));
    assert!(market(None).manifest(KEEPER).roles.is_empty());
}
