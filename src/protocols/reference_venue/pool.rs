//! The shared backstop pool that a deployment is a member of: its records, its logs, its views, its calls.
//!
//! | kind | id | words |
//! |---|---|---|
//! | 10 pool | 0 | capital; of the last round: number, last block for claims, last block for payments, asked, claims unpaid, whether settled, capital at settlement |
//! | 11 membership | 0 | operator, cap, first-loss share (bps), premium (bps a year), covered until (Unix s), stake, outstanding |
//! | 12 claim on the pool | segment and owner | round, amount; 0 = paid |
//!
//! Of other members only what changes the pool is kept.
//!
//! Invariants: events carry the state after the change, so a log overwrites and nothing is added up.
//! Must not: decide whether anything is claimed.

use std::collections::BTreeMap;

use alloy::sol_types::{SolCall, SolValue};

use super::{
    abi::IBackstopPool::{self, IBackstopPoolEvents as Event},
    settings::Membership,
    state::{self, Claim, Stored},
};
use crate::{
    positions::{Record, Snapshot},
    protocols::{
        Probe,
        records::{address_word, word_address},
    },
    recovery::{MemberTerms, PoolCase, PoolRound},
    types::{
        Address, B256, Call, U256, UnitKey,
        math::{mul_div_ceil, mul_div_floor},
    },
};

/// Where the pool's and the membership's only records are.
pub(super) const ONLY: B256 = B256::ZERO;
const BPS: U256 = U256::from_limbs([10_000, 0, 0, 0]);

/// The pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pool {
    pub(super) capital: U256,
    pub(super) round: Round,
}

/// The last round; number 0 before the first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    pub(super) number: u64,
    pub(super) claims_until_block: u64,
    pub(super) draws_until_block: u64,
    pub(super) asked: U256,
    /// Claims that are still to be paid.
    pub(super) unpaid: u64,
    /// What is shared, once that is fixed.
    pub(super) settled: Option<U256>,
}

impl Stored for Pool {
    const KIND: u16 = 10;
    const NAME: &'static str = "backstop pool";

    fn to_record(&self) -> Record {
        let Round { number, claims_until_block, draws_until_block, asked, unpaid, settled } = &self.round;
        let blocks = [*number, *claims_until_block, *draws_until_block].map(U256::from);
        let settlement = [U256::from(settled.is_some()), settled.unwrap_or_default()];
        [self.capital].into_iter().chain(blocks).chain([*asked, U256::from(*unpaid)]).chain(settlement).collect()
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[capital, number, claims_until, draws_until, asked, unpaid, settled, shared] = words else { return None };
        let round = Round {
            number: number.try_into().ok()?,
            claims_until_block: claims_until.try_into().ok()?,
            draws_until_block: draws_until.try_into().ok()?,
            asked,
            unpaid: unpaid.try_into().ok()?,
            settled: match u8::try_from(settled) {
                Ok(0) if shared.is_zero() => None,
                Ok(1) => Some(shared),
                _ => return None,
            },
        };
        Some(Self { capital, round })
    }
}

/// The deployment's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) operator: Address,
    pub(super) cap: U256,
    pub(super) first_loss_bps: u16,
    pub(super) premium_bps: u16,
    pub(super) covered_until: u64,
    pub(super) stake: U256,
    pub(super) outstanding: U256,
}

impl Stored for Terms {
    const KIND: u16 = 11;
    const NAME: &'static str = "membership of a backstop pool";

    fn to_record(&self) -> Record {
        vec![
            address_word(self.operator),
            self.cap,
            U256::from(self.first_loss_bps),
            U256::from(self.premium_bps),
            U256::from(self.covered_until),
            self.stake,
            self.outstanding,
        ]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[operator, cap, first_loss, premium, covered_until, stake, outstanding] = words else { return None };
        Some(Self {
            operator: word_address(operator)?,
            cap,
            first_loss_bps: first_loss.try_into().ok().filter(|bps| *bps < 10_000)?,
            premium_bps: premium.try_into().ok()?,
            covered_until: covered_until.try_into().ok()?,
            stake,
            outstanding,
        })
    }
}

