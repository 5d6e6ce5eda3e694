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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uint(x: u128) -> U256 {
        U256::from(x)
    }

    /// Whether the contract takes these arguments at that pool, and what it takes.
    fn carried_out(rules: &Rules, position: &Position, chosen: &Liquidation) -> Option<Taken> {
        let (seized, shares) = chosen.arguments();
        let taken = if shares.is_zero() { rules.seize(seized)? } else { rules.repay(shares)? };
        (taken.seized <= position.collateral && taken.shares <= position.borrow_shares).then_some(taken)
    }

    /// A position in a pool whose assets grow by `interest` until the horizon, with a price that makes the collateral
    /// worth about `cover` millionths of what a full repayment seizes.
    fn situation(
        (assets, shares, collateral): (u64, u64, u64),
        interest: u64,
        cover: u64,
        lltv: u64,
    ) -> (Position, Rules, Rules) {
        let total = u128::from(assets) * 3 + 7;
        let shares_total = u128::from(shares) * 3 + 1_000_000;
        let pool = Pool { assets: uint(total), shares: uint(shares_total) };
        let incentive = incentive_wad(uint(u128::from(lltv) * 10_000_000_000_000_000)).unwrap();
        let debt = pool.assets_up(uint(shares.into())).unwrap();
        let worth = debt * incentive * U256::from(cover) / (WAD * uint(1_000_000));
        let price = worth * PRICE_SCALE / U256::from(collateral);
        let position = Position {
            collateral: U256::from(collateral),
            borrow_shares: U256::from(shares),
            value: mul_div_down(U256::from(collateral), price, PRICE_SCALE).unwrap(),
            max_borrow: U256::ZERO,
            debt,
        };
        let later = Pool { assets: pool.assets + U256::from(interest), ..pool };
        let rules = |pool| Rules { pool, price, incentive_wad: incentive };
        (position, rules(pool), rules(later))
    }

    fn sizes() -> impl Strategy<Value = (u64, u64, u64)> {
        let assets = prop_oneof![1u64..50, 1u64..1 << 40];
        let shares = prop_oneof![1u64..50, 1u64..1 << 60];
        let collateral = prop_oneof![1u64..50, 1u64..1 << 60];
        (assets, shares, collateral)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn the_chosen_form_passes_until_the_horizon_and_keeps_its_bounds(
            sizes in sizes(),
            interest in prop_oneof![0u64..3, 0u64..1 << 20],
            cover in prop_oneof![0u64..2_000_000, 999_990u64..1_000_010],
            lltv in 1u64..99,
            part in 0u64..=1_000,
        ) {
            let (position, now, later) = situation(sizes, interest, cover, lltv);
            // One share that is worth several assets, or one asset that is no share, is dust: it may be left.
            let Some(chosen) = choose(&position, &now, &later) else {
                prop_assert!(later.seize(position.collateral).is_some_and(|all| all.shares <= U256::ONE));
                return Ok(());
            };
            let between = now.pool.assets + U256::from(interest) * U256::from(part) / U256::from(1_000);
            let between = Rules { pool: Pool { assets: between, ..now.pool }, ..now };
            for rules in [&now, &between, &later] {
                let taken = carried_out(rules, &position, &chosen);
                prop_assert!(taken.is_some(), "{chosen:?}");
                let taken = taken.unwrap();
                prop_assert!(chosen.repaid.min <= taken.assets && taken.assets <= chosen.repaid.max, "{chosen:?} {taken:?}");
                prop_assert!(chosen.seized.min <= taken.seized && taken.seized <= chosen.seized.max, "{chosen:?} {taken:?}");
            }
            match chosen.form {
                Form::RepayAll => prop_assert_eq!(chosen.taken.shares, position.borrow_shares),
                Form::SeizeAll => prop_assert_eq!(chosen.taken.seized, position.collateral),
                Form::RepayMost => prop_assert!(interest > 0, "a band of no width"),
            }
        }

        #[test]
        fn at_any_instant_one_of_the_two_forms_passes(sizes in sizes(), cover in 999_000u64..1_001_000, lltv in 1u64..99) {
            let (position, now, _) = situation(sizes, 0, cover, lltv);
            let seizes = now.seize(position.collateral).is_some_and(|all| all.shares <= position.borrow_shares);
            let repays = now.repay(position.borrow_shares).is_some_and(|all| all.seized <= position.collateral);
            prop_assert!(seizes || repays);
        }
    }

    #[test]
    fn a_worthless_collateral_is_seized_for_nothing() {
        let (position, mut now, mut later) = situation((1_000, 1_000_000_000, 500), 1, 900_000, 80);
        (now.price, later.price) = (U256::ZERO, U256::ZERO);
        let chosen = choose(&position, &now, &later).unwrap();
        assert_eq!((chosen.form, chosen.arguments()), (Form::SeizeAll, (U256::from(500), U256::ZERO)));
        assert_eq!((chosen.taken.assets, chosen.taken.shares), (U256::ZERO, U256::ZERO));
    }

    #[test]
    fn in_the_narrow_band_most_is_repaid_and_dust_left() {
        // Repaying all seizes all collateral now, and would seize more at the horizon.
        let sizes = (1_000_000_000, 1_000_000_000_000_000, 1_000_000_000_000);
        let (position, now, later) = situation(sizes, 3_000, 1_000_000, 80);
        assert!(now.repay(position.borrow_shares).unwrap().seized <= position.collateral);
        assert!(later.repay(position.borrow_shares).unwrap().seized > position.collateral);
        let chosen = choose(&position, &now, &later).unwrap();
        assert!(matches!(chosen.form, Form::RepayMost | Form::SeizeAll), "{chosen:?}");
        let left = now.pool.assets_up(position.borrow_shares - chosen.taken.shares).unwrap();
        assert!(left < U256::from(2_000), "{left} of 1,000,000,000");
    }
}
