//! Safe bands: where each factor may go before which rows must be looked at.
//!
//! A row splits what keeps it at its level over its legs as a budget. While no factor has moved against a leg by more than
//! the leg's share, the row's watched plane cannot have changed its sign, so nobody looks. A leg's share, over its
//! quantity, is a distance of the factor; where it ends is the leg's threshold.
//!
//! Thresholds of one factor, plane and direction are kept in a *wheel*: buckets by the leading bits of the threshold, which
//! for a float is a grid of about 0.05 %. A factor that moves adversely empties the buckets on its way, its own included, so
//! rounding a threshold to a bucket only ever means looking too early. The wheel spans half an octave to either side; a band
//! that reaches further ends there. Entries of rows that have moved on are left behind and dropped when met.
//!
//! Invariant: every watched leg of every row has an entry in the bucket its `band` names, and that bucket is one the factor
//! has yet to empty.
//! Must not: know a row.

use super::{Handle, Level, table::is_short};

/// Leading bits of the fraction that a bucket distinguishes: 2⁻¹¹ to 2⁻¹² of the value.
const FRACTION_BITS: u32 = 11;
const SHIFT: u32 = 52 - FRACTION_BITS;
/// Buckets of a wheel.
const SPAN: i64 = 1024;
const BUCKETS: usize = 1024;
/// How far ahead a band may reach: half the wheel, so that a favourable move of the other half leaves it in place.
const REACH: i64 = SPAN / 2;

/// Which way a factor must go to hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adverse {
    Down,
    Up,
}

impl Adverse {
    /// What hurts the holders who read this column.
    pub(super) fn to(column: u16) -> Self {
        if is_short(usize::from(column)) { Self::Up } else { Self::Down }
    }

    /// Where a value stands on its wheel: positions fall as things get worse. `None`: nowhere.
    pub(super) fn position(self, value: f64) -> Option<i64> {
        // adding zero makes the negative zero positive
        let bits = (value + 0.0).to_bits().cast_signed();
        let ordered = bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed();
        let bucket = ordered >> SHIFT;
        value.is_finite().then_some(if self == Self::Down { bucket } else { -bucket })
    }

    fn is_worse(self, old: f64, new: f64) -> bool {
        if self == Self::Down { new < old } else { new > old }
    }
}

/// What a threshold is a threshold of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Watched {
    /// The factor's value on the maintenance plane.
    Surplus = 0,
    /// On the equity plane.
    Equity = 1,
    /// Its equity value, for units whose shape holds only within bounds.
    Bounds = 2,
}

impl Watched {
    pub(super) const ALL: [Self; 3] = [Self::Surplus, Self::Equity, Self::Bounds];

    /// What is watched of a row at this level: the plane whose sign would make it worse.
    pub(super) fn at(level: Level) -> Option<Self> {
        match level {
            Level::Clear => Some(Self::Surplus),
            Level::Liquidatable => Some(Self::Equity),
            Level::Bankrupt => None,
        }
    }

    /// A factor's value on the watched plane.
    pub(super) fn of(self, [equity, surplus]: [f64; 2]) -> f64 {
        if self == Self::Surplus { surplus } else { equity }
    }
}

/// An entry that was met: the row, and the band it was entered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) handle: Handle,
    pub(super) band: u32,
    pub(super) column: u16,
    pub(super) watched: Watched,
}

/// Handles of one bucket, or a part of them: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Block {
    /// The bucket's next block, or the next free one; [`NO_BLOCK`] at the end.
    next: u32,
    len: u32,
    handles: [Handle; BLOCK_HANDLES],
}

const BLOCK_HANDLES: usize = 14;
const NO_BLOCK: u32 = u32::MAX;
const WAITING_MAX: usize = 128;

/// Where all buckets keep their handles: blocks are taken and given back, never allocated one by one.
#[derive(Clone, Debug)]
struct Blocks {
    all: Vec<Block>,
    free: u32,
}

impl Default for Blocks {
    fn default() -> Self {
        Self { all: Vec::new(), free: NO_BLOCK }
    }
}

impl Blocks {
    /// Puts a handle into the bucket that begins at `head`.
    #[inline]
    fn push(&mut self, head: &mut u32, handle: Handle) {
        match self.all.get_mut(*head as usize) {
            Some(block) if (block.len as usize) < BLOCK_HANDLES => {
                block.handles[block.len as usize] = handle;
                block.len += 1;
            }
            _ => *head = self.begin(*head, handle),
        }
    }

