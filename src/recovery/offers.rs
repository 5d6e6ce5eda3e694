//! The walk over what a protocol offers: intents by tier, as limits, capital and policy allow, with the ledger they make.
//!
//! Invariants: tiers in configured order, within a tier the adapter's order; one intent per scope and plan; what is not
//! taken leaves a note. The check recomputes the ledger from the case alone. Must not: make or change an intent.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::U256;

use super::{
    Action, BalancedPlan, Imbalance, Intent, Ledger, Offered, Reservations, Scope, SegmentCase, Shortage, Step, Terms,
    Tier, TierSettings,
    policy::Capital,
    replay::add_up,
    state::{Violation, refuse_if},
    tier::{Allowance, Bound},
};
use crate::types::{
    UnitKey,
    math::{negative_part, positive_part},
};

/// Chooses intents and keeps the ledger.
pub(super) fn walk(
    case: &SegmentCase,
    offered: &Offered,
    settings: &[TierSettings],
    terms: &Terms,
    reservations: &Reservations,
) -> Result<BalancedPlan, Violation> {
    let left_alone = left_alone(case, reservations);
    let mut work = Work {
        books: Books::of(case, offered, &left_alone)?,
        terms,
        capital: Capital::new(terms, &reservations.capital),
        settings,
        steps: Vec::new(),
        outlays: Vec::new(),
        notes: Vec::new(),
        shortages: BTreeSet::new(),
        spent_wei: U256::ZERO,
    };
    if let Some(reason) = &case.blocked {
        work.notes.push(format!("nothing can be sent in this segment: {reason}"));
    } else {
        let mut spirals = Vec::new();
        for (place, tier) in settings.iter().enumerate() {
            for intent in offered.intents.iter().filter(|intent| intent.tier == tier.tier) {
                match better_than_spiral(offered, &settings[place + 1..], intent) {
                    Some(later) => spirals.push((intent, later)),
                    None => work.consider(case, intent, reservations)?,
                }
            }
        }
        for (intent, later) in spirals {
            work.fall_back(case, intent, later, reservations)?;
        }
        let unlisted = offered.intents.iter().filter(|i| settings.iter().all(|s| s.tier != i.tier));
        for intent in unlisted {
            work.notes.push(format!("{} of {}: tier {} is not configured", kind(intent), intent.scope, intent.tier));
        }
    }
    Ok(work.finish(case, left_alone))
}

/// The toxic-spiral guard. Where the bonus comes out of a unit without equity (loan to value times one plus the bonus is
/// above 1), each liquidation leaves a larger hole than it found. Then the unit is left to a later tier that is offered
/// for it and deepens nothing.
fn better_than_spiral(offered: &Offered, later: &[TierSettings], intent: &Intent) -> Option<Tier> {
    let spirals = intent.tier == Tier::Liquidate && !intent.deepens.is_zero();
    let fits = |other: &&Intent| {
        other.scope == intent.scope && other.deepens.is_zero() && later.iter().any(|tier| tier.tier == other.tier)
    };
    offered.intents.iter().filter(|_| spirals).find(fits).map(|other| other.tier)
}

/// Holds a plan of intents against the case: every step is one of its offers, and the sums are made again from the case.
pub(super) fn check(case: &SegmentCase, offered: &Offered, plan: &BalancedPlan) -> Result<(), Imbalance> {
    let mut books = Books::of(case, offered, &plan.left_alone)?;
    let same = case.segment == plan.segment && case.block == plan.block;
    refuse_if(!same, || "the plan is of another segment or block".to_owned())?;
    refuse_if(case.blocked.is_some() && !plan.steps.is_empty(), || "the segment is blocked".to_owned())?;
    for (index, step) in plan.steps.iter().enumerate() {
        let why = |why| Imbalance::Impossible { step: index, why };
        let intent = offer_of(offered, step).map_err(why)?;
        if step.absorbs != intent.absorbs {
            return Err(Imbalance::Step { step: index, claimed: step.absorbs, actual: intent.absorbs });
        }
        books.book(intent).map_err(why)?;
    }
    add_up(plan, &books.absorbed, books.shortfall, books.residual())
}

/// The offer that a step takes up.
fn offer_of<'o>(offered: &'o Offered, step: &Step) -> Result<&'o Intent, Violation> {
    let Action::Intent(taken) = &step.action else {
        return Err(Violation::Refused("a step that the protocol does not offer".to_owned()));
    };
    let fitting = step.tier == taken.tier && step.unit.as_ref() == taken.scope.unit();
    refuse_if(!fitting, || format!("tier and unit are not those of its intent on {}", taken.scope))?;
    let offer = offered.intents.iter().find(|offer| *offer == taken.as_ref());
    offer.ok_or_else(|| Violation::Refused(format!("{} of {} is not offered", kind(taken), taken.scope)))
}

