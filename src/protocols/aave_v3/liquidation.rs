//! What one `liquidationCall` does, to the last unit, or that the pool refuses it.
//!
//! Sources: `LiquidationLogic.executeLiquidationCall` and `_calculateAvailableCollateralToLiquidate` of revision 10. The
//! keeper always takes the underlying, never aTokens. In order:
//!
//! 1. At most all that is owed in the debt reserve; while the health factor is above 0.95 and the account has at least
//!    2,000 base units on either side of the pair, at most half of the whole debt's value.
//! 2. Collateral for it at the oracle's prices plus the bonus, half up; where the account has less, all it has, and the
//!    debt that pays for, up.
//! 3. Of the bonus, the protocol's fee goes to the treasury.
//! 4. What is left on both sides must be worth 1,000 base units each, unless one side is cleared.
//! 5. Where no collateral is left at all, every other debt of the account becomes a deficit of its reserve.
//!
//! Invariants: an outcome is exactly what the pool does at these prices, indexes and balances.
//! Must not: choose among pairs.

use super::{
    config,
    margin::{self, Account, Holding},
    ray,
};
use crate::types::{Address, U256};

/// Above it, only half may be liquidated: 0.95.
const CLOSE_FACTOR_HEALTH: U256 = U256::from_limbs([950_000_000_000_000_000, 0, 0, 0]);
/// Below it, the sentinel does not hold a liquidation back: 0.95.
pub(super) const SENTINEL_HEALTH: U256 = CLOSE_FACTOR_HEALTH;
/// Half, bps.
const CLOSE_FACTOR: U256 = U256::from_limbs([5_000, 0, 0, 0]);
/// Base currency below which a side may always be cleared: 2,000 with 8 decimals.
const SMALL_BASE: U256 = U256::from_limbs([200_000_000_000, 0, 0, 0]);
/// Base currency that must be left of a side that is not cleared: 1,000 with 8 decimals.
pub(super) const LEFTOVER_BASE: U256 = U256::from_limbs([100_000_000_000, 0, 0, 0]);

/// One collateral and one debt of an account.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    /// Whose.
    pub(super) account: &'a Account,
    /// What is taken.
    pub(super) collateral: &'a Holding,
    /// What is repaid.
    pub(super) debt: &'a Holding,
}

/// What a liquidation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Debt repaid by the keeper, units of the debt asset.
    pub(super) repaid: U256,
    /// Collateral to the keeper, units of the collateral asset.
    pub(super) seized: U256,
    /// Collateral to the treasury, units of the collateral asset.
    pub(super) fee: U256,
    /// Value of both, base currency down.
    pub(super) taken_value: U256,
    /// Debt that becomes a deficit, by asset.
    pub(super) deficits: Vec<(Address, U256)>,
}

/// Why the pool refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// `MustNotLeaveDust`.
    Dust,
    /// An amount of nothing, a price of 0, or a figure that overflows.
    Impossible,
}

