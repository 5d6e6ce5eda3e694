//! Which liquidations of an account are possible now, best first.
//!
//! Objective, compared in integers over all pairs of a collateral and a debt:
//!
//! - An account whose collateral, less the bonuses on it, cannot repay its debt leaves bad debt whatever is done. There the
//!   pair that clears the most debt by value goes first, then the higher reward: every unit repaid now is a unit that no
//!   later fall turns into a deficit.
//! - Of any other account the pair with the higher reward goes first, then the one that clears more debt.
//! - Ties stand by reserve numbers, collateral before debt.
//!
//! For each pair the most that the pool allows is taken; where that would leave dust, the most that leaves enough of
//! either side, with some room for prices to move until the call is mined.
//!
//! Invariants: every choice is accepted by the pool at the snapshot's block; equal accounts give equal choices.
//! Must not: know what the keeper holds.

use std::cmp::Reverse;

use super::{
    config,
    liquidation::{LEFTOVER_BASE, Outcome, Pair, SENTINEL_HEALTH},
    margin::{self, Account, Holding},
    ray::{self, BPS},
};
use crate::types::U256;

/// Most choices that are offered for an account: others matter where the keeper lacks the first one's debt asset.
pub(super) const CHOICES_MAX: usize = 8;
/// What a call offers above what it is to take, for debt that grows until it is mined, bps.
const GROWTH_BPS: U256 = U256::from_limbs([10, 0, 0, 0]);
/// The same where the collateral is what runs out, for prices that move, bps.
const PRICE_BPS: U256 = U256::from_limbs([100, 0, 0, 0]);

/// A possible liquidation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice<'a> {
    /// What is taken.
    pub(super) collateral: &'a Holding,
    /// What is repaid.
    pub(super) debt: &'a Holding,
    /// What the call offers to cover: what it takes is at most that.
    pub(super) cover: U256,
    /// What it does.
    pub(super) outcome: Outcome,
    /// Value of what is seized, down, and of what is repaid, up and down: base currency.
    pub(super) seized_value: U256,
    pub(super) repaid_value_ceil: U256,
    pub(super) repaid_value_floor: U256,
    /// Unix second from which the pool accepts it; 0: now.
    pub(super) not_before: u64,
}

impl Choice<'_> {
    /// What the keeper gets above what it pays.
    pub(super) fn reward(&self) -> U256 {
        self.seized_value.saturating_sub(self.repaid_value_ceil)
    }

    /// What the account loses: bonus and fee.
    pub(super) fn own_loss(&self) -> U256 {
        self.outcome.taken_value.saturating_sub(self.repaid_value_floor)
    }
}

/// Whether bad debt is left whatever is done: Σ ⌊collateral / bonus⌋ is less than the debt.
pub(super) fn leaves_bad_debt(account: &Account) -> Option<bool> {
    let mut payable = U256::ZERO;
    for collateral in &account.collaterals {
        let now = &collateral.now;
        let bonus = margin::bonus(now.reserve.config, now.id, account.category.as_ref());
        payable = payable.checked_add(ray::mul_div_floor(collateral.value, BPS, bonus).unwrap_or_default())?;
    }
    Some(payable < account.debt)
}

/// The possible liquidations of a liquidatable account, best first, at most [`CHOICES_MAX`].
pub(super) fn choices(account: &Account, timestamp: u64, sentinel_allows: bool) -> Vec<Choice<'_>> {
    if !account.is_liquidatable() || !(sentinel_allows || account.health_factor < SENTINEL_HEALTH) {
        return Vec::new();
    }
    let bad_debt = leaves_bad_debt(account).unwrap_or(true);
    let pairs = account.collaterals.iter().flat_map(|c| account.debts.iter().map(move |d| (c, d)));
    let mut choices: Vec<Choice<'_>> = pairs
        .filter(|(collateral, debt)| is_open(collateral) && is_open(debt))
        .filter_map(|(collateral, debt)| best(Pair { account, collateral, debt }, timestamp))
        .collect();
    choices.sort_by_cached_key(|choice| {
        let (reward, cleared) = (choice.reward(), choice.repaid_value_floor);
        let rank = if bad_debt { (cleared, reward) } else { (reward, cleared) };
        (choice.not_before, Reverse(rank), choice.collateral.now.id, choice.debt.now.id)
    });
    choices.truncate(CHOICES_MAX);
    choices
}

fn is_open(holding: &Holding) -> bool {
    let config = holding.now.reserve.config;
    config.is(config::ACTIVE) && !config.is(config::PAUSED)
}

/// The largest liquidation of a pair that the pool accepts.
fn best<'a>(pair: Pair<'a>, timestamp: u64) -> Option<Choice<'a>> {
    let most = pair.coverable()?;
    let whole = with_growth(most, GROWTH_BPS)?;
    let accepted = match pair.outcome(whole) {
        Ok(outcome) if outcome.repaid < most => {
            // The collateral runs out: a price in the account's favour must not leave a little of it.
            let cover = with_growth(outcome.repaid, PRICE_BPS)?.min(whole);
            Some((cover, outcome))
        }
        Ok(outcome) => Some((whole, outcome)),
        Err(_) => limited(&pair, most),
    };
    let (cover, outcome) = accepted?;
    let (of, to) = (&pair.collateral.now, &pair.debt.now);
    let grace = of.reserve.grace_until.max(to.reserve.grace_until);
    Some(Choice {
        collateral: pair.collateral,
        debt: pair.debt,
        cover,
        seized_value: of.value_floor(outcome.seized)?,
        repaid_value_ceil: to.value_ceil(outcome.repaid)?,
        repaid_value_floor: to.value_floor(outcome.repaid)?,
        outcome,
        not_before: if grace < timestamp { 0 } else { grace.saturating_add(1) },
    })
}

/// The most that leaves more than dust on both sides and that the collateral's reserve can pay out. Exact: what such a
/// call offers is what it takes.
fn limited(pair: &Pair<'_>, most: U256) -> Option<(U256, Outcome)> {
    let leftover = with_growth(LEFTOVER_BASE, PRICE_BPS)?;
    let (of, to) = (&pair.collateral.now, &pair.debt.now);
    let kept = |unit: U256, price: U256| ray::mul_div_ceil(leftover, unit, price);
    let debt_bound = pair.debt.amount.saturating_sub(kept(to.unit, to.price)?);
    let free = pair.collateral.amount.saturating_sub(kept(of.unit, of.price)?);
    let held_bound = pair.cover_for(free)?;
    let liquid_bound = pair.cover_for(of.reserve.liquidity)?;
    // Where only the reserve's liquidity is short, the rules about dust may still let one side be cleared.
    let bounds = [most.min(liquid_bound), most.min(liquid_bound).min(debt_bound).min(held_bound)];
    bounds.into_iter().find_map(|cover| Some((cover, pair.outcome(cover).ok()?)))
}

fn with_growth(amount: U256, growth_bps: U256) -> Option<U256> {
    let growth = ray::mul_div_ceil(amount, growth_bps, BPS)?;
    amount.checked_add(growth)?.checked_add(U256::ONE)
}
