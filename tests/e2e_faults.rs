//! The campaign of faults as an operator sees it: the command, to its report. Twelve seeds: each kind of fault comes first once
//! with one replica and once with two.

use std::{path::PathBuf, process::Command};

use serde_json::Value;

#[test]
fn whatever_fails_for_a_while_all_is_repaired_and_nothing_is_done_twice() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faults");
    let output = Command::new(env!("CARGO_BIN_EXE_backstop"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["faults", "--runs", "12", "--first", "1", "--folder"])
        .arg(&folder)
        .output()
        .expect("the campaign starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    let text = std::fs::read_to_string(folder.join("report.json")).expect("a report");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let injected = report["injected"].as_object().expect("counts by kind");
    assert!(injected.len() == 6 && injected.values().all(|count| count.as_u64() > Some(0)), "{said}");
    assert_eq!((&report["runs"], &report["violated"]), (&Value::from(12), &Value::from(0)));
    let each = report["each"].as_array().expect("every run");
    assert!(each.iter().all(|run| run["transactions"].as_u64() > Some(0)), "a run in which nothing was done: {said}");
}
