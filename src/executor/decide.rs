//! What to do next with one transaction, from what was seen of it. Pure: the whole of settlement's judgement is here.
//!
//! Invariants: a nonce is never given up while one of its hashes could still be mined by us; nothing is final before its
//! depth, nor on a block that is no longer canonical; what could not be observed decides nothing.
//! Must not: do I/O. An RPC failure never gets here: the transaction is looked at again on the next head.

/// Limits in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettleSettings {
    /// Depth at which an inclusion is final; the block it is in counts as 1.
    pub finality_depth_blocks: u64,
    /// Blocks that the latest attempt could have been mined in, after which it is replaced by a dearer one.
    pub replace_after_blocks: u64,
    /// Blocks that the transaction could have been mined in, after which its nonce is freed by a transfer to ourselves.
    pub cancel_after_blocks: u64,
}

/// Blocks between two looks that must both find the nonce used by a foreign transaction.
pub(super) const SUPERSEDE_AFTER_BLOCKS: u64 = 2;

/// Where the journal has the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recorded {
    /// Signed or sent.
    Pending,
    /// Included at this height; whether that block is still part of the chain.
    Included {
        /// Height.
        block: u64,
        /// `None`: the node has no block of that height yet.
        canonical: Option<bool>,
    },
}

/// How a pending transaction looks on the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NonceState {
    /// Earlier nonces of the signer are still open.
    Ahead,
    /// It is the next one.
    Next,
    /// Some transaction used it; `since` is the height at which that was first seen without a receipt of ours.
    Used {
        /// `None`: never seen before.
        since: Option<u64>,
    },
}

/// Everything the decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    /// The pinned head's height.
    pub(super) head: u64,
    /// What the journal says.
    pub(super) recorded: Recorded,
    /// Whether one of our attempts has a receipt on the canonical chain.
    pub(super) mined: bool,
    /// The nonce.
    pub(super) nonce: NonceState,
    /// Whether the node still knows the latest attempt.
    pub(super) known: bool,
    /// Height since which it could have been mined: signed, its turn in the lane, and on no block that was taken back.
    pub(super) turn_since: u64,
    /// Height at which the latest attempt was signed.
    pub(super) last_signed: u64,
    /// Whether a cancellation is among the attempts.
    pub(super) cancelling: bool,
    /// Whether our own key signed it, so that it can be replaced.
    pub(super) ours: bool,
    /// Whether no block takes the latest attempt while the base fee is what it is.
    pub(super) priced_out: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing now.
    Wait,
    /// Book the receipt, then look again.
    RecordInclusion,
    /// Take the inclusion back, then look again.
    MarkReorged,
    /// Deep enough: done.
    Finalise,
    /// Remember that the nonce is used without a receipt of ours.
    NoteForeignNonce,
    /// The nonce is lost to a foreign transaction.
    Supersede,
    /// Send the same bytes again.
    Rebroadcast,
    /// Send a dearer attempt of the same call.
    Replace,
    /// Free the nonce.
    Cancel,
}

/// Decides.
pub(super) fn decide(seen: &Observed, settings: &SettleSettings) -> Next {
    match seen.recorded {
        Recorded::Included { canonical: None, .. } => Next::Wait,
        Recorded::Included { canonical: Some(false), .. } => Next::MarkReorged,
        Recorded::Included { block, canonical: Some(true) } => {
            let depth = (seen.head + 1).saturating_sub(block);
            if depth >= settings.finality_depth_blocks { Next::Finalise } else { Next::Wait }
        }
        Recorded::Pending if seen.mined => Next::RecordInclusion,
        Recorded::Pending => pending(seen, settings),
    }
}

