//! One account in one pool: what a unit's legs and extra words mean here.
//!
//! | part | where |
//! |---|---|
//! | vTokens in a market the account has entered | leg `Collateral`, in vTokens |
//! | vTokens in any other market | leg `Supply`, in vTokens |
//! | debt as of its last change | leg `Debt`, in token units |
//! | markets entered, and each debt's index | extra: count of markets, their numbers ascending, then an index a debt by market |
//!
//! Invariants: a unit and its account are the same thing in two forms; an account of nothing is no unit.
//! Must not: know events, prices or time.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    positions::{Leg, LegKind, Unit},
    scanner::Unvalued,
    types::{Address, I256, MarketId, SegmentId, U256, math},
};

/// A debt as the contract stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Debt {
    /// Token units owed when it last changed.
    pub(super) principal: U256,
    /// The market's borrow index then.
    pub(super) index: U256,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Account {
    /// Markets it has entered.
    pub(super) entered: BTreeSet<MarketId>,
    /// vTokens by market, none zero.
    pub(super) tokens: BTreeMap<MarketId, U256>,
    /// Debts by market, none zero.
    pub(super) debts: BTreeMap<MarketId, Debt>,
}

impl Account {
    /// The account that a unit of this adapter holds.
    pub(super) fn of(unit: &Unit) -> Result<Self, Unvalued> {
        Self::read(unit)
            .ok_or_else(|| Unvalued::Missing(format!("the words of account {}: they are malformed", unit.owner)))
    }

    fn read(unit: &Unit) -> Option<Self> {
        let (count, words) = unit.extra.split_first()?;
        let (entered, indexes) = words.split_at_checked(usize::try_from(*count).ok()?)?;
        let number = |word: &U256| Some(MarketId(u32::try_from(*word).ok()?));
        let entered: BTreeSet<MarketId> = entered.iter().map(number).collect::<Option<_>>()?;
        let mut account = Self { entered, ..Self::default() };
        let mut indexes = indexes.iter();
        for leg in &unit.legs {
            let quantity = (!leg.quantity.is_negative()).then(|| leg.quantity.into_raw())?;
            match leg.kind {
                LegKind::Collateral | LegKind::Supply => {
                    account.tokens.insert(leg.market, quantity);
                }
                LegKind::Debt => {
                    account.debts.insert(leg.market, Debt { principal: quantity, index: *indexes.next()? });
                }
                LegKind::Perp => return None,
            }
        }
        indexes.next().is_none().then_some(account)
    }

    /// The unit of this account, `None` if there is nothing in it.
    pub(super) fn unit(&self, segment: SegmentId, owner: Address) -> Result<Option<Unit>, Unvalued> {
        if *self == Self::default() {
            return Ok(None);
        }
        let mut unit = Unit::new(segment, owner);
        let signed = |x: U256| math::signed(x).ok_or(Unvalued::Overflow("a balance"));
        for (&market, &tokens) in &self.tokens {
            let kind = if self.entered.contains(&market) { LegKind::Collateral } else { LegKind::Supply };
            unit.set_leg(Leg { market, kind, quantity: signed(tokens)?, quote: I256::ZERO });
        }
        for (&market, debt) in &self.debts {
            let quantity = signed(debt.principal)?;
            unit.set_leg(Leg { market, kind: LegKind::Debt, quantity, quote: I256::ZERO });
        }
        unit.extra = vec![U256::from(self.entered.len())];
        unit.extra.extend(self.entered.iter().map(|market| U256::from(market.0)));
        unit.extra.extend(self.debts.values().map(|debt| debt.index));
        Ok(Some(unit))
    }

    /// Its vTokens in a market.
    pub(super) fn tokens(&self, market: MarketId) -> U256 {
        self.tokens.get(&market).copied().unwrap_or_default()
    }

    /// Sets its vTokens in a market.
    pub(super) fn set_tokens(&mut self, market: MarketId, tokens: U256) {
        if tokens.is_zero() {
            self.tokens.remove(&market);
        } else {
            self.tokens.insert(market, tokens);
        }
    }

    /// Sets its debt in a market.
    pub(super) fn set_debt(&mut self, market: MarketId, debt: Debt) {
        if debt.principal.is_zero() {
            self.debts.remove(&market);
        } else {
            self.debts.insert(market, debt);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_survives_its_unit() {
        let (a, b, c) = (MarketId(0), MarketId(3), MarketId(7));
        let mut account = Account { entered: [a, c].into(), ..Account::default() };
        account.set_tokens(a, U256::from(5));
        account.set_tokens(b, U256::from(6));
        account.set_debt(a, Debt { principal: U256::from(1), index: U256::from(2) });
        account.set_debt(c, Debt { principal: U256::from(3), index: U256::from(4) });
        let unit = account.unit(SegmentId(1), Address::repeat_byte(9)).unwrap().unwrap();
        assert_eq!(Account::of(&unit), Ok(account.clone()));
        assert!(unit.leg(a, LegKind::Collateral).is_some() && unit.leg(b, LegKind::Supply).is_some());
        account.set_tokens(a, U256::ZERO);
        assert_eq!(account.tokens(a), U256::ZERO);
        assert!(!account.tokens.contains_key(&a));
    }

    #[test]
    fn an_account_of_nothing_is_no_unit_and_words_too_many_are_no_account() {
        assert_eq!(Account::default().unit(SegmentId(0), Address::ZERO), Ok(None));
        let entered = Account { entered: [MarketId(1)].into(), ..Account::default() };
        let mut unit = entered.unit(SegmentId(0), Address::ZERO).unwrap().unwrap();
        unit.extra.push(U256::ONE);
        assert!(Account::of(&unit).is_err());
        unit.extra.clear();
        assert!(Account::of(&unit).is_err());
        let huge = Account { tokens: [(MarketId(1), U256::MAX)].into(), ..Account::default() };
        assert_eq!(huge.unit(SegmentId(0), Address::ZERO), Err(Unvalued::Overflow("a balance")));
    }
}
