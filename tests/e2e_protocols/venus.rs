//! Venus isolated pools: two pools of three markets, sixty accounts, a crash that calls for every kind of liquidation, and
//! the auctions that pay for what it leaves.
//!
//! Liquidatable is who has a shortfall in the comptroller's own view once every market has stored its interest, in the
//! block that comes next: what an action would find. The keeper starts, bids in and closes the first pool's auction; in
//! the second pool a competitor starts and bids, and the keeper closes.

#[path = "../contracts_venus/abi.rs"]
mod abi;

use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    primitives::{Address, Bytes, U64, U256},
    sol_types::{SolCall, SolEvent},
};
use anyhow::{Context, Result, ensure};
use backstop::{
    demo::anvil::AnvilOptions,
    positions::Snapshot,
    protocols::Adapter,
    types::{BlockRef, CallOutcome, I256, UnitKey},
};
use serde::Deserialize;
use serde_json::{Value, json};

use self::abi::{Comptroller, Oracle, RiskFund, Shortfall, Token, VToken};
use crate::harness::{Accounting, Dice, Playground, chain::Chain, chain::Mined, play, probe_all};

const ACCOUNTS: usize = 60;
const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);
/// Falls of the crash: token and what is left of its price, in thousandths.
const FALLS: [(&str, u64); 10] = [
    ("eth", 930),
    ("btc", 900),
    ("gov", 850),
    ("eth", 900),
    ("btc", 850),
    ("gov", 780),
    ("eth", 800),
    ("btc", 600),
    ("gov", 450),
    ("eth", 450),
];

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Places {
    owner: Address,
    oracle: Address,
    shortfall: Address,
    risk_fund: Address,
    tokens: BTreeMap<String, Address>,
    pools: Vec<Pool>,
    beacons: BTreeMap<String, Beacon>,
}

