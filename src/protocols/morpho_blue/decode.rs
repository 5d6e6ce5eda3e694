//! One block's logs → a change of the book.
//!
//! Events carry what is added or taken away, so the decoder follows the singleton's own arithmetic: a repayment may be one
//! token unit above the market's debt and takes it to zero; interest gives shares to the fee recipient without an event of
//! its own. Events that only tell what happened and why change nothing.
//!
//! Invariants: a log of another contract is refused; a known event that does not decode, that names a market the cache
//! does not know, or that takes more than the cache says is there, is refused; an unknown event is counted.
//! Must not: read anything but the book and the logs.

use alloy::sol_types::{SolEventInterface, SolValue, abi::AbiDecoderConfig};

use super::{
    Settings,
    abi::IMorpho::{self, IMorphoEvents as Event},
    state::{self, FeeRecipient, Market, Number, Stored, Totals},
};
use crate::{
    positions::{Book, Draft, Leg, LegKind, RecordKey, Unit},
    protocols::{Applied, ApplyError},
    types::{Address, B256, BlockRef, I256, Log, U256, math},
};

/// Applies a block's logs, in order, to an edit of the book.
pub(super) fn apply(settings: &Settings, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
    let created = book.records_of(Market::KIND).count();
    let mut decoder = Decoder { block, draft: Draft::new(book), created, unknown_events: 0 };
    for log in logs {
        let Log { address: emitter, tx_hash, log_index, .. } = *log;
        if emitter != settings.morpho {
            return Err(ApplyError::ForeignEmitter { emitter, tx_hash, log_index });
        }
        decoder.log(log).map_err(|what| ApplyError::Malformed { tx_hash, log_index, what })?;
    }
    Ok(Applied { delta: decoder.draft.finish(), unknown_events: decoder.unknown_events })
}

/// What is wrong with a log, for people.
type Refused = String;

struct Decoder<'a> {
    block: &'a BlockRef,
    draft: Draft<'a>,
    /// Markets so far.
    created: usize,
    unknown_events: u64,
}

