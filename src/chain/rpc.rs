//! The client: one way for every request, and the reads.

use std::{sync::Arc, time::Duration};

use alloy::{
    primitives::U64,
    providers::{WebSocketConfig, WsConnect},
    rpc::client::{ClientBuilder, RpcClient},
    transports::{RpcError as TransportRpcError, TransportErrorKind},
};
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Endpoint, HeadSignals, RpcError, RpcMeter, RpcSettings, Transport,
    blooms::Blooms,
    endpoint::clean_text,
    method::Method,
    pool::{Node, Pool},
    wire::WireBlock,
};
use crate::types::{Address, B256, BlockRef, Bytes, Call, CallOutcome, U256};

/// A chain's nodes, as one deployment speaks to them. Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct Rpc {
    pub(super) pool: Arc<Pool>,
    pub(super) settings: Arc<RpcSettings>,
    pub(super) meter: RpcMeter,
    pub(super) blooms: Arc<Blooms>,
    /// Where bytes are handed over privately, if anywhere.
    pub(super) relay: Option<RpcClient>,
}

/// Which node is to answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Who {
    /// The preferred one, and another if it does not.
    Any,
    /// This one alone.
    Only(usize),
}

/// How often a read is asked in all, as long as its time lasts; every node has its turn all the same.
const READ_ATTEMPTS_MAX: usize = 3;
/// Wait before a node is asked the same a second time; doubled before each further one.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How far a node may be behind another before the other is preferred, blocks.
const LAG_BLOCKS_MAX: u64 = 3;
/// Longest wait for another node's head when heads are compared.
const COMPARISON_TIMEOUT: Duration = Duration::from_secs(1);
/// First wait before a lost WebSocket is opened again; the transport doubles it up to 30 s.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// Room for one read from a WebSocket. It is filled with zeros before each, and 128 KiB of them, the default, take longer than
/// most messages.
const WS_READ_BYTES: usize = 8 * 1024;

impl Rpc {
    /// Opens the connections. Over HTTP nothing is sent yet; over WebSocket the handshake is made, and is made again
    /// whenever the connection is lost. One that cannot be opened now is left out while there is another.
    pub async fn connect(settings: &RpcSettings, meter: RpcMeter) -> Result<Self, RpcError> {
        let mut connections = Vec::new();
        let mut failure = connect_failure("no endpoint is configured");
        for endpoint in &settings.urls {
            match open(endpoint, settings.timeout).await {
                Ok(client) => connections.push((endpoint.clone(), client)),
                Err(error) => {
                    if settings.urls.len() > 1 {
                        tracing::warn!(%endpoint, %error, "endpoint cannot be opened and is left out");
                    }
                    failure = error;
                }
            }
        }
        if connections.is_empty() {
            return Err(failure);
        }
        let mut rpc = Self::over(connections, settings, meter);
        if let Some(relay) = &settings.relay {
            rpc.relay = Some(open(relay, settings.timeout).await?);
        }
        Ok(rpc)
    }

    /// The same over connections that are open already, in the order of preference; at least one. Instead of `settings.urls`,
    /// and without a relay.
    pub fn over(connections: Vec<(Endpoint, RpcClient)>, settings: &RpcSettings, meter: RpcMeter) -> Self {
        let nodes = connections.into_iter().map(|(endpoint, client)| Node::new(endpoint, client)).collect();
        let pool = Arc::new(Pool::new(nodes, settings.chain_id));
        Self { pool, settings: Arc::new(settings.clone()), meter, blooms: Arc::default(), relay: None }
    }

    /// The chain that each node says it follows, in the order of the configuration.
    pub async fn chain_ids(&self) -> Vec<(&Endpoint, Result<u64, RpcError>)> {
        let mut ids = Vec::new();
        for index in 0..self.pool.len() {
            let id = self.read_from::<U64>(Who::Only(index), Method::ChainId, json!([])).await;
            ids.push((&self.pool.node(index).endpoint, id.map(|id| id.to())));
        }
        ids
    }

    /// The latest block. If the preferred node stands still while another moves, it is the other's.
    pub async fn head(&self) -> Result<BlockRef, RpcError> {
        self.head_at(None).await
    }

