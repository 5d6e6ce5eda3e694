//! A mined transaction's logs → what it did, in the words of the waterfall.
//!
//! Bad debt that the protocol settles is booked on the insurance fund in the same call, so it is bad debt and, as far as the
//! fund can pay, covered. Of the rest the fund's account in the vault goes below zero: the next case's deficit.
//!
//! Must not: read anything but the logs and what the fund had.

use std::collections::BTreeMap;

use alloy::sol_types::SolEvent;

use super::{
    Settings,
    abi::{IClearingHouse, IInsuranceFund, IVault},
    state::{SEGMENT, unit_key},
};
use crate::{
    recovery::{Effect, Scope, Tier},
    types::{Address, Log, U256},
};

/// Effects in the order of the logs; logs of other contracts say nothing here. `capacity`: what the insurance fund could
/// pay before them, units of the settlement token.
pub(super) fn effects(settings: &Settings, capacity: U256, logs: &[Log]) -> Vec<Effect> {
    let bad_debts: BTreeMap<Address, U256> = logs
        .iter()
        .filter_map(|log| event::<IVault::BadDebtSettled>(settings.vault, log))
        .map(|settled| (settled.trader, settled.amount))
        .collect();
    logs.iter().flat_map(|log| of_log(settings, capacity, &bad_debts, log)).collect()
}

fn of_log(settings: &Settings, capacity: U256, bad_debts: &BTreeMap<Address, U256>, log: &Log) -> Vec<Effect> {
    let asset = settings.settlement_token;
    let staged = |trader: Address, stage: &str| Effect::Staged { scope: unit(trader), stage: stage.to_owned() };
    if let Some(e) = event::<IClearingHouse::PositionLiquidated>(settings.clearing_house, log) {
        let fee = e.liquidationFee.div_ceil(settings.scale());
        let unpaid = bad_debts.get(&e.trader).copied().unwrap_or_default();
        let loss = fee.saturating_sub(unpaid);
        let liquidated = Effect::Liquidated { unit: unit_key(e.trader), loss, fee };
        return vec![liquidated, staged(e.trader, "position liquidated")];
    }
    if let Some(e) = event::<IClearingHouse::LiquidityChanged>(settings.clearing_house, log) {
        return if e.liquidity < 0 { vec![staged(e.maker, "order cancelled")] } else { Vec::new() };
    }
    if let Some(e) = event::<IClearingHouse::PositionClosed>(settings.clearing_house, log) {
        return vec![staged(e.trader, "closed market left")];
    }
    if let Some(e) = event::<IVault::BadDebtSettled>(settings.vault, log) {
        let (scope, tier, paid) = (unit(e.trader), Tier::InsuranceFund, e.amount.min(capacity));
        return vec![
            Effect::BadDebt { scope: scope.clone(), asset, amount: e.amount },
            Effect::Covered { scope, tier, asset, amount: paid },
        ];
    }
    if let Some(e) = event::<IInsuranceFund::Repaid>(settings.insurance_fund, log) {
        let (scope, tier) = (Scope::Segment(SEGMENT), Tier::InsuranceFund);
        return vec![Effect::Covered { scope, tier, asset, amount: e.repaidAmount }];
    }
    Vec::new()
}

fn unit(trader: Address) -> Scope {
    Scope::Unit(unit_key(trader))
}

fn event<E: SolEvent>(emitter: Address, log: &Log) -> Option<E> {
    let ours = log.address == emitter && log.topics.first() == Some(&E::SIGNATURE_HASH);
    ours.then(|| E::decode_raw_log(&log.topics, &log.data).ok()).flatten()
}
