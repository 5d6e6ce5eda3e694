//! What events do not carry, read at a block after its logs.
//!
//! Once: parameters (also after one changed), a pool's first price, prices of paused and closed markets, decimals and
//! ratio of a collateral. At every block: the fund's own tokens; of each market the mark price, and what its funding
//! growth to this second needs (a pool's tick sums and an index average); prices of collaterals; and of each account that
//! events alone do not settle (see [`needs_views`]) its pending fees and funding from the protocol's views.
//!
//! What must be known to ask (the averaging interval) comes in round 0, what depends on it in round 1.
//!
//! Invariants: a refusal is an answer and is recorded as "not known at this block"; nothing is asked twice at a block.
//! Must not: decode logs.

use std::collections::BTreeMap;

use alloy::{primitives::aliases::I56, sol_types::SolCall};

use super::{
    Settings,
    abi::{IAccountBalance, IBaseToken, IClearingHouseConfig, ICollateralManager, IExchange, IPool, IToken},
    account::Account,
    state::{self, Collateral, CollateralSource, Config, Fund, MakerNow, Market, MarketNow, ONLY, Status, Stored},
    ticks::sqrt_price_at,
};
use crate::{
    positions::{Book, Delta, Draft, LegKind, RecordKey, Unit},
    protocols::{ApplyError, Read},
    scanner::Unvalued,
    types::{Address, B256, BlockRef, Call, CallOutcome, I256, U256},
};

/// Over how many seconds the vault averages a collateral's price (`Vault._COLLATERAL_TWAP_INTERVAL`).
const COLLATERAL_TWAP_SECONDS: u64 = 900;

