use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_700_000_000 + seconds)
}

fn alert(severity: AlertSeverity, seconds: i64) -> AlertRow {
    AlertRow {
        deployment: None,
        key: "venue/rpc_down".to_owned(),
        severity,
        title: "no answer \0".to_owned(),
        detail: "for 30 s".to_owned(),
        now: at(seconds),
        repeat_after: Some(Duration::from_secs(3600)),
    }
}

#[tokio::test]
async fn an_open_alert_is_told_once_until_it_is_worse_due_or_reopened() {
    use AlertDecision::{Deliver, Suppressed};
    use AlertSeverity::{Critical, Info, Warning};
    let Fixture { journal, deployment, database: _database } = Fixture::new().await;
    let steps = [
        (Warning, 0, Deliver),
        (Warning, 1, Suppressed),
        (Info, 2, Suppressed),
        (Critical, 3, Deliver),
        (Critical, 4, Suppressed),
        // it was critical in this opening already: back to it is no news
        (Warning, 5, Suppressed),
        (Critical, 6, Suppressed),
        (Critical, 3602, Suppressed),
        (Critical, 3603, Deliver),
        (Critical, 3604, Suppressed),
    ];
    for (severity, seconds, expected) in steps {
        let decision = journal.raise_alert(&alert(severity, seconds)).await.unwrap();
        assert_eq!(decision, expected, "{severity:?} at {seconds} s");
    }
    let other = AlertRow { key: "other/rpc_down".to_owned(), deployment: Some(deployment), ..alert(Info, 7) };
    assert_eq!(journal.raise_alert(&other).await.unwrap(), Deliver);

    assert!(journal.resolve_alert("venue/rpc_down", at(4000)).await.unwrap());
    assert!(!journal.resolve_alert("venue/rpc_down", at(4001)).await.unwrap());
    assert_eq!(journal.raise_alert(&alert(Info, 4002)).await.unwrap(), Deliver);
    assert_eq!(journal.raise_alert(&alert(Info, 4003)).await.unwrap(), Suppressed);
}

#[tokio::test]
async fn racing_raisers_deliver_once() {
    let Fixture { journal, database: _database, .. } = Fixture::new().await;
    let raisers = (0..8).map(|_| {
        let journal = journal.clone();
        tokio::spawn(async move { journal.raise_alert(&alert(AlertSeverity::Warning, 0)).await.unwrap() })
    });
    let mut delivered = 0;
    for raiser in raisers.collect::<Vec<_>>() {
        delivered += usize::from(raiser.await.unwrap() == AlertDecision::Deliver);
    }
    assert_eq!(delivered, 1);
    let seen: i64 = sqlx::query_scalar("SELECT seen FROM alerts").fetch_one(&journal.pool).await.unwrap();
    assert_eq!(seen, 8);
}

#[tokio::test]
async fn a_reminder_may_be_switched_off() {
    let Fixture { journal, database: _database, .. } = Fixture::new().await;
    let silent = |seconds| AlertRow { repeat_after: None, ..alert(AlertSeverity::Info, seconds) };
    assert_eq!(journal.raise_alert(&silent(0)).await.unwrap(), AlertDecision::Deliver);
    assert_eq!(journal.raise_alert(&silent(1_000_000)).await.unwrap(), AlertDecision::Suppressed);
}
