//! Everything outside the replicas: chain, journal, leases, what is wrong with them now, and what was seen to be wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy::primitives::keccak256;
use tokio::time::Instant;

use super::{chain::Chain, node::NodeFault};
use crate::{
    executor::tests::journal::JournalState,
    journal::EpisodeId,
    positions::Book,
    scanner::Condition,
    types::{Address, BlockRef, SegmentId, U256, UnitKey},
};

/// What is wrong with the journal for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JournalFault {
    /// Nothing is done.
    Down,
    /// Now and then nothing is done, or it is done and the answer is lost.
    Shaky,
}

/// The lease's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseRow {
    pub(super) holder: usize,
    pub(super) epoch: u64,
    pub(super) expires_at: Instant,
}

/// The tables beside the executor's.
#[derive(Default)]
pub(super) struct Tables {
    pub(super) executor: JournalState,
    pub(super) cache: Option<(BlockRef, Book)>,
    pub(super) conditions: BTreeMap<UnitKey, Condition>,
    /// Every episode: whether it is open, and its segment.
    pub(super) episodes: BTreeMap<EpisodeId, (bool, SegmentId)>,
}

impl Tables {
    /// The segment's open episode, or a new one.
    pub(super) fn open_episode(&mut self, segment: SegmentId) -> EpisodeId {
        if let Some((id, _)) = self.episodes.iter().find(|(_, row)| **row == (true, segment)) {
            return *id;
        }
        let id = EpisodeId(self.episodes.len() as i64 + 1);
        self.episodes.insert(id, (true, segment));
        id
    }
}

pub(super) struct World {
    pub(super) chain: Chain,
    pub(super) tables: Tables,
    pub(super) lease: Option<LeaseRow>,
    /// By endpoint.
    pub(super) node_faults: BTreeMap<usize, NodeFault>,
    pub(super) journal_fault: Option<JournalFault>,
    /// Whether the operator has paused the deployment.
    pub(super) paused: bool,
    /// What was found to be wrong.
    pub(super) violations: Vec<String>,
    /// What happened when: to read, and to tell whether two runs are the same.
    pub(super) trace: Vec<String>,
    /// When the cache moved last.
    pub(super) cached_at: Instant,
    began: Instant,
}

impl World {
    pub(super) fn new(keeper: Address, balance: U256) -> Self {
        Self {
            chain: Chain::new(keeper, balance),
            tables: Tables::default(),
            lease: None,
            node_faults: BTreeMap::new(),
            journal_fault: None,
            paused: false,
            violations: vec![],
            trace: vec![],
            cached_at: Instant::now(),
            began: Instant::now(),
        }
    }

    pub(super) fn fault(&self, endpoint: usize) -> Option<NodeFault> {
        self.node_faults.get(&endpoint).copied()
    }

    /// Writes down what happened when.
    pub(super) fn note(&mut self, what: impl std::fmt::Display) {
        let at = self.began.elapsed().as_millis();
        self.trace.push(format!("{at:>7} {what}"));
    }

    pub(super) fn violated(&mut self, what: impl std::fmt::Display) {
        self.note(format!("VIOLATED: {what}"));
        self.violations.push(what.to_string());
    }

    /// A replica sends bytes. They must be durable, its lease must hold, and nobody may have paused it. What happens to
    /// them on their way is not its doing.
    pub(super) fn note_send(&mut self, replica: usize, raw: &[u8]) {
        let hash = keccak256(raw);
        let durable = self.tables.executor.holds(raw);
        self.note(format!("replica {replica} sends {hash}"));
        if !durable {
            self.violated(format!("{hash} is sent and not in the journal"));
        }
        let holds = self.lease.is_some_and(|lease| lease.holder == replica && Instant::now() < lease.expires_at);
        if !holds {
            self.violated(format!("replica {replica} sends without the lease"));
        }
        if self.paused {
            self.violated(format!("replica {replica} sends while paused"));
        }
    }

    /// A replica's cache moves. It must be the chain.
    pub(super) fn note_cache(&mut self, block: &BlockRef, book: &Book) {
        let known = self.chain.known.get(&block.hash).map(|(_, known)| Arc::clone(known));
        let wrong = match known {
            None => Some("no such block".to_owned()),
            Some(known) => known.tally.differs_from(book),
        };
        self.cached_at = Instant::now();
        self.note(format!("cache at {} {}", block.number, block.hash));
        if let Some(wrong) = wrong {
            self.violated(format!("the cache at block {} is not the chain: {wrong}", block.number));
        }
    }

    /// Units in distress at the tip that can be helped: the fund can pay, nobody poisoned them.
    pub(super) fn neglected(&self) -> BTreeSet<u8> {
        let tally = &self.chain.tip().tally;
        let payable = |unit: &u8| !tally.is_short(*unit) || tally.fund > 0;
        tally.distressed().into_iter().filter(|unit| !tally.poisoned.contains(unit)).filter(payable).collect()
    }
}
