//! Random venues after a crash, from a seed: zero-sum by construction, since every position comes from a trade.

use super::{
    pool::Pool,
    venue::{Account, Market, Order, Venue},
};
use crate::recovery::MarginBounds;

/// SplitMix64: a seed is a case, on every machine.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }

    pub(super) fn between(&mut self, low: i128, high: i128) -> i128 {
        low + i128::from(self.roll(u64::try_from(high - low + 1).unwrap()))
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }
}

/// A venue of 2 to 24 accounts in 1 to 3 markets, after prices moved by up to 45 %.
pub(super) fn crashed_venue(seed: u64) -> Venue {
    let mut dice = Dice(seed);
    let accounts = u16::try_from(dice.between(2, 24)).unwrap();
    let mut venue = Venue::default();
    // Small figures make rounding matter, large ones make it vanish.
    let scale = [1, 10, 1_000, 1_000_000_000][dice.roll(4) as usize];
    for account in 0..accounts {
        let poverty = [1, 4, 20][dice.roll(3) as usize];
        let cash = dice.between(0, 40_000 * scale / poverty);
        venue.accounts.insert(account, Account { cash, ..Account::default() });
    }
    for market in 0..u32::try_from(dice.between(1, 3)).unwrap() {
        let opening = dice.between(100 * scale, 2_000 * scale);
        venue.markets.insert(market, empty_market(&mut dice, opening));
        for _ in 0..dice.roll(3 * u64::from(accounts)) {
            let (long, short) = (dice.roll(accounts.into()) as u16, dice.roll(accounts.into()) as u16);
            if long != short {
                let lots = dice.between(1, 40);
                let price = opening * dice.between(90, 110) / 100;
                venue.trade(long, market, lots, price);
                venue.trade(short, market, -lots, price);
            }
        }
        let case = venue.markets.get_mut(&market).unwrap();
        case.mark = (opening * dice.between(55, 120) / 100).max(1);
        case.funding = dice.between(-opening / 20, opening / 20);
        place_orders(&mut dice, case, market, accounts);
    }
    let rich = dice.chance(30);
    venue.fund = dice.between(0, if rich { 100_000 * scale } else { 1_000 * scale });
    venue.floor = if dice.chance(50) { venue.fund / 3 } else { dice.between(0, 2 * scale) };
    venue.gate = dice.chance(50).then(|| dice.chance(40));
    if dice.chance(30) {
        venue.claims = (0..accounts).filter(|_| dice.chance(40)).map(|a| (a, 1 + i128::from(a) * scale)).collect();
    }
    for market in venue.markets.keys().copied().collect::<Vec<_>>() {
        let mut price = venue.markets[&market].mark;
        let wild = dice.chance(50);
        let seen = (0..dice.roll(16)).map(|_| {
            price =
                (price * dice.between(if wild { 900 } else { 999 }, if wild { 1_110 } else { 1_001 }) / 1_000).max(1);
            price
        });
        venue.prices.insert(market, seen.collect());
    }
    venue.payments = (0..dice.roll(3)).map(|_| dice.between(0, 100 * scale)).collect();
    if dice.chance(40) {
        venue.pool = Some(Pool::random(&mut dice, accounts, scale));
        // Some were closed out before, and left a hole.
        for held in venue.accounts.values_mut().filter(|held| held.positions.is_empty()) {
            if dice.chance(50) {
                held.cash = -dice.between(1, 2_000 * scale);
            }
        }
    }
    // A venue owes no more than it has: the pool cannot be below zero.
    let pool: i128 = venue.accounts.keys().map(|a| venue.equity(*a)).sum();
    if pool < 0 {
        venue.accounts.get_mut(&0).unwrap().cash -= pool;
    }
    venue
}

fn empty_market(dice: &mut Dice, mark: i128) -> Market {
    let maintenance_bps = u32::try_from(dice.between(100, 1_000)).unwrap();
    let bounds = MarginBounds { step_bps_max: 2_000, floor_bps: 50, ceiling_bps: 3_000, earliest: 900 };
    let bounds = MarginBounds { earliest: if dice.chance(20) { 2_000 } else { 900 }, ..bounds };
    Market {
        mark,
        funding: 0,
        maintenance_bps,
        initial_bps: maintenance_bps * 2,
        fee_bps: dice.between(0, 100),
        orders: Vec::new(),
        bounds: (!dice.chance(20)).then_some(bounds),
    }
}

/// Orders within 5 % of the mark, on either side of it: some pay more than the mark.
fn place_orders(dice: &mut Dice, case: &mut Market, market: u32, accounts: u16) {
    for n in 0..dice.roll(12) {
        let price = (case.mark * dice.between(95, 105) / 100).max(1);
        let maker = dice.roll(accounts.into()) as u16;
        let (buys, lots) = (dice.chance(50), dice.between(1, 60));
        case.orders.push(Order { id: u64::from(market) * 100 + n, maker, buys, price, lots });
    }
}
