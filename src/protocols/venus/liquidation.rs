//! What the contracts let a keeper do with one distressed account in the next block.
//!
//! | collateral | against debts × incentive | call | sums of markets |
//! |---|---|---|---|
//! | above the pool's least | – | `liquidateBorrow` of one debt for one collateral, up to the close factor | those two with interest, others as stored |
//! | at or below | more | `liquidateAccount`: every debt in full | as stored; amounts with interest |
//! | at or below | no more | `healAccount`: all collateral for a part of every debt, the rest is bad debt | all with interest |
//!
//! `liquidateAccount` takes nothing but the exact debts of the block it executes in, so amounts are those of the block
//! that comes next, which is also the one a simulation plays. Where only a market's unstored interest stands between an
//! account and its liquidation, that market is brought up to date first.
//!
//! A unit's own margin pays the bonus as far as it has equity; what goes beyond deepens the shortfall.
//! Forced liquidation of healthy accounts is governance's business and is not offered.
//! Must not: weigh an offer; the planner does.

use std::{cmp::Reverse, collections::BTreeMap};

use super::{
    abi::{IComptroller, IVToken},
    account::Account,
    decode::protocol_part,
    encode::payload,
    margin::{At, Liquidity, MarketNow, PoolNow},
    rates::{ONE, scaled},
    state::Pausable,
};
use crate::{
    recovery::{Intent, IntentKind, Promise, PromiseKind, Scope, Tier, TokenNeed},
    scanner::Unvalued,
    types::{Address, Bytes, I256, MarketId, U256, UnitKey, math::positive_part},
};

/// Most pairs of debt and collateral offered for one account, best first: the next ones where capital for the first lacks.
const PAIRS_MAX: usize = 3;
/// One part in so many by which earlier transactions of the same block can move a seizure or a healing: they move exchange
/// rates by rounding only.
const DRIFT: U256 = U256::from_limbs([1_000_000, 0, 0, 0]);

/// Gas, measured on the package's contracts behind beacons and rounded up.
const GAS_PAIR: u64 = 700_000;
const GAS_ORDERS: u64 = 250_000;
const GAS_ORDER: u64 = 450_000;
const GAS_HEAL: u64 = 200_000;
const GAS_HEAL_MARKET: u64 = 350_000;
const GAS_ACCRUE: u64 = 150_000;

/// One distressed account.
pub(super) struct Debtor<'a> {
    pub(super) key: &'a UnitKey,
    pub(super) owner: Address,
    pub(super) account: &'a Account,
    /// What it is worth in the case, USD × 1e18: the ledger's figure.
    pub(super) equity: I256,
    /// Its pool in the block that comes next.
    pub(super) pool: &'a PoolNow,
}

/// How far interest is taken to be stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Interest {
    /// As the contracts have it.
    AsStored,
    /// As if every market had just been brought up to date.
    UpToDate,
}

