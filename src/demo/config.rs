//! The configuration an operator would write for the demo's venue, and the keeper's key.
//!
//! Must not: put the key into the configuration.

use alloy::{primitives::keccak256, signers::local::PrivateKeySigner};
use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{census::AT_RISK_HEALTH_FACTOR_BPS, pool::Membership, venue::Venue};
use crate::types::{Address, B256};

/// The deployment's name in configuration and journal.
pub(super) const DEPLOYMENT: &str = "demo";
/// The adapter the demo's venue needs.
pub(super) const ADAPTER: &str = "reference_venue";
/// The variable through which the daemon gets its key.
pub(super) const KEY_VARIABLE: &str = "BACKSTOP_DEMO_KEEPER_KEY";
/// Depth at which the daemon takes a transaction for final.
pub(super) const FINALITY_DEPTH_BLOCKS: u64 = 3;

/// The keeper's key: derived from the seed, so that a demo repeats; worth nothing on any other chain.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    pub(super) key: B256,
    /// Its address.
    pub(super) address: Address,
}

impl Keeper {
    /// The keeper of this seed.
    pub(super) fn new(seed: u64) -> Result<Self> {
        let key = keccak256(format!("demo {seed} keeper key"));
        let address = PrivateKeySigner::from_bytes(&key).context("derive the keeper's key")?.address();
        Ok(Self { key, address })
    }
}

/// What the daemon is told.
#[derive(Debug)]
pub(super) struct Settings<'a> {
    /// Its database.
    pub(super) database_url: &'a str,
    /// Its node.
    pub(super) rpc_url: &'a str,
    /// The chain's id.
    pub(super) chain_id: u64,
    /// What it guards.
    pub(super) venue: &'a Venue,
    /// Where it serves metrics and health, on 127.0.0.1.
    pub(super) ops_port: u16,
    /// Recovery settings that differ from the defaults.
    pub(super) recovery: Option<&'a Value>,
}

/// The venue as its adapter is told of it.
pub(super) fn adapter_settings(venue: &Venue) -> Value {
    let mut told = json!({ "clearinghouse": venue.clearinghouse, "steward": venue.steward });
    if let Some(Membership { pool, member }) = venue.membership {
        told["backstop_pool"] = json!(pool);
        told["backstop_member"] = json!(member);
    }
    told
}

/// The same with the adapter's name.
pub(super) fn protocol(venue: &Venue) -> Value {
    let mut protocol = adapter_settings(venue);
    protocol["adapter"] = json!(ADAPTER);
    protocol
}

/// The configuration an operator would write for this deployment.
pub(super) fn config_text(settings: &Settings<'_>) -> Result<String> {
    let mut config = json!({
        // A daemon that is killed leaves its lease behind.
        "database": { "url": settings.database_url, "lease_seconds": 3 },
        "ops": { "listen": format!("127.0.0.1:{}", settings.ops_port) },
        "log": { "format": "text", "filter": "info" },
        "deployments": { DEPLOYMENT: {
            "chain_id": settings.chain_id,
            "rpc": { "url": settings.rpc_url, "timeout_ms": 10_000, "poll_interval_ms": 1_000 },
            "protocol": protocol(settings.venue),
            "indexer": { "audit_every_blocks": 10, "audit_units": 50 },
            "scanner": { "at_risk_health_factor_bps": AT_RISK_HEALTH_FACTOR_BPS },
            "executor": {
                "dry_run": false,
                "finality_depth_blocks": FINALITY_DEPTH_BLOCKS,
                "actions_per_block_max": 64,
                "block_gas_max": 55_000_000,
                // A socialised loss charges every solvent account of the segment in one transaction.
                "tx_gas_max": 40_000_000,
                "signer": { "kind": "env", "variable": KEY_VARIABLE },
            },
        } },
    });
    if let Some(recovery) = settings.recovery {
        config["deployments"][DEPLOYMENT]["recovery"] = recovery.clone();
    }
    toml::to_string_pretty(&config).context("write the daemon's configuration")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_configuration_is_toml_that_acts_and_keeps_the_key_out() {
        let keeper = Keeper::new(1).unwrap();
        let venue = Venue {
            admin: Address::ZERO,
            token: Address::ZERO,
            clearinghouse: Address::repeat_byte(1),
            steward: Address::repeat_byte(2),
            feeds: BTreeMap::new(),
            membership: None,
        };
        let settings = Settings {
            database_url: "postgres://backstop@%2Ftmp%2Fa%20\"b:5432/demo",
            rpc_url: "ws://127.0.0.1:1",
            chain_id: 31337,
            venue: &venue,
            ops_port: 9,
            recovery: None,
        };
        let text = config_text(&settings).unwrap();
        let parsed: toml::Table = text.parse().unwrap();
        assert_eq!(parsed["database"]["url"].as_str(), Some(settings.database_url));
        assert_eq!(parsed["deployments"][DEPLOYMENT]["executor"]["dry_run"].as_bool(), Some(false));
        assert!(!text.contains(&keeper.key.to_string()));
        assert_ne!(Keeper::new(2).unwrap().address, keeper.address);
    }
}
