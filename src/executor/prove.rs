//! Proof by simulation: which transactions of a plan would do, at this head and in this order, what the plan promised.
//!
//! A transaction that fails is taken out and the others are tried again without it, since later ones may rest on it. The
//! rounds are bounded: after the last one the part before the first failure stands, because each call saw only the ones
//! before it.

use std::{collections::VecDeque, ops::Range};

use super::{
    ExecutorError,
    fees::{Gas, gas_limit},
    gate::Gate,
    ports::ChainPort,
    steps::promise_broken,
};
use crate::{
    chain::SimulatedCall,
    journal::Touches,
    positions::Book,
    protocols::{Adapter, Disposition, Refusal},
    recovery::Step,
    types::{BlockRef, Call},
};

/// Rounds of simulation per plan.
const ROUNDS_MAX: usize = 6;

/// One transaction to be.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'p> {
    /// Where in the plan its steps stand.
    pub range: Range<usize>,
    /// What it does.
    pub steps: &'p [Step],
    /// How it does it.
    pub call: Call,
    /// What it touches.
    pub touches: Touches,
    /// For a batch: its members as transactions of their own, tried where the batch fails, so that one poisoned unit
    /// holds up nobody.
    pub parts: Vec<Candidate<'p>>,
}

/// What simulation made of the candidates.
#[derive(Debug, Default)]
pub(super) struct Proven<'p> {
    /// Good in this order, with their gas.
    pub ready: Vec<(Candidate<'p>, Gas)>,
    /// Steps that were refused, with the reason.
    pub refused: Vec<(Range<usize>, Refusal)>,
    /// Steps beyond the number of one block, or after a failure of the last round.
    pub held_back: Vec<Range<usize>>,
}

/// Limits of a proof.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProofLimits {
    /// Most transactions that come out ready.
    pub transactions_max: usize,
    /// Most gas of each.
    pub tx_gas_max: u64,
    /// Whether the plan was made from the very head it is proven on.
    pub fresh: bool,
}

/// Simulates candidates on top of the head. The first are tried first; a refused one makes room for the next.
pub(super) async fn prove<'p, C: ChainPort>(
    chain: &C,
    adapter: &dyn Adapter,
    book: &Book,
    gate: &Gate,
    head: &BlockRef,
    candidates: Vec<Candidate<'p>>,
    limits: ProofLimits,
) -> Result<Proven<'p>, ExecutorError> {
    let mut proven = Proven::default();
    let mut queue = VecDeque::from(candidates);
    let mut window: Vec<Candidate<'p>> = Vec::new();
    for round in 1..=ROUNDS_MAX {
        while window.len() < limits.transactions_max
            && let Some(next) = queue.pop_front()
        {
            match gate.check_call(&next.call) {
                Ok(()) => window.push(next),
                Err(refusal) => {
                    let refusal = Refusal { disposition: Disposition::Bug, reason: refusal.to_string() };
                    proven.refused.push((next.range, refusal));
                }
            }
        }
        if window.is_empty() {
            break;
        }
        let calls: Vec<Call> = window.iter().map(|candidate| candidate.call.clone()).collect();
        let results = chain.simulate(gate.address(), &calls, head).await?;
        if results.len() != calls.len() {
            return Err(ExecutorError::Answer(format!("{} results for {} calls", results.len(), calls.len())));
        }
        let tried = std::mem::take(&mut window).into_iter().zip(&results);
        let mut failed = false;
        for (candidate, result) in tried {
            match judge(adapter, book, &candidate, result, limits) {
                Ok(gas) if !failed || round < ROUNDS_MAX => {
                    proven.ready.push((candidate, gas));
                }
                Ok(_) => proven.held_back.push(candidate.range),
                Err(refusal) => {
                    failed = true;
                    if candidate.parts.is_empty() || round == ROUNDS_MAX {
                        proven.refused.push((candidate.range, refusal));
                    } else {
                        tracing::debug!(reason = refusal.reason, "a batch fails and is taken apart");
                        candidate.parts.into_iter().rev().for_each(|part| queue.push_front(part));
                    }
                }
            }
        }
        let full = proven.ready.len() >= limits.transactions_max || queue.is_empty();
        if (!failed && full) || round == ROUNDS_MAX {
            break;
        }
        window = proven.ready.drain(..).map(|(candidate, _)| candidate).collect();
    }
    proven.held_back.extend(queue.into_iter().map(|candidate| candidate.range));
    Ok(proven)
}

/// The gas of a good simulation, or why it is none.
fn judge(
    adapter: &dyn Adapter,
    book: &Book,
    candidate: &Candidate<'_>,
    result: &SimulatedCall,
    limits: ProofLimits,
) -> Result<Gas, Refusal> {
    if !result.success {
        return Err(adapter.classify(&result.output));
    }
    if let Some(reason) = promise_broken(candidate.steps, &adapter.effects(book, &result.logs)) {
        // On the block the plan was made from, a difference is ours; on a later one the state may have moved.
        let disposition = if limits.fresh { Disposition::Bug } else { Disposition::NotEligible };
        return Err(Refusal { disposition, reason });
    }
    let used = result.gas_used;
    gas_limit(used, limits.tx_gas_max)
        .map(|limit| Gas { used, limit })
        .map_err(|refused| Refusal { disposition: Disposition::Capacity, reason: refused.to_string() })
}