    /// The same, where the preferred node has pushed this head: it is not asked for what it said unasked.
    pub async fn head_at(&self, pushed: Option<BlockRef>) -> Result<BlockRef, RpcError> {
        let preferred = self.pool.preferred();
        let head = async {
            match pushed {
                Some(head) => Ok(head),
                None => self.head_of(Who::Any).await,
            }
        };
        let (head, others) = tokio::join!(head, self.heads_beside(preferred));
        let head = head?;
        let ahead = others.into_iter().max_by_key(|(_, other)| other.number);
        match ahead.filter(|(_, other)| other.number >= head.number.saturating_add(LAG_BLOCKS_MAX)) {
            Some((node, other)) if self.pool.leave_behind(preferred, node, Instant::now()) => {
                let (from, to) = (&self.pool.node(preferred).endpoint, &self.pool.node(node).endpoint);
                tracing::warn!(%from, %to, head = head.number, ahead = other.number, "endpoint stands still, another is preferred");
                self.meter.failed_over();
                Ok(other)
            }
            _ => Ok(head),
        }
    }

    async fn head_of(&self, who: Who) -> Result<BlockRef, RpcError> {
        let block: Option<WireBlock> = self.read_from(who, Method::BlockByNumber, json!(["latest", false])).await?;
        let block = block.ok_or_else(|| RpcError::NotFound { what: "its latest block".to_owned() })?;
        self.noted(block, Method::BlockByNumber)
    }

    /// The head in a notification; `None` for anything else.
    pub(super) fn pushed(&self, notification: &str) -> Option<BlockRef> {
        let block = serde_json::from_str(notification).ok()?;
        self.noted(block, Method::Subscribe).ok()
    }

    /// A block, with what it says of its logs kept for when they are asked for.
    fn noted(&self, block: WireBlock, method: Method) -> Result<BlockRef, RpcError> {
        if let Some((hash, bloom)) = block.bloom() {
            self.blooms.remember(hash, bloom);
        }
        block.into_ref(method)
    }

