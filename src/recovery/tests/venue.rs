//! A second, naive venue in i128: trades, funding, crash, and the recovery calls with all their refusals, written from
//! the venue's published rules and sharing nothing with the planner. Cases are taken from it, and plans are executed on
//! it.

use std::collections::BTreeMap;

use alloy::primitives::{B256, I256, U256};

use super::pool::Pool;
use crate::{
    recovery::{
        Action, DistressedUnit, FundState, Gate, Holder, MarginBounds, MarketCase, Measures, Observation, Position,
        RestingOrder, Round, SegmentCase, SolventUnit, Step,
    },
    types::{BlockRef, MarketId, SegmentId, UnitKey},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) cash: i128,
    pub(super) positions: BTreeMap<u32, (i128, i128)>,
}

#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) id: u64,
    pub(super) maker: u16,
    pub(super) buys: bool,
    pub(super) price: i128,
    pub(super) lots: i128,
}

#[derive(Clone, Debug)]
pub(super) struct Market {
    pub(super) mark: i128,
    pub(super) funding: i128,
    pub(super) maintenance_bps: u32,
    pub(super) initial_bps: u32,
    pub(super) fee_bps: i128,
    pub(super) orders: Vec<Order>,
    pub(super) bounds: Option<MarginBounds>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Venue {
    pub(super) accounts: BTreeMap<u16, Account>,
    pub(super) markets: BTreeMap<u32, Market>,
    pub(super) fund: i128,
    pub(super) floor: i128,
    /// Fees that went to the keeper.
    pub(super) paid_out: i128,
    /// What deleveraged winners and payers are owed, and the round of restitution: budget, base, unpaid, who was paid.
    pub(super) claims: BTreeMap<u16, i128>,
    pub(super) round: Option<(i128, i128, i128, std::collections::BTreeSet<u16>)>,
    /// Whether there is a gate, and whether it is shut.
    pub(super) gate: Option<bool>,
    /// Where in the order of the fund's life the venue is: half of a fee refills it.
    pub(super) absorbed: BTreeMap<&'static str, i128>,
    /// Prices seen a minute apart up to now, by market, and what the fund paid.
    pub(super) prices: BTreeMap<u32, Vec<i128>>,
    pub(super) payments: Vec<i128>,
    /// The backstop pool it is a member of.
    pub(super) pool: Option<Pool>,
}

pub(super) fn key(id: u16) -> UnitKey {
    UnitKey::new(id.to_be_bytes().to_vec()).unwrap()
}

fn id(key: &UnitKey) -> u16 {
    u16::from_be_bytes(key.as_bytes().try_into().unwrap())
}

fn small(x: U256) -> i128 {
    i128::try_from(u128::try_from(x).unwrap()).unwrap()
}

pub(super) fn big(x: i128) -> U256 {
    U256::from(u128::try_from(x).unwrap())
}

fn signed(x: i128) -> I256 {
    I256::try_from(x).unwrap()
}

/// A minute apart, the last at the block's time.
fn observations(values: &[i128]) -> Vec<Observation> {
    let first = 1_060 - 60 * values.len() as u64;
    values.iter().zip(0..).map(|(value, n)| Observation { at: first + 60 * n, value: big(*value) }).collect()
}

/// a · b / d, rounded up, of numbers ≥ 0.
fn ceil(a: i128, b: i128, d: i128) -> i128 {
    (a * b + d - 1) / d
}

impl Venue {
    fn net(&self, market: u32, price: i128) -> i128 {
        price - self.markets[&market].funding
    }

    pub(super) fn pnl(&self, account: u16, market: u32) -> i128 {
        let held = self.accounts[&account].positions.get(&market);
        held.map_or(0, |(lots, quote)| lots * self.net(market, self.markets[&market].mark) + quote)
    }

    pub(super) fn equity(&self, account: u16) -> i128 {
        let held = &self.accounts[&account];
        held.cash + held.positions.keys().map(|market| self.pnl(account, *market)).sum::<i128>()
    }

    pub(super) fn maintenance(&self, account: u16) -> i128 {
        let margin = |(market, (lots, _)): (&u32, &(i128, i128))| {
            let market = &self.markets[market];
            ceil(lots.abs() * market.mark, market.maintenance_bps.into(), 10_000)
        };
        self.accounts[&account].positions.iter().map(margin).sum()
    }

    pub(super) fn hole(&self, account: u16) -> i128 {
        (-self.equity(account)).max(0)
    }

    /// Tokens behind the accounts: must equal the sum of cash and quotes, and of all equities.
    pub(super) fn total(&self) -> i128 {
        self.accounts.keys().map(|account| self.equity(*account)).sum::<i128>() + self.fund + self.paid_out
            - self.pool.as_ref().map_or(0, |pool| pool.paid)
    }

