use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
};

use super::*;

async fn names(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let names = sqlx::query_scalar("SELECT datname::text FROM pg_database WHERE starts_with(datname, $1) ORDER BY 1")
        .bind(PREFIX)
        .fetch_all(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    names
}

async fn is_gone_within_seconds(path: &Path, seconds: u64) -> bool {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while path.exists() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    !path.exists()
}

async fn own_cluster() -> (ThrowAwayPostgres, PathBuf) {
    let postgres = ThrowAwayPostgres::start_at(None, Durability::Fast).await.unwrap();
    let directory = base_directory().unwrap().join(&postgres.prefix);
    (postgres, directory)
}

#[tokio::test]
async fn a_cluster_of_our_own_goes_with_its_owner() {
    let (postgres, directory) = own_cluster().await;
    assert!(postgres.is_own());
    assert!(directory.is_dir());
    let other = postgres.create_database("other").await.unwrap();
    PgConnection::connect(&other).await.unwrap().close().await.unwrap();
    assert!(postgres.create_database("no; name").await.is_err());
    let url = postgres.url().to_owned();
    drop(postgres);
    assert!(!directory.exists());
    assert!(PgConnection::connect(&url).await.is_err());
}

/// Set in the process that is to be killed.
const OWNER: &str = "BACKSTOP_TEST_OWNER";

/// Does nothing, unless the next test starts it in a process of its own, to kill that.
#[tokio::test]
async fn owner_to_be_killed() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    let (postgres, directory) = own_cluster().await;
    println!("\ndirectory {}", directory.display());
    tokio::time::sleep(START_TIMEOUT).await;
    drop(postgres);
}

#[tokio::test]
async fn a_killed_owner_leaves_nothing_behind() {
    let name = format!("{}::owner_to_be_killed", module_path!().trim_start_matches("backstop::"));
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name, "--nocapture"])
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok);
    let directory = lines.filter_map(|line| Some(PathBuf::from(line.strip_prefix("directory ")?))).next().unwrap();
    let pid_file = directory.join("data/postmaster.pid");
    let pid = fs::read_to_string(pid_file).unwrap().lines().next().unwrap().to_owned();
    owner.kill().unwrap();
    owner.wait().unwrap();
    assert!(is_gone_within_seconds(&directory, 15).await, "{directory:?} is still there");
    let server = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    assert!(!server.contains(PREFIX), "the server still runs: {server}");
}

#[test]
fn only_directories_of_dead_owners_are_swept() {
    let base = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let directory = base.path().join(name);
        fs::create_dir(&directory).unwrap();
        (directory.clone(), File::create(directory.join("lock")).unwrap())
    };
    let (dead, _) = make("backstop_tmp_1_a");
    let (alive, alive_lock) = make("backstop_tmp_1_b");
    let (young, _) = make("backstop_tmp_1_c");
    let (foreign, _) = make("somebody_tmp_1_d");
    alive_lock.try_lock().unwrap();
    let old = SystemTime::now() - 2 * SWEEP_AGE;
    for directory in [&dead, &alive, &foreign] {
        File::open(directory).unwrap().set_modified(old).unwrap();
    }
    sweep_directories(base.path());
    assert!(!dead.exists());
    assert!(alive.exists() && young.exists() && foreign.exists());
}

#[tokio::test]
async fn on_a_given_server_only_what_is_ours_and_orphaned_is_dropped() {
    let (host, _) = own_cluster().await;
    let mut admin = PgConnection::connect(host.url()).await.unwrap();
    for name in ["backstop_tmp_1_aa_main", "backstop_tmp_1_aa_t0", "production"] {
        sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.unwrap();
    }

    let guest = ThrowAwayPostgres::start_at(Some(host.url()), Durability::Fast).await.unwrap();
    assert!(!guest.is_own());
    let second = ThrowAwayPostgres::start_at(Some(host.url()), Durability::Fast).await.unwrap();
    guest.create_database("other").await.unwrap();
    let mut expected =
        vec![host.database("main"), guest.database("main"), guest.database("other"), second.database("main")];
    expected.sort_unstable();
    assert_eq!(names(host.url()).await, expected);

    let _in_use = PgConnection::connect(guest.url()).await.unwrap();
    drop(guest);
    let mut expected = vec![host.database("main"), second.database("main")];
    expected.sort_unstable();
    assert_eq!(names(host.url()).await, expected);
    let production: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = 'production')")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert!(production);
}

#[tokio::test]
async fn test_databases_are_migrated_and_apart() {
    let (one, two) = (TestDatabase::new().await, TestDatabase::new().await);
    let journals = [Journal::connect(one.url(), 2).await.unwrap(), Journal::connect(two.url(), 2).await.unwrap()];
    let name = "venue".parse().unwrap();
    for journal in &journals {
        journal.check_schema().await.unwrap();
        assert_eq!(journal.deployment_by_name(&name).await.unwrap(), None);
        journal.register_deployment(&name, 1, "perps", &serde_json::Value::Null).await.unwrap();
    }
}

#[test]
fn root_is_no_account_for_a_server() {
    let passwd = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65533::/:/bin/false\nbroken\npostgres:x:zero";
    assert_eq!(account_ids(passwd, "nobody"), Some((65534, 65533)));
    assert_eq!(account_ids(passwd, "root"), None);
    assert_eq!(account_ids(passwd, "broken"), None);
    assert_eq!(account_ids(passwd, "postgres"), None);
    assert_eq!(account_ids(passwd, "absent"), None);
}

#[test]
fn a_private_directory_is_passable_to_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let uid = fs::metadata(directory.path()).unwrap().uid();
    assert!(is_traversable(directory.path(), uid));
    assert!(!is_traversable(directory.path(), uid + 1));
    assert!(is_traversable(Path::new("/tmp"), uid + 1));
}

#[test]
fn an_installation_out_of_reach_is_copied_with_its_links_made() {
    let base = tempfile::tempdir().unwrap();
    fs::set_permissions(base.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (bin, lib) = (base.path().join("native/bin"), base.path().join("native/lib"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir(&lib).unwrap();
    fs::write(lib.join("libpq.so.5.18"), "library").unwrap();
    let account = Account::Own { uid: fs::metadata(base.path()).unwrap().uid() };
    let target = base.path().join("cluster");
    fs::create_dir(&target).unwrap();
    assert_eq!(reachable(bin.clone(), &target, &account).unwrap(), bin);

    let links = r#"[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]"#;
    fs::write(base.path().join("native/pg-symlinks.json"), links).unwrap();
    let copy = reachable(bin.clone(), &target, &account).unwrap();
    assert_eq!(copy, target.join("installation/bin"));
    assert_eq!(fs::read_to_string(copy.join("../lib/libpq.so.5")).unwrap(), "library");
    assert!(!lib.join("libpq.so.5").exists());

    std::os::unix::fs::symlink("libpq.so.5.18", lib.join("libpq.so.5")).unwrap();
    assert_eq!(reachable(bin.clone(), &target, &account).unwrap(), bin);
}
