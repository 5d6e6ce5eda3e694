// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";

import {IClearinghouse} from "./IClearinghouse.sol";
import {IPoolMember} from "./IPoolMember.sol";

/// @title One clearinghouse as a member of a backstop pool. Holds no money between calls and has no owner.
///
/// The clearinghouse's views answer at the last price, however old. Here every market that the account holds lots in must
/// have a price that the clearinghouse itself would act on.
contract ClearinghouseMember is IPoolMember {
    using SafeERC20 for IERC20;

    IClearinghouse public immutable clearinghouse;
    address public immutable asset;

    constructor(IClearinghouse target) {
        clearinghouse = target;
        asset = target.settlementToken();
        IERC20(asset).forceApprove(address(target), type(uint256).max);
    }

    function shortfallOf(uint16 segment, address account) external view returns (uint256) {
        _requireFresh(segment, account);
        int256 equity = clearinghouse.accountState(segment, account).equity;
        if (equity >= 0) return 0;
        (, uint256 fund, uint256 floor) = clearinghouse.segmentFunds(segment);
        uint256 spendable = fund > floor ? fund - floor : 0;
        uint256 hole = uint256(-equity);
        return hole > spendable ? hole - spendable : 0;
    }

    function cover(uint16 segment, address account, uint256 amount) external {
        IERC20(asset).safeTransferFrom(msg.sender, address(this), amount);
        clearinghouse.coverShortfall(segment, account, amount);
    }

    function _requireFresh(uint16 segment, address account) private view {
        uint16[] memory markets = clearinghouse.segmentMarkets(segment);
        for (uint256 i = 0; i < markets.length; i++) {
            (int256 lots,) = clearinghouse.position(markets[i], account);
            if (lots == 0) continue;
            (uint256 price, uint64 updatedAt) = clearinghouse.markPrice(markets[i]);
            uint64 maxAge = clearinghouse.market(markets[i]).config.maxPriceAgeSeconds;
            bool timely = updatedAt <= block.timestamp && block.timestamp - updatedAt <= maxAge;
            if (price == 0 || !timely) revert IClearinghouse.StalePrice(markets[i], updatedAt, maxAge);
        }
    }
}
