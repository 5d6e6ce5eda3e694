//! The cache against the protocol's real contracts, under random trading.

use std::collections::BTreeMap;

use alloy::{
    primitives::{aliases::I24, aliases::U24},
    sol_types::SolCall,
};

use super::{
    super::{
        abi::{IClearingHouse, IVault},
        account::Account,
        state,
    },
    chain::{AddLiquidity, Chain, ClosePosition, IUser, OpenPosition, Random, RemoveLiquidity, feed_price, usdc, wad},
};
use crate::{
    demo::contracts::at_hand,
    positions::{Book, Snapshot},
    protocols::{Adapter, Parties},
    recovery::{
        Action, Effect, Mode, Policy, PromiseKind, Purse, Reservations, Step, Terms, Tier, TierSettings, plan_offered,
    },
    scanner::{Condition, ScanSettings, Valuation, scan},
    types::{Address, B256, Call, CallOutcome, I256, U256, UnitKey},
};

const DEADLINE: U256 = U256::MAX;

/// Accounts of the scene: the node's first is the owner, the next the liquidator, then makers and traders.
const LIQUIDATOR: usize = 1;
const MAKERS: std::ops::Range<usize> = 2..7;
const TRADERS: std::ops::Range<usize> = 7..26;

struct Scene {
    chain: Chain,
    random: Random,
    prices: Vec<u64>,
    /// (account, block) pairs whose every figure was held against the contracts.
    cases: u64,
    succeeded: u64,
    /// Cases of accounts that can be liquidated, that are worth less than nothing, and that have orders then.
    liquidatable: u64,
    bankrupt: u64,
    liquidatable_with_orders: u64,
    /// Intents that were offered, and how many of them were carried out.
    offers: u64,
    taken: u64,
}

impl Scene {
    async fn new() -> Self {
        let mut chain = Chain::deploy(26).await;
        let prices = chain.at.markets.iter().map(|market| market.price).collect();
        let (token, collateral, vault) = (chain.at.settlement_token, chain.at.collateral.token, chain.at.vault);
        for at in 1..26 {
            let account = chain.accounts[at];
            let tokens = if at < MAKERS.end { usdc(10_000_000) } else { usdc(500_000) };
            for (token, amount) in [(token, tokens), (collateral, usdc(1_000))] {
                chain.send(account, token, IUser::mintCall { to: account, amount }).await;
                chain.send(account, token, IUser::approveCall { spender: vault, amount: U256::MAX }).await;
            }
            if at < MAKERS.end {
                chain.send(account, vault, IUser::depositCall { token, amount: tokens }).await;
            }
            chain.mine(1).await;
        }
        Self {
            chain,
            random: Random(2_026),
            prices,
            cases: 0,
            succeeded: 0,
            liquidatable: 0,
            bankrupt: 0,
            liquidatable_with_orders: 0,
            offers: 0,
            taken: 0,
        }
    }

    fn account(&self, at: usize) -> Address {
        self.chain.accounts[at]
    }

    fn key(&self, at: usize) -> UnitKey {
        state::unit_key(self.account(at))
    }

    /// A wide range around the present price, so that the pools can trade.
    async fn seed(&mut self) {
        // The mark price needs observations of the pools that are old enough.
        self.chain.mine(2_000).await;
        let mut added = Vec::new();
        for market in 0..self.prices.len() {
            let price = self.prices[market];
            let tick = tick_of(price);
            added.push(self.add(MAKERS.start, market, 3_000_000, tick - 20_000, tick + 20_000).await);
        }
        self.chain.mine(1).await;
        for order in added {
            assert!(self.chain.succeeded(order).await, "nothing to trade against");
        }
        self.chain.mine(2_000).await;
        for at in TRADERS {
            let (token, amount) = (self.chain.at.settlement_token, usdc(1_000));
            self.chain.send(self.account(at), self.chain.at.vault, IUser::depositCall { token, amount }).await;
            self.open(at, at % 2, at % 3 == 0, 8_500).await;
        }
        self.chain.mine(5).await;
    }

