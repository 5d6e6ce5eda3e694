//! Following what was signed to its end: receipts, depth, reorganisations, replacement, cancellation.
//!
//! Each transaction is looked at on its own and the look ends in one of [`decide`]'s words. A look that fails leaves its
//! transaction as it is until the next head and does not keep the others from being looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Executor, ExecutorError,
    decide::{Next, NonceState, Observed, Recorded, decide},
    fees::{self, CapReached, Fees},
    gate::{GateError, Journalled, Request},
    metrics::Outcome,
    ports::{ChainPort, JournalPort},
};
use crate::{
    alerts::AlertKind,
    chain::Receipt,
    journal::{
        ActionId, AttemptId, AttemptKind, BroadcastOutcome, EpisodeId, IncludedReceipt, StoredAttempt, TransactionId,
        UnsettledTransaction,
    },
    recovery::Effect,
    types::{Address, BlockRef, Bytes, Call, U256},
};

/// Looks per transaction and pass: an inclusion that moved to another block takes three.
const LOOKS_MAX: usize = 4;

/// Something that happened to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its row.
    pub transaction: TransactionId,
    /// The episode it was planned in.
    pub episode: EpisodeId,
    /// What it carries.
    pub actions: Vec<ActionId>,
    /// What happened.
    pub outcome: SettledOutcome,
}

/// What happened to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettledOutcome {
    /// Mined with success.
    Included {
        /// Where.
        block: BlockRef,
        /// What it did.
        effects: Vec<Effect>,
    },
    /// Mined without success.
    Reverted {
        /// Where.
        block: BlockRef,
    },
    /// Its cancellation was mined instead.
    Cancelled {
        /// Where.
        block: BlockRef,
    },
    /// Its inclusion was taken back.
    Reorged,
    /// Its inclusion is final.
    Final,
    /// Its nonce went to a foreign transaction.
    Superseded,
    /// A dearer attempt was sent.
    Replaced,
    /// A cancellation was sent.
    Cancelling,
}

/// One look at one transaction.
struct Look {
    observed: Observed,
    mined: Option<(AttemptId, Receipt, BlockRef)>,
}

/// What a pass found that concerns the whole lane.
#[derive(Default)]
struct LaneReport {
    capped: Option<CapReached>,
    stuck: Option<String>,
    /// Whether a transaction could not be looked at.
    blind: bool,
    /// The base fee that the next block wants, where several wait and the node said.
    base_fee_wei: Option<u128>,
}

/// Nonces that the journal holds as used for good and the chain does not: what is signed above them waits for ever.
fn gap(open: &[UnsettledTransaction], lanes: &BTreeMap<Address, u64>) -> Option<String> {
    lanes.iter().find_map(|(signer, lane)| {
        let first = open.iter().filter(|transaction| transaction.signer == *signer).map(|one| one.nonce).min()?;
        (*lane < first).then(|| {
            format!(
                "the chain waits for nonce {lane} of {signer}, and all below {first} are final in the journal: a \
                 reorganisation went deeper than finality_depth_blocks"
            )
        })
    })
}

impl<C: ChainPort, J: JournalPort> Executor<C, J> {
    /// Takes up what an earlier process left: gives up what was planned and never signed, then settles. Signed bytes
    /// that never left are sent, unchanged. To be called once, before anything else.
    pub async fn recover(&mut self, head: &BlockRef) -> Result<Vec<Settled>, ExecutorError> {
        self.unswept = true;
        self.settle(head).await
    }

