//! The recovery waterfall: who pays for what liquidation could not, in integers, to the last unit.
//!
//! Input: one segment's [`SegmentCase`] at a block and the configured tiers. Output: a [`BalancedPlan`], whose steps say
//! what they absorb and whose [`Ledger`] balances, or a refusal that says why.
//!
//! Invariants: Σ absorbed + residual = shortfall, exactly, or there is no plan; a later tier takes only what the earlier
//! could not; deleveraging takes no more than the hole and takes nobody below zero; the same case, tiers and
//! reservations give the same plan, byte for byte, with ties broken by unit key.
//! Must not: do I/O, read a clock, use floating point, or know a protocol.

mod adl;
mod apportion;
mod backstop;
mod case;
mod controller;
mod decision;
mod effect;
mod intent;
mod ledger;
mod limits;
mod measures;
mod offers;
mod plan;
mod policy;
mod replay;
mod severity;
mod state;
#[cfg(test)]
mod tests;
mod tier;
mod tiers;
mod waterfall;
mod waves;

pub use adl::{
    AdlPolicy, Burden, Candidate, Demand, LeverageDraining, MinMax, ProRata, ProRataSize, Queue, QueueIndex,
    QueueProfit, RiskAware, WaterFilling, WaterFillingProfit, adl_policy, adl_policy_words,
};
pub use backstop::{MemberTerms, PoolCase, PoolClaim, PoolGrant, PoolRound, allocate_backstop};
pub use case::{
    DistressedUnit, FundState, Holder, MarginBounds, MarketCase, Position, Reservations, RestingOrder, SegmentCase,
    SolventUnit,
};
pub use controller::{
    Adjustment, Band, Controller, Measured, Rules, Tighter, Trace, harmless_margin_bps, runway_seconds, tipped_over,
    volatility_bps,
};
pub use decision::Decision;
pub use effect::Effect;
pub use intent::{
    Absorption, Batch, Deficit, Intent, IntentKind, Offered, Promise, PromiseKind, Scope, Shortage, ShortageKind,
    TokenNeed,
};
pub use ledger::{Imbalance, Ledger};
pub use measures::{Gate, Measures, Observation, Round};
pub use plan::{Action, BalancedPlan, Contribution, Deleveraging, Fill, Step, plan, plan_offered, plan_with};
pub use policy::{Economics, Mode, Policy, Purse, Terms};
pub use severity::{Closed, ForecastError, Severity};
pub use state::Violation;
pub use tier::{TierSettings, TierUse, Waterfall, Waterfalls};
pub use tiers::Tier;
pub use waves::{Wave, Waves};