    async fn add(&mut self, from: usize, market: usize, quote: u64, lower: i32, upper: i32) -> B256 {
        let params = AddLiquidity {
            baseToken: self.chain.at.markets[market].base,
            base: wad(quote) / U256::from(self.prices[market]),
            quote: wad(quote),
            lowerTick: I24::try_from(lower).unwrap(),
            upperTick: I24::try_from(upper).unwrap(),
            minBase: U256::ZERO,
            minQuote: U256::ZERO,
            useTakerBalance: false,
            deadline: DEADLINE,
        };
        self.chain.send(self.account(from), self.chain.at.clearing_house, IUser::addLiquidityCall { params }).await
    }

    async fn open(&mut self, from: usize, market: usize, sell: bool, quote: u64) -> B256 {
        let params = OpenPosition {
            baseToken: self.chain.at.markets[market].base,
            isBaseToQuote: sell,
            isExactInput: !sell,
            amount: wad(quote),
            oppositeAmountBound: U256::ZERO,
            deadline: DEADLINE,
            sqrtPriceLimitX96: Default::default(),
            referralCode: B256::ZERO,
        };
        self.chain.send(self.account(from), self.chain.at.clearing_house, IUser::openPositionCall { params }).await
    }

    /// One random thing that somebody does.
    async fn act(&mut self) -> B256 {
        let any = TRADERS.start + self.random.below((TRADERS.end - TRADERS.start) as u64) as usize;
        let maker = MAKERS.start + self.random.below((MAKERS.end - MAKERS.start) as u64) as usize;
        let market = self.random.below(self.prices.len() as u64) as usize;
        let (vault, house) = (self.chain.at.vault, self.chain.at.clearing_house);
        let (trader, base) = (self.account(any), self.chain.at.markets[market].base);
        let token = self.chain.at.settlement_token;
        match self.random.below(20) {
            0 | 1 => {
                let amount = usdc(50 + self.random.below(5_000));
                self.chain.send(self.account(any), vault, IUser::depositCall { token, amount }).await
            }
            2 => {
                let (token, amount) = (self.chain.at.collateral.token, usdc(1) / U256::from(1 + self.random.below(9)));
                self.chain.send(self.account(any), vault, IUser::depositCall { token, amount }).await
            }
            3 => {
                let amount = U256::from(1 + self.random.below(900_000_000));
                let token = if self.random.below(4) == 0 { self.chain.at.collateral.token } else { token };
                let who = if self.random.below(4) == 0 { maker } else { any };
                self.chain.send(self.account(who), vault, IUser::withdrawCall { token, amount }).await
            }
            4..=9 => {
                let (sell, quote) = (self.random.below(2) == 0, 10 + self.random.below(30_000));
                let who = if self.random.below(6) == 0 { maker } else { any };
                self.open(who, market, sell, quote).await
            }
            10 | 11 => {
                let params = ClosePosition {
                    baseToken: base,
                    sqrtPriceLimitX96: Default::default(),
                    oppositeAmountBound: U256::ZERO,
                    deadline: DEADLINE,
                    referralCode: B256::ZERO,
                };
                self.chain.send(self.account(any), house, IUser::closePositionCall { params }).await
            }
            12 | 13 => {
                let tick = tick_of(self.prices[market]) + 200 * (self.random.below(11) as i32 - 5);
                let (below, above) = (200 * (1 + self.random.below(9) as i32), 200 * (1 + self.random.below(9) as i32));
                let (who, quote) =
                    (if self.random.below(3) == 0 { any } else { maker }, 100 + self.random.below(90_000));
                self.add(who, market, quote, tick - below, tick + above).await
            }
            14 => self.remove().await,
            15 => self.chain.send(trader, house, IUser::settleAllFundingCall { trader }).await,
            16 => {
                let token = self.chain.at.collateral.token;
                let call = IUser::liquidateCollateralCall {
                    trader,
                    token,
                    amount: U256::from(1_000),
                    isDenominatedInSettlementToken: true,
                };
                self.chain.send(self.account(LIQUIDATOR), vault, call).await
            }
            17 => {
                let call = IClearingHouse::cancelAllExcessOrdersCall { maker: self.account(any), baseToken: base };
                self.chain.send(self.account(LIQUIDATOR), house, call).await
            }
            _ => {
                let call = IClearingHouse::liquidateCall { trader, baseToken: base, positionSize: I256::ZERO };
                self.chain.send(self.account(LIQUIDATOR), house, call).await
            }
        }
    }

