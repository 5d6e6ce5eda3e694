//! Interest, exchange rates and an account's liquidity, by the contracts' own integer maths.
//!
//! Views use a market's stored sums; an action brings some or all of the markets up to date first. Which, is said by
//! [`At`]: the same account can be liquidatable by one and not yet by the other.
//!
//! Every product is taken in 256 bits and every division truncates, as the contracts' do; a figure that would make them
//! revert is an error here. Sources: `VToken.accrueInterest`, `_exchangeRateStored`, `_borrowBalanceStored`;
//! `Comptroller._getHypotheticalLiquiditySnapshot`.
//!
//! Must not: read events or choose what to do.

use std::collections::BTreeMap;

use super::{
    account::{Account, Debt},
    rates::{ONE, RateModel, Sums, scaled},
    state::{self, Balances, Listing, Pool, Price, Rate, Records},
};
use crate::{
    positions::Book,
    scanner::{Standing, Unvalued},
    types::{Address, BlockRef, I256, MarketId, U256, math},
};

/// A market at one block: its sums as stored, and as an action in that block would first make them.
#[derive(Clone, Debug)]
pub(super) struct MarketNow {
    pub(super) vtoken: Address,
    pub(super) listing: Listing,
    /// The sums that views use.
    pub(super) stored: Balances,
    /// The sums with interest up to the block.
    pub(super) accrued: Balances,
    /// Of one token unit, so that amount × price / 1e18 is USD × 1e18; 0: none, and the contract refuses the market.
    pub(super) price: U256,
}

/// Which sums of a market count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// As stored: what views say.
    Stored,
    /// With interest up to the block: what an action works with.
    Accrued,
}

impl MarketNow {
    /// The market as of this block.
    pub(super) fn load(records: &impl Records, vtoken: Address, block: &BlockRef) -> Result<Self, Unvalued> {
        let listing: Listing = state::load(records, vtoken)?;
        if !listing.read {
            return Err(Unvalued::Missing(format!("what vToken {vtoken} says of itself")));
        }
        let stored: Balances = state::load(records, vtoken)?;
        let accrued = match stored.accrued_at < listing.slot(block) {
            true => accrue(&stored, &listing, borrow_rate(records, vtoken, &listing, &stored)?, listing.slot(block))?,
            false => stored.clone(),
        };
        let price = state::find::<Price>(records, vtoken.into_word())?.unwrap_or_default().0;
        Ok(Self { vtoken, listing, stored, accrued, price })
    }

    pub(super) fn sums(&self, at: At) -> &Balances {
        match at {
            At::Stored => &self.stored,
            At::Accrued => &self.accrued,
        }
    }

    pub(super) fn id(&self) -> MarketId {
        self.listing.market()
    }

    /// Value of token units, USD × 1e18, rounded down.
    pub(super) fn value(&self, amount: U256) -> Result<U256, Unvalued> {
        scaled(amount, self.price).ok_or(Unvalued::Overflow("a value"))
    }

    /// Value of one vToken × 1e18, rounded down, before and after the liquidation threshold.
    pub(super) fn token_values(&self, at: At) -> Result<(U256, U256), Unvalued> {
        let values = || {
            let value = scaled(self.sums(at).exchange_rate()?, self.price)?;
            Some((value, scaled(self.listing.threshold, value)?))
        };
        values().ok_or(Unvalued::Overflow("the value of a vToken"))
    }

    fn priced(&self) -> Result<(), Unvalued> {
        let missing = || Unvalued::Missing(format!("the oracle's price of vToken {}", self.vtoken));
        if self.price.is_zero() { Err(missing()) } else { Ok(()) }
    }
}

/// The rate that the market's model gives on its stored sums, a slot.
pub(super) fn borrow_rate(
    records: &impl Records,
    vtoken: Address,
    listing: &Listing,
    stored: &Balances,
) -> Result<U256, Unvalued> {
    let model: RateModel = state::load(records, listing.model)?;
    let &Balances { cash, borrows, reserves, bad_debt, .. } = stored;
    model.borrow_rate(&Sums { cash, borrows, reserves, bad_debt }, state::find::<Rate>(records, vtoken.into_word())?)
}

