//! The deployed contracts, and what people do with them.

use alloy::{
    primitives::{Address, B256, I256, U256, aliases::I24},
    sol_types::SolCall,
};
use anyhow::{Context, Result};
use backstop::types::{BlockRef, Call, CallOutcome, UnitKey};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::harness::chain::Chain,
    abi::{AddLiquidity, Aggregator, Balances, ClosePosition, Fund, House, OpenPosition, Token, Vault},
};

/// What the deploy script prints.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Venue {
    pub(super) owner: Address,
    pub(super) settlement_token: Address,
    pub(super) clearing_house: Address,
    pub(super) account_balance: Address,
    pub(super) exchange: Address,
    pub(super) order_book: Address,
    pub(super) vault: Address,
    pub(super) insurance_fund: Address,
    pub(super) market_registry: Address,
    pub(super) clearing_house_config: Address,
    pub(super) collateral: Collateral,
    pub(super) markets: Vec<Market>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Collateral {
    pub(super) token: Address,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Market {
    pub(super) base: Address,
    pub(super) aggregator: Address,
    /// Index price in whole dollars.
    pub(super) price: u64,
}

/// Dollars of the settlement token.
pub(super) fn usdc(dollars: u64) -> U256 {
    U256::from(dollars) * U256::from(1_000_000)
}

/// The same in 10⁻¹⁸.
pub(super) fn wad(dollars: u64) -> U256 {
    U256::from(dollars) * U256::from(10).pow(U256::from(18))
}

/// The tick of a price, to the pools' spacing of 200.
pub(super) fn tick_of(price: u64) -> i32 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "small numbers")]
    let tick = ((price as f64).ln() / 1.0001_f64.ln()) as i32;
    tick / 200 * 200
}

pub(super) fn key(trader: Address) -> UnitKey {
    UnitKey::new(trader.to_vec()).expect("20 bytes")
}

impl Venue {
    pub(super) fn protocol(&self, keeper: Address) -> Value {
        json!({
            "adapter": "perp_v2",
            "clearing_house": self.clearing_house,
            "account_balance": self.account_balance,
            "exchange": self.exchange,
            "order_book": self.order_book,
            "vault": self.vault,
            "insurance_fund": self.insurance_fund,
            "market_registry": self.market_registry,
            "clearing_house_config": self.clearing_house_config,
            "settlement_token": self.settlement_token,
            "liquidator": keeper,
        })
    }

    /// Gives an account dollars and lets the vault take them.
    pub(super) async fn equip(&self, chain: &Chain, account: Address, dollars: u64) -> Result<()> {
        chain.fund(account).await?;
        for token in [self.settlement_token, self.collateral.token] {
            let mint = Token::mintCall { to: account, amount: usdc(dollars) };
            chain.send(account, token, mint.abi_encode()).await?;
            let approve = Token::approveCall { spender: self.vault, amount: U256::MAX };
            chain.send(account, token, approve.abi_encode()).await?;
        }
        Ok(())
    }

    pub(super) async fn deposit(&self, chain: &Chain, account: Address, dollars: u64) -> Result<B256> {
        let deposit = Vault::depositCall { token: self.settlement_token, amount: usdc(dollars) };
        chain.send(account, self.vault, deposit.abi_encode()).await
    }

    /// A range of liquidity of up to so many dollars on either side.
    pub(super) async fn add(
        &self,
        chain: &Chain,
        from: Address,
        market: usize,
        dollars: u64,
        (lower, upper): (i32, i32),
    ) -> Result<B256> {
        let params = AddLiquidity {
            baseToken: self.markets[market].base,
            base: wad(dollars) / U256::from(self.markets[market].price),
            quote: wad(dollars),
            lowerTick: I24::try_from(lower)?,
            upperTick: I24::try_from(upper)?,
            minBase: U256::ZERO,
            minQuote: U256::ZERO,
            useTakerBalance: false,
            deadline: U256::MAX,
        };
        chain.send(from, self.clearing_house, House::addLiquidityCall { params }.abi_encode()).await
    }

    /// Buys for so many dollars, or sells base worth them.
    pub(super) async fn open(
        &self,
        chain: &Chain,
        from: Address,
        market: usize,
        sell: bool,
        dollars: u64,
    ) -> Result<B256> {
        let amount = if sell { wad(dollars) / U256::from(self.markets[market].price) } else { wad(dollars) };
        let params = OpenPosition {
            baseToken: self.markets[market].base,
            isBaseToQuote: sell,
            isExactInput: true,
            amount,
            oppositeAmountBound: U256::ZERO,
            deadline: U256::MAX,
            sqrtPriceLimitX96: Default::default(),
            referralCode: B256::ZERO,
        };
        chain.send(from, self.clearing_house, House::openPositionCall { params }.abi_encode()).await
    }

    pub(super) async fn close(&self, chain: &Chain, from: Address, market: usize) -> Result<B256> {
        let params = ClosePosition {
            baseToken: self.markets[market].base,
            sqrtPriceLimitX96: Default::default(),
            oppositeAmountBound: U256::ZERO,
            deadline: U256::MAX,
            referralCode: B256::ZERO,
        };
        chain.send(from, self.clearing_house, House::closePositionCall { params }.abi_encode()).await
    }

    /// Moves a market's index price.
    pub(super) async fn set_price(&mut self, chain: &Chain, market: usize, price: u64) -> Result<()> {
        self.markets[market].price = price;
        let set = Aggregator::setCall { answer: I256::try_from(u128::from(price) * 100_000_000)? };
        chain.send(self.owner, self.markets[market].aggregator, set.abi_encode()).await?;
        Ok(())
    }

    /// (account value, margin requirement) of each, by the protocol's own views.
    pub(super) async fn standings(
        &self,
        chain: &Chain,
        traders: &[Address],
        at: &BlockRef,
    ) -> Result<Vec<(I256, I256)>> {
        let calls: Vec<Call> = traders
            .iter()
            .flat_map(|&trader| {
                let requirement = Balances::getMarginRequirementForLiquidationCall { trader };
                [
                    Call::new(self.clearing_house, House::getAccountValueCall { trader }.abi_encode()),
                    Call::new(self.account_balance, requirement.abi_encode()),
                ]
            })
            .collect();
        let answers = chain.calls(None, &calls, at.hash).await?;
        answers.chunks(2).map(|pair| Ok((signed(&pair[0])?, signed(&pair[1])?))).collect()
    }

    /// The insurance fund's account in the vault, and all that it can pay.
    pub(super) async fn fund(&self, chain: &Chain, at: &BlockRef) -> Result<(I256, I256)> {
        let value = Vault::getSettlementTokenValueCall { trader: self.insurance_fund };
        let calls = [
            Call::new(self.vault, value.abi_encode()),
            Call::new(self.insurance_fund, Fund::getInsuranceFundCapacityCall {}.abi_encode()),
        ];
        let answers = chain.calls(None, &calls, at.hash).await?;
        Ok((signed(&answers[0])?, signed(&answers[1])?))
    }
}

fn signed(answer: &CallOutcome) -> Result<I256> {
    match answer {
        CallOutcome::Returned(word) => Ok(I256::try_from_be_slice(word).context("not one word")?),
        CallOutcome::Reverted(data) => anyhow::bail!("a view reverts with {data}"),
    }
}
