//! The journal behind the ports that stages declare.

use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use crate::{
    alerts::{Alert, AlertKey, Decision, DedupStore, Severity},
    indexer::CacheStore,
    journal::{AlertDecision, AlertRow, AlertSeverity, DeploymentId, Journal},
    positions::{Book, Delta},
    types::BlockRef,
};

/// Alerts that outlive the process.
pub(super) struct AlertStore {
    journal: Journal,
}

impl AlertStore {
    pub(super) fn new(journal: Journal) -> Self {
        Self { journal }
    }
}

impl DedupStore for AlertStore {
    fn raise<'a>(
        &'a self,
        alert: &'a Alert,
        now: DateTime<Utc>,
        repeat_after: Duration,
    ) -> BoxFuture<'a, anyhow::Result<Decision>> {
        Box::pin(async move {
            let deployment = match alert.key.deployment() {
                Some(name) => self.journal.deployment_by_name(name).await?.map(|row| row.id),
                None => None,
            };
            let row = AlertRow {
                deployment,
                key: alert.key.to_string(),
                severity: match alert.severity {
                    Severity::Info => AlertSeverity::Info,
                    Severity::Warning => AlertSeverity::Warning,
                    Severity::Critical => AlertSeverity::Critical,
                },
                title: alert.title().to_owned(),
                detail: alert.detail.clone(),
                now,
                repeat_after: Some(repeat_after),
            };
            Ok(match self.journal.raise_alert(&row).await.context("note an alert")? {
                AlertDecision::Deliver => Decision::Deliver,
                AlertDecision::Suppressed => Decision::Suppressed,
            })
        })
    }

    fn resolve<'a>(&'a self, key: &'a AlertKey, now: DateTime<Utc>) -> BoxFuture<'a, anyhow::Result<bool>> {
        Box::pin(async move { Ok(self.journal.resolve_alert(&key.to_string(), now).await?) })
    }
}

/// One deployment's position cache.
pub(super) struct Cache {
    journal: Journal,
    deployment: DeploymentId,
}

impl Cache {
    pub(super) fn new(journal: Journal, deployment: DeploymentId) -> Self {
        Self { journal, deployment }
    }
}

impl CacheStore for Cache {
    async fn load(&self) -> anyhow::Result<Option<(BlockRef, Book)>> {
        self.journal.load_cache(self.deployment).await.context("load the cache")
    }

    async fn commit(&self, block: &BlockRef, delta: &Delta) -> anyhow::Result<()> {
        self.journal.commit_cache(self.deployment, block, delta).await.context("commit the cache")
    }

    async fn reset(&self) -> anyhow::Result<()> {
        self.journal.reset_cache(self.deployment).await.context("reset the cache")
    }
}
