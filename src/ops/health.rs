//! Whether the process lives and each deployment does its work.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::types::DeploymentName;

/// What readiness bears.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Oldest new head.
    pub head_age_max: Duration,
    /// Oldest scan.
    pub scan_age_max: Duration,
    /// Longest silence of the journal.
    pub journal_age_max: Duration,
    /// Most blocks that the cache is behind the head.
    pub lag_blocks_max: u64,
}

/// What a replica is to a deployment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It does not know yet.
    #[default]
    Unknown,
    /// It holds the lease and acts.
    Holder,
    /// Another holds it; this one would take over.
    Standby,
}

impl Role {
    /// The word on `/readyz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Holder => "holder",
            Self::Standby => "standby",
        }
    }
}

/// What a deployment's stages last reported. `None`: nothing yet.
#[derive(Clone, Debug, Default)]
pub struct Beats {
    /// Number of the last head.
    pub head_number: Option<u64>,
    /// When the head last changed; a node that repeats itself does not count.
    pub head_seen_at: Option<Instant>,
    /// Block of the cache.
    pub indexed_block: Option<u64>,
    /// Block of the last scan.
    pub scanned_block: Option<u64>,
    /// When it ended.
    pub scanned_at: Option<Instant>,
    /// When the journal last answered.
    pub journal_ok_at: Option<Instant>,
    /// Whether this process is the one that acts.
    pub role: Role,
    /// Why it does not act, if something stopped it.
    pub halted: Option<String>,
}

