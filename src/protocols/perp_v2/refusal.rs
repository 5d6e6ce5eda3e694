//! Revert data → what it means for the action. The contracts refuse with a message, `Error(string)`, most of them codes.
//!
//! | disposition | messages |
//! |---|---|
//! | already done | IF_RWNN (the fund owes nothing) |
//! | not eligible | CH_EAV, CH_CLWTISO, CH_NEXO, CH_PSZ, CH_WLD, CH_MNO, CH_MNC, CH_MP, CH_F0S, V_NL, V_MSAE, V_MCAE, V_ZA, EX_MIP, BT_NC, "Pausable: paused" |
//! | need oracle | OLD (the pool remembers too little), and every code of the price feeds: CPF_…, PFD_…, UPF_…, BPF_…, CT_…, CUPF_… |
//! | fund short | CH_IIC |
//! | capacity | CH_NEFCI, CH_NEFCM (the keeper's free collateral), AB_MNE (its number of markets), V_GTSTBC, V_GTDC, V_NEFC, OB_ONE, EX_OPB, EX_OPLAS, CH_OMPS |
//! | unauthorized | SO_CNO, SO_CNC, CH_OVOT, CH_SHNAOPT, CHD_OCH, OB_OEX, AB_OV, MR_OFM, VT_NW |
//! | bug | every other code of the contracts (set-up, arguments, calls a keeper never makes), library messages, panics, no data |
//!
//! Only the fund's own answer is read as already done: a refused liquidation cannot say whether somebody else or the
//! price repaired the account, so the answer is to plan again from the chain.
//!
//! Invariants: every message of the contracts has a place in the table; the reason quotes it.
//! Must not: treat data it does not know as harmless.

use alloy::{
    hex,
    sol_types::{Panic, Revert, SolError},
};

use crate::protocols::{Disposition, Refusal};

/// Most bytes of undecodable data that a reason quotes.
const QUOTED_BYTES_MAX: usize = 68;

/// Prefixes of the price feeds' codes.
const ORACLE_PREFIXES: [&str; 6] = ["CPF_", "PFD_", "UPF_", "BPF_", "CT_", "CUPF_"];

/// Reads revert data.
pub(super) fn classify(revert: &[u8]) -> Refusal {
    if revert.is_empty() {
        return Refusal { disposition: Disposition::Bug, reason: "reverted without data".to_owned() };
    }
    if let Ok(Revert { reason }) = Revert::abi_decode(revert) {
        return Refusal { disposition: of_message(&reason), reason };
    }
    let reason = match Panic::abi_decode(revert) {
        Ok(panic) => panic.to_string(),
        Err(_) => unknown(revert),
    };
    Refusal { disposition: Disposition::Bug, reason }
}

fn of_message(message: &str) -> Disposition {
    match message {
        "IF_RWNN" => Disposition::AlreadyDone,
        "CH_EAV" | "CH_CLWTISO" | "CH_NEXO" | "CH_PSZ" | "CH_WLD" | "CH_MNO" | "CH_MNC" | "CH_MP" | "CH_F0S"
        | "V_NL" | "V_MSAE" | "V_MCAE" | "V_ZA" | "EX_MIP" | "BT_NC" | "Pausable: paused" => Disposition::NotEligible,
        "CH_IIC" => Disposition::FundShort,
        "CH_NEFCI" | "CH_NEFCM" | "AB_MNE" | "V_GTSTBC" | "V_GTDC" | "V_NEFC" | "OB_ONE" | "EX_OPB" | "EX_OPLAS"
        | "CH_OMPS" => Disposition::Capacity,
        "SO_CNO" | "SO_CNC" | "CH_OVOT" | "CH_SHNAOPT" | "CHD_OCH" | "OB_OEX" | "AB_OV" | "MR_OFM" | "VT_NW" => {
            Disposition::Unauthorized
        }
        "OLD" => Disposition::NeedOracle,
        _ if ORACLE_PREFIXES.iter().any(|prefix| message.starts_with(prefix)) => Disposition::NeedOracle,
        _ => Disposition::Bug,
    }
}

fn unknown(revert: &[u8]) -> String {
    let quoted = &revert[..revert.len().min(QUOTED_BYTES_MAX)];
    let more = if quoted.len() < revert.len() { "…" } else { "" };
    format!("unknown error {}{more}", hex::encode_prefixed(quoted))
}
