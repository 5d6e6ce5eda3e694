//! A chain double: a pool, blocks that can be reorganised, state that is replayed from them, and a fuse.

use std::collections::BTreeMap;

use alloy::{
    consensus::{Transaction, TxEnvelope, transaction::SignerRecoverable},
    eips::eip2718::Decodable2718,
    primitives::keccak256,
};

use super::{
    super::{gate::Journalled, ports::ChainPort},
    Shared,
    venue::VenueState,
};
use crate::{
    chain::{FeeQuote, Receipt, RpcError, SendError, SimulatedCall},
    types::{Address, B256, BlockRef, Bytes, Call, U256},
};

/// Gas of any call.
pub(crate) const CALL_GAS: u64 = 50_000;

/// A signed transaction, decoded.
#[derive(Clone, Debug)]
pub(crate) struct Pooled {
    pub(crate) hash: B256,
    pub(crate) from: Address,
    pub(crate) nonce: u64,
    pub(crate) to: Address,
    pub(crate) data: Bytes,
    pub(crate) max_fee: u128,
    pub(crate) gas_limit: u64,
}

impl Pooled {
    /// EIP-2718 bytes of an EIP-1559 transaction that is no creation.
    pub(crate) fn decode(raw: &[u8]) -> Self {
        let envelope = TxEnvelope::decode_2718_exact(raw).unwrap();
        Self {
            hash: *envelope.tx_hash(),
            from: envelope.recover_signer().unwrap(),
            nonce: envelope.nonce(),
            to: envelope.to().unwrap(),
            data: envelope.input().clone(),
            max_fee: envelope.max_fee_per_gas(),
            gas_limit: envelope.gas_limit(),
        }
    }
}

/// One block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) at: BlockRef,
    pub(super) transactions: Vec<Pooled>,
    pub(super) receipts: Vec<Receipt>,
}

/// The node's whole state.
#[derive(Debug)]
pub(super) struct ChainState {
    pub(super) genesis: VenueState,
    pub(super) venue: VenueState,
    pub(super) blocks: Vec<Block>,
    pub(super) pool: Vec<Pooled>,
    pub(super) base_fee: u128,
    pub(super) balance: U256,
    /// Blocks come, but empty.
    pub(super) mining_held: bool,
    /// Every request fails.
    pub(super) dark: bool,
    /// The next broadcasts take the bytes and then do not answer.
    pub(super) mute_sends: usize,
    /// What builders alone were shown, if there is a relay; `Err`: it takes nothing.
    pub(super) relay: Option<Result<Vec<Pooled>, ()>>,
    /// Whether a builder that is shown it mines it.
    pub(super) builders_mine: bool,
    /// Every broadcast, in order.
    pub(super) sends: Vec<B256>,
    /// Tells blocks of one height apart.
    pub(super) fork: u64,
}

impl ChainState {
    pub(super) fn new(genesis: VenueState) -> Self {
        let at = BlockRef { number: 100, hash: B256::with_last_byte(1), parent_hash: B256::ZERO, timestamp: 1_000 };
        Self {
            venue: genesis.clone(),
            genesis,
            blocks: vec![Block { at, transactions: Vec::new(), receipts: Vec::new() }],
            pool: Vec::new(),
            base_fee: 1_000,
            balance: U256::from(10).pow(U256::from(18)),
            mining_held: false,
            dark: false,
            mute_sends: 0,
            relay: None,
            builders_mine: false,
            sends: Vec::new(),
            fork: 0,
        }
    }

    pub(super) fn head(&self) -> BlockRef {
        self.blocks.last().unwrap().at
    }

    pub(super) fn nonce(&self, address: Address) -> u64 {
        let mined = self.blocks.iter().flat_map(|block| &block.transactions);
        mined.filter(|transaction| transaction.from == address).count() as u64
    }

