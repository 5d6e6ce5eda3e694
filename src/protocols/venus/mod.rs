//! Venus isolated pools (`@venusprotocol/isolated-pools` 4.4.0): several comptrollers, each a segment of its own.
//!
//! `decode` turns logs into changes of records (`state`) and accounts (`account`), `reads` says what events do not carry;
//! `margin` and `rates` are the contracts' integer maths and `screen` the same in floating point; `liquidation` and
//! `auction` render what a keeper may do, `cases` puts it before the planner, `encode` turns it into a call; `refusal`
//! and `effects` read what came of it, `probes` hold the cache against the chain.
//!
//! An account is judged on its markets with interest up to the block, as an action would find them, and audited on their
//! stored sums, as views give them. Health is the comptroller's weighted collateral against debts; the protocol has no
//! health factor.
//!
//! Invariants: as of every adapter; figures are the contracts' own, to the last unit.
//! Must not: do I/O or read a clock.

mod abi;
mod account;
mod auction;
mod cases;
mod decode;
mod effects;
mod encode;
mod liquidation;
mod margin;
mod probes;
mod rates;
mod reads;
mod refusal;
mod screen;
mod settings;
mod state;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use alloy::{primitives::b256, sol_types::SolCall};

use self::{
    account::Account,
    encode::{HOUSE_CALLS, MARKET_CALLS, POOL_CALLS},
    margin::{At, PoolNow},
    rates::RateModel,
    state::Listing,
};
use super::{
    Adapter, Applied, ApplyError, BuildError, ContractCheck, Guard, GuardCheck, Manifest, Parties, Probe, Read, Refusal,
};
use crate::{
    positions::{Book, Delta, Record, RecordKey, Snapshot, Unit},
    recovery::{Effect, SegmentCase, Step, Tier},
    scanner::{Drivers, Factors, Planes, ScanReport, Standing, Unvalued, Valuation},
    types::{Address, B256, BlockRef, Call, CallOutcome, Log, LogFilter, SegmentId, UnitKey},
};

pub use settings::{Beacon, PinnedCode, Proxy, Settings, SettingsError};

/// The adapter's config word.
pub const NAME: &str = "venus";

/// Where a proxy keeps its implementation (EIP-1967).
const IMPLEMENTATION_SLOT: B256 = b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");
/// Where a proxy keeps its beacon (EIP-1967).
const BEACON_SLOT: B256 = b256!("a3f0ad74e5423aebfd80d3ef4346578335a9a72aeaee59ff6cb3582b35133d50");

/// The adapter of one deployment.
#[derive(Clone, Debug)]
pub struct Venus {
    settings: Settings,
}

impl Venus {
    /// An adapter of the pools that these settings name.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    fn guards(&self) -> Vec<Guard> {
        let mend = "check the upgrade against this adapter's rules, then pin the new one in [protocol]";
        let guard = |what: String, check| Guard { what, check, mend: mend.to_owned() };
        let slot = |address, slot, held: Address| GuardCheck::Storage { address, slot, expected: held.into_word() };
        let mut guards = Vec::new();
        for pinned in &self.settings.beacons {
            let call = Call::new(pinned.beacon, abi::IInherited::implementationCall {}.abi_encode());
            let expected = pinned.implementation.into_word().into();
            guards.push(guard(
                format!("implementation of beacon {}", pinned.beacon),
                GuardCheck::Call { call, expected },
            ));
            guards.extend(
                pinned
                    .proxies
                    .iter()
                    .map(|proxy| guard(format!("beacon of proxy {proxy}"), slot(*proxy, BEACON_SLOT, pinned.beacon))),
            );
        }
        guards.extend(self.settings.proxies.iter().map(|pinned| {
            let check = slot(pinned.proxy, IMPLEMENTATION_SLOT, pinned.implementation);
            guard(format!("implementation of proxy {}", pinned.proxy), check)
        }));
        guards.extend(self.settings.code_hashes.iter().map(|pinned| {
            let check = GuardCheck::CodeHash { address: pinned.contract, expected: pinned.code_hash };
            guard(format!("code of {}", pinned.contract), check)
        }));
        guards
    }
}

/// See [`super::adapter`].
pub(super) fn open(settings: serde_json::Value) -> Result<Arc<dyn Adapter>, String> {
    let settings = settings.try_into().map_err(|error: SettingsError| error.to_string())?;
    Ok(Arc::new(Venus::new(settings)))
}

