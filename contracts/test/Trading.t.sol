// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IClearinghouse} from "../src/IClearinghouse.sol";
import {Venue} from "./base/Venue.sol";

contract TradingTest is Venue {
    // ---- money in and out

    function test_depositCreditsCashAndPool() public {
        _deposit(SEG, alice, 700);
        vm.assertEq(_cash(SEG, alice), 700, "cash");
        vm.assertEq(_pool(SEG), 700, "pool");
        vm.assertEq(_cash(OTHER_SEG, alice), 0, "the other segment is another account");
        _assertBooks(_everybody());
    }

    function test_depositForCreditsTheNamedAccount() public {
        _fundWith(bob, 50);
        _as(bob, abi.encodeCall(venue.depositFor, (SEG, alice, 50)));
        vm.assertEq(_cash(SEG, alice), 50, "alice");
        vm.assertEq(_cash(SEG, bob), 0, "bob");
    }

    function test_depositFundCreditsTheFundAlone() public {
        _depositFund(SEG, 90);
        vm.assertEq(_fund(SEG), 90, "fund");
        vm.assertEq(_pool(SEG), 0, "pool");
        _assertBooks(_everybody());
    }

    function test_depositsNeedAnOpenSegmentAndAnAmount() public {
        _fundWith(alice, 100);
        bytes memory unknown = abi.encodeWithSelector(IClearinghouse.UnknownSegment.selector, 9);
        _refused(alice, abi.encodeCall(venue.deposit, (9, 100)), unknown);
        _refused(alice, abi.encodeCall(venue.depositFund, (9, 100)), unknown);
        bytes memory zero = abi.encodeWithSelector(IClearinghouse.ZeroAmount.selector);
        _refused(alice, abi.encodeCall(venue.deposit, (SEG, 0)), zero);
        _refused(alice, abi.encodeCall(venue.depositFund, (SEG, 0)), zero);
    }

    function test_withdrawPaysOut() public {
        _deposit(SEG, alice, 700);
        _as(alice, abi.encodeCall(venue.withdraw, (SEG, 300)));
        vm.assertEq(token.balanceOf(alice), 300, "tokens");
        vm.assertEq(_cash(SEG, alice), 400, "cash");
        _refused(
            alice, abi.encodeCall(venue.withdraw, (SEG, 0)), abi.encodeWithSelector(IClearinghouse.ZeroAmount.selector)
        );
        _assertBooks(_everybody());
    }

    function test_withdrawLeavesTheInitialMargin() public {
        _open();
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientMargin.selector, alice, int256(999), uint256(1_000));
        _refused(alice, abi.encodeCall(venue.withdraw, (SEG, 101)), reason);
        _as(alice, abi.encodeCall(venue.withdraw, (SEG, 100)));
    }

    function test_withdrawPaysNoUnrealisedProfit() public {
        _open();
        _post(BTC, 2_000);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientLiquidity.selector, SEG, uint256(1_101), uint256(1_100));
        _refused(alice, abi.encodeCall(venue.withdraw, (SEG, 1_101)), reason);
    }

    function test_withdrawNeverTakesMoreThanThePool() public {
        _open();
        _post(BTC, 400);
        _trade(BTC, bob, carol, 10, 400); // realises bob's profit; alice is 4,900 under water
        _as(bob, abi.encodeCall(venue.withdraw, (SEG, 20_000)));
        _as(carol, abi.encodeCall(venue.withdraw, (SEG, 1_000)));
        vm.assertEq(_cash(SEG, bob), 6_000, "bob's claim");
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientLiquidity.selector, SEG, uint256(5_101), uint256(5_100));
        vm.assertEq(_pool(SEG), 5_100, "pool");
        _refused(bob, abi.encodeCall(venue.withdraw, (SEG, 5_101)), reason);
    }

    function test_withdrawRefusesAStalePrice() public {
        _open();
        vm.warp(START + PRICE_AGE_MAX);
        _as(alice, abi.encodeCall(venue.withdraw, (SEG, 1)));
        vm.warp(START + PRICE_AGE_MAX + 1);
        _refused(alice, abi.encodeCall(venue.withdraw, (SEG, 1)), _stale(BTC));
    }

    // ---- orders

    function test_ordersRestAndAreCancelled() public {
        uint64 order = _place(alice, BTC, true, 990, 4);
        IClearinghouse.OrderState memory resting = venue.order(order);
        vm.assertEq(resting.maker, alice, "maker");
        vm.assertEq(uint256(resting.lots), 4, "lots");
        _refused(
            bob,
            abi.encodeCall(venue.cancelOrder, (order)),
            abi.encodeWithSelector(IClearinghouse.NotOrderOwner.selector, order)
        );
        _as(alice, abi.encodeCall(venue.cancelOrder, (order)));
        bytes memory gone = abi.encodeWithSelector(IClearinghouse.OrderUnusable.selector, order);
        _refused(alice, abi.encodeCall(venue.cancelOrder, (order)), gone);
        _refused(bob, abi.encodeCall(venue.fillOrder, (order, 1)), gone);
    }

    function test_ordersNeedAMarketAPriceAndLots() public {
        bytes memory zero = abi.encodeWithSelector(IClearinghouse.ZeroAmount.selector);
        _refused(alice, abi.encodeCall(venue.placeOrder, (BTC, true, 0, 1)), zero);
        _refused(alice, abi.encodeCall(venue.placeOrder, (BTC, true, 1, 0)), zero);
        bytes memory unknown = abi.encodeWithSelector(IClearinghouse.UnknownMarket.selector, 9);
        _refused(alice, abi.encodeCall(venue.placeOrder, (9, true, 1, 1)), unknown);
    }

    function test_fillsTakeFromTheOrder() public {
        _deposit(SEG, alice, 10_000);
        _deposit(SEG, bob, 10_000);
        uint64 order = _place(alice, BTC, true, 1_010, 10);
        _as(bob, abi.encodeCall(venue.fillOrder, (order, 4)));
        vm.assertEq(uint256(venue.order(order).lots), 6, "left");
        vm.assertEq(_lots(BTC, alice), 4, "long");
        vm.assertEq(_lots(BTC, bob), -4, "short");
        vm.assertEq(_equity(SEG, alice), 9_960, "paid ten over the mark");
        vm.assertEq(_equity(SEG, bob), 10_040, "to the other side");
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.TooManyLots.selector, alice, uint64(7), uint64(6));
        _refused(bob, abi.encodeCall(venue.fillOrder, (order, 7)), reason);
        bytes memory zero = abi.encodeWithSelector(IClearinghouse.ZeroAmount.selector);
        _refused(bob, abi.encodeCall(venue.fillOrder, (order, 0)), zero);
        _assertBooks(_everybody());
    }

    function test_nobodyTradesWithHimself() public {
        _deposit(SEG, alice, 10_000);
        uint64 order = _place(alice, BTC, true, 1_000, 1);
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.OrderUnusable.selector, order);
        _refused(alice, abi.encodeCall(venue.fillOrder, (order, 1)), reason);
    }

    function test_bothSidesNeedTheInitialMargin() public {
        _deposit(SEG, alice, 999);
        _deposit(SEG, bob, 10_000);
        uint64 bid = _place(alice, BTC, true, 1_000, 10);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientMargin.selector, alice, int256(999), uint256(1_000));
        _refused(bob, abi.encodeCall(venue.fillOrder, (bid, 10)), reason);
        uint64 ask = _place(bob, BTC, false, 1_000, 10);
        _refused(alice, abi.encodeCall(venue.fillOrder, (ask, 10)), reason);
        _as(alice, abi.encodeCall(venue.fillOrder, (ask, 9)));
    }

    function test_fillsRefuseAStalePrice() public {
        _open();
        uint64 order = _place(bob, BTC, true, 1_000, 1);
        vm.warp(START + PRICE_AGE_MAX + 1);
        _refused(alice, abi.encodeCall(venue.fillOrder, (order, 1)), _stale(BTC));
    }

    function test_aPriceAheadOfTheChainIsStale() public {
        _open();
        vm.warp(START - 1);
        _refused(alice, abi.encodeCall(venue.withdraw, (SEG, 1)), _stale(BTC));
    }

    /// Every market with lots must be fresh, not only the one traded.
    function test_anotherMarketsStalePriceBlocksAWithdrawal() public {
        _open();
        _deposit(SEG, alice, 1_000);
        _trade(ETH, alice, bob, 10, 37);
        vm.warp(START + PRICE_AGE_MAX + 1);
        _post(BTC, 1_000);
        _refused(alice, abi.encodeCall(venue.withdraw, (SEG, 1)), _stale(ETH));
        _post(ETH, 37);
        _as(alice, abi.encodeCall(venue.withdraw, (SEG, 1)));
    }

    // ---- reducing below the initial margin

    function test_anAccountBelowItsInitialMarginMayReduceAtAFairPrice() public {
        _open();
        _post(BTC, 950); // alice: equity 600, initial 950, maintenance 475
        uint64 bid = _place(bob, BTC, true, 945, 5);
        _as(alice, abi.encodeCall(venue.fillOrder, (bid, 5)));
        vm.assertEq(_lots(BTC, alice), 5, "halved");
        _assertBooks(_everybody());
    }

    function test_anUnhealthyAccountMayReduceIfItsSurplusGrows() public {
        _open();
        _post(BTC, 930); // equity 400, maintenance 465
        uint64 bid = _place(bob, BTC, true, 900, 5);
        _as(alice, abi.encodeCall(venue.fillOrder, (bid, 5))); // equity 250, maintenance 233
        vm.assertEq(_surplus(SEG, alice), 17, "surplus");
    }

    function test_anUnhealthyAccountMayNotReduceItsSurplus() public {
        _open();
        _post(BTC, 930); // surplus -65
        uint64 low = _place(bob, BTC, true, 883, 5);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientMargin.selector, alice, int256(165), uint256(465));
        _refused(alice, abi.encodeCall(venue.fillOrder, (low, 5)), reason); // would be 165 - 233 = -68
        uint64 enough = _place(bob, BTC, true, 884, 5);
        _as(alice, abi.encodeCall(venue.fillOrder, (enough, 5)));
        vm.assertEq(_surplus(SEG, alice), -63, "surplus");
    }

    /// Else a doomed account could hand its loss, and with it the fund's money, to an accomplice.
    function test_reducingFarFromTheMarkIsRefused() public {
        _open();
        _post(BTC, 930);
        uint64 bid = _place(carol, BTC, true, 1, 5);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientMargin.selector, alice, int256(-4_245), uint256(465));
        _refused(alice, abi.encodeCall(venue.fillOrder, (bid, 5)), reason);
        uint64 ask = _place(alice, BTC, false, 1, 5);
        _refused(carol, abi.encodeCall(venue.fillOrder, (ask, 5)), reason);
    }

    function test_aBankruptAccountMayNotWidenItsShortfallByReducing() public {
        _open();
        _post(BTC, 880); // equity -100
        uint64 low = _place(bob, BTC, true, 879, 10);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientMargin.selector, alice, int256(-101), uint256(792));
        _refused(alice, abi.encodeCall(venue.fillOrder, (low, 1)), reason);
        uint64 fair = _place(bob, BTC, true, 880, 10);
        _as(alice, abi.encodeCall(venue.fillOrder, (fair, 10)));
        vm.assertEq(_cash(SEG, alice), -100, "the loss is realised, no more");
        _assertBooks(_everybody());
    }

    function test_aFlipIsNoReduction() public {
        _open();
        _post(BTC, 950);
        uint64 bid = _place(bob, BTC, true, 950, 16);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientMargin.selector, alice, int256(600), uint256(665));
        _refused(alice, abi.encodeCall(venue.fillOrder, (bid, 17)), _tooManyLots(bob, 17, 16));
        uint64 more = _place(bob, BTC, true, 950, 17);
        _refused(alice, abi.encodeCall(venue.fillOrder, (more, 17)), reason);
        _as(alice, abi.encodeCall(venue.fillOrder, (bid, 16)));
        vm.assertEq(_lots(BTC, alice), -6, "flipped with enough margin");
        _assertBooks(_everybody());
    }

    // ---- batches

    function test_multicallIsAllOrNothing() public {
        _fundWith(alice, 100);
        bytes[] memory calls = new bytes[](2);
        calls[0] = abi.encodeCall(venue.deposit, (SEG, 60));
        calls[1] = abi.encodeCall(venue.withdraw, (SEG, 61));
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientMargin.selector, alice, int256(-1), uint256(0));
        _refused(alice, abi.encodeCall(venue.multicall, (calls)), reason);
        vm.assertEq(_cash(SEG, alice), 0, "nothing happened");
        calls[1] = abi.encodeCall(venue.withdraw, (SEG, 10));
        _as(alice, abi.encodeCall(venue.multicall, (calls)));
        vm.assertEq(_cash(SEG, alice), 50, "both happened");
    }

    function _tooManyLots(address account, uint64 lots, uint64 available) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IClearinghouse.TooManyLots.selector, account, lots, available);
    }

    function _stale(uint16 market) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IClearinghouse.StalePrice.selector, market, uint64(START), PRICE_AGE_MAX);
    }

    /// alice: 10 long with 1,100; bob: 10 short with 20,000; carol: 5,000, no position.
    function _open() private {
        _deposit(SEG, alice, 1_100);
        _deposit(SEG, bob, 20_000);
        _deposit(SEG, carol, 5_000);
        _trade(BTC, alice, bob, 10, 1_000);
    }
}
