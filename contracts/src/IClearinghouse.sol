// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @title The reference venue's surface: what traders, keepers and off-chain observers see.
///
/// Units. Cash, quote, prices and every other amount of money are whole units of the settlement token. Sizes are whole
/// lots. A price is settlement-token units per lot. So value = lots * price is exact, nothing is ever rounded in a trade
/// and the books are zero-sum to the last unit. Ratios are in basis points (1e4 = 100 %).
///
/// An account lives in one segment: (segment, owner). It is cross-margined over the markets of that segment and over
/// nothing else, so damage stays inside the segment.
///
///     fundingIndex(m, t) = index + rate * (t - since) / 1e18            (signed, truncated toward zero)
///     pnl(m)             = lots * (price - fundingIndex) + quote
///     equity             = cash + sum of pnl(m)
///     maintenance margin = sum of ceil(|lots| * price * maintenanceMarginBps / 1e4)
///     surplus            = equity - maintenance margin;  liquidatable when surplus < 0, bankrupt when equity < 0
///
/// Events carry the state after the change, absolute, so that replaying the logs in order rebuilds every account, market,
/// order and fund exactly.
interface IClearinghouse {
    /// A resting order to execute against, and how many lots of it.
    struct Fill {
        uint64 order;
        uint64 lots;
    }

    /// A winner to deleverage: lots of its position to close, and the largest loss against the mark it may be charged.
    struct Winner {
        address account;
        uint64 lots;
        uint256 maxLoss;
    }

    /// A payer of a socialised loss, or a claimant who is paid back.
    struct Payer {
        address account;
        uint256 amount;
    }

    struct MarketConfig {
        uint16 segment;
        address feed;
        uint64 maxPriceAgeSeconds;
        uint16 maintenanceMarginBps;
        uint16 initialMarginBps;
        uint16 liquidationFeeBps;
        uint16 maxSlippageBps;
    }

    struct MarketState {
        MarketConfig config;
        int256 fundingIndex; // at `fundingSince`
        int256 fundingRateX18; // token units per lot and second, scaled by 1e18
        uint64 fundingSince;
        uint256 openInterestLots; // longs = shorts
    }

    struct OrderState {
        uint16 market;
        address maker;
        bool isBuy;
        uint256 price;
        uint64 lots; // still open
    }

    struct AccountState {
        int256 cash;
        int256 equity;
        uint256 maintenanceMargin;
        uint256 initialMargin;
    }

    /// A round of socialised loss, or of restitution: each account takes part once, at most with its share of the base.
    struct Round {
        uint64 number;
        uint64 openedAtBlock;
        uint256 shortfall; // of restitution: what the fund pays
        uint256 base; // whole equity + shortfall; of restitution: all claims
        uint256 unpaid;
    }

    // ---- state, absolute, after the change
    event SegmentOpened(uint16 indexed segment);
    event MarketListed(uint16 indexed market, MarketConfig config);
    event MarginSet(uint16 indexed market, uint16 maintenanceMarginBps, uint16 initialMarginBps);
    event FundingSet(uint16 indexed market, int256 rateX18, int256 index, uint64 since);
    event FundFloorSet(uint16 indexed segment, uint256 floor);
    event CashChanged(uint16 indexed segment, address indexed account, int256 cash);
    event PositionChanged(uint16 indexed market, address indexed account, int256 lots, int256 quote);
    event FundChanged(uint16 indexed segment, uint256 balance);
    event OrderPlaced(
        uint64 indexed order, uint16 indexed market, address indexed maker, bool isBuy, uint256 price, uint64 lots
    );
    event OrderChanged(uint64 indexed order, uint64 lots); // lots still open; 0 = gone
    event SocialisationOpened(
        uint16 indexed segment, address indexed bankrupt, uint64 round, uint256 shortfall, uint256 base
    );
    event WithdrawalsGated(uint16 indexed segment, uint64 untilBlock); // 0 = open
    event ClaimChanged(uint16 indexed segment, address indexed account, uint256 claim);
    event RestitutionOpened(uint16 indexed segment, uint64 round, uint256 budget, uint256 base);

    // ---- what happened and why
    event Deposited(uint16 indexed segment, address indexed account, uint256 amount);
    event Withdrawn(uint16 indexed segment, address indexed account, uint256 amount);
    event FundDeposited(uint16 indexed segment, address indexed from, uint256 amount);
    event Traded(uint16 indexed market, address indexed buyer, address indexed seller, uint64 lots, uint256 price);
    /// One per call. realisedPnl is what closing `lots` moved from the position to cash, before the fee.
    event Liquidated(
        uint16 indexed market,
        address indexed account,
        address indexed keeper,
        uint64 lots,
        int256 realisedPnl,
        uint256 fee,
        int256 equityAfter
    );
    event InsuranceDrawn(uint16 indexed segment, address indexed account, uint256 amount, uint256 shortfallAfter);
    /// One per winner. loss is what the winner pays against the mark.
    event Deleveraged(
        uint16 indexed market, address indexed bankrupt, address indexed winner, uint64 lots, uint256 loss
    );
    event LossSocialised(uint16 indexed segment, address indexed bankrupt, address indexed payer, uint256 amount);
    event ShortfallCovered(
        uint16 indexed segment, address indexed account, address indexed from, uint256 amount, uint256 shortfallAfter
    );
    event ClaimPaid(uint16 indexed segment, address indexed account, uint256 amount);

