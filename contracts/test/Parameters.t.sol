// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Clearinghouse} from "../src/Clearinghouse.sol";
import {IClearinghouse} from "../src/IClearinghouse.sol";
import {IPriceFeed} from "../src/IPriceFeed.sol";
import {IRiskSteward} from "../src/IRiskSteward.sol";
import {PriceFeed} from "../src/PriceFeed.sol";
import {Venue} from "./base/Venue.sol";

/// Margins start at 500 / 1000 bps; a step is at most 20 %, sixty seconds apart, between 300 and 4000 bps.
contract StewardTest is Venue {
    function setUp() public override {
        super.setUp();
        assertAllowed(admin, address(steward), abi.encodeCall(steward.setBounds, (BTC, _bounds())));
    }

    function test_aStepInsideTheBoundsPasses() public {
        _move(600, 1_200);
        IClearinghouse.MarketConfig memory config = venue.market(BTC).config;
        vm.assertEq(uint256(config.maintenanceMarginBps), 600, "maintenance");
        vm.assertEq(uint256(config.initialMarginBps), 1_200, "initial");
        (uint64 margin, uint64 funding) = steward.lastMovedAt(BTC);
        vm.assertEq(uint256(margin), START, "time of the margin step");
        vm.assertEq(uint256(funding), 0, "funding has its own clock");
    }

    function test_aParameterJumpIsRefusedBothWays() public {
        _marginRefused(601, 1_200, abi.encodeWithSelector(IRiskSteward.StepTooLarge.selector, BTC, 500, 601));
        _marginRefused(600, 1_201, abi.encodeWithSelector(IRiskSteward.StepTooLarge.selector, BTC, 1_000, 1_201));
        _marginRefused(399, 1_000, abi.encodeWithSelector(IRiskSteward.StepTooLarge.selector, BTC, 500, 399));
        _marginRefused(500, 799, abi.encodeWithSelector(IRiskSteward.StepTooLarge.selector, BTC, 1_000, 799));
        _move(400, 800);
    }

    function test_aStepThatIsTooLargeByAFractionIsRefused() public {
        uint16[4] memory walk = [uint16(1_200), 1_440, 1_728, 2_004];
        for (uint256 i = 0; i < walk.length; i++) {
            _move(500, walk[i]);
            vm.warp(block.timestamp + 60);
        }
        // 20 % of 2004 is 400.8
        _marginRefused(500, 2_405, abi.encodeWithSelector(IRiskSteward.StepTooLarge.selector, BTC, 2_004, 2_405));
        _move(500, 2_404);
    }

    function test_theNextStepWaits() public {
        _move(600, 1_200);
        vm.warp(START + 59);
        _marginRefused(600, 1_200, abi.encodeWithSelector(IRiskSteward.TooSoon.selector, BTC, uint64(START + 60)));
        vm.warp(START + 60);
        _move(720, 1_440);
    }

    function test_neverOutsideFloorAndCeiling() public {
        _move(400, 800);
        vm.warp(START + 60);
        _move(320, 800);
        vm.warp(START + 120);
        _marginRefused(299, 800, abi.encodeWithSelector(IRiskSteward.OutOfRange.selector, BTC, 299));
        _marginRefused(320, 4_001, abi.encodeWithSelector(IRiskSteward.OutOfRange.selector, BTC, 4_001));
        _move(300, 800);
    }

    function test_maintenanceStaysBelowInitial() public {
        _marginRefused(800, 800, abi.encodeWithSelector(IRiskSteward.MarginOrder.selector, 800, 800));
    }

    function testFuzz_aWalkNeverLeavesTheBounds(uint256[16] memory steps) public {
        IRiskSteward.Bounds memory limits = _bounds();
        for (uint256 i = 0; i < steps.length; i++) {
            IClearinghouse.MarketConfig memory was = venue.market(BTC).config;
            uint16 maintenance = uint16(was.maintenanceMarginBps * bound(steps[i], 75, 125) / 100);
            uint16 initial = uint16(was.initialMarginBps * bound(steps[i] >> 16, 75, 125) / 100);
            vm.warp(block.timestamp + bound(steps[i] >> 32, 0, 240));
            bytes memory call_ = abi.encodeCall(steward.moveMargin, (BTC, maintenance, initial));
            (bool ok,) = callAs(keeper, address(steward), call_);
            IClearinghouse.MarketConfig memory now_ = venue.market(BTC).config;
            if (!ok) {
                vm.assertEq(_digest(was), _digest(now_), "a refusal changes nothing");
                continue;
            }
            vm.assertTrue(now_.maintenanceMarginBps >= limits.marginFloorBps, "floor");
            vm.assertTrue(now_.initialMarginBps <= limits.marginCeilingBps, "ceiling");
            _assertStep(was.maintenanceMarginBps, now_.maintenanceMarginBps, limits.maxStepBps);
            _assertStep(was.initialMarginBps, now_.initialMarginBps, limits.maxStepBps);
        }
    }

    function test_fundingMovesInBoundedSteps() public {
        _moveFunding(1e15);
        _fundingRefused(2e15, abi.encodeWithSelector(IRiskSteward.TooSoon.selector, BTC, uint64(START + 60)));
        vm.warp(START + 60);
        _fundingRefused(-1, abi.encodeWithSelector(IRiskSteward.StepTooLarge.selector, BTC, uint256(1e15), uint256(1)));
        _moveFunding(2e15);
        vm.warp(START + 120);
        _moveFunding(3e15);
        vm.warp(START + 180);
        _fundingRefused(3e15 + 1, abi.encodeWithSelector(IRiskSteward.OutOfRange.selector, BTC, uint256(3e15 + 1)));
        _fundingRefused(-4e15, abi.encodeWithSelector(IRiskSteward.OutOfRange.selector, BTC, uint256(4e15)));
    }

    function test_rolesAreNeeded() public {
        bytes memory move = abi.encodeCall(steward.moveMargin, (BTC, 600, 1_200));
        assertRefused(alice, address(steward), move, _missingRole(alice, steward.MOVER_ROLE()));
        bytes memory funding = abi.encodeCall(steward.moveFundingRate, (BTC, 1));
        assertRefused(alice, address(steward), funding, _missingRole(alice, steward.MOVER_ROLE()));
        bytes memory bounds = abi.encodeCall(steward.setBounds, (BTC, _bounds()));
        assertRefused(keeper, address(steward), bounds, _missingRole(keeper, steward.DEFAULT_ADMIN_ROLE()));
        _refused(keeper, abi.encodeCall(venue.setMargin, (BTC, 600, 1_200)), _missingRole(keeper, venue.STEWARD_ROLE()));
        _refused(admin, abi.encodeCall(venue.setFundingRate, (BTC, 1)), _missingRole(admin, venue.STEWARD_ROLE()));
    }

    function test_aMarketWithoutBoundsDoesNotMove() public {
        bytes memory none = abi.encodeWithSelector(IRiskSteward.NoBounds.selector, ETH);
        assertRefused(keeper, address(steward), abi.encodeCall(steward.moveMargin, (ETH, 600, 1_200)), none);
        assertRefused(keeper, address(steward), abi.encodeCall(steward.moveFundingRate, (ETH, 1)), none);
    }

    function test_boundsThatBoundNothingAreRefused() public {
        IRiskSteward.Bounds memory limits = _bounds();
        limits.marginFloorBps = 0;
        _boundsRefused(BTC, limits, abi.encodeWithSelector(IRiskSteward.OutOfRange.selector, BTC, 0));
        limits.marginFloorBps = 4_001;
        _boundsRefused(BTC, limits, abi.encodeWithSelector(IRiskSteward.OutOfRange.selector, BTC, 4_001));
        limits = _bounds();
        limits.marginCeilingBps = 10_001;
        _boundsRefused(BTC, limits, abi.encodeWithSelector(IRiskSteward.OutOfRange.selector, BTC, 10_001));
        limits = _bounds();
        limits.maxStepBps = 10_001;
        _boundsRefused(BTC, limits, abi.encodeWithSelector(IRiskSteward.OutOfRange.selector, BTC, 10_001));
        _boundsRefused(9, _bounds(), abi.encodeWithSelector(IClearinghouse.UnknownMarket.selector, 9));
    }

    // ---- what funding does to the books

    function test_fundingMovesMoneyFromLongsToShorts() public {
        _deposit(SEG, alice, 2_000);
        _deposit(SEG, bob, 2_000);
        _trade(BTC, alice, bob, 10, 1_000);
        _moveFunding(1e15);
        vm.warp(START + 5_000); // index 5
        vm.assertEq(_equity(SEG, alice), 1_950, "long pays");
        vm.assertEq(_equity(SEG, bob), 2_050, "short receives");
        _moveFunding(2e15);
        vm.assertEq(venue.market(BTC).fundingIndex, 5, "kept in the index");
        vm.assertEq(_equity(SEG, alice), 1_950, "a new rate alone moves nothing");
        vm.warp(START + 6_000); // index 7
        vm.assertEq(_equity(SEG, alice), 1_930, "the new rate");
        _post(BTC, 1_000);
        _trade(BTC, bob, alice, 10, 1_000);
        vm.assertEq(_cash(SEG, alice), 1_930, "realised");
        vm.assertEq(_cash(SEG, bob), 2_070, "realised");
        _assertBooks(_everybody());
    }

    function _move(uint16 maintenance, uint16 initial) private {
        assertAllowed(keeper, address(steward), abi.encodeCall(steward.moveMargin, (BTC, maintenance, initial)));
    }

    function _moveFunding(int256 rate) private {
        assertAllowed(keeper, address(steward), abi.encodeCall(steward.moveFundingRate, (BTC, rate)));
    }

    function _marginRefused(uint16 maintenance, uint16 initial, bytes memory reason) private {
        assertRefused(keeper, address(steward), abi.encodeCall(steward.moveMargin, (BTC, maintenance, initial)), reason);
    }

    function _fundingRefused(int256 rate, bytes memory reason) private {
        assertRefused(keeper, address(steward), abi.encodeCall(steward.moveFundingRate, (BTC, rate)), reason);
    }

    function _boundsRefused(uint16 market, IRiskSteward.Bounds memory limits, bytes memory reason) private {
        assertRefused(admin, address(steward), abi.encodeCall(steward.setBounds, (market, limits)), reason);
    }

    function _assertStep(uint256 from, uint256 to, uint256 maxStepBps) private pure {
        uint256 step = from > to ? from - to : to - from;
        vm.assertLe(step * 1e4, from * maxStepBps, "step");
    }

    function _digest(IClearinghouse.MarketConfig memory config) private pure returns (uint256) {
        return uint256(keccak256(abi.encode(config)));
    }
}

