//! Margins that follow a controller, on the crash of the examples before it happens.

use super::{examples::crashed, venue::Account, *};

fn steered(controller: Controller) -> Vec<TierSettings> {
    vec![TierSettings { controller: Some(controller), ..TierSettings::unlimited(Tier::Recalibrate) }]
}

fn quick() -> Controller {
    Controller { calm_seconds: 0, ..Controller::default() }
}

/// The venue at the price at which everybody opened, after these prices.
fn calm(prices: &[i128]) -> Venue {
    let mut venue = crashed();
    venue.markets.get_mut(&0).unwrap().mark = 1_000;
    venue.prices.insert(0, prices.to_vec());
    venue
}

fn margins(venue: &Venue, controller: Controller) -> (Option<(u32, u32)>, Vec<String>) {
    let plan = plan(&venue.case(), &steered(controller), &Reservations::default()).unwrap();
    let moved = plan.steps().iter().find_map(|step| match step.action {
        Action::SetMargin { maintenance_margin_bps, initial_margin_bps, .. } => {
            Some((maintenance_margin_bps, initial_margin_bps))
        }
        _ => None,
    });
    (moved, plan.notes().to_vec())
}

#[test]
fn margins_rise_with_unrest_and_fall_with_calm_within_the_venues_bounds() {
    let unrest = calm(&[1_000, 980, 1_000, 980, 1_000]);
    assert_eq!(unrest.markets[&0].maintenance_bps, 500);
    assert_eq!(margins(&unrest, quick()).0, Some((600, 1_100)), "a fifth of 500, though 16 % are asked for");
    let quiet = calm(&[1_000, 1_000, 1_000]);
    assert_eq!(margins(&quiet, quick()).0, Some((400, 900)), "down by a fifth");
    assert_eq!(margins(&quiet, Controller { calm_seconds: 3_600, ..quick() }).0, None, "not calm for long enough");
    assert_eq!(margins(&calm(&[]), quick()).0, None, "nothing was seen");
    let mut bounded = quiet.clone();
    bounded.markets.get_mut(&0).unwrap().bounds.as_mut().unwrap().floor_bps = 450;
    assert_eq!(margins(&bounded, quick()).0, Some((450, 950)));
    bounded.markets.get_mut(&0).unwrap().bounds.as_mut().unwrap().earliest = 2_000;
    let (moved, notes) = margins(&bounded, quick());
    assert!(moved.is_none() && notes[0].contains("no move is accepted before 2000"), "{notes:?}");
}

#[test]
fn margins_do_not_fall_while_somebody_is_in_distress() {
    let mut venue = crashed();
    venue.prices.insert(0, vec![800, 800, 800]);
    let (moved, notes) = margins(&venue, quick());
    assert!(moved.is_none() && notes.iter().any(|note| note.contains("somebody is in distress")), "{notes:?}");
}

#[test]
fn a_step_tips_no_more_over_than_it_may() {
    let mut venue = calm(&[1_000, 980, 1_000, 980, 1_000]);
    // 100 lots at 1,000 keep 5 %, 5,000; the accounts have 5,100 and 5,700: 51 and 57 basis points a half per cent.
    for (account, cash) in [(5, 5_100), (6, 5_700)] {
        venue.accounts.insert(account, Account { cash, ..Account::default() });
    }
    venue.trade(5, 0, 100, 1_000);
    venue.trade(6, 0, -100, 1_000);
    let tips = |tipped_max| margins(&venue, Controller { tipped_max, ..quick() }).0;
    assert_eq!(tips(0), Some((505, 1_005)), "half of the least surplus");
    assert_eq!(tips(1), Some((570, 1_070)), "just not the second");
    assert_eq!(tips(2), Some((600, 1_100)));
    let case = venue.case();
    let honest = plan(&case, &steered(Controller { tipped_max: 1, ..quick() }), &Reservations::default()).unwrap();
    let mut forged = honest.clone();
    let Action::SetMargin { tipped_max, .. } = &mut forged.steps[0].action else { panic!("{forged:?}") };
    *tipped_max = 0;
    assert!(forged.verify(&case).is_err(), "it tips one over");
    let mut quiet = calm(&[1_000, 1_000, 1_000]);
    let falls = plan(&quiet.case(), &steered(quick()), &Reservations::default()).unwrap();
    falls.steps().iter().for_each(|step| quiet.execute(step));
    assert_eq!(quiet.markets[&0].maintenance_bps, 400);
}
