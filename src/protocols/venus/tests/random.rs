//! Random lives of three accounts in two markets: the cache is what an independent bookkeeping of the same life says,
//! undone and redone it is the same, and the screen's planes enclose the exact standing.

use proptest::prelude::*;

use super::{
    super::{
        abi::IVToken,
        account::{Account, Debt},
        decode::protocol_part,
        rates::{ONE, scaled},
        state::{self, Balances},
    },
    fixture::*,
};
use crate::{
    positions::Book,
    scanner::Valuation,
    types::{Address, Log, U256},
};

const KEEPER: u8 = 9;

/// The books as somebody keeps them who knows the life itself and no event.
#[derive(Clone, Debug, Default)]
struct Life {
    markets: [Balances; 2],
    accounts: [Account; 3],
    keeper: Account,
    logs: Vec<Log>,
}

type Op = (u8, u8, u8, u8, u64);

impl Life {
    fn new() -> Self {
        let market = Balances { accrued_at: U256::ONE, borrow_index: ONE, ..Balances::default() };
        Self { markets: [market.clone(), market], ..Self::default() }
    }

    /// Does one thing, if it can be done.
    fn step(&mut self, (what, who, other, market, amount): Op, block: u64) {
        let (who, other, m) = (usize::from(who % 3), usize::from(other % 3), usize::from(market % 2));
        let (vtoken, id, amount) = (VTOKENS[m], crate::types::MarketId(m as u32), uint(amount % 1_000_000));
        match what % 9 {
            0 => self.mint(who, m, amount),
            1 => {
                self.accounts[who].entered.insert(id);
                self.logs.push(entered(vtoken, owner(who as u8)));
            }
            2 => self.redeem(who, m, amount),
            3 if who != other => {
                let moved = amount.min(self.accounts[who].tokens(id));
                self.shift(who, m, moved, false);
                self.shift(other, m, moved, true);
                self.logs.push(transferred(vtoken, owner(who as u8), owner(other as u8), moved));
            }
            4 if self.accounts[who].entered.contains(&id) => self.borrow(who, m, amount),
            5 => self.repay(who, m, amount),
            6 => self.accrue(m, block, amount),
            7 if who != other => self.liquidate(who, m, amount),
            8 => self.heal(who),
            _ => {}
        }
    }

    fn shift(&mut self, who: usize, m: usize, tokens: U256, gains: bool) {
        let id = crate::types::MarketId(m as u32);
        let held = self.accounts[who].tokens(id);
        self.accounts[who].set_tokens(id, if gains { held + tokens } else { held - tokens });
    }

    fn owed(&self, who: usize, m: usize) -> U256 {
        let debt = self.accounts[who].debts.get(&crate::types::MarketId(m as u32));
        debt.map_or(U256::ZERO, |debt| self.markets[m].debt(debt).unwrap())
    }

    fn owes(&mut self, who: usize, m: usize, principal: U256) {
        let index = self.markets[m].borrow_index;
        self.accounts[who].set_debt(crate::types::MarketId(m as u32), Debt { principal, index });
    }

    fn mint(&mut self, who: usize, m: usize, amount: U256) {
        self.markets[m].cash += amount;
        self.markets[m].supply += amount;
        self.shift(who, m, amount, true);
        let balance = self.accounts[who].tokens(crate::types::MarketId(m as u32));
        self.logs.extend(minted(VTOKENS[m], owner(who as u8), amount, balance));
    }

    fn redeem(&mut self, who: usize, m: usize, amount: U256) {
        let held = self.accounts[who].tokens(crate::types::MarketId(m as u32));
        let amount = amount.min(held).min(self.markets[m].cash);
        self.markets[m].cash -= amount;
        self.markets[m].supply -= amount;
        self.shift(who, m, amount, false);
        let (vtoken, redeemer) = (VTOKENS[m], owner(who as u8));
        self.logs.push(transferred(vtoken, redeemer, vtoken, amount));
        let event =
            IVToken::Redeem { redeemer, redeemAmount: amount, redeemTokens: amount, accountBalance: held - amount };
        self.logs.push(log(vtoken, &event));
    }

