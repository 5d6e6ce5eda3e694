//! The whole way of an alert: from a stage's handle to a receiver on this machine.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use hmac::{Hmac, Mac};
use prometheus::Registry;
use sha2::Sha256;
use tokio::sync::mpsc;

use super::{metrics::Outcome, webhook::Webhook, *};

const HOUR: Duration = Duration::from_secs(3_600);
const SECRET: &str = "shared";

/// A receiver that answers with the queued statuses, then 200, and hands over what it was sent.
struct Receiver {
    url: String,
    posts: mpsc::Receiver<(HeaderMap, String)>,
}

#[derive(Clone)]
struct Answers {
    statuses: Arc<Mutex<VecDeque<StatusCode>>>,
    delay: Duration,
    posts: mpsc::Sender<(HeaderMap, String)>,
}

async fn answer(State(answers): State<Answers>, headers: HeaderMap, body: String) -> StatusCode {
    // A test that reads no posts lets the queue fill.
    let _ = answers.posts.try_send((headers, body));
    tokio::time::sleep(answers.delay).await;
    answers.statuses.lock().unwrap().pop_front().unwrap_or(StatusCode::OK)
}

impl Receiver {
    async fn start(statuses: &[u16], delay: Duration) -> Self {
        let (sender, posts) = mpsc::channel(64);
        let statuses = statuses.iter().map(|&status| StatusCode::from_u16(status).unwrap()).collect();
        let answers = Answers { statuses: Arc::new(Mutex::new(statuses)), delay, posts: sender };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(answer)).with_state(answers);
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, posts }
    }

    fn webhook(&self) -> Webhook {
        let settings = WebhookSettings {
            name: "oncall".to_owned(),
            url: self.url.clone(),
            secret: Some(SECRET.to_owned()),
            min_severity: Severity::Warning,
            timeout: Duration::from_millis(300),
        };
        let mut webhook = Webhook::new(settings).unwrap();
        webhook.backoff = Duration::from_millis(1);
        webhook
    }

    /// The bodies of all posts so far, each with a valid signature.
    fn bodies(&mut self) -> Vec<serde_json::Value> {
        std::iter::from_fn(|| self.posts.try_recv().ok())
            .map(|(headers, body)| {
                let header = |name: &str| headers[name].to_str().unwrap().to_owned();
                let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
                mac.update(format!("{}.{body}", header("x-backstop-timestamp")).as_bytes());
                let signature = header("x-backstop-signature");
                let hex = signature.strip_prefix("sha256=").unwrap();
                mac.verify_slice(&alloy::primitives::hex::decode(hex).unwrap()).unwrap();
                serde_json::from_str(&body).unwrap()
            })
            .collect()
    }
}

/// A store that keeps open keys in memory, outlives the handle under test, and can be down.
#[derive(Default)]
struct Store {
    open: Mutex<BTreeSet<AlertKey>>,
    down: Mutex<bool>,
}

impl Store {
    fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    fn reach(&self) -> anyhow::Result<()> {
        if *self.down.lock().unwrap() { Err(anyhow::anyhow!("down")) } else { Ok(()) }
    }
}

impl DedupStore for Store {
    fn raise<'a>(&'a self, alert: &'a Alert, _: DateTime<Utc>, _: Duration) -> BoxFuture<'a, anyhow::Result<Decision>> {
        Box::pin(async {
            self.reach()?;
            let opened = self.open.lock().unwrap().insert(alert.key.clone());
            Ok(if opened { Decision::Deliver } else { Decision::Suppressed })
        })
    }

    fn resolve<'a>(&'a self, key: &'a AlertKey, _: DateTime<Utc>) -> BoxFuture<'a, anyhow::Result<bool>> {
        Box::pin(async {
            self.reach()?;
            Ok(self.open.lock().unwrap().remove(key))
        })
    }
}

fn metrics() -> AlertMetrics {
    AlertMetrics::new(&Registry::new()).unwrap()
}

fn key() -> AlertKey {
    AlertKey::new(AlertKind::Shortfall, Some(&"venue".parse().unwrap()), 1)
}

fn alert() -> Alert {
    Alert::new(key(), "2 units, 5000 short")
}

fn start(receiver: &Receiver, store: Option<&Arc<Store>>, metrics: &AlertMetrics) -> (Alerts, AlertsTask) {
    let store = store.map(|store| store.clone() as Arc<dyn DedupStore>);
    Alerts::start_with(vec![receiver.webhook()], HOUR, store, metrics.clone())
}

async fn finish(task: AlertsTask) {
    task.finish(Duration::from_secs(20)).await;
}

/// What a receiver was told, in short.
fn events(bodies: &[serde_json::Value]) -> Vec<(&str, &str)> {
    bodies.iter().map(|body| (body["event"].as_str().unwrap(), body["severity"].as_str().unwrap())).collect()
}

#[test]
fn every_outcome_is_there_at_zero() {
    let registry = Registry::new();
    AlertMetrics::new(&registry).unwrap().for_webhook("oncall");
    let shown = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for outcome in ["delivered", "suppressed", "resolved", "failed", "dropped"] {
        for severity in Severity::ALL {
            let line = format!("backstop_alerts_total{{outcome=\"{outcome}\",severity=\"{severity}\"}} 0");
            assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
        }
    }
    for outcome in ["accepted", "failed"] {
        let line = format!("backstop_alerts_webhook_posts_total{{outcome=\"{outcome}\",webhook=\"oncall\"}} 0");
        assert!(shown.lines().any(|shown| shown == line), "{line} in {shown}");
    }
}

