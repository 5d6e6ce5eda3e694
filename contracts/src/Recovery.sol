// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Position, PositionMath} from "./PositionMath.sol";
import {Restitution} from "./Restitution.sol";

/// @title The recovery waterfall: liquidate, draw on the fund, deleverage, take cover from outside, socialise; and the gate
/// before withdrawals while somebody is short.
///
/// Every rung checks for itself, at the prices of this block, that it is its turn and that it takes no more than the
/// hole; a keeper's word is never enough. No rung reads or writes another segment.
abstract contract Recovery is Restitution {
    using PositionMath for Position;
    using SafeCast for uint256;

    /// How long withdrawals stay shut unless somebody is shown to be short again: long enough for the waterfall, too short
    /// for a stolen keeper key to hold anybody's money.
    uint256 public constant GATE_BLOCKS = 50;

    /// What stays the same over the fills of one liquidation.
    struct Closing {
        uint16 market;
        address account;
        bool isLong;
        uint256 mark;
        uint256 limit;
    }

    /// What is left to do over the winners of one deleveraging.
    struct Deleveraging {
        uint16 market;
        uint16 segment;
        address bankrupt;
        bool isLong;
        uint64 lotsLeft;
        uint256 shortfallLeft;
        int256 net;
    }

    mapping(uint16 segment => mapping(address bankrupt => Round)) internal _rounds;
    mapping(uint16 segment => mapping(address bankrupt => mapping(address payer => uint64))) internal _chargedIn;

    function liquidate(uint16 marketId, address account, Fill[] calldata fills, address feeRecipient)
        external
        nonReentrant
    {
        AccountState memory state = _freshState(_listed(marketId).config.segment, account);
        int256 surplus = _surplus(state);
        if (surplus >= 0) revert NotLiquidatable(account, surplus);
        uint64 maxLots = _maxLiquidatable(state, _positions[marketId][account].size());
        uint64 lots = _checkSize(account, fills, maxLots);

        Closing memory closing = _closing(marketId, account);
        int256 realised;
        for (uint256 i = 0; i < fills.length; i++) {
            realised += _closeAgainst(closing, fills[i]);
        }
        (uint256 fee, int256 equityAfter) = _chargeFee(closing, lots, feeRecipient);
        emit Liquidated(marketId, account, msg.sender, lots, realised, fee, equityAfter);
    }

    function drawInsurance(uint16 segment, address account, uint256 amount)
        external
        nonReentrant
        onlyRole(KEEPER_ROLE)
    {
        if (amount == 0) revert ZeroAmount();
        Segment storage seg = _opened(segment);
        uint256 shortfall = _shortfall(segment, account);
        if (amount > shortfall) revert ExceedsShortfall(amount, shortfall);
        uint256 spendable = _spendable(seg);
        if (amount > spendable) revert FundShort(segment, amount, spendable);

        _setFund(segment, seg.fund - amount);
        seg.pool += amount;
        _addCash(segment, account, amount.toInt256());
        emit InsuranceDrawn(segment, account, amount, shortfall - amount);
    }

    function autoDeleverage(uint16 marketId, address bankrupt, Winner[] calldata winners)
        external
        nonReentrant
        onlyRole(KEEPER_ROLE)
    {
        if (winners.length == 0) revert ZeroAmount();
        MarketState storage listed = _listed(marketId);
        Deleveraging memory work;
        work.market = marketId;
        work.segment = listed.config.segment;
        work.bankrupt = bankrupt;
        work.shortfallLeft = _shortfall(work.segment, bankrupt);
        _requireFundSpent(work.segment);
        Position memory held = _positions[marketId][bankrupt];
        work.isLong = held.lots > 0;
        work.lotsLeft = held.size();
        work.net = _freshPrice(marketId, listed).toInt256() - _fundingIndex(listed);
        for (uint256 i = 0; i < winners.length; i++) {
            _deleverage(work, winners[i]);
        }
    }

    function socialiseLoss(uint16 segment, address bankrupt, Payer[] calldata payers)
        external
        nonReentrant
        onlyRole(KEEPER_ROLE)
    {
        if (payers.length == 0) revert ZeroAmount();
        _opened(segment);
        _requireFlat(segment, bankrupt);
        uint256 shortfall = _shortfall(segment, bankrupt);
        _requireFundSpent(segment);
        Round storage round = _currentRound(segment, bankrupt, shortfall);
        for (uint256 i = 0; i < payers.length; i++) {
            shortfall = _chargePayer(segment, bankrupt, round, payers[i], shortfall);
        }
    }

    function coverShortfall(uint16 segment, address account, uint256 amount) external nonReentrant {
        Segment storage seg = _opened(segment);
        uint256 shortfall = _shortfall(segment, account);
        if (amount > shortfall) revert ExceedsShortfall(amount, shortfall);
        _requireFundSpent(segment);
        uint256 received = _pull(amount);
        seg.pool += received;
        _addCash(segment, account, received.toInt256());
        emit ShortfallCovered(segment, account, msg.sender, received, shortfall - received);
    }

    function shutWithdrawals(uint16 segment, address bankrupt) external nonReentrant onlyRole(KEEPER_ROLE) {
        _shortfall(segment, bankrupt);
        _setGate(segment, uint64(block.number + GATE_BLOCKS));
    }

    function openWithdrawals(uint16 segment) external nonReentrant onlyRole(KEEPER_ROLE) {
        _opened(segment);
        _setGate(segment, 0);
    }

    function _setGate(uint16 segment, uint64 until) private {
        _segments[segment].gatedUntil = until;
        emit WithdrawalsGated(segment, until);
    }

    /// The depth of the hole at fresh prices; refuses an account that has none.
    function _shortfall(uint16 segment, address account) private view returns (uint256) {
        int256 equity = _freshState(segment, account).equity;
        if (equity >= 0) revert NotBankrupt(account, equity);
        return uint256(-equity);
    }

    function _requireFundSpent(uint16 segment) private view {
        uint256 spendable = _spendable(_segments[segment]);
        if (spendable != 0) revert FundCanPay(segment, spendable);
    }

    function _requireFlat(uint16 segment, address account) private view {
        uint16[] storage ids = _segments[segment].markets;
        for (uint256 i = 0; i < ids.length; i++) {
            if (_positions[ids[i]][account].lots != 0) revert PositionsOpen(account);
        }
    }

    // ---- liquidation

    function _checkSize(address account, Fill[] calldata fills, uint64 maxLots) private pure returns (uint64) {
        uint256 total;
        for (uint256 i = 0; i < fills.length; i++) {
            total += fills[i].lots;
        }
        if (total == 0) revert ZeroAmount();
        if (total > maxLots) {
            revert LiquidatesTooMuch(account, uint64(Math.min(total, type(uint64).max)), maxLots);
        }
        return uint64(total);
    }

    /// The worst price a fill may have: the account's side of the mark, rounded towards the mark, against the keeper.
    function _closing(uint16 marketId, address account) private view returns (Closing memory) {
        MarketState storage listed = _markets[marketId];
        bool isLong = _positions[marketId][account].lots > 0;
        uint256 mark = _freshPrice(marketId, listed);
        uint256 slippage = listed.config.maxSlippageBps;
        uint256 limit = isLong
            ? Math.ceilDiv(mark * (PositionMath.BPS - slippage), PositionMath.BPS)
            : mark * (PositionMath.BPS + slippage) / PositionMath.BPS;
        return Closing({market: marketId, account: account, isLong: isLong, mark: mark, limit: limit});
    }

    function _closeAgainst(Closing memory closing, Fill calldata fill) private returns (int256) {
        OrderState memory resting = _takeFromOrder(fill.order, fill.lots, closing.account);
        if (resting.market != closing.market || resting.isBuy != closing.isLong) revert OrderUnusable(fill.order);
        bool tooFar = closing.isLong ? resting.price < closing.limit : resting.price > closing.limit;
        if (tooFar) revert SlippageTooLarge(fill.order, resting.price, closing.limit);
        return _tradeWithMaker(resting, closing.account, fill.lots);
    }

    /// Half of the fee, rounded down, to the recipient's cash and the rest to the fund. Never more than the equity left,
    /// and no more to the fund than the pool holds: other accounts' shortfalls may have made the pool smaller than that.
    function _chargeFee(Closing memory closing, uint64 lots, address recipient)
        private
        returns (uint256 fee, int256 equity)
    {
        MarketConfig storage config = _markets[closing.market].config;
        uint16 segment = config.segment;
        equity = _freshState(segment, closing.account).equity;
        if (equity <= 0) return (0, equity);
        uint256 nominal = lots * closing.mark * config.liquidationFeeBps / PositionMath.BPS;
        uint256 affordable = Math.min(nominal, uint256(equity));
        uint256 toRecipient = affordable / 2;
        uint256 toFund = Math.min(affordable - toRecipient, _segments[segment].pool);
        fee = toRecipient + toFund;
        equity -= fee.toInt256();
        if (recipient == closing.account) equity += toRecipient.toInt256();
        _addCash(segment, closing.account, -fee.toInt256());
        _addCash(segment, recipient, toRecipient.toInt256());
        if (toFund == 0) return (fee, equity);
        _segments[segment].pool -= toFund;
        _setFund(segment, _segments[segment].fund + toFund);
    }

    // ---- auto-deleveraging

    /// Closes the winner against the bankrupt at the mark and moves the winner's part of the shortfall in cash, which is
    /// the same as closing both at the bankruptcy price but for the rounding: each part rounds up of what is left over
    /// the lots that are left, so that all lots together pay the shortfall exactly.
    function _deleverage(Deleveraging memory work, Winner calldata winner) private {
        _checkWinner(work, winner);
        uint256 loss = Math.mulDiv(work.shortfallLeft, winner.lots, work.lotsLeft, Math.Rounding.Ceil);
        if (loss > winner.maxLoss) revert LossAboveLimit(winner.account, loss, winner.maxLoss);
        int256 moved = loss.toInt256();
        int256 equityAfter = _freshState(work.segment, winner.account).equity - moved;
        if (equityAfter < 0) revert WinnerBelowZero(winner.account, equityAfter);

        work.shortfallLeft -= loss;
        work.lotsLeft -= winner.lots;
        int256 delta = work.isLong ? -int256(uint256(winner.lots)) : int256(uint256(winner.lots));
        _applyLeg(work.market, work.bankrupt, delta, work.net, moved);
        _applyLeg(work.market, winner.account, -delta, work.net, -moved);
        if (loss > 0) _bookClaim(work.segment, winner.account, loss);
        emit Deleveraged(work.market, work.bankrupt, winner.account, winner.lots, loss);
    }

    function _checkWinner(Deleveraging memory work, Winner calldata winner) private view {
        if (winner.lots == 0) revert ZeroAmount();
        if (winner.lots > work.lotsLeft) revert TooManyLots(work.bankrupt, winner.lots, work.lotsLeft);
        Position memory held = _positions[work.market][winner.account];
        bool opposite = work.isLong ? held.lots < 0 : held.lots > 0;
        if (!opposite || held.pnl(work.net) <= 0) revert NotAWinner(winner.account);
        if (winner.lots > held.size()) revert TooManyLots(winner.account, winner.lots, held.size());
    }

    // ---- socialised loss

    /// The round that is open, or a new one: when the shortfall is more than the round still asks for (so the old one was
    /// paid and this is another), or when the round has been open too long for its base to mean anything.
    function _currentRound(uint16 segment, address bankrupt, uint256 shortfall) private returns (Round storage round) {
        round = _rounds[segment][bankrupt];
        if (shortfall <= round.unpaid && block.number < round.openedAtBlock + ROUND_BLOCKS) return round;
        round.number += 1;
        round.openedAtBlock = uint64(block.number);
        round.shortfall = shortfall;
        round.base = _segments[segment].pool + shortfall;
        round.unpaid = shortfall;
        emit SocialisationOpened(segment, bankrupt, round.number, shortfall, round.base);
    }

    /// A share never exceeds the payer's equity, since the shortfall never exceeds the base.
    function _chargePayer(
        uint16 segment,
        address bankrupt,
        Round storage round,
        Payer calldata payer,
        uint256 shortfall
    ) private returns (uint256 shortfallAfter) {
        if (payer.amount == 0) revert ZeroAmount();
        if (payer.amount > shortfall) revert ExceedsShortfall(payer.amount, shortfall);
        if (_chargedIn[segment][bankrupt][payer.account] == round.number) {
            revert AlreadyCharged(payer.account, round.number);
        }
        int256 equity = _freshState(segment, payer.account).equity;
        uint256 share = equity > 0 ? Math.mulDiv(round.shortfall, uint256(equity), round.base, Math.Rounding.Ceil) : 0;
        if (payer.amount > share) revert ShareTooLarge(payer.account, payer.amount, share);

        _chargedIn[segment][bankrupt][payer.account] = round.number;
        round.unpaid -= payer.amount;
        _addCash(segment, payer.account, -payer.amount.toInt256());
        _addCash(segment, bankrupt, payer.amount.toInt256());
        _bookClaim(segment, payer.account, payer.amount);
        emit LossSocialised(segment, bankrupt, payer.account, payer.amount);
        return shortfall - payer.amount;
    }
}
