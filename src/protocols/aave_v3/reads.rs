//! State that events do not carry: what the registry names, a new reserve's decimals, prices and the sentinel's word.
//!
//! Prices and the sentinel are asked for at every block, the rest once. Later rounds ask for what is missing only: prices
//! of reserves that have none, after the first answers named the oracle.
//!
//! Invariants: what is asked depends on the book alone; an oracle that gives no price is a known absence, an account that
//! depends on it cannot be valued; any other revert is an error, since these views never revert on a market of this revision.
//! Must not: call anything.

use alloy::{primitives::b256, sol_types::SolCall};

use super::{
    Settings,
    abi::{IAaveOracle, IPool, IPoolAddressesProvider, IPriceOracleSentinel},
    config::Config,
    decode::id,
    state::{Price, Registry, Reserve, Sentinel},
};
use crate::{
    positions::{Book, Delta, Draft, RecordKey},
    protocols::{
        ApplyError, Read,
        records::{self, Stored},
    },
    types::{Address, B256, Call, CallOutcome, U256},
};

/// The registry's word for its oracle: `PRICE_ORACLE`.
const PRICE_ORACLE: B256 = b256!("50524943455f4f5241434c450000000000000000000000000000000000000000");
/// For its sentinel: `PRICE_ORACLE_SENTINEL`.
const PRICE_ORACLE_SENTINEL: B256 = b256!("50524943455f4f5241434c455f53454e54494e454c0000000000000000000000");
/// For who covers deficits: `UMBRELLA`.
pub(super) const UMBRELLA: B256 = b256!("554d4252454c4c41000000000000000000000000000000000000000000000000");

/// A view of the registry: the address it holds under this word.
pub(super) fn named(settings: &Settings, word: B256) -> Call {
    Call::new(settings.addresses_provider, IPoolAddressesProvider::getAddressCall { id: word }.abi_encode())
}

/// See the module.
pub(super) fn reads(settings: &Settings, book: &Book, round: u32) -> Vec<Read> {
    let mut wanted = Vec::new();
    let reserves: Vec<(B256, Reserve)> = records::all(book).collect();
    for (number, reserve) in &reserves {
        if reserve.config.token_unit().is_none() {
            let call = IPool::getConfigurationCall { asset: reserve.asset }.abi_encode();
            let record = RecordKey { kind: Reserve::KIND, id: *number };
            wanted.push(Read { record, call: Call::new(settings.pool, call) });
        }
    }
    let registry = RecordKey { kind: Registry::KIND, id: B256::ZERO };
    let Ok(Some(Registry { oracle, sentinel, .. })) = records::find(book, B256::ZERO) else {
        let words = [PRICE_ORACLE, PRICE_ORACLE_SENTINEL, UMBRELLA];
        wanted.extend(words.map(|word| Read { record: registry, call: named(settings, word) }));
        return wanted;
    };
    let stale = |record: &RecordKey| round == 0 || book.record(record).is_none();
    for (number, reserve) in reserves {
        let record = RecordKey { kind: Price::KIND, id: number };
        if !oracle.is_zero() && stale(&record) {
            let call = IAaveOracle::getAssetPriceCall { asset: reserve.asset }.abi_encode();
            wanted.push(Read { record, call: Call::new(oracle, call) });
        }
    }
    let record = RecordKey { kind: Sentinel::KIND, id: B256::ZERO };
    if !sentinel.is_zero() && stale(&record) {
        let call = IPriceOracleSentinel::isLiquidationAllowedCall {}.abi_encode();
        wanted.push(Read { record, call: Call::new(sentinel, call) });
    }
    wanted
}

/// See [`reads`].
pub(super) fn absorb(settings: &Settings, book: &Book, answers: &[(Read, CallOutcome)]) -> Result<Delta, ApplyError> {
    let mut draft = Draft::new(book);
    let mut registry = Registry::default();
    for (read, outcome) in answers {
        let refused = |what: &str| ApplyError::Answer(format!("{} {what}", describe(settings, read)));
        let word = match outcome {
            CallOutcome::Returned(data) => Some(U256::try_from_be_slice(data).filter(|_| data.len() == 32)),
            CallOutcome::Reverted(_) => None,
        };
        let told = || word.ok_or_else(|| refused("is a revert"))?.ok_or_else(|| refused("is not one word"));
        let record = match read.record.kind {
            Reserve::KIND => {
                let reserve: Option<Reserve> = records::find(book, read.record.id).ok().flatten();
                let mut reserve = reserve.ok_or_else(|| refused("is of no reserve"))?;
                reserve.config = Config(told()?);
                if reserve.config.token_unit().is_none() {
                    return Err(refused("has no decimals"));
                }
                reserve.to_record()
            }
            Price::KIND => Price(word.flatten()).to_record(),
            Sentinel::KIND => {
                let allows = word.flatten().is_some_and(|word| !word.is_zero());
                Sentinel { allows_liquidation: allows }.to_record()
            }
            Registry::KIND => {
                let address = Address::from_word(B256::from(told()?));
                match read.call {
                    ref call if *call == named(settings, PRICE_ORACLE) => registry.oracle = address,
                    ref call if *call == named(settings, PRICE_ORACLE_SENTINEL) => registry.sentinel = address,
                    _ => registry.umbrella = address,
                }
                registry.to_record()
            }
            _ => return Err(refused("was not asked for")),
        };
        draft.set_record(read.record, Some(record));
    }
    Ok(draft.finish())
}

fn describe(settings: &Settings, read: &Read) -> String {
    match read.record.kind {
        Reserve::KIND => format!("getConfiguration of {}", settings.pool),
        Registry::KIND => format!("getAddress of {}", settings.addresses_provider),
        _ => format!("a view of {}", read.call.to),
    }
}

/// Whether accounts at a health factor of 0.95 and more may be liquidated: so without a sentinel, else as it says.
pub(super) fn sentinel_allows(book: &Book) -> bool {
    let registry: Option<Registry> = records::find(book, B256::ZERO).ok().flatten();
    let sentinel: Option<Sentinel> = records::find(book, id(0)).ok().flatten();
    registry.is_some_and(|registry| registry.sentinel.is_zero())
        || sentinel.is_some_and(|sentinel| sentinel.allows_liquidation)
}
