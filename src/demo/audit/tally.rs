//! What the audit counts, by segment.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::types::{Address, I256, U256, math};

/// Losses by who bore them, settlement-token units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// Margins of liquidated accounts: losses realised by closing, and fees.
    pub liquidation: U256,
    /// The insurance fund.
    pub insurance_fund: U256,
    /// Deleveraged winners.
    pub auto_deleverage: U256,
    /// Money from outside: a backstop that is shared with other venues.
    pub shared_backstop: U256,
    /// The rest of the segment.
    pub socialise_loss: U256,
}

impl Absorbed {
    /// What others than the account itself paid.
    pub fn external(&self) -> U256 {
        self.insurance_fund + self.auto_deleverage + self.shared_backstop + self.socialise_loss
    }

    /// The sum, tier by tier.
    pub fn plus(self, other: Self) -> Self {
        Self {
            liquidation: self.liquidation + other.liquidation,
            insurance_fund: self.insurance_fund + other.insurance_fund,
            auto_deleverage: self.auto_deleverage + other.auto_deleverage,
            shared_backstop: self.shared_backstop + other.shared_backstop,
            socialise_loss: self.socialise_loss + other.socialise_loss,
        }
    }
}

impl Serialize for Absorbed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut fields = serializer.serialize_struct("Absorbed", 5)?;
        fields.serialize_field("liquidation", &self.liquidation.to_string())?;
        fields.serialize_field("insurance_fund", &self.insurance_fund.to_string())?;
        fields.serialize_field("auto_deleverage", &self.auto_deleverage.to_string())?;
        fields.serialize_field("shared_backstop", &self.shared_backstop.to_string())?;
        fields.serialize_field("socialise_loss", &self.socialise_loss.to_string())?;
        fields.end()
    }
}

/// One segment's history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Accounts that were liquidated at least in part.
    pub(crate) liquidated: BTreeSet<Address>,
    /// Accounts whose equity was below zero after some event.
    pub(crate) bankrupt: BTreeSet<Address>,
    /// Accounts that were deleveraged as winners.
    pub(crate) deleveraged: BTreeSet<Address>,
    /// Accounts that paid a socialised loss.
    pub(crate) payers: BTreeSet<Address>,
    /// Who bore which loss.
    pub(crate) absorbed: Absorbed,
    /// What each deleveraged winner and payer bore for others.
    pub(crate) borne: BTreeMap<Address, U256>,
    /// Shortfalls that prices and executions opened, less those that prices closed again.
    pub(crate) shortfall_arisen: I256,
    /// Shortfalls that stand open.
    pub(crate) shortfall_open: U256,
    /// Calls of the waterfall: liquidations, draws, deleveragings, charges.
    pub(crate) recovery_events: u64,
    /// Moves of margin parameters.
    pub(crate) margin_moves: u64,
    /// Times that withdrawals were shut or opened.
    pub(crate) gate_moves: u64,
    /// What the fund paid back of earlier losses.
    pub(crate) returned: U256,
    /// Whom it paid back.
    pub(crate) claimants: BTreeSet<Address>,
}

impl Tally {
    /// Whether every unit of loss that arose was borne by somebody or stands open: the conservation law, with the left
    /// side measured from the state of accounts and the right side from the amounts that the recovery events name.
    pub(crate) fn conserves(&self) -> bool {
        math::signed(self.absorbed.external() + self.shortfall_open) == Some(self.shortfall_arisen)
    }
}
