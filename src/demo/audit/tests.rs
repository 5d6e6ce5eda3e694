//! The audit is held against a small venue told by hand, and against the same story with one amount changed by one unit.

use alloy::{primitives::LogData, sol_types::SolEvent};

use super::*;
use crate::{
    demo::venue::{IClearinghouse::MarketConfig, PriceFeed},
    types::B256,
};

const VENUE: Address = Address::repeat_byte(0xc1);
const FEED: Address = Address::repeat_byte(0xfe);
const LONG: Address = Address::repeat_byte(1);
const SHORT: Address = Address::repeat_byte(2);
const BYSTANDER: Address = Address::repeat_byte(3);
const MARKET: u16 = 7;
const SEGMENT: u16 = 1;

fn int(value: i64) -> I256 {
    I256::try_from(value).unwrap()
}

fn log(address: Address, data: &LogData) -> Log {
    Log {
        address,
        topics: data.topics().to_vec(),
        data: data.data.clone(),
        block_number: 1,
        block_hash: B256::ZERO,
        tx_hash: B256::ZERO,
        log_index: 0,
    }
}

fn told(event: &impl SolEvent) -> Log {
    log(VENUE, &event.encode_log_data())
}

fn price(price: u64) -> Log {
    log(FEED, &PriceFeed::PricePosted { price: U256::from(price), updatedAt: 1 }.encode_log_data())
}

fn cash(account: Address, cash: i64) -> Log {
    told(&Clearinghouse::CashChanged { segment: SEGMENT, account, cash: int(cash) })
}

fn position(account: Address, lots: i64, quote: i64) -> Log {
    told(&Clearinghouse::PositionChanged { market: MARKET, account, lots: int(lots), quote: int(quote) })
}

fn fund(balance: u64) -> Log {
    told(&Clearinghouse::FundChanged { segment: SEGMENT, balance: U256::from(balance) })
}

fn deposit(account: Address, amount: u64) -> [Log; 2] {
    let deposited = Clearinghouse::Deposited { segment: SEGMENT, account, amount: U256::from(amount) };
    [cash(account, i64::try_from(amount).unwrap()), told(&deposited)]
}

/// Ten lots at 100 between LONG and SHORT, a fund of 30, and a price of 80 that leaves LONG 150 short.
fn opening() -> Vec<Log> {
    let config = MarketConfig {
        segment: SEGMENT,
        feed: FEED,
        maxPriceAgeSeconds: 60,
        maintenanceMarginBps: 250,
        initialMarginBps: 500,
        liquidationFeeBps: 50,
        maxSlippageBps: 200,
    };
    let mut logs = vec![
        told(&Clearinghouse::SegmentOpened { segment: SEGMENT }),
        told(&Clearinghouse::MarketListed { market: MARKET, config }),
        price(100),
        fund(30),
        told(&Clearinghouse::FundDeposited { segment: SEGMENT, from: BYSTANDER, amount: U256::from(30) }),
    ];
    logs.extend([deposit(LONG, 50), deposit(SHORT, 400), deposit(BYSTANDER, 1_000)].concat());
    logs.extend([position(LONG, 10, -1_000), position(SHORT, -10, 1_000)]);
    let traded = Clearinghouse::Traded { market: MARKET, buyer: LONG, seller: SHORT, lots: 10, price: U256::from(100) };
    logs.extend([told(&traded), price(80)]);
    logs
}

/// The whole waterfall: the fund pays 30, deleveraging all ten lots takes 100, the bystander pays the last 20. `off`
/// changes the amount that one of the three events names.
fn waterfall(off: [i64; 3]) -> Vec<Log> {
    let named = |amount: i64, step: usize| U256::from((amount + off[step]).unsigned_abs());
    let (segment, account) = (SEGMENT, LONG);
    let drawn =
        Clearinghouse::InsuranceDrawn { segment, account, amount: named(30, 0), shortfallAfter: U256::from(120) };
    let loss = named(100, 1);
    let deleveraged = Clearinghouse::Deleveraged { market: MARKET, bankrupt: LONG, winner: SHORT, lots: 10, loss };
    let amount = named(20, 2);
    let charged = Clearinghouse::LossSocialised { segment, bankrupt: LONG, payer: BYSTANDER, amount };
    vec![
        fund(0),
        cash(LONG, 80),
        told(&drawn),
        // closed at the mark: each side's 200 go from its position to its cash, and 100 from one to the other
        position(LONG, 0, 0),
        cash(LONG, -20),
        position(SHORT, 0, 0),
        cash(SHORT, 500),
        told(&deleveraged),
        cash(BYSTANDER, 980),
        cash(LONG, 0),
        told(&charged),
    ]
}

