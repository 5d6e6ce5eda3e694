//! The protocol's shared state as the cache's records hold it, and how its units are named.
//!
//! | kind | id | words |
//! |---|---|---|
//! | 1 pool | comptroller | number, oracle, close factor, liquidation incentive, least collateral for a plain liquidation, loop limit |
//! | 2 listing | vToken | ordinal, comptroller, listed, read, underlying, rate model, liquidation threshold, reserve factor, protocol's share of a seizure, forced liquidation, paused actions (bits), counts seconds, slots between reserve reductions |
//! | 3 balances | vToken | accrued at (slot), borrow index, borrows, reserves, supply, bad debt, cash, reserves reduced at (slot) |
//! | 4 price | vToken | the oracle's; 0: it has none |
//! | 5 rate model | contract | form, parameters; see [`super::rates`] |
//! | 6 rate | vToken | borrow rate a slot, of a model of unknown form |
//! | 7 auction house | 0 | risk fund, least bad debt, incentive (bps), slots for a next bid, slots for a first bid, paused, counts seconds |
//! | 8 risk fund | comptroller | base asset, reserves of the pool, oracle's price of the asset |
//! | 9 auction | comptroller | open, pays by debt share, started at (slot), fund put up, first bid (bps), bidder, bid (bps), bid at (slot), then vToken and debt of each market |
//! | 10 market | ordinal | vToken |
//!
//! Factors, thresholds, rates and indexes are scaled by 1e18; prices so that amount × price / 1e18 is USD × 1e18. A slot is
//! a block's number, or its second where the contract counts those. A unit's key is the comptroller and the account.
//!
//! Invariants: writing a record and reading it gives the same value; words that are no such record are an error, never
//! a default.
//! Must not: know events or calls.

pub(super) use crate::protocols::records::{Records, Stored, find};
use crate::{
    positions::{Book, Record, RecordKey},
    protocols::records::{address_word, word_address},
    scanner::Unvalued,
    types::{Address, B256, BlockRef, MarketId, U256, UnitKey},
};

/// The record of a contract that must be there.
pub(super) fn load<T: Stored>(records: &impl Records, contract: Address) -> Result<T, Unvalued> {
    find(records, contract.into_word())?.ok_or_else(|| Unvalued::Missing(format!("{} {contract}", T::NAME)))
}

/// All records of one kind by the contract that names them; malformed ones are left out.
pub(super) fn all<T: Stored>(book: &Book) -> impl Iterator<Item = (Address, T)> {
    book.records_of(T::KIND).filter_map(|(key, words)| Some((Address::from_word(key.id), T::from_record(words)?)))
}

/// The vToken of a market.
pub(super) fn vtoken(records: &impl Records, market: MarketId) -> Result<Address, Unvalued> {
    let missing = || Unvalued::Missing(format!("market {market}"));
    let words = records.words(&Numbered::key(market)).ok_or_else(missing)?;
    Numbered::from_record(words).map(|numbered| numbered.vtoken).ok_or_else(missing)
}

/// One isolated pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pool {
    /// Its place among the configured ones: its segment.
    pub(super) number: u32,
    /// Who prices its markets.
    pub(super) oracle: Address,
    /// Most of a debt that one liquidation may repay.
    pub(super) close_factor: U256,
    /// Value seized for value repaid, above 1e18.
    pub(super) incentive: U256,
    /// Collateral at or below this is not liquidated debt by debt, USD × 1e18.
    pub(super) collateral_min: U256,
    /// Half of the most orders that one account's liquidation may have.
    pub(super) loops_max: U256,
}

impl Stored for Pool {
    const KIND: u16 = 1;
    const NAME: &'static str = "pool";

    fn to_record(&self) -> Record {
        vec![
            U256::from(self.number),
            address_word(self.oracle),
            self.close_factor,
            self.incentive,
            self.collateral_min,
            self.loops_max,
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[number, oracle, close_factor, incentive, collateral_min, loops_max] = words else { return None };
        let (number, oracle) = (number.try_into().ok()?, word_address(oracle)?);
        Some(Self { number, oracle, close_factor, incentive, collateral_min, loops_max })
    }
}

/// An action that a comptroller can pause in a market, by its number on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Pausable {
    Repay = 3,
    Seize = 4,
    Liquidate = 5,
}

