//! Two deployments and one pool: both venues fail at once, the pool is too small, and every unit that is lost is somebody's.

use std::collections::BTreeMap;

use alloy::{sol, sol_types::SolConstructor};
use anyhow::Result;
use backstop::{
    recovery::{MemberTerms, PoolClaim, PoolGrant, allocate_backstop},
    types::{Address, U256},
};

use crate::world::{ADMIN, Clearinghouse, HOUSE, SEGMENT, Venue, World, in_a_world, tokens, trader};

mod bound {
    alloy::sol!(
        #[sol(all_derives)]
        BackstopPool,
        "contracts/artifacts/BackstopPool.json"
    );
}
use bound::BackstopPool;

sol!(
    #[sol(all_derives)]
    ClearinghouseMember,
    "contracts/artifacts/ClearinghouseMember.json"
);

const PRICE: u64 = 1_000_000;
const CRASHED: u64 = 600_000;
const CASH: u64 = 10_000_000;
const LOTS: [u64; 2] = [90, 60];
const FUND: [u64; 2] = [3_000_000, 1_000_000];
const FIRST_LOSS_BPS: [u16; 2] = [1_000, 2_500];
const CAPITAL: u64 = 16_000_000;
const CAP: u64 = 100_000_000;
const STAKE: u64 = 10_000_000;
const PREMIUM: u64 = 2_000_000;
const CLAIM_BLOCKS: u64 = 3;

struct Side {
    venue: Venue,
    member: Address,
    bankrupt: Address,
}

/// Who paid for one venue's hole, token units.
#[derive(Debug)]
struct Account {
    hole: U256,
    fund: U256,
    stake: U256,
    capital: U256,
    socialised: U256,
}

#[test]
fn two_deployments_and_one_pool() {
    in_a_world(async |world| {
        let (pool, sides) = open(&world).await?;
        world.post(CRASHED).await?;
        let mut accounts = Vec::new();
        for (side, fund) in sides.iter().zip(FUND) {
            world.liquidate_all(side.venue, &[side.bankrupt], CRASHED).await?;
            let hole = (-world.equity(side.venue, side.bankrupt).await?).into_raw();
            draw_fund(&world, side, U256::from(fund)).await?;
            let zero = U256::ZERO;
            accounts.push(Account { hole, fund: U256::from(fund), stake: zero, capital: zero, socialised: zero });
        }
        let grants = claim(&world, pool, &sides).await?;
        assert!(grants.iter().all(|grant| grant.paid < grant.claimed), "scarce: {grants:?}");
        // Against the order of the claims: it must not matter.
        for i in [1, 0] {
            draw(&world, pool, &sides[i], &grants[i]).await?;
            accounts[i].stake = grants[i].from_stake;
            accounts[i].capital = grants[i].from_capital();
            accounts[i].socialised = socialise(&world, &sides[i]).await?;
        }
        settle(&world, pool, &sides, &accounts).await
    });
}

async fn open(world: &World) -> Result<(Address, Vec<Side>)> {
    let arguments = BackstopPool::constructorCall { token: world.token, admin: ADMIN }.abi_encode();
    let pool = world.create(BackstopPool::BYTECODE.to_vec(), arguments).await?;
    world.endow(ADMIN, pool, CAPITAL + 2 * (STAKE + PREMIUM)).await?;
    world.send(ADMIN, pool, &BackstopPool::underwriteCall { amount: U256::from(CAPITAL) }).await?;
    let mut sides = Vec::new();
    for i in 0..2 {
        let venue = world.venue(PRICE, 1_000).await?;
        let arguments = ClearinghouseMember::constructorCall { target: venue.clearinghouse }.abi_encode();
        let member = world.create(ClearinghouseMember::BYTECODE.to_vec(), arguments).await?;
        let terms = BackstopPool::setMemberCall {
            memberId: member,
            operator: ADMIN,
            cap: U256::from(CAP),
            firstLossBps: FIRST_LOSS_BPS[i],
            premiumBps: 200,
        };
        world.send(ADMIN, pool, &terms).await?;
        world.send(ADMIN, pool, &BackstopPool::addStakeCall { memberId: member, amount: U256::from(STAKE) }).await?;
        let premium = BackstopPool::payPremiumCall { memberId: member, amount: U256::from(PREMIUM) };
        world.send(ADMIN, pool, &premium).await?;
        world.endow(ADMIN, venue.clearinghouse, FUND[i]).await?;
        let fund = Clearinghouse::depositFundCall { segment: SEGMENT, amount: U256::from(FUND[i]) };
        world.send(ADMIN, venue.clearinghouse, &fund).await?;
        let bankrupt = trader(i);
        world.enter(venue, bankrupt, CASH, LOTS[i], PRICE).await?;
        sides.push(Side { venue, member, bankrupt });
    }
    Ok((pool, sides))
}

