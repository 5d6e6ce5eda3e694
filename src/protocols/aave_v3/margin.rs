//! Exact valuation: what an account's collateral and debt are worth and its health factor, in the pool's own integers.
//!
//! ```text
//! supply index    = index · (1 + rate · t / year)                half up; linear
//! debt index      = index · (1 + x + x²/2 + x³/6), x = rate · t / year
//! collateral      = Σ ⌊⌊scaled · index / 1e27⌋ · price / unit⌋   of reserves flagged as collateral
//! debt            = Σ ⌈⌈scaled · index / 1e27⌉ · price / unit⌉
//! health factor   = ⌊(Σ collateralᵢ · thresholdᵢ) · 1e18 / debt⌉ / 1e4
//! ```
//!
//! Sources: `GenericLogic.calculateUserAccountData`, `ReserveLogic.getNormalizedIncome` and `getNormalizedDebt` of
//! revision 10. Money is in the base currency, 8 decimals. Time is the snapshot block's timestamp.
//!
//! Invariants: every figure equals `Pool.getUserAccountData` at that block to the last unit, or there is none.
//! Must not: use floating point.

use super::{
    config::{self, Config},
    ray::{self, BPS, RAY},
    state::{self, Category, Flags, Price, Reserve},
};
use crate::{
    positions::{LegKind, Snapshot, Unit},
    protocols::records,
    scanner::{Standing, Unvalued},
    types::{B256, I256, MarketId, U256, math},
};

/// A health factor of 1: below it, an account is liquidatable.
pub(super) const HEALTHY: U256 = ray::WAD;

/// A reserve at a snapshot's block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReserveNow {
    /// Its number.
    pub(super) id: u32,
    /// As cached.
    pub(super) reserve: Reserve,
    /// Base currency per whole token.
    pub(super) price: U256,
    /// Asset units in a whole token.
    pub(super) unit: U256,
    /// Supply index of the block's second, ray.
    pub(super) supply_index: U256,
    /// Debt index of the block's second, ray.
    pub(super) debt_index: U256,
}

impl ReserveNow {
    /// The reserve as it stands at the snapshot's block.
    pub(super) fn load(snapshot: &Snapshot, id: u32) -> Result<Self, Unvalued> {
        let reserve: Reserve = records::load(&snapshot.book, u64::from(id))?;
        Self::of(snapshot, id, reserve)
    }

    /// Likewise, of a reserve that was read already.
    pub(super) fn of(snapshot: &Snapshot, id: u32, reserve: Reserve) -> Result<Self, Unvalued> {
        let price: Option<Price> = records::find(&snapshot.book, B256::from(U256::from(id)))?;
        let unpriced = || Unvalued::Missing(format!("price of reserve {id}, {}", reserve.asset));
        let price = price.and_then(|Price(price)| price).ok_or_else(unpriced)?;
        let unit = reserve.config.token_unit();
        let unit = unit.ok_or_else(|| Unvalued::Missing(format!("configuration of reserve {id}")))?;
        let (supply_index, debt_index) = indexes(&reserve, snapshot.block.timestamp)?;
        Ok(Self { id, reserve, price, unit, supply_index, debt_index })
    }

    /// Base currency of an aToken balance, down.
    pub(super) fn value_floor(&self, amount: U256) -> Option<U256> {
        ray::mul_div_floor(amount, self.price, self.unit)
    }

    /// Base currency of a debt, up.
    pub(super) fn value_ceil(&self, amount: U256) -> Option<U256> {
        ray::mul_div_ceil(amount, self.price, self.unit)
    }
}

