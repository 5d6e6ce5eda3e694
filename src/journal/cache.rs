//! The position cache at its last checkpoint: units, records, and the block they are true of.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
};

use alloy::primitives::hex;
use bigdecimal::BigDecimal;
use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row};

use super::{
    DeploymentId, Journal, JournalError, Result,
    error::TxResult,
    session::in_tx,
    values::{address, bigint, block_ref, hash, json, narrow, numeric_signed, unit_key},
};
use crate::{
    positions::{Book, Change, Delta, Leg, LegKind, Record, RecordKey, Unit},
    types::{BlockRef, I256, MarketId, SegmentId, U256, UnitKey},
};

impl Journal {
    /// The cache at its last checkpoint, `None` if there is none.
    pub async fn load_cache(&self, deployment: DeploymentId) -> Result<Option<(BlockRef, Book)>> {
        in_tx!(self, "load_cache", |tx| {
            let Some(block) = load_checkpoint(tx, deployment).await? else { return Ok(None) };
            let units = load_units(tx, deployment).await?;
            let records = load_records(tx, deployment).await?;
            Ok(Some((block, Book::restore(units, records))))
        })
    }

    /// Moves the stored cache to `block` by the net change since the block it stands at, all of it or nothing.
    ///
    /// `delta` begins at what is stored: a unit that was not there before is not there now. The same block a second time is a
    /// commit whose answer was lost, and changes nothing. Another block of the same height is accepted (a reorganisation at the
    /// tip); a lower one is a conflict: wait until the new branch is as high, or [`Journal::reset_cache`].
    pub async fn commit_cache(&self, deployment: DeploymentId, block: &BlockRef, delta: &Delta) -> Result<()> {
        let changes = CacheChanges::of(delta)?;
        in_tx!(self, "commit_cache", |tx| {
            self.check_fence(tx).await?;
            if !move_checkpoint(tx, deployment, block).await? {
                return Ok(());
            }
            changes.delete_units(tx, deployment).await?;
            changes.upsert_units(tx, deployment).await?;
            changes.copy_units(tx, deployment).await?;
            changes.delete_records(tx, deployment).await?;
            changes.upsert_records(tx, deployment).await
        })
    }

    /// Forgets the cache, so that it is read again from the deployment's first block.
    pub async fn reset_cache(&self, deployment: DeploymentId) -> Result<()> {
        in_tx!(self, "reset_cache", |tx| {
            self.check_fence(tx).await?;
            sqlx::query("-- reset_cache\nDELETE FROM checkpoints WHERE deployment_id = $1")
                .bind(deployment.0)
                .execute(tx)
                .await?;
            Ok(())
        })
    }
}