contract PriceFeedTest is Venue {
    function test_reportersPostAndTimeRunsForward() public {
        PriceFeed feed = feeds[BTC];
        vm.warp(START + 10);
        feed.post(1_234, uint64(START + 5));
        (uint256 price, uint64 updatedAt) = feed.latest();
        vm.assertEq(price, 1_234, "price");
        vm.assertEq(uint256(updatedAt), START + 5, "time");
        feed.post(1_235, uint64(START + 5));
        (price,) = venue.markPrice(BTC);
        vm.assertEq(price, 1_235, "a second report of the same second replaces the first");
    }

    function test_badReportsAreRefused() public {
        _postRefused(0, START, abi.encodeWithSelector(IPriceFeed.ZeroPrice.selector));
        bytes memory future =
            abi.encodeWithSelector(IPriceFeed.FromTheFuture.selector, uint64(START + 1), uint64(START));
        _postRefused(1, START + 1, future);
        bytes memory backwards =
            abi.encodeWithSelector(IPriceFeed.BackwardsInTime.selector, uint64(START - 1), uint64(START));
        _postRefused(1, START - 1, backwards);
        bytes memory tooWide =
            abi.encodeWithSelector(SafeCast.SafeCastOverflowedUintDowncast.selector, uint8(128), uint256(1) << 128);
        _postRefused(uint256(1) << 128, START, tooWide);
    }

    function test_onlyReportersPost() public {
        bytes memory reason = _missingRole(alice, feeds[BTC].REPORTER_ROLE());
        assertRefused(alice, address(feeds[BTC]), abi.encodeCall(PriceFeed.post, (1, uint64(START))), reason);
    }

    function test_aFeedWithoutAReportIsStale() public {
        PriceFeed silent = new PriceFeed(admin);
        _asAdmin(abi.encodeCall(venue.listMarket, (7, _config(SEG, address(silent)))));
        _deposit(SEG, alice, 1_000);
        _deposit(SEG, bob, 1_000);
        uint64 order = _place(alice, 7, true, 1, 1);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.StalePrice.selector, uint16(7), uint64(0), PRICE_AGE_MAX);
        _refused(bob, abi.encodeCall(venue.fillOrder, (order, 1)), reason);
    }

    function _postRefused(uint256 price, uint256 at, bytes memory reason) private {
        bytes memory call_ = abi.encodeCall(PriceFeed.post, (price, uint64(at)));
        assertRefused(address(this), address(feeds[BTC]), call_, reason);
    }
}