impl Pair<'_> {
    /// The most of the debt that the pool lets a keeper repay now, units of the debt asset.
    pub(super) fn coverable(&self) -> Option<U256> {
        let (owed, debt) = (self.debt.amount, self.debt);
        let large = self.collateral.value >= SMALL_BASE && debt.value >= SMALL_BASE;
        if !large || self.account.health_factor <= CLOSE_FACTOR_HEALTH {
            return Some(owed);
        }
        let half = ray::percent_mul_half_up(self.account.debt, CLOSE_FACTOR)?;
        if debt.value > half { ray::mul_div_floor(half, debt.now.unit, debt.now.price) } else { Some(owed) }
    }

    /// The bonus on this collateral, bps, 10,000 and more.
    pub(super) fn bonus(&self) -> U256 {
        let now = &self.collateral.now;
        margin::bonus(now.reserve.config, now.id, self.account.category.as_ref())
    }

    /// Debt whose liquidation takes at most this much collateral, fee included, down.
    pub(super) fn cover_for(&self, collateral: U256) -> Option<U256> {
        let base = ray::mul_div_floor(collateral, ray::BPS, self.bonus())?;
        let (of, to) = (&self.collateral.now, &self.debt.now);
        base.checked_mul(of.price)?.checked_mul(to.unit)?.checked_div(to.price.checked_mul(of.unit)?)
    }

    /// What a call that offers to cover this much does.
    pub(super) fn outcome(&self, cover: U256) -> Result<Outcome, Refused> {
        let coverable = self.coverable().ok_or(Refused::Impossible)?;
        let taken = self.taken(cover.min(coverable)).ok_or(Refused::Impossible)?;
        let (owed, held) = (self.debt.amount, self.collateral.amount);
        let taken_units = taken.seized + taken.fee;
        if taken.repaid < owed && taken_units < held {
            let debt_left = self.debt.now.value_ceil(owed - taken.repaid).ok_or(Refused::Impossible)?;
            let held_left = self.collateral.now.value_floor(held - taken_units).ok_or(Refused::Impossible)?;
            if debt_left < LEFTOVER_BASE || held_left < LEFTOVER_BASE {
                return Err(Refused::Dust);
            }
        }
        let nothing_left = self.account.collateral == taken.value;
        let outstanding = owed.checked_sub(taken.repaid).ok_or(Refused::Impossible)?;
        let burnt = if nothing_left { owed } else { taken.repaid };
        self.burns(burnt, taken.seized)?;
        Ok(Outcome {
            repaid: taken.repaid,
            seized: taken.seized,
            fee: taken.fee,
            taken_value: taken.value,
            deficits: if nothing_left { self.deficits(outstanding) } else { Vec::new() },
        })
    }

    /// Collateral for a debt, with the bonus and the fee out of it.
    fn taken(&self, cover: U256) -> Option<Taken> {
        let (of, to) = (&self.collateral.now, &self.debt.now);
        let held = self.collateral.amount;
        let bonus = self.bonus();
        let base = to.price.checked_mul(cover)?.checked_mul(of.unit)?.checked_div(of.price.checked_mul(to.unit)?)?;
        let wanted = ray::percent_mul_half_up(base, bonus)?;
        let (all, repaid) = if wanted > held {
            let worth = of.price.checked_mul(held)?.checked_mul(to.unit)?;
            let worth = worth.checked_div(to.price.checked_mul(of.unit)?)?;
            (held, ray::percent_div_ceil(worth, bonus)?)
        } else {
            (wanted, cover)
        };
        let value = of.value_floor(all)?;
        let share = of.reserve.config.get(config::PROTOCOL_FEE);
        let fee = if share.is_zero() {
            U256::ZERO
        } else {
            let own = all.checked_sub(ray::percent_div_half_up(all, bonus)?)?;
            ray::percent_mul_half_up(own, share)?
        };
        Some(Taken { repaid, seized: all.checked_sub(fee)?, fee, value })
    }

    /// The receipts refuse to burn nothing, and no more can be paid out than the reserve has.
    fn burns(&self, debt: U256, seized: U256) -> Result<(), Refused> {
        let scaled_debt = ray::mul_div_floor(debt, ray::RAY, self.debt.now.debt_index);
        let burnt = scaled_debt.is_some_and(|scaled| !scaled.is_zero()) && !seized.is_zero();
        if burnt && seized <= self.collateral.now.reserve.liquidity { Ok(()) } else { Err(Refused::Impossible) }
    }

    /// What becomes a deficit where no collateral is left: the rest of this debt and all of the others whose reserves are
    /// active.
    fn deficits(&self, outstanding: U256) -> Vec<(Address, U256)> {
        let here = self.debt.now.id;
        let rest = |holding: &Holding| if holding.now.id == here { outstanding } else { holding.amount };
        let books = |holding: &&Holding| holding.now.id == here || holding.now.reserve.config.is(config::ACTIVE);
        let debts = self.account.debts.iter().filter(books);
        debts.map(|holding| (holding.now.reserve.asset, rest(holding))).filter(|(_, left)| !left.is_zero()).collect()
    }
}

/// A debt and what is taken for it.
struct Taken {
    repaid: U256,
    seized: U256,
    fee: U256,
    value: U256,
}
