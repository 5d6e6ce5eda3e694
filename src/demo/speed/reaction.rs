//! From a new head whose price takes one account below its maintenance margin to the keeper's bytes at the node, and the
//! requests alone that nobody can do this without.

use std::time::{Duration, Instant};

use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    network::TxSignerSync,
    primitives::{TxKind, U64, hex},
    providers::{Provider, ProviderBuilder, WsConnect},
    signers::local::PrivateKeySigner,
};
use anyhow::{Context, Result, ensure};
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};

use super::{
    super::{anvil::AnvilOptions, config::Keeper},
    SpeedOptions,
    track::{MAINTENANCE_MARGIN_BPS, OPENING_PRICE, Track},
};
use crate::types::{Address, B256, Bytes};

/// Rounds that are played before any counts.
const WARM_UP: usize = 10;
const BLOCK_GAS: u64 = 30_000_000;
/// Deposit of the first who falls, and what each has more than the one before.
const FIRST_DEPOSIT: u64 = 1_010_000;
const DEPOSIT_STEP: u64 = 1_000;
/// Blocks between two breaches: what was sent is final then.
const QUIET_BLOCKS: usize = 5;
/// Nothing is said before a breach for longer than TCP delays an acknowledgement (40 ms on Linux): the node's word of a head
/// must not wait for that of its word before, as it would on no chain with seconds between blocks.
const SILENCE: Duration = Duration::from_millis(100);
/// Longest wait for the daemon's transaction.
const SENT_WITHIN: Duration = Duration::from_secs(10);

/// Times of each round, in the order in which they were played.
#[derive(Clone, Debug, Default)]
pub struct Reactions {
    /// From the node's word of the head to its word of the keeper's transaction.
    pub reacted: Vec<Duration>,
    /// The bare requests, from the node's word of a head: head, its logs, simulation, fees, nonce, broadcast until the node's
    /// word of it.
    pub bare: Vec<Duration>,
}

/// Plays so many rounds of each kind that count. In every other round the daemon is held until the bare requests are done, so
/// that they meet the same breach at as young a head, a node that was as silent before it, and nobody beside them.
pub async fn reactions(options: &SpeedOptions, rounds: usize) -> Result<Reactions> {
    let accounts = 2 * (rounds + WARM_UP);
    let deposits: Vec<u128> =
        (0..accounts as u64).map(|number| u128::from(FIRST_DEPOSIT + number * DEPOSIT_STEP)).collect();
    let mut track = Track::lay(options, "reaction", &deposits, BLOCK_GAS, &json!({})).await?;
    let eyes =
        ProviderBuilder::new().connect_ws(WsConnect::new(track.anvil.ws_url())).await.context("watch the node")?;
    let stranger = Keeper::new(99)?;
    track.node.grant(&[stranger.address]).await?;
    let signer = PrivateKeySigner::from_bytes(&stranger.key).context("a key")?;
    let mut heads = eyes.subscribe_blocks().await.context("watch for heads")?.into_stream();
    let mut pending = eyes.subscribe_pending_transactions().await.context("watch the pool")?.into_stream();
    let mut reactions = Reactions::default();
    // The base fee jumps to where it stays, as on no chain.
    track.mine().await?;
    next(&mut heads).await?;
    track.until_scanned().await?;
    for (round, pair) in deposits.chunks(2).enumerate() {
        breach(&track, pair[0], &mut pending).await?;
        let (mined, seen_at, sent) = tokio::join!(track.mine_unseen(), at(next(&mut heads)), at(next(&mut pending)));
        mined?;
        let ((_, seen_at), (hash, sent_at)) = (seen_at?, sent?);
        let call: Value = request(&eyes, "eth_getTransactionByHash", json!([hash])).await?;
        quieten(&mut track, &mut heads).await?;

        let call = against(&call, track.people[2 * round], track.people[2 * round + 1])?;
        let own = signed(&signer, round as u64, &call)?;
        track.daemon.hold()?;
        breach(&track, pair[1], &mut pending).await?;
        let alone = async {
            let (_, started_at) = at(next(&mut heads)).await?;
            bare(&eyes, &track, &call, &own).await?;
            let (_, told_at) = at(next(&mut pending)).await?;
            anyhow::Ok(told_at - started_at)
        };
        let (mined, bare) = tokio::join!(track.mine_unseen(), alone);
        track.daemon.go_on()?;
        mined?;
        let bare = bare?;
        // The daemon's own, for the same account.
        next(&mut pending).await?;
        quieten(&mut track, &mut heads).await?;

        if round >= WARM_UP {
            reactions.reacted.push(sent_at.saturating_duration_since(seen_at));
            reactions.bare.push(bare);
        }
    }
    Ok(reactions)
}

