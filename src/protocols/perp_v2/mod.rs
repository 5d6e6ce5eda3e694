//! Perpetual Protocol v2 ("Curie"), contracts 2.8: perpetual futures on virtual pools of Uniswap v3.
//!
//! A unit is a trader's account across all markets. `decode` turns logs into changes of records (`state`) and accounts
//! (`account`); `reads` says what events do not carry; `funding` and `ticks` do the pool's and the exchange's maths,
//! `margin` values an account exactly and `screen` in floating point; `cases` says what a keeper may do, `encode` turns
//! it into a call, `refusal` and `effects` read what came of it, `probes` hold the cache against the chain.
//!
//! Prices are those of the protocol's own view: the mark price is a median of two averages of the pool and an index with
//! premium, so it moves with time and trades alike and is read at every block; the screen has it as one factor a market.
//!
//! Not done here: other collateral than the settlement token is valued exactly but not liquidated
//! (`Vault.liquidateCollateral`), and the keeper's own positions are not closed.
//!
//! Invariants: as of every adapter; figures are the contracts' own, to the last unit.
//! Must not: do I/O or read a clock.

mod abi;
mod account;
mod cases;
mod decode;
mod effects;
mod encode;
mod funding;
mod margin;
mod probes;
mod reads;
mod refusal;
mod screen;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod ticks;

use std::{collections::BTreeMap, sync::Arc};

use alloy::sol_types::{SolCall, SolValue};

use self::{
    abi::{IClearingHouse, IVault},
    margin::Worth,
    state::{CollateralSource, Fund, ONLY, Part},
};
use super::{
    Adapter, Applied, ApplyError, BuildError, ContractCheck, Guard, GuardCheck, Manifest, Parties, Probe, Read, Refusal,
};
use crate::{
    positions::{Book, Delta, Snapshot, Unit},
    recovery::{Effect, SegmentCase, Step, Tier},
    scanner::{Drivers, Factors, Planes, ScanReport, Standing, Unvalued, Valuation},
    types::{
        Address, B256, BlockRef, Call, CallOutcome, Log, LogFilter, SegmentId, U256, UnitKey, math::positive_part,
    },
};

pub use settings::{Settings, SettingsError};

/// The adapter's config word.
pub const NAME: &str = "perp_v2";

/// Where an EIP-1967 proxy keeps its implementation: keccak256("eip1967.proxy.implementation") − 1.
const IMPLEMENTATION_SLOT: B256 =
    alloy::primitives::b256!("360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc");

/// The adapter of one deployment of the protocol.
#[derive(Clone, Debug)]
pub struct PerpV2 {
    settings: Settings,
}

impl PerpV2 {
    /// An adapter of the contracts that these settings name.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }
}

/// See [`super::adapter`].
pub(super) fn open(settings: serde_json::Value) -> Result<Arc<dyn Adapter>, String> {
    let settings = settings.try_into().map_err(|error: SettingsError| error.to_string())?;
    Ok(Arc::new(PerpV2::new(settings)))
}

impl Valuation for PerpV2 {
    fn factors(&self, snapshot: &Snapshot) -> Result<Factors, Unvalued> {
        screen::factors(&self.settings, snapshot)
    }

    fn drivers(&self, snapshot: &Snapshot) -> Result<Drivers, Unvalued> {
        screen::drivers(&self.settings, snapshot)
    }

    fn planes(&self, snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
        screen::planes(&self.settings, snapshot, unit)
    }

    fn standing(&self, snapshot: &Snapshot, _key: &UnitKey, unit: &Unit) -> Result<Standing, Unvalued> {
        Worth::of(&self.settings, snapshot, unit)?.standing()
    }
}

impl Adapter for PerpV2 {
    fn manifest(&self, _keeper: Address) -> Manifest {
        let settings = &self.settings;
        let contracts = settings.contracts().map(|(key, address)| ContractCheck {
            key,
            address,
            code_hash: settings.code_hashes.get(key).copied(),
        });
        Manifest {
            adapter: NAME,
            contracts: contracts.into(),
            roles: Vec::new(),
            allowed_calls: encode::allowed(settings),
            tiers: vec![Tier::Liquidate, Tier::InsuranceFund],
            guards: self.guards(),
        }
    }

    fn filter(&self, book: &Book) -> LogFilter {
        let parts = state::all::<Part>(book).map(|(id, _)| Address::from_word(id));
        let source = state::find::<CollateralSource>(book, ONLY).ok().flatten().map(|source| source.0);
        LogFilter::of(self.settings.contracts().map(|(_, address)| address).into_iter().chain(parts).chain(source))
    }

