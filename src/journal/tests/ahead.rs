//! What is written ahead, against a real Postgres.

use super::*;
use crate::recovery::{BalancedPlan, Intent, IntentKind, Scope};
use ActionStatus::{Abandoned, Signed};

fn plan_of(units: &[u8]) -> BalancedPlan {
    let steps: Vec<Step> = units.iter().map(|of| step(*of, Tier::Liquidate, 1)).collect();
    let ledger = ledger_of(&steps);
    BalancedPlan::unchecked(SEGMENT, block(10), steps, ledger)
}

/// Whose own kind stands where the step's is.
fn intent() -> Intent {
    Intent {
        kind: IntentKind::SettleBadDebt,
        scope: Scope::Unit(unit(3)),
        payload: Bytes::from_static(&[1]),
        tier: Tier::InsuranceFund,
        absorbs: U256::ZERO,
        deepens: U256::ZERO,
        implicit: Vec::new(),
        promises: Vec::new(),
        reward: U256::MAX,
        cost: U256::ZERO,
        swapped: U256::ZERO,
        gas: 0,
        capital: Vec::new(),
        bad_debt: true,
        not_before: 0,
        batch: None,
        why: "a test".into(),
    }
}

impl Fixture {
    /// A signature for one step.
    fn first(&self, step: usize, nonce: u64) -> FirstSignature {
        FirstSignature { steps: step..step + 1, transaction: self.transaction(&[], nonce), attempt: attempt(nonce) }
    }

    async fn write_ahead(
        &self,
        plan: &BalancedPlan,
        first: &[FirstSignature],
    ) -> Result<Option<Vec<(TransactionId, AttemptId)>>> {
        let plan = AheadPlan::of(plan, "a unit is bankrupt").unwrap();
        self.journal.write_ahead(self.deployment, &plan, first).await
    }

    async fn statuses(&self) -> Vec<(String, ActionStatus)> {
        let all = self.journal.list_actions(&ActionFilter { limit: 100, ..Default::default() }).await.unwrap();
        all.into_iter().rev().map(|action| (action.unit.unwrap().to_string(), action.status)).collect()
    }
}

#[tokio::test]
async fn what_is_written_ahead_takes_its_nonces_at_once_and_is_entered_before_anything_is_given_up() {
    let fixture = Fixture::new().await;
    let (journal, deployment) = (&fixture.journal, fixture.deployment);
    let plan = plan_of(&[1, 2, 3]);
    let (one, two) = (fixture.first(0, 0), fixture.first(1, 1));
    let signer = one.transaction.signer;
    let written = fixture.write_ahead(&plan, &[one, two]).await.unwrap().unwrap();
    assert_eq!(journal.next_nonce(CHAIN, signer).await.unwrap(), Some(2), "the nonces are taken");
    assert_eq!(fixture.statuses().await, [], "and nobody sees more of it");
    assert_conflict(fixture.write_ahead(&plan_of(&[4]), &[fixture.first(0, 2)]).await);
    let other = fixture.plan(&[step(5, Tier::Liquidate, 1)]).await;
    assert_conflict(journal.create_transactions(&[(fixture.transaction(&other, 1), attempt(7))]).await);

    assert_eq!(journal.abandon_unsigned(deployment, "a start", 11).await.unwrap(), 2, "the third step, and unit 5");
    let statuses: Vec<_> = fixture.statuses().await.into_iter().map(|(_, status)| status).collect();
    assert_eq!(statuses, [Abandoned, Signed, Signed, Abandoned]);
    assert_eq!(journal.enter_ahead(deployment).await.unwrap(), None, "entered once");
    let unsettled = fixture.unsettled().await;
    let found: Vec<_> = unsettled.iter().map(|one| (one.id, one.attempts[0].id)).collect();
    assert_eq!(found, written, "under the ids that were promised");
    for (nonce, found) in (0..).zip(&unsettled) {
        let expected = fixture.transaction(&found.actions, nonce);
        assert_eq!((found.nonce, &found.touches, &found.data), (nonce, &expected.touches, &expected.data));
        let (stored, first) = (&found.attempts[0], attempt(nonce));
        assert_eq!((&stored.raw, stored.hash, stored.gas_limit), (&first.raw, first.hash, first.gas_limit));
        assert_eq!(stored.max_fee_per_gas, first.max_fee_per_gas);
    }
    assert_eq!(fixture.write_ahead(&plan_of(&[2]), &[fixture.first(0, 2)]).await.unwrap(), None, "unit 2 is under way");
    let third = fixture.write_ahead(&plan_of(&[3]), &[fixture.first(0, 2)]).await.unwrap().unwrap();
    let entered = journal.enter_ahead(deployment).await.unwrap().unwrap();
    let last = fixture.unsettled().await.pop().unwrap();
    assert_eq!((last.id, last.episode, &last.actions), (third[0].0, entered.episode, &entered.actions));
}

