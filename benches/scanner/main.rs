//! The scanner's columns at a million units: every sweep against the time to read the same bytes, or against the full sweep,
//! in the same run. `cargo bench --bench scanner [-- --units N]`.
//!
//! The store is the one the daemon's scanner follows snapshots with, called as it calls it. Bars go to
//! `target/bench/scanner.jsonl`.

#![allow(missing_docs, unreachable_pub, reason = "a program of its own")]

mod naive;
mod population;
mod restart;

use std::{
    hint::black_box,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use backstop::{
    figures::Figures,
    positions::{Book, Delta, Draft, Unit},
    scanner::{
        Factors,
        columns::{Held, Level, Store},
    },
    types::UnitKey,
};

use crate::{
    naive::Naive,
    population::{Dice, FACTORS, factors, key, move_factor, shape, unit},
    restart::restart,
};

/// The default of `scanner.at_risk_health_factor_bps`.
const AT_RISK_BPS: u32 = 11_000;
/// How far the daemon lets factors move before it sweeps anew.
const SHARE: f64 = 0.01;
const TURNS: usize = 25;
const TICKS: usize = 8_000;
const SCENARIOS: usize = 64;
const CHANGES: usize = 10_000;
const COMMON: usize = 0;
const OTHER_BYTES: usize = 512 << 20;

fn main() -> Result<()> {
    let units = options()?;
    let mut figures = Figures::default();
    let market = Market::new(units);
    let before = resident_bytes()?;
    let loading = Instant::now();
    let mut store = market.store();
    let (loaded, resident) = (loading.elapsed(), resident_bytes()?.saturating_sub(before));
    println!(
        "{units} units of {FACTORS} factors: columns made in {:.0} ms, {:.0} bytes a unit resident, {:.0} of them counted\n",
        milliseconds(loaded),
        resident as f64 / units as f64,
        store.bytes() as f64 / units as f64
    );
    let (read, sweep) = full_sweep(&store);
    figures.at_most("scanner_full_sweep_over_reading_the_bytes_ratio", ratio(sweep, read), 1.5);
    let naive = naive_pass(&market);
    let tick = small_ticks(&market).p99;
    figures.at_most("scanner_tick_p99_over_full_sweep_ratio", ratio(tick, sweep), 1.0 / 200.0);
    let (large, share) = large_tick(&market);
    figures.at_most("scanner_large_tick_over_full_sweep_ratio", ratio(large, sweep), 3.0);
    figures.at_most("scanner_large_tick_unaffected_share", 1.0 - share, 0.98);
    let grid = stress_grid(&store);
    figures.at_most("scanner_grid_over_64_full_sweeps_ratio", ratio(grid, sweep) / SCENARIOS as f64, 0.35);
    let changes = changes(&market, &mut store)?;
    figures.at_most("scanner_10000_changes_over_full_sweep_ratio", ratio(changes, sweep), 2.0);
    figures.at_most("scanner_resident_bytes_per_unit", resident as f64 / units as f64, 200.0);
    let (of_sweep, of_tick) = exponents(units);
    figures.at_most("scanner_full_sweep_exponent", of_sweep, 1.2);
    figures.at_most("scanner_tick_exponent", of_tick, 1.0);
    let restart = restart(&market.units, |book| {
        let mut store = Store::with_room_for(book.unit_count(), &market.factors, AT_RISK_BPS);
        book.units().for_each(|(key, unit)| store.put(Held::of(key, unit), Some(&shape(unit))));
        black_box(store.columns().sweep(SHARE).len());
    })?;
    println!(
        "through Postgres: written at checkpoints in {:.1} s, read and scannable in {:.1} s; the same {:.0} MB copied out in \
         {:.1} s and in again in {:.1} s",
        restart.written.as_secs_f64(),
        restart.ready.as_secs_f64(),
        restart.bytes as f64 / 1e6,
        restart.copied_out.as_secs_f64(),
        restart.copied_in.as_secs_f64()
    );
    let (through, copied) = (restart.written + restart.ready, restart.copied_in + restart.copied_out);
    figures.at_most("scanner_snapshot_to_postgres_and_back_over_copying_ratio", ratio(through, copied), 3.0);
    figures.at_most(
        "scanner_restart_until_ready_over_copying_out_ratio",
        ratio(restart.ready, restart.copied_out),
        3.0,
    );
    println!(
        "\nfull sweep {:.2} ms; the naive pass takes {:.1} times as long",
        milliseconds(sweep),
        ratio(naive, sweep)
    );
    println!("\n{}", figures.table());
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    figures.write(&Path::new(&target).join("bench/scanner.jsonl"))?;
    if !figures.all_ok() {
        bail!("a bar is missed");
    }
    Ok(())
}

fn options() -> Result<u64> {
    let mut units = 1_000_000;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--units" => units = arguments.next().context("--units needs a number")?.parse()?,
            "--bench" => {}
            _ => bail!("unknown option {argument}: write --units NUMBER"),
        }
    }
    Ok(units)
}

