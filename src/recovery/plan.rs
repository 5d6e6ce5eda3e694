//! A plan: ordered steps that balance.

use std::{collections::BTreeSet, sync::Arc};

use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

use super::{
    Decision, Imbalance, Intent, Ledger, Reservations, SegmentCase, Shortage, Terms, Tier, TierSettings,
    adl::{self, AdlPolicy},
    offers, replay,
    state::Violation,
    waterfall,
};
use crate::types::{BlockRef, MarketId, SegmentId, UnitKey, decimal};

/// Execution against one resting order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// The order's id.
    pub order: u64,
    /// Whose it is.
    pub maker: UnitKey,
    /// How much of it.
    #[serde(with = "decimal")]
    pub lots: U256,
    /// At what price.
    #[serde(with = "decimal")]
    pub price: U256,
}

/// A winner's part of a deleveraging.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleveraging {
    /// The winner.
    pub unit: UnitKey,
    /// Lots closed.
    #[serde(with = "decimal")]
    pub lots: U256,
    /// What it pays against the mark, as planned.
    #[serde(with = "decimal")]
    pub loss: U256,
    /// What it may be charged at most when the transaction executes.
    #[serde(with = "decimal")]
    pub loss_max: U256,
}

/// A payer's part of a socialised loss, or a claimant's part of a restitution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// The payer, or the claimant.
    pub unit: UnitKey,
    /// What it pays, or is paid.
    #[serde(with = "decimal")]
    pub amount: U256,
}

/// What a step does on chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Action {
    /// Close lots of the unit's position against resting orders.
    Close {
        /// In which market.
        market: MarketId,
        /// Against what.
        fills: Vec<Fill>,
    },
    /// Pay the unit's shortfall from the insurance fund.
    DrawInsurance {
        /// Exactly this much.
        #[serde(with = "decimal")]
        amount: U256,
    },
    /// Close lots of the unit's position against winners at its bankruptcy price.
    Deleverage {
        /// In which market.
        market: MarketId,
        /// Whom, in the order they are charged.
        winners: Vec<Deleveraging>,
    },
    /// Show the unit's shortfall to the shared backstop pool and claim for it.
    ClaimBackstop {
        /// How much is claimed.
        #[serde(with = "decimal")]
        amount: U256,
    },
    /// Have the unit's claim on the shared backstop pool paid.
    DrawBackstop {
        /// What the pool pays: all that its round grants.
        #[serde(with = "decimal")]
        amount: U256,
    },
    /// Charge the unit's shortfall to the rest of its segment.
    Socialise {
        /// Whom, and how much.
        payers: Vec<Contribution>,
    },
    /// Shut withdrawals from the segment, or open them again.
    Gate {
        /// Which segment.
        segment: SegmentId,
        /// Somebody who is short, which a venue wants to be shown; `None` opens.
        shut_for: Option<UnitKey>,
    },
    /// Pay back what the fund owes.
    Restitute {
        /// Whom, and how much.
        claimants: Vec<Contribution>,
    },
    /// Do what the protocol offers.
    Intent(Box<Intent>),
    /// Move a market's margins.
    SetMargin {
        /// Which market.
        market: MarketId,
        /// New maintenance margin.
        maintenance_margin_bps: u32,
        /// New initial margin.
        initial_margin_bps: u32,
        /// Most healthy units that it may make liquidatable.
        #[serde(default)]
        tipped_max: u32,
    },
}

/// One action of a plan, with what it absorbs and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The tier it belongs to.
    pub tier: Tier,
    /// Whose loss it deals with; `None` for a parameter change.
    pub unit: Option<UnitKey>,
    /// What it does.
    pub action: Action,
    /// The loss it absorbs, settlement-token units.
    #[serde(with = "decimal")]
    pub absorbs: U256,
    /// Why this step and not an earlier tier, in one sentence for people.
    pub why: String,
}

/// A plan whose ledger balances: the only thing the executor takes. Steps of one unit are adjacent and in order; they
/// go out as one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BalancedPlan {
    pub(super) segment: SegmentId,
    pub(super) block: BlockRef,
    pub(super) steps: Vec<Step>,
    pub(super) ledger: Ledger,
    pub(super) left_alone: BTreeSet<UnitKey>,
    pub(super) notes: Vec<String>,
    pub(super) outlays: Vec<U256>,
    pub(super) shortages: BTreeSet<Shortage>,
    #[serde(skip)]
    pub(super) decision: Option<Arc<Decision>>,
}

impl BalancedPlan {
    /// The segment it repairs.
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    /// The block it was made from.
    pub fn block(&self) -> &BlockRef {
        &self.block
    }

    /// What is to be done, in order.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// How the loss is shared.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Distressed units that transactions in flight already deal with; their loss is not in this ledger.
    pub fn left_alone(&self) -> &BTreeSet<UnitKey> {
        &self.left_alone
    }

    /// What was not done and why, for people.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Net outlay of each step that the budget pays, wei; empty where steps are composed from positions.
    pub fn outlays(&self) -> &[U256] {
        &self.outlays
    }

    /// Tokens that steps left undone would have needed.
    pub fn shortages(&self) -> &BTreeSet<Shortage> {
        &self.shortages
    }

    /// Holds the plan against the case it was made from: does every step again on the case's accounts and adds up again.
    pub fn verify(&self, case: &SegmentCase) -> Result<(), Imbalance> {
        match &case.offered {
            None => replay::check(case, self),
            Some(offered) => offers::check(case, offered, self),
        }
    }
}

/// Plans the recovery of one segment, deleveraging pro rata to the winners' profit.
pub fn plan(
    case: &SegmentCase,
    tiers: &[TierSettings],
    reservations: &Reservations,
) -> Result<BalancedPlan, Imbalance> {
    plan_with(case, tiers, &adl::ProRata, reservations)
}

/// Plans the recovery of one segment with this deleveraging policy.
pub fn plan_with(
    case: &SegmentCase,
    tiers: &[TierSettings],
    policy: &dyn AdlPolicy,
    reservations: &Reservations,
) -> Result<BalancedPlan, Imbalance> {
    let plan = waterfall::walk(case, tiers, policy, reservations)?;
    plan.verify(case)?;
    Ok(plan)
}

/// Plans the recovery of one segment from what its protocol offers.
pub fn plan_offered(
    case: &SegmentCase,
    tiers: &[TierSettings],
    terms: &Terms,
    reservations: &Reservations,
) -> Result<BalancedPlan, Imbalance> {
    let offered = case.offered.as_ref().ok_or_else(|| Violation::Case("it offers nothing".to_owned()))?;
    let plan = offers::walk(case, offered, tiers, terms, reservations)?;
    plan.verify(case)?;
    Ok(plan)
}
