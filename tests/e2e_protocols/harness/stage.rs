//! Everything that is started for a test: chain, database, contracts, daemon. All of it ends with its guard.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use alloy::{
    consensus::Transaction as _,
    network::TransactionResponse as _,
    primitives::keccak256,
    rpc::types::{Block, TransactionReceipt},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result, ensure};
use backstop::{
    demo::{
        anvil::Anvil,
        daemon::{Daemon, Launch, free_port},
        node::{Node, placed},
        postgres::{Durability, ThrowAwayPostgres},
    },
    journal::{DeploymentId, Journal},
    positions::Book,
    types::{Address, B256, BlockRef, DeploymentName},
};
use serde_json::{Value, json};
use tokio::process::Command;

use super::{KeeperTransaction, Playground, Story};

/// The variable through which the daemon gets its key.
const KEY_VARIABLE: &str = "BACKSTOP_E2E_KEEPER_KEY";
const DEPLOY_WITHIN: Duration = Duration::from_secs(300);
/// How long the daemon may take to have a block of a chain that stands still in its database.
const CATCH_UP_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// The world of one test, without the daemon.
pub(crate) struct Stage {
    /// A line to the chain.
    pub(crate) node: Node,
    /// The chain.
    pub(crate) anvil: Anvil,
    /// Who sends for the daemon.
    pub(crate) keeper: Address,
    /// The daemon's journal.
    pub(crate) journal: Journal,
    /// How many accounts shall play.
    pub(crate) accounts: usize,
    name: DeploymentName,
    key: B256,
    postgres: ThrowAwayPostgres,
    folder: PathBuf,
}

impl Stage {
    /// Starts chain and database and runs the deploy script; also answers what that printed.
    pub(crate) async fn raise<P: Playground>(story: &Story) -> Result<(Self, Value)> {
        let folder = report_folder().join(P::NAME);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let postgres = ThrowAwayPostgres::start(Durability::Fast).await.context("start Postgres")?;
        let journal = Journal::connect(postgres.url(), 4).await.context("connect to the journal")?;
        journal.migrate().await.context("migrate the journal")?;
        let anvil = Anvil::start(&P::chain()).await?;
        let node = Node::connect(&anvil.http_url())?;
        let key = keccak256(format!("e2e {} {} keeper", P::NAME, story.seed));
        let keeper = PrivateKeySigner::from_bytes(&key).context("derive the keeper's key")?.address();
        node.grant(&[keeper]).await?;
        let name = P::NAME.parse().context("a name for the deployment")?;
        let accounts = story.accounts;
        let stage = Self { node, anvil, keeper, journal, accounts, name, key, postgres, folder };
        let deployed = stage.deploy(story).await?;
        stage.anvil.set_automine(false).await?;
        Ok((stage, deployed))
    }

    /// Runs the protocol's deploy script.
    async fn deploy(&self, story: &Story) -> Result<Value> {
        let script = tools().join(format!("{}.mjs", self.name));
        let log = self.folder.join("deploy.log");
        let errors = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let run = Command::new("node")
            .arg(&script)
            .args(["--rpc", &self.anvil.http_url(), "--keeper", &self.keeper.to_string()])
            .args(["--accounts", &story.accounts.to_string(), "--seed", &story.seed.to_string()])
            .stdin(Stdio::null())
            .stderr(errors)
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(DEPLOY_WITHIN, run).await.context("the deploy script takes too long")?;
        let output = output.with_context(|| format!("run node {}", script.display()))?;
        let said = || fs::read_to_string(&log).unwrap_or_default();
        ensure!(output.status.success(), "{} failed:\n{}", script.display(), said());
        serde_json::from_slice(&output.stdout).with_context(|| {
            format!("{} prints no JSON but {}", script.display(), String::from_utf8_lossy(&output.stdout))
        })
    }

    /// Writes the daemon's configuration and starts it.
    pub(crate) fn start_daemon<P: Playground>(&self, playground: &P) -> Result<Daemon> {
        let ops_port = free_port()?;
        let config = self.folder.join("backstop.toml");
        let text = toml::to_string_pretty(&self.config(playground, ops_port)).context("write the configuration")?;
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        Daemon::start(Launch {
            executable: env!("CARGO_BIN_EXE_backstop").into(),
            config,
            log: self.folder.join("daemon.log"),
            ops_port,
            environment: vec![(KEY_VARIABLE.to_owned(), self.key.to_string())],
        })
    }

