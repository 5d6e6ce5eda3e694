use alloy::primitives::I256;
use proptest::prelude::*;

use super::*;

fn u(x: u64) -> U256 {
    U256::from(x)
}

fn band(tighter: Tighter) -> Band {
    Band {
        tighter,
        floor: u(300),
        ceiling: u(4_000),
        step_bps_max: 2_000,
        delay_seconds: 60,
        hysteresis_bps: 500,
        calm_seconds: 600,
    }
}

fn measured(volatility: u64) -> Measured {
    Measured { volatility_bps: u(volatility), utilisation_bps: 0, runway_seconds: None }
}

const RULES: Rules = Rules {
    margin_multiple: 6,
    runway_seconds_min: 1_000,
    utilisation_optimal_bps: 8_000,
    slope_base: U256::from_limbs([400, 0, 0, 0]),
    slope_full: U256::from_limbs([6_000, 0, 0, 0]),
};

#[test]
fn tightening_is_at_once_and_relaxing_waits_for_calm() {
    let margin = band(Tighter::Up);
    let (first, trace) = margin.adjust(u(500), u(900), Trace::default(), 1_000);
    assert_eq!(first, Adjustment::Move(u(600)));
    let trace = Trace { moved_at: Some(1_000), ..trace };
    assert_eq!(margin.adjust(u(600), u(900), trace, 1_059).0, Adjustment::NotBefore(1_060));
    assert_eq!(margin.adjust(u(600), u(900), trace, 1_060).0, Adjustment::Move(u(720)));
    let (waits, trace) = margin.adjust(u(600), u(400), trace, 1_100);
    assert_eq!(waits, Adjustment::NotBefore(1_700));
    assert_eq!(margin.adjust(u(600), u(400), trace, 1_700).0, Adjustment::Move(u(480)));
    let (_, unrest) = margin.adjust(u(600), u(800), trace, 1_200);
    assert_eq!(margin.adjust(u(600), u(400), unrest, 1_700).0, Adjustment::NotBefore(2_300), "calm starts anew");
}

#[test]
fn a_cap_tightens_downwards() {
    let (step, trace) = band(Tighter::Down).adjust(u(1_000), u(500), Trace::default(), 5);
    assert_eq!((step, trace.calm_since), (Adjustment::Move(u(800)), None));
    assert_eq!(band(Tighter::Down).adjust(u(1_000), u(2_000), trace, 5).0, Adjustment::NotBefore(605));
}

#[test]
fn targets_follow_what_was_measured() {
    assert_eq!(RULES.margin_target_bps(&measured(100)), u(600));
    let short = Measured { runway_seconds: Some(250), ..measured(100) };
    assert_eq!(RULES.margin_target_bps(&short), u(1_050), "three quarters of the runway missing");
    let used = |bps| RULES.slope_target(&Measured { utilisation_bps: bps, ..measured(0) });
    assert_eq!([used(0), used(8_000), used(9_000), used(10_000)], [u(400), u(400), u(3_200), u(6_000)]);
    assert_eq!(RULES.cap_target(&measured(100), 500, u(1_000)), Some(u(100_000)), "1 % of it may be lost");
    assert_eq!(RULES.cap_target(&measured(80), 500, u(1_000)), None);
    assert_eq!(runway_seconds(u(100), u(50), 60), Some(120));
    assert_eq!(runway_seconds(u(100), u(0), 60), None);
}

#[test]
fn volatility_is_the_root_mean_square_of_moves() {
    let prices = [1_000, 1_030, 1_030].map(u);
    // moves 300 and 0 basis points: sqrt(90000 / 2) = 212.13
    assert_eq!(volatility_bps(&prices), Some(u(213)));
    assert_eq!(volatility_bps(&[u(1)]), None);
    assert_eq!(volatility_bps(&[u(1), u(0), u(1)]), None);
    assert_eq!(volatility_bps(&[U256::MAX, u(1)]), None);
}

fn holder(lots: u64, surplus: i64) -> Holder {
    Holder { lots: u(lots), surplus: I256::try_from(surplus).unwrap() }
}

#[test]
fn the_sweep_stops_before_anybody_is_tipped_over() {
    let holders = [holder(10, 100), holder(10, 40), holder(10, -5)];
    let holders: Vec<&Holder> = holders.iter().collect();
    // a notional of 10 000: each basis point asks for one unit
    assert_eq!(harmless_margin_bps(&holders, u(1_000), 500, 600, 0), 540);
    assert_eq!(harmless_margin_bps(&holders, u(1_000), 500, 600, 1), 600);
    assert_eq!(harmless_margin_bps(&holders, u(1_000), 500, 450, 0), 450);
    assert_eq!(tipped_over(holders, u(1_000), 500, 541), 1);
}

