// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

import {IClearinghouse} from "../src/IClearinghouse.sol";
import {Venue} from "./base/Venue.sol";

/// A token that calls back into the venue during a transfer and passes on what comes of it.
contract CallbackToken is ERC20 {
    address private _target;
    bytes private _call;

    constructor() ERC20("Callback", "CB") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function arm(address target, bytes calldata call_) external {
        (_target, _call) = (target, call_);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (_target == address(0)) return;
        (bool ok, bytes memory back) = _target.call(_call);
        if (ok) return;
        assembly ("memory-safe") {
            revert(add(back, 32), mload(back))
        }
    }
}

/// A token that keeps one percent of every transfer.
contract FeeToken is ERC20 {
    constructor() ERC20("Fee", "FEE") {}

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        uint256 fee = from == address(0) ? 0 : amount / 100;
        super._update(from, to, amount - fee);
        if (fee > 0) super._update(from, address(0xFEE), fee);
    }
}

contract ReentryTest is Venue {
    CallbackToken private _callback;

    function setUp() public override {
        super.setUp();
        _callback = new CallbackToken();
        _deployVenue(_callback);
        // The token is itself a trader, an admin, a keeper and the steward: no role may open the door.
        _grant(address(venue), venue.DEFAULT_ADMIN_ROLE(), address(_callback));
        _grant(address(venue), venue.KEEPER_ROLE(), address(_callback));
        _grant(address(venue), venue.STEWARD_ROLE(), address(_callback));
        _callback.mint(alice, 1_000);
        assertAllowed(alice, address(_callback), abi.encodeCall(_callback.approve, (address(venue), 1_000)));
        _as(alice, abi.encodeCall(venue.deposit, (SEG, 500)));
    }

    function test_noMutatorIsEnteredDuringATransferIn() public {
        bytes[] memory calls = _mutators();
        for (uint256 i = 0; i < calls.length; i++) {
            _callback.arm(address(venue), calls[i]);
            _refused(alice, abi.encodeCall(venue.deposit, (SEG, 100)), _reentrant());
            _refused(alice, abi.encodeCall(venue.depositFund, (SEG, 100)), _reentrant());
        }
    }

    function test_noMutatorIsEnteredDuringAPayOut() public {
        bytes[] memory calls = _mutators();
        for (uint256 i = 0; i < calls.length; i++) {
            _callback.arm(address(venue), calls[i]);
            _refused(alice, abi.encodeCall(venue.withdraw, (SEG, 100)), _reentrant());
        }
    }

    function test_aBatchIsNoWayAround() public {
        bytes[] memory inner = new bytes[](1);
        inner[0] = abi.encodeCall(venue.withdraw, (SEG, 1));
        _callback.arm(address(venue), abi.encodeCall(venue.multicall, (inner)));
        bytes[] memory outer = new bytes[](1);
        outer[0] = abi.encodeCall(venue.withdraw, (SEG, 100));
        _refused(alice, abi.encodeCall(venue.multicall, (outer)), _reentrant());
    }

    function test_theGuardOpensAgain() public {
        _callback.arm(address(0), "");
        _as(alice, abi.encodeCall(venue.withdraw, (SEG, 100)));
        _as(alice, abi.encodeCall(venue.withdraw, (SEG, 100)));
        vm.assertEq(_cash(SEG, alice), 300, "twice");
    }

    function _mutators() private view returns (bytes[] memory calls) {
        calls = new bytes[](16);
        calls[0] = abi.encodeCall(venue.deposit, (SEG, 1));
        calls[1] = abi.encodeCall(venue.depositFor, (SEG, bob, 1));
        calls[2] = abi.encodeCall(venue.withdraw, (SEG, 1));
        calls[3] = abi.encodeCall(venue.placeOrder, (BTC, true, 1, 1));
        calls[4] = abi.encodeCall(venue.cancelOrder, (1));
        calls[5] = abi.encodeCall(venue.fillOrder, (1, 1));
        calls[6] = abi.encodeCall(venue.liquidate, (BTC, alice, _fills(1, 1), bob));
        calls[7] = abi.encodeCall(venue.drawInsurance, (SEG, alice, 1));
        calls[8] = abi.encodeCall(venue.autoDeleverage, (BTC, alice, _winners(bob, 1, 1)));
        calls[9] = abi.encodeCall(venue.socialiseLoss, (SEG, alice, _payers(bob, 1)));
        calls[10] = abi.encodeCall(venue.depositFund, (SEG, 1));
        calls[11] = abi.encodeCall(venue.openSegment, (5));
        calls[12] = abi.encodeCall(venue.setFundFloor, (SEG, 1));
        calls[13] = abi.encodeCall(venue.listMarket, (7, _config(SEG, address(1))));
        calls[14] = abi.encodeCall(venue.setMargin, (BTC, 1, 2));
        calls[15] = abi.encodeCall(venue.setFundingRate, (BTC, 1));
    }

    function _reentrant() private pure returns (bytes memory) {
        return abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
    }
}

contract FeeTokenTest is Venue {
    function test_whatArrivesIsCredited() public {
        FeeToken fee = new FeeToken();
        _deployVenue(fee);
        fee.mint(alice, 1_000);
        assertAllowed(alice, address(fee), abi.encodeCall(fee.approve, (address(venue), 1_000)));
        _as(alice, abi.encodeCall(venue.deposit, (SEG, 500)));
        _as(alice, abi.encodeCall(venue.depositFund, (SEG, 200)));
        vm.assertEq(_cash(SEG, alice), 495, "less the token's fee");
        vm.assertEq(_fund(SEG), 198, "less the token's fee");
        vm.assertEq(fee.balanceOf(address(venue)), 693, "claims are backed");
    }

    function test_tokensSentInUnaskedBelongToNobody() public {
        _deposit(SEG, alice, 100);
        token.mint(address(venue), 5);
        vm.assertEq(_pool(SEG) + _fund(SEG), 100, "no claim");
        bytes memory reason =
            abi.encodeWithSelector(IClearinghouse.InsufficientMargin.selector, alice, int256(-1), uint256(0));
        _refused(alice, abi.encodeCall(venue.withdraw, (SEG, 101)), reason);
    }
}
