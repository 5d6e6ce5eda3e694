// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @title What a protocol shows a shared backstop pool: how deep a hole is, and where money for it goes.
///
/// The pool trusts the code that its admin admitted here and nothing that a caller says. A protocol that cannot answer
/// (a stale price, an unknown account) must revert, so that no answer is never read as "nothing is missing".
interface IPoolMember {
    /// The token in which shortfalls are counted and paid.
    function asset() external view returns (address);

    /// What `account` is short in this block beyond what the protocol's own fund could pay, in units of `asset`.
    function shortfallOf(uint16 segment, address account) external view returns (uint256);

    /// Takes exactly `amount` of `asset` from the caller and credits all of it to `account`.
    function cover(uint16 segment, address account, uint256 amount) external;
}
