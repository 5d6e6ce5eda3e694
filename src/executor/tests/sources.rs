//! Reads the sources: nothing but the gate reaches a signer or a send method.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A word, the files that may have it, and what it would be elsewhere.
const RULES: [(&str, &[&str], &str); 8] = [
    (".sign(", &["executor/gate.rs", "executor/execute.rs", "executor/settle.rs"], "asks somebody for a signature"),
    ("signer.sign(", &["executor/gate.rs"], "uses a signer"),
    ("sign_hash", &["executor/signer.rs", "executor/kms_signer.rs"], "signs with a key"),
    ("AwsSigner", &["executor/kms_signer.rs"], "holds a key"),
    ("PrivateKeySigner", &["executor/signer.rs"], "holds a key"),
    ("send_raw", &["executor/gate.rs", "executor/ports.rs"], "sends bytes"),
    ("send_private", &["executor/gate.rs", "executor/ports.rs"], "sends bytes"),
    ("eth_sendRawTransaction", &[], "sends bytes by hand"),
];

/// Files that sign or send for themselves: the node's client, which sends what it is given, and the demo, which plays the
/// part of the market with keys of its own.
const EXEMPT: [&str; 2] = ["chain/", "demo/"];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// A file's production part: without test modules and comments.
fn production(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

fn offences(name: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, allowed, meaning) in RULES {
        if code.contains(word) && !allowed.contains(&name) {
            found.push(format!("{name}: {word:?} {meaning}"));
        }
    }
    found
}

#[test]
fn nothing_but_the_gate_reaches_a_signer_or_a_send_method() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut found = Vec::new();
    let mut read = 0;
    for file in files {
        let name = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        let is_test = name.contains("/tests/") || name.ends_with("/tests.rs");
        if is_test || EXEMPT.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        read += 1;
        found.extend(offences(&name, &production(&fs::read_to_string(&file).unwrap())));
    }
    assert_eq!(found, Vec::<String>::new());
    assert!(read > 20, "only {read} files were read");
}

#[test]
fn the_rules_bite() {
    for code in [
        "let s = key.sign(tx).await;",
        "rpc.send_raw(&bytes).await",
        "let key: PrivateKeySigner = text.parse()?;",
        r#"client.request("eth_sendRawTransaction", bytes)"#,
    ] {
        assert_eq!(offences("pipeline.rs", code).len(), 1, "{code}");
    }
    assert_eq!(offences("executor/settle.rs", "self.signer.sign(tx)").len(), 1);
    let tested = "fn a() {}\n#[cfg(test)]\nmod tests {\n    rpc.send_raw(&bytes);\n}";
    assert_eq!(offences("pipeline.rs", &production(tested)), Vec::<String>::new());
}
