//! The daemon under the demo: this very executable, started as an operator would start it, as its own process.
//!
//! Invariants: it learns about the demo only through its configuration file and its environment; its output goes to one
//! log file; it ends with its guard or with this process.
//! Must not: share memory or code paths with the daemon beyond starting and ending it.

use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use alloy::{primitives::keccak256, signers::local::PrivateKeySigner};
use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::process::{Child, Command};

use super::{census::AT_RISK_HEALTH_FACTOR_BPS, process, venue::Venue};
use crate::types::{Address, B256};

/// The deployment's name in configuration and journal.
pub(super) const DEPLOYMENT: &str = "demo";
/// The adapter the demo's venue needs.
pub(super) const ADAPTER: &str = "reference_venue";
/// The variable through which the daemon gets its key.
const KEY_VARIABLE: &str = "BACKSTOP_DEMO_KEEPER_KEY";
/// Depth at which the daemon takes a transaction for final.
pub(super) const FINALITY_DEPTH_BLOCKS: u64 = 3;
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// The keeper's key: derived from the seed, so that a demo repeats; worth nothing on any other chain.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    key: B256,
    /// Its address.
    pub(super) address: Address,
}

impl Keeper {
    /// The keeper of this seed.
    pub(super) fn new(seed: u64) -> Result<Self> {
        let key = keccak256(format!("demo {seed} keeper key"));
        let address = PrivateKeySigner::from_bytes(&key).context("derive the keeper's key")?.address();
        Ok(Self { key, address })
    }
}

/// What the daemon is told.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    /// Where its configuration is written.
    pub(super) directory: &'a Path,
    /// Where its output goes.
    pub(super) log: &'a Path,
    /// Its database.
    pub(super) database_url: &'a str,
    /// Its node.
    pub(super) rpc_url: &'a str,
    /// The chain's id.
    pub(super) chain_id: u64,
    /// What it guards.
    pub(super) venue: &'a Venue,
    /// Whose key it signs with.
    pub(super) keeper: &'a Keeper,
}

/// A running daemon.
#[derive(Debug)]
pub(super) struct Daemon {
    child: Child,
    command: Launch,
    /// Base URL of its metrics and health.
    pub(super) ops_url: String,
}

/// How it is started, also after it was killed.
#[derive(Debug)]
struct Launch {
    executable: PathBuf,
    config: PathBuf,
    log: PathBuf,
    key: B256,
}

impl Daemon {
    /// Writes the configuration and starts the daemon.
    pub(super) fn start(settings: &Settings<'_>) -> Result<Self> {
        let port = free_port().context("find a free port for the daemon")?;
        let config = settings.directory.join("backstop.toml");
        std::fs::write(&config, config_text(settings, port)?).with_context(|| format!("write {}", config.display()))?;
        File::create(settings.log).with_context(|| format!("create {}", settings.log.display()))?;
        let command =
            Launch { executable: executable()?, config, log: settings.log.to_owned(), key: settings.keeper.key };
        Ok(Self { child: command.spawn()?, command, ops_url: format!("http://127.0.0.1:{port}") })
    }

    /// The configuration file.
    pub(super) fn config(&self) -> &Path {
        &self.command.config
    }

    /// Fails if the daemon has ended.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait().context("look after the daemon")? {
            None => Ok(()),
            Some(status) => bail!("the daemon ended ({status}); its log is {}", self.command.log.display()),
        }
    }

    /// Whether it says that it is ready.
    pub(super) async fn is_ready(&self) -> bool {
        let request = reqwest::Client::new().get(format!("{}/readyz", self.ops_url)).timeout(Duration::from_secs(2));
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Kills it as a power failure would: SIGKILL, no farewell.
    pub(super) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("kill the daemon")
    }

    /// Starts it again after it was killed.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.child = self.command.spawn()?;
        Ok(())
    }

    /// Asks it to stop and waits.
    pub(super) async fn stop(&mut self) -> Result<ExitStatus> {
        process::terminate(&self.child).context("ask the daemon to stop")?;
        match tokio::time::timeout(STOP_WITHIN, self.child.wait()).await {
            Ok(status) => status.context("wait for the daemon"),
            Err(_) => bail!("the daemon did not stop within {} s of SIGTERM", STOP_WITHIN.as_secs()),
        }
    }
}

impl Launch {
    fn spawn(&self) -> Result<Child> {
        let log = OpenOptions::new().append(true).open(&self.log).context("open the daemon's log")?;
        let errors = log.try_clone().context("open the daemon's log")?;
        let mut command = Command::new(&self.executable);
        command
            .args(["run", "--config"])
            .arg(&self.config)
            .env(KEY_VARIABLE, self.key.to_string())
            // The journal of the demo is its own: a DATABASE_URL of the operator must not shine through.
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true);
        process::die_with_parent(command.as_std_mut());
        command.spawn().with_context(|| format!("start {}", self.executable.display()))
    }
}

/// This executable, or the daemon beside it where this is a test.
fn executable() -> Result<PathBuf> {
    let current = std::env::current_exe().context("find this executable")?;
    Ok(std::env::var_os("BACKSTOP_DEMO_DAEMON").map_or(current, PathBuf::from))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The configuration an operator would write for this deployment.
fn config_text(settings: &Settings<'_>, ops_port: u16) -> Result<String> {
    let config = json!({
        "database": { "url": settings.database_url },
        "ops": { "listen": format!("127.0.0.1:{ops_port}") },
        "log": { "format": "text", "filter": "info" },
        "deployments": { DEPLOYMENT: {
            "chain_id": settings.chain_id,
            "rpc": { "url": settings.rpc_url, "timeout_ms": 10_000, "poll_interval_ms": 1_000 },
            "protocol": {
                "adapter": ADAPTER,
                "clearinghouse": settings.venue.clearinghouse,
                "steward": settings.venue.steward,
            },
            "indexer": { "audit_every_blocks": 10, "audit_units": 50 },
            "scanner": { "at_risk_health_factor_bps": AT_RISK_HEALTH_FACTOR_BPS },
            "executor": {
                "dry_run": false,
                "finality_depth_blocks": FINALITY_DEPTH_BLOCKS,
                "actions_per_block_max": 64,
                "block_gas_max": 55_000_000,
                // A socialised loss charges every solvent account of the segment in one transaction.
                "tx_gas_max": 40_000_000,
                "signer": { "kind": "env", "variable": KEY_VARIABLE },
            },
        } },
    });
    toml::to_string_pretty(&config).context("write the daemon's configuration")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_configuration_is_toml_that_acts_and_keeps_the_key_out() {
        let keeper = Keeper::new(1).unwrap();
        let venue = Venue {
            admin: Address::ZERO,
            token: Address::ZERO,
            clearinghouse: Address::repeat_byte(1),
            steward: Address::repeat_byte(2),
            feeds: BTreeMap::new(),
        };
        let settings = Settings {
            directory: Path::new("/nowhere"),
            log: Path::new("/nowhere/log"),
            database_url: "postgres://backstop@%2Ftmp%2Fa%20\"b:5432/demo",
            rpc_url: "ws://127.0.0.1:1",
            chain_id: 31337,
            venue: &venue,
            keeper: &keeper,
        };
        let text = config_text(&settings, 9).unwrap();
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["database"]["url"].as_str(), Some(settings.database_url));
        assert_eq!(parsed["deployments"][DEPLOYMENT]["executor"]["dry_run"].as_bool(), Some(false));
        assert!(!text.contains(&keeper.key.to_string()));
        assert_ne!(Keeper::new(2).unwrap().address, keeper.address);
    }
}
