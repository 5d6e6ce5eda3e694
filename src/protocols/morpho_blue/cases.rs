//! A market of a snapshot with what its contract offers, in the neutral terms a plan is made from.
//!
//! Every liquidatable borrower gets one intent. Amounts are loan-token units. A bonus is own margin as far as the borrower
//! has equity; what goes beyond it, and what was missing already, the lenders share inside the same call when all
//! collateral is seized.
//!
//! Invariants: figures are exact at the snapshot's block; intents stand in the report's order, worst first.
//! Must not: choose what to do.

use std::collections::BTreeMap;

use alloy::sol_types::SolValue;

use super::{
    Settings,
    encode::Payload,
    liquidation::{Bounds, Form, Liquidation},
    margin::{MarketNow, Position},
    state::{self, Market},
};
use crate::{
    positions::Snapshot,
    recovery::{
        Absorption, DistressedUnit, FundState, Intent, IntentKind, Offered, Promise, PromiseKind, Scope, SegmentCase,
        Tier, TokenNeed,
    },
    scanner::{Condition, Finding, ScanReport, Standing, Unvalued},
    types::{SegmentId, U256, UnitKey, math},
};

/// What a liquidation uses on mainnet-like tokens and oracles, an estimate.
const GAS: u64 = 220_000;

/// Cases of the markets in which the report has a distressed unit, or of all that are acted on.
pub(super) fn cases(
    settings: &Settings,
    snapshot: &Snapshot,
    report: &ScanReport,
    every: bool,
) -> BTreeMap<SegmentId, SegmentCase> {
    let mut distressed: BTreeMap<u32, Vec<&Finding>> = BTreeMap::new();
    if every {
        let acted_on = state::all::<Market>(&snapshot.book).filter(|(_, market)| settings.markets.contain(&market.id));
        distressed.extend(acted_on.filter_map(|(id, _)| Some((state::number(id)?, Vec::new()))));
    }
    for finding in &report.findings {
        if matches!(finding.condition, Condition::Bankrupt | Condition::Liquidatable) {
            distressed.entry(finding.segment.0).or_default().push(finding);
        }
    }
    let case = |(number, findings): (u32, Vec<&Finding>)| {
        (state::segment_id(number), case(settings, snapshot, number, &findings))
    };
    distressed.into_iter().map(case).collect()
}

fn case(settings: &Settings, snapshot: &Snapshot, number: u32, findings: &[&Finding]) -> SegmentCase {
    let mut case = SegmentCase {
        segment: state::segment_id(number),
        block: snapshot.block,
        fund: FundState::default(),
        markets: BTreeMap::new(),
        distressed: Vec::new(),
        solvent: BTreeMap::new(),
        blocked: None,
        measures: Default::default(),
        offered: None,
    };
    let now = match MarketNow::load(settings, snapshot, number) {
        Ok(now) => now,
        Err(why) => {
            case.blocked = (!findings.is_empty()).then(|| why.to_string());
            case.offered = Some(Offered::default());
            return case;
        }
    };
    let mut offered = Offered { asset: Some(now.market.loan_token), ..Offered::default() };
    for finding in findings {
        let Some(borrower) = Borrower::of(snapshot, &finding.unit, &now) else { continue };
        case.distressed.push(borrower.distressed());
        offered.intents.extend(borrower.intent(settings, snapshot.block.timestamp));
    }
    case.offered = Some(offered);
    case
}

/// A distressed unit with its figures.
struct Borrower<'a> {
    unit: &'a UnitKey,
    now: &'a MarketNow,
    position: Position,
    standing: Standing,
}

impl<'a> Borrower<'a> {
    /// `None` for a unit that cannot be valued or is not liquidatable after all.
    fn of(snapshot: &Snapshot, key: &'a UnitKey, now: &'a MarketNow) -> Option<Self> {
        let position = Position::of(snapshot.book.unit(key)?, now).ok()?;
        let standing = position.standing().ok()?;
        standing.surplus.is_negative().then_some(Self { unit: key, now, position, standing })
    }

