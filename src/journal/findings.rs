//! Findings: one row whenever a unit's condition changes.

use std::collections::BTreeMap;

use bigdecimal::BigDecimal;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    DeploymentId, Journal, Result,
    error::TxResult,
    session::{in_statement, in_tx},
    status::condition,
    values::{amount, amount_signed, bigint, narrow, number, numeric, numeric_signed, text, unit_key},
};
use crate::{
    scanner::Condition,
    types::{BlockRef, I256, SegmentId, U256, UnitKey},
};

/// A unit's new condition. Amounts are settlement-token units, zero and meaningless where the condition is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingChange {
    /// Which.
    pub unit: UnitKey,
    /// Where its losses stay.
    pub segment: SegmentId,
    /// How it stands now.
    pub condition: Condition,
    /// Below zero: bankrupt.
    pub equity: I256,
    /// What it must keep.
    pub maintenance_margin: U256,
    /// Below zero: liquidatable.
    pub surplus: I256,
    /// equity / maintenance margin in basis points, rounded down.
    pub health_factor_bps: Option<I256>,
    /// Its place in the scanner's order, from 0; `None` once it is healthy.
    pub rank: Option<u32>,
    /// Why it could not be valued.
    pub reason: Option<String>,
}

/// A stored finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingRow {
    /// The height it is true of.
    pub block: u64,
    /// How the unit stood.
    pub condition: Condition,
    /// See [`FindingChange::equity`].
    pub equity: I256,
    /// See [`FindingChange::maintenance_margin`].
    pub maintenance_margin: U256,
    /// See [`FindingChange::surplus`].
    pub surplus: I256,
    /// See [`FindingChange::health_factor_bps`].
    pub health_factor_bps: Option<I256>,
    /// See [`FindingChange::rank`].
    pub rank: Option<u32>,
    /// See [`FindingChange::reason`].
    pub reason: Option<String>,
    /// When it was written, by the database's clock.
    pub recorded_at: DateTime<Utc>,
}

impl Journal {
    /// Appends changes of condition found at a block. A change of a unit that is already written for this very block
    /// stays as it is: the same block gives the same finding.
    pub async fn record_findings(
        &self,
        deployment: DeploymentId,
        block: &BlockRef,
        changes: &[FindingChange],
    ) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let columns = FindingColumns::of(changes);
        let block_number = bigint("block_number", block.number)?;
        in_statement!(self, "record_findings", |connection| {
            sqlx::query(
                "-- record_findings\n\
                 INSERT INTO findings (deployment_id, block_number, block_hash, unit_key, segment_id, condition, \
                 equity, maintenance_margin, surplus, health_factor_bps, rank, reason) \
                 SELECT $1, $2, $3, * FROM UNNEST($4::bytea[], $5::bigint[], $6::text[], $7::numeric[], \
                 $8::numeric[], $9::numeric[], $10::numeric[], $11::bigint[], $12::text[]) \
                 ON CONFLICT (deployment_id, unit_key, block_hash) DO NOTHING",
            )
            .bind(deployment.0)
            .bind(block_number)
            .bind(block.hash.as_slice())
            .bind(&columns.unit)
            .bind(&columns.segment)
            .bind(&columns.condition)
            .bind(&columns.equity)
            .bind(&columns.maintenance_margin)
            .bind(&columns.surplus)
            .bind(&columns.health_factor_bps)
            .bind(&columns.rank)
            .bind(&columns.reason)
            .execute(connection)
            .await?;
            Ok(())
        })
    }

    /// The condition each unit was last found in, without the healthy ones: where a scanner that starts again goes on.
    pub async fn standing_conditions(&self, deployment: DeploymentId) -> Result<BTreeMap<UnitKey, Condition>> {
        in_tx!(self, "standing_conditions", |tx| {
            let rows = sqlx::query(
                "-- standing_conditions\n\
                 SELECT unit_key, condition FROM (\
                 SELECT DISTINCT ON (unit_key) unit_key, condition FROM findings WHERE deployment_id = $1 \
                 ORDER BY unit_key, id DESC) AS latest WHERE condition <> 'healthy'",
            )
            .bind(deployment.0)
            .fetch_all(tx)
            .await?;
            rows.iter()
                .map(|row| Ok((unit_key(row.try_get("unit_key")?)?, condition(row.try_get("condition")?)?)))
                .collect()
        })
    }
}

/// The unit's findings, newest first.
pub(super) async fn findings_of(
    tx: &mut PgConnection,
    deployment: DeploymentId,
    unit: &UnitKey,
    limit: u32,
) -> TxResult<Vec<FindingRow>> {
    let rows = sqlx::query(
        "-- findings_of\n\
         SELECT block_number, condition, equity, maintenance_margin, surplus, health_factor_bps, rank, reason, \
         recorded_at FROM findings WHERE deployment_id = $1 AND unit_key = $2 ORDER BY id DESC LIMIT $3",
    )
    .bind(deployment.0)
    .bind(unit.as_bytes())
    .bind(i64::from(limit))
    .fetch_all(tx)
    .await?;
    rows.iter().map(finding_row).collect()
}

fn finding_row(row: &PgRow) -> TxResult<FindingRow> {
    let health_factor: Option<BigDecimal> = row.try_get("health_factor_bps")?;
    let rank: Option<i64> = row.try_get("rank")?;
    Ok(FindingRow {
        block: number("block_number", row.try_get("block_number")?)?,
        condition: condition(row.try_get("condition")?)?,
        equity: amount_signed("equity", &row.try_get("equity")?)?,
        maintenance_margin: amount("maintenance_margin", &row.try_get("maintenance_margin")?)?,
        surplus: amount_signed("surplus", &row.try_get("surplus")?)?,
        health_factor_bps: health_factor.map(|stored| amount_signed("health_factor_bps", &stored)).transpose()?,
        rank: rank.map(|stored| narrow("rank", stored)).transpose()?,
        reason: row.try_get("reason")?,
        recorded_at: row.try_get("recorded_at")?,
    })
}

/// Changes by column.
#[derive(Default)]
struct FindingColumns {
    unit: Vec<Vec<u8>>,
    segment: Vec<i64>,
    condition: Vec<&'static str>,
    equity: Vec<BigDecimal>,
    maintenance_margin: Vec<BigDecimal>,
    surplus: Vec<BigDecimal>,
    health_factor_bps: Vec<Option<BigDecimal>>,
    rank: Vec<Option<i64>>,
    reason: Vec<Option<String>>,
}

impl FindingColumns {
    fn of(changes: &[FindingChange]) -> Self {
        let mut columns = Self::default();
        for change in changes {
            columns.unit.push(change.unit.as_bytes().to_vec());
            columns.segment.push(change.segment.0.into());
            columns.condition.push(change.condition.as_str());
            columns.equity.push(numeric_signed(change.equity));
            columns.maintenance_margin.push(numeric(change.maintenance_margin));
            columns.surplus.push(numeric_signed(change.surplus));
            columns.health_factor_bps.push(change.health_factor_bps.map(numeric_signed));
            columns.rank.push(change.rank.map(i64::from));
            columns.reason.push(change.reason.as_deref().map(text));
        }
        columns
    }
}
