//! The pool in the neutral terms a plan is made from: liquidations of accounts, covers of deficits.
//!
//! The pool is one segment; amounts are in its base currency. A liquidation's bonus and fee are own margin as far as the
//! account has equity, beyond that they deepen the shortfall. Bad debt becomes a deficit of a reserve in the transaction
//! that takes the last collateral; only the market's UMBRELLA can cover it, by burning its own aTokens. Where that is not
//! this keeper, or it cannot, the deficit is a shortage for people.
//!
//! Invariants: figures are exact at the snapshot's block but for gas; accounts in the report's order, each with its choices
//! best first; covers by reserve number.
//! Must not: send or judge by profit.

use std::collections::BTreeMap;

use alloy::sol_types::SolCall;

use super::{
    Settings,
    abi::IPool,
    choice::{self, Choice},
    config,
    margin::{Account, ReserveNow},
    reads,
    state::{self, Registry, Reserve},
};
use crate::{
    positions::{LegKind, Snapshot},
    protocols::records,
    recovery::{
        Batch, Deficit, DistressedUnit, FundState, Intent, IntentKind, Offered, Promise, PromiseKind, Scope,
        SegmentCase, Shortage, ShortageKind, Tier, TokenNeed,
    },
    scanner::{Condition, ScanReport, Unvalued},
    types::{Address, B256, MarketId, SegmentId, U256, UnitKey, math},
};

/// Liquidations that share a call: about four million gas.
const LIQUIDATIONS: Batch = Batch { id: 0, len_max: 10 };
/// Covers that share a call.
const COVERS: Batch = Batch { id: 1, len_max: 10 };
/// Gas of a liquidation of one collateral and one debt, an estimate.
const LIQUIDATION_GAS: u64 = 400_000;
/// For every further reserve that the account uses: its price and balance are looked up.
const RESERVE_GAS: u64 = 60_000;
/// For every debt that becomes a deficit.
const DEFICIT_GAS: u64 = 110_000;
/// Gas of a cover, an estimate.
const COVER_GAS: u64 = 220_000;
/// How far figures may be from those planned when the call is simulated: prices move between blocks.
const TOLERANCE_BPS: U256 = U256::from_limbs([100, 0, 0, 0]);
const BPS: U256 = super::ray::BPS;

/// The pool's case, if anything is distressed or open (or `every`).
pub(super) fn cases(
    settings: &Settings,
    snapshot: &Snapshot,
    report: &ScanReport,
    every: bool,
) -> BTreeMap<SegmentId, SegmentCase> {
    let view = View::new(settings, snapshot);
    let distressed: Vec<Distressed<'_>> = report
        .findings
        .iter()
        .filter(|finding| matches!(finding.condition, Condition::Bankrupt | Condition::Liquidatable))
        .filter_map(|finding| view.distressed(&finding.unit))
        .collect();
    let open = view.deficits();
    if !every && distressed.is_empty() && open.is_empty() {
        return BTreeMap::new();
    }
    let mut offered = Offered::default();
    for unit in &distressed {
        offered.intents.extend(view.liquidations(unit));
    }
    for (number, reserve) in open {
        view.deficit(number, &reserve, &mut offered);
    }
    let case = SegmentCase {
        segment: state::SEGMENT,
        block: snapshot.block,
        fund: FundState::default(),
        markets: BTreeMap::new(),
        distressed: distressed.into_iter().map(|unit| unit.as_case).collect(),
        solvent: BTreeMap::new(),
        blocked: None,
        measures: Default::default(),
        offered: Some(offered),
    };
    BTreeMap::from([(state::SEGMENT, case)])
}

/// An account below a health factor of 1.
struct Distressed<'r> {
    key: &'r UnitKey,
    owner: Address,
    account: Account,
    as_case: DistressedUnit,
}

/// The market at one block.
struct View<'a> {
    settings: &'a Settings,
    snapshot: &'a Snapshot,
    reserves: BTreeMap<u32, Result<ReserveNow, Unvalued>>,
    sentinel_allows: bool,
}

impl<'a> View<'a> {
    fn new(settings: &'a Settings, snapshot: &'a Snapshot) -> Self {
        let reserves = records::all::<Reserve>(&snapshot.book)
            .filter_map(|(id, reserve)| Some((records::number(id)?, reserve)))
            .map(|(id, reserve)| (id, ReserveNow::of(snapshot, id, reserve)));
        let sentinel_allows = reads::sentinel_allows(&snapshot.book);
        Self { settings, snapshot, reserves: reserves.collect(), sentinel_allows }
    }

