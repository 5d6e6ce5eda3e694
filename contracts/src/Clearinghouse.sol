// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {Multicall} from "@openzeppelin/contracts/utils/Multicall.sol";

import {IClearinghouse} from "./IClearinghouse.sol";
import {IPriceFeed} from "./IPriceFeed.sol";
import {Position, PositionMath} from "./PositionMath.sol";
import {Recovery} from "./Recovery.sol";
import {Trading} from "./Trading.sol";

/// @title The reference venue: a perpetual-futures clearinghouse with every recovery mechanism on chain.
///
/// The parts, each on top of the one before: Ledger (the books), Margin (worth and requirements), Trading (traders'
/// calls), Restitution (claims), Recovery (keepers' calls), and here listing, parameters and views.
///
/// Three roles. The admin opens segments, lists markets, sets fund floors and appoints. Keepers may draw, deleverage,
/// socialise, pay claims and shut withdrawals. The steward role belongs to a RiskSteward contract and to nobody else.
contract Clearinghouse is Recovery, Multicall {
    using PositionMath for Position;

    bytes32 public constant STEWARD_ROLE = keccak256("STEWARD_ROLE");
    /// Bounds every loop over the markets of an account.
    uint256 public constant MAX_MARKETS_PER_SEGMENT = 8;

    error SegmentExists(uint16 segment);
    error MarketExists(uint16 market);
    error TooManyMarkets(uint16 segment);
    error BadMarketConfig(uint16 market);

    constructor(IERC20 token, address admin) Trading(token) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    /// The guard is taken by each inner call in turn, so a batch is no way around it.
    function multicall(bytes[] calldata calls)
        public
        override(IClearinghouse, Multicall)
        returns (bytes[] memory results)
    {
        return Multicall.multicall(calls);
    }

    // ---- listing and parameters

    function openSegment(uint16 segment) external nonReentrant onlyRole(DEFAULT_ADMIN_ROLE) {
        if (_segments[segment].open) revert SegmentExists(segment);
        _segments[segment].open = true;
        emit SegmentOpened(segment);
    }

    function listMarket(uint16 marketId, MarketConfig calldata config)
        external
        nonReentrant
        onlyRole(DEFAULT_ADMIN_ROLE)
    {
        Segment storage seg = _opened(config.segment);
        MarketState storage state = _markets[marketId];
        if (state.config.feed != address(0)) revert MarketExists(marketId);
        if (seg.markets.length == MAX_MARKETS_PER_SEGMENT) revert TooManyMarkets(config.segment);
        bool usable = config.feed != address(0) && config.maxPriceAgeSeconds > 0
            && config.liquidationFeeBps <= PositionMath.BPS && config.maxSlippageBps < PositionMath.BPS;
        if (!usable) revert BadMarketConfig(marketId);
        _requireMargins(marketId, config.maintenanceMarginBps, config.initialMarginBps);

        seg.markets.push(marketId);
        state.config = config;
        state.fundingSince = uint64(block.timestamp);
        emit MarketListed(marketId, config);
        emit FundingSet(marketId, 0, 0, state.fundingSince);
    }

    function setFundFloor(uint16 segment, uint256 floor) external nonReentrant onlyRole(DEFAULT_ADMIN_ROLE) {
        _opened(segment).floor = floor;
        emit FundFloorSet(segment, floor);
    }

    function setMargin(uint16 marketId, uint16 maintenanceMarginBps, uint16 initialMarginBps)
        external
        nonReentrant
        onlyRole(STEWARD_ROLE)
    {
        MarketConfig storage config = _listed(marketId).config;
        _requireMargins(marketId, maintenanceMarginBps, initialMarginBps);
        config.maintenanceMarginBps = maintenanceMarginBps;
        config.initialMarginBps = initialMarginBps;
        emit MarginSet(marketId, maintenanceMarginBps, initialMarginBps);
    }

    /// What has accrued at the old rate is kept in the index; the new rate counts from this second.
    function setFundingRate(uint16 marketId, int256 rateX18) external nonReentrant onlyRole(STEWARD_ROLE) {
        MarketState storage state = _listed(marketId);
        state.fundingIndex = _fundingIndex(state);
        state.fundingSince = uint64(block.timestamp);
        state.fundingRateX18 = rateX18;
        emit FundingSet(marketId, rateX18, state.fundingIndex, state.fundingSince);
    }

    function _requireMargins(uint16 marketId, uint16 maintenanceMarginBps, uint16 initialMarginBps) private pure {
        bool ordered = 0 < maintenanceMarginBps && maintenanceMarginBps < initialMarginBps;
        if (!ordered || initialMarginBps > PositionMath.BPS) revert BadMarketConfig(marketId);
    }

    // ---- views: at the last price, however old

    function accountState(uint16 segment, address account) external view returns (AccountState memory) {
        _opened(segment);
        return _stateOf(segment, account, false);
    }

    function position(uint16 marketId, address account) external view returns (int256 lots, int256 quote) {
        Position storage held = _positions[marketId][account];
        return (held.lots, held.quote);
    }

    function market(uint16 marketId) external view returns (MarketState memory) {
        return _listed(marketId);
    }

    function order(uint64 orderId) external view returns (OrderState memory) {
        return _orders[orderId];
    }

    function segmentMarkets(uint16 segment) external view returns (uint16[] memory) {
        return _opened(segment).markets;
    }

    function segmentFunds(uint16 segment) external view returns (uint256 pool, uint256 fund, uint256 fundFloor) {
        Segment storage seg = _opened(segment);
        return (seg.pool, seg.fund, seg.floor);
    }

    function gatedUntil(uint16 segment) external view returns (uint64) {
        return _opened(segment).gatedUntil;
    }

    function maxLiquidatableLots(uint16 marketId, address account) external view returns (uint64) {
        uint16 segment = _listed(marketId).config.segment;
        return _maxLiquidatable(_stateOf(segment, account, false), _positions[marketId][account].size());
    }

    function markPrice(uint16 marketId) external view returns (uint256 price, uint64 updatedAt) {
        return IPriceFeed(_listed(marketId).config.feed).latest();
    }

    function settlementToken() external view returns (address) {
        return address(_token);
    }

    /// The last round of socialised loss for an account; `unpaid` is what it may still collect.
    function socialisation(uint16 segment, address bankrupt) external view returns (Round memory) {
        return _rounds[segment][bankrupt];
    }

    /// The last round for `bankrupt` in which `payer` was charged; 0 = never.
    function chargedInRound(uint16 segment, address bankrupt, address payer) external view returns (uint64) {
        return _chargedIn[segment][bankrupt][payer];
    }
}
