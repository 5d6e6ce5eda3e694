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

#[tokio::test]
async fn an_episode_tells_who_bore_what_for_whom_and_what_was_refused() {
    let fixture = Fixture::new().await;
    let (transaction, attempt, _) = fixture.sent(1, 0).await;
    let journal = &fixture.journal;
    let episode = fixture.episode().await;
    assert!(journal.episode_account(EpisodeId(999)).await.unwrap().is_none());
    let reasons = ["nothing can be sent: the price is 70 s old \0".to_owned()];
    journal.record_refusal(episode, &block(11), U256::from(900), &reasons).await.unwrap();
    let effects = vec![
        Effect::Liquidated { unit: unit(1), loss: U256::from(70), fee: U256::from(2) },
        Effect::InsuranceDrawn { unit: unit(1), amount: U256::from(5) },
        Effect::Deleveraged { unit: unit(1), winner: unit(3), loss: U256::MAX >> 2 },
        Effect::LossSocialised { unit: unit(1), payer: unit(4), amount: U256::from(4) },
        Effect::Restituted { unit: unit(3), amount: U256::from(6) },
        Effect::ParameterSet { what: "margin".to_owned() },
    ];
    journal.mark_included(transaction, attempt, &IncludedReceipt { effects, ..receipt(true) }).await.unwrap();

    let account = journal.episode_account(episode).await.unwrap().unwrap();
    assert_eq!(
        (account.episode.plans, account.episode.residual, account.episode.closed_block),
        (1, U256::from(3), None)
    );
    let told: Vec<_> =
        account.burdens.iter().map(|b| (b.bearer.clone(), b.debtor.clone(), b.amount, b.block)).collect();
    let expected = [
        (Some(unit(1)), Some(unit(1)), U256::from(70), 12),
        (None, Some(unit(1)), U256::from(5), 12),
        (Some(unit(3)), Some(unit(1)), U256::MAX >> 2, 12),
        (Some(unit(4)), Some(unit(1)), U256::from(4), 12),
        (Some(unit(3)), None, U256::from(6), 12),
    ];
    assert_eq!(told, expected);
    assert_eq!(account.burdens[1].why, "so", "the plan's own words for that tier");
    let decided: Vec<_> = account.progress.iter().map(|p| (p.plan.is_some(), p.block, p.residual)).collect();
    assert_eq!(decided, [(true, 10, U256::from(3)), (false, 11, U256::from(900))]);
    assert!(account.progress[1].notes[0].contains("70 s old"));
    assert_eq!(account.by_tier()[&Tier::Restitute], U256::from(6));

    let of_winner = journal.unit_burdens(fixture.deployment, &unit(3), 9).await.unwrap();
    assert_eq!(of_winner.iter().map(|b| b.tier).collect::<Vec<_>>(), [Tier::Restitute, Tier::AutoDeleverage]);
    assert_eq!(journal.unit_burdens(fixture.deployment, &unit(1), 9).await.unwrap().len(), 4);
    let summary = journal.episode_summary(episode).await.unwrap();
    assert_eq!((&summary["bearers"], &summary["absorbed"]["insurance_fund"]), (&3.into(), &"5".into()));
    let listed = journal.list_episodes(Some(&name("venue")), true, 5).await.unwrap();
    assert_eq!(listed, [account.episode]);
    assert!(journal.list_episodes(Some(&name("other")), false, 5).await.unwrap().is_empty());
}
