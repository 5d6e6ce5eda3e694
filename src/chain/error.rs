//! What can go wrong between us and a node, and what each means.

use alloy::{
    primitives::Bytes,
    transports::{RpcError as TransportRpcError, TransportError},
};

use super::{endpoint::clean_text, method::Method};

/// A request that brought no answer to act on. None of these is a fact about the chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RpcError {
    /// No answer in time.
    #[error("{method}: no answer in time")]
    Timeout {
        /// The request.
        method: &'static str,
    },
    /// The connection failed, or something on the way answered instead of the node.
    #[error("{method}: {message}")]
    Transport {
        /// The request.
        method: &'static str,
        /// What the transport said.
        message: String,
    },
    /// The node refused the request.
    #[error("{method}: node error {code}: {message}")]
    Node {
        /// The request.
        method: &'static str,
        /// JSON-RPC error code.
        code: i64,
        /// The node's words.
        message: String,
        /// Error data, where the node sent bytes: revert data.
        data: Option<Bytes>,
    },
    /// The answer is not of its form, or contradicts the question.
    #[error("{method}: malformed answer: {message}")]
    Malformed {
        /// The request.
        method: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Two nodes answer differently; one of them is wrong, and this cannot be the place to tell which.
    #[error("{method}: two endpoints answer differently")]
    Disagreement {
        /// The request.
        method: &'static str,
    },
    /// The node follows another chain.
    #[error("{endpoint} follows chain {actual}, not {expected}")]
    WrongChain {
        /// Which node, without its secrets.
        endpoint: String,
        /// The chain that is configured.
        expected: u64,
        /// The chain that the node says it follows.
        actual: u64,
    },
    /// This node does not know what was asked about, now: it may be behind, or the block was reorganised away.
    #[error("this node does not know {what}")]
    NotFound {
        /// What.
        what: String,
    },
}

/// What a caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The same question may be answered later.
    Retry,
    /// Asking again the same way will not help.
    Terminal,
}

impl RpcError {
    /// Whether asking again can help.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Timeout { .. } | Self::Transport { .. } | Self::NotFound { .. } | Self::Disagreement { .. } => {
                ErrorClass::Retry
            }
            Self::Node { code, message, .. } if is_overload(*code, message) => ErrorClass::Retry,
            Self::Node { .. } | Self::Malformed { .. } | Self::WrongChain { .. } => ErrorClass::Terminal,
        }
    }

    pub(super) fn malformed(method: Method, message: impl Into<String>) -> Self {
        Self::Malformed { method: method.as_str(), message: clean_text(&message.into()) }
    }

    /// Names what this transport error was.
    pub(super) fn of(method: Method, error: TransportError) -> Self {
        let method = method.as_str();
        match error {
            TransportRpcError::ErrorResp(payload) => {
                // Some nodes put the bytes of a custom error in the text, NULs included.
                let data = payload.as_revert_data().or_else(|| payload.try_data_as::<Bytes>()?.ok());
                Self::Node { method, code: payload.code, message: clean_text(&payload.message), data }
            }
            TransportRpcError::NullResp => Self::Malformed { method, message: "null".to_owned() },
            TransportRpcError::DeserError { err, .. } => {
                Self::Malformed { method, message: clean_text(&err.to_string()) }
            }
            other => Self::Transport { method, message: clean_text(&with_causes(&other)) },
        }
    }

    /// Whether asking the same node the same again brings nothing else.
    pub(super) fn is_answer(&self) -> bool {
        self.revert_data().is_some() || self.is_unknown_block() || self.class() == ErrorClass::Terminal
    }

    /// Whether it speaks against the node that was asked, and not about the question.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Malformed { .. } => true,
            error => error.class() == ErrorClass::Retry && error.revert_data().is_none() && !error.is_unknown_block(),
        }
    }

    /// Whether the node says that it does not know the block it was asked about.
    pub(super) fn is_unknown_block(&self) -> bool {
        let Self::Node { code, message, .. } = self else { return false };
        let message = message.to_lowercase();
        *code == RESOURCE_NOT_FOUND || contains_any(&message, &["unknown block", "header not found", "block not found"])
    }

    /// Whether a log query asked for more than the node gives at once. A range may also simply be too heavy to finish.
    pub(super) fn is_range_too_large(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Node { message, .. } if is_rate_limit(message) => false,
            Self::Node { message, .. } => contains_any(
                &message.to_lowercase(),
                &[
                    "too many",
                    "more than",
                    "limit exceeded",
                    "exceed",
                    "range is too",
                    "block range",
                    "too large",
                    "response size",
                ],
            ),
            _ => false,
        }
    }

    /// The revert data, if the node's answer is that the call failed in the EVM: then it is an answer, not an error.
    pub(super) fn revert_data(&self) -> Option<Bytes> {
        let Self::Node { code, message, data, .. } = self else { return None };
        let message = message.to_lowercase();
        let failed_in_evm = *code == EXECUTION_REVERTED
            || contains_any(
                &message,
                &["revert", "evm error", "out of gas", "invalid opcode", "stack underflow", "invalid jump"],
            );
        failed_in_evm.then(|| data.clone().unwrap_or_default())
    }
}

