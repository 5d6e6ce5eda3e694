//! The story of a demo, from its seed: who trades what, at which prices, and how the market falls.
//!
//! Two segments. Segment 1 (ETH, BTC) falls by a third and more, with gaps that carry thin accounts from healthy to
//! bankrupt in one step. Segment 2 (SOL, GOLD) moves by less than one per cent and must come out untouched.
//!
//! Every rung of the waterfall is reached by construction: the book is too thin to take all liquidations at the mark, the
//! insurance fund of segment 1 is smaller than the damage, the shorts of ETH sold at the top and can be deleveraged,
//! while most shorts of BTC sold before a rally, are losers all the way down and cannot.
//!
//! Invariants: pure; the same seed and size give the same scenario; every trade has a buyer and a seller, so positions
//! sum to zero in every market; every account meets its initial margin when it opens.
//! Must not: know addresses of contracts, do I/O or read a clock.

use std::collections::BTreeMap;

use super::{dice::Dice, pool::Terms};
use crate::types::{Address, math};
use alloy::primitives::{U256, keccak256};

/// Basis points in one.
pub(super) const BPS: u64 = 10_000;

/// The segment that is hit.
pub(super) const CRASHING_SEGMENT: u16 = 1;

/// The segment that must come out untouched.
pub(super) const HEALTHY_SEGMENT: u16 = 2;

/// Fewest accounts a scenario is made with.
pub(super) const ACCOUNTS_MIN: usize = 300;

const ETH: u16 = 1;
const BTC: u16 = 2;
const SOL: u16 = 3;
const GOLD: u16 = 4;

/// One token in its smallest unit: the settlement token has six decimals.
const TOKEN: u64 = 1_000_000;

/// Too small for what is left to it, so that something is left to socialise too.
const BACKSTOP: BackstopPlan = BackstopPlan {
    capital: 2_000 * TOKEN,
    terms: Terms { cap: 100_000 * TOKEN, first_loss_bps: 1_000, stake: 20_000 * TOKEN, premium: TOKEN },
};

/// A market to be listed.
#[derive(Clone, Debug)]
pub(super) struct MarketPlan {
    /// Its id on the venue.
    pub(super) id: u16,
    /// What people call it.
    pub(super) symbol: &'static str,
    /// The segment it belongs to.
    pub(super) segment: u16,
    /// Price at which most positions open, settlement-token units per lot.
    pub(super) opening_price: u64,
    /// Maintenance margin of notional.
    pub(super) maintenance_margin_bps: u16,
    /// Initial margin of notional.
    pub(super) initial_margin_bps: u16,
    /// Farthest a liquidation may execute from the mark.
    pub(super) slippage_max_bps: u16,
    /// Funding rate, settlement-token units per lot and second, scaled by 1e18.
    pub(super) funding_rate_x18: i64,
    /// What makers bid and offer around the mark, of the market's open interest.
    pub(super) depth_bps: u64,
}

/// A segment to be opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct SegmentPlan {
    /// Its id on the venue.
    pub(super) id: u16,
    /// What its insurance fund starts with, settlement-token units.
    pub(super) insurance_fund: u128,
}

/// A shared backstop pool, settlement-token units.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackstopPlan {
    /// What underwriters put in.
    pub(super) capital: u64,
    /// What the venue joins with.
    pub(super) terms: Terms,
}

/// An account with what it deposits.
#[derive(Clone, Debug)]
pub(super) struct Participant {
    /// Its owner; nobody holds a key, the node is asked to act for it.
    pub(super) owner: Address,
    /// Where it trades.
    pub(super) segment: u16,
    /// What is deposited for it, settlement-token units.
    pub(super) deposit: u128,
}

/// One trade at the price of its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trade {
    /// In which market.
    pub(super) market: u16,
    /// Who rests a sell order.
    pub(super) seller: Address,
    /// Who fills it.
    pub(super) buyer: Address,
    /// How much.
    pub(super) lots: u64,
}

/// Trades made at one set of prices.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    /// Settlement-token units per lot, by market.
    pub(super) prices: BTreeMap<u16, u64>,
    /// What is traded there.
    pub(super) trades: Vec<Trade>,
}

