//! A plan that is off by one unit anywhere is not a balanced plan.

use super::*;

/// Every amount of money that a step names.
fn amounts(step: &mut Step) -> Vec<&mut U256> {
    let mut found = vec![&mut step.absorbs];
    match &mut step.action {
        Action::Close { fills, .. } => found.extend(fills.iter_mut().map(|f| &mut f.price)),
        Action::DrawInsurance { amount } | Action::DrawBackstop { amount } => found.push(amount),
        // To claim less than all is a plan as good as any.
        Action::ClaimBackstop { .. } => {}
        Action::Deleverage { winners, .. } => found.extend(winners.iter_mut().map(|w| &mut w.loss)),
        Action::Socialise { payers } => found.extend(payers.iter_mut().map(|p| &mut p.amount)),
        Action::Restitute { claimants } => found.extend(claimants.iter_mut().map(|c| &mut c.amount)),
        Action::SetMargin { .. } | Action::Gate { .. } | Action::Intent(_) => {}
    }
    found
}

/// The step with each of its amounts in turn one unit higher, and one lower where it is not 0.
fn tamperings(step: &Step) -> Vec<Step> {
    let mut tampered = Vec::new();
    for index in 0..amounts(&mut step.clone()).len() {
        for change in [|x: U256| x.checked_add(U256::ONE), |x: U256| x.checked_sub(U256::ONE)] {
            let mut copy = step.clone();
            let amount = amounts(&mut copy).remove(index);
            if let Some(moved) = change(*amount) {
                *amount = moved;
                tampered.push(copy);
            }
        }
    }
    tampered
}

#[test]
fn one_unit_in_any_amount_of_any_tier_is_found() {
    let mut tried: BTreeMap<Tier, u32> = BTreeMap::new();
    for seed in 0..400 {
        let case = crashed_venue(seed).case();
        let honest = plan(&case, &tiers(&EVERY), &Reservations::default()).unwrap();
        for index in 0..honest.steps.len() {
            for step in tamperings(&honest.steps[index]) {
                let mut forged = honest.clone();
                forged.steps[index] = step;
                assert!(forged.verify(&case).is_err(), "seed {seed}: {:?} passed", forged.steps[index]);
                *tried.entry(honest.steps[index].tier).or_default() += 1;
            }
        }
    }
    for tier in ALL {
        assert!(tried.get(&tier).copied().unwrap_or(0) >= 50, "{tier} hardly tried: {tried:?}");
    }
}

#[test]
fn one_unit_in_any_line_of_the_ledger_is_found() {
    for seed in 0..200 {
        let case = crashed_venue(seed).case();
        let honest = plan(&case, &tiers(&EVERY), &Reservations::default()).unwrap();
        let forge = |change: &dyn Fn(&mut Ledger)| {
            let mut forged = honest.clone();
            change(&mut forged.ledger);
            assert!(forged.verify(&case).is_err(), "seed {seed}: {:?} passed", forged.ledger);
        };
        forge(&|ledger| ledger.shortfall += U256::ONE);
        forge(&|ledger| ledger.residual += U256::ONE);
        for tier in ALL {
            forge(&|ledger| *ledger.absorbed.entry(tier).or_default() += U256::ONE);
            // Moving a unit from the residual to a tier keeps the sum.
            forge(&|ledger| {
                *ledger.absorbed.entry(tier).or_default() += U256::ONE;
                ledger.residual = ledger.residual.wrapping_sub(U256::ONE);
            });
        }
    }
}

#[test]
fn a_plan_is_held_against_its_own_case_only() {
    let case = crashed_venue(3).case();
    let plan = plan(&case, &tiers(&EVERY), &Reservations::default()).unwrap();
    let mut later = case.clone();
    later.block.number += 1;
    assert!(plan.verify(&later).is_err());
    let mut inconsistent = case;
    inconsistent.distressed[0].cash += alloy::primitives::I256::ONE;
    assert!(matches!(plan.verify(&inconsistent), Err(Imbalance::Case(Violation::Case(_)))));
}

#[test]
fn a_step_left_out_or_done_twice_is_found() {
    let mut tried = 0;
    for seed in 0..400 {
        let case = crashed_venue(seed).case();
        let honest = plan(&case, &tiers(&EVERY), &Reservations::default()).unwrap();
        // A close at a profit absorbs nothing; with or without it, the books balance.
        let paying = (0..honest.steps.len()).filter(|i| !honest.steps[*i].absorbs.is_zero());
        for index in paying {
            let mut forged = honest.clone();
            forged.steps.remove(index);
            assert!(forged.verify(&case).is_err(), "seed {seed}: step {index} is not missed");
            let mut twice = honest.clone();
            twice.steps.insert(index, honest.steps[index].clone());
            assert!(twice.verify(&case).is_err(), "seed {seed}: step {index} passed twice");
            tried += 1;
        }
    }
    assert!(tried > 100);
}