#[tokio::test]
async fn a_signed_post_says_what_to_know_and_where_to_look() {
    let mut receiver = Receiver::start(&[], Duration::ZERO).await;
    let (alerts, task) = start(&receiver, None, &metrics());
    alerts.raise(alert());
    finish(task).await;
    let bodies = receiver.bodies();
    assert_eq!(bodies.len(), 1);
    for (field, value) in [
        ("event", "raised"),
        ("key", "venue/shortfall/1"),
        ("kind", "shortfall"),
        ("severity", "warning"),
        ("deployment", "venue"),
        ("title", "units are bankrupt"),
        ("detail", "2 units, 5000 short"),
        ("runbook", "shortfall"),
    ] {
        assert_eq!(bodies[0][field], value, "{field}");
    }
}

#[tokio::test]
async fn a_standing_cause_is_told_once_then_when_it_escalates_then_when_it_ends() {
    let mut receiver = Receiver::start(&[], Duration::ZERO).await;
    let metrics = metrics();
    let (alerts, task) = start(&receiver, Some(&Arc::default()), &metrics);
    let other = AlertKey::new(AlertKind::Shortfall, None, 2);
    alerts.resolve(&key());
    alerts.raise(alert());
    alerts.raise(alert());
    alerts.raise(Alert::new(other, "").with_severity(Severity::Info));
    alerts.resolve(&key());
    alerts.resolve(&key());
    alerts.raise(alert());
    finish(task).await;
    let bodies = receiver.bodies();
    let told = [("raised", "warning"), ("resolved", "warning"), ("raised", "warning")];
    assert_eq!(events(&bodies), told, "info stays below the webhook's threshold");
    assert_eq!(metrics.of(Severity::Warning, Outcome::Delivered).get(), 2);
    assert_eq!(metrics.of(Severity::Warning, Outcome::Suppressed).get(), 1);
    assert_eq!(metrics.of(Severity::Warning, Outcome::Resolved).get(), 1);
    assert_eq!(metrics.of(Severity::Info, Outcome::Delivered).get(), 1);
}

#[tokio::test]
async fn a_restart_does_not_repeat_what_was_told_and_still_tells_the_end() {
    let mut receiver = Receiver::start(&[], Duration::ZERO).await;
    let store = Arc::default();
    for _ in 0..2 {
        let (alerts, task) = start(&receiver, Some(&store), &metrics());
        alerts.raise(alert());
        finish(task).await;
    }
    let (alerts, task) = start(&receiver, Some(&store), &metrics());
    alerts.resolve(&key());
    alerts.resolve(&key());
    finish(task).await;
    let bodies = receiver.bodies();
    assert_eq!(events(&bodies), [("raised", "warning"), ("resolved", "warning")]);
}

#[tokio::test]
async fn without_its_store_alerting_goes_on_and_no_resolution_is_lost() {
    let mut receiver = Receiver::start(&[], Duration::ZERO).await;
    let store: Arc<Store> = Arc::default();
    store.open.lock().unwrap().insert(key());
    store.set_down(true);
    let (alerts, task) = start(&receiver, Some(&store), &metrics());
    alerts.raise(alert());
    alerts.raise(alert());
    alerts.resolve(&key());
    // Both were told, so the store has been asked, in vain, before it comes back.
    while receiver.posts.len() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    store.set_down(false);
    alerts.raise(alert());
    finish(task).await;
    let bodies = receiver.bodies();
    let told = [("raised", "warning"), ("resolved", "warning"), ("raised", "warning")];
    assert_eq!(events(&bodies), told, "the row left open must not hide the second alert");
}

#[tokio::test]
async fn a_busy_receiver_is_tried_again_and_a_refusing_one_is_not() {
    for (statuses, attempts, delivered) in
        [(&[503, 429, 500][..], 4, true), (&[503; 4][..], 4, false), (&[400][..], 1, false), (&[302][..], 1, false)]
    {
        let mut receiver = Receiver::start(statuses, Duration::ZERO).await;
        let metrics = metrics();
        let (alerts, task) = start(&receiver, None, &metrics);
        alerts.raise(alert());
        finish(task).await;
        assert_eq!(receiver.bodies().len(), attempts, "{statuses:?}");
        let [accepted, failed] = metrics.for_webhook("oncall");
        assert_eq!((accepted.get(), failed.get()), (delivered.into(), (!delivered).into()), "{statuses:?}");
        assert_eq!(metrics.of(Severity::Warning, Outcome::Failed).get(), u64::from(!delivered));
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up() {
    let mut receiver = Receiver::start(&[], Duration::from_secs(60)).await;
    let metrics = metrics();
    let (alerts, task) = start(&receiver, None, &metrics);
    alerts.raise(alert());
    finish(task).await;
    assert_eq!(receiver.bodies().len(), 4);
    assert_eq!(metrics.for_webhook("oncall")[1].get(), 1);
}

#[tokio::test]
async fn an_overflowing_queue_drops_counts_and_never_blocks() {
    let receiver = Receiver::start(&[], Duration::ZERO).await;
    let metrics = metrics();
    let (alerts, task) = start(&receiver, None, &metrics);
    // On this single-threaded runtime no task runs between these.
    for subject in 0..1_034 {
        alerts.raise(Alert::new(AlertKey::new(AlertKind::Shortfall, None, subject), ""));
    }
    assert_eq!(metrics.of(Severity::Warning, Outcome::Dropped).get(), 10);
    finish(task).await;
    alerts.raise(alert());
    assert_eq!(metrics.of(Severity::Warning, Outcome::Dropped).get(), 11, "closed counts as dropped");
}
