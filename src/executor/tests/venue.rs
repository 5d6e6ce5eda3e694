//! A protocol double: units with a debt, and a fund that pays a unit's debt off when asked for exactly its amount.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{address, fixed_bytes};

use crate::{
    positions::{Book, Snapshot, Unit},
    protocols::{Adapter, Applied, ApplyError, BuildError, Disposition, Manifest, Parties, Probe, Refusal},
    recovery::{Action, Effect, SegmentCase, Step},
    scanner::{Drivers, Factors, Planes, ScanReport, Standing, Unvalued, Valuation},
    types::{Address, B256, BlockRef, Bytes, Call, Log, LogFilter, SegmentId, U256, UnitKey},
};

/// The venue's contract.
pub(super) const VENUE: Address = address!("0x00000000000000000000000000000000000000ff");
/// Pays one unit off.
pub(super) const PAY_OFF: [u8; 4] = *b"pay!";
/// Runs several calls of one byte of length each, all or nothing.
pub(super) const PAY_ALL: [u8; 4] = *b"all!";

const PAID: B256 = fixed_bytes!("0x00000000000000000000000000000000000000000000000000000000000000aa");

/// What the venue's storage holds.
#[derive(Clone, Debug, Default)]
pub(super) struct VenueState {
    pub(super) debts: BTreeMap<UnitKey, U256>,
    /// Units whose repair always reverts.
    pub(super) poisoned: BTreeSet<UnitKey>,
    /// Units whose repair pays one unit too little.
    pub(super) skimmed: BTreeSet<UnitKey>,
    /// A unit that cannot be paid off before another one is.
    pub(super) after: BTreeMap<UnitKey, UnitKey>,
}

/// What a call came to.
pub(super) struct Ran {
    pub(super) success: bool,
    pub(super) output: Bytes,
    pub(super) logs: Vec<Log>,
}

impl VenueState {
    /// Runs a call, as the EVM would: without success nothing changes.
    pub(super) fn run(&mut self, to: Address, data: &[u8]) -> Ran {
        let refuse = |why: &str| Ran { success: false, output: why.as_bytes().to_vec().into(), logs: Vec::new() };
        if to != VENUE {
            return Ran { success: true, output: Bytes::new(), logs: Vec::new() };
        }
        if data[..4] == PAY_ALL {
            return self.run_all(&data[4..]);
        }
        let (unit, amount) = decode(data);
        if self.poisoned.contains(&unit) {
            return refuse("poisoned");
        }
        if self.after.get(&unit).is_some_and(|first| !self.debts[first].is_zero()) {
            return refuse("out of order");
        }
        match self.debts.get_mut(&unit) {
            Some(debt) if debt.is_zero() => refuse("already done"),
            Some(debt) if *debt == amount => {
                *debt = U256::ZERO;
                let paid = if self.skimmed.contains(&unit) { amount - U256::from(1) } else { amount };
                let data = [unit.as_bytes(), &paid.to_be_bytes::<32>()].concat().into();
                let log = Log {
                    address: VENUE,
                    topics: vec![PAID],
                    data,
                    block_number: 0,
                    block_hash: B256::ZERO,
                    tx_hash: B256::ZERO,
                    log_index: 0,
                };
                Ran { success: true, output: Bytes::new(), logs: vec![log] }
            }
            _ => refuse("wrong amount"),
        }
    }
}

impl VenueState {
    fn run_all(&mut self, mut calls: &[u8]) -> Ran {
        let mut after = self.clone();
        let mut logs = Vec::new();
        while let [length, rest @ ..] = calls {
            let (call, rest) = rest.split_at(usize::from(*length));
            let ran = after.run(VENUE, call);
            if !ran.success {
                return ran;
            }
            logs.extend(ran.logs);
            calls = rest;
        }
        *self = after;
        Ran { success: true, output: Bytes::new(), logs }
    }
}

fn pay_off(unit: &UnitKey, amount: U256) -> Vec<u8> {
    [&PAY_OFF, unit.as_bytes(), &amount.to_be_bytes::<32>()].concat()
}

