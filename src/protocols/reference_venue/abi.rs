//! The venue's ABI: generated from the committed artifacts, plus the library parts its contracts inherit.
//!
//! Must not: hold anything but bindings.

use alloy::sol;

sol!(
    #[sol(all_derives)]
    IClearinghouse,
    "contracts/artifacts/IClearinghouse.json"
);
sol!(
    #[sol(all_derives)]
    IRiskSteward,
    "contracts/artifacts/IRiskSteward.json"
);
sol!(
    #[sol(all_derives)]
    IPriceFeed,
    "contracts/artifacts/IPriceFeed.json"
);

sol!(
    #[sol(all_derives)]
    IBackstopPool,
    "contracts/artifacts/IBackstopPool.json"
);

sol! {
    /// OpenZeppelin's role book, which every contract of the venue inherits.
    #[sol(all_derives)]
    interface IAccessControl {
        event RoleGranted(bytes32 indexed role, address indexed account, address indexed sender);
        event RoleRevoked(bytes32 indexed role, address indexed account, address indexed sender);
        event RoleAdminChanged(bytes32 indexed role, bytes32 indexed previousAdminRole, bytes32 indexed newAdminRole);

        error AccessControlUnauthorizedAccount(address account, bytes32 neededRole);
        error AccessControlBadConfirmation();

        function hasRole(bytes32 role, address account) external view returns (bool);
    }

    /// Refusals of the implementation and its libraries that no interface declares.
    #[sol(all_derives)]
    interface IImplementation {
        error BadMarketConfig(uint16 market);
        error ReentrancyGuardReentrantCall();
        error SafeCastOverflowedIntDowncast(uint8 bits, int256 value);
        error SafeCastOverflowedIntToUint(int256 value);
        error SafeCastOverflowedUintDowncast(uint8 bits, uint256 value);
        error SafeCastOverflowedUintToInt(uint256 value);
    }
}
