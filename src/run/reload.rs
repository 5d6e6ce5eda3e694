//! What can be changed while the process runs: the recovery settings of its deployments.
//!
//! The configuration is read again from where it came from and checked as at a start; what differs is written down and
//! then takes effect, for each deployment, with its next plan. Everything else waits for a restart and is named.
//!
//! Invariants: a configuration with any fault changes nothing; what takes effect is in the journal first; one reload at
//! a time. Must not: decide anything.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, PoisonError},
};

use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Shared, preflight};
use crate::{
    config::{self, Config, Deployment},
    journal::CameBy,
    ops::Reloaded,
    recovery::{AdlPolicy, TierSettings, Waterfall, Waterfalls},
    types::{DeploymentName, SegmentId, U256},
};

/// Where the configuration is read from, again and again.
#[derive(Clone, Debug)]
pub struct ConfigSource {
    /// The files, later wins.
    pub files: Vec<PathBuf>,
    /// The process's environment.
    pub environment: BTreeMap<String, String>,
}

/// The deployments as they run.
pub(super) struct Live {
    source: ConfigSource,
    deployments: std::sync::Mutex<BTreeMap<DeploymentName, Deployment>>,
    waterfalls: BTreeMap<DeploymentName, watch::Sender<Arc<Waterfalls>>>,
    /// Held by the reload that is under way.
    turn: tokio::sync::Mutex<()>,
}

impl Live {
    /// What was loaded at the start.
    pub(super) fn new(source: ConfigSource, config: &Config) -> Self {
        let waterfalls = config
            .deployments
            .iter()
            .map(|(name, deployment)| (name.clone(), watch::Sender::new(Arc::new(waterfalls(&deployment.recovery)))));
        Self {
            source,
            waterfalls: waterfalls.collect(),
            deployments: std::sync::Mutex::new(config.deployments.clone()),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// A deployment's settings as they are now.
    pub(super) fn deployment(&self, name: &DeploymentName) -> Option<Deployment> {
        self.deployments.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// A deployment's waterfall, now and from now on.
    pub(super) fn waterfalls(&self, name: &DeploymentName) -> Option<watch::Receiver<Arc<Waterfalls>>> {
        self.waterfalls.get(name).map(watch::Sender::subscribe)
    }

    fn apply(&self, name: &DeploymentName, recovery: &config::Recovery) {
        let mut deployments = self.deployments.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(deployment) = deployments.get_mut(name) {
            deployment.recovery = recovery.clone();
        }
        if let Some(sender) = self.waterfalls.get(name) {
            sender.send_replace(Arc::new(waterfalls(recovery)));
        }
    }
}

/// Reloads whenever a signal asks for it, until `stop`.
pub(super) async fn on_hangup(shared: Arc<Shared>, mut hangups: mpsc::Receiver<()>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            asked = hangups.recv() => if asked.is_none() { return },
        }
        match reload(&shared, CameBy::Sighup).await {
            Ok(outcome) => info!(%outcome, "configuration reloaded"),
            Err(faults) => warn!(faults = faults.join("; "), "configuration not reloaded; the old one stands"),
        }
    }
}

/// Reads the configuration again and lets what may change take effect.
pub(super) async fn reload(shared: &Shared, came_by: CameBy) -> Reloaded {
    let live = &shared.live;
    let _turn = live.turn.lock().await;
    let config = Config::load(&live.source.files, &live.source.environment)
        .map_err(|error| error.to_string().lines().map(str::to_owned).collect::<Vec<_>>())?;
    let (mut changes, mut faults, mut need_restart) = (Vec::new(), Vec::new(), Vec::new());
    for name in live.waterfalls.keys() {
        let (Some(now), Some(then)) = (config.deployments.get(name), live.deployment(name)) else {
            need_restart.push(format!("deployments.{name}: is no longer there; stop the process to end it"));
            continue;
        };
        let other = |deployment: &Deployment| Deployment { recovery: then.recovery.clone(), ..deployment.clone() };
        if other(now).redacted_json() != then.redacted_json() {
            need_restart.push(format!("deployments.{name}: keys outside recovery differ; they hold after a restart"));
        }
        if now.recovery != then.recovery {
            if then.enabled {
                let wanted = Deployment { recovery: now.recovery.clone(), ..then.clone() };
                let checked = preflight::check(name, &wanted, shared.metrics.rpc.for_deployment(name)).await;
                faults.extend(checked.err().unwrap_or_default().iter().map(ToString::to_string));
            }
            changes.push((name.clone(), then.recovery, now.recovery.clone()));
        }
    }
    let added = config.deployments.keys().filter(|name| !live.waterfalls.contains_key(*name));
    need_restart.extend(added.map(|name| format!("deployments.{name}: is new; it begins after a restart")));
    if !faults.is_empty() {
        return Err(faults);
    }
    let mut changed = Vec::new();
    for (name, before, after) in changes {
        let written = record(shared, &name, came_by, &after).await;
        written.map_err(|why| {
            vec![format!("deployments.{name}.recovery: {why}; reload again (done so far: {})", changed.len())]
        })?;
        live.apply(&name, &after);
        info!(deployment = %name, by = came_by.as_str(), "recovery settings changed, effective from the next plan");
        changed.push(json!({ "deployment": name, "before": before, "after": after }));
    }
    Ok(json!({ "changed": changed, "need_restart": need_restart }))
}

/// Writes down what a deployment's recovery settings are from now on. A deployment that never ran has no row yet; its
/// settings are written down when it starts.
async fn record(
    shared: &Shared,
    name: &DeploymentName,
    came_by: CameBy,
    recovery: &config::Recovery,
) -> anyhow::Result<()> {
    if let Some(row) = shared.journal.deployment_by_name(name).await? {
        shared.journal.record_recovery_settings(row.id, came_by, &as_json(recovery)?).await?;
    }
    Ok(())
}

/// Recovery settings as the journal keeps them.
pub(super) fn as_json(recovery: &config::Recovery) -> serde_json::Result<Value> {
    serde_json::to_value(recovery)
}

/// The waterfall of each segment, from the configuration.
pub fn waterfalls(recovery: &config::Recovery) -> Waterfalls {
    let waterfall = |adl_policy: &'static dyn AdlPolicy, tiers: &[config::RecoveryTier]| Waterfall {
        tiers: tiers.iter().map(tier_settings).collect(),
        adl_policy,
    };
    let own = recovery.segments.iter().filter_map(|(segment, own)| {
        let policy = own.adl_policy.unwrap_or(recovery.adl_policy);
        let tiers = own.tiers.as_deref().unwrap_or(&recovery.tiers);
        Some((SegmentId(segment.parse().ok()?), waterfall(policy, tiers)))
    });
    Waterfalls { default: waterfall(recovery.adl_policy, &recovery.tiers), segments: own.collect() }
}

fn tier_settings(tier: &config::RecoveryTier) -> TierSettings {
    TierSettings {
        tier: tier.tier,
        absorb_max: tier.absorb_max.map(|amount| amount.0),
        episode_max: tier.episode_max.map(|amount| amount.0),
        floor: tier.floor.map_or(U256::ZERO, |amount| amount.0),
        units_max: tier.units_max,
        cooldown_blocks: tier.cooldown_blocks.unwrap_or_default(),
        controller: tier.controller,
    }
}
