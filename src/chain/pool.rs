//! Several nodes of one chain: which one is asked, and when it is another's turn.
//!
//! Invariants: one node is preferred and stays so while it answers, because answers of one node go with each other; a
//! node that failed rests, twice as long after each further failure, and as long as it asks for; one that is known to
//! follow another chain is never asked. There is always a choice: when all rest, the one whose rest ends first.
//! Must not: send anything.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alloy::rpc::client::RpcClient;
use tokio::time::Instant;

use super::Endpoint;

/// First rest after a failure; doubled after each further one in a row.
const REST_MIN: Duration = Duration::from_millis(250);
/// How often the nodes' heads are compared.
const COMPARISON_INTERVAL: Duration = Duration::from_secs(5);
/// Longest rest that we set ourselves.
const REST_MAX: Duration = Duration::from_secs(30);
/// Longest rest that a node can ask for: one that asks for a day is asked again after this.
const ASKED_REST_MAX: Duration = Duration::from_secs(60);

/// How a node behaved of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    /// Failures since the last answer.
    failures: u32,
    /// Until when it is asked only if no other can be.
    rests_until: Option<Instant>,
    /// Until when it asked not to be asked: HTTP `Retry-After` and its like.
    throttled_until: Option<Instant>,
}

impl Health {
    /// After an answer.
    fn answered(&mut self) {
        *self = Self::default();
    }

    /// After a failure, with the rest that the node asked for.
    fn failed(&mut self, now: Instant, asked: Option<Duration>) {
        let doublings = self.failures.min(16);
        self.failures = self.failures.saturating_add(1);
        let asked = asked.map(|rest| rest.min(ASKED_REST_MAX));
        let rest = REST_MIN.saturating_mul(1 << doublings).min(REST_MAX).max(asked.unwrap_or_default());
        self.rests_until = Some(now + rest);
        self.throttled_until = asked.map(|rest| now + rest);
    }

    fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| now < until)
    }
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) endpoint: Endpoint,
    pub(super) client: RpcClient,
    /// The chain it says that it follows, once it was asked.
    pub(super) chain_id: OnceLock<u64>,
    health: Mutex<Health>,
}

impl Node {
    pub(super) fn new(endpoint: Endpoint, client: RpcClient) -> Self {
        Self { endpoint, client, chain_id: OnceLock::new(), health: Mutex::default() }
    }

    fn health(&self) -> Health {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it asked not to be asked from now on.
    pub(super) fn throttled(&self, now: Instant) -> Option<Duration> {
        self.health().throttled_until?.checked_duration_since(now).filter(|rest| !rest.is_zero())
    }

    /// Whether it rests after a failure.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.health().rests(now)
    }
}

/// The nodes of one deployment, in the order of the configuration. Never empty.
#[derive(Debug)]
pub(super) struct Pool {
    nodes: Vec<Node>,
    chain_id: u64,
    preferred: AtomicUsize,
    /// When heads were last compared.
    compared_at: Mutex<Option<Instant>>,
}

