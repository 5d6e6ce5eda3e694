//! What a unit's `extra` holds: what neither cash nor legs say of a trader's account.
//!
//! Invariants: writing an account and reading it gives the same; lists are sorted and hold each market or range once.
//! Must not: know events or calls.

use crate::{
    positions::{Record, Unit},
    scanner::Unvalued,
    types::{I256, MarketId, U256},
};

/// How far a trader's funding in a market is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// The market.
    pub(super) market: MarketId,
    /// The market's epoch then.
    pub(super) epoch: u64,
    /// The market's growth then.
    pub(super) growth: I256,
}

/// A range of liquidity that a trader keeps in a pool: an "order" in the protocol's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// The market.
    pub(super) market: MarketId,
    /// Lower tick.
    pub(super) lower: i32,
    /// Upper tick.
    pub(super) upper: i32,
    /// Liquidity, > 0.
    pub(super) liquidity: u128,
    /// Base tokens borrowed for it.
    pub(super) base_debt: U256,
    /// Quote tokens borrowed for it.
    pub(super) quote_debt: U256,
}

/// What a unit's `extra` holds: owed profit, count of settlements and the settlements (market, epoch, growth), then
/// the orders (market, ticks, liquidity, debts). Both lists sorted, each market or range once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Realised profit that the vault has not credited yet, 10⁻¹⁸.
    pub(super) owed: I256,
    /// One per market with a taker position or orders.
    pub(super) settled: Vec<Settled>,
    /// Ranges of liquidity.
    pub(super) orders: Vec<Order>,
}

/// Words of a settlement, and of an order.
const SETTLED_WORDS: usize = 3;
const ORDER_WORDS: usize = 6;

impl Account {
    /// The words of a unit's `extra`.
    pub(super) fn to_record(&self) -> Record {
        let mut words = vec![self.owed.into_raw(), U256::from(self.settled.len())];
        for settled in &self.settled {
            words.extend([U256::from(settled.market.0), U256::from(settled.epoch), settled.growth.into_raw()]);
        }
        for order in &self.orders {
            words.extend([
                U256::from(order.market.0),
                tick_word(order.lower),
                tick_word(order.upper),
                U256::from(order.liquidity),
                order.base_debt,
                order.quote_debt,
            ]);
        }
        words
    }

    /// The account of these words; a unit's empty `extra` is an empty account.
    pub(super) fn from_record(words: &[U256]) -> Option<Self> {
        if words.is_empty() {
            return Some(Self::default());
        }
        let (&[owed, count], rest) = words.split_first_chunk::<2>()?;
        let count = usize::try_from(count).ok()?;
        let (settled, orders) = rest.split_at_checked(count.checked_mul(SETTLED_WORDS)?)?;
        if !orders.len().is_multiple_of(ORDER_WORDS) {
            return None;
        }
        Some(Self {
            owed: I256::from_raw(owed),
            settled: settled.chunks_exact(SETTLED_WORDS).map(read_settled).collect::<Option<_>>()?,
            orders: orders.chunks_exact(ORDER_WORDS).map(read_order).collect::<Option<_>>()?,
        })
    }

    /// The account of a unit.
    pub(super) fn of(unit: &Unit) -> Result<Self, Unvalued> {
        Self::from_record(&unit.extra).ok_or_else(|| Unvalued::Missing(format!("account {}: malformed", unit.owner)))
    }

    /// How far funding in this market is settled.
    pub(super) fn settled(&self, market: MarketId) -> Option<&Settled> {
        self.settled.binary_search_by_key(&market, |s| s.market).ok().map(|at| &self.settled[at])
    }

    /// Remembers that funding is settled up to here.
    pub(super) fn settle(&mut self, settled: Settled) {
        match self.settled.binary_search_by_key(&settled.market, |s| s.market) {
            Ok(at) => self.settled[at] = settled,
            Err(at) => self.settled.insert(at, settled),
        }
    }

    /// Forgets a market.
    pub(super) fn forget(&mut self, market: MarketId) {
        self.settled.retain(|settled| settled.market != market);
    }

    /// Orders in a market.
    pub(super) fn orders_in(&self, market: MarketId) -> impl Iterator<Item = &Order> {
        self.orders.iter().filter(move |order| order.market == market)
    }

    /// Where the order of this range stands, or would stand.
    pub(super) fn find_order(&self, market: MarketId, lower: i32, upper: i32) -> Result<usize, usize> {
        self.orders.binary_search_by_key(&(market, lower, upper), |o| (o.market, o.lower, o.upper))
    }
}

fn read_settled(words: &[U256]) -> Option<Settled> {
    let &[market, epoch, growth] = words else { return None };
    let market = MarketId(market.try_into().ok()?);
    Some(Settled { market, epoch: epoch.try_into().ok()?, growth: I256::from_raw(growth) })
}

fn read_order(words: &[U256]) -> Option<Order> {
    let &[market, lower, upper, liquidity, base_debt, quote_debt] = words else { return None };
    Some(Order {
        market: MarketId(market.try_into().ok()?),
        lower: word_tick(lower)?,
        upper: word_tick(upper)?,
        liquidity: liquidity.try_into().ok()?,
        base_debt,
        quote_debt,
    })
}

fn tick_word(tick: i32) -> U256 {
    I256::unchecked_from(tick).into_raw()
}

fn word_tick(word: U256) -> Option<i32> {
    i32::try_from(I256::from_raw(word)).ok()
}
