//! What the adapter offers, planned by the real planner, simulated, held to its promises and carried out on the contracts;
//! and what it does not offer, refused by them.

use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    primitives::{Address, B256, U64, U256},
    sol_types::SolCall,
};
use backstop::{
    chain::SimulatedCall,
    demo::contracts,
    positions::{LegKind, Snapshot},
    protocols::{Disposition, Parties},
    recovery::{
        Action, BalancedPlan, Effect, Intent, IntentKind, Mode, Policy, Promise, PromiseKind, Purse, Reservations,
        SegmentCase, Step, Terms, Tier, TierSettings, plan_offered,
    },
    scanner::{Condition, ScanReport, ScanSettings, scan},
    types::{Call, SegmentId},
};
use serde_json::json;

use crate::{
    abi::{Comptroller, Oracle, RiskFund, Shortfall, Token, VToken},
    actions::{Dice, WAD},
    world::{Pool, World},
};

/// Passes over a snapshot after one price move.
const PASSES_MAX: usize = 12;

/// What was done, by kind and by the contract's function.
#[derive(Debug, Default)]
struct Done {
    calls: BTreeMap<String, usize>,
    gas_max: BTreeMap<String, (u64, u64)>,
}

/// Gives the risk fund so many dollars for a pool.
async fn fund(world: &World, pool: &Pool, dollars: u64) {
    let usd = world.places.tokens["usd"];
    let amount = U256::from(dollars) * WAD;
    let owner = world.places.owner;
    assert!(world.send_now(world.actors[0], usd, &Token::transferCall { to: world.places.risk_fund, amount }).await);
    let update = RiskFund::updateAssetsStateCall { comptroller: pool.comptroller, asset: usd };
    assert!(world.send_now(owner, world.places.risk_fund, &update).await);
    let reserves = RiskFund::getPoolsBaseAssetReservesCall { comptroller: pool.comptroller };
    assert!(world.view(world.places.risk_fund, &reserves).await >= amount);
}

fn terms() -> Terms {
    let policy =
        Policy { mode: Mode::Mandate, bad_debt_overrides_profit: true, swap_cost_bps: 0, capital_max: BTreeMap::new() };
    Terms {
        policy,
        gas_price_wei: U256::ONE,
        native_value: Some(U256::from(2_000) * WAD),
        budget_left_wei: U256::MAX,
        purse: Purse::default(),
    }
}

fn plan(case: &SegmentCase) -> BalancedPlan {
    let tiers = [Tier::Liquidate, Tier::InsuranceFund].map(|tier| TierSettings { tier, absorb_max: None });
    let mut terms = terms();
    // The keeper was given plenty of everything.
    for need in case.offered.iter().flat_map(|offered| &offered.intents).flat_map(|intent| &intent.capital) {
        terms.purse.balances.insert(need.token, U256::MAX);
        terms.purse.allowances.extend(need.spender.map(|spender| ((need.token, spender), U256::MAX)));
    }
    plan_offered(case, &tiers, &terms, &Reservations::default()).expect("a plan that balances")
}

fn intent(step: &Step) -> &Intent {
    let Action::Intent(intent) = &step.action else { panic!("a step that is no intent") };
    intent
}

impl World {
    fn report(&self, snapshot: &Snapshot) -> ScanReport {
        scan(self.adapter.as_ref(), snapshot, &ScanSettings { at_risk_health_factor_bps: 11_000 })
    }

    /// Carries one pool's plan out, as far as `wanted` goes. How many steps that were.
    async fn carry_out(
        &self,
        snapshot: &Snapshot,
        case: &SegmentCase,
        wanted: impl Fn(&Intent) -> bool,
        done: &mut Done,
    ) -> usize {
        let plan = plan(case);
        let steps: Vec<&Step> = plan.steps().iter().filter(|step| wanted(intent(step))).collect();
        let parties = Parties { sender: self.keeper, proceeds: self.keeper };
        let build = |step: &&Step| self.adapter.build(std::slice::from_ref(*step), &parties).expect("a call");
        let calls: Vec<Call> = steps.iter().map(build).collect();
        let allowed: BTreeSet<_> = self.adapter.allowed_calls(&snapshot.book, self.keeper).into_iter().collect();
        for call in &calls {
            assert!(allowed.contains(&(call.to, *call.data.first_chunk().expect("a selector"))), "{call:?}");
        }
        let simulated = self.rpc.simulate(self.keeper, &calls, &snapshot.block).await.expect("a simulation");
        let mut hashes = Vec::new();
        for ((step, call), result) in steps.iter().zip(&calls).zip(&simulated) {
            self.keeps_its_promises(snapshot, intent(step), result);
            let name = function(intent(step), call);
            *done.calls.entry(name.clone()).or_default() += 1;
            let gas = done.gas_max.entry(name).or_default();
            *gas = (gas.0.max(result.gas_used), gas.1.max(intent(step).gas));
            assert!(result.gas_used <= intent(step).gas, "{}: {} gas", intent(step).why, result.gas_used);
            let transaction =
                json!([{ "from": self.keeper, "to": call.to, "input": call.data, "gas": U64::from(6_000_000) }]);
            hashes.push(self.anvil.request::<B256>("eth_sendTransaction", transaction).await.expect("taken"));
        }
        self.anvil.mine(1).await.expect("mined");
        for (hash, step) in hashes.iter().zip(&steps) {
            let receipt = self.rpc.receipt(*hash).await.expect("an answer").expect("mined");
            assert!(receipt.success, "mined without effect: {}", intent(step).why);
        }
        steps.len()
    }

