//! One block's logs → a change of the book.
//!
//! Receipts tell balances in asset units, after interest: `Mint` and `Burn` give the change of the balance since the
//! account's last action, and how much of it is interest. With the scaled balance before, the index of the event and the
//! rounding of the token (aToken down, debt token up) this names the new balance exactly, and an index of at least one ray
//! names the only scaled balance that has it. `BalanceTransfer` is scaled already.
//!
//! `ReserveDataUpdated` carries indexes and rates and is emitted by every action that moves them, but one: a liquidation
//! paid out in aTokens moves the collateral's indexes in silence. There they are accrued here as the pool does it.
//!
//! Invariants: a log of a contract that is not watched is refused; a known event that does not decode, that names an asset
//! the cache does not know, or that cannot follow from the cache, is refused; an unknown event of a watched contract is
//! counted.
//! Must not: read anything but the book and the logs.

use alloy::sol_types::{SolEvent, SolEventInterface, abi::AbiDecoderConfig};

use super::{
    Settings,
    abi::{
        IInitializableAToken, IInitializableDebtToken, IPool::IPoolEvents as PoolEvent,
        IPoolAddressesProvider::IPoolAddressesProviderEvents as ProviderEvent, IPoolConfigurator,
        IPoolConfigurator::IPoolConfiguratorEvents as ConfiguratorEvent, IProxy,
        IScaledToken::IScaledTokenEvents as TokenEvent,
    },
    margin, ray,
    state::{self, Flags, Reserve, Role, Token},
};
use crate::{
    positions::{Book, Draft, RecordKey, Unit},
    protocols::{
        Applied, ApplyError,
        records::{self, Stored},
    },
    types::{Address, B256, BlockRef, I256, Log, U256, math},
};

/// Applies a block's logs, in order, to an edit of the book.
pub(super) fn apply(settings: &Settings, book: &Book, block: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
    let mut decoder =
        Decoder { settings, block, draft: Draft::new(book), listing: listing(settings, logs), unknown_events: 0 };
    for log in logs {
        decoder.log(log)?;
    }
    Ok(Applied { delta: decoder.draft.finish(), unknown_events: decoder.unknown_events })
}

/// The receipts of the reserves that these logs list: they speak of themselves before they are listed.
fn listing(settings: &Settings, logs: &[Log]) -> Vec<Address> {
    let of_configurator = logs.iter().filter(|log| log.address == settings.pool_configurator);
    of_configurator
        .filter_map(|log| IPoolConfigurator::ReserveInitialized::decode_raw_log(&log.topics, &log.data).ok())
        .flat_map(|listed| [listed.aToken, listed.variableDebtToken])
        .collect()
}

/// What is wrong with a log, for people.
pub(super) type Refused = String;

pub(super) struct Decoder<'a> {
    pub(super) settings: &'a Settings,
    pub(super) block: &'a BlockRef,
    pub(super) draft: Draft<'a>,
    listing: Vec<Address>,
    unknown_events: u64,
}

