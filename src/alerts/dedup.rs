//! Whether an alert is told or was told already.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;

use super::{Alert, AlertKey, Severity};

/// Most alerts remembered as open; the one told longest ago makes room, and would then be told again.
const OPEN_MAX: usize = 4_096;

/// Whether to tell people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Tell.
    Deliver,
    /// They know.
    Suppressed,
}

/// Where open alerts outlive the process. The same rule as in memory: one open alert per key; it is told when it opens,
/// escalates, or was told `repeat_after` ago.
pub trait DedupStore: Send + Sync {
    /// Notes that the cause holds and answers whether to tell people.
    fn raise<'a>(
        &'a self,
        alert: &'a Alert,
        now: DateTime<Utc>,
        repeat_after: Duration,
    ) -> BoxFuture<'a, anyhow::Result<Decision>>;

    /// Notes that the cause no longer holds and answers whether it was open.
    fn resolve<'a>(&'a self, key: &'a AlertKey, now: DateTime<Utc>) -> BoxFuture<'a, anyhow::Result<bool>>;
}

/// What this process has told: the first screen before the store, and all there is while the store is down.
#[derive(Debug, Default)]
pub(super) struct OpenAlerts {
    told: BTreeMap<AlertKey, Told>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    severity: Severity,
    at: DateTime<Utc>,
}

impl OpenAlerts {
    pub(super) fn raise(
        &mut self,
        key: &AlertKey,
        severity: Severity,
        now: DateTime<Utc>,
        repeat_after: Duration,
    ) -> Decision {
        let known = self.told.get(key).copied();
        if let Some(told) = known {
            let elapsed = now.signed_duration_since(told.at).to_std().unwrap_or_default();
            if severity <= told.severity && elapsed < repeat_after {
                return Decision::Suppressed;
            }
        } else if self.told.len() >= OPEN_MAX {
            self.forget_oldest();
        }
        let severity = known.map_or(severity, |told| told.severity.max(severity));
        self.told.insert(key.clone(), Told { severity, at: now });
        Decision::Deliver
    }

    /// The worst severity it was told with, if it was open.
    pub(super) fn resolve(&mut self, key: &AlertKey) -> Option<Severity> {
        self.told.remove(key).map(|told| told.severity)
    }

    fn forget_oldest(&mut self) {
        if let Some(key) = self.told.iter().min_by_key(|(_, told)| told.at).map(|(key, _)| key.clone()) {
            self.told.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::AlertKind;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + seconds, 0).unwrap()
    }

    fn key(subject: usize) -> AlertKey {
        AlertKey::new(AlertKind::Shortfall, None, subject)
    }

    #[test]
    fn an_open_alert_is_told_when_it_opens_escalates_or_is_due() {
        let mut open = OpenAlerts::default();
        let mut raise = |severity, seconds| open.raise(&key(1), severity, at(seconds), HOUR);
        assert_eq!(raise(Severity::Warning, 0), Decision::Deliver);
        assert_eq!(raise(Severity::Warning, 1), Decision::Suppressed);
        assert_eq!(raise(Severity::Info, 2), Decision::Suppressed);
        assert_eq!(raise(Severity::Critical, 3), Decision::Deliver);
        assert_eq!(raise(Severity::Warning, 4), Decision::Suppressed);
        assert_eq!(raise(Severity::Critical, 3_602), Decision::Suppressed);
        assert_eq!(raise(Severity::Warning, 3_603), Decision::Deliver);
        assert_eq!(raise(Severity::Critical, 3_604), Decision::Suppressed, "a milder reminder does not lower it");
    }

    #[test]
    fn a_clock_that_steps_back_suppresses() {
        let mut open = OpenAlerts::default();
        assert_eq!(open.raise(&key(1), Severity::Info, at(100), HOUR), Decision::Deliver);
        assert_eq!(open.raise(&key(1), Severity::Info, at(0), HOUR), Decision::Suppressed);
    }

    #[test]
    fn a_resolved_alert_reopens() {
        let mut open = OpenAlerts::default();
        assert_eq!(open.resolve(&key(1)), None);
        open.raise(&key(1), Severity::Warning, at(0), HOUR);
        assert_eq!(open.raise(&key(2), Severity::Warning, at(0), HOUR), Decision::Deliver, "another subject");
        assert_eq!(open.resolve(&key(1)), Some(Severity::Warning));
        assert_eq!(open.raise(&key(1), Severity::Warning, at(1), HOUR), Decision::Deliver);
    }

    #[test]
    fn memory_is_bounded() {
        let mut open = OpenAlerts::default();
        for subject in 0..=OPEN_MAX {
            open.raise(&key(subject), Severity::Info, at(i64::try_from(subject).unwrap()), HOUR);
        }
        assert_eq!(open.told.len(), OPEN_MAX);
        assert!(!open.told.contains_key(&key(0)) && open.told.contains_key(&key(OPEN_MAX)));
    }
}
