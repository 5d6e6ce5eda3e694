//! Configuration: typed, layered, and printed without its secrets.
//!
//! Layers, later wins: `config/default.toml` (compiled in), each file in the order given, the environment. What
//! `[deployment_defaults]` says after that is laid under every `[deployments.<name>]`.
//!
//! Invariants: a [`Config`] that exists has been validated; unknown keys are refused; every fault is one line that names
//! the key in full and the mend; no secret comes out through `Debug`, `Display` or [`Config::redacted_toml`].
//! Must not: be imported by a stage (`run` maps it to each stage's own settings), do I/O but read the files it is given.

mod decimal;
mod fault;
mod load;
mod secret;
mod validate;
mod word;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

pub use decimal::Decimal;
pub use fault::{ConfigError, Fault};
pub use secret::{Secret, SecretUrl};

use crate::{
    recovery::{AdlPolicy, Controller, Tier},
    scanner::risk::RiskSettings,
    types::{Address, DeploymentName, U256},
};

/// Everything an operator can set. Keys, units and defaults are explained in `config/reference.toml`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The journal's Postgres.
    pub database: Database,
    /// The operators' HTTP server and what readiness means.
    pub ops: Ops,
    /// Logging.
    pub log: Log,
    /// Who is told what.
    pub alerts: Alerts,
    /// The venues, by name.
    #[serde(default)]
    pub deployments: BTreeMap<DeploymentName, Deployment>,
}

/// `[database]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Postgres URL.
    pub url: SecretUrl,
    /// Pool size.
    pub connections_max: u32,
    /// How long a replica's lease of a deployment lasts, and so the longest until another takes over.
    pub lease_seconds: u64,
    /// How long findings, resolved alerts, actions' events and plans' inputs are kept; 0: for ever.
    pub keep_days: u32,
}

/// `[ops]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ops {
    /// Where `/metrics`, `/healthz` and `/readyz` answer.
    #[serde(deserialize_with = "word::socket_address")]
    pub listen: SocketAddr,
    /// Oldest head of a ready deployment.
    pub head_age_max_seconds: u64,
    /// Oldest scan of a ready deployment.
    pub scan_age_max_seconds: u64,
    /// Longest silence of the journal of a ready deployment.
    pub journal_age_max_seconds: u64,
    /// Most blocks the cache of a ready deployment is behind.
    pub lag_blocks_max: u64,
    /// Environment variable with the token that `POST /v1/reload` asks for; without it nothing can be changed over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_env: Option<String>,
    /// The token, read from `token_env` while loading.
    #[serde(skip)]
    pub token: Option<Secret>,
}

/// `[log]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    #[serde(deserialize_with = "word::one_of")]
    pub format: LogFormat,
    /// A `tracing` filter.
    pub filter: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[alerts]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Alerts {
    /// Reminder period of an alert whose cause stays true.
    pub repeat_after_seconds: u64,
    /// Receivers beside the log.
    pub webhooks: Vec<Webhook>,
}

/// `[[alerts.webhooks]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Its name in logs and metrics.
    pub name: String,
    /// Where the JSON goes.
    pub url: SecretUrl,
    /// Environment variable that holds the signing key.
    pub secret_env: Option<String>,
    /// The signing key, read from `secret_env` while loading.
    #[serde(skip)]
    pub secret: Option<Secret>,
    /// Mildest alert posted here.
    #[serde(deserialize_with = "word::one_of")]
    pub min_severity: Severity,
    /// Longest attempt.
    pub timeout_ms: u64,
}

/// How soon a person must look, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Look today.
    Warning,
    /// Look now.
    Critical,
}

/// `[deployments.<name>]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Whether it is watched at all.
    pub enabled: bool,
    /// What the endpoint must answer to `eth_chainId`.
    pub chain_id: u64,
    /// Where the cache begins.
    pub start_block: u64,
    /// The endpoint.
    pub rpc: Rpc,
    /// The adapter with its own settings.
    pub protocol: Protocol,
    /// Following the chain.
    pub indexer: Indexer,
    /// Looking for trouble.
    pub scanner: Scanner,
    /// Looking ahead.
    pub risk: RiskSettings,
    /// The waterfall.
    pub recovery: Recovery,
    /// What an action must bring, where the protocol offers actions with a price.
    pub policy: Policy,
    /// Acting.
    pub executor: Executor,
}

