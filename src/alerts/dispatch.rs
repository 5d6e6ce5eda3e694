//! The queue, the task that decides who is told, and one task per webhook.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use chrono::{DateTime, Utc};
use tokio::{sync::mpsc, task::JoinSet, time};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{
    Alert, AlertKey, AlertMetrics, AlertSink, Decision, DedupStore, Severity, WebhookSettings,
    dedup::OpenAlerts,
    metrics::Outcome,
    webhook::{Event, Payload, Webhook},
};

const QUEUE_MAX: usize = 1_024;
const WEBHOOK_QUEUE_MAX: usize = 256;
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often resolutions that the store did not take are offered again.
const STORE_RETRY: Duration = Duration::from_secs(30);
/// Most keys remembered as resolved in the store; past it they are asked about again.
const SETTLED_MAX: usize = 4_096;

/// How alerts are told.
#[derive(Clone, Debug)]
pub struct AlertSettings {
    /// Reminder period of an alert whose cause stays true.
    pub repeat_after: Duration,
    /// Receivers beside the log.
    pub webhooks: Vec<WebhookSettings>,
}

/// The handle that stages hold.
#[derive(Clone, Debug)]
pub struct Alerts {
    queue: mpsc::Sender<Notice>,
    metrics: AlertMetrics,
}

/// The running tasks behind [`Alerts`]. Dropping it ends them at once; [`AlertsTask::finish`] lets them tell what is queued.
#[derive(Debug)]
pub struct AlertsTask {
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
enum Notice {
    Raise(Alert),
    Resolve(AlertKey),
}

impl Alerts {
    /// Starts the tasks. Without a `store`, alerts are deduplicated within this process only.
    pub fn start(
        settings: AlertSettings,
        store: Option<Arc<dyn DedupStore>>,
        metrics: AlertMetrics,
    ) -> anyhow::Result<(Self, AlertsTask)> {
        let webhooks = settings.webhooks.into_iter().map(Webhook::new).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self::start_with(webhooks, settings.repeat_after, store, metrics))
    }

    pub(super) fn start_with(
        webhooks: Vec<Webhook>,
        repeat_after: Duration,
        store: Option<Arc<dyn DedupStore>>,
        metrics: AlertMetrics,
    ) -> (Self, AlertsTask) {
        let mut tasks = JoinSet::new();
        let lanes = webhooks.into_iter().map(|webhook| Lane::start(webhook, &metrics, &mut tasks)).collect();
        let (queue, notices) = mpsc::channel(QUEUE_MAX);
        let dispatcher = Dispatcher {
            repeat_after,
            store,
            lanes,
            metrics: metrics.clone(),
            open: OpenAlerts::default(),
            settled: BTreeSet::new(),
            unsettled: BTreeMap::new(),
        };
        let stop = CancellationToken::new();
        tasks.spawn(dispatcher.run(notices, stop.clone()));
        (Self { queue, metrics }, AlertsTask { stop, tasks })
    }

    fn enqueue(&self, notice: Notice) {
        if let Err(unsent) = self.queue.try_send(notice) {
            let (mpsc::error::TrySendError::Full(notice) | mpsc::error::TrySendError::Closed(notice)) = unsent;
            let (key, severity) = match &notice {
                Notice::Raise(alert) => (&alert.key, alert.severity),
                Notice::Resolve(key) => (key, key.kind().severity()),
            };
            self.metrics.count(severity, Outcome::Dropped);
            error!(alert = %key, ?notice, "alert dropped: the queue is full or closed");
        }
    }
}

impl AlertSink for Alerts {
    fn raise(&self, alert: Alert) {
        self.enqueue(Notice::Raise(alert));
    }

    fn resolve(&self, key: &AlertKey) {
        self.enqueue(Notice::Resolve(key.clone()));
    }
}

impl AlertsTask {
    /// Takes no more, tells what is queued, and returns when that is done or after `deadline`.
    pub async fn finish(mut self, deadline: Duration) {
        self.stop.cancel();
        let drained = async { while self.tasks.join_next().await.is_some() {} };
        if time::timeout(deadline, drained).await.is_err() {
            warn!("alerts were still being delivered at the deadline");
        }
    }
}

/// The way to one webhook: its own bounded queue and task, so that a slow receiver holds up nothing else.
struct Lane {
    name: String,
    min_severity: Severity,
    queue: mpsc::Sender<Arc<Payload>>,
}

impl Lane {
    fn start(webhook: Webhook, metrics: &AlertMetrics, tasks: &mut JoinSet<()>) -> Self {
        let (queue, payloads) = mpsc::channel(WEBHOOK_QUEUE_MAX);
        let lane = Self { name: webhook.settings.name.clone(), min_severity: webhook.settings.min_severity, queue };
        tasks.spawn(post_loop(webhook, payloads, metrics.clone()));
        lane
    }
}

async fn post_loop(webhook: Webhook, mut payloads: mpsc::Receiver<Arc<Payload>>, metrics: AlertMetrics) {
    let [accepted, failed] = metrics.for_webhook(&webhook.settings.name);
    while let Some(payload) = payloads.recv().await {
        match webhook.post(&payload).await {
            Ok(()) => accepted.inc(),
            Err(error) => {
                failed.inc();
                metrics.count(payload.severity, Outcome::Failed);
                warn!(webhook = webhook.settings.name, alert = payload.key, %error, "webhook did not take an alert");
            }
        }
    }
}

