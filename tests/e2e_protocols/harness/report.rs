//! The report of one protocol's story, and whether it is good.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{Accounting, stage::report_folder};

/// Most faults of one kind that are spelled out on the console; all of them are in `faults.txt`.
const FAULTS_SHOWN_MAX: usize = 10;

/// What the story showed.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    pub(super) accounts: usize,
    /// Blocks that the daemon lived through.
    pub(super) blocks: u64,
    /// Accounts and probes that differed from the chain, in words.
    pub(super) health_mismatches: Vec<String>,
    /// Accounts that waited too long, in words.
    pub(super) missed_liquidatable: Vec<String>,
    /// Transactions that should not have been sent, in words.
    pub(super) wrongly_sent: Vec<String>,
    /// The keeper's transactions that reverted.
    pub(super) reverted_sends: usize,
    pub(super) accounting: Accounting,
    /// What else makes the story worthless or wrong.
    pub(super) faults: Vec<String>,
    /// Further figures of the harness.
    pub(super) further: Map<String, Value>,
}

impl Report {
    /// The JSON object.
    pub(super) fn to_json(&self) -> Value {
        let mut report = json!({
            "accounts": self.accounts,
            "blocks": self.blocks,
            "health_mismatches": self.health_mismatches.len(),
            "missed_liquidatable": self.missed_liquidatable.len(),
            "wrongly_sent": self.wrongly_sent.len(),
            "reverted_sends": self.reverted_sends,
            "liquidated": self.accounting.liquidated,
            "bad_debt_created": self.accounting.bad_debt_created.to_string(),
            "bad_debt_covered": self.accounting.bad_debt_covered.to_string(),
        });
        if let Value::Object(report) = &mut report {
            report.extend(self.further.clone());
            report.extend(self.accounting.further.clone());
        }
        report
    }

    /// Everything that is wrong, in words.
    pub(super) fn all_faults(&self) -> Vec<String> {
        let kinds = [
            ("health mismatch", &self.health_mismatches),
            ("missed", &self.missed_liquidatable),
            ("wrongly sent", &self.wrongly_sent),
            ("fault", &self.faults),
        ];
        let mut all: Vec<String> =
            kinds.iter().flat_map(|(kind, faults)| faults.iter().map(move |f| format!("{kind}: {f}"))).collect();
        if self.accounting.liquidated == 0 {
            all.push("fault: nothing was liquidated, so nothing was shown".to_owned());
        }
        all
    }

    /// Writes report and faults, and answers where the report is.
    pub(super) fn write(&self, name: &str) -> Result<PathBuf> {
        let path = report_folder().join(format!("{name}.json"));
        let text = serde_json::to_string(&self.to_json()).context("encode the report")?;
        fs::write(&path, format!("{text}\n")).with_context(|| format!("write {}", path.display()))?;
        let faults = report_folder().join(name).join("faults.txt");
        fs::write(&faults, self.all_faults().join("\n")).with_context(|| format!("write {}", faults.display()))?;
        Ok(path)
    }

    /// Prints it.
    pub(super) fn print(&self, name: &str) {
        println!("{name}: {}", self.to_json());
        let lists = [&self.health_mismatches, &self.missed_liquidatable, &self.wrongly_sent, &self.faults];
        for fault in lists.iter().flat_map(|list| list.iter().take(FAULTS_SHOWN_MAX)) {
            println!("  FAULT  {fault}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_good_only_where_something_was_liquidated_and_nothing_is_wrong() {
        let accounting = Accounting { liquidated: 3, ..Accounting::default() };
        let good = Report { accounting, ..Report::default() };
        assert_eq!(good.all_faults(), Vec::<String>::new());
        let spoilt: [fn(&mut Report); 5] = [
            |report| report.accounting.liquidated = 0,
            |report| report.health_mismatches.push("x".into()),
            |report| report.missed_liquidatable.push("x".into()),
            |report| report.wrongly_sent.push("x".into()),
            |report| report.faults.push("x".into()),
        ];
        for spoil in spoilt {
            let mut bad = good.clone();
            spoil(&mut bad);
            assert_eq!(bad.all_faults().len(), 1);
        }
        assert_eq!(good.to_json()["bad_debt_created"], "0");
    }
}
