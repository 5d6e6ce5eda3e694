//! Funding growth: the time-weighted premium that position sizes are charged by.
//!
//! ```text
//! premium    = market TWAP − index TWAP, in X96, at most ± index TWAP · maximum rate          (rounded down)
//! growth    += premium · (t − settled at)
//! payment(q) = q · (growth − growth when the trader settled) / 2⁹⁶ / 86,400                   (each toward zero)
//! ```
//!
//! Source: `Exchange._getFundingGrowthGlobalAndTwaps`, `_getDeltaTwapX96`, `Funding.calcPendingFundingPayment…`. No view
//! and no event says the growth itself. But `FundingUpdated` carries both averages, and a market average over ten
//! seconds or more is the price of a whole tick, so that its square root price can be found again exactly. Where it
//! cannot, the market begins a new epoch: what was settled before it is then read trader by trader.
//!
//! Invariants: within one epoch differences of growth are the contract's to the last unit.
//! Must not: guess.

use super::{
    state::{Config, Market, Status},
    ticks::{Q96, WAD, price_wad, price_x96, sqrt_price_of_wad},
};
use crate::types::{
    I256, U256,
    math::{mul_div_floor, mul_div_toward_zero, signed},
};

/// An average over less than this is the price of the moment (`UniswapV3Broker.getSqrtMarketTwapX96From`).
const AVERAGE_SECONDS_MIN: u64 = 10;

/// Seconds over which a premium is paid once (`Funding._DEFAULT_FUNDING_PERIOD`).
const PERIOD_SECONDS: I256 = I256::from_raw(U256::from_limbs([86_400, 0, 0, 0]));

/// 10⁻⁶.
pub(super) const PPM: U256 = U256::from_limbs([1_000_000, 0, 0, 0]);

impl Market {
    /// The second that funding of this market runs to at this time: it stops when the market is paused.
    pub(super) fn funding_second(&self, timestamp: u64) -> u64 {
        if self.status == Status::Open { timestamp } else { self.paused_at }
    }

    /// Over how many seconds funding averages at this time; 0 stands for the price of the moment.
    pub(super) fn averaging_seconds(&self, config: &Config, timestamp: u64) -> u64 {
        if self.first_traded == 0 {
            return 0;
        }
        let traded = self.funding_second(timestamp).saturating_sub(self.first_traded);
        let seconds = u64::from(config.twap_interval).min(traded);
        if seconds < AVERAGE_SECONDS_MIN { 0 } else { seconds }
    }

    /// Whether funding is settled to this time, so that the growth needs no prices.
    pub(super) fn is_settled(&self, timestamp: u64) -> bool {
        self.last_settled == 0 || self.last_settled == self.funding_second(timestamp)
    }

    /// The growth at this time, of the square root price of the averaged market price and of the averaged index price
    /// × 10¹⁸.
    pub(super) fn growth_at(
        &self,
        config: &Config,
        timestamp: u64,
        sqrt_price: U256,
        index_price: U256,
    ) -> Option<I256> {
        if self.is_settled(timestamp) {
            return Some(self.growth);
        }
        let elapsed = self.funding_second(timestamp).checked_sub(self.last_settled)?;
        let premium = premium_x96(config, price_x96(sqrt_price)?, index_price)?;
        self.growth.checked_add(premium.checked_mul(I256::unchecked_from(elapsed))?)
    }

    /// Takes a settlement of funding in: the averages × 10¹⁸ that its event carries, at its block's time.
    pub(super) fn settle(&mut self, config: &Config, timestamp: u64, market_price: U256, index_price: U256) {
        let growth = if self.is_settled(timestamp) {
            Some(self.growth)
        } else {
            self.averaged(config, timestamp, market_price)
                .and_then(|sqrt_price| self.growth_at(config, timestamp, sqrt_price, index_price))
        };
        match growth {
            Some(growth) => self.growth = growth,
            None => self.epoch += 1,
        }
        self.last_settled = self.funding_second(timestamp);
    }