/// The whole story.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    /// Markets, by id.
    pub(super) markets: Vec<MarketPlan>,
    /// Segments, by id.
    pub(super) segments: Vec<SegmentPlan>,
    /// The backstop pool that the venue is a member of.
    pub(super) backstop: BackstopPlan,
    /// Accounts that take positions.
    pub(super) traders: Vec<Participant>,
    /// Accounts that quote.
    pub(super) makers: Vec<Participant>,
    /// How the positions came about.
    pub(super) stages: Vec<Stage>,
    /// Prices of the fall, step by step.
    pub(super) path: Vec<BTreeMap<u16, u64>>,
}

impl Scenario {
    /// The scenario of this seed with this many accounts, makers included (at least [`ACCOUNTS_MIN`]).
    pub(super) fn new(seed: u64, accounts: usize) -> Self {
        let mut dice = Dice(seed);
        let markets = markets();
        let makers = makers(seed);
        let roster = Roster::draw(&mut dice, seed, accounts.max(ACCOUNTS_MIN) - makers.len(), &markets);
        let stages = stages(&markets, &makers, &roster);
        let path = path(&mut dice, &markets);
        let traders = roster.traders.into_iter().map(|t| t.participant).collect();
        Self { markets, segments: segments(), backstop: BACKSTOP, traders, makers, stages, path }
    }

    /// The market of this id.
    #[cfg(test)]
    pub(super) fn market(&self, id: u16) -> &MarketPlan {
        self.markets.iter().find(|m| m.id == id).expect("invariant: a scenario names only its own markets")
    }

    /// Lots that were traded into existence in a market: an upper bound of its open interest.
    pub(super) fn traded_lots(&self, market: u16) -> u64 {
        let last = self.stages.last().expect("invariant: a scenario has stages");
        last.trades.iter().filter(|t| t.market == market).map(|t| t.lots).sum()
    }
}

fn markets() -> Vec<MarketPlan> {
    let market = |id, symbol, segment, dollars: u64, margins: (u16, u16), depth_bps| MarketPlan {
        id,
        symbol,
        segment,
        opening_price: dollars * TOKEN,
        maintenance_margin_bps: margins.0,
        initial_margin_bps: margins.1,
        slippage_max_bps: 200,
        funding_rate_x18: 0,
        depth_bps,
    };
    vec![
        market(ETH, "ETH", CRASHING_SEGMENT, 30, (250, 500), 1_000),
        market(BTC, "BTC", CRASHING_SEGMENT, 60, (250, 500), 800),
        // A rate that is no whole number of units a second, so that the truncation of the index is exercised.
        MarketPlan {
            funding_rate_x18: 416_666_666_666_666_667,
            ..market(SOL, "SOL", HEALTHY_SEGMENT, 15, (500, 1000), 5_000)
        },
        MarketPlan {
            funding_rate_x18: -97_000_000_000_000_001,
            ..market(GOLD, "GOLD", HEALTHY_SEGMENT, 24, (500, 1000), 5_000)
        },
    ]
}

fn segments() -> Vec<SegmentPlan> {
    let fund = |id, dollars: u64| SegmentPlan { id, insurance_fund: u128::from(dollars * TOKEN) };
    vec![fund(CRASHING_SEGMENT, 40_000), fund(HEALTHY_SEGMENT, 2_000_000)]
}

fn makers(seed: u64) -> Vec<Participant> {
    let maker = |segment, count: usize| {
        (0..count).map(move |i| Participant {
            owner: owner(seed, &format!("maker {segment}"), i),
            segment,
            deposit: u128::from(1_500_000 * TOKEN),
        })
    };
    maker(CRASHING_SEGMENT, 5).chain(maker(HEALTHY_SEGMENT, 3)).collect()
}

/// The owner's address: a hash, so that it has no key.
fn owner(seed: u64, role: &str, index: usize) -> Address {
    Address::from_slice(&keccak256(format!("demo {seed} {role} {index}"))[12..])
}

/// How an account enters the market.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Long,
    Short,
    /// Sold before the rally.
    EarlyShort,
}

struct Trader {
    participant: Participant,
    side: Side,
    /// Lots by market.
    lots: Vec<(u16, u64)>,
}

/// Everybody who takes a position.
struct Roster {
    traders: Vec<Trader>,
}

/// A group of similar accounts: of 1,000 traders, this many.
struct Cohort {
    name: &'static str,
    per_mille: usize,
    segment: u16,
    side: Side,
    markets: &'static [u16],
    /// Margin as a part of notional, basis points: the range that leverage is drawn from.
    margin_bps: (u64, u64),
}

