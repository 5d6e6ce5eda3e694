//! An anvil process for the demo and for tests: started on a free port, gone with its guard or its parent.
//!
//! Invariants: no state is kept on disk, and the folder for it goes with the guard; the process ends when the guard is
//! dropped and when this process dies, however it dies.
//! Must not: be used by the daemon.

use std::{
    env, io,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::JoinHandle,
    time::Duration,
};

use alloy::{
    primitives::{U64, U256},
    rpc::client::{ClientBuilder, RpcClient},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::process::{Scratch, die_with_parent};

/// Why there is no anvil.
#[derive(Debug, thiserror::Error)]
pub enum AnvilError {
    /// No binary.
    #[error(
        "anvil not found: run `tools/setup.sh anvil` (or `npm ci` in tools/), put anvil on PATH, or set \
         BACKSTOP_ANVIL to its path{}",
        hint.as_ref().map(|path| format!(" ({} does not exist)", path.display())).unwrap_or_default()
    )]
    NotFound {
        /// What `BACKSTOP_ANVIL` names, where that is the trouble.
        hint: Option<PathBuf>,
    },
    /// It did not start.
    #[error("cannot start {}: {source}", binary.display())]
    Start {
        /// What was run.
        binary: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It started and then did not answer, or ended.
    #[error("{} does not answer on port {port}: {reason}", binary.display())]
    NotReady {
        /// What was run.
        binary: PathBuf,
        /// Where it should listen.
        port: u16,
        /// What is known.
        reason: String,
    },
    /// A request to it failed.
    #[error("anvil: {method}: {message}")]
    Request {
        /// The request.
        method: String,
        /// What it answered.
        message: String,
    },
}

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mining {
    /// One block a transaction, at once.
    PerTransaction,
    /// One block every so many seconds.
    EverySeconds(u64),
    /// Only when [`Anvil::mine`] is called.
    OnDemand,
}

/// What kind of chain to start.
#[derive(Clone, Debug)]
pub struct AnvilOptions {
    /// The chain's id.
    pub chain_id: u64,
    /// Gas a block holds.
    pub block_gas_limit: u64,
    /// Funded accounts, derived from anvil's well-known mnemonic.
    pub accounts: u16,
    /// When blocks are made.
    pub mining: Mining,
    /// Unix seconds of the genesis block; `None` takes the wall clock.
    pub genesis_timestamp: Option<u64>,
    /// Where to listen on 127.0.0.1; `None` takes a free port.
    pub port: Option<u16>,
    /// States kept, in memory: how far back calls and reorganisations reach, in blocks.
    pub states_kept_blocks: u64,
    /// Whether contracts may be larger than EIP-170 allows.
    pub code_size_unlimited: bool,
    /// The rules of which hard fork, `cancun` for instance; `None` takes anvil's latest.
    pub hardfork: Option<String>,
}

impl Default for AnvilOptions {
    fn default() -> Self {
        Self {
            chain_id: 31337,
            block_gas_limit: 60_000_000,
            accounts: 10,
            mining: Mining::PerTransaction,
            genesis_timestamp: None,
            port: None,
            states_kept_blocks: 256,
            code_size_unlimited: false,
            hardfork: None,
        }
    }
}

/// A running anvil. Dropping it ends it.
#[derive(Debug)]
pub struct Anvil {
    port: u16,
    client: RpcClient,
    /// Dropping it lets the keeper of the process go on to end it.
    release: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
    /// Where anvil makes its folder for old states; gone after the process.
    _states: Scratch,
}

/// How long a started process may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// Attempts to start on a free port: another process can take the port in between.
const START_ATTEMPTS_MAX: u32 = 5;

impl Anvil {
    /// Starts anvil and waits until it answers.
    pub async fn start(options: &AnvilOptions) -> Result<Self, AnvilError> {
        let binary = find_binary()?;
        if let Some(port) = options.port {
            return Self::start_on(&binary, port, options).await;
        }
        let mut attempt = 1;
        loop {
            let port = free_port().map_err(|source| AnvilError::Start { binary: binary.clone(), source })?;
            match Self::start_on(&binary, port, options).await {
                Err(AnvilError::NotReady { .. }) if attempt < START_ATTEMPTS_MAX => attempt += 1,
                result => return result,
            }
        }
    }