impl Valuation for Venus {
    fn factors(&self, snapshot: &Snapshot) -> Result<Factors, Unvalued> {
        Ok(screen::factors(snapshot))
    }

    fn drivers(&self, snapshot: &Snapshot) -> Result<Drivers, Unvalued> {
        Ok(screen::drivers(snapshot))
    }

    fn planes(&self, snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
        screen::planes(snapshot, unit)
    }

    fn reshapes(&self, key: &RecordKey, before: Option<&Record>, after: Option<&Record>) -> bool {
        screen::reshapes(key, before, after)
    }

    fn standing(&self, snapshot: &Snapshot, key: &UnitKey, unit: &Unit) -> Result<Standing, Unvalued> {
        let (comptroller, _) = state::parse_unit_key(key)
            .ok_or_else(|| Unvalued::Missing(format!("a pool and an account in unit key {key}")))?;
        let account = Account::of(unit)?;
        let pool = PoolNow::around(&snapshot.book, comptroller, &account, &snapshot.block)?;
        pool.liquidity(&account, |_| At::Accrued)?.standing()
    }
}

impl Adapter for Venus {
    fn manifest(&self, _keeper: Address) -> Manifest {
        let Settings { comptrollers, shortfall, .. } = &self.settings;
        let check = |key, address| ContractCheck { key, address, code_hash: None };
        let pools = comptrollers.iter().map(|pool| check("comptrollers", *pool));
        let house = shortfall.iter().map(|house| check("shortfall", *house));
        let mut tiers = vec![Tier::Liquidate];
        tiers.extend(shortfall.map(|_| Tier::InsuranceFund));
        Manifest {
            adapter: NAME,
            contracts: pools.chain(house).collect(),
            roles: Vec::new(),
            allowed_calls: self.fixed_calls(),
            tiers,
            guards: self.guards(),
        }
    }

    fn filter(&self, book: &Book) -> LogFilter {
        let markets = state::all::<Listing>(book).map(|(vtoken, _)| vtoken);
        let models = state::all::<RateModel>(book).map(|(model, _)| model);
        let Settings { comptrollers, shortfall, .. } = &self.settings;
        LogFilter::of(markets.chain(models).chain(comptrollers.iter().copied()).chain(*shortfall))
    }

    fn apply(&self, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
        decode::apply(&self.settings, book, block, logs)
    }

    fn reads(&self, book: &Book, _block: &BlockRef, round: u32) -> Vec<Read> {
        reads::reads(&self.settings, book, round)
    }

    fn absorb(&self, book: &Book, _block: &BlockRef, answers: &[(Read, CallOutcome)]) -> Result<Delta, ApplyError> {
        reads::absorb(book, answers)
    }

    fn allowed_calls(&self, book: &Book, _keeper: Address) -> Vec<(Address, [u8; 4])> {
        let markets = state::all::<Listing>(book).flat_map(|(vtoken, _)| MARKET_CALLS.map(|call| (vtoken, call)));
        self.fixed_calls().into_iter().chain(markets).collect()
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

    /// Without a book only the auction house's logs are understood.
    fn effects(&self, book: &Book, logs: &[Log]) -> Vec<Effect> {
        effects::effects(&self.settings, book, logs)
    }

    fn find_units(&self, book: &Book, word: &str) -> Vec<UnitKey> {
        let known = |key: UnitKey| book.unit(&key).is_some().then_some(key);
        if let Some((segment, owner)) = word.split_once('/') {
            let named = segment.parse::<usize>().ok().zip(owner.parse().ok());
            let key = named
                .and_then(|(segment, owner)| Some(state::unit_key(*self.settings.comptrollers.get(segment)?, owner)));
            return key.and_then(known).into_iter().collect();
        }
        if let Ok(owner) = word.parse::<Address>() {
            return book.units().filter(|(_, unit)| unit.owner == owner).map(|(key, _)| key.clone()).collect();
        }
        word.parse().ok().and_then(known).into_iter().collect()
    }
}

impl Venus {
    /// Calls to the contracts that the settings name.
    fn fixed_calls(&self) -> Vec<(Address, [u8; 4])> {
        let Settings { comptrollers, shortfall, .. } = &self.settings;
        let pools = comptrollers.iter().flat_map(|pool| POOL_CALLS.map(|call| (*pool, call)));
        pools.chain(shortfall.iter().flat_map(|house| HOUSE_CALLS.map(|call| (*house, call)))).collect()
    }
}