/// `accrueInterest` at a later slot: simple interest since the last one, its reserves' part rounded down; then reserves
/// are paid out if that is due.
fn accrue(stored: &Balances, listing: &Listing, rate: U256, slot: U256) -> Result<Balances, Unvalued> {
    let grown = || {
        let factor = rate.checked_mul(slot.checked_sub(stored.accrued_at)?)?;
        let interest = scaled(factor, stored.borrows)?;
        let mut next = Balances {
            accrued_at: slot,
            borrow_index: scaled(factor, stored.borrow_index)?.checked_add(stored.borrow_index)?,
            borrows: stored.borrows.checked_add(interest)?,
            reserves: scaled(listing.reserve_factor, interest)?.checked_add(stored.reserves)?,
            ..stored.clone()
        };
        if next.is_reduction_due(slot, listing.reduce_every) {
            let paid = next.cash.min(next.reserves);
            next.cash -= paid;
            next.reserves -= paid;
            next.reduced_at = slot;
        }
        Some(next)
    };
    grown().ok_or(Unvalued::Overflow("interest"))
}

impl Balances {
    /// Token units for one vToken × 1e18, rounded down; 0 where there are no vTokens, whose worth then matters to nobody.
    pub(super) fn exchange_rate(&self) -> Option<U256> {
        if self.supply.is_zero() {
            return Some(U256::ZERO);
        }
        let assets = self.cash.checked_add(self.borrows)?.checked_add(self.bad_debt)?.checked_sub(self.reserves)?;
        Some(assets.checked_mul(ONE)? / self.supply)
    }

    /// What a debt has grown to, token units, rounded down.
    pub(super) fn debt(&self, debt: &Debt) -> Result<U256, Unvalued> {
        let grown = debt.principal.checked_mul(self.borrow_index).and_then(|x| x.checked_div(debt.index));
        grown.ok_or(Unvalued::Overflow("a debt"))
    }

    /// Whether the contract pays reserves out when it next brings itself up to date in this slot.
    pub(super) fn is_reduction_due(&self, slot: U256, reduce_every: U256) -> bool {
        slot.checked_sub(self.reduced_at).is_some_and(|passed| passed >= reduce_every)
    }
}

/// The comptroller's three sums over an account's entered markets, USD × 1e18.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Liquidity {
    /// Collateral after thresholds.
    pub(super) weighted: U256,
    /// Collateral.
    pub(super) collateral: U256,
    /// Debts.
    pub(super) borrows: U256,
}

impl Liquidity {
    /// How far weighted collateral lies below the debts; 0: not at all.
    pub(super) fn shortfall(&self) -> U256 {
        self.borrows.saturating_sub(self.weighted)
    }

    /// Collateral less debts: below zero, bad debt.
    pub(super) fn equity(&self) -> Option<I256> {
        math::signed(self.collateral)?.checked_sub(math::signed(self.borrows)?)
    }

    pub(super) fn standing(&self) -> Result<Standing, Unvalued> {
        let surplus = || math::signed(self.weighted)?.checked_sub(math::signed(self.borrows)?);
        let standing = || {
            Some(Standing {
                equity: self.equity()?,
                // Thresholds are at most one, and each term is rounded after its own threshold.
                maintenance_margin: self.collateral.checked_sub(self.weighted)?,
                surplus: surplus()?,
                health_factor_wad: None,
            })
        };
        standing().ok_or(Unvalued::Overflow("a standing"))
    }
}

/// The markets of one pool at one block.
#[derive(Clone, Debug)]
pub(super) struct PoolNow {
    pub(super) comptroller: Address,
    pub(super) pool: Pool,
    /// By number. Those that cannot be valued are left out.
    pub(super) markets: BTreeMap<MarketId, MarketNow>,
}

impl PoolNow {
    /// A pool with all its markets.
    pub(super) fn load(book: &Book, comptroller: Address, block: &BlockRef) -> Result<Self, Unvalued> {
        let vtokens = state::all::<Listing>(book).filter(|(_, listing)| listing.comptroller == comptroller);
        let markets = vtokens.filter_map(|(vtoken, _)| MarketNow::load(book, vtoken, block).ok());
        let markets = markets.map(|market| (market.id(), market)).collect();
        Ok(Self { comptroller, pool: state::load(book, comptroller)?, markets })
    }

    /// A pool with those of its markets that the account has entered.
    pub(super) fn around(
        book: &Book,
        comptroller: Address,
        account: &Account,
        block: &BlockRef,
    ) -> Result<Self, Unvalued> {
        let market = |id: &MarketId| Ok((*id, MarketNow::load(book, state::vtoken(book, *id)?, block)?));
        let markets = account.entered.iter().map(market).collect::<Result<_, Unvalued>>()?;
        Ok(Self { comptroller, pool: state::load(book, comptroller)?, markets })
    }

