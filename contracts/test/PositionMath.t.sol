// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Position, PositionMath} from "../src/PositionMath.sol";
import {Test} from "./base/Test.sol";

contract PositionMathTest is Test {
    using PositionMath for Position;

    int256 private constant LOTS_MAX = 1e12;
    int256 private constant NET_MAX = 1e24;

    function testFuzz_aTradeMovesExactlyItsValue(int64 lots, int192 quote, int256 delta, int256 net) public pure {
        (Position memory held, int256 d, int256 n) = _shape(lots, quote, delta, net);
        (Position memory next, int256 realised) = held.trade(d, n);
        vm.assertEq(int256(next.lots), held.lots + d, "lots add up");
        vm.assertEq(next.quote + realised, held.quote - d * n, "cash + quote changes by -d * net");
        if (next.lots == 0) vm.assertEq(int256(next.quote), 0, "no lots, no quote");
    }

    function testFuzz_aTradeAtTheMarkKeepsEquity(int64 lots, int192 quote, int256 delta, int256 net) public pure {
        (Position memory held, int256 d, int256 n) = _shape(lots, quote, delta, net);
        (Position memory next, int256 realised) = held.trade(d, n);
        vm.assertEq(next.pnl(n) + realised, held.pnl(n), "equity is kept");
    }

    function testFuzz_aFlipIsACloseAndAnOpening(int64 lots, int192 quote, int256 delta, int256 net) public pure {
        (Position memory held, int256 d, int256 n) = _shape(lots, quote, delta, net);
        vm.assume(PositionMath.reduces(held.lots, d) && !PositionMath.onlyReduces(held.lots, d));
        (Position memory once, int256 realisedOnce) = held.trade(d, n);
        (Position memory flat, int256 realisedFlat) = held.trade(-held.lots, n);
        (Position memory twice, int256 realisedOpening) = flat.trade(d + held.lots, n);
        vm.assertEq(realisedOnce, realisedFlat + realisedOpening, "same realised");
        vm.assertEq(int256(once.lots), int256(twice.lots), "same lots");
        vm.assertEq(int256(once.quote), int256(twice.quote), "same quote");
    }

    function testFuzz_marginRoundsUp(uint64 lots, uint128 price, uint16 bps) public pure {
        uint256 exact = uint256(lots) * price * bps;
        uint256 margin = PositionMath.margin(lots, price, bps);
        vm.assertTrue(margin * 1e4 >= exact, "never below");
        vm.assertTrue(margin == 0 || (margin - 1) * 1e4 < exact, "by less than one unit");
    }

    function test_partialCloseTruncatesTowardZero() public pure {
        (Position memory next, int256 realised) = Position(3, -100).trade(-1, 40);
        vm.assertEq(realised, 40 - 33, "a third of the quote, truncated");
        vm.assertEq(int256(next.quote), -67, "the remainder stays");
        (next, realised) = Position(-3, 100).trade(1, 40);
        vm.assertEq(realised, 33 - 40, "and the same for a short");
        vm.assertEq(int256(next.quote), 67, "the remainder stays");
    }

    function _shape(int64 lots, int192 quote, int256 delta, int256 net)
        private
        pure
        returns (Position memory held, int256 d, int256 n)
    {
        held.lots = int64(lots % LOTS_MAX);
        held.quote = held.lots == int64(0) ? int192(0) : int192(quote % (LOTS_MAX * NET_MAX));
        d = delta % LOTS_MAX;
        n = net % NET_MAX;
    }
}
