//! `backstop actions`: the journal as a list.

use clap::Args;

use super::{ConfigArgs, table::table};
use crate::{
    journal::{ActionFilter, ActionRow, ActionStatus},
    types::{DeploymentName, UnitKey},
};

#[derive(Debug, Args)]
pub(super) struct ActionsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only of this deployment.
    #[arg(long)]
    deployment: Option<DeploymentName>,
    /// Only of this unit, by its key.
    #[arg(long)]
    unit: Option<UnitKey>,
    /// Only in this status.
    #[arg(long)]
    status: Option<ActionStatus>,
    /// Only of plans made from this block on.
    #[arg(long)]
    since_block: Option<u64>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// As JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn actions(args: &ActionsArgs) -> anyhow::Result<()> {
    let journal = args.config.journal().await?;
    let filter = ActionFilter {
        deployment: args.deployment.clone(),
        unit: args.unit.clone(),
        since_block: args.since_block,
        status: args.status,
        limit: args.limit,
    };
    let rows = journal.list_actions(&filter).await?;
    if args.json {
        for row in &rows {
            println!("{}", serde_json::to_string(row)?);
        }
    } else {
        print!("{}", listing(&rows));
    }
    Ok(())
}

/// The rows as a table.
pub(super) fn listing(rows: &[ActionRow]) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.id.to_string(),
                row.created_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                row.deployment.to_string(),
                row.planned_block.to_string(),
                row.tier.as_str().to_owned(),
                or_dash(row.unit.as_ref().map(ToString::to_string)),
                row.absorbs.to_string(),
                row.status.as_str().to_owned(),
                or_dash(row.tx_block.map(|block| block.to_string())),
                or_dash(row.tx_hash.map(|hash| hash.to_string())),
                row.reason.clone().unwrap_or_else(|| row.why.clone()),
            ]
        })
        .collect();
    let head = [
        "id",
        "written (UTC)",
        "deployment",
        "plan at",
        "tier",
        "unit",
        "absorbs",
        "status",
        "mined in",
        "transaction",
        "why",
    ];
    table(&head, &cells)
}
