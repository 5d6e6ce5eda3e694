//! Does the simulation see anything? Bugs are planted in a copy of the sources, all of them at once and each behind a
//! switch, and the simulation must be violated by every one of them and by none when all switches are off.
//!
//! `make sim-mutants` builds the copy and plays it. That every bug can still be planted is looked at in every test run.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// A bug: what it is, where, the text that is there, and the text in its place, in which `PLANTED` is the switch.
struct Bug(&'static str, &'static str, &'static str, &'static str);

const BUGS: &[Bug] = &[
    Bug(
        "an inclusion is final at once",
        "src/executor/decide.rs",
        "if depth >= settings.finality_depth_blocks {",
        "if depth >= if PLANTED { 1 } else { settings.finality_depth_blocks } {",
    ),
    Bug(
        "an inclusion that was reorganised away is not noticed",
        "src/executor/decide.rs",
        "canonical: Some(false), .. } => Next::MarkReorged,",
        "canonical: Some(false), .. } => if PLANTED { Next::Wait } else { Next::MarkReorged },",
    ),
    Bug(
        "nothing in flight is reserved",
        "src/executor/mod.rs",
        "t.included_block.is_none_or(|block| block > head.number)",
        "!PLANTED && t.included_block.is_none_or(|block| block > head.number)",
    ),
    Bug(
        "what is mined above the snapshot is not reserved",
        "src/executor/mod.rs",
        "is_none_or(|block| block > head.number)",
        "is_none_or(|block| !PLANTED && block > head.number)",
    ),
    Bug(
        "what was planned and never signed stays for ever",
        "src/executor/mod.rs",
        "let reason = \"interrupted before it was signed\";",
        "if PLANTED { return Ok(()); } let reason = \"interrupted before it was signed\";",
    ),
    Bug(
        "a plan whose insertion was not answered stays for ever",
        "src/executor/execute.rs",
        "        self.unswept = true;\n        let lane",
        "        self.unswept = !PLANTED;\n        let lane",
    ),
    Bug(
        "a mined revert is not told",
        "src/executor/settle.rs",
        "if !receipt.success && !cancelled {",
        "if !receipt.success && !cancelled && !PLANTED {",
    ),
    Bug(
        "a lost nonce is not told",
        "src/executor/settle.rs",
        "self.raise(AlertKind::ForeignNonce, \"\", &why);",
        "if !PLANTED { self.raise(AlertKind::ForeignNonce, \"\", &why); }",
    ),
    Bug(
        "a mined revert counts as success",
        "src/executor/settle.rs",
        "            success: receipt.success,",
        "            success: PLANTED || receipt.success,",
    ),
    Bug(
        "a low balance is not told",
        "src/executor/settle.rs",
        "if balance < self.settings.balance_min_wei {",
        "if !PLANTED && balance < self.settings.balance_min_wei {",
    ),
    Bug(
        "the gate does not ask for the lease",
        "src/executor/gate.rs",
        "if !self.tenure.holds() {",
        "if !PLANTED && !self.tenure.holds() {",
    ),
    Bug(
        "the gate does not ask whether it is paused",
        "src/executor/gate.rs",
        "if let Some(reason) = self.switch.reason() {",
        "if let Some(reason) = self.switch.reason().filter(|_| !PLANTED) {",
    ),
    Bug(
        "blocks are not held against their parents",
        "src/indexer/follow.rs",
        "if below.is_some_and(|hash| hash != block.parent_hash) {",
        "if below.is_some_and(|hash| !PLANTED && hash != block.parent_hash) {",
    ),
    Bug("a fork is not noticed", "src/indexer/follow.rs", "return Ok(if forked {", "return Ok(if forked && !PLANTED {"),
    Bug(
        "what a reorganisation took back is not stored",
        "src/indexer/trail.rs",
        "self.pending.merge(&inverse(&delta));",
        "if !PLANTED { self.pending.merge(&inverse(&delta)); }",
    ),
    Bug(
        "changes count as stored before they are",
        "src/indexer/mod.rs",
        "self.store.commit(&tip, &self.trail.uncommitted()).await",
        "{ let delta = self.trail.uncommitted(); if PLANTED { self.trail.mark_committed(); } \
         self.store.commit(&tip, &delta).await }",
    ),
    Bug(
        "what is shown becomes lower",
        "src/indexer/mod.rs",
        "let least = head.number.max(self.shown_max);",
        "let least = if PLANTED { head.number } else { head.number.max(self.shown_max) };",
    ),
    Bug(
        "no logs are believed although the header has some",
        "src/chain/logs.rs",
        "match logs.is_empty() && self.blooms.speak_for(hash, filter) {",
        "match !PLANTED && logs.is_empty() && self.blooms.speak_for(hash, filter) {",
    ),
    Bug(
        "of two nodes that disagree the first is believed",
        "src/chain/rpc.rs",
        "if same(&one, &other) {",
        "if PLANTED || same(&one, &other) {",
    ),
    Bug(
        "a shortfall is not told",
        "src/pipeline/act.rs",
        "self.concerns.state(AlertKind::Shortfall, \"\", detail);",
        "self.concerns.state(AlertKind::Shortfall, \"\", detail.filter(|_| !PLANTED));",
    ),
    Bug(
        "a residual loss is not told",
        "src/pipeline/act.rs",
        "self.concerns.state(AlertKind::ResidualLoss, segment, residual(&plan));",
        "self.concerns.state(AlertKind::ResidualLoss, segment, residual(&plan).filter(|_| !PLANTED));",
    ),
    Bug(
        "an episode whose opening was not answered stays open",
        "src/pipeline/episodes.rs",
        "if answer.is_err() {",
        "if answer.is_err() && !PLANTED {",
    ),
    Bug(
        "an action that we built wrong is not told",
        "src/executor/execute.rs",
        "Disposition::Bug => Some(AlertKind::ActionRejectedAsBug),",
        "Disposition::Bug => (!PLANTED).then_some(AlertKind::ActionRejectedAsBug),",
    ),
];