    fn reserve(&self, id: u32) -> Result<ReserveNow, Unvalued> {
        let unknown = || Err(Unvalued::Missing(format!("reserve {id}")));
        self.reserves.get(&id).cloned().unwrap_or_else(unknown)
    }

    fn distressed<'r>(&self, key: &'r UnitKey) -> Option<Distressed<'r>> {
        let unit = self.snapshot.book.unit(key)?;
        let account = Account::of(self.snapshot, unit, |id| self.reserve(id)).ok()?;
        let standing = account.standing().ok()?;
        let as_case = DistressedUnit {
            unit: key.clone(),
            cash: standing.equity,
            equity: standing.equity,
            maintenance_margin: standing.maintenance_margin,
            positions: Vec::new(),
            liquidatable_lots: BTreeMap::new(),
        };
        standing.surplus.is_negative().then(|| Distressed { key, owner: unit.owner, account, as_case })
    }

    fn liquidations(&self, unit: &Distressed<'_>) -> Vec<Intent> {
        let bad_debt = choice::leaves_bad_debt(&unit.account).unwrap_or(true);
        let choices = choice::choices(&unit.account, self.snapshot.block.timestamp, self.sentinel_allows);
        choices.iter().map(|choice| self.liquidation(unit, choice, bad_debt)).collect()
    }

    fn liquidation(&self, unit: &Distressed<'_>, choice: &Choice<'_>, bad_debt: bool) -> Intent {
        let (of, to) = (&choice.collateral.now.reserve, &choice.debt.now.reserve);
        let payload = IPool::liquidationCallCall {
            collateralAsset: of.asset,
            debtAsset: to.asset,
            borrower: unit.owner,
            debtToCover: choice.cover,
            receiveAToken: false,
        };
        let equity = math::positive_part(unit.as_case.equity);
        let absorbs = choice.own_loss().min(equity);
        let used = unit.account.collaterals.len() + unit.account.debts.len();
        let further = u64::try_from(used.saturating_sub(2)).unwrap_or(u64::MAX);
        let written_off = u64::try_from(choice.outcome.deficits.len()).unwrap_or(u64::MAX);
        Intent {
            kind: IntentKind::Liquidate,
            scope: Scope::Unit(unit.key.clone()),
            payload: payload.abi_encode().into(),
            tier: Tier::Liquidate,
            absorbs,
            deepens: choice.own_loss() - absorbs,
            implicit: Vec::new(),
            promises: promises(unit, choice),
            reward: choice.reward(),
            cost: choice.repaid_value_ceil.saturating_sub(choice.seized_value),
            swapped: if of.asset == to.asset { U256::ZERO } else { choice.repaid_value_ceil },
            gas: LIQUIDATION_GAS
                .saturating_add(RESERVE_GAS.saturating_mul(further))
                .saturating_add(DEFICIT_GAS.saturating_mul(written_off)),
            capital: vec![TokenNeed { token: to.asset, amount: choice.cover, spender: Some(self.settings.pool) }],
            bad_debt,
            not_before: choice.not_before,
            batch: Some(LIQUIDATIONS),
            why: why(&unit.account, choice),
        }
    }

    /// Reserves with bad debt that nobody has covered.
    fn deficits(&self) -> Vec<(u32, Reserve)> {
        records::all::<Reserve>(&self.snapshot.book)
            .filter(|(_, reserve)| !reserve.deficit.is_zero())
            .filter_map(|(id, reserve)| Some((records::number(id)?, reserve)))
            .collect()
    }

    /// Offers a deficit's cover, or says what is short.
    fn deficit(&self, number: u32, reserve: &Reserve, offered: &mut Offered) {
        let scope = Scope::Market(MarketId(number));
        let Reserve { asset, deficit, .. } = *reserve;
        let value = self.reserve(number).ok().and_then(|now| now.value_ceil(deficit));
        if let Some(amount) = value {
            offered.deficits.push(Deficit { scope: scope.clone(), amount });
        }
        let obstacle = match value {
            None => Some("it cannot be valued until its price is known".to_owned()),
            Some(_) => self.cover_obstacle(reserve),
        };
        match (obstacle, value) {
            (None, Some(value)) => offered.intents.push(self.cover(scope, reserve, value)),
            (obstacle, _) => offered.shortages.push(Shortage {
                kind: ShortageKind::DeficitStands,
                subject: format!("reserve {number}, {asset}"),
                detail: format!("a deficit of {deficit} units of {asset} stands; {}", obstacle.unwrap_or_default()),
            }),
        }
    }

    /// Why this keeper cannot cover a deficit, apart from what it holds.
    fn cover_obstacle(&self, reserve: &Reserve) -> Option<String> {
        let registry: Option<Registry> = records::find(&self.snapshot.book, B256::ZERO).ok().flatten();
        let named = registry.map(|registry| registry.umbrella).unwrap_or_default();
        let provider = self.settings.addresses_provider;
        let Some(own) = self.settings.umbrella else {
            return Some(format!("UMBRELLA of {provider} is {named}: it must cover it, this keeper may not"));
        };
        if own != named {
            return Some(format!(
                "UMBRELLA of {provider} is {named}, not protocol.umbrella = {own}; mend one of the two or have it covered there"
            ));
        }
        let owes = |key: &UnitKey| {
            let unit = self.snapshot.book.unit(key)?;
            unit.legs.iter().find(|leg| leg.kind == LegKind::Debt).map(|leg| leg.market)
        };
        if let Some(market) = owes(&state::unit_key(own)) {
            return Some(format!("the pool lets no debtor cover it, and {own} owes reserve {market}; repay that"));
        }
        let inactive = !reserve.config.is(config::ACTIVE);
        inactive.then(|| "the reserve is not active; governance must activate it first".to_owned())
    }

    fn cover(&self, scope: Scope, reserve: &Reserve, value: U256) -> Intent {
        let Reserve { asset, a_token, deficit, .. } = *reserve;
        let payload = IPool::eliminateReserveDeficitCall { asset, amount: deficit };
        Intent {
            kind: IntentKind::CoverDeficit,
            scope,
            payload: payload.abi_encode().into(),
            tier: Tier::InsuranceFund,
            absorbs: value,
            deepens: U256::ZERO,
            implicit: Vec::new(),
            promises: vec![Promise { kind: PromiseKind::Covered, asset: Some(asset), min: deficit, max: deficit }],
            reward: U256::ZERO,
            cost: value,
            swapped: U256::ZERO,
            gas: COVER_GAS,
            capital: vec![TokenNeed { token: a_token, amount: deficit, spender: None }],
            bad_debt: true,
            not_before: 0,
            batch: Some(COVERS),
            why: format!(
                "{deficit} units of {asset} are booked as bad debt; the keeper is UMBRELLA and burns aTokens for it"
            ),
        }
    }
}

