//! The main job as an operator sees it: the demo's own command, to its report.

use std::{
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
};

use serde_json::Value;

/// A demo keeps a chain, a database and a daemon busy in real time: two at once would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Plays the demo and returns its report; panics with the demo's own words if it fails.
fn demo(name: &str, extra: &[&str]) -> Value {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let report = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name).join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_backstop"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg("demo")
        .args(extra)
        .arg("--report")
        .arg(&report)
        .output()
        .expect("the demo starts");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    serde_json::from_str(&std::fs::read_to_string(report).expect("a report")).expect("a JSON report")
}

fn assert_books(report: &Value) {
    assert_eq!(report["balanced"], true, "{report}");
    assert_eq!(report["conservation_ok"], true, "{report}");
    assert_eq!(report["residual"], "0", "{report}");
    assert_eq!(report["cache_mismatches"], 0, "{report}");
    assert_eq!(report["healthy_segment_touched"], false, "{report}");
    for tier in ["liquidation", "insurance_fund", "auto_deleverage", "socialise_loss"] {
        let absorbed: u128 = report["absorbed"][tier].as_str().expect("an amount").parse().expect("decimal digits");
        assert!(absorbed > 0, "{tier} absorbed nothing: {report}");
    }
    for count in ["liquidated", "bankrupt", "blocks_to_repair_max"] {
        assert!(report[count].as_u64().is_some_and(|n| n > 0), "{count}: {report}");
    }
}

#[test]
fn a_crash_ends_with_balanced_books() {
    let report = demo("demo", &[]);
    assert_books(&report);
    assert_eq!(report["killed"], false);
}

#[test]
fn a_daemon_killed_in_the_middle_loses_nothing_and_does_nothing_twice() {
    let report = demo("demo-kill", &["--kill"]);
    assert_books(&report);
    assert_eq!(report["killed"], true);
}
