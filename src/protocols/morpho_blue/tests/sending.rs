//! Intents to calls, and what came of them.

use alloy::sol_types::{SolCall, SolValue};

use super::{
    super::{
        MorphoBlue, Settings,
        abi::{IIrm, IMorpho},
        encode::Payload,
        state,
    },
    fixture::*,
};
use crate::{
    positions::Book,
    protocols::{self, Adapter, GuardCheck, Parties},
    recovery::{Action, Effect, Intent, IntentKind, Scope, Step, Tier},
    types::{Address, B256, Bytes, Log, U256, UnitKey},
};

fn parties() -> Parties {
    Parties { sender: owner(0xee), proceeds: owner(0xef) }
}

/// The intent on account 2 of market 1, whose collateral is worth this much for a debt of 1,000,000.
fn intent(value: u128) -> Intent {
    let mut chain = Chain::opened();
    chain.block(&[secure(1, 2, value), borrow(1, 2, 1_000_000, 1_000_000_000_000)]);
    let cases = chain.adapter.cases(&chain.snapshot, &chain.scan(), false);
    let case = cases.into_values().next().unwrap();
    case.offered.unwrap().intents.remove(0)
}

fn step(intent: Intent) -> Step {
    Step {
        tier: Tier::Liquidate,
        unit: intent.scope.unit().cloned(),
        absorbs: intent.absorbs,
        why: String::new(),
        action: Action::Intent(Box::new(intent)),
    }
}

fn built(steps: &[Step]) -> Result<IMorpho::liquidateCall, String> {
    let adapter = MorphoBlue::new(settings());
    let call = adapter.build(steps, &parties()).map_err(|error| error.to_string())?;
    assert_eq!((call.to, call.value), (MORPHO, U256::ZERO));
    let selector: [u8; 4] = call.data[..4].try_into().unwrap();
    assert!(adapter.manifest(Address::ZERO).allowed_calls.contains(&(call.to, selector)));
    Ok(IMorpho::liquidateCall::abi_decode(&call.data).unwrap())
}

#[test]
fn an_intent_becomes_the_call_of_its_form() {
    let call = built(&[step(intent(1_200_000))]).unwrap();
    assert_eq!((call.marketParams, call.borrower, call.data), (params(1), owner(2), Bytes::new()));
    assert_eq!((call.seizedAssets, call.repaidShares), (uint(0), uint(1_000_000_000_000)));
    let call = built(&[step(intent(900_000))]).unwrap();
    assert_eq!((call.seizedAssets, call.repaidShares), (uint(900_000), uint(0)));
}

/// Why an intent that was changed so is not built.
fn refusal_of(change: impl FnOnce(&mut Intent)) -> String {
    let mut changed = intent(900_000);
    change(&mut changed);
    built(&[step(changed)]).unwrap_err()
}

#[test]
fn what_is_no_intent_of_ours_is_refused() {
    assert!(built(&[]).unwrap_err().contains("not exactly one"));
    assert!(built(&[step(intent(1)), step(intent(1))]).unwrap_err().contains("not exactly one"));
    assert!(refusal_of(|i| i.kind = IntentKind::Heal).contains("an intent to heal"));
    assert!(refusal_of(|i| i.scope = Scope::Segment(state::segment_id(1))).contains("no borrower"));
    assert!(refusal_of(|i| i.scope = Scope::Unit(UnitKey::new(vec![1]).unwrap())).contains("no borrower"));
    assert!(refusal_of(|i| i.scope = Scope::Unit(key(0, 2))).contains("of another market"));
    assert!(refusal_of(|i| i.payload = Bytes::from_static(&[1, 2])).contains("payload"));
    let amounts = |seized: u128, shares: u128| {
        let payload = Payload { marketParams: params(1), seizedAssets: uint(seized), repaidShares: uint(shares) };
        let mut changed = intent(900_000);
        changed.payload = payload.abi_encode().into();
        built(&[step(changed)])
    };
    assert!(amounts(0, 0).unwrap_err().contains("exactly one"));
    assert!(amounts(1, 1).unwrap_err().contains("exactly one"));
    let mut composed = step(intent(900_000));
    composed.action = Action::DrawInsurance { amount: uint(1) };
    assert!(built(&[composed]).unwrap_err().contains("not exactly one"));
}

