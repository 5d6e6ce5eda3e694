//! The port through which stages raise and resolve.

use super::{Alert, AlertKey};

/// Where stages put alerts. Neither call blocks or fails.
pub trait AlertSink: Send + Sync {
    /// The cause holds. Repeating it is free: it is told again only when it escalates or after the reminder period.
    fn raise(&self, alert: Alert);

    /// The cause no longer holds. Resolving what is not open does nothing.
    fn resolve(&self, key: &AlertKey);
}

/// A sink that remembers, for tests of stages.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct RecordingSink {
    /// Everything raised, in order.
    pub(crate) raised: std::sync::Mutex<Vec<Alert>>,
    /// Everything resolved, in order.
    pub(crate) resolved: std::sync::Mutex<Vec<AlertKey>>,
}

#[cfg(test)]
impl AlertSink for RecordingSink {
    fn raise(&self, alert: Alert) {
        self.raised.lock().unwrap().push(alert);
    }

    fn resolve(&self, key: &AlertKey) {
        self.resolved.lock().unwrap().push(key.clone());
    }
}