/// The units and where factors start.
struct Market {
    factors: Factors,
    units: Vec<(UnitKey, Unit)>,
}

impl Market {
    fn new(units: u64) -> Self {
        let (factors, mut dice) = (factors(), Dice(42));
        let units = (0..units).map(|id| (key(id), unit(&factors, &mut dice))).collect();
        Self { factors, units }
    }

    fn store(&self) -> Store {
        let mut store = Store::with_room_for(self.units.len(), &self.factors, AT_RISK_BPS);
        for (key, unit) in &self.units {
            store.put(Held::of(key, unit), Some(&shape(unit)));
        }
        store
    }
}

/// The least time to read once what a sweep reads, and of a sweep.
fn full_sweep(store: &Store) -> (Duration, Duration) {
    let (columns, other) = (store.columns(), other_memory());
    let (mut read, mut sweep, mut raised) = (Duration::MAX, Duration::MAX, 0);
    for _ in 0..TURNS {
        read = read.min(timed_cold(&other, || columns.read()).0);
        let (time, found) = timed_cold(&other, || columns.sweep(SHARE));
        (sweep, raised) = (sweep.min(time), found.len());
    }
    println!(
        "full sweep: {:.1} MB read in {:.2} ms, swept in {:.2} ms; {raised} units are not certainly healthy within {:.0} %",
        columns.swept_bytes() as f64 / 1e6,
        milliseconds(read),
        milliseconds(sweep),
        SHARE * 100.0
    );
    (read, sweep)
}

fn naive_pass(market: &Market) -> Duration {
    let naive = Naive::of(&market.units, shape);
    (0..3).map(|_| timed(|| naive.pass(&market.factors).len()).0).min().unwrap_or_default()
}

/// Times of many ticks.
struct Ticks {
    mean: Duration,
    p99: Duration,
}

/// Ticks of 0.1 % up or down, each of one factor.
fn small_ticks(market: &Market) -> Ticks {
    let (mut store, mut factors, mut dice) = (market.store(), market.factors.clone(), Dice(7));
    let (mut times, mut looked_at) = (Vec::with_capacity(TICKS), 0);
    for _ in 0..TICKS {
        move_factor(&mut factors, dice.place(FACTORS), if dice.below(2) == 0 { 0.001 } else { -0.001 });
        let (time, tick) = timed(|| store.set_factors(&factors));
        times.push(time);
        looked_at += tick.looked_at;
    }
    times.sort_unstable();
    let (mean, p99) = (times.iter().sum::<Duration>() / TICKS as u32, times[TICKS * 99 / 100]);
    println!(
        "{TICKS} ticks of 0.1 % over {} units: mean {:.2} µs, p99 {:.2} µs, {:.1} units looked at",
        market.units.len(),
        mean.as_secs_f64() * 1e6,
        p99.as_secs_f64() * 1e6,
        looked_at as f64 / TICKS as f64
    );
    Ticks { mean, p99 }
}

/// The common collateral falls by 10 %: the least time until who is liquidatable stands in order, worst first; the share of
/// all units that is.
fn large_tick(market: &Market) -> (Duration, f64) {
    let (other, mut least, mut fallen, mut late) = (other_memory(), Duration::MAX, 0, Duration::MAX);
    for _ in 0..5 {
        let (mut store, mut factors) = (market.store(), market.factors.clone());
        move_factor(&mut factors, COMMON, -0.1);
        let (time, ranked) = timed_cold(&other, || {
            let tick = store.set_factors(&factors);
            let mut ranked = tick.worsened;
            ranked.retain(|fallen| fallen.level >= Level::Liquidatable);
            ranked.sort_unstable_by(|a, b| a.judged.surplus.total_cmp(&b.judged.surplus).then(a.row.cmp(&b.row)));
            ranked
        });
        (least, fallen) = (least.min(time), ranked.len());
        late = late.min(timed(|| store.catch_up()).0);
    }
    println!(
        "a tick of 10 %: {fallen} units in order in {:.2} ms; their bands made anew afterwards in {:.2} ms",
        milliseconds(least),
        milliseconds(late)
    );
    (least, fallen as f64 / market.units.len() as f64)
}

