//! Keys: where they come from and what they sign.
//!
//! Invariants: a key is never printed, logged or put into an error; a key file that others may read is refused.
//! Must not: be used by anything but the gate.

use std::{fmt, fs, path::PathBuf};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, Bytes, Signature},
    signers::{SignerSync, local::PrivateKeySigner},
};
use futures_util::future::{BoxFuture, FutureExt};

#[cfg(feature = "aws-kms")]
use super::kms_signer::KmsKey;
use super::remote_signer::RemoteKey;
use crate::chain::Endpoint;

/// Something that signs transactions with one key. Remote keys answer later, hence the future.
pub trait Signer: Send + Sync {
    /// The key's address.
    fn address(&self) -> Address;

    /// Signs, and encodes for broadcast.
    fn sign<'a>(&'a self, transaction: TxEip1559) -> BoxFuture<'a, Result<SignedBytes, SignerError>>;
}

/// A signed transaction, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBytes {
    /// Its hash, under which it will be mined.
    pub hash: B256,
    /// EIP-2718 bytes.
    pub raw: Bytes,
}

/// Where a key is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// No key: an address to look from. Good for a dry run; every signature fails.
    Watch {
        /// The keeper's address.
        address: Address,
    },
    /// Hex in an environment variable. For development: the environment of a process is readable by its user.
    Env {
        /// The variable's name.
        variable: String,
    },
    /// Hex in a file that only its owner may read.
    KeyFile {
        /// The file.
        path: PathBuf,
    },
    /// An encrypted JSON keystore.
    Keystore {
        /// The file.
        path: PathBuf,
        /// What opens it.
        password: PasswordSource,
    },
    /// With another process, which signs on request.
    Remote {
        /// Where it listens, http or https.
        url: Endpoint,
        /// The key's address.
        address: Address,
    },
    /// In AWS KMS.
    AwsKms {
        /// Its id, ARN or alias.
        key_id: String,
        /// The key's address.
        address: Address,
    },
}

/// Where a keystore's password is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordSource {
    /// In an environment variable.
    Env {
        /// The variable's name.
        variable: String,
    },
    /// In a file that only its owner may read; a trailing newline is not part of it.
    File {
        /// The file.
        path: PathBuf,
    },
}

/// No key, or no signature. Says where, never what.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// An environment variable is missing, empty or no text.
    #[error("environment variable {0} is not set")]
    Variable(String),
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A secret file is open to others.
    #[error("{path} can be read by others (mode {mode:04o}); run: chmod 600 {path}")]
    Permissions {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no private key.
    #[error("{0} holds no private key (32 bytes of hex)")]
    Malformed(String),
    /// A keystore did not open.
    #[error("keystore {0} cannot be opened with this password")]
    Keystore(PathBuf),
    /// Only the address is configured.
    #[error("no key is configured for {0}, only its address")]
    WatchOnly(Address),
    /// A remote signer gave no signature that can be used.
    #[error("remote signer {url}: {problem}")]
    Remote {
        /// Which.
        url: Endpoint,
        /// What it did.
        problem: String,
    },
    /// AWS KMS gave no signature that can be used.
    #[error("AWS KMS key {key_id}: {problem}")]
    Kms {
        /// Which.
        key_id: String,
        /// What it did.
        problem: String,
    },
    /// This executable was built without what the key needs.
    #[error("this executable has no {0} signer; build it with --features {0}")]
    NotBuilt(&'static str),
    /// Signing failed.
    #[error("signing failed: {0}")]
    Sign(String),
}

/// Opens a key. Blocks for the time of the keystore's key derivation, up to seconds: call it at start only.
pub fn open(source: &KeySource) -> Result<Box<dyn Signer>, SignerError> {
    let key = match source {
        KeySource::Watch { address } => return Ok(Box::new(WatchOnly(*address))),
        KeySource::Remote { url, address } => return Ok(Box::new(RemoteKey::new(url.clone(), *address)?)),
        #[cfg(feature = "aws-kms")]
        KeySource::AwsKms { key_id, address } => return Ok(Box::new(KmsKey::new(key_id.clone(), *address))),
        #[cfg(not(feature = "aws-kms"))]
        KeySource::AwsKms { .. } => return Err(SignerError::NotBuilt("aws-kms")),
        KeySource::Env { variable } => parse(&variable_text(variable)?, variable)?,
        KeySource::KeyFile { path } => parse(&secret_file(path)?, &path.display().to_string())?,
        KeySource::Keystore { path, password } => {
            let password = match password {
                PasswordSource::Env { variable } => variable_text(variable)?,
                PasswordSource::File { path } => secret_file(path)?.trim_end_matches(['\r', '\n']).to_owned(),
            };
            PrivateKeySigner::decrypt_keystore(path, password).map_err(|_| SignerError::Keystore(path.clone()))?
        }
    };
    Ok(Box::new(LocalKey(key)))
}

/// A key in this process' memory.
struct LocalKey(PrivateKeySigner);

impl fmt::Debug for LocalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalKey({})", self.0.address())
    }
}

impl Signer for LocalKey {
    fn address(&self) -> Address {
        self.0.address()
    }

    fn sign<'a>(&'a self, transaction: TxEip1559) -> BoxFuture<'a, Result<SignedBytes, SignerError>> {
        let signed = self
            .0
            .sign_hash_sync(&transaction.signature_hash())
            .map(|signature| encoded(transaction, signature))
            .map_err(|error| SignerError::Sign(error.to_string()));
        async move { signed }.boxed()
    }
}

