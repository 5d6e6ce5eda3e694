//! Laws of the policies on random winners; optima against exhaustive search and against a bisection that shares no code
//! with the policies.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::recovery::adl::min_max::LIGHT_BPS;

fn u(n: u64) -> U256 {
    U256::from(n)
}

fn key(id: u16) -> UnitKey {
    UnitKey::new(id.to_be_bytes().to_vec()).unwrap()
}

/// Position, profit, notional, equity, borne, and how much of the position may be closed, of 100.
type Figures = (u64, u64, u64, u64, u64, u64);

fn winner(id: u16, (lots, profit, notional, equity, borne, part): Figures) -> Candidate {
    Candidate {
        unit: key(id),
        short: id.is_multiple_of(2),
        lots: u(lots),
        lots_max: u((lots * part / 100).max(1)),
        profit: u(profit),
        capacity: u(profit),
        notional: u(notional),
        equity: u(equity),
        borne: u(borne),
    }
}

fn winners(figures: Vec<Figures>) -> Vec<Candidate> {
    (0..).zip(figures).map(|(id, f)| winner(id, f)).collect()
}

fn figures() -> impl Strategy<Value = Figures> {
    let borne = prop_oneof![3 => Just(0), 1 => 1u64..10_000];
    (1u64..1_000, 1u64..1_000_000, 1u64..1_000_000, 0u64..1_000_000, borne, 1u64..=100)
}

fn demand(candidates: &[Candidate], lots: u64, loss: u64) -> Demand<'_> {
    Demand { candidates, lots: u(lots), loss: u(loss), accepted: Burden::default() }
}

/// Lots by unit.
fn by_unit(policy: &dyn AdlPolicy, demand: &Demand<'_>) -> BTreeMap<UnitKey, U256> {
    let allotted = policy.allot(demand);
    let chosen: BTreeMap<_, _> = allotted.iter().map(|(i, lots)| (demand.candidates[*i].unit.clone(), *lots)).collect();
    assert_eq!(chosen.len(), allotted.len(), "each once");
    chosen
}

fn lots_of(chosen: &BTreeMap<UnitKey, U256>, unit: &UnitKey) -> U256 {
    chosen.get(unit).copied().unwrap_or_default()
}

fn available(candidates: &[Candidate]) -> U256 {
    candidates.iter().fold(U256::ZERO, |sum, c| sum + c.lots_max)
}

/// What the account has paid when these lots are closed, times the lots demanded: an integer.
fn burden(demand: &Demand<'_>, candidate: &Candidate, lots: U256) -> Burden {
    let paid = candidate.borne * demand.lots + lots * demand.loss;
    Burden { paid, equity: (candidate.equity + candidate.borne) * demand.lots }
}

/// The highest burden that a choice adds to.
fn highest(demand: &Demand<'_>, chosen: &BTreeMap<UnitKey, U256>) -> Burden {
    let each = demand.candidates.iter().map(|c| (c, lots_of(chosen, &c.unit))).filter(|(_, lots)| !lots.is_zero());
    each.map(|(c, lots)| burden(demand, c, lots)).max().unwrap_or_default()
}

