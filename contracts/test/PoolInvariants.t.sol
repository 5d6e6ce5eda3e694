// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {PoolHandler} from "./base/PoolHandler.sol";
import {Test} from "./base/Test.sol";

/// Random sequences of what underwriters, members and prices can do to a pool. The handler asserts that no draw goes
/// without proof and that each is pro rata; here is what must hold at any time.
contract PoolInvariantsTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    PoolHandler private _handler;

    function setUp() public {
        _handler = new PoolHandler();
        _handler.setUp();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0].addr = address(_handler);
        targets[0].selectors = _acts();
    }

    /// Balance = capital + stakes to the unit; nobody has more outstanding than its cap.
    function invariant_thePoolIsSolventAndNobodyIsAboveItsCap() public view {
        _handler.assertPool();
    }

    function test_theHandlerReachesAScarceRound() public {
        _handler.doMovePrice(0); // 200
        for (uint256 who = 0; who < 6; who++) {
            _handler.doClaim(who, 3_000, false);
        }
        vm.assertGt(_handler.claims(), 1, "claims");
        _handler.doPassBlocks(4); // five blocks
        for (uint256 who = 0; who < 6; who++) {
            _handler.doDraw(who);
        }
        vm.assertEq(_handler.draws(), _handler.claims(), "every claim is paid");
        vm.assertEq(_handler.scarceRounds(), 1, "pro rata");
        _handler.assertPool();
    }

    function test_theHandlerReachesTheCap() public {
        _handler.doMovePrice(0); // 200
        _handler.doClaim(0, 0, true); // 7000 short, asks 6300 of a cap of 10 000
        _handler.doClaim(2, 0, true); // 6400 short, would ask 5760
        _handler.doPassBlocks(4);
        _handler.doDraw(0);
        _handler.doDraw(2);
        _handler.assertPool();
        vm.assertEq(_handler.claims(), 1, "the second is above the cap");
        vm.assertEq(_handler.draws(), 1, "and is not paid");
    }

    function _acts() private pure returns (bytes4[] memory acts) {
        acts = new bytes4[](14);
        acts[0] = acts[1] = PoolHandler.doMovePrice.selector;
        acts[2] = acts[3] = PoolHandler.doPassBlocks.selector;
        acts[4] = PoolHandler.doPassTime.selector;
        acts[5] = PoolHandler.doUnderwrite.selector;
        acts[6] = PoolHandler.doLeave.selector;
        acts[7] = PoolHandler.doMember.selector;
        acts[8] = PoolHandler.doReleaseStake.selector;
        acts[9] = acts[10] = acts[11] = PoolHandler.doClaim.selector;
        acts[12] = acts[13] = PoolHandler.doDraw.selector;
    }
}
