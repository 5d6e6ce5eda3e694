// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Handler} from "./base/Handler.sol";
import {Test} from "./base/Test.sol";

/// Random sequences of everything anybody can do. The handler asserts what each act must leave behind; here is what must
/// hold at any time.
contract InvariantsTest is Test {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Handler private _handler;

    function setUp() public {
        _handler = new Handler();
        _handler.setUp();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_handler);
    }

    /// Falling prices and recovery come up more often than the rest: the waterfall is what this is about.
    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        targets = new FuzzSelector[](1);
        targets[0].addr = address(_handler);
        targets[0].selectors = _acts();
    }

    /// Token balance = claims + funds; per segment the pool = equities = cash + quotes; per market longs = shorts; no
    /// lots, no quote. All to the last unit.
    function invariant_theBooksBalance() public view {
        _handler.assertBooks();
    }

    function test_theHandlerReachesEveryRung() public {
        vm.assertEq(_handler.trades(), 0, "nothing yet");
        _handler.doTrade(0, 0, 1, 12, 2); // market 1: actor 0 buys 28 lots from actor 1 at 1001
        _handler.doTrade(0, 2, 3, 12, 2);
        vm.assertEq(_handler.trades(), 2, "trades");
        _handler.doMovePrice(0, 6); // 81 %
        _handler.doFund(1, 99, 0);
        _handler.doLiquidate(0, 2, 200);
        vm.assertGt(_handler.liquidations(), 0, "liquidated");
        _recoverAll();
        vm.assertGt(_handler.draws(), 0, "drew on the fund");
        vm.assertGt(_handler.deleveragings(), 0, "deleveraged");
        _handler.doPassTime(100, true);
        _handler.doMoveParameters(0, 5, 1e14);
        vm.assertEq(_handler.parameterMoves(), 2, "margin and funding");
        _handler.assertBooks();
    }

    function test_theHandlerReachesSocialisedLoss() public {
        _handler.doTrade(0, 0, 1, 12, 2);
        _handler.doMovePrice(0, 1); // 76 %
        for (uint256 i = 0; i < 28; i++) {
            _handler.doLiquidate(0, 0, 0); // a lot at a time, until nothing is left to deleverage
        }
        _recoverAll();
        vm.assertGt(_handler.socialisations(), 0, "socialised");
        _handler.assertBooks();
    }

    function test_theHandlerReachesGateAndRestitution() public {
        _handler.doTrade(0, 0, 1, 12, 2);
        _handler.doMovePrice(0, 6);
        _handler.doGate(1, 0);
        vm.assertGt(_handler.gates(), 0, "shut");
        _handler.doCover(1, 0, 7);
        vm.assertGt(_handler.covers(), 0, "covered in part");
        _recoverAll();
        _handler.doFund(1, 299, 0);
        for (uint256 i = 0; i < 6; i++) {
            _handler.doRestitute(1, i, 0);
        }
        vm.assertGt(_handler.restitutions(), 0, "paid back");
        _handler.assertBooks();
    }

    function _recoverAll() private {
        for (uint256 i = 0; i < 40; i++) {
            _handler.doRecover(1, i, type(uint256).max);
        }
    }

    function _acts() private pure returns (bytes4[] memory acts) {
        acts = new bytes4[](24);
        acts[0] = Handler.doDeposit.selector;
        acts[1] = Handler.doWithdraw.selector;
        acts[2] = acts[3] = acts[4] = Handler.doTrade.selector;
        acts[5] = Handler.doPlace.selector;
        acts[6] = Handler.doFill.selector;
        acts[7] = Handler.doCancel.selector;
        acts[8] = acts[9] = acts[10] = Handler.doMovePrice.selector;
        acts[11] = Handler.doPassTime.selector;
        acts[12] = Handler.doMoveParameters.selector;
        acts[13] = Handler.doFund.selector;
        acts[14] = Handler.doLiquidate.selector;
        acts[15] = acts[16] = Handler.doRecover.selector;
        acts[17] = Handler.doMisuse.selector;
        acts[18] = Handler.doLiquidate.selector;
        acts[19] = acts[20] = Handler.doRecover.selector;
        acts[21] = Handler.doGate.selector;
        acts[22] = Handler.doRestitute.selector;
        acts[23] = Handler.doCover.selector;
    }
}
