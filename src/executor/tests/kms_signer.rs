//! The KMS signer against a double of KMS: the two calls that are made of it, answered as its API reference says, with a key of
//! the test's own.

use alloy::{
    consensus::{TxEip1559, TxEnvelope, transaction::SignerRecoverable},
    eips::eip2718::Decodable2718,
    primitives::{Address, TxKind, U256, address, hex, keccak256},
    signers::k256::ecdsa::{Signature, SigningKey, signature::hazmat::PrehashSigner},
};
use aws_sdk_kms::{
    Client,
    config::{BehaviorVersion, Credentials, Region},
};
use axum::{Json, Router, http::HeaderMap, response::IntoResponse, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::super::{kms_signer::KmsKey, signer::Signer};

const KEY: [u8; 32] = hex!("59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d");
const ADDRESS: Address = address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8");
/// A secp256k1 public key in its X.509 form, up to the point itself (RFC 5480).
const SPKI: [u8; 23] = hex!("3056301006072a8648ce3d020106052b8104000a034200");

/// Answers with the key of the test; signs with another one if told to.
async fn kms(signs_with: [u8; 32]) -> Client {
    let answer = move |headers: HeaderMap, Json(asked): Json<Value>| async move {
        let shown = SigningKey::from_slice(&KEY).unwrap();
        assert_eq!(asked["KeyId"], "alias/keeper");
        let answered = match headers["x-amz-target"].to_str().unwrap() {
            "TrentService.GetPublicKey" => {
                let point = shown.verifying_key().to_encoded_point(false);
                json!({ "PublicKey": STANDARD.encode([SPKI.as_slice(), point.as_bytes()].concat()) })
            }
            "TrentService.Sign" => {
                assert_eq!(
                    (&asked["MessageType"], &asked["SigningAlgorithm"]),
                    (&json!("DIGEST"), &json!("ECDSA_SHA_256"))
                );
                let digest = STANDARD.decode(asked["Message"].as_str().unwrap()).unwrap();
                let key = SigningKey::from_slice(&signs_with).unwrap();
                let signature: Signature = key.sign_prehash(&digest).unwrap();
                json!({ "Signature": STANDARD.encode(signature.to_der()) })
            }
            other => panic!("{other} is not to be asked"),
        };
        ([("content-type", "application/x-amz-json-1.1")], answered.to_string()).into_response()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(answer))).await });
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(url)
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"));
    Client::from_conf(config.build())
}

fn transaction() -> TxEip1559 {
    TxEip1559 { chain_id: 7, nonce: 3, to: TxKind::Call(ADDRESS), value: U256::from(5), ..Default::default() }
}

#[tokio::test]
async fn a_key_in_kms_signs_what_was_asked_for() {
    let signer = KmsKey::over(kms(KEY).await, "alias/keeper".to_owned(), ADDRESS);
    assert_eq!(signer.address(), ADDRESS);
    for _ in 0..2 {
        let signed = signer.sign(transaction()).await.unwrap();
        let envelope = TxEnvelope::decode_2718_exact(&signed.raw).unwrap();
        assert_eq!((envelope.recover_signer().unwrap(), keccak256(&signed.raw)), (ADDRESS, signed.hash));
        let TxEnvelope::Eip1559(signed) = envelope else { panic!("another kind") };
        assert_eq!(*signed.tx(), transaction());
    }
}

#[tokio::test]
async fn a_kms_that_has_another_key_or_signs_with_one_signs_nothing() {
    let other = Address::repeat_byte(9);
    let signer = KmsKey::over(kms(KEY).await, "alias/keeper".to_owned(), other);
    let error = signer.sign(transaction()).await.unwrap_err().to_string();
    assert_eq!(error, format!("AWS KMS key alias/keeper: it is the key of {ADDRESS}, not of {other}"));
    let signer = KmsKey::over(kms([7; 32]).await, "alias/keeper".to_owned(), ADDRESS);
    let error = signer.sign(transaction()).await.unwrap_err().to_string();
    assert!(error.contains("recover signature parity"), "{error}");
}

#[tokio::test]
async fn a_kms_that_is_gone_costs_a_pass() {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url("http://127.0.0.1:1")
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"));
    let signer = KmsKey::over(Client::from_conf(config.build()), "alias/keeper".to_owned(), ADDRESS);
    let error = signer.sign(transaction()).await.unwrap_err().to_string();
    assert!(error.starts_with("AWS KMS key alias/keeper: "), "{error}");
}
