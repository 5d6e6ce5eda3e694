//! Three markets, the means to write their logs, and a node that answers what is read.

use std::collections::BTreeMap;

use alloy::{
    primitives::{Bytes, IntoLogData, keccak256},
    sol_types::{SolCall, SolEvent, SolValue},
};

use super::super::{
    Markets, MorphoBlue, Settings,
    abi::{IIrm, IMorpho, IOracle, MarketParams},
    state,
};
use crate::{
    positions::{Book, Delta, Snapshot},
    protocols::{Adapter, ApplyError},
    scanner::{ScanReport, ScanSettings, Standing, Valuation, scan},
    types::{Address, B256, BlockRef, Call, CallOutcome, I256, Log, U256, UnitKey},
};

pub(super) const MORPHO: Address = Address::repeat_byte(0xbb);
/// The adaptive curve; markets 0 and 3.
pub(super) const CURVE_IRM: Address = Address::repeat_byte(0x87);
/// Another model; market 2.
pub(super) const OTHER_IRM: Address = Address::repeat_byte(0x88);
pub(super) const LOAN: Address = Address::repeat_byte(0xa0);
pub(super) const COLLATERAL: Address = Address::repeat_byte(0xc0);
/// Of markets 0 and 1.
pub(super) const ORACLE: Address = Address::repeat_byte(0x0a);
/// Of market 2.
pub(super) const ORACLE_2: Address = Address::repeat_byte(0x0b);
/// Time of the first block, Unix seconds.
pub(super) const GENESIS: u64 = 1_700_000_000;
/// 4 % a year: where the curve begins.
pub(super) const INITIAL_AT_TARGET: u64 = 1_268_391_679;

/// 10³⁶: an oracle's price of one.
pub(super) fn one() -> U256 {
    uint(10).pow(uint(36))
}

pub(super) fn uint(x: u128) -> U256 {
    U256::from(x)
}

pub(super) fn int(x: i128) -> I256 {
    I256::try_from(x).unwrap()
}

pub(super) fn owner(n: u8) -> Address {
    Address::repeat_byte(n)
}

/// What the market of this number is: 0 the curve's, 1 without interest, 2 another model's, 3 the curve's at 98 %.
pub(super) fn params(number: usize) -> MarketParams {
    let (oracle, irm, lltv) = [
        (ORACLE, CURVE_IRM, 860_000_000_000_000_000_u64),
        (ORACLE, Address::ZERO, 800_000_000_000_000_000),
        (ORACLE_2, OTHER_IRM, 625_000_000_000_000_000),
        (ORACLE_2, CURVE_IRM, 980_000_000_000_000_000),
    ][number];
    MarketParams { loanToken: LOAN, collateralToken: COLLATERAL, oracle, irm, lltv: U256::from(lltv) }
}

pub(super) fn id(number: usize) -> B256 {
    keccak256(params(number).abi_encode())
}

pub(super) fn key(number: usize, n: u8) -> UnitKey {
    state::unit_key(id(number), owner(n))
}

pub(super) fn log(event: &(impl SolEvent + IntoLogData)) -> Log {
    let data = event.to_log_data();
    Log {
        address: MORPHO,
        topics: data.topics().to_vec(),
        data: data.data,
        block_number: 1,
        block_hash: B256::ZERO,
        tx_hash: B256::repeat_byte(0x77),
        log_index: 0,
    }
}

pub(super) fn created(number: usize) -> Log {
    log(&IMorpho::CreateMarket { id: id(number), marketParams: params(number) })
}

pub(super) fn supply(market: usize, n: u8, assets: u128, shares: u128) -> Log {
    let (caller, assets, shares) = (owner(n), uint(assets), uint(shares));
    log(&IMorpho::Supply { id: id(market), caller, onBehalf: caller, assets, shares })
}

pub(super) fn withdraw(market: usize, n: u8, assets: u128, shares: u128) -> Log {
    let (caller, assets, shares) = (owner(n), uint(assets), uint(shares));
    log(&IMorpho::Withdraw { id: id(market), caller, onBehalf: caller, receiver: caller, assets, shares })
}

pub(super) fn borrow(market: usize, n: u8, assets: u128, shares: u128) -> Log {
    let (caller, assets, shares) = (owner(n), uint(assets), uint(shares));
    log(&IMorpho::Borrow { id: id(market), caller, onBehalf: caller, receiver: caller, assets, shares })
}

pub(super) fn repay(market: usize, n: u8, assets: u128, shares: u128) -> Log {
    let (caller, assets, shares) = (owner(n), uint(assets), uint(shares));
    log(&IMorpho::Repay { id: id(market), caller, onBehalf: caller, assets, shares })
}

pub(super) fn secure(market: usize, n: u8, assets: u128) -> Log {
    let (caller, assets) = (owner(n), uint(assets));
    log(&IMorpho::SupplyCollateral { id: id(market), caller, onBehalf: caller, assets })
}

