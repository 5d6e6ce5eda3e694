//! What a shared backstop pool pays to deployments that fail at once.
//!
//! The same integer maths as the pool's contract (`contracts/src/IBackstopPool.sol`), so that a deployment claims what it
//! will get and leaves the rest to its next tier.
//!
//! Invariants: the capital pays at most what it has; a member's part of the capital stays within what its cap leaves and
//! its own part within its stake; the order of members changes nothing; when capital is scarce every claim is granted the
//! same fraction, rounded down.
//! Must not: decide whether a hole exists. The contract reads that itself when it is asked and when it pays.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use super::Violation;
use crate::types::{
    UnitKey,
    math::{mul_div_ceil, mul_div_floor},
};

const BPS: u32 = 10_000;
/// Money below this many bits: no sum of 2²⁴ claims overflows.
const MONEY_BITS: usize = 200;
const CLAIMS_MAX: usize = 1 << 24;

/// What a member may still ask for, as the pool's contract has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberTerms {
    /// What the capital may still have outstanding for it: cap less outstanding, 0 when its premium has run out.
    pub cap_left: U256,
    /// Its own part of every payment, of the payment; below 10 000.
    pub first_loss_bps: u32,
    /// Its own money for these parts.
    pub stake: U256,
}

/// The pool behind one segment, as its contract has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolCase {
    /// What underwriters have in it.
    pub capital: U256,
    /// What the deployment may still claim.
    pub terms: MemberTerms,
    /// The round that is open in the next block, if one is.
    pub round: Option<PoolRound>,
    /// This segment's units that the last round has paid. They had their part of it and do not claim again before the
    /// next one.
    pub paid: BTreeSet<UnitKey>,
}

/// A round of claims and payments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRound {
    /// The last block that takes claims.
    pub claims_until_block: u64,
    /// The last block that pays.
    pub draws_until_block: u64,
    /// What all members' claims ask of the capital.
    pub asked: U256,
    /// What is shared: the capital when the first claim was paid, until then the capital as it is.
    pub capital: U256,
    /// Unpaid claims of this segment's units in this round.
    pub claims: BTreeMap<UnitKey, U256>,
}

/// Where a unit stands with the pool, for what is mined in the next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PoolClaimState {
    /// It may claim.
    Open,
    /// It has claimed, and payments begin later.
    Waits {
        /// From this block on.
        from_block: u64,
    },
    /// Its claim is paid when asked for.
    Due {
        /// At most this much.
        granted: U256,
    },
    /// It was paid in the last round.
    Paid,
    /// It has no claim, and this round takes none any more.
    Closed {
        /// The round's last block.
        until_block: u64,
    },
}

impl PoolCase {
    /// Where a unit stands, given the block that the case is true of.
    pub(super) fn claim_of(&self, unit: &UnitKey, block: u64) -> PoolClaimState {
        if self.paid.contains(unit) {
            return PoolClaimState::Paid;
        }
        let Some(round) = &self.round else { return PoolClaimState::Open };
        let takes_claims = block < round.claims_until_block;
        match round.claims.get(unit) {
            Some(_) if takes_claims => PoolClaimState::Waits { from_block: round.claims_until_block + 1 },
            Some(amount) => PoolClaimState::Due { granted: granted(*amount, round.capital, round.asked) },
            None if takes_claims => PoolClaimState::Open,
            None => PoolClaimState::Closed { until_block: round.draws_until_block },
        }
    }

    /// Refuses figures beyond what the arithmetic is made for.
    pub(super) fn check(&self) -> Result<(), Violation> {
        let small = self.round.as_ref().is_none_or(|round| {
            let claims = || round.claims.values();
            [round.asked, round.capital].iter().chain(claims()).all(|amount| fits(*amount))
        });
        if small && fits(self.capital) && sound(&self.terms) {
            Ok(())
        } else {
            Err(Violation::Case("the backstop pool holds a figure beyond the limits".to_owned()))
        }
    }

    /// Whether the open round gives all of the capital away.
    pub(super) fn is_scarce(&self) -> bool {
        self.round.as_ref().is_some_and(|round| round.asked >= round.capital)
    }
}

/// A hole of one account, for which its deployment would claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolClaim {
    /// The member contract.
    pub member: Address,
    /// What the account is short beyond its venue's own fund.
    pub shortfall: U256,
}

/// What becomes of a claim. All figures are whole units of the pool's asset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGrant {
    /// What to claim: the shortfall as far as cap and stake allow.
    pub claimed: U256,
    /// What is paid.
    pub paid: U256,
    /// Of it, the member's own part.
    pub from_stake: U256,
}

