//! One block's logs → a change of the book.
//!
//! Events carry the state after the change, so a log overwrites; nothing is added up. Events that only tell what
//! happened and why are checked for their form and change nothing, and so do role changes and the opening of a round of
//! socialised loss: no decision is made from them.
//!
//! Invariants: a log of a contract that is not watched is refused; a known event that does not decode, or that names a
//! segment, market or order the cache does not know, is refused; an unknown event of a watched contract is counted.
//! Must not: read anything but the book and the logs.

use alloy::sol_types::{SolEvent, SolEventInterface, abi::AbiDecoderConfig};

use super::{
    Membership, Settings,
    abi::{
        IAccessControl,
        IBackstopPool::IBackstopPoolEvents as Pool,
        IClearinghouse::{self, IClearinghouseEvents as Venue},
        IPriceFeed::{self, IPriceFeedEvents},
        IRiskSteward::{self, IRiskStewardEvents as Steward},
    },
    history::{Payments, Prices},
    pool,
    state::{self, Bounds, Claim, Feed, Gate, Market, Moves, Order, Restitution, Segment, Stored},
};
use crate::{
    positions::{Book, Draft, Leg, LegKind, RecordKey, Unit},
    protocols::{Applied, ApplyError},
    types::{Address, B256, BlockRef, I256, Log, U256},
};

/// Applies a block's logs, in order, to an edit of the book.
pub(super) fn apply(settings: &Settings, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
    let draft = Draft::new(book);
    let mut decoder =
        Decoder { settings, block, base: book, draft, listing: listing(settings, logs), listed: 0, unknown_events: 0 };
    for log in logs {
        decoder.log(log)?;
    }
    Ok(Applied { delta: decoder.draft.finish(), unknown_events: decoder.unknown_events })
}

/// The feeds of the markets that these logs list.
fn listing(settings: &Settings, logs: &[Log]) -> Vec<Address> {
    let of_venue = logs.iter().filter(|log| log.address == settings.clearinghouse);
    of_venue
        .filter_map(|log| IClearinghouse::MarketListed::decode_raw_log(&log.topics, &log.data).ok())
        .map(|listed| listed.config.feed)
        .collect()
}

/// What is wrong with a log, for people.
type Refused = String;

struct Decoder<'a> {
    settings: &'a Settings,
    block: &'a BlockRef,
    base: &'a Book,
    draft: Draft<'a>,
    /// Feeds that this block's listings name: whoever asks for a block again with all emitters known after it gets their
    /// logs from before the listing too.
    listing: Vec<Address>,
    /// Markets listed since the base.
    listed: usize,
    unknown_events: u64,
}

