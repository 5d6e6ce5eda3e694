//! A second, naive backstop pool in i128, written from its contract's published rules; and the tier's examples.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    examples::{absorbed, crashed},
    generator::Dice,
    venue::{big, key},
    *,
};

/// The block after which everything is mined: that of every case.
const BLOCK: u64 = 7;

/// The pool as one member sees it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    pub(super) capital: i128,
    pub(super) cap_left: i128,
    pub(super) stake: i128,
    pub(super) first_loss_bps: i128,
    pub(super) round: Option<OpenRound>,
    /// Whom the last round has paid.
    pub(super) served: BTreeSet<u16>,
    /// What it has paid into the venue.
    pub(super) paid: i128,
}

#[derive(Clone, Debug, Default)]
pub(super) struct OpenRound {
    pub(super) claims_until: u64,
    pub(super) draws_until: u64,
    pub(super) asked: i128,
    pub(super) capital: i128,
    pub(super) claims: BTreeMap<u16, i128>,
}

impl Pool {
    /// A pool in any state, that knows some of these accounts.
    pub(super) fn random(dice: &mut Dice, accounts: u16, scale: i128) -> Self {
        let capital = dice.between(0, 3_000 * scale);
        let mut pool = Self {
            capital,
            cap_left: dice.between(0, 5_000 * scale),
            stake: dice.between(0, 500 * scale),
            first_loss_bps: dice.between(0, 4_000),
            ..Self::default()
        };
        if dice.chance(60) {
            let claims_until = [4, 9][dice.roll(2) as usize];
            let mut claims = BTreeMap::new();
            for account in 0..accounts {
                let (claimed, paid, amount) = (dice.chance(60), dice.chance(20), dice.between(1, 2_000 * scale));
                if claimed && paid {
                    pool.served.insert(account);
                } else if claimed {
                    claims.insert(account, amount);
                }
            }
            let own: i128 = claims.values().sum();
            let asked = own + dice.between(0, 3_000 * scale);
            pool.round = Some(OpenRound { claims_until, draws_until: claims_until + 50, asked, capital, claims });
        }
        pool
    }

    pub(super) fn case(&self) -> PoolCase {
        let round = self.round.as_ref().map(|round| PoolRound {
            claims_until_block: round.claims_until,
            draws_until_block: round.draws_until,
            asked: big(round.asked),
            capital: big(round.capital),
            claims: round.claims.iter().map(|(who, amount)| (key(*who), big(*amount))).collect(),
        });
        let terms = MemberTerms {
            cap_left: big(self.cap_left),
            first_loss_bps: u32::try_from(self.first_loss_bps).unwrap(),
            stake: big(self.stake),
        };
        let paid = self.served.iter().map(|who| key(*who)).collect();
        PoolCase { capital: big(self.capital), terms, round, paid }
    }

    fn own_part(&self, amount: i128, up: i128) -> i128 {
        (amount * self.first_loss_bps + up) / 10_000
    }

    /// Takes a claim as the contract would, panicking where it would revert.
    pub(super) fn claim(&mut self, who: u16, amount: i128, hole: i128) {
        assert!(amount > 0 && amount <= hole, "claims more than is short");
        let (own, asked) = (self.own_part(amount, 9_999), amount - self.own_part(amount, 0));
        assert!(own <= self.stake && asked <= self.cap_left, "beyond the member's terms");
        (self.stake, self.cap_left) = (self.stake - own, self.cap_left - asked);
        let capital = self.capital;
        let fresh = || OpenRound { claims_until: BLOCK + 3, draws_until: BLOCK + 53, capital, ..OpenRound::default() };
        let round = self.round.get_or_insert_with(fresh);
        assert!(round.claims_until > BLOCK, "claims are closed");
        assert!(round.claims.insert(who, amount).is_none(), "claims twice");
        round.asked += asked;
    }

    /// Pays a claim: all that the round grants, no more than is short.
    pub(super) fn draw(&mut self, who: u16, hole: i128) -> i128 {
        let round = self.round.as_mut().expect("a round");
        assert!(round.claims_until <= BLOCK && BLOCK < round.draws_until, "not the time to draw");
        let claim = round.claims.remove(&who).expect("a claim");
        let granted = if round.asked <= round.capital { claim } else { claim * round.capital / round.asked };
        let paid = granted.min(hole);
        assert!(paid > 0, "nothing to pay");
        self.served.insert(who);
        self.paid += paid;
        paid
    }
}

const ORDER: [Tier; 4] = [Tier::InsuranceFund, Tier::SharedBackstop, Tier::SocialiseLoss, Tier::GateWithdrawals];

/// The crash of the examples with account 1 closed out: 500 short, no position, nothing in the fund.
fn flat() -> Venue {
    let mut venue = crashed();
    venue.fund = 0;
    let lots = venue.accounts[&1].positions[&0].0;
    let mark = venue.markets[&0].mark;
    venue.trade(2, 0, lots, mark);
    venue.trade(1, 0, -lots, mark);
    venue.pool =
        Some(Pool { capital: 10_000, cap_left: 10_000, stake: 1_000, first_loss_bps: 1_000, ..Pool::default() });
    assert_eq!((venue.hole(1), venue.accounts[&1].positions.len()), (500, 0));
    venue
}

fn planned(venue: &Venue) -> BalancedPlan {
    plan(&venue.case(), &tiers(&ORDER), &Reservations::default()).unwrap()
}