async fn draw_fund(world: &World, side: &Side, amount: U256) -> Result<()> {
    let call = Clearinghouse::drawInsuranceCall { segment: SEGMENT, account: side.bankrupt, amount };
    world.send(ADMIN, side.venue.clearinghouse, &call).await
}

/// Claims what the allocation says, from terms and holes as the chain has them, and waits until the round pays.
async fn claim(world: &World, pool: Address, sides: &[Side]) -> Result<Vec<PoolGrant>> {
    let capital = world.ask(pool, &BackstopPool::capitalCall {}).await?;
    let (mut members, mut claims) = (BTreeMap::new(), Vec::new());
    for side in sides {
        let known = world.ask(pool, &BackstopPool::memberCall { memberId: side.member }).await?;
        let cap_left = known.cap - known.outstanding;
        let terms = MemberTerms { cap_left, first_loss_bps: known.firstLossBps.into(), stake: known.stake };
        members.insert(side.member, terms);
        let hole = ClearinghouseMember::shortfallOfCall { segment: SEGMENT, account: side.bankrupt };
        claims.push(PoolClaim { member: side.member, shortfall: world.ask(side.member, &hole).await? });
    }
    let grants = allocate_backstop(capital, &members, &claims)?;
    for (side, grant) in sides.iter().zip(&grants) {
        let (segment, account) = (SEGMENT, side.bankrupt);
        let call = BackstopPool::claimCall { memberId: side.member, segment, account, amount: grant.claimed };
        world.send(ADMIN, pool, &call).await?;
    }
    world.anvil.mine(CLAIM_BLOCKS).await?;
    Ok(grants)
}

async fn draw(world: &World, pool: Address, side: &Side, grant: &PoolGrant) -> Result<()> {
    let before = world.equity(side.venue, side.bankrupt).await?;
    let had = world.ask(pool, &BackstopPool::capitalCall {}).await?;
    let call = BackstopPool::drawCall { memberId: side.member, segment: SEGMENT, account: side.bankrupt };
    world.send(ADMIN, pool, &call).await?;
    let paid = (world.equity(side.venue, side.bankrupt).await? - before).into_raw();
    assert_eq!(paid, grant.paid, "what the allocation said");
    let left = world.ask(pool, &BackstopPool::capitalCall {}).await?;
    assert_eq!(had - left, grant.from_capital(), "what the allocation said");
    Ok(())
}

/// What is still missing is charged to the house, the only other account.
async fn socialise(world: &World, side: &Side) -> Result<U256> {
    let amount = (-world.equity(side.venue, side.bankrupt).await?).into_raw();
    let payers = vec![crate::world::IClearinghouse::Payer { account: HOUSE, amount }];
    let call = Clearinghouse::socialiseLossCall { segment: SEGMENT, bankrupt: side.bankrupt, payers };
    world.send(ADMIN, side.venue.clearinghouse, &call).await?;
    Ok(amount)
}

async fn settle(world: &World, pool: Address, sides: &[Side], accounts: &[Account]) -> Result<()> {
    println!("who paid           hole       fund      stake    capital  socialised");
    let mut stakes = U256::ZERO;
    for (i, (side, paid)) in sides.iter().zip(accounts).enumerate() {
        let cells = [paid.hole, paid.fund, paid.stake, paid.capital, paid.socialised].map(tokens);
        println!("venue {i}   {:>13} {:>10} {:>10} {:>10} {:>11}", cells[0], cells[1], cells[2], cells[3], cells[4]);
        assert_eq!(paid.fund + paid.stake + paid.capital + paid.socialised, paid.hole, "conservation");
        assert!(world.equity(side.venue, side.bankrupt).await?.is_zero(), "the hole is closed, not overfilled");
        world.check_books(side.venue, &[HOUSE, side.bankrupt, ADMIN]).await?;
        let known = world.ask(pool, &BackstopPool::memberCall { memberId: side.member }).await?;
        assert_eq!((known.stake, known.outstanding), (U256::from(STAKE) - paid.stake, paid.capital));
        stakes += known.stake;
    }
    let capital = world.ask(pool, &BackstopPool::capitalCall {}).await?;
    assert_eq!(world.balance(pool).await?, capital + stakes, "the pool is solvent");
    println!("pool      capital left {}, stakes left {}", tokens(capital), tokens(stakes));
    Ok(())
}
