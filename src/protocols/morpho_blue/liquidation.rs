//! What a liquidation takes, and which of its two forms is asked for.
//!
//! `Morpho.liquidate` wants either collateral to seize or debt shares to repay and computes the other, with the incentive
//! f = min(1.15, 1 / (1 − 0.3 · (1 − lltv))):
//!
//! ```text
//! seize c:  shares = ⌈⌈⌈c · price / 1e36⌉ / f⌉ in shares⌉
//! repay s:  seized = ⌊⌊⌊s in assets⌋ · f⌋ · 1e36 / price⌋
//! ```
//!
//! It reverts where that takes more than the position has. At any instant one of "seize all collateral" and "repay all
//! debt" passes: if the collateral is worth more shares than there are, c > the assets of all shares by at least one unit,
//! so their seizure stays below c. Interest lowers the shares that collateral is worth and raises what shares seize. So
//! seizing all stays valid once it is; repaying all may cease to be. Hence, with a horizon within which the transaction
//! will be mined or given up:
//!
//! 1. *repay all*, if that is still valid at the horizon: no debt is left;
//! 2. else *seize all*, if that is valid now: no collateral is left, and the lenders share what debt is;
//! 3. else, in the narrow band between, *repay most*: one share less than all collateral is worth at the horizon, valid
//!    throughout; what is left is of either kind and far below the cost of gas, and goes with the next block.
//!
//! Invariants: amounts are the contract's to the last unit; a chosen form does not revert within the horizon while nobody
//! else touches the position or the price.
//! Must not: judge whether it pays.

use super::{
    fixed::{Pool, WAD, mul_div_down, mul_div_up},
    margin::{MarketNow, PRICE_SCALE, Position},
};
use crate::{scanner::Unvalued, types::U256};

/// Seconds after the snapshot within which a chosen form stays valid.
const HORIZON_SECONDS: u64 = 900;

/// ConstantsLib: 0.3 and 1.15.
const CURSOR_WAD: U256 = U256::from_limbs([300_000_000_000_000_000, 0, 0, 0]);
const INCENTIVE_MAX_WAD: U256 = U256::from_limbs([1_150_000_000_000_000_000, 0, 0, 0]);

/// Token units by which liquidations in the same block may move each other's amounts: each rounds the market's totals by
/// at most two, and a block has room for some hundred.
const NEIGHBOURS: U256 = U256::from_limbs([256, 0, 0, 0]);

/// How much of a position is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// All debt, for part of the collateral.
    RepayAll,
    /// All collateral; the debt that remains is shared by the lenders at once.
    SeizeAll,
    /// All but dust of both.
    RepayMost,
}

/// Amounts of one liquidation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// Collateral-token units.
    pub(super) seized: U256,
    /// Debt shares.
    pub(super) shares: U256,
    /// What they cost, loan-token units.
    pub(super) assets: U256,
}

/// Least and most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Least.
    pub(super) min: U256,
    /// Most.
    pub(super) max: U256,
}

/// A liquidation to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Liquidation {
    /// How much of the position it takes.
    pub(super) form: Form,
    /// What it takes at the snapshot's block.
    pub(super) taken: Taken,
    /// What it may repay until the horizon, loan-token units.
    pub(super) repaid: Bounds,
    /// What it may seize until then, collateral-token units.
    pub(super) seized: Bounds,
    /// What it may leave as bad debt until then, loan-token units.
    pub(super) bad_debt: Bounds,
}

impl Liquidation {
    /// The arguments of the call: collateral to seize and shares to repay, one of them zero.
    pub(super) fn arguments(&self) -> (U256, U256) {
        match self.form {
            Form::SeizeAll => (self.taken.seized, U256::ZERO),
            Form::RepayAll | Form::RepayMost => (U256::ZERO, self.taken.shares),
        }
    }

    /// Chooses the form for a position that is liquidatable at this block's second.
    pub(super) fn of(position: &Position, now: &MarketNow, timestamp: u64) -> Result<Self, Unvalued> {
        let (price, incentive_wad) = (now.price, incentive_wad(now.market.lltv_wad));
        let overflow = Unvalued::Overflow("liquidation");
        let incentive_wad = incentive_wad.ok_or_else(|| overflow.clone())?;
        let horizon = timestamp.saturating_add(HORIZON_SECONDS);
        let present = Rules { pool: now.debt_pool(), price, incentive_wad };
        let later = Rules { pool: now.debt_pool_at(horizon)?, price, incentive_wad };
        choose(position, &present, &later).ok_or(overflow)
    }
}

