//! The way from the chain to the wire: against bare requests, against what a block holds, and against copying.
//! `cargo bench --bench executor`. Bars go to `target/bench/executor.jsonl`.

#![allow(missing_docs, unreachable_pub, reason = "a program of its own")]

mod ingest;
#[allow(dead_code, reason = "shared with the scanner's benchmark")]
#[path = "../scanner/population.rs"]
mod population;
#[path = "../scanner/restart.rs"]
mod restart;

use std::{
    hint::black_box,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use backstop::{
    demo::speed::{Crowd, Reactions, SpeedOptions, WORST, crowd, reactions},
    figures::Figures,
    positions::{Book, Unit},
    scanner::columns::{Held, Store},
    types::UnitKey,
};

use crate::{
    ingest::ingest,
    population::{Dice, factors, key, shape, unit},
    restart::{Restart, restart},
};

/// The default of `scanner.at_risk_health_factor_bps`.
const AT_RISK_BPS: u32 = 11_000;
const SHARE: f64 = 0.01;
const ROUNDS: usize = 100;
const LOGS_PER_SECOND_MIN: f64 = 300_000.0;

fn main() -> Result<()> {
    let options = options()?;
    let mut figures = Figures::default();
    if options.runs("ingest") {
        decoding(&mut figures)?;
    }
    if options.runs("postgres") {
        through_postgres(options.units, &mut figures)?;
    }
    let target = PathBuf::from(std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned()));
    let speed = SpeedOptions {
        executable: env!("CARGO_BIN_EXE_backstop").into(),
        folder: std::path::absolute(target.join("bench/executor")).context("the folder of the daemons' logs")?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    if options.runs("reaction") {
        reacting(runtime.block_on(reactions(&speed, ROUNDS))?, &mut figures);
    }
    if options.runs("crowd") {
        crowding(&runtime.block_on(crowd(&speed, options.crowd))?, &mut figures);
    }
    println!("\n{}", figures.table());
    figures.write(&Path::new(&target).join("bench/executor.jsonl"))?;
    if !figures.all_ok() {
        bail!("a bar is missed");
    }
    Ok(())
}

struct Options {
    units: u64,
    crowd: usize,
    only: Option<String>,
}

impl Options {
    fn runs(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

fn options() -> Result<Options> {
    let mut options = Options { units: 1_000_000, crowd: 10_000, only: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--units" => options.units = value()?.parse()?,
            "--crowd" => options.crowd = value()?.parse()?,
            "--only" => options.only = Some(value()?),
            "--bench" => {}
            _ => bail!(
                "unknown option {argument}: write --units NUMBER, --crowd NUMBER or --only ingest|postgres|reaction|crowd"
            ),
        }
    }
    Ok(options)
}

fn decoding(figures: &mut Figures) -> Result<()> {
    let ingested = ingest()?;
    let per_second = ingested.logs as f64 / ingested.time.as_secs_f64();
    println!(
        "{} logs decoded and applied in {:.2} s on one core: {per_second:.0} a second",
        ingested.logs,
        ingested.time.as_secs_f64()
    );
    figures.at_least("ingest_decode_and_apply_logs_per_second", per_second, LOGS_PER_SECOND_MIN);
    Ok(())
}

fn through_postgres(units: u64, figures: &mut Figures) -> Result<()> {
    let (factors, mut dice) = (factors(), Dice(42));
    let units: Vec<(UnitKey, Unit)> = (0..units).map(|id| (key(id), unit(&factors, &mut dice))).collect();
    let Restart { written, ready, copied_out, copied_in, bytes } = restart(&units, |book: &Book| {
        let mut store = Store::with_room_for(book.unit_count(), &factors, AT_RISK_BPS);
        book.units().for_each(|(key, unit)| store.put(Held::of(key, unit), Some(&shape(unit))));
        black_box(store.columns().sweep(SHARE).len());
    })?;
    println!(
        "{} units, {:.0} MB: written in {:.1} s and ready again in {:.1} s; copied in in {:.1} s and out in {:.1} s",
        units.len(),
        bytes as f64 / 1e6,
        written.as_secs_f64(),
        ready.as_secs_f64(),
        copied_in.as_secs_f64(),
        copied_out.as_secs_f64()
    );
    figures.at_least("ingest_rows_into_postgres_over_raw_copy_rate_ratio", ratio(copied_in, written), 0.5);
    figures.at_most("restart_until_ready_over_reading_the_bytes_ratio", ratio(ready, copied_out), 3.0);
    Ok(())
}

fn reacting(Reactions { mut reacted, mut bare }: Reactions, figures: &mut Figures) {
    reacted.sort_unstable();
    bare.sort_unstable();
    let of = |times: &[Duration], percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    for (what, times) in [("head to broadcast", &reacted), ("the bare requests", &bare)] {
        println!("{what}: p50 {:.1} ms, p99 {:.1} ms", milliseconds(of(times, 50)), milliseconds(of(times, 99)));
    }
    figures.at_most("reaction_p50_over_bare_requests_ratio", ratio(of(&reacted, 50), of(&bare, 50)), 2.0);
    figures.stated("reaction_p99_over_bare_requests_p50_ratio", ratio(of(&reacted, 99), of(&bare, 50)));
}

fn crowding(crowd: &Crowd, figures: &mut Figures) {
    println!(
        "{} accounts liquidatable at once: {} in the first block, all in {} blocks where their gas fills {}",
        crowd.accounts, crowd.in_first_block, crowd.blocks, crowd.blocks_forced
    );
    figures.exactly("crowd_worst_100_in_first_block", crowd.worst_in_first_block, WORST);
    figures.at_most("crowd_blocks_over_blocks_forced_ratio", crowd.blocks as f64 / crowd.blocks_forced as f64, 1.2);
    figures.exactly("crowd_reverted", crowd.reverted, 0);
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(time: Duration, other: Duration) -> f64 {
    time.as_secs_f64() / other.as_secs_f64()
}
