//! `backstop scan` and `backstop stress`: what may happen next, from the cache as the daemon keeps it. Both send nothing and
//! write nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use serde_json::json;

use super::{ConfigArgs, snapshot::Saved, table::table};
use crate::{
    config::{Config, Deployment},
    journal::Journal,
    pipeline::fund_means,
    positions::Snapshot,
    protocols::{self, Adapter},
    run,
    scanner::{
        Condition, DriverIndex, ScanReport, ScanSettings,
        risk::{Concentration, Exposures, Moves, RiskReport, RiskSettings, Stressed, Tail, UnitRisk, assess, stress},
        scan,
    },
    types::{DeploymentName, SegmentId},
};

#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this deployment.
    #[arg(long)]
    deployment: Option<DeploymentName>,
    /// Of a file that `backstop snapshot` wrote, not of the database.
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// So many accounts, those to look at first.
    #[arg(long, value_name = "ACCOUNTS")]
    top: Option<usize>,
    /// As JSON, one deployment a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct StressArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only this deployment.
    #[arg(long)]
    deployment: Option<DeploymentName>,
    /// Of a file that `backstop snapshot` wrote, not of the database.
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,
    /// What moves: -30% moves all prices, ETH=-30% or 2=-30% moves one; repeat it for several, the last one counts.
    #[arg(long = "shock", value_name = "[PRICE=]PERCENT", allow_hyphen_values = true, required = true)]
    shocks: Vec<Shock>,
    /// The prices that no shock names move along as they were seen to.
    #[arg(long)]
    along: bool,
    /// As JSON, one deployment a line.
    #[arg(long)]
    json: bool,
}

/// A move of one price, or of all.
#[derive(Clone, Debug, PartialEq)]
struct Shock {
    price: Option<String>,
    part: f64,
}

impl FromStr for Shock {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (price, percent) = match text.split_once('=') {
            Some((price, percent)) => (Some(price.trim().to_owned()), percent),
            None => (None, text),
        };
        let part = percent.trim().trim_end_matches('%').trim().parse::<f64>().ok().map(|percent| percent / 100.0);
        let part = part.filter(|part| part.is_finite() && (-1.0..=100.0).contains(part));
        let part =
            part.ok_or_else(|| format!("{text:?} is no shock; write -30% for all prices or ETH=-12.5% for one"))?;
        Ok(Self { price, part })
    }
}

/// A deployment as the journal has it.
struct Cached {
    adapter: Arc<dyn Adapter>,
    snapshot: Snapshot,
    moves: Moves,
    settings: RiskSettings,
}

impl Cached {
    fn of(name: &DeploymentName, deployment: &Deployment, snapshot: Snapshot, moves: Moves) -> anyhow::Result<Self> {
        let settings = serde_json::Value::Object(deployment.protocol.settings.clone());
        let adapter = protocols::adapter(&deployment.protocol.adapter, settings)
            .with_context(|| format!("deployments.{name}.protocol"))?;
        Ok(Self { adapter, snapshot, moves, settings: deployment.risk.clone() })
    }

    async fn load(journal: &Journal, name: &DeploymentName, deployment: &Deployment) -> anyhow::Result<Option<Self>> {
        let Some(row) = journal.deployment_by_name(name).await? else { return Ok(None) };
        let Some((block, book)) = journal.load_cache(row.id).await? else { return Ok(None) };
        let moves = journal.risk_moves(row.id).await?.unwrap_or_default();
        Self::of(name, deployment, Snapshot { block, book }, moves).map(Some)
    }

    fn exact(&self, deployment: &Deployment) -> ScanReport {
        let settings = ScanSettings { at_risk_health_factor_bps: deployment.scanner.at_risk_health_factor_bps };
        scan(self.adapter.as_ref(), &self.snapshot, &settings)
    }
}

