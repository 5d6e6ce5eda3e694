//! What is kept of actions' moves, and for how long.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// Every event there is.
async fn all(fixture: &Fixture) -> Vec<ActionEvent> {
    fixture.journal.action_events(&EventFilter { limit: 1_000, ..Default::default() }).await.unwrap()
}

/// An event of an action that this month never saw.
async fn past_event(fixture: &Fixture, action: ActionId, at: &str) {
    let insert = format!(
        "INSERT INTO action_events (occurred_at, deployment_id, plan_id, action_id, status, status_block) \
         SELECT '{at}', deployment_id, plan_id, id, 'planned', 1 FROM actions WHERE id = {action}"
    );
    assert_eq!(fixture.raw(&insert).await.unwrap(), 1);
}

#[tokio::test]
async fn every_move_of_an_action_is_kept_as_it_happened() {
    let fixture = Fixture::new().await;
    let (journal, since) = (&fixture.journal, Utc::now());
    let (id, attempt, action) = fixture.sent(1, 0).await;
    journal.mark_included(id, attempt, &receipt(true)).await.unwrap();
    journal.mark_reorged(id).await.unwrap();
    journal.mark_included(id, attempt, &receipt(true)).await.unwrap();
    journal.mark_final(id).await.unwrap();
    let held = fixture.plan(&[step(2, Tier::Liquidate, 1), step(2, Tier::InsuranceFund, 2)]).await;
    journal.set_action_status(&held[..1], ActionStatus::Abandoned, Some("held back"), 11).await.unwrap();
    journal.set_action_status(&held[..1], ActionStatus::Abandoned, Some("again"), 12).await.unwrap();

    let story = journal.unit_history(fixture.deployment, &unit(1), 10).await.unwrap().actions.remove(0);
    let moves: Vec<_> = story.events.iter().map(|event| (event.before, event.status)).collect();
    let mut expected = vec![(None, ActionStatus::Planned)];
    for status in ["signed", "sent", "included", "sent", "included", "final"] {
        let status: ActionStatus = status.parse().unwrap();
        expected.push((expected.last().map(|(_, before)| *before), status));
    }
    assert_eq!(moves, expected);
    let carried: Vec<bool> = story.events.iter().map(|event| event.transaction == Some(id)).collect();
    assert_eq!(carried, [false, true, true, true, true, true, true]);
    assert_eq!((story.events[3].block, story.events[0].why.as_str()), (12, "so"));

    let events = all(&fixture).await;
    let of_held: Vec<_> = events.iter().filter(|event| held.contains(&event.action)).collect();
    assert_eq!(of_held.len(), 4, "both of the group, planned and given up once");
    assert_eq!((of_held[3].action, of_held[3].why.as_str(), of_held[3].block), (held[1], "held back", 11));
    let by_time = |since, until| EventFilter { deployment: Some(fixture.deployment), since, until, limit: 3 };
    assert_eq!(journal.action_events(&by_time(Some(since), None)).await.unwrap(), events[events.len() - 3..]);
    let at: DateTime<Utc> = story.events[2].occurred_at;
    assert_eq!(journal.action_events(&by_time(None, Some(at))).await.unwrap(), events[..2]);
    assert_eq!(events.iter().filter(|event| event.action == action).count(), 7);
}

#[tokio::test]
async fn no_event_is_changed_or_deleted() {
    let fixture = Fixture::new().await;
    fixture.plan(&[step(1, Tier::Liquidate, 1)]).await;
    fixture.journal.prepare_months().await.unwrap();
    for sql in ["UPDATE action_events SET reason = 'better'", "DELETE FROM action_events"] {
        let refusal = fixture.raw(sql).await.unwrap_err().to_string();
        assert!(refusal.contains("action events are never changed"), "{refusal}");
    }
    assert_eq!(all(&fixture).await.len(), 1);
}

#[tokio::test]
async fn months_are_made_ahead_and_what_has_none_is_kept_all_the_same() {
    let fixture = Fixture::new().await;
    let together = futures_util::future::join_all((0..4).map(|_| fixture.journal.prepare_months())).await;
    assert_eq!(together.into_iter().map(Result::unwrap).sum::<usize>(), 2, "this month and the next, once");
    let action = fixture.plan(&[step(1, Tier::Liquidate, 1)]).await[0];
    let strays = async || {
        let count = sqlx::query_scalar("SELECT count(*) FROM action_events_default");
        count.fetch_one(&fixture.journal.pool).await.unwrap()
    };
    assert_eq!(strays().await, 0i64);
    past_event(&fixture, action, "2020-01-05").await;
    assert_eq!((strays().await, all(&fixture).await.len()), (1, 2));

    // A month that began in the default partition stays there.
    let fixture = Fixture::new().await;
    fixture.plan(&[step(1, Tier::Liquidate, 1)]).await;
    assert_eq!(fixture.journal.prepare_months().await.unwrap(), 1);
    fixture.plan(&[step(2, Tier::Liquidate, 1)]).await;
    assert_eq!(all(&fixture).await.len(), 2);
}

#[tokio::test]
async fn old_months_go_as_a_whole() {
    let fixture = Fixture::new().await;
    let journal = &fixture.journal;
    journal.prepare_months().await.unwrap();
    let made = "CREATE TABLE action_events_2020_01 PARTITION OF action_events FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')";
    fixture.raw(made).await.unwrap();
    let action = fixture.plan(&[step(1, Tier::Liquidate, 1)]).await[0];
    past_event(&fixture, action, "2020-01-05").await;
    past_event(&fixture, action, "2020-03-05").await;
    let age = Utc::now() - "2020-01-20T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
    assert_eq!(journal.forget(age.to_std().unwrap()).await.unwrap().months, 0, "half of it is young enough");
    let age = Utc::now() - "2020-02-01T12:00:00Z".parse::<DateTime<Utc>>().unwrap();
    assert_eq!(journal.forget(age.to_std().unwrap()).await.unwrap().months, 1);
    assert_eq!(all(&fixture).await.len(), 2);
    assert_eq!(journal.forget(DAY).await.unwrap().months, 1, "what strayed");
    assert_eq!(all(&fixture).await.len(), 1);
    assert_eq!(journal.forget(DAY).await.unwrap().months, 0);
}
