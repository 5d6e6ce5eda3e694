//! Exact margin maths: what an account is worth and must keep, in the contracts' own integers and roundings.
//!
//! ```text
//! size          = taker size + base in pool − base debt of orders, nothing below 10 units of 10⁻¹⁸
//! value         = size · price / 1e18                                                   toward zero
//! unrealised    = Σ value + Σ open notional + Σ (quote in pool − quote debt of orders)
//! settlement    = balance + pending fees − pending funding + owed profit
//! account value = settlement + collateral + unrealised            rounded down to the settlement token's decimals
//! requirement   = Σ |value| · maintenance margin / 1e6                                  rounded down
//! ```
//!
//! The price is the mark price of an open market, the index price at its pause of a paused one, the final price of a
//! closed one. Sources: `Vault._getAccountValueAndTotalCollateralValue`, `AccountBalance.getTotalPositionValue`,
//! `getMarginRequirementForLiquidation`, `getPnlAndPendingFee`, `getTotalDebtValue`, `OrderBook._getTotalTokenAmountInPool`.
//!
//! An account is liquidatable where account value < requirement (`ClearingHouse._isLiquidatable`). In whole units of the
//! settlement token that is account value < ⌈requirement⌉, because the left side is whole already.
//!
//! Invariants: every result equals the contracts' view at that block to the last unit, or there is none.
//! Must not: use floating point.

use super::{
    Settings,
    account::Account,
    decode::{DUST, floor_to_token},
    funding::{PPM, payment},
    reads::needs_views,
    state::{self, Collateral, Config, MakerNow, Market, MarketNow, ONLY, Status},
    ticks::{WAD, base_in_range, quote_in_range},
};
use crate::{
    positions::{LegKind, Snapshot, Unit},
    scanner::{Standing, Unvalued},
    types::{
        I256, MarketId, U256,
        math::{mul_div_floor, mul_div_toward_zero, signed},
    },
};

const OVERFLOW: Unvalued = Unvalued::Overflow("account value");

/// A market at a snapshot's block.
#[derive(Clone, Debug)]
pub(super) struct Priced {
    /// Its record.
    pub(super) market: Market,
    /// What positions in it are valued at, 10⁻¹⁸.
    pub(super) price: U256,
    /// Funding growth at the block's second, if known.
    pub(super) growth: Option<I256>,
}

impl Priced {
    /// The market as it stands at the snapshot's block.
    pub(super) fn load(snapshot: &Snapshot, id: MarketId) -> Result<Self, Unvalued> {
        let market: Market = state::load(&snapshot.book, state::numbered(id))?;
        let now: Option<MarketNow> = state::find(&snapshot.book, state::numbered(id))?;
        let now = now.filter(|now| now.block == snapshot.block.number).unwrap_or_default();
        let price = match market.status {
            Status::Open => now.mark,
            Status::Paused => market.paused_price,
            Status::Closed => market.closed_price,
        };
        if price.is_zero() {
            return Err(Unvalued::Missing(format!("price of market {id} at block {}", snapshot.block.number)));
        }
        let settled = market.is_settled(snapshot.block.timestamp).then_some(market.growth);
        Ok(Self { growth: settled.or(now.growth), market, price })
    }

    /// What a position of this size is worth, 10⁻¹⁸, toward zero.
    pub(super) fn value(&self, size: I256) -> Result<I256, Unvalued> {
        value(size, self.price)
    }
}

/// size · price / 1e18, toward zero.
pub(super) fn value(size: I256, price: U256) -> Result<I256, Unvalued> {
    let price = signed(price).ok_or(OVERFLOW)?;
    mul_div_toward_zero(size, price, I256::from_raw(WAD)).ok_or(OVERFLOW)
}

/// A unit's position in a market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    /// The market.
    pub(super) market: MarketId,
    /// Whether it trades.
    pub(super) status: Status,
    /// Taker and maker together, 10⁻¹⁸.
    pub(super) size: I256,
    /// Its value, 10⁻¹⁸.
    pub(super) value: I256,
    /// What a position is valued at, 10⁻¹⁸.
    pub(super) price: U256,
    /// Ranges of liquidity in this market.
    pub(super) orders: usize,
}

