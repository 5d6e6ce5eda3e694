//! Holds a run against what is promised: while it goes, and in the end.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use super::{
    replica::{BALANCE_MIN, FEE_CAP},
    script::BLOCK_TIME,
    tally::{MARGINAL_FROM, TallyAdapter, id},
    world::{JournalFault, World},
};
use crate::{
    alerts::{AlertKind, RecordingSink},
    journal::{TransactionStatus, UnsettledTransaction},
    positions::Book,
    protocols::Adapter,
    recovery::Effect,
    types::{Log, U256},
};

/// A want that has lasted for as many blocks, while nothing else was wrong, must have been told by one of these; where none
/// is named it must not last so long.
const WANTS: [(&str, u32, &[AlertKind]); 7] = [
    ("the fund is empty and somebody is short", 6, &[AlertKind::ResidualLoss]),
    ("somebody is short", 6, &[AlertKind::Shortfall]),
    ("the keeper has too little for gas", 5, &[AlertKind::BalanceLow]),
    ("gas costs more than the cap and somebody is to be helped", 6, &[AlertKind::FeeCapReached]),
    ("a unit cannot be seized for a fault", 6, &[AlertKind::ActionRejectedAsBug]),
    ("the journal is down", 7, &[AlertKind::JournalUnavailable, AlertKind::IndexerStuck, AlertKind::DeploymentHalted]),
    ("somebody can be helped and is not", 24, &[]),
];

pub(super) struct Judge {
    world: Arc<Mutex<World>>,
    alerts: Arc<RecordingSink>,
    /// For how many blocks each want has lasted.
    lasting: [u32; WANTS.len()],
    reorganised: bool,
    /// Whether finality is many blocks away.
    deep: bool,
    /// Whether units were poisoned, which may revert what was right.
    spoiled: bool,
}

impl Judge {
    pub(super) fn new(world: Arc<Mutex<World>>, alerts: Arc<RecordingSink>, deep: bool) -> Self {
        Self { world, alerts, lasting: [0; WANTS.len()], reorganised: false, deep, spoiled: false }
    }

    /// What a block says may be taken back.
    pub(super) fn reorganised(&mut self) {
        self.reorganised = true;
        self.excuse();
    }

    /// Nobody can be asked to have seen what lasts until now.
    pub(super) fn excuse(&mut self) {
        self.lasting = [0; WANTS.len()];
    }

    /// Looks for wants that nobody was told of. `well`: nothing is wrong that would excuse it.
    pub(super) fn look(&mut self, well: bool) {
        let mut world = self.world.lock().unwrap();
        let tip = Arc::clone(world.chain.tip());
        let (tally, dear) = (&tip.tally, world.chain.base_fee > FEE_CAP);
        let short = tally.cash.keys().any(|unit| tally.is_short(*unit));
        let dark = world.journal_fault == Some(JournalFault::Down);
        let connected = world.node_faults.is_empty() && !world.paused;
        let free = tip.at.number > world.chain.censored_until;
        // Somebody lives, holds the lease and is at the head.
        let acting = well && free && world.cached_at.elapsed() < BLOCK_TIME;
        let solvent = tip.balance >= U256::from(BALANCE_MIN);
        let dear_alone = connected && free && world.journal_fault.is_none();
        self.spoiled |= !tally.poisoned.is_empty();
        let stuck = tally.poisoned.iter().any(|unit| tally.is_seizable(*unit));
        let holds = [
            acting && short && tally.fund == 0,
            acting && short,
            acting && !solvent,
            dear_alone && world.cached_at.elapsed() < BLOCK_TIME && dear && !world.neglected().is_empty(),
            acting && stuck && solvent,
            connected && dark,
            // What a cancellation held is planned anew when that is final.
            acting && !self.deep && solvent && !world.neglected().is_empty(),
        ];
        for ((holds, lasting), (want, blocks, kinds)) in holds.into_iter().zip(&mut self.lasting).zip(WANTS) {
            *lasting = if holds { *lasting + 1 } else { 0 };
            if *lasting == blocks && !told(&self.alerts, kinds) {
                world.violated(format!("for {blocks} blocks {want}; it was to be told by one of {kinds:?}"));
            }
        }
    }

    /// What is left to be done, if anything.
    pub(super) fn open(&self) -> Option<String> {
        let world = self.world.lock().unwrap();
        let tally = &world.chain.tip().tally;
        let distressed = tally.distressed();
        if !distressed.is_empty() {
            return Some(format!("{distressed:?} are in distress: {tally:?}"));
        }
        if world.tables.executor.is_ahead() {
            return Some("something is written ahead and not entered".to_owned());
        }
        let unsettled = world.tables.executor.unsettled_transactions();
        if !unsettled.is_empty() {
            return Some(format!("unsettled: {unsettled:?}"));
        }
        let planned = world.tables.executor.actions.iter().find(|(_, row)| !row.status.is_terminal());
        if let Some(planned) = planned {
            return Some(format!("open: {planned:?}"));
        }
        let open = world.tables.episodes.iter().find(|(_, (open, _))| *open);
        open.map(|episode| format!("open: {episode:?}"))
    }