#[test]
fn a_liquidation_tells_what_moved_and_who_lost() {
    let chain = Chain::opened();
    let logs = [
        accrued(1, 5, 0),
        liquidated(1, 2, [846, 846_000_000, 900, 154, 154_000_000]),
        Log { address: LOAN, ..liquidated(1, 3, [1, 1, 1, 1, 1]) },
        liquidated(0, 3, [10, 10_000_000, 12, 0, 0]),
    ];
    let unit = key(1, 2);
    let expected = vec![
        Effect::Repaid { unit: unit.clone(), asset: LOAN, amount: uint(846) },
        Effect::Seized { unit: unit.clone(), asset: COLLATERAL, amount: uint(900) },
        Effect::BadDebt { scope: Scope::Unit(unit.clone()), asset: LOAN, amount: uint(154) },
        Effect::LossSocialised { unit, payer: state::unit_key(id(1), Address::ZERO), amount: uint(154) },
        Effect::Repaid { unit: key(0, 3), asset: LOAN, amount: uint(10) },
        Effect::Seized { unit: key(0, 3), asset: COLLATERAL, amount: uint(12) },
    ];
    assert_eq!(chain.adapter.effects(&chain.snapshot.book, &logs), expected);
    assert_eq!(chain.adapter.effects(&Book::default(), &logs[..1]), []);
}

#[test]
fn pinned_code_and_the_models_singleton_are_guarded() {
    assert_eq!(MorphoBlue::new(Settings { adaptive_curve_irm: None, ..settings() }).manifest(owner(1)).guards, []);
    let (code, irm_code) = (B256::repeat_byte(1), B256::repeat_byte(2));
    let pinned = Settings { morpho_code_hash: Some(code), adaptive_curve_irm_code_hash: Some(irm_code), ..settings() };
    let checks: Vec<_> = MorphoBlue::new(pinned).manifest(owner(1)).guards.into_iter().map(|g| g.check).collect();
    let serves = GuardCheck::Call {
        call: crate::types::Call::new(CURVE_IRM, IIrm::MORPHOCall {}.abi_encode()),
        expected: MORPHO.abi_encode().into(),
    };
    assert_eq!(
        checks,
        [
            GuardCheck::CodeHash { address: MORPHO, expected: code },
            serves,
            GuardCheck::CodeHash { address: CURVE_IRM, expected: irm_code },
        ]
    );
}

#[test]
fn units_are_found_by_key_by_owner_and_by_market_and_owner() {
    let mut chain = Chain::opened();
    chain.block(&[secure(0, 2, 1), secure(1, 2, 1), secure(1, 3, 1)]);
    let found = |word: String| chain.adapter.find_units(&chain.snapshot.book, &word);
    assert_eq!(found(key(1, 2).to_string()), [key(1, 2)]);
    assert_eq!(found(owner(2).to_string()).len(), 2);
    assert_eq!(found(format!("1/{}", owner(2))), [key(1, 2)]);
    for nobody in [format!("2/{}", owner(2)), format!("x/{}", owner(2)), key(2, 9).to_string(), "me".to_owned()] {
        assert_eq!(found(nobody), []);
    }
}

#[test]
fn probes_say_what_the_cache_says() {
    let mut chain = Chain::opened();
    chain.block(&[secure(0, 2, 7), borrow(0, 2, 3, 3_000_000), secure(1, 2, 1)]);
    let units = [key(0, 2), key(0, 9), key(1, 2)];
    let probes = chain.adapter.probes(&chain.snapshot, &units);
    let expected = |subject: &str| {
        let probe = probes.iter().find(|probe| probe.subject.starts_with(subject)).unwrap();
        probe.expected.clone()
    };
    let position = (U256::ZERO, uint(3_000_000), uint(7)).abi_encode();
    assert_eq!(expected(&format!("position of {} in market {}", owner(2), id(0))), position);
    assert_eq!(expected(&format!("position of {}", owner(9))), (U256::ZERO, U256::ZERO, U256::ZERO).abi_encode());
    let totals = IMorpho::marketCall::abi_decode_returns(&expected(&format!("totals of market {}", id(0)))).unwrap();
    assert_eq!((totals.totalBorrowAssets, totals.lastUpdate), (3, GENESIS.into()));
    assert_eq!(expected("price of oracle"), one().abi_encode());
    assert_eq!(expected("fee recipient"), Address::ZERO.abi_encode());
    let rate: U256 = U256::abi_decode(&expected("borrow rate of market")).unwrap();
    assert!(rate > U256::ZERO && rate < uint(INITIAL_AT_TARGET.into()));
    assert_eq!(expected(&format!("totals of market {}", id(1))).len(), 4 * 32, "two words of storage as a list");
    assert_eq!(probes.len(), 1 + 3 + 2 + 2, "markets once each");
}

#[test]
fn the_registry_opens_it_by_its_word() {
    let settings = serde_json::json!({ "morpho": MORPHO.to_string(), "markets": "all" });
    let adapter = protocols::adapter("morpho_blue", settings).unwrap();
    assert_eq!(adapter.manifest(owner(1)).adapter, "morpho_blue");
    let error = protocols::adapter("morpho_blue", serde_json::json!({ "morpho": "x" })).err().unwrap();
    assert!(error.to_string().starts_with("protocol: "), "{error}");
}
