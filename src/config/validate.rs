//! What types cannot say about a configuration.

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive};

use super::{
    Config, ConfigError, Deployment, Fault, Policy, PolicyMode, Recovery, RecoveryTier, SecretUrl, Signer, Webhook,
};
use crate::{
    recovery::{Controller, Tier},
    scanner::risk::RiskSettings,
};

/// Tiers with a fund behind them.
const FUNDED: [Tier; 3] = [Tier::InsuranceFund, Tier::SharedBackstop, Tier::Restitute];

impl Config {
    /// Finds every fault.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let mut faults = Faults(Vec::new());
        if !has_scheme(&self.database.url, &["postgres", "postgresql"]) {
            let mend = "write postgres://user:password@host:port/database";
            faults.add("database.url", format!("\"{}\" is not a postgres:// URL; {mend}", self.database.url));
        }
        faults.outside("database.lease_seconds", self.database.lease_seconds, 2..=600);
        faults.outside("database.keep_days", self.database.keep_days, 0..=36_500);
        faults.outside("database.connections_max", self.database.connections_max, 2..=200);
        for (key, seconds) in [
            ("ops.head_age_max_seconds", self.ops.head_age_max_seconds),
            ("ops.scan_age_max_seconds", self.ops.scan_age_max_seconds),
            ("ops.journal_age_max_seconds", self.ops.journal_age_max_seconds),
        ] {
            faults.outside(key, seconds, 1..=86_400);
        }
        faults.outside("ops.lag_blocks_max", self.ops.lag_blocks_max, 0..=1_000_000);
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&self.log.filter) {
            faults
                .add("log.filter", format!("is not a filter ({error}); write one like \"info,backstop::chain=debug\""));
        }
        faults.outside("alerts.repeat_after_seconds", self.alerts.repeat_after_seconds, 60..=2_592_000);
        let mut names = BTreeSet::new();
        for (index, webhook) in self.alerts.webhooks.iter().enumerate() {
            faults.webhook(&format!("alerts.webhooks[{index}]"), webhook, names.insert(&webhook.name));
        }
        for (name, deployment) in &self.deployments {
            faults.deployment(&format!("deployments.{name}"), deployment);
        }
        if faults.0.is_empty() { Ok(()) } else { Err(ConfigError(faults.0)) }
    }
}

struct Faults(Vec<Fault>);

impl Faults {
    fn add(&mut self, key: impl Into<String>, problem: impl Into<String>) {
        self.0.push(Fault::new(key, problem));
    }

    fn outside<T: PartialOrd + Display>(&mut self, key: impl Into<String>, value: T, range: RangeInclusive<T>) {
        if !range.contains(&value) {
            let (least, most) = range.into_inner();
            self.add(key, format!("{value} is out of range; write {least} to {most}"));
        }
    }

    fn webhook(&mut self, key: &str, webhook: &Webhook, first_of_its_name: bool) {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
        if webhook.name.is_empty() || webhook.name.len() > 32 || !webhook.name.chars().all(allowed) {
            self.add(
                format!("{key}.name"),
                format!("{:?} is no name; write 1 to 32 of a-z, 0-9, '_', '-'", webhook.name),
            );
        }
        if !first_of_its_name {
            self.add(format!("{key}.name"), format!("{:?} is another webhook's too; write a new name", webhook.name));
        }
        if !is_web_url(&webhook.url, &["http", "https"]) {
            let mend = "write https://host/path";
            self.add(format!("{key}.url"), format!("\"{}\" is not an http(s) URL; {mend}", webhook.url));
        }
        self.outside(format!("{key}.timeout_ms"), webhook.timeout_ms, 100..=60_000);
    }

    fn endpoint(&mut self, key: String, url: &SecretUrl) {
        if !is_web_url(url, &["http", "https", "ws", "wss"]) {
            let mend = "write http://host:port or ws://host:port";
            self.add(key, format!("\"{url}\" is not an http(s) or ws(s) URL; {mend}"));
        }
    }

