//! What the compiler cannot hold for one crate: the direction of imports, the rooms of SQL, clocks and protocol names,
//! sizes, and documents that name everything they should.
//!
//! Each rule is a pure function over (path, text), so that every rule is itself tested on a text that breaks it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Which stages a stage may import. A stage that is not here may import nothing of the crate.
const ALLOWED_IMPORTS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("positions", &["types"]),
    ("scanner", &["types", "positions"]),
    ("recovery", &["types", "positions", "scanner"]),
    ("protocols", &["types", "positions", "scanner", "recovery"]),
    ("chain", &["types"]),
    ("journal", &["types", "positions", "scanner", "recovery"]),
    ("alerts", &["types"]),
    ("ops", &["types"]),
    ("config", &["types", "scanner", "recovery"]),
    ("indexer", &["types", "positions", "scanner", "recovery", "protocols", "chain"]),
    ("executor", &["types", "positions", "scanner", "recovery", "protocols", "chain", "journal", "alerts"]),
    (
        "pipeline",
        &[
            "types",
            "positions",
            "scanner",
            "recovery",
            "protocols",
            "chain",
            "journal",
            "alerts",
            "ops",
            "indexer",
            "executor",
            "figures", // where its simulation states its bars
        ],
    ),
    ("figures", &[]),
    ("demo", &["types", "positions", "scanner", "recovery", "protocols", "chain", "journal", "config", "figures"]),
    (
        "run",
        &[
            "types",
            "positions",
            "scanner",
            "recovery",
            "protocols",
            "chain",
            "journal",
            "alerts",
            "ops",
            "indexer",
            "executor",
            "pipeline",
            "config",
        ],
    ),
    (
        "cli",
        &[
            "types",
            "positions",
            "scanner",
            "recovery",
            "protocols",
            "chain",
            "journal",
            "alerts",
            "ops",
            "indexer",
            "executor",
            "pipeline",
            "config",
            "run",
            "demo",
        ],
    ),
];

/// The pure core and what it must not name.
const CORE: &[&str] = &["types", "positions", "scanner", "recovery"];
const IMPURE: &[&str] = &[
    "tokio",
    "sqlx",
    "reqwest",
    "tracing",
    "prometheus",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "SystemTime",
    "Instant",
    "chrono",
    "rand::",
    "alloy::providers",
    "async fn",
];
/// Stages in which no protocol may be named.
const NEUTRAL: &[&str] =
    &["types", "positions", "scanner", "recovery", "chain", "indexer", "executor", "journal", "alerts", "ops"];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

struct Source {
    path: String,
    text: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn walk(dir: &Path, extension: &str, into: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !["node_modules", "target", "out", "cache"].contains(&entry.file_name().to_string_lossy().as_ref()) {
                walk(&path, extension, into);
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            let relative = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
            into.push(Source { path: relative, text: fs::read_to_string(&path).expect("a readable source") });
        }
    }
}

fn sources(folder: &str, extension: &str) -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root().join(folder), extension, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(!found.is_empty(), "no .{extension} files below {folder}");
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// `src/chain/rpc.rs` → `chain`; `src/run.rs` → `run`; the crate's own `lib.rs` and `main.rs` → none.
fn stage(path: &str) -> Option<&str> {
    let inner = path.strip_prefix("src/")?;
    let first = inner.split('/').next()?;
    let stage = first.strip_suffix(".rs").unwrap_or(first);
    (stage != "lib" && stage != "main").then_some(stage)
}

/// Text without `//` comments, with test modules kept: tests obey the direction, too.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The stages named by `crate::stage` or inside `use crate::{…}` groups.
fn imported_stages(text: &str) -> BTreeSet<String> {
    let text = without_comments(text);
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0usize;
            let mut word = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (c.is_alphanumeric() || c == '_') {
                    word.push(c);
                } else if depth == 0 && !word.is_empty() {
                    found.insert(std::mem::take(&mut word));
                }
                if c == ':' && depth == 0 {
                    // inside a path only its first word is a stage: skip to the next comma of this level
                    word.clear();
                    word.push('\0');
                }
                if c == ',' && depth == 0 {
                    word.clear();
                }
            }
            found.insert(word);
        } else {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found.into_iter().filter(|w| w.chars().all(|c| c.is_alphanumeric() || c == '_') && !w.is_empty()).collect()
}

/// Files that exist for tests: they may start what the demo starts (a chain, a database).
fn is_test_only(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("/fixture.rs")
}

fn wrong_imports(source: &Source) -> Vec<String> {
    let Some(stage) = stage(&source.path) else { return Vec::new() };
    let known: BTreeSet<&str> = ALLOWED_IMPORTS.iter().map(|(s, _)| *s).collect();
    let Some((_, allowed)) = ALLOWED_IMPORTS.iter().find(|(s, _)| *s == stage) else {
        return vec![format!("{}: stage {stage} has no row in ALLOWED_IMPORTS", source.path)];
    };
    imported_stages(&source.text)
        .into_iter()
        .filter(|import| known.contains(import.as_str()) && import != stage && !allowed.contains(&import.as_str()))
        .filter(|import| !(import == "demo" && is_test_only(&source.path)))
        .map(|import| format!("{}: {stage} must not import {import}", source.path))
        .collect()
}

