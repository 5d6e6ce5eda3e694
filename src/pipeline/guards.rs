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

#[cfg(test)]
mod tests {
    use alloy::primitives::keccak256;

    use super::*;
    use crate::{
        chain::fixture::{NOTEBOOK, REVERTER, TestChain, word},
        types::{Address, B256, Bytes, Call},
    };

    fn guard(check: GuardCheck) -> Guard {
        Guard { what: "a test".to_owned(), check, mend: "look".to_owned() }
    }

    fn view(to: Address, expected: Bytes) -> Guard {
        guard(GuardCheck::Call { call: Call::new(to, Bytes::new()), expected })
    }

    #[tokio::test]
    async fn a_guard_holds_exactly_as_long_as_the_contract_is_what_it_was() {
        let chain = TestChain::start().await;
        let notebook = chain.deploy(NOTEBOOK).await;
        let reverter = chain.deploy(REVERTER).await;
        chain.send_now(notebook, word(&[7])).await;
        let head = chain.rpc.head().await.unwrap();
        let code = keccak256(chain.rpc.code(notebook, head.hash).await.unwrap());
        let slot = |expected| guard(GuardCheck::Storage { address: notebook, slot: B256::ZERO, expected });
        let hash = |expected| guard(GuardCheck::CodeHash { address: notebook, expected });
        let seven = B256::from_slice(&word(&[7]));
        let holding = [view(notebook, word(&[7])), slot(seven), hash(code)];
        assert_eq!(deviations(&chain.rpc, &holding, &head).await.unwrap(), Vec::<String>::new());

        let wrong = [view(notebook, word(&[8])), view(reverter, word(&[7])), slot(B256::ZERO), hash(B256::ZERO)];
        let found = deviations(&chain.rpc, &wrong, &head).await.unwrap();
        assert_eq!(found.len(), wrong.len());
        assert!(found.iter().all(|line| line.starts_with("a test: ") && line.ends_with("; look")), "{found:?}");

        chain.send_now(notebook, word(&[9])).await;
        let later = chain.rpc.head().await.unwrap();
        assert_eq!(
            deviations(&chain.rpc, &holding, &later).await.unwrap().len(),
            2,
            "the word moved, the code did not"
        );
        assert_eq!(deviations(&chain.rpc, &holding, &head).await.unwrap().len(), 0, "a look is pinned to its block");
    }

    #[tokio::test]
    async fn a_block_that_the_node_does_not_have_is_no_all_clear() {
        let chain = TestChain::start().await;
        let notebook = chain.deploy(NOTEBOOK).await;
        let head = chain.rpc.head().await.unwrap();
        let unknown = BlockRef { hash: B256::repeat_byte(1), ..head };
        assert!(deviations(&chain.rpc, &[view(notebook, word(&[0]))], &unknown).await.is_err());
    }
}
