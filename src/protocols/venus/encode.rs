//! An intent's payload ↔ its call.
//!
//! A payload is the contract's address and the call's data. What is sent must be one of the calls this adapter makes, to
//! the contract it makes it to, about the account or pool that the intent names.
//! Must not: judge whether a step is wise.

use alloy::sol_types::{SolCall, SolInterface};

use super::{
    Settings,
    abi::{
        IComptroller::{self, IComptrollerCalls as OfPool},
        IShortfall::{self, IShortfallCalls as OfHouse},
        IVToken::{self, IVTokenCalls as OfMarket},
    },
    state,
};
use crate::{
    protocols::BuildError,
    recovery::{Action, Intent, Scope, Step},
    types::{Address, Bytes, Call},
};

/// Calls to a comptroller, to the auction house and to a vToken that may ever be sent.
pub(super) const POOL_CALLS: [[u8; 4]; 2] =
    [IComptroller::healAccountCall::SELECTOR, IComptroller::liquidateAccountCall::SELECTOR];
pub(super) const HOUSE_CALLS: [[u8; 4]; 4] = [
    IShortfall::startAuctionCall::SELECTOR,
    IShortfall::placeBidCall::SELECTOR,
    IShortfall::closeAuctionCall::SELECTOR,
    IShortfall::restartAuctionCall::SELECTOR,
];
pub(super) const MARKET_CALLS: [[u8; 4]; 2] =
    [IVToken::liquidateBorrowCall::SELECTOR, IVToken::accrueInterestCall::SELECTOR];

/// The payload of a call.
pub(super) fn payload(to: Address, call: &impl SolCall) -> Bytes {
    [to.as_slice(), &call.abi_encode()].concat().into()
}

/// There are no batches here: one intent is one call.
pub(super) fn build(settings: &Settings, steps: &[Step]) -> Result<Call, BuildError> {
    let [step] = steps else { return Err(refuse(format!("{} steps in one call", steps.len()))) };
    let Action::Intent(intent) = &step.action else { return Err(refuse("a step that is no intent")) };
    let (to, data) = intent.payload.split_first_chunk::<20>().ok_or_else(|| refuse("a payload without a call"))?;
    let to = Address::from(*to);
    let fits = match &intent.scope {
        Scope::Unit(_) => unit_call(intent, to, data)?,
        Scope::Segment(segment) => {
            let comptroller = house_call(data)?;
            settings.shortfall == Some(to) && settings.pool_number(comptroller) == Some(segment.0)
        }
        Scope::Market(market) => return Err(refuse(format!("an intent on market {market}"))),
    };
    if !fits {
        return Err(refuse(format!("a call to {to} that is not about {}", intent.scope)));
    }
    Ok(Call::new(to, data.to_vec()))
}

/// Whether a call to a comptroller or a vToken is about the unit that its intent names.
fn unit_call(intent: &Intent, to: Address, data: &[u8]) -> Result<bool, BuildError> {
    let unit = intent.scope.unit().and_then(state::parse_unit_key);
    let (comptroller, owner) =
        unit.ok_or_else(|| refuse(format!("{} is no account of this protocol", intent.scope)))?;
    if let Ok(call) = OfPool::abi_decode(data) {
        let account = match call {
            OfPool::healAccount(call) => call.user,
            OfPool::liquidateAccount(call) => call.borrower,
            _ => return Err(refuse("a call that no keeper makes")),
        };
        return Ok(to == comptroller && account == owner);
    }
    match OfMarket::abi_decode(data) {
        // The gate knows which vTokens the pools announced.
        Ok(OfMarket::liquidateBorrow(call)) => Ok(call.borrower == owner),
        Ok(OfMarket::accrueInterest(_)) => Ok(true),
        _ => Err(refuse("a call that no keeper makes")),
    }
}

/// The pool that a call to the auction house is about.
fn house_call(data: &[u8]) -> Result<Address, BuildError> {
    match OfHouse::abi_decode(data) {
        Ok(OfHouse::startAuction(call)) => Ok(call.comptroller),
        Ok(OfHouse::restartAuction(call)) => Ok(call.comptroller),
        Ok(OfHouse::closeAuction(call)) => Ok(call.comptroller),
        Ok(OfHouse::placeBid(call)) => Ok(call.comptroller),
        _ => Err(refuse("a call that no keeper makes")),
    }
}

fn refuse(why: impl Into<String>) -> BuildError {
    BuildError(why.into())
}
