//! The simulated node: JSON-RPC over the simulated chain, as one endpoint of one replica sees it, with its faults.

use std::{
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use alloy::{
    primitives::U64,
    rpc::json_rpc::{ErrorPayload, RequestPacket, Response, ResponsePacket, ResponsePayload},
    transports::{TransportError, TransportErrorKind, TransportFut},
};
use serde_json::{Value, json, value::RawValue};
use tokio::time::{Duration, sleep};

use super::{
    chain::{Block, Branch, Mined, mined_in, placed},
    world::World,
};
use crate::{
    executor::tests::chain::CALL_GAS,
    scanner::tests::dice::Dice,
    types::{Address, B256, Bytes, Log},
};

/// What is wrong with an endpoint for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NodeFault {
    /// No answer at all, or a refused connection.
    Dark,
    /// A request is carried out and its answer is lost, now and then.
    Lossy,
    /// 429 with a rest asked for, now and then.
    Throttling,
    /// Answers that are no JSON of the kind, now and then.
    Garbling,
    /// Everything takes long.
    Slow,
    /// Hears of blocks seconds late.
    Lagging,
    /// Shows no logs of any block, though its headers say that there are some.
    Logless,
    /// Leaves out logs and tells wrong balances: only where another endpoint is asked as well.
    Lying,
}

pub(super) const NODE_FAULTS: [NodeFault; 7] = [
    NodeFault::Dark,
    NodeFault::Lossy,
    NodeFault::Throttling,
    NodeFault::Garbling,
    NodeFault::Slow,
    NodeFault::Lagging,
    NodeFault::Logless,
];

/// One endpoint.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) world: Arc<Mutex<World>>,
    pub(super) replica: usize,
    pub(super) index: usize,
    pub(super) dice: Arc<Mutex<Dice>>,
}

/// What a request comes to.
enum Answer {
    Is(Value),
    Error(i64, String, Option<Bytes>),
}

impl Answer {
    fn unknown_block() -> Self {
        Self::Error(-32000, "header not found".to_owned(), None)
    }
}

impl Node {
    fn roll(&self, sides: u64) -> u64 {
        self.dice.lock().unwrap().below(sides)
    }

    async fn serve(self, packet: RequestPacket) -> Result<ResponsePacket, TransportError> {
        let RequestPacket::Single(request) = packet else { panic!("no batches are sent") };
        let params: Value = request.params().map_or(Value::Null, |raw| serde_json::from_str(raw.get()).unwrap());
        let fault = self.world.lock().unwrap().fault(self.index);
        let hop = if fault == Some(NodeFault::Slow) { 400 + self.roll(1_200) } else { 1 + self.roll(8) };
        sleep(Duration::from_millis(hop)).await;
        let seldom = self.roll(3) == 0;
        match fault {
            Some(NodeFault::Dark) if seldom => std::future::pending().await,
            Some(NodeFault::Dark) => return Err(TransportErrorKind::custom_str("connection refused")),
            Some(NodeFault::Throttling) if seldom => {
                let rest = Duration::from_secs(1);
                return Err(TransportErrorKind::http_error_with_retry_after(429, String::new(), Some(rest)));
            }
            _ => {}
        }
        let answer = self.answer(request.method(), &params, fault);
        sleep(Duration::from_millis(1 + self.roll(8))).await;
        match fault {
            Some(NodeFault::Lossy) if seldom && self.roll(2) == 0 => std::future::pending().await,
            Some(NodeFault::Lossy) if seldom => return Err(TransportErrorKind::custom_str("connection reset")),
            _ => {}
        }
        let raw = |value: &Value| RawValue::from_string(value.to_string()).unwrap();
        let payload = match answer {
            _ if fault == Some(NodeFault::Garbling) && seldom => ResponsePayload::Success(raw(&json!({"no": "thing"}))),
            Answer::Is(value) => ResponsePayload::Success(raw(&value)),
            Answer::Error(code, message, data) => ResponsePayload::Failure(ErrorPayload {
                code,
                message: message.into(),
                data: data.map(|data| raw(&json!(data))),
            }),
        };
        Ok(ResponsePacket::Single(Response { id: request.id().clone(), payload }))
    }

