//! What a keeper may do to a segment as a whole: its gate and its claims, as the venue has them.
//!
//! Must not: decide whether it is done.

use super::{
    Settings, pool,
    state::{self, Claim, Gate, Restitution},
};
use crate::{
    positions::Snapshot,
    recovery::{self, Measures},
    types::B256,
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
    Measures {
        gate: Some(recovery::Gate { shut_until, lasts_blocks: GATE_BLOCKS }),
        claims: claims.into_iter().map(|(unit, claim)| (unit, claim.amount)).collect(),
        round,
        pool: settings.backstop.and_then(|_| pool::case(snapshot, segment)),
    }
}
