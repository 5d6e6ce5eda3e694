//! One block's logs → a change of the book.
//!
//! Most events carry differences: a balance is the sum of what was deposited, withdrawn, settled and seized; owed profit
//! the sum of what was realised; a position the sum of what was exchanged, with its open notional as the event says it.
//! A trader's funding in a market is settled by everything that touches the trader there, and in all its markets by a
//! withdrawal. (One touch leaves no trace: `settleAllFunding` called by the trader itself, when the payment rounds to
//! zero. What is lost then is less than 10⁻¹⁸ of a token.)
//!
//! Invariants: a log of a contract that is not watched is refused; a known event that does not decode, or that names a
//! market or an order the cache does not know, is refused; an unknown event of a watched contract is counted.
//! Must not: read anything but the book and the logs.

use alloy::sol_types::{SolEventInterface, abi::AbiDecoderConfig};

use super::{
    Settings,
    abi::{
        IAccountBalance::{self, IAccountBalanceEvents as Balances},
        IBaseToken::IBaseTokenEvents as Base,
        IClearingHouse::{self, IClearingHouseEvents as House},
        IClearingHouseConfig::IClearingHouseConfigEvents as Parameters,
        ICollateralManager::ICollateralManagerEvents as Collaterals,
        IExchange::{self, IExchangeEvents as Exchanges},
        IInsuranceFund::IInsuranceFundEvents as Insurance,
        IMarketRegistry::{self, IMarketRegistryEvents as Registry},
        IOrderBook::IOrderBookEvents as Orders,
        IOwned::IOwnedEvents,
        IPool::IPoolEvents as Pool,
        IVault::{self, IVaultEvents as Vaults},
    },
    account::{Account, Order, Settled},
    state::{self, Collateral, CollateralSource, Config, Fund, Market, ONLY, Part, SEGMENT, Status, Stored},
};
use crate::{
    positions::{Book, Draft, Leg, LegKind, Unit},
    protocols::{Applied, ApplyError},
    types::{
        Address, B256, BlockRef, I256, Log, MarketId, U256,
        math::{mul_div_floor, signed},
    },
};

/// Sizes and notionals below this count as nothing (`AccountBalance._DUST`), 10⁻¹⁸.
pub(super) const DUST: U256 = U256::from_limbs([10, 0, 0, 0]);

/// Applies a block's logs, in order, to an edit of the book.
pub(super) fn apply(settings: &Settings, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
    let mut decoder = Decoder { settings, block, base: book, draft: Draft::new(book), listed: 0, found: 0, unknown: 0 };
    for log in logs {
        decoder.log(log)?;
    }
    Ok(Applied { delta: decoder.draft.finish(), unknown_events: decoder.unknown })
}

/// What is wrong with a log, for people.
type Refused = String;

struct Decoder<'a> {
    settings: &'a Settings,
    block: &'a BlockRef,
    base: &'a Book,
    draft: Draft<'a>,
    /// Markets listed since the base.
    listed: usize,
    /// Collateral tokens found since the base.
    found: usize,
    unknown: u64,
}