contract ListingTest is Venue {
    function test_listingNeedsTheAdmin() public {
        bytes memory reason = _missingRole(keeper, venue.DEFAULT_ADMIN_ROLE());
        _refused(keeper, abi.encodeCall(venue.openSegment, (5)), reason);
        _refused(keeper, abi.encodeCall(venue.setFundFloor, (SEG, 1)), reason);
        _refused(keeper, abi.encodeCall(venue.listMarket, (7, _config(SEG, address(1)))), reason);
    }

    function test_nothingIsListedTwiceOrNowhere() public {
        bytes memory segment = abi.encodeWithSelector(Clearinghouse.SegmentExists.selector, SEG);
        _refused(admin, abi.encodeCall(venue.openSegment, (SEG)), segment);
        bytes memory market = abi.encodeWithSelector(Clearinghouse.MarketExists.selector, BTC);
        _refused(admin, abi.encodeCall(venue.listMarket, (BTC, _config(SEG, address(1)))), market);
        bytes memory unknown = abi.encodeWithSelector(IClearinghouse.UnknownSegment.selector, 9);
        _refused(admin, abi.encodeCall(venue.listMarket, (7, _config(9, address(1)))), unknown);
        _refused(admin, abi.encodeCall(venue.setFundFloor, (9, 1)), unknown);
    }

    function test_aSegmentHasAtMostEightMarkets() public {
        for (uint16 market = 10; market < 16; market++) {
            _asAdmin(abi.encodeCall(venue.listMarket, (market, _config(SEG, address(feeds[BTC])))));
        }
        vm.assertEq(venue.segmentMarkets(SEG).length, 8, "full");
        bytes memory reason = abi.encodeWithSelector(Clearinghouse.TooManyMarkets.selector, SEG);
        _refused(admin, abi.encodeCall(venue.listMarket, (16, _config(SEG, address(1)))), reason);
    }

    function test_unusableConfigsAreRefused() public {
        IClearinghouse.MarketConfig memory config = _config(SEG, address(0));
        _configRefused(config);
        config = _config(SEG, address(1));
        config.maxPriceAgeSeconds = 0;
        _configRefused(config);
        config = _config(SEG, address(1));
        config.maintenanceMarginBps = 0;
        _configRefused(config);
        config.maintenanceMarginBps = config.initialMarginBps;
        _configRefused(config);
        config = _config(SEG, address(1));
        config.initialMarginBps = 10_001;
        _configRefused(config);
        config = _config(SEG, address(1));
        config.liquidationFeeBps = 10_001;
        _configRefused(config);
        config = _config(SEG, address(1));
        config.maxSlippageBps = 10_000;
        _configRefused(config);
    }

    function test_viewsNameWhatIsUnknown() public {
        bytes memory segment = abi.encodeWithSelector(IClearinghouse.UnknownSegment.selector, 9);
        _refused(alice, abi.encodeCall(venue.accountState, (9, alice)), segment);
        _refused(alice, abi.encodeCall(venue.segmentFunds, (9)), segment);
        _refused(alice, abi.encodeCall(venue.segmentMarkets, (9)), segment);
        bytes memory market = abi.encodeWithSelector(IClearinghouse.UnknownMarket.selector, 9);
        _refused(alice, abi.encodeCall(venue.market, (9)), market);
        _refused(alice, abi.encodeCall(venue.markPrice, (9)), market);
        _refused(alice, abi.encodeCall(venue.maxLiquidatableLots, (9, alice)), market);
    }

    function test_viewsAnswerAtAStalePrice() public {
        _deposit(SEG, alice, 2_000);
        _deposit(SEG, bob, 2_000);
        _trade(BTC, alice, bob, 10, 1_000);
        vm.warp(START + 1 days);
        vm.assertEq(_equity(SEG, alice), 2_000, "equity");
        vm.assertEq(uint256(venue.maxLiquidatableLots(BTC, alice)), 0, "healthy");
        vm.assertEq(venue.settlementToken(), address(token), "token");
    }

    function _configRefused(IClearinghouse.MarketConfig memory config) private {
        bytes memory reason = abi.encodeWithSelector(Clearinghouse.BadMarketConfig.selector, uint16(7));
        _refused(admin, abi.encodeCall(venue.listMarket, (7, config)), reason);
    }
}