    /// Looks at everything that is signed and not final. To be called on every head, before planning. A transaction that
    /// could not be looked at stays as it is, and reserved; on an error what was settled before it stands in the journal.
    pub async fn settle(&mut self, head: &BlockRef) -> Result<Vec<Settled>, ExecutorError> {
        if self.unswept {
            self.sweep(head).await?;
        }
        let mut open = Vec::new();
        // Nobody else writes for the deployment: what is known to be nothing is not asked for.
        if !self.is_idle() {
            open = self.parts.journal.unsettled_transactions(self.deployment.id).await?;
            self.remember(&open);
        }
        if open.is_empty() {
            self.resolve(AlertKind::FeeCapReached, "");
            self.resolve(AlertKind::TransactionStuck, "");
            return Ok(Vec::new());
        }
        let lanes = self.lanes(&open).await?;
        let (mut settled, mut report) = (Vec::new(), LaneReport::default());
        if open
            .iter()
            .any(|transaction| transaction.included.is_none() && transaction.nonce > lanes[&transaction.signer])
        {
            report.base_fee_wei = self.parts.chain.fees().await.ok().map(|quote| quote.base_fee_wei);
        }
        for index in 0..open.len() {
            let lane = lanes[&open[index].signer];
            match self.settle_one(head, &mut open, index, lane, &mut settled, &mut report).await {
                Ok(()) => {}
                Err(error @ ExecutorError::Journal(_)) => return Err(error),
                Err(error) => {
                    let transaction = open[index].id;
                    tracing::warn!(deployment = %self.deployment.name, %transaction, %error, "transaction could not be looked at");
                    report.blind = true;
                }
            }
        }
        let open = self.parts.journal.unsettled_transactions(self.deployment.id).await?;
        self.remember(&open);
        report.stuck = gap(&open, &lanes).or(report.stuck);
        self.tell(report);
        Ok(settled)
    }

    /// The next nonce of every signer that something is open of.
    async fn lanes(&self, open: &[UnsettledTransaction]) -> Result<BTreeMap<Address, u64>, ExecutorError> {
        let signers: BTreeSet<Address> = open.iter().map(|transaction| transaction.signer).collect();
        let mut lanes = BTreeMap::new();
        for signer in signers {
            lanes.insert(signer, self.parts.chain.nonce(signer).await?);
        }
        Ok(lanes)
    }

    /// Raises or resolves what concerns the lane. What could not be looked at resolves nothing.
    fn tell(&self, report: LaneReport) {
        match report.capped {
            Some(capped) => self.raise(AlertKind::FeeCapReached, "", capped),
            None if !report.blind => self.resolve(AlertKind::FeeCapReached, ""),
            None => {}
        }
        match report.stuck {
            Some(stuck) => self.raise(AlertKind::TransactionStuck, "", stuck),
            None if !report.blind => self.resolve(AlertKind::TransactionStuck, ""),
            None => {}
        }
    }

    async fn settle_one(
        &mut self,
        head: &BlockRef,
        open: &mut [UnsettledTransaction],
        index: usize,
        lane: u64,
        settled: &mut Vec<Settled>,
        report: &mut LaneReport,
    ) -> Result<(), ExecutorError> {
        for _ in 0..LOOKS_MAX {
            let transaction = &open[index];
            if transaction.included.is_none() && transaction.nonce == lane {
                self.turn_since.entry(transaction.id).or_insert(head.number);
            } else {
                self.turn_since.remove(&transaction.id);
            }
            let look = self.look(head, transaction, lane, report.base_fee_wei).await?;
            let next = decide(&look.observed, &self.settings.settle);
            if next != Next::NoteForeignNonce && !matches!(look.observed.nonce, NonceState::Used { .. }) {
                self.foreign_since.remove(&transaction.id);
            }
            let old = head.number.saturating_sub(look.observed.turn_since) > self.settings.settle.cancel_after_blocks;
            if old && look.observed.recorded == Recorded::Pending && !look.observed.mined {
                report.stuck = Some(format!("nonce {} of {} is not mined", transaction.nonce, transaction.signer));
            }
            let outcome = match next {
                Next::RecordInclusion => {
                    let Some(mined) = look.mined else { return Ok(()) };
                    let outcome = self.record_inclusion(&mut open[index], mined).await?;
                    settled.push(event(&open[index], outcome));
                    continue;
                }
                Next::MarkReorged => {
                    self.parts.journal.mark_reorged(transaction.id).await?;
                    self.parts.metrics.count(Outcome::Reorged);
                    open[index].included = None;
                    settled.push(event(&open[index], SettledOutcome::Reorged));
                    continue;
                }
                Next::Wait => {
                    self.note_known(head, transaction, &look.observed).await?;
                    None
                }
                Next::Finalise => Some(self.finalise(transaction).await?),
                Next::NoteForeignNonce => {
                    self.note_foreign_nonce(head, transaction);
                    None
                }
                Next::Supersede => Some(self.supersede(transaction).await?),
                Next::Rebroadcast => {
                    self.rebroadcast(head, transaction).await?;
                    None
                }
                Next::Replace if self.still_good(head, open, index).await => {
                    self.replace(head, &open[index], AttemptKind::Replace, &look.observed, report).await?
                }
                Next::Replace | Next::Cancel => {
                    self.replace(head, &open[index], AttemptKind::Cancel, &look.observed, report).await?
                }
            };
            settled.extend(outcome.map(|outcome| event(&open[index], outcome)));
            return Ok(());
        }
        Ok(())
    }

