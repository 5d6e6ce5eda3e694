//! `backstop why <account>`: everything the journal knows of one account, in the order a person asks.

use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;

use super::{ConfigArgs, actions::listing, episodes, events, table::table};
use crate::{
    config::{Config, Deployment},
    journal::{Journal, UnitHistory},
    positions::Snapshot,
    protocols::{self, Adapter},
    run,
    scanner::Standing,
    types::{DeploymentName, UnitKey},
};

#[derive(Debug, Args)]
pub(super) struct WhyArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// An address, a unit key, or a word the deployment's protocol understands (such as segment/address).
    account: String,
    /// Only in this deployment.
    #[arg(long)]
    deployment: Option<DeploymentName>,
    /// At most so many findings and actions.
    #[arg(long, default_value_t = 20)]
    limit: u32,
}

pub(super) async fn why(args: &WhyArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let journal = run::open_journal(&config.database).await?;
    let mut found = 0;
    for (name, deployment) in wanted(&config, args) {
        found += explain_in(&journal, name, deployment, args).await?;
    }
    if found == 0 {
        bail!("no deployment's cache knows {:?}; give an address, a unit key or segment/address", args.account);
    }
    Ok(())
}

fn wanted<'c>(
    config: &'c Config,
    args: &WhyArgs,
) -> impl Iterator<Item = (&'c DeploymentName, &'c Deployment)> + use<'c> {
    let only = args.deployment.clone();
    config.deployments.iter().filter(move |(name, _)| only.as_ref().is_none_or(|only| only == *name))
}

/// Prints every matching unit of one deployment; returns how many.
async fn explain_in(
    journal: &Journal,
    name: &DeploymentName,
    deployment: &Deployment,
    args: &WhyArgs,
) -> anyhow::Result<usize> {
    let settings = serde_json::Value::Object(deployment.protocol.settings.clone());
    let adapter = protocols::adapter(&deployment.protocol.adapter, settings)
        .with_context(|| format!("deployments.{name}.protocol"))?;
    let Some(row) = journal.deployment_by_name(name).await? else { return Ok(0) };
    let Some((block, book)) = journal.load_cache(row.id).await? else { return Ok(0) };
    let snapshot = Snapshot { block, book };
    let units = adapter.find_units(&snapshot.book, &args.account);
    for unit in &units {
        let history = journal.unit_history(row.id, unit, args.limit).await?;
        print!("{}", explanation(name, &adapter, &snapshot, unit, &history));
        let burdens = journal.unit_burdens(row.id, unit, args.limit).await?;
        if !burdens.is_empty() {
            println!("what it bore for others or got back, and what others bore for it, newest first");
            println!("{}", episodes::burdens(&burdens));
        }
    }
    Ok(units.len())
}

fn explanation(
    name: &DeploymentName,
    adapter: &Arc<dyn Adapter>,
    snapshot: &Snapshot,
    key: &UnitKey,
    history: &UnitHistory,
) -> String {
    let mut text = format!("{name}: unit {key}, cache at block {} {}\n", snapshot.block.number, snapshot.block.hash);
    if let Some(unit) = snapshot.book.unit(key) {
        text += &format!("  owner {}, segment {}, cash {}\n", unit.owner, unit.segment, unit.cash);
        for leg in &unit.legs {
            let (market, kind) = (leg.market, leg.kind.as_str());
            text += &format!("  market {market}, {kind}: quantity {}, quote {}\n", leg.quantity, leg.quote);
        }
        text += &match adapter.standing(snapshot, key, unit) {
            Ok(standing) => how_it_stands(&standing),
            Err(why) => format!("  cannot be valued: {why}\n"),
        };
    }
    text += "\nfindings, newest first (one a change of condition)\n";
    let findings: Vec<Vec<String>> = history
        .findings
        .iter()
        .map(|finding| {
            vec![
                finding.block.to_string(),
                finding.condition.as_str().to_owned(),
                finding.equity.to_string(),
                finding.surplus.to_string(),
                finding.reason.clone().unwrap_or_default(),
            ]
        })
        .collect();
    text += &table(&["block", "condition", "equity", "surplus", "reason"], &findings);
    text += "\nactions, newest first\n";
    let actions: Vec<_> = history.actions.iter().map(|entry| entry.action.clone()).collect();
    text += &listing(&actions);
    for entry in history.actions.iter().filter(|entry| !entry.events.is_empty()) {
        text += &format!("\nmoves of action {}\n", entry.action.id);
        text += &events::listing(&entry.events);
    }
    for entry in history.actions.iter().filter(|entry| !entry.attempts.is_empty()) {
        text += &format!("\nattempts of action {}\n", entry.action.id);
        for attempt in &entry.attempts {
            text += &format!(
                "  {} {} signed at block {} ({}), {} wei per gas, {}{}\n",
                attempt.kind,
                attempt.hash,
                attempt.signed_block,
                attempt.signed_at.format("%Y-%m-%d %H:%M:%S%.3f"),
                attempt.max_fee_per_gas,
                attempt.broadcast.as_deref().unwrap_or("not broadcast"),
                attempt.included_block.map(|block| format!(", mined in block {block}")).unwrap_or_default()
            );
        }
    }
    text + "\n"
}

fn how_it_stands(standing: &Standing) -> String {
    let word = if standing.equity.is_negative() {
        "bankrupt"
    } else if standing.surplus.is_negative() {
        "liquidatable"
    } else {
        "not liquidatable"
    };
    let health_factor = standing.health_factor_wad.map(|wad| format!(", health factor {wad} / 1e18"));
    format!(
        "  equity {}, maintenance margin {}, surplus {}{}: {word}\n",
        standing.equity,
        standing.maintenance_margin,
        standing.surplus,
        health_factor.unwrap_or_default()
    )
}
