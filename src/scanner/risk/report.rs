//! Everything that is told of a snapshot's risk, in one piece.
//!
//! Must not: leave a unit out of a total.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Concentration, Depth, Exposures, Model, Moves, MovesSettings, SegmentStress, Tail, UnitRisk,
    measures::{Likelihood, Rank, per_day},
    runways,
    screened::Screened,
    stress,
};
use crate::{
    positions::Snapshot,
    scanner::{DriverIndex, Unvalued, Valuation},
    types::{BlockRef, SegmentId, UnitKey},
};

/// Falls of all prices together in the grid.
const GRID: [f64; 6] = [-0.10, -0.20, -0.40, 0.10, 0.20, 0.40];
/// The move of one price with the others along.
const ALONG: f64 = -0.20;
/// How many prices are moved so.
const ALONG_MAX: usize = 8;
/// How far, and how finely, a fund's runway is looked for.
const RUNWAY_STEPS: i32 = 99;

/// What is measured, and how far ahead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RiskSettings {
    /// How long it takes from a breach to a mined liquidation.
    pub reaction_seconds: u64,
    /// How far ahead to look.
    pub horizons_seconds: Vec<u64>,
    /// Units in the list of those to look at.
    pub watched_max: usize,
    /// Time between two reports, of the chain's clock.
    pub report_every_seconds: u64,
    /// A segment whose fund is gone at a smaller move of all prices than this is told of.
    pub runway_bps_min: u32,
    /// See [`Depth`].
    pub notional_of_one_percent: Depth,
    /// Other names of prices, for people.
    pub aliases: BTreeMap<String, String>,
    /// How moves are measured.
    pub moves: MovesSettings,
}

impl Default for RiskSettings {
    fn default() -> Self {
        Self {
            reaction_seconds: 60,
            horizons_seconds: vec![3_600, 86_400],
            watched_max: 20,
            report_every_seconds: 60,
            runway_bps_min: 500,
            notional_of_one_percent: Depth::new(),
            aliases: BTreeMap::new(),
            moves: MovesSettings::default(),
        }
    }
}

/// See the module. Amounts in settlement-token units; over several segments they add up where these count in one token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RiskReport {
    /// The block it is true of.
    pub block: BlockRef,
    /// Units that prices can hurt.
    pub units: usize,
    /// Units that are known only at each block, since they have no planes: how many, and the first of them with the reason.
    pub opaque_units: usize,
    /// See there.
    pub opaque: Vec<(UnitKey, String)>,
    /// How each price was seen to move.
    pub volatilities: Vec<Volatility>,
    /// How heavy the tail is.
    pub tail: Tail,
    /// Moves seen.
    pub observations: u64,
    /// Sums over all units.
    pub horizons: Vec<HorizonTotal>,
    /// Who comes first.
    pub watched: Vec<UnitRisk>,
    /// Who holds what.
    pub concentrations: Vec<Concentration>,
    /// What shocks would do.
    pub grid: Vec<GridRow>,
    /// How far prices may move before a fund is gone.
    pub runways: BTreeMap<SegmentId, Runway>,
}

/// A price's volatility.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Volatility {
    /// The price.
    pub driver: String,
    /// One standard deviation of its relative move over a day.
    pub per_day: f64,
}

/// What is expected over all units when this much time has passed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct HorizonTotal {
    /// The time.
    pub seconds: u64,
    /// Expected number of units that will have been liquidatable.
    pub liquidations: f64,
    /// Expected bad debt then, if nobody does anything.
    pub bad_debt: f64,
}

/// One shock and what it comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GridRow {
    /// What happens, for people.
    pub shock: String,
    /// Rounds of the cascade.
    pub rounds: u32,
    /// Over all segments.
    #[serde(flatten)]
    pub total: SegmentStress,
}

/// Moves of all prices at which a segment's bad debt exceeds its fund; `None` where none up to ±99 % does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Runway {
    /// What the fund may spend.
    pub fund: f64,
    /// The first fall, below zero.
    pub fall: Option<f64>,
    /// The first rise.
    pub rise: Option<f64>,
}

