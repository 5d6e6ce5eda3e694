//! A mined transaction's logs → what the books take from it.
//!
//! - **Repaid**: `RepayBorrow`, but for the part that a vToken forgives.
//! - **Seized**: vTokens that reached the liquidator: the `Transfer` before a `ProtocolSeize`.
//! - **Bad debt**: `BadDebtIncreased`, of the account that left it.
//! - **Covered**: `BadDebtRecovered`, of the pool, by the insurance fund's tier.
//! - **Staged**: the auction's own events, of the pool.
//!
//! A vToken's logs name neither its pool nor its token, so the book does.
//!
//! Invariants: logs of other contracts have no effect.
//! Must not: read anything but the book and the logs.

use alloy::sol_types::SolEventInterface;

use super::{
    Settings,
    abi::{
        IShortfall::IShortfallEvents as OfHouse,
        IVToken::{self, IVTokenEvents as OfMarket},
    },
    state::{self, Listing},
};
use crate::{
    positions::Book,
    recovery::{Effect, Scope, Tier},
    types::{Address, Log, SegmentId, U256},
};

/// What these logs of one transaction did, in order.
pub(super) fn effects(settings: &Settings, book: &Book, logs: &[Log]) -> Vec<Effect> {
    let mut effects = Vec::new();
    // A seizure's transfer and its confirmation are neighbours among the logs of one vToken.
    let mut transfer: Option<(Address, IVToken::Transfer)> = None;
    for log in logs {
        if settings.shortfall == Some(log.address) {
            effects.extend(OfHouse::decode_raw_log(&log.topics, &log.data).ok().and_then(|e| staged(settings, &e)));
            continue;
        }
        let Ok(listing) = state::load::<Listing>(book, log.address) else { continue };
        let Ok(event) = OfMarket::decode_raw_log(&log.topics, &log.data) else { continue };
        match event {
            OfMarket::Transfer(event) => transfer = Some((log.address, event)),
            OfMarket::ProtocolSeize(event) => {
                let before = transfer.take().filter(|(vtoken, t)| *vtoken == log.address && t.from == event.from);
                effects.extend(before.map(|(vtoken, transfer)| Effect::Seized {
                    unit: state::unit_key(listing.comptroller, transfer.from),
                    asset: vtoken,
                    amount: transfer.amount,
                }));
            }
            event => effects.extend(of_market(settings, log.address, &listing, &event)),
        }
    }
    effects
}

fn of_market(settings: &Settings, vtoken: Address, listing: &Listing, event: &OfMarket) -> Option<Effect> {
    let asset = listing.underlying;
    let unit = |owner: Address| state::unit_key(listing.comptroller, owner);
    match event {
        OfMarket::RepayBorrow(e) if e.payer != vtoken => {
            Some(Effect::Repaid { unit: unit(e.borrower), asset, amount: e.repayAmount })
        }
        OfMarket::BadDebtIncreased(e) => {
            Some(Effect::BadDebt { scope: Scope::Unit(unit(e.borrower)), asset, amount: e.badDebtDelta })
        }
        OfMarket::BadDebtRecovered(e) => {
            let amount = e.badDebtOld.saturating_sub(e.badDebtNew);
            let scope = Scope::Segment(SegmentId(settings.pool_number(listing.comptroller)?));
            let covered = Effect::Covered { scope, tier: Tier::InsuranceFund, asset, amount };
            (amount > U256::ZERO).then_some(covered)
        }
        _ => None,
    }
}

fn staged(settings: &Settings, event: &OfHouse) -> Option<Effect> {
    let (comptroller, stage) = match event {
        OfHouse::AuctionStarted(e) => (e.comptroller, format!("auction started, first bid {} bps", e.startBidBps)),
        OfHouse::BidPlaced(e) => (e.comptroller, format!("{} bid {} bps", e.bidder, e.bidBps)),
        OfHouse::AuctionClosed(e) => (e.comptroller, format!("auction closed, {} won", e.highestBidder)),
        OfHouse::AuctionRestarted(e) => (e.comptroller, "auction ended without a bid".to_owned()),
        _ => return None,
    };
    Some(Effect::Staged { scope: Scope::Segment(SegmentId(settings.pool_number(comptroller)?)), stage })
}
