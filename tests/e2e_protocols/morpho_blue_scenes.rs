//! Morpho Blue, one market, fifty borrowers: the burst, and a guard that fails.
//!
//! Whether somebody is liquidatable is asked of the action itself: a liquidation of one share, called from an account with
//! loan tokens, is refused while the position is healthy.

use std::collections::BTreeSet;

use alloy::{
    primitives::{Address, B256, Bytes, U256, keccak256},
    sol,
    sol_types::{SolCall, SolValue},
};
use anyhow::{Context, Result};
use backstop::types::{BlockRef, Call, CallOutcome, UnitKey};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::{
    burst,
    chain::{Chain, Mined},
    guard,
    scene::Scene,
};

sol! {
    struct MarketParams {
        address loanToken;
        address collateralToken;
        address oracle;
        address irm;
        uint256 lltv;
    }

    interface Morpho {
        function supplyCollateral(MarketParams memory marketParams, uint256 assets, address onBehalf, bytes memory data) external;
        function borrow(MarketParams memory marketParams, uint256 assets, uint256 shares, address onBehalf, address receiver) external;
        function liquidate(MarketParams memory marketParams, address borrower, uint256 seizedAssets, uint256 repaidShares, bytes memory data) external;
    }

    interface Token {
        function setBalance(address account, uint256 amount) external;
        function approve(address spender, uint256 amount) external;
    }

    interface Oracle {
        function setPrice(uint256 newPrice) external;
    }
}

const BORROWERS: usize = 50;
const WAD: U256 = U256::from_limbs([1_000_000_000_000_000_000, 0, 0, 0]);
/// Each borrower's collateral, worth 20,000 at first and 19,400 after the fall; 80 % of it may be borrowed.
const COLLATERAL: u64 = 10;
/// What a borrower owes who falls, and one who does not.
const BORROWED: [u64; 2] = [15_900, 12_000];
/// The price after the fall.
const FALLEN: u64 = 1_940;

#[derive(Clone, Debug, Deserialize)]
struct Places {
    owner: Address,
    morpho: Address,
    loan: Address,
    collateral: Address,
    oracle: Address,
    irm: Address,
    lltv: U256,
}

struct Market {
    places: Places,
    code_hash: B256,
    keeper: Address,
    borrowers: Vec<Address>,
}

impl Market {
    fn params(&self) -> MarketParams {
        let Places { loan, collateral, oracle, irm, lltv, .. } = self.places;
        MarketParams { loanToken: loan, collateralToken: collateral, oracle, irm, lltv }
    }

    fn key(&self, borrower: Address) -> UnitKey {
        let id = keccak256(self.params().abi_encode());
        UnitKey::new([id.as_slice(), borrower.as_slice()].concat()).expect("a key")
    }

    async fn borrow(&self, chain: &Chain, borrower: Address, amount: u64) -> Result<()> {
        let Places { morpho, collateral, .. } = self.places;
        let assets = U256::from(COLLATERAL) * WAD;
        chain.fund(borrower).await?;
        let give = Token::setBalanceCall { account: borrower, amount: assets };
        chain.send(borrower, collateral, give.abi_encode()).await?;
        let approve = Token::approveCall { spender: morpho, amount: U256::MAX };
        chain.send(borrower, collateral, approve.abi_encode()).await?;
        let supply = Morpho::supplyCollateralCall {
            marketParams: self.params(),
            assets,
            onBehalf: borrower,
            data: Bytes::new(),
        };
        chain.send(borrower, morpho, supply.abi_encode()).await?;
        let borrow = Morpho::borrowCall {
            marketParams: self.params(),
            assets: U256::from(amount) * WAD,
            shares: U256::ZERO,
            onBehalf: borrower,
            receiver: borrower,
        };
        chain.send_now(borrower, morpho, borrow.abi_encode()).await
    }
}

impl Scene for Market {
    const NAME: &'static str = "morpho_blue";
    const SCRIPT: &'static str = "morpho_blue_burst";

    async fn deploy(chain: &Chain, deployed: Value, keeper: Address, due: usize) -> Result<Self> {
        let places: Places = serde_json::from_value(deployed).context("what the deploy script printed")?;
        let code: Bytes = chain.anvil.request("eth_getCode", json!([places.morpho, "latest"])).await?;
        let borrowers =
            (0..BORROWERS).map(|i| Address::from_slice(&keccak256(format!("borrower {i}"))[12..])).collect();
        let market = Self { places, code_hash: keccak256(code), keeper, borrowers };
        for (i, borrower) in market.borrowers.iter().enumerate() {
            market.borrow(chain, *borrower, BORROWED[usize::from(i >= due)]).await?;
        }
        Ok(market)
    }

    fn protocol(&self) -> Value {
        json!({
            "adapter": Self::NAME,
            "morpho": self.places.morpho,
            "morpho_code_hash": self.code_hash,
            "markets": "all",
        })
    }

    async fn strike(&self, chain: &Chain) -> Result<B256> {
        let fall = Oracle::setPriceCall { newPrice: U256::from(FALLEN) * U256::from(10).pow(U256::from(36)) };
        chain.send(self.places.owner, self.places.oracle, fall.abi_encode()).await
    }

    async fn liquidatable(&self, chain: &Chain, at: &BlockRef) -> Result<BTreeSet<UnitKey>> {
        let one_share = |borrower: Address| Morpho::liquidateCall {
            marketParams: self.params(),
            borrower,
            seizedAssets: U256::ZERO,
            repaidShares: U256::ONE,
            data: Bytes::new(),
        };
        let calls: Vec<Call> =
            self.borrowers.iter().map(|b| Call::new(self.places.morpho, one_share(*b).abi_encode())).collect();
        let outcomes = chain.calls(Some(self.keeper), &calls, at.hash).await?;
        let accepted = |outcome: &CallOutcome| matches!(outcome, CallOutcome::Returned(_));
        Ok(self.borrowers.iter().zip(&outcomes).filter(|(_, o)| accepted(o)).map(|(b, _)| self.key(*b)).collect())
    }

    fn targets(&self, transaction: &Mined) -> Vec<UnitKey> {
        let call = Morpho::liquidateCall::abi_decode(&transaction.input);
        call.into_iter().map(|call| self.key(call.borrower)).collect()
    }

    fn guarded(&self) -> Address {
        self.places.morpho
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures by the clock, so it wants the machine for itself: make e2e PROTOCOL=morpho_blue"]
async fn fifty_borrowers_who_fall_at_once_are_liquidated_within_two_blocks() {
    burst::play::<Market>(&[1, 10, 50]).await;
}

#[tokio::test]
async fn a_guard_that_fails_halts_only_its_own_deployment() {
    guard::play::<Market>().await;
}
