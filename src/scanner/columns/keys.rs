//! Which row a unit is in: an open-addressing table from key to handle, and keys small enough to keep a million of them.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::types::UnitKey;

use super::Handle;

/// Longest key kept in place; a longer one is on the heap.
const INLINE_BYTES_MAX: usize = 30;

/// A unit key in 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PackedKey {
    Inline { len: u8, bytes: [u8; INLINE_BYTES_MAX] },
    Heap(Box<[u8]>),
}

impl PackedKey {
    pub(super) fn new(key: &UnitKey) -> Self {
        Self::of_bytes(key.as_bytes())
    }

    pub(super) fn of_bytes(given: &[u8]) -> Self {
        match u8::try_from(given.len()) {
            Ok(len) if given.len() <= INLINE_BYTES_MAX => {
                let mut bytes = [0; INLINE_BYTES_MAX];
                bytes[..given.len()].copy_from_slice(given);
                Self::Inline { len, bytes }
            }
            _ => Self::Heap(given.into()),
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Heap(bytes) => bytes,
        }
    }

    /// The key as everybody else knows it.
    pub(super) fn unit_key(&self) -> UnitKey {
        UnitKey::new(self.as_bytes().to_vec()).expect("invariant: it was made of a unit key")
    }
}

impl Default for PackedKey {
    fn default() -> Self {
        Self::Inline { len: 0, bytes: [0; INLINE_BYTES_MAX] }
    }
}

/// A key's hash. Without a secret: whoever grinds keys that collide pays for an account on chain for each, and gains a
/// longer probe.
pub(super) fn hash_of(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// Handle and the upper half of the hash in one word; [`EMPTY`] where there is none.
type Slot = u64;
const EMPTY: Slot = u64::MAX;

/// Key to handle, by linear probing. The keys themselves are with the rows.
#[derive(Clone, Debug, Default)]
pub(super) struct KeyIndex {
    /// A power of two of them, at most three quarters taken.
    slots: Vec<Slot>,
    len: usize,
}

fn slot(hash: u64, handle: Handle) -> Slot {
    (hash >> 32 << 32) | u64::from(handle.0)
}

fn handle(slot: Slot) -> Handle {
    Handle(u32::try_from(slot & u64::from(u32::MAX)).expect("invariant: masked to 32 bits"))
}

fn tag(slot: Slot) -> u64 {
    slot >> 32
}

impl KeyIndex {
    pub(super) fn with_room_for(units: usize) -> Self {
        let mut index = Self::default();
        index.resize(capacity_for(units));
        index
    }

    fn mask(&self) -> usize {
        self.slots.len() - 1
    }

    /// Where probing begins: the hash's upper half, so that a slot alone tells where it belongs.
    fn home(&self, tag: u64) -> usize {
        usize::try_from(tag).unwrap_or(usize::MAX) & self.mask()
    }

    fn position(&self, hash: u64, is_it: impl Fn(Handle) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let tag_wanted = hash >> 32;
        let mut at = self.home(tag_wanted);
        while self.slots[at] != EMPTY {
            if tag(self.slots[at]) == tag_wanted && is_it(handle(self.slots[at])) {
                return Some(at);
            }
            at = (at + 1) & self.mask();
        }
        None
    }

    /// The handle of the key with this hash for which `is_it`.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(Handle) -> bool) -> Option<Handle> {
        self.position(hash, is_it).map(|at| handle(self.slots[at]))
    }

    /// Puts a key that is not there yet.
    pub(super) fn insert(&mut self, hash: u64, new: Handle) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.resize(capacity_for(self.len + 1));
        }
        self.place(slot(hash, new));
        self.len += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.home(tag(slot));
        while self.slots[at] != EMPTY {
            at = (at + 1) & self.mask();
        }
        self.slots[at] = slot;
    }

    /// The key is in another row from now on.
    pub(super) fn replace(&mut self, hash: u64, old: Handle, new: Handle) {
        if let Some(at) = self.position(hash, |found| found == old) {
            self.slots[at] = slot(hash, new);
        }
    }

    /// Takes a key out and closes the gap it leaves.
    pub(super) fn remove(&mut self, hash: u64, old: Handle) {
        let Some(mut gap) = self.position(hash, |found| found == old) else { return };
        self.len -= 1;
        let mut at = gap;
        loop {
            at = (at + 1) & self.mask();
            let moved = self.slots[at];
            if moved == EMPTY {
                break;
            }
            // it may stand in the gap only if its home is not between the two
            let from_home = at.wrapping_sub(self.home(tag(moved))) & self.mask();
            let from_gap = at.wrapping_sub(gap) & self.mask();
            if from_home >= from_gap {
                self.slots[gap] = moved;
                gap = at;
            }
        }
        self.slots[gap] = EMPTY;
    }

    fn resize(&mut self, capacity: usize) {
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; capacity]);
        old.into_iter().filter(|slot| *slot != EMPTY).for_each(|slot| self.place(slot));
    }

    /// Heap bytes.
    pub(super) fn bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }
}

/// Slots for so many keys: at most three quarters are taken.
fn capacity_for(units: usize) -> usize {
    (units.max(6) * 4 / 3 + 1).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few distinct hashes, so that probes are long and gaps are closed over homes.
        #[test]
        fn it_behaves_like_a_map(deeds in prop::collection::vec((0u8..3, 0u32..40), 0..400)) {
            let hash = |key: u32| u64::from(key % 5) << 32 | 0xffff;
            let (mut index, mut model) = (KeyIndex::default(), BTreeMap::new());
            for (at, (deed, key)) in (0u32..).zip(deeds) {
                let known = model.get(&key).copied();
                let key_of = |h: Handle| model.iter().find(|(_, v)| **v == h).map(|(k, _)| *k);
                prop_assert_eq!(index.find(hash(key), |h| key_of(h) == Some(key)), known);
                match (deed, known) {
                    (0, None) => {
                        index.insert(hash(key), Handle(at));
                        model.insert(key, Handle(at));
                    }
                    (1, Some(old)) => {
                        index.remove(hash(key), old);
                        model.remove(&key);
                    }
                    (2, Some(old)) => {
                        index.replace(hash(key), old, Handle(at));
                        model.insert(key, Handle(at));
                    }
                    _ => {}
                }
            }
            for (key, wanted) in &model {
                prop_assert_eq!(index.find(hash(*key), |h| h == *wanted), Some(*wanted));
            }
        }
    }

    #[test]
    fn keys_of_every_length_come_back() {
        for len in [1, 24, 30, 31, 64] {
            let key = UnitKey::new(vec![7; len]).unwrap();
            assert_eq!(PackedKey::new(&key).unit_key(), key);
        }
        assert_eq!(size_of::<PackedKey>(), 32);
    }
}
