//! Views of the market that must return exactly what the cache says.
//!
//! Invariants: a probe's expected bytes are the ABI encoding of the view's return value at the snapshot's block; what
//! cannot be valued expects no bytes at all, so that it shows as a mismatch and is never passed over, except an account
//! whose price the oracle refuses: its view reverts, too.
//! Must not: call anything.

use alloy::sol_types::{SolCall, SolValue};

use super::{
    Settings,
    abi::{IAaveOracle, IPool, IScaledToken},
    margin::{Account, ReserveNow},
    reads::{self, UMBRELLA},
    state::{self, Category, Flags, Price, Registry, Reserve},
};
use crate::{
    positions::{Snapshot, Unit},
    protocols::{Probe, records},
    types::{Address, B256, Bytes, Call, U256, UnitKey},
};

/// Probes of these accounts and of all shared state.
pub(super) fn probes(settings: &Settings, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
    let accounts = units.iter().flat_map(|key| accounts(settings, snapshot, key));
    accounts
        .chain(reserves(settings, snapshot))
        .chain(categories(settings, snapshot))
        .chain(registry(settings, snapshot))
        .collect()
}

fn probe(subject: String, to: Address, call: impl SolCall, expected: impl Into<Bytes>) -> Probe {
    Probe { subject, call: Call::new(to, call.abi_encode()), expected: expected.into() }
}

/// A key that no event has named is an account of nothing, as the views see it.
fn accounts(settings: &Settings, snapshot: &Snapshot, key: &UnitKey) -> Vec<Probe> {
    let Some(user) = state::account_of(key) else { return Vec::new() };
    let nothing = Unit::new(state::SEGMENT, user);
    let unit = snapshot.book.unit(key).map_or(&nothing, AsRef::as_ref);
    let account = Account::of(snapshot, unit, |id| ReserveNow::load(snapshot, id));
    let data = account.ok().and_then(|account| account.view()).map(|view| view.abi_encode());
    let flags = Flags::of(unit);
    let mode = flags.map(|flags| U256::from(flags.category).abi_encode());
    let configuration = flags.map(|flags| configuration(unit, flags).abi_encode());
    let pool = settings.pool;
    vec![
        probe(
            format!("account data of {user}"),
            pool,
            IPool::getUserAccountDataCall { user },
            data.unwrap_or_default(),
        ),
        probe(
            format!("flags of {user}"),
            pool,
            IPool::getUserConfigurationCall { user },
            configuration.unwrap_or_default(),
        ),
        probe(format!("e-mode of {user}"), pool, IPool::getUserEModeCall { user }, mode.unwrap_or_default()),
    ]
}

/// Two bits a reserve: owed, flagged as collateral.
fn configuration(unit: &Unit, flags: Flags) -> U256 {
    (0..state::RESERVES_MAX).fold(U256::ZERO, |word, reserve| {
        let owed = U256::from(!state::owed(unit, reserve).is_zero());
        let flagged = U256::from(state::has(flags.collateral, reserve));
        word | (owed | flagged << 1) << (2 * reserve)
    })
}

fn reserves(settings: &Settings, snapshot: &Snapshot) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (id, reserve) in records::all::<Reserve>(&snapshot.book) {
        let Some(number) = records::number::<u32>(id) else { continue };
        let Reserve { asset, a_token, debt_token, .. } = reserve;
        let mut of_pool = |what: &str, call: Call, word: Option<U256>| {
            let expected = word.map(|word| word.abi_encode().into()).unwrap_or_default();
            probes.push(Probe { subject: format!("{what} of reserve {number}"), call, expected });
        };
        let indexes = super::margin::indexes(&reserve, snapshot.block.timestamp).ok();
        let pool = |data: Vec<u8>| Call::new(settings.pool, data);
        let view = IPool::getReserveNormalizedIncomeCall { asset }.abi_encode();
        of_pool("supply index", pool(view), indexes.map(|(supply, _)| supply));
        let view = IPool::getReserveNormalizedVariableDebtCall { asset }.abi_encode();
        of_pool("debt index", pool(view), indexes.map(|(_, debt)| debt));
        let view = IPool::getConfigurationCall { asset }.abi_encode();
        of_pool("configuration", pool(view), Some(reserve.config.0));
        let view = IPool::getReserveDeficitCall { asset }.abi_encode();
        of_pool("deficit", pool(view), Some(reserve.deficit));
        let view = IPool::getVirtualUnderlyingBalanceCall { asset }.abi_encode();
        of_pool("liquidity", pool(view), Some(reserve.liquidity));
        let view = IPool::getLiquidationGracePeriodCall { asset }.abi_encode();
        of_pool("grace period", pool(view), Some(U256::from(reserve.grace_until)));
        let total = IScaledToken::scaledTotalSupplyCall {}.abi_encode();
        of_pool("scaled supply", Call::new(a_token, total.clone()), Some(reserve.scaled_supply));
        of_pool("scaled debt", Call::new(debt_token, total), Some(reserve.scaled_debt));
        probes.extend(price(snapshot, number, asset));
    }
    probes
}

/// A price that the oracle refuses is probed through the accounts that depend on it alone.
fn price(snapshot: &Snapshot, reserve: u32, asset: Address) -> Option<Probe> {
    let registry: Registry = records::find(&snapshot.book, B256::ZERO).ok()??;
    let price: Price = records::load(&snapshot.book, u64::from(reserve)).ok()?;
    let expected = price.0?.abi_encode();
    Some(probe(
        format!("price of reserve {reserve}"),
        registry.oracle,
        IAaveOracle::getAssetPriceCall { asset },
        expected,
    ))
}

fn categories(settings: &Settings, snapshot: &Snapshot) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (id, category) in records::all::<Category>(&snapshot.book) {
        let Some(id) = records::number::<u8>(id) else { continue };
        let mut view = |what: &str, data: Vec<u8>, expected: Vec<u8>| {
            let call = Call::new(settings.pool, data);
            probes.push(Probe { subject: format!("{what} of category {id}"), call, expected: expected.into() });
        };
        let Category { ltv, threshold, bonus, collateral, borrowable, ltv_zero } = category;
        let call = IPool::getEModeCategoryCollateralConfigCall { id }.abi_encode();
        view("parameters", call, (ltv, threshold, bonus).abi_encode());
        let call = IPool::getEModeCategoryCollateralBitmapCall { id }.abi_encode();
        view("collateral", call, collateral.abi_encode());
        let call = IPool::getEModeCategoryBorrowableBitmapCall { id }.abi_encode();
        view("borrowable", call, borrowable.abi_encode());
        let call = IPool::getEModeCategoryLtvzeroBitmapCall { id }.abi_encode();
        view("ltv zero", call, ltv_zero.abi_encode());
    }
    probes
}

fn registry(settings: &Settings, snapshot: &Snapshot) -> Option<Probe> {
    let registry: Registry = records::find(&snapshot.book, B256::ZERO).ok()??;
    let call = reads::named(settings, UMBRELLA);
    Some(Probe { subject: "umbrella".to_owned(), call, expected: registry.umbrella.abi_encode().into() })
}