#[derive(Clone, Debug, Deserialize)]
struct Pool {
    comptroller: Address,
    markets: BTreeMap<String, Market>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Market {
    vtoken: Address,
    underlying: Address,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Beacon {
    beacon: Address,
    implementation: Address,
}

struct Venus {
    places: Places,
    accounts: Vec<Address>,
    competitor: Address,
    /// Whether the risk fund was filled and the competitor did his part.
    auctions_opened: bool,
}

fn key(pool: &Pool, account: Address) -> UnitKey {
    UnitKey::new([pool.comptroller.as_slice(), account.as_slice()].concat()).expect("a key")
}

impl Venus {
    fn markets(&self) -> Vec<(&Pool, Market)> {
        self.places.pools.iter().flat_map(|pool| pool.markets.values().map(move |market| (pool, *market))).collect()
    }

    async fn view<C: SolCall>(&self, chain: &Chain, to: Address, call: C) -> Result<C::Return> {
        let head = chain.head().await?;
        Ok(C::abi_decode_returns(&chain.view(to, call.abi_encode(), head.hash).await?)?)
    }

    async fn price(&self, chain: &Chain, asset: Address) -> Result<U256> {
        self.view(chain, self.places.oracle, Oracle::assetPricesCall { asset }).await
    }

    /// Token units worth so many dollars.
    async fn worth(&self, chain: &Chain, market: Market, dollars: u64) -> Result<U256> {
        Ok(U256::from(dollars) * WAD * WAD / self.price(chain, market.underlying).await?)
    }

    /// Every account's liquidity in every pool in the block after `at`, once all markets stored their interest: excess and
    /// shortfall, by the comptrollers' own word.
    async fn liquidities(&self, chain: &Chain, at: &BlockRef) -> Result<BTreeMap<UnitKey, (U256, U256)>> {
        let accrue = Bytes::from(VToken::accrueInterestCall {}.abi_encode());
        let mut calls: Vec<Value> =
            self.markets().iter().map(|(_, market)| json!({ "to": market.vtoken, "input": accrue })).collect();
        let first = calls.len();
        let mut keys = Vec::new();
        for pool in &self.places.pools {
            for account in self.accounts.iter().copied() {
                let data = Bytes::from(Comptroller::getAccountLiquidityCall { account }.abi_encode());
                calls.push(json!({ "to": pool.comptroller, "input": data }));
                keys.push(key(pool, account));
            }
        }
        let overrides = json!({ "number": U64::from(at.number + 1), "time": U64::from(at.timestamp + 1) });
        let block = json!({ "blockOverrides": overrides, "calls": calls });
        let payload = json!({ "blockStateCalls": [block], "validation": false, "traceTransfers": false });
        let answer: Value = chain.anvil.request("eth_simulateV1", json!([payload, { "blockHash": at.hash }])).await?;
        let results = answer[0]["calls"].as_array().context("a simulation without results")?;
        ensure!(results.len() == calls.len(), "{} results of {} calls", results.len(), calls.len());
        let mut liquidities = BTreeMap::new();
        for (key, result) in keys.into_iter().zip(&results[first..]) {
            let data: Bytes = serde_json::from_value(result["returnData"].clone())?;
            let sums = Comptroller::getAccountLiquidityCall::abi_decode_returns(&data)?;
            liquidities.insert(key, (sums.liquidity, sums.shortfall));
        }
        Ok(liquidities)
    }

    async fn borrow(
        &self,
        chain: &Chain,
        dice: &mut Dice,
        account: Address,
        pool: &Pool,
        market: Market,
    ) -> Result<()> {
        let call = Comptroller::getBorrowingPowerCall { account };
        let power = self.view(chain, pool.comptroller, call).await?.liquidity;
        let part = U256::from(dice.between(300, 990));
        let amount = power * part / U256::from(1_000) * WAD / self.price(chain, market.underlying).await?;
        if amount > U256::ZERO {
            chain.send(account, market.vtoken, VToken::borrowCall { borrowAmount: amount }.abi_encode()).await?;
        }
        Ok(())
    }

    /// Every account supplies in one market of one pool and borrows in one or two: some far above the pool's least
    /// collateral, some near it.
    async fn portfolios(&self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        for (number, account) in self.accounts.iter().copied().enumerate() {
            let pool = &self.places.pools[number % 2];
            let markets: Vec<Market> = pool.markets.values().copied().collect();
            let collateral = *dice.pick(&markets);
            let dollars = if dice.chance(35) { dice.between(450, 950) } else { dice.between(1_000, 5_000) };
            let mint_amount = self.worth(chain, collateral, dollars).await?;
            chain.send(account, collateral.vtoken, VToken::mintCall { mintAmount: mint_amount }.abi_encode()).await?;
            let enter = Comptroller::enterMarketsCall { vTokens: vec![collateral.vtoken] };
            chain.send(account, pool.comptroller, enter.abi_encode()).await?;
            chain.mine().await?;
            for _ in 0..dice.between(1, 2) {
                let debt = *dice.pick(&markets);
                self.borrow(chain, dice, account, pool, debt).await?;
                chain.mine().await?;
            }
        }
        Ok(())
    }

    /// One action of one account.
    async fn one(&self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        let account = *dice.pick(&self.accounts);
        let markets = self.markets();
        let (pool, market) = *dice.pick(&markets);
        let vtoken = market.vtoken;
        let part = |of: U256, thousandths: u64| of * U256::from(thousandths) / U256::from(1_000);
        let (to, data) = match dice.roll(100) {
            0..30 => {
                let mint_amount = self.worth(chain, market, dice.between(300, 3_000)).await?;
                (vtoken, VToken::mintCall { mintAmount: mint_amount }.abi_encode())
            }
            30..45 => (pool.comptroller, Comptroller::enterMarketsCall { vTokens: vec![vtoken] }.abi_encode()),
            45..48 => (pool.comptroller, Comptroller::exitMarketCall { vToken: vtoken }.abi_encode()),
            48..75 => return self.borrow(chain, dice, account, pool, market).await,
            75..82 => {
                let owed = self.view(chain, vtoken, VToken::borrowBalanceStoredCall { account }).await?;
                let repay_amount = if dice.chance(30) { U256::MAX >> 1 } else { part(owed, dice.between(1, 900)) };
                (vtoken, VToken::repayBorrowCall { repayAmount: repay_amount }.abi_encode())
            }
            82..90 => {
                let held = self.view(chain, vtoken, VToken::balanceOfCall { owner: account }).await?;
                (vtoken, VToken::redeemCall { redeemTokens: part(held, dice.between(1, 600)) }.abi_encode())
            }
            90..97 => {
                let held = self.view(chain, vtoken, VToken::balanceOfCall { owner: account }).await?;
                let (dst, amount) = (*dice.pick(&self.accounts), part(held, dice.between(1, 400)));
                (vtoken, VToken::transferCall { dst, amount }.abi_encode())
            }
            _ => (vtoken, VToken::accrueInterestCall {}.abi_encode()),
        };
        chain.send(account, to, data).await?;
        Ok(())
    }

    async fn set_price(&self, chain: &Chain, asset: Address, thousandths: u64) -> Result<()> {
        let price = self.price(chain, asset).await? * U256::from(thousandths) / U256::from(1_000);
        let call = Oracle::setPriceCall { asset, price };
        chain.send(self.places.owner, self.places.oracle, call.abi_encode()).await?;
        Ok(())
    }

    /// Gives the risk fund so many dollars for a pool; `from` pays.
    async fn fill(&self, chain: &Chain, from: Address, pool: &Pool, dollars: u64) -> Result<()> {
        let (usd, fund) = (self.places.tokens["usd"], self.places.risk_fund);
        let amount = U256::from(dollars) * WAD;
        chain.send(from, usd, Token::transferCall { to: fund, amount }.abi_encode()).await?;
        let call = RiskFund::updateAssetsStateCall { comptroller: pool.comptroller, asset: usd };
        chain.send(from, fund, call.abi_encode()).await?;
        Ok(())
    }

    /// The first pool's fund holds something, so the keeper can start. In the second pool the competitor fills the fund,
    /// starts and bids everything, all in one block.
    async fn open_auctions(&self, chain: &Chain) -> Result<()> {
        let [first, second] = self.places.pools.as_slice() else { anyhow::bail!("not two pools") };
        self.fill(chain, self.places.owner, first, 400).await?;
        self.fill(chain, self.competitor, second, 400).await?;
        let (house, comptroller) = (self.places.shortfall, second.comptroller);
        chain.send(self.competitor, house, Shortfall::startAuctionCall { comptroller }.abi_encode()).await?;
        let next = chain.head().await?.number + 1;
        let call = Shortfall::placeBidCall {
            comptroller,
            bidBps: U256::from(10_000),
            auctionStartBlockOrTimestamp: U256::from(next),
        };
        chain.send(self.competitor, house, call.abi_encode()).await?;
        Ok(())
    }

    async fn auction(&self, chain: &Chain, pool: &Pool) -> Result<Shortfall::auctionsReturn> {
        let call = Shortfall::auctionsCall { comptroller: pool.comptroller };
        self.view(chain, self.places.shortfall, call).await
    }

    fn pool_of(&self, vtoken: Address) -> Option<(&Pool, &str)> {
        self.places.pools.iter().find_map(|pool| {
            let (name, _) = pool.markets.iter().find(|(_, market)| market.vtoken == vtoken)?;
            Some((pool, name.as_str()))
        })
    }
}

impl Playground for Venus {
    const NAME: &'static str = "venus";

    fn chain() -> AnvilOptions {
        AnvilOptions {
            accounts: u16::try_from(ACCOUNTS + 2).expect("a few"),
            block_gas_limit: 300_000_000,
            code_size_unlimited: true,
            states_kept_blocks: 4_096,
            ..AnvilOptions::default()
        }
    }

    async fn deploy(chain: &Chain, deployed: Value, keeper: Address, dice: &mut Dice) -> Result<Self> {
        let places: Places = serde_json::from_value(deployed)?;
        let known: Vec<Address> = chain.anvil.request("eth_accounts", json!([])).await?;
        let (competitor, accounts) = (known[1], known[2..].to_vec());
        let venus = Self { places, accounts, competitor, auctions_opened: false };
        chain.stop_automine().await?;
        let everybody = venus.accounts.iter().copied().chain([keeper, competitor, venus.places.owner]);
        for account in everybody {
            for token in venus.places.tokens.values().copied() {
                let amount = U256::from(10).pow(U256::from(26));
                chain.send(account, token, Token::faucetCall { amount }.abi_encode()).await?;
                let approve = Token::approveCall { spender: venus.places.shortfall, amount: U256::MAX };
                chain.send(account, token, approve.abi_encode()).await?;
            }
            for (_, market) in venus.markets() {
                let approve = Token::approveCall { spender: market.vtoken, amount: U256::MAX };
                chain.send(account, market.underlying, approve.abi_encode()).await?;
            }
            chain.mine().await?;
        }
        venus.portfolios(chain, dice).await?;
        Ok(venus)
    }

    fn protocol(&self) -> Value {
        let comptrollers: Vec<Address> = self.places.pools.iter().map(|pool| pool.comptroller).collect();
        let vtokens: Vec<Address> = self.markets().iter().map(|(_, market)| market.vtoken).collect();
        let pinned = |name: &str, proxies: &[Address]| {
            let Beacon { beacon, implementation } = self.places.beacons[name];
            json!({ "beacon": beacon, "implementation": implementation, "proxies": proxies })
        };
        json!({
            "adapter": "venus",
            "comptrollers": comptrollers,
            "shortfall": self.places.shortfall,
            "beacons": [
                pinned("comptroller", &comptrollers),
                pinned("vtoken", &vtokens),
                pinned("shortfall", &[self.places.shortfall]),
            ],
        })
    }

    fn policy(&self) -> Value {
        json!({
            "mode": "mandate",
            "native_value": "2000000000000000000000",
            "budget_per_day_max_wei": "1000000000000000000000",
        })
    }

    fn overrides(&self) -> Value {
        json!({ "recovery": { "tiers": [{ "tier": "liquidate" }, { "tier": "insurance_fund" }] } })
    }

    fn accounts(&self) -> usize {
        self.accounts.len()
    }

    async fn act(&mut self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        for _ in 0..dice.between(1, 4) {
            self.one(chain, dice).await?;
        }
        if dice.chance(5) {
            // Auctions take the fund's value for an amount of its token: the dollar stays a dollar.
            let tokens = ["eth", "btc", "gov"].map(|name| self.places.tokens[name]);
            let thousandths = dice.between(995, 1_005);
            self.set_price(chain, *dice.pick(&tokens), thousandths).await?;
        }
        Ok(())
    }

    /// All that probes cover; accounts that no event has named; and the standing itself, against the comptroller's view
    /// with every market up to date.
    async fn mismatches(&self, chain: &Chain, adapter: &dyn Adapter, snapshot: &Snapshot) -> Result<Vec<String>> {
        let mut faults = probe_all(chain, adapter, snapshot).await?;
        let pools = self.places.pools.iter();
        let keys = pools.flat_map(|pool| self.accounts.iter().map(move |account| key(pool, *account)));
        let unnamed: Vec<UnitKey> = keys.filter(|key| snapshot.book.unit(key).is_none()).collect();
        for probe in adapter.probes(snapshot, &unnamed) {
            let [answer] = <[_; 1]>::try_from(chain.calls(None, &[probe.call], snapshot.block.hash).await?)
                .map_err(|_| anyhow::anyhow!("not one answer"))?;
            if answer != CallOutcome::Returned(probe.expected) {
                faults.push(format!("{}: an account that the cache does not know", probe.subject));
            }
        }
        let next =
            BlockRef { number: snapshot.block.number + 1, timestamp: snapshot.block.timestamp + 1, ..snapshot.block };
        let ahead = Snapshot { block: next, book: snapshot.book.clone() };
        for (key, (excess, shortfall)) in self.liquidities(chain, &snapshot.block).await? {
            let Some(unit) = ahead.book.unit(&key) else { continue };
            let surplus = adapter.standing(&ahead, &key, unit)?.surplus;
            let said = I256::try_from(excess)? - I256::try_from(shortfall)?;
            if surplus != said {
                faults.push(format!("{key}: a surplus of {surplus}, the comptroller says {said}"));
            }
        }
        Ok(faults)
    }

    async fn liquidatable(&self, chain: &Chain, at: &BlockRef) -> Result<BTreeSet<UnitKey>> {
        let liquidities = self.liquidities(chain, at).await?;
        Ok(liquidities.into_iter().filter(|(_, (_, shortfall))| !shortfall.is_zero()).map(|(key, _)| key).collect())
    }

    async fn crash(&mut self, chain: &Chain, step: usize) -> Result<bool> {
        let Some((token, thousandths)) = FALLS.get(step) else { return Ok(false) };
        self.set_price(chain, self.places.tokens[*token], *thousandths).await?;
        Ok(true)
    }

    fn targets(&self, transaction: &Mined) -> Vec<UnitKey> {
        let Some(to) = transaction.to else { return Vec::new() };
        if let Some((pool, _)) = self.pool_of(to) {
            let call = VToken::liquidateBorrowCall::abi_decode(&transaction.input);
            return call.map(|call| key(pool, call.borrower)).into_iter().collect();
        }
        let Some(pool) = self.places.pools.iter().find(|pool| pool.comptroller == to) else { return Vec::new() };
        let healed = Comptroller::healAccountCall::abi_decode(&transaction.input).map(|call| call.user);
        let liquidated = Comptroller::liquidateAccountCall::abi_decode(&transaction.input).map(|call| call.borrower);
        healed.or(liquidated).map(|account| key(pool, account)).into_iter().collect()
    }

    async fn settled(&mut self, chain: &Chain, _at: &BlockRef) -> Result<Option<u64>> {
        if !self.auctions_opened {
            self.open_auctions(chain).await?;
            self.auctions_opened = true;
            return Ok(Some(12));
        }
        for pool in &self.places.pools {
            // 2: ended.
            if self.auction(chain, pool).await?.status != 2 {
                return Ok(Some(12));
            }
        }
        Ok(None)
    }

    async fn accounting(&self, _chain: &Chain, keeper: Address, mined: &[Mined]) -> Result<Accounting> {
        let mut accounting = Accounting::default();
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut created, mut covered) = (BTreeMap::new(), BTreeMap::new());
        for transaction in mined.iter().filter(|transaction| transaction.success) {
            if transaction.from == keeper
                && let Some(word) = word(&transaction.input)
            {
                *counts.entry(word).or_default() += 1;
                accounting.liquidated +=
                    usize::from(["liquidate_borrow", "liquidate_account", "heal_account"].contains(&word));
            }
            for log in &transaction.logs {
                let Some((_, name)) = self.pool_of(log.address) else { continue };
                if let Ok(event) = abi::Events::BadDebtIncreased::decode_raw_log(&log.topics, &log.data) {
                    *created.entry(name.to_owned()).or_insert(U256::ZERO) += event.badDebtDelta;
                }
                if let Ok(event) = abi::Events::BadDebtRecovered::decode_raw_log(&log.topics, &log.data) {
                    *covered.entry(name.to_owned()).or_insert(U256::ZERO) += event.badDebtOld - event.badDebtNew;
                }
            }
        }
        let said = |sums: BTreeMap<String, U256>| {
            sums.iter().map(|(token, sum)| format!("{sum} {token}")).collect::<Vec<_>>().join(", ")
        };
        (accounting.bad_debt_created, accounting.bad_debt_covered) = (said(created), said(covered));
        accounting.more.insert("keeper".to_owned(), json!(counts));
        Ok(accounting)
    }
}

/// What a transaction of the keeper does.
fn word(input: &Bytes) -> Option<&'static str> {
    let selector = *input.first_chunk::<4>()?;
    let words = [
        (VToken::liquidateBorrowCall::SELECTOR, "liquidate_borrow"),
        (Comptroller::liquidateAccountCall::SELECTOR, "liquidate_account"),
        (Comptroller::healAccountCall::SELECTOR, "heal_account"),
        (Shortfall::startAuctionCall::SELECTOR, "start_auction"),
        (Shortfall::placeBidCall::SELECTOR, "place_bid"),
        (Shortfall::closeAuctionCall::SELECTOR, "close_auction"),
        (VToken::accrueInterestCall::SELECTOR, "accrue_interest"),
    ];
    words.into_iter().find(|(known, _)| *known == selector).map(|(_, word)| word)
}

#[tokio::test(flavor = "multi_thread")]
async fn venus() {
    let Some(report) = play::<Venus>().await else { return };
    let count = |word: &str| report.more["keeper"][word].as_u64().unwrap_or_default();
    for word in ["liquidate_borrow", "liquidate_account", "heal_account", "start_auction", "place_bid"] {
        assert!(count(word) > 0, "no {word}: {report:?}");
    }
    assert!(count("close_auction") > 1, "one auction of its own and one of the competitor's: {report:?}");
    assert!(!report.bad_debt_covered.is_empty());
}
