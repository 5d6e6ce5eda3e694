//! What a sweep decides of a row, and with how much room for error (docs/designs/006-scanner.md, §2).
//!
//! With T the at-risk health factor in basis points, E equity and S surplus, the *watch* plane is W = T·S − (T − 10⁴)·E, so
//! W ≥ 0 ⇔ 10⁴·E ≥ T·(E − S). As the maintenance margin E − S is not below zero, W ≥ 0 implies S ≥ 0 and E ≥ 0: a unit
//! whose watch plane is certainly not negative is certainly healthy, and one whose surplus is not is not bankrupt either.
//!
//! Must not: decide anything but "look at it exactly".

use super::table::Values;

const BPS: f64 = 10_000.0;

/// How much wider than a plane's error the watch plane's is, per its weights T and T − 10⁴: their own two errors, and the
/// rounding of forming it, which is an eighth of that.
const WATCH_ERRORS: f64 = 1.5;

/// How a row stands by the screen, each level with the plane whose sign would make it worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Certainly not liquidatable. Watched: surplus.
    Clear = 0,
    /// Perhaps liquidatable, certainly not bankrupt. Watched: equity.
    Liquidatable = 1,
    /// Perhaps bankrupt, or beyond the screen. Nothing could make it worse.
    Bankrupt = 2,
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

/// What is said of a unit that cannot be valued.
pub(super) const UNVALUED: Judged = Judged { equity: f64::NAN, surplus: f64::NAN, error: f64::NAN };

impl Judged {
    /// How bad it may be at most. What is no number is as bad as can be.
    #[inline(always)]
    pub fn level(&self) -> Level {
        if self.surplus >= self.error && self.equity >= -self.error {
            Level::Clear
        } else if self.equity >= self.error {
            Level::Liquidatable
        } else {
            Level::Bankrupt
        }
    }
}

/// What a sweep asks of every row: enough on the watch plane and on the equity plane, at the worst values within reach.
pub(super) struct Screen {
    pub(super) values: Box<Values>,
    /// What a row's constant counts for.
    pub(super) of_constant: [f64; 2],
    /// How often its error a row must have.
    pub(super) tolerance: [f64; 2],
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

    /// The watch plane at these values of equity and surplus: of a unit, or of a factor.
    #[inline(always)]
    pub(super) fn of(&self, [equity, surplus]: [f64; 2]) -> f64 {
        self.surplus * surplus - self.equity * equity
    }

    /// What a constant counts for on the watch plane, and on the equity plane.
    pub(super) fn of_constant(&self) -> [f64; 2] {
        [self.surplus - self.equity, 1.0]
    }

    /// How often its error a row must have on the watch plane, and on the equity plane, to be certainly not at risk.
    pub(super) fn tolerance(&self) -> [f64; 2] {
        [WATCH_ERRORS * (self.surplus + self.equity), 1.0]
    }
}
