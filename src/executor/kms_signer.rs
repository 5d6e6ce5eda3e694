//! A key in AWS KMS: it signs there and cannot leave. Built with the feature `aws-kms`.
//!
//! Region and credentials come from where AWS's own tools look for them. The key is an `ECC_SECG_P256K1` one for `SIGN_VERIFY`; the
//! process needs `kms:GetPublicKey` and `kms:Sign` on it.
//!
//! Invariants: the public key that KMS shows must be the one of the configured address, and every signature must recover to
//! it; a KMS that is slow, gone or another one than configured costs a pass and signs nothing.
//! Must not: send a transaction, or hold a credential of its own.

use std::time::Duration;

use alloy::{
    consensus::{SignableTransaction, TxEip1559},
    primitives::Address,
    signers::{Signer as _, aws::AwsSigner},
};
use aws_config::BehaviorVersion;
use aws_sdk_kms::Client;
use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::OnceCell;

use super::signer::{SignedBytes, Signer, SignerError, encoded};

/// Longest wait for a signature: well within a block, since the pass waits.
const TIMEOUT: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct KmsKey {
    key_id: String,
    address: Address,
    /// How KMS is spoken to, where that is not for the environment to say.
    client: Option<Client>,
    /// Opened at the first signature.
    key: OnceCell<AwsSigner>,
}

impl KmsKey {
    /// A key by its id, ARN or alias, and the address that it must have. Nothing is asked yet.
    pub(super) fn new(key_id: String, address: Address) -> Self {
        Self { key_id, address, client: None, key: OnceCell::new() }
    }

    #[cfg(test)]
    pub(super) fn over(client: Client, key_id: String, address: Address) -> Self {
        Self { client: Some(client), ..Self::new(key_id, address) }
    }

    fn problem(&self, problem: impl std::fmt::Display) -> SignerError {
        SignerError::Kms { key_id: self.key_id.clone(), problem: problem.to_string() }
    }

    async fn open(&self) -> Result<AwsSigner, SignerError> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => Client::new(&aws_config::load_defaults(BehaviorVersion::latest()).await),
        };
        let key = AwsSigner::new(client, self.key_id.clone(), None)
            .await
            .map_err(|error| self.problem(with_causes(&error)))?;
        let address = key.address();
        if address != self.address {
            return Err(self.problem(format!("it is the key of {address}, not of {}", self.address)));
        }
        Ok(key)
    }
}

impl Signer for KmsKey {
    fn address(&self) -> Address {
        self.address
    }

    fn sign<'a>(&'a self, transaction: TxEip1559) -> BoxFuture<'a, Result<SignedBytes, SignerError>> {
        let signed = async move {
            let key = self.key.get_or_try_init(|| self.open()).await?;
            let signature = key.sign_hash(&transaction.signature_hash()).await;
            Ok(encoded(transaction, signature.map_err(|error| self.problem(with_causes(&error)))?))
        };
        async move {
            let late = |_| self.problem(format!("no signature within {} s", TIMEOUT.as_secs()));
            tokio::time::timeout(TIMEOUT, signed).await.map_err(late)?
        }
        .boxed()
    }
}

/// An error of the SDK with what it hides below.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
