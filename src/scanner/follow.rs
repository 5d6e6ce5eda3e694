//! The scanner that stays: it follows snapshots and looks only at what may have changed its condition.
//!
//! Between two snapshots it applies what changed in the book to its columns, moves the factors, and asks three questions:
//! who has become liquidatable (the tick, by safe bands), who may be at risk (the last full sweep's candidates, which hold
//! while no factor has moved by more than [`CANDIDATES_WITHIN`]), and who cannot be valued. Whoever one of the three names is
//! looked at exactly.
//!
//! Invariants: the findings of a snapshot do not depend on what was scanned before it; a unit that no screen clears is
//! looked at exactly.
//! Must not: decide anything from a float but whom to look at.

use std::collections::BTreeSet;

use super::{
    Factors, ScanReport, ScanSettings, Shape, Valuation,
    columns::{Handle, Held, Store},
    scan::{classify, rank},
};
use crate::{
    positions::{Book, Change, Delta, Snapshot, Unit},
    types::UnitKey,
};

/// How far each factor may move, of itself, before candidates are swept for anew.
const CANDIDATES_WITHIN: f64 = 0.01;

/// See the module.
#[derive(Debug)]
pub struct Scanner {
    settings: ScanSettings,
    following: Option<Following>,
}

/// What is kept between two snapshots.
#[derive(Debug)]
struct Following {
    book: Book,
    store: Store,
    /// Units that may be at risk, or worse, at any factors within reach of the last sweep's; some more, and with repeats.
    candidates: Vec<Handle>,
    swept_at: Vec<[f64; 2]>,
    /// Units without a shape: asked again in every pass.
    unvalued: BTreeSet<UnitKey>,
}

impl Scanner {
    /// One that has seen nothing yet.
    pub fn new(settings: ScanSettings) -> Self {
        Self { settings, following: None }
    }

    /// Looks at every unit of the snapshot.
    ///
    /// Order of the findings: bankrupt by shortfall, largest first; liquidatable by surplus, most negative first; unknown;
    /// at risk by health factor, lowest first. Ties stand by unit key.
    pub fn scan(&mut self, valuation: &dyn Valuation, snapshot: &Snapshot) -> ScanReport {
        let suspects = match valuation.factors(snapshot) {
            Ok(factors) => self.suspects(valuation, snapshot, &factors),
            // Without factors nothing can be screened, so every unit is looked at exactly.
            Err(_) => {
                self.following = None;
                snapshot.book.units().map(|(key, _)| key.clone()).collect()
            }
        };
        let found = suspects.iter().filter_map(|key| {
            let unit = snapshot.book.unit(key)?;
            let finding = classify(key, unit.segment, valuation.standing(snapshot, key, unit), &self.settings);
            if let Some(following) = &mut self.following {
                following.store.judged_opaque(key, finding.is_none());
            }
            finding
        });
        let mut findings: Vec<_> = found.collect();
        findings.sort_by(rank);
        if let Some(following) = &mut self.following {
            following.store.catch_up();
        }
        ScanReport { block: snapshot.block, findings, units: snapshot.book.unit_count(), raised: suspects.len() }
    }

    /// How the tick has left a unit.
    #[cfg(test)]
    pub(super) fn level(&self, key: &UnitKey) -> Option<super::columns::Level> {
        let store = &self.following.as_ref()?.store;
        Some(store.level_when_last_looked_at(store.find(key)?))
    }

    /// Whom no screen clears.
    fn suspects(&mut self, valuation: &dyn Valuation, snapshot: &Snapshot, factors: &Factors) -> Vec<UnitKey> {
        let known = self.following.take().and_then(|mut following| {
            let delta = following.book.changes_to(&snapshot.book);
            (!reshaped(valuation, &delta)).then(|| {
                following.follow(valuation, snapshot, &delta, factors);
                following
            })
        });
        let following = known.unwrap_or_else(|| Following::begin(valuation, snapshot, factors, &self.settings));
        self.following.insert(following).suspects()
    }
}

/// Whether units may have other planes than they had, though they did not change.
fn reshaped(valuation: &dyn Valuation, delta: &Delta) -> bool {
    delta.changes.iter().any(|change| match change {
        Change::Unit { .. } => false,
        Change::Record { key, before, after } => valuation.reshapes(key, before.as_deref(), after.as_deref()),
    })
}

impl Following {
    fn begin(valuation: &dyn Valuation, snapshot: &Snapshot, factors: &Factors, settings: &ScanSettings) -> Self {
        let units = snapshot.book.unit_count();
        let store = Store::with_room_for(units, factors, settings.at_risk_health_factor_bps);
        let mut following = Self {
            book: snapshot.book.clone(),
            swept_at: store.columns().table().values_now(),
            store,
            candidates: Vec::new(),
            unvalued: BTreeSet::new(),
        };
        for (key, unit) in snapshot.book.units() {
            let shape = shape_of(valuation, snapshot, &mut following.unvalued, key, unit);
            following.store.put(Held::of(key, unit), shape.as_ref());
        }
        following.candidates = following.store.columns().sweep(CANDIDATES_WITHIN);
        following
    }

    fn follow(&mut self, valuation: &dyn Valuation, snapshot: &Snapshot, delta: &Delta, factors: &Factors) {
        let Self { store, unvalued, .. } = self;
        // factors first: what changed may hold one that was not there before
        let stale = store.set_factors(factors).stale;
        store.apply(delta, |key, unit| shape_of(valuation, snapshot, unvalued, key, unit));
        let again: BTreeSet<UnitKey> = stale.into_iter().chain(unvalued.iter().cloned()).collect();
        for key in &again {
            match snapshot.book.unit(key) {
                Some(unit) => {
                    let shape = shape_of(valuation, snapshot, unvalued, key, unit);
                    store.put(Held::of(key, unit), shape.as_ref());
                }
                None => {
                    unvalued.remove(key);
                }
            }
        }
        self.book = snapshot.book.clone();
        if store.columns().table().is_within(CANDIDATES_WITHIN, &self.swept_at) {
            let changed = delta.changes.iter().filter_map(|change| match change {
                Change::Unit { key, after: Some(_), .. } => Some(key),
                _ => None,
            });
            self.candidates.extend(changed.chain(&again).filter_map(|key| self.store.find(key)));
        } else {
            self.candidates = self.store.columns().sweep(CANDIDATES_WITHIN);
            self.swept_at = self.store.columns().table().values_now();
        }
    }

    /// Each once, by key.
    fn suspects(&mut self) -> Vec<UnitKey> {
        self.candidates.sort_unstable();
        self.candidates.dedup();
        let columns = self.store.columns();
        let at_risk = self.candidates.iter().filter(|unit| columns.may_be_at_risk(**unit));
        let mut suspects: Vec<UnitKey> = at_risk.map(|unit| columns.key(*unit)).collect();
        let fallen = self.store.hot();
        suspects.extend(fallen.into_iter().map(|unit| self.store.columns().key(unit)));
        suspects.extend(self.unvalued.iter().cloned());
        suspects.sort_unstable();
        suspects.dedup();
        suspects
    }
}

/// The unit's shape; keeps the list of those without one.
fn shape_of(
    valuation: &dyn Valuation,
    snapshot: &Snapshot,
    unvalued: &mut BTreeSet<UnitKey>,
    key: &UnitKey,
    unit: &Unit,
) -> Option<Shape> {
    let shape = valuation.shape(snapshot, unit).ok();
    if shape.is_none() {
        unvalued.insert(key.clone());
    } else {
        unvalued.remove(key);
    }
    shape
}
