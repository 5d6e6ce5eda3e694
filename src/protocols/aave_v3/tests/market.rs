//! A real market on a chain of its own, with accounts that act at random and the adapter that follows them.
#![expect(non_snake_case, reason = "fields are named as the contracts name them")]

use alloy::{
    primitives::{B256, U64, keccak256},
    sol,
    sol_types::{SolCall, SolEvent},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{
    AaveV3, NAME, Settings,
    abi::{IPool, IPoolAddressesProvider},
    choice,
    margin::{Account, ReserveNow},
    reads::UMBRELLA,
    state::{self, Reserve},
};
use crate::{
    demo::{
        anvil::{Anvil, AnvilOptions},
        contracts,
    },
    positions::{Book, Delta, Snapshot},
    protocols::{Adapter, Read, records},
    types::{Address, BlockRef, Bytes, Call, CallOutcome, Log, LogFilter, U256},
};

sol! {
    interface IToken {
        function mint(address account, uint256 value) external returns (bool);
        function approve(address spender, uint256 value) external returns (bool);
        function transfer(address to, uint256 value) external returns (bool);
    }
    interface IActions {
        function supply(address asset, uint256 amount, address onBehalfOf, uint16 referralCode) external;
        function withdraw(address asset, uint256 amount, address to) external returns (uint256);
        function borrow(address asset, uint256 amount, uint256 interestRateMode, uint16 referralCode, address onBehalfOf) external;
        function repay(address asset, uint256 amount, uint256 interestRateMode, address onBehalfOf) external returns (uint256);
        function repayWithATokens(address asset, uint256 amount, uint256 interestRateMode) external returns (uint256);
        function setUserUseReserveAsCollateral(address asset, bool useAsCollateral) external;
        function setUserEMode(uint8 categoryId) external;
        function liquidationCall(address collateralAsset, address debtAsset, address borrower, uint256 debtToCover, bool receiveAToken) external;
        function eliminateReserveDeficit(address asset, uint256 amount) external returns (uint256);
        function mintToTreasury(address[] assets) external;
    }
    interface IGovernance {
        function setReserveFactor(address asset, uint256 newReserveFactor) external;
        function setLiquidationProtocolFee(address asset, uint256 newFee) external;
        function setSupplyCap(address asset, uint256 newSupplyCap) external;
        function setBorrowCap(address asset, uint256 newBorrowCap) external;
        function setReserveFreeze(address asset, bool freeze) external;
        function setReservePause(address asset, bool paused, uint40 gracePeriod) external;
        function setAssetCollateralInEMode(address asset, uint8 categoryId, bool allowed) external;
        function setAssetBorrowableInEMode(address asset, uint8 categoryId, bool borrowable) external;
        function setAssetLtvzeroInEMode(address asset, uint8 categoryId, bool ltvzero) external;
        function setEModeCategory(uint8 categoryId, uint16 ltv, uint16 liquidationThreshold, uint16 liquidationBonus, string label) external;
        function configureReserveAsCollateral(address asset, uint256 ltv, uint256 liquidationThreshold, uint256 liquidationBonus) external;
        function setAddress(bytes32 id, address newAddress) external;
        function setPriceOracleSentinel(address sentinel) external;
    }
}

/// What the deploy script says of a reserve.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) decimals: u32,
    pub(super) feed: Address,
    pub(super) price: String,
    pub(super) asset: Address,
    pub(super) a_token: Address,
}

/// What the deploy script says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Deployed {
    owner: Address,
    addresses_provider: Address,
    pub(super) pool: Address,
    pool_configurator: Address,
    pool_implementation: Address,
    sentinel: Address,
    pub(super) reserves: Vec<Listed>,
}

/// Seeded randomness: SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.bits() % n
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

