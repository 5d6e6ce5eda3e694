//! The waterfall as configuration: which tiers, in which order, each within which limits.
//!
//! Limits are looked at anew for every plan, against what earlier plans of the same episode and block took, as the journal
//! has it. So a limit that is changed while the process runs holds from the next plan on.
//!
//! Invariants: a tier never absorbs more than every one of its limits allows; a limit that passes by itself (a block's,
//! a cool-down) lets the loss wait, one that does not (an episode's) lets the next tier have it.
//! Must not: know what a tier does.

use std::{collections::BTreeMap, fmt};

use alloy::primitives::U256;
use serde::{Deserialize, Serialize};

use super::{AdlPolicy, Controller, Tier};
use crate::types::{SegmentId, decimal};

/// A tier with its limits, as configured. Amounts are in the segment's unit of account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierSettings {
    /// Which.
    pub tier: Tier,
    /// Most it may absorb for one segment in one block; `None`: unbounded. One plan is made per segment and block.
    #[serde(with = "decimal::option")]
    pub absorb_max: Option<U256>,
    /// Most it may absorb in one episode; `None`: unbounded.
    #[serde(with = "decimal::option")]
    pub episode_max: Option<U256>,
    /// What the fund behind the tier keeps; beside whatever floor the protocol has itself.
    #[serde(with = "decimal")]
    pub floor: U256,
    /// Blast radius: most accounts that one plan acts on, or makes pay, through this tier; `None`: unbounded.
    pub units_max: Option<u32>,
    /// Blocks after a plan that used the tier before the next one may.
    pub cooldown_blocks: u64,
    /// For recalibrate: margins follow what is measured; without it they only rise after a loss.
    #[serde(default)]
    pub controller: Option<Controller>,
}

impl TierSettings {
    /// The tier without limits.
    pub fn unlimited(tier: Tier) -> Self {
        Self {
            tier,
            absorb_max: None,
            episode_max: None,
            floor: U256::ZERO,
            units_max: None,
            cooldown_blocks: 0,
            controller: None,
        }
    }

    /// What it may still absorb at this block, after what earlier plans and this one (`in_plan`) took.
    pub(super) fn allowance(&self, used: &TierUse, in_plan: U256, block: u64) -> Allowance {
        let left = |max: Option<U256>, before: U256| {
            max.map_or(U256::MAX, |max| max.saturating_sub(before.saturating_add(in_plan)))
        };
        let in_episode = left(self.episode_max, used.in_episode);
        let in_block = left(self.absorb_max, used.in_block);
        let until = used.last_block.map_or(0, |last| last.saturating_add(self.cooldown_blocks));
        // A plan made again at the very block is no second use.
        let cools = block < until && used.last_block != Some(block);
        let (amount, bound) = match () {
            () if in_episode.is_zero() => (U256::ZERO, Bound::Episode),
            () if cools => (U256::ZERO, Bound::CoolDown { until }),
            () if in_episode <= in_block => (in_episode, Bound::Episode),
            () => (in_block, Bound::Block),
        };
        Allowance { amount, bound }
    }
}

/// What earlier plans took through one tier of one segment: mined, or still on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierUse {
    /// In the open episode.
    pub in_episode: U256,
    /// In plans made at this very block.
    pub in_block: U256,
    /// The block of the last plan that used it.
    pub last_block: Option<u64>,
}

/// What a tier's limits leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    /// This much.
    pub(super) amount: U256,
    /// The limit that is reached first.
    pub(super) bound: Bound,
}

/// A limit of a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// The deployment does not use the tier.
    Unlisted,
    /// `episode_max`.
    Episode,
    /// `absorb_max`.
    Block,
    /// `units_max`.
    Units,
    /// `cooldown_blocks`.
    CoolDown {
        /// The block from which on it may act again.
        until: u64,
    },
}