/// What a market is, as far as it changes seldom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// Its number over all pools, in the order of listing.
    pub(super) ordinal: u32,
    /// Its pool.
    pub(super) comptroller: Address,
    /// Whether accounts' liquidity counts it.
    pub(super) listed: bool,
    /// Whether what no event carries was read.
    pub(super) read: bool,
    /// The token it lends.
    pub(super) underlying: Address,
    /// Who sets its borrow rate.
    pub(super) model: Address,
    /// Collateral's part that backs debt.
    pub(super) threshold: U256,
    /// Interest's part that becomes reserves.
    pub(super) reserve_factor: U256,
    /// The protocol's part of a seizure, of the value repaid.
    pub(super) seize_share: U256,
    /// Whether its debts may be liquidated at any health.
    pub(super) forced: bool,
    /// Paused actions, one bit each.
    pub(super) paused: u16,
    /// Whether slots are seconds; else blocks.
    pub(super) time_based: bool,
    /// Slots between two reductions of reserves.
    pub(super) reduce_every: U256,
}

impl Listing {
    /// The slot of a block.
    pub(super) fn slot(&self, block: &BlockRef) -> U256 {
        slot(block, self.time_based)
    }

    /// Whether an action is paused here.
    pub(super) fn is_paused(&self, action: Pausable) -> bool {
        self.paused & (1 << action as u8) != 0
    }

    pub(super) fn market(&self) -> MarketId {
        MarketId(self.ordinal)
    }
}

/// What a contract of this protocol takes for the time of a block.
pub(super) fn slot(block: &BlockRef, time_based: bool) -> U256 {
    U256::from(if time_based { block.timestamp } else { block.number })
}

impl Stored for Listing {
    const KIND: u16 = 2;
    const NAME: &'static str = "listing of vToken";

    fn to_record(&self) -> Record {
        vec![
            U256::from(self.ordinal),
            address_word(self.comptroller),
            U256::from(self.listed),
            U256::from(self.read),
            address_word(self.underlying),
            address_word(self.model),
            self.threshold,
            self.reserve_factor,
            self.seize_share,
            U256::from(self.forced),
            U256::from(self.paused),
            U256::from(self.time_based),
            self.reduce_every,
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[
            ordinal,
            comptroller,
            listed,
            read,
            underlying,
            model,
            threshold,
            factor,
            share,
            forced,
            paused,
            time,
            every,
        ] = words
        else {
            return None;
        };
        Some(Self {
            ordinal: ordinal.try_into().ok()?,
            comptroller: word_address(comptroller)?,
            listed: word_bool(listed)?,
            read: word_bool(read)?,
            underlying: word_address(underlying)?,
            model: word_address(model)?,
            threshold,
            reserve_factor: factor,
            seize_share: share,
            forced: word_bool(forced)?,
            paused: paused.try_into().ok()?,
            time_based: word_bool(time)?,
            reduce_every: every,
        })
    }
}

/// A market's sums, as the contract stores them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Balances {
    /// The slot up to which interest is in the other figures.
    pub(super) accrued_at: U256,
    /// Growth of a debt since the market began.
    pub(super) borrow_index: U256,
    /// Debts of all accounts, token units; bad debt is not in them.
    pub(super) borrows: U256,
    /// The protocol's own part of the cash, token units.
    pub(super) reserves: U256,
    /// vTokens of all accounts.
    pub(super) supply: U256,
    /// Debt that nobody owes any more, token units.
    pub(super) bad_debt: U256,
    /// Tokens in hand.
    pub(super) cash: U256,
    /// The slot in which reserves were last due to be paid out.
    pub(super) reduced_at: U256,
}

impl Stored for Balances {
    const KIND: u16 = 3;
    const NAME: &'static str = "balances of vToken";

    fn to_record(&self) -> Record {
        vec![
            self.accrued_at,
            self.borrow_index,
            self.borrows,
            self.reserves,
            self.supply,
            self.bad_debt,
            self.cash,
            self.reduced_at,
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[accrued_at, borrow_index, borrows, reserves, supply, bad_debt, cash, reduced_at] = words else {
            return None;
        };
        Some(Self { accrued_at, borrow_index, borrows, reserves, supply, bad_debt, cash, reduced_at })
    }
}

/// The oracle's price of a market's token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Price(pub(super) U256);

impl Stored for Price {
    const KIND: u16 = 4;
    const NAME: &'static str = "price of vToken";

