//! Random portfolios, prices, rates and parameters: the adapter's integers are the contracts', account by account.

use backstop::demo::contracts;

use crate::{actions::Dice, world::World};

/// Comparisons of whole accounts with the contracts' views.
const CASES: usize = 2_000;

/// What must have happened to say that figures were right about it.
const EVENTS: [&str; 14] = [
    "AccrueInterest",
    "Mint",
    "Redeem",
    "Borrow",
    "RepayBorrow",
    "Transfer",
    "LiquidateBorrow",
    "HealBorrow",
    "BadDebtIncreased",
    "ProtocolSeize",
    "SpreadReservesReduced",
    "ReservesAdded",
    "CashSynced",
    "NewMarketInterestRateModel",
];

/// Follows a life of random blocks and audits everything every few of them, until there are cases enough.
async fn figures(clock: &str, seed: u64) {
    if !contracts::at_hand("venus") {
        return;
    }
    let mut world = World::new(clock).await;
    let mut dice = Dice::new(seed);
    let (mut cases, mut blocks, mut reorgs) = (0, 0u64, 0);
    world.borrowers(&mut dice).await;
    while cases < CASES {
        for _ in 0..1 + dice.below(6) {
            match dice.below(20) {
                0..14 => world.act(&mut dice).await,
                14..17 => world.poach(&mut dice).await,
                17..19 => world.shake(&mut dice, 120).await,
                _ => world.govern(&mut dice).await,
            }
        }
        // Now and then the latest blocks are replaced by empty ones: what they did is taken back.
        if dice.below(30) == 0 {
            world.anvil.reorg(1 + dice.below(4)).await.expect("reorganised");
            reorgs += 1;
        }
        let mined = 1 + dice.below(3);
        world.anvil.mine(mined).await.expect("mined");
        blocks += mined;
        let snapshot = world.follow().await;
        if dice.below(12) == 0 {
            cases += world.audit(&snapshot).await;
        }
    }
    let seen = world.events().await;
    println!(
        "{clock}: {cases} accounts audited over {blocks} blocks with {reorgs} reorganisations, no mismatch; events {seen:?}"
    );
    for event in EVENTS {
        assert!(
            seen.get(event).is_some_and(|count| *count > 0),
            "no {event} in this life: it proves nothing about them"
        );
    }
}

#[tokio::test]
async fn accounts_are_what_the_contracts_say_where_slots_are_blocks() {
    figures("blocks", 11).await;
}

#[tokio::test]
async fn accounts_are_what_the_contracts_say_where_slots_are_seconds() {
    figures("seconds", 12).await;
}
