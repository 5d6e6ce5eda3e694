//! Two pools on a chain that exists only here: the means to write its logs and to answer its reads.

use std::collections::BTreeMap;

use alloy::{
    primitives::IntoLogData,
    sol_types::{SolCall, SolEvent, SolValue},
};
use serde_json::json;

use super::super::{
    Venus,
    abi::{IComptroller, IOracle, IRateModel, IRiskFund, IShortfall, IVToken},
    rates::ONE,
    state,
};
use crate::{
    positions::{Delta, Snapshot},
    protocols::{Adapter, ApplyError, Read},
    recovery::SegmentCase,
    scanner::{ScanReport, ScanSettings, scan},
    types::{Address, B256, BlockRef, Bytes, CallOutcome, Log, SegmentId, U256, UnitKey},
};

/// Pool 0, with markets 0 and 1.
pub(super) const POOL: Address = Address::repeat_byte(0xc0);
/// Pool 1, with market 2.
pub(super) const OTHER_POOL: Address = Address::repeat_byte(0xc1);
pub(super) const HOUSE: Address = Address::repeat_byte(0x5f);
pub(super) const ORACLE: Address = Address::repeat_byte(0x0a);
pub(super) const MODEL: Address = Address::repeat_byte(0x3d);
pub(super) const RISK_FUND: Address = Address::repeat_byte(0xf0);
/// vTokens of markets 0, 1 and 2.
pub(super) const VTOKENS: [Address; 3] =
    [Address::repeat_byte(0xa0), Address::repeat_byte(0xa1), Address::repeat_byte(0xa2)];

pub(super) fn venus() -> Venus {
    let settings = json!({ "comptrollers": [POOL, OTHER_POOL], "shortfall": HOUSE });
    Venus::new(settings.try_into().unwrap())
}

/// The token that a vToken lends.
pub(super) fn token(vtoken: Address) -> Address {
    Address::repeat_byte(vtoken[0] ^ 0x70)
}

pub(super) fn owner(n: u8) -> Address {
    Address::with_last_byte(n + 1)
}

pub(super) fn key(n: u8) -> UnitKey {
    state::unit_key(POOL, owner(n))
}

pub(super) fn uint(x: u64) -> U256 {
    U256::from(x)
}

/// So many hundredths, scaled by 1e18.
pub(super) fn percent(x: u64) -> U256 {
    ONE / uint(100) * uint(x)
}

pub(super) fn log(address: Address, event: &(impl SolEvent + IntoLogData)) -> Log {
    let data = event.to_log_data();
    Log {
        address,
        topics: data.topics().to_vec(),
        data: data.data,
        block_number: 1,
        block_hash: B256::ZERO,
        tx_hash: B256::repeat_byte(0x77),
        log_index: 0,
    }
}

/// Both pools: close factor 50 %, incentive 110 %, least collateral 100 dollars; thresholds of 80 %.
pub(super) fn opening() -> Vec<Log> {
    let mut logs = Vec::new();
    for pool in [POOL, OTHER_POOL] {
        logs.extend([
            log(pool, &IComptroller::NewPriceOracle { oldPriceOracle: Address::ZERO, newPriceOracle: ORACLE }),
            log(
                pool,
                &IComptroller::NewCloseFactor {
                    oldCloseFactorMantissa: U256::ZERO,
                    newCloseFactorMantissa: percent(50),
                },
            ),
            log(
                pool,
                &IComptroller::NewLiquidationIncentive {
                    oldLiquidationIncentiveMantissa: U256::ZERO,
                    newLiquidationIncentiveMantissa: percent(110),
                },
            ),
            log(
                pool,
                &IComptroller::NewMinLiquidatableCollateral {
                    oldMinLiquidatableCollateral: U256::ZERO,
                    newMinLiquidatableCollateral: percent(100) * uint(100),
                },
            ),
            log(pool, &IComptroller::MaxLoopsLimitUpdated { oldMaxLoopsLimit: U256::ZERO, newmaxLoopsLimit: uint(9) }),
        ]);
    }
    for (vtoken, pool) in VTOKENS.into_iter().zip([POOL, POOL, OTHER_POOL]) {
        logs.push(log(pool, &IComptroller::MarketSupported { vToken: vtoken }));
        logs.push(log(
            pool,
            &IComptroller::NewLiquidationThreshold {
                vToken: vtoken,
                oldLiquidationThresholdMantissa: U256::ZERO,
                newLiquidationThresholdMantissa: percent(80),
            },
        ));
    }
    logs
}

/// A cache that follows hand-written blocks, and what the chain answers.
pub(super) struct Chain {
    pub(super) venus: Venus,
    pub(super) snapshot: Snapshot,
    /// Prices by vToken, × 1e18.
    pub(super) prices: BTreeMap<Address, U256>,
    /// Reserves of each pool in the risk fund, dollars × 1e18.
    pub(super) fund: U256,
    /// Price of the fund's token, × 1e18.
    pub(super) fund_price: U256,
}

impl Chain {
    /// The pools as announced in block 1, every token at a dollar.
    pub(super) fn opened() -> Self {
        let block = BlockRef { number: 0, hash: B256::ZERO, parent_hash: B256::ZERO, timestamp: 1_000_000 };
        let snapshot = Snapshot { block, book: Default::default() };
        let prices = VTOKENS.map(|vtoken| (vtoken, ONE)).into();
        let mut chain = Self { venus: venus(), snapshot, prices, fund: U256::ZERO, fund_price: ONE };
        chain.block(&opening());
        chain
    }

    /// Applies the next block's logs and then its reads.
    pub(super) fn block(&mut self, logs: &[Log]) -> Vec<Delta> {
        self.try_block(logs).expect("a block that applies")
    }

