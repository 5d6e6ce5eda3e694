// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @title One oracle feed: the last price and the time it was observed.
interface IPriceFeed {
    event PricePosted(uint256 price, uint64 updatedAt);

    error BackwardsInTime(uint64 updatedAt, uint64 last);
    error FromTheFuture(uint64 updatedAt, uint64 now_);
    error ZeroPrice();

    /// Reporter role. Price in settlement-token units per lot; time in Unix seconds.
    function post(uint256 price, uint64 updatedAt) external;
    function latest() external view returns (uint256 price, uint64 updatedAt);
}
