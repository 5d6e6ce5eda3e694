//! The indexer on a real chain, with a small adapter and a store that fails on demand.

mod double;

use std::{collections::BTreeMap, sync::Arc};

use prometheus::Registry;

use super::{CacheStore, IndexError, Indexer, IndexerMetrics, IndexerSettings, Progress};
use crate::{
    chain::{
        ErrorClass, RpcError,
        fixture::{NOTEBOOK, TestChain, connect, settings, word},
    },
    positions::Snapshot,
    types::{Address, Bytes, CallOutcome, U256},
};
use double::{BROKEN, Double, MemoryStore, SET, UNKNOWN, WATCH, cash, key, words};

const DEPTH_MAX: u64 = 4;

/// A chain with the protocol's contract in block 1, and an empty store.
struct Scene {
    chain: TestChain,
    root: Address,
    store: MemoryStore,
    registry: Registry,
}

impl Scene {
    async fn start() -> Self {
        let chain = TestChain::start().await;
        let root = chain.deploy(NOTEBOOK).await;
        Self { chain, root, store: MemoryStore::default(), registry: Registry::new() }
    }

    /// An indexer as a freshly started process has it.
    async fn indexer(&mut self) -> Indexer<MemoryStore> {
        self.registry = Registry::new();
        let metrics = IndexerMetrics::new(&self.registry).unwrap();
        let settings = IndexerSettings {
            start_block: 1,
            reorg_depth_max: DEPTH_MAX,
            backfill_chunk_blocks: 5,
            audit_every_blocks: 2,
            audit_units: 2,
        };
        let meter = metrics.for_deployment(&"test".parse().unwrap());
        let adapter = Arc::new(Double { root: self.root });
        let mut indexer = Indexer::new(self.chain.rpc.clone(), adapter, self.store.clone(), settings, meter);
        indexer.restore().await.unwrap();
        indexer
    }

    /// Sets a unit's cash in a block of its own.
    async fn set(&self, unit: u8, cash: u8) {
        self.chain.send_now(self.root, word(&[SET, unit, cash])).await;
    }

    fn metric(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let metric = &family.get_metric()[0];
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }
}

fn shown(indexer: &Indexer<MemoryStore>) -> Option<Arc<Snapshot>> {
    indexer.snapshots().borrow().clone()
}

/// The published cache is the stored one, at the head, and holds exactly these units.
async fn assert_at_head(scene: &Scene, indexer: &Indexer<MemoryStore>, units: &[(u8, i64)]) {
    let snapshot = shown(indexer).expect("published");
    assert_eq!(snapshot.block, scene.chain.rpc.head().await.unwrap());
    assert_eq!(cash(&snapshot.book), BTreeMap::from_iter(units.iter().copied()));
    let (logged, read, _) = words(&snapshot.book);
    assert_eq!(read, logged, "what was read at the block is what its logs say");
    assert_eq!(scene.store.state().unwrap(), (snapshot.block, snapshot.book.clone()));
}

#[tokio::test]
async fn it_follows_the_chain_block_by_block() {
    let mut scene = Scene::start().await;
    let mut indexer = scene.indexer().await;
    assert!(shown(&indexer).is_none());
    scene.set(1, 10).await;
    assert_eq!(indexer.advance().await.unwrap(), Progress::Advanced { from: 1, to: 2 });
    assert_at_head(&scene, &indexer, &[(1, 10)]).await;
    assert_eq!(indexer.advance().await.unwrap(), Progress::Unchanged);

    scene.chain.send(scene.root, word(&[SET, 1, 11])).await;
    scene.chain.send(scene.root, word(&[SET, 1, 12])).await;
    scene.chain.send(scene.root, word(&[UNKNOWN])).await;
    scene.chain.mine(2).await;
    assert_eq!(indexer.advance().await.unwrap(), Progress::Advanced { from: 3, to: 4 });
    assert_at_head(&scene, &indexer, &[(1, 12)]).await;
    assert_eq!(scene.metric("backstop_indexer_logs_total"), 4.0);
    assert_eq!(scene.metric("backstop_indexer_unknown_events_total"), 1.0);
    assert_eq!(scene.metric("backstop_indexer_indexed_block"), 4.0);
    assert_eq!(scene.metric("backstop_indexer_lag_blocks"), 0.0);
}