impl Debtor<'_> {
    /// Everything that could be done with the account now, best first.
    pub(super) fn offers(&self) -> Result<Vec<Intent>, Unvalued> {
        let offers = self.offers_with(Interest::AsStored)?;
        if offers.is_empty() && !self.offers_with(Interest::UpToDate)?.is_empty() {
            return Ok(self.bring_up_to_date().into_iter().collect());
        }
        Ok(offers)
    }

    fn offers_with(&self, interest: Interest) -> Result<Vec<Intent>, Unvalued> {
        let all = self.pool.liquidity(self.account, |_| At::Accrued)?;
        let mut offers = self.pairs(interest)?;
        let stored = match interest {
            Interest::AsStored => self.pool.liquidity(self.account, |_| At::Stored)?,
            Interest::UpToDate => all,
        };
        offers.extend(self.whole_account(&stored)?);
        offers.extend(self.healing(&all)?);
        Ok(offers)
    }

    fn pairs(&self, interest: Interest) -> Result<Vec<Intent>, Unvalued> {
        let mut pairs = Vec::new();
        for &debt in self.account.debts.keys() {
            for &collateral in self.account.tokens.keys().filter(|id| self.account.entered.contains(*id)) {
                let up_to_date = |id| interest == Interest::UpToDate || id == debt || id == collateral;
                let at = |id| if up_to_date(id) { At::Accrued } else { At::Stored };
                let sums = self.pool.liquidity(self.account, at)?;
                let open = sums.collateral > self.pool.pool.collateral_min && !sums.shortfall().is_zero();
                if open && let Some(pair) = self.pair(debt, collateral)? {
                    pairs.push(pair);
                }
            }
        }
        pairs.sort_by_key(|pair| Reverse(pair.repaid_value));
        pairs.truncate(PAIRS_MAX);
        pairs.iter().map(|pair| self.pair_intent(pair)).collect()
    }

    /// The most of a debt that one liquidation can exchange for one collateral; `None` if nothing.
    fn pair(&self, debt: MarketId, collateral: MarketId) -> Result<Option<Exchange<'_>>, Unvalued> {
        let (debt, collateral) = (self.pool.market(debt)?, self.pool.market(collateral)?);
        let owed = self.owed(debt)?;
        let closable = scaled(self.pool.pool.close_factor, owed).ok_or(Unvalued::Overflow("a repayment"))?;
        let held = self.account.tokens(collateral.id());
        self.exchange(debt, collateral, closable, held)
    }

    /// Repays up to `repay_max` of a debt for up to `held` vTokens; `None` where the contracts refuse or nothing comes of it.
    fn exchange<'m>(
        &self,
        debt: &'m MarketNow,
        collateral: &'m MarketNow,
        repay_max: U256,
        held: U256,
    ) -> Result<Option<Exchange<'m>>, Unvalued> {
        if !self.may_seize(collateral) || !may_repay(debt) || debt.listing.is_paused(Pausable::Liquidate) {
            return Ok(None);
        }
        let pool = &self.pool.pool;
        let price_of_debt = || {
            let ratio = seize_ratio(pool.incentive, debt.price, collateral)?;
            let repay = repay_max.min(held.checked_mul(ONE)?.checked_div(ratio)?);
            let seized = scaled(ratio, repay)?;
            let part = protocol_part(seized, collateral.listing.seize_share, pool.incentive)?;
            Some((repay, seized, part))
        };
        let (repay, seized, part) = price_of_debt().ok_or(Unvalued::Overflow("a seizure"))?;
        let same = debt.vtoken == collateral.vtoken;
        if repay.is_zero()
            || seized.is_zero()
            || !has_cash_for(collateral, part, if same { repay } else { U256::ZERO })?
        {
            return Ok(None);
        }
        let (value, _) = collateral.token_values(At::Accrued)?;
        let worth = |tokens| scaled(value, tokens).ok_or(Unvalued::Overflow("a seizure's value"));
        Ok(Some(Exchange {
            debt,
            collateral,
            repay,
            seized,
            to_keeper: seized - part,
            repaid_value: debt.value(repay)?,
            seized_value: worth(seized)?,
            kept_value: worth(seized - part)?,
        }))
    }

    fn pair_intent(&self, pair: &Exchange<'_>) -> Result<Intent, Unvalued> {
        let call = IVToken::liquidateBorrowCall {
            borrower: self.owner,
            repayAmount: pair.repay,
            vTokenCollateral: pair.collateral.vtoken,
        };
        let mut intent =
            self.intent(IntentKind::Liquidate, payload(pair.debt.vtoken, &call), std::slice::from_ref(pair));
        intent.gas = GAS_PAIR;
        intent.why = format!(
            "collateral is above the pool's least of {}, so one debt is repaid for one collateral: {} of market {} for {} \
             vTokens of market {}",
            self.pool.pool.collateral_min,
            pair.repay,
            pair.debt.id(),
            pair.seized,
            pair.collateral.id()
        );
        Ok(intent)
    }

    /// `liquidateAccount`, judged on the sums it will see before it brings them up to date.
    fn whole_account(&self, stored: &Liquidity) -> Result<Option<Intent>, Unvalued> {
        let pool = &self.pool.pool;
        let needed = scaled(pool.incentive, stored.borrows).ok_or(Unvalued::Overflow("collateral to seize"))?;
        let small = stored.collateral <= pool.collateral_min;
        if !small || needed >= stored.collateral || stored.shortfall().is_zero() {
            return Ok(None);
        }
        let Some(exchanges) = self.exchanges_of_all()? else { return Ok(None) };
        if U256::from(exchanges.len() / 2) > pool.loops_max {
            return Ok(None);
        }
        let order = |e: &Exchange<'_>| IComptroller::LiquidationOrder {
            vTokenCollateral: e.collateral.vtoken,
            vTokenBorrowed: e.debt.vtoken,
            repayAmount: e.repay,
        };
        let orders: Vec<_> = exchanges.iter().map(order).collect();
        let call = IComptroller::liquidateAccountCall { borrower: self.owner, orders };
        let to = self.pool.comptroller;
        let mut intent = self.intent(IntentKind::Liquidate, payload(to, &call), &exchanges);
        intent.promises.push(none_of(PromiseKind::BadDebt));
        intent.gas = GAS_ORDERS + GAS_ORDER * exchanges.len() as u64;
        intent.why = format!(
            "collateral of {} is at or below the pool's least and pays for every debt with its bonus, so the whole account \
             is liquidated in {} orders",
            stored.collateral,
            exchanges.len()
        );
        Ok(Some(intent))
    }

    /// Every debt in full, the most valuable collateral first; `None` if the collateral does not suffice to the last unit.
    fn exchanges_of_all(&self) -> Result<Option<Vec<Exchange<'_>>>, Unvalued> {
        let mut collaterals = Vec::new();
        for (&id, &tokens) in self.account.tokens.iter().filter(|(id, _)| self.account.entered.contains(id)) {
            let market = self.pool.market(id)?;
            let (value, _) = market.token_values(At::Accrued)?;
            let worth = scaled(value, tokens).ok_or(Unvalued::Overflow("a collateral's value"))?;
            collaterals.push((worth, market, tokens));
        }
        collaterals.sort_by_key(|(worth, market, _)| (Reverse(*worth), market.id()));
        let mut exchanges = Vec::new();
        for &debt in self.account.debts.keys() {
            let debt = self.pool.market(debt)?;
            let mut left = self.owed(debt)?;
            for (_, collateral, held) in &mut collaterals {
                if left.is_zero() {
                    break;
                }
                if let Some(exchange) = self.exchange(debt, collateral, left, *held)? {
                    left -= exchange.repay;
                    *held -= exchange.seized;
                    exchanges.push(exchange);
                }
            }
            if !left.is_zero() {
                return Ok(None);
            }
        }
        Ok(Some(exchanges))
    }

    /// `healAccount`: all collateral for the part of every debt that it pays with its bonus.
    fn healing(&self, all: &Liquidity) -> Result<Option<Intent>, Unvalued> {
        let pool = &self.pool.pool;
        if all.collateral > pool.collateral_min || all.shortfall().is_zero() {
            return Ok(None);
        }
        let part = || {
            let scaled_borrows = scaled(all.borrows, pool.incentive)?;
            all.collateral.checked_mul(ONE)?.checked_div(scaled_borrows)
        };
        let part = part().ok_or(Unvalued::Overflow("the part of debts that collateral pays"))?;
        if part > ONE {
            return Ok(None);
        }
        let mut healing = Healing::default();
        for &id in &self.account.entered {
            let market = self.pool.market(id)?;
            if market.listing.listed && !healing.add(self, market, part)? {
                return Ok(None);
            }
        }
        Ok(Some(self.healing_intent(healing, part)))
    }

    fn healing_intent(&self, healing: Healing, part: U256) -> Intent {
        let call = IComptroller::healAccountCall { user: self.owner };
        let bonus = healing.seized_value.saturating_sub(healing.repaid_value);
        let mut intent = self.bare(IntentKind::Heal, payload(self.pool.comptroller, &call), bonus);
        let markets = self.account.entered.len() as u64;
        intent.gas = GAS_HEAL + GAS_HEAL_MARKET * markets;
        intent.reward = healing.kept_value.saturating_sub(healing.repaid_value);
        intent.cost = healing.repaid_value.saturating_sub(healing.kept_value);
        intent.swapped = healing.kept_value;
        intent.promises = healing.promises;
        intent.capital = healing.capital;
        intent.bad_debt = true;
        intent.why = format!(
            "collateral is at or below the pool's least and does not pay for the debts with a bonus, so it is taken for \
             {part} / 1e18 of every debt and the rest is booked as bad debt",
        );
        intent
    }

    /// One market whose interest is not stored yet.
    fn bring_up_to_date(&self) -> Option<Intent> {
        let entered = self.account.entered.iter().filter_map(|id| self.pool.market(*id).ok());
        let stale = entered.into_iter().find(|market| market.listing.listed && market.stored != market.accrued)?;
        let mut intent =
            self.bare(IntentKind::Liquidate, payload(stale.vtoken, &IVToken::accrueInterestCall {}), U256::ZERO);
        intent.gas = GAS_ACCRUE;
        intent.why = format!(
            "interest that market {} has yet to store is what makes the account liquidatable: it is stored first",
            stale.id()
        );
        Some(intent)
    }

    /// Exchanges of debt for collateral as one intent, without its gas and its reason.
    fn intent(&self, kind: IntentKind, payload: Bytes, exchanges: &[Exchange<'_>]) -> Intent {
        let (mut repaid_value, mut seized_value, mut kept_value) = (U256::ZERO, U256::ZERO, U256::ZERO);
        let mut repaid: BTreeMap<(Address, Address), U256> = BTreeMap::new();
        let mut seized: BTreeMap<Address, U256> = BTreeMap::new();
        for exchange in exchanges {
            repaid_value += exchange.repaid_value;
            seized_value += exchange.seized_value;
            kept_value += exchange.kept_value;
            *repaid.entry((exchange.debt.listing.underlying, exchange.debt.vtoken)).or_default() += exchange.repay;
            *seized.entry(exchange.collateral.vtoken).or_default() += exchange.to_keeper;
        }
        let mut intent = self.bare(kind, payload, seized_value.saturating_sub(repaid_value));
        intent.reward = kept_value.saturating_sub(repaid_value);
        intent.cost = repaid_value.saturating_sub(kept_value);
        intent.swapped = kept_value;
        let exact = |(&(token, _), &amount): (&(Address, Address), &U256)| Promise {
            kind: PromiseKind::Repaid,
            asset: Some(token),
            min: amount,
            max: amount,
        };
        intent.promises = repaid.iter().map(exact).collect();
        intent.promises.extend(seized.iter().map(|(vtoken, tokens)| about(PromiseKind::Seized, *vtoken, *tokens)));
        let need = |((token, vtoken), amount)| TokenNeed { token, amount, spender: Some(vtoken) };
        intent.capital = repaid.into_iter().map(need).collect();
        intent
    }

    /// An intent of the account that costs it `bonus`.
    fn bare(&self, kind: IntentKind, payload: Bytes, bonus: U256) -> Intent {
        let absorbs = bonus.min(positive_part(self.equity));
        let deepens = bonus - absorbs;
        Intent {
            kind,
            scope: Scope::Unit(self.key.clone()),
            payload,
            tier: Tier::Liquidate,
            absorbs,
            deepens,
            implicit: Vec::new(),
            promises: Vec::new(),
            reward: U256::ZERO,
            cost: U256::ZERO,
            swapped: U256::ZERO,
            gas: 0,
            capital: Vec::new(),
            bad_debt: self.equity.is_negative() || !deepens.is_zero(),
            not_before: 0,
            batch: None,
            why: String::new(),
        }
    }

    /// What the account owes in a market when a call executes.
    fn owed(&self, market: &MarketNow) -> Result<U256, Unvalued> {
        self.account.debts.get(&market.id()).map_or(Ok(U256::ZERO), |debt| market.accrued.debt(debt))
    }

    fn may_seize(&self, market: &MarketNow) -> bool {
        market.listing.listed && !market.listing.is_paused(Pausable::Seize)
    }
}

