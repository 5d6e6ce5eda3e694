//! Revert data → what it means for the action.
//!
//! | disposition | errors | sentences |
//! |---|---|---|
//! | already done | – | no on-going auction; auction is on-going |
//! | not eligible | MinimalCollateralViolated, CollateralExceedsThreshold, InsufficientCollateral, InsufficientShortfall, TooMuchRepay, MarketNotListed, MarketNotCollateral, the five freshness checks of a liquidation, LiquidateLiquidatorIsBorrower, LiquidateSeizeLiquidatorIsBorrower | LIQUIDATE_SEIZE_TOO_MUCH; Nonzero borrow balance after liquidation; auction has been restarted; auction is stale, restart it; your bid is not the highest; waiting for next bidder…; you need to wait for more time…; pool bad debt is too low; auctions are paused; more than bad debt recovered from auction |
//! | need oracle | PriceError | of a price source: what begins with chainlink, pyth, binance, or names an oracle, a price or updatedAt |
//! | fund short | InsufficientBalance (the auction house's) | Risk Fund: Insufficient pool reserve. |
//! | capacity | ActionPaused, ReduceReservesCashNotAvailable, ERC20InsufficientBalance, ERC20InsufficientAllowance, SafeERC20FailedOperation, an arithmetic panic (a market without the cash to pay the protocol's part) | ERC20: …; SafeERC20: …; borrow rate is absurdly high |
//! | unauthorized | Unauthorized, UnexpectedSender | – |
//! | bug | everything else: figures we built wrongly, calls a keeper never makes, other panics, no data, unknown errors | – |
//!
//! Invariants: every error of the bindings has a place in the table; the reason names it with its arguments.
//! Must not: treat data it does not know as harmless.

use std::fmt::Debug;

use alloy::{
    hex,
    sol_types::{Panic, PanicKind, Revert, SolError, SolInterface},
};

use super::abi::{
    IComptroller::IComptrollerErrors as Pool, IInherited::IInheritedErrors as Inherited,
    IShortfall::IShortfallErrors as House, IToken::ITokenErrors as Token, IVToken::IVTokenErrors as Market,
};
use crate::protocols::{Disposition, Refusal};

/// Most bytes of undecodable data that a reason quotes.
const QUOTED_BYTES_MAX: usize = 68;

/// Sentences of the contracts a keeper's calls go through, each with what it means; compared in small letters.
const SENTENCES: &[(&str, Disposition)] = &[
    ("no on-going auction", Disposition::AlreadyDone),
    ("auction is on-going", Disposition::AlreadyDone),
    ("liquidate_seize_too_much", Disposition::NotEligible),
    ("nonzero borrow balance after liquidation", Disposition::NotEligible),
    ("auction has been restarted", Disposition::NotEligible),
    ("auction is stale, restart it", Disposition::NotEligible),
    ("your bid is not the highest", Disposition::NotEligible),
    ("waiting for next bidder. cannot close auction", Disposition::NotEligible),
    ("you need to wait for more time for first bidder", Disposition::NotEligible),
    ("pool bad debt is too low", Disposition::NotEligible),
    ("auctions are paused", Disposition::NotEligible),
    ("more than bad debt recovered from auction", Disposition::NotEligible),
    ("risk fund: insufficient pool reserve.", Disposition::FundShort),
    ("borrow rate is absurdly high", Disposition::Capacity),
];
/// Beginnings of sentences.
const BEGINNINGS: &[(&str, Disposition)] = &[
    ("erc20: ", Disposition::Capacity),
    ("safeerc20: ", Disposition::Capacity),
    ("chainlink", Disposition::NeedOracle),
    ("pyth", Disposition::NeedOracle),
    ("binance", Disposition::NeedOracle),
];
/// Words by which a price source's sentence is known.
const OF_PRICE_SOURCES: &[&str] = &["oracle", "price", "updatedat"];

/// Reads revert data.
pub(super) fn classify(revert: &[u8]) -> Refusal {
    if revert.is_empty() {
        return Refusal { disposition: Disposition::Bug, reason: "reverted without data".to_owned() };
    }
    decoded::<Pool>(revert, pool)
        .or_else(|| decoded::<Market>(revert, market))
        .or_else(|| decoded::<House>(revert, house))
        .or_else(|| decoded::<Token>(revert, |_| Disposition::Capacity))
        .or_else(|| decoded::<Inherited>(revert, inherited))
        .or_else(|| solidity(revert))
        .unwrap_or_else(|| unknown(revert))
}