/// Most seeds that a bug may hide from.
const SEEDS_MAX: u32 = 12_000;
const PATIENCE: Duration = Duration::from_secs(240);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_bug_can_be_planted() {
    assert!(BUGS.len() >= 20);
    for Bug(name, file, text, planted) in BUGS {
        let source = fs::read_to_string(root().join(file)).expect(file);
        assert_eq!(source.matches(text).count(), 1, "{name}: {text:?} in {file}");
        assert!(planted.contains("PLANTED"), "{name}");
    }
}

/// The sources with every bug in them, each asleep.
fn plant(copy: &Path) {
    let _none_yet = fs::remove_dir_all(copy.join("src"));
    let files = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git");
    for file in String::from_utf8_lossy(&files.stdout).split('\0').filter(|file| !file.is_empty()) {
        let to = copy.join(file);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        if root().join(file).is_file() {
            fs::copy(root().join(file), to).expect(file);
        }
    }
    // Longer texts first: one may be a part of another.
    let mut bugs: Vec<(usize, &Bug)> = BUGS.iter().enumerate().collect();
    bugs.sort_by_key(|(_, Bug(_, _, text, _))| std::cmp::Reverse(text.len()));
    for (number, Bug(_, file, text, planted)) in bugs {
        let path = copy.join(file);
        let source = fs::read_to_string(&path).expect(file);
        let planted = planted.replace("PLANTED", &format!("crate::planted({number})"));
        fs::write(path, source.replacen(text, &planted, 1)).expect(file);
    }
    let library = copy.join("src/lib.rs");
    let switch = "\n/// Whether a bug is awake.\npub fn planted(bug: usize) -> bool {\n    \
                  static AWAKE: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();\n    \
                  *AWAKE.get_or_init(|| std::env::var(\"BACKSTOP_PLANTED\").ok()?.parse().ok()) == Some(bug)\n}\n";
    let text = fs::read_to_string(&library).expect("src/lib.rs") + switch;
    fs::write(library, text).expect("src/lib.rs");
}

/// Plays the simulation of the copy: whether it was violated, and what it said. It is built in a folder of its own, since in
/// ours cargo would take the planted build for the true one.
fn play(copy: &Path, awake: Option<usize>, seeds: u32) -> (bool, String) {
    let mut command = Command::new("timeout");
    let seconds = if awake.is_some() { PATIENCE } else { 4 * PATIENCE }.as_secs().to_string();
    command.args([seconds.as_str(), "cargo", "test", "--locked", "--lib", "--", "--nocapture"]);
    command.arg("pipeline::tests::whatever_fails_nothing_is_lost_and_nothing_is_done_twice");
    command.current_dir(copy).env("CARGO_TARGET_DIR", copy.join("target")).env("BACKSTOP_SIM_SEEDS", seeds.to_string());
    command.env("BACKSTOP_SIM_STOP", "1").env("RUST_BACKTRACE", "0");
    if let Some(bug) = awake {
        command.env("BACKSTOP_PLANTED", bug.to_string());
    }
    let output = command.output().expect("cargo");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let violated = said.contains("sim: seeds with a violation") && said.contains("MISSED");
    assert!(violated || output.status.success(), "{}", &said[said.len().saturating_sub(3_000)..]);
    (violated, said)
}

#[test]
#[ignore = "builds the sources once more: make sim-mutants"]
fn every_planted_bug_is_caught() {
    let target = std::env::var("CARGO_TARGET_DIR").map_or_else(|_| root().join("target"), PathBuf::from);
    let copy = target.join("sim-mutants");
    plant(&copy);
    let (violated, said) = play(&copy, None, 400);
    assert!(!violated, "the simulation is violated with every bug asleep: {said}");
    let mut missed = Vec::new();
    for (number, Bug(name, ..)) in BUGS.iter().enumerate() {
        let began = Instant::now();
        let (violated, said) = play(&copy, Some(number), SEEDS_MAX);
        let seed = said.lines().find(|line| line.starts_with("seed ")).and_then(|line| line.split([' ', ',']).nth(1));
        let verdict = if violated { format!("caught by seed {}", seed.unwrap_or("?")) } else { "MISSED".to_owned() };
        println!("{number:>3}  {name}: {verdict} ({} s)", began.elapsed().as_secs());
        if !violated {
            missed.push(*name);
        }
    }
    println!("{} of {} planted bugs are caught", BUGS.len() - missed.len(), BUGS.len());
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