    /// Mines one block out of the pool, nonces in order, dropping what no longer pays the base fee.
    pub(super) fn mine(&mut self) {
        let parent = self.head();
        let number = parent.number + 1;
        let hash = keccak256([number.to_be_bytes(), self.fork.to_be_bytes()].concat());
        let at = BlockRef { number, hash, parent_hash: parent.hash, timestamp: parent.timestamp + 1 };
        let mut block = Block { at, transactions: Vec::new(), receipts: Vec::new() };
        let base_fee = self.base_fee;
        if let (true, Some(Ok(shown))) = (self.builders_mine, &mut self.relay) {
            self.pool.append(shown);
        }
        self.pool.retain(|transaction| transaction.max_fee >= base_fee);
        if !self.mining_held {
            self.pool.sort_by_key(|transaction| transaction.nonce);
            let mut left = Vec::new();
            for transaction in std::mem::take(&mut self.pool) {
                let included =
                    block.transactions.iter().filter(|t: &&Pooled| t.from == transaction.from).count() as u64;
                if transaction.nonce == self.nonce(transaction.from) + included {
                    block.receipts.push(self.run(&transaction, &at));
                    block.transactions.push(transaction);
                } else if transaction.nonce > self.nonce(transaction.from) + included {
                    left.push(transaction);
                }
            }
            self.pool = left;
        }
        self.blocks.push(block);
    }

    /// Drops the newest blocks with all that was in them and mines as many empty ones instead.
    pub(super) fn reorganise(&mut self, depth: usize) {
        self.blocks.truncate(self.blocks.len() - depth);
        self.fork += 1;
        self.venue = self.genesis.clone();
        let past: Vec<Block> = self.blocks.drain(..).collect();
        for block in past {
            block.transactions.iter().for_each(|transaction| {
                self.run(transaction, &block.at);
            });
            self.blocks.push(block);
        }
        let pool = std::mem::take(&mut self.pool);
        (0..depth).for_each(|_| self.mine());
        self.pool = pool;
    }

    /// Puts a transaction of the keeper's key into the pool that backstop knows nothing of.
    pub(super) fn foreign(&mut self, from: Address) {
        let nonce = self.nonce(from);
        self.pool.retain(|transaction| transaction.nonce != nonce);
        let hash = keccak256(nonce.to_be_bytes());
        let to = Address::with_last_byte(9);
        self.pool.push(Pooled { hash, from, nonce, to, data: Bytes::new(), max_fee: u128::MAX, gas_limit: 21_000 });
    }

    fn run(&mut self, transaction: &Pooled, at: &BlockRef) -> Receipt {
        assert!(transaction.gas_limit >= if transaction.data.is_empty() { 21_000 } else { CALL_GAS });
        let ran = self.venue.run(transaction.to, &transaction.data);
        Receipt {
            tx_hash: transaction.hash,
            block: (at.number, at.hash),
            success: ran.success,
            gas_used: CALL_GAS,
            effective_gas_price: self.base_fee,
            logs: ran.logs,
        }
    }

    fn accept(&mut self, raw: &[u8]) -> Result<B256, SendError> {
        let transaction = Pooled::decode(raw);
        let hash = transaction.hash;
        if self.known(hash) {
            return Err(SendError::AlreadyKnown);
        }
        if transaction.nonce < self.nonce(transaction.from) {
            return Err(SendError::NonceTooLow);
        }
        if transaction.max_fee < self.base_fee {
            return Err(SendError::Underpriced("less than block base fee".to_owned()));
        }
        let cost = U256::from(transaction.gas_limit) * U256::from(transaction.max_fee);
        if cost > self.balance {
            return Err(SendError::InsufficientFunds("for gas".to_owned()));
        }
        let rival = self.pool.iter().position(|t| t.from == transaction.from && t.nonce == transaction.nonce);
        if let Some(rival) = rival {
            if transaction.max_fee * 10 < self.pool[rival].max_fee * 11 {
                return Err(SendError::Underpriced("replacement transaction underpriced".to_owned()));
            }
            self.pool.remove(rival);
        }
        self.pool.push(transaction);
        Ok(hash)
    }

    fn known(&self, hash: B256) -> bool {
        self.pool.iter().any(|transaction| transaction.hash == hash) || self.receipt(hash).is_some()
    }

