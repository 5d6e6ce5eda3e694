//! Several nodes of one chain, some of which fail, stand still, lie or belong to another chain.

use std::time::{Duration, Instant};

use alloy::signers::local::PrivateKeySigner;
use prometheus::Registry;
use serde_json::{Value, json};

use super::{OVERLOADED, misbehaving, transfer};
use crate::{
    chain::{
        Rpc, RpcError, RpcMetrics, RpcSettings, SendError,
        fixture::{NOTEBOOK, SENDER, TestChain, connect, settings, word},
    },
    demo::anvil::{Anvil, AnvilOptions, Mining},
    types::{Bytes, Call, CallOutcome, LogFilter, U256},
};

fn of(urls: &[&str]) -> RpcSettings {
    let mut settings = settings(urls[0]);
    settings.urls = urls.iter().map(|url| url.parse().unwrap()).collect();
    settings.timeout = Duration::from_secs(2);
    settings
}

async fn metered(settings: &RpcSettings) -> (Rpc, Registry) {
    let registry = Registry::new();
    let metrics = RpcMetrics::new(&registry).unwrap();
    (Rpc::connect(settings, metrics.for_deployment(&"test".parse().unwrap())).await.unwrap(), registry)
}

fn counted(registry: &Registry, name: &str) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name).unwrap();
    family.get_metric()[0].get_counter().get_value() as u64
}

#[tokio::test]
async fn another_node_answers_for_one_that_fails_and_keeps_on_answering() {
    let chain = TestChain::start().await;
    chain.mine(2).await;
    let broken = misbehaving(vec![Some(OVERLOADED)]).await;
    let (rpc, registry) = metered(&of(&[&broken, &chain.anvil.http_url()])).await;
    for _ in 0..3 {
        assert_eq!(rpc.head().await.unwrap().number, 2);
    }
    assert_eq!(counted(&registry, "backstop_rpc_failovers_total"), 1, "it stays with the one that answers");
}

