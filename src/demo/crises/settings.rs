//! Crises in which the operator's settings decide: limits, a reload in the middle, restitution.

use anyhow::{Result, ensure};
use futures_util::future::FutureExt;
use serde_json::json;

use super::{
    super::venue::Clearinghouse,
    Arena, Entry, Outcome, Paid,
    play::Play,
    world::{BTC, Cast, ONE, World},
};
use crate::types::U256;

pub(super) const CRISES: [Entry; 2] = [
    ("limits_reloaded_mid_crisis", "deleveraging is capped per block, until the operator lifts the cap", |arena| {
        reloaded(arena).boxed()
    }),
    ("claims_are_paid_back", "the fund fills again and pays back what winners had paid", |arena| {
        paid_back(arena).boxed()
    }),
];

fn u(amount: u64) -> U256 {
    U256::from(amount)
}

/// At most 400 a block: 4 lots for 360 fit, a fifth would not. Without the cap the rest is paid at once.
async fn reloaded(arena: &Arena) -> Result<Outcome> {
    let tiers = |deleverage: serde_json::Value| json!({ "tiers": [{ "tier": "liquidate" }, { "tier": "insurance_fund" }, deleverage, { "tier": "socialise_loss" }] });
    let capped = tiers(json!({ "tier": "auto_deleverage", "absorb_max": "400" }));
    let world =
        World::raise(arena, "limits_reloaded_mid_crisis", Cast { recovery: Some(capped), ..Cast::alice(0) }).await?;
    let mut play = Play::begin(&world).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.block().await?;
    let first = play.watch.audit.tally(ONE).absorbed;
    ensure!(first.auto_deleverage == u(360) && first.socialise_loss.is_zero(), "the cap did not hold: {first:?}");
    play.reconfigure(&tiers(json!({ "tier": "auto_deleverage" }))).await?;
    play.until_calm().await?;
    play.end(Paid { auto_deleverage: u(900), ..Paid::default() }).await
}

/// The fund is empty and winners pay 900. Then it gets 1,000 and a floor of 400: 600 are paid back, 2 : 3 as they were
/// borne; and the last 300 when it gets 300 more.
async fn paid_back(arena: &Arena) -> Result<Outcome> {
    let recovery = json!({ "tiers": [
        { "tier": "liquidate" },
        { "tier": "insurance_fund" },
        { "tier": "auto_deleverage" },
        { "tier": "socialise_loss" },
        { "tier": "restitute", "cooldown_blocks": 3 },
    ] });
    let world =
        World::raise(arena, "claims_are_paid_back", Cast { recovery: Some(recovery), ..Cast::alice(0) }).await?;
    let mut play = Play::begin(&world).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.until_calm().await?;
    ensure!(play.borne("bob") == u(540) && play.borne("carol") == u(360), "winners pay by their lots");
    let floor = Clearinghouse::setFundFloorCall { segment: ONE, floor: u(400) };
    play.act(&[play.admin(&floor, "raising the floor")]).await?;
    play.act(&play.refill(ONE, 1_000)).await?;
    for _ in 0..5 {
        play.block().await?;
    }
    play.until_calm().await?;
    ensure!(play.watch.audit.tally(ONE).returned == u(600), "600 are paid back");
    play.act(&play.refill(ONE, 300)).await?;
    play.block().await?;
    play.until_calm().await?;
    ensure!(play.watch.audit.books().claims.is_empty(), "nothing is owed any more");
    play.end(Paid { auto_deleverage: u(900), returned: u(900), ..Paid::default() }).await
}