    /// A block of one handle in front of `next`.
    fn begin(&mut self, next: u32, handle: Handle) -> u32 {
        let block = Block { next, len: 1, handles: [handle; BLOCK_HANDLES] };
        let place = self.free;
        if let Some(free) = self.all.get_mut(place as usize) {
            self.free = std::mem::replace(free, block).next;
            return place;
        }
        self.all.push(block);
        u32::try_from(self.all.len() - 1).ok().filter(|place| *place != NO_BLOCK).expect("invariant: rows have 27 bits")
    }

    /// Empties the bucket that begins at `head`; how many handles were in it.
    fn take(&mut self, head: &mut u32, mut met: impl FnMut(Handle)) -> usize {
        let (mut taken, mut at) = (0, std::mem::replace(head, NO_BLOCK));
        while let Some(block) = self.all.get_mut(at as usize) {
            block.handles.iter().take(block.len as usize).for_each(|handle| met(*handle));
            taken += block.len as usize;
            let next = std::mem::replace(&mut block.next, self.free);
            self.free = std::mem::replace(&mut at, next);
        }
        taken
    }
}

#[derive(Clone, Debug)]
struct Wheel {
    position: i64,
    /// First block by bucket.
    heads: Box<[u32; BUCKETS]>,
    entries: usize,
}

/// A position as a row remembers it. Positions have 24 bits; none is [`super::row::NO_BAND`].
#[expect(
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    reason = "wraps on purpose, and is undone by nobody"
)]
fn band(position: i64) -> u32 {
    position as u32 & 0x7fff_ffff
}

fn bucket_of(position: i64) -> usize {
    usize::try_from(position.rem_euclid(SPAN)).expect("invariant: a remainder is not negative")
}

impl Wheel {
    fn new() -> Self {
        Self { position: 0, heads: Box::new([NO_BLOCK; BUCKETS]), entries: 0 }
    }

    fn empty(&mut self, position: i64, blocks: &mut Blocks, met: &mut impl FnMut(Handle, u32)) {
        let head = &mut self.heads[bucket_of(position)];
        self.entries -= blocks.take(head, |handle| met(handle, band(position)));
    }

    /// Moves to another position and empties what lies on the way, or what it has left too far behind.
    fn advance(&mut self, to: Option<i64>, is_worse: bool, blocks: &mut Blocks, mut met: impl FnMut(Handle, u32)) {
        let from = self.position;
        let Some(to) = to else {
            return (from - SPAN + 1..=from).for_each(|position| self.empty(position, blocks, &mut met));
        };
        if to < from || (to == from && is_worse) {
            (to.max(from - SPAN + 1)..=from).rev().for_each(|position| self.empty(position, blocks, &mut met));
        } else {
            (from - SPAN + 1..=(to - SPAN).min(from)).for_each(|position| self.empty(position, blocks, &mut met));
        }
        self.position = to;
    }
}

/// All wheels of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Bands {
    wheels: Vec<Option<Wheel>>,
    blocks: Blocks,
    entries: usize,
    waiting: Vec<(Band, Handle)>,
}

fn wheel_of(column: u16, watched: Watched) -> usize {
    usize::from(column) * Watched::ALL.len() + watched as usize
}

impl Bands {
    /// A factor moved, as the readers of a column see it on one plane. What it met on its way is out of the wheels.
    pub(super) fn advance(&mut self, column: u16, watched: Watched, old: f64, new: f64, met: &mut Vec<Met>) {
        self.settle();
        let Some(Some(wheel)) = self.wheels.get_mut(wheel_of(column, watched)) else { return };
        if wheel.entries == 0 {
            return;
        }
        let (before, adverse) = (wheel.entries, Adverse::to(column));
        wheel.advance(adverse.position(new), adverse.is_worse(old, new), &mut self.blocks, |handle, band| {
            met.push(Met { handle, band, column, watched });
        });
        self.entries -= before - wheel.entries;
    }

    /// The band of a threshold while the factor is at `now`, both on the watched plane; `None` where either is no number.
    /// Not entered yet.
    pub(super) fn band(&mut self, column: u16, watched: Watched, now: f64, threshold: f64) -> Option<Band> {
        let (wheel, adverse) = (wheel_of(column, watched), Adverse::to(column));
        let position = adverse.position(now)?;
        if self.wheels.len() <= wheel {
            self.wheels.resize_with(wheel + 1, || None);
        }
        let at = self.wheels[wheel].get_or_insert_with(Wheel::new);
        if at.entries == 0 {
            at.position = position;
        }
        let ahead = at.position.min(position);
        let position = adverse.position(threshold)?.min(ahead).max(ahead - REACH);
        Some(Band { wheel, position })
    }

