//! An intent: one thing that the protocol's own rules let a keeper do now, described in neutral terms by its adapter.
//!
//! Some venues let the planner compose its steps from positions. Other protocols decide themselves what a
//! liquidation, an auction or a cover does; there the adapter offers intents with what each costs, brings and absorbs,
//! and the planner chooses among them by tier, limits and [`super::Policy`].
//!
//! Invariants: figures are exact at the case's block unless named an estimate; a payload is opaque to everyone but the
//! adapter that made it; two intents of one scope are never carried out at once.
//! Must not: know a protocol.

use std::fmt;

use alloy::primitives::{Address, Bytes, U256};
use serde::{Deserialize, Serialize};

use super::Tier;
use crate::types::{MarketId, SegmentId, UnitKey, decimal};

/// What an intent acts on. Never done twice at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One unit.
    Unit(UnitKey),
    /// One market or reserve: its deficit, its closing.
    Market(MarketId),
    /// The whole segment: its fund, its auction.
    Segment(SegmentId),
}

impl Scope {
    /// The unit, if it is one.
    pub fn unit(&self) -> Option<&UnitKey> {
        match self {
            Self::Unit(unit) => Some(unit),
            Self::Market(_) | Self::Segment(_) => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "unit:{unit}"),
            Self::Market(market) => write!(f, "market:{market}"),
            Self::Segment(segment) => write!(f, "segment:{segment}"),
        }
    }
}

/// What an intent does, in one word for journal, metrics and people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentKind {
    /// Cancels a unit's resting orders, so that it can be liquidated.
    CancelOrders,
    /// Liquidates a unit or part of it.
    Liquidate,
    /// Takes all that a unit has and books the rest of its debt as bad debt.
    Heal,
    /// Settles a unit's bad debt against the fund.
    SettleBadDebt,
    /// Opens an auction of bad debt.
    StartAuction,
    /// Bids in it.
    Bid,
    /// Ends it.
    CloseAuction,
    /// Starts it again after nobody bid.
    RestartAuction,
    /// Pays a booked deficit.
    CoverDeficit,
    /// Refills an insurance fund from what belongs to it.
    RefillFund,
    /// Takes a unit out of a market that was closed.
    QuitMarket,
}

impl IntentKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::CancelOrders,
        Self::Liquidate,
        Self::Heal,
        Self::SettleBadDebt,
        Self::StartAuction,
        Self::Bid,
        Self::CloseAuction,
        Self::RestartAuction,
        Self::CoverDeficit,
        Self::RefillFund,
        Self::QuitMarket,
    ];

    /// The word in journal, metrics and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CancelOrders => "cancel_orders",
            Self::Liquidate => "liquidate",
            Self::Heal => "heal",
            Self::SettleBadDebt => "settle_bad_debt",
            Self::StartAuction => "start_auction",
            Self::Bid => "bid",
            Self::CloseAuction => "close_auction",
            Self::RestartAuction => "restart_auction",
            Self::CoverDeficit => "cover_deficit",
            Self::RefillFund => "refill_fund",
            Self::QuitMarket => "quit_market",
        }
    }
}

/// Tokens that the keeper must hold and have approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenNeed {
    /// Which token.
    pub token: Address,
    /// Most of it that the call takes, token units.
    #[serde(with = "decimal")]
    pub amount: U256,
    /// Who takes it; `None` where no approval is needed.
    pub spender: Option<Address>,
}

/// What a promise is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromiseKind {
    /// Debt repaid for the unit: [`super::Effect::Repaid`].
    Repaid,
    /// Collateral taken from the unit: [`super::Effect::Seized`].
    Seized,
    /// Bad debt booked: [`super::Effect::BadDebt`].
    BadDebt,
    /// Bad debt covered: [`super::Effect::Covered`].
    Covered,
    /// A stage reached: [`super::Effect::Staged`]; counts 1 each.
    Staged,
}