fn may_repay(market: &MarketNow) -> bool {
    market.listing.listed && !market.listing.is_paused(Pausable::Repay)
}

/// Whether a market can pay the protocol's part of a seizure out in tokens, with what comes in before.
fn has_cash_for(market: &MarketNow, part: U256, incoming: U256) -> Result<bool, Unvalued> {
    let paid = market.accrued.exchange_rate().and_then(|rate| scaled(rate, part));
    let paid = paid.ok_or(Unvalued::Overflow("the protocol's part"))?;
    Ok(paid <= market.accrued.cash.saturating_add(incoming))
}

/// vTokens seized for one token unit repaid × 1e18, as `Comptroller.liquidateCalculateSeizeTokens`: rounded down thrice.
fn seize_ratio(incentive: U256, price_of_debt: U256, collateral: &MarketNow) -> Option<U256> {
    let numerator = scaled(incentive, price_of_debt)?;
    let denominator = scaled(collateral.price, collateral.accrued.exchange_rate()?)?;
    numerator.checked_mul(ONE)?.checked_div(denominator)
}

/// One debt exchanged for one collateral.
struct Exchange<'m> {
    debt: &'m MarketNow,
    collateral: &'m MarketNow,
    /// Token units.
    repay: U256,
    /// vTokens, the protocol's part included.
    seized: U256,
    /// vTokens.
    to_keeper: U256,
    /// USD × 1e18, like the two below.
    repaid_value: U256,
    seized_value: U256,
    kept_value: U256,
}

