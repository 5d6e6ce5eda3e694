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

use super::Handle;

/// Leading bits of the fraction that a bucket distinguishes: 2⁻¹¹ to 2⁻¹² of the value.
const FRACTION_BITS: u32 = 11;
const SHIFT: u32 = 52 - FRACTION_BITS;
/// Buckets of a wheel.
const SPAN: i32 = 1024;
/// How far ahead a band may reach: half the wheel, so that a favourable move of the other half leaves it in place.
const REACH: i32 = SPAN / 2;
/// Entries that wait for their buckets.
const WAITING_MAX: usize = 256;

/// Which way a factor must go to hurt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adverse {
    Down,
    Up,
}

impl Adverse {
    /// What hurts a holding of this much.
    pub(super) fn to(quantity: f64) -> Self {
        if quantity > 0.0 { Self::Down } else { Self::Up }
    }

    /// Where a value stands on its wheel: positions fall as things get worse. `None`: nowhere.
    pub(super) fn position(self, value: f64) -> Option<i32> {
        // adding zero makes the negative zero positive
        let bits = (value + 0.0).to_bits().cast_signed();
        let ordered = bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed();
        let bucket = i32::try_from(ordered >> SHIFT).expect("invariant: 24 bits are left");
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
    /// The factor's value on the watch plane.
    Watch = 0,
    /// On the maintenance plane.
    Surplus = 1,
    /// On the equity plane.
    Equity = 2,
    /// Its equity value, for units whose shape holds only within bounds.
    Bounds = 3,
}

impl Watched {
    pub(super) const ALL: [Self; 4] = [Self::Watch, Self::Surplus, Self::Equity, Self::Bounds];
}

/// An entry that was met: the row, and the band it was entered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Met {
    pub(super) handle: Handle,
    pub(super) band: u32,
    pub(super) column: u16,
    pub(super) watched: Watched,
    pub(super) adverse: Adverse,
}

#[derive(Clone, Debug, Default)]
struct Wheel {
    position: i32,
    /// None yet while the waiting entries are all there are.
    buckets: Vec<Vec<Handle>>,
    waiting: Vec<(i32, Handle)>,
    entries: usize,
}

/// A position as a row remembers it; none of these is [`super::row::NO_BAND`].
fn band(position: i32) -> u32 {
    position.cast_unsigned() & 0x7fff_ffff
}

fn bucket_of(position: i32) -> usize {
    usize::try_from(position.rem_euclid(SPAN)).expect("invariant: a remainder is not negative")
}

impl Wheel {
    fn enter(&mut self, position: i32, handle: Handle) {
        self.entries += 1;
        self.waiting.push((position, handle));
        if self.waiting.len() >= WAITING_MAX {
            if self.buckets.is_empty() {
                self.buckets = vec![Vec::new(); usize::try_from(SPAN).expect("invariant: positive")];
            }
            for (position, handle) in self.waiting.drain(..) {
                self.buckets[bucket_of(position)].push(handle);
            }
        }
    }

    /// Moves to another position and takes out what lies on the way, or what it has left too far behind.
    fn advance(&mut self, to: Option<i32>, is_worse: bool, mut met: impl FnMut(Handle, u32)) {
        let from = self.position;
        let lowest = from - SPAN + 1;
        let on_the_way = match to {
            None => lowest..=from,
            Some(to) if to < from || (to == from && is_worse) => to.max(lowest)..=from,
            Some(to) => lowest..=(to - SPAN).min(from),
        };
        self.position = to.unwrap_or(from);
        for position in on_the_way.clone() {
            let Some(bucket) = self.buckets.get_mut(bucket_of(position)) else { break };
            self.entries -= bucket.len();
            bucket.drain(..).for_each(|handle| met(handle, band(position)));
        }
        let before = self.waiting.len();
        self.waiting.retain(|(position, handle)| {
            let is_met = on_the_way.contains(position);
            if is_met {
                met(*handle, band(*position));
            }
            !is_met
        });
        self.entries -= before - self.waiting.len();
    }
}

/// All wheels of a store.
#[derive(Clone, Debug, Default)]
pub(super) struct Bands {
    wheels: Vec<Option<Box<Wheel>>>,
    entries: usize,
}

fn wheel_of(column: u16, watched: Watched, adverse: Adverse) -> usize {
    (usize::from(column) * Watched::ALL.len() + watched as usize) * 2 + adverse as usize
}

impl Bands {
    /// A factor moved, as seen by one plane. What it met on its way is out of the wheels.
    pub(super) fn advance(&mut self, column: u16, watched: Watched, old: f64, new: f64, met: &mut Vec<Met>) {
        for adverse in [Adverse::Down, Adverse::Up] {
            let Some(Some(wheel)) = self.wheels.get_mut(wheel_of(column, watched, adverse)) else { continue };
            if wheel.entries == 0 {
                continue;
            }
            let before = wheel.entries;
            wheel.advance(adverse.position(new), adverse.is_worse(old, new), |handle, band| {
                met.push(Met { handle, band, column, watched, adverse });
            });
            self.entries -= before - wheel.entries;
        }
    }

    /// The band of a threshold while the factor is at `now`, both on the watched plane; `None` where either is no number.
    /// Not entered yet.
    pub(super) fn band(&mut self, key: (u16, Watched, Adverse), now: f64, threshold: f64) -> Option<Band> {
        let wheel = wheel_of(key.0, key.1, key.2);
        let position = key.2.position(now)?;
        if self.wheels.len() <= wheel {
            self.wheels.resize_with(wheel + 1, || None);
        }
        let at = self.wheels[wheel].get_or_insert_default();
        if at.entries == 0 {
            at.position = position;
        }
        let ahead = at.position.min(position);
        let position = key.2.position(threshold)?.min(ahead).max(ahead - REACH);
        Some(Band { wheel, position })
    }

    /// Enters a row.
    pub(super) fn enter(&mut self, band: Band, handle: Handle) {
        let Some(wheel) = self.wheels[band.wheel].as_mut() else { return };
        wheel.enter(band.position, handle);
        self.entries += 1;
    }

    /// Entries there are, those left behind included.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Heap bytes.
    pub(super) fn bytes(&self) -> usize {
        let of = |wheel: &Wheel| {
            let waiting = wheel.waiting.capacity() * size_of::<(i32, Handle)>();
            let buckets: usize = wheel.buckets.iter().map(|bucket| bucket.capacity() * size_of::<Handle>()).sum();
            size_of::<Wheel>() + wheel.buckets.capacity() * size_of::<Vec<Handle>>() + buckets + waiting
        };
        self.wheels.capacity() * size_of::<usize>() + self.wheels.iter().flatten().map(|wheel| of(wheel)).sum::<usize>()
    }
}

/// A place in a wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Band {
    wheel: usize,
    position: i32,
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
            let key = (7, Watched::Watch, adverse);
            let mut bands = Bands::default();
            let band = bands.band(key, start, threshold).unwrap();
            bands.enter(band, Handle(1));
            let mut now = start;
            for step in steps {
                let next = now + now.abs() * step;
                let mut met = Vec::new();
                bands.advance(7, Watched::Watch, now, next, &mut met);
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
        let band = bands.band((2, Watched::Surplus, Adverse::Down), 100.0, 50.0).unwrap();
        bands.enter(band, Handle(1));
        assert!(bands.band((2, Watched::Surplus, Adverse::Down), f64::NAN, 50.0).is_none());
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
