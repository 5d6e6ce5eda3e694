// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IClearinghouse} from "../src/IClearinghouse.sol";
import {Crash} from "./Waterfall.t.sol";

/// bob paid 540 and carol 360 of alice's 900: that is what the segment owes them.
contract RestitutionTest is Crash {
    function setUp() public override {
        super.setUp();
        IClearinghouse.Winner[] memory winners = new IClearinghouse.Winner[](2);
        winners[0] = IClearinghouse.Winner(bob, 6, 540);
        winners[1] = IClearinghouse.Winner(carol, 4, 360);
        _as(keeper, abi.encodeCall(venue.autoDeleverage, (BTC, alice, winners)));
    }

    function test_whatWinnersPaidIsBookedAndIsNoEquity() public view {
        vm.assertEq(_claim(bob), 540, "bob");
        vm.assertEq(_claim(carol), 360, "carol");
        (, uint256 total) = venue.claims(SEG, alice);
        vm.assertEq(total, 900, "all");
        vm.assertEq(_equity(SEG, bob), 20_000 + 1_200 - 540, "no part of equity");
        _assertBooks(_everybody());
    }

    function test_theFundPaysWhatIsAboveItsFloorProRata() public {
        _asAdmin(abi.encodeCall(venue.setFundFloor, (SEG, 1_000)));
        _depositFund(SEG, 1_100);
        _as(keeper, _pay(60, 40)); // 100 of 900
        vm.assertEq(_claim(bob), 480, "bob is still owed");
        vm.assertEq(_cash(SEG, carol), 20_000 + 800 - 360 + 40, "carol got cash");
        vm.assertEq(_fund(SEG), 1_000, "the floor stands");
        vm.assertEq(venue.restitution(SEG).unpaid, 0, "the round is paid");
        _refused(keeper, _pay(1, 1), abi.encodeWithSelector(IClearinghouse.FundShort.selector, SEG, 800, 0));
        _assertBooks(_everybody());
        _assertOtherSegmentUntouched();
    }

    function test_nobodyGetsMoreThanHisShareOrTwiceInARound() public {
        _depositFund(SEG, 100);
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.ShareTooLarge.selector, carol, 41, 40);
        _refused(keeper, abi.encodeCall(venue.payClaims, (SEG, _payers(carol, 41))), reason);
        _as(keeper, abi.encodeCall(venue.payClaims, (SEG, _payers(carol, 10))));
        reason = abi.encodeWithSelector(IClearinghouse.AlreadyCharged.selector, carol, uint64(1));
        _refused(keeper, abi.encodeCall(venue.payClaims, (SEG, _payers(carol, 1))), reason);
        reason = abi.encodeWithSelector(IClearinghouse.ShareTooLarge.selector, dave, 1, 0);
        _refused(keeper, abi.encodeCall(venue.payClaims, (SEG, _payers(dave, 1))), reason);
    }

    function test_aRoundThatStaysUnpaidIsOpenedAnew() public {
        _depositFund(SEG, 100);
        _as(keeper, abi.encodeCall(venue.payClaims, (SEG, _payers(carol, 40))));
        vm.roll(block.number + venue.ROUND_BLOCKS());
        _as(keeper, abi.encodeCall(venue.payClaims, (SEG, _payers(carol, 23)))); // ceil(60 * 320 / 860)
        vm.assertEq(uint256(venue.restitution(SEG).number), 2, "another round");
    }

    function test_neverMoreThanTheFundHasWhenItIsPaid() public {
        _depositFund(SEG, 100);
        _as(keeper, abi.encodeCall(venue.payClaims, (SEG, _payers(carol, 40))));
        _asAdmin(abi.encodeCall(venue.setFundFloor, (SEG, 50)));
        bytes memory reason = abi.encodeWithSelector(IClearinghouse.FundShort.selector, SEG, 60, 10);
        _refused(keeper, abi.encodeCall(venue.payClaims, (SEG, _payers(bob, 60))), reason);
    }

    function test_onlyByAKeeperForAnAmount() public {
        _depositFund(SEG, 100);
        _refused(dave, _pay(60, 40), _missingRole(dave, venue.KEEPER_ROLE()));
        bytes memory zero = abi.encodeWithSelector(IClearinghouse.ZeroAmount.selector);
        _refused(keeper, _pay(60, 0), zero);
        _refused(keeper, abi.encodeCall(venue.payClaims, (SEG, new IClearinghouse.Payer[](0))), zero);
        bytes memory unknown = abi.encodeWithSelector(IClearinghouse.UnknownSegment.selector, 9);
        _refused(keeper, abi.encodeCall(venue.payClaims, (9, _payers(bob, 1))), unknown);
    }

    /// However the fund fills, claims and fund fall by the same, and in the end everybody is whole.
    function testFuzz_claimsArePaidToTheLastUnit(uint256[8] memory refills) public {
        for (uint256 i = 0; i < refills.length; i++) {
            (, uint256 owed) = venue.claims(SEG, bob);
            if (owed == 0) break;
            uint256 refill = i + 1 == refills.length ? owed : bound(refills[i], 1, 300);
            _depositFund(SEG, refill);
            _payAll();
            vm.roll(block.number + venue.ROUND_BLOCKS());
        }
        vm.assertEq(_claim(bob) + _claim(carol), 0, "nothing is owed");
        vm.assertEq(_cash(SEG, bob), 20_000 + 1_200, "bob is whole");
        vm.assertEq(_cash(SEG, carol), 20_000 + 800, "carol is whole");
        _assertBooks(_everybody());
        _assertOtherSegmentUntouched();
    }

    function _payAll() private {
        (uint256 fund, uint256 owed) = (_fund(SEG), _claim(bob) + _claim(carol));
        uint256 budget = fund < owed ? fund : owed;
        uint256 toBob = (budget * _claim(bob) + owed - 1) / owed;
        if (toBob > _claim(bob)) toBob = _claim(bob);
        if (toBob > 0) _as(keeper, abi.encodeCall(venue.payClaims, (SEG, _payers(bob, toBob))));
        uint256 rest = budget - toBob;
        if (rest > 0) _as(keeper, abi.encodeCall(venue.payClaims, (SEG, _payers(carol, rest))));
    }

    function _pay(uint256 toBob, uint256 toCarol) private view returns (bytes memory) {
        IClearinghouse.Payer[] memory claimants = new IClearinghouse.Payer[](2);
        claimants[0] = IClearinghouse.Payer(bob, toBob);
        claimants[1] = IClearinghouse.Payer(carol, toCarol);
        return abi.encodeCall(venue.payClaims, (SEG, claimants));
    }

    function _claim(address account) private view returns (uint256 claim) {
        (claim,) = venue.claims(SEG, account);
    }
}

