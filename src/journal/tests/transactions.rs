use chrono::{TimeDelta, Utc};

use super::*;

use ActionStatus::{Abandoned, Final, Included, Replaced, Reverted, Sent, Signed, Superseded};

#[tokio::test]
async fn a_transaction_is_there_before_it_is_sent() {
    let fixture = Fixture::new().await;
    let ids = fixture
        .plan(&[step(1, Tier::Liquidate, 1), step(1, Tier::InsuranceFund, 2), step(2, Tier::Liquidate, 3)])
        .await;
    let new = fixture.transaction(&ids, 41);
    assert_eq!(fixture.journal.next_nonce(CHAIN, new.signer).await.unwrap(), None);
    let (id, first) = fixture.journal.create_transaction(&new, &attempt(1)).await.unwrap();
    assert_eq!(fixture.journal.next_nonce(CHAIN, new.signer).await.unwrap(), Some(42));
    assert_eq!(fixture.journal.next_nonce(CHAIN + 1, new.signer).await.unwrap(), None);

    let [stored] = <[_; 1]>::try_from(fixture.unsettled().await).unwrap();
    assert_eq!((stored.id, stored.signer, stored.nonce, stored.to), (id, new.signer, 41, new.to));
    assert_eq!((stored.data, stored.value, stored.touches), (new.data, new.value, new.touches));
    assert_eq!((stored.actions, stored.planned_block, stored.included), (ids.clone(), 10, None));
    assert_eq!((stored.status, stored.episode), (TransactionStatus::Signed, fixture.episode().await));
    let expected = attempt(1);
    assert_eq!(
        stored.attempts,
        [StoredAttempt {
            id: first,
            kind: None,
            hash: expected.hash,
            raw: expected.raw,
            gas_limit: expected.gas_limit,
            max_fee_per_gas: u128::MAX,
            max_priority_fee_per_gas: 1,
            signed_block: 10,
            broadcast: None,
        }]
    );
    let row = fixture.action(ids[2]).await;
    assert_eq!((row.status, row.nonce, row.tx_hash, row.tx_block), (Signed, Some(41), Some(expected.hash), None));
}

#[tokio::test]
async fn nothing_is_signed_twice() {
    let fixture = Fixture::new().await;
    let (transaction, _, signed) = fixture.signed(1, 5).await;
    let fresh = fixture
        .plan(&[step(2, Tier::Liquidate, 1), step(3, Tier::Liquidate, 1), step(3, Tier::InsuranceFund, 1)])
        .await;
    let create = async |new: &NewTransaction, first| fixture.journal.create_transaction(new, &first).await;
    let ok = fixture.transaction(&fresh[..1], 6);

    assert_conflict(create(&fixture.transaction(&fresh[..1], 5), attempt(50)).await); // the nonce
    assert_conflict(create(&ok, attempt(5)).await); // the hash
    assert_conflict(create(&fixture.transaction(&[signed], 6), attempt(6)).await); // the action
    assert_conflict(create(&fixture.transaction(&[fresh[0], signed], 6), attempt(6)).await); // one of them
    assert_conflict(create(&fixture.transaction(&fresh[1..2], 6), attempt(6)).await); // half a group
    assert_conflict(create(&fixture.transaction(&[], 6), attempt(6)).await);
    assert_conflict(create(&fixture.transaction(&[ActionId(999)], 6), attempt(6)).await);
    let other = fixture.plan(&[step(4, Tier::Liquidate, 1)]).await;
    assert_conflict(create(&fixture.transaction(&[fresh[0], other[0]], 6), attempt(6)).await); // two plans
    let settings = serde_json::Value::Null;
    let stranger = fixture.journal.register_deployment(&name("other"), CHAIN, "perps", &settings).await.unwrap();
    assert_conflict(create(&NewTransaction { deployment: stranger, ..ok.clone() }, attempt(6)).await);

    assert_eq!(fixture.unsettled().await.len(), 1);
    assert_eq!(fixture.journal.next_nonce(CHAIN, ok.signer).await.unwrap(), Some(6));
    create(&ok, attempt(6)).await.unwrap();

    let copied = "INSERT INTO attempts (transaction_id, kind, hash, raw, gas_limit, max_fee_per_gas, \
                  max_priority_fee_per_gas, signed_block) SELECT transaction_id, ";
    fixture
        .refused_by("attempts_one_per_hash", &format!("{copied} 'replace', hash, raw, 1, 1, 1, 1 FROM attempts"))
        .await;
    let second_first =
        format!("{copied} 'first', sha256(hash), raw, 1, 1, 1, 1 FROM attempts WHERE transaction_id = {transaction}");
    fixture.refused_by("attempts_one_first", &second_first).await;
    fixture.refused_by("transactions_one_per_nonce", "UPDATE transactions SET nonce = 6").await;
}