    fn deployment(&mut self, key: &str, deployment: &Deployment) {
        // TOML and Postgres integers end at 63 bits.
        const INTEGER_MAX: u64 = i64::MAX as u64;
        self.outside(format!("{key}.chain_id"), deployment.chain_id, 1..=INTEGER_MAX);
        self.outside(format!("{key}.start_block"), deployment.start_block, 0..=INTEGER_MAX);
        let rpc = &deployment.rpc;
        self.endpoint(format!("{key}.rpc.url"), &rpc.url);
        for (index, url) in rpc.fallback_urls.iter().enumerate() {
            self.endpoint(format!("{key}.rpc.fallback_urls[{index}]"), url);
        }
        self.outside(format!("{key}.rpc.quorum"), u64::from(rpc.quorum), 1..=2);
        if rpc.quorum == 2 && rpc.fallback_urls.is_empty() {
            self.add(
                format!("{key}.rpc.quorum"),
                "is 2 with one endpoint; add another to rpc.fallback_urls or write 1",
            );
        }
        self.outside(format!("{key}.rpc.timeout_ms"), rpc.timeout_ms, 100..=120_000);
        self.outside(format!("{key}.rpc.poll_interval_ms"), rpc.poll_interval_ms, 50..=600_000);
        self.outside(format!("{key}.rpc.log_range_blocks_max"), rpc.log_range_blocks_max, 1..=100_000);
        if deployment.protocol.adapter.is_empty() {
            self.add(format!("{key}.protocol.adapter"), "is empty; write the adapter's name");
        }
        let indexer = &deployment.indexer;
        self.outside(format!("{key}.indexer.reorg_depth_max"), indexer.reorg_depth_max, 1..=10_000);
        self.outside(format!("{key}.indexer.backfill_chunk_blocks"), indexer.backfill_chunk_blocks, 1..=100_000);
        self.outside(format!("{key}.indexer.audit_every_blocks"), indexer.audit_every_blocks, 0..=1_000_000);
        self.outside(format!("{key}.indexer.audit_units"), indexer.audit_units, 1..=100_000);
        let at_risk_key = format!("{key}.scanner.at_risk_health_factor_bps");
        self.outside(at_risk_key, deployment.scanner.at_risk_health_factor_bps, 10_000..=1_000_000);
        self.risk(&format!("{key}.risk"), &deployment.risk);
        self.recovery(&format!("{key}.recovery"), &deployment.recovery);
        self.policy(&format!("{key}.policy"), &deployment.policy);
        self.executor(&format!("{key}.executor"), deployment);
    }

    fn risk(&mut self, key: &str, risk: &RiskSettings) {
        self.outside(format!("{key}.reaction_seconds"), risk.reaction_seconds, 1..=86_400);
        self.outside(format!("{key}.horizons_seconds"), risk.horizons_seconds.len(), 1..=8);
        for seconds in &risk.horizons_seconds {
            self.outside(format!("{key}.horizons_seconds"), *seconds, 1..=31_536_000);
        }
        self.outside(format!("{key}.watched_max"), risk.watched_max, 1..=1_000);
        self.outside(format!("{key}.report_every_seconds"), risk.report_every_seconds, 1..=86_400);
        self.outside(format!("{key}.runway_bps_min"), risk.runway_bps_min, 0..=9_900);
        for (driver, notional) in &risk.notional_of_one_percent {
            if !(notional.is_finite() && *notional > 0.0) {
                let key = format!("{key}.notional_of_one_percent.{driver}");
                self.add(key, format!("{notional} moves no price; write an amount above 0"));
            }
        }
        let moves = &risk.moves;
        self.outside(format!("{key}.moves.half_life_seconds"), moves.half_life_seconds, 1..=31_536_000);
        self.outside(format!("{key}.moves.pace_seconds"), moves.pace_seconds, 1..=86_400);
        let floor = format!("{key}.moves.volatility_per_day_bps_min");
        self.outside(floor, moves.volatility_per_day_bps_min, 1..=10_000);
    }

    fn recovery(&mut self, key: &str, recovery: &Recovery) {
        self.tiers(&format!("{key}.tiers"), &recovery.tiers);
        for (segment, own) in &recovery.segments {
            let key = format!("{key}.segments.{segment}");
            if segment.parse::<u32>().is_err() {
                self.add(&*key, format!("{segment:?} is no segment; write its number"));
            }
            if let Some(tiers) = &own.tiers {
                self.tiers(&format!("{key}.tiers"), tiers);
            }
        }
    }

    fn tiers(&mut self, key: &str, tiers: &[RecoveryTier]) {
        if tiers.is_empty() {
            self.add(key, "is empty; write at least { tier = \"liquidate\" }");
        }
        let mut seen = BTreeSet::new();
        for (index, tier) in tiers.iter().enumerate() {
            if !seen.insert(tier.tier) {
                self.add(format!("{key}[{index}].tier"), "is there twice; write each tier once");
            }
            for (name, limit) in [("absorb_max", tier.absorb_max), ("episode_max", tier.episode_max)] {
                if limit.is_some_and(|most| most.0.is_zero()) {
                    self.add(format!("{key}[{index}].{name}"), "is 0; leave the tier out instead");
                }
            }
            if tier.units_max == Some(0) {
                self.add(format!("{key}[{index}].units_max"), "is 0; leave the tier out instead");
            }
            if tier.floor.is_some() && !FUNDED.contains(&tier.tier) {
                let funded: Vec<&str> = FUNDED.iter().map(|tier| tier.as_str()).collect();
                let problem = format!("is for tiers with a fund behind them ({}); take it out", funded.join(", "));
                self.add(format!("{key}[{index}].floor"), problem);
            }
            if let Some(controller) = &tier.controller {
                self.controller(&format!("{key}[{index}].controller"), tier.tier, controller);
            }
            self.outside(format!("{key}[{index}].cooldown_blocks"), tier.cooldown_blocks.unwrap_or(0), 0..=1_000_000);
        }
    }