proptest! {
    #[test]
    fn every_policy_takes_what_is_demanded_within_the_caps(
        figures in prop::collection::vec(figures(), 0..40), asked in 0u64..20_000, loss in 0u64..1_000_000,
    ) {
        let candidates = winners(figures);
        for policy in POLICIES {
            let chosen = by_unit(policy, &demand(&candidates, asked, loss));
            let total = chosen.values().fold(U256::ZERO, |sum, lots| sum + *lots);
            prop_assert_eq!(total, available(&candidates).min(u(asked)), "{}", policy.name());
            for candidate in &candidates {
                prop_assert!(lots_of(&chosen, &candidate.unit) <= candidate.lots_max);
            }
            prop_assert!(chosen.values().all(|lots| !lots.is_zero()));
        }
    }

    #[test]
    fn nobody_pays_more_than_it_has(
        figures in prop::collection::vec(figures(), 1..40), asked in 1u64..20_000, loss in 1u64..1_000_000_000,
    ) {
        // As a tier limits them: lots whose loss the account can pay.
        let mut candidates = winners(figures);
        for candidate in &mut candidates {
            candidate.capacity = candidate.profit.min(candidate.equity);
            candidate.lots_max = candidate.lots.min(candidate.capacity * u(asked) / u(loss));
        }
        let demand = demand(&candidates, asked, loss);
        for policy in POLICIES {
            let chosen = by_unit(policy, &demand);
            prop_assert_eq!(
                chosen.values().fold(U256::ZERO, |sum, lots| sum + *lots), available(&candidates).min(u(asked))
            );
            for candidate in &candidates {
                let loss = (lots_of(&chosen, &candidate.unit) * demand.loss).div_ceil(demand.lots);
                prop_assert!(loss <= candidate.capacity && loss <= candidate.equity, "{}", policy.name());
            }
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        figures in prop::collection::vec(figures(), 1..40), asked in 0u64..10_000, turn in 0usize..40,
    ) {
        // Many alike, so that ties decide.
        let candidates = winners(figures.iter().map(|f| (f.0 % 7 + 1, f.1 % 5, f.2 % 5, f.3 % 5, 0, f.5)).collect());
        let mut turned = candidates.clone();
        turned.reverse();
        turned.rotate_left(turn % candidates.len());
        for policy in POLICIES {
            let [a, b] = [&candidates, &turned].map(|c| by_unit(policy, &demand(c, asked % 60, 9)));
            prop_assert_eq!(a, b, "{}", policy.name());
        }
    }

    /// Who is asked for more lots in all asks nobody for fewer. Not so the largest remainders of pro-rata, nor the
    /// smallest number of accounts.
    #[test]
    fn a_larger_demand_relieves_nobody(
        figures in prop::collection::vec(figures(), 1..30), asked in 0u64..5_000, more in 1u64..100,
    ) {
        let candidates = winners(figures);
        let policies: [&dyn AdlPolicy; 6] =
            [&WaterFilling, &WaterFillingProfit, &LeverageDraining, &Queue, &QueueIndex, &QueueProfit];
        for policy in policies {
            // The loss of a lot stays: only then is it the same crisis.
            let less = by_unit(policy, &demand(&candidates, asked, asked * 7));
            let more = by_unit(policy, &demand(&candidates, asked + more, (asked + more) * 7));
            for candidate in &candidates {
                let [less, more] = [&less, &more].map(|chosen| lots_of(chosen, &candidate.unit));
                prop_assert!(less <= more, "{}: {} then {}", policy.name(), less, more);
            }
        }
    }

    /// Nobody gains or loses by splitting an account: the halves are closed by what the whole was, within the lots that
    /// rounding moves, and so is everybody else.
    #[test]
    fn splitting_an_account_changes_nothing_where_that_is_claimed(
        figures in prop::collection::vec(figures(), 1..20), asked in 0u64..5_000,
    ) {
        let even = |f: &Figures| (f.0 * 200, f.1 * 2, f.2 * 2, f.3 * 2 + 2, 0, f.5);
        let whole = winners(figures.iter().map(even).collect());
        let mut split = whole.clone();
        let first = whole[0].clone();
        split[0] = Candidate {
            lots: first.lots / u(2), lots_max: first.lots_max / u(2), profit: first.profit / u(2),
            notional: first.notional / u(2), equity: first.equity / u(2), ..first
        };
        split.push(Candidate { unit: key(u16::MAX), ..split[0].clone() });
        let policies: [&dyn AdlPolicy; 6] =
            [&WaterFilling, &WaterFillingProfit, &LeverageDraining, &ProRata, &ProRataSize, &RiskAware];
        for policy in policies {
            let [before, after] = [&whole, &split].map(|c| by_unit(policy, &demand(c, asked, 1_000)));
            let halves = lots_of(&after, &whole[0].unit) + lots_of(&after, &key(u16::MAX));
            prop_assert!(halves.abs_diff(lots_of(&before, &whole[0].unit)) <= u(2), "{}", policy.name());
            for candidate in &whole[1..] {
                let [before, after] = [&before, &after].map(|chosen| lots_of(chosen, &candidate.unit));
                prop_assert!(after.abs_diff(before) <= U256::ONE, "{}", policy.name());
            }
        }
    }

    /// As large as a case may be: nothing overflows, all is covered.
    #[test]
    fn the_largest_figures_are_covered(
        figures in prop::collection::vec(prop::array::uniform5(any::<[u64; 4]>()), 1..12), of in 0usize..200,
        asked in any::<u64>(), loss in any::<[u64; 4]>(),
    ) {
        let money = |limbs: [u64; 4]| U256::from_limbs(limbs) >> (56 + of);
        let candidates: Vec<_> = (0..).zip(figures).map(|(id, [lots, profit, notional, equity, borne])| Candidate {
            lots: u(lots[0]), lots_max: u(lots[0].min(lots[1])), profit: money(profit), notional: money(notional),
            equity: money(equity), borne: money(borne), ..winner(id, (1, 1, 1, 1, 0, 100))
        }).collect();
        let accepted = Burden { paid: money(loss) >> 8, equity: money(loss) };
        for policy in POLICIES {
            let demand = Demand { candidates: &candidates, lots: u(asked), loss: money(loss), accepted };
            let chosen = by_unit(policy, &demand);
            let total = chosen.values().fold(U256::ZERO, |sum, lots| sum + *lots);
            prop_assert_eq!(total, available(&candidates).min(u(asked)), "{}", policy.name());
            prop_assert!(candidates.iter().all(|c| lots_of(&chosen, &c.unit) <= c.lots_max));
        }
    }

    /// The bisection: for each account the fewest of its lots at whose burden everybody together gives enough.
    #[test]
    fn the_highest_burden_is_the_optimum_found_by_bisection(
        figures in prop::collection::vec(figures(), 1..60), asked in 1u64..20_000, loss in 1u64..1_000_000,
    ) {
        let mut candidates = winners(figures);
        candidates.iter_mut().for_each(|c| c.equity += U256::ONE);
        let lots = u(asked).min(available(&candidates));
        let demand = Demand { lots, ..demand(&candidates, asked, loss) };
        let given = |level: Burden| candidates.iter().fold(U256::ZERO, |sum, c| {
            // Most lots with borne · lots + k · loss ≤ level · (equity + borne) · lots, by plain division.
            let reach = level.paid * (c.equity + c.borne) * demand.lots / level.equity;
            sum + (reach.saturating_sub(c.borne * demand.lots) / demand.loss).min(c.lots_max)
        });
        let mut optimum: Option<Burden> = None;
        for candidate in &candidates {
            let (mut low, mut high) = (U256::ZERO, candidate.lots_max);
            if given(burden(&demand, candidate, high)) < lots {
                continue;
            }
            while low + U256::ONE < high {
                let middle = (low + high) / u(2);
                let enough = given(burden(&demand, candidate, middle)) >= lots;
                if enough { high = middle } else { low = middle }
            }
            let found = burden(&demand, candidate, high);
            optimum = Some(optimum.map_or(found, |best| best.min(found)));
        }
        let optimum = optimum.unwrap();
        prop_assert_eq!(highest(&demand, &by_unit(&WaterFilling, &demand)), optimum);
        // The fewest accounts: the largest amounts within the level.
        let light = Burden { paid: LIGHT_BPS, equity: u(10_000) };
        for accepted in [Burden::default(), Burden { paid: u(1), equity: u(100) }, Burden { paid: u(1), equity: u(2) }] {
            let level = optimum.max(accepted.min(light));
            let mut most: Vec<_> = candidates.iter().map(|c| {
                (0..=c.lots_max.to::<u64>()).rev().find(|k| *k == 0 || burden(&demand, c, u(*k)) <= level).unwrap()
            }).collect();
            most.sort_unstable_by(|a, b| b.cmp(a));
            let mut sum = U256::ZERO;
            let fewest = most.iter().take_while(|n| { let open = sum < lots; sum += u(**n); open }).count();
            let chosen = by_unit(&MinMax, &Demand { accepted, ..demand });
            prop_assert!(highest(&demand, &chosen) <= level);
            prop_assert_eq!(chosen.len(), fewest);
        }
    }

    /// No lot could move to somebody who would then bear less than its payer does now.
    #[test]
    fn no_lot_moves_to_a_lighter_burden(
        figures in prop::collection::vec(figures(), 2..30), asked in 1u64..10_000, loss in 1u64..1_000_000,
    ) {
        let mut candidates = winners(figures);
        candidates.iter_mut().for_each(|c| c.equity += U256::ONE);
        let demand = demand(&candidates, asked, loss);
        let chosen = by_unit(&WaterFilling, &demand);
        let drained = by_unit(&LeverageDraining, &demand);
        for payer in &candidates {
            for other in &candidates {
                let [paid, next] = [lots_of(&chosen, &payer.unit), lots_of(&chosen, &other.unit) + U256::ONE];
                if !paid.is_zero() && next <= other.lots_max {
                    prop_assert!(burden(&demand, other, next) >= burden(&demand, payer, paid));
                }
                // Nor one lot be closed of somebody with more leverage than another who was closed has left after it.
                let [closed, spared] = [lots_of(&drained, &payer.unit), lots_of(&drained, &other.unit)];
                if !closed.is_zero() && spared < other.lots_max {
                    let kept = (payer.lots - closed + U256::ONE) * other.equity;
                    prop_assert!(kept >= (other.lots - spared) * payer.equity);
                }
            }
        }
    }
}

/// Every way to take the lots, small cases only.
fn every_way(candidates: &[Candidate], lots: u64) -> Vec<Vec<u64>> {
    let Some((first, rest)) = candidates.split_first() else {
        return if lots == 0 { vec![Vec::new()] } else { Vec::new() };
    };
    let most = first.lots_max.to::<u64>().min(lots);
    let with = |n: u64| every_way(rest, lots - n).into_iter().map(move |way| [vec![n], way].concat());
    (0..=most).flat_map(with).collect()
}

proptest! {
    #[test]
    fn optima_are_those_of_exhaustive_search(
        figures in prop::collection::vec((1u64..6, 1u64..30, 0u64..8, 1u64..=100), 1..5), asked in 1u64..12, loss in 1u64..40,
        accepted in 0u64..4,
    ) {
        let candidates: Vec<_> = (0..).zip(figures).map(|(id, (lots, equity, borne, part))| {
            winner(id, (lots, 1 + equity / 2, lots, equity, borne, part))
        }).collect();
        let lots = asked.min(available(&candidates).to());
        let accepted = Burden { paid: u(accepted), equity: u(100) };
        let demand = Demand { accepted, ..demand(&candidates, lots, loss) };
        let ways: Vec<BTreeMap<UnitKey, U256>> = every_way(&candidates, lots).into_iter().map(|way| {
            candidates.iter().map(|c| c.unit.clone()).zip(way.into_iter().map(u)).filter(|(_, n)| !n.is_zero()).collect()
        }).collect();
        let least = |score: &dyn Fn(&BTreeMap<UnitKey, U256>) -> Burden| ways.iter().map(score).min().unwrap();

        let optimum = least(&|way| highest(&demand, way));
        prop_assert_eq!(highest(&demand, &by_unit(&WaterFilling, &demand)), optimum);

        let level = optimum.max(accepted.min(Burden { paid: LIGHT_BPS, equity: u(10_000) }));
        let bearable = ways.iter().filter(|way| highest(&demand, way) <= level);
        let chosen = by_unit(&MinMax, &demand);
        prop_assert!(highest(&demand, &chosen) <= level);
        prop_assert_eq!(Some(chosen.len()), bearable.map(BTreeMap::len).min());

        let part = |way: &BTreeMap<UnitKey, U256>| candidates.iter().map(|c| {
            Burden { paid: lots_of(way, &c.unit), equity: c.profit }
        }).max().unwrap();
        prop_assert_eq!(part(&by_unit(&WaterFillingProfit, &demand)), least(&part));

        let leverage = |way: &BTreeMap<UnitKey, U256>| candidates.iter().map(|c| {
            Burden { paid: c.lots - lots_of(way, &c.unit), equity: c.equity }
        }).max().unwrap();
        prop_assert_eq!(leverage(&by_unit(&LeverageDraining, &demand)), least(&leverage));
    }
}

#[test]
fn queues_rank_by_their_scores() {
    // Position, profit, notional, equity; even keys are short.
    let candidates = [
        winner(1, (5, 400, 1_000, 1_000, 0, 100)), // long: 0.40 of equity; 1000 / 600 · 1 = 1.67
        winner(2, (5, 300, 1_000, 600, 0, 100)),   // short: 0.50; 1300 / 1000 · 1.67 = 2.17
        winner(3, (5, 500, 2_000, 1_250, 0, 100)), // long: 0.40; 2000 / 1500 · 1.6 = 2.13
    ];
    let order = |policy: &dyn AdlPolicy| {
        let allotted = policy.allot(&demand(&candidates, 15, 1));
        allotted.into_iter().map(|(index, _)| index).collect::<Vec<_>>()
    };
    assert_eq!(order(&Queue), [1, 0, 2]);
    assert_eq!(order(&QueueIndex), [1, 2, 0]);
    assert_eq!(order(&QueueProfit), [2, 0, 1]);
    assert_eq!(Queue.allot(&demand(&candidates, 7, 1)), [(1, u(5)), (0, u(2))]);
}

#[test]
fn a_short_with_the_higher_entry_goes_first_and_so_does_a_long_with_the_lower() {
    // The same equity and position at a mark of 100; shorts from 150 and 110, longs from 60 and 95.
    let at = |id, profit| winner(id, (10, profit, 1_000, 1_000, 0, 100));
    let shorts = [at(2, 100), at(4, 500)];
    let longs = [at(1, 50), at(3, 400)];
    for candidates in [shorts, longs] {
        assert_eq!(QueueIndex.allot(&demand(&candidates, 10, 1)), [(1, u(10))]);
    }
}

#[test]
fn fewer_hands_are_preferred_up_to_a_light_burden_that_somebody_bears_already() {
    let candidates: Vec<_> = (0..10).map(|id| winner(id, (100, 50, 100, 1_000, 0, 100))).collect();
    let accounts = |accepted| MinMax.allot(&Demand { accepted, ..demand(&candidates, 100, 100) }).len();
    // A lot loses 1: the optimum is 10 lots of each, 1 %.
    assert_eq!(accounts(Burden::default()), 10);
    assert_eq!(accounts(Burden { paid: u(2), equity: u(100) }), 5);
    // Somebody's 90 % is no reason to put more than 2 % on anybody else.
    assert_eq!(accounts(Burden { paid: u(9), equity: u(10) }), 5);
    // Who has paid already has less left to give.
    let borne: Vec<_> = candidates.iter().map(|c| Candidate { borne: u(10), ..c.clone() }).collect();
    let accepted = Burden { paid: u(2), equity: u(100) };
    assert_eq!(MinMax.allot(&Demand { accepted, ..demand(&borne, 100, 100) }).len(), 10);
}

#[test]
fn burdens_compare_as_fractions() {
    let burden = |paid, equity| Burden { paid: u(paid), equity: u(equity) };
    assert!(burden(1, 3) < burden(1, 2) && burden(2, 4) == burden(1, 2) && burden(0, 0) == burden(0, 9));
    assert!(burden(1, 0) > burden(u64::MAX, 1) && burden(0, 0) < burden(1, 1_000));
}

#[test]
fn policies_are_found_by_their_words() {
    for word in adl_policy_words() {
        assert_eq!(adl_policy(word).map(|policy| policy.name()), Some(word));
    }
    assert_eq!(adl_policy_words().collect::<std::collections::BTreeSet<_>>().len(), POLICIES.len());
    assert!(adl_policy("lottery").is_none());
}