/// Whether the account's pending fees or funding must be read: it has orders, or its funding in a market was settled
/// in another epoch of the market's growth.
pub(super) fn needs_views(book: &Book, unit: &Unit, account: &Account) -> Result<bool, Unvalued> {
    if !account.orders.is_empty() {
        return Ok(true);
    }
    for leg in unit.legs.iter().filter(|leg| leg.kind == LegKind::Perp && !leg.quantity.is_zero()) {
        let market: Market = state::load(book, state::numbered(leg.market))?;
        if account.settled(leg.market).is_none_or(|settled| settled.epoch != market.epoch) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// See [`crate::protocols::Adapter::reads`].
pub(super) fn reads(settings: &Settings, book: &Book, block: &BlockRef, round: u32) -> Vec<Read> {
    let asking = Asking { settings, book, block };
    let config = state::find::<Config>(book, ONLY).ok().flatten().filter(|config| config.read);
    let mut reads = Vec::new();
    if round == 0 {
        reads.extend(asking.once(config.is_some()));
    }
    match config {
        Some(config) if round == 0 || !asking.is_fresh() => reads.extend(asking.every_block(&config)),
        _ => {}
    }
    reads
}

struct Asking<'a> {
    settings: &'a Settings,
    book: &'a Book,
    block: &'a BlockRef,
}

impl Asking<'_> {
    /// Whether what is read at every block was read at this one.
    fn is_fresh(&self) -> bool {
        let fund = state::find::<Fund>(self.book, ONLY).ok().flatten();
        fund.is_some_and(|fund| fund.wallet_block == self.block.number)
    }

    fn once(&self, config_known: bool) -> Vec<Read> {
        let mut reads = Vec::new();
        if !config_known {
            let config = self.settings.clearing_house_config;
            reads.extend([
                read::<Config>(ONLY, config, IClearingHouseConfig::getMmRatioCall {}),
                read::<Config>(ONLY, config, IClearingHouseConfig::getImRatioCall {}),
                read::<Config>(ONLY, config, IClearingHouseConfig::getLiquidationPenaltyRatioCall {}),
                read::<Config>(ONLY, config, IClearingHouseConfig::getTwapIntervalCall {}),
                read::<Config>(ONLY, config, IClearingHouseConfig::getMaxFundingRateCall {}),
            ]);
        }
        for (id, market) in state::all::<Market>(self.book) {
            if market.sqrt_price.is_zero() {
                reads.push(read::<Market>(id, market.pool, IPool::slot0Call {}));
            }
            if market.status != Status::Open && market.paused_price.is_zero() {
                reads.push(read::<Market>(id, market.base, IBaseToken::getPausedIndexPriceCall {}));
            }
            if market.status == Status::Closed && market.closed_price.is_zero() {
                reads.push(read::<Market>(id, market.base, IBaseToken::getClosedPriceCall {}));
            }
        }
        let source = state::find::<CollateralSource>(self.book, ONLY).ok().flatten();
        for (id, collateral) in state::all::<Collateral>(self.book) {
            let (Some(CollateralSource(source)), None) = (source, collateral.feed_decimals) else { continue };
            let token = Address::from_word(id);
            reads.extend([
                read::<Collateral>(id, source, ICollateralManager::getCollateralConfigCall { token }),
                read::<Collateral>(id, source, ICollateralManager::getPriceFeedDecimalsCall { token }),
                read::<Collateral>(id, token, IToken::decimalsCall {}),
            ]);
        }
        reads
    }

    fn every_block(&self, config: &Config) -> Vec<Read> {
        let Settings { insurance_fund: account, settlement_token, account_balance, exchange, .. } = *self.settings;
        let mut reads = vec![read::<Fund>(ONLY, settlement_token, IToken::balanceOfCall { account })];
        for (id, market) in state::all::<Market>(self.book) {
            reads.extend(self.market(config, id, &market));
        }
        if let Ok(Some(CollateralSource(source))) = state::find(self.book, ONLY) {
            for (id, _) in state::all::<Collateral>(self.book) {
                let (token, interval) = (Address::from_word(id), U256::from(COLLATERAL_TWAP_SECONDS));
                reads.push(read::<Collateral>(id, source, ICollateralManager::getPriceCall { token, interval }));
            }
        }
        for (_, unit) in self.book.units() {
            let wanted = Account::of(unit).and_then(|account| needs_views(self.book, unit, &account));
            if wanted.unwrap_or(false) {
                let (id, trader) = (unit.owner.into_word(), unit.owner);
                let pending = IExchange::getAllPendingFundingPaymentCall { trader };
                reads.push(read::<MakerNow>(id, exchange, pending));
                reads.push(read::<MakerNow>(id, account_balance, IAccountBalance::getPnlAndPendingFeeCall { trader }));
            }
        }
        reads
    }

    fn market(&self, config: &Config, id: B256, market: &Market) -> Vec<Read> {
        let mut reads = Vec::new();
        if market.status == Status::Open {
            let price = IAccountBalance::getMarkPriceCall { baseToken: market.base };
            reads.push(read::<MarketNow>(id, self.settings.account_balance, price));
        }
        if market.is_settled(self.block.timestamp) {
            return reads;
        }
        let seconds = market.averaging_seconds(config, self.block.timestamp);
        if let Some(ages) = self.ages(market, seconds) {
            reads.push(read::<MarketNow>(id, market.pool, IPool::observeCall { secondsAgos: ages }));
        }
        if market.status == Status::Open {
            let interval = index_interval(config, market, self.block.timestamp);
            reads.push(read::<MarketNow>(id, market.base, IBaseToken::getIndexPriceCall { interval }));
        }
        reads
    }

    /// Ages of the two tick sums that an average over these seconds lies between; `None` for a price of the moment.
    fn ages(&self, market: &Market, seconds: u64) -> Option<Vec<u32>> {
        let until = self.block.timestamp.checked_sub(market.funding_second(self.block.timestamp))?;
        let from = until.checked_add(seconds)?;
        (seconds > 0).then_some(())?;
        Some(vec![from.try_into().ok()?, until.try_into().ok()?])
    }
}

/// The index is averaged over the same seconds, also where the market's price is that of the moment.
fn index_interval(config: &Config, market: &Market, timestamp: u64) -> U256 {
    if market.first_traded == 0 {
        return U256::ZERO;
    }
    let traded = market.funding_second(timestamp).saturating_sub(market.first_traded);
    U256::from(u64::from(config.twap_interval).min(traded))
}

