//! Winners are closed against a bankrupt unit at its bankruptcy price, once the fund can pay nothing more.
//!
//! Market by market, largest loss first. All lots of one market together pay the whole shortfall, a part of them its
//! part; so where the winners of the first market cannot take all lots, the next market's pay the rest. A winner pays at
//! most its profit in that market and at most its surplus, so that nobody is tipped over, and not a unit more than the
//! venue will charge it.

use alloy::primitives::U256;

use super::{TierModule, Violation, Work};
use crate::{
    recovery::{
        Action, Deleveraging, Step, Tier,
        adl::{AdlPolicy, Burden, Candidate, Demand},
        state::BPS,
        tier::{Allowance, Bound},
    },
    types::{
        MarketId, UnitKey,
        math::{mul_div_ceil, mul_div_floor, positive_part},
    },
};

/// Winners of one step, unless more are needed to take all lots: a bound on the gas of one transaction. A policy that
/// would close more chooses again among those of whom it would close most.
const WINNERS_PREFERRED: usize = 64;

/// How much more than planned a winner may be charged when prices move before execution, within its capacity.
const LOSS_TOLERANCE_BPS: U256 = U256::from_limbs([100, 0, 0, 0]);

pub(super) struct AutoDeleverage;

impl TierModule for AutoDeleverage {
    fn absorb(&self, work: &mut Work<'_>, unit: &UnitKey) -> Result<(), Violation> {
        if work.state.hole(unit)?.is_zero() || work.waits || !work.may_pass_fund(unit) {
            return Ok(());
        }
        let mut stopped = None;
        for market in work.state.markets_by_loss(unit)? {
            stopped = deleverage(work, unit, market)?.or(stopped);
            if work.state.hole(unit)?.is_zero() {
                return Ok(());
            }
        }
        if let Some(bound) = stopped {
            work.stop_at(unit, Tier::AutoDeleverage, bound);
        } else if winners_in_use(work, unit)? {
            work.waits = true;
            work.note(format!("{unit} waits: winners that could pay are in use by other transactions"));
        } else if !work.state.account(unit)?.positions.is_empty() {
            work.note(format!("{unit}: the winners' profit and surplus take no more of its shortfall"));
        }
        Ok(())
    }
}

/// Closes what the winners of one market take. The limit of the tier that ended it before the shortfall did, if one did.
fn deleverage(work: &mut Work<'_>, unit: &UnitKey, market: MarketId) -> Result<Option<Bound>, Violation> {
    let hole = work.state.hole(unit)?;
    let open = work.state.lots(unit, market).unsigned_abs();
    let candidates = candidates(work, unit, market)?;
    let demand = Demand { candidates: &candidates, lots: open, loss: hole, accepted: accepted(work)? };
    let (winners, stopped) = charge(work, &demand);
    if winners.is_empty() {
        return Ok(stopped);
    }
    work.state.deleverage(unit, market, &winners)?;
    let absorbs = winners.iter().fold(U256::ZERO, |sum, winner| sum + winner.loss);
    let count = winners.len();
    work.push(Step {
        tier: Tier::AutoDeleverage,
        unit: Some(unit.clone()),
        action: Action::Deleverage { market, winners },
        absorbs,
        why: format!("{hole} short and the fund can pay nothing more: {count} winners of market {market} close at the bankruptcy price"),
    });
    Ok(stopped)
}

/// Whether the unit holds the other side of a profit that the account makes in this market.
fn faces(work: &Work<'_>, unit: &UnitKey, winner: &UnitKey, market: MarketId) -> Result<bool, Violation> {
    let (held, other) = (work.state.lots(unit, market), work.state.lots(winner, market));
    let opposite = !other.is_zero() && other.is_negative() != held.is_negative();
    Ok(opposite && !positive_part(work.state.pnl(work.state.account(winner)?, market)).is_zero())
}

/// What the account has paid for others in this plan.
fn borne(work: &Work<'_>, unit: &UnitKey) -> Result<U256, Violation> {
    let before = work.case.solvent.get(unit).map(|solvent| solvent.equity).unwrap_or_default();
    Ok(positive_part(before - work.state.equity(work.state.account(unit)?)))
}

/// The highest burden that this plan has put on anybody.
fn accepted(work: &Work<'_>) -> Result<Burden, Violation> {
    let mut highest = Burden::default();
    for (unit, solvent) in work.state.charged.iter().filter_map(|unit| work.case.solvent.get_key_value(unit)) {
        highest = highest.max(Burden { paid: borne(work, unit)?, equity: positive_part(solvent.equity) });
    }
    Ok(highest)
}