async fn load_checkpoint(tx: &mut PgConnection, deployment: DeploymentId) -> TxResult<Option<BlockRef>> {
    let row = sqlx::query(
        "-- load_checkpoint\n\
         SELECT block_number, block_hash, parent_hash, block_timestamp FROM checkpoints WHERE deployment_id = $1",
    )
    .bind(deployment.0)
    .fetch_optional(tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (number, timestamp) = (row.try_get("block_number")?, row.try_get("block_timestamp")?);
    Ok(Some(block_ref(number, row.try_get("block_hash")?, row.try_get("parent_hash")?, timestamp)?))
}

/// By key. Figures come as text, which is read in place: there may be a million units.
async fn load_units(tx: &mut PgConnection, deployment: DeploymentId) -> TxResult<Vec<(UnitKey, Unit)>> {
    let mut rows = sqlx::query(
        "-- load_units\n\
         SELECT unit_key, segment_id, owner, cash::text AS cash, legs::text AS legs, extra::text AS extra FROM units \
         WHERE deployment_id = $1",
    )
    .bind(deployment.0)
    .fetch(tx);
    let mut units = Vec::new();
    while let Some(row) = rows.try_next().await? {
        let legs: Vec<StoredLeg<'_>> = json_text("legs", row.try_get("legs")?)?;
        let unit = Unit {
            segment: SegmentId(narrow("segment_id", row.try_get("segment_id")?)?),
            owner: address("owner", row.try_get("owner")?)?,
            cash: decimal("cash", row.try_get("cash")?, |text| I256::from_dec_str(text).ok())?,
            legs: legs.into_iter().map(StoredLeg::leg).collect::<Result<_>>()?,
            extra: words("extra", row.try_get("extra")?)?,
        };
        units.push((unit_key(row.try_get("unit_key")?)?, unit));
    }
    units.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(units)
}

async fn load_records(tx: &mut PgConnection, deployment: DeploymentId) -> TxResult<BTreeMap<RecordKey, Record>> {
    let rows = sqlx::query(
        "-- load_records\nSELECT kind, record_id, words::text AS words FROM records WHERE deployment_id = $1",
    )
    .bind(deployment.0)
    .fetch_all(tx)
    .await?;
    let mut records = BTreeMap::new();
    for row in rows {
        let key = RecordKey {
            kind: narrow("kind", row.try_get::<i32, _>("kind")?.into())?,
            id: hash("record_id", row.try_get("record_id")?)?,
        };
        records.insert(key, words("words", row.try_get("words")?)?);
    }
    Ok(records)
}

/// Moves the checkpoint; whether it was not there yet.
async fn move_checkpoint(tx: &mut PgConnection, deployment: DeploymentId, block: &BlockRef) -> TxResult<bool> {
    let moved = sqlx::query(
        "-- move_checkpoint\n\
         INSERT INTO checkpoints AS c (deployment_id, block_number, block_hash, parent_hash, block_timestamp) \
         VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (deployment_id) DO UPDATE SET block_number = excluded.block_number, \
         block_hash = excluded.block_hash, parent_hash = excluded.parent_hash, \
         block_timestamp = excluded.block_timestamp, updated_at = now() \
         WHERE c.block_number <= excluded.block_number \
         AND (c.block_number, c.block_hash) <> (excluded.block_number, excluded.block_hash)",
    )
    .bind(deployment.0)
    .bind(bigint("block_number", block.number)?)
    .bind(block.hash.as_slice())
    .bind(block.parent_hash.as_slice())
    .bind(bigint("block_timestamp", block.timestamp)?)
    .execute(&mut *tx)
    .await?;
    if moved.rows_affected() == 1 {
        return Ok(true);
    }
    if load_checkpoint(tx, deployment)
        .await?
        .is_some_and(|stored| (stored.number, stored.hash) == (block.number, block.hash))
    {
        return Ok(false);
    }
    let refusal = format!("commit_cache: the checkpoint is beyond block {}, it does not go backwards", block.number);
    Err(JournalError::Conflict(refusal).into())
}

/// From so many new units on they go by COPY, which is faster: a backfill's checkpoints.
const COPIED_FROM: usize = 1_000;
/// How much of it is sent at a time.
const COPIED_BYTES: usize = 1 << 16;

/// A delta by column.
#[derive(Default)]
struct CacheChanges<'d> {
    /// New units, where there are many.
    copied: Vec<(&'d UnitKey, &'d Unit)>,
    gone_units: Vec<Vec<u8>>,
    unit_keys: Vec<Vec<u8>>,
    segments: Vec<i64>,
    owners: Vec<Vec<u8>>,
    cash: Vec<BigDecimal>,
    legs: Vec<serde_json::Value>,
    extra: Vec<serde_json::Value>,
    gone_kinds: Vec<i32>,
    gone_records: Vec<Vec<u8>>,
    kinds: Vec<i32>,
    record_ids: Vec<Vec<u8>>,
    words: Vec<serde_json::Value>,
}

impl<'d> CacheChanges<'d> {
    fn of(delta: &'d Delta) -> Result<Self> {
        let mut columns = Self::default();
        let is_new = |change: &&Change| matches!(change, Change::Unit { before: None, after: Some(_), .. });
        let coming = delta.changes.iter().filter(is_new).count();
        for change in &delta.changes {
            match change {
                Change::Unit { key, after: None, .. } => columns.gone_units.push(key.as_bytes().to_vec()),
                Change::Unit { key, before: None, after: Some(unit) } if coming >= COPIED_FROM => {
                    columns.copied.push((key, unit));
                }
                Change::Unit { key, after: Some(unit), .. } => {
                    let legs: Vec<StoredLeg> = unit.legs.iter().map(StoredLeg::of).collect();
                    columns.unit_keys.push(key.as_bytes().to_vec());
                    columns.segments.push(unit.segment.0.into());
                    columns.owners.push(unit.owner.to_vec());
                    columns.cash.push(numeric_signed(unit.cash));
                    columns.legs.push(json("legs", &legs)?);
                    columns.extra.push(stored_words("extra", &unit.extra)?);
                }
                Change::Record { key, after: None, .. } => {
                    columns.gone_kinds.push(key.kind.into());
                    columns.gone_records.push(key.id.to_vec());
                }
                Change::Record { key, after: Some(record), .. } => {
                    columns.kinds.push(key.kind.into());
                    columns.record_ids.push(key.id.to_vec());
                    columns.words.push(stored_words("words", record)?);
                }
            }
        }
        Ok(columns)
    }

    async fn delete_units(&self, tx: &mut PgConnection, deployment: DeploymentId) -> TxResult<()> {
        if self.gone_units.is_empty() {
            return Ok(());
        }
        sqlx::query("-- delete_units\nDELETE FROM units WHERE deployment_id = $1 AND unit_key = ANY($2)")
            .bind(deployment.0)
            .bind(&self.gone_units)
            .execute(tx)
            .await?;
        Ok(())
    }

