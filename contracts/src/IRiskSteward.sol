// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @title The only door through which margin and funding parameters move: bounded steps, a delay between them, a floor and a ceiling.
interface IRiskSteward {
    struct Bounds {
        uint16 maxStepBps; // largest relative step of a margin parameter, of its present value
        uint64 minDelaySeconds; // between two changes of the same market
        uint16 marginFloorBps;
        uint16 marginCeilingBps;
        uint256 maxFundingStepX18; // largest absolute step of the funding rate
        uint256 maxFundingRateX18; // |rate| never above
    }

    event BoundsSet(uint16 indexed market, Bounds bounds);
    event MarginMoved(uint16 indexed market, uint16 maintenanceMarginBps, uint16 initialMarginBps);
    event FundingMoved(uint16 indexed market, int256 rateX18);

    error NoBounds(uint16 market);
    error StepTooLarge(uint16 market, uint256 from, uint256 to);
    error TooSoon(uint16 market, uint64 earliest);
    error OutOfRange(uint16 market, uint256 value);
    error MarginOrder(uint16 maintenanceMarginBps, uint16 initialMarginBps);

    function setBounds(uint16 market, Bounds calldata bounds) external;
    function moveMargin(uint16 market, uint16 maintenanceMarginBps, uint16 initialMarginBps) external;
    function moveFundingRate(uint16 market, int256 rateX18) external;
    function bounds(uint16 market) external view returns (Bounds memory);
    function lastMovedAt(uint16 market) external view returns (uint64 margin, uint64 funding);
}