    // ---- refusals
    error UnknownSegment(uint16 segment);
    error UnknownMarket(uint16 market);
    error StalePrice(uint16 market, uint64 updatedAt, uint64 maxAgeSeconds);
    error InsufficientMargin(address account, int256 equity, uint256 required);
    error InsufficientLiquidity(uint16 segment, uint256 requested, uint256 available);
    error NotLiquidatable(address account, int256 surplus);
    error LiquidatesTooMuch(address account, uint64 lots, uint64 maxLots);
    error OrderUnusable(uint64 order);
    error SlippageTooLarge(uint64 order, uint256 price, uint256 limit);
    error NotBankrupt(address account, int256 equity);
    error FundShort(uint16 segment, uint256 requested, uint256 spendable);
    error FundCanPay(uint16 segment, uint256 spendable);
    error ExceedsShortfall(uint256 requested, uint256 shortfall);
    error NotAWinner(address account);
    error WinnerBelowZero(address account, int256 equityAfter);
    error LossAboveLimit(address account, uint256 loss, uint256 maxLoss);
    error TooManyLots(address account, uint64 lots, uint64 available);
    error PositionsOpen(address account);
    error ShareTooLarge(address payer, uint256 amount, uint256 maxAmount);
    error AlreadyCharged(address payer, uint64 round);
    error NotOrderOwner(uint64 order);
    error WithdrawalsShut(uint16 segment, uint64 untilBlock);
    error ZeroAmount();

    // ---- traders
    function deposit(uint16 segment, uint256 amount) external;
    function depositFor(uint16 segment, address account, uint256 amount) external;
    function withdraw(uint16 segment, uint256 amount) external;
    function placeOrder(uint16 market, bool isBuy, uint256 price, uint64 lots) external returns (uint64 order);
    function cancelOrder(uint64 order) external;
    function fillOrder(uint64 order, uint64 lots) external;

    // ---- keepers
    /// Anyone. Closes lots of a liquidatable account against resting orders. At most half of the position (rounded up)
    /// while equity >= half of the maintenance margin, all of it below. The fee never exceeds the equity left.
    function liquidate(uint16 market, address account, Fill[] calldata fills, address feeRecipient) external;
    /// Keeper role. Pays exactly `amount` of a bankrupt account's shortfall out of its segment's insurance fund.
    function drawInsurance(uint16 segment, address account, uint256 amount) external;
    /// Keeper role. Closes lots of a bankrupt account against named winners at its bankruptcy price, only once the fund
    /// can pay nothing more. Winner k is charged ceil(shortfall left * its lots / lots left of the bankrupt position).
    function autoDeleverage(uint16 market, address bankrupt, Winner[] calldata winners) external;
    /// Keeper role. Charges named payers for the shortfall of a bankrupt account without positions, once the fund can pay
    /// nothing more; each payer once a round and at most ceil(shortfall * equity / base), where base = the segment's
    /// whole equity + the shortfall, both as the round opened.
    function socialiseLoss(uint16 segment, address bankrupt, Payer[] calldata payers) external;
    /// Anyone. Pays exactly `amount` of a bankrupt account's shortfall with the caller's tokens, only once the fund can pay
    /// nothing more.
    function coverShortfall(uint16 segment, address account, uint256 amount) external;
    /// Keeper role. Refuses withdrawals from the segment for the next blocks; `bankrupt` must be short at fresh prices.
    function shutWithdrawals(uint16 segment, address bankrupt) external;
    /// Keeper role. Lets withdrawals through again.
    function openWithdrawals(uint16 segment) external;
    /// Keeper role. Pays named claimants out of what the fund holds above its floor; each claimant once a round and at most
    /// ceil(budget * claim / base), where budget = the smaller of that and all claims, base = all claims, both as the round
    /// opened.
    function payClaims(uint16 segment, Payer[] calldata claimants) external;
    /// Several of the calls above in one transaction, all or nothing.
    function multicall(bytes[] calldata calls) external returns (bytes[] memory results);

    // ---- insurance fund, listing, parameters
    function depositFund(uint16 segment, uint256 amount) external;
    function openSegment(uint16 segment) external;
    function listMarket(uint16 market, MarketConfig calldata config) external;
    function setFundFloor(uint16 segment, uint256 floor) external;
    /// Steward role: only through the RiskSteward, which bounds every step.
    function setMargin(uint16 market, uint16 maintenanceMarginBps, uint16 initialMarginBps) external;
    function setFundingRate(uint16 market, int256 rateX18) external;

    // ---- views
    function accountState(uint16 segment, address account) external view returns (AccountState memory);
    function position(uint16 market, address account) external view returns (int256 lots, int256 quote);
    function market(uint16 market) external view returns (MarketState memory);
    function order(uint64 order) external view returns (OrderState memory);
    function segmentMarkets(uint16 segment) external view returns (uint16[] memory);
    /// Tokens that back the accounts of the segment (= sum of their equities) and tokens of its insurance fund.
    function segmentFunds(uint16 segment) external view returns (uint256 pool, uint256 fund, uint256 fundFloor);
    function maxLiquidatableLots(uint16 market, address account) external view returns (uint64);
    function markPrice(uint16 market) external view returns (uint256 price, uint64 updatedAt);
    function settlementToken() external view returns (address);
    function gatedUntil(uint16 segment) external view returns (uint64);
    function claims(uint16 segment, address account) external view returns (uint256 claim, uint256 total);
    function restitution(uint16 segment) external view returns (Round memory);
}