fn decoded<E: SolInterface + Debug>(revert: &[u8], disposition: impl FnOnce(&E) -> Disposition) -> Option<Refusal> {
    let error = E::abi_decode(revert).ok()?;
    Some(Refusal { disposition: disposition(&error), reason: name_with_arguments(&error) })
}

fn pool(error: &Pool) -> Disposition {
    match error {
        Pool::PriceError(_) => Disposition::NeedOracle,
        Pool::MinimalCollateralViolated(_)
        | Pool::CollateralExceedsThreshold(_)
        | Pool::InsufficientCollateral(_)
        | Pool::InsufficientShortfall(_)
        | Pool::TooMuchRepay(_)
        | Pool::MarketNotListed(_)
        | Pool::MarketNotCollateral(_) => Disposition::NotEligible,
        Pool::ActionPaused(_) => Disposition::Capacity,
        Pool::UnexpectedSender(_) => Disposition::Unauthorized,
        _ => Disposition::Bug,
    }
}

fn market(error: &Market) -> Disposition {
    match error {
        Market::LiquidateFreshnessCheck(_)
        | Market::LiquidateCollateralFreshnessCheck(_)
        | Market::LiquidateAccrueCollateralInterestFailed(_)
        | Market::RepayBorrowFreshnessCheck(_)
        | Market::ReduceReservesFreshCheck(_)
        | Market::LiquidateLiquidatorIsBorrower(_)
        | Market::LiquidateSeizeLiquidatorIsBorrower(_) => Disposition::NotEligible,
        Market::ReduceReservesCashNotAvailable(_) => Disposition::Capacity,
        _ => Disposition::Bug,
    }
}

fn house(error: &House) -> Disposition {
    match error {
        House::InsufficientBalance(_) => Disposition::FundShort,
        House::InsufficientDebt(_) => Disposition::Bug,
    }
}

fn inherited(error: &Inherited) -> Disposition {
    match error {
        Inherited::Unauthorized(_) => Disposition::Unauthorized,
        _ => Disposition::Bug,
    }
}

/// The language's own two: a failed assertion and a sentence.
fn solidity(revert: &[u8]) -> Option<Refusal> {
    if let Ok(panic) = Panic::abi_decode(revert) {
        let arithmetic = panic.kind() == Some(PanicKind::UnderOverflow);
        let disposition = if arithmetic { Disposition::Capacity } else { Disposition::Bug };
        return Some(Refusal { disposition, reason: panic.to_string() });
    }
    let Revert { reason } = Revert::abi_decode(revert).ok()?;
    Some(Refusal { disposition: sentence(&reason.to_lowercase()), reason })
}