impl Decoder<'_> {
    fn log(&mut self, log: &Log) -> Result<(), ApplyError> {
        let Settings { pool, pool_configurator, addresses_provider, .. } = *self.settings;
        let malformed = |what| ApplyError::Malformed { tx_hash: log.tx_hash, log_index: log.log_index, what };
        let applied = if log.address == pool {
            self.read(log, PoolEvent::SELECTORS, Self::pool_event)
        } else if log.address == pool_configurator {
            self.read(log, ConfiguratorEvent::SELECTORS, Self::configurator_event)
        } else if log.address == addresses_provider {
            self.read(log, ProviderEvent::SELECTORS, Self::provider_event)
        } else if let Some(token) = self.token(log.address).map_err(malformed)? {
            self.read(log, TokenEvent::SELECTORS, |decoder, event| decoder.token_event(token, event))
        } else if self.listing.contains(&log.address) {
            Ok(())
        } else {
            let Log { address: emitter, tx_hash, log_index, .. } = *log;
            return Err(ApplyError::ForeignEmitter { emitter, tx_hash, log_index });
        };
        applied.map_err(malformed)
    }

    /// Decodes a log of a watched contract and applies it, or counts it if it is none of the contract's events.
    fn read<E: SolEventInterface>(
        &mut self,
        log: &Log,
        selectors: &[[u8; 32]],
        apply: impl FnOnce(&mut Self, E) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let Some(selector) = log.topics.first().filter(|topic| selectors.contains(&topic.0)) else {
            self.unknown_events += u64::from(!is_of_proxy(log));
            return Ok(());
        };
        let strict = AbiDecoderConfig::new().validate(true);
        let event = E::decode_raw_log_with_config(&log.topics, &log.data, strict)
            .map_err(|error| format!("event {selector} does not decode: {error}"))?;
        apply(self, event)
    }

    fn pool_event(&mut self, event: PoolEvent) -> Result<(), Refused> {
        match event {
            PoolEvent::ReserveDataUpdated(e) => {
                let updated_at = self.block.timestamp;
                self.edit_reserve(e.reserve, |reserve| {
                    reserve.supply_rate = e.liquidityRate;
                    reserve.debt_rate = e.variableBorrowRate;
                    reserve.supply_index = e.liquidityIndex;
                    reserve.debt_index = e.variableBorrowIndex;
                    reserve.updated_at = updated_at;
                    Ok(())
                })
            }
            PoolEvent::Supply(e) => self.flow_in(e.reserve, e.amount),
            PoolEvent::Withdraw(e) => self.flow_out(e.reserve, e.amount),
            PoolEvent::Borrow(e) => self.flow_out(e.reserve, e.amount),
            PoolEvent::Repay(e) if e.useATokens => Ok(()),
            PoolEvent::Repay(e) => self.flow_in(e.reserve, e.amount),
            // Taken as debt, the loan is told by its `Borrow`.
            PoolEvent::FlashLoan(e) if e.interestRateMode != 0 => Ok(()),
            PoolEvent::FlashLoan(e) => self.flow_in(e.asset, e.premium),
            PoolEvent::LiquidationCall(e) => {
                self.flow_in(e.debtAsset, e.debtToCover)?;
                match e.receiveAToken {
                    false => self.flow_out(e.collateralAsset, e.liquidatedCollateralAmount),
                    true if e.collateralAsset == e.debtAsset => Ok(()),
                    true => self.accrue(e.collateralAsset),
                }
            }
            PoolEvent::DeficitCreated(e) => self.edit_reserve(e.debtAsset, |reserve| {
                reserve.deficit = add(reserve.deficit, e.amountCreated, "deficit")?;
                Ok(())
            }),
            PoolEvent::DeficitCovered(e) => self.edit_reserve(e.reserve, |reserve| {
                reserve.deficit = subtract(reserve.deficit, e.amountCovered, "deficit")?;
                Ok(())
            }),
            PoolEvent::UserEModeSet(e) => self.edit_account(e.user, |_, flags| {
                flags.category = e.categoryId;
                Ok(())
            }),
            PoolEvent::ReserveUsedAsCollateralEnabled(e) => self.flag(e.reserve, e.user, true),
            PoolEvent::ReserveUsedAsCollateralDisabled(e) => self.flag(e.reserve, e.user, false),
            PoolEvent::IsolationModeTotalDebtUpdated(_)
            | PoolEvent::MintedToTreasury(_)
            | PoolEvent::PositionManagerApproved(_)
            | PoolEvent::PositionManagerRevoked(_) => Ok(()),
        }
    }

    fn token_event(&mut self, token: Token, event: TokenEvent) -> Result<(), Refused> {
        match event {
            TokenEvent::Mint(e) => {
                let grown = |balance| add(subtract(balance, e.balanceIncrease, "interest")?, e.value, "balance");
                self.rebalance(token, e.onBehalfOf, e.index, grown)
            }
            TokenEvent::Burn(e) => {
                let shrunk = |balance| {
                    let before = subtract(balance, e.balanceIncrease, "interest")?;
                    subtract(before, e.value, "balance")
                };
                self.rebalance(token, e.from, e.index, shrunk)
            }
            TokenEvent::BalanceTransfer(e) => {
                let left = subtract(self.scaled(token, e.from)?, e.value, "scaled balance")?;
                self.set_scaled(token, e.from, left)?;
                let now = add(self.scaled(token, e.to)?, e.value, "scaled balance")?;
                self.set_scaled(token, e.to, now)
            }
            TokenEvent::Transfer(_) | TokenEvent::Approval(_) | TokenEvent::BorrowAllowanceDelegated(_) => Ok(()),
        }
    }

    /// Turns a balance after interest at `index` into the one after the event, and that into scaled units.
    fn rebalance(
        &mut self,
        token: Token,
        account: Address,
        index: U256,
        change: impl FnOnce(U256) -> Result<U256, Refused>,
    ) -> Result<(), Refused> {
        let (balance_of, scaled_of): (Scale, Scale) = match token.role {
            Role::Debt => (ray::owed_ceil, ray::scaled_debt),
            Role::Asset | Role::Supply => (ray::supplied_floor, ray::scaled_supply),
        };
        let before = balance_of(self.scaled(token, account)?, index).ok_or("a balance overflows")?;
        let after = change(before)?;
        let scaled = scaled_of(after, index)
            .ok_or_else(|| format!("no scaled balance of {account} makes {after} at index {index}"))?;
        self.set_scaled(token, account, scaled)
    }

    fn scaled(&self, token: Token, account: Address) -> Result<U256, Refused> {
        let unit = self.draft.unit(&state::unit_key(account));
        Ok(unit.map_or(U256::ZERO, |unit| match token.role {
            Role::Debt => state::owed(unit, token.reserve),
            Role::Asset | Role::Supply => state::supplied(unit, token.reserve),
        }))
    }

    fn set_scaled(&mut self, token: Token, account: Address, scaled: U256) -> Result<(), Refused> {
        let before = self.scaled(token, account)?;
        let quantity = signed(scaled)?;
        self.edit_account(account, |unit, flags| {
            match token.role {
                Role::Debt => state::set_owed(unit, token.reserve, quantity),
                Role::Asset | Role::Supply => {
                    let is_collateral = state::has(flags.collateral, token.reserve);
                    state::set_supplied(unit, token.reserve, quantity, is_collateral);
                }
            }
            Ok(())
        })?;
        self.edit_numbered(token.reserve, |reserve| {
            let total = match token.role {
                Role::Debt => &mut reserve.scaled_debt,
                Role::Asset | Role::Supply => &mut reserve.scaled_supply,
            };
            *total = add(subtract(*total, before, "total scaled balance")?, scaled, "total scaled balance")?;
            Ok(())
        })
    }

    /// Flags a reserve as an account's collateral, or not, and moves what it holds there.
    fn flag(&mut self, asset: Address, account: Address, on: bool) -> Result<(), Refused> {
        let reserve = self.reserve_of(asset)?;
        self.edit_account(account, |unit, flags| {
            flags.collateral = state::with(flags.collateral, reserve, on);
            let scaled = signed(state::supplied(unit, reserve))?;
            state::set_supplied(unit, reserve, scaled, on);
            Ok(())
        })
    }

    /// Moves a reserve's indexes to this block as `ReserveLogic.updateState` does: the debt index only where there is debt.
    fn accrue(&mut self, asset: Address) -> Result<(), Refused> {
        let timestamp = self.block.timestamp;
        self.edit_reserve(asset, |reserve| {
            let (supply, debt) = margin::indexes(reserve, timestamp).map_err(|error| error.to_string())?;
            reserve.supply_index = supply;
            if !reserve.scaled_debt.is_zero() {
                reserve.debt_index = debt;
            }
            reserve.updated_at = timestamp;
            Ok(())
        })
    }

    fn flow_in(&mut self, asset: Address, amount: U256) -> Result<(), Refused> {
        self.edit_reserve(asset, |reserve| {
            reserve.liquidity = add(reserve.liquidity, amount, "liquidity")?;
            Ok(())
        })
    }

    fn flow_out(&mut self, asset: Address, amount: U256) -> Result<(), Refused> {
        self.edit_reserve(asset, |reserve| {
            reserve.liquidity = subtract(reserve.liquidity, amount, "liquidity")?;
            Ok(())
        })
    }

    /// Edits an account; it exists as long as it holds, owes or flags anything.
    fn edit_account(
        &mut self,
        account: Address,
        change: impl FnOnce(&mut Unit, &mut Flags) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let key = state::unit_key(account);
        let known = self.draft.unit(&key).map(|unit| (**unit).clone());
        let mut unit = known.unwrap_or_else(|| Unit::new(state::SEGMENT, account));
        let mut flags = Flags::of(&unit).ok_or_else(|| format!("the flags of {account} are malformed"))?;
        change(&mut unit, &mut flags)?;
        unit.extra = flags.to_extra();
        let empty = unit.legs.is_empty() && unit.extra.is_empty();
        self.draft.set_unit(key, (!empty).then_some(unit));
        Ok(())
    }

    /// Edits the reserve of an asset.
    pub(super) fn edit_reserve(
        &mut self,
        asset: Address,
        change: impl FnOnce(&mut Reserve) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let number = self.reserve_of(asset)?;
        self.edit_numbered(number, change)
    }

    fn edit_numbered(
        &mut self,
        number: u32,
        change: impl FnOnce(&mut Reserve) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let known: Option<Reserve> = self.find(id(number))?;
        let mut reserve = known.ok_or_else(|| format!("reserve {number} is not known"))?;
        change(&mut reserve)?;
        self.put(id(number), &reserve);
        Ok(())
    }

    /// The number of an asset's reserve.
    pub(super) fn reserve_of(&self, asset: Address) -> Result<u32, Refused> {
        let token: Option<Token> = self.find(asset.into_word())?;
        let token = token.filter(|token| token.role == Role::Asset);
        token.map(|token| token.reserve).ok_or_else(|| format!("{asset} is the asset of no known reserve"))
    }

    /// What a receipt is; `None` for any other contract.
    fn token(&self, address: Address) -> Result<Option<Token>, Refused> {
        let token: Option<Token> = self.find(address.into_word())?;
        Ok(token.filter(|token| token.role != Role::Asset))
    }

    pub(super) fn find<T: Stored>(&self, id: B256) -> Result<Option<T>, Refused> {
        records::find(&self.draft, id).map_err(|error| error.to_string())
    }

    pub(super) fn put<T: Stored>(&mut self, id: B256, value: &T) {
        self.draft.set_record(RecordKey { kind: T::KIND, id }, Some(value.to_record()));
    }

    pub(super) fn remove<T: Stored>(&mut self, id: B256) {
        self.draft.set_record(RecordKey { kind: T::KIND, id }, None);
    }
}

