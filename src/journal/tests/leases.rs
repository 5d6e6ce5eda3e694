//! Who may act, and that nobody else writes.

use std::time::Duration;

use super::*;
use crate::{positions::Delta, recovery::BalancedPlan};

const LASTS: Duration = Duration::from_secs(600);

/// What the passing of time does.
async fn run_out(fixture: &Fixture) {
    let past = "UPDATE leases SET expires_at = clock_timestamp() - interval '1 second'";
    assert_eq!(fixture.raw(past).await.unwrap(), 1);
}

async fn acquire(journal: &Journal, holder: &str) -> Option<Lease> {
    journal.acquire_lease(&name("venue"), holder, LASTS).await.unwrap()
}

#[tokio::test]
async fn a_lease_has_one_holder_and_each_change_of_hands_a_new_epoch() {
    let fixture = Fixture::new().await;
    let journal = &fixture.journal;
    let first = acquire(journal, "a").await.unwrap();
    assert_eq!((first.epoch, first.holder.as_str()), (1, "a"));
    assert_eq!(acquire(journal, "b").await, None);
    assert_eq!(acquire(journal, "a").await, None, "not even the holder takes it twice");
    assert!(journal.acquire_lease(&name("venue2"), "c", LASTS).await.unwrap().is_some(), "another deployment");
    assert!(journal.renew_lease(&first, LASTS).await.unwrap());
    journal.release_lease(&first).await.unwrap();
    let second = acquire(journal, "b").await.unwrap();
    assert_eq!(second.epoch, 2);
    assert!(!journal.renew_lease(&first, LASTS).await.unwrap(), "what was given up is not renewed");
    journal.release_lease(&first).await.unwrap();
    assert!(journal.renew_lease(&second, LASTS).await.unwrap(), "nor does its former holder give it up again");
}

#[tokio::test]
async fn of_many_who_want_a_lease_that_has_run_out_one_gets_it() {
    let fixture = Fixture::new().await;
    let old = acquire(&fixture.journal, "old").await.unwrap();
    run_out(&fixture).await;
    assert!(!fixture.journal.renew_lease(&old, LASTS).await.unwrap(), "it has run out, though nobody took it");
    let wanted = (0..8).map(|n| {
        let journal = fixture.journal.clone();
        tokio::spawn(async move { acquire(&journal, &format!("replica {n}")).await })
    });
    let mut taken = Vec::new();
    for wants in wanted.collect::<Vec<_>>() {
        taken.extend(wants.await.unwrap());
    }
    assert_eq!(taken.iter().map(|lease| lease.epoch).collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn whoever_lost_the_lease_writes_no_cache_no_plan_and_no_signed_bytes() {
    let fixture = Fixture::new().await;
    let old = acquire(&fixture.journal, "old").await.unwrap();
    let actions = fixture.plan(&[step(1, Tier::InsuranceFund, 100)]).await;
    let new = fixture.transaction(&actions, 0);
    let stale = fixture.journal.fenced(&old);
    run_out(&fixture).await;
    let of_two = [(new.clone(), attempt(0))];
    assert_conflict(stale.create_transactions(&of_two).await);
    let plan = BalancedPlan::unchecked(SEGMENT, block(10), Vec::new(), Ledger::default());
    let plan = AheadPlan::of(&plan, "distress").unwrap();
    let first = [FirstSignature { steps: 0..0, transaction: fixture.transaction(&[], 5), attempt: attempt(5) }];
    assert_conflict(stale.write_ahead(fixture.deployment, &plan, &first).await);
    let next = acquire(&fixture.journal, "next").await.unwrap();
    assert_conflict(stale.create_transactions(&of_two).await);
    assert_conflict(stale.write_ahead(fixture.deployment, &plan, &first).await);
    let fresh = fixture.journal.fenced(&next);
    let (transaction, _) = fresh.create_transactions(&of_two).await.unwrap()[0];
    assert_conflict(stale.add_attempt(transaction, &attempt(9), AttemptKind::Replace).await);
    fresh.add_attempt(transaction, &attempt(9), AttemptKind::Replace).await.unwrap();
    assert_conflict(stale.commit_cache(fixture.deployment, &block(11), &Delta::default()).await);
    assert_conflict(stale.reset_cache(fixture.deployment).await);
    fresh.commit_cache(fixture.deployment, &block(11), &Delta::default()).await.unwrap();
    let steps = [step(2, Tier::InsuranceFund, 5)];
    let ledger = ledger_of(&steps);
    let content = PlanContent {
        segment: SEGMENT,
        block: &block(10),
        steps: &steps,
        ledger: &ledger,
        notes: &[],
        decision: None,
        outlays: &[],
    };
    assert_conflict(stale.insert_plan_content(fixture.deployment, &content, "distress", false).await);
    fresh.insert_plan_content(fixture.deployment, &content, "distress", false).await.unwrap();
    assert_eq!(fixture.unsettled().await[0].attempts.len(), 2, "what the stale one wanted is not there");
}

/// What a holder of these deployments' leases would give up.
async fn surplus(journal: &Journal, leases: &[Lease]) -> Vec<String> {
    let mut surplus = Vec::new();
    for lease in leases {
        if journal.should_give_up(lease).await.unwrap() {
            surplus.push(lease.name.to_string());
        }
    }
    surplus
}

#[tokio::test]
async fn whoever_holds_two_more_gives_one_up_in_calm_and_whoever_holds_fewer_gets_it() {
    let fixture = Fixture::new().await;
    let journal = &fixture.journal;
    let take = async |of: &str, holder: &str| journal.acquire_lease(&name(of), holder, LASTS).await.unwrap();
    let mut first = Vec::new();
    for of in ["venue", "venue2", "venue3"] {
        first.push(take(of, "first").await.unwrap());
    }
    assert_eq!(surplus(journal, &first).await, [""; 0], "nobody stands by");
    for of in ["venue", "venue3"] {
        assert_eq!(take(of, "second").await, None);
    }
    let episode = fixture.episode().await;
    assert_eq!(surplus(journal, &first).await, ["venue3"], "not what is in a crisis, nor what nobody stands by for");
    let gone = first.pop().unwrap();
    journal.release_lease(&gone).await.unwrap();
    assert_eq!(take("venue3", "first").await, None, "it is for the one that holds fewer");
    journal.close_episode(episode, &block(2), &serde_json::json!({})).await.unwrap();
    assert_eq!(surplus(journal, &first).await, [""; 0], "one at a time");
    assert_eq!(take("venue3", "second").await.map(|lease| lease.epoch), Some(2));
    assert_eq!(surplus(journal, &first).await, [""; 0], "two and one is as even as it gets");
    assert_eq!(take("venue2", "third").await, None);
    assert_eq!(surplus(journal, &first).await, ["venue2"]);
    // The third dies: what it stood by for is given up to nobody, and taken by anybody.
    let dead = "UPDATE standbys SET expires_at = clock_timestamp() - interval '1 second' WHERE holder = 'third'";
    assert_eq!(fixture.raw(dead).await.unwrap(), 1);
    assert_eq!(surplus(journal, &first).await, [""; 0]);
    journal.release_lease(&first.pop().unwrap()).await.unwrap();
    assert_eq!(take("venue2", "first").await.map(|lease| lease.epoch), Some(2));
}