/// `[deployments.<name>.rpc]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rpc {
    /// HTTP or WebSocket endpoint.
    pub url: SecretUrl,
    /// Endpoints of the same chain that take over when the preferred one fails or stands still, in this order.
    pub fallback_urls: Vec<SecretUrl>,
    /// How many endpoints must say the same of state and logs: 1 or 2.
    pub quorum: u8,
    /// Longest request.
    pub timeout_ms: u64,
    /// How often the head is looked for.
    pub poll_interval_ms: u64,
    /// Widest range of one log query.
    pub log_range_blocks_max: u64,
}

/// `[deployments.<name>.protocol]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Protocol {
    /// The adapter's config word.
    pub adapter: String,
    /// The rest of the table: the adapter checks it.
    #[serde(flatten)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// `[deployments.<name>.indexer]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Indexer {
    /// Deepest reorganisation undone in place.
    pub reorg_depth_max: u64,
    /// Blocks per step of a backfill.
    pub backfill_chunk_blocks: u64,
    /// Blocks between audits; 0: none.
    pub audit_every_blocks: u64,
    /// Units per audit.
    pub audit_units: usize,
}

/// `[deployments.<name>.scanner]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scanner {
    /// Health factor, of 10000, below which a unit is at risk.
    pub at_risk_health_factor_bps: u32,
}

/// `[deployments.<name>.recovery]`: the part of a deployment that can be changed while it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovery {
    /// How deleveraging chooses winners: a word of the policies' registry.
    #[serde(deserialize_with = "word::adl_policy", serialize_with = "word::adl_policy_word")]
    pub adl_policy: &'static dyn AdlPolicy,
    /// The waterfall, in order.
    pub tiers: Vec<RecoveryTier>,
    /// What differs in some segments, by the segment's number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub segments: BTreeMap<String, SegmentRecovery>,
}

/// `[deployments.<name>.recovery.segments.<number>]`: what is not said here is as in `recovery`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentRecovery {
    /// How deleveraging chooses winners.
    #[serde(
        default,
        deserialize_with = "word::some_adl_policy",
        serialize_with = "word::some_adl_policy_word",
        skip_serializing_if = "Option::is_none"
    )]
    pub adl_policy: Option<&'static dyn AdlPolicy>,
    /// The whole waterfall, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tiers: Option<Vec<RecoveryTier>>,
}

/// One entry of `recovery.tiers`. Amounts are settlement-token units; a limit that is not said does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryTier {
    /// Which.
    #[serde(deserialize_with = "word::one_of")]
    pub tier: Tier,
    /// Most it absorbs in one plan: for one segment in one block.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub absorb_max: Option<Decimal<U256>>,
    /// Most it absorbs in one episode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub episode_max: Option<Decimal<U256>>,
    /// What the fund behind it keeps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Decimal<U256>>,
    /// Most accounts that one plan acts on, or makes pay, through it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units_max: Option<u32>,
    /// Blocks between two plans that use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown_blocks: Option<u64>,
    /// For recalibrate: margins follow volatility and the fund's runway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub controller: Option<Controller>,
}

/// `[deployments.<name>.policy]`. Values are in the segment's unit of account: the protocol's own, or units of the token
/// that a segment counts in.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// For profit or under mandate.
    #[serde(deserialize_with = "word::one_of")]
    pub mode: PolicyMode,
    /// Least gain of an action for profit.
    pub gain_min: Decimal<U256>,
    /// For profit: what leaves bad debt if left undone is done all the same, within the budget.
    pub bad_debt_overrides_profit: bool,
    /// Expected cost of swapping proceeds back, of their value.
    pub swap_cost_bps: u32,
    /// Value of one whole native coin in the protocol's unit of account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub native_value: Option<Decimal<U256>>,
    /// The same in units of a token, for segments that count in it.
    pub native_value_by_asset: BTreeMap<Address, Decimal<U256>>,
    /// Most wei that actions may cost above what they bring, in any 24 hours.
    pub budget_per_day_max_wei: Decimal<U256>,
    /// Most units of a token tied up at once; a token that is not here: all that the keeper holds.
    pub capital_max: BTreeMap<Address, Decimal<U256>>,
}