    fn config<P: Playground>(&self, playground: &P, ops_port: u16) -> Value {
        let mut protocol = playground.protocol();
        protocol["adapter"] = P::NAME.into();
        let mut deployment = json!({
            "chain_id": P::chain().chain_id,
            "rpc": { "url": self.anvil.ws_url(), "timeout_ms": 10_000, "poll_interval_ms": 200 },
            "protocol": protocol,
            "indexer": { "audit_every_blocks": 25, "audit_units": 50 },
            "policy": { "mode": "mandate", "budget_per_day_max_wei": "1000_000000000000000000" },
            "executor": {
                "dry_run": false,
                "finality_depth_blocks": 3,
                "actions_per_block_max": 64,
                "block_gas_max": P::chain().block_gas_limit / 2,
                "spend_per_hour_max_wei": "50_000000000000000000",
                "balance_min_wei": "1",
                "signer": { "kind": "env", "variable": KEY_VARIABLE },
            },
        });
        lay_over(&mut deployment, playground.deployment());
        json!({
            "database": { "url": self.postgres.url() },
            "ops": { "listen": format!("127.0.0.1:{ops_port}") },
            "log": { "format": "text", "filter": "info" },
            "deployments": { P::NAME: deployment },
        })
    }

    /// Waits until the daemon's pass over this block is over, for this long at most; how long it took, or `None`.
    pub(crate) async fn passed(&self, daemon: &mut Daemon, block: u64, within: Duration) -> Result<Option<Duration>> {
        let started = Instant::now();
        while started.elapsed() < within {
            daemon.check_alive()?;
            let said = daemon.readiness().await;
            let scanned = said.and_then(|(_, body)| body["deployments"][self.name.as_str()]["scanned_block"].as_u64());
            if scanned >= Some(block) {
                return Ok(Some(started.elapsed()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(None)
    }

    /// The deployment's row in the journal.
    pub(crate) async fn deployment(&self) -> Result<DeploymentId> {
        let row = self.journal.deployment_by_name(&self.name).await?;
        Ok(row.context("the daemon has not registered its deployment")?.id)
    }

    /// The daemon's cache as it is in its database at this block.
    pub(crate) async fn cache_at(&self, block: &BlockRef) -> Result<Book> {
        let deployment = self.deployment().await?;
        let started = Instant::now();
        while started.elapsed() < CATCH_UP_WITHIN {
            if let Some((at, book)) = self.journal.load_cache(deployment).await?
                && at.hash == block.hash
            {
                return Ok(book);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        anyhow::bail!("the daemon's cache did not come to block {} in {} s", block.number, CATCH_UP_WITHIN.as_secs())
    }

    /// The keeper's transactions in one block, in order.
    pub(crate) async fn keeper_transactions(&self, number: u64) -> Result<Vec<KeeperTransaction>> {
        let params = json!([format!("{number:#x}"), true]);
        let block: Option<Block> = self.node.request("eth_getBlockByNumber", params).await?;
        let all = block.context("a block is missing")?.transactions.into_transactions();
        let ours: Vec<_> = all.filter(|tx| tx.from() == self.keeper).collect();
        let params: Vec<Value> = ours.iter().map(|tx| json!([tx.tx_hash()])).collect();
        let receipts: Vec<TransactionReceipt> = self.node.batch("eth_getTransactionReceipt", &params).await?;
        ours.into_iter()
            .zip(receipts)
            .map(|(tx, receipt)| {
                let (hash, to, input) = (tx.tx_hash(), tx.to(), tx.input().clone());
                let success = receipt.status();
                let logs = receipt.logs().iter().cloned().map(placed).collect::<Result<_>>()?;
                Ok(KeeperTransaction { hash, to, input, block: number, success, logs })
            })
            .collect()
    }
}

/// Lays one table over another: what the upper one has wins, table by table.
fn lay_over(lower: &mut Value, upper: Value) {
    match (lower, upper) {
        (Value::Object(lower), Value::Object(upper)) => {
            for (key, value) in upper {
                lay_over(lower.entry(key).or_insert(Value::Null), value);
            }
        }
        (lower, upper) => *lower = upper,
    }
}

/// Where reports go.
pub(super) fn report_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/e2e")
}

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/protocols")
}

/// Why this protocol's contracts are not at hand, if they are not.
pub(super) async fn missing_contracts(name: &str) -> Option<String> {
    let script = tools().join("fetch.mjs");
    let run = Command::new("node").arg(script).args(["--check", name]).stdin(Stdio::null()).output().await;
    match run {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("cannot run node: {error}; mend: tools/setup.sh protocols {name}")),
    }
}

#[test]
fn tables_are_laid_over_each_other_key_by_key() {
    let mut lower = json!({ "a": { "b": 1, "c": 2 }, "d": 3 });
    lay_over(&mut lower, json!({ "a": { "c": 4 }, "e": [5] }));
    assert_eq!(lower, json!({ "a": { "b": 1, "c": 4 }, "d": 3, "e": [5] }));
}
