//! Everything that a plan is made from, in one value that can be kept and decided from again.
//!
//! Invariants: [`Decision::plan`] looks at nothing but the decision, so the same decision gives the same plan in every
//! process of one build; what is written reads back as the same value.
//! Must not: hold a plan.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    BalancedPlan, Imbalance, MarketCase, Reservations, SegmentCase, Step, Terms, Tier, TierSettings, adl_policy,
    limits, plan_offered, plan_with, state::Violation,
};
use crate::types::{MarketId, UnitKey};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The segment as it stands.
    pub case: SegmentCase,
    /// The waterfall, in order.
    pub tiers: Vec<TierSettings>,
    /// The deleveraging policy, by the word it is registered under.
    pub adl_policy: String,
    /// What intents are judged by; `None` where the planner composes steps from positions.
    pub terms: Option<Terms>,
    /// What must be left alone, and what limits are counted against.
    pub reservations: Reservations,
}

impl Decision {
    /// Decides, and leaves with the plan what it was made from. Where liquidation and the insurance fund are enough, nobody who
    /// only stands by is looked at: they can be many times the rest, and the same comes of it.
    pub fn decide(self) -> Result<BalancedPlan, Imbalance> {
        if self.terms.is_none() {
            limits::check(&self.case)?;
            let narrow = self.without_bystanders();
            if let Ok(mut plan) = narrow.plan()
                && needs_no_bystander(&plan)
            {
                plan.decision = Some(Arc::new(narrow));
                return Ok(plan);
            }
        }
        let mut plan = self.plan()?;
        plan.decision = Some(Arc::new(self));
        Ok(plan)
    }

    /// What of it is enough to make this plan of its own again: without those who only stand by, where the same comes of it
    /// without them.
    fn enough_for(&self, plan: &BalancedPlan) -> Cow<'_, Self> {
        if self.has_no_bystanders() {
            return Cow::Borrowed(self);
        }
        let narrow = self.without_bystanders();
        let enough = narrow.plan().is_ok_and(|mut same| {
            same.decision.clone_from(&plan.decision);
            same == *plan
        });
        if enough { Cow::Owned(narrow) } else { Cow::Borrowed(self) }
    }

    /// The same without the solvent units that no order is of, and without holders: what a plan is made from as long as nobody
    /// pays for others and no margin is moved. They can be many times the rest.
    fn without_bystanders(&self) -> Self {
        let case = &self.case;
        let makers = self.makers().filter_map(|maker| case.solvent.get_key_value(maker));
        let without_holders = |(id, market): (&MarketId, &MarketCase)| {
            let MarketCase { buys, sells, margin_bounds, .. } = market;
            let (buys, sells, margin_bounds) = (buys.clone(), sells.clone(), *margin_bounds);
            (*id, MarketCase { buys, sells, margin_bounds, holders: BTreeMap::new(), ..*market })
        };
        let case = SegmentCase {
            markets: case.markets.iter().map(without_holders).collect(),
            distressed: case.distressed.clone(),
            solvent: makers.map(|(key, unit)| (key.clone(), unit.clone())).collect(),
            blocked: case.blocked.clone(),
            measures: case.measures.clone(),
            offered: case.offered.clone(),
            ..*case
        };
        let (tiers, adl_policy) = (self.tiers.clone(), self.adl_policy.clone());
        Self { case, tiers, adl_policy, terms: self.terms.clone(), reservations: self.reservations.clone() }
    }

    fn makers(&self) -> impl Iterator<Item = &UnitKey> {
        let orders = self.case.markets.values().flat_map(|market| market.buys.iter().chain(&market.sells));
        orders.map(|order| &order.maker)
    }

    fn has_no_bystanders(&self) -> bool {
        let makers: BTreeSet<&UnitKey> = self.makers().filter(|maker| self.case.solvent.contains_key(maker)).collect();
        makers.len() == self.case.solvent.len() && self.case.markets.values().all(|market| market.holders.is_empty())
    }

    /// Decides.
    pub fn plan(&self) -> Result<BalancedPlan, Imbalance> {
        if let Some(terms) = &self.terms {
            return plan_offered(&self.case, &self.tiers, terms, &self.reservations);
        }
        let unknown = || Violation::Case(format!("no deleveraging policy is called {:?}", self.adl_policy));
        let policy = adl_policy(&self.adl_policy).ok_or_else(unknown)?;
        plan_with(&self.case, &self.tiers, policy, &self.reservations)
    }
}

/// Whether a plan that was made without those who only stand by is the one that would be made with them: all loss is borne
/// before anybody else could be asked, and nothing is left to be said.
fn needs_no_bystander(plan: &BalancedPlan) -> bool {
    let early = |step: &Step| matches!(step.tier, Tier::Liquidate | Tier::InsuranceFund);
    plan.ledger.residual.is_zero() && plan.notes.is_empty() && plan.steps.iter().all(early)
}

impl BalancedPlan {
    /// What is to be written down with it, so that it can be made again; `None` where it was not decided from one value.
    pub fn kept_decision(&self) -> Option<Cow<'_, Decision>> {
        self.decision.as_deref().map(|decision| decision.enough_for(self))
    }
}
