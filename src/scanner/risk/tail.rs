//! How heavy the tails of moves are: a standardised Student distribution, or the normal one.
//!
//! Read as a mixture: over one horizon prices follow a Brownian motion whose variance is itself drawn once (inverse gamma).
//! Given the variance the reflection principle holds, so the chance to touch a barrier is twice the chance to end beyond
//! it, and Bachelier's formula holds; averaged over the variance both keep their form with the Student distribution.
//!
//! The degrees of freedom come from the kurtosis κ of standardised moves: κ = 3 + 6 / (ν − 4).

use serde::Serialize;
use statrs::distribution::{Continuous, ContinuousCDF, Normal, StudentsT};

/// With more degrees of freedom than this the normal distribution is as good.
const FREEDOM_MAX: f64 = 200.0;
/// With fewer the kurtosis would be infinite.
const FREEDOM_MIN: f64 = 4.05;

/// The distribution of a move over one horizon, of mean 0 and variance 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tail {
    /// Normal.
    Normal,
    /// Student's with this many degrees of freedom, scaled to variance 1.
    Student {
        /// ν > 4.
        freedom: f64,
    },
}

impl Tail {
    /// The tail of moves with this kurtosis (3: normal).
    pub fn of_kurtosis(kurtosis: f64) -> Self {
        let excess = kurtosis - 3.0;
        let freedom = 4.0 + 6.0 / excess;
        if excess > 0.0 && freedom < FREEDOM_MAX {
            Self::Student { freedom: freedom.max(FREEDOM_MIN) }
        } else {
            Self::Normal
        }
    }

    /// P(Z > z).
    pub fn beyond(self, z: f64) -> f64 {
        match self {
            Self::Normal => normal().sf(z),
            Self::Student { freedom } => student(freedom).sf(z / scale(freedom)),
        }
    }

    /// The z that is exceeded with this chance, 0 < chance < 1.
    pub fn quantile_beyond(self, chance: f64) -> f64 {
        match self {
            Self::Normal => normal().inverse_cdf(1.0 - chance),
            Self::Student { freedom } => scale(freedom) * student(freedom).inverse_cdf(1.0 - chance),
        }
    }

    /// E max(Z − k, 0): for the normal tail φ(k) − k · (1 − Φ(k)), Bachelier's formula of 1900; for Student's
    /// c · [(ν + a²) / (ν − 1) · f(a) − a · (1 − F(a))] with c the scale and a = k / c.
    pub fn excess(self, k: f64) -> f64 {
        let value = match self {
            Self::Normal => normal().pdf(k) - k * normal().sf(k),
            Self::Student { freedom } => {
                let (student, c) = (student(freedom), scale(freedom));
                let a = k / c;
                c * ((freedom + a * a) / (freedom - 1.0) * student.pdf(a) - a * student.sf(a))
            }
        };
        // Far out the two terms cancel to less than their rounding.
        value.max(0.0)
    }
}

/// What a Student variable is multiplied by for variance 1.
fn scale(freedom: f64) -> f64 {
    ((freedom - 2.0) / freedom).sqrt()
}

fn normal() -> Normal {
    Normal::standard()
}

fn student(freedom: f64) -> StudentsT {
    StudentsT::new(0.0, 1.0, freedom).unwrap_or_else(|_| unreachable!("more than four degrees of freedom"))
}