const COHORTS: [Cohort; 8] = {
    const fn cohort(
        name: &'static str,
        per_mille: usize,
        side: Side,
        markets: &'static [u16],
        margin_bps: (u64, u64),
    ) -> Cohort {
        let segment = if markets[0] <= BTC { CRASHING_SEGMENT } else { HEALTHY_SEGMENT };
        Cohort { name, per_mille, segment, side, markets, margin_bps }
    }
    [
        cohort("eth long", 320, Side::Long, &[ETH], (500, 5_000)),
        cohort("btc long", 120, Side::Long, &[BTC], (500, 5_000)),
        cohort("cross long", 110, Side::Long, &[ETH, BTC], (500, 5_000)),
        cohort("eth short", 140, Side::Short, &[ETH], (2_000, 8_000)),
        cohort("btc early short", 90, Side::EarlyShort, &[BTC], (8_500, 10_000)),
        cohort("btc short", 20, Side::Short, &[BTC], (4_000, 8_000)),
        cohort("sol or gold long", 90, Side::Long, &[SOL, GOLD], (1_500, 5_000)),
        cohort("sol or gold short", 90, Side::Short, &[SOL, GOLD], (1_500, 5_000)),
    ]
};

impl Roster {
    fn draw(dice: &mut Dice, seed: u64, count: usize, markets: &[MarketPlan]) -> Self {
        let mut traders = Vec::with_capacity(count);
        for (place, cohort) in COHORTS.iter().enumerate() {
            let share = match COHORTS.len() - place {
                1 => count - traders.len(),
                _ => count * cohort.per_mille / 1_000,
            };
            for index in 0..share {
                traders.push(Trader::draw(dice, owner(seed, cohort.name, index), cohort, markets));
            }
        }
        let mut roster = Self { traders };
        roster.match_sides(markets);
        roster
    }

    fn lots(&self, market: u16, side: Side) -> u64 {
        let of = |t: &Trader| t.lots.iter().filter(|(m, _)| *m == market).map(|(_, lots)| *lots).sum::<u64>();
        self.traders.iter().filter(|t| t.side == side).map(of).sum()
    }

    /// Scales the sellers so that they sell exactly what the longs buy. Where early shorts exist they are scaled, since
    /// they hold most of that market's short side, and the makers carry their lots from one stage to the next.
    fn match_sides(&mut self, markets: &[MarketPlan]) {
        for market in markets {
            let early = self.lots(market.id, Side::EarlyShort) > 0;
            let scaled = if early { Side::EarlyShort } else { Side::Short };
            let unscaled = if early { self.lots(market.id, Side::Short) } else { 0 };
            let target = self.lots(market.id, Side::Long) - unscaled;
            self.scale(market, scaled, target);
        }
    }

    fn scale(&mut self, market: &MarketPlan, side: Side, target: u64) {
        let total = self.lots(market.id, side);
        let holders: Vec<usize> = (0..self.traders.len())
            .filter(|i| self.traders[*i].side == side && self.traders[*i].lots.iter().any(|(m, _)| *m == market.id))
            .collect();
        let mut left = target;
        for (rank, index) in holders.iter().enumerate() {
            let trader = &mut self.traders[*index];
            let (_, lots) = trader.lots.iter_mut().find(|(m, _)| *m == market.id).expect("invariant: a holder holds");
            let scaled = if rank + 1 == holders.len() { left } else { (*lots * target / total).min(left) };
            let deposit = trader.participant.deposit * u128::from(scaled) / u128::from(*lots);
            // Deposits follow the size, rounded up to a whole token so that the margin ratio does not fall.
            trader.participant.deposit = deposit.next_multiple_of(u128::from(TOKEN));
            *lots = scaled;
            left -= scaled;
        }
    }

    fn of(&self, market: u16, side: Side) -> Vec<(Address, u64)> {
        let held = |t: &Trader| t.lots.iter().find(|(m, _)| *m == market).map(|(_, lots)| (t.participant.owner, *lots));
        self.traders.iter().filter(|t| t.side == side).filter_map(held).filter(|(_, lots)| *lots > 0).collect()
    }
}