impl Bound {
    /// Whether waiting helps.
    pub(super) fn passes(self) -> bool {
        matches!(self, Self::Block | Self::Units | Self::CoolDown { .. })
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unlisted => f.write_str("it is not configured"),
            Self::Episode => f.write_str("its limit for one episode (episode_max) is reached"),
            Self::Block => f.write_str("its limit for one plan (absorb_max) is reached"),
            Self::Units => f.write_str("its limit on accounts for one plan (units_max) is reached"),
            Self::CoolDown { until } => write!(f, "it cools down until block {until}"),
        }
    }
}

/// The tiers of a segment, in order, and how deleveraging chooses.
#[derive(Clone)]
pub struct Waterfall {
    /// In the order in which a loss meets them.
    pub tiers: Vec<TierSettings>,
    /// How deleveraging chooses winners.
    pub adl_policy: &'static dyn AdlPolicy,
}

impl Waterfall {
    /// Whether a limit looks at earlier plans.
    pub fn remembers(&self) -> bool {
        let bounded = |t: &TierSettings| t.absorb_max.is_some() || t.episode_max.is_some() || t.cooldown_blocks > 0;
        self.tiers.iter().any(bounded)
    }

    /// The longest cool-down, in blocks.
    pub fn cooldown_blocks_max(&self) -> u64 {
        self.tiers.iter().map(|tier| tier.cooldown_blocks).max().unwrap_or_default()
    }
}

/// The waterfall of a deployment, with the segments that have one of their own.
#[derive(Clone)]
pub struct Waterfalls {
    /// Of every segment that is not named.
    pub default: Waterfall,
    /// By segment.
    pub segments: BTreeMap<SegmentId, Waterfall>,
}

impl Waterfalls {
    /// The waterfall of a segment.
    pub fn of(&self, segment: SegmentId) -> &Waterfall {
        self.segments.get(&segment).unwrap_or(&self.default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u(x: u64) -> U256 {
        U256::from(x)
    }

    fn limited() -> TierSettings {
        TierSettings {
            absorb_max: Some(u(100)),
            episode_max: Some(u(250)),
            cooldown_blocks: 5,
            ..TierSettings::unlimited(Tier::InsuranceFund)
        }
    }

    fn left(used: TierUse, in_plan: u64, block: u64) -> (U256, Bound) {
        let Allowance { amount, bound } = limited().allowance(&used, u(in_plan), block);
        (amount, bound)
    }

    #[test]
    fn the_nearest_limit_counts() {
        let fresh = TierUse::default();
        assert_eq!(left(fresh, 0, 10), (u(100), Bound::Block));
        assert_eq!(left(fresh, 60, 10), (u(40), Bound::Block));
        assert_eq!(left(fresh, 200, 10), (u(0), Bound::Block));
        let later = TierUse { in_episode: u(200), in_block: u(0), last_block: Some(4) };
        assert_eq!(left(later, 0, 10), (u(50), Bound::Episode));
        assert_eq!(left(TierUse { in_block: u(80), ..later }, 0, 10), (u(20), Bound::Block));
    }

    #[test]
    fn a_spent_episode_is_told_from_what_passes_by_itself() {
        let used = TierUse { in_episode: u(250), in_block: u(100), last_block: Some(9) };
        assert_eq!(left(used, 0, 10), (u(0), Bound::Episode));
        assert!(!Bound::Episode.passes() && !Bound::Unlisted.passes());
        let cooling = TierUse { in_episode: u(10), in_block: u(0), last_block: Some(7) };
        assert_eq!(left(cooling, 0, 11), (u(0), Bound::CoolDown { until: 12 }));
        assert_eq!(left(cooling, 0, 12), (u(100), Bound::Block));
        assert_eq!(left(cooling, 0, 7), (u(100), Bound::Block), "made again at the same block");
        assert!(Bound::Block.passes() && Bound::CoolDown { until: 1 }.passes());
    }

    #[test]
    fn without_limits_everything_is_allowed() {
        let free = TierSettings::unlimited(Tier::Liquidate);
        let used = TierUse { in_episode: U256::MAX, in_block: U256::MAX, last_block: Some(1) };
        assert_eq!(free.allowance(&used, U256::MAX, 1).amount, U256::MAX);
    }
}