fn does(plan: &BalancedPlan) -> Vec<(Tier, u64)> {
    let amount = |step: &Step| match &step.action {
        Action::ClaimBackstop { amount } | Action::DrawBackstop { amount } => amount.to(),
        _ => 0,
    };
    plan.steps().iter().map(|step| (step.tier, amount(step))).collect()
}

#[test]
fn a_claim_is_made_waited_for_and_paid_and_the_next_tier_has_the_rest() {
    let mut venue = flat();
    let claims = planned(&venue);
    assert_eq!(does(&claims), [(Tier::SharedBackstop, 500)]);
    assert_eq!((claims.ledger().residual, claims.ledger().shortfall), (U256::from(500), U256::from(500)));
    claims.steps().iter().for_each(|step| venue.execute(step));
    let waits = planned(&venue);
    assert!(waits.steps().is_empty() && waits.notes()[0].contains("paid from block 11 on"), "{:?}", waits.notes());

    // Another member asked for as much as the pool has: half of it each.
    let round = venue.pool.as_mut().unwrap().round.as_mut().unwrap();
    (round.claims_until, round.asked, round.capital) = (BLOCK, 1_000, 500);
    let pays = planned(&venue);
    assert_eq!(does(&pays), [(Tier::SharedBackstop, 250)]);
    assert_eq!((absorbed(&pays), pays.ledger().residual), (vec![(Tier::SharedBackstop, 250)], U256::from(250)));
    pays.steps().iter().for_each(|step| venue.execute(step));
    let rest = planned(&venue);
    assert_eq!(absorbed(&rest), [(Tier::SocialiseLoss, 250)]);
    assert_eq!(rest.ledger().residual, U256::ZERO);
}

#[test]
fn the_pool_is_asked_last_and_only_for_what_stands() {
    let mut venue = flat();
    venue.fund = 200;
    let first = planned(&venue);
    assert_eq!(does(&first), [(Tier::InsuranceFund, 0)], "the claim waits until the draw is on chain");
    first.steps().iter().for_each(|step| venue.execute(step));
    assert_eq!(does(&planned(&venue)), [(Tier::SharedBackstop, 300)]);
    let open = crashed();
    let with_pool = Venue { pool: flat().pool, ..open.clone() };
    let without = planned(&open);
    assert_eq!(does(&planned(&with_pool)), does(&without), "a hole that prices move is not shown");
}

#[test]
fn what_the_pool_cannot_take_goes_to_the_next_tier_at_once() {
    type Change = fn(&mut Pool);
    let socialised: [(&str, Change); 4] = [
        ("stake", |pool| pool.stake = 0),
        ("cap", |pool| pool.cap_left = 0),
        ("capital", |pool| pool.capital = 4),
        ("spoken for", |pool| {
            let claims = BTreeMap::new();
            pool.round = Some(OpenRound { claims_until: 5, draws_until: 55, asked: 9, capital: 9, claims });
        }),
    ];
    for (word, change) in socialised {
        let mut venue = flat();
        change(venue.pool.as_mut().unwrap());
        let plan = planned(&venue);
        assert_eq!(absorbed(&plan), [(Tier::SocialiseLoss, 500)], "{word}");
        assert!(plan.notes().iter().any(|note| note.contains(word)), "{word}: {:?}", plan.notes());
    }
    let mut venue = flat();
    let claims = BTreeMap::new();
    venue.pool.as_mut().unwrap().round =
        Some(OpenRound { claims_until: 5, draws_until: 55, asked: 9, capital: 1_000, claims });
    let waits = planned(&venue);
    assert!(absorbed(&waits).is_empty() && waits.notes()[0].contains("takes no claims until block 55"));
}

#[test]
fn limits_of_the_tier_cut_the_claim_and_never_split_a_draw() {
    let mut venue = flat();
    let mut settings = tiers(&ORDER);
    settings[1].absorb_max = Some(U256::from(120));
    let claims =
        |venue: &Venue, settings: &[TierSettings]| plan(&venue.case(), settings, &Reservations::default()).unwrap();
    assert_eq!(does(&claims(&venue, &settings)), [(Tier::SharedBackstop, 120)]);
    settings[1].floor = U256::from(9_990);
    assert_eq!(does(&claims(&venue, &settings)), [(Tier::SharedBackstop, 10)], "the pool keeps its floor");
    let round = BTreeMap::from([(1, 300)]);
    venue.pool.as_mut().unwrap().round =
        Some(OpenRound { claims_until: 5, draws_until: 55, asked: 300, capital: 10_000, claims: round });
    let kept = claims(&venue, &settings);
    assert!(kept.steps().is_empty() && kept.notes()[0].contains("absorb_max"), "{:?}", kept.notes());
}

#[test]
fn a_claim_or_a_draw_that_is_off_by_one_unit_is_found() {
    let venue = flat();
    let mut paying = venue.clone();
    let claims = BTreeMap::from([(1, 400)]);
    paying.pool.as_mut().unwrap().round =
        Some(OpenRound { claims_until: 5, draws_until: 55, asked: 400, capital: 10_000, claims });
    let mut forged = planned(&venue);
    let Action::ClaimBackstop { amount } = &mut forged.steps[0].action else { panic!("{forged:?}") };
    *amount += U256::ONE;
    assert!(forged.verify(&venue.case()).is_err());
    for change in [|x: U256| x + U256::ONE, |x: U256| x - U256::ONE] {
        let mut forged = planned(&paying);
        let Action::DrawBackstop { amount } = &mut forged.steps[0].action else { panic!("{forged:?}") };
        *amount = change(*amount);
        assert!(forged.verify(&paying.case()).is_err());
    }
}
