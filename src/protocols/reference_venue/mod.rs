//! The reference venue: a perpetual-futures clearinghouse with every rung of the waterfall on chain.
//!
//! `decode` turns logs into changes of records (`state`) and units; `margin` values a unit exactly and `screen` in
//! floating point; `cases`, `measures` and `depth` render a segment for the planner; `encode` turns its steps into a call, `refusal`
//! and `effects` read what came of it, `probes` hold the cache against the chain.
//!
//! Invariants: as of every adapter; figures are the venue's own, to the last unit.
//! Must not: do I/O or read a clock.

mod abi;
mod cases;
mod decode;
mod depth;
mod effects;
mod encode;
mod history;
mod margin;
mod measures;
mod pool;
mod probes;
mod refusal;
mod screen;
mod settings;
mod shock;
mod state;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use alloy::{primitives::keccak256, sol_types::SolCall};

use self::{
    abi::{IAccessControl, IBackstopPool, IClearinghouse, IRiskSteward},
    margin::{Account, MarketNow},
    state::Feed,
};
use super::{
    Adapter, Applied, ApplyError, BuildError, ContractCheck, Manifest, Parties, Probe, Refusal, RoleCheck, Shock,
};
use crate::{
    positions::{Book, Record, RecordKey, Snapshot, Unit},
    recovery::{Effect, SegmentCase, Step, Tier},
    scanner::{Drivers, Factors, Planes, ScanReport, Standing, Unvalued, Valuation},
    types::{Address, B256, BlockRef, Call, Log, LogFilter, SegmentId, UnitKey},
};

pub use settings::{Membership, Settings, SettingsError};

/// The adapter's config word.
pub const NAME: &str = "reference_venue";

/// The adapter of one deployment of the venue.
#[derive(Clone, Debug)]
pub struct ReferenceVenue {
    settings: Settings,
}

impl ReferenceVenue {
    /// An adapter of the contracts that these settings name.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

/// See [`super::adapter`].
pub(super) fn open(settings: serde_json::Value) -> Result<Arc<dyn Adapter>, String> {
    let settings = settings.try_into().map_err(|error: SettingsError| error.to_string())?;
    Ok(Arc::new(ReferenceVenue::new(settings)))
}

impl Valuation for ReferenceVenue {
    fn factors(&self, snapshot: &Snapshot) -> Result<Factors, Unvalued> {
        screen::factors(snapshot)
    }

    fn drivers(&self, snapshot: &Snapshot) -> Result<Drivers, Unvalued> {
        screen::drivers(snapshot)
    }

    fn planes(&self, snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
        screen::planes(snapshot, unit)
    }

    fn reshapes(&self, key: &RecordKey, before: Option<&Record>, after: Option<&Record>) -> bool {
        screen::reshapes(key, before, after)
    }

