//! Water-filling in whole lots, exactly: of all lots that could be taken, those at the lowest levels.
//!
//! An account's n-th lot lies at level (start + n · step) / weight. With start 0, step the loss of a lot and weight the
//! equity, the level is the part of its equity that the account has lost, and filling minimises the highest of them: the
//! capped form of the D'Hondt (Jefferson) method, which minimises max seats/votes (Balinski and Young, *Fair
//! Representation*, 1982; linear-time search as in Cheng and Eppstein, *Linear-time algorithms for proportional
//! apportionment*, 2014).
//!
//! Without lots the level is where Σ clamp(level · weight − start, 0, lots_max · step) meets the demand: a sum of hinges,
//! found by selection in linear time. Rounding down there leaves each account less than one lot short; half a lot each is
//! asked for more, and the few lots still missing or too many are mended from a heap: O(n log n) at worst, O(n) as a
//! rule. All in integers; the outcome is the set of the lowest lots in the order (level, unit key), wherever the search
//! began.

use std::{cmp::Ordering, collections::BinaryHeap};

use alloy::primitives::{U256, U512};

use super::{Burden, Candidate, Demand};
use crate::types::UnitKey;

/// Money above this many bits is scaled down, all alike, so that no product below exceeds 512 bits: with lots of 64
/// bits, starts and ends have 215, the sums of 2^24 of them 239, their products with a sum of weights 413.
const MONEY_BITS: usize = 150;

/// One account.
#[derive(Clone, Copy, Debug)]
struct Ramp {
    start: U256,
    weight: U256,
    lots_max: u64,
}

/// A level: at / weight, weight > 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    at: U256,
    weight: U256,
}

impl Level {
    fn order(&self, other: &Self) -> Ordering {
        product(self.at, other.weight).cmp(&product(other.at, self.weight))
    }

    pub(super) fn max(self, other: Self) -> Self {
        if self.order(&other).is_lt() { other } else { self }
    }
}

/// All accounts of a demand.
#[derive(Debug)]
pub(super) struct Ramps<'a> {
    candidates: &'a [Candidate],
    ramps: Vec<Ramp>,
    step: U256,
    /// Lots of the demand, and by how many bits money is scaled down.
    lots: U256,
    scale: usize,
}

impl<'a> Ramps<'a> {
    /// By what an account pays, of a base: its n-th lot lies at (borne + n · loss / lots) / base. Everything is taken
    /// times the lots of the demand, so that levels of one demand compare in integers.
    pub(super) fn by_loss(
        demand: &Demand<'a>,
        borne: impl Fn(&Candidate) -> U256,
        base: impl Fn(&Candidate) -> U256,
    ) -> Self {
        let unscaled = demand.candidates.iter().map(|c| (borne(c), base(c), whole(c.lots_max)));
        let mut ramps: Vec<Ramp> = unscaled.map(|(start, weight, lots_max)| Ramp { start, weight, lots_max }).collect();
        let scale = scale(&ramps, demand.loss);
        for ramp in &mut ramps {
            if !ramp.start.is_zero() {
                ramp.start = (ramp.start >> scale) * demand.lots;
            }
            if scale > 0 {
                ramp.weight >>= scale;
            }
        }
        let step = (demand.loss >> scale).max(U256::ONE);
        Self { candidates: demand.candidates, ramps, step, lots: demand.lots, scale }
    }

    /// By lots that stay open, of the equity: what may be kept above what cannot be taken.
    pub(super) fn by_remainder(demand: &Demand<'a>) -> Self {
        let ramp = |c: &Candidate| Ramp {
            start: c.lots.saturating_sub(c.lots_max),
            weight: c.equity,
            lots_max: whole(c.lots_max),
        };
        let mut ramps: Vec<Ramp> = demand.candidates.iter().map(ramp).collect();
        let scale = scale(&ramps, U256::ZERO);
        ramps.iter_mut().for_each(|ramp| ramp.weight >>= scale);
        Self { candidates: demand.candidates, ramps, step: U256::ONE, lots: demand.lots, scale }
    }

    /// The level of a burden.
    pub(super) fn level(&self, burden: Burden) -> Level {
        let bits = burden.paid.bit_len().max(burden.equity.bit_len());
        let scale = self.scale + bits.saturating_sub(self.scale + MONEY_BITS);
        Level { at: (burden.paid >> scale) * self.lots, weight: (burden.equity >> scale).max(U256::ONE) }
    }

