//! The unmodified daemon as a process, configured by file alone.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use alloy::{
    primitives::{Address, B256},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result, ensure};
use backstop::{
    demo::daemon::{Daemon as Process, Launch, free_port},
    journal::Journal,
    positions::Snapshot,
    types::{BlockRef, DeploymentName},
};
use serde_json::{Map, Value, json};

use super::chain::BLOCK_SECONDS;

/// How long the daemon may take for one block before the run fails: other work goes on on the machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the next block waits for the daemon: as long as it would take to come by the chain's own clock.
const BLOCK_TIME: Duration = Duration::from_secs(BLOCK_SECONDS);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A running daemon with one deployment. Dropping it kills the process.
pub(crate) struct Daemon {
    process: Process,
    name: DeploymentName,
    journal: Journal,
    log: PathBuf,
}

/// What the daemon is told.
pub(crate) struct Settings<'a> {
    /// Report name and deployment name.
    pub(crate) name: &'a str,
    /// Where its configuration and its log go.
    pub(crate) folder: &'a Path,
    pub(crate) database_url: &'a str,
    pub(crate) rpc_url: String,
    pub(crate) key: &'a PrivateKeySigner,
    /// `[deployments.NAME.protocol]`.
    pub(crate) protocol: Value,
    /// `[deployments.NAME.policy]`.
    pub(crate) policy: Value,
    /// Changes to the rest of `[deployments.NAME]`, laid over.
    pub(crate) overrides: Value,
}

impl Daemon {
    pub(crate) async fn start(settings: &Settings<'_>) -> Result<Self> {
        Self::start_all(&[settings]).await
    }

    /// Starts it with several deployments; what is asked of it without a name is about the first.
    pub(crate) async fn start_all(all: &[&Settings<'_>]) -> Result<Self> {
        let settings = all.first().context("no deployment")?;
        let deployments: Map<String, Value> = all.iter().map(|one| (one.name.to_owned(), deployment(one))).collect();
        let mut config = json!({ "deployments": deployments });
        fs::create_dir_all(settings.folder)?;
        let ops_port = free_port()?;
        lay_over(
            &mut config,
            &json!({
                "database": { "url": settings.database_url },
                "ops": { "listen": format!("127.0.0.1:{ops_port}") },
                "log": { "format": "text", "filter": "info" },
            }),
        );
        let file = settings.folder.join("backstop.toml");
        fs::write(&file, toml::to_string_pretty(&config)?)?;
        let log = settings.folder.join("daemon.log");
        let process = Process::start(Launch {
            executable: env!("CARGO_BIN_EXE_backstop").into(),
            config: file,
            log: log.clone(),
            ops_port,
            environment: all.iter().map(|one| (key_variable(one), format!("{:#x}", one.key.to_bytes()))).collect(),
        })?;
        let journal = Journal::connect(settings.database_url, 2).await?;
        Ok(Self { process, name: settings.name.parse()?, journal, log })
    }

    /// The daemon's journal.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What `/readyz` says of a deployment.
    pub(crate) async fn standing_of(&mut self, name: &str) -> Result<Value> {
        self.process.check_alive()?;
        let said = self.process.readiness().await;
        Ok(said.map_or(Value::Null, |(_, body)| body["deployments"][name].clone()))
    }

    /// Waits until the daemon has settled, scanned and acted on this block, or the next one is due by the clock. How long
    /// it took; `None` if it was not in time.
    pub(crate) async fn acted_on(&mut self, block: &BlockRef) -> Result<Option<Duration>> {
        let name = self.name.clone();
        self.acted_within(name.as_str(), block, BLOCK_TIME).await
    }

    async fn acted_within(&mut self, name: &str, block: &BlockRef, within: Duration) -> Result<Option<Duration>> {
        let began = Instant::now();
        while began.elapsed() < within {
            let standing = self.standing_of(name).await?;
            if standing["scanned_block"].as_u64().is_some_and(|scanned| scanned >= block.number) {
                return Ok(Some(began.elapsed()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(None)
    }

    /// Waits until the daemon has acted on this block, however long it would take by the clock; fails if it does not.
    pub(crate) async fn must_act_on(&mut self, block: &BlockRef) -> Result<()> {
        let name = self.name.clone();
        self.must_act_on_all(&[name.as_str()], block).await
    }

    /// The same for several deployments.
    pub(crate) async fn must_act_on_all(&mut self, names: &[&str], block: &BlockRef) -> Result<()> {
        for name in names {
            let acted = self.acted_within(name, block, PATIENCE).await?;
            let standing = self.standing_of(name).await?;
            let (number, log) = (block.number, self.log.display());
            ensure!(acted.is_some(), "{name} does not act on block {number}: {standing}; the daemon's log is {log}");
        }
        Ok(())
    }

    /// The daemon's cache, which must be of this very block. It is stored soon after it was acted on.
    pub(crate) async fn cache(&mut self, block: &BlockRef) -> Result<Snapshot> {
        self.must_act_on(block).await?;
        let row = self.journal.deployment_by_name(&self.name).await?.context("the deployment has no row")?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (at, book) = self.journal.load_cache(row.id).await?.context("there is no cache")?;
            if at == *block {
                return Ok(Snapshot { block: at, book });
            }
            ensure!(Instant::now() < deadline, "the cache is of block {}, not {}", at.number, block.number);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Asks it to stop and waits; it must end in order.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let status = self.process.stop().await?;
        ensure!(status.success(), "the daemon ended with {status}; its log is {}", self.log.display());
        Ok(())
    }
}

/// The table `[deployments.NAME]`.
fn deployment(settings: &Settings<'_>) -> Value {
    let mut deployment = json!({
        "chain_id": 31337,
        "rpc": { "url": settings.rpc_url, "timeout_ms": 20_000, "poll_interval_ms": 100 },
        "protocol": settings.protocol,
        "policy": settings.policy,
        "indexer": { "audit_every_blocks": 10, "audit_units": 25 },
        "executor": {
            "dry_run": false,
            "finality_depth_blocks": 2,
            "actions_per_block_max": 64,
            "tx_gas_max": 20_000_000,
            "block_gas_max": 200_000_000,
            "spend_per_hour_max_wei": "1000000000000000000000",
            "signer": { "kind": "env", "variable": key_variable(settings) },
        },
    });
    lay_over(&mut deployment, &settings.overrides);
    deployment
}

/// The variable through which the daemon gets a deployment's key.
fn key_variable(settings: &Settings<'_>) -> String {
    format!("E2E_KEY_{}", settings.name.to_uppercase())
}

/// Lays one tree of settings over another.
fn lay_over(base: &mut Value, over: &Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                lay_over(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (base, over) => *base = over.clone(),
    }
}

/// The keeper of a run.
pub(crate) fn keeper() -> (PrivateKeySigner, Address) {
    let key = key(0);
    let address = key.address();
    (key, address)
}

/// The key of the keeper of this number.
pub(crate) fn key(number: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(0x4b + number)).expect("a valid key")
}

#[test]
fn settings_are_laid_over_each_other_key_by_key() {
    let mut base = json!({ "a": { "b": 1, "c": 2 }, "d": 3 });
    lay_over(&mut base, &json!({ "a": { "c": 4 }, "e": [5], "d": null }));
    assert_eq!(base, json!({ "a": { "b": 1, "c": 4 }, "d": 3, "e": [5] }));
}
