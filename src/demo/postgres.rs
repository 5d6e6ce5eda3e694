//! A throw-away Postgres for the demo and for tests.
//!
//! `DATABASE_URL` wins where it is set: databases with names of their own are made there and dropped again. Else a
//! cluster of our own is started from the binaries of this machine, in a private directory, reachable through a Unix
//! socket only.
//!
//! Invariants: nothing outlives its owner. A guard process waits for the end of a pipe from the owner, so that also after
//! `kill -9` it stops the server and removes the directory; what even the guard could not remove, the next start does.
//! Runs as root, where it gives the server to an unprivileged account, as Postgres demands, and as an ordinary user.
//! Must not: touch a database, a directory or a process that it did not make.

use std::{
    fs::{self, File},
    io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use reqwest::Url;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

mod binaries;
#[cfg(test)]
mod tests;
use binaries::{find_binaries, is_traversable, reachable};

use crate::journal::Journal;

/// A start that takes longer has failed.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// A given server that takes longer to answer is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Directories and databases of ours are named so, and nothing else is.
const PREFIX: &str = "backstop_tmp_";
/// Longest directory whose socket's path fits the 107 bytes a Unix socket may have.
const DIRECTORY_BYTES_MAX: usize = 80;
/// A directory younger than this may be about to be locked by its owner.
const SWEEP_AGE: Duration = Duration::from_secs(120);

/// What a power failure may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Everything: no write waits for the disk. For tests.
    Fast,
    /// Nothing that was committed. As in production.
    Durable,
}

/// How a server is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shutdown {
    /// Sessions are ended, everything is written out.
    Fast,
    /// As a crash: nothing is written out, and the next start recovers from the log.
    Immediate,
}

/// A Postgres server, or a corner of one, that goes when this value does.
#[derive(Debug)]
pub struct ThrowAwayPostgres {
    /// `None` for a server that is not ours.
    cluster: Option<Cluster>,
    /// A session named after the prefix: it shows every other run on the server that the owner of our databases lives.
    _alive: PgConnection,
    /// URL of a database in which databases can be created.
    admin_url: Url,
    /// Begins the name of every database made here.
    prefix: String,
    url: String,
}

impl ThrowAwayPostgres {
    /// A server with one empty database. `durability` is a wish: a server given by `DATABASE_URL` stays as it is.
    pub async fn start(durability: Durability) -> anyhow::Result<Self> {
        let given = std::env::var("DATABASE_URL").ok().filter(|url| !url.trim().is_empty());
        Self::start_at(given.as_deref(), durability).await
    }

    async fn start_at(given: Option<&str>, durability: Durability) -> anyhow::Result<Self> {
        let prefix = format!("{PREFIX}{}_{:x}", std::process::id(), nonce());
        let (cluster, admin_url) = match given {
            Some(url) => (None, url.parse().context("DATABASE_URL is not a URL")?),
            None => {
                let cluster = Cluster::start(&prefix, durability).await?;
                let url = cluster.url.clone();
                (Some(cluster), url)
            }
        };
        let server = if cluster.is_some() { "the cluster that was just started" } else { "DATABASE_URL" };
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect_as(&admin_url, &prefix)).await;
        let mut alive =
            connected.with_context(|| format!("{server}: no answer"))?.with_context(|| server.to_owned())?;
        sweep_databases(&mut alive).await.context("drop databases that earlier runs left behind")?;
        let mut started = Self { cluster, _alive: alive, admin_url, prefix, url: String::new() };
        started.url = started.create_database("main").await?;
        Ok(started)
    }

    /// Stops a server of our own, which then refuses everybody until it is started again.
    pub fn stop(&mut self, how: Shutdown) -> anyhow::Result<()> {
        self.cluster.as_mut().context("a server that is not ours is not ours to stop")?.stop(how)
    }

    /// Starts it again on the same data.
    pub async fn start_again(&mut self) -> anyhow::Result<()> {
        self.cluster.as_mut().context("a server that is not ours is not ours to start")?.start_again().await
    }

    /// URL of the database that was made at the start.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it is a server of our own, and not one that `DATABASE_URL` names.
    pub fn is_own(&self) -> bool {
        self.cluster.is_some()
    }

    /// Makes an empty database and answers its URL. `name` is of a-z, 0-9 and '_', at most 20 bytes.
    pub async fn create_database(&self, name: &str) -> anyhow::Result<String> {
        self.create(name, "").await
    }

    /// Makes a copy of the database that was made here as `template`, to which nobody is connected.
    async fn copy_database(&self, name: &str, template: &str) -> anyhow::Result<String> {
        let mut admin = PgConnection::connect(self.admin_url.as_str()).await?;
        let version: i32 =
            sqlx::query_scalar("SELECT current_setting('server_version_num')::int").fetch_one(&mut admin).await?;
        admin.close().await?;
        // from version 15 on there is a choice, and copying files is faster than logging pages
        let strategy = if version >= 150_000 { " STRATEGY file_copy" } else { "" };
        self.create(name, &format!(" TEMPLATE {}{strategy}", self.database(template))).await
    }

    async fn create(&self, name: &str, how: &str) -> anyhow::Result<String> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        ensure!((1..=20).contains(&name.len()) && name.chars().all(plain), "{name:?} is no name for a database");
        let database = self.database(name);
        let mut admin = PgConnection::connect(self.admin_url.as_str()).await.context("connect to create a database")?;
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {database}{how}")))
            .execute(&mut admin)
            .await
            .with_context(|| format!("create database {database}"))?;
        admin.close().await?;
        let mut url = self.admin_url.clone();
        url.set_path(&database);
        Ok(url.into())
    }

    fn database(&self, name: &str) -> String {
        format!("{}_{name}", self.prefix)
    }
}