#[test]
fn imports_run_in_the_direction_of_the_data() {
    let wrong: Vec<_> = sources("src", "rs").iter().flat_map(wrong_imports).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_turned_import_is_found() {
    for (path, text) in [
        ("src/types/mod.rs", "use crate::positions::Book;"),
        ("src/positions/book.rs", "use crate::{types::UnitKey, scanner::{scan, Finding}};"),
        ("src/scanner/scan.rs", "fn f() { crate::recovery::plan() }"),
        ("src/recovery/plan.rs", "use crate::{\n    types::{UnitKey, B256},\n    journal::Journal,\n};"),
        ("src/chain/rpc.rs", "use crate::journal::Journal;"),
        ("src/pipeline.rs", "use crate::run;"),
        ("src/unheard_of/mod.rs", "use crate::types::UnitKey;"),
    ] {
        let source = Source { path: path.into(), text: text.into() };
        assert_eq!(wrong_imports(&source).len(), 1, "{path}: {text}");
    }
    let fine = "use crate::{positions::{Book, scanner}, types::{UnitKey}};\n// crate::journal in prose\nuse crate::scanner::scan;";
    assert_eq!(wrong_imports(&Source { path: "src/recovery/a.rs".into(), text: fine.into() }), Vec::<String>::new());
}

fn impurities(source: &Source) -> Vec<String> {
    if !stage(&source.path).is_some_and(|s| CORE.contains(&s)) {
        return Vec::new();
    }
    let text = without_comments(&source.text);
    IMPURE
        .iter()
        .filter(|word| text.contains(**word))
        .map(|word| format!("{}: {word} in the pure core", source.path))
        .collect()
}

#[test]
fn the_core_does_no_io_and_reads_no_clock() {
    let wrong: Vec<_> = sources("src", "rs").iter().flat_map(impurities).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let bad = Source { path: "src/scanner/a.rs".into(), text: "let t = std::time::Instant::now();".into() };
    assert_eq!(impurities(&bad).len(), 1);
}

fn adapter_names() -> Vec<String> {
    fs::read_dir(root().join("src/protocols"))
        .expect("the adapters' folder")
        .flatten()
        .filter(|e| e.path().is_dir())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

fn named_protocols(source: &Source, adapters: &[String]) -> Vec<String> {
    if !stage(&source.path).is_some_and(|s| NEUTRAL.contains(&s)) {
        return Vec::new();
    }
    let text = source.text.to_lowercase();
    let spoken = |name: &String| [name.clone(), name.replace('_', " "), name.replace('_', "")];
    adapters
        .iter()
        .filter(|name| spoken(name).iter().any(|form| text.contains(form)))
        .map(|name| format!("{}: names the protocol {name}", source.path))
        .collect()
}

#[test]
fn no_protocol_is_named_outside_its_folder() {
    let adapters = adapter_names();
    assert!(!adapters.is_empty());
    let wrong: Vec<_> = sources("src", "rs").iter().flat_map(|s| named_protocols(s, &adapters)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let bad = Source { path: "src/executor/a.rs".into(), text: format!("// {}", adapters[0]) };
    assert_eq!(named_protocols(&bad, &adapters).len(), 1);
}

#[test]
fn sql_stays_in_the_journal() {
    for source in sources("src", "rs") {
        let at = stage(&source.path);
        if !matches!(at, Some("journal" | "demo")) {
            assert!(!without_comments(&source.text).contains("sqlx::"), "{}: sqlx outside the journal", source.path);
        }
    }
}

/// Name and length of each function: from its `fn` line to the closing brace at the same indentation.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let head = trimmed.split('(').next().unwrap_or_default();
        let is_function =
            head.split_whitespace().any(|w| w == "fn") && !trimmed.starts_with("//") && !trimmed.starts_with('"');
        // a signature without a body, in a trait, ends before any brace opens
        let ends = lines[start..].iter().find(|l| l.ends_with(['{', ';', '}']));
        if !is_function || ends.is_none_or(|l| !l.ends_with('{')) {
            continue;
        }
        let close = format!("{}}}", " ".repeat(line.len() - trimmed.len()));
        let length = lines[start..].iter().position(|l| *l == close).map_or(0, |last| last + 1);
        if length > FUNCTION_LINES_MAX {
            found.push(format!("{}:{}: {length} lines", source.path, start + 1));
        }
    }
    found
}

#[test]
fn files_and_functions_stay_readable() {
    let mut wrong = Vec::new();
    for source in sources("src", "rs").iter().chain(&sources("tests", "rs")) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{}: {lines} lines, at most {FILE_LINES_MAX}", source.path));
        }
        wrong.extend(long_functions(source));
    }
    assert!(wrong.is_empty(), "split these where they hold two things:\n{}", wrong.join("\n"));
    let bad = Source { path: "a.rs".into(), text: format!("fn f() {{\n{}}}\n", "    g();\n".repeat(70)) };
    assert_eq!(long_functions(&bad).len(), 1);
}

