//! The Morpho Blue adapter against the real contracts, without a daemon: thousands of random markets and positions, each
//! written into the contracts' storage for one simulated block, valued and liquidated there, and compared to the last
//! unit: rates, interest, health, amounts, what is left, and what the logs make of the cache.
//!
//! Needs the packages that `tools/protocols/morpho_blue.mjs` names.

use alloy::{
    primitives::{Address, B256, Bytes, IntoLogData, U64, U256, keccak256},
    sol,
    sol_types::{SolCall, SolEvent, SolValue},
};
use backstop::{
    demo::{
        anvil::{Anvil, AnvilOptions},
        contracts,
    },
    positions::{Book, Snapshot},
    protocols::{self, Adapter, Disposition, Parties},
    recovery::{Action, Effect, Intent, PromiseKind, Step, Tier},
    scanner::{ScanSettings, Unvalued, scan},
    types::{BlockRef, Call, CallOutcome, I256, Log, UnitKey},
};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

sol! {
    #[derive(Debug)]
    struct MarketParams {
        address loanToken;
        address collateralToken;
        address oracle;
        address irm;
        uint256 lltv;
    }

    interface Morpho {
        event CreateMarket(bytes32 indexed id, MarketParams marketParams);
        event SetFee(bytes32 indexed id, uint256 newFee);
        event Supply(bytes32 indexed id, address indexed caller, address indexed onBehalf, uint256 assets, uint256 shares);
        event Borrow(bytes32 indexed id, address caller, address indexed onBehalf, address indexed receiver, uint256 assets, uint256 shares);
        event SupplyCollateral(bytes32 indexed id, address indexed caller, address indexed onBehalf, uint256 assets);

        function accrueInterest(MarketParams memory marketParams) external;
        function liquidate(MarketParams memory marketParams, address borrower, uint256 seizedAssets, uint256 repaidShares, bytes memory data) external returns (uint256 seized, uint256 repaid);
        function market(bytes32 id) external view returns (uint128 supplyAssets, uint128 supplyShares, uint128 borrowAssets, uint128 borrowShares, uint128 lastUpdate, uint128 fee);
    }

    interface Token {
        function setBalance(address account, uint256 amount) external;
    }
}

const CASES: usize = 2_400;
const BORROWER: Address = Address::repeat_byte(0xb0);
const LENDER: Address = Address::repeat_byte(0x1e);
const KEEPER: Address = Address::repeat_byte(0xaa);
const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

fn scale() -> U256 {
    U256::from(10).pow(U256::from(36))
}

#[derive(Clone, Debug, Deserialize)]
struct Places {
    owner: Address,
    morpho: Address,
    curve: Address,
    tokens: Vec<Address>,
    markets: Vec<Listing>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Listing {
    loan: Address,
    collateral: Address,
    oracle: Address,
    irm: Address,
    lltv: U256,
}

impl Listing {
    fn params(&self) -> MarketParams {
        let Self { loan, collateral, oracle, irm, lltv } = *self;
        MarketParams { loanToken: loan, collateralToken: collateral, oracle, irm, lltv }
    }

