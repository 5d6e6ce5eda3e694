//! The market's ABI, written down here as far as this adapter speaks it: facts about signatures, no code.
//!
//! Must not: hold anything but bindings.

#![expect(clippy::too_many_arguments, reason = "events have as many fields as they have")]

use alloy::sol;

sol! {
    /// The pool: accounts, indexes, liquidation.
    #[sol(all_derives)]
    interface IPool {
        event Supply(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint16 indexed referralCode);
        event Withdraw(address indexed reserve, address indexed user, address indexed to, uint256 amount);
        event Borrow(address indexed reserve, address user, address indexed onBehalfOf, uint256 amount, uint8 interestRateMode, uint256 borrowRate, uint16 indexed referralCode);
        event Repay(address indexed reserve, address indexed user, address indexed repayer, uint256 amount, bool useATokens);
        event IsolationModeTotalDebtUpdated(address indexed asset, uint256 totalDebt);
        event UserEModeSet(address indexed user, uint8 categoryId);
        event ReserveUsedAsCollateralEnabled(address indexed reserve, address indexed user);
        event ReserveUsedAsCollateralDisabled(address indexed reserve, address indexed user);
        event FlashLoan(address indexed target, address initiator, address indexed asset, uint256 amount, uint8 interestRateMode, uint256 premium, uint16 indexed referralCode);
        event LiquidationCall(address indexed collateralAsset, address indexed debtAsset, address indexed user, uint256 debtToCover, uint256 liquidatedCollateralAmount, address liquidator, bool receiveAToken);
        event ReserveDataUpdated(address indexed reserve, uint256 liquidityRate, uint256 stableBorrowRate, uint256 variableBorrowRate, uint256 liquidityIndex, uint256 variableBorrowIndex);
        event DeficitCovered(address indexed reserve, address caller, uint256 amountCovered);
        event MintedToTreasury(address indexed reserve, uint256 amountMinted);
        event DeficitCreated(address indexed user, address indexed debtAsset, uint256 amountCreated);
        event PositionManagerApproved(address indexed user, address indexed positionManager);
        event PositionManagerRevoked(address indexed user, address indexed positionManager);

        function liquidationCall(address collateralAsset, address debtAsset, address borrower, uint256 debtToCover, bool receiveAToken) external;
        function eliminateReserveDeficit(address asset, uint256 amount) external returns (uint256);
        function multicall(bytes[] calls) external returns (bytes[] results);

        function POOL_REVISION() external view returns (uint256);
        function getUserAccountData(address user) external view returns (uint256 totalCollateralBase, uint256 totalDebtBase, uint256 availableBorrowsBase, uint256 currentLiquidationThreshold, uint256 ltv, uint256 healthFactor);
        function getUserConfiguration(address user) external view returns (uint256 data);
        function getUserEMode(address user) external view returns (uint256);
        function getConfiguration(address asset) external view returns (uint256 data);
        function getReserveNormalizedIncome(address asset) external view returns (uint256);
        function getReserveNormalizedVariableDebt(address asset) external view returns (uint256);
        function getVirtualUnderlyingBalance(address asset) external view returns (uint128);
        function getLiquidationGracePeriod(address asset) external view returns (uint40);
        function getReserveDeficit(address asset) external view returns (uint256);
        function getEModeCategoryCollateralConfig(uint8 id) external view returns (uint16 ltv, uint16 liquidationThreshold, uint16 liquidationBonus);
        function getEModeCategoryCollateralBitmap(uint8 id) external view returns (uint128);
        function getEModeCategoryBorrowableBitmap(uint8 id) external view returns (uint128);
        function getEModeCategoryLtvzeroBitmap(uint8 id) external view returns (uint128);
    }

    /// The configurator: what governance sets.
    #[sol(all_derives)]
    interface IPoolConfigurator {
        event ReserveInitialized(address indexed asset, address indexed aToken, address stableDebtToken, address variableDebtToken, address interestRateStrategyAddress);
        event ReserveBorrowing(address indexed asset, bool enabled);
        event ReserveFlashLoaning(address indexed asset, bool enabled);
        event PendingLtvChanged(address indexed asset, uint256 ltv);
        event CollateralConfigurationChanged(address indexed asset, uint256 ltv, uint256 liquidationThreshold, uint256 liquidationBonus);
        event ReserveActive(address indexed asset, bool active);
        event ReserveFrozen(address indexed asset, bool frozen);
        event ReservePaused(address indexed asset, bool paused);
        event ReserveDropped(address indexed asset);
        event ReserveFactorChanged(address indexed asset, uint256 oldReserveFactor, uint256 newReserveFactor);
        event BorrowCapChanged(address indexed asset, uint256 oldBorrowCap, uint256 newBorrowCap);
        event SupplyCapChanged(address indexed asset, uint256 oldSupplyCap, uint256 newSupplyCap);
        event LiquidationProtocolFeeChanged(address indexed asset, uint256 oldFee, uint256 newFee);
        event LiquidationGracePeriodChanged(address indexed asset, uint40 gracePeriodUntil);
        event LiquidationGracePeriodDisabled(address indexed asset);
        event AssetCollateralInEModeChanged(address indexed asset, uint8 categoryId, bool collateral);
        event AssetBorrowableInEModeChanged(address indexed asset, uint8 categoryId, bool borrowable);
        event AssetLtvzeroInEModeChanged(address indexed asset, uint8 categoryId, bool ltvzero);
        event EModeCategoryAdded(uint8 indexed categoryId, uint256 ltv, uint256 liquidationThreshold, uint256 liquidationBonus, address oracle, string label);
        event ReserveInterestRateStrategyChanged(address indexed asset, address oldStrategy, address newStrategy);
        event ReserveInterestRateDataChanged(address indexed asset, address indexed strategy, bytes data);
        event ATokenUpgraded(address indexed asset, address indexed proxy, address indexed implementation);
        event VariableDebtTokenUpgraded(address indexed asset, address indexed proxy, address indexed implementation);
        event DebtCeilingChanged(address indexed asset, uint256 oldDebtCeiling, uint256 newDebtCeiling);
        event SiloedBorrowingChanged(address indexed asset, bool oldState, bool newState);
        event BridgeProtocolFeeUpdated(uint256 oldBridgeProtocolFee, uint256 newBridgeProtocolFee);
        event FlashloanPremiumTotalUpdated(uint128 oldFlashloanPremiumTotal, uint128 newFlashloanPremiumTotal);
        event FlashloanPremiumToProtocolUpdated(uint128 oldFlashloanPremiumToProtocol, uint128 newFlashloanPremiumToProtocol);
        event BorrowableInIsolationChanged(address asset, bool borrowable);
    }

    /// Both receipts: the supplier's aToken and the borrower's variable debt token. Balances are scaled.
    #[sol(all_derives)]
    interface IScaledToken {
        event Mint(address indexed caller, address indexed onBehalfOf, uint256 value, uint256 balanceIncrease, uint256 index);
        event Burn(address indexed from, address indexed target, uint256 value, uint256 balanceIncrease, uint256 index);
        event BalanceTransfer(address indexed from, address indexed to, uint256 value, uint256 index);
        event Transfer(address indexed from, address indexed to, uint256 value);
        event Approval(address indexed owner, address indexed spender, uint256 value);
        event BorrowAllowanceDelegated(address indexed fromUser, address indexed toUser, address indexed asset, uint256 amount);

        function scaledBalanceOf(address user) external view returns (uint256);
        function scaledTotalSupply() external view returns (uint256);
    }

    /// What proxies and token initialisers say of themselves; nothing of it is cached.
    #[sol(all_derives)]
    interface IProxy {
        event Upgraded(address indexed implementation);
        event AdminChanged(address previousAdmin, address newAdmin);
        event OwnershipTransferred(address indexed previousOwner, address indexed newOwner);
    }

    /// What an aToken says of itself when it is set up.
    #[sol(all_derives)]
    interface IInitializableAToken {
        event Initialized(address indexed underlyingAsset, address indexed pool, address treasury, address incentivesController, uint8 aTokenDecimals, string aTokenName, string aTokenSymbol, bytes params);
    }

    /// What a debt token says of itself when it is set up.
    #[sol(all_derives)]
    interface IInitializableDebtToken {
        event Initialized(address indexed underlyingAsset, address indexed pool, address incentivesController, uint8 debtTokenDecimals, string debtTokenName, string debtTokenSymbol, bytes params);
    }

    /// The registry of a market's contracts.
    #[sol(all_derives)]
    interface IPoolAddressesProvider {
        event MarketIdSet(string indexed oldMarketId, string indexed newMarketId);
        event PoolUpdated(address indexed oldAddress, address indexed newAddress);
        event PoolConfiguratorUpdated(address indexed oldAddress, address indexed newAddress);
        event PriceOracleUpdated(address indexed oldAddress, address indexed newAddress);
        event ACLManagerUpdated(address indexed oldAddress, address indexed newAddress);
        event ACLAdminUpdated(address indexed oldAddress, address indexed newAddress);
        event PriceOracleSentinelUpdated(address indexed oldAddress, address indexed newAddress);
        event PoolDataProviderUpdated(address indexed oldAddress, address indexed newAddress);
        event ProxyCreated(bytes32 indexed id, address indexed proxyAddress, address indexed implementationAddress);
        event AddressSet(bytes32 indexed id, address indexed oldAddress, address indexed newAddress);
        event AddressSetAsProxy(bytes32 indexed id, address indexed proxyAddress, address oldImplementationAddress, address indexed newImplementationAddress);

        function getAddress(bytes32 id) external view returns (address);
    }

    /// The price source of a market.
    #[sol(all_derives)]
    interface IAaveOracle {
        function getAssetPrice(address asset) external view returns (uint256);
    }

    /// The switch that holds liquidations back while a sequencer was down.
    #[sol(all_derives)]
    interface IPriceOracleSentinel {
        function isLiquidationAllowed() external view returns (bool);
    }

    /// Every refusal that the protocol documents.
    #[sol(all_derives)]
    interface IErrors {
        error CallerNotPoolAdmin();
        error CallerNotPoolOrEmergencyAdmin();
        error CallerNotRiskOrPoolAdmin();
        error CallerNotAssetListingOrPoolAdmin();
        error AddressesProviderNotRegistered();
        error InvalidAddressesProviderId();
        error NotContract();
        error CallerNotPoolConfigurator();
        error CallerNotAToken();
        error InvalidAddressesProvider();
        error InvalidFlashloanExecutorReturn();
        error ReserveAlreadyAdded();
        error NoMoreReservesAllowed();
        error EModeCategoryReserved();
        error ReserveLiquidityNotZero();
        error FlashloanPremiumInvalid();
        error InvalidReserveParams();
        error InvalidEmodeCategoryParams();
        error CallerMustBePool();
        error InvalidMintAmount();
        error InvalidBurnAmount();
        error InvalidAmount();
        error ReserveInactive();
        error ReserveFrozen();
        error ReservePaused();
        error BorrowingNotEnabled();
        error NotEnoughAvailableUserBalance();
        error InvalidInterestRateModeSelected();
        error HealthFactorLowerThanLiquidationThreshold();
        error CollateralCannotCoverNewBorrow();
        error NoDebtOfSelectedType();
        error NoExplicitAmountToRepayOnBehalf();
        error UnderlyingBalanceZero();
        error HealthFactorNotBelowThreshold();
        error CollateralCannotBeLiquidated();
        error SpecifiedCurrencyNotBorrowedByUser();
        error InconsistentFlashloanParams();
        error BorrowCapExceeded();
        error SupplyCapExceeded();
        error DebtCeilingExceeded();
        error UnderlyingClaimableRightsNotZero();
        error VariableDebtSupplyNotZero();
        error LtvValidationFailed();
        error InconsistentEModeCategory();
        error PriceOracleSentinelCheckFailed();
        error AssetNotBorrowableInIsolation();
        error ReserveAlreadyInitialized();
        error UserInIsolationModeOrLtvZero();
        error InvalidLtv();
        error InvalidLiquidationThreshold();
        error InvalidLiquidationBonus();
        error InvalidDecimals();
        error InvalidReserveFactor();
        error InvalidBorrowCap();
        error InvalidSupplyCap();
        error InvalidLiquidationProtocolFee();
        error InvalidDebtCeiling();
        error InvalidReserveIndex();
        error AclAdminCannotBeZero();
        error InconsistentParamsLength();
        error ZeroAddressNotValid();
        error InvalidExpiration();
        error InvalidSignature();
        error OperationNotSupported();
        error DebtCeilingNotZero();
        error AssetNotListed();
        error InvalidOptimalUsageRatio();
        error UnderlyingCannotBeRescued();
        error AddressesProviderAlreadyAdded();
        error PoolAddressesDoNotMatch();
        error SiloedBorrowingViolation();
        error ReserveDebtNotZero();
        error FlashloanDisabled();
        error InvalidMaxRate();
        error WithdrawToAToken();
        error SupplyToAToken();
        error Slope2MustBeGteSlope1();
        error CallerNotRiskOrPoolOrEmergencyAdmin();
        error LiquidationGraceSentinelCheckFailed();
        error InvalidGracePeriod();
        error InvalidFreezeState();
        error InvalidLtvzeroState();
        error NotBorrowableInEMode();
        error CallerNotUmbrella();
        error ReserveNotInDeficit();
        error MustNotLeaveDust();
        error UserCannotHaveDebt();
        error SelfLiquidation();
        error CallerNotPositionManager();
        error InvalidCollateralInEmode(address reserve, uint256 categoryId);
        error InvalidDebtInEmode(address reserve, uint256 categoryId);
        error MustBeEmodeCollateral(address reserve, uint256 categoryId);
    }

    /// Refusals of tokens and of the libraries that move them.
    #[sol(all_derives)]
    interface ITokenErrors {
        error ERC20InsufficientBalance(address sender, uint256 balance, uint256 needed);
        error ERC20InsufficientAllowance(address spender, uint256 allowance, uint256 needed);
        error ERC20InvalidReceiver(address receiver);
        error ERC20InvalidSender(address sender);
        error SafeERC20FailedOperation(address token);
        error SafeCastOverflowedUintDowncast(uint8 bits, uint256 value);
        error AddressEmptyCode(address target);
        error FailedCall();
    }
}