/// A healing as its markets add up.
#[derive(Default)]
struct Healing {
    repaid_value: U256,
    seized_value: U256,
    kept_value: U256,
    promises: Vec<Promise>,
    capital: Vec<TokenNeed>,
}

impl Healing {
    /// Takes a market in; `false` where the contracts would refuse.
    fn add(&mut self, debtor: &Debtor<'_>, market: &MarketNow, part: U256) -> Result<bool, Unvalued> {
        let tokens = debtor.account.tokens(market.id());
        if !tokens.is_zero() {
            let share = market.listing.seize_share;
            let to_protocol = protocol_part(tokens, share, debtor.pool.pool.incentive);
            let to_protocol = to_protocol.ok_or(Unvalued::Overflow("the protocol's part"))?;
            if !debtor.may_seize(market) || !has_cash_for(market, to_protocol, U256::ZERO)? {
                return Ok(false);
            }
            let (value, _) = market.token_values(At::Accrued)?;
            let worth = |tokens| scaled(value, tokens).ok_or(Unvalued::Overflow("a seizure's value"));
            self.seized_value += worth(tokens)?;
            self.kept_value += worth(tokens - to_protocol)?;
            self.promises.push(about(PromiseKind::Seized, market.vtoken, tokens - to_protocol));
        }
        let owed = debtor.owed(market)?;
        if !owed.is_zero() {
            let repay = scaled(part, owed).ok_or(Unvalued::Overflow("a repayment"))?;
            if !repay.is_zero() && !may_repay(market) {
                return Ok(false);
            }
            self.repaid_value += market.value(repay)?;
            let (token, spender) = (market.listing.underlying, Some(market.vtoken));
            self.promises.push(about(PromiseKind::Repaid, token, repay));
            self.promises.push(about(PromiseKind::BadDebt, token, owed - repay));
            let amount = repay + drift(repay);
            if !repay.is_zero() {
                self.capital.push(TokenNeed { token, amount, spender });
            }
        }
        Ok(true)
    }
}

fn none_of(kind: PromiseKind) -> Promise {
    Promise { kind, asset: None, min: U256::ZERO, max: U256::ZERO }
}

/// An amount that other transactions of the same block can move by rounding.
fn about(kind: PromiseKind, asset: Address, amount: U256) -> Promise {
    let drift = drift(amount);
    Promise { kind, asset: Some(asset), min: amount.saturating_sub(drift), max: amount.saturating_add(drift) }
}

fn drift(amount: U256) -> U256 {
    amount / DRIFT + U256::ONE
}
