//! The contracts' ABI, as far as a keeper meets it: our own fragments of `@venusprotocol/isolated-pools` 4.4.0.
//!
//! Contract types are plain addresses here; enums are `uint8`, as they are in signatures.
//! Must not: hold anything but bindings.

use alloy::sol;

sol! {
    /// A pool: membership, thresholds, and who may be liquidated how.
    #[sol(all_derives)]
    interface IComptroller {
        event MarketEntered(address indexed vToken, address indexed account);
        event MarketExited(address indexed vToken, address indexed account);
        event NewCloseFactor(uint256 oldCloseFactorMantissa, uint256 newCloseFactorMantissa);
        event NewCollateralFactor(address vToken, uint256 oldCollateralFactorMantissa, uint256 newCollateralFactorMantissa);
        event NewLiquidationThreshold(address vToken, uint256 oldLiquidationThresholdMantissa, uint256 newLiquidationThresholdMantissa);
        event NewLiquidationIncentive(uint256 oldLiquidationIncentiveMantissa, uint256 newLiquidationIncentiveMantissa);
        event NewPriceOracle(address oldPriceOracle, address newPriceOracle);
        event ActionPausedMarket(address vToken, uint8 action, bool pauseState);
        event NewBorrowCap(address indexed vToken, uint256 newBorrowCap);
        event NewMinLiquidatableCollateral(uint256 oldMinLiquidatableCollateral, uint256 newMinLiquidatableCollateral);
        event NewSupplyCap(address indexed vToken, uint256 newSupplyCap);
        event NewRewardsDistributor(address indexed rewardsDistributor, address indexed rewardToken);
        event MarketSupported(address vToken);
        event NewPrimeToken(address oldPrimeToken, address newPrimeToken);
        event IsForcedLiquidationEnabledUpdated(address indexed vToken, bool enable);
        event MarketUnlisted(address indexed vToken);
        event DelegateUpdated(address indexed approver, address indexed delegate, bool approved);
        event MaxLoopsLimitUpdated(uint256 oldMaxLoopsLimit, uint256 newmaxLoopsLimit);

        error InvalidCollateralFactor();
        error InvalidLiquidationThreshold();
        error UnexpectedSender(address expectedSender, address actualSender);
        error PriceError(address vToken);
        error SnapshotError(address vToken, address user);
        error MarketNotListed(address market);
        error ComptrollerMismatch();
        error MarketNotCollateral(address vToken, address user);
        error BorrowActionNotPaused();
        error MintActionNotPaused();
        error RedeemActionNotPaused();
        error RepayActionNotPaused();
        error SeizeActionNotPaused();
        error ExitMarketActionNotPaused();
        error TransferActionNotPaused();
        error EnterMarketActionNotPaused();
        error LiquidateActionNotPaused();
        error BorrowCapIsNotZero();
        error SupplyCapIsNotZero();
        error CollateralFactorIsNotZero();
        error MinimalCollateralViolated(uint256 expectedGreaterThan, uint256 actual);
        error CollateralExceedsThreshold(uint256 expectedLessThanOrEqualTo, uint256 actual);
        error InsufficientCollateral(uint256 collateralToSeize, uint256 availableCollateral);
        error InsufficientLiquidity();
        error InsufficientShortfall();
        error TooMuchRepay();
        error NonzeroBorrowBalance();
        error ActionPaused(address market, uint8 action);
        error MarketAlreadyListed(address market);
        error SupplyCapExceeded(address market, uint256 cap);
        error BorrowCapExceeded(address market, uint256 cap);
        error DelegationStatusUnchanged();
        error MaxLoopsLimitExceeded(uint256 loopsLimit, uint256 requiredLoops);

        struct LiquidationOrder { address vTokenCollateral; address vTokenBorrowed; uint256 repayAmount; }

        function healAccount(address user) external;
        function liquidateAccount(address borrower, LiquidationOrder[] calldata orders) external;
        function getAccountLiquidity(address account) external view returns (uint256 error, uint256 liquidity, uint256 shortfall);
        function closeFactorMantissa() external view returns (uint256);
        function liquidationIncentiveMantissa() external view returns (uint256);
        function minLiquidatableCollateral() external view returns (uint256);
        function maxLoopsLimit() external view returns (uint256);
        function oracle() external view returns (address);
    }

    /// One market of a pool.
    #[sol(all_derives)]
    interface IVToken {
        event AccrueInterest(uint256 cashPrior, uint256 interestAccumulated, uint256 borrowIndex, uint256 totalBorrows);
        event Mint(address indexed minter, uint256 mintAmount, uint256 mintTokens, uint256 accountBalance);
        event Redeem(address indexed redeemer, uint256 redeemAmount, uint256 redeemTokens, uint256 accountBalance);
        event Borrow(address indexed borrower, uint256 borrowAmount, uint256 accountBorrows, uint256 totalBorrows);
        event RepayBorrow(address indexed payer, address indexed borrower, uint256 repayAmount, uint256 accountBorrows, uint256 totalBorrows);
        event BadDebtIncreased(address indexed borrower, uint256 badDebtDelta, uint256 badDebtOld, uint256 badDebtNew);
        event BadDebtRecovered(uint256 badDebtOld, uint256 badDebtNew);
        event LiquidateBorrow(address indexed liquidator, address indexed borrower, uint256 repayAmount, address indexed vTokenCollateral, uint256 seizeTokens);
        event NewComptroller(address indexed oldComptroller, address indexed newComptroller);
        event NewShortfallContract(address indexed oldShortfall, address indexed newShortfall);
        event NewProtocolShareReserve(address indexed oldProtocolShareReserve, address indexed newProtocolShareReserve);
        event NewMarketInterestRateModel(address indexed oldInterestRateModel, address indexed newInterestRateModel);
        event NewProtocolSeizeShare(uint256 oldProtocolSeizeShareMantissa, uint256 newProtocolSeizeShareMantissa);
        event NewReserveFactor(uint256 oldReserveFactorMantissa, uint256 newReserveFactorMantissa);
        event ReservesAdded(address indexed benefactor, uint256 addAmount, uint256 newTotalReserves);
        event SpreadReservesReduced(address indexed protocolShareReserve, uint256 reduceAmount, uint256 newTotalReserves);
        event Transfer(address indexed from, address indexed to, uint256 amount);
        event Approval(address indexed owner, address indexed spender, uint256 amount);
        event HealBorrow(address indexed payer, address indexed borrower, uint256 repayAmount);
        event SweepToken(address indexed token);
        event NewReduceReservesBlockDelta(uint256 oldReduceReservesBlockOrTimestampDelta, uint256 newReduceReservesBlockOrTimestampDelta);
        event ProtocolSeize(address indexed from, address indexed to, uint256 amount);
        event CashSynced(uint256 oldInternalCash, uint256 newInternalCash);

        error TransferNotAllowed();
        error MintFreshnessCheck();
        error RedeemFreshnessCheck();
        error RedeemTransferOutNotPossible();
        error BorrowFreshnessCheck();
        error BorrowCashNotAvailable();
        error DelegateNotApproved();
        error RepayBorrowFreshnessCheck();
        error HealBorrowUnauthorized();
        error ForceLiquidateBorrowUnauthorized();
        error LiquidateFreshnessCheck();
        error LiquidateCollateralFreshnessCheck();
        error LiquidateAccrueCollateralInterestFailed(uint256 errorCode);
        error LiquidateLiquidatorIsBorrower();
        error LiquidateCloseAmountIsZero();
        error LiquidateCloseAmountIsUintMax();
        error LiquidateSeizeLiquidatorIsBorrower();
        error ProtocolSeizeShareTooBig();
        error SetReserveFactorFreshCheck();
        error SetReserveFactorBoundsCheck();
        error AddReservesFactorFreshCheck(uint256 actualAddAmount);
        error ReduceReservesFreshCheck();
        error ReduceReservesCashNotAvailable();
        error ReduceReservesCashValidation();
        error SetInterestRateModelFreshCheck();

        function liquidateBorrow(address borrower, uint256 repayAmount, address vTokenCollateral) external returns (uint256);
        function accrueInterest() external returns (uint256);
        function underlying() external view returns (address);
        function interestRateModel() external view returns (address);
        function reserveFactorMantissa() external view returns (uint256);
        function protocolSeizeShareMantissa() external view returns (uint256);
        function isTimeBased() external view returns (bool);
        function reduceReservesBlockDelta() external view returns (uint256);
        function reduceReservesBlockNumber() external view returns (uint256);
        function accrualBlockNumber() external view returns (uint256);
        function borrowIndex() external view returns (uint256);
        function totalBorrows() external view returns (uint256);
        function totalReserves() external view returns (uint256);
        function totalSupply() external view returns (uint256);
        function badDebt() external view returns (uint256);
        function getCash() external view returns (uint256);
        function borrowRatePerBlock() external view returns (uint256);
        function exchangeRateStored() external view returns (uint256);
        function getAccountSnapshot(address account) external view returns (uint256 error, uint256 vTokenBalance, uint256 borrowBalance, uint256 exchangeRate);
    }

    /// Interest rate models: what the three kinds in the package keep.
    #[sol(all_derives)]
    interface IRateModel {
        event NewInterestParams(uint256 baseRatePerBlockOrTimestamp, uint256 multiplierPerBlockOrTimestamp, uint256 jumpMultiplierPerBlockOrTimestamp, uint256 kink);

        function baseRatePerBlock() external view returns (uint256);
        function multiplierPerBlock() external view returns (uint256);
        function jumpMultiplierPerBlock() external view returns (uint256);
        function kink() external view returns (uint256);
        function BASE_RATE_PER_BLOCK_OR_SECOND() external view returns (int256);
        function MULTIPLIER_PER_BLOCK_OR_SECOND() external view returns (int256);
        function KINK_1() external view returns (int256);
        function BASE_RATE_2_PER_BLOCK_OR_SECOND() external view returns (int256);
        function MULTIPLIER_2_PER_BLOCK_OR_SECOND() external view returns (int256);
        function KINK_2() external view returns (int256);
        function JUMP_MULTIPLIER_PER_BLOCK_OR_SECOND() external view returns (int256);
    }

    /// The oracle that a comptroller names.
    #[sol(all_derives)]
    interface IOracle {
        function getUnderlyingPrice(address vToken) external view returns (uint256);
        function getPrice(address asset) external view returns (uint256);
    }

    /// Auctions of bad debt against the risk fund.
    #[sol(all_derives)]
    interface IShortfall {
        event AuctionStarted(address indexed comptroller, uint256 auctionStartBlockOrTimestamp, uint8 auctionType, address[] markets, uint256[] marketsDebt, uint256 seizedRiskFund, uint256 startBidBps);
        event BidPlaced(address indexed comptroller, uint256 auctionStartBlockOrTimestamp, uint256 bidBps, address indexed bidder);
        event AuctionClosed(address indexed comptroller, uint256 auctionStartBlockOrTimestamp, address indexed highestBidder, uint256 highestBidBps, uint256 seizedRiskFind, address[] markets, uint256[] marketDebt);
        event AuctionRestarted(address indexed comptroller, uint256 auctionStartBlockOrTimestamp);
        event PoolRegistryUpdated(address indexed oldPoolRegistry, address indexed newPoolRegistry);
        event MinimumPoolBadDebtUpdated(uint256 oldMinimumPoolBadDebt, uint256 newMinimumPoolBadDebt);
        event WaitForFirstBidderUpdated(uint256 oldWaitForFirstBidder, uint256 newWaitForFirstBidder);
        event NextBidderBlockLimitUpdated(uint256 oldNextBidderBlockOrTimestampLimit, uint256 newNextBidderBlockOrTimestampLimit);
        event IncentiveBpsUpdated(uint256 oldIncentiveBps, uint256 newIncentiveBps);
        event AuctionsPaused(address sender);
        event AuctionsResumed(address sender);
        event TokenDebtAdded(address indexed token, address indexed user, uint256 amount);
        event TokenDebtClaimed(address indexed token, address indexed user, uint256 amount);

        error InsufficientBalance(address token, address recipient, uint256 amount, uint256 availableBalance);
        error InsufficientDebt(address token, address user, uint256 owedAmount, uint256 amount);

        function startAuction(address comptroller) external;
        function restartAuction(address comptroller) external;
        function placeBid(address comptroller, uint256 bidBps, uint256 auctionStartBlockOrTimestamp) external;
        function closeAuction(address comptroller) external;
        function auctions(address comptroller) external view returns (uint256 startBlockOrTimestamp, uint8 auctionType, uint8 status, uint256 seizedRiskFund, address highestBidder, uint256 highestBidBps, uint256 highestBidBlockOrTimestamp, uint256 startBidBps);
        function riskFund() external view returns (address);
        function minimumPoolBadDebt() external view returns (uint256);
        function incentiveBps() external view returns (uint256);
        function nextBidderBlockLimit() external view returns (uint256);
        function waitForFirstBidder() external view returns (uint256);
        function auctionsPaused() external view returns (bool);
        function isTimeBased() external view returns (bool);
    }

    /// The fund that auctions pay out of.
    #[sol(all_derives)]
    interface IRiskFund {
        function convertibleBaseAsset() external view returns (address);
        function getPoolsBaseAssetReserves(address comptroller) external view returns (uint256);
    }

    /// What every contract of the protocol inherits: ownership, access control, beacon.
    #[sol(all_derives)]
    interface IInherited {
        event Initialized(uint8 version);
        event NewAccessControlManager(address oldAccessControlManager, address newAccessControlManager);
        event OwnershipTransferStarted(address indexed previousOwner, address indexed newOwner);
        event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);

        error Unauthorized(address sender, address calledContract, string methodSignature);
        error ZeroAddressNotAllowed();
        error ZeroValueNotAllowed();
        error InvalidBlocksPerYear();
        error InvalidTimeBasedConfiguration();

        function implementation() external view returns (address);
    }

    /// Refusals of tokens that say why by an error and not by a sentence (EIP-6093).
    #[sol(all_derives)]
    interface IToken {
        error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
        error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
        error SafeERC20FailedOperation(address token);
    }
}
