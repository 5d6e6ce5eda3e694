use std::{cell::Cell, collections::BTreeSet, path::PathBuf};

use proptest::{collection::vec, prelude::*, test_runner::TestRunner};

use super::*;

const REFERENCE: &str = include_str!("../../config/reference.toml");

/// The shortest configuration that can run.
const LEAST: &str = r#"
[database]
url = "postgres://user:DBPASS@db:5432/backstop"
[deployments.eth]
chain_id = 1
rpc.url = "https://user:RPCPASS@rpc.example.org/v2/RPCKEY"
protocol = { adapter = "reference_venue", clearinghouse = "0x5FbDB2315678afecb367f032d93F642f64180aa3" }
executor.signer = { kind = "env", variable = "KEEPER_KEY" }
"#;

fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn load(texts: &[&str], variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
    Config::from_texts(&texts, &environment(variables))
}

/// What is printed for the least configuration with this laid over it.
fn fault(over: &str) -> String {
    load(&[LEAST, over], &[]).expect_err("should be refused").to_string()
}

fn eth(config: &Config) -> &Deployment {
    &config.deployments[&"eth".parse::<DeploymentName>().unwrap()]
}

#[test]
fn the_least_configuration_is_filled_with_defaults() {
    let config = load(&[LEAST], &[]).unwrap();
    let eth = eth(&config);
    assert!(eth.enabled && eth.executor.dry_run);
    assert_eq!(eth.executor.fee_cap_wei, Decimal(500_000_000_000));
    assert_eq!(eth.recovery.tiers.len(), 8);
    assert_eq!(eth.recovery.adl_policy.name(), "min_max");
    assert_eq!(eth.protocol.adapter, "reference_venue");
    assert_eq!(eth.protocol.settings.keys().collect::<Vec<_>>(), ["clearinghouse"]);
    assert_eq!(config.enabled_deployments().unwrap().len(), 1);
}

#[test]
fn every_registered_deleveraging_policy_is_a_word_of_the_configuration() {
    for word in crate::recovery::adl_policy_words() {
        let config = load(&[LEAST, &format!("deployments.eth.recovery.adl_policy = '{word}'")], &[]).unwrap();
        assert_eq!(eth(&config).recovery.adl_policy.name(), word);
        assert!(config.redacted_toml().contains(&format!("adl_policy = \"{word}\"")));
    }
}

#[test]
fn later_layers_win() {
    let listen = |texts: &[&str], variables: &[(&str, &str)]| load(texts, variables).unwrap().ops.listen.port();
    let (first, second) = ("ops.listen = '0.0.0.0:1'", "ops.listen = '0.0.0.0:2'");
    assert_eq!(listen(&[LEAST], &[]), 9464);
    assert_eq!(listen(&[LEAST, first, second], &[]), 2);
    assert_eq!(listen(&[LEAST, second, first], &[]), 1);
    assert_eq!(listen(&[LEAST, first], &[("BACKSTOP_OPS__LISTEN", "0.0.0.0:3")]), 3);
}

#[test]
fn the_environment_reaches_into_deployments_and_brings_its_own_types() {
    let variables = [
        ("BACKSTOP_DEPLOYMENTS__ETH__RPC__URL", "ws://other:1"),
        ("BACKSTOP_DEPLOYMENTS__ETH__CHAIN_ID", "5"),
        ("BACKSTOP_DEPLOYMENTS__ETH__EXECUTOR__DRY_RUN", "false"),
        ("BACKSTOP_DEPLOYMENTS__ETH__EXECUTOR__SPEND_PER_HOUR_MAX_WEI", "7"),
        ("BACKSTOP_ONE_OF_A_TOOL", "left alone"),
    ];
    let config = load(&[LEAST], &variables).unwrap();
    let eth = eth(&config);
    assert_eq!(eth.rpc.url.expose(), "ws://other:1");
    assert_eq!((eth.chain_id, eth.executor.dry_run), (5, false));
    assert_eq!(eth.executor.spend_per_hour_max_wei, Decimal(U256::from(7)));
}

#[test]
fn database_url_comes_from_three_places() {
    let url = |variables: &[(&str, &str)]| load(&[LEAST], variables).unwrap().database.url.expose().to_owned();
    let common = ("DATABASE_URL", "postgres://common");
    assert_eq!(url(&[]), "postgres://user:DBPASS@db:5432/backstop");
    assert_eq!(url(&[common]), "postgres://common");
    assert_eq!(url(&[common, ("BACKSTOP_DATABASE__URL", "postgres://own")]), "postgres://own");
}

