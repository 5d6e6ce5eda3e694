//! What a keeper may do to a segment as a whole: its gate and its claims, as the venue has them.
//!
//! Must not: decide whether it is done.

use std::collections::BTreeMap;

use super::{
    Settings,
    history::{Payments, Prices},
    pool,
    state::{self, Bounds, Claim, Feed, Gate, Market, Restitution},
};
use crate::{
    positions::Snapshot,
    recovery::{self, Measures, Observation},
    types::{B256, MarketId},
};

/// Blocks that one shutting of the gate lasts: the venue's GATE_BLOCKS.
const GATE_BLOCKS: u64 = 50;
/// A round that is this old is opened anew by the next payment: the venue's ROUND_BLOCKS.
const ROUND_BLOCKS: u64 = 20;

/// The measures of one segment.
pub(super) fn measures(settings: &Settings, snapshot: &Snapshot, segment: u16) -> Measures {
    let book = &snapshot.book;
    let id = B256::from(crate::types::U256::from(segment));
    let gate: Option<Gate> = state::find(book, id).ok().flatten();
    let round: Option<Restitution> = state::find(book, id).ok().flatten();
    let own = |(id, claim): (B256, Claim)| {
        let (of, owner) = Claim::holder(id)?;
        (of == segment).then(|| (state::unit_key(of, owner), claim))
    };
    let claims: Vec<_> = state::all::<Claim>(book).filter_map(own).collect();
    // What is planned now is mined in the next block at the earliest.
    let stands = |round: &Restitution| snapshot.block.number + 1 < round.opened_at + ROUND_BLOCKS;
    let round = round.filter(stands).map(|round| {
        let paid = claims.iter().filter(|(_, claim)| claim.paid_in == round.number).map(|(unit, _)| unit.clone());
        recovery::Round { budget: round.budget, base: round.base, unpaid: round.unpaid, paid: paid.collect() }
    });
    let shut_until = gate.unwrap_or_default().shut_until;
    let prices = if settings.steward.is_some() { prices(snapshot, segment) } else { BTreeMap::new() };
    Measures {
        gate: Some(recovery::Gate { shut_until, lasts_blocks: GATE_BLOCKS }),
        claims: claims.into_iter().map(|(unit, claim)| (unit, claim.amount)).collect(),
        round,
        observed: prices.values().any(|seen| seen.last().is_some_and(|last| last.at == snapshot.block.timestamp)),
        prices,
        payments: state::find::<Payments>(book, id).ok().flatten().unwrap_or_default().0,
        pool: settings.backstop.and_then(|_| pool::case(snapshot, segment)),
    }
}

/// What was seen of the prices of a segment's markets whose margins the steward may move.
fn prices(snapshot: &Snapshot, segment: u16) -> BTreeMap<MarketId, Vec<Observation>> {
    let of_market = |(id, market): (B256, Market)| {
        state::find::<Bounds>(&snapshot.book, id).ok()??;
        let seen: Prices = state::find(&snapshot.book, Feed::id(market.feed)).ok()??;
        (market.segment == segment).then_some((MarketId(state::number(id)?), seen.0))
    };
    state::all::<Market>(&snapshot.book).filter_map(of_market).collect()
}
