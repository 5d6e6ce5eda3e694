//! Morpho Blue: five markets, two of them created while the daemon runs, three kinds of interest, sixty borrowers, a crash
//! that ends beyond what collateral covers.
//!
//! Whether somebody is liquidatable is asked of the action itself: a liquidation of one share, called from the keeper, is
//! refused while the position is healthy. What the contracts have a view of is held against the cache by the adapter's
//! probes; the figures behind the yes and no are compared to the last unit in `tests/contracts_morpho_blue`.

#![expect(clippy::too_many_arguments, reason = "the binding of an event of eight arguments")]

use std::collections::{BTreeMap, BTreeSet};

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol,
    sol_types::{SolCall, SolEvent, SolValue},
};
use anyhow::{Context, Result};
use backstop::{
    positions::Snapshot,
    protocols::Adapter,
    types::{BlockRef, Call, CallOutcome, UnitKey},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{
    Accounting, Dice, Playground,
    chain::{Chain, Mined},
    play, probe_all,
};

sol! {
    #[derive(Debug)]
    struct MarketParams {
        address loanToken;
        address collateralToken;
        address oracle;
        address irm;
        uint256 lltv;
    }

    interface Morpho {
        event Liquidate(bytes32 indexed id, address indexed caller, address indexed borrower, uint256 repaidAssets, uint256 repaidShares, uint256 seizedAssets, uint256 badDebtAssets, uint256 badDebtShares);

        function createMarket(MarketParams memory marketParams) external;
        function setFee(MarketParams memory marketParams, uint256 newFee) external;
        function setFeeRecipient(address newFeeRecipient) external;
        function supply(MarketParams memory marketParams, uint256 assets, uint256 shares, address onBehalf, bytes memory data) external;
        function withdraw(MarketParams memory marketParams, uint256 assets, uint256 shares, address onBehalf, address receiver) external;
        function borrow(MarketParams memory marketParams, uint256 assets, uint256 shares, address onBehalf, address receiver) external;
        function repay(MarketParams memory marketParams, uint256 assets, uint256 shares, address onBehalf, bytes memory data) external;
        function supplyCollateral(MarketParams memory marketParams, uint256 assets, address onBehalf, bytes memory data) external;
        function withdrawCollateral(MarketParams memory marketParams, uint256 assets, address onBehalf, address receiver) external;
        function liquidate(MarketParams memory marketParams, address borrower, uint256 seizedAssets, uint256 repaidShares, bytes memory data) external;
        function accrueInterest(MarketParams memory marketParams) external;
        function position(bytes32 id, address user) external view returns (uint256 supplyShares, uint128 borrowShares, uint128 collateral);
        function market(bytes32 id) external view returns (uint128 totalSupplyAssets, uint128 totalSupplyShares, uint128 totalBorrowAssets, uint128 totalBorrowShares, uint128 lastUpdate, uint128 fee);
    }

    interface Token {
        function setBalance(address account, uint256 amount) external;
        function approve(address spender, uint256 amount) external;
    }

    interface Oracle {
        function setPrice(uint256 newPrice) external;
        function price() external view returns (uint256);
    }
}

const BORROWERS: usize = 60;
const LENDERS: usize = 6;
const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);
/// Whole loan tokens that each lender supplies in a market, and what a borrower's collateral is worth on average, in
/// thousandths of a dollar's markets; ether's are two thousandths of that.
const LENT: u64 = 2_000_000;
const PLEDGED: u64 = 20_000;
/// Blocks of the calm at which the other markets are created, a fee is set and its recipient named.
const CREATIONS: [u64; 2] = [60, 140];
const FEE_AT: u64 = 30;
/// Steps of the crash: market and what is left of its price, in thousandths.
const FALLS: [(usize, u64); 12] = [
    (0, 930),
    (1, 900),
    (2, 960),
    (3, 800),
    (4, 950),
    (0, 850),
    (1, 800),
    (2, 900),
    (3, 500),
    (4, 800),
    (0, 600),
    (1, 450),
];

#[derive(Clone, Debug, Deserialize)]
struct Places {
    owner: Address,
    morpho: Address,
    curve: Address,
    tokens: Vec<Address>,
    markets: Vec<Listing>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Listing {
    loan: Address,
    collateral: Address,
    oracle: Address,
    irm: Address,
    lltv: U256,
    created: bool,
    unit: U256,
}

impl Listing {
    fn params(&self) -> MarketParams {
        let Self { loan, collateral, oracle, irm, lltv, .. } = *self;
        MarketParams { loanToken: loan, collateralToken: collateral, oracle, irm, lltv }
    }

