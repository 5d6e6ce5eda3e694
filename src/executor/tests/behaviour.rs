//! What the executor does and refuses to do, one rule a test.

use super::{
    super::{SettledOutcome, fees, gate::GateRefusal},
    chain::CALL_GAS,
    *,
};

fn outcomes(settled: &[Settled]) -> Vec<&SettledOutcome> {
    settled.iter().map(|settled| &settled.outcome).collect()
}

#[tokio::test]
async fn a_plan_goes_out_in_order_and_to_finality() {
    let stage = Stage::new(&[500, 70, 9]);
    let mut executor = stage.executor();
    let (_, executed) = stage.turn(&mut executor).await.unwrap();
    assert_eq!(executed.sent.iter().map(|sent| sent.nonce).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(stage.statuses(1), [ActionStatus::Sent]);
    assert_eq!(executor.reservations(&stage.head()).units, [1, 2, 3].map(unit).into());
    assert_eq!(executor.reservations(&stage.head()).fund[&SegmentId(1)], U256::from(579));

    let (settled, executed) = stage.turn(&mut executor).await.unwrap();
    assert_eq!(executed, Executed::default());
    assert_eq!(settled.len(), 3);
    assert!(outcomes(&settled).iter().all(|outcome| matches!(outcome, SettledOutcome::Included { .. })));
    assert_eq!(stage.statuses(1), [ActionStatus::Included]);
    assert_eq!(executor.reservations(&stage.head()), Reservations::default(), "what is mined is in the books already");
    let behind = BlockRef { number: stage.head().number - 2, ..stage.head() };
    assert_eq!(executor.reservations(&behind).fund[&SegmentId(1)], U256::from(579), "but not in an older snapshot");

    stage.turns(&mut executor, 1).await;
    assert_eq!(stage.statuses(1), [ActionStatus::Included], "not final before its depth");
    stage.turns(&mut executor, 1).await;
    assert_eq!(stage.statuses(1), [ActionStatus::Final]);
    assert_eq!(stage.unsettled().await, 0);
    assert_eq!((stage.sends(), stage.signatures()), (3, 3));
    assert_eq!(stage.metric(r#"backstop_executor_transactions_total{deployment="venue",outcome="final"}"#), "3");
    assert_eq!(stage.metric(r#"backstop_executor_gas_used_total{deployment="venue"}"#), "150000");
}

#[tokio::test]
async fn where_proceeds_go_changes_nothing_that_is_decided() {
    let (mut seen, mut hashes) = (Vec::new(), Vec::new());
    for proceeds in [None, Some(Address::repeat_byte(0x11))] {
        let mut stage = Stage::new(&[500, 70, 9]);
        stage.chain(|chain| chain.venue.poisoned.insert(unit(2)));
        stage.settings.proceeds = proceeds;
        let mut executor = stage.executor();
        let (_, executed) = stage.turn(&mut executor).await.unwrap();
        stage.turns(&mut executor, 4).await;
        let nonces: Vec<u64> = executed.sent.iter().map(|sent| sent.nonce).collect();
        hashes.push(executed.sent.iter().map(|sent| sent.hash).collect::<Vec<_>>());
        seen.push((nonces, executed.refused, [1, 2, 3].map(|number| stage.statuses(number)), stage.sends()));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].0, [0, 1]);
    assert!(hashes[0].iter().zip(&hashes[1]).all(|(own, other)| own != other), "the calls do name who gets them");
}

#[tokio::test]
async fn a_dry_run_simulates_and_neither_signs_nor_sends() {
    let mut stage = Stage::new(&[500, 70]);
    stage.gate.dry_run = true;
    stage.chain(|chain| chain.venue.poisoned.insert(unit(2)));
    let mut executor = stage.executor();
    stage.turns(&mut executor, 4).await;
    assert_eq!((stage.sends(), stage.signatures()), (0, 0));
    assert_eq!(stage.statuses(1), [ActionStatus::Abandoned], "equal plans are written down once");
    assert_eq!(stage.reasons(1), ["dry run: simulation succeeds, gas limit 95000"]);
    assert_eq!((stage.statuses(2), stage.reasons(2)), (vec![ActionStatus::Rejected], vec!["poisoned".to_owned()]));
}

#[tokio::test]
async fn what_an_earlier_live_run_left_is_not_sent_again_in_a_dry_run() {
    let mut stage = Stage::new(&[500]);
    stage.chain(|chain| chain.mining_held = true);
    stage.turns(&mut stage.executor(), 1).await;
    stage.chain(|chain| chain.pool.clear());
    stage.gate.dry_run = true;
    let mut executor = stage.executor();
    stage.turns(&mut executor, 5).await;
    assert_eq!((stage.sends(), stage.signatures()), (1, 1));
}

#[tokio::test]
async fn without_the_lease_nothing_is_signed_and_nothing_leaves() {
    let stage = Stage::new(&[500]);
    let mut executor = stage.executor();
    stage.tenure.end();
    stage.turns(&mut executor, 2).await;
    assert_eq!((stage.sends(), stage.signatures()), (0, 0));
    assert_eq!(stage.metric(r#"backstop_executor_gate_refusals_total{deployment="venue",reason="lease_lost"}"#), "2");
}

#[tokio::test]
async fn a_pause_stops_signatures_and_broadcasts_by_switch_and_by_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pause");
    let mut stage = Stage::new(&[500]);
    stage.gate.pause_file = Some(file.clone());
    let mut executor = stage.executor();
    std::fs::write(&file, "").unwrap();
    stage.turns(&mut executor, 1).await;
    std::fs::remove_file(&file).unwrap();
    stage.switch.pause("lock lost");
    stage.turns(&mut executor, 1).await;
    assert_eq!((stage.sends(), stage.signatures()), (0, 0));
    assert_eq!(stage.reasons(1)[1], "held back: paused: lock lost");
    assert_eq!(stage.metric(r#"backstop_executor_gate_refusals_total{deployment="venue",reason="paused"}"#), "2");
    stage.switch.resume();
    stage.turns(&mut executor, 1).await;
    assert_eq!((stage.sends(), stage.debt(1)), (1, U256::ZERO));
}

#[tokio::test]
async fn a_call_that_is_not_on_the_list_is_never_signed() {
    let mut stage = Stage::new(&[500]);
    stage.gate.allowed_calls.clear();
    let (_, executed) = stage.turn(&mut stage.executor()).await.unwrap();
    assert_eq!(executed.refused[0].refusal.disposition, crate::protocols::Disposition::Bug);
    assert_eq!((stage.signatures(), stage.statuses(1)), (0, vec![ActionStatus::Rejected]));
    assert_eq!(stage.raised(AlertKind::ActionRejectedAsBug), 1);
}

#[tokio::test]
async fn a_poisoned_unit_does_not_hold_the_others() {
    let stage = Stage::new(&[500, 70, 9, 8]);
    stage.chain(|chain| {
        chain.venue.poisoned.insert(unit(1));
        chain.venue.skimmed.insert(unit(3));
    });
    let (_, executed) = stage.turn(&mut stage.executor()).await.unwrap();
    assert_eq!((executed.sent.len(), executed.refused.len()), (2, 2));
    assert_eq!((stage.debt(2), stage.debt(4)), (U256::ZERO, U256::ZERO));
    assert_eq!(stage.reasons(3), ["InsuranceFund: simulation absorbs 8, plan says 9"]);
    assert_eq!(stage.chain(|chain| chain.outcomes().get(&false).copied()), None);
}

#[tokio::test]
async fn what_rests_on_a_refused_transaction_is_refused_with_it() {
    let stage = Stage::new(&[500, 70, 9]);
    stage.chain(|chain| {
        chain.venue.poisoned.insert(unit(1));
        chain.venue.after.insert(unit(2), unit(1));
    });
    let (_, executed) = stage.turn(&mut stage.executor()).await.unwrap();
    assert_eq!((executed.sent.len(), executed.refused.len()), (1, 2));
    assert_eq!(stage.reasons(2), ["out of order"]);
    assert_eq!(stage.chain(|chain| chain.outcomes().get(&false).copied()), None);
}

#[tokio::test]
async fn a_block_takes_the_first_of_a_plan_and_the_next_block_the_rest() {
    let mut stage = Stage::new(&[5, 6, 7, 8]);
    stage.settings.actions_per_block_max = 2;
    let mut executor = stage.executor();
    stage.chain(|chain| chain.venue.poisoned.insert(unit(1)));
    let (_, executed) = stage.turn(&mut executor).await.unwrap();
    assert_eq!((executed.sent.len(), executed.refused.len(), executed.held_back.len()), (2, 1, 1));
    assert_eq!((stage.debt(2), stage.debt(3)), (U256::ZERO, U256::ZERO));
    assert_eq!(stage.reasons(4), ["held back: left for the next block"]);
    stage.turns(&mut executor, 1).await;
    assert_eq!(stage.debt(4), U256::ZERO);
}

#[tokio::test]
async fn the_gate_counts_new_transactions_per_block_and_wei_per_hour() {
    let mut stage = Stage::new(&[5, 6, 7]);
    stage.gate.transactions_per_block_max = 1;
    let (_, executed) = stage.turn(&mut stage.executor()).await.unwrap();
    assert_eq!((executed.sent.len(), executed.held_back.len()), (1, 2));

    let mut stage = Stage::new(&[5, 6, 7]);
    // 95,000 gas at 2,010 wei: two fit
    stage.gate.spend_per_hour_max_wei = U256::from(2 * 95_000 * 2_010);
    let (_, executed) = stage.turn(&mut stage.executor()).await.unwrap();
    assert_eq!((executed.sent.len(), executed.held_back.len(), stage.signatures()), (2, 1, 2));
    assert_eq!(stage.raised(AlertKind::SpendLimitReached), 1);
}

#[tokio::test]
async fn an_unanswered_broadcast_is_looked_for_and_not_signed_again() {
    let stage = Stage::new(&[500]);
    stage.chain(|chain| chain.mute_sends = 1);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 6).await;
    assert_eq!((stage.sends(), stage.signatures()), (1, 1));
    assert_eq!((stage.debt(1), stage.statuses(1)), (U256::ZERO, vec![ActionStatus::Final]));
}

#[tokio::test]
async fn what_does_not_fit_a_block_waits_for_the_next() {
    let mut stage = Stage::new(&[500, 70, 9]);
    // every call of the double costs the same
    stage.settings.block_gas_max = 1;
    let mut executor = stage.executor();
    for debts_left in [2, 1, 0] {
        let (_, executed) = stage.turn(&mut executor).await.unwrap();
        assert_eq!((executed.sent.len(), executed.held_back.len()), (1, debts_left));
    }
    stage.turns(&mut executor, 3).await;
    assert_eq!([1, 2, 3].map(|id| stage.debt(id)), [U256::ZERO; 3]);
}

#[tokio::test]
async fn a_block_is_filled_by_what_transactions_use_and_not_by_their_limits() {
    let mut stage = Stage::new(&[500, 70, 9]);
    let limit = fees::gas_limit(CALL_GAS, u64::MAX).unwrap();
    for (gas_max, fitting) in [(2 * limit - 1, 2), (CALL_GAS + limit, 2), (CALL_GAS + limit - 1, 1)] {
        stage.settings.block_gas_max = gas_max;
        let (_, executed) = stage.turn(&mut stage.executor()).await.unwrap();
        assert_eq!(executed.sent.len(), fitting, "{gas_max}");
        stage = Stage::new(&[500, 70, 9]);
    }
}

/// A stage whose relay has been shown nothing yet.
fn with_relay() -> Stage {
    let mut stage = Stage::new(&[500]);
    stage.settings.relay_alone_blocks = 2;
    stage.chain(|chain| chain.relay = Some(Ok(Vec::new())));
    stage
}

fn shown_to_builders(stage: &Stage) -> usize {
    stage.chain(|chain| chain.relay.as_ref().and_then(|relay| relay.as_ref().ok()).map_or(0, Vec::len))
}

#[tokio::test]
async fn builders_alone_are_shown_it_and_mine_it() {
    let stage = with_relay();
    stage.chain(|chain| chain.builders_mine = true);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 4).await;
    assert_eq!((stage.sends(), stage.signatures(), stage.debt(1)), (0, 1, U256::ZERO));
    assert_eq!(stage.statuses(1), [ActionStatus::Final]);
}

#[tokio::test]
async fn what_no_builder_mines_is_shown_to_everybody_in_time() {
    let stage = with_relay();
    let mut executor = stage.executor();
    stage.turns(&mut executor, 1).await;
    assert_eq!((shown_to_builders(&stage), stage.sends()), (1, 0));
    stage.turns(&mut executor, 1).await;
    assert_eq!((shown_to_builders(&stage), stage.sends()), (1, 0), "the relay has it already, and still nobody else");
    stage.turns(&mut executor, 1).await;
    assert_eq!(
        (stage.sends(), stage.signatures(), stage.debt(1)),
        (1, 2, U256::ZERO),
        "a dearer attempt, to everybody"
    );
    // a builder that has kept the first attempt cannot mine it any more
    stage.chain(|chain| chain.builders_mine = true);
    stage.turns(&mut executor, 3).await;
    assert_eq!(stage.statuses(1), [ActionStatus::Final]);
    assert_eq!(stage.chain(|chain| chain.outcomes()), [(true, 1)].into());
}

#[tokio::test]
async fn what_the_relay_does_not_take_goes_to_everybody_at_once() {
    let stage = with_relay();
    stage.chain(|chain| chain.relay = Some(Err(())));
    let mut executor = stage.executor();
    stage.turns(&mut executor, 1).await;
    assert_eq!((stage.sends(), stage.signatures(), stage.debt(1)), (1, 1, U256::ZERO));
}

#[tokio::test]
async fn a_dark_chain_is_no_reason_to_replace_or_give_up() {
    let stage = Stage::new(&[500]);
    stage.chain(|chain| chain.mining_held = true);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 1).await;
    stage.chain(|chain| chain.dark = true);
    for _ in 0..20 {
        assert!(stage.turn(&mut executor).await.is_err());
        assert_eq!(executor.reservations(&stage.head()).units, [unit(1)].into());
    }
    assert_eq!((stage.signatures(), stage.statuses(1)), (1, vec![ActionStatus::Sent]));
}

#[tokio::test]
async fn a_transaction_that_is_not_mined_is_replaced_at_the_same_nonce() {
    let stage = Stage::new(&[500]);
    stage.chain(|chain| chain.mining_held = true);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 3).await;
    assert_eq!((stage.sends(), stage.signatures()), (2, 2));
    let (nonces, fees) = stage.journal(|journal| {
        let fees: Vec<u128> = journal.transactions[0].attempts.iter().map(|a| a.max_fee_per_gas).collect();
        (journal.transactions.len(), fees)
    });
    assert_eq!((nonces, fees), (1, vec![2_010, 2_262]));
    stage.chain(|chain| chain.mining_held = false);
    stage.turns(&mut executor, 4).await;
    assert_eq!(stage.chain(|chain| chain.outcomes()), BTreeMap::from([(true, 1)]));
    assert_eq!(stage.statuses(1), [ActionStatus::Final]);
}

#[tokio::test]
async fn what_a_rising_base_fee_prices_out_is_made_dearer_together() {
    let stage = Stage::new(&[5, 6, 7]);
    stage.chain(|chain| chain.mining_held = true);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 1).await;
    assert_eq!(stage.signatures(), 3);
    // Nobody's 2,010 wei are enough any more.
    stage.chain(|chain| (chain.base_fee, chain.mining_held) = (4_000, false));
    stage.turns(&mut executor, 2).await;
    assert_eq!(stage.signatures(), 6, "not one after the other");
    assert_eq!([1, 2, 3].map(|of| stage.debt(of)), [U256::ZERO; 3]);
    assert_eq!(stage.chain(|chain| chain.outcomes()), BTreeMap::from([(true, 3)]));
}

#[tokio::test]
async fn the_fee_cap_holds_and_is_told() {
    let mut stage = Stage::new(&[500]);
    stage.settings.fees.fee_cap_wei = 2_100;
    stage.chain(|chain| chain.mining_held = true);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 1).await;
    stage.chain(|chain| chain.base_fee = 2_050);
    stage.turns(&mut executor, 4).await;
    assert_eq!(stage.signatures(), 1, "a rise of an eighth is above the cap");
    assert!(stage.raised(AlertKind::FeeCapReached) > 0);
    assert!(stage.sends() > 1, "the bytes there are were offered again");
    stage.chain(|chain| (chain.base_fee, chain.mining_held) = (900, false));
    stage.turns(&mut executor, 4).await;
    assert_eq!((stage.debt(1), stage.signatures()), (U256::ZERO, 1));

    let stage = Stage::new(&[500]);
    stage.chain(|chain| chain.base_fee = 100_001);
    let (_, executed) = stage.turn(&mut stage.executor()).await.unwrap();
    assert_eq!((executed.held_back.len(), stage.signatures()), (1, 0));
    assert_eq!(stage.raised(AlertKind::FeeCapReached), 1);
}

#[tokio::test]
async fn what_somebody_else_did_meanwhile_is_cancelled_instead_of_replaced() {
    let stage = Stage::new(&[500, 70]);
    stage.chain(|chain| chain.mining_held = true);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 2).await;
    stage.chain(|chain| {
        chain.venue.debts.insert(unit(1), U256::ZERO);
        chain.genesis.debts.insert(unit(1), U256::ZERO);
    });
    stage.turns(&mut executor, 1).await;
    stage.chain(|chain| chain.mining_held = false);
    stage.turns(&mut executor, 4).await;
    assert_eq!(stage.statuses(1), [ActionStatus::Abandoned]);
    assert_eq!(stage.statuses(2), [ActionStatus::Final], "the lane is free again");
    assert_eq!(stage.chain(|chain| chain.outcomes()), BTreeMap::from([(true, 2)]));
}