/// Has the price in the pool at which the account of this deposit falls, and then nothing said for a while.
async fn breach(track: &Track, deposit: u128, pending: &mut (impl Stream<Item = B256> + Unpin)) -> Result<()> {
    track.post(price_of_fall(u64::try_from(deposit)?)).await?;
    // The post itself is told of too.
    next(pending).await?;
    tokio::time::sleep(SILENCE).await;
    Ok(())
}

/// Takes note of the head and mines until all that was sent is final.
async fn quieten<H>(track: &mut Track, heads: &mut (impl Stream<Item = H> + Unpin)) -> Result<()> {
    track.see_head().await?;
    track.until_scanned().await?;
    for _ in 0..QUIET_BLOCKS {
        track.mine().await?;
        next(heads).await?;
        track.until_scanned().await?;
    }
    Ok(())
}

/// The highest price, nearly, at which a lot bought at the opening price on this deposit is liquidatable.
fn price_of_fall(deposit: u64) -> u64 {
    (OPENING_PRICE - deposit) * 10_000 / (10_000 - MAINTENANCE_MARGIN_BPS) - 10
}

/// What nobody can do without, one after the other as each needs the one before: the head, its logs, the call tried on it, what
/// gas costs, the next nonce, and the broadcast.
async fn bare(eyes: &impl Provider, track: &Track, call: &Value, own: &Bytes) -> Result<()> {
    let head: Value = request(eyes, "eth_getBlockByNumber", json!(["latest", false])).await?;
    let filter = json!({ "blockHash": head["hash"], "address": track.emitters() });
    let logs: Vec<Value> = request(eyes, "eth_getLogs", json!([filter])).await?;
    let tried = json!([{ "from": call["from"], "to": call["to"], "data": call["input"] }]);
    // The head is the one that was mined since the track looked.
    let next = json!({ "number": U64::from(track.head.number + 2), "time": U64::from(track.head.timestamp + 2) });
    let block = json!({ "blockOverrides": next, "calls": tried });
    let simulated = json!({ "blockStateCalls": [block], "validation": false, "traceTransfers": false });
    let said: Value = request(eyes, "eth_simulateV1", json!([simulated, { "blockHash": head["hash"] }])).await?;
    let _: Value = request(eyes, "eth_feeHistory", json!(["0xa", "latest", [50]])).await?;
    let _: Value = request(eyes, "eth_getTransactionCount", json!([call["from"], "latest"])).await?;
    let _: B256 = request(eyes, "eth_sendRawTransaction", json!([own])).await?;
    ensure!(!logs.is_empty(), "the breach was not in the head's logs");
    ensure!(said[0]["calls"][0]["status"] == "0x1", "what the daemon would send does not succeed: {said}");
    Ok(())
}

/// What was sent for one account, for another.
fn against(call: &Value, one: Address, other: Address) -> Result<Value> {
    let input = call["input"].as_str().context("calldata of what was sent")?;
    let [one, other] = [one, other].map(hex::encode);
    ensure!(input.contains(&one), "what was sent names no account that fell");
    let mut call = call.clone();
    call["input"] = input.replace(&one, &other).into();
    Ok(call)
}

/// A transaction of a stranger's to itself with the same calldata and gas.
fn signed(signer: &PrivateKeySigner, nonce: u64, like: &Value) -> Result<Bytes> {
    let input: Bytes = serde_json::from_value(like["input"].clone()).context("calldata of what was sent")?;
    let gas_limit: U64 = serde_json::from_value(like["gas"].clone()).context("gas of what was sent")?;
    let mut transaction = TxEip1559 {
        chain_id: AnvilOptions::default().chain_id,
        nonce,
        gas_limit: gas_limit.to(),
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1,
        to: TxKind::Call(signer.address()),
        input,
        ..TxEip1559::default()
    };
    let signature = signer.sign_transaction_sync(&mut transaction).context("sign")?;
    Ok(TxEnvelope::from(transaction.into_signed(signature)).encoded_2718().into())
}

async fn request<T: serde::de::DeserializeOwned + Send + Sync + Unpin + std::fmt::Debug + 'static>(
    eyes: &impl Provider,
    method: &'static str,
    params: Value,
) -> Result<T> {
    eyes.client().request::<_, T>(method, params).await.with_context(|| method.to_owned())
}

async fn next<T>(said: &mut (impl Stream<Item = T> + Unpin)) -> Result<T> {
    let next = tokio::time::timeout(SENT_WITHIN, said.next()).await.context("the node tells nothing")?;
    next.context("the node has hung up")
}

/// With the time at which it came.
async fn at<T>(what: impl Future<Output = Result<T>>) -> Result<(T, Instant)> {
    Ok((what.await?, Instant::now()))
}
