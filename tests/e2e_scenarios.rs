//! The named crises as an operator sees them: the command, to its figures.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

/// Fewest crises that there must be.
const SCENARIOS_MIN: usize = 12;

#[test]
fn every_named_crisis_ends_balanced_with_its_account_of_who_paid() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("scenarios");
    let output = Command::new(env!("CARGO_BIN_EXE_backstop"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("scenarios")
        .arg("--folder")
        .arg(&folder)
        .output()
        .expect("the scenarios start");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let text = std::fs::read_to_string(folder.join("scenarios.jsonl")).expect("figures");
    let figures: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(figures.iter().all(|figure| figure["ok"] == true), "{text}");
    let named = |figure: &&Value| figure["name"].as_str().is_some_and(|name| name.ends_with(": faults"));
    let count = figures.iter().filter(named).count();
    assert!(count >= SCENARIOS_MIN, "only {count} scenarios:\n{said}");
}
