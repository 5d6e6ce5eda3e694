//! Crises whose end is known to the unit from the positions alone.

use anyhow::{Result, ensure};
use futures_util::future::FutureExt;

use super::{
    Arena, Entry, Outcome, Paid,
    play::Play,
    world::{BTC, Cast, ETH, ONE, SOL, TWO, World},
};
use crate::types::U256;

pub(super) const CRISES: [Entry; 7] = [
    ("fund_exactly_enough", "the fund holds just what is short", |arena| fund_exactly_enough(arena).boxed()),
    ("fund_short_by_one_unit", "the fund holds one unit less than what is short", |arena| fund_short(arena).boxed()),
    ("winners_too_few", "one winner holds 6 of the 10 lots, the rest is socialised", |arena| {
        winners_too_few(arena).boxed()
    }),
    ("bankrupt_winner", "who would win in one market is bankrupt in another", |arena| bankrupt_winner(arena).boxed()),
    ("two_segments", "two segments fall at once, each pays for itself", |arena| two_segments(arena).boxed()),
    ("total_loss", "the winner has left with the whole pool", |arena| total_loss(arena).boxed()),
    ("withdrawals_wait", "nobody can pay yet: the gate is shut until somebody can", |arena| {
        withdrawals_wait(arena).boxed()
    }),
];

fn u(amount: u64) -> U256 {
    U256::from(amount)
}

/// Fund 900, and a bid for all of alice's lots at the mark: closed, and the fund pays the 900 that she is short.
async fn fund_exactly_enough(arena: &Arena) -> Result<Outcome> {
    let world = World::raise(arena, "fund_exactly_enough", Cast::alice(900)).await?;
    let mut play = Play::begin(&world).await?;
    play.act(&[play.order("dave", BTC, true, 800, 10)]).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.until_calm().await?;
    play.end(Paid { insurance_fund: u(900), ..Paid::default() }).await
}

/// Fund 899: it cannot pay for all, so alice's lots are kept for winners. The first of them pays the last unit; what lots
/// are left close against a bid at the mark.
async fn fund_short(arena: &Arena) -> Result<Outcome> {
    let world = World::raise(arena, "fund_short_by_one_unit", Cast::alice(899)).await?;
    let mut play = Play::begin(&world).await?;
    play.act(&[play.order("dave", BTC, true, 800, 10)]).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.until_calm().await?;
    ensure!(play.borne("bob") + play.borne("carol") == u(1), "one winner pays one unit");
    play.end(Paid { insurance_fund: u(899), auto_deleverage: u(1), ..Paid::default() }).await
}

/// carol sold at 500 and wins nothing at 800: bob's 6 of 10 lots pay ceil(900 · 6 / 10) = 540, the rest is closed against
/// a bid at the mark and socialised.
async fn winners_too_few(arena: &Arena) -> Result<Outcome> {
    let cast = Cast {
        people: vec![
            ("alice", ONE, 1_100),
            ("bob", ONE, 20_000),
            ("carol", ONE, 20_000),
            ("dave", ONE, 50_000),
            ("erin", ONE, 20_000),
        ],
        stages: vec![
            (vec![(BTC, 500)], vec![(BTC, "erin", "carol", 4)]),
            (vec![], vec![(BTC, "alice", "erin", 4), (BTC, "alice", "bob", 6)]),
        ],
        ..Cast::alice(0)
    };
    let world = World::raise(arena, "winners_too_few", cast).await?;
    let mut play = Play::begin(&world).await?;
    play.act(&[play.order("dave", BTC, true, 800, 10)]).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.until_calm().await?;
    play.end(Paid { auto_deleverage: u(540), socialise_loss: u(360), ..Paid::default() }).await
}

/// bob wins 1,200 short of BTC and loses 4,000 long of ETH: 800 short. Nothing is taken from him for alice: carol's 4 lots
/// pay 360 of her 900, the rest is socialised; dave, who is short of ETH, pays bob's 800.
async fn bankrupt_winner(arena: &Arena) -> Result<Outcome> {
    let mut cast = Cast::alice(0);
    cast.people[1] = ("bob", ONE, 2_000);
    cast.stages[0].1.push((ETH, "bob", "dave", 100));
    let world = World::raise(arena, "bankrupt_winner", cast).await?;
    let mut play = Play::begin(&world).await?;
    play.act(&[play.order("dave", BTC, true, 800, 10), play.order("dave", BTC, false, 800, 10)]).await?;
    play.prices(&[(BTC, 800), (ETH, 60)]).await?;
    play.until_calm().await?;
    ensure!(play.borne("carol") >= u(360), "carol is deleveraged");
    play.end(Paid { auto_deleverage: u(1_160), socialise_loss: u(540), ..Paid::default() }).await
}

