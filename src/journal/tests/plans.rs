use std::collections::BTreeMap;

use super::*;
use crate::recovery::{Decision, FundState, Measures, Reservations, SegmentCase, TierSettings, TierUse};

use ActionStatus::{Abandoned, Planned, Rejected, Sent, Signed, Simulated};

fn margin_step(market: u32) -> Step {
    let action =
        Action::SetMargin { market: MarketId(market), maintenance_margin_bps: 1, initial_margin_bps: 2, tipped_max: 0 };
    Step { tier: Tier::Recalibrate, unit: None, action, absorbs: U256::ZERO, why: "calmer".to_owned() }
}

#[tokio::test]
async fn a_plan_is_written_step_by_step_in_order() {
    let fixture = Fixture::new().await;
    let steps = [
        step(1, Tier::Liquidate, 10),
        Step { absorbs: U256::MAX >> 1, why: "nul \0".to_owned(), ..step(1, Tier::InsuranceFund, 0) },
        step(2, Tier::SocialiseLoss, 7),
        margin_step(4),
    ];
    let (plan, ids) = fixture.try_plan(&steps, false).await.unwrap();
    let filter = ActionFilter { deployment: Some(name("venue")), limit: 10, ..Default::default() };
    let mut rows = fixture.journal.list_actions(&filter).await.unwrap();
    rows.reverse();
    assert_eq!(rows.iter().map(|row| row.id).collect::<Vec<_>>(), ids);
    assert_eq!(rows.iter().map(|row| row.group).collect::<Vec<_>>(), [0, 0, 1, 2]);
    for (index, (row, step)) in rows.iter().zip(&steps).enumerate() {
        assert_eq!((row.plan, row.step as usize, row.status), (plan, index, Planned));
        assert_eq!((row.tier, &row.unit, row.absorbs), (step.tier, &step.unit, step.absorbs));
        assert_eq!(row.why, step.why.replace('\0', ""));
        assert_eq!(serde_json::from_value::<Action>(row.action.clone()).unwrap(), step.action);
        assert_eq!((row.planned_block, row.segment, row.dry_run, row.tx_hash), (10, SEGMENT, false, None));
    }
}

#[tokio::test]
async fn books_that_do_not_balance_by_one_unit_are_refused() {
    let fixture = Fixture::new().await;
    let steps = [step(1, Tier::Liquidate, 10)];
    let good = ledger_of(&steps);
    let one = U256::from(1);
    let tampered = [
        Ledger { shortfall: good.shortfall + one, ..good.clone() },
        Ledger { residual: good.residual - one, ..good.clone() },
        Ledger { absorbed: [(Tier::Liquidate, U256::from(11))].into(), ..good.clone() },
        Ledger { absorbed: [(Tier::Liquidate, U256::MAX), (Tier::InsuranceFund, one)].into(), ..good.clone() },
    ];
    for ledger in &tampered {
        let content = PlanContent {
            segment: SEGMENT,
            block: &block(10),
            steps: &steps,
            ledger,
            notes: &[],
            decision: None,
            outlays: &[],
        };
        assert_conflict(fixture.journal.insert_plan_content(fixture.deployment, &content, "distress", false).await);
    }
    let none = fixture.journal.list_actions(&ActionFilter { limit: 1, ..Default::default() }).await.unwrap();
    assert_eq!(none, []);
}

#[tokio::test]
async fn a_subject_has_one_open_group() {
    let fixture = Fixture::new().await;
    let first = fixture.plan(&[step(1, Tier::Liquidate, 1), step(1, Tier::InsuranceFund, 1), margin_step(4)]).await;
    assert_conflict(fixture.try_plan(&[step(2, Tier::Liquidate, 1), step(1, Tier::Liquidate, 1)], false).await);
    assert_conflict(fixture.try_plan(&[margin_step(4)], false).await);
    assert_conflict(
        fixture.try_plan(&[step(3, Tier::Liquidate, 1), margin_step(5), step(3, Tier::Liquidate, 1)], false).await,
    );
    // what was refused left nothing behind
    fixture.plan(&[step(2, Tier::Liquidate, 1), step(3, Tier::Liquidate, 1), margin_step(5)]).await;

    fixture.journal.set_action_status(&first[..1], Rejected, Some("not eligible"), 11).await.unwrap();
    assert_eq!(fixture.status(first[1]).await, Rejected);
    fixture.plan(&[step(1, Tier::Liquidate, 1)]).await;
    let reopened = format!("UPDATE actions SET status = 'planned' WHERE id = {}", first[0]);
    fixture.refused_by("actions_one_open_group", &reopened).await;
}

