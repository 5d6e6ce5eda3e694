//! The simulated chain: blocks with the state after each, a pool, an outsider with the keeper's key, reorganisations.
//!
//! What happened to the protocol in a block that is gone happens again in the next one, in the same order; what becomes of
//! the keeper's transactions is the script's choice.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use alloy::primitives::{Bloom, BloomInput, keccak256};
use tokio::time::{Duration, Instant};

use super::tally::{Deed, Said, Tally, VENUE};
use crate::{
    executor::tests::chain::{CALL_GAS, Pooled},
    types::{Address, B256, BlockRef, Bytes, Log, U256},
};

/// Gas of a transfer.
const TRANSFER_GAS: u64 = 21_000;

/// A mined transaction of the keeper's key, or a deed of somebody else.
#[derive(Clone, Debug)]
pub(super) struct Mined {
    pub(super) hash: B256,
    /// `None`: somebody else's.
    pub(super) signed: Option<Pooled>,
    pub(super) success: bool,
    pub(super) gas_used: u64,
    pub(super) price: u128,
    pub(super) logs: Vec<Log>,
}

#[derive(Debug)]
pub(super) struct Block {
    pub(super) at: BlockRef,
    pub(super) mined: Vec<Mined>,
    deeds: Vec<Deed>,
    /// After the block.
    pub(super) tally: Tally,
    /// The keeper's next nonce and balance after the block.
    pub(super) nonce: u64,
    pub(super) balance: U256,
    pub(super) bloom: Bloom,
    pub(super) base_fee: u128,
}

/// A branch, from the first block to its tip.
pub(super) type Branch = imbl::Vector<Arc<Block>>;

