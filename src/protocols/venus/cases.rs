//! One pool of a snapshot, in the neutral terms a plan is made from.
//!
//! The ledger's figures are of the snapshot's block; what is offered is of the block that comes next, in which it would
//! execute. Unit of account: USD × 1e18, the oracle's.
//!
//! Must not: choose what to do.

use std::collections::BTreeMap;

use super::{
    Settings,
    account::Account,
    auction::{self, BadDebt, Slots},
    liquidation::Debtor,
    margin::{At, PoolNow},
    state,
};
use crate::{
    positions::Snapshot,
    recovery::{DistressedUnit, Intent, Offered, SegmentCase},
    scanner::{Condition, ScanReport, Unvalued},
    types::{Address, BlockRef, SegmentId, UnitKey},
};

/// Cases of the pools in which the report has a distressed account, or bad debt or an auction stands, or of all.
pub(super) fn cases(
    settings: &Settings,
    snapshot: &Snapshot,
    report: &ScanReport,
    every: bool,
) -> BTreeMap<SegmentId, SegmentCase> {
    let distressed = |segment: SegmentId| {
        let found = report.findings.iter().filter(move |finding| finding.segment == segment);
        found.filter(|f| matches!(f.condition, Condition::Bankrupt | Condition::Liquidatable)).map(|f| &f.unit)
    };
    let mut cases = BTreeMap::new();
    for (number, comptroller) in (0..).zip(&settings.comptrollers) {
        let segment = SegmentId(number);
        // A pool that cannot be loaded has no market and no account yet.
        let Ok(pool) = Ahead::load(snapshot, *comptroller) else { continue };
        let debts = auction::bad_debt(snapshot, settings.shortfall, &pool.pool, pool.slots());
        let quiet = debts.deficits.is_empty() && debts.intents.is_empty() && debts.shortages.is_empty();
        if every || !quiet || distressed(segment).next().is_some() {
            cases.insert(segment, pool.case(snapshot, segment, distressed(segment), debts));
        }
    }
    cases
}

/// A pool as a call in the next block finds it. The next block is taken to come a second later, as simulations take it;
/// contracts that count blocks do not mind.
struct Ahead {
    block: BlockRef,
    pool: PoolNow,
}

impl Ahead {
    fn load(snapshot: &Snapshot, comptroller: Address) -> Result<Self, Unvalued> {
        let BlockRef { number, timestamp, .. } = snapshot.block;
        let block = BlockRef { number: number + 1, timestamp: timestamp + 1, ..snapshot.block };
        Ok(Self { block, pool: PoolNow::load(&snapshot.book, comptroller, &block)? })
    }

    fn slots(&self) -> Slots {
        Slots { number: self.block.number, timestamp: self.block.timestamp }
    }

    fn case<'r>(
        &self,
        snapshot: &Snapshot,
        segment: SegmentId,
        found: impl Iterator<Item = &'r UnitKey>,
        debts: BadDebt,
    ) -> SegmentCase {
        let mut offered =
            Offered { asset: None, intents: Vec::new(), deficits: debts.deficits, shortages: debts.shortages };
        let mut distressed = Vec::new();
        for key in found {
            // What cannot be valued is no finding of these conditions.
            let Ok((unit, intents)) = self.distressed(snapshot, key) else { continue };
            distressed.push(unit);
            offered.intents.extend(intents);
        }
        offered.intents.extend(debts.intents);
        SegmentCase {
            segment,
            block: snapshot.block,
            fund: debts.fund,
            markets: BTreeMap::new(),
            distressed,
            solvent: BTreeMap::new(),
            blocked: None,
            measures: Default::default(),
            offered: Some(offered),
        }
    }

    fn distressed(&self, snapshot: &Snapshot, key: &UnitKey) -> Result<(DistressedUnit, Vec<Intent>), Unvalued> {
        let missing = || Unvalued::Missing(format!("account {key}"));
        let (comptroller, owner) = state::parse_unit_key(key).ok_or_else(missing)?;
        let account = Account::of(snapshot.book.unit(key).ok_or_else(missing)?)?;
        let now = PoolNow::around(&snapshot.book, comptroller, &account, &snapshot.block)?;
        let standing = now.liquidity(&account, |_| At::Accrued)?.standing()?;
        let unit = DistressedUnit {
            unit: key.clone(),
            cash: standing.equity,
            equity: standing.equity,
            maintenance_margin: standing.maintenance_margin,
            positions: Vec::new(),
            liquidatable_lots: BTreeMap::new(),
        };
        let debtor = Debtor { key, owner, account: &account, equity: standing.equity, pool: &self.pool };
        // Figures beyond 256 bits offer nothing; the account stays in the ledger.
        Ok((unit, debtor.offers().unwrap_or_default()))
    }
}