    /// The square root price whose price × 10¹⁸ an event carries.
    fn averaged(&self, config: &Config, timestamp: u64, market_price: U256) -> Option<U256> {
        if self.averaging_seconds(config, timestamp) > 0 {
            return sqrt_price_of_wad(market_price);
        }
        (price_wad(self.sqrt_price) == Some(market_price)).then_some(self.sqrt_price)
    }
}

/// The premium that funding counts, X96.
fn premium_x96(config: &Config, market_x96: U256, index_price: U256) -> Option<I256> {
    let index_x96 = mul_div_floor(index_price, Q96, WAD)?;
    let bound = mul_div_floor(index_x96, U256::from(config.max_funding_rate), PPM)?;
    let premium = signed(market_x96.abs_diff(index_x96).min(bound))?;
    Some(if market_x96 > index_x96 { premium } else { -premium })
}

/// What a holding of this size has to pay since it was settled, 10⁻¹⁸; below zero it receives.
pub(super) fn payment(size: I256, growth: I256, settled: I256) -> Option<I256> {
    let since = growth.checked_sub(settled)?;
    mul_div_toward_zero(size, since, signed(Q96)?).map(|coefficient| coefficient / PERIOD_SECONDS)
}

#[cfg(test)]
mod tests {
    use super::{super::ticks::sqrt_price_at, *};

    const HOUR: u64 = 3_600;

    fn market() -> Market {
        let sqrt_price = sqrt_price_at(69_000).unwrap();
        Market { first_traded: 1_000, last_settled: 10_000, sqrt_price, ..Market::default() }
    }

    fn wad(x: u64) -> U256 {
        U256::from(x) * WAD
    }

    #[test]
    fn a_long_pays_the_premium_of_an_hour_as_a_part_of_a_day() {
        let (mut market, config) = (market(), Config::default());
        let price = price_wad(sqrt_price_at(69_080).unwrap()).unwrap();
        market.settle(&config, 10_000 + HOUR, price, price - wad(24));
        assert_eq!((market.epoch, market.last_settled), (0, 10_000 + HOUR));
        let paid = payment(signed(WAD).unwrap(), market.growth, I256::ZERO).unwrap();
        // 24 over 24 hours, less the rounding of prices to X96
        assert!(paid <= signed(WAD).unwrap() && paid > signed(WAD).unwrap() - I256::unchecked_from(10));
    }

    #[test]
    fn a_premium_counts_up_to_the_maximum_rate_either_way() {
        let config = Config::default();
        let hundred = price_x96(Q96 * U256::from(10)).unwrap();
        let tenth = signed(Q96 * U256::from(10)).unwrap();
        assert_eq!(premium_x96(&config, hundred * U256::from(3), wad(100)), Some(tenth));
        assert_eq!(premium_x96(&config, U256::ZERO, wad(100)), Some(-tenth));
        assert_eq!(premium_x96(&config, hundred, wad(100)), Some(I256::ZERO));
    }

    #[test]
    fn a_price_that_is_no_tick_ends_the_epoch() {
        let (mut market, config) = (market(), Config::default());
        let before = market.growth;
        market.settle(&config, 20_000, wad(1_000), wad(1_000));
        assert_eq!((market.epoch, market.growth, market.last_settled), (1, before, 20_000));
    }

    #[test]
    fn a_paused_market_accrues_up_to_its_pause_and_no_further() {
        let mut market = market();
        let at_once = |m: &Market, t| m.growth_at(&Config::default(), t, m.sqrt_price, wad(900)).unwrap();
        let open = at_once(&market, 11_000);
        (market.status, market.paused_at) = (Status::Paused, 11_000);
        assert_eq!((at_once(&market, 11_000), at_once(&market, 99_000)), (open, open));
        assert_eq!(market.averaging_seconds(&Config::default(), 1_000_000), 900);
    }

    #[test]
    fn young_markets_are_averaged_over_their_age() {
        let (market, config) = (market(), Config::default());
        let seconds = [1_000, 1_009, 1_010, 1_899, 5_000].map(|t| market.averaging_seconds(&config, t));
        assert_eq!(seconds, [0, 0, 10, 899, 900]);
        assert_eq!(Market::default().averaging_seconds(&config, 5_000), 0);
    }
}
