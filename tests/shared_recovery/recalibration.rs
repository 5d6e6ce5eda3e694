//! The margin controller and the same crash without it, on the venue's contracts.
//!
//! Traders enter one a minute with the same cash and all the leverage that the initial margin allows. The price is calm,
//! then restless, then falls in gaps, then calm again. The controller sees prices up to now only.

use anyhow::Result;
use backstop::{
    recovery::{Adjustment, Band, Holder, Measured, Rules, Tighter, Trace, harmless_margin_bps, volatility_bps},
    types::{Address, I256, U256},
};

use crate::world::{
    ADMIN, Clearinghouse, GENESIS, HOUSE, IRiskSteward, MARKET, RiskSteward, Venue, World, in_a_world, tokens, trader,
};

const CASH: u64 = 10_000_000;
const MAINTENANCE_BPS: u16 = 500;
const MINUTE: u64 = 60;
const WINDOW: usize = 6;
const RULES: Rules = Rules {
    margin_multiple: 8,
    runway_seconds_min: 3_600,
    utilisation_optimal_bps: 8_000,
    slope_base: U256::ZERO,
    slope_full: U256::ZERO,
};

#[derive(Debug, Default)]
struct Outcome {
    bad_debt: U256,
    bankrupt: usize,
    liquidations: usize,
    notional: U256,
    steps: usize,
    tipped: usize,
    margin_bps_max: u16,
    margin_bps_end: u16,
}

/// Moves from minute to minute, basis points: 8 of calm, 10 of unrest, the fall, and calm for as long as it takes.
fn restless() -> Vec<i64> {
    let calm = [10, -10, 5, -5, 10, -10, 5, -5];
    let unrest = [90, -110, 120, -130, 100, -140, 130, -120, 110, -150];
    let fall = [-300, -700, -900, -600, 200, -800];
    let after = std::iter::repeat_n([10, -10], 25).flatten();
    calm.into_iter().chain(unrest).chain(fall).chain(after).collect()
}

/// One gap out of a calm that never broke.
fn out_of_the_blue() -> Vec<i64> {
    let calm = |minutes: usize| std::iter::repeat_n([10, -10], minutes / 2).flatten();
    calm(18).chain([-1_200]).chain(calm(50)).collect()
}

fn band() -> Band {
    Band {
        tighter: Tighter::Up,
        floor: U256::from(MAINTENANCE_BPS),
        ceiling: U256::from(2_000),
        step_bps_max: 2_000,
        delay_seconds: MINUTE,
        hysteresis_bps: 500,
        calm_seconds: 10 * MINUTE,
    }
}

#[test]
fn the_controller_lowers_bad_debt_and_tips_nobody_over() {
    let [without, with] = compare("unrest first", &restless());
    assert!(with.bad_debt < without.bad_debt, "bad debt falls");
    // Less is opened under higher margins; a unit of it has to be safer, too.
    assert!(with.bad_debt * without.notional < without.bad_debt * with.notional, "per notional as well");
    assert_eq!(with.tipped, 0, "no step makes a healthy account liquidatable");
    assert!(with.margin_bps_max > MAINTENANCE_BPS && without.steps == 0);
    // It comes to rest where the floor is nearer than the hysteresis.
    let rest = u32::from(with.margin_bps_end) * (10_000 - band().hysteresis_bps) / 10_000;
    assert!(rest <= u32::from(MAINTENANCE_BPS), "relaxed after calm");
}

/// What it cannot do: nothing announces this gap, and it has to leave the damage as it is.
#[test]
fn a_gap_out_of_the_blue_finds_the_old_margin() {
    let [without, with] = compare("out of the blue", &out_of_the_blue());
    assert!(!without.bad_debt.is_zero());
    assert_eq!(with.bad_debt, without.bad_debt, "neither better nor worse");
    assert_eq!(with.tipped, 0, "no step makes a healthy account liquidatable");
}

/// Plays the same prices without and with the controller, each on a chain of its own, and prints both.
fn compare(name: &str, moves: &[i64]) -> [Outcome; 2] {
    let outcomes = [false, true].map(|controlled| in_a_world(async |world| play(&world, controlled, moves).await));
    let mut table =
        format!("{name}: bad debt  bankrupt  liquidations  notional opened  steps  tipped  margin max  at end\n");
    for (name, o) in ["without", "with"].iter().zip(&outcomes) {
        let (bad_debt, notional) = (tokens(o.bad_debt), tokens(o.notional));
        table += &format!(
            "{name:<12} {bad_debt:>12} {:>9} {:>13} {notional:>16} {:>6} {:>7} {:>7} bps {:>4} bps\n",
            o.bankrupt, o.liquidations, o.steps, o.tipped, o.margin_bps_max, o.margin_bps_end
        );
    }
    println!("{table}");
    outcomes
}

