// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

/// @title A backstop that several protocols share: capital of underwriters, held against the shortfalls of members.
///
/// Units. All money is whole units of `asset`. Ratios are in basis points (1e4 = 100 %).
///
///     a claim of c asks the capital for    w = c - floor(c * firstLossBps / 1e4)
///     a round grants a claim               p = c                             while the sum of w <= capital
///                                          p = floor(c * capital / sum of w) when it is scarce
///     of a payment of p the member pays    ceil(p * firstLossBps / 1e4) out of its stake, the capital the rest
///
/// So whatever the order of draws, the capital pays at most `capital` in a round.
interface IBackstopPool {
    struct Member {
        address operator; // who may claim and draw
        uint256 cap; // most that the capital may have outstanding to this member
        uint16 firstLossBps; // the member's own part of every payment
        uint16 premiumBps; // of the cap, a year
        uint64 coveredUntil; // premium is paid until then
        uint256 stake; // what is left of the member's own money for its parts
        uint256 outstanding; // what the capital paid for this member and has not got back
    }

    struct Round {
        uint64 number;
        uint64 claimsUntilBlock; // the last block that takes claims
        uint64 drawsUntilBlock; // the last block that pays
        bool settled; // capitalAtSettlement is fixed
        uint64 unpaid; // claims still to be paid; with the last of them a settled round is over
        uint256 asked; // sum of w over the claims
        uint256 capitalAtSettlement;
    }

    struct Claim {
        uint64 round;
        uint256 amount; // c
    }

    event MemberSet(
        address indexed member, address operator, uint256 cap, uint16 firstLossBps, uint16 premiumBps
    );
    event StakeChanged(address indexed member, uint256 stake);
    event PremiumPaid(address indexed member, uint256 amount, uint64 coveredUntil);
    event CapitalChanged(uint256 capital);
    event Underwritten(address indexed underwriter, uint256 amount, uint256 shares);
    event NoticeGiven(address indexed underwriter, uint256 shares, uint64 redeemableAt);
    event Redeemed(address indexed underwriter, uint256 shares, uint256 amount);
    event RoundOpened(uint64 indexed round, uint64 claimsUntilBlock, uint64 drawsUntilBlock);
    /// After each claim and each payment.
    event RoundChanged(uint64 indexed round, uint256 asked, uint64 unpaid);
    event Claimed(
        uint64 indexed round, address indexed member, uint16 segment, address indexed account, uint256 amount
    );
    event RoundSettled(uint64 indexed round, uint256 asked, uint256 capital);
    /// `amount` reached the account; `fromStake` of it was the member's own. `outstanding` is the member's with the rest.
    event Drawn(
        uint64 indexed round,
        address indexed member,
        uint16 segment,
        address indexed account,
        uint256 amount,
        uint256 fromStake,
        uint256 outstanding
    );
    event Repaid(address indexed member, uint256 amount, uint256 outstanding);

    error UnknownMember(address member);
    error NotOperator(address member, address caller);
    error BadTerms(address member);
    error NotCovered(address member, uint64 coveredUntil);
    error NoShortfall(address member, uint16 segment, address account);
    error ExceedsShortfall(uint256 requested, uint256 shortfall);
    error ExceedsCap(address member, uint256 requested, uint256 capLeft);
    error ExceedsStake(address member, uint256 requested, uint256 stakeLeft);
    error AlreadyClaimed(address member, uint16 segment, address account);
    error NothingClaimed(address member, uint16 segment, address account);
    error RoundOpen(uint64 round);
    error ClaimsClosed(uint64 round, uint64 drawsUntilBlock);
    error ClaimsStillOpen(uint64 round, uint64 claimsUntilBlock);
    error RoundOver(uint64 round);
    error NoticeNotGiven(address underwriter, uint256 shares);
    error NoticeRunning(uint64 redeemableAt);
    error NotCredited(uint256 shortfallBefore, uint256 shortfallAfter, uint256 amount);
    error ZeroAmount();

    // ---- underwriters
    function underwrite(uint256 amount) external returns (uint256 shares);
    function giveNotice(uint256 shares) external;
    function redeem() external returns (uint256 amount);

    // ---- members
    function addStake(address member, uint256 amount) external;
    function payPremium(address member, uint256 amount) external;
    function repay(address member, uint256 amount) external;
    /// Operator. Puts a hole that the member's contract shows in this block into the round; opens one if none is open.
    function claim(address member, uint16 segment, address account, uint256 amount) external;
    /// Operator. Pays what the round grants the claim, at most what the member's contract shows is short now.
    function draw(address member, uint16 segment, address account) external returns (uint256 paid);

    // ---- admin
    function setMember(address member, address operator, uint256 cap, uint16 firstLossBps, uint16 premiumBps)
        external;
    function releaseStake(address member, address to, uint256 amount) external;

    // ---- views
    function asset() external view returns (address);
    function capital() external view returns (uint256);
    function member(address member) external view returns (Member memory);
    function isOperator(address member, address account) external view returns (bool);
    function round() external view returns (Round memory);
    function claimOf(address member, uint16 segment, address account) external view returns (Claim memory);
    function sharesOf(address underwriter) external view returns (uint256);
}