/// The wanted deployments that have a cache, or the one that was saved to this file.
async fn caches<'c>(
    config: &'c Config,
    only: Option<&DeploymentName>,
    saved: Option<&Path>,
) -> anyhow::Result<Vec<(&'c DeploymentName, &'c Deployment, Cached)>> {
    if let Some(path) = saved {
        let saved = Saved::read(path)?;
        let of = config.deployments.iter().find(|(name, _)| **name == saved.deployment);
        let (name, deployment) =
            of.with_context(|| format!("{} is of {}, which is not configured", path.display(), saved.deployment))?;
        let (snapshot, moves) = saved.into_snapshot();
        return Ok(vec![(name, deployment, Cached::of(name, deployment, snapshot, moves)?)]);
    }
    let journal = run::open_journal(&config.database).await?;
    let mut found = Vec::new();
    for (name, deployment) in config.deployments.iter().filter(|(name, _)| only.is_none_or(|only| only == *name)) {
        if let Some(cached) = Cached::load(&journal, name, deployment).await? {
            found.push((name, deployment, cached));
        }
    }
    if found.is_empty() {
        bail!("no such deployment has a cache; run the daemon first, or name another with --deployment");
    }
    Ok(found)
}

pub(super) async fn scan_now(args: &ScanArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    for (name, deployment, mut cached) in caches(&config, args.deployment.as_ref(), args.snapshot.as_deref()).await? {
        cached.settings.watched_max = args.top.unwrap_or(cached.settings.watched_max);
        let exact = cached.exact(deployment);
        let funds = fund_means(cached.adapter.as_ref(), &cached.snapshot);
        let report = assess(cached.adapter.as_ref(), &cached.snapshot, &cached.moves, &funds, &cached.settings)
            .with_context(|| format!("{name}: its accounts cannot be valued"))?;
        if args.json {
            let conditions: BTreeMap<&str, usize> =
                Condition::ALL.iter().map(|one| (one.as_str(), counted(&exact, *one))).collect();
            println!("{}", json!({ "deployment": name, "conditions": conditions, "risk": report }));
        } else {
            print!("{}", as_text(name, &exact, &report));
        }
    }
    Ok(())
}

/// Units of a condition, by the exact scan.
fn counted(report: &ScanReport, condition: Condition) -> usize {
    match condition {
        Condition::Healthy => report.units - report.findings.len(),
        other => report.findings.iter().filter(|finding| finding.condition == other).count(),
    }
}

fn as_text(name: &DeploymentName, exact: &ScanReport, report: &RiskReport) -> String {
    let conditions = Condition::ALL.map(|one| format!("{} {}", counted(exact, one), one.as_str())).join(", ");
    let tail = match report.tail {
        Tail::Normal => "normal".to_owned(),
        Tail::Student { freedom } => format!("Student's with {freedom:.1} degrees of freedom"),
    };
    let mut text = format!("{name}, block {}: {} units: {conditions}\n", report.block.number, exact.units);
    text += &format!("  moves: {} seen, tail {tail}\n", report.observations);
    for at in &report.horizons {
        let (within, liquidations, bad_debt) = (time(at.seconds as f64), at.liquidations, figure(at.bad_debt));
        text += &format!(
            "  within {within}: {liquidations:.1} liquidations, bad debt {bad_debt} expected if nobody acts\n"
        );
    }
    if report.opaque_units > 0 {
        text += &format!("  {} units have no planes and are known only at each block\n", report.opaque_units);
    }
    let horizons = report.horizons.iter().map(|at| format!("P({})", time(at.seconds as f64)));
    let fixed = ["account", "condition", "equity", "surplus", "σ/day away", "median"].map(str::to_owned);
    let head: Vec<String> =
        fixed.into_iter().chain(horizons).chain(["lost by then".to_owned(), "liquidated at".to_owned()]).collect();
    text += &section(&head, report.watched.iter().map(watched).collect());
    let volatility = |one: &Concentration| {
        let found = report.volatilities.iter().find(|volatility| volatility.driver == one.driver);
        found.map_or("-".to_owned(), |volatility| format!("{:.2} %", volatility.per_day * 100.0))
    };
    let held = report.concentrations.iter().map(|one| {
        let owner = format!("{:#x} {:.0} %", one.largest_owner, one.largest_share * 100.0);
        let share = format!("{:.3}", one.herfindahl);
        vec![one.driver.clone(), volatility(one), figure(one.long), figure(one.short), share, owner]
    });
    let head = ["price", "volatility/day", "long", "short", "Herfindahl", "largest owner"];
    text += &section(&head.map(str::to_owned), held.collect());
    let grid = report.grid.iter().map(|row| {
        let total = &row.total;
        let counts = [total.liquidatable, total.bankrupt, row.rounds.into()].map(|count| count.to_string());
        [vec![row.shock.clone(), figure(total.bad_debt)], counts.to_vec()].concat()
    });
    let head = ["shock", "bad debt", "liquidatable", "bankrupt", "rounds"];
    text += &section(&head.map(str::to_owned), grid.collect());
    let percent = |by: Option<f64>| by.map_or("none".to_owned(), |by| format!("{:+.0} %", by * 100.0));
    let runways = report.runways.iter().map(|(segment, runway)| {
        vec![segment.to_string(), figure(runway.fund), percent(runway.fall), percent(runway.rise)]
    });
    text + &section(&["segment", "fund", "gone at a fall of", "at a rise of"].map(str::to_owned), runways.collect())
}

