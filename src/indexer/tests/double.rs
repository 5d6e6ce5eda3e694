//! An adapter of a made-up protocol, and a store in memory that can be told to fail.
//!
//! The protocol: a word `[SET, unit, cash]` puts a unit, `[WATCH, 12 zero bytes.., address]` adds an emitter,
//! `[UNKNOWN]` is an event the adapter does not know, `[BROKEN]` is one it refuses.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    indexer::CacheStore,
    positions::{Book, Delta, Draft, RecordKey, Snapshot, Unit},
    protocols::{Adapter, Applied, ApplyError, BuildError, Disposition, Manifest, Parties, Probe, Read, Refusal},
    recovery::{Effect, SegmentCase, Step},
    scanner::{Drivers, Factors, Planes, ScanReport, Standing, Unvalued, Valuation},
    types::{Address, B256, BlockRef, Bytes, Call, CallOutcome, I256, Log, LogFilter, SegmentId, U256, UnitKey},
};

pub(super) const SET: u8 = 1;
pub(super) const WATCH: u8 = 2;
pub(super) const UNKNOWN: u8 = 3;
pub(super) const BROKEN: u8 = 4;

const WATCHED: u16 = 1;
const LAST_WORD: u16 = 2;
/// What reads found; record 0 at the block itself, record 1 at the first block that was read at.
const READ_WORD: u16 = 3;

/// The adapter: one contract known from the start, others as they are added.
pub(super) struct Double {
    pub(super) root: Address,
}

/// The words that logs and reads told last, and the first one that a read told.
pub(super) fn words(book: &Book) -> (U256, U256, U256) {
    let word = |kind, id| book.record(&RecordKey::numbered(kind, id)).map_or(U256::ZERO, |record| record[0]);
    (word(LAST_WORD, 0), word(READ_WORD, 0), word(READ_WORD, 1))
}

/// The cash of each unit, for comparisons.
pub(super) fn cash(book: &Book) -> BTreeMap<u8, i64> {
    book.units().map(|(key, unit)| (key.as_bytes()[0], i64::try_from(unit.cash).unwrap())).collect()
}

pub(super) fn key(id: u8) -> UnitKey {
    UnitKey::new(vec![id]).unwrap()
}

impl Adapter for Double {
    fn filter(&self, book: &Book) -> LogFilter {
        let watched = book.records_of(WATCHED).map(|(key, _)| Address::from_word(key.id));
        LogFilter::of(watched.chain([self.root]))
    }

    fn apply(&self, book: &Book, _block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
        let mut draft = Draft::new(book);
        let mut unknown_events = 0;
        for log in logs {
            let (tx_hash, log_index) = (log.tx_hash, log.log_index);
            let watched = RecordKey { kind: WATCHED, id: log.address.into_word() };
            if log.address != self.root && draft.record(&watched).is_none() {
                return Err(ApplyError::ForeignEmitter { emitter: log.address, tx_hash, log_index });
            }
            match log.data[0] {
                SET => {
                    let mut unit = Unit::new(SegmentId(0), Address::ZERO);
                    unit.cash = I256::try_from(log.data[2]).unwrap();
                    draft.set_unit(key(log.data[1]), Some(unit));
                }
                WATCH => {
                    let id = Address::from_slice(&log.data[12..]).into_word();
                    draft.set_record(RecordKey { kind: WATCHED, id }, Some(vec![]));
                }
                BROKEN => return Err(ApplyError::Malformed { tx_hash, log_index, what: "broken".to_owned() }),
                _ => unknown_events += 1,
            }
            if log.address == self.root {
                let word = U256::from_be_slice(&log.data);
                draft.set_record(RecordKey::numbered(LAST_WORD, 0), Some(vec![word]));
            }
        }
        Ok(Applied { delta: draft.finish(), unknown_events })
    }

    /// Round 0 reads the contract's word at every block, round 1 once more where that was never done.
    fn reads(&self, book: &Book, _block: &BlockRef, round: u32) -> Vec<Read> {
        let record = RecordKey::numbered(READ_WORD, round.into());
        let wanted = round == 0 || (round == 1 && book.record(&record).is_none());
        if wanted { vec![Read { record, call: Call::new(self.root, Bytes::new()) }] } else { vec![] }
    }

