//! What users, owners and the questions of this test call; what they emit.

use alloy::sol;

sol! {
    struct AddLiquidity { address baseToken; uint256 base; uint256 quote; int24 lowerTick; int24 upperTick; uint256 minBase; uint256 minQuote; bool useTakerBalance; uint256 deadline; }
    struct RemoveLiquidity { address baseToken; int24 lowerTick; int24 upperTick; uint128 liquidity; uint256 minBase; uint256 minQuote; uint256 deadline; }
    struct OpenPosition { address baseToken; bool isBaseToQuote; bool isExactInput; uint256 amount; uint256 oppositeAmountBound; uint256 deadline; uint160 sqrtPriceLimitX96; bytes32 referralCode; }
    struct ClosePosition { address baseToken; uint160 sqrtPriceLimitX96; uint256 oppositeAmountBound; uint256 deadline; bytes32 referralCode; }
    struct OpenOrder { uint128 liquidity; int24 lowerTick; int24 upperTick; uint256 lastFeeGrowthInsideX128; int256 lastTwPremiumGrowthInsideX96; int256 lastTwPremiumGrowthBelowX96; int256 lastTwPremiumDivBySqrtPriceGrowthInsideX96; uint256 baseDebt; uint256 quoteDebt; }

    interface Token {
        function mint(address to, uint256 amount) external;
        function approve(address spender, uint256 amount) external;
        function balanceOf(address account) external view returns (uint256);
    }
    interface Aggregator {
        function set(int256 answer) external;
    }
    interface Vault {
        event BadDebtSettled(address indexed trader, uint256 amount);
        function deposit(address token, uint256 amount) external;
        function withdraw(address token, uint256 amount) external;
        function getBalance(address trader) external view returns (int256);
        function getFreeCollateral(address trader) external view returns (uint256);
        function getSettlementTokenValue(address trader) external view returns (int256);
        function settleBadDebt(address trader) external;
    }
    interface House {
        event PositionLiquidated(address indexed trader, address indexed baseToken, uint256 positionNotional, uint256 positionSize, uint256 liquidationFee, address liquidator);
        event PositionClosed(address indexed trader, address indexed baseToken, int256 closedPositionSize, int256 closedPositionNotional, int256 openNotional, int256 realizedPnl, uint256 closedPrice);
        function addLiquidity(AddLiquidity params) external;
        function removeLiquidity(RemoveLiquidity params) external;
        function openPosition(OpenPosition params) external;
        function closePosition(ClosePosition params) external;
        function settleAllFunding(address trader) external;
        function liquidate(address trader, address baseToken, int256 positionSize) external;
        function cancelAllExcessOrders(address maker, address baseToken) external;
        function quitMarket(address trader, address baseToken) external;
        function getAccountValue(address trader) external view returns (int256);
    }
    interface Balances {
        function getMarginRequirementForLiquidation(address trader) external view returns (int256);
        function getTotalPositionSize(address trader, address baseToken) external view returns (int256);
        function hasOrder(address trader) external view returns (bool);
    }
    interface Orders {
        function getOpenOrder(address trader, address baseToken, int24 lowerTick, int24 upperTick) external view returns (OpenOrder);
    }
    interface Fund {
        event Repaid(uint256 repaidAmount, uint256 tokenBalanceAfterRepaid);
        function getInsuranceFundCapacity() external view returns (int256);
        function repay() external;
        function setSurplusBeneficiary(address beneficiary) external;
        function setDistributionThreshold(uint256 threshold) external;
        function distributeFee() external;
    }
    interface Base {
        function pause() external;
        function close(uint256 price) external;
    }
}
