//! What operators can count about alerts.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

use super::Severity;

/// What became of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// People were told.
    Delivered,
    /// They knew.
    Suppressed,
    /// The cause ended and people were told.
    Resolved,
    /// A webhook did not take it; once for each webhook.
    Failed,
    /// The queue was full.
    Dropped,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Delivered, Self::Suppressed, Self::Resolved, Self::Failed, Self::Dropped];

    fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Suppressed => "suppressed",
            Self::Resolved => "resolved",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// Counters of the alerting stage.
#[derive(Clone, Debug)]
pub struct AlertMetrics {
    alerts: IntCounterVec,
    webhook_posts: IntCounterVec,
}

impl AlertMetrics {
    /// Registers the counters, each at zero.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let alerts = IntCounterVec::new(
            Opts::new("backstop_alerts_total", "Alerts by what became of them."),
            &["severity", "outcome"],
        )?;
        let webhook_posts = IntCounterVec::new(
            Opts::new("backstop_alerts_webhook_posts_total", "Webhook posts, retries included in one."),
            &["webhook", "outcome"],
        )?;
        registry.register(Box::new(alerts.clone()))?;
        registry.register(Box::new(webhook_posts.clone()))?;
        let metrics = Self { alerts, webhook_posts };
        for severity in Severity::ALL {
            for outcome in Outcome::ALL {
                metrics.of(severity, outcome);
            }
        }
        Ok(metrics)
    }

    pub(super) fn count(&self, severity: Severity, outcome: Outcome) {
        self.of(severity, outcome).inc();
    }

    /// Counters of one webhook's accepted and failed posts.
    pub(super) fn for_webhook(&self, name: &str) -> [IntCounter; 2] {
        ["accepted", "failed"].map(|outcome| self.webhook_posts.with_label_values(&[name, outcome]))
    }

    pub(super) fn of(&self, severity: Severity, outcome: Outcome) -> IntCounter {
        self.alerts.with_label_values(&[severity.as_str(), outcome.as_str()])
    }
}
