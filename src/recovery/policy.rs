//! Whether an intent is worth doing: for its own profit, or under mandate up to a budget; and whether the keeper can pay.
//!
//! Inputs are the intent's own figures and the operator's terms. The sender's balance before or after an action says
//! nothing here, so it does not matter where proceeds go.
//!
//! Invariants: integers, every rounding against the keeper; the same intent and terms give the same answer.
//! Must not: change an intent, do I/O, or know a protocol.

use std::collections::BTreeMap;

use alloy::primitives::{Address, U256};
use serde::{Deserialize, Serialize};

use super::{Intent, Shortage, ShortageKind};
use crate::types::{math::mul_div_ceil, pairs};

const BPS: U256 = U256::from_limbs([10_000, 0, 0, 0]);
/// Wei in one whole native coin.
const NATIVE_WEI: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);

/// What an action must bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// It must pay for itself: reward ≥ gas + swap + cost + this much.
    Profit {
        /// Least gain, in the segment's unit of account.
        gain_min: U256,
    },
    /// The protocol wants it done and pays the operator elsewhere: any net outlay within the budget.
    Mandate,
}

/// The operator's policy for one deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// For profit or under mandate.
    pub mode: Mode,
    /// In profit mode: what leaves bad debt if left undone is done under the budget although it does not pay.
    pub bad_debt_overrides_profit: bool,
    /// What swapping proceeds back is expected to cost, of their value.
    pub swap_cost_bps: u32,
    /// Most of a token that may be tied up in calls at once, token units; a token that is not here: all the keeper holds.
    pub capital_max: BTreeMap<Address, U256>,
}

/// What a token purse holds and who may take from it, at one block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purse {
    /// Token units the keeper holds, by token.
    pub balances: BTreeMap<Address, U256>,
    /// Token units a spender may take, by (token, spender).
    #[serde(with = "pairs")]
    pub allowances: BTreeMap<(Address, Address), U256>,
}

/// Everything a judgement rests on, for one segment at one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The operator's policy.
    pub policy: Policy,
    /// Wei per gas that a transaction sent now would offer.
    pub gas_price_wei: U256,
    /// Value of one whole native coin (10¹⁸ wei) in the segment's unit of account; `None`: not known.
    pub native_value: Option<U256>,
    /// Net outlay that the budget still allows, wei.
    pub budget_left_wei: U256,
    /// What the keeper holds.
    pub purse: Purse,
}

/// What an intent costs and brings in the segment's unit of account, all roundings against the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Economics {
    /// What it brings.
    pub reward: U256,
    /// Gas, swap and cost together.
    pub expense: U256,
}

impl Terms {
    /// The intent's economics; `None` where gas cannot be valued or a figure does not fit 256 bits.
    pub fn economics(&self, intent: &Intent) -> Option<Economics> {
        let gas_wei = U256::from(intent.gas).checked_mul(self.gas_price_wei)?;
        let gas = mul_div_ceil(gas_wei, self.native_value?, NATIVE_WEI)?;
        let swap = mul_div_ceil(intent.swapped, U256::from(self.policy.swap_cost_bps), BPS)?;
        let expense = gas.checked_add(swap)?.checked_add(intent.cost)?;
        Some(Economics { reward: intent.reward, expense })
    }

    /// Whether the policy wants it, and if so the net outlay in wei that it takes from the budget; else why not.
    pub(super) fn judge(&self, intent: &Intent) -> Result<U256, String> {
        let economics = self.economics(intent);
        if let Mode::Profit { gain_min } = self.policy.mode {
            let pays =
                economics.is_some_and(|e| e.expense.checked_add(gain_min).is_some_and(|needed| e.reward >= needed));
            if pays {
                return Ok(U256::ZERO);
            }
            if !(intent.bad_debt && self.policy.bad_debt_overrides_profit) {
                return Err(match economics {
                    Some(e) => format!("it does not pay for itself: brings {}, costs {}", e.reward, e.expense),
                    None => {
                        "its gas cannot be valued: no native value is configured for its unit of account".to_owned()
                    }
                });
            }
        }
        let outlay_wei = self.outlay_wei(intent, economics)?;
        if outlay_wei > self.budget_left_wei {
            let left = self.budget_left_wei;
            return Err(format!("its outlay of {outlay_wei} wei is above what the budget leaves, {left}"));
        }
        Ok(outlay_wei)
    }

    /// Expense above reward, wei, rounded up; the gas alone where nothing else can be valued.
    fn outlay_wei(&self, intent: &Intent, economics: Option<Economics>) -> Result<U256, String> {
        let unvalued = || "its cost cannot be valued: no native value is configured for its unit of account".to_owned();
        match (economics, self.native_value) {
            (Some(e), Some(value)) if !value.is_zero() => {
                let net = e.expense.saturating_sub(e.reward);
                mul_div_ceil(net, NATIVE_WEI, value).ok_or_else(unvalued)
            }
            _ if intent.cost.is_zero() => Ok(U256::from(intent.gas).saturating_mul(self.gas_price_wei)),
            _ => Err(unvalued()),
        }
    }
}

/// The purse as a plan empties it.
#[derive(Clone, Debug)]
pub(super) struct Capital<'t> {
    terms: &'t Terms,
    /// Taken by calls in flight and by this plan, by token.
    taken: BTreeMap<Address, U256>,
}

impl<'t> Capital<'t> {
    /// The purse less what calls in flight may take.
    pub(super) fn new(terms: &'t Terms, in_flight: &BTreeMap<Address, U256>) -> Self {
        Self { terms, taken: in_flight.clone() }
    }

    /// Takes what the intent needs, all of it or nothing; the shortage says of what there is too little.
    pub(super) fn take(&mut self, intent: &Intent) -> Result<(), Shortage> {
        let mut taken = self.taken.clone();
        for need in &intent.capital {
            let used = taken.entry(need.token).or_default();
            let total = used.saturating_add(need.amount);
            let held = self.terms.purse.balances.get(&need.token).copied().unwrap_or_default();
            let allowed = self.terms.policy.capital_max.get(&need.token).copied().unwrap_or(U256::MAX);
            let approved = need.spender.map(|spender| (spender, self.approved(need.token, spender)));
            let (token, amount) = (need.token, need.amount);
            let short = |detail: String| Shortage { kind: ShortageKind::Capital, subject: token.to_string(), detail };
            if total > held {
                return Err(short(format!(
                    "the keeper holds {held} units of {token}, of which {used} are taken; {amount} more are needed, fund it"
                )));
            }
            if total > allowed {
                return Err(short(format!(
                    "policy.capital_max allows {allowed} units of {token} at once, of which {used} are taken; {amount} more \
                     are needed"
                )));
            }
            if let Some((spender, approved)) = approved.filter(|(_, approved)| *approved < total) {
                return Err(short(format!(
                    "{spender} may take {approved} units of {token}, {amount} are needed; approve it from the keeper"
                )));
            }
            *used = total;
        }
        self.taken = taken;
        Ok(())
    }

    fn approved(&self, token: Address, spender: Address) -> U256 {
        self.terms.purse.allowances.get(&(token, spender)).copied().unwrap_or_default()
    }
}