struct Dispatcher {
    repeat_after: Duration,
    store: Option<Arc<dyn DedupStore>>,
    lanes: Vec<Lane>,
    metrics: AlertMetrics,
    open: OpenAlerts,
    /// Keys that the store is known to have closed: stages resolve on every pass.
    settled: BTreeSet<AlertKey>,
    /// Resolutions the store has not taken yet, and whether people were told.
    unsettled: BTreeMap<AlertKey, bool>,
}

impl Dispatcher {
    async fn run(mut self, mut notices: mpsc::Receiver<Notice>, stop: CancellationToken) {
        let mut retry = time::interval(STORE_RETRY);
        retry.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !notices.is_closed() => notices.close(),
                notice = notices.recv() => match notice {
                    Some(Notice::Raise(alert)) => self.raise(&alert, Utc::now()).await,
                    Some(Notice::Resolve(key)) => self.resolve(&key, Utc::now()).await,
                    None => return,
                },
                _ = retry.tick() => self.settle_all(Utc::now()).await,
            }
        }
    }

    async fn raise(&mut self, alert: &Alert, now: DateTime<Utc>) {
        self.settled.remove(&alert.key);
        let mut decision = self.open.raise(&alert.key, alert.severity, now, self.repeat_after);
        if decision == Decision::Deliver {
            // A row that should have been closed would make a new alert look like a known one.
            let reopened = self.unsettled.contains_key(&alert.key);
            if !reopened || self.settle(&alert.key, now).await {
                decision = self.ask_store(alert, now).await;
            }
        }
        match decision {
            Decision::Suppressed => self.metrics.count(alert.severity, Outcome::Suppressed),
            Decision::Deliver => {
                log_raised(alert);
                self.metrics.count(alert.severity, Outcome::Delivered);
                self.post(Payload::new(Event::Raised, &alert.key, alert.severity, Some(&alert.detail), now));
            }
        }
    }

    /// What the store says, and memory's word where it says nothing.
    async fn ask_store(&self, alert: &Alert, now: DateTime<Utc>) -> Decision {
        let Some(store) = &self.store else { return Decision::Deliver };
        match answered(store.raise(alert, now, self.repeat_after)).await {
            Ok(decision) => decision,
            Err(error) => {
                warn!(alert = %alert.key, ?error, "alert store did not answer; deduplicating in memory");
                Decision::Deliver
            }
        }
    }

    async fn resolve(&mut self, key: &AlertKey, now: DateTime<Utc>) {
        let told = self.open.resolve(key);
        if told.is_none() && (self.settled.contains(key) || self.unsettled.contains_key(key)) {
            return;
        }
        if let Some(severity) = told {
            self.tell_resolved(key, severity, now);
        }
        self.unsettled.insert(key.clone(), told.is_some());
        self.settle(key, now).await;
    }

    async fn settle_all(&mut self, now: DateTime<Utc>) {
        for key in self.unsettled.keys().cloned().collect::<Vec<_>>() {
            if !self.settle(&key, now).await {
                return;
            }
        }
    }

    /// Closes a key in the store; `false` if the store did not answer.
    async fn settle(&mut self, key: &AlertKey, now: DateTime<Utc>) -> bool {
        let was_open = match &self.store {
            None => false,
            Some(store) => match answered(store.resolve(key, now)).await {
                Ok(was_open) => was_open,
                Err(error) => {
                    warn!(alert = %key, ?error, "alert store did not answer; the resolution is kept for later");
                    return false;
                }
            },
        };
        let told = self.unsettled.remove(key).unwrap_or_default();
        if was_open && !told {
            // Raised before this process started: how bad it had become is not known here.
            self.tell_resolved(key, key.kind().severity(), now);
        }
        if self.settled.len() >= SETTLED_MAX {
            self.settled.clear();
        }
        self.settled.insert(key.clone());
        true
    }

    fn tell_resolved(&self, key: &AlertKey, severity: Severity, now: DateTime<Utc>) {
        info!(alert = %key, "alert resolved");
        self.metrics.count(severity, Outcome::Resolved);
        self.post(Payload::new(Event::Resolved, key, severity, None, now));
    }

    fn post(&self, payload: Payload) {
        let payload = Arc::new(payload);
        for lane in self.lanes.iter().filter(|lane| payload.severity >= lane.min_severity) {
            if lane.queue.try_send(payload.clone()).is_err() {
                self.metrics.count(payload.severity, Outcome::Failed);
                warn!(webhook = lane.name, alert = payload.key, "webhook queue is full; alert not posted");
            }
        }
    }
}

async fn answered<T>(answer: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    time::timeout(STORE_TIMEOUT, answer).await.context("ask the alert store")?
}

fn log_raised(alert: &Alert) {
    let (key, runbook, title, detail) = (&alert.key, alert.runbook(), alert.title(), &alert.detail);
    match alert.severity {
        Severity::Info => info!(alert = %key, title, detail, runbook, "alert raised"),
        Severity::Warning => warn!(alert = %key, title, detail, runbook, "alert raised"),
        Severity::Critical => error!(alert = %key, title, detail, runbook, "alert raised"),
    }
}
