//! The requests this client makes: a closed set, for names and metric labels.

/// A JSON-RPC method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    ChainId,
    BlockByNumber,
    BlockByHash,
    BlockReceipts,
    Logs,
    Call,
    Simulate,
    Code,
    Storage,
    Nonce,
    Balance,
    FeeHistory,
    SendRaw,
    Receipt,
    TransactionByHash,
    Subscribe,
}

impl Method {
    pub(super) const ALL: [Self; 16] = [
        Self::ChainId,
        Self::BlockByNumber,
        Self::BlockByHash,
        Self::BlockReceipts,
        Self::Logs,
        Self::Call,
        Self::Simulate,
        Self::Code,
        Self::Storage,
        Self::Nonce,
        Self::Balance,
        Self::FeeHistory,
        Self::SendRaw,
        Self::Receipt,
        Self::TransactionByHash,
        Self::Subscribe,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::ChainId => "eth_chainId",
            Self::BlockByNumber => "eth_getBlockByNumber",
            Self::BlockByHash => "eth_getBlockByHash",
            Self::BlockReceipts => "eth_getBlockReceipts",
            Self::Logs => "eth_getLogs",
            Self::Call => "eth_call",
            Self::Simulate => "eth_simulateV1",
            Self::Code => "eth_getCode",
            Self::Storage => "eth_getStorageAt",
            Self::Nonce => "eth_getTransactionCount",
            Self::Balance => "eth_getBalance",
            Self::FeeHistory => "eth_feeHistory",
            Self::SendRaw => "eth_sendRawTransaction",
            Self::Receipt => "eth_getTransactionReceipt",
            Self::TransactionByHash => "eth_getTransactionByHash",
            Self::Subscribe => "eth_subscribe",
        }
    }

    /// Whether asking twice is the same as asking once. A broadcast is never repeated from in here.
    pub(super) fn is_read(self) -> bool {
        !matches!(self, Self::SendRaw | Self::Subscribe)
    }
}
