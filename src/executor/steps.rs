//! From a plan's steps to transactions: which steps go together, and what they touch. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use crate::{
    journal::Touches,
    recovery::{Action, Effect, Promise, PromiseKind, Reservations, Scope, Step, Tier},
    types::{SegmentId, U256, UnitKey},
};

/// Cuts steps into transactions, in order: adjacent steps of one unit are one, every parameter change is its own.
pub(super) fn groups(steps: &[Step]) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        match groups.last_mut() {
            Some(last) if step.unit.is_some() && steps[last.start].unit == step.unit => last.end = index + 1,
            _ => groups.push(index..index + 1),
        }
    }
    groups
}

/// Joins adjacent groups whose intents are of one batch, as many as the batch allows: ranges of groups.
pub(super) fn batches(steps: &[Step], groups: &[Range<usize>]) -> Vec<Range<usize>> {
    let batch_of = |group: &Range<usize>| match &steps[group.start].action {
        Action::Intent(intent) if group.len() == 1 => intent.batch,
        _ => None,
    };
    let mut joined: Vec<Range<usize>> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let batch = batch_of(group);
        match joined.last_mut() {
            Some(last)
                if batch.is_some_and(|batch| {
                    batch_of(&groups[last.start]).is_some_and(|first| first.id == batch.id)
                        && last.len() < usize::try_from(batch.len_max).unwrap_or(usize::MAX)
                }) =>
            {
                last.end = index + 1;
            }
            _ => joined.push(index..index + 1),
        }
    }
    joined
}

/// Everything a transaction of these steps reads and writes that another plan could count on.
pub(super) fn touches(segment: SegmentId, steps: &[Step]) -> Touches {
    let mut units: BTreeSet<UnitKey> = BTreeSet::new();
    let mut markets = BTreeSet::new();
    let mut fund_draw = U256::ZERO;
    let (mut scopes, mut capital) = (BTreeSet::new(), BTreeMap::new());
    for step in steps {
        units.extend(step.unit.clone());
        match &step.action {
            Action::Close { fills, .. } => units.extend(fills.iter().map(|fill| fill.maker.clone())),
            Action::DrawInsurance { amount } => fund_draw = fund_draw.saturating_add(*amount),
            Action::Deleverage { winners, .. } => units.extend(winners.iter().map(|winner| winner.unit.clone())),
            Action::Socialise { payers } => units.extend(payers.iter().map(|payer| payer.unit.clone())),
            Action::SetMargin { market, .. } => {
                markets.insert(*market);
            }
            Action::Gate { shut_for, .. } => {
                units.extend(shut_for.clone());
                scopes.insert(Scope::Segment(segment));
            }
            // The pool shows what it is asked to the next plan only once it is on chain.
            Action::ClaimBackstop { .. } | Action::DrawBackstop { .. } => {}
            Action::Restitute { claimants } => {
                units.extend(claimants.iter().map(|claimant| claimant.unit.clone()));
                fund_draw = claimants.iter().fold(fund_draw, |sum, claimant| sum.saturating_add(claimant.amount));
                scopes.insert(Scope::Segment(segment));
            }
            Action::Intent(intent) => {
                scopes.insert(intent.scope.clone());
                for need in &intent.capital {
                    let taken = capital.entry(need.token).or_insert(U256::ZERO);
                    *taken = taken.saturating_add(need.amount);
                }
            }
        }
    }
    Touches { segment, units, fund_draw, markets, scopes, capital }
}

/// What a plan must leave alone while transactions with these touches are in flight.
pub(super) fn reservations<'a>(touched: impl Iterator<Item = &'a Touches>) -> Reservations {
    let mut reserved = Reservations::default();
    for touches in touched {
        reserved.units.extend(touches.units.iter().cloned());
        reserved.markets.extend(touches.markets.iter().copied());
        reserved.scopes.extend(touches.scopes.iter().cloned());
        for (token, amount) in &touches.capital {
            let taken = reserved.capital.entry(*token).or_default();
            *taken = taken.saturating_add(*amount);
        }
        if !touches.fund_draw.is_zero() {
            let draw = reserved.fund.entry(touches.segment).or_default();
            *draw = draw.saturating_add(touches.fund_draw);
        }
    }
    reserved
}