impl Decoder<'_> {
    fn log(&mut self, log: &Log) -> Result<(), Refused> {
        let Some(selector) = log.topics.first().filter(|topic| Event::SELECTORS.contains(&topic.0)) else {
            self.unknown_events += 1;
            return Ok(());
        };
        let strict = AbiDecoderConfig::new().validate(true);
        let event = Event::decode_raw_log_with_config(&log.topics, &log.data, strict)
            .map_err(|error| format!("event {selector} does not decode: {error}"))?;
        self.event(&event)
    }

    fn event(&mut self, event: &Event) -> Result<(), Refused> {
        match event {
            Event::CreateMarket(e) => self.market_created(e),
            Event::SetFee(e) => self.edit_totals(e.id, |totals| {
                totals.fee_wad = e.newFee;
                Ok(())
            }),
            Event::SetFeeRecipient(e) => {
                self.put(B256::ZERO, &FeeRecipient(e.newFeeRecipient));
                Ok(())
            }
            Event::AccrueInterest(e) => self.interest_accrued(e),
            Event::Supply(e) => {
                self.edit_totals(e.id, |totals| {
                    add(&mut totals.supply_assets, e.assets)?;
                    add(&mut totals.supply_shares, e.shares)
                })?;
                self.add_to_leg(e.id, e.onBehalf, LegKind::Supply, e.shares)
            }
            Event::Withdraw(e) => {
                self.edit_totals(e.id, |totals| {
                    take(&mut totals.supply_assets, e.assets)?;
                    take(&mut totals.supply_shares, e.shares)
                })?;
                self.take_from_leg(e.id, e.onBehalf, LegKind::Supply, e.shares)
            }
            Event::Borrow(e) => {
                self.edit_totals(e.id, |totals| {
                    add(&mut totals.borrow_assets, e.assets)?;
                    add(&mut totals.borrow_shares, e.shares)
                })?;
                self.add_to_leg(e.id, e.onBehalf, LegKind::Debt, e.shares)
            }
            Event::Repay(e) => self.debt_repaid(e.id, e.onBehalf, e.assets, e.shares),
            Event::SupplyCollateral(e) => self.add_to_leg(e.id, e.onBehalf, LegKind::Collateral, e.assets),
            Event::WithdrawCollateral(e) => self.take_from_leg(e.id, e.onBehalf, LegKind::Collateral, e.assets),
            Event::Liquidate(e) => self.liquidated(e),
            Event::SetOwner(_)
            | Event::EnableIrm(_)
            | Event::EnableLltv(_)
            | Event::FlashLoan(_)
            | Event::SetAuthorization(_)
            | Event::IncrementNonce(_) => Ok(()),
        }
    }

    fn market_created(&mut self, event: &IMorpho::CreateMarket) -> Result<(), Refused> {
        let IMorpho::CreateMarket { id, marketParams: params } = event;
        if alloy::primitives::keccak256(params.abi_encode()) != *id {
            return Err(format!("{id} is not the id of the market it announces"));
        }
        if state::number_of(&self.draft, *id).map_err(|error| error.to_string())?.is_some() {
            return Err(format!("market {id} is created already"));
        }
        let number = u32::try_from(self.created).map_err(|_| "more markets than there are numbers".to_owned())?;
        self.created += 1;
        let at = numbered(number);
        self.put(*id, &Number(number));
        self.put(at, &Market::of(*id, params));
        self.put(at, &Totals { last_update: self.block.timestamp, ..Totals::default() });
        Ok(())
    }

    fn interest_accrued(&mut self, event: &IMorpho::AccrueInterest) -> Result<(), Refused> {
        let IMorpho::AccrueInterest { id, interest, feeShares: fee_shares, .. } = *event;
        let now = self.block.timestamp;
        self.edit_totals(id, |totals| {
            totals.last_update = now;
            add(&mut totals.borrow_assets, interest)?;
            add(&mut totals.supply_assets, interest)?;
            add(&mut totals.supply_shares, fee_shares)
        })?;
        if fee_shares.is_zero() {
            return Ok(());
        }
        let recipient = state::fee_recipient(&self.draft).map_err(|error| error.to_string())?;
        self.add_to_leg(id, recipient, LegKind::Supply, fee_shares)
    }

    fn debt_repaid(&mut self, id: B256, owner: Address, assets: U256, shares: U256) -> Result<(), Refused> {
        self.edit_totals(id, |totals| {
            totals.borrow_assets = totals.borrow_assets.saturating_sub(assets);
            take(&mut totals.borrow_shares, shares)
        })?;
        self.take_from_leg(id, owner, LegKind::Debt, shares)
    }

    fn liquidated(&mut self, event: &IMorpho::Liquidate) -> Result<(), Refused> {
        let IMorpho::Liquidate { id, borrower, badDebtAssets: bad_assets, badDebtShares: bad_shares, .. } = *event;
        self.debt_repaid(id, borrower, event.repaidAssets, event.repaidShares)?;
        self.edit_totals(id, |totals| {
            take(&mut totals.borrow_assets, bad_assets)?;
            take(&mut totals.supply_assets, bad_assets)?;
            take(&mut totals.borrow_shares, bad_shares)
        })?;
        self.take_from_leg(id, borrower, LegKind::Debt, bad_shares)?;
        self.take_from_leg(id, borrower, LegKind::Collateral, event.seizedAssets)
    }

    fn add_to_leg(&mut self, id: B256, owner: Address, kind: LegKind, amount: U256) -> Result<(), Refused> {
        self.edit_leg(id, owner, kind, |held| add(held, amount))
    }

    fn take_from_leg(&mut self, id: B256, owner: Address, kind: LegKind, amount: U256) -> Result<(), Refused> {
        self.edit_leg(id, owner, kind, |held| take(held, amount))
    }

    /// A unit exists from the first event that names it.
    fn edit_leg(
        &mut self,
        id: B256,
        owner: Address,
        kind: LegKind,
        change: impl FnOnce(&mut U256) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let number = self.number(id)?;
        let (market, key) = (state::market_id(number), state::unit_key(id, owner));
        let known = self.draft.unit(&key).map(|unit| (**unit).clone());
        let mut unit = known.unwrap_or_else(|| Unit::new(state::segment_id(number), owner));
        let mut held = unit.leg(market, kind).map_or(U256::ZERO, |leg| leg.quantity.unsigned_abs());
        change(&mut held)?;
        let quantity = math::signed(held).ok_or_else(|| format!("{owner} holds more than 255 bits of {id}"))?;
        unit.set_leg(Leg { market, kind, quantity, quote: I256::ZERO });
        self.draft.set_unit(key, Some(unit));
        Ok(())
    }

    fn edit_totals(
        &mut self,
        id: B256,
        change: impl FnOnce(&mut Totals) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let number = self.number(id)?;
        let mut totals: Totals = state::load(&self.draft, number.into()).map_err(|error| error.to_string())?;
        change(&mut totals)?;
        self.put(numbered(number), &totals);
        Ok(())
    }

    fn number(&self, id: B256) -> Result<u32, Refused> {
        let number = state::number_of(&self.draft, id).map_err(|error| error.to_string())?;
        number.ok_or_else(|| format!("market {id} is not known; is start_block behind its creation?"))
    }

    fn put<T: Stored>(&mut self, id: B256, value: &T) {
        self.draft.set_record(RecordKey { kind: T::KIND, id }, Some(value.to_record()));
    }
}

fn add(held: &mut U256, amount: U256) -> Result<(), Refused> {
    *held = held.checked_add(amount).ok_or_else(|| format!("{amount} on top of {held} does not fit 256 bits"))?;
    Ok(())
}

fn take(held: &mut U256, amount: U256) -> Result<(), Refused> {
    *held = held.checked_sub(amount).ok_or_else(|| format!("{amount} is taken where only {held} is left"))?;
    Ok(())
}

fn numbered(number: u32) -> B256 {
    B256::from(U256::from(number))
}