    /// Takes a random part of a known order back.
    async fn remove(&mut self) -> B256 {
        let orders: Vec<_> = (MAKERS.start + 1..TRADERS.end)
            .filter_map(|at| self.chain.book.unit(&self.key(at)).map(|unit| (at, Account::of(unit).unwrap())))
            .flat_map(|(at, account)| account.orders.into_iter().map(move |order| (at, order)))
            .collect();
        let Some(&(at, order)) = orders.get(self.random.below(orders.len().max(1) as u64) as usize) else {
            return self.open(TRADERS.start, 0, true, 10).await;
        };
        let liquidity = match self.random.below(3) {
            0 => order.liquidity,
            1 => 0,
            _ => order.liquidity / u128::from(2 + self.random.below(5)),
        };
        let params = RemoveLiquidity {
            baseToken: self.chain.at.markets[order.market.0 as usize].base,
            lowerTick: I24::try_from(order.lower).unwrap(),
            upperTick: I24::try_from(order.upper).unwrap(),
            liquidity,
            minBase: U256::ZERO,
            minQuote: U256::ZERO,
            deadline: DEADLINE,
        };
        self.chain.send(self.account(at), self.chain.at.clearing_house, IUser::removeLiquidityCall { params }).await
    }

    /// A large trade moves a pool, and the index goes with it: what makes accounts liquidatable.
    /// Every trader opens a position, or an order around the price, as large as its free collateral allows.
    async fn risk_all(&mut self) {
        for at in TRADERS {
            let call = IVault::getFreeCollateralByRatioCall { trader: self.account(at), ratio: U24::from(100_000) };
            let call = Call::new(self.chain.at.vault, call.abi_encode());
            let CallOutcome::Returned(free) = self.chain.call(&call, self.chain.snapshot().block.hash).await else {
                panic!("a view reverts")
            };
            let free = I256::try_from_be_slice(&free).unwrap().max(I256::ZERO).unsigned_abs() / usdc(1);
            let (market, quote) = (at % self.prices.len(), free.to::<u64>() * 9);
            if at % 3 == 0 {
                let tick = tick_of(self.prices[market]);
                self.add(at, market, quote / 2, tick - 1_000, tick + 1_000).await;
            } else {
                self.open(at, market, at % 5 == 0, quote).await;
            }
        }
    }

    async fn push(&mut self) -> B256 {
        let (market, sell) = (self.random.below(self.prices.len() as u64) as usize, self.random.below(3) > 0);
        self.prices[market] = self.prices[market] * if sell { 92 } else { 107 } / 100;
        let call = IUser::setCall { answer: feed_price(self.prices[market]) };
        self.chain.send(self.chain.at.owner, self.chain.at.markets[market].aggregator, call).await;
        self.open(MAKERS.start, market, sell, 190_000).await
    }

    async fn move_prices(&mut self, least_percent: u64) {
        for market in 0..self.prices.len() {
            let percent = least_percent + self.random.below(200 - 2 * least_percent + 1);
            self.prices[market] = (self.prices[market] * percent / 100).max(2);
            let call = IUser::setCall { answer: feed_price(self.prices[market]) };
            self.chain.send(self.chain.at.owner, self.chain.at.markets[market].aggregator, call).await;
        }
        let call = IUser::setCall { answer: feed_price(self.prices[0]) };
        self.chain.send(self.chain.at.owner, self.chain.at.collateral.aggregator, call).await;
    }

