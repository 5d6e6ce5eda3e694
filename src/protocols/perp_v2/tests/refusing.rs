//! Every message of the contracts, and what it means.

use alloy::sol_types::{Revert, SolError};

use super::super::refusal::classify;
use crate::protocols::Disposition::{
    self, AlreadyDone, Bug, Capacity, FundShort, NeedOracle, NotEligible, Unauthorized,
};

fn meaning(message: &str) -> Disposition {
    let refusal = classify(&Revert::from(message).abi_encode());
    assert_eq!(refusal.reason, message);
    refusal.disposition
}

#[test]
fn the_messages_that_a_keeper_meets_mean_what_the_table_says() {
    for (messages, disposition) in [
        ("IF_RWNN", AlreadyDone),
        ("CH_EAV CH_CLWTISO CH_NEXO CH_PSZ CH_WLD CH_MNO CH_MNC CH_MP CH_F0S", NotEligible),
        ("V_NL V_MSAE V_MCAE V_ZA EX_MIP BT_NC", NotEligible),
        ("CH_IIC", FundShort),
        ("CH_NEFCI CH_NEFCM AB_MNE V_GTSTBC V_GTDC V_NEFC OB_ONE EX_OPB EX_OPLAS CH_OMPS", Capacity),
        ("SO_CNO SO_CNC CH_OVOT CH_SHNAOPT CHD_OCH OB_OEX AB_OV MR_OFM VT_NW", Unauthorized),
        ("OLD CPF_NEH CPF_IP CPF_SD CT_IT CT_IPWU BPF_TBZ PFD_CNC UPF_PANC", NeedOracle),
    ] {
        for message in messages.split(' ') {
            assert_eq!(meaning(message), disposition, "{message}");
        }
    }
    assert_eq!(meaning("Pausable: paused"), NotEligible);
}

#[test]
fn set_up_and_argument_errors_are_our_own_bugs() {
    let messages = "V_DFZA EX_BTNE CM_PFNC BT_NP BT_IPFD V_WNC V_WINAC V_TINAC V_TFNC V_SNW V_OSCT V_ISTD V_IBA V_ENC V_CTNE \
                    V_CSI V_CMNC V_CHNC V_CHCNC V_ABNC VT_BNZ UCB_FCV UB_UOA SO_SAO SO_SAC SO_NW0 SO_C0 MR_UFNC MR_RO \
                    MR_QTSNE MR_QTNC MR_PNQWL MR_PNI MR_PNE MR_PNBWL MR_NEP MR_IB MR_EP MR_CNBWL MR_CHNQWL MR_CHBNE \
                    MR_BDN18 IF_VNC IF_TNM IF_TNC IF_SNS IF_SNC IF_DTEZ E_OBNC E_CHNC E_AB0 EX_TKMM EX_MTCLOOR EX_BNC DA_IA \
                    CM_ZDT CM_VNC CM_TINAC CM_IR CM_ICMR CM_CTNC CM_CTE CM_CIS CM_CHCNC CH_VANC CH_UANC CH_TMRS CH_TMRL \
                    CH_TLRS CH_TLRL CH_TFNC CH_TF CH_TE CH_QDN18 CH_QANC CH_PSCF CH_ONBM CH_OE CH_OBNC CH_NOB CH_IFANC \
                    CH_ENC CH_DUTB CH_DANC CH_CCNC CH_ABNC CHC_RO CHC_IMPPI CHC_IMPMTI BT_WPNE BT_NO AB_VNC AB_OBNC AB_CHCNC";
    for message in messages.split_whitespace() {
        assert_eq!(meaning(message), Bug, "{message}");
    }
    assert_eq!(meaning("ReentrancyGuard: reentrant call"), Bug);
}

#[test]
fn data_that_is_no_message_is_a_bug_with_its_bytes() {
    assert_eq!(classify(&[]).disposition, Bug);
    let unknown = classify(&[0xde, 0xad, 0xbe, 0xef]);
    assert_eq!((unknown.disposition, unknown.reason.as_str()), (Bug, "unknown error 0xdeadbeef"));
    assert!(classify(&[0xab; 200]).reason.ends_with('…'));
}
