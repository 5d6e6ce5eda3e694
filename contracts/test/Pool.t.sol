// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IBackstopPool} from "../src/IBackstopPool.sol";
import {IClearinghouse} from "../src/IClearinghouse.sol";
import {Pooled} from "./base/Pooled.sol";

contract PoolTest is Pooled {
    function test_aHoleIsFilledAndTheMemberPaysItsPart() public {
        _underwrite(underwriter, 100_000);
        _long(0, alice, 1_000);
        _post(BTC, 500); // 4000 short
        vm.assertEq(_hole(0, alice), 4_000, "hole");
        _claim(0, alice, 4_000);
        vm.roll(block.number + 3);
        vm.assertEq(_draw(0, alice), 4_000, "paid");
        vm.assertEq(_equity(SEG, alice), 0, "filled, not overfilled");
        IBackstopPool.Member memory known = pool.member(address(members[0]));
        vm.assertEq(known.stake, STAKE - 400, "a tenth of its own");
        vm.assertEq(known.outstanding, 3_600, "the rest from the capital");
        vm.assertEq(pool.capital(), 100_400 - 3_600, "capital, two premiums included");
        _assertPool();
    }

    function test_twoVenuesFailAtOnceAndShareProRata() public {
        _underwrite(underwriter, 2_600); // and 400 of premiums: 3000
        _long(0, alice, 1_000);
        _long(1, bob, 1_000);
        _post(BTC, 500); // both 4000 short
        _claim(0, alice, 4_000); // asks 3600
        _claim(1, bob, 4_000); // asks 3000
        vm.roll(block.number + 3);
        // granted: floor(4000 * 3000 / 6600) = 1818 each, whoever comes first
        vm.assertEq(_draw(1, bob), 1_818, "bob's part");
        vm.assertEq(_draw(0, alice), 1_818, "alice's part");
        vm.assertEq(pool.member(address(members[0])).outstanding, 1_818 - 182, "own part rounds up");
        vm.assertEq(pool.member(address(members[1])).outstanding, 1_818 - 455, "own part rounds up");
        vm.assertEq(pool.capital(), 3_000 - 1_636 - 1_363, "one unit of rounding stays");
        _assertPool();
        venue = venues[0];
        vm.assertEq(_equity(SEG, alice), -4_000 + 1_818, "the rest is for the next tier");
    }

    function test_noProofNoPayment() public {
        _underwrite(underwriter, 100_000);
        _long(0, alice, 1_000);
        bytes memory none = abi.encodeWithSelector(IBackstopPool.NoShortfall.selector, address(members[0]), SEG, alice);
        _poolRefuses(keeper, _claimCall(0, alice, 1), none);
        _post(BTC, 500);
        bytes memory more = abi.encodeWithSelector(IBackstopPool.ExceedsShortfall.selector, 4_001, 4_000);
        _poolRefuses(keeper, _claimCall(0, alice, 4_001), more);
        _claim(0, alice, 4_000);
        vm.roll(block.number + 3);
        _post(BTC, 1_000); // the price came back
        _poolRefuses(keeper, _drawCall(0, alice), none);
        _post(BTC, 800); // 1000 short
        vm.assertEq(_draw(0, alice), 1_000, "never more than is short when it is paid");
        _assertPool();
    }

    function test_aStalePriceProvesNothing() public {
        _underwrite(underwriter, 100_000);
        _long(0, alice, 1_000);
        _post(BTC, 500);
        uint64 postedAt = uint64(block.timestamp);
        vm.warp(block.timestamp + PRICE_AGE_MAX + 1);
        bytes memory stale =
            abi.encodeWithSelector(IClearinghouse.StalePrice.selector, BTC, postedAt, PRICE_AGE_MAX);
        _poolRefuses(keeper, _claimCall(0, alice, 1), stale);
    }

    function test_theVenuesOwnFundComesFirst() public {
        _underwrite(underwriter, 100_000);
        _long(0, alice, 1_000);
        _depositFund(SEG, 1_500);
        _post(BTC, 500);
        vm.assertEq(_hole(0, alice), 2_500, "what the fund could pay is not the pool's");
        _asAdmin(abi.encodeCall(venue.setFundFloor, (SEG, 1_500)));
        vm.assertEq(_hole(0, alice), 4_000, "a floor is not spendable");
    }

    function test_capStakeAndPremiumBound() public {
        _underwrite(underwriter, 100_000);
        _long(0, alice, 1_000);
        _post(BTC, 1);
        address id = address(members[0]);
        bytes memory terms = abi.encodeCall(pool.setMember, (id, keeper, 3_000, 1_000, 200));
        assertAllowed(admin, address(pool), terms);
        bytes memory cap = abi.encodeWithSelector(IBackstopPool.ExceedsCap.selector, id, 3_600, 3_000);
        _poolRefuses(keeper, _claimCall(0, alice, 4_000), cap);
        bytes memory release = abi.encodeCall(pool.releaseStake, (id, admin, STAKE - 99));
        assertAllowed(admin, address(pool), release);
        bytes memory stake = abi.encodeWithSelector(IBackstopPool.ExceedsStake.selector, id, 100, 99);
        _poolRefuses(keeper, _claimCall(0, alice, 1_000), stake);
        uint64 until = pool.member(id).coveredUntil;
        vm.assertEq(uint256(until), START + 365 days, "200 units buy a year of a cap of 10000 at 2 %");
        vm.warp(until + 1);
        _poolRefuses(keeper, _claimCall(0, alice, 1), abi.encodeWithSelector(IBackstopPool.NotCovered.selector, id, until));
    }

    function test_onlyTheOperatorAndOnlyInTime() public {
        _underwrite(underwriter, 100_000);
        _long(0, alice, 1_000);
        _post(BTC, 500);
        address id = address(members[0]);
        _poolRefuses(alice, _claimCall(0, alice, 1), abi.encodeWithSelector(IBackstopPool.NotOperator.selector, id, alice));
        bytes memory nothing = abi.encodeWithSelector(IBackstopPool.NothingClaimed.selector, id, SEG, alice);
        _poolRefuses(keeper, _drawCall(0, alice), nothing);
        uint64 opened = uint64(block.number);
        _claim(0, alice, 1_000);
        _poolRefuses(
            keeper,
            _claimCall(0, alice, 1_000),
            abi.encodeWithSelector(IBackstopPool.AlreadyClaimed.selector, id, SEG, alice)
        );
        bytes memory early = abi.encodeWithSelector(IBackstopPool.ClaimsStillOpen.selector, uint64(1), opened + 2);
        _poolRefuses(keeper, _drawCall(0, alice), early);
        vm.roll(opened + 3);
        bytes memory late = abi.encodeWithSelector(IBackstopPool.ClaimsClosed.selector, uint64(1), opened + 52);
        _poolRefuses(keeper, _claimCall(0, alice, 1), late);
        vm.assertEq(_draw(0, alice), 1_000, "paid");
        _poolRefuses(keeper, _drawCall(0, alice), nothing);
        vm.roll(opened + 53);
        _claim(0, alice, 500);
        vm.assertEq(uint256(pool.round().number), 2, "a new round");
    }

    function test_underwritersCannotLeaveALossBehind() public {
        _underwrite(underwriter, 10_000);
        uint256 shares = pool.sharesOf(underwriter);
        assertAllowed(underwriter, address(pool), abi.encodeCall(pool.giveNotice, (shares)));
        bytes memory redeem = abi.encodeCall(pool.redeem, ());
        bytes memory running = abi.encodeWithSelector(IBackstopPool.NoticeRunning.selector, uint64(START + 7 days));
        _poolRefuses(underwriter, redeem, running);
        _long(0, alice, 1_000);
        vm.warp(START + 7 days);
        _post(BTC, 500);
        _claim(0, alice, 4_000);
        _poolRefuses(underwriter, redeem, abi.encodeWithSelector(IBackstopPool.RoundOpen.selector, uint64(1)));
        vm.roll(block.number + 3);
        _draw(0, alice);
        vm.roll(block.number + 51);
        bytes memory back = assertAllowed(underwriter, address(pool), redeem);
        vm.assertLe(abi.decode(back, (uint256)), 10_400 - 3_600, "its part of the loss stays");
        _assertPool();
    }

    function test_aRoundIsOverWithItsLastPayment() public {
        _underwrite(underwriter, 100_000);
        _long(0, alice, 1_000);
        _long(1, bob, 1_000);
        _post(BTC, 500);
        _claim(0, alice, 4_000);
        _claim(1, bob, 3_000);
        vm.assertEq(pool.round().unpaid, 2, "two claims");
        vm.roll(block.number + 3);
        _draw(0, alice);
        vm.assertEq(pool.round().unpaid, 1, "one is paid");
        bytes memory closed = abi.encodeWithSelector(
            IBackstopPool.ClaimsClosed.selector, uint64(1), pool.round().drawsUntilBlock
        );
        _poolRefuses(keeper, _claimCall(1, bob, 1), closed);
        _draw(1, bob);
        _claim(1, bob, 1_000);
        vm.assertEq(pool.round().number, 2, "the next round begins at once");
        _assertPool();
    }

    function test_whatIsRepaidMayBeDrawnAgain() public {
        _underwrite(underwriter, 100_000);
        _long(0, alice, 1_000);
        _post(BTC, 500);
        _claim(0, alice, 4_000);
        vm.roll(block.number + 3);
        _draw(0, alice);
        _approvePool(bob, 9_000);
        assertAllowed(bob, address(pool), abi.encodeCall(pool.repay, (address(members[0]), 9_000)));
        vm.assertEq(pool.member(address(members[0])).outstanding, 0, "no more than is outstanding is taken");
        vm.assertEq(pool.capital(), 100_400, "whole again");
        _assertPool();
    }

    /// Whatever is asked by whom and whoever draws first: the capital pays no more than it has, nobody more than its cap,
    /// and what each got per unit asked differs by less than a unit.
    function testFuzz_scarceCapitalIsSharedProRata(uint256 capital, uint256 a, uint256 b, bool bobFirst) public {
        capital = bound(capital, 1, 12_000);
        _underwrite(underwriter, capital);
        _long(0, alice, 1_000);
        _long(1, bob, 1_000);
        _post(BTC, 1); // both 8990 short
        (a, b) = (bound(a, 1, 8_990), bound(b, 1, 8_990));
        _claim(0, alice, a);
        _claim(1, bob, b);
        vm.roll(block.number + 3);
        uint256 had = pool.capital();
        uint256 asked = pool.round().asked;
        (uint256 paidA, uint256 paidB) = (_tryDraw(bobFirst ? 1 : 0), _tryDraw(bobFirst ? 0 : 1));
        if (bobFirst) (paidA, paidB) = (paidB, paidA);
        if (asked <= had) {
            vm.assertEq(paidA, a, "enough for alice");
            vm.assertEq(paidB, b, "enough for bob");
        } else {
            vm.assertEq(paidA, a * had / asked, "alice's part");
            vm.assertEq(paidB, b * had / asked, "bob's part");
            vm.assertLe(pool.capital(), 4, "all of it but rounding is paid");
        }
        _assertPool();
    }

    function _tryDraw(uint256 i) private returns (uint256) {
        (bool ok, bytes memory back) = callAs(keeper, address(pool), _drawCall(i, i == 0 ? alice : bob));
        return ok ? abi.decode(back, (uint256)) : 0;
    }
}