    /// Holds every account's figures and standing against the contracts at the tip.
    async fn compare(&mut self) {
        let snapshot = self.chain.snapshot();
        let keys: Vec<UnitKey> = (1..TRADERS.end).map(|at| self.key(at)).collect();
        let block = snapshot.block;
        for probe in self.chain.adapter.probes(&snapshot, &keys) {
            let answer = self.chain.call(&probe.call, block.hash).await;
            assert_eq!(answer, CallOutcome::Returned(probe.expected), "{} at block {}", probe.subject, block.number);
        }
        self.cases += keys.len() as u64;
        self.compare_liquidatability(&keys).await;
    }

    /// What a price's move does to a factor is the factor itself but for funding, which is small here.
    fn compare_slopes(&self, snapshot: &Snapshot) {
        let factors = self.chain.adapter.factors(snapshot).unwrap();
        let drivers = self.chain.adapter.drivers(snapshot).unwrap();
        let planes = factors.equity.iter().zip(&factors.maintenance);
        for (slope, (equity, maintenance)) in drivers.slopes.iter().zip(planes).filter(|(_, factor)| *factor.0 != 0.0) {
            let slope = slope.unwrap();
            assert!((slope.equity / equity - 1.0).abs() < 0.05, "{slope:?} of {equity}");
            assert!((slope.maintenance / maintenance - 1.0).abs() < 0.05, "{slope:?} of {maintenance}");
        }
    }

    /// surplus < 0 exactly where the contract's liquidation does not answer CH_EAV; the screen misses nobody.
    async fn compare_liquidatability(&mut self, keys: &[UnitKey]) {
        let snapshot = self.chain.snapshot();
        let report = scan(&self.chain.adapter, &snapshot, &ScanSettings { at_risk_health_factor_bps: 11_000 });
        self.compare_slopes(&snapshot);
        for key in keys {
            let Some(unit) = snapshot.book.unit(key) else { continue };
            let standing = self.chain.adapter.standing(&snapshot, key, unit).unwrap();
            let found = report.findings.iter().find(|finding| finding.unit == *key).map(|finding| finding.condition);
            let liquidatable = standing.surplus.is_negative();
            let raised = matches!(found, Some(Condition::Bankrupt | Condition::Liquidatable));
            assert_eq!(raised, liquidatable || standing.equity.is_negative(), "{key} {standing:?} {found:?}");
            let base = self.chain.at.markets[0].base;
            let call = IClearingHouse::liquidateCall { trader: unit.owner, baseToken: base, positionSize: I256::ZERO };
            let call = Call::new(self.chain.at.clearing_house, call.abi_encode());
            let account = Account::of(unit).unwrap();
            self.liquidatable += u64::from(liquidatable);
            self.bankrupt += u64::from(standing.equity.is_negative());
            self.liquidatable_with_orders += u64::from(liquidatable && !account.orders.is_empty());
            if account.orders.is_empty() {
                let answer = self.chain.call_from(self.account(LIQUIDATOR), &call, snapshot.block.hash).await;
                let refused = matches!(&answer, CallOutcome::Reverted(why) if mentions(why, "CH_EAV"));
                assert_eq!(refused, !liquidatable, "{key} {standing:?} {answer:?}");
            }
        }
    }
}

