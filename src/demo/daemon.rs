//! The daemon under the demo and under tests: an executable of this build, started as an operator would start it, as its
//! own process.
//!
//! Invariants: it learns about its watchers only through its configuration file and its environment; its output goes to
//! one log file; it ends with its guard or with this process.
//! Must not: share memory or code paths with the daemon beyond starting and ending it.

use std::{
    fs::{File, OpenOptions},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::{Child, Command};

use super::process;

const STOP_WITHIN: Duration = Duration::from_secs(20);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How a daemon is started, also after it was killed.
#[derive(Debug)]
pub struct Launch {
    /// The `backstop` executable.
    pub executable: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// Where its output goes; emptied at the start.
    pub log: PathBuf,
    /// The port, on 127.0.0.1, that the configuration gives to metrics and health.
    pub ops_port: u16,
    /// Variables it gets besides this process's own.
    pub environment: Vec<(String, String)>,
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    launch: Launch,
    client: reqwest::Client,
}

impl Daemon {
    /// Starts it. Its configuration must be written.
    pub fn start(launch: Launch) -> Result<Self> {
        File::create(&launch.log).with_context(|| format!("create {}", launch.log.display()))?;
        // A proxy for the world at large knows nothing of this machine's own ports.
        let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_WITHIN).build().context("an HTTP client")?;
        Ok(Self { child: launch.spawn()?, launch, client })
    }

    /// The configuration file.
    pub fn config(&self) -> &Path {
        &self.launch.config
    }

    /// Base URL of its metrics and health.
    pub fn ops_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.launch.ops_port)
    }

    /// Fails if the daemon has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait().context("look after the daemon")? {
            None => Ok(()),
            Some(status) => bail!("the daemon ended ({status}); its log is {}", self.launch.log.display()),
        }
    }

    /// Whether it says that it is ready, and what it says of each deployment; `None` while it does not answer.
    pub async fn readiness(&self) -> Option<(bool, Value)> {
        let answer = self.client.get(format!("{}/readyz", self.ops_url())).send().await.ok()?;
        let ready = answer.status().is_success();
        let body = answer.bytes().await.ok()?;
        Some((ready, serde_json::from_slice(&body).ok()?))
    }

    /// Whether it says that it is ready.
    pub async fn is_ready(&self) -> bool {
        self.readiness().await.is_some_and(|(ready, _)| ready)
    }

    /// Kills it as a power failure would: SIGKILL, no farewell.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("kill the daemon")
    }

    /// Starts it again after it was killed.
    pub fn restart(&mut self) -> Result<()> {
        self.child = self.launch.spawn()?;
        Ok(())
    }

    /// Stops it where it stands, as a paused machine would.
    pub fn hold(&self) -> Result<()> {
        process::hold(&self.child).context("hold the daemon")
    }

    /// Lets it go on.
    pub fn go_on(&self) -> Result<()> {
        process::go_on(&self.child).context("let the daemon go on")
    }

    /// Lets it read its configuration again.
    pub fn reload(&self) -> Result<()> {
        process::hang_up(&self.child).context("ask the daemon to read its configuration")
    }

    /// Asks it to stop and waits.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
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
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            // The journal is its own: a DATABASE_URL of the operator must not shine through.
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .kill_on_drop(true);
        process::die_with_parent(command.as_std_mut());
        command.spawn().with_context(|| format!("start {}", self.executable.display()))
    }
}

/// A port nobody listens on at this moment.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port")?.local_addr()?.port())
}
