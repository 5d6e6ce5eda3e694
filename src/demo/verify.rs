//! The last word: the venue's books, the daemon's cache and the daemon's journal, each held against the chain at one
//! block at which nothing moves any more.
//!
//! The chain is the judge throughout; a figure of the daemon is only ever the accused.
//!
//! Must not: repair, send or write anything.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};

use super::{
    audit::{Account, Books, Worth, signed},
    census::standings,
    node::{MinedTransaction, Node},
    venue::{Clearinghouse, SettlementToken, Venue, answer},
};
use crate::{
    journal::{ActionFilter, ActionRow},
    positions::{Book, Snapshot},
    protocols::Adapter,
    types::{Address, B256, BlockRef, Call, I256, U256},
};
use alloy::sol_types::SolCall as _;

/// What the venue's own views say at one block.
#[derive(Debug)]
pub(super) struct ChainBooks {
    /// Every account that ever appeared, with its worth.
    pub(super) accounts: BTreeMap<Account, Worth>,
    /// Tokens the venue holds.
    pub(super) token_balance: U256,
    /// What does not balance, in words.
    pub(super) faults: Vec<String>,
}

/// Reads every balance, position and fund from the chain and does the sums. The rebuilt books only say which accounts
/// and markets to ask for, and are themselves held against the answers.
pub(super) async fn chain_books(node: &Node, venue: &Venue, block: &BlockRef, books: &Books) -> Result<ChainBooks> {
    let keys: Vec<Account> = books.accounts.keys().copied().collect();
    let worths = standings(node, venue, block, &keys).await?;
    let accounts: BTreeMap<Account, Worth> = keys.into_iter().zip(worths).collect();
    let balance = SettlementToken::balanceOfCall { account: venue.clearinghouse };
    let output = node.call(&Call::new(venue.token, balance.abi_encode()), block.hash).await?;
    let token_balance = answer::<SettlementToken::balanceOfCall>(&output)?;
    let mut faults = Vec::new();
    let mut claims = I256::ZERO;
    for segment in books.funds.keys() {
        claims += segment_claims(node, venue, block, books, *segment, &accounts, &mut faults).await?;
    }
    for market in books.markets.keys() {
        market_sums(node, venue, block, books, *market, &mut faults).await?;
    }
    if signed(token_balance) != claims {
        faults.push(format!("the venue holds {token_balance} tokens and owes {claims}"));
    }
    for (account, worth) in &accounts {
        if worth.surplus().is_negative() || worth.equity.is_negative() {
            let (segment, owner) = account;
            let (equity, surplus) = (worth.equity, worth.surplus());
            faults.push(format!("{owner} in segment {segment} is left with equity {equity} and surplus {surplus}"));
        }
        if books.worth(account) != *worth {
            faults.push(format!("{} differs between its logs and its view", account.1));
        }
    }
    Ok(ChainBooks { accounts, token_balance, faults })
}

/// The claims on one segment's tokens: its accounts' equity and its fund. The pool must equal the equity.
async fn segment_claims(
    node: &Node,
    venue: &Venue,
    block: &BlockRef,
    books: &Books,
    segment: u16,
    accounts: &BTreeMap<Account, Worth>,
    faults: &mut Vec<String>,
) -> Result<I256> {
    let output = node.call(&venue.view(&Clearinghouse::segmentFundsCall { segment }), block.hash).await?;
    let funds = answer::<Clearinghouse::segmentFundsCall>(&output)?;
    let equity =
        accounts.iter().filter(|((s, _), _)| *s == segment).fold(I256::ZERO, |sum, (_, worth)| sum + worth.equity);
    if signed(funds.pool) != equity {
        faults.push(format!("segment {segment}: the pool is {} and its accounts are worth {equity}", funds.pool));
    }
    if signed(funds.pool) != books.pool(segment) || books.funds[&segment].balance != funds.fund {
        faults.push(format!("segment {segment}: pool and fund differ between logs and view"));
    }
    Ok(equity + signed(funds.fund))
}

