//! The remote signer against a real one, and against doubles that lie.

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{Address, Bytes, TxKind, U256, address, bytes},
    signers::{SignerSync, local::PrivateKeySigner},
};
use axum::{Json, Router, extract::State, routing::post};
use serde_json::{Value, json};

use super::super::{remote_signer::RemoteKey, signer::Signer};
use crate::{
    chain::Endpoint,
    demo::anvil::{Anvil, AnvilOptions},
};

const KEY: &str = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const ADDRESS: Address = address!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8");

fn transaction(chain_id: u64) -> TxEip1559 {
    TxEip1559 {
        chain_id,
        nonce: 3,
        gas_limit: 90_000,
        max_fee_per_gas: 7_000_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(Address::repeat_byte(7)),
        value: U256::from(5),
        input: bytes!("0xa9059cbb00"),
        ..Default::default()
    }
}

fn signed_by(key: &str, transaction: TxEip1559) -> Value {
    let key: PrivateKeySigner = key.parse().unwrap();
    let signature = key.sign_hash_sync(&transaction.signature_hash()).unwrap();
    json!(Bytes::from(TxEnvelope::Eip1559(transaction.into_signed(signature)).encoded_2718()))
}

/// A double of a signer that answers every request with this.
async fn answering(answer: Value) -> RemoteKey {
    let say = |State(answer): State<Value>| async move { Json(answer) };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://user:secret@{}/token", listener.local_addr().unwrap());
    let routes = Router::new().route("/token", post(say)).with_state(answer);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    RemoteKey::new(url.parse().unwrap(), ADDRESS).unwrap()
}

async fn refused(answer: Value) -> String {
    answering(answer).await.sign(transaction(7)).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_real_signer_signs_what_was_asked_for() {
    let options = AnvilOptions::default();
    let anvil = Anvil::start(&options).await.unwrap();
    let remote = RemoteKey::new(anvil.http_url().parse().unwrap(), ADDRESS).unwrap();
    let asked = transaction(options.chain_id);
    let signed = remote.sign(asked.clone()).await.unwrap();
    let own = signed_by(KEY, asked);
    assert_eq!((json!(signed.raw), alloy::primitives::keccak256(&signed.raw)), (own, signed.hash));
}

#[tokio::test]
async fn a_signer_that_lies_is_found_out() {
    let result = |result: Value| json!({ "jsonrpc": "2.0", "id": 1, "result": result });
    let honest = result(signed_by(KEY, transaction(7)));
    assert!(answering(honest).await.sign(transaction(7)).await.is_ok());
    let other = TxEip1559 { value: U256::from(6), ..transaction(7) };
    let host = "http://***@127.0.0.1";
    let lies = [
        (result(signed_by(KEY, other)), "signed another transaction than was asked for"),
        (result(signed_by(KEY, transaction(8))), "signed another transaction than was asked for"),
        (result(signed_by(&format!("0x{}", "11".repeat(32)), transaction(7))), "signed with the key of"),
        (result(json!("0x02")), "answered with no transaction"),
        (result(Value::Null), "without a signed transaction"),
        (json!({ "error": { "code": -32_000, "message": "locked" } }), "refused: locked"),
        (json!("x".repeat(2 << 20)), "its answer is longer than any transaction"),
    ];
    for (answer, wanted) in lies {
        let error = refused(answer).await;
        assert!(error.contains(wanted) && error.contains(host), "{error}");
        assert!(!error.contains("secret") && !error.contains("token"), "{error}");
    }
}

#[tokio::test]
async fn a_signer_that_is_gone_is_an_error_without_its_token() {
    let url: Endpoint = "http://user:secret@127.0.0.1:1/token".parse().unwrap();
    let error = RemoteKey::new(url.clone(), ADDRESS).unwrap().sign(transaction(7)).await.unwrap_err();
    assert!(error.to_string().starts_with("remote signer http://***@127.0.0.1:1/***: "), "{error}");
    assert!(!format!("{error} {error:?} {url:?}").contains("secret"), "{error:?}");
}