    fn standing(&self, snapshot: &Snapshot, _key: &UnitKey, unit: &Unit) -> Result<Standing, Unvalued> {
        Account::of(unit, |id| MarketNow::load(snapshot, id))?.standing()
    }
}

impl Adapter for ReferenceVenue {
    fn manifest(&self, keeper: Address) -> Manifest {
        let settings = &self.settings;
        let clearinghouse = settings.clearinghouse;
        let mut manifest = Manifest {
            adapter: NAME,
            contracts: vec![ContractCheck {
                key: "clearinghouse",
                address: clearinghouse,
                code_hash: settings.clearinghouse_code_hash,
            }],
            roles: vec![role(
                "KEEPER_ROLE",
                keeper,
                clearinghouse,
                vec![
                    Tier::InsuranceFund,
                    Tier::AutoDeleverage,
                    Tier::SocialiseLoss,
                    Tier::GateWithdrawals,
                    Tier::Restitute,
                ],
            )],
            allowed_calls: [
                IClearinghouse::liquidateCall::SELECTOR,
                IClearinghouse::drawInsuranceCall::SELECTOR,
                IClearinghouse::autoDeleverageCall::SELECTOR,
                IClearinghouse::socialiseLossCall::SELECTOR,
                IClearinghouse::shutWithdrawalsCall::SELECTOR,
                IClearinghouse::openWithdrawalsCall::SELECTOR,
                IClearinghouse::payClaimsCall::SELECTOR,
                IClearinghouse::multicallCall::SELECTOR,
            ]
            .map(|selector| (clearinghouse, selector))
            .into(),
            tiers: vec![
                Tier::Liquidate,
                Tier::InsuranceFund,
                Tier::AutoDeleverage,
                Tier::SocialiseLoss,
                Tier::GateWithdrawals,
                Tier::Restitute,
            ],
            guards: Vec::new(),
        };
        if let Some(steward) = settings.steward {
            let code_hash = settings.steward_code_hash;
            manifest.contracts.push(ContractCheck { key: "steward", address: steward, code_hash });
            manifest.roles.push(role("MOVER_ROLE", keeper, steward, vec![Tier::Recalibrate]));
            manifest.roles.push(role("STEWARD_ROLE", steward, clearinghouse, vec![Tier::Recalibrate]));
            manifest.allowed_calls.push((steward, IRiskSteward::moveMarginCall::SELECTOR));
            manifest.tiers.push(Tier::Recalibrate);
        }
        if let Some(Membership { pool, member }) = settings.backstop {
            manifest.contracts.push(ContractCheck { key: "backstop_pool", address: pool, code_hash: None });
            manifest.contracts.push(ContractCheck { key: "backstop_member", address: member, code_hash: None });
            manifest.roles.push(RoleCheck {
                role: "operator of the backstop pool's member",
                needed_for: vec![Tier::SharedBackstop],
                call: Call::new(pool, IBackstopPool::isOperatorCall { member, account: keeper }.abi_encode()),
                expected: None,
                mend: format!("let the admin of {pool} name {keeper} as operator of {member} with setMember"),
            });
            let selectors = [IBackstopPool::claimCall::SELECTOR, IBackstopPool::drawCall::SELECTOR];
            manifest.allowed_calls.extend(selectors.map(|selector| (pool, selector)));
            manifest.tiers.push(Tier::SharedBackstop);
        }
        manifest
    }

    fn filter(&self, book: &Book) -> LogFilter {
        let listed = state::all::<Feed>(book).map(|(id, _)| Address::from_word(id));
        let Settings { clearinghouse, steward, feeds, backstop, .. } = &self.settings;
        let pool = backstop.map(|membership| membership.pool);
        LogFilter::of(listed.chain([*clearinghouse]).chain(*steward).chain(pool).chain(feeds.iter().copied()))
    }

    fn apply(&self, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
        decode::apply(&self.settings, book, block, logs)
    }

    fn probes(&self, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
        probes::probes(&self.settings, snapshot, units)
    }

    fn cases(&self, snapshot: &Snapshot, report: &ScanReport, every: bool) -> BTreeMap<SegmentId, SegmentCase> {
        cases::cases(&self.settings, snapshot, report, every)
    }

    fn build(&self, steps: &[Step], parties: &Parties) -> Result<Call, BuildError> {
        encode::build(&self.settings, steps, parties.proceeds)
    }

    fn classify(&self, revert: &[u8]) -> Refusal {
        refusal::classify(revert)
    }

    fn effects(&self, _: &Book, logs: &[Log]) -> Vec<Effect> {
        effects::effects(&self.settings, logs)
    }

    fn shocked(&self, snapshot: &Snapshot, shocks: &[Shock]) -> Result<Snapshot, String> {
        shock::shocked(snapshot, shocks)
    }

    fn find_units(&self, book: &Book, word: &str) -> Vec<UnitKey> {
        let known = |key: UnitKey| book.unit(&key).is_some().then_some(key);
        if let Some((segment, owner)) = word.split_once('/') {
            let named = segment.parse().ok().zip(owner.parse().ok());
            return named.map(|(segment, owner)| state::unit_key(segment, owner)).and_then(known).into_iter().collect();
        }
        if let Ok(owner) = word.parse::<Address>() {
            return book.units().filter(|(_, unit)| unit.owner == owner).map(|(key, _)| key.clone()).collect();
        }
        word.parse().ok().and_then(known).into_iter().collect()
    }
}

fn role(name: &'static str, holder: Address, contract: Address, needed_for: Vec<Tier>) -> RoleCheck {
    let role: B256 = keccak256(name);
    let call = IAccessControl::hasRoleCall { role, account: holder };
    RoleCheck {
        role: name,
        needed_for,
        call: Call::new(contract, call.abi_encode()),
        expected: None,
        mend: format!("let the admin of {contract} call grantRole({role}, {holder})"),
    }
}