impl Scene {
    /// Every intent that is offered is one that the contracts accept at that very block, a plan of all of them balances,
    /// and what the first one does when it is carried out is what it promised.
    async fn take_an_offer(&mut self) {
        let snapshot = self.chain.snapshot();
        let report = scan(&self.chain.adapter, &snapshot, &ScanSettings { at_risk_health_factor_bps: 11_000 });
        let cases = self.chain.adapter.cases(&snapshot, &report, false);
        let Some(case) = cases.get(&state::SEGMENT) else { return };
        let plan = plan_offered(case, &tiers(), &terms(), &Reservations::default()).unwrap();
        let offered = case.offered.as_ref().unwrap();
        assert_eq!(plan.steps().len(), offered.intents.len(), "{:?}", plan.notes());
        let sender = self.account(LIQUIDATOR);
        let parties = Parties { sender, proceeds: sender };
        let allowed = self.chain.adapter.allowed_calls(&snapshot.book, sender);
        for step in plan.steps() {
            let call = self.chain.adapter.build(std::slice::from_ref(step), &parties).unwrap();
            assert!(allowed.iter().any(|(to, selector)| *to == call.to && call.data.starts_with(selector)));
            let answer = self.chain.call_from(sender, &call, snapshot.block.hash).await;
            assert!(matches!(answer, CallOutcome::Returned(_)), "{}: {answer:?}", step.why);
            self.offers += 1;
        }
        let Some(step) = plan.steps().first() else { return };
        let call = self.chain.adapter.build(std::slice::from_ref(step), &parties).unwrap();
        let hash = self.chain.send_data(sender, call.to, call.data).await;
        self.chain.mine(1).await;
        if self.chain.succeeded(hash).await {
            self.taken += 1;
            let logs = self.chain.logs_of(hash).await;
            keeps_its_promises(step, &self.chain.adapter.effects(&snapshot.book, &logs));
        }
    }
}

fn keeps_its_promises(step: &Step, effects: &[Effect]) {
    let Action::Intent(intent) = &step.action else { panic!("{step:?}") };
    assert!(effects.iter().all(|effect| effect.scope().as_ref() == Some(&intent.scope)), "{effects:?}");
    for promise in &intent.promises {
        let sum = effects.iter().fold(U256::ZERO, |sum, effect| {
            sum + match (promise.kind, effect) {
                (PromiseKind::Staged, Effect::Staged { .. }) => U256::ONE,
                (PromiseKind::BadDebt, Effect::BadDebt { amount, .. })
                | (PromiseKind::Covered, Effect::Covered { amount, .. }) => *amount,
                _ => U256::ZERO,
            }
        });
        assert!(promise.min <= sum && sum <= promise.max, "{promise:?} {sum} {}: {effects:?}", intent.why);
    }
}

fn tiers() -> Vec<TierSettings> {
    [Tier::Liquidate, Tier::InsuranceFund].map(TierSettings::unlimited).into()
}

fn terms() -> Terms {
    Terms {
        policy: Policy {
            mode: Mode::Mandate,
            bad_debt_overrides_profit: true,
            swap_cost_bps: 0,
            capital_max: BTreeMap::new(),
        },
        gas_price_wei: U256::ZERO,
        native_value: None,
        budget_left_wei: U256::MAX,
        purse: Purse::default(),
    }
}

fn mentions(data: &[u8], word: &str) -> bool {
    String::from_utf8_lossy(data).contains(word)
}

/// The tick of a price, to the pools' spacing of 200.
fn tick_of(price: u64) -> i32 {
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm is small")]
    let tick = ((price as f64).ln() / 1.0001_f64.ln()) as i32;
    tick / 200 * 200
}

/// Undoes all that was applied and does it again: from nothing to the same state, and back to nothing.
fn undo_and_redo(chain: &Chain) {
    let mut book = chain.book.clone();
    for (_, _, deltas) in chain.past.iter().rev() {
        deltas.iter().rev().for_each(|delta| book.undo(delta).unwrap());
    }
    assert_eq!(book, Book::default());
    for (block, logs, deltas) in &chain.past {
        let again = chain.adapter.apply(&book, block, logs).unwrap();
        assert_eq!(again.delta, deltas[0], "block {}", block.number);
        deltas.iter().for_each(|delta| book.apply(delta).unwrap());
    }
    assert_eq!(book, chain.book);
}

