//! Revert data → what it means for the action.
//!
//! | disposition | refusals |
//! |---|---|
//! | need oracle | StalePrice |
//! | not eligible | NotLiquidatable, LiquidatesTooMuch, NotBankrupt, FundCanPay, ExceedsShortfall, LossAboveLimit, PositionsOpen, ShareTooLarge, AlreadyCharged; of the steward NoBounds, StepTooLarge, TooSoon, OutOfRange; of the backstop pool all that says: not now, or not so much is short |
//! | fund short | FundShort |
//! | capacity | OrderUnusable, SlippageTooLarge, TooManyLots, InsufficientMargin (a maker's), InsufficientLiquidity, NotAWinner, WinnerBelowZero; of the backstop pool NotCovered, ExceedsCap, ExceedsStake |
//! | unauthorized | AccessControlUnauthorizedAccount; of the backstop pool UnknownMember, NotOperator |
//! | bug | everything else: figures we built wrongly, calls a keeper never makes, panics, no data, unknown errors |
//!
//! Nothing is read as already done: a venue that refuses a repaired account cannot say whether somebody else or the
//! price repaired it, so the answer is always to plan again from the chain.
//!
//! Invariants: every error of the venue's interfaces has a place in the table; the reason names it with its arguments.
//! Must not: treat data it does not know as harmless.

use std::fmt::Debug;

use alloy::{
    hex,
    sol_types::{Panic, Revert, SolError, SolInterface},
};

use super::abi::{
    IAccessControl::IAccessControlErrors as Roles, IBackstopPool::IBackstopPoolErrors as Pool,
    IClearinghouse::IClearinghouseErrors as Venue, IImplementation::IImplementationErrors as Library,
    IPriceFeed::IPriceFeedErrors as Feed, IRiskSteward::IRiskStewardErrors as Steward,
};
use crate::protocols::{Disposition, Refusal};

/// Most bytes of undecodable data that a reason quotes.
const QUOTED_BYTES_MAX: usize = 68;

/// Reads revert data.
pub(super) fn classify(revert: &[u8]) -> Refusal {
    if revert.is_empty() {
        return Refusal { disposition: Disposition::Bug, reason: "reverted without data".to_owned() };
    }
    venue(revert)
        .or_else(|| decoded::<Steward>(revert, steward))
        .or_else(|| decoded::<Pool>(revert, pool))
        .or_else(|| decoded::<Roles>(revert, roles))
        .or_else(|| decoded::<Library>(revert, |_| Disposition::Bug))
        .or_else(|| decoded::<Feed>(revert, |_| Disposition::Bug))
        .or_else(|| solidity(revert))
        .unwrap_or_else(|| unknown(revert))
}

fn decoded<E: SolInterface + Debug>(revert: &[u8], disposition: impl FnOnce(&E) -> Disposition) -> Option<Refusal> {
    let error = E::abi_decode(revert).ok()?;
    Some(Refusal { disposition: disposition(&error), reason: name_with_arguments(&error) })
}

fn venue(revert: &[u8]) -> Option<Refusal> {
    decoded::<Venue>(revert, |error| match error {
        Venue::StalePrice(_) => Disposition::NeedOracle,
        Venue::NotLiquidatable(_)
        | Venue::LiquidatesTooMuch(_)
        | Venue::NotBankrupt(_)
        | Venue::FundCanPay(_)
        | Venue::ExceedsShortfall(_)
        | Venue::LossAboveLimit(_)
        | Venue::PositionsOpen(_)
        | Venue::ShareTooLarge(_)
        | Venue::AlreadyCharged(_) => Disposition::NotEligible,
        Venue::FundShort(_) => Disposition::FundShort,
        Venue::OrderUnusable(_)
        | Venue::SlippageTooLarge(_)
        | Venue::TooManyLots(_)
        | Venue::InsufficientMargin(_)
        | Venue::InsufficientLiquidity(_)
        | Venue::NotAWinner(_)
        | Venue::WinnerBelowZero(_) => Disposition::Capacity,
        Venue::UnknownSegment(_) | Venue::UnknownMarket(_) | Venue::NotOrderOwner(_) | Venue::ZeroAmount(_) => {
            Disposition::Bug
        }
        // Keepers do not withdraw.
        Venue::WithdrawalsShut(_) => Disposition::Bug,
    })
}

fn steward(error: &Steward) -> Disposition {
    match error {
        Steward::NoBounds(_) | Steward::StepTooLarge(_) | Steward::TooSoon(_) | Steward::OutOfRange(_) => {
            Disposition::NotEligible
        }
        Steward::MarginOrder(_) => Disposition::Bug,
    }
}

fn pool(error: &Pool) -> Disposition {
    match error {
        Pool::NoShortfall(_)
        | Pool::ExceedsShortfall(_)
        | Pool::AlreadyClaimed(_)
        | Pool::NothingClaimed(_)
        | Pool::ClaimsClosed(_)
        | Pool::ClaimsStillOpen(_)
        | Pool::RoundOver(_) => Disposition::NotEligible,
        Pool::NotCovered(_) | Pool::ExceedsCap(_) | Pool::ExceedsStake(_) | Pool::ZeroAmount(_) => {
            Disposition::Capacity
        }
        Pool::UnknownMember(_) | Pool::NotOperator(_) => Disposition::Unauthorized,
        // Keepers neither underwrite nor administer.
        Pool::BadTerms(_)
        | Pool::RoundOpen(_)
        | Pool::NoticeNotGiven(_)
        | Pool::NoticeRunning(_)
        | Pool::NotCredited(_) => Disposition::Bug,
    }
}

fn roles(error: &Roles) -> Disposition {
    match error {
        Roles::AccessControlUnauthorizedAccount(_) => Disposition::Unauthorized,
        Roles::AccessControlBadConfirmation(_) => Disposition::Bug,
    }
}

/// The language's own two: a failed assertion and a message.
fn solidity(revert: &[u8]) -> Option<Refusal> {
    let reason = match Panic::abi_decode(revert) {
        Ok(panic) => panic.to_string(),
        Err(_) => Revert::abi_decode(revert).ok()?.to_string(),
    };
    Some(Refusal { disposition: Disposition::Bug, reason })
}

fn unknown(revert: &[u8]) -> Refusal {
    let quoted = &revert[..revert.len().min(QUOTED_BYTES_MAX)];
    let more = if quoted.len() < revert.len() { "…" } else { "" };
    let reason = format!("unknown error {}{more}", hex::encode_prefixed(quoted));
    Refusal { disposition: Disposition::Bug, reason }
}

/// The error's own text out of its enum's: `Name(Name { .. })`.
fn name_with_arguments(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    let inner = text.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')'));
    inner.map_or_else(|| text.clone(), str::to_owned)
}