    pub(super) fn market(&self, id: MarketId) -> Result<&MarketNow, Unvalued> {
        self.markets.get(&id).ok_or_else(|| Unvalued::Missing(format!("market {id} of pool {}", self.comptroller)))
    }

    /// The comptroller's sums, each market at the sums that `at` says.
    pub(super) fn liquidity(&self, account: &Account, at: impl Fn(MarketId) -> At) -> Result<Liquidity, Unvalued> {
        let mut sums = Liquidity::default();
        for &id in &account.entered {
            let market = self.market(id)?;
            // Accounts keep what they hold in a market that was taken off the list; the comptroller looks away.
            if !market.listing.listed {
                continue;
            }
            market.priced()?;
            let at = at(id);
            let (value, weighted) = market.token_values(at)?;
            let tokens = account.tokens(id);
            let debt = match account.debts.get(&id) {
                Some(debt) => market.sums(at).debt(debt)?,
                None => U256::ZERO,
            };
            let add = || {
                Some(Liquidity {
                    weighted: scaled(weighted, tokens)?.checked_add(sums.weighted)?,
                    collateral: scaled(value, tokens)?.checked_add(sums.collateral)?,
                    borrows: scaled(market.price, debt)?.checked_add(sums.borrows)?,
                })
            };
            sums = add().ok_or(Unvalued::Overflow("a liquidity"))?;
        }
        Ok(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wad(x: u64) -> U256 {
        U256::from(x) * ONE
    }

    #[test]
    fn interest_is_simple_since_the_last_time_and_rounds_down() {
        let stored = Balances {
            accrued_at: U256::from(100),
            borrow_index: ONE,
            borrows: U256::from(1_000_001),
            cash: U256::from(5),
            supply: ONE,
            ..Balances::default()
        };
        let listing = Listing { reserve_factor: ONE / U256::from(10), reduce_every: U256::MAX, ..Listing::default() };
        // 3 slots at 1 %: 30,000.03 of interest, 3,000 of it reserves.
        let next = accrue(&stored, &listing, ONE / U256::from(100), U256::from(103)).unwrap();
        assert_eq!((next.borrows, next.reserves), (U256::from(1_030_001), U256::from(3_000)));
        assert_eq!(next.borrow_index, ONE + ONE * U256::from(3) / U256::from(100));
        assert_eq!((next.cash, next.reduced_at), (stored.cash, U256::ZERO));
        // Due at once: no more is paid out than there is in hand, and the exchange rate does not move.
        let due = Listing { reduce_every: U256::ZERO, ..listing };
        let paid = accrue(&stored, &due, ONE / U256::from(100), U256::from(103)).unwrap();
        assert_eq!((paid.cash, paid.reserves), (U256::ZERO, U256::from(2_995)));
        assert_eq!(paid.exchange_rate(), next.exchange_rate());
    }

    #[test]
    fn a_market_taken_off_the_list_counts_for_nothing_and_one_without_a_price_stops_all() {
        let sums = Balances { borrow_index: ONE, cash: wad(10), supply: wad(10), ..Balances::default() };
        let market = |ordinal, listed, price| MarketNow {
            vtoken: Address::ZERO,
            listing: Listing { ordinal, listed, read: true, threshold: ONE / U256::from(2), ..Listing::default() },
            stored: sums.clone(),
            accrued: sums.clone(),
            price,
        };
        let markets = [market(0, true, ONE), market(1, false, U256::ZERO), market(2, true, U256::ZERO)];
        let markets = markets.into_iter().map(|market| (market.id(), market)).collect();
        let pool = PoolNow { comptroller: Address::ZERO, pool: Pool::default(), markets };
        let mut account = Account { entered: [MarketId(0), MarketId(1)].into(), ..Account::default() };
        account.set_tokens(MarketId(0), wad(4));
        account.set_tokens(MarketId(1), wad(9));
        let debt = Debt { principal: wad(3), index: ONE };
        account.set_debt(MarketId(0), debt);
        let liquidity = pool.liquidity(&account, |_| At::Accrued).unwrap();
        assert_eq!(liquidity, Liquidity { weighted: wad(2), collateral: wad(4), borrows: wad(3) });
        let standing = liquidity.standing().unwrap();
        assert_eq!((standing.equity, standing.maintenance_margin), (I256::try_from(ONE).unwrap(), wad(2)));
        assert_eq!(standing.surplus, -I256::try_from(ONE).unwrap());
        account.entered.insert(MarketId(2));
        assert!(matches!(pool.liquidity(&account, |_| At::Stored), Err(Unvalued::Missing(_))));
    }
}
