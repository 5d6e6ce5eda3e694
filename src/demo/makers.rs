//! Market makers: a thin ladder of bids and offers around the mark, replaced when the mark moves, refilled when taken.
//!
//! Pure: from the books and the prices to messages. What they bid for in a block bounds what can be liquidated in it.
//!
//! Invariants: no quote is farther from the mark than the venue lets a liquidation execute; quotes of an old mark are
//! withdrawn with the same messages that place the new ones.
//! Must not: take anybody's order.

use std::collections::BTreeMap;

use alloy::sol_types::SolCall;

use super::{
    audit::Books,
    node::Message,
    population::place,
    scenario::{BPS, MarketPlan, Scenario},
    venue::{Clearinghouse, Venue},
};
use crate::types::{Address, U256};

/// Distance of the rungs from the mark, basis points.
const RUNGS_BPS: [u64; 3] = [30, 90, 150];

/// The makers of all segments.
#[derive(Debug)]
pub(super) struct Makers<'a> {
    scenario: &'a Scenario,
    venue: &'a Venue,
}

impl<'a> Makers<'a> {
    /// The scenario's makers on this venue.
    pub(super) fn new(scenario: &'a Scenario, venue: &'a Venue) -> Self {
        Self { scenario, venue }
    }

    /// What the makers send so that their ladders stand around these prices, given the orders that are open.
    pub(super) fn quote(&self, books: &Books, prices: &BTreeMap<u16, u64>) -> Vec<Message> {
        let mut messages = Vec::new();
        for market in &self.scenario.markets {
            let owners: Vec<Address> =
                self.scenario.makers.iter().filter(|m| m.segment == market.segment).map(|m| m.owner).collect();
            let ladder = self.ladder(market, prices[&market.id], &owners);
            messages.extend(self.withdraw(market, &owners, &ladder, books));
            for rung in ladder {
                let open: u64 = books
                    .orders
                    .values()
                    .filter(|o| rung.is(o.market, o.is_buy, o.price) && owners.contains(&o.maker))
                    .map(|o| o.lots)
                    .sum();
                if open < rung.lots {
                    let missing = rung.lots - open;
                    messages.push(place(self.venue, rung.maker, rung.market, rung.is_buy, rung.price, missing));
                }
            }
        }
        messages
    }

    fn ladder(&self, market: &MarketPlan, mark: u64, owners: &[Address]) -> Vec<Rung> {
        let lots = (self.scenario.traded_lots(market.id) * market.depth_bps / BPS / RUNGS_BPS.len() as u64).max(1);
        let mut rungs = Vec::new();
        for (place, distance) in RUNGS_BPS.into_iter().enumerate() {
            for is_buy in [true, false] {
                let price = mark * if is_buy { BPS - distance } else { BPS + distance } / BPS;
                let maker = owners[(place * 2 + usize::from(is_buy)) % owners.len()];
                rungs.push(Rung { maker, market: market.id, is_buy, price, lots });
            }
        }
        rungs
    }

    /// Cancels what these makers have open at prices that are on no rung.
    fn withdraw<'b>(
        &'b self,
        market: &MarketPlan,
        owners: &'b [Address],
        ladder: &'b [Rung],
        books: &'b Books,
    ) -> impl Iterator<Item = Message> + 'b {
        let id = market.id;
        let off = move |o: &super::audit::OrderBooks| {
            o.market == id && owners.contains(&o.maker) && !ladder.iter().any(|r| r.is(o.market, o.is_buy, o.price))
        };
        books.orders.iter().filter(move |(_, o)| off(o)).map(|(order, o)| {
            let call = Clearinghouse::cancelOrderCall { orderId: *order };
            Message::call(o.maker, self.venue.clearinghouse, call.abi_encode(), format!("cancelling order {order}"))
        })
    }
}

/// One price level of a ladder.
struct Rung {
    maker: Address,
    market: u16,
    is_buy: bool,
    price: u64,
    lots: u64,
}

impl Rung {
    fn is(&self, market: u16, is_buy: bool, price: U256) -> bool {
        self.market == market && self.is_buy == is_buy && U256::from(self.price) == price
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::audit::OrderBooks;

    fn venue() -> Venue {
        Venue {
            admin: Address::ZERO,
            token: Address::ZERO,
            clearinghouse: Address::ZERO,
            steward: Address::ZERO,
            feeds: BTreeMap::new(),
            membership: None,
        }
    }

    fn rest(books: &mut Books, messages: &[Message]) {
        for message in messages {
            if let Ok(call) = Clearinghouse::placeOrderCall::abi_decode(&message.data) {
                let order = books.orders.len() as u64 + 1;
                let resting = OrderBooks {
                    market: call.marketId,
                    maker: message.from,
                    is_buy: call.isBuy,
                    price: call.price,
                    lots: call.lots,
                };
                books.orders.insert(order, resting);
            }
        }
    }

    #[test]
    fn a_ladder_that_stands_is_left_alone_and_one_that_was_taken_is_refilled() {
        let (scenario, venue) = (Scenario::new(1, 300), venue());
        let makers = Makers::new(&scenario, &venue);
        let prices = &scenario.path[0];
        let mut books = Books::default();
        let first = makers.quote(&books, prices);
        assert_eq!(first.len(), scenario.markets.len() * RUNGS_BPS.len() * 2);
        rest(&mut books, &first);
        assert!(makers.quote(&books, prices).is_empty());

        let taken = books.orders.values_mut().next().unwrap();
        taken.lots -= 1;
        let refill = makers.quote(&books, prices);
        assert_eq!(refill.len(), 1);
        assert_eq!(Clearinghouse::placeOrderCall::abi_decode(&refill[0].data).unwrap().lots, 1);
    }

    #[test]
    fn a_mark_that_moved_withdraws_every_old_quote_and_stays_within_slippage() {
        let (scenario, venue) = (Scenario::new(1, 300), venue());
        let makers = Makers::new(&scenario, &venue);
        let mut books = Books::default();
        let first = makers.quote(&books, &scenario.path[0]);
        rest(&mut books, &first);
        let prices = &scenario.path[2];
        let moved = makers.quote(&books, prices);
        let cancels = moved.iter().filter(|m| Clearinghouse::cancelOrderCall::abi_decode(&m.data).is_ok()).count();
        assert_eq!(cancels, books.orders.len());
        for call in moved.iter().filter_map(|m| Clearinghouse::placeOrderCall::abi_decode(&m.data).ok()) {
            let mark = prices[&call.marketId];
            let slippage = u64::from(scenario.market(call.marketId).slippage_max_bps);
            assert!(call.price * U256::from(BPS) >= U256::from(mark * (BPS - slippage)));
            assert!(call.price * U256::from(BPS) <= U256::from(mark * (BPS + slippage)));
        }
    }
}
