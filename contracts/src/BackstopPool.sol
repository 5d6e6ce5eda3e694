// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IBackstopPool} from "./IBackstopPool.sol";
import {IPoolMember} from "./IPoolMember.sol";

/// @title The shared backstop: claims of one window are paid together, pro rata when the capital is scarce.
///
/// Held at the end of every call:
///
///     token balance >= capital + sum of stakes      (equal but for tokens sent in unasked)
///     each member   outstanding <= the cap in force when it was drawn
///     each round    what the capital paid <= capitalAtSettlement
///
/// Members that fail at the same time would otherwise race for the capital. A round first takes claims, then pays them;
/// underwriters cannot leave and terms cannot change while it is open.
contract BackstopPool is IBackstopPool, AccessControl, ReentrancyGuardTransient {
    using SafeERC20 for IERC20;
    using SafeCast for uint256;

    uint256 private constant BPS = 1e4;
    uint256 private constant YEAR = 365 days;
    /// Blocks that take claims, the opening one included, and blocks that pay them.
    uint64 public constant CLAIM_BLOCKS = 3;
    uint64 public constant DRAW_BLOCKS = 50;
    uint64 public constant NOTICE_SECONDS = 7 days;
    /// Shares and a unit that nobody owns, so that a share has a price when the capital is used up.
    uint256 private constant VIRTUAL_SHARES = 1e3;

    struct Notice {
        uint256 shares;
        uint64 redeemableAt;
    }

    address public immutable asset;
    uint256 public capital;
    uint256 public totalShares;
    mapping(address underwriter => uint256) public sharesOf;
    mapping(address underwriter => Notice) public noticeOf;
    mapping(address member => Member) private _members;
    mapping(address member => mapping(uint16 segment => mapping(address account => Claim))) private _claims;
    mapping(address member => mapping(uint64 round => uint256)) private _askedBy;
    mapping(address member => mapping(uint64 round => uint256)) private _stakeAsked;
    Round private _round;

    constructor(address token, address admin) {
        asset = token;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    // ---- underwriters

    function underwrite(uint256 amount) external nonReentrant returns (uint256 shares) {
        _requireNoRound();
        uint256 received = _pull(amount);
        shares = Math.mulDiv(received, totalShares + VIRTUAL_SHARES, capital + 1);
        if (shares == 0) revert ZeroAmount();
        totalShares += shares;
        sharesOf[msg.sender] += shares;
        _setCapital(capital + received);
        emit Underwritten(msg.sender, received, shares);
    }

    /// A new notice replaces the old one and its time.
    function giveNotice(uint256 shares) external {
        if (shares > sharesOf[msg.sender]) revert NoticeNotGiven(msg.sender, shares);
        uint64 redeemableAt = uint64(block.timestamp) + NOTICE_SECONDS;
        noticeOf[msg.sender] = Notice(shares, redeemableAt);
        emit NoticeGiven(msg.sender, shares, redeemableAt);
    }

    /// Pays the shares on notice at what they are worth now, rounded down: losses during the notice are shared.
    function redeem() external nonReentrant returns (uint256 amount) {
        _requireNoRound();
        Notice memory notice = noticeOf[msg.sender];
        if (notice.shares == 0) revert NoticeNotGiven(msg.sender, 0);
        if (block.timestamp < notice.redeemableAt) revert NoticeRunning(notice.redeemableAt);
        amount = Math.mulDiv(notice.shares, capital + 1, totalShares + VIRTUAL_SHARES);
        if (amount > capital) amount = capital;
        delete noticeOf[msg.sender];
        sharesOf[msg.sender] -= notice.shares;
        totalShares -= notice.shares;
        _setCapital(capital - amount);
        emit Redeemed(msg.sender, notice.shares, amount);
        IERC20(asset).safeTransfer(msg.sender, amount);
    }

    // ---- members

    function addStake(address memberId, uint256 amount) external nonReentrant {
        Member storage known = _known(memberId);
        known.stake += _pull(amount);
        emit StakeChanged(memberId, known.stake);
    }

    /// Buys cover from now, or from the end of what is paid, at cap * premiumBps a year; the time is rounded down.
    function payPremium(address memberId, uint256 amount) external nonReentrant {
        Member storage known = _known(memberId);
        uint256 received = _pull(amount);
        uint256 duration = Math.mulDiv(received, YEAR * BPS, known.cap * known.premiumBps);
        uint256 from = Math.max(known.coveredUntil, block.timestamp);
        known.coveredUntil = (from + duration).toUint64();
        _setCapital(capital + received);
        emit PremiumPaid(memberId, received, known.coveredUntil);
    }

    /// Takes at most what is outstanding.
    function repay(address memberId, uint256 amount) external nonReentrant {
        Member storage known = _known(memberId);
        uint256 received = _pull(Math.min(amount, known.outstanding));
        known.outstanding -= received;
        _setCapital(capital + received);
        emit Repaid(memberId, received, known.outstanding);
    }

    function claim(address memberId, uint16 segment, address account, uint256 amount) external nonReentrant {
        Member storage known = _operated(memberId);
        if (amount == 0) revert ZeroAmount();
        if (block.timestamp > known.coveredUntil) revert NotCovered(memberId, known.coveredUntil);
        uint256 shortfall = _shortfall(memberId, segment, account);
        if (amount > shortfall) revert ExceedsShortfall(amount, shortfall);
        uint64 number = _roundForClaims();
        Claim storage made = _claims[memberId][segment][account];
        if (made.round == number) revert AlreadyClaimed(memberId, segment, account);

        uint256 ownMax = Math.mulDiv(amount, known.firstLossBps, BPS, Math.Rounding.Ceil);
        uint256 stakeLeft = known.stake - _stakeAsked[memberId][number];
        if (ownMax > stakeLeft) revert ExceedsStake(memberId, ownMax, stakeLeft);
        uint256 asked = amount - amount * known.firstLossBps / BPS;
        uint256 taken = known.outstanding + _askedBy[memberId][number];
        uint256 capLeft = known.cap > taken ? known.cap - taken : 0;
        if (asked > capLeft) revert ExceedsCap(memberId, asked, capLeft);

        _stakeAsked[memberId][number] += ownMax;
        _askedBy[memberId][number] += asked;
        _round.asked += asked;
        (made.round, made.amount) = (number, amount);
        _round.unpaid += 1;
        emit RoundChanged(number, _round.asked, _round.unpaid);
        emit Claimed(number, memberId, segment, account, amount);
    }

    /// A claim is paid once. A hole that shrank takes less and leaves the rest to the capital.
    function draw(address memberId, uint16 segment, address account) external nonReentrant returns (uint256 paid) {
        Member storage known = _operated(memberId);
        Claim storage made = _claims[memberId][segment][account];
        if (made.amount == 0 || made.round != _round.number) revert NothingClaimed(memberId, segment, account);
        _settle();
        uint256 shortfall = _shortfall(memberId, segment, account);
        paid = Math.min(_granted(made.amount), shortfall);
        if (paid == 0) revert ZeroAmount();
        uint256 own = Math.mulDiv(paid, known.firstLossBps, BPS, Math.Rounding.Ceil);

        delete _claims[memberId][segment][account];
        known.stake -= own;
        known.outstanding += paid - own;
        emit StakeChanged(memberId, known.stake);
        _setCapital(capital - (paid - own));
        _round.unpaid -= 1;
        emit RoundChanged(_round.number, _round.asked, _round.unpaid);
        emit Drawn(_round.number, memberId, segment, account, paid, own, known.outstanding);
        _pay(memberId, segment, account, paid, shortfall);
    }

    // ---- admin

    function setMember(address memberId, address operator, uint256 cap, uint16 firstLossBps, uint16 premiumBps)
        external
        nonReentrant
        onlyRole(DEFAULT_ADMIN_ROLE)
    {
        _requireNoRound();
        bool usable = operator != address(0) && cap > 0 && firstLossBps < BPS && premiumBps > 0 && premiumBps <= BPS;
        if (!usable || IPoolMember(memberId).asset() != asset) revert BadTerms(memberId);
        Member storage known = _members[memberId];
        (known.operator, known.cap) = (operator, cap);
        (known.firstLossBps, known.premiumBps) = (firstLossBps, premiumBps);
        emit MemberSet(memberId, operator, cap, firstLossBps, premiumBps);
    }

    function releaseStake(address memberId, address to, uint256 amount)
        external
        nonReentrant
        onlyRole(DEFAULT_ADMIN_ROLE)
    {
        _requireNoRound();
        Member storage known = _known(memberId);
        if (amount > known.stake) revert ExceedsStake(memberId, amount, known.stake);
        known.stake -= amount;
        emit StakeChanged(memberId, known.stake);
        IERC20(asset).safeTransfer(to, amount);
    }

    // ---- views

    function member(address memberId) external view returns (Member memory) {
        return _members[memberId];
    }

    function isOperator(address memberId, address account) external view returns (bool) {
        return account != address(0) && _members[memberId].operator == account;
    }

    function round() external view returns (Round memory) {
        return _round;
    }

    /// A claim with an amount of zero was paid or never made.
    function claimOf(address memberId, uint16 segment, address account) external view returns (Claim memory) {
        return _claims[memberId][segment][account];
    }

    // ---- the round

    function _isOpen() private view returns (bool) {
        bool allPaid = _round.settled && _round.unpaid == 0;
        return _round.number != 0 && block.number <= _round.drawsUntilBlock && !allPaid;
    }

    function _requireNoRound() private view {
        if (_isOpen()) revert RoundOpen(_round.number);
    }

    function _roundForClaims() private returns (uint64 number) {
        if (_isOpen()) {
            if (block.number > _round.claimsUntilBlock) revert ClaimsClosed(_round.number, _round.drawsUntilBlock);
            return _round.number;
        }
        number = _round.number + 1;
        uint64 claimsUntil = uint64(block.number) + CLAIM_BLOCKS - 1;
        _round = Round(number, claimsUntil, claimsUntil + DRAW_BLOCKS, false, 0, 0, 0);
        emit RoundOpened(number, claimsUntil, claimsUntil + DRAW_BLOCKS);
    }

    function _settle() private {
        if (!_isOpen()) revert RoundOver(_round.number);
        if (block.number <= _round.claimsUntilBlock) revert ClaimsStillOpen(_round.number, _round.claimsUntilBlock);
        if (_round.settled) return;
        _round.settled = true;
        _round.capitalAtSettlement = capital;
        emit RoundSettled(_round.number, _round.asked, capital);
    }

    function _granted(uint256 amount) private view returns (uint256) {
        if (_round.asked <= _round.capitalAtSettlement) return amount;
        return Math.mulDiv(amount, _round.capitalAtSettlement, _round.asked);
    }

    // ---- money

    function _shortfall(address memberId, uint16 segment, address account) private view returns (uint256 shortfall) {
        shortfall = IPoolMember(memberId).shortfallOf(segment, account);
        if (shortfall == 0) revert NoShortfall(memberId, segment, account);
    }

    /// Pays and believes it only when the hole is smaller by as much.
    function _pay(address memberId, uint16 segment, address account, uint256 amount, uint256 shortfall) private {
        IERC20(asset).forceApprove(memberId, amount);
        IPoolMember(memberId).cover(segment, account, amount);
        IERC20(asset).forceApprove(memberId, 0);
        uint256 left = IPoolMember(memberId).shortfallOf(segment, account);
        if (left + amount != shortfall) revert NotCredited(shortfall, left, amount);
    }

    function _setCapital(uint256 amount) private {
        capital = amount;
        emit CapitalChanged(amount);
    }

    /// Takes tokens from the caller and returns what arrived, which a token that charges for transfers makes less.
    function _pull(uint256 amount) private returns (uint256 received) {
        uint256 held = IERC20(asset).balanceOf(address(this));
        IERC20(asset).safeTransferFrom(msg.sender, address(this), amount);
        received = IERC20(asset).balanceOf(address(this)) - held;
        if (received == 0) revert ZeroAmount();
    }

    function _known(address memberId) private view returns (Member storage known) {
        known = _members[memberId];
        if (known.operator == address(0)) revert UnknownMember(memberId);
    }

    function _operated(address memberId) private view returns (Member storage known) {
        known = _known(memberId);
        if (known.operator != msg.sender) revert NotOperator(memberId, msg.sender);
    }
}