impl Decoder<'_> {
    fn log(&mut self, log: &Log) -> Result<(), ApplyError> {
        let Settings { clearing_house, account_balance, exchange, order_book, vault, insurance_fund, .. } =
            *self.settings;
        let applied = match log.address {
            from if from == clearing_house => self.read(log, House::SELECTORS, Self::house),
            from if from == account_balance => self.read(log, Balances::SELECTORS, Self::balances),
            from if from == exchange => self.read(log, Exchanges::SELECTORS, Self::exchange),
            from if from == vault => self.read(log, Vaults::SELECTORS, Self::vault),
            from if from == order_book => self.read::<Orders>(log, Orders::SELECTORS, |_, _| Ok(())),
            from if from == insurance_fund => self.read::<Insurance>(log, Insurance::SELECTORS, |_, _| Ok(())),
            from if from == self.settings.market_registry => self.read(log, Registry::SELECTORS, Self::registry),
            from if from == self.settings.clearing_house_config => {
                self.read(log, Parameters::SELECTORS, Self::parameters)
            }
            from => self.discovered(from, log),
        };
        applied.map_err(|what| match what {
            Some(what) => ApplyError::Malformed { tx_hash: log.tx_hash, log_index: log.log_index, what },
            None => ApplyError::ForeignEmitter { emitter: log.address, tx_hash: log.tx_hash, log_index: log.log_index },
        })
    }

    /// A contract that others announced; `None` for a foreign one.
    fn discovered(&mut self, from: Address, log: &Log) -> Result<(), Option<Refused>> {
        if let Some(part) = self.find::<Part>(from.into_word())? {
            let id = part.market;
            return if part.is_pool {
                self.read(log, Pool::SELECTORS, |decoder, event| decoder.pool(id, event))
            } else {
                self.read(log, Base::SELECTORS, |decoder, event| decoder.base_token(id, event))
            };
        }
        if self.find::<CollateralSource>(ONLY)? == Some(CollateralSource(from)) {
            return self.read(log, Collaterals::SELECTORS, Self::collaterals);
        }
        Err(None)
    }

    /// Decodes a log of a watched contract and applies it, or counts it if it is none of the contract's events.
    fn read<E: SolEventInterface>(
        &mut self,
        log: &Log,
        selectors: &[[u8; 32]],
        apply: impl FnOnce(&mut Self, E) -> Result<(), Refused>,
    ) -> Result<(), Option<Refused>> {
        let topic = log.topics.first();
        let Some(selector) = topic.filter(|topic| selectors.contains(&topic.0)) else {
            let common = topic.is_some_and(|topic| IOwnedEvents::SELECTORS.contains(&topic.0));
            self.unknown += u64::from(!common);
            return Ok(());
        };
        let strict = AbiDecoderConfig::new().validate(true);
        let event = E::decode_raw_log_with_config(&log.topics, &log.data, strict)
            .map_err(|error| Some(format!("event {selector} does not decode: {error}")))?;
        apply(self, event).map_err(Some)
    }

    fn house(&mut self, event: House) -> Result<(), Refused> {
        match event {
            House::PositionChanged(e) => self.position_changed(&e),
            House::LiquidityChanged(e) => self.liquidity_changed(&e),
            House::PositionClosed(e) => self.position_closed(e.trader, e.baseToken),
            House::FundingPaymentSettled(e) => {
                let market = self.market_id(e.baseToken)?;
                self.settle_trader(e.trader, market)
            }
            House::PositionLiquidated(_)
            | House::ReferredPositionChanged(_)
            | House::TrustedForwarderChanged(_)
            | House::DelegateApprovalChanged(_) => Ok(()),
        }
    }

    fn balances(&mut self, event: Balances) -> Result<(), Refused> {
        let Balances::PnlRealized(IAccountBalance::PnlRealized { trader, amount }) = event else { return Ok(()) };
        if trader == self.settings.insurance_fund {
            return self.edit_fund(|fund| fund.owed = fund.owed.wrapping_add(amount));
        }
        self.edit_account(trader, |_, account| account.owed = account.owed.wrapping_add(amount))
    }

    fn exchange(&mut self, event: Exchanges) -> Result<(), Refused> {
        let Exchanges::FundingUpdated(IExchange::FundingUpdated { baseToken, marketTwap, indexTwap }) = event else {
            return Ok(());
        };
        let (config, now) = (self.config()?, self.block.timestamp);
        self.edit_market(baseToken, |market| market.settle(&config, now, marketTwap, indexTwap))
    }

    fn vault(&mut self, event: Vaults) -> Result<(), Refused> {
        match event {
            Vaults::Deposited(e) => self.credit(e.trader, e.collateralToken, whole(e.amount)?),
            Vaults::Withdrawn(e) => self.withdrawn(&e),
            Vaults::CollateralLiquidated(e) => {
                self.credit(e.trader, e.collateralToken, -whole(e.collateral)?)?;
                let token = self.settings.settlement_token;
                self.credit(e.trader, token, whole(e.repaidSettlementWithoutInsuranceFundFeeX10_S)?)?;
                self.credit(self.settings.insurance_fund, token, whole(e.insuranceFundFeeX10_S)?)
            }
            Vaults::BadDebtSettled(e) => {
                let (token, amount) = (self.settings.settlement_token, whole(e.amount)?);
                self.credit(e.trader, token, amount)?;
                self.credit(self.settings.insurance_fund, token, -amount)
            }
            Vaults::CollateralManagerChanged(e) => {
                self.put(ONLY, &CollateralSource(e.collateralManager));
                Ok(())
            }
            Vaults::TrustedForwarderChanged(_) | Vaults::ClearingHouseChanged(_) | Vaults::WETH9Changed(_) => Ok(()),
        }
    }

    fn registry(&mut self, event: Registry) -> Result<(), Refused> {
        let Registry::PoolAdded(IMarketRegistry::PoolAdded { baseToken: base, pool, .. }) = event else {
            return Ok(());
        };
        if self.find::<Part>(base.into_word())?.is_some() {
            return Err(format!("market of {base} is listed already"));
        }
        let number = self.base.records_of(Market::KIND).count() + self.listed;
        let market = MarketId(u32::try_from(number).map_err(|_| "more markets than there are ids".to_owned())?);
        self.listed += 1;
        self.put(state::numbered(market), &Market { base, pool, ..Market::default() });
        self.put(base.into_word(), &Part { market, is_pool: false });
        self.put(pool.into_word(), &Part { market, is_pool: true });
        Ok(())
    }

    fn parameters(&mut self, event: Parameters) -> Result<(), Refused> {
        let mut config = self.config()?;
        match event {
            Parameters::LiquidationPenaltyRatioChanged(e) => config.penalty_ratio = e.liquidationPenaltyRatio.to(),
            Parameters::MaxFundingRateChanged(e) => config.max_funding_rate = e.rate.to(),
            Parameters::TwapIntervalChanged(e) => {
                let seconds = e.twapInterval.try_into();
                config.twap_interval = seconds.map_err(|_| format!("{} s do not fit", e.twapInterval))?;
            }
            Parameters::PartialCloseRatioChanged(_)
            | Parameters::MaxMarketsPerAccountChanged(_)
            | Parameters::SettlementTokenBalanceCapChanged(_)
            | Parameters::MarkPriceMarketTwapIntervalChanged(_)
            | Parameters::MarkPricePremiumIntervalChanged(_) => return Ok(()),
        }
        config.read = false;
        self.put(ONLY, &config);
        Ok(())
    }

    fn base_token(&mut self, id: MarketId, event: Base) -> Result<(), Refused> {
        let Base::StatusUpdated(updated) = event else { return Ok(()) };
        let status = Status::of(updated.status).ok_or_else(|| format!("{} is no status", updated.status))?;
        let mut market = self.load::<Market>(state::numbered(id))?;
        if status == Status::Paused {
            (market.paused_at, market.paused_price) = (self.block.timestamp, U256::ZERO);
        }
        (market.status, market.closed_price) = (status, U256::ZERO);
        self.put(state::numbered(id), &market);
        Ok(())
    }

    fn pool(&mut self, id: MarketId, event: Pool) -> Result<(), Refused> {
        let (sqrt_price, trade) = match event {
            Pool::Swap(e) => (e.sqrtPriceX96, true),
            Pool::Initialize(e) => (e.sqrtPriceX96, false),
            _ => return Ok(()),
        };
        let mut market = self.load::<Market>(state::numbered(id))?;
        market.sqrt_price = U256::from(sqrt_price);
        if trade && market.first_traded == 0 {
            market.first_traded = self.block.timestamp;
        }
        self.put(state::numbered(id), &market);
        Ok(())
    }

    fn collaterals(&mut self, event: Collaterals) -> Result<(), Refused> {
        match event {
            Collaterals::CollateralRatioChanged(e) => {
                self.edit_collateral(e.token, |collateral| collateral.ratio = e.collateralRatio.to())
            }
            Collaterals::PriceFeedChanged(e) => {
                self.edit_collateral(e.token, |collateral| collateral.feed_decimals = None)
            }
            _ => Ok(()),
        }
    }

    fn position_changed(&mut self, event: &IClearingHouse::PositionChanged) -> Result<(), Refused> {
        let market = self.market_id(event.baseToken)?;
        self.settle_trader(event.trader, market)?;
        self.edit_account(event.trader, |unit, account| {
            let held = unit.leg(market, LegKind::Perp).map_or(I256::ZERO, |leg| leg.quantity);
            let quantity = held.wrapping_add(event.exchangedPositionSize);
            unit.set_leg(Leg { market, kind: LegKind::Perp, quantity, quote: event.openNotional });
            drop_dust(unit, account, market);
        })
    }

    fn liquidity_changed(&mut self, event: &IClearingHouse::LiquidityChanged) -> Result<(), Refused> {
        let market = self.market_id(event.baseToken)?;
        self.settle_trader(event.maker, market)?;
        let (mut unit, mut account) = self.account(event.maker)?;
        let (lower, upper) = (event.lowerTick.as_i32(), event.upperTick.as_i32());
        let at = account.find_order(market, lower, upper);
        let liquidity = event.liquidity.unsigned_abs();
        if event.liquidity >= 0 {
            let order = match at {
                Ok(at) => &mut account.orders[at],
                Err(at) => {
                    let (base_debt, quote_debt) = (U256::ZERO, U256::ZERO);
                    account.orders.insert(at, Order { market, lower, upper, liquidity: 0, base_debt, quote_debt });
                    &mut account.orders[at]
                }
            };
            order.liquidity = order.liquidity.checked_add(liquidity).ok_or("liquidity does not fit")?;
            order.base_debt = order.base_debt.wrapping_add(event.base.unsigned_abs());
            order.quote_debt = order.quote_debt.wrapping_add(event.quote.unsigned_abs());
            if order.liquidity == 0 {
                account.orders.retain(|order| order.liquidity > 0);
            }
        } else {
            let at = at.map_err(|_| format!("no order of {} at {lower}..{upper} is known", event.maker))?;
            shrink(&mut account.orders[at], liquidity)?;
            account.orders.retain(|order| order.liquidity > 0);
        }
        drop_dust(&mut unit, &mut account, market);
        self.put_account(event.maker, unit, &account);
        Ok(())
    }

    fn position_closed(&mut self, trader: Address, base: Address) -> Result<(), Refused> {
        let market = self.market_id(base)?;
        self.edit_account(trader, |unit, account| {
            unit.set_leg(Leg { market, kind: LegKind::Perp, quantity: I256::ZERO, quote: I256::ZERO });
            account.forget(market);
        })
    }

    /// A withdrawal settles funding in all of the trader's markets; one of the settlement token also turns owed profit
    /// into balance, rounded down (`Vault._settleAndDecreaseBalance`).
    fn withdrawn(&mut self, event: &IVault::Withdrawn) -> Result<(), Refused> {
        let (amount, scale) = (whole(event.amount)?, self.settings.scale());
        let settles = event.collateralToken == self.settings.settlement_token;
        if event.trader == self.settings.insurance_fund {
            return self.edit_fund(|fund| {
                fund.balance = fund.balance.wrapping_add(floor_to_token(fund.owed, scale)).wrapping_sub(amount);
                fund.owed = I256::ZERO;
            });
        }
        let (_, account) = self.account(event.trader)?;
        for settled in &account.settled {
            self.settle_trader(event.trader, settled.market)?;
        }
        if settles {
            self.edit_account(event.trader, |unit, account| {
                unit.cash = unit.cash.wrapping_add(floor_to_token(account.owed, scale));
                account.owed = I256::ZERO;
            })?;
        }
        self.credit(event.trader, event.collateralToken, -amount)
    }

    /// Adds to a balance in the vault, token units.
    fn credit(&mut self, trader: Address, token: Address, amount: I256) -> Result<(), Refused> {
        if trader == self.settings.insurance_fund {
            return self.edit_fund(|fund| fund.balance = fund.balance.wrapping_add(amount));
        }
        if token == self.settings.settlement_token {
            return self.edit_account(trader, |unit, _| unit.cash = unit.cash.wrapping_add(amount));
        }
        let id = token.into_word();
        let collateral = match self.find::<Collateral>(id)? {
            Some(collateral) => collateral,
            None => {
                let ordinal = self.base.records_of(Collateral::KIND).count() + self.found;
                let ordinal = u32::try_from(ordinal).map_err(|_| "more collaterals than there are ids".to_owned())?;
                self.found += 1;
                let collateral = Collateral { ordinal, ..Collateral::default() };
                self.put(id, &collateral);
                collateral
            }
        };
        let market = MarketId(collateral.ordinal);
        self.edit_account(trader, |unit, _| {
            let held = unit.leg(market, LegKind::Collateral).map_or(I256::ZERO, |leg| leg.quantity);
            let quantity = held.wrapping_add(amount);
            unit.set_leg(Leg { market, kind: LegKind::Collateral, quantity, quote: I256::ZERO });
        })
    }

    /// Funding of a trader in a market is settled up to the market's growth of this moment.
    fn settle_trader(&mut self, trader: Address, market: MarketId) -> Result<(), Refused> {
        let Market { epoch, growth, .. } = self.load(state::numbered(market))?;
        self.edit_account(trader, |_, account| account.settle(Settled { market, epoch, growth }))
    }

    fn market_id(&self, base: Address) -> Result<MarketId, Refused> {
        let part = self.find::<Part>(base.into_word())?.filter(|part| !part.is_pool);
        part.map(|part| part.market).ok_or_else(|| format!("market of {base} is not known"))
    }

    fn config(&self) -> Result<Config, Refused> {
        Ok(self.find::<Config>(ONLY)?.unwrap_or_default())
    }

    fn edit_market(&mut self, base: Address, change: impl FnOnce(&mut Market)) -> Result<(), Refused> {
        let id = state::numbered(self.market_id(base)?);
        let mut market = self.load::<Market>(id)?;
        change(&mut market);
        self.put(id, &market);
        Ok(())
    }

    /// A collateral that nobody deposited yet is not followed.
    fn edit_collateral(&mut self, token: Address, change: impl FnOnce(&mut Collateral)) -> Result<(), Refused> {
        let id = token.into_word();
        if let Some(mut collateral) = self.find::<Collateral>(id)? {
            change(&mut collateral);
            self.put(id, &collateral);
        }
        Ok(())
    }

    fn edit_fund(&mut self, change: impl FnOnce(&mut Fund)) -> Result<(), Refused> {
        let mut fund = self.find::<Fund>(ONLY)?.unwrap_or_default();
        change(&mut fund);
        self.put(ONLY, &fund);
        Ok(())
    }

    /// A unit exists from the first event that names it.
    fn account(&self, trader: Address) -> Result<(Unit, Account), Refused> {
        let known = self.draft.unit(&state::unit_key(trader)).map(|unit| (**unit).clone());
        let unit = known.unwrap_or_else(|| Unit::new(SEGMENT, trader));
        let account = Account::of(&unit).map_err(|error| error.to_string())?;
        Ok((unit, account))
    }

    fn put_account(&mut self, trader: Address, mut unit: Unit, account: &Account) {
        unit.extra = account.to_record();
        self.draft.set_unit(state::unit_key(trader), Some(unit));
    }

    fn edit_account(&mut self, trader: Address, change: impl FnOnce(&mut Unit, &mut Account)) -> Result<(), Refused> {
        let (mut unit, mut account) = self.account(trader)?;
        change(&mut unit, &mut account);
        self.put_account(trader, unit, &account);
        Ok(())
    }

    fn find<T: Stored>(&self, id: B256) -> Result<Option<T>, Refused> {
        state::find(&self.draft, id).map_err(|error| error.to_string())
    }

    fn load<T: Stored>(&self, id: B256) -> Result<T, Refused> {
        state::load(&self.draft, id).map_err(|error| error.to_string())
    }

    fn put<T: Stored>(&mut self, id: B256, value: &T) {
        self.draft.set_record(state::key::<T>(id), Some(value.to_record()));
    }
}