    /// Sees one transaction as it stands. The nonce was read before the receipts are, so that one mined in between
    /// shows as mined and not as lost.
    async fn look(
        &self,
        head: &BlockRef,
        transaction: &UnsettledTransaction,
        lane: u64,
        base_fee_wei: Option<u128>,
    ) -> Result<Look, ExecutorError> {
        let chain = &self.parts.chain;
        let latest = latest(transaction)?;
        let nonce = match lane.cmp(&transaction.nonce) {
            std::cmp::Ordering::Less => NonceState::Ahead,
            std::cmp::Ordering::Equal => NonceState::Next,
            std::cmp::Ordering::Greater => NonceState::Used { since: self.foreign_since.get(&transaction.id).copied() },
        };
        let mut observed = Observed {
            head: head.number,
            recorded: Recorded::Pending,
            mined: false,
            nonce,
            known: true,
            turn_since: self.turn_since.get(&transaction.id).copied().unwrap_or(head.number),
            last_signed: latest.signed_block,
            cancelling: transaction.attempts.iter().any(|attempt| attempt.kind == Some(AttemptKind::Cancel)),
            ours: transaction.signer == self.parts.gate.address(),
            priced_out: base_fee_wei.is_some_and(|base_fee_wei| latest.max_fee_per_gas < base_fee_wei),
        };
        if let Some((_, block)) = &transaction.included {
            let canonical = chain.block_by_number(block.number).await?.map(|found| found.hash == block.hash);
            observed.recorded = Recorded::Included { block: block.number, canonical };
            return Ok(Look { observed, mined: None });
        }
        for attempt in transaction.attempts.iter().rev() {
            let Some(receipt) = chain.receipt(attempt.hash).await? else { continue };
            // A receipt without its block on the canonical chain is a node in the middle of a reorganisation.
            match chain.block_by_number(receipt.block.0).await? {
                Some(block) if block.hash == receipt.block.1 => {
                    observed.mined = true;
                    return Ok(Look { observed, mined: Some((attempt.id, receipt, block)) });
                }
                _ => continue,
            }
        }
        if !matches!(nonce, NonceState::Used { .. }) {
            observed.known = chain.transaction_known(latest.hash).await?;
        }
        Ok(Look { observed, mined: None })
    }

