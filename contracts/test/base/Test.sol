// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// The few of forge's cheat codes that these tests use.
interface Vm {
    struct Log {
        bytes32[] topics;
        bytes data;
        address emitter;
    }

    function warp(uint256 timestamp) external;
    function roll(uint256 blockNumber) external;
    function prank(address caller) external;
    function assume(bool condition) external pure;
    function recordLogs() external;
    function getRecordedLogs() external returns (Log[] memory logs);
    function assertEq(uint256 left, uint256 right, string calldata what) external pure;
    function assertEq(int256 left, int256 right, string calldata what) external pure;
    function assertEq(address left, address right, string calldata what) external pure;
    function assertEq(bytes calldata left, bytes calldata right, string calldata what) external pure;
    function assertTrue(bool condition, string calldata what) external pure;
    function assertLe(uint256 left, uint256 right, string calldata what) external pure;
    function assertGt(uint256 left, uint256 right, string calldata what) external pure;
}

/// @title What every test contract starts from: the cheat codes and a way to squeeze fuzzed numbers into a range.
abstract contract Test {
    bool public constant IS_TEST = true;
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    /// Maps any number into [low, high], evenly.
    function bound(uint256 raw, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + raw % (high - low + 1);
    }

    /// Calls as `caller` and returns whether it succeeded and what came back.
    function callAs(address caller, address target, bytes memory data) internal returns (bool ok, bytes memory back) {
        vm.prank(caller);
        (ok, back) = target.call(data);
    }

    /// The call must fail, and with exactly this error and these values.
    function assertRefused(address caller, address target, bytes memory data, bytes memory reason) internal {
        (bool ok, bytes memory back) = callAs(caller, target, data);
        vm.assertTrue(!ok, "the call should have been refused");
        vm.assertEq(back, reason, "refused for another reason");
    }

    function assertAllowed(address caller, address target, bytes memory data) internal returns (bytes memory back) {
        bool ok;
        (ok, back) = callAs(caller, target, data);
        if (!ok) {
            assembly ("memory-safe") {
                revert(add(back, 32), mload(back))
            }
        }
    }
}