#[tokio::test]
async fn a_pass_can_run_on_any_thread() {
    let mut scene = Scene::start().await;
    let mut indexer = scene.indexer().await;
    let progress = tokio::spawn(async move { indexer.advance().await.unwrap() }).await.unwrap();
    assert_eq!(progress, Progress::Advanced { from: 1, to: 1 });
}

#[tokio::test]
async fn far_behind_it_reads_chunks_and_commits_each() {
    let mut scene = Scene::start().await;
    for unit in 1..=10 {
        scene.set(unit, unit).await;
        scene.chain.mine(1).await;
    }
    let mut indexer = scene.indexer().await;
    assert_eq!(indexer.advance().await.unwrap(), Progress::Advanced { from: 1, to: 21 });
    let units: Vec<_> = (1..=10).map(|unit| (unit, i64::from(unit))).collect();
    assert_at_head(&scene, &indexer, &units).await;
    assert_eq!(scene.store.commits(), [5, 10, 15, 17, 21]);
}

#[tokio::test]
async fn a_reorganisation_is_undone_to_the_fork() {
    let mut scene = Scene::start().await;
    let mut indexer = scene.indexer().await;
    scene.set(1, 10).await;
    indexer.advance().await.unwrap();
    scene.set(1, 20).await;
    scene.set(2, 20).await;
    indexer.advance().await.unwrap();
    assert_at_head(&scene, &indexer, &[(1, 20), (2, 20)]).await;

    scene.chain.anvil.reorg(2).await.unwrap();
    assert_eq!(indexer.advance().await.unwrap(), Progress::Reorged { depth: 2, to: 4 });
    assert_at_head(&scene, &indexer, &[(1, 10)]).await;
    scene.set(3, 30).await;
    indexer.advance().await.unwrap();
    assert_at_head(&scene, &indexer, &[(1, 10), (3, 30)]).await;
    assert_eq!(scene.metric("backstop_indexer_reorgs_total"), 1.0);
}

#[tokio::test]
async fn a_lower_branch_is_shown_when_it_is_as_high_as_the_checkpoint() {
    let mut scene = Scene::start().await;
    let mut indexer = scene.indexer().await;
    scene.set(1, 10).await;
    indexer.advance().await.unwrap();
    let fork = scene.chain.anvil.snapshot().await.unwrap();
    scene.set(1, 20).await;
    scene.set(2, 20).await;
    indexer.advance().await.unwrap();

    scene.chain.anvil.revert(fork).await.unwrap();
    assert_eq!(indexer.advance().await.unwrap(), Progress::Unchanged, "an ancestor is a node behind, or tells nothing");
    scene.set(3, 30).await;
    assert_eq!(indexer.advance().await.unwrap(), Progress::Reorged { depth: 2, to: 3 });
    assert!(shown(&indexer).is_none(), "blocks that are gone are not shown");
    assert_eq!(scene.store.state().unwrap().0.number, 4);
    scene.set(3, 31).await;
    assert_eq!(indexer.advance().await.unwrap(), Progress::Advanced { from: 4, to: 4 });
    assert_at_head(&scene, &indexer, &[(1, 10), (3, 31)]).await;
}

#[tokio::test]
async fn a_deeper_reorganisation_reads_everything_again() {
    let mut scene = Scene::start().await;
    let mut indexer = scene.indexer().await;
    let depth = DEPTH_MAX + 2;
    scene.set(1, 10).await;
    for unit in 2..2 + depth {
        scene.set(u8::try_from(unit).unwrap(), 20).await;
        indexer.advance().await.unwrap();
    }
    scene.chain.anvil.reorg(depth).await.unwrap();
    assert_eq!(indexer.advance().await.unwrap(), Progress::Resynced { to: 2 + depth });
    assert_at_head(&scene, &indexer, &[(1, 10)]).await;
    assert_eq!(scene.metric("backstop_indexer_resyncs_total"), 1.0);
}

