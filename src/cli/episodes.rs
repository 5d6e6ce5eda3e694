//! `backstop episodes`: crises as the journal has them, and of one of them the whole account: who lost what, for whom, why.

use anyhow::Context;
use clap::Args;

use super::{ConfigArgs, table::table};
use crate::{
    journal::{Burden, EpisodeAccount, EpisodeId, EpisodeRow},
    types::{DeploymentName, UnitKey},
};

#[derive(Debug, Args)]
pub(super) struct EpisodesArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The whole account of this episode.
    id: Option<i64>,
    /// Only of this deployment.
    #[arg(long)]
    deployment: Option<DeploymentName>,
    /// Only those that are open.
    #[arg(long)]
    open: bool,
    /// At most so many.
    #[arg(long, default_value_t = 20)]
    limit: u32,
    /// As JSON, one object a line.
    #[arg(long)]
    json: bool,
}

pub(super) async fn episodes(args: &EpisodesArgs) -> anyhow::Result<()> {
    let journal = args.config.journal().await?;
    let Some(id) = args.id else {
        let rows = journal.list_episodes(args.deployment.as_ref(), args.open, args.limit).await?;
        if args.json {
            for row in &rows {
                println!("{}", serde_json::to_string(row)?);
            }
        } else {
            print!("{}", listing(&rows));
        }
        return Ok(());
    };
    let account = journal.episode_account(EpisodeId(id)).await?;
    let account = account.with_context(|| format!("there is no episode {id}; `backstop episodes` lists them"))?;
    if args.json {
        println!("{}", serde_json::to_string(&account)?);
    } else {
        print!("{}", told(&account));
    }
    Ok(())
}

fn listing(rows: &[EpisodeRow]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.id.to_string(),
                row.deployment.to_string(),
                row.segment.to_string(),
                row.opened_at.format("%Y-%m-%d %H:%M:%S").to_string(),
                row.opened_block.to_string(),
                row.closed_block.map_or("open".to_owned(), |block| block.to_string()),
                row.plans.to_string(),
                row.residual.to_string(),
                row.why.clone(),
            ]
        })
        .collect();
    let head = ["id", "deployment", "segment", "began (UTC)", "from block", "to block", "plans", "residual", "why"];
    table(&head, &cells)
}

fn told(account: &EpisodeAccount) -> String {
    let mut text = listing(std::slice::from_ref(&account.episode));
    text += "\nwho paid, by tier\n";
    let sums: Vec<Vec<String>> =
        account.by_tier().iter().map(|(tier, sum)| vec![tier.to_string(), sum.to_string()]).collect();
    text += &table(&["tier", "amount"], &sums);
    text += "\nwho bore what, for whom, in the order of the chain\n";
    text += &burdens(&account.burdens);
    text += "\nwhat was decided, in order\n";
    let progress: Vec<Vec<String>> = account
        .progress
        .iter()
        .map(|step| {
            vec![
                step.block.to_string(),
                step.plan.map_or("refused".to_owned(), |plan| format!("plan {plan}")),
                step.shortfall.to_string(),
                step.absorbed.to_string(),
                step.residual.to_string(),
                step.notes.join("; "),
            ]
        })
        .collect();
    text + &table(&["block", "decision", "loss", "absorbed", "residual", "left undone"], &progress)
}

/// Burdens as a table.
pub(super) fn burdens(burdens: &[Burden]) -> String {
    let name =
        |unit: &Option<UnitKey>, otherwise: &str| unit.as_ref().map_or(otherwise.to_owned(), ToString::to_string);
    let cells: Vec<Vec<String>> = burdens
        .iter()
        .map(|burden| {
            vec![
                burden.block.to_string(),
                burden.tier.to_string(),
                name(&burden.bearer, "the insurance fund"),
                name(&burden.debtor, "-"),
                burden.amount.to_string(),
                burden.transaction.to_string(),
                burden.why.clone(),
            ]
        })
        .collect();
    table(&["block", "tier", "who", "for whom", "amount", "transaction", "why"], &cells)
}