#[tokio::test]
async fn after_its_patience_a_nonce_is_freed() {
    let stage = Stage::new(&[500]);
    stage.chain(|chain| chain.mining_held = true);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 12).await;
    assert_eq!(stage.statuses(1), [ActionStatus::Replaced]);
    assert!(stage.raised(AlertKind::TransactionStuck) > 0);
    stage.chain(|chain| chain.mining_held = false);
    stage.turns(&mut executor, 8).await;
    assert_eq!(stage.debt(1), U256::ZERO, "planned anew once the cancellation is final");
    assert_eq!(stage.statuses(1)[0], ActionStatus::Abandoned);
}

#[tokio::test]
async fn bytes_the_pool_forgot_are_sent_again_unchanged() {
    let stage = Stage::new(&[500]);
    stage.chain(|chain| chain.mining_held = true);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 1).await;
    stage.chain(|chain| (chain.pool.clear(), chain.mining_held = false));
    stage.turns(&mut executor, 4).await;
    let sends = stage.chain(|chain| chain.sends.clone());
    assert_eq!((sends.len(), sends[0], stage.signatures()), (2, sends[1], 1));
    assert_eq!(stage.statuses(1), [ActionStatus::Final]);
}

#[tokio::test]
async fn a_reorganisation_takes_the_inclusion_back_and_the_same_bytes_go_again() {
    let stage = Stage::new(&[500]);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 2).await;
    assert_eq!(stage.statuses(1), [ActionStatus::Included]);
    stage.chain(|chain| chain.reorganise(2));
    assert_eq!(stage.debt(1), U256::from(500));
    let (settled, executed) = stage.turn(&mut executor).await.unwrap();
    assert_eq!((outcomes(&settled), executed), (vec![&SettledOutcome::Reorged], Executed::default()));
    stage.turns(&mut executor, 3).await;
    assert_eq!((stage.debt(1), stage.statuses(1)), (U256::ZERO, vec![ActionStatus::Final]));
    assert_eq!((stage.signatures(), stage.chain(|chain| chain.outcomes())), (1, BTreeMap::from([(true, 1)])));
}