impl Drop for ThrowAwayPostgres {
    fn drop(&mut self) {
        if self.cluster.is_none() {
            let (url, prefix) = (self.admin_url.clone(), self.prefix.clone());
            blocking(async move {
                let mut admin = PgConnection::connect(url.as_str()).await?;
                drop_databases(&mut admin, &prefix).await?;
                admin.close().await
            });
        }
    }
}

/// A migrated database for one test, dropped with this value. The tests of a process share one server.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    name: String,
    server: &'static ThrowAwayPostgres,
}

impl TestDatabase {
    /// A database with the journal's schema and no rows.
    ///
    /// # Panics
    /// Where there is no Postgres to be had: such a test has failed.
    pub async fn new() -> Self {
        static SERVER: OnceCell<ThrowAwayPostgres> = OnceCell::const_new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let made: anyhow::Result<Self> = async {
            let server = SERVER.get_or_try_init(test_server).await?;
            let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
            let url = server.copy_database(&name, "main").await?;
            Ok(Self { url, name, server })
        }
        .await;
        made.unwrap_or_else(|error| panic!("a database for this test: {error:#}"))
    }

    /// A database without anything.
    ///
    /// # Panics
    /// As [`TestDatabase::new`].
    pub async fn empty() -> Self {
        let database = Self::new().await;
        let emptied: anyhow::Result<()> = async {
            let mut connection = PgConnection::connect(&database.url).await?;
            sqlx::raw_sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public").execute(&mut connection).await?;
            Ok(connection.close().await?)
        }
        .await;
        emptied.unwrap_or_else(|error| panic!("an empty database for this test: {error:#}"));
        database
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (url, database) = (self.server.admin_url.clone(), self.server.database(&self.name));
        blocking(async move {
            let mut admin = PgConnection::connect(url.as_str()).await?;
            drop_database(&mut admin, &database).await?;
            admin.close().await
        });
    }
}

async fn test_server() -> anyhow::Result<ThrowAwayPostgres> {
    let server = ThrowAwayPostgres::start(Durability::Fast).await?;
    let journal = Journal::connect(server.url(), 1).await?;
    journal.migrate().await?;
    journal.close().await;
    Ok(server)
}

/// A cluster of our own, in a directory of its own.
#[derive(Debug)]
struct Cluster {
    url: Url,
    postgres: Child,
    guard: Guard,
    /// How it was started.
    command: Command,
    directory: PathBuf,
    /// Held while the owner lives; the next start removes directories whose lock is free.
    _lock: File,
}

impl Cluster {
    async fn start(name: &str, durability: Durability) -> anyhow::Result<Self> {
        let base = base_directory()?;
        sweep_directories(&base);
        let directory = base.join(name);
        fs::DirBuilder::new().mode(0o700).create(&directory).with_context(|| format!("create {directory:?}"))?;
        let lock = File::create_new(directory.join("lock")).context("create the lock of the cluster's directory")?;
        lock.try_lock().context("lock the cluster's directory")?;
        let account = Account::for_server(fs::metadata(&directory)?.uid())?;
        account.give(&directory)?;
        let guard = Guard::over(&directory, &account)?;
        let binaries = reachable(find_binaries()?, &directory, &account)?;

        initialise(&binaries, &directory, &account)?;
        let log = File::create(directory.join("postgres.log"))?;
        let mut command = account.command(&binaries.join("postgres"));
        command.arg("-D").arg(directory.join("data")).arg("-k").arg(&directory).args(["-p", "5432"]);
        // the port only names the socket
        set(&mut command, &["listen_addresses=", "shared_buffers=32MB", "max_connections=100"]);
        if durability == Durability::Fast {
            set(&mut command, &["fsync=off", "synchronous_commit=off", "full_page_writes=off"]);
        }
        let postgres = command.stdout(log.try_clone()?).stderr(log).spawn().context("start postgres")?;
        let socket = directory.to_str().context("the temporary directory's name is not UTF-8")?.replace('/', "%2F");
        let url = format!("postgres://backstop@{socket}:5432/postgres").parse()?;
        let mut cluster = Self { url, postgres, guard, command, directory, _lock: lock };
        cluster.await_ready().await?;
        Ok(cluster)
    }