/// From a balance to another at an index.
type Scale = fn(U256, U256) -> Option<U256>;

/// A numbered record's id.
pub(super) fn id(number: u32) -> B256 {
    B256::from(U256::from(number))
}

fn add(a: U256, b: U256, what: &str) -> Result<U256, Refused> {
    a.checked_add(b).ok_or_else(|| format!("{what} of {a} overflows by {b}"))
}

fn subtract(a: U256, b: U256, what: &str) -> Result<U256, Refused> {
    a.checked_sub(b)
        .ok_or_else(|| format!("{what} of {a} is less than {b}: the cache is behind or ahead of this event"))
}

fn signed(scaled: U256) -> Result<I256, Refused> {
    math::signed(scaled).ok_or_else(|| format!("a scaled balance of {scaled} does not fit"))
}

/// Proxies and initialisers speak of themselves; nothing that is cached follows from it.
fn is_of_proxy(log: &Log) -> bool {
    const OWN: [B256; 5] = [
        IProxy::Upgraded::SIGNATURE_HASH,
        IProxy::AdminChanged::SIGNATURE_HASH,
        IProxy::OwnershipTransferred::SIGNATURE_HASH,
        IInitializableAToken::Initialized::SIGNATURE_HASH,
        IInitializableDebtToken::Initialized::SIGNATURE_HASH,
    ];
    log.topics.first().is_some_and(|topic| OWN.contains(topic))
}
