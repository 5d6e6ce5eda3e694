//! The adapter's integers against the pool's own, on its real contracts.

use alloy::sol_types::{SolCall, SolEvent, SolValue};
use serde_json::{Value, json};

use super::{
    super::{
        NAME,
        abi::{IErrors, IPool},
        choice,
        decode::id,
        liquidation::{Outcome, Pair, Refused},
        margin::{Account, ReserveNow},
        reads, refusal,
        state::{self, Price},
    },
    market::{Dice, Market, Seen, log_of},
};
use crate::{
    demo::contracts,
    positions::{Book, Draft, RecordKey, Snapshot},
    protocols::{Disposition, records::Stored},
    scanner::Valuation,
    types::{Address, Bytes, U256},
};

const ACTIONS: u32 = 480;
/// Random prices and times after every so many actions.
const CASES_EVERY: u32 = 6;

/// Counts, so that a run that compares nothing fails.
#[derive(Debug, Default)]
struct Compared {
    accounts: usize,
    liquidatable: usize,
    with_debt_in_category: usize,
    liquidations: usize,
    with_deficit: usize,
    dust: usize,
    choices: usize,
}

/// Random accounts over a real market: every kind of action, the views probed on the way, and at random prices and times
/// in between the same integers for accounts and for liquidations.
#[tokio::test(flavor = "multi_thread")]
async fn accounts_and_liquidations_are_the_pools_to_the_last_unit() {
    if !contracts::at_hand(NAME) {
        return;
    }
    let mut market = Market::open(14).await;
    let mut dice = Dice(11);
    let mut compared = Compared::default();
    let mut succeeded = 0;
    for action in 0..ACTIONS {
        succeeded += u32::from(market.act(&mut dice).await);
        market.follow().await;
        if action % 30 == 0 {
            assert_eq!(market.differences().await, Vec::<String>::new(), "after action {action}");
        }
        if action % CASES_EVERY == 0 && action > 60 {
            for _ in 0..3 {
                compare(&market, &mut dice, &mut compared).await;
            }
        }
    }
    assert_eq!(market.differences().await, Vec::<String>::new());
    assert_eq!(market.umbrella().await, market.keeper);
    println!("{succeeded} of {ACTIONS} actions succeeded; {:?}; {compared:?}", market.seen);
    assert!(succeeded > ACTIONS / 2);
    let Seen { in_a_tokens, deficits, covers } = market.seen;
    assert!(in_a_tokens > 2 && deficits > 2 && covers > 0, "{:?}", market.seen);
    let Compared { accounts, liquidatable, with_debt_in_category, liquidations, with_deficit, dust, choices } =
        compared;
    assert!(accounts >= 2_000 && liquidatable >= 200 && with_debt_in_category >= 100, "{accounts} accounts compared");
    assert!(liquidations >= 500 && with_deficit >= 20 && dust >= 10, "{liquidations} liquidations compared");
    assert!(choices >= 200, "{choices} choices compared");
    taken_back_and_made_again(&market);
}

/// All deltas of the run, undone and redone.
fn taken_back_and_made_again(market: &Market) {
    let mut book = market.book.clone();
    for delta in market.deltas.iter().rev() {
        book.undo(delta).unwrap();
    }
    assert_eq!(book, Book::default());
    for delta in &market.deltas {
        book.apply(delta).unwrap();
    }
    assert_eq!(book, market.book);
}

/// The snapshot as it would be at another time and at other prices.
fn imagined(market: &Market, time: u64, prices: &[U256]) -> Snapshot {
    let mut snapshot = market.snapshot();
    snapshot.block.timestamp = time;
    let mut draft = Draft::new(&snapshot.book);
    for (number, price) in (0u32..).zip(prices) {
        draft.set_record(RecordKey { kind: Price::KIND, id: id(number) }, Some(Price(Some(*price)).to_record()));
    }
    let delta = draft.finish();
    snapshot.book.apply(&delta).unwrap();
    snapshot
}

