//! What an operator learns about the link to the node.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::{RpcError, method::Method};
use crate::types::DeploymentName;

/// Request metrics of all deployments.
#[derive(Clone, Debug)]
pub struct RpcMetrics {
    /// Requests by method and outcome: which calls fail, and how.
    requests: IntCounterVec,
    /// Time to an answer or to the failure, by method: is the node slow?
    duration: HistogramVec,
    /// Times that another endpoint took over.
    failovers: IntCounterVec,
    /// Answers of two endpoints that contradict each other.
    disagreements: IntCounterVec,
}

/// Outcomes of a request, as labels. A revert is an answer.
const OUTCOMES: [&str; 6] = ["ok", "reverted", "timeout", "transport", "node", "malformed"];

impl RpcMetrics {
    /// Registers the metrics.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("backstop_rpc_requests_total", "JSON-RPC requests by method and outcome."),
            &["deployment", "method", "outcome"],
        )?;
        let duration = HistogramVec::new(
            HistogramOpts::new("backstop_rpc_request_duration_seconds", "Time to the answer of a JSON-RPC request.")
                .buckets(vec![0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]),
            &["deployment", "method"],
        )?;
        let failovers = IntCounterVec::new(
            Opts::new("backstop_rpc_failovers_total", "Times that another endpoint became the preferred one."),
            &["deployment"],
        )?;
        let disagreements = IntCounterVec::new(
            Opts::new("backstop_rpc_disagreements_total", "Questions that two endpoints answered differently."),
            &["deployment"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(failovers.clone()))?;
        registry.register(Box::new(disagreements.clone()))?;
        Ok(Self { requests, duration, failovers, disagreements })
    }

    /// One deployment's part, every label set at zero.
    pub fn for_deployment(&self, deployment: &DeploymentName) -> RpcMeter {
        for method in Method::ALL {
            self.duration.with_label_values(&[deployment.as_str(), method.as_str()]);
            for outcome in OUTCOMES {
                self.requests.with_label_values(&[deployment.as_str(), method.as_str(), outcome]);
            }
        }
        self.failovers.with_label_values(&[deployment.as_str()]);
        self.disagreements.with_label_values(&[deployment.as_str()]);
        RpcMeter { metrics: self.clone(), deployment: deployment.clone() }
    }
}

/// Request metrics of one deployment.
#[derive(Clone, Debug)]
pub struct RpcMeter {
    metrics: RpcMetrics,
    deployment: DeploymentName,
}

impl RpcMeter {
    pub(super) fn observe(&self, method: Method, error: Option<&RpcError>, took: Duration) {
        let outcome = match error {
            None => "ok",
            Some(error) if error.revert_data().is_some() => "reverted",
            Some(RpcError::Timeout { .. }) => "timeout",
            Some(RpcError::Transport { .. }) => "transport",
            Some(RpcError::Malformed { .. }) => "malformed",
            // The last two are never the outcome of one request.
            Some(
                RpcError::Node { .. }
                | RpcError::NotFound { .. }
                | RpcError::WrongChain { .. }
                | RpcError::Disagreement { .. },
            ) => "node",
        };
        let deployment = self.deployment.as_str();
        self.metrics.requests.with_label_values(&[deployment, method.as_str(), outcome]).inc();
        self.metrics.duration.with_label_values(&[deployment, method.as_str()]).observe(took.as_secs_f64());
    }
    pub(super) fn failed_over(&self) {
        self.metrics.failovers.with_label_values(&[self.deployment.as_str()]).inc();
    }

    pub(super) fn disagreed(&self) {
        self.metrics.disagreements.with_label_values(&[self.deployment.as_str()]).inc();
    }
}