    /// The lots at the lowest levels, of each account. Accounts without weight give only what nobody else can, in the
    /// order of their keys.
    pub(super) fn fill(&self, lots: U256) -> Vec<u64> {
        let weighty = self.ramps.iter().filter(|ramp| !ramp.weight.is_zero());
        let total = weighty.fold(U256::ZERO, |sum, ramp| sum + U256::from(ramp.lots_max));
        let all = |ramp: &Ramp| if ramp.weight.is_zero() { 0 } else { ramp.lots_max };
        if lots < total {
            let mut taken = if lots.is_zero() { vec![0; self.ramps.len()] } else { self.up_to(self.near(lots, total)) };
            self.mend(&mut taken, lots);
            return taken;
        }
        // Of accounts together it may be more than 64 bits.
        let (mut taken, mut left): (Vec<u64>, _) = (self.ramps.iter().map(all).collect(), lots - total);
        let mut last: Vec<usize> =
            (0..taken.len()).filter(|i| !left.is_zero() && self.ramps[*i].weight.is_zero()).collect();
        last.sort_unstable_by_key(|i| &self.candidates[*i].unit);
        for i in last {
            taken[i] = self.ramps[i].lots_max.min(left.saturating_to());
            left -= U256::from(taken[i]);
        }
        taken
    }

    /// The lots of each account up to and including a level: ⌊(level · weight − start) / step⌋ within its limits.
    pub(super) fn up_to(&self, level: Level) -> Vec<u64> {
        let each = product(level.weight, self.step);
        // Lots per weight, in 2^-128, rounded down: one division for all.
        let slope = U256::checked_from_limbs_slice(((U512::from(level.at) << 128_usize) / each).as_limbs());
        let lots = |ramp: &Ramp| {
            if ramp.start.is_zero()
                && let Some(lots) = slope.and_then(|slope| fraction_of(slope, ramp.weight))
            {
                return lots.min(ramp.lots_max);
            }
            let room = product(level.at, ramp.weight).saturating_sub(product(level.weight, ramp.start));
            (room / each).saturating_to::<u64>().min(ramp.lots_max)
        };
        self.ramps.iter().map(lots).collect()
    }

    /// The highest level among lots taken: 0 when none are, or only of accounts without weight.
    pub(super) fn highest(&self, taken: &[u64]) -> Level {
        let rungs = (0..).zip(taken).filter(|(_, lots)| **lots > 0).filter_map(|(i, lots)| self.rung(i, *lots));
        let highest = rungs.max_by(|a, b| self.order(a, b));
        highest.map_or(Level { at: U256::ZERO, weight: U256::ONE }, |rung| self.level_of(&rung))
    }

    /// An account's lot; 0 is where it begins. `None` without weight.
    fn rung(&self, index: usize, lots: u64) -> Option<Rung> {
        let ramp = &self.ramps[index];
        let at = if lots == 0 { ramp.start } else { ramp.start + times(self.step, lots) };
        (!ramp.weight.is_zero()).then(|| Rung { rank: rank(at, ramp.weight), lots, index })
    }

    fn level_of(&self, rung: &Rung) -> Level {
        let ramp = &self.ramps[rung.index];
        Level { at: ramp.start + times(self.step, rung.lots), weight: ramp.weight }
    }

    /// Exact: ranks decide where they are further apart than their error, products where they are not.
    fn order(&self, a: &Rung, b: &Rung) -> Ordering {
        if a.rank.abs_diff(b.rank) > RANK_ERROR {
            return a.rank.cmp(&b.rank);
        }
        self.level_of(a).order(&self.level_of(b))
    }

    /// A level at which rounding down gives about as many lots as asked, and no more apart than accounts. Of lots there
    /// are more than none and fewer than all.
    fn near(&self, lots: U256, total: U256) -> Level {
        let mut reached = Reached::default();
        let mut hinges = Vec::with_capacity(self.ramps.len());
        for (index, ramp) in self.ramps.iter().enumerate().filter(|(_, ramp)| ramp.lots_max > 0) {
            let Some(end) = self.rung(index, ramp.lots_max) else { continue };
            hinges.push(end);
            if ramp.start.is_zero() {
                reached.started.add(ramp, 0);
            } else {
                hinges.extend(self.rung(index, 0));
            }
        }
        let passed = self.search(&mut reached, &mut hinges, lots * self.step);
        let running = reached.started.count - reached.ended.count;
        let mass = (lots + U256::from(running / 2)).min(total) * self.step;
        self.search(&mut reached, &mut hinges[passed..], mass);
        reached.level(mass, self.step)
    }

