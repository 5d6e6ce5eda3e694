//! The venue's books as a plan's steps change them: what each step would do on chain, in the chain's own integers.
//!
//! Both the planner (to know what is left for the next step) and the replay (to hold a finished plan against the case)
//! move this state; it refuses a step that the venue would refuse.
//!
//! Invariants: a trade never changes cash + pnl of its two sides but by what the price says; only [`SegmentState`]'s
//! four transitions move money, and none takes a winner, payer or maker below zero.
//! Must not: choose anything; that is the tiers' work.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{I256, U256};

use super::{Contribution, Deleveraging, DistressedUnit, Fill, MarketCase, MemberTerms, Position, SegmentCase, limits};
use crate::types::{
    MarketId, UnitKey,
    math::{mul_div_ceil, mul_div_toward_zero, negative_part, positive_part},
};

pub(super) const BPS: U256 = U256::from_limbs([10_000, 0, 0, 0]);

/// Why a step cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The case contradicts itself.
    #[error("the case is inconsistent: {0}")]
    Case(String),
    /// A unit, market or order that the case does not have, or not in that part.
    #[error("unknown {0}")]
    Unknown(String),
    /// The venue would refuse the step.
    #[error("{0}")]
    Refused(String),
}

/// An account as it stands.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) cash: I256,
    pub(super) maintenance_margin: U256,
    /// Signed lots and quote, none of them of zero lots.
    pub(super) positions: BTreeMap<MarketId, (I256, I256)>,
    /// What the later tiers have paid it in this plan.
    pub(super) external: U256,
    /// Whether some of it has been closed against the market in this plan.
    pub(super) closed: bool,
    /// Whether the backstop pool is asked for it in this plan.
    pub(super) asked: bool,
}

/// What closing lots against the market does to the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    /// Fee, after its cap.
    pub(super) fee: U256,
    /// Loss and fee that the unit's own margin pays: not what opens a hole, and not what others had paid in before.
    pub(super) own: U256,
    /// Equity when all is done.
    pub(super) equity_after: I256,
}

/// All of the segment.
#[derive(Clone, Debug)]
pub(super) struct SegmentState<'a> {
    pub(super) case: &'a SegmentCase,
    pub(super) accounts: BTreeMap<UnitKey, Account>,
    distressed: BTreeMap<&'a UnitKey, &'a DistressedUnit>,
    /// What the fund may still pay out.
    pub(super) spendable: U256,
    /// Fees charged so far. Some of them go to the fund, how much is the venue's business.
    pub(super) fees: U256,
    /// Lots taken from resting orders.
    pub(super) taken: BTreeMap<u64, U256>,
    /// Lots of distressed units closed against the market.
    pub(super) closed: BTreeMap<(UnitKey, MarketId), U256>,
    /// Units whose orders were executed against.
    pub(super) makers: BTreeSet<UnitKey>,
    /// Units that paid for others.
    pub(super) charged: BTreeSet<UnitKey>,
    /// Requirement that margin steps add to units.
    pub(super) raised: BTreeMap<UnitKey, U256>,
    /// What the fund paid back of earlier losses.
    pub(super) returned: U256,
    /// The shared backstop pool as this plan's claims leave it.
    pub(super) pool: Option<Pool>,
}

/// What is left to claim of a shared backstop pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    pub(super) capital: U256,
    pub(super) terms: MemberTerms,
}

impl<'a> SegmentState<'a> {
    /// The state the case describes, after checking that the case is consistent and within [`limits`].
    pub(super) fn of(case: &'a SegmentCase) -> Result<Self, Violation> {
        limits::check(case)?;
        let mut accounts = BTreeMap::new();
        for unit in &case.distressed {
            let account = Account::new(unit.cash, unit.maintenance_margin, &unit.positions);
            accounts.insert(unit.unit.clone(), account);
        }
        for (key, unit) in &case.solvent {
            let cash = unit.positions.iter().fold(unit.equity, |cash, position| cash - position.pnl);
            let maintenance_margin = positive_part(unit.equity - unit.surplus);
            accounts.insert(key.clone(), Account::new(cash, maintenance_margin, &unit.positions));
        }
        Ok(Self {
            case,
            accounts,
            distressed: case.distressed.iter().map(|unit| (&unit.unit, unit)).collect(),
            spendable: case.fund.spendable,
            fees: U256::ZERO,
            taken: BTreeMap::new(),
            closed: BTreeMap::new(),
            makers: BTreeSet::new(),
            charged: BTreeSet::new(),
            raised: BTreeMap::new(),
            returned: U256::ZERO,
            pool: case.measures.pool.as_ref().map(|pool| Pool { capital: pool.capital, terms: pool.terms }),
        })
    }

