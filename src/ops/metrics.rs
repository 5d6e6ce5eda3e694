//! The registry that every stage's metrics are registered with.

use prometheus::{IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use super::Health;

/// The process's metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
    ready: IntGaugeVec,
}

impl Metrics {
    /// A registry with the process's own figures and the build's version.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let build = IntGauge::with_opts(
            Opts::new("backstop_build_info", "Always 1; the version is in the label.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        registry.register(Box::new(build))?;
        let ready = IntGaugeVec::new(
            Opts::new("backstop_ops_deployment_ready", "1 while /readyz finds nothing wrong with the deployment."),
            &["deployment"],
        )?;
        registry.register(Box::new(ready.clone()))?;
        Ok(Self { registry, ready })
    }

    /// Where stages register theirs.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything in Prometheus' text format, readiness as it is now.
    pub(super) fn render(&self, health: &Health) -> Result<String, prometheus::Error> {
        for (name, verdict) in health.deployments_now() {
            self.ready.with_label_values(&[name.as_str()]).set(verdict.is_ok().into());
        }
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}