#[tokio::test]
async fn a_plan_that_was_written_ahead_is_entered_as_one_that_was_not() {
    let fixture = Fixture::new().await;
    let mut steps: Vec<Step> = [1, 2].map(|of| step(of, Tier::Liquidate, 1)).into();
    steps.push(Step { action: Action::Intent(Box::new(intent())), ..step(3, Tier::InsuranceFund, 7) });
    let ledger = ledger_of(&steps);
    let mut plan = BalancedPlan::unchecked(SEGMENT, block(10), steps, ledger);
    plan.keep(&["a \0 note"]);
    let ahead = fixture.write_ahead(&plan, &[fixture.first(0, 0), fixture.first(1, 1)]).await.unwrap();
    assert_eq!(ahead.unwrap().len(), 2);
    let entered = fixture.journal.enter_ahead(fixture.deployment).await.unwrap().unwrap();
    fixture.raw("UPDATE actions SET was_included = true").await.unwrap();
    let (episode, _, straight) =
        fixture.journal.insert_plan(fixture.deployment, &plan, "a unit is bankrupt", false).await.unwrap();
    assert_eq!(episode, entered.episode);
    assert_eq!(straight.len(), entered.actions.len());
    let alike = "SELECT count(DISTINCT (segment_id, block_number, block_hash, shortfall, absorbed, residual, ledger, \
                 notes, dry_run, decision)) FROM plans";
    let alike_actions = "SELECT count(DISTINCT (step_no, group_no, leads_group, subject, unit_key, tier, absorbs, why, \
                         step, outlay_wei)) FROM actions";
    assert_eq!((fixture.count(alike).await, fixture.count(alike_actions).await), (1, 3));
}

#[tokio::test]
async fn of_two_deployments_that_race_ahead_for_a_nonce_one_wins() {
    let fixture = Fixture::new().await;
    let settings = serde_json::Value::Null;
    let mut racers = Vec::new();
    for id in 0..6 {
        let deployment = fixture.journal.register_deployment(&name(&format!("v{id}")), CHAIN, "perps", &settings).await;
        let (journal, deployment) = (fixture.journal.clone(), deployment.unwrap());
        let mut first = fixture.first(0, 0);
        first.transaction.deployment = deployment;
        racers.push(tokio::spawn(async move {
            let plan = plan_of(&[1]);
            let plan = AheadPlan::of(&plan, "a unit is bankrupt").unwrap();
            let written = journal.write_ahead(deployment, &plan, &[first]).await;
            // Those who enter free the row, not the nonce.
            journal.enter_ahead(deployment).await.unwrap();
            written
        }));
    }
    let mut won = 0;
    for racer in racers {
        match racer.await.unwrap() {
            Ok(ids) => won += ids.unwrap().len(),
            Err(error) => assert_eq!(error.class(), ErrorClass::LookAgain, "{error}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(fixture.count("SELECT count(*) FROM transactions").await, 1);
}

#[tokio::test]
async fn what_the_tables_could_not_hold_is_not_written_ahead() {
    let fixture = Fixture::new().await;
    let mut too_high = fixture.first(0, 0);
    too_high.attempt.gas_limit = u64::MAX;
    let refused = fixture.write_ahead(&plan_of(&[1]), &[too_high]).await;
    assert!(matches!(refused, Err(JournalError::Corrupt { what: "gas_limit", .. })), "{refused:?}");
    // Two groups of one unit, and books that are a unit short.
    assert_eq!(fixture.write_ahead(&plan_of(&[1, 2, 1]), &[fixture.first(0, 0)]).await.unwrap(), None);
    let steps = vec![step(1, Tier::Liquidate, 1)];
    let mut ledger = ledger_of(&steps);
    ledger.residual -= U256::ONE;
    let short = BalancedPlan::unchecked(SEGMENT, block(10), steps, ledger);
    assert_conflict(AheadPlan::of(&short, "a unit is bankrupt").map(drop));
    assert_eq!(fixture.count("SELECT count(*) FROM signed_nonces").await, 0);
}
