//! Crises in which the world changes between a plan and its execution.

use anyhow::{Result, ensure};
use futures_util::future::FutureExt;

use super::{
    super::venue::Clearinghouse,
    Arena, Entry, Outcome, Paid,
    play::Play,
    world::{BTC, Cast, ETH, ONE, World},
};
use crate::types::U256;

pub(super) const CRISES: [Entry; 5] = [
    ("price_rebounds_mid_plan", "the price is back before the plan executes, and falls again", |arena| {
        rebound(arena).boxed()
    }),
    ("oracle_freezes_mid_plan", "prices are too old when the plan executes", |arena| freeze(arena).boxed()),
    ("keeper_restarts_mid_plan", "the keeper is killed with transactions on the way", |arena| restart(arena).boxed()),
    ("adl_victim_changed", "a winner closes half of its position just before it is deleveraged", |arena| {
        victim(arena).boxed()
    }),
    ("parameter_change_mid_plan", "the fund's floor rises just before the fund is drawn on", |arena| {
        parameter(arena).boxed()
    }),
];

fn u(amount: u64) -> U256 {
    U256::from(amount)
}

/// The deleveraging reverts, since alice is solvent again; later she is not, and it is planned anew.
async fn rebound(arena: &Arena) -> Result<Outcome> {
    let world = World::raise(arena, "price_rebounds_mid_plan", Cast::alice(0)).await?;
    let mut play = Play::begin(&world).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.must_be_sending().await?;
    let rebound = play.post(&[(BTC, 1_000), (ETH, 100)]);
    play.surprise(&rebound).await?;
    ensure!(play.reverted().await?.len() == 1, "the plan of the fall executed after the rebound");
    play.prices(&[(BTC, 1_000)]).await?;
    play.until_calm().await?;
    play.prices(&[(BTC, 790)]).await?;
    play.until_calm().await?;
    play.end(Paid { auto_deleverage: u(1_000), ..Paid::default() }).await
}

/// A minute passes without a price: the plan reverts, nothing is sent on old prices, and the loss waits.
async fn freeze(arena: &Arena) -> Result<Outcome> {
    let world = World::raise(arena, "oracle_freezes_mid_plan", Cast::alice(0)).await?;
    let mut play = Play::begin(&world).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.must_be_sending().await?;
    play.frozen = true;
    play.mine(120).await?;
    ensure!(play.reverted().await?.len() == 1, "the plan executed on an old price");
    for _ in 0..3 {
        play.block().await?;
        ensure!(!play.keeper_is_sending().await?, "something is sent on an old price");
    }
    play.frozen = false;
    play.prices(&[(BTC, 780)]).await?;
    play.until_calm().await?;
    play.end(Paid { auto_deleverage: u(1_100), ..Paid::default() }).await
}

/// Two are short. The keeper dies with its transactions in the pool; they are mined while it is down, and the price falls
/// further. Nothing is done twice.
async fn restart(arena: &Arena) -> Result<Outcome> {
    let mut cast = Cast::alice(0);
    cast.people.push(("anna", ONE, 550));
    cast.stages[0].1.push((BTC, "anna", "dave", 5));
    let world = World::raise(arena, "keeper_restarts_mid_plan", cast).await?;
    let mut play = Play::begin(&world).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.must_be_sending().await?;
    play.kill().await?;
    play.block().await?;
    play.block().await?;
    play.restart().await?;
    play.until_calm().await?;
    play.end(Paid { auto_deleverage: u(1_350), ..Paid::default() }).await
}

/// bob buys 3 of his 6 lots back. What was planned asks for more lots than he has and reverts; anew, 3 + 4 lots pay
/// 270 + 360 of the 900, and the rest is closed against a bid and socialised.
async fn victim(arena: &Arena) -> Result<Outcome> {
    let world = World::raise(arena, "adl_victim_changed", Cast::alice(0)).await?;
    let mut play = Play::begin(&world).await?;
    play.act(&[play.order("dave", BTC, true, 800, 3)]).await?;
    play.act(&[play.order("dave", BTC, false, 800, 3)]).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.must_be_sending().await?;
    let done = play.surprise(&[play.fill_last("bob", 3)?]).await?;
    ensure!(done == [true], "bob could not buy back");
    ensure!(play.reverted().await?.len() == 1, "the plan executed on another position than it was made for");
    play.until_calm().await?;
    ensure!(play.borne("bob") >= u(270), "bob pays for the lots that he has left");
    play.end(Paid { auto_deleverage: u(630), socialise_loss: u(270), ..Paid::default() }).await
}

/// The fund of 1,000 was to pay 900; now it keeps 500. It pays 500, and winners the rest.
async fn parameter(arena: &Arena) -> Result<Outcome> {
    let world = World::raise(arena, "parameter_change_mid_plan", Cast::alice(1_000)).await?;
    let mut play = Play::begin(&world).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.must_be_sending().await?;
    let floor = Clearinghouse::setFundFloorCall { segment: ONE, floor: u(500) };
    play.surprise(&[play.admin(&floor, "raising the floor")]).await?;
    ensure!(play.reverted().await?.len() == 1, "the fund was drawn below its floor");
    play.until_calm().await?;
    play.end(Paid { insurance_fund: u(500), auto_deleverage: u(400), ..Paid::default() }).await
}
