//! draft
mod population;
use std::time::Instant;
use backstop::{positions::*, scanner::columns::*, types::*};
use population::*;

fn rss() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn main() {
    let n: u64 = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(1_000_000);
    let mut dice = Dice(42);
    let factors = factors();
    let units: Vec<(UnitKey, Unit)> = (0..n).map(|id| (key(id), unit(&factors, &mut dice))).collect();
    let before = rss();
    let t = Instant::now();
    let load = || { let mut store = Store::with_room_for(n as usize, &factors, AT_RISK_BPS);
    for (key, unit) in &units { store.put(Held::of(key, unit), Some(&shape(unit))); } store };
    let mut store = load();
    println!("load {:?} rss/unit {} heap {} ", t.elapsed(), (rss()-before) as f64 / n as f64, store.bytes() as f64 / n as f64);
    println!("hot {}", store.hot().len());
    let words = vec![1u64; store.columns().swept_bytes() / 8];
    let (mut best_sum, mut best_sweep) = (f64::MAX, f64::MAX);
    let mut raised = 0;
    for _ in 0..30 {
        let t = Instant::now();
        let sum: u64 = words.iter().fold(0u64, |a, b| a.wrapping_add(*b));
        best_sum = best_sum.min(t.elapsed().as_secs_f64());
        std::hint::black_box(sum);
        let t = Instant::now();
        raised = store.columns().sweep().len();
        best_sweep = best_sweep.min(t.elapsed().as_secs_f64());
    }
    println!("bytes {} MB sum {:.3} ms sweep {:.3} ms ratio {:.3} raised {raised}", words.len() / 131072, best_sum*1e3, best_sweep*1e3, best_sweep/best_sum);
    // ticks
    let mut ticks: Vec<f64> = Vec::new();
    let mut worst = 0; let mut total = 0;
    let runs = 4;
    for run in 0..runs {
        let mut s = load();
        let mut f = factors.clone();
        let mut d = Dice(7);
        for i in 0..4000 {
            let which = d.below(64) as usize;
            let share = if d.below(2) == 0 { 0.001 } else { -0.001 };
            f = moved(&f, which, share);
            let t = Instant::now();
            let tick = s.set_factors(&f);
            let e = t.elapsed().as_secs_f64();
            if run == 0 { ticks.push(e); total += tick.looked_at; worst = worst.max(tick.looked_at); } else { ticks[i] = ticks[i].min(e); }
        }
    }
    ticks.sort_by(f64::total_cmp);
    let p99 = ticks[ticks.len()*99/100];
    println!("tick p50 {:.2} us p99 {:.2} us max {:.2} looked mean {:.1} max {worst}; sweep/p99 {:.0}", ticks[ticks.len()/2]*1e6, p99*1e6, ticks.last().unwrap()*1e6, total as f64/4000.0, best_sweep/p99);
    // big tick
    for _ in 0..3 {
        let mut s = load();
        let f = moved(&factors, 0, -0.1);
        let t = Instant::now();
        let tick = s.set_factors(&f);
        let e = t.elapsed().as_secs_f64();
        let liq = tick.worsened.iter().filter(|w| w.1 >= Level::Liquidatable).count();
        println!("big tick {:.3} ms = {:.2} sweeps, looked {} worsened {} liquidatable {} = {:.2} %", e*1e3, e/best_sweep, tick.looked_at, tick.worsened.len(), liq, liq as f64*100.0/n as f64);
    }
    // grid
    let scenarios: Vec<_> = (0..64).map(|s| { let mut f = factors.clone(); for k in 0..64 { f.equity[k] *= 1.0 - 0.01 * ((s+k)%40) as f64; f.maintenance[k] *= 1.0 - 0.01 * ((s+k)%40) as f64; } f }).collect();
    let table = store.columns().grid_of(&scenarios);
    let mut best = f64::MAX;
    for _ in 0..5 { let t = Instant::now(); std::hint::black_box(store.columns().grid(&table)); best = best.min(t.elapsed().as_secs_f64()); }
    println!("grid {:.1} ms, per 64 sweeps {:.3}", best*1e3, best/(64.0*best_sweep));
    // deltas
    let book = Book::restore(units.iter().cloned(), []);
    let mut best = f64::MAX;
    let mut s = load();
    let mut book2 = book.clone();
    for r in 0..6 {
        let mut draft = Draft::new(&book2);
        let mut d = Dice(100 + r);
        for _ in 0..10_000 { draft.set_unit(key(d.below(n)), Some(unit(&factors, &mut d))); }
        let delta = draft.finish();
        book2.apply(&delta).unwrap();
        let t = Instant::now();
        s.apply(&delta, |_, u| Some(shape(u)));
        let e = t.elapsed().as_secs_f64();
        if r > 0 { best = best.min(e); }
    }
    println!("10k deltas {:.3} ms = {:.2} sweeps", best*1e3, best/best_sweep);
}
