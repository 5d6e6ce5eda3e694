//! The whole pipeline, simulated: the real indexer, scanner, planner, executor and JSON-RPC client over a chain, a clock,
//! nodes and a journal in memory, every interleaving and every fault decided by a seed.
//!
//! A run has some time of trouble, then all is well and what was left must be mended within [`HEALTHY_BLOCKS_MAX`] blocks.
//! At every moment: what is stored of the cache is the chain; what is sent is durable, sent under the lease and not while
//! paused. In the end: each action at most one effect, the books of chain and journal equal, every want told.
//!
//! `BACKSTOP_SIM_SEEDS` and `BACKSTOP_SIM_FROM` say which seeds; `make sim` runs many. A seed plays the same every time.

mod chain;
mod journal;
mod judge;
mod node;
mod replica;
mod script;
mod tally;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{executor::PauseSwitch, figures::Figures, types::U256};
use judge::Judge;
use replica::{Meters, Replica, Surroundings, keeper};
use script::{BLOCK_TIME, Event, PLENTY, Script};
use tally::{Deed, MARGINAL_FROM};
use world::World;

/// Blocks of health within which everything must be mended and final, finality's depth not counted.
const HEALTHY_BLOCKS_MAX: u64 = 40;

/// What a seed came to.
struct Outcome {
    violations: Vec<String>,
    trace: Vec<String>,
    /// Blocks of health that it took.
    mended_after: u64,
    /// How often each kind of event happened.
    events: BTreeMap<String, u64>,
}

/// Plays a seed, on a clock of its own.
fn play(seed: u64) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async { Stage::new(seed).run().await })
}

/// A run under way.
struct Stage {
    around: Surroundings,
    replicas: Vec<(Replica, u64)>,
    /// What ends at which block.
    ends: BTreeMap<u64, Vec<Event>>,
    judge: Judge,
    events: BTreeMap<String, u64>,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let script = Arc::new(Script::of(seed));
        let around = Surroundings {
            world: Arc::new(Mutex::new(World::new(keeper(), U256::from(script.balance)))),
            script,
            alerts: Arc::default(),
            meters: Meters::new(),
            switch: PauseSwitch::default(),
        };
        let replicas = (0..around.script.replicas).map(|index| (Replica::start(&around, index, 0), 0)).collect();
        let judge = Judge::new(Arc::clone(&around.world), Arc::clone(&around.alerts), around.script.finality_depth > 4);
        Self { around, replicas, ends: BTreeMap::new(), judge, events: BTreeMap::new() }
    }

    async fn run(mut self) -> Outcome {
        let script = Arc::clone(&self.around.script);
        let mut block = 0;
        while block < script.trouble {
            for event in script.events.get(&block).into_iter().flatten() {
                self.happen(block, event);
            }
            self.end_due(block);
            self.turn().await;
            block += 1;
        }
        self.heal();
        let limit = HEALTHY_BLOCKS_MAX + 2 * script.finality_depth;
        let mut mended_after = 0;
        while mended_after < limit && self.judge.open().is_some() {
            self.turn().await;
            mended_after += 1;
        }
        if let Some(open) = self.judge.open() {
            self.violated(format!("after {limit} blocks of health: {open}"));
        }
        self.judge.audit();
        let world = self.around.world.lock().unwrap();
        let (violations, trace) = (world.violations.clone(), world.trace.clone());
        Outcome { violations, trace, mended_after, events: self.events }
    }

    /// One block, and time for the replicas to look at it.
    async fn turn(&mut self) {
        self.around.world.lock().unwrap().chain.mine();
        tokio::time::sleep(BLOCK_TIME).await;
        for index in 0..self.replicas.len() {
            if self.replicas[index].0.is_dead() {
                let life = self.replicas[index].1 + 1;
                self.replicas[index] = (Replica::start(&self.around, index, life), life);
            }
        }
        if self.replicas.iter().all(|(replica, _)| replica.is_idle()) {
            self.judge.excuse();
        }
        let well = self.ends.is_empty();
        self.judge.look(well);
    }

    fn violated(&self, what: String) {
        self.around.world.lock().unwrap().violated(what);
    }

    fn happen(&mut self, block: u64, event: &Event) {
        let mut world = self.around.world.lock().unwrap();
        world.note(format!("{event:?}"));
        match event {
            Event::Deed(deed) => world.chain.do_next(deed.clone()),
            Event::Node(endpoint, fault, _) => drop(world.node_faults.insert(*endpoint, *fault)),
            Event::Journal(fault, _) => world.journal_fault = Some(*fault),
            Event::BaseFee(wei, _) => {
                world.chain.base_fee = *wei;
                world.chain.drop_underpriced();
            }
            Event::Pause(_) => {
                self.around.switch.pause("an operator's wish");
                world.paused = true;
            }
            Event::Censor(blocks) => world.chain.censored_until = world.chain.tip().at.number + blocks,
            Event::Forget => world.chain.forget(),
            Event::Intrude => world.chain.intrude(),
            Event::Reorganise { depth, forgotten } => {
                world.chain.reorganise(*depth, *forgotten);
                self.judge.reorganised();
            }
            Event::Kill(replica, polls) => {
                self.replicas[*replica].0.kill_after(*polls);
                self.judge.excuse();
            }
            Event::Hold(replica, span) => {
                self.replicas[*replica].0.hold(*span);
                self.judge.excuse();
            }
        }
        if let Some(blocks) = event.lasts_blocks() {
            self.ends.entry(block + blocks).or_default().push(event.clone());
        }
        *self.events.entry(event.word()).or_default() += 1;
    }

    fn end_due(&mut self, block: u64) {
        let later = self.ends.split_off(&(block + 1));
        for event in std::mem::replace(&mut self.ends, later).into_values().flatten() {
            self.end(&event);
        }
    }

    fn end(&self, event: &Event) {
        let mut world = self.around.world.lock().unwrap();
        match event {
            Event::Node(endpoint, ..) => drop(world.node_faults.remove(endpoint)),
            Event::Journal(..) => world.journal_fault = None,
            Event::BaseFee(..) => world.chain.base_fee = 1_000,
            Event::Pause(_) => {
                world.paused = false;
                self.around.switch.resume();
            }
            _ => {}
        }
    }

    /// From now on all is well.
    fn heal(&mut self) {
        for event in std::mem::take(&mut self.ends).into_values().flatten() {
            self.end(&event);
        }
        self.replicas.iter().for_each(|(replica, _)| replica.spare());
        let mut world = self.around.world.lock().unwrap();
        world.note("all is well");
        world.chain.censored_until = 0;
        let poisoned = world.chain.tip().tally.poisoned.clone();
        let healed = poisoned.into_iter().map(|unit| Deed::Poison { unit, poisoned: false });
        let funded = [Deed::Fund { by: 1_000_000 }, Deed::Gift { wei: PLENTY }];
        healed.chain(funded).for_each(|deed| world.chain.do_next(deed));
    }
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// What many seeds came to.
#[derive(Default)]
struct Total {
    violated: Vec<(u64, Outcome)>,
    events: BTreeMap<String, u64>,
    /// By seed, blocks of health until all was mended; sorted.
    mended_after: Vec<u64>,
}