    fn id(&self) -> B256 {
        keccak256(self.params().abi_encode())
    }
}

/// One random market with one borrower among others.
#[derive(Clone, Debug)]
struct Case {
    /// Of the deploy script's list: the curve's, none, the linear model's.
    market: usize,
    borrowed: U256,
    borrow_shares: U256,
    /// Of `borrow_shares`.
    shares: U256,
    lent: U256,
    fee: U256,
    at_target: U256,
    elapsed: u64,
    collateral: U256,
    price: U256,
}

fn case() -> impl Strategy<Value = Case> {
    let assets = prop_oneof![1u128..1_000, 1u128..1 << 40, 1u128..1 << 90];
    // shares of one asset, around the million of an untouched market
    let share_price = prop_oneof![Just(1_000_000u64), 900_000u64..1_000_000, 1u64..10_000_000];
    let part = prop_oneof![Just(1_000_000u64), 1u64..1_000_000];
    let use_of = prop_oneof![Just(1_000u64), 1u64..1_000, 880u64..920];
    let at_target = prop_oneof![Just(0u64), 31_709_791u64..63_419_583_967];
    let elapsed = prop_oneof![Just(0u64), 1u64..3_600, 1u64..40_000_000, 1u64..200_000_000];
    let collateral = prop_oneof![1u128..1_000, 1u128..1 << 60, 1u128..1 << 100];
    // value of the collateral in millionths of the debt, around what liquidation rules turn on
    let cover = prop_oneof![0u64..3_000_000, 1_000_000u64..1_400_000, Just(1_162_790)];
    let nudge = -3i8..=3;
    let market = prop_oneof![Just(0usize), Just(1), Just(2), Just(4)];
    let first = (market, assets, share_price, part, use_of, 0u64..=250);
    (first, (at_target, elapsed, collateral, cover, nudge)).prop_map(
        |((market, assets, share_price, part, use_of, fee), (at_target, elapsed, collateral, cover, nudge))| {
            let borrowed = U256::from(assets);
            let borrow_shares = (borrowed * U256::from(share_price)).max(U256::ONE);
            let shares = (borrow_shares * U256::from(part) / U256::from(1_000_000)).max(U256::ONE);
            let debt = borrowed * U256::from(part) / U256::from(1_000_000) + U256::ONE;
            let value = debt * U256::from(cover) / U256::from(1_000_000);
            let price = value * scale() / U256::from(collateral);
            let step = U256::from(nudge.unsigned_abs());
            Case {
                market,
                borrowed,
                borrow_shares,
                shares,
                lent: borrowed * U256::from(1_000) / U256::from(use_of) + U256::ONE,
                fee: U256::from(fee) * WAD / U256::from(1_000),
                at_target: U256::from(at_target),
                elapsed,
                collateral: U256::from(collateral),
                price: if nudge < 0 { price.saturating_sub(step) } else { price + step },
            }
        },
    )
}

/// A call of a simulated block.
struct Outcome {
    success: bool,
    data: Bytes,
    logs: Vec<Log>,
}

struct World {
    anvil: Anvil,
    places: Places,
    adapter: std::sync::Arc<dyn Adapter>,
    head: BlockRef,
}

impl World {
    async fn new() -> Self {
        let anvil = Anvil::start(&AnvilOptions::default()).await.expect("anvil answers");
        anvil.command("anvil_autoImpersonateAccount", json!([true])).await.expect("anvil answers");
        anvil.set_balance(KEEPER, WAD * U256::from(1_000)).await.expect("anvil answers");
        let deployed = contracts::deploy("morpho_blue", &anvil.http_url(), KEEPER).expect("the contracts are deployed");
        let places: Places = serde_json::from_value(deployed).expect("JSON of the expected form");
        for token in &places.tokens {
            for account in [KEEPER, places.morpho] {
                let data = Bytes::from(Token::setBalanceCall { account, amount: U256::MAX >> 16 }.abi_encode());
                let give = json!([{ "from": places.owner, "to": token, "input": data }]);
                anvil.request::<B256>("eth_sendTransaction", give).await.expect("anvil answers");
            }
        }
        let settings = json!({ "morpho": places.morpho, "adaptive_curve_irm": places.curve, "markets": "all" });
        let adapter = protocols::adapter("morpho_blue", settings).expect("the adapter takes it");
        let block: Value =
            anvil.request("eth_getBlockByNumber", json!(["latest", false])).await.expect("anvil answers");
        let number = |name: &str| {
            serde_json::from_value::<U64>(block[name].clone()).expect("JSON of the expected form").to::<u64>()
        };
        // far enough for any time since the last update to have passed
        let timestamp = number("timestamp") + 300_000_000;
        let (hash, parent_hash) = (B256::ZERO, B256::ZERO);
        let head = BlockRef { number: number("number") + 1, timestamp, hash, parent_hash };
        Self { anvil, places, adapter, head }
    }

