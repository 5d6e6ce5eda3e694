//! What is forgotten, and what is not.

use std::time::Duration;

use super::*;
use crate::scanner::Condition;

const DAY: Duration = Duration::from_secs(86_400);

fn finding(condition: Condition) -> FindingChange {
    FindingChange {
        unit: unit(1),
        segment: SEGMENT,
        condition,
        equity: I256::ZERO,
        maintenance_margin: U256::ZERO,
        surplus: I256::ZERO,
        health_factor_bps: None,
        rank: Some(0),
        reason: None,
    }
}

#[tokio::test]
async fn old_findings_alerts_and_decisions_are_forgotten_and_what_was_done_is_not() {
    let fixture = Fixture::new().await;
    let (journal, deployment) = (&fixture.journal, fixture.deployment);
    for (height, condition) in [(1, Condition::AtRisk), (2, Condition::Liquidatable)] {
        journal.record_findings(deployment, &block(height), &[finding(condition)]).await.unwrap();
    }
    let episode = fixture.episode().await;
    let steps = [step(1, Tier::Liquidate, 1)];
    fixture.plan(&steps).await;
    assert_eq!(fixture.raw("UPDATE plans SET decision = '{}'").await.unwrap(), 1);
    let ages = "UPDATE findings SET recorded_at = now() - interval '2 days'";
    assert_eq!(fixture.raw(ages).await.unwrap(), 2);
    assert_eq!(journal.forget(2 * DAY + DAY).await.unwrap(), Forgotten::default(), "young enough");
    let gone = journal.forget(DAY).await.unwrap();
    assert_eq!(gone, Forgotten { findings: 1, ..Forgotten::default() }, "the episode is open, the last finding stands");
    let standing = journal.standing_conditions(deployment).await.unwrap();
    assert_eq!(standing.get(&unit(1)), Some(&Condition::Liquidatable));
    let closed = format!(
        "UPDATE episodes SET closed_block = 9, closed_hash = opened_hash, closed_at = now() - interval '62 days', \
         summary = '{{}}' WHERE id = {}",
        episode.0
    );
    assert_eq!(fixture.raw(&closed).await.unwrap(), 1);
    assert_eq!(journal.forget(DAY).await.unwrap(), Forgotten { decisions: 1, ..Forgotten::default() });
    assert_eq!(journal.forget(DAY).await.unwrap(), Forgotten::default());
    let kept = journal.kept_plans(episode).await.unwrap();
    assert_eq!((kept.len(), kept[0].steps.len(), kept[0].decision.is_none()), (1, 1, true));
}