/// A claim of one of the deployment's accounts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct PoolClaim {
    pub(super) round: u64,
    /// 0: paid.
    pub(super) amount: U256,
}

impl Stored for PoolClaim {
    const KIND: u16 = 12;
    const NAME: &'static str = "claim on the backstop pool";

    fn to_record(&self) -> Record {
        vec![U256::from(self.round), self.amount]
    }

    fn from_record(words: &[U256]) -> Option<Self> {
        let &[round, amount] = words else { return None };
        Some(Self { round: round.try_into().ok()?, amount })
    }
}

/// A change of the pool and the terms.
type Edit = Box<dyn FnOnce(&mut Pool, &mut Terms)>;

/// What an event of the pool changes for this member.
#[derive(Default)]
pub(super) struct Change {
    /// Of the pool and the terms.
    pub(super) edit: Option<Edit>,
    /// A claim of one of its accounts.
    pub(super) claim: Option<(B256, PoolClaim)>,
}

/// What an event changes for this member.
pub(super) fn change(member: Address, event: Event) -> Change {
    let edit = |edit: Edit| Change { edit: Some(edit), claim: None };
    let of_terms = |of: Address, change: Box<dyn FnOnce(&mut Terms)>| {
        if of == member { edit(Box::new(move |_, terms| change(terms))) } else { Change::default() }
    };
    match event {
        Event::CapitalChanged(e) => edit(Box::new(move |pool, _| pool.capital = e.capital)),
        Event::RoundOpened(e) => edit(Box::new(move |pool, _| {
            pool.round = Round {
                number: e.round,
                claims_until_block: e.claimsUntilBlock,
                draws_until_block: e.drawsUntilBlock,
                ..Round::default()
            };
        })),
        Event::RoundChanged(e) => edit(Box::new(move |pool, _| {
            (pool.round.asked, pool.round.unpaid) = (e.asked, e.unpaid);
        })),
        Event::RoundSettled(e) => edit(Box::new(move |pool, _| {
            (pool.round.asked, pool.round.settled) = (e.asked, Some(e.capital));
        })),
        Event::MemberSet(e) => of_terms(
            e.member,
            Box::new(move |terms| {
                (terms.operator, terms.cap) = (e.operator, e.cap);
                (terms.first_loss_bps, terms.premium_bps) = (e.firstLossBps, e.premiumBps);
            }),
        ),
        Event::StakeChanged(e) => of_terms(e.member, Box::new(move |terms| terms.stake = e.stake)),
        Event::PremiumPaid(e) => of_terms(e.member, Box::new(move |terms| terms.covered_until = e.coveredUntil)),
        Event::Repaid(e) => of_terms(e.member, Box::new(move |terms| terms.outstanding = e.outstanding)),
        Event::Claimed(e) => {
            let claim = PoolClaim { round: e.round, amount: e.amount };
            let claim = (e.member == member).then(|| (Claim::id(e.segment, e.account), claim));
            Change { claim, edit: None }
        }
        Event::Drawn(e) => {
            let paid = PoolClaim { round: e.round, amount: U256::ZERO };
            let claim = (e.member == member).then(|| (Claim::id(e.segment, e.account), paid));
            Change { claim, ..of_terms(e.member, Box::new(move |terms| terms.outstanding = e.outstanding)) }
        }
        Event::Underwritten(_) | Event::NoticeGiven(_) | Event::Redeemed(_) => Change::default(),
    }
}