impl PoolGrant {
    /// The part of the payment that the common capital bears.
    pub fn from_capital(&self) -> U256 {
        self.paid - self.from_stake
    }
}

/// Shares `capital` among claims of one round, one grant for each claim in the order given. Claims of one member use up
/// its cap and stake in that order.
///
/// # Errors
/// An unknown member, terms that make no sense, or a figure beyond the limits.
pub fn allocate_backstop(
    capital: U256,
    members: &BTreeMap<Address, MemberTerms>,
    claims: &[PoolClaim],
) -> Result<Vec<PoolGrant>, Violation> {
    check(capital, members, claims)?;
    let mut left = members.clone();
    let mut asked = U256::ZERO;
    let mut claimed = Vec::with_capacity(claims.len());
    for claim in claims {
        let terms = left.get_mut(&claim.member).ok_or_else(|| unknown(claim.member))?;
        let amount = claim.shortfall.min(claimable(terms));
        asked += take(terms, amount);
        claimed.push((amount, terms.first_loss_bps));
    }
    let grant = |(amount, first_loss_bps): (U256, u32)| {
        let paid = granted(amount, capital, asked);
        PoolGrant { claimed: amount, paid, from_stake: part_ceil(paid, first_loss_bps) }
    };
    Ok(claimed.into_iter().map(grant).collect())
}

/// The largest claim that the contract takes now. With f of 10⁴ of its own: ceil(c·f) ≤ stake exactly when
/// c ≤ floor(stake·10⁴/f), and c − floor(c·f) ≤ cap left exactly when c ≤ floor(cap left·10⁴/(10⁴ − f)).
pub(super) fn claimable(terms: &MemberTerms) -> U256 {
    let per = |amount: U256, bps: u32| mul_div_floor(amount, U256::from(BPS), U256::from(bps)).unwrap_or(U256::MAX);
    per(terms.stake, terms.first_loss_bps).min(per(terms.cap_left, BPS - terms.first_loss_bps))
}

/// Counts a claim that [`claimable`] allows against the terms; what it asks of the capital.
pub(super) fn take(terms: &mut MemberTerms, amount: U256) -> U256 {
    let from_capital = amount - part_floor(amount, terms.first_loss_bps);
    terms.cap_left -= from_capital;
    terms.stake -= part_ceil(amount, terms.first_loss_bps);
    from_capital
}

/// What a round pays for a claim, rounded down.
fn granted(amount: U256, capital: U256, asked: U256) -> U256 {
    if asked <= capital { amount } else { mul_div_floor(amount, capital, asked).unwrap_or(U256::ZERO) }
}

fn part_floor(amount: U256, bps: u32) -> U256 {
    mul_div_floor(amount, U256::from(bps), U256::from(BPS)).unwrap_or(amount)
}

fn part_ceil(amount: U256, bps: u32) -> U256 {
    mul_div_ceil(amount, U256::from(bps), U256::from(BPS)).unwrap_or(amount)
}

fn check(capital: U256, members: &BTreeMap<Address, MemberTerms>, claims: &[PoolClaim]) -> Result<(), Violation> {
    let small = fits(capital) && claims.len() < CLAIMS_MAX && claims.iter().all(|c| fits(c.shortfall));
    if !small {
        return Err(Violation::Case("a claim or the pool's capital is beyond the limits".to_owned()));
    }
    match members.iter().find(|(_, terms)| !sound(terms)) {
        Some((member, _)) => Err(Violation::Case(format!("the terms of pool member {member} are beyond the limits"))),
        None => Ok(()),
    }
}

fn fits(amount: U256) -> bool {
    amount.bit_len() <= MONEY_BITS
}

fn sound(terms: &MemberTerms) -> bool {
    terms.first_loss_bps < BPS && fits(terms.cap_left) && fits(terms.stake)
}

