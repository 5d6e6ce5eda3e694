// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IClearinghouse} from "../src/IClearinghouse.sol";
import {Venue} from "./base/Venue.sol";

/// alice is 10 long at 1000 with 1,100 of cash against bob (6 short) and carol (4 short). At 800 she is 900 under water.
abstract contract Crash is Venue {
    function setUp() public virtual override {
        super.setUp();
        _deposit(SEG, alice, 1_100);
        _deposit(SEG, bob, 20_000);
        _deposit(SEG, carol, 20_000);
        _deposit(OTHER_SEG, dave, 7_777);
        _depositFund(OTHER_SEG, 333);
        _trade(BTC, alice, bob, 6, 1_000);
        _trade(BTC, alice, carol, 4, 1_000);
        _post(BTC, 800);
    }

    /// Recovery in one segment is nothing to another.
    function _assertOtherSegmentUntouched() internal view {
        vm.assertEq(_pool(OTHER_SEG), 7_777, "the other pool");
        vm.assertEq(_fund(OTHER_SEG), 333, "the other fund");
    }
}

contract InsuranceTest is Crash {
    function test_theFundPaysExactlyWhatIsAsked() public {
        _depositFund(SEG, 1_000);
        _as(keeper, _draw(700));
        vm.assertEq(_equity(SEG, alice), -200, "shortfall left");
        vm.assertEq(_fund(SEG), 300, "fund");
        _as(keeper, _draw(200));
        vm.assertEq(_equity(SEG, alice), 0, "made whole, no more");
        _assertBooks(_everybody());
        _assertOtherSegmentUntouched();
    }

    function test_neverMoreThanTheShortfall() public {
        _depositFund(SEG, 1_000);
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.ExceedsShortfall.selector, uint256(901), uint256(900));
        _refused(keeper, _draw(901), reason);
    }

    function test_neverBelowTheFloor() public {
        _depositFund(SEG, 1_000);
        _asAdmin(abi.encodeCall(venue.setFundFloor, (SEG, 400)));
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.FundShort.selector, SEG, uint256(601), uint256(600));
        _refused(keeper, _draw(601), reason);
        _as(keeper, _draw(600));
        _asAdmin(abi.encodeCall(venue.setFundFloor, (SEG, 500)));
        reason = abi.encodeWithSelector(IClearinghouse.FundShort.selector, SEG, uint256(1), uint256(0));
        _refused(keeper, _draw(1), reason);
    }

    function test_onlyForABankruptAccount() public {
        _depositFund(SEG, 1_000);
        _post(BTC, 890);
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.NotBankrupt.selector, alice, int256(0));
        _refused(keeper, _draw(1), reason);
    }

    function test_onlyByAKeeperAtAFreshPriceForAnAmount() public {
        _depositFund(SEG, 1_000);
        _refused(dave, _draw(1), _missingRole(dave, venue.KEEPER_ROLE()));
        _refused(keeper, _draw(0), abi.encodeWithSelector(IClearinghouse.ZeroAmount.selector));
        bytes memory unknown = abi.encodeWithSelector(IClearinghouse.UnknownSegment.selector, 9);
        _refused(keeper, abi.encodeCall(venue.drawInsurance, (9, alice, 1)), unknown);
        vm.warp(START + PRICE_AGE_MAX + 1);
        bytes memory stale =
            abi.encodeWithSelector(IClearinghouse.StalePrice.selector, BTC, uint64(START), PRICE_AGE_MAX);
        _refused(keeper, _draw(1), stale);
    }

    function _draw(uint256 amount) private view returns (bytes memory) {
        return abi.encodeCall(venue.drawInsurance, (SEG, alice, amount));
    }
}

