//! A made-up protocol, as small as can be and with the two ways in which backstop plans.
//!
//! Segment 1 holds insured units: one whose cash is below zero is bankrupt and the fund pays exactly what the caller says.
//! The contract does not ask whether it has been paid already: whoever sends twice pays twice. Segment 2 holds marginal
//! units: one whose cash is below [`MARGIN`] may be seized, several in one call, all or none.
//!
//! Logs carry differences: one that is missed or applied twice leaves a wrong cache behind.

use std::collections::{BTreeMap, BTreeSet};

use alloy::primitives::{address, b256};

use crate::{
    positions::{Book, Delta, Draft, RecordKey, Snapshot, Unit},
    protocols::{Adapter, Applied, ApplyError, BuildError, Disposition, Manifest, Parties, Probe, Read, Refusal},
    recovery::{
        Action, Batch, DistressedUnit, Effect, FundState, Intent, IntentKind, Offered, Scope, SegmentCase, Step, Tier,
    },
    scanner::{Drivers, FactorIndex, Factors, Finding, Planes, ScanReport, Standing, Unvalued, Valuation},
    types::{Address, B256, BlockRef, Bytes, Call, CallOutcome, I256, Log, LogFilter, SegmentId, U256, UnitKey},
};

/// The contract.
pub(super) const VENUE: Address = address!("0x00000000000000000000000000000000000000ff");
/// What a marginal unit must keep.
pub(super) const MARGIN: i64 = 100;
/// Units from this number on are marginal, the others insured.
pub(super) const MARGINAL_FROM: u8 = 100;

pub(super) const INSURED: SegmentId = SegmentId(1);
pub(super) const MARGINAL: SegmentId = SegmentId(2);

const COVER: [u8; 4] = *b"covr";
const SEIZE: [u8; 4] = *b"seiz";
const FUND: [u8; 4] = *b"fund";
const CASH: [u8; 4] = *b"cash";

const OPENED: B256 = b256!("0x0000000000000000000000000000000000000000000000000000000000000001");
const MOVED: B256 = b256!("0x0000000000000000000000000000000000000000000000000000000000000002");
const FUNDED: B256 = b256!("0x0000000000000000000000000000000000000000000000000000000000000003");
const COVERED: B256 = b256!("0x0000000000000000000000000000000000000000000000000000000000000004");
const SEIZED: B256 = b256!("0x0000000000000000000000000000000000000000000000000000000000000005");

/// The fund as logs tell it, and as a read of every block does.
const FUND_LOGGED: u16 = 1;
const FUND_READ: u16 = 2;

/// The contract's storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) cash: BTreeMap<u8, i64>,
    pub(super) seized: BTreeSet<u8>,
    pub(super) fund: i64,
    /// Units whose seizure always reverts.
    pub(super) poisoned: BTreeSet<u8>,
}

/// What anybody but the keeper does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Open {
        unit: u8,
        cash: i64,
    },
    Move {
        unit: u8,
        by: i64,
    },
    Fund {
        by: i64,
    },
    Poison {
        unit: u8,
        poisoned: bool,
    },
    /// A rival seizes, if it may be done.
    Rival {
        unit: u8,
    },
    /// The keeper gets money for gas.
    Gift {
        wei: u64,
    },
}

/// One log without its place.
pub(super) type Said = (B256, Bytes);

fn said(tag: B256, unit: u8, amount: i64) -> Said {
    (tag, [&[unit][..], &amount.to_be_bytes()].concat().into())
}

impl Tally {
    pub(super) fn is_short(&self, unit: u8) -> bool {
        unit < MARGINAL_FROM && self.cash[&unit] < 0
    }

    pub(super) fn is_seizable(&self, unit: u8) -> bool {
        let thin = self.cash.get(&unit).is_some_and(|cash| *cash < MARGIN);
        unit >= MARGINAL_FROM && thin && !self.seized.contains(&unit)
    }

    /// Units that somebody should do something about.
    pub(super) fn distressed(&self) -> BTreeSet<u8> {
        self.cash.keys().copied().filter(|unit| self.is_short(*unit) || self.is_seizable(*unit)).collect()
    }