    fn keeps_its_promises(&self, snapshot: &Snapshot, intent: &Intent, result: &SimulatedCall) {
        assert!(result.success, "{}: {:?}", intent.why, self.adapter.classify(&result.output));
        let effects = self.adapter.effects(&snapshot.book, &result.logs);
        assert!(effects.iter().all(|effect| effect.scope().as_ref() == Some(&intent.scope)), "{effects:?}");
        for promise in &intent.promises {
            let sum: U256 = effects.iter().map(|effect| measure(promise, effect)).sum();
            assert!(promise.min <= sum && sum <= promise.max, "{promise:?} of {}: {sum}, {effects:?}", intent.why);
        }
    }

    /// Asks the contracts about every account with a debt that the report leaves alone: all of them must be refused.
    async fn nobody_is_missed(&self, snapshot: &Snapshot, report: &ScanReport) -> usize {
        let distressed = |c| matches!(c, Condition::Bankrupt | Condition::Liquidatable);
        let named: BTreeSet<_> =
            report.findings.iter().filter(|f| distressed(f.condition)).map(|f| f.unit.clone()).collect();
        let mut asked = 0;
        for (key, unit) in snapshot.book.units().filter(|(key, _)| !named.contains(*key)) {
            if unit.legs.iter().all(|leg| leg.kind != LegKind::Debt) {
                continue;
            }
            let pool = &self.places.pools[unit.segment.0 as usize];
            let heal = Comptroller::healAccountCall { user: unit.owner };
            let mut calls = vec![Call::new(pool.comptroller, heal.abi_encode())];
            for debt in pool.markets.values() {
                for collateral in pool.markets.values() {
                    let call = VToken::liquidateBorrowCall {
                        borrower: unit.owner,
                        repayAmount: U256::ONE,
                        vTokenCollateral: collateral.vtoken,
                    };
                    calls.push(Call::new(debt.vtoken, call.abi_encode()));
                }
            }
            for result in self.rpc.simulate(self.keeper, &calls, &snapshot.block).await.expect("a simulation") {
                assert!(!result.success, "{key} could be liquidated and is not reported");
                let refusal = self.adapter.classify(&result.output);
                assert_eq!(refusal.disposition, Disposition::NotEligible, "{key}: {}", refusal.reason);
                asked += 1;
            }
        }
        asked
    }
}

/// The function that a step calls, for the count.
fn function(intent: &Intent, call: &Call) -> String {
    let selector = call.data.first_chunk::<4>().expect("a selector");
    let plain = *selector == VToken::liquidateBorrowCall::SELECTOR;
    let word = intent.kind.as_str();
    if intent.kind == IntentKind::Liquidate && !plain { format!("{word} account") } else { word.to_owned() }
}

fn measure(promise: &Promise, effect: &Effect) -> U256 {
    let (kind, asset, amount) = match effect {
        Effect::Repaid { asset, amount, .. } => (PromiseKind::Repaid, Some(*asset), *amount),
        Effect::Seized { asset, amount, .. } => (PromiseKind::Seized, Some(*asset), *amount),
        Effect::BadDebt { asset, amount, .. } => (PromiseKind::BadDebt, Some(*asset), *amount),
        Effect::Covered { asset, amount, .. } => (PromiseKind::Covered, Some(*asset), *amount),
        Effect::Staged { .. } => (PromiseKind::Staged, None, U256::ONE),
        _ => return U256::ZERO,
    };
    let counts = kind == promise.kind && (promise.asset.is_none() || promise.asset == asset);
    if counts { amount } else { U256::ZERO }
}

/// Liquidates and heals until the contracts leave nothing to do.
async fn clear(world: &mut World, done: &mut Done) -> usize {
    let mut asked = 0;
    for pass in 0..PASSES_MAX {
        let snapshot = world.follow().await;
        world.audit(&snapshot).await;
        let report = world.report(&snapshot);
        asked += if pass == 0 { world.nobody_is_missed(&snapshot, &report).await } else { 0 };
        let cases = world.adapter.cases(&snapshot, &report, false);
        let open = cases.values().find(|case| offers(case).any(|intent| intent.tier == Tier::Liquidate));
        let Some(case) = open else {
            let distressed: usize = cases.values().map(|case| case.distressed.len()).sum();
            assert_eq!(distressed, 0, "distressed accounts without an offer");
            return asked;
        };
        let steps = world.carry_out(&snapshot, case, |intent| intent.tier == Tier::Liquidate, done).await;
        assert!(steps > 0);
    }
    // One price move can need more passes than this; the rest is the next move's.
    asked
}