    async fn record_inclusion(
        &self,
        transaction: &mut UnsettledTransaction,
        (attempt, receipt, block): (AttemptId, Receipt, BlockRef),
    ) -> Result<SettledOutcome, ExecutorError> {
        let cancelled = transaction.attempts.iter().any(|a| a.id == attempt && a.kind == Some(AttemptKind::Cancel));
        let effects = if receipt.success { self.parts.adapter.effects(&self.book, &receipt.logs) } else { Vec::new() };
        let revert_reason = (!receipt.success).then(|| "mined without success".to_owned());
        let included = IncludedReceipt {
            block,
            success: receipt.success,
            gas_used: receipt.gas_used,
            effective_gas_price: receipt.effective_gas_price,
            effects: effects.clone(),
            revert_reason,
        };
        // Told first: once it is in the journal nobody looks at it again, and a crash between the two would keep it silent.
        if !receipt.success && !cancelled {
            let detail = format!("transaction {} in block {} was mined without success", receipt.tx_hash, block.number);
            self.raise(AlertKind::ActionReverted, "", detail);
        }
        self.parts.journal.mark_included(transaction.id, attempt, &included).await?;
        transaction.included = Some((attempt, block));
        let waited = block.number.saturating_sub(transaction.planned_block);
        self.parts.metrics.mined(waited, receipt.gas_used, receipt.effective_gas_price);
        if cancelled {
            return Ok(SettledOutcome::Cancelled { block });
        }
        if receipt.success {
            self.parts.metrics.count(Outcome::Included);
            self.resolve(AlertKind::ActionReverted, "");
            return Ok(SettledOutcome::Included { block, effects });
        }
        self.parts.metrics.count(Outcome::Reverted);
        Ok(SettledOutcome::Reverted { block })
    }

    async fn finalise(&self, transaction: &UnsettledTransaction) -> Result<SettledOutcome, ExecutorError> {
        self.parts.journal.mark_final(transaction.id).await?;
        self.parts.metrics.count(Outcome::Final);
        Ok(SettledOutcome::Final)
    }

    fn note_foreign_nonce(&mut self, head: &BlockRef, transaction: &UnsettledTransaction) {
        tracing::warn!(
            deployment = %self.deployment.name, transaction = %transaction.id, nonce = transaction.nonce,
            "nonce is used and none of our attempts has a receipt"
        );
        self.foreign_since.insert(transaction.id, head.number);
    }

    async fn supersede(&mut self, transaction: &UnsettledTransaction) -> Result<SettledOutcome, ExecutorError> {
        let why = format!("nonce {} was used by a transaction that is not ours", transaction.nonce);
        // Told first, for the same reason as a revert.
        self.raise(AlertKind::ForeignNonce, "", &why);
        self.parts.journal.mark_superseded(transaction.id, &why).await?;
        self.foreign_since.remove(&transaction.id);
        self.parts.metrics.count(Outcome::Superseded);
        Ok(SettledOutcome::Superseded)
    }

    /// A crash between sending and writing down the answer leaves an attempt unanswered that the node has.
    async fn note_known(
        &self,
        head: &BlockRef,
        transaction: &UnsettledTransaction,
        observed: &Observed,
    ) -> Result<(), ExecutorError> {
        let latest = latest(transaction)?;
        if observed.recorded == Recorded::Pending && observed.known && latest.broadcast.is_none() {
            self.parts.journal.mark_broadcasts(&[(latest.id, BroadcastOutcome::Known)], head.number).await?;
        }
        Ok(())
    }

    async fn rebroadcast(&self, head: &BlockRef, transaction: &UnsettledTransaction) -> Result<(), ExecutorError> {
        let journalled = Journalled::stored(transaction.id, latest(transaction)?);
        tracing::info!(
            deployment = %self.deployment.name, transaction = %transaction.id, tx_hash = %journalled.hash(),
            "sending the same bytes again"
        );
        // A gate that is shut has said so itself.
        let _lane = self.broadcast(head, &journalled, self.audience(head, transaction.planned_block)).await?;
        Ok(())
    }

    /// Whether the call would still succeed after everything in flight before it. Only a clear refusal counts: a
    /// simulation that could not be had is no reason to take an action back.
    async fn still_good(&self, head: &BlockRef, open: &[UnsettledTransaction], index: usize) -> bool {
        let own = &open[index];
        let before = open[..index].iter().filter(|t| t.signer == own.signer && t.included.is_none());
        let calls: Vec<Call> =
            before.chain([own]).map(|t| Call { to: t.to, data: t.data.clone(), value: t.value }).collect();
        match self.parts.chain.simulate(own.signer, &calls, head).await {
            Ok(results) => results.last().is_none_or(|last| {
                if !last.success {
                    let reason = self.parts.adapter.classify(&last.output).reason;
                    tracing::info!(deployment = %self.deployment.name, transaction = %own.id, reason, "no longer good");
                }
                last.success
            }),
            Err(error) => {
                tracing::warn!(deployment = %self.deployment.name, transaction = %own.id, %error, "could not simulate");
                true
            }
        }
    }