    pub(super) fn account(&self, unit: &UnitKey) -> Result<&Account, Violation> {
        self.accounts.get(unit).ok_or_else(|| Violation::Unknown(format!("unit {unit}")))
    }

    pub(super) fn market(&self, market: MarketId) -> Result<&'a MarketCase, Violation> {
        self.case.markets.get(&market).ok_or_else(|| Violation::Unknown(format!("market {market}")))
    }

    /// Lots · (mark − funding index) + quote; 0 without a position.
    pub(super) fn pnl(&self, account: &Account, market: MarketId) -> I256 {
        let position = account.positions.get(&market).zip(self.case.markets.get(&market));
        position.map_or(I256::ZERO, |(&(lots, quote), case)| lots * net(case, case.mark_price) + quote)
    }

    pub(super) fn equity(&self, account: &Account) -> I256 {
        account.positions.keys().fold(account.cash, |sum, market| sum + self.pnl(account, *market))
    }

    pub(super) fn surplus(&self, account: &Account) -> I256 {
        self.equity(account) - I256::from_raw(account.maintenance_margin)
    }

    /// How far the unit's equity is below zero.
    pub(super) fn hole(&self, unit: &UnitKey) -> Result<U256, Violation> {
        Ok(negative_part(self.equity(self.account(unit)?)))
    }

    /// Signed lots; 0 without a position.
    pub(super) fn lots(&self, unit: &UnitKey, market: MarketId) -> I256 {
        let account = self.accounts.get(unit);
        account.and_then(|a| a.positions.get(&market)).map_or(I256::ZERO, |(lots, _)| *lots)
    }

    /// Markets in which the unit has a position, largest loss first, ties by market.
    pub(super) fn markets_by_loss(&self, unit: &UnitKey) -> Result<Vec<MarketId>, Violation> {
        let account = self.account(unit)?;
        let mut markets: Vec<_> = account.positions.keys().map(|m| (self.pnl(account, *m), *m)).collect();
        markets.sort_unstable();
        Ok(markets.into_iter().map(|(_, market)| market).collect())
    }

    /// Whether the fund is known to have nothing left to pay. A fee may have filled it a little: then it is not known.
    pub(super) fn fund_spent(&self) -> bool {
        self.spendable.is_zero() && self.fees.is_zero()
    }

    /// Lots that may be closed now. What the case allows holds until the first close moves the account; after that a
    /// venue with a close factor may allow less, and of a unit that still has equity no more than half, rounded up, is
    /// taken to be sure.
    pub(super) fn closable_lots(&self, unit: &UnitKey, market: MarketId) -> Result<U256, Violation> {
        let account = self.account(unit)?;
        if !self.surplus(account).is_negative() {
            return Ok(U256::ZERO);
        }
        let open = self.lots(unit, market).unsigned_abs();
        let allowed = self.distressed.get(unit).and_then(|d| d.liquidatable_lots.get(&market));
        let allowed = allowed.copied().unwrap_or_default();
        let done = self.closed.get(&(unit.clone(), market)).copied().unwrap_or_default();
        let left = allowed.saturating_sub(done).min(open);
        let certain = !account.closed || self.equity(account) <= I256::ZERO;
        Ok(if certain { left } else { left.min(open.div_ceil(U256::from(2))) })
    }

    /// What closing against these fills would do, without doing it.
    pub(super) fn quote_close(&self, unit: &UnitKey, market: MarketId, fills: &[Fill]) -> Result<Closing, Violation> {
        let case = self.market(market)?;
        let mut account = self.account(unit)?.clone();
        let (long, mut realised, mut lots) = (!self.lots(unit, market).is_negative(), I256::ZERO, U256::ZERO);
        for fill in fills {
            let delta = if long { -I256::from_raw(fill.lots) } else { I256::from_raw(fill.lots) };
            realised += account.trade(market, case, delta, net(case, fill.price));
            lots += fill.lots;
        }
        let before_fee = self.equity(&account);
        let nominal = lots * case.mark_price * U256::from(case.liquidation_fee_bps) / BPS;
        let fee = nominal.min(positive_part(before_fee));
        let equity_after = before_fee - I256::from_raw(fee);
        let loss = negative_part(realised) + fee;
        // Without what the later tiers paid in, the equity would be lower by just that.
        let unpaid = negative_part(equity_after - I256::from_raw(account.external));
        Ok(Closing { fee, own: loss.saturating_sub(unpaid), equity_after })
    }

    /// Closes lots of a distressed unit against resting orders.
    pub(super) fn close(&mut self, unit: &UnitKey, market: MarketId, fills: &[Fill]) -> Result<Closing, Violation> {
        self.check_close(unit, market, fills)?;
        let closing = self.quote_close(unit, market, fills)?;
        let case = self.market(market)?;
        let long = !self.lots(unit, market).is_negative();
        for fill in fills {
            let sold = if long { -I256::from_raw(fill.lots) } else { I256::from_raw(fill.lots) };
            self.account_mut(unit)?.trade(market, case, sold, net(case, fill.price));
            self.account_mut(&fill.maker)?.trade(market, case, -sold, net(case, fill.price));
            let maker_equity = self.equity(self.account(&fill.maker)?);
            refuse_if(maker_equity.is_negative(), || format!("maker {} ends at {maker_equity}", fill.maker))?;
            *self.taken.entry(fill.order).or_default() += fill.lots;
            *self.closed.entry((unit.clone(), market)).or_default() += fill.lots;
            self.makers.insert(fill.maker.clone());
        }
        let account = self.account_mut(unit)?;
        account.cash -= I256::from_raw(closing.fee);
        account.closed = true;
        self.fees += closing.fee;
        Ok(closing)
    }

    fn check_close(&self, unit: &UnitKey, market: MarketId, fills: &[Fill]) -> Result<(), Violation> {
        let case = self.market(market)?;
        let long = !self.lots(unit, market).is_negative();
        let book = if long { &case.buys } else { &case.sells };
        let mut total = U256::ZERO;
        let mut wanted: BTreeMap<u64, U256> = BTreeMap::new();
        for fill in fills {
            let order = book.iter().find(|o| o.order == fill.order);
            let order = order.ok_or_else(|| Violation::Unknown(format!("order {}", fill.order)))?;
            let same = order.maker == fill.maker && order.price == fill.price;
            refuse_if(!same || fill.maker == *unit, || format!("order {} is another", fill.order))?;
            let taken = self.taken.get(&fill.order).copied().unwrap_or_default();
            let wanted = wanted.entry(fill.order).or_default();
            *wanted = wanted.saturating_add(fill.lots);
            let beyond = fill.lots.is_zero() || *wanted > order.lots.saturating_sub(taken);
            refuse_if(beyond, || format!("order {} has not {} lots", fill.order, fill.lots))?;
            total += fill.lots;
        }
        let closable = self.closable_lots(unit, market)?;
        refuse_if(total.is_zero() || total > closable, || format!("closes {total} lots of {closable}"))
    }

    /// Pays a unit's shortfall out of the fund.
    pub(super) fn draw(&mut self, unit: &UnitKey, amount: U256) -> Result<(), Violation> {
        let (hole, spendable) = (self.hole(unit)?, self.spendable);
        refuse_if(amount.is_zero() || amount > hole, || format!("draws {amount} for a shortfall of {hole}"))?;
        refuse_if(amount > spendable, || format!("draws {amount} of {spendable} that the fund may pay"))?;
        self.spendable -= amount;
        self.account_mut(unit)?.receive(amount);
        Ok(())
    }

    /// Closes a bankrupt unit against winners at its bankruptcy price, in the order given. Each winner is charged
    /// ceil(shortfall left · its lots / lots left); the amounts named must be just these.
    pub(super) fn deleverage(
        &mut self,
        unit: &UnitKey,
        market: MarketId,
        winners: &[Deleveraging],
    ) -> Result<(), Violation> {
        let case = self.market(market)?;
        let held = self.lots(unit, market);
        let (mut hole_left, mut lots_left) = (self.hole(unit)?, held.unsigned_abs());
        refuse_if(winners.is_empty() || hole_left.is_zero(), || "nothing to deleverage".to_owned())?;
        refuse_if(!self.fund_spent(), || "the fund can still pay".to_owned())?;
        for winner in winners {
            self.check_winner(held, market, winner, lots_left)?;
            let loss = mul_div_ceil(hole_left, winner.lots, lots_left)
                .ok_or_else(|| Violation::Refused("no lots left to deleverage".to_owned()))?;
            let named = loss == winner.loss && loss <= winner.loss_max;
            refuse_if(!named, || format!("winner {} is charged {loss}, not {}", winner.unit, winner.loss))?;
            let lots = I256::from_raw(winner.lots);
            let delta = if held.is_negative() { lots } else { -lots };
            let account = self.account_mut(unit)?;
            account.trade(market, case, delta, net(case, case.mark_price));
            account.receive(loss);
            let account = self.account_mut(&winner.unit)?;
            account.trade(market, case, -delta, net(case, case.mark_price));
            account.cash -= I256::from_raw(loss);
            let surplus = self.surplus(self.account(&winner.unit)?);
            refuse_if(surplus.is_negative(), || format!("winner {} ends with surplus {surplus}", winner.unit))?;
            self.charged.insert(winner.unit.clone());
            hole_left -= loss;
            lots_left -= winner.lots;
        }
        Ok(())
    }

    fn check_winner(
        &self,
        held: I256,
        market: MarketId,
        winner: &Deleveraging,
        lots_left: U256,
    ) -> Result<(), Violation> {
        let account = self.account(&winner.unit)?;
        let lots = self.lots(&winner.unit, market);
        let opposite = !lots.is_zero() && lots.is_negative() != held.is_negative();
        let wins = self.case.solvent.contains_key(&winner.unit) && self.pnl(account, market) > I256::ZERO;
        refuse_if(!opposite || !wins, || format!("{} is no winner in market {market}", winner.unit))?;
        let fits = !winner.lots.is_zero() && winner.lots <= lots_left && winner.lots <= lots.unsigned_abs();
        refuse_if(!fits, || format!("closes {} lots of winner {}", winner.lots, winner.unit))
    }

    /// The segment's whole equity plus the unit's shortfall: what its payers' shares are parts of. Fees may have left
    /// for the fund, which makes the venue's base smaller and its shares larger than these.
    pub(super) fn socialisation_base(&self, unit: &UnitKey) -> Result<U256, Violation> {
        let whole = self.accounts.values().fold(I256::ZERO, |sum, account| sum + self.equity(account));
        Ok(positive_part(whole + I256::from_raw(self.hole(unit)? + self.fees)))
    }

    /// Charges the shortfall of a unit without positions to the rest of the segment.
    pub(super) fn socialise(&mut self, unit: &UnitKey, payers: &[Contribution]) -> Result<(), Violation> {
        let (hole, base) = (self.hole(unit)?, self.socialisation_base(unit)?);
        refuse_if(!self.account(unit)?.positions.is_empty(), || format!("{unit} still has positions"))?;
        refuse_if(!self.fund_spent(), || "the fund can still pay".to_owned())?;
        let mut left = hole;
        let mut asked = BTreeSet::new();
        for payer in payers {
            let equity = self.equity(self.account(&payer.unit)?);
            let share = share_max(hole, equity, base);
            let twice = payer.unit == *unit || !asked.insert(&payer.unit);
            refuse_if(twice || payer.amount.is_zero(), || format!("payer {} is asked wrongly", payer.unit))?;
            let fits = payer.amount <= share && payer.amount <= left && payer.amount <= positive_part(equity);
            refuse_if(!fits, || format!("payer {} is asked {} of {share}", payer.unit, payer.amount))?;
            left -= payer.amount;
            self.account_mut(&payer.unit)?.cash -= I256::from_raw(payer.amount);
            self.account_mut(unit)?.receive(payer.amount);
            self.charged.insert(payer.unit.clone());
        }
        Ok(())
    }

    /// Pays a claimant out of the fund. It may be no account of the case: then its cash is nobody's business here.
    pub(super) fn pay_back(&mut self, unit: &UnitKey, amount: U256) {
        self.spendable -= amount;
        self.returned += amount;
        if let Some(account) = self.accounts.get_mut(unit) {
            account.cash += I256::from_raw(amount);
        }
    }

    pub(super) fn account_mut(&mut self, unit: &UnitKey) -> Result<&mut Account, Violation> {
        self.accounts.get_mut(unit).ok_or_else(|| Violation::Unknown(format!("unit {unit}")))
    }
}