fn sentence(text: &str) -> Disposition {
    let whole = SENTENCES.iter().find(|(known, _)| text == *known);
    let beginning = || BEGINNINGS.iter().find(|(known, _)| text.starts_with(known));
    let of_prices = || OF_PRICE_SOURCES.iter().any(|word| text.contains(word));
    match whole.or_else(beginning) {
        Some((_, disposition)) => *disposition,
        None if of_prices() => Disposition::NeedOracle,
        None => Disposition::Bug,
    }
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

#[cfg(test)]
mod tests {
    use super::{
        super::abi::{IComptroller, IInherited, IShortfall, IToken, IVToken},
        *,
    };
    use crate::types::{Address, U256};

    fn of(error: impl SolError) -> Disposition {
        classify(&error.abi_encode()).disposition
    }

    #[test]
    fn errors_mean_what_the_table_says() {
        let (one, two) = (U256::ONE, U256::from(2));
        let zero = Address::ZERO;
        for (found, meant) in [
            (of(IComptroller::PriceError { vToken: zero }), Disposition::NeedOracle),
            (
                of(IComptroller::MinimalCollateralViolated { expectedGreaterThan: two, actual: one }),
                Disposition::NotEligible,
            ),
            (
                of(IComptroller::CollateralExceedsThreshold { expectedLessThanOrEqualTo: one, actual: two }),
                Disposition::NotEligible,
            ),
            (
                of(IComptroller::InsufficientCollateral { collateralToSeize: two, availableCollateral: one }),
                Disposition::NotEligible,
            ),
            (of(IComptroller::InsufficientShortfall {}), Disposition::NotEligible),
            (of(IComptroller::TooMuchRepay {}), Disposition::NotEligible),
            (of(IComptroller::MarketNotListed { market: zero }), Disposition::NotEligible),
            (of(IComptroller::MarketNotCollateral { vToken: zero, user: zero }), Disposition::NotEligible),
            (of(IComptroller::ActionPaused { market: zero, action: 5 }), Disposition::Capacity),
            (
                of(IComptroller::UnexpectedSender { expectedSender: zero, actualSender: zero }),
                Disposition::Unauthorized,
            ),
            (of(IComptroller::ComptrollerMismatch {}), Disposition::Bug),
            (of(IComptroller::MaxLoopsLimitExceeded { loopsLimit: one, requiredLoops: two }), Disposition::Bug),
            (of(IVToken::LiquidateFreshnessCheck {}), Disposition::NotEligible),
            (of(IVToken::LiquidateLiquidatorIsBorrower {}), Disposition::NotEligible),
            (of(IVToken::LiquidateCloseAmountIsZero {}), Disposition::Bug),
            (of(IVToken::ReduceReservesCashNotAvailable {}), Disposition::Capacity),
            (
                of(IShortfall::InsufficientBalance {
                    token: zero,
                    recipient: zero,
                    amount: two,
                    availableBalance: one,
                }),
                Disposition::FundShort,
            ),
            (
                of(IToken::ERC20InsufficientAllowance { spender: zero, allowance: one, needed: two }),
                Disposition::Capacity,
            ),
            (
                of(IInherited::Unauthorized { sender: zero, calledContract: zero, methodSignature: "f()".into() }),
                Disposition::Unauthorized,
            ),
            (of(IInherited::ZeroAddressNotAllowed {}), Disposition::Bug),
        ] {
            assert_eq!(found, meant);
        }
    }

    #[test]
    fn sentences_mean_what_the_table_says() {
        for (text, meant) in [
            ("no on-going auction", Disposition::AlreadyDone),
            ("auction is on-going", Disposition::AlreadyDone),
            ("auction is stale, restart it", Disposition::NotEligible),
            ("auction has been restarted", Disposition::NotEligible),
            ("your bid is not the highest", Disposition::NotEligible),
            ("waiting for next bidder. cannot close auction", Disposition::NotEligible),
            ("you need to wait for more time for first bidder", Disposition::NotEligible),
            ("pool bad debt is too low", Disposition::NotEligible),
            ("Auctions are paused", Disposition::NotEligible),
            ("auctions are paused", Disposition::NotEligible),
            ("Nonzero borrow balance after liquidation", Disposition::NotEligible),
            ("LIQUIDATE_SEIZE_TOO_MUCH", Disposition::NotEligible),
            ("Risk Fund: Insufficient pool reserve.", Disposition::FundShort),
            ("ERC20: insufficient allowance", Disposition::Capacity),
            ("SafeERC20: low-level call failed", Disposition::Capacity),
            ("borrow rate is absurdly high", Disposition::Capacity),
            ("chainlink price expired", Disposition::NeedOracle),
            ("invalid resilient oracle price", Disposition::NeedOracle),
            ("basis points cannot be zero", Disposition::Bug),
            ("comptroller doesn't exist pool registry", Disposition::Bug),
            ("re-entered", Disposition::Bug),
        ] {
            let refusal = classify(&Revert::from(text).abi_encode());
            assert_eq!((refusal.disposition, refusal.reason.as_str()), (meant, text));
        }
    }

    #[test]
    fn other_data_is_never_harmless() {
        assert_eq!(classify(&[]).disposition, Disposition::Bug);
        assert_eq!(classify(&[0xde, 0xad, 0xbe, 0xef]).reason, "unknown error 0xdeadbeef");
        assert!(classify(&[7; 200]).reason.ends_with('…'));
        let panic = |kind: PanicKind| classify(&Panic::from(kind).abi_encode()).disposition;
        assert_eq!(panic(PanicKind::UnderOverflow), Disposition::Capacity);
        assert_eq!(panic(PanicKind::DivisionByZero), Disposition::Bug);
        let error = IComptroller::TooMuchRepay {};
        assert_eq!(classify(&error.abi_encode()).reason, "TooMuchRepay");
    }
}