/// A node that has every block and shows no logs; with or without receipts.
async fn forgetful(node: String, with_receipts: bool) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = move |axum::Json(asked): axum::Json<Value>| async move {
        let answer = |what: &str, value: Value| json!({ "jsonrpc": "2.0", "id": asked["id"], what: value });
        match asked["method"].as_str().unwrap() {
            "eth_getLogs" => axum::Json(answer("result", json!([]))),
            "eth_getBlockReceipts" if !with_receipts => {
                axum::Json(answer("error", json!({ "code": -32601, "message": "the method does not exist" })))
            }
            _ => {
                let said = client.post(&node).json(&asked).send().await.unwrap();
                axum::Json(serde_json::from_str(&said.text().await.unwrap()).unwrap())
            }
        }
    };
    let router = axum::Router::new().route("/", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

#[tokio::test]
async fn no_logs_of_a_block_whose_bloom_has_some_are_looked_up_in_its_receipts() {
    let chain = TestChain::start().await;
    let [ours, other] = [chain.deploy(NOTEBOOK).await, chain.deploy(NOTEBOOK).await];
    chain.send_now(ours, word(&[5])).await;
    let filter = |emitter| LogFilter::of([emitter]);
    for (with_receipts, found) in [(true, 1), (false, 0)] {
        let url = forgetful(chain.anvil.http_url(), with_receipts).await;
        let (rpc, registry) = metered(&of(&[&url])).await;
        let block = rpc.head().await.unwrap();
        assert_eq!(rpc.logs_of_block(block.hash, &filter(ours)).await.unwrap().len(), found);
        assert_eq!(counted(&registry, "backstop_rpc_disagreements_total"), found as u64);
        assert!(
            rpc.logs_of_block(block.hash, &filter(other)).await.unwrap().is_empty(),
            "the bloom says nothing of it"
        );
        let unread = rpc.block_by_number(block.number - 1).await.unwrap().unwrap();
        assert!(rpc.logs_of_block(unread.hash, &filter(ours)).await.unwrap().is_empty(), "nothing happened there");
    }
}

#[tokio::test]
async fn a_silent_node_costs_one_timeout_and_then_no_more() {
    let chain = TestChain::start().await;
    let silent = misbehaving(vec![None]).await;
    let mut settings = of(&[&silent, &chain.anvil.http_url()]);
    settings.timeout = Duration::from_millis(300);
    let (rpc, _) = metered(&settings).await;
    assert!(rpc.head().await.is_err(), "the time of one request is up");
    let started = Instant::now();
    assert_eq!(rpc.head().await.unwrap().number, 0);
    assert!(started.elapsed() < Duration::from_millis(300), "the other is asked at once");
}

#[tokio::test]
async fn a_node_of_another_chain_is_not_believed() {
    let chain = TestChain::start().await;
    chain.mine(1).await;
    let options = AnvilOptions { chain_id: 7, mining: Mining::OnDemand, ..AnvilOptions::default() };
    let seven = Anvil::start(&options).await.unwrap();
    let rpc = connect(&of(&[&seven.http_url(), &chain.anvil.http_url()])).await;
    assert_eq!(rpc.head().await.unwrap().number, 1);
    let ids: Vec<u64> = rpc.chain_ids().await.into_iter().map(|(_, id)| id.unwrap()).collect();
    assert_eq!(ids, [7, 31337]);
    let alone = connect(&of(&[&seven.http_url(), &seven.http_url()])).await;
    let error = alone.head().await.unwrap_err();
    assert!(matches!(error, RpcError::WrongChain { expected: 31337, actual: 7, .. }), "{error}");
}

#[tokio::test]
async fn a_node_that_stands_still_is_left_for_one_that_moves() {
    let (still, moving) = (TestChain::start().await, TestChain::start().await);
    let (rpc, registry) = metered(&of(&[&still.anvil.http_url(), &moving.anvil.http_url()])).await;
    moving.mine(2).await;
    assert_eq!(rpc.head().await.unwrap().number, 0, "two blocks are no standstill");
    moving.mine(2).await;
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    assert_eq!(rpc.head().await.unwrap().number, 4);
    assert_eq!(rpc.head().await.unwrap().number, 4);
    assert_eq!(counted(&registry, "backstop_rpc_failovers_total"), 1);
}

/// Two chains with the same blocks: the same options and the same transactions make the same hashes.
async fn twins() -> [TestChain; 2] {
    let twin = async || {
        let options = AnvilOptions {
            mining: Mining::OnDemand,
            genesis_timestamp: Some(1_700_000_000),
            ..AnvilOptions::default()
        };
        let anvil = Anvil::start(&options).await.unwrap();
        let rpc = connect(&settings(&anvil.http_url())).await;
        TestChain { anvil, rpc }
    };
    [twin().await, twin().await]
}

#[tokio::test]
async fn a_quorum_of_two_takes_what_both_say_and_refuses_what_they_do_not() {
    let [one, other] = twins().await;
    let mut notebook = None;
    for chain in [&one, &other] {
        chain.anvil.set_next_timestamp(1_700_000_100).await.unwrap();
        notebook = Some(chain.deploy(NOTEBOOK).await);
        chain.anvil.set_next_timestamp(1_700_000_200).await.unwrap();
        chain.send_now(notebook.unwrap(), word(&[1])).await;
    }
    let notebook = notebook.unwrap();
    let mut both = of(&[&one.anvil.http_url(), &other.anvil.http_url()]);
    both.quorum = 2;
    let (rpc, registry) = metered(&both).await;
    let head = rpc.head().await.unwrap();
    assert_eq!(other.rpc.head().await.unwrap(), head, "twins");
    let (read, filter) = (Call::new(notebook, Bytes::new()), LogFilter::of([notebook]));
    assert_eq!(rpc.call(&read, None, head.hash).await.unwrap(), CallOutcome::Returned(word(&[1])));
    assert_eq!(rpc.logs_of_block(head.hash, &filter).await.unwrap().len(), 1);
    assert_eq!(rpc.logs_in_range(0, head.number, &filter).await.unwrap().len(), 1);
    assert_eq!(rpc.simulate(SENDER, std::slice::from_ref(&read), &head).await.unwrap()[0].output, word(&[1]));

    // One of them is made to lie about the state of the block.
    other.anvil.command("anvil_setStorageAt", json!([notebook, U256::ZERO, word(&[9])])).await.unwrap();
    let lied = rpc.call(&read, None, head.hash).await.unwrap_err();
    assert_eq!(lied, RpcError::Disagreement { method: "eth_call" });
    assert_eq!(counted(&registry, "backstop_rpc_disagreements_total"), 1);

    // Without the second there is no answer at all.
    drop(other.anvil);
    assert!(rpc.call(&read, None, head.hash).await.is_err());
}

#[tokio::test]
async fn signed_bytes_go_to_every_node_and_one_acceptance_is_enough() {
    let [one, other] = twins().await;
    let signer = PrivateKeySigner::from_slice(&[5; 32]).unwrap();
    for chain in [&one, &other] {
        chain.anvil.set_balance(signer.address(), U256::from(10).pow(U256::from(18))).await.unwrap();
    }
    let broken = misbehaving(vec![Some(OVERLOADED)]).await;
    let rpc = connect(&of(&[&one.anvil.http_url(), &other.anvil.http_url(), &broken])).await;
    let raw = transfer(&signer, 0, 10_000_000_000, U256::from(1));
    // A pause while a node is asked which chain it follows is a pause.
    let late = rpc.send_raw(&raw, &|| false).await.unwrap_err();
    assert!(matches!(late, SendError::Unknown(_) | SendError::Rejected(_)), "{late}");
    let hash = alloy::primitives::keccak256(&raw);
    assert!(!one.rpc.transaction_known(hash).await.unwrap() && !other.rpc.transaction_known(hash).await.unwrap());

    assert_eq!(rpc.send_raw(&raw, &|| true).await, Ok(hash));
    assert!(one.rpc.transaction_known(hash).await.unwrap() || other.rpc.transaction_known(hash).await.unwrap());
    // Again: one knows it, the other does now if it did not.
    let again = rpc.send_raw(&raw, &|| true).await;
    assert!(again == Ok(hash) || again == Err(SendError::AlreadyKnown), "{again:?}");
    // Refused by two; what the third did with it nobody knows.
    let garbage = rpc.send_raw(&[2, 3], &|| true).await.unwrap_err();
    assert!(matches!(garbage, SendError::Unknown(_)), "{garbage}");
}

#[tokio::test]
async fn a_node_that_asks_for_a_rest_has_it() {
    const LATER: &str = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\n\r\nslow down";
    let (rpc, _) = metered(&of(&[&misbehaving(vec![Some(LATER)]).await])).await;
    let started = Instant::now();
    let error = rpc.nonce(SENDER, false).await.unwrap_err();
    assert!(started.elapsed() >= Duration::from_secs(1), "asked again after the rest, not before");
    assert!(error.to_string().contains("rest"), "{error}");
}
