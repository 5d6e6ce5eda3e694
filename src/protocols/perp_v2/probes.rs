//! Views of the contracts that must return exactly what the cache says.
//!
//! Invariants: a probe's expected bytes are the ABI encoding of the view's return value at the snapshot's block; what
//! cannot be valued expects no bytes at all, so that it shows as a mismatch and is never passed over.
//! Must not: call anything.

use alloy::sol_types::{SolCall, SolValue};

use super::{
    Settings,
    abi::{IAccountBalance, IClearingHouse, IClearingHouseConfig, IInsuranceFund, IVault},
    account::Account,
    cases::FundNow,
    margin::Worth,
    state::{self, Config, Market, MarketNow, ONLY, Status, trader_of},
};
use crate::{
    positions::{Snapshot, Unit},
    protocols::Probe,
    scanner::Unvalued,
    types::{Address, Bytes, Call, U256, UnitKey},
};

/// Probes of these units and of all shared state.
pub(super) fn probes(settings: &Settings, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
    let mut probes = shared(settings, snapshot);
    for key in units {
        let Some(trader) = trader_of(key) else { continue };
        let nothing = Unit::new(state::SEGMENT, trader);
        let unit = snapshot.book.unit(key).map_or(&nothing, AsRef::as_ref);
        probes.extend(account(settings, snapshot, trader, unit));
    }
    probes
}

fn probe(subject: String, to: Address, call: impl SolCall, expected: Result<Vec<u8>, Unvalued>) -> Probe {
    let expected: Bytes = expected.unwrap_or_default().into();
    Probe { subject, call: Call::new(to, call.abi_encode()), expected }
}

fn account(settings: &Settings, snapshot: &Snapshot, trader: Address, unit: &Unit) -> Vec<Probe> {
    let Settings { clearing_house, account_balance, vault, .. } = *settings;
    let worth = Worth::of(settings, snapshot, unit);
    let of =
        |figure: &dyn Fn(&Worth) -> Result<Vec<u8>, Unvalued>| worth.as_ref().map_err(Clone::clone).and_then(figure);
    let owed = Account::of(unit).map(|account| account.owed);
    let pnl = of(&|w| Ok((owed.clone()?, w.unrealised, w.pending_fees).abi_encode()));
    let subject = |what: &str| format!("{what} of {trader}");
    let mut probes = vec![
        probe(
            subject("account value"),
            clearing_house,
            IClearingHouse::getAccountValueCall { trader },
            of(&|w| Ok(w.account_value()?.abi_encode())),
        ),
        probe(
            subject("margin requirement"),
            account_balance,
            IAccountBalance::getMarginRequirementForLiquidationCall { trader },
            of(&|w| Ok(w.requirement()?.abi_encode())),
        ),
        probe(
            subject("debt value"),
            account_balance,
            IAccountBalance::getTotalDebtValueCall { trader },
            of(&|w| Ok(w.debt_value.abi_encode())),
        ),
        probe(subject("profit and fees"), account_balance, IAccountBalance::getPnlAndPendingFeeCall { trader }, pnl),
        probe(subject("balance"), vault, IVault::getBalanceCall { trader }, Ok(unit.cash.abi_encode())),
    ];
    for position in worth.iter().flat_map(|worth| &worth.positions) {
        let Ok(market) = state::load::<Market>(&snapshot.book, state::numbered(position.market)) else { continue };
        probes.push(probe(
            format!("position of {trader} in market {}", position.market),
            account_balance,
            IAccountBalance::getTotalPositionSizeCall { trader, baseToken: market.base },
            Ok(position.size.abi_encode()),
        ));
    }
    probes
}

fn shared(settings: &Settings, snapshot: &Snapshot) -> Vec<Probe> {
    let config = state::find::<Config>(&snapshot.book, ONLY).ok().flatten().unwrap_or_default();
    let parameters = settings.clearing_house_config;
    let ratio = |ratio: u32| Ok(U256::from(ratio).abi_encode());
    let capacity = FundNow::load(settings, snapshot)
        .map(|fund| fund.capacity.abi_encode())
        .ok_or(Unvalued::Overflow("capacity of the insurance fund"));
    let mut probes = vec![
        probe(
            "maintenance margin".to_owned(),
            parameters,
            IClearingHouseConfig::getMmRatioCall {},
            ratio(config.mm_ratio),
        ),
        probe("initial margin".to_owned(), parameters, IClearingHouseConfig::getImRatioCall {}, ratio(config.im_ratio)),
        probe(
            "capacity of the insurance fund".to_owned(),
            settings.insurance_fund,
            IInsuranceFund::getInsuranceFundCapacityCall {},
            capacity,
        ),
    ];
    for (id, market) in state::all::<Market>(&snapshot.book).filter(|(_, market)| market.status == Status::Open) {
        let now = state::find::<MarketNow>(&snapshot.book, id).ok().flatten();
        // A market too young for a mark price has none on the chain either.
        let Some(now) = now.filter(|now| !now.mark.is_zero()) else { continue };
        let mark = if now.block == snapshot.block.number { Ok(now.mark.abi_encode()) } else { Ok(Vec::new()) };
        let call = IAccountBalance::getMarkPriceCall { baseToken: market.base };
        probes.push(probe(format!("mark price of {}", market.base), settings.account_balance, call, mark));
    }
    probes
}
