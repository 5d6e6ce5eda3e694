//! Everybody falls at once: who is helped in which block.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{SpeedOptions, track::Track};
use crate::types::Address;

/// Gas a block holds: a block of today's chains.
const BLOCK_GAS: u64 = 30_000_000;
/// The part of it that the daemon is told of: a price is posted beside it.
const BLOCK_GAS_FOR_US: u64 = 29_500_000;
/// At this everybody is liquidatable and nobody bankrupt.
const CRASHED_PRICE: u64 = 9_400_000;
/// The worst of them, who must not wait.
pub const WORST: usize = 100;
/// A price is posted again before the venue takes it for stale.
const POST_EVERY_BLOCKS: u64 = 20;
/// More blocks than this for what needs one is a standstill.
const PATIENCE: u64 = 3;

/// What became of a crowd.
#[derive(Clone, Debug)]
pub struct Crowd {
    /// Accounts that became liquidatable in one block.
    pub accounts: usize,
    /// How many of the [`WORST`] the first block helped.
    pub worst_in_first_block: usize,
    /// How many accounts the first block helped.
    pub in_first_block: usize,
    /// Blocks until all were helped.
    pub blocks: u64,
    /// Blocks that the gas of what was sent fills.
    pub blocks_forced: u64,
    /// Transactions that failed on chain.
    pub reverted: usize,
}

/// Lets so many accounts become liquidatable in one block and makes blocks until all are helped.
pub async fn crowd(options: &SpeedOptions, accounts: usize) -> Result<Crowd> {
    // The first are worst; a lot needs 1,000,000 to be opened and keeps 470,000 of 600,000 less.
    let deposits: Vec<u128> =
        (0..accounts as u128).map(|number| 1_002_000 + number * 60_000 / accounts as u128).collect();
    let executor = json!({
        "tx_gas_max": 15_000_000,
        "actions_per_block_max": 300,
        "block_gas_max": BLOCK_GAS_FOR_US,
        "spend_per_hour_max_wei": "100000000000000000000",
    });
    let mut track = Track::lay(options, "crowd", &deposits, BLOCK_GAS, &executor).await?;
    // The base fee jumps to where it stays, as on no chain.
    track.mine().await?;
    track.until_scanned().await?;
    let worst: BTreeSet<Address> = track.people[..WORST.min(accounts)].iter().copied().collect();
    track.post(CRASHED_PRICE).await?;
    track.mine().await?;
    track.until_scanned().await?;
    let crashed_at = track.head.number;
    let (mut helped, mut first, mut standstill) = (BTreeSet::new(), None, 0);
    while helped.len() < accounts {
        if (track.head.number - crashed_at) % POST_EVERY_BLOCKS == POST_EVERY_BLOCKS - 1 {
            track.post(CRASHED_PRICE).await?;
        }
        track.mine().await?;
        let now = track.liquidated().await?;
        standstill = if now.is_empty() { standstill + 1 } else { 0 };
        ensure!(standstill < PATIENCE, "nobody was helped in {PATIENCE} blocks, {} of {accounts} before", helped.len());
        first.get_or_insert_with(|| now.clone());
        helped.extend(now);
        if track.head.number % 20 == 0 {
            println!("  block {}: {} of {accounts} helped", track.head.number - crashed_at, helped.len());
        }
        track.until_scanned().await?;
    }
    let blocks = track.head.number - crashed_at;
    let sent = track.node.sent_by(track.keeper.address, crashed_at, track.head.number).await?;
    let gas_used: u64 = sent.iter().map(|transaction| transaction.gas_used).sum();
    let first = first.context("no block was made")?;
    Ok(Crowd {
        accounts,
        worst_in_first_block: worst.intersection(&first).count(),
        in_first_block: first.len(),
        blocks,
        blocks_forced: gas_used.div_ceil(BLOCK_GAS),
        reverted: sent.iter().filter(|transaction| !transaction.success).count(),
    })
}
