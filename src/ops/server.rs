//! The operators' HTTP server: `GET /metrics`, `/healthz`, `/readyz`; with the token, `POST /v1/reload`.

use std::{fmt, net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Health, Metrics};

/// Prometheus' text exposition format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A bound server that does not answer yet.
#[derive(Debug)]
pub struct OpsServer {
    listener: TcpListener,
    address: SocketAddr,
}

/// What a reload came to: what changed and what did not, or one line a fault with nothing changed.
pub type Reloaded = Result<Value, Vec<String>>;

/// What can be changed over HTTP, and by whom.
#[derive(Clone)]
pub struct Control {
    token: [u8; 32],
    reload: Arc<dyn Fn() -> BoxFuture<'static, Reloaded> + Send + Sync>,
}

impl Control {
    /// Lets whoever has the token reload the configuration.
    pub fn new(token: &str, reload: impl Fn() -> BoxFuture<'static, Reloaded> + Send + Sync + 'static) -> Self {
        Self { token: Sha256::digest(token).into(), reload: Arc::new(reload) }
    }

    /// Digests are compared, so that the time it takes says nothing about the token.
    fn admits(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = given.and_then(|value| value.strip_prefix("Bearer "));
        token.is_some_and(|token| <[u8; 32]>::from(Sha256::digest(token)) == self.token)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Control")
    }
}

#[derive(Clone)]
struct Sources {
    metrics: Metrics,
    health: Health,
    control: Option<Control>,
}

impl OpsServer {
    /// Takes the port, so that a port in use is known before anything else starts.
    pub async fn bind(listen: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listen on ops.listen = {listen}"))?;
        let address = listener.local_addr().context("read the address listened on")?;
        Ok(Self { listener, address })
    }

    /// The address it answers on; the port is real where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is cancelled and open requests are done. Without `control` nothing can be changed.
    pub async fn serve(
        self,
        metrics: Metrics,
        health: Health,
        control: Option<Control>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        axum::serve(self.listener, router(Sources { metrics, health, control }))
            .with_graceful_shutdown(stop.cancelled_owned())
            .await
            .context("serve the operators' endpoints")
    }
}

fn router(sources: Sources) -> Router {
    Router::new()
        .route("/metrics", get(answer_metrics))
        .route("/healthz", get(answer_healthz))
        .route("/readyz", get(answer_readyz))
        .route("/v1/reload", post(answer_reload))
        .with_state(sources)
}

