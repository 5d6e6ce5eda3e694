//! Small cases with the outcome worked out by hand: account 1 is long 10 lots from 1,000 with 1,500 of cash and the mark
//! falls to 800, so it is 500 short; accounts 2 and 3 hold the other side.

use super::{
    venue::{Account, Market, Order},
    *,
};
use crate::recovery::MarginBounds;

pub(super) fn crashed() -> Venue {
    let bounds = MarginBounds { step_bps_max: 2_000, floor_bps: 100, ceiling_bps: 3_000, earliest: 0 };
    let market = Market {
        mark: 1_000,
        funding: 0,
        maintenance_bps: 500,
        initial_bps: 1_000,
        fee_bps: 50,
        orders: Vec::new(),
        bounds: Some(bounds),
    };
    let mut venue = Venue { markets: BTreeMap::from([(0, market)]), ..Venue::default() };
    for (account, cash) in [(1, 1_500), (2, 10_000), (3, 10_000), (4, 50_000)] {
        venue.accounts.insert(account, Account { cash, ..Account::default() });
    }
    venue.trade(1, 0, 10, 1_000);
    venue.trade(2, 0, -6, 1_000);
    venue.trade(3, 0, -4, 1_000);
    venue.markets.get_mut(&0).unwrap().mark = 800;
    venue
}

/// Account 4 buys this many lots at the mark or below.
pub(super) fn bid(venue: &mut Venue, price: i128, lots: i128) {
    let orders = &mut venue.markets.get_mut(&0).unwrap().orders;
    orders.push(Order { id: 9, maker: 4, buys: true, price, lots });
}

fn planned(venue: &Venue, which: &[Tier], reserved: &Reservations) -> BalancedPlan {
    plan(&venue.case(), &tiers(which), reserved).unwrap()
}

pub(super) fn absorbed(plan: &BalancedPlan) -> Vec<(Tier, u64)> {
    plan.ledger().absorbed.iter().map(|(tier, amount)| (*tier, amount.to())).collect()
}

fn free() -> Reservations {
    Reservations::default()
}

#[test]
fn a_fund_that_can_pay_all_lets_the_unit_be_closed_first() {
    let mut venue = crashed();
    venue.fund = 1_000;
    bid(&mut venue, 790, 10);
    let plan = planned(&venue, &ALL, &free());
    // The unit's 1,500 pay first, then 500 + 10 lots · 10 of slippage are short; a bankrupt unit pays no fee.
    assert_eq!(absorbed(&plan), [(Tier::Liquidate, 1_500), (Tier::InsuranceFund, 600), (Tier::Recalibrate, 0)]);
    assert_eq!(plan.ledger().residual, U256::ZERO);
}

#[test]
fn what_the_fund_cannot_pay_is_deleveraged_to_the_last_unit() {
    let mut venue = crashed();
    venue.fund = 99;
    bid(&mut venue, 790, 10);
    let plan = planned(&venue, &ALL, &free());
    assert_eq!(absorbed(&plan)[..2], [(Tier::InsuranceFund, 99), (Tier::AutoDeleverage, 401)]);
    let Action::Deleverage { winners, .. } = &plan.steps()[1].action else { panic!("{:?}", plan.steps()) };
    // 401 over 10 lots: ceil(401 · 6 / 10), and the rest.
    let losses: Vec<u64> = winners.iter().map(|w| w.loss.to()).collect();
    assert_eq!(losses, [241, 160]);
    assert!(plan.steps().iter().all(|s| s.tier != Tier::Liquidate), "its lots are the winners' to close against");
}

#[test]
fn without_winners_the_unit_is_wound_down_and_the_rest_socialised_by_equity() {
    let mut venue = crashed();
    bid(&mut venue, 790, 10);
    let plan = planned(&venue, &[Tier::Liquidate, Tier::InsuranceFund, Tier::SocialiseLoss], &free());
    assert_eq!(absorbed(&plan), [(Tier::Liquidate, 1_500), (Tier::SocialiseLoss, 600)]);
    let Action::Socialise { payers } = &plan.steps()[1].action else { panic!("{:?}", plan.steps()) };
    // Equities 11,200, 10,800 and 50,100 of 72,100.
    let amounts: Vec<u64> = payers.iter().map(|p| p.amount.to()).collect();
    assert_eq!(amounts, [93, 90, 417]);
}

