//! Answers that no node should give: each is read or refused, with a reason of bounded length, and nothing panics.
//!
//! Few cases in the test run; `PROPTEST_CASES` asks for more, `make fuzz` for many.

use std::cell::Cell;

use alloy::primitives::{B256, U64, U128};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use serde_json::{Value, json};

use super::super::{
    RpcError,
    method::Method,
    rpc::parse,
    wire::{WireBlock, WireFeeHistory, WireLog, WireReceipt, WireSimulatedBlock, WireSimulatedCall, into_sorted_logs},
};

/// Longest reason: what a log line bears.
const REASON_CHARS_MAX: usize = 1_000;

fn anything() -> BoxedStrategy<Value> {
    let digits = vec(any::<u8>(), 0..70).prop_map(|bytes| json!(alloy::primitives::hex::encode_prefixed(bytes)));
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        2 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        3 => any::<u128>().prop_map(|x| json!(format!("{x:#x}"))),
        4 => digits,
        1 => any::<String>().prop_map(Value::from),
        1 => "0x[0-9a-fg]{0,80}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("[a-zA-Z]{0,12}", inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
    .boxed()
}

/// Answers as nodes give them, by what reads them.
fn examples() -> Vec<(Reader, Value)> {
    let hash = B256::repeat_byte(7);
    let log = json!({
        "address": "0x5fbdb2315678afecb367f032d93f642f64180aa3", "topics": [hash, hash], "data": "0x0102", "blockNumber": "0x10",
        "blockHash": hash, "transactionHash": hash, "logIndex": "0x2", "removed": false,
    });
    let call = json!({
        "returnData": "0x", "logs": [log], "gasUsed": "0x5208", "status": "0x0",
        "error": { "code": 3, "message": "execution reverted", "data": "0x08c379a0" },
    });
    let bloom = format!("0x{}", "00".repeat(256));
    vec![
        (
            block,
            json!({ "number": "0x10", "hash": hash, "parentHash": hash, "timestamp": "0x6b08", "logsBloom": bloom }),
        ),
        (logs, json!([log, log])),
        (
            receipt,
            json!({
                "transactionHash": hash, "blockNumber": "0x10", "blockHash": hash, "status": "0x1", "gasUsed": "0x5208",
                "effectiveGasPrice": "0x3b9aca00", "logs": [log],
            }),
        ),
        (simulated, json!([{ "calls": [call, call] }])),
        (fees, json!({ "baseFeePerGas": ["0x1", "0x2"], "reward": [["0x1"], ["0x0"]] })),
        (nonce, json!("0x10")),
    ]
}

type Reader = fn(Value) -> Result<(), RpcError>;

fn block(answer: Value) -> Result<(), RpcError> {
    let block: Option<WireBlock> = parse(Method::BlockByNumber, answer)?;
    block.map(|block| block.into_ref(Method::BlockByNumber)).transpose().map(drop)
}

fn logs(answer: Value) -> Result<(), RpcError> {
    let logs = into_sorted_logs(parse::<Vec<WireLog>>(Method::Logs, answer)?, Method::Logs)?;
    let in_order =
        logs.windows(2).all(|two| (two[0].block_number, two[0].log_index) < (two[1].block_number, two[1].log_index));
    assert!(in_order, "taken logs stand in the order of the chain");
    Ok(())
}

fn receipt(answer: Value) -> Result<(), RpcError> {
    let receipt: Option<WireReceipt> = parse(Method::Receipt, answer)?;
    receipt.map(WireReceipt::into_receipt).transpose().map(drop)
}

fn simulated(answer: Value) -> Result<(), RpcError> {
    let blocks: Vec<WireSimulatedBlock> = parse(Method::Simulate, answer)?;
    let calls = blocks.into_iter().flat_map(|block| block.calls).map(WireSimulatedCall::into_simulated);
    for call in calls.collect::<Result<Vec<_>, _>>()? {
        assert!(!call.success || call.failure.is_none(), "a success has no failure's words");
    }
    Ok(())
}

fn fees(answer: Value) -> Result<(), RpcError> {
    parse::<WireFeeHistory>(Method::FeeHistory, answer).map(|history| {
        let _: Option<&U128> = history.base_fee_per_gas.last();
    })
}

fn nonce(answer: Value) -> Result<(), RpcError> {
    parse::<U64>(Method::Nonce, answer).map(drop)
}

/// Puts something else in the place of this part of an answer, counted from the root; `None` takes it away.
fn put(answer: &mut Value, place: &mut usize, other: &Option<Value>) {
    if *place == 0 {
        *answer = other.clone().unwrap_or(Value::Null);
        *place = usize::MAX;
        return;
    }
    *place -= 1;
    match answer {
        Value::Array(parts) => {
            for part in parts {
                put(part, place, other);
                if *place == usize::MAX {
                    return;
                }
            }
        }
        Value::Object(parts) => {
            let keys: Vec<String> = parts.keys().cloned().collect();
            for key in keys {
                if *place == 0 && other.is_none() {
                    parts.remove(&key);
                    *place = usize::MAX;
                }
                if *place == usize::MAX {
                    return;
                }
                put(&mut parts[&key], place, other);
            }
        }
        _ => {}
    }
}

#[test]
fn fuzz_any_answer_is_read_or_refused() {
    let examples = examples();
    let (inputs, taken) = (Cell::new(0u64), Cell::new(0u64));
    let mutations = vec((0usize..40, prop::option::weighted(0.8, anything())), 0..3);
    let config = Config { failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&(mutations, anything()), |(mutations, whole)| {
            for (reader, example) in &examples {
                let mut answer = example.clone();
                for (place, other) in &mutations {
                    put(&mut answer, &mut place.clone(), other);
                }
                for answer in [answer, whole.clone()] {
                    inputs.set(inputs.get() + 1);
                    match reader(answer) {
                        Ok(()) => taken.set(taken.get() + 1),
                        Err(error) => {
                            let reason = error.to_string();
                            prop_assert!(
                                reason.chars().count() <= REASON_CHARS_MAX,
                                "{} characters",
                                reason.chars().count()
                            );
                            prop_assert!(!reason.contains(|c: char| c.is_control()), "{reason:?}");
                        }
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    println!("{} answers, {} taken", inputs.get(), taken.get());
    assert!(taken.get() > inputs.get() / 20, "{} of {} answers taken", taken.get(), inputs.get());
}