    /// The case's storage.
    fn overrides(&self, case: &Case) -> Value {
        let listing = self.places.markets[case.market];
        let id = listing.id();
        let nested = |key: &dyn Fn(B256) -> Vec<u8>, slot: B256| U256::from_be_bytes(keccak256(key(slot)).0);
        let of_id = |slot: u64| nested(&|s| (id, s).abi_encode(), B256::from(U256::from(slot)));
        let position = nested(&|s| (BORROWER, s).abi_encode(), of_id(2).into());
        let market = of_id(3);
        let packed = |low: U256, high: U256| B256::from(high << 128 | low);
        let mut storage = Map::new();
        let mut put = |slot: U256, word: B256| storage.insert(B256::from(slot).to_string(), json!(word));
        put(position + U256::ONE, packed(case.shares, case.collateral));
        put(market, packed(case.lent, case.lent));
        put(market + U256::ONE, packed(case.borrowed, case.borrow_shares));
        put(market + U256::from(2), packed(U256::from(self.head.timestamp - case.elapsed), case.fee));
        let params = of_id(8);
        let words = [listing.loan, listing.collateral, listing.oracle, listing.irm].map(|a| a.into_word());
        for (at, word) in words.into_iter().chain([listing.lltv.into()]).enumerate() {
            put(params + U256::from(at), word);
        }
        let zero = B256::ZERO.to_string();
        let curve = B256::from(of_id(0)).to_string();
        json!({
            self.places.morpho.to_string(): { "stateDiff": storage },
            self.places.curve.to_string(): { "stateDiff": { curve: B256::from(case.at_target) } },
            listing.oracle.to_string(): { "stateDiff": { zero: B256::from(case.price) } },
        })
    }

    /// Carries calls of the keeper out in the block of the case.
    async fn simulate(&self, case: &Case, calls: &[Call]) -> Vec<Outcome> {
        let calls: Vec<Value> =
            calls.iter().map(|call| json!({ "from": KEEPER, "to": call.to, "input": call.data })).collect();
        let time = json!({ "time": U64::from(self.head.timestamp) });
        let block = json!({ "blockOverrides": time, "stateOverrides": self.overrides(case), "calls": calls });
        let payload = json!({ "blockStateCalls": [block], "validation": false, "traceTransfers": false });
        let answer: Value =
            self.anvil.request("eth_simulateV1", json!([payload, "latest"])).await.expect("anvil answers");
        answer[0]["calls"].as_array().expect("JSON of the expected form").iter().map(outcome).collect()
    }

    fn log(&self, event: &(impl SolEvent + IntoLogData)) -> Log {
        let data = event.to_log_data();
        let (topics, data) = (data.topics().to_vec(), data.data);
        let (block_hash, tx_hash) = (B256::ZERO, B256::ZERO);
        Log { address: self.places.morpho, topics, data, block_number: 0, block_hash, tx_hash, log_index: 0 }
    }

    /// The cache as logs and answers make it.
    async fn snapshot(&self, case: &Case) -> Snapshot {
        let (id, params) = (self.places.markets[case.market].id(), self.places.markets[case.market].params());
        let others = case.borrow_shares - case.shares;
        let borrow = |owner: Address, assets: U256, shares: U256| {
            self.log(&Morpho::Borrow { id, caller: owner, onBehalf: owner, receiver: owner, assets, shares })
        };
        let logs = [
            self.log(&Morpho::CreateMarket { id, marketParams: params }),
            self.log(&Morpho::SetFee { id, newFee: case.fee }),
            self.log(&Morpho::Supply { id, caller: LENDER, onBehalf: LENDER, assets: case.lent, shares: case.lent }),
            borrow(LENDER, case.borrowed, others),
            borrow(BORROWER, U256::ZERO, case.shares),
            self.log(&Morpho::SupplyCollateral { id, caller: BORROWER, onBehalf: BORROWER, assets: case.collateral }),
        ];
        let mut book = Book::default();
        let created = BlockRef { timestamp: self.head.timestamp - case.elapsed, ..self.head };
        book.apply(&self.adapter.apply(&book, &created, &logs).expect("the adapter takes it").delta)
            .expect("the adapter takes it");
        self.read(case, &mut book).await;
        Snapshot { block: self.head, book }
    }

    /// Fills in what the contracts answer.
    async fn read(&self, case: &Case, book: &mut Book) {
        let reads = self.adapter.reads(book, &self.head, 0);
        let calls: Vec<Call> = reads.iter().map(|read| read.call.clone()).collect();
        let outcomes = self.simulate(case, &calls).await;
        let answers: Vec<_> = reads.into_iter().zip(outcomes.into_iter().map(answer)).collect();
        book.apply(&self.adapter.absorb(book, &self.head, &answers).expect("the adapter takes it"))
            .expect("the adapter takes it");
    }

