//! What the scanner asks of an adapter: planes to screen with, and the exact standing of one unit.

use alloy::primitives::{I256, U256};

use super::Shape;
use crate::{
    positions::{Record, RecordKey, Snapshot, Unit},
    types::UnitKey,
};

/// Index of a factor within [`Factors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FactorIndex(pub u32);

/// Everything that moves for every account at once: per factor the value of one unit of holding, and the same after the
/// maintenance haircut, in settlement-token units. Screening precision: each number is the exact one within a relative
/// error of 4·2⁻⁵³, so a difference of large figures is taken in integers and converted once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Factors {
    /// What each factor is, for people.
    pub names: Vec<String>,
    /// Value of one unit of holding on the bankruptcy plane.
    pub equity: Vec<f64>,
    /// Value of one unit of holding on the maintenance plane.
    pub maintenance: Vec<f64>,
}

/// A unit's two planes: `constant + Σ quantity · factor`, in settlement-token units. Screening precision as for
/// [`Factors`]: each number within a relative error of 4·2⁻⁵³ of the exact one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Planes {
    /// The part of either plane that no factor moves.
    pub constant: f64,
    /// Holdings by factor.
    pub holdings: Vec<(FactorIndex, f64)>,
    /// How far integer rounding can put the exact value from the plane, in settlement-token units; ≥ 0.
    pub rounding: f64,
}

/// Index of a price within [`Drivers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DriverIndex(pub u32);

/// The prices that move factors: what happens to them when a price moves. For estimates only: nothing is decided or
/// booked from it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Drivers {
    /// What people call each price in commands and settings: the market's number where there is one.
    pub names: Vec<String>,
    /// Each price, in the protocol's own terms; 0 where it is not known.
    pub prices: Vec<f64>,
    /// By factor, what moves it; `None` where no price does.
    pub slopes: Vec<Option<Slope>>,
}

impl Drivers {
    /// Slopes of factors that are their price times something that no price moves: each is the factor itself.
    pub fn proportional(factors: &Factors, driver_of: impl Fn(usize) -> Option<DriverIndex>) -> Vec<Option<Slope>> {
        let planes = factors.equity.iter().zip(&factors.maintenance).enumerate();
        let slope = |(slot, (&equity, &maintenance))| Some(Slope { driver: driver_of(slot)?, equity, maintenance });
        planes.map(slope).collect()
    }

    /// The factors after each price moved by this part of itself.
    pub fn moved(&self, factors: &Factors, moves: &[f64]) -> Factors {
        let mut moved = factors.clone();
        for (slot, slope) in self.slopes.iter().enumerate() {
            let Some(slope) = slope else { continue };
            let by = moves[slope.driver.0 as usize];
            moved.equity[slot] += slope.equity * by;
            moved.maintenance[slot] += slope.maintenance * by;
        }
        moved
    }
}

/// What a factor changes by when its price moves by a part of itself: `slope · move`, exactly, on either plane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// The price.
    pub driver: DriverIndex,
    /// On the bankruptcy plane.
    pub equity: f64,
    /// On the maintenance plane.
    pub maintenance: f64,
}

/// A unit's exact standing at a block, in settlement-token units, with the protocol's own rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Below zero: bankrupt, by that much short.
    pub equity: I256,
    /// What the unit must keep.
    pub maintenance_margin: U256,
    /// Below zero: liquidatable. Equity less maintenance margin where the protocol defines it so.
    pub surplus: I256,
    /// The protocol's own health factor, 1e18 = 1, bit for bit as its view says it; `None` where it has none.
    pub health_factor_wad: Option<U256>,
}

/// Why a unit cannot be valued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unvalued {
    /// State is missing that the valuation needs.
    #[error("missing {0}")]
    Missing(String),
    /// A figure does not fit 256 bits.
    #[error("overflow in {0}")]
    Overflow(&'static str),
}

/// How an adapter values units. Pure: the same snapshot gives the same answer; time is the block's timestamp.
pub trait Valuation {
    /// The factor values of this snapshot.
    fn factors(&self, snapshot: &Snapshot) -> Result<Factors, Unvalued>;

    /// The prices behind these factors, which stand in the same order.
    fn drivers(&self, snapshot: &Snapshot) -> Result<Drivers, Unvalued>;

    /// The unit's planes over these factors. Contract: the exact surplus and equity differ from the planes by at most
    /// `rounding` plus the f64 error that the screen itself bounds from the precision stated at [`Factors`] and
    /// [`Planes`]. The screen for units at risk also takes the maintenance margin to be equity less surplus.
    fn planes(&self, snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued>;

    /// What the screen keeps of a unit: its planes, or more than one, or bent ones, or none. Good until the unit changes, a
    /// factor leaves the shape's bounds, starts or stops being zero or a number, or a record changes that
    /// [`Self::reshapes`]. Over that time `rounding` may grow with the factors, and no faster.
    fn shape(&self, snapshot: &Snapshot, unit: &Unit) -> Result<Shape, Unvalued> {
        self.planes(snapshot, unit).map(Shape::linear)
    }

    /// Whether this change of a record can change the shape of units that did not change themselves, otherwise than by the
    /// values of factors. It always can as far as the scanner knows; who says no spares it looking at every unit again.
    fn reshapes(&self, _key: &RecordKey, _before: Option<&Record>, _after: Option<&Record>) -> bool {
        true
    }

    /// The unit's exact standing, equal to the protocol's own view at the snapshot's block.
    fn standing(&self, snapshot: &Snapshot, key: &UnitKey, unit: &Unit) -> Result<Standing, Unvalued>;
}