#[tokio::test(flavor = "multi_thread")]
async fn random_portfolios_give_the_contracts_own_integers() {
    if !at_hand("perp_v2") {
        return;
    }
    let mut scene = Scene::new().await;
    scene.seed().await;
    let mut pushes = Vec::new();
    for round in 0..100_u64 {
        let count = 1 + scene.random.below(6);
        let mut sent = Vec::new();
        for _ in 0..count {
            sent.push(scene.act().await);
        }
        if round % 7 == 3 {
            scene.move_prices(97).await;
        }
        match round % 10 {
            2 => scene.risk_all().await,
            // Two in a row, with the index at once: too much for those who risk all.
            4 | 5 => pushes.push(scene.push().await),
            _ => {}
        }
        if round == 50 {
            let (owner, config) = (scene.chain.at.owner, scene.chain.at.clearing_house_config);
            scene.chain.send(owner, config, IUser::setMaxFundingRateCall { rate: U24::from(20_000) }).await;
            let ratio = U24::from(30_000);
            scene.chain.send(owner, config, IUser::setLiquidationPenaltyRatioCall { ratio }).await;
        }
        let seconds = if round % 10 == 9 { 600 } else { 1 + scene.random.below(40) };
        scene.chain.mine(seconds).await;
        for hash in sent {
            scene.succeeded += u64::from(scene.chain.succeeded(hash).await);
        }
        scene.compare().await;
        if round % 10 > 6 {
            scene.take_an_offer().await;
        }
    }
    close_second_market(&mut scene).await;
    let mut pushed = 0;
    for hash in &pushes {
        pushed += u64::from(scene.chain.succeeded(*hash).await);
    }
    assert!(2 * pushed >= pushes.len() as u64, "{pushed} of {} pushes moved a pool", pushes.len());
    println!(
        "cases {}, liquidatable {} (with orders {}), bankrupt {}, actions that succeeded {}, intents offered {}, carried out {}",
        scene.cases,
        scene.liquidatable,
        scene.liquidatable_with_orders,
        scene.bankrupt,
        scene.succeeded,
        scene.offers,
        scene.taken
    );
    assert!(scene.offers >= 20 && scene.taken >= 10, "{} offers, {} taken", scene.offers, scene.taken);
    let [liquidatable, with_orders, bankrupt] = [scene.liquidatable, scene.liquidatable_with_orders, scene.bankrupt];
    assert!(liquidatable >= 100 && with_orders >= 10 && bankrupt >= 5, "{liquidatable}, {with_orders}, {bankrupt}");
    assert!(scene.cases >= 2_000, "only {} cases", scene.cases);
    assert!(scene.succeeded >= 100, "only {} actions did anything", scene.succeeded);
    assert_eq!(scene.chain.unknown_events, 0);
    undo_and_redo(&scene.chain);
}

/// Pauses and closes a market, lets everybody out of it, and settles what is left.
async fn close_second_market(scene: &mut Scene) {
    let (owner, base, house) = (scene.chain.at.owner, scene.chain.at.markets[1].base, scene.chain.at.clearing_house);
    scene.chain.send(owner, base, IUser::pauseCall {}).await;
    scene.chain.mine(30).await;
    scene.compare().await;
    scene.chain.mine(300).await;
    scene.compare().await;
    let price = wad(scene.prices[1]);
    scene.chain.send(owner, base, IUser::closeCall { price }).await;
    scene.chain.mine(30).await;
    scene.compare().await;
    for at in 1..TRADERS.end {
        let trader = scene.account(at);
        let from = scene.account(LIQUIDATOR);
        scene.chain.send(from, house, IClearingHouse::quitMarketCall { trader, baseToken: base }).await;
        if at % 8 == 0 {
            scene.chain.mine(5).await;
            scene.compare().await;
        }
    }
    for at in TRADERS {
        let trader = scene.account(at);
        scene.chain.send(trader, scene.chain.at.vault, IVault::settleBadDebtCall { trader }).await;
    }
    scene.chain.mine(5).await;
    scene.compare().await;
}
