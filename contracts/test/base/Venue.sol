// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Clearinghouse} from "../../src/Clearinghouse.sol";
import {IClearinghouse} from "../../src/IClearinghouse.sol";
import {IRiskSteward} from "../../src/IRiskSteward.sol";
import {PriceFeed} from "../../src/PriceFeed.sol";
import {RiskSteward} from "../../src/RiskSteward.sol";
import {SettlementToken} from "../../src/SettlementToken.sol";
import {Test} from "./Test.sol";

/// @title A venue with two segments and three markets, and short words for what tests do with it.
///
/// Segment 1 has markets 1 (mark 1000) and 2 (mark 37), segment 2 has market 3 (mark 500). Maintenance margin 5 %, initial
/// 10 %, liquidation fee 1 %, slippage 3 %, prices good for 300 s.
abstract contract Venue is Test {
    uint16 internal constant SEG = 1;
    uint16 internal constant OTHER_SEG = 2;
    uint16 internal constant BTC = 1;
    uint16 internal constant ETH = 2;
    uint16 internal constant SOL = 3;
    uint64 internal constant PRICE_AGE_MAX = 300;
    uint256 internal constant START = 1_700_000_000;

    SettlementToken internal token;
    Clearinghouse internal venue;
    RiskSteward internal steward;
    mapping(uint16 market => PriceFeed) internal feeds;

    address internal admin = address(0xAD);
    address internal keeper = address(0x4EE9);
    address internal alice = address(0xA11CE);
    address internal bob = address(0xB0B);
    address internal carol = address(0xCA401);
    address internal dave = address(0xDA7E);

    function setUp() public virtual {
        vm.warp(START);
        vm.roll(1_000);
        token = new SettlementToken();
        _deployVenue(IERC20(address(token)));
    }

    function _deployVenue(IERC20 money) internal {
        venue = new Clearinghouse(money, admin);
        steward = new RiskSteward(venue, admin);
        _grant(address(venue), venue.KEEPER_ROLE(), keeper);
        _grant(address(venue), venue.STEWARD_ROLE(), address(steward));
        _grant(address(steward), steward.MOVER_ROLE(), keeper);
        _asAdmin(abi.encodeCall(venue.openSegment, (SEG)));
        _asAdmin(abi.encodeCall(venue.openSegment, (OTHER_SEG)));
        _list(BTC, SEG, 1_000);
        _list(ETH, SEG, 37);
        _list(SOL, OTHER_SEG, 500);
    }

    function _list(uint16 market, uint16 segment, uint256 price) internal {
        feeds[market] = new PriceFeed(admin);
        _grant(address(feeds[market]), feeds[market].REPORTER_ROLE(), address(this));
        _asAdmin(abi.encodeCall(venue.listMarket, (market, _config(segment, address(feeds[market])))));
        _post(market, price);
    }

    function _config(uint16 segment, address feed) internal pure returns (IClearinghouse.MarketConfig memory) {
        return IClearinghouse.MarketConfig({
            segment: segment,
            feed: feed,
            maxPriceAgeSeconds: PRICE_AGE_MAX,
            maintenanceMarginBps: 500,
            initialMarginBps: 1_000,
            liquidationFeeBps: 100,
            maxSlippageBps: 300
        });
    }

    function _bounds() internal pure returns (IRiskSteward.Bounds memory) {
        return IRiskSteward.Bounds({
            maxStepBps: 2_000,
            minDelaySeconds: 60,
            marginFloorBps: 300,
            marginCeilingBps: 4_000,
            maxFundingStepX18: 1e15,
            maxFundingRateX18: 3e15
        });
    }

    function _grant(address target, bytes32 role, address to) internal {
        assertAllowed(admin, target, abi.encodeCall(IAccessControl.grantRole, (role, to)));
    }

    function _asAdmin(bytes memory data) internal {
        assertAllowed(admin, address(venue), data);
    }

    function _as(address caller, bytes memory data) internal {
        assertAllowed(caller, address(venue), data);
    }

    function _refused(address caller, bytes memory data, bytes memory reason) internal {
        assertRefused(caller, address(venue), data, reason);
    }

    function _missingRole(address caller, bytes32 role) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, caller, role);
    }

    // ---- money, prices, trades

    function _post(uint16 market, uint256 price) internal {
        feeds[market].post(price, uint64(block.timestamp));
    }

    function _fundWith(address owner, uint256 amount) internal {
        token.mint(owner, amount);
        assertAllowed(owner, address(token), abi.encodeCall(token.approve, (address(venue), type(uint256).max)));
    }

    function _deposit(uint16 segment, address owner, uint256 amount) internal {
        _fundWith(owner, amount);
        _as(owner, abi.encodeCall(venue.deposit, (segment, amount)));
    }

    function _depositFund(uint16 segment, uint256 amount) internal {
        _fundWith(admin, amount);
        _as(admin, abi.encodeCall(venue.depositFund, (segment, amount)));
    }

    function _place(address maker, uint16 market, bool isBuy, uint256 price, uint64 lots) internal returns (uint64) {
        bytes memory data = abi.encodeCall(venue.placeOrder, (market, isBuy, price, lots));
        return abi.decode(assertAllowed(maker, address(venue), data), (uint64));
    }

    /// Makes `long` buy from `short`.
    function _trade(uint16 market, address long, address short, uint64 lots, uint256 price) internal {
        uint64 order = _place(long, market, true, price, lots);
        _as(short, abi.encodeCall(venue.fillOrder, (order, lots)));
    }

    function _fills(uint64 order, uint64 lots) internal pure returns (IClearinghouse.Fill[] memory fills) {
        fills = new IClearinghouse.Fill[](1);
        fills[0] = IClearinghouse.Fill(order, lots);
    }

    function _winners(address account, uint64 lots, uint256 maxLoss)
        internal
        pure
        returns (IClearinghouse.Winner[] memory winners)
    {
        winners = new IClearinghouse.Winner[](1);
        winners[0] = IClearinghouse.Winner(account, lots, maxLoss);
    }

    function _payers(address account, uint256 amount) internal pure returns (IClearinghouse.Payer[] memory payers) {
        payers = new IClearinghouse.Payer[](1);
        payers[0] = IClearinghouse.Payer(account, amount);
    }

    // ---- what the books say

    function _equity(uint16 segment, address owner) internal view returns (int256) {
        return venue.accountState(segment, owner).equity;
    }

    function _surplus(uint16 segment, address owner) internal view returns (int256) {
        IClearinghouse.AccountState memory state = venue.accountState(segment, owner);
        return state.equity - int256(state.maintenanceMargin);
    }

    function _cash(uint16 segment, address owner) internal view returns (int256) {
        return venue.accountState(segment, owner).cash;
    }

    function _lots(uint16 market, address owner) internal view returns (int256 lots) {
        (lots,) = venue.position(market, owner);
    }

    function _fund(uint16 segment) internal view returns (uint256 fund) {
        (, fund,) = venue.segmentFunds(segment);
    }

    function _pool(uint16 segment) internal view returns (uint256 pool) {
        (pool,,) = venue.segmentFunds(segment);
    }

    /// The chief invariant, to the last unit, given everybody who may hold an account.
    function _assertBooks(address[] memory owners) internal view {
        uint256 backed = _assertSegment(SEG, owners) + _assertSegment(OTHER_SEG, owners);
        vm.assertEq(token.balanceOf(address(venue)), backed, "token balance = claims + funds");
    }

    function _assertSegment(uint16 segment, address[] memory owners) private view returns (uint256) {
        (uint256 pool, uint256 fund,) = venue.segmentFunds(segment);
        _assertClaims(segment, owners);
        uint16[] memory markets = venue.segmentMarkets(segment);
        int256 equity;
        int256 cashAndQuote;
        for (uint256 i = 0; i < owners.length; i++) {
            equity += _equity(segment, owners[i]);
            cashAndQuote += _cash(segment, owners[i]);
        }
        for (uint256 i = 0; i < markets.length; i++) {
            cashAndQuote += _assertMarket(markets[i], owners);
        }
        vm.assertEq(equity, int256(pool), "sum of equity = pool");
        vm.assertEq(cashAndQuote, int256(pool), "sum of cash and quote = pool");
        return pool + fund;
    }

    function _assertClaims(uint16 segment, address[] memory owners) private view {
        (uint256 sum, uint256 total) = (0, 0);
        for (uint256 i = 0; i < owners.length; i++) {
            uint256 claim;
            (claim, total) = venue.claims(segment, owners[i]);
            sum += claim;
        }
        vm.assertEq(sum, total, "sum of claims");
    }

    function _assertMarket(uint16 market, address[] memory owners) private view returns (int256 quotes) {
        int256 net;
        uint256 longs;
        for (uint256 i = 0; i < owners.length; i++) {
            (int256 lots, int256 quote) = venue.position(market, owners[i]);
            if (lots == 0) vm.assertEq(quote, 0, "no lots, no quote");
            if (lots > 0) longs += uint256(lots);
            net += lots;
            quotes += quote;
        }
        vm.assertEq(net, 0, "longs = shorts");
        vm.assertEq(venue.market(market).openInterestLots, longs, "open interest = longs");
    }

    function _everybody() internal view virtual returns (address[] memory owners) {
        owners = new address[](6);
        (owners[0], owners[1], owners[2]) = (alice, bob, carol);
        (owners[3], owners[4], owners[5]) = (dave, keeper, admin);
    }
}