/// Who can pay in this market, and with how many lots.
fn candidates(work: &Work<'_>, unit: &UnitKey, market: MarketId) -> Result<Vec<Candidate>, Violation> {
    let hole = work.state.hole(unit)?;
    let open = work.state.lots(unit, market).unsigned_abs();
    let mut found = Vec::new();
    for key in work.case.solvent.keys() {
        if in_use(work, key) || !faces(work, unit, key, market)? {
            continue;
        }
        let account = work.state.account(key)?;
        let profit = positive_part(work.state.pnl(account, market));
        let capacity = profit.min(positive_part(work.state.surplus(account)));
        // The price of a lot only falls while winners are charged, each rounded up, so this many lots cost no more.
        let affordable = mul_div_floor(capacity, open, hole).unwrap_or(U256::MAX);
        let lots = work.state.lots(key, market).unsigned_abs();
        let lots_max = lots.min(affordable);
        if lots_max.is_zero() {
            continue;
        }
        found.push(Candidate {
            unit: key.clone(),
            short: work.state.lots(key, market).is_negative(),
            lots,
            lots_max,
            profit,
            capacity,
            notional: lots * work.state.market(market)?.mark_price,
            equity: positive_part(work.state.equity(account)),
            borne: borne(work, key)?,
        });
    }
    Ok(found)
}

/// The policy's choice, of few enough winners.
fn allot(policy: &dyn AdlPolicy, demand: &Demand<'_>) -> Vec<(Candidate, U256)> {
    let named = |candidates: &[Candidate], allotted: Vec<(usize, U256)>| {
        allotted.into_iter().map(|(index, lots)| (candidates[index].clone(), lots)).collect::<Vec<_>>()
    };
    let mut chosen = named(demand.candidates, policy.allot(demand));
    if chosen.len() <= WINNERS_PREFERRED {
        return chosen;
    }
    chosen.sort_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.unit.cmp(&b.unit)));
    let mut covered = U256::ZERO;
    let preferred = chosen.into_iter().enumerate().map_while(|(index, (candidate, _))| {
        let wanted = index < WINNERS_PREFERRED || covered < demand.lots;
        covered += candidate.lots_max;
        wanted.then_some(candidate)
    });
    let candidates: Vec<_> = preferred.collect();
    named(&candidates, policy.allot(&Demand { candidates: &candidates, ..*demand }))
}

/// The policy's choice, with what the venue will charge each: ceil(shortfall left · lots / lots left), in order. Ends
/// where the shortfall does, or the tier's allowance: then the last winner gives as many lots as still fit.
fn charge(work: &Work<'_>, demand: &Demand<'_>) -> (Vec<Deleveraging>, Option<Bound>) {
    let Allowance { amount: mut allowance, bound } = work.allowance(Tier::AutoDeleverage);
    let mut units_left = work.units_left(Tier::AutoDeleverage);
    let (mut hole_left, mut lots_left, mut winners) = (demand.loss, demand.lots, Vec::new());
    for (candidate, wanted) in allot(work.policy, demand) {
        if hole_left.is_zero() {
            break;
        }
        let new = !work.reaches(Tier::AutoDeleverage, &candidate.unit);
        if new && units_left == 0 {
            return (winners, Some(Bound::Units));
        }
        let lots = wanted.min(mul_div_floor(allowance, lots_left, hole_left).unwrap_or(U256::MAX));
        let Some(loss) = mul_div_ceil(hole_left, lots, lots_left).filter(|_| !lots.is_zero()) else {
            return (winners, Some(bound));
        };
        let tolerated = loss + mul_div_ceil(loss, LOSS_TOLERANCE_BPS, BPS).unwrap_or_default();
        let loss_max = tolerated.min(candidate.capacity);
        winners.push(Deleveraging { unit: candidate.unit, lots, loss, loss_max });
        (hole_left, lots_left, allowance) = (hole_left - loss, lots_left - lots, allowance.saturating_sub(loss));
        units_left -= usize::from(new);
        if lots < wanted {
            return (winners, Some(bound));
        }
    }
    (winners, None)
}

/// Touched by a transaction in flight, or by this plan as a maker: its figures are not certain.
fn in_use(work: &Work<'_>, unit: &UnitKey) -> bool {
    work.reserved(unit) || work.state.makers.contains(unit)
}

fn winners_in_use(work: &Work<'_>, unit: &UnitKey) -> Result<bool, Violation> {
    for market in work.state.markets_by_loss(unit)? {
        for key in work.case.solvent.keys().filter(|key| in_use(work, key)) {
            if faces(work, unit, key, market)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
