//! The venue's books, rebuilt from its logs alone.

use std::collections::BTreeMap;

use crate::types::{Address, I256, U256, math};

/// An account: its segment and its owner.
pub(crate) type Account = (u16, Address);

/// What one account holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holdings {
    /// Settlement-token units credited to it.
    pub(crate) cash: I256,
    /// Signed lots and quote, by market; closed positions are left out.
    pub(crate) positions: BTreeMap<u16, (I256, I256)>,
}

/// A market's price and parameters.
#[derive(Clone, Debug, Default)]
pub(crate) struct MarketBooks {
    /// Its segment.
    pub(crate) segment: u16,
    /// The feed it reads.
    pub(crate) feed: Address,
    /// Last price, settlement-token units per lot.
    pub(crate) price: U256,
    /// Of notional.
    pub(crate) maintenance_margin_bps: u16,
    /// Of notional.
    pub(crate) initial_margin_bps: u16,
    /// At `funding_since`.
    pub(crate) funding_index: I256,
    /// Per lot and second, scaled by 1e18.
    pub(crate) funding_rate_x18: I256,
    /// Unix seconds.
    pub(crate) funding_since: u64,
}

/// A resting order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OrderBooks {
    /// In which market.
    pub(crate) market: u16,
    /// Whose.
    pub(crate) maker: Address,
    /// Whether it buys.
    pub(crate) is_buy: bool,
    /// Settlement-token units per lot.
    pub(crate) price: U256,
    /// Still open.
    pub(crate) lots: u64,
}

/// An insurance fund.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FundBooks {
    /// All of it.
    pub(crate) balance: U256,
    /// What it may not pay out.
    pub(crate) floor: U256,
}

/// What an account is worth and must keep, as the venue defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worth {
    /// Settlement-token units credited to it.
    pub(crate) cash: I256,
    /// Cash and unrealised profit.
    pub(crate) equity: I256,
    /// Required to stay.
    pub(crate) maintenance_margin: U256,
    /// Required to open.
    pub(crate) initial_margin: U256,
}

impl Worth {
    /// Equity above the maintenance margin; below zero the account is liquidatable.
    pub(crate) fn surplus(&self) -> I256 {
        self.equity - signed(self.maintenance_margin)
    }
}

/// Everything the logs say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// Every account that ever appeared.
    pub(crate) accounts: BTreeMap<Account, Holdings>,
    /// Markets, by id.
    pub(crate) markets: BTreeMap<u16, MarketBooks>,
    /// Insurance funds, by segment.
    pub(crate) funds: BTreeMap<u16, FundBooks>,
    /// Open orders, by id.
    pub(crate) orders: BTreeMap<u64, OrderBooks>,
    /// What the segment's fund owes accounts.
    pub(crate) claims: BTreeMap<Account, U256>,
    /// Unix seconds of the block that is being read.
    pub(crate) now: u64,
}

impl Books {
    /// The price of one lot less what funding has taken from it, at the time of the books.
    fn net_price(&self, market: &MarketBooks) -> I256 {
        let elapsed = I256::unchecked_from(self.now.saturating_sub(market.funding_since));
        let wad = I256::unchecked_from(1_000_000_000_000_000_000_u64);
        signed(market.price) - (market.funding_index + market.funding_rate_x18 * elapsed / wad)
    }

    /// What an account is worth at the last prices; nothing, for an unknown account.
    pub(crate) fn worth(&self, account: &Account) -> Worth {
        let nothing = Holdings::default();
        let held = self.accounts.get(account).unwrap_or(&nothing);
        let mut worth =
            Worth { cash: held.cash, equity: held.cash, maintenance_margin: U256::ZERO, initial_margin: U256::ZERO };
        for (id, (lots, quote)) in &held.positions {
            let Some(market) = self.markets.get(id) else { continue };
            worth.equity += *lots * self.net_price(market) + *quote;
            let notional = lots.unsigned_abs() * market.price;
            worth.maintenance_margin += margin(notional, market.maintenance_margin_bps);
            worth.initial_margin += margin(notional, market.initial_margin_bps);
        }
        worth
    }

    /// Lots held long in a market.
    pub(crate) fn open_interest(&self, market: u16) -> U256 {
        let held = self.accounts.values().filter_map(|h| h.positions.get(&market));
        held.map(|(lots, _)| math::positive_part(*lots)).sum()
    }

    /// Sum of the signed lots of all accounts in a market: zero, or the books are broken.
    pub(crate) fn net_lots(&self, market: u16) -> I256 {
        let held = self.accounts.values().filter_map(|h| h.positions.get(&market));
        held.fold(I256::ZERO, |sum, (lots, _)| sum + *lots)
    }

    /// Cash and quote of all accounts of a segment: what the venue calls its pool.
    pub(crate) fn pool(&self, segment: u16) -> I256 {
        let of = |h: &Holdings| h.positions.values().fold(h.cash, |sum, (_, quote)| sum + *quote);
        self.accounts.iter().filter(|((s, _), _)| *s == segment).fold(I256::ZERO, |sum, (_, h)| sum + of(h))
    }

    /// What the fund of a segment may pay out.
    pub(crate) fn spendable(&self, segment: u16) -> U256 {
        self.funds.get(&segment).map_or(U256::ZERO, |fund| fund.balance.saturating_sub(fund.floor))
    }

    /// Accounts with a position in a market.
    pub(crate) fn holders(&self, market: u16) -> impl Iterator<Item = Account> + '_ {
        self.accounts.iter().filter(move |(_, h)| h.positions.contains_key(&market)).map(|(account, _)| *account)
    }
}

/// `notional · bps / 10,000`, rounded up: against the account, as the venue does.
fn margin(notional: U256, bps: u16) -> U256 {
    math::mul_div_ceil(notional, U256::from(bps), U256::from(10_000)).unwrap_or(U256::MAX)
}

/// A magnitude as a signed number; the venue's widths keep every amount far below the limit.
pub(crate) fn signed(magnitude: U256) -> I256 {
    math::signed(magnitude).unwrap_or(I256::MAX)
}