    fn borrow(&mut self, who: usize, m: usize, amount: U256) {
        let amount = amount.min(self.markets[m].cash);
        let owed = self.owed(who, m) + amount;
        self.markets[m].cash -= amount;
        self.markets[m].borrows += amount;
        self.owes(who, m, owed);
        self.logs.push(borrowed(VTOKENS[m], owner(who as u8), amount, owed, self.markets[m].borrows));
    }

    fn repay(&mut self, who: usize, m: usize, amount: U256) {
        let owed = self.owed(who, m);
        let amount = amount.min(owed).min(self.markets[m].borrows);
        self.repay_from(owner(KEEPER), who, m, amount);
    }

    fn repay_from(&mut self, payer: Address, who: usize, m: usize, amount: U256) {
        let left = self.owed(who, m) - amount;
        if payer != VTOKENS[m] {
            self.markets[m].cash += amount;
        }
        self.markets[m].borrows -= amount;
        self.owes(who, m, left);
        self.logs.push(repaid(VTOKENS[m], payer, owner(who as u8), amount, left, self.markets[m].borrows));
    }

    fn accrue(&mut self, m: usize, block: u64, amount: U256) {
        let market = &mut self.markets[m];
        if market.accrued_at == uint(block) {
            return;
        }
        let interest = amount.min(market.borrows);
        market.accrued_at = uint(block);
        market.borrows += interest;
        market.borrow_index += amount;
        market.reserves += scaled(percent(10), interest).unwrap();
        let event = IVToken::AccrueInterest {
            cashPrior: market.cash,
            interestAccumulated: interest,
            borrowIndex: market.borrow_index,
            totalBorrows: market.borrows,
        };
        self.logs.push(log(VTOKENS[m], &event));
    }

    /// What a seizure takes, the protocol's part included.
    fn seize(&mut self, who: usize, m: usize, seized: U256) {
        let part = protocol_part(seized, percent(5), percent(110)).unwrap();
        let paid = part.min(self.markets[m].cash);
        self.shift(who, m, seized, false);
        let id = crate::types::MarketId(m as u32);
        self.keeper.set_tokens(id, self.keeper.tokens(id) + (seized - part));
        self.markets[m].supply -= part;
        self.markets[m].cash -= paid;
        let (vtoken, borrower) = (VTOKENS[m], owner(who as u8));
        self.logs.push(transferred(vtoken, borrower, owner(KEEPER), seized - part));
        let event = IVToken::ProtocolSeize { from: borrower, to: Address::repeat_byte(0x99), amount: paid };
        self.logs.push(log(vtoken, &event));
    }

    /// Debt of one market for collateral of the other.
    fn liquidate(&mut self, who: usize, m: usize, amount: U256) {
        let (debt, collateral) = (m, 1 - m);
        let repaid = amount.min(self.owed(who, debt)).min(self.markets[debt].borrows);
        let seized = amount.min(self.accounts[who].tokens(crate::types::MarketId(collateral as u32)));
        if repaid.is_zero() {
            return;
        }
        self.repay_from(owner(KEEPER), who, debt, repaid);
        self.seize(who, collateral, seized);
        let event = IVToken::LiquidateBorrow {
            liquidator: owner(KEEPER),
            borrower: owner(who as u8),
            repayAmount: repaid,
            vTokenCollateral: VTOKENS[collateral],
            seizeTokens: seized,
        };
        self.logs.push(log(VTOKENS[debt], &event));
    }