    pub(super) fn happen(&mut self, deed: &Deed) -> Vec<Said> {
        match *deed {
            Deed::Open { unit, cash } => {
                self.cash.insert(unit, cash);
                vec![said(OPENED, unit, cash)]
            }
            Deed::Move { unit, by } => {
                let Some(cash) = self.cash.get_mut(&unit) else { return vec![] };
                // A marginal unit may be thin and is never bankrupt.
                let by = if unit < MARGINAL_FROM { by } else { by.max(-*cash) };
                *cash += by;
                vec![said(MOVED, unit, by)]
            }
            Deed::Fund { by } => {
                self.fund += by;
                vec![said(FUNDED, 0, by)]
            }
            Deed::Poison { unit, poisoned } => {
                if poisoned {
                    self.poisoned.insert(unit)
                } else {
                    self.poisoned.remove(&unit)
                };
                vec![]
            }
            Deed::Rival { unit } if self.is_seizable(unit) && !self.poisoned.contains(&unit) => {
                self.seized.insert(unit);
                vec![said(SEIZED, unit, 0)]
            }
            Deed::Rival { .. } | Deed::Gift { .. } => vec![],
        }
    }

    /// A call, as the EVM would run it: what reverts changes nothing.
    pub(super) fn call(&mut self, to: Address, data: &[u8]) -> Result<Vec<Said>, &'static str> {
        if to != VENUE {
            return Ok(vec![]);
        }
        let mut after = self.clone();
        let logs = after.run(data)?;
        *self = after;
        Ok(logs)
    }

    fn run(&mut self, data: &[u8]) -> Result<Vec<Said>, &'static str> {
        match data.split_at(4) {
            (selector, args) if selector == COVER => {
                let (unit, amount) = (args[0], i64::from_be_bytes(args[1..9].try_into().unwrap()));
                if amount > self.fund {
                    return Err("fund");
                }
                self.fund -= amount;
                *self.cash.get_mut(&unit).unwrap() += amount;
                Ok(vec![said(COVERED, unit, amount)])
            }
            (selector, units) if selector == SEIZE => {
                let mut logs = Vec::new();
                for unit in units {
                    if self.poisoned.contains(unit) {
                        return Err("poisoned");
                    }
                    if !self.is_seizable(*unit) {
                        return Err("not seizable");
                    }
                    self.seized.insert(*unit);
                    logs.push(said(SEIZED, *unit, 0));
                }
                Ok(logs)
            }
            _ => Err("no such function"),
        }
    }

    /// A view.
    pub(super) fn view(&self, data: &[u8]) -> Bytes {
        let word = match data.split_at(4) {
            (selector, []) if selector == FUND => self.fund,
            (_, args) => self.cash[&args[0]],
        };
        Bytes::copy_from_slice(&I256::try_from(word).unwrap().to_be_bytes::<32>())
    }

    /// What a cache that is right holds.
    pub(super) fn differs_from(&self, book: &Book) -> Option<String> {
        let cached: BTreeMap<u8, i64> = book.units().map(|(key, unit)| (id(key), cash(unit))).collect();
        let seized: BTreeSet<u8> = book.units().filter(|(_, unit)| is_seized(unit)).map(|(key, _)| id(key)).collect();
        let funds = [FUND_LOGGED, FUND_READ].map(|kind| fund_of(book, kind));
        let right = cached == self.cash && seized == self.seized && funds == [self.fund; 2];
        (!right).then(|| format!("cached {cached:?} {seized:?} {funds:?}, on chain {self:?}"))
    }
}

pub(super) fn key(unit: u8) -> UnitKey {
    UnitKey::new(vec![unit]).unwrap()
}

pub(super) fn id(key: &UnitKey) -> u8 {
    key.as_bytes()[0]
}

fn segment(unit: u8) -> SegmentId {
    if unit < MARGINAL_FROM { INSURED } else { MARGINAL }
}

fn cash(unit: &Unit) -> i64 {
    i64::try_from(unit.cash).unwrap()
}

fn is_seized(unit: &Unit) -> bool {
    !unit.extra.is_empty()
}

fn fund_of(book: &Book, kind: u16) -> i64 {
    let record = book.record(&RecordKey::numbered(kind, 0));
    record.map_or(0, |words| i64::try_from(I256::from_raw(words[0])).unwrap())
}

