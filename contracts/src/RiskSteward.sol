// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

import {IClearinghouse} from "./IClearinghouse.sol";
import {IRiskSteward} from "./IRiskSteward.sol";

/// @title Bounds on how fast and how far risk parameters may move.
///
/// The admin sets the bounds of a market, a mover steps inside them. Margin and funding each have their own delay. Even a
/// stolen mover key can only walk, in public, between floor and ceiling.
contract RiskSteward is IRiskSteward, AccessControl {
    bytes32 public constant MOVER_ROLE = keccak256("MOVER_ROLE");
    uint256 private constant BPS = 1e4;

    struct Moved {
        uint64 margin;
        uint64 funding;
    }

    IClearinghouse public immutable clearinghouse;
    mapping(uint16 market => Bounds) private _bounds;
    mapping(uint16 market => Moved) private _moved;

    constructor(IClearinghouse target, address admin) {
        clearinghouse = target;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    function setBounds(uint16 market, Bounds calldata limits) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (limits.maxStepBps > BPS) revert OutOfRange(market, limits.maxStepBps);
        if (limits.marginFloorBps == 0 || limits.marginFloorBps > limits.marginCeilingBps) {
            revert OutOfRange(market, limits.marginFloorBps);
        }
        if (limits.marginCeilingBps > BPS) revert OutOfRange(market, limits.marginCeilingBps);
        clearinghouse.market(market); // refuses a market that is not listed
        _bounds[market] = limits;
        emit BoundsSet(market, limits);
    }

    function moveMargin(uint16 market, uint16 maintenanceMarginBps, uint16 initialMarginBps)
        external
        onlyRole(MOVER_ROLE)
    {
        Bounds memory limits = _boundsOf(market);
        if (maintenanceMarginBps >= initialMarginBps) revert MarginOrder(maintenanceMarginBps, initialMarginBps);
        if (maintenanceMarginBps < limits.marginFloorBps) revert OutOfRange(market, maintenanceMarginBps);
        if (initialMarginBps > limits.marginCeilingBps) revert OutOfRange(market, initialMarginBps);
        IClearinghouse.MarketConfig memory present = clearinghouse.market(market).config;
        _requireStep(market, present.maintenanceMarginBps, maintenanceMarginBps, limits.maxStepBps);
        _requireStep(market, present.initialMarginBps, initialMarginBps, limits.maxStepBps);
        _requireDelay(market, _moved[market].margin, limits.minDelaySeconds);

        _moved[market].margin = uint64(block.timestamp);
        emit MarginMoved(market, maintenanceMarginBps, initialMarginBps);
        clearinghouse.setMargin(market, maintenanceMarginBps, initialMarginBps);
    }

    /// A refusal names magnitudes: rates are signed, the errors' values are not.
    function moveFundingRate(uint16 market, int256 rateX18) external onlyRole(MOVER_ROLE) {
        Bounds memory limits = _boundsOf(market);
        uint256 magnitude = SignedMath.abs(rateX18);
        if (magnitude > limits.maxFundingRateX18) revert OutOfRange(market, magnitude);
        int256 present = clearinghouse.market(market).fundingRateX18;
        if (SignedMath.abs(rateX18 - present) > limits.maxFundingStepX18) {
            revert StepTooLarge(market, SignedMath.abs(present), magnitude);
        }
        _requireDelay(market, _moved[market].funding, limits.minDelaySeconds);

        _moved[market].funding = uint64(block.timestamp);
        emit FundingMoved(market, rateX18);
        clearinghouse.setFundingRate(market, rateX18);
    }

    function bounds(uint16 market) external view returns (Bounds memory) {
        return _bounds[market];
    }

    function lastMovedAt(uint16 market) external view returns (uint64 margin, uint64 funding) {
        return (_moved[market].margin, _moved[market].funding);
    }

    function _boundsOf(uint16 market) private view returns (Bounds memory limits) {
        limits = _bounds[market];
        if (limits.marginCeilingBps == 0) revert NoBounds(market);
    }

    /// Cross-multiplied, so that no step is let through by rounding.
    function _requireStep(uint16 market, uint256 from, uint256 to, uint256 maxStepBps) private pure {
        uint256 step = from > to ? from - to : to - from;
        if (step * BPS > from * maxStepBps) revert StepTooLarge(market, from, to);
    }

    function _requireDelay(uint16 market, uint64 last, uint64 minDelaySeconds) private view {
        uint256 earliest = uint256(last) + minDelaySeconds;
        if (last != 0 && block.timestamp < earliest) revert TooSoon(market, uint64(earliest));
    }
}