/// An account with what it is worth at a snapshot's block, 10⁻¹⁸ unless named otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Worth {
    /// Positions by market.
    pub(super) positions: Vec<Position>,
    /// Settlement tokens, with what is pending and owed.
    pub(super) settlement: I256,
    /// Value of other collateral after its ratios.
    pub(super) collateral: I256,
    /// Open profit.
    pub(super) unrealised: I256,
    /// Fees that liquidity earned and nobody collected.
    pub(super) pending_fees: U256,
    /// Σ |value|.
    pub(super) abs_value: U256,
    /// Borrowed quote and base at the markets' prices (`getTotalDebtValue`).
    pub(super) debt_value: U256,
    /// Maintenance margin, 10⁻⁶.
    pub(super) mm_ratio: u32,
    /// Units of 10⁻¹⁸ in a unit of the settlement token.
    pub(super) scale: U256,
}

impl Worth {
    /// Values a unit.
    pub(super) fn of(settings: &Settings, snapshot: &Snapshot, unit: &Unit) -> Result<Self, Unvalued> {
        let account = Account::of(unit)?;
        let config = state::find::<Config>(&snapshot.book, ONLY)?.filter(|config| config.read);
        let config = config.ok_or_else(|| Unvalued::Missing("parameters of the clearing house".to_owned()))?;
        let scale = settings.scale();
        let mut sums = Sums { funding: Some(I256::ZERO), ..Sums::default() };
        for market in markets(unit, &account) {
            sums.add(snapshot, unit, &account, market)?;
        }
        let (funding, pending_fees) = pending(snapshot, unit, &account, &sums)?;
        let balance = unit.cash.checked_mul(I256::from_raw(scale)).ok_or(OVERFLOW)?;
        let settlement = [signed(pending_fees).ok_or(OVERFLOW)?, -funding, account.owed]
            .into_iter()
            .try_fold(balance, I256::checked_add)
            .ok_or(OVERFLOW)?;
        let negative_quote = if sums.quote.is_negative() { sums.quote } else { I256::ZERO };
        Ok(Self {
            settlement,
            collateral: collateral(snapshot, unit)?,
            unrealised: sums.value.checked_add(sums.notional).ok_or(OVERFLOW)?,
            pending_fees,
            abs_value: sums.abs_value,
            debt_value: negative_quote.checked_add(sums.base_debt).ok_or(OVERFLOW)?.unsigned_abs(),
            positions: sums.positions,
            mm_ratio: config.mm_ratio,
            scale,
        })
    }

    /// The account's value, unrounded.
    pub(super) fn value(&self) -> Result<I256, Unvalued> {
        let value = self.settlement.checked_add(self.collateral).and_then(|v| v.checked_add(self.unrealised));
        value.ok_or(OVERFLOW)
    }

    /// The account's value in units of the settlement token, rounded down.
    pub(super) fn value_tokens(&self) -> Result<I256, Unvalued> {
        Ok(floor_to_token(self.value()?, self.scale))
    }

    /// `ClearingHouse.getAccountValue`: rounded down to the settlement token, in 10⁻¹⁸.
    pub(super) fn account_value(&self) -> Result<I256, Unvalued> {
        self.value_tokens()?.checked_mul(I256::from_raw(self.scale)).ok_or(OVERFLOW)
    }

    /// `AccountBalance.getMarginRequirementForLiquidation`, 10⁻¹⁸.
    pub(super) fn requirement(&self) -> Result<U256, Unvalued> {
        mul_ratio(self.abs_value, self.mm_ratio)
    }

    /// See [`crate::scanner::Valuation::standing`].
    pub(super) fn standing(&self) -> Result<Standing, Unvalued> {
        let equity = self.value_tokens()?;
        let maintenance_margin = self.requirement()?.div_ceil(self.scale);
        let surplus = signed(maintenance_margin).and_then(|margin| equity.checked_sub(margin)).ok_or(OVERFLOW)?;
        Ok(Standing { equity, maintenance_margin, surplus, health_factor_wad: None })
    }

    /// `Vault.getFreeCollateralByRatio` before its rounding, 10⁻¹⁸: min(collateral, value) − debt · ratio.
    pub(super) fn free_collateral(&self, ratio: u32) -> Result<I256, Unvalued> {
        let collateral = self.settlement.checked_add(self.collateral).ok_or(OVERFLOW)?;
        let required = signed(mul_ratio(self.debt_value, ratio)?).ok_or(OVERFLOW)?;
        collateral.min(self.value()?).checked_sub(required).ok_or(OVERFLOW)
    }