/// The fund of segment 1 is short, that of segment 2 is not: damage and money stay where they are.
async fn two_segments(arena: &Arena) -> Result<Outcome> {
    let mut cast = Cast::alice(500);
    cast.funds[1] = 10_000;
    cast.people.extend([("zoe", TWO, 1_100), ("yann", TWO, 20_000), ("xeno", TWO, 50_000)]);
    cast.stages[0].1.push((SOL, "zoe", "yann", 10));
    let world = World::raise(arena, "two_segments", cast).await?;
    let mut play = Play::begin(&world).await?;
    play.act(&[play.order("xeno", SOL, true, 800, 10)]).await?;
    play.prices(&[(BTC, 800), (SOL, 800)]).await?;
    play.until_calm().await?;
    let [one, two] = [ONE, TWO].map(|segment| play.watch.audit.tally(segment).absorbed);
    ensure!((one.insurance_fund, one.auto_deleverage) == (u(500), u(400)), "segment 1 paid {one:?}");
    ensure!((two.insurance_fund, two.auto_deleverage) == (u(900), u(0)), "segment 2 paid {two:?}");
    play.end(Paid { insurance_fund: u(1_400), auto_deleverage: u(400), ..Paid::default() }).await
}

/// In the block of the fall bob sells his win to carol and withdraws all there is but 900; alice is 900 short. carol pays
/// all she has.
async fn total_loss(arena: &Arena) -> Result<Outcome> {
    let cast = Cast {
        people: vec![("alice", ONE, 1_100), ("bob", ONE, 20_000), ("carol", ONE, 900)],
        stages: vec![(vec![], vec![(BTC, "alice", "bob", 10)])],
        ..Cast::alice(0)
    };
    let world = World::raise(arena, "total_loss", cast).await?;
    let mut play = Play::begin(&world).await?;
    play.act(&[play.order("carol", BTC, true, 800, 10)]).await?;
    play.act(&[play.order("carol", BTC, false, 800, 10)]).await?;
    leave(&mut play, 22_000).await?;
    play.until_calm().await?;
    ensure!(play.borne("carol") == u(900), "carol loses all she has");
    play.end(Paid { socialise_loss: u(900), ..Paid::default() }).await
}

/// The price falls to 800, and before anybody else can do anything bob fills the newest order and withdraws.
async fn leave(play: &mut Play<'_>, amount: u64) -> Result<()> {
    let mut messages = play.post(&[(BTC, 800), (ETH, 100)]);
    messages.push(play.fill_last("bob", 10)?);
    messages.push(play.withdraw("bob", amount));
    let done = play.surprise(&messages).await?;
    ensure!(done.iter().all(|done| *done), "bob could not leave: {done:?}");
    play.prices(&[(BTC, 800)]).await
}

/// bob has sold his win to carol; there is no winner and no bid: withdrawals are shut while alice is short. Then dave bids.
async fn withdrawals_wait(arena: &Arena) -> Result<Outcome> {
    let cast = Cast {
        people: vec![("alice", ONE, 1_100), ("bob", ONE, 20_000), ("carol", ONE, 20_000), ("dave", ONE, 50_000)],
        stages: vec![(vec![], vec![(BTC, "alice", "bob", 10)])],
        ..Cast::alice(0)
    };
    let world = World::raise(arena, "withdrawals_wait", cast).await?;
    let mut play = Play::begin(&world).await?;
    play.act(&[play.order("carol", BTC, false, 800, 10)]).await?;
    leave(&mut play, 1).await?;
    play.block().await?;
    let refused = play.attempt(&[play.withdraw("bob", 1)]).await?;
    ensure!(refused == [false], "bob withdraws while alice is short");
    play.act(&[play.order("dave", BTC, true, 800, 10)]).await?;
    play.until_calm().await?;
    ensure!(play.watch.audit.tally(ONE).gate_moves == 2, "the gate is shut and opened once");
    play.act(&[play.withdraw("bob", 1)]).await?;
    play.end(Paid { socialise_loss: u(900), ..Paid::default() }).await
}
