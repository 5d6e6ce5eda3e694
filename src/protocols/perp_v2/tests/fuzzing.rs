//! Logs and answers that nobody should send.

use super::{
    super::abi::{
        IAccountBalance::IAccountBalanceEvents, IBaseToken::IBaseTokenEvents, IClearingHouse::IClearingHouseEvents,
        IClearingHouseConfig::IClearingHouseConfigEvents, ICollateralManager::ICollateralManagerEvents,
        IExchange::IExchangeEvents, IMarketRegistry::IMarketRegistryEvents, IPool::IPoolEvents, IVault::IVaultEvents,
    },
    applying::{BASE, POOL, TOKEN, TRADER, adapter, after, block, deposited, liquidity, listed, position},
};
use crate::{positions::Snapshot, protocols::fuzz::Target};

#[test]
fn fuzz_anything_said_is_taken_or_refused() {
    let opening = [listed(), deposited(TRADER, 1_000), position(10, -900), liquidity(-600, 1_000, -50)];
    let snapshot = Snapshot { block: block(), book: after(&opening).unwrap().0 };
    let events = [
        IClearingHouseEvents::SELECTORS,
        IAccountBalanceEvents::SELECTORS,
        IExchangeEvents::SELECTORS,
        IVaultEvents::SELECTORS,
        IMarketRegistryEvents::SELECTORS,
        IClearingHouseConfigEvents::SELECTORS,
        ICollateralManagerEvents::SELECTORS,
        IBaseTokenEvents::SELECTORS,
        IPoolEvents::SELECTORS,
    ]
    .concat();
    let words = [TRADER, TOKEN, BASE, POOL].map(|address| address.into_word()).to_vec();
    Target { adapter: &adapter(), snapshot, events, words }.withstands_anything();
}
