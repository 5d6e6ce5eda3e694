//! A key that another process holds and signs with: JSON-RPC `eth_signTransaction`, as Web3Signer, a node with an unlocked
//! account or a proxy before a hardware module answers it.
//!
//! Invariants: what comes back is used only if it is, field for field, the transaction that was asked for, and its signature
//! recovers to the configured address. A signer that is slow, gone or lying costs a pass and signs nothing; no endpoint
//! token is in an error.
//! Must not: send a transaction, or ask twice for one answer.

use std::time::Duration;

use alloy::{
    consensus::{TxEip1559, TxEnvelope, transaction::SignerRecoverable},
    eips::eip2718::Decodable2718,
    primitives::{Address, Bytes, TxKind, U64, U256},
};
use futures_util::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};

use super::signer::{SignedBytes, Signer, SignerError};
use crate::chain::{Endpoint, clean_text};

/// Longest wait for a signature: well within a block, since the pass waits.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// See the module.
#[derive(Debug)]
pub(super) struct RemoteKey {
    url: Endpoint,
    address: Address,
    client: reqwest::Client,
}

impl RemoteKey {
    pub(super) fn new(url: Endpoint, address: Address) -> Result<Self, SignerError> {
        let client = reqwest::Client::builder().timeout(TIMEOUT).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| SignerError::Remote { url: url.clone(), problem: error.to_string() })?;
        Ok(Self { url, address, client })
    }

    fn problem(&self, problem: impl Into<String>) -> SignerError {
        SignerError::Remote { url: self.url.clone(), problem: problem.into() }
    }

    async fn ask(&self, transaction: &TxEip1559) -> Result<Bytes, SignerError> {
        let request = json!({
            "jsonrpc": "2.0", "id": 1, "method": "eth_signTransaction", "params": [parameters(self.address, transaction)],
        });
        // reqwest's errors name the URL unless told not to
        let failed = |error: reqwest::Error| self.problem(error.without_url().to_string());
        let mut response = self.client.post(self.url.expose().clone()).json(&request).send().await.map_err(failed)?;
        let (status, mut body) = (response.status(), Vec::new());
        while let Some(part) = response.chunk().await.map_err(failed)? {
            if body.len() + part.len() > ANSWER_BYTES_MAX {
                return Err(self.problem("its answer is longer than any transaction"));
            }
            body.extend_from_slice(&part);
        }
        let answer: Value = serde_json::from_slice(&body)
            .map_err(|_| self.problem(format!("answered {status} with something that is no JSON")))?;
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            let message = error.get("message").and_then(Value::as_str).unwrap_or("no message");
            return Err(self.problem(format!("refused: {}", clean_text(message))));
        }
        // Web3Signer and anvil answer with the bytes, some nodes with an object around them
        let result = answer.get("result").map(|result| result.get("raw").unwrap_or(result));
        let raw = result.and_then(Value::as_str).and_then(|raw| raw.parse().ok());
        raw.ok_or_else(|| self.problem(format!("answered {status} without a signed transaction")))
    }

    /// The answer, if it is what was asked for.
    fn check(&self, asked: TxEip1559, raw: Bytes) -> Result<SignedBytes, SignerError> {
        let envelope = TxEnvelope::decode_2718_exact(&raw).map_err(|_| self.problem("answered with no transaction"))?;
        let hash = *envelope.tx_hash();
        let signer = envelope.recover_signer().map_err(|_| self.problem("its signature recovers to nobody"))?;
        let TxEnvelope::Eip1559(signed) = envelope else {
            return Err(self.problem("signed a transaction of another kind than was asked for"));
        };
        if *signed.tx() != asked {
            return Err(self.problem("signed another transaction than was asked for"));
        }
        if signer != self.address {
            return Err(self.problem(format!("signed with the key of {signer}, not of {}", self.address)));
        }
        Ok(SignedBytes { hash, raw })
    }
}

impl Signer for RemoteKey {
    fn address(&self) -> Address {
        self.address
    }

    fn sign<'a>(&'a self, transaction: TxEip1559) -> BoxFuture<'a, Result<SignedBytes, SignerError>> {
        async move {
            let raw = self.ask(&transaction).await?;
            self.check(transaction, raw)
        }
        .boxed()
    }
}

/// A transaction as JSON-RPC asks for it.
fn parameters(from: Address, transaction: &TxEip1559) -> Value {
    let to = match transaction.to {
        TxKind::Call(to) => Some(to),
        TxKind::Create => None,
    };
    json!({
        "from": from,
        "to": to,
        "type": "0x2",
        "chainId": U64::from(transaction.chain_id),
        "nonce": U64::from(transaction.nonce),
        "gas": U64::from(transaction.gas_limit),
        "maxFeePerGas": U256::from(transaction.max_fee_per_gas),
        "maxPriorityFeePerGas": U256::from(transaction.max_priority_fee_per_gas),
        "value": transaction.value,
        "data": transaction.input,
        "accessList": transaction.access_list,
    })
}