#[test]
fn deployment_defaults_can_be_moved_for_all_and_set_apart_for_one() {
    let both = "
        [deployment_defaults.rpc]
        timeout_ms = 111
        poll_interval_ms = 222
        [deployment_defaults.recovery]
        tiers = [{ tier = 'liquidate' }]
        [deployments.eth.rpc]
        timeout_ms = 333
        [deployments.eth.recovery]
        tiers = [{ tier = 'insurance_fund' }, { tier = 'recalibrate' }]";
    let config = load(&[LEAST, both], &[]).unwrap();
    let eth = eth(&config);
    assert_eq!((eth.rpc.timeout_ms, eth.rpc.poll_interval_ms), (333, 222));
    let tiers: Vec<_> = eth.recovery.tiers.iter().map(|tier| tier.tier).collect();
    assert_eq!(tiers, [Tier::InsuranceFund, Tier::Recalibrate]);
}

#[test]
fn an_unknown_key_is_named_in_full_with_the_near_one() {
    for (over, key, near) in [
        ("databse.url = 'x'", "databse", "database"),
        ("database.conections_max = 1", "database.conections_max", "connections_max"),
        ("deployments.eth.chainid = 1", "deployments.eth.chainid", "chain_id"),
        ("deployments.eth.rpc.timeout = 1", "deployments.eth.rpc.timeout", "timeout_ms"),
        ("deployments.eth.executor.signer.varable = 'x'", "deployments.eth.executor.signer.varable", "variable"),
        (
            "deployments.eth.recovery.tiers = [{ tier = 'liquidate', max = '1' }]",
            "deployments.eth.recovery.tiers[0].max",
            "",
        ),
        ("deployment_defaults.rpc.timeout_m = 1", "deployments.eth.rpc.timeout_m", "timeout_ms"),
    ] {
        let line = fault(over);
        assert!(line.starts_with(&format!("config: {key}: unknown key; ")), "{line}");
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(line.contains("known here: "), "{line}");
        assert!(near.is_empty() || line.contains(&format!("did you mean {near}?")), "{line}");
    }
    let from_environment = load(&[LEAST], &[("BACKSTOP_OPS__LISTN", "x")]).unwrap_err().to_string();
    assert!(from_environment.starts_with("config: ops.listn: unknown key; did you mean listen?"), "{from_environment}");
}

