//! `backstop plan`: what would be done now, or after a shock, and why; from the cache as the daemon keeps it. Sends nothing
//! and writes nothing.

use std::{collections::BTreeSet, str::FromStr};

use anyhow::{Context, bail};
use clap::Args;
use serde_json::json;

use super::{ConfigArgs, table::table};
use crate::{
    chain::RpcMetrics,
    config::Deployment,
    executor,
    journal::{DeploymentId, Journal},
    pipeline::TermsSource,
    positions::Snapshot,
    protocols::{self, Shock},
    recovery::{Action, BalancedPlan, Reservations, SegmentCase, Waterfall, plan_offered, plan_with},
    run,
    scanner::{ScanSettings, scan},
    types::{BlockRef, DeploymentName, MarketId, SegmentId, U256},
};

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only in this deployment.
    #[arg(long)]
    deployment: Option<DeploymentName>,
    /// Only in this segment.
    #[arg(long)]
    segment: Option<u32>,
    /// First move prices: -30% moves all, 2=-30% moves market 2; repeat it for several markets.
    #[arg(long = "shock", value_name = "[MARKET=]PERCENT", allow_hyphen_values = true)]
    shocks: Vec<ShockArg>,
    /// As JSON, one plan a line.
    #[arg(long)]
    json: bool,
}

/// A shock as it is typed: `-30%`, `2=-12.5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ShockArg(Shock);

impl FromStr for ShockArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no shock; write -30% for all markets or 2=-12.5% for market 2");
        let (market, change) = match text.split_once('=') {
            Some((market, change)) => (Some(MarketId(market.trim().parse().map_err(|_| wrong())?)), change),
            None => (None, text),
        };
        let change_bps = bps(change.trim().trim_end_matches('%')).ok_or_else(wrong)?;
        Ok(Self(Shock { market, change_bps }))
    }
}

/// A percentage with at most two decimals, exactly, in basis points.
fn bps(percent: &str) -> Option<i32> {
    let (negative, digits) = match percent.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, percent.strip_prefix('+').unwrap_or(percent)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || part.len() > 2 || !plain(whole) || !plain(part) {
        return None;
    }
    let hundredths: i32 = format!("{part:0<2}").parse().ok()?;
    let magnitude = whole.parse::<i32>().ok()?.checked_mul(100)?.checked_add(hundredths)?;
    Some(if negative { -magnitude } else { magnitude })
}

pub(super) async fn plan(args: &PlanArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    let journal = run::open_journal(&config.database).await?;
    let wanted =
        config.deployments.iter().filter(|(name, _)| args.deployment.as_ref().is_none_or(|only| only == *name));
    let mut found = 0;
    for (name, deployment) in wanted {
        found += usize::from(plan_in(&journal, name, deployment, args).await?);
    }
    if found == 0 {
        bail!("no such deployment has a cache; run the daemon first, or name another with --deployment");
    }
    Ok(())
}

/// A deployment as the journal has it.
struct Desk<'a> {
    name: &'a DeploymentName,
    deployment: &'a Deployment,
    id: DeploymentId,
    block: BlockRef,
}