contract DeleverageTest is Crash {
    function test_winnersPayTheShortfallExactly() public {
        IClearinghouse.Winner[] memory winners = new IClearinghouse.Winner[](2);
        winners[0] = IClearinghouse.Winner(bob, 6, 540);
        winners[1] = IClearinghouse.Winner(carol, 4, 360);
        _as(keeper, abi.encodeCall(venue.autoDeleverage, (BTC, alice, winners)));
        vm.assertEq(_cash(SEG, alice), 0, "closed at her bankruptcy price");
        vm.assertEq(_lots(BTC, alice), 0, "flat");
        vm.assertEq(_cash(SEG, bob), 20_000 + 1_200 - 540, "profit less six tenths");
        vm.assertEq(_cash(SEG, carol), 20_000 + 800 - 360, "profit less four tenths");
        vm.assertEq(venue.market(BTC).openInterestLots, 0, "open interest");
        _assertBooks(_everybody());
        _assertOtherSegmentUntouched();
    }

    function test_notWhileTheFundCanPay() public {
        _depositFund(SEG, 901);
        _asAdmin(abi.encodeCall(venue.setFundFloor, (SEG, 900)));
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.FundCanPay.selector, SEG, uint256(1));
        _refused(keeper, _adl(bob, 6, 540), reason);
        _as(keeper, abi.encodeCall(venue.drawInsurance, (SEG, alice, 1)));
        _as(keeper, _adl(bob, 6, 540)); // ceil(899 * 6 / 10)
    }

    function test_eachPartRoundsUpOfWhatIsLeft() public {
        _depositFund(SEG, 1);
        _as(keeper, abi.encodeCall(venue.drawInsurance, (SEG, alice, 1)));
        _as(keeper, _adl(bob, 3, 270)); // ceil(899 * 3 / 10) = ceil(269.7)
        vm.assertEq(_equity(SEG, alice), -629, "899 less 270");
        _as(keeper, _adl(carol, 3, 270)); // ceil(629 * 3 / 7) = ceil(269.57)
        vm.assertEq(_equity(SEG, alice), -359, "629 less 270");
        _as(keeper, _adl(bob, 3, 270)); // ceil(359 * 3 / 4) = ceil(269.25)
        vm.assertEq(_equity(SEG, alice), -89, "359 less 270");
    }

    function test_notALoser() public {
        _trade(BTC, bob, _daveWithMargin(), 1, 700); // dave is short at 700: 100 a lot under water at 800
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.NotAWinner.selector, dave);
        _refused(keeper, _adl(dave, 1, 1_000), reason);
    }

    function test_notOneAtBreakEven() public {
        _trade(BTC, bob, _daveWithMargin(), 1, 800);
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.NotAWinner.selector, dave);
        _refused(keeper, _adl(dave, 1, 1_000), reason);
    }

    function test_notTheSameSideNorABystanderNorTheBankrupt() public {
        _trade(BTC, _daveWithMargin(), bob, 1, 700); // long and winning
        bytes memory notWinner = abi.encodeWithSelector(IClearinghouse.NotAWinner.selector, dave);
        _refused(keeper, _adl(dave, 1, 1_000), notWinner);
        _refused(keeper, _adl(admin, 1, 1_000), abi.encodeWithSelector(IClearinghouse.NotAWinner.selector, admin));
        _refused(keeper, _adl(alice, 1, 1_000), abi.encodeWithSelector(IClearinghouse.NotAWinner.selector, alice));
    }

    function test_neverBelowZeroEquity() public {
        // dave wins on BTC and loses as much on ETH: equity 25 against a share of 90
        _post(BTC, 1_000);
        _deposit(SEG, dave, 525);
        _trade(BTC, bob, dave, 1, 1_000);
        _trade(ETH, dave, carol, 100, 37);
        _post(BTC, 800);
        _post(ETH, 30);
        vm.assertEq(_equity(SEG, dave), 25, "little is left");
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.WinnerBelowZero.selector, dave, int256(-65));
        _refused(keeper, _adl(dave, 1, 1_000), reason);
    }

    function test_neverAboveTheLimitOfTheCall() public {
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.LossAboveLimit.selector, bob, uint256(540), uint256(539));
        _refused(keeper, _adl(bob, 6, 539), reason);
    }

    function test_neverMoreLotsThanEitherSideHas() public {
        bytes memory winner = abi.encodeWithSelector(IClearinghouse.TooManyLots.selector, bob, uint64(7), uint64(6));
        _refused(keeper, _adl(bob, 7, 1_000), winner);
        bytes memory loser = abi.encodeWithSelector(IClearinghouse.TooManyLots.selector, alice, uint64(11), uint64(10));
        _refused(keeper, _adl(bob, 11, 1_000), loser);
        bytes memory elsewhere =
            abi.encodeWithSelector(IClearinghouse.TooManyLots.selector, alice, uint64(1), uint64(0));
        bytes memory call_ = abi.encodeCall(venue.autoDeleverage, (ETH, alice, _winners(bob, 1, 1_000)));
        _refused(keeper, call_, elsewhere);
    }

    function test_onlyForABankruptAccount() public {
        _post(BTC, 890);
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.NotBankrupt.selector, alice, int256(0));
        _refused(keeper, _adl(bob, 1, 1_000), reason);
    }

    function test_onlyByAKeeperAtAFreshPriceForLots() public {
        _refused(dave, _adl(bob, 6, 540), _missingRole(dave, venue.KEEPER_ROLE()));
        bytes memory zero = abi.encodeWithSelector(IClearinghouse.ZeroAmount.selector);
        _refused(keeper, _adl(bob, 0, 540), zero);
        IClearinghouse.Winner[] memory none = new IClearinghouse.Winner[](0);
        _refused(keeper, abi.encodeCall(venue.autoDeleverage, (BTC, alice, none)), zero);
        vm.warp(START + PRICE_AGE_MAX + 1);
        bytes memory stale =
            abi.encodeWithSelector(IClearinghouse.StalePrice.selector, BTC, uint64(START), PRICE_AGE_MAX);
        _refused(keeper, _adl(bob, 6, 540), stale);
    }

    function test_aBankruptShortIsDeleveragedAgainstLongs() public {
        _post(BTC, 1_000);
        _deposit(SEG, dave, 500);
        _trade(BTC, bob, dave, 4, 1_000); // dave 4 short, bob 2 short
        _deposit(SEG, admin, 2_000);
        _trade(BTC, admin, bob, 1, 1_000);
        _post(BTC, 1_200); // dave: 500 - 800
        vm.assertEq(_equity(SEG, dave), -300, "shortfall");
        _as(keeper, abi.encodeCall(venue.autoDeleverage, (BTC, dave, _winners(alice, 4, 300))));
        vm.assertEq(_cash(SEG, dave), 0, "made whole");
        vm.assertEq(_lots(BTC, alice), 6, "four closed");
        vm.assertEq(_equity(SEG, alice), 1_100 + 2_000 - 300, "at the cost of the shortfall");
        _assertBooks(_everybody());
    }

    /// Whatever the split, rounding up of what is left sums to the shortfall: never a unit more, none left behind.
    function testFuzz_roundedPartsSumToTheShortfall(uint256 price, uint256[6] memory cuts) public {
        _post(BTC, bound(price, 1, 889));
        int256 shortfall = -_equity(SEG, alice);
        int256 before = _equity(SEG, bob) + _equity(SEG, carol);
        uint64[2] memory left = [uint64(6), uint64(4)];
        for (uint256 i = 0; i < cuts.length; i++) {
            uint256 who = cuts[i] % 2;
            if (left[who] == 0 || _equity(SEG, alice) >= 0) continue;
            uint64 lots = uint64(bound(cuts[i] >> 1, 1, left[who]));
            left[who] -= lots;
            _as(keeper, _adl(who == 0 ? bob : carol, lots, type(uint256).max));
        }
        if (_equity(SEG, alice) < 0) _as(keeper, _rest(left));
        vm.assertEq(_equity(SEG, alice), 0, "the shortfall is covered");
        vm.assertEq(_equity(SEG, bob) + _equity(SEG, carol), before - shortfall, "by exactly its amount");
        _assertBooks(_everybody());
        _assertOtherSegmentUntouched();
    }

    function _rest(uint64[2] memory left) private view returns (bytes memory) {
        uint256 count = (left[0] > 0 ? 1 : 0) + (left[1] > 0 ? 1 : 0);
        IClearinghouse.Winner[] memory winners = new IClearinghouse.Winner[](count);
        if (left[0] > 0) winners[0] = IClearinghouse.Winner(bob, left[0], type(uint256).max);
        if (left[1] > 0) winners[count - 1] = IClearinghouse.Winner(carol, left[1], type(uint256).max);
        return abi.encodeCall(venue.autoDeleverage, (BTC, alice, winners));
    }

    function _adl(address winner, uint64 lots, uint256 maxLoss) private view returns (bytes memory) {
        return abi.encodeCall(venue.autoDeleverage, (BTC, alice, _winners(winner, lots, maxLoss)));
    }

    function _daveWithMargin() private returns (address) {
        _deposit(SEG, dave, 5_000);
        return dave;
    }
}