fn offers(case: &SegmentCase) -> impl Iterator<Item = &Intent> {
    case.offered.iter().flat_map(|offered| &offered.intents)
}

async fn bad_debt(world: &World, pool: &Pool) -> U256 {
    let mut sum = U256::ZERO;
    for market in pool.markets.values() {
        sum += world.view(market.vtoken, &VToken::badDebtCall {}).await;
    }
    sum
}

/// Walks one pool's auction as far as the keeper's steps of these kinds go. The kinds done, in order.
async fn auction(
    world: &mut World,
    pool: usize,
    kinds: &[IntentKind],
    blocks: u64,
    done: &mut Done,
) -> Vec<IntentKind> {
    let segment = SegmentId(pool as u32);
    let mut walked = Vec::new();
    for _ in 0..blocks {
        let snapshot = world.follow().await;
        let report = world.report(&snapshot);
        let cases = world.adapter.cases(&snapshot, &report, false);
        let wanted = |intent: &Intent| intent.tier == Tier::InsuranceFund && kinds.contains(&intent.kind);
        match cases.get(&segment).filter(|case| offers(case).any(wanted)) {
            Some(case) => {
                let kind = offers(case).find(|intent| wanted(intent)).expect("found above").kind;
                assert_eq!(world.carry_out(&snapshot, case, wanted, done).await, 1, "{kind:?}");
                walked.push(kind);
            }
            None => world.anvil.mine(1).await.expect("mined"),
        }
        let snapshot = world.follow().await;
        world.audit(&snapshot).await;
    }
    walked
}

async fn competitor_bids(world: &World, pool: usize) -> Address {
    let (comptroller, bidder) = (world.places.pools[pool].comptroller, world.actors[5]);
    let auction = world.view(world.places.shortfall, &Shortfall::auctionsCall { comptroller }).await;
    let call = Shortfall::placeBidCall {
        comptroller,
        bidBps: auction.startBidBps,
        auctionStartBlockOrTimestamp: auction.start,
    };
    assert!(world.send_now(bidder, world.places.shortfall, &call).await);
    bidder
}

#[tokio::test]
async fn what_is_offered_works_and_what_works_is_offered() {
    if !contracts::at_hand("venus") {
        return;
    }
    let mut world = World::new("blocks").await;
    let mut dice = Dice::new(7);
    let mut done = Done::default();
    world.borrowers(&mut dice).await;
    let mut asked = 0;
    for (asset, parts) in [
        ("eth", 930),
        ("btc", 900),
        ("gov", 850),
        ("eth", 900),
        ("btc", 850),
        ("gov", 800),
        ("eth", 700),
        ("btc", 600),
        ("gov", 500),
    ] {
        let token = world.places.tokens[asset];
        let price = world.view(world.places.oracle, &Oracle::assetPricesCall { asset: token }).await;
        world.set_price(token, price * U256::from(parts) / U256::from(1_000)).await;
        world.anvil.mine(1 + dice.below(20)).await.expect("mined");
        asked += clear(&mut world, &mut done).await;
    }
    println!(
        "{asked} refusals of accounts that were left alone; done {:?}; gas used and stated {:?}",
        done.calls, done.gas_max
    );
    for kind in ["liquidate", "liquidate account", "heal"] {
        assert!(done.calls.get(kind).is_some_and(|count| *count > 0), "no {kind} in this crash");
    }
    let pools = world.places.pools.clone();
    let before = [bad_debt(&world, &pools[0]).await, bad_debt(&world, &pools[1]).await];
    assert!(before.iter().all(|debt| !debt.is_zero()), "a pool without bad debt: {before:?}");

    // Nothing in the fund: nothing is started, somebody is told.
    assert!(auction(&mut world, 0, &IntentKind::ALL, 2, &mut done).await.is_empty());
    // The keeper alone: it starts, bids and closes.
    fund(&world, &pools[0], 1_000).await;
    let walked = auction(&mut world, 0, &IntentKind::ALL, 16, &mut done).await;
    assert_eq!(walked[..3], [IntentKind::StartAuction, IntentKind::Bid, IntentKind::CloseAuction]);
    assert!(bad_debt(&world, &pools[0]).await < before[0]);

    // Nobody bids until it is stale, then a competitor does: the keeper restarts, does not outbid, and closes.
    fund(&world, &pools[1], 1_000_000).await;
    let no_bid = [IntentKind::StartAuction, IntentKind::RestartAuction];
    let walked = auction(&mut world, 1, &no_bid, 45, &mut done).await;
    assert_eq!(walked, no_bid);
    let bidder = competitor_bids(&world, 1).await;
    let walked = auction(&mut world, 1, &IntentKind::ALL, 14, &mut done).await;
    assert_eq!(walked, [IntentKind::CloseAuction]);
    assert_ne!(bidder, world.keeper);
    assert!(bad_debt(&world, &pools[1]).await.is_zero(), "the fund was larger than the debt");
    println!("auctions {:?}", done.calls);
}
