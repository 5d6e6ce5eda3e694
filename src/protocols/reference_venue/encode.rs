//! Steps of a plan → one call, all or nothing.
//!
//! Invariants: steps of several units, or of a unit and a parameter change, never share a call; a figure that does not
//! fit the venue's width is refused, never cut.
//! Must not: judge whether a step is wise.

use alloy::sol_types::SolCall;

use super::{
    Settings,
    abi::{IBackstopPool, IClearinghouse, IRiskSteward},
    state,
};
use crate::{
    protocols::BuildError,
    recovery::{Action, Contribution, Deleveraging, Fill, Step},
    types::{Address, Bytes, Call, MarketId, U256, UnitKey},
};

/// One step is called as it is, several through `multicall`. `keeper` receives its part of liquidation fees.
pub(super) fn build(settings: &Settings, steps: &[Step], keeper: Address) -> Result<Call, BuildError> {
    let first = steps.first().ok_or_else(|| refuse("no steps"))?;
    if let Action::SetMargin { market, maintenance_margin_bps, initial_margin_bps, .. } = &first.action {
        if steps.len() > 1 {
            return Err(refuse("a parameter change goes alone"));
        }
        let to = settings.steward.ok_or_else(|| refuse("this deployment has no steward"))?;
        let call = IRiskSteward::moveMarginCall {
            market: market_number(*market)?,
            maintenanceMarginBps: fit(*maintenance_margin_bps, "maintenance margin")?,
            initialMarginBps: fit(*initial_margin_bps, "initial margin")?,
        };
        return Ok(Call::new(to, call.abi_encode()));
    }
    if matches!(first.action, Action::Gate { .. } | Action::Restitute { .. }) {
        if steps.len() > 1 {
            return Err(refuse("what is done to a whole segment goes alone"));
        }
        return Ok(Call::new(settings.clearinghouse, segment_call(&first.action)?));
    }
    if let Some(other) = steps.iter().find(|step| step.unit != first.unit) {
        return Err(refuse(format!("steps of {:?} and {:?} in one call", first.unit, other.unit)));
    }
    let unit = first.unit.as_ref().ok_or_else(|| refuse("a step without a unit"))?;
    let subject = Subject::of(unit)?;
    if steps.iter().any(|step| matches!(step.action, Action::ClaimBackstop { .. } | Action::DrawBackstop { .. })) {
        let membership = settings.backstop.ok_or_else(|| refuse("this deployment is in no backstop pool"))?;
        let [Step { action, .. }] = steps else { return Err(refuse("the backstop pool is called alone")) };
        return Ok(Call::new(membership.pool, subject.pool_call(membership.member, action)?));
    }
    let mut calls = Vec::with_capacity(steps.len());
    for step in steps {
        calls.push(subject.encode(&step.action, keeper)?);
    }
    let data = match <[Bytes; 1]>::try_from(calls) {
        Ok([single]) => single,
        Err(calls) => IClearinghouse::multicallCall { calls }.abi_encode().into(),
    };
    Ok(Call::new(settings.clearinghouse, data))
}

/// A call on a whole segment.
fn segment_call(action: &Action) -> Result<Vec<u8>, BuildError> {
    match action {
        Action::Gate { segment, shut_for: None } => {
            Ok(IClearinghouse::openWithdrawalsCall { segment: fit(segment.0, "segment")? }.abi_encode())
        }
        Action::Gate { segment, shut_for: Some(unit) } => {
            let Subject { segment: of, account: bankrupt } = Subject::of(unit)?;
            if u32::from(of) != segment.0 {
                return Err(refuse(format!("{unit} is not of segment {segment}")));
            }
            Ok(IClearinghouse::shutWithdrawalsCall { segment: of, bankrupt }.abi_encode())
        }
        Action::Restitute { claimants } => {
            let first = claimants.first().ok_or_else(|| refuse("a step that names nobody"))?;
            let subject = Subject::of(&first.unit)?;
            let claimants = list(claimants, |claimant| subject.payer(claimant))?;
            Ok(IClearinghouse::payClaimsCall { segment: subject.segment, claimants }.abi_encode())
        }
        _ => Err(refuse("an action on one unit")),
    }
}

/// Whose loss the steps deal with.
struct Subject {
    segment: u16,
    account: Address,
}