    fn to_record(&self) -> Record {
        vec![self.0]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[price] = words else { return None };
        Some(Self(price))
    }
}

/// The borrow rate that a model of unknown form gives a market now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rate(pub(super) U256);

impl Stored for Rate {
    const KIND: u16 = 6;
    const NAME: &'static str = "borrow rate of vToken";

    fn to_record(&self) -> Record {
        vec![self.0]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[rate] = words else { return None };
        Some(Self(rate))
    }
}

/// The auction house's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct House {
    /// The fund that pays.
    pub(super) risk_fund: Address,
    /// Least bad debt of a pool for an auction, USD × 1e18.
    pub(super) bad_debt_min: U256,
    /// What bidders get above the bad debt they pay.
    pub(super) incentive_bps: U256,
    /// Slots that must pass after a bid before the auction can be closed.
    pub(super) next_bid_slots: U256,
    /// Slots after which an auction without a bid is stale.
    pub(super) first_bid_slots: U256,
    /// Whether no auction may start.
    pub(super) paused: bool,
    /// Whether slots are seconds; else blocks.
    pub(super) time_based: bool,
}

impl House {
    /// There is one.
    pub(super) const KEY: RecordKey = RecordKey { kind: Self::KIND, id: B256::ZERO };

    /// Its rules, if they were read.
    pub(super) fn known(book: &Book) -> Option<Self> {
        Self::from_record(book.record(&Self::KEY)?)
    }
}

impl Stored for House {
    const KIND: u16 = 7;
    const NAME: &'static str = "auction house";

    fn to_record(&self) -> Record {
        vec![
            address_word(self.risk_fund),
            self.bad_debt_min,
            self.incentive_bps,
            self.next_bid_slots,
            self.first_bid_slots,
            U256::from(self.paused),
            U256::from(self.time_based),
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[risk_fund, bad_debt_min, incentive_bps, next_bid_slots, first_bid_slots, paused, time_based] = words
        else {
            return None;
        };
        Some(Self {
            risk_fund: word_address(risk_fund)?,
            bad_debt_min,
            incentive_bps,
            next_bid_slots,
            first_bid_slots,
            paused: word_bool(paused)?,
            time_based: word_bool(time_based)?,
        })
    }
}

/// What the risk fund holds for a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fund {
    /// The token it pays in.
    pub(super) asset: Address,
    /// Token units.
    pub(super) reserves: U256,
    /// The oracle's price of the token; 0: it has none.
    pub(super) price: U256,
}

impl Stored for Fund {
    const KIND: u16 = 8;
    const NAME: &'static str = "risk fund of pool";

    fn to_record(&self) -> Record {
        vec![address_word(self.asset), self.reserves, self.price]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[asset, reserves, price] = words else { return None };
        Some(Self { asset: word_address(asset)?, reserves, price })
    }
}

/// A pool's latest auction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Auction {
    /// Whether it is going on.
    pub(super) open: bool,
    /// Whether bids say how much of the debt they pay for the whole fund (LARGE_POOL_DEBT); else how much of the fund
    /// they take for the whole debt (LARGE_RISK_FUND).
    pub(super) by_debt: bool,
    /// The slot it started in; names it.
    pub(super) started_at: U256,
    /// What of the fund is put up.
    pub(super) fund: U256,
    /// The first bid's bound.
    pub(super) first_bid_bps: U256,
    /// Who bids most; zero: nobody yet.
    pub(super) bidder: Address,
    /// That bid.
    pub(super) bid_bps: U256,
    /// The slot of that bid.
    pub(super) bid_at: U256,
    /// Bad debt on offer, by vToken in the contract's order, token units.
    pub(super) debts: Vec<(Address, U256)>,
}

impl Stored for Auction {
    const KIND: u16 = 9;
    const NAME: &'static str = "auction of pool";

