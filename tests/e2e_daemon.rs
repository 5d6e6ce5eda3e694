//! The daemon as a process: what it says about a wrong configuration, and how it starts, serves and stops.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use alloy::{
    primitives::{Address, B256, Bytes},
    sol_types::SolValue,
};
use backstop::demo::{
    anvil::{Anvil, AnvilOptions, Mining},
    postgres::TestDatabase,
};
use backstop::journal::Journal;
use serde_json::{Value, json};

/// The first of anvil's well-known development keys, and its address: deployer and, where it was granted, keeper.
const KEY: &str = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80";
const CHAIN: u64 = 31_337;
/// What the operators' endpoint asks for where a test configures it.
const OPS_TOKEN: &str = "a token that is long enough";

/// A venue without markets on a chain of its own, a database, and a folder for configuration files.
struct World {
    anvil: Anvil,
    database: TestDatabase,
    folder: tempfile::TempDir,
    deployer: Address,
    venue: Address,
}

impl World {
    async fn new() -> Self {
        let options = AnvilOptions { chain_id: CHAIN, mining: Mining::EverySeconds(1), ..AnvilOptions::default() };
        let anvil = Anvil::start(&options).await.expect("anvil starts");
        let accounts: Vec<Address> = anvil.request("eth_accounts", json!([])).await.expect("accounts");
        let deployer = accounts[0];
        let token = deploy(&anvil, deployer, "SettlementToken", &[]).await;
        let venue = deploy(&anvil, deployer, "Clearinghouse", &(token, deployer).abi_encode_params()).await;
        let (database, folder) = (TestDatabase::new().await, tempfile::tempdir().expect("a folder"));
        Self { anvil, database, folder, deployer, venue }
    }

    /// A configuration that is right but for the roles, which nobody granted to the keeper.
    fn config(&self) -> String {
        format!(
            "[database]\nurl = \"{}\"\n\n[ops]\nlisten = \"127.0.0.1:{}\"\n\n[deployments.venue]\nchain_id = {CHAIN}\n\n\
             [deployments.venue.rpc]\nurl = \"{}\"\npoll_interval_ms = 200\n\n\
             [deployments.venue.protocol]\nadapter = \"reference_venue\"\nclearinghouse = \"{}\"\n\n\
             [deployments.venue.recovery]\ntiers = [{{ tier = \"liquidate\" }}, {{ tier = \"insurance_fund\" }}]\n\n\
             [deployments.venue.executor.signer]\nkind = \"env\"\nvariable = \"KEEPER_KEY\"\n",
            self.database.url(),
            free_port(),
            self.anvil.http_url(),
            self.venue
        )
    }

    /// The same without a tier that needs a role.
    fn right_config(&self) -> String {
        self.config().replace(", { tier = \"insurance_fund\" }", "")
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).expect("a config file");
        path
    }

    fn backstop(&self, command: &str, config: &str) -> Command {
        let mut backstop = Command::new(env!("CARGO_BIN_EXE_backstop"));
        backstop.arg(command).arg("--config").arg(self.write(&format!("{command}.toml"), config));
        backstop.env_remove("DATABASE_URL").env("KEEPER_KEY", KEY).env("OPS_TOKEN", OPS_TOKEN);
        backstop
    }

    /// Runs `check` and then `run`: both fail, `check` with exactly one line, `run` with that line among its own.
    fn refuses(&self, config: &str, words: &[&str]) {
        let checked = self.backstop("check", config).output().expect("check runs");
        let line = only_fault(&checked);
        for word in words {
            assert!(line.contains(word), "{word:?} is not in: {line}");
        }
        let ran = self.backstop("run", config).output().expect("run runs");
        assert!(!ran.status.success());
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(said.lines().any(|said| said == line), "run does not say {line:?} but:\n{said}");
    }
}