fn watched(risk: &UnitRisk) -> Vec<String> {
    let first = [
        risk.unit.to_string(),
        risk.condition.as_str().to_owned(),
        figure(risk.equity),
        figure(risk.surplus),
        risk.distance_deviations_per_day.map_or("-".to_owned(), |distance| format!("{distance:.2}")),
        risk.median_seconds_to_liquidation.map_or("-".to_owned(), time),
    ];
    let chances = risk.at_horizons.iter().map(|at| format!("{:.1} %", at.liquidation_chance * 100.0));
    let prices: Vec<String> =
        risk.liquidation_prices.iter().map(|(price, at)| format!("{price}: {}", figure(*at))).collect();
    let last = [figure(risk.at_horizons.last().map_or(0.0, |at| at.expected_bad_debt)), prices.join(", ")];
    first.into_iter().chain(chances).chain(last).collect()
}

/// A table with a line before it; nothing without rows.
fn section(head: &[String], rows: Vec<Vec<String>>) -> String {
    let head: Vec<&str> = head.iter().map(String::as_str).collect();
    if rows.is_empty() { String::new() } else { format!("\n{}", table(&head, &rows)) }
}

/// A number for people: whole where it is large.
fn figure(amount: f64) -> String {
    if amount == 0.0 || amount.abs() >= 100.0 { format!("{amount:.0}") } else { format!("{amount:.4}") }
}

/// A time for people.
fn time(seconds: f64) -> String {
    match seconds {
        under if under < 120.0 => format!("{under:.0} s"),
        under if under < 7_200.0 => format!("{:.0} min", under / 60.0),
        under if under < 172_800.0 => format!("{:.0} h", under / 3_600.0),
        longer if longer < 3.15e8 => format!("{:.0} d", longer / 86_400.0),
        _ => "years".to_owned(),
    }
}

pub(super) async fn stress_now(args: &StressArgs) -> anyhow::Result<()> {
    let config = args.config.load()?;
    for (name, _, cached) in caches(&config, args.deployment.as_ref(), args.snapshot.as_deref()).await? {
        let adapter = cached.adapter.as_ref();
        let exposures = Exposures::of(adapter, &cached.snapshot)
            .with_context(|| format!("{name}: its accounts cannot be valued"))?;
        let moves = shocked(args, &exposures, &cached).with_context(|| name.to_string())?;
        let stressed = stress(&exposures, &moves, &cached.settings.notional_of_one_percent);
        let funds = fund_means(adapter, &cached.snapshot);
        let block = cached.snapshot.block.number;
        if args.json {
            let opaque = exposures.opaque.len();
            let told = json!({ "deployment": name, "block": block, "opaque_units": opaque, "funds": funds, "stress": stressed });
            println!("{told}");
        } else {
            print!("{name}, block {block}: {}", stressed_text(&stressed, &funds, exposures.opaque.len()));
        }
    }
    Ok(())
}