/// Longs are shorts, in lots, in every market.
async fn market_sums(
    node: &Node,
    venue: &Venue,
    block: &BlockRef,
    books: &Books,
    market: u16,
    faults: &mut Vec<String>,
) -> Result<()> {
    let segment = books.markets[&market].segment;
    let owners: Vec<Address> = books.accounts.keys().filter(|(s, _)| *s == segment).map(|(_, owner)| *owner).collect();
    let calls: Vec<Call> = owners
        .iter()
        .map(|owner| venue.view(&Clearinghouse::positionCall { marketId: market, account: *owner }))
        .collect();
    let mut net = I256::ZERO;
    let mut long = U256::ZERO;
    for output in node.calls(&calls, block.hash).await? {
        let lots = answer::<Clearinghouse::positionCall>(&output)?.lots;
        net += lots;
        long += crate::types::math::positive_part(lots);
    }
    let output = node.call(&venue.view(&Clearinghouse::marketCall { marketId: market }), block.hash).await?;
    let open_interest = answer::<Clearinghouse::marketCall>(&output)?.openInterestLots;
    if !net.is_zero() || !books.net_lots(market).is_zero() {
        faults.push(format!("market {market}: positions sum to {net} lots, not 0"));
    }
    if long != open_interest || books.open_interest(market) != long {
        faults.push(format!("market {market}: {long} lots are held long and {open_interest} are open"));
    }
    Ok(())
}

/// How the daemon's cache compares with the chain.
#[derive(Debug, Default)]
pub(super) struct CacheCheck {
    /// Accounts compared.
    pub(super) compared: usize,
    /// Accounts that differ, are missing or are there without being on chain; in words.
    pub(super) mismatches: Vec<String>,
}

/// Values every unit of the cache with the daemon's adapter and compares equity, margin and surplus with the venue's own
/// figures at the same block.
pub(super) fn cache(
    adapter: &dyn Adapter,
    block: &BlockRef,
    book: Book,
    chain: &BTreeMap<Account, Worth>,
) -> Result<CacheCheck> {
    let snapshot = Snapshot { block: *block, book };
    let mut check = CacheCheck::default();
    let mut cached: BTreeMap<Account, _> = BTreeMap::new();
    for (key, unit) in snapshot.book.units() {
        let segment = u16::try_from(unit.segment.0).context("a segment beyond 16 bits in the cache")?;
        let twice = cached.insert((segment, unit.owner), adapter.standing(&snapshot, key, unit));
        ensure!(twice.is_none(), "the cache holds {} twice", unit.owner);
    }
    for (account, worth) in chain {
        check.compared += 1;
        let owner = account.1;
        match cached.remove(account) {
            None => check.mismatches.push(format!("{owner} is on chain and not in the cache")),
            Some(Err(error)) => check.mismatches.push(format!("{owner} has no value in the cache: {error}")),
            Some(Ok(standing)) => {
                let same = standing.equity == worth.equity
                    && standing.maintenance_margin == worth.maintenance_margin
                    && standing.surplus == worth.surplus();
                if !same {
                    let (equity, surplus) = (standing.equity, standing.surplus);
                    check.mismatches.push(format!(
                        "{owner}: the cache has equity {equity} and surplus {surplus}, the chain {} and {}",
                        worth.equity,
                        worth.surplus()
                    ));
                }
            }
        }
    }
    check.mismatches.extend(cached.into_keys().map(|(_, owner)| format!("{owner} is in the cache and not on chain")));
    Ok(check)
}

/// Every action of the journal; nothing is left out, however many there are.
pub(super) fn all_actions() -> ActionFilter {
    ActionFilter { limit: u32::MAX >> 1, ..ActionFilter::default() }
}

