//! `backstop events`: what happened between two moments, move by move.

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::Args;

use super::{ConfigArgs, table::table};
use crate::{
    journal::{ActionEvent, EventFilter},
    types::DeploymentName,
};

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only of this deployment.
    #[arg(long)]
    deployment: Option<DeploymentName>,
    /// From this moment on, as in 2026-11-26T03:12:00Z.
    #[arg(long, value_name = "TIME")]
    since: Option<DateTime<Utc>>,
    /// Before this moment.
    #[arg(long, value_name = "TIME")]
    until: Option<DateTime<Utc>>,
    /// At most so many, the newest.
    #[arg(long, default_value_t = 200)]
    limit: u32,
    /// As JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn events(args: &EventsArgs) -> anyhow::Result<()> {
    let journal = args.config.journal().await?;
    let deployment = match &args.deployment {
        Some(name) => {
            let row = journal.deployment_by_name(name).await?;
            Some(row.with_context(|| format!("the journal has no deployment {name}"))?.id)
        }
        None => None,
    };
    let filter = EventFilter { deployment, since: args.since, until: args.until, limit: args.limit };
    let events = journal.action_events(&filter).await?;
    if args.json {
        for event in &events {
            println!("{}", serde_json::to_string(event)?);
        }
    } else {
        print!("{}", listing(&events));
    }
    Ok(())
}

/// The events as a table.
pub(super) fn listing(events: &[ActionEvent]) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let cells: Vec<Vec<String>> = events
        .iter()
        .map(|event| {
            let before = event.before.map(|before| format!("{before} \u{2192} "));
            vec![
                event.occurred_at.format("%Y-%m-%d %H:%M:%S%.3f").to_string(),
                event.deployment.to_string(),
                event.block.to_string(),
                event.plan.to_string(),
                event.action.to_string(),
                event.tier.as_str().to_owned(),
                or_dash(event.unit.as_ref().map(ToString::to_string)),
                format!("{}{}", before.unwrap_or_default(), event.status),
                or_dash(event.transaction.map(|transaction| transaction.to_string())),
                event.why.clone(),
            ]
        })
        .collect();
    let head = ["when (UTC)", "deployment", "block", "plan", "action", "tier", "unit", "status", "transaction", "why"];
    table(&head, &cells)
}