    fn absorb(&self, book: &Book, _: &BlockRef, answers: &[(Read, CallOutcome)]) -> Result<Delta, ApplyError> {
        let mut draft = Draft::new(book);
        for (read, answer) in answers {
            let CallOutcome::Returned(word) = answer else { return Err(ApplyError::Answer("a revert".to_owned())) };
            draft.set_record(read.record, Some(vec![U256::from_be_slice(word)]));
        }
        Ok(draft.finish())
    }

    /// One probe a unit: the contract's word is the one the cache saw last.
    fn probes(&self, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
        let word = snapshot.book.record(&RecordKey::numbered(LAST_WORD, 0)).map_or(U256::ZERO, |record| record[0]);
        let expected = Bytes::copy_from_slice(&word.to_be_bytes::<32>());
        let probe = |unit: &UnitKey| Probe {
            subject: unit.to_string(),
            call: Call::new(self.root, Bytes::new()),
            expected: expected.clone(),
        };
        units.iter().map(probe).collect()
    }

    fn manifest(&self, _keeper: Address) -> Manifest {
        Manifest {
            adapter: "double",
            contracts: vec![],
            roles: vec![],
            allowed_calls: vec![],
            tiers: vec![],
            guards: vec![],
        }
    }

    fn cases(&self, _: &Snapshot, _: &ScanReport, _: bool) -> BTreeMap<SegmentId, SegmentCase> {
        BTreeMap::new()
    }

    fn build(&self, _: &[Step], _: &Parties) -> Result<Call, BuildError> {
        Err(BuildError("nothing to build".to_owned()))
    }

    fn classify(&self, _: &[u8]) -> Refusal {
        Refusal { disposition: Disposition::Bug, reason: String::new() }
    }

    fn effects(&self, _: &Book, _: &[Log]) -> Vec<Effect> {
        vec![]
    }

    fn find_units(&self, _: &Book, _: &str) -> Vec<UnitKey> {
        vec![]
    }
}

impl Valuation for Double {
    fn factors(&self, _: &Snapshot) -> Result<Factors, Unvalued> {
        Ok(Factors::default())
    }

    fn drivers(&self, _: &Snapshot) -> Result<Drivers, Unvalued> {
        Ok(Drivers::default())
    }

    fn planes(&self, _: &Snapshot, _: &Unit) -> Result<Planes, Unvalued> {
        Ok(Planes::default())
    }

    fn standing(&self, _: &Snapshot, _: &UnitKey, unit: &Unit) -> Result<Standing, Unvalued> {
        Ok(Standing { equity: unit.cash, maintenance_margin: U256::ZERO, surplus: unit.cash, health_factor_wad: None })
    }
}

#[derive(Default)]
struct Shelf {
    state: Mutex<Option<(BlockRef, Book)>>,
    commits: Mutex<Vec<u64>>,
    failing: AtomicBool,
}

/// A store as faithful as the port: a delta must fit, and the checkpoint does not go down.
#[derive(Clone, Default)]
pub(super) struct MemoryStore(Arc<Shelf>);

impl MemoryStore {
    pub(super) fn fail(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::SeqCst);
    }

    pub(super) fn state(&self) -> Option<(BlockRef, Book)> {
        self.0.state.lock().unwrap().clone()
    }

    /// Blocks committed so far, in order.
    pub(super) fn commits(&self) -> Vec<u64> {
        self.0.commits.lock().unwrap().clone()
    }

    /// Puts another hash on the checkpoint, as if it had been written on a branch that is gone.
    pub(super) fn move_to_another_branch(&self) {
        let mut state = self.0.state.lock().unwrap();
        state.as_mut().unwrap().0.hash = B256::repeat_byte(0xab);
    }

    fn check(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.0.failing.load(Ordering::SeqCst), "store is down");
        Ok(())
    }
}

impl CacheStore for MemoryStore {
    async fn load(&self) -> anyhow::Result<Option<(BlockRef, Book)>> {
        self.check()?;
        Ok(self.state())
    }

    async fn commit(&self, block: &BlockRef, delta: &Delta) -> anyhow::Result<()> {
        self.check()?;
        let mut state = self.0.state.lock().unwrap();
        let (at, mut book) = state.clone().map_or((None, Book::default()), |(at, book)| (Some(at), book));
        anyhow::ensure!(at.is_none_or(|at| at.number <= block.number), "checkpoint goes down");
        book.apply(delta)?;
        *state = Some((*block, book));
        self.0.commits.lock().unwrap().push(block.number);
        Ok(())
    }

    async fn reset(&self) -> anyhow::Result<()> {
        self.check()?;
        *self.0.state.lock().unwrap() = None;
        Ok(())
    }
}
