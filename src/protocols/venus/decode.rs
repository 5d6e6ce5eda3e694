//! One block's logs → a change of the book.
//!
//! Where an event states a sum, the sum is taken over; where it states a movement, it is added. Three things take more:
//!
//! - **Seizures.** A vToken says what the liquidator gets (`Transfer`, then `ProtocolSeize`) and not what the protocol
//!   takes out of the borrower. After a liquidation the next log is the debt market's `LiquidateBorrow` with the whole;
//!   after anything else it was a healing, which takes everything.
//! - **Redemptions** announce themselves as a transfer to the vToken, which holds none of it: taken back by `Redeem`.
//! - **Reserves** paid out while interest accrues are announced before `AccrueInterest` and are in its slot already.
//!
//! What happened before a market was announced is read, not decoded (`reads`). Events of access control, caps, rewards
//! and delegation change nothing that is decided from.
//!
//! Invariants: a log of a contract that is not watched is refused; a known event that does not decode, or that
//! contradicts the cache, is refused; an unknown event of a watched contract is counted.
//! Must not: read anything but the book and the logs.

use std::collections::BTreeMap;

use alloy::sol_types::{SolEvent, SolEventInterface, abi::AbiDecoderConfig};

use super::{
    Settings,
    abi::{
        IComptroller::{self, IComptrollerEvents as OfPool},
        IInherited::IInheritedEvents as Inherited,
        IRateModel::{self, IRateModelEvents as OfModel},
        IShortfall::IShortfallEvents as OfHouse,
        IVToken::{self, IVTokenEvents as OfMarket},
    },
    account::{Account, Debt},
    rates::{ONE, RateModel, scaled},
    state::{self, Auction, Balances, House, Listing, Numbered, Pool, Records, Stored},
};
use crate::{
    positions::{Book, Draft, RecordKey},
    protocols::{Applied, ApplyError},
    types::{Address, BlockRef, Log, SegmentId, U256},
};

/// Applies a block's logs, in order, to an edit of the book.
pub(super) fn apply(settings: &Settings, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
    let listed = book.records_of(Listing::KIND).count();
    let draft = Draft::new(book);
    let mut decoder = Decoder { settings, block, draft, listed, paid_out: BTreeMap::new(), unknown_events: 0 };
    for (at, log) in logs.iter().enumerate() {
        decoder.log(log, logs.get(at + 1))?;
    }
    Ok(Applied { delta: decoder.draft.finish(), unknown_events: decoder.unknown_events })
}

/// What is wrong with a log, for people.
type Refused = String;

struct Decoder<'a> {
    settings: &'a Settings,
    block: &'a BlockRef,
    draft: Draft<'a>,
    /// Markets listed so far.
    listed: usize,
    /// Reserves paid out by vTokens that are about to say that they accrued.
    paid_out: BTreeMap<Address, U256>,
    unknown_events: u64,
}