/// alice's position is closed at the mark first: she is flat and owes 900; the others' equity is 42,000 together.
contract SocialiseTest is Crash {
    function setUp() public override {
        super.setUp();
        uint64 bid = _place(bob, BTC, true, 800, 10);
        _as(keeper, abi.encodeCall(venue.liquidate, (BTC, alice, _fills(bid, 10), keeper)));
        vm.assertEq(_cash(SEG, alice), -900, "a realised shortfall");
        vm.assertEq(_pool(SEG), 41_100, "pool");
    }

    function test_everybodyPaysHisShare() public {
        // bob 21,200 and carol 20,800 of 42,000
        IClearinghouse.Payer[] memory payers = new IClearinghouse.Payer[](2);
        payers[0] = IClearinghouse.Payer(bob, 455); // ceil(454.28)
        payers[1] = IClearinghouse.Payer(carol, 445);
        _as(keeper, abi.encodeCall(venue.socialiseLoss, (SEG, alice, payers)));
        vm.assertEq(_cash(SEG, alice), 0, "made whole");
        vm.assertEq(_equity(SEG, bob), 21_200 - 455, "bob");
        vm.assertEq(_equity(SEG, carol), 20_800 - 445, "carol");
        vm.assertEq(venue.socialisation(SEG, alice).unpaid, 0, "the round is paid");
        (uint256 claim, uint256 total) = venue.claims(SEG, bob);
        vm.assertEq(claim, 455, "booked as a claim");
        vm.assertEq(total, 900, "all of it");
        _assertBooks(_everybody());
        _assertOtherSegmentUntouched();
    }

    function test_aShareIsBounded() public {
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.ShareTooLarge.selector, carol, uint256(447), uint256(446));
        _refused(keeper, _charge(carol, 447), reason);
        _as(keeper, _charge(carol, 446)); // ceil(900 * 20,800 / 42,000)
    }

    function test_nobodyIsChargedTwiceInARound() public {
        _as(keeper, _charge(bob, 100));
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.AlreadyCharged.selector, bob, uint64(1));
        _refused(keeper, _charge(bob, 1), reason);
        IClearinghouse.Payer[] memory twice = new IClearinghouse.Payer[](2);
        (twice[0], twice[1]) = (IClearinghouse.Payer(carol, 1), IClearinghouse.Payer(carol, 1));
        reason = abi.encodeWithSelector(IClearinghouse.AlreadyCharged.selector, carol, uint64(1));
        _refused(keeper, abi.encodeCall(venue.socialiseLoss, (SEG, alice, twice)), reason);
        vm.assertEq(uint256(venue.chargedInRound(SEG, alice, bob)), 1, "on record");
        vm.assertEq(uint256(venue.chargedInRound(SEG, alice, carol)), 0, "not on record");
    }

    function test_neverMoreThanTheShortfall() public {
        _as(keeper, _charge(bob, 455));
        _as(alice, _payIn(alice, 400)); // 45 left
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.ExceedsShortfall.selector, uint256(46), uint256(45));
        _refused(keeper, _charge(carol, 46), reason);
        _as(keeper, _charge(carol, 45));
    }

    function test_notWithPositionsOpen() public {
        _post(BTC, 1_000);
        _deposit(SEG, dave, 1_100);
        _trade(ETH, dave, carol, 200, 37);
        _post(ETH, 30);
        bytes memory call_ = abi.encodeCall(venue.socialiseLoss, (SEG, dave, _payers(bob, 1)));
        _refused(keeper, call_, abi.encodeWithSelector(IClearinghouse.PositionsOpen.selector, dave));
    }

    function test_notWhileTheFundCanPay() public {
        _depositFund(SEG, 1);
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.FundCanPay.selector, SEG, uint256(1));
        _refused(keeper, _charge(bob, 1), reason);
    }

    function test_notForASolventAccount() public {
        _as(alice, _payIn(alice, 900));
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.NotBankrupt.selector, alice, int256(0));
        _refused(keeper, _charge(bob, 1), reason);
    }

    function test_onlyByAKeeperForAnAmount() public {
        _refused(dave, _charge(bob, 1), _missingRole(dave, venue.KEEPER_ROLE()));
        bytes memory zero = abi.encodeWithSelector(IClearinghouse.ZeroAmount.selector);
        _refused(keeper, _charge(bob, 0), zero);
        IClearinghouse.Payer[] memory none = new IClearinghouse.Payer[](0);
        _refused(keeper, abi.encodeCall(venue.socialiseLoss, (SEG, alice, none)), zero);
        bytes memory unknown = abi.encodeWithSelector(IClearinghouse.UnknownSegment.selector, 9);
        _refused(keeper, abi.encodeCall(venue.socialiseLoss, (9, alice, _payers(bob, 1))), unknown);
    }

    function test_aPayersStalePriceStopsTheCharge() public {
        vm.warp(START + PRICE_AGE_MAX + 1);
        bytes memory stale =
            abi.encodeWithSelector(IClearinghouse.StalePrice.selector, BTC, uint64(START), PRICE_AGE_MAX);
        _refused(keeper, _charge(carol, 1), stale);
    }

    function test_thoseWithoutEquityPayNothing() public {
        bytes memory none = abi.encodeWithSelector(IClearinghouse.ShareTooLarge.selector, admin, uint256(1), uint256(0));
        _refused(keeper, _charge(admin, 1), none);
        bytes memory self = abi.encodeWithSelector(IClearinghouse.ShareTooLarge.selector, alice, uint256(1), uint256(0));
        _refused(keeper, _charge(alice, 1), self);
        // dave's equity is in the other segment
        bytes memory outside =
            abi.encodeWithSelector(IClearinghouse.ShareTooLarge.selector, dave, uint256(1), uint256(0));
        _refused(keeper, _charge(dave, 1), outside);
    }

    function test_anUnpaidRoundReopensAfterTwentyBlocks() public {
        _as(keeper, _charge(bob, 100));
        vm.roll(1_019);
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.AlreadyCharged.selector, bob, uint64(1));
        _refused(keeper, _charge(bob, 100), reason);
        vm.roll(1_020);
        _as(keeper, _charge(bob, 100));
        vm.assertEq(uint256(venue.socialisation(SEG, alice).number), 2, "round");
        vm.assertEq(venue.socialisation(SEG, alice).shortfall, 800, "what was left");
        vm.assertEq(venue.socialisation(SEG, alice).base, 41_100 + 800, "others' equity at that time");
    }

    function test_aNewShortfallOpensANewRound() public {
        _as(keeper, _charge(bob, 455));
        _as(keeper, _charge(carol, 445));
        _as(alice, _payIn(alice, 1_100));
        _post(BTC, 1_000);
        _trade(BTC, alice, carol, 10, 1_000);
        _post(BTC, 880);
        uint64 bid = _place(bob, BTC, true, 880, 10);
        _as(keeper, abi.encodeCall(venue.liquidate, (BTC, alice, _fills(bid, 10), keeper)));
        _as(keeper, _charge(bob, 1));
        vm.assertEq(uint256(venue.socialisation(SEG, alice).number), 2, "round");
        vm.assertEq(venue.socialisation(SEG, alice).shortfall, 100, "the new one");
    }

    function testFuzz_sharesCoverTheShortfallAndNobodyGoesBelowZero(uint256 price, uint256 moreCash) public {
        _deposit(SEG, dave, bound(moreCash, 1, 1e12));
        _post(BTC, bound(price, 1, 900));
        address[3] memory others = [bob, carol, dave];
        uint256 base = _pool(SEG) + 900;
        uint256 left = 900;
        IClearinghouse.Payer[] memory payers = new IClearinghouse.Payer[](3);
        uint256 count;
        for (uint256 i = 0; i < others.length && left > 0; i++) {
            uint256 share = (900 * uint256(_equity(SEG, others[i])) + base - 1) / base;
            payers[i] = IClearinghouse.Payer(others[i], share < left ? share : left);
            left -= payers[i].amount;
            count++;
        }
        assembly ("memory-safe") {
            mstore(payers, count)
        }
        vm.assertEq(left, 0, "the largest shares suffice");
        _as(keeper, abi.encodeCall(venue.socialiseLoss, (SEG, alice, payers)));
        vm.assertEq(_cash(SEG, alice), 0, "made whole");
        for (uint256 i = 0; i < others.length; i++) {
            vm.assertTrue(_equity(SEG, others[i]) >= 0, "nobody below zero");
        }
        _assertBooks(_everybody());
        _assertOtherSegmentUntouched();
    }

    function _charge(address payer, uint256 amount) private view returns (bytes memory) {
        return abi.encodeCall(venue.socialiseLoss, (SEG, alice, _payers(payer, amount)));
    }

    function _payIn(address owner, uint256 amount) private returns (bytes memory) {
        _fundWith(owner, amount);
        return abi.encodeCall(venue.deposit, (SEG, amount));
    }
}
