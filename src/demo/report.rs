//! What the demo found: JSON for machines, a table for people.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use super::audit::Absorbed;
use crate::{figures::Figures, types::U256};

/// The demo's result. Amounts of money are settlement-token units as decimal strings.
#[derive(Clone, Debug, Serialize)]
pub struct DemoReport {
    /// The venue's tokens are its accounts' claims and funds to the last unit, positions sum to zero, and nobody is left
    /// liquidatable or bankrupt.
    pub balanced: bool,
    /// Shortfalls that nobody paid.
    pub residual: String,
    /// Every unit of loss was paid exactly once, measured on both sides.
    pub conservation_ok: bool,
    /// Accounts liquidated at least in part.
    pub liquidated: usize,
    /// Accounts whose equity fell below zero.
    pub bankrupt: usize,
    /// Who bore the losses.
    pub absorbed: Absorbed,
    /// Accounts that the daemon's cache values otherwise than the chain.
    pub cache_mismatches: u64,
    /// Whether anything of the waterfall happened in the segment that did not fall.
    pub healthy_segment_touched: bool,
    /// Blocks from breach to repair of the account that waited longest.
    pub blocks_to_repair_max: u64,
    /// From start to here.
    pub wall_seconds: f64,
    /// The story's seed.
    pub seed: u64,
    /// Accounts on the venue.
    pub accounts: usize,
    /// Accounts that were at risk or worse at the end of some block.
    pub at_risk: usize,
    /// Accounts that were liquidatable or bankrupt at the end of some block.
    pub breached: usize,
    /// Shortfalls that arose.
    pub bad_debt: String,
    /// Winners that were deleveraged.
    pub deleveraged: usize,
    /// Accounts that paid a socialised loss.
    pub payers: usize,
    /// Moves of margin parameters.
    pub margin_moves: u64,
    /// Accounts whose cached value was compared with the chain's.
    pub accounts_compared: usize,
    /// Transactions of the keeper on chain.
    pub transactions: usize,
    /// Those of them that reverted.
    pub transactions_reverted: usize,
    /// Gas they used.
    pub gas_used: u64,
    /// What that gas cost.
    pub gas_cost_wei: String,
    /// Whether the daemon was killed and started again on the way.
    pub killed: bool,
    /// Blocks of the fall and the repair.
    pub blocks: u64,
    /// Tokens the venue holds.
    pub token_balance: String,
    /// What is wrong, if anything; empty means that the demo passed.
    pub faults: Vec<String>,
}

impl DemoReport {
    /// Writes the report as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
        }
        let mut text = serde_json::to_string_pretty(self).context("write the report")?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
    }

    /// What must hold of any run, against its bar.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        figures.exactly("balanced", self.balanced, true);
        figures.exactly("conservation_ok", self.conservation_ok, true);
        figures.exactly("residual", self.residual.as_str(), "0");
        figures.exactly("cache_mismatches", self.cache_mismatches, 0);
        figures.exactly("healthy_segment_touched", self.healthy_segment_touched, false);
        figures.exactly("faults", self.faults.len(), 0);
        figures
    }

    /// The table a risk manager reads.
    pub fn table(&self) -> String {
        let mut table = String::new();
        let mut row = |name: &str, value: String, note: String| {
            // Writing to a string cannot fail.
            let _ = writeln!(table, "  {name:<24}{value:>20}  {note}");
        };
        let money = |units: &str| dollars(units.parse().unwrap_or_default());
        row("accounts", self.accounts.to_string(), String::new());
        row("  at risk", self.at_risk.to_string(), "ever below 1.25 times their maintenance margin".to_owned());
        row(
            "  in breach",
            self.breached.to_string(),
            "below their maintenance margin at the end of a block".to_owned(),
        );
        row("  liquidated", self.liquidated.to_string(), String::new());
        row("  bankrupt", self.bankrupt.to_string(), "worth less than nothing at some point".to_owned());
        row("paid by own margin", dollars(self.absorbed.liquidation), "losses and fees of liquidations".to_owned());
        row("bad debt", money(&self.bad_debt), "what their own margin could not pay".to_owned());
        row("  insurance fund", dollars(self.absorbed.insurance_fund), String::new());
        row("  auto-deleverage", dollars(self.absorbed.auto_deleverage), format!("{} winners", self.deleveraged));
        row("  shared backstop", dollars(self.absorbed.shared_backstop), "a pool of several venues".to_owned());
        row("  socialised loss", dollars(self.absorbed.socialise_loss), format!("{} payers", self.payers));
        row("  residual", money(&self.residual), "paid by nobody".to_owned());
        row("breach to repair", format!("{} blocks", self.blocks_to_repair_max), "for the slowest account".to_owned());
        row("margins recalibrated", self.margin_moves.to_string(), String::new());
        let reverted = format!("{} reverted", self.transactions_reverted);
        row("transactions", self.transactions.to_string(), reverted);
        row("gas", self.gas_used.to_string(), format!("{} wei", self.gas_cost_wei));
        row("tokens in the venue", money(&self.token_balance), "= claims of accounts + insurance funds".to_owned());
        row(
            "cache against chain",
            self.cache_mismatches.to_string(),
            format!("mismatches in {}", self.accounts_compared),
        );
        row("wall time", format!("{:.1} s", self.wall_seconds), format!("{} blocks", self.blocks));
        table
    }
}

/// Settlement-token units (six decimals) as dollars and cents, rounded down, with groups of three digits.
pub(super) fn dollars(units: U256) -> String {
    let cents = units / U256::from(10_000);
    let (whole, cents) = cents.div_rem(U256::from(100));
    let digits = whole.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("${grouped}.{:02}", cents.to::<u8>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_grouped_and_cut_to_cents() {
        for (units, text) in [
            (0_u64, "$0.00"),
            (9_999, "$0.00"),
            (10_000, "$0.01"),
            (999_999_999, "$999.99"),
            (1_000_000_000, "$1,000.00"),
            (1_234_567_891_234, "$1,234,567.89"),
        ] {
            assert_eq!(dollars(U256::from(units)), text);
        }
    }
}