async fn answer_metrics(State(sources): State<Sources>) -> Response {
    match sources.metrics.render(&sources.health) {
        Ok(text) => ([(header::CONTENT_TYPE, EXPOSITION)], text).into_response(),
        Err(error) => {
            error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn answer_healthz(State(sources): State<Sources>) -> Response {
    verdict(sources.health.liveness(Instant::now()))
}

async fn answer_readyz(State(sources): State<Sources>) -> Response {
    verdict(sources.health.readiness(Instant::now()))
}

async fn answer_reload(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    let Some(control) = sources.control else {
        let mend = "no token is configured; set ops.token_env to change anything over HTTP";
        return (StatusCode::FORBIDDEN, Json(json!({ "faults": [mend] }))).into_response();
    };
    if !control.admits(&headers) {
        let mend = "write the token of ops.token_env as \"Authorization: Bearer <token>\"";
        return (StatusCode::UNAUTHORIZED, Json(json!({ "faults": [mend] }))).into_response();
    }
    match (control.reload)().await {
        Ok(changes) => Json(changes).into_response(),
        Err(faults) => (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({ "faults": faults }))).into_response(),
    }
}

fn verdict((good, shown): (bool, Value)) -> Response {
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(shown)).into_response()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use axum::{body::Body, http::HeaderValue};
    use proptest::{
        collection::vec,
        option,
        prelude::*,
        sample::select,
        test_runner::{Config, TestRunner},
    };
    use tower::Service;

    use super::*;
    use crate::ops::{Limits, Role};

    const LIMIT: Duration = Duration::from_secs(60);
    const TOKEN: &str = "a token of some length";

    struct Running {
        url: String,
        health: Health,
        stop: CancellationToken,
        served: tokio::task::JoinHandle<anyhow::Result<()>>,
    }

    async fn start() -> Running {
        let server = OpsServer::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", server.address());
        let limits = Limits { head_age_max: LIMIT, scan_age_max: LIMIT, journal_age_max: LIMIT, lag_blocks_max: 4 };
        let (metrics, health, stop) = (Metrics::new().unwrap(), Health::new(limits), CancellationToken::new());
        let control = Control::new(TOKEN, || Box::pin(async { Err(vec!["a: is wrong; mend it".to_owned()]) }));
        let served = tokio::spawn(server.serve(metrics, health.clone(), Some(control), stop.clone()));
        Running { url, health, stop, served }
    }

    impl Running {
        async fn get(&self, path: &str) -> (u16, String, String) {
            let response = reqwest::get(format!("{}{path}", self.url)).await.unwrap();
            let content_type = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
            (response.status().as_u16(), content_type, response.text().await.unwrap())
        }
    }

    /// A line of the text format: a comment, or a name, optional labels, and a number.
    fn is_exposition(line: &str) -> bool {
        if line.starts_with("# HELP ") || line.starts_with("# TYPE ") {
            return true;
        }
        let Some((series, value)) = line.rsplit_once(' ') else { return false };
        let name = series.split('{').next().unwrap_or_default();
        let labels_closed = series.contains('{') == series.ends_with('}');
        !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
            && labels_closed
            && value.parse::<f64>().is_ok()
    }

    #[tokio::test]
    async fn metrics_are_in_the_text_format_and_say_who_is_ready() {
        let running = start().await;
        running.health.deployment(&"venue".parse().unwrap());
        let (status, content_type, text) = running.get("/metrics").await;
        assert_eq!((status, content_type.as_str()), (200, EXPOSITION));
        assert!(text.lines().all(is_exposition), "{text}");
        let version = env!("CARGO_PKG_VERSION");
        for line in [
            &format!("backstop_build_info{{version=\"{version}\"}} 1"),
            "backstop_ops_deployment_ready{deployment=\"venue\"} 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} in {text}");
        }
        assert!(!cfg!(target_os = "linux") || text.contains("process_resident_memory_bytes"));
    }

    #[tokio::test]
    async fn health_and_readiness_answer_with_status_and_reasons() {
        let running = start().await;
        let task = running.health.task("pipeline", LIMIT);
        assert_eq!(running.get("/healthz").await.0, 200);
        let stuck = running.health.task("stuck", Duration::ZERO);
        let (status, _, body) = running.get("/healthz").await;
        assert!(status == 503 && body.contains("\"stuck\":{\"alive\":false"), "{body}");
        stuck.end();
        task.end();

        let venue = running.health.deployment(&"venue".parse().unwrap());
        let (status, _, body) = running.get("/readyz").await;
        assert!(status == 503 && body.contains("no new head yet"), "{body}");
        venue.head(1);
        venue.indexed(1);
        venue.scanned(1);
        venue.journal_ok();
        venue.role(Role::Holder);
        let (status, content_type, body) = running.get("/readyz").await;
        assert_eq!((status, content_type.as_str()), (200, "application/json"), "{body}");
        assert!(running.get("/metrics").await.2.contains("backstop_ops_deployment_ready{deployment=\"venue\"} 1"));
    }

    #[tokio::test]
    async fn a_reload_needs_the_token_and_answers_what_is_wrong() {
        let running = start().await;
        let reload = |token: Option<&str>| {
            let request = reqwest::Client::new().post(format!("{}/v1/reload", running.url));
            let request = match token {
                Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
                None => request,
            };
            async { request.send().await.unwrap() }
        };
        assert_eq!(reload(None).await.status(), 401);
        assert_eq!(reload(Some("another token of some length")).await.status(), 401);
        let answer = reload(Some(TOKEN)).await;
        assert_eq!(answer.status(), 422);
        assert_eq!(answer.text().await.unwrap(), r#"{"faults":["a: is wrong; mend it"]}"#);
    }

    #[test]
    fn fuzz_any_request_is_answered_and_none_without_the_token_reloads() {
        let limits = Limits { head_age_max: LIMIT, scan_age_max: LIMIT, journal_age_max: LIMIT, lag_blocks_max: 4 };
        let reloads = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&reloads);
        let control = Control::new(TOKEN, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Ok(json!({})) })
        });
        let sources = Sources { metrics: Metrics::new().unwrap(), health: Health::new(limits), control: Some(control) };
        let router = router(sources);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let path = prop_oneof![
            4 => select(vec!["/metrics", "/healthz", "/readyz", "/v1/reload"]).prop_map(str::to_owned),
            1 => "/[!-~]{0,40}".prop_map(|path| path.replace(['"', '<', '>', '\\', '^', '`', '{', '}', '|'], "%00")),
        ];
        let method = prop_oneof![4 => select(vec!["GET", "POST"]).prop_map(str::to_owned), 1 => "[A-Z]{1,12}"];
        let token = prop_oneof![
            1 => Just(format!("Bearer {TOKEN}").into_bytes()),
            3 => vec(any::<u8>(), 0..60).prop_map(|noise| [b"Bearer ".to_vec(), noise].concat()),
            1 => vec(any::<u8>(), 0..60),
        ];
        let config = Config { failure_persistence: None, ..Config::default() };
        println!("{} requests", config.cases);
        let anything = (path, method, option::of(token), vec(any::<u8>(), 0..300));
        // Few of these are a reload with the token: one in ten is made to be.
        let reload =
            Just(("/v1/reload".to_owned(), "POST".to_owned(), Some(format!("Bearer {TOKEN}").into_bytes()), vec![]));
        let request = prop_oneof![9 => anything, 1 => reload];
        TestRunner::new(config)
            .run(&request, |(path, method, token, body)| {
                let mut request = axum::http::Request::builder().uri(&path).method(method.as_str());
                if let Some(value) = token.as_ref().and_then(|token| HeaderValue::from_bytes(token).ok()) {
                    request = request.header(header::AUTHORIZATION, value);
                }
                let Ok(request) = request.body(Body::from(body)) else { return Ok(()) };
                let admitted = token.as_deref() == Some(format!("Bearer {TOKEN}").as_bytes());
                let reload = path.split('?').next() == Some("/v1/reload") && method == "POST";
                let before = reloads.load(Ordering::Relaxed);
                let mut router = router.clone();
                let status = runtime.block_on(router.call(request)).unwrap().status();
                let reloaded = reloads.load(Ordering::Relaxed) - before;
                prop_assert_eq!(reloaded, u64::from(reload && admitted), "{} {}", method, path);
                prop_assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{} {}", method, path);
                Ok(())
            })
            .unwrap();
        assert!(reloads.load(Ordering::Relaxed) > 0, "some requests had the token");
    }

    #[tokio::test]
    async fn it_stops_when_told_and_says_which_port_is_taken() {
        let running = start().await;
        let taken = running.url.strip_prefix("http://").unwrap().parse().unwrap();
        let error = OpsServer::bind(taken).await.unwrap_err();
        assert_eq!(error.to_string(), format!("listen on ops.listen = {taken}"));
        running.stop.cancel();
        tokio::time::timeout(Duration::from_secs(5), running.served).await.unwrap().unwrap().unwrap();
    }
}