    fn stop(&mut self, how: Shutdown) -> anyhow::Result<()> {
        let signal = match how {
            Shutdown::Fast => libc::SIGINT,
            Shutdown::Immediate => libc::SIGQUIT,
        };
        super::process::signal_child(&self.postgres, signal).context("signal postgres")?;
        self.postgres.wait().context("wait for postgres to end")?;
        Ok(())
    }

    async fn start_again(&mut self) -> anyhow::Result<()> {
        self.postgres = self.command.spawn().context("start postgres again")?;
        self.await_ready().await
    }

    async fn await_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let refused = match PgConnection::connect(self.url.as_str()).await {
                Ok(connection) => return Ok(connection.close().await?),
                Err(error) => error,
            };
            let log = || fs::read_to_string(self.directory.join("postgres.log")).unwrap_or_default();
            if let Some(status) = self.postgres.try_wait()? {
                bail!("postgres ended ({status}) instead of starting:\n{}", log());
            }
            if Instant::now() > deadline {
                bail!("postgres was not ready within {} s ({refused}):\n{}", START_TIMEOUT.as_secs(), log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.guard.dismiss();
        // reaped here: the guard waits until the process is gone
        let _ = self.postgres.wait();
        self.guard.join();
    }
}

/// The process that stops the server and removes its directory once its standard input ends.
#[derive(Debug)]
struct Guard {
    process: Child,
    stdin: Option<ChildStdin>,
}

/// What the guard runs: the directory is its first argument. The server writes its process id into the data directory
/// and takes that away when it ends; a process that is not at work there only inherited the number. SIGQUIT ends it without a checkpoint; the data is thrown away.
const GUARD: &str = r#"trap '' INT HUP TERM
cat >/dev/null
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
at_work() { [ -n "$pid" ] && grep -aqF "$1/data" "/proc/$pid/cmdline" 2>/dev/null; }
at_work "$1" && kill -QUIT "$pid"
tries=0
while at_work "$1" && [ "$tries" -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
at_work "$1" && kill -KILL "$pid"
rm -rf "$1""#;

impl Guard {
    fn over(directory: &Path, account: &Account) -> anyhow::Result<Self> {
        let mut command = account.command(Path::new("/bin/sh"));
        command.args(["-c", GUARD, "backstop-postgres-guard"]).arg(directory);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().context("start /bin/sh to guard the cluster")?;
        let stdin = process.stdin.take();
        Ok(Self { process, stdin })
    }

    /// Lets it do its work.
    fn dismiss(&mut self) {
        self.stdin = None;
    }

    fn join(&mut self) {
        let _ = self.process.wait();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.dismiss();
        self.join();
    }
}

/// The account that server processes run under.
#[derive(Debug)]
enum Account {
    /// Our own.
    Own { uid: u32 },
    /// An unprivileged one, since we are root.
    Dropped { uid: u32, gid: u32 },
}

impl Account {
    fn for_server(own_uid: u32) -> anyhow::Result<Self> {
        if own_uid != 0 {
            return Ok(Self::Own { uid: own_uid });
        }
        let passwd = fs::read_to_string("/etc/passwd").context("look for an unprivileged account")?;
        let (uid, gid) = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| account_ids(&passwd, name))
            .context("Postgres does not run as root, and there is neither an account `postgres` nor `nobody`")?;
        Ok(Self::Dropped { uid, gid })
    }

    fn uid(&self) -> u32 {
        match self {
            Self::Own { uid } | Self::Dropped { uid, .. } => *uid,
        }
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        match self {
            Self::Own { .. } => Ok(()),
            Self::Dropped { uid, gid } => chown(path, Some(*uid), Some(*gid)),
        }
    }

    /// A command under this account, with a clean environment, beyond the reach of the terminal's Ctrl-C.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("TZ", "UTC");
        command.current_dir("/").stdin(Stdio::null()).process_group(0);
        if let Self::Dropped { uid, gid } = self {
            command.uid(*uid).gid(*gid);
        }
        command
    }
}

