//! An intent's payload, and the call it becomes.
//!
//! Invariants: every call goes to a configured contract with one of the selectors of [`allowed`]; a payload that another
//! adapter made, or a group of intents, is refused.
//! Must not: choose anything.

use alloy::sol_types::{SolCall, SolValue};

use super::{
    Settings,
    abi::{IClearingHouse, IInsuranceFund, IVault},
};
use crate::{
    protocols::{BuildError, Parties},
    recovery::{Action, Intent, IntentKind, Step},
    types::{Address, Bytes, Call, I256},
};

/// What an intent acts on, as the contracts name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Payload {
    /// The trader; zero for the fund.
    pub(super) trader: Address,
    /// The market's base token; zero where there is none.
    pub(super) base: Address,
    /// Position size to liquidate, signed as the position, 10⁻¹⁸.
    pub(super) size: I256,
}

impl Payload {
    /// The payload's bytes.
    pub(super) fn encode(&self) -> Bytes {
        (self.trader, self.base, self.size).abi_encode().into()
    }

    fn decode(bytes: &[u8]) -> Result<Self, BuildError> {
        let (trader, base, size) = <(Address, Address, I256)>::abi_decode_validate(bytes)
            .map_err(|error| refuse(format!("a payload that is none of this adapter's: {error}")))?;
        Ok(Self { trader, base, size })
    }
}

/// Every call that may be sent.
pub(super) fn allowed(settings: &Settings) -> Vec<(Address, [u8; 4])> {
    vec![
        (settings.clearing_house, IClearingHouse::liquidateCall::SELECTOR),
        (settings.clearing_house, IClearingHouse::cancelAllExcessOrdersCall::SELECTOR),
        (settings.clearing_house, IClearingHouse::quitMarketCall::SELECTOR),
        (settings.vault, IVault::settleBadDebtCall::SELECTOR),
        (settings.insurance_fund, IInsuranceFund::repayCall::SELECTOR),
    ]
}

/// Encodes one intent; the protocol has no batches.
pub(super) fn build(settings: &Settings, steps: &[Step], parties: &Parties) -> Result<Call, BuildError> {
    let [step] = steps else { return Err(refuse(format!("{} steps in one call", steps.len()))) };
    let Action::Intent(intent) = &step.action else { return Err(refuse("a step that is no intent")) };
    let (to, data) = call(settings, intent, parties)?;
    Ok(Call::new(to, data))
}

fn call(settings: &Settings, intent: &Intent, parties: &Parties) -> Result<(Address, Vec<u8>), BuildError> {
    let Payload { trader, base, size } = Payload::decode(&intent.payload)?;
    let house = settings.clearing_house;
    match intent.kind {
        IntentKind::Liquidate => {
            if let Some(liquidator) = settings.liquidator.filter(|liquidator| *liquidator != parties.sender) {
                let sender = parties.sender;
                return Err(refuse(format!(
                    "{sender} would take the position over, sized for liquidator = {liquidator}; make them the same"
                )));
            }
            let call = IClearingHouse::liquidateCall { trader, baseToken: base, positionSize: size };
            Ok((house, call.abi_encode()))
        }
        IntentKind::CancelOrders => {
            let call = IClearingHouse::cancelAllExcessOrdersCall { maker: trader, baseToken: base };
            Ok((house, call.abi_encode()))
        }
        IntentKind::QuitMarket => Ok((house, IClearingHouse::quitMarketCall { trader, baseToken: base }.abi_encode())),
        IntentKind::SettleBadDebt => Ok((settings.vault, IVault::settleBadDebtCall { trader }.abi_encode())),
        IntentKind::RefillFund => Ok((settings.insurance_fund, IInsuranceFund::repayCall {}.abi_encode())),
        kind => Err(refuse(format!("an intent to {}", kind.as_str()))),
    }
}

fn refuse(why: impl Into<String>) -> BuildError {
    BuildError(why.into())
}
