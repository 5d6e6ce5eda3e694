//! Revert data → what it means for the action.
//!
//! The singleton, its rate model and the common oracles refuse with a string, `Error(string)`.
//!
//! | disposition | refusals |
//! |---|---|
//! | not eligible | position is healthy; panic 0x11, more debt or collateral than the position has: somebody acted first; panic 0x12, a price of zero |
//! | need oracle | negative answer (of the oracle's feed) |
//! | capacity | insufficient liquidity; transfer reverted, transfer returned false, transferFrom reverted, transferFrom returned false: a token refuses, or the keeper's balance or approval is short |
//! | unauthorized | not owner, unauthorized |
//! | bug | max LLTV exceeded, max fee exceeded, already set, IRM not enabled, LLTV not enabled, market already created, market not created, no code, inconsistent input, zero assets, zero address, insufficient collateral, invalid signature, signature expired, invalid nonce, max uint128 exceeded, not Morpho (of the rate model); anything else: other panics, no data, unknown errors |
//!
//! Nothing is read as already done: a position that is gone looks like a healthy one, and so does one that the price
//! repaired, so the answer is always to plan again from the chain.
//!
//! Invariants: every message of ErrorsLib has a place in the table; the reason quotes it.
//! Must not: treat data it does not know as harmless.

use alloy::{
    hex,
    sol_types::{Panic, PanicKind, Revert, SolError},
};

use crate::protocols::{Disposition, Refusal};

/// Most bytes of undecodable data that a reason quotes.
const QUOTED_BYTES_MAX: usize = 68;

/// What each known message means.
const MESSAGES: &[(&str, Disposition)] = &[
    ("position is healthy", Disposition::NotEligible),
    ("negative answer", Disposition::NeedOracle),
    ("insufficient liquidity", Disposition::Capacity),
    ("transfer reverted", Disposition::Capacity),
    ("transfer returned false", Disposition::Capacity),
    ("transferFrom reverted", Disposition::Capacity),
    ("transferFrom returned false", Disposition::Capacity),
    ("not owner", Disposition::Unauthorized),
    ("unauthorized", Disposition::Unauthorized),
    ("max LLTV exceeded", Disposition::Bug),
    ("max fee exceeded", Disposition::Bug),
    ("already set", Disposition::Bug),
    ("IRM not enabled", Disposition::Bug),
    ("LLTV not enabled", Disposition::Bug),
    ("market already created", Disposition::Bug),
    ("market not created", Disposition::Bug),
    ("no code", Disposition::Bug),
    ("inconsistent input", Disposition::Bug),
    ("zero assets", Disposition::Bug),
    ("zero address", Disposition::Bug),
    ("insufficient collateral", Disposition::Bug),
    ("invalid signature", Disposition::Bug),
    ("signature expired", Disposition::Bug),
    ("invalid nonce", Disposition::Bug),
    ("max uint128 exceeded", Disposition::Bug),
    ("not Morpho", Disposition::Bug),
];

/// Reads revert data.
pub(super) fn classify(revert: &[u8]) -> Refusal {
    if revert.is_empty() {
        return bug("reverted without data".to_owned());
    }
    if let Ok(Revert { reason }) = Revert::abi_decode(revert) {
        let known = MESSAGES.iter().find(|(message, _)| *message == reason);
        return known.map_or_else(
            || bug(format!("unknown message {reason:?}")),
            |(_, disposition)| Refusal { disposition: *disposition, reason: reason.clone() },
        );
    }
    if let Ok(panic) = Panic::abi_decode(revert) {
        let disposition = match panic.kind() {
            Some(PanicKind::UnderOverflow | PanicKind::DivisionByZero) => Disposition::NotEligible,
            _ => Disposition::Bug,
        };
        return Refusal { disposition, reason: panic.to_string() };
    }
    let quoted = &revert[..revert.len().min(QUOTED_BYTES_MAX)];
    let more = if quoted.len() < revert.len() { "…" } else { "" };
    bug(format!("unknown error {}{more}", hex::encode_prefixed(quoted)))
}

fn bug(reason: String) -> Refusal {
    Refusal { disposition: Disposition::Bug, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_its_meaning_and_is_quoted() {
        for (message, disposition) in MESSAGES {
            let refusal = classify(&Revert::from(*message).abi_encode());
            assert_eq!(refusal, Refusal { disposition: *disposition, reason: (*message).to_owned() });
        }
    }

    #[test]
    fn panics_of_a_position_that_moved_are_told_from_others() {
        for (kind, disposition) in [
            (PanicKind::UnderOverflow, Disposition::NotEligible),
            (PanicKind::DivisionByZero, Disposition::NotEligible),
            (PanicKind::Assert, Disposition::Bug),
        ] {
            assert_eq!(classify(&Panic::from(kind).abi_encode()).disposition, disposition);
        }
    }

    #[test]
    fn what_is_not_known_is_a_bug() {
        for data in [vec![], vec![0xab; 3], vec![0xcd; 100], Revert::from("paused").abi_encode()] {
            assert_eq!(classify(&data).disposition, Disposition::Bug, "{data:?}");
        }
        assert_eq!(classify(&[0xab; 100]).reason, format!("unknown error 0x{}…", "ab".repeat(QUOTED_BYTES_MAX)));
    }
}