/// Both indexes of a reserve at a second.
pub(super) fn indexes(reserve: &Reserve, timestamp: u64) -> Result<(U256, U256), Unvalued> {
    const OVERFLOW: Unvalued = Unvalued::Overflow("index");
    if timestamp == reserve.updated_at {
        return Ok((reserve.supply_index, reserve.debt_index));
    }
    let elapsed = timestamp.checked_sub(reserve.updated_at).ok_or(OVERFLOW)?;
    let supply = ray::linear_growth(reserve.supply_rate, elapsed);
    let debt = ray::compound_growth(reserve.debt_rate, elapsed);
    let grown = |growth: Option<U256>, index| growth.and_then(|growth| ray::ray_mul_half_up(growth, index));
    let supply = grown(supply, reserve.supply_index).ok_or(OVERFLOW)?;
    let debt = grown(debt, reserve.debt_index).ok_or(OVERFLOW)?;
    Ok((supply, debt))
}

/// Liquidation threshold of a reserve for an account in this category, bps.
pub(super) fn threshold(config: Config, reserve: u32, category: Option<&Category>) -> U256 {
    match category.filter(|category| category.covers(reserve)) {
        Some(category) => category.threshold,
        None => config.get(config::LIQUIDATION_THRESHOLD),
    }
}

/// Liquidation bonus likewise, bps.
pub(super) fn bonus(config: Config, reserve: u32, category: Option<&Category>) -> U256 {
    match category.filter(|category| category.covers(reserve)) {
        Some(category) => category.bonus,
        None => config.get(config::LIQUIDATION_BONUS),
    }
}

/// Loan to value likewise, bps.
fn ltv(config: Config, reserve: u32, category: Option<&Category>) -> U256 {
    match category.filter(|category| category.covers(reserve)) {
        Some(category) if state::has(category.ltv_zero, reserve) => U256::ZERO,
        Some(category) => category.ltv,
        None => config.get(config::LTV),
    }
}

/// The e-mode category of an account, with its flags. A category that nobody defined has no parameters and covers nothing.
pub(super) fn mode(snapshot: &Snapshot, unit: &Unit) -> Result<(Flags, Option<Category>), Unvalued> {
    let flags = Flags::of(unit).ok_or_else(|| Unvalued::Missing(format!("flags of account {}", unit.owner)))?;
    let category = match flags.category {
        0 => None,
        number => records::find(&snapshot.book, B256::from(U256::from(number)))?,
    };
    Ok((flags, category))
}

/// A balance of an account in one reserve, valued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    /// The reserve.
    pub(super) now: ReserveNow,
    /// Scaled balance.
    pub(super) scaled: U256,
    /// Asset units.
    pub(super) amount: U256,
    /// Base currency.
    pub(super) value: U256,
}

/// An account as `getUserAccountData` sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Its e-mode category.
    pub(super) category: Option<Category>,
    /// What backs its debt, by reserve.
    pub(super) collaterals: Vec<Holding>,
    /// What it owes, by reserve.
    pub(super) debts: Vec<Holding>,
    /// Σ collateral, base currency.
    pub(super) collateral: U256,
    /// Σ debt, base currency.
    pub(super) debt: U256,
    /// Σ collateral · liquidation threshold, base currency · bps.
    pub(super) weighted_threshold: U256,
    /// Σ collateral · loan to value, base currency · bps.
    pub(super) weighted_ltv: U256,
    /// 1e18 = 1; the largest word without debt.
    pub(super) health_factor: U256,
}

impl Account {
    /// Values a unit over its reserves.
    pub(super) fn of(
        snapshot: &Snapshot,
        unit: &Unit,
        reserve: impl Fn(u32) -> Result<ReserveNow, Unvalued>,
    ) -> Result<Self, Unvalued> {
        const OVERFLOW: Unvalued = Unvalued::Overflow("value of an account");
        let (flags, category) = mode(snapshot, unit)?;
        let mut account = Self { category, ..Self::default() };
        for leg in &unit.legs {
            if matches!(leg.kind, LegKind::Collateral | LegKind::Debt) {
                let held = Held { kind: leg.kind, scaled: state::magnitude(leg) };
                account.add(reserve(leg.market.0)?, held).ok_or(OVERFLOW)?;
            }
        }
        // The pool asks for the price of every flagged reserve, also where nothing is held.
        let empty = |id: &u32| unit.leg(MarketId(*id), LegKind::Collateral).is_none();
        for id in state::members(flags.collateral).filter(empty) {
            let listed: Option<Reserve> = records::find(&snapshot.book, B256::from(U256::from(id)))?;
            if listed.is_some() {
                reserve(id)?;
            }
        }
        account.health_factor = if account.debt.is_zero() {
            U256::MAX
        } else {
            ray::wad_div_half_up(account.weighted_threshold, account.debt).ok_or(OVERFLOW)? / BPS
        };
        Ok(account)
    }

