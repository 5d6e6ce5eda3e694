//! The executor's metrics. Closed label sets, present at zero from the start.

use prometheus::{CounterVec, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::gate::GateRefusal;
use crate::types::{DeploymentName, U256};

/// What became of a transaction or an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Broadcast for the first time.
    Sent,
    /// Mined with success.
    Included,
    /// Mined without success.
    Reverted,
    /// Refused before it was signed.
    Rejected,
    /// Replaced by a dearer attempt or a cancellation.
    Replaced,
    /// Its nonce went to a foreign transaction.
    Superseded,
    /// Final.
    Final,
    /// Taken back by a reorganisation.
    Reorged,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Sent,
        Self::Included,
        Self::Reverted,
        Self::Rejected,
        Self::Replaced,
        Self::Superseded,
        Self::Final,
        Self::Reorged,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Included => "included",
            Self::Reverted => "reverted",
            Self::Rejected => "rejected",
            Self::Replaced => "replaced",
            Self::Superseded => "superseded",
            Self::Final => "final",
            Self::Reorged => "reorged",
        }
    }
}

/// Metrics of all deployments of a process.
#[derive(Clone, Debug)]
pub struct ExecutorMetrics {
    transactions: IntCounterVec,
    inclusion_blocks: HistogramVec,
    gas_used: IntCounterVec,
    fee_wei: CounterVec,
    unsettled: IntGaugeVec,
    keeper_balance_wei: GaugeVec,
    gate_refusals: IntCounterVec,
}

impl ExecutorMetrics {
    /// Registers them.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let by_deployment = &["deployment"];
        let metrics = Self {
            transactions: IntCounterVec::new(
                Opts::new("backstop_executor_transactions_total", "Transactions by what became of them"),
                &["deployment", "outcome"],
            )?,
            inclusion_blocks: HistogramVec::new(
                HistogramOpts::new(
                    "backstop_executor_inclusion_blocks",
                    "Blocks from the first signature to inclusion",
                )
                .buckets(vec![1.0, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0]),
                by_deployment,
            )?,
            gas_used: IntCounterVec::new(
                Opts::new("backstop_executor_gas_used_total", "Gas of our mined transactions"),
                by_deployment,
            )?,
            fee_wei: CounterVec::new(
                Opts::new("backstop_executor_fee_wei_total", "Wei paid for gas of our mined transactions"),
                by_deployment,
            )?,
            unsettled: IntGaugeVec::new(
                Opts::new("backstop_executor_unsettled_transactions", "Transactions that are not final"),
                by_deployment,
            )?,
            keeper_balance_wei: GaugeVec::new(
                Opts::new("backstop_executor_keeper_balance_wei", "Native balance of the keeper"),
                by_deployment,
            )?,
            gate_refusals: IntCounterVec::new(
                Opts::new("backstop_executor_gate_refusals_total", "Signatures and broadcasts the gate refused"),
                &["deployment", "reason"],
            )?,
        };
        registry.register(Box::new(metrics.transactions.clone()))?;
        registry.register(Box::new(metrics.inclusion_blocks.clone()))?;
        registry.register(Box::new(metrics.gas_used.clone()))?;
        registry.register(Box::new(metrics.fee_wei.clone()))?;
        registry.register(Box::new(metrics.unsettled.clone()))?;
        registry.register(Box::new(metrics.keeper_balance_wei.clone()))?;
        registry.register(Box::new(metrics.gate_refusals.clone()))?;
        Ok(metrics)
    }

    /// One deployment's metrics, all of them present.
    pub fn for_deployment(&self, name: &DeploymentName) -> DeploymentMetrics {
        let deployment = name.as_str().to_owned();
        for outcome in Outcome::ALL {
            self.transactions.with_label_values(&[deployment.as_str(), outcome.as_str()]);
        }
        for reason in GateRefusal::REASONS {
            self.gate_refusals.with_label_values(&[deployment.as_str(), reason]);
        }
        self.inclusion_blocks.with_label_values(&[&deployment]);
        self.gas_used.with_label_values(&[&deployment]);
        self.fee_wei.with_label_values(&[&deployment]);
        self.unsettled.with_label_values(&[&deployment]);
        self.keeper_balance_wei.with_label_values(&[&deployment]);
        DeploymentMetrics { all: self.clone(), deployment }
    }
}

/// One deployment's handle.
#[derive(Clone, Debug)]
pub struct DeploymentMetrics {
    all: ExecutorMetrics,
    deployment: String,
}

impl DeploymentMetrics {
    pub(super) fn count(&self, outcome: Outcome) {
        self.all.transactions.with_label_values(&[self.deployment.as_str(), outcome.as_str()]).inc();
    }

    pub(super) fn mined(&self, waited_blocks: u64, gas_used: u64, effective_gas_price: u128) {
        self.all.inclusion_blocks.with_label_values(&[&self.deployment]).observe(waited_blocks as f64);
        self.all.gas_used.with_label_values(&[&self.deployment]).inc_by(gas_used);
        self.all.fee_wei.with_label_values(&[&self.deployment]).inc_by(gas_used as f64 * effective_gas_price as f64);
    }

    pub(super) fn unsettled(&self, transactions: usize) {
        let transactions = i64::try_from(transactions).unwrap_or(i64::MAX);
        self.all.unsettled.with_label_values(&[&self.deployment]).set(transactions);
    }

    pub(super) fn keeper_balance(&self, wei: U256) {
        self.all.keeper_balance_wei.with_label_values(&[&self.deployment]).set(f64::from(wei));
    }

    pub(super) fn refused(&self, refusal: &GateRefusal) {
        self.all.gate_refusals.with_label_values(&[self.deployment.as_str(), refusal.reason()]).inc();
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn every_series_is_present_before_anything_happened() {
        let registry = Registry::new();
        let metrics = ExecutorMetrics::new(&registry).unwrap();
        metrics.for_deployment(&"venue".parse().unwrap());
        let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for outcome in Outcome::ALL {
            let labels = format!(r#"{{deployment="venue",outcome="{}"}} 0"#, outcome.as_str());
            assert!(text.contains(&format!("backstop_executor_transactions_total{labels}")));
        }
        for reason in GateRefusal::REASONS {
            let labels = format!(r#"{{deployment="venue",reason="{reason}"}} 0"#);
            assert!(text.contains(&format!("backstop_executor_gate_refusals_total{labels}")));
        }
    }
}
