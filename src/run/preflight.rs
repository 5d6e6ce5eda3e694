//! What must be true before a deployment may act: endpoint, chain id, code, roles, key.
//!
//! Each fault is one line that names the configuration key and the mend. Must not: send anything, or stop at the first
//! fault that does not make the next check meaningless.

use std::{fmt, iter, sync::Arc, time::Duration};

use crate::{
    chain::{Endpoint, EndpointError, Rpc, RpcMeter, RpcSettings},
    config,
    executor::signer::{self, KeySource, PasswordSource, Signer},
    pipeline::guards,
    protocols::{self, Adapter, ContractCheck, RoleCheck},
    recovery::Tier,
    types::{Address, BlockRef, CallOutcome, DeploymentName},
};

/// One thing that is wrong with a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The configuration key in full.
    pub key: String,
    /// What is wrong and, after a semicolon, what to do.
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

/// A deployment that passed.
pub struct Ready {
    /// Its node.
    pub rpc: Rpc,
    /// Its protocol.
    pub adapter: Arc<dyn Adapter>,
    /// Its keeper.
    pub signer: Box<dyn Signer>,
    /// The head the checks were made at.
    pub head: BlockRef,
}

/// Checks one deployment against its chain.
pub async fn check(
    name: &DeploymentName,
    deployment: &config::Deployment,
    meter: RpcMeter,
) -> Result<Ready, Vec<Fault>> {
    let at = |key: &str, problem: String| Fault { key: format!("deployments.{name}.{key}"), problem };
    let settings = deployment.protocol.settings.clone();
    let adapter = protocols::adapter(&deployment.protocol.adapter, serde_json::Value::Object(settings))
        .map_err(|error| vec![at("protocol", error.to_string())])?;
    let signer = signer::open(&key_source(&deployment.executor.signer))
        .map_err(|error| vec![at("executor.signer", error.to_string())])?;
    let rpc = connect(deployment, meter).await.map_err(|problem| vec![at("rpc.url", problem)])?;
    let unreachable = |error| vec![at("rpc.url", format!("{error}; check the endpoint and that it is reachable"))];
    let foreign = foreign_endpoints(&rpc, deployment.chain_id).await;
    if !foreign.is_empty() {
        return Err(foreign.into_iter().map(|problem| at("chain_id", problem)).collect());
    }
    let head = rpc.head().await.map_err(unreachable)?;
    let manifest = adapter.manifest(signer.address());
    let mut faults = Vec::new();
    for contract in &manifest.contracts {
        let fault = contract_fault(&rpc, contract, &head).await;
        faults.extend(fault.map(|problem| at(&format!("protocol.{}", contract.key), problem)));
    }
    match guards::deviations(&rpc, &manifest.guards, &head).await {
        Ok(deviations) => faults.extend(deviations.into_iter().map(|deviation| at("protocol", deviation))),
        Err(error) => faults.push(at("rpc.url", format!("the contracts' versions cannot be read: {error}; try again"))),
    }
    // a role cannot be asked of a contract that is not there
    if faults.is_empty() {
        let tiers: Vec<Tier> = deployment.recovery.tiers.iter().map(|tier| tier.tier).collect();
        for role in manifest.roles.iter().filter(|role| role.needed_for.iter().any(|tier| tiers.contains(tier))) {
            let fault = role_fault(&rpc, role, signer.address(), &head).await;
            faults.extend(fault.map(|problem| at("executor.signer", problem)));
        }
    }
    if faults.is_empty() { Ok(Ready { rpc, adapter, signer, head }) } else { Err(faults) }
}

/// What is wrong with endpoints that follow another chain. One that does not answer is asked again before it is used.
async fn foreign_endpoints(rpc: &Rpc, expected: u64) -> Vec<String> {
    let mut problems = Vec::new();
    for (endpoint, answer) in rpc.chain_ids().await {
        match answer {
            Ok(actual) if actual != expected => problems.push(format!(
                "configured {expected}, but {endpoint} answers {actual}; write endpoints of the right chain or mend chain_id"
            )),
            Ok(_) => {}
            Err(error) => tracing::warn!(%endpoint, %error, "endpoint does not say which chain it follows"),
        }
    }
    problems
}

async fn connect(deployment: &config::Deployment, meter: RpcMeter) -> Result<Rpc, String> {
    let urls: Vec<Endpoint> = iter::once(&deployment.rpc.url)
        .chain(&deployment.rpc.fallback_urls)
        .map(|url| url.expose().parse())
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{error}"))?;
    let relay = deployment.executor.relay_url.as_ref().map(|url| url.expose().parse());
    let settings = RpcSettings {
        urls,
        relay: relay.transpose().map_err(|error: EndpointError| format!("{error}"))?,
        chain_id: deployment.chain_id,
        quorum: deployment.rpc.quorum,
        timeout: Duration::from_millis(deployment.rpc.timeout_ms),
        poll_interval: Duration::from_millis(deployment.rpc.poll_interval_ms),
        log_range_blocks_max: deployment.rpc.log_range_blocks_max,
    };
    Rpc::connect(&settings, meter)
        .await
        .map_err(|error| format!("{error}; check the endpoint and that it is reachable"))
}

async fn contract_fault(rpc: &Rpc, contract: &ContractCheck, head: &BlockRef) -> Option<String> {
    let address = contract.address;
    let code = match rpc.code(address, head.hash).await {
        Ok(code) => code,
        Err(error) => return Some(format!("the code of {address} cannot be read: {error}; try again")),
    };
    if code.is_empty() {
        return Some(format!("{address} has no code on this chain; write the contract's address"));
    }
    let hash = alloy::primitives::keccak256(&code);
    let pinned = contract.code_hash.filter(|pinned| *pinned != hash)?;
    Some(format!("{address} has code {hash}, not the pinned {pinned}; verify the new code, then pin its hash"))
}

async fn role_fault(rpc: &Rpc, role: &RoleCheck, keeper: Address, head: &BlockRef) -> Option<String> {
    let held = match rpc.call(&role.call, None, head.hash).await {
        Ok(CallOutcome::Returned(word)) => match &role.expected {
            Some(expected) => word == *expected,
            None => word.iter().any(|byte| *byte != 0),
        },
        Ok(CallOutcome::Reverted(_)) => false,
        Err(error) => return Some(format!("{} cannot be read: {error}; try again", role.role)),
    };
    let tiers: Vec<&str> = role.needed_for.iter().map(|tier| tier.as_str()).collect();
    (!held).then(|| format!("keeper {keeper} lacks {}, needed for {}; {}", role.role, tiers.join(", "), role.mend))
}

fn key_source(signer: &config::Signer) -> KeySource {
    match signer.clone() {
        config::Signer::Watch { address } => KeySource::Watch { address },
        config::Signer::Env { variable } => KeySource::Env { variable },
        config::Signer::KeyFile { path } => KeySource::KeyFile { path },
        config::Signer::Keystore { path, password_env: Some(variable), .. } => {
            KeySource::Keystore { path, password: PasswordSource::Env { variable } }
        }
        config::Signer::Keystore { path, password_file, .. } => {
            KeySource::Keystore { path, password: PasswordSource::File { path: password_file.unwrap_or_default() } }
        }
        config::Signer::AwsKms { key_id, address } => KeySource::AwsKms { key_id, address },
        config::Signer::Remote { url, address } => {
            let url = url.expose().parse().expect("invariant: a validated config has a URL here");
            KeySource::Remote { url, address }
        }
    }
}