    async fn upsert_units(&self, tx: &mut PgConnection, deployment: DeploymentId) -> TxResult<()> {
        if self.unit_keys.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "-- upsert_units\n\
             INSERT INTO units (deployment_id, unit_key, segment_id, owner, cash, legs, extra) \
             SELECT $1, * FROM UNNEST($2::bytea[], $3::bigint[], $4::bytea[], $5::numeric[], $6::jsonb[], \
             $7::jsonb[]) \
             ON CONFLICT (deployment_id, unit_key) DO UPDATE SET segment_id = excluded.segment_id, \
             owner = excluded.owner, cash = excluded.cash, legs = excluded.legs, extra = excluded.extra",
        )
        .bind(deployment.0)
        .bind(&self.unit_keys)
        .bind(&self.segments)
        .bind(&self.owners)
        .bind(&self.cash)
        .bind(&self.legs)
        .bind(&self.extra)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn copy_units(&self, tx: &mut PgConnection, deployment: DeploymentId) -> TxResult<()> {
        if self.copied.is_empty() {
            return Ok(());
        }
        let mut into = tx
            .copy_in_raw("COPY units (deployment_id, unit_key, segment_id, owner, cash, legs, extra) FROM STDIN")
            .await?;
        // The server takes in one part while the next is made.
        let mut part = Vec::with_capacity(2 * COPIED_BYTES);
        for (key, unit) in &self.copied {
            copied_row(&mut part, deployment, key, unit).map_err(|error| JournalError::corrupt("unit", error))?;
            if part.len() >= COPIED_BYTES {
                into.send(part.as_slice()).await?;
                part.clear();
            }
        }
        into.send(part.as_slice()).await?;
        into.finish().await?;
        Ok(())
    }

    async fn delete_records(&self, tx: &mut PgConnection, deployment: DeploymentId) -> TxResult<()> {
        if self.gone_kinds.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "-- delete_records\n\
             DELETE FROM records r USING UNNEST($2::int[], $3::bytea[]) AS gone (kind, record_id) \
             WHERE r.deployment_id = $1 AND r.kind = gone.kind AND r.record_id = gone.record_id",
        )
        .bind(deployment.0)
        .bind(&self.gone_kinds)
        .bind(&self.gone_records)
        .execute(tx)
        .await?;
        Ok(())
    }

    async fn upsert_records(&self, tx: &mut PgConnection, deployment: DeploymentId) -> TxResult<()> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "-- upsert_records\n\
             INSERT INTO records (deployment_id, kind, record_id, words) \
             SELECT $1, * FROM UNNEST($2::int[], $3::bytea[], $4::jsonb[]) \
             ON CONFLICT (deployment_id, kind, record_id) DO UPDATE SET words = excluded.words",
        )
        .bind(deployment.0)
        .bind(&self.kinds)
        .bind(&self.record_ids)
        .bind(&self.words)
        .execute(tx)
        .await?;
        Ok(())
    }
}

/// Adds a unit as a line of COPY's text format. Hexadecimal, decimals and JSON of such have no character that the format
/// minds, but the backslash.
fn copied_row(to: &mut Vec<u8>, deployment: DeploymentId, key: &UnitKey, unit: &Unit) -> io::Result<()> {
    let (key, owner) = (hex::encode(key.as_bytes()), hex::encode(unit.owner));
    write!(to, "{}\t\\\\x{key}\t{}\t\\\\x{owner}\t{}\t[", deployment.0, unit.segment, unit.cash)?;
    for (index, leg) in unit.legs.iter().enumerate() {
        to.extend_from_slice(if index == 0 { b"" } else { b"," });
        serde_json::to_writer(&mut *to, &StoredLeg::of(leg))?;
    }
    to.extend_from_slice(b"]\t");
    serde_json::to_writer(&mut *to, &texts(&unit.extra))?;
    to.push(b'\n');
    Ok(())
}

/// A leg as JSON: amounts as decimal strings, which every JSON reader leaves as they are.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLeg<'t> {
    market: u32,
    kind: LegKind,
    #[serde(borrow)]
    quantity: Cow<'t, str>,
    #[serde(borrow)]
    quote: Cow<'t, str>,
}

impl StoredLeg<'_> {
    fn of(leg: &Leg) -> Self {
        let (quantity, quote) = (leg.quantity.to_string().into(), leg.quote.to_string().into());
        Self { market: leg.market.0, kind: leg.kind, quantity, quote }
    }

    fn leg(self) -> Result<Leg> {
        Ok(Leg {
            market: MarketId(self.market),
            kind: self.kind,
            quantity: decimal("quantity", &self.quantity, |text| I256::from_dec_str(text).ok())?,
            quote: decimal("quote", &self.quote, |text| I256::from_dec_str(text).ok())?,
        })
    }
}

/// Words as JSON: decimal strings.
fn stored_words(what: &'static str, record: &Record) -> Result<serde_json::Value> {
    json(what, &texts(record))
}

fn texts(record: &Record) -> Vec<String> {
    record.iter().map(U256::to_string).collect()
}

fn words(what: &'static str, stored: &str) -> Result<Record> {
    let words: Vec<Cow<'_, str>> = json_text(what, stored)?;
    words.iter().map(|word| decimal(what, word, |word| U256::from_str_radix(word, 10).ok())).collect()
}

fn json_text<'t, T: Deserialize<'t>>(what: &'static str, stored: &'t str) -> Result<T> {
    serde_json::from_str(stored).map_err(|error| JournalError::corrupt(what, error))
}

fn decimal<T>(what: &'static str, stored: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    parse(stored).ok_or_else(|| JournalError::corrupt(what, stored))
}