/// What an action must bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyMode {
    /// It must pay for itself.
    Profit,
    /// The protocol wants it done.
    Mandate,
}

/// `[deployments.<name>.executor]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Executor {
    /// Plan and journal, but sign and send nothing.
    pub dry_run: bool,
    /// Depth at which a mined transaction is final.
    pub finality_depth_blocks: u64,
    /// Age at which a transaction is replaced.
    pub replace_after_blocks: u64,
    /// Age at which a transaction is cancelled.
    pub cancel_after_blocks: u64,
    /// Most wei per gas ever offered.
    pub fee_cap_wei: Decimal<u128>,
    /// Most gas of one transaction.
    pub tx_gas_max: u64,
    /// Most transactions sent per block.
    pub actions_per_block_max: usize,
    /// Most gas of the transactions sent per block, together.
    pub block_gas_max: u64,
    /// Most wei of fees in any 60 minutes.
    pub spend_per_hour_max_wei: Decimal<U256>,
    /// Keeper balance below which an alert is raised, wei.
    pub balance_min_wei: Decimal<U256>,
    /// While this file exists nothing is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_file: Option<PathBuf>,
    /// A relay that shows transactions to builders alone, http or https; it answers `eth_sendRawTransaction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_url: Option<SecretUrl>,
    /// Blocks that a transaction is shown to the relay alone.
    pub relay_alone_blocks: u64,
    /// Where proceeds go, as far as the protocol lets the sender say so; else to the keeper.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proceeds: Option<Address>,
    /// Who sends.
    pub signer: Signer,
}

/// `[deployments.<name>.executor.signer]`: where the keeper's key is. The key itself is never in the config.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Signer {
    /// Nowhere: dry run only.
    Watch {
        /// As whom transactions are simulated.
        address: Address,
    },
    /// In an environment variable, hex.
    Env {
        /// Its name.
        variable: String,
    },
    /// In a file, hex.
    KeyFile {
        /// Where.
        path: PathBuf,
    },
    /// In an encrypted JSON keystore. Exactly one of the two passwords is given.
    Keystore {
        /// Where.
        path: PathBuf,
        /// Environment variable with the password.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password_env: Option<String>,
        /// File with the password.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password_file: Option<PathBuf>,
    },
    /// In AWS KMS; credentials and region come from where AWS's tools look. For builds with the feature `aws-kms`.
    AwsKms {
        /// The key's id, ARN or alias.
        key_id: String,
        /// The key's address.
        address: Address,
    },
    /// With another process that answers `eth_signTransaction`, as Web3Signer does.
    Remote {
        /// Where it listens, http or https.
        url: SecretUrl,
        /// The key's address.
        address: Address,
    },
}

impl Config {
    /// The effective configuration as TOML, secrets redacted.
    pub fn redacted_toml(&self) -> String {
        toml::to_string_pretty(self).expect("invariant: a validated config is representable in TOML")
    }

    /// The deployments to run, by name. At least one, or the fault that says so.
    pub fn enabled_deployments(&self) -> Result<BTreeMap<&DeploymentName, &Deployment>, ConfigError> {
        let enabled: BTreeMap<_, _> = self.deployments.iter().filter(|(_, deployment)| deployment.enabled).collect();
        if enabled.is_empty() {
            let problem = "none is enabled; give a --config file with a [deployments.<name>] table";
            return Err(ConfigError::from(Fault::new("deployments", problem)));
        }
        Ok(enabled)
    }
}

impl Deployment {
    /// The effective settings as JSON, secrets redacted: what the journal keeps of them.
    pub fn redacted_json(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("invariant: a validated config is representable in JSON")
    }
}