fn audited(blocks: &[Vec<Log>]) -> Audit {
    let mut audit = Audit::new(VENUE);
    blocks.iter().for_each(|logs| audit.block(1, logs).unwrap());
    audit
}

#[test]
fn a_shortfall_is_followed_from_where_it_arose_to_who_paid_it() {
    let audit = audited(&[opening()]);
    let tally = audit.tally(SEGMENT);
    assert_eq!((tally.shortfall_arisen, tally.shortfall_open), (int(150), U256::from(150)));
    assert!(tally.conserves());

    let audit = audited(&[opening(), waterfall([0; 3])]);
    let tally = audit.tally(SEGMENT);
    assert_eq!(audit.violations(), (0, &[][..]));
    let paid = Absorbed {
        liquidation: U256::ZERO,
        insurance_fund: U256::from(30),
        auto_deleverage: U256::from(100),
        socialise_loss: U256::from(20),
        shared_backstop: U256::ZERO,
    };
    assert_eq!((tally.absorbed, tally.shortfall_open), (paid, U256::ZERO));
    assert!(tally.conserves());
    assert_eq!(tally.bankrupt, BTreeSet::from([LONG]));
    assert_eq!(audit.books().pool(SEGMENT), int(1_480));
}

#[test]
fn one_unit_more_or_less_in_any_tier_does_not_go_unnoticed() {
    for tier in 0..3 {
        for off in [-1, 1] {
            let mut amounts = [0; 3];
            amounts[tier] = off;
            let audit = audited(&[opening(), waterfall(amounts)]);
            assert!(audit.violations().0 > 0, "tier {tier} off by {off}");
            assert!(!audit.tally(SEGMENT).conserves(), "tier {tier} off by {off}");
        }
    }
}

#[test]
fn the_fund_goes_first_and_nobody_pays_more_than_the_hole() {
    // Without the draw the fund still has its 30.
    let early: Vec<Log> = waterfall([0; 3])[3..8].to_vec();
    let (count, words) = audited(&[opening(), early]).violations_owned();
    assert!(count > 0 && words.iter().any(|w| w.contains("while the fund could pay")), "{words:?}");

    let mut greedy = waterfall([0; 3]);
    let amount = U256::from(25);
    let charged = Clearinghouse::LossSocialised { segment: SEGMENT, bankrupt: LONG, payer: BYSTANDER, amount };
    greedy.splice(8.., [cash(BYSTANDER, 975), cash(LONG, 5), told(&charged)]);
    let (_, words) = audited(&[opening(), greedy]).violations_owned();
    assert!(words.iter().any(|w| w.contains("more than the shortfall")), "{words:?}");
}

#[test]
fn money_that_moves_without_a_reason_is_a_violation() {
    let (count, words) = audited(&[opening(), vec![cash(BYSTANDER, 1_001)]]).violations_owned();
    assert_eq!(count, 1, "{words:?}");
    let unfair = vec![
        position(LONG, 9, -900),
        position(SHORT, -9, 900),
        told(&Clearinghouse::Traded { market: MARKET, buyer: SHORT, seller: LONG, lots: 1, price: U256::from(80) }),
    ];
    // Selling a lot at 80 takes 80 out of the position; here nobody was paid.
    assert_eq!(audited(&[opening(), unfair]).violations_owned().0, 1);
}

#[test]
fn what_is_no_event_of_the_venue_is_an_error() {
    let mut audit = audited(&[opening()]);
    let stranger = Log { topics: vec![B256::repeat_byte(9)], ..cash(LONG, 1) };
    assert!(audit.block(2, &[stranger]).is_err());
}

impl Audit {
    fn violations_owned(&self) -> (u64, Vec<String>) {
        let (count, words) = self.violations();
        (count, words.to_vec())
    }
}