    /// Signs a dearer attempt for the same nonce, writes it down, sends it. Where the cap or the gate forbids that, the
    /// bytes there are stay as they are.
    async fn replace(
        &mut self,
        head: &BlockRef,
        transaction: &UnsettledTransaction,
        kind: AttemptKind,
        observed: &Observed,
        report: &mut LaneReport,
    ) -> Result<Option<SettledOutcome>, ExecutorError> {
        let latest = latest(transaction)?;
        let previous =
            Fees { max_fee_per_gas: latest.max_fee_per_gas, max_priority_fee_per_gas: latest.max_priority_fee_per_gas };
        let quote = self.parts.chain.fees().await?;
        let fees = match fees::replacement(&previous, &quote, self.settings.fees.fee_cap_wei) {
            Ok(fees) => fees,
            Err(capped) => {
                report.capped = Some(capped);
                if !observed.known {
                    self.rebroadcast(head, transaction).await?;
                }
                return Ok(None);
            }
        };
        let (call, gas_limit) = match kind {
            AttemptKind::Replace => (
                Call { to: transaction.to, data: transaction.data.clone(), value: transaction.value },
                latest.gas_limit,
            ),
            AttemptKind::Cancel => {
                (Call { to: transaction.signer, data: Bytes::new(), value: U256::ZERO }, fees::TRANSFER_GAS)
            }
        };
        let committed_wei = self.committed_wei(Some(transaction.id)).await?;
        let nonce = transaction.nonce;
        let request = Request { nonce, call, gas_limit, fees, block: head.number, again: Some(kind) };
        let signed = match self.parts.gate.sign(request, committed_wei).await {
            Ok(signed) => signed,
            Err(GateError::Refused(refusal)) => {
                self.note_refusal(&refusal);
                return Ok(None);
            }
            Err(GateError::Signer(error)) => return Err(error.into()),
        };
        let journalled = signed.journal_attempt(&self.parts.journal, transaction.id, kind).await?;
        tracing::info!(
            deployment = %self.deployment.name, transaction = %transaction.id, tx_hash = %journalled.hash(), ?kind,
            max_fee_per_gas = fees.max_fee_per_gas, "replacing"
        );
        self.parts.metrics.count(Outcome::Replaced);
        let _lane = self.broadcast(head, &journalled, self.audience(head, transaction.planned_block)).await?;
        Ok(Some(match kind {
            AttemptKind::Replace => SettledOutcome::Replaced,
            AttemptKind::Cancel => SettledOutcome::Cancelling,
        }))
    }

    /// Tells when the keeper runs out of gas money. A balance that could not be read is no news.
    /// Looks whether the keeper can still pay for gas.
    pub(super) async fn watch_balance(&self) {
        let keeper = self.parts.gate.address();
        match self.parts.chain.balance(keeper).await {
            Ok(balance) => {
                self.parts.metrics.keeper_balance(balance);
                if balance < self.settings.balance_min_wei {
                    let minimum = self.settings.balance_min_wei;
                    self.raise(AlertKind::BalanceLow, "", format!("{keeper} has {balance} wei, minimum {minimum}"));
                } else {
                    self.resolve(AlertKind::BalanceLow, "");
                }
            }
            Err(error) => tracing::debug!(deployment = %self.deployment.name, %error, "balance could not be read"),
        }
    }
}

fn latest(transaction: &UnsettledTransaction) -> Result<&StoredAttempt, ExecutorError> {
    let missing = || ExecutorError::Answer(format!("no attempt for transaction {}", transaction.id));
    transaction.attempts.last().ok_or_else(missing)
}

fn event(transaction: &UnsettledTransaction, outcome: SettledOutcome) -> Settled {
    Settled { transaction: transaction.id, episode: transaction.episode, actions: transaction.actions.clone(), outcome }
}
