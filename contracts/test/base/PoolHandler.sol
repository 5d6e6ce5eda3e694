// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IBackstopPool} from "../../src/IBackstopPool.sol";
import {Pooled} from "./Pooled.sol";

/// @title A pool in use by two venues: every public `do…` function turns arbitrary numbers into one act of somebody.
///
/// Acts may be refused, but never with a panic. What the pool granted in a round is added up beside it and compared.
contract PoolHandler is Pooled {
    uint256 private constant TRADERS = 3;

    uint256 public claims;
    uint256 public draws;
    uint256 public scarceRounds;
    uint64 private _summedRound;
    uint256 private _paidByCapital;

    function setUp() public virtual override {
        super.setUp();
        _underwrite(underwriter, 12_000);
        for (uint256 k = 0; k < 2 * TRADERS; k++) {
            _long(k % 2, _trader(k), 1_000 + 300 * k);
        }
    }

    function doMovePrice(uint256 price) public {
        _post(BTC, bound(price, 200, 1_100));
    }

    function doPassBlocks(uint256 blocks) public {
        vm.roll(block.number + bound(blocks, 1, 20));
    }

    function doPassTime(uint256 duration) public {
        vm.warp(block.timestamp + bound(duration, 1, 5 days));
        if (duration % 3 != 0) _post(BTC, _mark());
    }

    function doUnderwrite(uint256 amount) public {
        _approvePool(underwriter, 2_000);
        _attemptOn(underwriter, abi.encodeCall(pool.underwrite, (bound(amount, 1, 2_000))));
    }

    function doLeave(uint256 part) public {
        uint256 shares = pool.sharesOf(underwriter);
        if (part % 2 == 0) _attemptOn(underwriter, abi.encodeCall(pool.giveNotice, (bound(part, 0, shares))));
        else _attemptOn(underwriter, abi.encodeCall(pool.redeem, ()));
    }

    function doMember(uint256 which, uint256 amount) public {
        address id = address(members[which % 2]);
        _approvePool(admin, 1_000);
        amount = bound(amount, 1, 1_000);
        if (which % 3 == 0) _attemptOn(admin, abi.encodeCall(pool.addStake, (id, amount)));
        else if (which % 3 == 1) _attemptOn(admin, abi.encodeCall(pool.payPremium, (id, amount)));
        else _attemptOn(admin, abi.encodeCall(pool.repay, (id, amount)));
    }

    function doReleaseStake(uint256 which, uint256 amount) public {
        bytes memory call_ = abi.encodeCall(pool.releaseStake, (address(members[which % 2]), admin, bound(amount, 1, 500)));
        _attemptOn(admin, call_);
    }

    /// Any amount, proven or not: the whole hole as often as anything else.
    function doClaim(uint256 who, uint256 amount, bool whole) public {
        (uint256 i, address trader) = (who % 2, _trader(who));
        (bool ok, uint256 hole) = _holeOf(i, trader);
        uint256 asked = whole ? hole : bound(amount, 0, 12_000);
        bool claimed = _attemptOn(keeper, _claimCall(i, trader, asked));
        vm.assertTrue(!claimed || (ok && asked <= hole), "a claim without a proven shortfall");
        if (claimed) claims++;
    }

    function doDraw(uint256 who) public {
        (uint256 i, address trader) = (who % 2, _trader(who));
        (bool fresh, uint256 hole) = _holeOf(i, trader);
        (uint256 had, uint256 amount) = (pool.capital(), pool.claimOf(address(members[i]), SEG, trader).amount);
        if (!_attemptOn(keeper, _drawCall(i, trader))) return;
        draws++;
        IBackstopPool.Round memory round = pool.round();
        if (round.number != _summedRound) {
            (_summedRound, _paidByCapital) = (round.number, 0);
            if (round.asked > round.capitalAtSettlement) scarceRounds++;
        }
        _paidByCapital += had - pool.capital();
        vm.assertLe(_paidByCapital, round.capitalAtSettlement, "a round pays no more than there was");
        (, uint256 left) = _holeOf(i, trader);
        uint256 granted =
            round.asked <= round.capitalAtSettlement ? amount : amount * round.capitalAtSettlement / round.asked;
        vm.assertTrue(fresh && hole > left, "a draw without a proven shortfall");
        vm.assertEq(hole - left, granted < hole ? granted : hole, "pro rata, at most the hole");
    }

    function assertPool() external view {
        _assertPool();
    }

    function _holeOf(uint256 i, address trader) private view returns (bool ok, uint256 hole) {
        try members[i].shortfallOf(SEG, trader) returns (uint256 found) {
            (ok, hole) = (true, found);
        } catch {}
    }

    function _attemptOn(address caller, bytes memory call_) private returns (bool ok) {
        bytes memory back;
        (ok, back) = callAs(caller, address(pool), call_);
        if (ok) return true;
        bytes4 panic = bytes4(keccak256("Panic(uint256)"));
        vm.assertTrue(back.length >= 4 && bytes4(back) != panic, "a refusal names its reason");
    }

    function _mark() private view returns (uint256 mark) {
        (mark,) = venue.markPrice(BTC);
    }

    function _trader(uint256 seed) private pure returns (address) {
        return address(uint160(0x7AADE0 + seed % (2 * TRADERS)));
    }
}
