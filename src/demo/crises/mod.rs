//! Named crises: small venues on real chains, each brought down in a particular way, repaired by the daemon as a process, and
//! held against the chain to the last unit.
//!
//! Every crisis has a chain, a venue, a database and a daemon of its own. Blocks are made one at a time, each when the
//! daemon has finished with the one before, so that a crisis can happen between a plan and its execution.
//!
//! Invariants: a crisis ends only when nobody is short or liquidatable, every transaction is final and every episode closed;
//! who paid how much is known beforehand, worked out by hand; the daemon's account of it equals the chain's.
//! Must not: repair anything itself.

mod expectations;
pub mod faults;
mod faulty_node;
mod interrupted;
mod play;
mod pooled;
mod settings;
mod world;

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicU32,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use futures_util::{StreamExt, future::BoxFuture, stream};

use super::postgres::{Durability, ThrowAwayPostgres};
use crate::{figures::Figures, types::U256};

/// Longest a crisis may take.
const CRISIS_WITHIN: Duration = Duration::from_secs(180);

/// What to play.
#[derive(Clone, Debug)]
pub struct CrisesOptions {
    /// Only those whose name contains this.
    pub only: Option<String>,
    /// How many at once.
    pub at_once: usize,
    /// Where figures and the daemons' logs go.
    pub folder: PathBuf,
}

/// Where crises are played.
struct Arena {
    postgres: ThrowAwayPostgres,
    folder: PathBuf,
    /// Databases made so far: each has a name of its own.
    databases: AtomicU32,
}

/// One crisis.
struct Crisis {
    name: &'static str,
    /// What happens, in one sentence.
    story: &'static str,
    play: for<'a> fn(&'a Arena) -> BoxFuture<'a, Result<Outcome>>,
}

/// Who paid, settlement-token units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Paid {
    insurance_fund: U256,
    auto_deleverage: U256,
    shared_backstop: U256,
    socialise_loss: U256,
    /// Paid back of earlier losses.
    returned: U256,
}

/// What became of a crisis.
#[derive(Debug, Default)]
struct Outcome {
    blocks: u64,
    /// What should have been paid, and what was.
    expected: Paid,
    paid: Paid,
    transactions: usize,
    reverted: usize,
    /// What is wrong, in words.
    faults: Vec<String>,
}

/// Every crisis, in the order of the table.
fn crises() -> Vec<Crisis> {
    let crisis = |name, story, play| Crisis { name, story, play };
    let mut all: Vec<Crisis> = Vec::new();
    all.extend(expectations::CRISES.iter().map(|(name, story, play)| crisis(name, story, *play)));
    all.extend(interrupted::CRISES.iter().map(|(name, story, play)| crisis(name, story, *play)));
    all.extend(pooled::CRISES.iter().map(|(name, story, play)| crisis(name, story, *play)));
    all.extend(settings::CRISES.iter().map(|(name, story, play)| crisis(name, story, *play)));
    all
}

/// A crisis's name, its story and how it is played.
type Entry = (&'static str, &'static str, for<'a> fn(&'a Arena) -> BoxFuture<'a, Result<Outcome>>);

/// Plays the crises and prints their table. Fails if one of them did not end as it should.
pub async fn run(options: CrisesOptions) -> Result<()> {
    std::fs::create_dir_all(&options.folder).with_context(|| format!("create {}", options.folder.display()))?;
    let folder = std::path::absolute(&options.folder).context("find the folder of the scenarios")?;
    let started = Instant::now();
    let arena = Arena {
        postgres: ThrowAwayPostgres::start(Durability::Fast).await.context("start Postgres")?,
        folder,
        databases: AtomicU32::new(0),
    };
    let wanted = |crisis: &Crisis| options.only.as_ref().is_none_or(|only| crisis.name.contains(only.as_str()));
    let chosen: Vec<Crisis> = crises().into_iter().filter(wanted).collect();
    if chosen.is_empty() {
        bail!("no scenario has {:?} in its name", options.only.unwrap_or_default());
    }
    let played = stream::iter(chosen)
        .map(|crisis| played(&arena, crisis))
        .buffered(options.at_once.max(1))
        .inspect(|(crisis, outcome, seconds)| print!("{}", line(crisis, outcome, *seconds)))
        .collect::<Vec<_>>()
        .await;
    let faults: usize = played.iter().map(|(_, outcome, _)| outcome.faults.len()).sum();
    let path = arena.folder.join("scenarios.jsonl");
    figures(&played).write(&path).with_context(|| format!("write {}", path.display()))?;
    println!("\n  {} scenarios in {:.0} s; figures: {}", played.len(), started.elapsed().as_secs_f64(), shown(&path));
    if faults > 0 {
        bail!("{faults} fault(s) in the scenarios");
    }
    Ok(())
}

fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}

async fn played(arena: &Arena, crisis: Crisis) -> (Crisis, Outcome, f64) {
    let started = Instant::now();
    let failed = |why: String| Outcome { faults: vec![why], ..Outcome::default() };
    let outcome = match tokio::time::timeout(CRISIS_WITHIN, (crisis.play)(arena)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => failed(format!("{error:#}")),
        Err(_) => failed(format!("not over after {} s", CRISIS_WITHIN.as_secs())),
    };
    (crisis, outcome, started.elapsed().as_secs_f64())
}

fn line(crisis: &Crisis, outcome: &Outcome, seconds: f64) -> String {
    let paid = &outcome.paid;
    let by: Vec<String> = [
        ("fund", paid.insurance_fund),
        ("adl", paid.auto_deleverage),
        ("pool", paid.shared_backstop),
        ("social", paid.socialise_loss),
        ("paid back", paid.returned),
    ]
    .into_iter()
    .filter(|(_, amount)| !amount.is_zero())
    .map(|(who, amount)| format!("{who} {amount}"))
    .collect();
    let verdict = if outcome.faults.is_empty() { "balanced" } else { "FAULT" };
    let mut text = format!(
        "  {:<32} {verdict:<9} {:<40} {:>3} blocks {:>2} tx ({} reverted) {seconds:>5.1} s  {}\n",
        crisis.name,
        by.join(", "),
        outcome.blocks,
        outcome.transactions,
        outcome.reverted,
        crisis.story,
    );
    for fault in &outcome.faults {
        text += &format!("    FAULT  {fault}\n");
    }
    text
}

fn figures(played: &[(Crisis, Outcome, f64)]) -> Figures {
    let mut figures = Figures::default();
    for (crisis, Outcome { expected, paid, faults, .. }, _) in played {
        for (what, found, should) in [
            ("insurance_fund", paid.insurance_fund, expected.insurance_fund),
            ("auto_deleverage", paid.auto_deleverage, expected.auto_deleverage),
            ("shared_backstop", paid.shared_backstop, expected.shared_backstop),
            ("socialise_loss", paid.socialise_loss, expected.socialise_loss),
            ("returned", paid.returned, expected.returned),
        ] {
            figures.exactly(&format!("{}: {what}", crisis.name), found.to_string(), should.to_string());
        }
        figures.exactly(&format!("{}: faults", crisis.name), faults.len(), 0);
    }
    figures
}
