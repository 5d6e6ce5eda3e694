//! Brings the venue to life: deposits, insurance funds, and the trades of the scenario's stages.
//!
//! Invariants: every trade of the scenario is made, or set-up fails; each seller rests one order per market and stage.
//! Must not: run while blocks are mined by the clock.

use std::collections::BTreeMap;

use alloy::{
    primitives::Log as EventLog,
    rpc::types::TransactionReceipt,
    sol_types::{SolCall, SolEvent},
};
use anyhow::{Context, Result};

use super::{
    node::{Message, Node},
    scenario::{Participant, Scenario, Stage},
    venue::{Clearinghouse, SettlementToken, Venue},
};
use crate::types::{Address, U256};

/// Opens and funds every account, then lets them trade.
pub(super) async fn populate(node: &Node, venue: &Venue, scenario: &Scenario) -> Result<()> {
    let participants: Vec<&Participant> = scenario.traders.iter().chain(&scenario.makers).collect();
    let owners: Vec<Address> = participants.iter().map(|p| p.owner).collect();
    node.adopt(&owners).await.context("adopt the accounts")?;
    fund(node, venue, scenario, &participants).await.context("fund the accounts")?;
    for (index, stage) in scenario.stages.iter().enumerate() {
        trade(node, venue, stage).await.with_context(|| format!("trade stage {index}"))?;
    }
    Ok(())
}

async fn fund(node: &Node, venue: &Venue, scenario: &Scenario, participants: &[&Participant]) -> Result<()> {
    let deposits: u128 = participants.iter().map(|p| p.deposit).sum();
    let funds: u128 = scenario.segments.iter().map(|s| s.insurance_fund).sum();
    let mint = SettlementToken::mintCall { to: venue.admin, amount: U256::from(deposits + funds) };
    let mut messages = vec![venue.administer(venue.token, &mint, "minting")];
    for segment in scenario.segments.iter().filter(|segment| segment.insurance_fund > 0) {
        let call = Clearinghouse::depositFundCall { segment: segment.id, amount: U256::from(segment.insurance_fund) };
        messages.push(venue.administer(venue.clearinghouse, &call, format!("the fund of segment {}", segment.id)));
    }
    for participant in participants {
        let call = Clearinghouse::depositForCall {
            segment: participant.segment,
            account: participant.owner,
            amount: U256::from(participant.deposit),
        };
        messages.push(venue.administer(venue.clearinghouse, &call, format!("the deposit of {}", participant.owner)));
    }
    node.execute(&messages).await.map(|_| ())
}

/// Posts the stage's prices, rests the sellers' orders and lets the buyers fill them.
async fn trade(node: &Node, venue: &Venue, stage: &Stage) -> Result<()> {
    let head = node.head().await?;
    node.execute(&venue.post_prices(&stage.prices, head.timestamp)).await?;

    let mut offered: BTreeMap<(u16, Address), u64> = BTreeMap::new();
    for trade in &stage.trades {
        *offered.entry((trade.market, trade.seller)).or_default() += trade.lots;
    }
    let offers: Vec<Message> = offered
        .iter()
        .map(|((market, seller), lots)| place(venue, *seller, *market, false, stage.prices[market], *lots))
        .collect();
    let orders = placed_orders(&node.execute(&offers).await?)?;

    let fills = stage.trades.iter().map(|trade| {
        let order = orders.get(&(trade.market, trade.seller)).context("an offer was not placed")?;
        let call = Clearinghouse::fillOrderCall { orderId: *order, lots: trade.lots };
        let what = format!("{} buying {} lots in market {}", trade.buyer, trade.lots, trade.market);
        Ok(Message::call(trade.buyer, venue.clearinghouse, call.abi_encode(), what))
    });
    node.execute(&fills.collect::<Result<Vec<_>>>()?).await.map(|_| ())
}

/// A message that rests an order.
pub(super) fn place(venue: &Venue, maker: Address, market: u16, is_buy: bool, price: u64, lots: u64) -> Message {
    let call = Clearinghouse::placeOrderCall { marketId: market, isBuy: is_buy, price: U256::from(price), lots };
    let what = format!("an order of {maker} for {lots} lots in market {market}");
    Message::call(maker, venue.clearinghouse, call.abi_encode(), what)
}

fn placed_orders(receipts: &[TransactionReceipt]) -> Result<BTreeMap<(u16, Address), u64>> {
    let mut orders = BTreeMap::new();
    for log in receipts.iter().flat_map(|receipt| receipt.logs()) {
        let log: &EventLog = &log.inner;
        if log.topics().first() == Some(&Clearinghouse::OrderPlaced::SIGNATURE_HASH) {
            let placed = Clearinghouse::OrderPlaced::decode_log(log).context("decode OrderPlaced")?;
            orders.insert((placed.market, placed.maker), placed.order);
        }
    }
    Ok(orders)
}