#[tokio::test]
async fn a_reorganisation_beyond_finality_is_told_since_it_blocks_the_lane() {
    let stage = Stage::new(&[500]);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 5).await;
    assert_eq!((stage.statuses(1), stage.raised(AlertKind::TransactionStuck)), (vec![ActionStatus::Final], 0));
    stage.chain(|chain| chain.reorganise(5));
    assert_eq!(stage.debt(1), U256::from(500));
    stage.turns(&mut executor, 2).await;
    assert_eq!(stage.debt(1), U256::from(500), "what is sent anew waits for the nonce below");
    assert!(stage.raised(AlertKind::TransactionStuck) > 0);
}

#[tokio::test]
async fn a_nonce_somebody_else_used_is_given_up_late_and_told() {
    let stage = Stage::new(&[500]);
    stage.chain(|chain| chain.mining_held = true);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 1).await;
    stage.chain(|chain| {
        chain.foreign(stage.keeper());
        chain.mining_held = false;
        chain.mine();
    });
    stage.turns(&mut executor, 2).await;
    assert_eq!(stage.statuses(1), [ActionStatus::Sent], "one look is not enough");
    stage.turns(&mut executor, 2).await;
    assert_eq!(stage.statuses(1)[0], ActionStatus::Superseded);
    assert_eq!(stage.raised(AlertKind::ForeignNonce), 1);
    stage.turns(&mut executor, 2).await;
    assert_eq!(stage.debt(1), U256::ZERO, "planned anew, at the next nonce");
    assert_eq!(stage.journal(|journal| journal.transactions[1].nonce), 1);
}

