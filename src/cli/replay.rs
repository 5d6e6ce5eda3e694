//! `backstop replay --episode N`: makes every plan of an episode again from what it was made from, and holds it against what was
//! written then. Sends nothing and writes nothing.

use anyhow::bail;
use clap::Args;
use serde_json::json;

use super::ConfigArgs;
use crate::journal::{EpisodeId, KeptPlan};

#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The episode, as `backstop episodes` numbers them.
    #[arg(long)]
    episode: i64,
    /// Print each decision as JSON, one a line, instead of a verdict.
    #[arg(long)]
    json: bool,
}

pub(super) async fn replay(args: &ReplayArgs) -> anyhow::Result<()> {
    let journal = args.config.journal().await?;
    let plans = journal.kept_plans(EpisodeId(args.episode)).await?;
    if plans.is_empty() {
        bail!("episode {} has no plan; `backstop episodes` lists them", args.episode);
    }
    let mut different = 0;
    for plan in &plans {
        let verdict = verdict(plan);
        different += usize::from(matches!(verdict, Verdict::Different(_)));
        if args.json {
            let KeptPlan { id, deployment, segment, block, decision, steps, ledger, notes, .. } = plan;
            let same = matches!(verdict, Verdict::Same);
            println!(
                "{}",
                json!({ "plan": id.0, "deployment": deployment, "segment": segment, "block": block, "same": same,
                    "decision": decision, "steps": steps, "ledger": ledger, "notes": notes })
            );
        } else {
            let KeptPlan { id, deployment, segment, block, created_at, steps, .. } = plan;
            let at = created_at.format("%Y-%m-%d %H:%M:%S");
            let (steps, what) = (steps.len(), verdict.text());
            println!("plan {}, {at} UTC, {deployment}, segment {segment}, block {block}: {steps} steps, {what}", id.0);
        }
    }
    if different > 0 {
        bail!(
            "{different} of {} plans came out differently; another build made them, or the journal was changed",
            plans.len()
        );
    }
    Ok(())
}

enum Verdict {
    Same,
    /// What differs.
    Different(&'static str),
    NotKept,
}

impl Verdict {
    fn text(&self) -> String {
        match self {
            Self::Same => "made again bit for bit".to_owned(),
            Self::Different(what) => format!("DIFFERENT: {what}"),
            Self::NotKept => "what it was made from was not kept (the segment is too large)".to_owned(),
        }
    }
}

fn verdict(kept: &KeptPlan) -> Verdict {
    let Some(decision) = &kept.decision else { return Verdict::NotKept };
    let Ok(plan) = decision.plan() else { return Verdict::Different("there is no plan") };
    match () {
        () if plan.steps() != kept.steps => Verdict::Different("steps"),
        () if *plan.ledger() != kept.ledger => Verdict::Different("ledger"),
        () if plan.notes() != kept.notes => Verdict::Different("notes"),
        () => Verdict::Same,
    }
}