async fn compare(market: &Market, dice: &mut Dice, compared: &mut Compared) {
    let time = market.block.timestamp + [1, 2, 12, 7_777, 3_000_000][usize::try_from(dice.below(5)).unwrap()];
    let apart = dice.below(2) == 0;
    let crash = 40 + dice.below(70);
    let prices: Vec<U256> = market
        .prices()
        .iter()
        .map(|price| match dice.below(25) {
            0 => U256::from(1 + dice.below(100)),
            1 => *price * U256::from(1_000 + dice.below(100_000)),
            _ if apart => *price * U256::from(40 + dice.below(120)) / U256::from(100) + U256::ONE,
            _ => (*price * U256::from(crash * (90 + dice.below(20))) / U256::from(10_000)).max(U256::ONE),
        })
        .collect();
    let snapshot = imagined(market, time, &prices);
    let held: Vec<Address> =
        market.users.iter().copied().filter(|u| snapshot.book.unit(&state::unit_key(*u)).is_some()).collect();
    let view = |user: Address| json!({ "to": market.deployed.pool, "input": Bytes::from(IPool::getUserAccountDataCall { user }.abi_encode()) });
    let views = market.simulate(time, &prices, held.iter().map(|user| view(*user)).collect()).await;
    let factors = market.adapter.factors(&snapshot).unwrap();
    for (user, answer) in held.iter().zip(views) {
        let key = state::unit_key(*user);
        let unit = snapshot.book.unit(&key).unwrap();
        let account = Account::of(&snapshot, unit, |id| ReserveNow::load(&snapshot, id)).unwrap();
        let expected: Bytes = account.view().unwrap().abi_encode().into();
        let found: Bytes = serde_json::from_value(answer["returnData"].clone()).unwrap();
        assert_eq!(found, expected, "{user} at {time}, {prices:?}: {answer}");
        compared.accounts += 1;
        compared.with_debt_in_category += usize::from(account.category.is_some() && !account.debt.is_zero());
        compared.liquidatable += usize::from(account.is_liquidatable());
        planes_enclose(market, &snapshot, &factors, &key);
        if account.is_liquidatable() {
            liquidations(market, dice, time, &prices, *user, &account, &snapshot, compared).await;
        }
    }
}

/// Screen and exact value agree within the error that the screen states.
fn planes_enclose(
    market: &Market,
    snapshot: &Snapshot,
    factors: &crate::scanner::Factors,
    key: &crate::types::UnitKey,
) {
    let unit = snapshot.book.unit(key).unwrap();
    let planes = market.adapter.planes(snapshot, unit).unwrap();
    let standing = market.adapter.standing(snapshot, key, unit).unwrap();
    let float = |x: crate::types::I256| {
        let magnitude = f64::from(x.unsigned_abs());
        if x.is_negative() { -magnitude } else { magnitude }
    };
    for (values, exact) in [(&factors.equity, standing.equity), (&factors.maintenance, standing.surplus)] {
        let terms = planes.holdings.iter().map(|(index, holding)| values[index.0 as usize] * holding);
        let (sum, magnitude) = terms.fold((0.0, 0.0f64), |(sum, all), term| (sum + term, all + term.abs()));
        let error = planes.rounding + 32.0 * f64::EPSILON * magnitude;
        assert!((sum - float(exact)).abs() <= error, "{key}: {sum} is not {exact} within {error}");
    }
}

/// Every pair at random amounts, and every choice: what the adapter says is what the pool does.
#[expect(clippy::too_many_arguments, reason = "one case, all of it needed")]
async fn liquidations(
    market: &Market,
    dice: &mut Dice,
    time: u64,
    prices: &[U256],
    user: Address,
    account: &Account,
    snapshot: &Snapshot,
    compared: &mut Compared,
) {
    let allows = reads::sentinel_allows(&snapshot.book);
    let choices = choice::choices(account, time, allows);
    for choice in choices.iter().filter(|choice| choice.not_before == 0) {
        let done = liquidate(
            market,
            time,
            prices,
            user,
            (choice.collateral.now.reserve.asset, choice.debt.now.reserve.asset),
            choice.cover,
        )
        .await;
        assert_eq!(done, Ok(summary(&choice.outcome)), "{user} at {time}, {prices:?}: {choice:?}");
        compared.choices += 1;
    }
    for _ in 0..3 {
        random_liquidation(market, dice, (time, prices), user, account, compared).await;
    }
}

