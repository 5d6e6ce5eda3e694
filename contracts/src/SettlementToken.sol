// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title Test dollars with six decimals that anyone may mint: for demonstrations and tests, worth nothing by design.
contract SettlementToken is ERC20 {
    constructor() ERC20("Test Dollar", "tUSD") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function decimals() public pure override returns (uint8) {
        return 6;
    }
}