/// The market, and the book of it that only the adapter has written.
pub(super) struct Market {
    pub(super) anvil: Anvil,
    pub(super) deployed: Deployed,
    pub(super) adapter: AaveV3,
    pub(super) users: Vec<Address>,
    /// Liquidator and UMBRELLA.
    pub(super) keeper: Address,
    pub(super) book: Book,
    pub(super) block: BlockRef,
    pub(super) deltas: Vec<Delta>,
    /// What the logs told of.
    pub(super) seen: Seen,
    /// Prices as they were told last.
    prices: Vec<U256>,
}

/// Rare events of a run, so that one without them fails.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) in_a_tokens: usize,
    pub(super) deficits: usize,
    pub(super) covers: usize,
}

impl Seen {
    fn note(&mut self, log: &Log) {
        let paid_out = IPool::LiquidationCall::decode_raw_log(&log.topics, &log.data);
        self.in_a_tokens += usize::from(paid_out.is_ok_and(|event| event.receiveAToken));
        let topic = log.topics.first().copied();
        self.deficits += usize::from(topic == Some(IPool::DeficitCreated::SIGNATURE_HASH));
        self.covers += usize::from(topic == Some(IPool::DeficitCovered::SIGNATURE_HASH));
    }
}

impl Market {
    /// A deployed market with funded users; the book stands before the first log.
    pub(super) async fn open(users: u8) -> Self {
        let options =
            AnvilOptions { block_gas_limit: 300_000_000, states_kept_blocks: 2_000, ..AnvilOptions::default() };
        let anvil = Anvil::start(&options).await.unwrap();
        anvil.command("anvil_autoImpersonateAccount", json!([true])).await.unwrap();
        let keeper = Address::from_word(keccak256("keeper"));
        let deployed = contracts::deploy(NAME, &anvil.http_url(), keeper).unwrap();
        let deployed: Deployed = serde_json::from_value(deployed).unwrap();
        let named = |name: &str| Address::from_word(keccak256(name));
        let users: Vec<Address> = (0..users).map(|n| named(&format!("user {n}"))).collect();
        let settings = Settings {
            addresses_provider: deployed.addresses_provider,
            pool: deployed.pool,
            pool_configurator: deployed.pool_configurator,
            pool_implementation: Some(deployed.pool_implementation),
            umbrella: Some(keeper),
        };
        let prices = deployed.reserves.iter().map(|reserve| reserve.price.parse().unwrap()).collect();
        let block = block_at(&anvil, 0).await;
        let adapter = AaveV3::new(settings);
        let market = Self {
            anvil,
            deployed,
            adapter,
            users,
            keeper,
            book: Book::default(),
            block,
            deltas: vec![],
            seen: Seen::default(),
            prices,
        };
        market.fund().await;
        market
    }

    async fn fund(&self) {
        let plenty = U256::from(10).pow(U256::from(30));
        for account in self.users.iter().copied().chain([self.keeper]) {
            self.anvil.set_balance(account, plenty).await.unwrap();
            for reserve in &self.deployed.reserves {
                self.send(self.deployed.owner, reserve.asset, IToken::mintCall { account, value: plenty }).await;
                let approve = IToken::approveCall { spender: self.deployed.pool, value: U256::MAX };
                self.send(account, reserve.asset, approve).await;
            }
        }
        let provider = self.deployed.addresses_provider;
        self.send(self.deployed.owner, provider, IGovernance::setAddressCall { id: UMBRELLA, newAddress: self.keeper })
            .await;
        for reserve in &self.deployed.reserves {
            let (asset, unit) = (reserve.asset, U256::from(10).pow(U256::from(reserve.decimals)));
            let amount = unit * U256::from(if reserve.decimals == 8 { 1_000 } else { 1_000_000 });
            let supply = IActions::supplyCall { asset, amount, onBehalfOf: self.keeper, referralCode: 0 };
            self.send(self.keeper, self.deployed.pool, supply).await;
        }
    }

