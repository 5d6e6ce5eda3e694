//! Wake-ups at new heads: pushed where the node can, polled where it cannot or has gone silent.

use std::time::Duration;

use alloy::{primitives::B256, pubsub::RawSubscription};
use serde_json::json;
use tokio::{
    sync::broadcast::error::{RecvError, TryRecvError},
    time::Instant,
};

use super::{Rpc, RpcError, Transport, method::Method};

/// Tells when to look at the head again. A signal carries nothing: the truth is [`Rpc::head`].
#[derive(Debug)]
pub struct HeadSignals {
    rpc: Rpc,
    pushed: Option<RawSubscription>,
    /// Whether the subscription has missed its watchdog and not spoken since.
    silent: bool,
    /// When to try to subscribe again.
    resubscribe_at: Instant,
}

impl HeadSignals {
    pub(super) async fn new(rpc: Rpc) -> Self {
        let mut signals = Self { rpc, pushed: None, silent: false, resubscribe_at: Instant::now() };
        signals.subscribe_if_due().await;
        signals
    }

    /// Returns at the next head or, at the latest, when the poll interval has passed (twice that where heads are
    /// pushed and the subscription spoke last time). Cancel-safe.
    pub async fn next(&mut self) {
        self.subscribe_if_due().await;
        let poll = self.rpc.settings.poll_interval;
        let Some(pushed) = &mut self.pushed else {
            return tokio::time::sleep(poll).await;
        };
        let patience = if self.silent { poll } else { poll * 2 };
        match tokio::time::timeout(patience, pushed.rx.recv()).await {
            Ok(Ok(_) | Err(RecvError::Lagged(_))) => {
                if self.silent {
                    tracing::info!("head subscription speaks again");
                }
                self.silent = false;
                // Heads that queued up while the last one was worked on are one reason to look, not many.
                while !matches!(pushed.rx.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
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
    }

    /// Subscribes where heads can be pushed and nothing is subscribed. A failure leaves polling in place.
    async fn subscribe_if_due(&mut self) {
        let speaks_push = self.rpc.settings.url.transport() == Transport::WebSocket;
        if !speaks_push || self.pushed.is_some() || Instant::now() < self.resubscribe_at {
            return;
        }
        self.resubscribe_at = Instant::now() + RESUBSCRIBE_PAUSE;
        match self.rpc.subscribe_heads().await {
            Ok(subscription) => {
                self.silent = false;
                self.pushed = Some(subscription);
            }
            Err(error) => tracing::warn!(%error, "no head subscription, polling"),
        }
    }
}

/// Wait between attempts to subscribe.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(10);

impl Drop for HeadSignals {
    fn drop(&mut self) {
        if let (Some(pushed), Some(frontend)) = (&self.pushed, self.rpc.client.pubsub_frontend()) {
            // Without a connection there is nothing to end.
            let _ = frontend.unsubscribe(*pushed.local_id());
        }
    }
}

impl Rpc {
    async fn subscribe_heads(&self) -> Result<RawSubscription, RpcError> {
        let method = Method::Subscribe;
        let subscribe = async {
            let mut call = self.client.request::<_, B256>(method.as_str(), json!(["newHeads"]));
            call.set_is_subscription();
            let local_id = call.await?;
            match self.client.pubsub_frontend() {
                Some(frontend) => frontend.get_subscription(local_id).await,
                None => Err(alloy::transports::TransportErrorKind::pubsub_unavailable()),
            }
        };
        let started = std::time::Instant::now();
        let result = match tokio::time::timeout(self.settings.timeout, subscribe).await {
            Ok(result) => result.map_err(|error| RpcError::of(method, error)),
            Err(_) => Err(RpcError::Timeout { method: method.as_str() }),
        };
        self.meter.observe(method, result.as_ref().err(), started.elapsed());
        result
    }
}