/// Money from outside for somebody's shortfall, and the gate before withdrawals while there is one.
contract CoverAndGateTest is Crash {
    function test_anybodyMayPayAShortfallOnceTheFundIsSpent() public {
        _depositFund(SEG, 1);
        _fundWith(dave, 5_000);
        _refused(dave, _cover(100), abi.encodeWithSelector(IClearinghouse.FundCanPay.selector, SEG, 1));
        _as(keeper, abi.encodeCall(venue.drawInsurance, (SEG, alice, 1)));
        _refused(dave, _cover(900), abi.encodeWithSelector(IClearinghouse.ExceedsShortfall.selector, 900, 899));
        _as(dave, _cover(899));
        vm.assertEq(_equity(SEG, alice), 0, "made whole");
        _refused(dave, _cover(1), abi.encodeWithSelector(IClearinghouse.NotBankrupt.selector, alice, int256(0)));
        _assertBooks(_everybody());
        _assertOtherSegmentUntouched();
    }

    function test_aShortfallShutsWithdrawalsOfItsSegmentForAWhile() public {
        _as(keeper, abi.encodeCall(venue.shutWithdrawals, (SEG, alice)));
        uint64 until = uint64(block.number + venue.GATE_BLOCKS());
        vm.assertEq(uint256(venue.gatedUntil(SEG)), until, "until");
        bytes memory shut = abi.encodeWithSelector(IClearinghouse.WithdrawalsShut.selector, SEG, until);
        _refused(bob, abi.encodeCall(venue.withdraw, (SEG, 1)), shut);
        _as(dave, abi.encodeCall(venue.withdraw, (OTHER_SEG, 7)));
        _deposit(SEG, bob, 1); // money may come in
        vm.roll(until);
        _as(bob, abi.encodeCall(venue.withdraw, (SEG, 1)));
    }

    function test_theGateNeedsSomebodyShortAndAKeeper() public {
        bytes memory healthy = abi.encodeWithSelector(IClearinghouse.NotBankrupt.selector, bob, int256(21_200));
        _refused(keeper, abi.encodeCall(venue.shutWithdrawals, (SEG, bob)), healthy);
        bytes memory role = _missingRole(dave, venue.KEEPER_ROLE());
        _refused(dave, abi.encodeCall(venue.shutWithdrawals, (SEG, alice)), role);
        _refused(dave, abi.encodeCall(venue.openWithdrawals, (SEG)), role);
        vm.warp(START + PRICE_AGE_MAX + 1);
        bytes memory stale =
            abi.encodeWithSelector(IClearinghouse.StalePrice.selector, BTC, uint64(START), PRICE_AGE_MAX);
        _refused(keeper, abi.encodeCall(venue.shutWithdrawals, (SEG, alice)), stale);
    }

    function test_aKeeperOpensTheGateAgain() public {
        _as(keeper, abi.encodeCall(venue.shutWithdrawals, (SEG, alice)));
        _as(keeper, abi.encodeCall(venue.openWithdrawals, (SEG)));
        _as(bob, abi.encodeCall(venue.withdraw, (SEG, 1)));
    }

    function _cover(uint256 amount) private view returns (bytes memory) {
        return abi.encodeCall(venue.coverShortfall, (SEG, alice, amount));
    }
}