/// Adds an emitter and uses it in the same block, before and after that, and in later ones.
async fn grow(scene: &Scene) {
    let added = scene.chain.deploy(NOTEBOOK).await;
    let mut watch = [0; 32];
    watch[0] = WATCH;
    watch[12..].copy_from_slice(added.as_slice());
    scene.chain.send(added, word(&[SET, 6, 60])).await;
    scene.chain.send(scene.root, Bytes::copy_from_slice(&watch)).await;
    scene.chain.send(added, word(&[SET, 7, 70])).await;
    scene.chain.mine(1).await;
    scene.chain.send_now(added, word(&[SET, 8, 80])).await;
    scene.chain.mine(1).await;
    scene.chain.send_now(added, word(&[SET, 9, 90])).await;
}

#[tokio::test]
async fn an_emitter_added_in_a_block_counts_from_that_log_on() {
    let mut scene = Scene::start().await;
    let mut indexer = scene.indexer().await;
    indexer.advance().await.unwrap();
    grow(&scene).await;
    indexer.advance().await.unwrap();
    assert_at_head(&scene, &indexer, &[(7, 70), (8, 80), (9, 90)]).await;
}

#[tokio::test]
async fn an_emitter_added_in_a_chunk_counts_from_that_log_on() {
    let mut scene = Scene::start().await;
    grow(&scene).await;
    scene.chain.mine(DEPTH_MAX + 1).await;
    let mut indexer = scene.indexer().await;
    indexer.advance().await.unwrap();
    assert_at_head(&scene, &indexer, &[(7, 70), (8, 80), (9, 90)]).await;
    assert_eq!(scene.store.commits()[0], 3, "the chunk ends at the block that asked for more");
}

#[tokio::test]
async fn a_restart_takes_up_a_canonical_checkpoint() {
    let mut scene = Scene::start().await;
    scene.set(1, 10).await;
    scene.indexer().await.advance().await.unwrap();
    let mut indexer = scene.indexer().await;
    assert!(shown(&indexer).is_none(), "not shown before it is known to be the head");
    assert_eq!(indexer.advance().await.unwrap(), Progress::Unchanged);
    assert_at_head(&scene, &indexer, &[(1, 10)]).await;
    scene.set(2, 20).await;
    assert_eq!(indexer.advance().await.unwrap(), Progress::Advanced { from: 3, to: 3 });
    assert_at_head(&scene, &indexer, &[(1, 10), (2, 20)]).await;
}

#[tokio::test]
async fn a_restart_drops_a_checkpoint_of_another_branch() {
    let mut scene = Scene::start().await;
    scene.set(1, 10).await;
    scene.indexer().await.advance().await.unwrap();
    scene.store.move_to_another_branch();
    let mut indexer = scene.indexer().await;
    assert_eq!(scene.store.state(), None);
    assert_eq!(indexer.advance().await.unwrap(), Progress::Advanced { from: 1, to: 2 });
    assert_at_head(&scene, &indexer, &[(1, 10)]).await;
}

#[tokio::test]
async fn a_node_below_the_checkpoint_proves_nothing() {
    let mut scene = Scene::start().await;
    let early = scene.chain.anvil.snapshot().await.unwrap();
    scene.set(1, 10).await;
    let mut indexer = scene.indexer().await;
    indexer.advance().await.unwrap();
    scene.chain.anvil.revert(early).await.unwrap();
    let error = indexer.restore().await.unwrap_err();
    assert!(matches!(error, IndexError::NodeBehind { head: 1, checkpoint: 2 }), "{error}");
    assert_eq!(error.class(), ErrorClass::Retry);
    assert!(scene.store.state().is_some(), "the stored cache is kept");
}

#[tokio::test]
async fn what_the_store_refused_comes_first_next_time_and_nothing_goes_on_before() {
    let mut scene = Scene::start().await;
    let mut indexer = scene.indexer().await;
    scene.set(1, 10).await;
    indexer.advance().await.unwrap();
    scene.store.fail(true);
    scene.set(1, 20).await;
    for _ in 0..2 {
        assert!(matches!(indexer.advance().await.unwrap_err(), IndexError::Store(_)));
        assert_eq!(shown(&indexer).unwrap().block.number, 3);
        scene.set(2, 20).await;
    }
    scene.store.fail(false);
    assert_eq!(indexer.advance().await.unwrap(), Progress::Advanced { from: 4, to: 5 });
    assert_eq!(scene.store.commits(), [2, 3, 5], "the cache did not run ahead of the store");
    assert_at_head(&scene, &indexer, &[(1, 20), (2, 20)]).await;
    assert_eq!(scene.metric("backstop_indexer_errors_total"), 2.0);
}