    async fn start_on(binary: &Path, port: u16, options: &AnvilOptions) -> Result<Self, AnvilError> {
        let failed = |source| AnvilError::Start { binary: binary.to_owned(), source };
        let states = Scratch::create(&format!("backstop-anvil-{port}")).map_err(failed)?;
        let (release, keeper, mut ended) = keep(command(binary, port, options, states.path())).map_err(failed)?;
        let url = format!("http://127.0.0.1:{port}").parse().expect("invariant: a literal URL with a port");
        // A proxy for the world at large knows nothing of this machine's own ports.
        let http = reqwest::Client::builder().no_proxy().build().expect("invariant: a client without options");
        let client = ClientBuilder::default().http_with_client(http, url);
        let anvil = Self { port, client, release: Some(release), keeper: Some(keeper), _states: states };
        let not_ready = |reason: String| AnvilError::NotReady { binary: binary.to_owned(), port, reason };
        tokio::select! {
            answered = tokio::time::timeout(READY_WITHIN, anvil.ready()) => match answered {
                Ok(()) => Ok(anvil),
                Err(_) => Err(not_ready(format!("no answer within {} s", READY_WITHIN.as_secs()))),
            },
            _ = &mut ended => Err(not_ready("the process ended".to_owned())),
        }
    }

    /// Returns once it answers requests.
    pub async fn ready(&self) {
        while self.request::<U64>("eth_chainId", json!([])).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The port it listens on, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL for one request a round trip.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its URL for one connection.
    pub fn ws_url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    /// Makes so many blocks.
    pub async fn mine(&self, blocks: u64) -> Result<(), AnvilError> {
        self.command("anvil_mine", json!([U64::from(blocks)])).await
    }

    /// Switches to blocks every so many seconds, or with 0 to none by time.
    pub async fn set_interval_mining(&self, seconds: u64) -> Result<(), AnvilError> {
        self.command("evm_setIntervalMining", json!([seconds])).await
    }

    /// Switches blocks at each transaction on or off.
    pub async fn set_automine(&self, on: bool) -> Result<(), AnvilError> {
        self.command("evm_setAutomine", json!([on])).await
    }

    /// Sets the next block's time, Unix seconds.
    pub async fn set_next_timestamp(&self, timestamp: u64) -> Result<(), AnvilError> {
        self.command("evm_setNextBlockTimestamp", json!([timestamp])).await
    }

    /// Remembers the chain as it is; the id is for [`Self::revert`].
    pub async fn snapshot(&self) -> Result<U256, AnvilError> {
        self.request("evm_snapshot", json!([])).await
    }

    /// Makes the chain as it was when remembered.
    pub async fn revert(&self, snapshot: U256) -> Result<(), AnvilError> {
        match self.request::<bool>("evm_revert", json!([snapshot])).await? {
            true => Ok(()),
            false => {
                Err(AnvilError::Request { method: "evm_revert".to_owned(), message: "no such snapshot".to_owned() })
            }
        }
    }

    /// Replaces the latest `depth` blocks with as many empty ones.
    pub async fn reorg(&self, depth: u64) -> Result<(), AnvilError> {
        self.command("anvil_reorg", json!([depth, []])).await
    }

    /// Takes the latest `depth` blocks off the chain.
    pub async fn rollback(&self, depth: u64) -> Result<(), AnvilError> {
        self.command("anvil_rollback", json!([depth])).await
    }

    /// Sets an account's balance, in wei.
    pub async fn set_balance(&self, account: alloy::primitives::Address, wei: U256) -> Result<(), AnvilError> {
        self.command("anvil_setBalance", json!([account, wei])).await
    }

    /// A request whose answer does not matter.
    pub async fn command(&self, method: &str, params: Value) -> Result<(), AnvilError> {
        self.request::<Value>(method, params).await.map(drop)
    }

    /// Any request, within [`READY_WITHIN`].
    pub async fn request<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, AnvilError> {
        let failed = |message: String| AnvilError::Request { method: method.to_owned(), message };
        let call = self.client.request::<Value, Value>(method.to_owned(), params);
        let answer = match tokio::time::timeout(READY_WITHIN, call).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(alloy::transports::RpcError::NullResp)) => Value::Null,
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("no answer in time".to_owned())),
        };
        serde_json::from_value(answer).map_err(|error| failed(error.to_string()))
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        self.release = None;
        if let Some(keeper) = self.keeper.take() {
            // A keeper that panicked leaves the process to die with this one.
            let _ = keeper.join();
        }
    }
}

type Kept = (mpsc::Sender<()>, JoinHandle<()>, tokio::sync::oneshot::Receiver<()>);

