//! A shared backstop pool on the demo's chain, and the venues that join it.
//!
//! Invariants: the code deployed is the committed artifact, compiled into this binary.
//! Must not: claim or pay anything.

use alloy::{sol, sol_types::SolConstructor};
use anyhow::{Context, Result};

use super::{
    node::Node,
    venue::{SettlementToken, Venue, create},
};
use crate::types::{Address, U256};

sol!(
    #[sol(all_derives)]
    BackstopPool,
    "contracts/artifacts/BackstopPool.json"
);
sol!(
    #[sol(all_derives)]
    ClearinghouseMember,
    "contracts/artifacts/ClearinghouseMember.json"
);

/// A year's premium, of the cap.
const PREMIUM_BPS: u16 = 1;

/// A deployed pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool {
    /// The contract.
    pub(super) address: Address,
}

/// A venue's place in a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    /// The pool.
    pub(super) pool: Address,
    /// What shows it the venue's shortfalls.
    pub(super) member: Address,
}

/// What a venue joins with, settlement-token units.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Most that may be outstanding to it.
    pub(super) cap: u64,
    /// Its own part of each payment.
    pub(super) first_loss_bps: u16,
    /// Its own money for that.
    pub(super) stake: u64,
    /// What it pays for its cover at the start; it becomes capital. Covers the story where it is above a ten-millionth
    /// of the cap.
    pub(super) premium: u64,
}

impl Pool {
    /// Deploys a pool of the venue's token, with this much capital of the admin's.
    pub(super) async fn deploy(node: &Node, venue: &Venue, capital: u64) -> Result<Self> {
        let arguments = BackstopPool::constructorCall { token: venue.token, admin: venue.admin }.abi_encode();
        let code = BackstopPool::BYTECODE.to_vec();
        let pool = Self { address: create(node, venue.admin, code, arguments, "the backstop pool").await? };
        let amount = U256::from(capital);
        let approve = SettlementToken::approveCall { spender: pool.address, value: U256::MAX };
        let mint = SettlementToken::mintCall { to: venue.admin, amount };
        let underwrite = BackstopPool::underwriteCall { amount };
        let mut messages = vec![venue.administer(venue.token, &approve, "the pool's allowance")];
        if capital > 0 {
            messages.push(venue.administer(venue.token, &mint, "minting"));
            messages.push(venue.administer(pool.address, &underwrite, "the pool's capital"));
        }
        node.execute(&messages).await.context("fund the backstop pool")?;
        Ok(pool)
    }

    /// Lets the venue in, with `operator` to claim and draw for it.
    pub(super) async fn admit(&self, node: &Node, venue: &mut Venue, operator: Address, terms: Terms) -> Result<()> {
        let arguments = ClearinghouseMember::constructorCall { target: venue.clearinghouse }.abi_encode();
        let code = ClearinghouseMember::BYTECODE.to_vec();
        let member = create(node, venue.admin, code, arguments, "the venue as the pool's member").await?;
        let amount = U256::from(terms.stake + terms.premium);
        let mint = SettlementToken::mintCall { to: venue.admin, amount };
        let admit = BackstopPool::setMemberCall {
            memberId: member,
            operator,
            cap: U256::from(terms.cap),
            firstLossBps: terms.first_loss_bps,
            premiumBps: PREMIUM_BPS,
        };
        let stake = BackstopPool::addStakeCall { memberId: member, amount: U256::from(terms.stake) };
        let premium = BackstopPool::payPremiumCall { memberId: member, amount: U256::from(terms.premium) };
        let mut messages = vec![
            venue.administer(venue.token, &mint, "minting"),
            venue.administer(self.address, &admit, "admitting the venue"),
            venue.administer(self.address, &premium, "the premium"),
        ];
        if terms.stake > 0 {
            messages.push(venue.administer(self.address, &stake, "the stake"));
        }
        node.execute(&messages).await.context("join the backstop pool")?;
        venue.membership = Some(Membership { pool: self.address, member });
        Ok(())
    }
}