#[tokio::test]
async fn a_reset_that_the_store_refused_is_made_up_for() {
    let mut scene = Scene::start().await;
    let mut indexer = scene.indexer().await;
    for unit in 1..=6 {
        scene.set(unit, 10).await;
        indexer.advance().await.unwrap();
    }
    scene.chain.anvil.reorg(6).await.unwrap();
    scene.store.fail(true);
    assert!(matches!(indexer.advance().await.unwrap_err(), IndexError::Store(_)));
    assert!(shown(&indexer).is_none());
    scene.store.fail(false);
    assert_eq!(indexer.advance().await.unwrap(), Progress::Resynced { to: 7 });
    assert_at_head(&scene, &indexer, &[]).await;
}

#[tokio::test]
async fn a_block_the_adapter_refuses_is_not_indexed() {
    let mut scene = Scene::start().await;
    let mut indexer = scene.indexer().await;
    indexer.advance().await.unwrap();
    scene.set(1, 10).await;
    scene.chain.send_now(scene.root, word(&[BROKEN])).await;
    scene.set(1, 20).await;
    for _ in 0..2 {
        let error = indexer.advance().await.unwrap_err();
        assert!(matches!(&error, IndexError::Apply { block: 3, .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Terminal);
    }
    let (checkpoint, book) = scene.store.state().unwrap();
    assert_eq!((checkpoint.number, cash(&book)), (2, BTreeMap::from([(1, 10)])));
}

#[tokio::test]
async fn an_unreachable_node_changes_nothing() {
    let mut scene = Scene::start().await;
    scene.set(1, 10).await;
    let mut indexer = scene.indexer().await;
    indexer.advance().await.unwrap();
    indexer.rpc = connect(&settings("http://127.0.0.1:1")).await;
    let error = indexer.advance().await.unwrap_err();
    assert!(matches!(error, IndexError::Rpc(RpcError::Transport { .. })), "{error}");
    indexer.rpc = scene.chain.rpc.clone();
    assert_eq!(indexer.advance().await.unwrap(), Progress::Unchanged);
    assert_at_head(&scene, &indexer, &[(1, 10)]).await;
}

#[tokio::test]
async fn an_audit_tells_a_wrong_cache_from_an_unknown_answer() {
    let mut scene = Scene::start().await;
    let mut indexer = scene.indexer().await;
    for unit in 1..=3 {
        scene.set(unit, 10).await;
    }
    indexer.advance().await.unwrap();
    let (mut auditor, right) = (indexer.auditor(), shown(&indexer).unwrap());
    let report = auditor.audit_if_due(&right).await.unwrap();
    assert_eq!((report.probes, report.unknown, report.mismatches.len()), (2, 0, 0));
    assert_eq!(auditor.audit_if_due(&right).await, None, "not yet due again");

    // The state of an earlier block under the name of this one.
    scene.set(1, 99).await;
    let mut wrong = Snapshot::clone(&right);
    wrong.block = scene.chain.rpc.head().await.unwrap();
    let report = auditor.audit(&wrong, &[key(1)]).await;
    assert_eq!((report.probes, report.unknown, report.mismatches.len()), (1, 0, 1));
    assert_eq!(report.mismatches[0].actual, CallOutcome::Returned(word(&[SET, 1, 99])));

    let mut gone = Snapshot::clone(&right);
    gone.block.hash = crate::types::B256::repeat_byte(1);
    let report = auditor.audit(&gone, &[key(1)]).await;
    assert_eq!((report.probes, report.unknown, report.mismatches.len()), (1, 1, 0));
    assert!(scene.store.load().await.unwrap().is_some());
}

#[tokio::test]
async fn what_an_answer_makes_wanted_is_read_once_and_what_must_be_fresh_at_every_block() {
    let mut scene = Scene::start().await;
    scene.set(1, 7).await;
    let mut indexer = scene.indexer().await;
    indexer.advance().await.unwrap();
    let first = words(&shown(&indexer).unwrap().book).2;
    assert_eq!(first, U256::ZERO, "block 1 was read before anything was set");
    scene.set(1, 8).await;
    indexer.advance().await.unwrap();
    let (logged, read, once) = words(&shown(&indexer).unwrap().book);
    assert_eq!((read, once), (logged, first));
    assert_ne!(read, first);
}