/// Takes liquidity out of an order, and the part of its debts that goes with it, each rounded down
/// (`OrderBook._removeLiquidityFromOrder`).
fn shrink(order: &mut Order, liquidity: u128) -> Result<(), Refused> {
    let left = order.liquidity.checked_sub(liquidity).ok_or("more liquidity removed than there was")?;
    let (part, whole) = (U256::from(liquidity), U256::from(order.liquidity));
    for debt in [&mut order.base_debt, &mut order.quote_debt] {
        let gone = mul_div_floor(*debt, part, whole).ok_or("an order without liquidity")?;
        *debt -= gone;
    }
    order.liquidity = left;
    Ok(())
}

/// The protocol forgets a market in which nothing but dust is left (`AccountBalance._deregisterBaseToken`).
fn drop_dust(unit: &mut Unit, account: &mut Account, market: MarketId) {
    let dust = |amount: I256| amount.unsigned_abs() < DUST;
    let left = unit.leg(market, LegKind::Perp).is_some_and(|leg| !dust(leg.quantity) || !dust(leg.quote));
    if !left && account.orders_in(market).next().is_none() {
        unit.set_leg(Leg { market, kind: LegKind::Perp, quantity: I256::ZERO, quote: I256::ZERO });
        account.forget(market);
    }
}

/// 10⁻¹⁸ to token units, rounded down, also below zero (`SettlementTokenMath.formatSettlementToken`).
pub(super) fn floor_to_token(amount: I256, scale: U256) -> I256 {
    let scale = I256::from_raw(scale);
    amount.div_euclid(scale)
}

fn whole(amount: U256) -> Result<I256, Refused> {
    signed(amount).ok_or_else(|| format!("{amount} does not fit 255 bits"))
}