#[tokio::test]
async fn a_claim_ends_when_the_action_is_mined_and_a_reorganisation_does_not_renew_it() {
    let fixture = Fixture::new().await;
    let (transaction, attempt, action) = fixture.sent(1, 0).await;
    assert_conflict(fixture.try_plan(&[step(1, Tier::Liquidate, 1)], false).await);
    fixture.journal.mark_included(transaction, attempt, &receipt(true)).await.unwrap();
    let next = fixture.plan(&[step(1, Tier::Liquidate, 1)]).await;
    fixture.journal.mark_reorged(transaction).await.unwrap();
    assert_eq!((fixture.status(action).await, fixture.status(next[0]).await), (Sent, Planned));
}

#[tokio::test]
async fn a_plan_is_read_with_what_it_was_made_from() {
    let fixture = Fixture::new().await;
    let (journal, episode) = (&fixture.journal, fixture.episode().await);
    let case = SegmentCase {
        segment: SEGMENT,
        block: block(10),
        fund: FundState { balance: U256::MAX, spendable: U256::from(7) },
        markets: BTreeMap::new(),
        distressed: vec![],
        solvent: BTreeMap::new(),
        blocked: Some("no\0price".to_owned()),
        measures: Measures::default(),
        offered: None,
    };
    let tiers = vec![TierSettings::unlimited(Tier::Liquidate)];
    let reservations = Reservations::default();
    let decision = Decision { case, tiers, adl_policy: "min_max".to_owned(), terms: None, reservations };
    let steps = [step(1, Tier::Liquidate, 1), step(2, Tier::InsuranceFund, 2)];
    let ledger = ledger_of(&steps);
    for decision in [Some(&decision), None] {
        let notes = &["left undone".to_owned()];
        let (at, text) = (&block(10), decision_text(decision).unwrap());
        let content = PlanContent {
            segment: SEGMENT,
            block: at,
            steps: &steps,
            ledger: &ledger,
            notes,
            decision: text,
            outlays: &[],
        };
        let (under, id, _) = journal.insert_plan_content(fixture.deployment, &content, "distress", true).await.unwrap();
        assert_eq!(under, episode);
        journal.abandon_unsigned(fixture.deployment, "made again", 10).await.unwrap();
        let kept = journal.kept_plans(episode).await.unwrap().pop().unwrap();
        assert_eq!((kept.id, kept.block, kept.segment), (id, 10, SEGMENT));
        assert_eq!((kept.steps, kept.ledger, kept.notes), (steps.to_vec(), ledger.clone(), notes.to_vec()));
        let stored = kept.decision.map(|kept| (kept.case.fund, kept.tiers, kept.adl_policy));
        assert_eq!(stored, decision.map(|one| (one.case.fund, one.tiers.clone(), one.adl_policy.clone())));
    }
}

#[tokio::test]
async fn a_plan_stands_under_its_segments_open_episode_or_opens_one() {
    let fixture = Fixture::new().await;
    let Fixture { journal, deployment, .. } = &fixture;
    let standing = fixture.episode().await;
    let other = journal.register_deployment(&name("other"), CHAIN, "perps", &serde_json::Value::Null).await.unwrap();
    let insert = async |deployment, segment, steps: &[Step]| {
        let ledger = ledger_of(steps);
        let content = PlanContent {
            segment,
            block: &block(10),
            steps,
            ledger: &ledger,
            notes: &[],
            decision: None,
            outlays: &[],
        };
        journal.insert_plan_content(deployment, &content, "nul \0", false).await
    };
    let one = |id| [step(id, Tier::Liquidate, 1)];
    let (under, ..) = insert(*deployment, SEGMENT, &one(1)).await.unwrap();
    assert_eq!(under, standing);
    assert_conflict(insert(*deployment, SEGMENT, &one(1)).await.map(drop));
    let (elsewhere, ..) = insert(*deployment, SegmentId(2), &one(2)).await.unwrap();
    let (of_other, ..) = insert(other, SEGMENT, &one(1)).await.unwrap();
    assert_eq!(journal.open_episodes(other).await.unwrap(), [(of_other, SEGMENT, 10)]);
    // A plan that is refused opens nothing.
    journal.close_episode(standing, &block(11), &serde_json::json!({})).await.unwrap();
    assert_conflict(insert(*deployment, SEGMENT, &one(1)).await.map(drop));
    assert_eq!(journal.open_episodes(*deployment).await.unwrap(), [(elsewhere, SegmentId(2), 10)]);
    let (next, _, actions) = insert(*deployment, SEGMENT, &one(3)).await.unwrap();
    assert!(next != standing && actions.len() == 1);
    let (_, _, none) = insert(*deployment, SEGMENT, &[]).await.unwrap();
    assert_eq!(none, []);
}

