//! Holds the daemon's cache against the chain at one block: every account's standing, every probe of the adapter.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use backstop::{
    positions::{Book, Snapshot},
    protocols::{Adapter, Probe},
    scanner::{Standing, Unvalued},
    types::{BlockRef, Call, CallOutcome, UnitKey},
};

use super::{Expected, Stage};

/// What was compared and what differed, in words.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked {
    /// Accounts whose standing was compared.
    pub(super) accounts: usize,
    /// Probes that were compared.
    pub(super) probes: usize,
    /// What differs, each with its block.
    pub(super) mismatches: Vec<String>,
}

impl Checked {
    /// Both together.
    pub(super) fn add(&mut self, other: Self) {
        self.accounts += other.accounts;
        self.probes += other.probes;
        self.mismatches.extend(other.mismatches);
    }
}

/// Compares each unit of the cache with what the protocol says of it.
pub(super) fn standings(adapter: &dyn Adapter, snapshot: &Snapshot, expected: &[Expected]) -> Result<Checked> {
    let mut checked = Checked::default();
    let mut cached: BTreeMap<UnitKey, Result<Standing, Unvalued>> =
        snapshot.book.units().map(|(key, unit)| (key.clone(), adapter.standing(snapshot, key, unit))).collect();
    let mut named = BTreeSet::new();
    for wanted in expected {
        ensure!(named.insert(&wanted.unit), "{} is expected twice", wanted.unit);
        checked.accounts += 1;
        let difference = match cached.remove(&wanted.unit) {
            None if wanted.is_empty => None,
            None => Some("is on chain and not in the cache".to_owned()),
            Some(Err(error)) => Some(format!("has no value in the cache: {error}")),
            Some(Ok(standing)) => differences(&standing, wanted)?,
        };
        checked.mismatches.extend(difference.map(|what| format!("{}: {what}", wanted.unit)));
    }
    checked.mismatches.extend(cached.into_keys().map(|key| format!("{key}: is in the cache and nobody named it")));
    Ok(checked)
}

/// Where the standing is not what the protocol says, if anywhere.
fn differences(standing: &Standing, wanted: &Expected) -> Result<Option<String>> {
    let health_factor = wanted.health_factor_wad.map(|wad| (standing.health_factor_wad != Some(wad), format!("{wad}")));
    let equity = wanted.equity.map(|equity| (standing.equity != equity, format!("{equity}")));
    let margin = wanted.maintenance_margin.map(|margin| (standing.maintenance_margin != margin, format!("{margin}")));
    let surplus = wanted.surplus.map(|surplus| (standing.surplus != surplus, format!("{surplus}")));
    let liquidatable = wanted.liquidatable.map(|is| (standing.surplus.is_negative() != is, format!("{is}")));
    let figures = [
        ("health factor", health_factor),
        ("equity", equity),
        ("maintenance margin", margin),
        ("surplus", surplus),
        ("liquidatable", liquidatable),
    ];
    ensure!(figures.iter().any(|(_, figure)| figure.is_some()), "{}: nothing to compare", wanted.unit);
    let differing: Vec<String> = figures
        .into_iter()
        .filter_map(|(name, figure)| figure.filter(|(differs, _)| *differs).map(|(_, text)| format!("{name} {text}")))
        .collect();
    Ok((!differing.is_empty()).then(|| format!("the chain says {}, the cache {standing:?}", differing.join(", "))))
}

/// Asks the chain what the adapter says that it must answer.
async fn probes(stage: &Stage, block: &BlockRef, probes: &[Probe]) -> Result<Checked> {
    let calls: Vec<Call> = probes.iter().map(|probe| probe.call.clone()).collect();
    let outcomes = stage.node.outcomes(stage.keeper, &calls, block.hash).await?;
    let mut checked = Checked { probes: probes.len(), ..Checked::default() };
    for (probe, outcome) in probes.iter().zip(outcomes) {
        if outcome != CallOutcome::Returned(probe.expected.clone()) {
            let Probe { subject, expected, .. } = probe;
            checked.mismatches.push(format!("probe of {subject}: expected {expected}, the chain says {outcome:?}"));
        }
    }
    Ok(checked)
}

/// Everything at one block.
pub(super) async fn check(
    stage: &Stage,
    adapter: &dyn Adapter,
    block: &BlockRef,
    book: Book,
    expected: &[Expected],
) -> Result<Checked> {
    let snapshot = Snapshot { block: *block, book };
    let mut checked = standings(adapter, &snapshot, expected)?;
    let units: Vec<UnitKey> = snapshot.book.units().map(|(key, _)| key.clone()).collect();
    checked.add(probes(stage, block, &adapter.probes(&snapshot, &units)).await?);
    for mismatch in &mut checked.mismatches {
        *mismatch = format!("block {}: {mismatch}", block.number);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use backstop::types::{I256, U256};

    use super::*;

    fn standing(surplus: i64) -> Standing {
        Standing {
            equity: I256::try_from(surplus + 5).expect("fits"),
            maintenance_margin: U256::from(5),
            surplus: I256::try_from(surplus).expect("fits"),
            health_factor_wad: Some(U256::from(7)),
        }
    }

    #[test]
    fn each_figure_that_differs_is_named_and_only_those() {
        let unit = UnitKey::new(vec![1]).expect("a key");
        let same = Expected {
            health_factor_wad: Some(U256::from(7)),
            equity: Some(I256::try_from(4).expect("fits")),
            maintenance_margin: Some(U256::from(5)),
            surplus: Some(I256::MINUS_ONE),
            liquidatable: Some(true),
            ..Expected::of(unit.clone())
        };
        assert_eq!(differences(&standing(-1), &same).expect("comparable"), None);
        let said = differences(&standing(0), &same).expect("comparable").expect("a difference");
        assert!(said.starts_with("the chain says equity 4, surplus -1, liquidatable true, the cache"), "{said}");
        assert!(differences(&standing(0), &Expected::of(unit)).is_err(), "nothing compared is no comparison");
    }
}
