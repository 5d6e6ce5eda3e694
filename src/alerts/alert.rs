//! What an alert says, and what identifies it.

use std::fmt;

use serde::Serialize;

use crate::types::DeploymentName;

/// Longest subject of a key, in characters.
const SUBJECT_CHARS_MAX: usize = 128;
/// Longest detail, in characters: what a chat message or a log line bears.
const DETAIL_CHARS_MAX: usize = 2_000;

/// How soon a person must look. Ordered: later is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth knowing; nothing to do.
    Info,
    /// Look today.
    Warning,
    /// Look now: money is at stake or backstop is blind.
    Critical,
}

impl Severity {
    /// Every severity, mildest first.
    pub const ALL: [Self; 3] = [Self::Info, Self::Warning, Self::Critical];

    /// The word used in config, metrics, SQL and payloads.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The causes backstop alerts on. A closed list: each has its section in `docs/RUNBOOK.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertKind {
    /// No new head for too long: the endpoint is down, or the chain is.
    HeadStale,
    /// The cache differs from the chain at a pinned block.
    CacheMismatch,
    /// The indexer cannot get past a block.
    IndexerStuck,
    /// Postgres cannot be reached or refuses to write; nothing is sent meanwhile.
    JournalUnavailable,
    /// A unit's equity is below zero.
    Shortfall,
    /// A loss that no configured tier could absorb.
    ResidualLoss,
    /// An insurance fund is near its floor.
    FundLow,
    /// A transaction of ours was mined and reverted.
    ActionReverted,
    /// The venue refused an action in a way that means we built it wrong.
    ActionRejectedAsBug,
    /// A transaction needs a higher fee than the cap allows.
    FeeCapReached,
    /// The gate refused because the hourly spending limit is used up.
    SpendLimitReached,
    /// Somebody else signs with the keeper's key.
    ForeignNonce,
    /// The keeper's native balance is below its minimum.
    BalanceLow,
    /// The keeper lacks a role that a configured tier needs.
    RoleMissing,
    /// A price is older than the venue accepts; its market cannot be acted on.
    PriceStale,
    /// A reorganisation went deeper than the undo log; the cache is rebuilt.
    ReorgTooDeep,
    /// A plan's books did not balance; it was not sent.
    PlanImbalance,
    /// A transaction is not mined although it was replaced.
    TransactionStuck,
    /// A deployment does not act: another process runs it, or a check at start failed.
    DeploymentHalted,
    /// A fund cannot pay, and that blocks the protocol's own liquidation.
    FundBlocks,
    /// Booked bad debt stands and the keeper may not cover it.
    DeficitStands,
    /// The keeper holds, or has approved, too little of a token for what should be done.
    CapitalShort,
    /// A move of prices that is near would cost more than an insurance fund has.
    RunwayShort,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 23] = [
        Self::HeadStale,
        Self::CacheMismatch,
        Self::IndexerStuck,
        Self::JournalUnavailable,
        Self::Shortfall,
        Self::ResidualLoss,
        Self::FundLow,
        Self::ActionReverted,
        Self::ActionRejectedAsBug,
        Self::FeeCapReached,
        Self::SpendLimitReached,
        Self::ForeignNonce,
        Self::BalanceLow,
        Self::RoleMissing,
        Self::PriceStale,
        Self::ReorgTooDeep,
        Self::PlanImbalance,
        Self::TransactionStuck,
        Self::DeploymentHalted,
        Self::FundBlocks,
        Self::DeficitStands,
        Self::CapitalShort,
        Self::RunwayShort,
    ];

    /// The word in keys and payloads.
    pub fn as_str(self) -> &'static str {
        self.facts().0
    }

    /// Section of `docs/RUNBOOK.md`, as its heading's anchor.
    pub fn runbook(self) -> &'static str {
        self.facts().1
    }

    /// How bad it is unless the stage says otherwise.
    pub fn severity(self) -> Severity {
        self.facts().2
    }

    /// The cause in a few words.
    pub fn title(self) -> &'static str {
        self.facts().3
    }

    fn facts(self) -> (&'static str, &'static str, Severity, &'static str) {
        use Severity::{Critical, Warning};
        match self {
            Self::HeadStale => ("head_stale", "head-stale", Critical, "no new block"),
            Self::CacheMismatch => {
                ("cache_mismatch", "cache-mismatch", Critical, "position cache differs from the chain")
            }
            Self::IndexerStuck => ("indexer_stuck", "indexer-stuck", Critical, "indexer cannot pass a block"),
            Self::JournalUnavailable => {
                ("journal_unavailable", "journal-unavailable", Critical, "journal is unavailable; nothing is sent")
            }
            Self::Shortfall => ("shortfall", "shortfall", Warning, "units are bankrupt"),
            Self::ResidualLoss => {
                ("residual_loss", "residual-loss", Critical, "a loss remains that no tier could absorb")
            }
            Self::FundLow => ("fund_low", "fund-low", Warning, "insurance fund is low"),
            Self::ActionReverted => ("action_reverted", "action-reverted", Warning, "a mined transaction reverted"),
            Self::ActionRejectedAsBug => {
                ("action_rejected_as_bug", "action-rejected-as-bug", Critical, "an action was refused as malformed")
            }
            Self::FeeCapReached => ("fee_cap_reached", "fee-cap-reached", Critical, "fee cap holds a transaction back"),
            Self::SpendLimitReached => {
                ("spend_limit_reached", "spend-limit-reached", Critical, "hourly spending limit is used up")
            }
            Self::ForeignNonce => ("foreign_nonce", "foreign-nonce", Critical, "somebody else uses the keeper's key"),
            Self::BalanceLow => ("balance_low", "balance-low", Warning, "keeper balance is low"),
            Self::RoleMissing => ("role_missing", "role-missing", Critical, "keeper lacks a role"),
            Self::PriceStale => ("price_stale", "price-stale", Warning, "price is stale"),
            Self::ReorgTooDeep => {
                ("reorg_too_deep", "reorg-too-deep", Critical, "reorganisation deeper than the undo log")
            }
            Self::PlanImbalance => ("plan_imbalance", "plan-imbalance", Critical, "a plan does not balance"),
            Self::TransactionStuck => {
                ("transaction_stuck", "transaction-stuck", Critical, "a transaction is not mined")
            }
            Self::DeploymentHalted => ("deployment_halted", "deployment-halted", Critical, "deployment does not act"),
            Self::FundBlocks => ("fund_blocks", "fund-blocks", Critical, "an empty fund blocks liquidation"),
            Self::DeficitStands => ("deficit_stands", "deficit-stands", Critical, "bad debt stands uncovered"),
            Self::CapitalShort => ("capital_short", "capital-short", Critical, "the keeper's capital is short"),
            Self::RunwayShort => {
                ("runway_short", "runway-short", Warning, "a small move would exhaust an insurance fund")
            }
        }
    }
}