async fn play(world: &World, controlled: bool, moves: &[i64]) -> Result<Outcome> {
    let mut price = 1_000_000u64;
    let venue = world.venue(price, 2 * MAINTENANCE_BPS).await?;
    let limits = IRiskSteward::Bounds {
        maxStepBps: 2_000,
        minDelaySeconds: MINUTE,
        marginFloorBps: MAINTENANCE_BPS,
        marginCeilingBps: 4_000,
        maxFundingStepX18: U256::ZERO,
        maxFundingRateX18: U256::ZERO,
    };
    world.send(ADMIN, venue.steward, &RiskSteward::setBoundsCall { market: MARKET, limits }).await?;
    let (mut prices, mut traders, mut trace) = (vec![U256::from(price)], Vec::new(), Trace::default());
    let mut outcome =
        Outcome { margin_bps_max: MAINTENANCE_BPS, margin_bps_end: MAINTENANCE_BPS, ..Outcome::default() };
    for (minute, moved) in (1u64..).zip(moves.iter().copied()) {
        price = u64::try_from(i64::try_from(price)? * (10_000 + moved) / 10_000)?;
        prices.push(U256::from(price));
        world.anvil.set_next_timestamp(GENESIS + 3_600 + (minute * (MINUTE + 30))).await?;
        world.node.mine().await?;
        world.post(price).await?;
        outcome.liquidations += world.liquidate_all(venue, &traders, price).await?;
        if controlled {
            recalibrate(world, venue, &traders, &prices, &mut trace, &mut outcome).await?;
        }
        if minute <= 20 {
            let config = world.ask(venue.clearinghouse, &Clearinghouse::marketCall { marketId: MARKET }).await?.config;
            let lots = CASH * 10_000 / (price * u64::from(config.initialMarginBps));
            let entrant = trader(traders.len());
            world.enter(venue, entrant, CASH, lots, price).await?;
            outcome.notional += U256::from(lots * price);
            traders.push(entrant);
        }
    }
    for state in world.states(venue, &traders).await? {
        if state.equity.is_negative() {
            outcome.bad_debt += state.equity.unsigned_abs();
            outcome.bankrupt += 1;
        }
    }
    traders.extend([HOUSE, ADMIN]);
    world.check_books(venue, &traders).await?;
    Ok(outcome)
}

/// One look of the controller: measure, aim, bound, sweep, and at most one step.
async fn recalibrate(
    world: &World,
    venue: Venue,
    traders: &[Address],
    prices: &[U256],
    trace: &mut Trace,
    outcome: &mut Outcome,
) -> Result<()> {
    let Some(volatility_bps) = volatility_bps(&prices[prices.len().saturating_sub(WINDOW)..]) else { return Ok(()) };
    let measured = Measured { volatility_bps, utilisation_bps: 0, runway_seconds: None };
    let present = world.ask(venue.clearinghouse, &Clearinghouse::marketCall { marketId: MARKET }).await?.config;
    let present = present.maintenanceMarginBps;
    let moved_at = world.ask(venue.steward, &RiskSteward::lastMovedAtCall { market: MARKET }).await?.margin;
    trace.moved_at = (moved_at > 0).then_some(moved_at);
    let now = world.node.head().await?.timestamp;
    let target = RULES.margin_target_bps(&measured);
    let (adjustment, seen) = band().adjust(U256::from(present), target, *trace, now);
    *trace = seen;
    let Adjustment::Move(to) = adjustment else { return Ok(()) };
    let price = prices[prices.len() - 1];
    let held = holders(world, venue, traders).await?;
    let to = harmless_margin_bps(&held.iter().collect::<Vec<_>>(), price, present.into(), to.to::<u32>(), 0);
    let to = u16::try_from(to)?;
    if to == present {
        return Ok(());
    }
    // The initial margin stays twice the maintenance margin, so both take the same relative step.
    let step = RiskSteward::moveMarginCall { market: MARKET, maintenanceMarginBps: to, initialMarginBps: 2 * to };
    world.send(ADMIN, venue.steward, &step).await?;
    let after = holders(world, venue, traders).await?;
    let tipped = held.iter().zip(&after).filter(|(was, is)| !was.surplus.is_negative() && is.surplus.is_negative());
    outcome.tipped += tipped.count();
    outcome.steps += 1;
    outcome.margin_bps_max = outcome.margin_bps_max.max(to);
    outcome.margin_bps_end = to;
    Ok(())
}

/// Every trader's size and surplus as the contract has them.
async fn holders(world: &World, venue: Venue, traders: &[Address]) -> Result<Vec<Holder>> {
    let ask = |owner: &Address| Clearinghouse::positionCall { marketId: MARKET, account: *owner };
    let positions = world.ask_all(venue.clearinghouse, &traders.iter().map(ask).collect::<Vec<_>>()).await?;
    let states = world.states(venue, traders).await?;
    let holder = |(position, state): (_, &crate::world::IClearinghouse::AccountState)| {
        let position: Clearinghouse::positionReturn = position;
        let surplus = state.equity - I256::from_raw(state.maintenanceMargin);
        Holder { lots: position.lots.unsigned_abs(), surplus }
    };
    Ok(positions.into_iter().zip(&states).map(holder).collect())
}