fn set_fund(draft: &mut Draft<'_>, kind: u16, fund: i64) {
    let word = I256::try_from(fund).unwrap().into_raw();
    draft.set_record(RecordKey::numbered(kind, 0), Some(vec![word]));
}

/// The adapter.
pub(super) struct TallyAdapter;

impl Adapter for TallyAdapter {
    fn manifest(&self, _: Address) -> Manifest {
        Manifest {
            adapter: "tally",
            contracts: vec![],
            roles: vec![],
            allowed_calls: vec![(VENUE, COVER), (VENUE, SEIZE)],
            tiers: vec![Tier::Liquidate, Tier::InsuranceFund],
            guards: vec![],
        }
    }

    fn filter(&self, _: &Book) -> LogFilter {
        LogFilter::of([VENUE])
    }

    fn apply(&self, book: &Book, _: &BlockRef, logs: &[Log]) -> Result<Applied, ApplyError> {
        let mut draft = Draft::new(book);
        let mut fund = fund_of(book, FUND_LOGGED);
        for log in logs {
            let (unit, amount) = (log.data[0], i64::from_be_bytes(log.data[1..9].try_into().unwrap()));
            if log.topics[0] == FUNDED {
                fund += amount;
                continue;
            }
            let mut changed = match draft.unit(&key(unit)) {
                Some(known) => known.as_ref().clone(),
                None => Unit::new(segment(unit), Address::ZERO),
            };
            match log.topics[0] {
                OPENED | MOVED => changed.cash += I256::try_from(amount).unwrap(),
                COVERED => {
                    changed.cash += I256::try_from(amount).unwrap();
                    fund -= amount;
                }
                _ => changed.extra = vec![U256::ONE],
            }
            draft.set_unit(key(unit), Some(changed));
        }
        set_fund(&mut draft, FUND_LOGGED, fund);
        Ok(Applied { delta: draft.finish(), unknown_events: 0 })
    }

    fn reads(&self, _: &Book, _: &BlockRef, round: u32) -> Vec<Read> {
        let read = Read { record: RecordKey::numbered(FUND_READ, 0), call: Call::new(VENUE, FUND.to_vec()) };
        if round == 0 { vec![read] } else { vec![] }
    }

    fn absorb(&self, book: &Book, _: &BlockRef, answers: &[(Read, CallOutcome)]) -> Result<Delta, ApplyError> {
        let mut draft = Draft::new(book);
        for (read, answer) in answers {
            let CallOutcome::Returned(word) = answer else { return Err(ApplyError::Answer("a revert".to_owned())) };
            draft.set_record(read.record, Some(vec![U256::from_be_slice(word)]));
        }
        Ok(draft.finish())
    }

    fn probes(&self, snapshot: &Snapshot, units: &[UnitKey]) -> Vec<Probe> {
        let probe = |unit: &UnitKey| {
            let expected = snapshot.book.unit(unit)?.cash.to_be_bytes::<32>();
            let call = Call::new(VENUE, [&CASH[..], unit.as_bytes()].concat());
            Some(Probe { subject: unit.to_string(), call, expected: Bytes::copy_from_slice(&expected) })
        };
        units.iter().filter_map(probe).collect()
    }

    fn cases(&self, snapshot: &Snapshot, report: &ScanReport, every: bool) -> BTreeMap<SegmentId, SegmentCase> {
        let mut cases = BTreeMap::new();
        let of = |segment: SegmentId| report.findings.iter().filter(move |f| f.segment == segment);
        let distressed = |finding: &Finding| DistressedUnit {
            unit: finding.unit.clone(),
            cash: finding.equity,
            equity: finding.equity,
            maintenance_margin: finding.maintenance_margin,
            positions: vec![],
            liquidatable_lots: BTreeMap::new(),
        };
        let case = |segment, fund: i64, distressed, offered| SegmentCase {
            segment,
            block: snapshot.block,
            fund: FundState { balance: U256::from(fund), spendable: U256::from(fund) },
            markets: BTreeMap::new(),
            distressed,
            solvent: BTreeMap::new(),
            blocked: None,
            measures: Default::default(),
            offered,
        };
        let short: Vec<_> = of(INSURED).filter(|finding| finding.equity.is_negative()).map(distressed).collect();
        if every || !short.is_empty() {
            cases.insert(INSURED, case(INSURED, fund_of(&snapshot.book, FUND_LOGGED), short, None));
        }
        let thin: Vec<&Finding> = of(MARGINAL).filter(|finding| finding.surplus.is_negative()).collect();
        if !thin.is_empty() {
            let intents = thin.iter().map(|finding| seizure(&finding.unit)).collect();
            let distressed = thin.into_iter().map(distressed).collect();
            let offered = Offered { intents, ..Offered::default() };
            cases.insert(MARGINAL, case(MARGINAL, 0, distressed, Some(offered)));
        }
        cases
    }

