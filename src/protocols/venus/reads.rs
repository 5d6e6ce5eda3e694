//! State that events do not carry, read at a block after its logs.
//!
//! | round | what | when |
//! |---|---|---|
//! | 0 | the oracle's price of every market | every block |
//! | 0 | all that a market was before it was announced, and what it never announces | once a market |
//! | 0 | the auction house's rules | once, when the first bad debt stands |
//! | 1 | parameters of a rate model | once a model |
//! | 1 | a pool's reserves in the risk fund, and their token | every block while the pool has bad debt or an auction |
//! | 2 | the rate of a market whose model has an unknown form | every block |
//! | 2 | the oracle's price of the risk fund's token | as its reserves |
//!
//! A view that reverts gives no price, or tells that a model has another form. A contract that is not there yet answers
//! with nothing and is asked again.
//!
//! Must not: read anything by itself.

use std::collections::{BTreeMap, BTreeSet};

use alloy::sol_types::SolCall;

use super::{
    Settings,
    abi::{IOracle, IRateModel, IRiskFund, IShortfall, IVToken},
    account::Account,
    rates::RateModel,
    state::{self, Auction, Balances, Fund, House, Listing, Pool, Price, Rate, Stored},
};
use crate::{
    positions::{Book, Delta, Draft, LegKind, RecordKey},
    protocols::{ApplyError, Read},
    scanner::Unvalued,
    types::{Address, Bytes, Call, CallOutcome, I256, MarketId, U256},
};

/// What is to be read in this round.
pub(super) fn reads(settings: &Settings, book: &Book, round: u32) -> Vec<Read> {
    match round {
        0 => prices(book).chain(listings(book)).chain(house(settings, book)).collect(),
        1 => models(book).chain(funds(book)).collect(),
        2 => rates(book).chain(fund_prices(book)).collect(),
        _ => Vec::new(),
    }
}

fn read(kind: u16, record: Address, to: Address, call: impl SolCall) -> Read {
    Read { record: RecordKey { kind, id: record.into_word() }, call: Call::new(to, call.abi_encode()) }
}

fn prices(book: &Book) -> impl Iterator<Item = Read> {
    state::all::<Listing>(book).filter_map(|(vtoken, listing)| {
        let oracle = state::load::<Pool>(book, listing.comptroller).ok()?.oracle;
        let asked = listing.listed && !oracle.is_zero();
        asked.then(|| read(Price::KIND, vtoken, oracle, IOracle::getUnderlyingPriceCall { vToken: vtoken }))
    })
}

/// A view of a vToken and where its answer goes.
struct Field {
    selector: [u8; 4],
    into: fn(&mut Listing, &mut Balances, U256),
}

/// Everything that is read of a newly announced market.
const FIELDS: [Field; 14] = [
    field::<IVToken::underlyingCall>(|listing, _, word| listing.underlying = Address::from_word(word.into())),
    field::<IVToken::interestRateModelCall>(|listing, _, word| listing.model = Address::from_word(word.into())),
    field::<IVToken::reserveFactorMantissaCall>(|listing, _, word| listing.reserve_factor = word),
    field::<IVToken::protocolSeizeShareMantissaCall>(|listing, _, word| listing.seize_share = word),
    field::<IVToken::isTimeBasedCall>(|listing, _, word| listing.time_based = !word.is_zero()),
    field::<IVToken::reduceReservesBlockDeltaCall>(|listing, _, word| listing.reduce_every = word),
    field::<IVToken::reduceReservesBlockNumberCall>(|_, sums, word| sums.reduced_at = word),
    field::<IVToken::accrualBlockNumberCall>(|_, sums, word| sums.accrued_at = word),
    field::<IVToken::borrowIndexCall>(|_, sums, word| sums.borrow_index = word),
    field::<IVToken::totalBorrowsCall>(|_, sums, word| sums.borrows = word),
    field::<IVToken::totalReservesCall>(|_, sums, word| sums.reserves = word),
    field::<IVToken::totalSupplyCall>(|_, sums, word| sums.supply = word),
    field::<IVToken::badDebtCall>(|_, sums, word| sums.bad_debt = word),
    field::<IVToken::getCashCall>(|_, sums, word| sums.cash = word),
];

const fn field<C: SolCall>(into: fn(&mut Listing, &mut Balances, U256)) -> Field {
    Field { selector: C::SELECTOR, into }
}