    fn id(&self) -> B256 {
        keccak256(self.params().abi_encode())
    }

    fn key(&self, account: Address) -> UnitKey {
        UnitKey::new([self.id().as_slice(), account.as_slice()].concat()).expect("a key")
    }

    /// Loan-token units of so many dollars: markets of ether count an ether as two thousand.
    fn worth(&self, dollars: u64) -> U256 {
        let whole = U256::from(dollars) * self.unit;
        if self.unit == WAD { whole / U256::from(2_000) } else { whole }
    }
}

struct MorphoBlue {
    places: Places,
    code_hash: B256,
    keeper: Address,
    borrowers: Vec<Address>,
    lenders: Vec<Address>,
    /// Blocks of the calm so far.
    lived: u64,
}

/// What one account has in one market, and what the market is at.
struct Look {
    supply_shares: U256,
    borrow_shares: U256,
    collateral: U256,
    /// Loan-token units, without the interest since the last accrual.
    debt: U256,
    max_borrow: U256,
    /// Loan-token units that can be borrowed from the market.
    liquidity: U256,
    price: U256,
}

fn account(kind: &str, number: usize) -> Address {
    Address::from_slice(&keccak256(format!("{kind} {number}"))[12..])
}

fn scale() -> U256 {
    U256::from(10).pow(U256::from(36))
}

impl MorphoBlue {
    fn open(&self) -> impl Iterator<Item = &Listing> {
        self.places.markets.iter().filter(|market| market.created)
    }

    /// Every account that may hold something in a market.
    fn everybody(&self) -> impl Iterator<Item = Address> {
        let others = [self.places.owner, self.keeper, Address::ZERO];
        self.borrowers.iter().chain(&self.lenders).copied().chain(others)
    }

    fn pairs(&self) -> Vec<(Listing, Address)> {
        self.open().flat_map(|market| self.everybody().map(|account| (*market, account))).collect()
    }

    async fn view<C: SolCall>(&self, chain: &Chain, to: Address, call: C, at: &BlockRef) -> Result<C::Return> {
        Ok(C::abi_decode_returns(&chain.view(to, call.abi_encode(), at.hash).await?)?)
    }

    async fn look(&self, chain: &Chain, market: &Listing, account: Address) -> Result<Look> {
        let (at, morpho, id) = (chain.head().await?, self.places.morpho, market.id());
        let position = self.view(chain, morpho, Morpho::positionCall { id, user: account }, &at).await?;
        let totals = self.view(chain, morpho, Morpho::marketCall { id }, &at).await?;
        let price = self.view(chain, market.oracle, Oracle::priceCall {}, &at).await?;
        let (borrow_shares, collateral) = (U256::from(position.borrowShares), U256::from(position.collateral));
        let assets = U256::from(totals.totalBorrowAssets) + U256::ONE;
        let debt = borrow_shares * assets / (U256::from(totals.totalBorrowShares) + U256::from(1_000_000));
        Ok(Look {
            supply_shares: position.supplyShares,
            borrow_shares,
            collateral,
            debt,
            max_borrow: collateral * price / scale() * market.lltv / WAD,
            liquidity: U256::from(totals.totalSupplyAssets - totals.totalBorrowAssets),
            price,
        })
    }

    /// Creates a market, and lets everybody in.
    async fn list(&mut self, chain: &Chain, dice: &mut Dice, number: usize) -> Result<()> {
        let market = self.places.markets[number];
        let create = Morpho::createMarketCall { marketParams: market.params() };
        chain.send(self.places.owner, self.places.morpho, create.abi_encode()).await?;
        self.places.markets[number].created = true;
        self.settle_in(chain, dice, &market, 35).await
    }

    /// Lenders lend and some borrowers pledge collateral.
    async fn settle_in(&self, chain: &Chain, dice: &mut Dice, market: &Listing, percent: u64) -> Result<()> {
        let morpho = self.places.morpho;
        for lender in self.lenders.iter().copied() {
            let (assets, shares) = (market.worth(LENT / 100 * dice.between(20, 180)), U256::ZERO);
            let supply = Morpho::supplyCall {
                marketParams: market.params(),
                assets,
                shares,
                onBehalf: lender,
                data: Bytes::new(),
            };
            chain.send(lender, morpho, supply.abi_encode()).await?;
        }
        let price = self.view(chain, market.oracle, Oracle::priceCall {}, &chain.head().await?).await?;
        for borrower in self.borrowers.iter().copied().filter(|_| dice.chance(percent)).collect::<Vec<_>>() {
            self.pledge(chain, dice, market, borrower, price).await?;
        }
        Ok(())
    }