fn left_alone(case: &SegmentCase, reservations: &Reservations) -> BTreeSet<UnitKey> {
    let units = case.distressed.iter().map(|distressed| &distressed.unit);
    units.filter(|unit| in_flight(&Scope::Unit((*unit).clone()), reservations)).cloned().collect()
}

fn in_flight(scope: &Scope, reservations: &Reservations) -> bool {
    let unit = scope.unit().is_some_and(|unit| reservations.units.contains(unit));
    unit || reservations.scopes.contains(scope)
}

fn kind(intent: &Intent) -> &'static str {
    intent.kind.as_str()
}

/// Holes and deficits as intents change them.
struct Books<'a> {
    /// What units can still pay themselves.
    equity: BTreeMap<&'a UnitKey, U256>,
    /// What is open, by scope.
    open: BTreeMap<Scope, U256>,
    absorbed: BTreeMap<Tier, U256>,
    shortfall: U256,
    /// Scopes that an intent acts on.
    done: BTreeSet<Scope>,
}

impl<'a> Books<'a> {
    fn of(case: &'a SegmentCase, offered: &Offered, left_alone: &BTreeSet<UnitKey>) -> Result<Self, Violation> {
        let mut books = Self {
            equity: BTreeMap::new(),
            open: BTreeMap::new(),
            absorbed: BTreeMap::new(),
            shortfall: U256::ZERO,
            done: BTreeSet::new(),
        };
        for unit in case.distressed.iter().filter(|unit| !left_alone.contains(&unit.unit)) {
            let twice = books.equity.insert(&unit.unit, positive_part(unit.equity)).is_some();
            refuse_if(twice, || format!("{} is distressed twice", unit.unit))?;
            books.deepen(&Scope::Unit(unit.unit.clone()), negative_part(unit.equity))?;
        }
        for deficit in &offered.deficits {
            books.deepen(&deficit.scope, deficit.amount)?;
        }
        Ok(books)
    }

    fn deepen(&mut self, scope: &Scope, amount: U256) -> Result<(), Violation> {
        if amount.is_zero() {
            return Ok(());
        }
        let open = self.open.entry(scope.clone()).or_default();
        *open = sum(*open, amount)?;
        self.shortfall = sum(self.shortfall, amount)?;
        Ok(())
    }

    fn absorb(&mut self, scope: &Scope, tier: Tier, amount: U256) -> Result<(), Violation> {
        if amount.is_zero() {
            return Ok(());
        }
        let open = self.open.entry(scope.clone()).or_default();
        let left = open.checked_sub(amount);
        *open = left.ok_or_else(|| Violation::Refused(format!("tier {tier} absorbs more than is open on {scope}")))?;
        let absorbed = self.absorbed.entry(tier).or_default();
        *absorbed = sum(*absorbed, amount)?;
        Ok(())
    }

    /// Books what an intent says it does, if the books allow it.
    fn book(&mut self, intent: &Intent) -> Result<(), Violation> {
        let scope = &intent.scope;
        refuse_if(!self.done.insert(scope.clone()), || format!("{scope} is acted on twice"))?;
        if intent.tier == Tier::Liquidate {
            let own = scope.unit().and_then(|unit| self.equity.get(unit).copied()).unwrap_or_default();
            refuse_if(intent.absorbs > own, || format!("{scope} pays {} out of {own}", intent.absorbs))?;
            let early = !intent.deepens.is_zero() && intent.absorbs != own;
            refuse_if(early, || format!("{scope} opens a shortfall before its own margin is used up"))?;
            self.shortfall = sum(self.shortfall, intent.absorbs)?;
            let absorbed = self.absorbed.entry(Tier::Liquidate).or_default();
            *absorbed = sum(*absorbed, intent.absorbs)?;
            self.deepen(scope, intent.deepens)?;
        } else {
            refuse_if(!intent.deepens.is_zero(), || format!("tier {} deepens a shortfall", intent.tier))?;
            self.absorb(scope, intent.tier, intent.absorbs)?;
        }
        intent.implicit.iter().try_for_each(|implicit| self.absorb(scope, implicit.tier, implicit.amount))
    }

    fn residual(&self) -> U256 {
        // Part of the shortfall, whose sum was checked.
        self.open.values().fold(U256::ZERO, |sum, open| sum + *open)
    }
}

