//! A real chain for tests: an anvil of its own, a client of it, and two contracts of a few bytes.

use std::time::Duration;

use alloy::primitives::{U64, address};
use prometheus::Registry;
use serde_json::{Value, json};

use super::{Rpc, RpcMetrics, RpcSettings};
use crate::{
    demo::anvil::{Anvil, AnvilOptions, Mining},
    types::{Address, B256, Bytes},
};

/// The first account of anvil's mnemonic: funded, and signed for by the node.
pub(crate) const SENDER: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

/// Stores the first word it is called with and logs all of it; called with nothing, it returns the stored word.
pub(crate) const NOTEBOOK: &str = "0x7836600c575f545f5260205ff35b5f355f55365f5f37365fa0005f5260196007f3";
/// Always reverts with the word 255.
pub(crate) const REVERTER: &str = "0x6960ff60005260206000fd600052600a6016f3";

pub(crate) struct TestChain {
    pub(crate) anvil: Anvil,
    pub(crate) rpc: Rpc,
}

impl TestChain {
    /// A chain whose blocks are made only by [`Self::mine`] and [`Self::send_now`].
    pub(crate) async fn start() -> Self {
        let options = AnvilOptions { mining: Mining::OnDemand, ..AnvilOptions::default() };
        let anvil = Anvil::start(&options).await.unwrap();
        let rpc = connect(&settings(&anvil.http_url())).await;
        Self { anvil, rpc }
    }

    pub(crate) async fn mine(&self, blocks: u64) {
        self.anvil.mine(blocks).await.unwrap();
    }

    /// Puts a transaction in the pool.
    pub(crate) async fn send(&self, to: Address, data: impl Into<Bytes>) -> B256 {
        let data: Bytes = data.into();
        self.submit(json!({ "from": SENDER, "to": to, "input": data, "gas": "0x186a0" })).await
    }

    /// Sends it in a block of its own.
    pub(crate) async fn send_now(&self, to: Address, data: impl Into<Bytes>) -> B256 {
        let hash = self.send(to, data).await;
        self.mine(1).await;
        hash
    }

    /// Deploys in a block of its own.
    pub(crate) async fn deploy(&self, code: &str) -> Address {
        let hash = self.submit(json!({ "from": SENDER, "input": code, "gas": "0xf4240" })).await;
        self.mine(1).await;
        let receipt: Value = self.anvil.request("eth_getTransactionReceipt", json!([hash])).await.unwrap();
        assert_eq!(receipt["status"], json!(U64::from(1)));
        receipt["contractAddress"].as_str().unwrap().parse().unwrap()
    }

    async fn submit(&self, transaction: Value) -> B256 {
        self.anvil.request("eth_sendTransaction", json!([transaction])).await.unwrap()
    }
}

pub(crate) fn settings(url: &str) -> RpcSettings {
    RpcSettings {
        urls: vec![url.parse().unwrap()],
        relay: None,
        chain_id: 31337,
        quorum: 1,
        timeout: Duration::from_secs(10),
        poll_interval: Duration::from_millis(100),
        log_range_blocks_max: 1000,
    }
}

pub(crate) async fn connect(settings: &RpcSettings) -> Rpc {
    let metrics = RpcMetrics::new(&Registry::new()).unwrap();
    Rpc::connect(settings, metrics.for_deployment(&"test".parse().unwrap())).await.unwrap()
}

/// A word of 32 bytes that begins with these.
pub(crate) fn word(bytes: &[u8]) -> Bytes {
    let mut word = [0; 32];
    word[..bytes.len()].copy_from_slice(bytes);
    Bytes::copy_from_slice(&word)
}