    /// Passes the hinges at which less than the mass is given; returns how many. Those stand first afterwards.
    fn search(&self, reached: &mut Reached, hinges: &mut [Rung], mass: U256) -> usize {
        let (mut low, mut high) = (0, hinges.len());
        let (mut ranks, mut level, mut above) = (Vec::new(), Vec::new(), Vec::with_capacity(hinges.len()));
        while low < high {
            let open = &mut hinges[low..high];
            let pivot = median(open, &mut ranks);
            let mut below = 0;
            level.clear();
            above.clear();
            for index in 0..open.len() {
                let hinge = open[index];
                match self.order(&hinge, &pivot) {
                    Ordering::Less => {
                        open[below] = hinge;
                        below += 1;
                    }
                    Ordering::Equal => level.push(hinge),
                    Ordering::Greater => above.push(hinge),
                }
            }
            let through = below + level.len();
            open[below..through].copy_from_slice(&level);
            open[through..].copy_from_slice(&above);
            let under = reached.past(self, &open[..below]);
            if under.gives_at_least(self.level_of(&pivot), mass, self.step) {
                high = low + below;
            } else {
                (*reached, low) = (under.past(self, &level), low + through);
            }
        }
        low
    }

    /// Adds the next lots or gives back the last ones until there are as many as asked.
    fn mend(&self, taken: &mut [u64], lots: U256) {
        let sum = taken.iter().fold(U256::ZERO, |sum, lots| sum + U256::from(*lots));
        let adds = sum < lots;
        let mut apart = sum.abs_diff(lots).saturating_to::<usize>();
        if apart == 0 {
            return;
        }
        let next = |index: usize, taken: &[u64]| {
            let lots = if adds { taken[index].saturating_add(1) } else { taken[index] };
            if lots == 0 || lots > self.ramps[index].lots_max { None } else { self.rung(index, lots) }
        };
        let mut rungs = Vec::with_capacity(taken.len());
        rungs.extend((0..taken.len()).filter_map(|index| next(index, taken)));
        // Only accounts whose first lot is among as many as are wanted can be asked at all.
        let first = |a: &Rung, b: &Rung| if adds { a.rank.cmp(&b.rank) } else { b.rank.cmp(&a.rank) };
        if apart < rungs.len() {
            let last = rungs.select_nth_unstable_by(apart, first).1.rank;
            rungs.retain(|rung| if adds { rung.rank <= last + RANK_ERROR } else { rung.rank + RANK_ERROR >= last });
        }
        let turn = |rung: Rung| {
            let unit = &self.candidates[rung.index].unit;
            Turn { level: self.level_of(&rung), unit, index: rung.index, lowest_first: adds }
        };
        let mut turns: BinaryHeap<Turn<'_>> = rungs.into_iter().map(turn).collect();
        while apart > 0
            && let Some(Turn { index, .. }) = turns.pop()
        {
            taken[index] = if adds { taken[index] + 1 } else { taken[index] - 1 };
            apart -= 1;
            turns.extend(next(index, taken).map(turn));
        }
    }
}

/// One lot of one account, or where it begins (lots 0), with its level's rank.
#[derive(Clone, Copy, Debug)]
struct Rung {
    rank: u64,
    lots: u64,
    index: usize,
}

/// One of the hinges in the middle.
fn median(hinges: &[Rung], ranks: &mut Vec<u64>) -> Rung {
    ranks.clear();
    ranks.extend(hinges.iter().map(|hinge| hinge.rank));
    let middle = *ranks.select_nth_unstable(hinges.len() / 2).1;
    *hinges.iter().find(|hinge| hinge.rank == middle).unwrap_or(&hinges[0])
}

/// More than the ranks of two equal levels differ by: each is cut a few times by less than one.
const RANK_ERROR: u64 = 8;

/// About 2^52 · log2(at / weight), linear between powers of two, from the leading 64 bits of each; 0 for level 0.
fn rank(at: U256, weight: U256) -> u64 {
    if at.is_zero() {
        return 0;
    }
    let ((a, a_bits), (w, w_bits)) = (leading(at), leading(weight));
    // Both in 2^63..2^64, so the quotient in 2^62..2^64.
    let mut mantissa = (u128::from(a) << 63) / u128::from(w);
    let mut exponent = 512 + u64::from(a_bits) - u64::from(w_bits);
    if mantissa >> 63 == 0 {
        (mantissa, exponent) = (mantissa << 1, exponent - 1);
    }
    let fraction = (mantissa as u64) << 1 >> 12;
    exponent << 52 | fraction
}