    async fn pledge(&self, chain: &Chain, dice: &mut Dice, market: &Listing, from: Address, price: U256) -> Result<()> {
        let value = market.worth(dice.between(PLEDGED / 20, 3 * PLEDGED));
        let pledge = Morpho::supplyCollateralCall {
            marketParams: market.params(),
            assets: value * scale() / price + U256::ONE,
            onBehalf: from,
            data: Bytes::new(),
        };
        chain.send(from, self.places.morpho, pledge.abi_encode()).await?;
        Ok(())
    }

    /// Borrows up to this part of what it may, thousandths.
    async fn borrow(&self, chain: &Chain, market: &Listing, from: Address, permille: u64) -> Result<()> {
        let look = self.look(chain, market, from).await?;
        let wanted = (look.max_borrow * U256::from(permille) / U256::from(1_000)).saturating_sub(look.debt);
        let assets = wanted.min(look.liquidity / U256::from(2));
        if assets.is_zero() {
            return Ok(());
        }
        let (shares, receiver) = (U256::ZERO, from);
        let borrow = Morpho::borrowCall { marketParams: market.params(), assets, shares, onBehalf: from, receiver };
        chain.send(from, self.places.morpho, borrow.abi_encode()).await?;
        Ok(())
    }

    async fn repay(&self, chain: &Chain, dice: &mut Dice, market: &Listing, from: Address) -> Result<()> {
        let look = self.look(chain, market, from).await?;
        let shares = if dice.chance(25) { look.borrow_shares } else { look.borrow_shares / U256::from(3) };
        let (assets, data) = (U256::ZERO, Bytes::new());
        if !shares.is_zero() {
            let repay = Morpho::repayCall { marketParams: market.params(), assets, shares, onBehalf: from, data };
            chain.send(from, self.places.morpho, repay.abi_encode()).await?;
        }
        Ok(())
    }

    async fn release(&self, chain: &Chain, market: &Listing, from: Address) -> Result<()> {
        let look = self.look(chain, market, from).await?;
        let spare = look.max_borrow.saturating_sub(look.debt) * WAD / market.lltv;
        let assets = (spare * scale() / look.price / U256::from(2)).min(look.collateral);
        if !assets.is_zero() {
            let (params, receiver) = (market.params(), from);
            let release = Morpho::withdrawCollateralCall { marketParams: params, assets, onBehalf: from, receiver };
            chain.send(from, self.places.morpho, release.abi_encode()).await?;
        }
        Ok(())
    }

    /// A lender takes some of what is not lent, or lends more.
    async fn lend(&self, chain: &Chain, dice: &mut Dice, market: &Listing) -> Result<()> {
        let lender = *dice.pick(&self.lenders);
        let look = self.look(chain, market, lender).await?;
        let (params, receiver) = (market.params(), lender);
        let data = if dice.chance(50) {
            let assets = market.worth(dice.between(1, LENT / 20));
            let (shares, data) = (U256::ZERO, Bytes::new());
            Morpho::supplyCall { marketParams: params, assets, shares, onBehalf: lender, data }.abi_encode()
        } else {
            let (assets, shares) = (U256::ZERO, look.supply_shares / U256::from(40));
            Morpho::withdrawCall { marketParams: params, assets, shares, onBehalf: lender, receiver }.abi_encode()
        };
        chain.send(lender, self.places.morpho, data).await?;
        Ok(())
    }

    async fn move_price(&self, chain: &Chain, market: &Listing, permille: u64) -> Result<()> {
        let price = self.view(chain, market.oracle, Oracle::priceCall {}, &chain.head().await?).await?;
        let set = Oracle::setPriceCall { newPrice: price * U256::from(permille) / U256::from(1_000) };
        chain.send(self.places.owner, market.oracle, set.abi_encode()).await?;
        Ok(())
    }

    /// What happens at certain blocks of the calm.
    async fn events_of_the_day(&mut self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        let Places { owner, morpho, .. } = self.places;
        for (number, at) in (3..).zip(CREATIONS) {
            if self.lived == at {
                self.list(chain, dice, number).await?;
            }
        }
        if self.lived == FEE_AT {
            let fee = Morpho::setFeeRecipientCall { newFeeRecipient: self.lenders[0] };
            chain.send(owner, morpho, fee.abi_encode()).await?;
            for (market, percent) in self.places.markets[..2].iter().zip([10, 25]) {
                let fee = WAD * U256::from(percent) / U256::from(100);
                let set = Morpho::setFeeCall { marketParams: market.params(), newFee: fee };
                chain.send(owner, morpho, set.abi_encode()).await?;
            }
        }
        Ok(())
    }

