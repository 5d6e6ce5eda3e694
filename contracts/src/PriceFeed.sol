// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {IPriceFeed} from "./IPriceFeed.sol";

/// @title An oracle feed that appointed reporters write.
///
/// Time never runs backwards; a second report of the same second replaces the first. Whether a price is too old is for
/// its reader to judge.
contract PriceFeed is IPriceFeed, AccessControl {
    bytes32 public constant REPORTER_ROLE = keccak256("REPORTER_ROLE");

    // One word. 128 bits of price keep every product of price, lots and basis points inside 256 bits.
    uint128 private _price;
    uint64 private _updatedAt;

    constructor(address admin) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    function post(uint256 price, uint64 updatedAt) external onlyRole(REPORTER_ROLE) {
        if (price == 0) revert ZeroPrice();
        if (updatedAt > block.timestamp) revert FromTheFuture(updatedAt, uint64(block.timestamp));
        if (updatedAt < _updatedAt) revert BackwardsInTime(updatedAt, _updatedAt);
        _price = SafeCast.toUint128(price);
        _updatedAt = updatedAt;
        emit PricePosted(price, updatedAt);
    }

    function latest() external view returns (uint256 price, uint64 updatedAt) {
        return (_price, _updatedAt);
    }
}