pub(super) fn release(market: usize, n: u8, assets: u128) -> Log {
    let (caller, assets) = (owner(n), uint(assets));
    log(&IMorpho::WithdrawCollateral { id: id(market), caller, onBehalf: caller, receiver: caller, assets })
}

pub(super) fn accrued(market: usize, interest: u128, fee_shares: u128) -> Log {
    let (interest, fee_shares) = (uint(interest), uint(fee_shares));
    log(&IMorpho::AccrueInterest { id: id(market), prevBorrowRate: U256::ZERO, interest, feeShares: fee_shares })
}

/// repaid assets, repaid shares, seized assets, bad debt in assets and shares.
pub(super) fn liquidated(market: usize, n: u8, amounts: [u128; 5]) -> Log {
    let [repaid, shares, seized, bad_assets, bad_shares] = amounts.map(uint);
    log(&IMorpho::Liquidate {
        id: id(market),
        caller: owner(0xee),
        borrower: owner(n),
        repaidAssets: repaid,
        repaidShares: shares,
        seizedAssets: seized,
        badDebtAssets: bad_assets,
        badDebtShares: bad_shares,
    })
}

pub(super) fn settings() -> Settings {
    Settings {
        morpho: MORPHO,
        morpho_code_hash: None,
        adaptive_curve_irm: Some(CURVE_IRM),
        adaptive_curve_irm_code_hash: None,
        markets: Markets::All,
    }
}

/// The cache at a head, and what the node says when asked.
pub(super) struct Chain {
    pub(super) adapter: MorphoBlue,
    pub(super) snapshot: Snapshot,
    /// Prices; an oracle that is not here reverts.
    pub(super) prices: BTreeMap<Address, U256>,
    pub(super) at_target: U256,
    pub(super) other_rate: U256,
}

impl Chain {
    pub(super) fn new(settings: Settings) -> Self {
        let block = BlockRef { number: 0, hash: B256::ZERO, parent_hash: B256::ZERO, timestamp: GENESIS };
        Self {
            adapter: MorphoBlue::new(settings),
            snapshot: Snapshot { block, book: Book::default() },
            prices: [(ORACLE, one()), (ORACLE_2, one())].into(),
            at_target: U256::from(INITIAL_AT_TARGET),
            other_rate: U256::from(3_000_000_000_u64),
        }
    }

    /// The first three markets, with lenders.
    pub(super) fn opened() -> Self {
        let mut chain = Self::new(settings());
        for number in 0..3 {
            chain.block(&[created(number), supply(number, 1, 1_000_000_000, 1_000_000_000_000_000)]);
        }
        chain
    }

    /// A block of these logs, in the same second.
    pub(super) fn block(&mut self, logs: &[Log]) -> Delta {
        self.block_after(0, logs)
    }

    /// A block of these logs, so many seconds later.
    pub(super) fn block_after(&mut self, seconds: u64, logs: &[Log]) -> Delta {
        self.try_block_after(seconds, logs).unwrap()
    }

    pub(super) fn try_block_after(&mut self, seconds: u64, logs: &[Log]) -> Result<Delta, ApplyError> {
        let mut block = self.snapshot.block;
        block.number += 1;
        block.timestamp += seconds;
        let mut book = self.snapshot.book.clone();
        let applied = self.adapter.apply(&book, &block, logs)?.delta;
        book.apply(&applied).unwrap();
        let reads = self.adapter.reads(&book, &block, 0);
        assert_eq!(self.adapter.reads(&book, &block, 1), []);
        let answers: Vec<_> = reads.into_iter().map(|read| (read.clone(), self.answer(&read.call))).collect();
        let absorbed = self.adapter.absorb(&book, &block, &answers)?;
        book.apply(&absorbed).unwrap();
        self.snapshot = Snapshot { block, book };
        Ok(Delta { changes: applied.changes.into_iter().chain(absorbed.changes).collect() })
    }

    /// What these logs do to the head's book, without anything being read.
    pub(super) fn adapter_apply(&self, logs: &[Log]) -> Delta {
        self.adapter.apply(&self.snapshot.book, &self.snapshot.block, logs).unwrap().delta
    }

    fn answer(&self, call: &Call) -> CallOutcome {
        let selector: [u8; 4] = call.data[..4].try_into().unwrap();
        let word = match selector {
            IOracle::priceCall::SELECTOR => self.prices.get(&call.to).copied(),
            IIrm::rateAtTargetCall::SELECTOR => Some(self.at_target),
            IIrm::borrowRateViewCall::SELECTOR => Some(self.other_rate),
            other => panic!("asked for {other:?}"),
        };
        word.map_or(CallOutcome::Reverted(Bytes::new()), |word| CallOutcome::Returned(word.abi_encode().into()))
    }

    pub(super) fn standing(&self, key: &UnitKey) -> Standing {
        let unit = self.snapshot.book.unit(key).unwrap();
        self.adapter.standing(&self.snapshot, key, unit).unwrap()
    }

    pub(super) fn scan(&self) -> ScanReport {
        scan(&self.adapter, &self.snapshot, &ScanSettings { at_risk_health_factor_bps: 11_000 })
    }
}