fn unknown(member: Address) -> Violation {
    Violation::Unknown(format!("pool member {member}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(n: u8) -> Address {
        Address::repeat_byte(n)
    }

    fn terms(cap_left: u64, first_loss_bps: u32, stake: u64) -> MemberTerms {
        MemberTerms { cap_left: U256::from(cap_left), first_loss_bps, stake: U256::from(stake) }
    }

    fn claim(n: u8, shortfall: u64) -> PoolClaim {
        PoolClaim { member: member(n), shortfall: U256::from(shortfall) }
    }

    fn paid(grants: &[PoolGrant]) -> Vec<u64> {
        grants.iter().map(|g| g.paid.to()).collect()
    }

    /// The figures of `test_twoVenuesFailAtOnceAndShareProRata` in contracts/test/Pool.t.sol.
    #[test]
    fn it_grants_what_the_contract_pays() {
        let members =
            BTreeMap::from([(member(1), terms(10_000, 1_000, 5_000)), (member(2), terms(10_000, 2_500, 5_000))]);
        let grants = allocate_backstop(U256::from(3_000), &members, &[claim(1, 4_000), claim(2, 4_000)]).unwrap();
        assert_eq!(paid(&grants), [1_818, 1_818]);
        assert_eq!(grants.iter().map(|g| g.from_stake.to::<u64>()).collect::<Vec<_>>(), [182, 455]);
    }

    #[test]
    fn cap_and_stake_clip_what_is_claimed() {
        let members = BTreeMap::from([(member(1), terms(3_000, 1_000, 5_000)), (member(2), terms(9_000, 1_000, 99))]);
        let holes = [claim(1, 9_000), claim(1, 9_000), claim(2, 9_000)];
        let grants = allocate_backstop(U256::from(100_000), &members, &holes).unwrap();
        assert_eq!(paid(&grants), [3_333, 0, 990]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let members = BTreeMap::from([(member(1), terms(1, 10_000, 1))]);
        assert!(allocate_backstop(U256::ONE, &members, &[]).is_err());
        assert!(allocate_backstop(U256::ONE, &BTreeMap::new(), &[claim(1, 1)]).is_err());
        assert!(allocate_backstop(U256::MAX, &BTreeMap::new(), &[]).is_err());
    }

    fn world() -> impl Strategy<Value = (u64, BTreeMap<Address, MemberTerms>, Vec<PoolClaim>)> {
        let member_terms = (0..1_000_000u64, 0..10_000u32, 0..1_000_000u64).prop_map(|(c, f, s)| terms(c, f, s));
        let members = prop::collection::vec(member_terms, 1..6);
        (0..2_000_000u64, members, prop::collection::vec((any::<prop::sample::Index>(), 0..1_000_000u64), 0..24))
            .prop_map(|(capital, members, holes)| {
                let holes = holes.into_iter().map(|(i, s)| claim(u8::try_from(i.index(members.len())).unwrap(), s));
                let holes = holes.collect();
                let members = (0u8..).zip(members).map(|(n, t)| (member(n), t)).collect();
                (capital, members, holes)
            })
    }

    proptest! {
        #[test]
        fn solvent_within_caps_and_pro_rata((capital, members, holes) in world()) {
            let capital = U256::from(capital);
            let grants = allocate_backstop(capital, &members, &holes).unwrap();
            let total: U256 = grants.iter().map(PoolGrant::from_capital).sum();
            prop_assert!(total <= capital, "{total} of {capital}");
            for (id, terms) in &members {
                let own = || holes.iter().zip(&grants).filter(|(h, _)| h.member == *id).map(|(_, g)| g);
                prop_assert!(own().map(PoolGrant::from_capital).sum::<U256>() <= terms.cap_left);
                prop_assert!(own().map(|g| g.from_stake).sum::<U256>() <= terms.stake);
            }
            for (hole, grant) in holes.iter().zip(&grants) {
                prop_assert!(grant.paid <= grant.claimed && grant.claimed <= hole.shortfall);
            }
            let scarce = grants.iter().any(|g| g.paid < g.claimed);
            for (a, b) in grants.iter().zip(grants.iter().skip(1)) {
                // The same fraction of each: paid/claimed differs by less than one unit on either side.
                prop_assert!(!scarce || a.paid * b.claimed < (b.paid + U256::ONE) * a.claimed + U256::from(u8::from(a.claimed.is_zero())));
            }
            // Scarce capital is used up: less than two units a claim stay over.
            prop_assert!(!scarce || capital - total < U256::from(2 * grants.len() + 1));
        }

        #[test]
        fn the_order_of_members_changes_nothing((capital, members, holes) in world()) {
            let capital = U256::from(capital);
            let mut sorted: Vec<(usize, PoolClaim)> = holes.iter().copied().enumerate().collect();
            sorted.sort_by_key(|(_, hole)| std::cmp::Reverse(hole.member)); // stable: each member's own order stays
            let grants = allocate_backstop(capital, &members, &holes).unwrap();
            let reordered: Vec<PoolClaim> = sorted.iter().map(|(_, hole)| *hole).collect();
            for ((i, _), grant) in sorted.iter().zip(allocate_backstop(capital, &members, &reordered).unwrap()) {
                prop_assert_eq!(grants[*i], grant);
            }
        }
    }
}