/// The pool behind one segment, for what is mined in the next block.
pub(super) fn case(snapshot: &Snapshot, segment: u16) -> Option<PoolCase> {
    let book = &snapshot.book;
    let pool: Pool = state::find(book, ONLY).ok()??;
    let terms: Terms = state::find(book, ONLY).ok()??;
    let round = &pool.round;
    let all_paid = round.settled.is_some() && round.unpaid == 0;
    let open = round.number != 0 && snapshot.block.number < round.draws_until_block && !all_paid;
    let of_round = state::all::<PoolClaim>(book).filter(|(_, claim)| claim.round == round.number);
    let (paid, unpaid): (Vec<_>, Vec<_>) = of_round.partition(|(_, claim)| claim.amount.is_zero());
    let unpaid = if open { unpaid } else { Vec::new() };
    let of_segment = |claims: &[(B256, PoolClaim)]| -> BTreeMap<UnitKey, U256> {
        let own = |(id, claim): &(B256, PoolClaim)| {
            let (of, owner) = Claim::holder(*id)?;
            (of == segment).then(|| (state::unit_key(of, owner), claim.amount))
        };
        claims.iter().filter_map(own).collect()
    };
    let capital = round.settled.unwrap_or(pool.capital);
    Some(PoolCase {
        capital: pool.capital,
        terms: left(&terms, snapshot.block.timestamp, unpaid.iter().map(|(_, claim)| claim.amount)),
        round: open.then(|| PoolRound {
            claims_until_block: round.claims_until_block,
            draws_until_block: round.draws_until_block,
            asked: round.asked,
            capital,
            claims: of_segment(&unpaid),
        }),
        paid: of_segment(&paid).into_keys().collect(),
    })
}

/// What the terms leave beside these unpaid claims.
fn left(terms: &Terms, now: u64, claims: impl Iterator<Item = U256>) -> MemberTerms {
    let bps = U256::from(terms.first_loss_bps);
    let covered = now < terms.covered_until;
    let mut cap_left = if covered { terms.cap.saturating_sub(terms.outstanding) } else { U256::ZERO };
    let mut stake = terms.stake;
    for amount in claims {
        let own = mul_div_floor(amount, bps, BPS).unwrap_or(amount);
        cap_left = cap_left.saturating_sub(amount - own);
        stake = stake.saturating_sub(mul_div_ceil(amount, bps, BPS).unwrap_or(amount));
    }
    MemberTerms { cap_left, first_loss_bps: terms.first_loss_bps.into(), stake }
}

/// Views of the pool that must say what the cache says.
pub(super) fn probes(membership: Membership, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
    let Membership { pool: address, member } = membership;
    let book = &snapshot.book;
    let probe = |subject: String, call: Vec<u8>, expected: Vec<u8>| Probe {
        subject,
        call: Call::new(address, call),
        expected: expected.into(),
    };
    let Pool { capital, round } = state::find(book, ONLY).ok().flatten().unwrap_or_default();
    let Terms { operator, cap, first_loss_bps, premium_bps, covered_until, stake, outstanding } =
        state::find(book, ONLY).ok().flatten().unwrap_or_default();
    let round_view = IBackstopPool::Round {
        number: round.number,
        claimsUntilBlock: round.claims_until_block,
        drawsUntilBlock: round.draws_until_block,
        settled: round.settled.is_some(),
        unpaid: round.unpaid,
        asked: round.asked,
        capitalAtSettlement: round.settled.unwrap_or_default(),
    };
    let member_view = IBackstopPool::Member {
        operator,
        cap,
        firstLossBps: first_loss_bps,
        premiumBps: premium_bps,
        coveredUntil: covered_until,
        stake,
        outstanding,
    };
    let mut probes = vec![
        probe("capital of the backstop pool".into(), IBackstopPool::capitalCall {}.abi_encode(), capital.abi_encode()),
        probe("round of the backstop pool".into(), IBackstopPool::roundCall {}.abi_encode(), round_view.abi_encode()),
        probe(
            "membership of the backstop pool".into(),
            IBackstopPool::memberCall { member }.abi_encode(),
            member_view.abi_encode(),
        ),
    ];
    for unit in units {
        let Some((segment, account)) = state::parse_unit_key(unit) else { continue };
        let claim: Option<PoolClaim> = state::find(book, Claim::id(segment, account)).ok().flatten();
        // A paid claim is deleted on chain, with its round.
        let claim = claim.filter(|claim| !claim.amount.is_zero()).unwrap_or_default();
        let expected = IBackstopPool::Claim { round: claim.round, amount: claim.amount }.abi_encode();
        let call = IBackstopPool::claimOfCall { member, segment, account }.abi_encode();
        probes.push(probe(format!("claim of {account} of segment {segment} on the backstop pool"), call, expected));
    }
    probes
}