#[tokio::test]
async fn a_foreign_send_before_ours_moves_the_nonce_and_is_told() {
    let stage = Stage::new(&[500]);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 5).await;
    stage.chain(|chain| {
        chain.foreign(stage.keeper());
        chain.mine();
        chain.venue.debts.insert(unit(1), U256::from(3));
    });
    let (_, executed) = stage.turn(&mut executor).await.unwrap();
    assert_eq!(executed.sent[0].nonce, 2);
    assert_eq!(stage.raised(AlertKind::ForeignNonce), 1);
}

#[tokio::test]
async fn a_mined_revert_is_no_success_and_is_told() {
    let stage = Stage::new(&[500]);
    let mut executor = stage.executor();
    stage.pass(&mut executor).await.unwrap();
    stage.chain(|chain| chain.venue.debts.insert(unit(1), U256::ZERO));
    stage.chain(ChainState::mine);
    let (settled, _) = stage.turn(&mut executor).await.unwrap();
    assert!(matches!(outcomes(&settled)[..], [SettledOutcome::Reverted { .. }]));
    assert_eq!(stage.statuses(1), [ActionStatus::Reverted]);
    assert_eq!(stage.journal(|journal| journal.receipts.values().map(|r| r.effects.len()).sum::<usize>()), 0);
    stage.turns(&mut executor, 3).await;
    assert_eq!((stage.unsettled().await, stage.statuses(1)), (0, vec![ActionStatus::Reverted]));
    assert_eq!(stage.raised(AlertKind::ActionReverted), 1);
}

