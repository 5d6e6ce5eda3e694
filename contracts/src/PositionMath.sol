// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";

/// One account's holding in one market, packed into a word: the widths bound what a trade may build up, so that every
/// later sum over positions, prices and margins stays far inside 256 bits.
struct Position {
    int64 lots;
    int192 quote;
}

/// @title The arithmetic of a position, free of storage.
///
/// `net` is always price - funding index of the moment. The value of a trade of d lots is d * net exactly, so the sum
/// cash + quote of the two sides of a trade never changes; where a division is needed (the part of `quote` that a partial
/// close takes along) its remainder stays in `quote` and nothing is lost.
library PositionMath {
    using SafeCast for int256;

    uint256 internal constant BPS = 1e4;

    /// Applies a trade of `delta` lots. What is closed goes from the position to cash, what is opened goes to `quote`; a
    /// trade through zero closes fully and opens the rest. Postcondition: lots == 0 implies quote == 0.
    function trade(Position memory held, int256 delta, int256 net)
        internal
        pure
        returns (Position memory next, int256 realised)
    {
        int256 lots = held.lots;
        int256 quote = held.quote;
        if (reduces(lots, delta)) {
            uint256 open = SignedMath.abs(lots);
            int256 closed = int256(Math.min(SignedMath.abs(delta), open));
            int256 closedQuote = quote * closed / int256(open);
            int256 closedLots = lots > 0 ? closed : -closed;
            realised = closedQuote + closedLots * net;
            lots -= closedLots;
            quote -= closedQuote;
            delta += closedLots;
        }
        next = Position({lots: (lots + delta).toInt64(), quote: (quote - delta * net).toInt192()});
    }

    /// Whether a trade of `delta` lots takes away from a position of `lots`.
    function reduces(int256 lots, int256 delta) internal pure returns (bool) {
        return (lots > 0 && delta < 0) || (lots < 0 && delta > 0);
    }

    /// Whether it takes away from it and opens nothing on the other side.
    function onlyReduces(int256 lots, int256 delta) internal pure returns (bool) {
        return reduces(lots, delta) && SignedMath.abs(delta) <= SignedMath.abs(lots);
    }

    /// Unrealised profit: the value of the lots plus what was paid or received for them.
    function pnl(Position memory held, int256 net) internal pure returns (int256) {
        return held.lots * net + held.quote;
    }

    /// ceil(lots * price * bps / 1e4): the requirement rounds up, against the account.
    function margin(uint256 lots, uint256 price, uint256 bps) internal pure returns (uint256) {
        return Math.ceilDiv(lots * price * bps, BPS);
    }

    function size(Position memory held) internal pure returns (uint64) {
        return uint64(SignedMath.abs(held.lots));
    }
}
