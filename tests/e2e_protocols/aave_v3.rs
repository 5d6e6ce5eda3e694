//! Aave v3.6: sixty accounts over five reserves and two e-mode categories.
//!
//! Random life: supply, withdraw, borrow, repay (also in aTokens), transfers of aTokens, collateral switched, e-mode
//! switched, the treasury paid, governance turning parameters, prices that wander. Then collateral falls in steps, the last
//! ones so far that bad debt is left, which the keeper covers as UMBRELLA. In some steps a rival liquidates in the very block of the
//! price, and is paid in aTokens.
#![expect(non_snake_case, reason = "fields are named as the contracts name them")]

use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    primitives::{Address, B256, Bytes, U256, aliases::U40, b256, keccak256},
    sol,
    sol_types::{SolCall, SolEvent},
};
use anyhow::{Context, Result, ensure};
use backstop::{
    demo::anvil::AnvilOptions,
    positions::Snapshot,
    protocols::Adapter,
    types::{BlockRef, Call, CallOutcome, UnitKey},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{
    Accounting, Dice, Playground,
    chain::{Chain, Mined},
    play,
};

sol! {
    interface IToken {
        function mint(address account, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
        function transfer(address to, uint256 value) external returns (bool);
    }
    interface IPool {
        event LiquidationCall(address indexed collateralAsset, address indexed debtAsset, address indexed user, uint256 debtToCover, uint256 liquidatedCollateralAmount, address liquidator, bool receiveAToken);
        event DeficitCreated(address indexed user, address indexed debtAsset, uint256 amountCreated);
        event DeficitCovered(address indexed reserve, address caller, uint256 amountCovered);
        function supply(address asset, uint256 amount, address onBehalfOf, uint16 referralCode) external;
        function withdraw(address asset, uint256 amount, address to) external returns (uint256);
        function borrow(address asset, uint256 amount, uint256 interestRateMode, uint16 referralCode, address onBehalfOf) external;
        function repay(address asset, uint256 amount, uint256 interestRateMode, address onBehalfOf) external returns (uint256);
        function repayWithATokens(address asset, uint256 amount, uint256 interestRateMode) external returns (uint256);
        function setUserUseReserveAsCollateral(address asset, bool useAsCollateral) external;
        function setUserEMode(uint8 categoryId) external;
        function liquidationCall(address collateralAsset, address debtAsset, address borrower, uint256 debtToCover, bool receiveAToken) external;
        function mintToTreasury(address[] assets) external;
        function multicall(bytes[] calls) external returns (bytes[] results);
        function getUserAccountData(address user) external view returns (uint256 collateral, uint256 debt, uint256 available, uint256 threshold, uint256 ltv, uint256 healthFactor);
        function getUserEMode(address user) external view returns (uint256);
        function getReserveDeficit(address asset) external view returns (uint256);
    }
    interface IGovernance {
        function setReserveFactor(address asset, uint256 newReserveFactor) external;
        function setLiquidationProtocolFee(address asset, uint256 newFee) external;
        function setSupplyCap(address asset, uint256 newSupplyCap) external;
        function setReservePause(address asset, bool paused, uint40 gracePeriod) external;
        function setAssetBorrowableInEMode(address asset, uint8 categoryId, bool borrowable) external;
        function setAssetLtvzeroInEMode(address asset, uint8 categoryId, bool ltvzero) external;
        function setAddress(bytes32 id, address newAddress) external;
    }
}

/// Accounts that supply and never borrow.
const LENDERS: usize = 6;
const BORROWERS: usize = 54;
/// The pool's only rate mode.
const VARIABLE: U256 = U256::from_limbs([2, 0, 0, 0]);
/// 1 with 18 decimals.
const HEALTHY: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);
/// A dollar in the pool's base currency.
const DOLLAR: u64 = 100_000_000;
const UMBRELLA: B256 = b256!("554d4252454c4c41000000000000000000000000000000000000000000000000");
/// What prices become in each step of the fall, of what they were, in bps: WETH, USDC, WBTC, wstETH, DAI.
const FALL: [[u64; 5]; 9] = [
    [9_500, 10_000, 9_600, 9_450, 10_000],
    [9_300, 10_000, 9_300, 9_200, 10_020],
    [9_000, 10_000, 9_400, 9_000, 9_980],
    [9_900, 10_000, 10_000, 9_500, 10_300],
    [8_800, 10_000, 8_600, 8_700, 10_000],
    [9_700, 10_000, 9_900, 9_300, 9_000],
    [7_000, 10_000, 7_200, 6_800, 10_100],
    [10_500, 10_000, 10_300, 10_400, 10_000],
    [5_500, 9_990, 6_000, 5_200, 10_000],
];

#[derive(Clone, Debug, Deserialize)]
struct Reserve {
    symbol: String,
    decimals: u32,
    feed: Address,
    price: String,
    asset: Address,
    a_token: Address,
}

#[derive(Clone, Debug, Deserialize)]
struct Deployed {
    owner: Address,
    addresses_provider: Address,
    pool: Address,
    pool_configurator: Address,
    pool_implementation: Address,
    treasury: Address,
    reserves: Vec<Reserve>,
}

struct Market {
    deployed: Deployed,
    keeper: Address,
    users: Vec<Address>,
    prices: Vec<U256>,
    dice: Dice,
}

impl Market {
    /// So many dollars of a reserve's asset, at its present price.
    fn of_dollars(&self, reserve: usize, dollars: u64) -> U256 {
        let unit = U256::from(10).pow(U256::from(self.deployed.reserves[reserve].decimals));
        U256::from(dollars) * U256::from(DOLLAR) * unit / self.prices[reserve]
    }

    fn index(&self, dice: &mut Dice) -> usize {
        usize::try_from(dice.roll(self.deployed.reserves.len() as u64)).expect("an index")
    }

    async fn pool(&self, chain: &Chain, from: Address, call: impl SolCall) -> Result<()> {
        chain.send(from, self.deployed.pool, call.abi_encode()).await?;
        Ok(())
    }

    async fn reprice(&mut self, chain: &Chain, reserve: usize, bps: u64) -> Result<()> {
        let price = (self.prices[reserve] * U256::from(bps) / U256::from(10_000)).max(U256::ONE);
        self.prices[reserve] = price;
        let feed = self.deployed.reserves[reserve].feed;
        chain.send(self.deployed.owner, feed, price.to_be_bytes::<32>().to_vec()).await?;
        Ok(())
    }

    /// The six words of an account.
    async fn data(&self, chain: &Chain, user: Address, at: &BlockRef) -> Result<IPool::getUserAccountDataReturn> {
        let answer =
            chain.view(self.deployed.pool, IPool::getUserAccountDataCall { user }.abi_encode(), at.hash).await?;
        Ok(IPool::getUserAccountDataCall::abi_decode_returns(&answer)?)
    }

    /// Money, approvals and first positions.
    async fn fund(&self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        let Deployed { owner, pool, .. } = self.deployed;
        for (number, account) in self.users.iter().copied().chain([self.keeper]).enumerate() {
            chain.fund(account).await?;
            let dollars = if number < LENDERS || account == self.keeper { 400_000_000 } else { 4_000_000 };
            for (index, reserve) in self.deployed.reserves.iter().enumerate() {
                let value = self.of_dollars(index, dollars);
                chain.send_now(owner, reserve.asset, IToken::mintCall { account, value }.abi_encode()).await?;
                let approve = IToken::approveCall { spender: pool, value: U256::MAX };
                chain.send_now(account, reserve.asset, approve.abi_encode()).await?;
            }
        }
        for (index, reserve) in self.deployed.reserves.iter().enumerate() {
            let asset = reserve.asset;
            for account in self.users[..LENDERS].iter().copied().chain([self.keeper]) {
                let amount = self.of_dollars(index, 20_000_000);
                let supply = IPool::supplyCall { asset, amount, onBehalfOf: account, referralCode: 0 };
                chain.send_now(account, pool, supply.abi_encode()).await?;
            }
        }
        for user in &self.users[LENDERS..] {
            let reserve = self.index(dice);
            let amount = self.of_dollars(reserve, 10u64.pow(u32::try_from(dice.between(2, 5))?) * dice.between(1, 9));
            let asset = self.deployed.reserves[reserve].asset;
            let supply = IPool::supplyCall { asset, amount, onBehalfOf: *user, referralCode: 0 };
            chain.send_now(*user, pool, supply.abi_encode()).await?;
        }
        Ok(())
    }

    /// One random action of one borrower.
    async fn step(&self, chain: &Chain, dice: &mut Dice, head: &BlockRef) -> Result<()> {
        let user = *dice.pick(&self.users[LENDERS..]);
        let reserve = self.index(dice);
        let Reserve { asset, a_token, .. } = self.deployed.reserves[reserve];
        let amount = self.of_dollars(reserve, 10u64.pow(u32::try_from(dice.between(1, 4))?) * dice.between(1, 9));
        let interestRateMode = VARIABLE;
        match dice.roll(20) {
            0..=3 => {
                self.pool(chain, user, IPool::supplyCall { asset, amount, onBehalfOf: user, referralCode: 0 }).await
            }
            4 => self.pool(chain, user, IPool::withdrawCall { asset, amount: U256::MAX, to: user }).await,
            5 => self.pool(chain, user, IPool::withdrawCall { asset, amount, to: user }).await,
            6..=11 => {
                let available = self.data(chain, user, head).await?.available;
                let percent = dice.between(20, 99);
                let unit = U256::from(10).pow(U256::from(self.deployed.reserves[reserve].decimals));
                let amount = available * U256::from(percent) * unit / (self.prices[reserve] * U256::from(100));
                let borrow = IPool::borrowCall { asset, amount, interestRateMode, referralCode: 0, onBehalfOf: user };
                self.pool(chain, user, borrow).await
            }
            12 => {
                self.pool(
                    chain,
                    user,
                    IPool::repayCall { asset, amount: U256::MAX, interestRateMode, onBehalfOf: user },
                )
                .await
            }
            13 => self.pool(chain, user, IPool::repayCall { asset, amount, interestRateMode, onBehalfOf: user }).await,
            14 => self.pool(chain, user, IPool::repayWithATokensCall { asset, amount, interestRateMode }).await,
            15 => {
                let transfer = IToken::transferCall { to: *dice.pick(&self.users), value: amount };
                chain.send(user, a_token, transfer.abi_encode()).await?;
                Ok(())
            }
            16 => {
                let useAsCollateral = dice.chance(60);
                self.pool(chain, user, IPool::setUserUseReserveAsCollateralCall { asset, useAsCollateral }).await
            }
            17..=18 => {
                let categoryId = u8::try_from(dice.roll(3))?;
                self.pool(chain, user, IPool::setUserEModeCall { categoryId }).await
            }
            _ => self.pool(chain, user, IPool::mintToTreasuryCall { assets: vec![asset] }).await,
        }
    }

    async fn govern(&self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        let Deployed { owner, pool_configurator: to, .. } = self.deployed;
        let asset = self.deployed.reserves[self.index(dice)].asset;
        let (some, categoryId, on) =
            (U256::from(dice.between(500, 2_500)), u8::try_from(dice.between(1, 2))?, dice.chance(70));
        let data = match dice.roll(6) {
            0 => IGovernance::setReserveFactorCall { asset, newReserveFactor: some }.abi_encode(),
            1 => IGovernance::setLiquidationProtocolFeeCall { asset, newFee: some }.abi_encode(),
            2 => IGovernance::setSupplyCapCall { asset, newSupplyCap: some * U256::from(10_000_000) }.abi_encode(),
            3 => IGovernance::setAssetBorrowableInEModeCall { asset, categoryId, borrowable: on }.abi_encode(),
            4 => IGovernance::setAssetLtvzeroInEModeCall { asset, categoryId, ltvzero: on }.abi_encode(),
            _ => {
                let gracePeriod = U40::from(dice.between(1, 40));
                let pause = IGovernance::setReservePauseCall { asset, paused: true, gracePeriod };
                chain.send(owner, to, pause.abi_encode()).await?;
                IGovernance::setReservePauseCall { asset, paused: false, gracePeriod }.abi_encode()
            }
        };
        chain.send(owner, to, data).await?;
        Ok(())
    }

    /// Somebody else liquidates whom he can, and takes aTokens.
    async fn rival(&mut self, chain: &Chain) -> Result<()> {
        let mut dice = self.dice.clone();
        for _ in 0..4 {
            let borrower = *dice.pick(&self.users[LENDERS..]);
            let collateralAsset = self.deployed.reserves[self.index(&mut dice)].asset;
            let debtAsset = self.deployed.reserves[self.index(&mut dice)].asset;
            let (debtToCover, receiveAToken) = (U256::MAX, true);
            let call = IPool::liquidationCallCall { collateralAsset, debtAsset, borrower, debtToCover, receiveAToken };
            self.pool(chain, self.users[0], call).await?;
        }
        self.dice = dice;
        Ok(())
    }

    fn all_accounts(&self) -> impl Iterator<Item = Address> {
        self.users.iter().copied().chain([self.keeper, self.deployed.treasury])
    }

    /// An amount with its token's decimals and name.
    fn worded(&self, amounts: &BTreeMap<Address, U256>) -> String {
        let word = |(asset, amount): (&Address, &U256)| {
            let reserve = self.deployed.reserves.iter().find(|reserve| reserve.asset == *asset);
            let (symbol, decimals) = reserve.map_or(("?", 0), |reserve| (reserve.symbol.as_str(), reserve.decimals));
            let (whole, rest) = amount.div_rem(U256::from(10).pow(U256::from(decimals)));
            format!("{whole}.{:0>width$} {symbol}", rest.to_string(), width = decimals as usize)
        };
        let words: Vec<String> = amounts.iter().filter(|(_, amount)| !amount.is_zero()).map(word).collect();
        if words.is_empty() { "0".to_owned() } else { words.join(" + ") }
    }
}

fn key(account: Address) -> UnitKey {
    UnitKey::new(account.to_vec()).expect("20 bytes")
}

impl Playground for Market {
    const NAME: &'static str = "aave_v3";

    /// Setting the scene takes more than a thousand blocks, and the daemon reads prices at some of them.
    fn chain() -> AnvilOptions {
        AnvilOptions { block_gas_limit: 300_000_000, states_kept_blocks: 4_096, ..AnvilOptions::default() }
    }

    async fn deploy(chain: &Chain, deployed: Value, keeper: Address, dice: &mut Dice) -> Result<Self> {
        let deployed: Deployed = serde_json::from_value(deployed)?;
        let users = (0..LENDERS + BORROWERS).map(|n| Address::from_word(keccak256(format!("account {n}")))).collect();
        let prices = deployed.reserves.iter().map(|reserve| reserve.price.parse()).collect::<Result<_, _>>()?;
        let market = Self { deployed, keeper, users, prices, dice: Dice::new(dice.bits()) };
        market.fund(chain, dice).await?;
        let Deployed { owner, addresses_provider, .. } = market.deployed;
        let role = IGovernance::setAddressCall { id: UMBRELLA, newAddress: keeper };
        chain.send_now(owner, addresses_provider, role.abi_encode()).await?;
        Ok(market)
    }

    fn protocol(&self) -> Value {
        let Deployed { addresses_provider, pool, pool_configurator, pool_implementation, .. } = self.deployed;
        json!({
            "adapter": "aave_v3",
            "addresses_provider": addresses_provider,
            "pool": pool,
            "pool_configurator": pool_configurator,
            "pool_implementation": pool_implementation,
            "umbrella": self.keeper,
        })
    }

    fn policy(&self) -> Value {
        json!({
            "mode": "mandate",
            "native_value": "200000000000",
            "budget_per_day_max_wei": "1000000000000000000000000",
        })
    }

    fn overrides(&self) -> Value {
        json!({ "recovery": { "tiers": [{ "tier": "liquidate" }, { "tier": "insurance_fund" }] } })
    }

    fn accounts(&self) -> usize {
        self.users.len()
    }

    async fn act(&mut self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        let head = chain.head().await?;
        for _ in 0..dice.between(3, 8) {
            self.step(chain, dice, &head).await?;
        }
        if dice.chance(8) {
            self.govern(chain, dice).await?;
        }
        if dice.chance(50) {
            let (reserve, bps) = (self.index(dice), dice.between(9_960, 10_040));
            self.reprice(chain, reserve, bps).await?;
        }
        Ok(())
    }

    async fn mismatches(&self, chain: &Chain, adapter: &dyn Adapter, snapshot: &Snapshot) -> Result<Vec<String>> {
        let cached = snapshot.book.units().map(|(key, _)| key.clone());
        let keys: BTreeSet<UnitKey> = cached.chain(self.all_accounts().map(key)).collect();
        let probes = adapter.probes(snapshot, &keys.into_iter().collect::<Vec<_>>());
        let calls: Vec<Call> = probes.iter().map(|probe| probe.call.clone()).collect();
        let answers = chain.calls(None, &calls, snapshot.block.hash).await?;
        let mut faults = Vec::new();
        for (probe, answer) in probes.iter().zip(&answers) {
            if *answer != CallOutcome::Returned(probe.expected.clone()) {
                faults.push(format!("{}: the cache says {}, the chain {answer:?}", probe.subject, probe.expected));
            }
        }
        for account in self.all_accounts() {
            let said = self.data(chain, account, &snapshot.block).await?.healthFactor;
            let Some(unit) = snapshot.book.unit(&key(account)) else { continue };
            let standing = adapter.standing(snapshot, &key(account), unit);
            let valued = standing.as_ref().is_ok_and(|standing| {
                standing.health_factor_wad == Some(said) && standing.surplus.is_negative() == (said < HEALTHY)
            });
            if !valued {
                faults.push(format!("{account}: {standing:?}, the chain says {said}"));
            }
        }
        Ok(faults)
    }

    async fn liquidatable(&self, chain: &Chain, at: &BlockRef) -> Result<BTreeSet<UnitKey>> {
        let accounts: Vec<Address> = self.all_accounts().collect();
        let view =
            |user: &Address| Call::new(self.deployed.pool, IPool::getUserAccountDataCall { user: *user }.abi_encode());
        let answers = chain.calls(None, &accounts.iter().map(view).collect::<Vec<_>>(), at.hash).await?;
        let mut found = BTreeSet::new();
        for (account, answer) in accounts.into_iter().zip(answers) {
            let CallOutcome::Returned(data) = answer else { anyhow::bail!("the view of {account} reverts") };
            if IPool::getUserAccountDataCall::abi_decode_returns(&data)?.healthFactor < HEALTHY {
                found.insert(key(account));
            }
        }
        Ok(found)
    }

    async fn crash(&mut self, chain: &Chain, step: usize) -> Result<bool> {
        let Some(moves) = FALL.get(step) else { return Ok(false) };
        for (reserve, bps) in moves.iter().enumerate().filter(|(_, bps)| **bps != 10_000) {
            self.reprice(chain, reserve, *bps).await?;
        }
        if step % 2 == 1 {
            self.rival(chain).await?;
        }
        Ok(true)
    }

    fn targets(&self, transaction: &Mined) -> Vec<UnitKey> {
        let calls = match IPool::multicallCall::abi_decode(&transaction.input) {
            Ok(batch) => batch.calls,
            Err(_) => vec![transaction.input.clone()],
        };
        let liquidated = |call: &Bytes| Some(key(IPool::liquidationCallCall::abi_decode(call).ok()?.borrower));
        calls.iter().filter_map(liquidated).collect()
    }

    async fn settled(&mut self, chain: &Chain, at: &BlockRef) -> Result<Option<u64>> {
        for reserve in &self.deployed.reserves {
            let call = IPool::getReserveDeficitCall { asset: reserve.asset }.abi_encode();
            let answer = chain.view(self.deployed.pool, call, at.hash).await?;
            if !IPool::getReserveDeficitCall::abi_decode_returns(&answer)?.is_zero() {
                return Ok(Some(12));
            }
        }
        Ok(None)
    }

    async fn accounting(&self, chain: &Chain, keeper: Address, mined: &[Mined]) -> Result<Accounting> {
        let mut accounting = Accounting::default();
        let (mut created, mut covered) = (BTreeMap::new(), BTreeMap::new());
        let (mut by_rivals, mut partial, mut batches) = (0usize, 0usize, 0usize);
        for transaction in mined.iter().filter(|transaction| transaction.success) {
            let own = transaction.from == keeper;
            batches += usize::from(own && IPool::multicallCall::abi_decode(&transaction.input).is_ok());
            let mut deficit_here = false;
            for log in transaction.logs.iter().filter(|log| log.address == self.deployed.pool) {
                if let Ok(e) = IPool::DeficitCreated::decode_raw_log(&log.topics, &log.data) {
                    *created.entry(e.debtAsset).or_insert(U256::ZERO) += e.amountCreated;
                    deficit_here = true;
                }
                if let Ok(e) = IPool::DeficitCovered::decode_raw_log(&log.topics, &log.data) {
                    *covered.entry(e.reserve).or_insert(U256::ZERO) += e.amountCovered;
                }
                if IPool::LiquidationCall::decode_raw_log(&log.topics, &log.data).is_ok() {
                    accounting.liquidated += usize::from(own);
                    by_rivals += usize::from(!own);
                    partial += usize::from(own && !deficit_here);
                }
            }
        }
        ensure!(!created.is_empty(), "no bad debt was left: the run shows nothing of covers");
        ensure!(created == covered, "created {created:?}, covered {covered:?}");
        let head = chain.head().await?;
        let mut in_category = 0usize;
        for user in &self.users {
            let call = IPool::getUserEModeCall { user: *user }.abi_encode();
            let answer = chain.view(self.deployed.pool, call, head.hash).await?;
            in_category += usize::from(!IPool::getUserEModeCall::abi_decode_returns(&answer)?.is_zero());
        }
        ensure!(in_category > 0, "nobody is in an e-mode category");
        accounting.bad_debt_created = self.worded(&created);
        accounting.bad_debt_covered = self.worded(&covered);
        accounting.more = json!({
            "liquidated_by_rivals": by_rivals,
            "liquidated_without_deficit": partial,
            "batches": batches,
            "in_e_mode": in_category,
        })
        .as_object()
        .cloned()
        .context("an object")?;
        Ok(accounting)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn aave_v3() {
    let Some(report) = play::<Market>().await else { return };
    assert_eq!(report.bad_debt_created, report.bad_debt_covered);
}
