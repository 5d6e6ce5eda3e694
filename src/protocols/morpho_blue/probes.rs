//! Views of the contracts that must return exactly what the cache says.
//!
//! Asked for the given units and for the markets they are in; units are audited in turn, so every market's turn comes.
//!
//! Invariants: a probe's expected bytes are the ABI encoding of the view's return value at the snapshot's block; a record
//! that is missing or malformed expects no bytes at all, so that it shows as a mismatch.
//! Must not: call anything.

use std::collections::BTreeSet;

use alloy::{
    primitives::{B256, keccak256},
    sol_types::{SolCall, SolValue},
};

use super::{
    Settings,
    abi::{IIrm, IMorpho, IOracle},
    interest, reads,
    state::{self, Curve, Market, Price, Totals},
};
use crate::{
    positions::{LegKind, Snapshot},
    protocols::Probe,
    types::{Address, Bytes, Call, U256, UnitKey},
};

/// Storage slot of the singleton's mapping of markets.
const MARKETS_SLOT: U256 = U256::from_limbs([3, 0, 0, 0]);

/// Probes of these units and of the shared state behind them.
pub(super) fn probes(settings: &Settings, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
    let keys: Vec<(B256, Address)> = units.iter().filter_map(state::parse_unit_key).collect();
    let markets: BTreeSet<B256> = keys.iter().map(|(id, _)| *id).collect();
    let recipient = state::fee_recipient(&snapshot.book).map(|address| address.abi_encode());
    let mut probes = vec![probe(
        "fee recipient".to_owned(),
        settings.morpho,
        IMorpho::feeRecipientCall {},
        recipient.unwrap_or_default(),
    )];
    probes.extend(keys.into_iter().map(|(id, owner)| position(settings, snapshot, id, owner)));
    for id in markets {
        probes.extend(shared(settings, snapshot, id));
    }
    probes
}

fn probe(subject: String, to: Address, call: impl SolCall, expected: impl Into<Bytes>) -> Probe {
    Probe { subject, call: Call::new(to, call.abi_encode()), expected: expected.into() }
}

/// A key that no event has named is an account of nothing, as the view sees it.
fn position(settings: &Settings, snapshot: &Snapshot, id: B256, owner: Address) -> Probe {
    let unit = snapshot.book.unit(&state::unit_key(id, owner));
    let held = |kind| {
        let leg = unit.and_then(|unit| unit.leg(state::market_id(unit.segment.0), kind));
        leg.map_or(U256::ZERO, |leg| leg.quantity.unsigned_abs())
    };
    let expected = (held(LegKind::Supply), held(LegKind::Debt), held(LegKind::Collateral)).abi_encode();
    let call = IMorpho::positionCall { id, user: owner };
    probe(format!("position of {owner} in market {id}"), settings.morpho, call, expected)
}

/// Probes of one market: its totals, its rate and its price, as far as the cache keeps them.
fn shared(settings: &Settings, snapshot: &Snapshot, id: B256) -> Vec<Probe> {
    let book = &snapshot.book;
    let known = || {
        let number = state::number_of(book, id).ok().flatten()?;
        let market: Market = state::load(book, number.into()).ok()?;
        let totals: Totals = state::load(book, number.into()).ok()?;
        Some((number, market, totals))
    };
    let Some((number, market, totals)) = known() else {
        let call = IMorpho::marketCall { id };
        return vec![probe(format!("totals of market {id}"), settings.morpho, call, Bytes::new())];
    };
    let mut probes = vec![totals_probe(settings, &market, &totals)];
    if totals.borrow_shares.is_zero() || !settings.markets.contain(&id) {
        return probes;
    }
    if let Ok(Some(Price(price))) = state::find(book, market.oracle.into_word()) {
        let subject = format!("price of oracle {}", market.oracle);
        probes.push(probe(subject, market.oracle, IOracle::priceCall {}, price.abi_encode()));
    }
    if settings.adaptive_curve_irm == Some(market.irm) {
        let curve: Option<Curve> = state::load(book, number.into()).ok();
        let now = snapshot.block.timestamp;
        let rate = curve.and_then(|curve| interest::adaptive_curve_rate(&totals, curve.rate_at_target_wad, now));
        let expected = rate.map(|rate| rate.abi_encode()).unwrap_or_default();
        if let Some(state) = reads::market_state(&totals) {
            let call = IIrm::borrowRateViewCall { marketParams: market.params(), market: state };
            probes.push(probe(format!("borrow rate of market {id}"), market.irm, call, expected));
        }
    }
    probes
}

/// An accrual of a market without a rate model leaves no event, only a new time of update; of such a market the words that
/// hold supply and debt are looked at.
fn totals_probe(settings: &Settings, market: &Market, totals: &Totals) -> Probe {
    let subject = format!("totals of market {}", market.id);
    if market.irm.is_zero() {
        let slot = U256::from_be_bytes(keccak256((market.id, MARKETS_SLOT).abi_encode()).0);
        let slots = vec![slot.into(), (slot + U256::ONE).into()];
        let packed = |assets: U256, shares: U256| B256::from(shares << 128 | assets);
        let words = vec![
            packed(totals.supply_assets, totals.supply_shares),
            packed(totals.borrow_assets, totals.borrow_shares),
        ];
        return probe(subject, settings.morpho, IMorpho::extSloadsCall { slots }, words.abi_encode());
    }
    let expected = reads::market_state(totals).map(|state| state.abi_encode()).unwrap_or_default();
    probe(subject, settings.morpho, IMorpho::marketCall { id: market.id }, expected)
}
