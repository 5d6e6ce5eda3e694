//! A mined transaction's logs → what the books take from it.
//!
//! - **Liquidated**: of the loss that closing realised plus the fee, what the account's own margin paid. What pushed its
//!   equity below zero was not paid by it and is left to the tiers that pay it.
//! - **Deleveraged**: only what the winner pays against the mark. That the bankrupt account's own margin goes first is
//!   already in its equity and no part of the shortfall.
//! - **Parameter set**: from the clearinghouse's events, since it is there that parameters take effect; the steward's
//!   event for the same move is not booked again.
//!
//! Liquidations and deleveragings name only their market. Their segment is taken from the transaction itself: a call
//! built here never leaves one segment, and moving cash names it. Where no cash of any account and no fund moved there
//! is none to take, and they are left out: a liquidation then cost nothing, but a deleveraging whose charge cancels to
//! the unit what both sides realise goes unbooked.
//!
//! - **Backstop pool**: claims and payments for this deployment's member; other members' are not ours.
//!
//! Invariants: logs of other contracts have no effect.
//! Must not: read anything but the logs.

use alloy::sol_types::SolEventInterface;

use super::{
    Membership, Settings,
    abi::{
        IBackstopPool::IBackstopPoolEvents as Pool,
        IClearinghouse::{self, IClearinghouseEvents as Venue},
    },
    state,
};
use crate::{
    protocols::Effect,
    types::{Address, Log, UnitKey, math},
};

/// What these logs of one transaction did, in order.
pub(super) fn effects(settings: &Settings, logs: &[Log]) -> Vec<Effect> {
    let ours = logs.iter().filter(|log| log.address == settings.clearinghouse);
    let events: Vec<Venue> = ours.filter_map(|log| Venue::decode_raw_log(&log.topics, &log.data).ok()).collect();
    let segment = events.iter().find_map(segment_of);
    let of_venue = events.iter().filter_map(|event| effect(event, segment));
    of_venue.chain(settings.backstop.into_iter().flat_map(|membership| of_pool(membership, logs))).collect()
}

/// What the backstop pool did for this deployment's accounts.
fn of_pool(membership: Membership, logs: &[Log]) -> Vec<Effect> {
    let Membership { pool, member } = membership;
    let of_pool = logs.iter().filter(|log| log.address == pool);
    let events = of_pool.filter_map(|log| Pool::decode_raw_log(&log.topics, &log.data).ok());
    let effect = |event| match event {
        Pool::Claimed(e) if e.member == member => {
            Some(Effect::BackstopClaimed { unit: state::unit_key(e.segment, e.account), amount: e.amount })
        }
        Pool::Drawn(e) if e.member == member => Some(Effect::BackstopDrawn {
            unit: state::unit_key(e.segment, e.account),
            amount: e.amount,
            from_stake: e.fromStake,
        }),
        _ => None,
    };
    events.filter_map(effect).collect()
}

fn effect(event: &Venue, segment: Option<u16>) -> Option<Effect> {
    let local = |owner: Address| Some(state::unit_key(segment?, owner));
    match event {
        Venue::Liquidated(e) => Some(liquidated(local(e.account)?, e)),
        Venue::InsuranceDrawn(e) => {
            Some(Effect::InsuranceDrawn { unit: state::unit_key(e.segment, e.account), amount: e.amount })
        }
        Venue::Deleveraged(e) => {
            Some(Effect::Deleveraged { unit: local(e.bankrupt)?, winner: local(e.winner)?, loss: e.loss })
        }
        Venue::LossSocialised(e) => Some(Effect::LossSocialised {
            unit: state::unit_key(e.segment, e.bankrupt),
            payer: state::unit_key(e.segment, e.payer),
            amount: e.amount,
        }),
        Venue::ClaimPaid(e) => {
            Some(Effect::Restituted { unit: state::unit_key(e.segment, e.account), amount: e.amount })
        }
        Venue::WithdrawalsGated(e) if e.untilBlock == 0 => {
            Some(Effect::ParameterSet { what: format!("segment {}: withdrawals are open", e.segment) })
        }
        Venue::WithdrawalsGated(e) => Some(Effect::ParameterSet {
            what: format!("segment {}: withdrawals are shut until block {}", e.segment, e.untilBlock),
        }),
        Venue::MarginSet(e) => Some(Effect::ParameterSet {
            what: format!(
                "market {}: maintenance margin {} bps, initial margin {} bps",
                e.market, e.maintenanceMarginBps, e.initialMarginBps
            ),
        }),
        Venue::FundingSet(e) => Some(Effect::ParameterSet {
            what: format!("market {}: funding rate {} / 1e18 per lot and second", e.market, e.rateX18),
        }),
        _ => None,
    }
}

fn liquidated(unit: UnitKey, event: &IClearinghouse::Liquidated) -> Effect {
    let realised = math::negative_part(event.realisedPnl).saturating_add(event.fee);
    let beyond_margin = math::negative_part(event.equityAfter).min(realised);
    Effect::Liquidated { unit, loss: realised - beyond_margin, fee: event.fee }
}

/// The segment whose money an event moved.
fn segment_of(event: &Venue) -> Option<u16> {
    match event {
        Venue::CashChanged(e) => Some(e.segment),
        Venue::FundChanged(e) => Some(e.segment),
        Venue::InsuranceDrawn(e) => Some(e.segment),
        Venue::LossSocialised(e) => Some(e.segment),
        _ => None,
    }
}