/// Runs the command on a thread that lives exactly as long as the process shall: the kernel's signal at a parent's
/// death comes at the death of the thread that spawned. The last part resolves if the process ends by itself.
fn keep(mut command: Command) -> io::Result<Kept> {
    let (release, released) = mpsc::channel::<()>();
    let (started_tx, started_rx) = mpsc::channel();
    let (ended_tx, ended_rx) = tokio::sync::oneshot::channel();
    let keeper = std::thread::Builder::new().name("anvil".to_owned()).spawn(move || {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => return drop(started_tx.send(Err(error))),
        };
        // A receiver that is gone is one that dropped the guard: the loop below sees that.
        let _ = started_tx.send(Ok(()));
        while let Err(mpsc::RecvTimeoutError::Timeout) = released.recv_timeout(Duration::from_millis(100)) {
            if matches!(child.try_wait(), Ok(Some(_))) {
                // Nobody waits for the end once the start is over.
                let _ = ended_tx.send(());
                return;
            }
        }
        end(&mut child);
    })?;
    match started_rx.recv() {
        Ok(Ok(())) => Ok((release, keeper, ended_rx)),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the thread that starts anvil ended")),
    }
}

/// Kills and reaps.
fn end(child: &mut Child) {
    // Both fail only where the process is gone already.
    let _ = child.kill();
    let _ = child.wait();
}

fn command(binary: &Path, port: u16, options: &AnvilOptions, states: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .args(["--host", "127.0.0.1", "--silent", "--slots-in-an-epoch", "1"])
        .args(["--port", &port.to_string()])
        .args(["--chain-id", &options.chain_id.to_string()])
        .args(["--gas-limit", &options.block_gas_limit.to_string()])
        .args(["--accounts", &options.accounts.to_string()])
        // Without it states go to disk, and stay there after the process is gone.
        .args(["--prune-history", &options.states_kept_blocks.to_string()])
        .arg("--cache-path")
        .arg(states)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(timestamp) = options.genesis_timestamp {
        command.args(["--timestamp", &timestamp.to_string()]);
    }
    if options.code_size_unlimited {
        command.arg("--disable-code-size-limit");
    }
    if let Some(hardfork) = &options.hardfork {
        command.args(["--hardfork", hardfork]);
    }
    match options.mining {
        Mining::PerTransaction => {}
        Mining::EverySeconds(seconds) => drop(command.args(["--block-time", &seconds.to_string()])),
        Mining::OnDemand => drop(command.arg("--no-mining")),
    }
    die_with_parent(&mut command);
    command
}

/// A port nobody listens on at this moment.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The native binary: `BACKSTOP_ANVIL`, the npm package under `tools/`, PATH.
fn find_binary() -> Result<PathBuf, AnvilError> {
    if let Some(named) = env::var_os("BACKSTOP_ANVIL").map(PathBuf::from) {
        return if named.is_file() { Ok(named) } else { Err(AnvilError::NotFound { hint: Some(named) }) };
    }
    let roots = [Some(PathBuf::from(env!("CARGO_MANIFEST_DIR"))), env::current_dir().ok()];
    let packaged = roots.into_iter().flatten().find_map(|root| packaged_binary(&root));
    packaged.or_else(binary_on_path).ok_or(AnvilError::NotFound { hint: None })
}

/// The file of the platform package: the command that npm links is a wrapper that outlives a kill of itself.
fn packaged_binary(root: &Path) -> Option<PathBuf> {
    let packages = root.join("tools/node_modules/@foundry-rs").read_dir().ok()?;
    packages
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("anvil-"))
        .map(|entry| entry.path().join("bin/anvil"))
        .find(|path| path.is_file())
}

fn binary_on_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join("anvil")).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_answers_and_ends_with_its_guard() {
        let options = AnvilOptions { chain_id: 4242, mining: Mining::OnDemand, ..AnvilOptions::default() };
        let anvil = Anvil::start(&options).await.unwrap();
        assert_eq!(anvil.request::<U64>("eth_chainId", json!([])).await.unwrap(), U64::from(4242));
        anvil.mine(3).await.unwrap();
        let remembered = anvil.snapshot().await.unwrap();
        anvil.mine(2).await.unwrap();
        anvil.revert(remembered).await.unwrap();
        assert_eq!(anvil.request::<U64>("eth_blockNumber", json!([])).await.unwrap(), U64::from(3));
        let port = anvil.port();
        drop(anvil);
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is free again");
    }

    #[tokio::test]
    async fn a_taken_port_is_told_from_a_slow_start() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = Anvil::start_on(&find_binary().unwrap(), port, &AnvilOptions::default()).await.unwrap_err();
        assert!(matches!(error, AnvilError::NotReady { .. }), "{error}");
    }
}