impl Decoder<'_> {
    fn log(&mut self, log: &Log, next: Option<&Log>) -> Result<(), ApplyError> {
        let emitter = log.address;
        let applied = if self.settings.comptrollers.contains(&emitter) {
            self.read(log, OfPool::SELECTORS, |decoder, event| decoder.pool_event(emitter, event))
        } else if self.settings.shortfall == Some(emitter) {
            self.read(log, OfHouse::SELECTORS, Self::house_event)
        } else if self.is_market(emitter) {
            self.read(log, OfMarket::SELECTORS, |decoder, event| decoder.market_event(log, next, event))
        } else if self.is_model(emitter) {
            self.read(log, OfModel::SELECTORS, |decoder, event| decoder.model_event(emitter, event))
        } else {
            let Log { tx_hash, log_index, .. } = *log;
            return Err(ApplyError::ForeignEmitter { emitter, tx_hash, log_index });
        };
        applied.map_err(|what| ApplyError::Malformed { tx_hash: log.tx_hash, log_index: log.log_index, what })
    }

    /// Decodes a log of a watched contract and applies it, or counts it if it is none of the contract's events.
    fn read<E: SolEventInterface>(
        &mut self,
        log: &Log,
        selectors: &[[u8; 32]],
        apply: impl FnOnce(&mut Self, E) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let Some(selector) = log.topics.first().filter(|topic| selectors.contains(&topic.0)) else {
            let inherited = log.topics.first().is_some_and(|topic| Inherited::SELECTORS.contains(&topic.0));
            self.unknown_events += u64::from(!inherited);
            return Ok(());
        };
        let strict = AbiDecoderConfig::new().validate(true);
        let event = E::decode_raw_log_with_config(&log.topics, &log.data, strict)
            .map_err(|error| format!("event {selector} does not decode: {error}"))?;
        apply(self, event)
    }

    fn pool_event(&mut self, comptroller: Address, event: OfPool) -> Result<(), Refused> {
        match event {
            OfPool::NewPriceOracle(e) => self.edit_pool(comptroller, |pool| pool.oracle = e.newPriceOracle),
            OfPool::NewCloseFactor(e) => self.edit_pool(comptroller, |p| p.close_factor = e.newCloseFactorMantissa),
            OfPool::NewLiquidationIncentive(e) => {
                self.edit_pool(comptroller, |pool| pool.incentive = e.newLiquidationIncentiveMantissa)
            }
            OfPool::NewMinLiquidatableCollateral(e) => {
                self.edit_pool(comptroller, |pool| pool.collateral_min = e.newMinLiquidatableCollateral)
            }
            OfPool::MaxLoopsLimitUpdated(e) => self.edit_pool(comptroller, |pool| pool.loops_max = e.newmaxLoopsLimit),
            OfPool::MarketSupported(e) => self.supported(comptroller, e.vToken),
            OfPool::MarketUnlisted(e) => self.edit::<Listing>(e.vToken, |listing| listing.listed = false),
            OfPool::NewLiquidationThreshold(e) => {
                self.edit::<Listing>(e.vToken, |listing| listing.threshold = e.newLiquidationThresholdMantissa)
            }
            OfPool::IsForcedLiquidationEnabledUpdated(e) => {
                self.edit::<Listing>(e.vToken, |listing| listing.forced = e.enable)
            }
            OfPool::ActionPausedMarket(e) => self.paused(&e),
            OfPool::MarketEntered(e) => self.membership(comptroller, e.vToken, e.account, true),
            OfPool::MarketExited(e) => self.membership(comptroller, e.vToken, e.account, false),
            OfPool::NewCollateralFactor(_)
            | OfPool::NewBorrowCap(_)
            | OfPool::NewSupplyCap(_)
            | OfPool::NewRewardsDistributor(_)
            | OfPool::NewPrimeToken(_)
            | OfPool::DelegateUpdated(_) => Ok(()),
        }
    }

    /// A market is announced. It was empty so far, but for reserves that anybody may have given it: those are read.
    fn supported(&mut self, comptroller: Address, vtoken: Address) -> Result<(), Refused> {
        if self.find::<Listing>(vtoken)?.is_some() {
            return Err(format!("vToken {vtoken} is announced already"));
        }
        self.edit_pool(comptroller, |_| ())?;
        let ordinal = u32::try_from(self.listed).map_err(|_| "more markets than there are ids".to_owned())?;
        self.listed += 1;
        let listing = Listing { ordinal, comptroller, listed: true, ..Listing::default() };
        self.draft.set_record(Numbered::key(listing.market()), Some(Numbered { vtoken }.to_record()));
        self.put(vtoken, &listing);
        self.put(vtoken, &Balances { borrow_index: ONE, ..Balances::default() });
        Ok(())
    }

    fn paused(&mut self, event: &IComptroller::ActionPausedMarket) -> Result<(), Refused> {
        let bit = 1u16.checked_shl(event.action.into()).ok_or_else(|| format!("action {}", event.action))?;
        self.edit::<Listing>(event.vToken, |listing| match event.pauseState {
            true => listing.paused |= bit,
            false => listing.paused &= !bit,
        })
    }

    fn membership(&mut self, pool: Address, vtoken: Address, account: Address, enters: bool) -> Result<(), Refused> {
        let market = self.load::<Listing>(vtoken)?.market();
        self.edit_account(pool, account, |account| {
            match enters {
                true => account.entered.insert(market),
                false => account.entered.remove(&market),
            };
            Ok(())
        })
    }

    fn market_event(&mut self, log: &Log, next: Option<&Log>, event: OfMarket) -> Result<(), Refused> {
        let vtoken = log.address;
        match event {
            OfMarket::AccrueInterest(e) => self.accrued(vtoken, &e),
            OfMarket::Mint(e) => {
                self.add(vtoken, |sums| [(&mut sums.cash, e.mintAmount), (&mut sums.supply, e.mintTokens)])?;
                self.set_tokens(vtoken, e.minter, e.accountBalance)
            }
            OfMarket::Redeem(e) => {
                self.take(vtoken, |sums| [(&mut sums.cash, e.redeemAmount), (&mut sums.supply, e.redeemTokens)])?;
                self.move_tokens(vtoken, vtoken, e.redeemTokens, false)?;
                self.set_tokens(vtoken, e.redeemer, e.accountBalance)
            }
            OfMarket::Transfer(e) => self.transferred(vtoken, &e),
            OfMarket::Borrow(e) => {
                self.take(vtoken, |sums| [(&mut sums.cash, e.borrowAmount)])?;
                self.owes(vtoken, e.borrower, e.accountBorrows, e.totalBorrows)
            }
            OfMarket::RepayBorrow(e) => {
                // Forgiven debt is repaid by the vToken itself: no token moves.
                if e.payer != vtoken {
                    self.add(vtoken, |sums| [(&mut sums.cash, e.repayAmount)])?;
                }
                self.owes(vtoken, e.borrower, e.accountBorrows, e.totalBorrows)
            }
            OfMarket::BadDebtIncreased(e) => self.edit::<Balances>(vtoken, |sums| sums.bad_debt = e.badDebtNew),
            OfMarket::BadDebtRecovered(e) => {
                let recovered = e.badDebtOld.checked_sub(e.badDebtNew).ok_or("bad debt grew by a recovery")?;
                self.edit::<Balances>(vtoken, |sums| sums.bad_debt = e.badDebtNew)?;
                self.add(vtoken, |sums| [(&mut sums.cash, recovered)])
            }
            OfMarket::ProtocolSeize(e) => self.seized(log, next, &e),
            OfMarket::SpreadReservesReduced(e) => self.reserves_paid_out(vtoken, &e),
            OfMarket::ReservesAdded(e) => {
                self.edit::<Balances>(vtoken, |sums| sums.reserves = e.newTotalReserves)?;
                self.add(vtoken, |sums| [(&mut sums.cash, e.addAmount)])
            }
            OfMarket::CashSynced(e) => self.edit::<Balances>(vtoken, |sums| sums.cash = e.newInternalCash),
            OfMarket::NewMarketInterestRateModel(e) => {
                self.edit::<Listing>(vtoken, |listing| listing.model = e.newInterestRateModel)
            }
            OfMarket::NewReserveFactor(e) => {
                self.edit::<Listing>(vtoken, |listing| listing.reserve_factor = e.newReserveFactorMantissa)
            }
            OfMarket::NewProtocolSeizeShare(e) => {
                self.edit::<Listing>(vtoken, |listing| listing.seize_share = e.newProtocolSeizeShareMantissa)
            }
            OfMarket::NewReduceReservesBlockDelta(e) => self.edit::<Listing>(vtoken, |listing| {
                listing.reduce_every = e.newReduceReservesBlockOrTimestampDelta;
            }),
            OfMarket::LiquidateBorrow(_)
            | OfMarket::HealBorrow(_)
            | OfMarket::NewComptroller(_)
            | OfMarket::NewShortfallContract(_)
            | OfMarket::NewProtocolShareReserve(_)
            | OfMarket::Approval(_)
            | OfMarket::SweepToken(_) => Ok(()),
        }
    }

    /// Interest up to this block. The event states cash as it was before reserves were paid out of it.
    fn accrued(&mut self, vtoken: Address, event: &IVToken::AccrueInterest) -> Result<(), Refused> {
        let listing = self.load::<Listing>(vtoken)?;
        let paid_out = self.paid_out.remove(&vtoken);
        let (slot, factor) = (listing.slot(self.block), listing.reserve_factor);
        let mut sums = self.load::<Balances>(vtoken)?;
        if sums.is_reduction_due(slot, listing.reduce_every) {
            sums.reduced_at = slot;
        }
        sums.accrued_at = slot;
        sums.borrow_index = event.borrowIndex;
        sums.borrows = event.totalBorrows;
        let cash = event.cashPrior.checked_sub(paid_out.unwrap_or_default());
        sums.cash = cash.ok_or_else(|| format!("vToken {vtoken} paid out more than it had"))?;
        if paid_out.is_none() {
            let reserves = scaled(factor, event.interestAccumulated).and_then(|share| share.checked_add(sums.reserves));
            sums.reserves = reserves.ok_or_else(|| "reserves beyond 256 bits".to_owned())?;
        }
        self.put(vtoken, &sums);
        Ok(())
    }

    fn reserves_paid_out(&mut self, vtoken: Address, event: &IVToken::SpreadReservesReduced) -> Result<(), Refused> {
        let slot = self.load::<Listing>(vtoken)?.slot(self.block);
        self.take(vtoken, |sums| [(&mut sums.cash, event.reduceAmount)])?;
        let mut sums = self.load::<Balances>(vtoken)?;
        if sums.accrued_at != slot {
            self.paid_out.insert(vtoken, event.reduceAmount);
        }
        sums.reserves = event.newTotalReserves;
        self.put(vtoken, &sums);
        Ok(())
    }

    /// New vTokens come with `Mint`, which states the balance.
    fn transferred(&mut self, vtoken: Address, event: &IVToken::Transfer) -> Result<(), Refused> {
        if event.from.is_zero() {
            return Ok(());
        }
        self.move_tokens(vtoken, event.from, event.amount, false)?;
        self.move_tokens(vtoken, event.to, event.amount, true)
    }

    /// The protocol's part of a seizure leaves the borrower and the supply.
    fn seized(&mut self, log: &Log, next: Option<&Log>, event: &IVToken::ProtocolSeize) -> Result<(), Refused> {
        let (vtoken, borrower) = (log.address, event.from);
        let listing = self.load::<Listing>(vtoken)?;
        let liquidation = next
            .filter(|next| next.tx_hash == log.tx_hash)
            .and_then(|next| IVToken::LiquidateBorrow::decode_raw_log(&next.topics, &next.data).ok())
            .filter(|liquidation| liquidation.vTokenCollateral == vtoken && liquidation.borrower == borrower);
        let part = match liquidation {
            Some(liquidation) => {
                let incentive = self.load::<Pool>(listing.comptroller)?.incentive;
                protocol_part(liquidation.seizeTokens, listing.seize_share, incentive)
                    .ok_or_else(|| format!("the protocol's part of {} seized vTokens", liquidation.seizeTokens))?
            }
            None => self.account(listing.comptroller, borrower)?.tokens(listing.market()),
        };
        self.take(vtoken, |sums| [(&mut sums.cash, event.amount), (&mut sums.supply, part)])?;
        self.move_tokens(vtoken, borrower, part, false)
    }

    fn model_event(&mut self, model: Address, event: OfModel) -> Result<(), Refused> {
        let OfModel::NewInterestParams(e) = event;
        let IRateModel::NewInterestParams { kink, .. } = e;
        let parameters = RateModel::OneKink {
            base: e.baseRatePerBlockOrTimestamp,
            multiplier: e.multiplierPerBlockOrTimestamp,
            jump: e.jumpMultiplierPerBlockOrTimestamp,
            kink,
        };
        // A model that was never read is read at this block's end, and one of unknown form at every block.
        match self.find::<RateModel>(model)? {
            Some(RateModel::OneKink { .. }) => self.put(model, &parameters),
            _ => self.unknown_events += 1,
        }
        Ok(())
    }

    fn house_event(&mut self, event: OfHouse) -> Result<(), Refused> {
        match event {
            OfHouse::AuctionStarted(e) => {
                if e.markets.len() != e.marketsDebt.len() {
                    return Err(format!("{} markets with {} debts", e.markets.len(), e.marketsDebt.len()));
                }
                let auction = Auction {
                    open: true,
                    by_debt: e.auctionType == 0,
                    started_at: e.auctionStartBlockOrTimestamp,
                    fund: e.seizedRiskFund,
                    first_bid_bps: e.startBidBps,
                    debts: e.markets.into_iter().zip(e.marketsDebt).collect(),
                    ..Auction::default()
                };
                self.auction(e.comptroller, |_| Ok(auction))
            }
            OfHouse::BidPlaced(e) => {
                let block = self.block;
                // Slots of the auction are of the same kind as its start: a second is far above any block's number.
                let slot = move |started: U256| state::slot(block, started > U256::from(block.number));
                self.auction(e.comptroller, |auction| {
                    let auction = auction.ok_or("a bid in an auction that is not known")?;
                    let bid_at = slot(auction.started_at);
                    Ok(Auction { bidder: e.bidder, bid_bps: e.bidBps, bid_at, ..auction })
                })
            }
            OfHouse::AuctionClosed(e) => self.ended(e.comptroller),
            OfHouse::AuctionRestarted(e) => self.ended(e.comptroller),
            OfHouse::MinimumPoolBadDebtUpdated(e) => {
                self.edit_house(|house| house.bad_debt_min = e.newMinimumPoolBadDebt)
            }
            OfHouse::WaitForFirstBidderUpdated(e) => self.edit_house(|h| h.first_bid_slots = e.newWaitForFirstBidder),
            OfHouse::NextBidderBlockLimitUpdated(e) => {
                self.edit_house(|house| house.next_bid_slots = e.newNextBidderBlockOrTimestampLimit)
            }
            OfHouse::IncentiveBpsUpdated(e) => self.edit_house(|house| house.incentive_bps = e.newIncentiveBps),
            OfHouse::AuctionsPaused(_) => self.edit_house(|house| house.paused = true),
            OfHouse::AuctionsResumed(_) => self.edit_house(|house| house.paused = false),
            OfHouse::PoolRegistryUpdated(_) | OfHouse::TokenDebtAdded(_) | OfHouse::TokenDebtClaimed(_) => Ok(()),
        }
    }

    fn ended(&mut self, comptroller: Address) -> Result<(), Refused> {
        self.auction(comptroller, |auction| {
            let auction = auction.ok_or("the end of an auction that is not known")?;
            Ok(Auction { open: false, ..auction })
        })
    }

    /// Auctions of pools that are not configured are somebody else's.
    fn auction(
        &mut self,
        comptroller: Address,
        change: impl FnOnce(Option<Auction>) -> Result<Auction, &'static str>,
    ) -> Result<(), Refused> {
        if !self.settings.comptrollers.contains(&comptroller) {
            return Ok(());
        }
        let auction = change(self.find::<Auction>(comptroller)?)?;
        self.put(comptroller, &auction);
        Ok(())
    }

    /// Rules that were never read are read when they are first needed.
    fn edit_house(&mut self, change: impl FnOnce(&mut House)) -> Result<(), Refused> {
        let Some(words) = self.draft.record(&House::KEY) else { return Ok(()) };
        let mut house = House::from_record(words).ok_or("the auction house's record is malformed")?;
        change(&mut house);
        self.draft.set_record(House::KEY, Some(house.to_record()));
        Ok(())
    }

    /// A pool exists from its first event on.
    fn edit_pool(&mut self, comptroller: Address, change: impl FnOnce(&mut Pool)) -> Result<(), Refused> {
        let number = self.number(comptroller)?;
        let mut pool = self.find::<Pool>(comptroller)?.unwrap_or(Pool { number, ..Pool::default() });
        if pool.number != number {
            let was = pool.number;
            return Err(format!(
                "pool {comptroller} was number {was} and is {number} now: put comptrollers back in their old order, \
                 or index anew"
            ));
        }
        change(&mut pool);
        self.put(comptroller, &pool);
        Ok(())
    }

    /// Token units or vTokens that a market's sums gain.
    fn add<const N: usize>(
        &mut self,
        vtoken: Address,
        sums: impl FnOnce(&mut Balances) -> [(&mut U256, U256); N],
    ) -> Result<(), Refused> {
        self.shift(vtoken, sums, U256::checked_add)
    }

    /// Token units or vTokens that a market's sums lose.
    fn take<const N: usize>(
        &mut self,
        vtoken: Address,
        sums: impl FnOnce(&mut Balances) -> [(&mut U256, U256); N],
    ) -> Result<(), Refused> {
        self.shift(vtoken, sums, U256::checked_sub)
    }

    fn shift<const N: usize>(
        &mut self,
        vtoken: Address,
        sums: impl FnOnce(&mut Balances) -> [(&mut U256, U256); N],
        by: impl Fn(U256, U256) -> Option<U256>,
    ) -> Result<(), Refused> {
        // What a market held before it was announced is not known yet: its own sums are read at the block's end.
        if !self.load::<Listing>(vtoken)?.read {
            return Ok(());
        }
        let mut balances = self.load::<Balances>(vtoken)?;
        for (sum, amount) in sums(&mut balances) {
            *sum = by(*sum, amount)
                .ok_or_else(|| format!("{amount} does not go with a sum of {sum} of vToken {vtoken}"))?;
        }
        self.put(vtoken, &balances);
        Ok(())
    }

    fn owes(&mut self, vtoken: Address, borrower: Address, principal: U256, borrows: U256) -> Result<(), Refused> {
        let listing = self.load::<Listing>(vtoken)?;
        let mut sums = self.load::<Balances>(vtoken)?;
        let index = sums.borrow_index;
        sums.borrows = borrows;
        self.put(vtoken, &sums);
        self.edit_account(listing.comptroller, borrower, |account| {
            account.set_debt(listing.market(), Debt { principal, index });
            Ok(())
        })
    }

    fn set_tokens(&mut self, vtoken: Address, holder: Address, tokens: U256) -> Result<(), Refused> {
        let listing = self.load::<Listing>(vtoken)?;
        self.edit_account(listing.comptroller, holder, |account| {
            account.set_tokens(listing.market(), tokens);
            Ok(())
        })
    }

    fn move_tokens(&mut self, vtoken: Address, holder: Address, tokens: U256, gains: bool) -> Result<(), Refused> {
        let listing = self.load::<Listing>(vtoken)?;
        self.edit_account(listing.comptroller, holder, |account| {
            let held = account.tokens(listing.market());
            let moved = if gains { held.checked_add(tokens) } else { held.checked_sub(tokens) };
            let moved = moved.ok_or_else(|| format!("{holder} holds {held} of vToken {vtoken}, {tokens} move"))?;
            account.set_tokens(listing.market(), moved);
            Ok(())
        })
    }

    fn account(&self, comptroller: Address, owner: Address) -> Result<Account, Refused> {
        let unit = self.draft.unit(&state::unit_key(comptroller, owner));
        unit.map_or_else(|| Ok(Account::default()), |unit| Account::of(unit).map_err(|error| error.to_string()))
    }

    /// A unit exists while there is anything in it.
    fn edit_account(
        &mut self,
        comptroller: Address,
        owner: Address,
        change: impl FnOnce(&mut Account) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut account = self.account(comptroller, owner)?;
        change(&mut account)?;
        let unit = account.unit(SegmentId(self.number(comptroller)?), owner).map_err(|error| error.to_string())?;
        self.draft.set_unit(state::unit_key(comptroller, owner), unit);
        Ok(())
    }

    fn number(&self, comptroller: Address) -> Result<u32, Refused> {
        self.settings.pool_number(comptroller).ok_or_else(|| format!("{comptroller} is no configured pool"))
    }

    fn is_market(&self, address: Address) -> bool {
        self.draft.words(&RecordKey { kind: Listing::KIND, id: address.into_word() }).is_some()
    }

    /// Models are watched from the block on in which a market named them.
    fn is_model(&self, address: Address) -> bool {
        self.draft.words(&RecordKey { kind: RateModel::KIND, id: address.into_word() }).is_some()
    }

    fn edit<T: Stored>(&mut self, contract: Address, change: impl FnOnce(&mut T)) -> Result<(), Refused> {
        let mut value = self.load::<T>(contract)?;
        change(&mut value);
        self.put(contract, &value);
        Ok(())
    }

    fn find<T: Stored>(&self, contract: Address) -> Result<Option<T>, Refused> {
        state::find(&self.draft, contract.into_word()).map_err(|error| error.to_string())
    }

    fn load<T: Stored>(&self, contract: Address) -> Result<T, Refused> {
        self.find(contract)?.ok_or_else(|| format!("{} {contract} is not known", T::NAME))
    }

    fn put<T: Stored>(&mut self, contract: Address, value: &T) {
        self.draft.set_record(RecordKey { kind: T::KIND, id: contract.into_word() }, Some(value.to_record()));
    }
}

/// The protocol's part of seized vTokens, as `VToken._seize` divides it: rounded down twice.
pub(super) fn protocol_part(seized: U256, seize_share: U256, incentive: U256) -> Option<U256> {
    scaled(seized, seize_share)?.checked_mul(ONE)?.checked_div(incentive)
}