    /// What may be liquidated of a position now (`AccountBalance.getLiquidatablePositionSize`): all of it where it is
    /// worth at most 100 or the account's value is below half the requirement, else so much that half of the account's
    /// total position value goes.
    pub(super) fn liquidatable_size(&self, position: &Position) -> Result<I256, Unvalued> {
        let (account_value, requirement) = (self.account_value()?, signed(self.requirement()?).ok_or(OVERFLOW)?);
        if account_value >= requirement || position.size.is_zero() {
            return Ok(I256::ZERO);
        }
        let value = position.value.unsigned_abs();
        let half = requirement / I256::unchecked_from(2);
        if value <= U256::from(100) * WAD || account_value < half {
            return Ok(position.size);
        }
        let ratio = mul_div_floor(self.abs_value, PPM, value * U256::from(2)).ok_or(OVERFLOW)?.min(PPM);
        mul_div_toward_zero(position.size, I256::from_raw(ratio), I256::from_raw(PPM)).ok_or(OVERFLOW)
    }
}

/// amount · ratio / 1e6, rounded down (`PerpMath.mulRatio`).
pub(super) fn mul_ratio(amount: U256, ratio: u32) -> Result<U256, Unvalued> {
    mul_div_floor(amount, U256::from(ratio), PPM).ok_or(OVERFLOW)
}

/// Markets in which the unit has a taker position or orders, in order.
fn markets(unit: &Unit, account: &Account) -> Vec<MarketId> {
    let taken = unit.legs.iter().filter(|leg| leg.kind == LegKind::Perp).map(|leg| leg.market);
    let mut markets: Vec<MarketId> = taken.chain(account.orders.iter().map(|order| order.market)).collect();
    markets.sort_unstable();
    markets.dedup();
    markets
}

/// What adds up over a unit's markets.
#[derive(Default)]
struct Sums {
    positions: Vec<Position>,
    /// Σ value.
    value: I256,
    abs_value: U256,
    /// Σ open notional and makers' quote.
    notional: I256,
    /// Σ quote balance: open notional less quote debt.
    quote: I256,
    /// Σ value of borrowed base, ≤ 0.
    base_debt: I256,
    /// Pending funding of takers; `None` once one of them is not known.
    funding: Option<I256>,
}

impl Sums {
    fn add(&mut self, snapshot: &Snapshot, unit: &Unit, account: &Account, id: MarketId) -> Result<(), Unvalued> {
        let priced = Priced::load(snapshot, id)?;
        let leg = unit.leg(id, LegKind::Perp);
        let (taken, open_notional) = leg.map_or((I256::ZERO, I256::ZERO), |leg| (leg.quantity, leg.quote));
        let made = Made::of(&priced.market, account, id)?;
        let size = taken.checked_add(made.base).ok_or(OVERFLOW)?;
        let size = if size.unsigned_abs() < DUST { I256::ZERO } else { size };
        let value = priced.value(size)?;
        let base = taken.checked_sub(signed(made.base_debt).ok_or(OVERFLOW)?).ok_or(OVERFLOW)?;
        if base.is_negative() {
            self.base_debt = self.base_debt.checked_add(priced.value(base)?).ok_or(OVERFLOW)?;
        }
        let quote = open_notional.checked_sub(signed(made.quote_debt).ok_or(OVERFLOW)?).ok_or(OVERFLOW)?;
        self.quote = self.quote.checked_add(quote).ok_or(OVERFLOW)?;
        let notional = open_notional.checked_add(made.quote).ok_or(OVERFLOW)?;
        self.notional = self.notional.checked_add(notional).ok_or(OVERFLOW)?;
        self.value = self.value.checked_add(value).ok_or(OVERFLOW)?;
        self.abs_value = self.abs_value.checked_add(value.unsigned_abs()).ok_or(OVERFLOW)?;
        let settled = account.settled(id).filter(|settled| settled.epoch == priced.market.epoch);
        let paid = match (settled, priced.growth) {
            _ if taken.is_zero() => Some(I256::ZERO),
            (Some(settled), Some(growth)) => payment(taken, growth, settled.growth),
            _ => None,
        };
        self.funding = self.funding.zip(paid).and_then(|(sum, paid)| sum.checked_add(paid));
        let (status, price) = (priced.market.status, priced.price);
        let orders = account.orders_in(id).count();
        self.positions.push(Position { market: id, status, size, value, price, orders });
        Ok(())
    }
}

/// What orders of one account hold in a market, 10⁻¹⁸.
struct Made {
    /// Base in the pool less base debt.
    base: I256,
    /// Quote in the pool less quote debt.
    quote: I256,
    base_debt: U256,
    quote_debt: U256,
}

