//! Perpetual Protocol v2 on its real contracts: traders and makers of two markets, a crash that is pushed through the
//! pools by sales while the index falls, liquidations in parts and whole, orders cancelled first, bad debt on the
//! insurance fund and its repayment; and a second scene in which the fund has nothing.

mod abi;
mod blocked;
mod venue;

use std::collections::BTreeSet;

use alloy::{
    primitives::{Address, U256, aliases::I24},
    sol_types::{SolCall, SolEvent},
};
use anyhow::{Context, Result};
use backstop::{
    demo::anvil::AnvilOptions,
    positions::Snapshot,
    protocols::Adapter,
    types::{BlockRef, Log, UnitKey},
};
use serde_json::Value;

use self::{
    abi::{Fund, House, Orders, RemoveLiquidity, Vault},
    venue::{Venue, key, tick_of, usdc},
};
use super::harness::{
    Accounting, Dice, Playground,
    chain::{Chain, Mined},
    play, probe_all,
};

/// Among the node's own accounts: the owner, a whale that pushes prices, makers, traders.
const WHALE: usize = 1;
const MAKERS: std::ops::Range<usize> = 2..8;
const TRADERS: std::ops::Range<usize> = 8..68;
/// The first traders also keep liquidity, on little margin.
const TRADING_MAKERS: usize = 10;
/// Steps of the crash; prices fall at every fourth.
const CRASH_STEPS: usize = 72;

struct Scene {
    venue: Venue,
    keeper: Address,
    whale: Address,
    makers: Vec<Address>,
    traders: Vec<Address>,
    /// Ranges that somebody added: who, market, ticks.
    ranges: Vec<(Address, usize, i32, i32)>,
}

impl Playground for Scene {
    const NAME: &'static str = "perp_v2";

    fn chain() -> AnvilOptions {
        let accounts = u16::try_from(TRADERS.end).expect("few");
        AnvilOptions { accounts, block_gas_limit: 300_000_000, states_kept_blocks: 512, ..AnvilOptions::default() }
    }

    async fn deploy(chain: &Chain, deployed: Value, keeper: Address, dice: &mut Dice) -> Result<Self> {
        let venue: Venue = serde_json::from_value(deployed).context("the deploy script's answer")?;
        let accounts: Vec<Address> = chain.anvil.request("eth_accounts", serde_json::json!([])).await?;
        let (whale, makers, traders) = (accounts[WHALE], accounts[MAKERS].to_vec(), accounts[TRADERS].to_vec());
        for &account in &accounts[WHALE..] {
            venue.equip(chain, account, 1_000_000).await?;
        }
        for (account, dollars) in [(whale, 50_000_000), (keeper, 20_000_000)] {
            venue.equip(chain, account, dollars).await?;
            venue.deposit(chain, account, dollars).await?;
        }
        for &maker in &makers {
            venue.deposit(chain, maker, 900_000).await?;
        }
        for &trader in &traders {
            venue.deposit(chain, trader, dice.between(300, 4_000)).await?;
        }
        let fund = abi::Token::mintCall { to: venue.insurance_fund, amount: usdc(300_000) };
        chain.send_now(whale, venue.settlement_token, fund.abi_encode()).await?;
        for call in [
            Fund::setSurplusBeneficiaryCall { beneficiary: venue.insurance_fund }.abi_encode(),
            Fund::setDistributionThresholdCall { threshold: U256::ONE }.abi_encode(),
        ] {
            chain.send_now(venue.owner, venue.insurance_fund, call).await?;
        }
        let mut scene = Self { venue, keeper, whale, makers, traders, ranges: Vec::new() };
        scene.seed(chain).await?;
        Ok(scene)
    }

    fn protocol(&self) -> Value {
        self.venue.protocol(self.keeper)
    }

    fn overrides(&self) -> Value {
        // The harness holds the cache against the chain itself; the daemon's own audit would ask while the next block is
        // made, and anvil may then answer from the state after it.
        serde_json::json!({
            "indexer": { "audit_every_blocks": 0 },
            "recovery": { "tiers": [{ "tier": "liquidate" }, { "tier": "insurance_fund" }] },
        })
    }

