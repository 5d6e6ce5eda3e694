//! Morpho Blue's ABI, as far as a keeper reads or calls it, written down from its interfaces.
//!
//! Must not: hold anything but bindings.

#![expect(clippy::too_many_arguments, reason = "the binding of an event of eight arguments")]

use alloy::sol;

sol! {
    /// What a market is; its id is the keccak256 of these five words.
    #[derive(Debug, Default, PartialEq, Eq, Hash)]
    struct MarketParams {
        address loanToken;
        address collateralToken;
        address oracle;
        address irm;
        uint256 lltv;
    }

    /// A market's totals as of its last accrual.
    #[derive(Debug, Default, PartialEq, Eq, Hash)]
    struct MarketState {
        uint128 totalSupplyAssets;
        uint128 totalSupplyShares;
        uint128 totalBorrowAssets;
        uint128 totalBorrowShares;
        uint128 lastUpdate;
        uint128 fee;
    }

    /// The singleton.
    #[sol(all_derives)]
    interface IMorpho {
        event CreateMarket(bytes32 indexed id, MarketParams marketParams);
        event SetFee(bytes32 indexed id, uint256 newFee);
        event SetFeeRecipient(address indexed newFeeRecipient);
        event Supply(bytes32 indexed id, address indexed caller, address indexed onBehalf, uint256 assets, uint256 shares);
        event Withdraw(bytes32 indexed id, address caller, address indexed onBehalf, address indexed receiver, uint256 assets, uint256 shares);
        event Borrow(bytes32 indexed id, address caller, address indexed onBehalf, address indexed receiver, uint256 assets, uint256 shares);
        event Repay(bytes32 indexed id, address indexed caller, address indexed onBehalf, uint256 assets, uint256 shares);
        event SupplyCollateral(bytes32 indexed id, address indexed caller, address indexed onBehalf, uint256 assets);
        event WithdrawCollateral(bytes32 indexed id, address caller, address indexed onBehalf, address indexed receiver, uint256 assets);
        event Liquidate(bytes32 indexed id, address indexed caller, address indexed borrower, uint256 repaidAssets, uint256 repaidShares, uint256 seizedAssets, uint256 badDebtAssets, uint256 badDebtShares);
        event AccrueInterest(bytes32 indexed id, uint256 prevBorrowRate, uint256 interest, uint256 feeShares);
        event SetOwner(address indexed newOwner);
        event EnableIrm(address indexed irm);
        event EnableLltv(uint256 lltv);
        event FlashLoan(address indexed caller, address indexed token, uint256 assets);
        event SetAuthorization(address indexed caller, address indexed authorizer, address indexed authorized, bool newIsAuthorized);
        event IncrementNonce(address indexed caller, address indexed authorizer, uint256 usedNonce);

        function liquidate(MarketParams memory marketParams, address borrower, uint256 seizedAssets, uint256 repaidShares, bytes memory data) external returns (uint256 seized, uint256 repaid);
        function market(bytes32 id) external view returns (MarketState memory state);
        function position(bytes32 id, address user) external view returns (uint256 supplyShares, uint128 borrowShares, uint128 collateral);
        function feeRecipient() external view returns (address);
        function extSloads(bytes32[] memory slots) external view returns (bytes32[] memory words);
    }

    /// A model of interest, and what the adaptive curve adds to it.
    #[sol(all_derives)]
    interface IIrm {
        function borrowRateView(MarketParams memory marketParams, MarketState memory market) external view returns (uint256 rate);
        function rateAtTarget(bytes32 id) external view returns (int256 rate);
        function MORPHO() external view returns (address);
    }

    /// A market's price source.
    #[sol(all_derives)]
    interface IOracle {
        function price() external view returns (uint256);
    }
}