async fn deploy(anvil: &Anvil, from: Address, contract: &str, arguments: &[u8]) -> Address {
    let artifact = fs::read_to_string(format!("{}/contracts/artifacts/{contract}.json", env!("CARGO_MANIFEST_DIR")));
    let artifact: Value = serde_json::from_str(&artifact.expect("an artifact")).expect("JSON");
    let mut code: Vec<u8> = artifact["bytecode"].as_str().expect("bytecode").parse::<Bytes>().expect("hex").to_vec();
    code.extend_from_slice(arguments);
    let transaction = json!([{ "from": from, "data": Bytes::from(code), "gas": "0x1c9c380" }]);
    let hash: B256 = anvil.request("eth_sendTransaction", transaction).await.expect("sent");
    for _ in 0..100 {
        let receipt: Value = anvil.request("eth_getTransactionReceipt", json!([hash])).await.expect("an answer");
        if let Some(address) = receipt["contractAddress"].as_str() {
            assert_eq!(receipt["status"], "0x1");
            return address.parse().expect("an address");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{contract} is not mined");
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// The one line a failing command says on stderr.
fn only_fault(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let [line] = lines.as_slice() else { panic!("not one line:\n{said}") };
    assert!(line.starts_with("error: "), "{line}");
    (*line).to_owned()
}

#[tokio::test]
async fn an_unknown_key_is_refused() {
    let world = World::new().await;
    let config = world.right_config().replace("poll_interval_ms", "poll_intervall_ms");
    world.refuses(&config, &["deployments.venue.rpc.poll_intervall_ms", "poll_interval_ms"]);
}

#[tokio::test]
async fn a_bad_address_is_refused() {
    let world = World::new().await;
    let config = world.right_config().replace(&world.venue.to_string(), "0x1234");
    world.refuses(&config, &["deployments.venue.protocol", "clearinghouse"]);
    let config = world.right_config().replace(&world.venue.to_string(), &Address::repeat_byte(7).to_string());
    world.refuses(&config, &["deployments.venue.protocol.clearinghouse", "no code"]);
}

#[tokio::test]
async fn an_unreachable_endpoint_is_refused() {
    let world = World::new().await;
    let config = world.right_config().replace(&world.anvil.http_url(), &format!("http://127.0.0.1:{}", free_port()));
    world.refuses(&config, &["deployments.venue.rpc.url", "reachable"]);
}

#[tokio::test]
async fn a_wrong_chain_id_is_refused() {
    let world = World::new().await;
    let config = world.right_config().replace(&format!("chain_id = {CHAIN}"), "chain_id = 1");
    world.refuses(&config, &["deployments.venue.chain_id", "configured 1", "31337"]);
}

#[tokio::test]
async fn a_missing_role_is_refused() {
    let world = World::new().await;
    world.refuses(
        &world.config(),
        &["deployments.venue.executor.signer", "KEEPER_ROLE", "insurance_fund", &world.deployer.to_string()],
    );
}

#[tokio::test]
async fn a_missing_database_is_refused() {
    let world = World::new().await;
    let nowhere = format!("postgres://backstop@127.0.0.1:{}/backstop", free_port());
    let config = world.right_config().replace(world.database.url(), &nowhere);
    world.refuses(&config, &["database.url", "check that Postgres runs"]);
}

#[tokio::test]
async fn a_right_configuration_passes_the_check() {
    let world = World::new().await;
    let checked = world.backstop("check", &world.right_config()).output().expect("check runs");
    assert!(checked.status.success(), "{checked:?}");
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(said.contains("ok: database") && said.contains("dry run"), "{said}");
    assert!(!said.contains(KEY) && !said.contains(&KEY[2..]));
}

/// A running daemon that is killed when it goes out of scope.
struct Daemon {
    child: Child,
    address: String,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start(world: &World, config: &str) -> Self {
        let listen = config.lines().find(|line| line.starts_with("listen")).expect("ops.listen");
        let address = listen.split('"').nth(1).expect("an address").to_owned();
        let mut command = world.backstop("run", config);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the daemon starts");
        Self { child, address }
    }

    /// Status and body of a GET; `None` while nobody listens.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// Status and body of a POST without a body, with this token.
    fn post(&self, path: &str, token: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        let head =
            format!("Host: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\nConnection: close");
        write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    fn signal(&self, signal: &str) {
        let told = Command::new("kill").args([signal, &self.child.id().to_string()]).status().expect("kill runs");
        assert!(told.success());
    }

    async fn wait_for(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what} does not come; /readyz says {:?}", self.get("/readyz"));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[tokio::test]
async fn the_daemon_becomes_ready_answers_and_stops_on_sigterm() {
    let world = World::new().await;
    let mut daemon = Daemon::start(&world, &world.right_config());
    daemon.wait_for("readiness", |d| d.get("/readyz").is_some_and(|(status, _)| status == 200)).await;
    let (status, alive) = daemon.get("/healthz").expect("an answer");
    assert!(status == 200 && alive.contains("venue/index") && alive.contains("venue/act"), "{alive}");
    let (_, metrics) = daemon.get("/metrics").expect("metrics");
    assert!(metrics.contains("backstop_scanner_units{deployment=\"venue\"}"), "{metrics}");
    daemon.signal("-TERM");
    let deadline = Instant::now() + Duration::from_secs(30);
    let ended = loop {
        if let Some(status) = daemon.child.try_wait().expect("a child") {
            break status;
        }
        assert!(Instant::now() < deadline, "the daemon does not stop");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(ended.success(), "{ended}");
}

#[tokio::test]
async fn limits_and_order_change_while_it_runs_by_signal_and_over_http() {
    let world = World::new().await;
    let config = world.right_config().replace("[ops]\n", "[ops]\ntoken_env = \"OPS_TOKEN\"\n");
    let daemon = Daemon::start(&world, &config);
    daemon.wait_for("readiness", |d| d.get("/readyz").is_some_and(|(status, _)| status == 200)).await;
    let limited =
        |limit: &str| config.replace("{ tier = \"liquidate\" }", &format!("{{ tier = \"liquidate\", {limit} }}"));

    world.write("run.toml", &limited("absorb_max = \"70\""));
    assert_eq!(daemon.post("/v1/reload", "wrong").expect("an answer").0, 401);
    let (status, body) = daemon.post("/v1/reload", OPS_TOKEN).expect("an answer");
    let answer: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200, "{body}");
    assert_eq!(answer["changed"][0]["after"]["tiers"][0]["absorb_max"], "70", "{body}");

    world.write("run.toml", &limited("units_max = 0"));
    let (status, body) = daemon.post("/v1/reload", OPS_TOKEN).expect("an answer");
    assert!(status == 422 && body.contains("tiers[0].units_max"), "{body}");
    // a tier whose role the keeper lacks
    world.write("run.toml", &world.config());
    let (status, body) = daemon.post("/v1/reload", OPS_TOKEN).expect("an answer");
    assert!(status == 422 && body.contains("KEEPER_ROLE"), "{body}");

    world.write("run.toml", &limited("units_max = 3"));
    daemon.signal("-HUP");
    let journal = Journal::connect(world.database.url(), 1).await.expect("the journal");
    let id = journal.deployment_by_name(&"venue".parse().expect("a name")).await.expect("read").expect("a row").id;
    let deadline = Instant::now() + Duration::from_secs(30);
    let changes = loop {
        let changes = journal.recovery_settings_changes(id, 9).await.expect("read");
        if changes.len() == 3 {
            break changes;
        }
        assert!(Instant::now() < deadline, "the signal changes nothing: {changes:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let by: Vec<&str> = changes.iter().map(|change| change.came_by.as_str()).collect();
    assert_eq!(by, ["sighup", "api", "start"]);
    assert_eq!(changes[0].before.as_ref(), Some(&changes[1].after));
    assert_eq!(changes[0].after["tiers"][0], json!({ "tier": "liquidate", "units_max": 3 }));
    assert_eq!(daemon.get("/readyz").map(|(status, _)| status), Some(200), "it never stopped");
}

#[tokio::test]
async fn a_halted_deployment_leaves_its_neighbour_alone() {
    let world = World::new().await;
    let second = world.right_config();
    let second = second.split("[deployments.venue]").nth(1).expect("a deployment");
    let second = format!("[deployments.venue]{second}").replace("deployments.venue", "deployments.broken");
    let second = second.replace(&format!("chain_id = {CHAIN}"), "chain_id = 1");
    let daemon = Daemon::start(&world, &format!("{}\n{second}", world.right_config()));
    let scanned = "backstop_scanner_scan_duration_seconds_count{deployment=\"venue\"} ";
    daemon
        .wait_for("the neighbour's scan", |d| {
            let metrics = d.get("/metrics").map(|(_, body)| body).unwrap_or_default();
            metrics.lines().any(|line| line.strip_prefix(scanned).is_some_and(|count| count != "0"))
        })
        .await;
    let (status, body) = daemon.get("/readyz").expect("an answer");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("broken") && body.contains("chain_id"), "{body}");
}

/// What a replica says that it is; ready, as a holder and as a standby.
fn is_ready_as(daemon: &Daemon, role: &str) -> bool {
    let word = format!("\"role\":\"{role}\"");
    daemon.get("/readyz").is_some_and(|(status, body)| status == 200 && body.contains(&word))
}

#[tokio::test]
async fn of_two_replicas_one_acts_and_the_other_takes_over_from_one_that_is_stopped() {
    let world = World::new().await;
    let config = |world: &World| world.right_config().replace("[ops]", "lease_seconds = 2\n\n[ops]");
    let first = Daemon::start(&world, &config(&world));
    first.wait_for("the first to act", |d| is_ready_as(d, "holder")).await;
    // a config of its own, so that only the deployment's name is shared
    let second = Daemon::start(&world, &config(&world));
    second.wait_for("the second to stand by", |d| is_ready_as(d, "standby")).await;
    assert!(is_ready_as(&first, "holder"));

    first.signal("-STOP");
    second.wait_for("the second to take over", |d| is_ready_as(d, "holder")).await;
    first.signal("-CONT");
    first.wait_for("the first to see that it lost its lease", |d| is_ready_as(d, "standby")).await;
    assert!(is_ready_as(&second, "holder"));

    second.signal("-TERM");
    first.wait_for("the first to take over again", |d| is_ready_as(d, "holder")).await;
}

/// How many deployments a replica acts for; nothing while it is not ready.
fn held(daemon: &Daemon) -> Option<usize> {
    let (status, body) = daemon.get("/readyz")?;
    (status == 200).then(|| body.matches("\"role\":\"holder\"").count())
}

#[tokio::test]
async fn deployments_spread_to_a_replica_that_comes_later() {
    let world = World::new().await;
    let config = || {
        let config = world.right_config().replace("[ops]", "lease_seconds = 2\n\n[ops]");
        let (_, venue) = config.split_once("[deployments.venue]").expect("a deployment");
        let other = format!("[deployments.venue]{venue}").replace("deployments.venue", "deployments.other");
        format!("{config}\n{other}")
    };
    let first = Daemon::start(&world, &config());
    first.wait_for("the first to act for both", |d| held(d) == Some(2)).await;
    let second = Daemon::start(&world, &config());
    second.wait_for("the second to act for one", |d| held(d) == Some(1)).await;
    first.wait_for("the first to stand by for it", |d| held(d) == Some(1)).await;
    assert_eq!(held(&second), Some(1));
    second.signal("-KILL");
    first.wait_for("the first to act for both again", |d| held(d) == Some(2)).await;
}