#[tokio::test]
async fn without_money_the_bytes_stay_and_somebody_is_told() {
    let stage = Stage::new(&[500, 70]);
    stage.chain(|chain| chain.balance = U256::from(999));
    let mut executor = stage.executor();
    let (_, executed) = stage.turn(&mut executor).await.unwrap();
    assert_eq!(
        (executed.sent.len(), executed.held_back.len()),
        (2, 0),
        "both were written down before the first was sent"
    );
    assert!(stage.raised(AlertKind::BalanceLow) > 0);
    assert_eq!((stage.statuses(1), stage.statuses(2)), (vec![ActionStatus::Signed], vec![ActionStatus::Signed]));
    stage.chain(|chain| chain.balance = U256::from(10).pow(U256::from(18)));
    stage.turns(&mut executor, 6).await;
    assert_eq!((stage.debt(1), stage.debt(2)), (U256::ZERO, U256::ZERO));
    let resolved = stage.alerts.resolved.lock().unwrap();
    assert!(resolved.iter().any(|key| key.kind() == AlertKind::BalanceLow));
}

#[tokio::test]
async fn a_node_that_is_behind_takes_no_inclusion_back() {
    let stage = Stage::new(&[500]);
    let mut executor = stage.executor();
    stage.turns(&mut executor, 2).await;
    let newest = stage.chain(|chain| chain.blocks.split_off(1));
    let settled = executor.settle(&stage.head()).await.unwrap();
    assert_eq!((settled, stage.statuses(1)), (Vec::new(), vec![ActionStatus::Included]));
    stage.chain(|chain| chain.blocks.extend(newest));
    stage.turns(&mut executor, 2).await;
    assert_eq!(stage.statuses(1), [ActionStatus::Final]);
}