fn listings(book: &Book) -> impl Iterator<Item = Read> {
    state::all::<Listing>(book).filter(|(_, listing)| !listing.read).flat_map(|(vtoken, _)| {
        FIELDS.iter().map(move |field| Read {
            record: RecordKey { kind: Listing::KIND, id: vtoken.into_word() },
            call: Call::new(vtoken, field.selector.to_vec()),
        })
    })
}

/// Pools whose bad debt or auction makes the auction house matter, with their oracles.
fn indebted(book: &Book) -> BTreeMap<Address, Address> {
    let owing = state::all::<Listing>(book)
        .filter(|(vtoken, _)| state::load::<Balances>(book, *vtoken).is_ok_and(|sums| !sums.bad_debt.is_zero()));
    let auctioned = state::all::<Auction>(book).filter(|(_, auction)| auction.open).map(|(comptroller, _)| comptroller);
    let pools: BTreeSet<Address> = owing.map(|(_, listing)| listing.comptroller).chain(auctioned).collect();
    let oracle = |pool: Address| Some((pool, state::load::<Pool>(book, pool).ok()?.oracle));
    pools.into_iter().filter_map(oracle).collect()
}

fn house(settings: &Settings, book: &Book) -> impl Iterator<Item = Read> {
    let unread = book.record(&House::KEY).is_none() && !indebted(book).is_empty();
    let asked = settings.shortfall.filter(|_| unread);
    asked.into_iter().flat_map(|house| {
        let calls = [
            IShortfall::riskFundCall {}.abi_encode(),
            IShortfall::minimumPoolBadDebtCall {}.abi_encode(),
            IShortfall::incentiveBpsCall {}.abi_encode(),
            IShortfall::nextBidderBlockLimitCall {}.abi_encode(),
            IShortfall::waitForFirstBidderCall {}.abi_encode(),
            IShortfall::auctionsPausedCall {}.abi_encode(),
            IShortfall::isTimeBasedCall {}.abi_encode(),
        ];
        calls.map(|data| Read { record: House::KEY, call: Call::new(house, data) })
    })
}

fn models(book: &Book) -> impl Iterator<Item = Read> {
    let named: BTreeSet<Address> =
        state::all::<Listing>(book).filter(|(_, listing)| listing.read).map(|(_, listing)| listing.model).collect();
    let unread = named.into_iter().filter(|model| state::load::<RateModel>(book, *model).is_err());
    unread.flat_map(|model| {
        let calls = [
            IRateModel::baseRatePerBlockCall {}.abi_encode(),
            IRateModel::multiplierPerBlockCall {}.abi_encode(),
            IRateModel::jumpMultiplierPerBlockCall {}.abi_encode(),
            IRateModel::kinkCall {}.abi_encode(),
            IRateModel::BASE_RATE_PER_BLOCK_OR_SECONDCall {}.abi_encode(),
            IRateModel::MULTIPLIER_PER_BLOCK_OR_SECONDCall {}.abi_encode(),
            IRateModel::KINK_1Call {}.abi_encode(),
            IRateModel::BASE_RATE_2_PER_BLOCK_OR_SECONDCall {}.abi_encode(),
            IRateModel::MULTIPLIER_2_PER_BLOCK_OR_SECONDCall {}.abi_encode(),
            IRateModel::KINK_2Call {}.abi_encode(),
            IRateModel::JUMP_MULTIPLIER_PER_BLOCK_OR_SECONDCall {}.abi_encode(),
        ];
        let record = RecordKey { kind: RateModel::KIND, id: model.into_word() };
        calls.map(|data| Read { record, call: Call::new(model, data) })
    })
}

fn funds(book: &Book) -> impl Iterator<Item = Read> {
    let fund = House::known(book).map(|house| house.risk_fund);
    fund.into_iter().flat_map(|fund| {
        indebted(book).into_keys().flat_map(move |comptroller| {
            [
                read(Fund::KIND, comptroller, fund, IRiskFund::convertibleBaseAssetCall {}),
                read(Fund::KIND, comptroller, fund, IRiskFund::getPoolsBaseAssetReservesCall { comptroller }),
            ]
        })
    })
}

fn rates(book: &Book) -> impl Iterator<Item = Read> {
    let unknown = |listing: &Listing| state::load::<RateModel>(book, listing.model) == Ok(RateModel::Unknown);
    let markets = state::all::<Listing>(book).filter(move |(_, listing)| listing.read && unknown(listing));
    markets.map(|(vtoken, _)| read(Rate::KIND, vtoken, vtoken, IVToken::borrowRatePerBlockCall {}))
}

