//! The example configurations load, and the adapters take the settings in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use backstop::{config::Config, protocols};

#[test]
fn every_example_loads_and_its_adapter_takes_its_settings() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config");
    let url = "postgres://backstop@localhost/backstop".to_owned();
    // Keys are named, never read, by a configuration.
    let environment: BTreeMap<String, String> = [
        ("DATABASE_URL".to_owned(), url),
        ("BACKSTOP_ONCALL_SECRET".to_owned(), "a secret".to_owned()),
        ("BACKSTOP_OPS_TOKEN".to_owned(), "sixteen letters.".to_owned()),
    ]
    .into();
    let mut shown = BTreeSet::new();
    for entry in std::fs::read_dir(&folder).expect("config/") {
        let path = entry.expect("a file").path();
        if path.ends_with("default.toml") {
            continue;
        }
        let named = path.display();
        let config = Config::load(std::slice::from_ref(&path), &environment);
        let config = config.unwrap_or_else(|error| panic!("{named}: {error}"));
        for (name, deployment) in &config.deployments {
            let settings = serde_json::Value::Object(deployment.protocol.settings.clone());
            let adapter = protocols::adapter(&deployment.protocol.adapter, settings);
            assert!(
                adapter.is_ok(),
                "{named}: deployments.{name}: {}",
                adapter.err().map(|e| e.to_string()).unwrap_or_default()
            );
            assert!(deployment.executor.dry_run, "{named}: an example must not send anything");
            shown.insert(deployment.protocol.adapter.clone());
        }
    }
    let known: BTreeSet<String> = protocols::known_adapters().into_iter().map(str::to_owned).collect();
    assert_eq!(shown, known, "every adapter has an example");
}
