//! What was measured and expected.

use std::time::Duration;

use serde_json::json;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::test]
async fn what_was_measured_is_taken_up_again_and_old_reports_go() {
    let fixture = Fixture::new().await;
    let (journal, deployment) = (&fixture.journal, fixture.deployment);
    assert_eq!(journal.risk_moves::<serde_json::Value>(deployment).await.unwrap(), None);
    for height in [10, 11] {
        let written = (&json!({ "seen_at": height }), &json!({ "block": height }));
        journal.record_risk(deployment, &block(height), written, DAY).await.unwrap();
    }
    assert_eq!(journal.risk_moves(deployment).await.unwrap(), Some(json!({ "seen_at": 11 })));
    let aged = "UPDATE risk_reports SET created_at = now() - interval '2 days' WHERE block_number = 10";
    assert_eq!(fixture.raw(aged).await.unwrap(), 1);
    journal.record_risk(deployment, &block(12), (&json!({}), &json!({})), DAY).await.unwrap();
    assert_eq!(fixture.raw("DELETE FROM risk_reports").await.unwrap(), 2);
}
