//! An intent of a plan → the call of `liquidate`.
//!
//! Invariants: the call is of the very borrower and market that the intent's scope names; nothing but one intent of this
//! adapter is encoded.
//! Must not: judge whether a step is wise.

use alloy::{
    primitives::keccak256,
    sol,
    sol_types::{SolCall, SolValue},
};

use super::{
    Settings,
    abi::{IMorpho, MarketParams},
    state,
};
use crate::{
    protocols::BuildError,
    recovery::{Action, IntentKind, Step},
    types::{Bytes, Call},
};

sol! {
    /// What an intent carries to its call besides its unit: the market, and the two amounts of which one is zero.
    #[derive(Debug, PartialEq, Eq)]
    struct Payload {
        MarketParams marketParams;
        uint256 seizedAssets;
        uint256 repaidShares;
    }
}

/// The singleton sends what is seized to its caller and takes no other receiver.
pub(super) fn build(settings: &Settings, steps: &[Step]) -> Result<Call, BuildError> {
    let [Step { action: Action::Intent(intent), .. }] = steps else {
        return Err(refuse("not exactly one intent; the singleton takes one liquidation a call"));
    };
    if intent.kind != IntentKind::Liquidate {
        return Err(refuse(format!("an intent to {}", intent.kind.as_str())));
    }
    let account = intent.scope.unit().and_then(state::parse_unit_key);
    let (id, borrower) = account.ok_or_else(|| refuse(format!("{} is no borrower", intent.scope)))?;
    let payload = Payload::abi_decode_validate(&intent.payload).map_err(|error| refuse(format!("payload: {error}")))?;
    let Payload { marketParams, seizedAssets, repaidShares } = payload;
    if keccak256(marketParams.abi_encode()) != id {
        return Err(refuse(format!("the payload is of another market than {id}")));
    }
    if seizedAssets.is_zero() == repaidShares.is_zero() {
        return Err(refuse("exactly one of the amounts must be zero"));
    }
    let data = Bytes::new();
    let call = IMorpho::liquidateCall { marketParams, borrower, seizedAssets, repaidShares, data };
    Ok(Call::new(settings.morpho, call.abi_encode()))
}

fn refuse(why: impl Into<String>) -> BuildError {
    BuildError(why.into())
}
