//! Crises in which a shared backstop pool pays.

use anyhow::{Result, ensure};
use futures_util::future::FutureExt;

use super::{
    super::{pool::Terms, population::place},
    Arena, Entry, Outcome, Paid,
    play::Play,
    world::{BTC, Cast, ONE, World, owner},
};
use crate::types::U256;

pub(super) const CRISES: [Entry; 2] = [
    (
        "pool_pays_what_is_left",
        "the pool pays what fund and winners could not, a tenth of it from the stake",
        |arena| pool_pays(arena).boxed(),
    ),
    ("two_deployments_and_one_pool", "two venues fail at once and share a pool that is too small", |arena| {
        two_deployments(arena).boxed()
    }),
];

fn u(amount: u64) -> U256 {
    U256::from(amount)
}

fn terms(first_loss_bps: u16) -> Terms {
    Terms { cap: 100_000, first_loss_bps, stake: 10_000, premium: 1 }
}

/// carol sold at 500 and wins nothing at 800: bob's 6 of 10 lots are all that is deleveraged.
fn too_few_winners(fund: u128) -> Cast {
    let mut cast = Cast::alice(fund);
    cast.people.push(("erin", ONE, 20_000));
    cast.stages = vec![
        (vec![(BTC, 500)], vec![(BTC, "erin", "carol", 4)]),
        (vec![], vec![(BTC, "alice", "erin", 4), (BTC, "alice", "bob", 6)]),
    ];
    cast
}

/// alice is 900 short: bob pays 540, the pool 360, and nobody else anything.
async fn pool_pays(arena: &Arena) -> Result<Outcome> {
    let cast = Cast { pool: Some((100_000, terms(1_000))), ..too_few_winners(0) };
    let world = World::raise(arena, "pool_pays_what_is_left", cast).await?;
    let mut play = Play::begin(&world).await?;
    play.act(&[play.order("dave", BTC, true, 800, 10)]).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.until_calm().await?;
    ensure!(play.borne("bob") == u(540), "bob pays for his lots");
    play.end(Paid { auto_deleverage: u(540), shared_backstop: u(360), ..Paid::default() }).await
}

/// The first venue is 900 short: bob pays 540, 360 are claimed, of which 10 % are its own. The second has a fund of 100 and
/// is 800 short after it: bob pays 480, 320 are claimed, 25 % its own. Together they ask the pool's capital of
/// 280 + 2 of premiums for 324 + 240 = 564: each gets half of its claim, 180 and 160. The rest is socialised.
async fn two_deployments(arena: &Arena) -> Result<Outcome> {
    let sister = Cast { pool: Some((0, terms(2_500))), ..too_few_winners(100) };
    let cast = Cast { pool: Some((280, terms(1_000))), sister: Some(Box::new(sister)), ..too_few_winners(0) };
    let world = World::raise(arena, "two_deployments_and_one_pool", cast).await?;
    let mut play = Play::begin(&world).await?;
    let mut bids = vec![play.order("dave", BTC, true, 800, 10)];
    bids.extend(world.sister.iter().map(|sister| place(&sister.venue, owner("dave"), BTC, true, 800, 10)));
    play.act(&bids).await?;
    play.prices(&[(BTC, 800)]).await?;
    play.until_calm().await?;
    let pool_paid: Vec<U256> =
        [&play.watch].into_iter().chain(&play.sister).map(|w| w.audit.tally(ONE).absorbed.shared_backstop).collect();
    ensure!(pool_paid == [u(180), u(160)], "the pool paid {pool_paid:?}");
    play.end(Paid {
        insurance_fund: u(100),
        auto_deleverage: u(1_020),
        shared_backstop: u(340),
        socialise_loss: u(340),
        ..Paid::default()
    })
    .await
}