impl Pool {
    /// `nodes`: at least one. `chain_id`: what each must follow.
    pub(super) fn new(nodes: Vec<Node>, chain_id: u64) -> Self {
        assert!(!nodes.is_empty(), "invariant: a deployment has an endpoint");
        Self { nodes, chain_id, preferred: AtomicUsize::new(0), compared_at: Mutex::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// Indices of the nodes that are not known to follow another chain.
    pub(super) fn usable(&self) -> impl Iterator<Item = usize> {
        (0..self.nodes.len()).filter(|index| !self.is_foreign(*index))
    }

    fn is_foreign(&self, index: usize) -> bool {
        self.nodes[index].chain_id.get().is_some_and(|id| *id != self.chain_id)
    }

    pub(super) fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    /// The node to ask now, one of `avoid` only if there is no other.
    pub(super) fn choose(&self, now: Instant, avoid: &[usize]) -> usize {
        let preferred = self.preferred();
        let order = |index: &usize| {
            let health = self.nodes[*index].health();
            let rest = health.rests_until.filter(|until| now < *until);
            (self.is_foreign(*index), avoid.contains(index), rest, *index != preferred, health.failures, *index)
        };
        (0..self.nodes.len()).min_by_key(order).unwrap_or(preferred)
    }

    /// Notes an answer of a node.
    pub(super) fn answered(&self, index: usize) {
        self.nodes[index].health.lock().unwrap_or_else(PoisonError::into_inner).answered();
    }

    /// Notes a failure of a node. If it was the preferred one and another need not rest, that one is from now on: its
    /// index is given back.
    pub(super) fn failed(&self, index: usize, now: Instant, asked: Option<Duration>) -> Option<usize> {
        self.nodes[index].health.lock().unwrap_or_else(PoisonError::into_inner).failed(now, asked);
        let next = self.choose(now, &[index]);
        let better = next != index && !self.is_foreign(next) && !self.nodes[next].rests(now);
        (better && self.prefer_instead(index, next)).then_some(next)
    }

    /// Whether it is time to compare the nodes' heads; if so, the time is taken.
    pub(super) fn comparison_due(&self, now: Instant) -> bool {
        let mut compared_at = self.compared_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = compared_at.is_none_or(|last| now.duration_since(last) >= COMPARISON_INTERVAL);
        if due {
            *compared_at = Some(now);
        }
        due
    }

    /// Prefers `next` to `was`, which answers and is behind: it rests like one that failed. Whether this did it.
    pub(super) fn leave_behind(&self, was: usize, next: usize, now: Instant) -> bool {
        let left = self.prefer_instead(was, next);
        if left {
            self.nodes[was].health.lock().unwrap_or_else(PoisonError::into_inner).failed(now, None);
        }
        left
    }

    /// Makes `next` preferred if `was` is: of two that notice the same failure, one moves on.
    fn prefer_instead(&self, was: usize, next: usize) -> bool {
        self.preferred.compare_exchange(was, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use alloy::transports::mock::Asserter;

    use super::*;

    fn pool(nodes: usize) -> Pool {
        let node = |index| {
            let endpoint = format!("http://127.0.0.1:{}", 1000 + index).parse().unwrap();
            Node::new(endpoint, RpcClient::mocked(Asserter::new()))
        };
        Pool::new((0..nodes).map(node).collect(), 1)
    }

    #[test]
    fn a_node_is_kept_while_it_answers_and_again_after_its_successor_fails() {
        let (pool, now) = (pool(3), Instant::now());
        assert_eq!(pool.choose(now, &[]), 0);
        assert_eq!(pool.failed(0, now, None), Some(1));
        assert_eq!(pool.failed(0, now, None), None, "somebody moved on already");
        assert_eq!(pool.choose(now, &[]), 1);
        // The first is well again and is not gone back to.
        pool.answered(0);
        assert_eq!(pool.choose(now, &[]), 1);
        assert_eq!(pool.failed(1, now, None), Some(0));
        assert_eq!(pool.choose(now, &[0]), 2, "another opinion");
    }

    #[test]
    fn when_all_rest_the_first_that_may_be_asked_is() {
        let (pool, now) = (pool(2), Instant::now());
        pool.failed(0, now, None);
        pool.failed(1, now, Some(Duration::from_secs(5)));
        assert_eq!(pool.choose(now, &[]), 0);
        assert_eq!(pool.node(0).throttled(now), None);
        assert_eq!(pool.node(1).throttled(now), Some(Duration::from_secs(5)));
        assert_eq!(pool.node(1).throttled(now + Duration::from_secs(5)), None);
    }

    #[test]
    fn rests_double_and_end() {
        let (mut health, now) = (Health::default(), Instant::now());
        let mut rests = Vec::new();
        for _ in 0..10 {
            health.failed(now, None);
            rests.push(health.rests_until.unwrap() - now);
        }
        assert_eq!(rests[..3], [250, 500, 1_000].map(Duration::from_millis));
        assert_eq!(rests[9], REST_MAX);
        health.failed(now, Some(Duration::from_secs(86_400)));
        assert_eq!(health.rests_until, Some(now + ASKED_REST_MAX));
        assert!(health.rests(now) && !health.rests(now + ASKED_REST_MAX));
        health.answered();
        assert_eq!(health, Health::default());
    }

    #[test]
    fn a_node_of_another_chain_is_not_asked() {
        let (pool, now) = (pool(2), Instant::now());
        pool.node(1).chain_id.set(7).unwrap();
        assert_eq!(pool.usable().collect::<Vec<_>>(), [0]);
        assert_eq!(pool.failed(0, now, None), None);
        assert_eq!(pool.choose(now, &[]), 0);
        assert_eq!(pool.choose(now, &[0]), 0);
    }
}
