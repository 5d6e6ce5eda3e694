// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Margin} from "./Margin.sol";
import {PositionMath} from "./PositionMath.sol";

/// @title What traders do: money in and out, resting orders, fills.
///
/// A resting order reserves nothing; its maker's margin is checked when it is filled. A fill moves both sides at the
/// order's price, so a market's longs and shorts are equal at all times.
abstract contract Trading is Margin, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    IERC20 internal immutable _token;
    uint64 private _lastOrder;
    mapping(uint64 order => OrderState) internal _orders;

    constructor(IERC20 token) {
        _token = token;
    }

    function deposit(uint16 segment, uint256 amount) external nonReentrant {
        _deposit(segment, msg.sender, amount);
    }

    function depositFor(uint16 segment, address account, uint256 amount) external nonReentrant {
        _deposit(segment, account, amount);
    }

    function depositFund(uint16 segment, uint256 amount) external nonReentrant {
        Segment storage seg = _opened(segment);
        uint256 received = _pull(amount);
        _setFund(segment, seg.fund + received);
        emit FundDeposited(segment, msg.sender, received);
    }

    /// Pays out cash only: unrealised profit has to be closed first.
    function withdraw(uint16 segment, uint256 amount) external nonReentrant {
        if (amount == 0) revert ZeroAmount();
        Segment storage seg = _opened(segment);
        if (block.number < seg.gatedUntil) revert WithdrawalsShut(segment, seg.gatedUntil);
        AccountState memory state = _freshState(segment, msg.sender);
        int256 left = state.equity - amount.toInt256();
        if (left < state.initialMargin.toInt256()) revert InsufficientMargin(msg.sender, left, state.initialMargin);
        uint256 available = state.cash > 0 ? Math.min(seg.pool, uint256(state.cash)) : 0;
        if (amount > available) revert InsufficientLiquidity(segment, amount, available);

        seg.pool -= amount;
        _addCash(segment, msg.sender, -amount.toInt256());
        emit Withdrawn(segment, msg.sender, amount);
        _token.safeTransfer(msg.sender, amount);
    }

    function placeOrder(uint16 marketId, bool isBuy, uint256 price, uint64 lots)
        external
        nonReentrant
        returns (uint64 orderId)
    {
        _listed(marketId);
        if (price == 0 || lots == 0) revert ZeroAmount();
        orderId = ++_lastOrder;
        _orders[orderId] = OrderState({market: marketId, maker: msg.sender, isBuy: isBuy, price: price, lots: lots});
        emit OrderPlaced(orderId, marketId, msg.sender, isBuy, price, lots);
    }

    function cancelOrder(uint64 orderId) external nonReentrant {
        OrderState storage resting = _orders[orderId];
        if (resting.lots == 0) revert OrderUnusable(orderId);
        if (resting.maker != msg.sender) revert NotOrderOwner(orderId);
        resting.lots = 0;
        emit OrderChanged(orderId, 0);
    }

    function fillOrder(uint64 orderId, uint64 lots) external nonReentrant {
        OrderState memory resting = _takeFromOrder(orderId, lots, msg.sender);
        uint16 segment = _markets[resting.market].config.segment;
        int256 delta = resting.isBuy ? -int256(uint256(lots)) : int256(uint256(lots));
        bool onlyReduced = _wouldOnlyReduce(resting.market, msg.sender, delta);
        AccountState memory was;
        if (onlyReduced) was = _freshState(segment, msg.sender);
        _tradeWithMaker(resting, msg.sender, lots);
        _checkAfterTrade(msg.sender, was, _freshState(segment, msg.sender), onlyReduced);
    }

    /// Books lots out of a resting order that `taker` may trade against and returns the order as it rested.
    function _takeFromOrder(uint64 orderId, uint64 lots, address taker) internal returns (OrderState memory resting) {
        if (lots == 0) revert ZeroAmount();
        resting = _orders[orderId];
        if (resting.lots == 0 || resting.maker == taker) revert OrderUnusable(orderId);
        if (lots > resting.lots) revert TooManyLots(resting.maker, lots, resting.lots);
        uint64 left = resting.lots - lots;
        _orders[orderId].lots = left;
        emit OrderChanged(orderId, left);
    }

    /// Both sides of a fill at the order's price, and the maker's margin. The taker's is the caller's to judge.
    function _tradeWithMaker(OrderState memory resting, address taker, uint64 lots)
        internal
        returns (int256 takerRealised)
    {
        MarketState storage listed = _markets[resting.market];
        int256 delta = resting.isBuy ? int256(uint256(lots)) : -int256(uint256(lots));
        bool onlyReduced = _wouldOnlyReduce(resting.market, resting.maker, delta);
        AccountState memory was;
        if (onlyReduced) was = _freshState(listed.config.segment, resting.maker);

        int256 net = resting.price.toInt256() - _fundingIndex(listed);
        _applyLeg(resting.market, resting.maker, delta, net, 0);
        takerRealised = _applyLeg(resting.market, taker, -delta, net, 0);
        (address buyer, address seller) = resting.isBuy ? (resting.maker, taker) : (taker, resting.maker);
        emit Traded(resting.market, buyer, seller, lots, resting.price);

        AccountState memory now_ = _freshState(listed.config.segment, resting.maker);
        _checkAfterTrade(resting.maker, was, now_, onlyReduced);
    }

    function _wouldOnlyReduce(uint16 marketId, address account, int256 delta) private view returns (bool) {
        return PositionMath.onlyReduces(_positions[marketId][account].lots, delta);
    }

    function _deposit(uint16 segment, address account, uint256 amount) private {
        Segment storage seg = _opened(segment);
        uint256 received = _pull(amount);
        seg.pool += received;
        _addCash(segment, account, received.toInt256());
        emit Deposited(segment, account, received);
    }

    /// Takes tokens from the caller and returns what arrived, which a token that charges for transfers makes less.
    function _pull(uint256 amount) internal returns (uint256 received) {
        uint256 held = _token.balanceOf(address(this));
        _token.safeTransferFrom(msg.sender, address(this), amount);
        received = _token.balanceOf(address(this)) - held;
        if (received == 0) revert ZeroAmount();
    }
}