fn read<T: Stored>(id: B256, to: Address, call: impl SolCall) -> Read {
    Read { record: state::key::<T>(id), call: Call::new(to, call.abi_encode()) }
}

/// See [`crate::protocols::Adapter::absorb`].
pub(super) fn absorb(
    settings: &Settings,
    book: &Book,
    block: &BlockRef,
    answers: &[(Read, CallOutcome)],
) -> Result<Delta, ApplyError> {
    let mut by_record: BTreeMap<RecordKey, Answers<'_>> = BTreeMap::new();
    for (read, outcome) in answers {
        by_record.entry(read.record).or_default().0.push((read, outcome));
    }
    let mut absorbing = Absorbing { settings, book, block, draft: Draft::new(book) };
    for (key, answers) in &by_record {
        absorbing.record(key, answers).map_err(|error| ApplyError::Answer(error.to_string()))?;
    }
    Ok(absorbing.draft.finish())
}

/// A record's reads with their answers.
#[derive(Default)]
struct Answers<'a>(Vec<(&'a Read, &'a CallOutcome)>);

impl Answers<'_> {
    /// What this view returned; `None` where it was not asked, refused, or there is no code.
    fn get<C: SolCall>(&self) -> Option<C::Return> {
        let (_, outcome) = self.0.iter().find(|(read, _)| read.call.data.starts_with(&C::SELECTOR))?;
        let CallOutcome::Returned(data) = outcome else { return None };
        C::abi_decode_returns_validate(data).ok()
    }

    fn asked<C: SolCall>(&self) -> bool {
        self.0.iter().any(|(read, _)| read.call.data.starts_with(&C::SELECTOR))
    }
}

struct Absorbing<'a> {
    settings: &'a Settings,
    book: &'a Book,
    block: &'a BlockRef,
    draft: Draft<'a>,
}

