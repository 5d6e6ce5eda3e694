// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Trading} from "./Trading.sol";

/// @title Claims: what deleveraging and socialised losses took, owed back by the segment's insurance fund.
///
/// Both rungs act only once the fund can pay nothing, so all that they take is beyond its means. It is booked as a claim of
/// the account that paid, and no part of its equity. When the fund is above its floor again, claims are paid out of what is
/// above, pro rata, round by round.
abstract contract Restitution is Trading, AccessControl {
    using SafeCast for uint256;

    bytes32 public constant KEEPER_ROLE = keccak256("KEEPER_ROLE");
    /// A round that stays unpaid this long may be opened anew on the books as they then stand.
    uint256 public constant ROUND_BLOCKS = 20;

    mapping(uint16 segment => mapping(address account => uint256)) private _claims;
    mapping(uint16 segment => uint256) private _totalClaims;
    mapping(uint16 segment => Round) private _restitutions;
    mapping(uint16 segment => mapping(address account => uint64)) private _paidIn;

    function payClaims(uint16 segment, Payer[] calldata claimants) external nonReentrant onlyRole(KEEPER_ROLE) {
        if (claimants.length == 0) revert ZeroAmount();
        Segment storage seg = _opened(segment);
        Round storage round = _currentRestitution(segment, seg);
        for (uint256 i = 0; i < claimants.length; i++) {
            _payClaim(segment, seg, round, claimants[i]);
        }
    }

    /// What the segment owes an account, and all accounts.
    function claims(uint16 segment, address account) external view returns (uint256 claim, uint256 total) {
        return (_claims[segment][account], _totalClaims[segment]);
    }

    /// The last round of restitution; `unpaid` is what it may still pay.
    function restitution(uint16 segment) external view returns (Round memory) {
        return _restitutions[segment];
    }

    function _bookClaim(uint16 segment, address account, uint256 amount) internal {
        _totalClaims[segment] += amount;
        _setClaim(segment, account, _claims[segment][account] + amount);
    }

    function _setClaim(uint16 segment, address account, uint256 claim) private {
        _claims[segment][account] = claim;
        emit ClaimChanged(segment, account, claim);
    }

    /// The round that is open, or a new one: what the fund may pay now, and all claims as they now stand.
    function _currentRestitution(uint16 segment, Segment storage seg) private returns (Round storage round) {
        round = _restitutions[segment];
        if (round.unpaid > 0 && block.number < round.openedAtBlock + ROUND_BLOCKS) return round;
        uint256 total = _totalClaims[segment];
        uint256 budget = Math.min(_spendable(seg), total);
        if (budget == 0) revert FundShort(segment, total, 0);
        round.number += 1;
        round.openedAtBlock = uint64(block.number);
        round.shortfall = budget;
        round.base = total;
        round.unpaid = budget;
        emit RestitutionOpened(segment, round.number, budget, total);
    }

    /// A share never exceeds the claim, since the budget never exceeds the base.
    function _payClaim(uint16 segment, Segment storage seg, Round storage round, Payer calldata claimant) private {
        (address account, uint256 amount) = (claimant.account, claimant.amount);
        if (amount == 0) revert ZeroAmount();
        if (_paidIn[segment][account] == round.number) revert AlreadyCharged(account, round.number);
        uint256 claim = _claims[segment][account];
        uint256 share = Math.min(claim, Math.mulDiv(round.shortfall, claim, round.base, Math.Rounding.Ceil));
        if (amount > share) revert ShareTooLarge(account, amount, share);
        uint256 payable_ = Math.min(round.unpaid, _spendable(seg));
        if (amount > payable_) revert FundShort(segment, amount, payable_);

        _paidIn[segment][account] = round.number;
        round.unpaid -= amount;
        _totalClaims[segment] -= amount;
        _setClaim(segment, account, claim - amount);
        _setFund(segment, seg.fund - amount);
        seg.pool += amount;
        _addCash(segment, account, amount.toInt256());
        emit ClaimPaid(segment, account, amount);
    }
}