fn leftovers(source: &Source) -> Vec<String> {
    let words = ["todo!(", "unimplemented!(", "dbg!(", "FIXME", "XXX", "#[ignore"];
    words.iter().filter(|w| source.text.contains(**w)).map(|w| format!("{}: {w}", source.path)).collect()
}

#[test]
fn nothing_is_left_unfinished() {
    let wrong: Vec<_> = sources("src", "rs").iter().flat_map(leftovers).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    for source in sources("src", "rs") {
        let is_test = source.path.contains("test");
        assert!(is_test || source.text.starts_with("//!"), "{}: opens without //!", source.path);
    }
}

#[test]
fn no_folder_is_a_drawer() {
    for source in sources("src", "rs") {
        for part in source.path.split(['/', '.']) {
            assert!(!["util", "utils", "helper", "helpers", "misc", "manager"].contains(&part), "{}", source.path);
        }
    }
}

fn metric_names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    text.match_indices("backstop_")
        .map(|(at, _)| text[at..].chars().take_while(|c| word(*c)).collect::<String>())
        .filter(|name| {
            ["_total", "_seconds", "_blocks", "_block", "_wei", "_units", "_info", "_ratio", "_transactions", "_tokens"]
                .iter()
                .any(|unit| name.ends_with(unit))
        })
        .collect()
}

#[test]
fn every_metric_is_documented_and_exists() {
    let documented = metric_names(&read("docs/METRICS.md"));
    let mut registered = BTreeSet::new();
    for source in sources("src", "rs").iter().filter(|s| !s.path.contains("test")) {
        registered.extend(metric_names(&without_comments(&source.text)));
    }
    let missing: Vec<_> = registered.difference(&documented).collect();
    let invented: Vec<_> = documented.difference(&registered).collect();
    assert!(missing.is_empty(), "not in docs/METRICS.md: {missing:?}");
    assert!(invented.is_empty(), "in docs/METRICS.md but not in src: {invented:?}");
}

#[test]
fn every_table_is_documented_and_every_migration_can_be_taken_back() {
    let documented = read("migrations/README.md");
    let mut tables = 0;
    for source in sources("migrations", "sql") {
        let other = if source.path.ends_with(".up.sql") {
            source.path.replace(".up.sql", ".down.sql")
        } else {
            source.path.replace(".down.sql", ".up.sql")
        };
        assert!(root().join(&other).exists(), "{} has no {other}", source.path);
        for line in source.text.lines().map(|l| l.trim().to_lowercase()) {
            let of_its_own = !line.contains(" partition of ");
            if let Some(rest) = line.strip_prefix("create table ").filter(|_| of_its_own) {
                let name = rest
                    .trim_start_matches("if not exists ")
                    .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                    .next();
                let name = name.expect("a table's name");
                assert!(
                    documented.contains(&format!("\n## `{name}`\n")),
                    "migrations/README.md does not describe `{name}`"
                );
                tables += 1;
            }
        }
    }
    assert!(tables >= 11, "only {tables} tables found: the check itself is broken");
}

#[test]
fn the_readme_opens_with_the_two_commands_and_ci_runs_the_second() {
    let readme = read("README.md");
    let screen: String = readme.lines().take(30).collect::<Vec<_>>().join("\n");
    assert!(screen.contains("make demo") && screen.contains("make test"), "the first screen lacks the two commands");
    assert!(read(".ci/run").contains("make test"));
}

#[test]
fn documents_name_files_that_exist() {
    for document in
        ["README.md", "docs/ARCHITECTURE.md", "docs/RUNBOOK.md", "contracts/README.md", "migrations/README.md"]
    {
        let text = read(document);
        let folder = Path::new(document).parent().expect("a parent").to_path_buf();
        for (at, _) in text.match_indices("](") {
            let target: String = text[at + 2..].chars().take_while(|c| *c != ')' && *c != '#').collect();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            assert!(root().join(&folder).join(&target).exists(), "{document} links to {target}, which does not exist");
        }
    }
}

#[test]
fn documents_name_tests_that_exist() {
    let code: String =
        ["src", "tests"].iter().flat_map(|folder| sources(folder, "rs")).map(|source| source.text).collect();
    for document in ["docs/RELIABILITY.md", "docs/THREATS.md"] {
        let text = read(document);
        let quoted = text.split('`').skip(1).step_by(2);
        let names: Vec<&str> = quoted.filter(|word| word.matches('_').count() >= 3 && !word.contains('.')).collect();
        assert!(names.len() > 10, "{document} names hardly any test");
        for name in names {
            // A test, or a named crisis.
            let exists = code.contains(&format!("fn {name}(")) || code.contains(&format!("\"{name}\""));
            assert!(exists, "{document} names the test {name}, which does not exist");
        }
    }
}
