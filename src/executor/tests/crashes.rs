//! The process dies between every two steps, before or after the step takes effect: one effect on chain, always.

use super::*;

/// Runs until the fuse blows or everything is settled, then goes on as a fresh process. Whether it blew.
async fn survive(stage: &Stage, steps: usize, takes_effect: bool, disturb: impl Fn(&Stage, usize)) -> bool {
    stage.world.lock().unwrap().fuse = Fuse { left: Some(steps), takes_effect, dead: false };
    let mut executor = stage.executor();
    let mut blown = false;
    let head = stage.head();
    let mut recovered = executor.recover(&head).await.is_ok();
    for turn in 0..24 {
        disturb(stage, turn);
        if recovered {
            let _may_die = stage.turn(&mut executor).await;
        } else {
            stage.chain(ChainState::mine);
        }
        if stage.world.lock().unwrap().fuse.dead {
            blown = true;
            stage.world.lock().unwrap().fuse = Fuse::default();
            executor = stage.executor();
            let head = stage.head();
            executor.recover(&head).await.unwrap();
            recovered = true;
        }
    }
    blown
}

fn assert_repaired_once(stage: &Stage, units: u8, case: &str) {
    for id in 1..=units {
        assert_eq!(stage.debt(id), U256::ZERO, "{case}: unit {id} is not repaired");
        let finals = stage.statuses(id).iter().filter(|status| **status == ActionStatus::Final).count();
        assert_eq!(finals, 1, "{case}: unit {id} went {:?}", stage.statuses(id));
        assert!(stage.statuses(id).iter().all(|status| status.is_terminal()), "{case}: {:?}", stage.statuses(id));
    }
    let outcomes = stage.chain(|chain| chain.outcomes());
    assert_eq!(outcomes.get(&false), None, "{case}: something was done twice");
    assert_eq!(outcomes.get(&true), Some(&usize::from(units)), "{case}: one transaction a unit");
    let absorbed = stage.journal(|journal| journal.receipts.values().map(|r| r.effects.len()).sum::<usize>());
    assert_eq!(absorbed, usize::from(units), "{case}: every effect is booked once");
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_exactly_one_effect() {
    for takes_effect in [false, true] {
        let mut steps = 0;
        loop {
            let stage = Stage::new(&[500, 70, 9, 40, 12]);
            let blown = survive(&stage, steps, takes_effect, |_, _| {}).await;
            assert_repaired_once(&stage, 5, &format!("step {steps}, takes effect {takes_effect}"));
            if !blown {
                break;
            }
            steps += 1;
        }
        assert!(steps > 15, "only {steps} steps were interrupted");
    }
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_replacement_leaves_exactly_one_effect() {
    // The fee market runs away from the first attempts: they are dropped, replaced, and mined.
    let disturb = |stage: &Stage, turn: usize| {
        stage.chain(|chain| {
            chain.mining_held = turn < 4;
            chain.base_fee = if turn == 0 { 1_000 } else { 4_000 };
        });
    };
    for takes_effect in [false, true] {
        let mut steps = 0;
        loop {
            let stage = Stage::new(&[500, 70]);
            let blown = survive(&stage, steps, takes_effect, disturb).await;
            assert_repaired_once(&stage, 2, &format!("step {steps}, takes effect {takes_effect}"));
            if !blown {
                break;
            }
            steps += 1;
        }
        assert!(steps > 15, "only {steps} steps were interrupted");
    }
}

#[tokio::test]
async fn a_crash_at_any_step_around_a_reorganisation_leaves_exactly_one_effect() {
    let disturb = |stage: &Stage, turn: usize| {
        if turn == 2 {
            stage.chain(|chain| chain.reorganise(2));
        }
    };
    for takes_effect in [false, true] {
        let mut steps = 0;
        loop {
            let stage = Stage::new(&[500, 70]);
            let blown = survive(&stage, steps, takes_effect, disturb).await;
            assert_repaired_once(&stage, 2, &format!("step {steps}, takes effect {takes_effect}"));
            if !blown {
                break;
            }
            steps += 1;
        }
        assert!(steps > 15, "only {steps} steps were interrupted");
    }
}