    pub(super) fn trade(&mut self, account: u16, market: u32, mut delta: i128, price: i128) -> i128 {
        let net = self.net(market, price);
        let held = self.accounts.entry(account).or_default();
        let (mut lots, mut quote) = held.positions.get(&market).copied().unwrap_or_default();
        let mut realised = 0;
        if lots.signum() * delta.signum() < 0 {
            let closed = delta.abs().min(lots.abs()) * lots.signum();
            let closed_quote = quote * closed.abs() / lots.abs();
            realised = closed_quote + closed * net;
            held.cash += realised;
            (lots, quote, delta) = (lots - closed, quote - closed_quote, delta + closed);
        }
        (lots, quote) = (lots + delta, quote - delta * net);
        if lots == 0 {
            assert_eq!(quote, 0);
            held.positions.remove(&market);
        } else {
            held.positions.insert(market, (lots, quote));
        }
        realised
    }

    fn max_liquidatable(&self, account: u16, market: u32) -> i128 {
        let (equity, maintenance) = (self.equity(account), self.maintenance(account));
        let lots = self.accounts[&account].positions.get(&market).map_or(0, |(lots, _)| lots.abs());
        match equity {
            _ if equity >= maintenance => 0,
            _ if equity * 2 >= maintenance => lots - lots / 2,
            _ => lots,
        }
    }

    fn spendable(&self) -> i128 {
        (self.fund - self.floor).max(0)
    }

    /// Does a step as the chain would, panicking where the chain would revert.
    pub(super) fn execute(&mut self, step: &Step) {
        let before = self.total();
        match &step.action {
            Action::Close { market, fills } => {
                let unit = id(step.unit.as_ref().unwrap());
                self.liquidate(unit, market.0, fills);
            }
            Action::DrawInsurance { amount } => {
                let (unit, amount) = (id(step.unit.as_ref().unwrap()), small(*amount));
                assert!(amount > 0 && amount <= self.hole(unit) && amount <= self.spendable());
                self.fund -= amount;
                self.accounts.get_mut(&unit).unwrap().cash += amount;
                *self.absorbed.entry("insurance_fund").or_default() += amount;
            }
            Action::Deleverage { market, winners } => {
                let unit = id(step.unit.as_ref().unwrap());
                self.deleverage(unit, market.0, winners);
            }
            Action::ClaimBackstop { amount } => {
                let unit = id(step.unit.as_ref().unwrap());
                self.show(unit);
                let hole = self.hole(unit);
                self.pool.as_mut().unwrap().claim(unit, small(*amount), hole);
            }
            Action::DrawBackstop { amount } => {
                let unit = id(step.unit.as_ref().unwrap());
                self.show(unit);
                let hole = self.hole(unit);
                let paid = self.pool.as_mut().unwrap().draw(unit, hole);
                assert_eq!(paid, small(*amount));
                self.accounts.get_mut(&unit).unwrap().cash += paid;
                *self.absorbed.entry("shared_backstop").or_default() += paid;
            }
            Action::Socialise { payers } => {
                let unit = id(step.unit.as_ref().unwrap());
                self.socialise(unit, payers);
            }
            Action::Gate { shut_for: Some(unit), .. } => {
                assert!(self.gate.is_some() && self.hole(id(unit)) > 0, "not short");
                self.gate = Some(true);
            }
            Action::Gate { shut_for: None, .. } => {
                assert_eq!(self.gate, Some(true), "not shut");
                self.gate = Some(false);
            }
            Action::Restitute { claimants } => self.restitute(claimants),
            Action::Intent(_) => panic!("this venue offers no intents"),
            Action::SetMargin { market, maintenance_margin_bps, tipped_max, .. } => {
                let healthy: Vec<_> = self.healthy();
                self.markets.get_mut(&market.0).unwrap().maintenance_bps = *maintenance_margin_bps;
                let tipped = healthy.iter().filter(|a| self.equity(**a) < self.maintenance(**a)).count();
                assert!(tipped <= *tipped_max as usize, "{tipped} tipped over");
            }
        }
        assert_eq!(self.total(), before, "{step:?} makes or loses money");
    }

    /// What the member's contract shows the pool must be all that the unit is short.
    fn show(&self, unit: u16) {
        assert_eq!(self.spendable(), 0, "the fund can pay");
        assert!(self.hole(unit) > 0, "not short");
    }

    fn healthy(&self) -> Vec<u16> {
        self.accounts.keys().filter(|a| self.equity(**a) >= self.maintenance(**a)).copied().collect()
    }