    /// Sends in a block of its own; whether it succeeded.
    pub(super) async fn send(&self, from: Address, to: Address, call: impl SolCall) -> bool {
        self.send_data(from, to, call.abi_encode().into()).await
    }

    async fn send_data(&self, from: Address, to: Address, data: Bytes) -> bool {
        let transaction = json!({ "from": from, "to": to, "input": data, "gas": U64::from(6_000_000) });
        let hash: B256 = self.anvil.request("eth_sendTransaction", json!([transaction])).await.unwrap();
        loop {
            let receipt: Value = self.anvil.request("eth_getTransactionReceipt", json!([hash])).await.unwrap();
            if !receipt.is_null() {
                return receipt["status"] == json!(U64::from(1));
            }
        }
    }

    /// Tells a reserve's feed another price.
    pub(super) async fn reprice(&mut self, reserve: usize, price: U256) {
        let (feed, owner) = (self.deployed.reserves[reserve].feed, self.deployed.owner);
        assert!(self.send_data(owner, feed, price.to_be_bytes::<32>().into()).await);
        self.prices[reserve] = price;
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { block: self.block, book: self.book.clone() }
    }

    /// One random action in a block at a random time after the last.
    pub(super) async fn act(&mut self, dice: &mut Dice) -> bool {
        let later = [1, 12, 3_600, 90_000, 2_000_000];
        let head = head(&self.anvil).await;
        self.anvil.set_next_timestamp(head.timestamp + dice.pick(&later)).await.unwrap();
        if dice.below(12) == 0 {
            return self.govern(dice).await;
        }
        let user = *dice.pick(&self.users);
        let reserve = dice.below(self.deployed.reserves.len() as u64);
        let at = usize::try_from(reserve).unwrap();
        let Listed { asset, a_token, .. } = self.deployed.reserves[at];
        let amount = self.amount(dice, at);
        let max = U256::MAX;
        let pool = self.deployed.pool;
        match dice.below(28) {
            0..=5 => {
                self.send(user, pool, IActions::supplyCall { asset, amount, onBehalfOf: user, referralCode: 0 }).await
            }
            6 => self.send(user, pool, IActions::withdrawCall { asset, amount: max, to: user }).await,
            7..=8 => self.send(user, pool, IActions::withdrawCall { asset, amount, to: user }).await,
            9..=13 | 24..=25 => {
                let amount = self.borrowable(user, at, 30 + dice.below(71));
                let interestRateMode = U256::from(2);
                let borrow =
                    IActions::borrowCall { asset, amount, interestRateMode, referralCode: 0, onBehalfOf: user };
                self.send(user, pool, borrow).await
            }
            14 => {
                let interestRateMode = U256::from(2);
                self.send(user, pool, IActions::repayCall { asset, amount: max, interestRateMode, onBehalfOf: user })
                    .await
            }
            15 => {
                let interestRateMode = U256::from(2);
                self.send(user, pool, IActions::repayCall { asset, amount, interestRateMode, onBehalfOf: user }).await
            }
            16 => {
                let interestRateMode = U256::from(2);
                self.send(user, pool, IActions::repayWithATokensCall { asset, amount, interestRateMode }).await
            }
            17 => self.send(user, a_token, IToken::transferCall { to: *dice.pick(&self.users), value: amount }).await,
            18 => {
                let useAsCollateral = dice.below(2) == 0;
                self.send(user, pool, IActions::setUserUseReserveAsCollateralCall { asset, useAsCollateral }).await
            }
            19..=20 => {
                let categoryId = u8::try_from(dice.below(3)).unwrap();
                self.send(user, pool, IActions::setUserEModeCall { categoryId }).await
            }
            21 => self.send(user, pool, IActions::mintToTreasuryCall { assets: vec![asset] }).await,
            22 => {
                let price = self.prices[at] * U256::from(70 + dice.below(110)) / U256::from(100);
                self.reprice(at, price.max(U256::ONE)).await;
                true
            }
            23 => self.cover().await,
            _ => self.liquidate_somebody(at, dice).await,
        }
    }