fn fund_prices(book: &Book) -> impl Iterator<Item = Read> {
    indebted(book).into_iter().filter_map(|(comptroller, oracle)| {
        let asset = state::load::<Fund>(book, comptroller).ok()?.asset;
        Some(read(Fund::KIND, comptroller, oracle, IOracle::getPriceCall { asset }))
    })
}

/// A round's answers of one record, by selector.
type Answers = BTreeMap<[u8; 4], CallOutcome>;

/// What a round's answers do to the book.
pub(super) fn absorb(book: &Book, answers: &[(Read, CallOutcome)]) -> Result<Delta, ApplyError> {
    let mut records: BTreeMap<RecordKey, Answers> = BTreeMap::new();
    for (read, outcome) in answers {
        let selector = read.call.data.first_chunk::<4>().copied().unwrap_or_default();
        records.entry(read.record).or_default().insert(selector, outcome.clone());
    }
    let mut draft = Draft::new(book);
    for (key, answers) in records {
        absorb_record(&mut draft, book, key, &answers)
            .map_err(|what| ApplyError::Answer(format!("reads of record {} {}: {what}", key.kind, key.id)))?;
    }
    Ok(draft.finish())
}

fn absorb_record(draft: &mut Draft<'_>, book: &Book, key: RecordKey, answers: &Answers) -> Result<(), String> {
    let contract = Address::from_word(key.id);
    match key.kind {
        Price::KIND => {
            let price = optional::<IOracle::getUnderlyingPriceCall>(answers)?.unwrap_or_default();
            draft.set_record(key, Some(Price(price).to_record()));
        }
        Rate::KIND => {
            let rate = optional::<IVToken::borrowRatePerBlockCall>(answers)?;
            draft.set_record(key, rate.map(|rate| Rate(rate).to_record()));
        }
        Listing::KIND => listing(draft, book, contract, answers)?,
        RateModel::KIND => {
            if let Some(model) = model(answers)? {
                draft.set_record(key, Some(model.to_record()));
            }
        }
        House::KIND => {
            if answers.values().all(is_answer) {
                draft.set_record(key, Some(house_of(answers)?.to_record()));
            }
        }
        Fund::KIND => {
            let known = state::find::<Fund>(draft, key.id).map_err(|error| error.to_string())?;
            draft.set_record(key, Some(fund(known.unwrap_or_default(), answers)?.to_record()));
        }
        other => return Err(format!("no record of kind {other} is ever read")),
    }
    Ok(())
}

/// A newly announced market. Debts that were made in the block of its announcement take the index that is read: interest
/// is charged once a slot, so it has not moved since.
fn listing(draft: &mut Draft<'_>, book: &Book, vtoken: Address, answers: &Answers) -> Result<(), String> {
    let unvalued = |error: Unvalued| error.to_string();
    let mut listing: Listing = state::load(draft, vtoken).map_err(unvalued)?;
    let mut sums: Balances = state::load(draft, vtoken).map_err(unvalued)?;
    for field in &FIELDS {
        let unanswered =
            || format!("vToken {vtoken} does not answer {:02x?}: it is of another version", field.selector);
        (field.into)(&mut listing, &mut sums, word(answers, field.selector)?.ok_or_else(unanswered)?);
    }
    listing.read = true;
    reindex(draft, book, listing.market(), sums.borrow_index)?;
    draft.set_record(RecordKey { kind: Listing::KIND, id: vtoken.into_word() }, Some(listing.to_record()));
    draft.set_record(RecordKey { kind: Balances::KIND, id: vtoken.into_word() }, Some(sums.to_record()));
    Ok(())
}

fn reindex(draft: &mut Draft<'_>, book: &Book, market: MarketId, index: U256) -> Result<(), String> {
    let owing = book.units().filter(|(_, unit)| unit.leg(market, LegKind::Debt).is_some());
    for (key, unit) in owing {
        let mut account = Account::of(draft.unit(key).unwrap_or(unit)).map_err(|error| error.to_string())?;
        if let Some(debt) = account.debts.get_mut(&market) {
            debt.index = index;
        }
        let unit = account.unit(unit.segment, unit.owner).map_err(|error| error.to_string())?;
        draft.set_unit(key.clone(), unit);
    }
    Ok(())
}