/// Holds the keeper's transactions on chain against the journal: each nonce once, each transaction journalled, each
/// mined action carried by exactly one transaction, none mined that the journal thinks is not, and the reverse.
pub(super) fn nothing_twice(mined: &[MinedTransaction], nonce_next: u64, actions: &[ActionRow]) -> Vec<String> {
    let mut faults = Vec::new();
    let expected: Vec<u64> = (0..nonce_next).collect();
    let nonces: Vec<u64> = mined.iter().map(|tx| tx.nonce).collect();
    if nonces != expected {
        faults.push(format!("the keeper's nonces on chain are {nonces:?}, not each of 0 to {nonce_next} once"));
    }
    let on_chain: BTreeMap<B256, &MinedTransaction> = mined.iter().map(|tx| (tx.hash, tx)).collect();
    let mut journalled: BTreeSet<B256> = BTreeSet::new();
    let mut deeds: BTreeMap<(i64, u32), BTreeSet<B256>> = BTreeMap::new();
    for action in actions.iter().filter(|a| a.tx_block.is_some()) {
        let Some(hash) = action.tx_hash else {
            faults.push(format!("action {} was mined without a transaction", action.id.0));
            continue;
        };
        match on_chain.get(&hash) {
            None => faults.push(format!("action {} was mined in {hash}, which is not on chain", action.id.0)),
            Some(tx) if Some(tx.nonce) != action.nonce => {
                faults.push(format!("{hash} has nonce {} on chain and {:?} in the journal", tx.nonce, action.nonce));
            }
            Some(_) => {}
        }
        journalled.insert(hash);
        deeds.entry((action.plan.0, action.group)).or_default().insert(hash);
    }
    faults.extend(
        on_chain.keys().filter(|hash| !journalled.contains(*hash)).map(|hash| format!("{hash} is not in the journal")),
    );
    let doubled = deeds.into_iter().filter(|(_, hashes)| hashes.len() > 1);
    faults.extend(doubled.map(|((plan, group), hashes)| {
        format!("group {group} of plan {plan} was mined in {} transactions", hashes.len())
    }));
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::journal::{ActionId, ActionStatus, PlanId};
    use crate::{recovery::Tier, types::SegmentId};

    fn mined(nonce: u64, hash: u8) -> MinedTransaction {
        MinedTransaction { hash: B256::repeat_byte(hash), nonce, success: true, gas_used: 21_000, fee_wei: U256::ZERO }
    }

    fn action(id: i64, group: u32, nonce: u64, hash: u8) -> ActionRow {
        ActionRow {
            id: ActionId(id),
            plan: PlanId(1),
            deployment: "demo".parse().unwrap(),
            segment: SegmentId(1),
            step: 0,
            group,
            tier: Tier::Liquidate,
            unit: None,
            absorbs: U256::ZERO,
            why: String::new(),
            action: json!({}),
            dry_run: false,
            status: ActionStatus::Final,
            reason: None,
            planned_block: 1,
            status_block: 2,
            nonce: Some(nonce),
            tx_hash: Some(B256::repeat_byte(hash)),
            tx_block: Some(2),
            created_at: chrono::DateTime::UNIX_EPOCH,
            updated_at: chrono::DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_was_done_once_and_written_once_is_in_order() {
        let mut dropped = action(4, 3, 0, 9);
        (dropped.nonce, dropped.tx_hash, dropped.tx_block) = (None, None, None);
        let actions = [action(1, 0, 0, 1), action(2, 0, 0, 1), action(3, 1, 1, 2), dropped];
        assert_eq!(nothing_twice(&[mined(0, 1), mined(1, 2)], 2, &actions), Vec::<String>::new());
    }

    #[test]
    fn whatever_was_done_twice_or_behind_the_journals_back_is_named() {
        let actions = [action(1, 0, 0, 1)];
        let unknown = nothing_twice(&[mined(0, 1), mined(1, 2)], 2, &actions);
        assert!(unknown.iter().any(|fault| fault.contains("is not in the journal")), "{unknown:?}");
        let imagined = nothing_twice(&[], 0, &actions);
        assert!(imagined.iter().any(|fault| fault.contains("not on chain")), "{imagined:?}");
        let doubled = nothing_twice(&[mined(0, 1), mined(1, 2)], 2, &[action(1, 0, 0, 1), action(2, 0, 1, 2)]);
        assert!(doubled.iter().any(|fault| fault.contains("mined in 2 transactions")), "{doubled:?}");
        let gap = nothing_twice(&[mined(1, 1)], 2, &[action(1, 0, 1, 1)]);
        assert!(gap.iter().any(|fault| fault.contains("nonces")), "{gap:?}");
        let renumbered = nothing_twice(&[mined(0, 1)], 1, &[action(1, 0, 5, 1)]);
        assert!(renumbered.iter().any(|fault| fault.contains("in the journal")), "{renumbered:?}");
    }
}