    /// Whether a liquidation of one share is accepted, for each pair.
    async fn accepted(&self, chain: &Chain, at: &BlockRef) -> Result<BTreeMap<UnitKey, bool>> {
        let pairs = self.pairs();
        let call = |(market, borrower): &(Listing, Address)| {
            let (params, borrower) = (market.params(), *borrower);
            let (seized, shares, data) = (U256::ZERO, U256::ONE, Bytes::new());
            let call = Morpho::liquidateCall {
                marketParams: params,
                borrower,
                seizedAssets: seized,
                repaidShares: shares,
                data,
            };
            Call::new(self.places.morpho, call.abi_encode())
        };
        let calls: Vec<Call> = pairs.iter().map(call).collect();
        let outcomes = chain.calls(Some(self.keeper), &calls, at.hash).await?;
        let accepted = |outcome: CallOutcome| matches!(outcome, CallOutcome::Returned(_));
        Ok(pairs.iter().zip(outcomes).map(|((m, a), outcome)| (m.key(*a), accepted(outcome))).collect())
    }
}

impl Playground for MorphoBlue {
    const NAME: &'static str = "morpho_blue";

    async fn deploy(chain: &Chain, deployed: Value, keeper: Address, dice: &mut Dice) -> Result<Self> {
        let places: Places = serde_json::from_value(deployed).context("what the deploy script printed")?;
        let code: Bytes = chain.anvil.request("eth_getCode", json!([places.morpho, "latest"])).await?;
        let borrowers = (0..BORROWERS).map(|i| account("borrower", i)).collect();
        let lenders = (0..LENDERS).map(|i| account("lender", i)).collect();
        let code_hash = keccak256(code);
        let playground = Self { places, code_hash, keeper, borrowers, lenders, lived: 0 };
        for account in playground.borrowers.iter().chain(&playground.lenders).copied() {
            chain.fund(account).await?;
            for token in playground.places.tokens.iter().copied() {
                let amount = U256::MAX >> 64;
                chain.send(account, token, Token::setBalanceCall { account, amount }.abi_encode()).await?;
                let approve = Token::approveCall { spender: playground.places.morpho, amount: U256::MAX };
                chain.send(account, token, approve.abi_encode()).await?;
            }
        }
        for market in playground.open().copied().collect::<Vec<_>>() {
            playground.settle_in(chain, dice, &market, 60).await?;
            for borrower in playground.borrowers.clone() {
                playground.borrow(chain, &market, borrower, dice.between(300, 990)).await?;
            }
        }
        Ok(playground)
    }

    fn protocol(&self) -> Value {
        json!({
            "adapter": Self::NAME,
            "morpho": self.places.morpho,
            "morpho_code_hash": self.code_hash,
            "adaptive_curve_irm": self.places.curve,
            "markets": "all",
        })
    }

    fn policy(&self) -> Value {
        let native: BTreeMap<Address, String> =
            self.places.markets.iter().map(|market| (market.loan, market.worth(2_000).to_string())).collect();
        json!({
            "mode": "mandate",
            "budget_per_day_max_wei": "1000000000000000000000",
            "native_value_by_asset": native,
        })
    }

    fn accounts(&self) -> usize {
        self.borrowers.len() + self.lenders.len()
    }

    async fn act(&mut self, chain: &Chain, dice: &mut Dice) -> Result<()> {
        self.lived += 1;
        self.events_of_the_day(chain, dice).await?;
        let open: Vec<Listing> = self.open().copied().collect();
        let mut acted = BTreeSet::new();
        for _ in 0..dice.between(1, 5) {
            let market = *dice.pick(&open);
            let borrower = *dice.pick(&self.borrowers);
            // what an account does is decided from the last block, so it does one thing a block
            if !acted.insert(borrower) {
                continue;
            }
            match dice.roll(10) {
                0 | 1 => {
                    let price = self.view(chain, market.oracle, Oracle::priceCall {}, &chain.head().await?).await?;
                    self.pledge(chain, dice, &market, borrower, price).await?;
                }
                2..=4 => self.borrow(chain, &market, borrower, dice.between(500, 995)).await?,
                5 | 6 => self.repay(chain, dice, &market, borrower).await?,
                7 => self.release(chain, &market, borrower).await?,
                8 => self.lend(chain, dice, &market).await?,
                _ => {
                    let accrue = Morpho::accrueInterestCall { marketParams: market.params() };
                    chain.send(borrower, self.places.morpho, accrue.abi_encode()).await?;
                }
            }
        }
        if dice.chance(20) {
            self.move_price(chain, dice.pick(&open), dice.between(990, 1_010)).await?;
        }
        Ok(())
    }

