//! What governance does to a market: reserves listed and dropped, their configuration, e-mode categories, the registry.
//!
//! Invariants: as of `decode`, whose second half this is.
//! Must not: touch an account.

use super::{
    abi::{
        IPoolAddressesProvider::IPoolAddressesProviderEvents as ProviderEvent,
        IPoolConfigurator::{self, IPoolConfiguratorEvents as ConfiguratorEvent},
    },
    config::{self, Config, Field},
    decode::{Decoder, Refused, id},
    margin::FIRST_INDEX,
    state::{self, Category, Price, RESERVES_MAX, Registry, Reserve, Role, Sentinel, Token},
};
use crate::types::{Address, B256, U256};

impl Decoder<'_> {
    pub(super) fn configurator_event(&mut self, event: ConfiguratorEvent) -> Result<(), Refused> {
        use ConfiguratorEvent as E;
        match event {
            E::ReserveInitialized(e) => self.reserve_listed(&e),
            E::ReserveDropped(e) => self.reserve_dropped(e.asset),
            E::CollateralConfigurationChanged(e) => {
                self.configure(e.asset, config::LTV, e.ltv)?;
                self.configure(e.asset, config::LIQUIDATION_THRESHOLD, e.liquidationThreshold)?;
                self.configure(e.asset, config::LIQUIDATION_BONUS, e.liquidationBonus)
            }
            E::ReserveBorrowing(e) => self.switch(e.asset, config::BORROWING, e.enabled),
            E::ReserveFlashLoaning(e) => self.switch(e.asset, config::FLASH_LOANS, e.enabled),
            E::ReserveActive(e) => self.switch(e.asset, config::ACTIVE, e.active),
            E::ReserveFrozen(e) => self.switch(e.asset, config::FROZEN, e.frozen),
            E::ReservePaused(e) => self.switch(e.asset, config::PAUSED, e.paused),
            E::BorrowableInIsolationChanged(e) => self.switch(e.asset, config::BORROWABLE_IN_ISOLATION, e.borrowable),
            E::SiloedBorrowingChanged(e) => self.switch(e.asset, config::SILOED, e.newState),
            E::ReserveFactorChanged(e) => self.configure(e.asset, config::RESERVE_FACTOR, e.newReserveFactor),
            E::BorrowCapChanged(e) => self.configure(e.asset, config::BORROW_CAP, e.newBorrowCap),
            E::SupplyCapChanged(e) => self.configure(e.asset, config::SUPPLY_CAP, e.newSupplyCap),
            E::LiquidationProtocolFeeChanged(e) => self.configure(e.asset, config::PROTOCOL_FEE, e.newFee),
            E::DebtCeilingChanged(e) => self.configure(e.asset, config::DEBT_CEILING, e.newDebtCeiling),
            E::LiquidationGracePeriodChanged(e) => self.grace(e.asset, e.gracePeriodUntil.to()),
            E::LiquidationGracePeriodDisabled(e) => self.grace(e.asset, 0),
            E::EModeCategoryAdded(e) => self.edit_category(e.categoryId, |category| {
                category.ltv = e.ltv;
                category.threshold = e.liquidationThreshold;
                category.bonus = e.liquidationBonus;
            }),
            E::AssetCollateralInEModeChanged(e) => {
                self.edit_bitmap(e.asset, e.categoryId, |category| &mut category.collateral, e.collateral)
            }
            E::AssetBorrowableInEModeChanged(e) => {
                self.edit_bitmap(e.asset, e.categoryId, |category| &mut category.borrowable, e.borrowable)
            }
            E::AssetLtvzeroInEModeChanged(e) => {
                self.edit_bitmap(e.asset, e.categoryId, |category| &mut category.ltv_zero, e.ltvzero)
            }
            // A pending loan to value takes effect by an event of its own; rates by the pool's.
            E::PendingLtvChanged(_)
            | E::ReserveInterestRateStrategyChanged(_)
            | E::ReserveInterestRateDataChanged(_)
            | E::ATokenUpgraded(_)
            | E::VariableDebtTokenUpgraded(_)
            | E::BridgeProtocolFeeUpdated(_)
            | E::FlashloanPremiumTotalUpdated(_)
            | E::FlashloanPremiumToProtocolUpdated(_) => Ok(()),
        }
    }

    /// What the registry names is read again, and with another oracle every price.
    pub(super) fn provider_event(&mut self, event: ProviderEvent) -> Result<(), Refused> {
        let named_anew = matches!(
            event,
            ProviderEvent::PriceOracleUpdated(_)
                | ProviderEvent::PriceOracleSentinelUpdated(_)
                | ProviderEvent::AddressSet(_)
                | ProviderEvent::AddressSetAsProxy(_)
        );
        if named_anew {
            self.remove::<Registry>(B256::ZERO);
            self.remove::<Sentinel>(B256::ZERO);
            (0..RESERVES_MAX).for_each(|reserve| self.remove::<Price>(id(reserve)));
        }
        Ok(())
    }

    /// The pool gives a new reserve the lowest number that is free.
    fn reserve_listed(&mut self, event: &IPoolConfigurator::ReserveInitialized) -> Result<(), Refused> {
        let IPoolConfigurator::ReserveInitialized { asset, aToken: a_token, variableDebtToken: debt_token, .. } =
            *event;
        if self.reserve_of(asset).is_ok() {
            return Err(format!("{asset} is listed already"));
        }
        let mut numbers = 0..RESERVES_MAX;
        let number = loop {
            let number = numbers.next().ok_or("the pool lists more reserves than it can")?;
            if self.find::<Reserve>(id(number))?.is_none() {
                break number;
            }
        };
        let reserve = Reserve {
            asset,
            a_token,
            debt_token,
            config: Config::default(),
            supply_index: FIRST_INDEX,
            supply_rate: U256::ZERO,
            debt_index: FIRST_INDEX,
            debt_rate: U256::ZERO,
            updated_at: 0,
            grace_until: 0,
            deficit: U256::ZERO,
            liquidity: U256::ZERO,
            scaled_supply: U256::ZERO,
            scaled_debt: U256::ZERO,
        };
        self.put(id(number), &reserve);
        for (token, role) in [(asset, Role::Asset), (a_token, Role::Supply), (debt_token, Role::Debt)] {
            self.put(token.into_word(), &Token { reserve: number, role });
        }
        Ok(())
    }

    fn reserve_dropped(&mut self, asset: Address) -> Result<(), Refused> {
        let number = self.reserve_of(asset)?;
        let reserve: Option<Reserve> = self.find(id(number))?;
        let reserve = reserve.ok_or_else(|| format!("reserve {number} is not known"))?;
        for token in [reserve.asset, reserve.a_token, reserve.debt_token] {
            self.remove::<Token>(token.into_word());
        }
        self.remove::<Reserve>(id(number));
        self.remove::<Price>(id(number));
        Ok(())
    }

    fn switch(&mut self, asset: Address, field: Field, on: bool) -> Result<(), Refused> {
        self.configure(asset, field, U256::from(on))
    }

    fn configure(&mut self, asset: Address, field: Field, value: U256) -> Result<(), Refused> {
        self.edit_reserve(asset, |reserve| {
            let changed = reserve.config.with(field, value);
            reserve.config = changed.ok_or_else(|| format!("{value} does not fit its place in the configuration"))?;
            Ok(())
        })
    }

    fn grace(&mut self, asset: Address, until: u64) -> Result<(), Refused> {
        self.edit_reserve(asset, |reserve| {
            reserve.grace_until = until;
            Ok(())
        })
    }

    fn edit_bitmap(
        &mut self,
        asset: Address,
        category: u8,
        bitmap: impl FnOnce(&mut Category) -> &mut U256,
        on: bool,
    ) -> Result<(), Refused> {
        let reserve = self.reserve_of(asset)?;
        self.edit_category(category, |category| {
            let bitmap = bitmap(category);
            *bitmap = state::with(*bitmap, reserve, on);
        })
    }

    /// Bitmaps may be set before the category's parameters are.
    fn edit_category(&mut self, number: u8, change: impl FnOnce(&mut Category)) -> Result<(), Refused> {
        let id = id(u32::from(number));
        let mut category: Category = self.find(id)?.unwrap_or_default();
        change(&mut category);
        self.put(id, &category);
        Ok(())
    }
}