/// Plays seeds on every core.
fn play_many(first: u64, count: u64, stop_at_first: bool) -> Total {
    let next = AtomicU64::new(first);
    let total = Mutex::new(Total::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let play_on = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return;
            }
            let outcome = play(seed);
            let mut total = total.lock().unwrap();
            for (name, count) in &outcome.events {
                *total.events.entry(name.clone()).or_default() += count;
            }
            total.mended_after.push(outcome.mended_after);
            if !outcome.violations.is_empty() {
                total.violated.push((seed, outcome));
                if stop_at_first {
                    next.store(first + count, Ordering::Relaxed);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(play_on);
        }
    });
    let mut total = total.into_inner().unwrap();
    total.violated.sort_by_key(|(seed, _)| *seed);
    total.mended_after.sort_unstable();
    total
}

#[test]
fn whatever_fails_nothing_is_lost_and_nothing_is_done_twice() {
    let (first, count) = (number("BACKSTOP_SIM_FROM", 1), number("BACKSTOP_SIM_SEEDS", 100));
    let began = std::time::Instant::now();
    let Total { violated, events, mended_after: mended } = play_many(first, count, number("BACKSTOP_SIM_STOP", 0) == 1);
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!("{count} seeds from {first}: {events:?}");
    println!(
        "blocks of health until all was mended: p50 {}, p99 {}, max {}",
        at(&mended, 50),
        at(&mended, 99),
        at(&mended, 100)
    );
    let mut figures = Figures::default();
    figures.exactly("sim: seeds with a violation", violated.len(), 0);
    if count >= 10_000 {
        figures.at_most("sim: minutes for 10,000 seeds", minutes / count as f64 * 10_000.0, 10.0);
    }
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    figures.write(&Path::new(&target).join("sim/sim.jsonl")).unwrap();
    print!("{}", figures.table());
    for (seed, outcome) in violated.iter().take(20) {
        println!("seed {seed}, again with BACKSTOP_SIM_FROM={seed} BACKSTOP_SIM_SEEDS=1: {:#?}", outcome.violations);
    }
    if let Some((seed, outcome)) = violated.first() {
        println!("what happened in seed {seed}:\n{}", outcome.trace.join("\n"));
    }
    assert!(figures.all_ok());
}

fn at(sorted: &[u64], percent: usize) -> u64 {
    sorted[(sorted.len() - 1) * percent / 100]
}

#[test]
fn a_seed_plays_the_same_every_time() {
    for seed in [1, 7, 30, 44] {
        let (one, other) = (play(seed), play(seed));
        assert!(one.trace.len() > 50);
        assert_eq!(one.trace, other.trace, "seed {seed}");
    }
}

#[test]
fn scripts_have_every_kind_of_trouble_and_units_that_it_befalls() {
    let scripts: Vec<Script> = (1..200).map(Script::of).collect();
    let mut words = BTreeSet::new();
    for script in &scripts {
        let events = || script.events.values().flatten();
        words.extend(events().map(Event::word));
        let opened: BTreeSet<u8> = events()
            .filter_map(|event| if let Event::Deed(Deed::Open { unit, .. }) = event { Some(*unit) } else { None })
            .collect();
        for unit in [1, 2, MARGINAL_FROM, MARGINAL_FROM + 1, MARGINAL_FROM + 2] {
            assert!(opened.contains(&unit), "unit {unit} of seed {}", script.seed);
        }
    }
    assert_eq!(words.len(), 11, "{words:?}");
    assert!(scripts.iter().filter(|script| script.quorum == 2).count() > 10);
}