    fn build(&self, steps: &[Step], _: &Parties) -> Result<Call, BuildError> {
        if let [Step { unit: Some(unit), action: Action::DrawInsurance { amount }, .. }] = steps {
            let amount = i64::try_from(*amount).map_err(|_| BuildError("too much".to_owned()))?;
            return Ok(Call::new(VENUE, [&COVER[..], unit.as_bytes(), &amount.to_be_bytes()].concat()));
        }
        let mut data = SEIZE.to_vec();
        for step in steps {
            let Action::Intent(intent) = &step.action else { return Err(BuildError("one draw a call".to_owned())) };
            data.extend(&intent.payload);
        }
        Ok(Call::new(VENUE, data))
    }

    fn classify(&self, revert: &[u8]) -> Refusal {
        let reason = String::from_utf8_lossy(revert).into_owned();
        let disposition = match reason.as_str() {
            "poisoned" => Disposition::Bug,
            "fund" => Disposition::FundShort,
            _ => Disposition::AlreadyDone,
        };
        Refusal { disposition, reason }
    }

    fn effects(&self, _: &Book, logs: &[Log]) -> Vec<Effect> {
        let effect = |log: &Log| {
            let unit = key(log.data[0]);
            let amount = U256::from_be_slice(&log.data[1..9]);
            match log.topics[0] {
                COVERED => Some(Effect::InsuranceDrawn { unit, amount }),
                SEIZED => Some(Effect::Liquidated { unit, loss: U256::ZERO, fee: U256::ZERO }),
                _ => None,
            }
        };
        logs.iter().filter(|log| log.address == VENUE).filter_map(effect).collect()
    }

    fn find_units(&self, _: &Book, _: &str) -> Vec<UnitKey> {
        vec![]
    }
}

fn seizure(unit: &UnitKey) -> Intent {
    Intent {
        kind: IntentKind::Liquidate,
        scope: Scope::Unit(unit.clone()),
        payload: Bytes::copy_from_slice(unit.as_bytes()),
        tier: Tier::Liquidate,
        absorbs: U256::ZERO,
        deepens: U256::ZERO,
        implicit: vec![],
        promises: vec![],
        reward: U256::ZERO,
        cost: U256::ZERO,
        swapped: U256::ZERO,
        gas: 0,
        capital: vec![],
        bad_debt: true,
        not_before: 0,
        batch: Some(Batch { id: 1, len_max: 3 }),
        why: "below its margin".to_owned(),
    }
}

impl Valuation for TallyAdapter {
    fn factors(&self, _: &Snapshot) -> Result<Factors, Unvalued> {
        Ok(Factors { names: vec!["margin".to_owned()], equity: vec![0.0], maintenance: vec![1.0] })
    }

    fn drivers(&self, _: &Snapshot) -> Result<Drivers, Unvalued> {
        Ok(Drivers { slopes: vec![None], ..Drivers::default() })
    }

    fn planes(&self, snapshot: &Snapshot, unit: &Unit) -> Result<Planes, Unvalued> {
        let standing = self.standing(snapshot, &key(0), unit)?;
        let margin = f64::from(standing.maintenance_margin);
        Ok(Planes { constant: cash(unit) as f64, holdings: vec![(FactorIndex(0), -margin)], rounding: 0.0 })
    }

    fn standing(&self, _: &Snapshot, _: &UnitKey, unit: &Unit) -> Result<Standing, Unvalued> {
        let margin = if unit.segment == MARGINAL && !is_seized(unit) { MARGIN } else { 0 };
        Ok(Standing {
            equity: unit.cash,
            maintenance_margin: U256::from(margin),
            surplus: unit.cash - I256::try_from(margin).unwrap(),
            health_factor_wad: None,
        })
    }
}