impl Decoder<'_> {
    fn log(&mut self, log: &Log) -> Result<(), ApplyError> {
        let applied = if log.address == self.settings.clearinghouse {
            self.read(log, Venue::SELECTORS, Self::venue_event)
        } else if Some(log.address) == self.settings.steward {
            self.read(log, Steward::SELECTORS, Self::steward_event)
        } else if let Some(Membership { member, .. }) = self.settings.backstop.filter(|b| b.pool == log.address) {
            self.read(log, Pool::SELECTORS, |decoder, event| decoder.pool_event(pool::change(member, event)))
        } else if self.is_feed(log.address) {
            self.read(log, IPriceFeedEvents::SELECTORS, |decoder, event| decoder.price_posted(log.address, event))
        } else {
            let Log { address: emitter, tx_hash, log_index, .. } = *log;
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
            self.unknown_events += u64::from(!is_role_event(log));
            return Ok(());
        };
        let strict = AbiDecoderConfig::new().validate(true);
        let event = E::decode_raw_log_with_config(&log.topics, &log.data, strict)
            .map_err(|error| format!("event {selector} does not decode: {error}"))?;
        apply(self, event)
    }

    fn venue_event(&mut self, event: Venue) -> Result<(), Refused> {
        match event {
            Venue::SegmentOpened(e) => self.segment_opened(e.segment),
            Venue::MarketListed(e) => self.market_listed(&e),
            Venue::MarginSet(e) => self.edit::<Market>(e.market.into(), |market| {
                market.maintenance_margin_bps = e.maintenanceMarginBps;
                market.initial_margin_bps = e.initialMarginBps;
            }),
            Venue::FundingSet(e) => self.edit::<Market>(e.market.into(), |market| {
                market.funding_rate_x18 = e.rateX18;
                market.funding_index = e.index;
                market.funding_since = e.since;
            }),
            Venue::FundFloorSet(e) => self.edit::<Segment>(e.segment.into(), |segment| segment.floor = e.floor),
            Venue::FundChanged(e) => self.edit::<Segment>(e.segment.into(), |segment| segment.fund = e.balance),
            Venue::CashChanged(e) => self.edit_unit(e.segment, e.account, |unit| unit.cash = e.cash),
            Venue::PositionChanged(e) => self.position_changed(&e),
            Venue::OrderPlaced(e) => self.order_placed(&e),
            Venue::OrderChanged(e) => self.order_changed(e.order, e.lots),
            Venue::WithdrawalsGated(e) => {
                self.put(number(e.segment.into()), &Gate { shut_until: e.untilBlock });
                Ok(())
            }
            Venue::ClaimChanged(e) => self.claim(e.segment, e.account, |claim| claim.amount = e.claim),
            Venue::ClaimPaid(e) => self.claim_paid(&e),
            Venue::RestitutionOpened(e) => {
                let (budget, base) = (e.budget, e.base);
                let opened_at = self.block.number;
                let round = Restitution { number: e.round, opened_at, budget, base, unpaid: budget };
                self.put(number(e.segment.into()), &round);
                Ok(())
            }
            Venue::InsuranceDrawn(e) => {
                let mut payments = self.find::<Payments>(number(e.segment.into()))?.unwrap_or_default();
                payments.see(self.block.timestamp, e.amount, self.settings.observe_every_seconds);
                self.put(number(e.segment.into()), &payments);
                Ok(())
            }
            Venue::SocialisationOpened(_)
            | Venue::Deposited(_)
            | Venue::Withdrawn(_)
            | Venue::FundDeposited(_)
            | Venue::Traded(_)
            | Venue::Liquidated(_)
            | Venue::Deleveraged(_)
            | Venue::LossSocialised(_)
            | Venue::ShortfallCovered(_) => Ok(()),
        }
    }

    fn steward_event(&mut self, event: Steward) -> Result<(), Refused> {
        let moved_at = self.block.timestamp;
        match event {
            Steward::BoundsSet(IRiskSteward::BoundsSet { market, bounds }) => {
                let bounds = Bounds {
                    max_step_bps: bounds.maxStepBps,
                    min_delay_seconds: bounds.minDelaySeconds,
                    margin_floor_bps: bounds.marginFloorBps,
                    margin_ceiling_bps: bounds.marginCeilingBps,
                    max_funding_step_x18: bounds.maxFundingStepX18,
                    max_funding_rate_x18: bounds.maxFundingRateX18,
                };
                self.put(number(market.into()), &bounds);
                Ok(())
            }
            Steward::MarginMoved(e) => self.moved(e.market, |moves| moves.margin_at = moved_at),
            Steward::FundingMoved(e) => self.moved(e.market, |moves| moves.funding_at = moved_at),
        }
    }

    fn pool_event(&mut self, change: pool::Change) -> Result<(), Refused> {
        let mut pool = self.find::<pool::Pool>(pool::ONLY)?.unwrap_or_default();
        let mut terms = self.find::<pool::Terms>(pool::ONLY)?.unwrap_or_default();
        if let Some(edit) = change.edit {
            edit(&mut pool, &mut terms);
        }
        if let Some((id, claim)) = change.claim {
            self.put(id, &claim);
        }
        if terms.first_loss_bps >= 10_000 {
            return Err(format!("a member of the backstop pool bears {} bps of its losses", terms.first_loss_bps));
        }
        self.put(pool::ONLY, &pool);
        self.put(pool::ONLY, &terms);
        Ok(())
    }

    fn price_posted(&mut self, feed: Address, event: IPriceFeedEvents) -> Result<(), Refused> {
        let IPriceFeedEvents::PricePosted(IPriceFeed::PricePosted { price, updatedAt }) = event;
        self.put(Feed::id(feed), &Feed { price, updated_at: updatedAt });
        let mut prices = self.find::<Prices>(Feed::id(feed))?.unwrap_or_default();
        if prices.see(self.block.timestamp, price, self.settings.observe_every_seconds) {
            self.put(Feed::id(feed), &prices);
        }
        Ok(())
    }

    fn segment_opened(&mut self, segment: u16) -> Result<(), Refused> {
        let id = number(segment.into());
        if self.find::<Segment>(id)?.is_some() {
            return Err(format!("segment {segment} is open already"));
        }
        self.put(id, &Segment::default());
        Ok(())
    }

    fn market_listed(&mut self, event: &IClearinghouse::MarketListed) -> Result<(), Refused> {
        let IClearinghouse::MarketListed { market, config } = event;
        let id = number(u64::from(*market));
        if self.find::<Market>(id)?.is_some() {
            return Err(format!("market {market} is listed already"));
        }
        self.load::<Segment>(config.segment.into())?;
        let ordinal = self.base.records_of(Market::KIND).count() + self.listed;
        let market = Market {
            ordinal: u32::try_from(ordinal).map_err(|_| "more markets than there are ids".to_owned())?,
            segment: config.segment,
            feed: config.feed,
            max_price_age_seconds: config.maxPriceAgeSeconds,
            maintenance_margin_bps: config.maintenanceMarginBps,
            initial_margin_bps: config.initialMarginBps,
            liquidation_fee_bps: config.liquidationFeeBps,
            max_slippage_bps: config.maxSlippageBps,
            funding_index: I256::ZERO,
            funding_rate_x18: I256::ZERO,
            funding_since: self.block.timestamp,
        };
        self.listed += 1;
        self.put(id, &market);
        let feed = Feed::id(config.feed);
        if self.find::<Feed>(feed)?.is_none() {
            self.put(feed, &Feed::default());
        }
        Ok(())
    }

    fn claim(&mut self, segment: u16, owner: Address, change: impl FnOnce(&mut Claim)) -> Result<(), Refused> {
        let id = Claim::id(segment, owner);
        let mut claim = self.find::<Claim>(id)?.unwrap_or_default();
        change(&mut claim);
        let record = (!claim.amount.is_zero()).then(|| claim.to_record());
        self.draft.set_record(RecordKey { kind: Claim::KIND, id }, record);
        Ok(())
    }

    /// A claim that is paid in full is gone before this is told, and takes part in no later round.
    fn claim_paid(&mut self, event: &IClearinghouse::ClaimPaid) -> Result<(), Refused> {
        let IClearinghouse::ClaimPaid { segment, account, amount } = *event;
        let mut round: Restitution = self.load(segment.into())?;
        let left = round.unpaid.checked_sub(amount);
        round.unpaid = left.ok_or_else(|| format!("a claim of {amount} is paid in a round of {}", round.unpaid))?;
        self.put(number(segment.into()), &round);
        self.claim(segment, account, |claim| claim.paid_in = round.number)
    }

    fn position_changed(&mut self, event: &IClearinghouse::PositionChanged) -> Result<(), Refused> {
        let IClearinghouse::PositionChanged { market, account, lots, quote } = *event;
        if lots.is_zero() && !quote.is_zero() {
            return Err(format!("a position of no lots in market {market} keeps a quote of {quote}"));
        }
        let segment = self.load::<Market>(market.into())?.segment;
        self.edit_unit(segment, account, |unit| {
            unit.set_leg(Leg { market: state::market_id(market), kind: LegKind::Perp, quantity: lots, quote });
        })
    }

    fn order_placed(&mut self, event: &IClearinghouse::OrderPlaced) -> Result<(), Refused> {
        let IClearinghouse::OrderPlaced { order, market, maker, isBuy: is_buy, price, lots } = *event;
        self.load::<Market>(market.into())?;
        self.put(number(order), &Order { market, maker, is_buy, price, lots });
        Ok(())
    }

    fn order_changed(&mut self, order: u64, lots: u64) -> Result<(), Refused> {
        if lots > 0 {
            return self.edit::<Order>(order, |resting| resting.lots = lots);
        }
        self.load::<Order>(order)?;
        self.draft.set_record(RecordKey::numbered(Order::KIND, order), None);
        Ok(())
    }

    fn moved(&mut self, market: u16, change: impl FnOnce(&mut Moves)) -> Result<(), Refused> {
        let id = number(market.into());
        let mut moves = self.find::<Moves>(id)?.unwrap_or_default();
        change(&mut moves);
        self.put(id, &moves);
        Ok(())
    }

    /// A unit exists from the first event that names it.
    fn edit_unit(&mut self, segment: u16, owner: Address, change: impl FnOnce(&mut Unit)) -> Result<(), Refused> {
        self.load::<Segment>(segment.into())?;
        let key = state::unit_key(segment, owner);
        let known = self.draft.unit(&key).map(|unit| (**unit).clone());
        let mut unit = known.unwrap_or_else(|| Unit::new(state::segment_id(segment), owner));
        change(&mut unit);
        self.draft.set_unit(key, Some(unit));
        Ok(())
    }

    fn edit<T: Stored>(&mut self, id: u64, change: impl FnOnce(&mut T)) -> Result<(), Refused> {
        let mut value = self.load::<T>(id)?;
        change(&mut value);
        self.put(number(id), &value);
        Ok(())
    }

    fn is_feed(&self, address: Address) -> bool {
        let key = RecordKey { kind: Feed::KIND, id: Feed::id(address) };
        self.settings.feeds.contains(&address) || self.listing.contains(&address) || self.draft.record(&key).is_some()
    }

    fn find<T: Stored>(&self, id: B256) -> Result<Option<T>, Refused> {
        state::find(&self.draft, id).map_err(|error| error.to_string())
    }

    fn load<T: Stored>(&self, id: u64) -> Result<T, Refused> {
        self.find(number(id))?.ok_or_else(|| format!("{} {id} is not known", T::NAME))
    }

    fn put<T: Stored>(&mut self, id: B256, value: &T) {
        self.draft.set_record(RecordKey { kind: T::KIND, id }, Some(value.to_record()));
    }
}

fn number(id: u64) -> B256 {
    B256::from(U256::from(id))
}

/// Role changes come from every contract of the venue and move no state that is cached.
fn is_role_event(log: &Log) -> bool {
    const ROLE_EVENTS: [B256; 3] = [
        IAccessControl::RoleGranted::SIGNATURE_HASH,
        IAccessControl::RoleRevoked::SIGNATURE_HASH,
        IAccessControl::RoleAdminChanged::SIGNATURE_HASH,
    ];
    log.topics.first().is_some_and(|topic| ROLE_EVENTS.contains(topic))
}