    /// Takes a balance in; `None` where the pool's own sums overflow.
    fn add(&mut self, now: ReserveNow, held: Held) -> Option<()> {
        let id = now.id;
        if held.kind == LegKind::Debt {
            let amount = ray::owed_ceil(held.scaled, now.debt_index)?;
            let value = now.value_ceil(amount)?;
            self.debt = self.debt.checked_add(value)?;
            self.debts.push(Holding { now, scaled: held.scaled, amount, value });
            return Some(());
        }
        let amount = ray::supplied_floor(held.scaled, now.supply_index)?;
        let value = now.value_floor(amount)?;
        let category = self.category.as_ref();
        let weighted = |percentage: U256| value.checked_mul(percentage);
        let threshold = weighted(threshold(now.reserve.config, id, category))?;
        let ltv = weighted(ltv(now.reserve.config, id, category))?;
        self.collateral = self.collateral.checked_add(value)?;
        self.weighted_threshold = self.weighted_threshold.checked_add(threshold)?;
        self.weighted_ltv = self.weighted_ltv.checked_add(ltv)?;
        self.collaterals.push(Holding { now, scaled: held.scaled, amount, value });
        Some(())
    }

    /// Whether the pool lets it be liquidated.
    pub(super) fn is_liquidatable(&self) -> bool {
        self.health_factor < HEALTHY
    }

    /// Collateral less debt: what is left after all of it were sold at the oracle's prices.
    pub(super) fn equity(&self) -> Option<I256> {
        math::signed(self.collateral)?.checked_sub(math::signed(self.debt)?)
    }

    /// The six words of `getUserAccountData`; `None` where the view reverts.
    pub(super) fn view(&self) -> Option<[U256; 6]> {
        let average = |weighted: U256| weighted.checked_div(self.collateral).unwrap_or_default();
        let ltv = average(self.weighted_ltv);
        let borrowable = ray::percent_mul_floor(self.collateral, ltv)?;
        let available = borrowable.saturating_sub(self.debt);
        Some([self.collateral, self.debt, available, average(self.weighted_threshold), ltv, self.health_factor])
    }

    /// As the scanner wants it. Surplus is Σ collateral · threshold less debt, down; where the half-up rounding of the
    /// health factor or the division here puts it on the other side of zero than the health factor puts the account of
    /// one, the health factor decides, since it is what the pool looks at.
    pub(super) fn standing(&self) -> Result<Standing, Unvalued> {
        const OVERFLOW: Unvalued = Unvalued::Overflow("surplus");
        let covered = self.weighted_threshold / BPS;
        let raw = math::signed(covered).zip(math::signed(self.debt)).and_then(|(c, d)| c.checked_sub(d));
        let raw = raw.ok_or(OVERFLOW)?;
        let surplus = if self.is_liquidatable() { raw.min(I256::MINUS_ONE) } else { raw.max(I256::ZERO) };
        let equity = self.equity().ok_or(OVERFLOW)?;
        let margin = equity.checked_sub(surplus).ok_or(OVERFLOW)?;
        Ok(Standing {
            equity,
            maintenance_margin: math::positive_part(margin),
            surplus,
            health_factor_wad: Some(self.health_factor),
        })
    }
}

/// A leg that counts.
struct Held {
    kind: LegKind,
    scaled: U256,
}

/// A reserve's index that has not moved yet.
pub(super) const FIRST_INDEX: U256 = RAY;