fn pending(seen: &Observed, settings: &SettleSettings) -> Next {
    let forgotten = if seen.known { Next::Wait } else { Next::Rebroadcast };
    match seen.nonce {
        NonceState::Used { since: None } => return Next::NoteForeignNonce,
        NonceState::Used { since: Some(since) } if seen.head >= since + SUPERSEDE_AFTER_BLOCKS => {
            return Next::Supersede;
        }
        NonceState::Used { .. } => return Next::Wait,
        // Whoever waits its turn to be made dearer, behind others that do, waits for long: a fee that rose did so for all.
        NonceState::Ahead if seen.ours && seen.priced_out => {
            let waited = seen.head.saturating_sub(seen.last_signed) >= settings.replace_after_blocks;
            return match waited {
                true if seen.cancelling => Next::Cancel,
                true => Next::Replace,
                false => forgotten,
            };
        }
        // A dearer attempt cannot overtake the nonces before it.
        NonceState::Ahead => return forgotten,
        NonceState::Next if !seen.ours => return forgotten,
        NonceState::Next => {}
    }
    let age = seen.head.saturating_sub(seen.turn_since);
    let attempt_age = age.min(seen.head.saturating_sub(seen.last_signed));
    if attempt_age < settings.replace_after_blocks {
        forgotten
    } else if seen.cancelling || age >= settings.cancel_after_blocks {
        Next::Cancel
    } else {
        Next::Replace
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: SettleSettings =
        SettleSettings { finality_depth_blocks: 3, replace_after_blocks: 2, cancel_after_blocks: 6 };

    fn fresh(head: u64) -> Observed {
        Observed {
            head,
            recorded: Recorded::Pending,
            mined: false,
            nonce: NonceState::Next,
            known: true,
            turn_since: 100,
            last_signed: 100,
            cancelling: false,
            ours: true,
            priced_out: false,
        }
    }

    fn next(seen: Observed) -> Next {
        decide(&seen, &SETTINGS)
    }

    #[test]
    fn an_inclusion_is_final_only_at_its_depth_on_a_canonical_block() {
        let included =
            |head, canonical| next(Observed { recorded: Recorded::Included { block: 101, canonical }, ..fresh(head) });
        assert_eq!(included(101, Some(true)), Next::Wait);
        assert_eq!(included(102, Some(true)), Next::Wait);
        assert_eq!(included(103, Some(true)), Next::Finalise);
        for head in [90, 101, 103, 500] {
            assert_eq!(included(head, Some(false)), Next::MarkReorged);
            assert_eq!(included(head, None), Next::Wait, "an unknown block is no fact");
        }
    }

    #[test]
    fn a_receipt_wins_over_everything_a_pending_transaction_looks_like() {
        for nonce in [NonceState::Ahead, NonceState::Next, NonceState::Used { since: Some(0) }] {
            for head in [100, 102, 1_000] {
                for (known, cancelling, ours) in [(true, false, true), (false, true, false)] {
                    let seen = Observed { mined: true, nonce, known, cancelling, ours, ..fresh(head) };
                    assert_eq!(next(seen), Next::RecordInclusion);
                }
            }
        }
    }

    #[test]
    fn a_used_nonce_is_given_up_only_at_a_second_look_two_blocks_later() {
        let used = |head, since| next(Observed { nonce: NonceState::Used { since }, known: false, ..fresh(head) });
        assert_eq!(used(500, None), Next::NoteForeignNonce);
        assert_eq!(used(500, Some(500)), Next::Wait);
        assert_eq!(used(501, Some(500)), Next::Wait);
        assert_eq!(used(502, Some(500)), Next::Supersede);
    }

    #[test]
    fn waiting_turns_into_replacing_and_then_into_cancelling() {
        let at = |head, last_signed| next(Observed { last_signed, ..fresh(head) });
        assert_eq!(at(100, 100), Next::Wait);
        assert_eq!(at(101, 100), Next::Wait);
        assert_eq!(at(102, 100), Next::Replace);
        assert_eq!(at(103, 102), Next::Wait);
        assert_eq!(at(105, 103), Next::Replace);
        assert_eq!(at(106, 105), Next::Wait, "the latest attempt has its time first");
        assert_eq!(at(106, 104), Next::Cancel);
        let cancelling = |head| next(Observed { cancelling: true, last_signed: 106, ..fresh(head) });
        assert_eq!(cancelling(107), Next::Wait);
        assert_eq!(cancelling(108), Next::Cancel, "a cancellation is made dearer, never turned back");
    }

    #[test]
    fn patience_begins_when_its_turn_does() {
        let late = |head| next(Observed { turn_since: 200, ..fresh(head) });
        assert_eq!([late(200), late(201), late(202), late(206)], [Next::Wait, Next::Wait, Next::Replace, Next::Cancel]);
        let forgotten = Observed { turn_since: 200, known: false, ..fresh(200) };
        assert_eq!(next(forgotten), Next::Rebroadcast, "the same bytes go first after a reorganisation");
    }

    #[test]
    fn forgotten_bytes_are_sent_again_and_overtaking_is_never_tried() {
        let forgotten = Observed { known: false, ..fresh(101) };
        assert_eq!(next(forgotten), Next::Rebroadcast);
        assert_eq!(next(Observed { head: 102, ..forgotten }), Next::Replace, "a dearer one rather than the same again");
        for head in [101, 102, 106, 1_000] {
            assert_eq!(next(Observed { nonce: NonceState::Ahead, ..fresh(head) }), Next::Wait);
            assert_eq!(next(Observed { nonce: NonceState::Ahead, head, ..forgotten }), Next::Rebroadcast);
            assert_eq!(next(Observed { ours: false, ..fresh(head) }), Next::Wait);
            assert_eq!(next(Observed { ours: false, head, ..forgotten }), Next::Rebroadcast);
        }
    }

    #[test]
    fn a_fee_that_rose_for_all_is_raised_for_all() {
        let ahead = |head| Observed { nonce: NonceState::Ahead, known: false, priced_out: true, ..fresh(head) };
        assert_eq!(
            [100, 101, 102].map(|head| next(ahead(head))),
            [Next::Rebroadcast, Next::Rebroadcast, Next::Replace]
        );
        assert_eq!(next(Observed { cancelling: true, ..ahead(102) }), Next::Cancel);
        assert_eq!(
            next(Observed { last_signed: 102, ..ahead(103) }),
            Next::Rebroadcast,
            "the latest has its time first"
        );
        assert_eq!(next(Observed { ours: false, ..ahead(102) }), Next::Rebroadcast);
        assert_eq!(next(Observed { priced_out: false, ..ahead(102) }), Next::Rebroadcast);
    }

    #[test]
    fn a_head_behind_the_journal_decides_nothing_rash() {
        assert_eq!(next(fresh(50)), Next::Wait);
        let included = Recorded::Included { block: 101, canonical: Some(true) };
        assert_eq!(next(Observed { recorded: included, ..fresh(50) }), Next::Wait);
    }
}
