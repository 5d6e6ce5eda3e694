// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IClearinghouse} from "../src/IClearinghouse.sol";
import {Handler} from "./base/Handler.sol";
import {Vm} from "./base/Test.sol";

/// The logs are complete: whoever reads nothing else ends up with the same accounts, funds, orders and parameters.
contract ReplayTest is Handler {
    mapping(uint16 segment => mapping(address => int256)) private _cashSeen;
    mapping(uint16 segment => uint256) private _fundSeen;
    mapping(uint16 segment => uint256) private _floorSeen;
    mapping(uint16 segment => uint64) private _gateSeen;
    mapping(uint16 segment => mapping(address => uint256)) private _claimSeen;
    mapping(uint16 market => mapping(address => int256)) private _lotsSeen;
    mapping(uint16 market => mapping(address => int256)) private _quoteSeen;
    mapping(uint16 market => IClearinghouse.MarketState) private _marketSeen;
    mapping(uint64 order => IClearinghouse.OrderState) private _orderSeen;

    function setUp() public override {
        vm.recordLogs();
        super.setUp();
    }

    /// forge-config: default.fuzz.runs = 64
    function testFuzz_logsAloneRebuildTheVenue(uint256[48] memory seeds) public {
        for (uint256 i = 0; i < seeds.length; i++) {
            _act(seeds[i]);
        }
        _crashAndRecover();
        _applyAll();
        address[] memory owners = _everybody();
        for (uint16 segment = SEG; segment <= OTHER_SEG; segment++) {
            _assertFunds(segment, owners);
        }
        for (uint16 market = BTC; market <= SOL; market++) {
            _assertMarketSeen(market, owners);
        }
        for (uint64 order = 1; order <= _lastOrder; order++) {
            vm.assertEq(abi.encode(_orderSeen[order]), abi.encode(venue.order(order)), "order");
        }
    }

    /// Forge records what a refused call logged before it was undone; a chain does not.
    function _attempt(address caller, bytes memory call_) internal override returns (bool ok) {
        _applyAll();
        ok = super._attempt(caller, call_);
        if (!ok) vm.getRecordedLogs();
    }

    function _applyAll() private {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i = 0; i < logs.length; i++) {
            if (logs[i].emitter == address(venue)) _apply(logs[i]);
        }
    }

    function _act(uint256 seed) private {
        uint256 a = seed >> 8;
        uint256 b = seed >> 40;
        uint256 c = seed >> 72;
        uint256 kind = seed % 16;
        if (kind == 0) doDeposit(a, b, c);
        if (kind == 1) doWithdraw(a, b, c);
        if (kind <= 4 && kind > 1) doTrade(a, b, c, seed >> 104, seed >> 136);
        if (kind == 5) doPlace(a, b, c % 2 == 0, seed >> 104, seed >> 136);
        if (kind == 6) doFill(a, b, c);
        if (kind == 7) doCancel(a);
        if (kind == 8) doMovePrice(a, b);
        if (kind == 9) doPassTime(a, true);
        if (kind == 10) doMoveParameters(a, b, int256(c));
        if (kind == 11) doFund(a, b, c);
        if (kind == 12) doLiquidate(a, b, c);
        if (kind == 13) doRecover(a, b, c);
        if (kind == 14) doGate(a, b);
        if (kind == 15) doRestitute(a, b, c);
    }

    function _crashAndRecover() private {
        doPassTime(0, true);
        for (uint256 i = 0; i < 4; i++) {
            doMovePrice(0, 0);
            doLiquidate(0, i, i);
            doGate(1, i);
            doRecover(1, i, i);
            doRecover(1, i, i);
            doRestitute(1, i, i);
        }
    }

    function _apply(Vm.Log memory log) private {
        bytes32 kind = log.topics[0];
        if (kind == IClearinghouse.CashChanged.selector) {
            _cashSeen[_key(log)][_account(log)] = abi.decode(log.data, (int256));
        } else if (kind == IClearinghouse.PositionChanged.selector) {
            (_lotsSeen[_key(log)][_account(log)], _quoteSeen[_key(log)][_account(log)]) =
                abi.decode(log.data, (int256, int256));
        } else if (kind == IClearinghouse.FundChanged.selector) {
            _fundSeen[_key(log)] = abi.decode(log.data, (uint256));
        } else if (kind == IClearinghouse.FundFloorSet.selector) {
            _floorSeen[_key(log)] = abi.decode(log.data, (uint256));
        } else if (kind == IClearinghouse.WithdrawalsGated.selector) {
            _gateSeen[_key(log)] = abi.decode(log.data, (uint64));
        } else if (kind == IClearinghouse.ClaimChanged.selector) {
            _claimSeen[_key(log)][_account(log)] = abi.decode(log.data, (uint256));
        } else {
            _applyMarket(log, kind);
            _applyOrder(log, kind);
        }
    }

    function _applyMarket(Vm.Log memory log, bytes32 kind) private {
        IClearinghouse.MarketState storage state = _marketSeen[_key(log)];
        if (kind == IClearinghouse.MarketListed.selector) {
            state.config = abi.decode(log.data, (IClearinghouse.MarketConfig));
        } else if (kind == IClearinghouse.MarginSet.selector) {
            (state.config.maintenanceMarginBps, state.config.initialMarginBps) = abi.decode(log.data, (uint16, uint16));
        } else if (kind == IClearinghouse.FundingSet.selector) {
            (state.fundingRateX18, state.fundingIndex, state.fundingSince) =
                abi.decode(log.data, (int256, int256, uint64));
        }
    }

    function _applyOrder(Vm.Log memory log, bytes32 kind) private {
        if (kind == IClearinghouse.OrderPlaced.selector) {
            IClearinghouse.OrderState storage placed = _orderSeen[uint64(uint256(log.topics[1]))];
            placed.market = uint16(uint256(log.topics[2]));
            placed.maker = address(uint160(uint256(log.topics[3])));
            (placed.isBuy, placed.price, placed.lots) = abi.decode(log.data, (bool, uint256, uint64));
        } else if (kind == IClearinghouse.OrderChanged.selector) {
            _orderSeen[uint64(uint256(log.topics[1]))].lots = abi.decode(log.data, (uint64));
        }
    }

    function _assertFunds(uint16 segment, address[] memory owners) private view {
        (uint256 pool, uint256 fund, uint256 floor) = venue.segmentFunds(segment);
        vm.assertEq(_fundSeen[segment], fund, "fund");
        vm.assertEq(_floorSeen[segment], floor, "floor");
        vm.assertEq(uint256(_gateSeen[segment]), uint256(venue.gatedUntil(segment)), "gate");
        for (uint256 i = 0; i < owners.length; i++) {
            (uint256 claim,) = venue.claims(segment, owners[i]);
            vm.assertEq(_claimSeen[segment][owners[i]], claim, "claim");
        }
        int256 backed;
        for (uint256 i = 0; i < owners.length; i++) {
            vm.assertEq(_cashSeen[segment][owners[i]], venue.accountState(segment, owners[i]).cash, "cash");
            backed += _cashSeen[segment][owners[i]];
        }
        uint16[] memory markets = venue.segmentMarkets(segment);
        for (uint256 m = 0; m < markets.length; m++) {
            for (uint256 i = 0; i < owners.length; i++) {
                backed += _quoteSeen[markets[m]][owners[i]];
            }
        }
        vm.assertEq(backed, int256(pool), "the pool follows from cash and quotes");
    }

    function _assertMarketSeen(uint16 market, address[] memory owners) private view {
        IClearinghouse.MarketState memory truth = venue.market(market);
        IClearinghouse.MarketState memory rebuilt = _marketSeen[market];
        for (uint256 i = 0; i < owners.length; i++) {
            (int256 lots, int256 quote) = venue.position(market, owners[i]);
            vm.assertEq(_lotsSeen[market][owners[i]], lots, "lots");
            vm.assertEq(_quoteSeen[market][owners[i]], quote, "quote");
            if (lots > 0) rebuilt.openInterestLots += uint256(lots);
        }
        vm.assertEq(abi.encode(rebuilt), abi.encode(truth), "market");
    }

    function _key(Vm.Log memory log) private pure returns (uint16) {
        return uint16(uint256(log.topics[1]));
    }

    function _account(Vm.Log memory log) private pure returns (address) {
        return address(uint160(uint256(log.topics[2])));
    }
}
