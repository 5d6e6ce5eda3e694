//! What a plan is made from: one segment as it stands at one block, in neutral terms.
//!
//! Money is in settlement-token units, sizes in lots, prices in settlement-token units per lot. Every list is sorted by
//! the key named in its comment, so that equal cases are equal values.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, I256, U256};
use serde::{Deserialize, Serialize};

use super::{Measures, Offered, Scope, Tier, TierUse};
use crate::types::{BlockRef, MarketId, SegmentId, UnitKey, pairs};

/// One segment at one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentCase {
    /// Which.
    pub segment: SegmentId,
    /// The block all figures are true of.
    pub block: BlockRef,
    /// Its insurance fund.
    pub fund: FundState,
    /// Its markets, by id.
    pub markets: BTreeMap<MarketId, MarketCase>,
    /// Units that are liquidatable or bankrupt, worst first as the scanner ranks them.
    pub distressed: Vec<DistressedUnit>,
    /// Every other unit with positive equity, by key: winners to deleverage and payers of a socialised loss.
    pub solvent: BTreeMap<UnitKey, SolventUnit>,
    /// Why nothing may be sent in this segment now (a stale or contested price), if so.
    pub blocked: Option<String>,
    /// What may be done to the segment as a whole.
    pub measures: Measures,
    /// What the protocol itself offers; `None` where the planner composes steps from positions.
    pub offered: Option<Offered>,
}

/// An insurance fund.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FundState {
    /// All of it.
    pub balance: U256,
    /// What it may pay out now: the balance above its on-chain floor.
    pub spendable: U256,
}

/// One market of the segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarketCase {
    /// Mark price, settlement-token units per lot.
    pub mark_price: U256,
    /// Value that funding takes from one long lot since inception (and gives to a short one); see the venue's formula.
    pub funding_index: I256,
    /// Maintenance margin, of notional at the mark.
    pub maintenance_margin_bps: u32,
    /// Initial margin, likewise.
    pub initial_margin_bps: u32,
    /// Fee on liquidated notional at the mark, rounded down, never more than the equity left.
    pub liquidation_fee_bps: u32,
    /// Liquidity a liquidation may execute against now: within the venue's slippage limit and covered by its maker's
    /// margin. Best price first, then by order id. `buys` take what a long sells, `sells` give what a short buys back.
    pub buys: Vec<RestingOrder>,
    /// See `buys`.
    pub sells: Vec<RestingOrder>,
    /// Every unit of the segment with a position here, by key: for what-if sweeps over the margin.
    pub holders: BTreeMap<UnitKey, Holder>,
    /// How far the margin may be moved, `None` where this deployment may not.
    pub margin_bounds: Option<MarginBounds>,
}

/// A resting order that a liquidation may execute against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestingOrder {
    /// The venue's id.
    pub order: u64,
    /// Whose it is.
    pub maker: UnitKey,
    /// Settlement-token units per lot.
    pub price: U256,
    /// Lots that may be executed.
    pub lots: U256,
}

/// A holder of a position, for what-if sweeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Size, without sign.
    pub lots: U256,
    /// The unit's surplus over all its positions.
    pub surplus: I256,
}

/// How far a margin parameter may be moved on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarginBounds {
    /// Largest relative step, of the present value.
    pub step_bps_max: u32,
    /// Never below.
    pub floor_bps: u32,
    /// Never above.
    pub ceiling_bps: u32,
    /// Unix seconds before which no further move is accepted.
    pub earliest: u64,
}

/// One position of a unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// In which market.
    pub market: MarketId,
    /// Signed: long > 0.
    pub lots: I256,
    /// The part of its value that no price moves: pnl = lots · (mark price − funding index) + quote.
    pub quote: I256,
    /// Unrealised profit or loss at the mark.
    pub pnl: I256,
}

/// A unit that is liquidatable or bankrupt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistressedUnit {
    /// Which.
    pub unit: UnitKey,
    /// Settlement tokens credited to it, before its positions.
    pub cash: I256,
    /// cash + Σ pnl.
    pub equity: I256,
    /// What it must keep.
    pub maintenance_margin: U256,
    /// Its open positions, by market.
    pub positions: Vec<Position>,
    /// Lots the venue lets a keeper liquidate now in each market.
    pub liquidatable_lots: BTreeMap<MarketId, U256>,
}

/// A unit that is neither liquidatable nor bankrupt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SolventUnit {
    /// cash + Σ pnl, > 0.
    pub equity: I256,
    /// Equity less maintenance margin, ≥ 0.
    pub surplus: I256,
    /// Its open positions, by market.
    pub positions: Vec<Position>,
}

/// What earlier plans took or may still take: a plan leaves all of it alone, so that plans stay independent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservations {
    /// Units touched as victim, winner, payer or maker.
    pub units: BTreeSet<UnitKey>,
    /// Draws on each segment's insurance fund.
    pub fund: BTreeMap<SegmentId, U256>,
    /// Markets with a parameter change under way.
    pub markets: BTreeSet<MarketId>,
    /// Scopes with an intent under way.
    pub scopes: BTreeSet<Scope>,
    /// Tokens of the keeper that calls in flight may take.
    pub capital: BTreeMap<Address, U256>,
    /// What earlier plans took through each tier of a segment: what its limits are counted against.
    #[serde(with = "pairs")]
    pub used: BTreeMap<(SegmentId, Tier), TierUse>,
}
