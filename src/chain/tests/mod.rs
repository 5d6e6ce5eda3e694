//! The client against a real node, and against servers that misbehave.

use std::time::{Duration, Instant};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{TxKind, U256},
    signers::{SignerSync, local::PrivateKeySigner},
};
use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    ErrorClass, Rpc, RpcError, RpcMetrics, SendError,
    fixture::{NOTEBOOK, REVERTER, SENDER, TestChain, connect, settings, word},
};
use crate::demo::anvil::{Anvil, AnvilOptions, Mining};
use crate::types::{Address, B256, Bytes, Call, CallOutcome, LogFilter};

mod fuzzing;
mod several;

const UNKNOWN: B256 = B256::repeat_byte(0x11);

#[tokio::test]
async fn blocks_are_read_by_number_and_hash_and_absence_is_no_error() {
    let chain = TestChain::start().await;
    chain.mine(3).await;
    let head = chain.rpc.head().await.unwrap();
    assert_eq!(head.number, 3);
    assert_eq!(chain.rpc.chain_ids().await[0].1, Ok(31337));
    assert_eq!(chain.rpc.block_by_number(3).await.unwrap(), Some(head));
    assert_eq!(chain.rpc.block_by_hash(head.hash).await.unwrap(), Some(head));
    assert_eq!(chain.rpc.block_by_number(2).await.unwrap().unwrap().hash, head.parent_hash);
    assert_eq!(chain.rpc.block_by_number(4).await.unwrap(), None);
    assert_eq!(chain.rpc.block_by_hash(UNKNOWN).await.unwrap(), None);
}