    async fn mismatches(&self, chain: &Chain, adapter: &dyn Adapter, snapshot: &Snapshot) -> Result<Vec<String>> {
        let mut faults = probe_all(chain, adapter, snapshot).await?;
        let (pairs, accepted) = (self.pairs(), self.accepted(chain, &snapshot.block).await?);
        let views: Vec<Call> = pairs
            .iter()
            .map(|(market, user)| Morpho::positionCall { id: market.id(), user: *user })
            .map(|call| Call::new(self.places.morpho, call.abi_encode()))
            .collect();
        let positions = chain.calls(None, &views, snapshot.block.hash).await?;
        for ((market, account), position) in pairs.iter().zip(positions) {
            let key = market.key(*account);
            let Some(unit) = snapshot.book.unit(&key) else {
                if position != CallOutcome::Returned(vec![0; 96].into()) {
                    faults.push(format!("{key} is on chain and not in the cache"));
                }
                continue;
            };
            let liquidatable = accepted[&key];
            match adapter.standing(snapshot, &key, unit) {
                Ok(standing) if standing.surplus.is_negative() == liquidatable => {}
                other => {
                    faults.push(format!("{key}: liquidatable is {liquidatable} on chain, the cache has {other:?}"))
                }
            }
        }
        let known: BTreeSet<UnitKey> = pairs.iter().map(|(market, account)| market.key(*account)).collect();
        let strangers = snapshot.book.units().filter(|(key, _)| !known.contains(key));
        faults.extend(strangers.map(|(key, _)| format!("{key} is in the cache and nobody plays it")));
        Ok(faults)
    }

    async fn liquidatable(&self, chain: &Chain, at: &BlockRef) -> Result<BTreeSet<UnitKey>> {
        Ok(self.accepted(chain, at).await?.into_iter().filter(|(_, accepted)| *accepted).map(|(key, _)| key).collect())
    }

    async fn crash(&mut self, chain: &Chain, step: usize) -> Result<bool> {
        let Some((market, permille)) = FALLS.get(step) else { return Ok(false) };
        self.move_price(chain, &self.places.markets[*market], *permille).await?;
        Ok(true)
    }

    fn targets(&self, transaction: &Mined) -> Vec<UnitKey> {
        let Ok(call) = Morpho::liquidateCall::abi_decode(&transaction.input) else { return Vec::new() };
        let id = keccak256(call.marketParams.abi_encode());
        vec![UnitKey::new([id.as_slice(), call.borrower.as_slice()].concat()).expect("a key")]
    }

    async fn accounting(&self, chain: &Chain, keeper: Address, mined: &[Mined]) -> Result<Accounting> {
        let logs = mined.iter().filter(|tx| tx.success && tx.from == keeper).flat_map(|tx| &tx.logs);
        let ours = logs.filter(|log| log.address == self.places.morpho);
        let events: Vec<Morpho::Liquidate> =
            ours.filter_map(|log| Morpho::Liquidate::decode_raw_log(&log.topics, &log.data).ok()).collect();
        let (mut bad_debt, mut with_bad_debt) = (U256::ZERO, 0);
        let (mut liquidated, mut dust) = (BTreeSet::new(), 0);
        for event in &events {
            let market = self.places.markets.iter().find(|market| market.id() == event.id).context("a market")?;
            // dollars, so that markets of several tokens add up
            bad_debt += event.badDebtAssets * U256::from(1_000_000) / market.worth(1);
            with_bad_debt += usize::from(!event.badDebtAssets.is_zero());
            liquidated.insert(market.key(event.borrower));
            let left = self.look(chain, market, event.borrower).await?;
            dust += usize::from(!left.borrow_shares.is_zero());
        }
        let more = [
            ("markets", self.places.markets.len()),
            ("markets_created_meanwhile", CREATIONS.len()),
            ("liquidations", events.len()),
            ("liquidations_with_bad_debt", with_bad_debt),
            ("debts_left_by_liquidations", dust),
        ];
        Ok(Accounting {
            liquidated: liquidated.len(),
            bad_debt_created: bad_debt.to_string(),
            // the lenders of a market pay in the transaction that leaves the debt
            bad_debt_covered: bad_debt.to_string(),
            more: more.into_iter().map(|(name, figure)| (name.to_owned(), figure.into())).collect(),
        })
    }
}

#[tokio::test]
async fn the_daemon_keeps_up_with_morpho_blue() {
    let Some(report) = play::<MorphoBlue>().await else { return };
    assert_ne!(report.bad_debt_created, "0", "the crash goes beyond what collateral covers");
    assert_eq!(report.more["debts_left_by_liquidations"], 0, "nothing is left of what was liquidated");
}
