// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {IClearinghouse} from "../../src/IClearinghouse.sol";
import {Venue} from "./Venue.sol";

/// @title A venue in use: every public `do…` function turns arbitrary numbers into one plausible act of somebody.
///
/// Acts may be refused; that is counted as nothing. What an act that went through must have left behind is asserted on the
/// spot, and a refusal must be one of the venue's own errors, never a panic.
contract Handler is Venue {
    uint256 private constant ACTORS = 6;

    address private immutable _house = address(0x40053);
    address[] private _actors;
    uint64 internal _lastOrder;

    uint256 public trades;
    uint256 public liquidations;
    uint256 public draws;
    uint256 public deleveragings;
    uint256 public socialisations;
    uint256 public parameterMoves;
    uint256 public gates;
    uint256 public covers;
    uint256 public restitutions;

    function setUp() public virtual override {
        super.setUp();
        for (uint256 i = 0; i < ACTORS; i++) {
            _actors.push(address(uint160(0xAC7000 + i)));
        }
        for (uint16 segment = SEG; segment <= OTHER_SEG; segment++) {
            _deposit(segment, _house, 1e9);
            for (uint256 i = 0; i < ACTORS; i++) {
                _deposit(segment, _actors[i], 3_000);
            }
        }
        for (uint16 market = BTC; market <= SOL; market++) {
            assertAllowed(admin, address(steward), abi.encodeCall(steward.setBounds, (market, _bounds())));
        }
    }

    // ---- traders

    function doDeposit(uint256 who, uint256 where, uint256 amount) public {
        _deposit(_segment(where), _actor(who), bound(amount, 1, 2_000));
    }

    function doWithdraw(uint256 who, uint256 where, uint256 amount) public {
        _attempt(_actor(who), abi.encodeCall(venue.withdraw, (_segment(where), bound(amount, 1, 4_000))));
    }

    /// Near the mark and of a size that uses much of the buyer's margin, so that prices have something to break.
    function doTrade(uint256 what, uint256 buyer, uint256 seller, uint256 lots, uint256 offset) public {
        uint16 market = _market(what);
        (uint256 mark,) = venue.markPrice(market);
        uint256 price = mark * bound(offset, 98, 102) / 100 + 1;
        int256 equity = _equity(_segmentOf(market), _actor(buyer));
        uint256 lotsMax = equity > 0 ? uint256(equity) * 10 / mark + 1 : 1;
        uint64 size = uint64(bound(lots, (lotsMax + 1) / 2, lotsMax));
        _lastOrder = _place(_actor(buyer), market, true, price, size);
        address other = seller % 4 == 0 ? _house : _actor(seller);
        if (_attempt(other, abi.encodeCall(venue.fillOrder, (_lastOrder, size)))) trades++;
    }

    function doPlace(uint256 who, uint256 what, bool isBuy, uint256 offset, uint256 lots) public {
        uint16 market = _market(what);
        (uint256 mark,) = venue.markPrice(market);
        _lastOrder =
            _place(_actor(who), market, isBuy, mark * bound(offset, 50, 150) / 100 + 1, uint64(bound(lots, 1, 80)));
    }

    function doFill(uint256 who, uint256 which, uint256 lots) public {
        bytes memory call_ = abi.encodeCall(venue.fillOrder, (_order(which), uint64(bound(lots, 1, 40))));
        if (_attempt(_actor(who), call_)) trades++;
    }

    function doCancel(uint256 which) public {
        uint64 order = _order(which);
        _attempt(venue.order(order).maker, abi.encodeCall(venue.cancelOrder, (order)));
    }

    // ---- the world

    function doMovePrice(uint256 what, uint256 percent) public {
        uint16 market = _market(what);
        (uint256 mark,) = venue.markPrice(market);
        uint256 next = mark * bound(percent, 75, 130) / 100;
        _post(market, next < 10 ? 10 : next > 1e6 ? 1e6 : next);
    }

    /// Now and then long enough for prices to go stale.
    function doPassTime(uint256 duration, bool report) public {
        vm.warp(block.timestamp + bound(duration, 1, 400));
        vm.roll(block.number + bound(duration, 1, 30));
        if (report) _refreshPrices();
    }

    function doMoveParameters(uint256 what, uint256 percent, int256 rate) public {
        uint16 market = _market(what);
        IClearinghouse.MarketState memory state = venue.market(market);
        uint16 maintenance = uint16(state.config.maintenanceMarginBps * bound(percent, 75, 125) / 100);
        uint16 initial = uint16(state.config.initialMarginBps * bound(percent, 75, 125) / 100);
        (bool ok,) =
            callAs(keeper, address(steward), abi.encodeCall(steward.moveMargin, (market, maintenance, initial)));
        if (ok) parameterMoves++;
        int256 next = state.fundingRateX18 + rate % 1.2e15;
        (ok,) = callAs(keeper, address(steward), abi.encodeCall(steward.moveFundingRate, (market, next)));
        if (ok) parameterMoves++;
    }

    function doFund(uint256 where, uint256 amount, uint256 floor) public {
        _depositFund(_segment(where), bound(amount, 1, 300));
        _asAdmin(abi.encodeCall(venue.setFundFloor, (_segment(where), bound(floor, 0, 200))));
    }

    // ---- keepers

    /// Liquidates whoever can be, starting the search at a random place, against an order of the house at the mark.
    function doLiquidate(uint256 what, uint256 who, uint256 lots) public {
        uint16 market = _market(what);
        for (uint256 i = 0; i < ACTORS; i++) {
            address account = _actor(who % ACTORS + i);
            if (venue.maxLiquidatableLots(market, account) > 0) return _liquidate(market, account, lots);
        }
    }

    /// Takes one bankrupt account one rung further down the waterfall.
    function doRecover(uint256 where, uint256 who, uint256 amount) public {
        uint16 segment = _segment(where);
        for (uint256 i = 0; i < ACTORS; i++) {
            address account = _actor(who % ACTORS + i);
            int256 equity = _equity(segment, account);
            if (equity >= 0) continue;
            _recover(segment, account, uint256(-equity), amount);
            return;
        }
    }

    /// A keeper gone wrong: the right calls with any arguments.
    function doMisuse(uint256 which, uint256 what, uint256 who, uint256 other, uint256 amount) public {
        uint16 market = _market(what);
        address account = _actor(who);
        bytes memory call_ = _misuse(which % 4, market, account, other, amount);
        bool wrong =
            which % 4 == 3 ? _surplus(_segmentOf(market), account) >= 0 : _equity(_segmentOf(market), account) >= 0;
        (uint256 pool, uint256 fund) = _other(_segmentOf(market));
        bool ok = _attempt(keeper, call_);
        vm.assertTrue(!(ok && wrong), "only where there is something to recover");
        _assertUntouched(_segmentOf(market), pool, fund);
    }

    /// Shuts withdrawals while somebody is short, and opens them now and then.
    function doGate(uint256 where, uint256 who) public {
        uint16 segment = _segment(where);
        if (who % 5 == 4) {
            _attempt(keeper, abi.encodeCall(venue.openWithdrawals, (segment)));
            return;
        }
        address account = _shortOne(segment, who);
        if (account == address(0)) return;
        if (!_attempt(keeper, abi.encodeCall(venue.shutWithdrawals, (segment, account)))) return;
        gates++;
        (bool ok,) = callAs(_house, address(venue), abi.encodeCall(venue.withdraw, (segment, 1)));
        vm.assertTrue(!ok, "nobody withdraws through a shut gate");
    }

    /// Somebody from outside pays some of a shortfall.
    function doCover(uint256 where, uint256 who, uint256 amount) public {
        uint16 segment = _segment(where);
        address account = _shortOne(segment, who);
        if (account == address(0)) return;
        uint256 shortfall = uint256(-_equity(segment, account));
        (uint256 pool, uint256 fund) = _other(segment);
        _fundWith(admin, shortfall);
        bytes memory call_ = abi.encodeCall(venue.coverShortfall, (segment, account, bound(amount, 1, shortfall)));
        if (_attempt(admin, call_)) covers++;
        vm.assertTrue(_equity(segment, account) <= 0, "never overpaid");
        _assertUntouched(segment, pool, fund);
    }

    /// Pays somebody's claim, all of what it may get or some of it.
    function doRestitute(uint256 where, uint256 who, uint256 amount) public {
        uint16 segment = _segment(where);
        address account = who % (ACTORS + 1) == ACTORS ? _house : _actor(who);
        uint256 share = _restitutionShare(segment, account);
        if (share == 0) return;
        (uint256 pool, uint256 fund) = _other(segment);
        _restitute(segment, account, amount % 2 == 0 ? share : bound(amount, 1, share));
        _assertUntouched(segment, pool, fund);
    }

    function _restitutionShare(uint16 segment, address account) private view returns (uint256) {
        (uint256 claim, uint256 total) = venue.claims(segment, account);
        (, uint256 balance, uint256 floor) = venue.segmentFunds(segment);
        if (claim == 0 || balance <= floor) return 0;
        return (balance - floor < total ? balance - floor : total) * claim / total;
    }

    function _restitute(uint16 segment, address account, uint256 paid) private {
        (uint256 claim, uint256 total) = venue.claims(segment, account);
        int256 equity = _equity(segment, account);
        if (!_attempt(keeper, abi.encodeCall(venue.payClaims, (segment, _payers(account, paid))))) return;
        restitutions++;
        (uint256 left, uint256 totalLeft) = venue.claims(segment, account);
        vm.assertEq(left + paid, claim, "the claim falls by what was paid");
        vm.assertEq(totalLeft + paid, total, "and so do all claims");
        vm.assertEq(_equity(segment, account), equity + int256(paid), "which the account has got");
    }

    function _shortOne(uint16 segment, uint256 who) private view returns (address) {
        for (uint256 i = 0; i < ACTORS; i++) {
            address account = _actor(who % ACTORS + i);
            if (_equity(segment, account) < 0) return account;
        }
        return address(0);
    }

    // ---- for the tests

    function assertBooks() external view {
        _assertBooks(_everybody());
    }

    function _misuse(uint256 which, uint16 market, address account, uint256 other, uint256 amount)
        private
        view
        returns (bytes memory)
    {
        uint16 segment = _segmentOf(market);
        uint256 money = bound(amount, 0, 500);
        uint64 lots = uint64(bound(amount, 0, 20));
        if (which == 0) return abi.encodeCall(venue.drawInsurance, (segment, account, money));
        if (which == 1) {
            return abi.encodeCall(venue.autoDeleverage, (market, account, _winners(_actor(other), lots, amount)));
        }
        if (which == 2) return abi.encodeCall(venue.socialiseLoss, (segment, account, _payers(_actor(other), money)));
        return abi.encodeCall(venue.liquidate, (market, account, _fills(_order(other), lots), _actor(other)));
    }

    function _liquidate(uint16 market, address account, uint256 lots) private {
        uint16 segment = _segmentOf(market);
        uint64 size = venue.maxLiquidatableLots(market, account);
        if (lots % 2 == 0) size = uint64(bound(lots, 1, size));
        (uint256 mark,) = venue.markPrice(market);
        _lastOrder = _place(_house, market, _lots(market, account) > 0, mark, size);
        int256 equity = _equity(segment, account);
        (uint256 pool, uint256 fund) = _other(segment);
        bytes memory call_ = abi.encodeCall(venue.liquidate, (market, account, _fills(_lastOrder, size), keeper));
        if (!_attempt(keeper, call_)) return;
        liquidations++;
        bool fair = equity < 0 ? _equity(segment, account) == equity : _equity(segment, account) >= 0;
        vm.assertTrue(fair, "closing at the mark, fee included, opens or widens no shortfall");
        _assertUntouched(segment, pool, fund);
    }

    function _recover(uint16 segment, address account, uint256 shortfall, uint256 amount) private {
        (uint256 pool, uint256 fund) = _other(segment);
        (, uint256 balance, uint256 floor) = venue.segmentFunds(segment);
        if (balance > floor) {
            _drawSome(segment, account, shortfall < balance - floor ? shortfall : balance - floor, amount);
        } else if (!_deleverageSome(segment, account, amount)) {
            _socialiseSome(segment, account, shortfall, amount);
        }
        vm.assertTrue(_equity(segment, account) <= 0, "a bankrupt account is never overpaid");
        _assertUntouched(segment, pool, fund);
    }

    function _drawSome(uint16 segment, address account, uint256 amountMax, uint256 amount) private {
        bytes memory call_ =
            abi.encodeCall(venue.drawInsurance, (segment, account, bound(amount, (amountMax + 1) / 2, amountMax)));
        if (!_attempt(keeper, call_)) return;
        draws++;
        (, uint256 balance, uint256 floor) = venue.segmentFunds(segment);
        vm.assertTrue(balance >= floor, "the fund stays at its floor");
    }

    /// Returns whether the account still holds lots, so that the next rung has to wait.
    function _deleverageSome(uint16 segment, address account, uint256 seed) private returns (bool holds) {
        uint16[] memory markets = venue.segmentMarkets(segment);
        for (uint256 i = 0; i < markets.length; i++) {
            int256 lots = _lots(markets[i], account);
            if (lots == 0) continue;
            holds = true;
            for (uint256 k = 0; k <= ACTORS; k++) {
                address winner = k == ACTORS ? _house : _actor(seed % ACTORS + k);
                if (_deleverageOne(markets[i], account, winner, lots)) return true;
            }
        }
    }

    function _deleverageOne(uint16 market, address account, address winner, int256 lots) private returns (bool) {
        int256 theirs = _lots(market, winner);
        if (theirs == 0 || (theirs > 0) == (lots > 0)) return false;
        uint256 size = _abs(theirs) < _abs(lots) ? _abs(theirs) : _abs(lots);
        bytes memory call_ =
            abi.encodeCall(venue.autoDeleverage, (market, account, _winners(winner, uint64(size), type(uint256).max)));
        if (!_attempt(keeper, call_)) return false;
        deleveragings++;
        vm.assertTrue(_equity(_segmentOf(market), winner) >= 0, "no winner below zero");
        return true;
    }

    function _socialiseSome(uint16 segment, address account, uint256 shortfall, uint256 seed) private {
        for (uint256 k = 0; k <= ACTORS && shortfall > 0; k++) {
            address payer = k == ACTORS ? _house : _actor(seed % ACTORS + k);
            uint256 share = _shareOf(segment, account, payer, shortfall);
            uint256 amount = share < shortfall ? share : shortfall;
            if (amount == 0) continue;
            bytes memory call_ = abi.encodeCall(venue.socialiseLoss, (segment, account, _payers(payer, amount)));
            if (!_attempt(keeper, call_)) continue;
            socialisations++;
            shortfall -= amount;
            vm.assertTrue(_equity(segment, payer) >= 0, "no payer below zero");
        }
    }

    function _shareOf(uint16 segment, address account, address payer, uint256 shortfall)
        private
        view
        returns (uint256)
    {
        int256 equity = _equity(segment, payer);
        if (equity <= 0) return 0;
        (uint256 owed, uint256 base) = (shortfall, _pool(segment) + shortfall);
        uint256 openedAt = venue.socialisation(segment, account).openedAtBlock;
        if (shortfall <= venue.socialisation(segment, account).unpaid && block.number < openedAt + venue.ROUND_BLOCKS())
        {
            (owed, base) = (venue.socialisation(segment, account).shortfall, venue.socialisation(segment, account).base);
        }
        return (owed * uint256(equity) + base - 1) / base;
    }

    function _attempt(address caller, bytes memory call_) internal virtual returns (bool ok) {
        bytes memory back;
        (ok, back) = callAs(caller, address(venue), call_);
        if (ok) return true;
        bytes4 panic = bytes4(keccak256("Panic(uint256)"));
        vm.assertTrue(back.length >= 4 && bytes4(back) != panic, "a refusal names its reason");
    }

    function _other(uint16 segment) private view returns (uint256 pool, uint256 fund) {
        (pool, fund,) = venue.segmentFunds(segment == SEG ? OTHER_SEG : SEG);
    }

    function _assertUntouched(uint16 segment, uint256 pool, uint256 fund) private view {
        (uint256 poolNow, uint256 fundNow) = _other(segment);
        vm.assertEq(poolNow, pool, "the other segment's pool");
        vm.assertEq(fundNow, fund, "the other segment's fund");
    }

    function _refreshPrices() private {
        for (uint16 market = BTC; market <= SOL; market++) {
            (uint256 mark,) = venue.markPrice(market);
            _post(market, mark);
        }
    }

    function _everybody() internal view override returns (address[] memory owners) {
        owners = new address[](ACTORS + 2);
        for (uint256 i = 0; i < ACTORS; i++) {
            owners[i] = _actors[i];
        }
        (owners[ACTORS], owners[ACTORS + 1]) = (_house, keeper);
    }

    function _actor(uint256 seed) private view returns (address) {
        return _actors[seed % ACTORS];
    }

    function _market(uint256 seed) private pure returns (uint16) {
        return uint16(bound(seed, BTC, SOL));
    }

    function _segment(uint256 seed) private pure returns (uint16) {
        return seed % 3 == 0 ? OTHER_SEG : SEG;
    }

    function _segmentOf(uint16 market) private pure returns (uint16) {
        return market == SOL ? OTHER_SEG : SEG;
    }

    function _order(uint256 seed) private view returns (uint64) {
        return uint64(bound(seed, 1, uint256(_lastOrder) + 1));
    }

    function _abs(int256 value) private pure returns (uint256) {
        return uint256(value < 0 ? -value : value);
    }
}