/// Measures a snapshot. `funds`: what each segment's insurance fund may spend.
pub fn assess(
    valuation: &dyn Valuation,
    snapshot: &Snapshot,
    moves: &Moves,
    funds: &BTreeMap<SegmentId, f64>,
    settings: &RiskSettings,
) -> Result<RiskReport, Unvalued> {
    let exposures = Exposures::of(valuation, snapshot)?;
    let model = moves.model(&exposures.drivers, &settings.moves);
    let (horizons, watched) = look_ahead(&exposures, &model, settings);
    let depth = &settings.notional_of_one_percent;
    let concentrations = exposures.concentrations();
    let steps = |sign: f64| (1..=RUNWAY_STEPS).map(move |percent| sign * f64::from(percent) / 100.0);
    let [falls, rises] = if depth.is_empty() {
        // nothing cascades, so all steps can be looked at together
        let columns = Screened::of(valuation, snapshot)?;
        [-1.0, 1.0].map(|sign| columns.runways(funds, steps(sign)))
    } else {
        [-1.0, 1.0].map(|sign| runways(&exposures, funds, depth, steps(sign)))
    };
    let runway = |(segment, fund): (&SegmentId, &f64)| {
        (*segment, Runway { fund: *fund, fall: falls.get(segment).copied(), rise: rises.get(segment).copied() })
    };
    let volatility =
        |(name, deviation): (&String, &f64)| Volatility { driver: name.clone(), per_day: per_day(*deviation) };
    Ok(RiskReport {
        block: snapshot.block,
        units: exposures.units.len(),
        volatilities: exposures.drivers.names.iter().zip(&model.deviations).map(volatility).collect(),
        tail: model.tail,
        observations: moves.observations,
        horizons,
        watched,
        grid: grid(&exposures, &model, depth, &concentrations),
        concentrations,
        runways: funds.iter().map(runway).collect(),
        opaque_units: exposures.opaque.len(),
        opaque: exposures.opaque.into_iter().take(settings.watched_max).collect(),
    })
}

/// What is expected at each horizon, and who comes first.
fn look_ahead(exposures: &Exposures, model: &Model, settings: &RiskSettings) -> (Vec<HorizonTotal>, Vec<UnitRisk>) {
    let (reaction, horizons) = (settings.reaction_seconds, &settings.horizons_seconds);
    let mut totals: Vec<HorizonTotal> =
        horizons.iter().map(|seconds| HorizonTotal { seconds: *seconds, liquidations: 0.0, bad_debt: 0.0 }).collect();
    let mut ranked = Vec::with_capacity(exposures.units.len());
    for (place, unit) in exposures.units.iter().enumerate() {
        let likelihood = Likelihood::of(exposures, unit, model);
        for total in &mut totals {
            let at = likelihood.at(total.seconds, model);
            total.liquidations += at.liquidation_chance;
            total.bad_debt += at.expected_bad_debt;
        }
        ranked.push((Rank::of(&likelihood, reaction, model), place));
    }
    let order = |a: &(Rank, usize), b: &(Rank, usize)| a.0.compare(&b.0).then(a.1.cmp(&b.1));
    let watched = settings.watched_max.min(ranked.len());
    if watched < ranked.len() {
        ranked.select_nth_unstable_by(watched, order);
        ranked.truncate(watched);
    }
    ranked.sort_unstable_by(order);
    let units = ranked.iter().map(|(_, place)| &exposures.units[*place]);
    (totals, units.map(|unit| UnitRisk::of(exposures, unit, model, reaction, horizons)).collect())
}

/// The stress grid: all prices together, and each of those that most is held of with the others along.
fn grid(exposures: &Exposures, model: &Model, depth: &Depth, held: &[Concentration]) -> Vec<GridRow> {
    let names = &exposures.drivers.names;
    let mut by_size: Vec<&Concentration> = held.iter().collect();
    by_size.sort_by(|a, b| (b.long + b.short).total_cmp(&(a.long + a.short)).then(a.driver.cmp(&b.driver)));
    let uniform = |by: f64| (format!("all {:+.0} %", by * 100.0), vec![by; names.len()]);
    let along = by_size.iter().take(ALONG_MAX).filter_map(|one| {
        let driver = names.iter().position(|name| *name == one.driver)?;
        let moves = model.with_others(DriverIndex(u32::try_from(driver).ok()?), ALONG);
        Some((format!("{} {:+.0} %, others along", one.driver, ALONG * 100.0), moves))
    });
    let row = |(shock, moves): (String, Vec<f64>)| {
        let stressed = stress(exposures, &moves, depth);
        GridRow { shock, rounds: stressed.rounds, total: stressed.total() }
    };
    GRID.into_iter().map(uniform).chain(along).map(row).collect()
}
