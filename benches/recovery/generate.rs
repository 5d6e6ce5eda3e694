//! A generated event of the recorded one's shape: 40 rounds, 338 market-rounds, 15,959 candidates, heavy tails in
//! everything. Prices, sizes, leverages and gaps are drawn independently of any record; a seed is an event.

use backstop::{
    recovery::Candidate,
    types::{MarketId, U256, UnitKey},
};

use crate::{
    event::{Event, Market, Round, Row, WaveMarket},
    money::from_usd,
};

const ROUNDS: usize = 40;
const MARKETS: usize = 338;
const ROWS: f64 = 15_959.0;
const COINS: usize = 160;
const WAVES: usize = 12;
/// An account with less equity than this part of its position has an unknown equity, put at the floor.
const EQUITY_FLOOR: f64 = 0.02;

/// SplitMix64 with a few distributions.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.roll() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// e to a normal number of this mean and deviation.
    pub fn log_normal(&mut self, mean: f64, deviation: f64) -> f64 {
        let (radius, turn) = ((-2.0 * (1.0 - self.unit()).ln()).sqrt(), std::f64::consts::TAU * self.unit());
        (mean + deviation * radius * turn.cos()).exp()
    }
}

/// A coin: price in USD, decimals of a lot, how common, and how its gaps compare to others'.
struct Coin {
    price: f64,
    lot_decimals: i32,
    weight: f64,
    gap: f64,
}

pub fn event(seed: u64) -> Event {
    let mut dice = Dice::new(seed);
    let coins: Vec<Coin> = (0..COINS)
        .map(|rank| {
            let price = dice.log_normal(1.0 - 0.03 * rank as f64, 2.5);
            let lot_decimals = (price.log10().ceil() as i32).clamp(0, 5);
            Coin { price, lot_decimals, weight: 1.0 / (1.0 + rank as f64).powf(1.1), gap: dice.log_normal(0.0, 0.8) }
        })
        .collect();
    let market_rounds = market_rounds(&mut dice, &coins);
    let total: f64 = market_rounds.iter().map(|(_, _, weight)| weight).sum();
    let mut rounds = vec![Round::default(); ROUNDS];
    let round_gaps: Vec<f64> = (0..ROUNDS).map(|_| dice.log_normal(0.0, 0.5)).collect();
    for (round, coin, weight) in market_rounds {
        let rows = (weight / total * ROWS).round().max(1.0) as usize;
        let gap = round_gaps[round];
        let market = market(&mut dice, &coins[coin], rows, gap, &mut rounds[round]);
        rounds[round].markets.push(market);
    }
    rounds.retain(|round| !round.markets.is_empty());
    let waves = waves(&mut dice, &coins);
    Event { name: format!("generated, seed {seed}"), rounds, waves }
}

/// Which coins need lots in which rounds, and how many winners they have there: a few rounds are broad.
fn market_rounds(dice: &mut Dice, coins: &[Coin]) -> Vec<(usize, usize, f64)> {
    let mut chosen = std::collections::BTreeMap::new();
    while chosen.len() < MARKETS {
        let round = (dice.unit().powi(3) * ROUNDS as f64) as usize;
        let coin = (dice.unit().powi(2) * coins.len() as f64) as usize;
        let weight = coins[coin].weight * dice.log_normal(0.0, 1.0);
        chosen.insert((round, coin), weight);
    }
    chosen.into_iter().map(|((round, coin), weight)| (round, coin, weight)).collect()
}

fn market(dice: &mut Dice, coin: &Coin, rows: usize, round_gap: f64, round: &mut Round) -> Market {
    let lot_price = coin.price / 10f64.powi(coin.lot_decimals);
    let gap = lot_price * 0.006 * coin.gap * round_gap * dice.log_normal(0.0, 0.7);
    let (candidates, rows): (Vec<_>, Vec<_>) = (0..rows).map(|_| winner(dice, lot_price, round)).unzip();
    let available = candidates.iter().fold(U256::ZERO, |sum, c| sum + c.lots);
    // Now and then everybody there is needed.
    let part = if dice.unit() < 0.15 { 1.0 } else { dice.unit().powf(1.5) };
    let lots = (available * U256::from((part * 1e6) as u64)).div_ceil(U256::from(1_000_000)).max(U256::ONE);
    // A millionth of a dollar is too coarse for the gap of a lot.
    let gap = (from_usd(gap * 1e9) / U256::from(1_000_000_000)).max(U256::ONE);
    let mut market = Market { lots, gap, candidates, rows };
    record_queue(&mut market);
    market
}

fn winner(dice: &mut Dice, lot_price: f64, round: &mut Round) -> (Candidate, Row) {
    let lots = (dice.log_normal(8.0, 2.2) / lot_price).ceil();
    let notional = lots * lot_price;
    let leverage = dice.log_normal(1.0, 1.1);
    let (equity, known) =
        if leverage * EQUITY_FLOOR < 1.0 { (notional / leverage, true) } else { (notional * EQUITY_FLOOR, false) };
    let [lots, equity] = [U256::from(lots as u64), from_usd(equity).max(U256::ONE)];
    let account = round.accounts;
    round.accounts += 1;
    let unit = UnitKey::new(dice.roll().to_be_bytes().to_vec()).expect("eight bytes");
    let candidate = Candidate {
        unit,
        short: dice.unit() < 0.95,
        lots,
        lots_max: lots,
        profit: from_usd(notional * (0.01 + 0.4 * dice.unit())),
        capacity: equity,
        notional: from_usd(notional),
        equity,
        borne: U256::ZERO,
    };
    (candidate, Row { account, equity, known, recorded: U256::ZERO })
}

/// What a venue with a queue by return on equity would have closed.
fn record_queue(market: &mut Market) {
    let score = |c: &Candidate| f64::from(c.profit) / f64::from(c.equity);
    let mut order: Vec<usize> = (0..market.rows.len()).collect();
    order.sort_by(|a, b| score(&market.candidates[*b]).total_cmp(&score(&market.candidates[*a])));
    let mut left = market.lots;
    for i in order {
        market.rows[i].recorded = market.candidates[i].lots.min(left);
        left -= market.rows[i].recorded;
    }
}

/// Waves in which coins take part, large ones more often; gaps of a coin, a wave and by chance.
fn waves(dice: &mut Dice, coins: &[Coin]) -> Vec<Vec<WaveMarket>> {
    let wave = |dice: &mut Dice| {
        let (size, gap, breadth) = (dice.log_normal(9.0, 2.0), dice.log_normal(0.0, 0.5), dice.unit());
        let mut markets = Vec::new();
        for (id, coin) in coins.iter().enumerate() {
            let notional = size * coin.weight * 100.0 * dice.log_normal(0.0, 1.0);
            let relative = 0.01 * coin.gap * gap * dice.log_normal(0.0, 0.7);
            if dice.unit() < breadth * (0.3 + coin.weight.powf(0.25)) {
                markets.push(WaveMarket {
                    market: MarketId(id as u32),
                    contracts: notional / coin.price,
                    gap: relative * coin.price,
                    notional: from_usd(notional),
                    loss: from_usd(relative * notional),
                });
            }
        }
        markets
    };
    (0..WAVES).map(|_| wave(dice)).filter(|markets| !markets.is_empty()).collect()
}