impl Trader {
    fn draw(dice: &mut Dice, owner: Address, cohort: &Cohort, markets: &[MarketPlan]) -> Self {
        let crosses = cohort.segment == CRASHING_SEGMENT;
        let chosen = if crosses { cohort.markets } else { one_of(dice, cohort.markets) };
        let (low, high) = cohort.margin_bps;
        let margin_bps = low + dice.below(high - low + 1);
        let mut deposit = 0;
        let lots = chosen
            .iter()
            .map(|id| {
                let market = markets.iter().find(|m| m.id == *id).expect("invariant: cohorts name listed markets");
                let dollars = 10_000 + dice.below(110_000);
                let lots = dollars * TOKEN / market.opening_price;
                let notional = U256::from(lots) * U256::from(market.opening_price);
                let margin = math::mul_div_ceil(notional, U256::from(margin_bps), U256::from(BPS));
                deposit +=
                    margin.and_then(|m| u128::try_from(m).ok()).expect("invariant: a demo's margins fit 128 bits");
                (*id, lots)
            })
            .collect();
        Self { participant: Participant { owner, segment: cohort.segment, deposit }, side: cohort.side, lots }
    }
}

fn one_of(dice: &mut Dice, markets: &'static [u16]) -> &'static [u16] {
    let chosen = usize::try_from(dice.below(markets.len() as u64)).expect("invariant: an index fits");
    &markets[chosen..=chosen]
}

/// Where BTC stood when its early shorts sold, of the opening price: below where the fall ends.
const EARLY_PRICE_BPS: u64 = 5_500;

fn stages(markets: &[MarketPlan], makers: &[Participant], roster: &Roster) -> Vec<Stage> {
    let opening: BTreeMap<u16, u64> = markets.iter().map(|m| (m.id, m.opening_price)).collect();
    let mut early = opening.clone();
    early.entry(BTC).and_modify(|price| *price = *price * EARLY_PRICE_BPS / BPS);

    let early_shorts = roster.of(BTC, Side::EarlyShort);
    let carried: u64 = early_shorts.iter().map(|(_, lots)| lots).sum();
    let carriers: Vec<Address> = makers.iter().filter(|m| m.segment == CRASHING_SEGMENT).map(|m| m.owner).collect();
    let inventory = spread(carried, &carriers);
    let rally = Stage { prices: early, trades: pair(BTC, &early_shorts, &inventory) };

    let mut trades = Vec::new();
    for market in markets {
        let mut sellers = roster.of(market.id, Side::Short);
        if market.id == BTC {
            sellers.extend(inventory.iter().copied());
        }
        trades.extend(pair(market.id, &sellers, &roster.of(market.id, Side::Long)));
    }
    vec![rally, Stage { prices: opening, trades }]
}

/// Shares lots evenly, the first ones taking what does not divide.
fn spread(lots: u64, among: &[Address]) -> Vec<(Address, u64)> {
    let count = among.len() as u64;
    let share = |rank: usize| lots / count + u64::from((rank as u64) < lots % count);
    among.iter().enumerate().map(|(rank, owner)| (*owner, share(rank))).filter(|(_, lots)| *lots > 0).collect()
}

/// Pairs sellers with buyers of the same total, in order.
fn pair(market: u16, sellers: &[(Address, u64)], buyers: &[(Address, u64)]) -> Vec<Trade> {
    let mut trades = Vec::new();
    let mut sellers = sellers.iter().copied();
    let mut offered = sellers.next();
    for (buyer, mut wanted) in buyers.iter().copied() {
        while wanted > 0 {
            let Some((seller, left)) = offered else { break };
            let lots = wanted.min(left);
            trades.push(Trade { market, seller, buyer, lots });
            wanted -= lots;
            offered = if left > lots { Some((seller, left - lots)) } else { sellers.next() };
        }
    }
    trades
}

/// Change against the step before, basis points: grinding, with two gaps far wider than the maintenance margin.
const ETH_FALL_BPS: [i64; 10] = [-300, -300, -800, -250, -350, -900, -250, -350, -300, -400];
const BTC_FALL_BPS: [i64; 10] = [-200, -250, -700, -200, -300, -750, -200, -300, -250, -250];
/// Change against the opening price: nothing there may become liquidatable.
const WIGGLE_BPS: [i64; 10] = [40, -60, 90, -90, 20, -100, 70, -30, 100, 0];

fn path(dice: &mut Dice, markets: &[MarketPlan]) -> Vec<BTreeMap<u16, u64>> {
    let moved = |price: u64, bps: i64| price * BPS.saturating_add_signed(bps) / BPS;
    let mut prices: BTreeMap<u16, u64> = markets.iter().map(|m| (m.id, m.opening_price)).collect();
    let mut path = Vec::with_capacity(WIGGLE_BPS.len());
    for (step, wiggle) in WIGGLE_BPS.iter().enumerate() {
        // Seeds differ by a little in every step; the shape stays, so that every seed tells the same story.
        let jitter = i64::try_from(dice.below(41)).expect("invariant: a small number fits") - 20;
        for market in markets {
            let price = prices.get_mut(&market.id).expect("invariant: every market has a price");
            *price = match market.id {
                ETH => moved(*price, ETH_FALL_BPS[step] + jitter),
                BTC => moved(*price, BTC_FALL_BPS[step] + jitter),
                SOL => moved(market.opening_price, *wiggle),
                _ => moved(market.opening_price, -*wiggle / 2),
            };
        }
        path.push(prices.clone());
    }
    path
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn positions(scenario: &Scenario) -> BTreeMap<(Address, u16), i64> {
        let mut positions = BTreeMap::new();
        for trade in scenario.stages.iter().flat_map(|s| &s.trades) {
            let lots = i64::try_from(trade.lots).unwrap();
            *positions.entry((trade.buyer, trade.market)).or_insert(0) += lots;
            *positions.entry((trade.seller, trade.market)).or_insert(0) -= lots;
        }
        positions
    }

    #[test]
    fn a_seed_tells_one_story_and_another_seed_another() {
        let story = |seed| format!("{:?}", Scenario::new(seed, 340));
        assert_eq!(story(1), story(1));
        assert_ne!(story(1), story(2));
    }

    #[test]
    fn there_are_enough_distinct_accounts_on_both_sides_of_every_market() {
        for accounts in [0, 300, 340, 1_000] {
            let scenario = Scenario::new(7, accounts);
            let owners: BTreeSet<Address> = scenario.traders.iter().chain(&scenario.makers).map(|p| p.owner).collect();
            assert_eq!(owners.len(), accounts.max(ACCOUNTS_MIN));
            let positions = positions(&scenario);
            for market in &scenario.markets {
                let held: Vec<i64> = positions.iter().filter(|((_, m), _)| *m == market.id).map(|(_, l)| *l).collect();
                assert_eq!(held.iter().sum::<i64>(), 0, "{} is zero-sum", market.symbol);
                assert!(held.iter().any(|l| *l > 0) && held.iter().any(|l| *l < 0), "{} has two sides", market.symbol);
            }
            let traders_without = scenario
                .traders
                .iter()
                .filter(|t| !positions.iter().any(|((owner, _), lots)| *owner == t.owner && *lots != 0));
            assert_eq!(traders_without.count(), 0, "every trader has a position");
        }
    }

    #[test]
    fn everybody_meets_the_initial_margin_when_all_have_opened() {
        let scenario = Scenario::new(1, 340);
        let mut cash: BTreeMap<Address, i128> = BTreeMap::new();
        let mut margin: BTreeMap<Address, i128> = BTreeMap::new();
        for trader in &scenario.traders {
            cash.insert(trader.owner, i128::try_from(trader.deposit).unwrap());
        }
        for stage in &scenario.stages {
            for trade in &stage.trades {
                let gain = |lots: i128| {
                    lots * (i128::from(scenario.market(trade.market).opening_price)
                        - i128::from(stage.prices[&trade.market]))
                };
                let lots = i128::from(trade.lots);
                *cash.entry(trade.buyer).or_default() += gain(lots);
                *cash.entry(trade.seller).or_default() += gain(-lots);
            }
        }
        for ((owner, market), lots) in positions(&scenario) {
            let market = scenario.market(market);
            let notional = i128::from(lots.abs()) * i128::from(market.opening_price);
            *margin.entry(owner).or_default() +=
                (notional * i128::from(market.initial_margin_bps)).div_euclid(10_000) + 1;
        }
        for trader in &scenario.traders {
            // One unit of slack per market: the ceiling above is taken whether or not there is a remainder.
            assert!(cash[&trader.owner] + 2 >= margin[&trader.owner], "{} opens below its margin", trader.owner);
        }
    }

    #[test]
    fn the_healthy_segment_stays_within_one_per_cent_and_the_other_falls_by_a_third() {
        let scenario = Scenario::new(3, 340);
        for prices in &scenario.path {
            for id in [SOL, GOLD] {
                let opening = scenario.market(id).opening_price;
                assert!(prices[&id].abs_diff(opening) * 100 <= opening);
            }
            assert!(
                prices[&BTC] > scenario.market(BTC).opening_price * EARLY_PRICE_BPS / BPS,
                "early shorts stay losers"
            );
        }
        let last = scenario.path.last().unwrap();
        assert!(last[&ETH] * 100 <= scenario.market(ETH).opening_price * 67);
    }
}
