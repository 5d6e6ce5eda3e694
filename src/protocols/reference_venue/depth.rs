//! Which resting orders a liquidation can execute against now, and how much of each.
//!
//! A resting order reserves nothing, so an order counts only as far as its maker can take it. What is admitted holds
//! for all of a maker's orders together, in any order, whole or in part. Per maker, over every market of the segment:
//!
//! - A maker that is itself below its maintenance margin is left out; its account is about to be acted on.
//! - A fill of c lots at price p moves equity by exactly ±c · (p − mark). Losses are charged to a budget, gains are not
//!   credited, since the fill that brings them may not happen.
//! - With its initial margin covered, the budget is equity − initial margin. Lots that reduce the present position charge
//!   their loss; all others also charge their initial margin. Whatever is filled of that, initial margin stays covered.
//! - Otherwise only lots that reduce the present position count, and the budget is the surplus: a fill that only reduces
//!   is accepted while it pushes neither surplus nor equity below zero.
//!
//! Initial margin is taken 1 % larger than it is: a maker at the brink would pass here and be refused one block of
//! funding later, every block anew.
//!
//! Invariants: no admitted order lies outside the slippage limit; best price first, then by order id.
//! Must not: reserve anything for a particular liquidation.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, btree_map::Entry},
};

use super::{
    cases::Valued,
    margin::{BPS, MarketNow, perps},
    state::{self, Order},
};
use crate::{
    recovery::RestingOrder,
    types::{I256, MarketId, SegmentId, U256, UnitKey, math},
};

/// Initial margin is multiplied by this many hundredths.
const HEADROOM_PERCENT: u64 = 101;
/// What an initial margin in basis points times [`HEADROOM_PERCENT`] is scaled by.
const REQUIREMENT_SCALE: u64 = BPS * 100;

/// Usable orders of one market.
#[derive(Debug, Default)]
pub(super) struct Depth {
    /// Best (highest) price first.
    pub(super) buys: Vec<RestingOrder>,
    /// Best (lowest) price first.
    pub(super) sells: Vec<RestingOrder>,
}

/// The depth of each market of a segment.
pub(super) fn depth(
    markets: &BTreeMap<MarketId, MarketNow>,
    accounts: &BTreeMap<&UnitKey, Valued<'_>>,
    segment: SegmentId,
    orders: &[(u64, Order)],
) -> BTreeMap<MarketId, Depth> {
    let Ok(segment) = u16::try_from(segment.0) else { return BTreeMap::new() };
    let mut makers: BTreeMap<UnitKey, Option<Maker>> = BTreeMap::new();
    let mut depths: BTreeMap<MarketId, Depth> = BTreeMap::new();
    for (id, order) in best_first(markets, orders) {
        let market = state::market_id(order.market);
        let now = &markets[&market];
        let key = state::unit_key(segment, order.maker);
        let maker = match makers.entry(key.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let maker = accounts.get(&key).and_then(|valued| Maker::of(valued, markets));
                entry.insert(maker)
            }
        };
        let lots = maker.as_mut().and_then(|m| m.admit(market, now, order)).unwrap_or_default();
        if !lots.is_zero() {
            let depth = depths.entry(market).or_default();
            let side = if order.is_buy { &mut depth.buys } else { &mut depth.sells };
            side.push(RestingOrder { order: id, maker: key, price: order.price, lots });
        }
    }
    depths
}

/// Orders inside the slippage limit by market, side, price from the best, and id.
fn best_first<'o>(markets: &BTreeMap<MarketId, MarketNow>, orders: &'o [(u64, Order)]) -> Vec<(u64, &'o Order)> {
    let within = |order: &Order| {
        markets.get(&state::market_id(order.market)).is_some_and(|now| within_slippage(now, order).unwrap_or(false))
    };
    let mut usable: Vec<_> = orders.iter().map(|(id, order)| (*id, order)).filter(|(_, o)| within(o)).collect();
    usable.sort_by_key(|(id, o)| {
        let (sell_price, buy_price) = if o.is_buy { (U256::ZERO, o.price) } else { (o.price, U256::ZERO) };
        (o.market, o.is_buy, sell_price, Reverse(buy_price), *id)
    });
    usable
}