impl fmt::Display for AlertKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What makes two alerts the same one: deployment, cause and subject. Its text is the dedupe key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertKey {
    deployment: Option<DeploymentName>,
    kind: AlertKind,
    subject: String,
}

impl AlertKey {
    /// A key. `deployment` is `None` for what concerns the whole process; `subject` tells apart what one deployment can
    /// have several of (a segment, a unit, a transaction) and is empty otherwise.
    pub fn new(kind: AlertKind, deployment: Option<&DeploymentName>, subject: impl fmt::Display) -> Self {
        Self { deployment: deployment.cloned(), kind, subject: printable(&subject.to_string(), SUBJECT_CHARS_MAX) }
    }

    /// The cause.
    pub fn kind(&self) -> AlertKind {
        self.kind
    }

    /// The deployment concerned, if it is one.
    pub fn deployment(&self) -> Option<&DeploymentName> {
        self.deployment.as_ref()
    }

    /// What it is about within the deployment; may be empty.
    pub fn subject(&self) -> &str {
        &self.subject
    }
}

impl fmt::Display for AlertKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deployment = self.deployment.as_ref().map_or("-", DeploymentName::as_str);
        write!(f, "{deployment}/{}", self.kind)?;
        if self.subject.is_empty() { Ok(()) } else { write!(f, "/{}", self.subject) }
    }
}

