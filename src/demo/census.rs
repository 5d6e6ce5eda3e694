//! A look at every account on chain, block by block: how each stands, and how long it stood badly.
//!
//! Invariants: figures are the venue's own view at one block hash; the audit's books are held against each of them.
//! Must not: take a figure from the daemon.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{
    audit::{Account, Books, Worth, signed},
    node::Node,
    scenario::BPS,
    venue::{Clearinghouse, Venue, answer},
};
use crate::types::{BlockRef, Call, U256};

/// An account with less equity than this part of its maintenance margin is at risk.
pub(super) const AT_RISK_HEALTH_FACTOR_BPS: u32 = 12_500;

/// How the accounts stand at one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Healthy, but near the maintenance margin.
    pub(super) at_risk: usize,
    /// Surplus below zero, equity not.
    pub(super) liquidatable: usize,
    /// Equity below zero.
    pub(super) bankrupt: usize,
}

impl Count {
    /// Whether no account waits for repair.
    pub(super) fn is_repaired(&self) -> bool {
        self.liquidatable == 0 && self.bankrupt == 0
    }
}

/// What the looks so far add up to.
#[derive(Clone, Debug, Default)]
pub(super) struct Census {
    /// Since which block each account stands in breach.
    breached_at: BTreeMap<Account, u64>,
    /// Every account that was ever at risk or worse, by segment and owner.
    pub(super) at_risk: BTreeSet<Account>,
    /// Every account that was ever liquidatable or bankrupt at the end of a block.
    pub(super) breached: BTreeSet<Account>,
    /// Blocks from the first with the breach to the first without it, for the slowest repair so far.
    pub(super) repair_blocks_max: u64,
    /// Times that the books rebuilt from logs differed from the chain's view, and the first of them in words.
    pub(super) mismatches: u64,
    pub(super) first_mismatch: Option<String>,
}

impl Census {
    /// Looks at every account of the books at `block`, whose logs the books contain.
    pub(super) async fn take(&mut self, node: &Node, venue: &Venue, block: &BlockRef, books: &Books) -> Result<Count> {
        let accounts: Vec<Account> = books.accounts.keys().copied().collect();
        let standings = standings(node, venue, block, &accounts).await?;
        let mut count = Count::default();
        for (account, worth) in accounts.iter().zip(standings) {
            let told = books.worth(account);
            if told != worth {
                self.mismatches += 1;
                let number = block.number;
                self.first_mismatch.get_or_insert_with(|| {
                    format!("block {number}, {account:?}: the logs tell {told:?}, the view shows {worth:?}")
                });
            }
            self.look(*account, &worth, block.number, &mut count);
        }
        Ok(count)
    }

    fn look(&mut self, account: Account, worth: &Worth, block: u64, count: &mut Count) {
        let at_risk = worth.equity * signed(U256::from(BPS))
            < signed(worth.maintenance_margin) * signed(U256::from(AT_RISK_HEALTH_FACTOR_BPS));
        if at_risk || worth.surplus().is_negative() {
            self.at_risk.insert(account);
        }
        if !worth.surplus().is_negative() {
            count.at_risk += usize::from(at_risk);
            if let Some(since) = self.breached_at.remove(&account) {
                self.repair_blocks_max = self.repair_blocks_max.max(block - since);
            }
            return;
        }
        if worth.equity.is_negative() {
            count.bankrupt += 1;
        } else {
            count.liquidatable += 1;
        }
        self.breached.insert(account);
        let since = *self.breached_at.entry(account).or_insert(block);
        self.repair_blocks_max = self.repair_blocks_max.max(block - since);
    }
}

/// The venue's own view of accounts at one block.
pub(super) async fn standings(
    node: &Node,
    venue: &Venue,
    block: &BlockRef,
    accounts: &[Account],
) -> Result<Vec<Worth>> {
    let calls: Vec<Call> = accounts
        .iter()
        .map(|(segment, account)| venue.view(&Clearinghouse::accountStateCall { segment: *segment, account: *account }))
        .collect();
    let outputs = node.calls(&calls, block.hash).await?;
    outputs
        .iter()
        .map(|output| {
            let state = answer::<Clearinghouse::accountStateCall>(output)?;
            Ok(Worth {
                cash: state.cash,
                equity: state.equity,
                maintenance_margin: state.maintenanceMargin,
                initial_margin: state.initialMargin,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Address, I256};

    fn worth(equity: i64) -> Worth {
        let equity = I256::try_from(equity).unwrap();
        Worth { cash: equity, equity, maintenance_margin: U256::from(100), initial_margin: U256::from(200) }
    }

    #[test]
    fn a_repair_is_counted_from_the_first_bad_block_to_the_first_good_one() {
        let account = (1, Address::ZERO);
        let mut census = Census::default();
        for (block, equity) in [(10, 130), (11, 120), (12, 99), (13, -5), (14, 100), (15, 99), (16, 125)] {
            census.look(account, &worth(equity), block, &mut Count::default());
        }
        assert_eq!(census.repair_blocks_max, 2);
        assert_eq!(census.breached.len(), 1);
        let mut count = Count::default();
        for (equity, at_risk, liquidatable, bankrupt) in [(125, 0, 0, 0), (124, 1, 0, 0), (99, 1, 1, 0), (-1, 1, 1, 1)]
        {
            census.look(account, &worth(equity), 20, &mut count);
            assert_eq!(count, Count { at_risk, liquidatable, bankrupt }, "equity {equity}");
        }
    }
}
