//! What a case may contain, checked once, so that the arithmetic behind it cannot overflow and starts from books that
//! add up.
//!
//! With lots below 2^64, prices and funding below 2^100, money below 2^200 and fewer than 2^24 units and orders, every
//! product and sum of a plan stays below 2^240: lots · price · basis points < 2^196, and 2^24 sums of 2^200 < 2^225.
//! A case beyond that is refused, not rounded.

use alloy::primitives::{I256, U256};

use super::{PoolCase, Position, SegmentCase, state::Violation};

const LOTS_BITS: usize = 64;
const PRICE_BITS: usize = 100;
const MONEY_BITS: usize = 200;
const UNITS_MAX: usize = 1 << 24;

/// Refuses a case that is too large or contradicts itself.
pub(super) fn check(case: &SegmentCase) -> Result<(), Violation> {
    let units = case.distressed.len().saturating_add(case.solvent.len());
    require(units < UNITS_MAX, || "too many units".to_owned())?;
    for (id, market) in &case.markets {
        let orders = || market.buys.iter().chain(&market.sells);
        let funding_fits = market.funding_index.unsigned_abs().bit_len() <= PRICE_BITS;
        let fits = market.mark_price.bit_len() <= PRICE_BITS
            && funding_fits
            && market.buys.len().saturating_add(market.sells.len()) < UNITS_MAX
            && orders().all(|o| o.price.bit_len() <= PRICE_BITS && o.lots.bit_len() <= LOTS_BITS)
            && market.holders.values().all(|h| h.lots.bit_len() <= LOTS_BITS && money_fits(h.surplus));
        require(fits, || format!("market {id} holds a figure beyond the limits"))?;
    }
    for unit in &case.distressed {
        let fits = money_fits(unit.cash) && unit.maintenance_margin.bit_len() <= MONEY_BITS;
        require(fits, || format!("unit {} holds a figure beyond the limits", unit.unit))?;
        let pnl = check_positions(case, &unit.positions)?;
        require(pnl + unit.cash == unit.equity, || format!("equity of {} is not its cash and pnl", unit.unit))?;
        require(!case.solvent.contains_key(&unit.unit), || format!("{} is distressed and solvent", unit.unit))?;
    }
    let mut keys: Vec<_> = case.distressed.iter().map(|unit| &unit.unit).collect();
    keys.sort_unstable();
    require(keys.windows(2).all(|pair| pair[0] != pair[1]), || "a distressed unit stands twice".to_owned())?;
    for (key, unit) in &case.solvent {
        require(money_fits(unit.equity) && money_fits(unit.surplus), || format!("unit {key} is beyond the limits"))?;
        let ordered = !unit.equity.is_negative() && !unit.surplus.is_negative() && unit.surplus <= unit.equity;
        require(ordered, || format!("{key} is not solvent"))?;
        check_positions(case, &unit.positions)?;
    }
    case.measures.pool.as_ref().map_or(Ok(()), PoolCase::check)?;
    require(case.fund.spendable <= case.fund.balance, || "the fund may pay more than it has".to_owned())
}

/// The sum of the positions' pnl, each checked against its market.
fn check_positions(case: &SegmentCase, positions: &[Position]) -> Result<I256, Violation> {
    let mut sum = I256::ZERO;
    require(positions.is_sorted_by(|a, b| a.market < b.market), || "positions are not sorted by market".to_owned())?;
    for position in positions {
        let market = case.markets.get(&position.market);
        let market = market.ok_or_else(|| Violation::Unknown(format!("market {}", position.market)))?;
        let lots_fit = position.lots.unsigned_abs().bit_len() <= LOTS_BITS && !position.lots.is_zero();
        require(lots_fit && money_fits(position.quote), || "a position beyond the limits".to_owned())?;
        let pnl = position.lots * (I256::from_raw(market.mark_price) - market.funding_index) + position.quote;
        require(pnl == position.pnl, || format!("a position in market {} has pnl {pnl}", position.market))?;
        sum += pnl;
    }
    Ok(sum)
}

fn money_fits(amount: I256) -> bool {
    amount.unsigned_abs() < U256::ONE << MONEY_BITS
}

fn require(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::Case(otherwise())) }
}
