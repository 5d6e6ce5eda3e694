// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IPriceFeed} from "./IPriceFeed.sol";
import {Ledger} from "./Ledger.sol";
import {Position, PositionMath} from "./PositionMath.sol";

/// @title What an account is worth and what it must keep.
///
/// Two ways to look: the views take the last price whatever its age; whatever moves money or changes a position takes
/// `_freshState`, which refuses when any market the account holds lots in has a price that is too old.
abstract contract Margin is Ledger {
    using PositionMath for Position;
    using SafeCast for uint256;

    int256 private constant WAD = 1e18;

    /// The funding index of this second: token units per lot, owed by longs to shorts since the market was listed.
    function _fundingIndex(MarketState storage state) internal view returns (int256) {
        int256 elapsed = int256(block.timestamp - state.fundingSince);
        return state.fundingIndex + state.fundingRateX18 * elapsed / WAD;
    }

    function _freshPrice(uint16 marketId, MarketState storage state) internal view returns (uint256) {
        (uint256 price, uint64 updatedAt) = IPriceFeed(state.config.feed).latest();
        uint64 maxAge = state.config.maxPriceAgeSeconds;
        // A time ahead of the chain would stay fresh for as long as it is wrong.
        bool timely = updatedAt <= block.timestamp && block.timestamp - updatedAt <= maxAge;
        if (price == 0 || !timely) revert StalePrice(marketId, updatedAt, maxAge);
        return price;
    }

    function _freshState(uint16 segment, address account) internal view returns (AccountState memory) {
        return _stateOf(segment, account, true);
    }

    function _stateOf(uint16 segment, address account, bool refuseStale)
        internal
        view
        returns (AccountState memory state)
    {
        state.cash = _cash[segment][account];
        state.equity = state.cash;
        uint16[] storage ids = _segments[segment].markets;
        for (uint256 i = 0; i < ids.length; i++) {
            _addPosition(state, ids[i], account, refuseStale);
        }
    }

    function _addPosition(AccountState memory state, uint16 marketId, address account, bool refuseStale) private view {
        Position memory held = _positions[marketId][account];
        if (held.lots == 0) return;
        MarketState storage listed = _markets[marketId];
        uint256 price;
        if (refuseStale) price = _freshPrice(marketId, listed);
        else (price,) = IPriceFeed(listed.config.feed).latest();
        state.equity += held.pnl(price.toInt256() - _fundingIndex(listed));
        uint256 size = held.size();
        state.maintenanceMargin += PositionMath.margin(size, price, listed.config.maintenanceMarginBps);
        state.initialMargin += PositionMath.margin(size, price, listed.config.initialMarginBps);
    }

    function _surplus(AccountState memory state) internal pure returns (int256) {
        return state.equity - state.maintenanceMargin.toInt256();
    }

    /// Half of the position, rounded up, while equity covers half of the maintenance margin; all of it below that; nothing
    /// of a healthy account.
    function _maxLiquidatable(AccountState memory state, uint64 size) internal pure returns (uint64) {
        if (_surplus(state) >= 0) return 0;
        bool mild = state.equity * 2 >= state.maintenanceMargin.toInt256();
        return mild ? size - size / 2 : size;
    }

    /// A trade may leave an account with its initial margin, or only take risk away without harm. Harm is a surplus pushed
    /// below zero or further below, or a shortfall opened or widened: a position closed far from the mark would otherwise
    /// carry the account's loss, and so the fund's money, to the other side.
    function _checkAfterTrade(address account, AccountState memory was, AccountState memory now_, bool onlyReduced)
        internal
        pure
    {
        if (now_.equity >= now_.initialMargin.toInt256()) return;
        bool harmless = _notWorse(_surplus(was), _surplus(now_)) && _notWorse(was.equity, now_.equity);
        if (!onlyReduced || !harmless) revert InsufficientMargin(account, now_.equity, now_.initialMargin);
    }

    function _notWorse(int256 was, int256 now_) private pure returns (bool) {
        return now_ >= 0 || now_ >= was;
    }
}