/// Compares what a transaction did with what its steps promised: for composed steps the tiers that take money from others
/// than the unit itself, to the last unit; for intents their promises; and nothing for anybody whom no step names. The
/// sentence says what differs.
pub(super) fn promise_broken(steps: &[Step], effects: &[Effect]) -> Option<String> {
    let named: BTreeSet<Scope> = steps.iter().flat_map(subjects).collect();
    if let Some(stranger) = effects.iter().filter_map(Effect::scope).find(|scope| !named.contains(scope)) {
        return Some(format!("simulation acts on {stranger}, which the plan does not name"));
    }
    if let Some(broken) = steps.iter().find_map(|step| intent_broken(step, effects)) {
        return Some(broken);
    }
    // An intent's own promises are its bounds: interest may accrue until it executes.
    if steps.iter().all(|step| matches!(step.action, Action::Intent(_))) {
        return None;
    }
    if let Some(broken) = restitution_broken(steps, effects).or_else(|| claim_broken(steps, effects)) {
        return Some(broken);
    }
    let mut planned: BTreeMap<Tier, U256> = BTreeMap::new();
    for step in steps {
        add(&mut planned, step.tier, step.absorbs);
    }
    let mut simulated: BTreeMap<Tier, U256> = BTreeMap::new();
    for effect in effects {
        let (tier, absorbed) = effect.absorbed();
        add(&mut simulated, tier, absorbed);
    }
    const PAYING: [Tier; 4] = [Tier::InsuranceFund, Tier::AutoDeleverage, Tier::SharedBackstop, Tier::SocialiseLoss];
    PAYING.into_iter().find_map(|tier| {
        let of = |amounts: &BTreeMap<Tier, U256>| amounts.get(&tier).copied().unwrap_or_default();
        let (found, said) = (of(&simulated), of(&planned));
        (found != said).then(|| format!("{tier:?}: simulation absorbs {found}, plan says {said}"))
    })
}

/// What a step acts on; nothing for a parameter.
fn subjects(step: &Step) -> Vec<Scope> {
    match &step.action {
        Action::Intent(intent) => vec![intent.scope.clone()],
        Action::Restitute { claimants } => claimants.iter().map(|c| Scope::Unit(c.unit.clone())).collect(),
        _ => step.unit.clone().map(Scope::Unit).into_iter().collect(),
    }
}

/// Whether somebody is paid back another amount than planned.
fn restitution_broken(steps: &[Step], effects: &[Effect]) -> Option<String> {
    let mut open: BTreeMap<&UnitKey, U256> = BTreeMap::new();
    for step in steps {
        if let Action::Restitute { claimants } = &step.action {
            open.extend(claimants.iter().map(|claimant| (&claimant.unit, claimant.amount)));
        }
    }
    for effect in effects {
        if let Effect::Restituted { unit, amount } = effect
            && open.remove(unit) != Some(*amount)
        {
            return Some(format!("simulation pays {unit} back {amount}, which is not planned"));
        }
    }
    open.into_iter().next().map(|(unit, amount)| format!("simulation does not pay {unit} back the planned {amount}"))
}

/// Whether another claim is made on the backstop pool than planned.
fn claim_broken(steps: &[Step], effects: &[Effect]) -> Option<String> {
    let planned = steps.iter().filter_map(|step| match (&step.unit, &step.action) {
        (Some(unit), Action::ClaimBackstop { amount }) => Some((unit, *amount)),
        _ => None,
    });
    let made = effects.iter().filter_map(|effect| match effect {
        Effect::BackstopClaimed { unit, amount } => Some((unit, *amount)),
        _ => None,
    });
    let (planned, made) = (planned.collect::<BTreeMap<_, _>>(), made.collect::<BTreeMap<_, _>>());
    (planned != made).then(|| format!("simulation claims {made:?} of the backstop pool, planned is {planned:?}"))
}

/// The first promise of an intent that the effects on its scope do not keep.
fn intent_broken(step: &Step, effects: &[Effect]) -> Option<String> {
    let Action::Intent(intent) = &step.action else { return None };
    let here = || effects.iter().filter(|effect| effect.scope().as_ref() == Some(&intent.scope));
    intent.promises.iter().find_map(|promise| {
        let found = here().fold(U256::ZERO, |sum, effect| sum.saturating_add(measure(promise, effect)));
        let kept = promise.min <= found && found <= promise.max;
        (!kept).then(|| {
            let (kind, min, max) = (promise.kind, promise.min, promise.max);
            format!("{kind:?} of {}: simulation gives {found}, promised {min} to {max}", intent.scope)
        })
    })
}

