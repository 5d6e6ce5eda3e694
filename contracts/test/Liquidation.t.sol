// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IClearinghouse} from "../src/IClearinghouse.sol";
import {Vm} from "./base/Test.sol";
import {Venue} from "./base/Venue.sol";

/// alice is 10 long at 1000 with 1,100 of cash: liquidatable below 937, below half of her
/// maintenance margin under 913, bankrupt below 890.
contract LiquidationTest is Venue {
    function setUp() public override {
        super.setUp();
        _deposit(SEG, alice, 1_100);
        _deposit(SEG, bob, 20_000);
        _deposit(SEG, carol, 20_000);
        _trade(BTC, alice, bob, 10, 1_000);
    }

    function test_aHealthyAccountIsLeftAlone() public {
        _post(BTC, 948); // equity 580, maintenance 474
        uint64 bid = _place(carol, BTC, true, 948, 10);
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.NotLiquidatable.selector, alice, int256(106));
        _refused(dave, _liquidation(bid, 5), reason);
        vm.assertEq(uint256(venue.maxLiquidatableLots(BTC, alice)), 0, "nothing to liquidate");
    }

    function test_exactlyTheMaintenanceMarginIsHealthy() public {
        _post(BTC, 1_000);
        uint64 ask = _place(alice, BTC, false, 1_000, 1);
        _as(carol, abi.encodeCall(venue.fillOrder, (ask, 1))); // 9 lots left
        _post(BTC, 924); // equity 416; maintenance ceil(415.8) = 416
        vm.assertEq(_surplus(SEG, alice), 0, "none left");
        uint64 bid = _place(carol, BTC, true, 924, 10);
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.NotLiquidatable.selector, alice, int256(0));
        _refused(dave, _liquidation(bid, 1), reason);
    }

    function test_aMildBreachLosesHalfTheRoundedUpPosition() public {
        _post(BTC, 930); // equity 400, maintenance 465
        vm.assertEq(uint256(venue.maxLiquidatableLots(BTC, alice)), 5, "half");
        uint64 bid = _place(carol, BTC, true, 930, 10);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.LiquidatesTooMuch.selector, alice, uint64(6), uint64(5));
        _refused(dave, _liquidation(bid, 6), reason);
        _as(dave, _liquidation(bid, 5));
        vm.assertEq(_lots(BTC, alice), 5, "half is left");
        vm.assertEq(_lots(BTC, carol), 5, "carol has the other half");
        _assertBooks(_everybody());
    }

    function test_halfOfAnOddPositionRoundsUp() public {
        uint64 ask = _place(alice, BTC, false, 1_000, 3);
        _as(carol, abi.encodeCall(venue.fillOrder, (ask, 3))); // 7 left
        _post(BTC, 885); // equity 295, maintenance 310
        vm.assertEq(uint256(venue.maxLiquidatableLots(BTC, alice)), 4, "four of seven");
    }

    function test_exactlyHalfTheMaintenanceMarginIsMild() public {
        _deposit(SEG, alice, 125);
        _post(BTC, 900); // equity 225, maintenance 450
        vm.assertEq(uint256(venue.maxLiquidatableLots(BTC, alice)), 5, "half");
    }

    function test_theEventTellsWhatHappenedEvenWhenTheAccountCollectsItsOwnFee() public {
        _post(BTC, 912);
        uint64 bid = _place(carol, BTC, true, 912, 10);
        vm.recordLogs();
        _as(alice, abi.encodeCall(venue.liquidate, (BTC, alice, _fills(bid, 10), alice)));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        bytes memory told = logs[logs.length - 1].data;
        vm.assertTrue(logs[logs.length - 1].topics[0] == IClearinghouse.Liquidated.selector, "the last event");
        // closes 88 a lot below her price; pays 91 and gets 45 of it back
        vm.assertEq(told, abi.encode(uint64(10), int256(-880), uint256(91), int256(174)), "values");
        vm.assertEq(_equity(SEG, alice), 174, "and that is the truth");
    }

    function test_aDeepBreachLosesAll() public {
        _post(BTC, 912); // equity 220, maintenance 456
        vm.assertEq(uint256(venue.maxLiquidatableLots(BTC, alice)), 10, "all");
        uint64 bid = _place(carol, BTC, true, 912, 12);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.LiquidatesTooMuch.selector, alice, uint64(11), uint64(10));
        _refused(dave, _liquidation(bid, 11), reason);
        _as(dave, _liquidation(bid, 10));
        vm.assertEq(_lots(BTC, alice), 0, "flat");
        // 220 - floor(10 * 912 * 1 %) = 220 - 91, of which 45 to dave and 46 to the fund
        vm.assertEq(_cash(SEG, alice), 129, "cash");
        vm.assertEq(_cash(SEG, dave), 45, "half of the fee, down");
        vm.assertEq(_fund(SEG), 46, "the rest");
        _assertBooks(_everybody());
    }

    function test_theFeeNeverMakesAnAccountBankrupt() public {
        _post(BTC, 891); // equity 10, nominal fee 89
        uint64 bid = _place(carol, BTC, true, 891, 10);
        _as(dave, _liquidation(bid, 10));
        vm.assertEq(_cash(SEG, alice), 0, "to zero and no further");
        vm.assertEq(_cash(SEG, dave), 5, "fee");
        vm.assertEq(_fund(SEG), 5, "fund");
        _assertBooks(_everybody());
    }

    function test_aBankruptAccountIsLiquidatedWithoutFee() public {
        _post(BTC, 880);
        uint64 bid = _place(carol, BTC, true, 880, 10);
        _as(dave, _liquidation(bid, 10));
        vm.assertEq(_cash(SEG, alice), -100, "the shortfall, no fee on top");
        vm.assertEq(_cash(SEG, dave), 0, "no fee");
        vm.assertEq(_fund(SEG), 0, "no fee");
        _assertBooks(_everybody());
    }

    /// The fund takes no token that backs nobody's account: with a hole elsewhere the pool may be below the fee.
    function test_theFeeNeverExceedsThePool() public {
        _drainPool();
        _post(ETH, 34);
        uint64 bid = _place(carol, ETH, true, 34, 100);
        uint256 pool = _pool(SEG);
        vm.assertEq(pool, 3, "almost nothing backs the segment");
        _as(keeper, abi.encodeCall(venue.liquidate, (ETH, dave, _fills(bid, 50), keeper)));
        vm.assertEq(_cash(SEG, keeper), 8, "half of 17, down");
        vm.assertEq(_fund(SEG), 3, "of nine, what was there");
        vm.assertEq(_pool(SEG), 0, "nothing left");
        _assertBooks(_everybody());
    }

    function test_slippageIsBoundedAgainstTheKeeperOnALong() public {
        _post(BTC, 913); // 97 % = 885.61: 886 is the lowest bid that may be used
        uint64 low = _place(carol, BTC, true, 885, 10);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.SlippageTooLarge.selector, low, uint256(885), uint256(886));
        _refused(dave, _liquidation(low, 5), reason);
        uint64 enough = _place(carol, BTC, true, 886, 10);
        _as(dave, _liquidation(enough, 5));
        _assertBooks(_everybody());
    }

    function test_slippageIsBoundedAgainstTheKeeperOnAShort() public {
        _deposit(SEG, dave, 1_100);
        _trade(BTC, carol, dave, 10, 1_000);
        _post(BTC, 1_087); // equity 230, maintenance 544; 103 % = 1119.61: 1119 is the highest ask that may be used
        uint64 high = _place(bob, BTC, false, 1_120, 10);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.SlippageTooLarge.selector, high, uint256(1_120), uint256(1_119));
        bytes memory call_ = abi.encodeCall(venue.liquidate, (BTC, dave, _fills(high, 1), keeper));
        _refused(keeper, call_, reason);
        uint64 enough = _place(bob, BTC, false, 1_119, 10);
        _as(keeper, abi.encodeCall(venue.liquidate, (BTC, dave, _fills(enough, 10), keeper)));
        vm.assertEq(_lots(BTC, dave), 0, "flat");
        vm.assertEq(_cash(SEG, dave), -90, "230 less 32 a lot: bankrupt, so no fee");
        _assertBooks(_everybody());
    }

    function test_ordersOfTheWrongSideMarketOrMakerAreUnusable() public {
        _post(BTC, 912);
        uint64 ask = _place(carol, BTC, false, 912, 10);
        _refused(dave, _liquidation(ask, 1), abi.encodeWithSelector(IClearinghouse.OrderUnusable.selector, ask));
        uint64 elsewhere = _place(carol, ETH, true, 912, 10);
        _refused(
            dave, _liquidation(elsewhere, 1), abi.encodeWithSelector(IClearinghouse.OrderUnusable.selector, elsewhere)
        );
        uint64 own = _place(alice, BTC, true, 912, 10);
        _refused(dave, _liquidation(own, 1), abi.encodeWithSelector(IClearinghouse.OrderUnusable.selector, own));
        _refused(dave, _liquidation(99, 1), abi.encodeWithSelector(IClearinghouse.OrderUnusable.selector, uint64(99)));
    }

    function test_aMakerWithoutMarginCannotTakeOver() public {
        _post(BTC, 912);
        _deposit(SEG, dave, 911);
        uint64 bid = _place(dave, BTC, true, 912, 10);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientMargin.selector, dave, int256(911), uint256(912));
        _refused(keeper, _liquidation(bid, 10), reason);
    }

    function test_aStalePriceStopsLiquidation() public {
        _post(BTC, 912);
        uint64 bid = _place(carol, BTC, true, 912, 10);
        vm.warp(START + PRICE_AGE_MAX + 1);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.StalePrice.selector, BTC, uint64(START), PRICE_AGE_MAX);
        _refused(dave, _liquidation(bid, 10), reason);
    }

    function test_emptyFillsAndUnknownMarketsAreRefused() public {
        _post(BTC, 912);
        bytes memory zero = abi.encodeWithSelector(IClearinghouse.ZeroAmount.selector);
        bytes memory none = abi.encodeCall(venue.liquidate, (BTC, alice, new IClearinghouse.Fill[](0), dave));
        _refused(dave, none, zero);
        uint64 bid = _place(carol, BTC, true, 912, 10);
        _refused(dave, _liquidation(bid, 0), zero);
        bytes memory unknown = abi.encodeWithSelector(IClearinghouse.UnknownMarket.selector, 9);
        _refused(dave, abi.encodeCall(venue.liquidate, (9, alice, _fills(bid, 1), dave)), unknown);
    }

    function test_aMarketWithoutThePositionOffersNothing() public {
        _post(BTC, 912);
        uint64 bid = _place(carol, ETH, true, 37, 10);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.LiquidatesTooMuch.selector, alice, uint64(1), uint64(0));
        _refused(dave, abi.encodeCall(venue.liquidate, (ETH, alice, _fills(bid, 1), dave)), reason);
    }

    function test_severalFillsInOneCall() public {
        _post(BTC, 912);
        IClearinghouse.Fill[] memory fills = new IClearinghouse.Fill[](2);
        fills[0] = IClearinghouse.Fill(_place(carol, BTC, true, 910, 4), 4);
        fills[1] = IClearinghouse.Fill(_place(bob, BTC, true, 905, 6), 6);
        _as(dave, abi.encodeCall(venue.liquidate, (BTC, alice, fills, dave)));
        // 220 - 4 * 2 - 6 * 7 = 170, less the fee of 91 on the mark
        vm.assertEq(_cash(SEG, alice), 79, "cash");
        vm.assertEq(_lots(BTC, bob), -4, "bob bought six back");
        _assertBooks(_everybody());
    }

    function testFuzz_partialLiquidationsKeepTheBooks(uint256 price, uint256 lots, uint256 slip) public {
        price = bound(price, 700, 936);
        _post(BTC, price);
        uint64 size = uint64(bound(lots, 1, venue.maxLiquidatableLots(BTC, alice)));
        uint256 offered = price - price * bound(slip, 0, 290) / 10_000;
        int256 before = _equity(SEG, alice);
        uint64 bid = _place(carol, BTC, true, offered, size);
        _as(dave, _liquidation(bid, size));
        int256 paid = int256(uint256(size) * (price - offered));
        int256 fee = _cash(SEG, dave) + int256(_fund(SEG));
        vm.assertEq(_equity(SEG, alice), before - paid - fee, "slippage and fee, nothing else");
        vm.assertTrue(fee == 0 || _equity(SEG, alice) >= 0, "the fee leaves no shortfall");
        _assertBooks(_everybody());
    }

    function _liquidation(uint64 order, uint64 lots) private view returns (bytes memory) {
        return abi.encodeCall(venue.liquidate, (BTC, alice, _fills(order, lots), dave));
    }

    /// Leaves alice 4,900 under water, nearly all of the pool withdrawn, and dave 100 lots of ETH long near the edge.
    function _drainPool() private {
        _deposit(SEG, dave, 420);
        _trade(ETH, dave, carol, 100, 37);
        _post(BTC, 400);
        _trade(BTC, bob, carol, 10, 400);
        _as(bob, abi.encodeCall(venue.withdraw, (SEG, 26_000)));
        _as(carol, abi.encodeCall(venue.withdraw, (SEG, _pool(SEG) - 3)));
    }
}