    fn apply(&self, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
        decode::apply(&self.settings, book, block, logs)
    }

    fn reads(&self, book: &Book, block: &BlockRef, round: u32) -> Vec<Read> {
        reads::reads(&self.settings, book, block, round)
    }

    fn absorb(&self, book: &Book, block: &BlockRef, answers: &[(Read, CallOutcome)]) -> Result<Delta, ApplyError> {
        reads::absorb(&self.settings, book, block, answers)
    }

    fn probes(&self, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
        probes::probes(&self.settings, snapshot, units)
    }

    fn cases(&self, snapshot: &Snapshot, report: &ScanReport, every: bool) -> BTreeMap<SegmentId, SegmentCase> {
        cases::cases(&self.settings, snapshot, report, every)
    }

    fn build(&self, steps: &[Step], parties: &Parties) -> Result<Call, BuildError> {
        encode::build(&self.settings, steps, parties)
    }

    fn classify(&self, revert: &[u8]) -> Refusal {
        refusal::classify(revert)
    }

    fn effects(&self, book: &Book, logs: &[Log]) -> Vec<Effect> {
        let fund = state::find::<Fund>(book, ONLY).ok().flatten().unwrap_or_default();
        let capacity = cases::FundNow::of(&self.settings, &fund).unwrap_or_default().capacity;
        effects::effects(&self.settings, positive_part(capacity), logs)
    }

    fn find_units(&self, book: &Book, word: &str) -> Vec<UnitKey> {
        let key = word.parse::<Address>().ok().map(state::unit_key).or_else(|| word.parse().ok());
        key.filter(|key| book.unit(key).is_some()).into_iter().collect()
    }
}

impl PerpV2 {
    /// The contracts are wired as configured, the settlement token is what it is taken for, and what the operator pinned
    /// is unchanged.
    fn guards(&self) -> Vec<Guard> {
        let settings = &self.settings;
        let house = settings.clearing_house;
        let wired = [
            ("vault", settings.vault, IClearingHouse::getVaultCall {}.abi_encode()),
            ("exchange", settings.exchange, IClearingHouse::getExchangeCall {}.abi_encode()),
            ("order_book", settings.order_book, IClearingHouse::getOrderBookCall {}.abi_encode()),
            ("account_balance", settings.account_balance, IClearingHouse::getAccountBalanceCall {}.abi_encode()),
            ("insurance_fund", settings.insurance_fund, IClearingHouse::getInsuranceFundCall {}.abi_encode()),
            (
                "clearing_house_config",
                settings.clearing_house_config,
                IClearingHouse::getClearingHouseConfigCall {}.abi_encode(),
            ),
        ];
        let wiring = wired.map(|(key, address, call)| Guard {
            what: format!("{key} of the clearing house"),
            check: GuardCheck::Call { call: Call::new(house, call), expected: address.abi_encode().into() },
            mend: format!("set {key} to the address that the clearing house names, or mend clearing_house"),
        });
        let token = [
            (
                "settlement token of the vault",
                IVault::getSettlementTokenCall {}.abi_encode(),
                settings.settlement_token.abi_encode(),
                "set settlement_token to it",
            ),
            (
                "decimals of the vault",
                IVault::decimalsCall {}.abi_encode(),
                U256::from(settings.settlement_decimals).abi_encode(),
                "set settlement_decimals to them",
            ),
        ]
        .map(|(what, call, expected, mend)| Guard {
            what: what.to_owned(),
            check: GuardCheck::Call { call: Call::new(settings.vault, call), expected: expected.into() },
            mend: mend.to_owned(),
        });
        let contracts: BTreeMap<&str, Address> = settings.contracts().into();
        let pinned = settings.implementations.iter().map(|(key, implementation)| Guard {
            what: format!("implementation of {key}'s proxy"),
            check: GuardCheck::Storage {
                address: contracts[key],
                slot: IMPLEMENTATION_SLOT,
                expected: implementation.into_word(),
            },
            mend: format!("read what the new implementation changed; then pin it in implementations.{key}"),
        });
        let hashed = settings.code_hashes.iter().map(|(key, expected)| Guard {
            what: format!("code of {key}"),
            check: GuardCheck::CodeHash { address: contracts[key], expected: *expected },
            mend: format!("read what the new code changed; then pin its hash in code_hashes.{key}"),
        });
        wiring.into_iter().chain(token).chain(pinned).chain(hashed).collect()
    }
}
