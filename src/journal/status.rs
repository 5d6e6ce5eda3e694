//! The words of the journal's state machines, and which step may follow which.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::JournalError;
use crate::{recovery::Tier, scanner::Condition};

/// How far an action is.
///
/// ```text
/// planned → simulated → signed → sent ⇄ included → final
///    │          │          │      │ ⇅       └────→ reverted
///    ├──────────┤          │      replaced → abandoned
///    ▼          ▼          ▼
///  rejected, abandoned   superseded
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionStatus {
    /// Decided and written down.
    Planned,
    /// It succeeded on top of the head in a simulation.
    Simulated,
    /// Signed bytes are in the journal; they may or may not have left.
    Signed,
    /// The bytes left, or may have left.
    Sent,
    /// Mined with success; a reorganisation can still take it back to sent.
    Included,
    /// Mined with success, deeper than the chain reorganises. Terminal.
    Final,
    /// Refused before it was signed, by the gate or the simulation. Terminal.
    Rejected,
    /// Mined without success. Terminal.
    Reverted,
    /// A cancel competes for its nonce: it may still be mined.
    Replaced,
    /// Another transaction used its nonce. Terminal.
    Superseded,
    /// Given up before it was signed, run dry, or cancelled on chain. Terminal.
    Abandoned,
}

impl ActionStatus {
    /// Every status.
    pub const ALL: [Self; 11] = [
        Self::Planned,
        Self::Simulated,
        Self::Signed,
        Self::Sent,
        Self::Included,
        Self::Final,
        Self::Rejected,
        Self::Reverted,
        Self::Replaced,
        Self::Superseded,
        Self::Abandoned,
    ];

    /// The word in the database, in metrics and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Simulated => "simulated",
            Self::Signed => "signed",
            Self::Sent => "sent",
            Self::Included => "included",
            Self::Final => "final",
            Self::Rejected => "rejected",
            Self::Reverted => "reverted",
            Self::Replaced => "replaced",
            Self::Superseded => "superseded",
            Self::Abandoned => "abandoned",
        }
    }

    /// Whether nothing follows.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Final | Self::Rejected | Self::Reverted | Self::Superseded | Self::Abandoned => true,
            Self::Planned | Self::Simulated | Self::Signed | Self::Sent | Self::Included | Self::Replaced => false,
        }
    }

    /// From which statuses a caller may move an action here itself. The statuses of a signed action follow its
    /// transaction and are set by nothing else.
    pub(super) fn settable_from(self) -> &'static [&'static str] {
        match self {
            Self::Simulated => &["planned"],
            Self::Rejected | Self::Abandoned => &["planned", "simulated"],
            Self::Planned
            | Self::Signed
            | Self::Sent
            | Self::Included
            | Self::Final
            | Self::Reverted
            | Self::Replaced
            | Self::Superseded => &[],
        }
    }
}

impl fmt::Display for ActionStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ActionStatus {
    type Err = JournalError;

    fn from_str(word: &str) -> Result<Self, JournalError> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| JournalError::corrupt("action status", word))
    }
}

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionStatus {
    /// Signed bytes are in the journal; no broadcast is known to have begun.
    Signed,
    /// An attempt left, or may have left.
    Sent,
    /// An attempt was mined, with success or without.
    Included,
    /// Mined deeper than the chain reorganises. Terminal.
    Final,
    /// Another transaction used the nonce. Terminal.
    Superseded,
}

impl TransactionStatus {
    const ALL: [Self; 5] = [Self::Signed, Self::Sent, Self::Included, Self::Final, Self::Superseded];

    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Sent => "sent",
            Self::Included => "included",
            Self::Final => "final",
            Self::Superseded => "superseded",
        }
    }
}

impl FromStr for TransactionStatus {
    type Err = JournalError;

    fn from_str(word: &str) -> Result<Self, JournalError> {
        Self::ALL
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or_else(|| JournalError::corrupt("transaction status", word))
    }
}

/// The tier of a stored word.
pub(super) fn tier(word: &str) -> Result<Tier, JournalError> {
    Tier::ALL.into_iter().find(|tier| tier.as_str() == word).ok_or_else(|| JournalError::corrupt("tier", word))
}

/// The condition of a stored word.
pub(super) fn condition(word: &str) -> Result<Condition, JournalError> {
    Condition::ALL
        .into_iter()
        .find(|condition| condition.as_str() == word)
        .ok_or_else(|| JournalError::corrupt("condition", word))
}