/// The leading 64 bits of a number > 0, the first of them set, and how many bits there are in all.
fn leading(x: U256) -> (u64, u32) {
    let limbs = x.as_limbs();
    let top = (0..4).rev().find(|i| limbs[*i] != 0).unwrap_or_default();
    let shift = limbs[top].leading_zeros();
    let below = if top > 0 && shift > 0 { limbs[top - 1] >> (64 - shift) } else { 0 };
    (limbs[top] << shift | below, 64 * (top as u32 + 1) - shift)
}

/// Sums over the hinges passed, those that start and those that end: what all accounts give at a level follows.
#[derive(Clone, Copy, Debug, Default)]
struct Reached {
    started: Passed,
    ended: Passed,
}

/// Sums over some hinges: each lies at start + lots · step.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    start: U256,
    lots: u128,
    weight: U256,
    count: usize,
}

impl Passed {
    fn add(&mut self, ramp: &Ramp, lots: u64) {
        if !ramp.start.is_zero() {
            self.start += ramp.start;
        }
        self.lots += u128::from(lots);
        self.weight += ramp.weight;
        self.count += 1;
    }

    fn at(&self, step: U256) -> U256 {
        self.start + U256::from(self.lots) * step
    }
}

impl Reached {
    /// With these hinges passed, too.
    fn past(&self, ramps: &Ramps<'_>, hinges: &[Rung]) -> Self {
        let mut sums = *self;
        for hinge in hinges {
            let passed = if hinge.lots == 0 { &mut sums.started } else { &mut sums.ended };
            passed.add(&ramps.ramps[hinge.index], hinge.lots);
        }
        sums
    }

    fn gives_at_least(&self, level: Level, mass: U256, step: U256) -> bool {
        let slope = self.started.weight - self.ended.weight;
        let given = product(level.at, slope) + product(level.weight, self.ended.at(step));
        given >= product(level.weight, mass + self.started.at(step))
    }

    /// The level above the hinges passed at which this mass is given.
    fn level(&self, mass: U256, step: U256) -> Level {
        let at = mass + self.started.at(step) - self.ended.at(step);
        Level { at, weight: self.started.weight - self.ended.weight }
    }
}

/// Whose lot is taken or given back next: the greatest.
#[derive(Debug)]
struct Turn<'a> {
    level: Level,
    unit: &'a UnitKey,
    index: usize,
    lowest_first: bool,
}

impl Ord for Turn<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.level.order(&other.level).then_with(|| self.unit.cmp(other.unit));
        if self.lowest_first { order.reverse() } else { order }
    }
}

impl PartialOrd for Turn<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Turn<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Turn<'_> {}

/// ⌊exact · weight⌋ for an exact slope of which `slope` is the part above 2^-128. `None` where that is not enough to tell.
fn fraction_of(slope: U256, weight: U256) -> Option<u64> {
    if slope.bit_len() + weight.bit_len() >= 256 {
        // At least 2^254 in 2^-128: more than anybody's lots.
        return Some(u64::MAX);
    }
    let product = slope * weight;
    let ([low, next, lots, beyond], [w, w_next, 0, 0]) = (product.into_limbs(), weight.into_limbs()) else {
        return None;
    };
    // What the slope lacks adds less than the weight: does that reach the next lot?
    let wide = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
    wide(next, low).checked_add(wide(w_next, w))?;
    Some(if beyond > 0 { u64::MAX } else { lots })
}

/// By how many bits money must be scaled down.
fn scale(ramps: &[Ramp], money: U256) -> usize {
    let bits = ramps.iter().fold(money, |bits, ramp| bits | ramp.start | ramp.weight);
    bits.bit_len().saturating_sub(MONEY_BITS)
}

/// Lots, below 2^64 as a case is limited.
fn whole(lots: U256) -> u64 {
    lots.saturating_to()
}

/// A product known to fit.
fn times(amount: U256, lots: u64) -> U256 {
    let (mut limbs, mut carry) = (amount.into_limbs(), 0);
    for limb in &mut limbs {
        let sum = u128::from(*limb) * u128::from(lots) + carry;
        (*limb, carry) = (sum as u64, sum >> 64);
    }
    U256::from_limbs(limbs)
}

fn product(a: U256, b: U256) -> U512 {
    a.widening_mul(b)
}
