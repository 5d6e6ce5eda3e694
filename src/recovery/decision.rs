//! Everything that a plan is made from, in one value that can be kept and decided from again.
//!
//! Invariants: [`Decision::plan`] looks at nothing but the decision, so the same decision gives the same plan in every
//! process of one build; what is written reads back as the same value.
//! Must not: hold a plan.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    BalancedPlan, Imbalance, Reservations, SegmentCase, Terms, TierSettings, adl_policy, plan_offered, plan_with,
    state::Violation,
};

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
    /// Decides, and leaves itself with the plan, so that both can be written down together.
    pub fn decide(self) -> Result<BalancedPlan, Imbalance> {
        let mut plan = self.plan()?;
        plan.decision = Some(Arc::new(self));
        Ok(plan)
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