    /// Covers what deficits there are.
    async fn cover(&self) -> bool {
        let mut covered = false;
        for (_, reserve) in records::all::<Reserve>(&self.book).filter(|(_, reserve)| !reserve.deficit.is_zero()) {
            let call = IActions::eliminateReserveDeficitCall { asset: reserve.asset, amount: U256::MAX };
            covered |= self.send(self.keeper, self.deployed.pool, call).await;
        }
        covered
    }

    /// Liquidates the first account that can be, for aTokens or what is under them. If there is none, a price falls.
    async fn liquidate_somebody(&mut self, at: usize, dice: &mut Dice) -> bool {
        let snapshot = self.snapshot();
        for user in &self.users {
            let Some(unit) = snapshot.book.unit(&state::unit_key(*user)) else { continue };
            let account = Account::of(&snapshot, unit, |id| ReserveNow::load(&snapshot, id)).unwrap();
            let choices = choice::choices(&account, snapshot.block.timestamp, true);
            if choices.is_empty() {
                continue;
            }
            let choice = dice.pick(&choices);
            let call = IActions::liquidationCallCall {
                collateralAsset: choice.collateral.now.reserve.asset,
                debtAsset: choice.debt.now.reserve.asset,
                borrower: *user,
                debtToCover: choice.cover,
                receiveAToken: dice.below(2) == 0,
            };
            return self.send(self.keeper, self.deployed.pool, call).await;
        }
        let price = self.prices[at] * U256::from(30 + dice.below(50)) / U256::from(100);
        self.reprice(at, price.max(U256::ONE)).await;
        true
    }

    async fn govern(&self, dice: &mut Dice) -> bool {
        let Deployed { owner, addresses_provider, pool, pool_configurator: to, sentinel, .. } = self.deployed;
        let asset = dice.pick(&self.deployed.reserves).asset;
        let (on, categoryId) = (dice.below(2) == 0, u8::try_from(1 + dice.below(3)).unwrap());
        let some = U256::from(dice.below(3_000));
        match dice.below(12) {
            0 => self.send(owner, to, IGovernance::setReserveFactorCall { asset, newReserveFactor: some }).await,
            1 => self.send(owner, to, IGovernance::setLiquidationProtocolFeeCall { asset, newFee: some }).await,
            2 => {
                self.send(
                    owner,
                    to,
                    IGovernance::setSupplyCapCall { asset, newSupplyCap: U256::from(10_000_000_000u64) },
                )
                .await
            }
            3 => {
                self.send(
                    owner,
                    to,
                    IGovernance::setBorrowCapCall { asset, newBorrowCap: U256::from(9_000_000_000u64) },
                )
                .await
            }
            4 => {
                self.send(owner, to, IGovernance::setReserveFreezeCall { asset, freeze: true }).await;
                self.send(owner, to, IGovernance::setReserveFreezeCall { asset, freeze: false }).await
            }
            5 => {
                let gracePeriod = alloy::primitives::aliases::U40::from(1 + dice.below(4_000));
                self.send(owner, to, IGovernance::setReservePauseCall { asset, paused: true, gracePeriod }).await;
                self.send(owner, to, IGovernance::setReservePauseCall { asset, paused: false, gracePeriod }).await
            }
            6 => {
                self.send(owner, to, IGovernance::setAssetCollateralInEModeCall { asset, categoryId, allowed: on })
                    .await
            }
            7 => {
                self.send(owner, to, IGovernance::setAssetBorrowableInEModeCall { asset, categoryId, borrowable: on })
                    .await
            }
            8 => self.send(owner, to, IGovernance::setAssetLtvzeroInEModeCall { asset, categoryId, ltvzero: on }).await,
            9 => {
                let lower = u16::try_from(dice.below(500)).unwrap();
                let category = IGovernance::setEModeCategoryCall {
                    categoryId,
                    ltv: 9_000 - lower,
                    liquidationThreshold: 9_300 - lower,
                    liquidationBonus: 10_150,
                    label: "changed".to_owned(),
                };
                self.send(owner, to, category).await
            }
            10 => {
                let sentinel = if on { sentinel } else { Address::ZERO };
                self.send(owner, addresses_provider, IGovernance::setPriceOracleSentinelCall { sentinel }).await
            }
            _ => {
                self.send(
                    self.keeper,
                    pool,
                    IActions::eliminateReserveDeficitCall { asset, amount: some + U256::MAX / U256::from(2) },
                )
                .await
            }
        }
    }