/// Plans every segment of one deployment that needs it; whether the deployment has a cache.
async fn plan_in(
    journal: &Journal,
    name: &DeploymentName,
    deployment: &Deployment,
    args: &PlanArgs,
) -> anyhow::Result<bool> {
    let settings = serde_json::Value::Object(deployment.protocol.settings.clone());
    let adapter = protocols::adapter(&deployment.protocol.adapter, settings)
        .with_context(|| format!("deployments.{name}.protocol"))?;
    let Some(row) = journal.deployment_by_name(name).await? else { return Ok(false) };
    let Some((block, book)) = journal.load_cache(row.id).await? else { return Ok(false) };
    let mut snapshot = Snapshot { block, book };
    if !args.shocks.is_empty() {
        let shocks: Vec<Shock> = args.shocks.iter().map(|shock| shock.0).collect();
        snapshot = adapter.shocked(&snapshot, &shocks).map_err(|why| anyhow::anyhow!("{name}: --shock: {why}"))?;
    }
    let scan_settings = ScanSettings { at_risk_health_factor_bps: deployment.scanner.at_risk_health_factor_bps };
    let report = scan(adapter.as_ref(), &snapshot, &scan_settings);
    let cases = adapter.cases(&snapshot, &report, args.segment.is_some());
    let wanted = |segment: &SegmentId| args.segment.is_none_or(|only| only == segment.0);
    let cases: Vec<SegmentCase> = cases.into_values().filter(|case| wanted(&case.segment)).collect();
    let desk = Desk { name, deployment, id: row.id, block };
    let unsettled = journal.unsettled_transactions(desk.id).await?;
    let reservations = executor::reservations_of(&unsettled, &block);
    let mut idle = true;
    for case in &cases {
        let plan = desk.plan(journal, case, reservations.clone()).await;
        // A segment may be looked at only because something was observed there.
        if args.segment.is_none() && plan.as_ref().is_ok_and(is_idle) {
            continue;
        }
        idle = false;
        match plan {
            Ok(plan) if args.json => println!("{}", desk.as_json(&plan, &args.shocks)),
            Ok(plan) => print!("{}", desk.as_text(&plan, &args.shocks)),
            Err(why) => println!("{name}, segment {}: no plan: {why:#}", case.segment),
        }
    }
    if idle && !args.json {
        println!("{name}, block {}: {} units looked at, nothing to do", block.number, report.units);
    }
    Ok(true)
}

/// Whether a plan has nothing to do, nothing to pay for and nothing to say.
fn is_idle(plan: &BalancedPlan) -> bool {
    plan.steps().is_empty() && plan.notes().is_empty() && plan.ledger().shortfall.is_zero()
}