impl Absorbing<'_> {
    fn record(&mut self, key: &RecordKey, answers: &Answers<'_>) -> Result<(), Unvalued> {
        match key.kind {
            Config::KIND => self.config(answers),
            Market::KIND => self.market(key.id, answers),
            MarketNow::KIND => self.market_now(key.id, answers),
            Fund::KIND => self.fund(answers),
            MakerNow::KIND => {
                self.maker(key.id, answers);
                Ok(())
            }
            Collateral::KIND => self.collateral(key.id, answers),
            kind => Err(Unvalued::Missing(format!("a record of kind {kind}, which is never asked for"))),
        }
    }

    /// Parameters that differ from what was assumed so far make every growth of funding doubtful: new epochs begin.
    fn config(&mut self, answers: &Answers<'_>) -> Result<(), Unvalued> {
        let assumed = state::find::<Config>(self.book, ONLY)?.unwrap_or_default();
        let Some(read) = read_config(answers) else { return Ok(()) };
        let doubtful = read.max_funding_rate != assumed.max_funding_rate || read.twap_interval != assumed.twap_interval;
        self.put(ONLY, &read);
        for (id, mut market) in state::all::<Market>(self.book).filter(|_| doubtful) {
            market.epoch += 1;
            self.put(id, &market);
        }
        Ok(())
    }

    fn market(&mut self, id: B256, answers: &Answers<'_>) -> Result<(), Unvalued> {
        let mut market: Market = state::load(&self.draft, id)?;
        if let Some(slot) = answers.get::<IPool::slot0Call>() {
            market.sqrt_price = U256::from(slot.sqrtPriceX96);
        }
        if let Some(price) = answers.get::<IBaseToken::getPausedIndexPriceCall>() {
            market.paused_price = price;
        }
        if let Some(price) = answers.get::<IBaseToken::getClosedPriceCall>() {
            market.closed_price = price;
        }
        self.put(id, &market);
        Ok(())
    }

    fn market_now(&mut self, id: B256, answers: &Answers<'_>) -> Result<(), Unvalued> {
        // Kinds are in order: what was asked once of the market in the same round is in already.
        let config: Config = state::load(&self.draft, ONLY)?;
        let market: Market = state::load(&self.draft, id)?;
        let mark = answers.get::<IAccountBalance::getMarkPriceCall>().unwrap_or_default();
        let growth = self.growth(&config, &market, answers);
        self.put(id, &MarketNow { block: self.block.number, mark, growth });
        Ok(())
    }

    fn growth(&self, config: &Config, market: &Market, answers: &Answers<'_>) -> Option<I256> {
        let now = self.block.timestamp;
        if market.is_settled(now) {
            return Some(market.growth);
        }
        let seconds = market.averaging_seconds(config, now);
        let sqrt_price = if seconds == 0 {
            market.sqrt_price
        } else {
            let sums = answers.get::<IPool::observeCall>()?.tickCumulatives;
            average_tick(&sums, seconds).and_then(sqrt_price_at)?
        };
        let index = match market.status {
            Status::Open => answers.get::<IBaseToken::getIndexPriceCall>()?,
            Status::Paused | Status::Closed => market.paused_price,
        };
        (!sqrt_price.is_zero() && !index.is_zero()).then_some(())?;
        market.growth_at(config, now, sqrt_price, index)
    }

    fn fund(&mut self, answers: &Answers<'_>) -> Result<(), Unvalued> {
        let mut fund = state::find::<Fund>(&self.draft, ONLY)?.unwrap_or_default();
        let wallet = answers.get::<IToken::balanceOfCall>();
        fund.wallet = wallet.ok_or_else(|| {
            Unvalued::Missing(format!("balanceOf at {}: no token answers there", self.settings.settlement_token))
        })?;
        fund.wallet_block = self.block.number;
        self.put(ONLY, &fund);
        Ok(())
    }

    fn maker(&mut self, id: B256, answers: &Answers<'_>) {
        let funding = answers.get::<IExchange::getAllPendingFundingPaymentCall>();
        let fees = answers.get::<IAccountBalance::getPnlAndPendingFeeCall>().map(|view| view.pendingFee);
        self.put(id, &MakerNow { block: self.block.number, pending: funding.zip(fees) });
    }

    fn collateral(&mut self, id: B256, answers: &Answers<'_>) -> Result<(), Unvalued> {
        let mut collateral: Collateral = state::load(&self.draft, id)?;
        if let Some(config) = answers.get::<ICollateralManager::getCollateralConfigCall>() {
            collateral.ratio = config.collateralRatio.to();
            collateral.feed_decimals = answers.get::<ICollateralManager::getPriceFeedDecimalsCall>();
            collateral.token_decimals = answers.get::<IToken::decimalsCall>();
        }
        if answers.asked::<ICollateralManager::getPriceCall>() {
            collateral.price = answers.get::<ICollateralManager::getPriceCall>().unwrap_or_default();
            collateral.price_block = self.block.number;
        }
        self.put(id, &collateral);
        Ok(())
    }

    fn put<T: Stored>(&mut self, id: B256, value: &T) {
        self.draft.set_record(state::key::<T>(id), Some(value.to_record()));
    }
}

/// The parameters, once the contract has them: before its initialisation it says zero.
fn read_config(answers: &Answers<'_>) -> Option<Config> {
    let config = Config {
        read: true,
        mm_ratio: answers.get::<IClearingHouseConfig::getMmRatioCall>()?.to(),
        im_ratio: answers.get::<IClearingHouseConfig::getImRatioCall>()?.to(),
        penalty_ratio: answers.get::<IClearingHouseConfig::getLiquidationPenaltyRatioCall>()?.to(),
        twap_interval: answers.get::<IClearingHouseConfig::getTwapIntervalCall>()?,
        max_funding_rate: answers.get::<IClearingHouseConfig::getMaxFundingRateCall>()?.to(),
    };
    (config.mm_ratio > 0).then_some(config)
}

/// The average tick between two tick sums, rounded toward zero as the protocol does.
fn average_tick(sums: &[I56], seconds: u64) -> Option<i32> {
    let &[from, until] = sums else { return None };
    let ticks = until.as_i64().checked_sub(from.as_i64())? / i64::try_from(seconds).ok()?;
    ticks.try_into().ok()
}