    /// All collateral is taken, a third of every debt is paid and the rest becomes bad debt.
    fn heal(&mut self, who: usize) {
        for (m, vtoken) in VTOKENS.into_iter().take(2).enumerate() {
            let tokens = self.accounts[who].tokens(crate::types::MarketId(m as u32));
            if !tokens.is_zero() {
                self.seize(who, m, tokens);
            }
            let owed = self.owed(who, m);
            if owed.is_zero() || owed > self.markets[m].borrows {
                continue;
            }
            let paid = owed / uint(3);
            self.repay_from(owner(KEEPER), who, m, paid);
            self.repay_from(vtoken, who, m, owed - paid);
            let old = self.markets[m].bad_debt;
            self.markets[m].bad_debt += owed - paid;
            let event = IVToken::BadDebtIncreased {
                borrower: owner(who as u8),
                badDebtDelta: owed - paid,
                badDebtOld: old,
                badDebtNew: old + owed - paid,
            };
            self.logs.push(log(vtoken, &event));
        }
    }

    fn agrees_with(&self, book: &Book) -> Result<(), TestCaseError> {
        for (market, vtoken) in self.markets.iter().zip(VTOKENS) {
            prop_assert_eq!(state::load::<Balances>(book, vtoken), Ok(market.clone()));
        }
        let accounts = self.accounts.iter().zip(0u8..).chain([(&self.keeper, KEEPER)]);
        for (account, n) in accounts {
            let cached = book.unit(&key(n)).map_or_else(|| Ok(Account::default()), |unit| Account::of(unit));
            prop_assert_eq!(cached, Ok(account.clone()));
        }
        Ok(())
    }
}

/// The planes of every account enclose its exact standing, as the screen evaluates them.
fn enclosed(chain: &Chain) -> Result<(), TestCaseError> {
    let factors = chain.venus.factors(&chain.snapshot).unwrap();
    for (key, unit) in chain.snapshot.book.units() {
        let planes = chain.venus.planes(&chain.snapshot, unit).unwrap();
        let standing = chain.venus.standing(&chain.snapshot, key, unit).unwrap();
        let owes = unit.legs.iter().any(|leg| leg.kind == crate::positions::LegKind::Debt);
        if !owes {
            prop_assert!(!standing.equity.is_negative() && !standing.surplus.is_negative());
            continue;
        }
        for (exact, factors) in [(standing.equity, &factors.equity), (standing.surplus, &factors.maintenance)] {
            let terms = planes.holdings.iter().map(|(index, holding)| holding * factors[index.0 as usize]);
            let (value, magnitude) = terms.fold((planes.constant, 0.0), |(sum, all), t| (sum + t, all + t.abs()));
            let bound = planes.rounding + 32.0 * f64::EPSILON * magnitude;
            let exact: f64 = exact.to_string().parse().unwrap();
            prop_assert!((exact - value).abs() <= bound, "{} is not within {} of {}", value, bound, exact);
        }
    }
    Ok(())
}

fn ops() -> impl Strategy<Value = Vec<Vec<Op>>> {
    prop::collection::vec(prop::collection::vec(any::<Op>(), 0..8), 1..30)
}

proptest! {
    #[test]
    fn a_life_is_followed_undone_and_redone(blocks in ops(), prices in prop::collection::vec(1u64..5_000, 2)) {
        let mut chain = Chain::opened();
        chain.prices.insert(VTOKENS[0], percent(prices[0]));
        chain.prices.insert(VTOKENS[1], percent(prices[1]));
        let begun = chain.snapshot.book.clone();
        let mut life = Life::new();
        let mut deltas = Vec::new();
        for block in blocks {
            let number = chain.snapshot.block.number + 1;
            block.into_iter().for_each(|op| life.step(op, number));
            deltas.extend(chain.block(&std::mem::take(&mut life.logs)));
            life.agrees_with(&chain.snapshot.book)?;
        }
        enclosed(&chain)?;
        let ended = chain.snapshot.book.clone();
        let mut book = ended.clone();
        deltas.iter().rev().for_each(|delta| book.undo(delta).unwrap());
        prop_assert_eq!(&book, &begun);
        deltas.iter().for_each(|delta| book.apply(delta).unwrap());
        prop_assert_eq!(&book, &ended);
    }
}