/// JSON-RPC code of a reverted call, by common agreement of nodes.
const EXECUTION_REVERTED: i64 = 3;
/// EIP-1474: a requested resource does not exist.
const RESOURCE_NOT_FOUND: i64 = -32001;
/// EIP-1474: a requested resource is not available now.
const RESOURCE_UNAVAILABLE: i64 = -32002;
/// EIP-1474: a limit was exceeded.
const LIMIT_EXCEEDED: i64 = -32005;
/// JSON-RPC: internal error.
const INTERNAL: i64 = -32603;

fn is_overload(code: i64, message: &str) -> bool {
    matches!(code, 429 | RESOURCE_UNAVAILABLE | LIMIT_EXCEEDED | INTERNAL)
        || is_rate_limit(message)
        || contains_any(&message.to_lowercase(), &["try again", "timed out", "timeout"])
}

fn is_rate_limit(message: &str) -> bool {
    contains_any(&message.to_lowercase(), &["rate limit", "request rate", "too many requests"])
}

/// What became of a broadcast. Nodes agree on few codes, so the text decides.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The node has this very transaction: as good as accepted.
    #[error("the node knows this transaction already")]
    AlreadyKnown,
    /// Another transaction of this signer has this nonce and is mined, or this one is.
    #[error("the nonce is used up")]
    NonceTooLow,
    /// The fee is below the base fee, or too little above the one it would replace.
    #[error("underpriced: {0}")]
    Underpriced(String),
    /// The signer cannot pay for it.
    #[error("insufficient funds: {0}")]
    InsufficientFunds(String),
    /// Refused for another reason; the bytes are not in this node's pool.
    #[error("rejected: {0}")]
    Rejected(String),
    /// Nobody knows whether it was taken. Look for it; do not sign another.
    #[error("outcome unknown: {0}")]
    Unknown(RpcError),
}

impl From<RpcError> for SendError {
    fn from(error: RpcError) -> Self {
        let RpcError::Node { message, .. } = &error else { return Self::Unknown(error) };
        let text = message.to_lowercase();
        if contains_any(&text, &["already known", "already imported", "known transaction", "already exists"]) {
            Self::AlreadyKnown
        } else if contains_any(&text, &["nonce too low", "nonce is too low", "old nonce"]) {
            Self::NonceTooLow
        } else if contains_any(&text, &["underpriced", "less than block base fee", "fee too low", "below base fee"]) {
            Self::Underpriced(message.clone())
        } else if contains_any(&text, &["insufficient funds", "insufficient balance"]) {
            Self::InsufficientFunds(message.clone())
        } else if error.class() == ErrorClass::Retry {
            Self::Unknown(error)
        } else {
            Self::Rejected(message.clone())
        }
    }
}

fn contains_any(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.contains(word))
}

/// An error's text with those of its causes: transports hide "connection refused" three levels down.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(code: i64, message: &str) -> RpcError {
        RpcError::Node { method: "eth_sendRawTransaction", code, message: message.to_owned(), data: None }
    }

    #[test]
    fn refusals_of_a_broadcast_are_told_apart_by_their_text() {
        let cases = [
            ("already known", SendError::AlreadyKnown),
            ("transaction already imported", SendError::AlreadyKnown),
            ("nonce too low: next nonce 5, tx nonce 4", SendError::NonceTooLow),
        ];
        for (text, expected) in cases {
            assert_eq!(SendError::from(node(-32003, text)), expected, "{text}");
        }
        for text in ["replacement transaction underpriced", "max fee per gas less than block base fee"] {
            assert_eq!(SendError::from(node(-32003, text)), SendError::Underpriced(text.to_owned()));
        }
        let text = "insufficient funds for gas * price + value";
        assert_eq!(SendError::from(node(-32000, text)), SendError::InsufficientFunds(text.to_owned()));
        assert_eq!(SendError::from(node(-32602, "bad rlp")), SendError::Rejected("bad rlp".to_owned()));
    }

    #[test]
    fn a_broadcast_without_a_clear_refusal_has_an_unknown_outcome() {
        let timeout = RpcError::Timeout { method: "eth_sendRawTransaction" };
        for error in [timeout, node(-32603, "internal error"), node(429, "slow down")] {
            assert_eq!(SendError::from(error.clone()), SendError::Unknown(error));
        }
    }

    #[test]
    fn an_evm_failure_is_an_answer_and_a_refusal_is_not() {
        assert_eq!(node(3, "execution reverted").revert_data(), Some(Bytes::new()));
        assert_eq!(node(-32603, "EVM error OutOfGas").revert_data(), Some(Bytes::new()));
        assert_eq!(node(-32602, "invalid params").revert_data(), None);
        assert_eq!(RpcError::Timeout { method: "eth_call" }.revert_data(), None);
    }

    #[test]
    fn a_rate_limit_is_no_reason_to_ask_in_smaller_pieces() {
        assert!(node(-32005, "query returned more than 10000 results").is_range_too_large());
        assert!(node(-32602, "block range exceeds 2000").is_range_too_large());
        assert!(!node(-32005, "daily request count exceeded, request rate limited").is_range_too_large());
        assert!(!node(429, "Too Many Requests").is_range_too_large());
    }

    #[test]
    fn only_what_may_pass_is_asked_again() {
        assert_eq!(node(-32005, "limit").class(), ErrorClass::Retry);
        assert_eq!(RpcError::NotFound { what: "block 7".to_owned() }.class(), ErrorClass::Retry);
        assert_eq!(node(-32601, "method not found").class(), ErrorClass::Terminal);
        assert_eq!(RpcError::Malformed { method: "eth_call", message: String::new() }.class(), ErrorClass::Terminal);
    }
}