/// What is laid over the least configuration, and the line that refuses it.
const FAULTS: &[(&str, &str)] = &[
    (
        "deployments.eth.rpc.url = 'htp://x'",
        "config: deployments.eth.rpc.url: \"htp://x\" is not an http(s) or ws(s) URL; write http://host:port or ws://host:port",
    ),
    (
        "database.url = 'mysql://x'",
        "config: database.url: \"mysql://x\" is not a postgres:// URL; write postgres://user:password@host:port/database",
    ),
    ("database.connections_max = 1", "config: database.connections_max: 1 is out of range; write 2 to 200"),
    (
        "database.connections_max = -1",
        "config: database.connections_max: is of type 64-bit integer; write a whole number, 0 or more",
    ),
    ("ops.listen = 'x'", "config: ops.listen: \"x\" is not an address and port; write one like \"127.0.0.1:9464\""),
    ("log.format = 'xml'", "config: log.format: unknown word \"xml\"; write one of: text, json"),
    (
        "deployments.eth.chain_id = 0",
        "config: deployments.eth.chain_id: 0 is out of range; write 1 to 9223372036854775807",
    ),
    (
        "deployments.eth.chain_id = 'one'",
        "config: deployments.eth.chain_id: is of type string; write a whole number, 0 or more",
    ),
    (
        "deployments.eth.executor.fee_cap_wei = '1e9'",
        "config: deployments.eth.executor.fee_cap_wei: \"1e9\" is not a whole amount; write decimal digits in quotes, e.g. \"1_000_000\"",
    ),
    (
        "deployments.eth.executor.cancel_after_blocks = 2",
        "config: deployments.eth.executor.cancel_after_blocks: 2 is not after replace_after_blocks = 2; write a larger number",
    ),
    (
        "deployments.eth.recovery.tiers = []",
        "config: deployments.eth.recovery.tiers: is empty; write at least { tier = \"liquidate\" }",
    ),
    (
        "deployments.eth.recovery.tiers = [{ tier = 'liquidate' }, { tier = 'liquidate' }]",
        "config: deployments.eth.recovery.tiers[1].tier: is there twice; write each tier once",
    ),
    (
        "deployments.eth.recovery.tiers = [{ tier = 'pray' }]",
        "config: deployments.eth.recovery.tiers[0].tier: unknown word \"pray\"; write one of: liquidate, insurance_fund, \
             auto_deleverage, shared_backstop, socialise_loss, gate_withdrawals, restitute, recalibrate",
    ),
    (
        "deployments.eth.recovery.adl_policy = 'lottery'",
        "config: deployments.eth.recovery.adl_policy: unknown word \"lottery\"; write one of: min_max, water_filling, \
             water_filling_profit, leverage_draining, pro_rata, pro_rata_size, risk_aware, queue, queue_index, \
             queue_profit",
    ),
    (
        "deployments.eth.recovery.tiers = [{ tier = 'liquidate', absorb_max = '0' }]",
        "config: deployments.eth.recovery.tiers[0].absorb_max: is 0; leave the tier out instead",
    ),
    (
        "deployments.eth.recovery.tiers = [{ tier = 'liquidate', floor = '5' }]",
        "config: deployments.eth.recovery.tiers[0].floor: is for tiers with a fund behind them (insurance_fund, shared_backstop, restitute); take it out",
    ),
    (
        "deployments.eth.recovery.tiers = [{ tier = 'liquidate', controller = {} }]",
        "config: deployments.eth.recovery.tiers[0].controller: is for the tier recalibrate; take it out",
    ),
    (
        "deployments.eth.recovery.tiers = [{ tier = 'recalibrate', controller = { window = 1 } }]",
        "config: deployments.eth.recovery.tiers[0].controller.window: 1 is out of range; write 2 to 64",
    ),
    (
        "deployments.eth.recovery.segments.core.tiers = [{ tier = 'liquidate' }]",
        "config: deployments.eth.recovery.segments.core: \"core\" is no segment; write its number",
    ),
    (
        "deployments.eth.recovery.segments.7.tiers = []",
        "config: deployments.eth.recovery.segments.7.tiers: is empty; write at least { tier = \"liquidate\" }",
    ),
    (
        "ops.token_env = 'NOPE'",
        "config: ops.token_env: environment variable NOPE does not hold a token; set it to at least 16 characters",
    ),
    (
        "deployments.eth.executor.signer.kind = 'paper'",
        "config: deployments.eth.executor.signer.kind: unknown word \"paper\"; write one of: watch, env, key_file, keystore, aws_kms, remote",
    ),
    (
        "[deployments.eth.executor]\nsigner = 5",
        "config: deployments.eth.executor.signer: is of type integer; write a table",
    ),
    (
        "[deployments.sol]
        chain_id = 1
        protocol.adapter = 'reference_venue'
        executor.signer = { kind = 'env', variable = 'KEEPER_KEY' }",
        "config: deployments.sol.rpc.url: missing; add it (config/reference.toml explains every key)",
    ),
    (
        "deployments.Eth.chain_id = 1",
        "config: deployments: deployment name \"Eth\": 1 to 32 of a-z, 0-9, '_' and '-', beginning with a letter; \
             see the key in config/reference.toml",
    ),
    (
        "alerts.webhooks = [{ name = 'a', url = 'ftp://x', min_severity = 'info', timeout_ms = 1000 }]",
        "config: alerts.webhooks[0].url: \"ftp://x\" is not an http(s) URL; write https://host/path",
    ),
    (
        "alerts.webhooks = [{ name = 'a', url = 'http://x', min_severity = 'info', timeout_ms = 1000, secret_env = 'NOPE' }]",
        "config: alerts.webhooks[0].secret_env: environment variable NOPE is not set; set it to the webhook's signing key",
    ),
];

