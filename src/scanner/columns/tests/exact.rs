//! No miss: ten million pairs of a unit and a move of a factor it holds, with changes and reorganisations in between.

use std::collections::BTreeMap;

use super::{
    super::{Handle, Level, Store},
    venue::{AT_RISK_BPS, Dice, Exact, MARKETS, Venue, key, random_unit, shape, trade},
};
use crate::{
    positions::{Book, Delta, Unit},
    types::{I256, UnitKey},
};

/// Pairs of (unit, move of a factor that it holds) that the long test looks at.
const PAIRS: usize = 10_000_000;
const UNITS: u64 = 3_000;

struct Run {
    dice: Dice,
    venue: Venue,
    book: Book,
    store: Store,
    past: Vec<Delta>,
    exact: BTreeMap<UnitKey, Exact>,
    pairs: usize,
    false_alarms: usize,
}

/// How bad a unit is in exact integers.
fn truth(exact: &Exact) -> Level {
    if exact.equity.is_negative() {
        Level::Bankrupt
    } else if exact.surplus.is_negative() {
        Level::Liquidatable
    } else if exact.watch().is_negative() {
        Level::AtRisk
    } else {
        Level::Clear
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let venue = Venue::new(&mut dice);
        let units: Vec<(UnitKey, Unit)> = (0..UNITS).map(|id| (key(id), random_unit(&venue, &mut dice))).collect();
        let book = Book::restore(units, []);
        let mut store = Store::new(&venue.factors(), AT_RISK_BPS);
        for (key, unit) in book.units() {
            store.put(super::super::Held::of(key, unit), Some(&shape(unit)));
        }
        let exact = book.units().map(|(key, unit)| (key.clone(), venue.exact(unit))).collect();
        Self { dice, venue, book, store, past: Vec::new(), exact, pairs: 0, false_alarms: 0 }
    }

    /// A block: units change, or some blocks are taken back.
    fn change(&mut self) {
        if self.dice.one_in(3) {
            for _ in 0..self.dice.below(4) {
                let Some(delta) = self.past.pop() else { break };
                self.book.undo(&delta).unwrap();
                self.store.undo(&delta, |_, unit| Some(shape(unit)));
            }
        } else {
            let delta = trade(&self.book, &self.venue, &mut self.dice, UNITS);
            self.book.apply(&delta).unwrap();
            self.store.apply(&delta, |_, unit| Some(shape(unit)));
            self.past.push(delta);
        }
        self.exact = self.book.units().map(|(key, unit)| (key.clone(), self.venue.exact(unit))).collect();
        assert_eq!(self.store.columns().units(), self.book.unit_count());
    }

    /// Prices move: by anything from nothing to tenfold, or to where some unit's sign is about to turn.
    fn tick(&mut self) {
        let mut moved = [false; MARKETS];
        if self.dice.one_in(3) {
            let unit = self.book.unit(&key(self.dice.below(UNITS))).cloned();
            let Some(unit) = unit.filter(|unit| !unit.legs.is_empty()) else { return };
            let leg = &unit.legs[usize::try_from(self.dice.below(unit.legs.len() as u64)).unwrap()];
            let price = self.venue.threshold(&unit, leg, self.dice.below(3));
            let offset = I256::try_from(self.dice.below(5)).unwrap() - I256::try_from(2).unwrap();
            self.set_price(leg.market.0 as usize, price + offset, &mut moved);
        } else {
            for _ in 0..self.dice.below(12) + 1 {
                let market = usize::try_from(self.dice.below(MARKETS as u64)).unwrap();
                let power = 10i128.pow(u32::try_from(self.dice.below(13)).unwrap());
                let parts = i128::from(self.dice.below(2_000)) - 1_000;
                let step = self.venue.prices[market] / super::venue::i(power) * super::venue::i(parts)
                    / super::venue::i(100);
                self.set_price(market, self.venue.prices[market] + step, &mut moved);
            }
        }
        self.store.set_factors(&self.venue.factors());
        for (key, unit) in self.book.units() {
            if unit.legs.iter().any(|leg| moved[leg.market.0 as usize]) {
                self.exact.insert(key.clone(), self.venue.exact(unit));
                self.pairs += 1;
            }
        }
    }

    fn set_price(&mut self, market: usize, price: I256, moved: &mut [bool; MARKETS]) {
        let most = super::venue::i(10i128.pow(30));
        self.venue.prices[market] = price.max(I256::ONE).min(most);
        moved[market] = true;
    }

    /// Nobody is worse than the store says.
    fn check(&mut self) {
        for (key, exact) in &self.exact {
            let handle = self.store.find(key).expect("every unit of the book is in the store");
            let (level, truth) = (stored_level(&self.store, handle), truth(exact));
            assert!(level >= truth, "unit {key} is {truth:?} and the store says {level:?}, after {} pairs", self.pairs);
            self.false_alarms += usize::from(level > truth);
        }
    }

    /// The full sweep finds the same, and what has healed is let go.
    fn check_sweep(&mut self) {
        let raised: BTreeMap<Handle, Level> =
            self.store.columns().sweep().into_iter().map(|raised| (raised.handle, raised.level)).collect();
        let hot = self.store.hot();
        for (key, exact) in &self.exact {
            let handle = self.store.find(key).unwrap();
            let truth = truth(exact);
            let swept = raised.get(&handle).copied().unwrap_or(Level::Clear);
            assert!(swept >= truth, "the sweep says {swept:?} of unit {key}, which is {truth:?}");
            let is_hot = hot.binary_search(&handle).is_ok();
            assert!(is_hot || truth == Level::Clear, "unit {key} is {truth:?} and not hot");
            assert!(!is_hot || swept > Level::Clear, "unit {key} is hot for no reason");
        }
        assert_eq!(self.store.columns().handles().count(), self.exact.len());
    }
}

fn stored_level(store: &Store, handle: Handle) -> Level {
    store.columns.rows(handle).view(handle.row()).level
}

fn run(seed: u64, pairs: usize) -> Run {
    let mut run = Run::new(seed);
    run.check_sweep();
    let mut step = 0u32;
    while run.pairs < pairs {
        if run.dice.one_in(4) {
            run.change();
        }
        run.tick();
        run.check();
        if step.is_multiple_of(16) {
            run.check_sweep();
        }
        step += 1;
    }
    run
}

#[test]
fn no_unit_is_missed_over_ten_million_moves_with_changes_and_reorganisations() {
    let run = run(0x5eed, PAIRS);
    assert!(run.pairs >= PAIRS);
    println!("{} pairs, 0 missed, {} stood a level too high at some check", run.pairs, run.false_alarms);
}

#[test]
fn other_seeds_miss_nothing_either() {
    for seed in 1..=8 {
        run(seed, 40_000);
    }
}
