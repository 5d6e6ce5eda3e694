//! Adapters under anything that a log emitter or a node can say: nothing panics, what is refused leaves the book alone,
//! what is taken is the same when undone and done again.
//!
//! Few cases in the test run; `PROPTEST_CASES` asks for more, `make fuzz` for many.

use std::cell::Cell;

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};

use super::Adapter;
use crate::{
    positions::{Book, Snapshot},
    scanner::{ScanReport, ScanSettings, Scanner, scan},
    types::{Address, B256, BlockRef, Bytes, CallOutcome, Log, U256, UnitKey},
};

/// What is thrown at an adapter.
pub(super) struct Target<'a> {
    pub(super) adapter: &'a dyn Adapter,
    /// Where every case begins.
    pub(super) snapshot: Snapshot,
    /// First topics of the events that the adapter decodes.
    pub(super) events: Vec<[u8; 32]>,
    /// Words that mean something here: accounts, tokens, ids.
    pub(super) words: Vec<B256>,
}

const SCAN: ScanSettings = ScanSettings { at_risk_health_factor_bps: 11_000 };

/// A log as numbers: emitter, first topic, further topics, data words, bytes after them.
type Said = (usize, usize, Vec<B256>, Vec<B256>, Vec<u8>);

impl Target<'_> {
    /// Runs the cases. Fails if hardly any block of logs was taken: then the test would show nothing. One adapter takes two in a
    /// hundred, so the few cases of a test run would now and then miss by chance the bar that many are held to.
    pub(super) fn withstands_anything(&self) {
        let config = Config { failure_persistence: None, ..Config::default() };
        let (taken, cases) = (Cell::new(0u32), Cell::new(0u32));
        let logs = vec(vec(self.said(), 1..4), 1..4);
        let answers = vec(self.answer(), 64);
        TestRunner::new(config)
            .run(&(logs, answers, vec(any::<u8>(), 0..100)), |(blocks, answers, revert)| {
                let mut snapshot = self.snapshot.clone();
                let mut scanner = Scanner::new(SCAN);
                scanner.scan(self.adapter, &snapshot);
                for said in blocks {
                    cases.set(cases.get() + 1);
                    taken.set(taken.get() + u32::from(self.block(&mut snapshot, &mut scanner, &said, &answers)?));
                }
                self.adapter.classify(&revert);
                Ok(())
            })
            .unwrap();
        println!("{} blocks of logs, {} taken", cases.get(), taken.get());
        let one_in = if cases.get() < 10_000 { 1_000 } else { 100 };
        assert!(taken.get() > cases.get() / one_in, "{} of {} blocks taken", taken.get(), cases.get());
    }

    fn word(&self) -> BoxedStrategy<B256> {
        let amount = (0u32..40, 0u64..10_000).prop_map(|(tens, x)| {
            B256::from(U256::from(x).saturating_mul(U256::from(10).saturating_pow(U256::from(tens))))
        });
        prop_oneof![
            4 => select(self.words.clone()),
            4 => amount,
            1 => Just(B256::repeat_byte(0xff)),
            1 => Just(B256::ZERO),
            1 => any::<[u8; 32]>().prop_map(B256::from),
        ]
        .boxed()
    }

    fn said(&self) -> BoxedStrategy<Said> {
        let rest = prop_oneof![9 => Just(Vec::new()), 1 => vec(any::<u8>(), 1..40)];
        (any::<usize>(), any::<usize>(), vec(self.word(), 0..4), vec(self.word(), 0..12), rest).boxed()
    }

    fn answer(&self) -> BoxedStrategy<CallOutcome> {
        let bytes = |words: Vec<B256>| Bytes::from(words.concat());
        prop_oneof![
            8 => self.word().prop_map(|word| CallOutcome::Returned(word.0.into())),
            2 => vec(self.word(), 0..12).prop_map(move |words| CallOutcome::Returned(bytes(words))),
            1 => vec(any::<u8>(), 0..70).prop_map(|bytes| CallOutcome::Returned(bytes.into())),
            1 => vec(any::<u8>(), 0..70).prop_map(|bytes| CallOutcome::Reverted(bytes.into())),
        ]
        .boxed()
    }

    /// One block of logs with its reads; whether it was taken.
    fn block(
        &self,
        snapshot: &mut Snapshot,
        scanner: &mut Scanner,
        said: &[Said],
        answers: &[CallOutcome],
    ) -> Result<bool, TestCaseError> {
        let BlockRef { number, timestamp, .. } = snapshot.block;
        let block = BlockRef { number: number + 1, timestamp: timestamp + 12, ..snapshot.block };
        let emitters = self.adapter.filter(&snapshot.book).addresses;
        let logs: Vec<Log> = said.iter().enumerate().map(|(at, said)| self.log(&block, &emitters, at, said)).collect();
        self.adapter.effects(&snapshot.book, &logs);
        let applied = self.adapter.apply(&snapshot.book, &block, &logs);
        let Ok(applied) = applied else { return Ok(false) };
        let mut book = snapshot.book.clone();
        book.apply(&applied.delta).expect("a delta of this book");
        let mut undone = book.clone();
        undone.undo(&applied.delta).expect("a delta of this book");
        prop_assert!(undone == snapshot.book);
        prop_assert_eq!(&self.adapter.apply(&undone, &block, &logs).expect("taken before").delta, &applied.delta);
        self.read(&mut book, &block, answers);
        *snapshot = Snapshot { block, book };
        let report = self.value(snapshot);
        prop_assert_eq!(scanner.scan(self.adapter, snapshot).findings, report.findings, "who follows finds the same");
        Ok(true)
    }

    fn log(&self, block: &BlockRef, emitters: &[Address], at: usize, said: &Said) -> Log {
        let (emitter, event, topics, words, rest) = said;
        let first = B256::from(self.events[event % self.events.len()]);
        Log {
            address: emitters[emitter % emitters.len()],
            topics: std::iter::once(first).chain(topics.iter().copied()).collect(),
            data: [words.concat(), rest.clone()].concat().into(),
            block_number: block.number,
            block_hash: block.hash,
            tx_hash: B256::with_last_byte(1),
            log_index: at as u64,
        }
    }

    /// Reads with any answers. What is refused leaves the rest unread.
    fn read(&self, book: &mut Book, block: &BlockRef, answers: &[CallOutcome]) {
        for round in 0..super::READ_ROUNDS_MAX {
            let reads = self.adapter.reads(book, block, round);
            let answered: Vec<_> = reads.into_iter().zip(answers.iter().cycle().cloned()).collect();
            let Ok(delta) = self.adapter.absorb(book, block, &answered) else { return };
            book.apply(&delta).expect("a delta of this book");
        }
    }

    /// Everything that looks at the state.
    fn value(&self, snapshot: &Snapshot) -> ScanReport {
        let units: Vec<UnitKey> = snapshot.book.units().map(|(key, _)| key.clone()).collect();
        self.adapter.probes(snapshot, &units);
        self.adapter.allowed_calls(&snapshot.book, Address::ZERO);
        let _ = self.adapter.factors(snapshot);
        for (key, unit) in snapshot.book.units() {
            let _ = self.adapter.planes(snapshot, unit);
            let _ = self.adapter.standing(snapshot, key, unit);
        }
        let report = scan(self.adapter, snapshot, &SCAN);
        self.adapter.cases(snapshot, &report, true);
        report
    }
}