    fn liquidate(&mut self, unit: u16, market: u32, fills: &[crate::recovery::Fill]) {
        let lots: i128 = fills.iter().map(|f| small(f.lots)).sum();
        assert!(lots > 0 && lots <= self.max_liquidatable(unit, market), "liquidates too much");
        let side = self.accounts[&unit].positions[&market].0.signum();
        for fill in fills {
            let orders = &mut self.markets.get_mut(&market).unwrap().orders;
            let order = orders.iter_mut().find(|o| o.id == fill.order).unwrap();
            assert_eq!(order.buys, side > 0);
            let taken = small(fill.lots);
            order.lots -= taken;
            assert!(taken > 0 && order.lots >= 0 && order.maker != unit);
            let (maker, price) = (order.maker, order.price);
            assert_eq!((key(maker), big(price)), (fill.maker.clone(), fill.price));
            self.trade(maker, market, side * taken, price);
            self.trade(unit, market, -side * taken, price);
            assert!(self.equity(maker) >= 0, "maker below zero");
        }
        let case = &self.markets[&market];
        let fee = (lots * case.mark * case.fee_bps / 10_000).min(self.equity(unit).max(0));
        self.accounts.get_mut(&unit).unwrap().cash -= fee;
        self.paid_out += fee / 2;
        self.fund += fee - fee / 2;
    }

    fn deleverage(&mut self, unit: u16, market: u32, winners: &[crate::recovery::Deleveraging]) {
        assert_eq!(self.spendable(), 0, "the fund can pay");
        let side = self.accounts[&unit].positions[&market].0.signum();
        let (mut hole, mut left) = (self.hole(unit), self.accounts[&unit].positions[&market].0.abs());
        assert!(hole > 0 && !winners.is_empty());
        let mark = self.markets[&market].mark;
        for winner in winners {
            let (who, lots) = (id(&winner.unit), small(winner.lots));
            let held = self.accounts[&who].positions[&market].0;
            assert!(held.signum() == -side && self.pnl(who, market) > 0, "not a winner");
            assert!(lots > 0 && lots <= left && lots <= held.abs(), "too many lots");
            let loss = ceil(hole, lots, left);
            assert!(loss == small(winner.loss) && loss <= small(winner.loss_max));
            (hole, left) = (hole - loss, left - lots);
            self.trade(unit, market, -side * lots, mark);
            self.trade(who, market, side * lots, mark);
            self.accounts.get_mut(&unit).unwrap().cash += loss;
            self.accounts.get_mut(&who).unwrap().cash -= loss;
            assert!(self.equity(who) >= self.maintenance(who), "winner tipped over");
            if loss > 0 {
                *self.claims.entry(who).or_default() += loss;
            }
            *self.absorbed.entry("auto_deleverage").or_default() += loss;
        }
        assert!(left > 0 || hole == 0, "all lots pay all of the shortfall");
    }

    fn socialise(&mut self, unit: u16, payers: &[crate::recovery::Contribution]) {
        assert_eq!(self.spendable(), 0, "the fund can pay");
        assert!(self.accounts[&unit].positions.is_empty(), "positions open");
        let hole = self.hole(unit);
        let base = self.accounts.keys().map(|a| self.equity(*a)).sum::<i128>() + hole;
        let mut charged = std::collections::BTreeSet::new();
        for payer in payers {
            let (who, amount) = (id(&payer.unit), small(payer.amount));
            assert!(charged.insert(who) && who != unit);
            assert!(amount > 0 && amount <= ceil(hole, self.equity(who).max(0), base), "share too large");
            self.accounts.get_mut(&who).unwrap().cash -= amount;
            self.accounts.get_mut(&unit).unwrap().cash += amount;
            assert!(self.equity(who) >= 0 && self.equity(unit) <= 0);
            *self.claims.entry(who).or_default() += amount;
            *self.absorbed.entry("socialise_loss").or_default() += amount;
        }
    }

    fn restitute(&mut self, claimants: &[crate::recovery::Contribution]) {
        assert!(self.accounts.keys().all(|a| self.equity(*a) >= self.maintenance(*a)), "not calm");
        let base: i128 = self.claims.values().sum();
        let fresh = (self.spendable().min(base), base, self.spendable().min(base), Default::default());
        let (budget, base, mut unpaid, mut paid) = self.round.take().filter(|round| round.2 > 0).unwrap_or(fresh);
        for claimant in claimants {
            let (who, amount) = (id(&claimant.unit), small(claimant.amount));
            let claim = self.claims.get_mut(&who).expect("a claim");
            assert!(amount > 0 && amount <= *claim && amount <= ceil(budget, *claim, base), "share too large");
            *claim -= amount;
            assert!(paid.insert(who) && amount <= unpaid && amount <= (self.fund - self.floor).max(0));
            unpaid -= amount;
            self.fund -= amount;
            self.accounts.get_mut(&who).unwrap().cash += amount;
            *self.absorbed.entry("returned").or_default() += amount;
        }
        self.claims.retain(|_, claim| *claim > 0);
        self.round = Some((budget, base, unpaid, paid));
    }