/// What an effect adds to a promise's sum.
fn measure(promise: &Promise, effect: &Effect) -> U256 {
    let (kind, asset, amount) = match effect {
        Effect::Repaid { asset, amount, .. } => (PromiseKind::Repaid, Some(*asset), *amount),
        Effect::Seized { asset, amount, .. } => (PromiseKind::Seized, Some(*asset), *amount),
        Effect::BadDebt { asset, amount, .. } => (PromiseKind::BadDebt, Some(*asset), *amount),
        Effect::Covered { asset, amount, .. } => (PromiseKind::Covered, Some(*asset), *amount),
        Effect::Staged { .. } => (PromiseKind::Staged, None, U256::ONE),
        _ => return U256::ZERO,
    };
    let counts = kind == promise.kind && (promise.asset.is_none() || promise.asset == asset);
    if counts { amount } else { U256::ZERO }
}

fn add(amounts: &mut BTreeMap<Tier, U256>, tier: Tier, amount: U256) {
    let sum = amounts.entry(tier).or_default();
    *sum = sum.saturating_add(amount);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        recovery::{Batch, Contribution, Deleveraging, Fill, Intent, IntentKind, TokenNeed},
        types::{Address, MarketId},
    };

    fn unit(id: u8) -> UnitKey {
        UnitKey::new(vec![id]).unwrap()
    }

    fn amount(x: u64) -> U256 {
        U256::from(x)
    }

    fn step(of: Option<u8>, tier: Tier, action: Action, absorbs: u64) -> Step {
        Step { tier, unit: of.map(unit), action, absorbs: amount(absorbs), why: "a test".into() }
    }

    fn close(of: u8, maker: u8) -> Step {
        let fill = Fill { order: 1, maker: unit(maker), lots: amount(2), price: amount(3) };
        step(Some(of), Tier::Liquidate, Action::Close { market: MarketId(1), fills: vec![fill] }, 5)
    }

    fn draw(of: u8, x: u64) -> Step {
        step(Some(of), Tier::InsuranceFund, Action::DrawInsurance { amount: amount(x) }, x)
    }

    fn deleverage(of: u8, winner: u8, x: u64) -> Step {
        let winners =
            vec![Deleveraging { unit: unit(winner), lots: amount(1), loss: amount(x), loss_max: amount(x + 1) }];
        step(Some(of), Tier::AutoDeleverage, Action::Deleverage { market: MarketId(1), winners }, x)
    }

    fn socialise(of: u8, payer: u8, x: u64) -> Step {
        let payers = vec![Contribution { unit: unit(payer), amount: amount(x) }];
        step(Some(of), Tier::SocialiseLoss, Action::Socialise { payers }, x)
    }

    fn margin(market: u32) -> Step {
        let action = Action::SetMargin {
            market: MarketId(market),
            maintenance_margin_bps: 500,
            initial_margin_bps: 1_000,
            tipped_max: 0,
        };
        step(None, Tier::Recalibrate, action, 0)
    }

    #[test]
    fn steps_of_one_unit_go_together_and_parameter_changes_alone() {
        let steps = [draw(1, 5), close(1, 9), close(2, 9), margin(1), margin(2), draw(3, 1)];
        assert_eq!(groups(&steps), [0..2, 2..3, 3..4, 4..5, 5..6]);
        assert!(groups(&[]).is_empty());
    }

    /// An intent on a unit that promises to repay 10 and needs as much.
    fn intent(of: u8, batch: Option<Batch>) -> Step {
        let asset = Address::repeat_byte(0x70);
        let intent = Intent {
            kind: IntentKind::Liquidate,
            scope: Scope::Unit(unit(of)),
            payload: Default::default(),
            tier: Tier::Liquidate,
            absorbs: U256::ZERO,
            deepens: U256::ZERO,
            implicit: Vec::new(),
            promises: vec![Promise { kind: PromiseKind::Repaid, asset: Some(asset), min: amount(9), max: amount(10) }],
            reward: U256::ZERO,
            cost: U256::ZERO,
            swapped: U256::ZERO,
            gas: 1,
            capital: vec![TokenNeed { token: asset, amount: amount(10), spender: None }],
            bad_debt: false,
            not_before: 0,
            batch,
            why: "a test".into(),
        };
        step(Some(of), Tier::Liquidate, Action::Intent(Box::new(intent)), 0)
    }

    #[test]
    fn intents_of_one_batch_share_a_call_up_to_its_length() {
        let batch = |id| Some(Batch { id, len_max: 2 });
        let steps =
            [intent(1, batch(1)), intent(2, batch(1)), intent(3, batch(1)), intent(4, batch(2)), intent(5, None)];
        let groups = groups(&steps);
        assert_eq!(groups.len(), 5);
        assert_eq!(batches(&steps, &groups), [0..2, 2..3, 3..4, 4..5]);
        let composed = [close(1, 9), close(2, 9)];
        assert_eq!(batches(&composed, &super::groups(&composed)), [0..1, 1..2]);
    }

    #[test]
    fn an_intent_reserves_its_scope_and_its_capital_and_keeps_its_promise() {
        let steps = [intent(1, None), intent(2, None)];
        let touched = touches(SegmentId(6), &steps);
        let asset = Address::repeat_byte(0x70);
        assert_eq!(touched.capital, BTreeMap::from([(asset, amount(20))]));
        assert_eq!(touched.scopes, BTreeSet::from([Scope::Unit(unit(1)), Scope::Unit(unit(2))]));
        let reserved = reservations([&touched, &touched].into_iter());
        assert_eq!((reserved.capital[&asset], reserved.scopes.len()), (amount(40), 2));
        let repaid = |of, asset, x| Effect::Repaid { unit: unit(of), asset, amount: amount(x) };
        assert_eq!(promise_broken(&steps, &[repaid(1, asset, 9), repaid(2, asset, 10)]), None);
        let broken = [
            vec![repaid(1, asset, 8), repaid(2, asset, 10)],
            vec![repaid(1, asset, 11), repaid(2, asset, 10)],
            vec![repaid(1, asset, 9)],
            vec![repaid(1, Address::ZERO, 9), repaid(2, asset, 9)],
            vec![repaid(1, asset, 9), repaid(2, asset, 9), repaid(3, asset, 9)],
        ];
        for effects in broken {
            assert!(promise_broken(&steps, &effects).is_some(), "{effects:?}");
        }
    }

    #[test]
    fn touches_name_every_party() {
        let steps = [draw(1, 5), draw(1, 2), close(1, 9), deleverage(1, 8, 3), socialise(1, 7, 4), margin(4)];
        let touched = touches(SegmentId(6), &steps);
        assert_eq!(touched.units, [1, 7, 8, 9].map(unit).into());
        assert_eq!((touched.fund_draw, &touched.markets), (amount(7), &[MarketId(4)].into()));
        let other = touches(SegmentId(6), &[draw(2, 10)]);
        let reserved = reservations([&touched, &other].into_iter());
        assert_eq!(reserved.fund, BTreeMap::from([(SegmentId(6), amount(17))]));
        assert_eq!(reserved.units, BTreeSet::from([unit(1), unit(2), unit(7), unit(8), unit(9)]));
        assert_eq!(reserved.markets, BTreeSet::from([MarketId(4)]));
        assert_eq!(reservations([].into_iter()), Reservations::default());
    }

    #[test]
    fn a_promise_is_kept_to_the_last_unit_or_broken() {
        let steps = [draw(1, 5), deleverage(1, 8, 3), socialise(1, 7, 4)];
        let kept = |drawn, deleveraged, socialised| {
            vec![
                Effect::Liquidated { unit: unit(1), loss: amount(77), fee: amount(1) },
                Effect::InsuranceDrawn { unit: unit(1), amount: amount(drawn) },
                Effect::Deleveraged { unit: unit(1), winner: unit(8), loss: amount(deleveraged) },
                Effect::LossSocialised { unit: unit(1), payer: unit(7), amount: amount(socialised) },
            ]
        };
        assert_eq!(promise_broken(&steps, &kept(5, 3, 4)), None);
        for (drawn, deleveraged, socialised) in [(4, 3, 4), (6, 3, 4), (5, 2, 4), (5, 4, 4), (5, 3, 3), (5, 3, 5)] {
            assert!(promise_broken(&steps, &kept(drawn, deleveraged, socialised)).is_some());
        }
        assert_eq!(promise_broken(&steps, &[]).as_deref(), Some("InsuranceFund: simulation absorbs 0, plan says 5"));
        let stranger = [Effect::InsuranceDrawn { unit: unit(2), amount: amount(5) }];
        assert!(promise_broken(&[draw(1, 5)], &stranger).unwrap().contains("0x02"));
        assert_eq!(promise_broken(&[margin(1)], &[Effect::ParameterSet { what: "m".into() }]), None);
    }
}
