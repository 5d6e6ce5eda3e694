//! Aave v3.6 (pool revision 10): one pool of reserves, accounts with collateral and debt in any of them, e-mode.
//!
//! `decode` and `listing` turn logs into changes of records (`state`) and accounts, `reads` asks for what logs do not carry;
//! `margin` values an account exactly and `screen` in floating point; `liquidation` is what one call does, `choice` which
//! are possible, `cases` renders both with the pool's deficits for the planner; `encode` turns intents into a call,
//! `refusal` and `effects` read what came of it, `probes` hold the cache against the chain.
//!
//! Rounding differs between revisions of the pool: a guard halts the deployment on any other than revision 10. History from
//! before revision 9 (v3.5) rounds balances otherwise, so a deployment must be indexed from a market that began with it.
//!
//! Invariants: as of every adapter; figures are the pool's own, to the last unit.
//! Must not: do I/O or read a clock.

mod abi;
mod cases;
mod choice;
mod config;
mod decode;
mod effects;
mod encode;
mod liquidation;
mod listing;
mod margin;
mod probes;
mod ray;
mod reads;
mod refusal;
mod screen;
mod settings;
mod state;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use alloy::{
    primitives::b256,
    sol_types::{SolCall, SolValue},
};

use self::{
    abi::IPool,
    margin::{Account, ReserveNow},
    state::Reserve,
};
use super::{
    Adapter, Applied, ApplyError, BuildError, ContractCheck, Guard, GuardCheck, Manifest, Parties, Probe, Read,
    Refusal, RoleCheck, records,
};
use crate::{
    positions::{Book, Delta, Record, RecordKey, Snapshot, Unit},
    recovery::{Effect, SegmentCase, Step, Tier},
    scanner::{Drivers, Factors, Planes, ScanReport, Standing, Unvalued, Valuation},
    types::{Address, B256, BlockRef, Call, CallOutcome, Log, LogFilter, SegmentId, U256, UnitKey},
};

pub use settings::{Settings, SettingsError};

/// The adapter's config word.
pub const NAME: &str = "aave_v3";

/// The revision whose rules these are.
const POOL_REVISION: u64 = 10;
/// Where a proxy keeps its implementation, EIP-1967.
const IMPLEMENTATION_SLOT: B256 = b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");
/// The registry's word for its pool: `POOL`.
const POOL: B256 = b256!("504f4f4c00000000000000000000000000000000000000000000000000000000");
/// For its configurator: `POOL_CONFIGURATOR`.
const POOL_CONFIGURATOR: B256 = b256!("504f4f4c5f434f4e464947555241544f52000000000000000000000000000000");

/// The adapter of one market.
#[derive(Clone, Debug)]
pub struct AaveV3 {
    settings: Settings,
}

impl AaveV3 {
    /// An adapter of the contracts that these settings name.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn guards(&self) -> Vec<Guard> {
        let Settings { addresses_provider, pool, pool_configurator, .. } = self.settings;
        let named = |what: &str, word: B256, expected: Address| Guard {
            what: format!("{what} of {addresses_provider}"),
            check: GuardCheck::Call {
                call: reads::named(&self.settings, word),
                expected: expected.abi_encode().into(),
            },
            mend: "write the addresses of one market".to_owned(),
        };
        let revision = Guard {
            what: "POOL_REVISION".to_owned(),
            check: GuardCheck::Call {
                call: Call::new(pool, IPool::POOL_REVISIONCall {}.abi_encode()),
                expected: U256::from(POOL_REVISION).abi_encode().into(),
            },
            mend: "the pool was upgraded; run a build whose adapter knows the new revision".to_owned(),
        };
        let pinned = self.settings.implementation_word().map(|expected| Guard {
            what: "implementation of the pool's proxy".to_owned(),
            check: GuardCheck::Storage { address: pool, slot: IMPLEMENTATION_SLOT, expected },
            mend: "verify the new implementation, then pin it as protocol.pool_implementation".to_owned(),
        });
        let fixed =
            [revision, named("POOL", POOL, pool), named("POOL_CONFIGURATOR", POOL_CONFIGURATOR, pool_configurator)];
        fixed.into_iter().chain(pinned).collect()
    }
}

/// See [`super::adapter`].
pub(super) fn open(settings: serde_json::Value) -> Result<Arc<dyn Adapter>, String> {
    let settings = settings.try_into().map_err(|error: SettingsError| error.to_string())?;
    Ok(Arc::new(AaveV3::new(settings)))
}

impl Valuation for AaveV3 {
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
        Account::of(snapshot, unit, |id| ReserveNow::load(snapshot, id))?.standing()
    }
}

impl Adapter for AaveV3 {
    fn manifest(&self, keeper: Address) -> Manifest {
        let Settings { addresses_provider, pool, pool_configurator, umbrella, .. } = self.settings;
        let contract = |key, address| ContractCheck { key, address, code_hash: None };
        let mut manifest = Manifest {
            adapter: NAME,
            contracts: vec![
                contract("addresses_provider", addresses_provider),
                contract("pool", pool),
                contract("pool_configurator", pool_configurator),
            ],
            roles: Vec::new(),
            allowed_calls: vec![(pool, IPool::liquidationCallCall::SELECTOR), (pool, IPool::multicallCall::SELECTOR)],
            tiers: vec![Tier::Liquidate],
            guards: self.guards(),
        };
        if umbrella.is_some() {
            manifest.roles.push(RoleCheck {
                role: "UMBRELLA",
                needed_for: vec![Tier::InsuranceFund],
                call: reads::named(&self.settings, reads::UMBRELLA),
                expected: Some(keeper.abi_encode().into()),
                mend: format!(
                    "let the owner of {addresses_provider} call setAddress({}, {keeper}), or leave protocol.umbrella out",
                    reads::UMBRELLA
                ),
            });
            manifest.allowed_calls.push((pool, IPool::eliminateReserveDeficitCall::SELECTOR));
            manifest.tiers.push(Tier::InsuranceFund);
        }
        manifest
    }

    fn filter(&self, book: &Book) -> LogFilter {
        let Settings { addresses_provider, pool, pool_configurator, .. } = self.settings;
        let receipts = records::all::<Reserve>(book).flat_map(|(_, reserve)| [reserve.a_token, reserve.debt_token]);
        LogFilter::of(receipts.chain([addresses_provider, pool, pool_configurator]))
    }

    fn apply(&self, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
        decode::apply(&self.settings, book, block, logs)
    }

    fn reads(&self, book: &Book, _block: &BlockRef, round: u32) -> Vec<Read> {
        reads::reads(&self.settings, book, round)
    }

    fn absorb(&self, book: &Book, _block: &BlockRef, answers: &[(Read, CallOutcome)]) -> Result<Delta, ApplyError> {
        reads::absorb(&self.settings, book, answers)
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
        let account = word.parse::<Address>().map(state::unit_key).ok();
        account.filter(|key| book.unit(key).is_some()).into_iter().collect()
    }
}