    fn controller(&mut self, key: &str, tier: Tier, controller: &Controller) {
        if tier != Tier::Recalibrate {
            self.add(key, "is for the tier recalibrate; take it out");
        }
        self.outside(format!("{key}.margin_multiple"), controller.margin_multiple, 1..=1_000);
        self.outside(format!("{key}.window"), controller.window, 2..=64);
        self.outside(format!("{key}.hysteresis_bps"), controller.hysteresis_bps, 0..=10_000);
        self.outside(format!("{key}.calm_seconds"), controller.calm_seconds, 0..=2_592_000);
        self.outside(format!("{key}.runway_seconds_min"), controller.runway_seconds_min, 1..=31_536_000);
    }

    fn policy(&mut self, key: &str, policy: &Policy) {
        self.outside(format!("{key}.swap_cost_bps"), policy.swap_cost_bps, 0..=10_000);
        let unvalued = policy.native_value.is_none() && policy.native_value_by_asset.is_empty();
        if policy.mode == PolicyMode::Profit && unvalued {
            let problem =
                "is needed to weigh gas against rewards; write the value of one native coin, or mode = \"mandate\"";
            self.add(format!("{key}.native_value"), problem);
        }
        let values = policy.native_value_by_asset.iter().map(|(asset, value)| (format!("_by_asset.{asset}"), value));
        let values = policy.native_value.iter().map(|value| (String::new(), value)).chain(values);
        for (which, _) in values.filter(|(_, value)| value.0.is_zero()) {
            self.add(format!("{key}.native_value{which}"), "is 0; leave it out if it is not known");
        }
    }

    fn executor(&mut self, key: &str, deployment: &Deployment) {
        let executor = &deployment.executor;
        self.outside(format!("{key}.finality_depth_blocks"), executor.finality_depth_blocks, 1..=10_000);
        self.outside(format!("{key}.replace_after_blocks"), executor.replace_after_blocks, 1..=10_000);
        self.outside(format!("{key}.cancel_after_blocks"), executor.cancel_after_blocks, 1..=100_000);
        if executor.cancel_after_blocks <= executor.replace_after_blocks {
            let (cancel, replace) = (executor.cancel_after_blocks, executor.replace_after_blocks);
            let problem = format!("{cancel} is not after replace_after_blocks = {replace}; write a larger number");
            self.add(format!("{key}.cancel_after_blocks"), problem);
        }
        self.outside(format!("{key}.fee_cap_wei"), executor.fee_cap_wei.0, 1..=u128::MAX);
        self.outside(format!("{key}.tx_gas_max"), executor.tx_gas_max, 21_000..=1_000_000_000);
        self.outside(format!("{key}.block_gas_max"), executor.block_gas_max, executor.tx_gas_max..=1_000_000_000);
        self.outside(format!("{key}.actions_per_block_max"), executor.actions_per_block_max, 1..=1_000);
        if executor.relay_url.as_ref().is_some_and(|url| !is_web_url(url, &["http", "https"])) {
            self.add(format!("{key}.relay_url"), "is no http or https URL; write where the relay takes transactions");
        }
        self.outside(format!("{key}.relay_alone_blocks"), executor.relay_alone_blocks, 1..=100);
        self.signer(&format!("{key}.signer"), &executor.signer, executor.dry_run);
    }

    fn signer(&mut self, key: &str, signer: &Signer, dry_run: bool) {
        match signer {
            Signer::Watch { .. } if !dry_run => {
                self.add(
                    format!("{key}.kind"),
                    "\"watch\" has no key to sign with; give one or set executor.dry_run = true",
                );
            }
            Signer::Keystore { password_env, password_file, .. }
                if password_env.is_some() == password_file.is_some() =>
            {
                self.add(key, "needs one password source; write either password_env or password_file");
            }
            Signer::Env { variable } if variable.is_empty() => {
                self.add(format!("{key}.variable"), "is empty; write the name of an environment variable");
            }
            Signer::Remote { url, .. } if !is_web_url(url, &["http", "https"]) => {
                self.add(format!("{key}.url"), "is no http or https URL; write where the signer listens");
            }
            Signer::AwsKms { key_id, .. } if key_id.is_empty() => {
                self.add(format!("{key}.key_id"), "is empty; write the key's id, ARN or alias");
            }
            Signer::Watch { .. }
            | Signer::AwsKms { .. }
            | Signer::Env { .. }
            | Signer::KeyFile { .. }
            | Signer::Keystore { .. }
            | Signer::Remote { .. } => {}
        }
    }
}

fn has_scheme(url: &SecretUrl, schemes: &[&str]) -> bool {
    url.scheme().is_some_and(|scheme| schemes.contains(&scheme))
}

fn is_web_url(url: &SecretUrl, schemes: &[&str]) -> bool {
    has_scheme(url, schemes) && reqwest::Url::parse(url.expose()).is_ok_and(|parsed| parsed.has_host())
}
