//! Revert data → what it means for the action.
//!
//! | disposition | refusals |
//! |---|---|
//! | already done | ReserveNotInDeficit |
//! | not eligible | HealthFactorNotBelowThreshold, MustNotLeaveDust, CollateralCannotBeLiquidated, SpecifiedCurrencyNotBorrowedByUser, LiquidationGraceSentinelCheckFailed, ReservePaused, ReserveInactive |
//! | need oracle | PriceOracleSentinelCheckFailed |
//! | fund short | NotEnoughAvailableUserBalance, UserCannotHaveDebt: the keeper as UMBRELLA cannot pay |
//! | capacity | the debt token's own refusals (balance, allowance) in custom errors or words, `GPv2: failed …`, an underflow: the collateral's reserve has less than is to be paid out |
//! | unauthorized | CallerNotUmbrella; SelfLiquidation, since no keeper may liquidate itself |
//! | bug | everything else: figures we built wrongly, calls a keeper never makes, panics, no data, unknown errors |
//!
//! Invariants: every documented error of the protocol has a place in the table; the reason names it with its arguments.
//! Must not: treat data it does not know as harmless.

use std::fmt::Debug;

use alloy::{
    hex,
    sol_types::{Panic, PanicKind, Revert, SolError, SolInterface},
};

use super::abi::{IErrors::IErrorsErrors as Errors, ITokenErrors::ITokenErrorsErrors as TokenErrors};
use crate::protocols::{Disposition, Refusal};

/// Most bytes of undecodable data that a reason quotes.
const QUOTED_BYTES_MAX: usize = 68;
/// Words in which tokens say that the keeper holds or has approved too little, or that a transfer failed.
const TOKEN_WORDS: [&str; 5] = ["exceeds balance", "exceeds allowance", "insufficient", "failed transfer", "underflow"];

/// Reads revert data.
pub(super) fn classify(revert: &[u8]) -> Refusal {
    if revert.is_empty() {
        return Refusal { disposition: Disposition::Bug, reason: "reverted without data".to_owned() };
    }
    decoded::<Errors>(revert, of_pool)
        .or_else(|| decoded::<TokenErrors>(revert, of_token))
        .or_else(|| solidity(revert))
        .unwrap_or_else(|| unknown(revert))
}

fn decoded<E: SolInterface + Debug>(revert: &[u8], disposition: impl FnOnce(&E) -> Disposition) -> Option<Refusal> {
    let error = E::abi_decode(revert).ok()?;
    Some(Refusal { disposition: disposition(&error), reason: name_with_arguments(&error) })
}

fn of_pool(error: &Errors) -> Disposition {
    match error {
        Errors::ReserveNotInDeficit(_) => Disposition::AlreadyDone,
        Errors::HealthFactorNotBelowThreshold(_)
        | Errors::MustNotLeaveDust(_)
        | Errors::CollateralCannotBeLiquidated(_)
        | Errors::SpecifiedCurrencyNotBorrowedByUser(_)
        | Errors::LiquidationGraceSentinelCheckFailed(_)
        | Errors::ReservePaused(_)
        | Errors::ReserveInactive(_) => Disposition::NotEligible,
        Errors::PriceOracleSentinelCheckFailed(_) => Disposition::NeedOracle,
        Errors::NotEnoughAvailableUserBalance(_) | Errors::UserCannotHaveDebt(_) => Disposition::FundShort,
        Errors::CallerNotUmbrella(_) | Errors::SelfLiquidation(_) => Disposition::Unauthorized,
        // Governance's calls, users' calls, and figures that a keeper must not get wrong.
        _ => Disposition::Bug,
    }
}

fn of_token(error: &TokenErrors) -> Disposition {
    match error {
        TokenErrors::ERC20InsufficientBalance(_)
        | TokenErrors::ERC20InsufficientAllowance(_)
        | TokenErrors::SafeERC20FailedOperation(_) => Disposition::Capacity,
        _ => Disposition::Bug,
    }
}

/// The language's own two: a failed assertion and a message.
fn solidity(revert: &[u8]) -> Option<Refusal> {
    if let Ok(panic) = Panic::abi_decode(revert) {
        let short = panic.kind() == Some(PanicKind::UnderOverflow);
        let disposition = if short { Disposition::Capacity } else { Disposition::Bug };
        let hint = if short { "; the collateral's reserve cannot pay that much out" } else { "" };
        return Some(Refusal { disposition, reason: format!("{panic}{hint}") });
    }
    let message = Revert::abi_decode(revert).ok()?;
    let of_a_token = TOKEN_WORDS.iter().any(|word| message.reason.contains(word));
    let disposition = if of_a_token { Disposition::Capacity } else { Disposition::Bug };
    Some(Refusal { disposition, reason: message.to_string() })
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
