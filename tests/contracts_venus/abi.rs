//! The calls that the tests make, as accounts, governance and onlookers do.

use alloy::sol;

sol! {
    #[sol(all_derives)]
    interface Token {
        function faucet(uint256 amount) external;
        function approve(address spender, uint256 amount) external returns (bool);
        function transfer(address to, uint256 amount) external returns (bool);
        function balanceOf(address account) external view returns (uint256);
    }
    #[sol(all_derives)]
    interface VToken {
        function mint(uint256 mintAmount) external returns (uint256);
        function redeem(uint256 redeemTokens) external returns (uint256);
        function redeemUnderlying(uint256 redeemAmount) external returns (uint256);
        function borrow(uint256 borrowAmount) external returns (uint256);
        function repayBorrow(uint256 repayAmount) external returns (uint256);
        function liquidateBorrow(address borrower, uint256 repayAmount, address vTokenCollateral) external returns (uint256);
        function transfer(address dst, uint256 amount) external returns (bool);
        function accrueInterest() external returns (uint256);
        function addReserves(uint256 addAmount) external;
        function reduceReserves(uint256 reduceAmount) external;
        function balanceOf(address owner) external view returns (uint256);
        function borrowBalanceStored(address account) external view returns (uint256);
        function badDebt() external view returns (uint256);
        function setReserveFactor(uint256 newReserveFactorMantissa) external;
        function setProtocolSeizeShare(uint256 newProtocolSeizeShareMantissa) external;
        function setReduceReservesBlockDelta(uint256 delta) external;
        function setInterestRateModel(address newInterestRateModel) external;
        function syncCash() external;
    }
    #[sol(all_derives)]
    interface Comptroller {
        function enterMarkets(address[] calldata vTokens) external returns (uint256[] memory);
        function exitMarket(address vToken) external returns (uint256);
        function healAccount(address user) external;
        struct LiquidationOrder { address vTokenCollateral; address vTokenBorrowed; uint256 repayAmount; }
        function liquidateAccount(address borrower, LiquidationOrder[] calldata orders) external;
        function getBorrowingPower(address account) external view returns (uint256 error, uint256 liquidity, uint256 shortfall);
        function getAccountLiquidity(address account) external view returns (uint256 error, uint256 liquidity, uint256 shortfall);
        function setCollateralFactor(address vToken, uint256 factor, uint256 threshold) external;
        function setLiquidationIncentive(uint256 incentive) external;
        function setCloseFactor(uint256 factor) external;
        function setMinLiquidatableCollateral(uint256 least) external;
        function setActionsPaused(address[] calldata markets, uint8[] calldata actions, bool paused) external;
    }
    #[sol(all_derives)]
    interface Oracle {
        function setPrice(address asset, uint256 price) external;
        function assetPrices(address asset) external view returns (uint256);
    }
    #[sol(all_derives)]
    interface RiskFund {
        function updateAssetsState(address comptroller, address asset) external;
        function getPoolsBaseAssetReserves(address comptroller) external view returns (uint256);
    }
    #[sol(all_derives)]
    interface Shortfall {
        function startAuction(address comptroller) external;
        function closeAuction(address comptroller) external;
        function placeBid(address comptroller, uint256 bidBps, uint256 auctionStartBlockOrTimestamp) external;
        function auctions(address comptroller) external view returns (uint256 start, uint8 auctionType, uint8 status, uint256 seizedRiskFund, address highestBidder, uint256 highestBidBps, uint256 highestBidBlock, uint256 startBidBps);
    }
    #[sol(all_derives)]
    interface RateModel {
        function updateJumpRateModel(uint256 base, uint256 multiplier, uint256 jump, uint256 kink) external;
    }
    #[sol(all_derives)]
    interface Events {
        event BadDebtIncreased(address indexed borrower, uint256 badDebtDelta, uint256 badDebtOld, uint256 badDebtNew);
        event BadDebtRecovered(uint256 badDebtOld, uint256 badDebtNew);
    }
}