#[test]
fn each_fault_is_one_line_with_the_key_and_the_mend() {
    for (over, expected) in FAULTS {
        assert_eq!(fault(over), *expected);
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let lines = fault("ops.lag_blocks_max = 9999999\nalerts.repeat_after_seconds = 0\nlog.filter = 'a=b=c'");
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(lines.lines().all(|line| line.starts_with("config: ") && line.contains("; write ")), "{lines}");
}

#[test]
fn a_missing_database_says_how_to_name_one() {
    let line = load(&[], &[]).unwrap_err().to_string();
    assert_eq!(
        line,
        "config: database.url: missing; set DATABASE_URL or add it (config/reference.toml explains every key)"
    );
    let config = load(&[], &[("DATABASE_URL", "postgres://db")]).unwrap();
    let none = config.enabled_deployments().unwrap_err().to_string();
    assert!(none.starts_with("config: deployments: none is enabled; "), "{none}");
}

#[test]
fn a_live_deployment_needs_a_key() {
    let watch = "
        [deployments.eth.executor]
        signer = { kind = 'watch', address = '0x5FbDB2315678afecb367f032d93F642f64180aa3' }";
    let watch_only = LEAST.replace("executor.signer = { kind = \"env\", variable = \"KEEPER_KEY\" }", "");
    assert!(load(&[&watch_only, watch], &[]).is_ok());
    let live = format!("{watch}\ndry_run = false");
    let line = load(&[&watch_only, &live], &[]).unwrap_err().to_string();
    assert!(line.starts_with("config: deployments.eth.executor.signer.kind: \"watch\" has no key"), "{line}");
    let two_passwords = "
        [deployments.eth.executor]
        signer = { kind = 'keystore', path = 'k.json', password_env = 'A', password_file = 'b' }";
    let line = load(&[&watch_only, two_passwords], &[]).unwrap_err().to_string();
    assert!(line.starts_with("config: deployments.eth.executor.signer: needs one password source; "), "{line}");
    let remote = |url: &str| {
        let signer = format!("kind = 'remote', address = '0x5FbDB2315678afecb367f032d93F642f64180aa3', url = '{url}'");
        load(&[&watch_only, &format!("[deployments.eth.executor]\nsigner = {{ {signer} }}\ndry_run = false")], &[])
    };
    assert!(remote("https://user:secret@signer.internal:9000/token").is_ok());
    let line = remote("signer.internal:9000").unwrap_err().to_string();
    assert!(line.starts_with("config: deployments.eth.executor.signer.url: is no http or https URL; "), "{line}");
}

#[test]
fn a_mistyped_deployment_variable_is_refused() {
    let line = load(&[LEAST], &[("BACKSTOP_DEPLOYMENTS_ETH_RPC_URL", "ws://x:1")]).unwrap_err().to_string();
    assert!(
        line.starts_with("config: environment variable BACKSTOP_DEPLOYMENTS_ETH_RPC_URL: names no key; "),
        "{line}"
    );
}

#[test]
fn file_faults_name_file_and_line_and_keep_the_text_to_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broken.toml");
    std::fs::write(&path, "[database]\nurl = \"postgres://user:PASS@db").unwrap();
    let line = Config::load(std::slice::from_ref(&path), &BTreeMap::new()).unwrap_err().to_string();
    assert!(line.starts_with(&format!("config: file {} line 2: not TOML (", path.display())), "{line}");
    assert!(!line.contains("PASS") && line.lines().count() == 1, "{line}");
    let absent = [PathBuf::from("/nowhere/at-all.toml")];
    let line = Config::load(&absent, &BTreeMap::new()).unwrap_err().to_string();
    assert!(line.starts_with("config: file /nowhere/at-all.toml: cannot be read ("), "{line}");
}

#[test]
fn secrets_never_come_out() {
    let webhook = "
        [[alerts.webhooks]]
        name = 'oncall'
        url = 'https://hooks.example.org/HOOKPATH'
        secret_env = 'HOOK_SECRET'
        min_severity = 'info'
        timeout_ms = 1000";
    let variables = [("HOOK_SECRET", "HOOKSECRET"), ("OPS_TOKEN", "OPSTOKENOPSTOKEN")];
    let config = load(&[LEAST, webhook, "ops.token_env = 'OPS_TOKEN'"], &variables).unwrap();
    assert_eq!(config.ops.token.as_ref().unwrap().expose(), "OPSTOKENOPSTOKEN");
    assert_eq!(config.alerts.webhooks[0].secret.as_ref().unwrap().expose(), "HOOKSECRET");
    let shown = format!("{config:?}{}{}", config.redacted_toml(), eth(&config).redacted_json());
    for secret in ["DBPASS", "RPCPASS", "RPCKEY", "HOOKPATH", "HOOKSECRET", "OPSTOKENOPSTOKEN"] {
        assert!(!shown.contains(secret), "{secret} is shown: {shown}");
    }
    assert!(shown.contains("rpc.example.org") && shown.contains("HOOK_SECRET"));
}

#[test]
fn faults_do_not_repeat_secrets() {
    let mistyped = "[deployments.eth]\nrpc = \"https://rpc.example.org/RPCKEY\"";
    let least = LEAST.replace("rpc.url = \"https://user:RPCPASS@rpc.example.org/v2/RPCKEY\"", "");
    let line = load(&[&least, mistyped], &[]).unwrap_err().to_string();
    assert!(line.starts_with("config: deployments.eth.rpc: ") && !line.contains("RPCKEY"), "{line}");
}

#[test]
fn the_effective_configuration_reads_back() {
    let config = load(&[LEAST], &[]).unwrap();
    let printed = config.redacted_toml();
    let again = load(&[&printed], &[]).expect("redacted text is a configuration, too");
    assert_eq!(again.redacted_toml(), printed);
}