fn stress_grid(store: &Store) -> Duration {
    let scenario = |number: usize| {
        let mut factors = factors();
        (0..FACTORS).for_each(|factor| move_factor(&mut factors, factor, -0.01 * ((number + factor) % 40) as f64));
        factors
    };
    let table = store.columns().grid_of(&(0..SCENARIOS).map(scenario).collect::<Vec<_>>());
    let other = other_memory();
    let runs = (0..5).map(|_| timed_cold(&other, || store.columns().grid(&table, &mut |_, _, _| {})));
    let (time, sums) = runs.min_by_key(|run| run.0).unwrap_or_default();
    let worst = sums.iter().map(|sum| sum.liquidatable).max().unwrap_or_default();
    println!("{SCENARIOS} scenarios in {:.1} ms; the worst leaves {worst} units liquidatable", milliseconds(time));
    time
}

/// The least time to take over the changes of 10,000 units and move the factors.
fn changes(market: &Market, store: &mut Store) -> Result<Duration> {
    let (mut book, mut factors) = (Book::restore(market.units.iter().cloned(), []), market.factors.clone());
    let (mut least, mut found, mut late) = (Duration::MAX, Duration::MAX, Duration::MAX);
    let other = other_memory();
    for seed in 0..8 {
        let mut dice = Dice(100 + seed);
        let mut draft = Draft::new(&book);
        for _ in 0..CHANGES {
            draft.set_unit(key(dice.below(market.units.len() as u64)), Some(unit(&market.factors, &mut dice)));
        }
        let (before, delta) = (book.clone(), draft.finish());
        book.apply(&delta)?;
        let (time, net) = timed(|| before.changes_to(&book));
        found = found.min(time);
        move_factor(&mut factors, dice.place(FACTORS), 0.001);
        least = least.min(timed_cold(&other, || take_over(store, &net, &factors)).0);
        late = late.min(timed(|| store.catch_up()).0);
    }
    println!(
        "{CHANGES} changed units found between two snapshots in {:.2} ms, taken over in {:.2} ms, banded afterwards in {:.2} ms",
        milliseconds(found),
        milliseconds(least),
        milliseconds(late)
    );
    Ok(least)
}

fn take_over(store: &mut Store, delta: &Delta, factors: &Factors) {
    store.apply(delta, |_, unit| Some(shape(unit)));
    store.set_factors(factors);
}

/// Fitted powers of the number of units, over two orders of magnitude: of a full sweep's time, and of a tick's mean time.
fn exponents(most: u64) -> (f64, f64) {
    let other = other_memory();
    let points = [100, 10, 1].map(|part| {
        let market = Market::new(most / part);
        let store = market.store();
        let sweeps = (0..TURNS).map(|_| timed_cold(&other, || store.columns().sweep(SHARE)).0);
        let sweep = sweeps.min().unwrap_or_default().as_secs_f64();
        ((most / part) as f64, sweep, small_ticks(&market).mean.as_secs_f64())
    });
    let power = |value: fn(&(f64, f64, f64)) -> f64| {
        let logs = points.iter().map(|point| (point.0.ln(), value(point).ln()));
        let (x, y) = logs.clone().fold((0.0, 0.0), |sum, at| (sum.0 + at.0, sum.1 + at.1));
        let (x, y) = (x / points.len() as f64, y / points.len() as f64);
        let (over, under) =
            logs.fold((0.0, 0.0), |sum, at| (sum.0 + (at.0 - x) * (at.1 - y), sum.1 + (at.0 - x).powi(2)));
        over / under
    };
    (power(|point| point.1), power(|point| point.2))
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let started = Instant::now();
    let result = black_box(work());
    (started.elapsed(), result)
}

/// The same with nothing of it at hand, as in a daemon that does other things between two passes: more than any cache holds
/// for one process here is read before.
fn timed_cold<T>(other: &[u64], work: impl FnOnce() -> T) -> (Duration, T) {
    black_box(other.iter().fold(0u64, |sum, word| sum.wrapping_add(*word)));
    timed(work)
}

/// What [`timed_cold`] reads.
fn other_memory() -> Vec<u64> {
    vec![1; OTHER_BYTES / size_of::<u64>()]
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn ratio(time: Duration, other: Duration) -> f64 {
    time.as_secs_f64() / other.as_secs_f64()
}

/// Of this process, from `/proc`.
fn resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("the memory of this process")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS in /proc/self/status")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}