/// User and group id of an account in the text of /etc/passwd; never root's.
fn account_ids(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let fields: Vec<&str> = passwd.lines().map(|line| line.split(':').collect()).find(|f: &Vec<&str>| f[0] == name)?;
    let (uid, gid) = (fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
    (uid != 0).then_some((uid, gid))
}

fn set(command: &mut Command, settings: &[&str]) {
    for setting in settings {
        command.args(["-c", setting]);
    }
}

fn initialise(binaries: &Path, directory: &Path, account: &Account) -> anyhow::Result<()> {
    let initdb = binaries.join("initdb");
    let output = account
        .command(&initdb)
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-U", "backstop", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"])
        .output()
        .with_context(|| format!("run {initdb:?}"))?;
    ensure!(
        output.status.success(),
        "{initdb:?} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Where clusters live: the temporary directory, unless a socket's path would be too long there or its account could
/// not get in.
fn base_directory() -> anyhow::Result<PathBuf> {
    let name_bytes = PREFIX.len() + 32;
    [std::env::temp_dir(), PathBuf::from("/tmp")]
        .into_iter()
        .filter_map(|base| base.canonicalize().ok())
        .find(|base| base.as_os_str().len() + name_bytes <= DIRECTORY_BYTES_MAX && is_traversable(base, u32::MAX))
        .context("neither TMPDIR nor /tmp is a short path that every account can pass: a cluster needs one")
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Removes what owners left behind that died together with their guards.
fn sweep_directories(base: &Path) {
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    for directory in entries(base).filter(ours) {
        let age = fs::metadata(&directory).and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age < SWEEP_AGE) {
            continue;
        }
        let Ok(lock) = File::open(directory.join("lock")) else { continue };
        if lock.try_lock().is_ok() {
            tracing::info!(?directory, "removing what a dead run left behind");
            let _ = Command::new("/bin/sh")
                .args(["-c", GUARD, "backstop-postgres-guard"])
                .arg(&directory)
                .stdin(Stdio::null())
                .status();
        }
    }
}

/// A connection whose session bears a name.
async fn connect_as(url: &Url, name: &str) -> sqlx::Result<PgConnection> {
    PgConnectOptions::from_str(url.as_str())?.application_name(name).connect().await
}

/// Drops the databases of owners that have no session any more, and to which nobody else is connected.
async fn sweep_databases(session: &mut PgConnection) -> sqlx::Result<()> {
    let orphans: Vec<String> = sqlx::query_scalar(
        "WITH ours AS (\
         SELECT datname, array_to_string((string_to_array(datname, '_'))[1:4], '_') AS prefix FROM pg_database \
         WHERE starts_with(datname, $1)) \
         SELECT DISTINCT prefix FROM ours WHERE NOT EXISTS (SELECT 1 FROM pg_stat_activity s WHERE \
         s.application_name = ours.prefix OR s.datname IN (SELECT o.datname FROM ours o WHERE o.prefix = ours.prefix))",
    )
    .bind(PREFIX)
    .fetch_all(&mut *session)
    .await?;
    for prefix in orphans {
        tracing::info!(prefix, "dropping databases that a dead run left behind");
        drop_databases(session, &prefix).await?;
    }
    Ok(())
}

/// Drops every database of one owner.
async fn drop_databases(admin: &mut PgConnection, prefix: &str) -> sqlx::Result<()> {
    let names: Vec<String> = sqlx::query_scalar("SELECT datname FROM pg_database WHERE starts_with(datname, $1)")
        .bind(format!("{prefix}_"))
        .fetch_all(&mut *admin)
        .await?;
    for name in names {
        drop_database(admin, &name).await?;
    }
    Ok(())
}

async fn drop_database(admin: &mut PgConnection, name: &str) -> sqlx::Result<()> {
    sqlx::query(AssertSqlSafe(format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"))).execute(admin).await?;
    Ok(())
}

/// Runs to the end on a thread of its own: a destructor may run inside a runtime, or outside of any. A failure is
/// logged; the next start sweeps.
fn blocking(work: impl Future<Output = sqlx::Result<()>> + Send + 'static) {
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async { tokio::time::timeout(START_TIMEOUT, work).await })??;
        anyhow::Ok(())
    });
    if let Ok(Err(error)) = thread.join() {
        tracing::warn!(?error, "a throw-away database was not dropped");
    }
}

/// Tells two runs of one process id apart.
fn nonce() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() << 30 | u64::from(now.subsec_nanos())
}