    /// The heads of the other nodes, when it is time to compare; of those alone that answer quickly.
    async fn heads_beside(&self, preferred: usize) -> Vec<(usize, BlockRef)> {
        let now = Instant::now();
        if self.pool.len() == 1 || !self.pool.comparison_due(now) {
            return Vec::new();
        }
        let others = self.pool.usable().filter(|index| *index != preferred && !self.pool.node(*index).rests(now));
        let asked = others.map(|index| async move {
            let head = tokio::time::timeout(COMPARISON_TIMEOUT, self.head_of(Who::Only(index))).await;
            Some((index, head.ok()?.ok()?))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    /// The block at this height of the canonical chain, `None` where this node has none.
    pub async fn block_by_number(&self, number: u64) -> Result<Option<BlockRef>, RpcError> {
        let block: Option<WireBlock> = self.read(Method::BlockByNumber, json!([U64::from(number), false])).await?;
        let block = block.map(|b| self.noted(b, Method::BlockByNumber)).transpose()?;
        match block {
            Some(b) if b.number != number => {
                Err(RpcError::malformed(Method::BlockByNumber, "another block than asked for"))
            }
            block => Ok(block),
        }
    }

    /// The block with this hash, `None` where this node has none. A block found this way need not be canonical.
    pub async fn block_by_hash(&self, hash: B256) -> Result<Option<BlockRef>, RpcError> {
        let block: Option<WireBlock> = self.read(Method::BlockByHash, json!([hash, false])).await?;
        let block = block.map(|b| self.noted(b, Method::BlockByHash)).transpose()?;
        match block {
            Some(b) if b.hash != hash => Err(RpcError::malformed(Method::BlockByHash, "another block than asked for")),
            block => Ok(block),
        }
    }

    /// Makes a call on the state after the block with this hash. A failure in the EVM is an outcome, not an error.
    pub async fn call(&self, call: &Call, from: Option<Address>, at: B256) -> Result<CallOutcome, RpcError> {
        let params = json!([call_object(call, from), { "blockHash": at }]);
        let ask = |who| {
            let params = params.clone();
            let answer = async move {
                match self.read_at::<Bytes>(who, Method::Call, params, at).await {
                    Ok(output) => Ok(CallOutcome::Returned(output)),
                    Err(error) => error.revert_data().map(CallOutcome::Reverted).ok_or(error),
                }
            };
            answer.boxed()
        };
        self.agreed(Method::Call, ask, CallOutcome::eq).await
    }

    /// The code of a contract after the block with this hash; empty where there is none.
    pub async fn code(&self, address: Address, at: B256) -> Result<Bytes, RpcError> {
        let params = json!([address, { "blockHash": at }]);
        let ask = |who| self.read_at(who, Method::Code, params.clone(), at).boxed();
        self.agreed(Method::Code, ask, Bytes::eq).await
    }

    /// A word of a contract's storage after the block with this hash.
    pub async fn storage(&self, address: Address, slot: B256, at: B256) -> Result<B256, RpcError> {
        let params = json!([address, slot, { "blockHash": at }]);
        let ask = |who| self.read_at(who, Method::Storage, params.clone(), at).boxed();
        self.agreed(Method::Storage, ask, B256::eq).await
    }

    /// The next nonce of an account: after the latest block, or after what waits in this node's pool.
    pub async fn nonce(&self, address: Address, pending: bool) -> Result<u64, RpcError> {
        let tag = if pending { "pending" } else { "latest" };
        Ok(self.read::<U64>(Method::Nonce, json!([address, tag])).await?.to())
    }

    /// The balance of an account after the latest block, in wei.
    pub async fn balance(&self, address: Address) -> Result<U256, RpcError> {
        self.read(Method::Balance, json!([address, "latest"])).await
    }

    /// Wake-ups at new heads.
    pub async fn head_signals(&self) -> HeadSignals {
        HeadSignals::new(self.clone()).await
    }

    /// What one node says or, where a quorum is configured, what two say alike.
    pub(super) async fn agreed<'a, T>(
        &self,
        method: Method,
        ask: impl Fn(Who) -> BoxFuture<'a, Result<T, RpcError>>,
        same: impl Fn(&T, &T) -> bool,
    ) -> Result<T, RpcError> {
        if self.settings.quorum < 2 {
            return ask(Who::Any).await;
        }
        let now = Instant::now();
        let first = self.pool.choose(now, &[]);
        let second = self.pool.choose(now, &[first]);
        if first == second {
            let message = "a quorum of two needs two endpoints of this chain".to_owned();
            return Err(RpcError::Transport { method: method.as_str(), message });
        }
        let (one, other) = tokio::join!(ask(Who::Only(first)), ask(Who::Only(second)));
        let (one, other) = (one?, other?);
        if same(&one, &other) {
            return Ok(one);
        }
        let (first, second) = (&self.pool.node(first).endpoint, &self.pool.node(second).endpoint);
        tracing::warn!(%first, %second, method = method.as_str(), "endpoints answer differently");
        self.meter.disagreed();
        Err(RpcError::Disagreement { method: method.as_str() })
    }

    /// A read of the state at a block hash.
    pub(super) async fn read_at<T: DeserializeOwned>(
        &self,
        who: Who,
        method: Method,
        params: Value,
        at: B256,
    ) -> Result<T, RpcError> {
        self.read_from(who, method, params).await.map_err(|error: RpcError| match error {
            error if error.is_unknown_block() => RpcError::NotFound { what: format!("block {at}") },
            error => error,
        })
    }

    /// A read of any node.
    pub(super) async fn read<T: DeserializeOwned>(&self, method: Method, params: Value) -> Result<T, RpcError> {
        self.read_from(Who::Any, method, params).await
    }

    /// A read: asked again, a few times and of another node if there is one, while that can help and the time of one
    /// request lasts. A node that asked for a rest has it.
    pub(super) async fn read_from<T: DeserializeOwned>(
        &self,
        who: Who,
        method: Method,
        params: Value,
    ) -> Result<T, RpcError> {
        debug_assert!(method.is_read(), "only reads may be repeated");
        let started = Instant::now();
        let mut pause = RETRY_PAUSE;
        let mut tried = Vec::new();
        loop {
            let node = self.pick(who, &tried);
            let again = if tried.contains(&node) { pause } else { Duration::ZERO };
            let wait = self.pool.node(node).throttled(Instant::now()).unwrap_or_default().max(again);
            if !wait.is_zero() {
                if started.elapsed() + wait >= self.settings.timeout {
                    let message = format!("{} asked for a rest of {wait:?}", self.pool.node(node).endpoint);
                    return Err(RpcError::Transport { method: method.as_str(), message });
                }
                tokio::time::sleep(wait).await;
                pause *= 2;
            }
            tried.push(node);
            let error = match self.request_at(node, method, &params).await.and_then(|answer| parse(method, answer)) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let another = matches!(who, Who::Any) && self.pool.usable().any(|index| !tried.contains(&index));
            let can_help = match another {
                true => error.revert_data().is_none(),
                false => !error.is_answer(),
            };
            let enough = tried.len() >= READ_ATTEMPTS_MAX && !another;
            if !can_help || enough || started.elapsed() + pause >= self.settings.timeout {
                return Err(error);
            }
            tracing::debug!(method = method.as_str(), attempts = tried.len(), %error, "read repeated");
        }
    }

    pub(super) fn pick(&self, who: Who, avoid: &[usize]) -> usize {
        match who {
            Who::Any => self.pool.choose(Instant::now(), avoid),
            Who::Only(index) => index,
        }
    }

    /// One request to one node, once. Where there are several, a node is asked first which chain it follows.
    pub(super) async fn request_at(&self, index: usize, method: Method, params: &Value) -> Result<Value, RpcError> {
        if method != Method::ChainId {
            self.admit(index).await?;
        }
        self.exchange(index, method, params).await
    }

    /// Refuses a node of another chain, where there are several to be mixed up.
    pub(super) async fn admit(&self, index: usize) -> Result<(), RpcError> {
        if self.pool.len() == 1 {
            return Ok(());
        }
        let node = self.pool.node(index);
        let actual = match node.chain_id.get() {
            Some(known) => *known,
            None => {
                let answer = self.exchange(index, Method::ChainId, &json!([])).await?;
                let said = parse::<U64>(Method::ChainId, answer)?.to();
                *node.chain_id.get_or_init(|| said)
            }
        };
        let expected = self.settings.chain_id;
        if actual == expected {
            return Ok(());
        }
        Err(RpcError::WrongChain { endpoint: node.endpoint.to_string(), expected, actual })
    }

    /// One request, once, under the timeout and counted, and what it says about the node.
    pub(super) async fn exchange(&self, index: usize, method: Method, params: &Value) -> Result<Value, RpcError> {
        let node = self.pool.node(index);
        let (result, asked_rest) = self.exchange_with(&node.client, method, params).await;
        match &result {
            Err(error) if error.is_failure() => {
                if let Some(next) = self.pool.failed(index, Instant::now(), asked_rest) {
                    let (from, to) = (&node.endpoint, &self.pool.node(next).endpoint);
                    tracing::warn!(%from, %to, %error, "endpoint fails, another is preferred");
                    self.meter.failed_over();
                }
            }
            _ => self.pool.answered(index),
        }
        result
    }

    /// One request over one connection, once, under the timeout and counted; with the answer, the rest that was asked for.
    pub(super) async fn exchange_with(
        &self,
        client: &RpcClient,
        method: Method,
        params: &Value,
    ) -> (Result<Value, RpcError>, Option<Duration>) {
        let started = Instant::now();
        let call = client.request::<&Value, Value>(method.as_str(), params);
        let mut asked_rest = None;
        let result = match tokio::time::timeout(self.settings.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(TransportRpcError::NullResp)) => Ok(Value::Null),
            Ok(Err(error)) => {
                asked_rest = error.as_transport_err().and_then(TransportErrorKind::retry_after);
                Err(RpcError::of(method, error))
            }
            Err(_) => Err(RpcError::Timeout { method: method.as_str() }),
        };
        self.meter.observe(method, result.as_ref().err(), started.elapsed());
        (result, asked_rest)
    }
}

/// Opens a connection to one node.
async fn open(endpoint: &Endpoint, timeout: Duration) -> Result<RpcClient, RpcError> {
    match endpoint.transport() {
        Transport::Http => {
            let http = reqwest::Client::builder()
                // A redirect would carry a key to a host that nobody configured.
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .map_err(|e| connect_failure(&e.to_string()))?;
            Ok(ClientBuilder::default().http_with_client(http, endpoint.expose().clone()))
        }
        Transport::WebSocket => {
            let ws = WsConnect::new(endpoint.expose().as_str())
                .with_max_retries(u32::MAX)
                .with_retry_interval(RECONNECT_PAUSE)
                .with_config(WebSocketConfig::default().read_buffer_size(WS_READ_BYTES));
            tokio::time::timeout(timeout, ClientBuilder::default().ws(ws))
                .await
                .map_err(|_| RpcError::Timeout { method: CONNECT })?
                .map_err(|e| connect_failure(&e.to_string()))
        }
    }
}

/// A message call as the wire has it.
pub(super) fn call_object(call: &Call, from: Option<Address>) -> Value {
    let mut object = json!({ "to": call.to, "input": call.data, "value": call.value });
    if let Some(from) = from {
        object["from"] = json!(from);
    }
    object
}

pub(super) fn parse<T: DeserializeOwned>(method: Method, answer: Value) -> Result<T, RpcError> {
    serde_json::from_value(answer).map_err(|e| RpcError::malformed(method, e.to_string()))
}

/// Stands for the method where no request was made yet.
const CONNECT: &str = "connect";

fn connect_failure(message: &str) -> RpcError {
    RpcError::Transport { method: CONNECT, message: clean_text(message) }
}
