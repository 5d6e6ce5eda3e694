//! Steps of a plan → one call: one intent as it is, several through the pool's `multicall`.
//!
//! Invariants: an intent's payload is call data of the pool, of its own scope, and never takes aTokens as proceeds.
//! Must not: judge whether a step is wise.

use alloy::sol_types::SolCall;

use super::{Settings, abi::IPool, state};
use crate::{
    protocols::BuildError,
    recovery::{Action, Intent, IntentKind, Step},
    types::{Bytes, Call},
};

/// The pool pays its caller and lets nobody else be named.
pub(super) fn build(settings: &Settings, steps: &[Step]) -> Result<Call, BuildError> {
    let mut calls = Vec::with_capacity(steps.len());
    for step in steps {
        let Action::Intent(intent) = &step.action else {
            return Err(refuse("the pool has no step but its intents".to_owned()));
        };
        calls.push(checked(intent)?);
    }
    let data: Bytes = match <[Bytes; 1]>::try_from(calls) {
        Ok([single]) => single,
        Err(calls) if calls.is_empty() => return Err(refuse("no steps".to_owned())),
        Err(calls) => IPool::multicallCall { calls }.abi_encode().into(),
    };
    Ok(Call::new(settings.pool, data))
}

/// The payload, if it is what the intent says.
fn checked(intent: &Intent) -> Result<Bytes, BuildError> {
    let fits = match intent.kind {
        IntentKind::Liquidate => IPool::liquidationCallCall::abi_decode(&intent.payload)
            .is_ok_and(|call| intent.scope.unit() == Some(&state::unit_key(call.borrower)) && !call.receiveAToken),
        IntentKind::CoverDeficit => {
            IPool::eliminateReserveDeficitCall::abi_decode(&intent.payload).is_ok() && intent.scope.unit().is_none()
        }
        _ => false,
    };
    let kind = intent.kind.as_str();
    if fits { Ok(intent.payload.clone()) } else { Err(refuse(format!("{kind} of {} is not ours", intent.scope))) }
}

fn refuse(why: String) -> BuildError {
    BuildError(why)
}
