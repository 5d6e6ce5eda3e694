use super::*;
use crate::recovery::Effect;

#[tokio::test]
async fn a_segment_has_one_open_episode() {
    let fixture = Fixture::new().await;
    let Fixture { journal, deployment, .. } = &fixture;
    let first = journal.open_episode(*deployment, SEGMENT, &block(5), "nul \0").await.unwrap();
    assert_eq!(journal.open_episode(*deployment, SEGMENT, &block(9), "again").await.unwrap(), first);
    let other = journal.open_episode(*deployment, SegmentId(u32::MAX), &block(6), "there too").await.unwrap();
    let open = journal.open_episodes(*deployment).await.unwrap();
    assert_eq!(open, [(first, SEGMENT, 5), (other, SegmentId(u32::MAX), 6)]);

    let summary = serde_json::json!({ "bankrupt": 1, "why": "nul \0" });
    journal.close_episode(first, &block(20), &summary).await.unwrap();
    assert_conflict(journal.close_episode(first, &block(21), &summary).await);
    assert_conflict(journal.close_episode(EpisodeId(999), &block(21), &summary).await);
    let next = journal.open_episode(*deployment, SEGMENT, &block(30), "once more").await.unwrap();
    assert_ne!(next, first);
    fixture
        .refused_by(
            "episodes_one_open",
            "UPDATE episodes SET closed_at = NULL, closed_block = NULL, closed_hash = NULL, summary = NULL",
        )
        .await;
}

#[tokio::test]
async fn racing_openers_find_the_same_episode() {
    let Fixture { journal, deployment, database: _database } = Fixture::new().await;
    let openers = (0..8).map(|height| {
        let journal = journal.clone();
        tokio::spawn(async move { journal.open_episode(deployment, SEGMENT, &block(height), "race").await.unwrap() })
    });
    let mut opened = Vec::new();
    for opener in openers.collect::<Vec<_>>() {
        opened.push(opener.await.unwrap());
    }
    opened.dedup();
    assert_eq!(opened.len(), 1);
}

#[tokio::test]
async fn what_was_absorbed_comes_from_mined_effects() {
    let fixture = Fixture::new().await;
    let (transaction, attempt, _) = fixture.sent(1, 0).await;
    let journal = &fixture.journal;
    let episode = fixture.episode().await;
    assert!(journal.episode_absorbed(episode).await.unwrap().is_empty());
    let half = U256::MAX >> 1;
    let effects = vec![
        Effect::Liquidated { unit: unit(1), loss: U256::from(70), fee: U256::from(2) },
        Effect::InsuranceDrawn { unit: unit(1), amount: half },
        Effect::InsuranceDrawn { unit: unit(2), amount: half },
        Effect::Deleveraged { unit: unit(1), winner: unit(3), loss: U256::from(9) },
        Effect::LossSocialised { unit: unit(1), payer: unit(4), amount: U256::from(4) },
        Effect::ParameterSet { what: "margin \0".to_owned() },
    ];
    let mined = IncludedReceipt { effects, ..receipt(true) };
    journal.mark_included(transaction, attempt, &mined).await.unwrap();
    let expected = [
        (Tier::Liquidate, U256::from(70)),
        (Tier::InsuranceFund, half + half),
        (Tier::AutoDeleverage, U256::from(9)),
        (Tier::SocialiseLoss, U256::from(4)),
        (Tier::Recalibrate, U256::ZERO),
    ];
    assert_eq!(journal.episode_absorbed(episode).await.unwrap(), expected.into());
    journal.mark_reorged(transaction).await.unwrap();
    assert!(journal.episode_absorbed(episode).await.unwrap().is_empty());
}
