//! A guard that fails halts its own deployment and no other: one process, one chain, two deployments of one protocol, the
//! code of one replaced while both run.

use std::time::{Duration, Instant};

use alloy::primitives::Bytes;
use anyhow::{Context, Result, ensure};
use backstop::demo::{contracts, postgres::TestDatabase};
use serde_json::{Value, json};

use super::{
    chain::Chain,
    daemon::{self, Daemon, Settings},
    run::ONE_AT_A_TIME,
    scene::{Scene, scene_folder},
};

/// The deployment whose contract is replaced, and its neighbour.
const NAMES: [&str; 2] = ["replaced", "neighbour"];
/// Accounts that become due in each.
const DUE: usize = 3;
/// Blocks within which the neighbour's accounts must be liquidated.
const BLOCKS_MAX: usize = 6;
const HALT_WITHIN: Duration = Duration::from_secs(20);

/// Plays the scene; panics unless only the deployment halts whose contract was replaced.
pub(crate) async fn play<S: Scene>() {
    let _turn = ONE_AT_A_TIME.lock().await;
    if contracts::at_hand(S::SCRIPT) {
        halts_alone::<S>().await.unwrap_or_else(|error| panic!("{error:#}"));
    }
}

async fn halts_alone<S: Scene>() -> Result<()> {
    let chain = Chain::start(S::chain()).await?;
    let keys = [daemon::key(1), daemon::key(2)];
    let mut scenes = Vec::new();
    for key in &keys {
        chain.fund(key.address()).await?;
        let deployed = contracts::deploy(S::SCRIPT, &chain.anvil.http_url(), key.address())?;
        scenes.push(S::deploy(&chain, deployed, key.address(), DUE).await.context("set the scene")?);
    }
    chain.stop_automine().await?;
    let database = TestDatabase::new().await;
    let folder = scene_folder(S::NAME, "guard");
    let settings: Vec<Settings<'_>> = (0..2)
        .map(|i| Settings {
            name: NAMES[i],
            folder: &folder,
            database_url: database.url(),
            rpc_url: chain.anvil.ws_url(),
            key: &keys[i],
            protocol: scenes[i].protocol(),
            policy: scenes[i].policy(),
            overrides: Value::Null,
        })
        .collect();
    let mut daemon = Daemon::start_all(&settings.iter().collect::<Vec<_>>()).await?;
    daemon.must_act_on_all(&NAMES, &chain.head().await?).await?;

    // the same code with one byte behind it: it works as before, and is another
    let guarded = scenes[0].guarded();
    let code: Bytes = chain.anvil.request("eth_getCode", json!([guarded, "latest"])).await?;
    chain.anvil.command("anvil_setCode", json!([guarded, Bytes::from([&code[..], &[0]].concat())])).await?;
    chain.mine().await?;
    let reason = halted(&mut daemon, NAMES[0]).await?;
    ensure!(reason.contains(&guarded.to_string()), "{} halts, but not for its guard: {reason}", NAMES[0]);

    for scene in &scenes {
        scene.strike(&chain).await?;
    }
    let mut block = chain.mine().await?;
    for scene in &scenes {
        ensure!(scene.liquidatable(&chain, &block).await?.len() == DUE, "not {DUE} accounts are due");
    }
    for _ in 0..BLOCKS_MAX {
        daemon.must_act_on_all(&NAMES[1..], &block).await?;
        block = chain.mine().await?;
        let sent = chain.mined(block.number).await?;
        ensure!(sent.iter().all(|mined| mined.from != keys[0].address()), "the halted deployment sends");
    }
    let left = scenes[1].liquidatable(&chain, &block).await?.len();
    ensure!(left == 0, "the neighbour left {left} of {DUE} accounts alone");
    ensure!(scenes[0].liquidatable(&chain, &block).await?.len() == DUE, "somebody acted for the halted deployment");
    let standing = daemon.standing_of(NAMES[1]).await?;
    ensure!(standing["ready"] == json!(true), "the neighbour is not ready: {standing}");
    daemon.stop().await
}

/// Why a deployment does not act, once it says so.
async fn halted(daemon: &mut Daemon, name: &str) -> Result<String> {
    let began = Instant::now();
    loop {
        let standing = daemon.standing_of(name).await?;
        let reasons = standing["reasons"].as_array().cloned().unwrap_or_default();
        if let Some(reason) = reasons.iter().filter_map(Value::as_str).find(|reason| reason.starts_with("halted")) {
            return Ok(reason.to_owned());
        }
        ensure!(began.elapsed() < HALT_WITHIN, "{name} does not halt: {standing}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