impl Subject {
    fn of(unit: &UnitKey) -> Result<Self, BuildError> {
        let (segment, account) = account(unit)?;
        Ok(Self { segment, account })
    }

    fn encode(&self, action: &Action, keeper: Address) -> Result<Bytes, BuildError> {
        let data = match action {
            Action::Close { market, fills } => IClearinghouse::liquidateCall {
                market: market_number(*market)?,
                account: self.account,
                fills: list(fills, |fill| self.fill(fill))?,
                feeRecipient: keeper,
            }
            .abi_encode(),
            Action::DrawInsurance { amount } => {
                IClearinghouse::drawInsuranceCall { segment: self.segment, account: self.account, amount: *amount }
                    .abi_encode()
            }
            Action::Deleverage { market, winners } => IClearinghouse::autoDeleverageCall {
                market: market_number(*market)?,
                bankrupt: self.account,
                winners: list(winners, |winner| self.winner(winner))?,
            }
            .abi_encode(),
            Action::Socialise { payers } => IClearinghouse::socialiseLossCall {
                segment: self.segment,
                bankrupt: self.account,
                payers: list(payers, |payer| self.payer(payer))?,
            }
            .abi_encode(),
            Action::SetMargin { .. } | Action::Gate { .. } | Action::Restitute { .. } => {
                return Err(refuse("what concerns a whole market or segment among the steps of a unit"));
            }
            Action::ClaimBackstop { .. } | Action::DrawBackstop { .. } => {
                return Err(refuse("a call of the backstop pool among those of the venue"));
            }
            Action::Intent(intent) => return Err(refuse(format!("an intent to {}", intent.kind.as_str()))),
        };
        Ok(data.into())
    }

    fn pool_call(&self, member: Address, action: &Action) -> Result<Vec<u8>, BuildError> {
        let Self { segment, account } = *self;
        match action {
            Action::ClaimBackstop { amount } => {
                Ok(IBackstopPool::claimCall { member, segment, account, amount: *amount }.abi_encode())
            }
            Action::DrawBackstop { .. } => Ok(IBackstopPool::drawCall { member, segment, account }.abi_encode()),
            _ => Err(refuse("no call of the backstop pool")),
        }
    }

    fn fill(&self, fill: &Fill) -> Result<IClearinghouse::Fill, BuildError> {
        self.neighbour(&fill.maker)?;
        Ok(IClearinghouse::Fill { order: fill.order, lots: lots(fill.lots)? })
    }

    fn winner(&self, winner: &Deleveraging) -> Result<IClearinghouse::Winner, BuildError> {
        let account = self.neighbour(&winner.unit)?;
        Ok(IClearinghouse::Winner { account, lots: lots(winner.lots)?, maxLoss: winner.loss_max })
    }

    fn payer(&self, payer: &Contribution) -> Result<IClearinghouse::Payer, BuildError> {
        Ok(IClearinghouse::Payer { account: self.neighbour(&payer.unit)?, amount: payer.amount })
    }

    /// The owner of another account of the same segment: losses never leave it.
    fn neighbour(&self, unit: &UnitKey) -> Result<Address, BuildError> {
        let (segment, owner) = account(unit)?;
        if segment != self.segment {
            return Err(refuse(format!("{unit} is not of segment {}", self.segment)));
        }
        Ok(owner)
    }
}

fn account(unit: &UnitKey) -> Result<(u16, Address), BuildError> {
    state::parse_unit_key(unit).ok_or_else(|| refuse(format!("{unit} is no account of this venue")))
}

fn list<T, U>(items: &[T], encode: impl Fn(&T) -> Result<U, BuildError>) -> Result<Vec<U>, BuildError> {
    if items.is_empty() {
        return Err(refuse("a step that names nobody"));
    }
    items.iter().map(encode).collect()
}

fn market_number(market: MarketId) -> Result<u16, BuildError> {
    fit(market.0, "market")
}

fn fit(value: u32, what: &str) -> Result<u16, BuildError> {
    u16::try_from(value).map_err(|_| refuse(format!("{what} {value} exceeds 16 bits")))
}

fn lots(lots: U256) -> Result<u64, BuildError> {
    u64::try_from(lots).map_err(|_| refuse(format!("{lots} lots exceed 64 bits")))
}

fn refuse(why: impl Into<String>) -> BuildError {
    BuildError(why.into())
}