    fn accounts(&self) -> usize {
        self.traders.len() + self.makers.len()
    }

    async fn act(&mut self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        for _ in 0..dice.between(1, 4) {
            self.act_once(chain, dice).await?;
        }
        if dice.chance(15) {
            let market = usize::try_from(dice.roll(2))?;
            let price = self.venue.markets[market].price * dice.between(992, 1_008) / 1_000;
            self.venue.set_price(chain, market, price).await?;
        }
        Ok(())
    }

    async fn mismatches(&self, chain: &Chain, adapter: &dyn Adapter, snapshot: &Snapshot) -> Result<Vec<String>> {
        let mut faults = probe_all(chain, adapter, snapshot).await?;
        for account in self.everyone() {
            if snapshot.book.unit(&key(account)).is_none() {
                faults.push(format!("{account} is not in the cache"));
            }
        }
        Ok(faults)
    }

    async fn liquidatable(&self, chain: &Chain, at: &BlockRef) -> Result<BTreeSet<UnitKey>> {
        let everyone: Vec<Address> = self.everyone().filter(|account| *account != self.keeper).collect();
        let standings = self.venue.standings(chain, &everyone, at).await?;
        let due = everyone.iter().zip(standings).filter(|(_, (value, requirement))| value < requirement);
        Ok(due.map(|(account, _)| key(*account)).collect())
    }

    async fn crash(&mut self, chain: &Chain, step: usize) -> Result<bool> {
        if step >= CRASH_STEPS {
            return Ok(false);
        }
        if step == 0 || step == 24 {
            return self.buy(chain, usize::from(step > 0)).await.map(|()| true);
        }
        // Twice the pools fall before the index: the mark price follows at once when it does, and accounts go from solvent to
        // bankrupt in one block.
        let (push, percent) = match step {
            1..=3 | 25..=27 => (230_000, 100),
            4 | 28 => (0, 72),
            _ if step.is_multiple_of(4) => (75_000, 97),
            _ => return Ok(true),
        };
        for market in 0..self.venue.markets.len() {
            if push > 0 {
                self.venue.open(chain, self.whale, market, true, push).await?;
            }
            let price = self.venue.markets[market].price * percent / 100;
            self.venue.set_price(chain, market, price).await?;
        }
        Ok(true)
    }

    fn targets(&self, transaction: &Mined) -> Vec<UnitKey> {
        let trader = House::liquidateCall::abi_decode(&transaction.input)
            .map(|call| call.trader)
            .or_else(|_| House::cancelAllExcessOrdersCall::abi_decode(&transaction.input).map(|call| call.maker))
            .or_else(|_| House::quitMarketCall::abi_decode(&transaction.input).map(|call| call.trader))
            .or_else(|_| Vault::settleBadDebtCall::abi_decode(&transaction.input).map(|call| call.trader));
        trader.map(key).into_iter().collect()
    }

    /// The fund owes the vault nothing that it could pay.
    async fn settled(&mut self, chain: &Chain, at: &BlockRef) -> Result<Option<u64>> {
        let (value, _) = self.venue.fund(chain, at).await?;
        Ok(value.is_negative().then_some(12))
    }

