//! Morpho Blue: isolated lending markets in one contract, each with its own loan token, collateral, oracle, rate model and
//! liquidation threshold. Bad debt is shared by a market's lenders inside the liquidation that leaves it.
//!
//! `decode` turns logs into changes of records (`state`) and units; `reads` fetches prices and rates; `interest` carries a
//! market to the block's second and `margin` values a unit exactly, `screen` in floating point; `liquidation` chooses what
//! to take and `cases` renders a market for the planner; `encode` turns an intent into a call, `refusal` and `effects`
//! read what came of it, `probes` hold the cache against the chain. `fixed` is the arithmetic under all of them.
//!
//! Invariants: as of every adapter; figures are the contract's own, to the last unit.
//! Must not: do I/O or read a clock.

mod abi;
mod cases;
mod decode;
mod effects;
mod encode;
mod fixed;
mod interest;
mod liquidation;
mod margin;
mod probes;
mod reads;
mod refusal;
mod screen;
mod settings;
mod state;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use alloy::sol_types::{SolCall, SolValue};

use self::{
    abi::{IIrm, IMorpho},
    margin::{MarketNow, Position},
};
use super::{
    Adapter, Applied, ApplyError, BuildError, ContractCheck, Guard, GuardCheck, Manifest, Parties, Probe, Read, Refusal,
};
use crate::{
    positions::{Book, Delta, Record, RecordKey, Snapshot, Unit},
    recovery::{Effect, SegmentCase, Step, Tier},
    scanner::{Drivers, Factors, Planes, ScanReport, Standing, Unvalued, Valuation},
    types::{Address, BlockRef, Call, CallOutcome, Log, LogFilter, SegmentId, UnitKey},
};

pub use settings::{Markets, Settings, SettingsError};

/// The adapter's config word.
pub const NAME: &str = "morpho_blue";

/// The adapter of one singleton.
#[derive(Clone, Debug)]
pub struct MorphoBlue {
    settings: Settings,
}

impl MorphoBlue {
    /// An adapter of the contracts that these settings name.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

/// See [`super::adapter`].
pub(super) fn open(settings: serde_json::Value) -> Result<Arc<dyn Adapter>, String> {
    let settings = settings.try_into().map_err(|error: SettingsError| error.to_string())?;
    Ok(Arc::new(MorphoBlue::new(settings)))
}

impl Valuation for MorphoBlue {
    fn factors(&self, snapshot: &Snapshot) -> Result<Factors, Unvalued> {
        Ok(screen::factors(&self.settings, snapshot))
    }

    fn drivers(&self, snapshot: &Snapshot) -> Result<Drivers, Unvalued> {
        Ok(screen::drivers(&self.settings, snapshot))
    }

    fn planes(&self, snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
        screen::planes(&self.settings, snapshot, unit)
    }

    fn reshapes(&self, key: &RecordKey, before: Option<&Record>, after: Option<&Record>) -> bool {
        screen::reshapes(key, before, after)
    }

    fn standing(&self, snapshot: &Snapshot, _key: &UnitKey, unit: &Unit) -> Result<Standing, Unvalued> {
        let (_, borrow_shares) = margin::holdings(unit);
        if borrow_shares.is_zero() {
            return Ok(margin::DEBT_FREE);
        }
        let now = MarketNow::load(&self.settings, snapshot, unit.segment.0)?;
        Position::of(unit, &now)?.standing()
    }
}

impl Adapter for MorphoBlue {
    fn manifest(&self, _keeper: Address) -> Manifest {
        let Settings { morpho, morpho_code_hash, adaptive_curve_irm, adaptive_curve_irm_code_hash, .. } = self.settings;
        let mut manifest = Manifest {
            adapter: NAME,
            contracts: vec![ContractCheck { key: "morpho", address: morpho, code_hash: morpho_code_hash }],
            roles: Vec::new(),
            allowed_calls: vec![(morpho, IMorpho::liquidateCall::SELECTOR)],
            tiers: vec![Tier::Liquidate],
            guards: Vec::new(),
        };
        manifest.guards.extend(morpho_code_hash.map(|hash| code_guard("the singleton's code", morpho, hash)));
        if let Some(irm) = adaptive_curve_irm {
            let (key, code_hash) = ("adaptive_curve_irm", adaptive_curve_irm_code_hash);
            manifest.contracts.push(ContractCheck { key, address: irm, code_hash });
            manifest.guards.push(Guard {
                what: "the singleton that the rate model serves".to_owned(),
                check: GuardCheck::Call {
                    call: Call::new(irm, IIrm::MORPHOCall {}.abi_encode()),
                    expected: morpho.abi_encode().into(),
                },
                mend: "write the address of this singleton's AdaptiveCurveIrm in protocol.adaptive_curve_irm"
                    .to_owned(),
            });
            manifest.guards.extend(code_hash.map(|hash| code_guard("the rate model's code", irm, hash)));
        }
        manifest
    }

    fn filter(&self, _book: &Book) -> LogFilter {
        LogFilter::of([self.settings.morpho])
    }

    fn apply(&self, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
        decode::apply(&self.settings, book, block, logs)
    }

    fn reads(&self, book: &Book, _block: &BlockRef, round: u32) -> Vec<Read> {
        reads::reads(&self.settings, book, round)
    }

    fn absorb(&self, book: &Book, block: &BlockRef, answers: &[(Read, CallOutcome)]) -> Result<Delta, ApplyError> {
        reads::absorb(book, block, answers)
    }

    fn probes(&self, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
        probes::probes(&self.settings, snapshot, units)
    }

    fn cases(&self, snapshot: &Snapshot, report: &ScanReport, every: bool) -> BTreeMap<SegmentId, SegmentCase> {
        cases::cases(&self.settings, snapshot, report, every)
    }

    fn build(&self, steps: &[Step], _parties: &Parties) -> Result<Call, BuildError> {
        encode::build(&self.settings, steps)
    }

    fn classify(&self, revert: &[u8]) -> Refusal {
        refusal::classify(revert)
    }

    fn effects(&self, book: &Book, logs: &[Log]) -> Vec<Effect> {
        effects::effects(&self.settings, book, logs)
    }

    fn find_units(&self, book: &Book, word: &str) -> Vec<UnitKey> {
        let (segment, owner) = match word.split_once('/') {
            Some((segment, owner)) => (segment.parse().ok().map(SegmentId), owner),
            None => (None, word),
        };
        if let Ok(owner) = owner.parse::<Address>() {
            let of_segment = |unit: &Unit| !word.contains('/') || Some(unit.segment) == segment;
            let found = book.units().filter(|(_, unit)| unit.owner == owner && of_segment(unit));
            return found.map(|(key, _)| key.clone()).collect();
        }
        word.parse().ok().filter(|key| book.unit(key).is_some()).into_iter().collect()
    }
}

fn code_guard(what: &str, address: Address, expected: crate::types::B256) -> Guard {
    Guard {
        what: what.to_owned(),
        check: GuardCheck::CodeHash { address, expected },
        mend: "verify the new code, then pin its hash".to_owned(),
    }
}