/// Why the node does not take a transaction, in the words of nodes.
pub(super) type Refusal = (i64, &'static str);

pub(super) struct Chain {
    pub(super) keeper: Address,
    /// What was canonical since when; the last entry is now.
    pub(super) tips: VecDeque<(Instant, Branch)>,
    pub(super) known: BTreeMap<B256, (Instant, Arc<Block>)>,
    pub(super) pool: Vec<Pooled>,
    pub(super) base_fee: u128,
    /// Deeds for the next block.
    due: VecDeque<Deed>,
    /// Until this height the keeper's transactions are left out.
    pub(super) censored_until: u64,
    /// Hashes of transactions that an outsider sent with the keeper's key.
    pub(super) foreign: BTreeSet<B256>,
    /// Units that a rival seized.
    pub(super) rivalled: BTreeSet<u8>,
    forks: u64,
}

impl Chain {
    pub(super) fn new(keeper: Address, balance: U256) -> Self {
        let at = BlockRef { number: 1, hash: B256::with_last_byte(1), parent_hash: B256::ZERO, timestamp: 1_000 };
        let genesis = Arc::new(Block {
            at,
            mined: vec![],
            deeds: vec![],
            tally: Tally::default(),
            nonce: 0,
            balance,
            bloom: Bloom::ZERO,
            base_fee: 1_000,
        });
        let now = Instant::now();
        Self {
            keeper,
            tips: VecDeque::from([(now, Branch::from(vec![Arc::clone(&genesis)]))]),
            known: BTreeMap::from([(at.hash, (now, genesis))]),
            pool: vec![],
            base_fee: 1_000,
            due: VecDeque::new(),
            censored_until: 0,
            foreign: BTreeSet::new(),
            rivalled: BTreeSet::new(),
            forks: 0,
        }
    }

    pub(super) fn branch(&self) -> &Branch {
        &self.tips.back().unwrap().1
    }

    pub(super) fn tip(&self) -> &Arc<Block> {
        self.branch().last().unwrap()
    }

    /// What a node shows that hears of everything this much later.
    pub(super) fn branch_as_of(&self, delay: Duration) -> &Branch {
        let now = Instant::now();
        let heard = self.tips.iter().rev().find(|(since, _)| *since + delay <= now);
        &heard.unwrap_or(self.tips.front().unwrap()).1
    }

    /// A block that such a node has, canonical or not.
    pub(super) fn block(&self, hash: B256, delay: Duration) -> Option<&Arc<Block>> {
        self.known.get(&hash).filter(|(since, _)| *since + delay <= Instant::now()).map(|(_, block)| block)
    }

    /// Something that happens to the protocol in the next block.
    pub(super) fn do_next(&mut self, deed: Deed) {
        self.due.push_back(deed);
    }

    /// Drops what no longer pays the base fee, as pools do.
    pub(super) fn drop_underpriced(&mut self) {
        let base_fee = self.base_fee;
        self.pool.retain(|signed| signed.max_fee >= base_fee);
    }

    /// The next block on top of the tip.
    pub(super) fn mine(&mut self) {
        let branch = self.branch().clone();
        let branch = self.mined_on(branch);
        self.tips.push_back((Instant::now(), branch));
        if self.tips.len() > 128 {
            self.tips.pop_front();
        }
    }

    /// The pool forgets what it was given. An outsider gives it again.
    pub(super) fn forget(&mut self) {
        let foreign = &self.foreign;
        self.pool.retain(|signed| foreign.contains(&signed.hash));
    }

    /// Replaces the newest blocks by as many and one more. The keeper's transactions in them go back to the pool, or are
    /// forgotten.
    pub(super) fn reorganise(&mut self, depth: usize, forgotten: bool) {
        let mut branch = self.branch().clone();
        let depth = depth.min(branch.len() - 2);
        let gone = branch.split_off(branch.len() - depth);
        self.forks += 1;
        self.due = gone.iter().flat_map(|block| block.deeds.clone()).chain(self.due.drain(..)).collect();
        let back = gone.iter().flat_map(|block| &block.mined).filter_map(|mined| mined.signed.clone());
        self.pool.splice(..0, back);
        if forgotten {
            self.forget();
        }
        let censored_until = self.censored_until;
        let floor = branch.last().unwrap().at.number;
        // The pool may get its chance only in the newest of them.
        self.censored_until = floor + depth as u64;
        for _ in 0..=depth {
            branch = self.mined_on(branch);
        }
        self.censored_until = censored_until;
        self.tips.push_back((Instant::now(), branch));
    }

    fn mined_on(&mut self, mut branch: Branch) -> Branch {
        let parent = Arc::clone(branch.last().unwrap());
        let number = parent.at.number + 1;
        let hash = keccak256([number.to_be_bytes(), self.forks.to_be_bytes()].concat());
        let timestamp = parent.at.timestamp + 1;
        let mut block = Block {
            at: BlockRef { number, hash, parent_hash: parent.at.hash, timestamp },
            mined: vec![],
            deeds: self.due.drain(..).collect(),
            tally: parent.tally.clone(),
            nonce: parent.nonce,
            balance: parent.balance,
            bloom: Bloom::ZERO,
            base_fee: self.base_fee,
        };
        for (index, deed) in block.deeds.clone().iter().enumerate() {
            let said = block.tally.happen(deed);
            if let (Deed::Rival { unit }, false) = (deed, said.is_empty()) {
                self.rivalled.insert(*unit);
            }
            if let Deed::Gift { wei } = deed {
                block.balance += U256::from(*wei);
            }
            let hash = keccak256([hash.as_slice(), &index.to_be_bytes()].concat());
            block.take(hash, None, Ok(said), TRANSFER_GAS);
        }
        if number > self.censored_until {
            self.pool.sort_by_key(|signed| signed.nonce);
            for signed in &self.pool {
                if signed.nonce == block.nonce && signed.max_fee >= block.base_fee {
                    block.run(signed.clone());
                }
            }
        }
        self.pool.retain(|signed| signed.nonce >= block.nonce);
        let block = Arc::new(block);
        self.known.insert(hash, (Instant::now(), Arc::clone(&block)));
        branch.push_back(block);
        branch
    }

    /// Takes signed bytes into the pool, as a node does that has the keeper's state of `branch`.
    pub(super) fn accept(&mut self, raw: &[u8], branch: &Branch) -> Result<B256, Refusal> {
        let signed = Pooled::decode(raw);
        assert_eq!(signed.from, self.keeper);
        let tip = branch.last().unwrap();
        if self.pool.iter().any(|one| one.hash == signed.hash) || mined_in(branch, signed.hash).is_some() {
            return Err((-32000, "already known"));
        }
        if signed.nonce < tip.nonce {
            return Err((-32000, "nonce too low"));
        }
        if signed.max_fee < self.base_fee {
            return Err((-32000, "max fee per gas less than block base fee"));
        }
        if U256::from(signed.gas_limit) * U256::from(signed.max_fee) > tip.balance {
            return Err((-32000, "insufficient funds for gas * price + value"));
        }
        let hash = signed.hash;
        match self.pool.iter_mut().find(|one| one.nonce == signed.nonce) {
            Some(rival) if signed.max_fee * 10 < rival.max_fee * 11 => {
                return Err((-32000, "replacement transaction underpriced"));
            }
            Some(rival) => *rival = signed,
            None => self.pool.push(signed),
        }
        Ok(hash)
    }

    /// Somebody else uses the keeper's key: a transfer at its next nonce, in the next block.
    pub(super) fn intrude(&mut self) {
        let nonce = self.tip().nonce;
        let hash = keccak256([b"outsider".as_slice(), &nonce.to_be_bytes(), &self.forks.to_be_bytes()].concat());
        self.foreign.insert(hash);
        self.pool.retain(|signed| signed.nonce != nonce);
        self.pool.push(Pooled {
            hash,
            from: self.keeper,
            nonce,
            to: Address::with_last_byte(9),
            data: Bytes::new(),
            max_fee: u128::MAX >> 64,
            gas_limit: TRANSFER_GAS,
        });
    }
}

/// A branch's transaction with its block.
pub(super) fn mined_in(branch: &Branch, hash: B256) -> Option<(&Arc<Block>, &Mined)> {
    branch
        .iter()
        .rev()
        .find_map(|block| block.mined.iter().find(|mined| mined.hash == hash).map(|mined| (block, mined)))
}

impl Block {
    fn run(&mut self, signed: Pooled) {
        let gas = if signed.data.is_empty() { TRANSFER_GAS } else { CALL_GAS };
        assert!(signed.gas_limit >= gas, "a gas limit below what the call takes");
        self.nonce += 1;
        self.balance -= U256::from(gas) * U256::from(self.base_fee);
        let ran = self.tally.call(signed.to, &signed.data);
        self.take(signed.hash, Some(signed), ran, gas);
    }

    fn take(&mut self, hash: B256, signed: Option<Pooled>, ran: Result<Vec<Said>, &str>, gas_used: u64) {
        let (success, said) = (ran.is_ok(), ran.unwrap_or_default());
        let first = self.mined.iter().map(|mined| mined.logs.len() as u64).sum::<u64>();
        let logs = placed(said, &self.at, hash, first);
        if !logs.is_empty() {
            self.bloom.accrue(BloomInput::Raw(VENUE.as_slice()));
        }
        let price = self.base_fee;
        self.mined.push(Mined { hash, signed, success, gas_used, price, logs });
    }
}

/// Logs in their place.
pub(super) fn placed(said: Vec<Said>, at: &BlockRef, tx_hash: B256, first: u64) -> Vec<Log> {
    let place = |((tag, data), log_index): (Said, u64)| Log {
        address: VENUE,
        topics: vec![tag],
        data,
        block_number: at.number,
        block_hash: at.hash,
        tx_hash,
        log_index,
    };
    said.into_iter().zip(first..).map(place).collect()
}
