//! The unmodified daemon as a process, configured by file alone.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use alloy::{primitives::Address, signers::local::PrivateKeySigner};
use anyhow::{Context, Result, bail, ensure};
use backstop::{
    journal::Journal,
    positions::Snapshot,
    types::{BlockRef, DeploymentName},
};
use serde_json::{Value, json};

const KEY_VARIABLE: &str = "E2E_KEEPER_KEY";
/// How long the daemon may take for one block while other work goes on on the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon with one deployment. Dropping it kills the process.
pub(crate) struct Daemon {
    child: Child,
    name: DeploymentName,
    ops_url: String,
    journal: Journal,
    http: reqwest::Client,
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
        fs::create_dir_all(settings.folder)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let config = settings.folder.join("backstop.toml");
        fs::write(&config, config_text(settings, port)?)?;
        let log = settings.folder.join("daemon.log");
        let output = File::create(&log)?;
        let child = Command::new(env!("CARGO_BIN_EXE_backstop"))
            .args(["run", "--config"])
            .arg(&config)
            .env(KEY_VARIABLE, format!("{:#x}", settings.key.to_bytes()))
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start the daemon")?;
        Ok(Self {
            child,
            name: settings.name.parse()?,
            ops_url: format!("http://127.0.0.1:{port}"),
            journal: Journal::connect(settings.database_url, 2).await?,
            http: reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?,
            log,
        })
    }

    /// The daemon's journal.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What `/readyz` says of the deployment.
    pub(crate) async fn standing(&mut self) -> Result<Value> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the daemon ended ({status}); its log is {}", self.log.display());
        }
        let answer = self.http.get(format!("{}/readyz", self.ops_url)).send().await;
        let Ok(answer) = answer else { return Ok(Value::Null) };
        let body: Value = answer.json().await.unwrap_or_default();
        let deployments = &body["deployments"];
        let named = deployments.get(self.name.as_str()).cloned();
        let listed = || deployments.as_array()?.iter().find(|d| d["name"] == json!(self.name.as_str())).cloned();
        Ok(named.or_else(listed).unwrap_or_default())
    }

    /// Waits until the daemon has settled, scanned and acted on this block.
    pub(crate) async fn acted_on(&mut self, block: &BlockRef) -> Result<()> {
        let began = Instant::now();
        loop {
            let standing = self.standing().await?;
            if standing["scanned_block"].as_u64().is_some_and(|scanned| scanned >= block.number) {
                return Ok(());
            }
            let (number, log) = (block.number, self.log.display());
            ensure!(
                began.elapsed() < PATIENCE,
                "the daemon does not act on block {number}: {standing}; its log is {log}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The daemon's cache, which must be of this very block.
    pub(crate) async fn cache(&mut self, block: &BlockRef) -> Result<Snapshot> {
        self.acted_on(block).await?;
        let row = self.journal.deployment_by_name(&self.name).await?.context("the deployment has no row")?;
        let (at, book) = self.journal.load_cache(row.id).await?.context("there is no cache")?;
        ensure!(at == *block, "the cache is of block {}, not {}", at.number, block.number);
        Ok(Snapshot { block: at, book })
    }

    /// Asks it to stop and waits; it must end in order.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let killed = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(killed.success(), "SIGTERM could not be sent");
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the daemon ended with {status}; its log is {}", self.log.display());
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the daemon does not stop on SIGTERM; its log is {}", self.log.display())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Its own child only; it may have ended already.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn config_text(settings: &Settings<'_>, port: u16) -> Result<String> {
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
            "signer": { "kind": "env", "variable": KEY_VARIABLE },
        },
    });
    lay_over(&mut deployment, &settings.overrides);
    let config = json!({
        "database": { "url": settings.database_url },
        "ops": { "listen": format!("127.0.0.1:{port}") },
        "log": { "format": "text", "filter": "info" },
        "deployments": { settings.name: deployment },
    });
    Ok(toml::to_string_pretty(&config)?)
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

/// A keeper of its own for each run.
pub(crate) fn keeper() -> (PrivateKeySigner, Address) {
    let key = PrivateKeySigner::from_bytes(&alloy::primitives::B256::repeat_byte(0x4b)).expect("a valid key");
    let address = key.address();
    (key, address)
}