#[tokio::test]
async fn of_two_that_race_for_a_nonce_one_wins() {
    let fixture = Fixture::new().await;
    let ids = fixture.plan(&(1..=6).map(|of| step(of, Tier::Liquidate, 1)).collect::<Vec<_>>()).await;
    let racers: Vec<_> = ids
        .iter()
        .map(|id| {
            let (journal, new) = (fixture.journal.clone(), fixture.transaction(&[*id], 9));
            let first = attempt(u64::try_from(id.0).unwrap());
            tokio::spawn(async move { journal.create_transaction(&new, &first).await })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(error.class(), ErrorClass::LookAgain, "{error}"),
        }
    }
    assert_eq!(won, 1);
    let signed = ActionFilter { status: Some(Signed), limit: 10, ..Default::default() };
    assert_eq!(fixture.journal.list_actions(&signed).await.unwrap().len(), 1);
}

#[tokio::test]
async fn of_two_that_race_for_an_action_one_wins() {
    let fixture = Fixture::new().await;
    let ids = fixture.plan(&[step(1, Tier::Liquidate, 1)]).await;
    let racers: Vec<_> = (0..6)
        .map(|nonce| {
            let (journal, new) = (fixture.journal.clone(), fixture.transaction(&ids, nonce));
            tokio::spawn(async move { journal.create_transaction(&new, &attempt(nonce)).await })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        won += usize::from(racer.await.unwrap().is_ok());
    }
    assert_eq!(won, 1);
    assert_eq!(fixture.unsettled().await.len(), 1);
}

#[tokio::test]
async fn a_broadcast_that_may_have_left_counts_as_sent() {
    let fixture = Fixture::new().await;
    let outcomes = [
        (BroadcastOutcome::Rejected("underpriced \0".to_owned()), TransactionStatus::Signed, Signed),
        (BroadcastOutcome::Accepted, TransactionStatus::Sent, Sent),
        (BroadcastOutcome::Known, TransactionStatus::Sent, Sent),
        (BroadcastOutcome::Unknown("timeout".to_owned()), TransactionStatus::Sent, Sent),
    ];
    for (nonce, (outcome, transaction_status, action_status)) in (0..).zip(outcomes) {
        let (id, attempt, action) = fixture.signed(nonce as u8, nonce).await;
        fixture.journal.mark_broadcast(attempt, &outcome, 11).await.unwrap();
        let stored = fixture.unsettled().await.into_iter().find(|stored| stored.id == id).unwrap();
        assert_eq!((stored.status, fixture.status(action).await), (transaction_status, action_status), "{outcome:?}");
        let kept = stored.attempts[0].broadcast.clone().unwrap();
        assert_eq!(kept.to_string(), outcome.to_string().replace('\0', ""));
    }
    assert_conflict(fixture.journal.mark_broadcast(AttemptId(999), &BroadcastOutcome::Accepted, 11).await);
}

#[tokio::test]
async fn a_mined_success_becomes_final() {
    let fixture = Fixture::new().await;
    let (id, attempt, action) = fixture.sent(1, 0).await;
    let journal = &fixture.journal;
    assert_conflict(journal.mark_final(id).await);
    assert_conflict(journal.mark_reorged(id).await);
    journal.mark_included(id, attempt, &receipt(true)).await.unwrap();
    assert_conflict(journal.mark_included(id, attempt, &receipt(true)).await);
    assert_conflict(journal.mark_superseded(id, "no").await);
    let [stored] = <[_; 1]>::try_from(fixture.unsettled().await).unwrap();
    assert_eq!((stored.status, stored.included), (TransactionStatus::Included, Some((attempt, block(12)))));
    let row = fixture.action(action).await;
    assert_eq!((row.status, row.tx_block, row.status_block), (Included, Some(12), 12));
    // a broadcast that is answered late changes nothing
    journal.mark_broadcast(attempt, &BroadcastOutcome::Known, 13).await.unwrap();
    assert_eq!(fixture.status(action).await, Included);

    journal.mark_final(id).await.unwrap();
    assert_eq!(fixture.status(action).await, Final);
    assert_eq!(fixture.unsettled().await, []);
    assert_conflict(journal.mark_final(id).await);
    assert_conflict(journal.mark_reorged(id).await);
    assert_conflict(journal.add_attempt(id, &super::attempt(70), AttemptKind::Replace).await);
    assert_eq!(journal.next_nonce(CHAIN, Address::with_last_byte(7)).await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_receipt_is_taken_although_the_broadcast_was_not_written_down() {
    let fixture = Fixture::new().await;
    let (id, attempt, action) = fixture.signed(1, 0).await;
    let (_, foreign, _) = fixture.signed(2, 1).await;
    assert_conflict(fixture.journal.mark_included(id, foreign, &receipt(true)).await);
    assert_eq!(fixture.status(action).await, Signed);
    fixture.journal.mark_included(id, attempt, &receipt(true)).await.unwrap();
    assert_eq!(fixture.status(action).await, Included);
}

#[tokio::test]
async fn a_mined_failure_is_reverted_and_stays_so() {
    let fixture = Fixture::new().await;
    let (id, attempt, action) = fixture.sent(1, 0).await;
    let journal = &fixture.journal;
    let failed = IncludedReceipt { revert_reason: Some("Healthy(\0)".to_owned()), ..receipt(false) };
    journal.mark_included(id, attempt, &failed).await.unwrap();
    let row = fixture.action(action).await;
    assert_eq!((row.status, row.reason.as_deref()), (Reverted, Some("Healthy()")));
    // its unit may be planned for again at once
    let next = fixture.plan(&[step(1, Tier::Liquidate, 1)]).await;

    journal.mark_reorged(id).await.unwrap();
    assert_eq!(fixture.status(action).await, Reverted);
    assert_eq!(fixture.unsettled().await[0].status, TransactionStatus::Sent);
    journal.mark_included(id, attempt, &failed).await.unwrap();
    journal.mark_final(id).await.unwrap();
    assert_eq!(fixture.status(action).await, Reverted);
    assert_eq!(fixture.status(next[0]).await, ActionStatus::Planned);
}

#[tokio::test]
async fn a_reorganisation_takes_an_inclusion_back() {
    let fixture = Fixture::new().await;
    let (id, first, action) = fixture.sent(1, 0).await;
    let journal = &fixture.journal;
    journal.mark_included(id, first, &receipt(true)).await.unwrap();
    journal.mark_reorged(id).await.unwrap();
    let [stored] = <[_; 1]>::try_from(fixture.unsettled().await).unwrap();
    assert_eq!((stored.status, stored.included), (TransactionStatus::Sent, None));
    assert_eq!(fixture.status(action).await, Sent);

    let second = journal.add_attempt(id, &attempt(70), AttemptKind::Replace).await.unwrap();
    journal.mark_broadcast(second, &BroadcastOutcome::Accepted, 13).await.unwrap();
    journal.mark_included(id, second, &receipt(true)).await.unwrap();
    let [stored] = <[_; 1]>::try_from(fixture.unsettled().await).unwrap();
    assert_eq!(stored.included, Some((second, block(12))));
    assert_eq!(
        stored.attempts.iter().map(|attempt| attempt.kind).collect::<Vec<_>>(),
        [None, Some(AttemptKind::Replace)]
    );
    assert_eq!(fixture.action(action).await.tx_hash, Some(attempt(70).hash));
    let both = "UPDATE attempts SET (included_block, included_hash, included_parent_hash, included_timestamp, included_at, \
                success, gas_used, effective_gas_price) = (1, hash, hash, 1, now(), true, 1, 1)";
    fixture.refused_by("attempts_one_included", both).await;
}

#[tokio::test]
async fn a_cancel_leaves_both_ends_open_until_one_is_mined() {
    let fixture = Fixture::new().await;
    let journal = &fixture.journal;
    let (cancelled, _, lost) = fixture.sent(1, 0).await;
    let cancel = journal.add_attempt(cancelled, &attempt(70), AttemptKind::Cancel).await.unwrap();
    assert_eq!(fixture.status(lost).await, Replaced);
    assert_conflict(fixture.try_plan(&[step(1, Tier::Liquidate, 1)], false).await);
    journal.mark_broadcast(cancel, &BroadcastOutcome::Accepted, 12).await.unwrap();
    journal.mark_included(cancelled, cancel, &receipt(true)).await.unwrap();
    assert_eq!(fixture.status(lost).await, Replaced);
    journal.mark_final(cancelled).await.unwrap();
    let row = fixture.action(lost).await;
    assert_eq!((row.status, row.reason.as_deref()), (Abandoned, Some("cancelled on chain")));

    let (survivor, first, kept) = fixture.sent(2, 1).await;
    journal.add_attempt(survivor, &attempt(71), AttemptKind::Cancel).await.unwrap();
    journal.mark_included(survivor, first, &receipt(true)).await.unwrap();
    assert_eq!(fixture.status(kept).await, Included);
}

#[tokio::test]
async fn a_nonce_that_somebody_else_used_ends_it() {
    let fixture = Fixture::new().await;
    let (id, attempt, action) = fixture.sent(1, 0).await;
    fixture.journal.mark_superseded(id, "nonce used by 0x\0").await.unwrap();
    let row = fixture.action(action).await;
    assert_eq!((row.status, row.reason.as_deref()), (Superseded, Some("nonce used by 0x")));
    assert_eq!(fixture.unsettled().await, []);
    assert_conflict(fixture.journal.mark_included(id, attempt, &receipt(true)).await);
    assert_conflict(fixture.journal.mark_superseded(TransactionId(999), "none").await);
    fixture.plan(&[step(1, Tier::Liquidate, 1)]).await;
}

#[tokio::test]
async fn what_was_spent_is_summed_over_mined_attempts() {
    let fixture = Fixture::new().await;
    let journal = &fixture.journal;
    let signer = Address::with_last_byte(7);
    let spent = async |since| journal.spent_wei_since(CHAIN, signer, since).await.unwrap();
    let long_ago = Utc::now() - TimeDelta::hours(1);
    assert_eq!(spent(long_ago).await, U256::ZERO);
    let (paid, attempt, _) = fixture.sent(1, 0).await;
    journal.mark_included(paid, attempt, &receipt(true)).await.unwrap();
    let (failed, attempt, _) = fixture.sent(2, 1).await;
    journal.mark_included(failed, attempt, &receipt(false)).await.unwrap();
    let gas = U256::from(21_000 * 10);
    assert_eq!(spent(long_ago).await, gas + gas + U256::from(5));
    assert_eq!(spent(Utc::now() + TimeDelta::hours(1)).await, U256::ZERO);
    assert_eq!(journal.spent_wei_since(CHAIN + 1, signer, long_ago).await.unwrap(), U256::ZERO);
    journal.mark_reorged(failed).await.unwrap();
    assert_eq!(spent(long_ago).await, gas + U256::from(5));
}

#[tokio::test]
async fn a_units_story_has_every_attempt() {
    let fixture = Fixture::new().await;
    let (id, first, action) = fixture.sent(1, 0).await;
    let second = fixture.journal.add_attempt(id, &attempt(70), AttemptKind::Replace).await.unwrap();
    fixture.journal.mark_broadcast(second, &BroadcastOutcome::Unknown("timeout".to_owned()), 12).await.unwrap();
    fixture.journal.mark_included(id, first, &receipt(false)).await.unwrap();
    fixture.sent(2, 1).await;
    let story = fixture.journal.unit_history(fixture.deployment, &unit(1), 10).await.unwrap();
    assert_eq!(story.actions.len(), 1);
    assert_eq!(story.actions[0].action.id, action);
    let [one, two] = <[_; 2]>::try_from(story.actions[0].attempts.clone()).unwrap();
    assert_eq!((one.kind.as_str(), one.hash, one.success), ("first", attempt(0).hash, Some(false)));
    assert_eq!((one.included_block, one.gas_used), (Some(12), Some(21_000)));
    assert_eq!((two.kind.as_str(), two.broadcast.as_deref()), ("replace", Some("unknown: timeout")));
    assert_eq!((two.included_block, two.success), (None, None));
}