/// The form that a model's answers show; `None` while there is no contract.
fn model(answers: &Answers) -> Result<Option<RateModel>, String> {
    if answers.values().all(|answer| *answer == CallOutcome::Returned(Bytes::new())) {
        return Ok(None);
    }
    use IRateModel as Model;
    let unsigned = (
        optional::<Model::baseRatePerBlockCall>(answers)?,
        optional::<Model::multiplierPerBlockCall>(answers)?,
        optional::<Model::jumpMultiplierPerBlockCall>(answers)?,
        optional::<Model::kinkCall>(answers)?,
    );
    let signed = [
        optional::<Model::BASE_RATE_PER_BLOCK_OR_SECONDCall>(answers)?,
        optional::<Model::MULTIPLIER_PER_BLOCK_OR_SECONDCall>(answers)?,
        optional::<Model::KINK_1Call>(answers)?,
        optional::<Model::BASE_RATE_2_PER_BLOCK_OR_SECONDCall>(answers)?,
        optional::<Model::MULTIPLIER_2_PER_BLOCK_OR_SECONDCall>(answers)?,
        optional::<Model::KINK_2Call>(answers)?,
        optional::<Model::JUMP_MULTIPLIER_PER_BLOCK_OR_SECONDCall>(answers)?,
    ];
    let signed: Option<Vec<I256>> = signed.into_iter().map(|word| word.map(I256::from_raw)).collect();
    Ok(Some(match (unsigned, signed.as_deref()) {
        ((Some(base), Some(multiplier), Some(jump), Some(kink)), None) => {
            RateModel::OneKink { base, multiplier, jump, kink }
        }
        ((Some(base), Some(multiplier), None, None), None) => RateModel::Straight { base, multiplier },
        (_, Some(&[base, multiplier, kink, second_base, second_multiplier, second_kink, jump])) => {
            RateModel::TwoKinks { base, multiplier, kink, second_base, second_multiplier, second_kink, jump }
        }
        _ => RateModel::Unknown,
    }))
}

fn house_of(answers: &Answers) -> Result<House, String> {
    fn needed<C: SolCall>(answers: &Answers) -> Result<U256, String> {
        word(answers, C::SELECTOR)?.ok_or_else(|| format!("{} reverts", C::SIGNATURE))
    }
    Ok(House {
        risk_fund: Address::from_word(needed::<IShortfall::riskFundCall>(answers)?.into()),
        bad_debt_min: needed::<IShortfall::minimumPoolBadDebtCall>(answers)?,
        incentive_bps: needed::<IShortfall::incentiveBpsCall>(answers)?,
        next_bid_slots: needed::<IShortfall::nextBidderBlockLimitCall>(answers)?,
        first_bid_slots: needed::<IShortfall::waitForFirstBidderCall>(answers)?,
        paused: !needed::<IShortfall::auctionsPausedCall>(answers)?.is_zero(),
        time_based: !needed::<IShortfall::isTimeBasedCall>(answers)?.is_zero(),
    })
}

/// A fund that does not answer holds nothing that can be counted on.
fn fund(mut fund: Fund, answers: &Answers) -> Result<Fund, String> {
    if answers.contains_key(&IOracle::getPriceCall::SELECTOR) {
        fund.price = optional::<IOracle::getPriceCall>(answers)?.unwrap_or_default();
        return Ok(fund);
    }
    let asset = optional::<IRiskFund::convertibleBaseAssetCall>(answers)?.unwrap_or_default();
    let asset = Address::from_word(asset.into());
    fund.reserves = optional::<IRiskFund::getPoolsBaseAssetReservesCall>(answers)?.unwrap_or_default();
    if fund.asset != asset {
        (fund.asset, fund.price) = (asset, U256::ZERO);
    }
    Ok(fund)
}

fn is_answer(answer: &CallOutcome) -> bool {
    matches!(answer, CallOutcome::Returned(data) if !data.is_empty())
}

/// The word that a view returned, `None` if it reverted or there is no such view.
fn optional<C: SolCall>(answers: &Answers) -> Result<Option<U256>, String> {
    word(answers, C::SELECTOR)
}

fn word(answers: &Answers, selector: [u8; 4]) -> Result<Option<U256>, String> {
    match answers.get(&selector) {
        Some(CallOutcome::Returned(data)) if data.len() == 32 => Ok(Some(U256::from_be_slice(data))),
        Some(CallOutcome::Returned(data)) if !data.is_empty() => {
            Err(format!("{} bytes where one word was asked for", data.len()))
        }
        Some(CallOutcome::Returned(_) | CallOutcome::Reverted(_)) => Ok(None),
        None => Err("an answer is missing".to_owned()),
    }
}