impl Desk<'_> {
    async fn plan(
        &self,
        journal: &Journal,
        case: &SegmentCase,
        mut reservations: Reservations,
    ) -> anyhow::Result<BalancedPlan> {
        let waterfalls = run::reload::waterfalls(&self.deployment.recovery);
        let waterfall: &Waterfall = waterfalls.of(case.segment);
        let open = journal.open_episodes(self.id).await?;
        let episode = open.iter().find(|(_, segment, _)| *segment == case.segment).map(|(episode, _, _)| *episode);
        let cooldown = waterfall.cooldown_blocks_max();
        let used = journal.tier_use(self.id, case.segment, episode, self.block.number, cooldown).await?;
        reservations.used.extend(used.into_iter().map(|(tier, used)| ((case.segment, tier), used)));
        let Some(offered) = &case.offered else {
            return Ok(plan_with(case, &waterfall.tiers, waterfall.adl_policy, &reservations)?);
        };
        // What the keeper holds and what gas costs is the chain's to say.
        let meter = RpcMetrics::new(&prometheus::Registry::new())?.for_deployment(self.name);
        let ready = run::preflight::check(self.name, self.deployment, meter)
            .await
            .map_err(|faults| anyhow::anyhow!(faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
        let settings = run::policy_settings(&self.deployment.policy);
        let keeper = ready.signer.address();
        let source = TermsSource { rpc: &ready.rpc, journal, deployment: self.id, keeper, settings: &settings };
        let terms = source.of(case, offered, &self.block).await?;
        Ok(plan_offered(case, &waterfall.tiers, &terms, &reservations)?)
    }

    fn as_json(&self, plan: &BalancedPlan, shocks: &[ShockArg]) -> serde_json::Value {
        let shocks: Vec<_> = shocks
            .iter()
            .map(|ShockArg(shock)| json!({ "market": shock.market, "change_bps": shock.change_bps }))
            .collect();
        json!({ "deployment": self.name, "shocks": shocks, "plan": plan })
    }

    fn as_text(&self, plan: &BalancedPlan, shocks: &[ShockArg]) -> String {
        let shocked: Vec<String> = shocks.iter().map(|ShockArg(shock)| shock_text(shock)).collect();
        let after = if shocked.is_empty() { String::new() } else { format!(", after {}", shocked.join(", ")) };
        let ledger = plan.ledger();
        let mut text = format!("{}, segment {}, block {}{after}\n", self.name, plan.segment(), plan.block().number);
        let paid: Vec<String> = ledger
            .absorbed
            .iter()
            .filter(|(_, amount)| !amount.is_zero())
            .map(|(tier, amount)| format!("{tier} {amount}"))
            .chain([format!("nobody {}", ledger.residual)])
            .collect();
        text += &format!("  loss {} = {}\n", ledger.shortfall, paid.join(" + "));
        if ledger.returned > U256::ZERO {
            text += &format!("  paid back {}\n", ledger.returned);
        }
        let rows: Vec<Vec<String>> = plan
            .steps()
            .iter()
            .enumerate()
            .map(|(index, step)| {
                let unit = step.unit.as_ref().map_or("-".to_owned(), ToString::to_string);
                let (tier, does) = (step.tier.to_string(), action_text(&step.action));
                vec![(index + 1).to_string(), tier, unit, does, step.absorbs.to_string(), step.why.clone()]
            })
            .collect();
        if rows.is_empty() {
            text += "  no step\n";
        } else {
            text += &table(&["step", "tier", "unit", "does", "absorbs", "why"], &rows);
        }
        for note in plan.notes() {
            text += &format!("  left: {note}\n");
        }
        text + "\n"
    }
}

fn shock_text(shock: &Shock) -> String {
    let percent = format!("{:+}.{:02} %", shock.change_bps / 100, (shock.change_bps % 100).abs());
    shock.market.map_or(percent.clone(), |market| format!("market {market} {percent}"))
}

fn action_text(action: &Action) -> String {
    match action {
        Action::Close { market, fills } => {
            let lots = fills.iter().fold(U256::ZERO, |sum, fill| sum.saturating_add(fill.lots));
            format!("close {lots} lots in market {market} against {} orders", fills.len())
        }
        Action::DrawInsurance { amount } => format!("draw {amount} on the fund"),
        Action::ClaimBackstop { amount } => format!("claim {amount} of the shared backstop pool"),
        Action::DrawBackstop { amount } => format!("draw {amount} on the shared backstop pool"),
        Action::Deleverage { market, winners } => format!("close {} winners in market {market}", winners.len()),
        Action::Socialise { payers } => {
            let payers: BTreeSet<_> = payers.iter().map(|payer| &payer.unit).collect();
            format!("charge {} payers", payers.len())
        }
        Action::Gate { shut_for: Some(_), .. } => "shut withdrawals".to_owned(),
        Action::Gate { shut_for: None, .. } => "open withdrawals".to_owned(),
        Action::Restitute { claimants } => format!("pay {} claims back", claimants.len()),
        Action::SetMargin { market, maintenance_margin_bps, initial_margin_bps, .. } => {
            format!("margins of market {market} to {maintenance_margin_bps} and {initial_margin_bps} bps")
        }
        Action::Intent(intent) => format!("{} of {}", intent.kind.as_str(), intent.scope),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shocks_are_read_exactly_or_refused() {
        let shock = |text: &str| text.parse::<ShockArg>().map(|ShockArg(shock)| (shock.market, shock.change_bps));
        assert_eq!(shock("-30%"), Ok((None, -3_000)));
        assert_eq!(shock("2=-12.5%"), Ok((Some(MarketId(2)), -1_250)));
        assert_eq!(shock("7=+0.07"), Ok((Some(MarketId(7)), 7)));
        for wrong in ["", "%", "x=1%", "1.234%", "1=2=3", "--1", "1e3"] {
            assert!(shock(wrong).is_err_and(|why| why.contains("is no shock")), "{wrong}");
        }
        assert_eq!(shock_text(&Shock { market: None, change_bps: -1_250 }), "-12.50 %");
    }
}
