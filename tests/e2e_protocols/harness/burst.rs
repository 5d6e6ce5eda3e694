//! The burst: fifty borrowers, one signer, a block a second by the clock; one price makes k of them liquidatable at once.
//!
//! Measured from outside, over a line of its own to the node: when the head with the price arrived, when each raw
//! transaction of the keeper was in the pool, in which block each borrower was liquidated. What the node refused is read
//! from the daemon's journal.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use alloy::{
    primitives::B256,
    providers::{Provider as _, ProviderBuilder, WsConnect},
};
use anyhow::{Context, Result, ensure};
use backstop::{
    demo::{contracts, postgres::TestDatabase},
    journal::Journal,
    types::{BlockRef, UnitKey},
};
use futures_util::StreamExt as _;
use serde::Serialize;

use super::{
    chain::{Chain, Mined},
    daemon::{self, Daemon, Settings},
    run::{ONE_AT_A_TIME, publish},
    scene::{Scene, scene_folder},
};

/// Blocks after the price's within which everybody must be liquidated.
const BLOCKS_MAX: u64 = 2;
/// Blocks after which the watch ends all the same.
const WATCHED_BLOCKS: u64 = 30;
/// Blocks before the price falls, for everybody to find the beat.
const BLOCKS_BEFORE: u64 = 4;
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a block may take to come before the node is taken for dead.
const BLOCK_WITHIN: Duration = Duration::from_secs(30);

/// What came of k borrowers at once.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// How many became liquidatable.
    pub(crate) k: usize,
    /// How many of them the keeper liquidated.
    pub(crate) handled: usize,
    /// Blocks from the price's to the last liquidation's.
    pub(crate) blocks: u64,
    /// From the head's arrival to the first raw transaction.
    pub(crate) first_send_ms: u64,
    /// ... to the last.
    pub(crate) last_send_ms: u64,
    /// Broadcasts that the node refused.
    pub(crate) rejected: usize,
    /// Transactions that reverted.
    pub(crate) reverts: usize,
}

impl Row {
    fn is_good(&self) -> bool {
        self.handled == self.k && self.blocks <= BLOCKS_MAX && self.rejected == 0 && self.reverts == 0
    }
}