impl Account {
    fn new(cash: I256, maintenance_margin: U256, positions: &[Position]) -> Self {
        let positions = positions.iter().map(|p| (p.market, (p.lots, p.quote))).collect();
        Self { cash, maintenance_margin, positions, external: U256::ZERO, closed: false, asked: false }
    }

    /// Whether this plan changes what it is short, or claims for it.
    pub(super) fn touched(&self) -> bool {
        self.closed || self.asked || !self.external.is_zero()
    }

    pub(super) fn receive(&mut self, amount: U256) {
        self.cash += I256::from_raw(amount);
        self.external += amount;
    }

    /// Trades `delta` lots at a price less funding index of `net` and returns what it moved from the position to cash.
    /// Closing c of n lots takes quote · c / n along, truncated toward zero; what is opened adds −lots · net to the quote.
    fn trade(&mut self, market: MarketId, case: &MarketCase, delta: I256, net: I256) -> I256 {
        let (mut lots, mut quote) = self.positions.get(&market).copied().unwrap_or_default();
        let margin_before = margin(case, lots.unsigned_abs());
        let (mut opened, mut realised) = (delta, I256::ZERO);
        if !lots.is_zero() && lots.is_negative() != delta.is_negative() {
            let magnitude = I256::from_raw(delta.unsigned_abs().min(lots.unsigned_abs()));
            let closed = if lots.is_negative() { -magnitude } else { magnitude };
            let closed_quote = mul_div_toward_zero(quote, closed, lots)
                .expect("invariant: a part of a quote is no larger than the quote");
            realised = closed_quote + closed * net;
            self.cash += realised;
            (lots, quote, opened) = (lots - closed, quote - closed_quote, delta + closed);
        }
        (lots, quote) = (lots + opened, quote - opened * net);
        // The margin of a unit may have been made of more than its positions; what is known is by how much it changes.
        self.maintenance_margin =
            (self.maintenance_margin + margin(case, lots.unsigned_abs())).saturating_sub(margin_before);
        if lots.is_zero() {
            self.positions.remove(&market);
        } else {
            self.positions.insert(market, (lots, quote));
        }
        realised
    }
}

/// The most that an account may be charged of a shortfall: ceil(shortfall · equity / base), nothing without equity.
pub(super) fn share_max(hole: U256, equity: I256, base: U256) -> U256 {
    mul_div_ceil(hole, positive_part(equity), base).unwrap_or_default()
}

/// Price less funding index: what one lot is worth at that price.
fn net(case: &MarketCase, price: U256) -> I256 {
    I256::from_raw(price) - case.funding_index
}

/// Maintenance margin of this many lots, rounded up.
fn margin(case: &MarketCase, lots: U256) -> U256 {
    requirement(case, lots, case.maintenance_margin_bps)
}

/// Margin of this many lots at a given ratio, rounded up.
pub(super) fn requirement(case: &MarketCase, lots: U256, bps: u32) -> U256 {
    (lots * case.mark_price * U256::from(bps)).div_ceil(BPS)
}

pub(super) fn refuse_if(wrong: bool, why: impl FnOnce() -> String) -> Result<(), Violation> {
    if wrong { Err(Violation::Refused(why())) } else { Ok(()) }
}