/// A transaction with its signature.
pub(super) fn encoded(transaction: TxEip1559, signature: Signature) -> SignedBytes {
    let envelope = TxEnvelope::Eip1559(transaction.into_signed(signature));
    SignedBytes { hash: *envelope.tx_hash(), raw: envelope.encoded_2718().into() }
}

/// An address without a key.
#[derive(Debug)]
struct WatchOnly(Address);

impl Signer for WatchOnly {
    fn address(&self) -> Address {
        self.0
    }

    fn sign<'a>(&'a self, _: TxEip1559) -> BoxFuture<'a, Result<SignedBytes, SignerError>> {
        async move { Err(SignerError::WatchOnly(self.0)) }.boxed()
    }
}

fn parse(text: &str, place: &str) -> Result<PrivateKeySigner, SignerError> {
    text.trim().parse().map_err(|_| SignerError::Malformed(place.to_owned()))
}

fn variable_text(variable: &str) -> Result<String, SignerError> {
    match std::env::var(variable) {
        Ok(text) if !text.is_empty() => Ok(text),
        _ => Err(SignerError::Variable(variable.to_owned())),
    }
}

fn secret_file(path: &PathBuf) -> Result<String, SignerError> {
    let unreadable = |source| SignerError::File { path: path.clone(), source };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SignerError::Permissions { path: path.clone(), mode });
        }
    }
    fs::read_to_string(path).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use alloy::{
        consensus::transaction::SignerRecoverable,
        eips::eip2718::Decodable2718,
        primitives::{TxKind, U256, address},
    };

    use super::*;

    const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
    const ADDRESS: Address = address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8");

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_key_file_is_read_only_when_nobody_else_may() {
        let (_folder, path) = file(&format!("{KEY}\n"), 0o600);
        assert_eq!(open(&KeySource::KeyFile { path }).unwrap().address(), ADDRESS);
        let (_folder, path) = file(KEY, 0o640);
        let Err(error) = open(&KeySource::KeyFile { path: path.clone() }) else { panic!("opened") };
        assert_eq!(
            error.to_string(),
            format!("{0} can be read by others (mode 0640); run: chmod 600 {0}", path.display())
        );
    }

    #[test]
    fn errors_say_where_and_never_what() {
        let (_folder, path) = file("0xnot-a-key-but-secret", 0o600);
        let Err(error) = open(&KeySource::KeyFile { path }) else { panic!("opened") };
        assert!(error.to_string().contains("holds no private key"));
        assert!(!format!("{error} {error:?}").contains("not-a-key"));
        let variable = "BACKSTOP_TEST_NO_SUCH_VARIABLE".to_owned();
        let Err(error) = open(&KeySource::Env { variable }) else { panic!("opened") };
        assert_eq!(error.to_string(), "environment variable BACKSTOP_TEST_NO_SUCH_VARIABLE is not set");
        let key = LocalKey(KEY.parse().unwrap());
        assert_eq!(format!("{key:?}"), format!("LocalKey({ADDRESS})"));
    }

    #[cfg(not(feature = "aws-kms"))]
    #[test]
    fn a_key_that_this_build_cannot_use_says_how_to_build() {
        let Err(error) = open(&KeySource::AwsKms { key_id: "alias/keeper".to_owned(), address: ADDRESS }) else {
            panic!("opened")
        };
        assert_eq!(error.to_string(), "this executable has no aws-kms signer; build it with --features aws-kms");
    }

    #[tokio::test]
    async fn an_address_alone_signs_nothing() {
        let signer = open(&KeySource::Watch { address: ADDRESS }).unwrap();
        assert_eq!(signer.address(), ADDRESS);
        let refused = signer.sign(TxEip1559::default()).await.unwrap_err();
        assert!(matches!(refused, SignerError::WatchOnly(ADDRESS)));
    }

    /// [`KEY`] under "open sesame" in the Web3 secret storage form; few rounds, so that the test is quick.
    const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"000102030405060708090a0b0c0d0e0f"},
        "ciphertext":"679cfdf7b6e9d3915eec2989959c305307714ab801a79e5ac8546933e79ba1dc","kdf":"pbkdf2","kdfparams":
        {"c":16,"dklen":32,"prf":"hmac-sha256","salt":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"},
        "mac":"127a6b8346c7f5f5f7f898b09641ad104d73ef0b5e78a03995621929ddc5fddb"},
        "id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    #[test]
    fn a_keystore_opens_with_its_password_alone() {
        let (_keystore, path) = file(KEYSTORE, 0o600);
        let (_right, right) = file("open sesame\n", 0o400);
        let (_wrong, wrong) = file("open barley", 0o400);
        let keystore =
            |password| KeySource::Keystore { path: path.clone(), password: PasswordSource::File { path: password } };
        assert_eq!(open(&keystore(right)).unwrap().address(), ADDRESS);
        let Err(error) = open(&keystore(wrong)) else { panic!("opened") };
        assert!(matches!(error, SignerError::Keystore(_)));
    }

    #[tokio::test]
    async fn signed_bytes_recover_to_the_key_and_hash_to_their_name() {
        let signer = LocalKey(KEY.parse().unwrap());
        let transaction =
            TxEip1559 { chain_id: 7, nonce: 3, to: TxKind::Call(ADDRESS), value: U256::from(5), ..Default::default() };
        let signed = signer.sign(transaction).await.unwrap();
        let decoded = TxEnvelope::decode_2718_exact(&signed.raw).unwrap();
        assert_eq!((*decoded.tx_hash(), decoded.recover_signer().unwrap()), (signed.hash, ADDRESS));
        assert_eq!(alloy::primitives::keccak256(&signed.raw), signed.hash);
    }
}