#[tokio::test]
async fn statuses_before_the_signature_follow_their_order() {
    let fixture = Fixture::new().await;
    let set = async |id: ActionId, status| fixture.journal.set_action_status(&[id], status, None, 11).await;
    let ids = fixture.plan(&[step(1, Tier::Liquidate, 1), step(2, Tier::Liquidate, 1)]).await;
    set(ids[0], Simulated).await.unwrap();
    set(ids[0], Simulated).await.unwrap();
    for follows_a_transaction in ActionStatus::ALL {
        if !matches!(follows_a_transaction, Simulated | Rejected | Abandoned) {
            assert_conflict(set(ids[0], follows_a_transaction).await);
        }
    }
    set(ids[0], Rejected).await.unwrap();
    for later in [Simulated, Abandoned] {
        assert_conflict(set(ids[0], later).await);
    }
    set(ids[0], Rejected).await.unwrap();
    assert_conflict(set(ActionId(999), Rejected).await);

    // all or none
    assert_conflict(fixture.journal.set_action_status(&ids, Abandoned, None, 12).await);
    assert_eq!(fixture.status(ids[1]).await, Planned);
    fixture.journal.set_action_status(&ids[1..], Abandoned, Some("dry\0 run"), 12).await.unwrap();
    let row = fixture.action(ids[1]).await;
    assert_eq!((row.status, row.reason.as_deref(), row.status_block), (Abandoned, Some("dry run"), 12));
}

#[tokio::test]
async fn a_dry_run_action_is_never_signed() {
    let fixture = Fixture::new().await;
    let (_, ids) = fixture.try_plan(&[step(1, Tier::Liquidate, 1)], true).await.unwrap();
    let new = fixture.transaction(&ids, 0);
    assert_conflict(fixture.journal.create_transaction(&new, &attempt(0)).await);
    assert_eq!(fixture.unsettled().await, []);
    assert_eq!(fixture.journal.next_nonce(CHAIN, new.signer).await.unwrap(), None);
    let (transaction, _, _) = fixture.signed(2, 0).await;
    let smuggled =
        format!("UPDATE actions SET status = 'signed', transaction_id = {transaction} WHERE id = {}", ids[0]);
    fixture.refused_by("actions_dry_run_is_never_signed", &smuggled).await;
}

#[tokio::test]
async fn a_start_frees_what_the_dead_had_planned() {
    let fixture = Fixture::new().await;
    let ids = fixture.plan(&[step(1, Tier::Liquidate, 1), step(2, Tier::Liquidate, 1)]).await;
    fixture.journal.set_action_status(&ids[..1], Simulated, None, 10).await.unwrap();
    let (_, _, signed) = fixture.signed(3, 0).await;
    let abandon = async || fixture.journal.abandon_unsigned(fixture.deployment, "restart", 20).await.unwrap();
    assert_eq!(abandon().await, 2);
    assert_eq!(abandon().await, 0);
    assert_eq!(fixture.status(ids[0]).await, Abandoned);
    assert_eq!(fixture.status(signed).await, Signed);
    fixture.plan(&[step(1, Tier::Liquidate, 1), step(2, Tier::Liquidate, 1)]).await;
}

#[tokio::test]
async fn listings_filter_and_stop() {
    let fixture = Fixture::new().await;
    let ids = fixture.plan(&[step(1, Tier::Liquidate, 1), step(2, Tier::Liquidate, 1)]).await;
    fixture.journal.set_action_status(&ids[1..], Rejected, None, 11).await.unwrap();
    let list = async |filter: ActionFilter| -> Vec<ActionId> {
        fixture.journal.list_actions(&filter).await.unwrap().into_iter().map(|row| row.id).collect()
    };
    let all = ActionFilter { limit: 10, ..Default::default() };
    assert_eq!(list(all.clone()).await, [ids[1], ids[0]]);
    assert_eq!(list(ActionFilter { limit: 1, ..all.clone() }).await, [ids[1]]);
    assert_eq!(list(ActionFilter { unit: Some(unit(1)), ..all.clone() }).await, [ids[0]]);
    assert_eq!(list(ActionFilter { status: Some(Rejected), ..all.clone() }).await, [ids[1]]);
    assert_eq!(list(ActionFilter { since_block: Some(11), ..all.clone() }).await, []);
    assert_eq!(list(ActionFilter { deployment: Some(name("other")), ..all }).await, []);
}

