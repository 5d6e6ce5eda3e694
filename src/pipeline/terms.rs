//! The terms under which offered actions are judged at one block: what the keeper holds, what gas costs, what the budget
//! has left.
//!
//! Invariants: balances and allowances are of the snapshot's block; what cannot be read makes no terms, never generous
//! ones. Must not: judge anything; the planner does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use alloy::{
    sol,
    sol_types::{SolCall, SolValue},
};
use anyhow::Context;

use super::ports::PipelineJournal;
use crate::{
    chain::Rpc,
    journal::DeploymentId,
    recovery::{Offered, Policy, Purse, SegmentCase, Terms},
    types::{Address, BlockRef, Call, CallOutcome, U256},
};

/// The budget's window.
const BUDGET_WINDOW: Duration = Duration::from_secs(24 * 3_600);

sol! {
    interface IERC20 {
        function balanceOf(address account) external view returns (uint256);
        function allowance(address owner, address spender) external view returns (uint256);
    }
}

/// The operator's part of the terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySettings {
    /// For profit or under mandate, and limits on capital.
    pub policy: Policy,
    /// Value of one whole native coin in the protocol's unit of account.
    pub native_value: Option<U256>,
    /// The same in units of a token, for segments that count in it.
    pub native_value_by_asset: BTreeMap<Address, U256>,
    /// Most net outlay in any 24 hours, wei.
    pub budget_per_day_max_wei: U256,
}

impl PolicySettings {
    /// The value of a native coin where a segment counts in `asset`, or in the protocol's own unit of account.
    fn native_value(&self, asset: Option<Address>) -> Option<U256> {
        match asset {
            Some(asset) => self.native_value_by_asset.get(&asset).copied(),
            None => self.native_value,
        }
    }
}

/// What terms are made from.
pub struct TermsSource<'a, J> {
    /// The node.
    pub rpc: &'a Rpc,
    /// Where the budget is counted.
    pub journal: &'a J,
    /// Whose budget.
    pub deployment: DeploymentId,
    /// Whose purse.
    pub keeper: Address,
    /// The operator's part.
    pub settings: &'a PolicySettings,
}

impl<J: PipelineJournal> TermsSource<'_, J> {
    /// The terms of a segment, as of `at`.
    pub async fn of(&self, case: &SegmentCase, offered: &Offered, at: &BlockRef) -> anyhow::Result<Terms> {
        let quote = self.rpc.fees().await.context("ask what gas costs")?;
        let spent = self.journal.outlay_wei_within(self.deployment, BUDGET_WINDOW).await.context("read the budget")?;
        let purse = self.purse(offered, at).await.with_context(|| format!("read the purse for {}", case.segment))?;
        Ok(Terms {
            policy: self.settings.policy.clone(),
            gas_price_wei: U256::from(quote.base_fee_wei.saturating_add(quote.priority_fee_wei)),
            native_value: self.settings.native_value(offered.asset),
            budget_left_wei: self.settings.budget_per_day_max_wei.saturating_sub(spent),
            purse,
        })
    }

    async fn purse(&self, offered: &Offered, at: &BlockRef) -> anyhow::Result<Purse> {
        let needs = || offered.intents.iter().flat_map(|intent| &intent.capital);
        let tokens: BTreeSet<Address> = needs().map(|need| need.token).collect();
        let spenders: BTreeSet<(Address, Address)> =
            needs().filter_map(|need| Some((need.token, need.spender?))).collect();
        let balances = tokens.into_iter().map(|token| async move {
            let call = IERC20::balanceOfCall { account: self.keeper }.abi_encode();
            anyhow::Ok((token, self.amount(token, call, at).await?))
        });
        let allowances = spenders.into_iter().map(|(token, spender)| async move {
            let call = IERC20::allowanceCall { owner: self.keeper, spender }.abi_encode();
            anyhow::Ok(((token, spender), self.amount(token, call, at).await?))
        });
        let (balances, allowances) = futures_util::future::try_join(
            futures_util::future::try_join_all(balances),
            futures_util::future::try_join_all(allowances),
        )
        .await?;
        Ok(Purse { balances: balances.into_iter().collect(), allowances: allowances.into_iter().collect() })
    }

    /// A token's answer; a token that refuses to answer holds nothing for us.
    async fn amount(&self, token: Address, call: Vec<u8>, at: &BlockRef) -> anyhow::Result<U256> {
        let answer = self.rpc.call(&Call::new(token, call), None, at.hash).await?;
        Ok(match answer {
            CallOutcome::Returned(word) => U256::abi_decode(&word).unwrap_or_default(),
            CallOutcome::Reverted(_) => U256::ZERO,
        })
    }
}