prop_compose! {
    fn any_band()(up in any::<bool>(), floor in 1..2_000u64, width in 0..8_000u64, step_bps_max in 0..=10_000u32,
                  delay_seconds in 0..500u64, hysteresis_bps in 0..3_000u32, calm_seconds in 0..2_000u64) -> Band {
        let tighter = if up { Tighter::Up } else { Tighter::Down };
        Band { tighter, floor: u(floor), ceiling: u(floor + width), step_bps_max, delay_seconds, hysteresis_bps, calm_seconds }
    }
}

proptest! {
    /// A whole life of a parameter under arbitrary targets.
    #[test]
    fn a_walk_obeys_its_band(band in any_band(), start in 0..=10_000u64,
                             seen in prop::collection::vec((0..20_000u64, 1..400u64), 1..80)) {
        let mut present = band.floor + u(start) % (band.ceiling - band.floor + u(1));
        let (mut trace, mut now) = (Trace::default(), 1_000);
        let mut last_tight = now; // the last time a target was not on the relaxed side
        for (target, pause) in seen {
            now += pause;
            let (adjustment, next) = band.adjust(present, u(target), trace, now);
            let clamped = u(target).clamp(band.floor, band.ceiling);
            let dead = present * u(band.hysteresis_bps.into()) / BPS;
            let relaxed = match band.tighter { Tighter::Up => clamped + dead < present, Tighter::Down => clamped > present + dead };
            if !relaxed { last_tight = now; }
            trace = next;
            let Adjustment::Move(to) = adjustment else { continue };
            prop_assert!(to >= band.floor && to <= band.ceiling);
            prop_assert!(to.abs_diff(present) * BPS <= present * u(band.step_bps_max.into()), "step");
            prop_assert!(clamped.abs_diff(to) < clamped.abs_diff(present), "towards the target");
            prop_assert!(clamped.abs_diff(present) > dead, "hysteresis");
            prop_assert!(trace.moved_at.is_none_or(|at| now - at >= band.delay_seconds), "delay");
            prop_assert!(!relaxed || now - last_tight >= band.calm_seconds, "calm");
            present = to;
            trace.moved_at = Some(now);
        }
    }

    /// The halving agrees with trying every margin.
    #[test]
    fn the_sweep_is_exact(lots in prop::collection::vec((1..50u64, -50..3_000i64), 0..12), price in 1..3_000u64,
                          from in 1..900u32, rise in 0..300u32, tipped_max in 0..4usize) {
        let holders: Vec<Holder> = lots.into_iter().map(|(lots, surplus)| holder(lots, surplus)).collect();
        let found = harmless_margin_bps(&holders.iter().collect::<Vec<_>>(), u(price), from, from + rise, tipped_max);
        let harmless = |bps: &u32| tipped_over(&holders, u(price), from, *bps) <= tipped_max;
        prop_assert_eq!(Some(found), (from..=from + rise).rev().find(harmless));
    }
}

fn seen(prices: &[u64]) -> Vec<Observation> {
    prices.iter().zip(0..).map(|(price, n)| Observation { at: 1_000 + 60 * n, value: u(*price) }).collect()
}

/// Of a venue that allows a fifth at a time.
fn allowed() -> Band {
    Band { delay_seconds: 0, calm_seconds: 0, hysteresis_bps: 0, ..band(Tighter::Up) }
}

#[test]
fn a_controller_reads_target_and_calm_off_the_prices_alone() {
    let controller = Controller { calm_seconds: 180, ..Controller::default() };
    let adjust = |present: u64, prices: &[u64]| controller.adjust(&allowed(), u(present), &seen(prices), None);
    assert_eq!(adjust(500, &[1_000]), None, "one price is no move");
    // Moves of 1 % either way: eight times that is 8 %, and 500 may rise by a fifth.
    assert_eq!(adjust(500, &[1_000, 1_010, 1_000, 1_010]), Some(Adjustment::Move(u(600))));
    assert_eq!(adjust(800, &[1_000, 1_010, 1_000, 1_010]), Some(Adjustment::Settled));
    let calm = [1_000, 1_000, 1_000, 1_000, 1_000];
    assert_eq!(adjust(800, &calm[..4]), Some(Adjustment::NotBefore(1_240)), "calm since the first move seen");
    assert_eq!(adjust(800, &calm), Some(Adjustment::Move(u(640))));
    let broken = [1_000, 1_000, 1_000, 1_200, 1_200, 1_200, 1_200, 1_200, 1_200, 1_200];
    assert_eq!(adjust(800, &broken), Some(Adjustment::NotBefore(1_000 + 60 * 8 + 180)), "calm starts anew");
}

#[test]
fn a_controller_asks_for_more_where_the_fund_runs_out() {
    let controller = Controller { runway_seconds_min: 1_000, ..Controller::default() };
    let prices = seen(&[1_000, 1_010, 1_000, 1_010]);
    let adjust = |runway| controller.adjust(&allowed(), u(800), &prices, runway);
    assert_eq!(adjust(Some(1_000)), Some(Adjustment::Settled));
    assert_eq!(adjust(Some(0)), Some(Adjustment::Move(u(960))));
}