#[tokio::test]
async fn the_budget_counts_what_was_signed_within_its_window() {
    let fixture = Fixture::new().await;
    let steps = [step(1, Tier::Liquidate, 10), step(2, Tier::Liquidate, 10)];
    let outlays = [U256::from(300), U256::from(5)];
    let ledger = ledger_of(&steps);
    let content = PlanContent {
        segment: SEGMENT,
        block: &block(10),
        steps: &steps,
        ledger: &ledger,
        notes: &[],
        decision: None,
        outlays: &outlays,
    };
    let planned = fixture.journal.insert_plan_content(fixture.deployment, &content, "distress", false).await;
    let (.., actions) = planned.unwrap();
    let since = |seconds| chrono::Utc::now() - chrono::TimeDelta::seconds(seconds);
    let spent = |since| fixture.journal.outlay_wei_since(fixture.deployment, since);
    assert_eq!(spent(since(60)).await.unwrap(), U256::ZERO, "nothing is signed yet");
    let new = fixture.transaction(&actions[..1], 0);
    fixture.journal.create_transaction(&new, &attempt(0)).await.unwrap();
    assert_eq!(spent(since(60)).await.unwrap(), U256::from(300));
    assert_eq!(spent(since(-60)).await.unwrap(), U256::ZERO, "the window has passed");
}

#[tokio::test]
async fn what_a_tier_took_is_counted_by_episode_block_and_last_use() {
    let fixture = Fixture::new().await;
    let Fixture { journal, deployment, .. } = &fixture;
    let episode = fixture.episode().await;
    let use_at = |episode, block| journal.tier_use(*deployment, SEGMENT, episode, block, 5);
    assert!(use_at(Some(episode), 10).await.unwrap().is_empty());
    let planned = fixture.plan(&[step(2, Tier::InsuranceFund, 7)]).await;
    assert!(use_at(Some(episode), 10).await.unwrap().is_empty(), "what was never signed took nothing");
    journal.set_action_status(&planned, Rejected, None, 10).await.unwrap();

    let (transaction, attempt, _) = fixture.sent(1, 0).await;
    let used = TierUse { in_episode: U256::from(100), in_block: U256::from(100), last_block: Some(10) };
    let of = |used: TierUse| BTreeMap::from([(Tier::InsuranceFund, used)]);
    assert_eq!(use_at(Some(episode), 10).await.unwrap(), of(used));
    assert_eq!(use_at(Some(episode), 11).await.unwrap(), of(TierUse { in_block: U256::ZERO, ..used }));
    let without = TierUse { in_episode: U256::ZERO, in_block: U256::ZERO, ..used };
    assert_eq!(use_at(None, 15).await.unwrap(), of(without), "a cool-down outlives its episode");
    assert!(use_at(None, 16).await.unwrap().is_empty());
    journal.mark_included(transaction, attempt, &receipt(false)).await.unwrap();
    assert!(use_at(Some(episode), 10).await.unwrap().is_empty(), "what reverted took nothing");
}

#[tokio::test]
async fn settings_are_written_down_when_they_differ_with_what_stood_before() {
    let Fixture { journal, deployment, database: _database } = Fixture::new().await;
    let (one, two) = (serde_json::json!({ "tiers": [1] }), serde_json::json!({ "tiers": [2] }));
    assert!(journal.record_recovery_settings(deployment, CameBy::Start, &one).await.unwrap());
    assert!(!journal.record_recovery_settings(deployment, CameBy::Start, &one).await.unwrap());
    assert!(journal.record_recovery_settings(deployment, CameBy::Api, &two).await.unwrap());
    assert!(journal.record_recovery_settings(deployment, CameBy::Sighup, &one).await.unwrap());
    let changes = journal.recovery_settings_changes(deployment, 9).await.unwrap();
    let told: Vec<_> = changes.iter().map(|c| (c.came_by.as_str(), c.before.as_ref(), &c.after)).collect();
    assert_eq!(told, [("sighup", Some(&two), &one), ("api", Some(&one), &two), ("start", None, &one)]);
}
