//! Fragments of the protocol's ABI, as its interfaces declare them: the events that are followed, the views that are
//! read, the calls that are sent.
//!
//! Must not: hold anything but bindings.

#![expect(clippy::too_many_arguments, reason = "the bindings of events of many arguments")]

use alloy::sol;

sol! {
    #[sol(all_derives)]
    interface IClearingHouse {
        event ReferredPositionChanged(bytes32 indexed referralCode);
        event PositionLiquidated(address indexed trader, address indexed baseToken, uint256 positionNotional, uint256 positionSize, uint256 liquidationFee, address liquidator);
        event LiquidityChanged(address indexed maker, address indexed baseToken, address indexed quoteToken, int24 lowerTick, int24 upperTick, int256 base, int256 quote, int128 liquidity, uint256 quoteFee);
        event PositionChanged(address indexed trader, address indexed baseToken, int256 exchangedPositionSize, int256 exchangedPositionNotional, uint256 fee, int256 openNotional, int256 realizedPnl, uint256 sqrtPriceAfterX96);
        event PositionClosed(address indexed trader, address indexed baseToken, int256 closedPositionSize, int256 closedPositionNotional, int256 openNotional, int256 realizedPnl, uint256 closedPrice);
        event FundingPaymentSettled(address indexed trader, address indexed baseToken, int256 fundingPayment);
        event TrustedForwarderChanged(address indexed forwarder);
        event DelegateApprovalChanged(address indexed delegateApproval);

        function liquidate(address trader, address baseToken, int256 positionSize) external;
        function cancelAllExcessOrders(address maker, address baseToken) external;
        function quitMarket(address trader, address baseToken) external returns (uint256 base, uint256 quote);
        function getAccountValue(address trader) external view returns (int256);
        function getVault() external view returns (address);
        function getExchange() external view returns (address);
        function getOrderBook() external view returns (address);
        function getAccountBalance() external view returns (address);
        function getInsuranceFund() external view returns (address);
        function getClearingHouseConfig() external view returns (address);
    }

    #[sol(all_derives)]
    interface IAccountBalance {
        event VaultChanged(address indexed vault);
        event PnlRealized(address indexed trader, int256 amount);

        function getMarkPrice(address baseToken) external view returns (uint256);
        function getMarginRequirementForLiquidation(address trader) external view returns (int256);
        function getTotalPositionSize(address trader, address baseToken) external view returns (int256);
        function getTotalDebtValue(address trader) external view returns (uint256);
        function getPnlAndPendingFee(address trader) external view returns (int256 owedRealizedPnl, int256 unrealizedPnl, uint256 pendingFee);
        function getLiquidatablePositionSize(address trader, address baseToken, int256 accountValue) external view returns (int256);
    }

    #[sol(all_derives)]
    interface IExchange {
        event FundingUpdated(address indexed baseToken, uint256 marketTwap, uint256 indexTwap);
        event MaxTickCrossedWithinBlockChanged(address indexed baseToken, uint24 maxTickCrossedWithinBlock);
        event AccountBalanceChanged(address accountBalance);

        function getAllPendingFundingPayment(address trader) external view returns (int256);
    }

    #[sol(all_derives)]
    interface IOrderBook {
        event ExchangeChanged(address indexed exchange);
    }

    #[sol(all_derives)]
    interface IVault {
        event Deposited(address indexed collateralToken, address indexed trader, uint256 amount);
        event Withdrawn(address indexed collateralToken, address indexed trader, uint256 amount);
        event CollateralLiquidated(address indexed trader, address indexed collateralToken, address indexed liquidator, uint256 collateral, uint256 repaidSettlementWithoutInsuranceFundFeeX10_S, uint256 insuranceFundFeeX10_S, uint24 discountRatio);
        event TrustedForwarderChanged(address indexed trustedForwarder);
        event ClearingHouseChanged(address indexed clearingHouse);
        event CollateralManagerChanged(address indexed collateralManager);
        event WETH9Changed(address indexed WETH9);
        event BadDebtSettled(address indexed trader, uint256 amount);

        function settleBadDebt(address trader) external;
        function decimals() external view returns (uint8);
        function getSettlementToken() external view returns (address);
        function getBalance(address trader) external view returns (int256);
        function getBalanceByToken(address trader, address token) external view returns (int256);
        function getFreeCollateralByRatio(address trader, uint24 ratio) external view returns (int256);
    }

    #[sol(all_derives)]
    interface IInsuranceFund {
        event BorrowerChanged(address borrower);
        event VaultChanged(address vault);
        event Repaid(uint256 repaidAmount, uint256 tokenBalanceAfterRepaid);
        event DistributionThresholdChanged(uint256 distributionThreshold);
        event SurplusBeneficiaryChanged(address surplusBeneficiary);
        event FeeDistributed(uint256 surplus, uint256 insuranceFundCapacity, uint256 insuranceFundFreeCollateral, uint256 distributionThreshold);

        function repay() external;
        function getInsuranceFundCapacity() external view returns (int256);
    }

    #[sol(all_derives)]
    interface IMarketRegistry {
        event PoolAdded(address indexed baseToken, uint24 indexed feeRatio, address indexed pool);
        event FeeRatioChanged(address baseToken, uint24 feeRatio);
        event InsuranceFundFeeRatioChanged(address baseToken, uint24 feeRatio);
        event MaxOrdersPerMarketChanged(uint8 maxOrdersPerMarket);
        event MarketMaxPriceSpreadRatioChanged(address indexed baseToken, uint24 spreadRatio);
        event FeeDiscountRatioChanged(address indexed trader, uint24 discountRatio);
        event FeeManagerChanged(address account, bool isFeeManager);
    }

    #[sol(all_derives)]
    interface IClearingHouseConfig {
        event LiquidationPenaltyRatioChanged(uint24 liquidationPenaltyRatio);
        event PartialCloseRatioChanged(uint24 partialCloseRatio);
        event TwapIntervalChanged(uint256 twapInterval);
        event MaxMarketsPerAccountChanged(uint8 maxMarketsPerAccount);
        event SettlementTokenBalanceCapChanged(uint256 cap);
        event MaxFundingRateChanged(uint24 rate);
        event MarkPriceMarketTwapIntervalChanged(uint32 twapInterval);
        event MarkPricePremiumIntervalChanged(uint32 premiumInterval);

        function getImRatio() external view returns (uint24);
        function getMmRatio() external view returns (uint24);
        function getLiquidationPenaltyRatio() external view returns (uint24);
        function getTwapInterval() external view returns (uint32);
        function getMaxFundingRate() external view returns (uint24);
    }

    #[sol(all_derives)]
    interface IBaseToken {
        event PriceFeedChanged(address indexed priceFeed);
        event StatusUpdated(uint8 indexed status);
        event WhitelistAdded(address account);
        event WhitelistRemoved(address account);
        event Transfer(address indexed from, address indexed to, uint256 value);
        event Approval(address indexed owner, address indexed spender, uint256 value);

        function getIndexPrice(uint256 interval) external view returns (uint256);
        function getPausedIndexPrice() external view returns (uint256);
        function getClosedPrice() external view returns (uint256);
    }

    #[sol(all_derives)]
    interface IPool {
        event Initialize(uint160 sqrtPriceX96, int24 tick);
        event Mint(address sender, address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount, uint256 amount0, uint256 amount1);
        event Collect(address indexed owner, address recipient, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount0, uint128 amount1);
        event Burn(address indexed owner, int24 indexed tickLower, int24 indexed tickUpper, uint128 amount, uint256 amount0, uint256 amount1);
        event Swap(address indexed sender, address indexed recipient, int256 amount0, int256 amount1, uint160 sqrtPriceX96, uint128 liquidity, int24 tick);
        event Flash(address indexed sender, address indexed recipient, uint256 amount0, uint256 amount1, uint256 paid0, uint256 paid1);
        event IncreaseObservationCardinalityNext(uint16 observationCardinalityNextOld, uint16 observationCardinalityNextNew);
        event SetFeeProtocol(uint8 feeProtocol0Old, uint8 feeProtocol1Old, uint8 feeProtocol0New, uint8 feeProtocol1New);
        event CollectProtocol(address indexed sender, address indexed recipient, uint128 amount0, uint128 amount1);

        function slot0() external view returns (uint160 sqrtPriceX96, int24 tick, uint16 observationIndex, uint16 observationCardinality, uint16 observationCardinalityNext, uint8 feeProtocol, bool unlocked);
        function observe(uint32[] calldata secondsAgos) external view returns (int56[] memory tickCumulatives, uint160[] memory secondsPerLiquidityCumulativeX128s);
    }

    #[sol(all_derives)]
    interface ICollateralManager {
        event CollateralAdded(address indexed token, address priceFeed, uint24 collateralRatio, uint24 discountRatio, uint256 depositCap);
        event ClearingHouseConfigChanged(address indexed clearingHouseConfig);
        event VaultChanged(address indexed vault);
        event PriceFeedChanged(address indexed token, address priceFeed);
        event CollateralRatioChanged(address indexed token, uint24 collateralRatio);
        event DiscountRatioChanged(address indexed token, uint24 discountRatio);
        event DepositCapChanged(address indexed token, uint256 depositCap);
        event MaxCollateralTokensPerAccountChanged(uint8 maxCollateralTokensPerAccount);
        event MmRatioBufferChanged(uint24 mmRatioBuffer);
        event DebtNonSettlementTokenValueRatioChanged(uint24 debtNonSettlementTokenValueRatio);
        event LiquidationRatioChanged(uint24 liquidationRatio);
        event CLInsuranceFundFeeRatioChanged(uint24 clInsuranceFundFeeRatio);
        event DebtThresholdChanged(uint256 debtThreshold);
        event WhitelistedDebtThresholdChanged(address trader, uint256 whitelistedDebtThreshold);
        event CollateralValueDustChanged(uint256 collateralValueDust);

        function getPrice(address token, uint256 interval) external view returns (uint256);
        function getPriceFeedDecimals(address token) external view returns (uint8);
        function getCollateralConfig(address token) external view returns (address priceFeed, uint24 collateralRatio, uint24 discountRatio, uint256 depositCap);
    }

    /// What every contract of the protocol and its proxies may emit besides.
    #[sol(all_derives)]
    interface IOwned {
        event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);
        event Paused(address account);
        event Unpaused(address account);
        event Upgraded(address indexed implementation);
        event AdminChanged(address previousAdmin, address newAdmin);
        event ClearingHouseChanged(address indexed clearingHouse);
    }

    #[sol(all_derives)]
    interface IToken {
        function balanceOf(address account) external view returns (uint256);
        function decimals() external view returns (uint8);
    }
}
