//! What happens when, from a seed: the protocol's life, and everything that goes wrong.

use std::{collections::BTreeMap, time::Duration};

use super::{
    node::{NODE_FAULTS, NodeFault},
    tally::{Deed, MARGIN, MARGINAL_FROM},
    world::JournalFault,
};
use crate::scanner::tests::dice::Dice;

/// One thing that happens, between two blocks.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Deed(Deed),
    /// Until that many blocks later.
    Node(usize, NodeFault, u64),
    Journal(JournalFault, u64),
    BaseFee(u128, u64),
    Pause(u64),
    /// No transaction of the keeper's is mined for so many blocks.
    Censor(u64),
    /// The pool forgets everything.
    Forget,
    /// Somebody else uses the keeper's key.
    Intrude,
    Reorganise {
        depth: usize,
        forgotten: bool,
    },
    /// A replica dies, that many times later that it is woken.
    Kill(usize, u64),
    /// A replica stands still.
    Hold(usize, Duration),
}

impl Event {
    /// Its kind, for people.
    pub(super) fn word(&self) -> String {
        let shown = format!("{self:?}");
        shown.split(['(', ' ']).next().unwrap_or_default().to_owned()
    }

    /// How many blocks it lasts, if it does and is ended then.
    pub(super) fn lasts_blocks(&self) -> Option<u64> {
        match self {
            Self::Node(.., blocks) | Self::Journal(_, blocks) | Self::BaseFee(_, blocks) | Self::Pause(blocks) => {
                Some(*blocks)
            }
            _ => None,
        }
    }
}

pub(super) struct Script {
    pub(super) seed: u64,
    pub(super) endpoints: usize,
    pub(super) quorum: u8,
    pub(super) replicas: usize,
    pub(super) finality_depth: u64,
    pub(super) reorg_depth_max: u64,
    /// What the keeper has at first, wei.
    pub(super) balance: u64,
    /// Blocks until all is well again.
    pub(super) trouble: u64,
    pub(super) events: BTreeMap<u64, Vec<Event>>,
}

/// A block's time.
pub(super) const BLOCK_TIME: Duration = Duration::from_secs(1);
/// Money for gas that lasts for ever.
pub(super) const PLENTY: u64 = 1_000_000_000_000_000_000;

impl Script {
    pub(super) fn of(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0xd129_8a2e_03f7_1a3b));
        let deep = dice.one_in(16);
        let endpoints = 1 + dice.below(2) as usize;
        let quorum = if endpoints == 2 && dice.one_in(3) { 2 } else { 1 };
        let mut script = Self {
            seed,
            endpoints,
            quorum,
            replicas: 1 + dice.below(2) as usize,
            finality_depth: if deep { 70 } else { 4 },
            reorg_depth_max: if deep && dice.one_in(2) { 64 } else { 8 },
            balance: if dice.one_in(12) { 900_000_000 } else { PLENTY },
            trouble: if deep { 78 } else { 22 + dice.below(14) },
            events: BTreeMap::new(),
        };
        script.open(&mut dice);
        for block in 3..script.trouble {
            script.live(&mut dice, block);
            script.fail(&mut dice, block, deep);
        }
        script
    }

    fn add(&mut self, block: u64, event: Event) {
        self.events.entry(block).or_default().push(event);
    }

    /// Accounts and a fund, in the first blocks.
    fn open(&mut self, dice: &mut Dice) {
        let fund = if dice.one_in(6) { 20 + dice.below(100) as i64 } else { 1_000_000 };
        self.add(0, Event::Deed(Deed::Fund { by: fund }));
        for unit in 1..=(2 + dice.below(4) as u8) {
            self.add(0, Event::Deed(Deed::Open { unit, cash: dice.below(50) as i64 }));
        }
        for unit in MARGINAL_FROM..=(MARGINAL_FROM + 2 + dice.below(4) as u8) {
            self.add(1, Event::Deed(Deed::Open { unit, cash: MARGIN + dice.below(50) as i64 }));
        }
    }

    /// The protocol's own life in a block.
    fn live(&mut self, dice: &mut Dice, block: u64) {
        if dice.one_in(3) {
            let (unit, by) = (1 + dice.below(3) as u8, -1 - dice.below(120) as i64);
            self.add(block, Event::Deed(Deed::Move { unit, by }));
        }
        if dice.one_in(5) {
            let (unit, by) = (MARGINAL_FROM + dice.below(4) as u8, -1 - dice.below(40) as i64);
            self.add(block, Event::Deed(Deed::Move { unit, by }));
        }
        let marginal = MARGINAL_FROM + dice.below(4) as u8;
        if dice.one_in(25) {
            self.add(block, Event::Deed(Deed::Rival { unit: marginal }));
        }
        if dice.one_in(25) {
            self.add(block, Event::Deed(Deed::Poison { unit: marginal, poisoned: true }));
        }
    }

    /// What goes wrong in a block.
    fn fail(&mut self, dice: &mut Dice, block: u64, deep: bool) {
        let long = if dice.one_in(8) { 12 } else { 0 };
        if dice.one_in(7) {
            let fault = NODE_FAULTS[dice.below(NODE_FAULTS.len() as u64) as usize];
            let endpoint = dice.below(self.endpoints as u64) as usize;
            self.add(block, Event::Node(endpoint, fault, 1 + dice.below(6) + long));
        }
        if self.quorum == 2 && dice.one_in(9) {
            self.add(block, Event::Node(1, NodeFault::Lying, 1 + dice.below(5)));
        }
        if dice.one_in(10) {
            let fault = if dice.one_in(2) { JournalFault::Down } else { JournalFault::Shaky };
            self.add(block, Event::Journal(fault, 1 + dice.below(5) + long));
        }
        if dice.one_in(14) {
            let fee = if dice.one_in(4) { 25_000 } else { 2_000 + dice.below(9_000) as u128 };
            self.add(block, Event::BaseFee(fee, 2 + dice.below(6) + long));
        }
        if dice.one_in(30) {
            self.add(block, Event::Pause(2 + dice.below(6)));
        }
        if dice.one_in(12) {
            self.add(block, Event::Censor(1 + dice.below(8) + long));
        }
        if dice.one_in(20) {
            self.add(block, Event::Forget);
        }
        if dice.one_in(35) {
            self.add(block, Event::Intrude);
        }
        if dice.one_in(8) {
            self.add(block, Event::Kill(dice.below(self.replicas as u64) as usize, dice.below(60)));
        }
        if dice.one_in(16) {
            let span = Duration::from_millis(500 + dice.below(9_000));
            self.add(block, Event::Hold(dice.below(self.replicas as u64) as usize, span));
        }
        let forgotten = dice.one_in(3);
        if deep && block == 70 {
            self.add(block, Event::Reorganise { depth: 20 + dice.below(45) as usize, forgotten });
        } else if dice.one_in(11) {
            self.add(block, Event::Reorganise { depth: 1 + dice.below(3) as usize, forgotten });
        }
    }
}