    fn distressed(&self) -> DistressedUnit {
        DistressedUnit {
            unit: self.unit.clone(),
            cash: self.standing.equity,
            equity: self.standing.equity,
            maintenance_margin: self.standing.maintenance_margin,
            positions: Vec::new(),
            liquidatable_lots: BTreeMap::new(),
        }
    }

    fn intent(&self, settings: &Settings, timestamp: u64) -> Result<Intent, Unvalued> {
        let market = &self.now.market;
        let liquidation = Liquidation::of(&self.position, self.now, timestamp)?;
        let books = Books::of(&self.standing, &liquidation, self.now.value_down(liquidation.taken.seized)?)?;
        let shared = if liquidation.form == Form::SeizeAll { books.open } else { U256::ZERO };
        let (seized, shares) = liquidation.arguments();
        let need =
            TokenNeed { token: market.loan_token, amount: liquidation.repaid.max, spender: Some(settings.morpho) };
        Ok(Intent {
            kind: IntentKind::Liquidate,
            scope: Scope::Unit(self.unit.clone()),
            payload: Payload { marketParams: market.params(), seizedAssets: seized, repaidShares: shares }
                .abi_encode()
                .into(),
            tier: Tier::Liquidate,
            absorbs: books.absorbs,
            deepens: books.deepens,
            implicit: (!shared.is_zero())
                .then_some(Absorption { tier: Tier::SocialiseLoss, amount: shared })
                .into_iter()
                .collect(),
            promises: promises(market, &liquidation),
            reward: books.reward,
            cost: books.cost,
            swapped: if market.collateral_token == market.loan_token { U256::ZERO } else { books.seized_value },
            gas: GAS,
            capital: vec![need],
            bad_debt: !books.open.is_zero(),
            not_before: 0,
            // The singleton has no call that liquidates several.
            batch: None,
            why: self.why(&liquidation, &books),
        })
    }

    fn why(&self, liquidation: &Liquidation, books: &Books) -> String {
        let Position { debt, max_borrow, collateral, .. } = self.position;
        let taken = liquidation.taken;
        let how = match liquidation.form {
            Form::RepayAll => format!("all of it is repaid for {} of {collateral} collateral units", taken.seized),
            Form::SeizeAll => format!(
                "all {collateral} collateral units are seized for {}, the lenders share the other {}",
                taken.assets, books.open
            ),
            Form::RepayMost => format!(
                "collateral covers it to within the interest of minutes: {} is repaid, dust is left to the next block",
                taken.assets
            ),
        };
        format!("owes {debt}, may owe {max_borrow}: {how}")
    }
}

/// What a liquidation does to the ledger and to the keeper, loan-token units.
struct Books {
    seized_value: U256,
    /// Bonus that the borrower's own equity pays.
    absorbs: U256,
    /// Bonus beyond it.
    deepens: U256,
    /// What was missing before, and what the bonus added to it.
    open: U256,
    reward: U256,
    cost: U256,
}

impl Books {
    fn of(standing: &Standing, liquidation: &Liquidation, seized_value: U256) -> Result<Self, Unvalued> {
        let paid = liquidation.taken.assets;
        let bonus = seized_value.saturating_sub(paid);
        let absorbs = bonus.min(math::positive_part(standing.equity));
        let deepens = bonus - absorbs;
        let open = math::negative_part(standing.equity).checked_add(deepens);
        Ok(Self {
            seized_value,
            absorbs,
            deepens,
            open: open.ok_or(Unvalued::Overflow("shortfall"))?,
            reward: bonus,
            cost: paid.saturating_sub(seized_value),
        })
    }
}

fn promises(market: &Market, liquidation: &Liquidation) -> Vec<Promise> {
    let promise = |kind, asset, Bounds { min, max }| Promise { kind, asset: Some(asset), min, max };
    vec![
        promise(PromiseKind::Repaid, market.loan_token, liquidation.repaid),
        promise(PromiseKind::Seized, market.collateral_token, liquidation.seized),
        promise(PromiseKind::BadDebt, market.loan_token, liquidation.bad_debt),
    ]
}