    /// Enters a row. Entries wait until there are enough of them for their buckets to be fetched side by side.
    pub(super) fn enter(&mut self, band: Band, handle: Handle) {
        self.waiting.push((band, handle));
        if self.waiting.len() == WAITING_MAX {
            self.settle();
        }
    }

    /// Puts what waits where it belongs.
    fn settle(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let bucket = |band: &Band| {
            self.wheels[band.wheel].as_ref().map_or(NO_BLOCK, |wheel| wheel.heads[bucket_of(band.position)])
        };
        let touched = self
            .waiting
            .iter()
            .map(|(band, _)| self.blocks.all.get(bucket(band) as usize).map_or(0, |block| block.len));
        std::hint::black_box(touched.fold(0, u32::wrapping_add));
        for (band, handle) in self.waiting.drain(..) {
            let Some(wheel) = self.wheels[band.wheel].as_mut() else { continue };
            self.blocks.push(&mut wheel.heads[bucket_of(band.position)], handle);
            wheel.entries += 1;
            self.entries += 1;
        }
    }

    /// Entries there are, those left behind included.
    pub(super) fn entries(&self) -> usize {
        self.entries + self.waiting.len()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Heap bytes.
    pub(super) fn bytes(&self) -> usize {
        let wheels = self.wheels.iter().flatten().count() * size_of::<[u32; BUCKETS]>();
        wheels + self.wheels.capacity() * size_of::<Option<Wheel>>() + self.blocks.all.capacity() * size_of::<Block>()
    }
}

/// A place in a wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Band {
    wheel: usize,
    position: i64,
}

impl Band {
    /// As a row remembers it.
    pub(super) fn word(self) -> u32 {
        band(self.position)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::scanner::{FactorIndex, columns::table::column};

    fn number() -> impl Strategy<Value = f64> {
        (any::<bool>(), -300i32..300, 1.0..10.0).prop_map(|(negative, exponent, lead): (bool, i32, f64)| {
            let magnitude = lead * 10f64.powi(exponent);
            if negative { -magnitude } else { magnitude }
        })
    }

    proptest! {
        #[test]
        fn positions_fall_as_values_get_worse(a in number(), b in number()) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(Adverse::Down.position(low) <= Adverse::Down.position(high));
            prop_assert!(Adverse::Up.position(low) >= Adverse::Up.position(high));
        }

        /// Whatever the walk, an entry has been met by the time its threshold is crossed.
        #[test]
        fn no_threshold_is_crossed_unmet(
            up in any::<bool>(),
            start in number(),
            reach in 0.0..3.0f64,
            steps in prop::collection::vec(-0.4..0.4f64, 1..30),
        ) {
            let adverse = if up { Adverse::Up } else { Adverse::Down };
            let threshold = if up { start + start.abs() * reach } else { start - start.abs() * reach };
            let column = column(FactorIndex(7), if up { -1.0 } else { 1.0 }).unwrap();
            let mut bands = Bands::default();
            let band = bands.band(column, Watched::Surplus, start, threshold).unwrap();
            bands.enter(band, Handle(1));
            let mut now = start;
            for step in steps {
                let next = now + now.abs() * step;
                let mut met = Vec::new();
                bands.advance(column, Watched::Surplus, now, next, &mut met);
                now = next;
                if !met.is_empty() {
                    prop_assert_eq!(met[0].band, band.word());
                    break;
                }
                prop_assert!(!adverse.is_worse(threshold, now), "{now} is beyond {threshold}, unmet");
            }
        }
    }

    #[test]
    fn a_factor_that_is_no_number_meets_everything() {
        let mut bands = Bands::default();
        let band = bands.band(2, Watched::Surplus, 100.0, 50.0).unwrap();
        bands.enter(band, Handle(1));
        assert!(bands.band(2, Watched::Surplus, f64::NAN, 50.0).is_none());
        let mut met = Vec::new();
        bands.advance(2, Watched::Surplus, 100.0, f64::NAN, &mut met);
        assert_eq!((met.len(), bands.entries()), (1, 0));
    }

    #[test]
    fn a_bucket_is_about_a_twentieth_of_a_percent() {
        let position = |value| Adverse::Down.position(value).unwrap();
        assert_eq!(position(1.0), position(1.0004));
        assert!(position(1.0) < position(1.0005));
        assert!(position(-1.0) < position(-0.9995) && position(-0.0) == position(0.0));
    }
}