/// A post-condition: the sum of one kind of effect on the intent's scope lies within bounds. Held against the
/// simulation before anything is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promise {
    /// Which effects are added up.
    pub kind: PromiseKind,
    /// Of which asset; `None`: of any.
    pub asset: Option<Address>,
    /// Least sum, units of the asset.
    #[serde(with = "decimal")]
    pub min: U256,
    /// Greatest sum.
    #[serde(with = "decimal")]
    pub max: U256,
}

/// Intents of one batch may share one atomic call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Which; equal numbers go together.
    pub id: u32,
    /// Most of them in one call.
    pub len_max: u32,
}

/// See the module. Amounts are in the segment's unit of account unless they name a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What it does.
    pub kind: IntentKind,
    /// What it acts on.
    pub scope: Scope,
    /// The adapter's own arguments: what it needs to encode the call again.
    pub payload: Bytes,
    /// The tier that carries it out.
    pub tier: Tier,
    /// Loss that this tier absorbs. In tier liquidate: what the unit's own margin pays (bonus and fees); in a later
    /// tier: what it takes off the shortfall of the scope.
    #[serde(with = "decimal")]
    pub absorbs: U256,
    /// Shortfall that it opens beyond what stands already: a bonus paid out of a unit without equity.
    #[serde(with = "decimal")]
    pub deepens: U256,
    /// Losses that other tiers absorb inside the same call by the protocol's own rules (a fund that pays at once, a loss
    /// that lenders share at once).
    pub implicit: Vec<Absorption>,
    /// Post-conditions.
    pub promises: Vec<Promise>,
    /// What the keeper gets above what it pays, before gas and swaps. An estimate at the case's prices.
    #[serde(with = "decimal")]
    pub reward: U256,
    /// What the keeper pays for good, above what it gets: a cover, a bid above value.
    #[serde(with = "decimal")]
    pub cost: U256,
    /// Value of what the keeper must swap afterwards to hold what it held before.
    #[serde(with = "decimal")]
    pub swapped: U256,
    /// Gas it takes, an estimate.
    pub gas: u64,
    /// What the keeper must hold and have approved.
    pub capital: Vec<TokenNeed>,
    /// Whether leaving it undone leaves bad debt, standing or about to be: may override profit.
    pub bad_debt: bool,
    /// Unix second before which the protocol refuses it; 0: none.
    pub not_before: u64,
    /// Which others may share a call with it.
    pub batch: Option<Batch>,
    /// Why this and why now, in one sentence for people.
    pub why: String,
}

/// A part of a loss that a tier takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absorption {
    /// Which tier.
    pub tier: Tier,
    /// How much.
    #[serde(with = "decimal")]
    pub amount: U256,
}

/// Bad debt that the protocol has booked and nobody has paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deficit {
    /// Where it is booked: a market or the segment.
    pub scope: Scope,
    /// How much, in the segment's unit of account.
    pub amount: U256,
}

/// A shortage that the keeper cannot mend by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shortage {
    /// What is short.
    pub kind: ShortageKind,
    /// Where, for people and for telling alerts apart.
    pub subject: String,
    /// What is short, by how much, and what would mend it.
    pub detail: String,
}

/// What is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShortageKind {
    /// A fund cannot pay, and that blocks the protocol's own liquidation.
    FundBlocks,
    /// A deficit stands and the keeper holds no role to cover it.
    DeficitStands,
    /// The keeper holds, or has approved, too little of a token.
    Capital,
}

/// What a protocol offers in one segment at one block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// The token that the segment's amounts are in; `None`: the protocol's own unit of account.
    pub asset: Option<Address>,
    /// What could be done, best first within each tier.
    pub intents: Vec<Intent>,
    /// Bad debt that stands, by scope.
    pub deficits: Vec<Deficit>,
    /// What cannot be done and needs a person.
    pub shortages: Vec<Shortage>,
}