/// Post-conditions. The keeper gets what it pays for within the tolerance, whatever prices do; bad debt appears only where
/// it was foreseen, and no more than prices can have added.
fn promises(unit: &Distressed<'_>, choice: &Choice<'_>) -> Vec<Promise> {
    let (seized, repaid) = (choice.outcome.seized, choice.outcome.repaid);
    let seizing = Promise {
        kind: PromiseKind::Seized,
        asset: Some(choice.collateral.now.reserve.asset),
        min: seized.saturating_sub(tolerance(seized)),
        max: U256::MAX,
    };
    let repaying = Promise {
        kind: PromiseKind::Repaid,
        asset: Some(choice.debt.now.reserve.asset),
        min: repaid.saturating_sub(tolerance(repaid)),
        max: choice.cover,
    };
    let written_off = |asset: Option<Address>, max| Promise { kind: PromiseKind::BadDebt, asset, min: U256::ZERO, max };
    let mut promises = vec![seizing, repaying];
    if choice.outcome.deficits.is_empty() {
        promises.push(written_off(None, U256::ZERO));
    }
    for debt in &unit.account.debts {
        let asset = debt.now.reserve.asset;
        let foreseen = choice.outcome.deficits.iter().find(|(of, _)| *of == asset);
        let max = foreseen.map_or(U256::ZERO, |(_, amount)| amount.saturating_add(tolerance(debt.amount)));
        promises.push(written_off(Some(asset), max));
    }
    promises
}

fn tolerance(amount: U256) -> U256 {
    math::mul_div_ceil(amount, TOLERANCE_BPS, BPS).unwrap_or(U256::MAX)
}

fn why(account: &Account, choice: &Choice<'_>) -> String {
    let Choice { outcome, .. } = choice;
    let (of, to) = (choice.collateral.now.reserve.asset, choice.debt.now.reserve.asset);
    let mut why = format!(
        "health factor {}: repays {} units of {to} and takes {} units of {of}, {} more go to the treasury",
        wad(account.health_factor),
        outcome.repaid,
        outcome.seized,
        outcome.fee,
    );
    for (asset, amount) in &outcome.deficits {
        why.push_str(&format!("; no collateral is left, {amount} units of {asset} become a deficit"));
    }
    why
}

/// A wad with four digits, down.
fn wad(x: U256) -> String {
    let tenths = x / U256::from(100_000_000_000_000u64);
    let (whole, rest) = tenths.div_rem(U256::from(10_000));
    format!("{whole}.{:04}", u16::try_from(rest).unwrap_or_default())
}