    fn receipt(&self, hash: B256) -> Option<Receipt> {
        self.blocks.iter().flat_map(|block| &block.receipts).find(|receipt| receipt.tx_hash == hash).cloned()
    }

    /// Receipts of the canonical chain, by success.
    pub(super) fn outcomes(&self) -> BTreeMap<bool, usize> {
        let mut outcomes = BTreeMap::new();
        for receipt in self.blocks.iter().flat_map(|block| &block.receipts) {
            *outcomes.entry(receipt.success).or_default() += 1;
        }
        outcomes
    }
}

/// The port on the node.
#[derive(Clone)]
pub(super) struct FakeChain(pub(super) Shared);

fn timeout() -> RpcError {
    RpcError::Timeout { method: "any" }
}

impl FakeChain {
    fn ask<T>(&self, answer: impl FnOnce(&mut ChainState) -> T) -> Result<T, RpcError> {
        let mut world = self.0.lock().unwrap();
        if world.fuse.dead || world.chain.dark {
            return Err(timeout());
        }
        Ok(answer(&mut world.chain))
    }
}

impl ChainPort for FakeChain {
    async fn fees(&self) -> Result<FeeQuote, RpcError> {
        self.ask(|chain| FeeQuote { base_fee_wei: chain.base_fee, priority_fee_wei: 10 })
    }

    async fn nonce(&self, address: Address) -> Result<u64, RpcError> {
        self.ask(|chain| chain.nonce(address))
    }

    async fn balance(&self, _: Address) -> Result<U256, RpcError> {
        self.ask(|chain| chain.balance)
    }

    async fn simulate(&self, _: Address, calls: &[Call], at: &BlockRef) -> Result<Vec<SimulatedCall>, RpcError> {
        self.ask(|chain| {
            assert_eq!(chain.head(), *at, "simulated on another block than the head");
            let mut venue = chain.venue.clone();
            let simulated = calls.iter().map(|call| {
                let ran = venue.run(call.to, &call.data);
                SimulatedCall {
                    success: ran.success,
                    failure: (!ran.success).then(|| "execution reverted".to_owned()),
                    output: ran.output,
                    gas_used: CALL_GAS,
                    logs: ran.logs,
                }
            });
            simulated.collect()
        })
    }

    async fn send_raw(&self, transaction: &Journalled, _: &(dyn Fn() -> bool + Sync)) -> Result<B256, SendError> {
        let mut world = self.0.lock().unwrap();
        if world.chain.dark || !world.fuse.before() {
            return Err(SendError::Unknown(timeout()));
        }
        let durable = world.journal.holds(transaction.raw());
        assert!(durable, "bytes left that are not in the journal");
        world.chain.sends.push(transaction.hash());
        let answer = world.chain.accept(transaction.raw());
        if world.chain.mute_sends > 0 {
            world.chain.mute_sends -= 1;
            return Err(SendError::Unknown(timeout()));
        }
        if world.fuse.after() { answer } else { Err(SendError::Unknown(timeout())) }
    }

    async fn send_private(&self, transaction: &Journalled) -> Option<Result<B256, SendError>> {
        let mut world = self.0.lock().unwrap();
        let durable = world.journal.holds(transaction.raw());
        let shown = world.chain.relay.as_mut()?;
        assert!(durable, "bytes left that are not in the journal");
        let Ok(shown) = shown else { return Some(Err(SendError::Unknown(timeout()))) };
        if shown.iter().any(|known| known.hash == transaction.hash()) {
            return Some(Err(SendError::AlreadyKnown));
        }
        shown.push(Pooled::decode(transaction.raw()));
        Some(Ok(transaction.hash()))
    }

    async fn receipt(&self, hash: B256) -> Result<Option<Receipt>, RpcError> {
        self.ask(|chain| chain.receipt(hash))
    }

    async fn transaction_known(&self, hash: B256) -> Result<bool, RpcError> {
        self.ask(|chain| chain.known(hash))
    }

    async fn block_by_number(&self, number: u64) -> Result<Option<BlockRef>, RpcError> {
        self.ask(|chain| chain.blocks.iter().map(|block| block.at).find(|at| at.number == number))
    }
}