    /// The books, once everything is settled.
    pub(super) fn audit(&self) {
        let mut world = self.world.lock().unwrap();
        let mut wrong = effects(&world);
        wrong.extend(transactions(&world));
        wrong.extend(holes(&world));
        let reverted = told(&self.alerts, &[AlertKind::ActionReverted]);
        let journalled = world.tables.executor.receipts.values().any(|receipt| !receipt.success);
        if journalled && !reverted {
            wrong.push("a revert was not told".to_owned());
        }
        if journalled && !self.spoiled && world.chain.rivalled.is_empty() && !self.reorganised {
            wrong.push("a transaction reverted and nobody but us can have done it".to_owned());
        }
        if intruded(&world) && !told(&self.alerts, &[AlertKind::ForeignNonce]) {
            wrong.push("somebody else used the key, and nobody was told".to_owned());
        }
        wrong.into_iter().for_each(|what| world.violated(what));
    }
}

/// Whether one of these was ever raised.
fn told(alerts: &RecordingSink, kinds: &[AlertKind]) -> bool {
    alerts.raised.lock().unwrap().iter().any(|alert| kinds.contains(&alert.key.kind()))
}

/// Whoever was paid for is whole, and nobody was paid for twice.
fn holes(world: &World) -> Vec<String> {
    let tip = world.chain.tip();
    let covered = covers(world);
    let wrong = |unit: &&u8| covered.contains_key(unit) && tip.tally.cash[unit] != 0;
    let insured = tip.tally.cash.keys().filter(|unit| **unit < MARGINAL_FROM);
    insured.filter(wrong).map(|unit| format!("unit {unit} was covered and has {}", tip.tally.cash[unit])).collect()
}

/// By unit, what the keeper's transactions on the chain drew from the fund.
fn covers(world: &World) -> BTreeMap<u8, u128> {
    let mined = world.chain.branch().iter().flat_map(|block| &block.mined).filter(|mined| mined.signed.is_some());
    let logs: Vec<Log> = mined.flat_map(|mined| mined.logs.clone()).collect();
    drawn(&TallyAdapter.effects(&Book::default(), &logs))
}

fn drawn<'e>(effects: impl IntoIterator<Item = &'e Effect>) -> BTreeMap<u8, u128> {
    let mut drawn = BTreeMap::new();
    for effect in effects {
        if let Effect::InsuranceDrawn { unit, amount } = effect {
            *drawn.entry(id(unit)).or_default() += amount.to::<u128>();
        }
    }
    drawn
}

/// What the journal has booked is what the chain did.
fn effects(world: &World) -> Vec<String> {
    let booked = drawn(world.tables.executor.receipts.values().flat_map(|receipt| &receipt.effects));
    let covers = covers(world);
    if booked == covers { vec![] } else { vec![format!("booked {booked:?}, drawn on chain {covers:?}")] }
}

/// Each of the keeper's nonces on chain is in the journal, with the attempt that was mined and how it ended.
fn transactions(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let rows = &world.tables.executor.transactions;
    let mined = world.chain.branch().iter().flat_map(|block| &block.mined);
    for mined in mined.filter(|mined| mined.signed.is_some()) {
        let row = rows.iter().find(|row| row.attempts.iter().any(|attempt| attempt.hash == mined.hash));
        match row {
            None if world.chain.foreign.contains(&mined.hash) => {}
            None => wrong.push(format!("{} is on chain and not in the journal", mined.hash)),
            Some(row) => {
                let included = row.included.map(|(attempt, _)| attempt);
                let attempt = row.attempts.iter().find(|attempt| attempt.hash == mined.hash).unwrap();
                let success = world.tables.executor.receipts.get(&row.id).map(|receipt| receipt.success);
                let right = row.status == TransactionStatus::Final && included == Some(attempt.id);
                if !right || success != Some(mined.success) {
                    wrong.push(format!("{} is on chain, the journal says {row:?} {success:?}", mined.hash));
                }
            }
        }
    }
    let on_chain = |row: &UnsettledTransaction| {
        let hashes: Vec<_> = row.attempts.iter().map(|attempt| attempt.hash).collect();
        let mined = world.chain.branch().iter().flat_map(|block| &block.mined);
        mined.filter(|mined| hashes.contains(&mined.hash)).count()
    };
    for row in rows {
        let count = on_chain(row);
        let expected = usize::from(row.status == TransactionStatus::Final);
        if count != expected {
            wrong.push(format!("{count} attempts on chain of {row:?}"));
        }
    }
    wrong
}

/// Whether the keeper had reason to notice the outsider: it had the nonce itself, or used ones below and above.
fn intruded(world: &World) -> bool {
    let mined = world.chain.branch().iter().flat_map(|block| &block.mined);
    let signed =
        mined.filter(|mined| world.chain.foreign.contains(&mined.hash)).filter_map(|mined| mined.signed.as_ref());
    let own = || world.tables.executor.transactions.iter().map(|row| row.nonce);
    signed
        .map(|signed| signed.nonce)
        .any(|nonce| own().any(|one| one == nonce) || (own().any(|one| one < nonce) && own().any(|one| one > nonce)))
}