fn decode(data: &[u8]) -> (UnitKey, U256) {
    // keys are a byte here
    let (key, rest) = data[4..].split_at(1);
    (UnitKey::new(key.to_vec()).unwrap(), U256::from_be_slice(&rest[..32]))
}

/// The adapter of the venue double. Only what the executor uses does something.
pub(super) struct VenueAdapter;

impl Adapter for VenueAdapter {
    fn manifest(&self, _: Address) -> Manifest {
        Manifest {
            adapter: "double",
            contracts: Vec::new(),
            roles: Vec::new(),
            allowed_calls: vec![(VENUE, PAY_OFF), (VENUE, PAY_ALL)],
            tiers: Vec::new(),
            guards: Vec::new(),
        }
    }

    fn filter(&self, _: &Book) -> LogFilter {
        LogFilter::default()
    }

    fn apply(&self, _: &Book, _: &BlockRef, _: &[Log]) -> Result<Applied, ApplyError> {
        Ok(Applied::default())
    }

    fn probes(&self, _: &Snapshot, _: &[UnitKey]) -> Vec<Probe> {
        Vec::new()
    }

    fn cases(&self, _: &Snapshot, _: &ScanReport, _: bool) -> BTreeMap<SegmentId, SegmentCase> {
        BTreeMap::new()
    }

    fn build(&self, steps: &[Step], parties: &Parties) -> Result<Call, BuildError> {
        let call = |step: &Step| match (&step.unit, &step.action) {
            (Some(unit), Action::DrawInsurance { amount }) => Ok(pay_off(unit, *amount)),
            (Some(unit), Action::Intent(intent)) => Ok(pay_off(unit, U256::from_be_slice(&intent.payload))),
            _ => Err(BuildError("only draws".to_owned())),
        };
        if let [step] = steps {
            // whoever gets the proceeds stands behind the call, which does not look at it
            let to = parties.proceeds.as_slice();
            let named = if parties.proceeds == parties.sender { &[] } else { to };
            return Ok(Call::new(VENUE, [call(step)?.as_slice(), named].concat()));
        }
        let mut data = PAY_ALL.to_vec();
        for step in steps {
            let call = call(step)?;
            data.push(u8::try_from(call.len()).unwrap());
            data.extend(call);
        }
        Ok(Call::new(VENUE, data))
    }

    fn classify(&self, revert: &[u8]) -> Refusal {
        let reason = String::from_utf8_lossy(revert).into_owned();
        let disposition = match reason.as_str() {
            "already done" => Disposition::AlreadyDone,
            _ => Disposition::NotEligible,
        };
        Refusal { disposition, reason }
    }

    fn effects(&self, _: &Book, logs: &[Log]) -> Vec<Effect> {
        let paid = logs.iter().filter(|log| log.address == VENUE && log.topics == [PAID]);
        paid.map(|log| {
            let (unit, amount) = log.data.split_at(log.data.len() - 32);
            let unit = UnitKey::new(unit.to_vec()).unwrap();
            Effect::InsuranceDrawn { unit, amount: U256::from_be_slice(amount) }
        })
        .collect()
    }

    fn find_units(&self, _: &Book, _: &str) -> Vec<UnitKey> {
        Vec::new()
    }
}

impl Valuation for VenueAdapter {
    fn factors(&self, _: &Snapshot) -> Result<Factors, Unvalued> {
        Ok(Factors::default())
    }

    fn drivers(&self, _: &Snapshot) -> Result<Drivers, Unvalued> {
        Ok(Drivers::default())
    }

    fn planes(&self, _: &Snapshot, _: &Unit) -> Result<Planes, Unvalued> {
        Ok(Planes::default())
    }

    fn standing(&self, _: &Snapshot, _: &UnitKey, _: &Unit) -> Result<Standing, Unvalued> {
        Err(Unvalued::Missing("everything".to_owned()))
    }
}