fn sum(a: U256, b: U256) -> Result<U256, Violation> {
    a.checked_add(b).ok_or_else(|| Violation::Case("a sum of losses does not fit 256 bits".to_owned()))
}

/// A plan being made.
struct Work<'a> {
    books: Books<'a>,
    terms: &'a Terms,
    capital: Capital<'a>,
    settings: &'a [TierSettings],
    steps: Vec<Step>,
    outlays: Vec<U256>,
    notes: Vec<String>,
    shortages: BTreeSet<Shortage>,
    spent_wei: U256,
}

impl Work<'_> {
    /// Takes the intent up, or notes why not.
    fn consider(&mut self, case: &SegmentCase, intent: &Intent, reservations: &Reservations) -> Result<(), Violation> {
        if self.books.done.contains(&intent.scope) {
            return Ok(());
        }
        match self.obstacle(case, intent, reservations) {
            Some(why) => {
                self.notes.push(format!("{} of {} is left: {why}", kind(intent), intent.scope));
                Ok(())
            }
            None => self.take(intent),
        }
    }

    /// Takes up a liquidation that deepens its shortfall after all where the later tier could not have the unit: left
    /// alone, the hole would only grow.
    fn fall_back(
        &mut self,
        case: &SegmentCase,
        intent: &Intent,
        later: Tier,
        reservations: &Reservations,
    ) -> Result<(), Violation> {
        let (what, scope, deepens) = (kind(intent), &intent.scope, intent.deepens);
        if self.books.done.contains(scope) {
            self.notes.push(format!(
                "{what} of {scope} is left: it would deepen the shortfall by {deepens}, tier {later} has it"
            ));
            return Ok(());
        }
        self.consider(case, intent, reservations)
    }

    /// What speaks against it now, apart from money.
    fn obstacle(&self, case: &SegmentCase, intent: &Intent, reservations: &Reservations) -> Option<String> {
        if in_flight(&intent.scope, reservations) {
            return Some("a transaction in flight touches it".to_owned());
        }
        if intent.not_before > case.block.timestamp {
            return Some(format!("the protocol refuses it before second {}", intent.not_before));
        }
        let settings = self.settings.iter().find(|s| s.tier == intent.tier)?;
        let before = reservations.used.get(&(case.segment, intent.tier)).copied().unwrap_or_default();
        let in_plan = self.books.absorbed.get(&intent.tier).copied().unwrap_or_default();
        let Allowance { amount, bound } = settings.allowance(&before, in_plan, case.block.number);
        if intent.absorbs > amount || matches!(bound, Bound::CoolDown { .. }) {
            return Some(format!("its {} are more than tier {} may take: {bound}", intent.absorbs, intent.tier));
        }
        let acted_on = self.steps.iter().filter(|step| step.tier == intent.tier).count();
        let units_max = settings.units_max.and_then(|max| usize::try_from(max).ok());
        units_max.is_some_and(|max| acted_on >= max).then(|| format!("of tier {} {}", intent.tier, Bound::Units))
    }

    fn take(&mut self, intent: &Intent) -> Result<(), Violation> {
        let left = |why: &str| format!("{} of {} is left: {why}", kind(intent), intent.scope);
        let outlay_wei = match self.terms.judge(intent) {
            Ok(outlay_wei) => outlay_wei,
            Err(why) => {
                self.notes.push(left(&why));
                return Ok(());
            }
        };
        let spent_wei = self.spent_wei.saturating_add(outlay_wei);
        if spent_wei > self.terms.budget_left_wei {
            self.notes.push(left("earlier steps of this plan use the budget up"));
            return Ok(());
        }
        if let Err(shortage) = self.capital.take(intent) {
            self.notes.push(left(&shortage.detail));
            self.shortages.insert(shortage);
            return Ok(());
        }
        self.books.book(intent)?;
        self.spent_wei = spent_wei;
        self.outlays.push(outlay_wei);
        self.steps.push(Step {
            tier: intent.tier,
            unit: intent.scope.unit().cloned(),
            absorbs: intent.absorbs,
            why: intent.why.clone(),
            action: Action::Intent(Box::new(intent.clone())),
        });
        Ok(())
    }

    fn finish(self, case: &SegmentCase, left_alone: BTreeSet<UnitKey>) -> BalancedPlan {
        let residual = self.books.residual();
        let Books { absorbed, shortfall, .. } = self.books;
        BalancedPlan {
            segment: case.segment,
            block: case.block,
            steps: self.steps,
            ledger: Ledger { shortfall, absorbed, residual, returned: U256::ZERO },
            left_alone,
            notes: self.notes,
            outlays: self.outlays,
            shortages: self.shortages,
            decision: None,
        }
    }
}
