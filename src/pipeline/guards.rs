//! Facts about the contracts that the adapter's rules rest on, looked at before anything is planned.
//!
//! Invariants: all looks of one check are pinned to one block hash; no answer is no deviation, and no all-clear either.
//! Must not: halt anything itself.

use crate::{
    chain::{Rpc, RpcError},
    protocols::{Guard, GuardCheck},
    types::{BlockRef, CallOutcome},
};

/// The guards that do not hold at this block, each as one line with its mend.
pub async fn deviations(rpc: &Rpc, guards: &[Guard], at: &BlockRef) -> Result<Vec<String>, RpcError> {
    let found = guards.iter().map(|guard| async move {
        let seen = look(rpc, &guard.check, at).await?;
        Ok::<_, RpcError>(seen.map(|seen| format!("{}: {seen}; {}", guard.what, guard.mend)))
    });
    let found = futures_util::future::try_join_all(found).await?;
    Ok(found.into_iter().flatten().collect())
}

/// What is there instead of what should be; `None` if the guard holds.
async fn look(rpc: &Rpc, check: &GuardCheck, at: &BlockRef) -> Result<Option<String>, RpcError> {
    Ok(match check {
        GuardCheck::Call { call, expected } => match rpc.call(call, None, at.hash).await? {
            CallOutcome::Returned(answer) if answer == *expected => None,
            CallOutcome::Returned(answer) => Some(format!("{} answers {answer}, not {expected}", call.to)),
            CallOutcome::Reverted(_) => Some(format!("{} reverts instead of answering {expected}", call.to)),
        },
        GuardCheck::Storage { address, slot, expected } => {
            let word = rpc.storage(*address, *slot, at.hash).await?;
            (word != *expected).then(|| format!("slot {slot} of {address} holds {word}, not {expected}"))
        }
        GuardCheck::CodeHash { address, expected } => {
            let hash = alloy::primitives::keccak256(rpc.code(*address, at.hash).await?);
            (hash != *expected).then(|| format!("the code of {address} has hash {hash}, not {expected}"))
        }
    })
}
