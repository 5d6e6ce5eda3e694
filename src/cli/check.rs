//! `backstop check`: every fault of a configuration and its surroundings, one line each.

use anyhow::bail;

use crate::{chain::RpcMetrics, config::Config, run};

/// Prints one line a check that passed; fails with one line a fault.
pub(super) async fn check(config: &Config) -> anyhow::Result<()> {
    let deployments = config.enabled_deployments()?;
    let mut faults: Vec<String> = Vec::new();
    match run::open_journal(&config.database).await {
        Ok(_) => println!("ok: database: reachable, schema is this build's"),
        Err(error) => faults.push(format!("{error:#}")),
    }
    let metrics = RpcMetrics::new(&prometheus::Registry::new())?;
    for (name, deployment) in deployments {
        match run::preflight::check(name, deployment, metrics.for_deployment(name)).await {
            Ok(ready) => println!(
                "ok: deployments.{name}: chain {} at block {}, code and roles in place, keeper {}, {}",
                deployment.chain_id,
                ready.head.number,
                ready.signer.address(),
                if deployment.executor.dry_run { "dry run" } else { "LIVE: transactions are sent" }
            ),
            Err(found) => faults.extend(found.iter().map(ToString::to_string)),
        }
    }
    if !faults.is_empty() {
        bail!(faults.join("\n"));
    }
    Ok(())
}