    fn key(&self, case: &Case) -> UnitKey {
        UnitKey::new([self.places.markets[case.market].id().as_slice(), BORROWER.as_slice()].concat())
            .expect("a unit key")
    }
}

fn outcome(call: &Value) -> Outcome {
    let logs = call["logs"].as_array().into_iter().flatten().map(|log| Log {
        address: serde_json::from_value(log["address"].clone()).expect("JSON of the expected form"),
        topics: serde_json::from_value(log["topics"].clone()).expect("JSON of the expected form"),
        data: serde_json::from_value(log["data"].clone()).expect("JSON of the expected form"),
        block_number: 0,
        block_hash: B256::ZERO,
        tx_hash: B256::ZERO,
        log_index: 0,
    });
    let error = serde_json::from_value(call["error"]["data"].clone());
    let returned: Bytes = serde_json::from_value(call["returnData"].clone()).expect("JSON of the expected form");
    let data = if returned.is_empty() { error.unwrap_or_default() } else { returned };
    Outcome { success: call["status"] == json!("0x1"), data, logs: logs.collect() }
}

fn answer(outcome: Outcome) -> CallOutcome {
    if outcome.success { CallOutcome::Returned(outcome.data) } else { CallOutcome::Reverted(outcome.data) }
}

/// What was compared, by how it went.
#[derive(Debug, Default)]
struct Tally {
    healthy: usize,
    liquidated: usize,
    with_bad_debt: usize,
    unrepresentable: usize,
}

impl World {
    async fn compare(&self, case: &Case, tally: &mut Tally) {
        let snapshot = self.snapshot(case).await;
        let key = self.key(case);
        let unit = snapshot.book.unit(&key).expect("a unit of the cache");
        let params = self.places.markets[case.market].params();
        let one_share = Morpho::liquidateCall {
            marketParams: params.clone(),
            borrower: BORROWER,
            seizedAssets: U256::ZERO,
            repaidShares: U256::ONE,
            data: Bytes::new(),
        };
        let one_share = Call::new(self.places.morpho, one_share.abi_encode());
        match self.adapter.standing(&snapshot, &key, unit) {
            Err(Unvalued::Overflow(what)) => {
                tally.unrepresentable += 1;
                let refused = self.simulate(case, &[one_share]).await.remove(0);
                assert!(!refused.success, "{what} does not fit, but the contract does it: {case:?}");
            }
            Err(missing) => panic!("{missing}: {case:?}"),
            Ok(standing) => {
                self.figures(case, &snapshot, standing.equity, standing.surplus).await;
                if standing.surplus.is_negative() {
                    self.liquidate(case, &snapshot, tally).await;
                } else {
                    tally.healthy += 1;
                    let refused = self.simulate(case, &[one_share]).await.remove(0);
                    assert!(!refused.success, "healthy here, liquidatable there: {case:?}");
                    let refusal = self.adapter.classify(&refused.data);
                    assert_eq!(refusal.disposition, Disposition::NotEligible, "{refusal:?} {case:?}");
                }
            }
        }
    }

    /// Every probe before the accrual, and the standing against the totals that the contract itself accrues.
    async fn figures(&self, case: &Case, snapshot: &Snapshot, equity: I256, surplus: I256) {
        let listing = self.places.markets[case.market];
        let probes = self.adapter.probes(snapshot, &[self.key(case)]);
        let mut calls: Vec<Call> = probes.iter().map(|probe| probe.call.clone()).collect();
        let accrue = Morpho::accrueInterestCall { marketParams: listing.params() };
        calls.push(Call::new(self.places.morpho, accrue.abi_encode()));
        calls.push(Call::new(self.places.morpho, Morpho::marketCall { id: listing.id() }.abi_encode()));
        let outcomes = self.simulate(case, &calls).await;
        for (probe, outcome) in probes.iter().zip(&outcomes) {
            assert_eq!(outcome.data, probe.expected, "{}: {case:?}", probe.subject);
        }
        let totals = Morpho::marketCall::abi_decode_returns(&outcomes.last().expect("an outcome").data)
            .expect("return data of the view");
        let (assets, shares) = (U256::from(totals.borrowAssets), U256::from(totals.borrowShares));
        let debt = (case.shares * (assets + U256::ONE)).div_ceil(shares + U256::from(1_000_000));
        let value = case.collateral * case.price / scale();
        let signed = |x: U256| I256::try_from(x).expect("a figure of 255 bits");
        assert_eq!(equity, signed(value) - signed(debt), "equity: {case:?}");
        assert_eq!(surplus, signed(value * listing.lltv / WAD) - signed(debt), "surplus: {case:?}");
    }