    fn answer(&self, method: &str, params: &Value, fault: Option<NodeFault>) -> Answer {
        let mut world = self.world.lock().unwrap();
        let delay = match fault {
            Some(NodeFault::Lagging) => Duration::from_millis(3_500),
            _ => Duration::from_millis(self.index as u64 * 150),
        };
        let branch = world.chain.branch_as_of(delay).clone();
        let tip = branch.last().unwrap();
        let hash_of = |value: &Value| serde_json::from_value::<B256>(value.clone()).unwrap();
        let number_of = |value: &Value| serde_json::from_value::<U64>(value.clone()).unwrap().to::<u64>();
        let at = |value: &Value| world.chain.block(hash_of(&value["blockHash"]), delay).cloned();
        let by_number = |number: u64| number.checked_sub(1).and_then(|index| branch.get(index as usize));
        match method {
            "eth_chainId" => Answer::Is(json!("0x1")),
            "eth_getBlockByNumber" if params[0] == "latest" => Answer::Is(header(tip)),
            "eth_getBlockByNumber" => Answer::Is(by_number(number_of(&params[0])).map_or(Value::Null, |b| header(b))),
            "eth_getBlockReceipts" => match world.chain.block(hash_of(&params[0]), delay) {
                Some(block) => Answer::Is(block.mined.iter().map(|mined| receipt(block, mined)).collect()),
                None => Answer::Is(Value::Null),
            },
            "eth_getLogs" => self.logs(&world, &params[0], &branch, delay, fault),
            "eth_call" => match at(&params[1]) {
                Some(block) => {
                    let data: Bytes = serde_json::from_value(params[0]["input"].clone()).unwrap();
                    let mut word = block.tally.view(&data).to_vec();
                    if fault == Some(NodeFault::Lying) {
                        word[31] ^= 1;
                    }
                    Answer::Is(json!(Bytes::from(word)))
                }
                None => Answer::unknown_block(),
            },
            "eth_simulateV1" => match at(&params[1]) {
                Some(block) => Answer::Is(simulated(&block, &params[0]["blockStateCalls"][0]["calls"])),
                None => Answer::unknown_block(),
            },
            "eth_getTransactionCount" => Answer::Is(json!(U64::from(tip.nonce))),
            "eth_getBalance" => Answer::Is(json!(tip.balance)),
            "eth_feeHistory" => {
                let fee = U64::from(u64::try_from(world.chain.base_fee).unwrap());
                Answer::Is(json!({"baseFeePerGas": [fee], "reward": [["0xa"]]}))
            }
            "eth_sendRawTransaction" => {
                let raw: Bytes = serde_json::from_value(params[0].clone()).unwrap();
                match world.chain.accept(&raw, &branch) {
                    Ok(hash) => Answer::Is(json!(hash)),
                    Err((code, why)) => Answer::Error(code, why.to_owned(), None),
                }
            }
            "eth_getTransactionReceipt" => {
                let found = mined_in(&branch, hash_of(&params[0]));
                Answer::Is(found.map_or(Value::Null, |(block, mined)| receipt(block, mined)))
            }
            "eth_getTransactionByHash" => {
                let hash = hash_of(&params[0]);
                let pooled = world.chain.pool.iter().any(|signed| signed.hash == hash);
                let known = pooled || mined_in(&branch, hash).is_some();
                Answer::Is(if known { json!({"hash": hash}) } else { Value::Null })
            }
            other => panic!("the simulated node has no {other}"),
        }
    }

    fn logs(&self, world: &World, query: &Value, branch: &Branch, delay: Duration, fault: Option<NodeFault>) -> Answer {
        let blocks: Vec<Arc<Block>> = match query.get("blockHash") {
            Some(hash) => match world.chain.block(serde_json::from_value(hash.clone()).unwrap(), delay) {
                Some(block) => vec![Arc::clone(block)],
                None => return Answer::unknown_block(),
            },
            None => {
                let end = |name: &str| serde_json::from_value::<U64>(query[name].clone()).unwrap().to::<u64>();
                let range = end("fromBlock")..=end("toBlock");
                if range.end() - range.start() > 20 {
                    return Answer::Error(-32005, "query exceeds 20 blocks".to_owned(), None);
                }
                branch.iter().filter(|block| range.contains(&block.at.number)).cloned().collect()
            }
        };
        let logs = blocks.iter().flat_map(|block| block.mined.iter().flat_map(|mined| &mined.logs));
        let mut logs: Vec<Value> = logs.map(log).collect();
        match fault {
            Some(NodeFault::Logless) if query.get("blockHash").is_some() => logs.clear(),
            Some(NodeFault::Lying) => drop(logs.pop()),
            _ => {}
        }
        Answer::Is(Value::Array(logs))
    }
}

fn header(block: &Block) -> Value {
    json!({
        "number": U64::from(block.at.number), "hash": block.at.hash, "parentHash": block.at.parent_hash,
        "timestamp": U64::from(block.at.timestamp), "logsBloom": block.bloom,
    })
}

fn log(log: &Log) -> Value {
    json!({
        "address": log.address, "topics": log.topics, "data": log.data, "blockNumber": U64::from(log.block_number),
        "blockHash": log.block_hash, "transactionHash": log.tx_hash, "logIndex": U64::from(log.log_index),
    })
}

fn receipt(block: &Block, mined: &Mined) -> Value {
    json!({
        "transactionHash": mined.hash, "blockNumber": U64::from(block.at.number), "blockHash": block.at.hash,
        "status": U64::from(mined.success as u64), "gasUsed": U64::from(mined.gas_used),
        "effectiveGasPrice": U64::from(u64::try_from(mined.price).unwrap()),
        "logs": mined.logs.iter().map(log).collect::<Vec<_>>(),
    })
}

fn simulated(block: &Block, calls: &Value) -> Value {
    let mut tally = block.tally.clone();
    let mut results = Vec::new();
    for call in calls.as_array().unwrap() {
        let to: Address = serde_json::from_value(call["to"].clone()).unwrap();
        let data: Bytes = serde_json::from_value(call["input"].clone()).unwrap();
        results.push(match tally.call(to, &data) {
            Ok(said) => {
                let logs: Vec<Value> = placed(said, &block.at, B256::ZERO, 0).iter().map(log).collect();
                json!({"status": "0x1", "gasUsed": U64::from(CALL_GAS), "returnData": "0x", "logs": logs})
            }
            Err(why) => json!({
                "status": "0x0", "gasUsed": U64::from(CALL_GAS), "returnData": Bytes::from(why.as_bytes().to_vec()),
                "logs": [], "error": {"message": "execution reverted"},
            }),
        });
    }
    json!([{ "calls": results }])
}

impl tower::Service<RequestPacket> for Node {
    type Response = ResponsePacket;
    type Error = TransportError;
    type Future = TransportFut<'static>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, packet: RequestPacket) -> Self::Future {
        if let RequestPacket::Single(request) = &packet
            && request.method() == "eth_sendRawTransaction"
        {
            let params: [Bytes; 1] = serde_json::from_str(request.params().unwrap().get()).unwrap();
            self.world.lock().unwrap().note_send(self.replica, &params[0]);
        }
        Box::pin(self.clone().serve(packet))
    }
}