impl Made {
    fn of(market: &Market, account: &Account, id: MarketId) -> Result<Self, Unvalued> {
        let (mut base, mut quote) = (U256::ZERO, U256::ZERO);
        let (mut base_debt, mut quote_debt) = (U256::ZERO, U256::ZERO);
        for order in account.orders_in(id) {
            if market.sqrt_price.is_zero() {
                return Err(Unvalued::Missing(format!("price of the pool of market {id}")));
            }
            let held = |amount: fn(U256, i32, i32, u128) -> Option<U256>| {
                amount(market.sqrt_price, order.lower, order.upper, order.liquidity).ok_or(OVERFLOW)
            };
            let add = |sum: &mut U256, amount: U256| sum.checked_add(amount).map(|total| *sum = total).ok_or(OVERFLOW);
            add(&mut base, held(base_in_range)?)?;
            add(&mut quote, held(quote_in_range)?)?;
            add(&mut base_debt, order.base_debt)?;
            add(&mut quote_debt, order.quote_debt)?;
        }
        let net = |held: U256, debt: U256| signed(held)?.checked_sub(signed(debt)?);
        Ok(Self {
            base: net(base, base_debt).ok_or(OVERFLOW)?,
            quote: net(quote, quote_debt).ok_or(OVERFLOW)?,
            base_debt,
            quote_debt,
        })
    }
}

/// Pending funding payment and pending fees: from the account's own figures, or from the protocol's views where only
/// they can say.
fn pending(snapshot: &Snapshot, unit: &Unit, account: &Account, sums: &Sums) -> Result<(I256, U256), Unvalued> {
    let missing = || Unvalued::Missing(format!("funding of {} at block {}", unit.owner, snapshot.block.number));
    if !needs_views(&snapshot.book, unit, account)? {
        return Ok((sums.funding.ok_or_else(missing)?, U256::ZERO));
    }
    let now: Option<MakerNow> = state::find(&snapshot.book, unit.owner.into_word())?;
    now.filter(|now| now.block == snapshot.block.number).and_then(|now| now.pending).ok_or_else(missing)
}

/// Value of the unit's other collateral after its ratios, 10⁻¹⁸ (`Vault._getNonSettlementTokenValue`).
fn collateral(snapshot: &Snapshot, unit: &Unit) -> Result<I256, Unvalued> {
    let legs = unit.legs.iter().filter(|leg| leg.kind == LegKind::Collateral);
    let mut sum = U256::ZERO;
    let mut wanted: Vec<_> = legs.collect();
    if wanted.is_empty() {
        return Ok(I256::ZERO);
    }
    for (id, collateral) in state::all::<Collateral>(&snapshot.book) {
        let market = MarketId(collateral.ordinal);
        let Some(at) = wanted.iter().position(|leg| leg.market == market) else { continue };
        let leg = wanted.swap_remove(at);
        let fresh = collateral.price_block == snapshot.block.number && !collateral.price.is_zero();
        let decimals = collateral.token_decimals.zip(collateral.feed_decimals).filter(|_| fresh);
        let (token, feed) = decimals
            .ok_or_else(|| Unvalued::Missing(format!("price of collateral {id} at block {}", snapshot.block.number)))?;
        let value = collateral_value(leg.quantity.unsigned_abs(), collateral.price, token, feed).ok_or(OVERFLOW)?;
        sum = sum.checked_add(mul_ratio(value, collateral.ratio)?).ok_or(OVERFLOW)?;
    }
    match wanted.first() {
        Some(leg) => Err(Unvalued::Missing(format!("collateral {}", leg.market))),
        None => signed(sum).ok_or(OVERFLOW),
    }
}

/// amount · price in 10⁻¹⁸, rounded down; decimals are brought to 18 on the side that keeps most of them
/// (`Vault._getSettlementByCollateral`).
fn collateral_value(amount: U256, price: U256, token_decimals: u8, feed_decimals: u8) -> Option<U256> {
    let ten = |exponent: u8| U256::from(10).checked_pow(U256::from(exponent));
    if token_decimals > 18 {
        Some(mul_div_floor(amount, price, ten(feed_decimals)?)? / ten(token_decimals - 18)?)
    } else {
        mul_div_floor(amount.checked_mul(ten(18 - token_decimals)?)?, price, ten(feed_decimals)?)
    }
}