    fn measures(&self) -> Measures {
        let shut_until = |shut: bool| if shut { 50 } else { 0 };
        let round = self.round.as_ref().map(|(budget, base, unpaid, paid)| Round {
            budget: big(*budget),
            base: big(*base),
            unpaid: big(*unpaid),
            paid: paid.iter().map(|who| key(*who)).collect(),
        });
        Measures {
            gate: self.gate.map(|shut| Gate { shut_until: shut_until(shut), lasts_blocks: 50 }),
            claims: self.claims.iter().map(|(who, claim)| (key(*who), big(*claim))).collect(),
            round,
            pool: self.pool.as_ref().map(Pool::case),
            prices: self.prices.iter().map(|(market, seen)| (MarketId(*market), observations(seen))).collect(),
            payments: observations(&self.payments),
            observed: false,
        }
    }

    /// The case as an adapter would render it.
    pub(super) fn case(&self) -> SegmentCase {
        let mut distressed = Vec::new();
        let mut solvent = BTreeMap::new();
        for &account in self.accounts.keys() {
            let (equity, maintenance) = (self.equity(account), self.maintenance(account));
            if equity < maintenance || equity < 0 {
                distressed.push((equity >= 0, if equity < 0 { equity } else { equity - maintenance }, account));
            } else if equity > 0 {
                let surplus = signed(equity - maintenance);
                let unit = SolventUnit { equity: signed(equity), surplus, positions: self.positions(account) };
                solvent.insert(key(account), unit);
            }
        }
        distressed.sort_unstable();
        SegmentCase {
            segment: SegmentId(1),
            block: BlockRef { number: 7, hash: B256::repeat_byte(7), parent_hash: B256::ZERO, timestamp: 1_000 },
            fund: FundState { balance: big(self.fund), spendable: big(self.spendable()) },
            markets: self.markets.keys().map(|id| (MarketId(*id), self.market_case(*id))).collect(),
            distressed: distressed.into_iter().map(|(_, _, account)| self.distressed(account)).collect(),
            solvent,
            blocked: None,
            measures: self.measures(),
            offered: None,
        }
    }

    fn positions(&self, account: u16) -> Vec<Position> {
        let position = |(market, (lots, quote)): (&u32, &(i128, i128))| Position {
            market: MarketId(*market),
            lots: signed(*lots),
            quote: signed(*quote),
            pnl: signed(self.pnl(account, *market)),
        };
        self.accounts[&account].positions.iter().map(position).collect()
    }

    fn distressed(&self, account: u16) -> DistressedUnit {
        let held = &self.accounts[&account];
        let lots = |market: &u32| (MarketId(*market), big(self.max_liquidatable(account, *market)));
        DistressedUnit {
            unit: key(account),
            cash: signed(held.cash),
            equity: signed(self.equity(account)),
            maintenance_margin: big(self.maintenance(account)),
            positions: self.positions(account),
            liquidatable_lots: held.positions.keys().map(lots).collect(),
        }
    }

    fn market_case(&self, market: u32) -> MarketCase {
        let case = &self.markets[&market];
        let mut side: [Vec<&Order>; 2] = [true, false].map(|b| case.orders.iter().filter(|o| o.buys == b).collect());
        side[0].sort_by_key(|o| (-o.price, o.id));
        side[1].sort_by_key(|o| (o.price, o.id));
        let [buys, sells] = side.map(|orders| {
            let resting =
                |o: &&Order| RestingOrder { order: o.id, maker: key(o.maker), price: big(o.price), lots: big(o.lots) };
            orders.iter().map(resting).collect()
        });
        let holder = |(account, held): (&u16, &Account)| {
            let lots = held.positions.get(&market)?.0.abs();
            let surplus = signed(self.equity(*account) - self.maintenance(*account));
            Some((key(*account), Holder { lots: big(lots), surplus }))
        };
        MarketCase {
            mark_price: big(case.mark),
            funding_index: signed(case.funding),
            maintenance_margin_bps: case.maintenance_bps,
            initial_margin_bps: case.initial_bps,
            liquidation_fee_bps: u32::try_from(case.fee_bps).unwrap(),
            buys,
            sells,
            holders: self.accounts.iter().filter_map(holder).collect(),
            margin_bounds: case.bounds,
        }
    }
}
