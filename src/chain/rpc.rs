//! The client: one way for every request, and the reads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use alloy::{
    primitives::U64,
    providers::WsConnect,
    rpc::client::{ClientBuilder, RpcClient},
    transports::RpcError as TransportRpcError,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    ErrorClass, HeadSignals, RpcError, RpcMeter, RpcSettings, Transport, endpoint::clean_text, method::Method,
    wire::WireBlock,
};
use crate::types::{Address, B256, BlockRef, Bytes, Call, CallOutcome, U256};

/// A node, as one deployment speaks to it. Cheap to clone; clones share the connection.
#[derive(Clone, Debug)]
pub struct Rpc {
    pub(super) client: RpcClient,
    pub(super) settings: Arc<RpcSettings>,
    pub(super) meter: RpcMeter,
}

/// How often a read is asked in all, as long as its time lasts.
const READ_ATTEMPTS_MAX: u32 = 3;
/// Wait before the second attempt of a read; doubled before each further one.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// First wait before a lost WebSocket is opened again; the transport doubles it up to 30 s.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

impl Rpc {
    /// Opens the connection. Over HTTP nothing is sent yet; over WebSocket the handshake is made, and is made again
    /// whenever the connection is lost.
    pub async fn connect(settings: &RpcSettings, meter: RpcMeter) -> Result<Self, RpcError> {
        let client = match settings.url.transport() {
            Transport::Http => {
                let http = reqwest::Client::builder()
                    // A redirect would carry a key to a host that nobody configured.
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .map_err(|e| connect_failure(&e.to_string()))?;
                ClientBuilder::default().http_with_client(http, settings.url.expose().clone())
            }
            Transport::WebSocket => {
                let ws = WsConnect::new(settings.url.expose().as_str())
                    .with_max_retries(u32::MAX)
                    .with_retry_interval(RECONNECT_PAUSE);
                tokio::time::timeout(settings.timeout, ClientBuilder::default().ws(ws))
                    .await
                    .map_err(|_| RpcError::Timeout { method: CONNECT })?
                    .map_err(|e| connect_failure(&e.to_string()))?
            }
        };
        Ok(Self { client, settings: Arc::new(settings.clone()), meter })
    }

    /// The chain this node follows.
    pub async fn chain_id(&self) -> Result<u64, RpcError> {
        Ok(self.read::<U64>(Method::ChainId, json!([])).await?.to())
    }

    /// The latest block.
    pub async fn head(&self) -> Result<BlockRef, RpcError> {
        let block: Option<WireBlock> = self.read(Method::BlockByNumber, json!(["latest", false])).await?;
        block.ok_or_else(|| RpcError::NotFound { what: "its latest block".to_owned() })?.into_ref(Method::BlockByNumber)
    }

    /// The block at this height of the canonical chain, `None` where this node has none.
    pub async fn block_by_number(&self, number: u64) -> Result<Option<BlockRef>, RpcError> {
        let block: Option<WireBlock> = self.read(Method::BlockByNumber, json!([U64::from(number), false])).await?;
        let block = block.map(|b| b.into_ref(Method::BlockByNumber)).transpose()?;
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
        let block = block.map(|b| b.into_ref(Method::BlockByHash)).transpose()?;
        match block {
            Some(b) if b.hash != hash => Err(RpcError::malformed(Method::BlockByHash, "another block than asked for")),
            block => Ok(block),
        }
    }

    /// Makes a call on the state after the block with this hash. A failure in the EVM is an outcome, not an error.
    pub async fn call(&self, call: &Call, from: Option<Address>, at: B256) -> Result<CallOutcome, RpcError> {
        let params = json!([call_object(call, from), { "blockHash": at }]);
        match self.read_at::<Bytes>(Method::Call, params, at).await {
            Ok(output) => Ok(CallOutcome::Returned(output)),
            Err(error) => error.revert_data().map(CallOutcome::Reverted).ok_or(error),
        }
    }

    /// The code of a contract after the block with this hash; empty where there is none.
    pub async fn code(&self, address: Address, at: B256) -> Result<Bytes, RpcError> {
        self.read_at(Method::Code, json!([address, { "blockHash": at }]), at).await
    }

    /// A word of a contract's storage after the block with this hash.
    pub async fn storage(&self, address: Address, slot: B256, at: B256) -> Result<B256, RpcError> {
        self.read_at(Method::Storage, json!([address, slot, { "blockHash": at }]), at).await
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

    /// A read of the state at a block hash.
    pub(super) async fn read_at<T: DeserializeOwned>(
        &self,
        method: Method,
        params: Value,
        at: B256,
    ) -> Result<T, RpcError> {
        self.read(method, params).await.map_err(|error: RpcError| match error {
            error if error.is_unknown_block() => RpcError::NotFound { what: format!("block {at}") },
            error => error,
        })
    }

    /// A read: asked again, a few times, while that can help and the time of one request lasts.
    pub(super) async fn read<T: DeserializeOwned>(&self, method: Method, params: Value) -> Result<T, RpcError> {
        debug_assert!(method.is_read(), "only reads may be repeated");
        let started = Instant::now();
        let mut pause = RETRY_PAUSE;
        for attempt in 1.. {
            let error = match self.request(method, &params).await {
                Ok(answer) => return parse(method, answer),
                Err(error) => error,
            };
            let answered =
                error.revert_data().is_some() || error.is_unknown_block() || error.class() == ErrorClass::Terminal;
            if answered || attempt == READ_ATTEMPTS_MAX || started.elapsed() + pause >= self.settings.timeout {
                return Err(error);
            }
            tracing::debug!(method = method.as_str(), attempt, %error, "read repeated");
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        unreachable!("the loop ends by returning")
    }

    /// One request, once, under the timeout and counted.
    pub(super) async fn request(&self, method: Method, params: &Value) -> Result<Value, RpcError> {
        let started = Instant::now();
        let call = self.client.request::<&Value, Value>(method.as_str(), params);
        let result = match tokio::time::timeout(self.settings.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(TransportRpcError::NullResp)) => Ok(Value::Null),
            Ok(Err(error)) => Err(RpcError::of(method, error)),
            Err(_) => Err(RpcError::Timeout { method: method.as_str() }),
        };
        self.meter.observe(method, result.as_ref().err(), started.elapsed());
        result
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
