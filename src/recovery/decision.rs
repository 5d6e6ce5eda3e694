//! Everything that a plan is made from, in one value that can be kept and decided from again.
//!
//! Invariants: [`Decision::plan`] looks at nothing but the decision, so the same decision gives the same plan in every
//! process of one build; what is written reads back as the same value.
//! Must not: hold a plan.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    BalancedPlan, Imbalance, MarketCase, Reservations, SegmentCase, Terms, TierSettings, adl_policy, plan_offered,
    plan_with, state::Violation,
};
use crate::types::MarketId;

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
    /// Decides, and leaves with the plan what it was made from.
    pub fn decide(self) -> Result<BalancedPlan, Imbalance> {
        let mut plan = self.plan()?;
        plan.decision = Some(Arc::new(self));
        Ok(plan)
    }

    /// What of it is enough to make this plan of its own again: without those who only stand by, where the same comes of it
    /// without them.
    fn enough_for(&self, plan: &BalancedPlan) -> Cow<'_, Self> {
        if self.case.solvent.is_empty() {
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
        let orders = case.markets.values().flat_map(|market| market.buys.iter().chain(&market.sells));
        let makers = orders.filter_map(|order| case.solvent.get_key_value(&order.maker));
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

impl BalancedPlan {
    /// What is to be written down with it, so that it can be made again; `None` where it was not decided from one value.
    pub fn kept_decision(&self) -> Option<Cow<'_, Decision>> {
        self.decision.as_deref().map(|decision| decision.enough_for(self))
    }
}