    fn to_record(&self) -> Record {
        let head = [
            U256::from(self.open),
            U256::from(self.by_debt),
            self.started_at,
            self.fund,
            self.first_bid_bps,
            address_word(self.bidder),
            self.bid_bps,
            self.bid_at,
        ];
        let debts = self.debts.iter().flat_map(|(vtoken, debt)| [address_word(*vtoken), *debt]);
        head.into_iter().chain(debts).collect()
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let (&[open, by_debt, started_at, fund, first_bid_bps, bidder, bid_bps, bid_at], debts) =
            words.split_first_chunk::<8>()?;
        let (pairs, rest) = debts.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        Some(Self {
            open: word_bool(open)?,
            by_debt: word_bool(by_debt)?,
            started_at,
            fund,
            first_bid_bps,
            bidder: word_address(bidder)?,
            bid_bps,
            bid_at,
            debts: pairs.iter().map(|&[vtoken, debt]| Some((word_address(vtoken)?, debt))).collect::<Option<_>>()?,
        })
    }
}

/// Which vToken a market's number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) vtoken: Address,
}

impl Numbered {
    pub(super) fn key(market: MarketId) -> RecordKey {
        RecordKey::numbered(Self::KIND, market.0.into())
    }
}

impl Stored for Numbered {
    const KIND: u16 = 10;
    const NAME: &'static str = "market";

    fn to_record(&self) -> Record {
        vec![address_word(self.vtoken)]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[vtoken] = words else { return None };
        Some(Self { vtoken: word_address(vtoken)? })
    }
}

/// The key of an account in a pool.
pub(super) fn unit_key(comptroller: Address, account: Address) -> UnitKey {
    UnitKey::new([comptroller.as_slice(), account.as_slice()].concat()).expect("invariant: forty bytes are a key")
}

/// Comptroller and account of a key, `None` if it is none of this protocol's.
pub(super) fn parse_unit_key(key: &UnitKey) -> Option<(Address, Address)> {
    let bytes: &[u8; 40] = key.as_bytes().try_into().ok()?;
    let (comptroller, account) = bytes.split_at(20);
    Some((Address::from_slice(comptroller), Address::from_slice(account)))
}

fn word_bool(word: U256) -> Option<bool> {
    match u8::try_from(word).ok()? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    fn survives<T: Stored + PartialEq + Debug>(value: T) {
        let words = value.to_record();
        assert_eq!(T::from_record(&words), Some(value));
        assert_eq!(T::from_record(&words[1..]), None, "a word short");
    }

    #[test]
    fn records_survive_their_words_and_refuse_other_lengths() {
        let (address, one) = (Address::repeat_byte(0xab), U256::ONE);
        survives(Pool { number: 7, oracle: address, close_factor: one, incentive: U256::MAX, ..Pool::default() });
        survives(Listing {
            ordinal: 3,
            comptroller: address,
            listed: true,
            read: true,
            underlying: address,
            model: address,
            threshold: one,
            reserve_factor: U256::MAX,
            seize_share: U256::from(5),
            forced: true,
            paused: 0b1_0010_1000,
            time_based: true,
            reduce_every: U256::from(9),
        });
        survives(Balances { accrued_at: one, borrow_index: U256::MAX, cash: U256::from(3), ..Balances::default() });
        survives(Price(one));
        survives(Rate(U256::MAX));
        survives(House { risk_fund: address, incentive_bps: one, paused: true, ..House::default() });
        survives(Fund { asset: address, reserves: one, price: U256::MAX });
        survives(Auction { open: true, bidder: address, debts: vec![(address, one)], ..Auction::default() });
        survives(Numbered { vtoken: address });
    }

    #[test]
    fn words_out_of_range_are_no_record() {
        let listing = Listing { listed: true, ..Listing::default() };
        for (word, bad) in [(0, U256::MAX), (1, U256::MAX), (2, U256::from(2)), (10, U256::from(1 << 16))] {
            let mut words = listing.to_record();
            words[word] = bad;
            assert_eq!(Listing::from_record(&words), None, "word {word}");
        }
    }

    #[test]
    fn pauses_are_bits_by_the_chain_s_numbers() {
        let listing = Listing { paused: 1 << 4, ..Listing::default() };
        assert!(listing.is_paused(Pausable::Seize));
        assert!(!listing.is_paused(Pausable::Repay) && !listing.is_paused(Pausable::Liquidate));
    }

    #[test]
    fn unit_keys_name_pool_and_account() {
        let (pool, account) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let key = unit_key(pool, account);
        assert_eq!(parse_unit_key(&key), Some((pool, account)));
        assert_eq!(parse_unit_key(&UnitKey::new(vec![1; 39]).unwrap()), None);
    }
}