/// The moves of all prices, in their order.
fn shocked(args: &StressArgs, exposures: &Exposures, cached: &Cached) -> anyhow::Result<Vec<f64>> {
    let names = &exposures.drivers.names;
    let mut moves: Vec<Option<f64>> = vec![None; names.len()];
    for shock in &args.shocks {
        let Some(price) = &shock.price else {
            moves.fill(Some(shock.part));
            continue;
        };
        let aliases = cached.settings.aliases.iter();
        let real = aliases.clone().find(|(alias, _)| alias.eq_ignore_ascii_case(price)).map_or(price, |(_, real)| real);
        let place = names.iter().position(|name| name == real).ok_or_else(|| {
            let known: Vec<&str> = names.iter().chain(aliases.map(|(alias, _)| alias)).map(String::as_str).collect();
            anyhow!("--shock: no price is called {price:?}; known are {}", known.join(", "))
        })?;
        moves[place] = Some(shock.part);
    }
    let model = cached.moves.model(&exposures.drivers, &cached.settings.moves);
    let named = (0..).zip(&moves).filter_map(|(driver, by)| Some((DriverIndex(driver), (*by)?)));
    // With several named the others follow the one that moved furthest.
    let leader = named.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).filter(|_| args.along);
    let others = leader.map(|(driver, by)| model.with_others(driver, by));
    let follow = |place: usize| others.as_ref().map_or(0.0, |others| others[place]);
    Ok(moves.iter().enumerate().map(|(place, by)| by.unwrap_or_else(|| follow(place))).collect())
}

fn stressed_text(stressed: &Stressed, funds: &BTreeMap<SegmentId, f64>, opaque: usize) -> String {
    let moves = stressed.moves.iter().map(|(price, by)| format!("{price} {:+.2} %", by * 100.0));
    let moves: Vec<String> = moves.collect();
    let mut text = format!("{} after {} rounds\n", moves.join(", "), stressed.rounds);
    if opaque > 0 {
        text += &format!("  {opaque} units have no planes and are not in these figures\n");
    }
    if stressed.segments.is_empty() {
        return text + "  nobody becomes liquidatable\n";
    }
    let rows = stressed.segments.iter().map(|(segment, found)| {
        let fund = funds.get(segment).copied().unwrap_or(0.0);
        let counts = [found.liquidatable, found.bankrupt].map(|count| count.to_string());
        let amounts = [found.bad_debt, fund, (found.bad_debt - fund).max(0.0)].map(figure);
        [vec![segment.to_string()], counts.to_vec(), amounts.to_vec()].concat()
    });
    let head = ["segment", "liquidatable", "bankrupt", "bad debt", "fund", "beyond it"];
    text + &table(&head, &rows.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shocks_are_read_as_people_write_them() {
        let shock = |price: Option<&str>, part| Ok(Shock { price: price.map(str::to_owned), part });
        assert_eq!("-30%".parse(), shock(None, -0.3));
        assert_eq!("ETH=-12.5%".parse(), shock(Some("ETH"), -0.125));
        assert_eq!("2 = 40".parse(), shock(Some("2"), 0.4));
        for wrong in ["", "ETH", "ETH=", "-101%", "NaN%", "inf%"] {
            assert!(wrong.parse::<Shock>().unwrap_err().contains("is no shock"), "{wrong}");
        }
    }

    #[test]
    fn figures_and_times_are_short() {
        assert_eq!([0.0, 0.12345, -99.0, 1e9].map(figure), ["0", "0.1235", "-99.0000", "1000000000"]);
        assert_eq!([60.0, 3_600.0, 86_400.0, 1e6, 1e12].map(time), ["60 s", "60 min", "24 h", "12 d", "years"]);
    }
}
