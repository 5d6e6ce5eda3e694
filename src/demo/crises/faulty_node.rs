//! Stands between the daemon and its node and answers badly when told to: refuses, loses answers, throttles, delays, garbles,
//! shows no logs.
//!
//! Invariants: what it forwards it forwards as it is; which request fares how is decided by a seed and the order of requests.
//! Must not: answer what a node would not say that fails or lags.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::super::dice::Dice;

/// In this part of requests something goes wrong while it is faulty.
const ONE_IN: u64 = 4;
const DELAY: Duration = Duration::from_millis(400);

/// See the module. Dropped, it is gone.
pub(super) struct FaultyNode {
    url: String,
    mood: Arc<Mutex<Option<Dice>>>,
    served: JoinHandle<()>,
}

#[derive(Clone)]
struct Desk {
    node: String,
    client: reqwest::Client,
    mood: Arc<Mutex<Option<Dice>>>,
}

/// How a request fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// Never reaches the node.
    Refused,
    /// Reaches the node, whose answer is lost.
    Lost,
    /// Too many requests.
    Throttled,
    Delayed,
    /// Half of the answer.
    Garbled,
    /// "None", where logs are asked for; else nothing is wrong.
    Bare,
}

impl FaultyNode {
    /// Listens on a port of its own on 127.0.0.1. It is honest at first.
    pub(super) async fn start(node: String) -> Result<Self> {
        let mood = Arc::new(Mutex::new(None));
        let client = reqwest::Client::builder().no_proxy().build().context("an HTTP client")?;
        let desk = Desk { node, client, mood: Arc::clone(&mood) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.context("listen for the daemon")?;
        let url = format!("http://{}", listener.local_addr().context("the port that is listened on")?);
        let router = Router::new().route("/", post(answer)).with_state(desk);
        let served = tokio::spawn(async move {
            // It ends with the task.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, mood, served })
    }

    /// Where the daemon finds it.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// From now on answers badly, or no longer.
    pub(super) fn be_faulty(&self, dice: Option<Dice>) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = dice;
    }
}

impl Drop for FaultyNode {
    fn drop(&mut self) {
        self.served.abort();
    }
}

impl Desk {
    fn fate(&self) -> Fate {
        let mut mood = self.mood.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(dice) = mood.as_mut() else { return Fate::Answered };
        if dice.below(ONE_IN) > 0 {
            return Fate::Answered;
        }
        dice.choose(&[Fate::Refused, Fate::Lost, Fate::Throttled, Fate::Delayed, Fate::Garbled, Fate::Bare])
    }
}

async fn answer(State(desk): State<Desk>, body: Bytes) -> Response {
    let fate = desk.fate();
    match fate {
        Fate::Refused => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Fate::Throttled => return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response(),
        Fate::Delayed => tokio::time::sleep(DELAY).await,
        Fate::Bare => {
            if let Some(none) = no_logs(&body) {
                return none;
            }
        }
        Fate::Answered | Fate::Lost | Fate::Garbled => {}
    }
    let asked = desk.client.post(&desk.node).header(header::CONTENT_TYPE, "application/json").body(body).send().await;
    let answered = match asked {
        Ok(response) => response.bytes().await,
        Err(error) => Err(error),
    };
    let Ok(said) = answered else { return StatusCode::BAD_GATEWAY.into_response() };
    let said = match fate {
        Fate::Lost => return StatusCode::GATEWAY_TIMEOUT.into_response(),
        Fate::Garbled => said.slice(..said.len() / 2),
        _ => said,
    };
    ([(header::CONTENT_TYPE, "application/json")], said).into_response()
}

/// The answer of a node that has a block and not yet its logs; `None` if it was asked something else.
fn no_logs(asked: &[u8]) -> Option<Response> {
    let asked: Value = serde_json::from_slice(asked).ok()?;
    let none = json!({ "jsonrpc": "2.0", "id": asked["id"], "result": [] });
    (asked["method"] == "eth_getLogs").then(|| axum::Json(none).into_response())
}