#[tokio::test]
async fn logs_come_in_order_from_the_asked_emitters_alone() {
    let chain = TestChain::start().await;
    let (notebook, other) = (chain.deploy(NOTEBOOK).await, chain.deploy(NOTEBOOK).await);
    for id in 1..=3 {
        chain.send(notebook, word(&[id])).await;
    }
    chain.send(other, word(&[9])).await;
    chain.mine(1).await;
    chain.send_now(notebook, word(&[4])).await;
    let (filter, head) = (LogFilter::of([notebook]), chain.rpc.head().await.unwrap());

    let block = chain.rpc.block_by_number(3).await.unwrap().unwrap();
    let logs = chain.rpc.logs_of_block(block.hash, &filter).await.unwrap();
    assert_eq!(logs.iter().map(|log| log.data[0]).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(logs.iter().all(|log| (log.address, log.block_hash) == (notebook, block.hash)));

    let mut narrow = settings(&chain.anvil.http_url());
    for blocks_max in [1, 2, 1000] {
        narrow.log_range_blocks_max = blocks_max;
        let logs = connect(&narrow).await.logs_in_range(0, head.number, &filter).await.unwrap();
        assert_eq!(logs.iter().map(|log| log.data[0]).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }
    // To the node an empty list of emitters would mean all of them.
    assert_eq!(chain.rpc.logs_of_block(block.hash, &LogFilter::default()).await.unwrap(), []);
    assert_eq!(chain.rpc.logs_in_range(0, head.number, &LogFilter::default()).await.unwrap(), []);
}

#[tokio::test]
async fn a_block_the_node_does_not_know_is_not_an_empty_one() {
    let chain = TestChain::start().await;
    let notebook = chain.deploy(NOTEBOOK).await;
    let (filter, rpc) = (LogFilter::of([notebook]), &chain.rpc);
    let of_block = rpc.logs_of_block(UNKNOWN, &filter).await.unwrap_err();
    let in_range = rpc.logs_in_range(0, 50, &filter).await.unwrap_err();
    let call = rpc.call(&Call::new(notebook, Bytes::new()), None, UNKNOWN).await.unwrap_err();
    let mut block = rpc.head().await.unwrap();
    block.hash = UNKNOWN;
    let simulated = rpc.simulate(SENDER, &[Call::new(notebook, Bytes::new())], &block).await.unwrap_err();
    for error in [of_block, in_range, call, simulated] {
        assert!(matches!(error, RpcError::NotFound { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Retry);
    }
}

#[tokio::test]
async fn a_call_sees_the_state_of_its_block_and_a_revert_is_its_outcome() {
    let chain = TestChain::start().await;
    let (notebook, reverter) = (chain.deploy(NOTEBOOK).await, chain.deploy(REVERTER).await);
    chain.send_now(notebook, word(&[1])).await;
    let first = chain.rpc.head().await.unwrap().hash;
    chain.send_now(notebook, word(&[2])).await;
    let second = chain.rpc.head().await.unwrap().hash;
    let read = Call::new(notebook, Bytes::new());
    assert_eq!(chain.rpc.call(&read, None, first).await.unwrap(), CallOutcome::Returned(word(&[1])));
    assert_eq!(chain.rpc.call(&read, Some(SENDER), second).await.unwrap(), CallOutcome::Returned(word(&[2])));
    let reverted = chain.rpc.call(&Call::new(reverter, Bytes::new()), None, second).await.unwrap();
    assert_eq!(reverted, CallOutcome::Reverted(Bytes::copy_from_slice(&U256::from(255).to_be_bytes::<32>())));
    assert!(!chain.rpc.code(notebook, second).await.unwrap().is_empty());
    assert!(chain.rpc.code(Address::repeat_byte(7), second).await.unwrap().is_empty());
}

#[tokio::test]
async fn simulated_calls_see_each_other_and_fail_alone() {
    let chain = TestChain::start().await;
    let (notebook, reverter) = (chain.deploy(NOTEBOOK).await, chain.deploy(REVERTER).await);
    let past = chain.rpc.head().await.unwrap();
    chain.send_now(notebook, word(&[1])).await;
    let head = chain.rpc.head().await.unwrap();
    let read = Call::new(notebook, Bytes::new());
    let calls = [read.clone(), Call::new(notebook, word(&[7])), Call::new(reverter, Bytes::new()), read.clone()];
    let results = chain.rpc.simulate(SENDER, &calls, &head).await.unwrap();
    assert_eq!(results.iter().map(|r| r.success).collect::<Vec<_>>(), [true, true, false, true]);
    assert_eq!(results[0].output, word(&[1]));
    assert_eq!(results[1].logs[0].data, word(&[7]));
    assert!(results[1].gas_used > 21_000 && results[1].failure.is_none());
    assert_eq!(results[2].output.last(), Some(&255));
    assert!(results[2].failure.is_some());
    assert_eq!(results[3].output, word(&[7]));
    // The block asked for counts, not the head; and nothing happened on the chain.
    assert_eq!(
        chain.rpc.simulate(SENDER, std::slice::from_ref(&read), &past).await.unwrap()[0].output,
        Bytes::from(vec![0; 32])
    );
    assert_eq!(chain.rpc.call(&read, None, head.hash).await.unwrap(), CallOutcome::Returned(word(&[1])));
    assert_eq!(chain.rpc.simulate(SENDER, &[], &head).await.unwrap(), []);
}

/// A transfer of 1 wei, signed.
fn transfer(signer: &PrivateKeySigner, nonce: u64, max_fee_per_gas: u128, value: U256) -> Vec<u8> {
    let unsigned = TxEip1559 {
        chain_id: 31337,
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(Address::repeat_byte(9)),
        value,
        ..TxEip1559::default()
    };
    let signature = signer.sign_hash_sync(&unsigned.signature_hash()).unwrap();
    TxEnvelope::from(unsigned.into_signed(signature)).encoded_2718()
}

#[tokio::test]
async fn what_is_private_goes_to_the_relay_alone() {
    let chain = TestChain::start().await;
    let relay = Anvil::start(&AnvilOptions { mining: Mining::OnDemand, ..AnvilOptions::default() }).await.unwrap();
    let signer = PrivateKeySigner::from_slice(&[5; 32]).unwrap();
    relay.set_balance(signer.address(), U256::from(10).pow(U256::from(18))).await.unwrap();
    let raw = transfer(&signer, 0, 10_000_000_000, U256::from(1));
    assert_eq!(chain.rpc.send_private(&raw).await, None, "without a relay");

    let mut with_relay = settings(&chain.anvil.http_url());
    with_relay.relay = Some(relay.http_url().parse().unwrap());
    let rpc = connect(&with_relay).await;
    let hash = rpc.send_private(&raw).await.unwrap().unwrap();
    assert!(!rpc.transaction_known(hash).await.unwrap(), "the node has not seen it");
    assert!(connect(&settings(&relay.http_url())).await.transaction_known(hash).await.unwrap(), "the relay has");
    assert_eq!(rpc.send_private(&raw).await, Some(Err(SendError::AlreadyKnown)));
    drop(relay);
    assert!(matches!(rpc.send_private(&raw).await, Some(Err(SendError::Unknown(_)))), "a relay that is gone");
}

#[tokio::test]
async fn a_relay_that_does_not_answer_is_given_a_second() {
    let chain = TestChain::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut with_relay = settings(&chain.anvil.http_url());
    with_relay.relay = Some(format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
    let rpc = connect(&with_relay).await;
    // From here on the clock goes on only where everybody waits.
    tokio::time::pause();
    let asked = tokio::time::Instant::now();
    let said = rpc.send_private(&[2]).await;
    assert!(matches!(said, Some(Err(SendError::Unknown(RpcError::Timeout { .. })))), "{said:?}");
    let waited = asked.elapsed().as_secs_f64();
    assert!((1.0..1.1).contains(&waited), "{waited} s by the clock that timeouts go by");
}

#[tokio::test]
async fn a_broadcast_is_taken_or_refused_for_a_reason() {
    let chain = TestChain::start().await;
    let (rpc, signer) = (&chain.rpc, PrivateKeySigner::from_slice(&[5; 32]).unwrap());
    let one = U256::from(1);
    let fee = rpc.fees().await.unwrap();
    assert!(fee.base_fee_wei > 0 && fee.priority_fee_wei > 0);
    let enough = fee.base_fee_wei * 2;

    let poor = rpc.send_raw(&transfer(&signer, 0, enough, one), &|| true).await.unwrap_err();
    assert!(matches!(poor, SendError::InsufficientFunds(_)), "{poor}");
    chain.anvil.set_balance(signer.address(), U256::from(10).pow(U256::from(18))).await.unwrap();

    let raw = transfer(&signer, 0, enough, one);
    let hash = rpc.send_raw(&raw, &|| true).await.unwrap();
    assert!(rpc.transaction_known(hash).await.unwrap());
    assert_eq!(rpc.receipt(hash).await.unwrap(), None);
    assert_eq!(rpc.send_raw(&raw, &|| true).await, Err(SendError::AlreadyKnown));
    let same_fee = rpc.send_raw(&transfer(&signer, 0, enough, U256::from(2)), &|| true).await.unwrap_err();
    assert!(matches!(same_fee, SendError::Underpriced(_)), "{same_fee}");
    assert_eq!((rpc.nonce(signer.address(), false).await, rpc.nonce(signer.address(), true).await), (Ok(0), Ok(1)));

    chain.mine(1).await;
    let (receipt, head) = (rpc.receipt(hash).await.unwrap().unwrap(), rpc.head().await.unwrap());
    assert_eq!((receipt.success, receipt.gas_used, receipt.block), (true, 21_000, (head.number, head.hash)));
    assert_eq!(rpc.nonce(signer.address(), false).await.unwrap(), 1);
    let low = rpc.send_raw(&transfer(&signer, 0, enough * 2, U256::from(3)), &|| true).await.unwrap_err();
    assert_eq!(low, SendError::NonceTooLow);
    let cheap = rpc.send_raw(&transfer(&signer, 1, 1, one), &|| true).await.unwrap_err();
    assert!(matches!(cheap, SendError::Underpriced(_)), "{cheap}");
    let garbage = rpc.send_raw(&[2, 3], &|| true).await.unwrap_err();
    assert!(matches!(garbage, SendError::Rejected(_)), "{garbage}");
    assert!(!rpc.transaction_known(UNKNOWN).await.unwrap());
}

#[tokio::test]
async fn a_failed_transaction_has_a_receipt_without_success() {
    let chain = TestChain::start().await;
    let reverter = chain.deploy(REVERTER).await;
    let hash = chain.send_now(reverter, Bytes::new()).await;
    let receipt = chain.rpc.receipt(hash).await.unwrap().unwrap();
    assert!(!receipt.success);
    assert_eq!(receipt.logs, []);
}

/// A server that answers each request with the next of these, and the last for ever. `None` never answers.
async fn misbehaving(answers: Vec<Option<&'static str>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://127.0.0.1:{}/secret?key=secret", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        let mut held = Vec::new();
        for turn in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            match answers[turn.min(answers.len() - 1)] {
                Some(answer) => {
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
                None => held.push(stream),
            }
        }
    });
    url
}

const OVERLOADED: &str = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\nbusy";

/// A well-formed answer with this result or error, to the first request of a client or to a later one.
macro_rules! answer {
    ($id:literal, $body:literal) => {
        concat!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":", $id, ",", $body, "}")
    };
}

async fn impatient(url: &str, registry: &Registry) -> Rpc {
    let mut settings = settings(url);
    settings.timeout = Duration::from_millis(500);
    let metrics = RpcMetrics::new(registry).unwrap();
    Rpc::connect(&settings, metrics.for_deployment(&"test".parse().unwrap())).await.unwrap()
}

fn count(registry: &Registry, method: &str, outcome: &str) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|f| f.name() == "backstop_rpc_requests_total").unwrap();
    let labelled = |m: &&prometheus::proto::Metric| {
        [("method", method), ("outcome", outcome)]
            .iter()
            .all(|(name, value)| m.get_label().iter().any(|l| l.name() == *name && l.value() == *value))
    };
    family.get_metric().iter().find(labelled).unwrap().get_counter().get_value() as u64
}

