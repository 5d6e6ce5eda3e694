//! Wake-ups at new heads: pushed where the node can, polled where it cannot or has gone silent.

use std::time::Duration;

use alloy::{primitives::B256, pubsub::RawSubscription};
use serde_json::json;
use tokio::{
    sync::broadcast::error::{RecvError, TryRecvError},
    time::Instant,
};

use super::{Rpc, RpcError, Transport, method::Method};
use crate::types::BlockRef;

/// Tells when to look at the head again, and which one the preferred node has pushed, if it did: see [`Rpc::head_at`].
#[derive(Debug)]
pub struct HeadSignals {
    rpc: Rpc,
    pushed: Option<Pushed>,
    /// Whether the subscription has missed its watchdog and not spoken since.
    silent: bool,
    /// When to try to subscribe again.
    resubscribe_at: Instant,
}

/// A subscription at one node.
#[derive(Debug)]
struct Pushed {
    node: usize,
    heads: RawSubscription,
}

impl HeadSignals {
    pub(super) async fn new(rpc: Rpc) -> Self {
        let mut signals = Self { rpc, pushed: None, silent: false, resubscribe_at: Instant::now() };
        signals.subscribe_if_due().await;
        signals
    }

    /// Returns at the next head or, at the latest, when the poll interval has passed (twice that where heads are
    /// pushed and the subscription spoke last time): with the newest head that was pushed. Cancel-safe.
    pub async fn next(&mut self) -> Option<BlockRef> {
        self.subscribe_if_due().await;
        let poll = self.rpc.settings.poll_interval;
        let Some(pushed) = &mut self.pushed else {
            tokio::time::sleep(poll).await;
            return None;
        };
        let patience = if self.silent { poll } else { poll * 2 };
        match tokio::time::timeout(patience, pushed.heads.rx.recv()).await {
            Ok(told @ (Ok(_) | Err(RecvError::Lagged(_)))) => {
                if self.silent {
                    tracing::info!("head subscription speaks again");
                }
                self.silent = false;
                // Heads that queued up while the last one was worked on are one reason to look, not many.
                let mut newest = told.ok();
                loop {
                    match pushed.heads.rx.try_recv() {
                        Ok(newer) => newest = Some(newer),
                        Err(TryRecvError::Lagged(_)) => {}
                        Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                    }
                }
                return self.rpc.pushed(newest?.get());
            }
            Ok(Err(RecvError::Closed)) => {
                self.pushed = None;
                tokio::time::sleep(poll).await;
            }
            Err(_) => {
                if !self.silent {
                    tracing::warn!(patience_ms = patience.as_millis(), "head subscription is silent, polling");
                }
                self.silent = true;
            }
        }
        None
    }

    /// Subscribes at the preferred node where it can push heads and nothing is subscribed there. A failure leaves polling
    /// in place.
    async fn subscribe_if_due(&mut self) {
        let node = self.rpc.pool.preferred();
        if self.pushed.as_ref().is_some_and(|pushed| pushed.node != node) {
            self.unsubscribe();
        }
        let speaks_push = self.rpc.pool.node(node).endpoint.transport() == Transport::WebSocket;
        if !speaks_push || self.pushed.is_some() || Instant::now() < self.resubscribe_at {
            return;
        }
        self.resubscribe_at = Instant::now() + RESUBSCRIBE_PAUSE;
        match self.rpc.subscribe_heads(node).await {
            Ok(heads) => {
                self.silent = false;
                self.pushed = Some(Pushed { node, heads });
            }
            Err(error) => tracing::warn!(%error, "no head subscription, polling"),
        }
    }

    fn unsubscribe(&mut self) {
        let Some(Pushed { node, heads }) = self.pushed.take() else { return };
        if let Some(frontend) = self.rpc.pool.node(node).client.pubsub_frontend() {
            // Without a connection there is nothing to end.
            let _ = frontend.unsubscribe(*heads.local_id());
        }
    }
}

/// Wait between attempts to subscribe.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(10);

impl Drop for HeadSignals {
    fn drop(&mut self) {
        self.unsubscribe();
    }
}

impl Rpc {
    async fn subscribe_heads(&self, node: usize) -> Result<RawSubscription, RpcError> {
        let method = Method::Subscribe;
        let client = &self.pool.node(node).client;
        let subscribe = async {
            let mut call = client.request::<_, B256>(method.as_str(), json!(["newHeads"]));
            call.set_is_subscription();
            let local_id = call.await?;
            match client.pubsub_frontend() {
                Some(frontend) => frontend.get_subscription(local_id).await,
                None => Err(alloy::transports::TransportErrorKind::pubsub_unavailable()),
            }
        };
        let started = Instant::now();
        let result = match tokio::time::timeout(self.settings.timeout, subscribe).await {
            Ok(result) => result.map_err(|error| RpcError::of(method, error)),
            Err(_) => Err(RpcError::Timeout { method: method.as_str() }),
        };
        self.meter.observe(method, result.as_ref().err(), started.elapsed());
        result
    }
}