/// One pair at a random amount.
async fn random_liquidation(
    market: &Market,
    dice: &mut Dice,
    (time, prices): (u64, &[U256]),
    user: Address,
    account: &Account,
    compared: &mut Compared,
) {
    if account.collaterals.is_empty() {
        return;
    }
    let collateral = dice.pick(&account.collaterals);
    let debt = dice.pick(&account.debts);
    let pair = Pair { account, collateral, debt };
    let cover = match dice.below(3) {
        0 => U256::MAX,
        1 => debt.amount * U256::from(dice.below(1_200)) / U256::from(1_000),
        _ => debt.amount.saturating_sub(U256::from(dice.below(100_000))),
    };
    let assets = (collateral.now.reserve.asset, debt.now.reserve.asset);
    let done = liquidate(market, time, prices, user, assets, cover).await;
    let grace = collateral.now.reserve.grace_until.max(debt.now.reserve.grace_until);
    let outcome = pair.outcome(cover);
    compared.liquidations += 1;
    match (outcome, done) {
        (Ok(outcome), Ok(done)) => {
            assert_eq!(done, summary(&outcome), "{user} at {time}, {prices:?}, cover {cover}");
            compared.with_deficit += usize::from(!outcome.deficits.is_empty());
        }
        (Err(Refused::Dust), Err(reason)) => {
            assert!(reason.contains("MustNotLeaveDust") || grace >= time, "{reason}");
            compared.dust += 1;
        }
        (Err(Refused::Impossible), Err(_)) => {}
        (_, Err(reason)) if grace >= time => assert!(reason.contains("Grace"), "{reason}"),
        (outcome, done) => panic!("{user} at {time}, {prices:?}, cover {cover}: {outcome:?} is not {done:?}"),
    }
}

/// What a liquidation did: repaid, seized, deficits by asset.
type Summary = (U256, U256, Vec<(Address, U256)>);

fn summary(outcome: &Outcome) -> Summary {
    let mut deficits = outcome.deficits.clone();
    deficits.sort_unstable();
    (outcome.repaid, outcome.seized, deficits)
}

async fn liquidate(
    market: &Market,
    time: u64,
    prices: &[U256],
    borrower: Address,
    (collateral, debt): (Address, Address),
    cover: U256,
) -> Result<Summary, String> {
    let call = IPool::liquidationCallCall {
        collateralAsset: collateral,
        debtAsset: debt,
        borrower,
        debtToCover: cover,
        receiveAToken: false,
    };
    let call = json!({ "from": market.keeper, "to": market.deployed.pool, "input": Bytes::from(call.abi_encode()), "gas": "0x989680" });
    let [answer] = <[Value; 1]>::try_from(market.simulate(time, prices, vec![call]).await).unwrap();
    if answer["status"] != json!("0x1") {
        let data: Bytes = serde_json::from_value(answer["error"]["data"].clone())
            .or_else(|_| serde_json::from_value(answer["returnData"].clone()))
            .unwrap_or_default();
        return Err(refusal::classify(&data).reason);
    }
    let logs: Vec<_> =
        serde_json::from_value::<Vec<Value>>(answer["logs"].clone()).unwrap().into_iter().map(log_of).collect();
    let ours = || logs.iter().filter(|log| log.address == market.deployed.pool);
    let done = ours().find_map(|log| IPool::LiquidationCall::decode_raw_log(&log.topics, &log.data).ok()).unwrap();
    let deficits = ours().filter_map(|log| IPool::DeficitCreated::decode_raw_log(&log.topics, &log.data).ok());
    let mut deficits: Vec<_> = deficits.map(|deficit| (deficit.debtAsset, deficit.amountCreated)).collect();
    deficits.sort_unstable();
    Ok((done.debtToCover, done.liquidatedCollateralAmount, deficits))
}

#[test]
fn a_documented_selector_is_the_contracts() {
    use alloy::sol_types::SolError;
    assert_eq!(IErrors::HealthFactorNotBelowThreshold::SELECTOR, [0x93, 0x0b, 0xb7, 0x71]);
    assert_eq!(IErrors::CallerNotUmbrella::SELECTOR, [0xc4, 0x5a, 0x7c, 0xdd]);
    let refusal = refusal::classify(&IErrors::CallerNotUmbrella {}.abi_encode());
    assert_eq!(refusal.disposition, Disposition::Unauthorized);
}
