//! What the cache holds: units with their legs, and records.

use alloy::primitives::{Address, B256, I256, U256};
use serde::{Deserialize, Serialize};

use crate::types::{MarketId, SegmentId};

/// How a leg's holding enters the account's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LegKind {
    /// A perpetual position: signed quantity in lots, quote in settlement-token units.
    Perp,
    /// Supplied collateral, in scaled (index-free) units.
    Collateral,
    /// Supplied, but not pledged: it backs no debt. Scaled units.
    Supply,
    /// Debt, in scaled units; the quantity is positive, the leg subtracts.
    Debt,
}

impl LegKind {
    /// The word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Perp => "perp",
            Self::Collateral => "collateral",
            Self::Supply => "supply",
            Self::Debt => "debt",
        }
    }
}

/// A unit's holding in one market.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leg {
    /// The market or reserve.
    pub market: MarketId,
    /// What the quantity means.
    pub kind: LegKind,
    /// The holding, in the protocol's own units; changes only when the account itself acts.
    pub quantity: I256,
    /// The part of the leg's value that no factor moves, in settlement-token units (0 where the kind has none).
    pub quote: I256,
}

/// Whatever the protocol liquidates as one decision, as the chain has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// The segment its losses stay in.
    pub segment: SegmentId,
    /// Who owns it.
    pub owner: Address,
    /// Settlement-token units credited to it; negative after a realised shortfall.
    pub cash: I256,
    /// Holdings, sorted by market then kind, none of them zero.
    pub legs: Vec<Leg>,
    /// Words its adapter defines for what legs do not say: an e-mode, a count of orders, a stage.
    pub extra: Record,
}

impl Unit {
    /// An empty unit.
    pub fn new(segment: SegmentId, owner: Address) -> Self {
        Self { segment, owner, cash: I256::ZERO, legs: Vec::new(), extra: Vec::new() }
    }

    /// The holding of this kind in this market.
    pub fn leg(&self, market: MarketId, kind: LegKind) -> Option<&Leg> {
        self.legs.binary_search_by_key(&(market, kind), |l| (l.market, l.kind)).ok().map(|i| &self.legs[i])
    }

    /// Puts a holding in its place; one of zero quantity and quote is taken out.
    pub fn set_leg(&mut self, leg: Leg) {
        let gone = leg.quantity.is_zero() && leg.quote.is_zero();
        match self.legs.binary_search_by_key(&(leg.market, leg.kind), |l| (l.market, l.kind)) {
            Ok(i) if gone => {
                self.legs.remove(i);
            }
            Ok(i) => self.legs[i] = leg,
            Err(_) if gone => {}
            Err(i) => self.legs.insert(i, leg),
        }
    }
}

/// Names a record: a kind that its adapter defines, and an id within the kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    /// The adapter's word for what this is (a market, a fund, an order, an oracle feed).
    pub kind: u16,
    /// Which one.
    pub id: B256,
}

impl RecordKey {
    /// A record with a number for an id.
    pub fn numbered(kind: u16, id: u64) -> Self {
        Self { kind, id: B256::from(U256::from(id)) }
    }
}

/// State that belongs to no single unit: fixed words in an order its adapter defines. Unsigned words and addresses are
/// stored as they are on the EVM stack.
pub type Record = Vec<U256>;