/// min(1.15, 1 / (1 − 0.3 · (1 − lltv))), × 1e18.
pub(super) fn incentive_wad(lltv_wad: U256) -> Option<U256> {
    let discount = mul_div_down(CURSOR_WAD, WAD.checked_sub(lltv_wad)?, WAD)?;
    Some(mul_div_down(WAD, WAD, WAD.checked_sub(discount)?)?.min(INCENTIVE_MAX_WAD))
}

/// The contract's rules at one second.
struct Rules {
    pool: Pool,
    price: U256,
    incentive_wad: U256,
}

impl Rules {
    fn seize(&self, seized: U256) -> Option<Taken> {
        let quoted = mul_div_up(seized, self.price, PRICE_SCALE)?;
        let shares = self.pool.shares_up(mul_div_up(quoted, WAD, self.incentive_wad)?)?;
        Some(Taken { seized, shares, assets: self.pool.assets_up(shares)? })
    }

    fn repay(&self, shares: U256) -> Option<Taken> {
        let seized = self.seized_for(self.pool.assets_down(shares)?)?;
        Some(Taken { seized, shares, assets: self.pool.assets_up(shares)? })
    }

    fn seized_for(&self, assets: U256) -> Option<U256> {
        mul_div_down(mul_div_down(assets, self.incentive_wad, WAD)?, PRICE_SCALE, self.price)
    }

    /// By how much roundings can move an amount of assets.
    fn tolerance(&self) -> Option<U256> {
        self.pool.assets_up(U256::ONE)?.checked_add(NEIGHBOURS)
    }
}

fn choose(position: &Position, now: &Rules, later: &Rules) -> Option<Liquidation> {
    let (collateral, shares) = (position.collateral, position.borrow_shares);
    if later.repay(shares).is_some_and(|taken| taken.seized <= collateral) {
        return repaying(Form::RepayAll, position, shares, now, later);
    }
    let all = now.seize(collateral)?;
    if all.shares <= shares {
        return seizing(position, all, now, later);
    }
    let most = later.seize(collateral)?.shares.checked_sub(U256::ONE)?.min(shares);
    repaying(Form::RepayMost, position, most, now, later)
}

fn seizing(position: &Position, taken: Taken, now: &Rules, later: &Rules) -> Option<Liquidation> {
    let tolerance = now.tolerance()?;
    let debt_later = later.pool.assets_up(position.borrow_shares)?;
    Some(Liquidation {
        form: Form::SeizeAll,
        taken,
        repaid: Bounds {
            min: taken.assets.saturating_sub(tolerance),
            max: taken.assets.checked_add(later.tolerance()?)?,
        },
        seized: Bounds { min: taken.seized, max: taken.seized },
        bad_debt: Bounds {
            min: position.debt.saturating_sub(taken.assets).saturating_sub(tolerance),
            max: debt_later.saturating_sub(taken.assets).checked_add(later.tolerance()?)?,
        },
    })
}

fn repaying(form: Form, position: &Position, shares: U256, now: &Rules, later: &Rules) -> Option<Liquidation> {
    let taken = now.repay(shares)?;
    let (least, most) = (now.tolerance()?, later.tolerance()?);
    let left = position.borrow_shares.checked_sub(shares)?;
    let bad_debt_max = match left.is_zero() {
        true => U256::ZERO,
        false => later.pool.assets_up(left)?.checked_add(most)?,
    };
    Some(Liquidation {
        form,
        taken,
        repaid: Bounds {
            min: taken.assets.saturating_sub(least),
            max: later.pool.assets_up(shares)?.checked_add(most)?,
        },
        seized: Bounds {
            min: now.seized_for(now.pool.assets_down(shares)?.saturating_sub(least))?,
            max: later.seized_for(later.pool.assets_down(shares)?.checked_add(most)?)?.min(position.collateral),
        },
        bad_debt: Bounds { min: U256::ZERO, max: bad_debt_max },
    })
}