    /// So many percent of what an account may still borrow, in a reserve's asset.
    fn borrowable(&self, user: Address, reserve: usize, percent: u64) -> U256 {
        let snapshot = self.snapshot();
        let unit = snapshot.book.unit(&state::unit_key(user));
        let account = unit.and_then(|unit| Account::of(&snapshot, unit, |id| ReserveNow::load(&snapshot, id)).ok());
        let [_, _, available, ..] = account.and_then(|account| account.view()).unwrap_or_default();
        let unit = U256::from(10).pow(U256::from(self.deployed.reserves[reserve].decimals));
        available * U256::from(percent) * unit / (self.prices[reserve] * U256::from(100))
    }

    /// Between a tenth of a dollar and a million dollars of a reserve's asset.
    fn amount(&self, dice: &mut Dice, reserve: usize) -> U256 {
        let cents = U256::from(10).pow(U256::from(1 + dice.below(8))) * U256::from(1 + dice.below(9));
        let unit = U256::from(10).pow(U256::from(self.deployed.reserves[reserve].decimals));
        let dither = U256::from(dice.below(1_000));
        cents * U256::from(1_000_000) * unit / self.prices[reserve] + dither + U256::ONE
    }

    /// Applies every block up to the head, as the indexer does.
    pub(super) async fn follow(&mut self) {
        let head = head(&self.anvil).await;
        for number in self.block.number + 1..=head.number {
            let block = block_at(&self.anvil, number).await;
            let mut filter = self.adapter.filter(&self.book);
            let mut logs = logs(&self.anvil, block.hash, &filter).await;
            let applied = loop {
                let applied = self.adapter.apply(&self.book, &block, &logs).unwrap();
                let mut after = self.book.clone();
                after.apply(&applied.delta).unwrap();
                let wanted = self.adapter.filter(&after);
                if wanted == filter {
                    break applied;
                }
                filter = wanted;
                logs = self::logs(&self.anvil, block.hash, &filter).await;
            };
            assert_eq!(applied.unknown_events, 0, "block {number}");
            logs.iter().for_each(|log| self.seen.note(log));
            self.take(applied.delta);
            self.block = block;
            for round in 0.. {
                let reads = self.adapter.reads(&self.book, &block, round);
                if reads.is_empty() {
                    break;
                }
                assert!(round < 8, "the reads settle");
                let mut answers: Vec<(Read, CallOutcome)> = Vec::new();
                for read in reads {
                    let outcome = call(&self.anvil, &read.call, json!({ "blockHash": block.hash })).await;
                    answers.push((read, outcome));
                }
                self.take(self.adapter.absorb(&self.book, &block, &answers).unwrap());
            }
        }
    }

    fn take(&mut self, delta: Delta) {
        self.book.apply(&delta).unwrap();
        self.deltas.push(delta);
    }

    /// Every probe of every unit that does not hold.
    pub(super) async fn differences(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        let units: Vec<_> = snapshot.book.units().map(|(key, _)| key.clone()).collect();
        let mut found = Vec::new();
        for probe in self.adapter.probes(&snapshot, &units) {
            let answer = call(&self.anvil, &probe.call, json!({ "blockHash": self.block.hash })).await;
            if answer != CallOutcome::Returned(probe.expected.clone()) {
                found.push(format!("{}: {} is not {answer:?}", probe.subject, probe.expected));
            }
        }
        found
    }

