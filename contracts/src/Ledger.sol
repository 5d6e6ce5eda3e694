// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IClearinghouse} from "./IClearinghouse.sol";
import {Position, PositionMath} from "./PositionMath.sol";

/// @title The books: cash, positions, pools and funds, and the only functions that write them.
///
/// Each writer emits the new absolute value, so the logs alone rebuild the books. Held at the end of every call:
///
///     per segment   pool = sum of cash + sum of quote = sum of equity
///     per market    sum of lots = 0
///     overall       token balance >= sum of pools + sum of funds   (equal but for tokens sent in unasked)
///
/// Nothing here decides whether a change is allowed.
abstract contract Ledger is IClearinghouse {
    using PositionMath for Position;

    struct Segment {
        bool open;
        uint16[] markets;
        uint256 pool;
        uint256 fund;
        uint256 floor;
        uint64 gatedUntil; // withdrawals are refused before this block
    }

    mapping(uint16 segment => Segment) internal _segments;
    mapping(uint16 market => MarketState) internal _markets;
    mapping(uint16 segment => mapping(address account => int256)) internal _cash;
    mapping(uint16 market => mapping(address account => Position)) internal _positions;

    function _opened(uint16 segment) internal view returns (Segment storage found) {
        found = _segments[segment];
        if (!found.open) revert UnknownSegment(segment);
    }

    function _listed(uint16 marketId) internal view returns (MarketState storage found) {
        found = _markets[marketId];
        if (found.config.feed == address(0)) revert UnknownMarket(marketId);
    }

    /// What the fund may pay out: its balance above the floor.
    function _spendable(Segment storage segment) internal view returns (uint256) {
        return segment.fund > segment.floor ? segment.fund - segment.floor : 0;
    }

    function _addCash(uint16 segment, address account, int256 delta) internal {
        if (delta == 0) return;
        int256 cash = _cash[segment][account] + delta;
        _cash[segment][account] = cash;
        emit CashChanged(segment, account, cash);
    }

    function _setFund(uint16 segment, uint256 balance) internal {
        _segments[segment].fund = balance;
        emit FundChanged(segment, balance);
    }

    /// One side of a trade. `adjustment` is cash that changes hands beside the trade's own value.
    function _applyLeg(uint16 marketId, address account, int256 delta, int256 net, int256 adjustment)
        internal
        returns (int256 realised)
    {
        MarketState storage state = _markets[marketId];
        Position memory held = _positions[marketId][account];
        Position memory next;
        (next, realised) = held.trade(delta, net);
        _positions[marketId][account] = next;
        state.openInterestLots = state.openInterestLots + _longLots(next) - _longLots(held);
        emit PositionChanged(marketId, account, next.lots, next.quote);
        _addCash(state.config.segment, account, realised + adjustment);
    }

    function _longLots(Position memory held) private pure returns (uint256) {
        return held.lots > 0 ? held.size() : 0;
    }
}