    async fn accounting(&self, chain: &Chain, keeper: Address, mined: &[Mined]) -> Result<Accounting> {
        let logs: Vec<&Log> = mined.iter().flat_map(|transaction| &transaction.logs).collect();
        let liquidations = events::<House::PositionLiquidated>(&logs);
        let own = liquidations.iter().filter(|event| event.liquidator == keeper);
        let bad_debt: U256 = events::<Vault::BadDebtSettled>(&logs).iter().map(|event| event.amount).sum();
        let repaid: U256 = events::<Fund::Repaid>(&logs).iter().map(|event| event.repaidAmount).sum();
        let (_, capacity) = self.venue.fund(chain, &chain.head().await?).await?;
        let open = if capacity.is_negative() { capacity.unsigned_abs() } else { U256::ZERO };
        let sent = |selector: [u8; 4]| {
            let ours = mined.iter().filter(|t| t.from == keeper && t.success && t.input.starts_with(&selector));
            ours.count() as u64
        };
        let mut accounting = Accounting {
            liquidated: own.count(),
            bad_debt_created: bad_debt.to_string(),
            bad_debt_covered: bad_debt.saturating_sub(open).to_string(),
            ..Accounting::default()
        };
        accounting.more.extend([
            ("orders_cancelled".to_owned(), sent(House::cancelAllExcessOrdersCall::SELECTOR).into()),
            ("fund_repayments".to_owned(), sent(Fund::repayCall::SELECTOR).into()),
            ("fund_repaid".to_owned(), repaid.to_string().into()),
            ("fund_capacity".to_owned(), capacity.to_string().into()),
            ("bad_debts".to_owned(), events::<Vault::BadDebtSettled>(&logs).len().into()),
        ]);
        Ok(accounting)
    }
}

impl Scene {
    /// Everybody who has an account in the clearing house.
    fn everyone(&self) -> impl Iterator<Item = Address> {
        let [whale, keeper] = [self.whale, self.keeper];
        self.traders.iter().chain(&self.makers).copied().chain([whale, keeper])
    }

    /// Liquidity to trade against, a pool old enough for a mark price, and a first position of every trader: four longs to
    /// a short, most with much leverage.
    async fn seed(&mut self, chain: &Chain) -> Result<()> {
        // The mark price needs observations of the pools that are old enough.
        chain.mine_after(2_000).await?;
        for market in 0..self.venue.markets.len() {
            let tick = tick_of(self.venue.markets[market].price);
            for (at, width) in [(0, 20_000), (1, 16_000), (2, 24_000)] {
                self.add(chain, self.makers[at], market, 1_200_000, (tick - width, tick + width)).await?;
            }
        }
        chain.mine_after(2_000).await?;
        for (at, trader) in self.traders.clone().into_iter().enumerate() {
            let market = at % self.venue.markets.len();
            let balance = Vault::getBalanceCall { trader }.abi_encode();
            let balance = chain.view(self.venue.vault, balance, chain.head().await?.hash).await?;
            let dollars = u64::try_from(U256::try_from_be_slice(&balance).context("a balance")?)? / 1_000_000;
            if at < TRADING_MAKERS {
                let tick = tick_of(self.venue.markets[market].price);
                self.add(chain, trader, market, dollars * 4, (tick - 1_400, tick + 600)).await?;
            } else {
                self.venue.open(chain, trader, market, at % 5 == 0, dollars * (4 + at as u64 % 5)).await?;
            }
        }
        Ok(())
    }

    async fn add(
        &mut self,
        chain: &Chain,
        from: Address,
        market: usize,
        dollars: u64,
        (lower, upper): (i32, i32),
    ) -> Result<()> {
        self.venue.add(chain, from, market, dollars, (lower, upper)).await?;
        self.ranges.push((from, market, lower, upper));
        Ok(())
    }

    /// Every other trader, from `first` on, buys for four and a half times its free collateral.
    async fn buy(&mut self, chain: &Chain, first: usize) -> Result<()> {
        // The fund's fees leave the vault for its own purse, so that the vault has to be repaid after bad debt.
        let fund = self.venue.insurance_fund;
        chain.send(self.whale, fund, Fund::distributeFeeCall {}.abi_encode()).await?;
        let head = chain.head().await?;
        for (at, trader) in self.traders.clone().into_iter().enumerate().skip(first).step_by(2) {
            let call = Vault::getFreeCollateralCall { trader }.abi_encode();
            let free = chain.view(self.venue.vault, call, head.hash).await?;
            let dollars = u64::try_from(U256::try_from_be_slice(&free).context("free collateral")?)? / 1_000_000;
            self.venue.open(chain, trader, at / 2 % self.venue.markets.len(), false, dollars * 9 / 2).await?;
        }
        Ok(())
    }