    /// Calls on top of the head at another time and with other prices: each call's status, output and logs.
    pub(super) async fn simulate(&self, time: u64, prices: &[U256], calls: Vec<Value>) -> Vec<Value> {
        let word = |word: U256| B256::from(word);
        let overrides: serde_json::Map<String, Value> = self
            .deployed
            .reserves
            .iter()
            .zip(prices)
            .map(|(reserve, price)| {
                (reserve.feed.to_string(), json!({ "stateDiff": { B256::ZERO.to_string(): word(*price) } }))
            })
            .collect();
        let payload = json!({ "blockStateCalls": [{
            "blockOverrides": { "time": U64::from(time) },
            "stateOverrides": overrides,
            "calls": calls,
        }] });
        let mut blocks: Vec<Value> = self.anvil.request("eth_simulateV1", json!([payload, "latest"])).await.unwrap();
        serde_json::from_value(blocks[0]["calls"].take()).unwrap()
    }

    pub(super) fn prices(&self) -> &[U256] {
        &self.prices
    }

    /// The registry's word for UMBRELLA now.
    pub(super) async fn umbrella(&self) -> Address {
        let data = IPoolAddressesProvider::getAddressCall { id: UMBRELLA }.abi_encode();
        let answer = call(&self.anvil, &Call::new(self.deployed.addresses_provider, data), json!("latest")).await;
        let CallOutcome::Returned(word) = answer else { panic!("the registry answers") };
        Address::from_word(B256::from_slice(&word))
    }
}

async fn head(anvil: &Anvil) -> BlockRef {
    block_of(anvil.request("eth_getBlockByNumber", json!(["latest", false])).await.unwrap())
}

async fn block_at(anvil: &Anvil, number: u64) -> BlockRef {
    block_of(anvil.request("eth_getBlockByNumber", json!([U64::from(number), false])).await.unwrap())
}

fn block_of(block: Value) -> BlockRef {
    let number = |name: &str| serde_json::from_value::<U64>(block[name].clone()).unwrap().to();
    BlockRef {
        number: number("number"),
        hash: serde_json::from_value(block["hash"].clone()).unwrap(),
        parent_hash: serde_json::from_value(block["parentHash"].clone()).unwrap(),
        timestamp: number("timestamp"),
    }
}

async fn logs(anvil: &Anvil, block: B256, filter: &LogFilter) -> Vec<Log> {
    let wanted = json!([{ "blockHash": block, "address": filter.addresses }]);
    let logs: Vec<Value> = anvil.request("eth_getLogs", wanted).await.unwrap();
    logs.into_iter().map(log_of).collect()
}

/// A log as a node or a simulation writes it.
pub(super) fn log_of(log: Value) -> Log {
    let number = |name: &str| serde_json::from_value::<U64>(log[name].clone()).map_or(0, |number| number.to());
    Log {
        address: serde_json::from_value(log["address"].clone()).unwrap(),
        topics: serde_json::from_value(log["topics"].clone()).unwrap(),
        data: serde_json::from_value(log["data"].clone()).unwrap(),
        block_number: number("blockNumber"),
        block_hash: serde_json::from_value(log["blockHash"].clone()).unwrap_or_default(),
        tx_hash: serde_json::from_value(log["transactionHash"].clone()).unwrap_or_default(),
        log_index: number("logIndex"),
    }
}

async fn call(anvil: &Anvil, call: &Call, at: Value) -> CallOutcome {
    let object = json!({ "to": call.to, "input": call.data });
    match anvil.request::<Bytes>("eth_call", json!([object, at])).await {
        Ok(data) => CallOutcome::Returned(data),
        Err(error) => {
            assert!(error.to_string().contains("revert"), "{error}");
            CallOutcome::Reverted(Bytes::new())
        }
    }
}