    pub(super) fn try_block(&mut self, logs: &[Log]) -> Result<Vec<Delta>, ApplyError> {
        let BlockRef { number, timestamp, .. } = self.snapshot.block;
        let block = BlockRef { number: number + 1, timestamp: timestamp + 12, ..self.snapshot.block };
        let mut deltas = vec![self.venus.apply(&self.snapshot.book, &block, logs)?.delta];
        let mut book = self.snapshot.book.clone();
        book.apply(&deltas[0]).expect("a delta of this book");
        for round in 0.. {
            let reads = self.venus.reads(&book, &block, round);
            if reads.is_empty() {
                break;
            }
            let answers: Vec<_> = reads.into_iter().map(|read| (read.clone(), self.answer(&read))).collect();
            let delta = self.venus.absorb(&book, &block, &answers)?;
            book.apply(&delta).expect("a delta of this book");
            deltas.push(delta);
        }
        self.snapshot = Snapshot { block, book };
        Ok(deltas)
    }

    fn answer(&self, read: &Read) -> CallOutcome {
        let (to, data) = (read.call.to, &read.call.data);
        let selector = *data.first_chunk::<4>().unwrap();
        let answer = if to == ORACLE {
            self.price(data)
        } else if VTOKENS.contains(&to) {
            Some(of_vtoken(to, selector))
        } else if to == MODEL {
            of_model(selector)
        } else if to == HOUSE {
            Some(of_house(selector))
        } else if selector == IRiskFund::convertibleBaseAssetCall::SELECTOR {
            Some(token(VTOKENS[0]).into_word().into())
        } else {
            Some(self.fund)
        };
        answer.map_or(CallOutcome::Reverted(Bytes::new()), |word| CallOutcome::Returned(word.abi_encode().into()))
    }

    fn price(&self, data: &[u8]) -> Option<U256> {
        match IOracle::getUnderlyingPriceCall::abi_decode(data) {
            Ok(call) => self.prices.get(&call.vToken).copied(),
            Err(_) => Some(self.fund_price),
        }
    }

    pub(super) fn report(&self) -> ScanReport {
        scan(&self.venus, &self.snapshot, &ScanSettings { at_risk_health_factor_bps: 11_000 })
    }

    /// The case of pool 0.
    pub(super) fn case(&self) -> SegmentCase {
        self.venus.cases(&self.snapshot, &self.report(), true).remove(&SegmentId(0)).unwrap()
    }
}

/// A market that starts with an index of one and nothing in it; 10 % of interest and 5 % of a seizure are the protocol's.
fn of_vtoken(vtoken: Address, selector: [u8; 4]) -> U256 {
    match selector {
        IVToken::underlyingCall::SELECTOR => token(vtoken).into_word().into(),
        IVToken::interestRateModelCall::SELECTOR => MODEL.into_word().into(),
        IVToken::reserveFactorMantissaCall::SELECTOR => percent(10),
        IVToken::protocolSeizeShareMantissaCall::SELECTOR => percent(5),
        IVToken::reduceReservesBlockDeltaCall::SELECTOR => U256::MAX,
        IVToken::accrualBlockNumberCall::SELECTOR => U256::ONE,
        IVToken::borrowIndexCall::SELECTOR => ONE,
        _ => U256::ZERO,
    }
}

/// A line with one kink: 1e-6 a block at full use.
fn of_model(selector: [u8; 4]) -> Option<U256> {
    match selector {
        IRateModel::baseRatePerBlockCall::SELECTOR => Some(U256::ZERO),
        IRateModel::multiplierPerBlockCall::SELECTOR => Some(ONE / uint(1_000_000)),
        IRateModel::jumpMultiplierPerBlockCall::SELECTOR => Some(ONE / uint(1_000_000)),
        IRateModel::kinkCall::SELECTOR => Some(percent(80)),
        _ => None,
    }
}

/// Bad debt of 50 dollars is enough; 8 blocks for a next bid, 40 for a first.
fn of_house(selector: [u8; 4]) -> U256 {
    match selector {
        IShortfall::riskFundCall::SELECTOR => RISK_FUND.into_word().into(),
        IShortfall::minimumPoolBadDebtCall::SELECTOR => ONE * uint(50),
        IShortfall::incentiveBpsCall::SELECTOR => uint(1_000),
        IShortfall::nextBidderBlockLimitCall::SELECTOR => uint(8),
        IShortfall::waitForFirstBidderCall::SELECTOR => uint(40),
        _ => U256::ZERO,
    }
}

pub(super) fn entered(vtoken: Address, account: Address) -> Log {
    log(POOL, &IComptroller::MarketEntered { vToken: vtoken, account })
}

/// Mints one vToken a token unit; `balance` is the account's afterwards.
pub(super) fn minted(vtoken: Address, minter: Address, amount: U256, balance: U256) -> [Log; 2] {
    let mint = IVToken::Mint { minter, mintAmount: amount, mintTokens: amount, accountBalance: balance };
    [log(vtoken, &mint), transferred(vtoken, Address::ZERO, minter, amount)]
}

pub(super) fn transferred(vtoken: Address, from: Address, to: Address, amount: U256) -> Log {
    log(vtoken, &IVToken::Transfer { from, to, amount })
}

pub(super) fn borrowed(vtoken: Address, borrower: Address, amount: U256, owed: U256, total: U256) -> Log {
    let event = IVToken::Borrow { borrower, borrowAmount: amount, accountBorrows: owed, totalBorrows: total };
    log(vtoken, &event)
}

pub(super) fn repaid(vtoken: Address, payer: Address, borrower: Address, amount: U256, owed: U256, total: U256) -> Log {
    let event =
        IVToken::RepayBorrow { payer, borrower, repayAmount: amount, accountBorrows: owed, totalBorrows: total };
    log(vtoken, &event)
}