/// The limit is rounded towards the mark, as the venue does.
fn within_slippage(now: &MarketNow, order: &Order) -> Option<bool> {
    let (scale, slippage) = (U256::from(BPS), U256::from(now.market.max_slippage_bps));
    Some(if order.is_buy {
        order.price >= math::mul_div_ceil(now.price, scale.checked_sub(slippage)?, scale)?
    } else {
        order.price <= math::mul_div_floor(now.price, scale + slippage, scale)?
    })
}

/// What a maker can still take.
struct Maker {
    /// Settlement-token units that may still be lost or bound.
    budget: U256,
    /// Whether it may take lots that do not reduce a position it has now.
    may_increase: bool,
    /// Signed positions, less the lots that admitted orders reduce them by.
    reducible: BTreeMap<MarketId, I256>,
}

impl Maker {
    fn of(valued: &Valued<'_>, markets: &BTreeMap<MarketId, MarketNow>) -> Option<Self> {
        let surplus = valued.account.surplus().ok().filter(|s| !s.is_negative())?;
        let mut required = U256::ZERO;
        for leg in perps(valued.unit) {
            let now = &markets.get(&leg.market)?;
            let notional = now.notional(leg.quantity.unsigned_abs()).ok()?;
            let part = math::mul_div_ceil(notional, requirement_rate(now), U256::from(REQUIREMENT_SCALE))?;
            required = required.checked_add(part)?;
        }
        let free = valued.account.equity.checked_sub(math::signed(required)?)?;
        let may_increase = !free.is_negative();
        Some(Self {
            budget: if may_increase { free } else { surplus }.unsigned_abs(),
            may_increase,
            reducible: perps(valued.unit).map(|leg| (leg.market, leg.quantity)).collect(),
        })
    }

    /// Lots of an order that the maker can take beside all admitted before, charged to its budget.
    fn admit(&mut self, market: MarketId, now: &MarketNow, order: &Order) -> Option<U256> {
        let wanted = U256::from(order.lots);
        let loss =
            if order.is_buy { order.price.saturating_sub(now.price) } else { now.price.saturating_sub(order.price) };
        let reducing = self.reduce(market, order.is_buy, wanted, loss);
        let increasing = if self.may_increase { self.increase(now, wanted - reducing, loss)? } else { U256::ZERO };
        Some(reducing + increasing)
    }

    fn reduce(&mut self, market: MarketId, is_buy: bool, wanted: U256, loss: U256) -> U256 {
        let Some(held) = self.reducible.get_mut(&market).filter(|lots| lots.is_negative() == is_buy) else {
            return U256::ZERO;
        };
        let possible = wanted.min(held.unsigned_abs());
        // A loss of zero charges nothing, whatever the budget.
        let lots = self.budget.checked_div(loss).map_or(possible, |affordable| affordable.min(possible));
        self.budget -= lots * loss;
        let left = I256::from_raw(held.unsigned_abs() - lots);
        *held = if is_buy { -left } else { left };
        lots
    }

    /// The most lots for which loss and requirement fit the budget: lots · (loss + rate · price / scale) ≤ budget.
    fn increase(&mut self, now: &MarketNow, wanted: U256, loss: U256) -> Option<U256> {
        let scale = U256::from(REQUIREMENT_SCALE);
        let requirement = now.price.checked_mul(requirement_rate(now))?;
        let per_lot = loss.checked_mul(scale)?.checked_add(requirement)?;
        let lots = math::mul_div_floor(self.budget, scale, per_lot)?.min(wanted);
        let charge = math::mul_div_ceil(lots, per_lot, scale)?;
        self.budget = self.budget.checked_sub(charge)?;
        Some(lots)
    }
}

/// Initial margin with headroom, in parts of [`REQUIREMENT_SCALE`].
fn requirement_rate(now: &MarketNow) -> U256 {
    U256::from(now.market.initial_margin_bps) * U256::from(HEADROOM_PERCENT)
}
