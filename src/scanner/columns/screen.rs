//! What a sweep decides of a row, and with how much room for error (docs/designs/006-scanner.md, §2).
//!
//! With T the at-risk health factor in basis points, E equity and S surplus, the *watch* plane is W = T·S − (T − 10⁴)·E, so
//! W ≥ 0 ⇔ 10⁴·E ≥ T·(E − S). As the maintenance margin E − S is not below zero, W ≥ 0 implies S ≥ 0 and E ≥ 0: a unit
//! whose watch plane is certainly not negative is certainly healthy. E is tested as well and costs nothing.
//!
//! Must not: decide anything but "look at it exactly".

use super::table::{FactorTable, Values};

const BPS: f64 = 10_000.0;

/// How much wider than a plane's error the watch plane's is, per its weights T and T − 10⁴: their own two errors, and the
/// rounding of forming it, which is below a quarter of that.
const WATCH_ERRORS: f64 = 1.5;

/// How a row stands by the screen, each level with the plane whose sign would make it worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Certainly healthy. Watched: W.
    Clear = 0,
    /// Certainly not liquidatable, perhaps at risk. Watched: surplus.
    AtRisk = 1,
    /// Perhaps liquidatable, certainly not bankrupt. Watched: equity.
    Liquidatable = 2,
    /// Perhaps bankrupt, or beyond the screen. Nothing could make it worse.
    Bankrupt = 3,
}

/// A row's planes and their bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Equity, settlement-token units.
    pub equity: f64,
    /// Surplus, settlement-token units.
    pub surplus: f64,
    /// Either is this far from the exact one at most; not a number where nothing is known.
    pub error: f64,
}

/// A sweep's question: factor values, and the health factor below which a unit counts as at risk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Screen<'t> {
    values: &'t Values,
    growth: f64,
    watch: Watch,
}

/// The weights of the watch plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Watch {
    surplus: f64,
    equity: f64,
}

impl Watch {
    pub(super) fn new(at_risk_health_factor_bps: u32) -> Self {
        let surplus = f64::from(at_risk_health_factor_bps);
        Self { surplus, equity: (surplus - BPS).max(0.0) }
    }

    /// W of these two values.
    #[inline(always)]
    pub(super) fn of(&self, equity: f64, surplus: f64) -> f64 {
        self.surplus * surplus - self.equity * equity
    }

    /// How far W can be off where equity and surplus can by `error`.
    #[inline(always)]
    pub(super) fn error(&self, error: f64) -> f64 {
        WATCH_ERRORS * (self.surplus + self.equity) * error
    }
}

impl<'t> Screen<'t> {
    pub(super) fn new(table: &'t FactorTable, watch: Watch) -> Self {
        Self { values: table.values(), growth: table.growth(), watch }
    }

    pub(super) fn values(&self) -> &'t Values {
        self.values
    }

    pub(super) fn growth(&self) -> f64 {
        self.growth
    }

    /// Whether a row of these planes is certainly healthy. What is no number is not.
    #[inline(always)]
    pub(super) fn is_clear(&self, equity: f64, surplus: f64, error: f64) -> bool {
        (equity >= error) & (self.watch.of(equity, surplus) >= self.watch.error(error))
    }

    pub(super) fn level(&self, judged: &Judged) -> Level {
        let Judged { equity, surplus, error } = *judged;
        if self.is_clear(equity, surplus, error) {
            Level::Clear
        } else if equity >= error && surplus >= error {
            Level::AtRisk
        } else if equity >= error {
            Level::Liquidatable
        } else {
            Level::Bankrupt
        }
    }
}