#[tokio::test]
async fn a_node_that_never_answers_costs_the_timeout_and_no_more() {
    let (url, registry) = (misbehaving(vec![None]).await, Registry::new());
    let rpc = impatient(&url, &registry).await;
    let started = Instant::now();
    assert_eq!(rpc.head().await.unwrap_err(), RpcError::Timeout { method: "eth_getBlockByNumber" });
    assert!(started.elapsed() < Duration::from_secs(2));
    let sent = rpc.send_raw(&[1], &|| true).await.unwrap_err();
    assert!(matches!(sent, SendError::Unknown(_)), "{sent}");
}

#[tokio::test]
async fn a_read_is_repeated_and_a_broadcast_is_not() {
    let (url, registry) =
        (misbehaving(vec![Some(OVERLOADED), Some(answer!(1, r#""result":"0x7""#))]).await, Registry::new());
    assert_eq!(impatient(&url, &registry).await.chain_ids().await[0].1, Ok(7));
    assert_eq!((count(&registry, "eth_chainId", "transport"), count(&registry, "eth_chainId", "ok")), (1, 1));

    let (url, registry) = (misbehaving(vec![Some(OVERLOADED)]).await, Registry::new());
    let sent = impatient(&url, &registry).await.send_raw(&[1], &|| true).await.unwrap_err();
    assert!(matches!(sent, SendError::Unknown(_)), "{sent}");
    assert_eq!(count(&registry, "eth_sendRawTransaction", "transport"), 1);
}

#[tokio::test]
async fn a_range_with_too_many_logs_is_halved() {
    let head = answer!(
        0,
        r#""result":{"number":"0x3","timestamp":"0x1","hash":"0x1111111111111111111111111111111111111111111111111111111111111111","parentHash":"0x1111111111111111111111111111111111111111111111111111111111111111"}"#
    );
    let refusal = answer!(1, r#""error":{"code":-32005,"message":"query returned more than 10000 results"}"#);
    let (left, right) = (answer!(2, r#""result":[]"#), answer!(3, r#""result":[]"#));
    let (url, registry) = (misbehaving([head, refusal, left, right].map(Some).to_vec()).await, Registry::new());
    let logs = impatient(&url, &registry).await.logs_in_range(0, 3, &LogFilter::of([SENDER])).await.unwrap();
    assert_eq!(logs, []);
    assert_eq!((count(&registry, "eth_getLogs", "node"), count(&registry, "eth_getLogs", "ok")), (1, 2));
}

#[tokio::test]
async fn an_error_names_the_host_and_no_secret() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = format!("http://user:secret@127.0.0.1:{port}/secret?key=secret");
    let error = impatient(&url, &Registry::new()).await.head().await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("127.0.0.1") && !text.contains("secret"), "{text}");
}

#[tokio::test]
async fn heads_are_pushed_over_a_websocket_and_polled_over_http() {
    let chain = TestChain::start().await;
    let mut slow = settings(&chain.anvil.ws_url());
    slow.poll_interval = Duration::from_secs(20);
    let rpc = connect(&slow).await;
    let mut signals = rpc.head_signals().await;
    let started = Instant::now();
    let (pushed, ()) = tokio::join!(signals.next(), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        chain.mine(1).await;
    });
    assert!(started.elapsed() < Duration::from_secs(10), "pushed, not polled");
    assert_eq!(pushed, Some(rpc.head().await.unwrap()));
    assert_eq!(pushed.unwrap().number, 1);

    let mut polled = chain.rpc.head_signals().await;
    tokio::time::timeout(Duration::from_secs(5), polled.next()).await.expect("wakes without a new head");
}

#[tokio::test]
async fn a_lost_websocket_is_opened_again_and_pushes_heads_again() {
    let mut chain = TestChain::start().await;
    let mut impatient = settings(&chain.anvil.ws_url());
    impatient.timeout = Duration::from_millis(500);
    let rpc = connect(&impatient).await;
    let mut signals = rpc.head_signals().await;
    let options = AnvilOptions { port: Some(chain.anvil.port()), mining: Mining::OnDemand, ..AnvilOptions::default() };
    drop(chain.anvil);
    assert_eq!(rpc.head().await.unwrap_err().class(), ErrorClass::Retry);
    tokio::time::timeout(Duration::from_secs(5), signals.next()).await.expect("wakes without a connection");

    chain.anvil = Anvil::start(&options).await.unwrap();
    let reopened = async {
        while rpc.head().await.is_err() {
            signals.next().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reopened).await.expect("opened again");
    let pushed = async {
        loop {
            chain.mine(1).await;
            let started = Instant::now();
            signals.next().await;
            if started.elapsed() < impatient.poll_interval / 2 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), pushed).await.expect("pushed again");
}

#[tokio::test]
async fn a_silent_subscription_falls_back_to_polling() {
    let chain = TestChain::start().await;
    let mut signals = connect(&settings(&chain.anvil.ws_url())).await.head_signals().await;
    let started = Instant::now();
    signals.next().await;
    let first = started.elapsed();
    signals.next().await;
    let second = started.elapsed() - first;
    assert!(first >= Duration::from_millis(200), "the watchdog waits two intervals: {first:?}");
    assert!(second >= Duration::from_millis(100) && second < Duration::from_secs(5), "then one: {second:?}");
}