/// Whether a deployment does its work; if not, every reason.
pub fn readiness(now: Instant, beats: &Beats, limits: &Limits) -> Result<(), Vec<String>> {
    let mut reasons = Vec::new();
    if let Some(reason) = &beats.halted {
        reasons.push(format!("halted: {reason}"));
    }
    let ages = [
        ("answer of the journal", beats.journal_ok_at, limits.journal_age_max),
        ("new head", beats.head_seen_at, limits.head_age_max),
        ("scan", beats.scanned_at, limits.scan_age_max),
    ];
    // A standby has nothing to do but to be able to take over.
    let asked = match beats.role {
        Role::Standby => 1,
        Role::Holder => ages.len(),
        Role::Unknown => {
            reasons.push("the deployment's lease is not held".to_owned());
            ages.len()
        }
    };
    for (what, at, age_max) in ages.into_iter().take(asked) {
        match at.map(|at| now.saturating_duration_since(at)) {
            None => reasons.push(format!("no {what} yet")),
            Some(age) if age > age_max => {
                reasons.push(format!("last {what} {} s ago, limit {} s", age.as_secs(), age_max.as_secs()));
            }
            Some(_) => {}
        }
    }
    if beats.role == Role::Standby {
        return if reasons.is_empty() { Ok(()) } else { Err(reasons) };
    }
    match (beats.head_number, beats.indexed_block) {
        (_, None) => reasons.push("no block indexed yet".to_owned()),
        (Some(head), Some(indexed)) if head.saturating_sub(indexed) > limits.lag_blocks_max => {
            let (lag, most) = (head - indexed, limits.lag_blocks_max);
            reasons.push(format!("cache is {lag} blocks behind the head, limit {most}"));
        }
        (_, Some(_)) => {}
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

/// Everything that was reported. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Health {
    limits: Limits,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    deployments: BTreeMap<DeploymentName, Beats>,
    tasks: BTreeMap<String, Task>,
}

#[derive(Clone, Copy, Debug)]
struct Task {
    beat_at: Instant,
    silence_max: Duration,
}

impl Health {
    /// Nothing reported yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, state: Arc::default() }
    }

    /// The handle of a deployment's stages. From here on readiness asks for it.
    pub fn deployment(&self, name: &DeploymentName) -> DeploymentHealth {
        self.lock().deployments.entry(name.clone()).or_default();
        DeploymentHealth { name: name.clone(), health: self.clone() }
    }

    /// The handle of a task that beats at least every `silence_max`. From here on liveness asks for it.
    pub fn task(&self, name: impl Into<String>, silence_max: Duration) -> Heartbeat {
        let name = name.into();
        self.lock().tasks.insert(name.clone(), Task { beat_at: Instant::now(), silence_max });
        Heartbeat { name, health: self.clone() }
    }

    /// Whether each task beat in time, as JSON for people.
    pub(super) fn liveness(&self, now: Instant) -> (bool, Value) {
        let state = self.lock();
        let mut alive = true;
        let tasks: BTreeMap<&str, Value> = state
            .tasks
            .iter()
            .map(|(name, task)| {
                let age = now.saturating_duration_since(task.beat_at);
                let beats = age <= task.silence_max;
                alive &= beats;
                let ages = (age.as_secs_f64(), task.silence_max.as_secs_f64());
                (name.as_str(), json!({ "alive": beats, "beat_age_seconds": ages.0, "silence_max_seconds": ages.1 }))
            })
            .collect();
        (alive, json!({ "alive": alive, "tasks": tasks }))
    }

    /// Whether there is a deployment and each is ready, as JSON that says which is not and why.
    pub(super) fn readiness(&self, now: Instant) -> (bool, Value) {
        let state = self.lock();
        let mut ready = !state.deployments.is_empty();
        let deployments: BTreeMap<&str, Value> = state
            .deployments
            .iter()
            .map(|(name, beats)| {
                let reasons = readiness(now, beats, &self.limits).err().unwrap_or_default();
                ready &= reasons.is_empty();
                let shown = json!({
                    "ready": reasons.is_empty(),
                    "role": beats.role.as_str(),
                    "reasons": reasons,
                    "head_block": beats.head_number,
                    "indexed_block": beats.indexed_block,
                    "scanned_block": beats.scanned_block,
                });
                (name.as_str(), shown)
            })
            .collect();
        (ready, json!({ "ready": ready, "deployments": deployments }))
    }

    /// Each deployment's readiness now.
    pub(super) fn deployments_now(&self) -> Vec<(DeploymentName, Result<(), Vec<String>>)> {
        let now = Instant::now();
        let state = self.lock();
        let verdict = |beats| readiness(now, beats, &self.limits);
        state.deployments.iter().map(|(name, beats)| (name.clone(), verdict(beats))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every write leaves the state whole, so a poisoned lock guards nothing broken.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a deployment's stages report.
#[derive(Clone, Debug)]
pub struct DeploymentHealth {
    name: DeploymentName,
    health: Health,
}

impl DeploymentHealth {
    /// The node's head.
    pub fn head(&self, number: u64) {
        self.report(|beats, now| {
            if beats.head_number != Some(number) {
                beats.head_number = Some(number);
                beats.head_seen_at = Some(now);
            }
        });
    }

    /// The cache stands at this block.
    pub fn indexed(&self, block: u64) {
        self.report(|beats, _| beats.indexed_block = Some(block));
    }

    /// A scan of this block ended.
    pub fn scanned(&self, block: u64) {
        self.report(|beats, now| {
            beats.scanned_block = Some(block);
            beats.scanned_at = Some(now);
        });
    }

    /// The journal answered.
    pub fn journal_ok(&self) {
        self.report(|beats, now| beats.journal_ok_at = Some(now));
    }

    /// What this process is to the deployment.
    pub fn role(&self, role: Role) {
        self.report(|beats, _| beats.role = role);
    }

    /// Why the deployment does not act; `None`: it does.
    pub fn halted(&self, reason: Option<String>) {
        self.report(|beats, _| beats.halted = reason);
    }

    fn report(&self, change: impl FnOnce(&mut Beats, Instant)) {
        let now = Instant::now();
        change(self.health.lock().deployments.entry(self.name.clone()).or_default(), now);
    }
}

/// Where one task shows that it still turns. Dropped without [`Heartbeat::end`], it goes silent and liveness fails.
#[derive(Debug)]
pub struct Heartbeat {
    name: String,
    health: Health,
}

impl Heartbeat {
    /// Still turning.
    pub fn beat(&self) {
        if let Some(task) = self.health.lock().tasks.get_mut(&self.name) {
            task.beat_at = Instant::now();
        }
    }

    /// The task ended as it should.
    pub fn end(self) {
        self.health.lock().tasks.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        head_age_max: Duration::from_secs(60),
        scan_age_max: Duration::from_secs(50),
        journal_age_max: Duration::from_secs(40),
        lag_blocks_max: 4,
    };

    fn seconds(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// Beats that are all as old as they may be at `now`.
    fn barely_ready(now: Instant) -> Beats {
        Beats {
            head_number: Some(104),
            head_seen_at: Some(now - LIMITS.head_age_max),
            indexed_block: Some(100),
            scanned_block: Some(100),
            scanned_at: Some(now - LIMITS.scan_age_max),
            journal_ok_at: Some(now - LIMITS.journal_age_max),
            role: Role::Holder,
            halted: None,
        }
    }

    #[test]
    fn each_limit_is_inclusive_and_each_breach_is_one_reason() {
        let now = Instant::now() + seconds(1_000);
        assert_eq!(readiness(now, &barely_ready(now), &LIMITS), Ok(()));
        let later = |limit: Duration| Some(now - limit - seconds(1));
        type Spoil<'a> = &'a dyn Fn(&mut Beats);
        let breaches: [(Spoil, &str); 11] = [
            (&|b| b.halted = Some("role missing".to_owned()), "halted: role missing"),
            (&|b| b.role = Role::Unknown, "the deployment's lease is not held"),
            (&|b| b.head_seen_at = None, "no new head yet"),
            (&|b| b.head_seen_at = later(LIMITS.head_age_max), "last new head 61 s ago, limit 60 s"),
            (&|b| b.scanned_at = None, "no scan yet"),
            (&|b| b.scanned_at = later(LIMITS.scan_age_max), "last scan 51 s ago, limit 50 s"),
            (&|b| b.journal_ok_at = None, "no answer of the journal yet"),
            (&|b| b.journal_ok_at = later(LIMITS.journal_age_max), "last answer of the journal 41 s ago, limit 40 s"),
            (&|b| b.indexed_block = None, "no block indexed yet"),
            (&|b| b.indexed_block = Some(99), "cache is 5 blocks behind the head, limit 4"),
            (&|b| b.head_number = Some(105), "cache is 5 blocks behind the head, limit 4"),
        ];
        for (spoil, reason) in breaches {
            let mut beats = barely_ready(now);
            spoil(&mut beats);
            assert_eq!(readiness(now, &beats, &LIMITS), Err(vec![reason.to_owned()]));
        }
    }

    #[test]
    fn a_cache_ahead_of_the_reported_head_is_not_behind_it() {
        let now = Instant::now() + seconds(1_000);
        let beats = Beats { indexed_block: Some(200), ..barely_ready(now) };
        assert_eq!(readiness(now, &beats, &LIMITS), Ok(()));
    }

    #[test]
    fn a_standby_is_ready_while_its_journal_answers() {
        let now = Instant::now() + seconds(1_000);
        let standby = Beats { role: Role::Standby, journal_ok_at: Some(now), ..Beats::default() };
        assert_eq!(readiness(now, &standby, &LIMITS), Ok(()));
        let silent = Beats { journal_ok_at: None, ..standby.clone() };
        assert_eq!(readiness(now, &silent, &LIMITS), Err(vec!["no answer of the journal yet".to_owned()]));
        let halted = Beats { halted: Some("role missing".to_owned()), ..standby };
        assert_eq!(readiness(now, &halted, &LIMITS), Err(vec!["halted: role missing".to_owned()]));
    }

    #[test]
    fn nothing_reported_is_not_ready_for_every_reason() {
        assert_eq!(readiness(Instant::now(), &Beats::default(), &LIMITS).unwrap_err().len(), 5);
    }

    #[test]
    fn a_head_that_does_not_move_grows_old() {
        let health = Health::new(LIMITS);
        let venue = health.deployment(&"venue".parse().unwrap());
        let seen_at = || health.lock().deployments.values().next().unwrap().head_seen_at.unwrap();
        venue.head(7);
        let first = seen_at();
        while Instant::now() <= first {}
        venue.head(7);
        assert_eq!(seen_at(), first, "a node that repeats itself shows no life");
        venue.head(6);
        assert!(seen_at() > first, "a shorter chain is news");
    }

    #[test]
    fn reports_make_a_deployment_ready_until_they_grow_old() {
        let health = Health::new(LIMITS);
        let venue = health.deployment(&"venue".parse().unwrap());
        venue.head(7);
        venue.indexed(7);
        venue.scanned(7);
        venue.journal_ok();
        venue.role(Role::Holder);
        assert!(health.readiness(Instant::now()).0);
        venue.halted(Some("paused".to_owned()));
        assert!(!health.readiness(Instant::now()).0);
        venue.halted(None);
        assert!(health.readiness(Instant::now()).0);
        let (ready, shown) = health.readiness(Instant::now() + seconds(100));
        assert!(!ready);
        assert_eq!(shown["deployments"]["venue"]["reasons"].as_array().unwrap().len(), 3, "{shown}");
    }

    #[test]
    fn one_deployment_that_is_not_ready_is_enough() {
        let health = Health::new(LIMITS);
        assert!(!health.readiness(Instant::now()).0, "no deployment");
        for name in ["a", "b"] {
            let deployment = health.deployment(&name.parse().unwrap());
            deployment.head(1);
            deployment.indexed(1);
            deployment.scanned(1);
            deployment.journal_ok();
            deployment.role(if name == "a" { Role::Holder } else { Role::Unknown });
        }
        let (ready, shown) = health.readiness(Instant::now());
        assert!(!ready);
        assert_eq!(shown["deployments"]["a"]["ready"], true);
        assert_eq!(shown["deployments"]["b"]["reasons"], json!(["the deployment's lease is not held"]));
    }

    #[test]
    fn a_silent_task_is_not_alive_unless_it_ended() {
        let health = Health::new(LIMITS);
        let (turning, stuck) = (health.task("turning", seconds(10)), health.task("stuck", seconds(5)));
        health.task("ended", seconds(5)).end();
        assert!(health.liveness(Instant::now()).0);
        turning.beat();
        let (alive, shown) = health.liveness(Instant::now() + seconds(6));
        assert!(!alive);
        assert_eq!(shown["tasks"]["turning"]["alive"], true);
        assert_eq!(shown["tasks"]["stuck"]["alive"], false);
        assert_eq!(shown["tasks"].get("ended"), None);
        drop(stuck);
        assert!(!health.liveness(Instant::now() + seconds(6)).0, "a task that vanished is not one that ended");
    }

    #[test]
    fn a_beat_is_heard() {
        let health = Health::new(LIMITS);
        let task = health.task("turning", seconds(10));
        let first = health.lock().tasks["turning"].beat_at;
        while Instant::now() <= first {}
        task.beat();
        assert!(health.lock().tasks["turning"].beat_at > first);
    }
}