/// Plays the burst for each k, puts the rows into the protocol's report, and panics unless every one is good.
pub(crate) async fn play<S: Scene>(sizes: &[usize]) {
    let _turn = ONE_AT_A_TIME.lock().await;
    if !contracts::at_hand(S::SCRIPT) {
        return;
    }
    let mut rows = Vec::new();
    for k in sizes {
        let row = burst::<S>(*k).await.unwrap_or_else(|error| panic!("a burst of {k}: {error:#}"));
        println!("{}: {row:?}", S::NAME);
        rows.push(row);
    }
    let told = serde_json::to_value(&rows).expect("rows are JSON");
    publish(S::NAME, [("burst".to_owned(), told)].into_iter().collect()).expect("the report is written");
    let bad: Vec<&Row> = rows.iter().filter(|row| !row.is_good()).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

async fn burst<S: Scene>(k: usize) -> Result<Row> {
    let chain = Chain::start(S::chain()).await?;
    let (key, keeper) = daemon::keeper();
    chain.fund(keeper).await?;
    let deployed = contracts::deploy(S::SCRIPT, &chain.anvil.http_url(), keeper)?;
    let scene = S::deploy(&chain, deployed, keeper, k).await.context("set the scene")?;
    chain.stop_automine().await?;
    let database = TestDatabase::new().await;
    let mut daemon = Daemon::start(&Settings {
        name: S::NAME,
        folder: &scene_folder(S::NAME, &format!("burst-{k}")),
        database_url: database.url(),
        rpc_url: chain.anvil.ws_url(),
        key: &key,
        protocol: scene.protocol(),
        policy: scene.policy(),
        // what a block of this chain holds leaves no room for more
        overrides: serde_json::json!({ "executor": { "block_gas_max": S::chain().block_gas_limit } }),
    })
    .await?;
    let observer = Observer::start(&chain.anvil.ws_url()).await?;
    chain.anvil.set_interval_mining(1).await?;
    let head = block_at(&chain, chain.head().await?.number + BLOCKS_BEFORE).await?;
    daemon.must_act_on(&head).await?;
    let before = scene.liquidatable(&chain, &head).await?;
    ensure!(before.is_empty(), "{} accounts are liquidatable before the price falls", before.len());
    let price_block = struck(&chain, scene.strike(&chain).await?).await?;
    let due = scene.liquidatable(&chain, &price_block).await?;
    ensure!(due.len() == k, "{} accounts became liquidatable, not {k}", due.len());
    let sent = watch(&chain, &scene, &price_block, keeper).await?;
    chain.anvil.set_interval_mining(0).await?;
    let rejected = rejected(daemon.journal(), S::NAME, &due).await?;
    daemon.stop().await?;
    observer.row(&scene, &price_block, &due, &sent, rejected)
}

/// The block that holds a transaction.
async fn struck(chain: &Chain, hash: B256) -> Result<BlockRef> {
    let began = Instant::now();
    while began.elapsed() < BLOCK_WITHIN {
        let receipt = chain.receipt(hash).await?;
        if !receipt.is_null() {
            ensure!(receipt["status"] == "0x1", "the price could not be set");
            let number: alloy::primitives::U64 = serde_json::from_value(receipt["blockNumber"].clone())?;
            return chain.block(number.to()).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    anyhow::bail!("the price is in no block after {} s", BLOCK_WITHIN.as_secs())
}

/// The block of this height, once it is there.
async fn block_at(chain: &Chain, number: u64) -> Result<BlockRef> {
    let began = Instant::now();
    while began.elapsed() < BLOCK_WITHIN {
        let head = chain.head().await?;
        if head.number >= number {
            return chain.block(number).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    anyhow::bail!("block {number} does not come within {} s", BLOCK_WITHIN.as_secs())
}

/// The keeper's transactions, by block, until nobody is liquidatable any more.
async fn watch<S: Scene>(
    chain: &Chain,
    scene: &S,
    price_block: &BlockRef,
    keeper: alloy::primitives::Address,
) -> Result<Vec<(u64, Mined)>> {
    let mut sent = Vec::new();
    for number in price_block.number + 1..=price_block.number + WATCHED_BLOCKS {
        let block = block_at(chain, number).await?;
        let mined = chain.mined(number).await?;
        sent.extend(mined.into_iter().filter(|mined| mined.from == keeper).map(|mined| (number, mined)));
        if scene.liquidatable(chain, &block).await?.is_empty() {
            break;
        }
    }
    Ok(sent)
}

/// How many broadcasts of transactions against these units the node refused, by the journal's word.
async fn rejected(journal: &Journal, name: &str, units: &BTreeSet<UnitKey>) -> Result<usize> {
    let row = journal.deployment_by_name(&name.parse()?).await?.context("the deployment has no row")?;
    let mut refused = BTreeSet::new();
    for unit in units {
        for action in journal.unit_history(row.id, unit, 1_000).await?.actions {
            let said = |broadcast: &Option<String>| broadcast.as_deref().is_some_and(|b| b.starts_with("rejected"));
            refused.extend(action.attempts.into_iter().filter(|a| said(&a.broadcast)).map(|a| a.hash));
        }
    }
    Ok(refused.len())
}

#[derive(Debug, Default)]
struct Sightings {
    heads: BTreeMap<u64, Instant>,
    raw: BTreeMap<B256, Instant>,
}

/// Notes when heads and raw transactions come by.
struct Observer {
    seen: Arc<Mutex<Sightings>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    async fn start(ws_url: &str) -> Result<Self> {
        let provider = ProviderBuilder::new().connect_ws(WsConnect::new(ws_url)).await?;
        let mut heads = provider.subscribe_blocks().await?.into_stream();
        let mut raw = provider.subscribe_pending_transactions().await?.into_stream();
        let seen: Arc<Mutex<Sightings>> = Arc::default();
        let noted = seen.clone();
        let task = tokio::spawn(async move {
            // the subscriptions live as long as their provider
            let _provider = provider;
            loop {
                let event = tokio::select! {
                    head = heads.next() => head.map(|head| (Some(head.number), None)),
                    hash = raw.next() => hash.map(|hash| (None, Some(hash))),
                };
                let Some((head, hash)) = event else { return };
                let now = Instant::now();
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                noted.heads.extend(head.map(|number| (number, now)));
                noted.raw.extend(hash.map(|hash| (hash, now)));
            }
        });
        Ok(Self { seen, task })
    }

    fn row<S: Scene>(
        &self,
        scene: &S,
        price_block: &BlockRef,
        due: &BTreeSet<UnitKey>,
        sent: &[(u64, Mined)],
        rejected: usize,
    ) -> Result<Row> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let head = *seen.heads.get(&price_block.number).context("the head with the price was not seen")?;
        let mut handled = BTreeMap::new();
        let mut sends = Vec::new();
        for (block, mined) in sent {
            let at = *seen.raw.get(&mined.hash).with_context(|| format!("{} was not seen in the pool", mined.hash))?;
            sends.push(u64::try_from(at.saturating_duration_since(head).as_millis())?);
            let targets = scene.targets(mined).into_iter().filter(|unit| mined.success && due.contains(unit));
            handled.extend(targets.map(|unit| (unit, *block)));
        }
        Ok(Row {
            k: due.len(),
            handled: handled.len(),
            blocks: handled.values().max().map_or(0, |last| last - price_block.number),
            first_send_ms: sends.iter().min().copied().unwrap_or_default(),
            last_send_ms: sends.iter().max().copied().unwrap_or_default(),
            rejected,
            reverts: sent.iter().filter(|(_, mined)| !mined.success).count(),
        })
    }
}

#[test]
fn a_row_is_good_only_where_everybody_was_handled_in_time_and_cleanly() {
    let good = Row { k: 10, handled: 10, blocks: 2, first_send_ms: 1, last_send_ms: 2, rejected: 0, reverts: 0 };
    assert!(good.is_good());
    let spoilt = [
        Row { handled: 9, ..good.clone() },
        Row { blocks: 3, ..good.clone() },
        Row { rejected: 1, ..good.clone() },
        Row { reverts: 1, ..good },
    ];
    assert!(spoilt.iter().all(|row| !row.is_good()));
}
