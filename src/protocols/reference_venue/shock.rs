//! Prices moved for a trial: the cache as it would be after the feeds had posted them.
//!
//! Must not: touch anything but feeds.

use std::collections::BTreeMap;

use super::state::{self, Feed, Market, Stored};
use crate::{
    positions::{Draft, RecordKey, Snapshot},
    protocols::Shock,
    types::{B256, U256, math},
};

const BPS: i32 = 10_000;

/// Each shock moves the feeds of its markets, rounded down, to 1 at least. A feed that serves several markets moves once,
/// by the last shock that names one of them.
pub(super) fn shocked(snapshot: &Snapshot, shocks: &[Shock]) -> Result<Snapshot, String> {
    let mut factors: BTreeMap<B256, U256> = BTreeMap::new();
    for shock in shocks {
        let factor = BPS.checked_add(shock.change_bps).filter(|factor| *factor > 0);
        let factor = factor.ok_or_else(|| format!("a price cannot move by {} basis points", shock.change_bps))?;
        let mut named = 0;
        for (id, market) in state::all::<Market>(&snapshot.book) {
            let number: Option<u32> = state::number(id);
            if shock.market.is_none_or(|wanted| number == Some(wanted.0)) {
                factors.insert(Feed::id(market.feed), U256::from(factor.unsigned_abs()));
                named += 1;
            }
        }
        if let Some(market) = shock.market.filter(|_| named == 0) {
            return Err(format!("market {market} is not known"));
        }
    }
    let mut draft = Draft::new(&snapshot.book);
    for (id, factor) in factors {
        let feed: Option<Feed> = state::find(&snapshot.book, id).map_err(|error| error.to_string())?;
        let Some(feed) = feed.filter(|feed| !feed.price.is_zero()) else { continue };
        let price = math::mul_div_floor(feed.price, factor, U256::from(BPS.unsigned_abs()));
        let price = price.ok_or("a price does not fit 256 bits")?.max(U256::ONE);
        let moved = Feed { price, ..feed };
        draft.set_record(RecordKey { kind: Feed::KIND, id }, Some(moved.to_record()));
    }
    let mut book = snapshot.book.clone();
    book.apply(&draft.finish()).map_err(|error| error.to_string())?;
    Ok(Snapshot { block: snapshot.block, book })
}