#[test]
fn without_depth_nothing_is_socialised_and_the_residual_says_why() {
    let plan = planned(&crashed(), &[Tier::Liquidate, Tier::SocialiseLoss], &free());
    assert!(plan.steps().is_empty());
    assert_eq!(plan.ledger().residual, U256::from(500));
    assert!(plan.notes().iter().any(|n| n.contains("positions are open")), "{:?}", plan.notes());
}

#[test]
fn later_tiers_wait_for_winners_and_draws_in_flight() {
    let mut venue = crashed();
    bid(&mut venue, 790, 10);
    let winners = Reservations { units: [key(2), key(3)].into(), ..free() };
    let draw = Reservations { fund: BTreeMap::from([(SegmentId(1), U256::from(10))]), ..free() };
    for reserved in [winners, draw] {
        let plan = planned(&venue, &ALL, &reserved);
        assert!(plan.steps().is_empty(), "{:?}", plan.steps());
        assert_eq!(plan.ledger().residual, U256::from(500));
        assert!(plan.notes().iter().any(|n| n.contains("waits")), "{:?}", plan.notes());
    }
}

#[test]
fn a_unit_in_flight_is_left_alone_and_out_of_the_ledger() {
    let plan = planned(&crashed(), &ALL, &Reservations { units: [key(1)].into(), ..free() });
    assert!(plan.steps().is_empty());
    assert_eq!(plan.ledger(), &Ledger::default());
    assert_eq!(plan.left_alone(), &BTreeSet::from([key(1)]));
}

#[test]
fn a_liquidatable_unit_pays_loss_and_fee_from_its_own_margin() {
    let mut venue = crashed();
    venue.accounts.get_mut(&1).unwrap().cash += 550; // equity 50 of the 400 it needs: below half
    bid(&mut venue, 800, 10);
    let plan = planned(&venue, &ALL, &free());
    // 2,000 realised; of the fee of 40 all can be paid.
    assert_eq!(absorbed(&plan), [(Tier::Liquidate, 2_040)]);
    let fills: Vec<_> = plan.steps().iter().map(|s| &s.action).collect();
    assert!(matches!(fills[..], [Action::Close { .. }]));
}

#[test]
fn the_margin_rises_by_its_step_and_by_less_where_a_holder_is_near() {
    let margin = |venue: &Venue| {
        let plan = planned(venue, &ALL, &free());
        let moved = |s: &Step| match s.action {
            Action::SetMargin { maintenance_margin_bps, initial_margin_bps, .. } => {
                Some((maintenance_margin_bps, initial_margin_bps))
            }
            _ => None,
        };
        plan.steps().iter().find_map(moved)
    };
    let mut venue = crashed();
    // A fifth of 500; the initial margin keeps its distance.
    assert_eq!(margin(&venue), Some((600, 1_100)));
    // Two accounts with 100 lots against each other; account 5 keeps 80,000 · 5 % = 4,000 and has 1,000 more. Half of
    // that is 500, which is 62.5 basis points of its notional.
    for (account, cash) in [(5, 5_000), (6, 50_000)] {
        venue.accounts.insert(account, Account { cash, ..Account::default() });
    }
    venue.trade(5, 0, 100, 800);
    venue.trade(6, 0, -100, 800);
    assert_eq!(margin(&venue), Some((562, 1_062)));
    venue.accounts.get_mut(&5).unwrap().cash -= 1_000;
    assert_eq!(margin(&venue), None);
}

#[test]
fn a_plan_reads_as_decimal_json_and_its_steps_come_back() {
    let mut venue = crashed();
    venue.fund = 99;
    let plan = planned(&venue, &ALL, &free());
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["ledger"]["absorbed"]["insurance_fund"], "99");
    assert_eq!(json["steps"][0]["action"]["amount"], "99");
    let steps: Vec<Step> = serde_json::from_value(json["steps"].clone()).unwrap();
    assert_eq!(steps, plan.steps());
}