#[test]
fn the_reference_loads_and_shows_every_key() {
    let variables = [("BACKSTOP_ONCALL_SECRET", "x"), ("BACKSTOP_OPS_TOKEN", "0123456789abcdef")];
    load(&[REFERENCE], &variables).unwrap();
    let reference: toml::Table = REFERENCE.parse().unwrap();
    let tables = [
        "database",
        "ops",
        "log",
        "alerts",
        "deployments.venue",
        "deployments.venue.rpc",
        "deployments.venue.indexer",
        "deployments.venue.scanner",
        "deployments.venue.risk",
        "deployments.venue.risk.moves",
        "deployments.venue.recovery",
        "deployments.venue.executor",
    ];
    for path in tables {
        let probe = format!("{path}.no_such_key = 1");
        let line = load(&[REFERENCE, &probe], &variables).unwrap_err().to_string();
        let (_, known) = line.split_once("known here: ").unwrap_or_else(|| panic!("{line}"));
        let known: BTreeSet<&str> = known.split(", ").collect();
        let table = path.split('.').fold(&reference, |table, key| table[key].as_table().unwrap());
        let shown: BTreeSet<&str> = table.keys().map(String::as_str).collect();
        assert_eq!(shown, known, "[{path}] of config/reference.toml");
    }
    let webhook = reference["alerts"]["webhooks"][0].as_table().unwrap();
    let known = fault("alerts.webhooks = [{ no_such_key = 1 }]");
    for key in webhook.keys() {
        assert!(known.contains(key), "{key}: {known}");
    }
    assert_eq!(known.split("known here: ").nth(1).unwrap().split(", ").count(), webhook.len(), "{known}");
    for kind in ["watch", "env", "key_file", "keystore", "remote", "aws_kms"] {
        assert!(REFERENCE.contains(&format!("kind = \"{kind}\"")), "{kind}");
    }
}

/// Values that stand where others should.
fn odd_value() -> BoxedStrategy<String> {
    prop_oneof![
        "[-+0-9a-z_\".:{}\\[\\]=, ]{0,24}",
        any::<i64>().prop_map(|x| x.to_string()),
        any::<f64>().prop_map(|x| format!("{x:?}")),
        any::<String>().prop_map(|text| format!("{text:?}")),
        Just("\"99999999999999999999999999999999999999999999999999999999999999999999999999999999999\"".to_owned()),
        (1usize..3_000).prop_map(|depth| "[".repeat(depth) + &"]".repeat(depth)),
    ]
    .boxed()
}

#[test]
fn fuzz_any_text_is_a_configuration_or_a_fault() {
    let lines: Vec<&str> = REFERENCE.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    let mutations = vec((any::<usize>(), 0u8..5, odd_value()), 0..4);
    let taken = Cell::new(0u64);
    let config = proptest::test_runner::Config { failure_persistence: None, ..Default::default() };
    let cases = u64::from(config.cases);
    TestRunner::new(config)
        .run(&(mutations, vec(any::<u8>(), 0..200)), |(mutations, noise)| {
            let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            for (place, how, value) in mutations {
                let place = place % lines.len();
                let key = lines[place].split('=').next().unwrap_or_default().trim().to_owned();
                match how {
                    0 => drop(lines.remove(place)),
                    1 => lines.insert(place, value),
                    2 => lines.insert(place, lines[place].clone()),
                    _ => lines[place] = format!("{key} = {value}"),
                }
            }
            for text in [lines.join("\n"), String::from_utf8_lossy(&noise).into_owned()] {
                let variables =
                    [("BACKSTOP_ONCALL_SECRET", "HOOKSECRET"), ("BACKSTOP_OPS_TOKEN", "OPSTOKEN OF SOME LENGTH")];
                match load(&[LEAST, &text], &variables) {
                    Ok(config) => {
                        taken.set(taken.get() + 1);
                        let shown = config.redacted_toml();
                        prop_assert!(shown.parse::<toml::Table>().is_ok(), "what is shown is TOML: {shown}");
                        prop_assert!(!shown.contains("DBPASS") && !shown.contains("RPCKEY"), "{shown}");
                    }
                    Err(fault) => {
                        let fault = fault.to_string();
                        prop_assert!(
                            !fault.is_empty() && !fault.contains("DBPASS") && !fault.contains("RPCKEY"),
                            "{fault}"
                        );
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    println!("{} texts, {} taken", 2 * cases, taken.get());
    assert!(taken.get() > cases / 20, "{} of {} texts taken", taken.get(), 2 * cases);
}