#[tokio::test]
async fn cancellations_go_to_ourselves_with_nothing_or_not_at_all() {
    use super::super::{fees::Fees, gate::Request};
    use crate::{journal::AttemptKind, types::Call};

    let stage = Stage::new(&[]);
    let mut executor = stage.executor();
    let fees = Fees { max_fee_per_gas: 1, max_priority_fee_per_gas: 1 };
    let cancel =
        |call: Call| Request { nonce: 0, call, gas_limit: 21_000, fees, block: 1, again: Some(AttemptKind::Cancel) };
    let own = Call::new(stage.keeper(), Vec::new());
    let elsewhere = Call::new(Address::with_last_byte(7), Vec::new());
    let paying = Call { value: U256::from(1), ..own.clone() };
    let calling = Call::new(stage.keeper(), vec![1, 2, 3, 4]);
    for call in [elsewhere, paying, calling] {
        let refused = executor.parts.gate.sign(cancel(call), U256::ZERO).await.unwrap_err();
        assert!(matches!(refused, super::super::GateError::Refused(GateRefusal::NotAllowed { .. })));
    }
    assert_eq!(stage.signatures(), 0);
    executor.parts.gate.sign(cancel(own), U256::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_batch_is_one_transaction_and_is_taken_apart_around_a_poisoned_unit() {
    let stage = Stage::new(&[500, 70, 9]);
    let mut executor = stage.executor();
    let plan = stage.offered_plan();
    let executed = executor.execute(&stage.head(), "distress", &plan).await.unwrap();
    assert_eq!(executed.sent.iter().map(|sent| sent.actions.len()).collect::<Vec<_>>(), [3]);
    stage.chain(ChainState::mine);
    assert!([1, 2, 3].iter().all(|id| stage.debt(*id).is_zero()));

    let stage = Stage::new(&[500, 70, 9]);
    stage.chain(|chain| chain.venue.poisoned.insert(unit(2)));
    let mut executor = stage.executor();
    let plan = stage.offered_plan();
    let executed = executor.execute(&stage.head(), "distress", &plan).await.unwrap();
    assert_eq!(executed.sent.iter().map(|sent| sent.actions.len()).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(stage.reasons(2), ["poisoned"]);
    stage.chain(ChainState::mine);
    assert_eq!([1, 2, 3].map(|id| stage.debt(id).is_zero()), [true, false, true]);
}

#[tokio::test]
async fn what_does_not_fit_one_write_ahead_is_held_back_when_the_lane_is_held() {
    let debts: Vec<u64> = (1..=40).map(|id| 100 + id).collect();
    let mut stage = Stage::new(&debts);
    stage.settings.actions_per_block_max = 40;
    stage.settings.block_gas_max = u64::MAX;
    stage.gate.transactions_per_block_max = 40;
    stage.chain(|chain| chain.balance = U256::ZERO);
    let mut executor = stage.executor();
    let (_, executed) = stage.turn(&mut executor).await.unwrap();
    assert_eq!((executed.sent.len(), executed.held_back.len()), (32, 8));
    stage.chain(|chain| chain.balance = U256::from(10).pow(U256::from(18)));
    stage.turns(&mut executor, 6).await;
    assert!((1..=40).all(|id| stage.debt(id).is_zero()), "and none of it is lost");
}