    /// The offered liquidation, carried out: within its promises, to the last unit what it says it brings, and its logs
    /// make the cache what the contracts are.
    async fn liquidate(&self, case: &Case, snapshot: &Snapshot, tally: &mut Tally) {
        let report = scan(self.adapter.as_ref(), snapshot, &ScanSettings { at_risk_health_factor_bps: 11_000 });
        let cases = self.adapter.cases(snapshot, &report, false);
        let offered = cases.into_values().next().expect("a case").offered.expect("an offer");
        let key = self.key(case);
        let ours = offered.intents.into_iter().find(|intent| intent.scope.unit() == Some(&key));
        let intent = ours.unwrap_or_else(|| panic!("nothing is offered: {case:?}"));
        let parties = Parties { sender: KEEPER, proceeds: KEEPER };
        let call = self.adapter.build(&[step(&intent)], &parties).expect("the adapter takes it");
        let mut book = snapshot.book.clone();
        let probes_of = |book: &Book| {
            let after = Snapshot { block: self.head, book: book.clone() };
            let probes = self.adapter.probes(&after, std::slice::from_ref(&key));
            let stored = |subject: &str| subject.starts_with("position") || subject.starts_with("totals");
            probes.into_iter().filter(move |probe| stored(&probe.subject)).collect::<Vec<_>>()
        };
        let views = probes_of(&book).into_iter().map(|probe| probe.call);
        let calls: Vec<Call> = [call].into_iter().chain(views).collect();
        let outcomes = self.simulate(case, &calls).await;
        let done = &outcomes[0];
        assert!(done.success, "{:?} of {intent:?}: {case:?}", self.adapter.classify(&done.data));

        let effects = self.adapter.effects(&book, &done.logs);
        tally.liquidated += 1;
        tally.with_bad_debt += usize::from(effects.iter().any(|effect| matches!(effect, Effect::BadDebt { .. })));
        kept(&intent, &effects, case);
        let morphos: Vec<Log> = done.logs.iter().filter(|log| log.address == self.places.morpho).cloned().collect();
        book.apply(&self.adapter.apply(&book, &self.head, &morphos).expect("the adapter takes it").delta)
            .expect("the adapter takes it");
        for (probe, outcome) in probes_of(&book).iter().zip(&outcomes[1..]) {
            assert_eq!(outcome.data, probe.expected, "after: {}: {case:?}", probe.subject);
        }
    }
}

fn step(intent: &Intent) -> Step {
    let (unit, why) = (intent.scope.unit().cloned(), String::new());
    let action = Action::Intent(Box::new(intent.clone()));
    Step { tier: Tier::Liquidate, unit, absorbs: intent.absorbs, why, action }
}

/// Promises, and the reward against what was really paid and got.
fn kept(intent: &Intent, effects: &[Effect], case: &Case) {
    let sum = |wanted: PromiseKind| {
        let amount = |effect: &Effect| match (wanted, effect) {
            (PromiseKind::Repaid, Effect::Repaid { amount, .. })
            | (PromiseKind::Seized, Effect::Seized { amount, .. })
            | (PromiseKind::BadDebt, Effect::BadDebt { amount, .. }) => *amount,
            _ => U256::ZERO,
        };
        effects.iter().map(amount).fold(U256::ZERO, |sum, amount| sum + amount)
    };
    for promise in &intent.promises {
        let found = sum(promise.kind);
        assert!(promise.min <= found && found <= promise.max, "{promise:?} gives {found}: {case:?}");
    }
    let (paid, value) = (sum(PromiseKind::Repaid), sum(PromiseKind::Seized) * case.price / scale());
    assert_eq!(value + intent.cost, paid + intent.reward, "what it brings: {case:?}");
    assert!(intent.capital[0].amount >= paid, "{case:?}");
}

#[tokio::test]
async fn random_markets_and_positions_give_the_contracts_own_integers() {
    if !contracts::at_hand("morpho_blue") {
        return;
    }
    let world = World::new().await;
    let seed = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    let mut tally = Tally::default();
    for _ in 0..CASES {
        let case = case().new_tree(&mut runner).unwrap().current();
        world.compare(&case, &mut tally).await;
    }
    println!("{CASES} cases: {tally:?}");
    assert!(tally.healthy > CASES / 10 && tally.liquidated > CASES / 4, "one-sided cases: {tally:?}");
    assert!(tally.with_bad_debt > CASES / 20 && tally.unrepresentable < CASES / 10, "one-sided cases: {tally:?}");
}
