//! Crises in which the operator's settings decide: limits, a reload in the middle, restitution.

use anyhow::{Context, Result, ensure};
use futures_util::future::FutureExt;
use serde_json::{Value, json};

use super::{
    super::venue::Clearinghouse,
    Arena, Entry, Outcome, Paid,
    play::Play,
    world::{BTC, Cast, ONE, World, owner},
};
use crate::types::U256;

pub(super) const CRISES: [Entry; 4] = [
    ("limits_reloaded_mid_crisis", "deleveraging is capped per block, until the operator lifts the cap", |arena| {
        reloaded(arena).boxed()
    }),
    ("claims_are_paid_back", "the fund fills again and pays back what winners had paid", |arena| {
        paid_back(arena).boxed()
    }),
    (
        "margins_follow_unrest",
        "margins rise while prices are restless, before any loss, and fall after calm",
        |arena| margins(arena).boxed(),
    ),
    (
        "the_dry_plan_is_what_is_done",
        "the plan after a shock, asked for before the fall, is what then happens",
        |arena| dry_plan(arena).boxed(),
    ),
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

/// Everybody is well off. Prices move by 1 % a block: the margin rises by steps from 500 and tips nobody over; then they
/// stand still, and after 30 seconds of calm it falls again. Nobody pays anything.
async fn margins(arena: &Arena) -> Result<Outcome> {
    let recovery = json!({ "tiers": [
        { "tier": "liquidate" },
        { "tier": "insurance_fund" },
        { "tier": "recalibrate", "controller": { "margin_multiple": 8, "window": 6, "calm_seconds": 30 } },
    ] });
    let mut cast = Cast { recovery: Some(recovery), observe_every_seconds: Some(1), ..Cast::alice(0) };
    cast.people[0].2 = 20_000;
    let world = World::raise(arena, "margins_follow_unrest", cast).await?;
    let mut play = Play::begin(&world).await?;
    let margin = |play: &Play<'_>| play.watch.audit.books().markets[&BTC].maintenance_margin_bps;
    ensure!(margin(&play) == 500, "it begins at 500");
    for price in [1_010, 1_000].repeat(25) {
        play.prices(&[(BTC, price)]).await?;
    }
    let risen = margin(&play);
    ensure!(risen > 600, "two steps of a fifth in fifty seconds, one each twenty: {risen}");
    for _ in 0..60 {
        play.block().await?;
    }
    let fallen = margin(&play);
    ensure!(fallen < risen, "it does not fall after calm: {fallen}");
    play.until_calm().await?;
    play.end(Paid::default()).await
}

/// What is foreseen before the fall: the same bad debt, and the move at which the fund is gone.
async fn foresee(world: &World) -> Result<()> {
    let told: Value = serde_json::from_str(&world.ask("stress", &["--shock", "1=-20%", "--json"]).await?)?;
    let (fallen, funds) = (&told["stress"]["segments"]["1"], &told["funds"]["1"]);
    ensure!(fallen["bad_debt"] == 900.0 && funds == 500.0, "the stress says {told}");
    let path = world.folder.join("before.json");
    if path.exists() {
        // of an earlier run in this folder; the command writes over nothing
        std::fs::remove_file(&path)?;
    }
    let path = path.display().to_string();
    world.ask("snapshot", &["--out", &path]).await?;
    let saved = world.ask("stress", &["--shock", "1=-20%", "--json", "--snapshot", &path]).await?;
    let saved: Value = serde_json::from_str(&saved)?;
    ensure!(saved["stress"] == told["stress"], "of a saved snapshot the stress says {saved}");
    let told: Value = serde_json::from_str(&world.ask("scan", &["--json"]).await?)?;
    let risk = &told["risk"];
    let runway = risk["runways"]["1"]["fall"].as_f64().context("the fund would last")?;
    ensure!((-0.20..-0.10).contains(&runway), "the fund is gone at {runway}");
    let first = &risk["watched"][0];
    let chances = first["at_horizons"].as_array().context("no horizons")?;
    let chance = |at: &Value| at["liquidation_chance"].as_f64().unwrap_or(-1.0);
    let rising = chances.windows(2).all(|pair| chance(&pair[0]) <= chance(&pair[1]));
    ensure!(rising && chances.iter().all(|at| (0.0..=1.0).contains(&chance(at))), "chances {first}");
    let table = world.ask("scan", &[]).await?;
    ensure!(table.contains("largest owner") && table.contains("gone at a fall of"), "{table}");
    Ok(())
}

/// Fund 500: asked before the fall what would be done after one of 20 %, the daemon's books say that the fund pays 500 and
/// winners 400. Then it falls by 20 %, and it is so; and the episode's account says so too.
async fn dry_plan(arena: &Arena) -> Result<Outcome> {
    let world = World::raise(arena, "the_dry_plan_is_what_is_done", Cast::alice(500)).await?;
    let mut play = Play::begin(&world).await?;
    let before = world.ask("plan", &[]).await?;
    ensure!(before.contains("nothing to do"), "there is something to do before the fall: {before}");
    let told = world.ask("plan", &["--shock", "1=-20%", "--json"]).await?;
    let told: Value = serde_json::from_str(&told).context("the plan is no JSON")?;
    let ledger = &told["plan"]["ledger"];
    let absorbed = |tier: &str| ledger["absorbed"][tier].as_str().unwrap_or("0").to_owned();
    let sums = [absorbed("insurance_fund"), absorbed("auto_deleverage"), absorbed("socialise_loss")];
    ensure!(sums == ["500", "400", "0"] && ledger["residual"] == "0", "the dry plan says {ledger}");
    let table = world.ask("plan", &["--shock", "1=-20%"]).await?;
    ensure!(table.contains("draw 500 on the fund") && table.contains("close 2 winners in market 1"), "{table}");
    foresee(&world).await?;

    play.prices(&[(BTC, 800)]).await?;
    play.until_calm().await?;
    let episodes = world.ask("episodes", &["--json"]).await?;
    let episode: Value = serde_json::from_str(episodes.lines().next().context("no episode")?)?;
    let id = episode["id"].to_string();
    let account: Value = serde_json::from_str(&world.ask("episodes", &[&id, "--json"]).await?)?;
    let burdens = account["burdens"].as_array().context("no account")?;
    let by_fund = burdens.iter().find(|burden| burden["bearer"].is_null());
    ensure!(by_fund.is_some_and(|burden| burden["amount"] == "500"), "the account says {account}");
    let why = world.ask("why", &[&owner("bob").to_string()]).await?;
    ensure!(why.contains("auto_deleverage") && why.contains("what it bore for others"), "{why}");
    play.end(Paid { insurance_fund: u(500), auto_deleverage: u(400), ..Paid::default() }).await
}
