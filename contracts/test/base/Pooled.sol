// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {BackstopPool} from "../../src/BackstopPool.sol";
import {Clearinghouse} from "../../src/Clearinghouse.sol";
import {ClearinghouseMember} from "../../src/ClearinghouseMember.sol";
import {IClearinghouse} from "../../src/IClearinghouse.sol";
import {Venue} from "./Venue.sol";

/// @title Two venues on one pool. `venue` of the base is whichever a test looks at; both share token and feeds.
///
/// Member 0 pays 10 % of each payment itself, member 1 a quarter. Both may have 10 000 outstanding, pay 2 % a year and
/// have a stake of 5 000.
abstract contract Pooled is Venue {
    uint256 internal constant CAP = 10_000;
    uint256 internal constant STAKE = 5_000;

    BackstopPool internal pool;
    Clearinghouse[2] internal venues;
    ClearinghouseMember[2] internal members;
    address internal underwriter = address(0x0DE5);

    function setUp() public virtual override {
        super.setUp();
        pool = new BackstopPool(address(token), admin);
        _grant(address(feeds[BTC]), feeds[BTC].REPORTER_ROLE(), address(this));
        address feed = address(feeds[BTC]);
        for (uint256 i = 0; i < 2; i++) {
            if (i == 1) {
                venue = new Clearinghouse(IERC20(address(token)), admin);
                _grant(address(venue), venue.KEEPER_ROLE(), keeper);
                _asAdmin(abi.encodeCall(venue.openSegment, (SEG)));
                _asAdmin(abi.encodeCall(venue.listMarket, (BTC, _config(SEG, feed))));
            }
            venues[i] = venue;
            _join(i, i == 0 ? 1_000 : 2_500);
        }
    }

    function _join(uint256 i, uint16 firstLossBps) private {
        members[i] = new ClearinghouseMember(venues[i]);
        address id = address(members[i]);
        assertAllowed(admin, address(pool), abi.encodeCall(pool.setMember, (id, keeper, CAP, firstLossBps, 200)));
        _approvePool(admin, STAKE + 200);
        assertAllowed(admin, address(pool), abi.encodeCall(pool.addStake, (id, STAKE)));
        assertAllowed(admin, address(pool), abi.encodeCall(pool.payPremium, (id, 200))); // a year
    }

    function _approvePool(address owner, uint256 amount) internal {
        token.mint(owner, amount);
        assertAllowed(owner, address(token), abi.encodeCall(token.approve, (address(pool), type(uint256).max)));
    }

    function _underwrite(address owner, uint256 amount) internal {
        _approvePool(owner, amount);
        assertAllowed(owner, address(pool), abi.encodeCall(pool.underwrite, (amount)));
    }

    /// Gives `owner` of venue `i` a long of 10 lots at 1000 against carol with `margin` of its own: at a price p it is
    /// 10 * (1000 - p) - margin short.
    function _long(uint256 i, address owner, uint256 margin) internal {
        venue = venues[i];
        _deposit(SEG, owner, margin);
        _deposit(SEG, carol, 50_000);
        _trade(BTC, owner, carol, 10, 1_000);
    }

    function _hole(uint256 i, address owner) internal view returns (uint256) {
        return members[i].shortfallOf(SEG, owner);
    }

    function _claimCall(uint256 i, address owner, uint256 amount) internal view returns (bytes memory) {
        return abi.encodeCall(pool.claim, (address(members[i]), SEG, owner, amount));
    }

    function _drawCall(uint256 i, address owner) internal view returns (bytes memory) {
        return abi.encodeCall(pool.draw, (address(members[i]), SEG, owner));
    }

    function _claim(uint256 i, address owner, uint256 amount) internal {
        assertAllowed(keeper, address(pool), _claimCall(i, owner, amount));
    }

    function _draw(uint256 i, address owner) internal returns (uint256) {
        return abi.decode(assertAllowed(keeper, address(pool), _drawCall(i, owner)), (uint256));
    }

    function _poolRefuses(address caller, bytes memory data, bytes memory reason) internal {
        assertRefused(caller, address(pool), data, reason);
    }

    /// What the pool owes to underwriters and members is there, to the last unit.
    function _assertPool() internal view {
        uint256 stakes = pool.member(address(members[0])).stake + pool.member(address(members[1])).stake;
        vm.assertEq(token.balanceOf(address(pool)), pool.capital() + stakes, "balance = capital + stakes");
        for (uint256 i = 0; i < 2; i++) {
            vm.assertLe(pool.member(address(members[i])).outstanding, CAP, "outstanding <= cap");
            vm.assertEq(token.balanceOf(address(members[i])), 0, "a member contract keeps nothing");
        }
    }
}