/// A cause that holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What it is about.
    pub key: AlertKey,
    /// How bad it is.
    pub severity: Severity,
    /// Figures and identifiers for the person who looks; free of control characters, bounded in length.
    pub detail: String,
}

impl Alert {
    /// An alert with its kind's severity.
    pub fn new(key: AlertKey, detail: impl fmt::Display) -> Self {
        let severity = key.kind().severity();
        Self { key, severity, detail: printable(&detail.to_string(), DETAIL_CHARS_MAX) }
    }

    /// The same with another severity. Raising an open alert with a worse one tells it again.
    pub fn with_severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    /// The cause in a few words.
    pub fn title(&self) -> &'static str {
        self.key.kind().title()
    }

    /// Section of `docs/RUNBOOK.md`.
    pub fn runbook(&self) -> &'static str {
        self.key.kind().runbook()
    }
}

/// The text without control characters (revert strings bring NULs, which Postgres refuses), cut to `chars_max`.
fn printable(text: &str, chars_max: usize) -> String {
    let shown = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut kept: String = shown.clone().take(chars_max).collect();
    if shown.count() > chars_max {
        kept.pop();
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn kinds_are_listed_once_and_named_apart() {
        let words: BTreeSet<_> = AlertKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let anchors: BTreeSet<_> = AlertKind::ALL.iter().map(|kind| kind.runbook()).collect();
        assert_eq!((words.len(), anchors.len()), (AlertKind::ALL.len(), AlertKind::ALL.len()));
        for kind in AlertKind::ALL {
            assert_eq!(kind.as_str().replace('_', "-"), kind.runbook());
        }
    }

    fn document(path: &str) -> String {
        std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// Anchors of the runbook's sections.
    fn sections() -> BTreeSet<String> {
        let anchor = |heading: &str| heading.to_lowercase().replace(' ', "-");
        document("docs/RUNBOOK.md").lines().filter_map(|line| line.strip_prefix("## ")).map(anchor).collect()
    }

    #[test]
    fn every_kind_has_its_runbook_section() {
        let sections = sections();
        for kind in AlertKind::ALL {
            assert!(sections.contains(kind.runbook()), "docs/RUNBOOK.md has no section for {kind}");
        }
    }

    #[test]
    fn every_prometheus_rule_points_into_the_runbook() {
        let (rules, sections) = (document("deploy/prometheus/alerts.yml"), sections());
        let anchors: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("runbook: ")).collect();
        assert_eq!(anchors.len(), rules.matches("- alert: ").count());
        for link in anchors {
            let anchor = link.strip_prefix("docs/RUNBOOK.md#").unwrap();
            assert!(sections.contains(anchor), "docs/RUNBOOK.md has no section {anchor}");
        }
    }

    #[test]
    fn keys_say_deployment_cause_and_subject() {
        let name: DeploymentName = "venue".parse().unwrap();
        assert_eq!(AlertKey::new(AlertKind::Shortfall, Some(&name), 3).to_string(), "venue/shortfall/3");
        assert_eq!(AlertKey::new(AlertKind::HeadStale, Some(&name), "").to_string(), "venue/head_stale");
        assert_eq!(AlertKey::new(AlertKind::JournalUnavailable, None, "").to_string(), "-/journal_unavailable");
    }

    #[test]
    fn texts_are_printable_and_bounded() {
        let key = AlertKey::new(AlertKind::ActionReverted, None, "a\0b\nc");
        assert_eq!(key.subject(), "a b c");
        let alert = Alert::new(key, "x".repeat(DETAIL_CHARS_MAX + 1));
        assert_eq!(alert.detail.chars().count(), DETAIL_CHARS_MAX);
        assert!(alert.detail.ends_with('…'));
    }
}
