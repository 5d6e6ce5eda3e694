//! The deleveraging policies side by side on one event: what each takes, from whom, and how long it thinks; the severity
//! forecast; a million winners. `cargo bench --bench recovery [-- --data FOLDER] [-- --seed N]`.
//!
//! Bars go to `target/bench/recovery.jsonl`. What decides them holds for any event: exact cover, the optimum computed
//! apart in the same run, times per candidate or against a sort in the same run.

#![allow(missing_docs, unreachable_pub, reason = "a program of its own")]

mod event;
mod generate;
mod money;
mod optimum;
mod round;
mod scale;
mod score;
mod severity;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use backstop::{
    figures::Figures,
    recovery::{AdlPolicy, MinMax, adl_policy, adl_policy_words},
};

use crate::{event::Event, round::Choice, score::Score};

/// The policy that a configuration names if it says nothing.
const DEFAULT: &dyn AdlPolicy = &MinMax;
const SEED: u64 = 20_251_010;
const TURNS: usize = 15;
/// The recorded event has 15,959 candidates, and 15 ms to be planned in.
const MICROSECONDS_PER_CANDIDATE_MAX: f64 = 15_000.0 / 15_959.0;

fn main() -> Result<()> {
    let event = match options()? {
        (Some(folder), _) => Event::read(&folder)?,
        (None, seed) => generate::event(seed),
    };
    println!(
        "{}: {} rounds, {} market-rounds, {} candidates, budget {:.0} USD\n",
        event.name,
        event.rounds.len(),
        event.markets(),
        event.rows(),
        event.budget_usd()
    );
    let mut figures = Figures::default();
    policies(&event, &mut figures);
    forecast(&event, &mut figures);
    let (plan, sort) = scale::million(DEFAULT);
    println!("1,000,000 winners: one plan {plan:.0} ms, sorting them by score {sort:.0} ms");
    figures.at_most("recovery_million_winners_plan_over_sort_ratio", plan / sort, 5.0);
    println!("\n{}", figures.table());
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    figures.write(&Path::new(&target).join("bench/recovery.jsonl"))?;
    if !figures.all_ok() {
        bail!("a bar is missed");
    }
    Ok(())
}

/// The folder of a recorded event, if one is given, and the seed of a generated one.
fn options() -> Result<(Option<PathBuf>, u64)> {
    let (mut folder, mut seed) = (None, SEED);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--data" => folder = Some(value()?.into()),
            "--seed" => seed = value()?.parse().context("--seed takes a number")?,
            "--bench" => {}
            _ => bail!("unknown option {argument}: write --data FOLDER or --seed NUMBER"),
        }
    }
    Ok((folder, seed))
}

fn policies(event: &Event, figures: &mut Figures) {
    let optimum = Score::of(event, &optimum::choice(event));
    let recorded: Choice = event
        .rounds
        .iter()
        .map(|round| round.markets.iter().map(|market| market.rows.iter().map(|row| row.recorded).collect()).collect())
        .collect();
    heading();
    row("(recorded)", &Score::of(event, &recorded), &optimum, None);
    row("(optimum, bisection)", &optimum, &optimum, None);
    let policies: Vec<&dyn AdlPolicy> = adl_policy_words().filter_map(adl_policy).collect();
    let (choices, times) = run(event, &policies);
    let (mut over, mut under) = (0.0, 0.0);
    for ((policy, choice), ms) in policies.iter().zip(&choices).zip(times) {
        let score = Score::of(event, choice);
        row(policy.name(), &score, &optimum, Some(ms));
        over += score.over;
        under += score.under;
        if policy.name() == DEFAULT.name() {
            let objective = score.objective(&optimum);
            figures.at_most("recovery_default_objective_usd", objective, 1.0);
            figures.at_most("recovery_default_burden", score.burden(), optimum.burden() + 1e-9);
            figures.at_most("recovery_default_accounts", score.accounts as f64, optimum.accounts as f64 - 1.0);
            figures.at_most("recovery_default_below_zero", score.below_zero as f64, optimum.below_zero as f64);
            let per_candidate = ms * 1e3 / event.rows() as f64;
            figures.at_most(
                "recovery_default_all_rounds_ms",
                ms,
                MICROSECONDS_PER_CANDIDATE_MAX * event.rows() as f64 / 1e3,
            );
            println!("  {:<22} {per_candidate:.2} µs a candidate", "");
        }
    }
    figures.exactly("recovery_all_policies_over_usd", over, 0.0);
    figures.exactly("recovery_all_policies_under_usd", under, 0.0);
    println!();
}

/// What every policy chooses, and the least milliseconds for all rounds, policies taken in turns.
fn run(event: &Event, policies: &[&dyn AdlPolicy]) -> (Vec<Choice>, Vec<f64>) {
    let mut times = vec![f64::MAX; policies.len()];
    let mut choices = vec![Choice::new(); policies.len()];
    for _ in 0..TURNS {
        for (index, policy) in policies.iter().enumerate() {
            let mut event = event.clone();
            let start = Instant::now();
            choices[index] = round::plan(*policy, &mut event);
            times[index] = times[index].min(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    (choices, times)
}

fn heading() {
    println!(
        "  {:<22} {:>8} {:>8} {:>11} {:>7} {:>12} {:>9} {:>6} {:>9} {:>8}",
        "policy", "over", "under", "H", "m", "L", "accounts", "below", "leverage", "ms"
    );
}

fn row(name: &str, score: &Score, optimum: &Score, ms: Option<f64>) {
    let ms = ms.map_or("-".to_owned(), |ms| format!("{ms:.1}"));
    println!(
        "  {name:<22} {:>8.2} {:>8.2} {:>11.0} {:>7.4} {:>12.2} {:>9} {:>6} {:>9.3} {ms:>8}",
        score.over,
        score.under,
        score.taken,
        score.burden(),
        score.objective(optimum),
        score.accounts,
        score.below_zero,
        score.leverage,
    );
}

fn forecast(event: &Event, figures: &mut Figures) {
    let ((ours, lost), baseline) = (severity::ours(&event.waves), severity::baseline(&event.waves));
    println!(
        "severity: {} waves lost {lost:.0} USD; Σ|provided − lost| {ours:.0}, EWMA(0.5) per coin {baseline:.0}",
        event.waves.len()
    );
    figures.at_most("recovery_severity_error_over_ewma_ratio", ours / baseline, 1.0);
}