    async fn act_once(&mut self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        let (trader, maker) = (*dice.pick(&self.traders), *dice.pick(&self.makers));
        let market = usize::try_from(dice.roll(2))?;
        let venue = &self.venue;
        match dice.roll(20) {
            0..=2 => venue.deposit(chain, trader, dice.between(20, 900)).await.map(drop),
            3 => {
                let amount = U256::from(dice.between(1_000, 40_000));
                let deposit = Vault::depositCall { token: venue.collateral.token, amount };
                chain.send(maker, venue.vault, deposit.abi_encode()).await.map(drop)
            }
            4 | 5 => {
                let amount = U256::from(dice.between(1, 60_000_000));
                let withdraw = Vault::withdrawCall { token: venue.settlement_token, amount };
                chain.send(trader, venue.vault, withdraw.abi_encode()).await.map(drop)
            }
            6..=12 => venue.open(chain, trader, market, dice.chance(45), dice.between(20, 1_500)).await.map(drop),
            13 => venue.close(chain, trader, market).await.map(drop),
            14 => {
                let call = House::settleAllFundingCall { trader };
                chain.send(trader, venue.clearing_house, call.abi_encode()).await.map(drop)
            }
            15 | 16 => self.remove(chain, dice).await,
            _ => {
                let step = |dice: &mut Dice| 200 * (1 + i32::try_from(dice.roll(12)).expect("small"));
                let tick = tick_of(venue.markets[market].price);
                let range = (tick - step(dice), tick + step(dice));
                self.add(chain, maker, market, dice.between(500, 60_000), range).await
            }
        }
    }

    /// Takes a part of somebody's liquidity back.
    async fn remove(&mut self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        let at = usize::try_from(dice.roll(self.ranges.len() as u64))?;
        let (trader, market, lower, upper) = self.ranges[at];
        let base = self.venue.markets[market].base;
        let (lower_tick, upper_tick) = (I24::try_from(lower)?, I24::try_from(upper)?);
        let order = Orders::getOpenOrderCall { trader, baseToken: base, lowerTick: lower_tick, upperTick: upper_tick };
        let head = chain.head().await?;
        let answer = chain.view(self.venue.order_book, order.abi_encode(), head.hash).await?;
        let liquidity = Orders::getOpenOrderCall::abi_decode_returns(&answer)?.liquidity;
        // The first ranges are what everybody trades against.
        let part = if at < 6 { liquidity / 50 } else { liquidity / u128::from(dice.between(1, 4)) };
        if part == 0 {
            return Ok(());
        }
        let params = RemoveLiquidity {
            baseToken: base,
            lowerTick: lower_tick,
            upperTick: upper_tick,
            liquidity: part,
            minBase: U256::ZERO,
            minQuote: U256::ZERO,
            deadline: U256::MAX,
        };
        chain.send(trader, self.venue.clearing_house, House::removeLiquidityCall { params }.abi_encode()).await?;
        Ok(())
    }
}

/// All events of a kind.
fn events<E: SolEvent>(logs: &[&Log]) -> Vec<E> {
    let of_kind = logs.iter().filter(|log| log.topics.first() == Some(&E::SIGNATURE_HASH));
    of_kind.filter_map(|log| E::decode_raw_log(&log.topics, &log.data).ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn perp_v2() {
    let Some(report) = play::<Scene>().await else { return };
    let figure = |name: &str| report.more[name].as_u64().unwrap_or_default();
    assert!(figure("orders_cancelled") > 0, "no orders were in the way of a liquidation");
    assert!(report.bad_debt_created != "0", "no bad debt: the run shows nothing of the insurance fund");
    assert_eq!(report.bad_debt_created, report.bad_debt_covered, "the fund could not pay");
    assert!(figure("fund_repayments") > 0, "the fund was not refilled");
}
